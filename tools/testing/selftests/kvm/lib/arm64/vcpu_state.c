// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything that userspace can read about an arm64 vCPU, see vcpu_state.h
 */
#include <linux/bits.h>
#include <linux/sizes.h>
#include <asm/cputype.h>

#include "gic_v3.h"
#include "kvm_util.h"
#include "processor.h"
#include "vcpu_state.h"

#define SYS_NAME(reg)	{ SYS_##reg, #reg }

/* The others are named by their encoding. */
static const struct {
	u32 encoding;
	const char *name;
} sys_names[] = {
	SYS_NAME(OSDTRRX_EL1), SYS_NAME(MDCCINT_EL1), SYS_NAME(MDSCR_EL1),
	SYS_NAME(OSDTRTX_EL1), SYS_NAME(OSECCR_EL1), SYS_NAME(OSLAR_EL1),
	SYS_NAME(OSLSR_EL1), SYS_NAME(OSDLR_EL1), SYS_NAME(DBGPRCR_EL1),
	SYS_NAME(MIDR_EL1), SYS_NAME(MPIDR_EL1), SYS_NAME(REVIDR_EL1),
	SYS_NAME(SCTLR_EL1), SYS_NAME(ACTLR_EL1), SYS_NAME(CPACR_EL1),
	SYS_NAME(TTBR0_EL1), SYS_NAME(TTBR1_EL1), SYS_NAME(TCR_EL1),
	SYS_NAME(APIAKEYLO_EL1), SYS_NAME(APIAKEYHI_EL1),
	SYS_NAME(APIBKEYLO_EL1), SYS_NAME(APIBKEYHI_EL1),
	SYS_NAME(APDAKEYLO_EL1), SYS_NAME(APDAKEYHI_EL1),
	SYS_NAME(APDBKEYLO_EL1), SYS_NAME(APDBKEYHI_EL1),
	SYS_NAME(APGAKEYLO_EL1), SYS_NAME(APGAKEYHI_EL1),
	SYS_NAME(SPSR_EL1), SYS_NAME(ELR_EL1),
	SYS_NAME(AFSR0_EL1), SYS_NAME(AFSR1_EL1), SYS_NAME(ESR_EL1),
	SYS_NAME(FAR_EL1), SYS_NAME(PAR_EL1), SYS_NAME(PMINTENSET_EL1),
	SYS_NAME(PMINTENCLR_EL1), SYS_NAME(MAIR_EL1), SYS_NAME(AMAIR_EL1),
	SYS_NAME(VBAR_EL1), SYS_NAME(DISR_EL1), SYS_NAME(CONTEXTIDR_EL1),
	SYS_NAME(TPIDR_EL1), SYS_NAME(CNTKCTL_EL1), SYS_NAME(CCSIDR_EL1),
	SYS_NAME(CLIDR_EL1), SYS_NAME(AIDR_EL1), SYS_NAME(CSSELR_EL1),
	SYS_NAME(CTR_EL0), SYS_NAME(DCZID_EL0), SYS_NAME(PMCR_EL0),
	SYS_NAME(PMCNTENSET_EL0), SYS_NAME(PMCNTENCLR_EL0),
	SYS_NAME(PMOVSCLR_EL0), SYS_NAME(PMSELR_EL0), SYS_NAME(PMCCNTR_EL0),
	SYS_NAME(PMUSERENR_EL0), SYS_NAME(PMOVSSET_EL0),
	SYS_NAME(PMCCFILTR_EL0), SYS_NAME(TPIDR_EL0), SYS_NAME(TPIDRRO_EL0),
	SYS_NAME(CNTFRQ_EL0), SYS_NAME(DACR32_EL2), SYS_NAME(IFSR32_EL2),
	SYS_NAME(FPEXC32_EL2),
};

