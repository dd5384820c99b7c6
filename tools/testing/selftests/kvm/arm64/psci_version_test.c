// SPDX-License-Identifier: GPL-2.0-only
/*
 * psci_version_test - The functions of PSCI that a guest sees, by version
 *
 * A guest that was started with a version of PSCI gets to see it for as long as
 * it lives.  For each version that KVM_REG_ARM_PSCI_VERSION accepts, walk a table
 * of functions, 32 and 64 bit, and verify which ones there are and what they
 * return:
 *  - As the version is set.
 *  - After a reset of the vCPUs with KVM_MP_STATE_RESET.
 *  - With KVM_CAP_ARM_SYSTEM_SUSPEND, which adds a function to the versions that
 *    have it, and to no others.
 *  - With an SMCCC filter for other functions.
 *  - With all registers restored into a new VM that has another version.
 * KVM_CAP_EXIT_ON_VCPU_RESET is not for arm64, i.e. it can't change anything.
 */
#include <linux/arm-smccc.h>
#include <linux/psci.h>
#include <linux/sizes.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"

#define RESULT_GPA	0x40000000ul

#define CALLER		0
/* A vCPU that is on, and one that is off. */
#define VCPU_ON		1
#define VCPU_OFF	2
#define NR_VCPUS	3
#define ABSENT		9

#define ENTRY		0x80000000ul
#define NO_EXIT		(-1)

#define GPR(i)		ARM64_CORE_REG(regs.regs[i])

/* Not in linux/psci.h, nor has KVM ever had these. */
#define PSCI_FN(n)	(0x84000000 + (n))
#define PSCI_FN64(n)	(0xc4000000 + (n))
#define CPU_FREEZE	0xb
#define NODE_HW_STATE	0xd
#define MEM_PROTECT	0x13

extern const char guest_code[];
asm("	.pushsection .text, \"ax\"\n"
"	.balign 64\n"
"guest_code:\n"
"	hvc	#0\n"
"	str	x0, [x19]\n"
"	b	.\n"
"	.popsection\n"
);

struct psci_row {
	const char *name;
	u32 fn;
	u64 arg[3];
	/* The first version that has it. */
	u32 since;
	/* The last one, or 0. */
	u32 until;
	/* What it returns there, elsewhere it's PSCI_RET_NOT_SUPPORTED. */
	long ret;
	/* KVM_SYSTEM_EVENT_*, before it returns. */
	int event;
	u64 event_flags;
	/* Only with KVM_CAP_ARM_SYSTEM_SUSPEND, which leaves x0 alone. */
	bool suspend;
};

#define V(major, minor)		PSCI_VERSION(major, minor)
#define V0_1			PSCI_VERSION(0, 1)

