// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything that userspace can read about an x86 vCPU, see vcpu_state.h
 */
#include <asm/kvm_para.h>
#include <linux/bits.h>

#include "apic.h"
#include "hyperv.h"
#include "kvm_util.h"
#include "processor.h"
#include "vcpu_state.h"

/* Ranges in which the MSRs are that KVM knows of, listed or not. */
static const struct {
	u32 first;
	u32 last;
} msr_ranges[] = {
	{ 0x00000000, 0x000007ff },
	/* 0x800: x2APIC registers, which KVM_GET_LAPIC has */
	{ 0x00000c00, 0x000010ff },
	{ 0x000014c0, 0x000014df },
	{ 0x00001900, 0x000019ff },
	{ 0x40000000, 0x400001ff },
	{ 0x4b564d00, 0x4b564dff },
	{ 0xc0000000, 0xc00003ff },
	{ 0xc0010000, 0xc00103ff },
	{ 0xc0011000, 0xc00110ff },
};

#define MTRRphysBase_MSR(reg)	(0x200 + 2 * (reg))
#define MTRRphysMask_MSR(reg)	(0x200 + 2 * (reg) + 1)

#define MSR_NAME(msr)	{ msr, #msr }

static const struct {
	u32 index;
	const char *name;
} msr_names[] = {
	MSR_NAME(MSR_IA32_P5_MC_ADDR),
	MSR_NAME(MSR_IA32_P5_MC_TYPE),
	MSR_NAME(MSR_IA32_TSC),
	MSR_NAME(MSR_IA32_PLATFORM_ID),
	MSR_NAME(MSR_IA32_APICBASE),
	MSR_NAME(MSR_IA32_FEAT_CTL),
	MSR_NAME(MSR_IA32_TSC_ADJUST),
	MSR_NAME(MSR_IA32_SPEC_CTRL),
	MSR_NAME(MSR_IA32_PRED_CMD),
	MSR_NAME(MSR_IA32_UCODE_WRITE),
	MSR_NAME(MSR_IA32_UCODE_REV),
	MSR_NAME(MSR_IA32_SGXLEPUBKEYHASH0),
	MSR_NAME(MSR_IA32_SGXLEPUBKEYHASH1),
	MSR_NAME(MSR_IA32_SGXLEPUBKEYHASH2),
	MSR_NAME(MSR_IA32_SGXLEPUBKEYHASH3),
	MSR_NAME(MSR_IA32_SMBASE),
	MSR_NAME(MSR_SMI_COUNT),
	MSR_NAME(MSR_IA32_PERFCTR0),
	MSR_NAME(MSR_IA32_PERFCTR1),
	MSR_NAME(MSR_FSB_FREQ),
	MSR_NAME(MSR_PLATFORM_INFO),
	MSR_NAME(MSR_MTRRcap),
	MSR_NAME(MSR_IA32_ARCH_CAPABILITIES),
	MSR_NAME(MSR_IA32_FLUSH_CMD),
	MSR_NAME(MSR_IA32_BBL_CR_CTL3),
	MSR_NAME(MSR_IA32_TSX_CTRL),
	MSR_NAME(MSR_IA32_SYSENTER_CS),
	MSR_NAME(MSR_IA32_SYSENTER_ESP),
	MSR_NAME(MSR_IA32_SYSENTER_EIP),
	MSR_NAME(MSR_IA32_MCG_CAP),
	MSR_NAME(MSR_IA32_MCG_STATUS),
	MSR_NAME(MSR_IA32_MCG_CTL),
	MSR_NAME(MSR_MISC_FEATURES_ENABLES),
	MSR_NAME(MSR_P6_EVNTSEL0),
	MSR_NAME(MSR_P6_EVNTSEL1),
	MSR_NAME(MSR_IA32_PERF_STATUS),
	MSR_NAME(MSR_IA32_PERF_CTL),
	MSR_NAME(MSR_IA32_MISC_ENABLE),
	MSR_NAME(MSR_IA32_XFD),
	MSR_NAME(MSR_IA32_XFD_ERR),
	MSR_NAME(MSR_IA32_DEBUGCTLMSR),
	MSR_NAME(MSR_IA32_LASTBRANCHFROMIP),
	MSR_NAME(MSR_IA32_LASTBRANCHTOIP),
	MSR_NAME(MSR_IA32_LASTINTFROMIP),
	MSR_NAME(MSR_IA32_LASTINTTOIP),
	MSR_NAME(MSR_IA32_POWER_CTL),
	MSR_NAME(MSR_IA32_CR_PAT),
	MSR_NAME(MSR_MTRRdefType),
	MSR_NAME(MSR_CORE_PERF_FIXED_CTR0),
	MSR_NAME(MSR_CORE_PERF_FIXED_CTR_CTRL),
	MSR_NAME(MSR_CORE_PERF_GLOBAL_STATUS),
	MSR_NAME(MSR_CORE_PERF_GLOBAL_CTRL),
	MSR_NAME(MSR_CORE_PERF_GLOBAL_OVF_CTRL),
	MSR_NAME(MSR_IA32_PERF_CAPABILITIES),
	MSR_NAME(MSR_IA32_PEBS_ENABLE),
	MSR_NAME(MSR_IA32_DS_AREA),
	MSR_NAME(MSR_PEBS_DATA_CFG),
	MSR_NAME(MSR_IA32_MCG_EXT_CTL),
	MSR_NAME(MSR_IA32_U_CET),
	MSR_NAME(MSR_IA32_S_CET),
	MSR_NAME(MSR_IA32_PL0_SSP),
	MSR_NAME(MSR_IA32_PL1_SSP),
	MSR_NAME(MSR_IA32_PL2_SSP),
	MSR_NAME(MSR_IA32_PL3_SSP),
	MSR_NAME(MSR_IA32_INT_SSP_TAB),
	MSR_NAME(MSR_IA32_TSC_DEADLINE),
	MSR_NAME(MSR_IA32_BNDCFGS),
	MSR_NAME(MSR_IA32_XSS),
	MSR_NAME(HV_X64_MSR_GUEST_OS_ID),
	MSR_NAME(HV_X64_MSR_HYPERCALL),
	MSR_NAME(HV_X64_MSR_VP_INDEX),
	MSR_NAME(HV_X64_MSR_RESET),
	MSR_NAME(HV_X64_MSR_VP_RUNTIME),
	MSR_NAME(HV_X64_MSR_TIME_REF_COUNT),
	MSR_NAME(HV_X64_MSR_REFERENCE_TSC),
	MSR_NAME(HV_X64_MSR_TSC_FREQUENCY),
	MSR_NAME(HV_X64_MSR_APIC_FREQUENCY),
	MSR_NAME(HV_X64_MSR_EOI),
	MSR_NAME(HV_X64_MSR_ICR),
	MSR_NAME(HV_X64_MSR_TPR),
	MSR_NAME(HV_X64_MSR_VP_ASSIST_PAGE),
	MSR_NAME(HV_X64_MSR_SCONTROL),
	MSR_NAME(HV_X64_MSR_SVERSION),
	MSR_NAME(HV_X64_MSR_SIEFP),
	MSR_NAME(HV_X64_MSR_SIMP),
	MSR_NAME(HV_X64_MSR_EOM),
	MSR_NAME(HV_X64_MSR_SYNDBG_CONTROL),
	MSR_NAME(HV_X64_MSR_SYNDBG_STATUS),
	MSR_NAME(HV_X64_MSR_SYNDBG_SEND_BUFFER),
	MSR_NAME(HV_X64_MSR_SYNDBG_RECV_BUFFER),
	MSR_NAME(HV_X64_MSR_SYNDBG_PENDING_BUFFER),
	MSR_NAME(HV_X64_MSR_SYNDBG_OPTIONS),
	MSR_NAME(HV_X64_MSR_CRASH_CTL),
	MSR_NAME(HV_X64_MSR_REENLIGHTENMENT_CONTROL),
	MSR_NAME(HV_X64_MSR_TSC_EMULATION_CONTROL),
	MSR_NAME(HV_X64_MSR_TSC_EMULATION_STATUS),
	MSR_NAME(HV_X64_MSR_TSC_INVARIANT_CONTROL),
	MSR_NAME(MSR_KVM_WALL_CLOCK),
	MSR_NAME(MSR_KVM_SYSTEM_TIME),
	MSR_NAME(MSR_KVM_WALL_CLOCK_NEW),
	MSR_NAME(MSR_KVM_SYSTEM_TIME_NEW),
	MSR_NAME(MSR_KVM_ASYNC_PF_EN),
	MSR_NAME(MSR_KVM_STEAL_TIME),
	MSR_NAME(MSR_KVM_PV_EOI_EN),
	MSR_NAME(MSR_KVM_POLL_CONTROL),
	MSR_NAME(MSR_KVM_ASYNC_PF_INT),
	MSR_NAME(MSR_KVM_ASYNC_PF_ACK),
	MSR_NAME(MSR_KVM_MIGRATION_CONTROL),
	MSR_NAME(MSR_EFER),
	MSR_NAME(MSR_STAR),
	MSR_NAME(MSR_LSTAR),
	MSR_NAME(MSR_CSTAR),
	MSR_NAME(MSR_SYSCALL_MASK),
	MSR_NAME(MSR_FS_BASE),
	MSR_NAME(MSR_GS_BASE),
	MSR_NAME(MSR_KERNEL_GS_BASE),
	MSR_NAME(MSR_TSC_AUX),
	MSR_NAME(MSR_AMD64_TSC_RATIO),
	MSR_NAME(MSR_AMD64_PERF_CNTR_GLOBAL_STATUS),
	MSR_NAME(MSR_AMD64_PERF_CNTR_GLOBAL_CTL),
	MSR_NAME(MSR_AMD64_PERF_CNTR_GLOBAL_STATUS_CLR),
	MSR_NAME(MSR_AMD64_PERF_CNTR_GLOBAL_STATUS_SET),
	MSR_NAME(MSR_AMD64_SYSCFG),
	MSR_NAME(MSR_K7_HWCR),
	MSR_NAME(MSR_K8_INT_PENDING_MSG),
	MSR_NAME(MSR_AMD64_NB_CFG),
	MSR_NAME(MSR_AMD64_PATCH_LOADER),
	MSR_NAME(MSR_FAM10H_MMIO_CONF_BASE),
	MSR_NAME(MSR_VM_CR),
	MSR_NAME(MSR_VM_IGNNE),
	MSR_NAME(MSR_VM_HSAVE_PA),
	MSR_NAME(MSR_AMD64_VIRT_SPEC_CTRL),
	MSR_NAME(MSR_AMD64_OSVW_ID_LENGTH),
	MSR_NAME(MSR_AMD64_OSVW_STATUS),
	MSR_NAME(MSR_AMD64_DC_CFG),
	MSR_NAME(MSR_AMD64_TW_CFG),
	MSR_NAME(MSR_AMD64_DE_CFG),
	MSR_NAME(MSR_AMD64_BU_CFG2),
	MSR_NAME(MSR_F15H_EX_CFG),
};

