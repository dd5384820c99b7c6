// SPDX-License-Identifier: GPL-2.0-only
/*
 * vcpu_reset_vmm - A VMM that starts, resets, suspends, pauses and saves vCPUs
 *
 * This is here to be read, and to be copied from.  It is a complete VMM, with a
 * thread for each vCPU, that does what Documentation/virt/kvm/vcpu-reset.rst and
 * exit-completion.rst describe, each flow in a function of its own:
 *
 *   vmm_hold(), vmm_release()	get a vCPU out of KVM_RUN, and keep it out
 *   vmm_reset_vcpu()		make it what a new one is
 *   vmm_reset_machine()	the reset button, and the guest's reboot
 *   vmm_start_vcpu()		serve or refuse hart_start, CPU_ON and SIPI
 *   vmm_suspend(), vmm_wake_up()	suspend the system, resume, or don't suspend
 *   vmm_complete()		complete an exit
 *   vmm_pause(), vmm_resume()	stop in a state that can be saved
 *   vmm_migrate()		save, and restore into another VM
 *
 * They make use of
 *
 *   KVM_CAP_MP_STATE_RESET		KVM_MP_STATE_RESET
 *   KVM_CAP_EXIT_ON_VCPU_RESET		riscv, x86; on arm64, it is the SMCCC
 *					filter and KVM_CAP_ARM_SYSTEM_SUSPEND
 *   KVM_CAP_NEEDS_COMPLETION		KVM_RUN_NEEDS_COMPLETION
 *
 * and each of them has a fallback for kernels that don't have it.  What depends on
 * the architecture is in ARCH/vcpu_reset_vmm.c: the guest's calls, entry
 * registers, and what there is to be saved.
 *
 * Without arguments, it is a test: it boots a guest of a few instructions with each
 * combination of features and fallbacks that the kernel allows, and verifies that
 * the guest sees what it should.  With -k it boots Linux, on riscv and arm64.
 */
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "vcpu_reset_vmm.h"

#define SIG_KICK	SIGUSR1

/* More than any of this takes, even under emulation. */
#define TIMEOUT_S	60

/* ---- ioctls ------------------------------------------------------------- */

int __vmm_ioctl(int fd, unsigned long cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

int vmm_check_cap(struct vm *vm, int cap)
{
	return __vmm_ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)(long)cap);
}

int vmm_enable_cap(struct vm *vm, u32 cap, u64 arg)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { arg } };

	return __vmm_ioctl(vm->fd, KVM_ENABLE_CAP, &enable);
}

u32 vmm_get_mp_state(struct vcpu *vcpu)
{
	struct kvm_mp_state mp_state;

	vmm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp_state);

	return mp_state.mp_state;
}

void vmm_set_mp_state(struct vcpu *vcpu, u32 mp_state)
{
	struct kvm_mp_state arg = { .mp_state = mp_state };

	vmm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &arg);
}

u64 vmm_get_reg(struct vcpu *vcpu, u64 id)
{
	u64 value;
	struct kvm_one_reg reg = { .id = id, .addr = (u64)&value };

	vmm_ioctl(vcpu->fd, KVM_GET_ONE_REG, &reg);

	return value;
}

void vmm_set_reg(struct vcpu *vcpu, u64 id, u64 value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (u64)&value };

	vmm_ioctl(vcpu->fd, KVM_SET_ONE_REG, &reg);
}

/* ---- The lock of the machine, and those who wait ------------------------- */

static void vmm_lock(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
}

static void vmm_unlock(struct vm *vm)
{
	pthread_mutex_unlock(&vm->lock);
}

static void vmm_changed(struct vm *vm)
{
	pthread_cond_broadcast(&vm->changed);
}

static void wait_until(struct vm *vm, const struct timespec *end, const char *what)
{
	int i;

	if (!pthread_cond_timedwait(&vm->changed, &vm->lock, end))
		return;

	for (i = 0; i < vm->nr_vcpus; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		ksft_print_msg("vCPU %u, life %u: %u holds%s%s%s, last exit %u\n", i,
			       vcpu->lives, vcpu->holds,
			       vcpu->running ? ", running" : "",
			       vcpu->parked ? ", parked" : "",
			       vcpu->suspended ? ", suspended" : "",
			       vcpu->run->exit_reason);
	}
	TEST_FAIL("Waited %d seconds for %s", TIMEOUT_S, what);
}

/* Wait for something that is going to happen soon, with the lock dropped. */
#define vmm_wait_for(vm, condition, what) do {				\
	struct timespec __end;						\
									\
	clock_gettime(CLOCK_REALTIME, &__end);				\
	__end.tv_sec += TIMEOUT_S;					\
	while (!(condition))						\
		wait_until(vm, &__end, what);				\
} while (0)

/* ---- Keep a vCPU out of KVM_RUN ----------------------------------------- */

static __thread struct kvm_run *current_run;

/*
 * A signal that arrives before KVM_RUN is entered doesn't interrupt it.  The
 * handler makes sure that KVM_RUN returns at once, in any case.
 */
static void kick_handler(int sig)
{
	if (current_run)
		current_run->immediate_exit = 1;
}

/*
 * Every ioctl of a vCPU waits for KVM_RUN to return.  A vCPU that is stopped or
 * idle doesn't return by itself, so whoever wants to do something about a vCPU
 * has to kick it out of there, and has to keep it out until it is done.
 *
 * What is waited for is that the vCPU is out of KVM_RUN, not that its exit has
 * been handled.  Otherwise, two vCPUs that start or reset one another would wait
 * forever, and a vCPU that resets itself, too.  The lock is dropped meanwhile: look
 * again at all that was known about any vCPU.
 */
static void vmm_hold(struct vcpu *vcpu)
{
	/* More than one may have a reason: count. */
	vcpu->holds++;
	vmm_changed(vcpu->vm);

	if (vcpu->running)
		pthread_kill(vcpu->thread, SIG_KICK);
	vmm_wait_for(vcpu->vm, !vcpu->running, "KVM_RUN to return");
}

static void vmm_release(struct vcpu *vcpu)
{
	vcpu->holds--;
	vmm_changed(vcpu->vm);
}

/* ---- Complete an exit --------------------------------------------------- */

static void vmm_handle_exit(struct vcpu *vcpu);

/*
 * To be called before a vCPU is saved, when its exit has been handled, and while
 * nobody else can enter KVM_RUN: have KVM consume what is in kvm_run.
 *
 * KVM_RUN_NEEDS_COMPLETION tells whether there is something to consume, for
 * whatever exit.  Without it, assume that there is: KVM_RUN that fails with EINTR
 * has completed the exit, and does no harm if there was nothing to complete.
 *
 * KVM_RUN doesn't execute the guest with immediate_exit, and doesn't block either.
 * But it may return 0, with an exit for another part of the same instruction, e.g.
 * of a read-modify-write.  That exit is an exit as any other.
 */
