// SPDX-License-Identifier: GPL-2.0-only
/*
 * The arm64 part of vcpu_reset_test: what a vCPU can be reset from
 */
#include <linux/bits.h>
#include <linux/psci.h>
#include <asm/cputype.h>

#include "arch_timer.h"
#include "gic.h"
#include "gic_v3.h"
#include "processor.h"
#include "vcpu_reset_test.h"
#include "vgic.h"

/* EL1 is AArch32. */
#define EL1_32BIT		RESET_ARCH_FLAG

/* What L2 may access, for HCR_EL2.E2H == 0 */
#define CNTHCTL_EL1PCTEN	BIT(0)
#define CNTHCTL_EL1PCEN		BIT(1)

#define PMU_PPI			23
#define VTIMER_PPI		27
#define PTIMER_PPI		30
#define SGI			5

/* Supervisor mode, with SError, IRQ and FIQ masked. */
#define PSTATE_AA32_SVC		0x1d3

#define NR_GPRS			31
#define GPR(i)			ARM64_CORE_REG(regs.regs[i])

/* The vCPUs that the host has. */
enum {
	KIND_EL1,
	/* With EL2, where HCR_EL2.E2H is set: the guest runs there. */
	KIND_EL2,
	/* With EL2, where HCR_EL2.E2H is clear: L2 runs, stage 2 is off. */
	KIND_L2,
};

static unsigned int kind;

static u32 guest_nr_vcpus;
static bool guest_has_el2;
static bool guest_has_gic;
static bool guest_has_pmu;

/* HVC is for the guest's own hypervisor if it has EL2. */
#define guest_smccc(...)			\
do {						\
	if (guest_has_el2)			\
		smccc_smc(__VA_ARGS__);		\
	else					\
		smccc_hvc(__VA_ARGS__);		\
} while (0)

/* ---- The vCPU and its configuration ------------------------------------- */

void arch_requirements(void)
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VCPU_EVENTS));
}

unsigned int arch_nr_kinds(void)
{
	if (!test_supports_el2())
		return KIND_EL1 + 1;

	return (kvm_has_cap(KVM_CAP_ARM_EL2_E2H0) ? KIND_L2 : KIND_EL2) + 1;
}

const char *arch_select_kind(unsigned int k)
{
	static const char * const names[] = {
		[KIND_EL1]	= "",
		[KIND_EL2]	= "EL2: ",
		[KIND_L2]	= "L2: ",
	};

	kind = k;

	return names[k];
}

/* KVM unmaps the stage 2 of L2 after a reset, for all that L2 could address. */
bool arch_kind_is_fast(void)
{
	return kind != KIND_L2;
}

static bool has_pmu(void)
{
	return kvm_has_cap(KVM_CAP_ARM_PMU_V3) && kvm_arch_has_default_irqchip();
}

static void get_init(struct reset_env *env, u32 id, struct kvm_vcpu_init *init)
{
	kvm_get_default_vcpu_target(env->vm, init);
	init->features[0] &= ~BIT(KVM_ARM_VCPU_HAS_EL2);
	if (kind != KIND_EL1)
		init->features[0] |= BIT(KVM_ARM_VCPU_HAS_EL2);
	if (kind == KIND_L2)
		init->features[0] |= BIT(KVM_ARM_VCPU_HAS_EL2_E2H0);
	init->features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);

	if (env->c->flags & EL1_32BIT) {
		init->features[0] |= BIT(KVM_ARM_VCPU_EL1_32BIT);
	} else {
		if (kvm_has_cap(KVM_CAP_ARM_SVE))
			init->features[0] |= BIT(KVM_ARM_VCPU_SVE);
		if (kvm_has_cap(KVM_CAP_ARM_PTRAUTH_ADDRESS) &&
		    kvm_has_cap(KVM_CAP_ARM_PTRAUTH_GENERIC))
			init->features[0] |= BIT(KVM_ARM_VCPU_PTRAUTH_ADDRESS) |
					     BIT(KVM_ARM_VCPU_PTRAUTH_GENERIC);
	}
	if (has_pmu())
		init->features[0] |= BIT(KVM_ARM_VCPU_PMU_V3);

	/* As VMMs do it: all but the first are off. */
	if (id)
		init->features[0] |= BIT(KVM_ARM_VCPU_POWER_OFF);
}

