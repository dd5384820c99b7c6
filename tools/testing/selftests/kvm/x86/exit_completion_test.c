// SPDX-License-Identifier: GPL-2.0-only
/*
 * exit_completion_test - Complete exits in several parts, then save the vCPU
 *
 * An instruction may need more than one exit to userspace.  If userspace wants
 * to save the vCPU, it has to complete the instruction first, by re-entering
 * with immediate_exit, and to handle each exit that it gets instead of EINTR.
 * For instructions of this kind verify that:
 *  - Userspace gets exactly as many exits as there are parts.
 *  - A vCPU that is saved when KVM_RUN has failed with EINTR, and restored into
 *    a new VM, continues behind the instruction, and sees its result.
 *  - The same is true if userspace doesn't use immediate_exit, and if userspace
 *    provides the APIC.
 *  - The same is true if userspace writes back the registers at every exit.
 */
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"

/* Not backed by memory, i.e. guest accesses are MMIO. */
#define MMIO_GPA	0xd0000000ul
#define MMIO_NR_PAGES	2
#define MMIO_SIZE	(MMIO_NR_PAGES * PAGE_SIZE)

/* An access of 8 bytes that crosses a page. */
#define SPLIT_OFFSET	(PAGE_SIZE - 3)

#define PIO_PORT	0x2000

/* More than the emulator reads ahead. */
#define NR_INS		2500

#define NR_MOVS		5

#define WRITTEN		0xfeedf00dcafe0123ul

/* What the device has at an offset, unless the guest has written to it. */
#define PATTERN(offset)	((u8)((offset) * 7 + 1))

static u8 device[MMIO_SIZE];
static u8 buffer[NR_INS] __aligned(PAGE_SIZE);

static void guest_assert_pattern(const void *data, u64 offset, u64 len)
{
	const u8 *p = data;
	u64 i;

	for (i = 0; i < len; i++)
		GUEST_ASSERT_EQ(p[i], PATTERN(offset + i));
}

static void guest_mmio_read_split(void)
{
	u64 val;

	asm volatile("movq (%1), %0"
		     : "=r" (val) : "r" (MMIO_GPA + SPLIT_OFFSET));
	guest_assert_pattern(&val, SPLIT_OFFSET, sizeof(val));
	GUEST_DONE();
}

static void guest_mmio_read_long(void)
{
	asm volatile("movdqu (%0), %%xmm0\n\t"
		     "movdqu %%xmm0, (%1)"
		     : : "r" (MMIO_GPA), "r" (buffer) : "memory", "xmm0");
	guest_assert_pattern(buffer, 0, 16);
	GUEST_DONE();
}

static void guest_mmio_write_split(void)
{
	asm volatile("movq %0, (%1)"
		     : : "r" (WRITTEN), "r" (MMIO_GPA + SPLIT_OFFSET));
	GUEST_DONE();
}

static void guest_mmio_rmw(void)
{
	asm volatile("notb (%0)" : : "r" (MMIO_GPA));
	GUEST_DONE();
}

static void guest_mmio_string(void)
{
	u64 src = MMIO_GPA, count = NR_MOVS;
	void *dst = buffer;

	asm volatile("cld; rep movsb"
		     : "+S" (src), "+D" (dst), "+c" (count) : : "memory");
	GUEST_ASSERT_EQ(count, 0);
	guest_assert_pattern(buffer, 0, NR_MOVS);
	GUEST_DONE();
}

static void guest_string_pio(void)
{
	void *dst = buffer;
	u64 count = NR_INS;

	asm volatile("cld; rep insb"
		     : "+D" (dst), "+c" (count) : "d" (PIO_PORT) : "memory");
	GUEST_ASSERT_EQ(count, 0);
	guest_assert_pattern(buffer, 0, NR_INS);
	GUEST_DONE();
}

FIXTURE(exit_completion) {
	struct kvm_vcpu *vcpu;
	u64 pio_offset;
};

FIXTURE_VARIANT(exit_completion) {
	void *guest_code;
	/* The length of the access of each exit, up to the first EINTR. */
	u32 len[8];
};

FIXTURE_VARIANT_ADD(exit_completion, mmio_read_split) {
	.guest_code = guest_mmio_read_split,
	.len = { 3, 5 },
};

FIXTURE_VARIANT_ADD(exit_completion, mmio_read_long) {
	.guest_code = guest_mmio_read_long,
	.len = { 8, 8 },
};

FIXTURE_VARIANT_ADD(exit_completion, mmio_write_split) {
	.guest_code = guest_mmio_write_split,
	.len = { 3, 5 },
};

FIXTURE_VARIANT_ADD(exit_completion, mmio_rmw) {
	.guest_code = guest_mmio_rmw,
	.len = { 1, 1 },
};

FIXTURE_VARIANT_ADD(exit_completion, mmio_string) {
	.guest_code = guest_mmio_string,
	.len = { 1, 1, 1, 1, 1 },
};

FIXTURE_VARIANT_ADD(exit_completion, string_pio) {
	.guest_code = guest_string_pio,
	.len = { 1024 },
};

FIXTURE_SETUP(exit_completion)
{
	int i;

	self->vcpu = NULL;
	(void)vm_create_with_one_vcpu(&self->vcpu, variant->guest_code);
	virt_map(self->vcpu->vm, MMIO_GPA, MMIO_GPA, MMIO_NR_PAGES);

	for (i = 0; i < MMIO_SIZE; i++)
		device[i] = PATTERN(i);
	self->pio_offset = 0;
}

