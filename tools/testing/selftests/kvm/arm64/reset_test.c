// SPDX-License-Identifier: GPL-2.0-only
/*
 * reset_test - A vCPU that was reset has nothing left of its past
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
 *  - What userspace writes to kvm_run::exit_reason has no say in any of this.
 *
 * PSCI CPU_ON queues a reset, which KVM applies when somebody looks at the vCPU
 * or runs it.  This test verifies that:
 *  - KVM_ARM_VCPU_INIT drops a queued reset, and another CPU_ON can follow.
 *  - What KVM_SET_VCPU_EVENTS injects comes after a queued reset.
 *  - A stopped vCPU that sits in WFI notices that it was turned on.
 *
 * A reset vCPU reports no single-step from before the reset, and what a counter of
 * its PMU has counted by then is gone, along with the interrupt.
 *
 * Finally, this test verifies that neither a register nor a pending event tells
 * a vCPU with a past from a new one, after KVM_ARM_VCPU_INIT and after CPU_ON.
 *
 * All of that goes for KVM_MP_STATE_RESET, too, which in addition restores the
 * power state that KVM_ARM_VCPU_INIT asked for, and keeps the SVE vector lengths.
 * It refuses a vCPU that is yet to be initialized.  It leaves the GIC alone: what
 * is pending there ends a system suspend, before or after the reset.
 */
#include <pthread.h>
#include <time.h>

#include <linux/bits.h>
#include <linux/psci.h>
#include <linux/sizes.h>
#include <asm/cputype.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "gic_v3.h"
#include "vgic.h"

/* Not backed by memory, i.e. guest accesses are MMIO. */
#define MMIO_GPA	0x40000000ul
#define REPORT_GPA	0x40010000

#define SGI		5
#define PPI		22
#define PMU_PPI		23
#define SPI		40

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

/* Where the reset value of VBAR_EL1 takes a synchronous exception from EL1h. */
#define SYNC_VECTOR	0x200ul

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
GUEST_LABEL(guest_isr);
GUEST_CODE(guest_isr, "mrs	x3, isr_el1");
GUEST_LABEL(guest_sgi);
GUEST_CODE(guest_sgi, "msr	" __stringify(S3_0_C12_C11_5) ", x3");
GUEST_LABEL(guest_hvc);
GUEST_CODE(guest_hvc, "hvc	#0");
GUEST_LABEL(guest_wfi);
GUEST_CODE(guest_wfi, "wfi");
GUEST_LABEL(guest_smc);
GUEST_CODE(guest_smc, "smc	#0");

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

static struct kvm_vcpu *add_vcpu(struct kvm_vm *vm, u32 id,
				 const struct kvm_vcpu_init *init)
{
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, id);
	int feature = KVM_ARM_VCPU_SVE;

	/* Not what the library does, e.g. leave address translation off. */
	vcpu->init = *init;
	vcpu_reset(vcpu);

	if (init->features[0] & BIT(KVM_ARM_VCPU_SVE))
		vcpu_ioctl(vcpu, KVM_ARM_VCPU_FINALIZE, &feature);

	return vcpu;
}

static void init_pmu(struct kvm_vcpu *vcpu)
{
	int irq = PMU_PPI;

	vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_PMU_V3_CTRL,
			     KVM_ARM_VCPU_PMU_V3_IRQ, &irq);
	vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_PMU_V3_CTRL,
			     KVM_ARM_VCPU_PMU_V3_INIT, NULL);
}

static struct kvm_vm *create_vm(struct kvm_vcpu **caller,
				struct kvm_vcpu **vcpu, u32 features)
{
	struct kvm_vcpu_init init;
	struct kvm_vm *vm;

	vm = vm_create(2);

	kvm_get_default_vcpu_target(vm, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2) | features;
	init.features[0] &= ~BIT(KVM_ARM_VCPU_HAS_EL2);

	*caller = add_vcpu(vm, 0, &init);
	*vcpu = add_vcpu(vm, 1, &init);

	kvm_arch_vm_finalize_vcpus(vm);

	if (features & BIT(KVM_ARM_VCPU_PMU_V3)) {
		init_pmu(*caller);
		init_pmu(*vcpu);
	}

	return vm;
}

FIXTURE_SETUP(open_exit)
{
	self->vm = create_vm(&self->caller, &self->vcpu, 0);
}

FIXTURE_TEARDOWN(open_exit)
{
	kvm_vm_free(self->vm);
}

static unsigned long guest_pc(struct kvm_vcpu *vcpu, const char *code)
{
	return addr_gva2gpa(vcpu->vm, (gva_t)code);
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

/* All of the vCPUs are created running, unless told otherwise. */
static void request_reset(struct __test_metadata *_metadata,
			  struct kvm_vcpu *vcpu)
{
	unsigned long zeroes[NR_GPRS] = {};

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RESET);

	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, vcpu_get_mp_state(vcpu));
	EXPECT_EQ(0, vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.pc)));
	check_gprs(_metadata, vcpu, zeroes);
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
static void check_report(struct __test_metadata *_metadata,
			 struct kvm_vcpu *vcpu, const unsigned long *want)
{
	struct kvm_run *run = vcpu->run;
	unsigned long marks;

	ASSERT_EQ(KVM_EXIT_MMIO, run->exit_reason);
	ASSERT_EQ(REPORT_GPA, run->mmio.phys_addr);

	marks = vcpu_get_reg(vcpu, GPR(X9));
	EXPECT_EQ(ALL_MARKS, marks) {
		TH_LOG("Skipped instructions, marks are 0x%lx", marks);
	}

	check_gprs(_metadata, vcpu, want);
}

