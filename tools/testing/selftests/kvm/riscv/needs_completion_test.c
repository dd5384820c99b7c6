// SPDX-License-Identifier: GPL-2.0-only
/*
 * The exits of riscv, see ../needs_completion_test.c.
 *
 * KVM performs MMIO accesses, SBI calls and CSR accesses that it leaves to
 * userspace in two steps: the exit leaves the pc and the registers alone, and
 * the next KVM_RUN retires the instruction.  All the other exits are finished
 * when KVM_RUN returns.
 */
#include <sys/file.h>
#include <linux/bitfield.h>

#include "kvm_util.h"
#include "needs_completion_test.h"
#include "processor.h"
#include "sbi.h"
#include "vcpu_state.h"

/* Not backed by memory, i.e. guest accesses are MMIO. */
#define MMIO_GPA		0x40000000ul
#define MMIO_NR_PAGES		2

/* Where rows have memory of their own. */
#define MEM_GPA			0x50000000ul

/* Where the in-kernel interrupt controller is, if there is one. */
#define IMSIC_GPA		0x28000000ul

#define CSR_SEED		0x015
#define CSR_SIREG_IMSIC		0x70

/* Calls in an extension that KVM forwards to userspace. */
#define SBI_EXT_TEST		SBI_EXT_EXPERIMENTAL_START
#define SBI_EXT_TEST_REPORT	0
#define SBI_EXT_TEST_CALL	1

#define SBI_EXT_VENDOR_START	0x09000000

#define SBI_EXT_0_1_PUTCHAR	1
#define SBI_EXT_0_1_GETCHAR	2
#define SBI_EXT_0_1_SHUTDOWN	8

#define SBI_EXT_HSM		0x48534d
#define SBI_EXT_HSM_HART_STOP	1

#define SBI_EXT_DBCN		0x4442434e
#define SBI_EXT_DBCN_WRITE_BYTE	2

#define SBI_EXT_MPXY		0x4d505859
#define SBI_EXT_MPXY_SHMEM_SIZE	0

#define SBI_EXT_SRST		0x53525354
#define SBI_EXT_SRST_RESET	0
#define SBI_SRST_SHUTDOWN	0
#define SBI_SRST_COLD_REBOOT	1
#define SBI_SRST_WARM_REBOOT	2
#define SBI_SRST_REASON		1

#define SBI_EXT_SUSP		0x53555350
#define SBI_EXT_SUSP_SYSTEM	0
#define OPAQUE			0xdeadc0deul

enum { SP = 2, S0 = 8, A0 = 10, A1, A2, A5 = 15, A6, A7, S2, T3 = 28, T4 };

const char * const nc_gpr_names[NC_NR_GPRS] = {
	NULL, "ra", "sp", "gp", "tp", "t0", "t1", "t2",
	"s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5",
	"a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7",
	"s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
};

const int nc_mark_gpr = S2;
const u64 nc_all_marks = GENMASK(3, 0);
const u64 nc_report_gprs = BIT(A6) | BIT(A7);

#define GPR(i)	__kvm_reg_id(KVM_REG_RISCV_CORE, 0, i, KVM_REG_SIZE_ULONG)

/*
 * The guest runs with address translation off, so that a reset vCPU can run it
 * as it is.  Execute @insn, which is where the exit comes from, and report
 * which of the instructions behind it have been executed, one bit in s2 each.
 */
#define GUEST_CODE(name, insn)						\
NC_GUEST_CODE(name,							\
"	.pushsection .text, \"ax\"\n"					\
"	.option push\n"							\
"	.option norvc\n"						\
"	.balign 64\n"							\
"guest_" #name ":\n"							\
"	" insn "\n"							\
"guest_" #name "_next:\n"						\
"	ori	s2, s2, 1\n"						\
"	ori	s2, s2, 2\n"						\
"	ori	s2, s2, 4\n"						\
"	ori	s2, s2, 8\n"						\
"	lui	a7, " __stringify(SBI_EXT_TEST) " >> 12\n"		\
"	li	a6, " __stringify(SBI_EXT_TEST_REPORT) "\n"		\
"	ecall\n"							\
"	j	.\n"							\
"	.option pop\n"							\
"	.popsection\n"							\
)

/* An instruction of two bytes. */
#define GUEST_CODE_C(name, insn)					\
	GUEST_CODE(name, ".option rvc\n" insn "\n.option norvc")

