// SPDX-License-Identifier: GPL-2.0-only
/*
 * The x86 part of vcpu_reset_storm: INIT and SIPI, IPIs, MSIs and lines to the
 * APIC of the kernel, and the TSC, which every reset and every write may tear apart
 *
 * The I/O APIC belongs to KVM, or to userspace, which then is told of EOIs by an
 * exit.  If the APICs are userspace's as well, then it is asked with I/O to start
 * a vCPU and to send an interrupt, which it does with KVM_INTERRUPT.
 *
 * A guest sends INIT only to a vCPU that waits for it, or has given up: nobody
 * else knows when INIT has ended a life.  Interrupts are taken where the guest
 * asks for them, as its code has a red zone.
 */
#include <fcntl.h>
#include <unistd.h>

#include "apic.h"
#include "kvm_util.h"
#include "processor.h"
#include "vcpu_reset_storm.h"

/* The real mode code that a SIPI starts, a page for each vCPU, none of the library */
#define SIPI_VECTOR(id)		(0x90 + (id))
#define SIPI_GPA(id)		((u64)SIPI_VECTOR(id) << 12)
#define SIPI_DATA		0x800

/* Of a priority that is never taken, and those of the senders */
#define VECTOR_SELF		0x21
#define VECTOR_SENDER0		0x30
#define VECTOR_IRQFD		0x40
#define VECTOR_LINE		0x41
/* An EOI ends what is level-triggered and has the same vector, whatever the CPU. */
#define VECTOR_LEVEL(id)	(0x50 + (id))
#define TPR			0x20

#define PAT_DEFAULT		0x0007040600070406ull

enum {
	MODE_IOAPIC,
	MODE_SPLIT,
	MODE_USER,
};

const char * const arch_storm_modes[] = {
	[MODE_IOAPIC] = "an I/O APIC in KVM",
	[MODE_SPLIT] = "an I/O APIC in userspace",
	[MODE_USER] = "all APICs in userspace",
	NULL
};

enum {
	KIND_FIXED,	/* IPIs, MSIs of userspace, and its KVM_INTERRUPT */
	KIND_IRQFD,	/* MSIs of an irqfd */
	KIND_LINE,	/* KVM_IRQ_LINE, edge-triggered */
	KIND_LEVEL,	/* Level-triggered: userspace is told of the EOI. */
};

/* Pins of the I/O APIC, also their GSIs, and GSIs of MSIs.  Pin 8 is the RTC's. */
#define PIN_LINE(id)		((id) ? 8 + (id) : 7)
#define PIN_LEVEL(id)		(16 + (id))
#define GSI_MSI(id)		(24 + (id))

enum {
	COUNT_EOI,
	COUNT_LOST_EOI,
};

const char * const arch_storm_counts[] = {
	[COUNT_EOI] = "EOIs that userspace was told of",
	[COUNT_LOST_EOI] = "EOIs that were lost with the life of a CPU",
	NULL
};

/* Of this machine: the vCPUs' ports to the APIC of userspace */
enum {
	PORT_SEND = 0x5200,
	PORT_STOP,
	PORT_START,
};

/* The APIC is userspace's. */
#define FLAG_USER_APIC		BIT(1)

enum {
	EAX, EBX, ECX, EDX, ESI, EDI, EBP, ESP, CR0, CR2, CR3, CR4,
	DR0, DR1, DR2, DR3, DR6, DR7, EFER, NR_SAVED,
};

/* At SIPI_DATA, the offsets are in the code below. */
struct sipi_data {
	u32 saved[64];		/* 0x800 */
	u64 cr4;		/* 0x900 */
	u64 cr3;		/* 0x908 */
	u64 efer;		/* 0x910 */
	u64 cr0;		/* 0x918 */
	struct desc_ptr gdt;	/* 0x920 */
	u8 pad1[6];
	u32 entry64;		/* 0x930 */
	u16 cs64, pad2;
	u64 self;		/* 0x938 */
	u64 rsp;		/* 0x940 */
	u64 id;			/* 0x948 */
	struct desc_ptr idt;	/* 0x950 */
	u8 pad3[6];
	u64 ds64;		/* 0x960 */
	u64 entry;		/* 0x968 */
};

extern const char storm_sipi[], storm_sipi_end[], storm_long[], storm_long_end[];
asm("	.pushsection .rodata\n"
"	.code16\n"
"storm_sipi:\n"
"	movl	%eax, %cs:0x800\n"
"	movl	%ebx, %cs:0x804\n"
"	movl	%ecx, %cs:0x808\n"
"	movl	%edx, %cs:0x80c\n"
"	movl	%esi, %cs:0x810\n"
"	movl	%edi, %cs:0x814\n"
"	movl	%ebp, %cs:0x818\n"
"	movl	%esp, %cs:0x81c\n"
"	.set	slot, 0x820\n"
"	.irp	r, cr0, cr2, cr3, cr4, dr0, dr1, dr2, dr3, dr6, dr7\n"
"	movl	%\\r, %eax\n"
"	movl	%eax, %cs:slot\n"
"	.set	slot, slot + 4\n"
"	.endr\n"
"	movl	$0xc0000080, %ecx\n"
"	rdmsr\n"
"	movl	%eax, %cs:slot\n"
"	movl	%cs:0x938, %ebp\n"
"	movl	%cs:0x900, %eax\n"
"	movl	%eax, %cr4\n"
"	movl	%cs:0x908, %eax\n"
"	movl	%eax, %cr3\n"
"	movl	%cs:0x910, %eax\n"
"	xorl	%edx, %edx\n"
"	wrmsr\n"
"	lgdtl	%cs:0x920\n"
"	movl	%cs:0x918, %eax\n"
"	movl	%eax, %cr0\n"
"	ljmpl	*%cs:0x930\n"
"storm_sipi_end:\n"
"	.code64\n"
"storm_long:\n"
"	movl	0x960(%rbp), %eax\n"
"	movl	%eax, %ds\n"
"	movl	%eax, %es\n"
"	movl	%eax, %ss\n"
"	movq	0x940(%rbp), %rsp\n"
"	lidt	0x950(%rbp)\n"
"	movq	0x948(%rbp), %rdi\n"
"	movq	%rbp, %rsi\n"
"	jmp	*0x968(%rbp)\n"
"storm_long_end:\n"
"	.popsection\n"
);