static void run_to_report(struct __test_metadata *_metadata,
			  struct kvm_vcpu *vcpu, const unsigned long *want)
{
	vcpu_run(vcpu);
	check_report(_metadata, vcpu, want);
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

/* KVM zeroes what the PSCI specification leaves undefined. */
static void expect_psci_entry(unsigned long *want)
{
	memset(want, 0, NR_GPRS * sizeof(*want));
	want[X0] = CONTEXT_ID;
}

/* Have @caller turn @vcpu on, and work out the registers it is to start with. */
static void cpu_on(struct __test_metadata *_metadata, struct kvm_vcpu *caller,
		   struct kvm_vcpu *vcpu, unsigned long *want)
{
	unsigned long caller_want[NR_GPRS];
	u64 mpidr;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
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

	expect_psci_entry(want);
}

TEST_F(open_exit, completes_once)
{
	const char *next = variant->exit.insn + INSN_SIZE;
	struct kvm_vcpu *vcpu = self->vcpu;

	set_regs(vcpu, variant->exit.insn, OLD_LIFE, self->want);
	run_to_exit(_metadata, vcpu, &variant->exit, self->want);

	answer_exit(vcpu->run, ANSWER);
	expect_answer(&variant->exit, ANSWER, self->want);

	vcpu_run_immediate_exit(vcpu);
	check_pc(_metadata, vcpu, next);
	check_gprs(_metadata, vcpu, self->want);

	answer_exit(vcpu->run, STALE_ANSWER);

	vcpu_run_immediate_exit(vcpu);
	check_pc(_metadata, vcpu, next);
	check_gprs(_metadata, vcpu, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

/* It is KVM that knows whether there is something to complete. */
TEST_F(open_exit, completes_once_exit_reason)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	set_regs(vcpu, variant->exit.insn, OLD_LIFE, self->want);
	run_to_exit(_metadata, vcpu, &variant->exit, self->want);

	answer_exit(vcpu->run, ANSWER);
	expect_answer(&variant->exit, ANSWER, self->want);

	vcpu->run->exit_reason = KVM_EXIT_UNKNOWN;
	vcpu_run_immediate_exit(vcpu);
	check_pc(_metadata, vcpu, variant->exit.insn + INSN_SIZE);
	check_gprs(_metadata, vcpu, self->want);

	vcpu->run->exit_reason = KVM_EXIT_MMIO;
	answer_exit(vcpu->run, STALE_ANSWER);
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

	vcpu_run_immediate_exit(vcpu);
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

TEST_F(open_exit, reset_request)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);

	request_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, reset_request_immediate_exit)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);

	request_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	vcpu_run_immediate_exit(vcpu);
	check_pc(_metadata, vcpu, NEW_ENTRY);
	check_gprs(_metadata, vcpu, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

/* Nothing of the new life has been stepped over yet. */
static void test_single_step(struct __test_metadata *_metadata,
			     struct kvm_vcpu *vcpu, const struct exit_desc *desc,
			     unsigned long *want, void (*reset)(struct kvm_vcpu *))
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
	};

	vcpu_guest_debug_set(vcpu, &debug);
	end_old_life(_metadata, vcpu, desc, want);

	/* The step over the instruction is done, but yet to be reported. */
	vcpu_run_immediate_exit(vcpu);
	check_pc(_metadata, vcpu, desc->insn + INSN_SIZE);

	reset(vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, want);

	vcpu_run(vcpu);
	ASSERT_EQ(KVM_EXIT_DEBUG, vcpu->run->exit_reason);
	check_pc(_metadata, vcpu, NEW_ENTRY + INSN_SIZE);

	debug.control = 0;
	vcpu_guest_debug_set(vcpu, &debug);
	run_to_report(_metadata, vcpu, want);
}

TEST_F(open_exit, userspace_reset_single_step)
{
	test_single_step(_metadata, self->vcpu, &variant->exit, self->want,
			 vcpu_reset);
}

static void mp_state_reset(struct kvm_vcpu *vcpu)
{
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RESET);
}

TEST_F(open_exit, reset_request_single_step)
{
	test_single_step(_metadata, self->vcpu, &variant->exit, self->want,
			 mp_state_reset);
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

FIXTURE(queued_reset) {
	struct kvm_vm *vm;
	struct kvm_vcpu *caller;
	struct kvm_vcpu *vcpu;
	unsigned long want[NR_GPRS];
};

FIXTURE_SETUP(queued_reset)
{
	self->vm = create_vm(&self->caller, &self->vcpu, 0);

	set_regs(self->vcpu, NEW_ENTRY, OLD_LIFE, self->want);
	run_to_report(_metadata, self->vcpu, self->want);
	cpu_on(_metadata, self->caller, self->vcpu, self->want);
}

FIXTURE_TEARDOWN(queued_reset)
{
	kvm_vm_free(self->vm);
}

static void inject_abort(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events = {
		.exception.ext_dabt_pending = true,
	};

	vcpu_events_set(vcpu, &events);
}

/* The abort was taken where the vCPU has been reset to, for no access of it. */
static void check_abort(struct __test_metadata *_metadata,
			struct kvm_vcpu *vcpu, unsigned long pc)
{
	EXPECT_EQ(SYNC_VECTOR, vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.pc)));
	EXPECT_EQ(pc, vcpu_get_reg(vcpu, ARM64_CORE_REG(elr_el1)));
	EXPECT_EQ(ESR_ELx_EC_DABT_CUR,
		  ESR_ELx_EC(vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_ESR_EL1))));
	EXPECT_EQ(0, vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_FAR_EL1)));
}

TEST_F(queued_reset, userspace_reset)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_reset(vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued_reset, userspace_reset_inject_abort)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_reset(vcpu);
	inject_abort(vcpu);

	check_abort(_metadata, vcpu, 0);
	memset(self->want, 0, sizeof(self->want));
	check_gprs(_metadata, vcpu, self->want);
}

