// SPDX-License-Identifier: GPL-2.0-only
/*
 * The riscv part of vcpu_start_test: SBI HSM hart_start
 */
#include "kvm_util.h"
#include "processor.h"
#include "sbi.h"
#include "vcpu_start_test.h"

#define SBI_EXT_HSM		0x48534d
#define SBI_EXT_HSM_HART_START	0
#define SBI_EXT_HSM_HART_STATUS	2
#define SBI_EXT_HSM_HART_SUSPEND	3
#define SBI_EXT_SUSP		0x53555350
#define SBI_EXT_SUSP_SYSTEM_SUSPEND	0

/* Indices of the general purpose registers, and of the slots with CSRs. */
enum {
	S0 = 8, A0 = 10, A1, A2, A6 = 16, A7, S2, S3, S4, S5, S6,
	NR_GPRS = 32,
	SSTATUS = 32, SIE, SATP, SSCRATCH, STVEC, SCAUSE, STVAL, SEPC, SIP,
	SCOUNTEREN, FCSR, F0,
	NR_VIEW = F0 + 32,
};

#define GPR(i)	__kvm_reg_id(KVM_REG_RISCV_CORE, 0, i, KVM_REG_SIZE_ULONG)

const bool kernel_returns_errors = true;
const bool open_call_replays = true;
const u32 wait_mp_state = KVM_MP_STATE_STOPPED;
const bool kernel_waits;

/* @base is the register with the address of the view. */
asm("	.pushsection .text, \"ax\"\n"
"	.option push\n"
"	.option norvc\n"
"	.macro	view_gprs, base\n"
"	.irp	i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
"	sd	x\\i, 8 * \\i(\\base)\n"
"	.endr\n"
"	.endm\n"
"	.macro	view_csrs, base\n"
"	.set	slot, 32\n"
"	.irp	csr, sstatus, sie, satp, sscratch, stvec, scause, stval, sepc, sip, scounteren\n"
"	csrr	t0, \\csr\n"
"	sd	t0, 8 * slot(\\base)\n"
"	.set	slot, slot + 1\n"
"	.endr\n"
	/* SR_FS_INITIAL */
"	li	t0, 1 << 13\n"
"	csrs	sstatus, t0\n"
"	frcsr	t0\n"
"	sd	t0, 8 * slot(\\base)\n"
"	.irp	i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
"	.set	slot, slot + 1\n"
"	fmv.x.d	t0, f\\i\n"
"	sd	t0, 8 * slot(\\base)\n"
"	.endr\n"
"	.endm\n"
"	.globl	guest_call, guest_start, guest_own_start\n"
"	.balign 64\n"
"guest_call:\n"
"	mv	a0, s2\n"
"	mv	a1, s3\n"
"	mv	a2, s4\n"
"	mv	a6, s5\n"
"	mv	a7, s6\n"
"	ecall\n"
"	view_gprs s0\n"
"	sd	zero, 8 * " __stringify(SLOT_DONE) "(s0)\n"
"	j	guest_call\n"
"	.balign 64\n"
"guest_start:\n"
"	view_gprs a1\n"
"	view_csrs a1\n"
"	sd	zero, 8 * " __stringify(SLOT_DONE) "(a1)\n"
"	li	a7, 0x48534d\n"
"	li	a6, 1\n"
"	ecall\n"
"	j	.\n"
"	.balign 64\n"
"guest_own_start:\n"
"	view_gprs s0\n"
"	view_csrs s0\n"
"	sd	zero, 8 * " __stringify(SLOT_DONE) "(s0)\n"
"	j	.\n"
"	.option pop\n"
"	.popsection\n"
);

const char *start_exits_missing(void)
{
	if (!(kvm_check_cap(KVM_CAP_EXIT_ON_VCPU_RESET) &
	      KVM_EXIT_ON_VCPU_RESET_HART_START))
		return "KVM_EXIT_ON_VCPU_RESET_HART_START is not available";

	return NULL;
}

struct kvm_vm *create_vm(struct kvm_vcpu **vcpus)
{
	struct kvm_vm *vm = vm_create_with_vcpus(NR_VCPUS, NULL, vcpus);
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_set_reg(vcpus[i], RISCV_GENERAL_CSR_REG(satp), 0);
		if (i != CALLER)
			vcpu_set_mp_state(vcpus[i], KVM_MP_STATE_STOPPED);
	}

	return vm;
}

