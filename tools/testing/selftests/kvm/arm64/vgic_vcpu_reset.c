// SPDX-License-Identifier: GPL-2.0-only
/*
 * vgic_vcpu_reset - A vCPU is reset, and what its GIC has for it is delivered
 *
 * KVM_MP_STATE_RESET is about the PE, the GIC is a device.  With a GICv3 and an
 * ITS, this test verifies for PPIs, SGIs, SPIs and LPIs that:
 *  - PSCI SYSTEM_SUSPEND ends in the same state of both vCPUs, the GIC, the ITS
 *    and their tables, and the guest gets the interrupt that has woken it up,
 *    whether it is the kernel or userspace that waits, the vCPU is reset before
 *    or after that, the interrupt is already pending or arrives meanwhile, a
 *    signal interrupts the wait, the VM migrates while it waits, and whether it
 *    is KVM_MP_STATE_RESET or KVM_ARM_VCPU_INIT that resets the vCPU.
 *  - If all vCPUs are reset, they get what is pending or arrives meanwhile, unless
 *    the GIC is reset as well, and then the guest can set it up anew.
 *  - LPIs stay enabled, and saving what is pending writes to their tables and
 *    nowhere else.
 *  - PSCI CPU_ON, served by the kernel or by userspace, which resets the vCPU in
 *    either way, starts it in the same state of all that, and it gets what was
 *    pending, arrives while the call is open, or follows.
 *  - No interrupt is lost, and none delivered twice, if it arrives at any time
 *    while a vCPU is suspended, woken up and reset.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/psci.h>
#include <linux/sizes.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "gic.h"
#include "gic_v3.h"
#include "gic_v3_its.h"
#include "processor.h"
#include "vcpu_state.h"
#include "vgic.h"

#define TABLES_SLOT	1
#define TABLES_GPA	0x10000000ul
#define COLL_TABLE	(TABLES_GPA + 0 * SZ_64K)
#define DEVICE_TABLE	(TABLES_GPA + 1 * SZ_64K)
#define ITT		(TABLES_GPA + 2 * SZ_64K)
#define CMDQ		(TABLES_GPA + 3 * SZ_64K)
#define PROP_TABLE	(TABLES_GPA + 4 * SZ_64K)
#define PEND_TABLE(id)	(TABLES_GPA + (5 + (id)) * SZ_64K)
#define TABLES_SIZE	(7 * SZ_64K)

/* Where a vCPU starts, at the same address with and without translation. */
#define BOOT_GPA	(TABLES_GPA + TABLES_SIZE)
#define BOOT_DATA(id)	(BOOT_GPA + SZ_32K + (id) * sizeof(struct boot_data))
#define SLOT_SIZE	(TABLES_SIZE + SZ_64K)

/* Not backed by memory, a store is how the guest reports to userspace. */
#define REPORT_GPA	0x40000000ul

/* The one that sends interrupts, and the one that is reset and gets them. */
enum { SENDER, TARGET, NR_VCPUS };

#define SGI		5
#define PPI		22
#define SPI		40
#define LPI		8200

#define DEVICE_ID	3
#define EVENT_ID	4

enum { IRQ_PPI, IRQ_SGI, IRQ_SPI, IRQ_LPI, NR_IRQS };

static const u32 intids[NR_IRQS] = {
	[IRQ_PPI] = PPI,
	[IRQ_SGI] = SGI,
	[IRQ_SPI] = SPI,
	[IRQ_LPI] = LPI,
};

#define NR_ROUNDS	50

/* ---- The guest ----------------------------------------------------------- */

struct boot_data {
	u64 ttbr0, tcr;
	u64 mair, sctlr;
	u64 cpacr, vbar;
	u64 sp, tpidr;
	u64 entry, pad;
};

#define GUEST_LABEL(name)	extern const char name[]

/* x0 is the address of struct boot_data. */
GUEST_LABEL(boot_code);
GUEST_LABEL(boot_code_end);
asm("	.pushsection .text, \"ax\"\n"
"	.balign 64\n"
"boot_code:\n"
"	ldp	x1, x2, [x0]\n"
"	ldp	x3, x4, [x0, #16]\n"
"	ldp	x5, x6, [x0, #32]\n"
"	ldp	x7, x8, [x0, #48]\n"
"	ldr	x9, [x0, #64]\n"
"	msr	ttbr0_el1, x1\n"
"	msr	tcr_el1, x2\n"
"	msr	mair_el1, x3\n"
"	msr	cpacr_el1, x5\n"
"	msr	vbar_el1, x6\n"
"	msr	tpidr_el1, x8\n"
"	tlbi	vmalle1\n"
"	dsb	nsh\n"
"	isb\n"
"	msr	sctlr_el1, x4\n"
"	isb\n"
"	mov	sp, x7\n"
"	br	x9\n"
"boot_code_end:\n"
"	.popsection\n"
);

static u64 nr_delivered[NR_IRQS];
static u64 nr_unexpected;

static void guest_report(u64 value)
{
	WRITE_ONCE(*(u64 *)REPORT_GPA, value);
}