TEST_F(queued_reset, userspace_reset_power_off)
{
	struct kvm_vcpu *vcpu = self->vcpu;
	struct kvm_vcpu_init init = vcpu->init;
	struct kvm_mp_state mp_state;

	init.features[0] |= BIT(KVM_ARM_VCPU_POWER_OFF);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
	inject_abort(vcpu);

	vcpu_mp_state_get(vcpu, &mp_state);
	EXPECT_EQ(KVM_MP_STATE_STOPPED, mp_state.mp_state);
	check_abort(_metadata, vcpu, 0);

	vcpu_run_immediate_exit(self->caller);
	cpu_on(_metadata, self->caller, vcpu, self->want);
	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued_reset, reset_request)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	request_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued_reset, reset_request_inject_abort)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	request_reset(_metadata, vcpu);
	inject_abort(vcpu);

	check_abort(_metadata, vcpu, 0);
}

/* Powered off the way it was initialized, and ready to be turned on again. */
TEST_F(queued_reset, reset_request_power_off)
{
	struct kvm_vcpu *vcpu = self->vcpu;
	struct kvm_vcpu_init init = vcpu->init;

	init.features[0] |= BIT(KVM_ARM_VCPU_POWER_OFF);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RESET);
	EXPECT_EQ(KVM_MP_STATE_STOPPED, vcpu_get_mp_state(vcpu));

	vcpu_run_immediate_exit(self->caller);
	cpu_on(_metadata, self->caller, vcpu, self->want);
	run_to_report(_metadata, vcpu, self->want);
}

/* As of the last KVM_ARM_VCPU_INIT, whatever the one before has asked for. */
TEST_F(queued_reset, reset_request_power_on)
{
	struct kvm_vcpu *vcpu = self->vcpu;
	struct kvm_vcpu_init init = vcpu->init;

	init.features[0] |= BIT(KVM_ARM_VCPU_POWER_OFF);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
	EXPECT_EQ(KVM_MP_STATE_STOPPED, vcpu_get_mp_state(vcpu));

	vcpu_reset(vcpu);
	ASSERT_EQ(KVM_MP_STATE_RUNNABLE, vcpu_get_mp_state(vcpu));
	request_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued_reset, reset_request_suspended)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_SUSPENDED);
	request_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued_reset, inject_abort)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	inject_abort(vcpu);

	check_abort(_metadata, vcpu, guest_pc(vcpu, NEW_ENTRY));
	check_gprs(_metadata, vcpu, self->want);
}

TEST_F(queued_reset, inject_serror)
{
	struct kvm_vcpu *vcpu = self->vcpu;
	struct kvm_vcpu_events events = {
		.exception.serror_pending = true,
	};

	vcpu_events_set(vcpu, &events);

	check_pc(_metadata, vcpu, NEW_ENTRY);
	check_gprs(_metadata, vcpu, self->want);

	vcpu_events_get(vcpu, &events);
	EXPECT_TRUE(events.exception.serror_pending);
}

static void *run_thread(void *vcpu)
{
	vcpu_run(vcpu);

	return NULL;
}

/* What CPU_ON returns.  @vcpu may be in KVM_RUN: do not look at it. */
static long call_cpu_on(struct kvm_vcpu *caller, u64 mpidr,
			struct kvm_vcpu *vcpu)
{
	unsigned long caller_want[NR_GPRS];

	vcpu_run_immediate_exit(caller);
	set_regs(caller, guest_hvc, OLD_LIFE, caller_want);
	vcpu_args_set(caller, 4, (u64)PSCI_0_2_FN64_CPU_ON,
		      mpidr & MPIDR_HWID_BITMASK,
		      (u64)guest_pc(vcpu, NEW_ENTRY), CONTEXT_ID);
	vcpu_run(caller);

	return vcpu_get_reg(caller, GPR(X0));
}

/* Stop @vcpu while it sleeps in KVM_RUN, and turn it on again. */
static void cpu_on_asleep(struct __test_metadata *_metadata,
			  struct kvm_vcpu *caller, struct kvm_vcpu *vcpu,
			  unsigned long *want)
{
	unsigned long caller_want[NR_GPRS];
	struct timespec deadline;
	pthread_t thread;
	u64 mpidr;
	int i;

	mpidr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_MPIDR_EL1));
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_thread, vcpu));

	/* It never blocks if the host lets guests execute WFI. */
	for (i = 0; i < 5000 && !vcpu_get_stat(vcpu, blocking); i++)
		usleep(1000);

	/* Stop all vCPUs, but let the guest go on. */
	vcpu_run_immediate_exit(caller);
	set_regs(caller, guest_hvc, OLD_LIFE, caller_want);
	vcpu_args_set(caller, 1, (u64)PSCI_0_2_FN_SYSTEM_OFF);
	vcpu_run(caller);
	ASSERT_EQ(KVM_EXIT_SYSTEM_EVENT, caller->run->exit_reason);
	vcpu_set_mp_state(caller, KVM_MP_STATE_RUNNABLE);

	ASSERT_EQ(PSCI_RET_SUCCESS, call_cpu_on(caller, mpidr, vcpu));

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += 5;
	ASSERT_EQ(0, pthread_timedjoin_np(thread, NULL, &deadline)) {
		TH_LOG("CPU_ON did not wake up the vCPU");
	}

	expect_psci_entry(want);
	check_report(_metadata, vcpu, want);
}

/* A stopped vCPU that sits in WFI has to notice that it was turned on. */
TEST_F(queued_reset, wfi)
{
	vcpu_reset(self->vcpu);
	set_regs(self->vcpu, guest_wfi, OLD_LIFE, self->want);

	cpu_on_asleep(_metadata, self->caller, self->vcpu, self->want);
}

/* So has one that is suspended, and nothing has woken it up from that. */
TEST_F(queued_reset, suspended)
{
	vcpu_reset(self->vcpu);
	set_regs(self->vcpu, guest_wfi, OLD_LIFE, self->want);
	vcpu_set_mp_state(self->vcpu, KVM_MP_STATE_SUSPENDED);

	cpu_on_asleep(_metadata, self->caller, self->vcpu, self->want);
}

/*
 * Turn a vCPU on while its KVM_RUN waits for that.  KVM has yet to move the PC
 * behind the SMC that has turned it off.
 */
