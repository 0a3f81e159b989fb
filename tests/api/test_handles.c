/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Handles of transactions, used in all orders: open ones and ended ones, by two threads, against a model of what must
 * happen. An ended one is told and harmless, whatever else is open.
 */
#include "common.h"

#include <pthread.h>

#define NR_PAGES 8
#define NR_HANDLES 65535 /* that differ, says the header */
#define ENDED "this transaction has ended"

static uint8_t *mem;

static int map_page(struct gpamap_txn *txn, uint64_t page)
{
	return gpamap_map_pages(txn, 0, page * PAGE, PAGE, mem + page * PAGE, GPAMAP_RW);
}

static bool is_mapped(uint64_t page)
{
	struct gpamap_segment s;

	return !gpamap_lookup(vm.map, 0, page * PAGE, &s) && s.gpa <= page * PAGE;
}

/* ------------------------------------------------------------------- one step at a time --- */

/* A step is done by one of two threads, while all else waits. */
struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	void (*step)(void *arg);
	void *arg;
	bool end;
};

static void *work(void *arg)
{
	struct worker *w = arg;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->step && !w->end)
			pthread_cond_wait(&w->cond, &w->lock);
		if (w->end)
			break;
		w->step(w->arg);
		w->step = NULL;
		pthread_cond_broadcast(&w->cond);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void worker_begin(struct worker *w)
{
	*w = (struct worker){.end = false};
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->cond, NULL);
	assert_int_equal(pthread_create(&w->thread, NULL, work, w), 0);
}