u64 arch_storm_toggles;

const struct vcpu_state_rule arch_storm_volatile[] = {
	{ "mp_state",		"INIT and SIPI" },
	{ "events.*",		"INIT and SIPI" },
	{ "lapic[[]0x2*",	"interrupts" },
	/* Estimated anew when the VM is restored, see arch_storm_restore(). */
	{ "tsc_khz",		"configuration" },
	{ "msr.HV_X64_MSR_TSC_FREQUENCY", "configuration" },
	{}
};

static struct {
	struct kvm_sregs sregs;
	struct kvm_regs regs;
} boot[STORM_CPUS];

/* Did KVM have a master clock when all vCPUs had run? */
static bool clock_stable;

/* ---- The guest ---- */

static bool guest_has_apic(void)
{
	return !(storm_guest->flags & FLAG_USER_APIC);
}

static u32 guest_io(u16 port, u64 target, u64 arg)
{
	u32 ret;

	asm volatile("inl %%dx, %%eax" : "=a" (ret)
		     : "d" (port), "b" (target), "c" (arg) : "memory");

	return ret;
}

/* See guest_arch_poll() for where the number of the vCPU comes from. */
static void sender_handler(struct ex_regs *regs)
{
	if (guest_has_apic())
		x2apic_write_reg(APIC_EOI, 0);
	guest_storm_ack(regs->rbx, KIND_FIXED, regs->vector - VECTOR_SENDER0);
}

static void user_handler(struct ex_regs *regs)
{
	u64 kind = KIND_LEVEL;

	if (regs->vector == VECTOR_IRQFD)
		kind = KIND_IRQFD;
	else if (regs->vector == VECTOR_LINE)
		kind = KIND_LINE;
	else
		GUEST_STORM_ASSERT(regs->vector == VECTOR_LEVEL(regs->rbx),
				   regs->rbx, regs->vector, regs->rip);

	x2apic_write_reg(APIC_EOI, 0);
	guest_storm_ack(regs->rbx, kind, STORM_USER);
}

static void unexpected_handler(struct ex_regs *regs)
{
	GUEST_STORM_ASSERT(false, regs->rbx, regs->vector, regs->rip);
}

