/* SPDX-License-Identifier: BSD-3-Clause */
/* Allocation, arrays that grow, and messages. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/msg.h"
#include "counting.h"

static void zeroed(void **state)
{
	struct counting c;
	unsigned char *p;

	(void)state;
	counting_init(&c);
	p = gm_calloc(&c.alloc, 13, 7);
	assert_non_null(p);
	for (unsigned i = 0; i < 13 * 7; i++)
		assert_int_equal(p[i], 0);
	gm_free(&c.alloc, p);
	gm_free(&c.alloc, NULL);
	assert_int_equal(c.live, 0);

	p = gm_calloc(&gm_alloc_default, 3, 100);
	assert_non_null(p);
	assert_int_equal(p[299], 0);
	gm_free(&gm_alloc_default, p);
}

static void *no_empty(void *opaque, size_t size)
{
	(void)opaque;
	return size ? malloc(size) : NULL;
}

static void none(void **state)
{
	const struct gm_alloc a = {no_empty, gm_alloc_default.free, NULL};
	struct counting c;
	void *p;

	(void)state;
	counting_init(&c);
	assert_null(gm_calloc(&c.alloc, SIZE_MAX / 2, 3));
	assert_null(gm_calloc(&c.alloc, 3, SIZE_MAX / 2));
	assert_int_equal(c.calls, 0);
	counting_fail(&c, 1, false);
	assert_null(gm_calloc(&c.alloc, 1, 1));
	/* 0 bytes are no failure. */
	p = gm_calloc(&a, 0, 8);
	assert_non_null(p);
	gm_free(&a, p);
}

static void aligned(void **state)
{
	struct counting c;

	(void)state;
	counting_init(&c);
	for (size_t align = 1; align <= 4096; align *= 2) {
		void *raw = NULL;
		unsigned char *p = gm_calloc_aligned(&c.alloc, 100, align, &raw);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % align, 0);
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(p[i], 0);
		gm_free(&c.alloc, raw);
	}
	counting_fail(&c, 1, false);
	assert_null(gm_calloc_aligned(&c.alloc, 1, 64, &(void *){NULL}));
	assert_int_equal(c.live, 0);
}

static void arrays(void **state)
{
	size_t room = 0, last_room;
	struct counting c;
	uint32_t *a = NULL;

	(void)state;
	counting_init(&c);
	assert_int_equal(gm_array_reserve(&c.alloc, (void **)&a, &room, 0, sizeof(*a)), 0);
	assert_null(a);
	for (uint32_t i = 0; i < 1000; i++) {
		assert_int_equal(gm_array_reserve(&c.alloc, (void **)&a, &room, i + 1, sizeof(*a)),
				 0);
		assert_true(room > i);
		a[i] = i;
	}
	/* Appending one by one allocates seldom, and each array goes when the next one stands. */
	assert_in_range(c.calls, 2, 12);
	assert_int_equal(c.live, 1);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(a[i], i);

	last_room = room;
	counting_fail(&c, 1, true);
	assert_int_equal(gm_array_reserve(&c.alloc, (void **)&a, &room, room + 1, sizeof(*a)),
			 -ENOMEM);
	assert_int_equal(room, last_room);
	assert_int_equal(a[999], 999);
	assert_int_equal(gm_array_reserve(&c.alloc, (void **)&a, &room, room, sizeof(*a)), 0);
	assert_int_equal(gm_array_reserve(&c.alloc, (void **)&a, &room, SIZE_MAX / sizeof(*a),
					  sizeof(*a)),
			 -ENOMEM);
	assert_int_equal(gm_array_reserve(&c.alloc, (void **)&a, &room, SIZE_MAX, sizeof(*a)),
			 -ENOMEM);
	/* There is memory for what is needed, though not for twice as much. */
	counting_fail(&c, 1, false);
	assert_int_equal(gm_array_reserve(&c.alloc, (void **)&a, &room, room + 1, sizeof(*a)), 0);
	assert_int_equal(room, last_room + 1);
	assert_int_equal(a[999], 999);
	gm_free(&c.alloc, a);
	assert_int_equal(c.live, 0);
}

static void messages(void **state)
{
	struct gm_msg msg;
	char longer[600];

	(void)state;
	assert_int_equal(gm_fail(NULL, -EINVAL, "nobody reads %d", 3), -EINVAL);
	assert_int_equal(gm_fail(&msg, -ENOENT, "slot %u of %s", 7u, "x"), -ENOENT);
	assert_string_equal(msg.text, "slot 7 of x");
	memset(longer, 'l', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(gm_fail(&msg, 0, "%s", longer), 0);
	assert_int_equal(strlen(msg.text), sizeof(msg.text) - 1);
}

static void explained(void **state)
{
	struct gm_msg msg = {""};

	(void)state;
	assert_int_equal(gm_explain(&msg, -ENOMEM), -ENOMEM);
	assert_string_equal(msg.text, strerror(ENOMEM));
	/* Who has said why already is not talked over. */
	gm_fail(&msg, -EINVAL, "too large");
	assert_int_equal(gm_explain(&msg, -EINVAL), -EINVAL);
	assert_string_equal(msg.text, "too large");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed),    cmocka_unit_test(none),   cmocka_unit_test(aligned),
		cmocka_unit_test(explained), cmocka_unit_test(arrays), cmocka_unit_test(messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
