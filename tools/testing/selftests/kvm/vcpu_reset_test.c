// SPDX-License-Identifier: GPL-2.0-only
/*
 * vcpu_reset_test - After KVM_MP_STATE_RESET, a vCPU is like a new one
 *
 * The oracle of this test is a twin: a vCPU in another VM, which was created
 * and configured in the same way and has never run.  A vCPU is brought into
 * some state, dirty as it can be, and reset.  Then:
 *  - Everything that userspace can read about the two is the same, except for
 *    what the table of allowed differences has, i.e. clocks.
 *  - Booted like a VMM does, both run the same guest code, which finds nothing
 *    of the life before the reset: no stale translation, no interrupt, nothing
 *    that KVM writes to memory.
 *  - After that, everything that userspace can read is the same again.
 *
 * What a case could not give another value before the reset is not tested by
 * it: each field is to be dirtied by at least one of the cases, or it is in a
 * table with the reason why not.
 *
 * Besides, this test verifies that:
 *  - A vCPU that was reset can be saved and restored.
 *  - Up to 10,000 resets do not use up memory or file descriptors.
 *  - A vCPU can be reset while another thread runs it, and vCPUs can reset each
 *    other.
 *  - A VM of up to 32 vCPUs starts over after one request for each vCPU.
 *  - KVM refuses what it ought to refuse, and does nothing then.
 *
 * With -s, nothing is reset: verify on any kernel that the comparison reports
 * what was dirtied, but for the fields that the tables above excuse.
 */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <dirent.h>
#include <time.h>

#include <asm/barrier.h>

#include "kselftest.h"
#include "processor.h"
#include "vcpu_reset_test.h"

#define CASE_TIMEOUT_S		60

#define TLB_MAGIC_OLD		0xbaadf00dbaad0001ul
#define TLB_MAGIC_NEW		0xfeedf00dcafe0002ul
#define SCRATCH_PATTERN		0xc5

/* Fields that differ and are not reported, i.e. clocks */
#define MAX_EXCUSED		16

/* In bytes, the guest has more pages than there are entries of 16 bytes. */
#define DIRTY_RING_SIZE		16384
#define NR_DIRTY_PAGES		1024
#define DIRTY_RING_GPA		0x20000000ul
#define DIRTY_RING_SLOT		5

/* Less if it takes too long, e.g. if this host is emulated itself. */
#define NR_RESETS		10000
#define MIN_RESETS		2000
#define MAX_RESETS_S		6
/* What all of the resets together may add to the kernel's memory. */
#define MAX_GROWTH_KB		512

/* Shared with the processes that the cases run in. */
static struct {
	unsigned int nr_fields;
	unsigned int nr_cases;
	u64 nr_compared;
	bool dirtied[16384];
	bool clocks_used[16];
	bool allowed_used[64];
} *shared;

/* The fields of a vCPU that never ran, for their names. */
static struct vcpu_state *reference;

/* In front of the names of cases */
static const char *kind_name;

static bool self_test;

/* For architectures that have only one kind of vCPUs */
unsigned int __weak arch_nr_kinds(void)
{
	return 1;
}

const char * __weak arch_select_kind(unsigned int kind)
{
	return "";
}

bool __weak arch_kind_is_fast(void)
{
	return true;
}

int __set_mp_state(struct kvm_vcpu *vcpu, u32 state)
{
	struct kvm_mp_state mp_state = { .mp_state = state };

	return __vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp_state);
}

void reset_vcpu(struct kvm_vcpu *vcpu)
{
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RESET);
}

void run_to_exit(struct kvm_vcpu *vcpu, u32 exit_reason)
{
	vcpu_run(vcpu);
	TEST_ASSERT(vcpu->run->exit_reason == exit_reason,
		    "Expected exit %u (%s), got %u (%s)",
		    exit_reason, exit_reason_str(exit_reason),
		    vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason));
}

static void interrupt_handler(int sig)
{
}

/* Run for a while, until a signal comes. */
void run_interrupted(struct kvm_vcpu *vcpu)
{
	/* Again and again, the first may come before KVM_RUN. */
	struct itimerval timer = {
		.it_value.tv_usec = 20000,
		.it_interval.tv_usec = 20000,
	};
	struct sigaction sa = { .sa_handler = interrupt_handler };
	unsigned int left = alarm(0);
	int r;

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	r = __vcpu_run(vcpu);
	TEST_ASSERT(r && errno == EINTR, "Expected -EINTR, got %d, exit reason %u (%s)",
		    r, vcpu->run->exit_reason, exit_reason_str(vcpu->run->exit_reason));

	alarm(left);
	signal(SIGALRM, SIG_DFL);
}

static void run_to_ucall(struct kvm_vcpu *vcpu, u64 cmd)
{
	struct ucall uc;
	u64 got;

	do {
		vcpu_run(vcpu);
	} while (arch_skip_exit(vcpu));

	got = get_ucall(vcpu, &uc);
	if (got == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(got == cmd, "Expected ucall %lu, got %lu, exit reason %u (%s)",
		    cmd, got, vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason));
}

void run_to_sync(struct kvm_vcpu *vcpu)
{
	run_to_ucall(vcpu, UCALL_SYNC);
}

