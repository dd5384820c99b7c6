// SPDX-License-Identifier: GPL-2.0-only
/*
 * The arm64 part of vcpu_start_test: PSCI CPU_ON
 */
#include <linux/arm-smccc.h>
#include <linux/psci.h>
#include <linux/sizes.h>

#include "gic_v3.h"
#include "kvm_util.h"
#include "processor.h"
#include "vcpu_start_test.h"

/* Indices of the general purpose registers, and of the slots with others. */
enum {
	X0, X1, X2, X3, X19 = 19, X20, X21, X22, X23, SP = 31,
	NR_GPRS = 31,
	CURRENTEL = 32, DAIF, SCTLR_EL1, TTBR0_EL1, VBAR_EL1, TPIDR_EL1, ELR_EL1,
	SPSR_EL1, SP_EL0, CPACR_EL1, MPIDR_EL1, TTBR1_EL1, TCR_EL1, MAIR_EL1,
	AMAIR_EL1, ESR_EL1, FAR_EL1, AFSR0_EL1, AFSR1_EL1, PAR_EL1,
	CONTEXTIDR_EL1, TPIDR_EL0, TPIDRRO_EL0, CNTKCTL_EL1, CNTV_CTL_EL0,
	CNTV_CVAL_EL0, CNTP_CTL_EL0, CNTP_CVAL_EL0, MDSCR_EL1, CSSELR_EL1, SPSEL,
	NZCV,
	NR_VIEW,
};

#define GPR(i)	ARM64_CORE_REG(regs.regs[i])

/* PSR_MODE_EL1h, or PSR_MODE_EL2h, with all exceptions masked */
#define RESET_DAIF	0x3c0

/* The call comes first, the errors are up to whoever serves it. */
const bool kernel_returns_errors;
/* The pc is behind the HVC instruction at the exit. */
const bool open_call_replays;
const u32 wait_mp_state = KVM_MP_STATE_SUSPENDED;
const bool kernel_waits = true;

static u32 el2_features;

/*
 * @base is the register with the address of the view, x1 gets lost.  At EL2, HVC
 * is for the guest's own hypervisor.
 */
asm("	.pushsection .text, \"ax\"\n"
"	.macro	view_gprs, base\n"
"	.irp	i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30\n"
"	str	x\\i, [\\base, #8 * \\i]\n"
"	.endr\n"
"	.endm\n"
"	.macro	view_others, base\n"
"	mov	x1, sp\n"
"	str	x1, [\\base, #8 * 31]\n"
"	.set	slot, 32\n"
"	.irp	reg, CurrentEL, daif, sctlr_el1, ttbr0_el1, vbar_el1, tpidr_el1, elr_el1, spsr_el1, sp_el0, cpacr_el1, mpidr_el1, ttbr1_el1, tcr_el1, mair_el1, amair_el1, esr_el1, far_el1, afsr0_el1, afsr1_el1, par_el1, contextidr_el1, tpidr_el0, tpidrro_el0, cntkctl_el1, cntv_ctl_el0, cntv_cval_el0, cntp_ctl_el0, cntp_cval_el0, mdscr_el1, csselr_el1, SPSel, nzcv\n"
"	mrs	x1, \\reg\n"
"	str	x1, [\\base, #8 * slot]\n"
"	.set	slot, slot + 1\n"
"	.endr\n"
"	.endm\n"
"	.macro	call_firmware, tmp\n"
"	mrs	\\tmp, CurrentEL\n"
"	tbnz	\\tmp, #3, 1f\n"
"	hvc	#0\n"
"	b	2f\n"
"1:	smc	#0\n"
"2:\n"
"	.endm\n"
"	.globl	guest_call, guest_start, guest_own_start\n"
"	.balign 64\n"
"guest_call:\n"
"	mov	x0, x20\n"
"	mov	x1, x21\n"
"	mov	x2, x22\n"
"	mov	x3, x23\n"
"	call_firmware x24\n"
"	view_gprs x19\n"
"	str	xzr, [x19, #8 * " __stringify(SLOT_DONE) "]\n"
"	b	guest_call\n"
"	.balign 64\n"
"guest_start:\n"
"	view_gprs x0\n"
"	view_others x0\n"
"	str	xzr, [x0, #8 * " __stringify(SLOT_DONE) "]\n"
	/* PSCI_0_2_FN_CPU_OFF */
"	mov	w0, #2\n"
"	movk	w0, #0x8400, lsl #16\n"
"	call_firmware x1\n"
"	b	.\n"
"	.balign 64\n"
"guest_own_start:\n"
"	view_gprs x19\n"
"	view_others x19\n"
"	str	xzr, [x19, #8 * " __stringify(SLOT_DONE) "]\n"
"	b	.\n"
"	.popsection\n"
);

