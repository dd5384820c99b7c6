// SPDX-License-Identifier: GPL-2.0-only
/*
 * One row of "make check-qemu", in the virtual machine whose KVM is under test:
 * starts QEMU, does to the guest what the row is about, and judges by what
 * guest.c says on the console, whether it goes on saying it, and by QEMU's own
 * words. Exits with 0 passed, 1 failed, 4 skipped.
 *
 *	driver row=reset cpus=2 count=20 seed=1 limit=120
 *
 * /qemu/args, or what args= names, has the program and its arguments, one to a
 * line, and the guest's command line as append=. The row "cost" compares that
 * with /qemu/args-debian, and prints lines that begin with "FIGURE".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "pattern.h"

#define CONSOLE		"/tmp/console"
#define STATE		"/tmp/state"
#define ERRORS		"/tmp/qemu.log"
#define ITEM		"/tmp/pattern"

static const char *row = "boot", *guest_row, *args_file = "/qemu/args";
static int cpus = 2, count = 1, limit = 120;
static uint64_t seed = 1;

static pid_t qemu;
static int to_qemu = -1, from_qemu = -1, console = -1;
static int ended_with;			/* wait status, once QEMU has ended */

/* What was seen on the console, in all lives of the guest. */
static int nr_ok, nr_up, nr_kexeced, nr_resumed, nr_bad;
static int nr_started, nr_refused, nr_plugged, nr_lines;
static bool booting, was_kexeced, refusing;
static int last_line = -1;
static long loads;
static char cannot[200];

/* And on QMP. */
static int nr_resets, nr_suspend_events, nr_stops, nr_unplugged, nr_panics;
static char answer[65536];
static bool answered, refused, silent;

static double started;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void __attribute__((format(printf, 1, 2))) say(const char *fmt, ...)
{
	va_list ap;

	printf("%8.3f ", now() - started);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

/* A moment in seconds, below @most. */
static double moment(double most)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return most * ((seed >> 11) / (double)(1ULL << 53));
}

static char bad_lines[5][200];

static void bad(const char *what, const char *line)
{
	if (nr_bad < 5)
		snprintf(bad_lines[nr_bad], sizeof(bad_lines[0]), "%s: %.150s", what, line);
	nr_bad++;
	if (nr_bad <= 50)
		say("BAD %s: %s", what, line);
}

/* ---- the guest's console ------------------------------------------------- */

static void one_line(char *line)
{
	char want[PATTERN_LINE];
	char *text;
	int n;

	nr_lines++;
	line[strcspn(line, "\r")] = '\0';
	/* What was sent when the guest was reset has no end: it may be in front. */
	if (strstr(line, "guest: up ")) {
		nr_up++;
		booting = false;
		last_line = -1;
		was_kexeced = strstr(line, "kexeced=1");
	} else if (!strncmp(line, "s ", 2)) {
		n = atoi(line + 2);
		pattern_text(want, n);
		want[strcspn(want, "\n")] = '\0';
		if (booting)
			return;
		if (strcmp(line, want) || (last_line >= 0 && n != last_line + 1))
			bad("serial port", line);
		last_line = n;
	} else if (!strncmp(line, "guest: ", 7)) {
		text = line + 7;
		strtol(text, &text, 10);
		if (!strncmp(text, " ok ", 4)) {
			nr_ok++;
			nr_kexeced += was_kexeced;
			if (nr_ok <= 3)
				say("%s", line);
		} else if (!strncmp(text, " BAD ", 5)) {
			bad("guest", line);
		} else if (sscanf(line, "guest: loads %ld", &loads) != 1) {
			nr_resumed += !strcmp(line, "guest: resumed");
			nr_started += !strcmp(line, "guest: started");
			nr_plugged += !strcmp(line, "guest: plugged");
			if (!strncmp(line, "guest: refused ", 15)) {
				nr_refused++;
				if (!refusing)
					bad("guest", line);
			}
			if (!strncmp(line, "guest: cannot ", 14))
				snprintf(cannot, sizeof(cannot), "%s", line + 7);
		}
	} else if (is_bad_line(line) && !(refusing && is_refused_start(line))) {
		bad("log", line);
	}
}

