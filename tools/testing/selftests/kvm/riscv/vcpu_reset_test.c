// SPDX-License-Identifier: GPL-2.0-only
/*
 * The riscv part of vcpu_reset_test: what a vCPU can be reset from
 */
#include <linux/bits.h>
#include <signal.h>
#include <time.h>

#include "arch_timer.h"
#include "processor.h"
#include "sbi.h"
#include "vcpu_reset_test.h"

/* A VM without an in-kernel AIA, e.g. for exits that KVM handles otherwise. */
#define NO_AIA			RESET_ARCH_FLAG
/* The interrupt files are emulated even if there are some in hardware. */
#define AIA_EMUL		RESET_ARCH_FLAG2

#define IMSIC_GPA		0x28000000ul
#define NR_IDS			63

#define CSR_SEED		0x015

#define SBI_EXT_TIME		0x54494D45
#define SBI_EXT_IPI		0x735049
#define SBI_EXT_RFENCE		0x52464E43
#define SBI_EXT_HSM		0x48534d
#define SBI_EXT_SRST		0x53525354
#define SBI_EXT_SUSP		0x53555350
#define SBI_EXT_FWFT		0x46574654

#define SBI_RFENCE_REMOTE_FENCE_I	0
#define SBI_RFENCE_REMOTE_SFENCE_VMA	1
#define SBI_SRST_RESET_TYPE_COLD_REBOOT	1
#define SBI_ERR_NO_SHMEM	-9

#define MVENDORID		0x5eed

#define GPR(i)	__kvm_reg_id(KVM_REG_RISCV_CORE, 0, i, KVM_REG_SIZE_ULONG)
#define NR_GPRS	32

static bool guest_has_v;
static bool guest_has_pmu;
static bool guest_has_sta;
static bool guest_has_aia;

/* ---- The vCPU and its configuration ------------------------------------- */

void arch_requirements(void)
{
}

struct kvm_vm *arch_vm_create(struct reset_env *env, u32 nr_vcpus)
{
	u64 nr_pages = env->c->flags & RESET_DIRTY_RING ? 2048 : 256;
	struct kvm_vm *vm = __vm_create(VM_SHAPE_DEFAULT, nr_vcpus, nr_pages);

	/* The one that keeps the power state, on the same code. */
	vm_enable_cap(vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);

	if (!(env->c->flags & NO_AIA) &&
	    !__kvm_test_create_device(vm, KVM_DEV_TYPE_RISCV_AIA)) {
		vm->arch.aia_fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
		vm->arch.has_aia = true;
	}

	return vm;
}

struct kvm_vcpu *arch_vcpu_create(struct reset_env *env, u32 id)
{
	struct kvm_vcpu *vcpu = __vm_vcpu_add(env->vm, id);

	/* Values that are nobody's default. */
	vcpu_set_reg(vcpu, RISCV_CONFIG_REG(mvendorid), MVENDORID);
	vcpu_set_reg(vcpu, RISCV_SBI_EXT_REG(KVM_RISCV_SBI_EXT_VENDOR), 0);
	if (__vcpu_has_isa_ext(vcpu, KVM_RISCV_ISA_EXT_SVADU))
		__vcpu_set_reg(vcpu, RISCV_ISA_EXT_REG(KVM_RISCV_ISA_EXT_SVADU), 0);
	/* Not there unless userspace asks for it. */
	__vcpu_set_reg(vcpu, RISCV_SBI_EXT_REG(KVM_RISCV_SBI_EXT_SUSP), 1);

	return vcpu;
}

static void aia_config(int fd, u64 attr, u32 value)
{
	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG, attr, &value);
}

