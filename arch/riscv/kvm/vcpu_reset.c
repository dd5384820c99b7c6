// SPDX-License-Identifier: GPL-2.0
/*
 * The reset of a vCPU
 */

#include <linux/bitmap.h>
#include <linux/kvm_host.h>
#include <linux/kvm_vcpu_reset.h>
#include <asm/kvm_vcpu_vector.h>
#include <trace/events/kvm.h>

static void kvm_riscv_vcpu_context_reset(struct kvm_vcpu *vcpu,
					 enum kvm_vcpu_reset_cause cause)
{
	struct kvm_vcpu_csr *csr = &vcpu->arch.guest_csr;
	struct kvm_cpu_context *cntx = &vcpu->arch.guest_context;
	void *vector_datap = cntx->vector.datap;
	unsigned long vgein = cntx->hstatus & HSTATUS_VGEIN;

	memset(cntx, 0, sizeof(*cntx));
	memset(csr, 0, sizeof(*csr));
	memset(&vcpu->arch.smstateen_csr, 0, sizeof(vcpu->arch.smstateen_csr));
	memset(&vcpu->arch.zicfiss_csr, 0, sizeof(vcpu->arch.zicfiss_csr));

	/* Restore datap as it's not a part of the guest context. */
	cntx->vector.datap = vector_datap;

	if (cause == KVM_VCPU_RESET_FIRMWARE)
		kvm_riscv_vcpu_sbi_load_reset_state(vcpu);

	/* Setup reset state of shadow SSTATUS and HSTATUS CSRs */
	cntx->sstatus = SR_SPP | SR_SPIE;

	/* A VS-file of the IMSIC stays where it is, unless the vCPU moves. */
	cntx->hstatus |= vgein;
	cntx->hstatus |= HSTATUS_VTW;
	cntx->hstatus |= HSTATUS_SPVP;
	cntx->hstatus |= HSTATUS_SPV;
}

/**
 * kvm_riscv_reset_vcpu - Reset all state of a vCPU but its power state
 *
 * @vcpu:	the vCPU to reset
 * @cause:	who asked for it.  KVM_VCPU_RESET_FIRMWARE loads the entry point
 *		that kvm_riscv_vcpu_sbi_request_reset() has stored, and keeps
 *		IPIs and MSIs that were sent since then, and an external
 *		interrupt that userspace has raised.
 *
 * Called with vcpu->mutex held, or before the vCPU can be used.  May sleep.
 */
void kvm_riscv_reset_vcpu(struct kvm_vcpu *vcpu,
			  enum kvm_vcpu_reset_cause cause)
{
	bool loaded = vcpu->cpu != -1;
	unsigned long flags;
	DECLARE_BITMAP(keep, KVM_RISCV_VCPU_NR_IRQS) = { 0 };

	/*
	 * Releasing perf events may sleep, and so may taking a spinlock on
	 * PREEMPT_RT, i.e. preemption has to stay enabled.  Put the vCPU, so
	 * that the preempt notifiers do not save state from before the reset
	 * on top of the reset state.
	 */
	if (loaded)
		vcpu_put(vcpu);

	vcpu->arch.last_exit_cpu = -1;

	kvm_riscv_vcpu_context_reset(vcpu, cause);

	kvm_riscv_vcpu_fp_reset(vcpu);

	kvm_riscv_vcpu_vector_reset(vcpu);

	kvm_riscv_vcpu_timer_reset(vcpu);

	kvm_riscv_vcpu_aia_reset(vcpu);

	/* Or else kvm_riscv_vcpu_sbi_request_reset() has done that. */
	if (cause != KVM_VCPU_RESET_FIRMWARE)
		kvm_riscv_vcpu_aia_imsic_reset(vcpu);

	kvm_riscv_vcpu_pmu_reset(vcpu);

	/*
	 * The timer, the IMSIC and the PMU of the old life are silent now, clear
	 * what they have raised.
	 *
	 * kvm_riscv_vcpu_sbi_request_reset() has dropped the IPIs from before
	 * the request.  One that is pending now has been sent to a vCPU that
	 * was already started.  And a guest that starts a hart does not change
	 * what userspace drives the external interrupt with.
	 */
	if (cause == KVM_VCPU_RESET_FIRMWARE) {
		__set_bit(IRQ_VS_SOFT, keep);
		if (!irqchip_in_kernel(vcpu->kvm))
			__set_bit(IRQ_VS_EXT, keep);
	}
	raw_spin_lock_irqsave(&vcpu->arch.irqs_pending_lock, flags);
	bitmap_and(vcpu->arch.irqs_pending, vcpu->arch.irqs_pending, keep,
		   KVM_RISCV_VCPU_NR_IRQS);
	bitmap_copy(vcpu->arch.irqs_pending_mask, vcpu->arch.irqs_pending,
		    KVM_RISCV_VCPU_NR_IRQS);
	raw_spin_unlock_irqrestore(&vcpu->arch.irqs_pending_lock, flags);

	kvm_riscv_vcpu_sbi_reset(vcpu);

	/*
	 * An exit that userspace has yet to complete belongs to an instruction
	 * from before the reset.  Do not let the next KVM_RUN retire it on top
	 * of the reset state.
	 */
	kvm_arch_vcpu_drop_exit(vcpu);

	trace_kvm_vcpu_reset(vcpu->vcpu_id, cause, vcpu->arch.guest_context.sepc);

	/* Reset the guest CSRs for hotplug usecase */
	if (loaded)
		vcpu_load(vcpu);
}

bool kvm_arch_has_vcpu_reset(struct kvm *kvm)
{
	return true;
}

int kvm_arch_vcpu_reset_allowed(struct kvm_vcpu *vcpu)
{
	return 0;
}

void kvm_arch_vcpu_drop_queued_reset(struct kvm_vcpu *vcpu)
{
	/* kvm_arch_vcpu_reset() drops what another vCPU queues from here on. */
	kvm_clear_request(KVM_REQ_VCPU_RESET, vcpu);
}

void kvm_arch_vcpu_drop_exit(struct kvm_vcpu *vcpu)
{
	vcpu->arch.exit_to_complete = KVM_EXIT_UNKNOWN;
}

void kvm_arch_vcpu_reset(struct kvm_vcpu *vcpu)
{
	kvm_riscv_reset_vcpu(vcpu, KVM_VCPU_RESET_REQUEST);

	/*
	 * Leave neither translations nor instructions of the old life behind.
	 * Fences that are queued stay: they belong to who asked for them, and
	 * have no effect on top of these.
	 */
	kvm_make_request(KVM_REQ_HFENCE_VVMA_ALL, vcpu);
	kvm_make_request(KVM_REQ_FENCE_I, vcpu);

	spin_lock(&vcpu->arch.mp_state_lock);

	/*
	 * Another vCPU may have started this one in the meantime.  Serve that
	 * as if it had come first, or a vCPU that is stopped here would be left
	 * with a reset that undoes what userspace sets up next.
	 */
	kvm_clear_request(KVM_REQ_VCPU_RESET, vcpu);

	kvm_riscv_vcpu_reset_power_state(vcpu);

	spin_unlock(&vcpu->arch.mp_state_lock);
}
