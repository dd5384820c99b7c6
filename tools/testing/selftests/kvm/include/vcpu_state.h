/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Everything that userspace can read about a vCPU, as a list of named fields.
 *
 * Two such lists, e.g. of one vCPU at two times or of two vCPUs that ought to
 * be in the same state, can be compared field by field.
 */
#ifndef SELFTEST_KVM_VCPU_STATE_H
#define SELFTEST_KVM_VCPU_STATE_H

#include "kvm_util.h"

#define VCPU_STATE_NAME_LEN	48

/* The largest KVM_REG_SIZE_*. */
#define KVM_REG_MAX_SIZE	256

struct vcpu_state_field {
	char name[VCPU_STATE_NAME_LEN];
	u32 offset;		/* of the value, in struct vcpu_state.data */
	u32 size;		/* in bytes, 0 if KVM refused to tell */
};

struct vcpu_state {
	struct vcpu_state_field *fields;
	unsigned int nr;
	unsigned int max;
	u8 *data;
	size_t len;
	size_t max_len;
};

/* What to know about the fields whose name matches @pattern, as in fnmatch(). */
struct vcpu_state_rule {
	const char *pattern;
	const char *reason;
};

/*
 * Called for a field that differs, or that only one of the two has, in which
 * case the other value is "-".
 */
typedef void (*vcpu_state_diff_fn)(void *arg, const char *name,
				   const char *want, const char *got);

/*
 * Read all of the state of @vcpu, which must not be in KVM_RUN.  Reading goes
 * through the usual ioctls, with their usual side effects: e.g. on x86,
 * KVM_GET_MP_STATE, which comes last, accepts a pending INIT or SIPI.
 */
struct vcpu_state *vcpu_state_get(struct kvm_vcpu *vcpu);
void vcpu_state_free(struct vcpu_state *state);

/* Return the index of the field in @state, -1 if there is none. */
int vcpu_state_find(const struct vcpu_state *state, const char *name);

/* Return the number of fields for which @fn, which may be NULL, was called. */
unsigned int vcpu_state_diff(const struct vcpu_state *want,
			     const struct vcpu_state *got,
			     vcpu_state_diff_fn fn, void *arg);

/* Return the rule that applies to @name, NULL if there is none. */
const struct vcpu_state_rule *vcpu_state_match(const struct vcpu_state_rule *rules,
					       const char *name);

/* What differs between any two vCPUs, as time goes on. */
extern const struct vcpu_state_rule vcpu_state_clocks[];

/* Assert that @vcpu is in the state @want, but for the clocks. */
void vcpu_state_assert_same(const char *what, const struct vcpu_state *want,
			    struct kvm_vcpu *vcpu);

/*
 * Give as much of the state of @vcpu as possible another value by means of
 * ioctls, without regard for what the vCPU would do with it: do not run it
 * afterwards.  @gpa is guest memory, of two pages and aligned to two pages,
 * that KVM may be told to use.  @pass selects which value is written if there
 * are states that exclude each other, 0 <= @pass < VCPU_STATE_NR_DIRTY_PASSES.
 */
void vcpu_state_dirty(struct kvm_vcpu *vcpu, gpa_t gpa, int pass);

/*
 * What vcpu_state_dirty() leaves alone, because it is configuration, is not
 * the vCPU's own, or is a constant.
 */
extern const struct vcpu_state_rule vcpu_state_not_dirtied[];

/* The registers of KVM_GET_REG_LIST, with their values. */
struct kvm_saved_regs {
	u64 n;
	struct {
		u64 id;
		u8 data[KVM_REG_MAX_SIZE];
	} reg[];
};

/*
 * Save and restore all registers, in the order of the list, as a VMM does that
 * doesn't know what they mean.  Assert that each of them, but for the clocks and
 * what depends on them, reads as what was restored.  Free what is saved with
 * free().
 */
extern const struct vcpu_state_rule vcpu_state_clock_driven[];

struct kvm_saved_regs *vcpu_save_reg_list(struct kvm_vcpu *vcpu);
void vcpu_restore_reg_list(struct kvm_vcpu *vcpu, const struct kvm_saved_regs *saved);
void vcpu_copy_reg_list(struct kvm_vcpu *from, struct kvm_vcpu *to);

/* For the architectures */
#if defined(__x86_64__)
#define VCPU_STATE_NR_DIRTY_PASSES	3
#else
#define VCPU_STATE_NR_DIRTY_PASSES	2
#endif

void vcpu_state_arch_get(struct kvm_vcpu *vcpu, struct vcpu_state *state);

__printf(4, 5) void vcpu_state_add(struct vcpu_state *state, const void *value,
				   size_t size, const char *fmt, ...);

/* Add a member of a structure, by its name in the source. */
#define vcpu_state_add_member(state, prefix, s, member)			\
	vcpu_state_add(state, &(s)->member, sizeof((s)->member),	\
		       "%s." #member, prefix)

/* Add an array of @size bytes as one field for each @step bytes. */
void vcpu_state_add_array(struct vcpu_state *state, const void *value,
			  size_t size, size_t step, const char *prefix);

/* Add all of KVM_GET_REG_LIST. */
void vcpu_state_add_reg_list(struct kvm_vcpu *vcpu, struct vcpu_state *state);
void vcpu_state_reg_name(u64 id, char *name, size_t size);

/*
 * Find a value that KVM takes for a register, and that reads as something new:
 * flip the bits of one of @flips after the other, which the value of a larger
 * register consists of several times, and then any bit of @mask by itself.
 */
void vcpu_state_dirty_reg(struct kvm_vcpu *vcpu, u64 id, const u64 *flips,
			  int nr_flips, u64 mask);

/* Read @fd's attribute, of @size bytes, if it has it. */
void vcpu_state_add_attr(struct vcpu_state *state, int fd, u32 group, u64 attr,
			 size_t size, const char *fmt, ...);

#ifdef __aarch64__
/* Bring the private part of the GIC, and the CPU interface, to @from's state. */
void vcpu_copy_gic(struct kvm_vcpu *from, struct kvm_vcpu *to);
/* Have the GIC and the ITS write to guest memory what they keep there. */
void vm_save_gic_tables(struct kvm_vm *vm, int its_fd);
/* All of that, of VMs with @nr vCPUs, for a VM that has got that memory */
void vm_copy_gic(struct kvm_vcpu **from, struct kvm_vcpu **to, int nr, int from_its, int to_its);
#endif

#endif /* SELFTEST_KVM_VCPU_STATE_H */
