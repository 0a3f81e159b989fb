/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The cost of passing the gate when nobody shuts it, with one thread and with two at once; of nothing; and of
 * what others do there.
 *
 * A batch takes some microseconds, so that few of many are hit by an interrupt or lose their processor; the
 * median then has none of that. Rivals follow one another batch by batch, each round in another order. With
 * two threads the batches begin together, and who is done first goes on until the other is.
 */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "bench.h"
#include "gate_rivals.h"

enum { BATCH = 2000, WARM_UP = 200, SPINS = 2000, BLOCKS = 10 };

/* Beside the calls the gate may take three tenths of what the counter takes, which has two locked operations: so one would
 * show. What two threads have to pay for each other is nothing, but for noise and for the threads that share a core. */
#define COUNTER_LIMIT 0.3
#define THREADS_LIMIT 1.5

/* Threads that go from batch to batch together. */
struct team {
	struct gate_rig rig;
	int threads;
	unsigned rounds;
	_Alignas(64) atomic_ulong here; /* arrivals, ever */
	_Alignas(64) atomic_ulong done; /* batches that were measured, ever */
};

struct runner {
	struct team *team;
	int index;
	unsigned long step;
	struct series ns[NR_GATE_RIVALS];
};

/* Wait until the others have come this far. They may need our processor. */
static void meet(struct runner *r)
{
	unsigned long all = (r->step + 1) * (unsigned long)r->team->threads;

	atomic_fetch_add(&r->team->here, 1);
	for (unsigned spins = 0; atomic_load(&r->team->here) < all; spins++) {
		if (spins > SPINS)
			sched_yield();
	}
}

static void batch(struct runner *r, enum gate_rival rival)
{
	unsigned long all = (r->step + 1) * (unsigned long)r->team->threads;
	double start, end;

	gate_pass(&r->team->rig, rival, r->index, WARM_UP);
	meet(r);
	start = now_us();
	gate_pass(&r->team->rig, rival, r->index, BATCH);
	end = now_us();
	series_add(&r->ns[rival], (end - start) * 1e3 / BATCH);
	atomic_fetch_add(&r->team->done, 1);
	while (atomic_load(&r->team->done) < all)
		gate_pass(&r->team->rig, rival, r->index, WARM_UP);
	r->step++;
}

static void *run(void *opaque)
{
	/* Each has no divisor in common with the number of rivals, so all of them get their turn. */
	static const unsigned strides[] = {1, 2, 4, 5, 7, 8};
	struct runner *r = opaque;

	_Static_assert(NR_GATE_RIVALS == 9, "strides are for nine");
	gate_thread_begin();
	for (unsigned round = 0; round < r->team->rounds; round++) {
		unsigned stride = strides[round % 6];

		for (unsigned i = 0; i < NR_GATE_RIVALS; i++)
			batch(r, (round + i * stride) % NR_GATE_RIVALS);
	}
	gate_thread_end();
	return NULL;
}

/* @threads run at once, and add to @ns what each of them has measured. */
static void measure(struct team *t, int threads, unsigned rounds, struct series *ns)
{
	struct runner runners[GATE_THREADS] = {0};
	pthread_t thread[GATE_THREADS];

	t->threads = threads;
	t->rounds = rounds;
	atomic_store(&t->here, 0);
	atomic_store(&t->done, 0);
	for (int i = 0; i < threads; i++) {
		runners[i].team = t;
		runners[i].index = i;
		if (pthread_create(&thread[i], NULL, run, &runners[i]))
			errx(1, "no thread");
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(thread[i], NULL);
		for (int rival = 0; rival < NR_GATE_RIVALS; rival++) {
			struct series *s = &runners[i].ns[rival];

			for (size_t k = 0; k < s->n; k++)
				series_add(&ns[rival], s->v[k]);
			series_free(s);
		}
	}
}

static void report(struct bench *b, const double *one, const double *two, bool light)
{
	double calls = one[GATE_CALLS];

	/* Both are calls, which can take longer than all that is in them. Without membarrier the gate has a fence, and
	 * promises nothing. */
	result_ratio(b, "gate", "vCPU / locked counter, without the calls",
		     (one[GATE_VCPU] - calls) / (one[GATE_COUNTER] - calls),
		     light ? COUNTER_LIMIT : 0);
	result_ratio(b, "gate", "vCPU / locked counter", one[GATE_VCPU] / one[GATE_COUNTER], 0);
	result_ratio(b, "gate", "vCPU - nothing, in ns", one[GATE_VCPU] - one[GATE_NOTHING], 0);
	result_ratio(b, "gate", "vCPU - two empty calls, in ns", one[GATE_VCPU] - calls, 0);
	result_ratio(b, "gate", "vCPU / pthread rwlock", one[GATE_VCPU] / one[GATE_RWLOCK], 0);
	result_ratio(b, "gate", "vCPU / liburcu-bp", one[GATE_VCPU] / one[GATE_URCU_BP], 0);
	if (!two)
		return;
	result_ratio(b, "gate", "vCPU: 2 threads / 1 thread", two[GATE_VCPU] / one[GATE_VCPU],
		     light ? THREADS_LIMIT : 0);
	result_ratio(b, "gate", "other thread: 2 threads / 1 thread",
		     two[GATE_OTHER] / one[GATE_OTHER], THREADS_LIMIT);
	result_ratio(b, "gate", "pthread rwlock: 2 threads / 1 thread",
		     two[GATE_RWLOCK] / one[GATE_RWLOCK], 0);
}

/* How many threads can run at once; no more than we have use for. */
static int processors(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);

	return n < GATE_THREADS ? n : GATE_THREADS;
}

void bench_gate(struct bench *b)
{
	static struct team team;
	struct series ns[GATE_THREADS + 1][NR_GATE_RIVALS] = {0};
	double median[GATE_THREADS + 1][NR_GATE_RIVALS];
	unsigned rounds = b->quick ? 30 : 400;
	int most = processors();
	struct gpamap_stats stats;

	gate_rig_init(&team.rig);
	gpamap_get_stats(team.rig.light.map, &stats);
	for (int block = 0; block < BLOCKS; block++) {
		for (int threads = 1; threads <= most; threads++)
			measure(&team, threads, rounds, ns[threads]);
	}
	for (int threads = 1; threads <= most; threads++) {
		for (int i = 0; i < NR_GATE_RIVALS; i++) {
			median[threads][i] = result_row(b, "gate", gate_rival_name(i),
							(uint64_t)threads, "ns", &ns[threads][i]);
			series_free(&ns[threads][i]);
		}
	}
	report(b, median[1], most > 1 ? median[2] : NULL, stats.membarrier);
	if (!stats.membarrier)
		result_note(b, "gate", "this kernel has no membarrier(2) for us: full fences");
	if (most < 2)
		result_note(b, "gate", "one processor: two threads were not measured");
	gate_rig_destroy(&team.rig);
}
