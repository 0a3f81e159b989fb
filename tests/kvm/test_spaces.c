/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two address spaces, changed in one step under a vCPU that sees both (P1, P2, P4). On x86 the second one is what a
 * vCPU sees in system management mode.
 *
 * The vCPU runs the loop of vm.h in space 0; each time that it is at the door a system management interrupt may come, and
 * its handler reads the same page in space 1. Every generation of the map has its number in what the page shows; so what
 * one vCPU reads, in this space and that, must never go back.
 */
#include "spaces.h"

#include <stdlib.h>

#ifdef __x86_64__

/* Changed in both spaces. */
#define PAGE_SEEN (PAGE_TEST + 8)

enum { COMMITS = 200, CONTROLS = 5 };

/* --------------------------------------------------------------------------------- a vCPU in both --- */

/* Where the processor begins in system management mode, if nobody has told it another place. */
#define HANDLER_PAGE 0x38u
/* What the guest reads where there is no memory. */
#define ABSENT UINT32_MAX

/* More words in the vCPU's own page: what the handler read, and how often it was there. */
enum { OWN_SAW = 1, OWN_HANDLER_SAW = 3, OWN_HANDLED = 4 };

/* esi: watched word; edi: where to keep it; ebp: what to count in */
static const uint8_t handler[] = {
	0x67, 0x66, 0x8b, 0x06,	      /* mov (esi), eax */
	0x67, 0x66, 0x89, 0x07,	      /* mov eax, (edi) */
	0x67, 0x66, 0xff, 0x45, 0x00, /* incl (ebp) */
	0x0f, 0xaa,		      /* rsm */
};

static struct {
	/* The generation that a commit on its way brings, or the last one; and what the last commit has brought. */
	_Atomic uint64_t begun, done;
	bool numbered; /* the watched pages show generations */
	uint64_t door, watched[2];
	const uint32_t *kept[2], *handled;
	/* Of the vCPU's thread: */
	uint32_t handled_before;
	uint64_t last[2], floor;
	bool in_lap;
	unsigned seed;
	/* What it has found: */
	atomic_ulong seen[2], absent[2];
	atomic_ulong mixes; /* one space was older than the other had been seen to be */
	atomic_ulong
		wrong; /* older than that space itself, or than a finished commit; or newer than any */
} judge;

/* What is not there tells no number: it is the first generation that can be and in which that space has no memory. */
static uint64_t generation(unsigned space, uint32_t word)
{
	uint64_t g = judge.last[space] > judge.floor ? judge.last[space] : judge.floor;

	if (word != ABSENT)
		return word;
	return g % 2 == space ? g : g + 1;
}

static void observe(unsigned space)
{
	uint64_t g = generation(space, __atomic_load_n(judge.kept[space], __ATOMIC_ACQUIRE));

	atomic_fetch_add(&judge.seen[space], 1);
	if (g < judge.last[space] || g < judge.floor || g > atomic_load(&judge.begun))
		atomic_fetch_add(&judge.wrong, 1);
	else if (g < judge.last[!space])
		atomic_fetch_add(&judge.mixes, 1);
	judge.last[space] = g;
}

/* At the door: what it has read since it was here before, in its order; and perhaps the handler comes next. */
static void judge_lap(struct vcpu *v)
{
	uint32_t handled = __atomic_load_n(judge.handled, __ATOMIC_ACQUIRE);

	if (judge.numbered) {
		if (handled != judge.handled_before)
			observe(1);
		observe(0);
	}
	judge.handled_before = handled;
	judge.in_lap = false;
	if (rand_r(&judge.seed) % 4 && gpamap_vcpu_ioctl(v->gate, KVM_SMI, NULL))
		atomic_store(&v->err, -EIO);
}

/* A read of a watched page that is not there is answered, and counted: where it is right, and where it is not. */
static bool answer_absent(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	unsigned space = run->flags & KVM_RUN_X86_SMM ? 1 : 0;

	if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.is_write ||
	    run->mmio.phys_addr != judge.watched[space])
		return false;
	memset(run->mmio.data, 0xff, run->mmio.len);
	atomic_fetch_add(&judge.absent[space], 1);
	return true;
}

