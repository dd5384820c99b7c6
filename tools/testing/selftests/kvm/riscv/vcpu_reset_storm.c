// SPDX-License-Identifier: GPL-2.0-only
/*
 * The riscv part of vcpu_reset_storm: SBI HSM and SUSP, IPIs, and an IMSIC in
 * hardware, in software, a bit of both, or none
 */
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "sbi.h"
#include "vcpu_reset_storm.h"

#define SBI_EXT_TIME		0x54494d45
#define SBI_EXT_IPI		0x735049
#define SBI_EXT_RFENCE		0x52464e43
#define SBI_EXT_HSM		0x48534d
#define SBI_EXT_HSM_HART_START	0
#define SBI_EXT_HSM_HART_STOP	1
#define SBI_EXT_HSM_HART_STATUS	2
#define SBI_EXT_HSM_HART_SUSPEND	3
#define SBI_EXT_SUSP		0x53555350

#define SIP_SSIP		BIT(1)
#define SIP_STIP		BIT(5)
#define SIP_SEIP		BIT(9)

#define IMSIC_GPA		0x28000000ul
#define IMSIC_SIZE		0x1000ul
#define IMSIC_EIDELIVERY	0x70
#define IMSIC_EITHRESHOLD	0x72
#define IMSIC_EIP0		0x80
#define IMSIC_EIE0		0xc0

/* One identity for each sender, and one that is never enabled. */
#define ID_SENDER0		1
#define ID_SELF			62
#define ID_MASK			GENMASK(ID_SENDER0 + STORM_SENDERS - 1, ID_SENDER0)

const char * const arch_storm_modes[] = {
	"no AIA",
	"AIA, with interrupt files in software",
	"AIA, with interrupt files in hardware if there are any",
	NULL
};

static const u32 aia_modes[] = {
	-1u,
	KVM_DEV_RISCV_AIA_MODE_EMUL,
	/* With HWACCEL, a vCPU may find no file for as long as others run. */
	KVM_DEV_RISCV_AIA_MODE_AUTO,
};

enum {
	COUNT_SUSPENDED_KVM,
	COUNT_SUSPENDED_USER,
	COUNT_DENIED,
	COUNT_FAILED,
};

const char * const arch_storm_counts[] = {
	[COUNT_SUSPENDED_KVM] = "system suspends, resumed by KVM",
	[COUNT_SUSPENDED_USER] = "system suspends, resumed by userspace",
	[COUNT_DENIED] = "system suspends, denied by userspace",
	[COUNT_FAILED] = "system suspends, without an answer of userspace",
	NULL
};

enum {
	KIND_IPI,
	KIND_MSI,
	KIND_EXT,	/* KVM_INTERRUPT, of userspace alone */
};

/* What there is to be checked */
enum {
	FLAG_AIA	= BIT(1),
	FLAG_SSTC	= BIT(2),
	/* To hart 0, which is alone: suspend the system. */
	FLAG_SUSPEND	= BIT(3),
};

#define BOOT_DATA		(STORM_GPA + 0x8000)

struct boot_data {
	u64 satp, gp, sp, stvec, entry;
	u64 pad[3];
};

/* Indices of struct storm_frame.regs */
enum {
	A0 = 10, A1,
	SSTATUS = 32, SIE, SATP, SSCRATCH, STVEC, SCAUSE, STVAL, SEPC, SIP,
	SCOUNTEREN, FCSR, F0,
	NR_REGS = F0 + 32,
};