static void sys_name(u64 id, char *name, size_t size)
{
	u32 op0 = (id & KVM_REG_ARM64_SYSREG_OP0_MASK) >> KVM_REG_ARM64_SYSREG_OP0_SHIFT;
	u32 op1 = (id & KVM_REG_ARM64_SYSREG_OP1_MASK) >> KVM_REG_ARM64_SYSREG_OP1_SHIFT;
	u32 crn = (id & KVM_REG_ARM64_SYSREG_CRN_MASK) >> KVM_REG_ARM64_SYSREG_CRN_SHIFT;
	u32 crm = (id & KVM_REG_ARM64_SYSREG_CRM_MASK) >> KVM_REG_ARM64_SYSREG_CRM_SHIFT;
	u32 op2 = (id & KVM_REG_ARM64_SYSREG_OP2_MASK) >> KVM_REG_ARM64_SYSREG_OP2_SHIFT;
	static const char * const dbg[] = { "DBGBVR", "DBGBCR", "DBGWVR", "DBGWCR" };
	int i;

	for (i = 0; i < ARRAY_SIZE(sys_names); i++) {
		if (sys_names[i].encoding == sys_reg(op0, op1, crn, crm, op2)) {
			snprintf(name, size, "sys.%s", sys_names[i].name);
			return;
		}
	}

	if (id == KVM_REG_ARM_TIMER_CTL)
		snprintf(name, size, "timer.CNTV_CTL_EL0");
	else if (id == KVM_REG_ARM_TIMER_CVAL)
		snprintf(name, size, "timer.CNTV_CVAL_EL0");
	else if (id == KVM_REG_ARM_TIMER_CNT)
		snprintf(name, size, "timer.CNTVCT_EL0");
	else if (id == KVM_REG_ARM_PTIMER_CTL)
		snprintf(name, size, "timer.CNTP_CTL_EL0");
	else if (id == KVM_REG_ARM_PTIMER_CVAL)
		snprintf(name, size, "timer.CNTP_CVAL_EL0");
	else if (id == KVM_REG_ARM_PTIMER_CNT)
		snprintf(name, size, "timer.CNTPCT_EL0");
	else if (op0 == 2 && !op1 && !crn && op2 >= 4)
		snprintf(name, size, "sys.%s%u_EL1", dbg[op2 - 4], crm);
	else if (op0 == 3 && op1 == 3 && crn == 14 && crm >= 8 && crm < 12)
		snprintf(name, size, "sys.PMEVCNTR%u_EL0", (crm & 3) * 8 + op2);
	else if (op0 == 3 && op1 == 3 && crn == 14 && crm >= 12)
		snprintf(name, size, "sys.PMEVTYPER%u_EL0", (crm & 3) * 8 + op2);
	else
		snprintf(name, size, "sys.S%u_%u_C%u_C%u_%u", op0, op1, crn, crm, op2);
}

static void core_name(u64 id, char *name, size_t size)
{
	u32 offset = id & 0xffff;

#define CORE(member)	KVM_REG_ARM_CORE_REG(member)
	if (offset < CORE(regs.sp))
		snprintf(name, size, "core.x%u", offset / 2);
	else if (offset == CORE(regs.sp))
		snprintf(name, size, "core.sp");
	else if (offset == CORE(regs.pc))
		snprintf(name, size, "core.pc");
	else if (offset == CORE(regs.pstate))
		snprintf(name, size, "core.pstate");
	else if (offset == CORE(sp_el1))
		snprintf(name, size, "core.sp_el1");
	else if (offset == CORE(elr_el1))
		snprintf(name, size, "core.elr_el1");
	else if (offset >= CORE(spsr[0]) && offset < CORE(fp_regs))
		snprintf(name, size, "core.spsr%u", (u32)(offset - CORE(spsr[0])) / 2);
	else if (offset == CORE(fp_regs.fpsr))
		snprintf(name, size, "core.fpsr");
	else if (offset == CORE(fp_regs.fpcr))
		snprintf(name, size, "core.fpcr");
	else if (offset >= CORE(fp_regs.vregs[0]))
		snprintf(name, size, "core.v%u",
			 (u32)(offset - CORE(fp_regs.vregs[0])) / 4);
	else
		snprintf(name, size, "core[%u]", offset);
#undef CORE
}

