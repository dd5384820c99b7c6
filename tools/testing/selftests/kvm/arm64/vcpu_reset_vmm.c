// SPDX-License-Identifier: GPL-2.0-only
/*
 * The arm64 part of vcpu_reset_vmm: PSCI CPU_ON, SYSTEM_SUSPEND and SYSTEM_RESET
 */
#include <stddef.h>

#include <linux/arm-smccc.h>
#include <linux/psci.h>

#include "vcpu_reset_vmm.h"

#define CORE_REG(name)							\
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |		\
	 KVM_REG_ARM_CORE_REG(name))

#define GICD_BASE	0x08000000ul
#define GICR_BASE	0x080a0000ul
#define NR_IRQS		64

const u64 arch_ram_base = 0x40000000;
const u64 arch_guest_base = 0x40000000;
const u64 arch_box_base = 0x10001000;
const u64 arch_uart_base = 0x09000000;
/* FR of a PL011: TXFE and RXFE */
const u64 arch_uart_status = 0x18;
const u32 arch_uart_idle = 0x90;
const char *const arch_cmdline = "earlycon=pl011,0x09000000";
const char *const arch_reset_name = "KVM_ARM_VCPU_INIT";
/* There is KVM_ARM_VCPU_INIT.  ID registers become final when a vCPU runs. */
const bool arch_reset_regs;
const bool arch_start_returns = true;
const u32 arch_suspend_denied = PSCI_RET_DENIED;

/*
 * The guest: x0 is the argument, all other registers are 0, x20 in particular.  It
 * tells its number from MPIDR_EL1.
 */
asm("	.pushsection .rodata, \"a\"\n"
"	.balign 8\n"
"	.globl	arch_guest, arch_guest_end\n"
"arch_guest:\n"
"	mov	w19, #0x1000\n"
"	movk	w19, #0x1000, lsl #16\n"
"	mrs	x1, mpidr_el1\n"
"	and	w1, w1, #0xff\n"
"	str	w1, [x19, #" __stringify(BOX_ID) "]\n"
"	str	w0, [x19, #" __stringify(BOX_ARG) "]\n"
"1:	ldr	w21, [x19, #" __stringify(BOX_CMD) "]\n"
"	cbz	w21, 1b\n"
"	cmp	w21, #" __stringify(CMD_ADD) "\n"
"	b.eq	2f\n"
"	cmp	w21, #" __stringify(CMD_START) "\n"
"	b.eq	3f\n"
"	cmp	w21, #" __stringify(CMD_STOP) "\n"
"	b.eq	4f\n"
"	cmp	w21, #" __stringify(CMD_SUSPEND) "\n"
"	b.eq	5f\n"
	/* SYSTEM_RESET */
"	mov	w0, #0x0009\n"
"	movk	w0, #0x8400, lsl #16\n"
"	b	6f\n"
"2:	ldr	w0, [x19, #" __stringify(BOX_CMD) "]\n"
"	add	w20, w20, w0\n"
"	str	w20, [x19, #" __stringify(BOX_RESULT) "]\n"
"	b	1b\n"
"3:	ldr	w1, [x19, #" __stringify(BOX_CMD) "]\n"
"	ldr	w2, [x19, #" __stringify(BOX_CMD) "]\n"
"	ldr	w3, [x19, #" __stringify(BOX_CMD) "]\n"
"	mov	w0, #0x0003\n"
"	movk	w0, #0xc400, lsl #16\n"
"	b	6f\n"
"4:	mov	w0, #0x0002\n"
"	movk	w0, #0x8400, lsl #16\n"
"	b	6f\n"
"5:	ldr	w1, [x19, #" __stringify(BOX_CMD) "]\n"
"	ldr	w2, [x19, #" __stringify(BOX_CMD) "]\n"
"	mov	w0, #0x000e\n"
"	movk	w0, #0xc400, lsl #16\n"
"6:	hvc	#0\n"
"	str	w0, [x19, #" __stringify(BOX_RESULT) "]\n"
"	b	1b\n"
"arch_guest_end:\n"
"	.popsection\n"
);

