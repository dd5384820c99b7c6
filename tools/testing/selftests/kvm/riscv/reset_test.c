// SPDX-License-Identifier: GPL-2.0-only
/*
 * reset_test - A vCPU that was reset has no exit left to complete
 *
 * KVM retires the instruction behind an SBI, MMIO or CSR exit at the KVM_RUN
 * that follows the exit.  For each of these exits this test verifies that:
 *  - Without a reset, the instruction completes exactly once, no matter how
 *    often userspace re-enters.
 *  - KVM_MP_STATE_INIT_RECEIVED drops the exit: the vCPU starts at exactly the
 *    pc, and with exactly the registers, that userspace sets after the reset,
 *    whether or not it re-enters with immediate_exit first.
 *  - The same instruction exits and completes as usual after the reset.
 *  - SBI HSM hart_start on a vCPU with an open exit starts it at exactly the
 *    address and with exactly the registers that the caller asked for.
 *  - A vCPU that never ran has nothing to complete, whatever userspace wrote
 *    to kvm_run.
 * It also verifies that a vCPU that re-enters from an SBI SUSP exit, which is
 * open while KVM owes the vCPU a reset, starts as the guest asked.
 */
#include <linux/bits.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "sbi.h"

/* Not backed by memory, i.e. guest accesses are MMIO. */
#define MMIO_GPA	0x40000000ul

#define CSR_SEED	0x015

#define SBI_EXT_HSM		0x48534d
#define SBI_EXT_HSM_HART_START	0

#define SBI_EXT_SUSP		0x53555350
#define SBI_EXT_SUSP_SYSTEM_SUSPEND	0

/* Calls in an extension that KVM forwards to userspace. */
#define SBI_EXT_TEST		SBI_EXT_EXPERIMENTAL_START
#define SBI_EXT_TEST_REPORT	0
#define SBI_EXT_TEST_CALL	1

#define OPAQUE		0xdeadc0deul
#define OLD_LIFE	0x01d1ul
#define NEW_LIFE	0x4e3ful
#define ANSWER		0xfeedf00dcafe0001ul
#define STALE_ANSWER	0xbaadf00dbaad0002ul

/* Indices of the general purpose registers with a role in the guest code. */
enum {
	A0 = 10, A1, A2, A6 = 16, A7, S2, T3 = 28, T4,
	NR_GPRS = 32,
};

#define GPR(i)	__kvm_reg_id(KVM_REG_RISCV_CORE, 0, i, KVM_REG_SIZE_ULONG)

/*
 * The guest runs with address translation off, so that a reset vCPU can run it
 * as it is.  Execute @insn, which is where the exit comes from, and report
 * which of the instructions behind it have been executed, one bit in s2 each.
 * All instructions are 4 bytes long.
 */
#define ALL_MARKS	GENMASK(3, 0)

#define GUEST_CODE(name, insn)						\
asm(									\
"	.pushsection .text, \"ax\"\n"					\
"	.option push\n"							\
"	.option norvc\n"						\
"	.balign 64\n"							\
#name ":\n"								\
"	" insn "\n"							\
"	ori	s2, s2, 1\n"						\
"	ori	s2, s2, 2\n"						\
"	ori	s2, s2, 4\n"						\
"	ori	s2, s2, 8\n"						\
"	lui	a7, " __stringify(SBI_EXT_TEST) " >> 12\n"		\
"	li	a6, " __stringify(SBI_EXT_TEST_REPORT) "\n"		\
"	ecall\n"							\
"	j	.\n"							\
"	.option pop\n"							\
"	.popsection\n"							\
)

#define GUEST_LABEL(name)	extern const char name[]
#define INSN_SIZE		4

GUEST_LABEL(guest_ecall);
GUEST_CODE(guest_ecall, "ecall");
GUEST_LABEL(guest_load);
GUEST_CODE(guest_load, "ld	t3, 0(t4)");
GUEST_LABEL(guest_store);
GUEST_CODE(guest_store, "sd	t3, 0(t4)");
GUEST_LABEL(guest_csr_stopei);
GUEST_CODE(guest_csr_stopei, "csrrw	t3, " __stringify(CSR_STOPEI) ", zero");
GUEST_LABEL(guest_csr_seed);
GUEST_CODE(guest_csr_seed, "csrrw	t3, " __stringify(CSR_SEED) ", zero");

