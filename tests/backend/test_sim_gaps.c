/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What running guests meet while slots change under them: the gaps that KVM has are there, on each sort of
 * machine just those, and nothing of the kind when the guest is held meanwhile. And what a change waits for.
 */
#include "test_sim.h"

#include <pthread.h>

#define LOG GPAMAP_SIM_LOG_DIRTY
#define GPA 16 /* in pages: where the slot is */
#define PAGES 8
#define PATIENCE_MS 20000 /* on a loaded machine a race may take long to be hit */

enum what { DATA, FETCH, WALK };

/* A vCPU on a thread. */
struct runner {
	struct gpamap_sim *sim;
	struct gpamap_sim_vcpu *vcpu;
	pthread_t thread;
	enum what what;
	uint64_t gpa; /* in bytes, of what it accesses */
	uint64_t value;
	bool stored; /* @value is in memory: load it next */
	_Atomic(bool) stop;
	_Atomic(bool) hold;
	_Atomic(bool) held;
	_Atomic(uint64_t) steps;
	_Atomic(uint64_t) mmio;
	_Atomic(uint64_t) internal;
	_Atomic(uint64_t) shutdown;
	_Atomic(uint64_t) wrong; /* loads that did not give what was stored */
	_Atomic(uint64_t) errors;
};

static int data_step(struct runner *g)
{
	uint64_t v = g->value + 1;
	int r;

	if (!g->stored) {
		r = gpamap_sim_store(g->vcpu, g->gpa, &v, 8);
		if (r)
			return r;
		g->value = v;
	} else {
		r = gpamap_sim_load(g->vcpu, g->gpa, &v, 8);
		if (r)
			return r;
		if (v != g->value)
			atomic_fetch_add(&g->wrong, 1);
	}
	g->stored = !g->stored;
	return 0;
}

static int guest(struct gpamap_sim_vcpu *v, void *opaque)
{
	struct runner *g = opaque;
	uint64_t word;
	int r;

	if (g->what == DATA)
		r = data_step(g);
	else if (g->what == FETCH)
		r = gpamap_sim_fetch(v, g->gpa, &word, 8);
	else
		r = gpamap_sim_walk(v, g->gpa, &word);
	if (!r)
		atomic_fetch_add_explicit(&g->steps, 1, memory_order_relaxed);
	return r;
}

static void count_exit(struct runner *g)
{
	struct kvm_run *run = gpamap_sim_vcpu_kvm_run(g->vcpu);

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		memset(run->mmio.data, 0xff, 8);
		atomic_fetch_add(&g->mmio, 1);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		atomic_fetch_add(&g->internal, 1);
		break;
	case KVM_EXIT_SHUTDOWN:
		atomic_fetch_add(&g->shutdown, 1);
		break;
	default:
		atomic_fetch_add(&g->errors, 1);
	}
}

static void *run_thread(void *opaque)
{
	struct runner *g = opaque;
	int r;

	while (!atomic_load(&g->stop)) {
		r = gpamap_sim_vcpu_run(g->vcpu);
		if (!r) {
			count_exit(g);
			continue;
		}
		if (r != -EINTR)
			atomic_fetch_add(&g->errors, 1);
		atomic_store(&g->held, true);
		while (atomic_load(&g->hold))
			sleep_us(20);
		set_immediate_exit(g->vcpu, 0);
		atomic_store(&g->held, false);
	}
	return NULL;
}

static void hold(struct runner *g)
{
	atomic_store(&g->hold, true);
	set_immediate_exit(g->vcpu, 1);
	while (!atomic_load(&g->held))
		sleep_us(20);
}

static void let_go(struct runner *g)
{
	atomic_store(&g->hold, false);
	while (atomic_load(&g->held))
		sleep_us(20);
}

/* Wait until it has done something more. */
static void progress(struct runner *g)
{
	uint64_t steps = atomic_load(&g->steps);

	while (atomic_load(&g->steps) == steps)
		sleep_us(20);
}

