// SPDX-License-Identifier: GPL-2.0-only
/*
 * init_completion_test - A vCPU that was reset has no exit left to complete
 *
 * KVM retires many of the instructions that exit to userspace at the KVM_RUN
 * after the exit.  If the vCPU is reset before, there is no such instruction
 * anymore.  For each kind of exit, verify that the new state is what INIT, SIPI
 * and userspace have made it, before, during and after the next KVM_RUN, if:
 *  - INIT and SIPI arrive after the exit and are taken in KVM_GET_MP_STATE.
 *  - INIT arrives after the exit and is taken in KVM_GET_MP_STATE, and SIPI
 *    arrives while the vCPU waits for it.
 *  - Userspace forces the vCPU to KVM_MP_STATE_UNINITIALIZED after the exit, and
 *    INIT and SIPI arrive later.
 *  - Userspace forces the vCPU to KVM_MP_STATE_UNINITIALIZED after the exit, and
 *    then loads new state and makes it KVM_MP_STATE_RUNNABLE.
 * And, as the other half, that the instruction completes exactly once:
 *  - If INIT and SIPI arrive only after it completed.
 *  - If the exit is from L2 and L1 intercepts INIT: the instruction completes in
 *    L2, before the nested VM-Exit.
 * Nor does a vCPU that was reset shut down because of an earlier triple fault,
 * or get an exception, an interrupt or an NMI of its former life.
 *
 * An INIT that is pending when userspace saves the vCPU happens once, whatever
 * is saved first, and stays latched if SMM blocks it.
 */
#include <asm/kvm_para.h>
#include <linux/bits.h>

#include "apic.h"
#include "hyperv.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "vmx.h"

#define AP_VCPU_ID	1

/* Not backed by memory, i.e. guest accesses are MMIO. */
#define MMIO_GPA	0xd0000000ul
#define MMIO_NR_PAGES	2

/* The port of the instructions under test, and that of their successors. */
#define PIO_PORT	0x2000
#define RESTART_PORT	0x42

/* The real mode code that a SIPI starts, in a page that the library won't use. */
#define SIPI_VECTOR	0x01
#define SIPI_GPA	(SIPI_VECTOR << 12)

#define MSR_NON_EXISTENT	0x474f4f00

/* What userspace answers, no register has it by accident. */
#define ANSWER		0xa5

/*
 * The buffer of string PIO, in the same page.  It has the same address with and
 * without paging, i.e. a write is seen even if INIT has turned off paging.
 */
#define INS_GPA		(SIPI_GPA + 0x800)
#define NR_INS		64

/* "out %al, $RESTART_PORT" is the same in all modes. */
static const u8 sipi_code[] = { 0xe6, RESTART_PORT };

static void __attribute__((naked)) guest_restart(void)
{
	asm volatile("out %%al, %0\n\t"
		     "ud2" : : "i" (RESTART_PORT));
}

static void guest_bsp(void)
{
	x2apic_enable();

	for (;;) {
		x2apic_write_reg(APIC_ICR, (u64)AP_VCPU_ID << 32 |
				 APIC_INT_ASSERT | APIC_DM_INIT);
		GUEST_SYNC(APIC_DM_INIT);

		x2apic_write_reg(APIC_ICR, (u64)AP_VCPU_ID << 32 |
				 APIC_INT_ASSERT | APIC_DM_STARTUP | SIPI_VECTOR);
		GUEST_SYNC(APIC_DM_STARTUP);
	}
}

static void guest_pio_in(void)
{
	asm volatile("inb %%dx, %%al" : : "d" (PIO_PORT) : "rax");
}

static void guest_pio_out(void)
{
	asm volatile("outb %%al, %%dx" : : "d" (PIO_PORT), "a" (0));
}

static void guest_string_pio_in(void)
{
	void *dst = (void *)INS_GPA;
	u64 count = NR_INS;

	asm volatile("cld; rep insb" : "+D" (dst), "+c" (count)
		     : "d" (PIO_PORT) : "memory");
}

static void guest_mmio_read(void)
{
	asm volatile("movq (%0), %%rax" : : "r" (MMIO_GPA) : "rax");
}

static void guest_mmio_write(void)
{
	asm volatile("movq %%rax, (%0)" : : "r" (MMIO_GPA), "a" (0));
}

static void guest_mmio_rmw(void)
{
	asm volatile("addq $1, (%0)" : : "r" (MMIO_GPA) : "memory");
}

