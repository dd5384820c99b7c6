// SPDX-License-Identifier: GPL-2.0-only
/*
 * vcpu_reset_storm - Everything at the same time, while vCPUs are reset
 *
 * The vCPUs of a VM start and stop each other, send each other interrupts, sleep,
 * access memory that isn't there, and leave traces in their registers.  Meanwhile
 * more threads than there are CPUs reset them, start and stop them, look at their
 * state, write it back, send interrupts, change memory slots, move threads and
 * take a CPU offline.  What they do, but not when, follows from a seed.
 *
 * The guest verifies that:
 *  - a CPU that starts finds nothing in its registers of an older life.
 *  - it starts once for each start that was successful, with the argument of
 *    that start, and not for one that was refused.
 *  - an interrupt that is sent to a CPU that is started arrives, be it while
 *    the CPU is on its way to its first instruction.
 *  - time does not go back, whichever CPU looks.
 *  - a load from a device returns what userspace has answered.
 *
 * Whoever waits for one of these does it until the life of the other CPU ends.
 * Userspace knows how long that takes: from time to time it leaves the vCPUs
 * alone, so that no signal helps those that have missed something, or saves them
 * and restores them into a new VM.
 *
 * There are VMs of several kinds, e.g. with interrupt controllers in KVM or in
 * userspace.  A seed has one of them, unless it is chosen with -m.
 *
 * A VM is used for some hundred resets and then freed, while its vCPUs are
 * running, or its process killed.  If something hangs, then the last line of each
 * thread is printed, and the kernel is asked for what tasks and CPUs do.
 *
 * To replay what failed, use the seed that is printed with -s, and -r 1.
 */
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "vcpu_reset_storm.h"

/* Threads besides those of the vCPUs */
#define NR_CHAOS		6
#define NR_SLOTS		(STORM_CPUS + NR_CHAOS + 1)
#define SLOT_MAIN		(NR_SLOTS - 1)
#define MAX_ACTIONS		64

/* How many resets, starts by the guest included, a VM lives for. */
#define ROUND_RESETS		300
#define STORM_MS		250
#define CALM_MS			120
#define LATE_MS			500

/* What takes this long is stuck: this is emulated on a busy machine. */
#define HANG_MS			15000

/* Shared with the process that runs the VM */
static struct {
	u64 beat;
	bool done;		/* All is well, the process may die. */
	bool reported;
	struct {
		const char *what;
		long since;
		pid_t tid;
	} slot[NR_SLOTS];
	u64 resets, fw_starts, fw_refused, lives, sent, sleeps, steps, ioctls;
	u64 served, compared, hotplugs, late, migrations;
	u64 actions[MAX_ACTIONS], counts[STORM_MAX_COUNTS];
} *shared;

/* In place of the line */
#define CLOCK_WENT_BACK		1

struct storm storm;

static u32 seed = 1;
static unsigned long nr_wanted = 300;
static long max_s, hang_ms = HANG_MS;
static int nr_rounds, verbose, nr_modes, forced_mode = -1;
static bool quit, calm, no_hotplug;

enum storm_break storm_sabotage;
static pthread_t chaos[NR_CHAOS];
static bool parked[NR_CHAOS];
static struct vcpu_state *reference[STORM_CPUS];
static char replay[128];

/* The CPUs that the test may use */
static cpu_set_t allowed;

/* ---- The guest ----------------------------------------------------------- */

static u32 guest_random(u32 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;

	return *state;
}

