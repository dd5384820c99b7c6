// SPDX-License-Identifier: GPL-2.0-only
/*
 * The exits of arm64, see ../needs_completion_test.c.
 *
 * KVM performs only MMIO accesses in two steps: the exit leaves the PC and the
 * registers alone, and the next KVM_RUN retires the instruction.  All the other
 * exits are finished when KVM_RUN returns, some behind the instruction, e.g. HVC
 * and SMC, some before it, for userspace to emulate it or to have it repeated:
 * what userspace has to say is in the registers of the vCPU, not in kvm_run.
 */
#include <fcntl.h>
#include <sys/auxv.h>
#include <linux/psci.h>

#include "kvm_util.h"
#include "needs_completion_test.h"
#include "processor.h"
#include "vcpu_state.h"

/* Not backed by memory, i.e. guest accesses are MMIO. */
#define MMIO_GPA	0x40000000ul
#define MMIO_NR_PAGES	2
#define REPORT_GPA	0x40010000

/* Where rows have memory of their own. */
#define MEM_GPA		0x50000000ul

/* A function in the range of calls to the owner of the vendor specific hypervisor. */
#define SMCCC_FUNC	0xc6001234u

#ifndef HWCAP3_LS64
#define HWCAP3_LS64	BIT(3)
#endif
#ifndef AT_HWCAP3
#define AT_HWCAP3	29
#endif

enum { X0, X1, X2, X3, X4, X5, X9 = 9, X10, NR_GPRS = 31 };

const char * const nc_gpr_names[NC_NR_GPRS] = {
	"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7",
	"x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
	"x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23",
	"x24", "x25", "x26", "x27", "x28", "x29", "x30",
};

const int nc_mark_gpr = X9;
const u64 nc_all_marks = GENMASK(3, 0);
const u64 nc_report_gprs = BIT(X10);

#define GPR(i)	ARM64_CORE_REG(regs.regs[i])

/*
 * The guest runs with address translation off, so that a reset vCPU can run it
 * as it is.  Execute @insn, which is where the exit comes from, and report
 * which of the instructions behind it have been executed, one bit in x9 each.
 */
#define MARKS_AND_REPORT						\
"	orr	x9, x9, #1\n"						\
"	orr	x9, x9, #2\n"						\
"	orr	x9, x9, #4\n"						\
"	orr	x9, x9, #8\n"						\
"	mov	x10, #" __stringify(REPORT_GPA) "\n"			\
"	str	x9, [x10]\n"						\
"	b	.\n"

#define GUEST_CODE(name, insn)						\
NC_GUEST_CODE(name,							\
"	.pushsection .text, \"ax\"\n"					\
"	.balign 64\n"							\
"guest_" #name ":\n"							\
"	" insn "\n"							\
"guest_" #name "_next:\n"						\
	MARKS_AND_REPORT						\
"	.popsection\n"							\
)

GUEST_CODE(ldrb, "ldrb	w3, [x4]");
GUEST_CODE(ldrh, "ldrh	w3, [x4]");
GUEST_CODE(ldr_w, "ldr	w3, [x4]");
GUEST_CODE(ldr_x, "ldr	x3, [x4]");
GUEST_CODE(ldrsb_w, "ldrsb	w3, [x4]");
GUEST_CODE(ldrsb_x, "ldrsb	x3, [x4]");
GUEST_CODE(ldrsh_w, "ldrsh	w3, [x4]");
GUEST_CODE(ldrsh_x, "ldrsh	x3, [x4]");
GUEST_CODE(ldrsw, "ldrsw	x3, [x4]");
GUEST_CODE(ldr_xzr, "ldr	xzr, [x4]");
GUEST_CODE(ldar, "ldar	x3, [x4]");
GUEST_CODE(strb, "strb	w3, [x4]");
GUEST_CODE(strh, "strh	w3, [x4]");
GUEST_CODE(str_w, "str	w3, [x4]");
GUEST_CODE(str_x, "str	x3, [x4]");
GUEST_CODE(str_xzr, "str	xzr, [x4]");
GUEST_CODE(stlr, "stlr	x3, [x4]");

/* No register, size and extension in the syndrome. */
GUEST_CODE(ldp, "ldp	x3, x5, [x4]");
GUEST_CODE(stp, "stp	x3, x5, [x4]");
GUEST_CODE(ldr_q, "ldr	q3, [x4]");
GUEST_CODE(str_q, "str	q3, [x4]");
GUEST_CODE(ldr_post, "ldr	x3, [x4], #8");
GUEST_CODE(str_pre, "str	x3, [x4, #8]!");

/* ld64b x12, [x4] */
GUEST_CODE(ld64b, ".inst	0xf83fd08c");

