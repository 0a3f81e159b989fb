/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * No dirty page is lost (P4), whatever becomes of the slots that the writes go through: splits, moves, resizes,
 * deletes, other memory in front, and commits that fail half way.
 *
 * Exactly: one thread writes, by a vCPU or by gpamap_write(), and knows what a fetch has to report.
 * Live: vCPUs and a thread write all the time, and the test does what a migration does: it copies the pages
 * that were reported. When all have stopped and the last ones are copied, the copy is the memory.
 */
#include "common.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <time.h>

enum { LOGGED = 1, OTHER };

#define PAGES 64 /* of the logged region */
#define GPAS 160
#define SECONDS 2
#define WORDS 8 /* of a page, from its 16th byte on, that are written and compared */

static uint8_t *memory, *memory_again, *other;

struct dirty {
	struct vm vm;
	struct random random;
	struct gpamap_region *logged;
	struct gpamap_region *whole;  /* an alias of all of it, somewhere */
	struct gpamap_region *window; /* an alias of a part */
	struct gpamap_region *screen; /* a read-only one */
	unsigned faults;
	unsigned repairs;
};

static struct gpamap_region *alias(struct dirty *d, uint64_t pages, unsigned flags)
{
	struct gpamap_region_desc desc = {.kind = GPAMAP_ALIAS,
					  .flags = flags,
					  .name = "alias",
					  .size = pages * PAGE,
					  .target = d->logged};

	return vm_region(&d->vm, &desc);
}

static void commit_now(struct dirty *d, struct gpamap_txn *txn)
{
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	(void)d;
}

static void dirty_open(struct dirty *d, const char *name, uint64_t seed)
{
	struct gpamap_options opt = {.max_slots = 60};
	struct gpamap_region *root;
	struct gpamap_txn *txn;

	memset(d, 0, sizeof(*d));
	d->random = random_new(name, seed);
	vm_open(&d->vm, NULL, &opt);
	d->logged = vm_ram(&d->vm, memory, 48, PAGES);
	d->whole = alias(d, PAGES, 0);
	d->window = alias(d, 16, 0);
	d->screen = alias(d, 4, GPAMAP_READONLY);
	root = gpamap_root(d->vm.map, 0);
	txn = vm_begin(&d->vm);
	ok_txn(txn, gpamap_add(txn, root, 0, d->whole, 0));
	ok_txn(txn, gpamap_add(txn, root, 100 * PAGE, d->window, 0));
	ok_txn(txn, gpamap_add(txn, root, 8 * PAGE, d->screen, 1));
	ok_txn(txn, gpamap_set_log(txn, d->logged, true));
	commit_now(d, txn);
}

static void dirty_close(struct dirty *d)
{
	gpamap_region_put(d->logged);
	gpamap_region_put(d->whole);
	gpamap_region_put(d->window);
	gpamap_region_put(d->screen);
	vm_close(&d->vm);
}

/* ------------------------------------------------------------------------------------- edits --- */

static int edit_random(struct dirty *d, struct gpamap_txn *txn)
{
	struct random *r = &d->random;
	uint64_t n = 1 + random_below(r, 12);

	switch (random_below(r, 10)) {
	case 0:
		return gpamap_move(txn, d->whole, random_below(r, 20) * PAGE);
	case 1:
		return gpamap_move(txn, d->window, (60 + random_below(r, 60)) * PAGE);
	case 2:
		return gpamap_move(txn, d->screen, random_below(r, 120) * PAGE);
	case 3:
		return gpamap_set_enabled(txn, d->screen, random_below(r, 2));
	case 4:
		return gpamap_set_target_offset(txn, d->window, random_below(r, 60) * PAGE);
	case 5:
		return gpamap_resize(txn, d->logged, (1 + random_below(r, PAGES)) * PAGE);
	case 6:
		return gpamap_map_region(txn, 0, random_below(r, 148) * PAGE, n * PAGE, d->logged,
					 0, random_below(r, 4) ? GPAMAP_RW : GPAMAP_RO);
	case 7:
		return gpamap_map_pages(txn, 0, random_below(r, 148) * PAGE, n * PAGE, other,
					GPAMAP_RW);
	case 8:
		return gpamap_reback(txn, d->logged, random_below(r, 2) ? memory : memory_again);
	default:
		return gpamap_unmap_pages(txn, 0, random_below(r, 148) * PAGE, 4 * n * PAGE);
	}
}

