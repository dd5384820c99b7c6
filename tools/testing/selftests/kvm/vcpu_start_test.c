// SPDX-License-Identifier: GPL-2.0-only
/*
 * vcpu_start_test - A guest starts a vCPU, and userspace has a say in it
 *
 * SBI hart_start with KVM_CAP_EXIT_ON_VCPU_RESET on riscv and PSCI CPU_ON with
 * the SMCCC filter on arm64 exit to userspace, which does with KVM_MP_STATE_RESET
 * what KVM does otherwise, or doesn't.  This test verifies that:
 *  - Userspace starts the vCPU as KVM does: the guest sees the same registers,
 *    and so does userspace.
 *  - It may as well start it with registers of its own choice.
 *  - It refuses to, with an error of its choice or by ignoring the exit: the
 *    target is untouched.
 *  - CPUs that don't exist or are not stopped are not started.
 *  - The second of two calls for the same target is told so, and the first one
 *    is the one that counts.
 *  - None of this gets lost if the target is stopping itself, is waiting in
 *    KVM_RUN, or is called by several vCPUs at the same time.
 *  - Asking for the state of a vCPU, stopping one and waiting for an interrupt do
 *    not exit.
 *  - The exits can be turned on and off while calls are open.
 *  - The caller and the target can be saved and restored before and after a call
 *    is answered.
 *  - System suspend, SBI SUSP and PSCI SYSTEM_SUSPEND, is done with the same
 *    steps: the guest can't tell who has implemented it, it can be denied, and
 *    the wait can be interrupted, saved and restored.
 *  - Nothing exits unless userspace wants it to, and the capability refuses what
 *    it doesn't know.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "vcpu_start_test.h"
#include "vcpu_state.h"

#define OLD_LIFE	0x01d1ul
#define NEW_LIFE	0x4e3ful

#define NR_ROUNDS	200

static unsigned int nr_rounds = NR_ROUNDS;

static void check_same_view(const char *what, const struct guest_view *want,
			    const struct guest_view *got)
{
	int i, nr = 0;

	for (i = 0; i < NR_SLOTS; i++) {
		TEST_ASSERT(want->seen[i] == got->seen[i],
			    "%s: the guest sees slot %d or not", what, i);
		TEST_ASSERT(want->slot[i] == got->slot[i],
			    "%s: the guest sees 0x%lx in slot %d instead of 0x%lx",
			    what, got->slot[i], i, want->slot[i]);
		nr += got->seen[i];
	}
	pr_info("# %s: the guest sees the same in %d registers\n", what, nr);
}

/* Serve the exit if it is part of a view, and tell which part. */
static int add_to_view(struct kvm_vcpu *vcpu, struct guest_view *view)
{
	struct kvm_run *run = vcpu->run;
	u64 value;
	int slot;

	if (run->exit_reason != KVM_EXIT_MMIO || !run->mmio.is_write ||
	    run->mmio.phys_addr < VIEW_GPA ||
	    run->mmio.phys_addr > VIEW_GPA + SLOT_DONE * sizeof(value))
		return -1;

	TEST_ASSERT_EQ(run->mmio.len, sizeof(value));
	memcpy(&value, run->mmio.data, sizeof(value));

	slot = (run->mmio.phys_addr - VIEW_GPA) / sizeof(value);
	if (slot < NR_SLOTS) {
		TEST_ASSERT(!view->seen[slot], "vCPU %u, slot %d seen twice",
			    vcpu->id, slot);
		view->slot[slot] = value;
		view->seen[slot] = true;
	}

	return slot;
}

/* Run until the guest has told all it sees. */
static void run_to_view(struct kvm_vcpu *vcpu, struct guest_view *view)
{
	int slot;

	memset(view, 0, sizeof(*view));

	do {
		vcpu_run(vcpu);
		slot = add_to_view(vcpu, view);
		TEST_ASSERT(slot >= 0, "vCPU %u: unexpected exit %u (%s)",
			    vcpu->id, vcpu->run->exit_reason,
			    exit_reason_str(vcpu->run->exit_reason));
	} while (slot != SLOT_DONE);
}

static void run_to_call(struct kvm_vcpu *vcpu, const struct start_call *want)
{
	struct start_call call;

	vcpu_run(vcpu);
	TEST_ASSERT(get_call(vcpu, &call), "vCPU %u: unexpected exit %u (%s)",
		    vcpu->id, vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason));
	TEST_ASSERT_EQ(want->target, call.target);
	TEST_ASSERT_EQ(want->entry, call.entry);
	TEST_ASSERT_EQ(want->arg, call.arg);
}

/* The caller's view of what has become of its call. */
static enum start_result run_to_result(struct kvm_vcpu *vcpu)
{
	struct guest_view view;

	run_to_view(vcpu, &view);

	return get_result(&view);
}

/*
 * What a VMM does about a call, with the target out of KVM_RUN: have a look at
 * the target, reset it, set the registers, and let it go.
 */
static enum start_result start_target(struct kvm_vcpu *target,
				      const struct start_call *call)
{
	if (!target)
		return START_NO_SUCH_CPU;

	if (vcpu_get_mp_state(target) != KVM_MP_STATE_STOPPED)
		return START_ALREADY_ON;

	vcpu_set_mp_state(target, KVM_MP_STATE_RESET);
	set_start_regs(target, call);
	vcpu_set_mp_state(target, KVM_MP_STATE_RUNNABLE);

	return START_OK;
}

static struct kvm_vcpu *find_vcpu(struct kvm_vcpu **vcpus, u64 id)
{
	return id < NR_VCPUS ? vcpus[id] : NULL;
}