struct kvm_vm *arch_vm_create(struct reset_env *env, u32 nr_vcpus)
{
	u64 nr_pages = env->c->flags & RESET_DIRTY_RING ? 2048 : 256;
	struct kvm_vm *vm = __vm_create(VM_SHAPE_DEFAULT, nr_vcpus, nr_pages);

	vm_init_descriptor_tables(vm);
	write_guest_global(vm, guest_nr_vcpus, nr_vcpus);
	write_guest_global(vm, guest_has_el2, kind != KIND_EL1);
	write_guest_global(vm, guest_has_gic, vm->arch.has_gic);
	write_guest_global(vm, guest_has_pmu, has_pmu());

	return vm;
}

static void finalize_sve(struct kvm_vcpu *vcpu)
{
	int feature = KVM_ARM_VCPU_SVE;

	if (vcpu->init.features[0] & BIT(KVM_ARM_VCPU_SVE))
		vcpu_ioctl(vcpu, KVM_ARM_VCPU_FINALIZE, &feature);
}

struct kvm_vcpu *arch_vcpu_create(struct reset_env *env, u32 id)
{
	struct kvm_vcpu *vcpu = __vm_vcpu_add(env->vm, id);

	/* Not what the library does, e.g. leave address translation off. */
	get_init(env, id, &vcpu->init);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &vcpu->init);
	finalize_sve(vcpu);

	return vcpu;
}

static void copy_sys_reg(struct kvm_vcpu *from, struct kvm_vcpu *to, u64 reg)
{
	vcpu_set_reg(to, reg, vcpu_get_reg(from, reg));
}

/* Where the guest has what @reg is for at EL1. */
#define guest_reg(vcpu, reg)					\
	(kind == KIND_EL2 ? ctxt_reg_alias(vcpu, SYS_##reg) :	\
			    KVM_ARM64_SYS_REG(SYS_##reg))

/* The library knows EL1 and EL2, but has nothing that runs below EL2. */
static struct kvm_vcpu *l2_helper_create(struct reset_env *env, u32 id)
{
	gva_t stack = vm_alloc(env->vm, DEFAULT_STACK_PGS * getpagesize(),
			       DEFAULT_GUEST_STACK_VADDR_MIN);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(env->vm, id), *el1;
	struct kvm_vm *vm = vm_create(1);
	struct kvm_vcpu_init init;
	extern char vectors;

	kvm_get_default_vcpu_target(vm, &init);
	init.features[0] &= ~BIT(KVM_ARM_VCPU_HAS_EL2);
	el1 = aarch64_vcpu_add(vm, 0, &init, NULL);

	get_init(env, 0, &vcpu->init);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &vcpu->init);
	finalize_sve(vcpu);

	copy_sys_reg(el1, vcpu, KVM_ARM64_SYS_REG(SYS_SCTLR_EL1));
	copy_sys_reg(el1, vcpu, KVM_ARM64_SYS_REG(SYS_TCR_EL1));
	copy_sys_reg(el1, vcpu, KVM_ARM64_SYS_REG(SYS_MAIR_EL1));
	copy_sys_reg(el1, vcpu, KVM_ARM64_SYS_REG(SYS_CPACR_EL1));
	kvm_vm_free(vm);

	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TTBR0_EL1), env->vm->mmu.pgd);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_VBAR_EL1), (u64)&vectors);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_HCR_EL2), HCR_EL2_RW);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_CNTHCTL_EL2),
		     CNTHCTL_EL1PCTEN | CNTHCTL_EL1PCEN);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(sp_el1),
		     stack + DEFAULT_STACK_PGS * getpagesize());
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pstate),
		     PSR_MODE_EL1h | PSR_D_BIT | PSR_A_BIT | PSR_I_BIT | PSR_F_BIT);

	return vcpu;
}

struct kvm_vcpu *arch_helper_create(struct reset_env *env, u32 id)
{
	struct kvm_vcpu_init init;
	struct kvm_vcpu *vcpu;

	if (env->c->flags & EL1_32BIT)
		return arch_vcpu_create(env, id);

	if (kind == KIND_L2)
		return l2_helper_create(env, id);

	get_init(env, 0, &init);
	vcpu = aarch64_vcpu_add(env->vm, id, &init, NULL);
	finalize_sve(vcpu);
	vcpu_init_descriptor_tables(vcpu);

	return vcpu;
}

