/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What vcpu_reset_vmm.c and its architecture specific parts share
 *
 * The names are those of a VMM, not those of the library of the selftests, which
 * is used for assertions only: all that is done to KVM is an ioctl.
 */
#ifndef SELFTEST_KVM_VCPU_RESET_VMM_H
#define SELFTEST_KVM_VCPU_RESET_VMM_H

#include <pthread.h>

#include <linux/kvm.h>
#include <linux/types.h>

#include "test_util.h"

#define MAX_VCPUS	8

/* How to reset a vCPU, from what works with any kernel to what is best. */
enum vmm_reset {
	/* Write what was read when the vCPU was new: riscv and x86. */
	RESET_REGS,
	/* KVM_ARM_VCPU_INIT on arm64, KVM_MP_STATE_INIT_RECEIVED on riscv. */
	RESET_ARCH,
	/* KVM_MP_STATE_RESET */
	RESET_REQUEST,
};

/*
 * What KVM can do, or what this VMM wants to make use of.  Each of them has a
 * fallback, which is why they are looked at one by one.
 */
struct vmm_features {
	enum vmm_reset reset;
	/* The guest's requests to start, reset or suspend a CPU are up to us. */
	bool exits;
	/* KVM_RUN_NEEDS_COMPLETION */
	bool flag;
};

/* What has been done, for the test and for those who want to compare. */
struct vmm_stats {
	unsigned int resets;
	unsigned int starts;
	unsigned int refusals;
	unsigned int suspends;
	unsigned int machine_resets;
	/* KVM_RUN that was entered just to complete an exit. */
	unsigned int completions;
	/* The same, for other parts of the operation. */
	unsigned int parts;
};

/* The device of the test's own guest, see vcpu_reset_vmm.c */
struct mailbox {
	u32 in[64];
	u32 out[64];
	unsigned int in_head, in_tail;
	unsigned int out_head, out_tail;
};

struct vcpu {
	struct vm *vm;
	u32 id;
	int fd;
	struct kvm_run *run;
	pthread_t thread;

	/* All of the following is protected by vm->lock. */

	/* How many reasons there are to stay out of KVM_RUN. */
	unsigned int holds;
	/* In KVM_RUN.  The ioctls of the vCPU would wait for it to return. */
	bool running;
	/* Out of KVM_RUN, and the last exit has been handled and completed. */
	bool parked;
	/* What the guest calls suspended.  Part of what is saved. */
	bool suspended;
	/*
	 * How often the vCPU was reset.  Whoever drops vm->lock while handling an
	 * exit looks at it to find out whether it still is the exit of this life.
	 */
	unsigned int lives;

	/* The state when it was new, for RESET_REGS. */
	void *fresh;
	u32 fresh_mp_state;

	struct mailbox box;
};

struct vm {
	int kvm_fd;
	int fd;
	struct vmm_features use;
	struct vmm_stats stats;

	u64 ram_base;
	u64 ram_size;
	void *ram;
	u64 boot_entry;
	u64 boot_arg;

	unsigned int nr_vcpus;
	struct vcpu vcpus[MAX_VCPUS];
	bool threads;

	/*
	 * One lock for the machine and its devices.  It is held all the time,
	 * except in KVM_RUN and by those who wait for @changed.  That makes
	 * everything else atomic, what one vCPU does to another one in particular.
	 */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool quit;

	/* Policy: vCPUs that aren't plugged in, and whether to suspend. */
	u64 unplugged;
	bool deny_suspend;
	/* The argument that the next start gets, if that isn't the guest's. */
	u64 own_arg;

	/* A guest that is Linux: what to load, and what it has asked for. */
	const char *kernel;
	const char *dtb;
	const char *cmdline;
	bool shutdown;

	/* For the test: hold the vCPU that makes this access, counted from 1. */
	unsigned int pause_at;
	struct vcpu *paused_at;

	/* What only some architectures have. */
	int irqchip_fd;
	u64 wake_entry;
	u64 wake_arg;
};

/* What the guest is told about its call. */
enum vmm_result {
	VMM_OK,
	VMM_DENIED,
	VMM_NO_SUCH_CPU,
	VMM_ALREADY_ON,
};

