// SPDX-License-Identifier: GPL-2.0-only
/*
 * reset_test - Resets of a vCPU by userspace and on behalf of the guest
 *
 * KVM retires the instruction behind an SBI, MMIO or CSR exit at the KVM_RUN
 * that follows the exit.  For each of these exits this test verifies that:
 *  - Without a reset, the instruction completes exactly once, no matter how
 *    often userspace re-enters.
 *  - KVM_MP_STATE_INIT_RECEIVED drops the exit: the vCPU starts at exactly the
 *    pc, and with exactly the registers, that userspace sets after the reset,
 *    whether or not it re-enters with immediate_exit first.
 *  - The same instruction exits and completes as usual after the reset.
 *  - SBI HSM hart_start on a vCPU with an open exit starts it at exactly the
 *    address and with exactly the registers that the caller asked for,
 *    whether or not userspace looks at them first.
 *  - A vCPU that never ran has nothing to complete, whatever userspace wrote
 *    to kvm_run, and neither has one with a CSR access that was not one for
 *    userspace.
 *
 * The reset by hart_start is only queued, for the target's next KVM_RUN.  If
 * userspace gets there first, then:
 *  - KVM_GET_ONE_REG and KVM_GET_MP_STATE show the started vCPU, and it can be
 *    saved and restored.
 *  - What KVM_SET_ONE_REG sets is not undone.
 *  - KVM_MP_STATE_INIT_RECEIVED cancels the queued reset.
 *  - An IPI or MSI that the guest sends to the started vCPU is not lost, and
 *    neither is an external interrupt that userspace has raised.
 *  - A stopped vCPU that sits in WFI notices that it was started.
 *  - A hartid that no vCPU has starts none.
 *
 * SBI SUSP is forwarded to userspace and resets the vCPU when that exit is
 * completed.  Whatever userspace answers, the vCPU resumes as the guest asked.
 * It can be looked at, saved, restored and reset before and after that.
 *
 * The rest verifies that a PMU counter counts after a reset, that a guest
 * whose SBI SRST call is ignored gets an error, that interrupts and the address
 * for stolen time can be restored, and the capability itself.
 */
#include <linux/bits.h>
#include <pthread.h>
#include <time.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "sbi.h"

/* Not backed by memory, i.e. guest accesses are MMIO. */
#define MMIO_GPA	0x40000000ul

#define CSR_SEED	0x015

#define SBI_EXT_HSM		0x48534d
#define SBI_EXT_HSM_HART_START	0
#define SBI_EXT_HSM_HART_STOP	1
#define SBI_EXT_HSM_HART_STATUS	2
#define SBI_HSM_STATE_STOPPED	1
#define SBI_HSM_STATE_SUSPENDED	4

#define SBI_EXT_IPI		0x735049
#define SBI_EXT_IPI_SEND_IPI	0

#define SBI_EXT_SRST		0x53525354
#define SBI_EXT_SRST_RESET	0
#define SBI_SRST_RESET_TYPE_COLD_REBOOT	1

#define SIP_SSIP		BIT(1)
#define SIP_SEIP		BIT(9)

#define SBI_EXT_SUSP		0x53555350
#define SBI_EXT_SUSP_SYSTEM_SUSPEND	0

/* Calls in an extension that KVM forwards to userspace. */
#define SBI_EXT_TEST		SBI_EXT_EXPERIMENTAL_START
#define SBI_EXT_TEST_REPORT	0
#define SBI_EXT_TEST_CALL	1

#define OPAQUE		0xdeadc0deul
#define OLD_LIFE	0x01d1ul
#define NEW_LIFE	0x4e3ful
#define ANSWER		0xfeedf00dcafe0001ul
#define STALE_ANSWER	0xbaadf00dbaad0002ul

/* Indices of the general purpose registers with a role in the guest code. */
enum {
	A0 = 10, A1, A2, A3, A6 = 16, A7, S2, S3, S5 = 21, S6, T3 = 28, T4,
	NR_GPRS = 32,
};

#define GPR(i)	__kvm_reg_id(KVM_REG_RISCV_CORE, 0, i, KVM_REG_SIZE_ULONG)

/*
 * The guest runs with address translation off, so that a reset vCPU can run it
 * as it is.  Execute @insn, which is where the exit comes from, and report
 * which of the instructions behind it have been executed, one bit in s2 each.
 * All instructions are 4 bytes long.
 */
#define ALL_MARKS	GENMASK(3, 0)