void run_to_done(struct kvm_vcpu *vcpu)
{
	run_to_ucall(vcpu, UCALL_DONE);
}

void boot(struct reset_env *env, void *guest_code, u64 arg)
{
	arch_boot(env, env->vcpu, env->stack_gva, guest_code, arg);
}

struct guest_life_args {
	gva_t scratch_gva;
	gpa_t scratch_gpa;
	u64 *tlb_page;
};

static struct guest_life_args guest_args;

static void guest_first_life(void)
{
	GUEST_ASSERT_EQ(READ_ONCE(*guest_args.tlb_page), TLB_MAGIC_OLD);
	arch_guest_first_life(guest_args.scratch_gva, guest_args.scratch_gpa);
	GUEST_SYNC(1);
	GUEST_FAIL("The old life goes on after the reset");
}

static void guest_second_life(void)
{
	GUEST_ASSERT_EQ(READ_ONCE(*guest_args.tlb_page), TLB_MAGIC_NEW);
	arch_guest_second_life();
	GUEST_DONE();
}

static struct reset_env *env_create(const struct reset_case *c)
{
	struct reset_env *env = calloc(1, sizeof(*env));
	struct guest_life_args args;

	TEST_ASSERT(env, "-ENOMEM when allocating a VM");
	env->c = c;
	env->dev_fd = -1;

	env->vm = arch_vm_create(env, 2);
	if (c->flags & RESET_DIRTY_RING)
		vm_enable_dirty_ring(env->vm, DIRTY_RING_SIZE);

	if (c->flags & RESET_BOOT_VCPU) {
		env->vcpu = arch_vcpu_create(env, 0);
		env->helper = arch_helper_create(env, 1);
	} else {
		env->helper = arch_helper_create(env, 0);
		env->vcpu = arch_vcpu_create(env, 1);
	}

	env->stack_gva = vm_alloc(env->vm, DEFAULT_STACK_PGS * getpagesize(),
				  DEFAULT_GUEST_STACK_VADDR_MIN);
	env->stack_gva += DEFAULT_STACK_PGS * getpagesize();

	env->scratch_gpa = vm_phy_pages_alloc(env->vm, SCRATCH_PAGES + 1, 0x100000, 0);
	env->scratch_gpa = round_up(env->scratch_gpa, SCRATCH_PAGES * getpagesize());
	env->scratch_gva = vm_unused_gva_gap(env->vm, SCRATCH_PAGES * getpagesize(),
					     KVM_UTIL_MIN_VADDR);
	virt_map(env->vm, env->scratch_gva, env->scratch_gpa, SCRATCH_PAGES);

	env->tlb_gva = vm_alloc_page(env->vm);
	*(u64 *)addr_gva2hva(env->vm, env->tlb_gva) = TLB_MAGIC_OLD;

	args.scratch_gva = env->scratch_gva;
	args.scratch_gpa = env->scratch_gpa;
	args.tlb_page = (u64 *)env->tlb_gva;
	write_guest_global(env->vm, guest_args, args);

	arch_vm_finalize(env);

	if (c->configure)
		c->configure(env);

	return env;
}

static void env_free(struct reset_env *env)
{
	arch_vm_free(env);
	kvm_vm_free(env->vm);
	free(env);
}

static void print_diff(void *arg, const char *name, const char *want,
		       const char *got)
{
	const struct vcpu_state_rule *rule;

	rule = vcpu_state_match(vcpu_state_clocks, name);
	if (rule) {
		shared->clocks_used[rule - vcpu_state_clocks] = true;
		return;
	}

	rule = vcpu_state_match(arch_allowed, name);
	if (rule) {
		shared->allowed_used[rule - arch_allowed] = true;
		return;
	}

	(*(unsigned int *)arg)++;
	printf("# %-40s new vCPU %s, this one %s\n", name, want, got);
}

static void mark_dirty(void *arg, const char *name, const char *want,
		       const char *got)
{
	int i = vcpu_state_find(reference, name);

	if (i >= 0)
		shared->dirtied[i] = true;
	if (arg)
		(*(unsigned int *)arg)++;
}

void __weak arch_reset_devices(struct kvm_vcpu *vcpu, struct kvm_vcpu *twin)
{
}

/* The oracle */
static void compare(struct reset_env *env, struct reset_env *twin,
		    const char *when)
{
	struct vcpu_state *want, *got;
	unsigned int nr = 0;

	arch_reset_devices(env->vcpu, twin->vcpu);
	want = vcpu_state_get(twin->vcpu);
	got = vcpu_state_get(env->vcpu);

	vcpu_state_diff(want, got, print_diff, &nr);
	shared->nr_compared += want->nr;
	TEST_ASSERT(!nr, "%s, %u of %u fields tell the vCPU from a new one",
		    when, nr, want->nr);

	vcpu_state_free(want);
	vcpu_state_free(got);
}