static void vmm_complete(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct vm *vm = vcpu->vm;
	int ret;

	while (!vm->use.flag || run->flags & KVM_RUN_NEEDS_COMPLETION) {
		run->immediate_exit = 1;
		ret = __vmm_ioctl(vcpu->fd, KVM_RUN, NULL);
		vm->stats.completions++;

		if (!ret) {
			vm->stats.parts++;
			vmm_handle_exit(vcpu);
			continue;
		}

		TEST_ASSERT(ret == -EINTR, "vCPU %u: KVM_RUN failed, errno %d",
			    vcpu->id, -ret);
		/*
		 * That it can't be completed happens to vCPUs whose state is
		 * protected from us, which can be neither reset nor saved.
		 */
		TEST_ASSERT(!vm->use.flag ||
			    !(run->flags & KVM_RUN_NEEDS_COMPLETION),
			    "vCPU %u: exit %u can't be completed", vcpu->id,
			    run->exit_reason);
		break;
	}
}

/*
 * Without KVM_MP_STATE_RESET, the exit that is open when a vCPU is reset would be
 * completed when the vCPU runs again, i.e. KVM would change a register, and the PC,
 * of the new state.  Let KVM do it before: whatever it does is going to be
 * overwritten, and what it reads from kvm_run doesn't matter.
 */
static void drop_exit(struct vcpu *vcpu)
{
	int ret;

	do {
		vcpu->run->immediate_exit = 1;
		ret = __vmm_ioctl(vcpu->fd, KVM_RUN, NULL);
	} while (!ret);
	TEST_ASSERT_EQ(ret, -EINTR);
}

/* ---- Reset -------------------------------------------------------------- */

/*
 * Make a vCPU that is held what a new one is: registers, pending interrupts,
 * timers and MP state, i.e. it is stopped if it isn't the boot vCPU.
 *
 * With KVM_MP_STATE_RESET, that is all.  An exit that is open is dropped, and so is
 * a reset that the guest has asked KVM for and that is yet to be applied.
 */
static void vmm_reset_vcpu(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	vm->stats.resets++;
	vcpu->lives++;
	vcpu->suspended = false;

	if (vm->use.reset == RESET_REQUEST) {
		vmm_set_mp_state(vcpu, KVM_MP_STATE_RESET);
		return;
	}

	drop_exit(vcpu);

	if (vm->use.reset == RESET_ARCH) {
		arch_reset_vcpu(vcpu);
	} else {
		/* Clocks go on, i.e. a clock isn't written. */
		arch_restore_vcpu(vcpu, vcpu->fresh, false);
		vmm_set_mp_state(vcpu, vcpu->fresh_mp_state);
	}
}

static void load_images(struct vm *vm);
static void reset_devices(struct vm *vm);

/*
 * The reset button (@vcpu is NULL), or a guest that asks for it.
 *
 * All vCPUs are held before anything is reset, as they may start one another, and
 * access devices.  With the lock of the machine, nobody sees a part of it.
 */
void vmm_reset_machine(struct vm *vm, struct vcpu *vcpu)
{
	unsigned int life = vcpu ? vcpu->lives : 0;
	struct vcpu *boot = &vm->vcpus[0];
	int i;

	for (i = 0; i < vm->nr_vcpus; i++)
		vmm_hold(&vm->vcpus[i]);

	/* Two vCPUs may ask at the same time.  The second is of an old life. */
	if (!vcpu || vcpu->lives == life) {
		vm->stats.machine_resets++;

		/*
		 * vCPUs come first: what a device does to a vCPU when it is reset,
		 * e.g. a line that it raises, would be lost otherwise.
		 */
		for (i = 0; i < vm->nr_vcpus; i++)
			vmm_reset_vcpu(&vm->vcpus[i]);
		reset_devices(vm);

		/* There is no firmware: memory and registers are up to us. */
		load_images(vm);
		arch_set_entry(boot, vm->boot_entry, vm->boot_arg);
	}

	/* The caller is held by others, or not.  It runs when all are done. */
	for (i = 0; i < vm->nr_vcpus; i++)
		vmm_release(&vm->vcpus[i]);
}

/* ---- Start, or refuse to ------------------------------------------------ */

/*
 * @caller has asked for it in the exit that is being handled.  It may be the target
 * itself: SIPI exits there.
 */
enum vmm_result vmm_start_vcpu(struct vcpu *caller, u64 id, u64 entry, u64 arg)
{
	enum vmm_result result = VMM_OK;
	unsigned int life = caller->lives;
	struct vm *vm = caller->vm;
	struct vcpu *target;

	if (id >= vm->nr_vcpus)
		return VMM_NO_SUCH_CPU;

	/*
	 * Policy comes first.  A CPU that isn't plugged in exists for KVM, which
	 * has to know of all vCPUs before the first one runs.  There is no need to
	 * touch the target, as nothing has happened to it yet.
	 */
	if (vm->unplugged & 1ul << id) {
		vm->stats.refusals++;
		return VMM_DENIED;
	}

	target = &vm->vcpus[id];
	vmm_hold(target);

	/*
	 * KVM doesn't reserve the target: another vCPU may have been faster.  Only
	 * what is seen while the target is held is true.  And if the caller was
	 * reset meanwhile, then it has never asked for anything.
	 */
	if (caller->lives != life) {
		result = VMM_DENIED;
	} else if (!arch_is_off(target)) {
		result = VMM_ALREADY_ON;
	} else {
		vm->stats.starts++;
		vmm_reset_vcpu(target);
		/* Any other register may be set here, too. */
		arch_set_entry(target, entry, vm->own_arg ?: arg);
		/* Last, as the others may look at it, with e.g. hart_get_status. */
		vmm_set_mp_state(target, KVM_MP_STATE_RUNNABLE);
	}

	vmm_release(target);

	/* Nothing needs to be injected: the target runs as soon as it is let go. */
	return result;
}

/* ---- Suspend, resume, or refuse to -------------------------------------- */

/*
 * Suspend the system, at the request of @vcpu, which resumes at @entry.
 *
 * The reset comes first: it is then that the vCPU has the state that it resumes
 * with, whatever happens while it waits.  There is no entry point to be remembered,
 * or to be saved with the vCPU.
 *
 * Here it is the user who wakes the system up.  If that is up to interrupts of the
 * vCPU that the reset drops, then wait first and reset the vCPU afterwards.
 *
 * Returns false if the guest is to be told that the system isn't suspended.
 */
bool vmm_suspend(struct vcpu *vcpu, u64 entry, u64 arg)
{
	struct vm *vm = vcpu->vm;
	unsigned int life = vcpu->lives;
	bool on = false;
	int i;

	/*
	 * All other CPUs have to be off.  KVM knows on riscv, and leaves it to us
	 * on arm64.  They are off forever: only the caller could start them.
	 */
	for (i = 0; i < vm->nr_vcpus; i++) {
		struct vcpu *other = &vm->vcpus[i];

		if (other == vcpu)
			continue;

		vmm_hold(other);
		on |= !arch_is_off(other) && !arch_is_idle(other);
		vmm_release(other);
	}

	/* Reset meanwhile: this is a request of an old life. */
	if (vcpu->lives != life)
		return true;

	if (on || vm->deny_suspend) {
		vm->stats.refusals++;
		return false;
	}

	vm->stats.suspends++;
	vmm_reset_vcpu(vcpu);
	arch_set_entry(vcpu, entry, arg);
	vmm_set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
	vcpu->suspended = true;
	vmm_changed(vm);

	return true;
}