static void init_aia(struct reset_env *env)
{
	int fd = env->vm->arch.aia_fd;
	u32 nr = 0, bits = 0;
	struct kvm_vcpu *vcpu;
	u64 addr;

	list_for_each_entry(vcpu, &env->vm->vcpus, list)
		nr++;
	while ((1u << bits) < nr)
		bits++;

	if (env->c->flags & AIA_EMUL)
		aia_config(fd, KVM_DEV_RISCV_AIA_CONFIG_MODE,
			   KVM_DEV_RISCV_AIA_MODE_EMUL);
	aia_config(fd, KVM_DEV_RISCV_AIA_CONFIG_IDS, NR_IDS);
	aia_config(fd, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, bits);
	aia_config(fd, KVM_DEV_RISCV_AIA_CONFIG_GUEST_BITS, 0);

	list_for_each_entry(vcpu, &env->vm->vcpus, list) {
		addr = IMSIC_GPA + vcpu->id * KVM_DEV_RISCV_IMSIC_SIZE;
		kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_ADDR,
				    KVM_DEV_RISCV_AIA_ADDR_IMSIC(vcpu->id), &addr);
	}

	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CTRL,
			    KVM_DEV_RISCV_AIA_CTRL_INIT, NULL);
}

void arch_vm_finalize(struct reset_env *env)
{
	struct kvm_vcpu *vcpu = env->vcpu;

	if (env->vm->arch.has_aia)
		init_aia(env);

	write_guest_global(env->vm, guest_has_v,
			   __vcpu_has_isa_ext(vcpu, KVM_RISCV_ISA_EXT_V));
	write_guest_global(env->vm, guest_has_pmu,
			   __vcpu_has_isa_ext(vcpu, KVM_RISCV_ISA_EXT_SSCOFPMF) &&
			   __vcpu_has_sbi_ext(vcpu, KVM_RISCV_SBI_EXT_PMU));
	write_guest_global(env->vm, guest_has_sta,
			   __vcpu_has_sbi_ext(vcpu, KVM_RISCV_SBI_EXT_STA));
	write_guest_global(env->vm, guest_has_aia, env->vm->arch.has_aia);
}

void arch_vm_free(struct reset_env *env)
{
	if (env->vm->arch.has_aia)
		close(env->vm->arch.aia_fd);
}

static void copy_reg(struct kvm_vcpu *from, struct kvm_vcpu *to, u64 id)
{
	vcpu_set_reg(to, id, vcpu_get_reg(from, id));
}

void arch_boot(struct reset_env *env, struct kvm_vcpu *vcpu, gva_t stack,
	       void *guest_code, u64 arg)
{
	int i;

	for (i = 1; i < NR_GPRS; i++)
		vcpu_set_reg(vcpu, GPR(i), 0);

	copy_reg(env->helper, vcpu, RISCV_CORE_REG(regs.gp));
	copy_reg(env->helper, vcpu, RISCV_GENERAL_CSR_REG(satp));
	copy_reg(env->helper, vcpu, RISCV_GENERAL_CSR_REG(stvec));
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sscratch), vcpu->id);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.sp), stack);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.a0), arg);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.pc), (u64)guest_code);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
}

void arch_remap(struct reset_env *env, gva_t gva, gpa_t gpa)
{
	virt_arch_pg_map(env->vm, gva, gpa);
}

void arch_copy_vcpu(struct kvm_vcpu *from, struct kvm_vcpu *to)
{
	vcpu_run_complete_io(from);

	vcpu_copy_reg_list(from, to);
	vcpu_set_mp_state(to, vcpu_get_mp_state(from));
}

/* ---- What the guest does ------------------------------------------------- */

static void guest_fill_fp(void)
{
	csr_set(CSR_SSTATUS, SR_FS);
	asm volatile("fmv.d.x	f0, %0\n\t"
		     "fmv.d.x	f15, %0\n\t"
		     "fmv.d.x	f31, %0\n\t"
		     "csrw	fcsr, %1\n\t"
		     : : "r" (0x5eed5eed5eed5eedul), "r" (0x61ul));
}

static void guest_fill_vector(void)
{
	csr_set(CSR_SSTATUS, SR_VS);
	asm volatile(".option push\n\t"
		     ".option arch, +v\n\t"
		     "vsetvli	t0, x0, e64, m1, ta, ma\n\t"
		     "vmv.v.x	v0, %0\n\t"
		     "vmv.v.x	v15, %0\n\t"
		     "vmv.v.x	v31, %0\n\t"
		     ".option pop\n\t"
		     : : "r" (0x5eed5eed5eed5eedul) : "t0");
}

