// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything that userspace can read about a riscv vCPU, see vcpu_state.h
 */
#include <linux/bits.h>

#include "kvm_util.h"
#include "processor.h"
#include "vcpu_state.h"

/* Registers of the IMSIC, of which the others are arrays. */
#define IMSIC_EIDELIVERY	0x70
#define IMSIC_EITHRESHOLD	0x72
#define IMSIC_EIP0		0x80
#define IMSIC_EIE0		0xc0

static const char * const config_names[] = {
	"isa", "zicbom_block_size", "mvendorid", "marchid", "mimpid",
	"zicboz_block_size", "satp_mode", "zicbop_block_size",
};

static const char * const core_names[] = {
	"pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1",
	"a2", "a3", "a4", "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7",
	"s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6", "mode",
};

static const char * const csr_names[] = {
	"sstatus", "sie", "stvec", "sscratch", "sepc", "scause", "stval", "sip",
	"satp", "scounteren", "senvcfg",
};

static const char * const aia_csr_names[] = {
	"siselect", "iprio1", "iprio2", "sieh", "siph", "iprio1h", "iprio2h",
};

static const char * const timer_names[] = {
	"frequency", "time", "compare", "state",
};

static const char * const vector_names[] = {
	"vstart", "vl", "vtype", "vcsr", "vlenb",
};

static const char * const sta_names[] = {
	"shmem_lo", "shmem_hi",
};

static const char * const fwft_names[] = {
	"misaligned_deleg.enable", "misaligned_deleg.flags",
	"misaligned_deleg.value", "pointer_masking.enable",
	"pointer_masking.flags", "pointer_masking.value",
	"pte_ad_hw_updating.enable", "pte_ad_hw_updating.flags",
	"pte_ad_hw_updating.value", "landing_pad.enable", "landing_pad.flags",
	"landing_pad.value", "shadow_stack.enable", "shadow_stack.flags",
	"shadow_stack.value",
};

static void name_of(char *name, size_t size, const char *prefix, u64 index,
		    const char * const *names, size_t nr)
{
	if (index < nr)
		snprintf(name, size, "%s.%s", prefix, names[index]);
	else
		snprintf(name, size, "%s[%lu]", prefix, index);
}

#define NAME_OF(prefix, names)	\
	name_of(name, size, prefix, index, names, ARRAY_SIZE(names))

void vcpu_state_reg_name(u64 id, char *name, size_t size)
{
	u64 type = id & KVM_REG_RISCV_TYPE_MASK;
	u64 subtype = id & KVM_REG_RISCV_SUBTYPE_MASK;
	u64 index = id & 0xffff;

	switch (type) {
	case KVM_REG_RISCV_CONFIG:
		NAME_OF("config", config_names);
		break;
	case KVM_REG_RISCV_CORE:
		NAME_OF("core", core_names);
		break;
	case KVM_REG_RISCV_CSR:
		if (subtype == KVM_REG_RISCV_CSR_AIA)
			NAME_OF("aia_csr", aia_csr_names);
		else if (subtype == KVM_REG_RISCV_CSR_SMSTATEEN)
			snprintf(name, size, "csr.sstateen%lu", index);
		else if (subtype == KVM_REG_RISCV_CSR_ZICFISS)
			snprintf(name, size, index ? "csr.zicfiss[%lu]" : "csr.ssp", index);
		else if (subtype == KVM_REG_RISCV_CSR_GENERAL)
			NAME_OF("csr", csr_names);
		else
			snprintf(name, size, "csr.%lx[%lu]", subtype >> 16, index);
		break;
	case KVM_REG_RISCV_TIMER:
		NAME_OF("timer", timer_names);
		break;
	case KVM_REG_RISCV_FP_F:
		if (index == KVM_REG_RISCV_FP_F_REG(fcsr))
			snprintf(name, size, "fp_f.fcsr");
		else
			snprintf(name, size, "fp_f.f%lu", index);
		break;
	case KVM_REG_RISCV_FP_D:
		if (index == KVM_REG_RISCV_FP_D_REG(fcsr))
			snprintf(name, size, "fp_d.fcsr");
		else
			snprintf(name, size, "fp_d.f%lu", index);
		break;
	case KVM_REG_RISCV_ISA_EXT:
		snprintf(name, size, "isa_ext.%lx[%lu]", subtype >> 16, index);
		break;
	case KVM_REG_RISCV_SBI_EXT:
		snprintf(name, size, "sbi_ext.%lx[%lu]", subtype >> 16, index);
		break;
	case KVM_REG_RISCV_VECTOR:
		if (index >= KVM_REG_RISCV_VECTOR_REG(0))
			snprintf(name, size, "vector.v%lu",
				 index - KVM_REG_RISCV_VECTOR_REG(0));
		else
			NAME_OF("vector", vector_names);
		break;
	case KVM_REG_RISCV_SBI_STATE:
		if (subtype == KVM_REG_RISCV_SBI_STA)
			NAME_OF("sbi_sta", sta_names);
		else if (subtype == KVM_REG_RISCV_SBI_FWFT)
			NAME_OF("sbi_fwft", fwft_names);
		else
			snprintf(name, size, "sbi_state[0x%lx]", id & 0xffffff);
		break;
	default:
		snprintf(name, size, "reg[0x%lx]", id);
	}
}