GUEST_CODE(lb, "lb	a5, 0(s0)");
GUEST_CODE(lbu, "lbu	a5, 0(s0)");
GUEST_CODE(lh, "lh	a5, 0(s0)");
GUEST_CODE(lhu, "lhu	a5, 0(s0)");
GUEST_CODE(lw, "lw	a5, 0(s0)");
GUEST_CODE(lwu, "lwu	a5, 0(s0)");
GUEST_CODE(ld, "ld	a5, 0(s0)");
GUEST_CODE(ld_zero, "ld	zero, 0(s0)");
GUEST_CODE_C(c_lw, "c.lw	a5, 0(s0)");
GUEST_CODE_C(c_ld, "c.ld	a5, 0(s0)");
GUEST_CODE_C(c_lwsp, "c.lwsp	a5, 0(sp)");
GUEST_CODE_C(c_ldsp, "c.ldsp	a5, 0(sp)");
GUEST_CODE(sb, "sb	a5, 0(s0)");
GUEST_CODE(sh, "sh	a5, 0(s0)");
GUEST_CODE(sw, "sw	a5, 0(s0)");
GUEST_CODE(sd, "sd	a5, 0(s0)");
GUEST_CODE(sd_zero, "sd	zero, 0(s0)");
GUEST_CODE_C(c_sw, "c.sw	a5, 0(s0)");
GUEST_CODE_C(c_sd, "c.sd	a5, 0(s0)");
GUEST_CODE_C(c_swsp, "c.swsp	a5, 0(sp)");
GUEST_CODE_C(c_sdsp, "c.sdsp	a5, 0(sp)");

/* KVM doesn't emulate all there is. */
GUEST_CODE(amoadd_d, "amoadd.d	a5, t3, (s0)");

GUEST_CODE(ecall, "ecall");

GUEST_CODE(seed_rw, "csrrw	a5, " __stringify(CSR_SEED) ", t3");
GUEST_CODE(seed_rs, "csrrs	a5, " __stringify(CSR_SEED) ", t3");
GUEST_CODE(seed_rc, "csrrc	a5, " __stringify(CSR_SEED) ", t3");
GUEST_CODE(seed_rwi, "csrrwi	a5, " __stringify(CSR_SEED) ", 21");
GUEST_CODE(seed_rsi, "csrrsi	a5, " __stringify(CSR_SEED) ", 21");
GUEST_CODE(seed_rci, "csrrci	a5, " __stringify(CSR_SEED) ", 21");
GUEST_CODE(seed_zero, "csrrw	zero, " __stringify(CSR_SEED) ", zero");

GUEST_CODE(stopei_r, "csrrs	a5, " __stringify(CSR_STOPEI) ", zero");
GUEST_CODE(stopei_rw, "csrrw	a5, " __stringify(CSR_STOPEI) ", t3");
GUEST_CODE(stopei_w, "csrrw	zero, " __stringify(CSR_STOPEI) ", t3");
GUEST_CODE(sireg_rw, "csrrw	a5, " __stringify(CSR_SIREG) ", t3");

GUEST_CODE(ebreak, "ebreak");
GUEST_CODE_C(c_ebreak, "c.ebreak");
GUEST_CODE(nop, "nop");
GUEST_CODE(wfi, "wfi");

/* Write to one page after the other. */
GUEST_CODE(dirty, "sd	a5, 0(s0)\n add	s0, s0, t3\n j	guest_dirty");

static void init_vcpu(struct kvm_vcpu *vcpu)
{
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(satp), 0);
}

void nc_arch_create_vm(struct nc_test *t)
{
	t->vm = vm_create_with_one_vcpu(&t->vcpu, NULL);
	/* KVM has it since 6.16: without, only the resets fail. */
	__vm_enable_cap(t->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	init_vcpu(t->vcpu);
}

u64 nc_arch_guest_pc(struct nc_test *t, const char *label)
{
	return addr_gva2gpa(t->vm, (gva_t)label);
}

void nc_arch_init_regs(struct nc_test *t)
{
	t->want.gpr[A6] = SBI_EXT_TEST_CALL;
	t->want.gpr[A7] = SBI_EXT_TEST;
	if (t->exit->gpa) {
		t->want.gpr[S0] = t->exit->gpa;
		t->want.gpr[SP] = t->exit->gpa;
	}
}

void nc_arch_set_regs(struct kvm_vcpu *vcpu, const struct nc_regs *regs)
{
	int i;

	for (i = 1; i < NC_NR_GPRS; i++)
		vcpu_set_reg(vcpu, GPR(i), regs->gpr[i]);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.pc), regs->pc);
}

void nc_arch_get_regs(struct kvm_vcpu *vcpu, struct nc_regs *regs)
{
	int i;

	regs->gpr[0] = 0;
	for (i = 1; i < NC_NR_GPRS; i++)
		regs->gpr[i] = vcpu_get_reg(vcpu, GPR(i));
	regs->pc = vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.pc));
}