static enum start_result serve_call(struct kvm_vcpu **vcpus,
				    struct kvm_vcpu *vcpu)
{
	enum start_result result;
	struct start_call call;

	TEST_ASSERT(get_call(vcpu, &call), "Not a call");
	result = start_target(find_vcpu(vcpus, call.target), &call);
	answer_call(vcpu, result);

	return result;
}

FIXTURE(start) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vcpu *caller;
	struct kvm_vcpu *target;
	struct start_call call;
};

/* There are none on architectures that have only one kind of vCPUs. */
FIXTURE_VARIANT(start) {
	unsigned int kind;
};

#ifdef __aarch64__
FIXTURE_VARIANT_ADD(start, el1) {
	.kind = VCPU_EL1,
};

FIXTURE_VARIANT_ADD(start, el2) {
	.kind = VCPU_EL2,
};

FIXTURE_VARIANT_ADD(start, el2_e2h0) {
	.kind = VCPU_EL2_E2H0,
};
#endif

static struct kvm_vm *create_start_vm(struct kvm_vcpu **vcpus,
				      struct start_call *call, bool exits)
{
	struct kvm_vm *vm = create_vm(vcpus);

	if (exits)
		TEST_ASSERT(set_start_exits(vm, true), "Can't enable the exits");

	call->target = TARGET;
	call->entry = code_gpa(vm, guest_start);
	call->arg = VIEW_GPA;

	set_call(vcpus[CALLER], call);

	/* The target has a past. */
	set_own_regs(vcpus[TARGET], guest_own_start, OLD_LIFE);
	vcpu_set_mp_state(vcpus[TARGET], KVM_MP_STATE_STOPPED);

	return vm;
}

FIXTURE_SETUP(start)
{
	const char *missing = start_exits_missing();

	self->vm = NULL;
	if (!missing && variant)
		missing = select_vcpu_kind(variant->kind);
	if (missing)
		SKIP(return, "%s", missing);

	self->vm = create_start_vm(self->vcpus, &self->call, true);
	self->caller = self->vcpus[CALLER];
	self->target = self->vcpus[TARGET];

	/*
	 * With EL2, bits of registers that can't have another value get it when a
	 * vCPU of the VM is about to run.
	 */
	if (variant)
		vcpu_run_immediate_exit(self->caller);

	/* Each exit takes a multiple of what it takes without EL2. */
	if (variant && variant->kind)
		nr_rounds = NR_ROUNDS / 10;
}

FIXTURE_TEARDOWN(start)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

static void check_started(struct kvm_vcpu *target)
{
	struct guest_view view;

	TEST_ASSERT_EQ(vcpu_get_mp_state(target), KVM_MP_STATE_RUNNABLE);
	run_to_view(target, &view);
	check_start_view(&view, target->id, VIEW_GPA);
}

/* A VMM that has never heard of it. */
TEST(default_off)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct start_call call;
	struct kvm_vm *vm;

	vm = create_start_vm(vcpus, &call, false);

	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_OK);
	check_started(vcpus[TARGET]);
	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_ALREADY_ON);

	kvm_vm_free(vm);
}

TEST_F(start, allow)
{
	run_to_call(self->caller, &self->call);
	TEST_ASSERT_EQ(serve_call(self->vcpus, self->caller), START_OK);

	TEST_ASSERT_EQ(run_to_result(self->caller), START_OK);
	check_started(self->target);
}

/* The target runs before the call returns. */
TEST_F(start, allow_target_first)
{
	run_to_call(self->caller, &self->call);
	TEST_ASSERT_EQ(serve_call(self->vcpus, self->caller), START_OK);

	check_started(self->target);
	TEST_ASSERT_EQ(run_to_result(self->caller), START_OK);
}

/* Whoever starts a vCPU, it makes no difference for anyone. */
TEST_F(start, same_state)
{
	struct guest_view kernel_caller, kernel_target, caller, target;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct vcpu_state *want;
	struct start_call call;
	struct kvm_vm *vm;

	vm = create_start_vm(vcpus, &call, false);
	run_to_view(vcpus[CALLER], &kernel_caller);
	want = vcpu_state_get(vcpus[TARGET]);
	run_to_view(vcpus[TARGET], &kernel_target);

	run_to_call(self->caller, &self->call);
	serve_call(self->vcpus, self->caller);
	run_to_view(self->caller, &caller);
	vcpu_state_assert_same("target", want, self->target);
	run_to_view(self->target, &target);
	vcpu_state_free(want);

	check_same_view("caller", &kernel_caller, &caller);
	check_same_view("target", &kernel_target, &target);

	want = vcpu_state_get(vcpus[CALLER]);
	vcpu_state_assert_same("caller", want, self->caller);
	vcpu_state_free(want);

	/* It has run by now. */
	want = vcpu_state_get(vcpus[TARGET]);
	vcpu_state_assert_same("target after its first life", want, self->target);
	vcpu_state_free(want);

	kvm_vm_free(vm);
}

/*
 * A start is about the CPU: an interrupt controller is left alone, whether it is
 * KVM or userspace that serves the call.
 */
