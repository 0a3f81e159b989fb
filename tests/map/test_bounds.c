/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Work and memory are bounded, whatever way the regions are arranged. What is counted is pieces of work, by the
 * questions whether to give up, and bytes; time only where the alternative would be hours.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "fixture.h"
#include "map/mark.h"

/* As gm_flatten() has it: pieces of work between two questions. */
#define WORK_PER_QUESTION 64
/* Far more than is taken, with any sanitizer; 2^31 steps take longer. */
#define SECONDS 3.0
#define MIB ((size_t)1 << 20)

struct asked {
	size_t n;
	size_t give_up_at; /* the nth question is answered with yes; 0: none */
	struct gm_flatten_limits limits;
	double start;
};

static bool ask(void *opaque)
{
	struct asked *a = opaque;

	return ++a->n == a->give_up_at;
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void count_from_here(struct env *e, struct asked *a)
{
	*a = (struct asked){.limits = {ask, NULL}, .start = cpu_seconds()};
	a->limits.opaque = a;
	e->limits = &a->limits;
	e->mem.peak = e->mem.bytes;
}

static void assert_cheap(struct env *e, struct asked *a, size_t work, size_t bytes)
{
	e->limits = NULL;
	if (a->n > work / WORK_PER_QUESTION + 2)
		fail_msg("%zu pieces of work, not %zu", a->n * WORK_PER_QUESTION, work);
	assert_true(e->mem.peak <= bytes);
	assert_true(cpu_seconds() - a->start < SECONDS);
}

static struct gpamap_region *box(struct env *e, uint64_t size)
{
	return MAKE(e, .kind = GPAMAP_CONTAINER, .name = "box", .size = size);
}

static struct gpamap_region *page(struct env *e)
{
	return MAKE(e, .kind = GPAMAP_RAM, .name = "page", .size = PAGE,
		    .hva = (void *)(uintptr_t)0x100000);
}

/* The caller's handle goes with it. */
static void in(struct env *e, struct gpamap_region *parent, uint64_t at, struct gpamap_region *r,
	       int priority)
{
	ok(e, gm_edit_add(&e->map, parent, at, r, priority, &e->msg));
	put(r);
}

/* A box that shows @r twice, @apart. */
static struct gpamap_region *twice(struct env *e, struct gpamap_region *r, uint64_t apart)
{
	struct gpamap_region *b = box(e, r->now.size + apart);

	for (int i = 0; i < 2; i++)
		in(e, b, i ? apart : 0,
		   MAKE(e, .kind = GPAMAP_ALIAS, .name = "twin", .size = r->now.size, .target = r),
		   0);
	return b;
}

/* As deep as may be: two regions for each level. */
#define LEVELS 31

/* Boxes that show the one below twice: side by side, with that much between, or else on each other. */
static struct gpamap_region *tower(struct env *e, struct gpamap_region *leaf, unsigned levels,
				   bool apart)
{
	struct gpamap_region *top = leaf;

	for (unsigned i = 0; i < levels; i++) {
		struct gpamap_region *next = twice(e, top, apart ? top->now.size : 0);

		put(top);
		top = next;
	}
	return top;
}

/* ------------------------------------------------------------------------------ towers --- */

/* 2^31 ways to what can't be seen, or to one page that hides what is behind: marked and flattened as if it were one. */
static void towers_on_the_spot(void **state)
{
	struct env *e = *state;

	for (int shown = 0; shown <= 2; shown++) {
		struct gpamap_region *leaf = box(e, 3 * PAGE), *ram = page(e), *top;
		struct asked a;

		gm_region_ref(leaf);
		gm_region_ref(ram);
		in(e, leaf, (uint64_t)shown * PAGE, ram, 0);
		ok(e, gm_edit_enabled(&e->map, ram, shown, &e->msg));
		top = tower(e, leaf, LEVELS, false);
		gm_region_ref(top);
		count_from_here(e, &a);
		in(e, root(e, 0), 0x7000, top, 0);
		commit(e);
		ok(e, gm_edit_enabled(&e->map, ram, !shown, &e->msg));
		assert_int_equal(e->map.spaces[0].windows.n, 1);
		commit(e);
		ok(e, gm_edit_readonly(&e->map, ram, true, &e->msg));
		expect(e, 0, shown ? "" : "7000-7fff page+0 RAM,ro");
		ok(e, gm_edit_remove(&e->map, top, &e->msg));
		commit(e);
		assert_cheap(e, &a, 60 * LEVELS, MIB);
		put(ram);
		put(leaf);
		put(top);
		reap(e);
	}
}

/* 2^31 places, none of which shows anything. */
static void towers_of_nothing(void **state)
{
	struct env *e = *state;
	struct gpamap_region *leaf = page(e), *top;
	struct asked a;

	gm_region_ref(leaf);
	ok(e, gm_edit_enabled(&e->map, leaf, false, &e->msg));
	top = tower(e, leaf, LEVELS, true);
	count_from_here(e, &a);
	in(e, root(e, 0), 0, top, 0);
	commit(e);
	assert_null(e->view[0].root);
	assert_cheap(e, &a, 10 * LEVELS, MIB);
	put(leaf);
}

/* Too much to show: refused soon, in words, and nothing has changed. */
static void towers_of_pages_are_refused(void **state)
{
	struct env *e = *state;
	struct gpamap_region *leaf = page(e), *top = tower(e, leaf, LEVELS, true);
	size_t most = GM_FLATTEN_LOOKS + GM_FLATTEN_LOOKS_PER_REGION * (3 * LEVELS + 2);
	struct asked a;

	count_from_here(e, &a);
	ok(e, gm_edit_add(&e->map, root(e, 0), 0, top, 0, &e->msg));
	assert_int_equal(flatten_windows(e, 0), -E2BIG);
	if (!strstr(e->msg.text, "too many places") || !strstr(e->msg.text, "131072"))
		fail_msg("%s", e->msg.text);
	assert_cheap(e, &a, 2 * most, 64 * MIB);
	gm_tree_abort(&e->view[0]);
	gm_edits_abort(&e->map);
	in(e, root(e, 0), 0, page(e), 0);
	commit(e);
	assert_int_equal(e->view[0].count, 1);
	put(top);
}

/* A page of two, in 2^31 places, behind something: flattening is cheap, but marking sees all of them. */
static void towers_behind_something(void **state)
{
	struct env *e = *state;
	struct gpamap_region *leaf = box(e, 2 * PAGE), *ram = page(e), *top;
	struct gm_windows *w = &e->map.spaces[0].windows;
	struct asked a;

	gm_region_ref(ram);
	in(e, leaf, 0, ram, 0);
	top = tower(e, leaf, LEVELS, true);
	in(e, root(e, 0), 0, MAKE(e, .kind = GPAMAP_MMIO, .name = "front", .size = top->now.size),
	   1);
	count_from_here(e, &a);
	in(e, root(e, 0), 0, top, 0);
	commit(e);
	for (int i = 0; i < 100; i++)
		ok(e, gm_edit_readonly(&e->map, ram, !(i % 2), &e->msg));
	ok(e, gm_edit_readonly(&e->map, ram, true, &e->msg));
	gm_windows_normalise(w);
	assert_true(w->n <= GM_MARK_RANGES + GM_MARK_RANGES_PER_REGION * (3 * LEVELS + 2));
	/* Each place is in a window. (RG3) */
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t at = 0;
		size_t j = 0;

		for (unsigned level = 0; level < LEVELS; level++)
			at += (i * 2654435761u >> level) % 2 * ((2 * PAGE) << level);
		while (j < w->n && w->r[j].last < at + PAGE - 1)
			j++;
		assert_true(j < w->n && w->r[j].first <= at);
	}
	expect(e, 0, "0-fffffffffff front+0 MMIO");
	assert_cheap(e, &a, 500 * LEVELS + 3 * w->n, 8 * MIB);
	put(ram);
}