GUEST_CODE(hvc, "hvc	#0");
GUEST_CODE(smc, "smc	#0");
GUEST_CODE(brk, "brk	#0");
GUEST_CODE(nop, "nop");
GUEST_CODE(wfi, "wfi");

/* Write to one page after the other. */
GUEST_CODE(dirty, "str	x3, [x4]\n add	x4, x4, x5\n b	guest_dirty");

/* The vector of a synchronous exception taken from EL1h. */
#define SYNC_VECTOR	0x200

extern const char guest_vectors[], guest_sync_vector[];
asm("	.pushsection .text, \"ax\"\n"
"	.balign 2048\n"
"guest_vectors:\n"
"	.skip	" __stringify(SYNC_VECTOR) "\n"
"guest_sync_vector:\n"
	MARKS_AND_REPORT
"	.popsection\n"
);

static void arm64_vcpu_init(struct nc_test *t)
{
	vcpu_ioctl(t->vcpu, KVM_ARM_VCPU_INIT, &t->vcpu->init);
}

/* Not what the library does, e.g. leave address translation off. */
static void init_vcpu(struct nc_test *t)
{
	kvm_get_default_vcpu_target(t->vm, &t->vcpu->init);
	t->vcpu->init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	t->vcpu->init.features[0] &= ~BIT(KVM_ARM_VCPU_HAS_EL2);
	arm64_vcpu_init(t);
}

/* No GIC, its state would have to be saved and restored, too. */
static struct kvm_vm *create_vm(void)
{
	test_disable_default_vgic();

	return vm_create(1);
}

void nc_arch_create_vm(struct nc_test *t)
{
	t->vm = create_vm();
	t->vcpu = __vm_vcpu_add(t->vm, 0);
	init_vcpu(t);
}

u64 nc_arch_guest_pc(struct nc_test *t, const char *label)
{
	return addr_gva2gpa(t->vm, (gva_t)label);
}

void nc_arch_init_regs(struct nc_test *t)
{
	if (t->exit->gpa)
		t->want.gpr[X4] = t->exit->gpa;
}

void nc_arch_set_regs(struct kvm_vcpu *vcpu, const struct nc_regs *regs)
{
	int i;

	for (i = 0; i < NR_GPRS; i++)
		vcpu_set_reg(vcpu, GPR(i), regs->gpr[i]);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), regs->pc);
}

void nc_arch_get_regs(struct kvm_vcpu *vcpu, struct nc_regs *regs)
{
	int i;

	memset(regs, 0, sizeof(*regs));
	for (i = 0; i < NR_GPRS; i++)
		regs->gpr[i] = vcpu_get_reg(vcpu, GPR(i));
	regs->pc = vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.pc));
}

bool nc_arch_is_report(struct kvm_vcpu *vcpu)
{
	return vcpu->run->exit_reason == KVM_EXIT_MMIO &&
	       vcpu->run->mmio.phys_addr == REPORT_GPA;
}

void nc_arch_migrate(struct nc_test *t)
{
	struct kvm_saved_regs *regs = vcpu_save_reg_list(t->vcpu);
	struct kvm_vcpu_events events;
	u32 mp_state = vcpu_get_mp_state(t->vcpu);

	vcpu_events_get(t->vcpu, &events);

	kvm_vm_release(t->vm);
	t->vcpu = vm_recreate_with_one_vcpu(t->vm);
	if (t->exit->setup_vm)
		t->exit->setup_vm(t);
	init_vcpu(t);

	vcpu_restore_reg_list(t->vcpu, regs);
	vcpu_events_set(t->vcpu, &events);
	vcpu_set_mp_state(t->vcpu, mp_state);
	free(regs);
}

const char *nc_arch_reset(struct nc_test *t, bool request)
{
	if (request)
		vcpu_set_mp_state(t->vcpu, KVM_MP_STATE_RESET);
	else
		arm64_vcpu_init(t);
	nc_check_reset(t);

	return NULL;
}

/* ---- MMIO ---- */

static void expect_x3(struct nc_test *t)
{
	t->want.gpr[X3] = nc_answer(t, t->exit->len);
}

static void expect_signed_x3(struct nc_test *t)
{
	t->want.gpr[X3] = nc_signed_answer(t, t->exit->len);
}

static void expect_signed_w3(struct nc_test *t)
{
	t->want.gpr[X3] = (u32)nc_signed_answer(t, t->exit->len);
}

static void check_written_x3(struct nc_test *t)
{
	nc_check_written(t, t->want.gpr[X3]);
}

/* An access that isn't aligned takes normal memory, i.e. address translation. */
static void setup_guest_mmu(struct nc_test *t)
{
	u64 page_mask = ~(t->vm->page_size - 1ul);
	u64 code = nc_arch_guest_pc(t, t->exit->insn) & page_mask;
	u64 next = nc_arch_guest_pc(t, t->exit->next) & page_mask;

	virt_map(t->vm, code, code, 1);
	if (next != code)
		virt_map(t->vm, next, next, 1);
	virt_map(t->vm, MMIO_GPA, MMIO_GPA, MMIO_NR_PAGES);
	virt_map(t->vm, REPORT_GPA, REPORT_GPA, 1);
}

