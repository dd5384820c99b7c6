// SPDX-License-Identifier: GPL-2.0-only
/*
 * PID 1 of the virtual machine that runs the KVM selftests.
 *
 * Reads /run.conf, runs each test that is named there the way
 * kselftest/runner.sh does, and writes KTAP to a virtio-serial port of its own,
 * or to the serial port which "verdict=/dev/ttyS1" on the command line names.
 * What the tests print goes to another port, which ends in the same file as the
 * console but is much faster than an emulated UART: a test must not time out
 * because it prints a lot.  For a test which did not pass the last lines are
 * quoted on the verdict channel too.
 *
 * Kernel messages are read from /dev/kmsg all the time.  A message that says
 * that the kernel has found a bug in itself fails the test during which it
 * appears, whatever the test says.  Only records of the kernel facility count:
 * what userspace writes to /dev/kmsg never has it, thus it can not fail a test.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <linux/compiler.h>
#include <linux/kernel.h>

#define VERDICT_PORT	"org.kernel.kselftest.0"
#define OUTPUT_PORT	"org.kernel.kselftest.output.0"
#define TESTS_DIR	"/kselftest/"
#define BUSYBOX		"/bin/busybox"

/* Exit codes of a test, see kselftest.h */
#define KSFT_PASS	0
#define KSFT_XFAIL	2
#define KSFT_SKIP	4

#define TAIL_LINES	20	/* of a test's output, quoted if it did not pass */
#define SPLAT_LINES	14	/* of one kernel report */
#define SPLAT_MAX	4	/* kernel reports quoted for one test */
#define LINE_MAX_LEN	512

#define TERM_GRACE_MS	2000	/* from SIGTERM to SIGKILL */
#define KILL_GRACE_MS	10000	/* from SIGKILL to giving up on the test */
#define SETTLE_MS	200	/* after the last test, for late reports */

enum action { RUN, SKIP, FAIL };

struct test {
	char *name;		/* collection:test */
	char *why;		/* for SKIP and FAIL: the reason */
	char *args;
	enum action action;
};

/* The last lines of a test's output, and the reason if it skipped. */
struct output {
	char tail[TAIL_LINES][LINE_MAX_LEN];
	unsigned int nr_lines;
	char line[LINE_MAX_LEN];
	size_t len;
	char skip[LINE_MAX_LEN];
};

/* What the kernel has reported since the last clear. */
struct splats {
	char text[SPLAT_MAX][SPLAT_LINES][LINE_MAX_LEN];
	unsigned int nr_lines[SPLAT_MAX];
	unsigned int nr;
	bool lost;
};

static const struct splat_pattern {
	const char *text;
	bool anywhere;		/* in the message, not only at its start */
} splat_patterns[] = {
	{ "WARNING: " },
	{ "BUG: " },
	{ "BUG " },				/* SLUB */
	{ "[ BUG: " },				/* lockdep, wait contexts */
	{ "watchdog: BUG: " },
	{ "watchdog: CPU" },			/* hard lockup */
	{ "UBSAN: " },
	{ "kernel BUG at ", true },
	{ "nVHE hyp BUG at", true },
	{ "HYP panic", true },
	{ "Kernel panic", true },
	{ "Oops", true },
	{ "Internal error: " },
	{ "Unable to handle kernel", true },
	{ "general protection fault", true },
	{ "Bad mode in ", true },
	{ "refcount_t: " },
	{ "list_add corruption" },
	{ "list_del corruption" },
	{ "ODEBUG: " },
	{ "INFO: possible " },
	{ "INFO: suspicious RCU" },
	{ "INFO: trying to register non-static key" },
	{ "INFO: task " },			/* hung task */
	{ "detected stall", true },
	{ "self-detected stall", true },
	{ "sleeping function called", true },
	{ "scheduling while atomic", true },
	{ "KASAN: ", true },
	{ "KCSAN: ", true },
	{ "KFENCE: ", true },
	{ "unchecked MSR access error", true },
};

static struct test *tests;
static unsigned int nr_tests;
static unsigned int timeout_s = 45;	/* default of kselftest/runner.sh */
static int console_fd = -1, output_fd = -1, verdict_fd = -1, kmsg_fd = -1;
static struct splats splats;
static bool boot_only, verdict_is_tty;

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void write_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		buf += n;
		len -= n;
	}
}

