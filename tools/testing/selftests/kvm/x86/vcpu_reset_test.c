// SPDX-License-Identifier: GPL-2.0-only
/*
 * The x86 part of vcpu_reset_test: what a vCPU can be reset from
 */
#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>
#include <fcntl.h>
#include <linux/bits.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "apic.h"
#include "hyperv.h"
#include "mce.h"
#include "processor.h"
#include "smm.h"
#include "svm_util.h"
#include "vcpu_reset_test.h"
#include "vmx.h"

/* A VM whose local APICs are userspace's. */
#define NO_IRQCHIP		RESET_ARCH_FLAG

/* Hypercalls are KVM's, not Xen's. */
#define NO_XEN			RESET_ARCH_FLAG2

/* A VM whose local APICs are KVM's, and nothing else, and without an IDT. */
#define SPLIT_IRQCHIP		RESET_ARCH_FLAG3

#define PIO_PORT		0x2000

#define SMRAM_GPA		0x1000000
#define RESET_VECTOR_GPA	0xfffff000
#define RESET_VECTOR_SLOT	10
#define RESET_VECTOR_PORT	0x42

#define ABSENT_GPA		0x50000000
#define ABSENT_SLOT		11

#define MCG_STATUS_MCIP	BIT_ULL(2)

#define RTC_IRQ			8
#define RTC_VECTOR		0x62

#define SPARE_GPA		0x51000000
#define SPARE_SLOT		12

#define MSI_ADDRESS		0xfee00000u

#define ASYNC_PF_VECTOR		0x53

#define NR_IOAPIC_PINS		24
#define LEVEL_VECTOR		0x64

/* With at least so many IPIs meanwhile */
#define NR_IPI_RESETS		500
#define MIN_IPIS		500
#define PV_IPI_VECTOR		0x63

#define MISC_ENABLE_RESET_VALUE	(MSR_IA32_MISC_ENABLE_BTS_UNAVAIL | \
				 MSR_IA32_MISC_ENABLE_PEBS_UNAVAIL)
#define PAT_RESET_VALUE		0x0007040600070406ull

#define MSR_NON_EXISTENT	0x474f4f00
#define XEN_HYPERCALL_MSR	0x40000200

#define MTRRphysBase_MSR(reg)	(0x200 + 2 * (reg))
#define MTRRphysMask_MSR(reg)	(0x200 + 2 * (reg) + 1)

#define UCODE_REV		0x0123456700000000ull

static bool guest_has_apic;

/* A page for the second life to pass to KVM. */
static gva_t guest_pv_gva;
static gpa_t guest_pv_gpa;

/* ---- The vCPU and its configuration ------------------------------------- */

void arch_requirements(void)
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_SREGS2));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_TRIPLE_FAULT_EVENT));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_EXCEPTION_PAYLOAD));
}

static struct kvm_vm *create_vm_without_irqchip(u64 nr_pages)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct userspace_mem_region *slot0;
	int i;

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, 0, nr_pages, 0);
	for (i = 0; i < NR_MEM_REGIONS; i++)
		vm->memslots[i] = 0;

	kvm_vm_elf_load(vm, program_invocation_name);
	slot0 = memslot2region(vm, 0);
	ucall_init(vm, slot0->region.guest_phys_addr + slot0->region.memory_size);
	vm->arch.gdt = vm_alloc_page(vm);
	vm->arch.tss = vm_alloc_page(vm);
	vm->arch.idt = vm_alloc_page(vm);
	sync_global_to_guest(vm, guest_tsc_khz);

	return vm;
}

static void enable_xen(struct kvm_vm *vm)
{
	int flags = kvm_check_cap(KVM_CAP_XEN_HVM);
	struct kvm_xen_hvm_config config = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL |
			 (flags & KVM_XEN_HVM_CONFIG_EVTCHN_SEND),
		.msr = XEN_HYPERCALL_MSR,
	};
	struct kvm_xen_hvm_attr attr = {
		.type = KVM_XEN_ATTR_TYPE_LONG_MODE,
		.u.long_mode = 1,
	};

	if (!(flags & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL))
		return;

	vm_ioctl(vm, KVM_XEN_HVM_CONFIG, &config);
	vm_ioctl(vm, KVM_XEN_HVM_SET_ATTR, &attr);
}

struct kvm_vm *arch_vm_create(struct reset_env *env, u32 nr_vcpus)
{
	u64 nr_pages = env->c->flags & RESET_DIRTY_RING ? 2048 : 256;
	static const u8 halt[] = { 0xf4, 0xeb, 0xfd };	/* hlt; jmp to it */
	bool has_apic = !(env->c->flags & NO_IRQCHIP);
	struct kvm_vm *vm;

	if (has_apic && !(env->c->flags & SPLIT_IRQCHIP))
		vm = __vm_create(VM_SHAPE_DEFAULT, nr_vcpus, nr_pages);
	else
		vm = create_vm_without_irqchip(4096);
	if (env->c->flags & SPLIT_IRQCHIP)
		vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, NR_IOAPIC_PINS);

	vm_enable_cap(vm, KVM_CAP_EXCEPTION_PAYLOAD, 1);
	vm_enable_cap(vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1);
	if (vm_check_cap(vm, KVM_CAP_EXIT_HYPERCALL))
		vm_enable_cap(vm, KVM_CAP_EXIT_HYPERCALL,
			      BIT_ULL(KVM_HC_MAP_GPA_RANGE));
	if (!(env->c->flags & NO_XEN))
		enable_xen(vm);
	write_guest_global(vm, guest_has_apic, has_apic);

	/*
	 * What a vCPU executes that is reset and not booted.  With nothing there
	 * it gets #UD, and from the guest's first bytes on executes anything.
	 */
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, RESET_VECTOR_GPA,
				    RESET_VECTOR_SLOT, 1, 0);
	memcpy(addr_gpa2hva(vm, RESET_VECTOR_GPA) + 0xff0, halt, sizeof(halt));

	return vm;
}

/* KVM's features, Hyper-V's features, and Xen by other means. */
static const struct kvm_cpuid2 *full_cpuid(void)
{
	static struct kvm_cpuid2 *full;
	const struct kvm_cpuid2 *kvm, *hv;
	struct kvm_cpuid_entry2 *e;
	int i;

	if (full)
		return full;

	kvm = kvm_get_supported_cpuid();
	hv = kvm_get_supported_hv_cpuid();
	full = allocate_kvm_cpuid2(kvm->nent + hv->nent);
	full->nent = 0;

	for (i = 0; i < kvm->nent; i++) {
		e = &full->entries[full->nent++];
		*e = kvm->entries[i];
		/* Make place for Hyper-V. */
		if (e->function >= KVM_CPUID_SIGNATURE &&
		    e->function < KVM_CPUID_SIGNATURE + 0x100)
			e->function += 0x100;
		if (e->function == KVM_CPUID_SIGNATURE + 0x100)
			e->eax = KVM_CPUID_SIGNATURE + 0x101;
	}

	for (i = 0; i < hv->nent; i++)
		full->entries[full->nent++] = hv->entries[i];

	return full;
}

static bool kvm_has_feature_msr(u32 index)
{
	const struct kvm_msr_list *list = kvm_get_feature_msr_index_list();
	int i;

	for (i = 0; i < list->nmsrs; i++) {
		if (list->indices[i] == index)
			return true;
	}

	return false;
}

struct kvm_vcpu *arch_vcpu_create(struct reset_env *env, u32 id)
{
	struct kvm_vcpu *vcpu = __vm_vcpu_add(env->vm, id);
	struct kvm_enable_cap synic = { .cap = KVM_CAP_HYPERV_SYNIC2 };
	u64 mcg_cap;

	vcpu_init_cpuid(vcpu, full_cpuid());

	if (!(env->c->flags & NO_IRQCHIP) &&
	    vm_check_cap(env->vm, KVM_CAP_HYPERV_SYNIC2))
		vcpu_ioctl(vcpu, KVM_ENABLE_CAP, &synic);

	kvm_ioctl(env->vm->kvm_fd, KVM_X86_GET_MCE_CAP_SUPPORTED, &mcg_cap);
	mcg_cap |= KVM_MAX_MCE_BANKS;
	vcpu_ioctl(vcpu, KVM_X86_SETUP_MCE, &mcg_cap);

	/* Values that are nobody's default. */
	vcpu_set_msr(vcpu, MSR_IA32_UCODE_REV, UCODE_REV);
	if (kvm_has_feature_msr(MSR_AMD64_DE_CFG))
		vcpu_set_msr(vcpu, MSR_AMD64_DE_CFG,
			     kvm_get_feature_msr(MSR_AMD64_DE_CFG));

	return vcpu;
}

void arch_vm_finalize(struct reset_env *env)
{
	gva_t gva = vm_alloc_page(env->vm);

	write_guest_global(env->vm, guest_pv_gva, gva);
	write_guest_global(env->vm, guest_pv_gpa, addr_gva2gpa(env->vm, gva));
}

void arch_vm_free(struct reset_env *env)
{
}

void arch_boot(struct reset_env *env, struct kvm_vcpu *vcpu, gva_t stack,
	       void *guest_code, u64 arg)
{
	struct kvm_sregs sregs, helper_sregs;
	struct kvm_regs regs = {};
	struct kvm_xcrs xcrs;

	vcpu_sregs_get(vcpu, &sregs);
	vcpu_sregs_get(env->helper, &helper_sregs);
	helper_sregs.apic_base = sregs.apic_base;
	/* The helper may have run, which shows some constant bits. */
	helper_sregs.cr0 |= X86_CR0_ET;
	helper_sregs.cr8 = 0;
	memset(helper_sregs.interrupt_bitmap, 0, sizeof(sregs.interrupt_bitmap));
	vcpu_sregs_set(vcpu, &helper_sregs);

	if (kvm_cpu_has(X86_FEATURE_XSAVE)) {
		vcpu_xcrs_get(env->helper, &xcrs);
		vcpu_xcrs_set(vcpu, &xcrs);
	}

	regs.rip = (u64)guest_code;
	regs.rflags = X86_EFLAGS_FIXED;
	regs.rsp = stack - 8;
	regs.rdi = arg;
	vcpu_regs_set(vcpu, &regs);

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
}