static void vmm_wake_up(struct vm *vm)
{
	int i;

	for (i = 0; i < vm->nr_vcpus; i++)
		vm->vcpus[i].suspended = false;
	vmm_changed(vm);
}

/* ---- The thread of a vCPU ----------------------------------------------- */

/*
 * The exit is the one of this life, as the lock has been held since it was seen
 * that KVM_RUN has returned.
 */
static void vmm_handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		vmm_access(vcpu, run->mmio.phys_addr, run->mmio.data,
			   run->mmio.len, run->mmio.is_write);
		return;
	case KVM_EXIT_SYSTEM_EVENT:
		if (run->system_event.type == KVM_SYSTEM_EVENT_RESET) {
			vmm_reset_machine(vcpu->vm, vcpu);
			return;
		}
		if (run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN) {
			vcpu->vm->shutdown = true;
			vmm_changed(vcpu->vm);
			return;
		}
		break;
	}

	TEST_ASSERT(arch_handle_exit(vcpu), "vCPU %u: unexpected exit %u",
		    vcpu->id, run->exit_reason);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	struct vm *vm = vcpu->vm;
	int ret;

	current_run = vcpu->run;

	vmm_lock(vm);
	while (!vm->quit) {
		if (vcpu->holds || vcpu->suspended) {
			/*
			 * Leave the vCPU in a state that can be saved.  The lock
			 * may have been dropped, so look again.
			 */
			vmm_complete(vcpu);
			if (!vcpu->holds && !vcpu->suspended)
				continue;

			vcpu->parked = true;
			vmm_changed(vm);
			while ((vcpu->holds || vcpu->suspended) && !vm->quit)
				pthread_cond_wait(&vm->changed, &vm->lock);
			vcpu->parked = false;
			continue;
		}

		/*
		 * A kick from here on, which is only sent if the vCPU is running,
		 * lets KVM_RUN return at once.
		 */
		vcpu->running = true;
		vcpu->run->immediate_exit = 0;
		vmm_unlock(vm);

		ret = __vmm_ioctl(vcpu->fd, KVM_RUN, NULL);

		vmm_lock(vm);
		vcpu->running = false;
		vmm_changed(vm);

		/*
		 * Handle the exit before anything else can happen to the vCPU.
		 * It is completed by the next KVM_RUN, be it that of this loop.
		 */
		if (!ret)
			vmm_handle_exit(vcpu);
		else
			TEST_ASSERT(ret == -EINTR || ret == -EAGAIN,
				    "vCPU %u: KVM_RUN failed, errno %d",
				    vcpu->id, -ret);
	}
	vmm_unlock(vm);

	return NULL;
}

/* ---- Save and restore --------------------------------------------------- */

/*
 * Stop all vCPUs, with their exits handled and completed.  Not for a thread of a
 * vCPU, which would wait for itself.
 */
static void vmm_pause(struct vm *vm)
{
	int i;

	for (i = 0; i < vm->nr_vcpus; i++)
		vmm_hold(&vm->vcpus[i]);

	for (i = 0; i < vm->nr_vcpus; i++)
		vmm_wait_for(vm, vm->vcpus[i].parked, "a vCPU to be parked");
}

static void vmm_resume(struct vm *vm)
{
	int i;

	for (i = 0; i < vm->nr_vcpus; i++)
		vmm_release(&vm->vcpus[i]);
}

static struct vm *vmm_create(const struct vm *config);
static void vmm_destroy(struct vm *vm);
static void vmm_run_threads(struct vm *vm);

/*
 * Save a machine that is paused and go on with it in another VM, which is returned
 * paused as well, with its lock held instead.  What is saved is what would be sent
 * to another host.
 */
static struct vm *vmm_migrate(struct vm *old)
{
	struct vm *new = vmm_create(old);
	int i;

	memcpy(new->ram, old->ram, old->ram_size);
	new->stats = old->stats;

	for (i = 0; i < old->nr_vcpus; i++) {
		struct vcpu *src = &old->vcpus[i], *dst = &new->vcpus[i];
		/*
		 * The MP state is read first: it may be what lets KVM act on
		 * something that is pending, e.g. INIT on x86.  It is written last,
		 * for those registers that may only be written to a stopped vCPU.
		 */
		u32 mp_state = vmm_get_mp_state(src);
		void *state = arch_save_vcpu(src);

		/* The clocks are those of the VM: the first vCPU sets them. */
		arch_restore_vcpu(dst, state, i == 0);
		vmm_set_mp_state(dst, mp_state);
		arch_free_vcpu(state);

		/* The state that only we have. */
		dst->suspended = src->suspended;
		dst->box = src->box;
		dst->holds = 1;
	}

	vmm_destroy(old);
	vmm_lock(new);
	vmm_run_threads(new);

	return new;
}

/*
 * For architectures that have KVM_GET_ONE_REG.  KVM_GET_REG_LIST names all that
 * there is, including configuration, e.g. the extensions of the ISA.
 */
struct vmm_regs {
	u64 nr;
	struct {
		u64 id;
		u8 value[256];
	} reg[];
};

static int get_reg(struct vcpu *vcpu, u64 id, void *value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (u64)value };

	return __vmm_ioctl(vcpu->fd, KVM_GET_ONE_REG, &reg);
}

static size_t reg_size(u64 id)
{
	return 1ul << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
}

struct vmm_regs *vmm_save_regs(struct vcpu *vcpu)
{
	struct kvm_reg_list probe = { .n = 0 }, *list;
	struct vmm_regs *regs;
	u64 i;

	TEST_ASSERT_EQ(__vmm_ioctl(vcpu->fd, KVM_GET_REG_LIST, &probe), -E2BIG);
	list = malloc(sizeof(*list) + probe.n * sizeof(list->reg[0]));
	regs = malloc(sizeof(*regs) + probe.n * sizeof(regs->reg[0]));
	TEST_ASSERT(list && regs, "No memory");

	list->n = probe.n;
	vmm_ioctl(vcpu->fd, KVM_GET_REG_LIST, list);

	regs->nr = list->n;
	for (i = 0; i < list->n; i++) {
		regs->reg[i].id = list->reg[i];
		TEST_ASSERT(!get_reg(vcpu, list->reg[i], regs->reg[i].value),
			    "Can't read register 0x%llx", list->reg[i]);
	}
	free(list);

	return regs;
}

