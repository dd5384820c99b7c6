// SPDX-License-Identifier: GPL-2.0-only
/*
 * The arm64 part of vcpu_reset_storm: PSCI, and a GICv3 with an ITS, which is a
 * device, i.e. a reset of a vCPU leaves it alone
 */
#include <unistd.h>

#include <linux/psci.h>
#include <linux/sizes.h>

#include "kvm_util.h"
#include "gic.h"
#include "gic_v3.h"
#include "gic_v3_its.h"
#include "processor.h"
#include "ucall_common.h"
#include "vcpu_reset_storm.h"
#include "vgic.h"

#define TABLES_SLOT	7
#define TABLES_GPA	0x10000000ul
#define COLL_TABLE	(TABLES_GPA + 0 * SZ_64K)
#define DEVICE_TABLE	(TABLES_GPA + 1 * SZ_64K)
#define ITT		(TABLES_GPA + 2 * SZ_64K)
#define CMDQ		(TABLES_GPA + 3 * SZ_64K)
#define PROP_TABLE	(TABLES_GPA + 4 * SZ_64K)
#define PEND_TABLE(id)	(TABLES_GPA + (5 + (id)) * SZ_64K)
#define TABLES_SIZE	((5 + STORM_CPUS) * SZ_64K)

/* SGIs have the number of the sender, the others come from userspace. */
#define PPI		22
#define PPI_TIMER	27
#define SPI(id)		(40 + (id))
#define LPI(id)		(8192 + (id))
#define DEVICE_ID	3

const char * const arch_storm_modes[] = {
	"CPU_ON is served by KVM",
	"CPU_ON is served by userspace",
	NULL
};

enum {
	COUNT_LPI,
};

const char * const arch_storm_counts[] = {
	[COUNT_LPI] = "LPIs that went along in tables",
	NULL
};

enum {
	KIND_SGI,
	KIND_LPI,
	KIND_SPI,
	KIND_PPI,
};

#define SETUP_DONE	(STORM_MMIO_GPA + 0xff8)

#define BOOT_DATA	(STORM_GPA + 0x8000)
#define BOOT_DATA_SIZE	256

/* Indices of struct storm_frame.regs, those of system registers in order */
enum {
	SP = 31,
	VBAR, ELR, SPSR, MDSCR, ESR, FAR, TPIDR_EL0, CONTEXTIDR, TTBR0, MAIR,
	CNTV_CTL, CNTP_CTL, SCTLR, FPCR, FPSR, D0,
	NR_REGS = D0 + 32,
	NR_SYSREGS = CNTV_CTL - VBAR,
};

struct boot_data {
	u64 ttbr0, tcr;
	u64 mair, sctlr;
	u64 cpacr, vbar;
	u64 sp, entry;
	u64 expect[NR_SYSREGS];
};

extern const char storm_boot[], storm_boot_end[];
asm("	.pushsection .text, \"ax\"\n"
"	.balign 64\n"
"storm_boot:\n"
"	.irp	i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30\n"
"	str	x\\i, [x0, #8 * \\i]\n"
"	.endr\n"
"	mov	x1, sp\n"
"	str	x1, [x0, #8 * 31]\n"
"	.set	slot, 32\n"
"	.irp	r, vbar_el1, elr_el1, spsr_el1, mdscr_el1, esr_el1, far_el1, tpidr_el0, contextidr_el1, ttbr0_el1, mair_el1, cntv_ctl_el0, cntp_ctl_el0, sctlr_el1\n"
"	mrs	x1, \\r\n"
"	str	x1, [x0, #8 * slot]\n"
"	.set	slot, slot + 1\n"
"	.endr\n"
"	mov	x1, #3 << 20\n"
"	msr	cpacr_el1, x1\n"
"	isb\n"
"	.irp	r, fpcr, fpsr\n"
"	mrs	x1, \\r\n"
"	str	x1, [x0, #8 * slot]\n"
"	.set	slot, slot + 1\n"
"	.endr\n"
"	.irp	i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
"	str	d\\i, [x0, #8 * slot]\n"
"	.set	slot, slot + 1\n"
"	.endr\n"
"	mov	x1, x0\n"
"	mrs	x0, mpidr_el1\n"
"	and	x0, x0, #0xff\n"
"	ldr	x2, =" __stringify(BOOT_DATA) "\n"
"	add	x2, x2, x0, lsl #8\n"
"	ldp	x3, x4, [x2]\n"
"	ldp	x5, x6, [x2, #16]\n"
"	ldp	x7, x8, [x2, #32]\n"
"	ldp	x9, x10, [x2, #48]\n"
"	msr	ttbr0_el1, x3\n"
"	msr	tcr_el1, x4\n"
"	msr	mair_el1, x5\n"
"	msr	cpacr_el1, x7\n"
"	msr	vbar_el1, x8\n"
"	msr	tpidr_el1, x0\n"
"	tlbi	vmalle1\n"
"	dsb	nsh\n"
"	isb\n"
"	msr	sctlr_el1, x6\n"
"	isb\n"
"	mov	sp, x9\n"
"	br	x10\n"
"	.ltorg\n"
"storm_boot_end:\n"
"	.popsection\n"
);

