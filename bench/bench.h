/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The benchmarks: what they share. Rivals are measured in one run, in turns, and compared by the medians of
 * what was measured. Whatever goes wrong ends the program.
 */
#ifndef BENCH_H
#define BENCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE UINT64_C(4096)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

struct bench {
	bool quick;   /* fewer samples, and ratios of their quickest tenth: for a test */
	int kvm;      /* fd of the KVM device, or -1 */
	bool failed;  /* a ratio is beyond its limit */
	bool skipped; /* a section could not be measured */
	struct results *results;
};

/* Values measured. */
struct series {
	double *v;
	size_t n;
	size_t room;
};

void series_add(struct series *s, double value);
void series_free(struct series *s);

struct results *results_new(void);
void results_free(struct results *r);
/* A line of the table: what was measured of whom, at which size or number (0: none). Sorts @s. Returns what
 * ratios are made of: the median; or, if it is to be quick, the 10th percentile, which other programs on the machine
 * spoil last. */
double result_row(struct bench *b, const char *section, const char *what, uint64_t size,
		  const char *unit, struct series *s);
/* A ratio of what result_row() returned, and what it may be at most; 0: for information. */
void result_ratio(struct bench *b, const char *section, const char *what, double value,
		  double limit);
void result_note(struct bench *b, const char *section, const char *text);
/* How many processors others had meanwhile, see others.h. */
void result_others(struct bench *b, double processors);
void results_print(const struct bench *b);
/* "-": standard output. */
void results_json(const struct bench *b, const char *path);

/* A number of bytes as people write it; uses static storage, for one thread. */
const char *size_text(uint64_t size);

/* Returns a negative errno as an error of the program. */
void check(int r, const char *what);
/* CLOCK_MONOTONIC in microseconds. */
double now_us(void);
void sleep_us(unsigned us);
/* Memory that takes no room until it is touched. */
void *reserve_memory(uint64_t size);

/*
 * From begin to end this thread stays on the first processor that it may use. A slot operation waits for SRCU, and
 * the kernel may do that work on its first processor, whoever waits: on any other the same ioctl then takes more than
 * twice as long, and that would decide every comparison.
 */
void pin_begin(void);
void pin_end(void);
/* Make a thread meanwhile that goes where the scheduler wants it. */
void pin_free_thread(pthread_t *thread, void *(*run)(void *), void *opaque);

/* The sections. */
void bench_flatten(struct bench *b); /* and the planner */
void bench_shapes(struct bench *b);
void bench_fetch(struct bench *b);
void bench_commit(struct bench *b);
void bench_blackout_vcpus(struct bench *b);
void bench_blackout_size(struct bench *b);
void bench_blackout_slots(struct bench *b);
void bench_gate(struct bench *b);
void bench_quirk(struct bench *b);
void bench_refault(struct bench *b);

#endif
