// SPDX-License-Identifier: GPL-2.0-only
/*
 * The exits of x86, see ../needs_completion_test.c.
 */
#include "apic.h"
#include "flds_emulation.h"
#include "hyperv.h"
#include "kvm_util.h"
#include "needs_completion_test.h"
#include "processor.h"

/* Not backed by memory, i.e. guest accesses are MMIO. */
#define MMIO_GPA	0xd0000000ul
#define MMIO_NR_PAGES	2

/* The port of the instructions under test, and that of the report. */
#define PIO_PORT	0x2000
#define REPORT_PORT	0xe9

/* The order of struct kvm_regs. */
enum {
	RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP,
	R8, R9, R10, R11, R12, R13, R14, R15,
	NR_GPRS,
};

const char * const nc_gpr_names[NC_NR_GPRS] = {
	"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
};

const int nc_mark_gpr = R12;
const u64 nc_all_marks = GENMASK(3, 0);
const u64 nc_report_gprs;

/*
 * Execute @insn, which is where the exit comes from, and report which of the
 * instructions behind it have been executed, one bit in r12 each.
 */
#define GUEST_CODE(name, insn)						\
NC_GUEST_CODE(name,							\
"	.pushsection .text, \"ax\"\n"					\
"	.balign 64\n"							\
"guest_" #name ":\n"							\
"	" insn "\n"							\
"guest_" #name "_next:\n"						\
"	orq	$1, %r12\n"						\
"	orq	$2, %r12\n"						\
"	orq	$4, %r12\n"						\
"	orq	$8, %r12\n"						\
"	outb	%al, $" __stringify(REPORT_PORT) "\n"			\
"	jmp	.\n"							\
"	.popsection\n"							\
)

GUEST_CODE(outb, "outb	%al, %dx");
GUEST_CODE(outw, "outw	%ax, %dx");
GUEST_CODE(outl, "outl	%eax, %dx");
GUEST_CODE(inb, "inb	%dx, %al");
GUEST_CODE(inw, "inw	%dx, %ax");
GUEST_CODE(inl, "inl	%dx, %eax");

GUEST_CODE(load_8, "movb	(%rbx), %al");
GUEST_CODE(load_16, "movw	(%rbx), %ax");
GUEST_CODE(load_32, "movl	(%rbx), %eax");
GUEST_CODE(load_64, "movq	(%rbx), %rax");
GUEST_CODE(store_8, "movb	%al, (%rbx)");
GUEST_CODE(store_16, "movw	%ax, (%rbx)");
GUEST_CODE(store_32, "movl	%eax, (%rbx)");
GUEST_CODE(store_64, "movq	%rax, (%rbx)");

GUEST_CODE(load_unaligned, "movq	(%rbx), %rax");
GUEST_CODE(store_unaligned, "movq	%rax, (%rbx)");
GUEST_CODE(load_split, "movq	(%rbx), %rax");
GUEST_CODE(store_split, "movq	%rax, (%rbx)");
GUEST_CODE(load_128, "movdqu	(%rbx), %xmm0");
GUEST_CODE(store_128, "movdqu	%xmm0, (%rbx)");
GUEST_CODE(rmw, "notq	(%rbx)");
GUEST_CODE(movs_from_mmio, "rep movsb");
GUEST_CODE(movs_to_mmio, "rep movsb");

GUEST_CODE(outsb, "outsb");
GUEST_CODE(rep_outsb, "rep outsb");
GUEST_CODE(insb, "insb");
GUEST_CODE(rep_insb, "rep insb");
GUEST_CODE(rep_insb_long, "rep insb");

GUEST_CODE(rdmsr, "rdmsr");
GUEST_CODE(wrmsr, "wrmsr");

/* Either works on either, KVM patches the wrong one. */
GUEST_CODE(hypercall, "vmmcall");
GUEST_CODE(hyperv_hypercall, "vmmcall");
GUEST_CODE(xen_hypercall, "vmmcall");
GUEST_CODE(hyperv_synic, "wrmsr");
GUEST_CODE(hyperv_syndbg, "wrmsr");
GUEST_CODE(hyperv_crash, "wrmsr");

GUEST_CODE(breakpoint, "nop");
GUEST_CODE(singlestep, "nop");
GUEST_CODE(hlt, "hlt");
GUEST_CODE(irq_window, "nop");
GUEST_CODE(set_tpr, "movq	%rax, %cr8");
GUEST_CODE(tpr_access, "movl	(%rbx), %eax");
GUEST_CODE(ioapic_eoi, "movl	%eax, (%rbx)");
GUEST_CODE(signal, "nop");
GUEST_CODE(triple_fault, "ud2");
GUEST_CODE(fail_entry, "nop");
GUEST_CODE(emulation_failure, FLDS_MEM_EAX);
GUEST_CODE(memory_fault, "movb	(%rbx), %al");
GUEST_CODE(dirty_ring_full,
	   "1: movb	%al, (%rdi)\n"
	   "	addq	$4096, %rdi\n"
	   "	decq	%rcx\n"
	   "	jnz	1b");
GUEST_CODE(bus_lock_svm, "lock; incl (%rbx)");
GUEST_CODE(bus_lock_vmx, "lock; incl (%rbx)");

#define MSR_NON_EXISTENT	0x474f4f00

/* For string instructions, in the guest's memory. */
#define NR_STRING		5
#define NR_INS			2500
#define NR_INS_PER_EXIT		1024

/* Backed by memory, for exits about memory. */
#define MEM_GPA			0xc0000000ul

#define DIRTY_RING_SIZE		1024
#define NR_DIRTY_PAGES		(DIRTY_RING_SIZE + 1)

static struct kvm_sregs initial_sregs;

static void finish_create_vm(struct nc_test *t)
{
	virt_map(t->vm, MMIO_GPA, MMIO_GPA, MMIO_NR_PAGES);
	vcpu_sregs_get(t->vcpu, &initial_sregs);
}

void nc_arch_create_vm(struct nc_test *t)
{
	t->vm = vm_create_with_one_vcpu(&t->vcpu, NULL);
	finish_create_vm(t);
}

/* The local APIC, or all of the interrupt controllers, belong to userspace. */
static struct kvm_vm *create_without_irqchip(void)
{
	struct kvm_vm *vm = vm_create_barebones();

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, 0, 2048, 0);
	kvm_vm_elf_load(vm, program_invocation_name);

	return vm;
}

static void create_vm_no_irqchip(struct nc_test *t)
{
	t->vm = create_without_irqchip();
	t->vcpu = vm_vcpu_add(t->vm, 0, NULL);
	finish_create_vm(t);
}

static void enable_split_irqchip(struct kvm_vm *vm)
{
	vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, 24);
}

static void create_vm_split_irqchip(struct nc_test *t)
{
	t->vm = create_without_irqchip();
	enable_split_irqchip(t->vm);
	t->vcpu = vm_vcpu_add(t->vm, 0, NULL);
	finish_create_vm(t);
}

