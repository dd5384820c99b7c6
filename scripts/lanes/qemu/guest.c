// SPDX-License-Identifier: GPL-2.0-only
/*
 * init of the guest that "make check-qemu" boots in QEMU with KVM, static.
 *
 * "row=" on the kernel's command line says what it does; whatever that is, it
 * looks after itself again and again, and says on the console how it is:
 *
 *   guest: 12 ok boot=... cpus=4 clock=1.234 ticks=3,3,3,3 ipi=...
 *   guest: 12 BAD the timer of CPU 1 does not tick
 *
 * That is: each CPU is online and takes a thread, its clock and its tick move,
 * its timer ends a sleep and interrupts a loop, the clock does not go back from
 * CPU to CPU, a thread on each wakes one on each other, all take IPIs; and
 * no line of the kernel's log says otherwise. A guest that cannot say so any more
 * is silent, which the other side, driver.c, takes for what it is.
 *
 * The lines "s NUMBER PATTERN" are for a byte which the serial port loses.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#if defined(__x86_64__)
#include <linux/kvm.h>
#endif
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "pattern.h"

#define LIMIT		20.0	/* seconds: emulated twice, on a machine with other work */
#define ROUNDS		20
#define MAX_CPUS	8

static int cpus, number, kmsg, nr_bad;
static bool start_one, plug;	/* the row: CPU 1 is started, or CPUs come and go */

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void say(const char *fmt, ...)
{
	char buf[512];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	if (write(1, buf, len) != len)
		_exit(1);
}

static void bad(const char *fmt, ...)
{
	char buf[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	nr_bad++;
	say("guest: %d BAD %s\n", number, buf);
}

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int get(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return n > 0 ? 0 : -EIO;
}

static long number_of(const char *name, long otherwise)
{
	const char *value = getenv(name);

	return value ? strtol(value, NULL, 0) : otherwise;
}

/* ---- how the guest is ---------------------------------------------------- */

/* What the kernel says that it should not have to: the list is driver.c's too. */
static void read_kmsg(void)
{
	static char record[8192];
	char *msg;
	ssize_t n;

	while ((n = read(kmsg, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		if (n <= 0)
			continue;
		record[n] = '\0';
		msg = strchr(record, ';');
		/* Warnings and worse, of the kernel itself. */
		if (!msg || strtoul(record, NULL, 10) > 4)
			continue;
		msg[1 + strcspn(msg + 1, "\n")] = '\0';
		/* The other side knows whether it has refused it. */
		if (is_bad_line(msg + 1) && !(start_one && is_refused_start(msg + 1)))
			bad("log: %s", msg + 1);
	}
}

static bool on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set) && sched_getcpu() == cpu;
}

static long ticks_of(int cpu)
{
	char line[512], name[16];
	unsigned long user, nice, system;
	FILE *f = fopen("/proc/stat", "re");
	long ticks = -1;

	snprintf(name, sizeof(name), "cpu%d ", cpu);
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)) &&
		    sscanf(line, "%*s %lu %lu %lu", &user, &nice, &system) == 3)
			ticks = user + nice + system;
	if (f)
		fclose(f);
	return ticks;
}

static volatile sig_atomic_t alarmed;

static void on_alarm(int sig)
{
	alarmed = 1;
}

/* Alone on @cpu: sleep, be interrupted, see time pass. */
static long one_cpu(int cpu, double *clock)
{
	const struct itimerval soon = { .it_value.tv_usec = 2000 };
	const struct timespec nap = { .tv_nsec = 2000000 };
	long first, ticks, spins;
	double start;

	if (!on_cpu(cpu)) {
		bad("no thread gets to CPU %d: %s", cpu, strerror(errno));
		return 0;
	}
	start = now();
	if (start < *clock)
		bad("the clock of CPU %d is %.6f s behind", cpu, *clock - start);
	nanosleep(&nap, NULL);
	if (now() - start < 0.002)
		bad("the clock of CPU %d stands still", cpu);

	alarmed = 0;
	setitimer(ITIMER_REAL, &soon, NULL);
	start = now();
	for (spins = 0; !alarmed; spins++) {
		if (now() - start > LIMIT || spins == 200000000) {
			bad("the timer of CPU %d does not interrupt", cpu);
			break;
		}
	}

	first = ticks_of(cpu);
	start = now();
	while ((ticks = ticks_of(cpu) - first) < 2) {
		if (now() - start > LIMIT) {
			bad("CPU %d does not tick", cpu);
			break;
		}
	}
	*clock = now();
	return ticks;
}

/* Two threads on two CPUs wake each other. */
static struct {
	atomic_int turn, stop;
	int cpu;
} pair;

static void wait_turn(int mine)
{
	int seen;

	while ((seen = atomic_load(&pair.turn)) != mine)
		syscall(SYS_futex, &pair.turn, 0 /* FUTEX_WAIT */, seen, NULL, NULL, 0);
}