static int run_judged(struct vcpu *v)
{
	int err;

	if (!judge.in_lap) {
		judge.floor = atomic_load(&judge.done);
		judge.in_lap = true;
	}
	do {
		err = gpamap_vcpu_run(v->gate);
	} while (!err && answer_absent(v));
	return err;
}

static uint32_t *own_word(const struct vcpu *v, unsigned i)
{
	return (uint32_t *)(vm.memory + vm_gpa(&vm, PAGE_OWN + v->id) + i * sizeof(uint64_t));
}

/* Space 1 as space 0: what the handler needs is there. */
static void map_space_1(void)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	memcpy(vm.memory + vm_gpa(&vm, HANDLER_PAGE), handler, sizeof(handler));
	ok(gpamap_map_pages(txn, 1, 0, vm_gpa(&vm, VM_PAGES), vm.memory, GPAMAP_RW));
	vm_commit(txn, 0, NULL);
}

static void init_judge(struct vcpu *v, unsigned page_0, unsigned page_1)
{
	memset(&judge, 0, sizeof(judge));
	judge.seed = 1;
	judge.watched[0] = vm_gpa(&vm, page_0);
	judge.watched[1] = vm_gpa(&vm, page_1);
	judge.kept[0] = own_word(v, OWN_SAW);
	judge.kept[1] = own_word(v, OWN_HANDLER_SAW);
	judge.handled = own_word(v, OWN_HANDLED);
}

/* A vCPU that watches a page in each space. Counts in @mark each time that it was in space 1; 0: in its own page. */
static struct vcpu *new_guest(enum mode mode, unsigned page_0, unsigned page_1, uint64_t mark)
{
	struct vcpu *v = vcpu_new(&vm, 0);
	struct kvm_regs regs;
	uint64_t own = vm_gpa(&vm, PAGE_OWN);

	init_judge(v, page_0, page_1);
	vcpu_set(v, mode, LOOP, page_0, true);
	ok(ioctl(v->fd, KVM_GET_REGS, &regs));
	regs.rsi = judge.watched[1];
	regs.rdi = own + OWN_HANDLER_SAW * sizeof(uint64_t);
	regs.rbp = mark ? mark : own + OWN_HANDLED * sizeof(uint64_t);
	ok(ioctl(v->fd, KVM_SET_REGS, &regs));
	v->once = run_judged;
	v->on_ring = judge_lap;
	return v;
}

static void await_laps(struct vcpu *v, unsigned n)
{
	for (int space = 0; space < 2; space++) {
		unsigned long until = atomic_load(&judge.seen[space]) + n;

		while (atomic_load(&judge.seen[space]) < until)
			vcpu_await(v, 1);
	}
}

static void report(const char *what, unsigned commits)
{
	printf("%s: %u commits, %lu looks in space 0 and %lu in space 1, of which %lu and %lu saw "
	       "no memory; %lu mixes\n",
	       what, commits, judge.seen[0], judge.seen[1], judge.absent[0], judge.absent[1],
	       judge.mixes);
}

/* ------------------------------------------------------------------------------- at one instant --- */

static void write_number(void *at, uint64_t g)
{
	__atomic_store_n((uint64_t *)at, g, __ATOMIC_RELEASE);
}

/* Memory comes in one space and goes in the other: nothing critical, so only the flag makes it one step. */
static void alternate(unsigned flags)
{
	uint64_t g = atomic_load(&judge.begun) + 1;
	unsigned comes = g % 2 ? 0 : 1;
	struct gpamap_commit_report r;
	struct gpamap_txn *txn = vm_begin(&vm);

	write_number(spare(comes), g);
	map_page(txn, comes, ELSEWHERE, spare(comes));
	unmap_page(txn, !comes, ELSEWHERE);
	atomic_store(&judge.begun, g);
	vm_commit(txn, flags, &r);
	atomic_store(&judge.done, g);
	assert_int_equal(r.gate_shut, flags != 0);
}