void guest_storm_fail(u64 line, u64 a, u64 b, u64 c)
{
	u64 none = 0;

	if (__atomic_compare_exchange_n(&storm_guest->failed, &none, ~0ull, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		storm_guest->fail_args[0] = a;
		storm_guest->fail_args[1] = b;
		storm_guest->fail_args[2] = c;
		__atomic_store_n(&storm_guest->failed, line, __ATOMIC_SEQ_CST);
	}

	for (;;)
		cpu_relax();
}

static u64 load(u64 *p)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void store(u64 *p, u64 val)
{
	__atomic_store_n(p, val, __ATOMIC_SEQ_CST);
}

void guest_storm_ack(u64 id, u64 kind, u64 sender)
{
	struct storm_cpu_mem *me = &storm_guest->cpu[id];

	GUEST_STORM_ASSERT(kind < STORM_MAX_KINDS && sender < STORM_SENDERS,
			   id, kind, sender);
	store(&me->ack[kind][sender], load(&me->req[kind][sender]));
}

static void guest_check_clock(u64 id)
{
	u64 age, last, now;

	age = load(&storm_guest->age);
	last = load(&storm_guest->clock[age % STORM_AGES]);
	now = guest_arch_time();

	if (now < last && age == load(&storm_guest->age) &&
	    !(storm_guest->flags & STORM_FLAG_NO_CLOCK))
		guest_storm_fail(CLOCK_WENT_BACK, id, now, last);

	while (now > last &&
	       !__atomic_compare_exchange_n(&storm_guest->clock[age % STORM_AGES],
					    &last, now, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
}

static struct storm_frame *new_start(struct storm_mem *mem, u64 target, u64 how, u64 *arg)
{
	u64 n = __atomic_add_fetch(&mem->nr_starts, 1, __ATOMIC_SEQ_CST);
	struct storm_frame *frame = &mem->frame[n % STORM_FRAMES];

	frame->target = target;
	frame->how = how;
	frame->expect = 0;
	store(&frame->start, n);
	*arg = STORM_SHARED_GPA + (u64)((char *)frame - (char *)mem);

	return frame;
}

struct storm_frame *guest_storm_new_start(u64 target, u64 *arg)
{
	return new_start(storm_guest, target, BY_FIRMWARE, arg);
}

/* What @me waits for, for userspace to see. */
static void begin_wait(struct storm_cpu_mem *me, u64 kind, u64 target)
{
	me->wait_kind = kind;
	me->wait_target = target;
	store(&me->wait, ++me->wait_seq);
}

static void end_wait(struct storm_cpu_mem *me)
{
	store(&me->wait, 0);
}

static void guest_wait_for_ack(u64 id, u64 kind, u64 target, u64 n, u64 epoch)
{
	struct storm_cpu_mem *me = &storm_guest->cpu[id];
	struct storm_cpu_mem *cpu = &storm_guest->cpu[target];

	begin_wait(me, kind, target);
	while (load(&cpu->ack[kind][id]) != n && load(&cpu->epoch) == epoch)
		guest_arch_poll(id, false);
	end_wait(me);
}

static u64 guest_send_now(u64 id, u64 kind, u64 target)
{
	struct storm_cpu_mem *cpu = &storm_guest->cpu[target];
	u64 n = load(&cpu->req[kind][id]) + 1;

	store(&cpu->req[kind][id], n);
	guest_arch_send(kind, id, target);
	__atomic_fetch_add(&storm_guest->nr_sent, 1, __ATOMIC_RELAXED);

	return n;
}

static bool guest_kind(u32 *rng, u64 *kind)
{
	*kind = guest_random(rng) % STORM_MAX_KINDS;

	return storm_guest->kinds & BIT(*kind);
}

static void guest_send(u64 id, u64 target, u32 *rng)
{
	struct storm_cpu_mem *cpu = &storm_guest->cpu[target];
	u64 epoch = load(&cpu->epoch), kind;
	int i = guest_random(rng) % 8 + 1;

	if (target == id || epoch & 1 || !load(&cpu->up))
		return;

	/* The target may be about to go to sleep each time. */
	while (i--) {
		if (guest_kind(rng, &kind))
			guest_wait_for_ack(id, kind, target,
					   guest_send_now(id, kind, target), epoch);
	}
}

static void guest_start(u64 id, u64 target, u32 *rng)
{
	struct storm_cpu_mem *me = &storm_guest->cpu[id];
	struct storm_cpu_mem *cpu = &storm_guest->cpu[target];
	u64 epoch = load(&cpu->epoch), up = load(&cpu->up), arg, kind = 0, sent = 0;
	struct storm_frame *frame;
	bool send;
	u64 n;
	u8 state;

	/* Now and then one that is up. */
	if (target == id || epoch & 1 || (up && guest_random(rng) % 8))
		return;

	frame = guest_storm_new_start(target, &arg);
	n = frame->start;
	send = !(storm_guest->flags & STORM_FLAG_UNKNOWN) && guest_random(rng) % 2 &&
	       guest_kind(rng, &kind);
	if (send) {
		frame->from = id;
		frame->from_epoch = load(&me->epoch);
		frame->seq = load(&cpu->req[kind][id]) + 1;
		store(&frame->expect, kind + 1);
	}
	if (guest_arch_start(id, target, arg, &epoch)) {
		state = __atomic_exchange_n(&storm_guest->start[n], START_REFUSED,
					    __ATOMIC_SEQ_CST);
		GUEST_STORM_ASSERT(state == START_PENDING, id, target, n);
		__atomic_fetch_add(&storm_guest->fw_refused, 1, __ATOMIC_RELAXED);
		return;
	}
	GUEST_STORM_ASSERT(!up || load(&cpu->epoch) != epoch ||
			   storm_guest->flags & STORM_FLAG_UNKNOWN, id, target, n);
	__atomic_fetch_add(&storm_guest->fw_started, 1, __ATOMIC_RELAXED);

	if (send)
		sent = guest_send_now(id, kind, target);

	begin_wait(me, STORM_MAX_KINDS, target);
	while (__atomic_load_n(&storm_guest->start[n], __ATOMIC_SEQ_CST) == START_PENDING &&
	       load(&cpu->epoch) == epoch)
		guest_arch_poll(id, false);
	end_wait(me);

	if (sent)
		guest_wait_for_ack(id, kind, target, sent, epoch);
}

static void guest_stop(u64 id)
{
	struct storm_cpu_mem *me = &storm_guest->cpu[id];
	u64 epoch;

	/* Userspace may do the same. */
	store(&me->up, 0);
	epoch = __atomic_fetch_add(&me->epoch, 2, __ATOMIC_SEQ_CST);
	store(&me->parked, 1);
	guest_arch_stop(id);
	GUEST_STORM_ASSERT(false, id, epoch, me->epoch);
}

static void guest_step(u64 id, u32 *rng)
{
	u64 target = guest_random(rng) % STORM_CPUS, gpa, val;
	int i;

	guest_check_clock(id);
	guest_arch_poll(id, false);
	storm_guest->cpu[id].steps++;

	switch (guest_random(rng) % 16) {
	case 0 ... 3:
		guest_send(id, target, rng);
		break;
	case 4 ... 6:
		guest_start(id, target, rng);
		break;
	case 7:
		if (id && !(guest_random(rng) % 4))
			guest_stop(id);
		break;
	case 8 ... 9:
		for (i = guest_random(rng) % 16; id && i; i--) {
			storm_guest->cpu[id].sleeps++;
			guest_arch_poll(id, true);
		}
		break;
	case 10:
		gpa = STORM_MMIO_GPA + guest_random(rng) % 256 * 8;
		val = READ_ONCE(*(u64 *)gpa);
		GUEST_STORM_ASSERT(val == STORM_MMIO_VALUE(gpa), id, gpa, val);
		break;
	case 11:
		gpa = STORM_FLAKY_GPA + guest_random(rng) % STORM_FLAKY_SIZE / 8 * 8;
		if (guest_random(rng) % 2)
			WRITE_ONCE(*(u64 *)gpa, gpa);
		else
			(void)READ_ONCE(*(u64 *)gpa);
		break;
	case 12 ... 13:
		guest_arch_dirty(id, guest_random(rng));
		break;
	default:
		for (i = guest_random(rng) % 64; i; i--)
			cpu_relax();
	}
}

void guest_storm_life(u64 id, struct storm_frame *frame)
{
	struct storm_cpu_mem *me = &storm_guest->cpu[id];
	u64 n = load(&frame->start);
	u32 rng;
	u8 state;

	GUEST_STORM_ASSERT(id < STORM_CPUS && frame->target == id, id, frame->target, n);
	GUEST_STORM_ASSERT(n && n < STORM_MAX_STARTS, id, n, 0);
	state = __atomic_exchange_n(&storm_guest->start[n], START_LIVES, __ATOMIC_SEQ_CST);
	GUEST_STORM_ASSERT(state == START_PENDING, id, n, state);

	end_wait(me);
	guest_arch_begin(id, frame);
	me->lives++;

	/* Nobody else sends interrupts yet, i.e. none stands in for it. */
	if (frame->expect) {
		u64 kind = frame->expect - 1, from = frame->from;

		begin_wait(me, kind, id);
		while (load(&me->ack[kind][from]) != frame->seq &&
		       load(&storm_guest->cpu[from].epoch) == frame->from_epoch)
			guest_arch_poll(id, false);
		end_wait(me);
	}
	store(&me->up, n);

	rng = storm_guest->seed + n * 2654435761u;
	rng |= !rng;
	for (;;)
		guest_step(id, &rng);
}

/* ---- Threads ------------------------------------------------------------- */

long storm_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);

	return ts.tv_sec * 1000l + ts.tv_nsec / 1000000;
}

void storm_sleep_us(int us)
{
	struct timespec ts = { 0, us * 1000 };

	nanosleep(&ts, NULL);
}

u32 storm_random(u32 *state)
{
	return guest_random(state);
}

static u32 thread_seed(u32 round_seed, u32 nr)
{
	u32 state = round_seed * 2654435761u + nr * 40503u + 1;

	state |= !state;
	guest_random(&state);

	return state;
}

static void set_slot(int slot, const char *what)
{
	shared->slot[slot].since = storm_now_ms();
	WRITE_ONCE(shared->slot[slot].what, what);
}

static void press_sysrq(char c)
{
	int fd = open("/proc/sysrq-trigger", O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, &c, 1) != 1)
		pr_info("sysrq %c: errno %d\n", c, errno);
	close(fd);
}

