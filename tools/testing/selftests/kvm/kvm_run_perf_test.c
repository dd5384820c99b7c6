// SPDX-License-Identifier: GPL-2.0-only
/*
 * What KVM_RUN costs
 *
 * Measure the round trip from KVM_RUN to KVM_RUN for the cheapest exits of the
 * architecture, and KVM_RUN with immediate_exit, which doesn't enter the guest.
 * For comparison, measure KVM_MP_STATE_RESET of a vCPU that has run, if KVM has it.
 * All of user space, kernel and guest is in the result, but user space and guest
 * are a handful of instructions.
 *
 * The unit is a tick of the counter that user space can read: the TSC on x86, the
 * virtual counter (CNTVCT_EL0) on arm64, and time on riscv.  How long a tick takes
 * depends on the machine.
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

#ifdef __riscv
#include "sbi.h"
#endif

#define MMIO_GPA	0xc0000000ul
#define NR_CALLS	500
#define NR_SAMPLES	30
#define PIO_PORT	0x80

static int samples = NR_SAMPLES;
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

struct row {
	const char *name;
	void *guest;
	u32 exit_reason;
	bool immediate_exit;
	bool reset;
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
};

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static void measure(const struct row *row)
{
	struct kvm_mp_state mp_state = { .mp_state = KVM_MP_STATE_RESET };
	unsigned long request = row->reset ? KVM_SET_MP_STATE : KVM_RUN;
	void *arg = row->reset ? &mp_state : NULL;
	u64 sample[NR_SAMPLES], start;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i, j, fd, equal, sum = 0;

	if (row->reset && !kvm_has_cap(KVM_CAP_MP_STATE_RESET))
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
		for (j = 0; j < NR_CALLS; j++)
			sum += ioctl(fd, request, arg);
		sample[i] = clock_now() - start;
	}

	/* Either all succeed with the exit, or all fail with EINTR. */
	TEST_ASSERT(sum == (row->immediate_exit ? -samples * NR_CALLS : 0),
		    "%s: the return values add up to %d, errno %d",
		    row->name, sum, errno);
	if (row->immediate_exit)
		TEST_ASSERT(errno == EINTR, "%s: KVM_RUN failed with errno %d",
			    row->name, errno);
	else
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, row->exit_reason);

	qsort(sample, samples, sizeof(sample[0]), compare);
	for (equal = 1; equal < samples && sample[equal] == sample[0]; equal++)
		;
	if (!quit)
		pr_info("kvm_run/%s %.4f ticks (minimum of %d, seen %d times; median %.4f)\n",
			row->name, (double)sample[0] / NR_CALLS, samples, equal,
			(double)sample[samples / 2] / NR_CALLS);

	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	int i;

	/* Once without telling, for what needs to be allocated first. */
	samples = 1;
	quit = true;
	measure(&rows[0]);
	samples = NR_SAMPLES;
	quit = false;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		measure(&rows[i]);

	return 0;
}
