/* SPDX-License-Identifier: BSD-3-Clause */
/* Listeners: who is called, in which order, with how much time; and who is told when one of them fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "../base/counting.h"
#include "ops/change.h"
#include "ops/listener.h"
#include "sync/gate.h"

#define MAX 5
#define SECOND UINT64_C(1000000000)

struct actor {
	char id;
	int refuses;	 /* what prepare answers */
	int fails;	 /* what quiesce answers */
	uint64_t lasts;	 /* quiesce takes so long, in ns; or all of its share: UINT64_MAX */
	uint64_t called; /* when quiesce was */
	uint64_t deadline;
	struct gpamap_listener *l;
};

static struct counting count;
static struct gm_listeners listeners;
static struct gpamap_change *change;
static struct actor actors[MAX];
static unsigned nr_actors;
static char said[256];

static void say(const char *what, const struct actor *a)
{
	size_t at = strlen(said);

	snprintf(said + at, sizeof(said) - at, "%s%s%c", at ? " " : "", what, a->id);
}

/* What has been called since the last time. */
static void expect(const char *calls)
{
	assert_string_equal(said, calls);
	said[0] = '\0';
}

static int prepare(void *opaque, const struct gpamap_change *c)
{
	struct actor *a = opaque;

	assert_ptr_equal(c, change);
	say("p", a);
	return a->refuses;
}

static void sleep_until(uint64_t ns)
{
	struct timespec at = {(time_t)(ns / SECOND), (long)(ns % SECOND)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL))
		;
}

static int quiesce(void *opaque, uint64_t deadline_ns)
{
	struct actor *a = opaque;

	a->called = gm_now_ns();
	a->deadline = deadline_ns;
	say("q", a);
	if (a->lasts)
		sleep_until(a->lasts == UINT64_MAX ? deadline_ns : a->called + a->lasts);
	return a->fails;
}

static void resume(void *opaque, bool changed)
{
	say(changed ? "+" : "-", opaque);
}

static void applied(void *opaque, const struct gpamap_change *c)
{
	assert_ptr_equal(c, change);
	say("a", opaque);
}

static void cancelled(void *opaque)
{
	say("c", opaque);
}

static struct gpamap_listener *add(struct gpamap_listener_desc desc)
{
	struct gpamap_listener *l;

	assert_int_equal(gm_listener_new(NULL, &desc, &count.alloc, &l), 0);
	gm_listeners_insert(&listeners, l);
	return l;
}

static struct actor *act(char id, int priority)
{
	struct actor *a = &actors[nr_actors++];
	char name[] = {id, '\0'};

	*a = (struct actor){.id = id};
	a->l = add((struct gpamap_listener_desc){
		.name = name,
		.priority = priority,
		.opaque = a,
		.prepare = prepare,
		.quiesce = quiesce,
		.resume = resume,
		.applied = applied,
		.cancelled = cancelled,
	});
	return a;
}

