// SPDX-License-Identifier: GPL-2.0-only
/*
 * needs_completion_test - What becomes of an exit, and what KVM says about it
 *
 * For each exit to userspace that the architecture can produce, and each of the
 * ways in which userspace can deal with it (enum nc_procedure), verify that:
 *  - KVM_RUN_NEEDS_COMPLETION tells if the exit is to be completed by KVM_RUN,
 *    for each of its parts.
 *  - Completing the exit moves the pc by exactly one instruction, and applies
 *    what userspace answered exactly once.
 *  - Completing it once more moves and applies nothing, and neither does
 *    completing an exit that doesn't need to be completed.
 *  - An exit that was neither acted upon nor completed is repeated by the vCPU
 *    it is restored into, unless the pc is behind the instruction already.
 *  - One that was acted upon and completed is not.
 *  - Nothing is left of an open exit if the vCPU is reset.
 *
 * Every exit reason there is ought to be in the list, with at least one exit or
 * with the reason for being absent: there is a warning for those that are not.
 *
 * Furthermore, verify that no other ioctl has an effect on the flag as long as
 * the exit is open, or sets it, and that what another thread writes to kvm_run
 * while KVM_RUN is running has no effect on the guest.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "kselftest.h"
#include "needs_completion_test.h"
#include "test_util.h"

/* The upper bits of registers, to tell one life of the vCPU from another. */
#define OLD_LIFE	0x01d1ul
#define NEW_LIFE	0x4e3ful

#define ANSWER		0xa0
#define STALE_ANSWER	0x50

struct nc_garbage_sum nc_garbage_sum;

static bool has_cap;

/* Where a child process tells its parent why it skips, or what it found. */
#define MESSAGE_SIZE	256
static char (*messages)[MESSAGE_SIZE];
static char *message;

static void __noreturn __printf(1, 2) skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, MESSAGE_SIZE, fmt, ap);
	va_end(ap);
	exit(KSFT_SKIP);
}

static void set_answer(struct nc_test *t, u8 value)
{
	int i;

	for (i = 0; i < NC_DATA_SIZE; i++)
		t->answer[i] = value + i;
}

u64 nc_answer(struct nc_test *t, int size)
{
	u64 val = 0;

	memcpy(&val, t->answer, size);
	return val;
}

u64 nc_signed_answer(struct nc_test *t, int size)
{
	int shift = 64 - size * 8;

	return (s64)(nc_answer(t, size) << shift) >> shift;
}

/* The byte of t->answer and t->device that an MMIO exit is about. */
static u64 mmio_offset(struct nc_test *t)
{
	struct kvm_run *run = t->vcpu->run;
	u64 offset = run->mmio.phys_addr - t->exit->gpa;

	NC_ASSERT(t, offset < t->exit->len && offset + run->mmio.len <= t->exit->len,
		  "MMIO of %u bytes at 0x%llx instead of %u bytes at 0x%lx",
		  run->mmio.len, run->mmio.phys_addr, t->exit->len, t->exit->gpa);

	return offset;
}

void nc_check_mmio(struct nc_test *t, int part)
{
	mmio_offset(t);
}

static void check_mmio_access(struct nc_test *t, bool is_write)
{
	struct kvm_run *run = t->vcpu->run;

	nc_check_mmio(t, 0);
	NC_ASSERT(t, run->mmio.phys_addr == t->exit->gpa && run->mmio.len == t->exit->len,
		  "MMIO of %u bytes at 0x%llx", run->mmio.len, run->mmio.phys_addr);
	NC_ASSERT(t, run->mmio.is_write == is_write, "is_write is %d", run->mmio.is_write);
}

void nc_check_mmio_load(struct nc_test *t, int part)
{
	check_mmio_access(t, false);
}

void nc_check_mmio_store(struct nc_test *t, int part)
{
	check_mmio_access(t, true);
}

void nc_act_mmio(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;
	u64 offset = mmio_offset(t);
	int i;

	if (run->mmio.is_write)
		memcpy(&t->device[offset], run->mmio.data, run->mmio.len);
	else
		memcpy(run->mmio.data, &t->answer[offset], run->mmio.len);

	for (i = 0; i < run->mmio.len; i++) {
		if (run->mmio.is_write)
			t->nr_writes[offset + i]++;
		else
			t->nr_reads[offset + i]++;
	}

	if (!has_cap)
		return;

	run->exit_reason = KVM_EXIT_UNKNOWN;
	run->mmio.phys_addr = 0;
	run->mmio.len = 0;
	run->mmio.is_write = !run->mmio.is_write;
}

void nc_check_mmio_read(struct nc_test *t)
{
	int i;

	for (i = 0; i < t->exit->len; i++)
		NC_ASSERT(t, t->nr_reads[i] == 1, "byte %d was read %u times",
			  i, t->nr_reads[i]);
}

void nc_check_mmio_write(struct nc_test *t)
{
	int i;

	for (i = 0; i < t->exit->len; i++)
		NC_ASSERT(t, t->nr_writes[i] == 1, "byte %d was written %u times",
			  i, t->nr_writes[i]);
}

void nc_check_written(struct nc_test *t, u64 val)
{
	NC_ASSERT(t, !memcmp(t->device, &val, t->exit->len),
		  "the device has other data than the guest had");
	nc_check_mmio_write(t);
}

void nc_check_written_zero(struct nc_test *t)
{
	nc_check_written(t, 0);
}