TEST_F(start, local_irqs)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct start_call call;
	struct kvm_vm *vm;

	vm = create_start_vm(vcpus, &call, false);
	if (!dirty_local_irqs(vcpus[TARGET])) {
		kvm_vm_free(vm);
		SKIP(return, "No such interrupt controller");
	}
	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_OK);
	TEST_ASSERT(local_irqs_dirty(vcpus[TARGET]), "Reset by a start");
	check_started(vcpus[TARGET]);
	TEST_ASSERT(local_irqs_dirty(vcpus[TARGET]), "Reset by a start");
	kvm_vm_free(vm);

	TEST_ASSERT(dirty_local_irqs(self->target), "It is not there anymore");
	run_to_call(self->caller, &self->call);
	vcpu_set_mp_state(self->target, KVM_MP_STATE_RESET);
	TEST_ASSERT(local_irqs_dirty(self->target), "Reset by the request");
	set_start_regs(self->target, &self->call);
	vcpu_set_mp_state(self->target, KVM_MP_STATE_RUNNABLE);
	answer_call(self->caller, START_OK);
	TEST_ASSERT_EQ(run_to_result(self->caller), START_OK);
	check_started(self->target);
	TEST_ASSERT(local_irqs_dirty(self->target), "Reset by the guest's start");
}

TEST_F(start, own_registers)
{
	struct guest_view view;

	run_to_call(self->caller, &self->call);
	vcpu_set_mp_state(self->target, KVM_MP_STATE_RESET);
	set_own_regs(self->target, guest_own_start, NEW_LIFE);
	vcpu_set_mp_state(self->target, KVM_MP_STATE_RUNNABLE);
	answer_call(self->caller, START_OK);

	TEST_ASSERT_EQ(run_to_result(self->caller), START_OK);
	run_to_view(self->target, &view);
	check_own_view(&view, NEW_LIFE);
}

/* The exit itself changes nothing, and neither does an error. */
TEST_F(start, refuse)
{
	struct vcpu_state *want;
	struct guest_view view;

	want = vcpu_state_get(self->target);

	run_to_call(self->caller, &self->call);
	TEST_ASSERT_EQ(vcpu_get_mp_state(self->target), KVM_MP_STATE_STOPPED);
	vcpu_state_assert_same("target, at the exit", want, self->target);

	answer_call(self->caller, START_REFUSED);
	TEST_ASSERT_EQ(run_to_result(self->caller), START_REFUSED);
	TEST_ASSERT_EQ(vcpu_get_mp_state(self->target), KVM_MP_STATE_STOPPED);
	vcpu_state_assert_same("target, refused", want, self->target);
	vcpu_state_free(want);

	/* It still knows where it was. */
	vcpu_set_mp_state(self->target, KVM_MP_STATE_RUNNABLE);
	run_to_view(self->target, &view);
	check_own_view(&view, OLD_LIFE);
}

/* Refused now doesn't mean refused forever. */
TEST_F(start, refuse_and_allow)
{
	run_to_call(self->caller, &self->call);
	answer_call(self->caller, START_REFUSED);
	TEST_ASSERT_EQ(run_to_result(self->caller), START_REFUSED);

	run_to_call(self->caller, &self->call);
	TEST_ASSERT_EQ(serve_call(self->vcpus, self->caller), START_OK);
	TEST_ASSERT_EQ(run_to_result(self->caller), START_OK);
	check_started(self->target);
}

TEST_F(start, ignore)
{
	struct vcpu_state *want;

	want = vcpu_state_get(self->target);
	run_to_call(self->caller, &self->call);
	TEST_ASSERT_EQ(run_to_result(self->caller), START_IGNORED);

	TEST_ASSERT_EQ(vcpu_get_mp_state(self->target), KVM_MP_STATE_STOPPED);
	vcpu_state_assert_same("target, ignored", want, self->target);
	vcpu_state_free(want);
}

/* Errors that KVM finds don't exit if it looks for them. */
static void check_error(struct kvm_vcpu **vcpus, const struct start_call *call,
			enum start_result result)
{
	struct kvm_vcpu *caller = vcpus[CALLER];

	if (!kernel_returns_errors) {
		run_to_call(caller, call);
		TEST_ASSERT_EQ(serve_call(vcpus, caller), result);
	}

	TEST_ASSERT_EQ(run_to_result(caller), result);
}

TEST_F(start, absent)
{
	self->call.target = ABSENT_ID;
	set_call(self->caller, &self->call);

	check_error(self->vcpus, &self->call, START_NO_SUCH_CPU);
}

TEST_F(start, already_on)
{
	struct guest_view view;

	vcpu_set_mp_state(self->target, KVM_MP_STATE_RUNNABLE);
	check_error(self->vcpus, &self->call, START_ALREADY_ON);

	run_to_view(self->target, &view);
	check_own_view(&view, OLD_LIFE);
}

TEST_F(start, itself)
{
	self->call.target = CALLER;
	set_call(self->caller, &self->call);

	check_error(self->vcpus, &self->call, START_ALREADY_ON);
}

/* Until userspace lets it go, unless it is the one that starts by itself. */
TEST_F(start, stopped_after_reset)
{
	vcpu_set_mp_state(self->target, KVM_MP_STATE_RUNNABLE);
	vcpu_set_mp_state(self->target, KVM_MP_STATE_RESET);
	TEST_ASSERT_EQ(vcpu_get_mp_state(self->target), KVM_MP_STATE_STOPPED);

	vcpu_set_mp_state(self->caller, KVM_MP_STATE_STOPPED);
	vcpu_set_mp_state(self->caller, KVM_MP_STATE_RESET);
	TEST_ASSERT_EQ(vcpu_get_mp_state(self->caller), KVM_MP_STATE_RUNNABLE);
}

