// SPDX-License-Identifier: GPL-2.0-only
/*
 * vgic_pending_tables - LPI pending tables of redistributors without LPIs
 *
 * A guest may map LPIs to a redistributor whose LPIs are disabled, either since
 * they have never been enabled, i.e. GICR_PENDBASER is still zero, or because it
 * has disabled them again, e.g. for kexec.  There is no pending table then, but
 * what the guest uses that memory for.  This test verifies that:
 *  - Neither mapping an LPI nor KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES writes there.
 *  - Both succeed if there is no memory, and what is pending for other vCPUs is
 *    saved.
 *  - What the pending table says when LPIs are enabled counts, whether an LPI was
 *    mapped before that or afterwards.
 */
#include <linux/sizes.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "gic.h"
#include "gic_v3.h"
#include "gic_v3_its.h"
#include "processor.h"
#include "ucall.h"
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

/* Not backed by memory */
#define NO_MEMORY_GPA	0x40000000ul

#define DEVICE_ID	0
/* The event is the vCPU it is for, and so is the collection. */
#define LPI(id)		(8192 + (id))
#define LPI_BYTE	(8192 / 8)

#define CPU		0
#define CPU_NO_LPIS	1
#define NR_VCPUS		2

FIXTURE(tables) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	int its_fd;
};

static void guest_code(void)
{
	int id;

	gic_init(GIC_V3, NR_VCPUS);
	gic_rdist_enable_lpis(PROP_TABLE, SZ_64K, PEND_TABLE(CPU));
	its_init(COLL_TABLE, SZ_64K, DEVICE_TABLE, SZ_64K, CMDQ, SZ_64K);
	GUEST_SYNC(0);

	its_send_mapd_cmd((void *)CMDQ, DEVICE_ID, ITT, SZ_64K, true);
	for (id = 0; id < NR_VCPUS; id++)
		its_send_mapc_cmd((void *)CMDQ, id, id, true);

	/* The one that KVM looks at first is the one of CPU_NO_LPIS. */
	its_send_mapti_cmd((void *)CMDQ, DEVICE_ID, CPU_NO_LPIS, CPU_NO_LPIS,
			   LPI(0));
	its_send_mapti_cmd((void *)CMDQ, DEVICE_ID, CPU, CPU, LPI(1));
	GUEST_SYNC(1);
}

static void run_to_sync(struct kvm_vcpu *vcpu, u64 stage)
{
	struct ucall uc;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		TEST_ASSERT_EQ(uc.args[1], stage);
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	default:
		TEST_FAIL("Unexpected ucall %lu", uc.cmd);
	}
}

static void map_lpis(struct kvm_vcpu **vcpus)
{
	run_to_sync(vcpus[CPU], 1);
}

FIXTURE_SETUP(tables)
{
	struct kvm_vcpu_init init;
	int id;

	self->vm = NULL;
	if (!kvm_supports_vgic_v3())
		SKIP(return, "GICv3 not available");

	self->vm = vm_create(NR_VCPUS);
	kvm_get_default_vcpu_target(self->vm, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	init.features[0] &= ~BIT(KVM_ARM_VCPU_HAS_EL2);
	for (id = 0; id < NR_VCPUS; id++)
		self->vcpus[id] = aarch64_vcpu_add(self->vm, id, &init, guest_code);
	kvm_arch_vm_finalize_vcpus(self->vm);
	self->its_fd = vgic_its_setup(self->vm);

	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, TABLES_GPA,
				    TABLES_SLOT, TABLES_SIZE / self->vm->page_size,
				    0);
	virt_map(self->vm, CMDQ, CMDQ, SZ_64K / self->vm->page_size);
	memset(addr_gpa2hva(self->vm, PROP_TABLE), LPI_PROP_ENABLED, SZ_64K);

	run_to_sync(self->vcpus[CPU], 0);
}

FIXTURE_TEARDOWN(tables)
{
	if (!self->vm)
		return;

	close(self->its_fd);
	kvm_vm_free(self->vm);
}

/* The byte with the bits of both LPIs, of the pending table at @gpa. */
static u8 *pending_bits(struct kvm_vm *vm, gpa_t gpa)
{
	return (u8 *)addr_gpa2hva(vm, gpa) + LPI_BYTE;
}

static void set_gicr(struct kvm_vcpu *vcpu, u32 offset, u32 value)
{
	/* The affinity is the ID. */
	kvm_device_attr_set(vcpu->vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
			    (u64)vcpu->id << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT | offset,
			    &value);
}