void vcpu_state_reg_name(u64 id, char *name, size_t size)
{
	switch (id & KVM_REG_ARM_COPROC_MASK) {
	case KVM_REG_ARM_CORE:
		core_name(id, name, size);
		break;
	case KVM_REG_ARM64_SYSREG:
		sys_name(id, name, size);
		break;
	case KVM_REG_ARM_DEMUX:
		snprintf(name, size, "demux[0x%lx]", id & 0xffff);
		break;
	case KVM_REG_ARM_FW:
		snprintf(name, size, "fw[%lu]", id & 0xffff);
		break;
	case KVM_REG_ARM_FW_FEAT_BMAP:
		snprintf(name, size, "fw_feat_bmap[%lu]", id & 0xffff);
		break;
	case KVM_REG_ARM64_SVE:
		if (id == KVM_REG_ARM64_SVE_VLS)
			snprintf(name, size, "sve.vls");
		else if ((id & 0xffff) >= (KVM_REG_ARM64_SVE_FFR_BASE & 0xffff))
			snprintf(name, size, "sve.ffr");
		else if ((id & 0xffff) >= (KVM_REG_ARM64_SVE_PREG_BASE & 0xffff))
			snprintf(name, size, "sve.p%lu", (id >> 5) & 0xf);
		else
			snprintf(name, size, "sve.z%lu", (id >> 5) & 0x1f);
		break;
	default:
		snprintf(name, size, "reg[0x%lx]", id);
	}
}

/* ---- The vCPU's part of the GIC ------------------------------------------ */

static const struct {
	u32 offset;
	const char *name;
} gicr_regs[] = {
	{ GICR_CTLR,				"CTLR" },
	{ GICR_TYPER,				"TYPER" },
	{ GICR_TYPER + 4,			"TYPER_hi" },
	{ GICR_WAKER,				"WAKER" },
	{ GICR_STATUSR,				"STATUSR" },
	{ GICR_PROPBASER,			"PROPBASER" },
	{ GICR_PROPBASER + 4,			"PROPBASER_hi" },
	{ GICR_PENDBASER,			"PENDBASER" },
	{ GICR_PENDBASER + 4,			"PENDBASER_hi" },
	{ SZ_64K + GICD_IGROUPR,		"IGROUPR0" },
	{ SZ_64K + GICD_ISENABLER,		"ISENABLER0" },
	{ SZ_64K + GICD_ISPENDR,		"ISPENDR0" },
	{ SZ_64K + GICD_ISACTIVER,		"ISACTIVER0" },
	{ SZ_64K + GICD_IPRIORITYR + 0x00,	"IPRIORITYR0" },
	{ SZ_64K + GICD_IPRIORITYR + 0x04,	"IPRIORITYR1" },
	{ SZ_64K + GICD_IPRIORITYR + 0x08,	"IPRIORITYR2" },
	{ SZ_64K + GICD_IPRIORITYR + 0x0c,	"IPRIORITYR3" },
	{ SZ_64K + GICD_IPRIORITYR + 0x10,	"IPRIORITYR4" },
	{ SZ_64K + GICD_IPRIORITYR + 0x14,	"IPRIORITYR5" },
	{ SZ_64K + GICD_IPRIORITYR + 0x18,	"IPRIORITYR6" },
	{ SZ_64K + GICD_IPRIORITYR + 0x1c,	"IPRIORITYR7" },
	{ SZ_64K + GICD_ICFGR,			"ICFGR0" },
	{ SZ_64K + GICD_ICFGR + 4,		"ICFGR1" },
};

static const struct {
	u64 reg;
	const char *name;
} icc_regs[] = {
	{ SYS_ICC_PMR_EL1,	"PMR_EL1" },
	{ SYS_ICC_BPR0_EL1,	"BPR0_EL1" },
	{ SYS_ICC_AP0R0_EL1,	"AP0R0_EL1" },
	{ SYS_ICC_AP0R1_EL1,	"AP0R1_EL1" },
	{ SYS_ICC_AP0R2_EL1,	"AP0R2_EL1" },
	{ SYS_ICC_AP0R3_EL1,	"AP0R3_EL1" },
	{ SYS_ICC_AP1R0_EL1,	"AP1R0_EL1" },
	{ SYS_ICC_AP1R1_EL1,	"AP1R1_EL1" },
	{ SYS_ICC_AP1R2_EL1,	"AP1R2_EL1" },
	{ SYS_ICC_AP1R3_EL1,	"AP1R3_EL1" },
	{ SYS_ICC_BPR1_EL1,	"BPR1_EL1" },
	{ SYS_ICC_CTLR_EL1,	"CTLR_EL1" },
	{ SYS_ICC_SRE_EL1,	"SRE_EL1" },
	{ SYS_ICC_IGRPEN0_EL1,	"IGRPEN0_EL1" },
	{ SYS_ICC_IGRPEN1_EL1,	"IGRPEN1_EL1" },
};