/* The first one that userspace serves wins, whoever came first. */
TEST_F(start, two_callers)
{
	struct kvm_vcpu *other = self->vcpus[OTHER];
	struct start_call call = self->call;
	struct guest_view view;

	call.entry = code_gpa(self->vm, guest_own_start);
	set_call(other, &call);
	vcpu_set_mp_state(other, KVM_MP_STATE_RUNNABLE);

	run_to_call(other, &call);
	run_to_call(self->caller, &self->call);
	TEST_ASSERT_EQ(serve_call(self->vcpus, self->caller), START_OK);
	TEST_ASSERT_EQ(serve_call(self->vcpus, other), START_ALREADY_ON);

	TEST_ASSERT_EQ(run_to_result(other), START_ALREADY_ON);
	TEST_ASSERT_EQ(run_to_result(self->caller), START_OK);
	run_to_view(self->target, &view);
	check_start_view(&view, TARGET, VIEW_GPA);
}

static bool run_to_status(struct kvm_vcpu *vcpu)
{
	struct guest_view view;

	run_to_view(vcpu, &view);

	return get_status(&view);
}

/* The call isn't over, but the target is as soon as userspace says so. */
TEST_F(start, status)
{
	struct kvm_vcpu *other = self->vcpus[OTHER];

	set_status_call(other, TARGET);
	vcpu_set_mp_state(other, KVM_MP_STATE_RUNNABLE);
	TEST_ASSERT(!run_to_status(other), "On without having been started");

	run_to_call(self->caller, &self->call);
	TEST_ASSERT(!run_to_status(other), "On before it has been started");

	serve_call(self->vcpus, self->caller);
	TEST_ASSERT(run_to_status(other), "Off after it has been started");

	TEST_ASSERT_EQ(run_to_result(self->caller), START_OK);
	TEST_ASSERT(run_to_status(other), "Off after the call");
}

static void kick_handler(int sig)
{
}

/* It waits, i.e. a signal is what comes first. */
TEST_F(start, suspend)
{
	struct sigaction sa = { .sa_handler = kick_handler };

	set_suspend_call(self->caller);

	sigaction(SIGALRM, &sa, NULL);
	alarm(1);
	TEST_ASSERT(__vcpu_run(self->caller) == -1 && errno == EINTR,
		    "Exit %u (%s), errno %d", self->caller->run->exit_reason,
		    exit_reason_str(self->caller->run->exit_reason), errno);

	TEST_ASSERT_EQ(run_to_result(self->caller), START_OK);
}

TEST_F(start, disable_while_open)
{
	if (!set_start_exits(self->vm, true))
		SKIP(return, "The exits can't be changed");

	run_to_call(self->caller, &self->call);
	TEST_ASSERT(set_start_exits(self->vm, false), "Can't disable");
	TEST_ASSERT_EQ(serve_call(self->vcpus, self->caller), START_OK);

	TEST_ASSERT_EQ(run_to_result(self->caller), START_OK);
	check_started(self->target);

	/* From now on it's up to KVM. */
	vcpu_set_mp_state(self->target, KVM_MP_STATE_STOPPED);
	TEST_ASSERT_EQ(run_to_result(self->caller), START_OK);
	check_started(self->target);
}

/* Another vCPU has started the target with the help of KVM. */
TEST_F(start, overtaken_by_kernel)
{
	struct kvm_vcpu *other = self->vcpus[OTHER];

	if (!set_start_exits(self->vm, true))
		SKIP(return, "The exits can't be changed");

	set_call(other, &self->call);
	vcpu_set_mp_state(other, KVM_MP_STATE_RUNNABLE);

	run_to_call(self->caller, &self->call);
	TEST_ASSERT(set_start_exits(self->vm, false), "Can't disable");
	TEST_ASSERT_EQ(run_to_result(other), START_OK);

	TEST_ASSERT_EQ(serve_call(self->vcpus, self->caller), START_ALREADY_ON);
	TEST_ASSERT_EQ(run_to_result(self->caller), START_ALREADY_ON);
	check_started(self->target);
}

TEST_F(start, enable)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct start_call call;
	struct kvm_vm *vm;

	vm = create_start_vm(vcpus, &call, false);
	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_OK);

	if (!set_start_exits(vm, true)) {
		kvm_vm_free(vm);
		SKIP(return, "The exits can't be changed");
	}

	/* What KVM has served is not undone. */
	check_started(vcpus[TARGET]);

	vcpu_set_mp_state(vcpus[TARGET], KVM_MP_STATE_STOPPED);
	run_to_call(vcpus[CALLER], &call);
	TEST_ASSERT_EQ(serve_call(vcpus, vcpus[CALLER]), START_OK);
	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_OK);
	check_started(vcpus[TARGET]);

	kvm_vm_free(vm);
}

static void copy_vcpus(struct kvm_vcpu **from, struct kvm_vcpu **to)
{
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_copy_reg_list(from[i], to[i]);
		vcpu_set_mp_state(to[i], vcpu_get_mp_state(from[i]));
	}
}

/* Save all of the vCPUs and restore them into a new VM, the MP state last. */
static struct kvm_vm *migrate(struct kvm_vcpu **from, struct kvm_vcpu **to,
			      bool exits)
{
	struct kvm_vm *vm;

	vm = create_vm(to);
	if (exits)
		TEST_ASSERT(set_start_exits(vm, true), "Can't enable the exits");

	copy_vcpus(from, to);

	return vm;
}

/*
 * Saved with an exit that nobody has done anything about.  It either comes again,
 * or the VMM has to take it along.
 */
