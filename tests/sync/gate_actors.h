/* SPDX-License-Identifier: BSD-3-Clause */
/* Threads for tests of the gate: one that is inside until told to leave, one that shuts until told to open. */
#ifndef TEST_GATE_ACTORS_H
#define TEST_GATE_ACTORS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "sync/gate.h"

#define MS UINT64_C(1000000)

static inline void sleep_ms(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* Becomes true within ten seconds. */
#define assert_soon(cond)                                                 \
	do {                                                              \
		for (int waited = 0; !(cond) && waited < 10000; waited++) \
			sleep_ms(1);                                      \
		assert_true(cond);                                        \
	} while (0)
/* Deadlines in the tests are longer than that, so a wake-up that is lost fails them. */
/* Stays true for a while. */
#define assert_for_now(cond)                                  \
	do {                                                  \
		for (int waited = 0; waited < 20; waited++) { \
			assert_true(cond);                    \
			sleep_ms(1);                          \
		}                                             \
	} while (0)

static inline uint64_t in_ms(unsigned ms)
{
	return gm_now_ns() + ms * MS;
}

static inline void wait_sem(sem_t *s)
{
	while (sem_wait(s))
		;
}

/* Leave, and say whether a kick was there for it to take back. */
static inline bool leave_kicked(struct gm_pass *p)
{
	bool kicked = atomic_load(&p->busy) == 1 && atomic_load(&p->kicked);

	gm_pass_leave(p);
	return kicked;
}

enum { ON_THE_WAY = 0, INSIDE = 1, OUT = 2 }; /* or a negative errno */

struct insider {
	pthread_t thread;
	struct gm_gate *gate;
	struct gm_pass *pass; /* NULL: as a holder */
	_Atomic(int) state;
	_Atomic(pid_t) tid;
	sem_t leave;
	bool kicked;
};

static inline void *insider_main(void *arg)
{
	struct insider *a = arg;
	int err;

	a->tid = (pid_t)syscall(SYS_gettid);
	err = a->pass ? gm_pass_enter(a->pass) : gm_gate_enter(a->gate);
	if (err) {
		a->state = err;
		return NULL;
	}
	a->state = INSIDE;
	wait_sem(&a->leave);
	if (a->pass)
		a->kicked = leave_kicked(a->pass);
	else
		gm_gate_leave(a->gate);
	a->state = OUT;
	return NULL;
}

static inline void insider_start(struct insider *a, struct gm_gate *gate, struct gm_pass *pass)
{
	*a = (struct insider){.gate = gate, .pass = pass};
	sem_init(&a->leave, 0, 0);
	assert_int_equal(pthread_create(&a->thread, NULL, insider_main, a), 0);
}

static inline void insider_end(struct insider *a)
{
	sem_post(&a->leave);
	pthread_join(a->thread, NULL);
	sem_destroy(&a->leave);
}

struct shutter {
	pthread_t thread;
	struct gm_gate *gate;
	unsigned timeout_ms;
	bool breaks; /* at the end, instead of opening */
	_Atomic(int) state;
	_Atomic(pid_t) tid;
	sem_t open;
	unsigned kicked;
	uint64_t start;
	struct gm_stuck stuck;
};

static inline void *shutter_main(void *arg)
{
	struct shutter *s = arg;
	int err;

	s->tid = (pid_t)syscall(SYS_gettid);
	err = gm_gate_shut(s->gate, in_ms(s->timeout_ms), &s->kicked, &s->start, &s->stuck);
	if (err) {
		s->state = err;
		return NULL;
	}
	s->state = INSIDE;
	wait_sem(&s->open);
	if (s->breaks)
		gm_gate_break(s->gate);
	else
		gm_gate_open(s->gate);
	s->state = OUT;
	return NULL;
}

static inline void shutter_start(struct shutter *s, struct gm_gate *gate, unsigned timeout_ms)
{
	*s = (struct shutter){.gate = gate, .timeout_ms = timeout_ms};
	sem_init(&s->open, 0, 0);
	assert_int_equal(pthread_create(&s->thread, NULL, shutter_main, s), 0);
}

static inline void shutter_end(struct shutter *s)
{
	sem_post(&s->open);
	pthread_join(s->thread, NULL);
	sem_destroy(&s->open);
}

/* Shut from this thread, where that must work at once. */
static inline unsigned shut_now(struct gm_gate *g)
{
	unsigned kicked = 99;
	struct gm_stuck stuck;
	uint64_t start, before = gm_now_ns();

	assert_int_equal(gm_gate_shut(g, in_ms(60000), &kicked, &start, &stuck), 0);
	assert_true(start >= before && start <= gm_now_ns());
	return kicked;
}

#endif