/*
 * Those of a guest hypervisor.  Other than the name says, they are not the GIC's,
 * but system registers of the vCPU that are only accessible through the GIC.
 */
static const struct {
	u64 reg;
	const char *name;
} ich_regs[] = {
	{ SYS_ICH_AP0R0_EL2,	"AP0R0_EL2" },
	{ SYS_ICH_AP0R1_EL2,	"AP0R1_EL2" },
	{ SYS_ICH_AP0R2_EL2,	"AP0R2_EL2" },
	{ SYS_ICH_AP0R3_EL2,	"AP0R3_EL2" },
	{ SYS_ICH_AP1R0_EL2,	"AP1R0_EL2" },
	{ SYS_ICH_AP1R1_EL2,	"AP1R1_EL2" },
	{ SYS_ICH_AP1R2_EL2,	"AP1R2_EL2" },
	{ SYS_ICH_AP1R3_EL2,	"AP1R3_EL2" },
	{ SYS_ICH_HCR_EL2,	"HCR_EL2" },
	{ SYS_ICH_VMCR_EL2,	"VMCR_EL2" },
	{ SYS_ICH_LR0_EL2,	"LR0_EL2" },
	{ SYS_ICH_LR1_EL2,	"LR1_EL2" },
	{ SYS_ICH_LR2_EL2,	"LR2_EL2" },
	{ SYS_ICH_LR3_EL2,	"LR3_EL2" },
	{ SYS_ICH_LR4_EL2,	"LR4_EL2" },
	{ SYS_ICH_LR5_EL2,	"LR5_EL2" },
	{ SYS_ICH_LR6_EL2,	"LR6_EL2" },
	{ SYS_ICH_LR7_EL2,	"LR7_EL2" },
	{ SYS_ICH_LR8_EL2,	"LR8_EL2" },
	{ SYS_ICH_LR9_EL2,	"LR9_EL2" },
	{ SYS_ICH_LR10_EL2,	"LR10_EL2" },
	{ SYS_ICH_LR11_EL2,	"LR11_EL2" },
	{ SYS_ICH_LR12_EL2,	"LR12_EL2" },
	{ SYS_ICH_LR13_EL2,	"LR13_EL2" },
	{ SYS_ICH_LR14_EL2,	"LR14_EL2" },
	{ SYS_ICH_LR15_EL2,	"LR15_EL2" },
};

/* The affinity as the attributes of the GIC have it. */
static u64 gic_attr_base(struct kvm_vcpu *vcpu)
{
	u64 mpidr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_MPIDR_EL1));

	return ((mpidr & 0xffffff) | ((mpidr >> 8) & 0xff000000)) <<
	       KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT;
}

static u64 icc_attr(struct kvm_vcpu *vcpu, u64 reg)
{
	return gic_attr_base(vcpu) |
	       (KVM_ARM64_SYS_REG(reg) & KVM_DEV_ARM_VGIC_SYSREG_INSTR_MASK);
}

static u64 line_level_attr(struct kvm_vcpu *vcpu)
{
	return gic_attr_base(vcpu) | VGIC_LEVEL_INFO_LINE_LEVEL <<
	       KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT;
}

static void add_gic(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	int i, fd = vcpu->vm->arch.gic_fd;

	if (!vcpu->vm->arch.has_gic)
		return;

	for (i = 0; i < ARRAY_SIZE(gicr_regs); i++)
		vcpu_state_add_attr(state, fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
				    gic_attr_base(vcpu) | gicr_regs[i].offset,
				    sizeof(u32), "gicr.%s", gicr_regs[i].name);

	for (i = 0; i < ARRAY_SIZE(icc_regs); i++)
		vcpu_state_add_attr(state, fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
				    icc_attr(vcpu, icc_regs[i].reg),
				    sizeof(u64), "icc.%s", icc_regs[i].name);

	/* There are none unless the vCPU has EL2. */
	for (i = 0; i < ARRAY_SIZE(ich_regs); i++)
		vcpu_state_add_attr(state, fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
				    icc_attr(vcpu, ich_regs[i].reg),
				    sizeof(u64), "ich.%s", ich_regs[i].name);

	/* SGIs and PPIs */
	vcpu_state_add_attr(state, fd, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
			    line_level_attr(vcpu), sizeof(u32), "gic.line_level");
}