static void setup_vcpu_mmu(struct nc_test *t)
{
	struct kvm_vcpu_init init = t->vcpu->init;

	aarch64_vcpu_setup(t->vcpu, &init);
}

#define UNALIGNED							\
	.setup_guest = setup_guest_mmu,					\
	.setup_vcpu = setup_vcpu_mmu

/* ---- MMIO that userspace answers with an external abort ---- */

static void setup_vcpu_vectors(struct nc_test *t)
{
	vcpu_set_reg(t->vcpu, KVM_ARM64_SYS_REG(SYS_VBAR_EL1),
		     nc_arch_guest_pc(t, guest_vectors));
	t->priv[0] = 0;
}

/* Once: it is not an answer to anything if the exit is complete. */
static void act_abort(struct nc_test *t, int part)
{
	struct kvm_vcpu_events events = { .exception.ext_dabt_pending = true };

	nc_act_mmio(t, part);
	if (!t->priv[0]++)
		vcpu_events_set(t->vcpu, &events);
}

#define ABORTED								\
	.next = guest_sync_vector,					\
	.setup_vcpu = setup_vcpu_vectors,				\
	.act = act_abort

/* ---- accesses without a valid syndrome ---- */

static void setup_vm_nisv(struct nc_test *t)
{
	vm_enable_cap(t->vm, KVM_CAP_ARM_NISV_TO_USER, 0);
}

static void setup_vcpu_fp(struct nc_test *t)
{
	vcpu_set_reg(t->vcpu, KVM_ARM64_SYS_REG(SYS_CPACR_EL1), 3 << 20);
}

static void check_nisv(struct nc_test *t, int part)
{
	NC_ASSERT(t, t->vcpu->run->arm_nisv.fault_ipa == t->exit->gpa,
		  "fault_ipa is 0x%llx", t->vcpu->run->arm_nisv.fault_ipa);
}

static void check_nisv_pre(struct nc_test *t, int part)
{
	NC_ASSERT(t, t->vcpu->run->arm_nisv.fault_ipa == t->exit->gpa + 8,
		  "fault_ipa is 0x%llx", t->vcpu->run->arm_nisv.fault_ipa);
}

#define NISV								\
	.reason = KVM_EXIT_ARM_NISV,					\
	.gpa = MMIO_GPA,						\
	.setup_vm = setup_vm_nisv,					\
	.setup_vcpu = setup_vcpu_fp,					\
	.resume = nc_resume_at_next

static const char *no_ls64(void)
{
	return getauxval(AT_HWCAP3) & HWCAP3_LS64 ? NULL : "No FEAT_LS64";
}

/* ---- SMCCC ---- */

static void setup_vm_filter(struct nc_test *t)
{
	struct kvm_smccc_filter filter = {
		.base = SMCCC_FUNC,
		.nr_functions = 1,
		.action = KVM_SMCCC_FILTER_FWD_TO_USER,
	};

	kvm_device_attr_set(t->vm->fd, KVM_ARM_VM_SMCCC_CTRL,
			    KVM_ARM_VM_SMCCC_FILTER, &filter);
}

static void setup_vm_filter_psci(struct nc_test *t)
{
	struct kvm_smccc_filter filter = {
		.base = PSCI_0_2_FN64_CPU_ON,
		.nr_functions = 1,
		.action = KVM_SMCCC_FILTER_FWD_TO_USER,
	};

	kvm_device_attr_set(t->vm->fd, KVM_ARM_VM_SMCCC_CTRL,
			    KVM_ARM_VM_SMCCC_FILTER, &filter);
}

static void setup_vcpu_func(struct nc_test *t)
{
	t->want.gpr[X0] = SMCCC_FUNC;
}

static void setup_vcpu_cpu_on(struct nc_test *t)
{
	t->want.gpr[X0] = PSCI_0_2_FN64_CPU_ON;
}

static void check_hypercall(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;
	u64 flags = t->exit->insn == guest_smc ? KVM_HYPERCALL_EXIT_SMC : 0;

	NC_ASSERT(t, run->hypercall.nr == t->want.gpr[X0], "nr is 0x%llx", run->hypercall.nr);
	NC_ASSERT(t, run->hypercall.flags == flags, "flags is 0x%llx", run->hypercall.flags);
}

/* The answer goes to the registers.  Nobody is interested in this one. */
static void act_hypercall(struct nc_test *t, int part)
{
	t->vcpu->run->hypercall.ret = nc_answer(t, 8);
}