static void count_dirty(struct reset_env *env, struct reset_env *twin)
{
	struct vcpu_state *want = vcpu_state_get(twin->vcpu);
	struct vcpu_state *got = vcpu_state_get(env->vcpu);
	unsigned int nr = 0;

	vcpu_state_diff(want, got, mark_dirty, &nr);
	printf("# %s%s: %u of %u fields dirtied\n", kind_name, env->c->name, nr,
	       want->nr);
	TEST_ASSERT(nr, "Nothing is dirty, this test can not fail");

	if (self_test) {
		unsigned int nr_reported = 0;

		vcpu_state_diff(want, got, print_diff, &nr_reported);
		TEST_ASSERT(nr - nr_reported < MAX_EXCUSED,
			    "%u of %u dirty fields are not reported",
			    nr - nr_reported, nr);
	}

	vcpu_state_free(want);
	vcpu_state_free(got);
}

/* The guest's memory belongs to its new life, KVM must not write to it. */
static void prepare_second_life(struct reset_env *env)
{
	gpa_t new_page = vm_phy_page_alloc(env->vm, 0x100000, 0);

	memset(addr_gpa2hva(env->vm, env->scratch_gpa), SCRATCH_PATTERN,
	       SCRATCH_PAGES * getpagesize());

	*(u64 *)addr_gpa2hva(env->vm, new_page) = TLB_MAGIC_NEW;
	arch_remap(env, env->tlb_gva, new_page);

	boot(env, guest_second_life, 0);
}

static void check_scratch(struct reset_env *env)
{
	u8 *p = addr_gpa2hva(env->vm, env->scratch_gpa);
	size_t i;

	for (i = 0; i < SCRATCH_PAGES * getpagesize(); i++)
		TEST_ASSERT(p[i] == SCRATCH_PATTERN,
			    "KVM has written 0x%02x to offset 0x%zx of the old life's memory",
			    p[i], i);
}

static void second_life(struct reset_env *env, struct reset_env *twin)
{
	prepare_second_life(env);
	prepare_second_life(twin);
	run_to_done(env->vcpu);
	run_to_done(twin->vcpu);
	check_scratch(env);
	vcpu_run_immediate_exit(env->vcpu);
	vcpu_run_immediate_exit(twin->vcpu);

	/* The registers may have the time, or addresses that the guest chose. */
	boot(env, guest_second_life, 0);
	boot(twin, guest_second_life, 0);
}

void prepare_ran(struct reset_env *env)
{
	boot(env, guest_first_life, 0);
	run_to_sync(env->vcpu);
}

void prepare_mp_state(struct reset_env *env)
{
	prepare_ran(env);
	vcpu_run_immediate_exit(env->vcpu);
	vcpu_set_mp_state(env->vcpu, env->c->arg);
}

static void prepare_ran_completed(struct reset_env *env)
{
	prepare_ran(env);
	vcpu_run_immediate_exit(env->vcpu);
}

void prepare_dirty(struct reset_env *env)
{
	vcpu_state_dirty(env->vcpu, env->scratch_gpa, env->c->arg);
}

static void prepare_ran_dirty(struct reset_env *env)
{
	prepare_ran(env);
	prepare_dirty(env);
}

void configure_mmio(struct reset_env *env)
{
	virt_map(env->vm, RESET_MMIO_GPA, RESET_MMIO_GPA, 2);
}

void guest_mmio_load(void)
{
	READ_ONCE(*(u64 *)RESET_MMIO_GPA);
	GUEST_FAIL("The old life goes on");
}

void guest_mmio_store(void)
{
	WRITE_ONCE(*(u64 *)RESET_MMIO_GPA, 1);
	GUEST_FAIL("The old life goes on");
}

void prepare_open_exit(struct reset_env *env)
{
	boot(env, env->c->guest_code, 0);
	run_to_exit(env->vcpu, env->c->arg);
}

static void prepare_immediate_exit(struct reset_env *env)
{
	prepare_ran(env);
	env->vcpu->run->immediate_exit = 1;
}

static void check_immediate_exit(struct reset_env *env)
{
	TEST_ASSERT(env->vcpu->run->immediate_exit == 1,
		    "immediate_exit is userspace's, not the vCPU's");
	TEST_ASSERT(__vcpu_run(env->vcpu) && errno == EINTR,
		    "immediate_exit has no effect after a reset");
	env->vcpu->run->immediate_exit = 0;
}

static void prepare_reset_before(struct reset_env *env)
{
	prepare_ran(env);
	if (!self_test)
		reset_vcpu(env->vcpu);
}

static void guest_fill_ring(gva_t gva)
{
	for (;; gva += 4096)
		WRITE_ONCE(*(u64 *)gva, 1);
}