static void check_flag(struct nc_test *t, bool want, const char *when)
{
	if (!has_cap)
		return;

	NC_ASSERT(t, vcpu_needs_completion(t->vcpu) == want,
		  "KVM_RUN_NEEDS_COMPLETION is %s %s", want ? "clear" : "set", when);
}

static void check_gprs(struct nc_test *t, const struct nc_regs *got, u64 except,
		       const char *when)
{
	int i;

	for (i = 0; i < NC_NR_GPRS; i++) {
		if (!nc_gpr_names[i] || except & BIT_ULL(i))
			continue;

		NC_ASSERT(t, got->gpr[i] == t->want.gpr[i],
			  "%s is 0x%lx instead of 0x%lx %s", nc_gpr_names[i],
			  got->gpr[i], t->want.gpr[i], when);
	}
}

static void check_regs(struct nc_test *t, const char *when)
{
	struct nc_regs got;

	nc_arch_get_regs(t->vcpu, &got);
	NC_ASSERT(t, got.pc == t->want.pc, "pc is off by %ld bytes %s",
		  got.pc - t->want.pc, when);
	check_gprs(t, &got, 0, when);
}

static void set_pc(struct nc_test *t, enum nc_where where)
{
	switch (where) {
	case NC_AT_INSN:
		t->want.pc = nc_arch_guest_pc(t, t->exit->insn);
		break;
	case NC_AT_NEXT:
		t->want.pc = nc_arch_guest_pc(t, t->exit->next);
		break;
	default:
		break;
	}
}

/*
 * Where to start without the instruction: not behind it, which is where KVM may
 * go in an attempt to complete it, but behind that of another exit.
 */
static const char *other_next(const struct nc_exit *exit)
{
	return nc_exits[exit == nc_exits].next;
}

/* Start a life, with registers that tell it from any other. */
static void start(struct nc_test *t, enum nc_where where, u64 life)
{
	int i;

	if (where == NC_AT_INSN)
		set_pc(t, where);
	else
		t->want.pc = nc_arch_guest_pc(t, other_next(t->exit));
	for (i = 0; i < NC_NR_GPRS; i++)
		t->want.gpr[i] = nc_gpr_names[i] ? life << 48 | i : 0;
	t->want.gpr[nc_mark_gpr] = 0;
	nc_arch_init_regs(t);

	if (where == NC_AT_INSN && t->exit->setup_vcpu)
		t->exit->setup_vcpu(t);
	nc_arch_set_regs(t->vcpu, &t->want);
	t->start = t->want;

	set_answer(t, ANSWER);
	memset(t->device, 0, sizeof(t->device));
	memset(t->nr_reads, 0, sizeof(t->nr_reads));
	memset(t->nr_writes, 0, sizeof(t->nr_writes));
}

static void create(struct nc_test *t)
{
	if (t->exit->create_vm)
		t->exit->create_vm(t);
	else
		nc_arch_create_vm(t);
	if (t->exit->setup_vm)
		t->exit->setup_vm(t);
	if (t->exit->setup_guest)
		t->exit->setup_guest(t);

	start(t, NC_AT_INSN, OLD_LIFE);
}

static void check_exit(struct nc_test *t, int part)
{
	u32 reason = t->vcpu->run->exit_reason;

	if (t->exit->reason != NC_NO_EXIT)
		NC_ASSERT(t, reason == t->exit->reason,
			  "exit reason is %u (%s) instead of %u (%s) in part %d",
			  reason, exit_reason_str(reason), t->exit->reason,
			  exit_reason_str(t->exit->reason), part);

	check_flag(t, t->exit->needs_completion, "at the exit");

	if (t->exit->check_exit)
		t->exit->check_exit(t, part);
}

static void act(struct nc_test *t, int part)
{
	if (t->exit->act)
		t->exit->act(t, part);
}

static void run_errno(struct nc_test *t, int err)
{
	int ret = __vcpu_run(t->vcpu);

	NC_ASSERT(t, ret == -1 && errno == err,
		  "KVM_RUN doesn't fail with errno %d, rc: %d, errno: %d", err, ret, errno);
}

/* Run up to the exit, and leave it open. */
static void run_to_exit(struct nc_test *t)
{
	const struct nc_exit *exit = t->exit;

	if (exit->run)
		exit->run(t);
	else if (exit->err)
		run_errno(t, exit->err);
	else
		vcpu_run(t->vcpu);

	check_exit(t, 0);

	set_pc(t, exit->at_exit == NC_DEFAULT ? NC_AT_INSN : exit->at_exit);
	if (exit->at_exit == NC_AT_NEXT && exit->expect)
		exit->expect(t);
	if (exit->at_exit == NC_ANYWHERE)
		nc_arch_get_regs(t->vcpu, &t->want);
	check_regs(t, "at the exit");
}

void nc_run_immediate_exit(struct nc_test *t)
{
	NC_ASSERT(t, __vcpu_run_immediate_exit(t->vcpu), "KVM_RUN has exited");
}

/* Block no signals in KVM_RUN: they stay pending, as they are blocked elsewhere. */
static void signal_init(struct kvm_vcpu *vcpu)
{
	struct {
		struct kvm_signal_mask mask;
		u64 sigset;
	} none = { .mask.len = sizeof(none.sigset) };

	vcpu_ioctl(vcpu, KVM_SET_SIGNAL_MASK, &none.mask);
}

