// SPDX-License-Identifier: GPL-2.0-only
/*
 * init_sipi_exit_test - INIT and SIPI, and userspace has a say in it
 *
 * What vcpu_start_test is for the architectures with a firmware call that starts
 * a vCPU.  On x86 it is INIT and SIPI that do it, which the target accepts when
 * it runs, i.e. it is the target that exits.  With
 * KVM_EXIT_ON_VCPU_RESET_INIT_SIPI this test verifies that:
 *  - Userspace that re-enters leaves it to KVM: the guest sees the same
 *    registers as without the exit, and so does userspace.
 *  - It may as well start the vCPU with registers of its own choice.  If it
 *    chooses those of a SIPI, then it makes no difference either.
 *  - It refuses to by discarding the event: the target is untouched.
 *  - INIT and SIPI to an APIC that doesn't exist, and SIPI to a vCPU that doesn't
 *    wait for one, don't exit.
 *  - The last of two vCPUs that start the same target is the one that counts, and
 *    there is no exit for an event that isn't pending anymore.
 *  - What userspace decides is about the event that it has seen, and not about a
 *    SIPI with another vector that comes while the exit is open.
 *  - An event that is pending can be seen, and is neither lost nor accepted by
 *    looking at it or when it is saved and restored, whether or not the exit is
 *    open.
 *  - The exits can be turned on and off while events are pending.
 *  - INIT exits when KVM would accept it: not in SMM, not with GIF clear, not if
 *    L1 intercepts it.
 *  - Nothing exits unless userspace wants it to, and the capability refuses what
 *    it doesn't know.
 */
#include <linux/bits.h>

#include "apic.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "smm.h"
#include "svm_util.h"
#include "vcpu_state.h"
#include "vmx.h"

#define AP_ID		1
#define OTHER_ID	2
#define ABSENT_ID	9

/*
 * The real mode code that a SIPI starts, and its copy for another vector, in
 * pages that the library won't use.
 */
#define SIPI_VECTOR		0x01
#define OTHER_SIPI_VECTOR	0x02
#define SIPI_GPA(vector)	((u64)(vector) << 12)

/* The guest writes the registers that it sees to ports, and then to PORT_DONE. */
#define PORT_VIEW	0xc0
#define PORT_DONE	0xef

enum {
	EAX, EBX, ECX, EDX, ESI, EDI, EBP, ESP, CR0, CS, DS, ES, FS, GS, SS,
	CR2, CR3, CR4, DR0, DR1, DR2, DR3, DR6, DR7, FLAGS, EFER, APICBASE,
	NR_SLOTS,
};

struct guest_view {
	u32 slot[NR_SLOTS];
	u32 seen;
};

#define OLD_LIFE	0x01d10000u
#define NEW_LIFE	0x4e3f0000u

/* It goes on with PORT_DONE for as long as it is run. */
extern const char guest_start[], guest_start_end[];
asm("	.pushsection .rodata\n"
"	.code16\n"
"guest_start:\n"
"	outl	%eax, $0xc0\n"
"	movl	%ebx, %eax\n"
"	outl	%eax, $0xc1\n"
"	movl	%ecx, %eax\n"
"	outl	%eax, $0xc2\n"
"	movl	%edx, %eax\n"
"	outl	%eax, $0xc3\n"
"	movl	%esi, %eax\n"
"	outl	%eax, $0xc4\n"
"	movl	%edi, %eax\n"
"	outl	%eax, $0xc5\n"
"	movl	%ebp, %eax\n"
"	outl	%eax, $0xc6\n"
"	movl	%esp, %eax\n"
"	outl	%eax, $0xc7\n"
"	movl	%cr0, %eax\n"
"	outl	%eax, $0xc8\n"
"	movl	%cs, %eax\n"
"	outl	%eax, $0xc9\n"
"	movl	%ds, %eax\n"
"	outl	%eax, $0xca\n"
"	movl	%es, %eax\n"
"	outl	%eax, $0xcb\n"
"	movl	%fs, %eax\n"
"	outl	%eax, $0xcc\n"
"	movl	%gs, %eax\n"
"	outl	%eax, $0xcd\n"
"	movl	%ss, %eax\n"
"	outl	%eax, $0xce\n"
"	movl	%cr2, %eax\n"
"	outl	%eax, $0xcf\n"
"	movl	%cr3, %eax\n"
"	outl	%eax, $0xd0\n"
"	movl	%cr4, %eax\n"
"	outl	%eax, $0xd1\n"
"	movl	%dr0, %eax\n"
"	outl	%eax, $0xd2\n"
"	movl	%dr1, %eax\n"
"	outl	%eax, $0xd3\n"
"	movl	%dr2, %eax\n"
"	outl	%eax, $0xd4\n"
"	movl	%dr3, %eax\n"
"	outl	%eax, $0xd5\n"
"	movl	%dr6, %eax\n"
"	outl	%eax, $0xd6\n"
"	movl	%dr7, %eax\n"
"	outl	%eax, $0xd7\n"
"	movl	$0, %eax\n"
"	lahf\n"
"	outl	%eax, $0xd8\n"
"	movl	$0xc0000080, %ecx\n"
"	rdmsr\n"
"	outl	%eax, $0xd9\n"
"	movl	$0x1b, %ecx\n"
"	rdmsr\n"
"	outl	%eax, $0xda\n"
"1:	outl	%eax, $0xef\n"
"	jmp	1b\n"
"guest_start_end:\n"
"	.code64\n"
"	.popsection\n"
);

static u64 icr;

static void guest_sender(void)
{
	x2apic_enable();

	for (;;) {
		x2apic_write_reg(APIC_ICR, READ_ONCE(icr));
		GUEST_SYNC(0);
	}
}

/* What SET_VCPU_EVENTS sets unless told otherwise is what it was. */
static void set_smm_events(struct kvm_vcpu *vcpu, bool smm, bool latched_init)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.smm = smm;
	events.smi.latched_init = latched_init;
	vcpu_events_set(vcpu, &events);
}

static void check_smm(struct kvm_vcpu *vcpu, bool smm)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	TEST_ASSERT_EQ(events.smi.smm, smm);
}

static void check_pending(struct kvm_vcpu *vcpu, bool init, int sipi_vector)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	TEST_ASSERT_EQ(events.smi.latched_init, init);
	TEST_ASSERT_EQ(events.sipi.pending, sipi_vector >= 0);
	if (sipi_vector >= 0)
		TEST_ASSERT_EQ(events.sipi_vector, sipi_vector);
}