#define GUEST_CODE(name, insn)						\
asm(									\
"	.pushsection .text, \"ax\"\n"					\
"	.option push\n"							\
"	.option norvc\n"						\
"	.balign 64\n"							\
#name ":\n"								\
"	" insn "\n"							\
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

#define GUEST_LABEL(name)	extern const char name[]
#define INSN_SIZE		4

GUEST_LABEL(guest_ecall);
GUEST_CODE(guest_ecall, "ecall");
GUEST_LABEL(guest_load);
GUEST_CODE(guest_load, "ld	t3, 0(t4)");
GUEST_LABEL(guest_store);
GUEST_CODE(guest_store, "sd	t3, 0(t4)");
GUEST_LABEL(guest_csr_stopei);
GUEST_CODE(guest_csr_stopei, "csrrw	t3, " __stringify(CSR_STOPEI) ", zero");
GUEST_LABEL(guest_csr_seed);
GUEST_CODE(guest_csr_seed, "csrrw	t3, " __stringify(CSR_SEED) ", zero");
GUEST_LABEL(guest_csr_cycle);
GUEST_CODE(guest_csr_cycle, "csrr	t3, " __stringify(CSR_CYCLE));
/* Not for VS-mode, KVM knows nothing of it. */
GUEST_LABEL(guest_csr_hstatus);
GUEST_CODE(guest_csr_hstatus, "csrr	t3, " __stringify(CSR_HSTATUS));
GUEST_LABEL(guest_wfi);
GUEST_CODE(guest_wfi, "wfi");

#define IMSIC_GPA		0x28000000ul
#define IMSIC_SIZE		0x1000ul
#define IMSIC_EIDELIVERY	0x70
#define IMSIC_EIP0		0x80
#define IMSIC_EIE0		0xc0

#define MSI_ID			5
#define STOPEI_MSI		(MSI_ID << 16 | MSI_ID)

/* Send an MSI, t4 is where the IMSIC is that it is for. */
GUEST_LABEL(guest_send_msi);
GUEST_CODE(guest_send_msi, "li	t3, " __stringify(MSI_ID) "\n"
"	sw	t3, 0(t4)");

#define ENABLE_MSI							\
"	li	t3, " __stringify(IMSIC_EIDELIVERY) "\n"		\
"	csrw	" __stringify(CSR_SISELECT) ", t3\n"			\
"	li	t3, 1\n"						\
"	csrw	" __stringify(CSR_SIREG) ", t3\n"			\
"	li	t3, " __stringify(IMSIC_EIE0) "\n"			\
"	csrw	" __stringify(CSR_SISELECT) ", t3\n"			\
"	li	t3, 1 << " __stringify(MSI_ID) "\n"			\
"	csrw	" __stringify(CSR_SIREG) ", t3\n"

/* Have a look at whether one has arrived. */
GUEST_LABEL(guest_take_msi);
GUEST_CODE(guest_take_msi, ENABLE_MSI
"	csrrw	t3, " __stringify(CSR_STOPEI) ", zero");

/* Wait for one, and stop. */
GUEST_LABEL(guest_wait_for_msi);
GUEST_CODE(guest_wait_for_msi, ENABLE_MSI
"1:	csrrw	t3, " __stringify(CSR_STOPEI) ", zero\n"
"	beqz	t3, 1b\n"
"	li	a7, " __stringify(SBI_EXT_HSM) "\n"
"	li	a6, " __stringify(SBI_EXT_HSM_HART_STOP) "\n"
"	ecall");

/*
 * Start hart 1 at s3 and send it an MSI at once, s5 times, each after it has
 * stopped.  At last, start it at s6.
 */
GUEST_LABEL(guest_start_and_send);
GUEST_CODE(guest_start_and_send, "li	a7, " __stringify(SBI_EXT_HSM) "\n"
"1:	li	a6, " __stringify(SBI_EXT_HSM_HART_START) "\n"
"	li	a0, 1\n"
"	mv	a1, s3\n"
"	ecall\n"
"	bnez	a0, 3f\n"
"	li	t3, " __stringify(MSI_ID) "\n"
"	sw	t3, 0(t4)\n"
"2:	li	a6, " __stringify(SBI_EXT_HSM_HART_STATUS) "\n"
"	li	a0, 1\n"
"	ecall\n"
"	li	t3, " __stringify(SBI_HSM_STATE_STOPPED) "\n"
"	bne	a1, t3, 2b\n"
"	addi	s5, s5, -1\n"
"	bnez	s5, 1b\n"
"	li	a6, " __stringify(SBI_EXT_HSM_HART_START) "\n"
"	li	a0, 1\n"
"	mv	a1, s6\n"
"	ecall\n"
"3:");

/* The code of the new life, entered at the first of the marks. */
#define NEW_ENTRY	(guest_ecall + INSN_SIZE)

struct exit_desc {
	const char *insn;
	u32 reason;
	bool is_write;
	u32 csr_num;
	int isa_ext;
};

FIXTURE(open_exit) {
	struct kvm_vm *vm;
	struct kvm_vcpu *caller;
	struct kvm_vcpu *vcpu;
	unsigned long want[NR_GPRS];
};

FIXTURE_VARIANT(open_exit) {
	struct exit_desc exit;
};

FIXTURE_VARIANT_ADD(open_exit, sbi) {
	.exit.insn = guest_ecall,
	.exit.reason = KVM_EXIT_RISCV_SBI,
	.exit.isa_ext = KVM_RISCV_ISA_EXT_I,
};

FIXTURE_VARIANT_ADD(open_exit, mmio_load) {
	.exit.insn = guest_load,
	.exit.reason = KVM_EXIT_MMIO,
	.exit.isa_ext = KVM_RISCV_ISA_EXT_I,
};

FIXTURE_VARIANT_ADD(open_exit, mmio_store) {
	.exit.insn = guest_store,
	.exit.reason = KVM_EXIT_MMIO,
	.exit.is_write = true,
	.exit.isa_ext = KVM_RISCV_ISA_EXT_I,
};

/* Forwarded to userspace unless the VM has an in-kernel AIA irqchip. */
FIXTURE_VARIANT_ADD(open_exit, csr_stopei) {
	.exit.insn = guest_csr_stopei,
	.exit.reason = KVM_EXIT_RISCV_CSR,
	.exit.csr_num = CSR_STOPEI,
	.exit.isa_ext = KVM_RISCV_ISA_EXT_SSAIA,
};

FIXTURE_VARIANT_ADD(open_exit, csr_seed) {
	.exit.insn = guest_csr_seed,
	.exit.reason = KVM_EXIT_RISCV_CSR,
	.exit.csr_num = CSR_SEED,
	.exit.isa_ext = KVM_RISCV_ISA_EXT_ZKR,
};

FIXTURE_SETUP(open_exit)
{
	struct kvm_vcpu *vcpus[2];

	self->vm = vm_create_with_vcpus(ARRAY_SIZE(vcpus), NULL, vcpus);
	vm_enable_cap(self->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	self->caller = vcpus[0];
	self->vcpu = vcpus[1];

	if (!__vcpu_has_isa_ext(self->vcpu, variant->exit.isa_ext))
		SKIP(return, "CSR 0x%x is not available to guests",
		     variant->exit.csr_num);
}

FIXTURE_TEARDOWN(open_exit)
{
	kvm_vm_free(self->vm);
}

static unsigned long guest_pc(struct kvm_vcpu *vcpu, const char *code)
{
	return addr_gva2gpa(vcpu->vm, (gva_t)code);
}

/* Start a life at @code, with registers that tell the lives apart. */
static void set_regs(struct kvm_vcpu *vcpu, const char *code,
		     unsigned long life, unsigned long *want)
{
	int i;

	for (i = 1; i < NR_GPRS; i++)
		want[i] = life << 48 | i;

	want[A6] = SBI_EXT_TEST_CALL;
	want[A7] = SBI_EXT_TEST;
	want[S2] = 0;
	want[T4] = MMIO_GPA;

	for (i = 1; i < NR_GPRS; i++)
		vcpu_set_reg(vcpu, GPR(i), want[i]);

	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(satp), 0);
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.pc), guest_pc(vcpu, code));
}

/* Verify everything but s2, a6 and a7, which belong to the guest code. */
static void check_gprs(struct __test_metadata *_metadata,
		       struct kvm_vcpu *vcpu, const unsigned long *want)
{
	int i;

	for (i = 1; i < NR_GPRS; i++) {
		unsigned long got = vcpu_get_reg(vcpu, GPR(i));

		if (i == S2 || i == A6 || i == A7)
			continue;

		EXPECT_EQ(want[i], got) {
			TH_LOG("x%d is 0x%lx instead of 0x%lx", i, got, want[i]);
		}
	}
}

static void check_pc(struct __test_metadata *_metadata,
		     struct kvm_vcpu *vcpu, const char *code)
{
	unsigned long want = guest_pc(vcpu, code);
	unsigned long got = vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.pc));

	EXPECT_EQ(want, got) {
		TH_LOG("pc is off by %ld bytes", got - want);
	}
}

static void check_reset(struct __test_metadata *_metadata,
			struct kvm_vcpu *vcpu)
{
	unsigned long zeroes[NR_GPRS] = {};

	EXPECT_EQ(0, vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.pc)));
	check_gprs(_metadata, vcpu, zeroes);
}

/* What comes out of it is a vCPU as it was created, only the first one runs. */
static void request_reset(struct __test_metadata *_metadata,
			  struct kvm_vcpu *vcpu)
{
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RESET);

	EXPECT_EQ(vcpu->id ? KVM_MP_STATE_STOPPED : KVM_MP_STATE_RUNNABLE,
		  vcpu_get_mp_state(vcpu));
	check_reset(_metadata, vcpu);
}

/* Nothing skipped on the way to the report, registers as they were. */
static void check_report(struct __test_metadata *_metadata,
			 struct kvm_vcpu *vcpu, const unsigned long *want)
{
	struct kvm_run *run = vcpu->run;
	unsigned long marks;

	ASSERT_EQ(KVM_EXIT_RISCV_SBI, run->exit_reason);
	ASSERT_EQ(SBI_EXT_TEST, run->riscv_sbi.extension_id);
	ASSERT_EQ(SBI_EXT_TEST_REPORT, run->riscv_sbi.function_id);

	marks = vcpu_get_reg(vcpu, GPR(S2));
	EXPECT_EQ(ALL_MARKS, marks) {
		TH_LOG("Skipped instructions, marks are 0x%lx", marks);
	}

	check_gprs(_metadata, vcpu, want);
}

static void run_to_report(struct __test_metadata *_metadata,
			  struct kvm_vcpu *vcpu, const unsigned long *want)
{
	vcpu_run(vcpu);
	check_report(_metadata, vcpu, want);
}

/* Start a life with an SBI call. */
static void set_sbi_call(struct kvm_vcpu *vcpu, unsigned long ext,
			 unsigned long fid, unsigned long arg0,
			 unsigned long arg1, unsigned long arg2,
			 unsigned long arg3, unsigned long *want)
{
	set_regs(vcpu, guest_ecall, OLD_LIFE, want);
	want[A7] = ext;
	want[A6] = fid;
	want[A0] = arg0;
	want[A1] = arg1;
	want[A2] = arg2;
	want[A3] = arg3;
	vcpu_set_reg(vcpu, GPR(A7), ext);
	vcpu_set_reg(vcpu, GPR(A6), fid);
	vcpu_set_reg(vcpu, GPR(A0), arg0);
	vcpu_set_reg(vcpu, GPR(A1), arg1);
	vcpu_set_reg(vcpu, GPR(A2), arg2);
	vcpu_set_reg(vcpu, GPR(A3), arg3);
}

