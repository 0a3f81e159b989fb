/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * No dirty page is lost (P4) while vCPUs and a thread write all the time and the map changes. The test does what
 * a migration does: it copies the pages that were reported. When all have stopped and the last ones are
 * copied, the copy is the memory.
 */
#include "dirty.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <time.h>

#define SECONDS 2
#define WORDS 8 /* of a page, from its 16th byte on, that are written and compared */

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
		int err = run_on(vcpu);

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
	dirty_commit(txn);
	txn = vm_begin(&d->vm);
	ok_txn(txn, gpamap_set_log(txn, d->logged, true));
	dirty_commit(txn);
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
	for (int step = GPAMAP_SIM_WHILE_INVALID; step <= GPAMAP_SIM_IN_GET_DIRTY; step++)
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
		dirty_change(d, faults);
		if (faults && n % 4 == 0)
			gpamap_sim_fail(d->vm.sim, GPAMAP_SIM_GET_DIRTY,
					1 + (unsigned)random_below(&d->random, 3), EIO, false);
		if (n % 2)
			copy_dirty(d, c);
		dirty_disarm(d);
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
		cmocka_unit_test(migration),
		cmocka_unit_test(migration_in_spite_of_faults),
	};

	return cmocka_run_group_tests(tests, dirty_memory, NULL);
}