static void check_state(struct kvm_vcpu *vcpu, u32 mp_state, bool init,
			int sipi_vector)
{
	TEST_ASSERT_EQ(vcpu_get_mp_state(vcpu), mp_state);
	check_pending(vcpu, init, sipi_vector);
}

/* Send an IPI.  The target may not notice unless it runs. */
static void send_ipi(struct kvm_vcpu *sender, u32 id, u32 mode)
{
	struct ucall uc;

	icr = (u64)id << 32 | APIC_INT_ASSERT | mode;
	sync_global_to_guest(sender->vm, icr);

	vcpu_run(sender);
	switch (get_ucall(sender, &uc)) {
	case UCALL_SYNC:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected ucall: %lu", uc.cmd);
	}
}

static void send_init(struct kvm_vcpu *sender, u32 id)
{
	send_ipi(sender, id, APIC_DM_INIT);
}

static void send_sipi(struct kvm_vcpu *sender, u32 id, u32 vector)
{
	send_ipi(sender, id, APIC_DM_STARTUP | vector);
}

/* KVM_RUN of a vCPU that waits for INIT fails with EAGAIN now and then. */
static void run(struct kvm_vcpu *vcpu)
{
	int r;

	do {
		r = __vcpu_run(vcpu);
	} while (r && errno == EAGAIN);

	TEST_ASSERT(!r, "KVM_RUN: errno %d", errno);
}

static void run_to_event(struct kvm_vcpu *vcpu, u8 event, u8 vector)
{
	struct kvm_run *kvm_run = vcpu->run;

	run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_X86_INIT_SIPI);
	TEST_ASSERT_EQ(kvm_run->x86_init_sipi.event, event);
	TEST_ASSERT_EQ(kvm_run->x86_init_sipi.vector, vector);
	TEST_ASSERT_EQ(kvm_run->x86_init_sipi.discard, 0);
}

static void run_to_init(struct kvm_vcpu *vcpu)
{
	run_to_event(vcpu, KVM_X86_INIT_SIPI_EVENT_INIT, 0);
}

static void run_to_sipi(struct kvm_vcpu *vcpu, u8 vector)
{
	run_to_event(vcpu, KVM_X86_INIT_SIPI_EVENT_SIPI, vector);
}

static void run_to_port(struct kvm_vcpu *vcpu, u16 port)
{
	run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(vcpu->run->io.port, port);
}

static void run_to_view(struct kvm_vcpu *vcpu, struct guest_view *view)
{
	struct kvm_run *kvm_run = vcpu->run;
	int slot;

	memset(view, 0, sizeof(*view));

	for (slot = 0; slot < NR_SLOTS; slot++) {
		run_to_port(vcpu, PORT_VIEW + slot);
		TEST_ASSERT_EQ(kvm_run->io.size, 4);
		view->slot[slot] = *(u32 *)((u8 *)kvm_run + kvm_run->io.data_offset);
		view->seen |= BIT(slot);
	}
	run_to_port(vcpu, PORT_DONE);
}

static void check_start_view(struct kvm_vcpu *vcpu, const struct guest_view *view,
			     u8 vector)
{
	u32 want[NR_SLOTS] = {
		[EDX] = vcpu_get_cpuid_entry(vcpu, 1)->eax,
		[CR0] = X86_CR0_ET,
		[CS] = vector << 8,
		[DR6] = 0xffff0ff0,
		[DR7] = 0x400,
		[FLAGS] = X86_EFLAGS_FIXED << 8,
		[APICBASE] = APIC_DEFAULT_GPA | MSR_IA32_APICBASE_ENABLE,
	};
	int i;

	TEST_ASSERT_EQ(view->seen, BIT(NR_SLOTS) - 1);
	for (i = 0; i < NR_SLOTS; i++) {
		u32 got = view->slot[i];

		/* INIT leaves these bits alone. */
		if (i == CR0)
			got &= ~(X86_CR0_CD | X86_CR0_NW);
		/*
		 * QEMU's TCG (10.0) looks at the intercept of reads of CR0 for
		 * any CR.  KVM has no need of that one with NPT, and the guest
		 * reads what SVM puts into the VMCB, the host's MCE included.
		 */
		if (i == CR4)
			got &= ~X86_CR4_MCE;
		TEST_ASSERT(got == want[i],
			    "The guest sees 0x%x in slot %d instead of 0x%x",
			    got, i, want[i]);
	}
}

static void check_started(struct kvm_vcpu *ap, u8 vector)
{
	struct guest_view view;

	run_to_view(ap, &view);
	check_start_view(ap, &view, vector);
	check_state(ap, KVM_MP_STATE_RUNNABLE, false, -1);
}

/* Real mode at guest_start, with registers that a SIPI wouldn't set. */
static void set_own_regs(struct kvm_vcpu *vcpu, u32 life)
{
	/* With breakpoints, none of which the code gets to. */
	struct kvm_debugregs debugregs = {
		.db = { life | DR0, life | DR1, life | DR2, life | DR3 },
		.dr6 = 0xffff0ff1,
		.dr7 = 0x455,
	};
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rax = life | EAX, .rbx = life | EBX, .rcx = life | ECX,
		.rdx = life | EDX, .rsi = life | ESI, .rdi = life | EDI,
		.rbp = life | EBP, .rsp = life | ESP,
		.rflags = X86_EFLAGS_FIXED,
	};

	vcpu_sregs_get(vcpu, &sregs);
	sregs.cs.selector = SIPI_VECTOR << 8;
	sregs.cs.base = SIPI_GPA(SIPI_VECTOR);
	/* VMX leaves CR3 alone if an INIT doesn't turn paging off. */
	if (kvm_cpu_has(X86_FEATURE_SVM))
		sregs.cr3 = 0x5000;
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);
	vcpu_debugregs_set(vcpu, &debugregs);
}

static void check_own_view(const struct guest_view *view, u32 life)
{
	int i;

	for (i = 0; i <= ESP; i++)
		TEST_ASSERT(view->slot[i] == (life | i),
			    "The guest sees 0x%x in slot %d instead of 0x%x",
			    view->slot[i], i, life | i);
}

static bool set_exits(struct kvm_vm *vm, bool enable)
{
	u64 mask = enable ? KVM_EXIT_ON_VCPU_RESET_INIT_SIPI : 0;

	return !__vm_enable_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET, mask);
}

FIXTURE(init_sipi) {
	struct kvm_vm *vm;
	struct kvm_vcpu *bsp;
	struct kvm_vcpu *ap;
	struct kvm_vcpu *other;
};