/* Two exits for one instruction, as the access crosses a page. */
static void guest_mmio_write_split(void)
{
	asm volatile("movq %%rax, (%0)"
		     : : "r" (MMIO_GPA + PAGE_SIZE - 4), "a" (0));
}

/* The emulator has dirty registers in its cache at the second exit. */
static void guest_mmio_string(void)
{
	u64 src = MMIO_GPA, count = 4;

	asm volatile("cld; rep lodsb" : "+S" (src), "+c" (count) : : "rax");
}

static void guest_rdmsr(void)
{
	rdmsr(MSR_NON_EXISTENT);
}

static void guest_wrmsr(void)
{
	wrmsr(MSR_NON_EXISTENT, 0);
}

static void guest_map_gpa_range(void)
{
	__kvm_hypercall_map_gpa_range(0, PAGE_SIZE, KVM_MAP_GPA_RANGE_DECRYPTED);
}

static void guest_hyperv_hypercall(void)
{
	u64 status;

	wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
	wrmsr(HV_X64_MSR_SCONTROL, 1);
	__hyperv_hypercall(HVCALL_POST_MESSAGE, 0, 0, &status);
}

FIXTURE(init_completion) {
	struct kvm_vcpu *bsp;
	struct kvm_vcpu *ap;
	struct kvm_vm *vm;

	/* State of the AP before it ran. */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
};

FIXTURE_VARIANT(init_completion) {
	void *guest_code;
	u32 exit_reason;
	/* Exits of the same instruction before the one under test. */
	int nr_parts_before;
};

FIXTURE_VARIANT_ADD(init_completion, pio_in) {
	.guest_code = guest_pio_in,
	.exit_reason = KVM_EXIT_IO,
};

FIXTURE_VARIANT_ADD(init_completion, pio_out) {
	.guest_code = guest_pio_out,
	.exit_reason = KVM_EXIT_IO,
};

FIXTURE_VARIANT_ADD(init_completion, string_pio_in) {
	.guest_code = guest_string_pio_in,
	.exit_reason = KVM_EXIT_IO,
};

FIXTURE_VARIANT_ADD(init_completion, mmio_read) {
	.guest_code = guest_mmio_read,
	.exit_reason = KVM_EXIT_MMIO,
};

FIXTURE_VARIANT_ADD(init_completion, mmio_write) {
	.guest_code = guest_mmio_write,
	.exit_reason = KVM_EXIT_MMIO,
};

FIXTURE_VARIANT_ADD(init_completion, mmio_rmw) {
	.guest_code = guest_mmio_rmw,
	.exit_reason = KVM_EXIT_MMIO,
};

FIXTURE_VARIANT_ADD(init_completion, mmio_write_split) {
	.guest_code = guest_mmio_write_split,
	.exit_reason = KVM_EXIT_MMIO,
};

FIXTURE_VARIANT_ADD(init_completion, mmio_string) {
	.guest_code = guest_mmio_string,
	.exit_reason = KVM_EXIT_MMIO,
	.nr_parts_before = 1,
};

FIXTURE_VARIANT_ADD(init_completion, rdmsr) {
	.guest_code = guest_rdmsr,
	.exit_reason = KVM_EXIT_X86_RDMSR,
};

FIXTURE_VARIANT_ADD(init_completion, wrmsr) {
	.guest_code = guest_wrmsr,
	.exit_reason = KVM_EXIT_X86_WRMSR,
};

FIXTURE_VARIANT_ADD(init_completion, map_gpa_range) {
	.guest_code = guest_map_gpa_range,
	.exit_reason = KVM_EXIT_HYPERCALL,
};

FIXTURE_VARIANT_ADD(init_completion, hyperv_hypercall) {
	.guest_code = guest_hyperv_hypercall,
	.exit_reason = KVM_EXIT_HYPERV,
};

static void answer_exit(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		if (run->io.direction == KVM_EXIT_IO_IN)
			memset((u8 *)run + run->io.data_offset, ANSWER,
			       run->io.size * run->io.count);
		break;
	case KVM_EXIT_MMIO:
		if (!run->mmio.is_write)
			memset(run->mmio.data, ANSWER, run->mmio.len);
		break;
	case KVM_EXIT_X86_RDMSR:
		run->msr.data = ANSWER;
		break;
	case KVM_EXIT_HYPERCALL:
		run->hypercall.ret = ANSWER;
		break;
	case KVM_EXIT_HYPERV:
		if (run->hyperv.type == KVM_EXIT_HYPERV_HCALL)
			run->hyperv.u.hcall.result = ANSWER;
		break;
	}
}

