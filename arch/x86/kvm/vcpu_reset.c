// SPDX-License-Identifier: GPL-2.0-only
/*
 * RESET, i.e. power-up, of a vCPU
 *
 * Whoever asks for a reset, it is kvm_vcpu_reset() in x86.c that resets the
 * vCPU.  It does what RESET and INIT have in common.  What INIT leaves alone,
 * but RESET doesn't, is kvm_vcpu_power_up(), with the details next to the code
 * that owns the state, and the vendor's reset.
 */
#include <linux/kvm_host.h>

#include <asm/fpu/api.h>

#include "hyperv.h"
#include "irq.h"
#include "lapic.h"
#include "pmu.h"
#include "regs.h"
#include "smm.h"
#include "x86.h"
#include "xen.h"

/*
 * kvm_vcpu_reset() makes sure that no event is pending.  Forget what the event
 * was, as KVM_GET_VCPU_EVENTS returns that in any case, and drop the requests
 * of the old guest.  Requests that make KVM recompute or reload something stay,
 * they are harmless at worst.
 */
static void kvm_reset_events(struct kvm_vcpu *vcpu)
{
	memset(&vcpu->arch.exception, 0, sizeof(vcpu->arch.exception));
	memset(&vcpu->arch.exception_vmexit, 0, sizeof(vcpu->arch.exception_vmexit));
	vcpu->arch.exception_from_userspace = false;
	memset(&vcpu->arch.interrupt, 0, sizeof(vcpu->arch.interrupt));
	vcpu->arch.pending_external_vector = -1;
	vcpu->arch.halt_request = 0;

	kvm_clear_request(KVM_REQ_NMI, vcpu);
	/*
	 * The request first, so that no NMI is left that nobody has requested.
	 * Pairs with the barrier in kvm_make_request() of kvm_inject_nmi().
	 */
	smp_mb__after_atomic();
	atomic_set(&vcpu->arch.nmi_queued, 0);
#ifdef CONFIG_KVM_SMM
	kvm_clear_request(KVM_REQ_SMI, vcpu);
#endif
	kvm_clear_request(KVM_REQ_APF_HALT, vcpu);
	kvm_clear_request(KVM_REQ_REPORT_TPR_ACCESS, vcpu);
	kvm_clear_request(KVM_REQ_IOAPIC_EOI_EXIT, vcpu);
}

static void kvm_reset_regs(struct kvm_vcpu *vcpu)
{
	/*
	 * With an in-kernel APIC, CR8 is the APIC's.  Without, it's userspace's,
	 * and KVM_RUN loads it from kvm_run.
	 */
	vcpu->arch.cr8 = 0;
	if (!lapic_in_kernel(vcpu))
		vcpu->run->cr8 = 0;

	vcpu->arch.smbase = 0x30000;

	vcpu->arch.pat = MSR_IA32_CR_PAT_DEFAULT;
	memset(&vcpu->arch.mtrr_state, 0, sizeof(vcpu->arch.mtrr_state));

	vcpu->arch.msr_misc_features_enables = 0;
	vcpu->arch.ia32_misc_enable_msr = MSR_IA32_MISC_ENABLE_PEBS_UNAVAIL |
					  MSR_IA32_MISC_ENABLE_BTS_UNAVAIL;
	vcpu->arch.msr_ia32_power_ctl = 0;
	vcpu->arch.msr_hwcr = 0;
	vcpu->arch.ia32_tsc_adjust_msr = 0;

	/* The vendor's reset sets OSVW if the vendor has it. */
	vcpu->arch.osvw.length = 0;
	vcpu->arch.osvw.status = 0;
}

static void kvm_reset_fpu(struct kvm_vcpu *vcpu)
{
	/* Never touch the state of confidential guests, KVM doesn't have it. */
	if (!fpstate_is_confidential(&vcpu->arch.guest_fpu))
		fpu_reset_guest_fpstate(&vcpu->arch.guest_fpu);

	vcpu->arch.pkru = 0;

	__kvm_set_xcr(vcpu, 0, XFEATURE_MASK_FP);
	vcpu->arch.ia32_xss = 0;
}

/*
 * Hardware keeps the error records across a warm reset.  Drop them, this is
 * power-up.
 */