/* Make an SBI call that KVM handles. */
static struct sbiret guest_sbi_call(struct __test_metadata *_metadata,
				    struct kvm_vcpu *vcpu, unsigned long ext,
				    unsigned long fid, unsigned long arg0,
				    unsigned long arg1, unsigned long arg2,
				    unsigned long arg3)
{
	unsigned long want[NR_GPRS];
	struct sbiret ret;

	/* Get done with the report of the previous call. */
	vcpu_run_complete_io(vcpu);

	set_sbi_call(vcpu, ext, fid, arg0, arg1, arg2, arg3, want);
	vcpu_run(vcpu);

	ret.error = vcpu_get_reg(vcpu, GPR(A0));
	ret.value = vcpu_get_reg(vcpu, GPR(A1));
	want[A0] = ret.error;
	want[A1] = ret.value;
	check_report(_metadata, vcpu, want);

	return ret;
}

/* Ask for a reboot: all vCPUs are stopped, nothing is reset. */
static void guest_system_reset(struct __test_metadata *_metadata,
			       struct kvm_vcpu *vcpu, unsigned long *want)
{
	struct kvm_run *run = vcpu->run;

	vcpu_run_complete_io(vcpu);
	set_sbi_call(vcpu, SBI_EXT_SRST, SBI_EXT_SRST_RESET,
		     SBI_SRST_RESET_TYPE_COLD_REBOOT, 0, 0, 0, want);
	vcpu_run(vcpu);

	ASSERT_EQ(KVM_EXIT_SYSTEM_EVENT, run->exit_reason);
	ASSERT_EQ(KVM_SYSTEM_EVENT_RESET, run->system_event.type);
	EXPECT_EQ(KVM_MP_STATE_STOPPED, vcpu_get_mp_state(vcpu));
}

/* KVM zeroes what the SBI specification leaves undefined. */
static void expect_sbi_entry(struct kvm_vcpu *vcpu, unsigned long *want)
{
	memset(want, 0, sizeof(*want) * NR_GPRS);
	want[A0] = vcpu->id;
	want[A1] = OPAQUE;
}

/* Start @vcpu with SBI HSM, it is yet to run. */
static void hart_start(struct __test_metadata *_metadata,
		       struct kvm_vcpu *caller, struct kvm_vcpu *vcpu,
		       const char *code, unsigned long *want)
{
	struct sbiret ret;

	ret = guest_sbi_call(_metadata, caller, SBI_EXT_HSM,
			     SBI_EXT_HSM_HART_START, vcpu->id,
			     guest_pc(vcpu, code), OPAQUE, 0);
	ASSERT_EQ(SBI_SUCCESS, ret.error);

	expect_sbi_entry(vcpu, want);
}

/* Save and restore, the MP state last. */
static void copy_vcpu(struct kvm_vcpu *from, struct kvm_vcpu *to)
{
	int nr_core = sizeof(struct kvm_riscv_core) / sizeof(unsigned long);
	int nr_csrs = sizeof(struct kvm_riscv_csr) / sizeof(unsigned long);
	u64 id;
	int i;

	for (i = 0; i < nr_core; i++) {
		id = __kvm_reg_id(KVM_REG_RISCV_CORE, 0, i, KVM_REG_SIZE_ULONG);
		vcpu_set_reg(to, id, vcpu_get_reg(from, id));
	}

	for (i = 0; i < nr_csrs; i++) {
		id = __kvm_reg_id(KVM_REG_RISCV_CSR, KVM_REG_RISCV_CSR_GENERAL,
				  i, KVM_REG_SIZE_ULONG);
		vcpu_set_reg(to, id, vcpu_get_reg(from, id));
	}

	vcpu_set_mp_state(to, vcpu_get_mp_state(from));
}

/* Run up to the exit, and leave it open. */
static void run_to_exit(struct __test_metadata *_metadata,
			struct kvm_vcpu *vcpu,
			const struct exit_desc *desc,
			const unsigned long *want)
{
	struct kvm_run *run = vcpu->run;
	u64 data;

	vcpu_run(vcpu);
	ASSERT_EQ(desc->reason, run->exit_reason);

	switch (run->exit_reason) {
	case KVM_EXIT_RISCV_SBI:
		ASSERT_EQ(SBI_EXT_TEST, run->riscv_sbi.extension_id);
		ASSERT_EQ(SBI_EXT_TEST_CALL, run->riscv_sbi.function_id);
		break;
	case KVM_EXIT_MMIO:
		ASSERT_EQ(MMIO_GPA, run->mmio.phys_addr);
		ASSERT_EQ(desc->is_write, run->mmio.is_write);
		ASSERT_EQ(sizeof(data), run->mmio.len);
		memcpy(&data, run->mmio.data, sizeof(data));
		if (run->mmio.is_write)
			TEST_ASSERT_EQ(data, want[T3]);
		break;
	case KVM_EXIT_RISCV_CSR:
		ASSERT_EQ(desc->csr_num, run->riscv_csr.csr_num);
		break;
	}

	check_pc(_metadata, vcpu, desc->insn);
	check_gprs(_metadata, vcpu, want);
}

/* Do what the VMM does about an exit. */
static void answer_exit(struct kvm_run *run, unsigned long value)
{
	switch (run->exit_reason) {
	case KVM_EXIT_RISCV_SBI:
		run->riscv_sbi.ret[0] = value;
		run->riscv_sbi.ret[1] = ~value;
		break;
	case KVM_EXIT_MMIO:
		memcpy(run->mmio.data, &value, sizeof(value));
		break;
	case KVM_EXIT_RISCV_CSR:
		run->riscv_csr.ret_value = value;
		break;
	}
}

/* What the guest is to see of it. */
static void expect_answer(const struct exit_desc *desc,
			  unsigned long value, unsigned long *want)
{
	switch (desc->reason) {
	case KVM_EXIT_RISCV_SBI:
		want[A0] = value;
		want[A1] = ~value;
		break;
	case KVM_EXIT_MMIO:
		if (!desc->is_write)
			want[T3] = value;
		break;
	case KVM_EXIT_RISCV_CSR:
		want[T3] = value;
		break;
	}
}

/* The exit is answered but not completed, as of the old life's last KVM_RUN. */
static void end_old_life(struct __test_metadata *_metadata,
			 struct kvm_vcpu *vcpu,
			 const struct exit_desc *desc,
			 unsigned long *want)
{
	set_regs(vcpu, desc->insn, OLD_LIFE, want);
	run_to_exit(_metadata, vcpu, desc, want);
	answer_exit(vcpu->run, STALE_ANSWER);
}

TEST_F(open_exit, completes_once)
{
	const char *next = variant->exit.insn + INSN_SIZE;
	struct kvm_vcpu *vcpu = self->vcpu;

	set_regs(vcpu, variant->exit.insn, OLD_LIFE, self->want);
	run_to_exit(_metadata, vcpu, &variant->exit, self->want);

	answer_exit(vcpu->run, ANSWER);
	expect_answer(&variant->exit, ANSWER, self->want);

	vcpu_run_complete_io(vcpu);
	check_pc(_metadata, vcpu, next);
	check_gprs(_metadata, vcpu, self->want);

	answer_exit(vcpu->run, STALE_ANSWER);

	vcpu_run_complete_io(vcpu);
	check_pc(_metadata, vcpu, next);
	check_gprs(_metadata, vcpu, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, userspace_reset)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, userspace_reset_immediate_exit)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	vcpu_run_complete_io(vcpu);
	check_pc(_metadata, vcpu, NEW_ENTRY);
	check_gprs(_metadata, vcpu, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, userspace_reset_same_insn)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	set_regs(vcpu, variant->exit.insn, NEW_LIFE, self->want);

	run_to_exit(_metadata, vcpu, &variant->exit, self->want);
	answer_exit(vcpu->run, ANSWER);
	expect_answer(&variant->exit, ANSWER, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, reset_request)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);

	request_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, reset_request_immediate_exit)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);

	request_reset(_metadata, vcpu);
	vcpu_run_immediate_exit(vcpu);
	check_reset(_metadata, vcpu);

	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);
	vcpu_run_immediate_exit(vcpu);
	check_pc(_metadata, vcpu, NEW_ENTRY);
	check_gprs(_metadata, vcpu, self->want);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, hart_start)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
	hart_start(_metadata, self->caller, vcpu, NEW_ENTRY, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, hart_start_look)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
	hart_start(_metadata, self->caller, vcpu, NEW_ENTRY, self->want);

	check_pc(_metadata, vcpu, NEW_ENTRY);
	check_gprs(_metadata, vcpu, self->want);
	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, hart_start_immediate_exit)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	end_old_life(_metadata, vcpu, &variant->exit, self->want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
	hart_start(_metadata, self->caller, vcpu, NEW_ENTRY, self->want);

	vcpu_run_complete_io(vcpu);
	check_pc(_metadata, vcpu, NEW_ENTRY);
	check_gprs(_metadata, vcpu, self->want);
	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(open_exit, new_vcpu)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	vcpu->run->exit_reason = variant->exit.reason;
	vcpu->run->mmio.is_write = variant->exit.is_write;
	answer_exit(vcpu->run, STALE_ANSWER);

	run_to_report(_metadata, vcpu, self->want);
}