static void worker_do(struct worker *w, void (*step)(void *arg), void *arg)
{
	pthread_mutex_lock(&w->lock);
	w->step = step;
	w->arg = arg;
	pthread_cond_broadcast(&w->cond);
	while (w->step)
		pthread_cond_wait(&w->cond, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

static void worker_end(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	w->end = true;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->lock);
}

/* ----------------------------------------------------------------------------- the model --- */

enum verb { BEGIN, MAP, UNMAP, COMMIT, COMMIT_FAILS, PREVIEW, MESSAGE, STUCK, ABORT, NR_VERBS };

struct model {
	struct random random;
	struct gpamap_txn *handle[4000]; /* all that there have been; NULL is one of them */
	size_t nr_handles;
	struct gpamap_txn *open; /* NULL: none */
	unsigned owner;		 /* thread that has begun it */
	bool now[NR_PAGES];	 /* what a commit would make of the pages */
	bool was[NR_PAGES];	 /* what they are */
	unsigned done[NR_VERBS][2];
	/* The step. */
	enum verb verb;
	unsigned thread;
	struct gpamap_txn *txn;
	uint64_t page;
	int got;
	char message[256];
};

static void do_step(void *arg)
{
	struct model *m = arg;
	struct gpamap_stuck_info stuck;
	struct gpamap_plan *plan;

	switch (m->verb) {
	case BEGIN:
		m->got = gpamap_begin(vm.map, &m->txn);
		return;
	case MAP:
		m->got = map_page(m->txn, m->page);
		break;
	case UNMAP:
		m->got = gpamap_unmap_pages(m->txn, 0, m->page * PAGE, PAGE);
		break;
	case COMMIT:
	case COMMIT_FAILS:
		m->got = gpamap_commit(m->txn, NULL, NULL);
		break;
	case PREVIEW:
		m->got = gpamap_preview(m->txn, 0, &plan);
		if (!m->got)
			gpamap_plan_free(plan);
		break;
	case STUCK:
		m->got = gpamap_stuck(m->txn, &stuck);
		break;
	case ABORT:
		gpamap_abort(m->txn);
		m->got = 0;
		break;
	default:
		m->got = 0;
	}
	snprintf(m->message, sizeof(m->message), "%s", gpamap_message(m->txn));
}

/* Would a commit have to create a slot? */
static bool creates(const struct model *m)
{
	for (unsigned i = 0; i < NR_PAGES; i++) {
		if (m->now[i] && !m->was[i])
			return true;
	}
	return false;
}

static int expect_of_open(struct model *m)
{
	switch (m->verb) {
	case MAP:
		m->now[m->page] = true;
		return 0;
	case UNMAP:
		m->now[m->page] = false;
		return 0;
	case COMMIT:
		memcpy(m->was, m->now, sizeof(m->was));
		m->open = NULL;
		return 0;
	case COMMIT_FAILS:
		return -EIO;
	case STUCK:
		return -ENOENT;
	case ABORT:
		memcpy(m->now, m->was, sizeof(m->now));
		m->open = NULL;
		return 0;
	default:
		return 0;
	}
}

static void check_begin(struct model *m)
{
	if (m->open) {
		assert_int_equal(m->got, -EDEADLK);
		return;
	}
	assert_int_equal(m->got, 0);
	for (size_t i = 0; i < m->nr_handles; i++)
		assert_ptr_not_equal(m->handle[i], m->txn);
	m->handle[m->nr_handles++] = m->txn;
	m->open = m->txn;
	m->owner = m->thread;
}

static void check_step(struct model *m)
{
	bool open = m->txn && m->txn == m->open;

	m->done[m->verb][m->verb == BEGIN ? !m->open : open]++;
	if (m->verb == BEGIN) {
		check_begin(m);
	} else if (open) {
		assert_int_equal(m->got, expect_of_open(m));
		assert_int_equal(!strcmp(m->message, ENDED), !m->open);
	} else {
		assert_int_equal(m->got, m->verb == ABORT || m->verb == MESSAGE ? 0 : -EINVAL);
		assert_string_equal(m->message, ENDED);
	}
	for (uint64_t i = 0; i < NR_PAGES; i++)
		assert_int_equal(is_mapped(i), m->was[i]);
}

/* The open one, the last ones, or any. */
static struct gpamap_txn *choose(struct model *m)
{
	uint64_t back = random_below(&m->random, random_below(&m->random, 4) ? 4 : m->nr_handles);

	if (m->open && random_below(&m->random, 2))
		return m->open;
	return m->handle[back < m->nr_handles ? m->nr_handles - 1 - back : 0];
}

static void choose_step(struct model *m)
{
	m->thread = (unsigned)random_below(&m->random, 2);
	m->verb = (enum verb)random_below(&m->random, NR_VERBS);
	m->page = random_below(&m->random, NR_PAGES);
	m->txn = choose(m);
	/* To begin would wait while the other one's is open. */
	if (m->verb == BEGIN && m->open)
		m->thread = m->owner;
	if (m->verb == COMMIT_FAILS && !creates(m))
		m->verb = COMMIT;
	if (m->verb == COMMIT_FAILS && m->txn == m->open)
		gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 1, EIO, false);
}

static void in_all_orders(void **state)
{
	static struct model m;
	struct worker worker[2];

	(void)state;
	memset(&m, 0, sizeof(m));
	m.random = random_new("handles", 31);
	m.nr_handles = 1;
	for (unsigned i = 0; i < 2; i++)
		worker_begin(&worker[i]);
	for (unsigned step = 0; step < 20000; step++) {
		choose_step(&m);
		worker_do(&worker[m.thread], do_step, &m);
		check_step(&m);
	}
	for (unsigned verb = 0; verb < NR_VERBS; verb++)
		assert_true(m.done[verb][0] > 100 || verb == COMMIT_FAILS);
	for (unsigned verb = 0; verb < NR_VERBS; verb++)
		assert_true(m.done[verb][1] > 100);
	m.txn = m.open;
	m.verb = ABORT;
	worker_do(&worker[m.owner], do_step, &m);
	for (unsigned i = 0; i < 2; i++)
		worker_end(&worker[i]);
}

/* ----------------------------------------------------------------------------- at one time --- */

struct user {
	pthread_t thread;
	unsigned id;
	struct random random;
	_Atomic(struct gpamap_txn *) last; /* ended */
	struct user *other;
	int wrong; /* line of what went wrong; 0: nothing */
};

#define must(user, what)                          \
	do {                                      \
		if (!(what) && !(user)->wrong)    \
			(user)->wrong = __LINE__; \
	} while (0)