/* To the log of the kernel too, whoever reads our output may hang as well. */
static void __printf(2, 3) say(int kmsg, const char *fmt, ...)
{
	char buf[256];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);

	if (kmsg >= 0 && write(kmsg, buf, len) != len)
		kmsg = -1;
	fputs(buf, stdout);
}

/* Say what each thread does, and have the kernel say it. */
static void report_hang(const char *what)
{
	int kmsg, i;
	long now = storm_now_ms();

	if (__atomic_exchange_n(&shared->reported, true, __ATOMIC_SEQ_CST))
		return;

	kmsg = open("/dev/kmsg", O_WRONLY);
	say(kmsg, "# HANG: %s\n", what);
	say(kmsg, "# replay: %s\n", replay);
	for (i = 0; i < NR_SLOTS; i++) {
		if (shared->slot[i].what)
			say(kmsg, "# thread %d (%s %d): %s, for %ld ms\n",
			    shared->slot[i].tid,
			    i < STORM_CPUS ? "vCPU" : i < SLOT_MAIN ? "chaos" : "main",
			    i, shared->slot[i].what,
			    now - shared->slot[i].since);
	}
	press_sysrq('l');
	press_sysrq('w');
	press_sysrq('t');
	fflush(stdout);
}

static void dump_guest(void)
{
	int i, k;

	if (!storm.mem)
		return;

	for (i = 0; i < STORM_CPUS; i++) {
		struct storm_cpu_mem *m = &storm.mem->cpu[i];
		struct storm_cpu *cpu = &storm.cpus[i];

		pr_info("# vCPU %d: epoch %lu up %lu lives %lu steps %lu wait %lu (for %s %lu of %lu) start %lu%s paused %d resets %lu\n",
			i, (long)m->epoch, (long)m->up, (long)m->lives, (long)m->steps,
			(long)m->wait, m->wait_kind < STORM_MAX_KINDS ? "interrupt" : "start",
			(long)m->wait_kind, (long)m->wait_target, (long)cpu->start,
			cpu->running ? " in KVM_RUN" : "", cpu->paused, (long)cpu->gen);
		for (k = 0; k < STORM_MAX_KINDS; k++) {
			int s;

			for (s = 0; s < STORM_SENDERS; s++) {
				if (m->req[k][s] != m->ack[k][s])
					pr_info("#   interrupt %d of %d: sent %lu, taken %lu\n",
						k, s, (long)m->req[k][s], (long)m->ack[k][s]);
			}
		}
	}
}

/* The last thing that this process does. */
void storm_fail(const char *fmt, ...)
{
	static bool failing;
	va_list ap;
	int i;

	if (__atomic_exchange_n(&failing, true, __ATOMIC_SEQ_CST)) {
		for (;;)
			pause();
	}

	va_start(ap, fmt);
	printf("# FAILED: ");
	vprintf(fmt, ap);
	va_end(ap);
	pr_info("\n# replay: %s\n", replay);
	pr_info("# %lu migrations\n", (long)shared->migrations);
	dump_guest();

	/* What the vCPUs are at, if they can be had. */
	if (verbose) {
		for (i = 0; i < STORM_CPUS; i++) {
			pr_info("# vCPU %d exit %u\n", i, storm.cpus[i].vcpu->run->exit_reason);
			WRITE_ONCE(storm.cpus[i].paused, 100);
			WRITE_ONCE(storm.cpus[i].vcpu->run->immediate_exit, 1);
			pthread_kill(storm.cpus[i].thread, SIGUSR1);
			storm_sleep_us(20000);
			vcpu_dump(stdout, storm.cpus[i].vcpu, 2);
		}
	}
	fflush(stdout);
	_exit(KSFT_FAIL);
}

static void kick_handler(int sig)
{
}

void storm_kick(struct storm_cpu *cpu)
{
	WRITE_ONCE(cpu->vcpu->run->immediate_exit, 1);
	pthread_kill(cpu->thread, SIGUSR1);
}

/* With the lock held, which is dropped. */
void storm_pause_locked(struct storm_cpu *cpu)
{
	cpu->paused++;
	while (cpu->running) {
		storm_kick(cpu);
		pthread_cond_wait(&storm.cond, &storm.lock);
	}
}

void storm_resume_locked(struct storm_cpu *cpu)
{
	cpu->paused--;
	pthread_cond_broadcast(&storm.cond);
}

void storm_pause(struct storm_cpu *cpu)
{
	pthread_mutex_lock(&storm.lock);
	storm_pause_locked(cpu);
}

void storm_resume(struct storm_cpu *cpu)
{
	storm_resume_locked(cpu);
	pthread_mutex_unlock(&storm.lock);
}

/* Everybody is out of KVM_RUN at the same time, and has acted on the exit. */
void storm_pause_all(void)
{
	int i;

	pthread_mutex_lock(&storm.lock);
	for (i = 0; i < STORM_CPUS; i++)
		storm.cpus[i].paused++;
	for (i = 0; i < STORM_CPUS; i++) {
		while (storm.cpus[i].running || storm.cpus[i].handling) {
			if (storm.cpus[i].running)
				storm_kick(&storm.cpus[i]);
			pthread_cond_wait(&storm.cond, &storm.lock);
		}
	}
}

void storm_resume_all(void)
{
	int i;

	for (i = 0; i < STORM_CPUS; i++)
		storm.cpus[i].paused--;
	pthread_cond_broadcast(&storm.cond);
	pthread_mutex_unlock(&storm.lock);
}

static void *vcpu_thread(void *arg)
{
	struct storm_cpu *cpu = arg;
	int nr = cpu - storm.cpus, r, err;
	u32 rng = thread_seed(seed, 100 + nr);
	bool handled;

	cpu->tid = syscall(SYS_gettid);
	shared->slot[nr].tid = cpu->tid;

	pthread_mutex_lock(&storm.lock);
	while (!quit) {
		if (cpu->paused) {
			set_slot(nr, "paused");
			pthread_cond_wait(&storm.cond, &storm.lock);
			continue;
		}
		if (!arch_storm_enter(cpu)) {
			set_slot(nr, "sleeps");
			pthread_cond_wait(&storm.cond, &storm.lock);
			continue;
		}
		/* A kick that comes from here on isn't lost. */
		cpu->vcpu->run->immediate_exit = !READ_ONCE(calm) &&
						 !(storm_random(&rng) % 16);
		cpu->running = true;
		pthread_mutex_unlock(&storm.lock);

		set_slot(nr, "KVM_RUN");
		r = __vcpu_run(cpu->vcpu);
		err = errno;

		pthread_mutex_lock(&storm.lock);
		set_slot(nr, "between KVM_RUNs");
		cpu->running = false;
		pthread_cond_broadcast(&storm.cond);

		if (r && err != EINTR && err != EAGAIN)
			storm_fail("vCPU %d: KVM_RUN: errno %d", nr, err);
		if (r)
			continue;

		switch (cpu->vcpu->run->exit_reason) {
		case KVM_EXIT_MMIO:
			if (!cpu->vcpu->run->mmio.is_write) {
				u64 val = STORM_MMIO_VALUE(cpu->vcpu->run->mmio.phys_addr) +
					  (storm_sabotage == BREAK_LOAD);

				memcpy(cpu->vcpu->run->mmio.data, &val, sizeof(val));
			}
			break;
		default:
			cpu->handling = true;
			handled = arch_storm_exit(cpu);
			cpu->handling = false;
			pthread_cond_broadcast(&storm.cond);
			if (!handled)
				storm_fail("vCPU %d: unexpected exit %u (%s)", nr,
					   cpu->vcpu->run->exit_reason,
					   exit_reason_str(cpu->vcpu->run->exit_reason));
		}
	}
	pthread_mutex_unlock(&storm.lock);
	set_slot(nr, "done");

	return NULL;
}