static unsigned long guest_counter_mask(void)
{
	struct sbiret ret;

	ret = sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_NUM_COUNTERS, 0, 0, 0, 0, 0, 0);
	GUEST_ASSERT_EQ(ret.error, 0);

	return ret.value < 64 ? (1ul << ret.value) - 1 : -1ul;
}

/* Without an event there is no such CSR, as KVM has nothing to read. */
static bool guest_can_read_cycle(void)
{
	unsigned long ok = 0;

	asm volatile("	la	t0, 1f\n"
		     "	csrrw	t0, stvec, t0\n"
		     "	csrr	t1, cycle\n"
		     "	li	%0, 1\n"
		     "	.balign	4\n"
		     "1:	csrw	stvec, t0\n"
		     : "+r" (ok) : : "t0", "t1", "memory");

	return ok;
}

static void guest_start_counters(gpa_t snapshot_gpa)
{
	unsigned long mask = guest_counter_mask();
	struct sbiret ret;

	ret = sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_SNAPSHOT_SET_SHMEM, snapshot_gpa,
			0, 0, 0, 0, 0);
	GUEST_ASSERT_EQ(ret.error, 0);

	/* Cycles, and how often the timer is set. */
	ret = sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_COUNTER_CFG_MATCH, 0, 1,
			SBI_PMU_CFG_FLAG_CLEAR_VALUE | SBI_PMU_CFG_FLAG_AUTO_START,
			SBI_PMU_HW_CPU_CYCLES, 0, 0);
	GUEST_ASSERT_EQ(ret.error, 0);
	GUEST_ASSERT(guest_can_read_cycle());
	ret = sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_COUNTER_CFG_MATCH, 0, mask,
			SBI_PMU_CFG_FLAG_CLEAR_VALUE | SBI_PMU_CFG_FLAG_AUTO_START,
			SBI_PMU_EVENT_TYPE_FW << 16 | SBI_PMU_FW_SET_TIMER, 0, 0);
	GUEST_ASSERT_EQ(ret.error, 0);
}

void arch_guest_first_life(gva_t scratch_gva, gpa_t scratch_gpa)
{
	guest_fill_fp();
	if (guest_has_v)
		guest_fill_vector();
	if (guest_has_pmu)
		guest_start_counters(scratch_gpa + 4096);
	if (guest_has_sta)
		sbi_ecall(SBI_EXT_STA, 0, scratch_gpa, 0, 0, 0, 0, 0);

	/* Interrupts are off, these stay pending. */
	sbi_ecall(SBI_EXT_TIME, 0, csr_read(CSR_TIME) + 1000, 0, 0, 0, 0, 0);
	sbi_ecall(SBI_EXT_IPI, 0, 1ul << guest_get_vcpuid(), 0, 0, 0, 0, 0);
	sbi_ecall(SBI_EXT_FWFT, 0, 0, 1, 0, 0, 0, 0);

	csr_write(CSR_SIE, IE_SIE | IE_TIE | IE_EIE);
	csr_write(CSR_SEPC, 0x1234560);
	csr_write(CSR_SCAUSE, 5);
	csr_write(CSR_STVAL, 0x5eed);
	csr_write(CSR_SCOUNTEREN, 5);
	csr_set(CSR_SSTATUS, SR_SUM);

	if (guest_has_aia) {
		csr_write(CSR_SISELECT, 0x70);
		csr_write(CSR_SIREG, 1);
		csr_write(CSR_SISELECT, 0xc0);
		csr_write(CSR_SIREG, 0x5eec);
		csr_write(CSR_SISELECT, 0x80);
		csr_write(CSR_SIREG, 0x0ee0);
	}
}

