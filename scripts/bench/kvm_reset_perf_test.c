// SPDX-License-Identifier: GPL-2.0-only
/*
 * What it costs to reset vCPUs, next to how many there are and how much memory
 * the guest has
 *
 *  request	KVM_MP_STATE_RESET, if KVM has it
 *  qemu	the ioctls with which QEMU 10 resets a vCPU: it reads all of the
 *		state, resets what it has read, and writes all of it
 *  init	what KVM has had before: KVM_ARM_VCPU_INIT, or, on riscv,
 *		KVM_MP_STATE_INIT_RECEIVED.  x86 has nothing.
 *
 * Every vCPU has its state given back and runs before it is reset again: with an
 * x2APIC on x86, and on arm64 with the memory mapped again.  As in QEMU, a phase
 * is done for all vCPUs before the next one.
 *
 * A line is "kvm_reset/WAY X VALUE (...)", where X is the number of vCPUs
 * (WAY_vcpus), MiB of memory that the guest has written to (WAY_mib), or the
 * number of vCPUs that share 64 MiB (WAY_shared), and VALUE is the minimum for all
 * vCPUs in nanoseconds, which are instructions in QEMU with
 * "-icount shift=0,sleep=off" and a single CPU.  The counter of riscv counts in
 * 100 ns.
 */
#include <stdlib.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "vcpu_state.h"

#ifdef __x86_64__
#include "apic.h"
#endif

#define MAX_VCPUS	64
#define MAX_MIB		1024
#define NR_SAMPLES	5
#define MMIO_GPA	0xc0000000ul
#define MEM_GPA		0x100000000ul
#define MEM_SLOT	10
#define PAGE_BYTES	4096

#if defined(__x86_64__)
#define clock_now()	rdtsc()
#define clock_ns()	1.0
#elif defined(__aarch64__)
static u64 clock_now(void)
{
	u64 val;

	asm volatile("isb; mrs %0, cntvct_el0" : "=r"(val) : : "memory");
	return val;
}

static double clock_ns(void)
{
	u64 hz;

	asm volatile("mrs %0, cntfrq_el0" : "=r"(hz));
	return 1e9 / hz;
}
#elif defined(__riscv)
static u64 clock_now(void)
{
	u64 val;

	asm volatile("rdtime %0" : "=r"(val) : : "memory");
	return val;
}
#define clock_ns()	100.0
#endif

static u64 nr_pages;

static void guest(void)
{
	u64 i;

#ifdef __x86_64__
	x2apic_enable();
#endif
	for (;;) {
		for (i = 0; i < READ_ONCE(nr_pages); i++)
			WRITE_ONCE(*(u64 *)(MEM_GPA + i * PAGE_BYTES), i);
		WRITE_ONCE(*(u32 *)MMIO_GPA, 0);
	}
}

/* The state of a vCPU, as the ioctls of each phase take it. */
struct call {
	unsigned long request;
	void *arg;
};

#define MAX_CALLS	1024

struct calls {
	struct call call[MAX_CALLS];
	int nr;
};

struct state {
	struct calls get, hook, put;
};

static void add(struct calls *calls, unsigned long request, void *arg)
{
	TEST_ASSERT(calls->nr < MAX_CALLS, "Too many ioctls");
	calls->call[calls->nr++] = (struct call){ request, arg };
}

static void issue(struct kvm_vcpu *vcpu, struct calls *calls)
{
	int i;

	for (i = 0; i < calls->nr; i++)
		ioctl(vcpu->fd, calls->call[i].request, calls->call[i].arg);
}

static void *zalloc(size_t size)
{
	void *p = calloc(1, size);

	TEST_ASSERT(p, "Out of memory");
	return p;
}