static u32 get_mp_state(struct kvm_vcpu *vcpu)
{
	struct kvm_mp_state state;

	vcpu_mp_state_get(vcpu, &state);
	return state.mp_state;
}

static void set_mp_state(struct kvm_vcpu *vcpu, u32 mp_state)
{
	struct kvm_mp_state state = { .mp_state = mp_state };

	vcpu_mp_state_set(vcpu, &state);
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

static void send_from_bsp(struct kvm_vcpu *bsp, u64 mode)
{
	struct ucall uc;

	vcpu_run(bsp);
	switch (get_ucall(bsp, &uc)) {
	case UCALL_SYNC:
		TEST_ASSERT_EQ(uc.args[1], mode);
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected ucall: %lu", uc.cmd);
	}
}

static void assert_reg(const char *name, u64 reg, u64 want)
{
	TEST_ASSERT(reg == want, "%s is 0x%lx, want 0x%lx", name, reg, want);
}

static void assert_regs(const struct kvm_regs *regs, const struct kvm_regs *want)
{
	assert_reg("rip", regs->rip, want->rip);
	assert_reg("rflags", regs->rflags, want->rflags);
	assert_reg("rax", regs->rax, want->rax);
	assert_reg("rbx", regs->rbx, want->rbx);
	assert_reg("rcx", regs->rcx, want->rcx);
	assert_reg("rdx", regs->rdx, want->rdx);
	assert_reg("rsi", regs->rsi, want->rsi);
	assert_reg("rdi", regs->rdi, want->rdi);
	assert_reg("rsp", regs->rsp, want->rsp);
	assert_reg("rbp", regs->rbp, want->rbp);
	TEST_ASSERT(!memcmp(&regs->r8, &want->r8, 8 * sizeof(regs->r8)),
		    "r8 to r15 differ");
}

static void assert_ap_regs(struct kvm_vcpu *ap, const struct kvm_regs *want)
{
	struct kvm_regs regs;

	vcpu_regs_get(ap, &regs);
	assert_regs(&regs, want);
}

/* What INIT makes of the registers, the CPU's model is in RDX. */
static void get_init_regs(struct kvm_vcpu *ap, u64 rip, struct kvm_regs *regs)
{
	memset(regs, 0, sizeof(*regs));
	regs->rip = rip;
	regs->rdx = vcpu_get_cpuid_entry(ap, 1)->eax;
	regs->rflags = X86_EFLAGS_FIXED;
}

static void assert_ins_buffer(struct kvm_vm *vm, u8 want)
{
	u8 *buffer = addr_gpa2hva(vm, INS_GPA);
	int i;

	for (i = 0; i < NR_INS; i++)
		TEST_ASSERT(buffer[i] == want, "buffer[%d] is 0x%x, want 0x%x",
			    i, buffer[i], want);
}

/* The AP, when it runs, has its first exit at the first instruction. */
static void assert_ap_starts(struct kvm_vcpu *ap, const struct kvm_regs *want)
{
	vcpu_run(ap);
	TEST_ASSERT_KVM_EXIT_REASON(ap, KVM_EXIT_IO);
	TEST_ASSERT_EQ(ap->run->io.port, RESTART_PORT);
	assert_ap_regs(ap, want);
}

/* The AP has nothing to complete, and no part of a completion happens. */
static void assert_nothing_to_complete(struct kvm_vcpu *ap,
				       const struct kvm_regs *want)
{
	assert_ap_regs(ap, want);
	vcpu_run_complete_io(ap);
	assert_ap_regs(ap, want);
	assert_ins_buffer(ap->vm, 0);
}

FIXTURE_SETUP(init_completion)
{
	struct kvm_vm *vm = vm_create(2);

	self->vm = vm;
	self->bsp = vm_vcpu_add(vm, 0, guest_bsp);
	self->ap = vm_vcpu_add(vm, AP_VCPU_ID, variant->guest_code);

	virt_map(vm, MMIO_GPA, MMIO_GPA, MMIO_NR_PAGES);
	virt_map(vm, SIPI_GPA, SIPI_GPA, 1);
	memcpy(addr_gpa2hva(vm, SIPI_GPA), sipi_code, sizeof(sipi_code));

	switch (variant->exit_reason) {
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		if (!kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR))
			SKIP(return, "No KVM_CAP_X86_USER_SPACE_MSR");
		vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR,
			      KVM_MSR_EXIT_REASON_UNKNOWN);
		break;
	case KVM_EXIT_HYPERCALL:
		if (!(kvm_check_cap(KVM_CAP_EXIT_HYPERCALL) &
		      BIT_ULL(KVM_HC_MAP_GPA_RANGE)))
			SKIP(return, "No exit for KVM_HC_MAP_GPA_RANGE");
		vm_enable_cap(vm, KVM_CAP_EXIT_HYPERCALL,
			      BIT_ULL(KVM_HC_MAP_GPA_RANGE));
		break;
	case KVM_EXIT_HYPERV:
		if (!kvm_has_cap(KVM_CAP_HYPERV_SYNIC2))
			SKIP(return, "No KVM_CAP_HYPERV_SYNIC2");
		vcpu_set_hv_cpuid(self->ap);
		vcpu_enable_cap(self->ap, KVM_CAP_HYPERV_SYNIC2, 0);
		break;
	}

	vcpu_regs_get(self->ap, &self->regs);
	vcpu_sregs_get(self->ap, &self->sregs);
}

