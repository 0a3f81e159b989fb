/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * No dirty page is lost (P4), whatever becomes of the slots that the writes go through: splits, moves, resizes,
 * deletes, other memory in front, and commits that fail half way. One thread writes, by a vCPU or by
 * gpamap_write(), and knows what a fetch has to report.
 */
#include "dirty.h"

#include <linux/kvm.h>
#include <pthread.h>

struct writer {
	uint64_t gpa;
	uint64_t value;
	bool add;
	bool done;
};

static int write_step(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	struct writer *w = opaque;
	uint64_t old;
	int r;

	if (w->done)
		return gpamap_sim_halt(vcpu);
	r = w->add ? gpamap_sim_xadd(vcpu, w->gpa, 1, &old)
		   : gpamap_sim_store(vcpu, w->gpa, &w->value, 8);
	if (!r)
		w->done = true;
	return r;
}

/* The page of the logged region that a guest's write to @gpa goes to; -1: none. */
static int page_at(struct dirty *d, uint64_t gpa)
{
	struct gpamap_segment s;
	uint8_t *at;
	int err = gpamap_lookup(d->vm.map, 0, gpa, &s);

	if (err == -ENOENT || s.gpa > gpa || s.prot != GPAMAP_RW || !s.log)
		return -1;
	at = (uint8_t *)s.hva + (gpa - s.gpa);
	if (at < memory || at >= memory + PAGES * PAGE)
		at = memory + (at - memory_again);
	assert_true(at >= memory && at < memory + PAGES * PAGE);
	return (int)((at - memory) / (ptrdiff_t)PAGE);
}

static void write_by_vcpu(struct gpamap_vcpu *vcpu, struct gpamap_sim_vcpu *sim_vcpu,
			  struct writer *w)
{
	w->done = false;
	do {
		ok(gpamap_vcpu_run(vcpu));
	} while (gpamap_sim_vcpu_kvm_run(sim_vcpu)->exit_reason != KVM_EXIT_HLT);
}

static void fetch_and_check(struct dirty *d, bool *written, bool exact)
{
	uint64_t first = random_below(&d->random, PAGES);
	uint64_t n = 1 + random_below(&d->random, PAGES - first);
	uint64_t bits = 0;

	if (random_below(&d->random, 2)) {
		first = 0;
		n = PAGES;
	}
	ok(gpamap_dirty_fetch(d->vm.map, d->logged, first * PAGE, n * PAGE, &bits));
	if (n < 64)
		assert_int_equal(bits >> n, 0);
	for (uint64_t i = 0; i < n; i++) {
		bool reported = bits >> i & 1;

		if (exact)
			assert_int_equal(reported, written[first + i]);
		else
			assert_true(reported || !written[first + i]);
		written[first + i] = false;
	}
	ok(gpamap_dirty_fetch(d->vm.map, d->logged, first * PAGE, n * PAGE, &bits));
	assert_int_equal(bits, 0);
}

static void exactly(const char *name, bool faults)
{
	struct dirty d;
	struct writer w = {0};
	struct gpamap_sim_vcpu *sim_vcpu[2];
	struct gpamap_vcpu *vcpu[2];
	bool written[PAGES] = {false};
	unsigned writes = 0;

	dirty_open(&d, name, 21);
	for (unsigned i = 0; i < 2; i++) {
		ok(gpamap_sim_vcpu_new(d.vm.sim, i, i ? GPAMAP_SIM_EMULATED : 0, write_step, &w,
				       &sim_vcpu[i]));
		ok(gpamap_sim_vcpu_attach(d.vm.map, sim_vcpu[i], &vcpu[i]));
	}
	for (int round = 0; round < 3000; round++) {
		for (uint64_t k = random_below(&d.random, 6); k > 0; k--) {
			int page, by = (int)random_below(&d.random, 3);

			w.gpa = random_below(&d.random, GPAS) * PAGE + 16;
			w.add = random_below(&d.random, 2);
			page = page_at(&d, w.gpa);
			if (by == 2)
				gpamap_write(d.vm.map, 0, w.gpa, &w.value, 8);
			else
				write_by_vcpu(vcpu[by], sim_vcpu[by], &w);
			if (page >= 0)
				written[page] = true;
			writes += page >= 0;
		}
		dirty_change(&d, faults);
		if (random_below(&d.random, 3) == 0)
			fetch_and_check(&d, written, !faults);
	}
	printf("%s: %u writes, %u commits failed, %u repaired\n", name, writes, d.faults,
	       d.repairs);
	assert_true(writes > 1000);
	if (faults)
		assert_true(d.faults > 100 && d.repairs > 10);
	for (unsigned i = 0; i < 2; i++) {
		gpamap_vcpu_detach(vcpu[i]);
		gpamap_sim_vcpu_free(sim_vcpu[i]);
	}
	dirty_close(&d);
}