void vmm_restore_regs(struct vcpu *vcpu, struct vmm_regs *regs, bool clocks)
{
	u8 old[sizeof(regs->reg[0].value)];
	u64 i;

	for (i = 0; i < regs->nr; i++) {
		u64 id = regs->reg[i].id;
		struct kvm_one_reg reg = {
			.id = id,
			.addr = (u64)regs->reg[i].value,
		};
		int ret;

		if (!clocks && arch_is_clock(id))
			continue;

		/* What is configuration has been configured, and may be final. */
		if (!get_reg(vcpu, id, old) &&
		    !memcmp(old, regs->reg[i].value, reg_size(id)))
			continue;

		ret = __vmm_ioctl(vcpu->fd, KVM_SET_ONE_REG, &reg);
		TEST_ASSERT(!ret, "Can't write register 0x%lx, errno %d",
			    (unsigned long)id, -ret);
	}
}

/* ---- Devices ------------------------------------------------------------ */

/*
 * The device of the test's own guest is a FIFO in each direction.  A word that is
 * read is gone: an access that is made twice, or whose result gets lost, shows.
 * A vCPU that reads from an empty FIFO waits for the next word, and reads CMD_NONE
 * when it is held meanwhile.  Like everything that waits, it has to give up when the
 * vCPU was reset, even if it is too late to see that it was held.
 */
static u32 box_read(struct vcpu *vcpu)
{
	struct mailbox *box = &vcpu->box;
	unsigned int life = vcpu->lives;

	while (box->in_head == box->in_tail && vcpu->lives == life &&
	       !vcpu->holds && !vcpu->vm->quit)
		pthread_cond_wait(&vcpu->vm->changed, &vcpu->vm->lock);

	if (box->in_head == box->in_tail || vcpu->lives != life)
		return CMD_NONE;

	return box->in[box->in_head++ % ARRAY_SIZE(box->in)];
}

static void box_write(struct vcpu *vcpu, u32 value)
{
	struct mailbox *box = &vcpu->box;

	TEST_ASSERT(box->out_tail - box->out_head < ARRAY_SIZE(box->out),
		    "vCPU %u tells too much", vcpu->id);
	box->out[box->out_tail++ % ARRAY_SIZE(box->out)] = value;
	vmm_changed(vcpu->vm);
}

static void box_access(struct vcpu *vcpu, u64 reg, u32 *value, bool write)
{
	struct vm *vm = vcpu->vm;

	if (!write)
		*value = reg == BOX_CMD ? box_read(vcpu) : 0;
	else
		box_write(vcpu, *value);

	/* The test wants to pause right now, in the middle of this access. */
	if (vm->pause_at && (write || reg != BOX_CMD || *value) && !--vm->pause_at) {
		vmm_hold(vcpu);
		vm->paused_at = vcpu;
	}
}

/* An access that the guest has made to what isn't memory. */
void vmm_access(struct vcpu *vcpu, u64 addr, void *data, u32 len, bool write)
{
	u32 value = 0;

	TEST_ASSERT(len <= sizeof(value), "%u bytes at 0x%lx", len,
		    (unsigned long)addr);
	if (write)
		memcpy(&value, data, len);

	if (addr >= arch_box_base && addr < arch_box_base + BOX_SIZE) {
		box_access(vcpu, addr - arch_box_base, &value, write);
	} else if (write && addr == arch_uart_base) {
		putchar(value);
		fflush(stdout);
	} else if (!write && addr == arch_uart_base + arch_uart_status) {
		value = arch_uart_idle;
	}

	/* If the vCPU was reset while it waited, nobody is going to look at it. */
	if (!write)
		memcpy(data, &value, len);
}

static void reset_devices(struct vm *vm)
{
	int i;

	for (i = 0; i < vm->nr_vcpus; i++)
		memset(&vm->vcpus[i].box, 0, sizeof(vm->vcpus[i].box));
	arch_reset_irqchip(vm);
}

/* ---- A flattened device tree, just enough for Linux --------------------- */

#define FDT_MAGIC	0xd00dfeed
#define FDT_BEGIN_NODE	1
#define FDT_END_NODE	2
#define FDT_PROP	3
#define FDT_END		9

static u8 fdt_struct[16384], fdt_strings[1024];
static u32 fdt_struct_len, fdt_strings_len;

static void fdt_u32(u32 value)
{
	value = __builtin_bswap32(value);
	TEST_ASSERT(fdt_struct_len + 4 <= sizeof(fdt_struct), "Device tree too large");
	memcpy(fdt_struct + fdt_struct_len, &value, 4);
	fdt_struct_len += 4;
}

static void fdt_bytes(const void *data, u32 len)
{
	TEST_ASSERT(fdt_struct_len + len + 3 <= sizeof(fdt_struct),
		    "Device tree too large");
	memcpy(fdt_struct + fdt_struct_len, data, len);
	fdt_struct_len = (fdt_struct_len + len + 3) & ~3;
}

void fdt_begin(const char *fmt, ...)
{
	char name[64];
	va_list args;

	va_start(args, fmt);
	vsnprintf(name, sizeof(name), fmt, args);
	va_end(args);

	fdt_u32(FDT_BEGIN_NODE);
	fdt_bytes(name, strlen(name) + 1);
}

void fdt_end(void)
{
	fdt_u32(FDT_END_NODE);
}

static void fdt_prop(const char *name, u32 len)
{
	TEST_ASSERT(fdt_strings_len + strlen(name) < sizeof(fdt_strings),
		    "Device tree too large");
	fdt_u32(FDT_PROP);
	fdt_u32(len);
	fdt_u32(fdt_strings_len);
	strcpy((char *)fdt_strings + fdt_strings_len, name);
	fdt_strings_len += strlen(name) + 1;
}

void fdt_cells(const char *name, int nr, ...)
{
	va_list args;
	int i;

	fdt_prop(name, nr * 4);
	va_start(args, nr);
	for (i = 0; i < nr; i++)
		fdt_u32(va_arg(args, u32));
	va_end(args);
}

void fdt_string(const char *name, const char *value)
{
	fdt_prop(name, strlen(value) + 1);
	fdt_bytes(value, strlen(value) + 1);
}

void fdt_empty(const char *name)
{
	fdt_prop(name, 0);
}