/* -------------------------------------------------------------------------- legal, and large --- */

/* Containers that lie on each other, of any size, and show a page each. */
static void stacked_containers(void **state)
{
	enum { N = 3000 };
	struct env *e = *state;
	static struct gpamap_region *ram[N];
	struct asked a;

	for (unsigned i = 0; i < N; i++) {
		struct gpamap_region *c = box(e, GPAMAP_SIZE_MAX);

		ram[i] = page(e);
		gm_region_ref(ram[i]);
		in(e, c, (uint64_t)i * 2 * PAGE, ram[i], 0);
		in(e, root(e, 0), 0, c, (int)i);
	}
	count_from_here(e, &a);
	commit(e);
	for (unsigned i = 0; i < N; i++) {
		ok(e, gm_edit_readonly(&e->map, ram[i], true, &e->msg));
		put(ram[i]);
	}
	commit(e);
	assert_int_equal(e->view[0].count, N);
	assert_cheap(e, &a, 10 * N, 16 * MIB);
}

/* Windows between the children of a container cost no more than the children, children between windows no more than
 * the windows. */
static void few_of_many(void **state)
{
	enum { N = 3000 };
	struct env *e = *state;
	struct gpamap_region *many = box(e, GPAMAP_SIZE_MAX);
	static struct gm_range r[N];
	struct gm_windows w = {.alloc = &e->alloc, .r = r, .n = N, .room = N};
	struct asked a;

	in(e, root(e, 0), 0, many, 0);
	in(e, root(e, 0), 0, box(e, GPAMAP_SIZE_MAX), 1);
	for (uint64_t i = 0; i < N; i++) {
		in(e, many, i * 4 * PAGE, page(e), 0);
		r[i] = (struct gm_range){i * 4 * PAGE + PAGE, i * 4 * PAGE + 2 * PAGE - 1};
	}
	commit(e);
	count_from_here(e, &a);
	ok(e, flatten(e, 0, &w, &e->view[0]));
	assert_cheap(e, &a, 2 * N + 10, 4 * MIB);
	/* Far from each other, with a thousand children between. */
	w.n = 3;
	r[1] = r[N / 2];
	r[2] = (struct gm_range){r[N - 1].first, UINT64_MAX};
	count_from_here(e, &a);
	ok(e, flatten(e, 0, &w, &e->view[0]));
	assert_cheap(e, &a, 64, 4 * MIB);
	assert_int_equal(e->view[0].count, N);
}

