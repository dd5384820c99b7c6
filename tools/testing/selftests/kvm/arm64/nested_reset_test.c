// SPDX-License-Identifier: GPL-2.0-only
/*
 * nested_reset_test - A guest hypervisor that was reset has nothing left of its past
 *
 * L1 runs L2 on a stage 2 that maps a page at an IPA of L2.  With L2 running, the
 * vCPU is reset, and the table changes.  L1 starts again, with the same tables at
 * the same address and for the same VMID, and does not invalidate anything, as a
 * CPU that comes out of reset has nothing in its TLBs.  This test verifies that:
 *  - L2 sees the page that the table has now.
 *  - So does another vCPU that runs L2 with the same tables.
 *  - That L2 of yet other vCPUs is running, and that the mappings of L2 are being
 *    dropped, doesn't matter.
 *  - The maintenance interrupt, which says something about registers that were
 *    reset, is not pending.
 *  - A vCPU that is restored while it runs L2 does that on L1's stage 2.
 * That goes for KVM_ARM_VCPU_INIT, PSCI CPU_ON and KVM_MP_STATE_RESET, for hypervisors
 * with and without HCR_EL2.E2H.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/bits.h>
#include <linux/psci.h>
#include <linux/sizes.h>
#include <asm/cputype.h>

#include "gic_v3.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "userfaultfd_util.h"
#include "vgic.h"

/* Not backed by memory, i.e. accesses are MMIO.  L1 maps it to L2 1:1. */
#define REPORT_GPA	0x8000000ul
/* Where L2 has a page, beyond what is mapped 1:1 */
#define L2_IPA		SZ_1G
/* Not for the guest, KVM accesses it before it enters the guest. */
#define TIME_GPA	0x50000000ul
#define TIME_SLOT	1

#define OLD_PAGE	0x01d1ul
#define NEW_PAGE	0x4e3ful

#define NR_ROUNDS	10

#define MI_PPI		25

#define GPR(i)		ARM64_CORE_REG(regs.regs[i])

/* 4K granule, 39 bits of IPA, 40 bits of PA, three levels */
#define L1_VTCR		(BIT(31) | 2 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | \
			 1 << 6 | (64 - 39))
#define L1_VMID		5ul

/* Normal memory, access flag, read and write */
#define S2_ATTR		(BIT(10) | 3 << 8 | 3 << 6 | 0xf << 2)
#define S2_BLOCK	(S2_ATTR | 1)
#define S2_TABLE	3
#define S2_PAGE		(S2_ATTR | 3)

/* What guest_l1 finds at x0 */
struct l1_args {
	u64 vttbr;
	u64 vtcr;
	u64 l2_entry;
	u64 l2_addr;
	u64 report;
};

/*
 * Address translation is off at EL2 and in L2's stage 1.  The bits of HCR_EL2 are
 * RW and VM, HCR_EL2.TGE is clear after a reset.
 */
asm("	.pushsection .text, \"ax\"\n"
"	.balign 64\n"
"	.globl	guest_l1, guest_l2, guest_cpu_on\n"
"guest_l1:\n"
"	ldp	x1, x2, [x0]\n"
"	ldp	x3, x4, [x0, #16]\n"
"	ldr	x5, [x0, #32]\n"
"	msr	vttbr_el2, x1\n"
"	msr	vtcr_el2, x2\n"
"	mrs	x6, hcr_el2\n"
"	orr	x6, x6, #(1 << 31)\n"
"	orr	x6, x6, #1\n"
"	msr	hcr_el2, x6\n"
"	msr	elr_el2, x3\n"
"	mov	x6, #0x3c5\n"
"	msr	spsr_el2, x6\n"
"	isb\n"
"	eret\n"
"guest_l2:\n"
"	ldr	x7, [x4]\n"
"	str	x7, [x5]\n"
"	b	guest_l2\n"
"guest_cpu_on:\n"
"	smc	#0\n"
"	str	x0, [x5]\n"
"	b	.\n"
"	.popsection\n"
);

extern const char guest_l1[], guest_l2[], guest_cpu_on[];

/* Complete the exit that is open, and no more than that. */
static void complete_exit(struct kvm_vcpu *vcpu)
{
	vcpu->run->immediate_exit = 1;
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && errno == EINTR,
		    "KVM_RUN ignores immediate_exit");
	vcpu->run->immediate_exit = 0;
}

static void reset_by_init(struct kvm_vcpu *vcpu, struct kvm_vcpu *caller)
{
	complete_exit(vcpu);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &vcpu->init);
}

