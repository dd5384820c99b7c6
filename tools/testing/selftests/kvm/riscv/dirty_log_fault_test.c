// SPDX-License-Identifier: GPL-2.0-only
/*
 * Write faults while dirty pages are logged, and after that.
 *
 * A page that the guest has only read may be one that others see too: the
 * zero page. A write must get the guest a page of its own. And what was mapped
 * in small pages for the log must become writable again, whatever the host maps.
 */
#include <signal.h>
#include <sys/mman.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define SLOT		10
#define GPA		0x100000000ul
#define SIZE		(2ul << 20)	/* a huge page, aligned to it */
#define PATTERN		0x5ca1ab1e0ddba11ull
#define TIMEOUT		20	/* seconds */

enum { READ = 1, WRITE, DONE, UNDONE };

/* Write zeroes, as what was written to isn't the guest's. */
static bool undo;

static void guest_code(u64 first, u64 count, u64 page_size)
{
	u64 i;

	for (i = first; i < first + count; i++)
		GUEST_ASSERT_EQ(READ_ONCE(*(u64 *)(GPA + i * page_size)), 0);
	GUEST_SYNC(READ);
	for (i = first; i < first + count; i++)
		WRITE_ONCE(*(u64 *)(GPA + i * page_size), PATTERN + i);
	GUEST_SYNC(WRITE);
	if (READ_ONCE(undo)) {
		for (i = first; i < first + count; i++)
			WRITE_ONCE(*(u64 *)(GPA + i * page_size), 0);
		GUEST_SYNC(UNDONE);
	}
	for (i = first; i < first + count; i++)
		GUEST_ASSERT_EQ(READ_ONCE(*(u64 *)(GPA + i * page_size)), PATTERN + i);
	for (i = first; i < first + count; i++)
		WRITE_ONCE(*(u64 *)(GPA + i * page_size), PATTERN + i);
	GUEST_SYNC(DONE);
}

struct guest {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	u64 *mem;
};

static struct guest start(u64 first, u64 count, int advice)
{
	size_t pages = SIZE / getpagesize();
	struct guest g;

	g.vm = vm_create_with_one_vcpu(&g.vcpu, guest_code);
	vcpu_args_set(g.vcpu, 3, first, count, (u64)getpagesize());
	vm_userspace_mem_region_add(g.vm, VM_MEM_SRC_ANONYMOUS_THP, GPA, SLOT, pages, 0);
	virt_map(g.vm, GPA, GPA, pages);
	g.mem = addr_gpa2hva(g.vm, GPA);
	TEST_ASSERT(!madvise(g.mem, SIZE, MADV_DONTNEED), "MADV_DONTNEED");
	TEST_ASSERT(!madvise(g.mem, SIZE, advice), "madvise(%d)", advice);
	return g;
}

static void on_alarm(int sig)
{
	static const char msg[] = "FAIL: the guest gets nowhere\n";

	if (write(STDERR_FILENO, msg, sizeof(msg) - 1))
		_exit(254);
}

static void run_until(struct guest *g, u64 stage)
{
	struct ucall uc;

	alarm(TIMEOUT);
	vcpu_run(g->vcpu);
	alarm(0);
	switch (get_ucall(g->vcpu, &uc)) {
	case UCALL_SYNC:
		TEST_ASSERT_EQ(uc.args[1], stage);
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	default:
		TEST_FAIL("ucall %lu", uc.cmd);
	}
}

static void test_zero_page(void)
{
	int i, nr = 4, words = getpagesize() / sizeof(u64);
	struct guest g = start(0, nr, MADV_NOHUGEPAGE);
	unsigned long found = 0;
	u64 *fresh;

	pr_info("A page that was read, and is written while dirty pages are logged\n");
	fresh = mmap(NULL, nr * getpagesize(), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(fresh != MAP_FAILED, "mmap()");
	TEST_ASSERT(!madvise(fresh, nr * getpagesize(), MADV_NOHUGEPAGE), "madvise()");

	vm_mem_region_set_flags(g.vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	run_until(&g, READ);
	run_until(&g, WRITE);
	/* Nobody has written here.  If it seems so, don't leave the host like that. */
	for (i = 0; i < nr; i++)
		found = found ?: READ_ONCE(fresh[i * words]);
	if (found) {
		undo = true;
		sync_global_to_guest(g.vm, undo);
		run_until(&g, UNDONE);
		TEST_FAIL("the guest has written %#lx to the zero page of the host", found);
	}
	for (i = 0; i < nr; i++)
		TEST_ASSERT_EQ(g.mem[i * words], PATTERN + i);
	run_until(&g, DONE);
	munmap(fresh, nr * getpagesize());
	kvm_vm_free(g.vm);
}

static void test_log_stopped(void)
{
	int i, first = 1, nr = 8, words = getpagesize() / sizeof(u64);
	struct guest g = start(first, nr, MADV_HUGEPAGE);

	pr_info("Pages of a huge page that was split for the log, once it is off\n");
	/* Here and in the guest. */
	memset(g.mem, 0, SIZE);
	run_until(&g, READ);
	vm_mem_region_set_flags(g.vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	vm_mem_region_set_flags(g.vm, SLOT, 0);
	run_until(&g, WRITE);
	for (i = first; i < first + nr; i++)
		TEST_ASSERT_EQ(g.mem[i * words], PATTERN + i);
	run_until(&g, DONE);
	kvm_vm_free(g.vm);
}

int main(int argc, char *argv[])
{
	const struct sigaction act = { .sa_handler = on_alarm };

	TEST_ASSERT(!sigaction(SIGALRM, &act, NULL), "sigaction()");
	if (argc < 2 || atoi(argv[1]) == 1)
		test_zero_page();
	if (argc < 2 || atoi(argv[1]) == 2)
		test_log_stopped();
	return 0;
}