static size_t console_len;		/* of a line that is not complete */

static void read_console(void)
{
	static char buf[65536];
	size_t len = console_len;
	char *line, *end;
	ssize_t n;

	if (console < 0) {
		console = open(CONSOLE, O_RDONLY | O_CLOEXEC);
		if (console < 0)
			return;
	}
	while ((n = read(console, buf + len, sizeof(buf) - 1 - len)) > 0) {
		len += n;
		for (line = buf; (end = memchr(line, '\n', buf + len - line)); line = end + 1) {
			*end = '\0';
			one_line(line);
		}
		len -= line - buf;
		memmove(buf, line, len);
		if (len == sizeof(buf) - 1)
			len = 0;
	}
	console_len = len;
}

/* ---- QEMU ---------------------------------------------------------------- */

static void one_message(const char *line)
{
	if (strstr(line, "\"event\"")) {
		nr_resets += !!strstr(line, "\"RESET\"");
		nr_suspend_events += !!strstr(line, "\"SUSPEND\"");
		nr_stops += !!strstr(line, "\"STOP\"");
		nr_unplugged += !!strstr(line, "\"DEVICE_DELETED\"");
		if (strstr(line, "GUEST_PANICKED") || strstr(line, "internal-error")) {
			nr_panics++;
			bad("QEMU", line);
		}
		return;
	}
	if (strstr(line, "\"QMP\""))
		return;
	snprintf(answer, sizeof(answer), "%s", line);
	refused = !strncmp(line, "{\"error\"", 8) || strstr(line, "\"error\": {\"class\"");
	answered = true;
}

static bool alive(void)
{
	if (qemu > 0 && waitpid(qemu, &ended_with, WNOHANG) == qemu)
		qemu = 0;
	return qemu > 0;
}

/* Let time pass: read what there is, for @ms at most. */
static void look(int ms)
{
	static char buf[65536];
	static size_t len;
	struct pollfd pfd = { .fd = from_qemu, .events = POLLIN };
	char *line, *end;
	ssize_t n;

	if (from_qemu < 0) {
		len = 0;
		usleep(ms * 1000);
	} else if (poll(&pfd, 1, ms) > 0) {
		n = read(from_qemu, buf + len, sizeof(buf) - 1 - len);
		if (n <= 0) {
			close(from_qemu);
			from_qemu = -1;
			len = 0;
		} else {
			len += n;
			for (line = buf; (end = memchr(line, '\n', buf + len - line)); line = end + 1) {
				*end = '\0';
				one_message(line);
			}
			len -= line - buf;
			memmove(buf, line, len);
		}
	}
	read_console();
}

static bool qmp(const char *fmt, ...)
{
	char text[512];
	double start = now();
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text) - 1, fmt, ap);
	va_end(ap);
	text[len++] = '\n';
	if (silent)
		return false;
	answered = false;
	if (write(to_qemu, text, len) != len)
		return false;
	while (!answered) {
		if (from_qemu < 0 || now() - start > limit) {
			say("no answer to %.*s", len - 1, text);
			silent = true;
			return false;
		}
		look(5);
	}
	if (refused)
		say("%.*s: %s", len - 1, text, answer);
	return !refused;
}

#define EXECUTE(name)	"{\"execute\": \"" name "\"}"

static void wait_ms(double seconds)
{
	double end = now() + seconds;

	while (now() < end)
		look(end - now() > 0.005 ? 5 : 1);
}

static void stop_qemu(void)
{
	if (to_qemu >= 0)
		close(to_qemu);
	if (from_qemu >= 0)
		close(from_qemu);
	to_qemu = -1;
	from_qemu = -1;
	if (qemu > 0) {
		kill(qemu, SIGKILL);
		waitpid(qemu, NULL, 0);
	}
	qemu = 0;
	read_console();
}