static void resume_hypercall(struct nc_test *t)
{
	vcpu_set_reg(t->vcpu, GPR(X0), nc_answer(t, 8));
}

/*
 * The call is over at the exit, with the PC behind the instruction: there is
 * nothing left for KVM to do.
 */
#define HYPERCALL							\
	.reason = KVM_EXIT_HYPERCALL,					\
	.at_exit = NC_AT_NEXT,						\
	.check_exit = check_hypercall,					\
	.act = act_hypercall,						\
	.resume = resume_hypercall

static void check_system_event(struct nc_test *t, u32 type, u64 flags)
{
	struct kvm_run *run = t->vcpu->run;

	NC_ASSERT(t, run->system_event.type == type, "type is %u", run->system_event.type);
	NC_ASSERT(t, run->system_event.data[0] == flags,
		  "flags is 0x%llx", run->system_event.data[0]);
}

/* What the guest sees if userspace ignores the event. */
static void expect_failure(struct nc_test *t)
{
	t->want.gpr[X0] = PSCI_RET_INTERNAL_FAILURE;
}

static void expect_failure_all(struct nc_test *t)
{
	expect_failure(t);
	t->want.gpr[X1] = 0;
	t->want.gpr[X2] = 0;
	t->want.gpr[X3] = 0;
}

#define PSCI_EVENT(name, func, type, flags)				\
static void setup_vcpu_##name(struct nc_test *t)			\
{									\
	t->want.gpr[X0] = func;						\
	t->want.gpr[X1] = 0;						\
	t->want.gpr[X2] = 0;						\
}									\
									\
static void check_##name(struct nc_test *t, int part)			\
{									\
	check_system_event(t, type, flags);				\
}

PSCI_EVENT(system_off, PSCI_0_2_FN_SYSTEM_OFF, KVM_SYSTEM_EVENT_SHUTDOWN, 0)
PSCI_EVENT(system_off2, PSCI_1_3_FN64_SYSTEM_OFF2, KVM_SYSTEM_EVENT_SHUTDOWN,
	   KVM_SYSTEM_EVENT_SHUTDOWN_FLAG_PSCI_OFF2)
PSCI_EVENT(system_reset, PSCI_0_2_FN_SYSTEM_RESET, KVM_SYSTEM_EVENT_RESET, 0)
PSCI_EVENT(system_reset2, PSCI_1_1_FN64_SYSTEM_RESET2, KVM_SYSTEM_EVENT_RESET,
	   KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2)
PSCI_EVENT(system_suspend, PSCI_1_0_FN64_SYSTEM_SUSPEND, KVM_SYSTEM_EVENT_SUSPEND, 0)

#define SYSTEM_EVENT(name)						\
	.reason = KVM_EXIT_SYSTEM_EVENT,				\
	.at_exit = NC_AT_NEXT,						\
	.setup_vcpu = setup_vcpu_##name,				\
	.check_exit = check_##name

static void setup_vm_suspend(struct nc_test *t)
{
	vm_enable_cap(t->vm, KVM_CAP_ARM_SYSTEM_SUSPEND, 0);
}

/* Userspace denies the request. */
static void resume_suspend(struct nc_test *t)
{
	vcpu_set_reg(t->vcpu, GPR(X0), PSCI_RET_DENIED);
}

static void set_irq_line(struct nc_test *t, bool level)
{
	struct kvm_irq_level line = {
		.irq = KVM_ARM_IRQ_TYPE_CPU << KVM_ARM_IRQ_TYPE_SHIFT | KVM_ARM_IRQ_CPU_IRQ,
		.level = level,
	};

	vm_ioctl(t->vm, KVM_IRQ_LINE, &line);
}

/* The interrupt is there already when the vCPU is about to sleep. */
static void setup_vcpu_wakeup(struct nc_test *t)
{
	vcpu_set_mp_state(t->vcpu, KVM_MP_STATE_SUSPENDED);
	set_irq_line(t, true);
}

static void check_wakeup(struct nc_test *t, int part)
{
	check_system_event(t, KVM_SYSTEM_EVENT_WAKEUP, 0);
}

static void resume_wakeup(struct nc_test *t)
{
	set_irq_line(t, false);
	nc_resume_runnable(t);
}

static void setup_vcpu_cpu_off(struct nc_test *t)
{
	t->want.gpr[X0] = PSCI_0_2_FN_CPU_OFF;
}

static void expect_cpu_off(struct nc_test *t)
{
	t->want.gpr[X0] = PSCI_RET_SUCCESS;
	t->want.gpr[X1] = 0;
	t->want.gpr[X2] = 0;
	t->want.gpr[X3] = 0;
}

/* ---- debug ---- */