static void create_vm_dirty_ring(struct nc_test *t)
{
	t->vm = vm_create(1);
	vm_enable_dirty_ring(t->vm, DIRTY_RING_SIZE * sizeof(struct kvm_dirty_gfn));
	t->vcpu = vm_vcpu_add(t->vm, 0, NULL);
	finish_create_vm(t);
}

static void create_vm_sw_protected(struct nc_test *t)
{
	struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_X86_SW_PROTECTED_VM,
	};

	t->vm = vm_create_shape_with_one_vcpu(shape, &t->vcpu, NULL);
	finish_create_vm(t);
}

u64 nc_arch_guest_pc(struct nc_test *t, const char *label)
{
	return (u64)label;
}

void nc_arch_init_regs(struct nc_test *t)
{
	t->want.gpr[RBX] = t->exit->gpa;
	t->want.gpr[RDX] = PIO_PORT;
}

void nc_arch_set_regs(struct kvm_vcpu *vcpu, const struct nc_regs *regs)
{
	struct kvm_regs kvm_regs;

	vcpu_regs_get(vcpu, &kvm_regs);
	memcpy(&kvm_regs, regs->gpr, NR_GPRS * sizeof(u64));
	kvm_regs.rip = regs->pc;
	vcpu_regs_set(vcpu, &kvm_regs);
}

void nc_arch_get_regs(struct kvm_vcpu *vcpu, struct nc_regs *regs)
{
	struct kvm_regs kvm_regs;

	vcpu_regs_get(vcpu, &kvm_regs);
	memset(regs, 0, sizeof(*regs));
	memcpy(regs->gpr, &kvm_regs, NR_GPRS * sizeof(u64));
	regs->pc = kvm_regs.rip;
}

bool nc_arch_is_report(struct kvm_vcpu *vcpu)
{
	return vcpu->run->exit_reason == KVM_EXIT_IO &&
	       vcpu->run->io.port == REPORT_PORT;
}

static void drop_msr(struct kvm_x86_state *state, u32 msr)
{
	struct kvm_msr_entry *entries = state->msrs.entries;
	int i, nr = 0;

	for (i = 0; i < state->msrs.nmsrs; i++) {
		if (entries[i].index != msr)
			entries[nr++] = entries[i];
	}
	state->msrs.nmsrs = nr;
}

void nc_arch_migrate(struct nc_test *t)
{
	struct kvm_x86_state *state = __vcpu_save_state(t->vcpu);

	/* KVM gives it, but doesn't take it. */
	if (t->exit->create_vm == create_vm_no_irqchip)
		drop_msr(state, MSR_KVM_ASYNC_PF_INT);

	kvm_vm_release(t->vm);

	/* The rest of the guest code doesn't fill another ring. */
	t->vm->dirty_ring_size = 0;
	kvm_vm_restart(t->vm);
	if (t->exit->create_vm == create_vm_split_irqchip)
		enable_split_irqchip(t->vm);
	t->vcpu = vm_vcpu_recreate(t->vm, 0);
	if (t->exit->setup_vm)
		t->exit->setup_vm(t);
	vcpu_load_state(t->vcpu, state);
	kvm_x86_state_cleanup(state);
}

/* KVM takes INIT when it is asked for the state. */
static void take_init(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.latched_init = 1;
	vcpu_events_set(vcpu, &events);
	vcpu_get_mp_state(vcpu);
}

const char *nc_arch_reset(struct nc_test *t, bool request)
{
	if (!request && t->exit->create_vm == create_vm_no_irqchip)
		return "No INIT without an in-kernel APIC";

	if (request)
		vcpu_set_mp_state(t->vcpu, KVM_MP_STATE_RESET);
	else
		take_init(t->vcpu);
	nc_check_reset(t);

	vcpu_sregs_set(t->vcpu, &initial_sregs);
	vcpu_set_mp_state(t->vcpu, KVM_MP_STATE_RUNNABLE);

	return NULL;
}

static u64 size_mask(u32 len)
{
	return GENMASK_ULL(len * 8 - 1, 0);
}

/* Registers that are written in part keep the rest, except for those of 32 bits. */
static void expect_rax(struct nc_test *t)
{
	u64 keep = t->exit->len == 4 ? 0 : ~size_mask(t->exit->len);

	t->want.gpr[RAX] = (t->want.gpr[RAX] & keep) | nc_answer(t, t->exit->len);
}

/* What the device got is what was in rax. */
static void check_written_rax(struct nc_test *t)
{
	nc_check_written(t, t->want.gpr[RAX]);
}

static void check_exit_pio(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;

	TEST_ASSERT_EQ(run->io.port, PIO_PORT);
	NC_ASSERT(t, run->io.size * run->io.count == t->exit->len,
		  "exit for %u times %u bytes instead of %u in total",
		  run->io.count, run->io.size, t->exit->len);
}

/* What the device answers to string I/O, it keeps count of what it has given. */
#define PIO_OFFSET	priv[0]
#define PIO_PATTERN(answer, offset)	((u8)((answer) + 3 * (offset)))

static void act_pio(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;
	u8 *data = (u8 *)run + run->io.data_offset;
	u32 i, len = run->io.size * run->io.count;
	u64 offset = t->PIO_OFFSET;

	for (i = 0; i < len; i++) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			data[i] = PIO_PATTERN(t->answer[0], offset + i);
		else if (offset + i < NC_DATA_SIZE)
			t->device[offset + i] = data[i];

		if (offset + i >= NC_DATA_SIZE)
			continue;
		if (run->io.direction == KVM_EXIT_IO_IN)
			t->nr_reads[offset + i]++;
		else
			t->nr_writes[offset + i]++;
	}
	t->PIO_OFFSET += len;
}

/* What IN is to read, as a number. */
static void expect_in(struct nc_test *t)
{
	u64 val = 0, keep = t->exit->len == 4 ? 0 : ~size_mask(t->exit->len);
	int i;

	for (i = 0; i < t->exit->len; i++)
		val |= (u64)PIO_PATTERN(t->answer[0], i) << (8 * i);

	t->want.gpr[RAX] = (t->want.gpr[RAX] & keep) | val;
}

static void setup_pio(struct nc_test *t)
{
	t->PIO_OFFSET = 0;
}

/* ---- string instructions ---- */

#define BUFFER		priv[1]

static u8 *buffer_hva(struct nc_test *t)
{
	return addr_gva2hva(t->vm, t->BUFFER);
}

static void setup_buffer(struct nc_test *t)
{
	t->BUFFER = vm_alloc_pages(t->vm, 1);
}

static u64 nr_string(struct nc_test *t)
{
	if (t->exit->insn == guest_insb || t->exit->insn == guest_outsb)
		return 1;
	if (t->exit->insn == guest_rep_insb_long)
		return NR_INS;
	return NR_STRING;
}

