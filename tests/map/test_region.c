/* SPDX-License-Identifier: BSD-3-Clause */
/* The life of regions: what can be made, who holds what, when it is released, and in which order. */
#include <pthread.h>
#include <sched.h>

#include "fixture.h"

static void *const hva = (void *)(uintptr_t)0x10000000;

/* ------------------------------------------------------------------------------ refusals --- */

static void refuse(struct env *e, int err, const char *words, struct gpamap_region_desc desc)
{
	struct gpamap_region *const untouched = (void *)(uintptr_t)1;
	struct gpamap_region *r = untouched;
	size_t live = e->mem.live;

	e->msg.text[0] = '\0';
	assert_int_equal(gm_region_new(&e->map, &desc, &e->msg, &r), err);
	if (!strstr(e->msg.text, words))
		fail_msg("'%s' does not say '%s'", e->msg.text, words);
	assert_ptr_equal(r, untouched);
	assert_int_equal(e->mem.live, live);
}

#define REFUSE(e, err, words, ...) refuse(e, err, words, (struct gpamap_region_desc){__VA_ARGS__})

static void refuses_kinds_and_flags(void **state)
{
	struct env *e = *state;

	REFUSE(e, -EINVAL, "kind 0", .size = PAGE);
	REFUSE(e, -EINVAL, "kind 6", .kind = GPAMAP_MMIO + 1, .size = PAGE);
	REFUSE(e, -EINVAL, "unknown flags 0x10", .kind = GPAMAP_MMIO, .size = 1, .flags = 16);
	REFUSE(e, -EINVAL, "read-only", .kind = GPAMAP_RAM, .size = PAGE, .hva = hva,
	       .flags = GPAMAP_READONLY | GPAMAP_GUEST_MEMFD);
}

static void refuses_fields_of_other_kinds(void **state)
{
	struct env *e = *state;
	static const struct gpamap_mmio_ops ops;
	struct gpamap_region *c = MAKE(e, .kind = GPAMAP_CONTAINER, .size = PAGE);

	REFUSE(e, -EINVAL, "no hva", .kind = GPAMAP_CONTAINER, .size = PAGE, .hva = hva);
	REFUSE(e, -EINVAL, "no hva", .kind = GPAMAP_MMIO, .size = PAGE, .hva = hva);
	REFUSE(e, -EINVAL, "no ops", .kind = GPAMAP_RAM, .size = PAGE, .hva = hva, .ops = &ops);
	REFUSE(e, -EINVAL, "no target", .kind = GPAMAP_RAM, .size = PAGE, .hva = hva, .target = c);
	REFUSE(e, -EINVAL, "no target_offset", .kind = GPAMAP_RAM, .size = PAGE, .hva = hva,
	       .target_offset = PAGE);
	REFUSE(e, -EINVAL, "no guest_memfd", .kind = GPAMAP_ROM_DEVICE, .size = PAGE, .hva = hva,
	       .flags = GPAMAP_GUEST_MEMFD);
	put(c);
}

static void refuses_sizes(void **state)
{
	struct env *e = *state;

	REFUSE(e, -EINVAL, "size is 0", .kind = GPAMAP_MMIO);
	REFUSE(e, -EINVAL, "0x1800", .kind = GPAMAP_CONTAINER, .size = 0x1800);
	REFUSE(e, -EINVAL, "0x1800", .kind = GPAMAP_RAM, .hva = hva, .size = PAGE,
	       .max_size = 0x1800);
	REFUSE(e, -ERANGE, "'low': max_size 0x1000 is below its size 0x2000",
	       .kind = GPAMAP_CONTAINER, .name = "low", .size = 2 * PAGE, .max_size = PAGE);
	REFUSE(e, -ERANGE, "below", .kind = GPAMAP_MMIO, .size = GPAMAP_SIZE_MAX, .max_size = 5);
}

