// SPDX-License-Identifier: GPL-2.0-only
/*
 * sbi_version_test - The SBI extensions that a guest sees
 *
 * What psci_version_test is on arm64: a guest sees the SBI extensions that are
 * enabled in the SBI extension registers, and one version of the specification.
 * Verify that, for each extension, the register, the answer of PROBE_EXT and
 * whether there is somebody who serves a call agree:
 *  - As it is by default, and with each of the extensions disabled or enabled.
 *  - With KVM_CAP_EXIT_ON_VCPU_RESET, whatever the mask is.
 *  - After a reset of the vCPU with KVM_MP_STATE_RESET.
 *  - With all registers restored into a new VM.
 */
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "sbi.h"

#define RESULT_GPA	0x40000000ul

enum {
	A0 = 10, A1, A2, A6 = 16, A7, S2,
};

#define GPR(i)	__kvm_reg_id(KVM_REG_RISCV_CORE, 0, i, KVM_REG_SIZE_ULONG)

/* No extension has a function with that number. */
#define NO_FUNCTION	0x7ff

#define IMP_ID_KVM	3

extern const char guest_code[];
asm("	.pushsection .text, \"ax\"\n"
"	.balign 64\n"
"guest_code:\n"
"	ecall\n"
"	sd	a0, 0(s2)\n"
"	sd	a1, 8(s2)\n"
"	j	.\n"
"	.popsection\n"
);

struct sbi_row {
	const char *name;
	unsigned long extid;
	/* Userspace serves all of it. */
	bool forwarded;
};

/* V01 is not an extension that the guest can ask for. */
#define ROW(ext, _extid, ...)		\
	[KVM_RISCV_SBI_EXT_##ext] = { .name = #ext, .extid = _extid, ##__VA_ARGS__ }
static const struct sbi_row rows[] = {
	ROW(TIME, 0x54494d45),
	ROW(IPI, 0x735049),
	ROW(RFENCE, 0x52464e43),
	ROW(SRST, 0x53525354),
	ROW(HSM, 0x48534d),
	ROW(PMU, SBI_EXT_PMU),
	ROW(DBCN, 0x4442434e, .forwarded = true),
	ROW(STA, SBI_EXT_STA),
	ROW(SUSP, 0x53555350),
	ROW(FWFT, 0x46574654),
	ROW(MPXY, 0x4d505859, .forwarded = true),
};

FIXTURE(sbi) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
};

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, NULL);

	vcpu_set_reg(*vcpu, RISCV_GENERAL_CSR_REG(satp), 0);

	return vm;
}

FIXTURE_SETUP(sbi)
{
	self->vm = create_vm(&self->vcpu);
}

FIXTURE_TEARDOWN(sbi)
{
	kvm_vm_free(self->vm);
}

static u64 ext_reg(int ext)
{
	return RISCV_SBI_EXT_REG(ext);
}

/* -1 if the extension isn't available on this host. */
static int get_ext(struct kvm_vcpu *vcpu, int ext)
{
	unsigned long value;

	if (__vcpu_get_reg(vcpu, ext_reg(ext), &value))
		return -1;

	return value;
}

static u64 get_result(struct kvm_vcpu *vcpu, int i, const char *name)
{
	struct kvm_run *run = vcpu->run;
	u64 value;

	TEST_ASSERT(run->exit_reason == KVM_EXIT_MMIO &&
		    run->mmio.phys_addr == RESULT_GPA + i * sizeof(value),
		    "%s: exit %u (%s)", name, run->exit_reason,
		    exit_reason_str(run->exit_reason));
	memcpy(&value, run->mmio.data, sizeof(value));

	return value;
}

/* Make a call.  If userspace is to serve it, then it doesn't. */
static struct sbiret sbi_call(struct kvm_vcpu *vcpu, const char *name,
			      unsigned long extid, unsigned long fid,
			      unsigned long arg, bool *exits)
{
	struct kvm_run *run = vcpu->run;
	struct sbiret ret;

	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.pc),
		     addr_gva2gpa(vcpu->vm, (gva_t)guest_code));
	vcpu_set_reg(vcpu, GPR(S2), RESULT_GPA);
	vcpu_set_reg(vcpu, GPR(A7), extid);
	vcpu_set_reg(vcpu, GPR(A6), fid);
	vcpu_set_reg(vcpu, GPR(A0), arg);
	vcpu_set_reg(vcpu, GPR(A1), 0);

	vcpu_run(vcpu);
	*exits = run->exit_reason == KVM_EXIT_RISCV_SBI;
	if (*exits) {
		TEST_ASSERT_EQ(run->riscv_sbi.extension_id, extid);
		TEST_ASSERT_EQ(run->riscv_sbi.function_id, fid);
		vcpu_run(vcpu);
	}

	ret.error = get_result(vcpu, 0, name);
	vcpu_run(vcpu);
	ret.value = get_result(vcpu, 1, name);
	vcpu_run_immediate_exit(vcpu);

	return ret;
}

static void check_base(struct kvm_vcpu *vcpu)
{
	struct sbiret ret;
	bool exits;

	ret = sbi_call(vcpu, "GET_SPEC_VERSION", SBI_EXT_BASE,
		       SBI_EXT_BASE_GET_SPEC_VERSION, 0, &exits);
	TEST_ASSERT(!exits && !ret.error && ret.value == 3 << SBI_SPEC_VERSION_MAJOR_SHIFT,
		    "The version is 0x%lx", ret.value);

	ret = sbi_call(vcpu, "GET_IMP_ID", SBI_EXT_BASE,
		       SBI_EXT_BASE_GET_IMP_ID, 0, &exits);
	TEST_ASSERT(!exits && !ret.error && ret.value == IMP_ID_KVM,
		    "The implementation is %ld", ret.value);
}

