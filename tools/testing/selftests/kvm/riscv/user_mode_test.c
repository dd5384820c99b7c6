// SPDX-License-Identifier: GPL-2.0-only
/*
 * user_mode_test - What KVM emulates for the kernel of a guest is not for its user mode
 *
 * WFI, the CSRs of the AIA and, unless scounteren enables them, counters are illegal
 * instructions in U-mode.  They trap to KVM from VU-mode just as they do from the
 * guest's kernel, which has to get the exception that it would get without KVM.
 */
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#define EXC_INST_ILLEGAL	2
#define EXC_BREAKPOINT		3

#define CSR_SCOUNTEREN_CY	BIT(0)

#define ISELECT_IPRIO0		0x30
#define IPRIO			0x0102030405060700ul

/* What is executed in user mode, each followed by EBREAK, in slots of a page */
enum { READ_SIREG, WRITE_SIREG, STOPEI, CYCLE, WFI, NR_INSNS };
#define SLOT_SIZE		16

extern const char user_code[], user_code_end[];
asm("	.pushsection .rodata\n"
"	.option push\n"
"	.option norvc\n"
"	.balign 16\n"
"user_code:\n"
"	csrr	t0, 0x151\n"		/* sireg */
"	ebreak\n"
"	.balign 16\n"
"	csrw	0x151, zero\n"
"	ebreak\n"
"	.balign 16\n"
"	csrrw	t0, 0x15c, zero\n"	/* stopei */
"	ebreak\n"
"	.balign 16\n"
"	csrr	t0, cycle\n"
"	ebreak\n"
"	.balign 16\n"
"	wfi\n"
"	ebreak\n"
"user_code_end:\n"
"	.option pop\n"
"	.popsection\n"
);

static u64 user_page, resume, cause, epc;
static bool has_aia;

static void exception_handler(struct pt_regs *regs)
{
	cause = regs->cause;
	epc = regs->epc;
	regs->epc = resume;
	regs->status |= SR_SPP;
}

/* Return the exception that has ended it. */
static u64 run_in_user_mode(int insn)
{
	asm volatile("la	t0, 1f\n"
		     "sd	t0, 0(%[resume])\n"
		     "csrw	sepc, %[pc]\n"
		     /* SPP, the mode to return to, and SPIE */
		     "li	t0, 0x120\n"
		     "csrc	sstatus, t0\n"
		     "sret\n"
		     "1:\n"
		     : : [resume] "r" (&resume), [pc] "r" (user_page + insn * SLOT_SIZE)
		     : "t0", "memory");

	return cause;
}

static bool has_cycle(void)
{
	cause = 0;
	asm volatile("la	t0, 1f\n"
		     "sd	t0, 0(%[resume])\n"
		     "csrr	t0, cycle\n"
		     "1:\n"
		     : : [resume] "r" (&resume) : "t0", "memory");

	return !cause;
}

static void guest_code(void)
{
	int insn;

	csr_write(CSR_SCOUNTEREN, 0);
	if (has_aia) {
		csr_write(CSR_SISELECT, ISELECT_IPRIO0);
		csr_write(CSR_SIREG, IPRIO);
		GUEST_ASSERT(csr_read(CSR_SIREG));
	}

	for (insn = 0; insn < NR_INSNS; insn++) {
		GUEST_ASSERT_EQ(run_in_user_mode(insn), EXC_INST_ILLEGAL);
		GUEST_ASSERT_EQ(epc, user_page + insn * SLOT_SIZE);
	}
	if (has_aia)
		GUEST_ASSERT(csr_read(CSR_SIREG));

	/* It may have what its kernel has, and lets it have. */
	csr_write(CSR_SCOUNTEREN, CSR_SCOUNTEREN_CY);
	if (has_cycle())
		GUEST_ASSERT_EQ(run_in_user_mode(CYCLE), EXC_BREAKPOINT);

	GUEST_DONE();
}

/* User mode can't use the other pages, and the kernel can't execute this one. */
static void map_user_page(struct kvm_vm *vm)
{
	int level = vm->mmu.pgtable_levels - 1;
	gpa_t table = vm->mmu.pgd;
	u64 *pte;

	user_page = vm_alloc_page(vm);
	memcpy(addr_gva2hva(vm, user_page), user_code, user_code_end - user_code);
	sync_global_to_guest(vm, user_page);

	for (;; level--) {
		pte = addr_gpa2hva(vm, table) + ((user_page >> (12 + 9 * level)) & 511) * 8;
		table = (*pte & PGTBL_PTE_ADDR_MASK) >> PGTBL_PTE_ADDR_SHIFT << 12;
		if (!level)
			break;
	}
	*pte |= PGTBL_PTE_USER_MASK;
}

int main(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;
	int i;

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	has_aia = __vcpu_has_isa_ext(vcpu, KVM_RISCV_ISA_EXT_SSAIA);
	sync_global_to_guest(vm, has_aia);
	map_user_page(vm);
	vm_init_vector_tables(vm);
	vcpu_init_vector_tables(vcpu);
	for (i = 0; i < NR_EXCEPTIONS; i++)
		vm_install_exception_handler(vm, i, exception_handler);

	/* Nothing would end WFI. */
	alarm(20);
	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_DONE:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Exit %u (%s)", vcpu->run->exit_reason,
			  exit_reason_str(vcpu->run->exit_reason));
	}
	kvm_vm_free(vm);

	return 0;
}