FIXTURE_TEARDOWN(init_completion)
{
	kvm_vm_free(self->vm);
}

/* Run the AP until the exit is open and answered. */
static void run_to_exit(struct kvm_vcpu *ap, u32 exit_reason, int nr_parts_before)
{
	int i;

	for (i = 0; i <= nr_parts_before; i++) {
		vcpu_run(ap);

		/* Hyper-V wants a Synthetic Interrupt Controller first. */
		if (exit_reason == KVM_EXIT_HYPERV &&
		    ap->run->exit_reason == KVM_EXIT_HYPERV &&
		    ap->run->hyperv.type == KVM_EXIT_HYPERV_SYNIC)
			vcpu_run(ap);

		TEST_ASSERT_KVM_EXIT_REASON(ap, exit_reason);
		answer_exit(ap);
	}
}

TEST_F(init_completion, init_and_sipi_in_get_mp_state)
{
	struct kvm_regs want;

	get_init_regs(self->ap, 0, &want);
	run_to_exit(self->ap, variant->exit_reason, variant->nr_parts_before);

	send_from_bsp(self->bsp, APIC_DM_INIT);
	send_from_bsp(self->bsp, APIC_DM_STARTUP);
	TEST_ASSERT_EQ(get_mp_state(self->ap), KVM_MP_STATE_RUNNABLE);

	assert_nothing_to_complete(self->ap, &want);
	assert_ap_starts(self->ap, &want);
}

TEST_F(init_completion, init_in_get_mp_state)
{
	struct kvm_regs want;

	get_init_regs(self->ap, 0xfff0, &want);
	run_to_exit(self->ap, variant->exit_reason, variant->nr_parts_before);

	send_from_bsp(self->bsp, APIC_DM_INIT);
	TEST_ASSERT_EQ(get_mp_state(self->ap), KVM_MP_STATE_INIT_RECEIVED);

	assert_nothing_to_complete(self->ap, &want);

	send_from_bsp(self->bsp, APIC_DM_STARTUP);
	want.rip = 0;
	assert_ap_starts(self->ap, &want);
}

TEST_F(init_completion, uninitialized_then_init_and_sipi)
{
	struct kvm_regs want;

	get_init_regs(self->ap, 0, &want);
	run_to_exit(self->ap, variant->exit_reason, variant->nr_parts_before);

	set_mp_state(self->ap, KVM_MP_STATE_UNINITIALIZED);
	vcpu_run_complete_io(self->ap);

	send_from_bsp(self->bsp, APIC_DM_INIT);
	send_from_bsp(self->bsp, APIC_DM_STARTUP);

	/* KVM takes INIT and SIPI, and leaves the rest to the next KVM_RUN. */
	TEST_ASSERT(__vcpu_run(self->ap) == -1 && errno == EAGAIN,
		    "KVM_RUN in KVM_MP_STATE_UNINITIALIZED, errno: %d", errno);
	TEST_ASSERT_EQ(get_mp_state(self->ap), KVM_MP_STATE_RUNNABLE);

	assert_nothing_to_complete(self->ap, &want);
	assert_ap_starts(self->ap, &want);
}