/* Each VM is created with the filter or without it. */
u64 arch_storm_toggles;

const struct vcpu_state_rule arch_storm_volatile[] = {
	{ "core.x0",		"started by another vCPU" },
	{ "core.pc",		"started by another vCPU" },
	{ "mp_state",		"started by another vCPU" },
	{ "gic*",		"a device" },
	{ "icc.*",		"a device" },
	{ "ich.*",		"a device" },
	{ "fw*",		"configuration" },
	{}
};

/* ---- The guest ---- */

static u64 psci(u64 function, u64 arg1, u64 arg2, u64 arg3)
{
	struct arm_smccc_res res;

	smccc_hvc(function, arg1, arg2, arg3, 0, 0, 0, 0, &res);

	return res.a0;
}

int guest_arch_start(u64 id, u64 target, u64 arg, u64 *epoch)
{
	long ret = psci(PSCI_0_2_FN64_CPU_ON, target, STORM_GPA, arg);

	GUEST_STORM_ASSERT(!ret || ret == PSCI_RET_ALREADY_ON, id, target, ret);

	return ret;
}

void guest_arch_stop(u64 id)
{
	psci(PSCI_0_2_FN_CPU_OFF, 0, 0, 0);
}

static void send_sgi(u64 target, u64 sgi)
{
	dsb(sy);
	write_sysreg_s(sgi << 24 | BIT(target), SYS_ICC_SGI1R_EL1);
	isb();
}

void guest_arch_send(u64 kind, u64 id, u64 target)
{
	send_sgi(target, id);
}

static u64 sgi_base(u64 id)
{
	return GICR_BASE_GVA + id * KVM_VGIC_V3_REDIST_SIZE + SZ_64K;
}

void guest_arch_poll(u64 id, bool sleep)
{
	struct storm_cpu_mem *me = &storm_guest->cpu[id];
	u32 intid;

	/*
	 * PPIs are level-triggered.  Userspace lowers the line when it sends the
	 * next one, so this one is disabled when it is taken.
	 */
	if (sleep || me->req[KIND_PPI][STORM_USER] != me->ack[KIND_PPI][STORM_USER])
		writel(BIT(PPI), sgi_base(id) + GICR_ISENABLER0);

	/* Masked interrupts end WFI as well. */
	if (sleep)
		asm volatile("dsb sy\n\twfi" : : : "memory");

	while ((intid = gic_get_and_ack_irq()) != IAR_SPURIOUS) {
		dsb(sy);
		if (intid < STORM_CPUS)
			guest_storm_ack(id, KIND_SGI, intid);
		else if (intid == LPI(id))
			guest_storm_ack(id, KIND_LPI, STORM_USER);
		else if (intid == SPI(id))
			guest_storm_ack(id, KIND_SPI, STORM_USER);
		else if (intid == PPI)
			writel(BIT(PPI), sgi_base(id) + GICR_ICENABLER0);
		else
			GUEST_STORM_ASSERT(false, id, intid, 0);
		gic_set_eoi(intid);
		if (intid == PPI)
			guest_storm_ack(id, KIND_PPI, STORM_USER);
	}
}