static bool start_qemu(bool incoming)
{
	static char args[8192];
	char *argv[96], *arg, number[64], append[1024], *base = "";
	int argc = 0, fd, in[2], out[2];
	ssize_t n;

	fd = open(args_file, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, args, sizeof(args) - 1);
	if (n <= 0) {
		say("%s: %s", args_file, strerror(errno));
		return false;
	}
	close(fd);
	args[n] = '\0';
	if (!incoming) {
		/* What the one before it was sending has no end. */
		console_len = 0;
		booting = true;
	}
	for (arg = strtok(args, "\n"); arg && argc < 64; arg = strtok(NULL, "\n")) {
		if (!strncmp(arg, "append=", 7))
			base = arg + 7;
		else
			argv[argc++] = arg;
	}
	if (strcmp(guest_row, "plug"))
		snprintf(number, sizeof(number), "%d", cpus);
	else
		snprintf(number, sizeof(number), "%d,maxcpus=%d,sockets=%d,cores=1,threads=1",
			 cpus, cpus + 1, cpus + 1);
	snprintf(append, sizeof(append), "%s row=%s cpus=%d", base, guest_row, cpus);
	argv[argc++] = "-smp";
	argv[argc++] = number;
	argv[argc++] = "-append";
	argv[argc++] = append;
	argv[argc++] = "-initrd";
	argv[argc++] = strcmp(guest_row, "kexec") ? "/qemu/initrd" : "/qemu/initrd-kexec";
	argv[argc++] = "-fw_cfg";
	argv[argc++] = "name=" PATTERN_ITEM ",file=" ITEM;
	argv[argc++] = "-chardev";
	argv[argc++] = "file,id=console,path=" CONSOLE ",append=on";
	argv[argc++] = "-serial";
	argv[argc++] = "chardev:console";
	argv[argc++] = "-qmp";
	argv[argc++] = "stdio";
	if (incoming) {
		argv[argc++] = "-incoming";
		argv[argc++] = "file:" STATE;
	}
	argv[argc] = NULL;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		return false;
	qemu = fork();
	if (!qemu) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(open(ERRORS, O_WRONLY | O_CREAT | O_APPEND, 0644), 2);
		execv(argv[0], argv);
		fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	silent = false;
	to_qemu = in[1];
	from_qemu = out[0];
	return qmp(EXECUTE("qmp_capabilities"));
}

/* Wait for *@what to be @value, as long as @limit allows. */
static bool wait_for(const char *name, const int *what, int value)
{
	double start = now();

	while (*what < value) {
		if (!alive()) {
			read_console();
			if (*what >= value)
				break;
			say("QEMU ended (status %#x) before %s", ended_with, name);
			return false;
		}
		if (cannot[0])
			return false;
		if (now() - start > limit) {
			say("no %s for %d s", name, limit);
			return false;
		}
		look(20);
	}
	return true;
}

static bool next_ok(void)
{
	return wait_for("sign of life", &nr_ok, nr_ok + 1);
}

static bool wait_end(void)
{
	double start = now();

	while (alive()) {
		if (now() - start > limit) {
			say("the guest did not power off within %d s", limit);
			return false;
		}
		look(20);
	}
	read_console();
	if (ended_with)
		say("QEMU ended with status %#x", ended_with);
	return !ended_with;
}

/* Of the last migration, in ms */
static int downtime;

/* Save into a file, and go on from there in a new QEMU. */
static bool migrate(bool stopped)
{
	double start = now(), saved;

	unlink(STATE);
	if (stopped && !qmp(EXECUTE("stop")))
		return false;
	if (!qmp("{\"execute\": \"migrate-set-parameters\", \"arguments\": {\"max-bandwidth\": 4000000000}}") ||
	    !qmp("{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"file:" STATE "\"}}"))
		return false;
	for (;;) {
		if (!qmp(EXECUTE("query-migrate")))
			return false;
		if (strstr(answer, "\"completed\""))
			break;
		if (strstr(answer, "\"failed\"") || now() - start > limit) {
			say("saving failed: %s", answer);
			return false;
		}
		look(20);
	}
	saved = now();
	if (strstr(answer, "\"downtime\": "))
		downtime = atoi(strstr(answer, "\"downtime\": ") + 12);
	stop_qemu();
	if (!start_qemu(true))
		return false;
	/* Saved while it was stopped, it waits for "cont". */
	while (stopped) {
		if (!qmp(EXECUTE("query-status")))
			return false;
		if (!strstr(answer, "inmigrate"))
			break;
		if (now() - saved > limit) {
			say("restoring takes more than %d s", limit);
			return false;
		}
		look(20);
	}
	if (stopped && !qmp(EXECUTE("cont")))
		return false;
	say("saved in %.2f s, started again in %.2f s", saved - start, now() - saved);
	return true;
}

