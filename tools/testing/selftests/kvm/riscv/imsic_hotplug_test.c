// SPDX-License-Identifier: GPL-2.0-only
/*
 * RISC-V KVM test of guest interrupt files whose CPU goes offline.
 *
 * KVM moves the state of an IMSIC to memory when the CPU goes offline that has
 * its guest interrupt file.  Meanwhile userspace reads the state, resets the
 * vCPU, runs it on another CPU, or frees it.  It must neither see the state
 * missing, nor find it again after the reset.
 *
 * Takes the last CPU offline, and online again.
 */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#define IMSIC_ADDR		0x28000000ul

#define IMSIC_EIDELIVERY	0x70
#define IMSIC_EIP0		0x80
#define IMSIC_EIE0		0xc0

/* Before 7.3, KVM sign-extends bit 31 of what it keeps in memory. */
#define EIE			0x25a5a5a4ul
#define EIP			0x5a5a5a5aul

#define NR_ROUNDS		40

enum {
	READ,
	RESET,
	RUN,
	FREE,
	NR_ACTIONS,
};

static int home_cpu = -1, cpu = -1;
static cpu_set_t allowed;
static char online_path[64];
static bool done;

static void guest_code(void)
{
	for (;;)
		GUEST_SYNC(0);
}

static bool set_online(bool online)
{
	int fd = open(online_path, O_WRONLY);
	bool ok;

	if (fd < 0)
		return false;

	ok = write(fd, online ? "1" : "0", 1) == 1;
	close(fd);

	return ok;
}

static void *offline_thread(void *arg)
{
	/* Not where the vCPU is looked at. */
	TEST_ASSERT(!sched_setaffinity(0, sizeof(allowed), &allowed),
		    "sched_setaffinity() failed");
	TEST_ASSERT(set_online(false), "CPU %d stays online", cpu);
	WRITE_ONCE(done, true);

	return NULL;
}

static u64 imsic_attr(unsigned long isel)
{
	return KVM_DEV_RISCV_AIA_IMSIC_MKATTR(0ul, isel);
}

static unsigned long imsic_get(int fd, unsigned long isel)
{
	unsigned long val;

	kvm_device_attr_get(fd, KVM_DEV_RISCV_AIA_GRP_IMSIC, imsic_attr(isel),
			    &val);

	return val;
}

static void imsic_set(int fd, unsigned long isel, unsigned long val)
{
	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_IMSIC, imsic_attr(isel),
			    &val);
}

static int create_aia(struct kvm_vm *vm)
{
	int fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	u32 mode = KVM_DEV_RISCV_AIA_MODE_AUTO;
	u32 ids = KVM_DEV_RISCV_AIA_IDS_MIN;
	u64 addr = IMSIC_ADDR;

	if (__kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG,
				  KVM_DEV_RISCV_AIA_CONFIG_MODE, &mode)) {
		close(fd);
		return -1;
	}

	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG,
			    KVM_DEV_RISCV_AIA_CONFIG_IDS, &ids);
	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_ADDR,
			    KVM_DEV_RISCV_AIA_ADDR_IMSIC(0), &addr);
	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CTRL,
			    KVM_DEV_RISCV_AIA_CTRL_INIT, NULL);

	return fd;
}

static void check_state(int fd, bool there, const char *when)
{
	TEST_ASSERT_EQ(imsic_get(fd, IMSIC_EIDELIVERY), there);
	TEST_ASSERT(imsic_get(fd, IMSIC_EIE0) == (there ? EIE : 0),
		    "eie is 0x%lx %s", imsic_get(fd, IMSIC_EIE0), when);
	TEST_ASSERT(imsic_get(fd, IMSIC_EIP0) == (there ? EIP : 0),
		    "eip is 0x%lx %s", imsic_get(fd, IMSIC_EIP0), when);
}

static bool test_round(int round)
{
	int action = round % NR_ACTIONS;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	struct kvm_vm *vm;
	int i, fd;

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	/* KVM has resets since 6.16. */
	if (__vm_enable_cap(vm, KVM_CAP_RISCV_MP_STATE_RESET, 0) && action == RESET)
		action = READ;
	fd = create_aia(vm);
	if (fd < 0) {
		kvm_vm_free(vm);
		return false;
	}

	/* Get a guest interrupt file of the CPU, and fill it in. */
	pin_self_to_cpu(cpu);
	vcpu_run(vcpu);
	pin_self_to_cpu(home_cpu);
	imsic_set(fd, IMSIC_EIDELIVERY, 1);
	imsic_set(fd, IMSIC_EIE0, EIE);
	imsic_set(fd, IMSIC_EIP0, EIP);
	check_state(fd, true, "while the CPU is online");

	done = false;
	pthread_create(&thread, NULL, offline_thread, NULL);

	switch (action) {
	case FREE:
		for (i = 0; i < round * 200; i++)
			cpu_relax();
		break;
	case RUN:
		/* The guest sees the state whether it is moved or not. */
		for (i = 0; i < round * 200; i++)
			cpu_relax();
		vcpu_run(vcpu);
		TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);
		pthread_join(thread, NULL);
		check_state(fd, true, "after the vCPU was moved");
		break;
	case READ:
		while (!READ_ONCE(done))
			TEST_ASSERT(imsic_get(fd, IMSIC_EIE0) == EIE,
				    "The state is gone while the CPU goes offline");
		pthread_join(thread, NULL);
		check_state(fd, true, "after the CPU went offline");
		break;
	case RESET:
		/*
		 * At some time while the CPU goes offline, or as soon as the
		 * state is gone: it may come back.
		 */
		for (i = 0; !READ_ONCE(done) && i < (round & 4 ? round : INT_MAX); i++) {
			if (imsic_get(fd, IMSIC_EIE0) != EIE)
				break;
		}
		vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
		pthread_join(thread, NULL);
		check_state(fd, false, "after the vCPU was reset");
		break;
	}

	close(fd);
	kvm_vm_free(vm);

	if (action == FREE)
		pthread_join(thread, NULL);

	/* The firmware refuses to start a hart that it is still stopping. */
	for (i = 0; !set_online(true); i++) {
		TEST_ASSERT(i < 1000, "CPU %d stays offline", cpu);
		usleep(1000);
	}

	return true;
}

int main(void)
{
	struct kvm_vm *vm;
	int i, ret;

	vm = vm_create_barebones();
	ret = __kvm_test_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	kvm_vm_free(vm);
	__TEST_REQUIRE(!ret, "No in-kernel AIA");

	TEST_ASSERT(!sched_getaffinity(0, sizeof(allowed), &allowed),
		    "sched_getaffinity() failed");
	for (i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &allowed))
			continue;
		if (home_cpu < 0)
			home_cpu = i;
		cpu = i;
	}
	snprintf(online_path, sizeof(online_path),
		 "/sys/devices/system/cpu/cpu%d/online", cpu);
	__TEST_REQUIRE(cpu != home_cpu && !access(online_path, W_OK),
		       "No CPU that can go offline");

	for (i = 0; i < NR_ROUNDS; i++)
		__TEST_REQUIRE(test_round(i), "No guest interrupt files");

	return 0;
}