static void start(struct runner *g, struct gpamap_sim *sim, unsigned id, unsigned flags,
		  enum what what, uint64_t gpa)
{
	memset(g, 0, sizeof(*g));
	g->sim = sim;
	g->what = what;
	g->gpa = gpa;
	g->vcpu = new_vcpu(sim, id, flags, guest, g);
	assert_int_equal(pthread_create(&g->thread, NULL, run_thread, g), 0);
}

static void stop(struct runner *g)
{
	atomic_store(&g->stop, true);
	set_immediate_exit(g->vcpu, 1);
	assert_int_equal(pthread_join(g->thread, NULL), 0);
	gpamap_sim_vcpu_free(g->vcpu);
	assert_int_equal(atomic_load(&g->errors), 0);
}

static uint64_t exits(struct runner *g)
{
	return atomic_load(&g->mmio) + atomic_load(&g->internal) + atomic_load(&g->shutdown);
}

struct gap_test {
	struct gpamap_sim *sim;
	uint8_t *memory;
};

static int setup(void **state)
{
	struct gap_test *t = calloc(1, sizeof(*t));

	t->sim = new_sim(NULL);
	t->memory = new_memory(PAGES);
	assert_int_equal(set_slot(t->sim, 0, 0, GPA, PAGES, t->memory), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct gap_test *t = *state;

	gpamap_sim_free(t->sim);
	free_memory(t->memory, PAGES);
	free(t);
	return 0;
}

static void naive(struct gap_test *t)
{
	assert_int_equal(delete_slot(t->sim, 0), 0);
	assert_int_equal(set_slot(t->sim, 0, 0, GPA, PAGES, t->memory), 0);
}

/* Up by a page, and down again: all pages but the first are there before and after. */
static void move(struct gap_test *t)
{
	assert_int_equal(set_slot(t->sim, 0, 0, GPA + 1, PAGES, t->memory), 0);
	assert_int_equal(set_slot(t->sim, 0, 0, GPA, PAGES, t->memory), 0);
}

static void toggle_log(struct gap_test *t)
{
	assert_int_equal(set_slot(t->sim, 0, LOG, GPA, PAGES, t->memory), 0);
	assert_int_equal(set_slot(t->sim, 0, 0, GPA, PAGES, t->memory), 0);
}

/* Change until the guest has met @want exits. */
static void change_until(struct gap_test *t, struct runner *g, void (*change)(struct gap_test *),
			 uint64_t want)
{
	uint64_t end = now_ms() + PATIENCE_MS;

	while (exits(g) < want && now_ms() < end) {
		change(t);
		progress(g);
	}
	assert_true(exits(g) >= want);
}

static void change_often(struct gap_test *t, struct runner *g, void (*change)(struct gap_test *),
			 unsigned n)
{
	while (n--) {
		change(t);
		if (n % 16 == 0)
			progress(g);
	}
}

static void test_naive_emulated(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	start(&g, t->sim, 0, GPAMAP_SIM_EMULATED, DATA, (GPA + 2) * page_size);
	change_until(t, &g, naive, 200);
	stop(&g);
	assert_true(atomic_load(&g.mmio) >= 200);
	assert_true(atomic_load(&g.wrong) > 0); /* stores were lost */
}

/* Between the delete and the create only, so it is stretched. */
static void test_naive_hardware(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	start(&g, t->sim, 0, 0, DATA, (GPA + 2) * page_size);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_AFTER_DELETE, 200);
	change_until(t, &g, naive, 50);
	stop(&g);
	assert_true(atomic_load(&g.mmio) >= 50);
	assert_true(atomic_load(&g.wrong) > 0);
}

static void held(struct gap_test *t, unsigned flags, enum what what)
{
	struct runner g;

	start(&g, t->sim, 0, flags, what, (GPA + 2) * page_size);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_WHILE_INVALID, 100);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_AFTER_DELETE, 100);
	for (unsigned i = 0; i < 100; i++) {
		hold(&g);
		naive(t);
		let_go(&g);
		progress(&g);
	}
	stop(&g);
	assert_int_equal(exits(&g), 0);
	assert_int_equal(atomic_load(&g.wrong), 0);
}