const char *start_exits_missing(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	int r;

	r = __kvm_has_device_attr(vm->fd, KVM_ARM_VM_SMCCC_CTRL,
				  KVM_ARM_VM_SMCCC_FILTER);
	kvm_vm_free(vm);

	return r ? "The SMCCC filter is not available" : NULL;
}

/* With EL2 the vCPU starts there, HCR_EL2.E2H is set or clear. */
const char *select_vcpu_kind(unsigned int kind)
{
	static const u32 features[] = {
		[VCPU_EL1]	= 0,
		[VCPU_EL2]	= BIT(KVM_ARM_VCPU_HAS_EL2),
		[VCPU_EL2_E2H0]	= BIT(KVM_ARM_VCPU_HAS_EL2) |
				  BIT(KVM_ARM_VCPU_HAS_EL2_E2H0),
	};

	if (kind != VCPU_EL1 && !test_supports_el2())
		return "EL2 is not available";
	if (kind == VCPU_EL2_E2H0 && !kvm_has_cap(KVM_CAP_ARM_EL2_E2H0))
		return "HCR_EL2.E2H can't be clear";

	el2_features = features[kind];

	return NULL;
}

struct kvm_vm *create_vm(struct kvm_vcpu **vcpus)
{
	struct kvm_vcpu_init init;
	struct kvm_vm *vm;
	int i;

	vm = vm_create(NR_VCPUS);