/* The names of MSRs that come in rows: the member, and how far apart they are. */
static const struct {
	u32 first;
	u32 nr;
	u32 step;
	const char *name;
} msr_row_names[] = {
	{ MSR_IA32_PMC0,		8,  1, "MSR_IA32_PMC" },
	{ MSR_P6_PERFCTR0,		8,  1, "MSR_IA32_PERFCTR" },
	{ MSR_P6_EVNTSEL0,		8,  1, "MSR_P6_EVNTSEL" },
	{ MTRRphysBase_MSR(0),		8,  2, "MTRRphysBase" },
	{ MTRRphysMask_MSR(0),		8,  2, "MTRRphysMask" },
	{ MSR_MTRRfix64K_00000,		1,  1, "MTRRfix64K_00000_" },
	{ MSR_MTRRfix16K_80000,		2,  1, "MTRRfix16K_" },
	{ MSR_MTRRfix4K_C0000,		8,  1, "MTRRfix4K_" },
	{ MSR_IA32_MC0_CTL2,		32, 1, "MSR_IA32_MCx_CTL2_" },
	{ MSR_CORE_PERF_FIXED_CTR0,	4,  1, "MSR_CORE_PERF_FIXED_CTR" },
	{ MSR_IA32_MC0_CTL,		32, 4, "MSR_IA32_MCx_CTL" },
	{ MSR_IA32_MC0_STATUS,		32, 4, "MSR_IA32_MCx_STATUS" },
	{ MSR_IA32_MC0_ADDR,		32, 4, "MSR_IA32_MCx_ADDR" },
	{ MSR_IA32_MC0_MISC,		32, 4, "MSR_IA32_MCx_MISC" },
	{ MSR_IA32_VMX_BASIC,		18, 1, "MSR_IA32_VMX_CAP" },
	{ MSR_IA32_RTIT_CTL,		26, 1, "MSR_IA32_RTIT" },
	{ HV_X64_MSR_SINT0,		16, 1, "HV_X64_MSR_SINT" },
	{ HV_X64_MSR_STIMER0_CONFIG,	4,  2, "HV_X64_MSR_STIMER_CONFIG" },
	{ HV_X64_MSR_STIMER0_COUNT,	4,  2, "HV_X64_MSR_STIMER_COUNT" },
	{ HV_X64_MSR_CRASH_P0,		5,  1, "HV_X64_MSR_CRASH_P" },
	{ MSR_K7_EVNTSEL0,		4,  1, "MSR_K7_EVNTSEL" },
	{ MSR_K7_PERFCTR0,		4,  1, "MSR_K7_PERFCTR" },
	{ MSR_F15H_PERF_CTL,		6,  2, "MSR_F15H_PERF_CTL" },
	{ MSR_F15H_PERF_CTR,		6,  2, "MSR_F15H_PERF_CTR" },
};