static void enable_lpis(struct kvm_vcpu *vcpu, gpa_t pend_table)
{
	set_gicr(vcpu, GICR_PENDBASER, pend_table);
	set_gicr(vcpu, GICR_CTLR, GICR_CTLR_ENABLE_LPIS);
}

static int save_pending_tables(struct kvm_vm *vm)
{
	return __kvm_device_attr_set(vm->arch.gic_fd, KVM_DEV_ARM_VGIC_GRP_CTRL,
				     KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL);
}

/* Returns 1 if the LPI was delivered, 0 if there is none. */
static int signal_lpi(struct kvm_vm *vm, u32 event)
{
	struct kvm_msi msi = {
		.address_lo = GITS_BASE_GPA + GITS_TRANSLATER,
		.data = event,
		.devid = DEVICE_ID,
		.flags = KVM_MSI_VALID_DEVID,
	};

	return __vm_ioctl(vm, KVM_SIGNAL_MSI, &msi);
}

TEST_F(tables, map)
{
	u8 *bits = pending_bits(self->vm, 0);

	*bits = 0xff;
	map_lpis(self->vcpus);
	EXPECT_EQ(0xff, *bits);
}

TEST_F(tables, map_no_memory)
{
	set_gicr(self->vcpus[CPU_NO_LPIS], GICR_PENDBASER, NO_MEMORY_GPA);
	map_lpis(self->vcpus);

	enable_lpis(self->vcpus[CPU_NO_LPIS], PEND_TABLE(CPU_NO_LPIS));
	EXPECT_EQ(1, signal_lpi(self->vm, CPU_NO_LPIS));
}

TEST_F(tables, save)
{
	u8 *bits = pending_bits(self->vm, 0);

	map_lpis(self->vcpus);
	*bits = 0xff;
	ASSERT_EQ(1, signal_lpi(self->vm, CPU));

	EXPECT_EQ(0, save_pending_tables(self->vm));
	EXPECT_EQ(0xff, *bits);
	EXPECT_EQ(BIT(1), *pending_bits(self->vm, PEND_TABLE(CPU)));
}

TEST_F(tables, save_no_memory)
{
	map_lpis(self->vcpus);
	set_gicr(self->vcpus[CPU_NO_LPIS], GICR_PENDBASER, NO_MEMORY_GPA);
	ASSERT_EQ(1, signal_lpi(self->vm, CPU));

	EXPECT_EQ(0, save_pending_tables(self->vm)) {
		TH_LOG("errno %d", errno);
	}
	EXPECT_EQ(BIT(1), *pending_bits(self->vm, PEND_TABLE(CPU)));
}

TEST_F(tables, save_disabled)
{
	u8 *bits = pending_bits(self->vm, PEND_TABLE(CPU_NO_LPIS));

	enable_lpis(self->vcpus[CPU_NO_LPIS], PEND_TABLE(CPU_NO_LPIS));
	map_lpis(self->vcpus);
	ASSERT_EQ(1, signal_lpi(self->vm, CPU_NO_LPIS));
	EXPECT_EQ(0, save_pending_tables(self->vm));
	EXPECT_EQ(BIT(0), *bits);

	set_gicr(self->vcpus[CPU_NO_LPIS], GICR_CTLR, 0);
	*bits = 0xff;
	EXPECT_EQ(0, save_pending_tables(self->vm));
	EXPECT_EQ(0xff, *bits);
}

static void check_pending(struct __test_metadata *_metadata, struct kvm_vm *vm)
{
	u8 *bits = pending_bits(vm, PEND_TABLE(CPU_NO_LPIS));

	*bits = 0;
	EXPECT_EQ(0, save_pending_tables(vm));
	EXPECT_EQ(BIT(0), *bits);
}

TEST_F(tables, map_enable)
{
	u8 *bits = pending_bits(self->vm, PEND_TABLE(CPU_NO_LPIS));

	set_gicr(self->vcpus[CPU_NO_LPIS], GICR_PENDBASER, PEND_TABLE(CPU_NO_LPIS));
	*bits = BIT(0);
	map_lpis(self->vcpus);
	EXPECT_EQ(BIT(0), *bits);

	enable_lpis(self->vcpus[CPU_NO_LPIS], PEND_TABLE(CPU_NO_LPIS));
	check_pending(_metadata, self->vm);
}

TEST_F(tables, enable_map)
{
	*pending_bits(self->vm, PEND_TABLE(CPU_NO_LPIS)) = BIT(0);

	enable_lpis(self->vcpus[CPU_NO_LPIS], PEND_TABLE(CPU_NO_LPIS));
	map_lpis(self->vcpus);
	check_pending(_metadata, self->vm);
}

TEST_HARNESS_MAIN