extern const char storm_boot[], storm_boot_end[];
asm("	.pushsection .text, \"ax\"\n"
"	.option push\n"
"	.option norvc\n"
"	.balign 64\n"
"	.globl	storm_boot, storm_boot_end\n"
"storm_boot:\n"
"	.irp	i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
"	sd	x\\i, 8 * \\i(a1)\n"
"	.endr\n"
"	.set	slot, 32\n"
"	.irp	csr, sstatus, sie, satp, sscratch, stvec, scause, stval, sepc, sip, scounteren\n"
"	csrr	t0, \\csr\n"
"	sd	t0, 8 * slot(a1)\n"
"	.set	slot, slot + 1\n"
"	.endr\n"
	/* SR_FS_INITIAL */
"	li	t0, 1 << 13\n"
"	csrs	sstatus, t0\n"
"	frcsr	t0\n"
"	sd	t0, 8 * slot(a1)\n"
"	.irp	i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
"	.set	slot, slot + 1\n"
"	fmv.x.d	t0, f\\i\n"
"	sd	t0, 8 * slot(a1)\n"
"	.endr\n"
"	li	t0, " __stringify(BOOT_DATA) "\n"
"	slli	t1, a0, 6\n"
"	add	t0, t0, t1\n"
"	ld	gp, 8(t0)\n"
"	ld	sp, 16(t0)\n"
"	ld	t2, 24(t0)\n"
"	ld	t3, 32(t0)\n"
"	ld	t1, 0(t0)\n"
"	csrw	stvec, t2\n"
"	csrw	sscratch, a0\n"
"	sfence.vma\n"
"	csrw	satp, t1\n"
"	sfence.vma\n"
"	jr	t3\n"
"storm_boot_end:\n"
"	.option pop\n"
"	.popsection\n"
);

u64 arch_storm_toggles = KVM_EXIT_ON_VCPU_RESET_HART_START |
			 KVM_EXIT_ON_VCPU_RESET_SUSP;

/* What others can change between a reset and the look at it. */
const struct vcpu_state_rule arch_storm_volatile[] = {
	{ "core.pc",		"started by another hart" },
	{ "core.a[01]",		"started by another hart" },
	{ "mp_state",		"started by another hart" },
	{ "csr.sip",		"interrupts" },
	{ "aia_csr.siph",	"interrupts" },
	{ "imsic.eip*",		"interrupts" },
	{ "csr.sstatus",	"shown with what the host has" },
	{}
};

/* ---- The guest ---- */

static unsigned long imsic_read(unsigned long isel)
{
	csr_write(CSR_SISELECT, isel);

	return csr_read(CSR_SIREG);
}

static void imsic_write(unsigned long isel, unsigned long val)
{
	csr_write(CSR_SISELECT, isel);
	csr_write(CSR_SIREG, val);
}

static void send_msi(u64 target, u32 id)
{
	asm volatile("fence iorw, iorw" : : : "memory");
	WRITE_ONCE(*(u32 *)(IMSIC_GPA + target * IMSIC_SIZE), id);
}

int guest_arch_start(u64 id, u64 target, u64 arg, u64 *epoch)
{
	struct sbiret ret = sbi_ecall(SBI_EXT_HSM, SBI_EXT_HSM_HART_START, target,
				      STORM_GPA, arg, 0, 0, 0);

	GUEST_STORM_ASSERT(!ret.error || ret.error == SBI_ERR_ALREADY_AVAILABLE ||
			   ret.error == SBI_ERR_FAILURE, id, target, ret.error);

	return ret.error;
}

void guest_arch_stop(u64 id)
{
	sbi_ecall(SBI_EXT_HSM, SBI_EXT_HSM_HART_STOP, 0, 0, 0, 0, 0, 0);
}

void guest_arch_send(u64 kind, u64 id, u64 target)
{
	if (kind == KIND_MSI)
		send_msi(target, ID_SENDER0 + id);
	else
		sbi_ecall(SBI_EXT_IPI, 0, BIT(target), 0, 0, 0, 0, 0);
}

void guest_arch_poll(u64 id, bool sleep)
{
	unsigned long sip, topei;
	int i;

	if (sleep)
		asm volatile("wfi" : : : "memory");

	sip = csr_read(CSR_SIP);
	if (sip & SIP_SSIP) {
		csr_clear(CSR_SIP, SIP_SSIP);
		asm volatile("fence iorw, iorw" : : : "memory");
		for (i = 0; i < STORM_CPUS; i++)
			guest_storm_ack(id, KIND_IPI, i);
	}

	if (!(storm_guest->flags & FLAG_AIA)) {
		if (sip & SIP_SEIP)
			guest_storm_ack(id, KIND_EXT, STORM_USER);
		return;
	}

	while ((topei = csr_swap(CSR_STOPEI, 0))) {
		topei >>= 16;
		GUEST_STORM_ASSERT(topei >= ID_SENDER0 && topei < ID_SENDER0 + STORM_SENDERS,
				   id, topei, 0);
		asm volatile("fence iorw, iorw" : : : "memory");
		guest_storm_ack(id, KIND_MSI, topei - ID_SENDER0);
	}
}