/* Between the buffer and MMIO or port I/O. */
static void setup_string(struct nc_test *t)
{
	u8 *buffer = buffer_hva(t);
	int i;

	setup_pio(t);
	for (i = 0; i < PAGE_SIZE; i++)
		buffer[i] = i * 5 + 1;

	t->want.gpr[RCX] = nr_string(t);
	t->want.gpr[RSI] = t->exit->insn == guest_movs_from_mmio ? MMIO_GPA : t->BUFFER;
	t->want.gpr[RDI] = t->exit->insn == guest_movs_to_mmio ? MMIO_GPA : t->BUFFER;
}

/* rsi and rdi, rcx if there is a REP prefix, after @nr iterations. */
static void expect_string_nr(struct nc_test *t, u64 nr)
{
	const char *insn = t->exit->insn;

	if (insn != guest_insb && insn != guest_rep_insb && insn != guest_rep_insb_long)
		t->want.gpr[RSI] = t->start.gpr[RSI] + nr;
	if (insn != guest_outsb && insn != guest_rep_outsb)
		t->want.gpr[RDI] = t->start.gpr[RDI] + nr;
	if (insn != guest_insb && insn != guest_outsb)
		t->want.gpr[RCX] = t->start.gpr[RCX] - nr;
}

static void expect_string(struct nc_test *t)
{
	expect_string_nr(t, nr_string(t));
}

static void expect_ins_part(struct nc_test *t)
{
	expect_string_nr(t, NR_INS_PER_EXIT);
}

static void check_ins(struct nc_test *t)
{
	u8 *buffer = buffer_hva(t);
	u64 i;

	for (i = 0; i < nr_string(t); i++)
		NC_ASSERT(t, buffer[i] == PIO_PATTERN(t->answer[0], i),
			  "byte %lu is 0x%x instead of 0x%x", i, buffer[i],
			  PIO_PATTERN(t->answer[0], i));
	NC_ASSERT(t, buffer[i] == (u8)(i * 5 + 1), "byte %lu was read", i);
	NC_ASSERT(t, t->PIO_OFFSET == nr_string(t), "%lu bytes were read", t->PIO_OFFSET);
}

static void check_device_buffer(struct nc_test *t)
{
	NC_ASSERT(t, !memcmp(t->device, buffer_hva(t), nr_string(t)),
		  "the device has other data than the guest had");
}

static void check_outs(struct nc_test *t)
{
	check_device_buffer(t);
	NC_ASSERT(t, t->PIO_OFFSET == nr_string(t), "%lu bytes were written", t->PIO_OFFSET);
}

static void check_movs_from_mmio(struct nc_test *t)
{
	NC_ASSERT(t, !memcmp(t->answer, buffer_hva(t), NR_STRING),
		  "the guest has other data than the device had");
	nc_check_mmio_read(t);
}

static void check_movs_to_mmio(struct nc_test *t)
{
	check_device_buffer(t);
	nc_check_mmio_write(t);
}

/* ---- other kinds of MMIO ---- */

#define XMM0_OFFSET		160
#define XSTATE_BV_OFFSET	512

static void check_rmw(struct nc_test *t)
{
	u64 val;

	memcpy(&val, t->device, sizeof(val));
	NC_ASSERT(t, val == ~nc_answer(t, sizeof(val)), "the device has 0x%lx", val);
	nc_check_mmio_read(t);
	nc_check_mmio_write(t);
}

/* KVM_SET_FPU doesn't tell that SSE has left its initial state, XRSTOR clears it. */
static void setup_xmm(struct nc_test *t)
{
	struct kvm_xsave xsave;
	u8 *area = (u8 *)&xsave;
	int i;

	vcpu_xsave_get(t->vcpu, &xsave);
	for (i = 0; i < 16; i++)
		area[XMM0_OFFSET + i] = 0x30 + i;
	*(u64 *)&area[XSTATE_BV_OFFSET] |= XFEATURE_MASK_SSE;
	vcpu_xsave_set(t->vcpu, &xsave);
}

static void check_xmm_read(struct nc_test *t)
{
	struct kvm_fpu fpu;

	vcpu_fpu_get(t->vcpu, &fpu);
	NC_ASSERT(t, !memcmp(fpu.xmm[0], t->answer, 16), "xmm0 is not what was read");
	nc_check_mmio_read(t);
}

static void check_xmm_written(struct nc_test *t)
{
	struct kvm_fpu fpu;

	vcpu_fpu_get(t->vcpu, &fpu);
	NC_ASSERT(t, !memcmp(fpu.xmm[0], t->device, 16), "xmm0 is not what was written");
	nc_check_mmio_write(t);
}

/* ---- MSRs ---- */

static void setup_vm_msr(struct nc_test *t)
{
	vm_enable_cap(t->vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN);
}

static void setup_msr(struct nc_test *t)
{
	t->want.gpr[RCX] = MSR_NON_EXISTENT;
}

static void check_exit_msr(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;
	u64 data = (u32)t->start.gpr[RAX] | t->start.gpr[RDX] << 32;

	TEST_ASSERT_EQ(run->msr.index, MSR_NON_EXISTENT);
	TEST_ASSERT_EQ(run->msr.reason, KVM_MSR_EXIT_REASON_UNKNOWN);
	if (run->exit_reason == KVM_EXIT_X86_WRMSR)
		TEST_ASSERT_EQ(run->msr.data, data);
}

static void act_msr(struct nc_test *t, int part)
{
	t->vcpu->run->msr.data = nc_answer(t, 8);
}

static void expect_rdmsr(struct nc_test *t)
{
	t->want.gpr[RAX] = (u32)nc_answer(t, 8);
	t->want.gpr[RDX] = nc_answer(t, 8) >> 32;
}

/* ---- hypercalls ---- */

static const char *no_hypercall_exit(void)
{
	if (kvm_check_cap(KVM_CAP_EXIT_HYPERCALL) & BIT(KVM_HC_MAP_GPA_RANGE))
		return NULL;
	return "No KVM_CAP_EXIT_HYPERCALL";
}

static void setup_vm_hypercall(struct nc_test *t)
{
	vm_enable_cap(t->vm, KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE));
}

static void setup_hypercall(struct nc_test *t)
{
	t->want.gpr[RAX] = KVM_HC_MAP_GPA_RANGE;
	t->want.gpr[RBX] = MMIO_GPA;
	t->want.gpr[RCX] = 1;
	t->want.gpr[RDX] = KVM_MAP_GPA_RANGE_DECRYPTED;
}

static void check_exit_hypercall(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;

	TEST_ASSERT_EQ(run->hypercall.nr, KVM_HC_MAP_GPA_RANGE);
	TEST_ASSERT_EQ(run->hypercall.args[0], MMIO_GPA);
}