/* The code of the new life, entered at the first of the marks. */
#define NEW_ENTRY	(guest_ecall + INSN_SIZE)

struct exit_desc {
	const char *insn;
	u32 reason;
	bool is_write;
	u32 csr_num;
	int isa_ext;
};

FIXTURE(open_exit) {
	struct kvm_vm *vm;
	struct kvm_vcpu *caller;
	struct kvm_vcpu *vcpu;
	unsigned long want[NR_GPRS];
};

FIXTURE_VARIANT(open_exit) {
	struct exit_desc exit;
};

FIXTURE_VARIANT_ADD(open_exit, sbi) {
	.exit.insn = guest_ecall,
	.exit.reason = KVM_EXIT_RISCV_SBI,
	.exit.isa_ext = KVM_RISCV_ISA_EXT_I,
};

FIXTURE_VARIANT_ADD(open_exit, mmio_load) {
	.exit.insn = guest_load,
	.exit.reason = KVM_EXIT_MMIO,
	.exit.isa_ext = KVM_RISCV_ISA_EXT_I,
};

FIXTURE_VARIANT_ADD(open_exit, mmio_store) {
	.exit.insn = guest_store,
	.exit.reason = KVM_EXIT_MMIO,
	.exit.is_write = true,
	.exit.isa_ext = KVM_RISCV_ISA_EXT_I,
};

/* Forwarded to userspace unless the VM has an in-kernel AIA irqchip. */
FIXTURE_VARIANT_ADD(open_exit, csr_stopei) {
	.exit.insn = guest_csr_stopei,
	.exit.reason = KVM_EXIT_RISCV_CSR,
	.exit.csr_num = CSR_STOPEI,
	.exit.isa_ext = KVM_RISCV_ISA_EXT_SSAIA,
};

FIXTURE_VARIANT_ADD(open_exit, csr_seed) {
	.exit.insn = guest_csr_seed,
	.exit.reason = KVM_EXIT_RISCV_CSR,
	.exit.csr_num = CSR_SEED,
	.exit.isa_ext = KVM_RISCV_ISA_EXT_ZKR,
};

FIXTURE_SETUP(open_exit)
{
	struct kvm_vcpu *vcpus[2];

	self->vm = vm_create_with_vcpus(ARRAY_SIZE(vcpus), NULL, vcpus);
	vm_enable_cap(self->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	self->caller = vcpus[0];
	self->vcpu = vcpus[1];

	if (!__vcpu_has_isa_ext(self->vcpu, variant->exit.isa_ext))
		SKIP(return, "CSR 0x%x is not available to guests",
		     variant->exit.csr_num);
}

FIXTURE_TEARDOWN(open_exit)
{
	kvm_vm_free(self->vm);
}

static unsigned long guest_pc(struct kvm_vcpu *vcpu, const char *code)
{
	return addr_gva2gpa(vcpu->vm, (gva_t)code);
}

static void set_mp_state(struct kvm_vcpu *vcpu, u32 state)
{
	struct kvm_mp_state mp_state = { .mp_state = state };

	vcpu_mp_state_set(vcpu, &mp_state);
}

/* Start a life at @code, with registers that tell the lives apart. */
static void set_regs(struct kvm_vcpu *vcpu, const char *code,
		     unsigned long life, unsigned long *want)
{
	int i;

	for (i = 1; i < NR_GPRS; i++)
		want[i] = life << 48 | i;

	want[A6] = SBI_EXT_TEST_CALL;
	want[A7] = SBI_EXT_TEST;
	want[S2] = 0;
	want[T4] = MMIO_GPA;

	for (i = 1; i < NR_GPRS; i++)
		vcpu_set_reg(vcpu, GPR(i), want[i]);

	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(satp), 0);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.pc), guest_pc(vcpu, code));
}

/* Verify everything but s2, a6 and a7, which belong to the guest code. */
static void check_gprs(struct __test_metadata *_metadata,
		       struct kvm_vcpu *vcpu, const unsigned long *want)
{
	int i;

	for (i = 1; i < NR_GPRS; i++) {
		unsigned long got = vcpu_get_reg(vcpu, GPR(i));

		if (i == S2 || i == A6 || i == A7)
			continue;

		EXPECT_EQ(want[i], got) {
			TH_LOG("x%d is 0x%lx instead of 0x%lx", i, got, want[i]);
		}
	}
}