FIXTURE_TEARDOWN(exit_completion)
{
	kvm_vm_free(self->vcpu->vm);
}

/* Returns the length of the access. */
static u32 handle_exit(struct kvm_vcpu *vcpu, u64 *pio_offset)
{
	struct kvm_run *run = vcpu->run;
	u64 offset;
	u32 len;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		offset = run->mmio.phys_addr - MMIO_GPA;
		len = run->mmio.len;
		TEST_ASSERT(offset < MMIO_SIZE && offset + len <= MMIO_SIZE,
			    "MMIO access to 0x%llx", run->mmio.phys_addr);
		if (run->mmio.is_write)
			memcpy(&device[offset], run->mmio.data, len);
		else
			memcpy(run->mmio.data, &device[offset], len);
		return len;
	case KVM_EXIT_IO:
		TEST_ASSERT_EQ(run->io.port, PIO_PORT);
		len = run->io.size * run->io.count;
		TEST_ASSERT(*pio_offset + len <= MMIO_SIZE, "Too much string PIO");
		memcpy((u8 *)run + run->io.data_offset, &device[*pio_offset], len);
		*pio_offset += len;
		return len;
	default:
		TEST_FAIL("Unexpected exit reason: %u (%s)", run->exit_reason,
			  exit_reason_str(run->exit_reason));
	}
}

/* Run the guest to its end, whatever exits there are. */
static void run_to_done(struct kvm_vcpu *vcpu, u64 *pio_offset, bool set_regs)
{
	struct kvm_regs regs;
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);

		switch (get_ucall(vcpu, &uc)) {
		case UCALL_NONE:
			handle_exit(vcpu, pio_offset);
			if (set_regs) {
				vcpu_regs_get(vcpu, &regs);
				vcpu_regs_set(vcpu, &regs);
			}
			break;
		case UCALL_DONE:
			return;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		default:
			TEST_FAIL("Unexpected ucall: %lu", uc.cmd);
		}
	}
}

static struct kvm_vcpu *move_to_new_vm(struct kvm_vcpu *vcpu)
{
	struct kvm_x86_state *state = vcpu_save_state(vcpu);
	struct kvm_vm *vm = vcpu->vm;

	kvm_vm_release(vm);
	vcpu = vm_recreate_with_one_vcpu(vm);
	/* Without an APIC of its own, KVM rejects even a write of 0 to its MSR. */
	if (!vm->has_irqchip) {
		vcpu_enable_cap(vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1);
		vcpu_clear_cpuid_feature(vcpu, X86_FEATURE_KVM_ASYNC_PF_INT);
	}
	vcpu_load_state(vcpu, state);
	kvm_x86_state_cleanup(state);

	return vcpu;
}

static void assert_device(void *guest_code)
{
	u64 written = WRITTEN;

	if (guest_code == guest_mmio_write_split)
		TEST_ASSERT(!memcmp(&device[SPLIT_OFFSET], &written, sizeof(written)),
			    "Device doesn't have what the guest has written");
	if (guest_code == guest_mmio_rmw)
		TEST_ASSERT_EQ(device[0], (u8)~PATTERN(0));
}

/*
 * KVM_RUN, without running the guest.  Returns false if there is another exit,
 * i.e. if the instruction has another part.
 */
static bool run_immediate_exit(struct kvm_vcpu *vcpu)
{
	int ret;

	vcpu->run->immediate_exit = 1;
	ret = __vcpu_run(vcpu);
	vcpu->run->immediate_exit = 0;

	TEST_ASSERT(!ret || errno == EINTR,
		    "KVM_RUN with immediate_exit, rc: %d, errno: %d", ret, errno);
	return ret;
}

/* Returns the vCPU of the new VM. */
static struct kvm_vcpu *save_and_restore(struct kvm_vcpu *vcpu, const u32 *len,
					 int nr_len, u64 *pio_offset)
{
	int i = 0;

	vcpu_run(vcpu);
	do {
		TEST_ASSERT(i < nr_len && len[i], "More than %d exits", i);
		TEST_ASSERT_EQ(handle_exit(vcpu, pio_offset), len[i]);
		i++;
	} while (!run_immediate_exit(vcpu));

	TEST_ASSERT(i == nr_len || !len[i], "No more than %d exits", i);

	/* There is nothing to complete anymore. */
	vcpu_run_complete_io(vcpu);

	vcpu = move_to_new_vm(vcpu);

	run_to_done(vcpu, pio_offset, false);
	return vcpu;
}

TEST_F(exit_completion, save_and_restore)
{
	self->vcpu = save_and_restore(self->vcpu, variant->len,
				      ARRAY_SIZE(variant->len), &self->pio_offset);
	assert_device(variant->guest_code);
}

/* The same if KVM doesn't provide the APIC, in both VMs. */
TEST_F(exit_completion, save_and_restore_userspace_apic)
{
	self->vcpu->vm->has_irqchip = false;
	self->vcpu = move_to_new_vm(self->vcpu);
	self->vcpu = save_and_restore(self->vcpu, variant->len,
				      ARRAY_SIZE(variant->len), &self->pio_offset);
	assert_device(variant->guest_code);
}

TEST_F(exit_completion, run)
{
	run_to_done(self->vcpu, &self->pio_offset, false);
	assert_device(variant->guest_code);
}

/* Userspace may read the registers and write them back at any exit. */
TEST_F(exit_completion, set_regs)
{
	run_to_done(self->vcpu, &self->pio_offset, true);
	assert_device(variant->guest_code);
}

TEST_HARNESS_MAIN