static void test_held(void **state)
{
	held(*state, 0, DATA);
	held(*state, GPAMAP_SIM_EMULATED, DATA);
	held(*state, GPAMAP_SIM_EMULATED, FETCH);
	held(*state, GPAMAP_SIM_EMULATED, WALK);
}

/* What an emulated guest's fetches and walks meet at once, and a hardware one's after the delete. */
static void test_naive_fetch_walk(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	gpamap_sim_stretch(t->sim, GPAMAP_SIM_AFTER_DELETE, 200);
	for (unsigned flags = 0; flags <= GPAMAP_SIM_EMULATED; flags++) {
		start(&g, t->sim, 0, flags, FETCH, (GPA + 2) * page_size);
		change_until(t, &g, naive, 20);
		stop(&g);
		assert_int_equal(atomic_load(&g.internal), exits(&g));
		start(&g, t->sim, 0, flags, WALK, (GPA + 2) * page_size);
		change_until(t, &g, naive, 20);
		stop(&g);
		assert_int_equal(atomic_load(&g.shutdown), exits(&g));
	}
}

/* A hardware fault waits while the slot is INVALID, so a move is atomic for it. */
static void test_move_hardware(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	gpamap_sim_stretch(t->sim, GPAMAP_SIM_WHILE_INVALID, 100);
	for (enum what what = DATA; what <= WALK; what++) {
		start(&g, t->sim, 0, 0, what, (GPA + 2) * page_size);
		change_often(t, &g, move, 200);
		stop(&g);
		assert_int_equal(exits(&g), 0);
	}
}

static void test_move_emulated(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	gpamap_sim_stretch(t->sim, GPAMAP_SIM_WHILE_INVALID, 100);
	for (enum what what = DATA; what <= WALK; what++) {
		start(&g, t->sim, 0, GPAMAP_SIM_EMULATED, what, (GPA + 2) * page_size);
		change_until(t, &g, move, 20);
		stop(&g);
	}
}

static void test_log_toggle(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	for (unsigned flags = 0; flags <= GPAMAP_SIM_EMULATED; flags++) {
		start(&g, t->sim, 0, flags, DATA, (GPA + 2) * page_size);
		change_often(t, &g, toggle_log, 2000);
		stop(&g);
		assert_int_equal(exits(&g), 0);
		assert_int_equal(atomic_load(&g.wrong), 0);
	}
}

/* ------------------------------------------------------------------------ what is waited for --- */

static void *run_once_thread(void *opaque)
{
	return (void *)(intptr_t)gpamap_sim_vcpu_run(opaque);
}

/* A delete returns when the store under way, which had found the slot, is done. */
static void test_delete_waits(void **state)
{
	struct gap_test *t = *state;
	unsigned hits = 0;

	gpamap_sim_stretch(t->sim, GPAMAP_SIM_IN_ACCESS, 100000);
	for (unsigned tries = 0; !hits && tries < 50; tries++) {
		struct once once = {.op = ONCE_STORE, .gpa = GPA * page_size, .len = 1};
		struct gpamap_sim_vcpu *v = new_vcpu(t->sim, 0, 0, once_guest, &once);
		pthread_t thread;
		uint8_t then;

		once.buf[0] = (uint8_t)(tries + 1);
		assert_int_equal(pthread_create(&thread, NULL, run_once_thread, v), 0);
		sleep_us(30000);
		assert_int_equal(delete_slot(t->sim, 0), 0);
		then = __atomic_load_n(t->memory, __ATOMIC_RELAXED);
		assert_int_equal(pthread_join(thread, NULL), 0);
		/* Else it came too late to find the slot. */
		if (gpamap_sim_vcpu_kvm_run(v)->exit_reason == KVM_EXIT_HLT) {
			assert_int_equal(then, tries + 1);
			hits++;
		}
		gpamap_sim_vcpu_free(v);
		assert_int_equal(set_slot(t->sim, 0, 0, GPA, PAGES, t->memory), 0);
	}
	assert_int_equal(hits, 1);
}

