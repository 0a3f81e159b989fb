/* SPDX-License-Identifier: BSD-3-Clause */
/* Access while the map changes: dirty pages, life times, threads. */
#include <pthread.h>
#include <signal.h>

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

/* What happens while the accessor is about to write: it faults, and the handler publishes. */
static struct {
	struct gm_publish *views;
	struct gm_views *next, *old;
	unsigned char *page;
} meanwhile;

static void on_fault(int signo)
{
	(void)signo;
	meanwhile.old = gm_views_set(meanwhile.views, meanwhile.next);
	mprotect(meanwhile.page, PAGE, PROT_READ | PROT_WRITE);
}

enum meanwhile { NOTHING_NEW, LOG_ON, MOVED_AWAY, GONE };

/* A write of @e, found in a view without logging, while the map changes as @what says. */
static uint64_t write_meanwhile(struct env *e, struct gpamap_region *r, enum meanwhile what)
{
	struct gpamap_region *other = new_ram(e, 0, NR_PAGES);
	struct sigaction act = {.sa_handler = on_fault}, saved;
	struct gm_stale stale;
	uint64_t value = 5;

	show(e, BASE, NR_PAGES * PAGE, r, GM_SEG_RAM, 0);
	publish(e);
	show(e, BASE, NR_PAGES * PAGE,
	     what == GONE	  ? NULL
	     : what == MOVED_AWAY ? other
				  : r,
	     GM_SEG_RAM, what == LOG_ON ? GM_SEG_LOG : 0);
	meanwhile.views = &e->views;
	meanwhile.next = gm_calloc(&e->c.alloc, 1, sizeof(struct gm_views) + sizeof(void *));
	assert_non_null(meanwhile.next);
	meanwhile.next->nr_spaces = 1;
	meanwhile.next->root[0] = e->view.root;
	meanwhile.old = NULL;
	meanwhile.page = e->memory + PAGE;
	assert_int_equal(sigaction(SIGSEGV, &act, &saved), 0);
	assert_int_equal(mprotect(meanwhile.page, PAGE, PROT_NONE), 0);
	assert_int_equal(wr(e, BASE + PAGE, &value, 8), 0);
	assert_int_equal(sigaction(SIGSEGV, &saved, NULL), 0);
	assert_non_null(meanwhile.old);
	gm_tree_commit(&e->view, &stale);
	gm_stale_free(&stale);
	gm_free(&e->c.alloc, meanwhile.old);
	gm_region_unref(other);
	reap(e);
	return dirty_pages(r);
}

/* P4: logging is turned on, and the commit returns, between the look-up and the write. */
static void log_turned_on_meanwhile(void **state)
{
	struct gpamap_region *r;
	struct env e;

	(void)state;
	setup(&e);
	r = new_logged(&e, 0);
	assert_int_equal(write_meanwhile(&e, r, LOG_ON), 1 << 1);
	assert_int_equal(write_meanwhile(&e, r, NOTHING_NEW), 0);
	/* It may be logged elsewhere now; that can't be told from here. */
	assert_int_equal(write_meanwhile(&e, r, MOVED_AWAY), 1 << 1);
	assert_int_equal(write_meanwhile(&e, r, GONE), 1 << 1);
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
	assert_int_equal(gm_access(&e.views, PAGE, 0, BASE, &value, 4, true, &dead), 0);
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
		int err = gm_access(&r->e.views, PAGE, 0, BASE + 8, &v, 8, false, &dead);

		if (err && err != -ENXIO)
			r->wrong++;
		if (v != (v & 0xff) * UINT64_C(0x0101010101010101))
			r->torn++;
		gm_access(&r->e.views, PAGE, 0, BASE + 3, &v, 7, false, &dead);
	}
	return NULL;
}

static void *writer(void *arg)
{
	struct race *r = arg;
	bool dead = false;

	for (unsigned i = 0; i < NR_ROUNDS; i++) {
		uint64_t v = (i & 0xff) * UINT64_C(0x0101010101010101);

		gm_access(&r->e.views, PAGE, 0, BASE + 8, &v, 8, true, &dead);
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
		cmocka_unit_test(log_turned_on_meanwhile),
		cmocka_unit_test(region_goes_in_its_callback),
		cmocka_unit_test(views_change_under_accessors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
