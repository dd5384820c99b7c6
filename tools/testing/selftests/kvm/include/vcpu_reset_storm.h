/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What vcpu_reset_storm.c and its architecture specific parts have in common
 */
#ifndef SELFTEST_KVM_VCPU_RESET_STORM_H
#define SELFTEST_KVM_VCPU_RESET_STORM_H

#include <pthread.h>

#include "kvm_util.h"
#include "vcpu_state.h"

#define STORM_CPUS		8
/* The vCPUs, and userspace */
#define STORM_SENDERS		(STORM_CPUS + 1)
#define STORM_USER		STORM_CPUS
#define STORM_MAX_KINDS		4

/* Memory at the same address with and without translation */
#define STORM_GPA		0x20000000ul
#define STORM_BOOT_SIZE		0x10000ul
#define STORM_SHARED_GPA	(STORM_GPA + STORM_BOOT_SIZE)
#define STORM_SLOT		3

/* A slot that comes and goes */
#define STORM_FLAKY_GPA		0x30000000ul
#define STORM_FLAKY_SIZE	0x10000ul
#define STORM_FLAKY_SLOT	4

/* Not backed by memory, i.e. guest accesses are MMIO. */
#define STORM_MMIO_GPA		0x40000000ul
#define STORM_MMIO_VALUE(gpa)	((gpa) * 0x9e3779b97f4a7c15ul)

/*
 * A start, be it by firmware or by userspace, has an argument: the address of
 * one of these.  The started CPU stores what it finds in its registers there.
 */
struct storm_frame {
	u64 regs[96];
	u64 start;		/* the number of the start, never used again */
	u64 target;
	u64 how;		/* enum storm_how */
	/*
	 * The starter sends an interrupt at once, and the CPU waits for it before
	 * it lets others send any: its kind + 1, who sends it, and in which epoch.
	 */
	u64 expect, from, from_epoch, seq;
	u64 pad[25];
};

enum storm_how {
	BY_FIRMWARE = 1,
	BY_USER,
};

#define STORM_AGES		64

#define STORM_FRAMES		1024
#define STORM_MAX_STARTS	0x20000

/* What became of a start. */
enum {
	START_PENDING,
	START_LIVES,
	START_REFUSED,
};

struct storm_cpu_mem {
	/*
	 * Changes when a life ends.  As long as it is odd, userspace or another
	 * vCPU is about to end it, and nothing is certain.
	 */
	u64 epoch;
	/* Takes interrupts. */
	u64 up;
	/* The number of what it waits for, 0 if it doesn't. */
	u64 wait;
	u64 wait_kind, wait_target, wait_seq;
	u64 steps, lives, sleeps;
	u64 req[STORM_MAX_KINDS][STORM_SENDERS];
	u64 ack[STORM_MAX_KINDS][STORM_SENDERS];
	/* For starts that take an argument out of memory, and one at a time. */
	u64 arg, starter;
	/* Does nothing, for good. */
	u64 parked;
};

struct storm_mem {
	struct storm_cpu_mem cpu[STORM_CPUS];
	/* The latest time that was seen, in each age: userspace may set clocks. */
	u64 clock[STORM_AGES];
	u64 age;
	u64 nr_starts;
	u64 nr_sent;
	u64 fw_started, fw_refused;
	/* The first invariant that does not hold: its line, and values. */
	u64 failed, fail_cpu, fail_args[4];
	u64 kinds;		/* of interrupts, a mask */
	u64 flags;		/* STORM_FLAG_*, the others for the architecture */
	u64 seed;
	u8 start[STORM_MAX_STARTS];
	struct storm_frame frame[STORM_FRAMES];
};

/* A start doesn't say when the CPU is up, nor that it was already. */
#define STORM_FLAG_UNKNOWN	BIT(0)
/* This machine has no clock that all CPUs agree on. */
#define STORM_FLAG_NO_CLOCK	BIT(8)

#define storm_guest	((struct storm_mem *)STORM_SHARED_GPA)

/* ---- The guest ---- */

#define GUEST_STORM_ASSERT(cond, a, b, c) do {				\
	if (!(cond))							\
		guest_storm_fail(__LINE__, a, b, c);			\
} while (0)

void guest_storm_fail(u64 line, u64 a, u64 b, u64 c);
/* Called on an own stack, with translation. */
void guest_storm_life(u64 id, struct storm_frame *frame);
/* A start that the guest asks for. */
struct storm_frame *guest_storm_new_start(u64 target, u64 *arg);
/* An interrupt of @kind from @sender is there, it was there, and is gone now. */
void guest_storm_ack(u64 id, u64 kind, u64 sender);

/*
 * By the architecture: return 0 if firmware says that the target is started.
 * It may end the life of the target by that, then @epoch is the new one.
 */
int guest_arch_start(u64 id, u64 target, u64 arg, u64 *epoch);
void guest_arch_stop(u64 id);
/* What @id has begun, with starter, will not be finished. */
void storm_abandon(struct storm_mem *mem, u64 id);
void guest_arch_send(u64 kind, u64 id, u64 target);
/* Take what is pending, and sleep before that if nothing is. */
void guest_arch_poll(u64 id, bool sleep);
u64 guest_arch_time(void);
/* Check what a new life finds, and enable interrupts. */
void guest_arch_begin(u64 id, struct storm_frame *frame);
/* Leave something behind that a reset has to clear, or make an odd call. */
void guest_arch_dirty(u64 id, u64 random);

/* ---- Userspace ---- */