int guest_arch_start(u64 id, u64 target, u64 arg, u64 *epoch)
{
	struct storm_cpu_mem *cpu = &storm_guest->cpu[target];
	u64 none = 0, even = *epoch, odd = even + 1;
	int i;

	if (!guest_has_apic())
		return guest_io(PORT_START, target, arg);

	if (!target || !cpu->parked ||
	    !__atomic_compare_exchange_n(&cpu->starter, &none, id + 1, false,
					 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return -1;

	if (!__atomic_compare_exchange_n(&cpu->epoch, &even, odd, false,
					 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) ||
	    !cpu->parked) {
		if (even == *epoch)
			__atomic_fetch_add(&cpu->epoch, 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&cpu->starter, 0, __ATOMIC_SEQ_CST);
		return -1;
	}

	cpu->arg = arg;
	__atomic_store_n(&cpu->parked, 0, __ATOMIC_SEQ_CST);

	x2apic_write_reg(APIC_ICR, target << 32 | APIC_INT_ASSERT | APIC_DM_INIT);
	for (i = 0; i < 100; i++)
		cpu_relax();
	x2apic_write_reg(APIC_ICR, target << 32 | APIC_INT_ASSERT | APIC_DM_STARTUP |
			 SIPI_VECTOR(target));

	/* Unless userspace has reset it meanwhile */
	if (__atomic_compare_exchange_n(&cpu->epoch, &odd, odd + 1, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		*epoch = odd + 1;
	} else {
		__atomic_fetch_add(&cpu->epoch, 2, __ATOMIC_SEQ_CST);
		*epoch = ~0ull;
	}
	__atomic_store_n(&cpu->starter, 0, __ATOMIC_SEQ_CST);

	return 0;
}

void guest_arch_stop(u64 id)
{
	if (!guest_has_apic())
		guest_io(PORT_STOP, id, 0);
	for (;;)
		asm volatile("cli; hlt" : : : "memory");
}

void guest_arch_send(u64 kind, u64 id, u64 target)
{
	if (guest_has_apic())
		x2apic_write_reg(APIC_ICR, target << 32 | APIC_INT_ASSERT | APIC_DM_FIXED |
				 (VECTOR_SENDER0 + id));
	else
		guest_io(PORT_SEND, target, id);
}

/* The handlers find @id in RBX. */
void guest_arch_poll(u64 id, bool sleep)
{
	if (sleep)
		asm volatile("sub $128, %%rsp; sti; hlt; cli; add $128, %%rsp"
			     : : "b" (id) : "memory", "cc");
	else
		asm volatile("sub $128, %%rsp; sti; nop; cli; add $128, %%rsp"
			     : : "b" (id) : "memory", "cc");
}

u64 guest_arch_time(void)
{
	u32 lo, hi;

	asm volatile("mfence; lfence; rdtsc; lfence" : "=a" (lo), "=d" (hi) : : "memory");

	return (u64)hi << 32 | lo;
}

static u64 guest_dr(int nr)
{
	u64 val;

	switch (nr) {
	case 0:
		asm volatile("mov %%db0, %0" : "=r" (val));
		break;
	case 1:
		asm volatile("mov %%db3, %0" : "=r" (val));
		break;
	default:
		asm volatile("mov %%db7, %0" : "=r" (val));
	}

	return val;
}

static const u32 zero_msrs[] = {
	MSR_STAR, MSR_LSTAR, MSR_KERNEL_GS_BASE, MSR_IA32_SYSENTER_CS,
	MSR_IA32_SYSENTER_EIP, MSR_TSC_AUX,
};

void guest_arch_begin(u64 id, struct storm_frame *frame)
{
	int i;

	if (frame->how == BY_FIRMWARE && guest_has_apic()) {
		for (i = 0; i < NR_SAVED; i++) {
			u64 val = frame->regs[i], want = 0;

			switch (i) {
			case EDX:
				continue;
			case CR0:
				/* CD and NW are as they were. */
				val &= ~0x60000000ull;
				want = X86_CR0_ET;
				break;
			case CR4:
				/* SVM shows the host's. */
				val &= ~(u64)X86_CR4_MCE;
				break;
			case DR6:
				want = 0xffff0ff0;
				break;
			case DR7:
				want = 0x400;
				break;
			}
			GUEST_STORM_ASSERT(val == want, id, i, val);
		}
	} else {
		for (i = 0; i < ARRAY_SIZE(zero_msrs); i++)
			GUEST_STORM_ASSERT(!rdmsr(zero_msrs[i]), id, zero_msrs[i],
					   rdmsr(zero_msrs[i]));
		GUEST_STORM_ASSERT(rdmsr(MSR_IA32_CR_PAT) == PAT_DEFAULT, id,
				   MSR_IA32_CR_PAT, rdmsr(MSR_IA32_CR_PAT));
		GUEST_STORM_ASSERT(!guest_dr(0) && !guest_dr(1) && guest_dr(7) == 0x400,
				   id, guest_dr(0), guest_dr(7));
	}

	if (!guest_has_apic())
		return;

	/*
	 * If userspace has reset and started the CPU before INIT arrived, then others
	 * may have sent to that life, although the starter was through with it.
	 */
	if (frame->how == BY_FIRMWARE) {
		u64 *epoch = &storm_guest->cpu[id].epoch;
		u64 even = __atomic_load_n(epoch, __ATOMIC_SEQ_CST);

		if (!(even & 1))
			__atomic_compare_exchange_n(epoch, &even, even + 2, false,
						    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}

	x2apic_enable();
	GUEST_STORM_ASSERT(x2apic_read_reg(APIC_ID) == id, id, x2apic_read_reg(APIC_ID), 0);
	GUEST_STORM_ASSERT(!x2apic_read_reg(APIC_TASKPRI), id, APIC_TASKPRI, 0);
	GUEST_STORM_ASSERT(!(x2apic_read_reg(APIC_IRR + (VECTOR_SELF / 32) * 0x10) &
			     BIT(VECTOR_SELF % 32)), id, APIC_IRR, VECTOR_SELF);
	GUEST_STORM_ASSERT(x2apic_read_reg(APIC_LVTT) == APIC_LVT_MASKED, id, APIC_LVTT,
			   x2apic_read_reg(APIC_LVTT));
	x2apic_write_reg(APIC_TASKPRI, TPR);
}

void guest_arch_dirty(u64 id, u64 random)
{
	switch (random & 7) {
	case 0:
		wrmsr(MSR_STAR, random << 32);
		wrmsr(MSR_LSTAR, random);
		wrmsr(MSR_KERNEL_GS_BASE, random);
		break;
	case 1:
		wrmsr(MSR_IA32_SYSENTER_CS, random);
		wrmsr(MSR_IA32_SYSENTER_EIP, random);
		wrmsr(MSR_TSC_AUX, random);
		break;
	case 2:
		wrmsr(MSR_IA32_CR_PAT, 0x0606060606060606ull);
		break;
	case 3:
		asm volatile("mov %0, %%db0; mov %0, %%db3" : : "r" (random));
		break;
	case 4 ... 5:
		if (guest_has_apic())
			x2apic_write_reg(APIC_ICR, id << 32 | APIC_INT_ASSERT |
					 APIC_DM_FIXED | VECTOR_SELF);
		break;
	case 6:
		/* A timer that raises what is never taken */
		if (!guest_has_apic())
			break;
		x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | VECTOR_SELF);
		x2apic_write_reg(APIC_TMICT, 0x10000 | random);
		break;
	case 7:
		asm volatile("mov %0, %%cr2" : : "r" (random));
		break;
	}
}

/* After SIPI: the argument is in memory. */
static void guest_sipi_entry(u64 id, struct sipi_data *page)
{
	struct storm_frame *frame;
	int i;

	frame = (void *)__atomic_load_n(&storm_guest->cpu[id].arg, __ATOMIC_SEQ_CST);
	for (i = 0; i < NR_SAVED; i++)
		frame->regs[i] = ((struct sipi_data *)((u64)page + SIPI_DATA))->saved[i];

	guest_storm_life(id, frame);
}

/* ---- Userspace ---- */

void arch_storm_require(void)
{
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_X2APIC));
}

/*
 * A CPU that comes online may find out that the TSCs of this machine differ,
 * and then those of its guests do.
 */
bool arch_storm_has_clock(void)
{
	char name[16] = "";
	int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
		      O_RDONLY);

	if (fd < 0)
		return false;
	if (read(fd, name, sizeof(name) - 1) <= 0)
		name[0] = '\0';
	close(fd);

	return !strcmp(name, "tsc\n");
}