#define ROW(_fn, _since, _ret, ...)					\
	{ .name = #_fn, .fn = _fn, .since = _since, .ret = _ret,	\
	  .event = NO_EXIT, ##__VA_ARGS__ }
#define ARGS(...)		.arg = { __VA_ARGS__ }
#define EVENT(_event, _flags)	.event = KVM_SYSTEM_EVENT_##_event,	\
				.event_flags = _flags
#define FEATURE(_fn, _since, _ret, ...)					\
	ROW(PSCI_1_0_FN_PSCI_FEATURES, _since, _ret, ARGS(_fn), ##__VA_ARGS__)

#define RESET2_FLAG		KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2
#define OFF2_FLAG		KVM_SYSTEM_EVENT_SHUTDOWN_FLAG_PSCI_OFF2
#define HIBERNATE		PSCI_1_3_OFF_TYPE_HIBERNATE_OFF
#define NOT_SUPPORTED		PSCI_RET_NOT_SUPPORTED
#define INVALID_PARAMS		PSCI_RET_INVALID_PARAMS
#define FAILURE			PSCI_RET_INTERNAL_FAILURE

static const struct psci_row rows[] = {
	/* 0.1 has numbers of its own, and goes without those of the others. */
	ROW(KVM_PSCI_FN_CPU_SUSPEND, V0_1, NOT_SUPPORTED, .until = V0_1),
	ROW(KVM_PSCI_FN_MIGRATE, V0_1, NOT_SUPPORTED, .until = V0_1),
	ROW(KVM_PSCI_FN_CPU_ON, V0_1, INVALID_PARAMS, .until = V0_1,
	    ARGS(ABSENT, ENTRY)),
	ROW(KVM_PSCI_FN_CPU_ON, V0_1, INVALID_PARAMS, .until = V0_1,
	    ARGS(VCPU_ON, ENTRY)),
	ROW(KVM_PSCI_FN_CPU_ON, V0_1, PSCI_RET_SUCCESS, .until = V0_1,
	    ARGS(VCPU_OFF, ENTRY)),

	ROW(PSCI_0_2_FN_MIGRATE_INFO_TYPE, V(0, 2), PSCI_0_2_TOS_MP),
	ROW(PSCI_0_2_FN_MIGRATE, V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_0_2_FN64_MIGRATE, V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_0_2_FN_MIGRATE_INFO_UP_CPU, V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_0_2_FN64_MIGRATE_INFO_UP_CPU, V(0, 2), NOT_SUPPORTED),

	ROW(PSCI_0_2_FN_CPU_ON, V(0, 2), INVALID_PARAMS, ARGS(ABSENT, ENTRY)),
	ROW(PSCI_0_2_FN64_CPU_ON, V(0, 2), INVALID_PARAMS, ARGS(ABSENT, ENTRY)),
	ROW(PSCI_0_2_FN_CPU_ON, V(0, 2), PSCI_RET_ALREADY_ON, ARGS(VCPU_ON, ENTRY)),
	ROW(PSCI_0_2_FN64_CPU_ON, V(0, 2), PSCI_RET_ALREADY_ON, ARGS(VCPU_ON, ENTRY)),
	ROW(PSCI_0_2_FN_CPU_ON, V(0, 2), PSCI_RET_SUCCESS, ARGS(VCPU_OFF, ENTRY)),
	ROW(PSCI_0_2_FN64_CPU_ON, V(0, 2), PSCI_RET_SUCCESS, ARGS(VCPU_OFF, ENTRY)),

	ROW(PSCI_0_2_FN_AFFINITY_INFO, V(0, 2), PSCI_0_2_AFFINITY_LEVEL_ON,
	    ARGS(VCPU_ON, 0)),
	ROW(PSCI_0_2_FN64_AFFINITY_INFO, V(0, 2), PSCI_0_2_AFFINITY_LEVEL_ON,
	    ARGS(VCPU_ON, 0)),
	ROW(PSCI_0_2_FN_AFFINITY_INFO, V(0, 2), PSCI_0_2_AFFINITY_LEVEL_OFF,
	    ARGS(VCPU_OFF, 0)),
	ROW(PSCI_0_2_FN64_AFFINITY_INFO, V(0, 2), PSCI_0_2_AFFINITY_LEVEL_OFF,
	    ARGS(VCPU_OFF, 0)),
	ROW(PSCI_0_2_FN64_AFFINITY_INFO, V(0, 2), INVALID_PARAMS, ARGS(ABSENT, 0)),
	ROW(PSCI_0_2_FN64_AFFINITY_INFO, V(0, 2), INVALID_PARAMS, ARGS(VCPU_ON, 4)),

	ROW(PSCI_0_2_FN_SYSTEM_OFF, V(0, 2), FAILURE, EVENT(SHUTDOWN, 0)),
	ROW(PSCI_0_2_FN_SYSTEM_RESET, V(0, 2), FAILURE, EVENT(RESET, 0)),

	FEATURE(PSCI_0_2_FN_PSCI_VERSION, V(1, 0), 0),
	FEATURE(PSCI_0_2_FN_CPU_SUSPEND, V(1, 0), 0),
	FEATURE(PSCI_0_2_FN64_CPU_SUSPEND, V(1, 0), 0),
	FEATURE(PSCI_0_2_FN_CPU_OFF, V(1, 0), 0),
	FEATURE(PSCI_0_2_FN_CPU_ON, V(1, 0), 0),
	FEATURE(PSCI_0_2_FN64_CPU_ON, V(1, 0), 0),
	FEATURE(PSCI_0_2_FN_AFFINITY_INFO, V(1, 0), 0),
	FEATURE(PSCI_0_2_FN64_AFFINITY_INFO, V(1, 0), 0),
	FEATURE(PSCI_0_2_FN_MIGRATE_INFO_TYPE, V(1, 0), 0),
	FEATURE(PSCI_0_2_FN_MIGRATE, V(1, 0), NOT_SUPPORTED),
	FEATURE(PSCI_0_2_FN_SYSTEM_OFF, V(1, 0), 0),
	FEATURE(PSCI_0_2_FN_SYSTEM_RESET, V(1, 0), 0),
	FEATURE(PSCI_1_0_FN_PSCI_FEATURES, V(1, 0), 0),
	FEATURE(ARM_SMCCC_VERSION_FUNC_ID, V(1, 0), 0),
	FEATURE(PSCI_FN(CPU_FREEZE), V(1, 0), NOT_SUPPORTED),
	FEATURE(PSCI_FN(0x1f), V(1, 0), NOT_SUPPORTED),
	FEATURE(PSCI_1_0_FN_SYSTEM_SUSPEND, V(1, 0), 0, .suspend = true),
	FEATURE(PSCI_1_0_FN64_SYSTEM_SUSPEND, V(1, 0), 0, .suspend = true),
	FEATURE(PSCI_1_1_FN_SYSTEM_RESET2, V(1, 1), 0),
	FEATURE(PSCI_1_1_FN64_SYSTEM_RESET2, V(1, 1), 0),
	FEATURE(PSCI_1_3_FN_SYSTEM_OFF2, V(1, 3), HIBERNATE),
	FEATURE(PSCI_1_3_FN64_SYSTEM_OFF2, V(1, 3), HIBERNATE),

	ROW(PSCI_1_0_FN_SYSTEM_SUSPEND, V(1, 0), PSCI_1_0_FN_SYSTEM_SUSPEND,
	    EVENT(SUSPEND, 0), ARGS(ENTRY), .suspend = true),
	ROW(PSCI_1_0_FN64_SYSTEM_SUSPEND, V(1, 0), PSCI_1_0_FN64_SYSTEM_SUSPEND,
	    EVENT(SUSPEND, 0), ARGS(ENTRY), .suspend = true),

	ROW(PSCI_1_1_FN_SYSTEM_RESET2, V(1, 1), FAILURE, EVENT(RESET, RESET2_FLAG)),
	ROW(PSCI_1_1_FN64_SYSTEM_RESET2, V(1, 1), FAILURE, EVENT(RESET, RESET2_FLAG)),
	ROW(PSCI_1_1_FN64_SYSTEM_RESET2, V(1, 1), FAILURE, EVENT(RESET, RESET2_FLAG),
	    ARGS(PSCI_1_1_RESET_TYPE_VENDOR_START)),
	ROW(PSCI_1_1_FN_SYSTEM_RESET2, V(1, 1), INVALID_PARAMS, ARGS(1)),
	ROW(PSCI_1_1_FN64_SYSTEM_RESET2, V(1, 1), INVALID_PARAMS, ARGS(1)),

	ROW(PSCI_1_3_FN_SYSTEM_OFF2, V(1, 3), FAILURE, EVENT(SHUTDOWN, OFF2_FLAG),
	    ARGS(HIBERNATE)),
	ROW(PSCI_1_3_FN64_SYSTEM_OFF2, V(1, 3), FAILURE, EVENT(SHUTDOWN, OFF2_FLAG)),
	ROW(PSCI_1_3_FN_SYSTEM_OFF2, V(1, 3), INVALID_PARAMS, ARGS(2)),
	ROW(PSCI_1_3_FN64_SYSTEM_OFF2, V(1, 3), INVALID_PARAMS, ARGS(HIBERNATE, 1)),

	/* In none of them. */
	ROW(PSCI_FN64(0), V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_FN64(2), V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_FN64(8), V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_FN64(0xa), V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_FN(CPU_FREEZE), V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_FN(NODE_HW_STATE), V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_FN64(NODE_HW_STATE), V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_FN(MEM_PROTECT), V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_FN64(MEM_PROTECT), V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_FN(0x1f), V(0, 2), NOT_SUPPORTED),
	ROW(PSCI_FN64(0x1f), V(0, 2), NOT_SUPPORTED),
};

FIXTURE(psci) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
};

FIXTURE_VARIANT(psci) {
	u32 version;
};

FIXTURE_VARIANT_ADD(psci, v0_1) { .version = V0_1 };
FIXTURE_VARIANT_ADD(psci, v0_2) { .version = V(0, 2) };
FIXTURE_VARIANT_ADD(psci, v1_0) { .version = V(1, 0) };
FIXTURE_VARIANT_ADD(psci, v1_1) { .version = V(1, 1) };
FIXTURE_VARIANT_ADD(psci, v1_2) { .version = V(1, 2) };
FIXTURE_VARIANT_ADD(psci, v1_3) { .version = V(1, 3) };

/* Every version up to the latest, 0.1 is a feature that isn't there. */
static struct kvm_vm *create_vm(struct kvm_vcpu **vcpus, u32 version)
{
	struct kvm_vcpu_init init;
	struct kvm_vm *vm;
	int i;

	vm = vm_create(NR_VCPUS);

	kvm_get_default_vcpu_target(vm, &init);
	if (version != V0_1)
		init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	init.features[0] &= ~BIT(KVM_ARM_VCPU_HAS_EL2);

	for (i = 0; i < NR_VCPUS; i++) {
		vcpus[i] = __vm_vcpu_add(vm, i);
		vcpus[i]->init = init;
		vcpu_ioctl(vcpus[i], KVM_ARM_VCPU_INIT, &vcpus[i]->init);
	}

	kvm_arch_vm_finalize_vcpus(vm);

	return vm;
}

FIXTURE_SETUP(psci)
{
	self->vm = create_vm(self->vcpus, variant->version);
	vcpu_set_reg(self->vcpus[CALLER], KVM_REG_ARM_PSCI_VERSION, variant->version);
}

FIXTURE_TEARDOWN(psci)
{
	kvm_vm_free(self->vm);
}

static bool has_row(const struct psci_row *row, u32 version, bool suspend)
{
	if (version < row->since || (row->until && version > row->until))
		return false;

	return !row->suspend || suspend;
}

static void check_row(struct kvm_vcpu **vcpus, const struct psci_row *row,
		      u32 version, bool suspend)
{
	bool has = has_row(row, version, suspend);
	struct kvm_vcpu *vcpu = vcpus[CALLER];
	struct kvm_run *run = vcpu->run;
	int event = has ? row->event : NO_EXIT;
	long want = has ? row->ret : NOT_SUPPORTED;
	long ret;
	int i;

	vcpu_set_mp_state(vcpus[VCPU_ON], KVM_MP_STATE_RUNNABLE);
	vcpu_set_mp_state(vcpus[VCPU_OFF], KVM_MP_STATE_STOPPED);

	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc),
		     addr_gva2gpa(vcpu->vm, (gva_t)guest_code));
	vcpu_set_reg(vcpu, GPR(19), RESULT_GPA);
	vcpu_set_reg(vcpu, GPR(0), row->fn);
	for (i = 0; i < ARRAY_SIZE(row->arg); i++)
		vcpu_set_reg(vcpu, GPR(1 + i), row->arg[i]);

	vcpu_run(vcpu);
	if (event != NO_EXIT) {
		TEST_ASSERT(run->exit_reason == KVM_EXIT_SYSTEM_EVENT &&
			    run->system_event.type == event,
			    "%s(0x%lx, 0x%lx): no system event %d, exit %u (%s)",
			    row->name, row->arg[0], row->arg[1], event,
			    run->exit_reason, exit_reason_str(run->exit_reason));
		TEST_ASSERT(!row->event_flags ||
			    (run->system_event.ndata &&
			     run->system_event.data[0] == row->event_flags),
			    "%s: no flags, ndata %u", row->name,
			    run->system_event.ndata);
		vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
		vcpu_run(vcpu);
	}

	TEST_ASSERT(run->exit_reason == KVM_EXIT_MMIO &&
		    run->mmio.phys_addr == RESULT_GPA,
		    "%s(0x%lx, 0x%lx): exit %u (%s)", row->name, row->arg[0],
		    row->arg[1], run->exit_reason,
		    exit_reason_str(run->exit_reason));
	memcpy(&ret, run->mmio.data, sizeof(ret));
	TEST_ASSERT(ret == want, "%s(0x%lx, 0x%lx) returns %ld instead of %ld",
		    row->name, row->arg[0], row->arg[1], ret, want);

	vcpu_run_immediate_exit(vcpu);
}

