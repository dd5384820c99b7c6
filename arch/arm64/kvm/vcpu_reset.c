// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_MP_STATE_RESET
 *
 * Whoever asks for a reset, it is kvm_reset_vcpu() in reset.c that resets the
 * vCPU.  What is done in addition on request of userspace stands here: unlike
 * KVM_ARM_VCPU_INIT, the request includes the state that other ioctls can set,
 * i.e. the interrupt inputs and the private part of the GIC, and excludes what
 * is not part of the vCPU, i.e. the memory of the VM.
 *
 * What becomes of struct kvm_vcpu_arch, in the order of the fields:
 *
 * ctxt				reset.  ID registers, MPIDR_EL1 and CLIDR_EL1 are
 *				configuration, and set only once.
 * sve_state			reset, sve_max_vl is configuration
 * fp_type			kept, zero in one view is zero in the other
 * hw_mmu			kept, NULL or the stage 2 of the VM while the
 *				vCPU is not loaded
 * hcr_el2			pending SError, IRQ and FIQ are cleared, writes to
 *				the MMU registers trap again without FWB; the rest
 *				is configuration or set whenever the vCPU is
 *				loaded
 * hcrx_el2, fgt		kept, configuration
 * mdcr_el2			kept, set whenever the vCPU is loaded
 * fault			reset
 * cflags			kept, configuration
 * iflags			reset
 * sflags			pending SError and the state of the single-step are
 *				reset, INIT_POWER_OFF is configuration, and the
 *				others are only set inside of KVM_RUN
 * pause			kept, belongs to the VM
 * vcpu_debug_state		reset
 * external_debug_state		kept, KVM_SET_GUEST_DEBUG is configuration
 * external_mdscr_el1,
 * debug_owner			kept, set whenever the vCPU is loaded
 * vgic_cpu			CPU interface, private interrupts and the
 *				redistributor are reset, and no interrupt is about
 *				to be delivered, see kvm_vgic_reset_vcpu().  SPIs,
 *				LPIs and the distributor belong to the VM.
 * timer_cpu			reset, the offset of the clock belongs to the VM
 * pmu				reset, irq_num and created are configuration
 * mp_state			what KVM_ARM_VCPU_INIT has asked for
 * mmu_page_cache,
 * pkvm_memcache		kept, not the guest's
 * vsesr_el2			kept, only valid along with a pending SError
 * reset_state			dropped
 * steal			kept, the address is configuration; the guest has to
 *				ask for it before it gets to know of it
 * ccsidr			kept, configuration
 * vncr_tlb			invalidated
 * pid				kept, not the guest's
 */

#include <linux/cacheflush.h>
#include <linux/kvm_host.h>
#include <linux/kvm_vcpu_reset.h>
#include <kvm/arm_psci.h>
#include <kvm/arm_vgic.h>
#include <asm/kvm_emulate.h>

int kvm_arch_vcpu_reset_allowed(struct kvm_vcpu *vcpu)
{
	if (vcpu_is_protected(vcpu))
		return -EPERM;

	if (!kvm_vcpu_initialized(vcpu))
		return -ENOEXEC;

	return 0;
}

void kvm_arch_vcpu_drop_queued_reset(struct kvm_vcpu *vcpu)
{
	spin_lock(&vcpu->arch.mp_state_lock);
	kvm_psci_cancel_vcpu_on(vcpu);
	spin_unlock(&vcpu->arch.mp_state_lock);
}

void kvm_arch_vcpu_drop_exit(struct kvm_vcpu *vcpu)
{
	vcpu->mmio_needed = false;
	kvm_clear_needs_completion(vcpu);
}

void kvm_arch_vcpu_reset(struct kvm_vcpu *vcpu)
{
	kvm_reset_vcpu(vcpu, KVM_VCPU_RESET_REQUEST);

	kvm_vgic_reset_vcpu(vcpu);

	/* The inputs that stand in for the GIC if that is up to userspace */
	clear_bit(__ffs(HCR_VI), vcpu_hcr(vcpu));
	clear_bit(__ffs(HCR_VF), vcpu_hcr(vcpu));

	vcpu_reset_hcr(vcpu);

	/*
	 * Leave neither translations nor instructions of the old life behind.
	 * Both are a single broadcast, whatever is mapped.  The data side is up
	 * to userspace on hosts without FWB, as memory is not unmapped.
	 */
	if (vcpu_has_run_once(vcpu)) {
		kvm_flush_remote_tlbs(vcpu->kvm);
		icache_inval_all_pou();
	}

	kvm_arm_vcpu_reset_power_state(vcpu);
}