static bool skip_tscs(void)
{
	if (!arch_storm_has_clock())
		storm.mem->flags |= STORM_FLAG_NO_CLOCK;

	return storm.mem->flags & STORM_FLAG_NO_CLOCK;
}

static u64 tsc_offset(struct kvm_vcpu *vcpu)
{
	u64 offset;

	vcpu_device_attr_get(vcpu, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, &offset);

	return offset;
}

/* All are paused: their TSCs are the same. */
static void check_tscs(const char *what)
{
	u64 first = tsc_offset(storm.cpus[0].vcpu), offset;
	int i;

	if (skip_tscs())
		return;

	for (i = 1; i < STORM_CPUS; i++) {
		offset = tsc_offset(storm.cpus[i].vcpu);
		if (offset == first)
			continue;
		for (i = 0; i < STORM_CPUS; i++)
			pr_info("# vCPU %d: TSC offset %ld\n", i,
				(long)tsc_offset(storm.cpus[i].vcpu));
		for (i = 1; tsc_offset(storm.cpus[i].vcpu) == first; i++)
			;
		storm_fail("%s: the TSC of vCPU %d is %ld ahead", what, i,
			   (long)(offset - first));
	}
}

/*
 * A value within a second of what KVM expects is taken for an attempt to
 * synchronize.  Don't rely on it if the machine is too busy for that.
 */
#define SYNC_MS		600

static void check_synchronized(const char *what, bool in_time)
{
	u64 offset = tsc_offset(storm.cpus[0].vcpu);
	int i;

	if (in_time) {
		check_tscs(what);
		return;
	}

	for (i = 0; i < STORM_CPUS; i++)
		vcpu_device_attr_set(storm.cpus[i].vcpu, KVM_VCPU_TSC_CTRL,
				     KVM_VCPU_TSC_OFFSET, &offset);
	storm_new_age();
}

/*
 * What userspace has instead of APICs: the senders of what is pending, and does
 * the CPU wait for it, or for a start?  With storm.lock held.
 */
static struct {
	u64 irr;
	bool halted, stopped;
} apics[STORM_CPUS];

/* irqfds, and what tells of EOIs: an eventfd, or a number of exits */
static struct {
	int msi, level, resample;
	u64 eois;
	/* Is there one to be expected? */
	bool open;
} irqfds[STORM_CPUS];

static void set_msi(u64 target, u32 vector, u32 *address_lo, u32 *data)
{
	*address_lo = APIC_DEFAULT_GPA | target << 12;
	*data = vector;
}

static void add_msi_route(struct kvm_irq_routing *routing, u32 gsi, u64 target, u32 data)
{
	struct kvm_irq_routing_entry *e = &routing->entries[routing->nr++];

	e->gsi = gsi;
	e->type = KVM_IRQ_ROUTING_MSI;
	set_msi(target, data, &e->u.msi.address_lo, &e->u.msi.data);
}

/* In KVM, a pin has a level that is lowered by EOI, in userspace an exit tells of it. */
#define MSI_LEVEL		(APIC_INT_LEVELTRIG | APIC_INT_ASSERT)

static void set_irqfds(u32 flags)
{
	int i;

	for (i = 0; i < STORM_CPUS; i++) {
		struct kvm_irqfd irqfd = {
			.fd = irqfds[i].level,
			.resamplefd = irqfds[i].resample,
			.gsi = PIN_LEVEL(i),
			.flags = flags ?: KVM_IRQFD_FLAG_RESAMPLE,
		};

		kvm_irqfd(storm.vm, GSI_MSI(i), irqfds[i].msi, flags);
		if (storm.mode == MODE_IOAPIC)
			vm_ioctl(storm.vm, KVM_IRQFD, &irqfd);
	}
}

static void create_routes(void)
{
	struct kvm_irq_routing *routing = kvm_gsi_routing_create();
	u32 i, pin;

	for (i = 0; i < STORM_CPUS; i++) {
		add_msi_route(routing, GSI_MSI(i), i, VECTOR_IRQFD);
		if (storm.mode == MODE_SPLIT) {
			/* Tells KVM which EOIs are of interest. */
			add_msi_route(routing, i, i, VECTOR_LEVEL(i));
			routing->entries[routing->nr - 1].u.msi.data |= MSI_LEVEL;
			continue;
		}
		for (pin = PIN_LINE(i); ; pin = PIN_LEVEL(i)) {
			kvm_gsi_routing_irqchip_add(routing, pin, pin);
			routing->entries[routing->nr - 1].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
			if (pin == PIN_LEVEL(i))
				break;
		}
	}
	kvm_gsi_routing_write(storm.vm, routing);
	set_irqfds(0);
}

static void create_ioapic(void)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	int i, level;

	vm_ioctl(storm.vm, KVM_GET_IRQCHIP, &chip);
	for (i = 0; i < STORM_CPUS; i++) {
		for (level = 0; level < 2; level++) {
			int pin = level ? PIN_LEVEL(i) : PIN_LINE(i);

			chip.chip.ioapic.redirtbl[pin].bits = 0;
			chip.chip.ioapic.redirtbl[pin].fields.vector =
				level ? VECTOR_LEVEL(i) : VECTOR_LINE;
			chip.chip.ioapic.redirtbl[pin].fields.trig_mode = level;
			chip.chip.ioapic.redirtbl[pin].fields.dest_id = i;
		}
	}
	vm_ioctl(storm.vm, KVM_SET_IRQCHIP, &chip);
}