TEST_F(queued_reset, cpu_off_smc)
{
	struct kvm_vcpu *caller = self->caller, *vcpu = self->vcpu;
	pthread_t thread;
	u64 mpidr;
	long ret;

	vcpu_reset(vcpu);
	mpidr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_MPIDR_EL1));
	set_regs(vcpu, guest_smc, OLD_LIFE, self->want);
	vcpu_args_set(vcpu, 1, (u64)PSCI_0_2_FN_CPU_OFF);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_thread, vcpu));

	do {
		ret = call_cpu_on(caller, mpidr, vcpu);
	} while (ret == PSCI_RET_ALREADY_ON);
	ASSERT_EQ(PSCI_RET_SUCCESS, ret);
	pthread_join(thread, NULL);

	expect_psci_entry(self->want);
	check_report(_metadata, vcpu, self->want);
}

/* Large enough for any register. */
struct reg {
	u8 bytes[256];
};

FIXTURE(past) {
	struct kvm_vm *vm;
	struct kvm_vcpu *caller;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *new_vm;
	struct kvm_vcpu *new_caller;
	struct kvm_vcpu *new_vcpu;
	struct kvm_reg_list *list;
	unsigned long want[NR_GPRS];
};

static u32 all_features(void)
{
	u32 features = 0;

	if (kvm_has_cap(KVM_CAP_ARM_SVE))
		features |= BIT(KVM_ARM_VCPU_SVE);
	if (kvm_has_cap(KVM_CAP_ARM_PTRAUTH_ADDRESS) &&
	    kvm_has_cap(KVM_CAP_ARM_PTRAUTH_GENERIC))
		features |= BIT(KVM_ARM_VCPU_PTRAUTH_ADDRESS) |
			    BIT(KVM_ARM_VCPU_PTRAUTH_GENERIC);

	if (kvm_has_cap(KVM_CAP_ARM_PMU_V3) && kvm_arch_has_default_irqchip())
		features |= BIT(KVM_ARM_VCPU_PMU_V3);

	return features;
}

FIXTURE_SETUP(past)
{
	u32 features = all_features();

	self->vm = create_vm(&self->caller, &self->vcpu, features);
	self->new_vm = create_vm(&self->new_caller, &self->new_vcpu, features);
	self->list = vcpu_get_reg_list(self->vcpu);
}

FIXTURE_TEARDOWN(past)
{
	free(self->list);
	kvm_vm_free(self->new_vm);
	kvm_vm_free(self->vm);
}

static struct reg get_reg(struct kvm_vcpu *vcpu, u64 id)
{
	struct reg reg = {};

	TEST_ASSERT(KVM_REG_SIZE(id) <= sizeof(reg), "Huge register 0x%lx", id);
	TEST_ASSERT(!__vcpu_get_reg(vcpu, id, &reg),
		    "KVM_GET_ONE_REG 0x%lx failed, errno %d", id, errno);

	return reg;
}

/* What the vCPU is, as opposed to what it has done, and what never stops. */
static bool is_state(u64 id)
{
	u64 id_space = KVM_ARM64_SYS_REG(SYS_MIDR_EL1);
	u64 space_mask = KVM_REG_ARM64_SYSREG_OP0_MASK |
			 KVM_REG_ARM64_SYSREG_CRN_MASK;

	switch (id & KVM_REG_ARM_COPROC_MASK) {
	case KVM_REG_ARM_FW:
	case KVM_REG_ARM_FW_FEAT_BMAP:
	case KVM_REG_ARM_DEMUX:
		return false;
	case KVM_REG_ARM64_SYSREG:
		break;
	default:
		return id != KVM_REG_ARM64_SVE_VLS;
	}

	if (id == KVM_REG_ARM_TIMER_CNT || id == KVM_REG_ARM_PTIMER_CNT)
		return false;

	/* CSSELR_EL1 lives among the ID registers. */
	return (id & space_mask) != (id_space & space_mask) ||
	       id == KVM_ARM64_SYS_REG(SYS_CSSELR_EL1);
}

/* Leave a trace wherever it is possible. */
static void make_past(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
		      const struct kvm_reg_list *list, unsigned long *want)
{
	struct kvm_vcpu_events events = {
		.exception.serror_pending = true,
	};
	unsigned int i, j, nr_dirty = 0;

	set_regs(vcpu, NEW_ENTRY, OLD_LIFE, want);
	run_to_report(_metadata, vcpu, want);

	vcpu_events_set(vcpu, &events);
	vcpu_events_get(vcpu, &events);
	ASSERT_TRUE(events.exception.serror_pending);

	for (i = 0; i < list->n; i++) {
		struct reg old = get_reg(vcpu, list->reg[i]), new = old;
		struct kvm_one_reg one_reg = {
			.id = list->reg[i],
			.addr = (u64)&new,
		};

		if (!is_state(list->reg[i]))
			continue;

		for (j = 0; j < KVM_REG_SIZE(list->reg[i]); j++)
			new.bytes[j] ^= 0xff;

		/* The mode is all that has invalid values. */
		if (list->reg[i] == ARM64_CORE_REG(regs.pstate))
			new.bytes[0] = old.bytes[0];

		__vcpu_ioctl(vcpu, KVM_SET_ONE_REG, &one_reg);
		new = get_reg(vcpu, list->reg[i]);
		nr_dirty += !!memcmp(&old, &new, sizeof(old));
	}

	TH_LOG("%u of %llu registers have a past", nr_dirty, list->n);
}

/* Compare @vcpu with @new, ASSERT_EQ() would not tell which register it was. */
static void check_no_past(struct __test_metadata *_metadata,
			  struct kvm_vcpu *vcpu, struct kvm_vcpu *new,
			  const struct kvm_reg_list *list)
{
	struct kvm_vcpu_events events, new_events;
	unsigned int i;

	vcpu_events_get(vcpu, &events);
	vcpu_events_get(new, &new_events);
	EXPECT_EQ(new_events.exception.serror_pending,
		  events.exception.serror_pending);
	EXPECT_EQ(new_events.exception.serror_esr,
		  events.exception.serror_esr);

	for (i = 0; i < list->n; i++) {
		struct reg got = get_reg(vcpu, list->reg[i]);
		struct reg want = get_reg(new, list->reg[i]);

		if (!is_state(list->reg[i]))
			continue;

		EXPECT_EQ(0, memcmp(&want, &got, sizeof(want))) {
			TH_LOG("Register 0x%llx differs", list->reg[i]);
		}
	}
}

