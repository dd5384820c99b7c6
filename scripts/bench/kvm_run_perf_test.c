// SPDX-License-Identifier: GPL-2.0-only
/*
 * What KVM_RUN costs
 *
 * Measure the round trip from KVM_RUN to KVM_RUN for the cheapest exits of the
 * architecture, and KVM_RUN with immediate_exit, which doesn't enter the guest.
 * For comparison, measure KVM_MP_STATE_RESET of a vCPU that has run, if KVM has it,
 * and "set_state", the ioctls with which a VMM gives a vCPU all of its state back.
 * And measure what it takes KVM to start a vCPU: the KVM_RUN in which a guest does
 * that, together with the ioctl that stops the target again, or, on x86, that lets
 * it accept INIT and SIPI.  "mp_state" is that ioctl alone, and "toggle" is the same
 * start with userspace in charge of it: the exits, and a VMM that resets the target,
 * sets its entry point and lets it go.
 * "pause_set" is what has to be done before a vCPU can be saved if an MMIO read
 * isn't finished, and includes the exit itself; "pause_clear" is what has to be done
 * if KVM says that there is nothing to finish.  "immediate_exit" is what a VMM has to
 * do in any case if KVM doesn't say so.
 * All of user space, kernel and guest is in the result, but user space and guest
 * are a handful of instructions.
 *
 * The unit is a tick of the counter that user space can read: the TSC on x86, the
 * virtual counter (CNTVCT_EL0) on arm64, and time on riscv.  How long a tick takes
 * depends on the machine.
 *
 * With -q, that takes a fraction of the time, without "set_state" and "toggle".
 *
 * It is of little use to compare kernels unless the counter is as precise as it is
 * in QEMU with "-icount shift=0,sleep=off" and a single CPU: one nanosecond is one
 * instruction, and two runs of the same kernel give the same results.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "vcpu_state.h"

#ifdef __x86_64__
#include "apic.h"
#endif
#ifdef __aarch64__
#include <linux/psci.h>
#endif
#ifdef __riscv
#include "sbi.h"
#endif

#define MMIO_GPA	0xc0000000ul
#define NR_CALLS	500
#define NR_QUICK_CALLS	100
#define NR_SAMPLES	4
#define PIO_PORT	0x80

static int samples = NR_SAMPLES;
static int calls = NR_CALLS;
static bool quit;

#if defined(__x86_64__)
static u64 clock_now(void)
{
	return rdtsc();
}
#elif defined(__aarch64__)
static u64 clock_now(void)
{
	u64 val;

	asm volatile("isb; mrs %0, cntvct_el0" : "=r"(val) : : "memory");
	return val;
}
#elif defined(__riscv)
static u64 clock_now(void)
{
	u64 val;

	asm volatile("rdtime %0" : "=r"(val) : : "memory");
	return val;
}
#endif

static void guest_mmio_read(void)
{
	for (;;)
		READ_ONCE(*(u32 *)MMIO_GPA);
}

static void guest_mmio_write(void)
{
	for (;;)
		WRITE_ONCE(*(u32 *)MMIO_GPA, 0);
}

#ifdef __x86_64__
static void guest_out(void)
{
	for (;;)
		outl(PIO_PORT, 0);
}

static void guest_in(void)
{
	u32 val;

	for (;;)
		asm volatile("inl %%dx, %%eax" : "=a"(val) : "d"((u16)PIO_PORT));
}
#endif

#ifdef __riscv
static void guest_sbi(void)
{
	for (;;)
		sbi_ecall(KVM_RISCV_SELFTESTS_SBI_EXT, 0x100,
			  0, 0, 0, 0, 0, 0);
}
#endif

/* The target never runs. */
#define TARGET	1

#if defined(__x86_64__)
#define START_ROW	"init_sipi"
#define START_EXIT	KVM_EXIT_IO