bool set_start_exits(struct kvm_vm *vm, bool enable)
{
	u64 mask = enable ? KVM_EXIT_ON_VCPU_RESET_HART_START : 0;

	return !__vm_enable_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET, mask);
}

void set_call(struct kvm_vcpu *vcpu, const struct start_call *call)
{
	set_own_regs(vcpu, guest_call, 0xca11);

	vcpu_set_reg(vcpu, GPR(S2), call->target);
	vcpu_set_reg(vcpu, GPR(S3), call->entry);
	vcpu_set_reg(vcpu, GPR(S4), call->arg);
	vcpu_set_reg(vcpu, GPR(S5), SBI_EXT_HSM_HART_START);
	vcpu_set_reg(vcpu, GPR(S6), SBI_EXT_HSM);
}

void set_status_call(struct kvm_vcpu *vcpu, u64 id)
{
	const struct start_call call = { .target = id };

	set_call(vcpu, &call);
	vcpu_set_reg(vcpu, GPR(S5), SBI_EXT_HSM_HART_STATUS);
}

bool get_status(const struct guest_view *view)
{
	TEST_ASSERT_EQ(view->slot[A0], SBI_SUCCESS);
	TEST_ASSERT(view->slot[A1] <= 1, "HART_STATUS returns %lu",
		    view->slot[A1]);

	/* SBI_HSM_STATE_STARTED is 0, SBI_HSM_STATE_STOPPED is 1. */
	return !view->slot[A1];
}

void set_suspend_call(struct kvm_vcpu *vcpu)
{
	const struct start_call call = { .target = 0 };

	/* SBI_HSM_SUSPEND_RET_DEFAULT is 0. */
	set_call(vcpu, &call);
	vcpu_set_reg(vcpu, GPR(S5), SBI_EXT_HSM_HART_SUSPEND);
}

const char *enable_system_suspend(struct kvm_vm *vm, struct kvm_vcpu **vcpus)
{
	u64 reg = RISCV_SBI_EXT_REG(KVM_RISCV_SBI_EXT_SUSP);
	int i;

	if (!(kvm_check_cap(KVM_CAP_EXIT_ON_VCPU_RESET) &
	      KVM_EXIT_ON_VCPU_RESET_SUSP))
		return "KVM_EXIT_ON_VCPU_RESET_SUSP is not available";

	for (i = 0; i < NR_VCPUS; i++) {
		if (__vcpu_set_reg(vcpus[i], reg, 1))
			return "SBI SUSP is not available";
	}
	vm_enable_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET,
		      KVM_EXIT_ON_VCPU_RESET_SUSP);

	return NULL;
}

/* The first argument is SBI_SUSP_SLEEP_TYPE_SUSPEND_TO_RAM. */
void set_system_suspend(struct kvm_vcpu *vcpu, const struct start_call *call)
{
	set_call(vcpu, call);
	vcpu_set_reg(vcpu, GPR(S2), 0);
	vcpu_set_reg(vcpu, GPR(S5), SBI_EXT_SUSP_SYSTEM_SUSPEND);
	vcpu_set_reg(vcpu, GPR(S6), SBI_EXT_SUSP);
}

bool get_system_suspend(struct kvm_vcpu *vcpu, struct start_call *call)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_RISCV_SBI ||
	    run->riscv_sbi.extension_id != SBI_EXT_SUSP ||
	    run->riscv_sbi.function_id != SBI_EXT_SUSP_SYSTEM_SUSPEND)
		return false;

	call->target = vcpu->id;
	call->entry = run->riscv_sbi.args[1];
	call->arg = run->riscv_sbi.args[2];

	return true;
}

bool let_kernel_resume(struct kvm_vm *vm)
{
	return !__vm_enable_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET, 0);
}

void set_wakeup_event(struct kvm_vcpu *vcpu)
{
	TEST_FAIL("It is not KVM that waits");
}