static void guest_irq_handler(struct ex_regs *regs)
{
	u32 intid = gic_get_and_ack_irq();
	int i;

	if (intid == IAR_SPURIOUS)
		return;

	for (i = 0; i < NR_IRQS; i++) {
		if (intids[i] == intid)
			break;
	}

	if (i < NR_IRQS)
		WRITE_ONCE(nr_delivered[i], nr_delivered[i] + 1);
	else
		WRITE_ONCE(nr_unexpected, intid);

	/* The line is up to userspace, and gic_irq_disable() disables all PPIs. */
	if (intid == PPI)
		writel(BIT(PPI), GICR_BASE_GVA + TARGET * KVM_VGIC_V3_REDIST_SIZE +
		       SZ_64K + GICR_ICENABLER0);

	gic_set_eoi(intid);
}

/* The first life: set up what is an operating system's business. */
static void guest_target(void)
{
	gic_init(GIC_V3, NR_VCPUS);
	gic_rdist_enable_lpis(PROP_TABLE, SZ_64K, PEND_TABLE(TARGET));
	gic_irq_enable(SGI);
	gic_irq_enable(PPI);

	writeq(TARGET, GICD_BASE_GVA + GICD_IROUTER + SPI * 8);
	gic_irq_set_config(SPI, true);
	gic_irq_enable(SPI);

	guest_report(0);
}

static void guest_sender(void)
{
	gic_init(GIC_V3, NR_VCPUS);
	gic_rdist_enable_lpis(PROP_TABLE, SZ_64K, PEND_TABLE(SENDER));

	its_init(COLL_TABLE, SZ_64K, DEVICE_TABLE, SZ_64K, CMDQ, SZ_64K);
	its_send_mapd_cmd((void *)CMDQ, DEVICE_ID, ITT, SZ_64K, true);
	its_send_mapc_cmd((void *)CMDQ, TARGET, TARGET, true);
	its_send_mapti_cmd((void *)CMDQ, DEVICE_ID, EVENT_ID, TARGET, LPI);
	its_send_invall_cmd((void *)CMDQ, TARGET);

	guest_report(0);
}

/* The second one: what was set up is still there.  Leave no time in registers. */
static void guest_resumed(void)
{
	int i;

	local_irq_enable();
	for (i = 0; i < 1000; i++)
		isb();
	local_irq_disable();

	guest_report(0);
}

static void guest_send_sgi(void)
{
	write_sysreg_s((u64)SGI << 24 | BIT(TARGET), SYS_ICC_SGI1R_EL1);
	isb();
	guest_report(0);
}

static void guest_call(u64 function, u64 arg1, u64 arg2, u64 arg3)
{
	struct arm_smccc_res res;

	smccc_hvc(function, arg1, arg2, arg3, 0, 0, 0, 0, &res);
	guest_report(res.a0);
}

/* ---- The machine --------------------------------------------------------- */

struct machine {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	int its_fd;
};

static void handle_signal(int signal)
{
}

static const char *missing(void)
{
	if (!kvm_has_cap(KVM_CAP_MP_STATE_RESET))
		return "KVM_CAP_MP_STATE_RESET is not available";
	if (!kvm_arch_has_default_irqchip())
		return "GICv3 not available";
	if (!kvm_has_cap(KVM_CAP_ARM_SYSTEM_SUSPEND))
		return "KVM_CAP_ARM_SYSTEM_SUSPEND is not available";

	return NULL;
}

/* The guest has reported something. */
static u64 get_report(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u64 value;

	TEST_ASSERT(run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write &&
		    run->mmio.phys_addr == REPORT_GPA,
		    "vCPU %u: unexpected exit %u (%s) at 0x%lx", vcpu->id,
		    run->exit_reason, exit_reason_str(run->exit_reason),
		    vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.pc)));
	memcpy(&value, run->mmio.data, sizeof(value));
	vcpu_run_immediate_exit(vcpu);

	return value;
}

static u64 run_to_report(struct kvm_vcpu *vcpu)
{
	vcpu_run(vcpu);

	return get_report(vcpu);
}

static void set_boot_data(struct machine *m, int id, void *entry)
{
	struct boot_data *data = addr_gpa2hva(m->vm, BOOT_DATA(id));

	data->entry = (u64)entry;
}

static void create_boot_data(struct machine *m, int id)
{
	struct boot_data *data = addr_gpa2hva(m->vm, BOOT_DATA(id));
	struct kvm_vcpu *vcpu = m->vcpus[id];

	data->ttbr0 = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TTBR0_EL1));
	data->tcr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TCR_EL1));
	data->mair = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_MAIR_EL1));
	data->sctlr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_SCTLR_EL1));
	data->cpacr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_CPACR_EL1));
	data->vbar = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_VBAR_EL1));
	data->sp = vcpu_get_reg(vcpu, ARM64_CORE_REG(sp_el1));
	data->tpidr = id;
	set_boot_data(m, id, guest_resumed);
}