/* A CSR access that the guest answers itself leaves no exit open. */
TEST(csr_trap)
{
	unsigned long want[NR_GPRS];
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, NULL);

	set_regs(vcpu, guest_csr_hstatus, OLD_LIFE, want);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(stvec),
		     guest_pc(vcpu, NEW_ENTRY));
	run_to_report(_metadata, vcpu, want);
	EXPECT_EQ(EXC_INST_ILLEGAL,
		  vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(scause)));
	vcpu_run_complete_io(vcpu);

	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, want);
	vcpu->run->exit_reason = KVM_EXIT_RISCV_CSR;
	answer_exit(vcpu->run, STALE_ANSWER);
	run_to_report(_metadata, vcpu, want);

	kvm_vm_free(vm);
}

FIXTURE(pmu) {
	struct kvm_vm *vm;
	struct kvm_vcpu *caller;
	struct kvm_vcpu *vcpu;
	unsigned long want[NR_GPRS];
};

FIXTURE_SETUP(pmu)
{
	struct kvm_vcpu *vcpus[2];

	self->vm = vm_create_with_vcpus(ARRAY_SIZE(vcpus), NULL, vcpus);
	vm_enable_cap(self->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	self->caller = vcpus[0];
	self->vcpu = vcpus[1];

	if (!__vcpu_has_isa_ext(self->vcpu, KVM_RISCV_ISA_EXT_SSCOFPMF) ||
	    !__vcpu_has_sbi_ext(self->vcpu, KVM_RISCV_SBI_EXT_PMU))
		SKIP(return, "SBI PMU with Sscofpmf not available");
}

FIXTURE_TEARDOWN(pmu)
{
	kvm_vm_free(self->vm);
}

/* Let the first counter, which is fixed, count cycles. */
static void start_counter(struct __test_metadata *_metadata,
			  struct kvm_vcpu *vcpu)
{
	struct sbiret ret;

	ret = guest_sbi_call(_metadata, vcpu, SBI_EXT_PMU,
			     SBI_EXT_PMU_COUNTER_CFG_MATCH, 0, 1,
			     SBI_PMU_CFG_FLAG_CLEAR_VALUE,
			     SBI_PMU_HW_CPU_CYCLES);
	ASSERT_EQ(SBI_SUCCESS, ret.error);
	ASSERT_EQ(0, ret.value);

	ret = guest_sbi_call(_metadata, vcpu, SBI_EXT_PMU,
			     SBI_EXT_PMU_COUNTER_START, 0, 1,
			     SBI_PMU_START_FLAG_SET_INIT_VALUE, 0);
	EXPECT_EQ(SBI_SUCCESS, ret.error);
}

static void check_counter(struct __test_metadata *_metadata,
			  struct kvm_vcpu *vcpu)
{
	unsigned long want[NR_GPRS];

	vcpu_run_complete_io(vcpu);
	set_regs(vcpu, guest_csr_cycle, NEW_LIFE, want);
	vcpu_run(vcpu);

	want[T3] = vcpu_get_reg(vcpu, GPR(T3));
	EXPECT_NE(0, want[T3]) {
		TH_LOG("The counter does not count");
	}
	check_report(_metadata, vcpu, want);
}

TEST_F(pmu, userspace_reset)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	start_counter(_metadata, vcpu);
	check_counter(_metadata, vcpu);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);

	start_counter(_metadata, vcpu);
	check_counter(_metadata, vcpu);
}

static unsigned long read_fw_counter(struct __test_metadata *_metadata,
				     struct kvm_vcpu *vcpu, unsigned long ctr)
{
	struct sbiret ret;

	ret = guest_sbi_call(_metadata, vcpu, SBI_EXT_PMU,
			     SBI_EXT_PMU_COUNTER_FW_READ, ctr, 0, 0, 0);
	EXPECT_EQ(SBI_SUCCESS, ret.error);

	return ret.value;
}

/* Let @ctr count a firmware event that does not happen. */
static void start_fw_counter(struct __test_metadata *_metadata,
			     struct kvm_vcpu *vcpu, unsigned long ctr,
			     unsigned long flags, unsigned long value)
{
	struct sbiret ret;

	ret = guest_sbi_call(_metadata, vcpu, SBI_EXT_PMU,
			     SBI_EXT_PMU_COUNTER_CFG_MATCH, ctr, 1, 0,
			     SBI_PMU_EVENT_TYPE_FW << 16 | SBI_PMU_FW_SET_TIMER);
	ASSERT_EQ(SBI_SUCCESS, ret.error);
	ASSERT_EQ(ctr, ret.value);

	ret = guest_sbi_call(_metadata, vcpu, SBI_EXT_PMU,
			     SBI_EXT_PMU_COUNTER_START, ctr, 1, flags, value);
	EXPECT_EQ(SBI_SUCCESS, ret.error);
}

/* The value of a counter does not outlive the reset, used or not. */
static void test_fw_counter(struct __test_metadata *_metadata,
			    struct kvm_vcpu *vcpu, bool give_back)
{
	unsigned long ctr;
	struct sbiret ret;

	ret = guest_sbi_call(_metadata, vcpu, SBI_EXT_PMU,
			     SBI_EXT_PMU_NUM_COUNTERS, 0, 0, 0, 0);
	ASSERT_EQ(SBI_SUCCESS, ret.error);
	ctr = ret.value - 1;

	start_fw_counter(_metadata, vcpu, ctr,
			 SBI_PMU_START_FLAG_SET_INIT_VALUE, ANSWER);
	EXPECT_EQ(ANSWER, read_fw_counter(_metadata, vcpu, ctr));

	if (give_back) {
		ret = guest_sbi_call(_metadata, vcpu, SBI_EXT_PMU,
				     SBI_EXT_PMU_COUNTER_STOP, ctr, 1,
				     SBI_PMU_STOP_FLAG_RESET, 0);
		EXPECT_EQ(SBI_SUCCESS, ret.error);
	}

	request_reset(_metadata, vcpu);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);

	start_fw_counter(_metadata, vcpu, ctr, 0, 0);
	EXPECT_EQ(0, read_fw_counter(_metadata, vcpu, ctr));
}

TEST_F(pmu, reset_request)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	start_counter(_metadata, vcpu);
	check_counter(_metadata, vcpu);

	request_reset(_metadata, vcpu);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);

	start_counter(_metadata, vcpu);
	check_counter(_metadata, vcpu);
}

TEST_F(pmu, reset_request_fw_counter)
{
	test_fw_counter(_metadata, self->vcpu, false);
}

TEST_F(pmu, reset_request_fw_counter_given_back)
{
	test_fw_counter(_metadata, self->vcpu, true);
}

TEST_F(pmu, hart_start)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	start_counter(_metadata, vcpu);
	check_counter(_metadata, vcpu);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
	hart_start(_metadata, self->caller, vcpu, NEW_ENTRY, self->want);
	run_to_report(_metadata, vcpu, self->want);

	start_counter(_metadata, vcpu);
	check_counter(_metadata, vcpu);
}

static void send_ipi(struct __test_metadata *_metadata,
		     struct kvm_vcpu *caller, struct kvm_vcpu *vcpu)
{
	struct sbiret ret;

	ret = guest_sbi_call(_metadata, caller, SBI_EXT_IPI,
			     SBI_EXT_IPI_SEND_IPI, 1, vcpu->id, 0, 0);
	ASSERT_EQ(SBI_SUCCESS, ret.error);
}

static bool ipi_pending(struct kvm_vcpu *vcpu)
{
	return vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sip)) & SIP_SSIP;
}

