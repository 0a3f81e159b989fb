/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vCPU in a page fault that nobody resolves: a userfaultfd's handler that waits for the committer (P6).
 *
 * Whether a kick brings such a vCPU out depends on the kernel, and on how the guest's access reaches the host's
 * memory: faults of the guest can be interrupted since Linux 6.2 on x86, those of KVM's emulator can't. So each
 * sort of access is tried first, without a gate, and must then do with the gate what follows:
 *
 *  - it comes out: the commit succeeds while the page is still missing;
 *  - it doesn't: the commit ends by its deadline, nothing has changed, and it succeeds once the page is there.
 */
#include "uffd.h"

#define MISSING PAGE_TEST
#define FLIPPED (PAGE_TEST + 8)
#define WATCHED (PAGE_TEST + 16)
#define ADDED (VM_PAGES + 8)
#define DELETED (VM_PAGES + 16)
#define LOGGED (VM_PAGES + 24)
#define PLACED_WORD 0x5555

/* A sort of access to the missing page. */
struct access {
	const char *name;
	enum mode mode;
	enum program program;
	bool probed;
	bool comes_out; /* found by probing */
};

static struct access accesses[] = {
	{.name = "a load by user code", .mode = USER, .program = LOOP},
	{.name = "a load by supervisor code", .mode = SUPERVISOR, .program = LOOP},
	{.name = "a store by KVM, for a copy from MMIO", .mode = USER, .program = COPY},
};

#define NR_ACCESSES (sizeof(accesses) / sizeof(accesses[0]))

static struct vm vm;
static struct uffd uffd;
static struct vcpu *stuck, *other;
static struct gpamap_region *logged;

static int teardown(void **state)
{
	(void)state;
	uffd_close(&uffd);
	vm_close(&vm);
	stuck = other = NULL;
	return 0;
}

/* Slots of their own, beside the memory. */
static void map_more(void)
{
	const struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM, .name = "logged", .size = vm.page, .hva = vm.other};
	struct gpamap_txn *txn = vm_begin(&vm);

	ok(gpamap_region_new(vm.map, &desc, &logged));
	ok(gpamap_map_region(txn, 0, vm_gpa(&vm, LOGGED), vm.page, logged, 0, GPAMAP_RW));
	ok(gpamap_map_pages(txn, 0, vm_gpa(&vm, DELETED), vm.page, vm.other + vm.page, GPAMAP_RW));
	vm_commit(txn, 0, NULL);
	gpamap_region_put(logged);
}

/* A VM in which the missing page has been touched. */
static void get_stuck(const struct access *a, unsigned flags, bool gate,
		      void (*on_eintr)(struct vcpu *))
{
	const uint64_t word = PLACED_WORD;

	step("waiting for the vCPU's fault");
	vm_open(&vm, flags);
	map_more();
	uffd_open(&uffd, vm.memory + vm_gpa(&vm, MISSING), vm.page, &word, sizeof(word));
	stuck = gate ? vcpu_new(&vm, 7) : vcpu_new_raw(&vm, 7);
	if (!gate)
		stuck->once = vcpu_run_raw;
	stuck->on_eintr = on_eintr;
	vcpu_set(stuck, a->mode, a->program, MISSING, false);
	vcpu_start(stuck);
	uffd_await_fault(&uffd);
}

/* ------------------------------------------------------------------------------------ probe --- */

static void ask_to_stop(struct vcpu *v)
{
	(void)v;
	atomic_store(&stuck->stop, true);
}

/*
 * Does a signal end KVM_RUN while the page is missing? If not, the thread either goes on to sleep, as nothing
 * but its end would wake it, or runs into the fault again and again.
 */