static void set_gicr(struct kvm_vcpu *vcpu, u32 offset, u32 value)
{
	/* Fails for what can't be written, there is nothing to copy then. */
	__kvm_device_attr_set(vcpu->vm->arch.gic_fd,
			      KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
			      gic_attr_base(vcpu) | offset, &value);
}

void vcpu_copy_gic(struct kvm_vcpu *from, struct kvm_vcpu *to)
{
	int from_fd = from->vm->arch.gic_fd, to_fd = to->vm->arch.gic_fd;
	u64 value;
	int i;

	if (!to->vm->arch.has_gic)
		return;

	/* Bits of these can only be set by what follows. */
	set_gicr(to, SZ_64K + GICD_ICENABLER, -1);
	set_gicr(to, SZ_64K + GICD_ICACTIVER, -1);

	for (i = 0; i < ARRAY_SIZE(gicr_regs); i++) {
		/* There is only one, whatever the vCPU. */
		if (!strncmp(gicr_regs[i].name, "PROPBASER", 9))
			continue;

		value = 0;
		if (!__kvm_device_attr_get(from_fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
					   gic_attr_base(from) | gicr_regs[i].offset,
					   &value))
			set_gicr(to, gicr_regs[i].offset, value);
	}

	/* BPR1_EL1 is read-only as long as CTLR_EL1, which is behind it, says so. */
	for (i = 0; i < 2 * ARRAY_SIZE(icc_regs); i++) {
		u64 reg = icc_regs[i % ARRAY_SIZE(icc_regs)].reg;

		if (!__kvm_device_attr_get(from_fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
					   icc_attr(from, reg), &value))
			__kvm_device_attr_set(to_fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
					      icc_attr(to, reg), &value);
	}

	value = 0;
	kvm_device_attr_get(from_fd, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
			    line_level_attr(from), &value);
	kvm_device_attr_set(to_fd, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
			    line_level_attr(to), &value);
}

void vm_save_gic_tables(struct kvm_vm *vm, int its_fd)
{
	kvm_device_attr_set(its_fd, KVM_DEV_ARM_VGIC_GRP_CTRL,
			    KVM_DEV_ARM_ITS_SAVE_TABLES, NULL);
	kvm_device_attr_set(vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_CTRL,
			    KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL);
}

static void copy_attr(int from, int to, u32 group, u64 attr)
{
	u64 value = 0;

	kvm_device_attr_get(from, group, attr, &value);
	kvm_device_attr_set(to, group, attr, &value);
}

/* In the order in which they are to be restored, with the bits of each interrupt */
static const struct {
	u32 offset;
	u32 bits;
} gicd_regs[] = {
	{ GICD_IROUTER,		64 },
	{ GICD_ICFGR,		2 },
	{ GICD_IGROUPR,		1 },
	{ GICD_ISENABLER,	1 },
	{ GICD_ISPENDR,		1 },
	{ GICD_ISACTIVER,	1 },
	{ GICD_IPRIORITYR,	8 },
};

static const u32 gits_regs[] = {
	GITS_CBASER, GITS_BASER, GITS_BASER + 8, GITS_CREADR, GITS_CWRITER,
	GITS_IIDR,
};

static const u32 gicr_lpi_regs[] = {
	GICR_PROPBASER, GICR_PROPBASER + 4, GICR_PENDBASER, GICR_PENDBASER + 4,
};