/*
 * A reset that hart_start has queued for a stopped vCPU, which does not run
 * before userspace has had a look at it.
 */
#define QUEUED_ENTRY	(guest_load + INSN_SIZE)

FIXTURE(queued) {
	struct kvm_vm *vm;
	struct kvm_vcpu *caller;
	struct kvm_vcpu *vcpu;
	unsigned long want[NR_GPRS];
};

FIXTURE_SETUP(queued)
{
	struct kvm_vcpu *vcpus[2];

	self->vm = vm_create_with_vcpus(ARRAY_SIZE(vcpus), NULL, vcpus);
	vm_enable_cap(self->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	self->caller = vcpus[0];
	self->vcpu = vcpus[1];

	set_regs(self->vcpu, guest_ecall, OLD_LIFE, self->want);
	vcpu_set_reg(self->vcpu, RISCV_GENERAL_CSR_REG(sscratch), OLD_LIFE);
	vcpu_set_mp_state(self->vcpu, KVM_MP_STATE_STOPPED);
}

FIXTURE_TEARDOWN(queued)
{
	kvm_vm_free(self->vm);
}

TEST_F(queued, run)
{
	hart_start(_metadata, self->caller, self->vcpu, QUEUED_ENTRY, self->want);

	run_to_report(_metadata, self->vcpu, self->want);
}

TEST_F(queued, get_core)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);

	check_pc(_metadata, vcpu, QUEUED_ENTRY);
	check_gprs(_metadata, vcpu, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued, get_csr)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);

	EXPECT_EQ(0, vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sscratch)));
}

TEST_F(queued, get_mp_state)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);

	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, vcpu_get_mp_state(vcpu));
	check_pc(_metadata, vcpu, QUEUED_ENTRY);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued, set)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

/* What userspace does not set is as of the reset. */
TEST_F(queued, set_one)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);
	vcpu_set_reg(vcpu, GPR(A2), NEW_LIFE);
	self->want[A2] = NEW_LIFE;

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued, stop_and_go)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued, start_again)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
	hart_start(_metadata, self->caller, vcpu, NEW_ENTRY, self->want);

	check_pc(_metadata, vcpu, NEW_ENTRY);
	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued, migrate)
{
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm;

	hart_start(_metadata, self->caller, self->vcpu, QUEUED_ENTRY, self->want);

	vm = vm_create_with_vcpus(ARRAY_SIZE(vcpus), NULL, vcpus);
	copy_vcpu(self->vcpu, vcpus[1]);
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, vcpu_get_mp_state(vcpus[1]));

	run_to_report(_metadata, vcpus[1], self->want);
	kvm_vm_free(vm);
}

TEST_F(queued, userspace_reset)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, vcpu_get_mp_state(vcpu));
	check_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued, stop_and_userspace_reset)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	EXPECT_EQ(KVM_MP_STATE_STOPPED, vcpu_get_mp_state(vcpu));
	check_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued, userspace_reset_and_start)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued, reset_request)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);
	send_ipi(_metadata, self->caller, vcpu);

	request_reset(_metadata, vcpu);
	EXPECT_FALSE(ipi_pending(vcpu));
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued, reset_request_and_start)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
	request_reset(_metadata, vcpu);
	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

/* The boot vCPU comes out running, even if it went in stopped. */
TEST_F(queued, reset_request_boot_vcpu)
{
	struct kvm_vcpu *vcpu = self->caller;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
	request_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued, reboot)
{
	struct kvm_vcpu *vcpu = self->vcpu;
	unsigned long caller_want[NR_GPRS];

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);
	guest_system_reset(_metadata, self->caller, caller_want);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	EXPECT_EQ(KVM_MP_STATE_STOPPED, vcpu_get_mp_state(vcpu));
	check_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(queued, ipi)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);
	send_ipi(_metadata, self->caller, vcpu);

	run_to_report(_metadata, vcpu, self->want);
	EXPECT_TRUE(ipi_pending(vcpu));
}

TEST_F(queued, ipi_get)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);
	send_ipi(_metadata, self->caller, vcpu);

	EXPECT_TRUE(ipi_pending(vcpu));
	run_to_report(_metadata, vcpu, self->want);
	EXPECT_TRUE(ipi_pending(vcpu));
}

TEST_F(queued, ipi_before_hart_start)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	send_ipi(_metadata, self->caller, vcpu);
	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);

	run_to_report(_metadata, vcpu, self->want);
	EXPECT_FALSE(ipi_pending(vcpu));
}

TEST_F(queued, ipi_before_userspace_reset)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);
	send_ipi(_metadata, self->caller, vcpu);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	EXPECT_FALSE(ipi_pending(vcpu));
}

static void set_ext_irq(struct kvm_vcpu *vcpu, u32 level)
{
	struct kvm_interrupt irq = { .irq = level };

	vcpu_ioctl(vcpu, KVM_INTERRUPT, &irq);
}

static bool ext_irq_pending(struct kvm_vcpu *vcpu)
{
	return vcpu_get_reg(vcpu, RISCV_GENERAL_CSR_REG(sip)) & SIP_SEIP;
}

TEST_F(queued, ext_irq)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);
	set_ext_irq(vcpu, KVM_INTERRUPT_SET);

	run_to_report(_metadata, vcpu, self->want);
	EXPECT_TRUE(ext_irq_pending(vcpu));
	set_ext_irq(vcpu, KVM_INTERRUPT_UNSET);
	EXPECT_FALSE(ext_irq_pending(vcpu));
}

TEST_F(queued, ext_irq_before_hart_start)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	set_ext_irq(vcpu, KVM_INTERRUPT_SET);
	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);

	run_to_report(_metadata, vcpu, self->want);
	EXPECT_TRUE(ext_irq_pending(vcpu));
}

TEST_F(queued, ext_irq_before_userspace_reset)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	hart_start(_metadata, self->caller, vcpu, QUEUED_ENTRY, self->want);
	set_ext_irq(vcpu, KVM_INTERRUPT_SET);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	EXPECT_FALSE(ext_irq_pending(vcpu));
}

/* It is the same interrupt after the vCPU was restored somewhere else. */
TEST_F(queued, ext_irq_migrated)
{
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm;

	set_ext_irq(self->vcpu, KVM_INTERRUPT_SET);

	vm = vm_create_with_vcpus(ARRAY_SIZE(vcpus), NULL, vcpus);
	copy_vcpu(self->vcpu, vcpus[1]);
	EXPECT_TRUE(ext_irq_pending(vcpus[1]));

	vcpu_set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED);
	hart_start(_metadata, vcpus[0], vcpus[1], QUEUED_ENTRY, self->want);
	run_to_report(_metadata, vcpus[1], self->want);
	EXPECT_TRUE(ext_irq_pending(vcpus[1]));

	kvm_vm_free(vm);
}

static void check_no_hart(struct __test_metadata *_metadata,
			  struct kvm_vcpu *caller, struct kvm_vcpu *vcpu,
			  unsigned long hartid)
{
	struct sbiret ret;

	ret = guest_sbi_call(_metadata, caller, SBI_EXT_HSM,
			     SBI_EXT_HSM_HART_STATUS, hartid, 0, 0, 0);
	EXPECT_EQ(SBI_ERR_INVALID_PARAM, ret.error);

	ret = guest_sbi_call(_metadata, caller, SBI_EXT_HSM,
			     SBI_EXT_HSM_HART_START, hartid,
			     guest_pc(vcpu, QUEUED_ENTRY), OPAQUE, 0);
	EXPECT_EQ(SBI_ERR_INVALID_PARAM, ret.error);
	EXPECT_EQ(KVM_MP_STATE_STOPPED, vcpu_get_mp_state(vcpu));
}

TEST_F(queued, no_hart)
{
	check_no_hart(_metadata, self->caller, self->vcpu, 42);
}

/* No vCPU is meant by a hartid that agrees with its ID in the low bits only. */
TEST_F(queued, hartid)
{
	check_no_hart(_metadata, self->caller, self->vcpu,
		      self->vcpu->id | 1ul << 32);
}

static void aia_set(int fd, u32 group, u64 attr, u64 val)
{
	kvm_device_attr_set(fd, group, attr, &val);
}

