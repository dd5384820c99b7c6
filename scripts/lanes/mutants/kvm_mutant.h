/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Statements that can be left out while the kernel runs; mutants.py puts
 * "if (kvm_mutant_runs(N)) ... else (void)0;" around each of them, and makes
 * "if (kvm_mutant_is(N, ...))" of each condition.
 */
#ifndef KVM_MUTANT_H
#define KVM_MUTANT_H

#include <linux/compiler.h>
#include <linux/types.h>

/* What is left out may be what sets a variable, or what returns a value. */
#pragma GCC diagnostic ignored "-Wdangling-else"
#pragma GCC diagnostic ignored "-Wreturn-type"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wunused-label"

/* The one that is left out, 0 for none */
extern int kvm_mutant;
/* Those that were executed, or would have been */
extern u8 kvm_mutant_ran[];

static __always_inline bool kvm_mutant_runs(int nr)
{
	if (!READ_ONCE(kvm_mutant_ran[nr]))
		WRITE_ONCE(kvm_mutant_ran[nr], 1);
	return READ_ONCE(kvm_mutant) != nr;
}

/* The contrary of a condition, if that is what is "left out" */
static __always_inline bool kvm_mutant_is(int nr, bool cond)
{
	return kvm_mutant_runs(nr) == cond;
}

#endif