static void misuse(struct user *u, struct gpamap_txn *ended)
{
	struct gpamap_plan *plan;

	switch (random_below(&u->random, 5)) {
	case 0:
		gpamap_abort(ended);
		break;
	case 1:
		must(u, map_page(ended, 6) == -EINVAL);
		break;
	case 2:
		must(u, gpamap_commit(ended, NULL, NULL) == -EINVAL);
		break;
	case 3:
		must(u, gpamap_preview(ended, 0, &plan) == -EINVAL);
		break;
	default:
		must(u, !strcmp(gpamap_message(ended), ENDED));
	}
}

/* Maps and unmaps a page of its own, with cleaning up that was not needed in between. */
static void *use(void *arg)
{
	struct user *u = arg;

	for (unsigned round = 0; round < 3000; round++) {
		bool map = !(round % 2);
		struct gpamap_txn *txn;

		must(u, gpamap_begin(vm.map, &txn) == 0);
		must(u, (map ? map_page(txn, u->id)
			     : gpamap_unmap_pages(txn, 0, u->id * PAGE, PAGE)) == 0);
		misuse(u, atomic_load(&u->last));
		misuse(u, atomic_load(&u->other->last));
		must(u, gpamap_commit(txn, NULL, NULL) == 0);
		gpamap_abort(txn);
		atomic_store(&u->last, txn);
		must(u, is_mapped(u->id) == map);
		misuse(u, atomic_load(&u->other->last));
	}
	return NULL;
}

static void two_at_one_time(void **state)
{
	static struct user user[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		user[i].id = i;
		user[i].other = &user[!i];
		user[i].random = random_new("two threads", 32 + i);
	}
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&user[i].thread, NULL, use, &user[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(user[i].thread, NULL);
	assert_int_equal(user[0].wrong, 0);
	assert_int_equal(user[1].wrong, 0);
	assert_false(is_mapped(6));
}

static void *commit_it(void *arg)
{
	return (void *)(intptr_t)gpamap_commit(arg, NULL, NULL);
}

/* The handle is good, but another thread commits it just now. */
static void while_it_is_committed(void **state)
{
	struct gpamap_txn *txn = vm_begin(&vm);
	struct gpamap_stuck_info stuck;
	struct gpamap_plan *plan;
	pthread_t thread;
	void *r;

	(void)state;
	ok(map_page(txn, 0));
	gpamap_sim_stretch(vm.sim, GPAMAP_SIM_BEFORE_CREATE, 300000);
	ok(pthread_create(&thread, NULL, commit_it, txn));
	while (map_page(txn, 1) != -EBUSY)
		sleep_ms(1);
	assert_int_equal(gpamap_commit(txn, NULL, NULL), -EBUSY);
	assert_int_equal(gpamap_preview(txn, 0, &plan), -EBUSY);
	assert_int_equal(gpamap_stuck(txn, &stuck), -EBUSY);
	assert_non_null(strstr(gpamap_message(txn), "another thread"));
	gpamap_abort(txn);
	ok(pthread_join(thread, &r));
	assert_null(r);
	assert_true(is_mapped(0));
	gpamap_sim_stretch(vm.sim, GPAMAP_SIM_BEFORE_CREATE, 0);
	assert_int_equal(map_page(txn, 1), -EINVAL);
}

/* No other handle is the same as long as the header says. */
static void how_long_they_differ(void **state)
{
	struct gpamap_txn *first = vm_begin(&vm), *txn;

	(void)state;
	gpamap_abort(first);
	for (unsigned i = 1; i < NR_HANDLES; i++) {
		ok(gpamap_begin(vm.map, &txn));
		assert_ptr_not_equal(txn, first);
		assert_int_equal(gpamap_unmap_pages(first, 0, 0, PAGE), -EINVAL);
		gpamap_abort(first);
		ok(gpamap_unmap_pages(txn, 0, 0, PAGE));
		gpamap_abort(txn);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		vm_test(in_all_orders),
		vm_test(two_at_one_time),
		vm_test(while_it_is_committed),
		vm_test(how_long_they_differ),
	};

	mem = mem_new(1, NR_PAGES);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
