// SPDX-License-Identifier: GPL-2.0-only
/*
 * vcpu_hostile_test - What nobody should do to a vCPU that can be reset
 *
 * Arguments that are exhaustive where there are few, and random elsewhere, for
 * KVM_SET_MP_STATE, KVM_CAP_EXIT_ON_VCPU_RESET, KVM_SET_VCPU_EVENTS and whatever
 * sets registers; on vCPUs that are half created, through file descriptors of
 * another process, and of a VM whose owner is gone; with another thread that
 * writes to kvm_run during KVM_RUN; and from guests that make every call of the
 * firmware with arguments of all kinds, in their kernel and in user mode.
 *
 * What KVM refuses has the documented error and changes nothing.  Whatever was
 * done to a vCPU, KVM_MP_STATE_RESET makes it what it was when it was new.  A
 * call in user mode is an exception to the guest's kernel, or fails as KVM's API
 * says, and nobody else sees anything of it.
 */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include "vcpu_state.h"

#ifdef __riscv
#include "sbi.h"
#endif
#ifdef __x86_64__
#include "apic.h"
#endif

/* Not backed by memory */
#define MMIO_GPA	0x40000000ul

static u32 seed = 1;
static unsigned long nr_tries = 60;
/* Make the calls of user mode in the kernel: the test has to fail. */
static bool sabotage;

static u32 random32(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;

	return seed;
}

/* Numbers that are likely to be at the edge of something */
static u64 random64(void)
{
	u64 val = (u64)random32() << 32 | random32();

	switch (random32() % 6) {
	case 0:
		return random32() % 64;
	case 1:
		return BIT_ULL(random32() % 64);
	case 2:
		return -(u64)(random32() % 64);
	case 3:
		return val & (BIT_ULL(random32() % 64) - 1);
	case 4:
		return MMIO_GPA + random32() % 0x2000;
	default:
		return val;
	}
}

static void fill_random(void *buf, size_t size)
{
	u8 *p = buf;

	while (size--)
		*p++ = random32();
}

/* ---- Guests ---- */

static u64 guest_random(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;

	return *state;
}

static u64 guest_arg(u64 *state, u64 gpa)
{
	u64 val = guest_random(state);

	switch (guest_random(state) % 6) {
	case 0:
		return val % 16;
	case 1:
		return -(val % 16);
	case 2:
		return gpa + val % 0x1000;
	case 3:
		return BIT_ULL(val % 64);
	case 4:
		return MMIO_GPA;
	default:
		return val;
	}
}

/* Make calls of the firmware for as long as it lets us. */
static void guest_calls(u64 state, u64 gpa)
{
	for (;;) {
		u64 a[6];
		int i;

		for (i = 0; i < 6; i++)
			a[i] = guest_arg(&state, gpa);

#ifdef __riscv
		static const int exts[] = {
			0, 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0x54494d45, 0x735049,
			0x52464e43, 0x48534d, 0x53525354, 0x504d55, 0x53555350,
			0x4442434e, 0x535441, 0x46574654, 0x4e41434c, 0x535345,
			0x4d505859, 0x08000000, 0x09000000, 0x0a000000,
		};
		u64 nr = guest_random(&state) % (ARRAY_SIZE(exts) + 1);

		sbi_ecall(nr < ARRAY_SIZE(exts) ? exts[nr] : (int)a[5],
			  guest_random(&state) % 8 ? (int)(guest_random(&state) % 12) : (int)a[4],
			  a[0], a[1], a[2], a[3], a[4], a[5]);
#elif defined(__aarch64__)
		static const u32 bases[] = {
			0x80000000, 0x84000000, 0xc4000000, 0x86000000, 0xc6000000,
			0xc5000000, 0x85000000, 0x95000000, 0x80008000,
		};
		u32 function = bases[guest_random(&state) % ARRAY_SIZE(bases)];
		struct arm_smccc_res res;

		function += guest_random(&state) % 0x60;
		if (!(guest_random(&state) % 8))
			function = a[5];
		if (guest_random(&state) % 4)
			smccc_hvc(function, a[0], a[1], a[2], a[3], a[4], a[5], 0, &res);
		else
			smccc_smc(function, a[0], a[1], a[2], a[3], a[4], a[5], 0, &res);
#elif defined(__x86_64__)
		if (guest_random(&state) % 2) {
			kvm_hypercall(guest_random(&state) % 2 ? guest_random(&state) % 16 : a[0],
				      a[1], a[2], a[3], a[4]);
		} else {
			u64 icr = guest_random(&state);

			/* To all, others, and oneself, of all delivery modes */
			wrmsr(MSR_IA32_APICBASE, rdmsr(MSR_IA32_APICBASE) | X2APIC_ENABLE);
			wrmsr_safe(APIC_BASE_MSR + (APIC_ICR >> 4),
				   (a[0] % 4) << 32 | (icr & 0xccfff));
		}
#endif
		GUEST_SYNC(0);
	}
}

/* An exit of each kind, over and over again */
static void guest_exits(u64 state, u64 gpa)
{
	for (;;) {
		(void)READ_ONCE(*(u64 *)MMIO_GPA);
		WRITE_ONCE(*(u32 *)(MMIO_GPA + 8), state);
		GUEST_SYNC(1);
	}
}

/* What there is to be called in user mode, each in a slot of a page */
#define USER_SLOT	16

static u64 user_page;

/* The exception that has ended user mode, and where to go on after that */
static struct {
	u64 cause, pc;
	u64 resume, sp;
} user_exit;

#ifdef __riscv
#define EXC_SYSCALL		8