static void configure_dirty_ring(struct reset_env *env)
{
	vm_userspace_mem_region_add(env->vm, VM_MEM_SRC_ANONYMOUS,
				    DIRTY_RING_GPA, DIRTY_RING_SLOT,
				    NR_DIRTY_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
	env->arch_gva = DIRTY_RING_GPA;
	virt_map(env->vm, env->arch_gva, DIRTY_RING_GPA, NR_DIRTY_PAGES);
}

static void prepare_dirty_ring_full(struct reset_env *env)
{
	boot(env, guest_fill_ring, env->arch_gva);
	run_to_exit(env->vcpu, KVM_EXIT_DIRTY_RING_FULL);
}

/* The ring is memory, and still full: harvest it like a VMM. */
static void resume_dirty_ring(struct reset_env *env)
{
	struct kvm_dirty_gfn *gfns = vcpu_map_dirty_ring(env->vcpu);
	u32 i, nr = 0;

	for (i = 0; i < DIRTY_RING_SIZE / sizeof(*gfns); i++) {
		/* See "Dirty ring" in Documentation/virt/kvm/api.rst. */
		if (smp_load_acquire(&gfns[i].flags) != KVM_DIRTY_GFN_F_DIRTY)
			continue;
		/* And for this one */
		smp_store_release(&gfns[i].flags, KVM_DIRTY_GFN_F_RESET);
		nr++;
	}
	TEST_ASSERT_EQ(kvm_vm_reset_dirty_ring(env->vm), nr);
	vm_mem_region_set_flags(env->vm, DIRTY_RING_SLOT, 0);
}

static const struct reset_case common_cases[] = {
	{ .name = "created" },
	{ .name = "created, boot vCPU", .flags = RESET_BOOT_VCPU },
	{ .name = "reset before", .prepare = prepare_reset_before },
	{ .name = "ran, ucall open", .prepare = prepare_ran,
	  .flags = RESET_DIRTY },
	{ .name = "ran", .prepare = prepare_ran_completed },
	{ .name = "ran, boot vCPU", .prepare = prepare_ran_completed,
	  .flags = RESET_BOOT_VCPU },
	{ .name = "dirty 0", .prepare = prepare_dirty, .arg = 0,
	  .flags = RESET_DIRTY },
	{ .name = "dirty 1", .prepare = prepare_dirty, .arg = 1,
	  .flags = RESET_DIRTY },
	{ .name = "dirty last", .prepare = prepare_dirty,
	  .arg = VCPU_STATE_NR_DIRTY_PASSES - 1, .flags = RESET_DIRTY },
	{ .name = "dirty 0, boot vCPU", .prepare = prepare_dirty,
	  .flags = RESET_BOOT_VCPU },
	{ .name = "ran and dirty 0", .prepare = prepare_ran_dirty },
	{ .name = "ran and dirty 1", .prepare = prepare_ran_dirty, .arg = 1 },
	{ .name = "immediate_exit set", .prepare = prepare_immediate_exit,
	  .check = check_immediate_exit },
	{}
};

static void run_case(const struct reset_case *c)
{
	struct reset_env *twin, *env;

	if (c->require)
		c->require();

	twin = env_create(c);
	env = env_create(c);

	if (c->prepare)
		c->prepare(env);

	if (c->flags & RESET_DIRTY)
		count_dirty(env, twin);

	if (self_test)
		goto out;

	reset_vcpu(env->vcpu);
	arch_check_reset(env->vcpu);
	compare(env, twin, "After the reset");

	if (c->check)
		c->check(env);

	if (c->resume) {
		c->resume(env);
		c->resume(twin);
	}

	if (c->flags & RESET_NEVER_RUN)
		goto out;

	second_life(env, twin);
	compare(env, twin, "After the same code has run");
out:
	env_free(env);
	env_free(twin);
}

/* ---- More than one life or one vCPU ------------------------------------ */

static const struct reset_case plain_case = { .name = "plain" };
static const struct reset_case boot_vcpu_case = {
	.name = "boot vCPU",
	.flags = RESET_BOOT_VCPU,
};

/* A vCPU that was reset can be saved, and a new one is what it is restored to. */
static void test_save_restore(void)
{
	struct reset_env *env = env_create(&plain_case);
	struct reset_env *twin = env_create(&plain_case);
	struct reset_env *to = env_create(&plain_case);

	prepare_ran(env);
	reset_vcpu(env->vcpu);
	arch_copy_vcpu(env->vcpu, to->vcpu);
	compare(to, twin, "Restored to a new VM");
	second_life(to, twin);
	compare(to, twin, "After the restored vCPU has run");

	env_free(env);
	env_free(twin);
	env_free(to);
}

static long read_meminfo(const char *name)
{
	char line[128];
	long sum = -1;
	FILE *f = fopen("/proc/meminfo", "r");

	TEST_ASSERT(f, "Cannot open /proc/meminfo");
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			sum = atol(line + strlen(name) + 1);
	}
	fclose(f);

	return sum;
}

/* Have caches give back what is free, which KASAN keeps for a while. */
static void shrink_slabs(void)
{
	DIR *dir = opendir("/sys/kernel/slab");
	struct dirent *entry;
	char path[512];
	FILE *f;

	if (!dir)
		return;

	while ((entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink",
			 entry->d_name);
		f = fopen(path, "w");
		if (!f)
			continue;
		fputs("1", f);
		fclose(f);
	}
	closedir(dir);
}

static long kernel_memory_kb(void)
{
	static const char * const names[] = {
		"Slab", "Percpu", "VmallocUsed", "KernelStack", "PageTables",
		"SecPageTables",
	};
	long sum = 0;
	int i;

	shrink_slabs();

	for (i = 0; i < ARRAY_SIZE(names); i++)
		sum += max(read_meminfo(names[i]), 0l);

	return sum;
}