/* With -b, see that an invariant can fail: break it now and then. */
enum storm_break {
	BREAK_NOTHING,
	BREAK_START_TWICE,
	BREAK_START_LOST,
	BREAK_START_ARG,
	BREAK_STATE,
	BREAK_INTERRUPT,
	BREAK_CLOCK,
	BREAK_LOAD,
	BREAK_HANG,
	/* What is pending doesn't go along to a new VM. */
	BREAK_MIGRATION,
	/* One of the architecture */
	BREAK_ARCH,
	NR_BREAKS,
};

extern enum storm_break storm_sabotage;

struct storm_cpu {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	pid_t tid;
	bool running;
	/* An exit, maybe with the lock dropped meanwhile. */
	bool handling;
	int paused;
	u64 gen;		/* the number of resets */
	/* What userspace has sent, one at a time, and in which epoch. */
	u64 sent[STORM_MAX_KINDS], sent_epoch[STORM_MAX_KINDS];
	/* The last start by userspace. */
	u64 start, start_epoch;
};

struct storm {
	struct kvm_vm *vm;
	struct storm_mem *mem;
	struct storm_cpu cpus[STORM_CPUS];
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool toggled;
	int toggles;
	u64 ages;
	/* What the VM is told apart by, its random numbers depend on it as well. */
	u32 seed;
	/* May a CPU go offline? */
	bool hotplug;
	/* All vCPUs are paused, nobody else does anything, and the lock is held. */
	bool migrating;
	/* The kind of VM, an index of arch_storm_modes */
	u32 mode;
};

extern struct storm storm;

struct storm_action {
	const char *name;
	unsigned int weight;
	void (*fn)(u32 *seed);
};

extern const struct storm_action arch_storm_actions[];

u32 storm_random(u32 *seed);
long storm_now_ms(void);
void storm_sleep_us(int us);

/* What the architecture counts, with names in arch_storm_counts[] */
#define STORM_MAX_COUNTS	8
void storm_count(unsigned int nr);
extern const char * const arch_storm_counts[];

struct storm_cpu *storm_any_cpu(u32 *rng);

void storm_pause(struct storm_cpu *cpu);
void storm_resume(struct storm_cpu *cpu);
/* With the lock held, which is dropped */
void storm_pause_locked(struct storm_cpu *cpu);
void storm_resume_locked(struct storm_cpu *cpu);
void storm_pause_all(void);
void storm_resume_all(void);
/* With the lock held: have it leave KVM_RUN. */
void storm_kick(struct storm_cpu *cpu);

/* With the vCPU paused: its life ends, or has ended. */
void storm_end_life(struct storm_cpu *cpu);
void storm_ended_life(struct storm_cpu *cpu);

struct storm_frame *storm_new_start(u64 target, u64 *arg);
/* Reset @cpu and let it start. */
void storm_reset(struct storm_cpu *cpu, bool start);
/* All are paused: reset them, and let vCPU 0 start. */
void storm_reset_all(int first);
void storm_dirty_and_reset(u32 *rng, void (*dirty)(struct kvm_vcpu *vcpu));
/* All vCPUs are paused, and the clocks of the guest may go back. */
void storm_new_age(void);
/* A call of the guest that userspace serves, false if the target is on. */
bool storm_serve_start(struct storm_cpu *caller, u64 target, u64 entry, u64 arg);

void storm_fail(const char *fmt, ...) __printf(1, 2);

/* The memory at STORM_GPA, which begins with @code, and what isn't always there */
void storm_add_memory(struct kvm_vm *vm, const void *code, size_t size);

/* By the architecture */
extern const char * const arch_storm_modes[];
void arch_storm_require(void);
void arch_storm_create(u32 *seed);
/* A VM has been opened, and has no vCPUs yet. */
void arch_storm_configure(void);
/* Before KVM_RUN, with the lock held: return false if it has to wait for storm.cond. */
bool arch_storm_enter(struct storm_cpu *cpu);
/* May it be started by a call of the guest? */
bool arch_storm_stopped(struct storm_cpu *cpu);
/* What a VMM does after a reset: let it start with @arg. */
void arch_storm_boot(struct kvm_vcpu *vcpu, u64 arg);
void arch_storm_boot_entry(struct kvm_vcpu *vcpu, u64 entry, u64 arg);
/* Compare with a new vCPU: fields that others may change at any time. */
extern const struct vcpu_state_rule arch_storm_volatile[];
/* Return false if the exit isn't known, called with the lock held. */
bool arch_storm_exit(struct storm_cpu *cpu);
/* One of arch_storm_user_kinds */
void arch_storm_send(u64 kind, u64 target);
/* Is there a clock that all CPUs agree on, still? */
bool arch_storm_has_clock(void);
/* The machine that emulates this one loses wake-ups by @kind now and then. */
bool arch_storm_may_be_late(u64 kind);
/* Bits of KVM_CAP_EXIT_ON_VCPU_RESET that the storm knows to serve. */
extern u64 arch_storm_toggles;
void arch_storm_free(void);
/*
 * With all vCPUs paused: save them, and close what keeps the VM alive.  Then
 * restore them into vCPUs of another VM.
 */
void arch_storm_save(void);
void arch_storm_restore(void);
/* Leave something in the vCPU that a reset has to clear, for -b. */
void arch_storm_break(struct kvm_vcpu *vcpu);
/* The kinds of interrupts that userspace sends in this VM */
extern u64 arch_storm_user_kinds;

#endif /* SELFTEST_KVM_VCPU_RESET_STORM_H */
