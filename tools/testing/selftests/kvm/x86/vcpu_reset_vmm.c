// SPDX-License-Identifier: GPL-2.0-only
/*
 * The x86 part of vcpu_reset_vmm: INIT and SIPI, the chipset's reset and sleep
 *
 * The guest is in real mode with its APIC in x2APIC mode.  The local APICs are in
 * the kernel, other interrupt controllers aren't.
 */
#include <stddef.h>

#include "vcpu_reset_vmm.h"

#define MSR_IA32_TSC	0x10

/* A chipset: the waking vector and its argument, sleep, and the reset register. */
#define PORT_WAKE	0x600
#define PORT_WAKE_ARG	0x604
#define PORT_SLEEP	0x608
#define PORT_RESET	0xcf9

const u64 arch_ram_base;
const u64 arch_guest_base = 0x10000;
const u64 arch_box_base = 0xd0000;
const u64 arch_uart_base = ~0ul;
const u64 arch_uart_status;
const u32 arch_uart_idle;
const char *const arch_cmdline;
const char *const arch_reset_name = "";
const bool arch_reset_regs = true;
const bool arch_start_returns;
const u32 arch_suspend_denied = -1;

/*
 * The guest: EBX is the argument, ESI has to be 0.  It is loaded at a page in the
 * first megabyte, which is what the number in SIPI is, and where CS points to.
 */
asm("	.pushsection .rodata, \"a\"\n"
"	.code16\n"
"	.globl	arch_guest, arch_guest_end\n"
"arch_guest:\n"
"	movw	$0xd000, %ax\n"
"	movw	%ax, %ds\n"
	/* x2APIC mode, and the ID */
"	movl	$0x1b, %ecx\n"
"	rdmsr\n"
"	orl	$0xc00, %eax\n"
"	wrmsr\n"
"	movl	$0x802, %ecx\n"
"	rdmsr\n"
"	movl	%eax, " __stringify(BOX_ID) "\n"
"	movl	%ebx, " __stringify(BOX_ARG) "\n"
"1:	movl	" __stringify(BOX_CMD) ", %eax\n"
"	cmpl	$" __stringify(CMD_NONE) ", %eax\n"
"	je	1b\n"
"	cmpl	$" __stringify(CMD_ADD) ", %eax\n"
"	je	2f\n"
"	cmpl	$" __stringify(CMD_START) ", %eax\n"
"	je	3f\n"
"	cmpl	$" __stringify(CMD_STOP) ", %eax\n"
"	je	4f\n"
"	cmpl	$" __stringify(CMD_SUSPEND) ", %eax\n"
"	je	5f\n"
"	movw	$" __stringify(PORT_RESET) ", %dx\n"
"	movb	$0x6, %al\n"
"	outb	%al, %dx\n"
"	movl	$-1, " __stringify(BOX_RESULT) "\n"
"	jmp	1b\n"
	/* A read-modify-write: the device reads as 0. */
"2:	addl	" __stringify(BOX_CMD) ", %esi\n"
"	addl	%esi, " __stringify(BOX_RESULT) "\n"
"	jmp	1b\n"
	/* INIT and SIPI to the APIC of the number, with the number of the page */
"3:	movl	" __stringify(BOX_CMD) ", %edx\n"
"	movl	" __stringify(BOX_CMD) ", %edi\n"
"	movl	" __stringify(BOX_CMD) ", %ebp\n"
"	movl	$0x830, %ecx\n"
"	movl	$0x4500, %eax\n"
"	wrmsr\n"
"	movl	%edi, %eax\n"
"	shrl	$12, %eax\n"
"	orl	$0x4600, %eax\n"
"	wrmsr\n"
"	movl	$0, " __stringify(BOX_RESULT) "\n"
"	jmp	1b\n"
"4:	cli\n"
"	hlt\n"
"	jmp	4b\n"
"5:	movl	" __stringify(BOX_CMD) ", %eax\n"
"	movw	$" __stringify(PORT_WAKE) ", %dx\n"
"	outl	%eax, %dx\n"
"	movl	" __stringify(BOX_CMD) ", %eax\n"
"	movw	$" __stringify(PORT_WAKE_ARG) ", %dx\n"
"	outl	%eax, %dx\n"
"	movw	$" __stringify(PORT_SLEEP) ", %dx\n"
"	outl	%eax, %dx\n"
"	movl	$-1, " __stringify(BOX_RESULT) "\n"
"	jmp	1b\n"
"arch_guest_end:\n"
"	.code64\n"
"	.popsection\n"
);

/* ---- What exits, and what resets ----------------------------------------- */