/* ---- What exits, and what resets ----------------------------------------- */

static int forward_to_us(struct vm *vm, u32 function)
{
	struct kvm_smccc_filter filter = {
		.base = function,
		.nr_functions = 1,
		.action = KVM_SMCCC_FILTER_FWD_TO_USER,
	};
	struct kvm_device_attr attr = {
		.group = KVM_ARM_VM_SMCCC_CTRL,
		.attr = KVM_ARM_VM_SMCCC_FILTER,
		.addr = (u64)&filter,
	};

	return __vmm_ioctl(vm->fd, KVM_SET_DEVICE_ATTR, &attr);
}

/* arm64 has no KVM_CAP_EXIT_ON_VCPU_RESET, as there are these two. */
bool arch_has_exits(struct vm *vm)
{
	struct kvm_device_attr attr = {
		.group = KVM_ARM_VM_SMCCC_CTRL,
		.attr = KVM_ARM_VM_SMCCC_FILTER,
	};

	return !__vmm_ioctl(vm->fd, KVM_HAS_DEVICE_ATTR, &attr) &&
	       vmm_check_cap(vm, KVM_CAP_ARM_SYSTEM_SUSPEND) > 0;
}

/* The filter is final once a vCPU has run: this is the time to set it. */
void arch_init_vm(struct vm *vm)
{
	if (!vm->use.exits)
		return;

	/* A guest may use either of them. */
	TEST_ASSERT(!forward_to_us(vm, PSCI_0_2_FN_CPU_ON), "SMCCC filter");
	TEST_ASSERT(!forward_to_us(vm, PSCI_0_2_FN64_CPU_ON), "SMCCC filter");
	TEST_ASSERT(!vmm_enable_cap(vm, KVM_CAP_ARM_SYSTEM_SUSPEND, 0),
		    "KVM_CAP_ARM_SYSTEM_SUSPEND");
}

static void init_vcpu(struct vcpu *vcpu)
{
	struct kvm_vcpu_init init;

	vmm_ioctl(vcpu->vm->fd, KVM_ARM_PREFERRED_TARGET, &init);
	init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
	/* The MP state after KVM_MP_STATE_RESET is what is chosen here. */
	if (vcpu->id)
		init.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
	vmm_ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init);
}

void arch_init_vcpu(struct vcpu *vcpu)
{
	init_vcpu(vcpu);
}

bool arch_has_reset(struct vm *vm)
{
	return true;
}

/* The features have to be the same each time. */
void arch_reset_vcpu(struct vcpu *vcpu)
{
	init_vcpu(vcpu);
}

void arch_set_entry(struct vcpu *vcpu, u64 entry, u64 arg)
{
	vmm_set_reg(vcpu, CORE_REG(regs.pc), entry);
	vmm_set_reg(vcpu, CORE_REG(regs.regs[0]), arg);
}

bool arch_is_off(struct vcpu *vcpu)
{
	return vmm_get_mp_state(vcpu) == KVM_MP_STATE_STOPPED;
}

bool arch_is_idle(struct vcpu *vcpu)
{
	return arch_is_off(vcpu);
}

/* KVM doesn't suspend by itself.  It tells the guest that there is no such call. */
bool arch_can_suspend(struct vm *vm)
{
	return vm->use.exits;
}

bool arch_can_deny_suspend(struct vm *vm)
{
	return vm->use.exits;
}

/* ---- Exits -------------------------------------------------------------- */

u32 arch_start_result(enum vmm_result result)
{
	static const int errors[] = {
		[VMM_OK]		= PSCI_RET_SUCCESS,
		[VMM_DENIED]		= PSCI_RET_DENIED,
		[VMM_NO_SUCH_CPU]	= PSCI_RET_INVALID_PARAMS,
		[VMM_ALREADY_ON]	= PSCI_RET_ALREADY_ON,
	};

	return errors[result];
}

/*
 * The answer to a call is in registers of the caller.  There is nothing that KVM
 * completes, but it must not get into another life.
 */