static u64 code_gpa(struct kvm_vm *vm, const char *code)
{
	return addr_gva2gpa(vm, (gva_t)code);
}

static u64 run_to_report(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u64 value;

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(run->mmio.phys_addr, REPORT_GPA);
	TEST_ASSERT(run->mmio.is_write, "Expected MMIO write");
	memcpy(&value, run->mmio.data, sizeof(value));

	return value;
}

static void set_mp_state(struct kvm_vcpu *vcpu, u32 state)
{
	struct kvm_mp_state mp_state = { .mp_state = state };

	vcpu_mp_state_set(vcpu, &mp_state);
}

static void reset_by_cpu_on(struct kvm_vcpu *vcpu, struct kvm_vcpu *caller)
{
	u64 mpidr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_MPIDR_EL1));

	complete_exit(vcpu);
	set_mp_state(vcpu, KVM_MP_STATE_STOPPED);

	reset_by_init(caller, NULL);
	vcpu_args_set(caller, 6, (u64)PSCI_0_2_FN64_CPU_ON,
		      mpidr & MPIDR_HWID_BITMASK,
		      code_gpa(vcpu->vm, guest_l1), 0ul, 0ul, REPORT_GPA);
	vcpu_set_reg(caller, ARM64_CORE_REG(regs.pc),
		     code_gpa(vcpu->vm, guest_cpu_on));
	TEST_ASSERT_EQ(run_to_report(caller), PSCI_RET_SUCCESS);
}

static void reset_by_request(struct kvm_vcpu *vcpu, struct kvm_vcpu *caller)
{
	set_mp_state(vcpu, KVM_MP_STATE_RESET);
}

FIXTURE(nested) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct kvm_vcpu *other;
	struct kvm_vcpu *caller;
	struct kvm_vcpu *spinner;
	struct l1_args args;
	gpa_t args_gpa;
	gpa_t old_page;
	gpa_t new_page;
	/* The entry for L2_IPA */
	u64 *pte;
};

FIXTURE_VARIANT(nested) {
	u32 feature;
	void (*reset)(struct kvm_vcpu *vcpu, struct kvm_vcpu *caller);
};

FIXTURE_VARIANT_ADD(nested, vhe_init) {
	.reset = reset_by_init,
};

FIXTURE_VARIANT_ADD(nested, vhe_cpu_on) {
	.reset = reset_by_cpu_on,
};

FIXTURE_VARIANT_ADD(nested, nvhe_init) {
	.feature = BIT(KVM_ARM_VCPU_HAS_EL2_E2H0),
	.reset = reset_by_init,
};

FIXTURE_VARIANT_ADD(nested, nvhe_cpu_on) {
	.feature = BIT(KVM_ARM_VCPU_HAS_EL2_E2H0),
	.reset = reset_by_cpu_on,
};

FIXTURE_VARIANT_ADD(nested, vhe_request) {
	.reset = reset_by_request,
};

FIXTURE_VARIANT_ADD(nested, nvhe_request) {
	.feature = BIT(KVM_ARM_VCPU_HAS_EL2_E2H0),
	.reset = reset_by_request,
};

static gpa_t alloc_page(struct kvm_vm *vm, u64 **hva)
{
	gpa_t gpa = vm_phy_page_alloc(vm, 0x200000, 0);

	*hva = addr_gpa2hva(vm, gpa);
	memset(*hva, 0, vm->page_size);

	return gpa;
}

static struct kvm_vcpu *add_vcpu(struct kvm_vm *vm, u32 id,
				 const struct kvm_vcpu_init *init)
{
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, id);

	/* Not what the library does, e.g. leave address translation off. */
	vcpu->init = *init;
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &vcpu->init);

	return vcpu;
}