u64 guest_arch_time(void)
{
	u64 time;

	asm volatile("fence iorw, iorw\n\trdtime %0\n\tfence iorw, iorw"
		     : "=r" (time) : : "memory");

	return time;
}

/* Who resumes does so as if started: this life ends, unless the call returns. */
static void guest_suspend(u64 id)
{
	struct storm_cpu_mem *me = &storm_guest->cpu[id];
	u64 up = me->up, arg;
	struct storm_frame *frame = guest_storm_new_start(id, &arg);
	u64 n = frame->start;
	struct sbiret ret;
	u8 state;

	__atomic_store_n(&me->up, 0, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&me->epoch, 2, __ATOMIC_SEQ_CST);
	ret = sbi_ecall(SBI_EXT_SUSP, 0, 0, STORM_GPA, arg, 0, 0, 0);

	/* Userspace has refused, or there are others. */
	state = __atomic_exchange_n(&storm_guest->start[n], START_REFUSED, __ATOMIC_SEQ_CST);
	GUEST_STORM_ASSERT(state == START_PENDING, id, n, state);
	GUEST_STORM_ASSERT(ret.error == SBI_ERR_DENIED || ret.error == SBI_ERR_FAILURE,
			   id, n, ret.error);
	__atomic_store_n(&me->up, up, __ATOMIC_SEQ_CST);
}

void guest_arch_begin(u64 id, struct storm_frame *frame)
{
	/* SIE, SPIE, SPP, FS, VS, SUM, MXR */
	u64 sstatus = 0xc6722;
	int i;

	for (i = 1; i < NR_REGS; i++) {
		u64 val = frame->regs[i];

		if (i == A0)
			GUEST_STORM_ASSERT(val == id, id, i, val);
		else if (i == A1)
			GUEST_STORM_ASSERT(val == (u64)frame, id, i, val);
		else if (i == SSTATUS)
			GUEST_STORM_ASSERT(!(val & sstatus), id, i, val);
		else if (i == SIP)
			GUEST_STORM_ASSERT(!(val & SIP_STIP), id, i, val);
		else
			GUEST_STORM_ASSERT(!val, id, i, val);
	}

	if (storm_guest->flags & FLAG_AIA) {
		GUEST_STORM_ASSERT(!imsic_read(IMSIC_EIDELIVERY), id, IMSIC_EIDELIVERY, 0);
		GUEST_STORM_ASSERT(!imsic_read(IMSIC_EITHRESHOLD), id, IMSIC_EITHRESHOLD, 0);
		GUEST_STORM_ASSERT(!imsic_read(IMSIC_EIE0), id, IMSIC_EIE0, 0);
		GUEST_STORM_ASSERT(!(imsic_read(IMSIC_EIP0) & BIT(ID_SELF)), id, IMSIC_EIP0, 0);
		imsic_write(IMSIC_EIE0, ID_MASK);
		imsic_write(IMSIC_EIDELIVERY, 1);
	}

	/* What is pending ends WFI, but nothing traps with sstatus.SIE clear. */
	csr_write(CSR_SIE, IE_SIE | IE_EIE);

	if (!id && __atomic_fetch_and(&storm_guest->flags, ~(u64)FLAG_SUSPEND,
				      __ATOMIC_SEQ_CST) & FLAG_SUSPEND)
		guest_suspend(id);
}

