// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything that userspace can read about a vCPU, see vcpu_state.h
 */
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vcpu_state.h"

/* Enough for the hexadecimal digits of the largest field. */
#define VALUE_LEN	(2 * KVM_REG_MAX_SIZE + 3)

static void *grow(void *p, size_t size)
{
	p = realloc(p, size);
	TEST_ASSERT(p, "-ENOMEM when growing the state of a vCPU");

	return p;
}

static void __vcpu_state_add(struct vcpu_state *state, const void *value,
			     size_t size, const char *fmt, va_list ap)
{
	struct vcpu_state_field *field;
	int len;

	if (state->nr == state->max) {
		state->max = state->max ? 2 * state->max : 1024;
		state->fields = grow(state->fields,
				     state->max * sizeof(*state->fields));
	}

	if (state->len + size > state->max_len) {
		state->max_len = 2 * (state->max_len + size);
		state->data = grow(state->data, state->max_len);
	}

	field = &state->fields[state->nr++];
	len = vsnprintf(field->name, sizeof(field->name), fmt, ap);
	TEST_ASSERT(len < sizeof(field->name), "Field '%s...' needs a shorter name",
		    field->name);

	field->offset = state->len;
	field->size = size;
	if (size)
		memcpy(state->data + field->offset, value, size);
	state->len += size;
}

void vcpu_state_add(struct vcpu_state *state, const void *value, size_t size,
		    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	__vcpu_state_add(state, value, size, fmt, ap);
	va_end(ap);
}

void vcpu_state_add_array(struct vcpu_state *state, const void *value,
			  size_t size, size_t step, const char *prefix)
{
	size_t i;

	for (i = 0; i < size; i += step)
		vcpu_state_add(state, value + i, min(step, size - i),
			       "%s[0x%03zx]", prefix, i);
}

void vcpu_state_add_attr(struct vcpu_state *state, int fd, u32 group, u64 attr,
			 size_t size, const char *fmt, ...)
{
	u64 value = 0;
	va_list ap;
	int r;

	TEST_ASSERT(size <= sizeof(value), "Attribute of %zu bytes", size);

	if (__kvm_has_device_attr(fd, group, attr))
		return;

	r = __kvm_device_attr_get(fd, group, attr, &value);

	va_start(ap, fmt);
	__vcpu_state_add(state, &value, r ? 0 : size, fmt, ap);
	va_end(ap);
}

void vcpu_state_add_reg_list(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	char name[VCPU_STATE_NAME_LEN];
	u8 value[KVM_REG_MAX_SIZE];
	u64 i;

	for (i = 0; i < list->n; i++) {
		u64 id = list->reg[i];
		size_t size = KVM_REG_SIZE(id);

		if (__vcpu_get_reg(vcpu, id, value))
			size = 0;

		vcpu_state_reg_name(id, name, sizeof(name));
		vcpu_state_add(state, value, size, "%s", name);
	}

	free(list);
}

void vcpu_state_dirty_reg(struct kvm_vcpu *vcpu, u64 id, const u64 *flips,
			  int nr_flips, u64 mask)
{
	u8 old[KVM_REG_MAX_SIZE], new[KVM_REG_MAX_SIZE], now[KVM_REG_MAX_SIZE];
	struct kvm_one_reg reg = { .id = id, .addr = (u64)new };
	size_t i, size = KVM_REG_SIZE(id);
	int try;
	u64 flip;

	if (__vcpu_get_reg(vcpu, id, old))
		return;

	for (try = 0; try < nr_flips + min(size, sizeof(flip)) * 8; try++) {
		flip = try < nr_flips ? flips[try] : BIT_ULL(try - nr_flips);
		flip &= mask;
		for (i = 0; i < size; i++)
			new[i] = old[i] ^ (u8)(flip >> (8 * (i % sizeof(flip))));

		if (!__vcpu_ioctl(vcpu, KVM_SET_ONE_REG, &reg) &&
		    !__vcpu_get_reg(vcpu, id, now) && memcmp(old, now, size))
			return;
	}
}

struct kvm_saved_regs *vcpu_save_reg_list(struct kvm_vcpu *vcpu)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	struct kvm_saved_regs *saved;
	u64 i;

	saved = calloc(1, sizeof(*saved) + list->n * sizeof(saved->reg[0]));
	TEST_ASSERT(saved, "-ENOMEM when saving %llu registers", list->n);

	saved->n = list->n;
	for (i = 0; i < saved->n; i++) {
		struct kvm_one_reg reg = {
			.id = list->reg[i],
			.addr = (u64)saved->reg[i].data,
		};

		saved->reg[i].id = list->reg[i];
		vcpu_ioctl(vcpu, KVM_GET_ONE_REG, &reg);
	}
	free(list);

	return saved;
}