/* A rule of the fault plan, at random. */
static void arm_random(struct dirty *d)
{
	enum gpamap_sim_call call = (enum gpamap_sim_call)random_below(&d->random, 6);

	gpamap_sim_fail(d->vm.sim, call, 1 + (unsigned)random_below(&d->random, 6), EIO,
			random_below(&d->random, 2));
}

static void disarm(struct dirty *d)
{
	for (int call = GPAMAP_SIM_ANY; call <= GPAMAP_SIM_GET_DIRTY; call++)
		gpamap_sim_fail(d->vm.sim, (enum gpamap_sim_call)call, 0, 0, false);
}

/* Some edits, and a commit that fails at times; in the end it, or another one, has succeeded. */
static void change(struct dirty *d, bool faults)
{
	struct gpamap_commit_options opt = {0};
	struct gpamap_txn *txn = vm_begin(&d->vm);
	int err;

	for (uint64_t k = 1 + random_below(&d->random, 3); k > 0; k--) {
		err = edit_random(d, txn);
		/* A resized region is not as long as a mapping of it wants to be. */
		if (err != -ERANGE)
			ok_txn(txn, err);
	}
	if (random_below(&d->random, 8) == 0)
		opt.flags = GPAMAP_COMMIT_ONE_INSTANT;
	if (faults)
		arm_random(d);
	err = gpamap_commit(txn, &opt, NULL);
	disarm(d);
	if (!err)
		return;
	assert_true(faults || err == -ENOSPC);
	d->faults++;
	d->repairs += err == -ENOTRECOVERABLE;
	if (err != -ENOSPC && random_below(&d->random, 2)) {
		commit_now(d, txn);
		return;
	}
	gpamap_abort(txn);
	txn = vm_begin(&d->vm);
	commit_now(d, txn);
}

/* ----------------------------------------------------------------------------------- exactly --- */

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
		change(&d, faults);
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

/* -------------------------------------------------------------------------------------- live --- */

struct live_writer {
	struct dirty *d;
	pthread_t thread;
	unsigned id;
	unsigned flags;
	struct random random;
	atomic_bool *stop;
	uint64_t gpa;
	uint64_t value;
	unsigned steps;
	bool chosen;
	uint64_t writes;
	uint64_t failed;
};

static int live_step(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	struct live_writer *w = opaque;
	int r;

	if (w->steps >= 50) {
		r = gpamap_sim_halt(vcpu);
		if (!r)
			w->steps = 0;
		return r;
	}
	if (!w->chosen) {
		w->gpa = random_below(&w->random, GPAS) * PAGE + 16 + 8 * w->id;
		w->value++;
		w->chosen = true;
	}
	r = gpamap_sim_store(vcpu, w->gpa, &w->value, 8);
	if (r)
		return r;
	w->chosen = false;
	w->steps++;
	w->writes++;
	return 0;
}

/* The write that trapped is made for it, or left out. */
static void answer(struct live_writer *w, struct gpamap_vcpu *vcpu)
{
	int err = gpamap_vcpu_mmio(vcpu, 0);

	w->failed += err && err != -ENXIO && err != -EROFS;
}

static void *write_as_vcpu(void *opaque)
{
	struct live_writer *w = opaque;
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;

	if (gpamap_sim_vcpu_new(w->d->vm.sim, w->id, w->flags, live_step, w, &sim_vcpu) ||
	    gpamap_sim_vcpu_attach(w->d->vm.map, sim_vcpu, &vcpu)) {
		w->failed++;
		return NULL;
	}
	while (!atomic_load(w->stop)) {
		int err = gpamap_vcpu_run(vcpu);

		if (err == -ENOTRECOVERABLE)
			sleep_ms(1); /* until it's repaired */
		else if (err)
			w->failed++;
		else if (gpamap_sim_vcpu_kvm_run(sim_vcpu)->exit_reason == KVM_EXIT_MMIO)
			answer(w, vcpu);
	}
	gpamap_vcpu_detach(vcpu);
	gpamap_sim_vcpu_free(sim_vcpu);
	return NULL;
}

static void *write_as_device(void *opaque)
{
	struct live_writer *w = opaque;

	while (!atomic_load(w->stop)) {
		uint64_t gpa = random_below(&w->random, GPAS) * PAGE + 16 + 8 * w->id;
		int err;

		w->value++;
		err = gpamap_write(w->d->vm.map, 0, gpa, &w->value, 8);
		w->failed += err && err != -ENXIO && err != -EROFS;
		w->writes += !err;
		sleep_ms(w->value % 64 == 0);
	}
	return NULL;
}