/* hrtimers that KVM has armed, by their function. */
static int nr_timers(void)
{
	static const char * const names[] = {
		"kvm", "apic_timer_fn", "stimer", "xen_timer",
	};
	FILE *f = fopen("/proc/timer_list", "r");
	int i, nr = 0;
	char line[256];

	if (!f)
		return 0;

	while (fgets(line, sizeof(line), f)) {
		for (i = 0; i < ARRAY_SIZE(names); i++) {
			if (strstr(line, names[i])) {
				nr++;
				break;
			}
		}
	}
	fclose(f);

	return nr;
}

static int nr_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int nr = 0;

	TEST_ASSERT(dir, "Cannot open /proc/self/fd");
	while (readdir(dir))
		nr++;
	closedir(dir);

	return nr;
}

static void test_many_resets(void)
{
	struct reset_env *env = env_create(&plain_case);
	struct reset_env *twin = env_create(&plain_case);
	time_t start = time(NULL);
	int i, wait, fds = 0, timers = 0;
	long kb = 0, grown;

	for (i = 0; i < NR_RESETS; i++) {
		if (i >= MIN_RESETS && time(NULL) - start > MAX_RESETS_S)
			break;

		/* Have caches filled before the first look. */
		if (i == MIN_RESETS / 2) {
			kb = kernel_memory_kb();
			fds = nr_fds();
			timers = nr_timers();
		}

		/* Something to reset, e.g. PMU counters and timers. */
		if (i % 50 == 0) {
			memset(addr_gpa2hva(env->vm, env->scratch_gpa), 0,
			       SCRATCH_PAGES * getpagesize());
			prepare_ran(env);
		}

		reset_vcpu(env->vcpu);
	}

	/* It takes a while until all that is freed is free, e.g. due to RCU. */
	for (wait = 0; wait < 50; wait++) {
		grown = kernel_memory_kb() - kb;
		if (grown <= MAX_GROWTH_KB)
			break;
		usleep(100 * 1000);
	}
	printf("# %d resets: %ld KiB more in the kernel, %d more fds, %d more timers\n",
	       i - MIN_RESETS / 2, grown, nr_fds() - fds, nr_timers() - timers);
	TEST_ASSERT(grown <= MAX_GROWTH_KB, "The kernel needs %ld KiB more", grown);
	TEST_ASSERT_EQ(nr_fds(), fds);
	TEST_ASSERT_EQ(nr_timers(), timers);

	compare(env, twin, "After many resets");
	second_life(env, twin);

	env_free(env);
	env_free(twin);
}

/* A vCPU with its thread, and what others need to get at it. */
struct machine_vcpu {
	struct machine *machine;
	struct kvm_vcpu *vcpu;
	gva_t stack;
	pthread_t thread;
	/* Held while somebody resets and boots the vCPU. */
	pthread_mutex_t lock;
	bool booted;
};

struct machine {
	struct reset_env env;
	u32 nr;
	bool stop;
	/* vCPUs may run without having been booted, and exit with anything. */
	bool wild;
	struct machine_vcpu v[RESET_MAX_VCPUS];
};

static u64 guest_generation[RESET_MAX_VCPUS];

/* Tell that the first instruction and the following ones have been executed. */
static void guest_machine(u64 arg)
{
	u64 *slot = &guest_generation[arg & 0xff];

	WRITE_ONCE(*slot, arg >> 8);

	/* Some are in the guest, and some sleep in KVM. */
	while ((arg & 0xff) < 2)
		cpu_relax();
	for (;;)
		arch_guest_idle();
}

static void kick_handler(int sig)
{
}

static void *vcpu_thread(void *arg)
{
	struct machine_vcpu *v = arg;
	struct machine *m = v->machine;

	while (!READ_ONCE(m->stop)) {
		bool booted, wild;
		u64 data;
		int r;

		/* Whoever kicks the vCPU holds the lock. */
		pthread_mutex_lock(&v->lock);
		WRITE_ONCE(v->vcpu->run->immediate_exit, 0);
		booted = v->booted;
		wild = READ_ONCE(m->wild);
		pthread_mutex_unlock(&v->lock);

		if (!booted) {
			usleep(1000);
			continue;
		}

		r = __vcpu_run(v->vcpu);
		if (wild || READ_ONCE(m->wild)) {
			usleep(100);
			continue;
		}

		TEST_ASSERT(!r || errno == EINTR || errno == EAGAIN,
			    "vCPU %u: KVM_RUN failed, errno %d", v->vcpu->id, errno);
		if (r || v->vcpu->run->exit_reason == KVM_EXIT_INTR)
			continue;
		/* Of KVM_EXIT_IO, these are direction, size, port and count. */
		memcpy(&data, v->vcpu->run->padding, sizeof(data));
		vcpu_dump(stderr, v->vcpu, 2);
		TEST_FAIL("vCPU %u: unexpected exit %u (%s), data 0x%lx", v->vcpu->id,
			  v->vcpu->run->exit_reason,
			  exit_reason_str(v->vcpu->run->exit_reason), data);
	}

	return NULL;
}

/* The documented way to make a running vCPU accept an ioctl. */
static void kick(struct machine_vcpu *v)
{
	WRITE_ONCE(v->vcpu->run->immediate_exit, 1);
	pthread_kill(v->thread, SIGUSR1);
}