static void check_pc(struct __test_metadata *_metadata,
		     struct kvm_vcpu *vcpu, const char *code)
{
	unsigned long want = guest_pc(vcpu, code);
	unsigned long got = vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.pc));

	EXPECT_EQ(want, got) {
		TH_LOG("pc is off by %ld bytes", got - want);
	}
}

/* Run up to the report: nothing skipped on the way, registers as they were. */
static void run_to_report(struct __test_metadata *_metadata,
			  struct kvm_vcpu *vcpu, const unsigned long *want)
{
	struct kvm_run *run = vcpu->run;
	unsigned long marks;

	vcpu_run(vcpu);
	ASSERT_EQ(KVM_EXIT_RISCV_SBI, run->exit_reason);
	ASSERT_EQ(SBI_EXT_TEST, run->riscv_sbi.extension_id);
	ASSERT_EQ(SBI_EXT_TEST_REPORT, run->riscv_sbi.function_id);

	marks = vcpu_get_reg(vcpu, GPR(S2));
	EXPECT_EQ(ALL_MARKS, marks) {
		TH_LOG("Skipped instructions, marks are 0x%lx", marks);
	}

	check_gprs(_metadata, vcpu, want);
}

/* Run up to the exit, and leave it open. */
static void run_to_exit(struct __test_metadata *_metadata,
			struct kvm_vcpu *vcpu,
			const struct exit_desc *desc,
			const unsigned long *want)
{
	struct kvm_run *run = vcpu->run;
	u64 data;

	vcpu_run(vcpu);
	ASSERT_EQ(desc->reason, run->exit_reason);

	switch (run->exit_reason) {
	case KVM_EXIT_RISCV_SBI:
		ASSERT_EQ(SBI_EXT_TEST, run->riscv_sbi.extension_id);
		ASSERT_EQ(SBI_EXT_TEST_CALL, run->riscv_sbi.function_id);
		break;
	case KVM_EXIT_MMIO:
		ASSERT_EQ(MMIO_GPA, run->mmio.phys_addr);
		ASSERT_EQ(desc->is_write, run->mmio.is_write);
		ASSERT_EQ(sizeof(data), run->mmio.len);
		memcpy(&data, run->mmio.data, sizeof(data));
		if (run->mmio.is_write)
			TEST_ASSERT_EQ(data, want[T3]);
		break;
	case KVM_EXIT_RISCV_CSR:
		ASSERT_EQ(desc->csr_num, run->riscv_csr.csr_num);
		break;
	}

	check_pc(_metadata, vcpu, desc->insn);
	check_gprs(_metadata, vcpu, want);
}

/* Do what the VMM does about an exit. */
static void answer_exit(struct kvm_run *run, unsigned long value)
{
	switch (run->exit_reason) {
	case KVM_EXIT_RISCV_SBI:
		run->riscv_sbi.ret[0] = value;
		run->riscv_sbi.ret[1] = ~value;
		break;
	case KVM_EXIT_MMIO:
		memcpy(run->mmio.data, &value, sizeof(value));
		break;
	case KVM_EXIT_RISCV_CSR:
		run->riscv_csr.ret_value = value;
		break;
	}
}

/* What the guest is to see of it. */
static void expect_answer(const struct exit_desc *desc,
			  unsigned long value, unsigned long *want)
{
	switch (desc->reason) {
	case KVM_EXIT_RISCV_SBI:
		want[A0] = value;
		want[A1] = ~value;
		break;
	case KVM_EXIT_MMIO:
		if (!desc->is_write)
			want[T3] = value;
		break;
	case KVM_EXIT_RISCV_CSR:
		want[T3] = value;
		break;
	}
}

/* The exit is answered but not completed, as of the old life's last KVM_RUN. */
static void end_old_life(struct __test_metadata *_metadata,
			 struct kvm_vcpu *vcpu,
			 const struct exit_desc *desc,
			 unsigned long *want)
{
	set_regs(vcpu, desc->insn, OLD_LIFE, want);
	run_to_exit(_metadata, vcpu, desc, want);
	answer_exit(vcpu->run, STALE_ANSWER);
}