static void create_machine(struct machine *m)
{
	struct sigaction sa = { .sa_handler = handle_signal };
	struct kvm_vcpu_init init;
	int id;

	TEST_ASSERT(!sigaction(SIGUSR1, &sa, NULL), "sigaction failed");

	m->vm = vm_create(NR_VCPUS);
	vm_init_descriptor_tables(m->vm);
	vm_install_exception_handler(m->vm, VECTOR_IRQ_CURRENT, guest_irq_handler);
	vm_enable_cap(m->vm, KVM_CAP_ARM_SYSTEM_SUSPEND, 0);

	vm_userspace_mem_region_add(m->vm, VM_MEM_SRC_ANONYMOUS, TABLES_GPA,
				    TABLES_SLOT, SLOT_SIZE / m->vm->page_size, 0);
	virt_map(m->vm, CMDQ, CMDQ, SZ_64K / m->vm->page_size);
	virt_map(m->vm, BOOT_GPA, BOOT_GPA, SZ_64K / m->vm->page_size);
	virt_map(m->vm, REPORT_GPA, REPORT_GPA, 1);
	memset(addr_gpa2hva(m->vm, PROP_TABLE), LPI_PROP_ENABLED, SZ_64K);
	memcpy(addr_gpa2hva(m->vm, BOOT_GPA), boot_code, boot_code_end - boot_code);

	kvm_get_default_vcpu_target(m->vm, &init);
	init.features[0] &= ~BIT(KVM_ARM_VCPU_HAS_EL2);
	init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	for (id = 0; id < NR_VCPUS; id++) {
		m->vcpus[id] = aarch64_vcpu_add(m->vm, id, &init,
						id == TARGET ? guest_target : guest_sender);
		vcpu_init_descriptor_tables(m->vcpus[id]);
		create_boot_data(m, id);
	}

	kvm_arch_vm_finalize_vcpus(m->vm);
	m->its_fd = vgic_its_setup(m->vm);
}

static void boot_machine(struct machine *m)
{
	/* LPIs are mapped to vCPUs that have them enabled. */
	run_to_report(m->vcpus[TARGET]);
	run_to_report(m->vcpus[SENDER]);
}

static void free_machine(struct machine *m)
{
	close(m->its_fd);
	kvm_vm_free(m->vm);
}

/* Have a vCPU call a function of the guest, whose last one has reported. */
static void set_function(struct machine *m, int id, void *function)
{
	struct boot_data *data = addr_gpa2hva(m->vm, BOOT_DATA(id));

	vcpu_set_reg(m->vcpus[id], ARM64_CORE_REG(sp_el1), data->sp);
	vcpu_arch_set_entry_point(m->vcpus[id], function);
}

static void set_call(struct machine *m, int id, u64 function, u64 arg1, u64 arg2,
		     u64 arg3)
{
	set_function(m, id, guest_call);
	vcpu_args_set(m->vcpus[id], 4, function, arg1, arg2, arg3);
}

static void set_ppi(struct machine *m, int level)
{
	kvm_irq_line(m->vm, KVM_ARM_IRQ_TYPE_PPI << KVM_ARM_IRQ_TYPE_SHIFT |
		     TARGET << KVM_ARM_IRQ_VCPU_SHIFT | PPI, level);
}

static void raise_irq(struct machine *m, u32 intid)
{
	struct kvm_msi msi = {
		.address_lo = GITS_BASE_GPA + GITS_TRANSLATER,
		.data = EVENT_ID,
		.devid = DEVICE_ID,
		.flags = KVM_MSI_VALID_DEVID,
	};

	switch (intid) {
	case PPI:
		set_ppi(m, 1);
		break;
	case SGI:
		set_function(m, SENDER, guest_send_sgi);
		run_to_report(m->vcpus[SENDER]);
		break;
	case SPI:
		kvm_arm_irq_line(m->vm, SPI, 1);
		kvm_arm_irq_line(m->vm, SPI, 0);
		break;
	default:
		TEST_ASSERT_EQ(__vm_ioctl(m->vm, KVM_SIGNAL_MSI, &msi), 1);
	}
}

/* ---- State of devices ---------------------------------------------------- */

struct dev_reg {
	u32 offset;
	const char *name;
};

static const struct dev_reg gicd_regs[] = {
	{ GICD_CTLR,			"CTLR" },
	{ GICD_IROUTER + SPI * 8,	"IROUTER of the SPI" },
	{ GICD_IROUTER + SPI * 8 + 4,	"IROUTER of the SPI, hi" },
	{ GICD_ICFGR + 8,		"ICFGR2" },
	{ GICD_IGROUPR + 4,		"IGROUPR1" },
	{ GICD_ISENABLER + 4,		"ISENABLER1" },
	{ GICD_ISPENDR + 4,		"ISPENDR1" },
	{ GICD_ISACTIVER + 4,		"ISACTIVER1" },
	{ GICD_IPRIORITYR + SPI,	"IPRIORITYR of the SPI" },
};

static const struct dev_reg gits_regs[] = {
	{ GITS_CBASER,		"CBASER" },
	{ GITS_BASER,		"BASER0" },
	{ GITS_BASER + 8,	"BASER1" },
	{ GITS_CREADR,		"CREADR" },
	{ GITS_CWRITER,		"CWRITER" },
	{ GITS_IIDR,		"IIDR" },
	{ GITS_CTLR,		"CTLR" },
};

#define SPI_LEVELS	(VGIC_LEVEL_INFO_LINE_LEVEL <<			\
			 KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT | 32)

/* The affinity is the ID. */
static u64 gicr_attr(int id, u32 offset)
{
	return (u64)id << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT | offset;
}

static u32 get_gicr(struct machine *m, int id, u32 offset)
{
	u32 value;

	kvm_device_attr_get(m->vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
			    gicr_attr(id, offset), &value);

	return value;
}

static void set_gicr(struct machine *m, int id, u32 offset, u32 value)
{
	kvm_device_attr_set(m->vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
			    gicr_attr(id, offset), &value);
}

static void save_tables(struct machine *m)
{
	vm_save_gic_tables(m->vm, m->its_fd);
}

/* Everything, i.e. the vCPUs with their parts of the GIC, and the devices. */
struct machine_state {
	struct vcpu_state *vcpu[NR_VCPUS];
	u8 tables[TABLES_SIZE];
};