extern const char user_code[], user_code_end[];
asm("	.pushsection .rodata\n"
"user_code:\n"
"	ecall\n"
"	ebreak\n"
"user_code_end:\n"
"	.popsection\n"
);

static void user_exception(struct pt_regs *regs)
{
	user_exit.cause = regs->cause;
	user_exit.pc = regs->epc;
	regs->epc = user_exit.resume;
	regs->status |= SR_SPP;
}

static void guest_user_call(u64 *state, u64 gpa, bool privileged)
{
	static const int exts[] = {
		0, 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0x54494d45, 0x735049, 0x52464e43,
		0x48534d, 0x53525354, 0x504d55, 0x53555350, 0x4442434e, 0x535441,
		0x46574654,
	};
	u64 want[8];
	int i;

	for (i = 0; i < 6; i++)
		want[i] = guest_arg(state, gpa);
	want[6] = guest_random(state) % 6;
	want[7] = exts[guest_random(state) % ARRAY_SIZE(exts)];

	register u64 a0 asm("a0") = want[0];
	register u64 a1 asm("a1") = want[1];
	register u64 a2 asm("a2") = want[2];
	register u64 a3 asm("a3") = want[3];
	register u64 a4 asm("a4") = want[4];
	register u64 a5 asm("a5") = want[5];
	register u64 a6 asm("a6") = want[6];
	register u64 a7 asm("a7") = want[7];

	/* SPP, the mode to return to, and SPIE */
	asm volatile("la	t0, 1f\n"
		     "sd	t0, 0(%[resume])\n"
		     "csrw	sepc, %[pc]\n"
		     "li	t0, 0x120\n"
		     "csrc	sstatus, t0\n"
		     "csrs	sstatus, %[spp]\n"
		     "sret\n"
		     "1:\n"
		     : "+r" (a0), "+r" (a1), "+r" (a2), "+r" (a3), "+r" (a4),
		       "+r" (a5), "+r" (a6), "+r" (a7)
		     : [resume] "r" (&user_exit.resume), [pc] "r" (user_page),
		       [spp] "r" (privileged ? SR_SPP : 0)
		     : "t0", "memory");

	GUEST_ASSERT_EQ(user_exit.cause, EXC_SYSCALL);
	GUEST_ASSERT_EQ(user_exit.pc, user_page);
	GUEST_ASSERT(a0 == want[0] && a1 == want[1] && a2 == want[2] && a3 == want[3] &&
		     a4 == want[4] && a5 == want[5] && a6 == want[6] && a7 == want[7]);
}
#elif defined(__aarch64__)
enum { USER_SVC, USER_HVC, USER_SMC, NR_USER_CALLS };

extern const char user_code[], user_code_end[];
asm("	.pushsection .rodata\n"
"	.balign 16\n"
"user_code:\n"
"	svc	#0\n"
"	brk	#0\n"
"	.balign 16\n"
"	hvc	#0\n"
"	brk	#0\n"
"	.balign 16\n"
"	smc	#0\n"
"	brk	#0\n"
"user_code_end:\n"
"	.popsection\n"
);

static void user_exception(struct ex_regs *regs)
{
	user_exit.cause = read_sysreg(esr_el1);
	user_exit.pc = regs->pc;
	regs->pc = user_exit.resume;
	regs->pstate = 0x3c5;
}

static void guest_user_call(u64 *state, u64 gpa, bool privileged)
{
	static const u32 bases[] = {
		0x84000000, 0xc4000000, 0x86000000, 0xc6000000, 0xc5000000, 0x85000000,
		0x95000000, 0x80000000,
	};
	u64 slot = guest_random(state) % NR_USER_CALLS, pc = user_page + slot * USER_SLOT;
	u64 want[8], ec;
	int i;

	for (i = 0; i < 8; i++)
		want[i] = guest_arg(state, gpa);
	want[0] = bases[guest_random(state) % ARRAY_SIZE(bases)] + guest_random(state) % 0x60;

	register u64 x0 asm("x0") = want[0];
	register u64 x1 asm("x1") = want[1];
	register u64 x2 asm("x2") = want[2];
	register u64 x3 asm("x3") = want[3];
	register u64 x4 asm("x4") = want[4];
	register u64 x5 asm("x5") = want[5];
	register u64 x6 asm("x6") = want[6];
	register u64 x7 asm("x7") = want[7];

	/* DAIF, and EL0t or EL1h */
	asm volatile("adr	x9, 1f\n"
		     "str	x9, [%[resume]]\n"
		     "msr	elr_el1, %[pc]\n"
		     "msr	spsr_el1, %[spsr]\n"
		     "eret\n"
		     "1:\n"
		     : "+r" (x0), "+r" (x1), "+r" (x2), "+r" (x3), "+r" (x4),
		       "+r" (x5), "+r" (x6), "+r" (x7)
		     : [resume] "r" (&user_exit.resume), [pc] "r" (pc),
		       [spsr] "r" (privileged ? 0x3c5ul : 0x3c0ul)
		     : "x9", "memory");

	ec = ESR_ELx_EC(user_exit.cause);
	GUEST_ASSERT_EQ(ec, slot == USER_SVC ? ESR_ELx_EC_SVC64 : ESR_ELx_EC_UNKNOWN);
	GUEST_ASSERT_EQ(user_exit.pc, slot == USER_SVC ? pc + 4 : pc);
	GUEST_ASSERT(x0 == want[0] && x1 == want[1] && x2 == want[2] && x3 == want[3] &&
		     x4 == want[4] && x5 == want[5] && x6 == want[6] && x7 == want[7]);
}
#elif defined(__x86_64__)
#define USER_CS		0x2b
#define USER_DS		0x33

