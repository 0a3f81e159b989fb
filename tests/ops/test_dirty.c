/* SPDX-License-Identifier: BSD-3-Clause */
/* Dirty bits of a region against an array of pages. */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../base/counting.h"
#include "ops/dirty.h"

#define PAGE UINT64_C(4096)
#define NR_PAGES 300
#define NR_WORDS (NR_PAGES / 64 + 1)

/* A region that logs. One word more at each end, to see what goes astray. */
struct env {
	struct gpamap_region region;
	_Atomic(uint64_t) bits[NR_WORDS + 2];
};

static void setup(struct env *e)
{
	memset(e, 0, sizeof(*e));
	e->region.kind = GPAMAP_RAM;
	e->region.max_size = NR_PAGES * PAGE;
	e->region.dirty = e->bits + 1;
}

static void check_bits(struct env *e, const bool *dirty)
{
	assert_int_equal(atomic_load(&e->bits[0]), 0);
	assert_int_equal(atomic_load(&e->bits[NR_WORDS + 1]), 0);
	for (unsigned i = 0; i < NR_WORDS * 64; i++) {
		bool has = atomic_load(&e->bits[1 + i / 64]) >> i % 64 & 1;

		assert_int_equal(has, i < NR_PAGES && dirty[i]);
	}
}

/* ----------------------------------------------------------------------------- backend --- */

/* A backend whose slots have what the test says. */
struct fake {
	struct gm_backend b;
	uint64_t bitmap[NR_WORDS];
	size_t words;
	int err;
};

static int fake_dirty(struct gm_backend *b, const struct gm_slot *slot, uint64_t *bitmap)
{
	struct fake *f = (struct fake *)b;

	(void)slot;
	if (f->err)
		return f->err;
	memcpy(bitmap, f->bitmap, f->words * sizeof(*bitmap));
	return 0;
}

static void fake_init(struct fake *f)
{
	static const struct gm_backend_ops ops = {.dirty = fake_dirty};

	*f = (struct fake){.b = {.ops = &ops, .caps.limits.page_size = PAGE}};
}

static struct gm_slot slot_of(struct env *e, uint64_t first, uint64_t n)
{
	return (struct gm_slot){
		.gpa = {0x40000000, 0x40000000 + n * PAGE - 1},
		.region = &e->region,
		.offset = first * PAGE,
		.flags = GM_SLOT_LOG,
	};
}

static void words(void **state)
{
	struct env e;

	(void)state;
	for (uint64_t n = 1; n < 200; n++) {
		struct gm_slot slot = slot_of(&e, 0, n);

		assert_int_equal(gm_dirty_words(&slot, PAGE), (n + 63) / 64);
		slot.gpa.last = slot.gpa.first + n * 65536 - 1;
		assert_int_equal(gm_dirty_words(&slot, 65536), (n + 63) / 64);
	}
}

static void harvest_fails(void **state)
{
	bool none[NR_PAGES] = {0};
	uint64_t scratch[NR_WORDS];
	struct fake f;
	struct env e;
	struct gm_slot slot;

	(void)state;
	setup(&e);
	fake_init(&f);
	f.err = -ENOENT;
	slot = slot_of(&e, 3, 100);
	assert_int_equal(gm_dirty_harvest(&f.b, &slot, scratch), -ENOENT);
	check_bits(&e, none);
}

/* -------------------------------------------------------------------------------- random --- */

/* A part of the pages. */
static void random_part(uint64_t *first, uint64_t *n)
{
	*first = random_below(NR_PAGES);
	*n = 1 + random_below(NR_PAGES - *first);
	if (*n > 70 && random_below(2))
		*n %= 70;
	*n += *n == 0;
}

static void harvest(struct env *e, bool *dirty)
{
	uint64_t scratch[NR_WORDS + 1], first, n;
	struct gm_slot slot;
	struct fake f;

	random_part(&first, &n);
	slot = slot_of(e, first, n);
	fake_init(&f);
	f.words = gm_dirty_words(&slot, PAGE);
	/* A kernel may leave anything beyond the last page; so does this one. */
	for (size_t i = 0; i < f.words; i++)
		f.bitmap[i] = random_next() & random_next();
	for (uint64_t i = 0; i < n; i++)
		dirty[first + i] |= f.bitmap[i / 64] >> i % 64 & 1;
	scratch[f.words] = 0xabcd;
	assert_int_equal(gm_dirty_harvest(&f.b, &slot, scratch), 0);
	assert_int_equal(scratch[f.words], 0xabcd);
}

static void mark(struct env *e, bool *dirty)
{
	uint64_t first, n, begin, end;

	random_part(&first, &n);
	begin = first * PAGE + random_below(PAGE);
	end = (first + n) * PAGE - random_below(PAGE);
	if (begin >= end)
		end = begin + 1;
	gm_dirty_mark(&e->region, PAGE, begin, end - begin);
	for (uint64_t i = begin / PAGE; i <= (end - 1) / PAGE; i++)
		dirty[i] = true;
}