static void act_hypercall(struct nc_test *t, int part)
{
	t->vcpu->run->hypercall.ret = nc_answer(t, 8);
}

static void expect_hypercall(struct nc_test *t)
{
	t->want.gpr[RAX] = nc_answer(t, 8);
}

static const char *no_xen(void)
{
	if (kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL)
		return NULL;
	return "No KVM_CAP_XEN_HVM";
}

static void setup_vm_xen(struct nc_test *t)
{
	struct kvm_xen_hvm_config hvmc = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
		.msr = 0x40000200,
	};

	vm_ioctl(t->vm, KVM_XEN_HVM_CONFIG, &hvmc);
}

#define XEN_HYPERCALL	17

static void setup_xen(struct nc_test *t)
{
	t->want.gpr[RAX] = XEN_HYPERCALL;
}

static void check_exit_xen(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;

	TEST_ASSERT_EQ(run->xen.type, KVM_EXIT_XEN_HCALL);
	TEST_ASSERT_EQ(run->xen.u.hcall.input, XEN_HYPERCALL);
	TEST_ASSERT_EQ(run->xen.u.hcall.params[0], t->start.gpr[RDI]);
}

static void act_xen(struct nc_test *t, int part)
{
	t->vcpu->run->xen.u.hcall.result = nc_answer(t, 8);
}

static const char *no_hyperv(void)
{
	return kvm_has_cap(KVM_CAP_HYPERV_SYNIC2) ? NULL : "No KVM_CAP_HYPERV_SYNIC2";
}

static void setup_vm_hyperv(struct nc_test *t)
{
	vcpu_set_hv_cpuid(t->vcpu);
	vcpu_enable_cap(t->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
}

static void setup_hyperv_hypercall(struct nc_test *t)
{
	vcpu_set_msr(t->vcpu, HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
	vcpu_set_msr(t->vcpu, HV_X64_MSR_SCONTROL, 1);
	t->want.gpr[RCX] = HVCALL_POST_MESSAGE;
	t->want.gpr[RDX] = 0;
	t->want.gpr[R8] = 0;
}

static void check_exit_hyperv_hypercall(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;

	TEST_ASSERT_EQ(run->hyperv.type, KVM_EXIT_HYPERV_HCALL);
	TEST_ASSERT_EQ(run->hyperv.u.hcall.input, HVCALL_POST_MESSAGE);
}

/* The guest gets a status of 16 bits, and the number of repetitions, here none. */
static void act_hyperv_hypercall(struct nc_test *t, int part)
{
	t->vcpu->run->hyperv.u.hcall.result = nc_answer(t, 8);
}

static void setup_wrmsr(struct nc_test *t, u32 msr, u64 data)
{
	t->want.gpr[RCX] = msr;
	t->want.gpr[RAX] = (u32)data;
	t->want.gpr[RDX] = data >> 32;
}

static void setup_hyperv_synic(struct nc_test *t)
{
	setup_wrmsr(t, HV_X64_MSR_SCONTROL, 1);
}

static void check_exit_hyperv_synic(struct nc_test *t, int part)
{
	TEST_ASSERT_EQ(t->vcpu->run->hyperv.type, KVM_EXIT_HYPERV_SYNIC);
	TEST_ASSERT_EQ(t->vcpu->run->hyperv.u.synic.msr, HV_X64_MSR_SCONTROL);
}

static void setup_hyperv_syndbg(struct nc_test *t)
{
	setup_wrmsr(t, HV_X64_MSR_SYNDBG_CONTROL, 1);
}

static void check_exit_hyperv_syndbg(struct nc_test *t, int part)
{
	TEST_ASSERT_EQ(t->vcpu->run->hyperv.type, KVM_EXIT_HYPERV_SYNDBG);
	TEST_ASSERT_EQ(t->vcpu->run->hyperv.u.syndbg.msr, HV_X64_MSR_SYNDBG_CONTROL);
}

static void act_hyperv_syndbg(struct nc_test *t, int part)
{
	t->vcpu->run->hyperv.u.syndbg.status = nc_answer(t, 8);
}

static void check_hyperv_syndbg(struct nc_test *t)
{
	u64 status = vcpu_get_msr(t->vcpu, HV_X64_MSR_SYNDBG_STATUS);

	NC_ASSERT(t, status == nc_answer(t, 8), "the status is 0x%lx", status);
}

static void setup_hyperv_crash(struct nc_test *t)
{
	setup_wrmsr(t, HV_X64_MSR_CRASH_CTL, BIT_ULL(63));
}

static void check_exit_hyperv_crash(struct nc_test *t, int part)
{
	TEST_ASSERT_EQ(t->vcpu->run->system_event.type, KVM_SYSTEM_EVENT_CRASH);
}

/* ---- debugging ---- */

static void setup_breakpoint(struct nc_test *t)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
		.arch.debugreg[0] = t->want.pc,
		.arch.debugreg[7] = BIT(0),
	};

	vcpu_guest_debug_set(t->vcpu, &debug);
}

static void setup_singlestep(struct nc_test *t)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
	};

	/* KVM steps from where the vCPU is. */
	nc_arch_set_regs(t->vcpu, &t->want);
	vcpu_guest_debug_set(t->vcpu, &debug);
}

/* What userspace does to go on behind an instruction that KVM doesn't skip. */
static void skip_insn(struct nc_test *t)
{
	t->want.pc = nc_arch_guest_pc(t, t->exit->next);
	nc_arch_set_regs(t->vcpu, &t->want);
}

/* ---- interrupts, and a local APIC in userspace ---- */

static void set_rflags(struct kvm_vcpu *vcpu, u64 rflags)
{
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	regs.rflags = rflags | X86_EFLAGS_FIXED;
	vcpu_regs_set(vcpu, &regs);
}

static void setup_irq_window(struct nc_test *t)
{
	set_rflags(t->vcpu, X86_EFLAGS_IF);
	t->vcpu->run->request_interrupt_window = 1;
}

static void act_irq_window(struct nc_test *t, int part)
{
	t->vcpu->run->request_interrupt_window = 0;
}

static void resume_irq_window(struct nc_test *t)
{
	set_rflags(t->vcpu, 0);
}

static void setup_set_tpr(struct nc_test *t)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(t->vcpu, &sregs);
	sregs.cr8 = 15;
	vcpu_sregs_set(t->vcpu, &sregs);
	t->vcpu->run->cr8 = 15;
	t->want.gpr[RAX] = 0;
}

static void set_tpr_access_reporting(struct kvm_vcpu *vcpu, bool on)
{
	struct kvm_tpr_access_ctl ctl = { .enabled = on };

	vcpu_ioctl(vcpu, KVM_TPR_ACCESS_REPORTING, &ctl);
}

static void setup_guest_apic(struct nc_test *t)
{
	virt_map(t->vm, APIC_DEFAULT_GPA, APIC_DEFAULT_GPA, 1);
}