static struct kvm_vm *create_ap_vm(struct kvm_vcpu **bsp, struct kvm_vcpu **ap,
				   struct kvm_vcpu **other, void *ap_code,
				   bool exits)
{
	struct kvm_vm *vm = vm_create(3);
	u8 vector;

	*bsp = vm_vcpu_add(vm, 0, guest_sender);
	*ap = vm_vcpu_add(vm, AP_ID, ap_code);
	*other = vm_vcpu_add(vm, OTHER_ID, guest_sender);

	for (vector = SIPI_VECTOR; vector <= OTHER_SIPI_VECTOR; vector++)
		memcpy(addr_gpa2hva(vm, SIPI_GPA(vector)), guest_start,
		       guest_start_end - guest_start);

	if (exits)
		TEST_ASSERT(set_exits(vm, true), "Can't enable the exits");

	return vm;
}

static struct kvm_vm *create_vm(struct kvm_vcpu **bsp, struct kvm_vcpu **ap,
				struct kvm_vcpu **other, bool exits)
{
	struct kvm_vm *vm = create_ap_vm(bsp, ap, other, NULL, exits);

	vcpu_set_mp_state(*ap, KVM_MP_STATE_RESET);

	return vm;
}

FIXTURE_SETUP(init_sipi)
{
	self->vm = create_vm(&self->bsp, &self->ap, &self->other, true);
}

FIXTURE_TEARDOWN(init_sipi)
{
	kvm_vm_free(self->vm);
}

/* Make the AP run code of its own, which is not what INIT and SIPI do. */
static void run_own(struct kvm_vcpu *ap, u32 life)
{
	struct guest_view view;

	vcpu_set_mp_state(ap, KVM_MP_STATE_RESET);
	set_own_regs(ap, life);
	vcpu_set_mp_state(ap, KVM_MP_STATE_RUNNABLE);
	run_to_view(ap, &view);
	check_own_view(&view, life);
}

static void discard(struct kvm_vcpu *vcpu)
{
	vcpu->run->x86_init_sipi.discard = 1;
}

/* A VMM that has never heard of it. */
TEST(default_off)
{
	struct kvm_vcpu *bsp, *ap, *other;
	struct kvm_vm *vm;

	vm = create_vm(&bsp, &ap, &other, false);

	send_init(bsp, AP_ID);
	TEST_ASSERT_EQ(vcpu_get_mp_state(ap), KVM_MP_STATE_INIT_RECEIVED);
	send_sipi(bsp, AP_ID, SIPI_VECTOR);
	TEST_ASSERT_EQ(vcpu_get_mp_state(ap), KVM_MP_STATE_RUNNABLE);
	check_started(ap, SIPI_VECTOR);

	kvm_vm_free(vm);
}

/* Looking at it any number of times doesn't make a difference. */
TEST_F(init_sipi, allow)
{
	struct kvm_vcpu *ap = self->ap;

	check_state(ap, KVM_MP_STATE_UNINITIALIZED, false, -1);

	send_init(self->bsp, AP_ID);
	check_state(ap, KVM_MP_STATE_UNINITIALIZED, true, -1);
	run_to_init(ap);
	check_state(ap, KVM_MP_STATE_UNINITIALIZED, true, -1);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);

	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, SIPI_VECTOR);
	run_to_sipi(ap, SIPI_VECTOR);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, SIPI_VECTOR);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_RUNNABLE, false, -1);
	vcpu_run_immediate_exit(ap);

	check_started(ap, SIPI_VECTOR);
}

/* Both are there when the AP runs for the first time: one after the other. */
TEST_F(init_sipi, allow_both)
{
	struct kvm_vcpu *ap = self->ap;

	send_init(self->bsp, AP_ID);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	check_state(ap, KVM_MP_STATE_UNINITIALIZED, true, SIPI_VECTOR);

	run_to_init(ap);
	check_state(ap, KVM_MP_STATE_UNINITIALIZED, true, SIPI_VECTOR);

	/* The next exit comes even if the AP isn't to run. */
	ap->run->immediate_exit = 1;
	run_to_sipi(ap, SIPI_VECTOR);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, SIPI_VECTOR);
	ap->run->immediate_exit = 0;
	check_started(ap, SIPI_VECTOR);
}

static void check_same_view(const char *what, const struct guest_view *want,
			    const struct guest_view *got)
{
	int i;

	for (i = 0; i < NR_SLOTS; i++)
		TEST_ASSERT(want->slot[i] == got->slot[i],
			    "%s: the guest sees 0x%x in slot %d instead of 0x%x",
			    what, got->slot[i], i, want->slot[i]);
	pr_info("# %s: the guest sees the same in %u registers\n", what,
		NR_SLOTS);
}

/* What KVM makes of an AP that has run, or is new, if it doesn't ask. */
static struct vcpu_state *start_by_kvm(bool ran, struct guest_view *view)
{
	struct kvm_vcpu *bsp, *ap, *other;
	struct vcpu_state *state;
	struct kvm_vm *vm;

	vm = create_vm(&bsp, &ap, &other, false);
	if (ran)
		run_own(ap, OLD_LIFE);
	send_init(bsp, AP_ID);
	send_sipi(bsp, AP_ID, SIPI_VECTOR);
	TEST_ASSERT_EQ(vcpu_get_mp_state(ap), KVM_MP_STATE_RUNNABLE);
	state = vcpu_state_get(ap);
	run_to_view(ap, view);
	kvm_vm_free(vm);

	return state;
}

/* Whoever is asked, it makes no difference for anyone. */
TEST_F(init_sipi, same_state)
{
	struct guest_view want_view, view;
	struct vcpu_state *want;

	want = start_by_kvm(true, &want_view);

	run_own(self->ap, OLD_LIFE);
	send_init(self->bsp, AP_ID);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	run_to_init(self->ap);
	run_to_sipi(self->ap, SIPI_VECTOR);
	vcpu_run_immediate_exit(self->ap);
	/* Events tell who decides on SIPIs. */
	TEST_ASSERT(set_exits(self->vm, false), "Can't disable");
	vcpu_state_assert_same("re-entered", want, self->ap);
	run_to_view(self->ap, &view);
	check_same_view("re-entered", &want_view, &view);

	vcpu_state_free(want);
}

