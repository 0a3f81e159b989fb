/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices in threads of their own, with tables of their own, while the map changes, and while changes fail at random:
 * each request meets the old map or the new one, and nobody uses memory that a commit, or its failure, has given
 * back to the caller (P2, P3, P5). For ThreadSanitizer as well.
 */
#include "common.h"
#include "gpamap-listener.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <time.h>

enum { RING = 1, DATA };

#define DEVICES 2
#define COMMITS 400
#define RING_AT (4 * PAGE)
#define DATA_AT (60 * PAGE)
#define ASIDE (62 * PAGE)
#define BEYOND (80 * PAGE)
#define POISON UINT64_MAX

static uint8_t *ring[2], *data[2];

struct device {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	unsigned stops;
	bool busy;
	bool end;
	unsigned long requests;
	unsigned long wrong;
	struct gpamap_segment using[2];
	struct gpamap_segment old[2]; /* the ring and the data; kind 0: not there */
	struct gpamap_segment new[2];
	bool prepared;
	int refuses; /* the next prepare, if not 0 */
	int fails;   /* the next quiesce */
	struct gpamap_listener *l;
};

/* ----------------------------------------------------------------------------- devices --- */

static uint64_t read_word(const struct gpamap_segment *s)
{
	return *(uint64_t *)s->hva;
}

/* Both are of one generation, all the time. */
static bool request(const struct device *d)
{
	uint64_t first, second;

	if (!d->using[0].kind || !d->using[1].kind)
		return false;
	first = read_word(&d->using[0]);
	for (unsigned i = 0; i < 20; i++) {
		second = read_word(&d->using[i % 2]);
		if (second != first || first == POISON)
			return false;
		if (i == 10)
			sched_yield();
	}
	return true;
}

static void *device_main(void *opaque)
{
	struct device *d = opaque;

	pthread_mutex_lock(&d->lock);
	while (!d->end) {
		bool right;

		if (d->stops) {
			pthread_cond_wait(&d->moved, &d->lock);
			continue;
		}
		d->busy = true;
		pthread_mutex_unlock(&d->lock);
		right = request(d);
		pthread_mutex_lock(&d->lock);
		d->requests++;
		d->wrong += !right;
		d->busy = false;
		pthread_cond_broadcast(&d->moved);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

static void stop(struct device *d)
{
	pthread_mutex_lock(&d->lock);
	d->stops++;
	while (d->busy)
		pthread_cond_wait(&d->moved, &d->lock);
	pthread_mutex_unlock(&d->lock);
}

static void go_on(struct device *d, const struct gpamap_segment *with)
{
	pthread_mutex_lock(&d->lock);
	memcpy(d->using, with, sizeof(d->using));
	d->stops--;
	pthread_cond_broadcast(&d->moved);
	pthread_mutex_unlock(&d->lock);
}

static void find(const struct gpamap_change *change, uint64_t gpa, struct gpamap_segment *ret)
{
	if (gpamap_change_after(change, 0, gpa, ret) || ret->gpa > gpa)
		memset(ret, 0, sizeof(*ret));
	else
		ret->hva = (uint8_t *)ret->hva + (gpa - ret->gpa);
}

static int prepare(void *opaque, const struct gpamap_change *change)
{
	struct device *d = opaque;
	int err = d->refuses;

	d->refuses = 0;
	assert_false(d->prepared);
	d->prepared = !err;
	find(change, RING_AT, &d->new[0]);
	find(change, DATA_AT, &d->new[1]);
	return err;
}

static int quiesce(void *opaque, uint64_t deadline_ns)
{
	struct device *d = opaque;
	int err = d->fails;

	(void)deadline_ns;
	d->fails = 0;
	if (!err)
		stop(d);
	return err;
}

static void resume(void *opaque, bool changed)
{
	struct device *d = opaque;

	go_on(d, changed ? d->new : d->old);
}

static void applied(void *opaque, const struct gpamap_change *change)
{
	struct device *d = opaque;

	(void)change;
	assert_true(d->prepared);
	d->prepared = false;
	stop(d);
	memcpy(d->old, d->new, sizeof(d->old));
	go_on(d, d->old);
}

static void cancelled(void *opaque)
{
	struct device *d = opaque;

	assert_true(d->prepared);
	d->prepared = false;
	stop(d);
	go_on(d, d->old);
}

static void device_open(struct device *d, const char *name)
{
	struct gpamap_listener_desc desc = {
		.name = name,
		.opaque = d,
		.prepare = prepare,
		.quiesce = quiesce,
		.resume = resume,
		.applied = applied,
		.cancelled = cancelled,
	};

	memset(d, 0, sizeof(*d));
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->moved, NULL);
	ok(gpamap_listener_add(vm.map, &desc, &d->l));
	ok(pthread_create(&d->thread, NULL, device_main, d));
}

static unsigned long wait_for_requests(struct device *d)
{
	unsigned long n;

	pthread_mutex_lock(&d->lock);
	n = d->requests;
	while (d->requests < n + 2)
		pthread_cond_wait(&d->moved, &d->lock);
	n = d->wrong;
	pthread_mutex_unlock(&d->lock);
	return n;
}

static void device_close(struct device *d)
{
	wait_for_requests(d);
	gpamap_listener_remove(d->l);
	pthread_mutex_lock(&d->lock);
	d->end = true;
	pthread_mutex_unlock(&d->lock);
	ok(pthread_join(d->thread, NULL));
	assert_int_equal(d->wrong, 0);
	assert_int_equal(d->stops, 0);
}

/* ------------------------------------------------------------------------------ others --- */

static atomic_bool quit;

/* Comes and goes at the gate, and as a listener. */
static void *come_and_go(void *opaque)
{
	static const struct gpamap_listener_desc desc = {.name = "guest", .priority = -1};

	(void)opaque;
	while (!atomic_load(&quit)) {
		struct gpamap_listener *l;

		if (!gpamap_enter(vm.map))
			gpamap_leave(vm.map);
		ok(gpamap_listener_add(vm.map, &desc, &l));
		sched_yield();
		gpamap_listener_remove(l);
	}
	return NULL;
}

/* ----------------------------------------------------------------------------- changes --- */

static void fill(unsigned i, uint64_t word)
{
	memcpy(ring[i], &word, sizeof(word));
	memcpy(data[i], &word, sizeof(word));
}

/* To generation @g; what is critical, and something early and late. */
static void edit(struct gpamap_txn *txn, uint64_t g)
{
	unsigned new = g % 2;

	ok_txn(txn, gpamap_map_pages(txn, 0, RING_AT, PAGE, ring[new], GPAMAP_RW));
	ok_txn(txn, gpamap_map_pages(txn, 0, DATA_AT, PAGE, data[new], GPAMAP_RW));
	ok_txn(txn, gpamap_map_pages(txn, 0, ASIDE, PAGE, data[!new], GPAMAP_RW));
	ok_txn(txn, gpamap_unmap_pages(txn, 0, BEYOND + new * 2 * PAGE, PAGE));
	ok_txn(txn, gpamap_map_pages(txn, 0, BEYOND + !new * 2 * PAGE, PAGE, vm.spare, GPAMAP_RW));
}

/* Let something fail, most of the time. */
static void plan_failure(struct random *r, struct device *d)
{
	unsigned nth = 1 + (unsigned)random_below(r, 5);

	switch (random_below(r, 8)) {
	case 0:
		d[random_below(r, DEVICES)].refuses = -EPERM;
		break;
	case 1:
		d[random_below(r, DEVICES)].fails = -ETIMEDOUT;
		break;
	case 2:
		gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, nth, EIO, false);
		break;
	case 3:
		gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, nth, EIO, false);
		break;
	case 4:
		/* In the undo of a late failure, too. */
		d[random_below(r, DEVICES)].fails = -EIO;
		gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, nth, EIO, true);
		break;
	case 5:
		gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, nth, EIO, true);
		break;
	}
}