static void guest_start(void)
{
	x2apic_enable();

	for (;;) {
		x2apic_write_reg(APIC_ICR, (u64)TARGET << 32 | APIC_INT_ASSERT |
				 APIC_DM_INIT);
		x2apic_write_reg(APIC_ICR, (u64)TARGET << 32 | APIC_INT_ASSERT |
				 APIC_DM_STARTUP | 1);
		outl(PIO_PORT, 0);
	}
}
#elif defined(__aarch64__)
#define START_ROW	"cpu_on"
#define START_EXIT	KVM_EXIT_MMIO

static void guest_start(void)
{
	struct arm_smccc_res res;

	for (;;) {
		do_smccc(PSCI_0_2_FN64_CPU_ON, TARGET, 0, 0, 0, 0, 0, 0, &res);
		GUEST_ASSERT_EQ(res.a0, PSCI_RET_SUCCESS);
		WRITE_ONCE(*(u32 *)MMIO_GPA, 0);
	}
}
#elif defined(__riscv)
#define START_ROW	"hart_start"
#define START_EXIT	KVM_EXIT_MMIO

/* SBI HSM, function 0 */
static void guest_start(void)
{
	struct sbiret ret;

	for (;;) {
		ret = sbi_ecall(0x48534d, 0, TARGET, 0, 0, 0, 0, 0);
		GUEST_ASSERT_EQ(ret.error, SBI_SUCCESS);
		WRITE_ONCE(*(u32 *)MMIO_GPA, 0);
	}
}
#endif

struct row {
	const char *name;
	void *guest;
	u32 exit_reason;
	bool immediate_exit;
	bool reset;
	bool start;
	bool toggle;
	bool set_state;
	bool pause_set;
	bool pause_clear;
};

static const struct row rows[] = {
	{ "mmio_read",		guest_mmio_read,	KVM_EXIT_MMIO },
	{ "mmio_write",		guest_mmio_write,	KVM_EXIT_MMIO },
#ifdef __x86_64__
	{ "out",		guest_out,		KVM_EXIT_IO },
	{ "in",			guest_in,		KVM_EXIT_IO },
#endif
#ifdef __riscv
	{ "sbi",		guest_sbi,		KVM_EXIT_RISCV_SBI },
#endif
	{ "immediate_exit",	guest_mmio_read,	KVM_EXIT_MMIO,	true },
	{ "mp_state_reset",	guest_mmio_read,	KVM_EXIT_MMIO,	false, true },
	{ "set_state",		guest_mmio_read,	KVM_EXIT_MMIO,	.set_state = true },
	{ "pause_set",		guest_mmio_read,	KVM_EXIT_MMIO,	.pause_set = true },
	{ "pause_clear",	guest_mmio_read,	KVM_EXIT_MMIO,	true, .pause_clear = true },
	{ START_ROW,		guest_start,		START_EXIT,	.start = true },
	{ "toggle",		guest_start,		START_EXIT,	.toggle = true },
};

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static void report(const char *name, u64 *sample, int nr)
{
	int equal;

	qsort(sample, samples, sizeof(sample[0]), compare);
	for (equal = 1; equal < samples && sample[equal] == sample[0]; equal++)
		;
	if (!quit)
		pr_info("kvm_run/%s %.4f ticks (minimum of %d, seen %d times; median %.4f)\n",
			name, (double)sample[0] / nr, samples, equal,
			(double)sample[samples / 2] / nr);
}

/* Have KVM stop the target, or, on x86, which can't, start it. */
static int set_target(int fd)
{
	struct kvm_mp_state mp_state = { .mp_state = KVM_MP_STATE_STOPPED };

#ifdef __x86_64__
	return ioctl(fd, KVM_GET_MP_STATE, &mp_state);
#else
	return ioctl(fd, KVM_SET_MP_STATE, &mp_state);
#endif
}

/* The entry point, of which nothing is executed */
#define ENTRY	0x1000

static int set_reg(int fd, u64 id, u64 val)
{
	struct kvm_one_reg reg = { .id = id, .addr = (u64)&val };

	return ioctl(fd, KVM_SET_ONE_REG, &reg);
}