static void check_rows(struct kvm_vcpu **vcpus, u32 version, bool suspend)
{
	const struct psci_row psci_version = {
		.name = "PSCI_0_2_FN_PSCI_VERSION",
		.fn = PSCI_0_2_FN_PSCI_VERSION,
		.since = V(0, 2),
		.ret = version,
		.event = NO_EXIT,
	};
	int i;

	TEST_ASSERT_EQ(vcpu_get_reg(vcpus[CALLER], KVM_REG_ARM_PSCI_VERSION), version);

	check_row(vcpus, &psci_version, version, suspend);
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		check_row(vcpus, &rows[i], version, suspend);
}

TEST_F(psci, functions)
{
	check_rows(self->vcpus, variant->version, false);
}

TEST_F(psci, reset)
{
	int i;

	if (!kvm_has_cap(KVM_CAP_MP_STATE_RESET))
		SKIP(return, "KVM_CAP_MP_STATE_RESET is not available");

	check_rows(self->vcpus, variant->version, false);
	for (i = 0; i < NR_VCPUS; i++)
		vcpu_set_mp_state(self->vcpus[i], KVM_MP_STATE_RESET);
	vcpu_set_mp_state(self->vcpus[CALLER], KVM_MP_STATE_RUNNABLE);
	check_rows(self->vcpus, variant->version, false);
}