/* A trap, i.e. an interrupt, is reported by the library. */
void arch_guest_second_life(void)
{
	unsigned long start, mask;
	struct sbiret ret;

	GUEST_ASSERT_EQ(csr_read(CSR_SSTATUS) & (SR_FS | SR_VS), 0);
	GUEST_ASSERT_EQ(csr_read(CSR_SIP), 0);

	csr_write(CSR_SIE, IE_SIE | IE_TIE | IE_EIE);
	csr_set(CSR_SSTATUS, SR_SIE);
	start = csr_read(CSR_TIME);
	while (csr_read(CSR_TIME) - start < 20000)
		cpu_relax();
	csr_clear(CSR_SSTATUS, SR_SIE);
	csr_write(CSR_SIE, 0);

	/* Off, but there, also as far as KVM is concerned. */
	guest_fill_fp();
	if (guest_has_v)
		guest_fill_vector();

	if (guest_has_pmu) {
		GUEST_ASSERT(!guest_can_read_cycle());
		mask = guest_counter_mask();
		/* Not in use, i.e. there is nothing to configure again. */
		ret = sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_COUNTER_CFG_MATCH, 0, 1,
				SBI_PMU_CFG_FLAG_SKIP_MATCH,
				SBI_PMU_HW_CPU_CYCLES, 0, 0);
		GUEST_ASSERT_NE(ret.error, 0);
		ret = sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_COUNTER_CFG_MATCH, 0, mask,
				0, SBI_PMU_EVENT_TYPE_FW << 16 |
				SBI_PMU_FW_SET_TIMER, 0, 0);
		GUEST_ASSERT_EQ(ret.error, 0);
		ret = sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_COUNTER_FW_READ,
				ret.value, 0, 0, 0, 0, 0);
		GUEST_ASSERT_EQ(ret.error, 0);
		GUEST_ASSERT_EQ(ret.value, 0);
		/* There is no page to take values from. */
		ret = sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_COUNTER_START, 0, mask,
				SBI_PMU_START_FLAG_INIT_SNAPSHOT, 0, 0, 0);
		GUEST_ASSERT_EQ(ret.error, SBI_ERR_NO_SHMEM);
		sbi_ecall(SBI_EXT_PMU, SBI_EXT_PMU_COUNTER_STOP, 0, mask,
			  SBI_PMU_STOP_FLAG_RESET, 0, 0, 0);
	}
}

/* ---- Exits to leave open ------------------------------------------------- */

static void guest_sbi(void)
{
	sbi_ecall(SBI_EXT_EXPERIMENTAL_START, 0, 1, 2, 3, 4, 5, 6);
	GUEST_FAIL("The old life goes on");
}

static void guest_csr_stopei(void)
{
	csr_write(CSR_STOPEI, 0);
	GUEST_FAIL("The old life goes on");
}

static void guest_csr_seed(void)
{
	unsigned long v;

	asm volatile("csrrw %0, " __stringify(CSR_SEED) ", zero" : "=r" (v));
	GUEST_FAIL("The old life goes on");
}

static void guest_susp(void)
{
	sbi_ecall(SBI_EXT_SUSP, 0, 0, (unsigned long)guest_susp, 0, 0, 0, 0);
	GUEST_FAIL("The old life goes on");
}

static void guest_srst(void)
{
	sbi_ecall(SBI_EXT_SRST, 0, SBI_SRST_RESET_TYPE_COLD_REBOOT, 0, 0, 0, 0, 0);
	GUEST_FAIL("The old life goes on");
}

static void guest_wfi(void)
{
	for (;;)
		asm volatile("wfi");
}

static void prepare_answered_exit(struct reset_env *env)
{
	struct kvm_run *run = env->vcpu->run;

	prepare_open_exit(env);

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		memset(run->mmio.data, 0xa5, sizeof(run->mmio.data));
		break;
	case KVM_EXIT_RISCV_SBI:
		run->riscv_sbi.ret[0] = 0xa5;
		run->riscv_sbi.ret[1] = 0xa6;
		break;
	case KVM_EXIT_RISCV_CSR:
		run->riscv_csr.ret_value = 0xa5;
		break;
	}
}