static u32 *msrs;
static unsigned int nr_msrs;

static void msr_name(u32 index, char *name, size_t size)
{
	u32 offset;
	int i;

	for (i = 0; i < ARRAY_SIZE(msr_row_names); i++) {
		offset = index - msr_row_names[i].first;
		if (index >= msr_row_names[i].first &&
		    offset % msr_row_names[i].step == 0 &&
		    offset / msr_row_names[i].step < msr_row_names[i].nr) {
			snprintf(name, size, "msr.%s%u", msr_row_names[i].name,
				 offset / msr_row_names[i].step);
			return;
		}
	}

	for (i = 0; i < ARRAY_SIZE(msr_names); i++) {
		if (msr_names[i].index == index) {
			snprintf(name, size, "msr.%s", msr_names[i].name);
			return;
		}
	}

	snprintf(name, size, "msr.0x%08x", index);
}

static bool get_msr(struct kvm_vcpu *vcpu, u32 index, u64 *value)
{
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entry;
	} buffer = {
		.header.nmsrs = 1,
		.entry.index = index,
	};

	if (__vcpu_ioctl(vcpu, KVM_GET_MSRS, &buffer.header) != 1)
		return false;

	*value = buffer.entry.data;
	return true;
}

static void add_to_msrs(u32 index)
{
	unsigned int i;

	for (i = 0; i < nr_msrs; i++) {
		if (msrs[i] == index)
			return;
	}

	if (nr_msrs % 256 == 0) {
		msrs = realloc(msrs, (nr_msrs + 256) * sizeof(*msrs));
		TEST_ASSERT(msrs, "-ENOMEM when growing the list of MSRs");
	}
	msrs[nr_msrs++] = index;
}

/*
 * KVM_GET_MSR_INDEX_LIST has what KVM wants userspace to save and restore.
 * What a reset has to do with is more, look for what can be read.
 */
static void find_msrs(struct kvm_vcpu *vcpu)
{
	const struct kvm_msr_list *list = kvm_get_msr_index_list();
	u64 value;
	u32 index;
	int i;

	if (msrs)
		return;

	for (i = 0; i < list->nmsrs; i++)
		add_to_msrs(list->indices[i]);

	for (i = 0; i < ARRAY_SIZE(msr_ranges); i++) {
		for (index = msr_ranges[i].first;
		     index <= msr_ranges[i].last; index++) {
			if (get_msr(vcpu, index, &value))
				add_to_msrs(index);
		}
	}
}

static void add_msrs(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	unsigned int i, done = 0, nr;
	char name[VCPU_STATE_NAME_LEN];
	struct kvm_msrs *buffer;
	int r;

	find_msrs(vcpu);

	buffer = malloc(sizeof(*buffer) + nr_msrs * sizeof(buffer->entries[0]));
	TEST_ASSERT(buffer, "-ENOMEM when allocating MSRs");

	/* KVM stops at an MSR that cannot be read, go on behind it. */
	while (done < nr_msrs) {
		nr = min(nr_msrs - done, 128u);
		buffer->nmsrs = nr;
		for (i = 0; i < nr; i++) {
			buffer->entries[i].index = msrs[done + i];
			buffer->entries[i].data = 0;
		}

		r = __vcpu_ioctl(vcpu, KVM_GET_MSRS, buffer);
		TEST_ASSERT(r >= 0, KVM_IOCTL_ERROR(KVM_GET_MSRS, r));

		for (i = 0; i < nr && i <= r; i++) {
			msr_name(msrs[done + i], name, sizeof(name));
			vcpu_state_add(state, &buffer->entries[i].data,
				       i < r ? sizeof(u64) : 0, "%s", name);
		}
		done += i;
	}

	free(buffer);
}

static void add_segment(struct vcpu_state *state, const struct kvm_segment *seg,
			const char *name)
{
	vcpu_state_add_member(state, name, seg, base);
	vcpu_state_add_member(state, name, seg, limit);
	vcpu_state_add_member(state, name, seg, selector);
	vcpu_state_add_member(state, name, seg, type);
	vcpu_state_add_member(state, name, seg, present);
	vcpu_state_add_member(state, name, seg, dpl);
	vcpu_state_add_member(state, name, seg, db);
	vcpu_state_add_member(state, name, seg, s);
	vcpu_state_add_member(state, name, seg, l);
	vcpu_state_add_member(state, name, seg, g);
	vcpu_state_add_member(state, name, seg, avl);
	vcpu_state_add_member(state, name, seg, unusable);
}