/* Return the file descriptor of the AIA, or -1 if there is none with this mode. */
static int create_aia(struct kvm_vm *vm, int nr_vcpus, u32 mode)
{
	int fd, i;

	if (__kvm_test_create_device(vm, KVM_DEV_TYPE_RISCV_AIA))
		return -1;

	fd = kvm_create_device(vm, KVM_DEV_TYPE_RISCV_AIA);
	if (__kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG,
				  KVM_DEV_RISCV_AIA_CONFIG_MODE, &mode)) {
		close(fd);
		return -1;
	}

	aia_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_CONFIG_IDS,
		KVM_DEV_RISCV_AIA_IDS_MIN);
	aia_set(fd, KVM_DEV_RISCV_AIA_GRP_CONFIG,
		KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, 1);
	for (i = 0; i < nr_vcpus; i++)
		aia_set(fd, KVM_DEV_RISCV_AIA_GRP_ADDR,
			KVM_DEV_RISCV_AIA_ADDR_IMSIC(i),
			IMSIC_GPA + i * IMSIC_SIZE);
	kvm_device_attr_set(fd, KVM_DEV_RISCV_AIA_GRP_CTRL,
			    KVM_DEV_RISCV_AIA_CTRL_INIT, NULL);

	return fd;
}

/* The IMSIC is reset with the vCPU, and also has to be seen like that. */
TEST(queued_imsic)
{
	u64 attr = KVM_DEV_RISCV_AIA_IMSIC_MKATTR(1ul, IMSIC_EIDELIVERY);
	unsigned long want[NR_GPRS];
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm;
	u64 val;
	int fd;

	vm = vm_create_with_vcpus(ARRAY_SIZE(vcpus), NULL, vcpus);
	fd = create_aia(vm, ARRAY_SIZE(vcpus), KVM_DEV_RISCV_AIA_MODE_EMUL);
	if (fd < 0) {
		kvm_vm_free(vm);
		SKIP(return, "There is no in-kernel AIA");
	}

	vcpu_set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED);
	aia_set(fd, KVM_DEV_RISCV_AIA_GRP_IMSIC, attr, 1);
	hart_start(_metadata, vcpus[0], vcpus[1], QUEUED_ENTRY, want);
	kvm_device_attr_get(fd, KVM_DEV_RISCV_AIA_GRP_IMSIC, attr, &val);
	EXPECT_EQ(0, val);

	vcpu_set_mp_state(vcpus[1], KVM_MP_STATE_STOPPED);
	hart_start(_metadata, vcpus[0], vcpus[1], NEW_ENTRY, want);
	aia_set(fd, KVM_DEV_RISCV_AIA_GRP_IMSIC, attr, 1);
	run_to_report(_metadata, vcpus[1], want);
	kvm_device_attr_get(fd, KVM_DEV_RISCV_AIA_GRP_IMSIC, attr, &val);
	EXPECT_EQ(1, val);

	close(fd);
	kvm_vm_free(vm);
}

static void *run_vcpu(void *arg)
{
	vcpu_run(arg);

	return NULL;
}

/* A stopped vCPU that sits in WFI has to notice that it was started. */
TEST_F(queued, wfi)
{
	struct kvm_vcpu *caller = self->caller, *vcpu = self->vcpu;
	unsigned long caller_want[NR_GPRS];
	struct timespec deadline;
	pthread_t thread;
	struct sbiret ret;

	set_regs(vcpu, guest_wfi, OLD_LIFE, self->want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_vcpu, vcpu));

	do {
		ret = guest_sbi_call(_metadata, caller, SBI_EXT_HSM,
				     SBI_EXT_HSM_HART_STATUS, vcpu->id, 0, 0, 0);
		ASSERT_EQ(SBI_SUCCESS, ret.error);
	} while (ret.value != SBI_HSM_STATE_SUSPENDED);

	guest_system_reset(_metadata, caller, caller_want);
	vcpu_set_mp_state(caller, KVM_MP_STATE_RUNNABLE);
	hart_start(_metadata, caller, vcpu, QUEUED_ENTRY, self->want);

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += 5;
	ASSERT_EQ(0, pthread_timedjoin_np(thread, NULL, &deadline)) {
		TH_LOG("hart_start did not wake up the vCPU");
	}

	ASSERT_EQ(KVM_EXIT_RISCV_SBI, vcpu->run->exit_reason);
	check_report(_metadata, vcpu, self->want);
}

FIXTURE(system_suspend) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct kvm_vcpu *other;
	unsigned long want[NR_GPRS];
	unsigned long resume[NR_GPRS];
};

static bool enable_susp(struct kvm_vcpu *vcpu)
{
	u64 reg = RISCV_SBI_EXT_REG(KVM_RISCV_SBI_EXT_SUSP);

	return !__vcpu_set_reg(vcpu, reg, 1);
}

static void run_to_susp(struct __test_metadata *_metadata,
			struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	vcpu_run(vcpu);
	ASSERT_EQ(KVM_EXIT_RISCV_SBI, run->exit_reason);
	ASSERT_EQ(SBI_EXT_SUSP, run->riscv_sbi.extension_id);
	ASSERT_EQ(SBI_EXT_SUSP_SYSTEM_SUSPEND, run->riscv_sbi.function_id);
	EXPECT_EQ(guest_pc(vcpu, QUEUED_ENTRY), run->riscv_sbi.args[1]);
	EXPECT_EQ(OPAQUE, run->riscv_sbi.args[2]);
}

/* Suspend, and leave the exit open. */
FIXTURE_SETUP(system_suspend)
{
	struct kvm_vcpu *vcpus[2];

	self->vm = vm_create_with_vcpus(ARRAY_SIZE(vcpus), NULL, vcpus);
	vm_enable_cap(self->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	self->vcpu = vcpus[0];
	self->other = vcpus[1];
	vcpu_set_mp_state(self->other, KVM_MP_STATE_STOPPED);

	if (!enable_susp(self->vcpu))
		SKIP(return, "SBI SUSP not available");

	set_sbi_call(self->vcpu, SBI_EXT_SUSP, SBI_EXT_SUSP_SYSTEM_SUSPEND, 0,
		     guest_pc(self->vcpu, QUEUED_ENTRY), OPAQUE, 0, self->want);
	run_to_susp(_metadata, self->vcpu);
	expect_sbi_entry(self->vcpu, self->resume);
}

FIXTURE_TEARDOWN(system_suspend)
{
	kvm_vm_free(self->vm);
}

/* Without a say in it, the answer of userspace does not matter. */
TEST_F(system_suspend, resume)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	answer_exit(vcpu->run, STALE_ANSWER);
	run_to_report(_metadata, vcpu, self->resume);
}

/* What wakes the system up is still there when it resumes. */
TEST_F(system_suspend, ext_irq)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	set_ext_irq(vcpu, KVM_INTERRUPT_SET);

	run_to_report(_metadata, vcpu, self->resume);
	EXPECT_TRUE(ext_irq_pending(vcpu));
}

TEST_F(system_suspend, resume_default)
{
	run_to_report(_metadata, self->vcpu, self->resume);
}

TEST_F(system_suspend, look_and_resume)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, vcpu_get_mp_state(vcpu));
	check_pc(_metadata, vcpu, guest_ecall);
	check_gprs(_metadata, vcpu, self->want);

	answer_exit(vcpu->run, STALE_ANSWER);
	run_to_report(_metadata, vcpu, self->resume);
}

TEST_F(system_suspend, complete_and_look)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	answer_exit(vcpu->run, STALE_ANSWER);
	vcpu_run_complete_io(vcpu);

	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, vcpu_get_mp_state(vcpu));
	check_pc(_metadata, vcpu, QUEUED_ENTRY);
	check_gprs(_metadata, vcpu, self->resume);

	/* Just once */
	vcpu_run_complete_io(vcpu);
	check_pc(_metadata, vcpu, QUEUED_ENTRY);

	run_to_report(_metadata, vcpu, self->resume);
}

TEST_F(system_suspend, complete_and_migrate)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	answer_exit(self->vcpu->run, STALE_ANSWER);
	vcpu_run_complete_io(self->vcpu);

	vm = vm_create_with_one_vcpu(&vcpu, NULL);
	copy_vcpu(self->vcpu, vcpu);

	run_to_report(_metadata, vcpu, self->resume);
	kvm_vm_free(vm);
}