void arch_remap(struct reset_env *env, gva_t gva, gpa_t gpa)
{
	u64 *pte = vm_get_pte(env->vm, gva);

	*pte = (*pte & ~GENMASK_ULL(51, 12)) | gpa;

	/*
	 * With shadow paging, KVM doesn't get to know that userspace writes to
	 * the guest's page tables, whichever vCPU uses them.  Have it forget all
	 * that it knows about memory.
	 */
	if (!kvm_is_tdp_enabled()) {
		vm_userspace_mem_region_add(env->vm, VM_MEM_SRC_ANONYMOUS,
					    SPARE_GPA, SPARE_SLOT, 1, 0);
		vm_mem_region_delete(env->vm, SPARE_SLOT);
	}
}

void arch_copy_vcpu(struct kvm_vcpu *from, struct kvm_vcpu *to)
{
	int size = kvm_check_cap(KVM_CAP_XSAVE2);
	struct kvm_x86_state *state;
	struct kvm_xsave *xsave;

	/*
	 * vcpu_save_state() invokes KVM_RUN, which puts all of the FPU's state
	 * in use if the CPU doesn't track that.
	 */
	xsave = calloc(1, max_t(int, size, sizeof(*xsave)));
	TEST_ASSERT(xsave, "-ENOMEM when allocating XSAVE state");
	if (size)
		vcpu_ioctl(from, KVM_GET_XSAVE2, xsave);
	else
		vcpu_ioctl(from, KVM_GET_XSAVE, xsave);

	state = vcpu_save_state(from);
	vcpu_load_state(to, state);
	vcpu_ioctl(to, KVM_SET_XSAVE, xsave);

	free(xsave);
	kvm_x86_state_cleanup(state);
}

/* ---- What the guest does ------------------------------------------------- */

static void guest_fill_fpu(void)
{
	u64 pattern[4] = {
		0x5eed5eed5eed0001ull, 0x5eed5eed5eed0002ull,
		0x5eed5eed5eed0003ull, 0x5eed5eed5eed0004ull,
	};
	u32 mxcsr = 0x1fa5;
	u16 fcw = 0x0c7f;

	asm volatile("fninit\n\t"
		     "fldcw %0\n\t"
		     "fldpi\n\t"
		     "fldl2e\n\t"
		     "ldmxcsr %1\n\t"
		     : : "m" (fcw), "m" (mxcsr));

	if (this_cpu_has(X86_FEATURE_XSAVE) &&
	    this_cpu_supported_xcr0() & XFEATURE_MASK_YMM)
		asm volatile("vmovdqu %0, %%ymm0\n\t"
			     "vmovdqu %0, %%ymm7\n\t"
			     "vmovdqu %0, %%ymm15\n\t"
			     : : "m" (pattern) : "xmm0", "xmm7", "xmm15");
	else
		asm volatile("movdqu %0, %%xmm0\n\t"
			     "movdqu %0, %%xmm15\n\t"
			     : : "m" (pattern) : "xmm0", "xmm15");
}

static void guest_pv(gpa_t gpa)
{
	wrmsr_safe(HV_X64_MSR_SIMP, gpa | 1);
	wrmsr_safe(HV_X64_MSR_SIEFP, (gpa + PAGE_SIZE) | 1);
	wrmsr_safe(HV_X64_MSR_SCONTROL, 1);
	wrmsr_safe(HV_X64_MSR_SINT0 + 2, 0x00020052);
	/* Auto-enable, one-shot and periodic, to SINT2. */
	wrmsr_safe(HV_X64_MSR_STIMER0_CONFIG, 0x0002000a);
	wrmsr_safe(HV_X64_MSR_STIMER0_COUNT, 5000);
	wrmsr_safe(HV_X64_MSR_VP_ASSIST_PAGE, (gpa + PAGE_SIZE) | 1);

	wrmsr_safe(MSR_KVM_SYSTEM_TIME_NEW, gpa | 1);
	wrmsr_safe(MSR_KVM_STEAL_TIME, (gpa + 0x40) | 1);
	wrmsr_safe(MSR_KVM_ASYNC_PF_INT, ASYNC_PF_VECTOR);
	wrmsr_safe(MSR_KVM_ASYNC_PF_EN, (gpa + 0x80) | BIT(3) | 1);
	wrmsr_safe(MSR_KVM_PV_EOI_EN, (gpa + 0xc0) | 1);
	wrmsr_safe(MSR_KVM_POLL_CONTROL, 0);
}

static void guest_msrs(void)
{
	wrmsr_safe(MSR_STAR, 0x0123456789abcdefull);
	wrmsr_safe(MSR_LSTAR, 0x11111000);
	wrmsr_safe(MSR_CSTAR, 0x22222000);
	wrmsr_safe(MSR_SYSCALL_MASK, 0x33333);
	wrmsr_safe(MSR_IA32_SYSENTER_CS, 0x44);
	wrmsr_safe(MSR_IA32_SYSENTER_ESP, 0x55555555000);
	wrmsr_safe(MSR_IA32_SYSENTER_EIP, 0x66666666000);
	wrmsr_safe(MSR_KERNEL_GS_BASE, 0x77777000);
	wrmsr_safe(MSR_IA32_CR_PAT, 0x0606060606060606ull);
	wrmsr_safe(MSR_TSC_AUX, 0x88);
	wrmsr_safe(MSR_MTRRdefType, 0xc06);
	wrmsr_safe(MTRRphysBase_MSR(0), 0x12345006);
	wrmsr_safe(MTRRphysMask_MSR(0), 0xfffff800);
	wrmsr_safe(MSR_MTRRfix64K_00000, 0x0606060606060606ull);
	wrmsr_safe(MSR_K7_HWCR, BIT(18));
	wrmsr_safe(MSR_IA32_MC0_CTL, 0);
	wrmsr_safe(MSR_IA32_MCG_CTL, 0);
	wrmsr_safe(MSR_IA32_SPEC_CTRL, 1);
	wrmsr_safe(MSR_IA32_TSC_ADJUST, 0x100000);
	wrmsr_safe(MSR_VM_HSAVE_PA, 0x100000);
	wrmsr_safe(MSR_AMD64_DE_CFG, 0);
	wrmsr_safe(MSR_IA32_XSS, 0);
	wrmsr_safe(MSR_IA32_DEBUGCTLMSR, 1);
	wrmsr_safe(MSR_FS_BASE, 0x99999000);
	wrmsr_safe(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
}

static void guest_apic(void)
{
	x2apic_enable();
	x2apic_write_reg(APIC_TASKPRI, 0x20);
	x2apic_write_reg(APIC_LVTTHMR, 0xe2);
	x2apic_write_reg(APIC_LVTPC, 0xe3);
	x2apic_write_reg(APIC_LVT0, 0xe4);
	x2apic_write_reg(APIC_LVT1, 0xe5);
	x2apic_write_reg(APIC_LVTERR, 0xe6);
	x2apic_write_reg(APIC_TDCR, 0xb);
	/* Periodic, and soon. */
	x2apic_write_reg(APIC_LVTT, 0x000200ef);
	x2apic_write_reg(APIC_TMICT, 100000);
	/* One pending, as RFLAGS.IF is clear. */
	x2apic_write_reg(APIC_SELF_IPI, 0x61);
}

void arch_guest_first_life(gva_t scratch_gva, gpa_t scratch_gpa)
{
	/* Nothing that may fault, as there is no IDT without an APIC either. */
	if (guest_has_apic) {
		guest_apic();
		guest_msrs();
		guest_pv(scratch_gpa);
	}

	asm volatile("mov %0, %%cr2" : : "r" (0xaaaaaul));
	asm volatile("mov %0, %%dr0" : : "r" (0xbbbbb000ul));
	asm volatile("mov %0, %%dr3" : : "r" (0xccccc000ul));
	asm volatile("mov %0, %%dr7" : : "r" (0x755ul));

	guest_fill_fpu();
}

/*
 * Turned on without a vector, which makes KVM send an interrupt at once.  It is
 * not to be that of the old life.
 */
static void guest_check_async_pf(void)
{
	wrmsr(MSR_KVM_ASYNC_PF_EN, (guest_pv_gpa + 0x80) | BIT(3) | 1);
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_IRR + ASYNC_PF_VECTOR / 32 * 0x10) &
			BIT(ASYNC_PF_VECTOR % 32), 0);
	wrmsr(MSR_KVM_ASYNC_PF_EN, 0);
}

/* The timer of the old life was periodic, and its divisor was 1. */
static void guest_check_timer(void)
{
	u64 start, count;

	start = rdtsc();
	x2apic_write_reg(APIC_TMICT, ~0u);
	udelay(1000);
	count = ~0u - x2apic_read_reg(APIC_TMCCT);
	/* The divisor is 2, i.e. it counts at 500 MHz, give or take a half. */
	GUEST_ASSERT_NE(count, 0);
	GUEST_ASSERT(count * guest_tsc_khz <= (rdtsc() - start) * 750000);

	/* It expires after 500 us, once. */
	x2apic_write_reg(APIC_TMICT, 250000);
	udelay(2000);
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TMCCT), 0);
	x2apic_write_reg(APIC_TMICT, 0);
}

/*
 * The IDT has no handler for interrupts, any of them is reported as a failure.
 * Without an APIC of KVM's there is none but for NMIs, and no IDT either.
 */
