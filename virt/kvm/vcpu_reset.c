// SPDX-License-Identifier: GPL-2.0-only
/*
 * The reset of a vCPU: on request of userspace with KVM_MP_STATE_RESET, and what
 * userspace has to say about requests of the guest, KVM_CAP_EXIT_ON_VCPU_RESET.
 */
#include <linux/kvm_host.h>
#include <linux/kvm_vcpu_reset.h>

/**
 * kvm_vcpu_request_reset - serve a write of KVM_MP_STATE_RESET
 * @vcpu:	the vCPU to reset
 *
 * Make @vcpu what a vCPU is that was just created and configured in the same
 * way.  The cost doesn't depend on the memory of the guest.  The contract with
 * userspace, including what is kept, is in Documentation/virt/kvm/vcpu-reset.rst.
 *
 * Called from KVM_SET_MP_STATE with vcpu->mutex held, i.e. @vcpu is neither in
 * KVM_RUN nor in another ioctl.  May sleep.
 *
 * Return: 0 if @vcpu has been reset, otherwise a negative errno and @vcpu is as
 * it was.
 */
int kvm_vcpu_request_reset(struct kvm_vcpu *vcpu)
{
	int r;

	lockdep_assert_held(&vcpu->mutex);

	r = kvm_arch_vcpu_reset_allowed(vcpu);
	if (r)
		return r;

	/*
	 * What the guest or KVM_RUN has left to be done later belongs to the
	 * life that ends here.  Drop it first, so that it is not applied on top
	 * of the reset state.
	 */
	kvm_arch_vcpu_drop_queued_reset(vcpu);
	kvm_arch_vcpu_drop_exit(vcpu);

	kvm_arch_vcpu_reset(vcpu);

	return 0;
}

/**
 * kvm_vm_enable_exit_on_vcpu_reset - serve KVM_CAP_EXIT_ON_VCPU_RESET
 * @kvm:	the VM
 * @cap:	args[0] is the mask of the requests that are to exit, and replaces
 *		the previous one
 *
 * Choose which of the guest's requests to reset a vCPU are handed to userspace,
 * all others are up to KVM.  A request that another vCPU makes at the same time
 * is served one way or the other, one that has exited already stays with
 * userspace: whoever serves a request does it on its own, there is nothing to
 * be handed over.
 *
 * Context: VM ioctl, no lock needed.
 *
 * Return: 0, or -EINVAL for flags and for bits that the architecture does not
 * have.
 */
int kvm_vm_enable_exit_on_vcpu_reset(struct kvm *kvm,
				     struct kvm_enable_cap *cap)
{
	u64 supported = kvm_arch_vcpu_reset_exits(kvm);

	if (!supported || cap->flags || (cap->args[0] & ~supported))
		return -EINVAL;

	/* Pairs with the READ_ONCE() in kvm_exits_on_vcpu_reset() */
	WRITE_ONCE(kvm->exit_on_vcpu_reset, cap->args[0]);

	return 0;
}