TEST_F(start, migrate_open)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm;

	run_to_call(self->caller, &self->call);
	vm = migrate(self->vcpus, vcpus, true);

	if (open_call_replays) {
		run_to_call(vcpus[CALLER], &self->call);
		TEST_ASSERT_EQ(serve_call(vcpus, vcpus[CALLER]), START_OK);
	} else {
		TEST_ASSERT_EQ(start_target(vcpus[TARGET], &self->call), START_OK);
		answer_call(vcpus[CALLER], START_OK);
	}

	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_OK);
	check_started(vcpus[TARGET]);
	kvm_vm_free(vm);
}

/* The same, but the new VM leaves it to KVM. */
TEST_F(start, migrate_open_default_off)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm;

	if (!open_call_replays)
		SKIP(return, "The call is not made again");

	run_to_call(self->caller, &self->call);
	vm = migrate(self->vcpus, vcpus, false);

	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_OK);
	check_started(vcpus[TARGET]);
	kvm_vm_free(vm);
}

/* Get done with the call, but don't run any further. */
static void complete_call(struct kvm_vcpu *vcpu)
{
	vcpu_run_immediate_exit(vcpu);
}

TEST_F(start, migrate_allowed)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm;

	run_to_call(self->caller, &self->call);
	TEST_ASSERT_EQ(serve_call(self->vcpus, self->caller), START_OK);
	complete_call(self->caller);
	vm = migrate(self->vcpus, vcpus, true);

	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_OK);
	check_started(vcpus[TARGET]);
	kvm_vm_free(vm);
}

TEST_F(start, migrate_refused)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct guest_view view;
	struct kvm_vm *vm;

	run_to_call(self->caller, &self->call);
	answer_call(self->caller, START_REFUSED);
	complete_call(self->caller);
	vm = migrate(self->vcpus, vcpus, true);

	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_REFUSED);
	TEST_ASSERT_EQ(vcpu_get_mp_state(vcpus[TARGET]), KVM_MP_STATE_STOPPED);
	vcpu_set_mp_state(vcpus[TARGET], KVM_MP_STATE_RUNNABLE);
	run_to_view(vcpus[TARGET], &view);
	check_own_view(&view, OLD_LIFE);
	kvm_vm_free(vm);
}

/* Looked at, i.e. saved without being shut down, and nothing is done twice. */
TEST_F(start, save_and_go_on)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];

	run_to_call(self->caller, &self->call);
	kvm_vm_free(migrate(self->vcpus, vcpus, true));
	TEST_ASSERT_EQ(serve_call(self->vcpus, self->caller), START_OK);
	kvm_vm_free(migrate(self->vcpus, vcpus, true));

	TEST_ASSERT_EQ(run_to_result(self->caller), START_OK);
	check_started(self->target);
}

/*
 * The rest is about a VMM with a thread per vCPU.  A target that is stopped waits
 * in KVM_RUN, where nobody else can get at it, so it has to be kicked out.
 */
struct cpu {
	struct vmm *vmm;
	struct kvm_vcpu *vcpu;
	pthread_t thread;

	/* In KVM_RUN, i.e. it owns the vCPU. */
	bool running;
	/* How many want it to stay out of KVM_RUN. */
	int paused;

	struct guest_view view;
	unsigned int views;
	unsigned int results[START_UNKNOWN + 1];
};

struct vmm {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool quit;
	unsigned int served[START_UNKNOWN + 1];
	struct cpu cpus[NR_VCPUS];
};

/* Both are needed, the thread may be on its way to KVM_RUN or already there. */
static void kick(struct cpu *cpu)
{
	WRITE_ONCE(cpu->vcpu->run->immediate_exit, 1);
	pthread_kill(cpu->thread, SIGUSR1);
}

static void pause_cpu(struct cpu *cpu)
{
	cpu->paused++;
	while (cpu->running) {
		kick(cpu);
		pthread_cond_wait(&cpu->vmm->cond, &cpu->vmm->lock);
	}
}

static void unpause_cpu(struct cpu *cpu)
{
	cpu->paused--;
	pthread_cond_broadcast(&cpu->vmm->cond);
}

static void handle_call(struct cpu *cpu)
{
	struct vmm *vmm = cpu->vmm;
	enum start_result result;
	struct start_call call;
	struct cpu *target;

	TEST_ASSERT(get_call(cpu->vcpu, &call), "vCPU %u: unexpected exit %u (%s)",
		    cpu->vcpu->id, cpu->vcpu->run->exit_reason,
		    exit_reason_str(cpu->vcpu->run->exit_reason));

	/* The lock is dropped here.  Look at the target afterwards. */
	target = &vmm->cpus[call.target];
	pause_cpu(target);
	result = start_target(target->vcpu, &call);
	unpause_cpu(target);

	answer_call(cpu->vcpu, result);
	vmm->served[result]++;
}

static void handle_exit(struct cpu *cpu)
{
	enum start_result result;
	int slot;

	slot = add_to_view(cpu->vcpu, &cpu->view);
	if (slot < 0) {
		handle_call(cpu);
		return;
	}
	if (slot != SLOT_DONE)
		return;

	if (cpu->vcpu->id == TARGET) {
		check_start_view(&cpu->view, TARGET, VIEW_GPA);
	} else {
		result = get_result(&cpu->view);
		TEST_ASSERT(result == START_OK || result == START_ALREADY_ON,
			    "vCPU %u: unexpected result %u", cpu->vcpu->id,
			    result);
		cpu->results[result]++;
	}

	memset(&cpu->view, 0, sizeof(cpu->view));
	cpu->views++;
	pthread_cond_broadcast(&cpu->vmm->cond);
}