void arch_guest_second_life(void)
{
	struct pvclock_vcpu_time_info *clock;
	u64 start, dr;

	/* What KVM loads into the CPU is not always what an ioctl returns. */
	asm volatile("mov %%dr0, %0" : "=r" (dr));
	GUEST_ASSERT_EQ(dr, 0);
	asm volatile("mov %%dr3, %0" : "=r" (dr));
	GUEST_ASSERT_EQ(dr, 0);

	if (!guest_has_apic)
		return;

	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_APICBASE) &
			(MSR_IA32_APICBASE_EXTD | MSR_IA32_APICBASE_ENABLE),
			MSR_IA32_APICBASE_ENABLE);

	x2apic_enable();
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TMCCT), 0);

	asm volatile("sti" : : : "memory");
	start = rdtsc();
	while (rdtsc() - start < guest_tsc_khz * 2ull)
		cpu_relax();
	asm volatile("cli" : : : "memory");

	guest_check_timer();
	guest_check_async_pf();

	/* Nobody has paused this life. */
	clock = (void *)guest_pv_gva;
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, guest_pv_gpa | 1);
	GUEST_ASSERT(READ_ONCE(clock->version));
	GUEST_ASSERT_EQ(READ_ONCE(clock->flags) & PVCLOCK_GUEST_STOPPED, 0);
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, 0);
}

/* ---- Exits to leave open ------------------------------------------------- */

static void guest_pio_in(void)
{
	asm volatile("inb %%dx, %%al" : : "d" (PIO_PORT) : "rax");
	GUEST_FAIL("The old life goes on");
}

static void guest_pio_out(void)
{
	asm volatile("outb %%al, %%dx" : : "d" (PIO_PORT), "a" (0));
	GUEST_FAIL("The old life goes on");
}

static u8 guest_ins_buffer[64];

static void guest_string_pio_in(void)
{
	void *dst = guest_ins_buffer;
	u64 count = sizeof(guest_ins_buffer);

	asm volatile("cld; rep insb" : "+D" (dst), "+c" (count)
		     : "d" (PIO_PORT) : "memory");
	GUEST_FAIL("The old life goes on");
}

static void guest_string_pio_out(void)
{
	void *src = guest_ins_buffer;
	u64 count = sizeof(guest_ins_buffer);

	asm volatile("cld; rep outsb" : "+S" (src), "+c" (count)
		     : "d" (PIO_PORT) : "memory");
	GUEST_FAIL("The old life goes on");
}

static void guest_mmio_rmw(void)
{
	asm volatile("addq $1, (%0)" : : "r" (RESET_MMIO_GPA) : "memory");
	GUEST_FAIL("The old life goes on");
}

/* Two exits for one instruction, as the access crosses a page. */
static void guest_mmio_write_split(void)
{
	asm volatile("movq %%rax, (%0)"
		     : : "r" (RESET_MMIO_GPA + PAGE_SIZE - 4), "a" (0));
	GUEST_FAIL("The old life goes on");
}

static void guest_mmio_load_mmx(void)
{
	asm volatile("movq (%0), %%mm0" : : "r" (RESET_MMIO_GPA) : "memory");
	GUEST_FAIL("The old life goes on");
}

static void guest_rdmsr(void)
{
	rdmsr(MSR_NON_EXISTENT);
	GUEST_FAIL("The old life goes on");
}

static void guest_wrmsr(void)
{
	wrmsr(MSR_NON_EXISTENT, 0);
	GUEST_FAIL("The old life goes on");
}

static void guest_map_gpa_range(void)
{
	__kvm_hypercall_map_gpa_range(0, PAGE_SIZE, KVM_MAP_GPA_RANGE_DECRYPTED);
	GUEST_FAIL("The old life goes on");
}

static void guest_hyperv_hypercall(void)
{
	u64 status;

	wrmsr(HV_X64_MSR_SCONTROL, 1);
	__hyperv_hypercall(HVCALL_POST_MESSAGE, 0, 0, &status);
	GUEST_FAIL("The old life goes on");
}

static void guest_xen_hypercall(void)
{
	/* Not known to KVM, i.e. all of it is for userspace. */
	__xen_hypercall(18, 0, NULL);
	GUEST_FAIL("The old life goes on");
}

static void guest_triple_fault(void)
{
	struct desc_ptr idt = {};

	asm volatile("lidt %0; ud2" : : "m" (idt));
}

/* Hypercalls need an identity, which is the VM's. */
static void configure_hyperv(struct reset_env *env)
{
	vcpu_set_msr(env->vcpu, HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
}

static void configure_msr_exit(struct reset_env *env)
{
	vm_enable_cap(env->vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL);
}

/* Answer the exit, KVM has yet to read what was answered. */
static void prepare_answered_exit(struct reset_env *env)
{
	struct kvm_run *run = env->vcpu->run;

	prepare_open_exit(env);

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		if (run->io.direction == KVM_EXIT_IO_IN)
			memset((u8 *)run + run->io.data_offset, 0xa5,
			       run->io.size * run->io.count);
		break;
	case KVM_EXIT_MMIO:
		memset(run->mmio.data, 0xa5, run->mmio.len);
		break;
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		run->msr.data = 0xa5;
		run->msr.error = 0;
		break;
	case KVM_EXIT_HYPERCALL:
		run->hypercall.ret = 0xa5;
		break;
	case KVM_EXIT_HYPERV:
		run->hyperv.u.hcall.result = 0xa5;
		break;
	case KVM_EXIT_XEN:
		run->xen.u.hcall.result = 0xa5;
		break;
	}
}

/* The second of two exits */
static void prepare_second_part(struct reset_env *env)
{
	prepare_answered_exit(env);
	run_to_exit(env->vcpu, env->c->arg);
}

/* Answered, but the instruction faults before it takes the answer. */
static void prepare_unread_answer(struct reset_env *env)
{
	struct kvm_vcpu_events events;
	struct kvm_sregs sregs;

	prepare_answered_exit(env);

	vcpu_sregs_get(env->vcpu, &sregs);
	sregs.cr0 |= X86_CR0_TS;
	vcpu_sregs_set(env->vcpu, &sregs);
	vcpu_run_immediate_exit(env->vcpu);

	vcpu_events_get(env->vcpu, &events);
	TEST_ASSERT_EQ(events.exception.nr, NM_VECTOR);
}

/* The answer isn't for the first load of the new life. */
static void check_unread_answer(struct reset_env *env)
{
	boot(env, guest_mmio_load, 0);
	run_to_exit(env->vcpu, KVM_EXIT_MMIO);
	reset_vcpu(env->vcpu);
}

/* ---- Multiprocessing states ---------------------------------------------- */

static void guest_send_init(u64 apic_id)
{
	x2apic_enable();

	x2apic_write_reg(APIC_ICR, apic_id << 32 | APIC_INT_ASSERT | APIC_DM_INIT);
	GUEST_SYNC(APIC_DM_INIT);
	for (;;) {
		x2apic_write_reg(APIC_ICR, apic_id << 32 | APIC_INT_ASSERT |
				 APIC_DM_STARTUP | 0x12);
		GUEST_SYNC(APIC_DM_STARTUP);
	}
}

static void start_helper(struct reset_env *env, void *guest_code)
{
	struct kvm_regs regs;

	vcpu_regs_get(env->helper, &regs);
	regs.rip = (u64)guest_code;
	regs.rdi = env->vcpu->id;
	vcpu_regs_set(env->helper, &regs);
}

/* An INIT that the vCPU has not seen yet, and @arg SIPIs. */
static void prepare_latched_init(struct reset_env *env)
{
	int i;

	prepare_ran(env);
	start_helper(env, guest_send_init);
	run_to_sync(env->helper);
	for (i = 0; i < env->c->arg; i++)
		run_to_sync(env->helper);
}

/* Waiting for a SIPI, which the vCPU has not seen yet. */
static void prepare_latched_sipi(struct reset_env *env)
{
	prepare_ran(env);
	start_helper(env, guest_send_init);
	run_to_sync(env->helper);
	TEST_ASSERT_EQ(vcpu_get_mp_state(env->vcpu), KVM_MP_STATE_INIT_RECEIVED);
	run_to_sync(env->helper);
}

/* No SIPI is left for the next time that the vCPU waits for one. */
static void check_no_sipi(struct reset_env *env)
{
	vcpu_set_mp_state(env->vcpu, KVM_MP_STATE_INIT_RECEIVED);
	TEST_ASSERT_EQ(vcpu_get_mp_state(env->vcpu), KVM_MP_STATE_INIT_RECEIVED);
	reset_vcpu(env->vcpu);
}

/* ---- Pending events ------------------------------------------------------ */

static void prepare_nmi(struct reset_env *env)
{
	prepare_ran(env);
	vcpu_ioctl(env->vcpu, KVM_NMI, NULL);
}

static void prepare_smi(struct reset_env *env)
{
	prepare_ran(env);
	vcpu_ioctl(env->vcpu, KVM_SMI, NULL);
}