static bool enable_toggle(struct kvm_vm *vm)
{
#if defined(__aarch64__)
	struct kvm_smccc_filter filter = {
		.base		= PSCI_0_2_FN64_CPU_ON,
		.nr_functions	= 1,
		.action		= KVM_SMCCC_FILTER_FWD_TO_USER,
	};

	return kvm_has_cap(KVM_CAP_MP_STATE_RESET) &&
	       !__kvm_device_attr_set(vm->fd, KVM_ARM_VM_SMCCC_CTRL,
				      KVM_ARM_VM_SMCCC_FILTER, &filter);
#else
	u64 mask = kvm_check_cap(KVM_CAP_EXIT_ON_VCPU_RESET);

	return mask && !__vm_enable_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET, mask);
#endif
}

/* What a VMM does: the return values add up to 0 if all succeed. */
static int serve_start(struct kvm_run *run, int fd, int target_fd)
{
	struct kvm_mp_state mp_state = { .mp_state = KVM_MP_STATE_RESET };
	int sum = 0;

#ifdef __x86_64__
	struct kvm_vcpu_events events;
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rflags = 2 };

	/* INIT and SIPI have been sent; here, it's the target that exits. */
	sum += ioctl(fd, KVM_RUN, 0);
	sum += ioctl(target_fd, KVM_RUN, 0);
	sum += ioctl(target_fd, KVM_GET_VCPU_EVENTS, &events);
	sum += ioctl(target_fd, KVM_SET_MP_STATE, &mp_state);
	sum += ioctl(target_fd, KVM_GET_SREGS, &sregs);
	sregs.cs.selector = events.sipi_vector << 8;
	sregs.cs.base = events.sipi_vector << 12;
	sum += ioctl(target_fd, KVM_SET_SREGS, &sregs);
	sum += ioctl(target_fd, KVM_SET_REGS, &regs);
#else
	sum += ioctl(fd, KVM_RUN, 0);
	sum += ioctl(target_fd, KVM_SET_MP_STATE, &mp_state);
#ifdef __aarch64__
	sum += set_reg(target_fd, ARM64_CORE_REG(regs.pc), ENTRY);
	sum += set_reg(target_fd, ARM64_CORE_REG(regs.regs[0]), 0);
	run->hypercall.ret = PSCI_RET_SUCCESS;
	sum += set_reg(fd, ARM64_CORE_REG(regs.regs[0]), PSCI_RET_SUCCESS);
#else
	sum += set_reg(target_fd, RISCV_CORE_REG(regs.pc), ENTRY);
	sum += set_reg(target_fd, RISCV_CORE_REG(regs.a0), TARGET);
	sum += set_reg(target_fd, RISCV_CORE_REG(regs.a1), 0);
	run->riscv_sbi.ret[0] = SBI_SUCCESS;
	run->riscv_sbi.ret[1] = 0;
#endif
#endif
	mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
	sum += ioctl(target_fd, KVM_SET_MP_STATE, &mp_state);
#ifndef __x86_64__
	sum += ioctl(fd, KVM_RUN, 0);
#endif

	return sum;
}