bool nc_arch_is_report(struct kvm_vcpu *vcpu)
{
	return vcpu->run->exit_reason == KVM_EXIT_RISCV_SBI &&
	       vcpu->run->riscv_sbi.extension_id == SBI_EXT_TEST &&
	       vcpu->run->riscv_sbi.function_id == SBI_EXT_TEST_REPORT;
}

void nc_arch_migrate(struct nc_test *t)
{
	struct kvm_saved_regs *regs = vcpu_save_reg_list(t->vcpu);
	u32 mp_state = vcpu_get_mp_state(t->vcpu);

	kvm_vm_release(t->vm);
	t->vcpu = vm_recreate_with_one_vcpu(t->vm);
	__vm_enable_cap(t->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	if (t->exit->setup_vm)
		t->exit->setup_vm(t);

	vcpu_restore_reg_list(t->vcpu, regs);
	vcpu_set_mp_state(t->vcpu, mp_state);
	free(regs);
}

const char *nc_arch_reset(struct nc_test *t, bool request)
{
	vcpu_set_mp_state(t->vcpu, request ? KVM_MP_STATE_RESET :
					     KVM_MP_STATE_INIT_RECEIVED);
	nc_check_reset(t);

	init_vcpu(t->vcpu);
	return NULL;
}

/* ---- MMIO ---- */

static void expect_a5(struct nc_test *t)
{
	t->want.gpr[A5] = nc_answer(t, t->exit->len);
}

static void expect_signed_a5(struct nc_test *t)
{
	t->want.gpr[A5] = nc_signed_answer(t, t->exit->len);
}

static void check_written_a5(struct nc_test *t)
{
	nc_check_written(t, t->want.gpr[A5]);
}

#define MMIO_STORE(gpa, len)						\
	NC_MMIO_STORE(gpa, len), .check = check_written_a5

/* ---- SBI ---- */

static void enable_sbi_ext(struct nc_test *t, u64 ext)
{
	vcpu_set_reg(t->vcpu, RISCV_SBI_EXT_REG(ext), 1);
}

static void set_call(struct nc_test *t, u64 ext, u64 func)
{
	t->want.gpr[A7] = ext;
	t->want.gpr[A6] = func;
}

#define SBI_CALL(name, ext, func)					\
static void setup_vcpu_##name(struct nc_test *t)			\
{									\
	set_call(t, ext, func);						\
}

SBI_CALL(experimental, SBI_EXT_EXPERIMENTAL_START, SBI_EXT_TEST_CALL)
SBI_CALL(vendor, SBI_EXT_VENDOR_START, 0)
SBI_CALL(dbcn, SBI_EXT_DBCN, SBI_EXT_DBCN_WRITE_BYTE)
SBI_CALL(mpxy, SBI_EXT_MPXY, SBI_EXT_MPXY_SHMEM_SIZE)
SBI_CALL(putchar, SBI_EXT_0_1_PUTCHAR, 0)
SBI_CALL(getchar, SBI_EXT_0_1_GETCHAR, 0)

static void setup_vm_dbcn(struct nc_test *t)
{
	enable_sbi_ext(t, KVM_RISCV_SBI_EXT_DBCN);
}

static void setup_vm_mpxy(struct nc_test *t)
{
	enable_sbi_ext(t, KVM_RISCV_SBI_EXT_MPXY);
}

static void setup_vm_susp(struct nc_test *t)
{
	enable_sbi_ext(t, KVM_RISCV_SBI_EXT_SUSP);
}

/* It claims to be there even if it isn't. */
static const char *no_sbi_v01(void)
{
	struct nc_test t = {};
	bool ok;

	nc_arch_create_vm(&t);
	set_call(&t, SBI_EXT_0_1_PUTCHAR, 0);
	t.want.pc = nc_arch_guest_pc(&t, guest_ecall);
	nc_arch_set_regs(t.vcpu, &t.want);
	vcpu_run(t.vcpu);
	ok = !nc_arch_is_report(t.vcpu);
	kvm_vm_free(t.vm);

	return ok ? NULL : "No SBI v0.1 in KVM";
}

static void check_sbi(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;
	int i;

	NC_ASSERT(t, run->riscv_sbi.extension_id == t->want.gpr[A7] &&
		  run->riscv_sbi.function_id == t->want.gpr[A6],
		  "extension 0x%lx, function 0x%lx", run->riscv_sbi.extension_id,
		  run->riscv_sbi.function_id);
	for (i = 0; i < ARRAY_SIZE(run->riscv_sbi.args); i++)
		NC_ASSERT(t, run->riscv_sbi.args[i] == t->want.gpr[A0 + i],
			  "args[%d] is 0x%lx", i, run->riscv_sbi.args[i]);
}

static void act_sbi(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;

	if (kvm_has_cap(KVM_CAP_NEEDS_COMPLETION)) {
		run->exit_reason = KVM_EXIT_UNKNOWN;
		memset(&run->riscv_sbi, 0, sizeof(run->riscv_sbi));
	}
	memcpy(run->riscv_sbi.ret, t->answer, sizeof(t->answer));
}

static void expect_sbi(struct nc_test *t)
{
	memcpy(&t->want.gpr[A0], t->answer, sizeof(t->answer));
}

#define SBI_FORWARDED(name)						\
	.reason = KVM_EXIT_RISCV_SBI,					\
	.needs_completion = true,					\
	.setup_vcpu = setup_vcpu_##name,				\
	.check_exit = check_sbi,					\
	.act = act_sbi,							\
	.expect = expect_sbi

/* The answer doesn't matter: the vCPU is reset and resumes where it asked for. */
static void setup_vcpu_susp(struct nc_test *t)
{
	set_call(t, SBI_EXT_SUSP, SBI_EXT_SUSP_SYSTEM);
	t->want.gpr[A0] = 0;
	t->want.gpr[A1] = nc_arch_guest_pc(t, t->exit->next);
	t->want.gpr[A2] = OPAQUE;
}

static void expect_susp(struct nc_test *t)
{
	memset(t->want.gpr, 0, sizeof(t->want.gpr));
	t->want.gpr[A0] = t->vcpu->id;
	t->want.gpr[A1] = OPAQUE;
}

/* What the guest sees if userspace ignores the event. */
static void expect_srst(struct nc_test *t)
{
	t->want.gpr[A0] = SBI_ERR_FAILURE;
	t->want.gpr[A1] = 0;
}

#define SRST_CALL(name, reset_type, event)				\
static void setup_vcpu_##name(struct nc_test *t)			\
{									\
	set_call(t, SBI_EXT_SRST, SBI_EXT_SRST_RESET);			\
	t->want.gpr[A0] = reset_type;					\
	t->want.gpr[A1] = SBI_SRST_REASON;				\
}									\
									\
static void check_##name(struct nc_test *t, int part)			\
{									\
	struct kvm_run *run = t->vcpu->run;				\
									\
	NC_ASSERT(t, run->system_event.type == (event) &&			\
		  run->system_event.data[0] == SBI_SRST_REASON,		\
		  "type is %u, reason is %llu", run->system_event.type,	\
		  run->system_event.data[0]);				\
}

SRST_CALL(shutdown, SBI_SRST_SHUTDOWN, KVM_SYSTEM_EVENT_SHUTDOWN)
SRST_CALL(cold_reboot, SBI_SRST_COLD_REBOOT, KVM_SYSTEM_EVENT_RESET)
SRST_CALL(warm_reboot, SBI_SRST_WARM_REBOOT, KVM_SYSTEM_EVENT_RESET)

#define SYSTEM_EVENT(name)						\
	.reason = KVM_EXIT_SYSTEM_EVENT,				\
	.at_exit = NC_AT_NEXT,						\
	.setup_vcpu = setup_vcpu_##name,				\
	.check_exit = check_##name,					\
	.expect = expect_srst,						\
	.resume = nc_resume_runnable

/* A call of old that doesn't return, not even with an error: it is repeated. */
SBI_CALL(shutdown_v01, SBI_EXT_0_1_SHUTDOWN, 0)

static void check_shutdown_v01(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;

	NC_ASSERT(t, run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN,
		  "type is %u", run->system_event.type);
}

static void resume_shutdown_v01(struct nc_test *t)
{
	nc_resume_runnable(t);
	nc_resume_at_next(t);
}

/* KVM never asks about HSM calls. */
static void setup_vcpu_hart_stop(struct nc_test *t)
{
	set_call(t, SBI_EXT_HSM, SBI_EXT_HSM_HART_STOP);
}

static void expect_hart_stop(struct nc_test *t)
{
	t->want.gpr[A0] = SBI_SUCCESS;
	t->want.gpr[A1] = 0;
}

/* ---- CSRs ---- */

static bool has_isa_ext(u64 ext)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	bool ret;

	vm = vm_create_with_one_vcpu(&vcpu, NULL);
	ret = __vcpu_has_isa_ext(vcpu, ext);
	kvm_vm_free(vm);

	return ret;
}