static void prepare_exception(struct reset_env *env)
{
	struct kvm_vcpu_events events;

	prepare_ran(env);
	vcpu_events_get(env->vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	events.exception.pending = 1;
	events.exception.nr = UD_VECTOR;
	vcpu_events_set(env->vcpu, &events);
}

static void prepare_triple_fault(struct reset_env *env)
{
	struct kvm_vcpu_events events;

	prepare_ran(env);
	vcpu_events_get(env->vcpu, &events);
	events.triple_fault.pending = 1;
	vcpu_events_set(env->vcpu, &events);
}

static void prepare_mce(struct reset_env *env)
{
	struct kvm_x86_mce mce = {
		.status = MCI_STATUS_VAL | MCI_STATUS_UC | MCI_STATUS_EN |
			  MCI_STATUS_ADDRV,
		.mcg_status = MCG_STATUS_MCIP,
		.addr = 0x12345000,
		.bank = 1,
	};

	/* Without CR4.MCE that is a triple fault. */
	prepare_ran(env);
	vcpu_ioctl(env->vcpu, KVM_X86_SET_MCE, &mce);
}

/* In memory of the old life, KVM keeps it up to date. */
static void prepare_vapic(struct reset_env *env)
{
	struct kvm_vapic_addr vapic = { .vapic_addr = env->scratch_gpa + 0x200 };

	prepare_ran(env);
	vcpu_ioctl(env->vcpu, KVM_SET_VAPIC_ADDR, &vapic);
}

/* There are no machine checks unless userspace wants them. */
static void check_mce(struct reset_env *env)
{
	TEST_ASSERT_EQ(vcpu_get_msr(env->helper, MSR_IA32_MC0_CTL), 0);
}

static void guest_send_ipi(u64 apic_id)
{
	x2apic_enable();
	x2apic_write_reg(APIC_ICR, apic_id << 32 | APIC_INT_ASSERT | 0x71);
	GUEST_SYNC(1);
	x2apic_write_reg(APIC_ICR, apic_id << 32 | APIC_INT_ASSERT | APIC_DM_NMI);
	GUEST_SYNC(2);
}

static void prepare_ipi(struct reset_env *env)
{
	prepare_ran(env);
	start_helper(env, guest_send_ipi);
	run_to_sync(env->helper);
	run_to_sync(env->helper);
}

/* Things that KVM only does at the next KVM_RUN. */
static void prepare_requests(struct reset_env *env)
{
	prepare_ran(env);
	/* To reset the VM, to tell the guest it was paused, an expired timer. */
	vcpu_ioctl(env->vcpu, KVM_KVMCLOCK_CTRL, NULL);
	TEST_ASSERT(_vcpu_set_msr(env->vcpu, HV_X64_MSR_RESET, 1) == 1,
		    "Cannot set HV_X64_MSR_RESET");
	vcpu_set_msr(env->vcpu, MSR_KVM_SYSTEM_TIME_NEW, (env->scratch_gpa + 0x100) | 1);
	usleep(2000);
}

/* A write that KVM tells userspace about at the next KVM_RUN. */
static void guest_write_msr(u64 msr)
{
	wrmsr(msr, BIT_ULL(63) | 1);
	wrmsr(msr, BIT_ULL(63) | 1);
	GUEST_FAIL("The old life goes on");
}

/* Single-stepping is a reason to exit that comes first. */
static void step_over_wrmsr(struct reset_env *env, u32 msr)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
	};
	struct kvm_regs regs;
	int i;

	/* The emulator has the guest pass the instruction, and exits. */
	vcpu_guest_debug_set(env->vcpu, &debug);
	for (i = 0; i < 200; i++) {
		vcpu_regs_get(env->vcpu, &regs);
		run_to_exit(env->vcpu, KVM_EXIT_DEBUG);
		if (!memcmp(addr_gva2hva(env->vm, regs.rip), "\x0f\x30", 2) &&
		    (u32)regs.rcx == msr)
			break;
	}
	TEST_ASSERT(i < 200, "There is no WRMSR within %d instructions", i);

	memset(&debug, 0, sizeof(debug));
	vcpu_guest_debug_set(env->vcpu, &debug);
}

static void prepare_msr_request(struct reset_env *env)
{
	boot(env, guest_write_msr, env->c->arg);
	step_over_wrmsr(env, env->c->arg);
}

static void guest_write_tpr(void)
{
	x2apic_enable();
	x2apic_write_reg(APIC_TASKPRI, 0x20);
	x2apic_write_reg(APIC_TASKPRI, 0x20);
	GUEST_FAIL("The old life goes on");
}

static void configure_tpr_reports(struct reset_env *env)
{
	struct kvm_tpr_access_ctl ctl = { .enabled = 1 };

	vcpu_ioctl(env->vcpu, KVM_TPR_ACCESS_REPORTING, &ctl);
}

static void prepare_tpr_report(struct reset_env *env)
{
	boot(env, guest_write_tpr, 0);
	step_over_wrmsr(env, APIC_BASE_MSR + (APIC_TASKPRI >> 4));
}

static void guest_sync(void)
{
	GUEST_SYNC(1);
}

static void check_no_request(struct reset_env *env)
{
	boot(env, guest_sync, 0);
	run_to_exit(env->vcpu, KVM_EXIT_IO);
	reset_vcpu(env->vcpu);
}

/* To look at HV_X64_MSR_TPR, as the comparison does, is an access as well. */
static void check_no_tpr_report(struct reset_env *env)
{
	reset_vcpu(env->vcpu);
	check_no_request(env);
}

static void prepare_hyperv_timer(struct reset_env *env)
{
	prepare_ran(env);
	/* Periodic, to SINT2, and enabled: to be started by the next KVM_RUN. */
	vcpu_set_msr(env->vcpu, HV_X64_MSR_STIMER0_CONFIG, 0x00020003);
}

static void guest_kick_cpu(u64 apic_id)
{
	GUEST_ASSERT_EQ(kvm_hypercall(KVM_HC_KICK_CPU, 0, apic_id, 0, 0), 0);
	GUEST_SYNC(1);
}

static void prepare_kick(struct reset_env *env)
{
	prepare_ran(env);
	start_helper(env, guest_kick_cpu);
	run_to_sync(env->helper);
}

/* Nothing is left that ends HLT. */
static void check_halted(struct reset_env *env)
{
	struct kvm_regs regs;

	vcpu_set_mp_state(env->vcpu, KVM_MP_STATE_HALTED);
	TEST_ASSERT_EQ(vcpu_get_mp_state(env->vcpu), KVM_MP_STATE_HALTED);
	run_interrupted(env->vcpu);
	TEST_ASSERT_EQ(vcpu_get_mp_state(env->vcpu), KVM_MP_STATE_HALTED);
	vcpu_regs_get(env->vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, 0xfff0);
	reset_vcpu(env->vcpu);
}

/* An interrupt of the RTC is only delivered after the EOI for the last one. */
static int rtc_irq(struct kvm_vm *vm)
{
	struct kvm_irq_level irq = { .irq = RTC_IRQ, .level = 1 };
	int status;

	vm_ioctl(vm, KVM_IRQ_LINE_STATUS, &irq);
	status = irq.status;
	irq.irq = RTC_IRQ;
	irq.level = 0;
	vm_ioctl(vm, KVM_IRQ_LINE_STATUS, &irq);

	return status;
}

static void configure_rtc(struct reset_env *env)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_SLAVE };

	vm_ioctl(env->vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.pic.imr = 0xff;
	vm_ioctl(env->vm, KVM_SET_IRQCHIP, &chip);

	chip.chip_id = KVM_IRQCHIP_IOAPIC;
	vm_ioctl(env->vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.ioapic.redirtbl[RTC_IRQ].bits = 0;
	chip.chip.ioapic.redirtbl[RTC_IRQ].fields.vector = RTC_VECTOR;
	chip.chip.ioapic.redirtbl[RTC_IRQ].fields.dest_id = env->vcpu->id;
	vm_ioctl(env->vm, KVM_SET_IRQCHIP, &chip);
}

static void prepare_rtc(struct reset_env *env)
{
	prepare_ran(env);
	TEST_ASSERT_EQ(rtc_irq(env->vm), 1);
	TEST_ASSERT_EQ(rtc_irq(env->vm), 0);
}

static void guest_enable_apic(void)
{
	x2apic_enable();
	GUEST_SYNC(1);
}

static void check_rtc(struct reset_env *env)
{
	boot(env, guest_enable_apic, 0);
	run_to_sync(env->vcpu);
	TEST_ASSERT(rtc_irq(env->vm) == 1,
		    "KVM still waits for the EOI of the old life");
	reset_vcpu(env->vcpu);
}

static void require_xen_events(void)
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_XEN_HVM) &
		     KVM_XEN_HVM_CONFIG_EVTCHN_SEND);
}

static void configure_xen_event(struct reset_env *env)
{
	struct kvm_xen_hvm_attr attr = {
		.type = KVM_XEN_ATTR_TYPE_SHARED_INFO,
		.u.shared_info.gfn = vm_phy_page_alloc(env->vm, 0x100000, 0) >>
				     PAGE_SHIFT,
	};

	vm_ioctl(env->vm, KVM_XEN_HVM_SET_ATTR, &attr);
}

/* KVM keeps it, because there is no vcpu_info to deliver it to. */
static void prepare_xen_event(struct reset_env *env)
{
	struct kvm_irq_routing_xen_evtchn event = {
		.port = 1,
		.vcpu = env->vcpu->id,
		.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL,
	};

	prepare_ran(env);
	vm_ioctl(env->vm, KVM_XEN_HVM_EVTCHN_SEND, &event);
}

static int open_userfaultfd(void)
{
	return syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

static void require_userfaultfd(void)
{
	int fd = open_userfaultfd();

	TEST_REQUIRE(fd >= 0);
	close(fd);
}

/* A page that is there when userspace says so. */
static void configure_absent_page(struct reset_env *env)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range.len = PAGE_SIZE,
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	vm_userspace_mem_region_add(env->vm, VM_MEM_SRC_ANONYMOUS, ABSENT_GPA,
				    ABSENT_SLOT, 1, 0);
	virt_map(env->vm, ABSENT_GPA, ABSENT_GPA, 1);

	reg.range.start = (u64)addr_gpa2hva(env->vm, ABSENT_GPA);
	env->dev_fd = open_userfaultfd();
	TEST_ASSERT(!ioctl(env->dev_fd, UFFDIO_API, &api),
		    "UFFDIO_API: errno %d", errno);
	TEST_ASSERT(!ioctl(env->dev_fd, UFFDIO_REGISTER, &reg),
		    "UFFDIO_REGISTER: errno %d", errno);
}

static void populate_absent_page(struct reset_env *env)
{
	struct uffdio_zeropage zero = {
		.range.start = (u64)addr_gpa2hva(env->vm, ABSENT_GPA),
		.range.len = PAGE_SIZE,
	};

	TEST_ASSERT(!ioctl(env->dev_fd, UFFDIO_ZEROPAGE, &zero),
		    "UFFDIO_ZEROPAGE: errno %d", errno);
}

/* Without interrupts there would be no use in not waiting in KVM. */
static void guest_read_absent_page(void)
{
	sti_nop();
	READ_ONCE(*(u64 *)ABSENT_GPA);
	cli();
	GUEST_SYNC(1);
}