enum { USER_VMMCALL, USER_VMCALL, USER_WRMSR, USER_RDMSR, USER_HLT, NR_USER_CALLS };

extern const char user_code[], user_code_end[];
asm("	.pushsection .rodata\n"
"	.balign 16\n"
"user_code:\n"
"	vmmcall\n"
"	ud2\n"
"	.balign 16\n"
"	vmcall\n"
"	ud2\n"
"	.balign 16\n"
"	wrmsr\n"
"	ud2\n"
"	.balign 16\n"
"	rdmsr\n"
"	ud2\n"
"	.balign 16\n"
"	hlt\n"
"	ud2\n"
"user_code_end:\n"
"	.popsection\n"
);

static void user_exception(struct ex_regs *regs)
{
	u64 *sp_and_ss = (u64 *)(regs + 1);

	user_exit.cause = regs->vector;
	user_exit.pc = regs->rip;
	regs->rip = user_exit.resume;
	regs->cs = 8;
	regs->rflags = 2;
	sp_and_ss[0] = user_exit.sp;
	sp_and_ss[1] = 0x10;
}

static void guest_user_call(u64 *state, u64 gpa, bool privileged)
{
	u64 slot = guest_random(state) % NR_USER_CALLS, pc, want[5], got[5];
	u64 cs = privileged ? 8 : USER_CS, ss = privileged ? 0x10 : USER_DS;
	bool hypercall;
	int i;

	/* The other vendor's instruction is patched, or not. */
	if (slot == USER_VMCALL && host_cpu_is_amd_compatible)
		slot = USER_VMMCALL;
	if (slot == USER_VMMCALL && !host_cpu_is_amd_compatible)
		slot = USER_VMCALL;
	hypercall = slot == USER_VMCALL || slot == USER_VMMCALL;

	for (i = 0; i < 5; i++)
		want[i] = guest_arg(state, gpa);
	if (hypercall)
		want[0] = guest_random(state) % 16;
	else if (guest_random(state) % 2)
		want[2] = APIC_BASE_MSR + guest_random(state) % 0x40;
	memcpy(got, want, sizeof(got));

	pc = user_page + slot * USER_SLOT;
	asm volatile("sub	$128, %%rsp\n"
		     "lea	1f(%%rip), %%r8\n"
		     "mov	%%r8, %[resume]\n"
		     "mov	%%rsp, %[sp]\n"
		     "push	%[ss]\n"
		     "push	%[sp]\n"
		     "push	$2\n"
		     "push	%[cs]\n"
		     "push	%[pc]\n"
		     "iretq\n"
		     "1:\n"
		     "add	$128, %%rsp\n"
		     : "+a" (got[0]), "+b" (got[1]), "+c" (got[2]), "+d" (got[3]), "+S" (got[4]),
		       [resume] "=m" (user_exit.resume), [sp] "+m" (user_exit.sp)
		     : [ss] "r" (ss), [cs] "r" (cs), [pc] "r" (pc)
		     : "r8", "memory", "cc");

	/* A hypercall isn't an exception, but fails. */
	if (hypercall)
		want[0] = -EPERM;
	GUEST_ASSERT_EQ(user_exit.cause, hypercall ? UD_VECTOR : GP_VECTOR);
	GUEST_ASSERT_EQ(user_exit.pc, hypercall ? pc + 3 : pc);
	for (i = 0; i < 5; i++)
		GUEST_ASSERT_EQ(got[i], want[i]);
}
#endif

static void guest_user_calls(u64 state, u64 gpa)
{
	bool privileged = state & 1;

	state |= 1;
	for (;;) {
		guest_user_call(&state, gpa, privileged);
		GUEST_SYNC(2);
	}
}

static void guest_done(u64 arg, u64 gpa)
{
	GUEST_ASSERT_EQ(arg, 0x4e3f);
	GUEST_DONE();
}

/* ---- Userspace ---- */

/* vCPU 0 is there for the others, vCPU 1 is what is tortured. */
struct hostile {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[2];
	struct kvm_vcpu *vcpu;
	struct vcpu_state *reference;
	gva_t stack;
	void *boot;
};

static const struct vcpu_state_rule hostile_allowed[] = {
#ifdef __aarch64__
	{ "gic*",	"a device" },
	{ "icc.*",	"a device" },
	{ "ich.*",	"a device" },
#elif defined(__x86_64__)
	{ "hyperv*",	"a capability" },
#endif
	{}
};

static int set_mp_state(struct kvm_vcpu *vcpu, u32 state)
{
	struct kvm_mp_state mp_state = { .mp_state = state };

	return __vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp_state);
}

static void report_difference(void *arg, const char *name, const char *want,
			      const char *got)
{
	unsigned int *nr = arg;

	if (vcpu_state_match(vcpu_state_clocks, name) ||
	    vcpu_state_match(vcpu_state_not_dirtied, name) ||
	    vcpu_state_match(vcpu_state_clock_driven, name) ||
	    vcpu_state_match(hostile_allowed, name))
		return;

	(*nr)++;
	pr_info("# %s is %s instead of %s\n", name, got, want);
}

static void assert_state(const char *what, struct vcpu_state *want, struct kvm_vcpu *vcpu)
{
	struct vcpu_state *got = vcpu_state_get(vcpu);
	unsigned int nr = 0;

	vcpu_state_diff(want, got, report_difference, &nr);
	TEST_ASSERT(!nr, "%s: %u fields differ, the seed is %u", what, nr, seed);
	vcpu_state_free(got);
}

/* Back to what it was, whatever has happened to it. */
static void create(struct hostile *h);
static void destroy(struct hostile *h);

static unsigned long nr_dead;

