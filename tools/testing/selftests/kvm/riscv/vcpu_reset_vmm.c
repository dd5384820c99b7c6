// SPDX-License-Identifier: GPL-2.0-only
/*
 * The riscv part of vcpu_reset_vmm: SBI HSM hart_start, SUSP and SRST
 */
#include <stddef.h>

#include "vcpu_reset_vmm.h"
#include "sbi.h"

#define SBI_EXT_HSM			0x48534d
#define SBI_EXT_HSM_HART_START		0
#define SBI_EXT_SUSP			0x53555350
#define SBI_EXT_SUSP_SYSTEM_SUSPEND	0

#define REG_ID(type, index)	(KVM_REG_RISCV | KVM_REG_SIZE_U64 | (type) | (index))
#define CORE_REG(name)							\
	REG_ID(KVM_REG_RISCV_CORE, KVM_REG_RISCV_CORE_REG(name))
#define CONFIG_REG(name)						\
	REG_ID(KVM_REG_RISCV_CONFIG, KVM_REG_RISCV_CONFIG_REG(name))
#define TIMER_REG(name)							\
	REG_ID(KVM_REG_RISCV_TIMER, KVM_REG_RISCV_TIMER_REG(name))
#define SBI_EXT_REG(ext)						\
	REG_ID(KVM_REG_RISCV_SBI_EXT, KVM_REG_RISCV_SBI_SINGLE | (ext))

const u64 arch_ram_base = 0x80000000;
const u64 arch_guest_base = 0x80000000;
const u64 arch_box_base = 0x10001000;
const u64 arch_uart_base = 0x10000000;
/* LSR of an ns16550: THRE and TEMT */
const u64 arch_uart_status = 5;
const u32 arch_uart_idle = 0x60;
const char *const arch_cmdline = "earlycon=uart8250,mmio,0x10000000";
const char *const arch_reset_name = "KVM_MP_STATE_INIT_RECEIVED";
const bool arch_reset_regs = true;
const bool arch_start_returns = true;
const u32 arch_suspend_denied = SBI_ERR_DENIED;

/*
 * The guest: a0 and a1 are those that it was started with, all other registers
 * are 0, s1 in particular.
 */
asm("	.pushsection .rodata, \"a\"\n"
"	.option push\n"
"	.option norvc\n"
"	.option norelax\n"
"	.balign 8\n"
"	.globl	arch_guest, arch_guest_end\n"
"arch_guest:\n"
"	lui	s0, 0x10001\n"
"	sw	a0, " __stringify(BOX_ID) "(s0)\n"
"	sw	a1, " __stringify(BOX_ARG) "(s0)\n"
"1:	lwu	s2, " __stringify(BOX_CMD) "(s0)\n"
"	beqz	s2, 1b\n"
"	li	t0, " __stringify(CMD_ADD) "\n"
"	beq	s2, t0, 2f\n"
"	li	t0, " __stringify(CMD_START) "\n"
"	beq	s2, t0, 3f\n"
"	li	t0, " __stringify(CMD_STOP) "\n"
"	beq	s2, t0, 4f\n"
"	li	t0, " __stringify(CMD_SUSPEND) "\n"
"	beq	s2, t0, 5f\n"
	/* SRST: cold reboot */
"	li	a0, 1\n"
"	li	a1, 0\n"
"	li	a6, 0\n"
"	li	a7, 0x53525354\n"
"	j	6f\n"
"2:	lwu	t0, " __stringify(BOX_CMD) "(s0)\n"
"	add	s1, s1, t0\n"
"	sw	s1, " __stringify(BOX_RESULT) "(s0)\n"
"	j	1b\n"
"3:	lwu	a0, " __stringify(BOX_CMD) "(s0)\n"
"	lwu	a1, " __stringify(BOX_CMD) "(s0)\n"
"	lwu	a2, " __stringify(BOX_CMD) "(s0)\n"
"	li	a6, 0\n"
"	li	a7, 0x48534d\n"
"	j	6f\n"
"4:	li	a6, 1\n"
"	li	a7, 0x48534d\n"
"	j	6f\n"
"5:	li	a0, 0\n"
"	lwu	a1, " __stringify(BOX_CMD) "(s0)\n"
"	lwu	a2, " __stringify(BOX_CMD) "(s0)\n"
"	li	a6, 0\n"
"	li	a7, 0x53555350\n"
"6:	ecall\n"
"	sw	a0, " __stringify(BOX_RESULT) "(s0)\n"
"	j	1b\n"
"arch_guest_end:\n"
"	.option pop\n"
"	.popsection\n"
);

#define EXITS	(KVM_EXIT_ON_VCPU_RESET_HART_START | KVM_EXIT_ON_VCPU_RESET_SUSP)

bool arch_has_exits(struct vm *vm)
{
	return (vmm_check_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET) & EXITS) == EXITS;
}

void arch_init_vm(struct vm *vm)
{
	/* Unless asked to, KVM serves hart_start and resets the caller of SUSP. */
	if (vm->use.exits)
		TEST_ASSERT(!vmm_enable_cap(vm, KVM_CAP_EXIT_ON_VCPU_RESET, EXITS),
			    "KVM_CAP_EXIT_ON_VCPU_RESET");
}

/*
 * KVM_MP_STATE_INIT_RECEIVED.  Not all kernels that have it report it in
 * KVM_CHECK_EXTENSION: enabling it tells.
 */