static void *cpu_thread(void *arg)
{
	struct cpu *cpu = arg;
	struct vmm *vmm = cpu->vmm;
	int r;

	pthread_mutex_lock(&vmm->lock);
	while (!vmm->quit) {
		if (cpu->paused) {
			pthread_cond_wait(&vmm->cond, &vmm->lock);
			continue;
		}

		cpu->running = true;
		pthread_mutex_unlock(&vmm->lock);

		r = __vcpu_run(cpu->vcpu);
		TEST_ASSERT(!r || errno == EINTR, "vCPU %u: KVM_RUN: errno %d",
			    cpu->vcpu->id, errno);

		pthread_mutex_lock(&vmm->lock);
		cpu->running = false;
		cpu->vcpu->run->immediate_exit = 0;
		pthread_cond_broadcast(&vmm->cond);
		if (!r)
			handle_exit(cpu);
	}
	pthread_mutex_unlock(&vmm->lock);

	return NULL;
}

/* Let @callers start the target over and over again. */
static void run_threads(struct kvm_vcpu **vcpus, int nr_callers)
{
	struct sigaction sa = { .sa_handler = kick_handler };
	unsigned int ok, done, last = 0, idle = 0;
	struct timespec timeout;
	struct vmm vmm = {};
	int i;

	pthread_mutex_init(&vmm.lock, NULL);
	pthread_cond_init(&vmm.cond, NULL);
	sigaction(SIGUSR1, &sa, NULL);

	pthread_mutex_lock(&vmm.lock);
	for (i = 0; i < NR_VCPUS; i++) {
		vmm.cpus[i].vmm = &vmm;
		vmm.cpus[i].vcpu = vcpus[i];
		if (i == OTHER && nr_callers < 2)
			continue;
		TEST_ASSERT(!pthread_create(&vmm.cpus[i].thread, NULL,
					    cpu_thread, &vmm.cpus[i]),
			    "Can't create a thread");
	}

	/* Nothing gets stuck, i.e. there is no wakeup that is lost. */
	do {
		clock_gettime(CLOCK_REALTIME, &timeout);
		timeout.tv_sec++;
		pthread_cond_timedwait(&vmm.cond, &vmm.lock, &timeout);
		done = vmm.cpus[TARGET].views;
		if (done == last && time(NULL) >= timeout.tv_sec)
			idle++;
		else if (done != last)
			idle = 0;
		last = done;
		TEST_ASSERT(idle < 10, "The target does not start after %u lives",
			    done);
	} while (done < nr_rounds);

	vmm.quit = true;
	pthread_cond_broadcast(&vmm.cond);
	for (i = 0; i < NR_VCPUS; i++) {
		while (vmm.cpus[i].running) {
			kick(&vmm.cpus[i]);
			pthread_cond_wait(&vmm.cond, &vmm.lock);
		}
	}
	pthread_mutex_unlock(&vmm.lock);

	for (i = 0; i < NR_VCPUS; i++) {
		if (vmm.cpus[i].thread)
			pthread_join(vmm.cpus[i].thread, NULL);
	}

	/* A life for each start, the last of each may be unfinished. */
	ok = vmm.cpus[CALLER].results[START_OK] +
	     vmm.cpus[OTHER].results[START_OK];
	TEST_ASSERT(vmm.served[START_OK] >= ok &&
		    vmm.served[START_OK] <= ok + nr_callers,
		    "%u starts, the guest has seen %u", vmm.served[START_OK], ok);
	TEST_ASSERT(vmm.served[START_OK] >= done &&
		    vmm.served[START_OK] <= done + 1,
		    "%u starts, the target has seen %u", vmm.served[START_OK],
		    done);

	pr_info("# %u starts, %u of a vCPU that was on\n", vmm.served[START_OK],
		vmm.cpus[CALLER].results[START_ALREADY_ON] +
		vmm.cpus[OTHER].results[START_ALREADY_ON]);
}

/* The target stops itself while it is started. */
TEST_F_TIMEOUT(start, race_with_stop, 120)
{
	run_threads(self->vcpus, 1);
}

TEST_F_TIMEOUT(start, race_of_two_callers, 120)
{
	set_call(self->vcpus[OTHER], &self->call);
	vcpu_set_mp_state(self->vcpus[OTHER], KVM_MP_STATE_RUNNABLE);

	run_threads(self->vcpus, 2);
}

FIXTURE(suspend) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vcpu *vcpu;
	struct start_call call;
};

FIXTURE_VARIANT(suspend) {
	unsigned int kind;
};

#ifdef __aarch64__
FIXTURE_VARIANT_ADD(suspend, el1) {
	.kind = VCPU_EL1,
};

FIXTURE_VARIANT_ADD(suspend, el2) {
	.kind = VCPU_EL2,
};

FIXTURE_VARIANT_ADD(suspend, el2_e2h0) {
	.kind = VCPU_EL2_E2H0,
};
#endif

static const char *create_suspend_vm(struct kvm_vm **vm, struct kvm_vcpu **vcpus,
				     struct start_call *call)
{
	const char *missing;

	*vm = create_vm(vcpus);
	missing = enable_system_suspend(*vm, vcpus);
	if (missing)
		return missing;

	call->target = CALLER;
	call->entry = code_gpa(*vm, guest_start);
	call->arg = VIEW_GPA;
	set_system_suspend(vcpus[CALLER], call);

	return NULL;
}

FIXTURE_SETUP(suspend)
{
	const char *missing = NULL;

	self->vm = NULL;
	if (variant)
		missing = select_vcpu_kind(variant->kind);
	if (!missing)
		missing = create_suspend_vm(&self->vm, self->vcpus, &self->call);
	if (missing)
		SKIP(return, "%s", missing);

	self->vcpu = self->vcpus[CALLER];
}