TEST_F(init_completion, uninitialized_then_runnable)
{
	run_to_exit(self->ap, variant->exit_reason, variant->nr_parts_before);

	set_mp_state(self->ap, KVM_MP_STATE_UNINITIALIZED);
	vcpu_run_complete_io(self->ap);

	self->regs.rip = (u64)guest_restart;
	vcpu_sregs_set(self->ap, &self->sregs);
	vcpu_regs_set(self->ap, &self->regs);
	set_mp_state(self->ap, KVM_MP_STATE_RUNNABLE);

	assert_nothing_to_complete(self->ap, &self->regs);
	assert_ap_starts(self->ap, &self->regs);
}

TEST_F(init_completion, completed_before_init)
{
	struct kvm_regs want;

	run_to_exit(self->ap, variant->exit_reason, variant->nr_parts_before);

	while (!run_immediate_exit(self->ap))
		answer_exit(self->ap);

	/* What is done, is done only once. */
	vcpu_regs_get(self->ap, &want);
	vcpu_run_complete_io(self->ap);
	assert_ap_regs(self->ap, &want);
	if (variant->guest_code == guest_string_pio_in)
		assert_ins_buffer(self->vm, ANSWER);

	send_from_bsp(self->bsp, APIC_DM_INIT);
	send_from_bsp(self->bsp, APIC_DM_STARTUP);
	TEST_ASSERT_EQ(get_mp_state(self->ap), KVM_MP_STATE_RUNNABLE);

	get_init_regs(self->ap, 0, &want);
	assert_ap_starts(self->ap, &want);
}

static void l2_guest_code(void)
{
	asm volatile("movq (%0), %%rax\n\t"
		     "ud2" : : "r" (MMIO_GPA) : "rax");
}

static bool is_ud2(u64 rip)
{
	return !memcmp((void *)rip, "\x0f\x0b", 2);
}

static void l1_guest_code_svm(struct svm_test_data *svm)
{
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, l2_guest_code);
	vmcb->control.intercept |= BIT(INTERCEPT_INIT);

	run_guest(vmcb, svm->vmcb_gpa);
	GUEST_ASSERT_EQ(vmcb->control.exit_code, SVM_EXIT_INIT);
	GUEST_ASSERT(is_ud2(vmcb->save.rip));
	GUEST_ASSERT_EQ(vmcb->save.rax, ANSWER * 0x0101010101010101ul);
	GUEST_DONE();
}

static void l1_guest_code_vmx(struct vmx_pages *vmx)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2_guest_code);

	GUEST_ASSERT(!vmlaunch());
	GUEST_ASSERT_EQ(vmreadz(VM_EXIT_REASON), EXIT_REASON_INIT_SIGNAL);
	GUEST_ASSERT(is_ud2(vmreadz(GUEST_RIP)));
	GUEST_DONE();
}

TEST(nested_vm_exit)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;
	gva_t nested_gva;
	struct ucall uc;

	if (!kvm_cpu_has(X86_FEATURE_SVM) && !kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "Neither SVM nor VMX");

	vm = vm_create(2);
	bsp = vm_vcpu_add(vm, 0, guest_bsp);

	if (kvm_cpu_has(X86_FEATURE_SVM)) {
		ap = vm_vcpu_add(vm, AP_VCPU_ID, l1_guest_code_svm);
		vcpu_alloc_svm(vm, &nested_gva);
	} else {
		ap = vm_vcpu_add(vm, AP_VCPU_ID, l1_guest_code_vmx);
		vcpu_alloc_vmx(vm, &nested_gva);
	}
	vcpu_args_set(ap, 1, nested_gva);
	virt_map(vm, MMIO_GPA, MMIO_GPA, MMIO_NR_PAGES);

	run_to_exit(ap, KVM_EXIT_MMIO, 0);

	/* L2 can't exit in the middle of an instruction. */
	send_from_bsp(bsp, APIC_DM_INIT);
	TEST_ASSERT_EQ(get_mp_state(ap), KVM_MP_STATE_RUNNABLE);
	vcpu_run_complete_io(ap);
	TEST_ASSERT_EQ(get_mp_state(ap), KVM_MP_STATE_RUNNABLE);

	vcpu_run(ap);
	switch (get_ucall(ap, &uc)) {
	case UCALL_DONE:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected ucall: %lu, exit reason: %u (%s)", uc.cmd,
			  ap->run->exit_reason, exit_reason_str(ap->run->exit_reason));
	}

	kvm_vm_free(vm);
}