#ifdef __x86_64__
/* kvm_arch_get_registers(), kvm_apic_reset() and kvm_arch_put_registers() */
static void init_state(struct kvm_vcpu *vcpu, struct state *s)
{
	const struct kvm_msr_list *list = kvm_get_msr_index_list();
	struct kvm_msrs *msrs = zalloc(sizeof(*msrs) + list->nmsrs * sizeof(msrs->entries[0]));
	struct kvm_msrs *base = zalloc(sizeof(*base) + sizeof(base->entries[0]));
	struct kvm_msrs *feature = zalloc(sizeof(*base) + sizeof(base->entries[0]));
	struct kvm_msrs *deadline = zalloc(sizeof(*base) + sizeof(base->entries[0]));
	void *events = zalloc(sizeof(struct kvm_vcpu_events));
	void *mp_state = zalloc(sizeof(struct kvm_mp_state));
	void *regs = zalloc(sizeof(struct kvm_regs));
	void *xsave = zalloc(16384);
	void *xcrs = zalloc(sizeof(struct kvm_xcrs));
	void *sregs = zalloc(sizeof(struct kvm_sregs2));
	void *lapic = zalloc(sizeof(struct kvm_lapic_state));
	void *debugregs = zalloc(sizeof(struct kvm_debugregs));
	struct kvm_nested_state *nested = zalloc(16384);
	u32 i;

	/* Those that can be read, and be written with what was read. */
	for (i = 0; i < list->nmsrs; i++) {
		struct {
			struct kvm_msrs header;
			struct kvm_msr_entry entry;
		} one = { .header.nmsrs = 1, .entry.index = list->indices[i] };

		if (ioctl(vcpu->fd, KVM_GET_MSRS, &one) == 1 &&
		    ioctl(vcpu->fd, KVM_SET_MSRS, &one) == 1)
			msrs->entries[msrs->nmsrs++].index = list->indices[i];
	}

	nested->size = 16384;
	base->nmsrs = 1;
	base->entries[0].index = MSR_IA32_APICBASE;
	base->entries[0].data = APIC_DEFAULT_GPA | MSR_IA32_APICBASE_ENABLE |
				(vcpu->id ? 0 : MSR_IA32_APICBASE_BSP);
	feature->nmsrs = 1;
	feature->entries[0].index = MSR_IA32_FEAT_CTL;
	deadline->nmsrs = 1;
	deadline->entries[0].index = MSR_IA32_TSC_DEADLINE;

	add(&s->get, KVM_GET_VCPU_EVENTS, events);
	add(&s->get, KVM_GET_MP_STATE, mp_state);
	add(&s->get, KVM_GET_REGS, regs);
	add(&s->get, KVM_GET_XSAVE2, xsave);
	add(&s->get, KVM_GET_XCRS, xcrs);
	add(&s->get, KVM_GET_SREGS2, sregs);
	add(&s->get, KVM_GET_MSRS, msrs);
	add(&s->get, KVM_GET_LAPIC, lapic);
	add(&s->get, KVM_GET_DEBUGREGS, debugregs);
	add(&s->get, KVM_GET_NESTED_STATE, nested);

	add(&s->hook, KVM_SET_MSRS, base);
	add(&s->hook, KVM_SET_LAPIC, lapic);

	add(&s->put, KVM_SET_MSRS, feature);
	add(&s->put, KVM_SET_SREGS2, sregs);
	add(&s->put, KVM_SET_NESTED_STATE, nested);
	add(&s->put, KVM_SET_REGS, regs);
	add(&s->put, KVM_SET_XSAVE, xsave);
	add(&s->put, KVM_SET_XCRS, xcrs);
	add(&s->put, KVM_SET_MSRS, msrs);
	add(&s->put, KVM_SET_VCPU_EVENTS, events);
	add(&s->put, KVM_SET_MP_STATE, mp_state);
	add(&s->put, KVM_SET_MSRS, deadline);
	add(&s->put, KVM_SET_DEBUGREGS, debugregs);
}
#else
static void add_reg(struct state *s, u64 id, bool get_twice, bool put)
{
	struct kvm_one_reg *one = zalloc(sizeof(*one));

	one->id = id;
	one->addr = (u64)zalloc(KVM_REG_MAX_SIZE);

	add(&s->get, KVM_GET_ONE_REG, one);
	if (get_twice)
		add(&s->hook, KVM_GET_ONE_REG, one);
	if (put)
		add(&s->put, KVM_SET_ONE_REG, one);
}
#endif

#ifdef __riscv
/* Of all registers, QEMU 10 knows x0 to x31 (pc), F, D, V and these CSRs. */
static bool qemu_knows(u64 id)
{
	const u64 csrs[] = {
		RISCV_GENERAL_CSR_REG(sstatus), RISCV_GENERAL_CSR_REG(sie),
		RISCV_GENERAL_CSR_REG(stvec), RISCV_GENERAL_CSR_REG(sscratch),
		RISCV_GENERAL_CSR_REG(sepc), RISCV_GENERAL_CSR_REG(scause),
		RISCV_GENERAL_CSR_REG(stval), RISCV_GENERAL_CSR_REG(sip),
		RISCV_GENERAL_CSR_REG(satp),
	};
	int i;

	switch (id & KVM_REG_RISCV_TYPE_MASK) {
	case KVM_REG_RISCV_CORE:
		return (id & ~(KVM_REG_ARCH_MASK | KVM_REG_SIZE_MASK | KVM_REG_RISCV_TYPE_MASK)) < 32;
	case KVM_REG_RISCV_FP_D:
		return (id & KVM_REG_SIZE_MASK) == KVM_REG_SIZE_U64;
	case KVM_REG_RISCV_VECTOR:
		return true;
	case KVM_REG_RISCV_CSR:
		for (i = 0; i < ARRAY_SIZE(csrs); i++)
			if (id == csrs[i])
				return true;
	}
	return false;
}

