// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_MP_STATE_RESET
 *
 * Whoever asks for a reset, it is kvm_reset_vcpu() in reset.c that resets the
 * vCPU.  What is done in addition on request of userspace stands here.
 */

#include <linux/kvm_host.h>
#include <linux/kvm_vcpu_reset.h>
#include <kvm/arm_psci.h>
#include <asm/kvm_emulate.h>
#include <asm/kvm_mmu.h>

bool kvm_arch_has_vcpu_reset(struct kvm *kvm)
{
	return !kvm || !kvm_vm_is_protected(kvm);
}

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
}

void kvm_arch_vcpu_reset(struct kvm_vcpu *vcpu)
{
	/*
	 * The GIC is a device, in the kernel or not: its CPU interface, its
	 * redistributor and HCR_EL2.{VI,VF}, which are the outputs of one in
	 * userspace, are left alone, as is the address for stolen time.
	 */
	kvm_reset_vcpu(vcpu, KVM_VCPU_RESET_REQUEST);

	/* A new vCPU has no stage 1 translations in the TLB. */
	if (vcpu_has_run_once(vcpu))
		kvm_flush_remote_tlbs(vcpu->kvm);

	kvm_arm_vcpu_reset_coherency(vcpu);
	vcpu_reset_hcr(vcpu);

	kvm_arm_vcpu_reset_power_state(vcpu);
}