TEST(triple_fault)
{
	struct kvm_vcpu_events events;
	struct kvm_vcpu *bsp, *ap;
	struct kvm_regs want;
	struct kvm_vm *vm;

	if (!kvm_has_cap(KVM_CAP_X86_TRIPLE_FAULT_EVENT))
		SKIP(return, "No KVM_CAP_X86_TRIPLE_FAULT_EVENT");

	vm = vm_create(2);
	vm_enable_cap(vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1);
	bsp = vm_vcpu_add(vm, 0, guest_bsp);
	ap = vm_vcpu_add(vm, AP_VCPU_ID, guest_pio_in);
	memcpy(addr_gpa2hva(vm, SIPI_GPA), sipi_code, sizeof(sipi_code));

	vcpu_events_get(ap, &events);
	events.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	events.triple_fault.pending = true;
	vcpu_events_set(ap, &events);

	send_from_bsp(bsp, APIC_DM_INIT);
	send_from_bsp(bsp, APIC_DM_STARTUP);
	TEST_ASSERT_EQ(get_mp_state(ap), KVM_MP_STATE_RUNNABLE);

	vcpu_events_get(ap, &events);
	TEST_ASSERT(!events.triple_fault.pending, "Triple fault survives INIT");

	get_init_regs(ap, 0, &want);
	assert_ap_starts(ap, &want);

	kvm_vm_free(vm);
}

TEST(pending_events)
{
	struct kvm_vcpu_events events;
	struct kvm_vcpu *bsp, *ap;
	struct kvm_regs want;
	struct kvm_vm *vm;

	vm = vm_create(2);
	bsp = vm_vcpu_add(vm, 0, guest_bsp);
	ap = vm_vcpu_add(vm, AP_VCPU_ID, guest_pio_in);
	memcpy(addr_gpa2hva(vm, SIPI_GPA), sipi_code, sizeof(sipi_code));

	vcpu_events_get(ap, &events);
	events.exception.injected = 1;
	events.exception.nr = UD_VECTOR;
	events.interrupt.injected = 1;
	events.interrupt.nr = 0x31;
	events.nmi.injected = 1;
	events.nmi.pending = 1;
	vcpu_events_set(ap, &events);

	send_from_bsp(bsp, APIC_DM_INIT);
	send_from_bsp(bsp, APIC_DM_STARTUP);
	TEST_ASSERT_EQ(get_mp_state(ap), KVM_MP_STATE_RUNNABLE);

	vcpu_events_get(ap, &events);
	TEST_ASSERT_EQ(events.exception.injected, 0);
	TEST_ASSERT_EQ(events.interrupt.injected, 0);
	TEST_ASSERT_EQ(events.nmi.injected, 0);
	TEST_ASSERT_EQ(events.nmi.pending, 0);

	get_init_regs(ap, 0, &want);
	assert_ap_starts(ap, &want);

	kvm_vm_free(vm);
}

TEST(saved_once)
{
	struct kvm_vcpu_events events;
	struct kvm_vcpu *bsp, *ap;
	struct kvm_regs want;
	struct kvm_vm *vm;

	vm = vm_create(2);
	bsp = vm_vcpu_add(vm, 0, guest_bsp);
	ap = vm_vcpu_add(vm, AP_VCPU_ID, guest_pio_in);
	memcpy(addr_gpa2hva(vm, SIPI_GPA), sipi_code, sizeof(sipi_code));

	send_from_bsp(bsp, APIC_DM_INIT);
	send_from_bsp(bsp, APIC_DM_STARTUP);
	vcpu_events_get(ap, &events);
	TEST_ASSERT_EQ(get_mp_state(ap), KVM_MP_STATE_RUNNABLE);

	/* Where it is restored to has the same state already. */
	vcpu_events_set(ap, &events);
	set_mp_state(ap, KVM_MP_STATE_RUNNABLE);
	TEST_ASSERT_EQ(get_mp_state(ap), KVM_MP_STATE_RUNNABLE);
	get_init_regs(ap, 0, &want);
	assert_ap_starts(ap, &want);

	if (kvm_has_cap(KVM_CAP_X86_SMM)) {
		vcpu_events_get(ap, &events);
		events.smi.smm = 1;
		vcpu_events_set(ap, &events);
		send_from_bsp(bsp, APIC_DM_INIT);
		TEST_ASSERT_EQ(get_mp_state(ap), KVM_MP_STATE_RUNNABLE);
		vcpu_events_get(ap, &events);
		TEST_ASSERT_EQ(events.smi.latched_init, 1);
	}

	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