static void refuses_memory(void **state)
{
	struct env *e = *state;
	void *last = (void *)(uintptr_t)(0 - PAGE);

	REFUSE(e, -EINVAL, "NULL", .kind = GPAMAP_RAM, .size = PAGE);
	REFUSE(e, -EINVAL, "NULL", .kind = GPAMAP_ROM_DEVICE, .size = PAGE);
	REFUSE(e, -EINVAL, "0x10000001", .kind = GPAMAP_RAM, .size = PAGE, .hva = (char *)hva + 1);
	REFUSE(e, -EOVERFLOW, "beyond 2^64", .kind = GPAMAP_RAM, .size = 2 * PAGE, .hva = last);
	REFUSE(e, -EOVERFLOW, "beyond 2^64", .kind = GPAMAP_RAM, .size = PAGE, .max_size = 2 * PAGE,
	       .hva = last);
	REFUSE(e, -EOVERFLOW, "beyond 2^64", .kind = GPAMAP_RAM, .size = GPAMAP_SIZE_MAX,
	       .hva = hva);
	REFUSE(e, -EINVAL, "descriptor", .kind = GPAMAP_RAM, .size = PAGE, .hva = hva,
	       .flags = GPAMAP_GUEST_MEMFD, .guest_memfd = -1);
	REFUSE(e, -EINVAL, "0x800", .kind = GPAMAP_RAM, .size = PAGE, .hva = hva,
	       .flags = GPAMAP_GUEST_MEMFD, .guest_memfd = 3, .guest_memfd_offset = 0x800);
	REFUSE(e, -EOVERFLOW, "beyond 2^64", .kind = GPAMAP_RAM, .size = 2 * PAGE, .hva = hva,
	       .flags = GPAMAP_GUEST_MEMFD, .guest_memfd = 3, .guest_memfd_offset = 0 - PAGE);
	/* The last page of all is memory like any other. */
	put(MAKE(e, .kind = GPAMAP_RAM, .size = PAGE, .hva = last));
}

static void refuses_windows(void **state)
{
	struct env *e = *state;
	struct env other;
	struct gpamap_region *c;

	env_init(&other);
	c = MAKE(&other, .kind = GPAMAP_CONTAINER, .name = "foreign", .size = PAGE);
	REFUSE(e, -EINVAL, "no target", .kind = GPAMAP_ALIAS, .size = PAGE);
	REFUSE(e, -EXDEV, "'foreign' belongs to another map", .kind = GPAMAP_ALIAS, .size = PAGE,
	       .target = c);
	put(c);
	env_destroy(&other);

	c = MAKE(e, .kind = GPAMAP_CONTAINER, .size = PAGE);
	REFUSE(e, -EINVAL, "0x10", .kind = GPAMAP_ALIAS, .size = PAGE, .target = c,
	       .target_offset = 0x10);
	REFUSE(e, -EOVERFLOW, "beyond 2^64", .kind = GPAMAP_ALIAS, .size = 2 * PAGE, .target = c,
	       .target_offset = 0 - PAGE);
	REFUSE(e, -EOVERFLOW, "beyond 2^64", .kind = GPAMAP_ALIAS, .size = GPAMAP_SIZE_MAX,
	       .target = c, .target_offset = PAGE);
	/* A window may reach beyond its target: nothing is there. */
	put(MAKE(e, .kind = GPAMAP_ALIAS, .size = 4 * PAGE, .target = c));
	put(c);
}