static void add_sregs(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	struct kvm_sregs2 sregs2 = {};
	struct kvm_sregs sregs;

	vcpu_ioctl(vcpu, KVM_GET_SREGS, &sregs);
	vcpu_ioctl(vcpu, KVM_GET_SREGS2, &sregs2);

	add_segment(state, &sregs2.cs, "sregs2.cs");
	add_segment(state, &sregs2.ds, "sregs2.ds");
	add_segment(state, &sregs2.es, "sregs2.es");
	add_segment(state, &sregs2.fs, "sregs2.fs");
	add_segment(state, &sregs2.gs, "sregs2.gs");
	add_segment(state, &sregs2.ss, "sregs2.ss");
	add_segment(state, &sregs2.tr, "sregs2.tr");
	add_segment(state, &sregs2.ldt, "sregs2.ldt");
	vcpu_state_add_member(state, "sregs2", &sregs2, gdt.base);
	vcpu_state_add_member(state, "sregs2", &sregs2, gdt.limit);
	vcpu_state_add_member(state, "sregs2", &sregs2, idt.base);
	vcpu_state_add_member(state, "sregs2", &sregs2, idt.limit);
	vcpu_state_add_member(state, "sregs2", &sregs2, cr0);
	vcpu_state_add_member(state, "sregs2", &sregs2, cr2);
	vcpu_state_add_member(state, "sregs2", &sregs2, cr3);
	vcpu_state_add_member(state, "sregs2", &sregs2, cr4);
	vcpu_state_add_member(state, "sregs2", &sregs2, cr8);
	vcpu_state_add_member(state, "sregs2", &sregs2, efer);
	vcpu_state_add_member(state, "sregs2", &sregs2, apic_base);
	vcpu_state_add_member(state, "sregs2", &sregs2, flags);
	vcpu_state_add_array(state, sregs2.pdptrs, sizeof(sregs2.pdptrs),
			     sizeof(u64), "sregs2.pdptrs");
	vcpu_state_add_member(state, "sregs", &sregs, interrupt_bitmap);
}

static void add_regs(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);

	vcpu_state_add_member(state, "regs", &regs, rax);
	vcpu_state_add_member(state, "regs", &regs, rbx);
	vcpu_state_add_member(state, "regs", &regs, rcx);
	vcpu_state_add_member(state, "regs", &regs, rdx);
	vcpu_state_add_member(state, "regs", &regs, rsi);
	vcpu_state_add_member(state, "regs", &regs, rdi);
	vcpu_state_add_member(state, "regs", &regs, rsp);
	vcpu_state_add_member(state, "regs", &regs, rbp);
	vcpu_state_add_member(state, "regs", &regs, r8);
	vcpu_state_add_member(state, "regs", &regs, r9);
	vcpu_state_add_member(state, "regs", &regs, r10);
	vcpu_state_add_member(state, "regs", &regs, r11);
	vcpu_state_add_member(state, "regs", &regs, r12);
	vcpu_state_add_member(state, "regs", &regs, r13);
	vcpu_state_add_member(state, "regs", &regs, r14);
	vcpu_state_add_member(state, "regs", &regs, r15);
	vcpu_state_add_member(state, "regs", &regs, rip);
	vcpu_state_add_member(state, "regs", &regs, rflags);
}

static void add_events(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);

	vcpu_state_add_member(state, "events", &events, exception.injected);
	vcpu_state_add_member(state, "events", &events, exception.nr);
	vcpu_state_add_member(state, "events", &events, exception.has_error_code);
	vcpu_state_add_member(state, "events", &events, exception.pending);
	vcpu_state_add_member(state, "events", &events, exception.error_code);
	vcpu_state_add_member(state, "events", &events, exception_has_payload);
	vcpu_state_add_member(state, "events", &events, exception_payload);
	vcpu_state_add_member(state, "events", &events, interrupt.injected);
	vcpu_state_add_member(state, "events", &events, interrupt.nr);
	vcpu_state_add_member(state, "events", &events, interrupt.soft);
	vcpu_state_add_member(state, "events", &events, interrupt.shadow);
	vcpu_state_add_member(state, "events", &events, nmi.injected);
	vcpu_state_add_member(state, "events", &events, nmi.pending);
	vcpu_state_add_member(state, "events", &events, nmi.masked);
	vcpu_state_add_member(state, "events", &events, sipi_vector);
	vcpu_state_add_member(state, "events", &events, flags);
	vcpu_state_add_member(state, "events", &events, smi.smm);
	vcpu_state_add_member(state, "events", &events, smi.pending);
	vcpu_state_add_member(state, "events", &events, smi.smm_inside_nmi);
	vcpu_state_add_member(state, "events", &events, smi.latched_init);
	vcpu_state_add_member(state, "events", &events, triple_fault.pending);
}

static void add_fpu(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	struct kvm_fpu fpu;

	vcpu_fpu_get(vcpu, &fpu);

	vcpu_state_add_array(state, fpu.fpr, sizeof(fpu.fpr), 16, "fpu.fpr");
	vcpu_state_add_member(state, "fpu", &fpu, fcw);
	vcpu_state_add_member(state, "fpu", &fpu, fsw);
	vcpu_state_add_member(state, "fpu", &fpu, ftwx);
	vcpu_state_add_member(state, "fpu", &fpu, last_opcode);
	vcpu_state_add_member(state, "fpu", &fpu, last_ip);
	vcpu_state_add_member(state, "fpu", &fpu, last_dp);
	vcpu_state_add_array(state, fpu.xmm, sizeof(fpu.xmm), 16, "fpu.xmm");
	vcpu_state_add_member(state, "fpu", &fpu, mxcsr);
}

static size_t xsave_size(struct kvm_vcpu *vcpu)
{
	int size = vm_check_cap(vcpu->vm, KVM_CAP_XSAVE2);

	return size ? size : sizeof(struct kvm_xsave);
}

static void *get_xsave(struct kvm_vcpu *vcpu)
{
	void *xsave = calloc(1, xsave_size(vcpu));

	TEST_ASSERT(xsave, "-ENOMEM when allocating XSAVE state");
	if (vm_check_cap(vcpu->vm, KVM_CAP_XSAVE2))
		vcpu_xsave2_get(vcpu, xsave);
	else
		vcpu_xsave_get(vcpu, xsave);

	return xsave;
}

/* What is at @offset of an XSAVE area: its component, -1 if there is none. */
static int xsave_component(u64 xcr0, size_t offset)
{
	u32 eax, ebx, ecx, edx;
	int i;

	if (offset < 416)
		return offset < 160 ? 0 : 1;

	for (i = 2; i < 63; i++) {
		if (!(xcr0 & BIT_ULL(i)))
			continue;

		__cpuid(0xd, i, &eax, &ebx, &ecx, &edx);
		if (offset >= ebx && offset < ebx + eax)
			return i;
	}

	return -1;
}

