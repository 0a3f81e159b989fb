/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What passing the gate reads and writes (P8): nothing is written but the first cache line of the vCPU's own
 * pass, and that line is shared with nobody who passes.
 */
#include "gate_actors.h"

#include <stdio.h>
#include <string.h>

#define LINE(type, field) (offsetof(type, field) / GM_CACHE_LINE)
#define END_LINE(type, field) \
	((offsetof(type, field) + sizeof(((type *)0)->field) - 1) / GM_CACHE_LINE)

/* What passing touches of a pass is in one line, and what the inhibitor alone uses in another. */
static void lines_of_a_pass(void **state)
{
	(void)state;
	assert_int_equal(_Alignof(struct gm_pass) % GM_CACHE_LINE, 0);
	assert_int_equal(sizeof(struct gm_pass) % GM_CACHE_LINE, 0);
	assert_int_equal(LINE(struct gm_pass, busy), 0);
	assert_int_equal(END_LINE(struct gm_pass, kicked), 0);
	assert_int_equal(END_LINE(struct gm_pass, fenced), 0);
	assert_int_equal(END_LINE(struct gm_pass, owner), 0);
	assert_int_equal(END_LINE(struct gm_pass, gate), 0);
	assert_int_equal(END_LINE(struct gm_pass, immediate_exit), 0);
	assert_true(LINE(struct gm_pass, next) > 0);
	assert_true(LINE(struct gm_pass, prev) > 0);
	assert_true(LINE(struct gm_pass, round) > 0);
	assert_true(LINE(struct gm_pass, owed) > 0);
}

/* The line that all read is not one that anybody writes while the gate is open. */
static void lines_of_the_gate(void **state)
{
	size_t read = LINE(struct gm_gate, shut);

	(void)state;
	assert_int_equal(LINE(struct gm_gate, membarrier), read);
	assert_int_not_equal(LINE(struct gm_gate, left), read);
	assert_int_not_equal(LINE(struct gm_gate, waiting), read);
	assert_int_not_equal(LINE(struct gm_gate, freed), read);
	assert_int_not_equal(LINE(struct gm_gate, lock), read);
	assert_int_not_equal(LINE(struct gm_gate, inhibitor), read);
	assert_int_not_equal(LINE(struct gm_gate, kicks), read);
	assert_int_not_equal(LINE(struct gm_gate, holders), read);
	/* Each holder has its own. */
	assert_int_equal(sizeof(struct gm_holder) % GM_CACHE_LINE, 0);
	assert_int_equal(offsetof(struct gm_gate, holders) % GM_CACHE_LINE, 0);
}

/* As bytes: the test is about what is written, whatever it means. */
static bool differs(const void *a, const void *b, size_t from, size_t size)
{
	return memcmp((const char *)a + from, (const char *)b + from, size - from) != 0;
}

static void what_is_written(void **state)
{
	static struct gm_gate gate, gate_before;
	static struct gm_pass pass, pass_before, other, other_before;

	(void)state;
	assert_int_equal(gm_gate_init(&gate, 0, false), 0);
	if (!gate.membarrier)
		puts("no membarrier(2) here: full fences, in the same lines");
	gm_pass_init(&pass, &gate, 0, NULL);
	gm_pass_init(&other, &gate, 1, NULL);
	/* The first time binds it to the thread. */
	assert_int_equal(gm_pass_enter(&pass), 0);
	gm_pass_leave(&pass);
	memcpy(&gate_before, &gate, sizeof(gate));
	memcpy(&pass_before, &pass, sizeof(pass));
	memcpy(&other_before, &other, sizeof(other));
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(gm_pass_enter(&pass), 0);
		assert_true(differs(&pass, &pass_before, 0, GM_CACHE_LINE));
		assert_false(differs(&pass, &pass_before, GM_CACHE_LINE, sizeof(pass)));
		assert_false(differs(&gate, &gate_before, 0, sizeof(gate)));
		assert_false(differs(&other, &other_before, 0, sizeof(other)));
		gm_pass_leave(&pass);
		assert_false(differs(&pass, &pass_before, 0, sizeof(pass)));
		assert_false(differs(&gate, &gate_before, 0, sizeof(gate)));
	}
	gm_pass_destroy(&pass);
	gm_pass_destroy(&other);
	gm_gate_destroy(&gate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_a_pass),
		cmocka_unit_test(lines_of_the_gate),
		cmocka_unit_test(what_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