static void prepare_csr_stopei(struct reset_env *env)
{
	TEST_REQUIRE(__vcpu_has_isa_ext(env->vcpu, KVM_RISCV_ISA_EXT_SSAIA));
	prepare_answered_exit(env);
}

static void prepare_csr_seed(struct reset_env *env)
{
	TEST_REQUIRE(__vcpu_has_isa_ext(env->vcpu, KVM_RISCV_ISA_EXT_ZKR));
	prepare_answered_exit(env);
}

static void prepare_susp(struct reset_env *env)
{
	TEST_REQUIRE(__vcpu_has_sbi_ext(env->vcpu, KVM_RISCV_SBI_EXT_SUSP));
	/* Only with all other vCPUs stopped. */
	vcpu_set_mp_state(env->helper, KVM_MP_STATE_STOPPED);
	prepare_open_exit(env);
	TEST_ASSERT_EQ(env->vcpu->run->riscv_sbi.extension_id, SBI_EXT_SUSP);
}

static void prepare_wfi(struct reset_env *env)
{
	boot(env, guest_wfi, 0);
	run_interrupted(env->vcpu);
}

/* ---- What other vCPUs do ------------------------------------------------- */

static void guest_hart_start(u64 hartid)
{
	struct sbiret ret;

	ret = sbi_ecall(SBI_EXT_HSM, 0, hartid, 0x1000, 0xdead, 0, 0, 0);
	GUEST_ASSERT_EQ(ret.error, 0);
	GUEST_SYNC(1);
}

static void guest_fences(u64 hartid)
{
	int i;

	for (i = 0; i < 100; i++)
		sbi_ecall(SBI_EXT_RFENCE, SBI_RFENCE_REMOTE_SFENCE_VMA, 1ul << hartid,
			  0, i << 12, 4096, 0, 0);
	sbi_ecall(SBI_EXT_RFENCE, SBI_RFENCE_REMOTE_FENCE_I, 1ul << hartid, 0, 0,
		  0, 0, 0);
	GUEST_SYNC(1);
}

static void guest_ipi(u64 hartid)
{
	sbi_ecall(SBI_EXT_IPI, 0, 1ul << hartid, 0, 0, 0, 0, 0);
	GUEST_SYNC(1);
}

static void run_helper(struct reset_env *env, void *guest_code)
{
	vcpu_arch_set_entry_point(env->helper, guest_code);
	vcpu_args_set(env->helper, 1, (u64)env->vcpu->id);
	run_to_sync(env->helper);
}

static void prepare_hart_start(struct reset_env *env)
{
	prepare_ran(env);
	vcpu_run_immediate_exit(env->vcpu);
	vcpu_set_mp_state(env->vcpu, KVM_MP_STATE_STOPPED);
	run_helper(env, guest_hart_start);
}

/* With an exit open that the queued reset ends. */
static void prepare_hart_start_open(struct reset_env *env)
{
	prepare_answered_exit(env);
	vcpu_set_mp_state(env->vcpu, KVM_MP_STATE_STOPPED);
	run_helper(env, guest_hart_start);
}

static void prepare_helper(struct reset_env *env)
{
	prepare_ran(env);
	run_helper(env, env->c->guest_code);
}

static void prepare_interrupt(struct reset_env *env)
{
	struct kvm_interrupt irq = { .irq = KVM_INTERRUPT_SET };

	prepare_ran(env);
	vcpu_ioctl(env->vcpu, KVM_INTERRUPT, &irq);
}

static void configure_debug(struct reset_env *env)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE };

	vcpu_guest_debug_set(env->vcpu, &debug);
}

static void guest_ebreak(void)
{
	asm volatile(".option push\n\t"
		     ".option norvc\n\t"
		     "ebreak\n\t"
		     ".option pop");
	GUEST_FAIL("The old life goes on");
}

/* The debugger is userspace's and stays attached. */
static void resume_debug(struct reset_env *env)
{
	struct kvm_guest_debug debug = {};

	boot(env, guest_ebreak, 0);
	run_to_exit(env->vcpu, KVM_EXIT_DEBUG);
	vcpu_guest_debug_set(env->vcpu, &debug);
	reset_vcpu(env->vcpu);
}