/* KVM_RUN with a signal pending, fails with EINTR. */
static int run_with_signal(struct kvm_vcpu *vcpu)
{
	sigset_t set;
	int ret, err, sig;

	signal_init(vcpu);

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);

	pthread_kill(pthread_self(), SIGUSR1);
	ret = __vcpu_run(vcpu);
	err = errno;
	sigwait(&set, &sig);

	TEST_ASSERT(!ret || (ret == -1 && err == EINTR),
		    "KVM_RUN with a signal pending, rc: %i, errno: %i", ret, err);
	return ret;
}

void nc_run_signal(struct nc_test *t)
{
	NC_ASSERT(t, run_with_signal(t->vcpu), "KVM_RUN has exited");
}

static void *signal_thread(void *arg)
{
	usleep(1000);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

#define MAX_NR_SLEEPS	1000

void nc_run_sleep(struct nc_test *t)
{
	u64 next = nc_arch_guest_pc(t, t->exit->next);
	pthread_t thread, self = pthread_self();
	struct nc_regs regs;
	int i, sig, ret;
	sigset_t set;

	signal_init(t->vcpu);

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);

	/* Once more if the signal was too early, i.e. came before the instruction. */
	for (i = 0; i < MAX_NR_SLEEPS; i++) {
		pthread_create(&thread, NULL, signal_thread, &self);
		ret = __vcpu_run(t->vcpu);
		NC_ASSERT(t, ret == -1 && errno == EINTR,
			  "KVM_RUN with a signal, rc: %i, errno: %i", ret, errno);
		pthread_join(thread, NULL);
		sigwait(&set, &sig);

		nc_arch_get_regs(t->vcpu, &regs);
		if (regs.pc == next)
			return;
	}
	NC_ASSERT(t, false, "the vCPU doesn't get to sleep");
}

typedef int (*reenter_t)(struct kvm_vcpu *vcpu);

/* Act on the exit, and have KVM complete it, the hard way. */
static void complete(struct nc_test *t, reenter_t reenter)
{
	int part, nr_parts = t->exit->nr_parts ?: 1;

	for (part = 0; ; part++) {
		act(t, part);
		if (reenter(t->vcpu))
			break;

		NC_ASSERT(t, part + 1 < nr_parts, "more than %d parts", nr_parts);
		check_exit(t, part + 1);
	}
	NC_ASSERT(t, part + 1 == nr_parts, "%d instead of %d parts", part + 1, nr_parts);
}

/* The same as VMMs ought to do it, i.e. as long as the flag is set. */
static void complete_by_flag(struct nc_test *t)
{
	int part = 0, nr_parts = t->exit->nr_parts ?: 1;

	act(t, 0);
	while (has_cap ? vcpu_needs_completion(t->vcpu) : part < nr_parts) {
		if (__vcpu_run_immediate_exit(t->vcpu)) {
			check_flag(t, false, "after KVM_RUN has failed with EINTR");
			break;
		}
		check_exit(t, ++part);
		act(t, part);
	}
	NC_ASSERT(t, part + 1 == nr_parts, "%d instead of %d parts", part + 1, nr_parts);
}

static void check_complete(struct nc_test *t)
{
	if (t->exit->needs_completion) {
		set_pc(t, t->exit->at_end == NC_DEFAULT ? NC_AT_NEXT : t->exit->at_end);
		if (t->exit->expect)
			t->exit->expect(t);
	}

	check_flag(t, false, "although the exit is complete");
	check_regs(t, "after completion");
}

/* Pretend that the exit has just happened, and answer something else. */
static void complete_again(struct nc_test *t, const struct kvm_run *open,
			   reenter_t reenter)
{
	struct nc_test saved = *t;

	*t->vcpu->run = *open;
	set_answer(t, STALE_ANSWER);
	act(t, 0);
	t->vcpu->run->exit_reason = open->exit_reason;

	NC_ASSERT(t, reenter(t->vcpu), "KVM_RUN has exited although the exit is complete");

	*t = saved;
	check_flag(t, false, "after another KVM_RUN");
	check_regs(t, "after another KVM_RUN");
}

/* Run up to the report: nothing is skipped, and nothing happens twice. */
static void run_to_report(struct nc_test *t, int nr_more)
{
	u32 reason;
	int i;

	for (i = 0; ; i++) {
		vcpu_run(t->vcpu);
		if (nc_arch_is_report(t->vcpu))
			break;

		reason = t->vcpu->run->exit_reason;
		NC_ASSERT(t, i < nr_more, "unexpected exit %u (%s) behind the completed one",
			  reason, exit_reason_str(reason));
		act(t, i);
	}
	NC_ASSERT(t, i == nr_more, "%d instead of %d exits behind the completed one",
		  i, nr_more);
}

static void check_report(struct nc_test *t)
{
	struct nc_regs got;

	nc_arch_get_regs(t->vcpu, &got);
	NC_ASSERT(t, got.gpr[nc_mark_gpr] == nc_all_marks,
		  "skipped instructions, marks are 0x%lx instead of 0x%lx",
		  got.gpr[nc_mark_gpr], nc_all_marks);
	check_gprs(t, &got, BIT_ULL(nc_mark_gpr) | nc_report_gprs, "at the report");
	vcpu_run_complete_io(t->vcpu);
}

/* Let the guest go on behind the exit. */
static void go_on(struct nc_test *t)
{
	if (t->exit->resume) {
		t->exit->resume(t);
		nc_arch_get_regs(t->vcpu, &t->want);
	}

	run_to_report(t, t->exit->nr_more);
	if (t->exit->expect_more)
		t->exit->expect_more(t);
	check_report(t);
	if (t->exit->check && !t->lost)
		t->exit->check(t);
}