static const char *no_zkr(void)
{
	return has_isa_ext(KVM_RISCV_ISA_EXT_ZKR) ? NULL : "No Zkr";
}

static const char *no_ssaia(void)
{
	return has_isa_ext(KVM_RISCV_ISA_EXT_SSAIA) ? NULL : "No Ssaia";
}

/* What the instruction is to write, by the manual. */
static void check_csr(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;
	u64 rs1, new_value, write_mask;
	u32 insn;

	memcpy(&insn, t->exit->insn, sizeof(insn));
	rs1 = FIELD_GET(GENMASK(19, 15), insn);
	if (!(insn & BIT(14)))
		rs1 = rs1 ? t->want.gpr[rs1] : 0;

	switch (FIELD_GET(GENMASK(13, 12), insn)) {
	case 1:
		new_value = rs1;
		write_mask = -1ul;
		break;
	case 2:
		new_value = -1ul;
		write_mask = rs1;
		break;
	default:
		new_value = 0;
		write_mask = rs1;
	}

	NC_ASSERT(t, run->riscv_csr.csr_num == insn >> 20,
		  "csr_num is 0x%lx", run->riscv_csr.csr_num);
	NC_ASSERT(t, run->riscv_csr.write_mask == write_mask,
		  "write_mask is 0x%lx", run->riscv_csr.write_mask);
	NC_ASSERT(t, ((run->riscv_csr.new_value ^ new_value) & write_mask) == 0,
		  "new_value is 0x%lx", run->riscv_csr.new_value);
}