/* What the guest sees is what the register says. */
static void check_ext(struct kvm_vcpu *vcpu, int ext)
{
	const struct sbi_row *row = &rows[ext];
	int want = get_ext(vcpu, ext);
	struct sbiret ret;
	bool exits;

	ret = sbi_call(vcpu, row->name, SBI_EXT_BASE, SBI_EXT_BASE_PROBE_EXT,
		       row->extid, &exits);
	TEST_ASSERT(!exits && !ret.error && !!ret.value == (want == 1),
		    "%s: the register is %d, PROBE_EXT returns %ld, %ld",
		    row->name, want, ret.error, ret.value);

	ret = sbi_call(vcpu, row->name, row->extid, NO_FUNCTION, 0, &exits);
	TEST_ASSERT(exits == (want == 1 && row->forwarded),
		    "%s: the register is %d, the call does%s exit", row->name,
		    want, exits ? "" : " not");
	TEST_ASSERT(ret.error == SBI_ERR_NOT_SUPPORTED,
		    "%s: a function that doesn't exist returns %ld",
		    row->name, ret.error);
}

static void check_all(struct kvm_vcpu *vcpu)
{
	int ext;

	check_base(vcpu);
	for (ext = 0; ext < ARRAY_SIZE(rows); ext++) {
		if (rows[ext].name)
			check_ext(vcpu, ext);
	}
}

/* Every VM is like the other, apart from what is done to it. */
static void check_same(struct kvm_vcpu *want, struct kvm_vcpu *got, int except)
{
	int ext;

	for (ext = 0; ext < KVM_RISCV_SBI_EXT_MAX; ext++) {
		if (ext == except)
			continue;
		TEST_ASSERT(get_ext(want, ext) == get_ext(got, ext),
			    "Extension %d is %d instead of %d", ext,
			    get_ext(got, ext), get_ext(want, ext));
	}
	check_all(got);
}

TEST_F(sbi, defaults)
{
	check_all(self->vcpu);
}

/* One register is about one extension. */
TEST_F(sbi, toggle_each)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int ext, value;

	for (ext = 0; ext < ARRAY_SIZE(rows); ext++) {
		value = get_ext(self->vcpu, ext);
		if (!rows[ext].name || value < 0)
			continue;

		vm = create_vm(&vcpu);
		vcpu_set_reg(vcpu, ext_reg(ext), !value);
		TEST_ASSERT_EQ(get_ext(vcpu, ext), !value);
		check_same(self->vcpu, vcpu, ext);

		/* Too late. */
		TEST_ASSERT(__vcpu_set_reg(vcpu, ext_reg(ext), value) == -1 &&
			    errno == EBUSY, "%s: errno %d", rows[ext].name, errno);
		kvm_vm_free(vm);
	}
}

TEST_F(sbi, exit_on_vcpu_reset)
{
	u64 mask, supported = kvm_check_cap(KVM_CAP_EXIT_ON_VCPU_RESET);
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	if (!supported)
		SKIP(return, "KVM_CAP_EXIT_ON_VCPU_RESET is not available");

	for (mask = 1; mask <= supported; mask++) {
		vm = create_vm(&vcpu);
		vm_enable_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET, mask);
		check_same(self->vcpu, vcpu, -1);
		kvm_vm_free(vm);
	}
}

TEST_F(sbi, reset)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	if (!kvm_has_cap(KVM_CAP_MP_STATE_RESET))
		SKIP(return, "KVM_CAP_MP_STATE_RESET is not available");

	vm = create_vm(&vcpu);
	vcpu_set_reg(vcpu, ext_reg(KVM_RISCV_SBI_EXT_DBCN), 1);
	vcpu_set_reg(vcpu, ext_reg(KVM_RISCV_SBI_EXT_SRST), 0);
	check_all(vcpu);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RESET);
	TEST_ASSERT_EQ(get_ext(vcpu, KVM_RISCV_SBI_EXT_DBCN), 1);
	TEST_ASSERT_EQ(get_ext(vcpu, KVM_RISCV_SBI_EXT_SRST), 0);
	check_all(vcpu);
	kvm_vm_free(vm);
}

TEST_F(sbi, migrate)
{
	struct kvm_vcpu *from, *to;
	struct kvm_vm *vms[2];

	vms[0] = create_vm(&from);
	vcpu_set_reg(from, ext_reg(KVM_RISCV_SBI_EXT_DBCN), 1);
	vcpu_set_reg(from, ext_reg(KVM_RISCV_SBI_EXT_SUSP), 1);
	vcpu_set_reg(from, ext_reg(KVM_RISCV_SBI_EXT_SRST), 0);
	vcpu_set_reg(from, ext_reg(KVM_RISCV_SBI_EXT_STA), 0);
	check_all(from);

	vms[1] = create_vm(&to);
	vcpu_copy_reg_list(from, to);
	check_same(from, to, -1);
	TEST_ASSERT_EQ(get_ext(to, KVM_RISCV_SBI_EXT_SRST), 0);
	TEST_ASSERT_EQ(get_ext(to, KVM_RISCV_SBI_EXT_SUSP), 1);

	kvm_vm_free(vms[0]);
	kvm_vm_free(vms[1]);
}

TEST_HARNESS_MAIN