static void pass_turn(int to)
{
	atomic_store(&pair.turn, to);
	syscall(SYS_futex, &pair.turn, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
}

static void *other_side(void *arg)
{
	int i;

	if (!on_cpu(pair.cpu))
		bad("no second thread gets to CPU %d", pair.cpu);
	for (i = 0; i < ROUNDS; i++) {
		wait_turn(1);
		pass_turn(0);
	}
	/* Then be there for IPIs. */
	while (!atomic_load(&pair.stop))
		;
	return NULL;
}

static int two_cpus(int a, int b)
{
	pthread_t thread;
	int i, ipis = 0;

	if (!on_cpu(a))
		return 0;
	pair.cpu = b;
	atomic_store(&pair.turn, 0);
	atomic_store(&pair.stop, 0);
	if (pthread_create(&thread, NULL, other_side, NULL)) {
		bad("no thread: %s", strerror(errno));
		return 0;
	}
	for (i = 0; i < ROUNDS; i++) {
		pass_turn(1);
		wait_turn(0);
	}
	for (i = 0; i < ROUNDS; i++)
		ipis += !syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	atomic_store(&pair.stop, 1);
	pthread_join(thread, NULL);
	if (ipis != ROUNDS)
		bad("membarrier: %d of %d", ipis, ROUNDS);
	return ROUNDS + ipis;
}

static void pattern_line(void)
{
	char line[PATTERN_LINE];
	int len = pattern_text(line, number);

	if (write(1, line, len) != len)
		_exit(1);
}

static void health(void)
{
	char online[64] = "?", want[16], ticks[128] = "", source[32] = "?";
	double clock = 0, start = now();
	int a, b, ipis = 0, before = nr_bad;
	size_t len = 0;

	number++;
	pattern_line();
	get("/sys/devices/system/cpu/online", online, sizeof(online));
	snprintf(want, sizeof(want), cpus > 1 ? "0-%d" : "0", cpus - 1);
	if (!plug && strcmp(online, want))
		bad("online are CPUs %s, not %s", online, want);
	for (a = 0; a < cpus; a++)
		len += snprintf(ticks + len, sizeof(ticks) - len, "%s%ld",
				a ? "," : "", one_cpu(a, &clock));
	for (a = 0; a < cpus; a++)
		for (b = 0; b < cpus; b++)
			if (a != b && (cpus < 4 || b == (a + 1) % cpus || !a))
				ipis += two_cpus(a, b);
	on_cpu(0);
	read_kmsg();
	get("/sys/devices/system/clocksource/clocksource0/current_clocksource", source, sizeof(source));
	if (before == nr_bad)
		say("guest: %d ok cpus=%d online=%s clock=%.3f(%s) ticks=%s ipi=%d took=%.3f\n",
		    number, cpus, online, now(), source, ticks, ipis, now() - start);
}

/* ---- what it does -------------------------------------------------------- */

static void cpus_off_and_on(void)
{
	char path[64];
	int cpu, err;

	if (access("/sys/devices/system/cpu/cpu1/online", W_OK)) {
		say("guest: cannot take CPUs offline\n");
		return;
	}
	for (cpu = 1; cpu < cpus; cpu++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
		err = put(path, "0");
		if (err)
			bad("CPU %d does not go offline: %s", cpu, strerror(-err));
		err = put(path, "1");
		if (err)
			bad("CPU %d does not come back: %s", cpu, strerror(-err));
	}
}

/*
 * fw_cfg: each load of its data register gives the next byte of an item. One
 * that was done twice, or not at all, shows in all that follow.
 */
#if defined(__x86_64__)
/*
 * The kernel does it, not iopl(): TCG looks up no I/O bitmap in a busy TSS, which
 * KVM's guests have once userspace has written their registers.
 */
static int port, item;

static bool open_device(void)
{
	port = open("/dev/port", O_RDONLY | O_CLOEXEC);
	return port >= 0;
}

static int find_item(void)
{
	item = open("/sys/firmware/qemu_fw_cfg/by_name/" PATTERN_ITEM "/raw", O_RDONLY | O_CLOEXEC);
	return item;
}

/* With INS by the kernel's driver, which selects it, and go on with IN. */
static void read_item(int key, uint8_t *bytes)
{
	int i = PATTERN_SIZE / 2;

	/* What was read last must not pass for what is read now. */
	memset(bytes, 0, PATTERN_SIZE);
	if (pread(key, bytes, i, 0) != i)
		bad("fw_cfg in sysfs: %s", strerror(errno));
	for (; i < PATTERN_SIZE; i++)
		if (pread(port, bytes + i, 1, 0x511) != 1)
			bad("/dev/port: %s", strerror(errno));
}
#else
static volatile uint8_t *device;

static bool open_device(void)
{
#if defined(__riscv)
	off_t where = 0x10100000;
#else
	off_t where = 0x09020000;
#endif
	int fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);

	if (fd < 0)
		return false;
	device = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, where);
	return device != MAP_FAILED;
}