/* Saved at the exit: the call is yet to be made. */
TEST_F(system_suspend, migrate)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, NULL);
	ASSERT_TRUE(enable_susp(vcpu));
	copy_vcpu(self->vcpu, vcpu);

	run_to_susp(_metadata, vcpu);
	run_to_report(_metadata, vcpu, self->resume);
	kvm_vm_free(vm);
}

TEST_F(system_suspend, userspace_reset)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	check_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(system_suspend, reset_request)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	request_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(system_suspend, complete_and_reset_request)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_run_immediate_exit(vcpu);
	request_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(system_suspend, complete_and_userspace_reset)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_run_complete_io(vcpu);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	check_reset(_metadata, vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

TEST_F(system_suspend, complete_and_set)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_run_complete_io(vcpu);
	set_regs(vcpu, NEW_ENTRY, NEW_LIFE, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

/* The next call is not taken for the one that the reset has dropped. */
TEST_F(system_suspend, userspace_reset_and_call)
{
	const struct exit_desc desc = {
		.insn = guest_ecall,
		.reason = KVM_EXIT_RISCV_SBI,
	};
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	set_regs(vcpu, guest_ecall, NEW_LIFE, self->want);

	run_to_exit(_metadata, vcpu, &desc, self->want);
	answer_exit(vcpu->run, ANSWER);
	expect_answer(&desc, ANSWER, self->want);

	run_to_report(_metadata, vcpu, self->want);
}

/* Started by another vCPU meanwhile: that is the last word. */
TEST_F(system_suspend, hart_start)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
	vcpu_set_mp_state(self->other, KVM_MP_STATE_RUNNABLE);
	hart_start(_metadata, self->other, vcpu, NEW_ENTRY, self->want);

	vcpu_run_complete_io(vcpu);
	check_pc(_metadata, vcpu, NEW_ENTRY);
	run_to_report(_metadata, vcpu, self->want);
}

/* What becomes of the IMSIC, whether it is a guest file of the host or not. */
FIXTURE(imsic) {
	struct kvm_vm *vm;
	struct kvm_vcpu *caller;
	struct kvm_vcpu *vcpu;
	unsigned long want[NR_GPRS];
	int first_cpu;
	int last_cpu;
	int fd;
};

FIXTURE_VARIANT(imsic) {
	u32 mode;
};

FIXTURE_VARIANT_ADD(imsic, emul) {
	.mode = KVM_DEV_RISCV_AIA_MODE_EMUL,
};

FIXTURE_VARIANT_ADD(imsic, hwaccel) {
	.mode = KVM_DEV_RISCV_AIA_MODE_HWACCEL,
};

FIXTURE_VARIANT_ADD(imsic, auto) {
	.mode = KVM_DEV_RISCV_AIA_MODE_AUTO,
};

FIXTURE_SETUP(imsic)
{
	struct kvm_vcpu *vcpus[2];
	cpu_set_t cpus;
	int cpu;

	self->vm = vm_create_with_vcpus(ARRAY_SIZE(vcpus), NULL, vcpus);
	self->caller = vcpus[0];
	self->vcpu = vcpus[1];
	vm_enable_cap(self->vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);

	self->fd = create_aia(self->vm, ARRAY_SIZE(vcpus), variant->mode);
	if (self->fd < 0)
		SKIP(return, "There is no in-kernel AIA with this mode");

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(cpus), &cpus));
	self->first_cpu = -1;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &cpus))
			continue;
		if (self->first_cpu < 0)
			self->first_cpu = cpu;
		self->last_cpu = cpu;
	}
}

FIXTURE_TEARDOWN(imsic)
{
	if (self->fd >= 0)
		close(self->fd);
	kvm_vm_free(self->vm);
}

static unsigned long imsic_get(int fd, struct kvm_vcpu *vcpu, unsigned long isel)
{
	u64 attr = KVM_DEV_RISCV_AIA_IMSIC_MKATTR((unsigned long)vcpu->id, isel);
	unsigned long val;

	kvm_device_attr_get(fd, KVM_DEV_RISCV_AIA_GRP_IMSIC, attr, &val);

	return val;
}

static void send_msi(struct kvm_vcpu *to, u32 id)
{
	struct kvm_msi msi = {
		.address_lo = IMSIC_GPA + to->id * IMSIC_SIZE,
		.data = id,
	};

	vm_ioctl(to->vm, KVM_SIGNAL_MSI, &msi);
}

static void guest_sends_msi(struct __test_metadata *_metadata,
			    struct kvm_vcpu *from, struct kvm_vcpu *to)
{
	unsigned long want[NR_GPRS];

	vcpu_run_complete_io(from);
	set_regs(from, guest_send_msi, OLD_LIFE, want);
	want[T3] = MSI_ID;
	want[T4] = IMSIC_GPA + to->id * IMSIC_SIZE;
	vcpu_set_reg(from, GPR(T4), want[T4]);
	run_to_report(_metadata, from, want);
}

/* Have the vCPU use its IMSIC, and leave something behind. */
static void live_with_imsic(struct __test_metadata *_metadata, int fd,
			    struct kvm_vcpu *vcpu)
{
	unsigned long want[NR_GPRS];

	set_regs(vcpu, guest_take_msi, OLD_LIFE, want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
	want[T3] = 0;
	run_to_report(_metadata, vcpu, want);

	send_msi(vcpu, MSI_ID);
	send_msi(vcpu, MSI_ID + 1);
	EXPECT_EQ(1, imsic_get(fd, vcpu, IMSIC_EIDELIVERY));
	EXPECT_EQ(BIT(MSI_ID), imsic_get(fd, vcpu, IMSIC_EIE0));
	EXPECT_EQ(BIT(MSI_ID) | BIT(MSI_ID + 1),
		  imsic_get(fd, vcpu, IMSIC_EIP0));

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
}

/* The IMSIC was reset, but what is in @eip has arrived. */
static void check_imsic_reset(struct __test_metadata *_metadata, int fd,
			      struct kvm_vcpu *vcpu, unsigned long eip)
{
	EXPECT_EQ(0, imsic_get(fd, vcpu, IMSIC_EIDELIVERY));
	EXPECT_EQ(0, imsic_get(fd, vcpu, IMSIC_EIE0));
	EXPECT_EQ(eip, imsic_get(fd, vcpu, IMSIC_EIP0));
}

/* The guest gets the one MSI, and there is no other but those in @eip. */
static void check_msi(struct __test_metadata *_metadata, int fd,
		      struct kvm_vcpu *vcpu, unsigned long eip,
		      unsigned long *want)
{
	want[T3] = STOPEI_MSI;
	run_to_report(_metadata, vcpu, want);
	EXPECT_EQ(1, imsic_get(fd, vcpu, IMSIC_EIDELIVERY));
	EXPECT_EQ(BIT(MSI_ID), imsic_get(fd, vcpu, IMSIC_EIE0));
	EXPECT_EQ(eip, imsic_get(fd, vcpu, IMSIC_EIP0));
}

TEST_F(imsic, hart_start)
{
	struct kvm_vcpu *vcpu = self->vcpu;
	unsigned long eip = BIT(MSI_ID + 2);
	int i;

	for (i = 0; i < 8; i++) {
		bool look = i & 1, move = i & 2, guest = i & 4;

		pin_self_to_cpu(self->first_cpu);
		live_with_imsic(_metadata, self->fd, vcpu);
		hart_start(_metadata, self->caller, vcpu, guest_take_msi,
			   self->want);

		if (guest)
			guest_sends_msi(_metadata, self->caller, vcpu);
		else
			send_msi(vcpu, MSI_ID);
		send_msi(vcpu, MSI_ID + 2);

		if (look)
			check_imsic_reset(_metadata, self->fd, vcpu,
					  eip | BIT(MSI_ID));
		if (move)
			pin_self_to_cpu(self->last_cpu);
		check_msi(_metadata, self->fd, vcpu, eip, self->want);

		vcpu_set_mp_state(vcpu, KVM_MP_STATE_INIT_RECEIVED);
	}
}

static void test_imsic_reset(struct __test_metadata *_metadata,
			     FIXTURE_DATA(imsic) *self, u32 mp_state)
{
	struct kvm_vcpu *vcpu = self->vcpu;
	int i;

	for (i = 0; i < 8; i++) {
		bool queued = i & 1, move = i & 2, guest = i & 4;

		pin_self_to_cpu(self->first_cpu);
		live_with_imsic(_metadata, self->fd, vcpu);

		if (queued) {
			hart_start(_metadata, self->caller, vcpu,
				   guest_take_msi, self->want);
			send_msi(vcpu, MSI_ID);
		}

		vcpu_set_mp_state(vcpu, mp_state);
		check_imsic_reset(_metadata, self->fd, vcpu, 0);

		set_regs(vcpu, guest_take_msi, NEW_LIFE, self->want);
		vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);

		if (guest)
			guest_sends_msi(_metadata, self->caller, vcpu);
		else
			send_msi(vcpu, MSI_ID);

		if (move)
			pin_self_to_cpu(self->last_cpu);
		check_msi(_metadata, self->fd, vcpu, 0, self->want);

		vcpu_set_mp_state(vcpu, mp_state);
	}
}