bool get_call(struct kvm_vcpu *vcpu, struct start_call *call)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_RISCV_SBI ||
	    run->riscv_sbi.extension_id != SBI_EXT_HSM ||
	    run->riscv_sbi.function_id != SBI_EXT_HSM_HART_START)
		return false;

	call->target = run->riscv_sbi.args[0];
	call->entry = run->riscv_sbi.args[1];
	call->arg = run->riscv_sbi.args[2];

	return true;
}

void answer_call(struct kvm_vcpu *vcpu, enum start_result result)
{
	static const long errors[] = {
		[START_OK]		= SBI_SUCCESS,
		[START_REFUSED]		= SBI_ERR_DENIED,
		[START_NO_SUCH_CPU]	= SBI_ERR_INVALID_PARAM,
		[START_ALREADY_ON]	= SBI_ERR_ALREADY_AVAILABLE,
	};

	vcpu->run->riscv_sbi.ret[0] = errors[result];
}

/* There is no value to be returned. */
enum start_result get_result(const struct guest_view *view)
{
	if (view->slot[A1])
		return START_UNKNOWN;

	switch ((long)view->slot[A0]) {
	case SBI_SUCCESS:
		return START_OK;
	case SBI_ERR_DENIED:
		return START_REFUSED;
	case SBI_ERR_INVALID_PARAM:
		return START_NO_SUCH_CPU;
	case SBI_ERR_ALREADY_AVAILABLE:
		return START_ALREADY_ON;
	case SBI_ERR_FAILURE:
		return START_IGNORED;
	default:
		return START_UNKNOWN;
	}
}

void set_start_regs(struct kvm_vcpu *vcpu, const struct start_call *call)
{
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.pc), call->entry);
	vcpu_set_reg(vcpu, GPR(A0), vcpu->id);
	vcpu_set_reg(vcpu, GPR(A1), call->arg);
}

static u64 own_reg(int i, u64 life)
{
	return i == S0 ? VIEW_GPA : i ? life << 48 | i : 0;
}

void set_own_regs(struct kvm_vcpu *vcpu, const char *entry, u64 life)
{
	int i;

	for (i = 1; i < NR_GPRS; i++)
		vcpu_set_reg(vcpu, GPR(i), own_reg(i, life));

	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sscratch), own_reg(SSCRATCH, life));
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.pc), code_gpa(vcpu->vm, entry));
}

/* KVM zeroes what the SBI specification leaves undefined. */
void check_start_view(const struct guest_view *view, u64 id, u64 arg)
{
	int i;

	for (i = 0; i < NR_GPRS; i++) {
		u64 want = i == A0 ? id : i == A1 ? arg : 0;

		TEST_ASSERT(view->seen[i] && view->slot[i] == want,
			    "x%d is 0x%lx instead of 0x%lx", i, view->slot[i],
			    want);
	}

	TEST_ASSERT(!view->slot[SATP], "satp is 0x%lx", view->slot[SATP]);
	TEST_ASSERT(!(view->slot[SSTATUS] & SR_SIE), "sstatus is 0x%lx",
		    view->slot[SSTATUS]);
	TEST_ASSERT(!view->slot[SSCRATCH], "sscratch is 0x%lx",
		    view->slot[SSCRATCH]);
	for (i = FCSR; i < NR_VIEW; i++)
		TEST_ASSERT(view->seen[i] && !view->slot[i],
			    "Slot %d, fcsr or f0 to f31, is 0x%lx", i,
			    view->slot[i]);
}

void check_own_view(const struct guest_view *view, u64 life)
{
	int i;

	for (i = 0; i < NR_GPRS; i++)
		TEST_ASSERT(view->seen[i] && view->slot[i] == own_reg(i, life),
			    "x%d is 0x%lx instead of 0x%lx", i, view->slot[i],
			    own_reg(i, life));

	TEST_ASSERT(view->slot[SSCRATCH] == own_reg(SSCRATCH, life),
		    "sscratch is 0x%lx instead of 0x%lx", view->slot[SSCRATCH],
		    own_reg(SSCRATCH, life));
}

/* KVM resets the IMSIC as well, the APLIC isn't a vCPU's. */
bool dirty_local_irqs(struct kvm_vcpu *vcpu)
{
	return false;
}

bool local_irqs_dirty(struct kvm_vcpu *vcpu)
{
	return false;
}