/* The vCPU is halted, and it's a worker that waits for the page. */
static void wait_for_absent_page(struct reset_env *env)
{
	struct uffd_msg msg;
	int i;

	boot(env, guest_read_absent_page, 0);
	for (i = 0; i < 100; i++) {
		run_interrupted(env->vcpu);
		if (read(env->dev_fd, &msg, sizeof(msg)) == sizeof(msg))
			break;
	}
	TEST_ASSERT(i < 100, "Nobody asks for the page");
}

/* The page is there now, which the vCPU is yet to be told. */
static void prepare_absent_page(struct reset_env *env)
{
	wait_for_absent_page(env);
	populate_absent_page(env);
}

/* Nobody tells the new life, which may have to wait for the same page. */
static void check_absent_page(struct reset_env *env)
{
	check_halted(env);

	TEST_ASSERT(!madvise(addr_gpa2hva(env->vm, ABSENT_GPA), PAGE_SIZE,
			     MADV_DONTNEED), "madvise(): errno %d", errno);
	wait_for_absent_page(env);
	populate_absent_page(env);
	run_to_sync(env->vcpu);
	reset_vcpu(env->vcpu);
}

/* Clocks go on in any case, but not from what the old life has made of them. */
static void prepare_clocks(struct reset_env *env)
{
	prepare_ran(env);
	/* It goes on at once, i.e. can not be read back. */
	TEST_ASSERT(_vcpu_set_msr(env->vcpu, HV_X64_MSR_VP_RUNTIME, BIT_ULL(50)) == 1,
		    "Cannot set HV_X64_MSR_VP_RUNTIME");
	vcpu_set_msr(env->vcpu, MSR_IA32_TSC, BIT_ULL(55));
	/* A new vCPU is in sync with the last one that was written to. */
	vcpu_set_msr(env->helper, MSR_IA32_TSC, 1);
}

/*
 * A frequency that isn't the VM's, close enough to the host's, which is what 0
 * sets, to do without TSC scaling.
 */
static void configure_tsc_khz(struct reset_env *env)
{
	u64 khz;

	vcpu_ioctl(env->vcpu, KVM_SET_TSC_KHZ, NULL);
	khz = __vcpu_ioctl(env->vcpu, KVM_GET_TSC_KHZ, NULL);
	vcpu_ioctl(env->vcpu, KVM_SET_TSC_KHZ, (void *)(khz + 1));
	if (env->helper)
		vcpu_ioctl(env->helper, KVM_SET_TSC_KHZ, (void *)(khz + 1));
}

static u64 tsc_offset(struct kvm_vcpu *vcpu)
{
	u64 offset;

	vcpu_device_attr_get(vcpu, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET,
			     &offset);
	return offset;
}

static void prepare_tsc_khz(struct reset_env *env)
{
	prepare_ran(env);
	usleep(200000);
}

/*
 * The other vCPU has been there for a while.  On a host whose TSC is unstable, it
 * has to run to catch up.  Nothing that is compared means anything if its TSC
 * stands still, i.e. if KVM has no ratio for the VM's frequency.
 */
static void run_helper(struct reset_env *env)
{
	u64 tsc = vcpu_get_msr(env->helper, MSR_IA32_TSC);

	start_helper(env, guest_sync);
	run_to_sync(env->helper);
	TEST_ASSERT(vcpu_get_msr(env->helper, MSR_IA32_TSC) > tsc,
		    "The TSC stands still at %lu", (unsigned long)tsc);
}

static void assert_tsc_in_sync(struct reset_env *env)
{
	s64 diff = tsc_offset(env->vcpu) - tsc_offset(env->helper);

	TEST_ASSERT(llabs(diff) < guest_tsc_khz * 100ll,
		    "The TSC is %lld cycles off", (long long)diff);
}

static void check_tsc_khz(struct reset_env *env)
{
	run_helper(env);
	reset_vcpu(env->vcpu);
	assert_tsc_in_sync(env);
}

#define TSC_WRITTEN		BIT_ULL(40)

static void prepare_tsc_written(struct reset_env *env)
{
	prepare_ran(env);
	vcpu_set_msr(env->helper, MSR_IA32_TSC, TSC_WRITTEN);
	usleep(200000);
}

/*
 * The reset isn't a write: the same value as before means to be in sync with
 * the vCPU that it was written to, and another value takes effect.
 */
static void check_tsc_written(struct reset_env *env)
{
	run_helper(env);
	vcpu_set_msr(env->vcpu, MSR_IA32_TSC, TSC_WRITTEN);
	assert_tsc_in_sync(env);

	check_tsc_khz(env);
	vcpu_set_msr(env->vcpu, MSR_IA32_TSC, 1);
	TEST_ASSERT(vcpu_get_msr(env->vcpu, MSR_IA32_TSC) < TSC_WRITTEN,
		    "The TSC goes on although it was written after the reset");
}

/* The times of Xen's runstates add up to how long the vCPU has been there. */
static void check_runstate(struct kvm_vcpu *vcpu)
{
	struct kvm_xen_vcpu_attr attr = {
		.type = KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_CURRENT,
		.u.runstate.state = 2,
	};

	if (__vcpu_ioctl(vcpu, KVM_XEN_VCPU_SET_ATTR, &attr))
		return;

	attr.type = KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_DATA;
	vcpu_ioctl(vcpu, KVM_XEN_VCPU_GET_ATTR, &attr);
	TEST_ASSERT_EQ(attr.u.runstate.state_entry_time,
		       attr.u.runstate.time_running +
		       attr.u.runstate.time_runnable +
		       attr.u.runstate.time_blocked +
		       attr.u.runstate.time_offline);
}

static void check_clocks(struct reset_env *env)
{
	TEST_ASSERT(vcpu_get_msr(env->vcpu, HV_X64_MSR_VP_RUNTIME) < BIT_ULL(50),
		    "HV_X64_MSR_VP_RUNTIME goes on from the old life");
	TEST_ASSERT(vcpu_get_msr(env->vcpu, MSR_IA32_TSC) < BIT_ULL(55),
		    "The TSC goes on from the old life");
	run_helper(env);
	check_runstate(env->vcpu);
}

static void guest_steal_time(gpa_t gpa)
{
	wrmsr(MSR_KVM_STEAL_TIME, gpa | 1);
	GUEST_SYNC(1);
}

static void *busy_thread(void *arg)
{
	while (!READ_ONCE(*(bool *)arg))
		;

	return NULL;
}

/* KVM reports what the thread has waited for a CPU since the last report. */
static void prepare_steal_time(struct reset_env *env)
{
	long run_delay = get_run_delay();
	bool stop = false;
	pthread_t thread;

	pin_self_to_any_cpu();
	pthread_create(&thread, NULL, busy_thread, &stop);
	while (get_run_delay() - run_delay < 100 * (long)MIN_RUN_DELAY_NS)
		sched_yield();
	WRITE_ONCE(stop, true);
	pthread_join(thread, NULL);

	boot(env, guest_steal_time, env->scratch_gpa);
	run_to_sync(env->vcpu);
}

/* The first report of a vCPU has all of it. */
static void check_steal_time(struct reset_env *env)
{
	struct kvm_steal_time *st = addr_gpa2hva(env->vm, env->scratch_gpa);
	u64 run_delay = get_run_delay();

	memset(st, 0, sizeof(*st));
	boot(env, guest_steal_time, env->scratch_gpa);
	run_to_sync(env->vcpu);
	TEST_ASSERT(st->steal >= run_delay,
		    "Steal time goes on from the old life: %llu of %lu ns",
		    st->steal, (unsigned long)run_delay);
	reset_vcpu(env->vcpu);
}

/* ---- Modes --------------------------------------------------------------- */

static const u8 smi_handler[] = {
	0xe6, RESET_VECTOR_PORT,	/* out %al, $RESET_VECTOR_PORT */
	0x0f, 0xaa,			/* rsm */
};

static void configure_smm(struct reset_env *env)
{
	vm_userspace_mem_region_add(env->vm, VM_MEM_SRC_ANONYMOUS, SMRAM_GPA,
				    SMRAM_MEMSLOT, SMRAM_PAGES, 0);
	memcpy(addr_gpa2hva(env->vm, SMRAM_GPA) + 0x8000, smi_handler,
	       sizeof(smi_handler));
}

static void prepare_smm(struct reset_env *env)
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_SMM));
	prepare_ran(env);
	vcpu_run_immediate_exit(env->vcpu);
	vcpu_set_msr(env->vcpu, MSR_IA32_SMBASE, SMRAM_GPA);
	vcpu_ioctl(env->vcpu, KVM_SMI, NULL);
	run_to_exit(env->vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(env->vcpu->run->io.port, RESET_VECTOR_PORT);
}

/* INIT is blocked in SMM, and latched. */
static void prepare_smm_init(struct reset_env *env)
{
	prepare_smm(env);
	start_helper(env, guest_send_init);
	run_to_sync(env->helper);
	TEST_ASSERT_EQ(vcpu_get_mp_state(env->vcpu), KVM_MP_STATE_RUNNABLE);
}

static void guest_l2(void)
{
	for (;;)
		asm volatile("outb %%al, %%dx" : : "d" (PIO_PORT), "a" (0));
}

static void guest_l1_svm(struct svm_test_data *svm)
{
	generic_svm_setup(svm, guest_l2);
	/* NMIs and interrupts are blocked. */
	clgi();
	run_guest(svm->vmcb, svm->vmcb_gpa);
	GUEST_FAIL("L1 is not to run again");
}

static void guest_l1_vmx(struct vmx_pages *vmx)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, guest_l2);
	vmlaunch();
	GUEST_FAIL("L1 is not to run again");
}

static void prepare_nested(struct reset_env *env)
{
	gva_t gva;

	if (kvm_cpu_has(X86_FEATURE_SVM)) {
		vcpu_alloc_svm(env->vm, &gva);
		boot(env, guest_l1_svm, gva);
	} else {
		TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_VMX));
		vcpu_alloc_vmx(env->vm, &gva);
		boot(env, guest_l1_vmx, gva);
	}
	run_to_exit(env->vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(env->vcpu->run->io.port, PIO_PORT);
}

static void prepare_nested_completed(struct reset_env *env)
{
	prepare_nested(env);
	vcpu_run_immediate_exit(env->vcpu);
}

