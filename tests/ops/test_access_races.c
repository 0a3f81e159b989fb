/* SPDX-License-Identifier: BSD-3-Clause */
/* Access while the map changes: dirty pages, life times, threads. */
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ops/dirty.h"
#include "views.h"

/* ---------------------------------------------------------------------------- dirty pages --- */

static uint64_t dirty_pages(struct gpamap_region *r)
{
	uint64_t bitmap;

	gm_dirty_take(r, 0, NR_PAGES, &bitmap);
	return bitmap;
}

/* RAM with room for dirty bits, in pages 0 to 3 at BASE. */
static struct gpamap_region *new_logged(struct env *e, uint32_t flags)
{
	struct gpamap_region *r = new_ram(e, 0, NR_PAGES);

	assert_int_equal(gm_edit_log(&e->map, r, true, NULL), 0);
	gm_edits_commit(&e->map);
	show(e, BASE, NR_PAGES * PAGE, r, GM_SEG_RAM, flags);
	publish(e);
	return r;
}

static void writes_are_marked(void **state)
{
	unsigned char buf[32] = {1};
	struct gpamap_region *r;
	struct env e;

	(void)state;
	setup(&e);
	r = new_logged(&e, GM_SEG_LOG);
	assert_int_equal(rd(&e, BASE, buf, 32), 0);
	assert_int_equal(dirty_pages(r), 0);
	assert_int_equal(wr(&e, BASE + PAGE, buf, 1), 0);
	assert_int_equal(dirty_pages(r), 1 << 1);
	assert_int_equal(wr(&e, BASE + 3 * PAGE - 1, buf, 2), 0);
	assert_int_equal(dirty_pages(r), 1 << 2 | 1 << 3);
	assert_int_equal(wr(&e, BASE + 3 * PAGE - 1, buf, 1), 0);
	assert_int_equal(dirty_pages(r), 1 << 2);
	/* Up to where it fails. */
	assert_int_equal(wr(&e, BASE + 4 * PAGE - 8, buf, 16), -ENXIO);
	assert_int_equal(dirty_pages(r), 1 << 3);
	/* By offset in the region, not by GPA. */
	show(&e, BASE, PAGE, NULL, 0, 0);
	publish(&e);
	assert_int_equal(wr(&e, BASE + PAGE, buf, 1), 0);
	assert_int_equal(dirty_pages(r), 1 << 1);
	/* Not logged: the bits are there, but stay. */
	show(&e, BASE, NR_PAGES * PAGE, r, GM_SEG_RAM, 0);
	publish(&e);
	assert_int_equal(wr(&e, BASE, buf, 32), 0);
	assert_int_equal(dirty_pages(r), 0);
	gm_region_unref(r);
	teardown(&e);
}

/* ------------------------------------------------------------------- a commit that comes --- */

/* An accessor that faults in the middle of a copy, and stays there until it is let go. */
static struct {
	unsigned char *page; /* that it faults on */
	_Atomic(pid_t) tid;  /* it has */
	atomic_bool go;
} fault;

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void on_fault(int signo)
{
	(void)signo;
	atomic_store(&fault.tid, (pid_t)syscall(SYS_gettid));
	while (!atomic_load(&fault.go))
		nap();
	mprotect(fault.page, PAGE, PROT_READ | PROT_WRITE);
}

struct accessor {
	struct env *e;
	pthread_t thread;
	bool is_write;
	unsigned char buf[NR_PAGES * PAGE];
	int err;
};

static void *access_all(void *arg)
{
	struct accessor *a = arg;

	a->err = a->is_write ? wr(a->e, BASE, a->buf, sizeof(a->buf))
			     : rd(a->e, BASE, a->buf, sizeof(a->buf));
	return NULL;
}

/* It accesses all pages, and faults on page 1. */
static void accessor_begin(struct accessor *a, struct env *e, bool is_write)
{
	struct sigaction act = {.sa_handler = on_fault};

	a->e = e;
	a->is_write = is_write;
	memset(a->buf, 0x5a, sizeof(a->buf));
	fault.page = e->memory + PAGE;
	atomic_store(&fault.tid, 0);
	atomic_store(&fault.go, false);
	assert_int_equal(sigaction(SIGSEGV, &act, NULL), 0);
	assert_int_equal(mprotect(fault.page, PAGE, PROT_NONE), 0);
	assert_int_equal(pthread_create(&a->thread, NULL, access_all, a), 0);
	while (!atomic_load(&fault.tid))
		nap();
}

static int accessor_end(struct accessor *a)
{
	struct sigaction act = {.sa_handler = SIG_DFL};

	atomic_store(&fault.go, true);
	pthread_join(a->thread, NULL);
	assert_int_equal(sigaction(SIGSEGV, &act, NULL), 0);
	return a->err;
}