/* Whoever starts it, neither. */
TEST_F(init_sipi, same_state_own)
{
	struct kvm_vcpu *ap = self->ap;
	struct guest_view want_view, view;
	struct vcpu_state *want;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	want = start_by_kvm(false, &want_view);

	run_own(ap, OLD_LIFE);
	send_init(self->bsp, AP_ID);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	run_to_init(ap);
	run_to_sipi(ap, SIPI_VECTOR);

	vcpu_set_mp_state(ap, KVM_MP_STATE_RESET);
	vcpu_sregs_get(ap, &sregs);
	sregs.cs.selector = SIPI_VECTOR << 8;
	sregs.cs.base = SIPI_GPA(SIPI_VECTOR);
	vcpu_sregs_set(ap, &sregs);
	vcpu_regs_get(ap, &regs);
	regs.rip = 0;
	vcpu_regs_set(ap, &regs);
	vcpu_set_mp_state(ap, KVM_MP_STATE_RUNNABLE);

	TEST_ASSERT(set_exits(self->vm, false), "Can't disable");
	vcpu_state_assert_same("started by userspace", want, ap);
	run_to_view(ap, &view);
	check_same_view("started by userspace", &want_view, &view);

	vcpu_state_free(want);
}

/* The VMM starts the AP all by itself, and nothing is left to KVM. */
TEST_F(init_sipi, own_registers)
{
	struct kvm_vcpu *ap = self->ap;
	struct guest_view view;

	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	send_sipi(self->bsp, AP_ID, OTHER_SIPI_VECTOR);
	run_to_sipi(ap, OTHER_SIPI_VECTOR);

	vcpu_set_mp_state(ap, KVM_MP_STATE_RESET);
	check_state(ap, KVM_MP_STATE_UNINITIALIZED, false, -1);
	set_own_regs(ap, NEW_LIFE);
	vcpu_set_mp_state(ap, KVM_MP_STATE_RUNNABLE);

	run_to_view(ap, &view);
	check_own_view(&view, NEW_LIFE);
}

/* Not a reset, just a state in which the event isn't accepted anymore. */
TEST_F(init_sipi, own_state)
{
	struct kvm_vcpu *ap = self->ap;
	struct guest_view view;

	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	send_sipi(self->bsp, AP_ID, OTHER_SIPI_VECTOR);
	run_to_sipi(ap, OTHER_SIPI_VECTOR);

	set_own_regs(ap, NEW_LIFE);
	vcpu_set_mp_state(ap, KVM_MP_STATE_RUNNABLE);
	run_to_view(ap, &view);
	check_own_view(&view, NEW_LIFE);
	check_state(ap, KVM_MP_STATE_RUNNABLE, false, -1);
}

TEST_F(init_sipi, refuse_init)
{
	struct kvm_vcpu *ap = self->ap;

	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	discard(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_UNINITIALIZED, false, -1);

	/* The SIPI comes without an INIT, i.e. it is lost. */
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	check_state(ap, KVM_MP_STATE_UNINITIALIZED, false, SIPI_VECTOR);
	TEST_ASSERT(__vcpu_run(ap) == -1 && errno == EAGAIN,
		    "Exit %u (%s), errno %d", ap->run->exit_reason,
		    exit_reason_str(ap->run->exit_reason), errno);
	check_state(ap, KVM_MP_STATE_UNINITIALIZED, false, -1);

	/* Refused now doesn't mean refused forever. */
	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	run_to_sipi(ap, SIPI_VECTOR);
	check_started(ap, SIPI_VECTOR);
}

/* KVM_RUN tells that there is nothing to run, and doesn't wait for INIT. */
TEST_F(init_sipi, refuse_init_not_immediate)
{
	struct kvm_vcpu *ap = self->ap;

	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	discard(ap);
	TEST_ASSERT(__vcpu_run(ap) == -1 && errno == EAGAIN,
		    "Exit %u (%s), errno %d", ap->run->exit_reason,
		    exit_reason_str(ap->run->exit_reason), errno);
	check_state(ap, KVM_MP_STATE_UNINITIALIZED, false, -1);
}

TEST_F(init_sipi, refuse_sipi)
{
	struct kvm_vcpu *ap = self->ap;

	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	run_to_sipi(ap, SIPI_VECTOR);
	discard(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);

	send_sipi(self->bsp, AP_ID, OTHER_SIPI_VECTOR);
	run_to_sipi(ap, OTHER_SIPI_VECTOR);
	check_started(ap, OTHER_SIPI_VECTOR);
}

/* KVM_SET_VCPU_EVENTS takes any number for a vector. */
TEST_F(init_sipi, refuse_sipi_in_events)
{
	struct kvm_vcpu_events events = {
		.flags = KVM_VCPUEVENT_VALID_SIPI,
		.sipi_vector = SIPI_VECTOR | 0x100,
		.sipi.pending = 1,
	};
	struct kvm_vcpu *ap = self->ap;

	vcpu_set_mp_state(ap, KVM_MP_STATE_INIT_RECEIVED);
	vcpu_events_set(ap, &events);
	run_to_sipi(ap, SIPI_VECTOR);

	/* Neither is there without the other. */
	events.sipi.pending = 0;
	vcpu_events_set(ap, &events);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);

	/* The state that says so is another way to get there. */
	events.flags = KVM_VCPUEVENT_VALID_SIPI_VECTOR;
	vcpu_set_mp_state(ap, KVM_MP_STATE_SIPI_RECEIVED);
	vcpu_events_set(ap, &events);
	run_to_sipi(ap, SIPI_VECTOR);
	discard(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);
}

/* The AP runs, and it goes on as if nothing had happened. */
TEST_F(init_sipi, refuse_init_running)
{
	struct kvm_regs want, got;
	struct kvm_vcpu *ap = self->ap;

	run_own(ap, OLD_LIFE);
	run_to_port(ap, PORT_DONE);
	vcpu_run_immediate_exit(ap);
	vcpu_regs_get(ap, &want);

	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	vcpu_regs_get(ap, &got);
	TEST_ASSERT(!memcmp(&want, &got, sizeof(got)), "The exit has changed registers");
	discard(ap);
	vcpu_run_immediate_exit(ap);
	vcpu_regs_get(ap, &got);
	TEST_ASSERT(!memcmp(&want, &got, sizeof(got)), "The INIT has changed registers");
	check_state(ap, KVM_MP_STATE_RUNNABLE, false, -1);

	run_to_port(ap, PORT_DONE);
}

/* A reset drops the exit: what comes after it isn't what userspace has seen. */
TEST_F(init_sipi, reset_while_open)
{
	struct kvm_vcpu *ap = self->ap;

	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	vcpu_set_mp_state(ap, KVM_MP_STATE_RESET);
	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);

	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	run_to_sipi(ap, SIPI_VECTOR);
	vcpu_set_mp_state(ap, KVM_MP_STATE_RESET);
	vcpu_set_mp_state(ap, KVM_MP_STATE_INIT_RECEIVED);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	run_to_sipi(ap, SIPI_VECTOR);
	check_started(ap, SIPI_VECTOR);
}