static void machine_reset_vcpu(struct machine_vcpu *v, u64 generation)
{
	u32 index = v - v->machine->v;

	pthread_mutex_lock(&v->lock);
	kick(v);
	reset_vcpu(v->vcpu);
	arch_boot(&v->machine->env, v->vcpu, v->stack, guest_machine,
		  generation << 8 | index);
	v->booted = true;
	pthread_mutex_unlock(&v->lock);
}

static void machine_create(struct machine *m, u32 nr)
{
	struct reset_env *env = &m->env;
	int i;

	memset(m, 0, sizeof(*m));
	m->nr = nr;
	env->c = &plain_case;
	env->dev_fd = -1;
	env->vm = arch_vm_create(env, nr + 1);
	for (i = 0; i < nr; i++) {
		m->v[i].machine = m;
		m->v[i].vcpu = arch_vcpu_create(env, i);
		m->v[i].stack = vm_alloc(env->vm, 2 * getpagesize(),
					 DEFAULT_GUEST_STACK_VADDR_MIN) +
				2 * getpagesize();
		pthread_mutex_init(&m->v[i].lock, NULL);
	}
	env->helper = arch_helper_create(env, nr);
	env->vcpu = m->v[0].vcpu;
	arch_vm_finalize(env);
}

static void machine_start(struct machine *m)
{
	struct sigaction sa = { .sa_handler = kick_handler };
	int i;

	sigaction(SIGUSR1, &sa, NULL);

	for (i = 0; i < m->nr; i++)
		pthread_create(&m->v[i].thread, NULL, vcpu_thread, &m->v[i]);
}

static void machine_stop(struct machine *m)
{
	int i;

	WRITE_ONCE(m->stop, true);
	for (i = 0; i < m->nr; i++) {
		/* The signal may come just before KVM_RUN. */
		pthread_mutex_lock(&m->v[i].lock);
		kick(&m->v[i]);
		pthread_mutex_unlock(&m->v[i].lock);
	}
	for (i = 0; i < m->nr; i++) {
		while (pthread_tryjoin_np(m->v[i].thread, NULL)) {
			kick(&m->v[i]);
			usleep(1000);
		}
	}
}

static void machine_free(struct machine *m)
{
	arch_vm_free(&m->env);
	kvm_vm_free(m->env.vm);
}

static void machine_wait(struct machine *m, u64 generation)
{
	u64 *slots = addr_gva2hva(m->env.vm, (gva_t)guest_generation);
	int i, j;

	for (i = 0; i < m->nr; i++) {
		for (j = 0; READ_ONCE(slots[i]) != generation; j++) {
			TEST_ASSERT(j < 20000, "vCPU %d of %u is not up again", i,
				    m->nr);
			usleep(500);
		}
	}
}

/* The reset button, three times for each size of the machine. */
static void test_machine(void)
{
	static const u32 sizes[] = { 1, 2, 8, 32 };
	struct machine *m = malloc(sizeof(*m));
	u64 generation;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		machine_create(m, sizes[i]);
		machine_start(m);
		for (generation = 1; generation <= 3; generation++) {
			for (j = 0; j < m->nr; j++)
				machine_reset_vcpu(&m->v[j], generation);
			machine_wait(m, generation);
		}
		machine_stop(m);
		machine_free(m);
	}
	free(m);
}

static void *reset_thread(void *arg)
{
	struct machine *m = arg;
	unsigned int seed = pthread_self();
	int i;

	for (i = 0; i < 50; i++)
		machine_reset_vcpu(&m->v[rand_r(&seed) % m->nr], 1);

	return NULL;
}

/* Threads that run vCPUs, and threads that reset them, at random. */
static void test_reset_each_other(void)
{
	struct reset_env *twin = env_create(&boot_vcpu_case);
	struct machine *m = malloc(sizeof(*m));
	pthread_t threads[8];
	int i;

	machine_create(m, ARRAY_SIZE(threads));
	machine_start(m);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, reset_thread, m);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);

	for (i = 0; i < m->nr; i++)
		machine_reset_vcpu(&m->v[i], 2);
	machine_wait(m, 2);

	machine_stop(m);
	reset_vcpu(m->env.vcpu);
	compare(&m->env, twin, "After resets by many threads");
	machine_free(m);
	free(m);
	env_free(twin);
}

/* Without a lock in userspace, KVM has to cope. */
static void *unlocked_reset_thread(void *arg)
{
	struct machine *m = arg;
	unsigned int seed = pthread_self();
	int i;

	for (i = 0; i < 50; i++) {
		struct machine_vcpu *v = &m->v[rand_r(&seed) % m->nr];

		kick(v);
		reset_vcpu(v->vcpu);
	}

	return NULL;
}