/* Run @new as it is, except for what is passed to PSCI CPU_ON. */
static void start_new(struct kvm_vcpu *new, unsigned long *want)
{
	memset(want, 0, NR_GPRS * sizeof(*want));
	want[X0] = CONTEXT_ID;

	vcpu_set_reg(new, GPR(X0), CONTEXT_ID);
	vcpu_set_reg(new, ARM64_CORE_REG(regs.pc), guest_pc(new, NEW_ENTRY));
}

TEST_F(past, reset_request)
{
	make_past(_metadata, self->vcpu, self->list, self->want);

	request_reset(_metadata, self->vcpu);
	check_no_past(_metadata, self->vcpu, self->new_vcpu, self->list);

	start_new(self->vcpu, self->want);
	start_new(self->new_vcpu, self->want);
	run_to_report(_metadata, self->vcpu, self->want);
	run_to_report(_metadata, self->new_vcpu, self->want);
	check_no_past(_metadata, self->vcpu, self->new_vcpu, self->list);
}

TEST_F(past, userspace_reset)
{
	make_past(_metadata, self->vcpu, self->list, self->want);

	vcpu_reset(self->vcpu);
	check_no_past(_metadata, self->vcpu, self->new_vcpu, self->list);

	start_new(self->vcpu, self->want);
	start_new(self->new_vcpu, self->want);
	run_to_report(_metadata, self->vcpu, self->want);
	run_to_report(_metadata, self->new_vcpu, self->want);
	check_no_past(_metadata, self->vcpu, self->new_vcpu, self->list);
}

FIXTURE(pmu) {
	struct kvm_vm *vm;
	struct kvm_vcpu *caller;
	struct kvm_vcpu *vcpu;
	unsigned long want[NR_GPRS];
};

FIXTURE_SETUP(pmu)
{
	if (!kvm_has_cap(KVM_CAP_ARM_PMU_V3) || !kvm_arch_has_default_irqchip())
		SKIP(return, "No PMU, or no GIC for its interrupt");

	self->vm = create_vm(&self->caller, &self->vcpu,
			     BIT(KVM_ARM_VCPU_PMU_V3));
}

FIXTURE_TEARDOWN(pmu)
{
	kvm_vm_free(self->vm);
}

/* Let the cycle counter count until the report. */
static void run_counter(struct __test_metadata *_metadata,
			struct kvm_vcpu *vcpu, unsigned long *want)
{
	u64 pmccntr = KVM_ARM64_SYS_REG(SYS_PMCCNTR_EL0);
	u64 pmcr = KVM_ARM64_SYS_REG(SYS_PMCR_EL0);

	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_PMCNTENSET_EL0), BIT(31));
	vcpu_set_reg(vcpu, pmcr, vcpu_get_reg(vcpu, pmcr) | BIT(0));
	vcpu_set_reg(vcpu, pmccntr, 0);
	set_regs(vcpu, NEW_ENTRY, OLD_LIFE, want);
	run_to_report(_metadata, vcpu, want);
	ASSERT_NE(0, vcpu_get_reg(vcpu, pmccntr)) {
		TH_LOG("The counter does not count");
	}
}

/* The cycles that a counter has seen do not come back in its register. */
TEST_F(pmu, counter_userspace_reset)
{
	u64 pmccntr = KVM_ARM64_SYS_REG(SYS_PMCCNTR_EL0), val;
	struct kvm_vcpu *vcpu = self->vcpu;

	val = vcpu_get_reg(vcpu, pmccntr);
	run_counter(_metadata, vcpu, self->want);

	vcpu_reset(vcpu);
	EXPECT_EQ(val, vcpu_get_reg(vcpu, pmccntr));
}

TEST_F(pmu, counter_cpu_on)
{
	u64 pmccntr = KVM_ARM64_SYS_REG(SYS_PMCCNTR_EL0), val;
	struct kvm_vcpu *vcpu = self->vcpu;

	val = vcpu_get_reg(vcpu, pmccntr);
	run_counter(_metadata, vcpu, self->want);

	cpu_on(_metadata, self->caller, vcpu, self->want);
	EXPECT_EQ(val, vcpu_get_reg(vcpu, pmccntr));
}

static bool pmu_irq_level(struct kvm_vcpu *vcpu)
{
	u64 attr = (u64)vcpu->id << 32 | VGIC_LEVEL_INFO_LINE_LEVEL <<
		   KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT;
	u32 level;

	kvm_device_attr_get(vcpu->vm->arch.gic_fd,
			    KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, attr, &level);

	return level & BIT(PMU_PPI);
}

TEST_F(pmu, counter_reset_request)
{
	u64 pmccntr = KVM_ARM64_SYS_REG(SYS_PMCCNTR_EL0), val;
	struct kvm_vcpu *vcpu = self->vcpu;

	val = vcpu_get_reg(vcpu, pmccntr);
	run_counter(_metadata, vcpu, self->want);

	request_reset(_metadata, vcpu);
	EXPECT_EQ(val, vcpu_get_reg(vcpu, pmccntr));
}

/* With its registers reset, the PMU doesn't ask for an interrupt. */
static void test_pmu_irq(struct __test_metadata *_metadata,
			 struct kvm_vcpu *vcpu, unsigned long *want,
			 void (*reset)(struct kvm_vcpu *))
{
	u64 pmcr = KVM_ARM64_SYS_REG(SYS_PMCR_EL0);

	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_PMOVSSET_EL0), BIT(31));
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_PMINTENSET_EL1), BIT(31));
	vcpu_set_reg(vcpu, pmcr, vcpu_get_reg(vcpu, pmcr) | BIT(0));
	set_regs(vcpu, NEW_ENTRY, OLD_LIFE, want);
	run_to_report(_metadata, vcpu, want);
	ASSERT_TRUE(pmu_irq_level(vcpu));

	reset(vcpu);
	EXPECT_FALSE(pmu_irq_level(vcpu));
}

