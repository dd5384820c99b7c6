/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVM_VCPU_RESET_H
#define KVM_VCPU_RESET_H

#include <linux/errno.h>
#include <linux/types.h>

struct kvm;
struct kvm_enable_cap;
struct kvm_vcpu;

/**
 * enum kvm_vcpu_reset_cause - who asked for the reset of a vCPU
 *
 * @KVM_VCPU_RESET_CREATE:	the vCPU has just been created, on arm64 by the
 *				first KVM_ARM_VCPU_INIT
 * @KVM_VCPU_RESET_REQUEST:	userspace has set KVM_MP_STATE_RESET
 * @KVM_VCPU_RESET_INIT:	an architecture's own way to reset a vCPU from
 *				outside: another KVM_ARM_VCPU_INIT on arm64,
 *				KVM_MP_STATE_INIT_RECEIVED on riscv, an INIT
 *				signal, or what KVM handles like one, on x86
 * @KVM_VCPU_RESET_FIRMWARE:	the guest has asked the firmware that KVM
 *				emulates, e.g. with SBI hart_start or PSCI
 *				CPU_ON
 *
 * The cause selects what the reset depends on, e.g. whether the entry point of
 * a firmware call is loaded, and is reported by the kvm_vcpu_reset trace event.
 */
enum kvm_vcpu_reset_cause {
	KVM_VCPU_RESET_CREATE,
	KVM_VCPU_RESET_REQUEST,
	KVM_VCPU_RESET_INIT,
	KVM_VCPU_RESET_FIRMWARE,
};

#ifdef CONFIG_HAVE_KVM_VCPU_RESET

int kvm_vcpu_request_reset(struct kvm_vcpu *vcpu);
int kvm_vm_enable_exit_on_vcpu_reset(struct kvm *kvm,
				     struct kvm_enable_cap *cap);

/*
 * Whether KVM_MP_STATE_RESET can succeed on vCPUs of @kvm, or, if that is NULL,
 * on those of some VM.  False for a VM whose vCPUs are all refused.
 */
bool kvm_arch_has_vcpu_reset(struct kvm *kvm);

/*
 * The steps of kvm_vcpu_request_reset() that depend on the architecture, in
 * the order in which they are called, each with vcpu->mutex held and the vCPU
 * not loaded.  Other vCPUs and other threads of userspace keep running, so
 * each step takes the locks that protect what it changes.
 *
 * kvm_arch_vcpu_reset_allowed() returns 0, or the error that the request fails
 * with: -EPERM if KVM may not touch the state of the vCPU, -ENOEXEC if the vCPU
 * is yet to be initialized.  It changes nothing.
 *
 * kvm_arch_vcpu_drop_queued_reset() cancels a reset that the guest has queued
 * for the vCPU and that is yet to be applied.
 *
 * kvm_arch_vcpu_drop_exit() cancels an exit to userspace that is yet to be
 * completed by KVM_RUN.  Resets with another cause do so as well, in any context
 * in which the vCPU doesn't run: the function neither sleeps nor takes a lock.
 *
 * kvm_arch_vcpu_reset() resets everything else.  The multiprocessing state is
 * last and becomes what creating the vCPU gives it.  The function that does the
 * reset is the one that every other cause goes through as well, and reports it
 * with trace_kvm_vcpu_reset().
 */
int kvm_arch_vcpu_reset_allowed(struct kvm_vcpu *vcpu);
void kvm_arch_vcpu_drop_queued_reset(struct kvm_vcpu *vcpu);
void kvm_arch_vcpu_drop_exit(struct kvm_vcpu *vcpu);
void kvm_arch_vcpu_reset(struct kvm_vcpu *vcpu);

#else /* CONFIG_HAVE_KVM_VCPU_RESET */

static inline int kvm_vcpu_request_reset(struct kvm_vcpu *vcpu)
{
	return -EINVAL;
}

#endif /* CONFIG_HAVE_KVM_VCPU_RESET */

#endif	/* KVM_VCPU_RESET_H */