static void nc_complete(struct nc_test *t, reenter_t reenter)
{
	struct kvm_run open;

	create(t);
	run_to_exit(t);
	open = *t->vcpu->run;

	complete(t, reenter);
	check_complete(t);
	complete_again(t, &open, reenter);
	go_on(t);
}

static void nc_save(struct nc_test *t)
{
	create(t);
	run_to_exit(t);

	complete_by_flag(t);
	check_complete(t);

	nc_arch_migrate(t);
	check_regs(t, "after migration");
	go_on(t);
}

/* Whether an open exit is repeated if it gets lost, or the vCPU just goes on. */
static bool nc_replays(const struct nc_exit *exit)
{
	return exit->needs_completion &&
	       (exit->at_exit == NC_DEFAULT || exit->at_exit == NC_AT_INSN);
}

static void nc_save_open(struct nc_test *t)
{
	create(t);
	run_to_exit(t);
	if (!nc_replays(t->exit))
		act(t, 0);

	nc_arch_migrate(t);
	check_flag(t, false, "although the vCPU has never run");
	check_regs(t, "after migration");

	if (nc_replays(t->exit)) {
		/* The same exit, now to be completed. */
		run_to_exit(t);
		complete(t, __vcpu_run_immediate_exit);
		check_complete(t);
	} else if (t->exit->needs_completion) {
		/* Other parts are gone, and so is what completion would do. */
		t->lost = t->exit->nr_parts > 1 || t->exit->late_answer;
	}
	go_on(t);
}

void nc_check_reset(struct nc_test *t)
{
	check_flag(t, false, "although the vCPU was reset");
}

static void nc_reset(struct nc_test *t, bool request)
{
	const char *why;

	if (request && !kvm_has_cap(KVM_CAP_MP_STATE_RESET))
		skip("No KVM_CAP_MP_STATE_RESET");

	create(t);
	run_to_exit(t);
	set_answer(t, STALE_ANSWER);
	act(t, 0);

	why = nc_arch_reset(t, request);
	if (why)
		skip("%s", why);
	check_flag(t, false, "although the vCPU was reset");

	if (t->exit->resume)
		t->exit->resume(t);

	/* The vCPU starts where it is told to, and with what it is told to. */
	start(t, NC_AT_NEXT, NEW_LIFE);
	NC_ASSERT(t, __vcpu_run_immediate_exit(t->vcpu), "KVM_RUN has exited after the reset");
	check_flag(t, false, "after the reset");
	check_regs(t, "after the reset");
	run_to_report(t, 0);
	check_report(t);

	/* The same exit happens, and is completed, as ever. */
	start(t, NC_AT_INSN, NEW_LIFE);
	run_to_exit(t);
	complete(t, __vcpu_run_immediate_exit);
	check_complete(t);
	go_on(t);
}

static const char * const procedures[NC_NR_PROCEDURES] = {
	[NC_IMMEDIATE_EXIT]	= "immediate_exit",
	[NC_SIGNAL]		= "signal",
	[NC_SAVE]		= "save",
	[NC_SAVE_OPEN]		= "save open",
	[NC_RESET]		= "reset",
	[NC_MP_STATE_RESET]	= "mp_state reset",
};

static void do_procedure(const struct nc_exit *exit, enum nc_procedure procedure)
{
	struct nc_test t = {
		.exit = exit,
		.procedure = procedures[procedure],
	};
	const char *why = exit->skip[procedure];

	if (!why && exit->unavailable)
		why = exit->unavailable();
	if (why)
		skip("%s", why);

	switch (procedure) {
	case NC_IMMEDIATE_EXIT:
		nc_complete(&t, __vcpu_run_immediate_exit);
		break;
	case NC_SIGNAL:
		nc_complete(&t, run_with_signal);
		break;
	case NC_SAVE:
		nc_save(&t);
		break;
	case NC_SAVE_OPEN:
		nc_save_open(&t);
		break;
	case NC_RESET:
		nc_reset(&t, false);
		break;
	case NC_MP_STATE_RESET:
		nc_reset(&t, true);
		break;
	default:
		TEST_FAIL("Unknown procedure");
	}
}

/* ---- how to resume ---- */

void nc_resume_at_next(struct nc_test *t)
{
	struct nc_regs regs;

	nc_arch_get_regs(t->vcpu, &regs);
	regs.pc = nc_arch_guest_pc(t, t->exit->next);
	nc_arch_set_regs(t->vcpu, &regs);
}

void nc_resume_runnable(struct nc_test *t)
{
	vcpu_set_mp_state(t->vcpu, KVM_MP_STATE_RUNNABLE);
}

static void ioctl_guest_debug(struct kvm_vcpu *vcpu)
{
	struct kvm_guest_debug debug = {};

	vcpu_guest_debug_set(vcpu, &debug);
}

void nc_resume_debug(struct nc_test *t)
{
	ioctl_guest_debug(t->vcpu);
}

void nc_resume_breakpoint(struct nc_test *t)
{
	nc_resume_debug(t);
	nc_resume_at_next(t);
}

/* ---- memory ---- */

void nc_setup_guest_prot_none(struct nc_test *t)
{
	size_t size = t->vm->page_size;
	void *mem;

	/* KVM may refuse memory that can't be written to in the first place. */
	mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	vm_set_user_memory_region(t->vm, NC_MEM_SLOT, 0, t->exit->gpa, size, mem);
	TEST_ASSERT(!mprotect(mem, size, PROT_NONE), "mprotect() failed, errno: %d", errno);
}