static void vemit(int fd, const char *fmt, va_list ap)
{
	char buf[2 * LINE_MAX_LEN];
	int len = vsnprintf(buf, sizeof(buf), fmt, ap);

	if (len >= (int)sizeof(buf)) {
		len = sizeof(buf) - 1;
		buf[len - 1] = '\n';
	}
	if (fd >= 0 && len > 0)
		write_all(fd, buf, len);
}

/*
 * One line on the verdict channel.  The runner switches ioeventfd off for the
 * port, so the line is in the host's file when write() returns.
 */
static void __printf(1, 2) verdict(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vemit(verdict_fd, fmt, ap);
	va_end(ap);
	if (verdict_is_tty)
		tcdrain(verdict_fd);
}

static void __printf(1, 2) console(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vemit(console_fd, fmt, ap);
	va_end(ap);
}

static void __printf(1, 2) output(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vemit(output_fd, fmt, ap);
	va_end(ap);
}

static void __noreturn leave(void)
{
	if (console_fd >= 0)
		tcdrain(console_fd);
	sync();
	/* QEMU runs with -no-reboot: this ends it on every machine type. */
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static void __noreturn die(const char *what)
{
	verdict("Bail out! init: %s: %s\n", what, strerror(errno));
	console("init: %s: %s\n", what, strerror(errno));
	leave();
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok;
}

static bool read_line(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

static void do_mount(const char *type, const char *dir, bool required)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, NULL) && errno != EBUSY && required)
		die(dir);
}

static void setup_system(void)
{
	do_mount("devtmpfs", "/dev", true);
	console_fd = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
	do_mount("proc", "/proc", true);
	do_mount("sysfs", "/sys", true);
	do_mount("debugfs", "/sys/kernel/debug", false);
	do_mount("cgroup2", "/sys/fs/cgroup", false);
	do_mount("tmpfs", "/tmp", true);
	do_mount("tmpfs", "/dev/shm", true);
	do_mount("hugetlbfs", "/dev/hugepages", false);
	do_mount("devpts", "/dev/pts", false);
	if (symlink("/proc/self/fd", "/dev/fd"))
		console("init: /dev/fd: %s\n", strerror(errno));
	sethostname("kvm-selftests", 13);

	/* Let the log marks of this program through, they are not many. */
	write_file("/proc/sys/kernel/printk_devkmsg", "on\n");

	setenv("HOME", "/tmp", 1);
	setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin", 1);
	setenv("TERM", "dumb", 1);
}

static int open_port(const char *wanted)
{
	char path[PATH_MAX], name[64];
	unsigned int dev, port;

	for (dev = 0; dev < 8; dev++) {
		for (port = 0; port < 32; port++) {
			snprintf(path, sizeof(path),
				 "/sys/class/virtio-ports/vport%up%u/name",
				 dev, port);
			if (!read_line(path, name, sizeof(name)) ||
			    strcmp(name, wanted))
				continue;
			snprintf(path, sizeof(path), "/dev/vport%up%u", dev,
				 port);
			return open(path, O_WRONLY | O_CLOEXEC);
		}
	}
	return -1;
}

/* A machine without virtio: KTAP goes to a serial port, as it is. */
static int open_tty(const char *path)
{
	int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
	struct termios t;

	if (fd >= 0 && !tcgetattr(fd, &t)) {
		cfmakeraw(&t);
		cfsetspeed(&t, B115200);
		tcsetattr(fd, TCSANOW, &t);
		verdict_is_tty = true;
	}
	return fd;
}

/*
 * A port gets its name by a message of its own, some time after the device:
 * many seconds if the kernel checks itself on a host that has better to do.
 */
static void find_ports(void)
{
	/* The kernel puts what it does not know itself in init's environment. */
	const char *path = getenv("verdict");
	long long end = now_ms() + 60000;

	if (path) {
		verdict_fd = open_tty(path);
		if (verdict_fd < 0)
			die(path);
		output_fd = console_fd;
		unsetenv("verdict");
		return;
	}

	do {
		if (output_fd < 0)
			output_fd = open_port(OUTPUT_PORT);
		if (verdict_fd < 0)
			verdict_fd = open_port(VERDICT_PORT);
		if (output_fd >= 0 && verdict_fd >= 0)
			return;
		usleep(5000);
	} while (now_ms() < end);

	console("init: no virtio-serial port named %s\n",
		verdict_fd < 0 ? VERDICT_PORT : OUTPUT_PORT);
	leave();
}

static int nr_cpus(void)
{
	cpu_set_t cpus;

	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		die("sched_getaffinity");
	return CPU_COUNT(&cpus);
}