static void kvm_reset_mce(struct kvm_vcpu *vcpu)
{
	vcpu->arch.mcg_status = 0;
	vcpu->arch.mcg_ext_ctl = 0;
	memset(vcpu->arch.mce_banks, 0,
	       KVM_MAX_MCE_BANKS * 4 * sizeof(*vcpu->arch.mce_banks));
	memset(vcpu->arch.mci_ctl2_banks, 0,
	       KVM_MAX_MCE_BANKS * sizeof(*vcpu->arch.mci_ctl2_banks));

	kvm_init_mce_ctl(vcpu);
}

/*
 * What kvm_vcpu_reset() doesn't do for kvmclock, steal time, async page faults
 * and the like.  Turning them off is sufficient for INIT, but the MSRs and what
 * the guest sees when it turns them on again must not tell of its former life.
 */
static void kvm_reset_pv(struct kvm_vcpu *vcpu)
{
	vcpu->arch.pvclock_set_guest_stopped_request = false;

	vcpu->arch.st.preempted = 0;
	vcpu->arch.st.last_steal = 0;

	vcpu->arch.apf.vec = 0;
	vcpu->arch.apf.id = 0;
	vcpu->arch.apf.pageready_pending = false;

	vcpu->arch.pv.pv_unhalted = false;

	/* The host polls by default. */
	vcpu->arch.msr_kvm_poll_control = 1;
}

/* The state of a new vCPU: application processors wait for INIT. */
void kvm_vcpu_reset_mp_state(struct kvm_vcpu *vcpu)
{
	if (!irqchip_in_kernel(vcpu->kvm) || kvm_vcpu_is_reset_bsp(vcpu))
		kvm_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
	else
		kvm_set_mp_state(vcpu, KVM_MP_STATE_UNINITIALIZED);
}

/*
 * Reset what INIT doesn't touch, be it because INIT preserves the state, or
 * because INIT can't happen while the state is anything but its reset value.
 *
 * Called by kvm_vcpu_reset() before the vendor's reset, for vCPUs that are being
 * created, i.e. that are zero except for the configuration, as well as for vCPUs
 * that have run.
 */
void kvm_vcpu_power_up(struct kvm_vcpu *vcpu)
{
	kvm_reset_events(vcpu);
	kvm_reset_regs(vcpu);
	kvm_reset_fpu(vcpu);
	kvm_reset_mce(vcpu);
	kvm_pmu_power_up(vcpu);

	kvm_reset_pv(vcpu);
	kvm_hv_vcpu_power_up(vcpu);
	kvm_xen_vcpu_power_up(vcpu);

	/* APICBASE, CR4, MISC_ENABLE, XCR0 and XSS show in CPUID. */
	vcpu->arch.cpuid_dynamic_bits_dirty = true;
}

/*
 * The steps of KVM_MP_STATE_RESET.  include/linux/kvm_vcpu_reset.h has the
 * contract, virt/kvm/vcpu_reset.c the order.
 */
bool kvm_arch_has_vcpu_reset(struct kvm *kvm)
{
	/* SEV-ES, SNP and TDX: the state is encrypted, and not KVM's to touch. */
	return !kvm || !(kvm->arch.has_protected_state || kvm->arch.has_sev_es);
}

int kvm_arch_vcpu_reset_allowed(struct kvm_vcpu *vcpu)
{
	return kvm_arch_has_vcpu_reset(vcpu->kvm) ? 0 : -EPERM;
}

/* INIT and SIPI that are latched, or that KVM has yet to look at. */
void kvm_arch_vcpu_drop_queued_reset(struct kvm_vcpu *vcpu)
{
	if (lapic_in_kernel(vcpu))
		WRITE_ONCE(vcpu->arch.apic->pending_events, 0);
}

/*
 * Drop an exit to userspace that has yet to be completed, for when there is no
 * instruction to complete anymore.  Keep the exit if the vCPU's state is
 * protected.  KVM can't reset such a vCPU, i.e. the guest will carry on behind
 * the operation and consume its result.
 */
void kvm_arch_vcpu_drop_exit(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.guest_state_protected)
		return;

	vcpu->arch.complete_userspace_io = NULL;
	vcpu->arch.pio.count = 0;
	vcpu->mmio_needed = 0;
	vcpu->mmio_read_completed = 0;
	vcpu->arch.emulate_regs_need_sync_to_vcpu = false;
}