bool arch_has_exits(struct vm *vm)
{
	int mask = vmm_check_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET);

	return mask > 0 && mask & KVM_EXIT_ON_VCPU_RESET_INIT_SIPI;
}

void arch_init_vm(struct vm *vm)
{
	TEST_ASSERT(!vmm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, 24),
		    "KVM_CAP_SPLIT_IRQCHIP");

	if (vm->use.exits)
		TEST_ASSERT(!vmm_enable_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET,
					    KVM_EXIT_ON_VCPU_RESET_INIT_SIPI),
			    "KVM_CAP_EXIT_ON_VCPU_RESET");
}

#define MAX_CPUID	256

void arch_init_vcpu(struct vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid;
	int i;

	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));
	TEST_ASSERT(cpuid, "No memory");
	cpuid->nent = MAX_CPUID;
	vmm_ioctl(vcpu->vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);

	for (i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function == 1)
			entry->ebx = (entry->ebx & 0xffffff) | vcpu->id << 24;
		else if (entry->function == 0xb || entry->function == 0x1f)
			entry->edx = vcpu->id;
	}

	/* Configuration, which a reset keeps. */
	vmm_ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid);
	free(cpuid);
}

void arch_init_irqchip(struct vm *vm)
{
}

void arch_reset_irqchip(struct vm *vm)
{
}

/* There is nothing between KVM_MP_STATE_RESET and writing all registers. */
bool arch_has_reset(struct vm *vm)
{
	return false;
}

void arch_reset_vcpu(struct vcpu *vcpu)
{
	TEST_FAIL("No such reset");
}

/*
 * After a reset, a CPU is in real mode at the reset vector, where there is no
 * firmware.  Here it starts at the page that SIPI, or the waking vector, names.
 */
void arch_set_entry(struct vcpu *vcpu, u64 entry, u64 arg)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	vmm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
	sregs.cs.selector = entry >> 4;
	sregs.cs.base = entry;
	vmm_ioctl(vcpu->fd, KVM_SET_SREGS, &sregs);

	vmm_ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	regs.rip = 0;
	regs.rbx = arg;
	vmm_ioctl(vcpu->fd, KVM_SET_REGS, &regs);
}

/* It waits for INIT, or for SIPI. */
bool arch_is_off(struct vcpu *vcpu)
{
	u32 mp_state = vmm_get_mp_state(vcpu);

	return mp_state == KVM_MP_STATE_UNINITIALIZED ||
	       mp_state == KVM_MP_STATE_INIT_RECEIVED;
}

/* A CPU that is taken offline waits for INIT in HLT. */
bool arch_is_idle(struct vcpu *vcpu)
{
	return arch_is_off(vcpu) || vmm_get_mp_state(vcpu) == KVM_MP_STATE_HALTED;
}

bool arch_can_suspend(struct vm *vm)
{
	return true;
}

bool arch_can_deny_suspend(struct vm *vm)
{
	return true;
}

/* ---- Exits -------------------------------------------------------------- */

u32 arch_start_result(enum vmm_result result)
{
	return 0;
}

/*
 * Here it is the target that exits, which is therefore out of KVM_RUN already, and
 * the sender of the IPI has long gone on.
 *
 * If nothing is done about the exit, then KVM accepts the event with the next
 * KVM_RUN.  That is what to do about INIT: a reset that comes before the SIPI, i.e.
 * now, would drop a SIPI that is already pending.
 */
static void serve_init_sipi(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	enum vmm_result result;

	if (run->x86_init_sipi.event != KVM_X86_INIT_SIPI_EVENT_SIPI)
		return;

	result = vmm_start_vcpu(vcpu, vcpu->id,
				(u64)run->x86_init_sipi.vector << 12, 0);

	/* If it was started, then the reset has dropped the exit with the SIPI. */
	run->x86_init_sipi.discard = result != VMM_OK;
}

static void serve_port(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct vm *vm = vcpu->vm;
	u32 value = 0;

	TEST_ASSERT(run->io.direction == KVM_EXIT_IO_OUT && run->io.count == 1,
		    "Port 0x%x", run->io.port);
	memcpy(&value, (void *)run + run->io.data_offset, run->io.size);

	/*
	 * What the chipset does about the CPU is what firmware calls do elsewhere.
	 * KVM_MP_STATE_RESET drops the OUT, which isn't completed then.
	 */
	switch (run->io.port) {
	case PORT_WAKE:
		vm->wake_entry = value;
		break;
	case PORT_WAKE_ARG:
		vm->wake_arg = value;
		break;
	case PORT_SLEEP:
		/* If it isn't suspended, then the guest sees that it goes on. */
		vmm_suspend(vcpu, vm->wake_entry, vm->wake_arg);
		break;
	case PORT_RESET:
		vmm_reset_machine(vm, vcpu);
		break;
	default:
		TEST_FAIL("Port 0x%x", run->io.port);
	}
}