u64 guest_arch_time(void)
{
	u64 time;

	dsb(sy);
	isb();
	time = read_sysreg(cntvct_el0);
	isb();

	return time;
}

void guest_arch_begin(u64 id, struct storm_frame *frame)
{
	struct boot_data *data = (void *)(BOOT_DATA + id * BOOT_DATA_SIZE);
	int i;

	for (i = 0; i < NR_REGS; i++) {
		u64 val = frame->regs[i], want = 0;

		if (!i)
			want = (u64)frame;
		else if (i >= VBAR && i < CNTV_CTL)
			want = data->expect[i - VBAR];
		else if (i == CNTV_CTL || i == CNTP_CTL)
			val &= 3;
		else if (i == SCTLR)
			val &= 0x1005;
		GUEST_STORM_ASSERT(val == want, id, i, val);
	}

	/* The line of the timer is down. */
	GUEST_STORM_ASSERT(!(readl(sgi_base(id) + GICR_ISPENDR0) & BIT(PPI_TIMER)),
			   id, PPI_TIMER, 0);

	/* What an older life has acknowledged is an operating system's business. */
	write_sysreg_s(0, SYS_ICC_AP1R0_EL1);
	writel(~0, sgi_base(id) + GICR_ICACTIVER0);
	writel(BIT(SPI(id) % 32), GICD_BASE_GVA + GICD_ICACTIVER + SPI(id) / 32 * 4);
	isb();
}

void guest_arch_dirty(u64 id, u64 random)
{
	u64 target = random >> 8 & 7;
	long ret;

	switch (random & 15) {
	case 0:
		write_sysreg(random, tpidr_el0);
		write_sysreg(random, esr_el1);
		write_sysreg(random, far_el1);
		break;
	case 1:
		write_sysreg(random, elr_el1);
		write_sysreg(0x3c5, spsr_el1);
		write_sysreg(random & 0xff, contextidr_el1);
		break;
	case 2:
		write_sysreg(BIT(12), mdscr_el1);
		break;
	case 3 ... 4:
		/* Up at once, but not enabled in the GIC */
		write_sysreg(0, cntv_cval_el0);
		write_sysreg(1, cntv_ctl_el0);
		isb();
		break;
	case 5:
		write_sysreg(guest_arch_time() + random, cntv_cval_el0);
		write_sysreg(1, cntv_ctl_el0);
		break;
	case 6 ... 7:
		asm volatile("fmov d8, %0\n\tfmov d31, %0\n\tmsr fpsr, %0"
			     : : "r" (random & 0x1f));
		break;
	case 8:
		ret = psci(PSCI_0_2_FN64_AFFINITY_INFO, target, 0, 0);
		GUEST_STORM_ASSERT(ret == PSCI_0_2_AFFINITY_LEVEL_ON ||
				   (ret == PSCI_0_2_AFFINITY_LEVEL_OFF && target != id),
				   id, target, ret);
		break;
	case 9:
		ret = psci(PSCI_0_2_FN64_CPU_ON, id, STORM_GPA, 0);
		GUEST_STORM_ASSERT(ret == PSCI_RET_ALREADY_ON, id, target, ret);
		break;
	case 10:
		ret = psci(PSCI_0_2_FN64_CPU_ON, STORM_CPUS + target, STORM_GPA, 0);
		GUEST_STORM_ASSERT(ret == PSCI_RET_INVALID_PARAMS, id, target, ret);
		break;
	case 11:
		/* WFI, with an interrupt for sure */
		send_sgi(id, id);
		psci(PSCI_0_2_FN64_CPU_SUSPEND, 0, STORM_GPA, 0);
		break;
	case 12:
		/* Whatever doesn't turn off or suspend the vCPU or the system */
		if (BIT(random >> 12 & 31) & (BIT(0x1) | BIT(0x2) | BIT(0x8) | BIT(0x9) |
					      BIT(0xe) | BIT(0x12)))
			break;
		psci(0x84000000 | (random >> 12 & 31), -1, random, random);
		break;
	}
}