#define DBGBCR_BAS_ALL	(0xf << 5)
#define DBGWCR_BAS_ALL	(0xff << 5)
#define DBGWCR_LSC_ALL	(3 << 3)
#define DBGCR_EL1	BIT(1)
#define DBGCR_E		BIT(0)

static u64 watched;

static void setup_vcpu_brk(struct nc_test *t)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP,
	};

	vcpu_guest_debug_set(t->vcpu, &debug);
}

static void setup_vcpu_step(struct nc_test *t)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
	};

	vcpu_guest_debug_set(t->vcpu, &debug);
}

static void setup_vcpu_breakpoint(struct nc_test *t)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW,
		.arch.dbg_bcr[0] = DBGBCR_BAS_ALL | DBGCR_EL1 | DBGCR_E,
		.arch.dbg_bvr[0] = nc_arch_guest_pc(t, t->exit->insn),
	};

	vcpu_guest_debug_set(t->vcpu, &debug);
}

static void setup_vcpu_watchpoint(struct nc_test *t)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW,
		.arch.dbg_wcr[0] = DBGWCR_BAS_ALL | DBGWCR_LSC_ALL | DBGCR_EL1 | DBGCR_E,
		.arch.dbg_wvr[0] = addr_gva2gpa(t->vm, (gva_t)&watched),
	};

	t->want.gpr[X4] = debug.arch.dbg_wvr[0];
	vcpu_guest_debug_set(t->vcpu, &debug);
}

static void check_debug_ec(struct nc_test *t, u32 ec)
{
	struct kvm_run *run = t->vcpu->run;
	u32 hsr = run->debug.arch.hsr;

	NC_ASSERT(t, ESR_ELx_EC(hsr) == ec, "hsr is 0x%x", hsr);
	NC_ASSERT(t, run->flags == KVM_DEBUG_ARCH_HSR_HIGH_VALID, "flags is 0x%x", run->flags);
}

static void check_brk(struct nc_test *t, int part)
{
	check_debug_ec(t, ESR_ELx_EC_BRK64);
}

static void check_step(struct nc_test *t, int part)
{
	check_debug_ec(t, ESR_ELx_EC_SOFTSTP_LOW);
}

static void check_breakpoint(struct nc_test *t, int part)
{
	check_debug_ec(t, ESR_ELx_EC_BREAKPT_LOW);
}

static void check_watchpoint(struct nc_test *t, int part)
{
	check_debug_ec(t, ESR_ELx_EC_WATCHPT_LOW);
}

/* ---- dirty ring ---- */

static void create_vm_dirty_ring(struct nc_test *t)
{
	t->vm = create_vm();
	vm_enable_dirty_ring(t->vm, NC_DIRTY_RING_SIZE);
	t->vcpu = __vm_vcpu_add(t->vm, 0);
	init_vcpu(t);
}

static void setup_vcpu_dirty_ring(struct nc_test *t)
{
	t->want.gpr[X5] = t->vm->page_size;
}

/* ---- memory that isn't there ---- */

/* A guest_memfd slot doesn't keep the file. */
static void setup_guest_memfd(struct nc_test *t)
{
	size_t size = t->vm->page_size;
	void *mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int fd = vm_create_guest_memfd(t->vm, size,
				       GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);

	vm_set_user_memory_region2(t->vm, NC_MEM_SLOT, KVM_MEM_GUEST_MEMFD, MEM_GPA,
				   size, mem, fd, 0);
	close(fd);
}

static const char *no_guest_memfd(void)
{
	return kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_MMAP ?
	       NULL : "No guest_memfd";
}

static void check_memory_fault(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;

	NC_ASSERT(t, run->memory_fault.gpa == MEM_GPA &&
		  run->memory_fault.size == t->vm->page_size, "gpa is 0x%llx, size is 0x%llx",
		  run->memory_fault.gpa, run->memory_fault.size);
}

/* ---- nothing to handle ---- */

static void set_timer(struct nc_test *t, u64 ctl)
{
	vcpu_set_reg(t->vcpu, KVM_REG_ARM_TIMER_CVAL, 0);
	vcpu_set_reg(t->vcpu, KVM_REG_ARM_TIMER_CTL, ctl);
}

static void setup_vcpu_timer(struct nc_test *t)
{
	set_timer(t, 1);
}

static void check_timer(struct nc_test *t, int part)
{
	u64 level = t->vcpu->run->s.regs.device_irq_level;

	NC_ASSERT(t, level == KVM_ARM_DEV_EL1_VTIMER, "device_irq_level is 0x%lx", level);
}

/* KVM tells when the timer differs from what userspace knows. */
static void resume_timer(struct nc_test *t)
{
	set_timer(t, 0);
	t->vcpu->run->s.regs.device_irq_level = 0;
}

