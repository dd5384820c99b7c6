/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What vcpu_start_test.c and its architecture specific parts share
 */
#ifndef SELFTEST_KVM_VCPU_START_TEST_H
#define SELFTEST_KVM_VCPU_START_TEST_H

#include "kvm_util.h"
#include "vcpu_state.h"

/*
 * vCPUs of the test.  IDs other than those are not in use, ABSENT_ID is one of
 * them that the guest can name.
 */
#define CALLER		0
#define TARGET		1
#define OTHER		2
#define NR_VCPUS	3
#define ABSENT_ID	4

/*
 * The guest tells what it sees by writing to the slots of a page that is not
 * backed by memory: the value of a register to the slot with the number of the
 * register, architecture specific ones behind the general purpose registers, and
 * then to SLOT_DONE.
 */
#define VIEW_GPA	0x40000000ul
#define NR_SLOTS	96
#define SLOT_DONE	96

struct guest_view {
	u64 slot[NR_SLOTS];
	bool seen[NR_SLOTS];
};

/* What a firmware call that starts a vCPU returns. */
enum start_result {
	START_OK,
	START_REFUSED,
	START_NO_SUCH_CPU,
	START_ALREADY_ON,
	/* The call has not been answered. */
	START_IGNORED,
	START_UNKNOWN,
};

/* The arguments of such a call, the target as the ID of the vCPU. */
struct start_call {
	u64 target;
	u64 entry;
	u64 arg;
};

/*
 * Guest code that runs with address translation off.
 *
 * guest_call() makes the call that set_call() has set up, tells what it sees,
 * and starts all over.
 *
 * guest_start() is what the guest starts a vCPU with, with the address of the
 * view as the argument.  It tells what it sees and then stops the vCPU.
 *
 * guest_own_start() is the same for a vCPU that is started by userspace, with
 * registers of its choice.
 */
extern const char guest_call[];
extern const char guest_start[];
extern const char guest_own_start[];

/* Does KVM itself return the errors that it can know of, or leave it to us? */
extern const bool kernel_returns_errors;

/* Why there are no exits, or NULL if there are. */
const char *start_exits_missing(void);

/*
 * What the vCPUs that create_vm() creates have, why there are no such vCPUs, or
 * NULL if there are.
 */
#ifdef __aarch64__
enum {
	VCPU_EL1,
	VCPU_EL2,
	VCPU_EL2_E2H0,
};

const char *select_vcpu_kind(unsigned int kind);
#else
static inline const char *select_vcpu_kind(unsigned int kind)
{
	return NULL;
}
#endif

struct kvm_vm *create_vm(struct kvm_vcpu **vcpus);

/* Enable or disable the exits, false if it is too late for that. */
bool set_start_exits(struct kvm_vm *vm, bool enable);

/* Have @vcpu call the firmware. */
void set_call(struct kvm_vcpu *vcpu, const struct start_call *call);
/* Is the exit such a call? */
bool get_call(struct kvm_vcpu *vcpu, struct start_call *call);
void answer_call(struct kvm_vcpu *vcpu, enum start_result result);
enum start_result get_result(const struct guest_view *view);
/* Does the vCPU make the call again if it is saved with the exit open? */
extern const bool open_call_replays;

/*
 * Calls that are never up to userspace, they are made like set_call()'s: ask
 * whether a vCPU is on, and wait for an interrupt.
 */
void set_status_call(struct kvm_vcpu *vcpu, u64 id);
bool get_status(const struct guest_view *view);
void set_suspend_call(struct kvm_vcpu *vcpu);

/*
 * System suspend, which always exits if it is available at all.  The arguments
 * are those of a start, the target is the caller.
 */
const char *enable_system_suspend(struct kvm_vm *vm, struct kvm_vcpu **vcpus);
void set_system_suspend(struct kvm_vcpu *vcpu, const struct start_call *call);
bool get_system_suspend(struct kvm_vcpu *vcpu, struct start_call *call);
/* Leave it to KVM to reset the vCPU, false if that can't be. */
bool let_kernel_resume(struct kvm_vm *vm);
/* The state of a vCPU that waits to be woken up, and whether it's KVM that waits. */
extern const u32 wait_mp_state;
extern const bool kernel_waits;
/* An event that the guest has masked. */
void set_wakeup_event(struct kvm_vcpu *vcpu);

/* What the firmware specification says about the registers of a new CPU. */
void set_start_regs(struct kvm_vcpu *vcpu, const struct start_call *call);
/* Give every general purpose register a value of its own. */
void set_own_regs(struct kvm_vcpu *vcpu, const char *entry, u64 life);
void check_start_view(const struct guest_view *view, u64 id, u64 arg);
void check_own_view(const struct guest_view *view, u64 life);

/*
 * What belongs to the vCPU of an interrupt controller that a start leaves alone,
 * no matter who serves it: set it up, false if there is no such thing, and see
 * whether it still is.
 */
bool dirty_local_irqs(struct kvm_vcpu *vcpu);
bool local_irqs_dirty(struct kvm_vcpu *vcpu);

static inline u64 code_gpa(struct kvm_vm *vm, const char *code)
{
	return addr_gva2gpa(vm, (gva_t)code);
}

#endif /* SELFTEST_KVM_VCPU_START_TEST_H */
