/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What vcpu_reset_test.c and its architecture specific parts have in common
 */
#ifndef SELFTEST_KVM_VCPU_RESET_TEST_H
#define SELFTEST_KVM_VCPU_RESET_TEST_H

#include "kvm_util.h"
#include "ucall_common.h"
#include "vcpu_state.h"

#define RESET_MAX_VCPUS	32

/* Memory that the guest tells KVM to use, and the page for the TLB. */
#define SCRATCH_PAGES	2

/* Not backed by memory, i.e. guest accesses are MMIO: two pages. */
#define RESET_MMIO_GPA	0x40000000ul

/*
 * A VM with the vCPU that is to be reset, or that is the twin of such a vCPU.
 * Nothing but the configuration of the vCPU may be done on creation.
 */
struct reset_env {
	const struct reset_case *c;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	/* A vCPU that the library has set up, to do things to the other one. */
	struct kvm_vcpu *helper;
	gva_t scratch_gva;
	gpa_t scratch_gpa;
	gva_t stack_gva;	/* the initial stack pointer */
	gva_t tlb_gva;
	/* A device, e.g. the interrupt controller. */
	int dev_fd;
	/* What the architecture likes to remember. */
	gva_t arch_gva;
	u64 arch_val;
};

/* Flags of a case */
enum {
	/* The vCPU under test is the first of the VM, not the second. */
	RESET_BOOT_VCPU		= 1 << 0,
	/* The state is there to be dirty: count what could be dirtied. */
	RESET_DIRTY		= 1 << 1,
	/* The VM has a dirty ring. */
	RESET_DIRTY_RING	= 1 << 2,
	/* Neither the vCPU under test nor its twin can run the test's code. */
	RESET_NEVER_RUN		= 1 << 3,
	/* For the architecture */
	RESET_ARCH_FLAG		= 1 << 8,
	RESET_ARCH_FLAG2	= 1 << 9,
	RESET_ARCH_FLAG3	= 1 << 10,
};

struct reset_case {
	const char *name;
	u32 flags;
	/* TEST_REQUIRE()s, may be NULL as all of the functions. */
	void (*require)(void);
	/* Same for the vCPU under test and its twin. */
	void (*configure)(struct reset_env *env);
	/* Bring the vCPU under test into the state that it is reset from. */
	void (*prepare)(struct reset_env *env);
	/* Look at the vCPU under test after it was reset, before it runs. */
	void (*check)(struct reset_env *env);
	/* Before the vCPU under test, and its twin, can run. */
	void (*resume)(struct reset_env *env);
	/* For the functions above, what they make of it. */
	void *guest_code;
	u64 arg;
};

/* The cases of the architecture, the last one has no name. */
extern const struct reset_case arch_cases[];

/* Fields that a reset vCPU and a new one may differ in, apart from clocks. */
extern const struct vcpu_state_rule arch_allowed[];

/*
 * Fields that no case could give another value on the machine the test runs
 * on, beyond those that vcpu_state_dirty() leaves alone.
 */
extern const struct vcpu_state_rule arch_not_dirtied[];

/* What the guest's checks do not cover on this architecture, or machine. */
void arch_requirements(void);

/*
 * Kinds of vCPUs that have more or less state, e.g. a privilege level: how many
 * there are, one unless the architecture says something else, and what to put in
 * front of the names of the cases that are to be run with vCPUs of that kind.
 */
unsigned int arch_nr_kinds(void);
const char *arch_select_kind(unsigned int kind);
/* Is it worthwhile to reset vCPUs of the kind thousands of times? */
bool arch_kind_is_fast(void);

struct kvm_vm *arch_vm_create(struct reset_env *env, u32 nr_vcpus);
/* Create a vCPU, and no more than that, and configure it. */
struct kvm_vcpu *arch_vcpu_create(struct reset_env *env, u32 id);
/* Create a vCPU that the library sets up. */
struct kvm_vcpu *arch_helper_create(struct reset_env *env, u32 id);
/* What remains to be configured when all vCPUs have been created. */
void arch_vm_finalize(struct reset_env *env);
void arch_vm_free(struct reset_env *env);

/* What a VMM does after a reset: boot registers, and let it run. */
void arch_boot(struct reset_env *env, struct kvm_vcpu *vcpu, gva_t stack,
	       void *guest_code, u64 arg);

/* Change the mapping of a page of the guest, the guest is not told. */
void arch_remap(struct reset_env *env, gva_t gva, gpa_t gpa);

/* Save @from and restore it to @to, as a VMM would. */
void arch_copy_vcpu(struct kvm_vcpu *from, struct kvm_vcpu *to);

/* Run by the guest: leave traces everywhere. */
void arch_guest_first_life(gva_t scratch_gva, gpa_t scratch_gpa);
/* Run by the guest after the reset: check what no ioctl shows. */
void arch_guest_second_life(void);

/* Run by the guest: sleep until there is an interrupt. */
void arch_guest_idle(void);

/*
 * Bring devices that are not part of the vCPU, but of which the state that can
 * be read has something, to the state that they have for @twin.
 */
void arch_reset_devices(struct kvm_vcpu *vcpu, struct kvm_vcpu *twin);

/* Check what of a vCPU that was just reset is in the table above. */
void arch_check_reset(struct kvm_vcpu *vcpu);

/* Return true if the guest is to go on after this exit. */
bool arch_skip_exit(struct kvm_vcpu *vcpu);

/* Refusals that only this architecture has. */
void arch_test_refusals(void);

/* Helpers for the cases */
int __set_mp_state(struct kvm_vcpu *vcpu, u32 state);
void reset_vcpu(struct kvm_vcpu *vcpu);
void boot(struct reset_env *env, void *guest_code, u64 arg);
void run_to_exit(struct kvm_vcpu *vcpu, u32 exit_reason);
/* Run until a signal comes, i.e. the guest is not to exit. */
void run_interrupted(struct kvm_vcpu *vcpu);
void run_to_sync(struct kvm_vcpu *vcpu);
void run_to_done(struct kvm_vcpu *vcpu);
/* Run the first life up to its ucall. */
void prepare_ran(struct reset_env *env);
void prepare_dirty(struct reset_env *env);
/* Run the first life, and set the multiprocessing state c->arg. */
void prepare_mp_state(struct reset_env *env);
/* Boot c->guest_code, and leave the exit c->arg open. */
void prepare_open_exit(struct reset_env *env);

/* An exit to leave open, see prepare_open_exit(), and what it takes. */
void configure_mmio(struct reset_env *env);
void guest_mmio_load(void);
void guest_mmio_store(void);

#endif /* SELFTEST_KVM_VCPU_RESET_TEST_H */
