// SPDX-License-Identifier: GPL-2.0-only
/*
 * RISC-V KVM test of MSIs to a vCPU that goes to sleep.
 *
 * A vCPU executes WFI over and over, while userspace or another vCPU sends it
 * MSIs, i.e. KVM wakes up the task that is just being scheduled out.  No MSI
 * may get lost, and the host must not hang.
 *
 * With a guest interrupt file of the host, the guest external interrupt is what
 * wakes up the vCPU.  QEMU's TCG loses one now and then, if hgeie is written
 * just when the MSI sets hgeip: both are set, but mip.SGEIP is not.  So an MSI
 * may be late, and a signal ends WFI instead, but this must be the exception.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#define IMSIC_ADDR		0x28000000ul
#define IMSIC_PAGE_SIZE		0x1000ul
#define RECEIVER_IMSIC		(IMSIC_ADDR + IMSIC_PAGE_SIZE)

#define IMSIC_EIDELIVERY	0x70
#define IMSIC_EITHRESHOLD	0x72
#define IMSIC_EIE0		0xc0

#define MSI_ID			5

/* Not just a delay: it is fine to wait for longer on a loaded host. */
#define TEST_MS			3000
#define LATE_MS			200
#define TIMEOUT_MS		60000

static unsigned long nr_received;
static bool stop;

/* The CPUs that the test may use */
static cpu_set_t allowed;

static void guest_receiver(void)
{
	csr_write(CSR_SISELECT, IMSIC_EIDELIVERY);
	csr_write(CSR_SIREG, 1);
	csr_write(CSR_SISELECT, IMSIC_EITHRESHOLD);
	csr_write(CSR_SIREG, 0);
	csr_write(CSR_SISELECT, IMSIC_EIE0);
	csr_write(CSR_SIREG, 1ul << MSI_ID);
	/* Wakes up from WFI, but traps nowhere with sstatus.SIE clear. */
	csr_write(CSR_SIE, IE_EIE);

	GUEST_SYNC(0);

	while (!READ_ONCE(stop)) {
		asm volatile("wfi" : : : "memory");
		if (csr_swap(CSR_STOPEI, 0))
			WRITE_ONCE(nr_received, nr_received + 1);
	}

	GUEST_DONE();
}

static void guest_sender(void)
{
	unsigned long old;

	while (!READ_ONCE(stop)) {
		old = READ_ONCE(nr_received);
		WRITE_ONCE(*(u32 *)RECEIVER_IMSIC, MSI_ID);

		while (READ_ONCE(nr_received) == old && !READ_ONCE(stop))
			cpu_relax();
	}

	GUEST_DONE();
}

static void pin_to_cpu(int nr)
{
	cpu_set_t cpus;
	int cpu;

	nr %= CPU_COUNT(&allowed);

	CPU_ZERO(&cpus);
	for (cpu = 0; ; cpu++) {
		if (CPU_ISSET(cpu, &allowed) && !nr--)
			break;
	}
	CPU_SET(cpu, &cpus);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(cpus), &cpus),
		    "sched_setaffinity() failed");
}

static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;

	pin_to_cpu(vcpu->id);
	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_DONE);

	return NULL;
}

static void send_msi(struct kvm_vm *vm)
{
	struct kvm_msi msi = {
		.address_lo = RECEIVER_IMSIC,
		.data = MSI_ID,
	};

	vm_ioctl(vm, KVM_SIGNAL_MSI, &msi);
}

static unsigned long read_received(struct kvm_vm *vm)
{
	sync_global_from_guest(vm, nr_received);

	return READ_ONCE(nr_received);
}

static long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);

	return ts.tv_sec * 1000l + ts.tv_nsec / 1000000;
}

static void aia_set(int fd, u32 group, u64 attr, u64 val)
{
	kvm_device_attr_set(fd, group, attr, &val);
}

static int create_aia(struct kvm_vm *vm, u32 mode)
{
	int fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	int i;

	aia_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_CONFIG_MODE,
		mode);
	aia_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS,
		KVM_DEV_RISCV_AIA_IDS_MIN);
	aia_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG,
		KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, 1);
	for (i = 0; i < 2; i++)
		aia_set(fd, KVM_DEV_RISCV_AIA_GRP_ADDR,
			KVM_DEV_RISCV_AIA_ADDR_IMSIC(i),
			IMSIC_ADDR + i * IMSIC_PAGE_SIZE);
	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CTRL,
			    KVM_DEV_RISCV_AIA_CTRL_INIT, NULL);

	return fd;
}