static void init_state(struct kvm_vcpu *vcpu, struct state *s)
{
	struct kvm_saved_regs *saved = vcpu_save_reg_list(vcpu);
	void *mp_state = zalloc(sizeof(struct kvm_mp_state));
	int i;

	for (i = 0; i < saved->n; i++)
		if (qemu_knows(saved->reg[i].id))
			add_reg(s, saved->reg[i].id, false, true);
	vcpu_mp_state_get(vcpu, mp_state);
	add(&s->put, KVM_SET_MP_STATE, mp_state);
	free(saved);
}
#endif

#ifdef __aarch64__
static struct kvm_vcpu_init vcpu_init;

static void init_state(struct kvm_vcpu *vcpu, struct state *s)
{
	struct kvm_saved_regs *saved = vcpu_save_reg_list(vcpu);
	void *events = zalloc(sizeof(struct kvm_vcpu_events));
	void *mp_state = zalloc(sizeof(struct kvm_mp_state));
	bool core, known;
	u64 reg;
	int i;

	add(&s->hook, KVM_ARM_VCPU_INIT, &vcpu_init);
	for (i = 0; i < saved->n; i++) {
		reg = saved->reg[i].id;
		core = (reg & KVM_REG_ARM_COPROC_MASK) == KVM_REG_ARM_CORE;
		/* Not while the VM is stopped */
		known = reg != KVM_REG_ARM_TIMER_CNT && reg != KVM_REG_ARM_PTIMER_CNT;
		add_reg(s, reg, !core, known);
	}
	add(&s->get, KVM_GET_VCPU_EVENTS, events);
	add(&s->get, KVM_GET_MP_STATE, mp_state);
	add(&s->put, KVM_SET_VCPU_EVENTS, events);
	add(&s->put, KVM_SET_MP_STATE, mp_state);
	free(saved);
}
#endif

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpus[MAX_VCPUS];
/* Not in .bss, which the guest has a copy of */
static struct state *fresh, *used;
static struct calls *scratch_get;

static void create(int n, int mib)
{
	u64 pages = (u64)mib * (1 << 20) / PAGE_BYTES;
	int i;

	/* The pages are elsewhere, but their page tables are not. */
	vm = __vm_create(VM_SHAPE_DEFAULT, n, pages);
#ifdef __aarch64__
	memset(&vcpu_init, 0, sizeof(vcpu_init));
	kvm_get_default_vcpu_target(vm, &vcpu_init);
	vcpu_init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	for (i = 0; i < n; i++)
		vcpus[i] = aarch64_vcpu_add(vm, i, &vcpu_init, guest);
	kvm_arch_vm_finalize_vcpus(vm);
#else
	for (i = 0; i < n; i++)
		vcpus[i] = vm_vcpu_add(vm, i, guest);
#endif
#ifdef __riscv
	__vm_enable_cap(vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
#endif
	virt_map(vm, MMIO_GPA, MMIO_GPA, 1);
	if (mib) {
		vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, MEM_GPA,
					    MEM_SLOT, pages, 0);
		virt_map(vm, MEM_GPA, MEM_GPA, pages);
	}
	nr_pages = pages;
	sync_global_to_guest(vm, nr_pages);

	for (i = 0; i < n; i++) {
		struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };

		vcpu_mp_state_set(vcpus[i], &runnable);
		init_state(vcpus[i], &fresh[i]);
		issue(vcpus[i], &fresh[i].get);
		vcpu_run(vcpus[i]);
		TEST_ASSERT_KVM_EXIT_REASON(vcpus[i], KVM_EXIT_MMIO);
		vcpu_run_complete_io(vcpus[i]);
		init_state(vcpus[i], &used[i]);
		issue(vcpus[i], &used[i].get);
	}
}