static bool comes_out(const struct access *a)
{
	bool out;

	get_stuck(a, 0, false, ask_to_stop);
	step("waiting for what a signal does to a vCPU in a fault");
	__atomic_store_n(&stuck->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	ok(pthread_kill(stuck->thread, KICK_SIGNAL));
	wait_until(atomic_load(&stuck->eintrs) || uffd_again(&uffd) ||
		   thread_state(atomic_load(&stuck->tid)) == 'D');
	out = atomic_load(&stuck->eintrs);
	step("placing the page after the probe");
	uffd_place(&uffd);
	vcpu_stop(stuck);
	teardown(NULL);
	return out;
}

static void probe(struct access *a)
{
	if (a->probed)
		return;
	a->comes_out = comes_out(a);
	a->probed = true;
	printf("%s that finds no page: %s\n", a->name,
	       a->comes_out ? "a signal ends KVM_RUN" : "KVM_RUN goes on until the page is there");
}

/* One that stays in: NULL if there's none on this machine. */
static const struct access *one_that_stays(void)
{
	for (size_t i = vm_can_copy() ? NR_ACCESSES : NR_ACCESSES - 1; i-- > 0;) {
		probe(&accesses[i]);
		if (!accesses[i].comes_out)
			return &accesses[i];
	}
	return NULL;
}

/* -------------------------------------------------------------------------------- the commit --- */

static void check_counters(const struct gpamap_stats *was)
{
	struct gpamap_stats is = vm_stats(&vm);

	assert_int_equal(is.commits, was->commits);
	assert_int_equal(is.failed, was->failed + 1);
	assert_int_equal(is.timeouts, was->timeouts + 1);
	assert_int_equal(is.gate_shut, was->gate_shut);
	assert_int_equal(is.slot_ioctls, was->slot_ioctls);
	assert_int_equal(is.slots, was->slots);
	assert_false(is.broken);
}

/* All that the map shows. */
struct picture {
	unsigned n;
	struct gpamap_segment s[16];
};

static struct picture look(void)
{
	struct picture p;
	uint64_t gpa = 0;

	memset(&p, 0, sizeof(p));
	while (!gpamap_lookup(vm.map, 0, gpa, &p.s[p.n])) {
		gpa = p.s[p.n].gpa + p.s[p.n].size;
		p.n++;
		assert_true(p.n < 16);
	}
	return p;
}

static void check_same(const struct picture *a, const struct picture *b)
{
	assert_int_equal(a->n, b->n);
	for (unsigned i = 0; i < a->n; i++) {
		assert_int_equal(a->s[i].gpa, b->s[i].gpa);
		assert_int_equal(a->s[i].size, b->s[i].size);
		assert_ptr_equal(a->s[i].hva, b->s[i].hva);
		assert_int_equal(a->s[i].prot, b->s[i].prot);
		assert_int_equal(a->s[i].log, b->s[i].log);
	}
}

static void check_culprit(const struct gpamap_txn *txn)
{
	struct gpamap_stuck_info info;
	char tid[32];

	ok(gpamap_stuck(txn, &info));
	assert_true(info.is_vcpu);
	assert_int_equal(info.vcpu_id, stuck->id);
	assert_int_equal(info.tid, atomic_load(&stuck->tid));
	snprintf(tid, sizeof(tid), "thread %d", info.tid);
	assert_non_null(strstr(gpamap_message(txn), "vCPU 7"));
	assert_non_null(strstr(gpamap_message(txn), tid));
}

/* It ends by its deadline, and nobody is the worse for it. */
static void commit_in_vain(struct gpamap_txn *txn, unsigned flags)
{
	const struct gpamap_commit_options soon = {.flags = flags, .timeout_ms = SHORT_MS};
	struct gpamap_commit_report report = {.critical = 77};
	struct gpamap_stats was = vm_stats(&vm);
	struct picture before = look(), after;

	assert_int_equal(gpamap_commit(txn, &soon, &report), -ETIMEDOUT);
	assert_int_equal(report.critical, 77);
	check_culprit(txn);
	check_counters(&was);
	after = look();
	check_same(&before, &after);
	/* The gate is open: others come in, and go on. */
	ok(gpamap_enter(vm.map));
	gpamap_leave(vm.map);
	if (other)
		vcpu_await(other, 100);
}

static void start_other(void)
{
	other = vcpu_new(&vm, 0);
	vcpu_set(other, USER, LOOP, WATCHED, false);
	vcpu_start(other);
	vcpu_await(other, 1);
}

/* The page comes, and the guest that waited for it goes on as if nothing had been. */
static void place_page(const struct access *a)
{
	uint64_t word;

	step("placing the page");
	uffd_place(&uffd);
	vcpu_await(stuck, 3);
	if (a->program == LOOP) {
		assert_int_equal(vcpu_saw(stuck), PLACED_WORD);
		return;
	}
	/* What it has copied there by now: the number of a ring. */
	word = vm_word(&vm, MISSING);
	assert_in_range(word, 1, atomic_load(&stuck->rings));
}

static void stays_in(const struct access *a)
{
	struct gpamap_commit_report report;
	struct gpamap_txn *txn = vm_begin(&vm);
	uint64_t word = vm_flip(&vm, txn, FLIPPED);

	step("committing with a short deadline");
	commit_in_vain(txn, 0);
	commit_in_vain(txn, 0);
	place_page(a);
	step("committing after the page has been placed");
	vm_commit(txn, 0, &report);
	assert_true(report.gate_shut);
	assert_int_equal(vm_word(&vm, FLIPPED), word);
}

static void comes_out_and_faults_again(const struct access *a)
{
	struct gpamap_commit_report report;
	struct gpamap_txn *txn = vm_begin(&vm);
	uint64_t word = vm_flip(&vm, txn, FLIPPED);
	uint64_t count = vcpu_count(stuck);

	step("committing while the page is missing");
	vm_commit(txn, 0, &report);
	assert_true(report.gate_shut);
	assert_true(report.kicked >= 1);
	assert_int_equal(vm_word(&vm, FLIPPED), word);
	/* The guest has not got past its load: the library has let it try once more. */
	step("waiting for the same fault once more");
	wait_until(uffd_again(&uffd));
	assert_true(vcpu_count(stuck) <= count + 1);
	assert_int_equal(atomic_load(&stuck->eintrs), 0);
	place_page(a);
}

static void fault_in(struct access *a)
{
	probe(a);
	get_stuck(a, 0, true, NULL);
	start_other();
	if (a->comes_out)
		comes_out_and_faults_again(a);
	else
		stays_in(a);
	/* Both see the new map from now on. */
	vcpu_stop(stuck);
	vcpu_set(stuck, a->mode, LOOP, FLIPPED, false);
	vcpu_start(stuck);
	vcpu_await(stuck, 3);
	assert_int_equal(vcpu_saw(stuck), vm_word(&vm, FLIPPED));
	vcpu_await(other, 3);
	assert_int_equal(vcpu_saw(other), vm_word(&vm, WATCHED));
	vcpu_stop(stuck);
	vcpu_stop(other);
}

static void user_load(void **state)
{
	(void)state;
	fault_in(&accesses[0]);
}

static void supervisor_load(void **state)
{
	(void)state;
	fault_in(&accesses[1]);
}

static void store_by_kvm(void **state)
{
	(void)state;
	if (!vm_can_copy())
		skip();
	fault_in(&accesses[2]);
}

/* -------------------------------------------------------------- commits that need no gate --- */

/* Without a gate, these would each wait in the kernel, and no deadline could end that. */
static void add(struct gpamap_txn *txn)
{
	ok(gpamap_map_pages(txn, 0, vm_gpa(&vm, ADDED), vm.page, vm.other, GPAMAP_RW));
}

static void delete_all_of_a_slot(struct gpamap_txn *txn)
{
	ok(gpamap_unmap_pages(txn, 0, vm_gpa(&vm, DELETED), vm.page));
}

static void log_writes(struct gpamap_txn *txn)
{
	ok(gpamap_set_log(txn, logged, true));
}

static void in_vain_then_done(const struct access *a, unsigned commit_flags,
			      void (*edit)(struct gpamap_txn *))
{
	struct gpamap_commit_report report;
	struct gpamap_txn *txn = vm_begin(&vm);

	edit(txn);
	step("committing with a short deadline what needs no gate");
	commit_in_vain(txn, commit_flags);
	gpamap_abort(txn);
	place_page(a);
	txn = vm_begin(&vm);
	edit(txn);
	step("committing it after the page has been placed");
	vm_commit(txn, commit_flags, &report);
	assert_int_equal(report.early + report.late, 0);
	assert_int_equal(report.critical, 1);
	vcpu_await(stuck, 3);
	vcpu_await(other, 3);
	vcpu_stop(stuck);
	vcpu_stop(other);
	teardown(NULL);
}

static void no_gate_needed(unsigned map_flags, unsigned commit_flags)
{
	static void (*const edits[])(struct gpamap_txn *) = {add, delete_all_of_a_slot, log_writes};
	const struct access *a = one_that_stays();

	if (!a) {
		printf("nobody gets stuck here: a kick ends every fault\n");
		skip();
	}
	for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
		get_stuck(a, map_flags, true, NULL);
		start_other();
		in_vain_then_done(a, commit_flags, edits[i]);
	}
}

static void at_one_instant(void **state)
{
	(void)state;
	no_gate_needed(0, GPAMAP_COMMIT_ONE_INSTANT);
}

static void faults_may_block(void **state)
{
	(void)state;
	no_gate_needed(GPAMAP_FAULTS_MAY_BLOCK, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(user_load, teardown),
		cmocka_unit_test_teardown(supervisor_load, teardown),
		cmocka_unit_test_teardown(store_by_kvm, teardown),
		cmocka_unit_test_teardown(at_one_instant, teardown),
		cmocka_unit_test_teardown(faults_may_block, teardown),
	};

	if (!vm_available() || !uffd_available())
		return 77;
	watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