/* See Documentation/virt/kvm/devices/arm-vgic-v3.rst and arm-vgic-its.rst. */
void vm_copy_gic(struct kvm_vcpu **from, struct kvm_vcpu **to, int nr, int from_its, int to_its)
{
	int from_fd = from[0]->vm->arch.gic_fd, to_fd = to[0]->vm->arch.gic_fd;
	u32 typer, nr_irqs, offset, irq;
	int i, k;

	kvm_device_attr_get(from_fd, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_TYPER, &typer);
	nr_irqs = ((typer & 0x1f) + 1) * 32;

	copy_attr(from_fd, to_fd, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_CTLR);
	for (i = 0; i < ARRAY_SIZE(gicd_regs); i++) {
		/* Those of SGIs and PPIs are private. */
		for (offset = 32 * gicd_regs[i].bits / 8;
		     offset < nr_irqs * gicd_regs[i].bits / 8; offset += 4)
			copy_attr(from_fd, to_fd, KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
				  gicd_regs[i].offset + offset);
	}
	for (irq = 32; irq < nr_irqs; irq += 32)
		copy_attr(from_fd, to_fd, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
			  VGIC_LEVEL_INFO_LINE_LEVEL <<
			  KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT | irq);

	/* Before LPIs are enabled */
	for (i = 0; i < nr; i++) {
		for (k = 0; k < ARRAY_SIZE(gicr_lpi_regs); k++)
			copy_attr(from_fd, to_fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
				  gic_attr_base(from[i]) | gicr_lpi_regs[k]);
	}
	for (i = 0; i < nr; i++)
		vcpu_copy_gic(from[i], to[i]);

	for (i = 0; i < ARRAY_SIZE(gits_regs); i++)
		copy_attr(from_its, to_its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, gits_regs[i]);
	kvm_device_attr_set(to_its, KVM_DEV_ARM_VGIC_GRP_CTRL,
			    KVM_DEV_ARM_ITS_RESTORE_TABLES, NULL);
	copy_attr(from_its, to_its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, GITS_CTLR);
}

void vcpu_state_arch_get(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	vcpu_state_add_member(state, "events", &events, exception.serror_pending);
	vcpu_state_add_member(state, "events", &events, exception.serror_has_esr);
	vcpu_state_add_member(state, "events", &events, exception.ext_dabt_pending);
	vcpu_state_add_member(state, "events", &events, exception.serror_esr);

	vcpu_state_add_reg_list(vcpu, state);
	add_gic(vcpu, state);

	vcpu_state_add_attr(state, vcpu->fd, KVM_ARM_VCPU_TIMER_CTRL,
			    KVM_ARM_VCPU_TIMER_IRQ_VTIMER, sizeof(u32), "attr.vtimer_irq");
	vcpu_state_add_attr(state, vcpu->fd, KVM_ARM_VCPU_TIMER_CTRL,
			    KVM_ARM_VCPU_TIMER_IRQ_PTIMER, sizeof(u32), "attr.ptimer_irq");
	vcpu_state_add_attr(state, vcpu->fd, KVM_ARM_VCPU_TIMER_CTRL,
			    KVM_ARM_VCPU_TIMER_IRQ_HVTIMER, sizeof(u32), "attr.hvtimer_irq");
	vcpu_state_add_attr(state, vcpu->fd, KVM_ARM_VCPU_TIMER_CTRL,
			    KVM_ARM_VCPU_TIMER_IRQ_HPTIMER, sizeof(u32), "attr.hptimer_irq");
	vcpu_state_add_attr(state, vcpu->fd, KVM_ARM_VCPU_PMU_V3_CTRL,
			    KVM_ARM_VCPU_PMU_V3_IRQ, sizeof(u32), "attr.pmu_irq");
	vcpu_state_add_attr(state, vcpu->fd, KVM_ARM_VCPU_PVTIME_CTRL,
			    KVM_ARM_VCPU_PVTIME_IPA, sizeof(u64), "attr.pvtime_ipa");
}

#define CONFIG		"configuration"
#define CLOCK		"clock"

const struct vcpu_state_rule vcpu_state_clocks[] = {
	{ "timer.CNTVCT_EL0",	CLOCK },
	{ "timer.CNTPCT_EL0",	CLOCK },
	{}
};

const struct vcpu_state_rule vcpu_state_clock_driven[] = {
	{ "timer.CNT?_CTL_EL0",	"ISTATUS" },
	{}
};