/* AC1: who would publish waits for the piece on its way, and learns who is in the way. */
static void who_copies_is_waited_for(void **state)
{
	static struct accessor a;
	struct gpamap_region *r;
	struct gm_stuck stuck = {0};
	unsigned kicked;
	uint64_t start;
	struct env e;

	(void)state;
	setup(&e);
	r = new_ram(&e, 0, NR_PAGES);
	show(&e, BASE, NR_PAGES * PAGE, r, GM_SEG_RAM, 0);
	publish(&e);
	for (int is_write = 0; is_write < 2; is_write++) {
		accessor_begin(&a, &e, is_write);
		assert_int_equal(gm_gate_shut(&e.accessors, gm_now_ns() + 20000000, &kicked, &start,
					      &stuck),
				 -ETIMEDOUT);
		assert_false(stuck.is_vcpu);
		assert_int_equal(stuck.tid, atomic_load(&fault.tid));
		assert_int_equal(accessor_end(&a), 0);
		assert_int_equal(gm_gate_shut(&e.accessors, gm_now_ns(), &kicked, &start, &stuck),
				 0);
		gm_gate_open(&e.accessors);
	}
	gm_region_unref(r);
	teardown(&e);
}

/* The commit side, in a thread of its own since it has to wait. */
static void *publish_shut(void *arg)
{
	struct env *e = arg;
	struct gm_stuck stuck;
	unsigned kicked;
	uint64_t start;

	if (gm_gate_shut(&e->accessors, gm_now_ns() + UINT64_C(60000000000), &kicked, &start,
			 &stuck))
		return "can't be shut";
	publish(e);
	gm_gate_open(&e->accessors);
	return NULL;
}

enum meanwhile { LOG_ON, READONLY, NONE, GONE, OTHER };

/* An access of all pages, while a commit changes them as @what says: it has to go by the old map up to the piece that
 * is on its way when the commit comes, and by the new map after it. Returns the pages that are dirty then. */
static uint64_t meanwhile(struct env *e, struct gpamap_region *r, bool is_write,
			  enum meanwhile what, int expect)
{
	static struct accessor a;
	static unsigned char others[PAGE];
	struct gpamap_region *other = new_ram(e, 0, NR_PAGES);
	pthread_t committer;
	void *wrong;

	memset(e->memory, 0x11, NR_PAGES * PAGE);
	show(e, BASE, NR_PAGES * PAGE, r, GM_SEG_RAM, 0);
	publish(e);
	accessor_begin(&a, e, is_write);
	show(e, BASE, NR_PAGES * PAGE,
	     what == GONE    ? NULL
	     : what == OTHER ? other
			     : r,
	     what == NONE ? GM_SEG_NONE : GM_SEG_RAM,
	     what == LOG_ON ? GM_SEG_LOG : (what == READONLY ? GM_SEG_READONLY : 0));
	assert_int_equal(pthread_create(&committer, NULL, publish_shut, e), 0);
	while (!atomic_load(&e->accessors.shut))
		nap();
	assert_int_equal(accessor_end(&a), expect);
	pthread_join(committer, &wrong);
	assert_null(wrong);
	/* Pages 0 and 1 by the old map. */
	memset(others, 0x5a, PAGE);
	for (unsigned i = 0; i < NR_PAGES && is_write; i++) {
		bool written = !memcmp(e->memory + i * PAGE, others, PAGE);

		assert_int_equal(written, i < 2 || !expect);
	}
	gm_region_unref(other);
	return dirty_pages(r);
}

static void maps_change_between_pieces(void **state)
{
	struct gpamap_region *r;
	struct env e;

	(void)state;
	setup(&e);
	r = new_logged(&e, 0);
	/* AC3: what was written before the map that logs is not in question. */
	assert_int_equal(meanwhile(&e, r, true, LOG_ON, 0), 1 << 2 | 1 << 3);
	assert_int_equal(meanwhile(&e, r, true, READONLY, -EROFS), 0);
	assert_int_equal(meanwhile(&e, r, false, READONLY, 0), 0);
	assert_int_equal(meanwhile(&e, r, true, NONE, -EACCES), 0);
	assert_int_equal(meanwhile(&e, r, false, NONE, -EACCES), 0);
	assert_int_equal(meanwhile(&e, r, true, GONE, -ENXIO), 0);
	assert_int_equal(meanwhile(&e, r, false, GONE, -ENXIO), 0);
	assert_int_equal(meanwhile(&e, r, true, OTHER, 0), 0);
	gm_region_unref(r);
	teardown(&e);
}

/* ------------------------------------------------------------------------------ life times --- */

static struct env *gone_env;

/* The device removes itself from the map, and gives its last handle back. */
static int vanish(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	struct gpamap_region **self = opaque;

	(void)offset;
	(void)data;
	(void)len;
	show(gone_env, BASE, PAGE, NULL, 0, 0);
	publish(gone_env);
	gm_region_unref(*self);
	/* Whoever calls the device holds it. */
	return gm_map_reap(&gone_env->map) ? -EFAULT : 0;
}