static void answer(struct vcpu *vcpu, unsigned int life, long result)
{
	int i;

	if (vcpu->lives != life)
		return;

	vmm_set_reg(vcpu, CORE_REG(regs.regs[0]), result);
	/* As KVM does, for the results that SMCCC has and this call hasn't. */
	for (i = 1; i < 4; i++)
		vmm_set_reg(vcpu, CORE_REG(regs.regs[0]) + i * 2, 0);
}

/* Everything but the number of the function is in registers of the caller. */
static void serve_call(struct vcpu *vcpu)
{
	unsigned int life = vcpu->lives;
	u64 args[3];
	enum vmm_result result;
	int i;

	for (i = 0; i < 3; i++)
		args[i] = vmm_get_reg(vcpu, CORE_REG(regs.regs[0]) + (i + 1) * 2);

	/* The 32 bit function takes the lower halves of registers. */
	if (vcpu->run->hypercall.nr == PSCI_0_2_FN_CPU_ON) {
		for (i = 0; i < 3; i++)
			args[i] = (u32)args[i];
	} else if (vcpu->run->hypercall.nr != PSCI_0_2_FN64_CPU_ON) {
		answer(vcpu, life, SMCCC_RET_NOT_SUPPORTED);
		return;
	}

	/*
	 * KVM has not looked at the arguments.  The target is named by its MPIDR,
	 * which is the number of the vCPU for the first 16.
	 */
	result = vmm_start_vcpu(vcpu, args[0], args[1], args[2]);
	answer(vcpu, life, (int)arch_start_result(result));
}

static void serve_suspend(struct vcpu *vcpu)
{
	unsigned int life = vcpu->lives;
	u64 entry = vmm_get_reg(vcpu, CORE_REG(regs.regs[1]));
	u64 arg = vmm_get_reg(vcpu, CORE_REG(regs.regs[2]));

	/*
	 * With a GIC in the kernel, KVM can wait for an interrupt: set
	 * KVM_MP_STATE_SUSPENDED in place of RUNNABLE, KVM_RUN then returns with
	 * KVM_SYSTEM_EVENT_WAKEUP.  The reset leaves the GIC alone.
	 */
	if (!vmm_suspend(vcpu, entry, arg))
		answer(vcpu, life, PSCI_RET_DENIED);
}

bool arch_handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason == KVM_EXIT_HYPERCALL)
		serve_call(vcpu);
	else if (run->exit_reason == KVM_EXIT_SYSTEM_EVENT &&
		 run->system_event.type == KVM_SYSTEM_EVENT_SUSPEND)
		serve_suspend(vcpu);
	else
		return false;

	return true;
}

/* ---- State -------------------------------------------------------------- */

struct arm64_state {
	struct kvm_vcpu_events events;
	struct vmm_regs *regs;
};

/*
 * The state of a GIC in the kernel is saved with that of the device, see
 * Documentation/virt/kvm/devices/arm-vgic-v3.rst.
 */
void *arch_save_vcpu(struct vcpu *vcpu)
{
	struct arm64_state *state = calloc(1, sizeof(*state));

	TEST_ASSERT(state, "No memory");
	vmm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &state->events);
	state->regs = vmm_save_regs(vcpu);

	return state;
}

void arch_restore_vcpu(struct vcpu *vcpu, void *data, bool clocks)
{
	struct arm64_state *state = data;

	vmm_restore_regs(vcpu, state->regs, clocks);
	vmm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &state->events);
}

void arch_free_vcpu(void *data)
{
	struct arm64_state *state = data;

	if (state)
		free(state->regs);
	free(state);
}

/* The counters of the timers are the VM's. */
bool arch_is_clock(u64 id)
{
	return id == KVM_REG_ARM_TIMER_CNT || id == KVM_REG_ARM_PTIMER_CNT;
}

/* ---- Linux -------------------------------------------------------------- */

static void set_gic_attr(struct vm *vm, u32 group, u64 nr, void *value)
{
	struct kvm_device_attr attr = {
		.group = group,
		.attr = nr,
		.addr = (u64)value,
	};

	vmm_ioctl(vm->irqchip_fd, KVM_SET_DEVICE_ATTR, &attr);
}