static void add_imsic(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	int fd = vcpu->vm->arch.aia_fd;
	u64 isel;

	if (!vcpu->vm->arch.has_aia)
		return;

	for (isel = IMSIC_EIDELIVERY; isel < 0x100; isel++) {
		const char *name;
		u64 index = 0;

		if (isel == IMSIC_EIDELIVERY) {
			name = "eidelivery";
		} else if (isel == IMSIC_EITHRESHOLD) {
			name = "eithreshold";
		} else if (isel >= IMSIC_EIE0) {
			name = "eie";
			index = isel - IMSIC_EIE0;
		} else if (isel >= IMSIC_EIP0) {
			name = "eip";
			index = isel - IMSIC_EIP0;
		} else {
			continue;
		}

		vcpu_state_add_attr(state, fd, KVM_DEV_RISCV_AIA_GRP_IMSIC,
				    KVM_DEV_RISCV_AIA_IMSIC_MKATTR(vcpu->id, isel),
				    sizeof(u64), "imsic.%s%lu", name, index);
	}
}

void vcpu_state_arch_get(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	vcpu_state_add_reg_list(vcpu, state);
	add_imsic(vcpu, state);
}

#define CONFIG		"configuration"

const struct vcpu_state_rule vcpu_state_clocks[] = {
	{ "timer.time",		"clock, of the VM" },
	{}
};

const struct vcpu_state_rule vcpu_state_clock_driven[] = {
	{}
};

const struct vcpu_state_rule vcpu_state_not_dirtied[] = {
	{ "config.*",		CONFIG },
	{ "isa_ext.*",		CONFIG },
	{ "sbi_ext.*",		CONFIG },
	{ "vector.vlenb",	CONFIG },
	{ "timer.frequency",	CONFIG },
	{ "timer.time",		"clock, of the VM" },
	{}
};

static void dirty_imsic(struct kvm_vcpu *vcpu)
{
	int fd = vcpu->vm->arch.aia_fd;
	u64 isel, value;

	if (!vcpu->vm->arch.has_aia)
		return;

	for (isel = IMSIC_EIDELIVERY; isel < 0x100; isel++) {
		u64 attr = KVM_DEV_RISCV_AIA_IMSIC_MKATTR(vcpu->id, isel);

		value = isel == IMSIC_EIDELIVERY ? 1 :
			isel == IMSIC_EITHRESHOLD ? 40 : 0x5eed5eed5eed5eecul;
		if (!__kvm_has_device_attr(fd, KVM_DEV_RISCV_AIA_GRP_IMSIC, attr))
			__kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_IMSIC,
					      attr, &value);
	}
}

void vcpu_state_dirty(struct kvm_vcpu *vcpu, gpa_t gpa, int pass)
{
	static const u64 flips[] = {
		0xffffffffffffffff, 0x5a5a5a5a5a5a5a5a, 0x1212121212120000,
	};
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	struct kvm_mp_state mp_state;
	char name[VCPU_STATE_NAME_LEN];
	u64 i, id;

	for (i = 0; i < list->n; i++) {
		id = list->reg[i];
		vcpu_state_reg_name(id, name, sizeof(name));
		if (vcpu_state_match(vcpu_state_not_dirtied, name))
			continue;

		/* F and D share registers, one would undo the other. */
		if ((id & KVM_REG_RISCV_TYPE_MASK) ==
		    (pass ? KVM_REG_RISCV_FP_D : KVM_REG_RISCV_FP_F))
			continue;

		/* In bounds, for what KVM writes to when the vCPU is loaded. */
		if (!strcmp(name, "sbi_sta.shmem_lo"))
			vcpu_set_reg(vcpu, id, gpa);
		else if (!strcmp(name, "sbi_sta.shmem_hi"))
			vcpu_set_reg(vcpu, id, 0);
		else if (!strcmp(name, "timer.compare"))
			vcpu_set_reg(vcpu, id, pass ? 0x1234 : BIT_ULL(60));
		else
			vcpu_state_dirty_reg(vcpu, id, flips, ARRAY_SIZE(flips), -1ull);
	}

	dirty_imsic(vcpu);
	free(list);

	/* Not what a new vCPU has, be it the boot vCPU or another one. */
	vcpu_mp_state_get(vcpu, &mp_state);
	mp_state.mp_state = mp_state.mp_state == KVM_MP_STATE_STOPPED ?
			    KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_STOPPED;
	vcpu_mp_state_set(vcpu, &mp_state);
}