	kvm_get_default_vcpu_target(vm, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	init.features[0] &= ~BIT(KVM_ARM_VCPU_HAS_EL2);
	init.features[0] |= el2_features;

	/* Not what the library does, e.g. leave address translation off. */
	for (i = 0; i < NR_VCPUS; i++) {
		vcpus[i] = __vm_vcpu_add(vm, i);
		vcpus[i]->init = init;
		if (i != CALLER)
			vcpus[i]->init.features[0] |= BIT(KVM_ARM_VCPU_POWER_OFF);
		vcpu_ioctl(vcpus[i], KVM_ARM_VCPU_INIT, &vcpus[i]->init);
	}

	kvm_arch_vm_finalize_vcpus(vm);

	return vm;
}

static bool forward_to_user(struct kvm_vm *vm, u32 function)
{
	struct kvm_smccc_filter filter = {
		.base		= function,
		.nr_functions	= 1,
		.action		= KVM_SMCCC_FILTER_FWD_TO_USER,
	};

	return !__kvm_device_attr_set(vm->fd, KVM_ARM_VM_SMCCC_CTRL,
				      KVM_ARM_VM_SMCCC_FILTER, &filter);
}

/* The filter is there to stay. */
bool set_start_exits(struct kvm_vm *vm, bool enable)
{
	return enable && forward_to_user(vm, PSCI_0_2_FN_CPU_ON) &&
	       forward_to_user(vm, PSCI_0_2_FN64_CPU_ON);
}

/* The MPIDR of the first 16 vCPUs is their ID in Aff0. */
void set_call(struct kvm_vcpu *vcpu, const struct start_call *call)
{
	set_own_regs(vcpu, guest_call, 0xca11);

	vcpu_set_reg(vcpu, GPR(X20), PSCI_0_2_FN64_CPU_ON);
	vcpu_set_reg(vcpu, GPR(X21), call->target);
	vcpu_set_reg(vcpu, GPR(X22), call->entry);
	vcpu_set_reg(vcpu, GPR(X23), call->arg);
}

void set_status_call(struct kvm_vcpu *vcpu, u64 id)
{
	const struct start_call call = { .target = id };

	set_call(vcpu, &call);
	vcpu_set_reg(vcpu, GPR(X20), PSCI_0_2_FN64_AFFINITY_INFO);
}

bool get_status(const struct guest_view *view)
{
	TEST_ASSERT(view->slot[X0] == PSCI_0_2_AFFINITY_LEVEL_ON ||
		    view->slot[X0] == PSCI_0_2_AFFINITY_LEVEL_OFF,
		    "AFFINITY_INFO returns %ld", view->slot[X0]);

	return view->slot[X0] == PSCI_0_2_AFFINITY_LEVEL_ON;
}

void set_suspend_call(struct kvm_vcpu *vcpu)
{
	const struct start_call call = { .target = 0 };

	set_call(vcpu, &call);
	vcpu_set_reg(vcpu, GPR(X20), PSCI_0_2_FN64_CPU_SUSPEND);
}

const char *enable_system_suspend(struct kvm_vm *vm, struct kvm_vcpu **vcpus)
{
	if (!kvm_has_cap(KVM_CAP_ARM_SYSTEM_SUSPEND))
		return "KVM_CAP_ARM_SYSTEM_SUSPEND is not available";

	vm_enable_cap(vm, KVM_CAP_ARM_SYSTEM_SUSPEND, 0);

	return NULL;
}

void set_system_suspend(struct kvm_vcpu *vcpu, const struct start_call *call)
{
	set_call(vcpu, call);
	vcpu_set_reg(vcpu, GPR(X20), PSCI_1_0_FN64_SYSTEM_SUSPEND);
	vcpu_set_reg(vcpu, GPR(X21), call->entry);
	vcpu_set_reg(vcpu, GPR(X22), call->arg);
}

bool get_system_suspend(struct kvm_vcpu *vcpu, struct start_call *call)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_SYSTEM_EVENT ||
	    run->system_event.type != KVM_SYSTEM_EVENT_SUSPEND)
		return false;

	call->target = vcpu->id;
	call->entry = vcpu_get_reg(vcpu, GPR(X1));
	call->arg = vcpu_get_reg(vcpu, GPR(X2));

	return true;
}

/* There is no such thing. */
bool let_kernel_resume(struct kvm_vm *vm)
{
	return false;
}

bool get_call(struct kvm_vcpu *vcpu, struct start_call *call)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_HYPERCALL ||
	    run->hypercall.nr != PSCI_0_2_FN64_CPU_ON)
		return false;

	call->target = vcpu_get_reg(vcpu, GPR(X1));
	call->entry = vcpu_get_reg(vcpu, GPR(X2));
	call->arg = vcpu_get_reg(vcpu, GPR(X3));

	return true;
}

/* x1 to x3 are results as well, which PSCI has no use for. */
void answer_call(struct kvm_vcpu *vcpu, enum start_result result)
{
	static const long errors[] = {
		[START_OK]		= PSCI_RET_SUCCESS,
		[START_REFUSED]		= PSCI_RET_DENIED,
		[START_NO_SUCH_CPU]	= PSCI_RET_INVALID_PARAMS,
		[START_ALREADY_ON]	= PSCI_RET_ALREADY_ON,
	};

	vcpu_set_reg(vcpu, GPR(X0), errors[result]);
	vcpu_set_reg(vcpu, GPR(X1), 0);
	vcpu_set_reg(vcpu, GPR(X2), 0);
	vcpu_set_reg(vcpu, GPR(X3), 0);
}