/* Another way to say so, that doesn't need the exit. */
TEST_F(init_sipi, refuse_init_in_events)
{
	struct kvm_vcpu *ap = self->ap;

	run_own(ap, OLD_LIFE);
	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	set_smm_events(ap, false, false);
	run_to_port(ap, PORT_DONE);
}

TEST_F(init_sipi, init_running)
{
	struct kvm_vcpu *ap = self->ap;

	run_own(ap, OLD_LIFE);
	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);

	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	run_to_sipi(ap, SIPI_VECTOR);
	check_started(ap, SIPI_VECTOR);
}

TEST_F(init_sipi, init_halted)
{
	struct kvm_vcpu *ap = self->ap;

	run_own(ap, OLD_LIFE);
	vcpu_set_mp_state(ap, KVM_MP_STATE_HALTED);
	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	TEST_ASSERT_EQ(vcpu_get_mp_state(ap), KVM_MP_STATE_HALTED);
	vcpu_run_immediate_exit(ap);
	TEST_ASSERT_EQ(vcpu_get_mp_state(ap), KVM_MP_STATE_INIT_RECEIVED);
}

/* What vCPUs with protected state wait in for SIPI isn't wait-for-SIPI. */
TEST_F(init_sipi, ap_reset_hold)
{
	struct kvm_vcpu *ap = self->ap;

	run_own(ap, OLD_LIFE);
	vcpu_set_mp_state(ap, KVM_MP_STATE_AP_RESET_HOLD);
	send_sipi(self->bsp, AP_ID, OTHER_SIPI_VECTOR);
	check_state(ap, KVM_MP_STATE_AP_RESET_HOLD, false, OTHER_SIPI_VECTOR);
	run_to_port(ap, PORT_DONE);
	check_state(ap, KVM_MP_STATE_RUNNABLE, false, -1);

	vcpu_set_mp_state(ap, KVM_MP_STATE_AP_RESET_HOLD);
	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	check_state(ap, KVM_MP_STATE_AP_RESET_HOLD, true, -1);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);
}

/* The BSP doesn't wait for SIPI. */
TEST_F(init_sipi, init_bsp)
{
	struct kvm_regs regs;

	send_init(self->other, 0);
	run_to_init(self->bsp);
	vcpu_run_immediate_exit(self->bsp);
	check_state(self->bsp, KVM_MP_STATE_RUNNABLE, false, -1);
	vcpu_regs_get(self->bsp, &regs);
	TEST_ASSERT_EQ(regs.rip, 0xfff0);
}

TEST_F(init_sipi, init_halted_bsp)
{
	struct kvm_vcpu *bsp = self->bsp;

	vcpu_set_mp_state(bsp, KVM_MP_STATE_HALTED);
	send_init(self->other, 0);
	run_to_init(bsp);
	TEST_ASSERT_EQ(vcpu_get_mp_state(bsp), KVM_MP_STATE_HALTED);
	vcpu_run_immediate_exit(bsp);
	TEST_ASSERT_EQ(vcpu_get_mp_state(bsp), KVM_MP_STATE_RUNNABLE);
}

TEST_F(init_sipi, refuse_init_bsp)
{
	struct kvm_regs want, got;

	/* Back from the sender's exit. */
	send_init(self->bsp, ABSENT_ID);
	vcpu_run_immediate_exit(self->bsp);
	vcpu_regs_get(self->bsp, &want);

	send_init(self->other, 0);
	run_to_init(self->bsp);
	discard(self->bsp);
	vcpu_run_immediate_exit(self->bsp);
	check_state(self->bsp, KVM_MP_STATE_RUNNABLE, false, -1);
	vcpu_regs_get(self->bsp, &got);
	TEST_ASSERT(!memcmp(&want, &got, sizeof(got)), "The INIT has changed registers");
	send_init(self->bsp, AP_ID);
}

TEST_F(init_sipi, absent)
{
	send_init(self->bsp, ABSENT_ID);
	send_sipi(self->bsp, ABSENT_ID, SIPI_VECTOR);
	check_state(self->ap, KVM_MP_STATE_UNINITIALIZED, false, -1);
}

/* The SIPI is lost, until then it can be seen. */
TEST_F(init_sipi, already_on)
{
	struct kvm_vcpu *ap = self->ap;

	run_own(ap, OLD_LIFE);
	send_sipi(self->bsp, AP_ID, OTHER_SIPI_VECTOR);
	check_state(ap, KVM_MP_STATE_RUNNABLE, false, OTHER_SIPI_VECTOR);
	run_to_port(ap, PORT_DONE);
	check_state(ap, KVM_MP_STATE_RUNNABLE, false, -1);
}

/* The last one counts, and there is one exit for what is one event. */
TEST_F(init_sipi, two_callers)
{
	struct kvm_vcpu *ap = self->ap;

	send_init(self->bsp, AP_ID);
	send_init(self->other, AP_ID);
	run_to_init(ap);
	send_init(self->other, AP_ID);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);

	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	send_sipi(self->other, AP_ID, OTHER_SIPI_VECTOR);
	run_to_sipi(ap, OTHER_SIPI_VECTOR);
	check_started(ap, OTHER_SIPI_VECTOR);
}

static void open_sipi(struct kvm_vcpu *bsp, struct kvm_vcpu *ap)
{
	send_init(bsp, AP_ID);
	run_to_init(ap);
	send_sipi(bsp, AP_ID, SIPI_VECTOR);
	run_to_sipi(ap, SIPI_VECTOR);
}

/* It's the one that userspace has been told of. */
TEST_F(init_sipi, same_sipi_while_open)
{
	open_sipi(self->bsp, self->ap);
	send_sipi(self->other, AP_ID, SIPI_VECTOR);
	check_started(self->ap, SIPI_VECTOR);

	open_sipi(self->bsp, self->ap);
	send_sipi(self->other, AP_ID, SIPI_VECTOR);
	discard(self->ap);
	vcpu_run_immediate_exit(self->ap);
	check_state(self->ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);
}

/* Userspace doesn't know of the vector that the vCPU is to start with. */
TEST_F(init_sipi, other_sipi_while_open)
{
	struct kvm_vcpu *ap = self->ap;

	open_sipi(self->bsp, ap);
	send_sipi(self->other, AP_ID, OTHER_SIPI_VECTOR);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, OTHER_SIPI_VECTOR);
	run_to_sipi(ap, OTHER_SIPI_VECTOR);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, OTHER_SIPI_VECTOR);
	check_started(ap, OTHER_SIPI_VECTOR);
}

/* And it can't refuse what it doesn't know. */
TEST_F(init_sipi, other_sipi_while_refused)
{
	struct kvm_vcpu *ap = self->ap;

	open_sipi(self->bsp, ap);
	send_sipi(self->other, AP_ID, OTHER_SIPI_VECTOR);
	discard(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, OTHER_SIPI_VECTOR);

	run_to_sipi(ap, OTHER_SIPI_VECTOR);
	discard(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);
}