static void prepare_nested_dirty(struct reset_env *env)
{
	struct kvm_vcpu_events events;

	prepare_nested(env);
	vcpu_events_get(env->vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	events.exception.pending = 1;
	events.exception.nr = UD_VECTOR;
	vcpu_events_set(env->vcpu, &events);
	vcpu_ioctl(env->vcpu, KVM_NMI, NULL);
}

static void configure_singlestep(struct reset_env *env)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
	};

	vcpu_guest_debug_set(env->vcpu, &debug);
}

static void prepare_singlestep(struct reset_env *env)
{
	int i;

	boot(env, guest_l2, 0);
	configure_singlestep(env);
	for (i = 0; i < 2; i++)
		run_to_exit(env->vcpu, KVM_EXIT_DEBUG);
}

/* Without changing a register, i.e. the reset itself says where to go on from. */
static void check_singlestep(struct reset_env *env)
{
	struct kvm_vcpu *vcpu = env->vcpu;
	struct kvm_regs regs;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
	run_to_exit(vcpu, KVM_EXIT_DEBUG);
	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, 0xfff1);
	reset_vcpu(vcpu);
}

/* The debugger is userspace's and stays attached. */
static void resume_singlestep(struct reset_env *env)
{
	struct kvm_guest_debug debug = {};
	struct kvm_regs regs;

	/* It says where to single-step from whenever RIP is set. */
	boot(env, guest_l2, 0);
	configure_singlestep(env);
	run_to_exit(env->vcpu, KVM_EXIT_DEBUG);
	vcpu_regs_get(env->vcpu, &regs);
	TEST_ASSERT(regs.rip > (u64)guest_l2 && regs.rip < (u64)guest_l2 + 16,
		    "Single-stepping ends at 0x%llx", regs.rip);
	vcpu_guest_debug_set(env->vcpu, &debug);
	reset_vcpu(env->vcpu);
}

/* Without changing a register: the reset vector, in real mode. */
static void configure_reset_vector(struct reset_env *env)
{
	static const u8 code[] = { 0xe6, RESET_VECTOR_PORT };

	memcpy(addr_gpa2hva(env->vm, RESET_VECTOR_GPA) + 0xff0, code, sizeof(code));
}

static void check_reset_vector(struct reset_env *env)
{
	struct kvm_vcpu *vcpu = env->vcpu;
	struct kvm_regs regs;

	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
	run_to_exit(vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(vcpu->run->io.port, RESET_VECTOR_PORT);
	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT(regs.rip == 0xfff0 || regs.rip == 0xfff2,
		    "The exit is from 0x%llx", regs.rip);
	reset_vcpu(vcpu);
}

static void prepare_interrupt(struct reset_env *env)
{
	struct kvm_interrupt irq = { .irq = 0x44 };

	prepare_ran(env);
	vcpu_ioctl(env->vcpu, KVM_INTERRUPT, &irq);
}

/* There is room for one interrupt of the PIC, which is userspace's. */
static void prepare_extint(struct reset_env *env)
{
	struct kvm_interrupt irq = { .irq = 0x44 };

	boot(env, guest_sync, 0);
	run_to_sync(env->vcpu);
	vcpu_ioctl(env->vcpu, KVM_INTERRUPT, &irq);
}

static void check_extint(struct reset_env *env)
{
	struct kvm_interrupt irq = { .irq = 0x45 };

	vcpu_ioctl(env->vcpu, KVM_INTERRUPT, &irq);
	reset_vcpu(env->vcpu);
}

/* The EOI of a level-triggered interrupt is for userspace's I/O APIC. */
static void configure_level_irq(struct reset_env *env)
{
	struct kvm_irq_routing *routing = kvm_gsi_routing_create();
	struct kvm_irq_routing_entry *entry = &routing->entries[0];

	entry->type = KVM_IRQ_ROUTING_MSI;
	entry->u.msi.address_lo = MSI_ADDRESS | env->vcpu->id << 12;
	entry->u.msi.data = BIT(15) | BIT(14) | LEVEL_VECTOR;
	routing->nr = 1;
	kvm_gsi_routing_write(env->vm, routing);
}

static void guest_eoi(void)
{
	x2apic_enable();
	GUEST_SYNC(1);
	x2apic_write_reg(APIC_EOI, 0);
	GUEST_FAIL("The old life goes on");
}

static void prepare_eoi(struct reset_env *env)
{
	struct kvm_lapic_state lapic;
	u32 *isr;

	boot(env, guest_eoi, 0);
	run_to_sync(env->vcpu);

	vcpu_ioctl(env->vcpu, KVM_GET_LAPIC, &lapic);
	isr = (u32 *)&lapic.regs[APIC_ISR + LEVEL_VECTOR / 32 * 0x10];
	*isr |= BIT(LEVEL_VECTOR % 32);
	vcpu_ioctl(env->vcpu, KVM_SET_LAPIC, &lapic);

	step_over_wrmsr(env, APIC_BASE_MSR + (APIC_EOI >> 4));
}

/* To whoever has the logical ID of the old life. */
static int send_logical_nmi(struct reset_env *env)
{
	struct kvm_msi msi = {
		.address_lo = MSI_ADDRESS | BIT(2) |
			      BIT(env->vcpu->id) << 12,
		.data = APIC_DM_NMI,
	};

	return __vm_ioctl(env->vm, KVM_SIGNAL_MSI, &msi);
}

static void prepare_logical_id(struct reset_env *env)
{
	prepare_ran(env);
	TEST_ASSERT(send_logical_nmi(env) > 0, "The vCPU has no logical ID");
}

static void check_logical_id(struct reset_env *env)
{
	struct kvm_vcpu_events events;

	TEST_ASSERT(send_logical_nmi(env) <= 0,
		    "The logical ID of the old life is still valid");
	vcpu_events_get(env->vcpu, &events);
	TEST_ASSERT(!events.nmi.pending, "An NMI for the old life is pending");
}

/* Set by the host, and by the guest */
static bool guest_stop;
static u64 guest_nr_ipis;

static void guest_send_pv_ipis(u64 id)
{
	u64 nr;

	for (nr = 1; !READ_ONCE(guest_stop); nr++) {
		GUEST_ASSERT((s64)kvm_hypercall(KVM_HC_SEND_IPI, BIT_ULL(id), 0,
						0, PV_IPI_VECTOR) >= 0);
		WRITE_ONCE(guest_nr_ipis, nr);
	}
	GUEST_DONE();
}

static void *ipi_thread(void *arg)
{
	run_to_done(arg);

	return NULL;
}

/* Reset the vCPU again and again while the helper sends IPIs. */
static void reset_during_ipis(struct reset_env *env, void *guest_code,
			      void (*check)(struct kvm_vcpu *vcpu))
{
	u64 *nr = addr_gva2hva(env->vm, (gva_t)&guest_nr_ipis);
	bool *stop = addr_gva2hva(env->vm, (gva_t)&guest_stop);
	pthread_t thread;
	int i;

	vcpu_arch_set_entry_point(env->helper, guest_code);
	vcpu_args_set(env->helper, 1, (u64)env->vcpu->id);
	pthread_create(&thread, NULL, ipi_thread, env->helper);

	for (i = 0; i < NR_IPI_RESETS || READ_ONCE(*nr) < MIN_IPIS; i++) {
		reset_vcpu(env->vcpu);
		if (check)
			check(env->vcpu);
	}

	WRITE_ONCE(*stop, true);
	pthread_join(thread, NULL);
}

/* A vCPU that is reset is not to be noticed by the others. */
static void prepare_pv_ipis(struct reset_env *env)
{
	reset_during_ipis(env, guest_send_pv_ipis, NULL);
}

/* A broadcast for vCPUs in xAPIC mode, but not for the sender. */
static void guest_send_x2apic_nmis(void)
{
	u32 eax, ebx, ecx, edx;
	u64 nr;

	x2apic_enable();
	for (nr = 1; !READ_ONCE(guest_stop); nr++) {
		x2apic_write_reg(APIC_ICR, 0xffull << 32 | APIC_DM_NMI);
		/* An exit that KVM doesn't handle with interrupts disabled */
		__cpuid(0, 0, &eax, &ebx, &ecx, &edx);
		WRITE_ONCE(guest_nr_ipis, nr);
	}
	GUEST_DONE();
}

static void check_no_nmi(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	TEST_ASSERT(!events.nmi.pending, "An NMI that is for vCPU 255");
}

static void prepare_x2apic_ipis(struct reset_env *env)
{
	reset_during_ipis(env, guest_send_x2apic_nmis, check_no_nmi);
}

/* What a guest hypervisor can use, less than CPUID says. */
static void require_vmx(void)
{
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_VMX));
	TEST_REQUIRE(kvm_get_feature_msr(MSR_IA32_VMX_PROCBASED_CTLS2) &
		     (u64)SECONDARY_EXEC_ENABLE_RDTSCP << 32);
}

static void configure_vmx_controls(struct reset_env *env)
{
	u64 ctls = vcpu_get_msr(env->vcpu, MSR_IA32_VMX_PROCBASED_CTLS2);

	ctls &= ~((u64)SECONDARY_EXEC_ENABLE_RDTSCP << 32);
	vcpu_set_msr(env->vcpu, MSR_IA32_VMX_PROCBASED_CTLS2, ctls);
}

static void check_vmx_controls(struct reset_env *env)
{
	u64 ctls = vcpu_get_msr(env->vcpu, MSR_IA32_VMX_PROCBASED_CTLS2);

	TEST_ASSERT(!(ctls & (u64)SECONDARY_EXEC_ENABLE_RDTSCP << 32),
		    "The reset gives the guest hypervisor RDTSCP");
}

/* MISC_ENABLE shows in CPUID, and nothing else changes that does. */
static void configure_mwait(struct reset_env *env)
{
	vm_enable_cap(env->vm, KVM_CAP_DISABLE_QUIRKS2,
		      KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT);
}