static void destroy(int n)
{
	int i;

	for (i = 0; i < n; i++) {
		memset(&fresh[i], 0, sizeof(fresh[i]));
		memset(&used[i], 0, sizeof(used[i]));
	}
	kvm_vm_free(vm);
}

/* Make each vCPU one that has run. */
static void run_all(int n)
{
	int i;

	for (i = 0; i < n; i++) {
		issue(vcpus[i], &used[i].put);
#ifdef __x86_64__
		ioctl(vcpus[i]->fd, KVM_SET_LAPIC, used[i].hook.call[1].arg);
#endif
		vcpu_run(vcpus[i]);
		TEST_ASSERT_KVM_EXIT_REASON(vcpus[i], KVM_EXIT_MMIO);
		vcpu_run_complete_io(vcpus[i]);
	}
}

static int by_request(int n)
{
	struct kvm_mp_state reset = { .mp_state = KVM_MP_STATE_RESET };
	int i, r = 0;

	for (i = 0; i < n; i++)
		r |= ioctl(vcpus[i]->fd, KVM_SET_MP_STATE, &reset);
	return r;
}

static int by_init(int n)
{
	int i, r = 0;

#if defined(__aarch64__)
	for (i = 0; i < n; i++)
		r |= ioctl(vcpus[i]->fd, KVM_ARM_VCPU_INIT, &vcpu_init);
#elif defined(__riscv)
	struct kvm_mp_state init = { .mp_state = KVM_MP_STATE_INIT_RECEIVED };

	for (i = 0; i < n; i++)
		r |= ioctl(vcpus[i]->fd, KVM_SET_MP_STATE, &init);
#else
	(void)i;
	(void)n;
	r = -1;
#endif
	return r;
}

static int by_qemu(int n)
{
	int i;

	for (i = 0; i < n; i++)
		issue(vcpus[i], &scratch_get[i]);
	for (i = 0; i < n; i++)
		issue(vcpus[i], &fresh[i].hook);
	for (i = 0; i < n; i++)
		issue(vcpus[i], &fresh[i].put);
	return 0;
}

static void measure(const char *what, const char *kind, int (*way)(int n),
		    int n, int x, int samples)
{
	u64 start, ns, min = -1ull;
	int i, equal = 0, r;

	for (i = 0; i < samples; i++) {
		run_all(n);
		start = clock_now();
		r = way(n);
		ns = clock_now() - start;
		if (r)
			return;
		equal = ns < min ? 1 : equal + (ns == min);
		min = ns < min ? ns : min;
	}
	pr_info("kvm_reset/%s_%s %d %.0f (minimum of %d, seen %d times)\n",
		what, kind, x, min * clock_ns(), samples, equal);
}

static void measure_ways(const char *kind, int n, int x, int samples)
{
	if (kvm_has_cap(KVM_CAP_MP_STATE_RESET))
		measure("request", kind, by_request, n, x, samples);
	measure("init", kind, by_init, n, x, samples);
}

int main(int argc, char *argv[])
{
	static const int mibs[] = { 4, 16, 64, 256, MAX_MIB };
	static const int shared[] = { 1, 2, 8, 32 };
	int i, n;

	fresh = zalloc(MAX_VCPUS * sizeof(*fresh));
	used = zalloc(MAX_VCPUS * sizeof(*used));
	scratch_get = zalloc(MAX_VCPUS * sizeof(*scratch_get));

	for (n = 1; n <= MAX_VCPUS; n *= 2) {
		create(n, 0);
		/* What is read goes elsewhere than what is written. */
		for (i = 0; i < n; i++)
			scratch_get[i] = used[i].get;
		if (n == 1)
			pr_info("kvm_reset/ioctls 1 %d (%d, %d and %d)\n",
				used[0].get.nr + used[0].hook.nr + used[0].put.nr,
				used[0].get.nr, used[0].hook.nr, used[0].put.nr);
		measure_ways("vcpus", n, n, NR_SAMPLES);
		measure("qemu", "vcpus", by_qemu, n, n, NR_SAMPLES);
		destroy(n);
	}

	for (i = 0; i < ARRAY_SIZE(mibs); i++) {
		create(1, mibs[i]);
		measure_ways("mib", 1, mibs[i], 2);
		destroy(1);
	}

	for (i = 0; i < ARRAY_SIZE(shared); i++) {
		create(shared[i], 64);
		measure_ways("shared", shared[i], shared[i], 2);
		destroy(shared[i]);
	}

	return 0;
}
