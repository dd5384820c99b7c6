/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of needs_completion_test have to do with each other.
 *
 * needs_completion_test.c has the procedures, <arch>/needs_completion_test.c
 * has the list of exits and everything that depends on the architecture, i.e.
 * what is declared "extern" here and the functions named nc_arch_*().
 */
#ifndef SELFTEST_KVM_NEEDS_COMPLETION_TEST_H
#define SELFTEST_KVM_NEEDS_COMPLETION_TEST_H

#include <linux/bits.h>

#include "kvm_util.h"

#define NC_NR_GPRS	32

struct nc_regs {
	u64 pc;
	u64 gpr[NC_NR_GPRS];
};

/* What is done with an exit, i.e. the columns of the matrix. */
enum nc_procedure {
	/* Act on the exit, complete it with immediate_exit, go on. */
	NC_IMMEDIATE_EXIT,
	/* Act on the exit, complete it with a signal pending, go on. */
	NC_SIGNAL,
	/* Act on the exit, complete it, save and restore into a new VM, go on. */
	NC_SAVE,
	/* Save and restore into a new VM at the exit, go on there. */
	NC_SAVE_OPEN,
	/* Act on the exit, reset the vCPU, start another life. */
	NC_RESET,
	/* The same with KVM_MP_STATE_RESET. */
	NC_MP_STATE_RESET,
	NC_NR_PROCEDURES,
};

/* Where the pc is. */
enum nc_where {
	/* That depends: see the members of struct nc_exit. */
	NC_DEFAULT,
	/* At the instruction that caused the exit. */
	NC_AT_INSN,
	/* Behind it. */
	NC_AT_NEXT,
	/* Wherever, and the registers may have any value, too. */
	NC_ANYWHERE,
};

/* The largest MMIO access of a single instruction. */
#define NC_DATA_SIZE	16

struct nc_test;

/*
 * A row of the matrix: an exit that the architecture can produce, with the
 * instruction that causes it.  The guest executes instruction @insn, and then
 * code that sets a bit of @nc_mark_gpr with each of the instructions that
 * follow, and that reports to userspace with an exit of its own.
 */
struct nc_exit {
	const char *name;

	/* KVM_EXIT_*, or NC_NO_EXIT if KVM_RUN doesn't set one, just fails. */
	u32 reason;

	/* What KVM_RUN_NEEDS_COMPLETION is to be. */
	bool needs_completion;

	/* The instruction, and the one behind it, as labels in the guest code. */
	const char *insn;
	const char *next;

	/* How many exits it takes until the instruction is complete, default 1. */
	int nr_parts;

	/*
	 * How many more exits follow on the way from the completed exit to the
	 * report, e.g. because KVM splits a string instruction in instructions
	 * of its own.  They are acted upon like the others.
	 */
	int nr_more;

	/*
	 * The pc when KVM_RUN returns, by default NC_AT_INSN, and when the exit
	 * is complete, by default NC_AT_NEXT.  The latter is for exits that need
	 * to be completed, nothing happens to others.  One that needs to be
	 * completed, but is NC_AT_NEXT before, is not repeated if it is dropped.
	 */
	enum nc_where at_exit;
	enum nc_where at_end;

	/*
	 * The pc is NC_AT_NEXT at the exit, but what userspace answers is applied
	 * when the exit is complete.
	 */
	bool late_answer;

	/* For MMIO: the address of the access, and its total length. */
	u64 gpa;
	u32 len;

	/* Why there is no such exit on this system, or NULL. */
	const char *(*unavailable)(void);

	/* Instead of nc_arch_create_vm(). */
	void (*create_vm)(struct nc_test *t);

	/* Configure the VM, once it is created, and also the one to restore to. */
	void (*setup_vm)(struct nc_test *t);

	/* Prepare the guest's memory, once: it outlives the VM. */
	void (*setup_guest)(struct nc_test *t);

	/*
	 * Set up the vCPU such that it is going to exit, before its first KVM_RUN,
	 * after a reset, and in the VM to restore to unless saved state has it.
	 * The registers to start with are in t->want, and are set afterwards.
	 */
	void (*setup_vcpu)(struct nc_test *t);

	/* What KVM_RUN fails with, if it does. */
	int err;

	/* Instead of vcpu_run(), or to have KVM_RUN fail for a reason of its own. */
	void (*run)(struct nc_test *t);

	/* Verify what is in kvm_run, @part counts from 0. */
	void (*check_exit)(struct nc_test *t, int part);

	/* Do what userspace does about the exit; if it gives data, t->answer. */
	void (*act)(struct nc_test *t, int part);

	/* Apply to t->want what the guest is to see of t->answer. */
	void (*expect)(struct nc_test *t);

	/* The same for what happens between there and the report (nr_more). */
	void (*expect_more)(struct nc_test *t);