/* INIT drops them all. */
TEST_F(init_sipi, other_sipi_and_init_while_open)
{
	struct kvm_vcpu *ap = self->ap;

	open_sipi(self->bsp, ap);
	send_sipi(self->other, AP_ID, OTHER_SIPI_VECTOR);
	send_init(self->other, AP_ID);
	discard(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, true, -1);
	run_to_init(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);
}

/* With the vCPU's state set to what it is, as a VMM may do at any time. */
TEST_F(init_sipi, restore_while_open)
{
	struct kvm_vcpu *ap = self->ap;
	struct kvm_vcpu_events events;

	open_sipi(self->bsp, ap);
	vcpu_events_get(ap, &events);
	vcpu_set_mp_state(ap, vcpu_get_mp_state(ap));
	vcpu_events_set(ap, &events);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, SIPI_VECTOR);
	check_started(ap, SIPI_VECTOR);

	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	vcpu_events_get(ap, &events);
	vcpu_set_mp_state(ap, vcpu_get_mp_state(ap));
	vcpu_events_set(ap, &events);
	check_state(ap, KVM_MP_STATE_RUNNABLE, true, -1);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);
}

/* INIT drops the SIPI, and with it the exit. */
TEST_F(init_sipi, init_while_sipi_open)
{
	struct kvm_vcpu *ap = self->ap;

	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	run_to_sipi(ap, SIPI_VECTOR);

	send_init(self->other, AP_ID);
	run_to_init(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);
}

TEST_F(init_sipi, disable_while_open)
{
	struct kvm_vcpu *ap = self->ap;

	send_init(self->bsp, AP_ID);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	run_to_init(ap);
	TEST_ASSERT(set_exits(self->vm, false), "Can't disable");
	check_started(ap, SIPI_VECTOR);
}

/* An exit that is open can still be refused. */
TEST_F(init_sipi, disable_and_refuse)
{
	struct kvm_vcpu *ap = self->ap;

	run_own(ap, OLD_LIFE);
	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	TEST_ASSERT(set_exits(self->vm, false), "Can't disable");
	check_state(ap, KVM_MP_STATE_RUNNABLE, true, -1);
	discard(ap);
	run_to_port(ap, PORT_DONE);
}

TEST_F(init_sipi, disable_and_refuse_sipi)
{
	struct kvm_vcpu *ap = self->ap;

	send_init(self->bsp, AP_ID);
	run_to_init(ap);
	vcpu_run_immediate_exit(ap);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	run_to_sipi(ap, SIPI_VECTOR);
	TEST_ASSERT(set_exits(self->vm, false), "Can't disable");
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, SIPI_VECTOR);
	discard(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);
}

TEST_F(init_sipi, enable_while_pending)
{
	struct kvm_vcpu *bsp, *ap, *other;
	struct kvm_vm *vm;

	vm = create_vm(&bsp, &ap, &other, false);
	/* Accepts what is pending, and nothing that comes later. */
	TEST_ASSERT_EQ(vcpu_get_mp_state(ap), KVM_MP_STATE_UNINITIALIZED);
	send_init(bsp, AP_ID);
	send_sipi(bsp, AP_ID, SIPI_VECTOR);
	TEST_ASSERT(set_exits(vm, true), "Can't enable");

	run_to_init(ap);
	run_to_sipi(ap, SIPI_VECTOR);
	check_started(ap, SIPI_VECTOR);
	kvm_vm_free(vm);
}

/*
 * Save the AP and restore it into a new VM.  Don't use vcpu_save_state(), it
 * completes the exit first.
 */
static struct kvm_vm *migrate(struct kvm_vcpu *from, struct kvm_vcpu **bsp,
			      struct kvm_vcpu **ap, bool exits)
{
	struct kvm_vcpu_events events;
	struct kvm_vcpu *other;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvm_vm *vm;
	u32 mp_state;

	vcpu_regs_get(from, &regs);
	vcpu_sregs_get(from, &sregs);
	mp_state = vcpu_get_mp_state(from);
	vcpu_events_get(from, &events);

	vm = create_vm(bsp, ap, &other, exits);
	vcpu_sregs_set(*ap, &sregs);
	vcpu_regs_set(*ap, &regs);
	vcpu_set_mp_state(*ap, mp_state);
	vcpu_events_set(*ap, &events);

	return vm;
}

FIXTURE(migrate) {
	struct kvm_vm *vm;
	struct kvm_vcpu *bsp;
	struct kvm_vcpu *ap;
};

FIXTURE_VARIANT(migrate) {
	/* Until when to run the AP. */
	bool open;
	bool exits;
};

FIXTURE_VARIANT_ADD(migrate, pending) {
	.exits = true,
};

FIXTURE_VARIANT_ADD(migrate, open) {
	.open = true,
	.exits = true,
};

FIXTURE_VARIANT_ADD(migrate, pending_default_off) {
};

FIXTURE_VARIANT_ADD(migrate, open_default_off) {
	.open = true,
};

FIXTURE_SETUP(migrate)
{
	struct kvm_vcpu *other;

	self->vm = create_vm(&self->bsp, &self->ap, &other, true);
}

FIXTURE_TEARDOWN(migrate)
{
	kvm_vm_free(self->vm);
}

TEST_F(migrate, init)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;

	run_own(self->ap, OLD_LIFE);
	send_init(self->bsp, AP_ID);
	if (variant->open)
		run_to_init(self->ap);
	else
		vcpu_run_immediate_exit(self->ap);

	vm = migrate(self->ap, &bsp, &ap, variant->exits);
	if (variant->exits) {
		check_state(ap, KVM_MP_STATE_RUNNABLE, true, -1);
		run_to_init(ap);
		vcpu_run_immediate_exit(ap);
	}
	TEST_ASSERT_EQ(vcpu_get_mp_state(ap), KVM_MP_STATE_INIT_RECEIVED);

	send_sipi(bsp, AP_ID, SIPI_VECTOR);
	if (variant->exits)
		run_to_sipi(ap, SIPI_VECTOR);
	check_started(ap, SIPI_VECTOR);
	kvm_vm_free(vm);
}

TEST_F(migrate, sipi)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;

	send_init(self->bsp, AP_ID);
	run_to_init(self->ap);
	vcpu_run_immediate_exit(self->ap);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	if (variant->open)
		run_to_sipi(self->ap, SIPI_VECTOR);

	vm = migrate(self->ap, &bsp, &ap, variant->exits);
	if (variant->exits) {
		check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, SIPI_VECTOR);
		run_to_sipi(ap, SIPI_VECTOR);
	}
	check_started(ap, SIPI_VECTOR);
	kvm_vm_free(vm);
}