void arch_vm_finalize(struct reset_env *env)
{
	struct kvm_vcpu *vcpu;
	int irq = PMU_PPI;

	kvm_arch_vm_finalize_vcpus(env->vm);

	list_for_each_entry(vcpu, &env->vm->vcpus, list) {
		if (!has_pmu())
			break;

		vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_PMU_V3_CTRL,
				     KVM_ARM_VCPU_PMU_V3_IRQ, &irq);
		vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_PMU_V3_CTRL,
				     KVM_ARM_VCPU_PMU_V3_INIT, NULL);
	}

	/*
	 * With EL2, which bits of a register are there depends on the ID registers,
	 * which are final as soon as a vCPU of the VM is about to run.  From then on
	 * the bits read as they are, for a vCPU that has never run as well.
	 */
	if (kind != KIND_EL1)
		vcpu_run_immediate_exit(env->helper);
}

void arch_vm_free(struct reset_env *env)
{
}

void arch_boot(struct reset_env *env, struct kvm_vcpu *vcpu, gva_t stack,
	       void *guest_code, u64 arg)
{
	int i;

	for (i = 0; i < NR_GPRS; i++)
		vcpu_set_reg(vcpu, GPR(i), 0);

	if (kind != KIND_EL1)
		copy_sys_reg(env->helper, vcpu, KVM_ARM64_SYS_REG(SYS_HCR_EL2));
	if (kind == KIND_L2)
		copy_sys_reg(env->helper, vcpu, KVM_ARM64_SYS_REG(SYS_CNTHCTL_EL2));

	copy_sys_reg(env->helper, vcpu, guest_reg(vcpu, SCTLR_EL1));
	copy_sys_reg(env->helper, vcpu, guest_reg(vcpu, TCR_EL1));
	copy_sys_reg(env->helper, vcpu, guest_reg(vcpu, MAIR_EL1));
	copy_sys_reg(env->helper, vcpu, guest_reg(vcpu, TTBR0_EL1));
	copy_sys_reg(env->helper, vcpu, guest_reg(vcpu, CPACR_EL1));
	copy_sys_reg(env->helper, vcpu, guest_reg(vcpu, VBAR_EL1));
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TPIDR_EL1), vcpu->id);
	vcpu_set_reg(vcpu, kind == KIND_EL2 ? ctxt_reg_alias(vcpu, SYS_SP_EL1) :
					      ARM64_CORE_REG(sp_el1), stack);
	vcpu_set_reg(vcpu, GPR(0), arg);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), (u64)guest_code);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pstate),
		     (kind == KIND_EL2 ? PSR_MODE_EL2h : PSR_MODE_EL1h) |
		     PSR_D_BIT | PSR_A_BIT | PSR_I_BIT | PSR_F_BIT);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
}

void arch_remap(struct reset_env *env, gva_t gva, gpa_t gpa)
{
	virt_arch_pg_map(env->vm, gva, gpa);
}

void arch_copy_vcpu(struct kvm_vcpu *from, struct kvm_vcpu *to)
{
	struct kvm_vcpu_events events;

	vcpu_copy_reg_list(from, to);
	vcpu_events_get(from, &events);
	vcpu_events_set(to, &events);
	vcpu_set_mp_state(to, vcpu_get_mp_state(from));
}

/* ---- What the guest does ------------------------------------------------- */

static void guest_fill_fp(void)
{
	asm volatile("dup	v0.2d, %0\n\t"
		     "dup	v15.2d, %0\n\t"
		     "dup	v31.2d, %0\n\t"
		     "msr	fpsr, %1\n\t"
		     "msr	fpcr, %2\n\t"
		     : : "r" (0x5eed5eed5eed5eedul), "r" (0x1ful),
			 "r" (0x00c00000ul) : "v0", "v15", "v31");
}

static void guest_sgi(void)
{
	u64 id = guest_get_vcpuid();

	write_sysreg_s((u64)SGI << 24 | BIT(id), SYS_ICC_SGI1R_EL1);
	isb();
}