static void *come_and_go(void *opaque)
{
	struct runner *g = opaque;

	while (!atomic_load(&g->stop)) {
		struct once once = {.op = ONCE_LOAD, .gpa = GPA * page_size, .len = 8};
		struct gpamap_sim_vcpu *v;

		if (gpamap_sim_vcpu_new(g->sim, 7, 0, once_guest, &once, &v)) {
			atomic_fetch_add(&g->errors, 1);
			break;
		}
		for (unsigned i = 0; i < 20; i++) {
			once.done = false;
			gpamap_sim_vcpu_run(v);
		}
		gpamap_sim_vcpu_free(v);
	}
	return NULL;
}

/* Memory may be taken away when the delete has returned. vCPUs come and go meanwhile. */
static void test_no_use_after_delete(void **state)
{
	struct gap_test *t = *state;
	struct runner g, e, other = {.sim = t->sim};
	pthread_t thread;

	start(&g, t->sim, 0, 0, DATA, GPA * page_size);
	start(&e, t->sim, 1, GPAMAP_SIM_EMULATED, DATA, GPA * page_size + 8);
	assert_int_equal(pthread_create(&thread, NULL, come_and_go, &other), 0);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(delete_slot(t->sim, 0), 0);
		assert_int_equal(mprotect(t->memory, PAGES * page_size, PROT_NONE), 0);
		progress(&g);
		assert_int_equal(mprotect(t->memory, PAGES * page_size, PROT_READ | PROT_WRITE), 0);
		assert_int_equal(set_slot(t->sim, 0, 0, GPA, PAGES, t->memory), 0);
		progress(&e);
	}
	atomic_store(&other.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(atomic_load(&other.errors), 0);
	stop(&g);
	stop(&e);
}

static void *move_thread(void *opaque)
{
	struct runner *other = opaque;

	set_slot(other->sim, 0, 0, GPA + 1, PAGES, (void *)(uintptr_t)other->value);
	atomic_store(&other->stop, true);
	return NULL;
}

static void *kick_thread(void *opaque)
{
	sleep_us(20000);
	set_immediate_exit(opaque, 2);
	return NULL;
}

/* A guest that waits for an INVALID slot can be kicked out, and goes on later as if nothing were. */
static void test_kick_while_invalid(void **state)
{
	struct gap_test *t = *state;
	struct once once = {.op = ONCE_LOAD, .gpa = (GPA + 2) * page_size, .len = 8};
	struct once probe = once;
	struct gpamap_sim_vcpu *v = new_vcpu(t->sim, 0, 0, once_guest, &once);
	struct gpamap_sim_vcpu *p = new_vcpu(t->sim, 1, GPAMAP_SIM_EMULATED, once_guest, &probe);
	struct runner mover = {.sim = t->sim, .value = (uintptr_t)t->memory};
	pthread_t move, kick;

	gpamap_sim_stretch(t->sim, GPAMAP_SIM_WHILE_INVALID, 2000000);
	assert_int_equal(pthread_create(&move, NULL, move_thread, &mover), 0);
	while (run_exit(p) != KVM_EXIT_MMIO)
		probe.done = false;
	assert_int_equal(pthread_create(&kick, NULL, kick_thread, v), 0);
	assert_int_equal(gpamap_sim_vcpu_run(v), -EINTR);
	assert_false(atomic_load(&mover.stop));
	assert_false(once.done);
	set_immediate_exit(v, 0);
	assert_int_equal(run_exit(v), KVM_EXIT_HLT);
	assert_true(once.done);
	assert_int_equal(pthread_join(move, NULL), 0);
	assert_int_equal(pthread_join(kick, NULL), 0);
	gpamap_sim_vcpu_free(v);
	gpamap_sim_vcpu_free(p);
}

/* --------------------------------------------------------------------------- side by side --- */

struct adder {
	unsigned left;
	uint64_t gpa;
};

