// SPDX-License-Identifier: GPL-2.0-only
/*
 * reset_test - A vCPU that was reset has no exit left to complete
 *
 * KVM retires the instruction behind an MMIO exit at the KVM_RUN that follows
 * the exit.  For loads and stores this test verifies that:
 *  - Without a reset, the instruction completes exactly once, no matter how
 *    often userspace re-enters.
 *  - KVM_ARM_VCPU_INIT drops the exit: the vCPU starts at exactly the PC, and
 *    with exactly the registers, that userspace sets after the reset, whether
 *    or not it re-enters with immediate_exit first.
 *  - The same instruction exits and completes as usual after the reset.
 *  - PSCI CPU_ON on a vCPU with an open exit starts it at exactly the address
 *    and with exactly the context that the caller asked for, whether KVM_RUN
 *    or a register access is the first to see the reset.
 *  - A vCPU that never ran has nothing to complete, whatever userspace wrote
 *    to kvm_run.
 */
#include <linux/bits.h>
#include <linux/psci.h>
#include <asm/cputype.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"

/* Not backed by memory, i.e. guest accesses are MMIO. */
#define MMIO_GPA	0x40000000ul
#define REPORT_GPA	0x40010000

#define CONTEXT_ID	0xdeadc0deul
#define OLD_LIFE	0x01d1ul
#define NEW_LIFE	0x4e3ful
#define ANSWER		0xfeedf00dcafe0001ul
#define STALE_ANSWER	0xbaadf00dbaad0002ul

/* Indices of the general purpose registers with a role in the guest code. */
enum {
	X0, X1, X2, X3, X4, X9 = 9, X10,
	NR_GPRS = 31,
};

#define GPR(i)	ARM64_CORE_REG(regs.regs[i])

/*
 * The guest runs with address translation off, so that a reset vCPU can run it
 * as it is.  Execute @insn, which is where the exit comes from, and report
 * which of the instructions behind it have been executed, one bit in x9 each.
 */
#define ALL_MARKS	GENMASK(3, 0)

#define GUEST_CODE(name, insn)						\
asm(									\
"	.pushsection .text, \"ax\"\n"					\
"	.balign 64\n"							\
#name ":\n"								\
"	" insn "\n"							\
"	orr	x9, x9, #1\n"						\
"	orr	x9, x9, #2\n"						\
"	orr	x9, x9, #4\n"						\
"	orr	x9, x9, #8\n"						\
"	mov	x10, #" __stringify(REPORT_GPA) "\n"			\
"	str	x9, [x10]\n"						\
"	b	.\n"							\
"	.popsection\n"							\
)

#define GUEST_LABEL(name)	extern const char name[]
#define INSN_SIZE		4

GUEST_LABEL(guest_load);
GUEST_CODE(guest_load, "ldr	x3, [x4]");
GUEST_LABEL(guest_store);
GUEST_CODE(guest_store, "str	x3, [x4]");
GUEST_LABEL(guest_hvc);
GUEST_CODE(guest_hvc, "hvc	#0");

/* The code of the new life, entered at the first of the marks. */
#define NEW_ENTRY	(guest_hvc + INSN_SIZE)

struct exit_desc {
	const char *insn;
	bool is_write;
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

FIXTURE_VARIANT_ADD(open_exit, mmio_load) {
	.exit.insn = guest_load,
};

FIXTURE_VARIANT_ADD(open_exit, mmio_store) {
	.exit.insn = guest_store,
	.exit.is_write = true,
};

static void vcpu_reset(struct kvm_vcpu *vcpu)
{
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &vcpu->init);
}

FIXTURE_SETUP(open_exit)
{
	struct kvm_vcpu_init init;

	self->vm = vm_create(2);

	kvm_get_default_vcpu_target(self->vm, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	init.features[0] &= ~BIT(KVM_ARM_VCPU_HAS_EL2);

	self->caller = aarch64_vcpu_add(self->vm, 0, &init, NULL);
	self->vcpu = aarch64_vcpu_add(self->vm, 1, &init, NULL);

	kvm_arch_vm_finalize_vcpus(self->vm);

	/* Undo what the library did, e.g. turn address translation off. */
	vcpu_reset(self->caller);
	vcpu_reset(self->vcpu);
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

	for (i = 0; i < NR_GPRS; i++)
		want[i] = life << 48 | i;

	want[X4] = MMIO_GPA;
	want[X9] = 0;

	for (i = 0; i < NR_GPRS; i++)
		vcpu_set_reg(vcpu, GPR(i), want[i]);

	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), guest_pc(vcpu, code));
}