FIXTURE_TEARDOWN(suspend)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

static void run_to_suspend(struct kvm_vcpu *vcpu, const struct start_call *want)
{
	struct start_call call;

	vcpu_run(vcpu);
	TEST_ASSERT(get_system_suspend(vcpu, &call),
		    "vCPU %u: unexpected exit %u (%s)", vcpu->id,
		    vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason));
	TEST_ASSERT_EQ(want->target, call.target);
	TEST_ASSERT_EQ(want->entry, call.entry);
	TEST_ASSERT_EQ(want->arg, call.arg);
}

/* All that it takes to resume, but the vCPU is yet to run. */
static void prepare_to_resume(struct kvm_vcpu *vcpu, const struct start_call *call,
			      u32 mp_state)
{
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RESET);
	set_start_regs(vcpu, call);
	vcpu_set_mp_state(vcpu, mp_state);
}

static void check_not_running(struct kvm_vcpu *vcpu)
{
	struct sigaction sa = { .sa_handler = kick_handler };

	sigaction(SIGALRM, &sa, NULL);
	alarm(1);
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && errno == EINTR,
		    "Exit %u (%s), errno %d", vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason), errno);
}

TEST_F(suspend, allow)
{
	run_to_suspend(self->vcpu, &self->call);
	prepare_to_resume(self->vcpu, &self->call, KVM_MP_STATE_RUNNABLE);
	check_started(self->vcpu);
}

TEST_F(suspend, deny)
{
	struct guest_view view;

	run_to_suspend(self->vcpu, &self->call);
	answer_call(self->vcpu, START_REFUSED);
	run_to_view(self->vcpu, &view);
	TEST_ASSERT_EQ(get_result(&view), START_REFUSED);

	/* Once more, it's not in a different state. */
	run_to_suspend(self->vcpu, &self->call);
	prepare_to_resume(self->vcpu, &self->call, KVM_MP_STATE_RUNNABLE);
	check_started(self->vcpu);
}

TEST_F(suspend, ignore)
{
	run_to_suspend(self->vcpu, &self->call);
	TEST_ASSERT_EQ(run_to_result(self->vcpu), START_IGNORED);
}

TEST_F(suspend, others_on)
{
	if (!kernel_returns_errors)
		SKIP(return, "It's up to userspace to look for others");

	vcpu_set_mp_state(self->vcpus[OTHER], KVM_MP_STATE_RUNNABLE);
	TEST_ASSERT_EQ(run_to_result(self->vcpu), START_REFUSED);
}

static void start_by_kernel(struct kvm_vcpu **vcpus,
			    const struct start_call *call)
{
	vcpu_set_mp_state(vcpus[CALLER], KVM_MP_STATE_STOPPED);
	set_call(vcpus[OTHER], call);
	vcpu_set_mp_state(vcpus[OTHER], KVM_MP_STATE_RUNNABLE);
	TEST_ASSERT_EQ(run_to_result(vcpus[OTHER]), START_OK);
}

/* Whoever resets the vCPU, it makes no difference for anyone. */
TEST_F(suspend, same_state)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct guest_view kernel, view;
	struct vcpu_state *want;
	struct start_call call;
	bool kernel_resumes;
	struct kvm_vm *vm;

	create_suspend_vm(&vm, vcpus, &call);
	kernel_resumes = let_kernel_resume(vm);
	run_to_suspend(vcpus[CALLER], &call);
	if (!kernel_resumes) {
		/*
		 * KVM doesn't implement it.  It is a start of a vCPU that has
		 * stopped itself, which KVM does implement.
		 */
		start_by_kernel(vcpus, &call);
	}
	complete_call(vcpus[CALLER]);

	/*
	 * Have the reset applied.  Bits that can't have another value get it
	 * when the vCPU is loaded after that.
	 */
	free(vcpu_save_reg_list(vcpus[CALLER]));
	complete_call(vcpus[CALLER]);
	want = vcpu_state_get(vcpus[CALLER]);
	run_to_view(vcpus[CALLER], &kernel);

	run_to_suspend(self->vcpu, &self->call);
	prepare_to_resume(self->vcpu, &self->call, KVM_MP_STATE_RUNNABLE);
	complete_call(self->vcpu);
	vcpu_state_assert_same("resumed", want, self->vcpu);
	run_to_view(self->vcpu, &view);

	check_same_view("resumed", &kernel, &view);
	vcpu_state_free(want);
	kvm_vm_free(vm);
}

/* A bit that is set for the one doesn't make the other exit. */
TEST_F(suspend, start_is_independent)
{
	self->call.target = TARGET;
	set_call(self->vcpu, &self->call);

	TEST_ASSERT_EQ(run_to_result(self->vcpu), START_OK);
	check_started(self->vcpus[TARGET]);
}

/* What a signal interrupts is the wait, and nothing else. */
TEST_F(suspend, signal)
{
	struct vcpu_state *want;

	run_to_suspend(self->vcpu, &self->call);
	prepare_to_resume(self->vcpu, &self->call, wait_mp_state);
	/* Bits that can't have another value get it when the vCPU is loaded. */
	check_not_running(self->vcpu);
	want = vcpu_state_get(self->vcpu);

	check_not_running(self->vcpu);
	TEST_ASSERT_EQ(vcpu_get_mp_state(self->vcpu), wait_mp_state);
	vcpu_state_assert_same("interrupted", want, self->vcpu);
	vcpu_state_free(want);

	vcpu_set_mp_state(self->vcpu, KVM_MP_STATE_RUNNABLE);
	check_started(self->vcpu);
}