/* ---- Lives --------------------------------------------------------------- */

void storm_abandon(struct storm_mem *mem, u64 id)
{
	int i;

	for (i = 0; i < STORM_CPUS; i++) {
		u64 mine = id + 1;

		if (__atomic_compare_exchange_n(&mem->cpu[i].starter, &mine, 0, false,
						__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
			/* Odd or even, as it was even before the start. */
			u64 e = load(&mem->cpu[i].epoch);

			store(&mem->cpu[i].epoch, (e | 1) + 1);
		}
	}
}

void storm_end_life(struct storm_cpu *cpu)
{
	struct storm_cpu_mem *m = &storm.mem->cpu[cpu - storm.cpus];
	u64 e = load(&m->epoch);

	/* Those who have made it odd shall notice. */
	store(&m->epoch, e & 1 ? e + 2 : e + 1);
	store(&m->up, 0);
}

void storm_ended_life(struct storm_cpu *cpu)
{
	u64 id = cpu - storm.cpus;
	struct storm_cpu_mem *m = &storm.mem->cpu[id];

	store(&m->up, 0);
	store(&m->wait, 0);
	store(&m->parked, 0);
	storm_abandon(storm.mem, id);
	store(&m->epoch, (load(&m->epoch) | 1) + 1);
	cpu->gen++;
	__atomic_fetch_add(&shared->resets, 1, __ATOMIC_RELAXED);
}

void storm_new_age(void)
{
	u64 age = storm.mem->age + 1;

	store(&storm.mem->clock[age % STORM_AGES], 0);
	store(&storm.mem->age, age);
}

struct storm_frame *storm_new_start(u64 target, u64 *arg)
{
	return new_start(storm.mem, target, BY_USER, arg);
}

static const struct vcpu_state_rule *volatile_rules;

static void add_difference(void *arg, const char *name, const char *want,
			   const char *got)
{
	unsigned int *nr = arg;

	if (vcpu_state_match(vcpu_state_clocks, name) ||
	    vcpu_state_match(volatile_rules, name))
		return;

	(*nr)++;
	pr_info("# %s is %s instead of %s\n", name, got, want);
}

/* What userspace can read is the same as before the vCPU has ever run. */
static void compare_with_new(struct storm_cpu *cpu)
{
	int id = cpu - storm.cpus;
	struct vcpu_state *got = vcpu_state_get(cpu->vcpu);
	unsigned int nr = 0;

	volatile_rules = arch_storm_volatile;
	vcpu_state_diff(reference[id], got, add_difference, &nr);
	vcpu_state_free(got);
	shared->compared++;
	if (nr)
		storm_fail("vCPU %d: %u fields are of an old life", id, nr);
}

/* With the vCPU paused */
static void __storm_reset(struct storm_cpu *cpu, bool start, bool compare)
{
	u64 id = cpu - storm.cpus, arg = 0, n = 0;

	storm_end_life(cpu);
	vcpu_set_mp_state(cpu->vcpu, KVM_MP_STATE_RESET);
	if (compare)
		compare_with_new(cpu);
	if (start) {
		n = storm_new_start(id, &arg)->start;
		if (storm_sabotage == BREAK_START_TWICE && cpu->start && n % 4 == 0)
			storm.mem->frame[n % STORM_FRAMES].start = cpu->start;
		if (storm_sabotage == BREAK_START_ARG && n % 4 == 0)
			storm.mem->frame[n % STORM_FRAMES].target ^= 1;
		arch_storm_boot(cpu->vcpu, storm_sabotage == BREAK_START_LOST && id ? 0 : arg);
		if (storm_sabotage == BREAK_STATE && n % 4 == 0)
			arch_storm_break(cpu->vcpu);
	} else {
		arch_storm_boot(cpu->vcpu, 0);
	}
	storm_ended_life(cpu);
	store(&storm.mem->cpu[id].parked, !start);
	cpu->start = n;
	cpu->start_epoch = load(&storm.mem->cpu[id].epoch);
}

void storm_reset(struct storm_cpu *cpu, bool start)
{
	__storm_reset(cpu, start, false);
}

/* The lock is held.  Nobody but the caller knows of the start. */
bool storm_serve_start(struct storm_cpu *caller, u64 target, u64 entry, u64 arg)
{
	struct storm_cpu *cpu = &storm.cpus[target];
	u64 gen = caller->gen;
	int toggles = storm.toggles;
	bool ok = false;

	storm_pause_locked(cpu);
	/* Was the caller reset, or has KVM served others since? */
	if (caller->gen == gen && toggles == storm.toggles && storm.toggled &&
	    arch_storm_stopped(cpu)) {
		vcpu_set_mp_state(cpu->vcpu, KVM_MP_STATE_RESET);
		arch_storm_boot_entry(cpu->vcpu, entry, arg);
		shared->served++;
		ok = true;
	}
	storm_resume_locked(cpu);

	return ok;
}

/* ---- Actions ------------------------------------------------------------- */

struct storm_cpu *storm_any_cpu(u32 *rng)
{
	return &storm.cpus[storm_random(rng) % STORM_CPUS];
}

/* Do @dirty to one of them, and then reset it. */
void storm_dirty_and_reset(u32 *rng, void (*dirty)(struct kvm_vcpu *vcpu))
{
	struct storm_cpu *cpu = storm_any_cpu(rng);

	storm_pause(cpu);
	storm_end_life(cpu);
	dirty(cpu->vcpu);
	storm_reset(cpu, true);
	storm_resume(cpu);
}

static void do_reset_start(u32 *rng)
{
	struct storm_cpu *cpu = storm_any_cpu(rng);
	bool compare = !(storm_random(rng) % 32);

	storm_pause(cpu);
	__storm_reset(cpu, true, compare);
	storm_resume(cpu);
}

static void do_reset_stop(u32 *rng)
{
	struct storm_cpu *cpu = &storm.cpus[1 + storm_random(rng) % (STORM_CPUS - 1)];

	storm_pause(cpu);
	storm_reset(cpu, false);
	storm_resume(cpu);
}

static void reset_and_run(struct kvm_vcpu *vcpu)
{
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RESET);
	__vcpu_run_immediate_exit(vcpu);
}