/* Verify everything but x9 and x10, which belong to the guest code. */
static void check_gprs(struct __test_metadata *_metadata,
		       struct kvm_vcpu *vcpu, const unsigned long *want)
{
	int i;

	for (i = 0; i < NR_GPRS; i++) {
		unsigned long got = vcpu_get_reg(vcpu, GPR(i));

		if (i == X9 || i == X10)
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
	unsigned long got = vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.pc));

	EXPECT_EQ(want, got) {
		TH_LOG("PC is off by %ld bytes", got - want);
	}
}

/* Run up to the report: nothing skipped on the way, registers as they were. */
static void run_to_report(struct __test_metadata *_metadata,
			  struct kvm_vcpu *vcpu, const unsigned long *want)
{
	struct kvm_run *run = vcpu->run;
	unsigned long marks;

	vcpu_run(vcpu);
	ASSERT_EQ(KVM_EXIT_MMIO, run->exit_reason);
	ASSERT_EQ(REPORT_GPA, run->mmio.phys_addr);

	marks = vcpu_get_reg(vcpu, GPR(X9));
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
	ASSERT_EQ(KVM_EXIT_MMIO, run->exit_reason);
	ASSERT_EQ(MMIO_GPA, run->mmio.phys_addr);
	ASSERT_EQ(desc->is_write, run->mmio.is_write);
	ASSERT_EQ(sizeof(data), run->mmio.len);
	memcpy(&data, run->mmio.data, sizeof(data));
	if (run->mmio.is_write)
		TEST_ASSERT_EQ(data, want[X3]);

	check_pc(_metadata, vcpu, desc->insn);
	check_gprs(_metadata, vcpu, want);
}

/* Do what the VMM does about an exit. */
static void answer_exit(struct kvm_run *run, unsigned long value)
{
	memcpy(run->mmio.data, &value, sizeof(value));
}

/* What the guest is to see of it. */
static void expect_answer(const struct exit_desc *desc,
			  unsigned long value, unsigned long *want)
{
	if (!desc->is_write)
		want[X3] = value;
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

/* Have @caller turn @vcpu on, and work out the registers it is to start with. */
static void cpu_on(struct __test_metadata *_metadata, struct kvm_vcpu *caller,
		   struct kvm_vcpu *vcpu, unsigned long *want)
{
	unsigned long caller_want[NR_GPRS];
	u64 mpidr;

	set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
	mpidr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_MPIDR_EL1));

	set_regs(caller, guest_hvc, OLD_LIFE, caller_want);
	caller_want[X0] = PSCI_0_2_FN64_CPU_ON;
	caller_want[X1] = mpidr & MPIDR_HWID_BITMASK;
	caller_want[X2] = guest_pc(vcpu, NEW_ENTRY);
	caller_want[X3] = CONTEXT_ID;
	vcpu_args_set(caller, 4, caller_want[X0], caller_want[X1],
		      caller_want[X2], caller_want[X3]);

	caller_want[X0] = PSCI_RET_SUCCESS;
	caller_want[X1] = 0;
	caller_want[X2] = 0;
	caller_want[X3] = 0;
	run_to_report(_metadata, caller, caller_want);

	/* KVM zeroes what the PSCI specification leaves undefined. */
	memset(want, 0, NR_GPRS * sizeof(*want));
	want[X0] = CONTEXT_ID;
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

	vcpu_reset(vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, userspace_reset_immediate_exit)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);

	vcpu_reset(vcpu);
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

	vcpu_reset(vcpu);
	set_regs(vcpu, variant->exit.insn, NEW_LIFE, self->want);

	run_to_exit(_metadata, vcpu, &variant->exit, self->want);
	answer_exit(vcpu->run, ANSWER);
	expect_answer(&variant->exit, ANSWER, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, cpu_on)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);
	cpu_on(_metadata, self->caller, vcpu, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, cpu_on_get_reg)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);
	cpu_on(_metadata, self->caller, vcpu, self->want);

	check_pc(_metadata, vcpu, NEW_ENTRY);
	check_gprs(_metadata, vcpu, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, cpu_on_set_reg)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);
	cpu_on(_metadata, self->caller, vcpu, self->want);

	self->want[X0] = ~CONTEXT_ID;
	vcpu_set_reg(vcpu, GPR(X0), self->want[X0]);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, new_vcpu)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	vcpu->run->exit_reason = KVM_EXIT_MMIO;
	vcpu->run->mmio.is_write = variant->exit.is_write;
	answer_exit(vcpu->run, STALE_ANSWER);

	run_to_report(_metadata, vcpu, self->want);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