static size_t make_fdt(struct vm *vm, void *to)
{
	u32 header[10], reserved[4] = { 0 };
	int i;

	memset(fdt_struct, 0, sizeof(fdt_struct));
	fdt_struct_len = 0;
	fdt_strings_len = 0;

	fdt_begin("");
	fdt_string("compatible", "linux,dummy-virt");
	fdt_cells("#address-cells", 1, 2);
	fdt_cells("#size-cells", 1, 2);
	fdt_begin("chosen");
	fdt_string("bootargs", vm->cmdline);
	fdt_end();
	fdt_begin("memory@%lx", (unsigned long)vm->ram_base);
	fdt_string("device_type", "memory");
	fdt_cells("reg", 4, (u32)(vm->ram_base >> 32), (u32)vm->ram_base,
		  (u32)(vm->ram_size >> 32), (u32)vm->ram_size);
	fdt_end();
	arch_add_nodes(vm);
	fdt_end();
	fdt_u32(FDT_END);

	header[0] = FDT_MAGIC;
	header[1] = sizeof(header) + sizeof(reserved) + fdt_struct_len +
		    fdt_strings_len;
	header[2] = sizeof(header) + sizeof(reserved);
	header[3] = header[2] + fdt_struct_len;
	header[4] = sizeof(header);
	header[5] = 17;
	header[6] = 16;
	header[7] = 0;
	header[8] = fdt_strings_len;
	header[9] = fdt_struct_len;
	for (i = 0; i < ARRAY_SIZE(header); i++)
		header[i] = __builtin_bswap32(header[i]);

	memcpy(to, header, sizeof(header));
	memcpy(to + sizeof(header), reserved, sizeof(reserved));
	memcpy(to + sizeof(header) + sizeof(reserved), fdt_struct, fdt_struct_len);
	memcpy(to + sizeof(header) + sizeof(reserved) + fdt_struct_len, fdt_strings,
	       fdt_strings_len);

	return __builtin_bswap32(header[1]);
}

/* ---- Memory ------------------------------------------------------------- */

static size_t load_file(struct vm *vm, const char *name, u64 addr)
{
	size_t room = vm->ram_base + vm->ram_size - addr, len;
	FILE *file = fopen(name, "r");

	TEST_ASSERT(file, "Can't open %s", name);
	len = fread(vm->ram + (addr - vm->ram_base), 1, room, file);
	TEST_ASSERT(len && len < room && !ferror(file), "Can't load %s", name);
	fclose(file);

	return len;
}

#define SZ_64K	0x10000ul
#define SZ_2M	0x200000ul

/*
 * What firmware would do.  An image has to be loaded again when the machine is
 * reset, as the guest has written to its data.
 */
static void load_images(struct vm *vm)
{
	u64 text_offset;

	if (!vm->kernel) {
		memcpy(vm->ram + (arch_guest_base - vm->ram_base), arch_guest,
		       arch_guest_end - arch_guest);
		vm->boot_entry = arch_guest_base;
		return;
	}

	/* riscv and arm64 have the same header, with text_offset behind two words. */
	load_file(vm, vm->kernel, vm->ram_base);
	memcpy(&text_offset, vm->ram + 8, sizeof(text_offset));
	memset(vm->ram, 0, vm->ram_size);
	vm->boot_entry = vm->ram_base + text_offset;
	load_file(vm, vm->kernel, vm->boot_entry);

	vm->boot_arg = vm->ram_base + vm->ram_size - SZ_2M;
	if (vm->dtb)
		load_file(vm, vm->dtb, vm->boot_arg);
	else
		make_fdt(vm, vm->ram + (vm->boot_arg - vm->ram_base));
}

/* ---- Create and destroy ------------------------------------------------- */

/* A machine as @config, with all vCPUs as new, and the guest not even loaded. */
static struct vm *vmm_create(const struct vm *config)
{
	struct kvm_userspace_memory_region region = { 0 };
	struct vm *vm = calloc(1, sizeof(*vm));
	int i, size;

	TEST_ASSERT(vm, "No memory");
	vm->use = config->use;
	vm->nr_vcpus = config->nr_vcpus;
	vm->ram_base = config->ram_base;
	vm->ram_size = config->ram_size;
	vm->boot_entry = config->boot_entry;
	vm->boot_arg = config->boot_arg;
	vm->unplugged = config->unplugged;
	vm->deny_suspend = config->deny_suspend;
	vm->kernel = config->kernel;
	vm->dtb = config->dtb;
	vm->cmdline = config->cmdline;
	vm->irqchip_fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);

	vm->kvm_fd = open("/dev/kvm", O_RDWR);
	__TEST_REQUIRE(vm->kvm_fd >= 0, "/dev/kvm not available");
	vm->fd = __vmm_ioctl(vm->kvm_fd, KVM_CREATE_VM, NULL);
	TEST_ASSERT(vm->fd >= 0, "KVM_CREATE_VM failed, errno %d", -vm->fd);

	vm->ram = mmap(NULL, vm->ram_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(vm->ram != MAP_FAILED, "No memory");
	region.guest_phys_addr = vm->ram_base;
	region.memory_size = vm->ram_size;
	region.userspace_addr = (u64)vm->ram;
	vmm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);

	if (vm->use.reset == RESET_ARCH)
		arch_has_reset(vm);
	arch_init_vm(vm);

	/*
	 * All vCPUs that there may ever be are created now, including those that
	 * are plugged in later: KVM has to know which CPUs the guest can name.
	 */
	size = __vmm_ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	for (i = 0; i < vm->nr_vcpus; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		vcpu->vm = vm;
		vcpu->id = i;
		vcpu->fd = __vmm_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)(long)i);
		TEST_ASSERT(vcpu->fd >= 0, "KVM_CREATE_VCPU failed, errno %d",
			    -vcpu->fd);
		vcpu->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
				 vcpu->fd, 0);
		TEST_ASSERT(vcpu->run != MAP_FAILED, "No kvm_run");
		arch_init_vcpu(vcpu);
	}
	arch_init_irqchip(vm);

	for (i = 0; i < vm->nr_vcpus && vm->use.reset == RESET_REGS; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		vcpu->fresh_mp_state = vmm_get_mp_state(vcpu);
		vcpu->fresh = arch_save_vcpu(vcpu);
	}

	return vm;
}

static void vmm_run_threads(struct vm *vm)
{
	int i;

	vm->threads = true;
	for (i = 0; i < vm->nr_vcpus; i++)
		TEST_ASSERT(!pthread_create(&vm->vcpus[i].thread, NULL, vcpu_thread,
					    &vm->vcpus[i]), "No threads");
}

/* The caller has the lock, and loses it. */
static void vmm_destroy(struct vm *vm)
{
	int i, size = __vmm_ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);

	for (i = 0; i < vm->nr_vcpus && vm->threads; i++)
		vmm_hold(&vm->vcpus[i]);
	vm->quit = true;
	vmm_changed(vm);
	vmm_unlock(vm);

	for (i = 0; i < vm->nr_vcpus; i++) {
		if (vm->threads)
			pthread_join(vm->vcpus[i].thread, NULL);
		munmap(vm->vcpus[i].run, size);
		close(vm->vcpus[i].fd);
		arch_free_vcpu(vm->vcpus[i].fresh);
	}
	if (vm->irqchip_fd >= 0)
		close(vm->irqchip_fd);
	close(vm->fd);
	close(vm->kvm_fd);
	munmap(vm->ram, vm->ram_size);
	free(vm);
}

/* ---- The test ----------------------------------------------------------- */

#define NR_VCPUS	3
#define BOOT_ARG	0xb007
#define START_ARG	0x57a7
#define RESUME_ARG	0x4e5e
#define OWN_ARG		0x0317