static void add_xsave(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	static const char * const names[] = {
		"x87", "sse", "avx", "bndregs", "bndcsr", "opmask", "zmm_hi256",
		"hi16_zmm", NULL, "pkru",
	};
	u64 xcr0 = kvm_cpu_supported_xcr0();
	void *xsave = get_xsave(vcpu);
	size_t offset;
	int i;

	for (offset = 0; offset < xsave_size(vcpu); offset += sizeof(u64)) {
		i = xsave_component(xcr0, offset);

		if (offset == 512)
			vcpu_state_add(state, xsave + offset, sizeof(u64),
				       "xsave.xstate_bv");
		else if (i < 0)
			vcpu_state_add(state, xsave + offset, sizeof(u64),
				       "xsave.unused[0x%03zx]", offset);
		else if (i < ARRAY_SIZE(names) && names[i])
			vcpu_state_add(state, xsave + offset, sizeof(u64),
				       "xsave.%s[0x%03zx]", names[i], offset);
		else
			vcpu_state_add(state, xsave + offset, sizeof(u64),
				       "xsave.xfeature%d[0x%03zx]", i, offset);
	}

	free(xsave);
}

static void add_xcrs(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	struct kvm_xcrs xcrs;
	int i;

	if (!kvm_has_cap(KVM_CAP_XCRS))
		return;

	vcpu_xcrs_get(vcpu, &xcrs);
	for (i = 0; i < xcrs.nr_xcrs; i++)
		vcpu_state_add(state, &xcrs.xcrs[i].value, sizeof(u64),
			       "xcr%u", xcrs.xcrs[i].xcr);
}

static void add_debugregs(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	struct kvm_debugregs regs;

	vcpu_debugregs_get(vcpu, &regs);

	vcpu_state_add_array(state, regs.db, sizeof(regs.db), sizeof(u64),
			     "debugregs.db");
	vcpu_state_add_member(state, "debugregs", &regs, dr6);
	vcpu_state_add_member(state, "debugregs", &regs, dr7);
	vcpu_state_add_member(state, "debugregs", &regs, flags);
}

static void add_lapic(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	struct kvm_lapic_state lapic;
	unsigned int offset;

	if (__vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic))
		return;

	/* Registers are 16 bytes apart, x2APIC's ICR has more than 4 bytes. */
	for (offset = 0; offset < sizeof(lapic.regs); offset += 16)
		vcpu_state_add(state, lapic.regs + offset, 8, "lapic[0x%03x]",
			       offset);
}

static void add_nested(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	int size = kvm_check_cap(KVM_CAP_NESTED_STATE);
	struct kvm_nested_state *nested;
	u64 sum = 0;
	size_t i;

	if (!size)
		return;

	nested = calloc(1, size);
	TEST_ASSERT(nested, "-ENOMEM when allocating nested state");
	nested->size = size;
	vcpu_nested_state_get(vcpu, nested);

	vcpu_state_add_member(state, "nested", nested, flags);
	vcpu_state_add_member(state, "nested", nested, format);
	vcpu_state_add_member(state, "nested", nested, size);
	vcpu_state_add_array(state, nested->hdr.pad, sizeof(nested->hdr),
			     sizeof(u64), "nested.hdr");

	/* The VMCB or VMCS is memory of the guest's making, all or nothing. */
	for (i = sizeof(*nested); i < nested->size; i++)
		sum = sum * 31 + ((u8 *)nested)[i];
	vcpu_state_add(state, &sum, sizeof(sum), "nested.data_checksum");

	free(nested);
}

static void add_cpuid(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	struct kvm_cpuid2 *cpuid = allocate_kvm_cpuid2(MAX_NR_CPUID_ENTRIES);
	int i;

	vcpu_ioctl(vcpu, KVM_GET_CPUID2, cpuid);
	for (i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		vcpu_state_add(state, &e->eax, sizeof(e->eax), "cpuid[%x,%x].eax",
			       e->function, e->index);
		vcpu_state_add(state, &e->ebx, sizeof(e->ebx), "cpuid[%x,%x].ebx",
			       e->function, e->index);
		vcpu_state_add(state, &e->ecx, sizeof(e->ecx), "cpuid[%x,%x].ecx",
			       e->function, e->index);
		vcpu_state_add(state, &e->edx, sizeof(e->edx), "cpuid[%x,%x].edx",
			       e->function, e->index);
	}

	free(cpuid);
}

void vcpu_state_reg_name(u64 id, char *name, size_t size)
{
	if (id == KVM_X86_REG_KVM(KVM_REG_GUEST_SSP))
		snprintf(name, size, "reg.guest_ssp");
	else
		snprintf(name, size, "reg[0x%lx]", id);
}

static void add_xen_attr(struct kvm_vcpu *vcpu, struct vcpu_state *state,
			 u16 type, size_t size, const char *name)
{
	struct kvm_xen_vcpu_attr attr = { .type = type };
	int r = __vcpu_ioctl(vcpu, KVM_XEN_VCPU_GET_ATTR, &attr);

	vcpu_state_add(state, &attr.u, r ? 0 : size, "xen.%s", name);
}

static void add_xen(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	struct kvm_xen_vcpu_attr attr = {
		.type = KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_DATA,
	};
	int r;

	if (!kvm_has_cap(KVM_CAP_XEN_HVM))
		return;

	add_xen_attr(vcpu, state, KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, 8, "vcpu_info");
	add_xen_attr(vcpu, state, KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA, 8,
		     "vcpu_info_hva");
	add_xen_attr(vcpu, state, KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO, 8,
		     "vcpu_time_info");
	add_xen_attr(vcpu, state, KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR, 8,
		     "runstate_addr");
	add_xen_attr(vcpu, state, KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_CURRENT, 8,
		     "runstate_current");
	add_xen_attr(vcpu, state, KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID, 4, "vcpu_id");
	add_xen_attr(vcpu, state, KVM_XEN_VCPU_ATTR_TYPE_TIMER, 16, "timer");
	add_xen_attr(vcpu, state, KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR, 1,
		     "upcall_vector");

	r = __vcpu_ioctl(vcpu, KVM_XEN_VCPU_GET_ATTR, &attr);
	if (r)
		return;

	vcpu_state_add(state, &attr.u.runstate.state_entry_time, 8,
		       "xen.runstate.state_entry_time");
	vcpu_state_add(state, &attr.u.runstate.time_running, 8,
		       "xen.runstate.time_running");
	vcpu_state_add(state, &attr.u.runstate.time_runnable, 8,
		       "xen.runstate.time_runnable");
	vcpu_state_add(state, &attr.u.runstate.time_blocked, 8,
		       "xen.runstate.time_blocked");
	vcpu_state_add(state, &attr.u.runstate.time_offline, 8,
		       "xen.runstate.time_offline");
}