static void select_item(uint16_t key)
{
	*(volatile uint16_t *)(device + 8) = __builtin_bswap16(key);
}

static uint8_t next_byte(void) { return *device; }

static void next_bytes(uint8_t *to, size_t len)
{
	uint64_t eight;

	for (; len >= 8; to += 8, len -= 8) {
		eight = *(volatile uint64_t *)device;
		memcpy(to, &eight, 8);
	}
	while (len--)
		*to++ = next_byte();
}

static uint32_t next_be(int bytes)
{
	uint32_t value = 0;

	while (bytes--)
		value = value << 8 | next_byte();
	return value;
}

static int find_item(void)
{
	uint32_t n, size, key, i;
	char name[56];

	select_item(0x19);
	n = next_be(4);
	while (n-- && n < 1000) {
		size = next_be(4);
		key = next_be(2);
		next_be(2);
		for (i = 0; i < sizeof(name); i++)
			name[i] = next_byte();
		if (!strncmp(name, PATTERN_ITEM, sizeof(name)) && size >= PATTERN_SIZE)
			return key;
	}
	return -1;
}

/* A byte at a time, then eight */
static void read_item(int key, uint8_t *bytes)
{
	int i;

	select_item(key);
	for (i = 0; i < PATTERN_SIZE / 2; i++)
		bytes[i] = next_byte();
	next_bytes(bytes + i, PATTERN_SIZE - i);
}
#endif

/* A process of its own: the parent goes on with looking after the CPUs. */
static void hammer(void)
{
	static uint8_t bytes[PATTERN_SIZE];
	double told = now();
	long rounds = 0;
	int i, key;

	if (!open_device()) {
		say("guest: cannot load from a device\n");
		return;
	}
	key = find_item();
	if (key < 0) {
		bad("no %s among the items of fw_cfg", PATTERN_ITEM);
		return;
	}
	if (fork())
		return;
	/* On x86 a read of this clock is a load from the HPET. */
	put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet");
	for (;;) {
		double clock = now();

		read_item(key, bytes);
		for (i = 0; i < PATTERN_SIZE; i++) {
			if (bytes[i] != pattern_byte(i)) {
				bad("load %d of round %ld gave %#x, not %#x", i,
				    rounds, bytes[i], pattern_byte(i));
				break;
			}
		}
		rounds++;
		if (now() < clock)
			bad("the clock went back by %.6f s", clock - now());
		if (now() - told > 1) {
			told = now();
			say("guest: loads %ld\n", rounds * PATTERN_SIZE);
		}
	}
}

static void leave(int how)
{
	/* Let the UART send what is in its queue. */
	fsync(1);
	usleep(50000);
	sync();
	reboot(how);
	bad("reboot(): %s", strerror(errno));
	for (;;)
		pause();
}

static void kexec(void)
{
	int kernel = open("/kernel", O_RDONLY | O_CLOEXEC);
	int initrd = open("/initrd", O_RDONLY | O_CLOEXEC);
	char line[1024] = "";

	if (kernel < 0 || initrd < 0)
		return;		/* this is the kernel that was started by kexec */
	get("/proc/cmdline", line, sizeof(line) - 10);
	strcat(line, " kexeced=1");
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(line) + 1, line, 0UL)) {
		say("guest: cannot kexec: %s\n", strerror(errno));
		return;
	}
	say("guest: kexec\n");
	leave(RB_KEXEC);
}

static void suspend(bool may_fail)
{
	char deep[64] = "", states[64] = "";
	int err;

	get("/sys/power/state", states, sizeof(states));
	get("/sys/power/mem_sleep", deep, sizeof(deep));
	if (!strstr(states, "mem") || !strstr(deep, "deep")) {
		say("guest: cannot suspend to RAM: \"%s\", \"%s\"\n", states, deep);
		return;
	}
	put("/sys/power/mem_sleep", "deep");
	say("guest: suspend\n");
	fsync(1);
	usleep(50000);
	err = put("/sys/power/state", "mem");
	if (!err)
		say("guest: resumed\n");
	else if (may_fail)
		say("guest: refused to suspend: %s\n", strerror(-err));
	else
		bad("suspend: %s", strerror(-err));
}

/* Until it has started: it may be refused. */
static void start_cpu_1(void)
{
	static const char path[] = "/sys/devices/system/cpu/cpu1/online";
	int err = put(path, "0");

	if (err) {
		say("guest: cannot take CPUs offline\n");
		return;
	}
	while ((err = put(path, "1"))) {
		say("guest: refused CPU 1: %s\n", strerror(-err));
		usleep(100000);
	}
	say("guest: started\n");
}