TEST_F(pmu, irq_userspace_reset)
{
	test_pmu_irq(_metadata, self->vcpu, self->want, vcpu_reset);
}

TEST_F(pmu, irq_reset_request)
{
	test_pmu_irq(_metadata, self->vcpu, self->want, mp_state_reset);
}

TEST_F(past, cpu_on)
{
	make_past(_metadata, self->vcpu, self->list, self->want);

	cpu_on(_metadata, self->caller, self->vcpu, self->want);

	start_new(self->new_vcpu, self->want);
	run_to_report(_metadata, self->vcpu, self->want);
	run_to_report(_metadata, self->new_vcpu, self->want);
	check_no_past(_metadata, self->vcpu, self->new_vcpu, self->list);
}

TEST_F(past, cpu_on_get_events)
{
	make_past(_metadata, self->vcpu, self->list, self->want);

	cpu_on(_metadata, self->caller, self->vcpu, self->want);

	start_new(self->new_vcpu, self->want);
	check_no_past(_metadata, self->vcpu, self->new_vcpu, self->list);
}

/* The GIC is a device.  Its registers, and the bits that can be changed. */
struct gic_reg {
	u32 group;
	u32 attr;
	u64 mask;
};

#define GICD(offset, mask) { KVM_DEV_ARM_VGIC_GRP_DIST_REGS, offset, mask }
#define GICR(offset, mask) { KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, offset, mask }
#define ICC(reg, mask)	{ KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, (reg) >> 5, mask }

static const struct gic_reg gicd_ctlr = GICD(GICD_CTLR, 0);
static const struct gic_reg gicd_isenabler1 = GICD(GICD_ISENABLER + 4, 0);
static const struct gic_reg gicr_isenabler0 = GICR(SZ_64K + GICD_ISENABLER, 0);
static const struct gic_reg icc_pmr = ICC(SYS_ICC_PMR_EL1, 0);
static const struct gic_reg icc_igrpen1 = ICC(SYS_ICC_IGRPEN1_EL1, 0);

/* Nothing that a timer, or the PMU, has a say in. */
static const struct gic_reg gic_regs[] = {
	GICR(SZ_64K + GICD_IGROUPR, BIT(PPI) | BIT(SGI)),
	GICR(SZ_64K + GICD_ISENABLER, BIT(PPI)),
	GICR(SZ_64K + GICD_ISPENDR, BIT(PPI) | BIT(SGI)),
	GICR(SZ_64K + GICD_ISACTIVER, BIT(SGI)),
	GICR(SZ_64K + GICD_IPRIORITYR, 0xf8f8f8f8),
	GICR(GICR_PENDBASER, GENMASK(31, 16)),
	ICC(SYS_ICC_PMR_EL1, 0xf8),
	ICC(SYS_ICC_BPR1_EL1, 7),
	ICC(SYS_ICC_AP1R0_EL1, 0x10),
	ICC(SYS_ICC_CTLR_EL1, ICC_CTLR_EL1_EOImode_MASK),
	ICC(SYS_ICC_IGRPEN1_EL1, 1),
};

/* The affinity level 0 is the id, as long as there are only few vCPUs. */
static u64 gic_attr(struct kvm_vcpu *vcpu, const struct gic_reg *reg)
{
	return (u64)vcpu->id << 32 | reg->attr;
}

static u64 get_gic_reg(struct kvm_vcpu *vcpu, const struct gic_reg *reg)
{
	u64 val = 0;

	kvm_device_attr_get(vcpu->vm->arch.gic_fd, reg->group,
			    gic_attr(vcpu, reg), &val);

	return val;
}

static void set_gic_reg(struct kvm_vcpu *vcpu, const struct gic_reg *reg,
			u64 val)
{
	kvm_device_attr_set(vcpu->vm->arch.gic_fd, reg->group,
			    gic_attr(vcpu, reg), &val);
}

FIXTURE(gic) {
	struct kvm_vm *vm;
	struct kvm_vcpu *caller;
	struct kvm_vcpu *vcpu;
	unsigned long want[NR_GPRS];
};

FIXTURE_VARIANT(gic) {
	u32 intid;
};

FIXTURE_VARIANT_ADD(gic, sgi) {
	.intid = SGI,
};

FIXTURE_VARIANT_ADD(gic, ppi) {
	.intid = PPI,
};

FIXTURE_VARIANT_ADD(gic, spi) {
	.intid = SPI,
};

/* As the guest has set it up. */
static void enable_gic(struct kvm_vcpu *vcpu)
{
	const struct gic_reg irouter = GICD(GICD_IROUTER + SPI * 8, 0);
	const struct gic_reg irouter_hi = GICD(GICD_IROUTER + SPI * 8 + 4, 0);

	set_gic_reg(vcpu, &gicd_ctlr, get_gic_reg(vcpu, &gicd_ctlr) |
		    GICD_CTLR_ARE_NS | GICD_CTLR_ENABLE_SS_G1);
	set_gic_reg(vcpu, &irouter, vcpu->id);
	set_gic_reg(vcpu, &irouter_hi, 0);
	set_gic_reg(vcpu, &gicd_isenabler1, BIT(SPI - 32));
	set_gic_reg(vcpu, &gicr_isenabler0, BIT(PPI) | BIT(SGI));
	set_gic_reg(vcpu, &icc_pmr, 0xf0);
	set_gic_reg(vcpu, &icc_igrpen1, 1);
}