/* Only the first VM has a ring. */
void nc_setup_vm_dirty_ring(struct nc_test *t)
{
	t->priv[0]++;
}

void nc_setup_guest_dirty_ring(struct nc_test *t)
{
	vm_userspace_mem_region_add(t->vm, VM_MEM_SRC_ANONYMOUS, t->exit->gpa, NC_MEM_SLOT,
				    NC_DIRTY_RING_SIZE / sizeof(struct kvm_dirty_gfn),
				    KVM_MEM_LOG_DIRTY_PAGES);
}

void nc_check_dirty_ring(struct nc_test *t, int part)
{
	struct nc_regs regs;

	nc_arch_get_regs(t->vcpu, &regs);
	NC_ASSERT(t, regs.pc == nc_arch_guest_pc(t, t->exit->insn),
		  "the pc is not at the store");
}

void nc_reset_dirty_ring(struct nc_test *t)
{
	struct kvm_dirty_gfn *gfns = vcpu_map_dirty_ring(t->vcpu);
	u32 i, nr = 0;

	for (i = 0; i < t->vcpu->dirty_gfns_count; i++) {
		if (!(gfns[i].flags & KVM_DIRTY_GFN_F_DIRTY))
			continue;

		WRITE_ONCE(gfns[i].flags, KVM_DIRTY_GFN_F_RESET);
		nr++;
	}
	TEST_ASSERT_EQ(kvm_vm_reset_dirty_ring(t->vm), nr);
}

void nc_resume_dirty_ring(struct nc_test *t)
{
	nc_resume_at_next(t);
	if (t->priv[0] == 1)
		nc_reset_dirty_ring(t);
}

/* ---- ioctls other than KVM_RUN, and resets ---- */

static const struct {
	const char *name;
	unsigned long nr;
} all_ioctls[] = {
#define KVM_IOCTL(x) { #x, x },
#include "ioctls.inc"
#undef KVM_IOCTL
};

static const u16 flags_values[] = { 0, 0xffff };

static void ioctl_mp_state(struct kvm_vcpu *vcpu)
{
	vcpu_set_mp_state(vcpu, vcpu_get_mp_state(vcpu));
}

static void ioctl_signal_mask(struct kvm_vcpu *vcpu)
{
	vcpu_ioctl(vcpu, KVM_SET_SIGNAL_MASK, (struct kvm_signal_mask *)NULL);
}

static void ioctl_stats_fd(struct kvm_vcpu *vcpu)
{
	close(vcpu_get_stats_fd(vcpu));
}

static const struct nc_ioctl common_ioctls[] = {
	NC_IOCTL(mp_state),
	NC_IOCTL(guest_debug),
	NC_IOCTL(signal_mask),
	NC_IOCTL(stats_fd),
};

/* Nothing changes while the exit is open, otherwise the flag may be cleared. */
static void check_ioctl(struct nc_test *t, const char *name, u16 flags, bool open)
{
	u16 now = t->vcpu->run->flags;

	NC_ASSERT(t, now == flags || (!open && now == (flags & ~KVM_RUN_NEEDS_COMPLETION)),
		  "%s changes kvm_run.flags from 0x%x to 0x%x", name, flags, now);
}

static void do_ioctl(struct nc_test *t, const struct nc_ioctl *ioctl, bool open)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(flags_values); i++) {
		t->vcpu->run->flags = flags_values[i];
		ioctl->func(t->vcpu);
		check_ioctl(t, ioctl->name, flags_values[i], open);
	}
}

static void do_ioctls(struct nc_test *t, bool open)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(common_ioctls); i++)
		do_ioctl(t, &common_ioctls[i], open);
	for (i = 0; i < nr_nc_ioctls; i++)
		do_ioctl(t, &nc_ioctls[i], open);
}

/* The exit is what it was after all that userspace may do to a vCPU. */
static void test_ioctls(const struct nc_exit *exit)
{
	struct nc_test t = { .exit = exit, .procedure = "ioctls" };
	struct kvm_run open;
	const char *why;

	why = exit->unavailable ? exit->unavailable() : NULL;
	if (why)
		skip("%s", why);

	create(&t);
	run_to_exit(&t);
	open = *t.vcpu->run;

	do_ioctls(&t, true);

	*t.vcpu->run = open;
	check_regs(&t, "after ioctls");
	complete(&t, __vcpu_run_immediate_exit);
	check_complete(&t);
	do_ioctls(&t, false);
	t.vcpu->run->flags = KVM_RUN_NEEDS_COMPLETION;
	ioctl_mp_state(t.vcpu);
	check_flag(&t, false, "although KVM knows of no exit");
	check_regs(&t, "after ioctls");
	go_on(&t);
}

/* Whatever the ioctls do to the vCPU when their argument is nothing but zeroes. */
static void test_all_ioctls(const struct nc_exit *exit)
{
	struct nc_test t = { .exit = exit, .procedure = "all ioctls" };
	static u8 zeroes[64 * 1024];
	int i, j, nr = 0, ret;

	create(&t);
	run_to_exit(&t);

	for (i = 0; i < ARRAY_SIZE(all_ioctls); i++) {
		if (all_ioctls[i].nr == KVM_RUN)
			continue;

		for (j = 0; j < ARRAY_SIZE(flags_values); j++) {
			memset(zeroes, 0, sizeof(zeroes));
			t.vcpu->run->flags = flags_values[j];
			ret = ioctl(t.vcpu->fd, all_ioctls[i].nr, zeroes);
			check_ioctl(&t, all_ioctls[i].name, flags_values[j], true);
		}
		nr += !ret || (errno != ENOTTY && errno != EINVAL);
	}

	snprintf(message, MESSAGE_SIZE, "%d of %zu ioctls are known to the vCPU",
		 nr, ARRAY_SIZE(all_ioctls));
}