static int setup(void **state)
{
	(void)state;
	counting_init(&count);
	listeners = (struct gm_listeners){0};
	change = gm_change_new(&count.alloc, 1);
	assert_non_null(change);
	nr_actors = 0;
	said[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	gm_change_free(change);
	while (listeners.first) {
		struct gpamap_listener *l = listeners.first;

		gm_listeners_unlink(&listeners, l);
		gm_free(&count.alloc, l);
	}
	assert_null(listeners.last);
	assert_int_equal(count.live, 0);
	return 0;
}

static int ask(void)
{
	const struct gpamap_listener *who = NULL;
	int err = gm_listeners_prepare(&listeners, change, &who);

	assert_int_equal(!err, !who);
	return err;
}

static int hold(uint64_t deadline)
{
	const struct gpamap_listener *who = NULL;
	int err = gm_listeners_quiesce(&listeners, deadline, &who);

	assert_int_equal(!err, !who);
	if (who)
		assert_ptr_equal(((struct actor *)who->desc.opaque)->l, who);
	return err;
}

static void one_round(const char *order, const char *back)
{
	char want[256] = "";
	size_t n = strlen(order);
	static const char *const on[] = {"p", "q"}, *const off[] = {"+", "a"};

	assert_int_equal(ask(), 0);
	assert_int_equal(hold(gm_now_ns() + SECOND), 0);
	gm_listeners_resume(&listeners, true);
	gm_listeners_applied(&listeners, change);
	for (unsigned i = 0; i < 4; i++) {
		for (size_t j = 0; j < n; j++) {
			size_t at = strlen(want);

			snprintf(want + at, sizeof(want) - at, "%s%s%c", at ? " " : "",
				 i < 2 ? on[i] : off[i - 2], (i < 2 ? order : back)[j]);
		}
	}
	expect(want);
}

/* ------------------------------------------------------------------------------- order --- */

static void by_priority_then_age(void **state)
{
	struct actor *a, *c;

	(void)state;
	c = act('c', 10);
	a = act('a', -10);
	act('b', 0);
	act('B', 0);
	act('z', 10);
	one_round("abBcz", "zcBba");
	gm_listeners_unlink(&listeners, c->l);
	one_round("abBz", "zBba");
	gm_listeners_unlink(&listeners, a->l);
	one_round("bBz", "zBb");
	/* Both come back as the newest of their priority. */
	gm_listeners_insert(&listeners, c->l);
	gm_listeners_insert(&listeners, a->l);
	one_round("abBzc", "czBba");
}

static void extreme_priorities(void **state)
{
	(void)state;
	act('m', 0);
	act('h', INT32_MAX);
	act('l', INT32_MIN);
	one_round("lmh", "hml");
}

static void callbacks_are_optional(void **state)
{
	(void)state;
	act('a', 0);
	add((struct gpamap_listener_desc){.name = "nothing"});
	act('b', 0);
	one_round("ab", "ba");
	add((struct gpamap_listener_desc){
		.name = "some", .opaque = &actors[0], .applied = applied, .cancelled = cancelled});
	assert_int_equal(ask(), 0);
	expect("pa pb");
	gm_listeners_cancelled(&listeners);
	expect("ca cb ca");
}

static void name_is_copied(void **state)
{
	char name[] = "vhost";
	struct gpamap_listener *l;

	(void)state;
	l = add((struct gpamap_listener_desc){.name = name});
	name[0] = 'g';
	assert_string_equal(l->name, "vhost");
	assert_ptr_equal(l->desc.name, l->name);
}

static void no_memory(void **state)
{
	struct gpamap_listener_desc desc = {.name = "x"};
	struct gpamap_listener *l = NULL;

	(void)state;
	counting_fail(&count, 1, false);
	assert_int_equal(gm_listener_new(NULL, &desc, &count.alloc, &l), -ENOMEM);
	assert_null(l);
	counting_fail(&count, 0, false);
}

/* ----------------------------------------------------------------------------- refusal --- */

static void veto(void **state)
{
	static const char *const calls[] = {"pa", "pa pb ca", "pa pb pc cb ca"};

	(void)state;
	act('a', 1);
	act('b', 2);
	act('c', 3);
	for (unsigned i = 0; i < 3; i++) {
		actors[i].refuses = -EPERM;
		assert_int_equal(ask(), -EPERM);
		expect(calls[i]);
		/* They have been told already. */
		gm_listeners_cancelled(&listeners);
		expect("");
		actors[i].refuses = 0;
	}
	one_round("abc", "cba");
	/* Neither more than once. */
	gm_listeners_applied(&listeners, change);
	gm_listeners_cancelled(&listeners);
	gm_listeners_resume(&listeners, true);
	expect("");
}

/* A listener that answers with a positive errno has refused all the same. */
static void never_positive(void **state)
{
	struct actor *a = act('a', 0);

	(void)state;
	a->refuses = EPERM;
	assert_int_equal(ask(), -EINVAL);
	a->refuses = 0;
	a->fails = EPERM;
	assert_int_equal(hold(gm_now_ns() + SECOND), -EINVAL);
	expect("pa qa");
}

static void quiesce_fails(void **state)
{
	static const char *const calls[] = {"qa", "qa qb", "qa qb qc"};
	static const char *const undone[] = {"", "-a", "-b -a"};

	(void)state;
	act('a', 1);
	act('b', 2);
	act('c', 3);
	for (unsigned i = 0; i < 3; i++) {
		actors[i].fails = -EIO;
		assert_int_equal(ask(), 0);
		expect("pa pb pc");
		assert_int_equal(hold(gm_now_ns() + SECOND), -EIO);
		expect(calls[i]);
		gm_listeners_resume(&listeners, false);
		expect(undone[i]);
		gm_listeners_cancelled(&listeners);
		expect("cc cb ca");
		actors[i].fails = 0;
	}
	one_round("abc", "cba");
}

/* Who has quiesced stays so, and who has not is asked again. */
static void again_where_it_failed(void **state)
{
	(void)state;
	act('a', 1);
	act('b', 2);
	act('c', 3);
	actors[1].fails = -ETIMEDOUT;
	assert_int_equal(hold(gm_now_ns() + SECOND), -ETIMEDOUT);
	expect("qa qb");
	assert_int_equal(hold(gm_now_ns() + SECOND), -ETIMEDOUT);
	expect("qb");
	actors[1].fails = 0;
	assert_int_equal(hold(gm_now_ns() + SECOND), 0);
	expect("qb qc");
	assert_int_equal(hold(gm_now_ns() + SECOND), 0);
	expect("");
	gm_listeners_resume(&listeners, true);
	expect("+c +b +a");
}

/* ------------------------------------------------------------------------------ shares --- */

/* Of what is left when its turn comes each gets an equal part with those that come after it. */
static void check_shares(uint64_t begun, uint64_t deadline)
{
	uint64_t earliest = begun;

	for (unsigned i = 0; i < nr_actors; i++) {
		const struct actor *a = &actors[i];
		uint64_t left = nr_actors - i;

		/* It was worked out between the end of the one before and the call. */
		assert_true(a->deadline >= earliest + (deadline - earliest) / left);
		assert_true(a->deadline <= a->called + (deadline - a->called) / left);
		assert_true(a->deadline <= deadline);
		earliest = a->called;
	}
	assert_int_equal(actors[nr_actors - 1].deadline, deadline);
}

static void equal_shares(void **state)
{
	uint64_t begun, deadline;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		act((char)('a' + i), 0);
	begun = gm_now_ns();
	deadline = begun + 1000 * SECOND;
	assert_int_equal(hold(deadline), 0);
	check_shares(begun, deadline);
	gm_listeners_resume(&listeners, false);
	/* What the first takes less, or more, is shared by the others. */
	actors[0].lasts = SECOND / 20;
	actors[2].lasts = SECOND / 50;
	begun = gm_now_ns();
	deadline = begun + 1000 * SECOND;
	assert_int_equal(hold(deadline), 0);
	check_shares(begun, deadline);
	assert_true(actors[1].called >= begun + SECOND / 20);
}

/* One that takes all of its time leaves the others theirs. */
static void greedy(void **state)
{
	uint64_t begun = gm_now_ns(), deadline = begun + SECOND / 5;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		act((char)('a' + i), 0)->lasts = i < 2 ? UINT64_MAX : 0;
	assert_int_equal(hold(deadline), 0);
	assert_true(actors[0].deadline <= actors[0].called + SECOND / 5 / 4);
	for (unsigned i = 1; i < 4; i++)
		assert_true(actors[i].deadline >= actors[i - 1].deadline);
	assert_int_equal(said[strlen(said) - 1], 'd');
}

/* Those that need no time, or have done it already, leave theirs to the rest. */
static void only_who_is_due(void **state)
{
	uint64_t begun, deadline;

	(void)state;
	add((struct gpamap_listener_desc){.name = "no quiesce", .priority = -1});
	act('a', 0);
	act('b', 0);
	add((struct gpamap_listener_desc){.name = "no quiesce", .priority = 1});
	begun = gm_now_ns();
	deadline = begun + 1000 * SECOND;
	assert_int_equal(hold(deadline), 0);
	check_shares(begun, deadline);
	gm_listeners_resume(&listeners, false);
	actors[1].fails = -EIO;
	assert_int_equal(hold(deadline), -EIO);
	actors[1].fails = 0;
	assert_int_equal(hold(deadline), 0);
	assert_int_equal(actors[1].deadline, deadline);
}

/* They are called, for they may need no time. */
static void too_late(void **state)
{
	(void)state;
	act('a', 0);
	act('b', 0);
	assert_int_equal(hold(gm_now_ns() - SECOND), 0);
	expect("qa qb");
	for (unsigned i = 0; i < 2; i++)
		assert_true(actors[i].deadline <= actors[i].called);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(by_priority_then_age, setup, teardown),
		cmocka_unit_test_setup_teardown(extreme_priorities, setup, teardown),
		cmocka_unit_test_setup_teardown(callbacks_are_optional, setup, teardown),
		cmocka_unit_test_setup_teardown(name_is_copied, setup, teardown),
		cmocka_unit_test_setup_teardown(no_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(veto, setup, teardown),
		cmocka_unit_test_setup_teardown(never_positive, setup, teardown),
		cmocka_unit_test_setup_teardown(quiesce_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(again_where_it_failed, setup, teardown),
		cmocka_unit_test_setup_teardown(equal_shares, setup, teardown),
		cmocka_unit_test_setup_teardown(greedy, setup, teardown),
		cmocka_unit_test_setup_teardown(only_who_is_due, setup, teardown),
		cmocka_unit_test_setup_teardown(too_late, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
