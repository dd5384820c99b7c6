// SPDX-License-Identifier: GPL-2.0-only
/*
 * The parameters kvm_mutant, for the command line and in
 * /sys/module/kernel/parameters, and kvm_mutant_ran, a string with a '1' for
 * each statement that was executed; writing to the latter clears it.
 */
#include <linux/kernel.h>
#include <linux/kvm_mutant.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

int kvm_mutant;
core_param(kvm_mutant, kvm_mutant, int, 0644);

u8 kvm_mutant_ran[KVM_NR_MUTANTS + 1];
static_assert(KVM_NR_MUTANTS < PAGE_SIZE - 2);

static int get_ran(char *buffer, const struct kernel_param *kp)
{
	int i;

	for (i = 0; i <= KVM_NR_MUTANTS; i++)
		buffer[i] = READ_ONCE(kvm_mutant_ran[i]) ? '1' : '0';
	buffer[i++] = '\n';

	return i;
}

static int set_ran(const char *val, const struct kernel_param *kp)
{
	memset(kvm_mutant_ran, 0, sizeof(kvm_mutant_ran));

	return 0;
}

static const struct kernel_param_ops ran_ops = {
	.get = get_ran,
	.set = set_ran,
};

__core_param_cb(kvm_mutant_ran, &ran_ops, NULL, 0644);