static void do_reset_twice(u32 *rng)
{
	storm_dirty_and_reset(rng, reset_and_run);
}

/* All at once, one by one */
void storm_reset_all(int first)
{
	int i;

	for (i = 0; i < STORM_CPUS; i++)
		storm_end_life(&storm.cpus[i]);
	for (i = 0; i < STORM_CPUS; i++)
		storm_reset(&storm.cpus[(first + i) % STORM_CPUS], !((first + i) % STORM_CPUS));
}

static void do_machine_reset(u32 *rng)
{
	int first = storm_random(rng) % STORM_CPUS;

	storm_pause_all();
	storm_reset_all(first);
	storm_resume_all();
}

static void do_freeze(u32 *rng)
{
	struct storm_cpu *cpu = storm_any_cpu(rng);
	int us = storm_random(rng) % 2000;

	storm_pause(cpu);
	pthread_mutex_unlock(&storm.lock);
	storm_sleep_us(us);
	pthread_mutex_lock(&storm.lock);
	storm_resume(cpu);
}

/* Look, and write back what is no clock. */
static void do_read_state(u32 *rng)
{
	struct storm_cpu *cpu = storm_any_cpu(rng);
	struct vcpu_state *state;

	storm_pause(cpu);
	state = vcpu_state_get(cpu->vcpu);
	__atomic_fetch_add(&shared->ioctls, state->nr, __ATOMIC_RELAXED);
	vcpu_state_free(state);
	storm_resume(cpu);
}

/* KVM_GET_MP_STATE, and back */
static void do_mp_state(u32 *rng)
{
	struct storm_cpu *cpu = storm_any_cpu(rng);
	struct kvm_mp_state mp_state;

	storm_pause(cpu);
	vcpu_mp_state_get(cpu->vcpu, &mp_state);
	if (mp_state.mp_state == KVM_MP_STATE_RUNNABLE)
		vcpu_set_mp_state(cpu->vcpu, KVM_MP_STATE_RUNNABLE);
	storm_resume(cpu);
}

static void do_signals(u32 *rng)
{
	int i = storm_random(rng) % 8 + 1;

	while (i--) {
		pthread_kill(storm_any_cpu(rng)->thread, SIGUSR1);
		if (storm_random(rng) % 2)
			storm_sleep_us(storm_random(rng) % 300);
	}
}

/* The number of an allowed CPU, @nr of them modulo how many there are */
static int allowed_cpu(u32 nr)
{
	int cpu;

	nr %= CPU_COUNT(&allowed);
	for (cpu = 0; ; cpu++) {
		if (CPU_ISSET(cpu, &allowed) && !nr--)
			return cpu;
	}
}

static void do_migrate_threads(u32 *rng)
{
	int one = storm_random(rng) % 4 ? -1 : allowed_cpu(storm_random(rng)), i;
	cpu_set_t set;

	for (i = 0; i < STORM_CPUS; i++) {
		CPU_ZERO(&set);
		CPU_SET(one >= 0 ? one : allowed_cpu(storm_random(rng)), &set);
		if (storm_random(rng) % 2 && storm.cpus[i].tid)
			sched_setaffinity(storm.cpus[i].tid, sizeof(set), &set);
	}
}

static void do_toggle(u32 *rng)
{
	if (!arch_storm_toggles || !(kvm_check_cap(KVM_CAP_EXIT_ON_VCPU_RESET)))
		return;

	storm_pause_all();
	storm.toggled = !storm.toggled;
	storm.toggles++;
	vm_enable_cap(storm.vm, KVM_CAP_EXIT_ON_VCPU_RESET,
		      storm.toggled ? arch_storm_toggles : 0);
	storm_resume_all();
}

static void do_memslot(u32 *rng)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static void *mem;
	struct kvm_userspace_memory_region region = {
		.slot = STORM_FLAKY_SLOT,
		.guest_phys_addr = STORM_FLAKY_GPA,
	};
	int i = storm_random(rng) % 4 + 1;

	pthread_mutex_lock(&lock);
	if (!mem)
		mem = kvm_mmap(STORM_FLAKY_SIZE, PROT_READ | PROT_WRITE,
			       MAP_ANONYMOUS | MAP_PRIVATE, -1);
	region.userspace_addr = (u64)mem;
	while (i--) {
		region.memory_size = region.memory_size ? 0 : STORM_FLAKY_SIZE;
		region.flags = storm_random(rng) % 2 ? KVM_MEM_LOG_DIRTY_PAGES : 0;
		__vm_ioctl(storm.vm, KVM_SET_USER_MEMORY_REGION, &region);
		storm_sleep_us(storm_random(rng) % 500);
	}
	if (storm_random(rng) % 2)
		madvise(mem, STORM_FLAKY_SIZE, MADV_DONTNEED);
	pthread_mutex_unlock(&lock);
}

/* Is what userspace has sent taken, or not to be expected any more? */
static bool user_irq_taken(struct storm_cpu *cpu, int kind)
{
	struct storm_cpu_mem *m = &storm.mem->cpu[cpu - storm.cpus];

	return !cpu->sent[kind] || load(&m->epoch) != cpu->sent_epoch[kind] ||
	       load(&m->ack[kind][STORM_USER]) == cpu->sent[kind];
}

static bool send(struct storm_cpu *cpu, int kind)
{
	struct storm_cpu_mem *m = &storm.mem->cpu[cpu - storm.cpus];
	u64 epoch = load(&m->epoch), n;

	if (epoch & 1 || !load(&m->up) || !user_irq_taken(cpu, kind))
		return false;

	n = load(&m->req[kind][STORM_USER]) + 1;
	store(&m->req[kind][STORM_USER], n);
	if (storm_sabotage != BREAK_INTERRUPT)
		arch_storm_send(kind, cpu - storm.cpus);
	cpu->sent_epoch[kind] = epoch;
	store(&cpu->sent[kind], n);

	return true;
}

static void do_send(u32 *rng)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct storm_cpu *cpu = storm_any_cpu(rng);
	int i = storm_random(rng) % 32 + 1, j, kind;

	do {
		kind = storm_random(rng) % STORM_MAX_KINDS;
	} while (!(arch_storm_user_kinds & BIT(kind)));

	pthread_mutex_lock(&lock);
	while (i-- && send(cpu, kind)) {
		/* Meet the vCPU at various stages of going to sleep again. */
		for (j = storm_random(rng) % 4096; j && !user_irq_taken(cpu, kind); j--)
			cpu_relax();
	}
	pthread_mutex_unlock(&lock);
}