/* A device that changes what is behind its own next bytes. */
static int swap(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	struct env *e = opaque;
	struct gpamap_region *ram;
	struct gm_stuck stuck;
	unsigned kicked;
	uint64_t start;

	(void)offset;
	(void)data;
	(void)len;
	/* AC4: nothing is held. */
	if (gm_gate_inside(&e->accessors) ||
	    gm_gate_shut(&e->accessors, gm_now_ns(), &kicked, &start, &stuck))
		return -EFAULT;
	ram = new_ram(e, 0, 1);
	show(e, BASE, PAGE, ram, GM_SEG_RAM, 0);
	publish(e);
	gm_gate_open(&e->accessors);
	gm_region_unref(ram);
	return 0;
}

/* What comes after a callback goes by the map as it is by then. */
static void map_changes_in_a_callback(void **state)
{
	static const struct gpamap_mmio_ops ops = {.write = swap};
	unsigned char buf[32] = {0}, zero[8] = {0};
	struct gpamap_region *r;
	struct env e;

	(void)state;
	setup(&e);
	r = new_region(&e, (struct gpamap_region_desc){
				   .kind = GPAMAP_MMIO, .size = PAGE, .ops = &ops, .opaque = &e});
	show(&e, BASE, PAGE, r, GM_SEG_MMIO, 0);
	publish(&e);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = i;
	assert_int_equal(wr(&e, BASE, buf, sizeof(buf)), 0);
	assert_memory_equal(e.memory, zero, 8);
	assert_memory_equal(e.memory + 8, buf + 8, 24);
	gm_region_unref(r);
	teardown(&e);
}

/* P5: a region lives as long as one of its callbacks runs, and dies right after. */
static void region_goes_in_its_callback(void **state)
{
	static const struct gpamap_mmio_ops ops = {.write = vanish};
	struct gpamap_region *r;
	uint32_t value = 0;
	bool dead = false;
	struct env e;

	(void)state;
	setup(&e);
	gone_env = &e;
	r = new_region(&e, (struct gpamap_region_desc){
				   .kind = GPAMAP_MMIO, .size = PAGE, .ops = &ops, .opaque = &r});
	show(&e, BASE, PAGE, r, GM_SEG_MMIO, 0);
	publish(&e);
	assert_int_equal(gm_access(&e.guest, 0, BASE, &value, 4, true, NULL, &dead), 0);
	assert_true(dead);
	assert_int_equal(reap(&e), 1);
	assert_int_equal(rd(&e, BASE, &value, 4), -ENXIO);
	teardown(&e);
}

/* --------------------------------------------------------------------------------- threads --- */

#define NR_ROUNDS 20000

struct race {
	struct env e;
	_Atomic(bool) end;
	unsigned torn, wrong;
};

/* An aligned value is never torn, and is that of one of the two regions shown in turn. */
static void *reader(void *arg)
{
	struct race *r = arg;
	bool dead = false;

	while (!atomic_load(&r->end)) {
		uint64_t v = 0;
		int err = gm_access(&r->e.guest, 0, BASE + 8, &v, 8, false, NULL, &dead);

		if (err && err != -ENXIO)
			r->wrong++;
		if (v != (v & 0xff) * UINT64_C(0x0101010101010101))
			r->torn++;
		gm_access(&r->e.guest, 0, BASE + 3, &v, 7, false, NULL, &dead);
	}
	return NULL;
}

static void *writer(void *arg)
{
	struct race *r = arg;
	bool dead = false;

	for (unsigned i = 0; i < NR_ROUNDS; i++) {
		uint64_t v = (i & 0xff) * UINT64_C(0x0101010101010101);

		gm_access(&r->e.guest, 0, BASE + 8, &v, 8, true, NULL, &dead);
	}
	atomic_store(&r->end, true);
	return NULL;
}

static void views_change_under_accessors(void **state)
{
	static struct race r;
	struct gpamap_region *ram[2];
	pthread_t thread[2];

	(void)state;
	setup(&r.e);
	ram[0] = new_ram(&r.e, 0, 1);
	ram[1] = new_ram(&r.e, 1, 1);
	assert_int_equal(pthread_create(&thread[0], NULL, reader, &r), 0);
	assert_int_equal(pthread_create(&thread[1], NULL, writer, &r), 0);
	for (unsigned i = 0; !atomic_load(&r.end); i++) {
		show(&r.e, BASE, PAGE, i % 3 ? ram[i % 3 - 1] : NULL, GM_SEG_RAM, 0);
		publish(&r.e);
	}
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);
	assert_int_equal(r.torn, 0);
	assert_int_equal(r.wrong, 0);
	gm_region_unref(ram[0]);
	gm_region_unref(ram[1]);
	teardown(&r.e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_are_marked),
		cmocka_unit_test(who_copies_is_waited_for),
		cmocka_unit_test(maps_change_between_pieces),
		cmocka_unit_test(map_changes_in_a_callback),
		cmocka_unit_test(region_goes_in_its_callback),
		cmocka_unit_test(views_change_under_accessors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