static struct machine_state *get_state(struct machine *m)
{
	struct machine_state *state = calloc(1, sizeof(*state));
	struct vcpu_state *s;
	int i;

	TEST_ASSERT(state, "-ENOMEM when allocating the state of a machine");

	/*
	 * What is UNKNOWN after a reset, one that is queued included, depends on
	 * whether it has been loaded since.
	 */
	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_get_reg(m->vcpus[i], ARM64_CORE_REG(regs.pc));
		vcpu_run_immediate_exit(m->vcpus[i]);
		state->vcpu[i] = vcpu_state_get(m->vcpus[i]);
	}

	s = state->vcpu[TARGET];
	for (i = 0; i < ARRAY_SIZE(gicd_regs); i++)
		vcpu_state_add_attr(s, m->vm->arch.gic_fd,
				    KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
				    gicd_regs[i].offset, sizeof(u32), "gicd.%s",
				    gicd_regs[i].name);
	vcpu_state_add_attr(s, m->vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
			    SPI_LEVELS, sizeof(u32), "gicd.line_level");
	for (i = 0; i < ARRAY_SIZE(gits_regs); i++)
		vcpu_state_add_attr(s, m->its_fd, KVM_DEV_ARM_VGIC_GRP_ITS_REGS,
				    gits_regs[i].offset, sizeof(u64), "gits.%s",
				    gits_regs[i].name);

	save_tables(m);
	memcpy(state->tables, addr_gpa2hva(m->vm, TABLES_GPA), TABLES_SIZE);

	return state;
}

static void free_state(struct machine_state *state)
{
	int i;

	for (i = 0; i < NR_VCPUS; i++)
		vcpu_state_free(state->vcpu[i]);
	free(state);
}

struct diff {
	const char *what;
	int vcpu;
	int nr;
};

static void add_difference(void *arg, const char *name, const char *want,
			   const char *got)
{
	struct diff *diff = arg;

	if (vcpu_state_match(vcpu_state_clocks, name))
		return;

	diff->nr++;
	pr_info("# %s: vCPU %d: %s is %s instead of %s\n", diff->what, diff->vcpu,
		name, got, want);
}

static void check_state(const char *what, struct machine_state *want,
			struct machine *m)
{
	struct machine_state *got = get_state(m);
	struct diff diff = { .what = what };
	bool same;
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		diff.vcpu = i;
		vcpu_state_diff(want->vcpu[i], got->vcpu[i], add_difference, &diff);
	}

	same = !memcmp(got->tables, want->tables, TABLES_SIZE);
	for (i = 0; i < TABLES_SIZE && !same; i++) {
		if (got->tables[i] == want->tables[i])
			continue;
		diff.nr++;
		pr_info("# %s: byte 0x%x of the tables is 0x%x instead of 0x%x\n",
			what, i, got->tables[i], want->tables[i]);
	}

	TEST_ASSERT(!diff.nr, "%s: %d differences", what, diff.nr);
	free_state(got);
}

/* The first of them all is what the others are compared with. */
static void check_same_state(const char *what, struct machine_state **want,
			     struct machine *m)
{
	if (*want)
		check_state(what, *want, m);
	else
		*want = get_state(m);
}

static void copy_memory(struct machine *from, struct machine *to)
{
	static const u32 slots[] = { 0, TABLES_SLOT };
	struct userspace_mem_region *src, *dst;
	int i;

	for (i = 0; i < ARRAY_SIZE(slots); i++) {
		src = memslot2region(from->vm, slots[i]);
		dst = memslot2region(to->vm, slots[i]);
		TEST_ASSERT_EQ(src->region.memory_size, dst->region.memory_size);
		memcpy(dst->host_mem, src->host_mem, src->region.memory_size);
	}
}

/* Replace it by another one, as Documentation/virt/kvm/devices/ has it. */
static void migrate(struct machine *m)
{
	struct machine new;
	int i;

	create_machine(&new);

	save_tables(m);
	copy_memory(m, &new);

	for (i = 0; i < NR_VCPUS; i++) {
		struct kvm_vcpu_events events;

		vcpu_copy_reg_list(m->vcpus[i], new.vcpus[i]);
		vcpu_events_get(m->vcpus[i], &events);
		vcpu_events_set(new.vcpus[i], &events);
		vcpu_set_mp_state(new.vcpus[i], vcpu_get_mp_state(m->vcpus[i]));
	}

	vm_copy_gic(m->vcpus, new.vcpus, NR_VCPUS, m->its_fd, new.its_fd);

	free_machine(m);
	*m = new;
}

/* ---- Resets -------------------------------------------------------------- */

enum reset_by { BY_REQUEST, BY_INIT, BY_KERNEL };

static void reset_vcpu(struct machine *m, int id, enum reset_by by)
{
	struct kvm_vcpu *vcpu = m->vcpus[id];

	if (by == BY_REQUEST)
		vcpu_set_mp_state(vcpu, KVM_MP_STATE_RESET);
	else
		vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &vcpu->init);

	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), BOOT_GPA);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.regs[0]), BOOT_DATA(id));
}

