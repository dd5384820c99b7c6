// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_mutants ran TEST...
 *	Which statements each test executes.
 *
 * kvm_mutants [TEST SECONDS LAST LIST]...
 *	Run TEST without each statement of LIST, e.g. 3-5,17.  It is over when the
 *	test fails, when it is silent for SECONDS, or after a line "ok ... LAST".
 *	LAST has "_" for blanks, "-" for none.  In the end, TEST has to pass with
 *	all statements.
 *
 * What comes out of it is for mutants.py, which reads it from the console.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PARAMETERS	"/sys/module/kernel/parameters/"
#define KSFT_SKIP	4

static bool killed[4096];
static int kmsg = -1;

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0) {
		printf("mutants: error: %s: %s\n", path, strerror(errno));
		exit(1);
	}
	close(fd);
}

static void set_mutant(int nr)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", nr);
	write_file(PARAMETERS "kvm_mutant", text);
}

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* What the kernel complains about, "" if there is nothing */
static void kernel_says(char *why, size_t size)
{
	static const char * const bad[] = {
		"WARNING:", "BUG:", "kernel BUG", "Oops", "Unable to handle",
		"Internal error", "general protection", "HYP panic",
	};
	char record[8192], *text;
	unsigned int i;
	ssize_t n;

	why[0] = '\0';
	for (;;) {
		n = read(kmsg, record, sizeof(record) - 1);
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			return;
		record[n] = '\0';
		text = strchr(record, ';');
		/* Those of userspace have a facility */
		if (!text || strtoul(record, NULL, 10) >> 3)
			continue;
		text[strcspn(text, "\n")] = '\0';
		for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
			if (!why[0] && strstr(text, bad[i]))
				snprintf(why, size, "kernel: %s", text + 1);
	}
}

/* Processes of a test that outlive it are our children then */
static bool kill_all(pid_t pid)
{
	long long end = now_ms() + 10000;

	while (now_ms() < end) {
		kill(-pid, SIGKILL);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
			return true;
		usleep(2000);
	}
	return false;
}

static bool has_failed(const char *line)
{
	return !strncmp(line, "not ok ", 7) || !strncmp(line, "Bail out!", 9);
}

static bool is_last(const char *line, const char *last)
{
	char text[128];
	char *p;

	if (!last || !strcmp(last, "-") || strncmp(line, "ok ", 3))
		return false;
	snprintf(text, sizeof(text), " %s", last);
	for (p = text; (p = strchr(p, '_')); )
		*p = ' ';
	return strlen(line) >= strlen(text) &&
	       !strcmp(line + strlen(line) - strlen(text), text);
}

/* Returns 0 passed, 1 failed, 2 skipped, 3 failed and better boot again */
static int run_test(const char *name, long silence_ms, const char *stop, char *why,
		    size_t size, long *gap)
{
	static char line[512], last[512], detail[512];
	long long start = now_ms(), heard = start;
	int fds[2], status = 0;
	size_t len = 0;
	struct pollfd p;
	char buf[4096];
	bool over = false;
	int verdict = 0;
	pid_t pid;
	ssize_t n, i;

	why[0] = last[0] = detail[0] = '\0';
	*gap = 0;
	if (pipe2(fds, O_CLOEXEC))
		exit(1);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		char path[128];

		setpgid(0, 0);
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		snprintf(path, sizeof(path), "./%s", name);
		execl(path, path, NULL);
		_exit(127);
	}
	setpgid(pid, pid);
	close(fds[1]);
	p.fd = fds[0];
	p.events = POLLIN;

	while (!verdict && !over) {
		long long waited = now_ms() - heard;

		if (waited > *gap)
			*gap = waited;
		if (silence_ms && waited >= silence_ms) {
			snprintf(why, size, "hangs after: %.80s", last);
			verdict = 1;
			break;
		}
		if (poll(&p, 1, 200) <= 0)
			continue;
		n = read(fds[0], buf, sizeof(buf));
		if (n <= 0)
			break;
		heard = now_ms();
		for (i = 0; i < n && !verdict; i++) {
			if (buf[i] != '\n') {
				if (len < sizeof(line) - 1)
					line[len++] = buf[i];
				continue;
			}
			line[len] = '\0';
			len = 0;
			/* What the test says about it comes before */
			if (has_failed(line)) {
				snprintf(why, size, "%.60s: %.120s", line,
					 detail[0] ? detail : last);
				verdict = 1;
			}
			if (!detail[0] && strstr(line, "new vCPU"))
				strcpy(detail, line);
			if (line[0])
				strcpy(last, line);
			over |= is_last(line, stop);
			if (!silence_ms && !strncmp(line, "ok ", 3))
				printf("mutants: case %lld %s\n", now_ms() - start, line);
		}
	}
	close(fds[0]);

	if (!verdict && !over) {
		waitpid(pid, &status, 0);
		if (WIFSIGNALED(status)) {
			snprintf(why, size, "signal %d", WTERMSIG(status));
			verdict = 1;
		} else if (WEXITSTATUS(status) == KSFT_SKIP) {
			verdict = 2;
		} else if (WEXITSTATUS(status)) {
			snprintf(why, size, "exit %d: %.80s", WEXITSTATUS(status), last);
			verdict = 1;
		}
	}
	if (!kill_all(pid)) {
		snprintf(why, size, "can't be killed");
		return 3;
	}

	kernel_says(buf, 120);
	if (buf[0]) {
		snprintf(why, size, "%.120s", buf);
		return 3;
	}
	return verdict;
}