/* ---- garbage in kvm_run ---- */

static bool garbage_stop;

/* The field of kvm_run to write to all the time, or 0 for all of them in turn. */
static u32 garbage_field;

static bool in_hole(u32 offset)
{
	int i;

	for (i = 0; i < nr_nc_arch_garbage_holes; i++) {
		if (offset - nc_arch_garbage_holes[i].offset <
		    nc_arch_garbage_holes[i].size)
			return true;
	}

	return false;
}

/* Up to the end of the union that tells about the exit. */
#define NR_GARBAGE_BYTES \
	(offsetof(struct kvm_run, padding) + sizeof(((struct kvm_run *)NULL)->padding))

/* As many as the longest exit of guest_garbage() has, KVM_EXIT_RISCV_SBI. */
#define NR_GARBAGE_FIELDS	10
#define NR_FIELD_WRITES		1000

static void *garbage_thread(void *arg)
{
	struct kvm_random_state random = new_kvm_random_state(kvm_random_seed);
	struct kvm_vcpu *vcpu = arg;
	u8 *run = (u8 *)vcpu->run;
	u32 i, val, pattern, field;

	while (!READ_ONCE(garbage_stop)) {
		val = kvm_random_u32(&random);

		field = READ_ONCE(garbage_field);
		for (i = 0; field && i < NR_FIELD_WRITES; i++)
			WRITE_ONCE(*(u64 *)(run + field), (u64)val << 32 | ~val);
		if (field)
			continue;

		/* Huge and small numbers in all that KVM may look at. */
		pattern = val & BIT(0) ? val : val & 0x0f0f0f0f;
		for (i = 0; i < NR_GARBAGE_BYTES; i++) {
			/* Don't keep the guest from running. */
			if (i == offsetof(struct kvm_run, immediate_exit) && val >> 26)
				continue;
			if (!in_hole(i))
				WRITE_ONCE(run[i], pattern >> (8 * (i % 4)));
		}

		/* And in the rest, for all there may be in the future. */
		i = val % getpagesize();
		if (i >= NR_GARBAGE_BYTES && !in_hole(i))
			WRITE_ONCE(run[i], val >> 16);
	}

	return NULL;
}

/* 1 if all the exits of the reason need to be completed, 0 if none, otherwise -1. */
static int reason_needs_completion(u32 reason)
{
	int i, needs = -1;

	for (i = 0; i < nr_nc_exits; i++) {
		if (nc_exits[i].reason != reason)
			continue;
		if (needs != -1 && needs != nc_exits[i].needs_completion)
			return -1;
		needs = nc_exits[i].needs_completion;
	}

	return needs;
}

static void check_garbage_sum(struct nc_test *t)
{
	u64 i, sum = 0;

	sync_global_from_guest(t->vm, nc_garbage_sum);
	for (i = 0; i < nc_garbage_sum.nr; i++)
		sum = NC_GARBAGE_NEXT(sum, i);

	TEST_ASSERT(sum == nc_garbage_sum.sum,
		    "The guest's sum is 0x%lx instead of 0x%lx after %lu iterations",
		    nc_garbage_sum.sum, sum, nc_garbage_sum.nr);
}

/* True if KVM_RUN has failed with EINTR, as somebody wrote to immediate_exit. */
static bool garbage_run(struct kvm_vcpu *vcpu)
{
	int ret = __vcpu_run(vcpu);

	TEST_ASSERT(!ret || errno == EINTR, KVM_IOCTL_ERROR(KVM_RUN, ret));
	return ret;
}

#define NR_GARBAGE_RUNS		2000
#define NR_FIELD_RUNS		1500
#define NR_CLEAN_RUNS		100

static void test_garbage(void)
{
	int i, needs, nr_eintr = 0, nr_set = 0;
	struct nc_test t = { .procedure = "garbage" };
	struct kvm_run *run;
	pthread_t thread;
	u32 field;
	u64 nr;

	nc_arch_create_garbage_vm(&t);
	run = t.vcpu->run;

	pthread_create(&thread, NULL, garbage_thread, t.vcpu);
	for (i = 0; i < NR_GARBAGE_RUNS; i++) {
		/* Once it is set, it stays set for some time. */
		if (i % 8)
			run->immediate_exit = 0;
		nr_eintr += garbage_run(t.vcpu);
	}

	/* What KVM writes and reads back at once, is only hit by writing all the time. */
	for (field = 0; field < NR_GARBAGE_FIELDS; field++) {
		WRITE_ONCE(garbage_field,
			   offsetof(struct kvm_run, padding) + field * sizeof(u64));
		for (i = 0; i < NR_FIELD_RUNS; i++) {
			run->immediate_exit = 0;
			garbage_run(t.vcpu);
		}
	}

	WRITE_ONCE(garbage_stop, true);
	pthread_join(thread, NULL);

	/* Back to normal, from one KVM_RUN to the next. */
	for (i = 0; !__vcpu_run_immediate_exit(t.vcpu); i++)
		TEST_ASSERT(i < 16, "The last exit has too many parts");
	if (has_cap)
		TEST_ASSERT(!vcpu_needs_completion(t.vcpu),
			    "KVM_RUN_NEEDS_COMPLETION is set after completion");

	sync_global_from_guest(t.vm, nc_garbage_sum);
	nr = nc_garbage_sum.nr;
	TEST_ASSERT(nr, "The guest hasn't got anywhere, KVM_RUN failed %d times", nr_eintr);

	for (i = 0; i < NR_CLEAN_RUNS; i++) {
		vcpu_run(t.vcpu);
		needs = reason_needs_completion(run->exit_reason);
		if (has_cap && needs >= 0)
			TEST_ASSERT_EQ(vcpu_needs_completion(t.vcpu), needs);
		nr_set += vcpu_needs_completion(t.vcpu);
		check_garbage_sum(&t);
	}
	TEST_ASSERT(nc_garbage_sum.nr > nr, "The guest is stuck");
	TEST_ASSERT(!has_cap || nr_set, "No exit needs to be completed");

	snprintf(message, MESSAGE_SIZE, "%lu iterations, EINTR %d times in %d",
		 nr, nr_eintr, NR_GARBAGE_RUNS);
}