const struct nc_exit nc_exits[] = {
	{ NC_GUEST_INSN(ldrb), NC_MMIO_LOAD(MMIO_GPA, 1), .expect = expect_x3 },
	{ NC_GUEST_INSN(ldrh), NC_MMIO_LOAD(MMIO_GPA, 2), .expect = expect_x3 },
	{ NC_GUEST_INSN(ldr_w), NC_MMIO_LOAD(MMIO_GPA, 4), .expect = expect_x3 },
	{ NC_GUEST_INSN(ldr_x), NC_MMIO_LOAD(MMIO_GPA, 8), .expect = expect_x3 },
	{ NC_GUEST_INSN(ldrsb_w), NC_MMIO_LOAD(MMIO_GPA, 1), .expect = expect_signed_w3 },
	{ NC_GUEST_INSN(ldrsb_x), NC_MMIO_LOAD(MMIO_GPA, 1), .expect = expect_signed_x3 },
	{ NC_GUEST_INSN(ldrsh_w), NC_MMIO_LOAD(MMIO_GPA, 2), .expect = expect_signed_w3 },
	{ NC_GUEST_INSN(ldrsh_x), NC_MMIO_LOAD(MMIO_GPA, 2), .expect = expect_signed_x3 },
	{ NC_GUEST_INSN(ldrsw), NC_MMIO_LOAD(MMIO_GPA, 4), .expect = expect_signed_x3 },
	{ NC_GUEST_INSN(ldr_xzr), NC_MMIO_LOAD(MMIO_GPA, 8) },
	{ NC_GUEST_INSN(ldar), NC_MMIO_LOAD(MMIO_GPA, 8), .expect = expect_x3 },
	{ NC_GUEST_INSN(strb), NC_MMIO_STORE(MMIO_GPA, 1), .check = check_written_x3 },
	{ NC_GUEST_INSN(strh), NC_MMIO_STORE(MMIO_GPA, 2), .check = check_written_x3 },
	{ NC_GUEST_INSN(str_w), NC_MMIO_STORE(MMIO_GPA, 4), .check = check_written_x3 },
	{ NC_GUEST_INSN(str_x), NC_MMIO_STORE(MMIO_GPA, 8), .check = check_written_x3 },
	{ NC_GUEST_INSN(str_xzr), NC_MMIO_STORE(MMIO_GPA, 8), .check = nc_check_written_zero },
	{ NC_GUEST_INSN(stlr), NC_MMIO_STORE(MMIO_GPA, 8), .check = check_written_x3 },
	{
		.name = "ldr_unaligned", NC_GUEST_LABEL(ldr_x), UNALIGNED,
		NC_MMIO_LOAD(MMIO_GPA + 3, 8), .expect = expect_x3,
	}, {
		.name = "str_unaligned", NC_GUEST_LABEL(str_x), UNALIGNED,
		NC_MMIO_STORE(MMIO_GPA + 3, 8), .check = check_written_x3,
	}, {
		.name = "ldr_abort", .insn = guest_ldr_x, NC_MMIO(MMIO_GPA, 8), ABORTED,
		.check_exit = nc_check_mmio_load, .check = nc_check_mmio_read,
	}, {
		.name = "str_abort", .insn = guest_str_x, NC_MMIO(MMIO_GPA, 8), ABORTED,
		.check_exit = nc_check_mmio_store, .check = check_written_x3,
	}, {
		.name = "ldr_single_step", NC_GUEST_LABEL(ldr_x),
		NC_MMIO_LOAD(MMIO_GPA, 8), .expect = expect_x3,
		.setup_vcpu = setup_vcpu_step,
		.resume = nc_resume_debug,
	},
	{ NC_GUEST_INSN(ldp), NISV, .check_exit = check_nisv },
	{ NC_GUEST_INSN(stp), NISV, .check_exit = check_nisv },
	{ NC_GUEST_INSN(ldr_q), NISV, .check_exit = check_nisv },
	{ NC_GUEST_INSN(str_q), NISV, .check_exit = check_nisv },
	{ NC_GUEST_INSN(ldr_post), NISV, .check_exit = check_nisv },
	{ NC_GUEST_INSN(str_pre), NISV, .check_exit = check_nisv_pre },
	{
		.name = "ldp_enosys", NC_GUEST_LABEL(ldp),
		.reason = NC_NO_EXIT,
		.gpa = MMIO_GPA,
		.err = ENOSYS,
		.resume = nc_resume_at_next,
	}, {
		NC_GUEST_INSN(ld64b),
		.reason = KVM_EXIT_ARM_LDST64B,
		.gpa = MMIO_GPA,
		.unavailable = no_ls64,
		.check_exit = check_nisv,
		.resume = nc_resume_at_next,
	}, {
		NC_GUEST_INSN(hvc), HYPERCALL,
		.setup_vm = setup_vm_filter,
		.setup_vcpu = setup_vcpu_func,
	}, {
		NC_GUEST_INSN(smc), HYPERCALL,
		.setup_vm = setup_vm_filter,
		.setup_vcpu = setup_vcpu_func,
	}, {
		.name = "hvc_cpu_on", NC_GUEST_LABEL(hvc), HYPERCALL,
		.setup_vm = setup_vm_filter_psci,
		.setup_vcpu = setup_vcpu_cpu_on,
	}, {
		.name = "system_off", NC_GUEST_LABEL(hvc), SYSTEM_EVENT(system_off),
		.expect = expect_failure_all,
		.resume = nc_resume_runnable,
	}, {
		.name = "system_off_smc", NC_GUEST_LABEL(smc), SYSTEM_EVENT(system_off),
		.expect = expect_failure_all,
		.resume = nc_resume_runnable,
	}, {
		.name = "system_off2", NC_GUEST_LABEL(hvc), SYSTEM_EVENT(system_off2),
		.expect = expect_failure_all,
		.resume = nc_resume_runnable,
	}, {
		.name = "system_reset", NC_GUEST_LABEL(hvc), SYSTEM_EVENT(system_reset),
		.expect = expect_failure_all,
		.resume = nc_resume_runnable,
	}, {
		.name = "system_reset2", NC_GUEST_LABEL(hvc), SYSTEM_EVENT(system_reset2),
		.expect = expect_failure,
		.resume = nc_resume_runnable,
	}, {
		.name = "system_suspend", NC_GUEST_LABEL(hvc), SYSTEM_EVENT(system_suspend),
		.setup_vm = setup_vm_suspend,
		.resume = resume_suspend,
	}, {
		.name = "wakeup", NC_GUEST_LABEL(nop),
		.reason = KVM_EXIT_SYSTEM_EVENT,
		.setup_vm = setup_vm_suspend,
		.setup_vcpu = setup_vcpu_wakeup,
		.check_exit = check_wakeup,
		.resume = resume_wakeup,
	}, {
		NC_GUEST_INSN(brk),
		.reason = KVM_EXIT_DEBUG,
		.setup_vcpu = setup_vcpu_brk,
		.check_exit = check_brk,
		.resume = nc_resume_breakpoint,
	}, {
		.name = "single_step", NC_GUEST_LABEL(nop),
		.reason = KVM_EXIT_DEBUG,
		.at_exit = NC_AT_NEXT,
		.setup_vcpu = setup_vcpu_step,
		.check_exit = check_step,
		.resume = nc_resume_debug,
	}, {
		.name = "breakpoint", NC_GUEST_LABEL(nop),
		.reason = KVM_EXIT_DEBUG,
		.setup_vcpu = setup_vcpu_breakpoint,
		.check_exit = check_breakpoint,
		.resume = nc_resume_debug,
	}, {
		.name = "watchpoint", NC_GUEST_LABEL(str_x),
		.reason = KVM_EXIT_DEBUG,
		.setup_vcpu = setup_vcpu_watchpoint,
		.check_exit = check_watchpoint,
		.resume = nc_resume_debug,
	}, {
		.name = "dirty_ring_full", NC_GUEST_LABEL(dirty), NC_DIRTY_RING(MEM_GPA),
		.create_vm = create_vm_dirty_ring,
		.setup_vcpu = setup_vcpu_dirty_ring,
	}, {
		.name = "memory_fault", NC_GUEST_LABEL(ldr_x),
		.reason = KVM_EXIT_MEMORY_FAULT,
		.gpa = MEM_GPA,
		.unavailable = no_guest_memfd,
		.setup_guest = setup_guest_memfd,
		.err = EFAULT,
		.check_exit = check_memory_fault,
		.resume = nc_resume_at_next,
	}, {
		.name = "load_efault", NC_GUEST_LABEL(ldr_x),
		.reason = NC_NO_EXIT,
		.gpa = MEM_GPA,
		.setup_guest = nc_setup_guest_prot_none,
		.err = EFAULT,
		.resume = nc_resume_at_next,
	}, {
		.name = "cpu_off_signal", NC_GUEST_LABEL(hvc),
		.reason = KVM_EXIT_INTR,
		.at_exit = NC_AT_NEXT,
		.setup_vcpu = setup_vcpu_cpu_off,
		.run = nc_run_sleep,
		.expect = expect_cpu_off,
		.resume = nc_resume_runnable,
	}, {
		.name = "wfi_signal", NC_GUEST_LABEL(wfi),
		.reason = KVM_EXIT_INTR,
		.at_exit = NC_AT_NEXT,
		.run = nc_run_sleep,
	}, {
		.name = "signal", NC_GUEST_LABEL(nop),
		.reason = KVM_EXIT_INTR,
		.run = nc_run_signal,
	}, {
		.name = "timer_line", NC_GUEST_LABEL(nop),
		.reason = KVM_EXIT_INTR,
		.setup_vcpu = setup_vcpu_timer,
		.err = EINTR,
		.check_exit = check_timer,
		.resume = resume_timer,
	}, {
		.name = "immediate_exit", NC_GUEST_LABEL(nop),
		.reason = NC_NO_EXIT,
		.run = nc_run_immediate_exit,
	},
};