FIXTURE_SETUP(nested)
{
	struct kvm_vcpu_init init;
	u64 *pgd, *pmd, *hva;
	struct kvm_vm *vm;
	gpa_t gpa;

	self->vm = NULL;
	if ((variant->feature & BIT(KVM_ARM_VCPU_HAS_EL2_E2H0)) &&
	    !kvm_has_cap(KVM_CAP_ARM_EL2_E2H0))
		SKIP(return, "HCR_EL2.E2H can't be clear");

	vm = vm_create(4);
	TEST_ASSERT_EQ(vm->page_size, SZ_4K);
	kvm_get_default_vcpu_target(vm, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2) | variant->feature;

	self->vm = vm;
	self->vcpu = add_vcpu(vm, 0, &init);
	self->other = add_vcpu(vm, 1, &init);
	self->caller = add_vcpu(vm, 2, &init);
	self->spinner = add_vcpu(vm, 3, &init);
	kvm_arch_vm_finalize_vcpus(vm);

	self->old_page = alloc_page(vm, &hva);
	*hva = OLD_PAGE;
	self->new_page = alloc_page(vm, &hva);
	*hva = NEW_PAGE;

	/* All of the VM's memory is mapped 1:1, and so is the report. */
	self->args.vttbr = alloc_page(vm, &pgd) | L1_VMID << 48;
	pgd[0] = S2_BLOCK;
	gpa = alloc_page(vm, &pmd);
	pgd[1] = gpa | S2_TABLE;
	gpa = alloc_page(vm, &self->pte);
	pmd[0] = gpa | S2_TABLE;
	self->pte[0] = self->old_page | S2_PAGE;

	self->args.vtcr = L1_VTCR;
	self->args.l2_entry = code_gpa(vm, guest_l2);
	self->args.l2_addr = L2_IPA;
	self->args.report = REPORT_GPA;
	self->args_gpa = alloc_page(vm, &hva);
	memcpy(hva, &self->args, sizeof(self->args));
}

FIXTURE_TEARDOWN(nested)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

/* Unlike PSCI CPU_ON, the others leave that to userspace. */
static void start_l1(struct kvm_vcpu *vcpu, gpa_t args)
{
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), code_gpa(vcpu->vm, guest_l1));
	vcpu_set_reg(vcpu, GPR(0), args);
}

TEST_F(nested, stage2)
{
	start_l1(self->vcpu, self->args_gpa);
	TEST_ASSERT_EQ(run_to_report(self->vcpu), OLD_PAGE);

	self->pte[0] = self->new_page | S2_PAGE;
	variant->reset(self->vcpu, self->caller);
	start_l1(self->vcpu, self->args_gpa);
	TEST_ASSERT_EQ(run_to_report(self->vcpu), NEW_PAGE);
}

/* It is L1 that runs when the vCPU is reset. */
TEST_F(nested, stage2_l1)
{
	start_l1(self->vcpu, self->args_gpa);
	TEST_ASSERT_EQ(run_to_report(self->vcpu), OLD_PAGE);
	complete_exit(self->vcpu);

	/* An SMC of L1, i.e. one that KVM serves. */
	vcpu_set_reg(self->vcpu, ARM64_CORE_REG(regs.pstate),
		     PSR_MODE_EL2h | PSR_D_BIT | PSR_A_BIT | PSR_I_BIT | PSR_F_BIT);
	vcpu_set_reg(self->vcpu, ARM64_CORE_REG(regs.pc),
		     code_gpa(self->vm, guest_cpu_on));
	vcpu_args_set(self->vcpu, 6, (u64)PSCI_0_2_FN_PSCI_VERSION, 0ul, 0ul, 0ul,
		      0ul, REPORT_GPA);
	TEST_ASSERT(run_to_report(self->vcpu) < BIT(31), "No version of PSCI");

	self->pte[0] = self->new_page | S2_PAGE;
	variant->reset(self->vcpu, self->caller);
	start_l1(self->vcpu, self->args_gpa);
	TEST_ASSERT_EQ(run_to_report(self->vcpu), NEW_PAGE);
}

/* Another vCPU is in L2 as well, with the same tables, and is not reset. */
TEST_F(nested, stage2_shared)
{
	start_l1(self->vcpu, self->args_gpa);
	start_l1(self->other, self->args_gpa);
	TEST_ASSERT_EQ(run_to_report(self->vcpu), OLD_PAGE);
	TEST_ASSERT_EQ(run_to_report(self->other), OLD_PAGE);

	self->pte[0] = self->new_page | S2_PAGE;
	variant->reset(self->vcpu, self->caller);
	start_l1(self->vcpu, self->args_gpa);
	TEST_ASSERT_EQ(run_to_report(self->vcpu), NEW_PAGE);
	TEST_ASSERT_EQ(run_to_report(self->other), NEW_PAGE);

	/* Nothing is pending anymore, both go on. */
	TEST_ASSERT_EQ(run_to_report(self->vcpu), NEW_PAGE);
	TEST_ASSERT_EQ(run_to_report(self->other), NEW_PAGE);
}

static bool stop_other;

