// SPDX-License-Identifier: GPL-2.0-only
/*
 * CSRs that userspace has written, of a vCPU that was loaded on another CPU
 * before it runs again where it ran last.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define ROUNDS	10

static void guest_code(void)
{
	for (;;)
		GUEST_SYNC(csr_read(CSR_SSCRATCH));
}

static void run(struct kvm_vcpu *vcpu, u64 want)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	TEST_ASSERT(uc.args[1] == want, "sscratch is %lu in the guest, was set to %lu",
		    (unsigned long)uc.args[1], (unsigned long)want);
}

/* Unlike immediate_exit, a signal that is pending ends KVM_RUN after the load. */
static void load(struct kvm_vcpu *vcpu)
{
	struct kvm_signal_mask *mask = calloc(1, sizeof(*mask) + sizeof(u64));
	sigset_t usr1;
	int ret, sig;

	TEST_ASSERT(mask, "calloc()");
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	TEST_ASSERT(!sigprocmask(SIG_BLOCK, &usr1, NULL), "sigprocmask()");
	mask->len = sizeof(u64);
	vcpu_ioctl(vcpu, KVM_SET_SIGNAL_MASK, mask);
	raise(SIGUSR1);
	ret = __vcpu_run(vcpu);
	TEST_ASSERT(ret == -1 && errno == EINTR, "KVM_RUN returned %d, errno %d", ret, errno);
	TEST_ASSERT(!sigwait(&usr1, &sig), "sigwait()");
	free(mask);
}

int main(void)
{
	int cpus[2], nr = 0, cpu;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	cpu_set_t set;
	u64 value;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(set), &set), "sched_getaffinity()");
	for (cpu = 0; cpu < CPU_SETSIZE && nr < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[nr++] = cpu;
	TEST_REQUIRE(nr == 2);

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	for (value = 1; value <= ROUNDS; value++) {
		pin_self_to_cpu(cpus[0]);
		vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sscratch), value);
		run(vcpu, value);

		vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sscratch), value + 100);
		pin_self_to_cpu(cpus[1]);
		load(vcpu);
		pin_self_to_cpu(cpus[0]);
		run(vcpu, value + 100);
	}
	kvm_vm_free(vm);
	return 0;
}