static struct vm *vm;

/* Leave a message of a number of words, all at once. */
static void __tell(struct vcpu *vcpu, int nr, const u32 *words)
{
	struct mailbox *box = &vcpu->box;
	int i;

	for (i = 0; i < nr; i++)
		box->in[box->in_tail++ % ARRAY_SIZE(box->in)] = words[i];
	vmm_changed(vm);
}

#define tell(id, ...) do {						\
	const u32 __words[] = { __VA_ARGS__ };				\
									\
	__tell(&vm->vcpus[id], ARRAY_SIZE(__words), __words);		\
} while (0)

static bool has_read(int id)
{
	return vm->vcpus[id].box.in_head == vm->vcpus[id].box.in_tail;
}

static u32 hear(int id)
{
	struct mailbox *box = &vm->vcpus[id].box;

	vmm_wait_for(vm, box->out_head != box->out_tail, "the guest");

	return box->out[box->out_head++ % ARRAY_SIZE(box->out)];
}

#define expect(id, want) do {						\
	u32 __want = want, __got = hear(id);				\
									\
	TEST_ASSERT(__got == __want, "vCPU %d says 0x%x instead of 0x%x", \
		    id, __got, __want);					\
} while (0)

static void expect_silence(void)
{
	int i;

	for (i = 0; i < vm->nr_vcpus; i++)
		TEST_ASSERT(vm->vcpus[i].box.out_head == vm->vcpus[i].box.out_tail,
			    "vCPU %d says something", i);
}

/* What a CPU says first in each of its lives, with registers that were reset. */
static void expect_new_life(int id, u32 arg)
{
	expect(id, id);
	expect(id, arg);
	tell(id, CMD_ADD, 0x100 + id);
	expect(id, 0x100 + id);
	tell(id, CMD_ADD, 1);
	expect(id, 0x101 + id);
}

static void wait_until_idle(int id)
{
	struct vcpu *vcpu = &vm->vcpus[id];
	bool idle;

	do {
		vmm_hold(vcpu);
		idle = arch_is_idle(vcpu);
		vmm_release(vcpu);
		vmm_unlock(vm);
		usleep(idle ? 0 : 1000);
		vmm_lock(vm);
	} while (!idle);
}

static void start(int by, int id, u32 arg)
{
	tell(by, CMD_START, id, arch_guest_base, arg);
}

/* Start a CPU that is off, successfully. */
static void start_and_expect(int by, int id, u32 arg)
{
	unsigned int starts = vm->stats.starts;

	start(by, id, arg);
	expect(by, arch_start_result(VMM_OK));
	expect_new_life(id, vm->own_arg ?: arch_start_returns ? arg : 0);
	TEST_ASSERT_EQ(vm->stats.starts, starts + vm->use.exits);
}

static void stop(int id)
{
	tell(id, CMD_STOP);
	wait_until_idle(id);
}

static void test_boot(void)
{
	int i;

	expect_new_life(0, BOOT_ARG);

	for (i = 1; i < vm->nr_vcpus; i++) {
		vmm_hold(&vm->vcpus[i]);
		TEST_ASSERT(arch_is_off(&vm->vcpus[i]), "vCPU %d is on", i);
		vmm_release(&vm->vcpus[i]);
	}
	expect_silence();
}

static void test_start(void)
{
	int i;

	/* The CPU is as new in each of its lives. */
	for (i = 0; i < 4; i++) {
		start_and_expect(0, 1, START_ARG + i);
		stop(1);
	}

	/* And is what the VMM wants it to be. */
	if (vm->use.exits) {
		vm->own_arg = OWN_ARG;
		start_and_expect(0, 1, START_ARG);
		vm->own_arg = 0;
		stop(1);
	}
	expect_silence();
}

/* Errors, and calls that meet. */
static void test_start_errors(void)
{
	u32 ok = arch_start_result(VMM_OK), on = arch_start_result(VMM_ALREADY_ON);
	u32 result[2];
	int i;

	/* INIT and SIPI return nothing, and a CPU that is on starts all over. */
	if (!arch_start_returns)
		return;

	start_and_expect(0, 1, START_ARG);

	start(0, MAX_VCPUS, START_ARG);
	expect(0, arch_start_result(VMM_NO_SUCH_CPU));
	start(0, 0, START_ARG);
	expect(0, on);

	for (i = 0; i < 6; i++) {
		/* They start one another. */
		start(0, 1, START_ARG);
		start(1, 0, START_ARG);
		expect(0, on);
		expect(1, on);

		/* They start the same one. */
		start(0, 2, START_ARG);
		start(1, 2, START_ARG);
		result[0] = hear(0);
		result[1] = hear(1);
		TEST_ASSERT((result[0] == ok && result[1] == on) ||
			    (result[0] == on && result[1] == ok),
			    "The results are 0x%x and 0x%x", result[0], result[1]);
		expect_new_life(2, START_ARG);
		stop(2);
	}

	stop(1);
	expect_silence();
}

/* A CPU that isn't plugged in. */
static void test_refuse(void)
{
	unsigned int refusals = vm->stats.refusals;

	vm->unplugged = 1ul << 2;

	if (!vm->use.exits) {
		/* Nobody asks us. */
		start_and_expect(0, 2, START_ARG);
		TEST_ASSERT_EQ(vm->stats.refusals, refusals);
		stop(2);
		vm->unplugged = 0;
		return;
	}

	start(0, 2, START_ARG);
	expect(0, arch_start_result(VMM_DENIED));
	vmm_wait_for(vm, vm->stats.refusals != refusals, "the request");
	TEST_ASSERT_EQ(vm->stats.refusals, refusals + 1);

	vmm_hold(&vm->vcpus[2]);
	TEST_ASSERT(arch_is_off(&vm->vcpus[2]), "The CPU was started");
	vmm_release(&vm->vcpus[2]);
	expect_silence();

	/* It has only been refused this time. */
	vm->unplugged = 0;
	start_and_expect(0, 2, START_ARG);
	stop(2);
}

static void migrate(void)
{
	vmm_pause(vm);
	vm = vmm_migrate(vm);
	vmm_resume(vm);
}

/*
 * Pause and save, at each access that the guest makes when it adds up numbers.
 */
static void test_save(void)
{
	u32 sum = 0x101, value = 0x10000;
	struct vmm_stats old = vm->stats;
	int at;

	/* The other CPU is in the middle of a read. */
	start_and_expect(0, 1, START_ARG);

	for (at = 1; at <= 5; at++) {
		vm->pause_at = at;
		vm->paused_at = NULL;
		tell(0, CMD_ADD, value, CMD_ADD, value + at);
		tell(0, CMD_ADD, 1);
		vmm_wait_for(vm, vm->paused_at, "the access");
		vmm_pause(vm);
		vmm_release(vm->paused_at);
		if (at > 1)
			vm = vmm_migrate(vm);
		vmm_resume(vm);

		expect(0, sum += value);
		expect(0, sum += value + at);
		expect(0, sum += 1);
		tell(1, CMD_ADD, at);
		expect(1, 0x102 + at * (at + 1) / 2);
		expect_silence();
	}

	/* All of these exits had to be completed. */
	TEST_ASSERT(vm->stats.completions >= old.completions + 5,
		    "Only %u exits were completed",
		    vm->stats.completions - old.completions);

	/* A CPU that is off has no exit. */
	old = vm->stats;
	vmm_hold(&vm->vcpus[2]);
	vmm_wait_for(vm, vm->vcpus[2].parked, "the vCPU to be parked");
	TEST_ASSERT_EQ(vm->stats.completions, old.completions + !vm->use.flag);
	vmm_release(&vm->vcpus[2]);

	stop(1);
}