static void *run_other(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	u64 value;

	while (!READ_ONCE(stop_other)) {
		value = run_to_report(vcpu);
		TEST_ASSERT(value == OLD_PAGE || value == NEW_PAGE,
			    "Neither of the pages: 0x%lx", value);
	}

	return NULL;
}

/* The same at the same time, it is either page then. */
TEST_F_TIMEOUT(nested, stage2_threads, 120)
{
	pthread_t thread;
	u64 value;
	int i;

	start_l1(self->vcpu, self->args_gpa);
	start_l1(self->other, self->args_gpa);
	TEST_ASSERT_EQ(run_to_report(self->vcpu), OLD_PAGE);

	ASSERT_EQ(0, pthread_create(&thread, NULL, run_other, self->other));
	for (i = 0; i < NR_ROUNDS; i++) {
		WRITE_ONCE(self->pte[0], S2_PAGE | (i & 1 ? self->old_page :
							    self->new_page));
		variant->reset(self->vcpu, self->caller);
		start_l1(self->vcpu, self->args_gpa);
		value = run_to_report(self->vcpu);
		TEST_ASSERT(value == OLD_PAGE || value == NEW_PAGE,
			    "Neither of the pages: 0x%lx", value);
	}
	WRITE_ONCE(stop_other, true);
	pthread_join(thread, NULL);

	self->pte[0] = self->new_page | S2_PAGE;
	variant->reset(self->vcpu, self->caller);
	start_l1(self->vcpu, self->args_gpa);
	TEST_ASSERT_EQ(run_to_report(self->vcpu), NEW_PAGE);
}

static u32 line_levels(struct kvm_vcpu *vcpu)
{
	/* The MPIDR of the first 16 vCPUs is their ID in Aff0. */
	u64 attr = (u64)vcpu->id << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT |
		   VGIC_LEVEL_INFO_LINE_LEVEL << KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT;
	u32 value = 0;

	kvm_device_attr_get(vcpu->vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
			    attr, &value);

	return value;
}

/* L1 wants to know when no interrupt of L2 is pending, which none is. */
TEST_F(nested, maintenance_irq)
{
	u64 hcr = ICH_HCR_EL2_En | ICH_HCR_EL2_NPIE;
	u64 attr = (u64)self->vcpu->id << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT |
		   (KVM_ARM64_SYS_REG(SYS_ICH_HCR_EL2) &
		    KVM_DEV_ARM_VGIC_SYSREG_INSTR_MASK);

	kvm_device_attr_set(self->vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
			    attr, &hcr);
	start_l1(self->vcpu, self->args_gpa);
	run_to_report(self->vcpu);
	TEST_ASSERT(line_levels(self->vcpu) & BIT(MI_PPI), "No interrupt");

	variant->reset(self->vcpu, self->caller);
	vcpu_get_reg(self->vcpu, ARM64_CORE_REG(regs.pc));
	TEST_ASSERT(!(line_levels(self->vcpu) & BIT(MI_PPI)),
		    "The interrupt is still pending");
}

static void set_l2(struct kvm_vcpu *vcpu, const struct l1_args *args)
{
	u64 hcr = KVM_ARM64_SYS_REG(SYS_HCR_EL2);

	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_VTTBR_EL2), args->vttbr);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_VTCR_EL2), args->vtcr);
	vcpu_set_reg(vcpu, hcr, vcpu_get_reg(vcpu, hcr) | HCR_EL2_RW | HCR_EL2_VM);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pstate),
		     PSR_MODE_EL1h | PSR_D_BIT | PSR_A_BIT | PSR_I_BIT | PSR_F_BIT);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), args->l2_entry);
	vcpu_set_reg(vcpu, GPR(4), args->l2_addr);
	vcpu_set_reg(vcpu, GPR(5), args->report);
}

/* As restored by userspace, first a vCPU that is new, then one with a past. */
TEST_F(nested, restore)
{
	set_l2(self->vcpu, &self->args);
	TEST_ASSERT_EQ(run_to_report(self->vcpu), OLD_PAGE);

	self->pte[0] = self->new_page | S2_PAGE;
	variant->reset(self->vcpu, self->caller);
	set_l2(self->vcpu, &self->args);
	TEST_ASSERT_EQ(run_to_report(self->vcpu), NEW_PAGE);
}

static pthread_t unmapper;
static bool unmapped, stop_spinner;

static void handle_signal(int signal)
{
}