static void assert_resets(struct hostile *h, const char *what)
{
	int ret = set_mp_state(h->vcpu, KVM_MP_STATE_RESET);

#ifdef __x86_64__
	/* An SMI that has nowhere to save its state to is the end of a VM. */
	if (ret && errno == EIO) {
		nr_dead++;
		destroy(h);
		create(h);
		return;
	}
#endif
	TEST_ASSERT(!ret, "%s: errno %d, the seed is %u", what, errno, seed);
	assert_state(what, h->reference, h->vcpu);
}

#ifdef __x86_64__
static struct { struct kvm_sregs sregs; struct kvm_regs regs; } boot_regs[2];
#elif defined(__riscv)
static struct { u64 satp, gp, sp, stvec; } boot_regs[2];
#else
static struct { u64 ttbr0, tcr, mair, sctlr, cpacr, vbar, sp; } boot_regs[2];
#endif

static void save_boot_regs(struct kvm_vcpu *vcpu)
{
	int id = vcpu->id;

#ifdef __x86_64__
	vcpu_sregs_get(vcpu, &boot_regs[id].sregs);
	vcpu_regs_get(vcpu, &boot_regs[id].regs);
#elif defined(__riscv)
	boot_regs[id].satp = vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp));
	boot_regs[id].gp = vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.gp));
	boot_regs[id].sp = vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.sp));
	boot_regs[id].stvec = vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(stvec));
#else
	boot_regs[id].ttbr0 = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TTBR0_EL1));
	boot_regs[id].tcr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TCR_EL1));
	boot_regs[id].mair = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_MAIR_EL1));
	boot_regs[id].sctlr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_SCTLR_EL1));
	boot_regs[id].cpacr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_CPACR_EL1));
	boot_regs[id].vbar = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_VBAR_EL1));
	boot_regs[id].sp = vcpu_get_reg(vcpu, ARM64_CORE_REG(sp_el1));
#endif
}

/* What a VMM does after a reset. */
static void boot(struct kvm_vcpu *vcpu, void *guest_code, u64 arg)
{
	int id = vcpu->id;

#ifdef __x86_64__
	struct kvm_sregs sregs = boot_regs[id].sregs, now;
	struct kvm_regs regs = boot_regs[id].regs;

	vcpu_sregs_get(vcpu, &now);
	sregs.apic_base = now.apic_base;
	vcpu_sregs_set(vcpu, &sregs);
	regs.rip = (u64)guest_code;
	regs.rsp -= 8;
	vcpu_regs_set(vcpu, &regs);
#elif defined(__riscv)
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(satp), boot_regs[id].satp);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.gp), boot_regs[id].gp);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.sp), boot_regs[id].sp);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(stvec), boot_regs[id].stvec);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sscratch), id);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.pc), (u64)guest_code);
#else
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TTBR0_EL1), boot_regs[id].ttbr0);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TCR_EL1), boot_regs[id].tcr);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_MAIR_EL1), boot_regs[id].mair);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_SCTLR_EL1), boot_regs[id].sctlr);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_CPACR_EL1), boot_regs[id].cpacr);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_VBAR_EL1), boot_regs[id].vbar);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TPIDR_EL1), id);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(sp_el1), boot_regs[id].sp);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), (u64)guest_code);
#endif
	vcpu_args_set(vcpu, 2, arg, MMIO_GPA);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
}

static void assert_runs(struct hostile *h, const char *what)
{
	struct ucall uc;

	assert_resets(h, what);
	boot(h->vcpu, guest_done, 0x4e3f);
	vcpu_run(h->vcpu);
	TEST_ASSERT(get_ucall(h->vcpu, &uc) == UCALL_DONE,
		    "%s: the vCPU can't run, exit %u, the seed is %u", what,
		    h->vcpu->run->exit_reason, seed);
	vcpu_run_immediate_exit(h->vcpu);
}

static void kick(int sig)
{
}

/* Complete an exit, if there is one, and if the vCPU can be run at all. */
static void complete(struct kvm_vcpu *vcpu)
{
	vcpu->run->immediate_exit = 1;
	ioctl(vcpu->fd, KVM_RUN, NULL);
	vcpu->run->immediate_exit = 0;
}

/* Run for a millisecond or so, whatever it does. */
static void run_shortly(struct kvm_vcpu *vcpu)
{
	struct itimerspec spec = {
		.it_value.tv_nsec = 1000000 + random32() % 2000000,
		.it_interval.tv_nsec = 2000000,
	};
	struct sigevent sev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	timer_t timer;

	TEST_ASSERT(!timer_create(CLOCK_MONOTONIC, &sev, &timer) &&
		    !timer_settime(timer, 0, &spec, NULL), "No timer");
	while (!__vcpu_run(vcpu)) {
		if (random32() % 4)
			fill_random(&vcpu->run->mmio.data, 8);
		if (!(random32() % 8))
			break;
	}
	timer_delete(timer);
}

static void create(struct hostile *h)
{
	struct sigaction sa = { .sa_handler = kick };
	int i;

	sigaction(SIGUSR1, &sa, NULL);
	h->vm = vm_create(2);
	virt_map(h->vm, MMIO_GPA, MMIO_GPA, 1);
	for (i = 0; i < 2; i++) {
		h->vcpus[i] = vm_vcpu_add(h->vm, i, guest_done);
		save_boot_regs(h->vcpus[i]);
	}
	h->vcpu = h->vcpus[1];
	kvm_arch_vm_finalize_vcpus(h->vm);

	/* What is configured can't be changed any more. */
	vcpu_set_mp_state(h->vcpu, KVM_MP_STATE_RESET);
	boot(h->vcpu, guest_done, 0x4e3f);
	vcpu_run(h->vcpu);
	vcpu_run_immediate_exit(h->vcpu);
	vcpu_set_mp_state(h->vcpu, KVM_MP_STATE_RESET);
	h->reference = vcpu_state_get(h->vcpu);
}