static void take(struct env *e, bool *dirty)
{
	uint64_t bitmap[NR_WORDS + 1], first, n, nr_words;

	random_part(&first, &n);
	nr_words = (n + 63) / 64;
	for (uint64_t i = 0; i <= nr_words; i++)
		bitmap[i] = random_next();
	bitmap[nr_words] = 0x1234;
	gm_dirty_take(&e->region, first, n, bitmap);
	assert_int_equal(bitmap[nr_words], 0x1234);
	for (uint64_t i = 0; i < nr_words * 64; i++) {
		bool has = bitmap[i / 64] >> i % 64 & 1;

		assert_int_equal(has, i < n && dirty[first + i]);
		if (i < n)
			dirty[first + i] = false;
	}
}

static void random_steps(void **state)
{
	bool dirty[NR_PAGES] = {0};
	struct env e;

	(void)state;
	setup(&e);
	for (unsigned step = 0; step < 20000; step++) {
		switch (random_below(4)) {
		case 0:
			harvest(&e, dirty);
			break;
		case 1:
			mark(&e, dirty);
			break;
		default:
			take(&e, dirty);
		}
		check_bits(&e, dirty);
	}
	gm_dirty_mark(&e.region, PAGE, 0, NR_PAGES * PAGE);
	gm_dirty_clear(&e.region, PAGE);
	memset(dirty, 0, sizeof(dirty));
	check_bits(&e, dirty);
}

/* A region without bits, and a range without bytes. */
static void nothing(void **state)
{
	uint64_t bitmap[2] = {1, 2}, scratch[1];
	bool none[NR_PAGES] = {0};
	struct gm_slot slot;
	struct fake f;
	struct env e;

	(void)state;
	setup(&e);
	gm_dirty_mark(&e.region, PAGE, 5 * PAGE + 1, 0);
	check_bits(&e, none);
	e.region.dirty = NULL;
	gm_dirty_mark(&e.region, PAGE, 5 * PAGE, PAGE);
	gm_dirty_clear(&e.region, PAGE);
	gm_dirty_take(&e.region, 3, 65, bitmap);
	assert_int_equal(bitmap[0] | bitmap[1], 0);
	fake_init(&f);
	f.words = 1;
	f.bitmap[0] = 3;
	slot = slot_of(&e, 0, 64);
	assert_int_equal(gm_dirty_harvest(&f.b, &slot, scratch), 0);
	check_bits(&e, none);
}

/* --------------------------------------------------------------------------------- threads --- */

#define NR_WRITES 100000

/* One writes to pages and marks them; the other takes bits and reads the pages. */
struct race {
	struct env env;
	_Atomic(uint64_t) page[NR_PAGES];
	_Atomic(bool) end;
};

static void *writer(void *arg)
{
	struct race *r = arg;
	uint64_t x = 1;

	for (unsigned i = 1; i <= NR_WRITES; i++) {
		uint64_t page;

		x = x * 6364136223846793005 + 1442695040888963407;
		page = (x >> 33) % NR_PAGES;
		atomic_store_explicit(&r->page[page], i, memory_order_relaxed);
		gm_dirty_mark(&r->env.region, PAGE, page * PAGE + i % PAGE, 1);
	}
	atomic_store(&r->end, true);
	return NULL;
}

static void fetch(struct race *r, uint64_t *seen)
{
	uint64_t bitmap[NR_WORDS];
	const uint64_t first = 7;

	for (int part = 0; part < 2; part++) {
		uint64_t at = part ? first : 0, n = part ? NR_PAGES - first : first;

		gm_dirty_take(&r->env.region, at, n, bitmap);
		for (uint64_t i = 0; i < n; i++) {
			if (bitmap[i / 64] >> i % 64 & 1)
				seen[at + i] = atomic_load_explicit(&r->page[at + i],
								    memory_order_relaxed);
		}
	}
}

/* P4: what a page has last is seen by the one who fetches, however the two meet. */
static void no_write_is_missed(void **state)
{
	static uint64_t seen[NR_PAGES];
	static struct race r;
	pthread_t thread;

	(void)state;
	setup(&r.env);
	assert_int_equal(pthread_create(&thread, NULL, writer, &r), 0);
	while (!atomic_load(&r.end))
		fetch(&r, seen);
	pthread_join(thread, NULL);
	fetch(&r, seen);
	for (unsigned i = 0; i < NR_PAGES; i++)
		assert_int_equal(seen[i], atomic_load(&r.page[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
		cmocka_unit_test(harvest_fails),
		cmocka_unit_test(random_steps),
		cmocka_unit_test(nothing),
		cmocka_unit_test(no_write_is_missed),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