static void check_delivered(const char *what, struct machine *m, const u64 *want)
{
	int i, nr = 0;

	sync_global_from_guest(m->vm, nr_delivered);
	sync_global_from_guest(m->vm, nr_unexpected);

	for (i = 0; i < NR_IRQS; i++) {
		if (nr_delivered[i] == want[i])
			continue;
		nr++;
		pr_info("# %s: interrupt %u was delivered %lu times instead of %lu\n",
			what, intids[i], nr_delivered[i], want[i]);
	}
	TEST_ASSERT(!nr, "%s: %d kinds of interrupts", what, nr);
	TEST_ASSERT(!nr_unexpected, "%s: unexpected interrupt %lu", what,
		    nr_unexpected);
}

/* Forget about the last interrupt, while the target does not run. */
static void start_over(struct machine *m)
{
	memset(nr_delivered, 0, sizeof(nr_delivered));
	sync_global_to_guest(m->vm, nr_delivered);
	set_ppi(m, 0);
	set_gicr(m, TARGET, SZ_64K + GICR_ISENABLER0, BIT(PPI));
}

/* Run the second life, to which nothing but @irq is delivered. */
static void run_resumed(const char *what, struct machine *m, int irq)
{
	u64 want[NR_IRQS] = {};

	want[irq] = 1;
	run_to_report(m->vcpus[TARGET]);
	check_delivered(what, m, want);
}

/* ---- SYSTEM_SUSPEND ------------------------------------------------------ */

struct wait_thread {
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	pid_t tid;
	int ret;
	int error;
};

static void *wait_in_kvm_run(void *arg)
{
	struct wait_thread *wait = arg;

	WRITE_ONCE(wait->tid, syscall(SYS_gettid));
	wait->ret = __vcpu_run(wait->vcpu);
	wait->error = errno;

	return NULL;
}

static void start_wait(struct machine *m, struct wait_thread *wait)
{
	wait->vcpu = m->vcpus[TARGET];
	wait->tid = 0;
	TEST_ASSERT(!pthread_create(&wait->thread, NULL, wait_in_kvm_run, wait),
		    "pthread_create failed");
}

/* Sleeping in KVM_RUN, i.e. neither running nor on its way there. */
static bool is_asleep(struct wait_thread *wait)
{
	char path[64], stat[512], *p;
	ssize_t len;
	int fd;

	if (!READ_ONCE(wait->tid))
		return false;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", wait->tid);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	len = read(fd, stat, sizeof(stat) - 1);
	close(fd);
	stat[len < 0 ? 0 : len] = '\0';

	/* The state is behind the name. */
	p = strrchr(stat, ')');

	return p && p[1] == ' ' && p[2] == 'S';
}

static void wait_until_asleep(struct wait_thread *wait)
{
	int i;

	for (i = 0; i < 20000; i++) {
		if (is_asleep(wait))
			return;
		usleep(500);
	}
	TEST_FAIL("The vCPU does not sleep");
}

static void join_wait(const char *what, struct wait_thread *wait)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += 20;
	TEST_ASSERT(!pthread_timedjoin_np(wait->thread, NULL, &deadline),
		    "%s: the vCPU sleeps on", what);
}

static void end_wait(const char *what, struct wait_thread *wait)
{
	struct kvm_run *run = wait->vcpu->run;

	join_wait(what, wait);
	TEST_ASSERT(!wait->ret && run->exit_reason == KVM_EXIT_SYSTEM_EVENT &&
		    run->system_event.type == KVM_SYSTEM_EVENT_WAKEUP,
		    "%s: KVM_RUN returned %d (errno %d), exit %u (%s)", what,
		    wait->ret, wait->error, run->exit_reason,
		    exit_reason_str(run->exit_reason));
}

static void interrupt_wait(const char *what, struct wait_thread *wait)
{
	wait_until_asleep(wait);
	pthread_kill(wait->thread, SIGUSR1);
	join_wait(what, wait);
	TEST_ASSERT(wait->ret && wait->error == EINTR,
		    "%s: KVM_RUN returned %d (errno %d)", what, wait->ret,
		    wait->error);
}

enum middle { NOTHING, SIGNAL, MIGRATION };

struct suspend_case {
	int irq;
	bool kernel_waits;
	bool reset_first;
	bool pending;
	enum middle middle;
	enum reset_by by;
};

static void wait_for_irq(const char *what, struct machine *m,
			 const struct suspend_case *c)
{
	struct wait_thread wait = {};

	if (c->kernel_waits)
		vcpu_set_mp_state(m->vcpus[TARGET], KVM_MP_STATE_SUSPENDED);

	/* What is pending already ends the wait of the kernel at once. */
	if (c->kernel_waits && c->middle != NOTHING && !c->pending) {
		start_wait(m, &wait);
		interrupt_wait(what, &wait);
	}
	if (c->middle == MIGRATION)
		migrate(m);

	if (c->kernel_waits) {
		TEST_ASSERT_EQ(vcpu_get_mp_state(m->vcpus[TARGET]),
			       KVM_MP_STATE_SUSPENDED);
		start_wait(m, &wait);
		if (!c->pending)
			wait_until_asleep(&wait);
	}
	if (!c->pending)
		raise_irq(m, intids[c->irq]);
	if (c->kernel_waits)
		end_wait(what, &wait);
}

static void test_suspend(struct machine *m, const struct suspend_case *c,
			 struct machine_state **resumed,
			 struct machine_state **delivered)
{
	static const char * const middles[] = { "", ", signal", ", migration" };
	struct kvm_vcpu *vcpu;
	char what[128];