static void destroy(struct hostile *h)
{
	vcpu_state_free(h->reference);
	kvm_vm_free(h->vm);
}

static bool mp_state_is_valid(u32 state)
{
	switch (state) {
	case KVM_MP_STATE_RUNNABLE:
	case KVM_MP_STATE_RESET:
		return true;
#ifdef __x86_64__
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_HALTED:
	case KVM_MP_STATE_SIPI_RECEIVED:
	case KVM_MP_STATE_AP_RESET_HOLD:
		return true;
#else
	case KVM_MP_STATE_STOPPED:
		return true;
#endif
#ifdef __aarch64__
	case KVM_MP_STATE_SUSPENDED:
		return true;
#endif
	}

	return false;
}

static unsigned long nr_args;

static void try_mp_state(struct hostile *h, u32 state)
{
	struct vcpu_state *before = NULL;
	int ret;

	if (!mp_state_is_valid(state))
		before = vcpu_state_get(h->vcpu);
	ret = set_mp_state(h->vcpu, state);
	nr_args++;
	if (before) {
		TEST_ASSERT(ret == -1 && errno == EINVAL,
			    "MP state 0x%x: returned %d, errno %d", state, ret, errno);
		assert_state("a refused MP state", before, h->vcpu);
		vcpu_state_free(before);
	} else {
		TEST_ASSERT(!ret, "MP state 0x%x: errno %d", state, errno);
	}
	TEST_ASSERT(vcpu_get_mp_state(h->vcpu) != KVM_MP_STATE_RESET,
		    "The request is returned as a state");
}

static void test_mp_states(void)
{
	struct hostile h;
	unsigned int i;

	create(&h);
	for (i = 0; i < 64; i++)
		try_mp_state(&h, i);
	for (i = 6; i < 32; i++)
		try_mp_state(&h, BIT(i) | KVM_MP_STATE_RESET);
	for (i = 0; i < nr_tries / 10; i++)
		try_mp_state(&h, random32());

	/* In every order */
	for (i = 0; i < nr_tries; i++) {
		u32 state = random32() % 16;

		if (mp_state_is_valid(state))
			try_mp_state(&h, state);
		if (!(i % 64))
			run_shortly(h.vcpu);
	}
	assert_runs(&h, "after MP states");
	destroy(&h);
}

static void test_caps(void)
{
	static const u32 caps[] = {
		KVM_CAP_EXIT_ON_VCPU_RESET,
#ifdef __riscv
		KVM_CAP_RISCV_MP_STATE_RESET,
#endif
		KVM_CAP_MP_STATE_RESET, KVM_CAP_NEEDS_COMPLETION,
	};
	struct hostile h;
	unsigned int i;

	create(&h);
	for (i = 0; i < nr_tries * 10; i++) {
		struct kvm_enable_cap cap = {
			.cap = caps[random32() % ARRAY_SIZE(caps)],
			.args[0] = random64(),
		};
		u64 valid = 0;
		bool ok;
		int ret;

		if (cap.cap == KVM_CAP_EXIT_ON_VCPU_RESET)
			valid = kvm_check_cap(cap.cap);
		if (!(random32() % 4))
			cap.flags = random64();

		ok = !cap.flags && !(cap.args[0] & ~valid);
		if (cap.cap != KVM_CAP_EXIT_ON_VCPU_RESET) {
#ifdef __riscv
			ok &= cap.cap == KVM_CAP_RISCV_MP_STATE_RESET;
#else
			ok = false;
#endif
		} else if (!valid) {
			ok = false;
		}
		ret = __vm_ioctl(h.vm, KVM_ENABLE_CAP, &cap);
		nr_args++;
		TEST_ASSERT(ok ? !ret : ret == -1 && errno == EINVAL,
			    "Capability %u, args[0] 0x%lx, flags 0x%x: returned %d, errno %d, the seed is %u",
			    cap.cap, (long)cap.args[0], cap.flags, ret, errno, seed);
		/* The vCPU doesn't know them. */
		cap.flags = 0;
		ret = __vcpu_ioctl(h.vcpu, KVM_ENABLE_CAP, &cap);
		TEST_ASSERT(ret == -1, "Capability %u of a vCPU", cap.cap);
	}
	/* What can be seen of events depends on it. */
	if (kvm_check_cap(KVM_CAP_EXIT_ON_VCPU_RESET))
		vm_enable_cap(h.vm, KVM_CAP_EXIT_ON_VCPU_RESET, 0);
	assert_runs(&h, "after capabilities");
	destroy(&h);
}