	/*
	 * Remove what would make the vCPU exit again, and, if the exit is not
	 * about an instruction to be skipped by KVM, change the registers for
	 * the vCPU to go on: t->want is read back afterwards.
	 */
	void (*resume)(struct nc_test *t);

	/* Verify what the operation did elsewhere, when the guest has reported. */
	void (*check)(struct nc_test *t);

	/* Why a procedure doesn't apply. */
	const char *skip[NC_NR_PROCEDURES];
};

#define NC_NO_EXIT	((u32)-1)

/* Guest code, with its labels, and the members of struct nc_exit for them. */
#define NC_GUEST_CODE(name, code)					\
	extern const char guest_##name[], guest_##name##_next[];	\
	asm(code)

/* The latter is for exits that have another name than the code. */
#define NC_GUEST_INSN(_name)						\
	.name = #_name, NC_GUEST_LABEL(_name)

#define NC_GUEST_LABEL(_name)						\
	.insn = guest_##_name,						\
	.next = guest_##_name##_next

struct nc_test {
	const struct nc_exit *exit;
	const char *procedure;

	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;

	/* What the vCPU's registers are to be, and what they were to start with. */
	struct nc_regs want;
	struct nc_regs start;

	/* What userspace answers, and the device at the other end of MMIO. */
	u8 answer[NC_DATA_SIZE];
	u8 device[NC_DATA_SIZE];
	u8 nr_reads[NC_DATA_SIZE];
	u8 nr_writes[NC_DATA_SIZE];

	/* The vCPU has moved on without the rest of the operation. */
	bool lost;

	/* For the row's own use. */
	u64 priv[4];
};