/* None of them grows together with the next. */
static void many_single_pages(void **state)
{
	enum { N = 300000 };
	struct env *e = *state;
	struct asked a;

	count_from_here(e, &a);
	for (uint64_t i = 0; i < N; i++)
		ok(e, gm_ranges_map(&e->map, 0, i * 2 * PAGE, PAGE,
				    (void *)(uintptr_t)(i * 2 * PAGE + PAGE), GPAMAP_RW, &e->msg));
	assert_int_equal(e->map.spaces[0].windows.n, N);
	commit(e);
	assert_int_equal(e->view[0].count, N);
	e->limits = NULL;
	assert_true(a.n <= 3 * N / WORK_PER_QUESTION);
	assert_true(e->mem.peak - e->mem.bytes < 200 * MIB);
}

/* What is toggled is marked again each time, and takes no memory. */
static void toggles_take_no_memory(void **state)
{
	enum { N = 200, TOGGLES = 2000 };
	struct env *e = *state;
	struct gpamap_region *r = page(e);
	struct gm_windows *w = &e->map.spaces[0].windows;
	struct asked a;

	for (uint64_t i = 0; i < N; i++) {
		in(e, root(e, 0), i * 4 * PAGE,
		   MAKE(e, .kind = GPAMAP_ALIAS, .size = PAGE, .target = r), 0);
		ok(e, gm_ranges_map_region(&e->map, 0, (i * 4 + 2) * PAGE, PAGE, r, 0, GPAMAP_RW,
					   &e->msg));
	}
	commit(e);
	count_from_here(e, &a);
	for (int i = 0; i < TOGGLES; i++)
		ok(e, gm_edit_readonly(&e->map, r, i % 2 == 0, &e->msg));
	assert_true(w->room <= 4096);
	gm_windows_normalise(w);
	assert_int_equal(w->n, 2 * N);
	assert_cheap(e, &a, 0, MIB);
	put(r);
}

/* ----------------------------------------------------------------------------- giving up --- */

static void flattening_gives_up(void **state)
{
	struct env *e = *state;
	unsigned given_up = 0;
	int err = -ETIMEDOUT;

	for (uint64_t i = 0; i < 300; i++)
		in(e, root(e, 0), i * 2 * PAGE, page(e), 0);
	ok(e,
	   gm_ranges_map(&e->map, 0, 0x1000000, PAGE, (void *)(uintptr_t)PAGE, GPAMAP_RW, &e->msg));
	for (size_t n = 1; err; n++) {
		struct asked a;

		count_from_here(e, &a);
		a.give_up_at = n;
		err = flatten_windows(e, 0);
		if (!err)
			break;
		assert_int_equal(err, -ETIMEDOUT);
		assert_int_equal(a.n, n);
		assert_string_equal(e->msg.text,
				    "the time was over while address space 0 was flattened");
		gm_tree_abort(&e->view[0]);
		given_up++;
	}
	assert_true(given_up >= 900 / WORK_PER_QUESTION);
	assert_int_equal(e->view[0].count, 301);
	e->limits = NULL;
	expect(e, 1, "");
}