	snprintf(what, sizeof(what), "irq %u %s, %s waits, %s%s, %s",
		 intids[c->irq], c->pending ? "is pending" : "arrives",
		 c->kernel_waits ? "kernel" : "userspace",
		 c->reset_first ? "reset first" : "wait first",
		 middles[c->middle], c->by == BY_INIT ? "INIT" : "RESET");

	start_over(m);

	vcpu = m->vcpus[TARGET];
	set_call(m, TARGET, PSCI_1_0_FN64_SYSTEM_SUSPEND, BOOT_GPA,
		 BOOT_DATA(TARGET), 0);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(vcpu->run->system_event.type, KVM_SYSTEM_EVENT_SUSPEND);

	if (c->pending)
		raise_irq(m, intids[c->irq]);

	if (c->reset_first)
		reset_vcpu(m, TARGET, c->by);
	wait_for_irq(what, m, c);
	if (!c->reset_first)
		reset_vcpu(m, TARGET, c->by);
	vcpu_set_mp_state(m->vcpus[TARGET], KVM_MP_STATE_RUNNABLE);

	check_same_state(what, resumed, m);
	run_resumed(what, m, c->irq);
	check_same_state(what, delivered, m);
}

FIXTURE(suspend) {
};

FIXTURE_VARIANT(suspend) {
	int irq;
};

FIXTURE_VARIANT_ADD(suspend, ppi) { .irq = IRQ_PPI };
FIXTURE_VARIANT_ADD(suspend, sgi) { .irq = IRQ_SGI };
FIXTURE_VARIANT_ADD(suspend, spi) { .irq = IRQ_SPI };
FIXTURE_VARIANT_ADD(suspend, lpi) { .irq = IRQ_LPI };

FIXTURE_SETUP(suspend)
{
	if (missing())
		SKIP(return, "%s", missing());
}

FIXTURE_TEARDOWN(suspend)
{
}

TEST_F_TIMEOUT(suspend, same_state, 300)
{
	struct machine_state *resumed = NULL, *delivered = NULL;
	struct suspend_case c = { .irq = variant->irq };
	struct machine m;
	int i, nr = 0;

	create_machine(&m);
	boot_machine(&m);

	/* KVM_ARM_VCPU_INIT comes first, and is what others are compared with. */
	for (i = 0; i < 2 * 2 * 2 * 2 * 3; i++) {
		c.kernel_waits = i & 1;
		c.reset_first = i & 2;
		c.pending = i & 4;
		c.by = i & 8 ? BY_REQUEST : BY_INIT;
		c.middle = i / 16;

		/* A signal is none of the kernel's business, or has nobody to hit. */
		if (c.middle == SIGNAL && (!c.kernel_waits || c.pending))
			continue;

		/* It is like the request without one of these. */
		if (c.middle != NOTHING && c.by == BY_INIT)
			continue;

		test_suspend(&m, &c, &resumed, &delivered);
		nr++;
	}

	pr_info("# %d ways to suspend end in the same state of %u fields\n", nr,
		resumed->vcpu[SENDER]->nr + resumed->vcpu[TARGET]->nr);
	free_state(resumed);
	free_state(delivered);
	free_machine(&m);
}

/* ---- Reset of the machine ------------------------------------------------ */

FIXTURE(machine) {
	struct machine m;
	bool created;
};

FIXTURE_VARIANT(machine) {
	enum reset_by by;
};

FIXTURE_VARIANT_ADD(machine, request) { .by = BY_REQUEST };
FIXTURE_VARIANT_ADD(machine, init) { .by = BY_INIT };

FIXTURE_SETUP(machine)
{
	self->created = false;
	if (missing())
		SKIP(return, "%s", missing());

	create_machine(&self->m);
	boot_machine(&self->m);
	self->created = true;
}

FIXTURE_TEARDOWN(machine)
{
	if (self->created)
		free_machine(&self->m);
}

static void check_lpis_enabled(struct machine *m)
{
	int id;

	for (id = 0; id < NR_VCPUS; id++) {
		TEST_ASSERT(get_gicr(m, id, GICR_CTLR) & GICR_CTLR_ENABLE_LPIS,
			    "vCPU %d: LPIs are disabled", id);
		TEST_ASSERT_EQ(get_gicr(m, id, GICR_PENDBASER) & ~0xffffu,
			       PEND_TABLE(id));
	}
}

/* Interrupts that are there before any of the vCPUs is reset, or arrive later. */
TEST_F(machine, irqs)
{
	const u64 want[NR_IRQS] = { 1, 1, 1, 1 };
	struct machine *m = &self->m;
	int i;

	/* The sender has to run for an SGI. */
	raise_irq(m, SGI);
	raise_irq(m, LPI);
	reset_vcpu(m, TARGET, variant->by);
	raise_irq(m, PPI);
	reset_vcpu(m, SENDER, variant->by);
	raise_irq(m, SPI);

	check_lpis_enabled(m);

	for (i = 0; i < NR_VCPUS; i++)
		vcpu_set_mp_state(m->vcpus[i], KVM_MP_STATE_RUNNABLE);
	run_to_report(m->vcpus[SENDER]);
	run_to_report(m->vcpus[TARGET]);
	check_delivered("machine reset", m, want);
}