void vcpu_state_arch_get(struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	int tsc_khz;

	/* What reading changes comes first. */
	add_events(vcpu, state);
	add_nested(vcpu, state);
	add_regs(vcpu, state);
	add_sregs(vcpu, state);
	add_fpu(vcpu, state);
	add_xsave(vcpu, state);
	add_xcrs(vcpu, state);
	add_debugregs(vcpu, state);
	add_lapic(vcpu, state);
	add_msrs(vcpu, state);
	vcpu_state_add_reg_list(vcpu, state);
	add_cpuid(vcpu, state);
	add_xen(vcpu, state);
	vcpu_state_add_attr(state, vcpu->fd, KVM_VCPU_TSC_CTRL,
			    KVM_VCPU_TSC_OFFSET, sizeof(u64), "tsc_offset");

	tsc_khz = __vcpu_ioctl(vcpu, KVM_GET_TSC_KHZ, NULL);
	vcpu_state_add(state, &tsc_khz, sizeof(tsc_khz), "tsc_khz");
}

#define CONFIG		"configuration"
#define CONSTANT	"constant"
#define CLOCK		"clock"
#define VM_WIDE		"belongs to the VM"
#define READ_ONLY	"read-only"

const struct vcpu_state_rule vcpu_state_clocks[] = {
	{ "msr.MSR_IA32_TSC",			CLOCK },
	{ "tsc_offset",				CLOCK },
	{ "msr.HV_X64_MSR_TIME_REF_COUNT",	"clock, of the VM" },
	{ "msr.HV_X64_MSR_VP_RUNTIME",		CLOCK },
	{ "xen.runstate.*",			CLOCK },
	{}
};

const struct vcpu_state_rule vcpu_state_clock_driven[] = {
	{}
};

const struct vcpu_state_rule vcpu_state_not_dirtied[] = {
	{ "cpuid*",				CONFIG },
	{ "tsc_khz",				CONFIG },
	{ "tsc_offset",				CLOCK },
	{ "msr.MSR_IA32_TSC",			CLOCK },
	{ "msr.MSR_IA32_APICBASE",		"is sregs2.apic_base" },
	{ "msr.MSR_EFER",			"is sregs2.efer" },
	{ "msr.MSR_FS_BASE",			"is sregs2.fs.base" },
	{ "msr.MSR_GS_BASE",			"is sregs2.gs.base" },
	{ "msr.MSR_IA32_VMX_CAP*",		CONFIG },
	{ "msr.MSR_IA32_ARCH_CAPABILITIES",	CONFIG },
	{ "msr.MSR_IA32_PERF_CAPABILITIES",	CONFIG },
	{ "msr.MSR_PLATFORM_INFO",		CONFIG },
	{ "msr.MSR_IA32_UCODE_REV",		CONFIG },
	{ "msr.MSR_IA32_MCG_CAP",		CONFIG },
	{ "msr.MSR_AMD64_DE_CFG",		CONFIG },
	{ "msr.HV_X64_MSR_GUEST_OS_ID",		VM_WIDE },
	{ "msr.HV_X64_MSR_HYPERCALL",		VM_WIDE },
	{ "msr.HV_X64_MSR_REFERENCE_TSC",	VM_WIDE },
	{ "msr.HV_X64_MSR_CRASH_*",		VM_WIDE },
	{ "msr.HV_X64_MSR_REENLIGHTENMENT_CONTROL", VM_WIDE },
	{ "msr.HV_X64_MSR_TSC_EMULATION_*",	VM_WIDE },
	{ "msr.HV_X64_MSR_TSC_INVARIANT_CONTROL", VM_WIDE },
	{ "msr.HV_X64_MSR_SYNDBG_*",		VM_WIDE },
	{ "msr.MSR_KVM_WALL_CLOCK*",		VM_WIDE },
	{ "msr.MSR_KVM_MIGRATION_CONTROL",	VM_WIDE },
	{ "msr.HV_X64_MSR_VP_INDEX",		CONFIG },
	{ "msr.HV_X64_MSR_TIME_REF_COUNT",	CLOCK },
	{ "msr.HV_X64_MSR_VP_RUNTIME",		CLOCK },
	{ "msr.HV_X64_MSR_EOI",			"is lapic[0x0b0]" },
	{ "msr.HV_X64_MSR_ICR",			"is lapic[0x300], lapic[0x310]" },
	{ "msr.HV_X64_MSR_TPR",			"is lapic[0x080]" },
	{ "xen.vcpu_id",			CONFIG },
	{ "xen.runstate.*",			CLOCK },
	{}
};

static bool set_msr(struct kvm_vcpu *vcpu, u32 index, u64 value)
{
	return _vcpu_set_msr(vcpu, index, value) == 1;
}

/* Find a value that KVM takes, and that reads as something new. */
static void dirty_msr(struct kvm_vcpu *vcpu, u32 index, gpa_t gpa)
{
	const u64 values[] = {
		/* Most that there is, then addresses, then few bits. */
		0x0000123456789abcull, 0x0000000012345678ull, gpa | 1,
		gpa | 0x10, 0x0606060606060606ull, 0x0000000000000c06ull,
		0x0000000012345806ull, 0x0000000000010051ull, 0x0000000000000051ull,
		~0ull, 0,
	};
	u64 old, now;
	int i;

	if (!get_msr(vcpu, index, &old))
		return;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		if (set_msr(vcpu, index, values[i]) &&
		    get_msr(vcpu, index, &now) && now != old)
			return;
	}

	for (i = 0; i < 64; i++) {
		if (set_msr(vcpu, index, old ^ BIT_ULL(i)) &&
		    get_msr(vcpu, index, &now) && now != old)
			return;
	}
}

static void dirty_msrs(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	char name[VCPU_STATE_NAME_LEN];
	unsigned int i;

	find_msrs(vcpu);

	for (i = 0; i < nr_msrs; i++) {
		msr_name(msrs[i], name, sizeof(name));
		if (vcpu_state_match(vcpu_state_not_dirtied, name))
			continue;

		dirty_msr(vcpu, msrs[i], gpa);
	}
}

