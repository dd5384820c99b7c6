// SPDX-License-Identifier: GPL-2.0-only
/*
 * RISC-V KVM test of a guest without the vector extension.
 *
 * Vector instructions of a guest whose V extension was disabled have to trap,
 * whatever the guest writes to sstatus.VS.  KVM does not switch the vector
 * registers of such a guest, so it would get those of others.  To show that,
 * another task shares the CPU with the vCPU and keeps a known value in its
 * vector registers, which the guest looks for.
 */
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <sys/auxv.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#define COMPAT_HWCAP_ISA_V	(1ul << ('V' - 'A'))

#define MARKER			0x5ec2e7da7aul
#define TIMEOUT			10

static bool guest_trapped;
static bool guest_found;
static bool stop;

static void guest_illegal_handler(struct pt_regs *regs)
{
	WRITE_ONCE(guest_trapped, true);
	regs->epc += 4;
}

/* Element 0 of v8, if there is a vector unit */
static unsigned long read_v8(void)
{
	unsigned long val = 0;

	asm volatile(".option push\n"
		     ".option arch, +v\n"
		     "vsetivli zero, 1, e64, m1, ta, ma\n"
		     "vmv.x.s %0, v8\n"
		     ".option pop\n"
		     : "+r" (val) : : "memory");

	return val;
}

static void guest_code(void)
{
	csr_set(CSR_SSTATUS, SR_VS);

	while (!READ_ONCE(guest_trapped) && !READ_ONCE(stop)) {
		if (read_v8() == MARKER) {
			WRITE_ONCE(guest_found, true);
			break;
		}
	}

	GUEST_DONE();
}

/* Without system calls, which clobber vector registers. */
static void *marker_thread(void *arg)
{
	while (!READ_ONCE(stop)) {
		asm volatile(".option push\n"
			     ".option arch, +v\n"
			     "vsetivli zero, 1, e64, m1, ta, ma\n"
			     "vmv.v.x v8, %0\n"
			     ".option pop\n"
			     : : "r" (MARKER) : "memory");
	}

	return NULL;
}

static void *timeout_thread(void *arg)
{
	struct kvm_vm *vm = arg;
	int i;

	for (i = 0; i < TIMEOUT * 100 && !READ_ONCE(stop); i++)
		usleep(10000);

	WRITE_ONCE(stop, true);
	sync_global_to_guest(vm, stop);

	return NULL;
}

static void test_vector_off(u64 reg, u64 val)
{
	pthread_t marker, timeout;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	stop = false;
	guest_trapped = false;
	guest_found = false;

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_init_vector_tables(vm);
	vcpu_init_vector_tables(vcpu);
	vm_install_exception_handler(vm, EXC_INST_ILLEGAL, guest_illegal_handler);

	vcpu_set_reg(vcpu, reg, val);
	TEST_ASSERT(!__vcpu_has_isa_ext(vcpu, KVM_RISCV_ISA_EXT_V),
		    "The V extension should be off");

	pthread_create(&marker, NULL, marker_thread, NULL);
	pthread_create(&timeout, NULL, timeout_thread, vm);

	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_DONE);

	WRITE_ONCE(stop, true);
	pthread_join(marker, NULL);
	pthread_join(timeout, NULL);

	sync_global_from_guest(vm, guest_trapped);
	sync_global_from_guest(vm, guest_found);
	TEST_ASSERT(!guest_found,
		    "The guest has read a vector register of another task");
	TEST_ASSERT(guest_trapped,
		    "Vector instructions should trap without the V extension");

	kvm_vm_free(vm);
}

int main(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	cpu_set_t cpus;
	u64 isa;

	TEST_REQUIRE(getauxval(AT_HWCAP) & COMPAT_HWCAP_ISA_V);

	/* Share one CPU with the other task. */
	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(cpus), &cpus),
		    "sched_setaffinity() failed");

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	TEST_REQUIRE(__vcpu_has_isa_ext(vcpu, KVM_RISCV_ISA_EXT_V));
	isa = vcpu_get_reg(vcpu, RISCV_CONFIG_REG(isa));
	kvm_vm_free(vm);

	test_vector_off(RISCV_ISA_EXT_REG(KVM_RISCV_ISA_EXT_V), 0);
	test_vector_off(RISCV_CONFIG_REG(isa), isa & ~COMPAT_HWCAP_ISA_V);

	return 0;
}
