/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The simulated VM's promises to those who change slots while guests run: what a change waits for, that a
 * guest can be kicked out of any wait, and that no locked operation and no dirty page is lost, also where a
 * stretched step lets others come between a store, its mark, and who reads the log.
 */
#include "runner.h"

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

static void add_together(struct gap_test *t, unsigned count)
{
	struct adder adders[3];
	struct gpamap_sim_vcpu *v[3];
	pthread_t thread[3];
	uint64_t before, after;
	void *r;

	memcpy(&before, t->memory + 16, 8);
	for (unsigned i = 0; i < 3; i++) {
		adders[i] = (struct adder){count, GPA * page_size + 16};
		v[i] = new_vcpu(t->sim, i, i ? GPAMAP_SIM_EMULATED : 0, add_guest, &adders[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, run_once_thread, v[i]), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(thread[i], &r), 0);
		assert_int_equal((intptr_t)r, 0);
		gpamap_sim_vcpu_free(v[i]);
	}
	memcpy(&after, t->memory + 16, 8);
	assert_int_equal(after - before, 3 * 3 * count);
}

/* xadd is atomic on memory, however it is done: also if others come between the emulator's read and its
 * write, which they do when it is stretched. */
static void test_xadd_together(void **state)
{
	struct gap_test *t = *state;

	add_together(t, 20000);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_IN_ACCESS, 50);
	add_together(t, 300);
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

/* The guest's store is in memory, and its mark has yet to come. */
static bool store_without_mark(struct gap_test *t, struct once *once, pthread_t *thread,
			       struct gpamap_sim_vcpu *v)
{
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_BEFORE_MARK, 300000);
	memset(t->memory, 0, 1);
	once->buf[0] = 1;
	assert_int_equal(pthread_create(thread, NULL, run_once_thread, v), 0);
	while (!__atomic_load_n(t->memory, __ATOMIC_RELAXED))
		sleep_us(100);
	return !dirty_bits(t->sim, 0);
}

/* A log that is read between a store and its mark has the page the next time; and it has it when the slot has
 * moved meanwhile, for the move has waited for the mark. (S4) */
static void marked_late(struct gap_test *t, enum once_op op, unsigned flags)
{
	bool hit = false;

	for (unsigned tries = 0; tries < 50 && !hit; tries++) {
		struct once once = {.op = op, .gpa = GPA * page_size, .len = 1, .add = 1};
		struct gpamap_sim_vcpu *v = new_vcpu(t->sim, 0, flags, once_guest, &once);
		pthread_t thread;

		hit = store_without_mark(t, &once, &thread, v);
		if (hit) {
			assert_int_equal(set_slot(t->sim, 0, LOG, 4 * GPA, PAGES, t->memory), 0);
			assert_int_equal(dirty_bits(t->sim, 0), 1);
			assert_int_equal(set_slot(t->sim, 0, LOG, GPA, PAGES, t->memory), 0);
		}
		assert_int_equal(pthread_join(thread, NULL), 0);
		dirty_bits(t->sim, 0);
		gpamap_sim_vcpu_free(v);
	}
	assert_true(hit);
}

static void test_mark_is_late(void **state)
{
	struct gap_test *t = *state;

	assert_int_equal(set_slot(t->sim, 0, LOG, GPA, PAGES, t->memory), 0);
	marked_late(t, ONCE_STORE, 0);
	marked_late(t, ONCE_XADD, 0);
	marked_late(t, ONCE_STORE, GPAMAP_SIM_EMULATED);
	marked_late(t, ONCE_XADD, GPAMAP_SIM_EMULATED);
}

struct log_reader {
	struct gpamap_sim *sim;
	uint64_t bits;
	_Atomic(bool) done;
};

static void *read_log(void *opaque)
{
	struct log_reader *r = opaque;

	r->bits = dirty_bits(r->sim, 0);
	atomic_store(&r->done, true);
	return NULL;
}

/* A store that comes when the log has been read, and the call has not returned, is in the next one. */
static void test_store_while_read(void **state)
{
	struct gap_test *t = *state;
	unsigned hits = 0;

	assert_int_equal(set_slot(t->sim, 0, LOG, GPA, PAGES, t->memory), 0);
	for (unsigned tries = 0; tries < 50 && !hits; tries++) {
		struct once once = {.op = ONCE_STORE, .gpa = GPA * page_size, .len = 1};
		struct gpamap_sim_vcpu *v = new_vcpu(t->sim, 0, 0, once_guest, &once);
		uint64_t calls = gpamap_sim_calls(t->sim, GPAMAP_SIM_GET_DIRTY);
		struct log_reader reader = {.sim = t->sim};
		pthread_t thread;
		bool within;

		gpamap_sim_stretch(t->sim, GPAMAP_SIM_IN_GET_DIRTY, 200000);
		assert_int_equal(pthread_create(&thread, NULL, read_log, &reader), 0);
		while (gpamap_sim_calls(t->sim, GPAMAP_SIM_GET_DIRTY) == calls)
			sleep_us(100);
		sleep_us(20000);
		assert_int_equal(run_exit(v), KVM_EXIT_HLT);
		within = !atomic_load(&reader.done);
		assert_int_equal(pthread_join(thread, NULL), 0);
		gpamap_sim_stretch(t->sim, GPAMAP_SIM_IN_GET_DIRTY, 0);
		/* With the bit, the store was there before the log was read. */
		hits += within && !reader.bits;
		assert_int_equal(reader.bits + dirty_bits(t->sim, 0), 1);
		gpamap_sim_vcpu_free(v);
	}
	assert_int_equal(hits, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_delete_waits),       TEST(test_no_use_after_delete),
		TEST(test_kick_while_invalid), TEST(test_xadd_together),
		TEST(test_dirty_complete),     TEST(test_mark_is_late),
		TEST(test_store_while_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
