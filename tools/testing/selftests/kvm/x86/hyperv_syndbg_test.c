// SPDX-License-Identifier: GPL-2.0-only
/*
 * hyperv_syndbg_test - Hyper-V synthetic debugger MSRs and their exits
 *
 * A guest's write to the synthetic debugger's control MSR exits to userspace,
 * which answers with the status that the guest is to read from the status MSR.
 * Verify that the guest gets userspace's answer if:
 *  - The exit directly follows the write.
 *  - Userspace completes the exit with immediate_exit first.
 *  - There is another exit in between, i.e. the one of single-stepping.
 *  - KVM emulates the WRMSR instruction.
 * and that a write to the pending buffer MSR exits, but has no answer.
 */
#include "hyperv.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"

#define CONTROL		0x600d
#define PENDING_GPA	0x5000
#define STATUS		0xfeedf00dul
#define STALE_STATUS	0xbaadf00dul

static void guest_syndbg(void)
{
	wrmsr(HV_X64_MSR_SYNDBG_CONTROL, CONTROL);
	GUEST_ASSERT_EQ(rdmsr(HV_X64_MSR_SYNDBG_STATUS), STATUS);

	wrmsr(HV_X64_MSR_SYNDBG_PENDING_BUFFER, PENDING_GPA);
	GUEST_ASSERT_EQ(rdmsr(HV_X64_MSR_SYNDBG_STATUS), STATUS);
	GUEST_DONE();
}

static void guest_syndbg_emulated(void)
{
	asm volatile(KVM_FEP "wrmsr"
		     : : "c" (HV_X64_MSR_SYNDBG_CONTROL), "a" (CONTROL), "d" (0));
	GUEST_ASSERT_EQ(rdmsr(HV_X64_MSR_SYNDBG_STATUS), STATUS);

	asm volatile(KVM_FEP "wrmsr"
		     : : "c" (HV_X64_MSR_SYNDBG_PENDING_BUFFER),
		     "a" (PENDING_GPA), "d" (0));
	GUEST_ASSERT_EQ(rdmsr(HV_X64_MSR_SYNDBG_STATUS), STATUS);
	GUEST_DONE();
}

KVM_ONE_VCPU_TEST_SUITE(hyperv_syndbg);

static void set_singlestep(struct kvm_vcpu *vcpu, bool on)
{
	struct kvm_guest_debug debug = {};

	if (on)
		debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	vcpu_guest_debug_set(vcpu, &debug);
}

static void run_to_syndbg_exit(struct kvm_vcpu *vcpu, bool singlestep, u32 msr)
{
	struct kvm_run *run = vcpu->run;
	struct ucall uc;

	set_singlestep(vcpu, singlestep);
	for (;;) {
		vcpu_run(vcpu);
		if (!singlestep || run->exit_reason != KVM_EXIT_DEBUG)
			break;

		/* Not an answer to anything. */
		memset(&run->hyperv, 0, sizeof(run->hyperv));
		run->hyperv.u.syndbg.msr = HV_X64_MSR_SYNDBG_CONTROL;
		run->hyperv.u.syndbg.status = STALE_STATUS;
	}
	set_singlestep(vcpu, false);

	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_HYPERV);
	TEST_ASSERT_EQ(run->hyperv.type, KVM_EXIT_HYPERV_SYNDBG);
	TEST_ASSERT_EQ(run->hyperv.u.syndbg.msr, msr);
	TEST_ASSERT_EQ(run->hyperv.u.syndbg.control, CONTROL);
}

static void test_syndbg(struct kvm_vcpu *vcpu, bool singlestep, bool immediate_exit)
{
	struct kvm_run *run = vcpu->run;
	struct ucall uc;

	vcpu_set_hv_cpuid(vcpu);

	run_to_syndbg_exit(vcpu, singlestep, HV_X64_MSR_SYNDBG_CONTROL);
	run->hyperv.u.syndbg.status = STATUS;
	if (immediate_exit) {
		vcpu_run_complete_io(vcpu);
		run->hyperv.u.syndbg.status = STALE_STATUS;
		vcpu_run_complete_io(vcpu);
	}

	run_to_syndbg_exit(vcpu, false, HV_X64_MSR_SYNDBG_PENDING_BUFFER);
	TEST_ASSERT_EQ(run->hyperv.u.syndbg.pending_page, PENDING_GPA);
	run->hyperv.u.syndbg.status = STALE_STATUS;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_DONE:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected ucall: %lu", uc.cmd);
	}
}

KVM_ONE_VCPU_TEST(hyperv_syndbg, exit, guest_syndbg)
{
	test_syndbg(vcpu, false, false);
}

KVM_ONE_VCPU_TEST(hyperv_syndbg, immediate_exit, guest_syndbg)
{
	test_syndbg(vcpu, false, true);
}

KVM_ONE_VCPU_TEST(hyperv_syndbg, singlestep, guest_syndbg)
{
	test_syndbg(vcpu, true, false);
}

TEST_F(hyperv_syndbg, emulated)
{
	if (!is_forced_emulation_enabled)
		SKIP(return, "No kvm.force_emulation_prefix");

	vcpu_arch_set_entry_point(self->vcpu, guest_syndbg_emulated);
	test_syndbg(self->vcpu, false, false);
}

int main(int argc, char *argv[])
{
	const struct kvm_cpuid2 *hv_cpuid;
	int i;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_SYS_HYPERV_CPUID));

	hv_cpuid = kvm_get_supported_hv_cpuid();
	for (i = 0; i < hv_cpuid->nent; i++) {
		if (hv_cpuid->entries[i].function ==
		    HYPERV_CPUID_SYNDBG_PLATFORM_CAPABILITIES)
			break;
	}
	__TEST_REQUIRE(i < hv_cpuid->nent, "No Hyper-V synthetic debugger");

	return test_harness_run(argc, argv);
}