static void test_reset_unlocked(void)
{
	struct machine *m = malloc(sizeof(*m));
	pthread_t threads[8];
	int i;

	machine_create(m, 4);
	/* The threads that run the vCPUs are the ones that are kicked. */
	machine_start(m);
	for (i = 0; i < m->nr; i++)
		machine_reset_vcpu(&m->v[i], 1);
	machine_wait(m, 1);

	WRITE_ONCE(m->wild, true);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, unlocked_reset_thread, m);
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		while (pthread_tryjoin_np(threads[i], NULL)) {
			int j;

			/* A thread may have missed the kick. */
			for (j = 0; j < m->nr; j++)
				kick(&m->v[j]);
			usleep(1000);
		}
	}
	for (i = 0; i < m->nr; i++)
		machine_reset_vcpu(&m->v[i], 2);
	WRITE_ONCE(m->wild, false);
	machine_wait(m, 2);
	machine_stop(m);
	machine_free(m);
	free(m);
}

static void test_refusals(void)
{
	static const u32 bad_states[] = {
		KVM_MP_STATE_RESET + 1, KVM_MP_STATE_RESET | 1u << 31, -1u,
	};
	struct reset_env *env = env_create(&plain_case);
	struct vcpu_state *before, *after;
	unsigned int nr = 0;
	int i, r;

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_MP_STATE_RESET), 1);
	TEST_ASSERT_EQ(vm_check_cap(env->vm, KVM_CAP_MP_STATE_RESET), 1);

	r = __vm_enable_cap(env->vm, KVM_CAP_MP_STATE_RESET, 0);
	TEST_ASSERT(r && errno == EINVAL,
		    "There is nothing to enable, KVM_ENABLE_CAP returned %d (errno %d)",
		    r, errno);

	/* Not what a new vCPU has, but nothing that changes by itself either. */
	boot(env, guest_second_life, 0);
	before = vcpu_state_get(env->vcpu);
	for (i = 0; i < ARRAY_SIZE(bad_states); i++) {
		r = __set_mp_state(env->vcpu, bad_states[i]);
		TEST_ASSERT(r && errno == EINVAL,
			    "KVM_SET_MP_STATE of 0x%x returned %d (errno %d)",
			    bad_states[i], r, errno);
	}
	after = vcpu_state_get(env->vcpu);
	vcpu_state_diff(before, after, print_diff, &nr);
	TEST_ASSERT(!nr, "Refused requests have changed %u fields", nr);
	vcpu_state_free(before);
	vcpu_state_free(after);

	TEST_ASSERT(vcpu_get_mp_state(env->vcpu) != KVM_MP_STATE_RESET,
		    "KVM_GET_MP_STATE shows the request");
	reset_vcpu(env->vcpu);
	TEST_ASSERT(vcpu_get_mp_state(env->vcpu) != KVM_MP_STATE_RESET,
		    "KVM_GET_MP_STATE shows the request");

	env_free(env);

	arch_test_refusals();
}

/* ---- All of it ----------------------------------------------------------- */

static const struct reset_case dirty_ring_case = {
	.name = "dirty ring full",
	.flags = RESET_DIRTY_RING,
	.configure = configure_dirty_ring,
	.prepare = prepare_dirty_ring_full,
	.resume = resume_dirty_ring,
};

static void test_dirty_ring(void)
{
	if (!kvm_has_cap(KVM_CAP_DIRTY_LOG_RING) &&
	    !kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL))
		exit(KSFT_SKIP);

	run_case(&dirty_ring_case);
}

static const struct {
	const char *name;
	void (*fn)(void);
	bool many_resets;
} tests[] = {
	{ "dirty ring full", test_dirty_ring },
	{ "save and restore", test_save_restore },
	{ "many resets", test_many_resets, true },
	{ "whole machine", test_machine, true },
	{ "reset each other", test_reset_each_other, true },
	{ "reset without a lock", test_reset_unlocked, true },
	{ "refusals", test_refusals },
};

static const char *only;

static bool chosen(const char *name, const struct reset_case *c)
{
	if (self_test && (!c || !(c->flags & RESET_DIRTY)))
		return false;

	return !only || !strcmp(only, name);
}

/* Each case in a process of its own, so that a failure ends only that. */
static void run_forked(const char *name, const struct reset_case *c,
		       void (*fn)(void))
{
	struct timespec start, end;
	int status;
	long ms;
	pid_t pid;

	if (!chosen(name, c))
		return;

	fflush(stdout);
	clock_gettime(CLOCK_MONOTONIC, &start);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed, errno %d", errno);
	if (!pid) {
		alarm(CASE_TIMEOUT_S);
		if (fn)
			fn();
		else
			run_case(c);
		exit(KSFT_PASS);
	}

	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid() failed");
	shared->nr_cases++;

	clock_gettime(CLOCK_MONOTONIC, &end);
	ms = (end.tv_sec - start.tv_sec) * 1000 +
	     (end.tv_nsec - start.tv_nsec) / 1000000;
	if (ms >= 1000)
		printf("# %s%s: %ld ms\n", kind_name, name, ms);

	if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_PASS)
		ksft_test_result_pass("%s%s\n", kind_name, name);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP)
		ksft_test_result_skip("%s%s\n", kind_name, name);
	else if (WIFSIGNALED(status))
		ksft_test_result_fail("%s%s: signal %d\n", kind_name, name,
				      WTERMSIG(status));
	else
		ksft_test_result_fail("%s%s\n", kind_name, name);
}