static void what_was_written(void **state)
{
	(void)state;
	exactly("exact", false);
}

static void what_was_written_in_spite_of_faults(void **state)
{
	(void)state;
	exactly("exact, with faults", true);
}

/* Turning the log off forgets what was not fetched, but not if that fails and is undone: behind the gate the bits of
 * the first slot are read before its log ends, and are reported to the page (P4). */
static void logging_that_ends(void **state)
{
	struct gpamap_txn *txn;
	uint64_t value = 1;
	struct dirty d;

	(void)state;
	dirty_open(&d, "end of log", 23);
	ok(gpamap_write(d.vm.map, 0, 100 * PAGE, &value, 8));
	vm_see(&d.vm, 101 * PAGE);
	assert_int_equal(dirty_fetch_all(&d), 3);
	ok(gpamap_write(d.vm.map, 0, 100 * PAGE, &value, 8));
	vm_see(&d.vm, 101 * PAGE);
	gpamap_sim_fail(d.vm.sim, GPAMAP_SIM_FLAGS, 2, EIO, false);
	txn = vm_begin(&d.vm);
	ok_txn(txn, gpamap_set_log(txn, d.logged, false));
	refused(txn,
		gpamap_commit(txn,
			      &(struct gpamap_commit_options){.flags = GPAMAP_COMMIT_ONE_INSTANT},
			      NULL),
		-EIO);
	assert_int_equal(dirty_fetch_all(&d), 3);
	assert_int_equal(dirty_fetch_all(&d), 0);
	ok(gpamap_write(d.vm.map, 0, 100 * PAGE, &value, 8));
	vm_see(&d.vm, 101 * PAGE);
	dirty_commit(txn);
	txn = vm_begin(&d.vm);
	ok_txn(txn, gpamap_set_log(txn, d.logged, true));
	dirty_commit(txn);
	assert_int_equal(dirty_fetch_all(&d), 0);
	dirty_close(&d);
}

struct early_writer {
	struct dirty *d;
	struct writer w;
	atomic_bool stop;
	atomic_uint runs;
	atomic_int failed;
};

static void *write_early(void *opaque)
{
	struct early_writer *e = opaque;
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;

	if (gpamap_sim_vcpu_new(e->d->vm.sim, 1, 0, write_step, &e->w, &sim_vcpu) ||
	    gpamap_sim_vcpu_attach(e->d->vm.map, sim_vcpu, &vcpu)) {
		atomic_store(&e->failed, 1);
		return NULL;
	}
	while (!atomic_load(&e->stop)) {
		e->w.done = false;
		if (run_on(vcpu))
			atomic_store(&e->failed, 1);
		atomic_fetch_add(&e->runs, 1);
	}
	gpamap_vcpu_detach(vcpu);
	gpamap_sim_vcpu_free(sim_vcpu);
	return NULL;
}

/* A slot with a log comes early, the guest writes to it, and it is taken back. */
static void written_before_the_undo(void **state)
{
	struct early_writer e = {.w = {.gpa = 140 * PAGE + 16, .value = 4711}};
	struct gpamap_txn *txn;
	pthread_t thread;
	struct dirty d;
	uint64_t word;

	(void)state;
	dirty_open(&d, "written early", 24);
	memset(memory + 16, 0, 8);
	e.d = &d;
	ok(pthread_create(&thread, NULL, write_early, &e));
	while (!atomic_load(&e.runs))
		sleep_ms(1);
	gpamap_sim_stretch(d.vm.sim, GPAMAP_SIM_BEFORE_CREATE, 50000);
	gpamap_sim_fail(d.vm.sim, GPAMAP_SIM_CREATE, 3, EIO, false);
	txn = vm_begin(&d.vm);
	for (uint64_t page = 140; page < 146; page += 2)
		ok_txn(txn, gpamap_map_region(txn, 0, page * PAGE, PAGE, d.logged, 0, GPAMAP_RW));
	refused(txn, gpamap_commit(txn, NULL, NULL), -EIO);
	gpamap_abort(txn);
	atomic_store(&e.stop, true);
	ok(pthread_join(thread, NULL));
	assert_int_equal(atomic_load(&e.failed), 0);
	memcpy(&word, memory + 16, 8);
	assert_int_equal(word, 4711);
	assert_int_equal(dirty_fetch_all(&d) & 1, 1);
	dirty_close(&d);
}