/* L2 stores to memory, i.e. it does not exit. */
static void *run_spinner(void *arg)
{
	struct kvm_vcpu *vcpu = arg;

	while (!READ_ONCE(stop_spinner))
		TEST_ASSERT(__vcpu_run(vcpu) == -1 && errno == EINTR,
			    "L2 has exited");

	return NULL;
}

/* Not to get the CPU all the time has KVM let others have mmu_lock. */
static void *run_busy(void *arg)
{
	pin_self_to_cpu(0);
	while (!READ_ONCE(stop_spinner))
		;

	return NULL;
}

static void *run_unmapper(void *arg)
{
	pin_self_to_cpu(0);
	run_to_report(arg);
	WRITE_ONCE(unmapped, true);

	return NULL;
}

static void wait_until_seen(const u64 *seen, u64 value)
{
	while (READ_ONCE(*seen) != value)
		usleep(100);
}

static int end_unmap(int uffd_mode, int uffd, struct uffd_msg *msg)
{
	static char zeroes[SZ_4K];
	/* Not the zero page, as that is unmapped when KVM writes to it. */
	struct uffdio_copy copy = {
		.dst = msg->arg.pagefault.address & ~(SZ_4K - 1ul),
		.src = (u64)zeroes,
		.len = sizeof(zeroes),
	};

	pthread_join(unmapper, NULL);

	return ioctl(uffd, UFFDIO_COPY, &copy);
}

/*
 * The vCPU is reset while another one drops the mappings, which a third one has
 * set up again in part, and is held back until that is done.
 */
TEST_F_TIMEOUT(nested, stage2_unmapping, 300)
{
	struct sigaction sa = { .sa_handler = handle_signal };
	struct kvm_vm *vm = self->vm;
	struct uffd_desc *uffd;
	u64 time = TIME_GPA, value, *seen;
	pthread_t spinner, busy;
	void *hva;
	int i, nr_in_time = 0;

	if (__vcpu_has_device_attr(self->vcpu, KVM_ARM_VCPU_PVTIME_CTRL,
				   KVM_ARM_VCPU_PVTIME_IPA))
		SKIP(return, "No stolen time");

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TIME_GPA, TIME_SLOT,
				    1, 0);
	hva = addr_gpa2hva(vm, TIME_GPA);
	uffd = uffd_setup_demand_paging(UFFDIO_REGISTER_MODE_MISSING, 0, hva,
					vm->page_size, 1, end_unmap);
	vcpu_device_attr_set(self->vcpu, KVM_ARM_VCPU_PVTIME_CTRL,
			     KVM_ARM_VCPU_PVTIME_IPA, &time);

	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	self->pte[0] = self->new_page | S2_PAGE;
	set_l2(self->spinner, &self->args);
	vcpu_set_reg(self->spinner, GPR(5), alloc_page(vm, &seen));
	ASSERT_EQ(0, pthread_create(&spinner, NULL, run_spinner, self->spinner));
	ASSERT_EQ(0, pthread_create(&busy, NULL, run_busy, NULL));

	for (i = 0; i < NR_ROUNDS && nr_in_time < 3; i++) {
		/* Which unmaps what L2 has, too. */
		ASSERT_EQ(0, madvise(hva, vm->page_size, MADV_DONTNEED));
		wait_until_seen(seen, NEW_PAGE);

		/* Seen as soon as the new page has been unmapped. */
		WRITE_ONCE(self->pte[0], self->old_page | S2_PAGE);
		reset_by_init(self->other, NULL);
		set_l2(self->other, &self->args);
		unmapped = false;
		ASSERT_EQ(0, pthread_create(&unmapper, NULL, run_unmapper, self->other));
		wait_until_seen(seen, OLD_PAGE);

		WRITE_ONCE(self->pte[0], self->new_page | S2_PAGE);
		variant->reset(self->vcpu, self->caller);
		set_l2(self->vcpu, &self->args);
		nr_in_time += !READ_ONCE(unmapped);
		value = run_to_report(self->vcpu);
		EXPECT_EQ(NEW_PAGE, value);
		if (value != NEW_PAGE)
			break;
	}

	WRITE_ONCE(stop_spinner, true);
	while (pthread_tryjoin_np(spinner, NULL)) {
		self->spinner->run->immediate_exit = 1;
		pthread_kill(spinner, SIGUSR1);
		usleep(1000);
	}
	pthread_join(busy, NULL);
	uffd_stop_demand_paging(uffd);
	TH_LOG("%d of %d resets while mappings were dropped", nr_in_time, i);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(test_supports_el2());

	return test_harness_run(argc, argv);
}