static void skip_test(const char *name)
{
	if (chosen(name, NULL))
		ksft_test_result_skip("%s%s\n", kind_name, name);
}

static const char *why_not_dirtied(const char *name)
{
	const struct vcpu_state_rule *rule;

	rule = vcpu_state_match(vcpu_state_not_dirtied, name);
	if (!rule)
		rule = vcpu_state_match(arch_not_dirtied, name);

	return rule ? rule->reason : NULL;
}

/* One line for each rule, with how many fields it applies to. */
static void print_rules(const struct vcpu_state_rule *rules)
{
	unsigned int i, nr;

	for (; rules->pattern; rules++) {
		nr = 0;
		for (i = 0; i < reference->nr; i++) {
			const char *name = reference->fields[i].name;
			const struct vcpu_state_rule *match;

			if (shared->dirtied[i])
				continue;
			match = vcpu_state_match(vcpu_state_not_dirtied, name);
			if (!match)
				match = vcpu_state_match(arch_not_dirtied, name);
			nr += match == rules;
		}
		if (nr)
			printf("#   %4u %-36s %s\n", nr, rules->pattern,
			       rules->reason);
	}
}

static void print_allowed(const struct vcpu_state_rule *rules, const bool *used)
{
	for (; rules->pattern; rules++, used++)
		printf("#   %-36s %s%s\n", rules->pattern, rules->reason,
		       *used ? "" : " (not seen)");
}

static void report(void)
{
	unsigned int i, nr_dirtied = 0, nr_unknown = 0;

	for (i = 0; i < reference->nr; i++) {
		nr_dirtied += shared->dirtied[i];
		if (!shared->dirtied[i] &&
		    !why_not_dirtied(reference->fields[i].name)) {
			printf("# not dirtied, and no reason why: %s\n",
			       reference->fields[i].name);
			nr_unknown++;
		}
	}

	printf("# %u fields of a vCPU compared, %llu comparisons in %u cases\n",
	       reference->nr, (unsigned long long)shared->nr_compared,
	       shared->nr_cases);
	printf("# %u of them could be dirtied; the others, and why:\n", nr_dirtied);
	print_rules(vcpu_state_not_dirtied);
	print_rules(arch_not_dirtied);
	printf("# allowed differences between a reset vCPU and a new one:\n");
	print_allowed(vcpu_state_clocks, shared->clocks_used);
	print_allowed(arch_allowed, shared->allowed_used);

	if (only)
		return;

	if (nr_unknown)
		ksft_test_result_fail("%severy field is dirtied: %u are not\n",
				      kind_name, nr_unknown);
	else
		ksft_test_result_pass("%severy field is dirtied\n", kind_name);
}

static unsigned int nr_cases(const struct reset_case *c)
{
	unsigned int nr = 0;

	for (; c->name; c++)
		nr += chosen(c->name, c);

	return nr;
}

static void help(const char *name, int status)
{
	printf("usage: %s [-h] [-s] [-t test]\n", name);
	printf(" -s: no resets, verify that dirty fields are reported\n");
	printf(" -t: only the test of this name\n");
	exit(status);
}

/* All of the test for one kind of vCPUs */
static void run_kind(unsigned int kind)
{
	const struct reset_case *c;
	struct reset_env *env;
	int i;

	memset(shared, 0, sizeof(*shared));
	kind_name = arch_select_kind(kind);

	env = env_create(&plain_case);
	reference = vcpu_state_get(env->vcpu);
	env_free(env);
	TEST_ASSERT(reference->nr <= ARRAY_SIZE(shared->dirtied),
		    "%u fields are more than expected", reference->nr);

	for (c = common_cases; c->name; c++)
		run_forked(c->name, c, NULL);
	for (c = arch_cases; c->name; c++)
		run_forked(c->name, c, NULL);
	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		if (tests[i].many_resets && !arch_kind_is_fast())
			skip_test(tests[i].name);
		else
			run_forked(tests[i].name, NULL, tests[i].fn);
	}

	report();
	vcpu_state_free(reference);
}

int main(int argc, char *argv[])
{
	unsigned int plan, kind;
	int i, opt;

	while ((opt = getopt(argc, argv, "hst:")) != -1) {
		switch (opt) {
		case 's':
			self_test = true;
			break;
		case 't':
			only = optarg;
			break;
		case 'h':
			help(argv[0], KSFT_PASS);
		default:
			help(argv[0], KSFT_FAIL);
		}
	}

	if (!self_test)
		TEST_REQUIRE(kvm_has_cap(KVM_CAP_MP_STATE_RESET));
	arch_requirements();

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(shared != MAP_FAILED, "mmap() failed");

	plan = nr_cases(common_cases) + nr_cases(arch_cases);
	for (i = 0; i < ARRAY_SIZE(tests); i++)
		plan += chosen(tests[i].name, NULL);
	TEST_ASSERT(plan, "There is no test \"%s\"%s", only,
		    self_test ? " that dirties a vCPU" : "");
	plan += !only;

	ksft_print_header();
	ksft_set_plan(plan * arch_nr_kinds());

	for (kind = 0; kind < arch_nr_kinds(); kind++)
		run_kind(kind);

	ksft_finished();
}