TEST_F(open_exit, completes_once)
{
	const char *next = variant->exit.insn + INSN_SIZE;
	struct kvm_vcpu *vcpu = self->vcpu;

	set_regs(vcpu, variant->exit.insn, OLD_LIFE, self->want);
	run_to_exit(_metadata, vcpu, &variant->exit, self->want);

	answer_exit(vcpu->run, ANSWER);
	expect_answer(&variant->exit, ANSWER, self->want);

	vcpu_run_complete_io(vcpu);
	check_pc(_metadata, vcpu, next);
	check_gprs(_metadata, vcpu, self->want);

	answer_exit(vcpu->run, STALE_ANSWER);

	vcpu_run_complete_io(vcpu);
	check_pc(_metadata, vcpu, next);
	check_gprs(_metadata, vcpu, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, userspace_reset)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);

	set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, userspace_reset_immediate_exit)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);

	set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	vcpu_run_complete_io(vcpu);
	check_pc(_metadata, vcpu, NEW_ENTRY);
	check_gprs(_metadata, vcpu, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, userspace_reset_same_insn)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);

	set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	set_regs(vcpu, variant->exit.insn, NEW_LIFE, self->want);

	run_to_exit(_metadata, vcpu, &variant->exit, self->want);
	answer_exit(vcpu->run, ANSWER);
	expect_answer(&variant->exit, ANSWER, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, hart_start)
{
	struct kvm_vcpu *caller = self->caller, *vcpu = self->vcpu;
	unsigned long caller_want[NR_GPRS];

	end_old_life(_metadata, vcpu, &variant->exit, self->want);
	set_mp_state(vcpu, KVM_MP_STATE_STOPPED);

	set_regs(caller, guest_ecall, OLD_LIFE, caller_want);
	vcpu_set_reg(caller, GPR(A7), SBI_EXT_HSM);
	vcpu_set_reg(caller, GPR(A6), SBI_EXT_HSM_HART_START);
	vcpu_args_set(caller, 3, (u64)vcpu->id, guest_pc(vcpu, NEW_ENTRY), OPAQUE);
	caller_want[A0] = SBI_SUCCESS;
	caller_want[A1] = 0;
	caller_want[A2] = OPAQUE;
	run_to_report(_metadata, caller, caller_want);

	/* KVM zeroes what the SBI specification leaves undefined. */
	memset(self->want, 0, sizeof(self->want));
	self->want[A0] = vcpu->id;
	self->want[A1] = OPAQUE;
	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, new_vcpu)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	vcpu->run->exit_reason = variant->exit.reason;
	vcpu->run->mmio.is_write = variant->exit.is_write;
	answer_exit(vcpu->run, STALE_ANSWER);

	run_to_report(_metadata, vcpu, self->want);
}

TEST(system_suspend)
{
	unsigned long want[NR_GPRS];
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, NULL);

	if (__vcpu_set_reg(vcpu, RISCV_SBI_EXT_REG(KVM_RISCV_SBI_EXT_SUSP), 1))
		SKIP(return, "SBI SUSP not available");

	set_regs(vcpu, guest_ecall, OLD_LIFE, want);
	vcpu_set_reg(vcpu, GPR(A7), SBI_EXT_SUSP);
	vcpu_set_reg(vcpu, GPR(A6), SBI_EXT_SUSP_SYSTEM_SUSPEND);
	vcpu_args_set(vcpu, 3, 0ul, guest_pc(vcpu, NEW_ENTRY), OPAQUE);

	vcpu_run(vcpu);
	ASSERT_EQ(KVM_EXIT_RISCV_SBI, vcpu->run->exit_reason);
	ASSERT_EQ(SBI_EXT_SUSP, vcpu->run->riscv_sbi.extension_id);
	answer_exit(vcpu->run, STALE_ANSWER);

	memset(want, 0, sizeof(want));
	want[A0] = vcpu->id;
	want[A1] = OPAQUE;
	run_to_report(_metadata, vcpu, want);

	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	struct kvm_vm *vm = vm_create_barebones();
	int r;

	/* KVM_CHECK_EXTENSION does not know the capability, so try it. */
	r = __vm_enable_cap(vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	__TEST_REQUIRE(!r, "KVM_CAP_RISCV_MP_STATE_RESET not available");
	kvm_vm_free(vm);

	return test_harness_run(argc, argv);
}