/* At random moments, with numbers on their way to two CPUs. */
static void test_migrate(void)
{
	u32 sum[2];
	int i, j;

	start_and_expect(0, 1, START_ARG);
	sum[1] = 0x102;
	tell(0, CMD_ADD, 0);
	sum[0] = hear(0);

	for (i = 0; i < 4; i++) {
		for (j = 0; j < 8; j++) {
			tell(0, CMD_ADD, i + j);
			tell(1, CMD_ADD, i * j);
		}
		vmm_unlock(vm);
		usleep(100 * i);
		vmm_lock(vm);
		migrate();
		for (j = 0; j < 8; j++) {
			expect(0, sum[0] += i + j);
			expect(1, sum[1] += i * j);
		}
		/* The same, but stay here. */
		tell(0, CMD_ADD, 1);
		vmm_pause(vm);
		vmm_resume(vm);
		expect(0, sum[0] += 1);
	}

	/* A call is made once, and a CPU that was started is, too. */
	stop(1);
	for (i = 0; i < 2; i++) {
		start(0, 1, i);
		vmm_unlock(vm);
		usleep(100 * i);
		vmm_lock(vm);
		if (!vm->use.exits) {
			/*
			 * A start that KVM serves may not show in the state of the
			 * target before it runs, if there is no KVM_MP_STATE_RESET.
			 */
			expect(0, arch_start_result(VMM_OK));
			expect_new_life(1, arch_start_returns ? i : 0);
			migrate();
		} else {
			migrate();
			expect(0, arch_start_result(VMM_OK));
			expect_new_life(1, arch_start_returns ? i : 0);
		}
		stop(1);
	}
	expect_silence();
}

static void test_suspend(void)
{
	unsigned int refusals = vm->stats.refusals;

	if (!arch_can_suspend(vm)) {
		tell(0, CMD_SUSPEND, arch_guest_base, RESUME_ARG);
		TEST_ASSERT(hear(0), "Suspended by whom?");
		return;
	}

	/* Not while others are on. */
	start_and_expect(0, 1, START_ARG);
	tell(0, CMD_SUSPEND, arch_guest_base, RESUME_ARG);
	expect(0, arch_suspend_denied);
	stop(1);

	if (arch_can_deny_suspend(vm)) {
		refusals = vm->stats.refusals;
		vm->deny_suspend = true;
		tell(0, CMD_SUSPEND, arch_guest_base, RESUME_ARG);
		expect(0, arch_suspend_denied);
		TEST_ASSERT_EQ(vm->stats.refusals, refusals + 1);
		vm->deny_suspend = false;
	}
	tell(0, CMD_ADD, 0);
	TEST_ASSERT(hear(0), "The guest has lost its state");

	tell(0, CMD_SUSPEND, arch_guest_base, RESUME_ARG);
	vmm_wait_for(vm, vm->vcpus[0].suspended, "the guest to suspend");
	/* It may be paused, saved and restored meanwhile. */
	vmm_pause(vm);
	vmm_resume(vm);
	migrate();
	expect_silence();
	TEST_ASSERT(vm->vcpus[0].suspended, "The guest isn't suspended");

	vmm_wake_up(vm);
	expect_new_life(0, RESUME_ARG);
	start_and_expect(0, 1, START_ARG);
	stop(1);
	expect_silence();
}

static void test_reset(void)
{
	unsigned int resets;
	int i;

	for (i = 0; i < 8; i++) {
		start_and_expect(0, 1, START_ARG);
		resets = vm->stats.machine_resets;

		switch (i % 4) {
		case 0:
			/* The guest's, with another CPU in the middle of a read. */
			tell(1, CMD_ADD);
			tell(0, CMD_RESET);
			break;
		case 1:
			/* From the CPU that isn't the boot CPU. */
			tell(0, CMD_ADD);
			tell(1, CMD_RESET);
			break;
		case 2:
			/*
			 * Twice: both CPUs have exited before the first exit is
			 * handled, unless KVM has stopped the second CPU.
			 */
			tell(0, CMD_RESET);
			tell(1, CMD_RESET);
			vmm_wait_for(vm, has_read(0) && has_read(1), "the CPUs");
			usleep(50000);
			break;
		case 3:
			/* The button. */
			tell(0, CMD_ADD);
			tell(1, CMD_ADD, 1, CMD_ADD, 1);
			vmm_unlock(vm);
			usleep(100 * i);
			vmm_lock(vm);
			vmm_reset_machine(vm, NULL);
			break;
		}

		expect_new_life(0, BOOT_ARG);
		TEST_ASSERT_EQ(vm->stats.machine_resets, resets + 1);
		expect_silence();
		vmm_hold(&vm->vcpus[1]);
		TEST_ASSERT(arch_is_off(&vm->vcpus[1]), "The other CPU is on");
		vmm_release(&vm->vcpus[1]);
	}
}

static const struct {
	const char *name;
	void (*fn)(void);
} tests[] = {
	{ "boot",		test_boot },
	{ "start",		test_start },
	{ "start errors",	test_start_errors },
	{ "refuse",		test_refuse },
	{ "save",		test_save },
	{ "migrate",		test_migrate },
	{ "suspend",		test_suspend },
	{ "reset",		test_reset },
	/* What was reset is good for all of this. */
	{ "start again",	test_start },
	{ "refuse again",	test_refuse },
};

/* ---- main --------------------------------------------------------------- */

/* What there is for each of the features, the fallbacks included. */
static struct {
	bool reset[RESET_REQUEST + 1];
	bool exits;
	bool flag;
} have;

static void get_features(void)
{
	struct vm probe = { 0 };

	probe.kvm_fd = open("/dev/kvm", O_RDWR);
	__TEST_REQUIRE(probe.kvm_fd >= 0, "/dev/kvm not available");
	probe.fd = __vmm_ioctl(probe.kvm_fd, KVM_CREATE_VM, NULL);
	TEST_ASSERT(probe.fd >= 0, "KVM_CREATE_VM failed, errno %d", -probe.fd);

	have.reset[RESET_REGS] = arch_reset_regs;
	have.reset[RESET_ARCH] = arch_has_reset(&probe);
	have.reset[RESET_REQUEST] = vmm_check_cap(&probe, KVM_CAP_MP_STATE_RESET) > 0;
	have.exits = arch_has_exits(&probe);
	have.flag = vmm_check_cap(&probe, KVM_CAP_NEEDS_COMPLETION) > 0;

	close(probe.fd);
	close(probe.kvm_fd);
}