TEST_F(psci, system_suspend)
{
	vm_enable_cap(self->vm, KVM_CAP_ARM_SYSTEM_SUSPEND, 0);
	check_rows(self->vcpus, variant->version, true);
}

TEST_F(psci, smccc_filter)
{
	struct kvm_smccc_filter filter = {
		.base		= PSCI_FN(0x10),
		.nr_functions	= 2,
		.action		= KVM_SMCCC_FILTER_FWD_TO_USER,
	};

	kvm_device_attr_set(self->vm->fd, KVM_ARM_VM_SMCCC_CTRL,
			    KVM_ARM_VM_SMCCC_FILTER, &filter);
	check_rows(self->vcpus, variant->version, false);
}

TEST_F(psci, migrate)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm;
	int i;

	check_rows(self->vcpus, variant->version, false);

	vm = create_vm(vcpus, variant->version);
	for (i = 0; i < NR_VCPUS; i++)
		vcpu_copy_reg_list(self->vcpus[i], vcpus[i]);
	check_rows(vcpus, variant->version, false);

	kvm_vm_free(vm);
}

TEST_F(psci, exit_on_vcpu_reset)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_VCPU_RESET };

	TEST_ASSERT_EQ(vm_check_cap(self->vm, KVM_CAP_EXIT_ON_VCPU_RESET), 0);
	for (cap.args[0] = 0; cap.args[0] < 8; cap.args[0]++)
		TEST_ASSERT(__vm_ioctl(self->vm, KVM_ENABLE_CAP, &cap) == -1 &&
			    errno == EINVAL, "Mask 0x%llx: errno %d",
			    cap.args[0], errno);

	check_rows(self->vcpus, variant->version, false);
}