/* Once for each vCPU, before the storm: what the GIC keeps. */
static void guest_setup(u64 id)
{
	int i;

	gic_init(GIC_V3, STORM_CPUS);
	gic_rdist_enable_lpis(PROP_TABLE, SZ_64K, PEND_TABLE(id));
	for (i = 0; i < STORM_CPUS; i++)
		gic_irq_enable(i);
	gic_irq_enable(PPI);

	writeq(id, GICD_BASE_GVA + GICD_IROUTER + SPI(id) * 8);
	gic_irq_set_config(SPI(id), true);
	gic_irq_enable(SPI(id));

	if (id == STORM_CPUS - 1) {
		its_init(COLL_TABLE, SZ_64K, DEVICE_TABLE, SZ_64K, CMDQ, SZ_64K);
		its_send_mapd_cmd((void *)CMDQ, DEVICE_ID, ITT, SZ_64K, true);
		for (i = 0; i < STORM_CPUS; i++) {
			its_send_mapc_cmd((void *)CMDQ, i, i, true);
			its_send_mapti_cmd((void *)CMDQ, DEVICE_ID, i, i, LPI(i));
			its_send_invall_cmd((void *)CMDQ, i);
		}
	}

	for (;;)
		WRITE_ONCE(*(u64 *)SETUP_DONE, id);
}

/* ---- Userspace ---- */

void arch_storm_require(void)
{
	TEST_REQUIRE(kvm_arch_has_default_irqchip());
}

static struct kvm_vcpu_init vcpu_init;
static int its_fd;

void arch_storm_configure(void)
{
	if (kvm_has_cap(KVM_CAP_ARM_SYSTEM_SUSPEND))
		vm_enable_cap(storm.vm, KVM_CAP_ARM_SYSTEM_SUSPEND, 0);

	/* CPU_ON is either up to KVM or to userspace. */
	storm.toggled = storm.mode;
	if (storm.toggled) {
		struct kvm_smccc_filter filter = {
			.base = PSCI_0_2_FN64_CPU_ON,
			.nr_functions = 1,
			.action = KVM_SMCCC_FILTER_FWD_TO_USER,
		};

		kvm_device_attr_set(storm.vm->fd, KVM_ARM_VM_SMCCC_CTRL,
				    KVM_ARM_VM_SMCCC_FILTER, &filter);
	}
}

void arch_storm_create(u32 *rng)
{
	static const u64 expected[NR_SYSREGS] = {
		SYS_VBAR_EL1, 0, 0, SYS_MDSCR_EL1, SYS_ESR_EL1, SYS_FAR_EL1,
		SYS_TPIDR_EL0, SYS_CONTEXTIDR_EL1, SYS_TTBR0_EL1, SYS_MAIR_EL1,
	};
	struct kvm_vm *vm;
	struct ucall uc;
	int i, r;

	vm = vm_create(STORM_CPUS);
	storm.vm = vm;
	storm_add_memory(vm, storm_boot, storm_boot_end - storm_boot);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TABLES_GPA, TABLES_SLOT,
				    TABLES_SIZE / vm->page_size, 0);
	virt_map(vm, CMDQ, CMDQ, SZ_64K / vm->page_size);
	memset(addr_gpa2hva(vm, PROP_TABLE), LPI_PROP_ENABLED, SZ_64K);

	vm_init_descriptor_tables(vm);
	arch_storm_configure();

	kvm_get_default_vcpu_target(vm, &vcpu_init);
	vcpu_init.features[0] &= ~BIT(KVM_ARM_VCPU_HAS_EL2);
	vcpu_init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	for (i = 0; i < STORM_CPUS; i++) {
		struct boot_data *data = addr_gpa2hva(vm, BOOT_DATA + i * BOOT_DATA_SIZE);
		struct kvm_vcpu *vcpu;

		vcpu = aarch64_vcpu_add(vm, i, &vcpu_init, guest_setup);
		vcpu_init_descriptor_tables(vcpu);
		data->ttbr0 = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TTBR0_EL1));
		data->tcr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TCR_EL1));
		data->mair = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_MAIR_EL1));
		data->sctlr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_SCTLR_EL1));
		data->cpacr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_CPACR_EL1));
		data->vbar = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_VBAR_EL1));
		data->sp = vcpu_get_reg(vcpu, ARM64_CORE_REG(sp_el1));
		data->entry = (u64)guest_storm_life;
		storm.cpus[i].vcpu = vcpu;
	}

	kvm_arch_vm_finalize_vcpus(vm);
	its_fd = vgic_its_setup(vm);

	for (i = 0; i < STORM_CPUS; i++) {
		struct boot_data *data = addr_gpa2hva(vm, BOOT_DATA + i * BOOT_DATA_SIZE);
		struct kvm_vcpu *vcpu = storm.cpus[i].vcpu;

		vcpu_args_set(vcpu, 1, (u64)i);
		vcpu_run(vcpu);
		if (get_ucall(vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
		TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_MMIO &&
			    vcpu->run->mmio.phys_addr == SETUP_DONE,
			    "vCPU %d can't set up the GIC: exit %u", i, vcpu->run->exit_reason);

		vcpu_set_mp_state(vcpu, KVM_MP_STATE_RESET);
		for (r = 0; r < NR_SYSREGS; r++) {
			if (expected[r])
				data->expect[r] = vcpu_get_reg(vcpu,
							       KVM_ARM64_SYS_REG(expected[r]));
		}
	}

	storm.mem->kinds = BIT(KIND_SGI);
}