TEST_F(imsic, userspace_reset)
{
	test_imsic_reset(_metadata, self, KVM_MP_STATE_INIT_RECEIVED);
}

TEST_F(imsic, reset_request)
{
	test_imsic_reset(_metadata, self, KVM_MP_STATE_RESET);
}

TEST_F(imsic, resume)
{
	struct kvm_vcpu *vcpu = self->caller;

	if (!enable_susp(vcpu))
		SKIP(return, "SBI SUSP not available");

	vcpu_set_mp_state(self->vcpu, KVM_MP_STATE_STOPPED);
	live_with_imsic(_metadata, self->fd, vcpu);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);

	vcpu_run_complete_io(vcpu);
	set_sbi_call(vcpu, SBI_EXT_SUSP, SBI_EXT_SUSP_SYSTEM_SUSPEND, 0,
		     guest_pc(vcpu, guest_take_msi), OPAQUE, 0, self->want);
	vcpu_run(vcpu);
	ASSERT_EQ(KVM_EXIT_RISCV_SBI, vcpu->run->exit_reason);
	ASSERT_EQ(SBI_EXT_SUSP, vcpu->run->riscv_sbi.extension_id);
	vcpu_run_complete_io(vcpu);
	send_msi(vcpu, MSI_ID);

	expect_sbi_entry(vcpu, self->want);
	check_msi(_metadata, self->fd, vcpu, 0, self->want);
}

/* An MSI that follows at once, over and over again. */
TEST_F_TIMEOUT(imsic, race, 40)
{
	struct kvm_vcpu *caller = self->caller, *vcpu = self->vcpu;
	pthread_t thread;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_STOPPED);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_vcpu, vcpu));

	set_regs(caller, guest_start_and_send, OLD_LIFE, self->want);
	vcpu_set_reg(caller, GPR(S3), guest_pc(vcpu, guest_wait_for_msi));
	vcpu_set_reg(caller, GPR(S5), 200);
	vcpu_set_reg(caller, GPR(S6), guest_pc(vcpu, QUEUED_ENTRY));
	vcpu_set_reg(caller, GPR(A2), OPAQUE);
	vcpu_set_reg(caller, GPR(T4), IMSIC_GPA + vcpu->id * IMSIC_SIZE);
	vcpu_run(caller);
	ASSERT_EQ(KVM_EXIT_RISCV_SBI, caller->run->exit_reason);
	ASSERT_EQ(SBI_EXT_TEST, caller->run->riscv_sbi.extension_id);
	EXPECT_EQ(0, vcpu_get_reg(caller, GPR(S5)));
	ASSERT_EQ(SBI_SUCCESS, vcpu_get_reg(caller, GPR(A0)));

	pthread_join(thread, NULL);
	expect_sbi_entry(vcpu, self->want);
	ASSERT_EQ(KVM_EXIT_RISCV_SBI, vcpu->run->exit_reason);
	check_report(_metadata, vcpu, self->want);
}

/* If a restored interrupt does not end WFI, then this test times out. */
TEST(restored_irq)
{
	unsigned long want[NR_GPRS];
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, NULL);

	set_regs(vcpu, guest_wfi, OLD_LIFE, want);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sie), SIP_SSIP);
	vcpu_set_reg(vcpu, RISCV_GENERAL_CSR_REG(sip), SIP_SSIP);
	run_to_report(_metadata, vcpu, want);

	kvm_vm_free(vm);
}

#define STA_REG(name)							\
	__kvm_reg_id(KVM_REG_RISCV_SBI_STATE, KVM_REG_RISCV_SBI_STA,	\
		     KVM_REG_RISCV_SBI_STA_REG(name), KVM_REG_SIZE_ULONG)

/* Written in the order of the register list, both halves count. */
TEST(restored_steal_time)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, NULL);
	if (!__vcpu_has_sbi_ext(vcpu, KVM_RISCV_SBI_EXT_STA)) {
		kvm_vm_free(vm);
		SKIP(return, "Steal time is not available to guests");
	}

	vcpu_set_reg(vcpu, STA_REG(shmem_lo), 0x1000);
	vcpu_set_reg(vcpu, STA_REG(shmem_hi), 0);
	EXPECT_EQ(0x1000, vcpu_get_reg(vcpu, STA_REG(shmem_lo)));
	EXPECT_EQ(0, vcpu_get_reg(vcpu, STA_REG(shmem_hi)));

	kvm_vm_free(vm);
}

/* A VMM that does not want to reboot: the guest gets to know. */
TEST(system_reset_ignored)
{
	unsigned long want[NR_GPRS];
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, NULL);

	guest_system_reset(_metadata, vcpu, want);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);

	want[A0] = SBI_ERR_FAILURE;
	want[A1] = 0;
	run_to_report(_metadata, vcpu, want);

	kvm_vm_free(vm);
}

TEST(capability)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_RISCV_MP_STATE_RESET };
	struct kvm_mp_state mp_state = {
		.mp_state = KVM_MP_STATE_INIT_RECEIVED,
	};
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	EXPECT_EQ(1, kvm_check_cap(KVM_CAP_RISCV_MP_STATE_RESET));

	vm = vm_create_with_one_vcpu(&vcpu, NULL);
	EXPECT_EQ(1, vm_check_cap(vm, KVM_CAP_RISCV_MP_STATE_RESET));

	EXPECT_EQ(-1, __vm_enable_cap(vm, KVM_CAP_RISCV_MP_STATE_RESET, 1));
	EXPECT_EQ(EINVAL, errno);

	cap.flags = 1;
	EXPECT_EQ(-1, __vm_ioctl(vm, KVM_ENABLE_CAP, &cap));
	EXPECT_EQ(EINVAL, errno);

	/* None of these has enabled it, i.e. the vCPU stays as it is. */
	vcpu_set_reg(vcpu, RISCV_CORE_REG(regs.a0), 0x5eed);
	EXPECT_EQ(-1, __vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp_state));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0x5eed, vcpu_get_reg(vcpu, RISCV_CORE_REG(regs.a0)));

	cap.flags = 0;
	EXPECT_EQ(0, __vm_ioctl(vm, KVM_ENABLE_CAP, &cap));
	EXPECT_EQ(0, __vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp_state));

	kvm_vm_free(vm);
}

/* Nothing to enable, and nothing that a vCPU ever is in. */
TEST(reset_request_capability)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MP_STATE_RESET };
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	EXPECT_EQ(1, kvm_check_cap(KVM_CAP_MP_STATE_RESET));

	vm = vm_create_with_one_vcpu(&vcpu, NULL);
	EXPECT_EQ(1, vm_check_cap(vm, KVM_CAP_MP_STATE_RESET));
	EXPECT_EQ(-1, __vm_ioctl(vm, KVM_ENABLE_CAP, &cap));
	EXPECT_EQ(EINVAL, errno);

	request_reset(_metadata, vcpu);

	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	struct kvm_vm *vm = vm_create_barebones();
	int r;

	/* Try it, KVM_CHECK_EXTENSION has not always reported it. */
	r = __vm_enable_cap(vm, KVM_CAP_RISCV_MP_STATE_RESET, 0);
	__TEST_REQUIRE(!r, "KVM_CAP_RISCV_MP_STATE_RESET not available");
	kvm_vm_free(vm);

	return test_harness_run(argc, argv);
}