void guest_arch_dirty(u64 id, u64 random)
{
	struct sbiret ret;
	u64 target = random >> 8 & 7;

	switch (random & 15) {
	case 0:
		csr_write(CSR_SSCRATCH, random);
		csr_write(CSR_SEPC, random & ~3ul);
		csr_write(CSR_SCAUSE, random);
		csr_write(CSR_STVAL, random);
		break;
	case 1:
		csr_write(CSR_SCOUNTEREN, 7);
		csr_set(CSR_SSTATUS, SR_SUM | SR_SPIE);
		break;
	case 2:
		/* Is up, but not enabled. */
		sbi_ecall(SBI_EXT_TIME, 0, 0, 0, 0, 0, 0, 0);
		break;
	case 3:
		if (storm_guest->flags & FLAG_SSTC)
			csr_write(CSR_STIMECMP, guest_arch_time() + (random & 0xffff));
		break;
	case 4 ... 5:
		if (storm_guest->flags & FLAG_AIA)
			send_msi(id, ID_SELF);
		break;
	case 6:
		if (storm_guest->flags & FLAG_AIA)
			imsic_write(IMSIC_EITHRESHOLD, 63);
		break;
	case 7 ... 8:
		asm volatile("fmv.d.x f8, %0\n\tfmv.d.x f31, %0\n\tfscsr %0"
			     : : "r" (random | 1));
		break;
	case 9:
		sbi_ecall(SBI_EXT_RFENCE, random >> 12 & 1, random >> 16 & 0xff, 0,
			  STORM_GPA, random & 0x30000, 0, 0);
		break;
	case 10:
		ret = sbi_ecall(SBI_EXT_HSM, SBI_EXT_HSM_HART_STATUS, target, 0, 0, 0, 0, 0);
		GUEST_STORM_ASSERT(!ret.error && (target != id || !ret.value), id, target,
				   ret.value);
		break;
	case 11:
		/* WFI, with an interrupt for sure */
		if (storm_guest->kinds & BIT(KIND_IPI)) {
			sbi_ecall(SBI_EXT_IPI, 0, BIT(id), 0, 0, 0, 0, 0);
			sbi_ecall(SBI_EXT_HSM, SBI_EXT_HSM_HART_SUSPEND, 0, 0, 0, 0, 0, 0);
		}
		break;
	case 12:
		/* Others are running, or it isn't there: refused */
		ret = sbi_ecall(SBI_EXT_HSM, SBI_EXT_HSM_HART_START, STORM_CPUS + target,
				STORM_GPA, 0, 0, 0, 0);
		GUEST_STORM_ASSERT(ret.error == SBI_ERR_INVALID_PARAM, id, target, ret.error);
		break;
	case 13:
		ret = sbi_ecall(SBI_EXT_HSM, SBI_EXT_HSM_HART_START, id, STORM_GPA, 0, 0, 0, 0);
		GUEST_STORM_ASSERT(ret.error == SBI_ERR_ALREADY_AVAILABLE, id, target, ret.error);
		break;
	case 15:
		if (random & 0x1000) {
			guest_suspend(id);
			break;
		}
		/* There is one type of sleep, and no memory at 0. */
		ret = sbi_ecall(SBI_EXT_SUSP, 0, !(random & 0x2000), random << 32, 0, 0, 0, 0);
		GUEST_STORM_ASSERT(ret.error == (random & 0x2000 ? SBI_ERR_INVALID_ADDRESS :
								   SBI_ERR_INVALID_PARAM),
				   id, target, ret.error);
		break;
	case 14:
		/* A page of the VM, for stolen time */
		sbi_ecall(SBI_EXT_STA, 0, STORM_FLAKY_GPA, 0, 0, 0, 0, 0);
		break;
	}
}

/* ---- Userspace ---- */

void arch_storm_require(void)
{
}

static void aia_set(int fd, u32 group, u64 attr, u64 val)
{
	kvm_device_attr_set(fd, group, attr, &val);
}

u64 arch_storm_user_kinds;

/* That of the device, -1 without it */
static u32 aia_mode;

static int create_aia(struct kvm_vm *vm, u32 mode)
{
	int fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	int i;

	if (__kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG,
				  KVM_DEV_RISCV_AIA_CONFIG_MODE, &mode)) {
		mode = KVM_DEV_RISCV_AIA_MODE_EMUL;
		aia_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG,
			KVM_DEV_RISCV_AIA_CONFIG_MODE, mode);
	}
	aia_mode = mode;
	aia_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS,
		KVM_DEV_RISCV_AIA_IDS_MIN);
	aia_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG,
		KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, 3);
	for (i = 0; i < STORM_CPUS; i++)
		aia_set(fd, KVM_DEV_RISCV_AIA_GRP_ADDR,
			KVM_DEV_RISCV_AIA_ADDR_IMSIC(i),
			IMSIC_GPA + i * IMSIC_SIZE);
	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CTRL,
			    KVM_DEV_RISCV_AIA_CTRL_INIT, NULL);

	return fd;
}

static bool has_aia(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	int ret = __kvm_test_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);

	kvm_vm_free(vm);

	return !ret;
}