static const struct storm_action actions[] = {
	{ "reset and start", 8, do_reset_start },
	{ "reset and stop", 3, do_reset_stop },
	{ "reset twice", 2, do_reset_twice },
	{ "machine reset", 1, do_machine_reset },
	{ "freeze", 2, do_freeze },
	{ "read state", 2, do_read_state },
	{ "MP state", 2, do_mp_state },
	{ "signals", 6, do_signals },
	{ "migrate threads", 3, do_migrate_threads },
	{ "toggle", 1, do_toggle },
	{ "memory slot", 2, do_memslot },
	{ "send", 12, do_send },
	{}
};

static const struct storm_action *choose_action(u32 *rng, int *nr)
{
	const struct storm_action *lists[] = { actions, arch_storm_actions }, *a;
	unsigned int sum = 0, at;
	int i;

	for (i = 0; i < ARRAY_SIZE(lists); i++)
		for (a = lists[i]; a->name; a++)
			sum += a->weight;

	at = storm_random(rng) % sum;
	*nr = 0;
	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		for (a = lists[i]; a->name; a++) {
			if (at < a->weight)
				return a;
			at -= a->weight;
			++*nr;
		}
	}

	return NULL;
}

static void *chaos_thread(void *arg)
{
	int nr = (long)arg, slot = STORM_CPUS + nr, action;
	u32 rng = thread_seed(seed, nr);
	const struct storm_action *a;

	shared->slot[slot].tid = syscall(SYS_gettid);
	while (!READ_ONCE(quit)) {
		if (READ_ONCE(calm)) {
			set_slot(slot, "parked");
			WRITE_ONCE(parked[nr], true);
			storm_sleep_us(2000);
			continue;
		}
		WRITE_ONCE(parked[nr], false);

		if (storm_sabotage == BREAK_HANG && !nr)
			pthread_mutex_lock(&storm.lock);
		a = choose_action(&rng, &action);
		set_slot(slot, a->name);
		if (verbose)
			pr_info("# %d: %s\n", nr, a->name);
		a->fn(&rng);
		__atomic_fetch_add(&shared->actions[action], 1, __ATOMIC_RELAXED);
		set_slot(slot, "idle");
		if (storm_random(&rng) % 2)
			storm_sleep_us(storm_random(&rng) % 1000);
	}
	set_slot(slot, "done");

	return NULL;
}

/* The last CPU goes offline and comes back. */
static bool set_online(bool online)
{
	char path[64];
	int fd;
	bool ok;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online",
		 allowed_cpu(CPU_COUNT(&allowed) - 1));
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return false;
	ok = write(fd, online ? "1" : "0", 1) == 1;
	close(fd);

	return ok;
}

static void *hotplug_thread(void *arg)
{
	bool online = true;

	while (!READ_ONCE(quit)) {
		if (set_online(!online)) {
			online = !online;
			shared->hotplugs++;
		} else if (online) {
			break;
		}
		storm_sleep_us(30000);
	}
	set_online(true);

	return NULL;
}

/* ---- A round ------------------------------------------------------------- */

bool __weak arch_storm_may_be_late(u64 kind)
{
	return false;
}

bool __weak arch_storm_has_clock(void)
{
	return true;
}

bool __weak arch_storm_stopped(struct storm_cpu *cpu)
{
	return vcpu_get_mp_state(cpu->vcpu) == KVM_MP_STATE_STOPPED;
}

bool __weak arch_storm_enter(struct storm_cpu *cpu)
{
	return true;
}

void __weak arch_storm_configure(void)
{
}

void storm_count(unsigned int nr)
{
	__atomic_fetch_add(&shared->counts[nr], 1, __ATOMIC_RELAXED);
}

/* Memory at the addresses that all architectures have */
void storm_add_memory(struct kvm_vm *vm, const void *code, size_t size)
{
	u64 nr_pages = vm_calc_num_guest_pages(vm->mode, STORM_BOOT_SIZE +
							 sizeof(struct storm_mem));

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, STORM_GPA, STORM_SLOT,
				    nr_pages, 0);
	virt_map(vm, STORM_GPA, STORM_GPA, nr_pages);
	virt_map(vm, STORM_FLAKY_GPA, STORM_FLAKY_GPA, STORM_FLAKY_SIZE / vm->page_size);
	virt_map(vm, STORM_MMIO_GPA, STORM_MMIO_GPA, 1);
	storm.mem = addr_gpa2hva(vm, STORM_SHARED_GPA);
	memcpy(addr_gpa2hva(vm, STORM_GPA), code, size);
}

static void kick_late(u64 kind, struct storm_cpu *cpu)
{
	if (!arch_storm_may_be_late(kind))
		return;
	pthread_kill(cpu->thread, SIGUSR1);
	shared->late++;
}

static void check_guest(void)
{
	static bool late[STORM_CPUS];
	static u64 wait[STORM_CPUS];
	static long since[STORM_CPUS];
	long now = storm_now_ms();
	u64 line = load(&storm.mem->failed);
	int i;

	if (line == CLOCK_WENT_BACK && !arch_storm_has_clock()) {
		pr_info("# This machine's clock is unstable\n");
		WRITE_ONCE(shared->done, true);
		fflush(stdout);
		_exit(0);
	}

	if (line && line != ~0ull)
		storm_fail("the guest, line %lu: 0x%lx 0x%lx 0x%lx", (long)line,
			   (long)storm.mem->fail_args[0], (long)storm.mem->fail_args[1],
			   (long)storm.mem->fail_args[2]);

	for (i = 0; i < STORM_CPUS; i++) {
		struct storm_cpu_mem *m = &storm.mem->cpu[i];
		u64 w = load(&m->wait);

		if (!w || w != wait[i]) {
			wait[i] = w;
			since[i] = now;
			late[i] = false;
		} else if (now - since[i] > LATE_MS && !late[i]) {
			late[i] = true;
			kick_late(m->wait_kind, &storm.cpus[m->wait_target % STORM_CPUS]);
		} else if (now - since[i] > hang_ms) {
			storm_fail("vCPU %d waits for %s %lu of vCPU %lu", i,
				   m->wait_kind < STORM_MAX_KINDS ? "interrupt" : "start",
				   (long)m->wait_kind, (long)m->wait_target);
		}
	}

	for (i = 0; i < SLOT_MAIN; i++) {
		const char *what = shared->slot[i].what;

		if (i >= STORM_CPUS && what && now - shared->slot[i].since > hang_ms) {
			report_hang("a thread of userspace");
			storm_fail("thread %d: %s", i, what);
		}
	}
}

static void wait_ms(long ms)
{
	long end = storm_now_ms() + ms;

	do {
		shared->beat++;
		storm_sleep_us(5000);
		check_guest();
	} while (storm_now_ms() < end);
}