static int add_guest(struct gpamap_sim_vcpu *v, void *opaque)
{
	struct adder *a = opaque;
	uint64_t old;
	int r;

	if (!a->left)
		return gpamap_sim_halt(v);
	r = gpamap_sim_xadd(v, a->gpa, 3, &old);
	if (!r)
		a->left--;
	return r;
}

/* xadd is atomic on memory, however it is done. */
static void test_xadd_together(void **state)
{
	struct gap_test *t = *state;
	struct adder adders[3];
	struct gpamap_sim_vcpu *v[3];
	pthread_t thread[3];
	uint64_t sum;

	for (unsigned i = 0; i < 3; i++) {
		adders[i] = (struct adder){20000, GPA * page_size + 16};
		v[i] = new_vcpu(t->sim, i, i ? GPAMAP_SIM_EMULATED : 0, add_guest, &adders[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, run_once_thread, v[i]), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(thread[i], NULL), 0);
		gpamap_sim_vcpu_free(v[i]);
	}
	memcpy(&sum, t->memory + 16, 8);
	assert_int_equal(sum, 3 * 3 * 20000);
}

/* Count in a page chosen at random, each step. */
struct dirtier {
	struct runner g;
	unsigned seed;
	uint64_t counts[PAGES];
};

static int dirty_guest(struct gpamap_sim_vcpu *v, void *opaque)
{
	struct dirtier *d = opaque;
	unsigned seed = d->seed;
	unsigned page = (unsigned)rand_r(&seed) / 7 % PAGES;
	uint64_t value = d->counts[page] + 1;
	int r = gpamap_sim_store(v, (GPA + page) * page_size, &value, 8);

	if (r)
		return r;
	d->counts[page] = value;
	d->seed = seed;
	atomic_fetch_add_explicit(&d->g.steps, 1, memory_order_relaxed);
	return 0;
}

/* What a page held when its bit was last read. */
static void harvest(struct gap_test *t, uint64_t *copy)
{
	uint64_t bits = dirty_bits(t->sim, 0);

	for (unsigned i = 0; i < PAGES; i++) {
		if (bits >> i & 1)
			copy[i] = __atomic_load_n((uint64_t *)(t->memory + i * page_size),
						  __ATOMIC_RELAXED);
	}
}

/* No store is missed by a log that is read while the guest runs, nor by one that's read after the slot has
 * moved away for a while. */
static void test_dirty_complete(void **state)
{
	struct gap_test *t = *state;
	struct dirtier d = {.seed = 1};
	uint64_t copy[PAGES] = {0};

	assert_int_equal(set_slot(t->sim, 0, LOG, GPA, PAGES, t->memory), 0);
	d.g.sim = t->sim;
	d.g.vcpu = new_vcpu(t->sim, 0, 0, dirty_guest, &d);
	assert_int_equal(pthread_create(&d.g.thread, NULL, run_thread, &d.g), 0);
	for (unsigned i = 0; i < 500; i++) {
		harvest(t, copy);
		if (i % 8)
			continue;
		hold(&d.g);
		assert_int_equal(set_slot(t->sim, 0, LOG, 4 * GPA, PAGES, t->memory), 0);
		assert_int_equal(set_slot(t->sim, 0, LOG, GPA, PAGES, t->memory), 0);
		let_go(&d.g);
		progress(&d.g);
	}
	stop(&d.g);
	harvest(t, copy);
	assert_int_equal(exits(&d.g), 0);
	for (unsigned i = 0; i < PAGES; i++) {
		assert_true(d.counts[i] > 0);
		assert_int_equal(copy[i], d.counts[i]);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_naive_emulated),
		TEST(test_naive_hardware),
		TEST(test_held),
		TEST(test_naive_fetch_walk),
		TEST(test_move_hardware),
		TEST(test_move_emulated),
		TEST(test_log_toggle),
		TEST(test_delete_waits),
		TEST(test_no_use_after_delete),
		TEST(test_kick_while_invalid),
		TEST(test_xadd_together),
		TEST(test_dirty_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