static void no_failure(struct device *d)
{
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 0, 0, false);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, 0, 0, false);
	for (unsigned i = 0; i < DEVICES; i++)
		d[i].fails = d[i].refuses = 0;
}

struct score {
	unsigned done;
	unsigned undone;
	unsigned broken;
};

/* From generation @g - 1 to @g, or not. */
static bool next(struct random *r, struct device *d, uint64_t g, struct score *score)
{
	struct gpamap_txn *txn;
	int err;

	fill(g % 2, g);
	txn = vm_begin(&vm);
	edit(txn, g);
	plan_failure(r, d);
	err = gpamap_commit(txn, NULL, NULL);
	no_failure(d);
	score->done += !err;
	score->broken += err == -ENOTRECOVERABLE;
	score->undone += err && err != -ENOTRECOVERABLE;
	if (err == -ENOTRECOVERABLE && random_below(r, 2)) {
		ok_txn(txn, gpamap_commit(txn, NULL, NULL));
		err = 0;
	} else if (err) {
		/* What is new is the caller's again, though the map may be broken. */
		gpamap_abort(txn);
		fill(g % 2, POISON);
		if (vm_stats(&vm).broken) {
			txn = vm_begin(&vm);
			ok_txn(txn, gpamap_commit(txn, NULL, NULL));
		}
		return false;
	}
	/* What is old is. */
	fill(!(g % 2), POISON);
	return !err;
}

static void at_random(void **state)
{
	struct random r = random_new("listener live", 1);
	struct score score = {0};
	struct device d[DEVICES];
	struct gpamap_txn *txn;
	pthread_t other;
	uint64_t g = 0;

	(void)state;
	vm_open(&vm, NULL, NULL);
	for (unsigned i = 0; i < 2; i++) {
		ring[i] = mem_new(RING, 2) + i * PAGE;
		data[i] = mem_new(DATA, 2) + i * PAGE;
	}
	fill(0, g);
	txn = vm_begin(&vm);
	edit(txn, g);
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	for (unsigned i = 0; i < DEVICES; i++)
		device_open(&d[i], i ? "second" : "first");
	atomic_store(&quit, false);
	ok(pthread_create(&other, NULL, come_and_go, NULL));
	for (unsigned i = 0; i < COMMITS; i++) {
		for (unsigned j = 0; j < DEVICES; j++)
			assert_int_equal(wait_for_requests(&d[j]), 0);
		g += next(&r, d, g + 1, &score);
	}
	atomic_store(&quit, true);
	ok(pthread_join(other, NULL));
	for (unsigned i = 0; i < DEVICES; i++)
		device_close(&d[i]);
	printf("%u done, %u undone, %u broken and repaired\n", score.done, score.undone,
	       score.broken);
	assert_true(score.done && score.undone && score.broken);
	vm_close(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(at_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