static void act_csr(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;

	if (kvm_has_cap(KVM_CAP_NEEDS_COMPLETION)) {
		run->exit_reason = KVM_EXIT_UNKNOWN;
		memset(&run->riscv_csr, 0, sizeof(run->riscv_csr));
	}
	run->riscv_csr.ret_value = nc_answer(t, t->exit->len);
}

static void setup_vcpu_sireg(struct nc_test *t)
{
	vcpu_set_reg(t->vcpu, KVM_REG_RISCV | KVM_REG_SIZE_ULONG | KVM_REG_RISCV_CSR |
		     KVM_REG_RISCV_CSR_AIA | KVM_REG_RISCV_CSR_AIA_REG(siselect),
		     CSR_SIREG_IMSIC);
}

#define CSR(_unavailable)						\
	.reason = KVM_EXIT_RISCV_CSR,					\
	.needs_completion = true,					\
	.len = 8,							\
	.unavailable = _unavailable,					\
	.check_exit = check_csr,					\
	.act = act_csr

/* ---- debug ---- */

static void setup_vcpu_debug(struct nc_test *t)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE };

	vcpu_guest_debug_set(t->vcpu, &debug);
}

/* ---- dirty ring ---- */

static void create_vm_dirty_ring(struct nc_test *t)
{
	t->vm = vm_create(1);
	vm_enable_dirty_ring(t->vm, NC_DIRTY_RING_SIZE);
	__vm_enable_cap(t->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	t->vcpu = vm_vcpu_add(t->vm, 0, NULL);
	init_vcpu(t->vcpu);
}

static void setup_vcpu_dirty_ring(struct nc_test *t)
{
	t->want.gpr[T3] = t->vm->page_size;
}

/* ---- no free interrupt file in the interrupt controller ---- */

/* Not every CPU with AIA has that many. */
#define MAX_VSFILES	64

static struct kvm_vm *vsfile_vms[MAX_VSFILES];

static int set_aia_mode(int fd, u32 mode)
{
	return __kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG,
				     KVM_DEV_RISCV_AIA_CONFIG_MODE, &mode);
}

static const char *no_vsfiles(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	int fd = __kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	bool ok;

	ok = fd >= 0 && !set_aia_mode(fd, KVM_DEV_RISCV_AIA_MODE_HWACCEL);
	if (fd >= 0)
		close(fd);
	kvm_vm_free(vm);

	return ok ? NULL : "No IMSIC for guests";
}

static void create_aia(struct kvm_vm *vm)
{
	int fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	u64 addr = IMSIC_GPA;

	TEST_ASSERT_EQ(set_aia_mode(fd, KVM_DEV_RISCV_AIA_MODE_HWACCEL), 0);
	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_ADDR,
			    KVM_DEV_RISCV_AIA_ADDR_IMSIC(0), &addr);
	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CTRL,
			    KVM_DEV_RISCV_AIA_CTRL_INIT, NULL);
	close(fd);
}

static void setup_vm_aia(struct nc_test *t)
{
	create_aia(t->vm);
}