enum start_result get_result(const struct guest_view *view)
{
	switch ((long)view->slot[X0]) {
	case PSCI_RET_SUCCESS:
		return START_OK;
	case PSCI_RET_DENIED:
		return START_REFUSED;
	case PSCI_RET_INVALID_PARAMS:
		return START_NO_SUCH_CPU;
	case PSCI_RET_ALREADY_ON:
		return START_ALREADY_ON;
	case PSCI_0_2_FN64_CPU_ON:
	case PSCI_1_0_FN64_SYSTEM_SUSPEND:
		return START_IGNORED;
	default:
		return START_UNKNOWN;
	}
}

void set_start_regs(struct kvm_vcpu *vcpu, const struct start_call *call)
{
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), call->entry);
	vcpu_set_reg(vcpu, GPR(X0), call->arg);
}

static u64 own_reg(int i, u64 life)
{
	return i == X19 ? VIEW_GPA : life << 48 | i;
}

void set_own_regs(struct kvm_vcpu *vcpu, const char *entry, u64 life)
{
	int i;

	for (i = 0; i < NR_GPRS; i++)
		vcpu_set_reg(vcpu, GPR(i), own_reg(i, life));

	vcpu_set_reg(vcpu, ctxt_reg_alias(vcpu, SYS_SP_EL1), own_reg(SP, life));
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TPIDR_EL1),
		     own_reg(TPIDR_EL1, life));
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), code_gpa(vcpu->vm, entry));
}

static void check_others(const struct guest_view *view)
{
	int i;

	for (i = 0; i < NR_VIEW; i++)
		TEST_ASSERT(view->seen[i], "Slot %d is not in view", i);

	TEST_ASSERT_EQ(view->slot[CURRENTEL], (el2_features ? 2 : 1) << 2);
	TEST_ASSERT_EQ(view->slot[DAIF], RESET_DAIF);
	TEST_ASSERT(!(view->slot[SCTLR_EL1] & SCTLR_ELx_M),
		    "SCTLR_EL1 is 0x%lx", view->slot[SCTLR_EL1]);
}

/* KVM zeroes what the PSCI specification leaves undefined. */
void check_start_view(const struct guest_view *view, u64 id, u64 arg)
{
	int i;

	for (i = 0; i < NR_GPRS; i++) {
		u64 want = i == X0 ? arg : 0;

		TEST_ASSERT(view->slot[i] == want,
			    "x%d is 0x%lx instead of 0x%lx", i, view->slot[i],
			    want);
	}

	check_others(view);
	if (!el2_features)
		TEST_ASSERT_EQ(view->slot[SP], 0);
	TEST_ASSERT_EQ(view->slot[MPIDR_EL1] & 0xff, id);
}

void check_own_view(const struct guest_view *view, u64 life)
{
	int i;

	for (i = 0; i < NR_GPRS; i++)
		TEST_ASSERT(view->slot[i] == own_reg(i, life),
			    "x%d is 0x%lx instead of 0x%lx", i, view->slot[i],
			    own_reg(i, life));

	check_others(view);
	TEST_ASSERT_EQ(view->slot[SP], own_reg(SP, life));
	TEST_ASSERT_EQ(view->slot[TPIDR_EL1], own_reg(TPIDR_EL1, life));
}

/* Some of what a guest sets up for its SGIs and PPIs, and a pending SGI. */
static const struct {
	u32 group;
	u32 reg;
	u64 value;
} local_irqs[] = {
	{ KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, GICR_PENDBASER, 0x10000 },
	{ KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, SZ_64K + GICR_ISENABLER0, 0x0800ffff },
	{ KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, SZ_64K + GICR_IPRIORITYR0, 0x80a0c0e0 },
	{ KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, SZ_64K + GICD_ISPENDR, 0x10 },
	{ KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, SYS_ICC_PMR_EL1, 0xf0 },
	{ KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, SYS_ICC_IGRPEN1_EL1, 1 },
};