FIXTURE_SETUP(gic)
{
	if (!kvm_arch_has_default_irqchip())
		SKIP(return, "GICv3 not available");

	self->vm = create_vm(&self->caller, &self->vcpu, 0);
	vm_enable_cap(self->vm, KVM_CAP_ARM_SYSTEM_SUSPEND, 0);
	set_regs(self->vcpu, NEW_ENTRY, OLD_LIFE, self->want);
	run_to_report(_metadata, self->vcpu, self->want);
	enable_gic(self->vcpu);
}

FIXTURE_TEARDOWN(gic)
{
	kvm_vm_free(self->vm);
}

static void raise_irq(struct __test_metadata *_metadata,
		      struct kvm_vcpu *caller, u32 intid)
{
	unsigned long want[NR_GPRS];

	if (intid == SPI) {
		kvm_arm_irq_line(caller->vm, SPI, 1);
	} else if (intid == PPI) {
		/* To vCPU 1 */
		kvm_irq_line(caller->vm, KVM_ARM_IRQ_TYPE_PPI <<
			     KVM_ARM_IRQ_TYPE_SHIFT |
			     1 << KVM_ARM_IRQ_VCPU_SHIFT | PPI, 1);
	} else {
		set_regs(caller, guest_sgi, OLD_LIFE, want);
		want[X3] = (u64)SGI << 24 | BIT(1);
		vcpu_set_reg(caller, GPR(X3), want[X3]);
		run_to_report(_metadata, caller, want);
	}
}

/* The guest's own ones stay pending, for it has them masked after a reset. */
static void run_to_pending_irq(struct __test_metadata *_metadata,
			       struct kvm_vcpu *vcpu, unsigned long *want)
{
	set_regs(vcpu, guest_isr, NEW_LIFE, want);
	want[X3] = ISR_EL1_I;
	run_to_report(_metadata, vcpu, want);
}

/* Have the guest suspend the system. */
static void suspend(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
		    unsigned long *want)
{
	vcpu_run_immediate_exit(vcpu);
	set_regs(vcpu, guest_hvc, OLD_LIFE, want);
	vcpu_args_set(vcpu, 2, (u64)PSCI_1_0_FN64_SYSTEM_SUSPEND,
		      (u64)guest_pc(vcpu, NEW_ENTRY));
	vcpu_run(vcpu);
	ASSERT_EQ(KVM_EXIT_SYSTEM_EVENT, vcpu->run->exit_reason);
	ASSERT_EQ(KVM_SYSTEM_EVENT_SUSPEND, vcpu->run->system_event.type);
}

/* Wait in KVM_RUN, until the interrupt comes. */
static void wait_for_wakeup(struct __test_metadata *_metadata,
			    struct kvm_vcpu *caller, struct kvm_vcpu *vcpu,
			    u32 intid)
{
	struct timespec deadline;
	pthread_t thread;
	int i;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_SUSPENDED);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_thread, vcpu));
	for (i = 0; i < 5000 && !vcpu_get_stat(vcpu, blocking); i++)
		usleep(1000);

	raise_irq(_metadata, caller, intid);

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += 5;
	ASSERT_EQ(0, pthread_timedjoin_np(thread, NULL, &deadline)) {
		TH_LOG("The interrupt did not wake up the vCPU");
	}
	ASSERT_EQ(KVM_EXIT_SYSTEM_EVENT, vcpu->run->exit_reason);
	ASSERT_EQ(KVM_SYSTEM_EVENT_WAKEUP, vcpu->run->system_event.type);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
}

TEST_F(gic, suspend_reset_wait)
{
	suspend(_metadata, self->vcpu, self->want);

	request_reset(_metadata, self->vcpu);
	wait_for_wakeup(_metadata, self->caller, self->vcpu, variant->intid);

	run_to_pending_irq(_metadata, self->vcpu, self->want);
}

TEST_F(gic, suspend_wait_reset)
{
	suspend(_metadata, self->vcpu, self->want);

	wait_for_wakeup(_metadata, self->caller, self->vcpu, variant->intid);
	request_reset(_metadata, self->vcpu);

	run_to_pending_irq(_metadata, self->vcpu, self->want);
}

/* Pending already when the vCPU is reset, e.g. to serve CPU_ON. */
TEST_F(gic, pending_reset)
{
	raise_irq(_metadata, self->caller, variant->intid);
	request_reset(_metadata, self->vcpu);

	run_to_pending_irq(_metadata, self->vcpu, self->want);
}

/* Neither KVM_MP_STATE_RESET nor KVM_ARM_VCPU_INIT are about the GIC. */
TEST_F(past, gic)
{
	u64 want[ARRAY_SIZE(gic_regs)];
	int i, j;

	if (!self->vm->arch.has_gic)
		SKIP(return, "GICv3 not available");

	set_regs(self->vcpu, NEW_ENTRY, OLD_LIFE, self->want);
	run_to_report(_metadata, self->vcpu, self->want);

	for (i = 0; i < ARRAY_SIZE(gic_regs); i++) {
		u64 old = get_gic_reg(self->vcpu, &gic_regs[i]);

		set_gic_reg(self->vcpu, &gic_regs[i], old ^ gic_regs[i].mask);
		want[i] = get_gic_reg(self->vcpu, &gic_regs[i]);
		EXPECT_NE(old, want[i]) {
			TH_LOG("GIC register 0x%x of group %u has no past",
			       gic_regs[i].attr, gic_regs[i].group);
		}
	}

	for (j = 0; j < 2; j++) {
		if (j)
			vcpu_reset(self->vcpu);
		else
			request_reset(_metadata, self->vcpu);

		for (i = 0; i < ARRAY_SIZE(gic_regs); i++) {
			EXPECT_EQ(want[i], get_gic_reg(self->vcpu, &gic_regs[i])) {
				TH_LOG("GIC register 0x%x of group %u has changed",
				       gic_regs[i].attr, gic_regs[i].group);
			}
		}
	}
}