void arch_guest_first_life(gva_t scratch_gva, gpa_t scratch_gpa)
{
	guest_fill_fp();

	write_sysreg(0x5eed0001ul, tpidr_el0);
	write_sysreg(0x5eed0002ul, tpidrro_el0);
	write_sysreg(0x5eed0003ul, contextidr_el1);
	write_sysreg(0x5eed0004ul, far_el1);
	write_sysreg(0x5eed0005ul, ttbr1_el1);
	write_sysreg(0x5eed0008ul, elr_el1);
	write_sysreg(0x3c5ul, spsr_el1);
	write_sysreg(0x5eed0000ul, dbgbvr0_el1);
	write_sysreg(0x5eed0000ul, dbgwvr0_el1);
	write_sysreg(0x1e4ul, dbgbcr0_el1);
	write_sysreg(0ul, oslar_el1);

	if (guest_has_pmu) {
		write_sysreg(BIT(31), pmcntenset_el0);
		write_sysreg(BIT(31), pmintenset_el1);
		write_sysreg(0xfffffff0ul, pmccntr_el0);
		write_sysreg(read_sysreg(pmcr_el0) | 1, pmcr_el0);
		write_sysreg(3, pmselr_el0);
		isb();
	}

	/* PSTATE.I is set, interrupts stay pending. */
	if (guest_has_gic) {
		gic_init(GIC_V3, guest_nr_vcpus);
		gic_irq_enable(VTIMER_PPI);
		gic_irq_enable(PTIMER_PPI);
		gic_irq_enable(SGI);
		gic_set_priority(VTIMER_PPI, 0x80);
		guest_sgi();
	}

	timer_set_cval(VIRTUAL, timer_get_cntct(VIRTUAL) + 100);
	timer_set_ctl(VIRTUAL, CTL_ENABLE);
	timer_set_cval(PHYSICAL, timer_get_cntct(PHYSICAL) + 100);
	timer_set_ctl(PHYSICAL, CTL_ENABLE);
}

/* There is no handler for interrupts, any of them is reported as a failure. */
void arch_guest_second_life(void)
{
	u64 start;

	GUEST_ASSERT_EQ(timer_get_ctl(VIRTUAL) & CTL_ENABLE, 0);
	GUEST_ASSERT_EQ(timer_get_ctl(PHYSICAL) & CTL_ENABLE, 0);

	/* Nothing counts, the rest of the PMU is unknown but for the twin. */
	if (guest_has_pmu) {
		GUEST_ASSERT_EQ(read_sysreg(pmcr_el0) & 1, 0);
		start = read_sysreg(pmccntr_el0);
		GUEST_ASSERT_EQ(read_sysreg(pmccntr_el0), start);
	}

	if (guest_has_gic) {
		gic_init(GIC_V3, guest_nr_vcpus);
		gic_irq_enable(VTIMER_PPI);
		gic_irq_enable(PTIMER_PPI);
		gic_irq_enable(PMU_PPI);
		gic_irq_enable(SGI);
	}

	asm volatile("msr daifclr, #6" : : : "memory");
	start = timer_get_cntct(VIRTUAL);
	while (timer_get_cntct(VIRTUAL) - start < usec_to_cycles(2000))
		cpu_relax();
	asm volatile("msr daifset, #6" : : : "memory");
}

/* ---- Exits to leave open, and the like ----------------------------------- */

static void guest_wfi(void)
{
	for (;;)
		wfi();
}

static void guest_system_suspend(void)
{
	struct arm_smccc_res res;

	guest_smccc(PSCI_1_0_FN64_SYSTEM_SUSPEND, 0x1000, 0, 0, 0, 0, 0, 0, &res);
	GUEST_FAIL("The old life goes on");
}

static void guest_system_reset(void)
{
	struct arm_smccc_res res;

	guest_smccc(PSCI_0_2_FN_SYSTEM_RESET, 0, 0, 0, 0, 0, 0, 0, &res);
	GUEST_FAIL("The old life goes on");
}

static void guest_cpu_off(void)
{
	struct arm_smccc_res res;

	guest_smccc(PSCI_0_2_FN_CPU_OFF, 0, 0, 0, 0, 0, 0, 0, &res);
	GUEST_FAIL("The old life goes on");
}

static void configure_system_suspend(struct reset_env *env)
{
	vm_enable_cap(env->vm, KVM_CAP_ARM_SYSTEM_SUSPEND, 0);
}

static void prepare_answered_exit(struct reset_env *env)
{
	prepare_open_exit(env);
	memset(env->vcpu->run->mmio.data, 0xa5, sizeof(env->vcpu->run->mmio.data));
}

static void prepare_interrupted(struct reset_env *env)
{
	boot(env, env->c->guest_code, 0);
	run_interrupted(env->vcpu);
}