/* Have other VMs use all the interrupt files of this CPU. */
static void setup_vcpu_vsfiles(struct nc_test *t)
{
	struct nc_test other = { .exit = t->exit };
	int i, fd;

	/* One test at a time, for as long as the process lives. */
	fd = open("/proc/self/exe", O_RDONLY);
	TEST_ASSERT(fd >= 0 && !flock(fd, LOCK_EX), "flock() failed, errno: %d", errno);

	pin_self_to_any_cpu();

	for (i = 0; i < MAX_VSFILES; i++) {
		other.vm = vm_create_with_one_vcpu(&other.vcpu, NULL);
		vsfile_vms[i] = other.vm;
		create_aia(other.vm);
		init_vcpu(other.vcpu);
		nc_resume_at_next(&other);
		vcpu_run(other.vcpu);
		if (other.vcpu->run->exit_reason == KVM_EXIT_FAIL_ENTRY)
			break;
	}
	TEST_ASSERT(i < MAX_VSFILES, "There are more than %d interrupt files", MAX_VSFILES);
}

static void check_vsfiles(struct nc_test *t, int part)
{
	struct kvm_run *run = t->vcpu->run;

	NC_ASSERT(t, run->fail_entry.hardware_entry_failure_reason ==
		  KVM_EXIT_FAIL_ENTRY_NO_VSFILE, "hardware_entry_failure_reason is %llu",
		  run->fail_entry.hardware_entry_failure_reason);
}

static void resume_vsfiles(struct nc_test *t)
{
	int i;

	for (i = 0; i < MAX_VSFILES && vsfile_vms[i]; i++) {
		kvm_vm_free(vsfile_vms[i]);
		vsfile_vms[i] = NULL;
	}
}