static void measure_start(const struct row *row)
{
	u64 sample[NR_SAMPLES], start;
	struct kvm_vcpu *vcpu, *target;
	int i, j, fd, target_fd, sum = 0;
	struct kvm_vm *vm;

	vm = vm_create(2);
#ifdef __aarch64__
	struct kvm_vcpu_init init;

	kvm_get_default_vcpu_target(vm, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	vcpu = aarch64_vcpu_add(vm, 0, &init, row->guest);
	target = aarch64_vcpu_add(vm, TARGET, &init, NULL);
	kvm_arch_vm_finalize_vcpus(vm);
#else
	vcpu = vm_vcpu_add(vm, 0, row->guest);
	target = vm_vcpu_add(vm, TARGET, NULL);
#endif
	virt_map(vm, MMIO_GPA, MMIO_GPA, 1);
	fd = vcpu->fd;
	target_fd = target->fd;

	if (row->toggle) {
		if (!enable_toggle(vm))
			goto out;

		for (i = -1; i < samples; i++) {
			start = clock_now();
			for (j = 0; j < calls; j++) {
				sum += set_target(target_fd);
				sum += serve_start(vcpu->run, fd, target_fd);
			}
			if (i >= 0)
				sample[i] = clock_now() - start;
		}
		TEST_ASSERT(!sum, "%s: the return values add up to %d, errno %d",
			    row->name, sum, errno);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, row->exit_reason);
		report(row->name, sample, calls);
		goto out;
	}

	for (i = 0; i < 10; i++) {
		TEST_ASSERT(!set_target(target_fd), "%s: errno %d", row->name, errno);
		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, row->exit_reason);
	}

	for (i = 0; i < samples; i++) {
		start = clock_now();
		for (j = 0; j < calls; j++) {
			sum += set_target(target_fd);
			sum += ioctl(fd, KVM_RUN, 0);
		}
		sample[i] = clock_now() - start;
	}
	TEST_ASSERT(!sum, "%s: the return values add up to %d, errno %d",
		    row->name, sum, errno);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, row->exit_reason);
	report(row->name, sample, calls);

	/* Twice, so that there is nothing to be accepted anymore. */
	set_target(target_fd);
	for (i = 0; i < samples; i++) {
		start = clock_now();
		for (j = 0; j < calls; j++)
			sum += set_target(target_fd);
		sample[i] = clock_now() - start;
	}
	TEST_ASSERT(!sum, "mp_state: the return values add up to %d, errno %d",
		    sum, errno);
	report("mp_state", sample, calls);
out:
	kvm_vm_free(vm);
}

struct call {
	unsigned long request;
	void *arg;
};

/* For as many ioctls as there can be */
static struct call state_calls[2048];
static int nr_state_calls;

static void add_call(struct kvm_vcpu *vcpu, unsigned long request, void *arg)
{
	/* Not all that can be read can be written. */
	if (ioctl(vcpu->fd, request, arg) < 0)
		return;

	TEST_ASSERT(nr_state_calls < ARRAY_SIZE(state_calls), "There are too many registers");
	state_calls[nr_state_calls++] = (struct call){ request, arg };
}

#ifdef __x86_64__
static void add_state(struct kvm_vcpu *vcpu)
{
	struct kvm_x86_state *state = vcpu_save_state(vcpu);
	static struct kvm_lapic_state lapic;

	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);

	add_call(vcpu, KVM_SET_SREGS, &state->sregs);
	add_call(vcpu, KVM_SET_MSRS, &state->msrs);
	add_call(vcpu, KVM_SET_XCRS, &state->xcrs);
	add_call(vcpu, KVM_SET_XSAVE, state->xsave);
	add_call(vcpu, KVM_SET_LAPIC, &lapic);
	add_call(vcpu, KVM_SET_VCPU_EVENTS, &state->events);
	add_call(vcpu, KVM_SET_DEBUGREGS, &state->debugregs);
	add_call(vcpu, KVM_SET_REGS, &state->regs);
	add_call(vcpu, KVM_SET_MP_STATE, &state->mp_state);
}
#else
static void add_state(struct kvm_vcpu *vcpu)
{
	struct kvm_saved_regs *saved = vcpu_save_reg_list(vcpu);
	static struct kvm_mp_state mp_state;
	struct kvm_one_reg *one;
	int i;

#ifdef __aarch64__
	static struct kvm_vcpu_init init;

	kvm_get_default_vcpu_target(vcpu->vm, &init);
	add_call(vcpu, KVM_ARM_VCPU_INIT, &init);
#endif

	one = calloc(saved->n, sizeof(*one));
	TEST_ASSERT(one, "Out of memory");
	for (i = 0; i < saved->n; i++) {
		one[i].id = saved->reg[i].id;
		one[i].addr = (u64)saved->reg[i].data;
		add_call(vcpu, KVM_SET_ONE_REG, &one[i]);
	}

	vcpu_mp_state_get(vcpu, &mp_state);
	add_call(vcpu, KVM_SET_MP_STATE, &mp_state);
}
#endif