TEST_F(psci, other_versions)
{
	static const u32 versions[] = {
		V0_1, V(0, 2), V(1, 0), V(1, 1), V(1, 2), V(1, 3),
	};
	struct kvm_vcpu *vcpu = self->vcpus[CALLER];
	int i;

	/* It's a feature of the vCPU whether it's 0.1, all others are a choice. */
	for (i = 0; i < ARRAY_SIZE(versions); i++) {
		bool ok = (versions[i] == V0_1) == (variant->version == V0_1);
		int r = __vcpu_set_reg(vcpu, KVM_REG_ARM_PSCI_VERSION, versions[i]);

		TEST_ASSERT(ok ? !r : r == -1 && errno == EINVAL,
			    "Version 0x%x: %d, errno %d", versions[i], r, errno);
	}

	TEST_ASSERT(__vcpu_set_reg(vcpu, KVM_REG_ARM_PSCI_VERSION, V(1, 4)) == -1 &&
		    errno == EINVAL, "Version 1.4: errno %d", errno);
	TEST_ASSERT(__vcpu_set_reg(vcpu, KVM_REG_ARM_PSCI_VERSION, V(2, 0)) == -1 &&
		    errno == EINVAL, "Version 2.0: errno %d", errno);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_ARM_SYSTEM_SUSPEND));

	return test_harness_run(argc, argv);
}
