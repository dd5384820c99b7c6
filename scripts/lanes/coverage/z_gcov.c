// SPDX-License-Identifier: GPL-2.0-only
/*
 * The last of the tests: what the others have run, out of /sys/kernel/debug/gcov.
 *
 *	gcov: file PATH
 *	gcov: NUMBER BASE64
 *	gcov: end NUMBER-OF-LINES SUM-OF-BYTES
 *
 * coverage.py reads it from the console, and wants every number.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef GCOV
#define GCOV		"/sys/kernel/debug/gcov"
#endif
#define KSFT_SKIP	4

static unsigned int nr_lines, nr_files;
static unsigned long sum;

static void line_of(const unsigned char *data, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char text[512];
	size_t i, n = 0;

	for (i = 0; i < len; i += 3) {
		unsigned int v = data[i] << 16;

		sum += data[i];
		if (i + 1 < len) {
			v |= data[i + 1] << 8;
			sum += data[i + 1];
		}
		if (i + 2 < len) {
			v |= data[i + 2];
			sum += data[i + 2];
		}
		text[n++] = digits[v >> 18];
		text[n++] = digits[v >> 12 & 63];
		text[n++] = i + 1 < len ? digits[v >> 6 & 63] : '=';
		text[n++] = i + 2 < len ? digits[v & 63] : '=';
	}
	text[n] = '\0';
	printf("gcov: %u %s\n", nr_lines++, text);
}

static void dump(const char *path)
{
	static unsigned char data[288];
	int fd = open(path, O_RDONLY);
	ssize_t n, have = 0;

	if (fd < 0) {
		printf("Bail out! %s: %s\n", path, strerror(errno));
		exit(1);
	}
	printf("gcov: file %s\n", path + strlen(GCOV));
	for (;;) {
		n = read(fd, data + have, sizeof(data) - have);
		if (n < 0) {
			printf("Bail out! %s: %s\n", path, strerror(errno));
			exit(1);
		}
		have += n;
		if (!n || have == sizeof(data)) {
			if (have)
				line_of(data, have);
			have = 0;
		}
		if (!n)
			break;
	}
	close(fd);
	nr_files++;
}

static void walk(const char *dir)
{
	char path[4096];
	struct dirent *e;
	struct stat st;
	size_t len;
	DIR *d = opendir(dir);

	if (!d)
		return;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		len = strlen(path);
		/* The .gcno are links to what is on the host. */
		if (lstat(path, &st))
			continue;
		if (S_ISDIR(st.st_mode))
			walk(path);
		else if (S_ISREG(st.st_mode) && len > 5 && !strcmp(path + len - 5, ".gcda"))
			dump(path);
	}
	closedir(d);
}

int main(void)
{
	walk(GCOV);
	if (!nr_files) {
		printf("ok 1 # SKIP the kernel has no gcov\n");
		return KSFT_SKIP;
	}
	printf("gcov: end %u %lu\n", nr_lines, sum);
	return 0;
}