const struct vcpu_state_rule vcpu_state_not_dirtied[] = {
	{ "sys.S3_0_C0_*",	CONFIG },
	{ "sys.MIDR_EL1",	CONFIG },
	{ "sys.MPIDR_EL1",	CONFIG },
	{ "sys.REVIDR_EL1",	CONFIG },
	{ "sys.AIDR_EL1",	CONFIG },
	{ "sys.CLIDR_EL1",	CONFIG },
	{ "sys.CCSIDR_EL1",	CONFIG },
	{ "sys.CTR_EL0",	CONFIG },
	{ "sys.DCZID_EL0",	CONFIG },
	{ "demux*",		CONFIG },
	{ "fw*",		CONFIG },
	{ "sve.vls",		CONFIG },
	{ "attr.*",		CONFIG },
	{ "gicr.PROPBASER*",	"belongs to the VM" },
	{ "timer.CNTVCT_EL0",	CLOCK },
	{ "timer.CNTPCT_EL0",	CLOCK },
	{}
};

static void dirty_gic(struct kvm_vcpu *vcpu)
{
	int i, fd = vcpu->vm->arch.gic_fd;
	u64 attr, value;

	if (!vcpu->vm->arch.has_gic)
		return;

	for (i = 0; i < ARRAY_SIZE(gicr_regs); i++) {
		/* There is only one, whatever the vCPU. */
		if (!strncmp(gicr_regs[i].name, "PROPBASER", 9))
			continue;

		attr = gic_attr_base(vcpu) | gicr_regs[i].offset;
		value = 0;
		if (__kvm_device_attr_get(fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
					  attr, &value))
			continue;
		value ^= 0xa8b8a8b8;
		__kvm_device_attr_set(fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
				      attr, &value);
	}

	for (i = 0; i < ARRAY_SIZE(icc_regs); i++) {
		static const u64 flips[] = { 0xf0, 5, 3, 2, 1, 0x55 };
		u64 old, now;
		int j;

		attr = icc_attr(vcpu, icc_regs[i].reg);
		if (__kvm_device_attr_get(fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
					  attr, &old))
			continue;
		for (j = 0; j < ARRAY_SIZE(flips); j++) {
			value = old ^ flips[j];
			if (!__kvm_device_attr_set(fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
						   attr, &value) &&
			    !__kvm_device_attr_get(fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
						   attr, &now) && now != old)
				break;
		}
	}

	for (i = 0; i < ARRAY_SIZE(ich_regs); i++) {
		attr = icc_attr(vcpu, ich_regs[i].reg);
		value = 0x5a5a5a5a5a5a5a5a;
		__kvm_device_attr_set(fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
				      attr, &value);
	}

	/* A PPI that nobody has. */
	value = BIT(19);
	__kvm_device_attr_set(fd, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
			      line_level_attr(vcpu), &value);
}

void vcpu_state_dirty(struct kvm_vcpu *vcpu, gpa_t gpa, int pass)
{
	const u64 flips[] = {
		pass ? 0x5a5a5a5a5a5a5a5a : 0xffffffffffffffff, 0x1515151515151515,
	};
	struct kvm_vcpu_events events = {
		.exception.serror_pending = true,
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

		/* One register by two names */
		if (pass && strstr(name, "CLR"))
			continue;

		/* The mode is all that has invalid values. */
		vcpu_state_dirty_reg(vcpu, id, flips, ARRAY_SIZE(flips),
				     strcmp(name, "core.pstate") ? -1ull : ~0xffull);
	}
	free(list);

	dirty_gic(vcpu);

	if (kvm_has_cap(KVM_CAP_ARM_INJECT_SERROR_ESR) && pass) {
		events.exception.serror_has_esr = true;
		events.exception.serror_esr = 0x123;
	}
	vcpu_events_set(vcpu, &events);

	vcpu_mp_state_get(vcpu, &mp_state);
	if (pass)
		mp_state.mp_state = KVM_MP_STATE_SUSPENDED;
	else if (mp_state.mp_state == KVM_MP_STATE_STOPPED)
		mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
	else
		mp_state.mp_state = KVM_MP_STATE_STOPPED;
	vcpu_mp_state_set(vcpu, &mp_state);
}