#define OPEN_EXIT(_name, _code, _reason, _configure, _prepare, _flags)	\
	{								\
		.name = "open exit: " _name,				\
		.flags = _flags,					\
		.configure = _configure,				\
		.prepare = _prepare,					\
		.guest_code = _code,					\
		.arg = _reason,						\
	}

const struct reset_case arch_cases[] = {
	{ .name = "no AIA, ran", .flags = NO_AIA, .prepare = prepare_ran },
	{ .name = "emulated AIA, ran", .flags = AIA_EMUL, .prepare = prepare_ran },
	{ .name = "emulated AIA, dirty", .flags = AIA_EMUL,
	  .prepare = prepare_dirty },
	{ .name = "STOPPED", .prepare = prepare_mp_state,
	  .arg = KVM_MP_STATE_STOPPED },
	{ .name = "RUNNABLE", .prepare = prepare_mp_state,
	  .arg = KVM_MP_STATE_RUNNABLE },
	{ .name = "INIT_RECEIVED", .prepare = prepare_mp_state,
	  .arg = KVM_MP_STATE_INIT_RECEIVED },
	{ .name = "WFI", .prepare = prepare_wfi },
	OPEN_EXIT("SBI", guest_sbi, KVM_EXIT_RISCV_SBI, NULL,
		  prepare_answered_exit, RESET_DIRTY),
	OPEN_EXIT("MMIO load", guest_mmio_load, KVM_EXIT_MMIO, configure_mmio,
		  prepare_answered_exit, 0),
	OPEN_EXIT("MMIO store", guest_mmio_store, KVM_EXIT_MMIO, configure_mmio,
		  prepare_answered_exit, 0),
	OPEN_EXIT("CSR stopei", guest_csr_stopei, KVM_EXIT_RISCV_CSR, NULL,
		  prepare_csr_stopei, NO_AIA),
	OPEN_EXIT("CSR seed", guest_csr_seed, KVM_EXIT_RISCV_CSR, NULL,
		  prepare_csr_seed, 0),
	OPEN_EXIT("SBI SUSP", guest_susp, KVM_EXIT_RISCV_SBI, NULL,
		  prepare_susp, 0),
	OPEN_EXIT("SBI SRST", guest_srst, KVM_EXIT_SYSTEM_EVENT, NULL,
		  prepare_open_exit, 0),
	{ .name = "hart_start queued", .prepare = prepare_hart_start },
	OPEN_EXIT("hart_start queued over SBI", guest_sbi, KVM_EXIT_RISCV_SBI,
		  NULL, prepare_hart_start_open, 0),
	OPEN_EXIT("hart_start queued over MMIO", guest_mmio_load, KVM_EXIT_MMIO,
		  configure_mmio, prepare_hart_start_open, 0),
	{ .name = "fences queued", .prepare = prepare_helper,
	  .guest_code = guest_fences },
	{ .name = "pending IPI", .prepare = prepare_helper,
	  .guest_code = guest_ipi },
	{ .name = "pending external interrupt", .flags = NO_AIA,
	  .prepare = prepare_interrupt },
	{ .name = "debugger attached", .configure = configure_debug,
	  .prepare = prepare_ran, .resume = resume_debug },
	{}
};

const struct vcpu_state_rule arch_allowed[] = {
	{}
};

const struct vcpu_state_rule arch_not_dirtied[] = {
	{ "timer.state",	"not used with Sstc" },
	{ "sbi_sta.shmem_hi",	"constant" },
	{}
};

void arch_check_reset(struct kvm_vcpu *vcpu)
{
}

bool arch_skip_exit(struct kvm_vcpu *vcpu)
{
	return false;
}

struct kvm_vcpu *arch_helper_create(struct reset_env *env, u32 id)
{
	return vm_vcpu_add(env->vm, id, NULL);
}

void arch_guest_idle(void)
{
	asm volatile("wfi");
}

void arch_test_refusals(void)
{
}