/* Without a GIC in the kernel, the inputs of the vCPU are those of userspace. */
TEST(reset_request_irq_lines)
{
	unsigned long want[NR_GPRS];
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm;
	u32 line;

	test_disable_default_vgic();
	vm = create_vm(&vcpus[0], &vcpus[1], 0);

	for (line = KVM_ARM_IRQ_CPU_IRQ; line <= KVM_ARM_IRQ_CPU_FIQ; line++)
		kvm_irq_line(vm, KVM_ARM_IRQ_TYPE_CPU << KVM_ARM_IRQ_TYPE_SHIFT |
			     vcpus[1]->id << KVM_ARM_IRQ_VCPU_SHIFT |
			     line << KVM_ARM_IRQ_NUM_SHIFT, 1);

	set_regs(vcpus[1], guest_isr, OLD_LIFE, want);
	want[X3] = ISR_EL1_I | ISR_EL1_F;
	run_to_report(_metadata, vcpus[1], want);

	request_reset(_metadata, vcpus[1]);

	set_regs(vcpus[1], guest_isr, NEW_LIFE, want);
	want[X3] = ISR_EL1_I | ISR_EL1_F;
	run_to_report(_metadata, vcpus[1], want);

	kvm_vm_free(vm);
}

#define NR_PAGES	16
#define PAGES_GPA	0x50000000ul

/* Stage 2 faults of a guest that reads a page it has mapped already. */
static u64 nr_exits(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
		    unsigned long *want)
{
	u64 before = vcpu_get_stat(vcpu, exits);
	int i;

	for (i = 0; i < NR_PAGES; i++) {
		set_regs(vcpu, guest_load, NEW_LIFE, want);
		want[X3] = 0;
		want[X4] = PAGES_GPA + i * getpagesize();
		vcpu_set_reg(vcpu, GPR(X4), want[X4]);
		run_to_report(_metadata, vcpu, want);
		vcpu_run_immediate_exit(vcpu);
	}

	return vcpu_get_stat(vcpu, exits) - before;
}

/* Whatever has to be done about caches is done by KVM, on the same hosts. */
TEST(reset_request_stage2)
{
	unsigned long want[NR_GPRS];
	struct kvm_vcpu *vcpus[2];
	u64 warm, init, request;
	struct kvm_vm *vm;

	vm = create_vm(&vcpus[0], &vcpus[1], 0);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, PAGES_GPA, 1,
				    NR_PAGES, 0);

	nr_exits(_metadata, vcpus[1], want);
	warm = nr_exits(_metadata, vcpus[1], want);

	vcpu_reset(vcpus[1]);
	init = nr_exits(_metadata, vcpus[1], want);

	request_reset(_metadata, vcpus[1]);
	request = nr_exits(_metadata, vcpus[1], want);

	TH_LOG("%d pages: %lu exits, %lu after KVM_ARM_VCPU_INIT, %lu after KVM_MP_STATE_RESET",
	       NR_PAGES, warm, init, request);
	EXPECT_EQ(init >= warm + NR_PAGES, request >= warm + NR_PAGES);

	kvm_vm_free(vm);
}

/* A vCPU that is yet to be finalized keeps the vector lengths chosen for it. */
TEST(reset_request_sve_vls)
{
	u64 vls[KVM_ARM64_SVE_VLS_WORDS] = { 1 };
	u64 got[KVM_ARM64_SVE_VLS_WORDS];
	struct kvm_one_reg one_reg = {
		.id = KVM_REG_ARM64_SVE_VLS,
		.addr = (u64)vls,
	};
	struct kvm_vcpu_init init;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	if (!kvm_has_cap(KVM_CAP_ARM_SVE))
		SKIP(return, "SVE not available");

	vm = vm_create(1);
	kvm_get_default_vcpu_target(vm, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_SVE);
	vcpu = __vm_vcpu_add(vm, 0);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
	vcpu_ioctl(vcpu, KVM_SET_ONE_REG, &one_reg);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RESET);

	one_reg.addr = (u64)got;
	vcpu_ioctl(vcpu, KVM_GET_ONE_REG, &one_reg);
	EXPECT_EQ(0, memcmp(vls, got, sizeof(vls))) {
		TH_LOG("Vector lengths are 0x%lx", got[0]);
	}

	kvm_vm_free(vm);
}

/* ID registers belong to the VM, another vCPU does not set them back. */
TEST(new_vcpu_id_regs)
{
	u64 id = KVM_ARM64_SYS_REG(SYS_ID_AA64ISAR0_EL1), val;
	struct kvm_vcpu_init init;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create(2);
	kvm_get_default_vcpu_target(vm, &init);
	vcpu = add_vcpu(vm, 0, &init);

	val = vcpu_get_reg(vcpu, id);
	if (!(val & ID_AA64ISAR0_EL1_AES_MASK))
		SKIP(goto out, "AES not available");

	val &= ~ID_AA64ISAR0_EL1_AES_MASK;
	vcpu_set_reg(vcpu, id, val);

	add_vcpu(vm, 1, &init);
	EXPECT_EQ(val, vcpu_get_reg(vcpu, id));
out:
	kvm_vm_free(vm);
}

/* Nothing to enable, but a vCPU has to be initialized first. */
TEST(reset_request_capability)
{
	struct kvm_mp_state mp_state = { .mp_state = KVM_MP_STATE_RESET };
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MP_STATE_RESET };
	struct kvm_vcpu_init init;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	EXPECT_EQ(1, kvm_check_cap(KVM_CAP_MP_STATE_RESET));

	vm = vm_create(1);
	EXPECT_EQ(1, vm_check_cap(vm, KVM_CAP_MP_STATE_RESET));
	EXPECT_EQ(-1, __vm_ioctl(vm, KVM_ENABLE_CAP, &cap));
	EXPECT_EQ(EINVAL, errno);

	vcpu = __vm_vcpu_add(vm, 0);
	EXPECT_EQ(-1, __vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp_state));
	EXPECT_EQ(ENOEXEC, errno);

	kvm_get_default_vcpu_target(vm, &init);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
	EXPECT_EQ(0, __vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp_state));

	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