void arch_storm_configure(void)
{
	if (storm.mode == MODE_SPLIT)
		vm_enable_cap(storm.vm, KVM_CAP_SPLIT_IRQCHIP, KVM_IOAPIC_NUM_PINS);
}

/* The library's VMs have everything in KVM. */
static void create_irqchip(void)
{
	struct kvm_vm *vm = storm.vm;
	int i;

	arch_storm_toggles = KVM_EXIT_ON_VCPU_RESET_INIT_SIPI;
	switch (storm.mode) {
	case MODE_IOAPIC:
		arch_storm_user_kinds = BIT(KIND_FIXED) | BIT(KIND_IRQFD) |
					BIT(KIND_LINE) | BIT(KIND_LEVEL);
		break;
	case MODE_SPLIT:
		arch_storm_user_kinds = BIT(KIND_FIXED) | BIT(KIND_IRQFD) | BIT(KIND_LEVEL);
		break;
	case MODE_USER:
		arch_storm_user_kinds = BIT(KIND_FIXED);
		storm.mem->flags |= FLAG_USER_APIC;
		/* Nobody but userspace starts a vCPU. */
		arch_storm_toggles = 0;
		storm.toggled = true;
	}

	if (storm.mode != MODE_IOAPIC) {
		kvm_vm_release(vm);
		vm->has_irqchip = false;
		kvm_vm_restart(vm);
		arch_storm_configure();
	}
	if (storm.mode == MODE_USER)
		return;

	for (i = 0; i < STORM_CPUS; i++) {
		irqfds[i].msi = kvm_new_eventfd();
		irqfds[i].level = kvm_new_eventfd();
		irqfds[i].resample = eventfd(0, EFD_NONBLOCK);
		TEST_ASSERT(irqfds[i].resample >= 0, "No eventfd");
	}
}

void arch_storm_create(u32 *rng)
{
	struct kvm_vm *vm;
	int i;

	_Static_assert(offsetof(struct sipi_data, entry) == 0x168, "The code has offsets");

	vm = vm_create(STORM_CPUS);
	storm.vm = vm;
	storm_add_memory(vm, storm_long, storm_long_end - storm_long);
	virt_map(vm, SIPI_GPA(0), SIPI_GPA(0), STORM_CPUS);
	create_irqchip();

	for (i = 0; i < STORM_CPUS; i++) {
		struct sipi_data *data = addr_gpa2hva(vm, SIPI_GPA(i) + SIPI_DATA);
		struct kvm_vcpu *vcpu = vm_vcpu_add(vm, i, guest_storm_life);
		struct kvm_sregs *sregs = &boot[i].sregs;

		vcpu_sregs_get(vcpu, sregs);
		vcpu_regs_get(vcpu, &boot[i].regs);

		memcpy(addr_gpa2hva(vm, SIPI_GPA(i)), storm_sipi, storm_sipi_end - storm_sipi);
		data->cr4 = sregs->cr4;
		data->cr3 = sregs->cr3;
		data->efer = sregs->efer & ~EFER_LMA;
		data->cr0 = sregs->cr0;
		data->gdt.address = sregs->gdt.base;
		data->gdt.size = sregs->gdt.limit;
		data->idt.address = sregs->idt.base;
		data->idt.size = sregs->idt.limit;
		data->entry64 = STORM_GPA;
		data->cs64 = sregs->cs.selector;
		data->ds64 = sregs->ds.selector;
		data->self = SIPI_GPA(i);
		data->rsp = boot[i].regs.rsp;
		data->id = i;
		data->entry = (u64)guest_sipi_entry;
		storm.cpus[i].vcpu = vcpu;
	}

	for (i = 0; i < STORM_SENDERS; i++)
		vm_install_exception_handler(vm, VECTOR_SENDER0 + i, sender_handler);
	for (i = 0; i < STORM_CPUS; i++)
		vm_install_exception_handler(vm, VECTOR_LEVEL(i), user_handler);
	vm_install_exception_handler(vm, VECTOR_IRQFD, user_handler);
	vm_install_exception_handler(vm, VECTOR_LINE, user_handler);
	vm_install_exception_handler(vm, VECTOR_SELF, unexpected_handler);
	vm_install_exception_handler(vm, NMI_VECTOR, unexpected_handler);

	if (storm.mode == MODE_IOAPIC)
		create_ioapic();
	if (storm.mode != MODE_USER) {
		create_routes();
		storm.mem->flags |= STORM_FLAG_UNKNOWN;
	}

	storm.hotplug &= !(storm_random(rng) % 4);
	if (storm.hotplug || !arch_storm_has_clock()) {
		pr_info("# The TSC isn't looked at\n");
		storm.mem->flags |= STORM_FLAG_NO_CLOCK;
	}

	/* The first write of all is never taken for an attempt to synchronize. */
	for (i = 0; i < STORM_CPUS; i++)
		vcpu_set_msr(storm.cpus[i].vcpu, MSR_IA32_TSC, 1);
	check_synchronized("new", false);

	storm.mem->kinds = BIT(KIND_FIXED);
	clock_stable = false;
}

static struct {
	struct kvm_x86_state *state;
	struct kvm_lapic_state lapic;
	u64 tsc_khz;
} saved[STORM_CPUS];

static struct kvm_irqchip saved_ioapic = { .chip_id = KVM_IRQCHIP_IOAPIC };