/* What is pending is saved where the guest wants it to be, and nowhere else. */
TEST_F(machine, pending_tables)
{
	struct machine *m = &self->m;
	u8 *low = addr_gpa2hva(m->vm, 0), *old;
	u8 *pend = addr_gpa2hva(m->vm, PEND_TABLE(TARGET));
	int i;

	raise_irq(m, LPI);
	for (i = 0; i < NR_VCPUS; i++)
		reset_vcpu(m, i, variant->by);

	old = malloc(SZ_8K);
	memset(low + LPI / 8, 0xa5, 1);
	memcpy(old, low, SZ_8K);
	TEST_ASSERT_EQ(pend[LPI / 8], 0);

	save_tables(m);
	TEST_ASSERT_EQ(pend[LPI / 8], BIT(LPI % 8));
	TEST_ASSERT(!memcmp(low, old, SZ_8K), "Memory at 0 was written to");
	free(old);

	check_lpis_enabled(m);
}

/* The VMM resets the GIC along with the other devices. */
static void reset_gic(struct machine *m)
{
	u32 zero = 0, ones = ~0;
	int id;

	kvm_device_attr_set(m->its_fd, KVM_DEV_ARM_VGIC_GRP_CTRL,
			    KVM_DEV_ARM_ITS_CTRL_RESET, NULL);

	set_ppi(m, 0);
	for (id = 0; id < NR_VCPUS; id++) {
		set_gicr(m, id, GICR_CTLR, 0);
		set_gicr(m, id, GICR_PENDBASER, 0);
		set_gicr(m, id, GICR_PROPBASER, 0);
		set_gicr(m, id, SZ_64K + GICD_ICENABLER, ~0);
		set_gicr(m, id, SZ_64K + GICD_ICACTIVER, ~0);
		set_gicr(m, id, SZ_64K + GICD_ISPENDR, 0);
	}

	kvm_device_attr_set(m->vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
			    GICD_CTLR, &zero);
	kvm_device_attr_set(m->vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
			    GICD_ICENABLER + 4, &ones);
	kvm_device_attr_set(m->vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
			    GICD_ISPENDR + 4, &zero);
}

/* It is up to the VMM what it resets first.  The guest is loaded again. */
TEST_F(machine, with_gic)
{
	struct machine *m = &self->m, loaded;
	u64 want[NR_IRQS];
	int i, id, order;

	create_machine(&loaded);
	for (order = 0; order < 2; order++) {
		for (i = 0; i < NR_IRQS; i++)
			raise_irq(m, intids[i]);

		if (order)
			reset_gic(m);
		copy_memory(&loaded, m);
		for (id = 0; id < NR_VCPUS; id++) {
			set_boot_data(m, id, id == TARGET ? guest_target : guest_sender);
			reset_vcpu(m, id, variant->by);
			vcpu_set_mp_state(m->vcpus[id], KVM_MP_STATE_RUNNABLE);
		}
		if (!order)
			reset_gic(m);

		boot_machine(m);

		memset(want, 0, sizeof(want));
		set_function(m, TARGET, guest_resumed);
		run_to_report(m->vcpus[TARGET]);
		check_delivered("reset with the GIC", m, want);

		for (i = 0; i < NR_IRQS; i++) {
			raise_irq(m, intids[i]);
			want[i] = 1;
		}
		set_function(m, TARGET, guest_resumed);
		run_to_report(m->vcpus[TARGET]);
		check_delivered("set up again", m, want);
	}

	free_machine(&loaded);
}

static void *send_lpi(void *arg)
{
	raise_irq(arg, LPI);

	return NULL;
}

static void resume(struct machine *m, enum reset_by by)
{
	reset_vcpu(m, TARGET, by);
	vcpu_set_mp_state(m->vcpus[TARGET], KVM_MP_STATE_RUNNABLE);
	run_to_report(m->vcpus[TARGET]);
}

/* An LPI that comes while the vCPU sleeps, wakes up, is reset, or runs. */
TEST_F_TIMEOUT(machine, any_time, 300)
{
	struct machine *m = &self->m;
	struct wait_thread wait;
	u64 want[NR_IRQS] = {};
	pthread_t sender;
	int i;

	for (i = 1; i <= NR_ROUNDS; i++) {
		vcpu_set_mp_state(m->vcpus[TARGET], KVM_MP_STATE_SUSPENDED);
		start_wait(m, &wait);
		usleep(i * 37 % 500);

		raise_irq(m, SPI);
		TEST_ASSERT(!pthread_create(&sender, NULL, send_lpi, m),
			    "pthread_create failed");
		end_wait("any time", &wait);
		usleep(i * 13 % 200);
		resume(m, variant->by);

		/* The guest may have looked too early. */
		pthread_join(sender, NULL);
		resume(m, variant->by);

		want[IRQ_SPI] = i;
		want[IRQ_LPI] = i;
		check_delivered("any time", m, want);
	}
}

/* ---- CPU_ON -------------------------------------------------------------- */

enum when { BEFORE_CALL, CALL_IS_OPEN, AFTER_CALL };

struct cpu_on_case {
	int irq;
	enum when when;
	enum reset_by by;
	bool asleep;
};

static void forward_cpu_on(struct machine *m)
{
	struct kvm_smccc_filter filter = {
		.base		= PSCI_0_2_FN64_CPU_ON,
		.nr_functions	= 1,
		.action		= KVM_SMCCC_FILTER_FWD_TO_USER,
	};

	kvm_device_attr_set(m->vm->fd, KVM_ARM_VM_SMCCC_CTRL,
			    KVM_ARM_VM_SMCCC_FILTER, &filter);
}