void arch_storm_create(u32 *rng)
{
	u32 mode = aia_modes[storm.mode];
	struct kvm_vm *vm;
	int i;

	vm = __vm_create(VM_SHAPE_DEFAULT, STORM_CPUS, 512);
	storm.vm = vm;
	storm_add_memory(vm, storm_boot, storm_boot_end - storm_boot);
	virt_map(vm, IMSIC_GPA, IMSIC_GPA, STORM_CPUS);

	for (i = 0; i < STORM_CPUS; i++) {
		struct boot_data *data = addr_gpa2hva(vm, BOOT_DATA + i * sizeof(*data));
		struct kvm_vcpu *vcpu = vm_vcpu_add(vm, i, guest_storm_life);

		data->satp = vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(satp));
		data->gp = vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.gp));
		data->sp = vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.sp));
		data->stvec = vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(stvec));
		data->entry = (u64)guest_storm_life;
		storm.cpus[i].vcpu = vcpu;
		vcpu_set_reg(vcpu, RISCV_SBI_EXT_REG(KVM_RISCV_SBI_EXT_SUSP), 1);
	}

	storm.mem->kinds = BIT(KIND_IPI);
	if (__vcpu_has_ext(storm.cpus[0].vcpu,
			   RISCV_ISA_EXT_REG(KVM_RISCV_ISA_EXT_SSTC)))
		storm.mem->flags |= FLAG_SSTC;
	if (mode != -1u && has_aia()) {
		vm->arch.aia_fd = create_aia(vm, mode);
		vm->arch.has_aia = true;
		storm.mem->flags |= FLAG_AIA;
		storm.mem->kinds |= BIT(KIND_MSI);
	} else {
		aia_mode = -1u;
	}

	arch_storm_user_kinds = storm.vm->arch.has_aia ? BIT(KIND_MSI) : BIT(KIND_EXT);
	pr_info("# AIA mode %d\n", (int)aia_mode);

	/* Sleep at once. */
	if (kvm_check_cap(KVM_CAP_HALT_POLL) && storm_random(rng) % 2)
		vm_enable_cap(vm, KVM_CAP_HALT_POLL, 0);
	vm_enable_cap(vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
}

static struct {
	struct kvm_saved_regs *regs;
	u64 imsic[4];
	u32 mp_state;
} saved[STORM_CPUS];

static const unsigned long imsic_regs[] = {
	IMSIC_EIDELIVERY, IMSIC_EITHRESHOLD, IMSIC_EIE0, IMSIC_EIP0,
};

void arch_storm_save(void)
{
	u64 i, r;

	for (i = 0; i < STORM_CPUS; i++) {
		saved[i].regs = vcpu_save_reg_list(storm.cpus[i].vcpu);
		for (r = 0; r < ARRAY_SIZE(imsic_regs) && storm.vm->arch.has_aia; r++)
			kvm_device_attr_get(storm.vm->arch.aia_fd, KVM_DEV_RISCV_AIA_GRP_IMSIC,
					    KVM_DEV_RISCV_AIA_IMSIC_MKATTR(i, imsic_regs[r]),
					    &saved[i].imsic[r]);
		saved[i].mp_state = vcpu_get_mp_state(storm.cpus[i].vcpu);
	}
	if (storm.vm->arch.has_aia)
		close(storm.vm->arch.aia_fd);
}

void arch_storm_restore(void)
{
	u64 i, r;

	if (storm.vm->arch.has_aia)
		storm.vm->arch.aia_fd = create_aia(storm.vm, aia_mode);
	vm_enable_cap(storm.vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);

	for (i = 0; i < STORM_CPUS; i++) {
		for (r = 0; r < saved[i].regs->n; r++) {
			struct kvm_one_reg reg = {
				.id = saved[i].regs->reg[r].id,
				.addr = (u64)saved[i].regs->reg[r].data,
			};

			/* Some are constants. */
			__vcpu_ioctl(storm.cpus[i].vcpu, KVM_SET_ONE_REG, &reg);
		}
		free(saved[i].regs);
		if (storm_sabotage == BREAK_MIGRATION) {
			vcpu_set_reg(storm.cpus[i].vcpu, RISCV_GENERAL_CSR_REG(sip), 0);
			saved[i].imsic[ARRAY_SIZE(imsic_regs) - 1] = 0;
		}
		for (r = 0; r < ARRAY_SIZE(imsic_regs) && storm.vm->arch.has_aia; r++)
			kvm_device_attr_set(storm.vm->arch.aia_fd, KVM_DEV_RISCV_AIA_GRP_IMSIC,
					    KVM_DEV_RISCV_AIA_IMSIC_MKATTR(i, imsic_regs[r]),
					    &saved[i].imsic[r]);
		vcpu_set_mp_state(storm.cpus[i].vcpu, saved[i].mp_state);
	}
}