static void takes_what_is_said(void **state)
{
	struct env *e = *state;
	char name[] = "ram";
	struct gpamap_region *r =
		MAKE(e, .kind = GPAMAP_RAM, .name = name, .size = PAGE, .max_size = 4 * PAGE,
		     .hva = hva, .flags = GPAMAP_UNMERGEABLE | GPAMAP_GUEST_MEMFD, .guest_memfd = 5,
		     .guest_memfd_offset = PAGE);
	struct gpamap_region *d = MAKE(e, .kind = GPAMAP_ROM_DEVICE, .size = PAGE, .hva = hva,
				       .flags = GPAMAP_READONLY);

	name[0] = '\0';
	assert_string_equal(r->name, "ram");
	assert_true(r->unmergeable && r->guest_memfd && r->resizable && r->now.enabled);
	assert_false(r->now.readonly || r->now.log || r->now.rom_mode);
	assert_int_equal(r->max_size, 4 * PAGE);
	assert_int_equal(r->gmem_fd, 5);
	assert_true(d->now.rom_mode && d->now.readonly && !d->resizable);
	/* Nobody has to ask whether a device has callbacks. */
	assert_non_null(d->ops);
	assert_null(d->ops->read);
	assert_true(r->serial && d->serial && r->serial != d->serial);
	put(r);
	put(d);
}

/* --------------------------------------------------------------------------------- life --- */

static int released[16];
static unsigned nr_released;

static void on_release(void *opaque)
{
	released[nr_released++] = *(int *)opaque;
}

static int numbers[] = {0, 1, 2, 3, 4, 5};

static struct gpamap_region *numbered(struct env *e, enum gpamap_kind kind, int n,
				      struct gpamap_region *target)
{
	return MAKE(e, .kind = kind, .size = PAGE, .hva = kind == GPAMAP_RAM ? hva : NULL,
		    .target = target, .opaque = &numbers[n], .release = on_release);
}