void vcpu_restore_reg_list(struct kvm_vcpu *vcpu, const struct kvm_saved_regs *saved)
{
	char name[VCPU_STATE_NAME_LEN];
	u8 now[KVM_REG_MAX_SIZE];
	struct kvm_one_reg reg;
	u64 i;

	/* Some are constants that KVM refuses to set, whatever the value. */
	for (i = 0; i < saved->n; i++) {
		reg.id = saved->reg[i].id;
		reg.addr = (u64)saved->reg[i].data;
		__vcpu_ioctl(vcpu, KVM_SET_ONE_REG, &reg);
	}

	/* A register may have changed with one that was set later. */
	for (i = 0; i < saved->n; i++) {
		reg.id = saved->reg[i].id;
		reg.addr = (u64)now;
		vcpu_ioctl(vcpu, KVM_GET_ONE_REG, &reg);

		vcpu_state_reg_name(reg.id, name, sizeof(name));
		TEST_ASSERT(!memcmp(now, saved->reg[i].data, KVM_REG_SIZE(reg.id)) ||
			    vcpu_state_match(vcpu_state_clocks, name) ||
			    vcpu_state_match(vcpu_state_clock_driven, name),
			    "Register %s (0x%llx) can't be restored", name, reg.id);
	}
}

void vcpu_copy_reg_list(struct kvm_vcpu *from, struct kvm_vcpu *to)
{
	struct kvm_saved_regs *saved = vcpu_save_reg_list(from);

	vcpu_restore_reg_list(to, saved);
	free(saved);
}

struct vcpu_state *vcpu_state_get(struct kvm_vcpu *vcpu)
{
	bool needs_completion = vcpu_needs_completion(vcpu);
	struct vcpu_state *state = calloc(1, sizeof(*state));
	struct kvm_mp_state mp_state;

	TEST_ASSERT(state, "-ENOMEM when allocating the state of a vCPU");
	vcpu_state_arch_get(vcpu, state);

	/* Behind what it has side effects on. */
	vcpu_mp_state_get(vcpu, &mp_state);
	vcpu_state_add(state, &mp_state.mp_state, sizeof(mp_state.mp_state), "mp_state");

	vcpu_state_add(state, &needs_completion, sizeof(needs_completion),
		       "run.needs_completion");

	return state;
}

void vcpu_state_free(struct vcpu_state *state)
{
	free(state->fields);
	free(state->data);
	free(state);
}

int vcpu_state_find(const struct vcpu_state *state, const char *name)
{
	unsigned int i;

	for (i = 0; i < state->nr; i++) {
		if (!strcmp(state->fields[i].name, name))
			return i;
	}

	return -1;
}

static void print_value(char *buf, const struct vcpu_state *state, int index)
{
	const struct vcpu_state_field *field;
	size_t i;

	if (index < 0) {
		strcpy(buf, "-");
		return;
	}

	field = &state->fields[index];
	if (!field->size) {
		strcpy(buf, "unreadable");
		return;
	}

	/* The most significant byte first. */
	buf += sprintf(buf, "0x");
	for (i = field->size; i-- > 0; )
		buf += sprintf(buf, "%02x", state->data[field->offset + i]);
}

static void report(vcpu_state_diff_fn fn, void *arg,
		   const struct vcpu_state *want, int w,
		   const struct vcpu_state *got, int g)
{
	char want_str[VALUE_LEN], got_str[VALUE_LEN];

	if (!fn)
		return;

	print_value(want_str, want, w);
	print_value(got_str, got, g);
	fn(arg, w < 0 ? got->fields[g].name : want->fields[w].name,
	   want_str, got_str);
}

unsigned int vcpu_state_diff(const struct vcpu_state *want,
			     const struct vcpu_state *got,
			     vcpu_state_diff_fn fn, void *arg)
{
	const struct vcpu_state_field *a, *b;
	unsigned int i, nr_diff = 0;
	int j;

	for (i = 0; i < want->nr; i++) {
		a = &want->fields[i];

		/* The order is the same unless one of them lacks a field. */
		if (i < got->nr && !strcmp(a->name, got->fields[i].name))
			j = i;
		else
			j = vcpu_state_find(got, a->name);

		b = j < 0 ? NULL : &got->fields[j];
		if (b && a->size == b->size &&
		    !memcmp(want->data + a->offset, got->data + b->offset, a->size))
			continue;

		report(fn, arg, want, i, got, j);
		nr_diff++;
	}

	for (i = 0; i < got->nr; i++) {
		b = &got->fields[i];
		if ((i < want->nr && !strcmp(b->name, want->fields[i].name)) ||
		    vcpu_state_find(want, b->name) >= 0)
			continue;

		report(fn, arg, want, -1, got, i);
		nr_diff++;
	}

	return nr_diff;
}

const struct vcpu_state_rule *vcpu_state_match(const struct vcpu_state_rule *rules,
					       const char *name)
{
	for (; rules && rules->pattern; rules++) {
		if (!fnmatch(rules->pattern, name, 0))
			return rules;
	}

	return NULL;
}

static void add_difference(void *arg, const char *name, const char *want,
			   const char *got)
{
	unsigned int *nr = arg;

	if (vcpu_state_match(vcpu_state_clocks, name))
		return;

	(*nr)++;
	pr_info("# %s is %s instead of %s\n", name, got, want);
}

void vcpu_state_assert_same(const char *what, const struct vcpu_state *want,
			    struct kvm_vcpu *vcpu)
{
	struct vcpu_state *got = vcpu_state_get(vcpu);
	unsigned int nr = 0;

	vcpu_state_diff(want, got, add_difference, &nr);
	TEST_ASSERT(!nr, "%s: %u of %u fields differ", what, nr, want->nr);
	pr_info("# %s: %u fields are the same\n", what, want->nr);

	vcpu_state_free(got);
}