/* The CPU after the last may be there, once, until it is unplugged. */
static void look_for_cpu(void)
{
	static bool there;
	char path[64], online[8] = "";
	double clock = 0;
	int err;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpus);
	if (get(path, online, sizeof(online))) {
		there = false;
		return;
	}
	if (there)
		return;
	there = true;
	if (!atoi(online)) {
		err = put(path, "1");
		if (err)
			bad("CPU %d, which was plugged, does not come up: %s", cpus, strerror(-err));
	}
	one_cpu(cpus, &clock);
	two_cpus(0, cpus);
	on_cpu(0);
	say("guest: plugged\n");
}

#if defined(__x86_64__)
/*
 * A guest of this guest on each CPU, which never leaves it but for OUT and the
 * interrupts of its host.
 */
static void nested(void)
{
	static const uint8_t code[] = { 0x40, 0xe6, 0x10, 0xb9, 0x00, 0x10, 0xe2, 0xfe, 0xeb, 0xf6 };
	struct kvm_userspace_memory_region region = { .memory_size = 4096 };
	int cpu, kvm, vm, vcpu, size;
	struct kvm_sregs sregs;
	struct kvm_run *run;
	long exits = 0;
	double told;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		say("guest: cannot have a guest of its own: %s\n", strerror(errno));
		return;
	}
	for (cpu = 0; cpu < cpus; cpu++) {
		if (fork())
			continue;
		on_cpu(cpu);
		vm = ioctl(kvm, KVM_CREATE_VM, 0);
		region.userspace_addr = (uintptr_t)mmap(NULL, 4096, PROT_READ | PROT_WRITE,
							MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		memcpy((void *)(uintptr_t)region.userspace_addr, code, sizeof(code));
		vcpu = vm < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) ? -1 :
		       ioctl(vm, KVM_CREATE_VCPU, 0);
		size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
		run = vcpu < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
		if (run == MAP_FAILED || ioctl(vcpu, KVM_GET_SREGS, &sregs)) {
			bad("no guest on CPU %d: %s", cpu, strerror(errno));
			_exit(1);
		}
		sregs.cs.base = 0;
		sregs.cs.selector = 0;
		if (ioctl(vcpu, KVM_SET_SREGS, &sregs) ||
		    ioctl(vcpu, KVM_SET_REGS, &(struct kvm_regs){ .rflags = 2 })) {
			bad("no registers of the guest on CPU %d: %s", cpu, strerror(errno));
			_exit(1);
		}
		for (told = now();;) {
			if (ioctl(vcpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_IO || run->io.port != 0x10 ||
			    *((uint8_t *)run + run->io.data_offset) != (uint8_t)(exits + 1)) {
				bad("the guest of CPU %d, after %ld exits: exit %d, %s", cpu, exits,
				    run->exit_reason, strerror(errno));
				_exit(1);
			}
			exits++;
			if (now() - told > 1) {
				told = now();
				say("guest: nested %ld\n", exits);
			}
		}
	}
}
#else
static void nested(void)
{
	say("guest: cannot have a guest of its own\n");
}
#endif

int main(void)
{
	const char *row = getenv("row");
	struct sigaction act = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	int i;

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	if (open("/dev/console", O_RDWR | O_NOCTTY) != 0) {
		close(0);
		open("/dev/console", O_RDWR | O_NOCTTY);
	}
	dup2(0, 1);
	dup2(0, 2);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (!row)
		row = "?";
	start_one = !strcmp(row, "start-one");
	plug = !strcmp(row, "plug");
	cpus = number_of("cpus", 1);
	if (cpus > MAX_CPUS)
		cpus = MAX_CPUS;
	say("guest: up row=%s kexeced=%ld\n", row, number_of("kexeced", 0));
	sigaction(SIGALRM, &act, NULL);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);

	if (!strcmp(row, "load"))
		hammer();
	if (!strcmp(row, "nested"))
		nested();
	if (!strcmp(row, "busy") && !access("/sys/devices/system/cpu/cpu1/online", W_OK))
		row = "start";
	for (;;) {
		health();
		if (!strcmp(row, "boot"))
			leave(RB_POWER_OFF);
		if (!strcmp(row, "reboot"))
			leave(RB_AUTOBOOT);
		if (!strcmp(row, "kexec")) {
			kexec();
			leave(RB_AUTOBOOT);
		}
		if (!strcmp(row, "suspend"))
			suspend(false);
		if (!strcmp(row, "suspend-refuse"))
			suspend(true);
		if (start_one)
			start_cpu_1();
		if (plug)
			look_for_cpu();
		if (!strcmp(row, "hotplug"))
			cpus_off_and_on();
		if (!strcmp(row, "start"))
			for (i = 0; i < 5; i++)
				cpus_off_and_on();
		usleep(20000);
	}
}