/* ---- rows ---------------------------------------------------------------- */

static double boot_time;	/* of this guest, here and now */

static bool first_boot(void)
{
	double start = now();

	if (!start_qemu(false) || !next_ok())
		return false;
	boot_time = now() - start;
	say("booted in %.2f s", boot_time);
	return true;
}

static bool row_boot(void)
{
	int i;

	for (i = 0; i < count; i++) {
		if (!first_boot() || !wait_end())
			return false;
		stop_qemu();
	}
	return true;
}

static bool row_reboot(void)
{
	int i;

	if (!first_boot())
		return false;
	for (i = 1; i <= count; i++)
		if (!wait_for("reboot", &nr_up, i + 1) || !wait_for("sign of life", &nr_ok, i + 1))
			return false;
	say("%d reboots, %d resets seen by QEMU", count, nr_resets);
	return true;
}

/*
 * Reset the machine, and tell how long that took. What the guest was sending
 * breaks off, and the next boot's lines follow: even if it had just come up, it is
 * booting now.
 */
static bool reset(double *seconds)
{
	double start = now();
	int before = nr_resets;

	booting = true;
	if (!qmp(EXECUTE("system_reset")))
		return false;
	while (nr_resets == before) {
		if (!alive() || now() - start > limit) {
			say("no event RESET");
			return false;
		}
		look(5);
	}
	*seconds = now() - start;
	read_console();
	booting = true;
	return true;
}

static bool row_reset(void)
{
	double at, seconds;
	int i, boots;

	if (!first_boot())
		return false;
	for (i = 1; i <= count; i++) {
		at = moment(boot_time * 1.3);
		say("reset %d of %d after %.3f s", i, count, at);
		wait_ms(at);
		boots = nr_up;
		if (!reset(&seconds))
			return false;
		/* Each second one follows on a boot that may not be complete. */
		if (i % 2 && i != count)
			continue;
		if (!wait_for("boot", &nr_up, boots + 1) || !next_ok())
			return false;
	}
	return true;
}

static bool row_stop(void)
{
	int i;

	if (!first_boot())
		return false;
	for (i = 1; i <= count; i++) {
		double at = moment(0.5), pause = moment(0.5);

		say("stop %d of %d after %.3f s, for %.3f s", i, count, at, pause);
		wait_ms(at);
		if (!qmp(EXECUTE("stop")))
			return false;
		wait_ms(pause);
		if (!qmp(EXECUTE("cont")) || !next_ok())
			return false;
	}
	return true;
}

static bool row_oks(void)
{
	return first_boot() && wait_for("sign of life", &nr_ok, count + 1);
}

static bool row_save_boot(void)
{
	int i;

	if (!first_boot())
		return false;
	for (i = 1; i <= count; i++) {
		double at = moment(boot_time);

		stop_qemu();
		booting = true;
		if (!start_qemu(false))
			return false;
		say("save %d of %d at %.3f s of a boot", i, count, at);
		wait_ms(at);
		if (!migrate(i % 2) || !next_ok())
			return false;
	}
	return true;
}

static bool row_save(void)
{
	int i;

	if (!first_boot())
		return false;
	for (i = 1; i <= count; i++) {
		double at = moment(1.0);

		say("save %d of %d after %.3f s", i, count, at);
		wait_ms(at);
		if (!migrate(i % 2) || !next_ok())
			return false;
	}
	if (!strcmp(guest_row, "load")) {
		say("%ld loads", loads);
		if (!loads)
			bad("guest", "has loaded nothing");
	}
	return true;
}