static void prepare_mwait(struct reset_env *env)
{
	vcpu_set_msr(env->vcpu, MSR_IA32_MISC_ENABLE,
		     MISC_ENABLE_RESET_VALUE | MSR_IA32_MISC_ENABLE_MWAIT);
	TEST_ASSERT(vcpu_cpuid_has(env->vcpu, X86_FEATURE_MWAIT),
		    "MISC_ENABLE does not show in CPUID");
}

/* KVM_RUN takes it from there. */
static void prepare_cr8(struct reset_env *env)
{
	prepare_ran(env);
	env->vcpu->run->cr8 = 5;
}

static void check_cr8(struct reset_env *env)
{
	TEST_ASSERT_EQ(env->vcpu->run->cr8, 0);
}

#define OPEN_EXIT(_name, _code, _reason, _configure)	\
	{						\
		.name = "open exit: " _name,		\
		.configure = _configure,		\
		.prepare = prepare_answered_exit,	\
		.guest_code = _code,			\
		.arg = _reason,				\
	}

const struct reset_case arch_cases[] = {
	{ .name = "HALTED", .prepare = prepare_mp_state,
	  .arg = KVM_MP_STATE_HALTED, .flags = RESET_DIRTY },
	{ .name = "UNINITIALIZED", .prepare = prepare_mp_state,
	  .arg = KVM_MP_STATE_UNINITIALIZED },
	{ .name = "INIT_RECEIVED", .prepare = prepare_mp_state,
	  .arg = KVM_MP_STATE_INIT_RECEIVED, .check = check_no_sipi },
	{ .name = "INIT latched", .prepare = prepare_latched_init,
	  .check = check_no_sipi },
	{ .name = "INIT and SIPI latched", .prepare = prepare_latched_init,
	  .arg = 1, .check = check_no_sipi },
	{ .name = "SIPI latched", .prepare = prepare_latched_sipi,
	  .check = check_no_sipi },
	OPEN_EXIT("PIO in", guest_pio_in, KVM_EXIT_IO, NULL),
	OPEN_EXIT("PIO out", guest_pio_out, KVM_EXIT_IO, NULL),
	OPEN_EXIT("string PIO in", guest_string_pio_in, KVM_EXIT_IO, NULL),
	OPEN_EXIT("string PIO out", guest_string_pio_out, KVM_EXIT_IO, NULL),
	OPEN_EXIT("MMIO read", guest_mmio_load, KVM_EXIT_MMIO, configure_mmio),
	OPEN_EXIT("MMIO write", guest_mmio_store, KVM_EXIT_MMIO, configure_mmio),
	OPEN_EXIT("MMIO read-modify-write", guest_mmio_rmw, KVM_EXIT_MMIO,
		  configure_mmio),
	OPEN_EXIT("split MMIO", guest_mmio_write_split, KVM_EXIT_MMIO,
		  configure_mmio),
	{ .name = "open exit: second half of split MMIO",
	  .configure = configure_mmio, .prepare = prepare_second_part,
	  .guest_code = guest_mmio_write_split, .arg = KVM_EXIT_MMIO },
	{ .name = "answer to MMIO that is not read",
	  .configure = configure_mmio, .prepare = prepare_unread_answer,
	  .check = check_unread_answer, .guest_code = guest_mmio_load_mmx,
	  .arg = KVM_EXIT_MMIO },
	OPEN_EXIT("RDMSR", guest_rdmsr, KVM_EXIT_X86_RDMSR, configure_msr_exit),
	OPEN_EXIT("WRMSR", guest_wrmsr, KVM_EXIT_X86_WRMSR, configure_msr_exit),
	{ .name = "open exit: KVM hypercall", .flags = NO_XEN,
	  .prepare = prepare_answered_exit, .guest_code = guest_map_gpa_range,
	  .arg = KVM_EXIT_HYPERCALL },
	OPEN_EXIT("Hyper-V hypercall", guest_hyperv_hypercall, KVM_EXIT_HYPERV,
		  configure_hyperv),
	OPEN_EXIT("Xen hypercall", guest_xen_hypercall, KVM_EXIT_XEN, NULL),
	OPEN_EXIT("shutdown", guest_triple_fault, KVM_EXIT_SHUTDOWN, NULL),
	{ .name = "pending NMI", .prepare = prepare_nmi },
	{ .name = "pending SMI", .prepare = prepare_smi },
	{ .name = "pending exception", .prepare = prepare_exception },
	{ .name = "pending triple fault", .prepare = prepare_triple_fault },
	{ .name = "pending machine check", .prepare = prepare_mce,
	  .check = check_mce, .flags = RESET_DIRTY },
	{ .name = "pending IPI and NMI", .prepare = prepare_ipi },
	{ .name = "TPR in memory", .prepare = prepare_vapic },
	{ .name = "pending requests", .prepare = prepare_requests },
	{ .name = "pending Hyper-V crash", .prepare = prepare_msr_request,
	  .arg = HV_X64_MSR_CRASH_CTL, .check = check_no_request },
	{ .name = "pending Hyper-V exit", .prepare = prepare_msr_request,
	  .arg = HV_X64_MSR_SCONTROL, .check = check_no_request },
	{ .name = "pending TPR report", .configure = configure_tpr_reports,
	  .prepare = prepare_tpr_report, .check = check_no_tpr_report },
	{ .name = "pending Hyper-V timer", .prepare = prepare_hyperv_timer,
	  .check = check_halted },
	{ .name = "pending kick", .prepare = prepare_kick,
	  .check = check_halted, .flags = NO_XEN },
	{ .name = "pending RTC interrupt", .configure = configure_rtc,
	  .prepare = prepare_rtc, .check = check_rtc },
	{ .name = "logical APIC ID", .prepare = prepare_logical_id,
	  .check = check_logical_id },
	{ .name = "pending Xen event", .require = require_xen_events,
	  .configure = configure_xen_event, .prepare = prepare_xen_event,
	  .check = check_halted },
	{ .name = "asynchronous page fault", .require = require_userfaultfd,
	  .configure = configure_absent_page, .prepare = prepare_absent_page,
	  .check = check_absent_page },
	{ .name = "PV IPIs of another vCPU", .prepare = prepare_pv_ipis,
	  .flags = NO_XEN },
	{ .name = "x2APIC IPIs of another vCPU",
	  .prepare = prepare_x2apic_ipis },
	{ .name = "VMX controls", .require = require_vmx,
	  .configure = configure_vmx_controls, .prepare = prepare_ran,
	  .check = check_vmx_controls },
	{ .name = "CPUID", .configure = configure_mwait,
	  .prepare = prepare_mwait },
	{ .name = "clocks", .prepare = prepare_clocks, .check = check_clocks },
	{ .name = "TSC frequency", .configure = configure_tsc_khz,
	  .prepare = prepare_tsc_khz, .check = check_tsc_khz },
	{ .name = "TSC written", .prepare = prepare_tsc_written,
	  .check = check_tsc_written },
	{ .name = "steal time", .prepare = prepare_steal_time,
	  .check = check_steal_time, .flags = NO_XEN },
	{ .name = "SMM", .configure = configure_smm, .prepare = prepare_smm,
	  .flags = RESET_DIRTY },
	{ .name = "SMM, boot vCPU", .configure = configure_smm,
	  .prepare = prepare_smm, .flags = RESET_BOOT_VCPU },
	{ .name = "SMM with INIT latched", .configure = configure_smm,
	  .prepare = prepare_smm_init, .check = check_no_sipi },
	{ .name = "nested", .prepare = prepare_nested, .flags = RESET_DIRTY },
	{ .name = "nested, completed", .prepare = prepare_nested_completed },
	{ .name = "nested, pending exception and NMI",
	  .prepare = prepare_nested_dirty },
	{ .name = "single-step", .configure = configure_singlestep,
	  .prepare = prepare_singlestep, .check = check_singlestep,
	  .resume = resume_singlestep },
	{ .name = "reset vector", .configure = configure_reset_vector,
	  .prepare = prepare_ran, .check = check_reset_vector },
	{ .name = "userspace APIC", .prepare = prepare_cr8,
	  .check = check_cr8, .flags = NO_IRQCHIP },
	{ .name = "userspace APIC, dirty", .prepare = prepare_dirty,
	  .flags = NO_IRQCHIP },
	{ .name = "userspace APIC, pending interrupt",
	  .prepare = prepare_interrupt, .flags = NO_IRQCHIP },
	{ .name = "userspace PIC, pending interrupt",
	  .prepare = prepare_extint, .check = check_extint,
	  .flags = SPLIT_IRQCHIP },
	{ .name = "userspace I/O APIC, pending EOI",
	  .configure = configure_level_irq, .prepare = prepare_eoi,
	  .check = check_no_request, .flags = SPLIT_IRQCHIP },
	{}
};

const struct vcpu_state_rule arch_allowed[] = {
	{ "regs.rdx",				"is from CPUID, set after creation" },
	{ "xen.runstate_current",		"tells whether it was preempted" },
	{}
};

#define CONSTANT	"constant"
#define WRITE_ONLY	"write-only"

