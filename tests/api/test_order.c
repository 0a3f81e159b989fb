/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commits that fail at each step, while guests and accessors load and store on both sides of what changes, against the
 * one legal order (P1 to P3, P5): order.h has it.
 */
#include "order.h"

#include <time.h>

static struct {
	unsigned rounds;
	unsigned happened;
	unsigned failed;
	unsigned pending;
	unsigned broken;
	unsigned timeouts;
	uint64_t accesses;
	uint64_t old;
	uint64_t new;
	uint64_t new_for_a_while; /* of a commit that failed */
} seen;

static void count(const struct order *o)
{
	seen.rounds++;
	seen.happened += !o->err;
	seen.failed += o->err != 0;
	seen.pending += o->pending != 0;
	seen.broken += o->broken;
	seen.timeouts += o->err == -ETIMEDOUT;
	for (unsigned i = 0; i < WATCHERS; i++) {
		seen.accesses += atomic_load(&o->watcher[i].accesses);
		for (unsigned p = 0; p < o->nr_places; p++) {
			seen.old += o->watcher[i].met[p].n[OLD];
			seen.new += o->err ? 0 : o->watcher[i].met[p].n[NEW];
			seen.new_for_a_while += o->err ? o->watcher[i].met[p].n[NEW] : 0;
		}
	}
}

static void run(uint32_t which, const struct order_fault *f, unsigned flags)
{
	static struct order o;

	order_run(&o, which, f, flags);
	count(&o);
}

static void print(const char *name)
{
	printf("%s: %u rounds, %u happened, %u failed (%u timeouts), %u pending, %u broken; %llu "
	       "accesses, %llu met the old map, %llu the new, %llu what did not stay\n",
	       name, seen.rounds, seen.happened, seen.failed, seen.timeouts, seen.pending,
	       seen.broken, (unsigned long long)seen.accesses, (unsigned long long)seen.old,
	       (unsigned long long)seen.new, (unsigned long long)seen.new_for_a_while);
}

/* The nth call of each kind, as long as there is one. */
static void each_call(uint32_t which, unsigned flags, bool forever)
{
	static struct order o;
	struct order_fault f = {.kind = CALL, .forever = forever};

	for (int call = GPAMAP_SIM_CREATE; call <= GPAMAP_SIM_FLAGS; call++) {
		f.call = (enum gpamap_sim_call)call;
		for (f.nth = 1;; f.nth++) {
			order_run(&o, which, &f, flags);
			count(&o);
			if (!o.hit)
				break;
		}
	}
}

/* Each area alone, by turns with what overlaps, so that something is critical. */
static void each_change(void **state)
{
	static const enum fault_kind waits[] = {NO_FAULT, HELD, LEAVES_SLOWLY, VETO, NO_QUIESCE};

	(void)state;
	memset(&seen, 0, sizeof(seen));
	for (unsigned a = 0; a < AREAS; a++) {
		uint32_t which = 1u << a, with = which | 1u << (a == PROTECT ? REBACK : PROTECT);

		each_call(which, 0, false);
		if (!SLOW)
			each_call(with, a % 2 ? GPAMAP_COMMIT_ONE_INSTANT : 0, a % 3 == 0);
		for (size_t i = 0; i < ARRAY_SIZE(waits); i++) {
			struct order_fault f = {.kind = waits[i]};

			run((i + a) % 2 ? which : with, &f,
			    (i + a) % 3 ? 0 : GPAMAP_COMMIT_ONE_INSTANT);
		}
	}
	print("each change");
	assert_true(seen.happened > 0 && seen.failed > 0 && seen.timeouts > 0 && seen.pending > 0);
	assert_true(seen.old > 0 && seen.new > 0);
}

static void random_round(struct random *r)
{
	struct order_fault f = {.kind = (enum fault_kind)random_below(r, NO_QUIESCE + 1)};
	uint32_t which = 0;

	for (uint64_t n = 2 + random_below(r, 3); n; n--)
		which |= 1u << random_below(r, AREAS);
	if (random_below(r, 2))
		f.kind = CALL;
	f.call = (enum gpamap_sim_call)(GPAMAP_SIM_ANY + random_below(r, GPAMAP_SIM_FLAGS + 1));
	f.nth = 1 + (unsigned)random_below(r, f.call == GPAMAP_SIM_ANY ? 12 : 5);
	f.forever = random_below(r, 2);
	run(which, &f, random_below(r, 4) ? 0 : GPAMAP_COMMIT_ONE_INSTANT);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Several at once. */
static void at_random(void **state)
{
	struct random random = random_new("order", 41);
	double end = now() + 4;

	(void)state;
	memset(&seen, 0, sizeof(seen));
	while (now() < end)
		random_round(&random);
	print("at random");
	assert_true(seen.happened > 0 && seen.failed > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_change),
		cmocka_unit_test(at_random),
	};

	return cmocka_run_group_tests(tests, order_memory, NULL);
}