/* As KVM returns them. */
static u64 dirty_values[ARRAY_SIZE(local_irqs)];

static u64 local_irq_attr(struct kvm_vcpu *vcpu, int i)
{
	u64 reg = local_irqs[i].reg;

	if (local_irqs[i].group == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS)
		reg = KVM_ARM64_SYS_REG(reg) & KVM_DEV_ARM_VGIC_SYSREG_INSTR_MASK;

	/* The affinity is the ID, see set_call(). */
	return (u64)vcpu->id << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT | reg;
}

static u64 get_local_irq(struct kvm_vcpu *vcpu, int i)
{
	u64 value = 0;

	kvm_device_attr_get(vcpu->vm->arch.gic_fd, local_irqs[i].group,
			    local_irq_attr(vcpu, i), &value);

	return value;
}

static void set_local_irq(struct kvm_vcpu *vcpu, int i, u64 value)
{
	kvm_device_attr_set(vcpu->vm->arch.gic_fd, local_irqs[i].group,
			    local_irq_attr(vcpu, i), &value);
}

bool dirty_local_irqs(struct kvm_vcpu *vcpu)
{
	u64 clean;
	int i;

	if (!vcpu->vm->arch.has_gic)
		return false;

	for (i = 0; i < ARRAY_SIZE(local_irqs); i++) {
		clean = get_local_irq(vcpu, i);
		set_local_irq(vcpu, i, local_irqs[i].value);
		dirty_values[i] = get_local_irq(vcpu, i);
		TEST_ASSERT(dirty_values[i] != clean, "Register %d can't be set",
			    i);
	}

	return true;
}

/* All or nothing. */
bool local_irqs_dirty(struct kvm_vcpu *vcpu)
{
	bool dirty = get_local_irq(vcpu, 0) == dirty_values[0];
	u64 value;
	int i;

	for (i = 1; i < ARRAY_SIZE(local_irqs); i++) {
		value = get_local_irq(vcpu, i);
		TEST_ASSERT((value == dirty_values[i]) == dirty,
			    "Register %d is 0x%lx, which was 0x%lx, unlike others",
			    i, value, dirty_values[i]);
	}

	return dirty;
}

#define WAKEUP_PPI	22

static void set_gic_reg(struct kvm_vcpu *vcpu, u32 group, u64 attr, u64 value)
{
	attr |= (u64)vcpu->id << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT;
	kvm_device_attr_set(vcpu->vm->arch.gic_fd, group, attr, &value);
}

static u64 icc_attr(u64 reg)
{
	return KVM_ARM64_SYS_REG(reg) & KVM_DEV_ARM_VGIC_SYSREG_INSTR_MASK;
}

/* A PPI, of a GIC that is set up like a guest does, before or after a reset. */
void set_wakeup_event(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events = {
		.exception.serror_pending = true,
	};

	/* An SError is a wakeup event even if it is masked. */
	if (!vcpu->vm->arch.has_gic) {
		vcpu_ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events);
		return;
	}

	set_gic_reg(vcpu, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_CTLR,
		    GICD_CTLR_ARE_NS | GICD_CTLR_ENABLE_SS_G1);
	set_gic_reg(vcpu, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
		    SZ_64K + GICR_ISENABLER0, BIT(WAKEUP_PPI));
	set_gic_reg(vcpu, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
		    icc_attr(SYS_ICC_PMR_EL1), 0xf0);
	set_gic_reg(vcpu, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
		    icc_attr(SYS_ICC_IGRPEN1_EL1), 1);
	kvm_irq_line(vcpu->vm, KVM_ARM_IRQ_TYPE_PPI << KVM_ARM_IRQ_TYPE_SHIFT |
		     vcpu->id << KVM_ARM_IRQ_VCPU_SHIFT | WAKEUP_PPI, 1);
}