#define NC_ASSERT(t, cond, fmt, ...)					\
	TEST_ASSERT(cond, "%s, %s: " fmt, (t)->exit->name,		\
		    (t)->procedure, ##__VA_ARGS__)

/* The exits that the architecture can produce. */
extern const struct nc_exit nc_exits[];
extern const int nr_nc_exits;

/*
 * The exits that it can't, or that no test can, and why.  Those of architectures
 * that don't have the test are not in the list.
 */
struct nc_absent_exit {
	u32 reason;
	const char *why;
};

extern const struct nc_absent_exit nc_absent_exits[];
extern const int nr_nc_absent_exits;

/* The names of the registers in struct nc_regs, NULL if there is no such one. */
extern const char * const nc_gpr_names[NC_NR_GPRS];

/* The register with the marks, all of them, and those that the report uses. */
extern const int nc_mark_gpr;
extern const u64 nc_all_marks;
extern const u64 nc_report_gprs;

/*
 * Create a VM with a vCPU, able to run guest code, as t->vm and t->vcpu.  Make
 * the guest's accesses to the page that has t->exit->gpa, if any, and to the one
 * behind it, MMIO.
 */
void nc_arch_create_vm(struct nc_test *t);

/* The address that the guest has for a label in the code. */
u64 nc_arch_guest_pc(struct nc_test *t, const char *label);

/*
 * The registers for the guest to start with: values in t->want.gpr[] that the
 * instruction under test needs, e.g. an address.  All others have a pattern.
 */
void nc_arch_init_regs(struct nc_test *t);

/* Set and get pc and GPRs, nothing else. */
void nc_arch_set_regs(struct kvm_vcpu *vcpu, const struct nc_regs *regs);
void nc_arch_get_regs(struct kvm_vcpu *vcpu, struct nc_regs *regs);

/* Whether the last exit is the report at the end of the guest code. */
bool nc_arch_is_report(struct kvm_vcpu *vcpu);

/*
 * Save t->vcpu, without KVM_RUN, release the VM, create a new one with the same
 * memory, invoke t->exit->setup_vm() if there is one, and restore the vCPU, as
 * t->vcpu.
 */
void nc_arch_migrate(struct nc_test *t);

/*
 * Reset the vCPU, on @request with KVM_MP_STATE_RESET, and make it able to run
 * guest code again, as nc_arch_create_vm() does, except for what
 * nc_arch_set_regs() sets.  Verify t->vcpu->run->flags in between, with
 * nc_check_reset().  Return NULL, or why there is no reset.
 */
const char *nc_arch_reset(struct nc_test *t, bool request);

/*
 * Everything that userspace can do to a vCPU but KVM_RUN and a reset, and what
 * all architectures have.  Nothing here may change the state of the vCPU such
 * that the exit can't be completed.
 */
struct nc_ioctl {
	const char *name;
	void (*func)(struct kvm_vcpu *vcpu);
};

#define NC_IOCTL(name)	{ #name, ioctl_##name }

extern const struct nc_ioctl nc_ioctls[];
extern const int nr_nc_ioctls;

/*
 * For the test with garbage in kvm_run: create a VM, as t->vm and t->vcpu, with
 * a guest that has as many kinds of exits as possible in an endless loop, doesn't
 * care about the answers, and that ends each iteration with nc_garbage_done().
 */
void nc_arch_create_garbage_vm(struct nc_test *t);

struct nc_garbage_sum {
	u64 nr;
	u64 sum;
};

extern struct nc_garbage_sum nc_garbage_sum;

#define NC_GARBAGE_NEXT(sum, nr)	((sum) * 6364136223846793005ul + (nr) + 1)

static inline void nc_garbage_done(struct nc_garbage_sum *s)
{
	s->sum = NC_GARBAGE_NEXT(s->sum, s->nr);
	s->nr++;
	WRITE_ONCE(nc_garbage_sum.sum, s->sum);
	WRITE_ONCE(nc_garbage_sum.nr, s->nr);
}

/* Parts of kvm_run that KVM takes as commands: not to be overwritten. */
struct nc_range {
	u32 offset;
	u32 size;
};

extern const struct nc_range nc_arch_garbage_holes[];
extern const int nr_nc_arch_garbage_holes;

/* ---- what the common part has for the architectures ---- */

/* For struct nc_exit.run(): KVM_RUN that is interrupted. */
void nc_run_immediate_exit(struct nc_test *t);
void nc_run_signal(struct nc_test *t);

/* By a signal as well, asleep in the instruction: the pc is NC_AT_NEXT then. */
void nc_run_sleep(struct nc_test *t);

/* For nc_arch_reset(). */
void nc_check_reset(struct nc_test *t);

/*
 * For struct nc_exit.resume().  At the next instruction: userspace emulates the
 * one that caused the exit, or at least skips it.
 */
void nc_resume_at_next(struct nc_test *t);
void nc_resume_runnable(struct nc_test *t);
/* The debugger goes away, and, the latter, takes its breakpoint along. */
void nc_resume_debug(struct nc_test *t);
void nc_resume_breakpoint(struct nc_test *t);

/*
 * A device that answers MMIO with t->answer and stores to t->device.  Only the
 * answer is of any interest to KVM, what the exit was about is for it to know:
 * nc_act_mmio() spoils that, unless KVM is older than its promise not to care.
 */
void nc_act_mmio(struct nc_test *t, int part);
/* Any part of the access, or all of it, as a load or as a store. */
void nc_check_mmio(struct nc_test *t, int part);
void nc_check_mmio_load(struct nc_test *t, int part);
void nc_check_mmio_store(struct nc_test *t, int part);
/* Each byte was read or written exactly once, the latter with the value given. */
void nc_check_mmio_read(struct nc_test *t);
void nc_check_mmio_write(struct nc_test *t);
void nc_check_written(struct nc_test *t, u64 val);
void nc_check_written_zero(struct nc_test *t);

#define NC_MMIO(_gpa, _len)						\
	.reason = KVM_EXIT_MMIO,					\
	.needs_completion = true,					\
	.gpa = _gpa,							\
	.len = _len,							\
	.act = nc_act_mmio

/* Accesses with a single exit, which the instruction waits for. */
#define NC_MMIO_LOAD(gpa, len)						\
	NC_MMIO(gpa, len), .check_exit = nc_check_mmio_load, .check = nc_check_mmio_read

#define NC_MMIO_STORE(gpa, len)						\
	NC_MMIO(gpa, len), .check_exit = nc_check_mmio_store

/* Where rows have memory of their own, at t->exit->gpa. */
#define NC_MEM_SLOT		10

/* For struct nc_exit.setup_guest(): a page that userspace can't access, either. */
void nc_setup_guest_prot_none(struct nc_test *t);

/*
 * For a store that repeats itself, from one page to the next, in a VM that was
 * created with a ring of NC_DIRTY_RING_SIZE.
 */
#define NC_DIRTY_RING_SIZE	getpagesize()

#define NC_DIRTY_RING(_gpa)						\
	.reason = KVM_EXIT_DIRTY_RING_FULL,				\
	.gpa = _gpa,							\
	.at_exit = NC_ANYWHERE,						\
	.setup_vm = nc_setup_vm_dirty_ring,				\
	.setup_guest = nc_setup_guest_dirty_ring,			\
	.check_exit = nc_check_dirty_ring,				\
	.resume = nc_resume_dirty_ring

void nc_setup_vm_dirty_ring(struct nc_test *t);
void nc_setup_guest_dirty_ring(struct nc_test *t);
void nc_check_dirty_ring(struct nc_test *t, int part);
void nc_resume_dirty_ring(struct nc_test *t);
/* Collect what is in the ring. */
void nc_reset_dirty_ring(struct nc_test *t);

/* t->answer, or its first bytes, as a number, the latter with its sign extended. */
u64 nc_answer(struct nc_test *t, int size);
u64 nc_signed_answer(struct nc_test *t, int size);

#endif /* SELFTEST_KVM_NEEDS_COMPLETION_TEST_H */