/* In lines that are not too long for whoever carries them to the console */
static void print_ran(const char *what)
{
	static char ran[8192];
	int fd = open(PARAMETERS "kvm_mutant_ran", O_RDONLY);
	ssize_t n = read(fd, ran, sizeof(ran)), i, col = 0;

	close(fd);
	for (i = 1; i < n; i++) {
		if (ran[i] != '1')
			continue;
		if (!col)
			printf("mutants: ran %s", what);
		printf(" %zd", i);
		if (++col == 40) {
			printf("\n");
			col = 0;
		}
	}
	if (col)
		printf("\n");
	write_file(PARAMETERS "kvm_mutant_ran", "0");
}

static int record(char **tests)
{
	char why[256];
	int r = 0;
	long gap;

	print_ran("boot");
	for (; *tests; tests++) {
		long long start = now_ms();
		int verdict = run_test(*tests, 0, NULL, why, sizeof(why), &gap);

		print_ran(*tests);
		printf("mutants: test %s %d %lld %ld %s\n", *tests, verdict,
		       now_ms() - start, gap, why);
		r |= verdict;
	}
	printf("mutants: end\n");
	return r;
}

static bool one(const char *test, long silence_ms, const char *stop, int nr)
{
	static const char * const verdicts[] = { "survived", "killed", "skipped", "killed" };
	long long start = now_ms();
	char why[256];
	int verdict;
	long gap;

	if (nr <= 0 || nr >= (int)(sizeof(killed) / sizeof(killed[0])) || killed[nr])
		return true;
	printf("mutants: start %d %s\n", nr, test);
	fflush(stdout);
	write_file("/sys/kernel/debug/clear_warn_once", "1\n");
	set_mutant(nr);
	verdict = run_test(test, silence_ms, stop, why, sizeof(why), &gap);
	set_mutant(0);
	killed[nr] = verdict & 1;
	printf("mutants: %s %d %s %lld %s\n", verdicts[verdict], nr, test,
	       now_ms() - start, why);
	fflush(stdout);
	return verdict != 3;
}

static int run_list(const char *test, long silence_ms, const char *stop, char *list)
{
	char *part;

	for (part = strtok(list, ","); part; part = strtok(NULL, ",")) {
		int a, b;

		if (sscanf(part, "%d-%d", &a, &b) != 2)
			b = a = atoi(part);
		for (; a <= b; a++) {
			if (!one(test, silence_ms, stop, a)) {
				printf("mutants: again\n");
				return 1;
			}
		}
	}
	return 0;
}

int main(int argc, char *argv[])
{
	char why[256];
	int i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	kernel_says(why, sizeof(why));

	if (argc > 2 && !strcmp(argv[1], "ran"))
		return record(argv + 2);

	for (i = 1; i + 3 < argc; i += 4)
		if (run_list(argv[i], atol(argv[i + 1]) * 1000, argv[i + 2], argv[i + 3]))
			return 1;

	/* Nothing may be left behind */
	for (i = 1; i + 3 < argc; i += 4) {
		long gap;
		int verdict = run_test(argv[i], atol(argv[i + 1]) * 1000, argv[i + 2],
				       why, sizeof(why), &gap);

		printf("mutants: after %d %s %s\n", verdict, argv[i], why);
	}
	printf("mutants: end\n");
	return 0;
}