static void guest_cpu_on(u64 mpidr)
{
	struct arm_smccc_res res;

	guest_smccc(PSCI_0_2_FN64_CPU_ON, mpidr, 0x1000, 0xdead, 0, 0, 0, 0, &res);
	GUEST_ASSERT_EQ(res.a0, PSCI_RET_SUCCESS);
	GUEST_SYNC(1);
}

static void guest_send_sgi(u64 mpidr)
{
	gic_init(GIC_V3, guest_nr_vcpus);
	write_sysreg_s((u64)SGI << 24 | BIT(mpidr & 0xf), SYS_ICC_SGI1R_EL1);
	isb();
	GUEST_SYNC(1);
}

static void run_helper(struct reset_env *env, void *guest_code)
{
	u64 mpidr = vcpu_get_reg(env->vcpu, KVM_ARM64_SYS_REG(SYS_MPIDR_EL1));

	vcpu_set_reg(env->helper, KVM_ARM64_SYS_REG(SYS_TPIDR_EL1), env->helper->id);
	vcpu_arch_set_entry_point(env->helper, guest_code);
	vcpu_args_set(env->helper, 1, mpidr & MPIDR_HWID_BITMASK);
	run_to_sync(env->helper);
}

static void prepare_cpu_on(struct reset_env *env)
{
	prepare_ran(env);
	vcpu_run_immediate_exit(env->vcpu);
	vcpu_set_mp_state(env->vcpu, KVM_MP_STATE_STOPPED);
	run_helper(env, guest_cpu_on);
}

/* With an exit open that the queued reset ends. */
static void prepare_cpu_on_open(struct reset_env *env)
{
	prepare_answered_exit(env);
	vcpu_set_mp_state(env->vcpu, KVM_MP_STATE_STOPPED);
	run_helper(env, guest_cpu_on);
}

static void prepare_sgi(struct reset_env *env)
{
	TEST_REQUIRE(env->vm->arch.has_gic);
	prepare_ran(env);
	run_helper(env, guest_send_sgi);
}

static void prepare_ppi(struct reset_env *env)
{
	TEST_REQUIRE(env->vm->arch.has_gic);
	prepare_ran(env);
	kvm_irq_line(env->vm, KVM_ARM_IRQ_TYPE_PPI << KVM_ARM_IRQ_TYPE_SHIFT |
		     env->vcpu->id << KVM_ARM_IRQ_VCPU_SHIFT | 22, 1);
}

static void prepare_serror(struct reset_env *env)
{
	struct kvm_vcpu_events events = {
		.exception.serror_pending = true,
	};

	prepare_ran(env);
	vcpu_events_set(env->vcpu, &events);
}

/* The exception is pending until somebody looks at the registers. */
static void prepare_abort(struct reset_env *env)
{
	struct kvm_vcpu_events events = {
		.exception.ext_dabt_pending = true,
	};

	prepare_ran(env);
	vcpu_events_set(env->vcpu, &events);
}

static void prepare_abort_open(struct reset_env *env)
{
	struct kvm_vcpu_events events = {
		.exception.ext_dabt_pending = true,
	};

	prepare_open_exit(env);
	vcpu_events_set(env->vcpu, &events);
}

static void guest_loop(void)
{
	for (;;)
		asm volatile("nop");
}

static void configure_its(struct reset_env *env)
{
	TEST_REQUIRE(env->vm->arch.has_gic);
	vgic_its_setup(env->vm);
}

/* The redistributor looks for pending LPIs in memory. */
static void prepare_lpis(struct reset_env *env)
{
	u64 mpidr = vcpu_get_reg(env->vcpu, KVM_ARM64_SYS_REG(SYS_MPIDR_EL1));
	/* The vCPU's ID is small enough for Aff0. */
	u64 attr = (mpidr & 0xff) << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT | GICR_CTLR;
	u32 ctlr = GICR_CTLR_ENABLE_LPIS;

	prepare_ran(env);
	kvm_device_attr_set(env->vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
			    attr, &ctlr);
	kvm_device_attr_get(env->vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
			    attr, &ctlr);
	TEST_ASSERT(ctlr & GICR_CTLR_ENABLE_LPIS, "LPIs can not be enabled");
}

static void configure_singlestep(struct reset_env *env)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
	};

	vcpu_guest_debug_set(env->vcpu, &debug);
}