static bool all_parked(void)
{
	int i;

	for (i = 0; i < NR_CHAOS; i++) {
		if (!READ_ONCE(parked[i]))
			return false;
	}

	return true;
}

/* Everything that is on its way goes along to a new VM. */
static void migrate(void)
{
	int i, kind;

	set_slot(SLOT_MAIN, "migrates");
	storm_pause_all();
	storm.migrating = true;
	/* What userspace has acted on has to be complete. */
	for (i = 0; i < STORM_CPUS; i++) {
		if (vcpu_needs_completion(storm.cpus[i].vcpu))
			__vcpu_run_immediate_exit(storm.cpus[i].vcpu);
	}
	/* Something of each kind is on its way. */
	for (i = 0; i < STORM_CPUS; i++) {
		for (kind = 0; kind < STORM_MAX_KINDS; kind++) {
			if (arch_storm_user_kinds & BIT(kind))
				send(&storm.cpus[i], kind);
		}
	}

	arch_storm_save();
	kvm_vm_release(storm.vm);
	kvm_vm_restart(storm.vm);
	arch_storm_configure();
	for (i = 0; i < STORM_CPUS; i++)
		storm.cpus[i].vcpu = vm_vcpu_recreate(storm.vm, i);
	arch_storm_restore();
	if (storm.toggled && arch_storm_toggles)
		vm_enable_cap(storm.vm, KVM_CAP_EXIT_ON_VCPU_RESET, arch_storm_toggles);
	storm_new_age();
	shared->migrations++;
	storm.migrating = false;
	storm_resume_all();
}

/* Nobody touches the vCPUs: what is on its way has to arrive by itself. */
static void be_calm(bool migrates)
{
	long start;
	int i, k;

	set_slot(SLOT_MAIN, "begins to be calm");
	for (i = 0; i < NR_CHAOS; i++)
		WRITE_ONCE(parked[i], false);
	WRITE_ONCE(calm, true);
	while (!all_parked()) {
		/* Some wait for a vCPU to leave KVM_RUN. */
		for (i = 0; i < STORM_CPUS; i++)
			pthread_kill(storm.cpus[i].thread, SIGUSR1);
		wait_ms(1);
	}

	if (migrates)
		migrate();

	set_slot(SLOT_MAIN, "is calm");
	wait_ms(CALM_MS);

	start = storm_now_ms();
	for (i = 0; i < STORM_CPUS; i++) {
		struct storm_cpu *cpu = &storm.cpus[i];
		struct storm_cpu_mem *m = &storm.mem->cpu[i];
		u64 w = load(&m->wait);

		/* Nobody ends the wait by a reset: check_guest() does, by and by. */
		while (w && load(&m->wait) == w)
			wait_ms(1);

		for (k = 0; k < STORM_MAX_KINDS; k++) {
			bool is_late = false;

			while (!user_irq_taken(cpu, k)) {
				wait_ms(1);
				if (!is_late && storm_now_ms() - start > LATE_MS) {
					is_late = true;
					kick_late(k, cpu);
				}
				if (storm_now_ms() - start > hang_ms)
					storm_fail("vCPU %d doesn't get interrupt %d of userspace",
						   i, k);
			}
		}
		while (cpu->start && load(&m->epoch) == cpu->start_epoch &&
		       storm.mem->start[cpu->start] == START_PENDING) {
			wait_ms(1);
			if (storm_now_ms() - start > hang_ms)
				storm_fail("vCPU %d does not start, userspace has reset it", i);
		}
	}

	/* Somebody has to wake up the others. */
	if (!load(&storm.mem->cpu[0].up)) {
		storm_pause(&storm.cpus[0]);
		storm_reset(&storm.cpus[0], true);
		storm_resume(&storm.cpus[0]);
	}

	set_slot(SLOT_MAIN, "storm");
	/* One of them has seen a time that others haven't got to. */
	if (storm_sabotage == BREAK_CLOCK)
		store(&storm.mem->clock[storm.mem->age % STORM_AGES], -1ull);
	WRITE_ONCE(calm, false);
}

static void join_all(pthread_t hotplug)
{
	int i;

	set_slot(SLOT_MAIN, "joins threads");
	WRITE_ONCE(quit, true);
	for (i = 0; i < NR_CHAOS; i++)
		pthread_join(chaos[i], NULL);
	for (i = 0; i < STORM_CPUS; i++) {
		pthread_mutex_lock(&storm.lock);
		pthread_cond_broadcast(&storm.cond);
		while (storm.cpus[i].running) {
			storm_kick(&storm.cpus[i]);
			pthread_cond_wait(&storm.cond, &storm.lock);
		}
		pthread_mutex_unlock(&storm.lock);
		pthread_join(storm.cpus[i].thread, NULL);
	}
	if (hotplug)
		pthread_join(hotplug, NULL);
}

static u64 round_resets(void)
{
	return shared->resets + storm.mem->fw_started;
}

static void run_round(void)
{
	u32 rng = thread_seed(seed, 1000);
	/* A short storm is one in each kind of VM as well. */
	u64 max_resets = min(ROUND_RESETS, nr_wanted / nr_modes);
	u64 first = shared->resets;
	pthread_t hotplug = 0;
	long i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	set_slot(SLOT_MAIN, "creates the VM");
	pthread_mutex_init(&storm.lock, NULL);
	pthread_cond_init(&storm.cond, NULL);
	signal(SIGUSR1, kick_handler);

	storm.seed = seed;
	storm.mode = forced_mode >= 0 ? forced_mode : seed % nr_modes;
	pr_info("# seed %u: %s\n", seed, arch_storm_modes[storm.mode]);
	storm.hotplug = storm_random(&rng) % 2;
	arch_storm_create(&rng);
	storm.mem->seed = seed;

	for (i = 0; i < STORM_CPUS; i++) {
		struct storm_cpu *cpu = &storm.cpus[i];

		/* What the library has set goes first. */
		vcpu_set_mp_state(cpu->vcpu, KVM_MP_STATE_RESET);
		reference[i] = vcpu_state_get(cpu->vcpu);
		arch_storm_boot(cpu->vcpu, 0);
		storm.mem->cpu[i].parked = 1;
	}
	storm_reset(&storm.cpus[0], true);

	set_slot(SLOT_MAIN, "creates threads");
	for (i = 0; i < STORM_CPUS; i++)
		pthread_create(&storm.cpus[i].thread, NULL, vcpu_thread, &storm.cpus[i]);
	for (i = 0; i < NR_CHAOS; i++)
		pthread_create(&chaos[i], NULL, chaos_thread, (void *)i);
	if (!no_hotplug && CPU_COUNT(&allowed) > 1 && storm.hotplug)
		pthread_create(&hotplug, NULL, hotplug_thread, NULL);

	set_slot(SLOT_MAIN, "storm");
	do {
		wait_ms(STORM_MS);
		be_calm(!(storm_random(&rng) % 3));
	} while (round_resets() - first < max_resets &&
		 storm.mem->nr_starts < STORM_MAX_STARTS / 2);

	shared->fw_starts += storm.mem->fw_started;
	shared->fw_refused += storm.mem->fw_refused;
	shared->sent += storm.mem->nr_sent;
	for (i = 0; i < STORM_CPUS; i++) {
		shared->lives += storm.mem->cpu[i].lives;
		shared->sleeps += storm.mem->cpu[i].sleeps;
		shared->steps += storm.mem->cpu[i].steps;
	}
	check_guest();
	WRITE_ONCE(shared->done, true);
	fflush(stdout);

	/* It ends in the middle of everything, in one way or the other. */
	switch (storm_random(&rng) % 3) {
	case 0:
		raise(SIGKILL);
		break;
	case 1:
		_exit(0);
	}
	join_all(hotplug);
	set_slot(SLOT_MAIN, "frees the VM");
	arch_storm_free();
	kvm_vm_free(storm.vm);
	_exit(0);
}