static void dirty_reg_list(struct kvm_vcpu *vcpu)
{
	static const u64 flips[] = { 0x0000123456789ab8ull, 0x12345678ull };
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	u64 i;

	for (i = 0; i < list->n; i++)
		vcpu_state_dirty_reg(vcpu, list->reg[i], flips,
				     ARRAY_SIZE(flips), -1ull);
	free(list);
}

static void dirty_bits(struct kvm_vcpu *vcpu, struct kvm_sregs2 *sregs,
		       __u64 *reg, u64 mask)
{
	int i;

	for (i = 0; i < 64; i++) {
		u64 old = *reg;

		if (!(mask & BIT_ULL(i)) || (old & BIT_ULL(i)))
			continue;

		*reg |= BIT_ULL(i);
		if (__vcpu_ioctl(vcpu, KVM_SET_SREGS2, sregs))
			*reg = old;
	}
}

static void dirty_segment(struct kvm_segment *seg, int i)
{
	seg->base = 0x11110000 + i * 0x1000;
	seg->limit = 0xabcdefff - i;
	seg->selector = 0x1230 + i * 8;
	seg->type = 7;
	seg->present = 1;
	seg->dpl = 3;
	seg->db = 1;
	seg->s = 1;
	seg->l = 0;
	seg->g = 1;
	seg->avl = 1;
	seg->unusable = 0;
}

static void clear_segment(struct kvm_segment *seg)
{
	seg->present = 0;
	seg->s = 0;
	seg->l = 1;
	seg->db = 0;
	seg->unusable = 1;
}

static void dirty_sregs(struct kvm_vcpu *vcpu, gpa_t gpa, int pass)
{
	struct kvm_sregs2 sregs = {};

	vcpu_ioctl(vcpu, KVM_GET_SREGS2, &sregs);

	dirty_segment(&sregs.cs, 1);
	dirty_segment(&sregs.ds, 2);
	dirty_segment(&sregs.es, 3);
	dirty_segment(&sregs.fs, 4);
	dirty_segment(&sregs.gs, 5);
	dirty_segment(&sregs.ss, 6);
	dirty_segment(&sregs.tr, 7);
	dirty_segment(&sregs.ldt, 8);
	sregs.cs.type = 0xf;
	sregs.cs.l = 1;
	sregs.cs.db = 0;
	sregs.cs.g = 0;
	sregs.cs.limit = 0x1234;
	/* What is 1 in a new vCPU's segments, and what excludes all else. */
	if (pass == 1) {
		clear_segment(&sregs.cs);
		clear_segment(&sregs.ds);
		clear_segment(&sregs.es);
		clear_segment(&sregs.fs);
		clear_segment(&sregs.gs);
		clear_segment(&sregs.ss);
		clear_segment(&sregs.tr);
		clear_segment(&sregs.ldt);
	}
	sregs.gdt.base = 0x22220000;
	sregs.gdt.limit = 0x1237;
	sregs.idt.base = 0x33330000;
	sregs.idt.limit = 0x2347;
	sregs.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_NE;
	sregs.cr2 = 0x44440120;
	sregs.cr3 = gpa;
	sregs.cr4 = X86_CR4_PAE;
	sregs.cr8 = 5;
	sregs.efer = EFER_LME | EFER_LMA;
	if (pass == 1)
		sregs.apic_base |= MSR_IA32_APICBASE_ENABLE;
	else
		sregs.apic_base |= X2APIC_ENABLE;

	/* 32-bit paging with PAE: PDPTRs instead of 64-bit mode. */
	if (pass == 2) {
		sregs.efer = 0;
		sregs.cs.l = 0;
		sregs.cs.db = 1;
		sregs.flags |= KVM_SREGS2_FLAGS_PDPTRS_VALID;
		sregs.pdptrs[0] = gpa | 1;
		sregs.pdptrs[1] = gpa | 1;
		sregs.pdptrs[2] = gpa | 1;
		sregs.pdptrs[3] = gpa | 1;
	}

	vcpu_ioctl(vcpu, KVM_SET_SREGS2, &sregs);

	dirty_bits(vcpu, &sregs, &sregs.efer,
		   pass == 2 ? EFER_NX | EFER_SCE : ~0ull);
	dirty_bits(vcpu, &sregs, &sregs.cr4, GENMASK(31, 0) &
		   ~(X86_CR4_VMXE | (pass == 2 ? X86_CR4_PCIDE : 0)));
	dirty_bits(vcpu, &sregs, &sregs.cr0, GENMASK(31, 0));
	vcpu_ioctl(vcpu, KVM_SET_SREGS2, &sregs);
}

static void dirty_regs(struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs;
	__u64 *reg = (__u64 *)&regs;
	int i;

	for (i = 0; i < sizeof(regs) / sizeof(*reg); i++)
		reg[i] = 0x5eed000000000000ull >> 1 | i << 4 | 1;

	regs.rip = 0x12345670;
	regs.rflags = 0x257fd7;

	vcpu_regs_set(vcpu, &regs);
}

static void dirty_xsave(struct kvm_vcpu *vcpu)
{
	u64 xcr0 = kvm_cpu_supported_xcr0();
	u32 eax, ebx, ecx, edx;
	u8 *xsave;
	int i;

	struct kvm_xcrs xcrs = {
		.nr_xcrs = 1,
		.xcrs[0].xcr = 0,
		.xcrs[0].value = xcr0,
	};

	if (kvm_cpu_has(X86_FEATURE_XSAVE))
		vcpu_xcrs_set(vcpu, &xcrs);

	xsave = get_xsave(vcpu);

	/* FCW, FSW, FTW, FOP, FIP, FDP; MXCSR and its mask have reserved bits. */
	memset(xsave, 0x35, 24);
	xsave[5] = 0;
	*(u32 *)(xsave + 24) = 0x1fa5;
	/* The registers of 10 bytes in 16. */
	for (i = 0; i < 8; i++)
		memset(xsave + 32 + 16 * i, 0x40 + i, 10);
	memset(xsave + 160, 0x5a, 256);

	if (kvm_cpu_has(X86_FEATURE_XSAVE)) {
		*(u64 *)(xsave + 512) = xcr0;
		for (i = 2; i < 63; i++) {
			if (!(xcr0 & BIT_ULL(i)))
				continue;

			__cpuid(0xd, i, &eax, &ebx, &ecx, &edx);
			if (ebx + eax <= xsave_size(vcpu))
				memset(xsave + ebx, 0x60 + i, min(eax, 4096u));
		}
	}

	vcpu_xsave_set(vcpu, (struct kvm_xsave *)xsave);
	free(xsave);
}