void arch_storm_free(void)
{
	if (storm.vm->arch.has_aia)
		close(storm.vm->arch.aia_fd);
}

void arch_storm_boot_entry(struct kvm_vcpu *vcpu, u64 entry, u64 arg)
{
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.pc), entry);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.a0), vcpu->id);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.a1), arg);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
}

void arch_storm_boot(struct kvm_vcpu *vcpu, u64 arg)
{
	if (arg)
		arch_storm_boot_entry(vcpu, STORM_GPA, arg);
	else
		vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
}

void arch_storm_break(struct kvm_vcpu *vcpu)
{
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sepc), 0x1d1);
}

static bool is_alone(struct storm_cpu *cpu)
{
	bool alone = true;
	int i;

	for (i = 0; i < STORM_CPUS; i++) {
		if (&storm.cpus[i] != cpu)
			storm_pause_locked(&storm.cpus[i]);
	}
	for (i = 0; i < STORM_CPUS; i++) {
		if (&storm.cpus[i] != cpu) {
			alone &= arch_storm_stopped(&storm.cpus[i]);
			storm_resume_locked(&storm.cpus[i]);
		}
	}

	return alone;
}

/* The lock is held, and dropped as long as the system sleeps. */
static void serve_suspend(struct storm_cpu *cpu)
{
	struct kvm_run *run = cpu->vcpu->run;
	u64 gen = cpu->gen, entry = run->riscv_sbi.args[1], arg = run->riscv_sbi.args[2];
	u64 answer = arg / sizeof(struct storm_frame) % 4;
	/* Whom KVM leaves it to doesn't change with the capability. */
	bool toggled = storm.toggled, alone;

	pthread_mutex_unlock(&storm.lock);
	storm_sleep_us(answer * 100);
	pthread_mutex_lock(&storm.lock);
	alone = !toggled || is_alone(cpu);

	if (cpu->gen != gen)
		return;

	if (!toggled) {
		storm_count(COUNT_SUSPENDED_KVM);
	} else if (storm_sabotage == BREAK_ARCH) {
		run->riscv_sbi.ret[0] = SBI_SUCCESS;
	} else if (!answer) {
		storm_count(COUNT_FAILED);
	} else if (answer == 1 || !alone) {
		storm_count(COUNT_DENIED);
		run->riscv_sbi.ret[0] = SBI_ERR_DENIED;
	} else {
		storm_count(COUNT_SUSPENDED_USER);
		vcpu_set_mp_state(cpu->vcpu, KVM_MP_STATE_RESET);
		arch_storm_boot_entry(cpu->vcpu, entry, arg);
	}
}

bool arch_storm_exit(struct storm_cpu *cpu)
{
	struct kvm_run *run = cpu->vcpu->run;
	u64 gen = cpu->gen;
	bool ok;

	if (run->exit_reason == KVM_EXIT_RISCV_SBI &&
	    run->riscv_sbi.extension_id == SBI_EXT_SUSP) {
		serve_suspend(cpu);
		return true;
	}

	if (run->exit_reason != KVM_EXIT_RISCV_SBI ||
	    run->riscv_sbi.extension_id != SBI_EXT_HSM ||
	    run->riscv_sbi.function_id != SBI_EXT_HSM_HART_START) {
		if (run->exit_reason == KVM_EXIT_RISCV_SBI)
			pr_info("# SBI call 0x%lx, %lu\n", run->riscv_sbi.extension_id,
				run->riscv_sbi.function_id);
		return false;
	}

	ok = storm_serve_start(cpu, run->riscv_sbi.args[0], run->riscv_sbi.args[1],
			       run->riscv_sbi.args[2]);
	if (cpu->gen == gen)
		run->riscv_sbi.ret[0] = ok ? SBI_SUCCESS : SBI_ERR_ALREADY_AVAILABLE;

	return true;
}