/* ioctls: __ returns -errno, the others insist on success. */
int __vmm_ioctl(int fd, unsigned long cmd, void *arg);
#define vmm_ioctl(fd, cmd, arg) do {					\
	int __ret = __vmm_ioctl(fd, cmd, (void *)(arg));		\
									\
	TEST_ASSERT(__ret >= 0, #cmd " failed, errno %d", -__ret);	\
} while (0)
int vmm_check_cap(struct vm *vm, int cap);
int vmm_enable_cap(struct vm *vm, u32 cap, u64 arg);
u32 vmm_get_mp_state(struct vcpu *vcpu);
void vmm_set_mp_state(struct vcpu *vcpu, u32 mp_state);
u64 vmm_get_reg(struct vcpu *vcpu, u64 id);
void vmm_set_reg(struct vcpu *vcpu, u64 id, u64 value);

/* All registers that KVM_GET_REG_LIST has. */
struct vmm_regs;
struct vmm_regs *vmm_save_regs(struct vcpu *vcpu);
void vmm_restore_regs(struct vcpu *vcpu, struct vmm_regs *regs, bool clocks);

/* The flows.  Call them with vm->lock held. */
enum vmm_result vmm_start_vcpu(struct vcpu *caller, u64 id, u64 entry, u64 arg);
bool vmm_suspend(struct vcpu *vcpu, u64 entry, u64 arg);
void vmm_reset_machine(struct vm *vm, struct vcpu *vcpu);
void vmm_access(struct vcpu *vcpu, u64 addr, void *data, u32 len, bool write);

/* A flattened device tree */
void fdt_begin(const char *fmt, ...);
void fdt_end(void);
void fdt_cells(const char *name, int nr, ...);
void fdt_string(const char *name, const char *value);
void fdt_empty(const char *name);

/*
 * What an architecture has to provide.
 */
extern const u64 arch_ram_base;
/* Where the test's own guest is loaded, and where its device is. */
extern const u64 arch_guest_base;
extern const u64 arch_box_base;
extern const char arch_guest[], arch_guest_end[];
/* An UART that Linux knows: where the data and the status are. */
extern const u64 arch_uart_base;
extern const u64 arch_uart_status;
extern const u32 arch_uart_idle;
/* How to use it, or NULL if there is no kernel to be booted. */
extern const char *const arch_cmdline;
/* Does a CPU that starts another one learn of the outcome, and pass an argument? */
extern const bool arch_start_returns;
/* What the guest sees: the result of a start, and that it can't suspend. */
u32 arch_start_result(enum vmm_result result);
extern const u32 arch_suspend_denied;

/* Find out what there is, before there are vCPUs. */
bool arch_has_exits(struct vm *vm);
bool arch_has_reset(struct vm *vm);
/* Before and after the vCPUs are created, and each of them. */
void arch_init_vm(struct vm *vm);
void arch_init_vcpu(struct vcpu *vcpu);
void arch_init_irqchip(struct vm *vm);
/* Does RESET_REGS make sense? */
extern const bool arch_reset_regs;
/* RESET_ARCH, and what it is called */
extern const char *const arch_reset_name;
void arch_reset_vcpu(struct vcpu *vcpu);
/* Reset the interrupt controllers that KVM emulates and that are devices. */
void arch_reset_irqchip(struct vm *vm);
/* Where the vCPU starts, on top of the state after a reset. */
void arch_set_entry(struct vcpu *vcpu, u64 entry, u64 arg);
/* Is it off, i.e. to be started by another CPU, or idle for good? */
bool arch_is_off(struct vcpu *vcpu);
bool arch_is_idle(struct vcpu *vcpu);
/* Can it be suspended with what vm->use says, and be refused to? */
bool arch_can_suspend(struct vm *vm);
bool arch_can_deny_suspend(struct vm *vm);
/* Exits that others don't have.  False if it is unknown. */
bool arch_handle_exit(struct vcpu *vcpu);
/* All of the vCPU, but the MP state. */
void *arch_save_vcpu(struct vcpu *vcpu);
void arch_restore_vcpu(struct vcpu *vcpu, void *state, bool clocks);
void arch_free_vcpu(void *state);
/* Clocks, which belong to the VM, among the registers of vmm_save_regs() */
bool arch_is_clock(u64 id);
/* Nodes of the device tree, in the root. */
void arch_add_nodes(struct vm *vm);

/* What the guest gets from its device, see the arch_guest of each. */
#define BOX_CMD		0x0
#define BOX_RESULT	0x4
#define BOX_ID		0x8
#define BOX_ARG		0xc
#define BOX_SIZE	0x10

#define CMD_NONE	0
#define CMD_ADD		1
#define CMD_START	2
#define CMD_STOP	3
#define CMD_SUSPEND	4
#define CMD_RESET	5

#endif /* SELFTEST_KVM_VCPU_RESET_VMM_H */