static bool row_kexec(void)
{
	return first_boot() && wait_for("boot by kexec", &nr_kexeced, count);
}

#if defined(__aarch64__)
/*
 * The guest waits for an interrupt in KVM, and QEMU does not say so: what says
 * it is silence. A look at its registers ends the wait.
 */
static bool is_suspended(void)
{
	double start = now(), told = now();
	int lines = nr_lines;

	while (now() - told < 3) {
		if (!alive() || now() - start > limit)
			return false;
		look(20);
		if (cannot[0])
			return false;
		if (nr_lines != lines)
			told = now();
		lines = nr_lines;
	}
	return true;
}

static bool wake(void)
{
	return qmp("{\"execute\": \"human-monitor-command\", \"arguments\": "
		   "{\"command-line\": \"info registers -a\"}}");
}
#else
static bool is_suspended(void)
{
	static int events;

	return wait_for("event SUSPEND", &nr_suspend_events, ++events);
}

static bool wake(void)
{
	return qmp(EXECUTE("system_wakeup"));
}
#endif

/* The guest is going to suspend, or already has. */
static bool suspend_and_resume(void)
{
	int resumed = nr_resumed;

	if (!is_suspended())
		return false;
	wait_ms(moment(0.5));
	if (nr_resumed != resumed) {
		bad("guest", "resumed before it was woken up");
		return false;
	}
	if (!wake() || !wait_for("resume", &nr_resumed, resumed + 1) || !next_ok())
		return false;
	say("suspended and resumed");
	return true;
}

static bool row_suspend(void)
{
	int i;

	if (!first_boot())
		return false;
	for (i = 1; i <= count; i++)
		if (!suspend_and_resume())
			return false;
	return true;
}

/* What QEMU, with user-cpu-start=on, does when the guest starts a CPU, or suspends it. */
static bool set_policy(int cpu, const char *policy)
{
	static char path[200];
	char *p;

	if (!qmp(EXECUTE("query-cpus-fast")))
		return false;
	for (p = answer; (p = strstr(p, "\"qom-path\": \"")) && cpu; cpu--)
		p++;
	if (!p || sscanf(p, "\"qom-path\": \"%199[^\"]", path) != 1)
		return false;
	if (!qmp("{\"execute\": \"qom-set\", \"arguments\": {\"path\": \"%s\", "
		 "\"property\": \"kvm-start\", \"value\": \"%s\"}}", path, policy)) {
		snprintf(cannot, sizeof(cannot), "cannot be refused a CPU: %.100s", answer);
		return false;
	}
	say("starts of CPU: %s", policy);
	return true;
}

/* Refuse a start of CPU 1, allow one, and hold one. */
static bool row_start(void)
{
	int i, lines, stops, starts;

	if (!first_boot())
		return false;
	for (i = 1; i <= count; i++) {
		refusing = true;
		if (!set_policy(1, "refuse") || !wait_for("refusal", &nr_refused, nr_refused + 1))
			return false;
		starts = nr_started;
		if (!set_policy(1, "allow") || !wait_for("start", &nr_started, starts + 1))
			return false;
		refusing = false;
		if (!next_ok())
			return false;

		stops = nr_stops;
		if (!set_policy(1, "hold") || !wait_for("held start", &nr_stops, stops + 1) ||
		    !qmp(EXECUTE("query-status")))
			return false;
		if (!strstr(answer, "\"debug\"")) {
			bad("QEMU", answer);
			return false;
		}
		read_console();
		lines = nr_lines;
		wait_ms(0.5);
		if (nr_lines != lines)
			bad("guest", "runs while the start of its CPU is held");
		starts = nr_started;
		if (!set_policy(1, "allow") || !qmp(EXECUTE("cont")) ||
		    !wait_for("start", &nr_started, starts + 1) || !next_ok())
			return false;
		say("refused, started, held, and started");
	}
	return true;
}