static void dirty_debugregs(struct kvm_vcpu *vcpu)
{
	struct kvm_debugregs regs = {
		.db = { 0x55550001, 0x55550102, 0x55550203, 0x55550304 },
		.dr6 = 0xffff4ff5,
		.dr7 = 0x33302755,
	};

	vcpu_debugregs_set(vcpu, &regs);
}

static void set_lapic_reg(struct kvm_lapic_state *lapic, int reg, u32 value)
{
	*(u32 *)(lapic->regs + reg) = value;
}

static void dirty_lapic(struct kvm_vcpu *vcpu, int pass)
{
	struct kvm_lapic_state lapic;
	int i;

	if (__vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic))
		return;

	/* x2APIC's ID and LDR are what they are. */
	if (pass == 1) {
		set_lapic_reg(&lapic, APIC_ID, 0x55 << 24);
		set_lapic_reg(&lapic, APIC_LDR, 0x02 << 24);
		set_lapic_reg(&lapic, APIC_DFR, 0x0fffffff);
	}
	set_lapic_reg(&lapic, APIC_TASKPRI, 0x50);
	set_lapic_reg(&lapic, APIC_SPIV, APIC_SPIV_APIC_ENABLED | 0xab);
	for (i = 0; i < 8; i++) {
		set_lapic_reg(&lapic, APIC_ISR + i * 0x10, 0x00010000 << i);
		set_lapic_reg(&lapic, APIC_TMR + i * 0x10, 0x00020000 << i);
		set_lapic_reg(&lapic, APIC_IRR + i * 0x10, 0x00040000 << i);
	}
	set_lapic_reg(&lapic, APIC_ESR, 0x40);
	set_lapic_reg(&lapic, APIC_LVTCMCI, 0xe1);
	set_lapic_reg(&lapic, APIC_ICR, 0x000040fd);
	set_lapic_reg(&lapic, APIC_ICR2, 0x03000000);
	set_lapic_reg(&lapic, APIC_LVTT, pass ? 0x000200ef : 0x000400ef);
	set_lapic_reg(&lapic, APIC_LVTTHMR, 0xe2);
	set_lapic_reg(&lapic, APIC_LVTPC, 0xe3);
	set_lapic_reg(&lapic, APIC_LVT0, 0xe4);
	set_lapic_reg(&lapic, APIC_LVT1, 0xe5);
	set_lapic_reg(&lapic, APIC_LVTERR, 0xe6);
	set_lapic_reg(&lapic, APIC_TMICT, 0x0abcdef0);
	set_lapic_reg(&lapic, APIC_TDCR, 0xa);

	vcpu_ioctl(vcpu, KVM_SET_LAPIC, &lapic);
}

static void dirty_events(struct kvm_vcpu *vcpu, int pass)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);

	events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING |
		       KVM_VCPUEVENT_VALID_SIPI_VECTOR |
		       KVM_VCPUEVENT_VALID_SHADOW |
		       (events.flags & (KVM_VCPUEVENT_VALID_SMM |
					KVM_VCPUEVENT_VALID_PAYLOAD |
					KVM_VCPUEVENT_VALID_TRIPLE_FAULT));
	events.exception.nr = DB_VECTOR;
	events.exception.has_error_code = 1;
	events.exception.error_code = 0x1238;
	if (pass == 0 && events.flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
		events.exception.pending = 1;
		events.exception_has_payload = 1;
		events.exception_payload = BIT(14);
	} else {
		events.exception.injected = 1;
		events.exception.pending = 0;
	}
	events.interrupt.injected = 1;
	events.interrupt.nr = 0x31;
	/* KVM does not report soft interrupts. */
	events.interrupt.soft = pass == 1;
	events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	events.nmi.injected = 1;
	events.nmi.pending = 1;
	events.nmi.masked = 1;
	events.sipi_vector = 0x9a;
	events.smi.pending = 1;
	/* A latched INIT would be taken outside of SMM, by looking at it. */
	if (pass == 1) {
		events.smi.smm = 1;
		events.smi.smm_inside_nmi = 1;
		events.smi.latched_init = 1;
	}
	events.triple_fault.pending = 1;

	vcpu_events_set(vcpu, &events);
}

static void dirty_xen(struct kvm_vcpu *vcpu, gpa_t gpa, int pass)
{
	struct kvm_xen_vcpu_attr attr = {};

	if (!kvm_has_cap(KVM_CAP_XEN_HVM))
		return;

	attr.type = KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO;
	attr.u.gpa = gpa + 0x40;
	if (pass == 1) {
		attr.type = KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA;
		attr.u.hva = (u64)addr_gpa2hva(vcpu->vm, gpa) + 0x40;
	}
	__vcpu_ioctl(vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
	attr.type = KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO;
	attr.u.gpa = gpa + 0x80;
	__vcpu_ioctl(vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
	attr.type = KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR;
	attr.u.gpa = gpa + 0xc0;
	__vcpu_ioctl(vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
	attr.type = KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_CURRENT;
	attr.u.runstate.state = 2;
	__vcpu_ioctl(vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);

	memset(&attr, 0, sizeof(attr));
	attr.type = KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR;
	attr.u.vector = 0x41;
	__vcpu_ioctl(vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);

	memset(&attr, 0, sizeof(attr));
	attr.type = KVM_XEN_VCPU_ATTR_TYPE_TIMER;
	attr.u.timer.port = 2;
	attr.u.timer.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL;
	attr.u.timer.expires_ns = 1ull << 60;
	__vcpu_ioctl(vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
}

void vcpu_state_dirty(struct kvm_vcpu *vcpu, gpa_t gpa, int pass)
{
	struct kvm_mp_state mp_state;

	dirty_sregs(vcpu, gpa, pass);
	dirty_lapic(vcpu, pass);
	dirty_msrs(vcpu, gpa);
	dirty_reg_list(vcpu);
	dirty_xsave(vcpu);
	dirty_debugregs(vcpu);
	dirty_regs(vcpu);
	dirty_xen(vcpu, gpa, pass);

	mp_state.mp_state = pass == 2 ? KVM_MP_STATE_INIT_RECEIVED :
					KVM_MP_STATE_HALTED;
	__vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp_state);

	dirty_events(vcpu, pass);
}