const int nr_nc_exits = ARRAY_SIZE(nc_exits);

const struct nc_absent_exit nc_absent_exits[] = {
	{ KVM_EXIT_UNKNOWN, "not an exit, KVM has nothing to tell" },
	{ KVM_EXIT_EXCEPTION, "no architecture has it" },
	{ KVM_EXIT_HLT, "x86, KVM handles WFI and PSCI CPU_SUSPEND" },
	{ KVM_EXIT_FAIL_ENTRY, "takes a CPU that can't run the vCPU, or AArch32 where it isn't" },
	{ KVM_EXIT_INTERNAL_ERROR, "takes a trap to EL2 that KVM doesn't know of" },
	{ KVM_EXIT_RISCV_SBI, "riscv" },
	{ KVM_EXIT_RISCV_CSR, "riscv" },
	{ KVM_EXIT_ARM_SEA, "takes broken memory, see sea_to_user" },
};

const int nr_nc_absent_exits = ARRAY_SIZE(nc_absent_exits);

/* ---- ioctls ---- */

static void ioctl_events(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	vcpu_events_set(vcpu, &events);
}

static void ioctl_one_reg(struct kvm_vcpu *vcpu)
{
	vcpu_copy_reg_list(vcpu, vcpu);
}

static void ioctl_irq_line(struct kvm_vcpu *vcpu)
{
	struct nc_test t = { .vm = vcpu->vm, .vcpu = vcpu };

	set_irq_line(&t, true);
	set_irq_line(&t, false);
}