static void measure_set_state(const struct row *row)
{
	u64 sample[NR_SAMPLES], start;
	struct kvm_vcpu *vcpu;
	int i, j, sum = 0;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, row->guest);
	virt_map(vm, MMIO_GPA, MMIO_GPA, 1);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, row->exit_reason);
	vcpu_run_complete_io(vcpu);
	add_state(vcpu);

	for (i = 0; i < samples; i++) {
		start = clock_now();
		for (j = 0; j < nr_state_calls; j++)
			sum += ioctl(vcpu->fd, state_calls[j].request,
				     state_calls[j].arg) < 0;
		sample[i] = clock_now() - start;
	}
	TEST_ASSERT(!sum, "%s: %d of %d ioctls failed", row->name, sum,
		    samples * nr_state_calls);

	pr_info("# %s: %d ioctls\n", row->name, nr_state_calls);
	report(row->name, sample, 1);

	kvm_vm_free(vm);
}

static void measure(const struct row *row)
{
	struct kvm_mp_state mp_state = { .mp_state = KVM_MP_STATE_RESET };
	unsigned long request = row->reset ? KVM_SET_MP_STATE : KVM_RUN;
	void *arg = row->reset ? &mp_state : NULL;
	u64 sample[NR_SAMPLES], start;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i, j, fd, sum = 0;

	if (row->start || row->toggle) {
		measure_start(row);
		return;
	}

	if (row->set_state) {
		measure_set_state(row);
		return;
	}

	if (row->reset && !kvm_has_cap(KVM_CAP_MP_STATE_RESET))
		return;

	/* A VMM that can't know has no choice, see immediate_exit. */
	if ((row->pause_clear || row->pause_set) && !kvm_has_cap(KVM_CAP_NEEDS_COMPLETION))
		return;

	vm = vm_create_with_one_vcpu(&vcpu, row->guest);
	virt_map(vm, MMIO_GPA, MMIO_GPA, 1);
	fd = vcpu->fd;

	/* Fault in the guest, and see that it does what it is meant to. */
	for (i = 0; i < 10; i++) {
		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, row->exit_reason);
	}

	vcpu->run->immediate_exit = row->immediate_exit;
	if (row->immediate_exit) {
		i = ioctl(fd, KVM_RUN, 0);
		TEST_ASSERT(i == -1 && errno == EINTR,
			    "%s: KVM_RUN returned %d, errno %d, wanted EINTR",
			    row->name, i, errno);
	}

	for (i = 0; i < samples; i++) {
		start = clock_now();
		for (j = 0; j < calls; j++) {
			if (row->pause_clear) {
				sum -= !(READ_ONCE(vcpu->run->flags) & KVM_RUN_NEEDS_COMPLETION);
				continue;
			}
			sum += ioctl(fd, request, arg);
			if (row->pause_set && READ_ONCE(vcpu->run->flags) & KVM_RUN_NEEDS_COMPLETION) {
				vcpu->run->immediate_exit = 1;
				sum += ioctl(fd, KVM_RUN, 0) + 1;
				vcpu->run->immediate_exit = 0;
			}
		}
		sample[i] = clock_now() - start;
	}

	/* Either all succeed with the exit, or all fail with EINTR. */
	TEST_ASSERT(sum == (row->immediate_exit ? -samples * calls : 0),
		    "%s: the return values add up to %d, errno %d",
		    row->name, sum, errno);
	if (row->immediate_exit)
		TEST_ASSERT(errno == EINTR, "%s: KVM_RUN failed with errno %d",
			    row->name, errno);
	else if (!row->pause_set)
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, row->exit_reason);

	report(row->name, sample, calls);

	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	bool quick = argc > 1 && !strcmp(argv[1], "-q");
	int i;

	if (quick)
		calls = NR_QUICK_CALLS;

	/* Once without telling, for what needs to be allocated first. */
	samples = 1;
	quit = true;
	measure(&rows[0]);
	samples = NR_SAMPLES;
	quit = false;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		/* What KVM does itself, and without preparation */
		if (quick && (rows[i].set_state || rows[i].toggle || rows[i].pause_clear))
			continue;
		measure(&rows[i]);
	}

	return 0;
}