bool arch_has_reset(struct vm *vm)
{
	return !vmm_enable_cap(vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
}

void arch_init_vcpu(struct vcpu *vcpu)
{
	u64 on = 1;
	struct kvm_one_reg susp = {
		.id = SBI_EXT_REG(KVM_RISCV_SBI_EXT_SUSP),
		.addr = (u64)&on,
	};

	/* SUSP is off by default, as it is userspace that implements it. */
	__vmm_ioctl(vcpu->fd, KVM_SET_ONE_REG, &susp);

	/* What the hart ID of the boot CPU is, and that it starts, is up to us. */
	if (vcpu->id)
		vmm_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
}

/* There is none: harts have a timer and IPIs of their own. */
void arch_init_irqchip(struct vm *vm)
{
}

void arch_reset_irqchip(struct vm *vm)
{
}

/*
 * This resets all registers and keeps the MP state, which is therefore set to what
 * KVM_MP_STATE_RESET sets it to.
 */
void arch_reset_vcpu(struct vcpu *vcpu)
{
	vmm_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	vmm_set_mp_state(vcpu, vcpu->id ? KVM_MP_STATE_STOPPED :
					  KVM_MP_STATE_RUNNABLE);
}

/* What the SBI specification, and the boot protocol of Linux, ask for. */
void arch_set_entry(struct vcpu *vcpu, u64 entry, u64 arg)
{
	vmm_set_reg(vcpu, CORE_REG(regs.pc), entry);
	vmm_set_reg(vcpu, CORE_REG(regs.a0), vcpu->id);
	vmm_set_reg(vcpu, CORE_REG(regs.a1), arg);
}

bool arch_is_off(struct vcpu *vcpu)
{
	return vmm_get_mp_state(vcpu) == KVM_MP_STATE_STOPPED;
}

bool arch_is_idle(struct vcpu *vcpu)
{
	return arch_is_off(vcpu);
}

bool arch_can_suspend(struct vm *vm)
{
	u64 on = 0;
	struct kvm_one_reg susp = {
		.id = SBI_EXT_REG(KVM_RISCV_SBI_EXT_SUSP),
		.addr = (u64)&on,
	};

	return !__vmm_ioctl(vm->vcpus[0].fd, KVM_GET_ONE_REG, &susp) && on;
}

/* Without the bit, KVM resets the caller whatever we return. */
bool arch_can_deny_suspend(struct vm *vm)
{
	return vm->use.exits;
}

u32 arch_start_result(enum vmm_result result)
{
	static const int errors[] = {
		[VMM_OK]		= SBI_SUCCESS,
		[VMM_DENIED]		= SBI_ERR_DENIED,
		[VMM_NO_SUCH_CPU]	= SBI_ERR_INVALID_PARAM,
		[VMM_ALREADY_ON]	= SBI_ERR_ALREADY_AVAILABLE,
	};

	return errors[result];
}

bool arch_handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	unsigned long *args = run->riscv_sbi.args;
	long result;

	if (run->exit_reason != KVM_EXIT_RISCV_SBI)
		return false;

	switch (run->riscv_sbi.extension_id) {
	case SBI_EXT_HSM:
		TEST_ASSERT_EQ(run->riscv_sbi.function_id, SBI_EXT_HSM_HART_START);
		result = (int)arch_start_result(vmm_start_vcpu(vcpu, args[0],
							       args[1], args[2]));
		break;
	case SBI_EXT_SUSP:
		TEST_ASSERT_EQ(run->riscv_sbi.function_id,
			       SBI_EXT_SUSP_SYSTEM_SUSPEND);
		/*
		 * The reset has dropped the exit: there is nothing to answer.
		 * Without KVM_EXIT_ON_VCPU_RESET_SUSP, KVM resets the caller once
		 * more, to the same state, and it does so whatever is answered.
		 */
		if (vmm_suspend(vcpu, args[1], args[2]))
			return true;
		result = SBI_ERR_DENIED;
		break;
	default:
		/* Legacy console etc. */
		result = SBI_ERR_NOT_SUPPORTED;
		break;
	}

	/*
	 * The answer is in kvm_run, i.e. the exit needs to be completed.  If the
	 * caller was reset while we were busy, then KVM doesn't look at it.
	 */
	run->riscv_sbi.ret[0] = result;
	run->riscv_sbi.ret[1] = 0;

	return true;
}

void *arch_save_vcpu(struct vcpu *vcpu)
{
	return vmm_save_regs(vcpu);
}

void arch_restore_vcpu(struct vcpu *vcpu, void *state, bool clocks)
{
	vmm_restore_regs(vcpu, state, clocks);
}

void arch_free_vcpu(void *state)
{
	free(state);
}

/* The time is the VM's. */
bool arch_is_clock(u64 id)
{
	return id == TIMER_REG(time);
}

void arch_add_nodes(struct vm *vm)
{
	u64 isa = vmm_get_reg(&vm->vcpus[0], CONFIG_REG(isa));
	char string[16] = "rv64";
	const char *ext;
	int i;

	i = strlen(string);
	for (ext = "imafdcv"; *ext; ext++) {
		if (isa & 1ul << (*ext - 'a'))
			string[i++] = *ext;
	}

	fdt_begin("cpus");
	fdt_cells("#address-cells", 1, 1);
	fdt_cells("#size-cells", 1, 0);
	fdt_cells("timebase-frequency", 1,
		  (u32)vmm_get_reg(&vm->vcpus[0], TIMER_REG(frequency)));
	for (i = 0; i < vm->nr_vcpus; i++) {
		fdt_begin("cpu@%x", i);
		fdt_string("device_type", "cpu");
		fdt_string("compatible", "riscv");
		fdt_cells("reg", 1, i);
		fdt_string("riscv,isa", string);
		fdt_string("mmu-type", "riscv,sv39");
		fdt_begin("interrupt-controller");
		fdt_string("compatible", "riscv,cpu-intc");
		fdt_cells("#interrupt-cells", 1, 1);
		fdt_empty("interrupt-controller");
		fdt_end();
		fdt_end();
	}
	fdt_end();
}