void arch_storm_save(void)
{
	int i;

	/* Let KVM have what is open: INIT would be followed by an exit for SIPI. */
	if (storm.toggled && arch_storm_toggles)
		vm_enable_cap(storm.vm, KVM_CAP_EXIT_ON_VCPU_RESET, 0);

	/* What is on its way from there arrives before that returns. */
	if (storm.mode != MODE_USER)
		set_irqfds(KVM_IRQFD_FLAG_DEASSIGN);

	for (i = 0; i < STORM_CPUS; i++) {
		saved[i].tsc_khz = __vcpu_ioctl(storm.cpus[i].vcpu, KVM_GET_TSC_KHZ, NULL);
		saved[i].state = vcpu_save_state(storm.cpus[i].vcpu);
		if (storm.mode != MODE_USER)
			vcpu_ioctl(storm.cpus[i].vcpu, KVM_GET_LAPIC, &saved[i].lapic);
	}
	if (storm.mode == MODE_IOAPIC)
		vm_ioctl(storm.vm, KVM_GET_IRQCHIP, &saved_ioapic);
}

void arch_storm_restore(void)
{
	int i;

	for (i = 0; i < STORM_CPUS; i++) {
		/* Not possible without TSC scaling, and close enough. */
		__vcpu_ioctl(storm.cpus[i].vcpu, KVM_SET_TSC_KHZ, (void *)saved[i].tsc_khz);
		vcpu_load_state(storm.cpus[i].vcpu, saved[i].state);
		if (storm.mode != MODE_USER) {
			if (storm_sabotage == BREAK_MIGRATION)
				memset(saved[i].lapic.regs + APIC_IRR, 0, 0x80);
			vcpu_ioctl(storm.cpus[i].vcpu, KVM_SET_LAPIC, &saved[i].lapic);
		} else if (storm_sabotage == BREAK_MIGRATION) {
			apics[i].irr = 0;
		}
		kvm_x86_state_cleanup(saved[i].state);
	}
	if (storm.mode == MODE_IOAPIC)
		vm_ioctl(storm.vm, KVM_SET_IRQCHIP, &saved_ioapic);
	if (storm.mode != MODE_USER)
		create_routes();
	/* As a VMM does that knows the offsets. */
	check_synchronized("restored", false);
	clock_stable = false;
}

void arch_storm_free(void)
{
}

static void reset_apic(struct kvm_vcpu *vcpu, bool stopped)
{
	apics[vcpu->id].irr = 0;
	apics[vcpu->id].halted = false;
	apics[vcpu->id].stopped = stopped;
	/* As of the last KVM_RUN */
	vcpu->run->ready_for_interrupt_injection = 0;
}

bool arch_storm_stopped(struct storm_cpu *cpu)
{
	return apics[cpu - storm.cpus].stopped;
}

void arch_storm_boot_entry(struct kvm_vcpu *vcpu, u64 entry, u64 arg)
{
	struct kvm_regs regs = boot[vcpu->id].regs;
	struct kvm_sregs sregs = boot[vcpu->id].sregs, now;

	reset_apic(vcpu, false);
	vcpu_sregs_get(vcpu, &now);
	sregs.apic_base = now.apic_base;
	vcpu_sregs_set(vcpu, &sregs);
	regs.rip = entry;
	regs.rdi = vcpu->id;
	regs.rsi = arg;
	/* As after a call */
	regs.rsp -= 8;
	vcpu_regs_set(vcpu, &regs);
	vcpu_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
}

void arch_storm_boot(struct kvm_vcpu *vcpu, u64 arg)
{
	if (arg)
		arch_storm_boot_entry(vcpu, (u64)guest_storm_life, arg);
	else if (storm.mode == MODE_USER)
		reset_apic(vcpu, true);
	else if (!vcpu->id)
		vcpu_set_mp_state(vcpu, KVM_MP_STATE_UNINITIALIZED);
}

u64 arch_storm_user_kinds;

void arch_storm_break(struct kvm_vcpu *vcpu)
{
	vcpu_set_msr(vcpu, MSR_STAR, 0x1d1);
}

static void send_to_apic(u64 target, u64 sender)
{
	apics[target].irr |= BIT(sender);
	if (storm.cpus[target].running)
		storm_kick(&storm.cpus[target]);
	pthread_cond_broadcast(&storm.cond);
}

/* One at a time, and only where the guest can take it. */
bool arch_storm_enter(struct storm_cpu *cpu)
{
	u64 *irr = &apics[cpu - storm.cpus].irr;
	struct kvm_run *run = cpu->vcpu->run;

	if (storm.mode != MODE_USER)
		return true;

	if (apics[cpu - storm.cpus].stopped || (apics[cpu - storm.cpus].halted && !*irr))
		return false;

	apics[cpu - storm.cpus].halted = false;
	if (*irr && run->ready_for_interrupt_injection) {
		int sender = __builtin_ctzll(*irr);
		struct kvm_interrupt irq = { .irq = VECTOR_SENDER0 + sender };

		vcpu_ioctl(cpu->vcpu, KVM_INTERRUPT, &irq);
		*irr &= ~BIT(sender);
		run->ready_for_interrupt_injection = 0;
	}
	run->request_interrupt_window = !!*irr;

	return true;
}