const struct vcpu_state_rule arch_not_dirtied[] = {
	{ "events.interrupt.soft",		"never reported" },
	{ "events.sipi_vector",			"only reported along with a SIPI" },
	{ "events.flags",			CONSTANT },
	{ "nested.format",			CONSTANT },
	{ "nested.hdr*",			"not used by SVM" },
	{ "fpu.mxcsr",				"never reported" },
	{ "xsave.unused*",			CONSTANT },
	{ "debugregs.flags",			CONSTANT },
	{ "lapic*",				"reserved, constant or write-only" },
	{ "msr.MSR_IA32_FEAT_CTL",		"needs VMX" },
	{ "msr.MSR_VM_HSAVE_PA",		"needs SVM" },
	{ "msr.MSR_IA32_DEBUGCTLMSR",		"needs LBR virtualization" },
	{ "msr.MSR_IA32_LAST*",			"needs LBR virtualization" },
	{ "msr.HV_X64_MSR_TSC_FREQUENCY",	CONSTANT },
	{ "msr.HV_X64_MSR_APIC_FREQUENCY",	CONSTANT },
	{ "msr.HV_X64_MSR_RESET",		WRITE_ONLY },
	{ "msr.HV_X64_MSR_EOM",			WRITE_ONLY },
	{ "msr.MSR_KVM_ASYNC_PF_ACK",		WRITE_ONLY },
	{ "msr.MSR_AMD64_TSC_RATIO",		"needs TSC scaling" },
	{ "msr.MSR_IA32_P5_*",			CONSTANT },
	{ "msr.MSR_IA32_PLATFORM_ID",		CONSTANT },
	{ "msr.MSR_FSB_FREQ",			CONSTANT },
	{ "msr.MSR_MTRRcap",			CONSTANT },
	{ "msr.MSR_IA32_BBL_CR_CTL3",		CONSTANT },
	{ "msr.MSR_IA32_PERFCTR*",		"needs a PMU" },
	{ "msr.MSR_P6_EVNTSEL*",		"needs a PMU" },
	{ "msr.MSR_K7_EVNTSEL*",		"needs a PMU" },
	{ "msr.MSR_K7_PERFCTR*",		"needs a PMU" },
	{ "msr.MSR_F15H_PERF_*",		"needs a PMU" },
	{ "msr.MSR_IA32_PERF_STATUS",		CONSTANT },
	{ "msr.MSR_IA32_PERF_CTL",		CONSTANT },
	{ "msr.MSR_IA32_XFD*",			"needs AMX" },
	{ "msr.MSR_IA32_XSS",			"needs a supervisor state" },
	{ "msr.MSR_IA32_MCx_CTL2_*",		"needs CMCI" },
	{ "msr.0x0000002a",			CONSTANT },	/* EBL_CR_POWERON */
	{ "msr.0x0000002c",			CONSTANT },	/* EBC_FREQUENCY_ID */
	{ "msr.0x000006*",			CONSTANT },	/* RAPL */
	{ "msr.MSR_AMD64_SYSCFG",		CONSTANT },
	{ "msr.0xc001001b",			CONSTANT },	/* DF_CFG */
	{ "msr.MSR_AMD64_NB_CFG",		CONSTANT },
	{ "msr.MSR_K8_INT_PENDING_MSG",		CONSTANT },
	{ "msr.MSR_FAM10H_MMIO_CONF_BASE",	CONSTANT },
	{ "msr.0xc001011[23]",			CONSTANT },	/* TSEG */
	{ "msr.0xc0011021",			CONSTANT },	/* IC_CFG */
	{ "msr.MSR_AMD64_DC_CFG",		CONSTANT },
	{ "msr.MSR_AMD64_TW_CFG",		CONSTANT },
	{ "msr.MSR_AMD64_BU_CFG2",		CONSTANT },
	{ "msr.MSR_F15H_EX_CFG",		CONSTANT },
	{}
};

static void check_segment(const char *name, const struct kvm_segment *seg,
			  u64 base, u16 selector)
{
	TEST_ASSERT(seg->base == base && seg->selector == selector &&
		    seg->limit == 0xffff && seg->present,
		    "%s: base 0x%llx, selector 0x%x, limit 0x%x, present %u", name,
		    seg->base, seg->selector, seg->limit, seg->present);
}

static void check_lapic(struct kvm_vcpu *vcpu)
{
	static const struct {
		u32 reg;
		u32 value;
	} values[] = {
		{ APIC_TASKPRI, 0 }, { APIC_LDR, 0 }, { APIC_DFR, 0xffffffff },
		{ APIC_SPIV, 0xff }, { APIC_ESR, 0 }, { APIC_ICR, 0 },
		{ APIC_ICR2, 0 }, { APIC_LVTT, APIC_LVT_MASKED },
		{ APIC_LVTTHMR, APIC_LVT_MASKED }, { APIC_LVTPC, APIC_LVT_MASKED },
		{ APIC_LVT1, APIC_LVT_MASKED }, { APIC_LVTERR, APIC_LVT_MASKED },
		{ APIC_TMICT, 0 }, { APIC_TMCCT, 0 }, { APIC_TDCR, 0 },
	};
	struct kvm_lapic_state lapic;
	u32 value;
	int i;

	if (__vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic))
		return;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		value = *(u32 *)&lapic.regs[values[i].reg];
		TEST_ASSERT(value == values[i].value,
			    "APIC register 0x%x is 0x%x instead of 0x%x",
			    values[i].reg, value, values[i].value);
	}
	/* The boot vCPU gets interrupts of the PIC. */
	TEST_ASSERT_EQ(*(u32 *)&lapic.regs[APIC_LVT0],
		       vcpu->id ? APIC_LVT_MASKED : APIC_DM_EXTINT);
	TEST_ASSERT_EQ(*(u32 *)&lapic.regs[APIC_ID], vcpu->id << 24);
	TEST_ASSERT_EQ(vcpu_get_msr(vcpu, MSR_IA32_APICBASE) & GENMASK(11, 0),
		       MSR_IA32_APICBASE_ENABLE |
		       (vcpu->id ? 0 : MSR_IA32_APICBASE_BSP));
}

static void check_msr(struct kvm_vcpu *vcpu, u32 msr, u64 value)
{
	TEST_ASSERT(vcpu_get_msr(vcpu, msr) == value,
		    "MSR 0x%x is 0x%lx instead of 0x%lx", msr,
		    (unsigned long)vcpu_get_msr(vcpu, msr), (unsigned long)value);
}

/*
 * The manual's values, because KVM takes the same path for a new vCPU.  RESET
 * puts the CPU's model into EDX, which a new vCPU has no CPUID for.
 */
void arch_check_reset(struct kvm_vcpu *vcpu)
{
	struct kvm_xen_vcpu_attr attr = {
		.type = KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_CURRENT,
	};
	struct kvm_debugregs dr;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_regs regs;
	struct kvm_xcrs xcrs;
	struct kvm_fpu fpu;

	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT_EQ(regs.rdx, vcpu_get_cpuid_entry(vcpu, 1)->eax);
	TEST_ASSERT_EQ(regs.rip, 0xfff0);
	TEST_ASSERT_EQ(regs.rflags & ~X86_EFLAGS_TF, X86_EFLAGS_FIXED);
	TEST_ASSERT_EQ(regs.rsp, 0);

	vcpu_sregs_get(vcpu, &sregs);
	TEST_ASSERT_EQ(sregs.cr0, X86_CR0_ET | X86_CR0_NW | X86_CR0_CD);
	TEST_ASSERT_EQ(sregs.cr2 | sregs.cr3 | sregs.cr4 | sregs.cr8 | sregs.efer, 0);
	check_segment("CS", &sregs.cs, 0xffff0000, 0xf000);
	check_segment("DS", &sregs.ds, 0, 0);
	check_segment("ES", &sregs.es, 0, 0);
	check_segment("FS", &sregs.fs, 0, 0);
	check_segment("GS", &sregs.gs, 0, 0);
	check_segment("SS", &sregs.ss, 0, 0);
	check_segment("LDTR", &sregs.ldt, 0, 0);
	check_segment("TR", &sregs.tr, 0, 0);
	TEST_ASSERT(!sregs.gdt.base && sregs.gdt.limit == 0xffff,
		    "GDTR: base 0x%llx, limit 0x%x", sregs.gdt.base, sregs.gdt.limit);
	TEST_ASSERT(!sregs.idt.base && sregs.idt.limit == 0xffff,
		    "IDTR: base 0x%llx, limit 0x%x", sregs.idt.base, sregs.idt.limit);

	vcpu_debugregs_get(vcpu, &dr);
	TEST_ASSERT_EQ(dr.db[0] | dr.db[1] | dr.db[2] | dr.db[3], 0);
	TEST_ASSERT_EQ(dr.dr6, 0xffff0ff0);
	TEST_ASSERT_EQ(dr.dr7, 0x400);

	vcpu_fpu_get(vcpu, &fpu);
	TEST_ASSERT_EQ(fpu.fcw, 0x37f);
	if (kvm_cpu_has(X86_FEATURE_XSAVE)) {
		vcpu_xsave_get(vcpu, &xsave);
		/* MXCSR */
		TEST_ASSERT_EQ(xsave.region[6], 0x1f80);
		vcpu_xcrs_get(vcpu, &xcrs);
		TEST_ASSERT_EQ(xcrs.xcrs[0].value, XFEATURE_MASK_FP);
	}

	check_lapic(vcpu);
	check_msr(vcpu, MSR_IA32_CR_PAT, PAT_RESET_VALUE);
	check_msr(vcpu, MSR_IA32_MISC_ENABLE, MISC_ENABLE_RESET_VALUE);
	check_msr(vcpu, MSR_IA32_MCG_CTL, ~0ull);
	check_msr(vcpu, MSR_IA32_MC0_CTL, ~0ull);
	check_msr(vcpu, MSR_KVM_POLL_CONTROL, 1);
	if (kvm_has_cap(KVM_CAP_X86_SMM))
		check_msr(vcpu, MSR_IA32_SMBASE, 0x30000);

	/* Running, or runnable if it was preempted */
	if (!__vcpu_ioctl(vcpu, KVM_XEN_VCPU_GET_ATTR, &attr))
		TEST_ASSERT(attr.u.runstate.state <= 1,
			    "The runstate of Xen is %llu", attr.u.runstate.state);
}

/* Hyper-V's SynIC tells userspace about its pages. */
bool arch_skip_exit(struct kvm_vcpu *vcpu)
{
	return vcpu->run->exit_reason == KVM_EXIT_TPR_ACCESS ||
	       (vcpu->run->exit_reason == KVM_EXIT_HYPERV &&
		vcpu->run->hyperv.type == KVM_EXIT_HYPERV_SYNIC);
}

struct kvm_vcpu *arch_helper_create(struct reset_env *env, u32 id)
{
	return vm_vcpu_add(env->vm, id, NULL);
}

void arch_guest_idle(void)
{
	asm volatile("hlt");
}

void arch_test_refusals(void)
{
}