void arch_storm_send(u64 kind, u64 target)
{
	struct kvm_vcpu *vcpu = storm.cpus[target].vcpu;
	struct kvm_msi msi = {
		.address_lo = IMSIC_GPA + target * IMSIC_SIZE,
		.data = ID_SENDER0 + STORM_USER,
	};
	struct kvm_interrupt irq;

	switch (kind) {
	case KIND_MSI:
		/* The number of IMSICs that it was delivered to, or 0 */
		__vm_ioctl(storm.vm, KVM_SIGNAL_MSI, &msi);
		break;
	case KIND_EXT:
		irq.irq = KVM_INTERRUPT_UNSET;
		vcpu_ioctl(vcpu, KVM_INTERRUPT, &irq);
		irq.irq = KVM_INTERRUPT_SET;
		vcpu_ioctl(vcpu, KVM_INTERRUPT, &irq);
		break;
	}
}

/* See imsic_wfi_test: QEMU's TCG has hgeip and hgeie without mip.SGEIP. */
bool arch_storm_may_be_late(u64 kind)
{
	return kind == KIND_MSI && aia_mode != KVM_DEV_RISCV_AIA_MODE_EMUL;
}

/* The AIA's device attributes wait for no vCPU, but lock them all. */
static void do_read_aia(u32 *rng)
{
	static const unsigned long isel[] = {
		IMSIC_EIDELIVERY, IMSIC_EITHRESHOLD, IMSIC_EIP0, IMSIC_EIE0,
	};
	int id = storm_random(rng) % STORM_CPUS;
	u64 val;

	if (!storm.vm->arch.has_aia)
		return;

	storm_pause_all();
	__kvm_device_attr_get(storm.vm->arch.aia_fd, KVM_DEV_RISCV_AIA_GRP_IMSIC,
			      KVM_DEV_RISCV_AIA_IMSIC_MKATTR((u64)id, isel[storm_random(rng) % 4]),
			      &val);
	storm_resume_all();
}

/* Without looking who is running, with what is there already */
static void do_rude_aia(u32 *rng)
{
	int id = storm_random(rng) % STORM_CPUS;
	u64 val;

	if (storm.vm->arch.has_aia)
		__kvm_device_attr_get(storm.vm->arch.aia_fd, KVM_DEV_RISCV_AIA_GRP_IMSIC,
				      KVM_DEV_RISCV_AIA_IMSIC_MKATTR((u64)id, IMSIC_EIE0), &val);
}

/* Save and restore the registers in place, in the order of the list. */
static void do_restore(u32 *rng)
{
	struct storm_cpu *cpu = storm_any_cpu(rng);
	struct kvm_saved_regs *saved;
	char name[VCPU_STATE_NAME_LEN];
	u64 i;

	/* Nobody may start it in between. */
	storm_pause_all();
	saved = vcpu_save_reg_list(cpu->vcpu);
	for (i = 0; i < saved->n; i++) {
		struct kvm_one_reg reg = {
			.id = saved->reg[i].id,
			.addr = (u64)saved->reg[i].data,
		};

		/* IPIs arrive meanwhile. */
		vcpu_state_reg_name(reg.id, name, sizeof(name));
		if (vcpu_state_match(vcpu_state_clocks, name) || !strcmp(name, "csr.sip"))
			continue;
		__vcpu_ioctl(cpu->vcpu, KVM_SET_ONE_REG, &reg);
	}
	free(saved);
	storm_resume_all();
}

/* The older reset keeps the MP state. */
static void init_received(struct kvm_vcpu *vcpu)
{
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
}

static void do_init_received(u32 *rng)
{
	storm_dirty_and_reset(rng, init_received);
}

/* A machine of which only hart 0 runs, which suspends it at once. */
static void do_suspend(u32 *rng)
{
	storm_pause_all();
	__atomic_fetch_or(&storm.mem->flags, FLAG_SUSPEND, __ATOMIC_SEQ_CST);
	storm_reset_all(0);
	storm_resume_all();
}

const struct storm_action arch_storm_actions[] = {
	{ "read IMSIC", 1, do_read_aia },
	{ "read IMSIC of running vCPUs", 1, do_rude_aia },
	{ "restore registers", 3, do_restore },
	{ "INIT_RECEIVED", 2, do_init_received },
	{ "system suspend", 2, do_suspend },
	{}
};