/* What a machine does that has the APICs: let others start, and send to them. */
static bool serve_io(struct storm_cpu *cpu)
{
	struct kvm_run *run = cpu->vcpu->run;
	u64 id = cpu - storm.cpus, gen = cpu->gen;
	struct kvm_regs regs;
	u32 ret = 0;

	vcpu_regs_get(cpu->vcpu, &regs);
	switch (run->io.port) {
	case PORT_SEND:
		if (storm_sabotage != BREAK_ARCH)
			send_to_apic(regs.rbx, regs.rcx);
		break;
	case PORT_STOP:
		apics[id].stopped = true;
		break;
	case PORT_START:
		ret = !storm_serve_start(cpu, regs.rbx, (u64)guest_storm_life, regs.rcx);
		break;
	default:
		return false;
	}

	/* Not on top of a reset */
	if (cpu->gen == gen)
		*(u32 *)((u8 *)run + run->io.data_offset) = ret;

	return true;
}

bool arch_storm_exit(struct storm_cpu *cpu)
{
	struct kvm_run *run = cpu->vcpu->run;
	u64 id = cpu - storm.cpus;

	switch (run->exit_reason) {
	case KVM_EXIT_X86_INIT_SIPI:
		/* Let KVM have it. */
		return true;
	case KVM_EXIT_IOAPIC_EOI:
		if (run->eoi.vector != VECTOR_LEVEL(id))
			storm_fail("vCPU %lu: EOI of vector 0x%x", (long)id, run->eoi.vector);
		__atomic_fetch_add(&irqfds[id].eois, 1, __ATOMIC_SEQ_CST);
		return storm.mode == MODE_SPLIT;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return storm.mode == MODE_USER;
	case KVM_EXIT_HLT:
		apics[id].halted = true;
		return storm.mode == MODE_USER;
	case KVM_EXIT_IO:
		return storm.mode == MODE_USER && serve_io(cpu);
	default:
		return false;
	}
}

/* Has there been an EOI of @target since this was called last? */
static bool told_of_eoi(u64 target)
{
	u64 nr = 0;

	if (storm.mode == MODE_SPLIT)
		nr = __atomic_exchange_n(&irqfds[target].eois, 0, __ATOMIC_SEQ_CST);
	else if (read(irqfds[target].resample, &nr, sizeof(nr)) != sizeof(nr))
		nr = 0;

	return nr && storm_sabotage != BREAK_ARCH;
}

/* An EOI that never came blocks the pin, until the operating system unblocks it. */
static void unblock_pin(int pin)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	if (!storm.migrating)
		storm_pause_all();
	vm_ioctl(storm.vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.ioapic.redirtbl[pin].fields.remote_irr = 0;
	vm_ioctl(storm.vm, KVM_SET_IRQCHIP, &chip);
	if (!storm.migrating)
		storm_resume_all();
}

/* Who has taken a level-triggered interrupt has told of its EOI before that. */
static void check_eoi(u64 target)
{
	struct storm_cpu *cpu = &storm.cpus[target];
	u64 taken = __atomic_load_n(&storm.mem->cpu[target].ack[KIND_LEVEL][STORM_USER],
				    __ATOMIC_SEQ_CST);

	if (!irqfds[target].open)
		return;

	if (told_of_eoi(target)) {
		storm_count(COUNT_EOI);
		irqfds[target].open = false;
	} else if (taken == cpu->sent[KIND_LEVEL]) {
		storm_fail("vCPU %lu: userspace is not told of the EOI of interrupt %lu",
			   (long)target, (long)taken);
	}
}

static void write_eventfd(int fd)
{
	u64 one = 1;

	TEST_ASSERT(write(fd, &one, sizeof(one)) == sizeof(one), "Can't write to an eventfd");
}

static void send_level(u64 target)
{
	struct kvm_msi msi = {};

	/*
	 * The life of the CPU has ended before that.  Should it be told of one now,
	 * then it's that of what an unblocked pin delivers.
	 */
	if (irqfds[target].open) {
		storm_count(COUNT_LOST_EOI);
		if (storm.mode == MODE_IOAPIC)
			unblock_pin(PIN_LEVEL(target));
	}
	irqfds[target].open = true;

	if (storm.mode == MODE_IOAPIC) {
		write_eventfd(irqfds[target].level);
	} else {
		set_msi(target, VECTOR_LEVEL(target), &msi.address_lo, &msi.data);
		msi.data |= MSI_LEVEL;
		__vm_ioctl(storm.vm, KVM_SIGNAL_MSI, &msi);
	}
}

/* Userspace sends one at a time. */
void arch_storm_send(u64 kind, u64 target)
{
	struct kvm_msi msi = {};

	check_eoi(target);

	switch (kind) {
	case KIND_FIXED:
		if (storm.mode == MODE_USER) {
			if (!storm.migrating)
				pthread_mutex_lock(&storm.lock);
			send_to_apic(target, STORM_USER);
			if (!storm.migrating)
				pthread_mutex_unlock(&storm.lock);
			break;
		}
		set_msi(target, VECTOR_SENDER0 + STORM_USER, &msi.address_lo, &msi.data);
		__vm_ioctl(storm.vm, KVM_SIGNAL_MSI, &msi);
		break;
	case KIND_IRQFD:
		write_eventfd(irqfds[target].msi);
		break;
	case KIND_LINE:
		_kvm_irq_line(storm.vm, PIN_LINE(target), 1);
		_kvm_irq_line(storm.vm, PIN_LINE(target), 0);
		break;
	case KIND_LEVEL:
		send_level(target);
		break;
	}
}

static void check_clock(const char *what)
{
	struct kvm_clock_data data = {};
	int i;

	/* Not before all have run: that is when the clock is updated. */
	for (i = 0; i < STORM_CPUS; i++)
		__vcpu_run_immediate_exit(storm.cpus[i].vcpu);
	vm_ioctl(storm.vm, KVM_GET_CLOCK, &data);
	if (!skip_tscs() && clock_stable && !(data.flags & KVM_CLOCK_TSC_STABLE))
		storm_fail("%s: the master clock is gone", what);
	clock_stable |= !!(data.flags & KVM_CLOCK_TSC_STABLE);
}