static void ioctl_device_attr(struct kvm_vcpu *vcpu)
{
	int irq = 27;

	__vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_TIMER_CTRL,
			       KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &irq);
	__vcpu_device_attr_get(vcpu, KVM_ARM_VCPU_TIMER_CTRL,
			       KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &irq);
	__vcpu_has_device_attr(vcpu, KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA);
}

static void ioctl_finalize(struct kvm_vcpu *vcpu)
{
	int feature = KVM_ARM_VCPU_SVE;

	__vcpu_ioctl(vcpu, KVM_ARM_VCPU_FINALIZE, &feature);
}

/* A reset that fails is none. */
static void ioctl_bad_init(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_init init = vcpu->init;

	init.features[0] ^= BIT(KVM_ARM_VCPU_PSCI_0_2);
	TEST_ASSERT(__vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init),
		    "KVM_ARM_VCPU_INIT can change features");
}

const struct nc_ioctl nc_ioctls[] = {
	NC_IOCTL(events),
	NC_IOCTL(one_reg),
	NC_IOCTL(irq_line),
	NC_IOCTL(device_attr),
	NC_IOCTL(finalize),
	NC_IOCTL(bad_init),
};

const int nr_nc_ioctls = ARRAY_SIZE(nc_ioctls);

/* ---- garbage ---- */

const struct nc_range nc_arch_garbage_holes[] = {};
const int nr_nc_arch_garbage_holes = ARRAY_SIZE(nc_arch_garbage_holes);

static void guest_garbage(void)
{
	struct nc_garbage_sum s = {};
	u64 val;

	for (;;) {
		asm volatile("ldrsb	%0, [%1]" : "=r" (val) : "r" (MMIO_GPA));
		asm volatile("ldrh	%w0, [%1]" : "=r" (val) : "r" (MMIO_GPA));
		asm volatile("ldr	%0, [%1]" : "=r" (val) : "r" (MMIO_GPA + 5));
		asm volatile("strb	%w0, [%1]" : : "r" (s.sum), "r" (MMIO_GPA));
		asm volatile("str	%0, [%1]" : : "r" (s.sum), "r" (MMIO_GPA + 5));
		asm volatile("mov	w0, %w0\n hvc	#0"
			     : : "r" (SMCCC_FUNC) : "x0", "x1", "x2", "x3");

		nc_garbage_done(&s);
	}
}

void nc_arch_create_garbage_vm(struct nc_test *t)
{
	struct kvm_vcpu_init init;

	t->vm = create_vm();
	kvm_get_default_vcpu_target(t->vm, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	init.features[0] &= ~BIT(KVM_ARM_VCPU_HAS_EL2);
	t->vcpu = aarch64_vcpu_add(t->vm, 0, &init, guest_garbage);
	setup_vm_filter(t);
	virt_map(t->vm, MMIO_GPA, MMIO_GPA, MMIO_NR_PAGES);
}