static const char *no_tpr_access(void)
{
	if (host_cpu_is_amd_compatible ? get_kvm_amd_param_bool("avic") :
					 get_kvm_intel_param_bool("flexpriority"))
		return "The CPU doesn't exit for it";
	return NULL;
}

static void setup_tpr_access(struct nc_test *t)
{
	set_tpr_access_reporting(t->vcpu, true);
	t->want.gpr[RBX] = APIC_DEFAULT_GPA | APIC_TASKPRI;
}

static void expect_tpr_access(struct nc_test *t)
{
	t->want.gpr[RAX] = 0;
}

static void resume_tpr_access(struct nc_test *t)
{
	set_tpr_access_reporting(t->vcpu, false);
}

#define EOI_VECTOR	0x51

static void set_lapic_bit(struct kvm_lapic_state *lapic, int reg, int vector)
{
	lapic->regs[reg + 16 * (vector / 32) + vector % 32 / 8] |= BIT(vector % 8);
}

static void setup_vm_ioapic_eoi(struct nc_test *t)
{
	struct {
		struct kvm_irq_routing routing;
		struct kvm_irq_routing_entry entry;
	} msi = {
		.routing.nr = 1,
		.entry.type = KVM_IRQ_ROUTING_MSI,
		.entry.u.msi.address_lo = APIC_DEFAULT_GPA,
		/* Level-triggered */
		.entry.u.msi.data = EOI_VECTOR | BIT(15) | BIT(14),
	};

	vm_ioctl(t->vm, KVM_SET_GSI_ROUTING, &msi.routing);
}

/* An interrupt in service, from a level-triggered pin of userspace's I/O APIC. */
static void setup_ioapic_eoi(struct nc_test *t)
{
	struct kvm_lapic_state lapic;

	vcpu_ioctl(t->vcpu, KVM_GET_LAPIC, &lapic);
	lapic.regs[APIC_SPIV] = 0xff;
	lapic.regs[APIC_SPIV + 1] |= 1;
	set_lapic_bit(&lapic, APIC_ISR, EOI_VECTOR);
	set_lapic_bit(&lapic, APIC_TMR, EOI_VECTOR);
	vcpu_ioctl(t->vcpu, KVM_SET_LAPIC, &lapic);

	t->want.gpr[RBX] = APIC_DEFAULT_GPA | APIC_EOI;
	t->want.gpr[RAX] = 0;
}

static void check_exit_ioapic_eoi(struct nc_test *t, int part)
{
	TEST_ASSERT_EQ(t->vcpu->run->eoi.vector, EOI_VECTOR);
}

/* ---- errors ---- */

static void setup_triple_fault(struct nc_test *t)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(t->vcpu, &sregs);
	sregs.idt.limit = 0;
	vcpu_sregs_set(t->vcpu, &sregs);
}

static void setup_fail_entry(struct nc_test *t)
{
	struct kvm_sregs sregs;

	/* Neither a 64-bit nor a 32-bit code segment. */
	vcpu_sregs_get(t->vcpu, &sregs);
	sregs.cs.db = 1;
	vcpu_sregs_set(t->vcpu, &sregs);
}

/* All state is void, userspace has to set it anew. */
static void resume_sregs(struct nc_test *t)
{
	vcpu_sregs_set(t->vcpu, &initial_sregs);
	vcpu_set_mp_state(t->vcpu, KVM_MP_STATE_RUNNABLE);
	t->want = t->start;
	skip_insn(t);
}

static const char *no_emulation_failure_exit(void)
{
	return kvm_has_cap(KVM_CAP_EXIT_ON_EMULATION_FAILURE) ? NULL :
	       "No KVM_CAP_EXIT_ON_EMULATION_FAILURE";
}

static void setup_vm_emulation_failure(struct nc_test *t)
{
	vm_enable_cap(t->vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
}

static void setup_emulation_failure(struct nc_test *t)
{
	t->want.gpr[RAX] = MMIO_GPA;
}

static void check_exit_emulation_failure(struct nc_test *t, int part)
{
	TEST_ASSERT_EQ(t->vcpu->run->emulation_failure.suberror,
		       KVM_INTERNAL_ERROR_EMULATION);
}

/* ---- memory ---- */

static const char *no_memory_fault(void)
{
	return kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM) ? NULL :
	       "No KVM_X86_SW_PROTECTED_VM";
}

static void setup_guest_memory_fault(struct nc_test *t)
{
	vm_userspace_mem_region_add(t->vm, VM_MEM_SRC_ANONYMOUS, MEM_GPA, NC_MEM_SLOT, 1, 0);
	virt_map(t->vm, MEM_GPA, MEM_GPA, 1);
}

/* Private, but without private memory. */
static void setup_memory_fault(struct nc_test *t)
{
	vm_mem_set_private(t->vm, MEM_GPA, PAGE_SIZE);
	t->want.gpr[RBX] = MEM_GPA;
	t->want.gpr[RAX] = 0;
}

static void resume_memory_fault(struct nc_test *t)
{
	vm_mem_set_shared(t->vm, MEM_GPA, PAGE_SIZE);
}

static const char *no_dirty_ring(void)
{
	if (kvm_has_cap(KVM_CAP_DIRTY_LOG_RING) || kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL))
		return NULL;
	return "No KVM_CAP_DIRTY_LOG_RING";
}