/* Set something, anything. */
static void set_anything(struct hostile *h)
{
	struct kvm_vcpu *vcpu = h->vcpu;
	u8 buf[4096];

	nr_args++;
	fill_random(buf, sizeof(buf));
#ifdef __x86_64__
	switch (random32() % 9) {
	case 0:
	case 1: {
		struct kvm_vcpu_events events;

		vcpu_events_get(vcpu, &events);
		buf[0] = random32() % sizeof(events);
		((u8 *)&events)[buf[0]] = random32() % 4 ? random32() & 3 : random32();
		if (random32() % 2)
			events.flags = random32() & 0x7f;
		__vcpu_ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events);
		break;
	}
	case 2: {
		struct kvm_sregs sregs;

		vcpu_sregs_get(vcpu, &sregs);
		((u8 *)&sregs)[random32() % sizeof(sregs)] = random32();
		__vcpu_ioctl(vcpu, KVM_SET_SREGS, &sregs);
		break;
	}
	case 3: {
		const struct kvm_msr_list *list = kvm_get_msr_index_list();
		u32 msr = list->indices[random32() % list->nmsrs];

		/* The TSC's frequency is for real. */
		if (msr != MSR_IA32_TSC)
			_vcpu_set_msr(vcpu, msr, random64());
		break;
	}
	case 4: {
		struct kvm_lapic_state lapic;

		__vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
		lapic.regs[random32() % sizeof(lapic.regs)] = random32();
		__vcpu_ioctl(vcpu, KVM_SET_LAPIC, &lapic);
		break;
	}
	case 5: {
		struct kvm_debugregs debugregs;

		vcpu_debugregs_get(vcpu, &debugregs);
		debugregs.db[random32() % 4] = random64();
		debugregs.dr7 = random32() % 2 ? 0x400 : random64();
		__vcpu_ioctl(vcpu, KVM_SET_DEBUGREGS, &debugregs);
		break;
	}
	case 6:
		ioctl(vcpu->fd, KVM_SET_REGS, buf);
		break;
	case 7:
		ioctl(vcpu->fd, random32() % 2 ? KVM_NMI : KVM_SMI, NULL);
		break;
	case 8:
		ioctl(vcpu->fd, KVM_SET_NESTED_STATE, buf);
		break;
	}
#else
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	struct kvm_one_reg reg = {
		.id = list->reg[random32() % list->n],
		.addr = (u64)buf,
	};
	u64 val = random64();

	free(list);
	if (random32() % 2)
		memcpy(buf, &val, sizeof(val));
	switch (random32() % 8) {
	case 0:
		/* Close to one that exists, or far from it */
		reg.id ^= BIT_ULL(random32() % 64);
		break;
	case 1:
		reg.id = random64();
		break;
#ifdef __aarch64__
	case 2: {
		struct kvm_vcpu_events events = {
			.exception.serror_pending = random32(),
			.exception.serror_has_esr = random32() % 2,
			.exception.ext_dabt_pending = random32() % 2,
			.exception.serror_esr = random64(),
		};

		__vcpu_ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events);
		return;
	}
#endif
	case 3:
		__vcpu_ioctl(vcpu, KVM_GET_ONE_REG, &reg);
		return;
	}
	__vcpu_ioctl(vcpu, KVM_SET_ONE_REG, &reg);
#endif
}

static void test_registers(void)
{
	struct hostile h;
	unsigned int i, k;

	create(&h);
	for (i = 0; i < nr_tries; i++) {
		for (k = random32() % 8; k; k--)
			set_anything(&h);
		if (!(random32() % 4))
			set_mp_state(h.vcpu, KVM_MP_STATE_RUNNABLE);
		if (random32() % 2)
			run_shortly(h.vcpu);
		assert_resets(&h, "after random registers");
	}
	assert_runs(&h, "after random registers");
	destroy(&h);
}

/* What hasn't even been created properly */
static void test_half_created(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu;
	int ret;

#ifdef __x86_64__
	vm_create_irqchip(vm);
#endif
	vcpu = __vm_vcpu_add(vm, 1);
	ret = set_mp_state(vcpu, KVM_MP_STATE_RESET);
#ifdef __aarch64__
	TEST_ASSERT(ret == -1 && errno == ENOEXEC,
		    "Without KVM_ARM_VCPU_INIT: returned %d, errno %d", ret, errno);
#else
	TEST_ASSERT(!ret, "Without a configuration: errno %d", errno);
#endif
	set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
	complete(vcpu);
	run_shortly(vcpu);
	set_mp_state(vcpu, KVM_MP_STATE_RESET);
	kvm_vm_free(vm);
}

static void assert_eio(int fd, unsigned long cmd, void *arg, const char *what)
{
	int ret = ioctl(fd, cmd, arg);

	nr_args++;
	TEST_ASSERT(ret == -1 && errno == EIO, "%s: returned %d, errno %d", what, ret, errno);
}

static void assert_not_mine(int vm_fd, int vcpu_fd)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_VCPU_RESET };
	struct kvm_mp_state mp_state = { .mp_state = KVM_MP_STATE_RESET };

	assert_eio(vcpu_fd, KVM_SET_MP_STATE, &mp_state, "KVM_SET_MP_STATE");
	assert_eio(vcpu_fd, KVM_GET_MP_STATE, &mp_state, "KVM_GET_MP_STATE");
	assert_eio(vcpu_fd, KVM_RUN, NULL, "KVM_RUN");
	assert_eio(vm_fd, KVM_ENABLE_CAP, &cap, "KVM_ENABLE_CAP");
}

/* Through a socket, or taken if this kernel has got none */
static void pass_fds(int sock, int pipe, const int *fds)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} control = {};
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	TEST_ASSERT(write(pipe, fds, 2 * sizeof(int)) == 2 * sizeof(int), "Can't tell");
	if (sock < 0)
		return;

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, 2 * sizeof(int));
	TEST_ASSERT(sendmsg(sock, &msg, 0) == 1, "Can't pass descriptors");
}

static void receive_fds(int sock, int pipe, int *fds)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} control = {};
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	int i, pidfd;

	TEST_ASSERT(read(pipe, fds, 2 * sizeof(int)) == 2 * sizeof(int), "Not told");
	if (sock >= 0) {
		TEST_ASSERT(recvmsg(sock, &msg, 0) == 1, "Nothing received");
		memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&msg)), 2 * sizeof(int));
		return;
	}

	pidfd = syscall(__NR_pidfd_open, getppid(), 0);
	for (i = 0; i < 2; i++) {
		fds[i] = syscall(__NR_pidfd_getfd, pidfd, fds[i], 0);
		TEST_ASSERT(fds[i] >= 0, "pidfd_getfd: errno %d", errno);
	}
	close(pidfd);
}