/* Nothing that is started from here on runs on the first CPUs. */
static void spare_cpus(int nr)
{
	cpu_set_t cpus;

	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		die("sched_getaffinity");
	while (nr--)
		CPU_CLR(nr, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("sched_setaffinity");
}

/*
 * /run.conf has one item to a line:
 *   timeout SECONDS
 *   spare CPUS
 *   run TEST [ARGUMENTS]
 *   skip TEST REASON
 *   fail TEST REASON
 */
static void read_conf(void)
{
	FILE *f = fopen("/run.conf", "re");
	char line[1024];

	if (!f)
		die("/run.conf");
	while (fgets(line, sizeof(line), f)) {
		char *key, *value, *rest;
		struct test *t;

		line[strcspn(line, "\n")] = '\0';
		key = line;
		value = strchr(line, ' ');
		if (!value)
			continue;
		*value++ = '\0';
		if (!strcmp(key, "timeout")) {
			timeout_s = strtoul(value, NULL, 10);
			continue;
		}
		if (!strcmp(key, "spare")) {
			spare_cpus(atoi(value));
			continue;
		}
		tests = realloc(tests, (nr_tests + 1) * sizeof(*tests));
		if (!tests)
			die("realloc");
		t = &tests[nr_tests++];
		memset(t, 0, sizeof(*t));
		rest = strchr(value, ' ');
		if (rest)
			*rest++ = '\0';
		t->name = strdup(value);
		if (!strcmp(key, "run")) {
			t->action = RUN;
			t->args = rest ? strdup(rest) : NULL;
		} else {
			t->action = !strcmp(key, "skip") ? SKIP : FAIL;
			t->why = strdup(rest ?: "no reason given");
		}
	}
	fclose(f);
}

static bool is_splat(const char *msg)
{
	unsigned int i;

	/* "rcu: INFO: ..." and "rcu: BUG: ..." */
	if (!strncmp(msg, "rcu: ", 5))
		msg += 5;

	for (i = 0; i < ARRAY_SIZE(splat_patterns); i++) {
		const struct splat_pattern *p = &splat_patterns[i];

		if (p->anywhere ? !!strstr(msg, p->text) :
				  !strncmp(msg, p->text, strlen(p->text)))
			return true;
	}
	return false;
}

/* "x29: ffff800080003d10 ...": the quote is short, and the console has them. */
static bool is_registers(const char *msg)
{
	size_t n;

	msg += strspn(msg, " ");
	n = strcspn(msg, " :");
	if (!n || n > 7)
		return false;
	msg += n;
	msg += strspn(msg, " ");
	if (*msg++ != ':')
		return false;
	msg += strspn(msg, " ");
	return strspn(msg, "0123456789abcdef") == 16;
}

static void clear_splats(void)
{
	memset(&splats, 0, sizeof(splats));
}

static void add_kernel_line(const char *msg)
{
	static unsigned int quote;
	unsigned int i;

	/* Lines of a report which is being quoted do not start another one. */
	if (splats.nr && quote && splats.nr <= SPLAT_MAX) {
		if (is_registers(msg))
			return;
		i = splats.nr - 1;
		snprintf(splats.text[i][splats.nr_lines[i]++], LINE_MAX_LEN,
			 "%s", msg);
		quote--;
		return;
	}
	if (!is_splat(msg))
		return;
	i = splats.nr++;
	if (i >= SPLAT_MAX)
		return;
	snprintf(splats.text[i][0], LINE_MAX_LEN, "%s", msg);
	splats.nr_lines[i] = 1;
	quote = SPLAT_LINES - 1;
}

/* Read all that is in the kernel's log now. */
static void drain_kmsg(void)
{
	static char record[8192];
	char *msg;
	ssize_t n;

	for (;;) {
		n = read(kmsg_fd, record, sizeof(record) - 1);
		if (n < 0 && errno == EPIPE) {
			/* Overwritten before it was read: it may have been bad. */
			splats.lost = true;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		record[n] = '\0';
		msg = strchr(record, ';');
		if (!msg)
			continue;
		/* "level and facility,sequence,time,flags;message" */
		if (strtoul(record, NULL, 10) >> 3)
			continue;
		msg++;
		msg[strcspn(msg, "\n")] = '\0';
		add_kernel_line(msg);
	}
}

static void mark_log(const char *name, const char *what)
{
	char buf[256];

	snprintf(buf, sizeof(buf), "<6>kselftest: %s %s\n", name, what);
	write_file("/dev/kmsg", buf);
}

static bool bad_kernel(void)
{
	return splats.nr || splats.lost;
}

static const char *first_splat(void)
{
	return splats.nr ? splats.text[0][0] :
			   "the kernel log overflowed, reports may be lost";
}

static void quote_splats(const char *name)
{
	unsigned int i, j;

	for (i = 0; i < splats.nr && i < SPLAT_MAX; i++) {
		verdict("# %s: the kernel reported:\n", name);
		for (j = 0; j < splats.nr_lines[i]; j++)
			verdict("#   %s\n", splats.text[i][j]);
	}
	if (splats.nr > SPLAT_MAX)
		verdict("# %s: and %u more reports, see the console log\n",
			name, splats.nr - SPLAT_MAX);
}

/*
 * kselftest.h and TEST_REQUIRE() print "1..0 # SKIP reason" or "ok 1 # SKIP
 * reason", print_skip() prints "reason, skipping test".  The first one that
 * stands alone is what the test says about itself.
 */
static void look_for_skip(struct output *out, const char *line)
{
	const char *p = strstr(line, "# SKIP");
	size_t len;

	if (p) {
		p += strlen("# SKIP");
		p += strspn(p, " -");
	} else if (strstr(line, "skipping") || strstr(line, "Skipping")) {
		p = line;
		/* A "# SKIP" line is better than this one. */
		if (out->skip[0])
			return;
	} else {
		return;
	}
	if (!*p)
		return;
	snprintf(out->skip, sizeof(out->skip), "%s", p);
	p = strstr(out->skip, ", skipping test");
	len = p ? (size_t)(p - out->skip) : strlen(out->skip);
	while (len && isspace((unsigned char)out->skip[len - 1]))
		len--;
	out->skip[len] = '\0';
}

static void end_line(struct output *out, const char *name)
{
	out->line[out->len] = '\0';
	out->len = 0;
	output("%s: %s\n", name, out->line);
	/* Each test of lib/kvm_util.c begins with the second one. */
	if (!out->line[0] || !strncmp(out->line, "Random seed: ", 13))
		return;
	look_for_skip(out, out->line);
	strcpy(out->tail[out->nr_lines++ % TAIL_LINES], out->line);
}

static void add_output(struct output *out, const char *name, const char *buf,
		       size_t len)
{
	for (; len; buf++, len--) {
		if (*buf == '\n') {
			end_line(out, name);
			continue;
		}
		/* KTAP is text: neither '\r' nor anything else that is not. */
		if (*buf == '\t')
			out->line[out->len++] = ' ';
		else if ((unsigned char)*buf >= ' ' && *buf != 0x7f)
			out->line[out->len++] = *buf;
		if (out->len == LINE_MAX_LEN - 1)
			end_line(out, name);
	}
}

static void quote_output(const struct output *out, const char *name)
{
	unsigned int i = out->nr_lines > TAIL_LINES ?
			 out->nr_lines - TAIL_LINES : 0;

	if (i)
		verdict("# %s: (%u lines before this are in the console log)\n",
			name, i);
	for (; i < out->nr_lines; i++)
		verdict("# %s: %s\n", name, out->tail[i % TAIL_LINES]);
}

/* False when there is nothing more to come. */
static bool read_output(int fd, struct output *out, const char *name)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n > 0)
		add_output(out, name, buf, n);
	return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

static void __noreturn exec_test(const struct test *t, int fd)
{
	char dir[PATH_MAX], cmd[NAME_MAX + 3], *argv[64], *args, *arg;
	const char *base = strchr(t->name, ':') + 1;
	unsigned int argc = 0;
	sigset_t none;
	char magic[2];
	int null, script;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	/* init's own files are O_CLOEXEC */

	snprintf(dir, sizeof(dir), TESTS_DIR "%.*s",
		 (int)(base - 1 - t->name), t->name);
	snprintf(cmd, sizeof(cmd), "./%s", base);
	if (chdir(dir))
		goto fail;

	script = open(cmd, O_RDONLY | O_CLOEXEC);
	if (script >= 0 && read(script, magic, 2) == 2 &&
	    !memcmp(magic, "#!", 2)) {
		argv[argc++] = BUSYBOX;
		argv[argc++] = "sh";
	}
	argv[argc++] = cmd;
	args = t->args ? strdup(t->args) : NULL;
	for (arg = args ? strtok(args, " ") : NULL;
	     arg && argc < ARRAY_SIZE(argv) - 1; arg = strtok(NULL, " "))
		argv[argc++] = arg;
	argv[argc] = NULL;
	execv(argv[0], argv);
fail:
	dprintf(2, "init: %s/%s: %s\n", dir, base, strerror(errno));
	_exit(127);
}

static void on_sigchld(int sig)
{
}

/*
 * Reap whatever has ended; true if @pid is among it, with its @status.  All
 * that runs is a child of init sooner or later: @none tells that nothing does.
 */
static bool reap(pid_t pid, int *status, bool *none)
{
	bool found = false;
	pid_t p;
	int st;

	while ((p = waitpid(-1, &st, WNOHANG)) > 0) {
		if (p == pid) {
			*status = st;
			found = true;
		}
	}
	*none = p < 0 && errno == ECHILD;
	return found;
}

/* Nothing of a test may survive it: the next one wants the machine alone. */
static bool kill_rest(void)
{
	long long end = now_ms() + KILL_GRACE_MS;
	int status;
	bool none;

	for (;;) {
		reap(0, &status, &none);
		if (none)
			return true;
		if (now_ms() > end)
			return false;
		/* From PID 1: everything but init itself. */
		kill(-1, SIGKILL);
		usleep(2000);
	}
}

static bool oopsed(void)
{
	char buf[32];

	/* TAINT_DIE */
	return read_line("/proc/sys/kernel/tainted", buf, sizeof(buf)) &&
	       (strtoul(buf, NULL, 10) & (1 << 7));
}

static void report(const struct test *t, unsigned int nr, bool last,
		   const struct output *out, int status, bool timed_out,
		   bool stuck, long long ms)
{
	const char *name = t->name, *skip;
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	verdict("# time %s %lld.%03lld\n", name, ms / 1000, ms % 1000);

	if (timed_out || (code != KSFT_PASS && code != KSFT_XFAIL))
		quote_output(out, name);
	if (bad_kernel())
		quote_splats(name);
	if (stuck)
		verdict("# %s: could not be killed, see the console log for its stack\n",
			name);

	if (timed_out) {
		verdict("not ok %u %s # TIMEOUT %u seconds\n", nr, name,
			timeout_s);
	} else if (bad_kernel()) {
		verdict("not ok %u %s # kernel: %s\n", nr, name, first_splat());
	} else if (WIFSIGNALED(status)) {
		verdict("not ok %u %s # signal %d (%s)\n", nr, name,
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	} else if (code == KSFT_PASS) {
		verdict("ok %u %s\n", nr, name);
	} else if (code == KSFT_XFAIL) {
		verdict("ok %u %s # XFAIL\n", nr, name);
	} else if (code == KSFT_SKIP) {
		skip = out->skip[0] ? out->skip :
		       out->nr_lines ?
		       out->tail[(out->nr_lines - 1) % TAIL_LINES] :
		       "the test gave no reason";
		verdict("ok %u %s # SKIP %s\n", nr, name, skip);
	} else {
		verdict("not ok %u %s # exit=%d\n", nr, name, code);
	}

	if (bad_kernel() && oopsed() && !last)
		verdict("# the kernel has oopsed: results after this are doubtful\n");
}

static void run_test(const struct test *t, unsigned int nr, bool last)
{
	bool timed_out = false, killed = false, stuck = false;
	bool ended = false, none;
	long long start, deadline, now, ms;
	static struct output out;
	sigset_t block, wait_mask;
	struct pollfd pfd[2];
	int status = 0, fds[2];
	struct timespec ts;
	pid_t pid;

	memset(&out, 0, sizeof(out));
	drain_kmsg();

	verdict("# start %s %u\n", t->name, timeout_s);
	mark_log(t->name, "starts");
	/* So that a WARN_ON_ONCE() fails every test that hits it. */
	write_file("/sys/kernel/debug/clear_warn_once", "1\n");

	if (pipe2(fds, O_CLOEXEC))
		die("pipe2");

	sigemptyset(&block);
	sigaddset(&block, SIGCHLD);
	sigprocmask(SIG_BLOCK, &block, &wait_mask);

	start = now_ms();
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		exec_test(t, fds[1]);
	setpgid(pid, pid);
	close(fds[1]);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);

	deadline = start + timeout_s * 1000LL;
	pfd[0].fd = fds[0];
	pfd[0].events = POLLIN;
	pfd[1].fd = kmsg_fd;
	pfd[1].events = POLLIN;
	while (!ended) {
		now = now_ms();
		if (now >= deadline) {
			if (!timed_out) {
				timed_out = true;
				mark_log(t->name, "timed out");
				kill(-pid, SIGTERM);
				deadline = now + TERM_GRACE_MS;
			} else if (!killed) {
				killed = true;
				kill(-pid, SIGKILL);
				deadline = now + KILL_GRACE_MS;
			} else {
				/* Show where it is stuck, and go on. */
				stuck = true;
				write_file("/proc/sysrq-trigger", "w");
				break;
			}
			continue;
		}
		ms = deadline - now;
		ts.tv_sec = ms / 1000;
		ts.tv_nsec = ms % 1000 * 1000000;
		if (ppoll(pfd, ARRAY_SIZE(pfd), &ts, &wait_mask) > 0) {
			if (pfd[0].revents &&
			    !read_output(fds[0], &out, t->name))
				pfd[0].fd = -1;
			if (pfd[1].revents)
				drain_kmsg();
		}
		ended = reap(pid, &status, &none);
	}
	ms = now_ms() - start;
	sigprocmask(SIG_SETMASK, &wait_mask, NULL);

	if (!stuck && !kill_rest())
		stuck = true;
	while (pfd[0].fd >= 0 && read_output(fds[0], &out, t->name)) {
		struct pollfd more = { .fd = fds[0], .events = POLLIN };

		if (poll(&more, 1, 0) <= 0)
			break;
	}
	if (out.len)
		end_line(&out, t->name);
	close(fds[0]);

	/* Reports of work that was deferred go to the next test, if any. */
	if (last)
		usleep(SETTLE_MS * 1000);
	drain_kmsg();
	report(t, nr, last, &out, status, timed_out, stuck, ms);
	clear_splats();
}

static void run_tests(void)
{
	bool bad_boot = bad_kernel(), no_kvm = access("/dev/kvm", F_OK);
	unsigned int i, nr = 0;

	verdict("1..%u\n", nr_tests + bad_boot + no_kvm);
	if (bad_boot) {
		quote_splats("boot");
		verdict("not ok %u boot # kernel: %s\n", ++nr, first_splat());
		clear_splats();
	}
	/* Tests skip then, which is not to be taken for success. */
	if (no_kvm)
		verdict("not ok %u kvm # there is no /dev/kvm, the console says why\n",
			++nr);
	for (i = 0; i < nr_tests; i++) {
		const struct test *t = &tests[i];

		switch (t->action) {
		case RUN:
			run_test(t, ++nr, i == nr_tests - 1);
			break;
		case SKIP:
			verdict("ok %u %s # SKIP %s\n", ++nr, t->name, t->why);
			break;
		case FAIL:
			verdict("not ok %u %s # %s\n", ++nr, t->name, t->why);
			break;
		}
	}
}

static void run_shell(void)
{
	int status;
	pid_t pid;

	console("\nThe tests are in " TESTS_DIR "kvm.\n"
		"\"exit\" ends the virtual machine, Ctrl-a x kills it.\n\n");
	pid = fork();
	if (!pid) {
		setsid();
		dup2(console_fd, 0);
		dup2(console_fd, 1);
		dup2(console_fd, 2);
		ioctl(0, TIOCSCTTY, 1);
		if (chdir(TESTS_DIR "kvm"))
			_exit(127);
		execl(BUSYBOX, "sh", "-l", NULL);
		dprintf(2, "init: " BUSYBOX ": %s\n", strerror(errno));
		_exit(127);
	}
	while (waitpid(-1, &status, 0) != pid)
		;
}

static void install_busybox(void)
{
	pid_t pid;

	if (access(BUSYBOX, X_OK))
		return;
	pid = fork();
	if (!pid) {
		execl(BUSYBOX, "busybox", "--install", "-s", "/bin", NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_sigchld };
	struct utsname uts;
	long long boot_ms;
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], "shell"))
			boot_only = true;

	sigaction(SIGCHLD, &sa, NULL);
	setup_system();
	install_busybox();
	read_conf();
	if (boot_only) {
		run_shell();
		leave();
	}

	kmsg_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg_fd < 0)
		die("/dev/kmsg");
	find_ports();
	boot_ms = now_ms();
	uname(&uts);
	verdict("TAP version 13\n");
	verdict("# hello %s %s %d CPUs %lld.%03lld s\n", uts.release,
		uts.machine, nr_cpus(), boot_ms / 1000, boot_ms % 1000);
	drain_kmsg();
	run_tests();
	verdict("# end\n");
	leave();
}
