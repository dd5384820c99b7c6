/* SPDX-License-Identifier: GPL-2.0-only */
/* What guest.c and driver.c have to agree on. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PATTERN_ITEM	"opt/org.kernel.pattern"
#define PATTERN_SIZE	4096
#define PATTERN_LINE	96

static inline uint8_t pattern_byte(int i)
{
	return i * 7 + (i >> 8) * 13;
}

/* "s NUMBER PATTERN": of a length that depends on the number */
static inline int pattern_text(char *line, int number)
{
	int len = sprintf(line, "s %d ", number), i, n = 20 + number % 40;

	for (i = 0; i < n; i++)
		line[len++] = 'a' + (number + i) % 26;
	line[len++] = '\n';
	line[len] = '\0';
	return len;
}

/*
 * What a lost interrupt, a clock that stands still, a CPU that did not come up
 * and a kernel that found a bug in itself leave in the log.
 */
static inline bool is_bad_line(const char *line)
{
	static const char * const text[] = {
		"soft lockup", "hard LOCKUP", "hung", "stall", "starved", "WARNING:", "BUG:",
		"kernel BUG", "Oops", "Kernel panic", "Unable to handle", "general protection",
		"Call Trace", "failed to come online", "failed to boot", "failed to start",
		"failed to report alive", "failed to come up", "do_boot_cpu failed", "failed to stop",
		"may not have shut down", "did not die", "didn't die", "is stuck", "not responding",
		"Marking clocksource", "clocksource watchdog", "marked unstable", "hrtimer: interrupt took",
		"nobody cared", "unexpected IRQ", "Unexpected interrupt", "spurious 8259A", "timed out",
		"IRQ work not", "lost ", "Bad mode", "Internal error", "MCE", "Machine check",
		"Trying to free", "IO-APIC + timer", "..MP-BIOS bug", "APIC error", "TSC synchronization",
		"Measured", "refcount_t", "list_add corruption", "list_del corruption", "NMI received",
	};
	unsigned int i;

	for (i = 0; i < sizeof(text) / sizeof(text[0]); i++)
		if (strstr(line, text[i]))
			return true;
	return false;
}

/* What Linux says if it starts a CPU and that is refused */
static inline bool is_refused_start(const char *line)
{
	return strstr(line, "failed to come online") || strstr(line, "failed to boot") ||
	       strstr(line, "failed to start") || strstr(line, "failed to report alive") ||
	       strstr(line, "do_boot_cpu failed");
}