struct late_writer {
	uint64_t value;
	atomic_bool done;
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
};

#define LATE_PAGE 20
#define LATE_AT (LATE_PAGE * PAGE + 16)

static int store_late(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	struct late_writer *w = opaque;
	int r;

	if (atomic_load(&w->done))
		return gpamap_sim_halt(vcpu);
	r = gpamap_sim_store(vcpu, LATE_AT, &w->value, 8);
	if (!r)
		atomic_store(&w->done, true);
	return r;
}

static void *run_late(void *opaque)
{
	struct late_writer *w = opaque;

	return (void *)(intptr_t)run_on(w->vcpu);
}

/* The word that it has stored is in memory. */
static bool stored(uint64_t value)
{
	return __atomic_load_n((uint64_t *)(memory + LATE_AT), __ATOMIC_RELAXED) == value;
}

/* The slot goes as a whole, or is cut, between a guest's store and its mark. True: so it was. */
static bool go_before_the_mark(struct dirty *d, struct late_writer *w, bool whole)
{
	const struct gpamap_commit_options patient = {.timeout_ms = 60000};
	struct gpamap_txn *txn = vm_begin(&d->vm);
	struct gpamap_commit_report report;
	pthread_t thread;
	bool hit;
	void *r;

	w->value++;
	atomic_store(&w->done, false);
	dirty_fetch_all(d);
	gpamap_sim_stretch(d->vm.sim, GPAMAP_SIM_BEFORE_MARK, 300000);
	ok(pthread_create(&thread, NULL, run_late, w));
	while (!stored(w->value))
		sleep_ms(1);
	if (whole)
		ok_txn(txn, gpamap_set_enabled(txn, d->whole, false));
	else
		ok_txn(txn, gpamap_map_region(txn, 0, 30 * PAGE, PAGE, d->logged, 0, GPAMAP_RO));
	hit = !atomic_load(&w->done);
	ok_txn(txn, gpamap_commit(txn, &patient, &report));
	gpamap_sim_stretch(d->vm.sim, GPAMAP_SIM_BEFORE_MARK, 0);
	assert_true(report.gate_shut);
	assert_int_equal(dirty_fetch_all(d) >> LATE_PAGE & 1, 1);
	ok(pthread_join(thread, &r));
	assert_null(r);
	txn = vm_begin(&d->vm);
	ok_txn(txn, gpamap_set_enabled(txn, d->whole, true));
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 30 * PAGE, PAGE));
	dirty_commit(txn);
	return hit;
}

/* The bits of a slot that goes are read when the vCPU has left, not when it has stored and not yet marked. */
static void marked_late(void **state)
{
	struct late_writer w = {.value = 100};
	unsigned hits[2] = {0};
	struct dirty d;

	(void)state;
	dirty_open(&d, "marked late", 25);
	ok(gpamap_sim_vcpu_new(d.vm.sim, 1, 0, store_late, &w, &w.sim_vcpu));
	ok(gpamap_sim_vcpu_attach(d.vm.map, w.sim_vcpu, &w.vcpu));
	for (unsigned tries = 0; tries < 50 && !(hits[0] && hits[1]); tries++)
		hits[tries % 2] += go_before_the_mark(&d, &w, tries % 2);
	assert_true(hits[0] && hits[1]);
	gpamap_vcpu_detach(w.vcpu);
	gpamap_sim_vcpu_free(w.sim_vcpu);
	dirty_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written),
		cmocka_unit_test(what_was_written_in_spite_of_faults),
		cmocka_unit_test(logging_that_ends),
		cmocka_unit_test(written_before_the_undo),
		cmocka_unit_test(marked_late),
	};

	return cmocka_run_group_tests(tests, dirty_memory, NULL);
}