TEST_F(migrate, both)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;

	send_init(self->bsp, AP_ID);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	if (variant->open)
		run_to_init(self->ap);

	vm = migrate(self->ap, &bsp, &ap, variant->exits);
	if (variant->exits) {
		check_state(ap, KVM_MP_STATE_UNINITIALIZED, true, SIPI_VECTOR);
		run_to_init(ap);
		run_to_sipi(ap, SIPI_VECTOR);
	}
	check_started(ap, SIPI_VECTOR);
	kvm_vm_free(vm);
}

/* The AP has been running until then. */
TEST_F(migrate, both_running)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;

	run_own(self->ap, OLD_LIFE);
	send_init(self->bsp, AP_ID);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	if (variant->open)
		run_to_init(self->ap);
	else
		vcpu_run_immediate_exit(self->ap);

	vm = migrate(self->ap, &bsp, &ap, variant->exits);
	if (variant->exits) {
		check_state(ap, KVM_MP_STATE_RUNNABLE, true, SIPI_VECTOR);
		run_to_init(ap);
		run_to_sipi(ap, SIPI_VECTOR);
	}
	check_started(ap, SIPI_VECTOR);
	kvm_vm_free(vm);

	/* It makes no difference that the AP was saved. */
	if (variant->open) {
		discard(self->ap);
		run_to_port(self->ap, PORT_DONE);
		check_state(self->ap, KVM_MP_STATE_RUNNABLE, false, -1);
	}
}

/* Nothing is lost if the INIT is refused, and nobody waits for the SIPI. */
TEST_F(migrate, refuse_both_running)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;

	if (!variant->exits)
		SKIP(return, "Can't be refused");

	run_own(self->ap, OLD_LIFE);
	send_init(self->bsp, AP_ID);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	if (variant->open)
		run_to_init(self->ap);
	else
		vcpu_run_immediate_exit(self->ap);

	vm = migrate(self->ap, &bsp, &ap, true);
	run_to_init(ap);
	discard(ap);
	run_to_port(ap, PORT_DONE);
	check_state(ap, KVM_MP_STATE_RUNNABLE, false, -1);
	kvm_vm_free(vm);
}

/* It's the other one from now on. */
TEST_F(migrate, other_sipi)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;

	if (!variant->open)
		SKIP(return, "No exit that is open");

	open_sipi(self->bsp, self->ap);
	send_sipi(self->bsp, AP_ID, OTHER_SIPI_VECTOR);

	vm = migrate(self->ap, &bsp, &ap, variant->exits);
	if (variant->exits) {
		check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, OTHER_SIPI_VECTOR);
		run_to_sipi(ap, OTHER_SIPI_VECTOR);
	}
	check_started(ap, OTHER_SIPI_VECTOR);
	kvm_vm_free(vm);
}

/* Saved in the middle of it, i.e. the INIT has been accepted and the SIPI not. */
TEST_F(migrate, completed)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;

	send_init(self->bsp, AP_ID);
	run_to_init(self->ap);
	vcpu_run_immediate_exit(self->ap);

	vm = migrate(self->ap, &bsp, &ap, variant->exits);
	TEST_ASSERT_EQ(vcpu_get_mp_state(ap), KVM_MP_STATE_INIT_RECEIVED);
	send_sipi(bsp, AP_ID, SIPI_VECTOR);
	if (variant->exits)
		run_to_sipi(ap, SIPI_VECTOR);
	check_started(ap, SIPI_VECTOR);
	kvm_vm_free(vm);
}

/* Real mode code in SMRAM: two exits, and back. */
#define SMRAM_GPA	0x1000000ul
#define SMI_HANDLER_GPA	(SMRAM_GPA + 0x8000)

static const u8 smi_handler[] = {
	0xe6, PORT_DONE,	/* out %al, $PORT_DONE */
	0xe6, PORT_DONE,	/* out %al, $PORT_DONE */
	0x0f, 0xaa,		/* rsm */
};

/* Blocked, and SIPIs are dropped meanwhile. */
TEST_F(init_sipi, smm)
{
	struct kvm_vcpu *ap = self->ap;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "No KVM_CAP_X86_SMM");

	run_own(ap, OLD_LIFE);
	vcpu_run_immediate_exit(ap);
	setup_smram(self->vm, ap, SMRAM_GPA, smi_handler, sizeof(smi_handler));
	inject_smi(ap);
	run_to_port(ap, PORT_DONE);
	check_smm(ap, true);

	send_init(self->bsp, AP_ID);
	send_sipi(self->bsp, AP_ID, SIPI_VECTOR);
	TEST_ASSERT_EQ(vcpu_get_mp_state(ap), KVM_MP_STATE_RUNNABLE);
	run_to_port(ap, PORT_DONE);
	check_smm(ap, true);
	check_state(ap, KVM_MP_STATE_RUNNABLE, true, -1);

	run_to_init(ap);
	check_smm(ap, false);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);
}

/* It turns out that the INIT is blocked when the exit is already open. */
TEST_F(init_sipi, smm_while_open)
{
	struct kvm_vcpu *ap = self->ap;
	struct kvm_sregs sregs, smm_sregs;
	struct kvm_regs regs;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "No KVM_CAP_X86_SMM");

	run_own(ap, OLD_LIFE);
	vcpu_run_immediate_exit(ap);
	setup_smram(self->vm, ap, SMRAM_GPA, smi_handler, sizeof(smi_handler));
	send_init(self->bsp, AP_ID);
	run_to_init(ap);

	set_smm_events(ap, true, true);
	vcpu_sregs_get(ap, &sregs);
	smm_sregs = sregs;
	smm_sregs.cs.base = SMI_HANDLER_GPA;
	vcpu_sregs_set(ap, &smm_sregs);
	vcpu_regs_get(ap, &regs);
	regs.rip = 0;
	vcpu_regs_set(ap, &regs);

	run_to_port(ap, PORT_DONE);
	check_smm(ap, true);
	check_state(ap, KVM_MP_STATE_RUNNABLE, true, -1);

	/* As RSM would. */
	vcpu_run_immediate_exit(ap);
	set_smm_events(ap, false, true);
	vcpu_sregs_set(ap, &sregs);
	run_to_init(ap);
}

/* GUEST_SYNC() isn't for L2. */
static void sync_port(void)
{
	asm volatile("outl %%eax, %0" : : "i" (PORT_DONE), "a" (0));
}