static const char *describe(const struct vmm_features *use)
{
	const char * const resets[] = {
		[RESET_REGS]	= "all registers written",
		[RESET_ARCH]	= arch_reset_name,
		[RESET_REQUEST]	= "KVM_MP_STATE_RESET",
	};
	static char string[128];

	snprintf(string, sizeof(string), "%s, %s, %s", resets[use->reset],
		 use->exits ? "starts served here" : "starts served by KVM",
		 use->flag ? "KVM_RUN_NEEDS_COMPLETION" : "KVM_RUN in any case");

	return string;
}

static void run_tests(const struct vmm_features *use)
{
	struct vm config = {
		.use = *use,
		.nr_vcpus = NR_VCPUS,
		.ram_base = arch_guest_base,
		.ram_size = SZ_64K,
		.boot_arg = BOOT_ARG,
	};
	int i;

	vm = vmm_create(&config);
	load_images(vm);
	arch_set_entry(&vm->vcpus[0], vm->boot_entry, vm->boot_arg);
	vmm_lock(vm);
	vmm_run_threads(vm);

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		tests[i].fn();
		ksft_test_result_pass("%s: %s\n", describe(use), tests[i].name);
	}

	ksft_print_msg("%u resets, %u starts, %u refused, %u suspends\n",
		       vm->stats.resets, vm->stats.starts, vm->stats.refusals,
		       vm->stats.suspends);
	ksft_print_msg("%u times KVM_RUN to complete an exit, %u parts more\n",
		       vm->stats.completions, vm->stats.parts);
	vmm_destroy(vm);
}

static void test_all(void)
{
	struct vmm_features modes[12], use;
	unsigned int nr = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		use.reset = RESET_REQUEST - i / 4;
		use.exits = !(i & 2);
		use.flag = !(i & 1);

		if (have.reset[use.reset] && have.exits >= use.exits &&
		    have.flag >= use.flag)
			modes[nr++] = use;
	}

	ksft_print_header();
	ksft_set_plan(nr * ARRAY_SIZE(tests));
	for (i = 0; i < nr; i++)
		run_tests(&modes[i]);
	ksft_finished();
}

/*
 * Boot Linux, and boot it again when it has reset the machine: that takes all of
 * the above, with a guest that knows nothing about it.
 */
static void boot_linux(struct vm *config, unsigned int nr_boots, unsigned int ms)
{
	unsigned int boots = 0, migrations = 0;

	vm = vmm_create(config);
	__TEST_REQUIRE(!ms || vm->irqchip_fd < 0,
		       "The state of the interrupt controller isn't saved here");
	load_images(vm);
	arch_set_entry(&vm->vcpus[0], vm->boot_entry, vm->boot_arg);
	vmm_lock(vm);
	vmm_run_threads(vm);

	printf("VMM: %s\n", describe(&vm->use));
	while (!vm->shutdown && vm->stats.machine_resets < nr_boots) {
		if (boots == vm->stats.machine_resets)
			printf("VMM: boot %u\n", ++boots);

		if (!ms) {
			pthread_cond_wait(&vm->changed, &vm->lock);
			continue;
		}
		vmm_unlock(vm);
		usleep(ms * 1000);
		vmm_lock(vm);
		vmm_pause(vm);
		vm = vmm_migrate(vm);
		vmm_resume(vm);
		migrations++;
	}

	printf("VMM: the guest has %s\n",
	       vm->shutdown ? "shut down" : "reset the machine");
	printf("VMM: %u machine resets, %u vCPU resets, %u starts\n",
	       vm->stats.machine_resets, vm->stats.resets, vm->stats.starts);
	printf("VMM: %u migrations, %u times KVM_RUN to complete an exit\n",
	       migrations, vm->stats.completions);
	vmm_destroy(vm);
}

static void help(const char *name)
{
	printf("usage: %s [-R] [-E] [-F]\n"
	       "       %s -k IMAGE [-d DTB] [-a ARGS] [-c CPUS] [-n BOOTS] [-m MS] [-R] [-E] [-F]\n"
	       " -R: as if there was no KVM_MP_STATE_RESET; twice: nothing else either\n"
	       " -E: as if starts and resets of the guest could not exit\n"
	       " -F: as if there was no KVM_RUN_NEEDS_COMPLETION\n"
	       " -k: boot this Linux kernel (Image)\n"
	       " -d: with this device tree instead of one that is made up\n"
	       " -a: with these arguments in addition\n"
	       " -c: with this number of vCPUs, 2 by default, %u at most\n"
	       " -n: end when the machine was reset this many times, 2 by default\n"
	       " -m: move to another VM each MS milliseconds\n",
	       name, name, MAX_VCPUS);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	struct sigaction kick = { .sa_handler = kick_handler };
	struct vm config = {
		.nr_vcpus = 2,
		.ram_base = arch_ram_base,
		.ram_size = 128ul << 20,
	};
	unsigned int nr_boots = 2, ms = 0;
	char cmdline[1024];
	const char *args = "";
	int opt;

	get_features();

	while ((opt = getopt(argc, argv, "REFk:d:a:c:n:m:")) != -1) {
		switch (opt) {
		case 'R':
			if (!have.reset[RESET_REQUEST] && arch_reset_regs)
				have.reset[RESET_ARCH] = false;
			have.reset[RESET_REQUEST] = false;
			break;
		case 'E':
			have.exits = false;
			break;
		case 'F':
			have.flag = false;
			break;
		case 'k':
			config.kernel = optarg;
			break;
		case 'd':
			config.dtb = optarg;
			break;
		case 'a':
			args = optarg;
			break;
		case 'c':
			config.nr_vcpus = atoi(optarg);
			break;
		case 'n':
			nr_boots = atoi(optarg);
			break;
		case 'm':
			ms = atoi(optarg);
			break;
		default:
			help(argv[0]);
		}
	}
	if (!config.nr_vcpus || config.nr_vcpus > MAX_VCPUS)
		help(argv[0]);

	/* Without SA_RESTART, so that KVM_RUN returns. */
	sigaction(SIG_KICK, &kick, NULL);

	if (!config.kernel)
		test_all();

	__TEST_REQUIRE(arch_cmdline, "No kernel is booted on this architecture");

	config.use.reset = have.reset[RESET_REQUEST] ? RESET_REQUEST :
			   have.reset[RESET_ARCH] ? RESET_ARCH : RESET_REGS;
	config.use.exits = have.exits;
	config.use.flag = have.flag;
	snprintf(cmdline, sizeof(cmdline), "%s keep_bootcon panic=-1 %s",
		 arch_cmdline, args);
	config.cmdline = cmdline;
	boot_linux(&config, nr_boots, ms);

	return 0;
}