/* Another process has no business with the VM, but may be the last to know it. */
static void test_descriptors(void)
{
	int sock[2] = { -1, -1 }, down[2], up[2], fds[2], status;
	struct vcpu_state *before;
	pid_t forked, passed;
	struct hostile h;
	char byte = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sock))
		pr_info("# no sockets\n");
	TEST_ASSERT(!pipe(down) && !pipe(up), "No pipes");

	/* It is passed what it doesn't inherit. */
	passed = fork();
	if (!passed) {
		receive_fds(sock[1], down[0], fds);
		assert_not_mine(fds[0], fds[1]);
		TEST_ASSERT(write(up[1], &byte, 1) == 1, "Can't tell");
		/* Until the owner of the VM is through with it */
		TEST_ASSERT(read(down[0], &byte, 1) == 1, "Not told");
		assert_not_mine(fds[0], fds[1]);
		close(fds[1]);
		close(fds[0]);
		_exit(0);
	}

	create(&h);
	boot(h.vcpu, guest_exits, 0);
	vcpu_run(h.vcpu);
	before = vcpu_state_get(h.vcpu);

	forked = fork();
	if (!forked) {
		assert_not_mine(h.vm->fd, h.vcpu->fd);
		_exit(0);
	}
	TEST_ASSERT(waitpid(forked, &status, 0) == forked && !status, "Forked: 0x%x", status);

	fds[0] = h.vm->fd;
	fds[1] = h.vcpu->fd;
	pass_fds(sock[0], down[1], fds);
	TEST_ASSERT(read(up[0], &byte, 1) == 1, "Passed: failed");

	assert_state("after others tried", before, h.vcpu);
	vcpu_state_free(before);
	assert_runs(&h, "after others tried");
	destroy(&h);

	TEST_ASSERT(write(down[1], &byte, 1) == 1, "Can't tell");
	TEST_ASSERT(waitpid(passed, &status, 0) == passed && !status, "Passed: 0x%x", status);
	close(down[0]);
	close(down[1]);
	close(up[0]);
	close(up[1]);
	close(sock[0]);
	close(sock[1]);
}

static bool stop;

static void *scribbler(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	u32 rng = 12345;
	u8 *run = (u8 *)vcpu->run;

	while (!READ_ONCE(stop)) {
		rng = rng * 1103515245 + 12345;
		/* With ever more of it, it never gets anywhere. */
		if (rng >> 16 & 7)
			WRITE_ONCE(vcpu->run->immediate_exit, 0);
		run[(rng >> 8) % (rng & 0x80000000 ? 256 : getpagesize())] = rng >> 24;
	}
	WRITE_ONCE(vcpu->run->immediate_exit, 0);

	return NULL;
}

static void test_scribbled_run(void)
{
	struct hostile h;
	pthread_t thread;
	unsigned int i;

	create(&h);
	for (i = 0; i < nr_tries / 10; i++) {
		int k;

		boot(h.vcpu, i % 2 ? guest_exits : guest_calls, random64() | 1);
		stop = false;
		pthread_create(&thread, NULL, scribbler, h.vcpu);
		for (k = 0; k < 20; k++) {
			run_shortly(h.vcpu);
			if (!(random32() % 16))
				set_mp_state(h.vcpu, KVM_MP_STATE_RESET);
		}
		WRITE_ONCE(stop, true);
		pthread_join(thread, NULL);
		memset(h.vcpu->run, 0, getpagesize());
#ifdef __x86_64__
		/* cr8 and the fields for interrupt windows */
		complete(h.vcpu);
#endif
		assert_resets(&h, "after kvm_run was overwritten");
	}
	assert_runs(&h, "after kvm_run was overwritten");
	destroy(&h);
}

static void test_calls(void)
{
	unsigned long exits = 0, deaths = 0;
	struct kvm_mp_state mp_state;
	struct hostile h;
	unsigned int i, k;

	create(&h);
	for (i = 0; i < nr_tries / 5; i++) {
		boot(h.vcpu, guest_calls, random64() | 1);
		/* They may call for each other's end. */
		set_mp_state(h.vcpus[0], KVM_MP_STATE_RESET);
		boot(h.vcpus[0], guest_calls, random64() | 1);

		for (k = 0; k < 10; k++) {
			run_shortly(h.vcpu);
			run_shortly(h.vcpus[0]);
			exits++;
			if (ioctl(h.vcpu->fd, KVM_GET_MP_STATE, &mp_state) ||
			    mp_state.mp_state != KVM_MP_STATE_RUNNABLE)
				deaths++;
		}
		set_mp_state(h.vcpus[0], KVM_MP_STATE_RESET);
		assert_resets(&h, "after random calls");
	}
	pr_info("# %lu runs, %lu ended the vCPU\n", exits, deaths);
	assert_runs(&h, "after random calls");
	destroy(&h);
}