static void prepare_singlestep(struct reset_env *env)
{
	boot(env, guest_loop, 0);
	run_to_exit(env->vcpu, KVM_EXIT_DEBUG);
	run_to_exit(env->vcpu, KVM_EXIT_DEBUG);
}

static void configure_singlestep_mmio(struct reset_env *env)
{
	configure_mmio(env);
	configure_singlestep(env);
}

/* The load has been completed, and the debugger is yet to be told. */
static void prepare_singlestep_mmio(struct reset_env *env)
{
	boot(env, guest_mmio_load, 0);
	do {
		vcpu_run(env->vcpu);
	} while (env->vcpu->run->exit_reason == KVM_EXIT_DEBUG);
	TEST_ASSERT_KVM_EXIT_REASON(env->vcpu, KVM_EXIT_MMIO);
	vcpu_run_immediate_exit(env->vcpu);
}

/* The debugger is userspace's and stays attached. */
static void resume_singlestep(struct reset_env *env)
{
	struct kvm_guest_debug debug = {};

	boot(env, guest_loop, 0);
	run_to_exit(env->vcpu, KVM_EXIT_DEBUG);
	TEST_ASSERT_EQ(vcpu_get_reg(env->vcpu, ARM64_CORE_REG(regs.pc)),
		       (u64)guest_loop + 4);
	vcpu_guest_debug_set(env->vcpu, &debug);
	reset_vcpu(env->vcpu);
}

#define OPEN_EXIT(_name, _code, _reason, _configure, _prepare)	\
	{							\
		.name = "open exit: " _name,			\
		.configure = _configure,			\
		.prepare = _prepare,				\
		.guest_code = _code,				\
		.arg = _reason,					\
	}

static void require_el1_32bit(void)
{
	TEST_REQUIRE(kind == KIND_EL1);
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_ARM_EL1_32BIT));
}

const struct reset_case arch_cases[] = {
	{ .name = "STOPPED", .prepare = prepare_mp_state,
	  .arg = KVM_MP_STATE_STOPPED },
	{ .name = "RUNNABLE", .prepare = prepare_mp_state,
	  .arg = KVM_MP_STATE_RUNNABLE },
	{ .name = "SUSPENDED", .prepare = prepare_mp_state,
	  .arg = KVM_MP_STATE_SUSPENDED },
	{ .name = "WFI", .prepare = prepare_interrupted, .guest_code = guest_wfi },
	{ .name = "CPU_OFF", .prepare = prepare_interrupted,
	  .guest_code = guest_cpu_off },
	{ .name = "open exit: MMIO load", .configure = configure_mmio,
	  .prepare = prepare_answered_exit, .guest_code = guest_mmio_load,
	  .arg = KVM_EXIT_MMIO, .flags = RESET_DIRTY },
	OPEN_EXIT("MMIO store", guest_mmio_store, KVM_EXIT_MMIO, configure_mmio,
		  prepare_answered_exit),
	OPEN_EXIT("MMIO load, then an abort", guest_mmio_load, KVM_EXIT_MMIO,
		  configure_mmio, prepare_abort_open),
	OPEN_EXIT("PSCI SYSTEM_SUSPEND", guest_system_suspend,
		  KVM_EXIT_SYSTEM_EVENT, configure_system_suspend,
		  prepare_open_exit),
	OPEN_EXIT("PSCI SYSTEM_RESET", guest_system_reset, KVM_EXIT_SYSTEM_EVENT,
		  NULL, prepare_open_exit),
	{ .name = "CPU_ON queued", .prepare = prepare_cpu_on },
	OPEN_EXIT("CPU_ON queued over MMIO", guest_mmio_load, KVM_EXIT_MMIO,
		  configure_mmio, prepare_cpu_on_open),
	{ .name = "pending SGI", .prepare = prepare_sgi },
	{ .name = "pending PPI", .prepare = prepare_ppi },
	{ .name = "LPIs enabled", .configure = configure_its,
	  .prepare = prepare_lpis },
	{ .name = "pending SError", .prepare = prepare_serror },
	{ .name = "pending abort", .prepare = prepare_abort },
	{ .name = "single-step", .configure = configure_singlestep,
	  .prepare = prepare_singlestep, .resume = resume_singlestep },
	{ .name = "single-step, MMIO load", .configure = configure_singlestep_mmio,
	  .prepare = prepare_singlestep_mmio, .resume = resume_singlestep },
	{ .name = "32-bit EL1, created", .require = require_el1_32bit,
	  .flags = EL1_32BIT | RESET_NEVER_RUN },
	{ .name = "32-bit EL1, dirty 0", .require = require_el1_32bit,
	  .flags = EL1_32BIT | RESET_NEVER_RUN, .prepare = prepare_dirty },
	{ .name = "32-bit EL1, dirty 1", .require = require_el1_32bit,
	  .flags = EL1_32BIT | RESET_NEVER_RUN, .prepare = prepare_dirty,
	  .arg = 1 },
	{}
};