/* On each CPU, since some of them may be gone. */
static void *watchdog(void *arg)
{
	long last_change = storm_now_ms(), now;
	u64 last = ~0ull, beat;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(allowed_cpu((long)arg), &set);
	sched_setaffinity(0, sizeof(set), &set);

	for (;;) {
		storm_sleep_us(200000);
		now = storm_now_ms();
		beat = READ_ONCE(shared->beat);
		if (beat != last) {
			last = beat;
			last_change = now;
		} else if (now - last_change > hang_ms) {
			report_hang("the VM, or this host");
			pr_info("Bail out! Hang\n");
			fflush(stdout);
			_exit(KSFT_FAIL);
		}
	}

	return NULL;
}

static void help(const char *name)
{
	int i;

	puts("");
	printf("usage: %s [-h] [-n resets] [-t seconds] [-s seed] [-r rounds] [-m mode]\n"
	       "       [-w seconds] [-H] [-b invariant] [-v]\n", name);
	puts("");
	printf(" -n: this many resets, starts by the guest included (default: %lu)\n", nr_wanted);
	puts(" -t: but no longer than this");
	puts(" -s: begin with this seed, each VM has the next one (default: 1)");
	puts(" -r: this many VMs, whatever -n says");
	puts(" -m: the kind of VM, instead of the seed modulo how many there are:");
	for (i = 0; arch_storm_modes[i]; i++)
		printf("     %d: %s\n", i, arch_storm_modes[i]);
	printf(" -w: what takes longer is taken for a hang (default: %d)\n", HANG_MS / 1000);
	puts(" -H: leave the host's CPUs online");
	printf(" -b: break an invariant, 1 to %d: the test has to fail\n", NR_BREAKS - 1);
	puts(" -v: print what each thread does");
	puts("");
}

int main(int argc, char *argv[])
{
	int opt, status, rounds = 0, i, nr;
	const struct storm_action *a;
	long start = storm_now_ms();
	pthread_t thread;
	pid_t pid;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (arch_storm_modes[nr_modes])
		nr_modes++;
	while ((opt = getopt(argc, argv, "hn:t:s:r:m:w:Hb:v")) != -1) {
		switch (opt) {
		case 'n':
			nr_wanted = strtoul(optarg, NULL, 0);
			break;
		case 't':
			max_s = atoi_positive("Number of seconds", optarg);
			break;
		case 's':
			seed = strtoul(optarg, NULL, 0);
			break;
		case 'r':
			nr_rounds = atoi_positive("Number of rounds", optarg);
			break;
		case 'm':
			forced_mode = atoi_non_negative("Mode", optarg);
			TEST_ASSERT(forced_mode < nr_modes, "No such mode");
			break;
		case 'w':
			hang_ms = 1000l * atoi_positive("Number of seconds", optarg);
			break;
		case 'H':
			no_hotplug = true;
			break;
		case 'b':
			storm_sabotage = atoi_positive("Invariant", optarg);
			TEST_ASSERT(storm_sabotage < NR_BREAKS, "No such invariant");
			break;
		case 'v':
			verbose++;
			break;
		default:
			help(argv[0]);
			return opt == 'h' ? 0 : KSFT_FAIL;
		}
	}

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_MP_STATE_RESET));
	arch_storm_require();
	TEST_ASSERT(!sched_getaffinity(0, sizeof(allowed), &allowed),
		    "sched_getaffinity() failed");

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_ANONYMOUS | MAP_SHARED, -1, 0);
	TEST_ASSERT(shared != MAP_FAILED, "mmap() failed");

	for (;;) {
		snprintf(replay, sizeof(replay), "%s -s %u -m %u -r 1", argv[0], seed,
			 forced_mode >= 0 ? forced_mode : seed % nr_modes);
		shared->done = false;
		shared->beat++;
		fflush(stdout);
		pid = fork();
		if (!pid)
			run_round();
		if (!rounds++) {
			for (i = 0; i < CPU_COUNT(&allowed); i++)
				pthread_create(&thread, NULL, watchdog, (void *)(long)i);
		}

		TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid() failed");
		set_online(true);
		if (!shared->done ||
		    (status && (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL))) {
			pr_info("# seed %u: status 0x%x\n", seed, status);
			TEST_FAIL("Replay: %s", replay);
		}

		if (nr_rounds ? rounds >= nr_rounds :
		    shared->resets + shared->fw_starts >= nr_wanted)
			break;
		if (max_s && storm_now_ms() - start > max_s * 1000)
			break;
		seed++;
	}

	pr_info("# %d VMs, seeds %u to %u: %lu resets by userspace, %lu starts by the guest (%lu refused, %lu served by userspace)\n",
		rounds, seed - rounds + 1, seed, (long)shared->resets, (long)shared->fw_starts,
		(long)shared->fw_refused, (long)shared->served);
	pr_info("# %lu lives, %lu steps, %lu interrupts between vCPUs, %lu sleeps, %lu compared with a new vCPU, %lu migrations, %lu times a CPU went off or online\n",
		(long)shared->lives, (long)shared->steps, (long)shared->sent, (long)shared->sleeps,
		(long)shared->compared, (long)shared->migrations, (long)shared->hotplugs);
	if (shared->late)
		pr_info("# %lu interrupts were late\n", (long)shared->late);
	TEST_ASSERT(shared->late * 10 <= shared->sent + 10, "Interrupts don't wake up");
	nr = 0;
	for (a = actions; a->name; a++)
		pr_info("# %lu %s\n", (long)shared->actions[nr++], a->name);
	for (a = arch_storm_actions; a->name; a++)
		pr_info("# %lu %s\n", (long)shared->actions[nr++], a->name);
	for (nr = 0; arch_storm_counts[nr]; nr++)
		pr_info("# %lu %s\n", (long)shared->counts[nr], arch_storm_counts[nr]);
	TEST_ASSERT(shared->lives && shared->fw_starts && shared->sent,
		    "The storm was none");

	return 0;
}