/* Refuse what the guest suspends with, then allow it. */
static bool row_suspend_refuse(void)
{
	int i;

	if (!first_boot())
		return false;
	for (i = 1; i <= count; i++) {
		refusing = true;
		if (!set_policy(0, "refuse") || !wait_for("refusal", &nr_refused, nr_refused + 1) ||
		    !next_ok() || !set_policy(0, "allow") ||
		    !suspend_and_resume())
			return false;
		refusing = false;
	}
	return true;
}

/* A CPU comes and goes; there are resets when it is there and when it is not. */
static bool row_plug(void)
{
	double seconds;
	int i, before;

	if (!first_boot())
		return false;
	for (i = 1; i <= count; i++) {
		before = nr_plugged;
		if (!qmp("{\"execute\": \"device_add\", \"arguments\": {\"driver\": \"host-x86_64-cpu\", "
			 "\"id\": \"more\", \"socket-id\": %d, \"core-id\": 0, \"thread-id\": 0}}", cpus) ||
		    !wait_for("CPU", &nr_plugged, before + 1) || !next_ok())
			return false;
		if (i % 2 && (!reset(&seconds) ||
			      !wait_for("CPU after a reset", &nr_plugged, before + 2) || !next_ok()))
			return false;
		if (!qmp("{\"execute\": \"device_del\", \"arguments\": {\"id\": \"more\"}}") ||
		    !wait_for("CPU unplugged", &nr_unplugged, i) || !next_ok())
			return false;
		before = nr_up;
		if (i % 3 && (!reset(&seconds) ||
			      !wait_for("boot", &nr_up, before + 1) || !next_ok()))
			return false;
	}
	return true;
}

/* What a reset, a stop and a migration cost with one of two QEMUs */
#define MOST	64

struct cost {
	double reset[MOST], stop[MOST], down[MOST];
	int nr_resets, nr_stops, nr_downs, ioctls;
};

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
	qsort(v, n, sizeof(*v), compare_doubles);
	return n ? v[n / 2] : 0;
}

static bool trace(const char *name, bool enable)
{
	return qmp("{\"execute\": \"trace-event-set-state\", \"arguments\": "
		   "{\"name\": \"%s*\", \"enable\": %s}}", name, enable ? "true" : "false");
}

/* The lines of the log after @from that have one of the events */
static int count_lines(long from)
{
	FILE *f = fopen(ERRORS, "re");
	char line[512];
	int n = 0;

	if (!f)
		return -1;
	fseek(f, from, SEEK_SET);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "kvm_vcpu_ioctl") || strstr(line, "kvm_cpu_reset");
	fclose(f);
	return n;
}

/*
 * It is stopped: whatever a vCPU's ioctl does has to do with the reset. The request
 * to KVM itself is traced as kvm_cpu_reset.
 */
static bool count_ioctls(int *ioctls)
{
	struct stat st = { };
	double unused;

	stat(ERRORS, &st);
	if (!trace("kvm_vcpu_ioctl", true) || !trace("kvm_cpu_reset", true) ||
	    !reset(&unused) ||
	    !trace("kvm_vcpu_ioctl", false) || !trace("kvm_cpu_reset", false))
		return false;
	*ioctls = count_lines(st.st_size);
	return true;
}

/*
 * Debian's QEMU does not migrate riscv guests of more than one CPU, and a CPU that
 * is reset in user mode stays there, i.e. the guest does not boot.
 */
static bool can_go_on(const char *args)
{
#if defined(__riscv)
	return !strstr(args, "debian");
#else
	return true;
#endif
}