/* The test's own guest has no interrupts. */
void arch_init_irqchip(struct vm *vm)
{
	struct kvm_create_device gic = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
	u64 dist = GICD_BASE, redist = GICR_BASE;
	u32 nr_irqs = NR_IRQS;

	if (!vm->kernel)
		return;

	vmm_ioctl(vm->fd, KVM_CREATE_DEVICE, &gic);
	vm->irqchip_fd = gic.fd;
	set_gic_attr(vm, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &nr_irqs);
	set_gic_attr(vm, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &dist);
	set_gic_attr(vm, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST,
		     &redist);
	set_gic_attr(vm, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
}

static void write_gic(struct vm *vm, u32 group, u64 nr, u32 value)
{
	set_gic_attr(vm, group, nr, &value);
}

#define GICD_CTLR	0x000
#define GICR_SGI_BASE	0x10000
/* In both, for SGIs and PPIs in the redistributor */
#define ICENABLER	0x180
#define ISPENDR		0x200
#define ICACTIVER	0x380

/*
 * A reset of a vCPU leaves the GIC alone: it is a device, which is reset when the
 * machine is.  There is no request for that, so write its registers.  This is what is
 * enough for Linux, which sets up the rest: nothing enabled, pending or active.
 *
 * ISPENDR takes the value here, and ICPENDR is ignored, unlike in hardware.
 */
void arch_reset_irqchip(struct vm *vm)
{
	u32 dist = KVM_DEV_ARM_VGIC_GRP_DIST_REGS;
	u32 redist = KVM_DEV_ARM_VGIC_GRP_REDIST_REGS;
	int i;

	if (vm->irqchip_fd < 0)
		return;

	write_gic(vm, dist, GICD_CTLR, 0);
	for (i = 1; i < NR_IRQS / 32; i++) {
		write_gic(vm, dist, ICENABLER + i * 4, ~0);
		write_gic(vm, dist, ISPENDR + i * 4, 0);
		write_gic(vm, dist, ICACTIVER + i * 4, ~0);
	}
	for (i = 0; i < vm->nr_vcpus; i++) {
		u64 base = (u64)i << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT | GICR_SGI_BASE;

		write_gic(vm, redist, base + ICENABLER, ~0);
		write_gic(vm, redist, base + ISPENDR, 0);
		write_gic(vm, redist, base + ICACTIVER, ~0);
	}
}

#define PHANDLE_GIC	1

void arch_add_nodes(struct vm *vm)
{
	int i;

	fdt_begin("psci");
	fdt_string("compatible", "arm,psci-1.0");
	fdt_string("method", "hvc");
	fdt_end();

	fdt_begin("cpus");
	fdt_cells("#address-cells", 1, 1);
	fdt_cells("#size-cells", 1, 0);
	for (i = 0; i < vm->nr_vcpus; i++) {
		fdt_begin("cpu@%x", i);
		fdt_string("device_type", "cpu");
		fdt_string("compatible", "arm,armv8");
		fdt_string("enable-method", "psci");
		fdt_cells("reg", 1, i);
		fdt_end();
	}
	fdt_end();

	fdt_begin("interrupt-controller@%lx", GICD_BASE);
	fdt_string("compatible", "arm,gic-v3");
	fdt_cells("#interrupt-cells", 1, 3);
	fdt_empty("interrupt-controller");
	fdt_cells("reg", 8, 0, (u32)GICD_BASE, 0, 0x10000,
		  0, (u32)GICR_BASE, 0, vm->nr_vcpus * 0x20000);
	fdt_cells("phandle", 1, PHANDLE_GIC);
	fdt_end();

	/* PPIs, active high */
	fdt_begin("timer");
	fdt_string("compatible", "arm,armv8-timer");
	fdt_cells("interrupt-parent", 1, PHANDLE_GIC);
	fdt_cells("interrupts", 12, 1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4);
	fdt_empty("always-on");
	fdt_end();
}