void arch_storm_free(void)
{
	close(its_fd);
}

/* Another name for the VM that is there as long as something is copied from it. */
static struct {
	struct kvm_vm vm;
	struct kvm_vcpu vcpus[STORM_CPUS];
	int its_fd;
} old;

void arch_storm_save(void)
{
	int i;

	vm_save_gic_tables(storm.vm, its_fd);

	old.vm.arch = storm.vm->arch;
	old.vm.arch.gic_fd = dup(storm.vm->arch.gic_fd);
	old.its_fd = its_fd;
	for (i = 0; i < STORM_CPUS; i++) {
		u8 *pending = addr_gpa2hva(storm.vm, PEND_TABLE(i));

		old.vcpus[i] = *storm.cpus[i].vcpu;
		old.vcpus[i].vm = &old.vm;
		old.vcpus[i].fd = dup(old.vcpus[i].fd);
		TEST_ASSERT(old.vcpus[i].fd >= 0, "dup() failed");

		if (pending[LPI(i) / 8] & BIT(LPI(i) % 8))
			storm_count(COUNT_LPI);
		if (storm_sabotage == BREAK_MIGRATION)
			pending[LPI(i) / 8] = 0;
	}
}

void arch_storm_restore(void)
{
	struct kvm_vcpu *from[STORM_CPUS], *to[STORM_CPUS];
	int i;

	for (i = 0; i < STORM_CPUS; i++) {
		from[i] = &old.vcpus[i];
		to[i] = storm.cpus[i].vcpu;
		vcpu_ioctl(to[i], KVM_ARM_VCPU_INIT, &vcpu_init);
	}
	storm.vm->arch.gic_fd = __vgic_v3_setup(storm.vm, STORM_CPUS, 64);
	kvm_arch_vm_finalize_vcpus(storm.vm);
	its_fd = vgic_its_setup(storm.vm);

	for (i = 0; i < STORM_CPUS; i++) {
		struct kvm_vcpu_events events;

		vcpu_copy_reg_list(from[i], to[i]);
		vcpu_events_get(from[i], &events);
		vcpu_events_set(to[i], &events);
		vcpu_set_mp_state(to[i], vcpu_get_mp_state(from[i]));
	}
	vm_copy_gic(from, to, STORM_CPUS, old.its_fd, its_fd);

	for (i = 0; i < STORM_CPUS; i++)
		close(from[i]->fd);
	close(old.its_fd);
	close(old.vm.arch.gic_fd);
}

void arch_storm_boot_entry(struct kvm_vcpu *vcpu, u64 entry, u64 arg)
{
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), entry);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.regs[0]), arg);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
}

void arch_storm_boot(struct kvm_vcpu *vcpu, u64 arg)
{
	if (arg)
		arch_storm_boot_entry(vcpu, STORM_GPA, arg);
	else
		vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
}

u64 arch_storm_user_kinds = BIT(KIND_LPI) | BIT(KIND_SPI) | BIT(KIND_PPI);

void arch_storm_break(struct kvm_vcpu *vcpu)
{
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_FAR_EL1), 0x1d1);
}