/* ---- the list is complete ---- */

/* What the architectures that have the test don't have. */
static const struct nc_absent_exit common_absent_exits[] = {
	{ KVM_EXIT_DCR, "powerpc, not anymore" },
	{ KVM_EXIT_OSI, "powerpc" },
	{ KVM_EXIT_PAPR_HCALL, "powerpc" },
	{ KVM_EXIT_WATCHDOG, "powerpc" },
	{ KVM_EXIT_EPR, "powerpc" },
	{ KVM_EXIT_S390_SIEIC, "s390" },
	{ KVM_EXIT_S390_RESET, "s390" },
	{ KVM_EXIT_S390_UCONTROL, "s390" },
	{ KVM_EXIT_S390_TSCH, "s390" },
	{ KVM_EXIT_S390_STSI, "s390" },
	{ KVM_EXIT_LOONGARCH_IOCSR, "loongarch" },
#ifndef __x86_64__
	{ KVM_EXIT_IO, "x86" },
	{ KVM_EXIT_IRQ_WINDOW_OPEN, "x86 and mips" },
	{ KVM_EXIT_SHUTDOWN, "x86" },
	{ KVM_EXIT_SET_TPR, "x86" },
	{ KVM_EXIT_TPR_ACCESS, "x86" },
	{ KVM_EXIT_NMI, "x86 and powerpc" },
	{ KVM_EXIT_IOAPIC_EOI, "x86" },
	{ KVM_EXIT_HYPERV, "x86" },
	{ KVM_EXIT_X86_RDMSR, "x86" },
	{ KVM_EXIT_X86_WRMSR, "x86" },
	{ KVM_EXIT_AP_RESET_HOLD, "x86" },
	{ KVM_EXIT_X86_BUS_LOCK, "x86" },
	{ KVM_EXIT_XEN, "x86" },
	{ KVM_EXIT_NOTIFY, "x86" },
	{ KVM_EXIT_TDX, "x86" },
	{ KVM_EXIT_SNP_REQ_CERTS, "x86" },
	{ KVM_EXIT_X86_INIT_SIPI, "x86" },
#endif
};

static const char *why_absent(const struct nc_absent_exit *exits, int nr, u32 reason)
{
	int i;

	for (i = 0; i < nr; i++) {
		if (exits[i].reason == reason)
			return exits[i].why;
	}

	return NULL;
}

static bool test_list(void)
{
	bool ok = true, found;
	const char *why;
	int i, j;

	static const struct {
		u32 reason;
		const char *name;
	} reasons[] = {
#define KVM_EXIT_REASON(x) { KVM_EXIT_##x, #x },
#include "exit_reasons.inc"
#undef KVM_EXIT_REASON
	};

	for (i = 0; i < ARRAY_SIZE(reasons); i++) {
		found = false;
		for (j = 0; j < nr_nc_exits && !found; j++)
			found = nc_exits[j].reason == reasons[i].reason;

		why = why_absent(nc_absent_exits, nr_nc_absent_exits, reasons[i].reason) ?:
		      why_absent(common_absent_exits, ARRAY_SIZE(common_absent_exits),
				 reasons[i].reason);

		if (found && !why) {
			ksft_print_msg("%2u %-18s produced\n", reasons[i].reason,
				       reasons[i].name);
		} else if (!found && why) {
			ksft_print_msg("%2u %-18s not produced: %s\n", reasons[i].reason,
				       reasons[i].name, why);
		} else if (found) {
			ksft_print_msg("%2u %-18s is both produced and absent\n",
				       reasons[i].reason, reasons[i].name);
			ok = false;
		} else {
			ksft_print_msg("warning: KVM_EXIT_%s is new: add it to nc_exits[], or\n",
				       reasons[i].name);
			ksft_print_msg("  { KVM_EXIT_%s, \"why it can't be tested\" },\n",
				       reasons[i].name);
			ksft_print_msg("  to nc_absent_exits[] in ARCH/needs_completion_test.c\n");
		}
	}

	return ok;
}

/* ---- the matrix ---- */

enum { PASS, FAIL, SKIP };

/*
 * What can be done with an exit is done by child processes: a failure is not the
 * end of the others, and there are resources for more than one at a time.
 */