/* Let user mode have a page, at each level. */
static void map_user_page(struct kvm_vm *vm)
{
#ifndef __aarch64__
	int level = vm->mmu.pgtable_levels - 1;
	gpa_t table = vm->mmu.pgd;
	u64 *pte;
#endif

	user_page = vm_alloc_page(vm);
	sync_global_to_guest(vm, user_page);
	memcpy(addr_gva2hva(vm, user_page), user_code, user_code_end - user_code);
	if (sabotage)
		return;

#ifdef __aarch64__
	*virt_get_pte_hva(vm, user_page) |= BIT(6);
#else
	for (;; level--) {
		pte = addr_gpa2hva(vm, table) + ((user_page >> (12 + 9 * level)) & 511) * 8;
#ifdef __riscv
		if (!level)
			*pte |= PGTBL_PTE_USER_MASK;
		table = (*pte & PGTBL_PTE_ADDR_MASK) >> PGTBL_PTE_ADDR_SHIFT << 12;
#else
		*pte |= PTE_USER_MASK(&vm->mmu);
		table = *pte & PHYSICAL_PAGE_MASK;
#endif
		if (!level)
			break;
	}
#endif
}

/* The guest's kernel gets the exceptions of its user mode. */
static void init_user_exceptions(struct hostile *h)
{
#ifdef __riscv
	int i;

	vm_init_vector_tables(h->vm);
	for (i = 0; i < NR_EXCEPTIONS; i++)
		vm_install_exception_handler(h->vm, i, user_exception);
	vcpu_init_vector_tables(h->vcpu);
	boot_regs[1].stvec = vcpu_get_reg(h->vcpu, RISCV_GENERAL_CSR_REG(stvec));
#elif defined(__aarch64__)
	int ec;

	vm_init_descriptor_tables(h->vm);
	for (ec = 0; ec < ESR_ELx_EC_MAX + 1; ec++)
		vm_install_sync_handler(h->vm, VECTOR_SYNC_LOWER_64, ec, user_exception);
	vcpu_init_descriptor_tables(h->vcpu);
	boot_regs[1].vbar = vcpu_get_reg(h->vcpu, KVM_ARM64_SYS_REG(SYS_VBAR_EL1));
#else
	u64 *gdt = addr_gva2hva(h->vm, h->vm->arch.gdt);
	u8 *tss = addr_gva2hva(h->vm, h->vm->arch.tss);
	gva_t stack = vm_alloc_stack(h->vm, 1) + 8;

	/* Code and data of user mode, and where its exceptions find a stack */
	gdt[USER_CS / 8] = 0x00affb000000ffffull;
	gdt[USER_DS / 8] = 0x00cff3000000ffffull;
	memcpy(tss + 4, &stack, sizeof(stack));
	vm_install_exception_handler(h->vm, UD_VECTOR, user_exception);
	vm_install_exception_handler(h->vm, GP_VECTOR, user_exception);
	vm_install_exception_handler(h->vm, PF_VECTOR, user_exception);
#endif
}

static void test_user_calls(void)
{
	struct vcpu_state *other;
	struct hostile h;
	struct ucall uc;
	unsigned int i;

	create(&h);
	map_user_page(h.vm);
	init_user_exceptions(&h);
	vcpu_set_mp_state(h.vcpu, KVM_MP_STATE_RESET);
	vcpu_set_mp_state(h.vcpus[0], KVM_MP_STATE_RESET);
	other = vcpu_state_get(h.vcpus[0]);

	boot(h.vcpu, guest_user_calls, (random64() & ~1ull) | sabotage);
	for (i = 0; i < nr_tries * 10; i++) {
		vcpu_run(h.vcpu);
		nr_args++;
		switch (get_ucall(h.vcpu, &uc)) {
		case UCALL_SYNC:
			TEST_ASSERT_EQ(uc.args[1], 2);
			break;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		default:
			TEST_FAIL("A call in user mode: exit %u (%s), the seed is %u",
				  h.vcpu->run->exit_reason,
				  exit_reason_str(h.vcpu->run->exit_reason), seed);
		}
	}
	TEST_ASSERT_EQ(vcpu_get_mp_state(h.vcpu), KVM_MP_STATE_RUNNABLE);
	assert_state("another vCPU, after calls in user mode", other, h.vcpus[0]);
	vcpu_state_free(other);

	assert_resets(&h, "after calls in user mode");
	assert_runs(&h, "after calls in user mode");
	destroy(&h);
}

static const struct {
	const char *name;
	void (*fn)(void);
} tests[] = {
	{ "MP states", test_mp_states },
	{ "capabilities", test_caps },
	{ "half created", test_half_created },
	{ "descriptors of another process", test_descriptors },
	{ "registers", test_registers },
	{ "kvm_run is overwritten", test_scribbled_run },
	{ "calls of the firmware", test_calls },
	{ "calls of the firmware in user mode", test_user_calls },
};

int main(int argc, char *argv[])
{
	int opt, i, only = -1;

	while ((opt = getopt(argc, argv, "n:s:o:b")) != -1) {
		switch (opt) {
		case 'n':
			nr_tries = atoi_positive("Number of tries", optarg);
			break;
		case 's':
			seed = atoi_positive("Seed", optarg);
			break;
		case 'o':
			only = atoi_non_negative("Number of the test", optarg);
			break;
		case 'b':
			sabotage = true;
			break;
		default:
			printf("usage: %s [-n tries] [-s seed] [-o test] [-b]\n", argv[0]);
			puts(" -b: make calls of user mode in the kernel: the test has to fail");
			return KSFT_FAIL;
		}
	}

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_MP_STATE_RESET));
	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(tests));

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		if (only >= 0 && i != only) {
			ksft_test_result_skip("%s\n", tests[i].name);
			continue;
		}
		pr_info("# %s: -s %u\n", tests[i].name, seed);
		tests[i].fn();
		ksft_test_result_pass("%s\n", tests[i].name);
	}
	pr_info("# %lu arguments, %lu VMs are dead\n", nr_args, nr_dead);
	TEST_ASSERT(nr_dead < nr_tries / 4, "Too many of them are");

	ksft_finished();
}