void kvm_arch_vcpu_reset(struct kvm_vcpu *vcpu)
{
	vcpu_load(vcpu);
	kvm_vcpu_srcu_read_lock(vcpu);

	/*
	 * INIT is blocked in VMX operation and in SMM, i.e. kvm_vcpu_reset()
	 * doesn't expect to find the vCPU there.
	 */
	kvm_nested_call(reset_nested)(vcpu);
#ifdef CONFIG_KVM_SMM
	if (is_smm(vcpu))
		kvm_smm_changed(vcpu, false);
#endif

	kvm_vcpu_reset(vcpu, KVM_VCPU_RESET_REQUEST);

	/* Userspace keeps debugging the vCPU, which is at another RIP now. */
	if (vcpu->guest_debug & KVM_GUESTDBG_SINGLESTEP) {
		vcpu->arch.singlestep_rip = kvm_get_linear_rip(vcpu);
		kvm_set_rflags(vcpu, kvm_get_rflags(vcpu));
	}

	kvm_rejoin_tsc_generation(vcpu);

	kvm_vcpu_reset_mp_state(vcpu);

	kvm_vcpu_srcu_read_unlock(vcpu);
	vcpu_put(vcpu);
}

/* Userspace has seen the event and re-enters: it's KVM's now, or nobody's. */
int kvm_complete_init_sipi_exit(struct kvm_vcpu *vcpu)
{
	int event = vcpu->arch.init_sipi_exit;
	int r;

	/* The exit came first, everything else is yet to be looked at. */
	kvm_make_request(KVM_REQ_EVENT, vcpu);

	if (READ_ONCE(vcpu->run->x86_init_sipi.discard)) {
		/* Another SIPI isn't the one that userspace doesn't want. */
		if (event == KVM_APIC_INIT ||
		    (u8)READ_ONCE(vcpu->arch.apic->sipi_vector) ==
		    vcpu->arch.init_sipi_vector)
			clear_bit(event, &vcpu->arch.apic->pending_events);
	} else {
		/*
		 * Look at everything again, userspace may have put the vCPU in
		 * a state in which the event is blocked or dropped, or has
		 * dropped it itself.  This may exit for the next event.
		 */
		vcpu->arch.init_sipi_granted = BIT(event);
		r = kvm_apic_accept_events(vcpu);
		vcpu->arch.init_sipi_granted = 0;
		if (r < 0)
			return 0;
	}

	/* An uninitialized vCPU waits for INIT, but not here. */
	if (vcpu->arch.mp_state == KVM_MP_STATE_UNINITIALIZED)
		return vcpu->wants_to_run ? -EAGAIN : -EINTR;

	return 1;
}

/**
 * __kvm_exit_on_init_sipi - Leave an INIT or a SIPI to userspace
 * @vcpu:	the vCPU that is about to accept the event, loaded, in KVM_RUN
 * @event:	KVM_APIC_INIT or KVM_APIC_SIPI
 * @vector:	that of the SIPI that would be accepted, 0 for INIT
 *
 * The event stays pending.  It is accepted by the next KVM_RUN, unless userspace
 * has it discarded or resets the vCPU, which drops it along with the exit, or it
 * has become a SIPI with a vector that userspace hasn't seen.
 *
 * Return: false if it's KVM's turn, as userspace has seen the event and
 * re-entered, otherwise true, and kvm_run is set up for an exit.
 */
bool __kvm_exit_on_init_sipi(struct kvm_vcpu *vcpu, int event, u8 vector)
{
	struct kvm_run *run = vcpu->run;

	if (vcpu->arch.init_sipi_granted & BIT(event)) {
		/* Once, another one may come in any time. */
		vcpu->arch.init_sipi_granted &= ~BIT(event);

		if (event == KVM_APIC_INIT ||
		    vector == vcpu->arch.init_sipi_vector ||
		    vcpu->arch.init_sipi_granted & BIT(KVM_APIC_ANY_SIPI))
			return false;
	}

	memset(&run->x86_init_sipi, 0, sizeof(run->x86_init_sipi));
	run->x86_init_sipi.event = event == KVM_APIC_INIT ?
				   KVM_X86_INIT_SIPI_EVENT_INIT :
				   KVM_X86_INIT_SIPI_EVENT_SIPI;
	run->x86_init_sipi.vector = vector;
	run->exit_reason = KVM_EXIT_X86_INIT_SIPI;

	vcpu->arch.init_sipi_exit = event;
	vcpu->arch.init_sipi_vector = vector;
	vcpu->arch.complete_userspace_io = kvm_complete_init_sipi_exit;

	return true;
}