/* What a VMM does about CPU_ON, of a target that is in KVM_RUN or not. */
static void serve_cpu_on(const char *what, struct machine *m,
			 const struct cpu_on_case *c, struct wait_thread *wait)
{
	struct kvm_vcpu *vcpu = m->vcpus[SENDER];

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_HYPERCALL);
	TEST_ASSERT_EQ(vcpu->run->hypercall.nr, PSCI_0_2_FN64_CPU_ON);

	if (c->when == CALL_IS_OPEN)
		raise_irq(m, intids[c->irq]);

	if (c->asleep)
		interrupt_wait(what, wait);
	TEST_ASSERT_EQ(vcpu_get_mp_state(m->vcpus[TARGET]), KVM_MP_STATE_STOPPED);
	reset_vcpu(m, TARGET, c->by);
	vcpu_set_mp_state(m->vcpus[TARGET], KVM_MP_STATE_RUNNABLE);

	vcpu_args_set(vcpu, 4, (u64)PSCI_RET_SUCCESS, 0ul, 0ul, 0ul);
}

static void test_cpu_on(struct machine *m, const struct cpu_on_case *c,
			struct machine_state **started,
			struct machine_state **delivered)
{
	static const char * const whens[] = { "is pending", "arrives", "follows" };
	static const char * const bys[] = { "RESET", "INIT", "kernel" };
	struct wait_thread wait = {};
	u64 want[NR_IRQS] = {};
	char what[128];

	snprintf(what, sizeof(what), "irq %u %s, %s%s", intids[c->irq],
		 whens[c->when], bys[c->by], c->asleep ? ", asleep" : "");

	start_over(m);

	set_call(m, TARGET, PSCI_0_2_FN_CPU_OFF, 0, 0, 0);
	start_wait(m, &wait);
	if (c->asleep)
		wait_until_asleep(&wait);
	else
		interrupt_wait(what, &wait);

	if (c->when == BEFORE_CALL)
		raise_irq(m, intids[c->irq]);

	set_call(m, SENDER, PSCI_0_2_FN64_CPU_ON, TARGET, BOOT_GPA,
		 BOOT_DATA(TARGET));
	if (c->by != BY_KERNEL)
		serve_cpu_on(what, m, c, &wait);
	TEST_ASSERT_EQ(run_to_report(m->vcpus[SENDER]), PSCI_RET_SUCCESS);

	if (c->when == AFTER_CALL ||
	    (c->when == CALL_IS_OPEN && c->by == BY_KERNEL))
		raise_irq(m, intids[c->irq]);

	if (c->asleep && c->by == BY_KERNEL) {
		join_wait(what, &wait);
		TEST_ASSERT(!wait.ret, "%s: KVM_RUN failed, errno %d", what,
			    wait.error);
		get_report(m->vcpus[TARGET]);
		want[c->irq] = 1;
		check_delivered(what, m, want);
	} else {
		check_same_state(what, started, m);
		run_resumed(what, m, c->irq);
	}
	check_same_state(what, delivered, m);
}

FIXTURE(cpu_on) {
};

FIXTURE_VARIANT(cpu_on) {
	int irq;
};

FIXTURE_VARIANT_ADD(cpu_on, ppi) { .irq = IRQ_PPI };
FIXTURE_VARIANT_ADD(cpu_on, sgi) { .irq = IRQ_SGI };
FIXTURE_VARIANT_ADD(cpu_on, spi) { .irq = IRQ_SPI };
FIXTURE_VARIANT_ADD(cpu_on, lpi) { .irq = IRQ_LPI };

FIXTURE_SETUP(cpu_on)
{
	struct kvm_vm *vm;
	int r;

	if (missing())
		SKIP(return, "%s", missing());

	vm = vm_create_barebones();
	r = __kvm_has_device_attr(vm->fd, KVM_ARM_VM_SMCCC_CTRL,
				  KVM_ARM_VM_SMCCC_FILTER);
	kvm_vm_free(vm);
	if (r)
		SKIP(return, "The SMCCC filter is not available");
}

FIXTURE_TEARDOWN(cpu_on)
{
}

/* The kernel comes first, and is what the others are compared with. */
TEST_F_TIMEOUT(cpu_on, same_state, 300)
{
	static const enum reset_by bys[] = { BY_KERNEL, BY_REQUEST, BY_INIT };
	struct machine_state *started, *delivered;
	struct cpu_on_case c = { .irq = variant->irq };
	struct machine kernel, userspace;
	int i, nr = 0;

	create_machine(&kernel);
	boot_machine(&kernel);

	create_machine(&userspace);
	forward_cpu_on(&userspace);
	boot_machine(&userspace);

	for (c.when = BEFORE_CALL; c.when <= AFTER_CALL; c.when++) {
		/* It is the caller that sends SGIs. */
		if (c.when == CALL_IS_OPEN && intids[c.irq] == SGI)
			continue;

		started = NULL;
		delivered = NULL;
		for (i = 0; i < 2 * ARRAY_SIZE(bys); i++) {
			c.by = bys[i / 2];
			c.asleep = i & 1;

			/* The target runs as soon as it is started. */
			if (c.by == BY_KERNEL && c.asleep && c.when != BEFORE_CALL)
				continue;

			test_cpu_on(c.by == BY_KERNEL ? &kernel : &userspace, &c,
				    &started, &delivered);
			nr++;
		}
		free_state(started);
		free_state(delivered);
	}

	pr_info("# %d ways to start a vCPU end in the same states\n", nr);
	free_machine(&kernel);
	free_machine(&userspace);
}

TEST_HARNESS_MAIN