struct copy {
	uint64_t word[PAGES][WORDS];
	uint64_t pages;
};

static void copy_page(struct copy *c, uint64_t page)
{
	const uint64_t *from = (const uint64_t *)(memory + page * PAGE + 16);

	for (int i = 0; i < WORDS; i++)
		c->word[page][i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	c->pages++;
}

static void copy_dirty(struct dirty *d, struct copy *c)
{
	uint64_t bits;
	int err = gpamap_dirty_fetch(d->vm.map, d->logged, 0, PAGES * PAGE, &bits);

	/* By a fault of the plan: what there is will be reported next time. */
	if (err == -EIO)
		return;
	ok(err);
	for (uint64_t page = 0; page < PAGES; page++) {
		if (bits >> page & 1)
			copy_page(c, page);
	}
}

/* Logging ends and begins anew: so does the migration. */
static void restart_log(struct dirty *d, struct copy *c)
{
	struct gpamap_txn *txn = vm_begin(&d->vm);

	ok_txn(txn, gpamap_set_log(txn, d->logged, false));
	commit_now(d, txn);
	txn = vm_begin(&d->vm);
	ok_txn(txn, gpamap_set_log(txn, d->logged, true));
	commit_now(d, txn);
	for (uint64_t page = 0; page < PAGES; page++)
		copy_page(c, page);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void stretch(struct dirty *d)
{
	for (int step = GPAMAP_SIM_WHILE_INVALID; step <= GPAMAP_SIM_LEAVING_RUN; step++)
		gpamap_sim_stretch(d->vm.sim, (enum gpamap_sim_step)step,
				   random_below(&d->random, 3) ? 0 : 20);
}

static unsigned migrate(struct dirty *d, struct copy *c, bool faults)
{
	double end = now() + SECONDS;
	unsigned n;

	for (n = 0; now() < end; n++) {
		if (n % 16 == 0)
			stretch(d);
		change(d, faults);
		if (faults && n % 4 == 0)
			gpamap_sim_fail(d->vm.sim, GPAMAP_SIM_GET_DIRTY,
					1 + (unsigned)random_below(&d->random, 3), EIO, false);
		if (n % 2)
			copy_dirty(d, c);
		disarm(d);
		if (n % 64 == 63)
			restart_log(d, c);
	}
	return n;
}

static void live(const char *name, bool faults)
{
	static struct dirty d;
	static struct copy c;
	struct live_writer w[3] = {{0}};
	atomic_bool stop = false;
	uint64_t writes = 0;
	unsigned n;

	memset(&c, 0, sizeof(c));
	dirty_open(&d, name, 22);
	for (uint64_t page = 0; page < PAGES; page++)
		copy_page(&c, page);
	for (unsigned i = 0; i < 3; i++) {
		w[i].d = &d;
		w[i].id = i;
		w[i].flags = i ? GPAMAP_SIM_EMULATED : 0;
		w[i].random.state = i;
		w[i].stop = &stop;
		ok(pthread_create(&w[i].thread, NULL, i < 2 ? write_as_vcpu : write_as_device,
				  &w[i]));
	}
	n = migrate(&d, &c, faults);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 3; i++) {
		ok(pthread_join(w[i].thread, NULL));
		assert_int_equal(w[i].failed, 0);
		writes += w[i].writes;
	}
	copy_dirty(&d, &c);
	printf("%s: %llu writes, %u commits, %u failed, %u repaired, %llu pages copied\n", name,
	       (unsigned long long)writes, n, d.faults, d.repairs, (unsigned long long)c.pages);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_memory_equal(c.word[page], memory + page * PAGE + 16, sizeof(c.word[page]));
	assert_true(writes > 1000 && n > 20 && c.pages > PAGES);
	dirty_close(&d);
}

static void migration(void **state)
{
	(void)state;
	live("live", false);
}

static void migration_in_spite_of_faults(void **state)
{
	(void)state;
	live("live, with faults", true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written),
		cmocka_unit_test(what_was_written_in_spite_of_faults),
		cmocka_unit_test(migration),
		cmocka_unit_test(migration_in_spite_of_faults),
	};

	memory = mem_new(LOGGED, PAGES);
	memory_again = mem_again(LOGGED, PAGES);
	other = mem_new(OTHER, PAGES);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