static bool costs_of(const char *args, struct cost *cost)
{
	int i, boots;

	args_file = args;
	if (!first_boot())
		return false;
	for (i = 0; i < count && cost->nr_stops < MOST; i++) {
		double start;

		wait_ms(moment(0.2));
		start = now();
		if (!qmp(EXECUTE("stop")))
			return false;
		cost->stop[cost->nr_stops++] = now() - start;
		/* The first reset after it has run takes as long as it does. */
		if (cost->nr_resets < MOST && !reset(&cost->reset[cost->nr_resets++]))
			return false;
		if (!i && !count_ioctls(&cost->ioctls))
			return false;
		if (!can_go_on(args)) {
			stop_qemu();
			if (!first_boot())
				return false;
			continue;
		}
		boots = nr_up;
		if (!qmp(EXECUTE("cont")) || !wait_for("boot", &nr_up, boots + 1) || !next_ok())
			return false;
		if (!migrate(false) || !next_ok())
			return false;
		if (cost->nr_downs < MOST)
			cost->down[cost->nr_downs++] = downtime;
	}
	stop_qemu();
	return true;
}

static void figure(const char *what, double debian, double again, double patched)
{
	printf("FIGURE %d CPUs, %s: %.3g -> %.3g ms, ratio %.2f (Debian's once more: %.2f)\n", cpus,
	       what, debian, patched, debian ? patched / debian : 0, debian ? again / debian : 0);
}

static bool row_cost(void)
{
	static struct cost debian, again, patched;
	const char *args = args_file;

	if (access("/qemu/args-debian", R_OK)) {
		snprintf(cannot, sizeof(cannot), "cannot be compared: there is one QEMU");
		return false;
	}
	if (!costs_of("/qemu/args-debian", &debian) || !costs_of(args, &patched) ||
	    !costs_of("/qemu/args-debian", &again))
		return false;
	printf("FIGURE %d CPUs, ioctls of a system_reset, per vCPU: %.1f -> %.1f\n", cpus,
	       (double)debian.ioctls / cpus, (double)patched.ioctls / cpus);
	figure("system_reset", 1e3 * median(debian.reset, debian.nr_resets),
	       1e3 * median(again.reset, again.nr_resets), 1e3 * median(patched.reset, patched.nr_resets));
	figure("stop", 1e3 * median(debian.stop, debian.nr_stops),
	       1e3 * median(again.stop, again.nr_stops), 1e3 * median(patched.stop, patched.nr_stops));
	if (!debian.nr_downs) {
		printf("FIGURE %d CPUs, downtime of a migration: %.3g ms\n", cpus,
		       median(patched.down, patched.nr_downs));
		return true;
	}
	figure("downtime of a migration", median(debian.down, debian.nr_downs),
	       median(again.down, again.nr_downs), median(patched.down, patched.nr_downs));
	return true;
}

static const struct {
	const char *name, *guest;
	bool (*run)(void);
} rows[] = {
	{ "boot", "boot", row_boot },
	{ "reboot", "reboot", row_reboot },
	{ "reset", "idle", row_reset },
	{ "hotplug", "hotplug", row_oks },
	{ "stop", "busy", row_stop },
	{ "save-boot", "idle", row_save_boot },
	{ "save-start", "start", row_save },
	{ "save-load", "load", row_save },
	{ "suspend", "suspend", row_suspend },
	{ "suspend-refuse", "suspend-refuse", row_suspend_refuse },
	{ "start", "start-one", row_start },
	{ "plug", "plug", row_plug },
	{ "nested", "nested", row_reset },
	{ "cost", "load", row_cost },
	{ "kexec", "kexec", row_kexec },
};

/*
 * Nobody writes to memory that nobody has: not even a guest that has read it.
 * Both kinds, what the host maps there may be small or huge.
 */
static void check_zero_page(void)
{
	size_t size = 4 << 20, i;
	int huge;

	for (huge = 0; huge < 2; huge++) {
		uint64_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory == MAP_FAILED)
			return;
		madvise(memory, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		for (i = 0; i < size / sizeof(*memory); i++) {
			if (((volatile uint64_t *)memory)[i]) {
				bad("host", huge ? "its huge zero page was written to" :
						   "its zero page was written to");
				break;
			}
		}
		munmap(memory, size);
	}
}

static void tail(const char *path, const char *what, long bytes)
{
	char *buf = calloc(1, bytes + 1), *line;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && buf) {
		if (lseek(fd, 0, SEEK_END) > bytes)
			lseek(fd, -bytes, SEEK_END);
		else
			lseek(fd, 0, SEEK_SET);
		if (read(fd, buf, bytes) > 0)
			for (line = strtok(buf, "\r\n"); line; line = strtok(NULL, "\r\n"))
				printf("%s| %s\n", what, line);
		close(fd);
	}
	free(buf);
}