static struct vcpu *start_alternating(enum mode mode)
{
	struct gpamap_txn *txn;
	struct vcpu *v;

	map_space_1();
	txn = vm_begin(&vm);
	write_number(spare(1), 0);
	map_page(txn, 1, ELSEWHERE, spare(1));
	vm_commit(txn, 0, NULL);
	v = new_guest(mode, ELSEWHERE, ELSEWHERE, 0);
	judge.numbered = true;
	vcpu_start(v);
	await_laps(v, 1);
	return v;
}

static void both_at_one_instant(enum mode mode)
{
	struct vcpu *v = start_alternating(mode);

	step("commits at one instant");
	for (unsigned i = 0; i < COMMITS; i++) {
		alternate(GPAMAP_COMMIT_ONE_INSTANT);
		await_laps(v, 1);
	}
	vcpu_stop(v);
	report("one instant", COMMITS);
	assert_int_equal(judge.wrong, 0);
	assert_int_equal(judge.mixes, 0);
	/* It has looked where nothing was, too. */
	assert_true(judge.absent[0] && judge.absent[1]);
}

static void one_instant(void **state)
{
	(void)state;
	both_at_one_instant(SUPERVISOR);
}

static void one_instant_user(void **state)
{
	(void)state;
	both_at_one_instant(USER);
}

/* The control: without the flag each access meets old or new, but the spaces don't go together. */
static void not_at_one_instant(void **state)
{
	struct vcpu *v = start_alternating(SUPERVISOR);
	unsigned commits = 0;

	(void)state;
	step("commits without the flag, until mixes have been seen");
	while (atomic_load(&judge.mixes) < CONTROLS) {
		alternate(0);
		await_laps(v, 1);
		commits++;
	}
	vcpu_stop(v);
	report("without the flag", commits);
	assert_int_equal(judge.wrong, 0);
}

/* ---------------------------------------------------------------------- critical in both spaces --- */

/* Other memory for what is watched, and other protection for the code that runs: in both spaces. */
static void change_both(unsigned flags)
{
	uint64_t g = atomic_load(&judge.begun) + 1;
	uint8_t *next = spare(g % 2);
	enum gpamap_prot prot = g % 2 ? GPAMAP_RO : GPAMAP_RW;
	struct gpamap_commit_report r;
	struct gpamap_txn *txn = vm_begin(&vm);

	write_number(next, g);
	map_page(txn, 0, PAGE_SEEN, next);
	map_page(txn, 1, PAGE_SEEN, next);
	ok(gpamap_protect_pages(txn, 0, vm_gpa(&vm, PAGE_CODE), vm.page, prot));
	ok(gpamap_protect_pages(txn, 1, vm_gpa(&vm, HANDLER_PAGE), vm.page, prot));
	atomic_store(&judge.begun, g);
	vm_commit(txn, flags, &r);
	atomic_store(&judge.done, g);
	assert_true(r.gate_shut);
	/* Four slots go, and four come. */
	assert_true(r.critical >= 8);
}

static void critical_in_both(unsigned flags)
{
	struct gpamap_txn *txn;
	struct vcpu *v;

	map_space_1();
	v = new_guest(SUPERVISOR, PAGE_SEEN, PAGE_SEEN, 0);
	txn = vm_begin(&vm);
	write_number(spare(0), 0);
	map_page(txn, 0, PAGE_SEEN, spare(0));
	map_page(txn, 1, PAGE_SEEN, spare(0));
	vm_commit(txn, 0, NULL);
	judge.numbered = true;
	vcpu_start(v);
	await_laps(v, 1);
	step("critical changes in both spaces");
	for (unsigned i = 0; i < COMMITS; i++) {
		change_both(flags);
		await_laps(v, 1);
	}
	/* Any exit but that at the door, and the reads below, fails here. */
	vcpu_stop(v);
	report(flags ? "critical, one instant" : "critical", COMMITS);
	assert_int_equal(judge.absent[0] + judge.absent[1], 0);
	assert_int_equal(judge.wrong, 0);
	if (flags)
		assert_int_equal(judge.mixes, 0);
}