bool arch_handle_exit(struct vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_X86_INIT_SIPI:
		serve_init_sipi(vcpu);
		break;
	case KVM_EXIT_IO:
		serve_port(vcpu);
		break;
	case KVM_EXIT_SHUTDOWN:
		/* Triple fault: many a guest reboots that way. */
		vmm_reset_machine(vcpu->vm, vcpu);
		break;
	default:
		return false;
	}

	return true;
}

/* ---- State -------------------------------------------------------------- */

#define MAX_MSRS	1024

struct x86_state {
	struct kvm_vcpu_events events;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	unsigned int nr_msrs;
	struct kvm_msr_entry msrs[MAX_MSRS];
};

static int access_msr(struct vcpu *vcpu, unsigned long cmd,
		      struct kvm_msr_entry *entry)
{
	struct {
		struct kvm_msrs msrs;
		struct kvm_msr_entry entry;
	} buffer = {
		.msrs.nmsrs = 1,
		.entry = *entry,
	};
	int ret = __vmm_ioctl(vcpu->fd, cmd, &buffer);

	*entry = buffer.entry;

	return ret;
}

/*
 * For a guest that makes use of more, there is more: KVM_GET_XSAVE2,
 * KVM_GET_NESTED_STATE, KVM_GET_CLOCK of the VM, ...
 */
void *arch_save_vcpu(struct vcpu *vcpu)
{
	struct x86_state *state = calloc(1, sizeof(*state));
	struct {
		struct kvm_msr_list list;
		u32 indices[MAX_MSRS];
	} msrs = { .list.nmsrs = MAX_MSRS };
	int i;

	TEST_ASSERT(state, "No memory");
	vmm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &state->events);
	vmm_ioctl(vcpu->fd, KVM_GET_REGS, &state->regs);
	vmm_ioctl(vcpu->fd, KVM_GET_SREGS, &state->sregs);
	vmm_ioctl(vcpu->fd, KVM_GET_XSAVE, &state->xsave);
	vmm_ioctl(vcpu->fd, KVM_GET_XCRS, &state->xcrs);
	vmm_ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &state->debugregs);
	vmm_ioctl(vcpu->fd, KVM_GET_LAPIC, &state->lapic);

	vmm_ioctl(vcpu->vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &msrs);
	for (i = 0; i < msrs.list.nmsrs; i++) {
		struct kvm_msr_entry entry = { .index = msrs.list.indices[i] };

		/* KVM lists some that this guest doesn't have. */
		if (access_msr(vcpu, KVM_GET_MSRS, &entry) == 1)
			state->msrs[state->nr_msrs++] = entry;
	}

	return state;
}

/* The APIC after its mode, which is in APIC_BASE, and events after all else. */
void arch_restore_vcpu(struct vcpu *vcpu, void *data, bool clocks)
{
	struct x86_state *state = data;
	int i;

	vmm_ioctl(vcpu->fd, KVM_SET_SREGS, &state->sregs);
	vmm_ioctl(vcpu->fd, KVM_SET_REGS, &state->regs);
	vmm_ioctl(vcpu->fd, KVM_SET_XCRS, &state->xcrs);
	vmm_ioctl(vcpu->fd, KVM_SET_XSAVE, &state->xsave);
	vmm_ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &state->debugregs);
	for (i = 0; i < state->nr_msrs; i++) {
		struct kvm_msr_entry old = { .index = state->msrs[i].index };

		if (!clocks && arch_is_clock(old.index))
			continue;

		/* What is configuration has been configured, and may be final. */
		if (access_msr(vcpu, KVM_GET_MSRS, &old) == 1 &&
		    old.data == state->msrs[i].data)
			continue;

		TEST_ASSERT(access_msr(vcpu, KVM_SET_MSRS, &state->msrs[i]) == 1,
			    "Can't write MSR 0x%x", old.index);
	}
	vmm_ioctl(vcpu->fd, KVM_SET_LAPIC, &state->lapic);
	vmm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &state->events);
}

void arch_free_vcpu(void *data)
{
	free(data);
}

bool arch_is_clock(u64 id)
{
	return id == MSR_IA32_TSC;
}

void arch_add_nodes(struct vm *vm)
{
}