/* "\r\n" within a JSON string */
static void print_answer(void)
{
	char *p;

	for (p = answer; *p; p++) {
		if (p[0] == '\\' && p[1] == 'r')
			p++;
		else if (p[0] == '\\' && p[1] == 'n') {
			putchar('\n');
			p++;
		} else
			putchar(*p);
	}
	putchar('\n');
}

/*
 * x86 corrects the frequency of its TSC a second or two after the boot. A VM that
 * was created before is told the wrong one; KVM then "catches up", and the timers
 * of its guest stand still for a minute.
 */
static void wait_for_tsc(void)
{
	char name[32] = "";
	int i, fd;

	for (i = 0; i < 100; i++) {
		fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
			  O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, name, sizeof(name) - 1) <= 0)
			say("no clocksource: %s", strerror(errno));
		close(fd);
		if (strncmp(name, "tsc-early", 9))
			break;
		usleep(100000);
	}
}

int main(int argc, char **argv)
{
	bool done = false;
	unsigned int i;
	int fd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	for (i = 1; i < (unsigned int)argc; i++) {
		char *value = strchr(argv[i], '=');

		if (!value)
			continue;
		*value++ = '\0';
		if (!strcmp(argv[i], "row"))
			row = value;
		else if (!strcmp(argv[i], "cpus"))
			cpus = atoi(value);
		else if (!strcmp(argv[i], "count"))
			count = atoi(value);
		else if (!strcmp(argv[i], "limit"))
			limit = atoi(value);
		else if (!strcmp(argv[i], "args"))
			args_file = value;
		else if (!strcmp(argv[i], "seed"))
			seed = strtoull(value, NULL, 0) * 0x9e3779b97f4a7c15ULL | 1;
	}
	wait_for_tsc();
	started = now();
	unlink(CONSOLE);
	unlink(ERRORS);
	fd = open(ITEM, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	for (i = 0; i < PATTERN_SIZE; i++) {
		uint8_t byte = pattern_byte(i);

		if (write(fd, &byte, 1) != 1)
			say("%s: %s", ITEM, strerror(errno));
	}
	close(fd);

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].name, row))
			continue;
		guest_row = rows[i].guest;
		done = rows[i].run();
		if (done || cannot[0] || nr_bad || alive())
			break;
	}
	if (!guest_row) {
		say("there is no row %s", row);
		return 1;
	}
	read_console();
	check_zero_page();
	if (cannot[0] && !nr_bad) {
		stop_qemu();
		printf("the guest %s, skipping test\n", cannot);
		return 4;
	}
	if (!done || nr_bad) {
		if (!done && alive() && from_qemu >= 0) {
			int state;

			/* Twice: is it there, or does it go round? */
			for (state = 0; state < 2; state++) {
				if (qmp("{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"info registers -a\"}}"))
					print_answer();
				wait_ms(0.3);
			}
			/* What it can fetch at its PC, where QEMU knows. */
			if (qmp("{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"info mem\"}}"))
				print_answer();
			if (qmp(EXECUTE("query-status")))
				print_answer();
		}
		stop_qemu();
		/* init quotes the last 20 lines, the console's file has all. */
		tail(CONSOLE, "console", 6000);
		tail(ERRORS, "qemu", 400);
		for (i = 0; i < 5 && i < (unsigned int)nr_bad; i++)
			printf("BAD %s\n", bad_lines[i]);
		printf("FAILED row %s, %d CPUs: %s, %d signs of life, %d bad lines\n", row, cpus,
		       done ? "done" : "not done", nr_ok, nr_bad);
		return 1;
	}
	stop_qemu();
	printf("passed row %s, %d CPUs, %d signs of life, %d boots, in %.1f s\n", row, cpus,
	       nr_ok, nr_up, now() - started);
	return 0;
}