static void expect_released(struct env *e, unsigned n, ...)
{
	va_list ap;

	nr_released = 0;
	assert_int_equal(reap(e), n);
	assert_int_equal(nr_released, n);
	va_start(ap, n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(released[i], va_arg(ap, int));
	va_end(ap);
}

static void dies_with_its_last_reference(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = numbered(e, GPAMAP_RAM, 1, NULL);

	gm_region_ref(r);
	put(r);
	expect_released(e, 0);
	put(r);
	expect_released(e, 1, 1);
	expect_released(e, 0);
}

static void those_that_die_first_are_released_first(void **state)
{
	struct env *e = *state;
	struct gpamap_region *ram = numbered(e, GPAMAP_RAM, 1, NULL);
	struct gpamap_region *alias = numbered(e, GPAMAP_ALIAS, 2, ram);
	struct gpamap_region *box = numbered(e, GPAMAP_CONTAINER, 3, NULL);
	struct gpamap_region *other = numbered(e, GPAMAP_RAM, 4, NULL);

	ok(e, gm_edit_add(&e->map, box, 0, alias, 0, &e->msg));
	gm_edits_commit(&e->map);
	put(ram);
	put(alias);
	expect_released(e, 0);
	put(other);
	put(box);
	/* The container held the alias, and that its target. */
	expect_released(e, 4, 4, 3, 2, 1);
}

static void lives_as_long_as_it_has_a_place(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = numbered(e, GPAMAP_RAM, 1, NULL);

	ok(e, gm_edit_add(&e->map, root(e, 0), PAGE, r, 0, &e->msg));
	commit(e);
	put(r);
	expect_released(e, 0);
	ok(e, gm_edit_remove(&e->map, r, &e->msg));
	gm_edits_abort(&e->map);
	expect_released(e, 0);
	ok(e, gm_edit_remove(&e->map, r, &e->msg));
	ok(e, flatten_windows(e, 0));
	gm_edits_commit(&e->map);
	/* The old view still shows it. */
	expect_released(e, 0);
	end_view(&e->view[0]);
	expect_released(e, 1, 1);
}

static void aborted_places_hold_nothing(void **state)
{
	struct env *e = *state;
	struct gpamap_region *box = numbered(e, GPAMAP_CONTAINER, 1, NULL);
	struct gpamap_region *r = numbered(e, GPAMAP_RAM, 2, NULL);

	ok(e, gm_edit_add(&e->map, root(e, 0), 0, box, 0, &e->msg));
	ok(e, gm_edit_add(&e->map, box, 0, r, 0, &e->msg));
	put(box);
	put(r);
	expect_released(e, 0);
	gm_edits_abort(&e->map);
	nr_released = 0;
	assert_int_equal(reap(e), 2);
	assert_int_equal(nr_released, 2);
}

static void children_of_the_dead_have_no_place(void **state)
{
	struct env *e = *state;
	struct gpamap_region *box = numbered(e, GPAMAP_CONTAINER, 1, NULL);
	struct gpamap_region *r = numbered(e, GPAMAP_RAM, 2, NULL);

	ok(e, gm_edit_add(&e->map, box, 0, r, 0, &e->msg));
	gm_edits_commit(&e->map);
	/* Edited while its container dies; going back must not bring the place back. */
	ok(e, gm_edit_readonly(&e->map, r, true, &e->msg));
	put(box);
	expect_released(e, 1, 1);
	assert_null(r->now.parent);
	gm_edits_abort(&e->map);
	assert_null(r->now.parent);
	assert_false(r->now.readonly);
	ok(e, gm_edit_add(&e->map, root(e, 0), 0, r, 0, &e->msg));
	commit(e);
	put(r);
}

static void a_container_that_is_dead_but_not_reaped_is_no_place(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = numbered(e, GPAMAP_RAM, 2, NULL);

	for (int i = 0; i < 4; i++) {
		struct gpamap_region *box = numbered(e, GPAMAP_CONTAINER, 1, NULL);

		ok(e, gm_edit_add(&e->map, box, 0, r, 0, &e->msg));
		gm_edits_commit(&e->map);
		put(box);
		if (i == 0)
			ok(e, gm_edit_add(&e->map, root(e, 0), 0, r, 0, &e->msg));
		else if (i == 1)
			assert_int_equal(gm_edit_remove(&e->map, r, &e->msg), -ENOENT);
		else if (i == 2)
			assert_int_equal(gm_edit_move(&e->map, r, PAGE, &e->msg), -ENOENT);
		else
			assert_int_equal(gm_edit_priority(&e->map, r, 1, &e->msg), -ENOENT);
		gm_edits_abort(&e->map);
		expect_released(e, 1, 1);
	}
	put(r);
}

static void aliases_leave_their_target(void **state)
{
	struct env *e = *state;
	struct gpamap_region *ram = numbered(e, GPAMAP_RAM, 0, NULL);
	struct gpamap_region *a[3];

	for (int i = 0; i < 3; i++)
		a[i] = numbered(e, GPAMAP_ALIAS, 1 + i, ram);
	put(a[1]);
	expect_released(e, 1, 2);
	assert_ptr_equal(ram->aliases, a[2]);
	assert_ptr_equal(a[2]->next_alias, a[0]);
	put(a[2]);
	expect_released(e, 1, 3);
	put(a[0]);
	expect_released(e, 1, 1);
	assert_null(ram->aliases);
	put(ram);
}

static void handles_outlive_the_map(void **state)
{
	struct env e;
	struct gpamap_region *box, *ram, *alias;

	(void)state;
	env_init(&e);
	box = numbered(&e, GPAMAP_CONTAINER, 1, NULL);
	ram = numbered(&e, GPAMAP_RAM, 2, NULL);
	alias = numbered(&e, GPAMAP_ALIAS, 3, root(&e, 1));
	ok(&e, gm_edit_add(&e.map, root(&e, 0), 0, box, 0, &e.msg));
	ok(&e, gm_edit_add(&e.map, box, 0, alias, 0, &e.msg));
	ok(&e, gm_ranges_map_region(&e.map, 1, 0, PAGE, ram, 0, GPAMAP_RW, &e.msg));
	ok(&e, gm_ranges_map(&e.map, 0, 0, PAGE, hva, GPAMAP_RW, &e.msg));
	commit(&e);
	put(alias);
	for (unsigned i = 0; i < SPACES; i++)
		gm_tree_destroy(&e.view[i]);
	gm_map_destroy(&e.map);
	/* The root of space 0, and the internal region. That of space 1 is held by the alias. */
	nr_released = 0;
	assert_int_equal(reap(&e), 2);
	assert_int_equal(nr_released, 0);
	put(ram);
	expect_released(&e, 1, 2);
	put(box);
	nr_released = 0;
	assert_int_equal(reap(&e), 3);
	assert_int_equal(nr_released, 2);
	assert_int_equal(e.mem.live, 0);
}

static void an_open_transaction_dies_with_the_map(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = numbered(e, GPAMAP_RAM, 1, NULL);

	ok(e, gm_edit_add(&e->map, root(e, 0), 0, r, 0, &e->msg));
	ok(e, gm_ranges_map_region(&e->map, 1, 0, PAGE, r, 0, GPAMAP_RW, &e->msg));
	put(r);
}

static void every_allocation_may_fail(void **state)
{
	struct env e;
	struct gm_map map;
	struct gpamap_region *r;
	size_t n = 1;

	(void)state;
	env_init(&e);
	for (; n < 100; n++) {
		size_t live = e.mem.live;
		int err;

		fail_nth(&e, n);
		err = gm_map_init(&map, &e.alloc, 3, PAGE);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		assert_int_equal(e.mem.live, live);
	}
	assert_in_range(n, 5, 20);
	fail_nth(&e, 0);
	gm_map_destroy(&map);
	for (r = gm_map_reap(&map); r;) {
		struct gpamap_region *next = r->next_dead;

		gm_region_release(&e.alloc, r);
		r = next;
	}
	for (n = 1; n < 3; n++) {
		fail_nth(&e, n);
		REFUSE(&e, -ENOMEM, "no memory for region 'r'", .kind = GPAMAP_MMIO, .name = "r",
		       .size = 1);
	}
	fail_nth(&e, 0);
	env_destroy(&e);
}

/* ------------------------------------------------------------------------------ threads --- */

#define THREADS 4
#define REGIONS 2000

static struct gpamap_region *shared[REGIONS];

/* Each has a reference on each region, and takes and gives more. */
static void *put_all(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < REGIONS; i++) {
		gm_region_ref(shared[i]);
		put(shared[i]);
		put(shared[i]);
	}
	return NULL;
}