#define CHILD_TIMEOUT	100

enum { SLOT_IOCTLS = NC_NR_PROCEDURES, NR_SLOTS };

static pid_t start_child(int slot, void (*func)(const struct nc_exit *),
			 const struct nc_exit *exit_)
{
	pid_t pid;

	message = messages[slot];
	message[0] = '\0';
	fflush(NULL);

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed, errno: %d", errno);
	if (!pid) {
		alarm(CHILD_TIMEOUT);
		if (func)
			func(exit_);
		else
			do_procedure(exit_, slot);
		exit(KSFT_PASS);
	}

	return pid;
}

static int wait_child(int slot, pid_t pid)
{
	int status;

	message = messages[slot];
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);

	if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP)
		return SKIP;

	return WIFEXITED(status) && !WEXITSTATUS(status) ? PASS : FAIL;
}

static int run_child(void (*func)(const struct nc_exit *), const struct nc_exit *exit)
{
	return wait_child(0, start_child(0, func, exit));
}

static void __printf(2, 3) report(int result, const char *fmt, ...)
{
	char name[MESSAGE_SIZE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);

	switch (result) {
	case PASS:
		ksft_test_result_pass("%s%s%s\n", name, message[0] ? ": " : "", message);
		break;
	case SKIP:
		ksft_test_result_skip("%s: %s\n", name, message);
		break;
	default:
		ksft_test_result_fail("%s\n", name);
	}
}

static void garbage_child(const struct nc_exit *exit)
{
	test_garbage();
}

static const char *result_str(const struct nc_exit *exit, int procedure, int result)
{
	switch (result) {
	case PASS:
		if (procedure != NC_SAVE_OPEN || !exit->needs_completion)
			return "ok";
		return nc_replays(exit) ? "ok, replays" : "ok, moved on";
	case SKIP:
		return "-";
	default:
		return "FAIL";
	}
}

/* Whether this is the first exit for its reason, of those that may be open. */
static bool is_first(const struct nc_exit *exit)
{
	const struct nc_exit *other;

	for (other = nc_exits; other < exit; other++) {
		if (other->reason == exit->reason && other->needs_completion)
			return false;
	}

	return exit->needs_completion;
}

/* The row of an exit. */
static void test_exit(const struct nc_exit *exit, int *results)
{
	bool ioctls = is_first(exit);
	pid_t pids[NR_SLOTS];
	int i;

	for (i = 0; i < NC_NR_PROCEDURES; i++)
		pids[i] = start_child(i, NULL, exit);
	if (ioctls)
		pids[i] = start_child(i, test_ioctls, exit);

	for (i = 0; i < NC_NR_PROCEDURES; i++) {
		results[i] = wait_child(i, pids[i]);
		report(results[i], "%s, %s", exit->name, procedures[i]);
	}
	if (ioctls)
		report(wait_child(i, pids[i]), "%s, ioctls", exit->name);
}

int main(int argc, char **argv)
{
	int (*results)[NC_NR_PROCEDURES];
	int i, p, nr_ioctls = 0;
	sigset_t set;

	messages = mmap(NULL, NR_SLOTS * sizeof(*messages), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	results = calloc(nr_nc_exits, sizeof(*results));
	TEST_ASSERT(messages != MAP_FAILED && results, "Out of memory");
	message = messages[0];

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);

	has_cap = kvm_has_cap(KVM_CAP_NEEDS_COMPLETION);

	ksft_print_header();
	if (!has_cap)
		ksft_print_msg("No KVM_CAP_NEEDS_COMPLETION, the flag is not tested\n");

	/* Exits by their names, e.g. to look at a failure. */
	if (argc > 1) {
		for (i = 0; i < nr_nc_exits; i++) {
			for (p = 1; p < argc; p++) {
				if (!strcmp(argv[p], nc_exits[i].name))
					test_exit(&nc_exits[i], results[i]);
			}
		}
		ksft_print_cnts();
		return ksft_get_fail_cnt() ? KSFT_FAIL : KSFT_PASS;
	}

	for (i = 0; i < nr_nc_exits; i++)
		nr_ioctls += is_first(&nc_exits[i]);
	ksft_set_plan(1 + nr_nc_exits * NC_NR_PROCEDURES + nr_ioctls + 2);

	report(test_list() ? PASS : FAIL, "no exit reason is in both lists");

	for (i = 0; i < nr_nc_exits; i++)
		test_exit(&nc_exits[i], results[i]);

	for (i = 0; !nc_exits[i].needs_completion; i++)
		;
	report(run_child(test_all_ioctls, &nc_exits[i]), "all ioctls");
	report(run_child(garbage_child, NULL), "garbage in kvm_run");

	ksft_print_msg("%-18s %-15s %-5s", "exit", "reason", "flag");
	for (p = 0; p < NC_NR_PROCEDURES; p++)
		printf(" %-14s", procedures[p]);
	printf("\n");
	for (i = 0; i < nr_nc_exits; i++) {
		ksft_print_msg("%-18s %-15s %-5s", nc_exits[i].name,
			       nc_exits[i].reason == NC_NO_EXIT ? "-" :
			       exit_reason_str(nc_exits[i].reason),
			       !has_cap ? "?" : nc_exits[i].needs_completion ? "set" : "clear");
		for (p = 0; p < NC_NR_PROCEDURES; p++)
			printf(" %-14s", result_str(&nc_exits[i], p, results[i][p]));
		printf("\n");
	}

	ksft_finished();
}