/* The other way round: wait first, the vCPU is where it has made the call. */
TEST_F(suspend, signal_before_reset)
{
	run_to_suspend(self->vcpu, &self->call);
	vcpu_set_mp_state(self->vcpu, wait_mp_state);
	check_not_running(self->vcpu);
	check_not_running(self->vcpu);

	prepare_to_resume(self->vcpu, &self->call, KVM_MP_STATE_RUNNABLE);
	check_started(self->vcpu);
}

static void run_to_wakeup(struct kvm_vcpu *vcpu)
{
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(vcpu->run->system_event.type, KVM_SYSTEM_EVENT_WAKEUP);
}

TEST_F(suspend, wakeup)
{
	if (!kernel_waits)
		SKIP(return, "It is userspace that waits");

	run_to_suspend(self->vcpu, &self->call);
	prepare_to_resume(self->vcpu, &self->call, wait_mp_state);
	check_not_running(self->vcpu);

	/* Denied, and it's not over before userspace says so. */
	set_wakeup_event(self->vcpu);
	run_to_wakeup(self->vcpu);
	TEST_ASSERT_EQ(vcpu_get_mp_state(self->vcpu), wait_mp_state);
	run_to_wakeup(self->vcpu);
	TEST_ASSERT_EQ(vcpu_get_mp_state(self->vcpu), wait_mp_state);

	vcpu_set_mp_state(self->vcpu, KVM_MP_STATE_RUNNABLE);
	check_started(self->vcpu);
}

static struct kvm_vm *migrate_suspend(struct kvm_vcpu **from,
				      struct kvm_vcpu **to)
{
	struct start_call call;
	struct kvm_vm *vm;

	TEST_ASSERT(!create_suspend_vm(&vm, to, &call), "Not available anymore");

	copy_vcpus(from, to);

	return vm;
}

TEST_F(suspend, migrate_open)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm;

	run_to_suspend(self->vcpu, &self->call);
	vm = migrate_suspend(self->vcpus, vcpus);

	if (open_call_replays)
		run_to_suspend(vcpus[CALLER], &self->call);
	prepare_to_resume(vcpus[CALLER], &self->call, KVM_MP_STATE_RUNNABLE);
	check_started(vcpus[CALLER]);
	kvm_vm_free(vm);
}

TEST_F(suspend, migrate_denied)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm;

	run_to_suspend(self->vcpu, &self->call);
	answer_call(self->vcpu, START_REFUSED);
	complete_call(self->vcpu);
	vm = migrate_suspend(self->vcpus, vcpus);

	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_REFUSED);
	kvm_vm_free(vm);
}

TEST_F(suspend, migrate_waiting)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm;

	run_to_suspend(self->vcpu, &self->call);
	prepare_to_resume(self->vcpu, &self->call, wait_mp_state);
	vm = migrate_suspend(self->vcpus, vcpus);

	TEST_ASSERT_EQ(vcpu_get_mp_state(vcpus[CALLER]), wait_mp_state);
	check_not_running(vcpus[CALLER]);
	if (kernel_waits) {
		set_wakeup_event(vcpus[CALLER]);
		run_to_wakeup(vcpus[CALLER]);
	}
	vcpu_set_mp_state(vcpus[CALLER], KVM_MP_STATE_RUNNABLE);
	check_started(vcpus[CALLER]);
	kvm_vm_free(vm);
}

/* There is nothing but a mask. */
TEST(capability)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_VCPU_RESET };
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct start_call call;
	struct kvm_vm *vm;
	int mask, i;

	vm = create_start_vm(vcpus, &call, false);
	mask = vm_check_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET);
	TEST_ASSERT(mask >= 0, "KVM_CHECK_EXTENSION returns %d", mask);
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_EXIT_ON_VCPU_RESET), mask);

	for (i = 0; i < 64; i++) {
		if (i < 31 && (mask & BIT(i)))
			continue;

		cap.args[0] = BIT_ULL(i);
		TEST_ASSERT(__vm_ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 &&
			    errno == EINVAL, "Bit %d: errno %d", i, errno);
		cap.args[0] |= mask;
		TEST_ASSERT(__vm_ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 &&
			    errno == EINVAL, "Bit %d and more: errno %d", i,
			    errno);
	}

	cap.args[0] = mask;
	cap.flags = 1;
	TEST_ASSERT(__vm_ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 &&
		    errno == EINVAL, "Flags: errno %d", errno);
	cap.flags = 0;

	/* None of these has enabled anything. */
	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_OK);
	check_started(vcpus[TARGET]);

	if (!mask) {
		TEST_ASSERT(__vm_ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 &&
			    errno == EINVAL, "Nothing to enable: errno %d",
			    errno);
		kvm_vm_free(vm);
		return;
	}

	/* A refused mask doesn't change the one that is set either. */
	vm_enable_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET, mask);
	TEST_ASSERT(__vm_enable_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET, ~0ull) == -1,
		    "All bits are known");
	vcpu_set_mp_state(vcpus[TARGET], KVM_MP_STATE_STOPPED);
	run_to_call(vcpus[CALLER], &call);
	answer_call(vcpus[CALLER], START_REFUSED);

	/* The last one counts, requests are independent of each other. */
	vm_enable_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET, 0);
	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_REFUSED);
	TEST_ASSERT_EQ(run_to_result(vcpus[CALLER]), START_OK);

	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_MP_STATE_RESET));

	return test_harness_run(argc, argv);
}