static void do_check_tsc(u32 *rng)
{
	storm_pause_all();
	check_tscs("any time");
	storm_resume_all();
}

/* Write to the TSC of each vCPU, as a VMM that restores a snapshot. */
static void do_write_tscs(u32 *rng)
{
	bool reset = storm_random(rng) % 2;
	long start;
	u64 value;
	int i;

	storm_pause_all();
	start = storm_now_ms();
	value = vcpu_get_msr(storm.cpus[storm_random(rng) % STORM_CPUS].vcpu, MSR_IA32_TSC);
	for (i = 0; i < STORM_CPUS; i++) {
		struct storm_cpu *cpu = &storm.cpus[i];

		if (reset && storm_random(rng) % 2)
			storm_reset(cpu, true);
		vcpu_set_msr(cpu->vcpu, MSR_IA32_TSC, value);
	}
	check_synchronized("after all were written", storm_now_ms() - start < SYNC_MS);
	storm_new_age();
	storm_resume_all();
}

/* A reset vCPU gets what another one has. */
static void do_write_tsc(u32 *rng)
{
	struct storm_cpu *cpu = storm_any_cpu(rng);
	struct storm_cpu *other = storm_any_cpu(rng);
	long start;

	storm_pause_all();
	storm_reset(cpu, true);
	start = storm_now_ms();
	vcpu_set_msr(cpu->vcpu, MSR_IA32_TSC, vcpu_get_msr(other->vcpu, MSR_IA32_TSC));
	check_synchronized("after one was reset and written", storm_now_ms() - start < SYNC_MS);
	storm_resume_all();
}

/* As QEMU does it: with a TSC of next to nothing */
static void do_reset_tscs(u32 *rng)
{
	u64 value = storm_random(rng) % 1000 + 1, old, tsc, khz;
	long start;
	int i;

	storm_pause_all();
	old = vcpu_get_msr(storm.cpus[0].vcpu, MSR_IA32_TSC);
	for (i = 0; i < STORM_CPUS; i++)
		storm_reset(&storm.cpus[i], !i);
	khz = __vcpu_ioctl(storm.cpus[0].vcpu, KVM_GET_TSC_KHZ, NULL);
	/*
	 * Less than a second ahead, and KVM only synchronizes, i.e. takes the value
	 * for what the TSC is.  The next write may not be close to that any more.
	 */
	if (old < 1200 * khz) {
		storm_resume_all();
		return;
	}

	start = storm_now_ms();
	for (i = 0; i < STORM_CPUS; i++)
		vcpu_set_msr(storm.cpus[i].vcpu, MSR_IA32_TSC, value);
	tsc = vcpu_get_msr(storm.cpus[0].vcpu, MSR_IA32_TSC);
	if (!skip_tscs() && tsc > value + (storm_now_ms() - start + 20) * khz)
		storm_fail("the TSC is 0x%lx, %ld ms after 0x%lx was written", (long)tsc,
			   storm_now_ms() - start, (long)value);
	check_synchronized("after a reset of the machine", storm_now_ms() - start < SYNC_MS);
	storm_new_age();
	storm_resume_all();
}

static void do_clock(u32 *rng)
{
	struct storm_cpu *cpu = storm_any_cpu(rng);

	storm_pause_all();
	if (storm_random(rng) % 2)
		storm_reset(cpu, true);
	check_clock("clock");
	storm_resume_all();
}

static void nmi_and_smi(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	__vcpu_ioctl(vcpu, KVM_NMI, NULL);
	if (kvm_has_cap(KVM_CAP_X86_SMM))
		__vcpu_ioctl(vcpu, KVM_SMI, NULL);
	vcpu_events_get(vcpu, &events);
	events.nmi.masked = 1;
	__vcpu_ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events);
}

/* What is pending for the old life isn't for the new one. */
static void do_nmi_smi(u32 *rng)
{
	storm_dirty_and_reset(rng, nmi_and_smi);
}

/* Read, and write back. */
static void do_rewrite(u32 *rng)
{
	struct storm_cpu *cpu = storm_any_cpu(rng);
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	struct kvm_regs regs;
	struct kvm_fpu fpu;

	storm_pause(cpu);
	vcpu_regs_get(cpu->vcpu, &regs);
	vcpu_regs_set(cpu->vcpu, &regs);
	vcpu_fpu_get(cpu->vcpu, &fpu);
	vcpu_fpu_set(cpu->vcpu, &fpu);
	vcpu_debugregs_get(cpu->vcpu, &debugregs);
	vcpu_debugregs_set(cpu->vcpu, &debugregs);
	/* An INIT that arrives in between is written over, so don't write it. */
	vcpu_events_get(cpu->vcpu, &events);
	events.flags = 0;
	__vcpu_ioctl(cpu->vcpu, KVM_SET_VCPU_EVENTS, &events);
	storm_resume(cpu);
}

const struct storm_action arch_storm_actions[] = {
	{ "compare TSCs", 2, do_check_tsc },
	{ "write TSCs", 1, do_write_tscs },
	{ "write a TSC", 2, do_write_tsc },
	{ "reset TSCs", 1, do_reset_tscs },
	{ "clock", 2, do_clock },
	{ "NMI and SMI", 2, do_nmi_smi },
	{ "rewrite state", 2, do_rewrite },
	{}
};