static void setup_guest_dirty_ring(struct nc_test *t)
{
	vm_userspace_mem_region_add(t->vm, VM_MEM_SRC_ANONYMOUS, MEM_GPA, NC_MEM_SLOT,
				    NR_DIRTY_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
	virt_map(t->vm, MEM_GPA, MEM_GPA, NR_DIRTY_PAGES);
}

static void setup_dirty_ring(struct nc_test *t)
{
	t->want.gpr[RDI] = MEM_GPA;
	t->want.gpr[RCX] = NR_DIRTY_PAGES;
	t->want.gpr[RAX] = 0;
}

static void act_dirty_ring(struct nc_test *t, int part)
{
	nc_reset_dirty_ring(t);
}

/* One more page, the number of those that fit depends on the CPU. */
static void resume_dirty_ring(struct nc_test *t)
{
	t->want.gpr[RCX] = 1;
	nc_arch_set_regs(t->vcpu, &t->want);
}

static void expect_dirty_ring(struct nc_test *t)
{
	t->want.gpr[RDI] += PAGE_SIZE;
	t->want.gpr[RCX] = 0;
}

/* ---- bus locks ---- */

static const char *no_bus_lock(void)
{
	return kvm_check_cap(KVM_CAP_X86_BUS_LOCK_EXIT) & KVM_BUS_LOCK_DETECTION_EXIT ?
	       NULL : "No KVM_CAP_X86_BUS_LOCK_EXIT";
}

static const char *no_bus_lock_svm(void)
{
	return host_cpu_is_amd ? no_bus_lock() : "Not SVM";
}

static const char *no_bus_lock_vmx(void)
{
	return host_cpu_is_intel ? no_bus_lock() : "Not VMX";
}

static void create_vm_bus_lock(struct nc_test *t)
{
	t->vm = vm_create(1);
	vm_enable_cap(t->vm, KVM_CAP_X86_BUS_LOCK_EXIT, KVM_BUS_LOCK_DETECTION_EXIT);
	t->vcpu = vm_vcpu_add(t->vm, 0, NULL);
	finish_create_vm(t);
}

/* Across a cache line */
static void setup_bus_lock(struct nc_test *t)
{
	memset(buffer_hva(t), 0, PAGE_SIZE);
	t->want.gpr[RBX] = t->BUFFER + 62;
}

static void check_bus_lock(struct nc_test *t)
{
	u32 val;

	memcpy(&val, buffer_hva(t) + 62, sizeof(val));
	NC_ASSERT(t, val == 1, "incremented to %u", val);
}

#define PIO(_len)							\
	.reason = KVM_EXIT_IO,						\
	.len = _len,							\
	.check_exit = check_exit_pio,					\
	.act = act_pio

#define PIO_IN(len)							\
	PIO(len), .needs_completion = true, .setup_vcpu = setup_pio,	\
	.expect = expect_in, .check = nc_check_mmio_read

#define PIO_OUT(len)							\
	PIO(len), .needs_completion = true, .setup_vcpu = setup_pio,	\
	.check = check_written_rax

#define STRING								\
	.setup_guest = setup_buffer,					\
	.setup_vcpu = setup_string

#define INS(len)							\
	PIO(len), .needs_completion = true, STRING, .check = check_ins

#define OUTS(len)							\
	PIO(len), STRING, .check = check_outs

#define MMIO(gpa, len)							\
	NC_MMIO(gpa, len), .check_exit = nc_check_mmio

#define MMIO_LOAD(gpa, len)						\
	MMIO(gpa, len), .expect = expect_rax, .check = nc_check_mmio_read

/* KVM has retired the instruction, except for what the device has to do. */
#define MMIO_STORE(gpa, len)						\
	MMIO(gpa, len), .at_exit = NC_AT_NEXT, .check = check_written_rax

/* 8 bytes that are not aligned, and such that cross a page. */
#define UNALIGNED_GPA	(MMIO_GPA + 3)
#define SPLIT_GPA	(MMIO_GPA + PAGE_SIZE - 3)

#define NO_IRQCHIP							\
	.create_vm = create_vm_no_irqchip

const struct nc_exit nc_exits[] = {
	{ NC_GUEST_INSN(outb), PIO_OUT(1) },
	{ NC_GUEST_INSN(outw), PIO_OUT(2) },
	{ NC_GUEST_INSN(outl), PIO_OUT(4) },
	{ NC_GUEST_INSN(inb), PIO_IN(1) },
	{ NC_GUEST_INSN(inw), PIO_IN(2) },
	{ NC_GUEST_INSN(inl), PIO_IN(4) },

	/* The emulator doesn't wait for anything but data. */
	{ NC_GUEST_INSN(outsb), OUTS(1), .at_exit = NC_AT_NEXT, .expect = expect_string },
	{ NC_GUEST_INSN(rep_outsb), OUTS(1), .at_exit = NC_ANYWHERE,
	  .nr_more = NR_STRING - 1, .expect_more = expect_string },
	{ NC_GUEST_INSN(insb), INS(1), .expect = expect_string },
	/* Nothing left to do for the instruction, but KVM_RUN is what finds out. */
	{ NC_GUEST_INSN(rep_insb), INS(NR_STRING), .at_end = NC_AT_INSN,
	  .expect = expect_string },
	/* Each exit is complete in itself, KVM_RUN resumes in the instruction. */
	{ NC_GUEST_INSN(rep_insb_long), INS(NR_INS_PER_EXIT), .at_end = NC_AT_INSN,
	  .nr_more = NR_INS / NR_INS_PER_EXIT, .expect = expect_ins_part,
	  .expect_more = expect_string },

	{ NC_GUEST_INSN(load_8), MMIO_LOAD(MMIO_GPA, 1) },
	{ NC_GUEST_INSN(load_16), MMIO_LOAD(MMIO_GPA, 2) },
	{ NC_GUEST_INSN(load_32), MMIO_LOAD(MMIO_GPA, 4) },
	{ NC_GUEST_INSN(load_64), MMIO_LOAD(MMIO_GPA, 8) },
	{ NC_GUEST_INSN(load_unaligned), MMIO_LOAD(UNALIGNED_GPA, 8) },
	{ NC_GUEST_INSN(load_split), MMIO_LOAD(SPLIT_GPA, 8), .nr_parts = 2 },
	{ NC_GUEST_INSN(load_128), MMIO(MMIO_GPA, 16), .nr_parts = 2,
	  .setup_vcpu = setup_xmm, .check = check_xmm_read },
	{ NC_GUEST_INSN(store_8), MMIO_STORE(MMIO_GPA, 1) },
	{ NC_GUEST_INSN(store_16), MMIO_STORE(MMIO_GPA, 2) },
	{ NC_GUEST_INSN(store_32), MMIO_STORE(MMIO_GPA, 4) },
	{ NC_GUEST_INSN(store_64), MMIO_STORE(MMIO_GPA, 8) },
	{ NC_GUEST_INSN(store_unaligned), MMIO_STORE(UNALIGNED_GPA, 8) },
	{ NC_GUEST_INSN(store_split), MMIO_STORE(SPLIT_GPA, 8), .nr_parts = 2 },
	{ NC_GUEST_INSN(store_128), MMIO(MMIO_GPA, 16), .nr_parts = 2, .at_exit = NC_AT_NEXT,
	  .setup_vcpu = setup_xmm, .check = check_xmm_written },
	{ NC_GUEST_INSN(rmw), MMIO(MMIO_GPA, 8), .nr_parts = 2, .check = check_rmw },
	{ NC_GUEST_INSN(movs_from_mmio), MMIO(MMIO_GPA, NR_STRING), .nr_parts = NR_STRING,
	  .at_end = NC_AT_INSN, STRING, .expect = expect_string,
	  .check = check_movs_from_mmio },
	{ NC_GUEST_INSN(movs_to_mmio), MMIO(MMIO_GPA, NR_STRING), STRING,
	  .at_exit = NC_ANYWHERE, .at_end = NC_ANYWHERE, .nr_more = NR_STRING - 1,
	  .expect_more = expect_string, .check = check_movs_to_mmio },

	{ NC_GUEST_INSN(rdmsr), .reason = KVM_EXIT_X86_RDMSR, .needs_completion = true,
	  .setup_vm = setup_vm_msr, .setup_vcpu = setup_msr,
	  .check_exit = check_exit_msr, .act = act_msr, .expect = expect_rdmsr },
	{ NC_GUEST_INSN(wrmsr), .reason = KVM_EXIT_X86_WRMSR, .needs_completion = true,
	  .setup_vm = setup_vm_msr, .setup_vcpu = setup_msr,
	  .check_exit = check_exit_msr },

	{ NC_GUEST_INSN(hypercall), .reason = KVM_EXIT_HYPERCALL, .needs_completion = true,
	  .unavailable = no_hypercall_exit, .setup_vm = setup_vm_hypercall,
	  .setup_vcpu = setup_hypercall, .check_exit = check_exit_hypercall,
	  .act = act_hypercall, .expect = expect_hypercall },
	{ NC_GUEST_INSN(xen_hypercall), .reason = KVM_EXIT_XEN, .needs_completion = true,
	  .unavailable = no_xen, .setup_vm = setup_vm_xen, .setup_vcpu = setup_xen,
	  .check_exit = check_exit_xen, .act = act_xen, .expect = expect_hypercall },
	{ NC_GUEST_INSN(hyperv_hypercall), .reason = KVM_EXIT_HYPERV, .needs_completion = true,
	  .unavailable = no_hyperv, .setup_vm = setup_vm_hyperv,
	  .setup_vcpu = setup_hyperv_hypercall, .check_exit = check_exit_hyperv_hypercall,
	  .act = act_hyperv_hypercall, .expect = expect_hypercall },
	{ NC_GUEST_INSN(hyperv_syndbg), .reason = KVM_EXIT_HYPERV, .needs_completion = true,
	  .at_exit = NC_AT_NEXT, .late_answer = true,
	  .unavailable = no_hyperv, .setup_vm = setup_vm_hyperv,
	  .setup_vcpu = setup_hyperv_syndbg, .check_exit = check_exit_hyperv_syndbg,
	  .act = act_hyperv_syndbg, .check = check_hyperv_syndbg },
	/* A notification, after the fact. */
	{ NC_GUEST_INSN(hyperv_synic), .reason = KVM_EXIT_HYPERV, .at_exit = NC_AT_NEXT,
	  .unavailable = no_hyperv, .setup_vm = setup_vm_hyperv,
	  .setup_vcpu = setup_hyperv_synic, .check_exit = check_exit_hyperv_synic },
	{ NC_GUEST_INSN(hyperv_crash), .reason = KVM_EXIT_SYSTEM_EVENT, .at_exit = NC_AT_NEXT,
	  .unavailable = no_hyperv, .setup_vm = setup_vm_hyperv,
	  .setup_vcpu = setup_hyperv_crash, .check_exit = check_exit_hyperv_crash },

	{ NC_GUEST_INSN(breakpoint), .reason = KVM_EXIT_DEBUG,
	  .setup_vcpu = setup_breakpoint, .resume = nc_resume_debug },
	{ NC_GUEST_INSN(singlestep), .reason = KVM_EXIT_DEBUG, .at_exit = NC_AT_NEXT,
	  .setup_vcpu = setup_singlestep, .resume = nc_resume_debug },

	{ NC_GUEST_INSN(hlt), .reason = KVM_EXIT_HLT, .at_exit = NC_AT_NEXT, NO_IRQCHIP },
	{ NC_GUEST_INSN(irq_window), .reason = KVM_EXIT_IRQ_WINDOW_OPEN, NO_IRQCHIP,
	  .setup_vcpu = setup_irq_window, .act = act_irq_window,
	  .resume = resume_irq_window },
	{ NC_GUEST_INSN(set_tpr), .reason = KVM_EXIT_SET_TPR, .at_exit = NC_AT_NEXT, NO_IRQCHIP,
	  .setup_vcpu = setup_set_tpr },
	{ NC_GUEST_INSN(tpr_access), .reason = KVM_EXIT_TPR_ACCESS, .at_exit = NC_AT_NEXT,
	  .unavailable = no_tpr_access, .setup_guest = setup_guest_apic,
	  .setup_vcpu = setup_tpr_access,
	  .expect = expect_tpr_access, .resume = resume_tpr_access },
	{ NC_GUEST_INSN(ioapic_eoi), .reason = KVM_EXIT_IOAPIC_EOI, .at_exit = NC_AT_NEXT,
	  .create_vm = create_vm_split_irqchip, .setup_vm = setup_vm_ioapic_eoi,
	  .setup_guest = setup_guest_apic, .setup_vcpu = setup_ioapic_eoi,
	  .check_exit = check_exit_ioapic_eoi },

	{ NC_GUEST_INSN(signal), .reason = KVM_EXIT_INTR, .run = nc_run_signal },
	{ NC_GUEST_INSN(triple_fault), .reason = KVM_EXIT_SHUTDOWN, .at_exit = NC_ANYWHERE,
	  .setup_vcpu = setup_triple_fault, .resume = resume_sregs },
	{ NC_GUEST_INSN(fail_entry), .reason = KVM_EXIT_FAIL_ENTRY, .at_exit = NC_ANYWHERE,
	  .setup_vcpu = setup_fail_entry, .resume = resume_sregs },
	{ NC_GUEST_INSN(emulation_failure), .reason = KVM_EXIT_INTERNAL_ERROR,
	  .unavailable = no_emulation_failure_exit, .setup_vm = setup_vm_emulation_failure,
	  .setup_vcpu = setup_emulation_failure, .check_exit = check_exit_emulation_failure,
	  .resume = skip_insn },

	{ NC_GUEST_INSN(memory_fault), .reason = KVM_EXIT_MEMORY_FAULT,
	  .unavailable = no_memory_fault, .create_vm = create_vm_sw_protected,
	  .setup_guest = setup_guest_memory_fault, .setup_vcpu = setup_memory_fault,
	  .err = EFAULT, .resume = resume_memory_fault },
	{ NC_GUEST_INSN(dirty_ring_full), .reason = KVM_EXIT_DIRTY_RING_FULL,
	  .at_exit = NC_ANYWHERE, .unavailable = no_dirty_ring,
	  .create_vm = create_vm_dirty_ring, .setup_guest = setup_guest_dirty_ring,
	  .setup_vcpu = setup_dirty_ring, .act = act_dirty_ring,
	  .resume = resume_dirty_ring,
	  .expect_more = expect_dirty_ring },

	/* The instruction is restarted, once it is told not to exit again. */
	{ NC_GUEST_INSN(bus_lock_svm), .reason = KVM_EXIT_X86_BUS_LOCK, .needs_completion = true,
	  .at_end = NC_AT_INSN, .unavailable = no_bus_lock_svm,
	  .create_vm = create_vm_bus_lock, .setup_guest = setup_buffer,
	  .setup_vcpu = setup_bus_lock, .check = check_bus_lock },
	/* After the fact */
	{ NC_GUEST_INSN(bus_lock_vmx), .reason = KVM_EXIT_X86_BUS_LOCK, .at_exit = NC_AT_NEXT,
	  .unavailable = no_bus_lock_vmx,
	  .create_vm = create_vm_bus_lock, .setup_guest = setup_buffer,
	  .setup_vcpu = setup_bus_lock, .check = check_bus_lock },
};

const int nr_nc_exits = ARRAY_SIZE(nc_exits);

#define OTHER_ARCH(arch)	"exit of " arch

const struct nc_absent_exit nc_absent_exits[] = {
	{ KVM_EXIT_UNKNOWN, "the value that KVM_RUN starts with, not an exit" },
	{ KVM_EXIT_EXCEPTION, "VMX only, for exceptions that KVM does not ask for" },
	{ KVM_EXIT_NMI, OTHER_ARCH("powerpc") },
	{ KVM_EXIT_AP_RESET_HOLD, "needs an SEV-ES guest, not to be completed" },
	{ KVM_EXIT_NOTIFY, "VMX only, for a CPU that is stuck in microcode" },
	{ KVM_EXIT_TDX, "needs a TDX guest, to be completed" },
	{ KVM_EXIT_SNP_REQ_CERTS, "needs an SEV-SNP guest, to be completed" },
	{ KVM_EXIT_X86_INIT_SIPI, "init_sipi_exit_test produces it, to be completed" },
	{ KVM_EXIT_ARM_NISV, OTHER_ARCH("arm64") },
	{ KVM_EXIT_ARM_SEA, OTHER_ARCH("arm64") },
	{ KVM_EXIT_ARM_LDST64B, OTHER_ARCH("arm64") },
	{ KVM_EXIT_RISCV_SBI, OTHER_ARCH("riscv") },
	{ KVM_EXIT_RISCV_CSR, OTHER_ARCH("riscv") },
};

const int nr_nc_absent_exits = ARRAY_SIZE(nc_absent_exits);

#define IOCTL_GET_SET(name, type)					\
static void ioctl_##name(struct kvm_vcpu *vcpu)				\
{									\
	type val;							\
									\
	vcpu_##name##_get(vcpu, &val);					\
	vcpu_##name##_set(vcpu, &val);					\
}

IOCTL_GET_SET(regs, struct kvm_regs)
IOCTL_GET_SET(sregs, struct kvm_sregs)
IOCTL_GET_SET(events, struct kvm_vcpu_events)
IOCTL_GET_SET(debugregs, struct kvm_debugregs)
IOCTL_GET_SET(xcrs, struct kvm_xcrs)
IOCTL_GET_SET(fpu, struct kvm_fpu)

static void ioctl_state(struct kvm_vcpu *vcpu)
{
	struct kvm_x86_state *state = __vcpu_save_state(vcpu);

	vcpu_load_state(vcpu, state);
	kvm_x86_state_cleanup(state);
}

static void ioctl_lapic(struct kvm_vcpu *vcpu)
{
	struct kvm_lapic_state lapic;

	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
	vcpu_ioctl(vcpu, KVM_SET_LAPIC, &lapic);
}

static void ioctl_cpuid(struct kvm_vcpu *vcpu)
{
	vcpu_set_cpuid(vcpu);
	vcpu_get_cpuid(vcpu);
}

static void ioctl_translate(struct kvm_vcpu *vcpu)
{
	struct kvm_translation tr = { .linear_address = MMIO_GPA };

	vcpu_ioctl(vcpu, KVM_TRANSLATE, &tr);
	TEST_ASSERT_EQ(tr.physical_address, MMIO_GPA);
}

const struct nc_ioctl nc_ioctls[] = {
	NC_IOCTL(regs),
	NC_IOCTL(sregs),
	NC_IOCTL(events),
	NC_IOCTL(debugregs),
	NC_IOCTL(xcrs),
	NC_IOCTL(fpu),
	NC_IOCTL(state),
	NC_IOCTL(lapic),
	NC_IOCTL(cpuid),
	NC_IOCTL(translate),
};

const int nr_nc_ioctls = ARRAY_SIZE(nc_ioctls);

/* KVM_SYNC_X86_*: KVM_RUN stores to, and takes from, kvm_run what they ask for. */
const struct nc_range nc_arch_garbage_holes[] = {
	{ offsetof(struct kvm_run, kvm_valid_regs), sizeof(u64) },
	{ offsetof(struct kvm_run, kvm_dirty_regs), sizeof(u64) },
};

const int nr_nc_arch_garbage_holes = ARRAY_SIZE(nc_arch_garbage_holes);

/*
 * Userspace may let the access fail by what it writes to kvm_run.msr.error, i.e.
 * the guest has to expect #GP.
 */
static void guest_garbage(void)
{
	struct nc_garbage_sum s = {};
	u64 val, src, dst, count;
	u8 data[16];

	for (;;) {
		asm volatile("outl %%eax, %%dx" : : "a" (s.nr), "d" (PIO_PORT));
		asm volatile("inl %%dx, %%eax" : "=a" (val) : "d" (PIO_PORT));
		asm volatile("movq (%1), %0" : "=r" (val) : "r" (MMIO_GPA));
		asm volatile("movq %0, (%1)" : : "r" (s.sum), "r" (MMIO_GPA));
		asm volatile("movq (%1), %0" : "=r" (val) : "r" (MMIO_GPA + PAGE_SIZE - 3));
		asm volatile("movq %0, (%1)" : : "r" (s.sum), "r" (MMIO_GPA + PAGE_SIZE - 3));
		asm volatile("notb (%0)" : : "r" (MMIO_GPA));

		src = MMIO_GPA;
		dst = (u64)data;
		count = sizeof(data);
		asm volatile("rep movsb" : "+S" (src), "+D" (dst), "+c" (count) : : "memory");
		GUEST_ASSERT_EQ(src, MMIO_GPA + sizeof(data));
		GUEST_ASSERT_EQ(dst, (u64)data + sizeof(data));

		dst = (u64)data;
		count = sizeof(data);
		asm volatile("rep insb" : "+D" (dst), "+c" (count) : "d" (PIO_PORT) : "memory");
		GUEST_ASSERT_EQ(dst, (u64)data + sizeof(data));

		rdmsr_safe(MSR_NON_EXISTENT, &val);
		wrmsr_safe(MSR_NON_EXISTENT, val);
		kvm_hypercall(KVM_HC_MAP_GPA_RANGE, MMIO_GPA, 1,
			      KVM_MAP_GPA_RANGE_DECRYPTED, 0);

		nc_garbage_done(&s);
	}
}

void nc_arch_create_garbage_vm(struct nc_test *t)
{
	t->vm = vm_create_with_one_vcpu(&t->vcpu, guest_garbage);
	virt_map(t->vm, MMIO_GPA, MMIO_GPA, MMIO_NR_PAGES);
	setup_vm_msr(t);
	if (!no_hypercall_exit())
		setup_vm_hypercall(t);
}