const struct nc_exit nc_exits[] = {
	{ NC_GUEST_INSN(lb), NC_MMIO_LOAD(MMIO_GPA, 1), .expect = expect_signed_a5 },
	{ NC_GUEST_INSN(lbu), NC_MMIO_LOAD(MMIO_GPA, 1), .expect = expect_a5 },
	{ NC_GUEST_INSN(lh), NC_MMIO_LOAD(MMIO_GPA, 2), .expect = expect_signed_a5 },
	{ NC_GUEST_INSN(lhu), NC_MMIO_LOAD(MMIO_GPA, 2), .expect = expect_a5 },
	{ NC_GUEST_INSN(lw), NC_MMIO_LOAD(MMIO_GPA, 4), .expect = expect_signed_a5 },
	{ NC_GUEST_INSN(lwu), NC_MMIO_LOAD(MMIO_GPA, 4), .expect = expect_a5 },
	{ NC_GUEST_INSN(ld), NC_MMIO_LOAD(MMIO_GPA, 8), .expect = expect_a5 },
	{ NC_GUEST_INSN(ld_zero), NC_MMIO_LOAD(MMIO_GPA, 8) },
	{ NC_GUEST_INSN(c_lw), NC_MMIO_LOAD(MMIO_GPA, 4), .expect = expect_signed_a5 },
	{ NC_GUEST_INSN(c_ld), NC_MMIO_LOAD(MMIO_GPA, 8), .expect = expect_a5 },
	{ NC_GUEST_INSN(c_lwsp), NC_MMIO_LOAD(MMIO_GPA, 4), .expect = expect_signed_a5 },
	{ NC_GUEST_INSN(c_ldsp), NC_MMIO_LOAD(MMIO_GPA, 8), .expect = expect_a5 },
	{ NC_GUEST_INSN(sb), MMIO_STORE(MMIO_GPA, 1) },
	{ NC_GUEST_INSN(sh), MMIO_STORE(MMIO_GPA, 2) },
	{ NC_GUEST_INSN(sw), MMIO_STORE(MMIO_GPA, 4) },
	{ NC_GUEST_INSN(sd), MMIO_STORE(MMIO_GPA, 8) },
	{
		NC_GUEST_INSN(sd_zero), NC_MMIO_STORE(MMIO_GPA, 8),
		.check = nc_check_written_zero,
	},
	{ NC_GUEST_INSN(c_sw), MMIO_STORE(MMIO_GPA, 4) },
	{ NC_GUEST_INSN(c_sd), MMIO_STORE(MMIO_GPA, 8) },
	{ NC_GUEST_INSN(c_swsp), MMIO_STORE(MMIO_GPA, 4) },
	{ NC_GUEST_INSN(c_sdsp), MMIO_STORE(MMIO_GPA, 8) },
	{
		.name = "ld_unaligned", NC_GUEST_LABEL(ld),
		.reason = NC_NO_EXIT,
		.gpa = MMIO_GPA + 4,
		.err = EIO,
		.resume = nc_resume_at_next,
	}, {
		NC_GUEST_INSN(amoadd_d),
		.reason = NC_NO_EXIT,
		.gpa = MMIO_GPA,
		.err = EOPNOTSUPP,
		.resume = nc_resume_at_next,
	}, {
		.name = "ld_efault", NC_GUEST_LABEL(ld),
		.reason = NC_NO_EXIT,
		.gpa = MEM_GPA,
		.setup_guest = nc_setup_guest_prot_none,
		.err = EFAULT,
		.resume = nc_resume_at_next,
	}, {
		.name = "sbi_experimental", NC_GUEST_LABEL(ecall), SBI_FORWARDED(experimental),
	}, {
		.name = "sbi_vendor", NC_GUEST_LABEL(ecall), SBI_FORWARDED(vendor),
	}, {
		.name = "sbi_dbcn", NC_GUEST_LABEL(ecall), SBI_FORWARDED(dbcn),
		.setup_vm = setup_vm_dbcn,
	}, {
		.name = "sbi_mpxy", NC_GUEST_LABEL(ecall), SBI_FORWARDED(mpxy),
		.setup_vm = setup_vm_mpxy,
	}, {
		.name = "sbi_putchar", NC_GUEST_LABEL(ecall), SBI_FORWARDED(putchar),
		.unavailable = no_sbi_v01,
	}, {
		.name = "sbi_getchar", NC_GUEST_LABEL(ecall), SBI_FORWARDED(getchar),
		.unavailable = no_sbi_v01,
	}, {
		.name = "sbi_susp", NC_GUEST_LABEL(ecall),
		.reason = KVM_EXIT_RISCV_SBI,
		.needs_completion = true,
		.setup_vm = setup_vm_susp,
		.setup_vcpu = setup_vcpu_susp,
		.check_exit = check_sbi,
		.act = act_sbi,
		.expect = expect_susp,
	},
	{ .name = "shutdown", NC_GUEST_LABEL(ecall), SYSTEM_EVENT(shutdown) },
	{ .name = "cold_reboot", NC_GUEST_LABEL(ecall), SYSTEM_EVENT(cold_reboot) },
	{ .name = "warm_reboot", NC_GUEST_LABEL(ecall), SYSTEM_EVENT(warm_reboot) },
	{
		.name = "shutdown_v01", NC_GUEST_LABEL(ecall),
		.reason = KVM_EXIT_SYSTEM_EVENT,
		.unavailable = no_sbi_v01,
		.setup_vcpu = setup_vcpu_shutdown_v01,
		.check_exit = check_shutdown_v01,
		.resume = resume_shutdown_v01,
	},
	{ NC_GUEST_INSN(seed_rw), CSR(no_zkr), .expect = expect_a5 },
	{ NC_GUEST_INSN(seed_rs), CSR(no_zkr), .expect = expect_a5 },
	{ NC_GUEST_INSN(seed_rc), CSR(no_zkr), .expect = expect_a5 },
	{ NC_GUEST_INSN(seed_rwi), CSR(no_zkr), .expect = expect_a5 },
	{ NC_GUEST_INSN(seed_rsi), CSR(no_zkr), .expect = expect_a5 },
	{ NC_GUEST_INSN(seed_rci), CSR(no_zkr), .expect = expect_a5 },
	{ NC_GUEST_INSN(seed_zero), CSR(no_zkr) },
	{ NC_GUEST_INSN(stopei_r), CSR(no_ssaia), .expect = expect_a5 },
	{ NC_GUEST_INSN(stopei_rw), CSR(no_ssaia), .expect = expect_a5 },
	{ NC_GUEST_INSN(stopei_w), CSR(no_ssaia) },
	{
		NC_GUEST_INSN(sireg_rw), CSR(no_ssaia), .expect = expect_a5,
		.setup_vcpu = setup_vcpu_sireg,
	}, {
		NC_GUEST_INSN(ebreak),
		.reason = KVM_EXIT_DEBUG,
		.setup_vcpu = setup_vcpu_debug,
		.resume = nc_resume_breakpoint,
	}, {
		NC_GUEST_INSN(c_ebreak),
		.reason = KVM_EXIT_DEBUG,
		.setup_vcpu = setup_vcpu_debug,
		.resume = nc_resume_breakpoint,
	}, {
		.name = "dirty_ring_full", NC_GUEST_LABEL(dirty), NC_DIRTY_RING(MEM_GPA),
		.create_vm = create_vm_dirty_ring,
		.setup_vcpu = setup_vcpu_dirty_ring,
	}, {
		.name = "no_vsfile", NC_GUEST_LABEL(nop),
		.reason = KVM_EXIT_FAIL_ENTRY,
		.unavailable = no_vsfiles,
		.setup_vm = setup_vm_aia,
		.setup_vcpu = setup_vcpu_vsfiles,
		.check_exit = check_vsfiles,
		.resume = resume_vsfiles,
		.skip[NC_RESET] = "The vCPU has an interrupt file for its second life",
		.skip[NC_MP_STATE_RESET] = "The vCPU has an interrupt file for its second life",
	}, {
		.name = "hart_stop_signal", NC_GUEST_LABEL(ecall),
		.reason = KVM_EXIT_INTR,
		.at_exit = NC_AT_NEXT,
		.setup_vcpu = setup_vcpu_hart_stop,
		.run = nc_run_sleep,
		.expect = expect_hart_stop,
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
		.name = "immediate_exit", NC_GUEST_LABEL(nop),
		.reason = NC_NO_EXIT,
		.run = nc_run_immediate_exit,
	},
};