static void critical(void **state)
{
	(void)state;
	critical_in_both(0);
}

static void critical_one_instant(void **state)
{
	(void)state;
	critical_in_both(GPAMAP_COMMIT_ONE_INSTANT);
}

/* The control: who deletes and creates a slot of space 1 with no gate makes a hole, and the handler falls in. */
static void holes_without_gate(void **state)
{
	struct vcpu *v;
	unsigned times = 0;

	(void)state;
	reserve_probes();
	map_space_1();
	ok(set_probe(1, ELSEWHERE, vm.page));
	v = new_guest(SUPERVISOR, PAGE_SEEN, ELSEWHERE, 0);
	vcpu_start(v);
	step("a slot made anew with no gate, until the handler meets a hole");
	while (atomic_load(&judge.absent[1]) < CONTROLS) {
		ok(set_probe(1, ELSEWHERE, 0));
		ok(set_probe(1, ELSEWHERE, vm.page));
		vcpu_await(v, 1);
		times++;
	}
	vcpu_stop(v);
	printf("no gate: %u times made anew, %lu holes met\n", times, judge.absent[1]);
	assert_int_equal(judge.absent[0], 0);
}

/* ------------------------------------------------------------------------------------ dirty pages --- */

enum { LOGGED = 4, MARKED = 2 };

/* Let the handler run; then no vCPU does. */
static void handle_some(struct vcpu *v)
{
	const _Atomic uint32_t *mark = (const _Atomic uint32_t *)judge.handled;
	uint32_t before = atomic_load(mark);

	vcpu_start(v);
	while (atomic_load(mark) - before < 3)
		vcpu_await(v, 1);
	vcpu_stop(v);
}

static void check_dirty(struct gpamap_region *r)
{
	uint64_t bitmap = 0;

	ok(gpamap_dirty_fetch(vm.map, r, 0, LOGGED * vm.page, &bitmap));
	assert_true(bitmap & 1u << MARKED);
	ok(gpamap_dirty_fetch(vm.map, r, 0, LOGGED * vm.page, &bitmap));
	assert_int_equal(bitmap, 0);
}

/* What is written in space 1 is reported, though its slots are split and go before anybody asks (P4). */
static void dirty_in_space_1(void **state)
{
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM, .size = LOGGED * vm.page, .hva = spare(0)};
	uint64_t at = vm_gpa(&vm, ELSEWHERE), mark = vm_gpa(&vm, ELSEWHERE + MARKED);
	struct gpamap_region *r;
	struct gpamap_txn *txn;
	struct vcpu *v;

	(void)state;
	map_space_1();
	ok(gpamap_region_new(vm.map, &desc, &r));
	txn = vm_begin(&vm);
	ok(gpamap_map_region(txn, 1, at, LOGGED * vm.page, r, 0, GPAMAP_RW));
	ok(gpamap_set_log(txn, r, true));
	vm_commit(txn, 0, NULL);
	v = new_guest(SUPERVISOR, PAGE_SEEN, PAGE_SEEN, mark);
	judge.handled = (const uint32_t *)spare(MARKED);
	handle_some(v);
	check_dirty(r);

	handle_some(v);
	txn = vm_begin(&vm);
	ok(gpamap_protect_pages(txn, 1, at + vm.page, vm.page, GPAMAP_RO));
	vm_commit(txn, 0, NULL);
	check_dirty(r);

	handle_some(v);
	txn = vm_begin(&vm);
	ok(gpamap_unmap_pages(txn, 1, at, LOGGED * vm.page));
	vm_commit(txn, 0, NULL);
	check_dirty(r);
	gpamap_region_put(r);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_vm, close_vm)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_instant),	TEST(one_instant_user),	    TEST(not_at_one_instant),
		TEST(critical),		TEST(critical_one_instant), TEST(holes_without_gate),
		TEST(dirty_in_space_1),
	};

	if (!spaces_available())
		return 77;
	watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
	puts("SKIP: a vCPU of this processor sees one address space");
	return 77;
}

#endif