const struct vcpu_state_rule arch_allowed[] = {
	{}
};

#define CONSTANT	"constant"

const struct vcpu_state_rule arch_not_dirtied[] = {
	{ "events.exception.serror_has_esr",	CONSTANT },
	{ "events.exception.ext_dabt_pending",	"never reported" },
	{ "sys.S3_3_C9_C12_4",			"write-only" },	/* PMSWINC_EL0 */
	{ "sys.S3_0_C9_C14_6",			CONSTANT },	/* PMMIR_EL1 */
	{ "sys.S3_4_C3_C1_6",			CONSTANT },	/* HAFGRTR_EL2 */
	{ "gicr.CTLR",				"needs an ITS" },
	{ "gicr.TYPER*",			CONSTANT },
	{ "gicr.WAKER",				CONSTANT },
	{ "gicr.STATUSR",			CONSTANT },
	{ "gicr.ICFGR[01]",			CONSTANT },
	{ "icc.AP?R[123]_EL1",			"needs more bits of priority" },
	{ "ich.AP?R[123]_EL2",			"needs more bits of priority" },
	{ "icc.SRE_EL1",			CONSTANT },
	{}
};

/* The twin has the same value, whatever it is. */
void arch_check_reset(struct kvm_vcpu *vcpu)
{
	u64 pstate = vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.pstate));

	if (vcpu->init.features[0] & BIT(KVM_ARM_VCPU_EL1_32BIT))
		TEST_ASSERT_EQ(pstate, PSTATE_AA32_SVC);
	else
		TEST_ASSERT_EQ(pstate, (kind == KIND_EL1 ? PSR_MODE_EL1h : PSR_MODE_EL2h) |
				       PSR_D_BIT | PSR_A_BIT | PSR_I_BIT | PSR_F_BIT);
}

/* The GIC is a device: a VMM that resets the machine resets it, too. */
void arch_reset_devices(struct kvm_vcpu *vcpu, struct kvm_vcpu *twin)
{
	vcpu_copy_gic(twin, vcpu);
}

bool arch_skip_exit(struct kvm_vcpu *vcpu)
{
	return false;
}

void arch_guest_idle(void)
{
	wfi();
}

/* What two vCPUs of one VM are allowed to differ in. */
static void check_affinity(void *arg, const char *name, const char *want,
			   const char *got)
{
	TEST_ASSERT(!strcmp(name, "sys.MPIDR_EL1") ||
		    vcpu_state_match(vcpu_state_clocks, name),
		    "%s is %s instead of %s after a refusal", name, got, want);
}

/* Not initialized: there is nothing to reset, and nothing changes. */
void arch_test_refusals(void)
{
	static const struct reset_case c = { .name = "not initialized" };
	struct reset_env env = { .c = &c };
	struct vcpu_state *want, *got;
	struct kvm_vcpu *vcpu, *twin;
	int i, r;

	env.vm = arch_vm_create(&env, 2);
	vcpu = __vm_vcpu_add(env.vm, 0);
	twin = __vm_vcpu_add(env.vm, 1);

	for (i = 0; i < 2; i++) {
		r = __set_mp_state(vcpu, KVM_MP_STATE_RESET);
		TEST_ASSERT(r && errno == ENOEXEC,
			    "Not initialized: KVM_SET_MP_STATE returned %d (errno %d)",
			    r, errno);
	}

	get_init(&env, 0, &vcpu->init);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &vcpu->init);
	vcpu_ioctl(twin, KVM_ARM_VCPU_INIT, &vcpu->init);
	finalize_sve(vcpu);
	twin->init = vcpu->init;
	finalize_sve(twin);

	want = vcpu_state_get(twin);
	got = vcpu_state_get(vcpu);
	vcpu_state_diff(want, got, check_affinity, NULL);
	vcpu_state_free(want);
	vcpu_state_free(got);

	kvm_vm_free(env.vm);
}