static u64 get_x(struct kvm_vcpu *vcpu, int nr)
{
	return vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.regs[0]) + 2 * nr);
}

bool arch_storm_exit(struct storm_cpu *cpu)
{
	struct kvm_vcpu *vcpu = cpu->vcpu;
	u64 gen = cpu->gen, target;
	long ret;

	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_HYPERCALL:
		if (vcpu->run->hypercall.nr != PSCI_0_2_FN64_CPU_ON)
			return false;
		target = get_x(vcpu, 1);
		if (storm_sabotage == BREAK_ARCH)
			ret = PSCI_RET_SUCCESS;
		else if (target >= STORM_CPUS)
			ret = PSCI_RET_INVALID_PARAMS;
		else if (storm_serve_start(cpu, target, get_x(vcpu, 2), get_x(vcpu, 3)))
			ret = PSCI_RET_SUCCESS;
		else
			ret = PSCI_RET_ALREADY_ON;
		/* Not on top of a reset, nor while somebody saves it. */
		if (cpu->gen == gen)
			vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.regs[0]), ret);
		return true;
	case KVM_EXIT_SYSTEM_EVENT:
		if (vcpu->run->system_event.type != KVM_SYSTEM_EVENT_WAKEUP)
			return false;
		vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
		return true;
	default:
		return false;
	}
}

void arch_storm_send(u64 kind, u64 target)
{
	struct kvm_msi msi = {
		.address_lo = GITS_BASE_GPA + GITS_TRANSLATER,
		.data = target,
		.devid = DEVICE_ID,
		.flags = KVM_MSI_VALID_DEVID,
	};
	u32 irq;

	switch (kind) {
	case KIND_LPI:
		__vm_ioctl(storm.vm, KVM_SIGNAL_MSI, &msi);
		break;
	case KIND_SPI:
		kvm_arm_irq_line(storm.vm, SPI(target), 1);
		kvm_arm_irq_line(storm.vm, SPI(target), 0);
		break;
	case KIND_PPI:
		irq = KVM_ARM_IRQ_TYPE_PPI << KVM_ARM_IRQ_TYPE_SHIFT |
		      target << KVM_ARM_IRQ_VCPU_SHIFT | PPI;
		_kvm_irq_line(storm.vm, irq, 0);
		_kvm_irq_line(storm.vm, irq, 1);
		break;
	}
}

/* Not vCPU 0, which is there to wake up the others. */
static void do_suspend(u32 *rng)
{
	struct storm_cpu *cpu = &storm.cpus[1 + storm_random(rng) % (STORM_CPUS - 1)];
	bool wait = storm_random(rng) % 2;

	if (!kvm_has_cap(KVM_CAP_ARM_SYSTEM_SUSPEND))
		return;

	storm_pause(cpu);
	if (vcpu_get_mp_state(cpu->vcpu) == KVM_MP_STATE_RUNNABLE &&
	    storm.mem->cpu[cpu - storm.cpus].up) {
		vcpu_set_mp_state(cpu->vcpu, KVM_MP_STATE_SUSPENDED);
		/* If it was reset, nobody knows that it is there to be woken up. */
		if (!wait)
			storm_reset(cpu, true);
	}
	storm_resume(cpu);
}

/* Save the tables of the ITS, and what is pending. */
static void do_save_tables(u32 *rng)
{
	storm_pause_all();
	vm_save_gic_tables(storm.vm, its_fd);
	storm_resume_all();
}

/* Another way to reset it */
static void init_again(struct kvm_vcpu *vcpu)
{
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &vcpu_init);
}

static void do_vcpu_init(u32 *rng)
{
	storm_dirty_and_reset(rng, init_again);
}

static void pend_serror(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events = { .exception.serror_pending = 1 };

	__vcpu_ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events);
}

static void do_serror(u32 *rng)
{
	storm_dirty_and_reset(rng, pend_serror);
}

const struct storm_action arch_storm_actions[] = {
	{ "suspend", 3, do_suspend },
	{ "save tables", 2, do_save_tables },
	{ "KVM_ARM_VCPU_INIT", 2, do_vcpu_init },
	{ "SError", 2, do_serror },
	{}
};