static void l2_guest_code(void)
{
	for (;;)
		sync_port();
}

static void l1_svm_intercept(struct svm_test_data *svm)
{
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, l2_guest_code);
	vmcb->control.intercept |= BIT(INTERCEPT_INIT);
	run_guest(vmcb, svm->vmcb_gpa);
	GUEST_ASSERT_EQ(vmcb->control.exit_code, SVM_EXIT_INIT);
	GUEST_DONE();
}

static void l1_svm_no_intercept(struct svm_test_data *svm)
{
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, l2_guest_code);
	run_guest(vmcb, svm->vmcb_gpa);
	GUEST_FAIL("Unexpected exit 0x%lx", vmcb->control.exit_code);
}

static void l1_svm_gif(struct svm_test_data *svm)
{
	generic_svm_setup(svm, l2_guest_code);
	asm volatile("clgi");
	sync_port();
	sync_port();
	asm volatile("stgi");
	sync_port();
	GUEST_DONE();
}

static void l1_vmx(struct vmx_pages *vmx)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2_guest_code);

	GUEST_ASSERT(!vmlaunch());
	GUEST_ASSERT_EQ(vmreadz(VM_EXIT_REASON), EXIT_REASON_INIT_SIGNAL);
	/* VMX root mode, another one is blocked. */
	sync_port();
	sync_port();
	GUEST_DONE();
}

static void run_to_done(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_DONE:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected ucall: %lu, exit reason: %u (%s)", uc.cmd,
			  vcpu->run->exit_reason,
			  exit_reason_str(vcpu->run->exit_reason));
	}
}

static struct kvm_vm *create_nested_vm(struct kvm_vcpu **bsp,
				       struct kvm_vcpu **ap, void *code)
{
	struct kvm_vcpu *other;
	struct kvm_vm *vm;
	gva_t nested_gva;

	vm = create_ap_vm(bsp, ap, &other, code, true);
	if (kvm_cpu_has(X86_FEATURE_SVM))
		vcpu_alloc_svm(vm, &nested_gva);
	else
		vcpu_alloc_vmx(vm, &nested_gva);
	vcpu_args_set(*ap, 1, nested_gva);

	return vm;
}

/* It's L1's, and userspace has no say in it. */
TEST(nested_svm_intercept)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;

	if (!kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "No SVM");

	vm = create_nested_vm(&bsp, &ap, l1_svm_intercept);
	run_to_port(ap, PORT_DONE);
	send_init(bsp, AP_ID);
	check_state(ap, KVM_MP_STATE_RUNNABLE, true, -1);
	run_to_done(ap);
	kvm_vm_free(vm);
}

/* It's the vCPU's, whether or not it is in L2. */
TEST(nested_svm_no_intercept)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;

	if (!kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "No SVM");

	vm = create_nested_vm(&bsp, &ap, l1_svm_no_intercept);
	run_to_port(ap, PORT_DONE);
	send_init(bsp, AP_ID);
	run_to_init(ap);
	check_state(ap, KVM_MP_STATE_RUNNABLE, true, -1);
	discard(ap);
	run_to_port(ap, PORT_DONE);

	send_init(bsp, AP_ID);
	run_to_init(ap);
	vcpu_run_immediate_exit(ap);
	check_state(ap, KVM_MP_STATE_INIT_RECEIVED, false, -1);
	send_sipi(bsp, AP_ID, SIPI_VECTOR);
	run_to_sipi(ap, SIPI_VECTOR);
	check_started(ap, SIPI_VECTOR);
	kvm_vm_free(vm);
}

TEST(svm_gif)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;

	if (!kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "No SVM");

	vm = create_nested_vm(&bsp, &ap, l1_svm_gif);
	run_to_port(ap, PORT_DONE);
	send_init(bsp, AP_ID);
	run_to_port(ap, PORT_DONE);
	check_state(ap, KVM_MP_STATE_RUNNABLE, true, -1);

	/*
	 * With virtual GIF, KVM doesn't get to know that GIF is set, and looks at
	 * the INIT with the next event.  Make that one up.
	 */
	run(ap);
	if (ap->run->exit_reason == KVM_EXIT_IO) {
		check_state(ap, KVM_MP_STATE_RUNNABLE, true, -1);
		set_smm_events(ap, false, true);
		run_to_init(ap);
		discard(ap);
	} else {
		TEST_ASSERT_KVM_EXIT_REASON(ap, KVM_EXIT_X86_INIT_SIPI);
		discard(ap);
		run_to_port(ap, PORT_DONE);
	}
	run_to_done(ap);
	kvm_vm_free(vm);
}

TEST(nested_vmx)
{
	struct kvm_vcpu *bsp, *ap;
	struct kvm_vm *vm;

	if (!kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "No VMX");

	vm = create_nested_vm(&bsp, &ap, l1_vmx);
	run_to_port(ap, PORT_DONE);
	send_init(bsp, AP_ID);
	check_state(ap, KVM_MP_STATE_RUNNABLE, true, -1);
	run_to_port(ap, PORT_DONE);
	send_init(bsp, AP_ID);
	run_to_port(ap, PORT_DONE);
	run_to_done(ap);
	check_state(ap, KVM_MP_STATE_RUNNABLE, true, -1);
	kvm_vm_free(vm);
}

TEST(capability)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_VCPU_RESET };
	struct kvm_vcpu *bsp, *ap, *other;
	struct kvm_vm *vm;
	int i;

	vm = create_vm(&bsp, &ap, &other, false);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET),
		       KVM_EXIT_ON_VCPU_RESET_INIT_SIPI);

	for (i = 0; i < 64; i++) {
		if (BIT_ULL(i) == KVM_EXIT_ON_VCPU_RESET_INIT_SIPI)
			continue;

		cap.args[0] = BIT_ULL(i) | KVM_EXIT_ON_VCPU_RESET_INIT_SIPI;
		TEST_ASSERT(__vm_ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 &&
			    errno == EINVAL, "Bit %d: errno %d", i, errno);
	}

	cap.args[0] = KVM_EXIT_ON_VCPU_RESET_INIT_SIPI;
	cap.flags = 1;
	TEST_ASSERT(__vm_ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 &&
		    errno == EINVAL, "Flags: errno %d", errno);

	/* None of these has enabled anything. */
	send_init(bsp, AP_ID);
	TEST_ASSERT_EQ(vcpu_get_mp_state(ap), KVM_MP_STATE_INIT_RECEIVED);

	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_MP_STATE_RESET));
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_EXIT_ON_VCPU_RESET) &
		     KVM_EXIT_ON_VCPU_RESET_INIT_SIPI);

	return test_harness_run(argc, argv);
}