const int nr_nc_exits = ARRAY_SIZE(nc_exits);

const struct nc_absent_exit nc_absent_exits[] = {
	{ KVM_EXIT_UNKNOWN, "not an exit, KVM has nothing to tell" },
	{ KVM_EXIT_EXCEPTION, "no architecture has it" },
	{ KVM_EXIT_HYPERCALL, "KVM_EXIT_RISCV_SBI on riscv" },
	{ KVM_EXIT_HLT, "x86, KVM handles WFI and SBI hart_suspend" },
	{ KVM_EXIT_INTERNAL_ERROR, "KVM_RUN fails instead on riscv" },
	{ KVM_EXIT_ARM_NISV, "arm64" },
	{ KVM_EXIT_MEMORY_FAULT, "KVM_RUN fails without an exit on riscv, see ld_efault" },
	{ KVM_EXIT_ARM_SEA, "arm64" },
	{ KVM_EXIT_ARM_LDST64B, "arm64" },
};

const int nr_nc_absent_exits = ARRAY_SIZE(nc_absent_exits);

/* ---- ioctls ---- */

/* A reset that fails is none. */
static void ioctl_bad_mp_state(struct kvm_vcpu *vcpu)
{
	struct kvm_mp_state mp_state = { .mp_state = -1 };

	TEST_ASSERT(__vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp_state),
		    "KVM_SET_MP_STATE accepts anything");
}

static void ioctl_one_reg(struct kvm_vcpu *vcpu)
{
	vcpu_copy_reg_list(vcpu, vcpu);
}

static void ioctl_interrupt(struct kvm_vcpu *vcpu)
{
	struct kvm_interrupt interrupt = { .irq = KVM_INTERRUPT_SET };

	vcpu_ioctl(vcpu, KVM_INTERRUPT, &interrupt);
	interrupt.irq = KVM_INTERRUPT_UNSET;
	vcpu_ioctl(vcpu, KVM_INTERRUPT, &interrupt);
}

const struct nc_ioctl nc_ioctls[] = {
	NC_IOCTL(bad_mp_state),
	NC_IOCTL(one_reg),
	NC_IOCTL(interrupt),
};

const int nr_nc_ioctls = ARRAY_SIZE(nc_ioctls);

/* ---- garbage ---- */

const struct nc_range nc_arch_garbage_holes[] = {};
const int nr_nc_arch_garbage_holes = ARRAY_SIZE(nc_arch_garbage_holes);

static bool guest_has_zkr;

static void guest_garbage(void)
{
	struct nc_garbage_sum s = {};
	u64 val;

	for (;;) {
		asm volatile("lb	%0, (%1)" : "=r" (val) : "r" (MMIO_GPA));
		asm volatile("lhu	%0, (%1)" : "=r" (val) : "r" (MMIO_GPA));
		asm volatile("ld	%0, (%1)" : "=r" (val) : "r" (MMIO_GPA));
		asm volatile("sb	%0, (%1)" : : "r" (s.sum), "r" (MMIO_GPA));
		asm volatile("sd	%0, (%1)" : : "r" (s.sum), "r" (MMIO_GPA));
		sbi_ecall(SBI_EXT_TEST, SBI_EXT_TEST_CALL, s.nr, s.sum, 0, 0, 0, 0);
		if (guest_has_zkr)
			asm volatile("csrrw	%0, " __stringify(CSR_SEED) ", zero"
				     : "=r" (val));

		nc_garbage_done(&s);
	}
}

void nc_arch_create_garbage_vm(struct nc_test *t)
{
	t->vm = vm_create_with_one_vcpu(&t->vcpu, guest_garbage);
	guest_has_zkr = __vcpu_has_isa_ext(t->vcpu, KVM_RISCV_ISA_EXT_ZKR);
	sync_global_to_guest(t->vm, guest_has_zkr);
	virt_map(t->vm, MMIO_GPA, MMIO_GPA, MMIO_NR_PAGES);
}