/* -------------------------------------------------------------------------------- no lock --- */

struct other {
	pthread_mutex_t *edit;
	struct gm_map *map;
	struct gpamap_region *target;
	atomic_bool stop;
	atomic_ulong made;
};

/* What other threads do while one has a transaction open: each with the lock of the edits. */
static void *make_and_drop(void *opaque)
{
	struct other *o = opaque;

	while (!atomic_load(&o->stop)) {
		struct gpamap_region_desc d = {
			.kind = GPAMAP_ALIAS, .size = PAGE, .target = o->target};
		struct gpamap_region *r = NULL, *next;

		pthread_mutex_lock(o->edit);
		if (!gm_region_new(o->map, &d, NULL, &r))
			gm_region_unref(r);
		for (r = gm_map_reap(o->map); r; r = next, atomic_fetch_add(&o->made, 1)) {
			next = r->next_dead;
			gm_region_release(&gm_alloc_default, r);
		}
		pthread_mutex_unlock(o->edit);
	}
	return NULL;
}

static void flatten_once(struct gm_map *m, struct gm_tree *view)
{
	struct gm_windows *w = &m->spaces[0].windows;
	struct gm_msg msg;

	gm_windows_normalise(w);
	assert_int_equal(gm_flatten(m, 0, w, view, NULL, &msg), 0);
	end_view(view);
}

/* FL1, under ThreadSanitizer. */
static void flattening_needs_no_lock(void **state)
{
	pthread_mutex_t edit = PTHREAD_MUTEX_INITIALIZER;
	struct gpamap_region_desc d = {.kind = GPAMAP_CONTAINER, .size = 16 * PAGE}, a = d;
	struct gpamap_region *box, *alias, *r;
	struct gm_map m;
	struct gm_tree view;
	struct other o = {.edit = &edit, .map = &m};
	pthread_t thread;

	(void)state;
	assert_int_equal(gm_map_init(&m, &gm_alloc_default, 1, PAGE), 0);
	gm_tree_init(&view, &gm_seg_type, &gm_alloc_default);
	assert_int_equal(gm_region_new(&m, &d, NULL, &box), 0);
	a.kind = GPAMAP_ALIAS;
	a.target = o.target = box;
	assert_int_equal(gm_region_new(&m, &a, NULL, &alias), 0);
	assert_int_equal(gm_edit_add(&m, m.spaces[0].root, 0, alias, 0, NULL), 0);
	d.kind = GPAMAP_MMIO;
	assert_int_equal(gm_region_new(&m, &d, NULL, &r), 0);
	assert_int_equal(gm_edit_add(&m, box, 0, r, 0, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, make_and_drop, &o), 0);
	for (int i = 0; i < 3000 || atomic_load(&o.made) < 100; i++) {
		pthread_mutex_lock(&edit);
		assert_int_equal(gm_edit_move(&m, r, (uint64_t)(i % 8 + 1) * PAGE, NULL), 0);
		pthread_mutex_unlock(&edit);
		flatten_once(&m, &view);
		pthread_mutex_lock(&edit);
		gm_edits_commit(&m);
		pthread_mutex_unlock(&edit);
	}
	atomic_store(&o.stop, true);
	pthread_join(thread, NULL);
	gm_tree_destroy(&view);
	gm_map_destroy(&m);
	gm_region_unref(r);
	gm_region_unref(alias);
	gm_region_unref(box);
	for (r = gm_map_reap(&m); r; r = box) {
		box = r->next_dead;
		gm_region_release(&gm_alloc_default, r);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(towers_on_the_spot),	   TEST(towers_of_nothing),
		TEST(towers_of_pages_are_refused), TEST(towers_behind_something),
		TEST(stacked_containers),	   TEST(few_of_many),
		TEST(many_single_pages),	   TEST(toggles_take_no_memory),
		TEST(flattening_gives_up),	   cmocka_unit_test(flattening_needs_no_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