static void count_release(void *opaque)
{
	++*(unsigned *)opaque;
}

/* References go on any thread, while another one reaps. */
static void any_thread_may_put(void **state)
{
	struct env *e = *state;
	pthread_t threads[THREADS];
	unsigned times[REGIONS] = {0};
	size_t n = 0;

	for (unsigned i = 0; i < REGIONS; i++) {
		shared[i] = MAKE(e, .kind = GPAMAP_MMIO, .size = 1, .opaque = &times[i],
				 .release = count_release);
		for (unsigned k = 1; k < THREADS; k++)
			gm_region_ref(shared[i]);
	}
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, put_all, NULL), 0);
	while (n < REGIONS) {
		n += reap(e);
		sched_yield();
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(reap(e), 0);
	for (unsigned i = 0; i < REGIONS; i++)
		assert_int_equal(times[i], 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(refuses_kinds_and_flags),
		TEST(refuses_fields_of_other_kinds),
		TEST(refuses_sizes),
		TEST(refuses_memory),
		TEST(refuses_windows),
		TEST(takes_what_is_said),
		TEST(dies_with_its_last_reference),
		TEST(those_that_die_first_are_released_first),
		TEST(lives_as_long_as_it_has_a_place),
		TEST(aborted_places_hold_nothing),
		TEST(children_of_the_dead_have_no_place),
		TEST(a_container_that_is_dead_but_not_reaped_is_no_place),
		TEST(aliases_leave_their_target),
		TEST(any_thread_may_put),
		TEST(an_open_transaction_dies_with_the_map),
		cmocka_unit_test(handles_outlive_the_map),
		cmocka_unit_test(every_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