static bool mode_supported(u32 mode)
{
	struct kvm_vm *vm = vm_create_barebones();
	int fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	int ret;

	ret = __kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG,
				    KVM_DEV_RISCV_AIA_CONFIG_MODE, &mode);
	close(fd);
	kvm_vm_free(vm);

	return !ret;
}

static void test_msi(u32 mode, bool from_guest)
{
	unsigned long sent = 0, received = 0, late = 0;
	pthread_t sender, receiver;
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm;
	struct ucall uc;
	long start;
	int fd;

	nr_received = 0;
	stop = false;

	vm = __vm_create(VM_SHAPE_DEFAULT, ARRAY_SIZE(vcpus), 0);
	vcpus[0] = vm_vcpu_add(vm, 0, guest_sender);
	vcpus[1] = vm_vcpu_add(vm, 1, guest_receiver);
	fd = create_aia(vm, mode);

	virt_map(vm, IMSIC_ADDR, IMSIC_ADDR, ARRAY_SIZE(vcpus));

	/* Sleep at once. */
	if (kvm_check_cap(KVM_CAP_HALT_POLL))
		vm_enable_cap(vm, KVM_CAP_HALT_POLL, 0);

	vcpu_mp_state_set(vcpus[1], &(struct kvm_mp_state) {
		.mp_state = KVM_MP_STATE_RUNNABLE,
	});
	vcpu_run(vcpus[1]);
	TEST_ASSERT_EQ(get_ucall(vcpus[1], &uc), UCALL_SYNC);

	pthread_create(&receiver, NULL, vcpu_thread, vcpus[1]);
	if (from_guest)
		pthread_create(&sender, NULL, vcpu_thread, vcpus[0]);

	start = now_ms();
	while (now_ms() - start < TEST_MS) {
		unsigned long old = received;
		long sent_at = now_ms();
		bool kicked = false;

		if (from_guest) {
			usleep(100000);
		} else {
			int i;

			/* Meet the vCPU at various stages of going to sleep. */
			send_msi(vm);
			for (i = 0; i < (int)(sent++ % 97) * 8; i++)
				cpu_relax();
		}

		/* Each MSI is received, be it together with the one before. */
		do {
			received = read_received(vm);
			TEST_ASSERT(now_ms() - sent_at < TIMEOUT_MS,
				    "An MSI was lost after %lu", received);

			if (mode != KVM_DEV_RISCV_AIA_MODE_EMUL && !kicked &&
			    now_ms() - sent_at > LATE_MS) {
				pthread_kill(receiver, SIGUSR1);
				kicked = true;
				late++;
			}
		} while (received == old);
	}

	WRITE_ONCE(stop, true);
	sync_global_to_guest(vm, stop);
	send_msi(vm);
	pthread_kill(receiver, SIGUSR1);
	pthread_join(receiver, NULL);
	if (from_guest)
		pthread_join(sender, NULL);

	pr_info("Mode %u, from %s: %lu MSIs received, %lu late\n", mode,
		from_guest ? "guest" : "userspace", received, late);
	TEST_ASSERT(received >= 10 * late, "MSIs don't end WFI");

	/* The device holds a reference to the VM. */
	close(fd);
	kvm_vm_free(vm);
}

static void ignore_signal(int sig)
{
}

int main(void)
{
	static const u32 modes[] = {
		KVM_DEV_RISCV_AIA_MODE_EMUL,
		KVM_DEV_RISCV_AIA_MODE_AUTO,
		KVM_DEV_RISCV_AIA_MODE_HWACCEL,
	};
	struct kvm_vm *vm;
	int i, ret;

	vm = vm_create_barebones();
	ret = __kvm_test_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	kvm_vm_free(vm);
	__TEST_REQUIRE(!ret, "No in-kernel AIA");

	TEST_ASSERT(!sched_getaffinity(0, sizeof(allowed), &allowed),
		    "sched_getaffinity() failed");
	pin_to_cpu(2);

	signal(SIGUSR1, ignore_signal);

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		if (!mode_supported(modes[i])) {
			pr_info("Mode %u is not supported\n", modes[i]);
			continue;
		}

		test_msi(modes[i], false);
		test_msi(modes[i], true);
	}

	return 0;
}
