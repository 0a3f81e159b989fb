/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulated VM's fault plan: which call fails, that it changes nothing, the counts, and stretches. */
#include "guest.h"

#include <pthread.h>

#define LOG GPAMAP_SIM_LOG_DIRTY

struct fault_test {
	struct gpamap_sim *sim;
	uint8_t *memory;
	bool there; /* the slot that do_call() creates and deletes */
	bool log;
	uint64_t gpa;
};

static int setup(void **state)
{
	struct fault_test *t = calloc(1, sizeof(*t));

	t->sim = new_sim(NULL);
	t->memory = new_memory(8);
	t->gpa = 100;
	assert_int_equal(set_slot(t->sim, 1, 0, t->gpa, 1, t->memory), 0);
	assert_int_equal(set_slot(t->sim, 2, LOG, 200, 1, t->memory), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct fault_test *t = *state;

	gpamap_sim_free(t->sim);
	free_memory(t->memory, 8);
	free(t);
	return 0;
}

/* Legal calls, one after the other, of each kind; the model here follows those that succeed. */
static int do_call(struct fault_test *t, enum gpamap_sim_call kind)
{
	uint64_t bits;
	int r;

	switch (kind) {
	case GPAMAP_SIM_CREATE:
		if (t->there)
			assert_int_equal(delete_slot(t->sim, 0), 0);
		r = set_slot(t->sim, 0, 0, 10, 1, t->memory);
		t->there = !r;
		return r;
	case GPAMAP_SIM_DELETE:
		if (!t->there)
			assert_int_equal(set_slot(t->sim, 0, 0, 10, 1, t->memory), 0);
		r = delete_slot(t->sim, 0);
		t->there = r;
		return r;
	case GPAMAP_SIM_MOVE:
		r = set_slot(t->sim, 1, t->log ? LOG : 0, t->gpa + 1, 1, t->memory);
		t->gpa += !r;
		return r;
	case GPAMAP_SIM_FLAGS:
		r = set_slot(t->sim, 1, t->log ? 0 : LOG, t->gpa, 1, t->memory);
		t->log ^= !r;
		return r;
	default:
		return gpamap_sim_get_dirty_log(t->sim, 2, &bits);
	}
}

/* The slots are as the model says. */
static void assert_state(struct fault_test *t)
{
	uint64_t changes = gpamap_sim_calls(t->sim, GPAMAP_SIM_MOVE) +
			   gpamap_sim_calls(t->sim, GPAMAP_SIM_FLAGS) +
			   gpamap_sim_calls(t->sim, GPAMAP_SIM_CREATE);
	uint64_t bits;

	assert_int_equal(set_slot(t->sim, 1, t->log ? LOG : 0, t->gpa, 1, t->memory), 0);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 1, &bits), t->log ? 0 : -ENOENT);
	if (t->there)
		assert_int_equal(set_slot(t->sim, 0, 0, 10, 1, t->memory), 0);
	assert_int_equal(gpamap_sim_calls(t->sim, GPAMAP_SIM_MOVE) +
				 gpamap_sim_calls(t->sim, GPAMAP_SIM_FLAGS) +
				 gpamap_sim_calls(t->sim, GPAMAP_SIM_CREATE),
			 changes);
	if (!t->there)
		assert_int_equal(set_slot(t->sim, 7, 0, 10, 1, t->memory), 0);
	if (!t->there)
		assert_int_equal(delete_slot(t->sim, 7), 0);
}

static const enum gpamap_sim_call kinds[] = {
	GPAMAP_SIM_CREATE, GPAMAP_SIM_DELETE,	 GPAMAP_SIM_MOVE,
	GPAMAP_SIM_FLAGS,  GPAMAP_SIM_GET_DIRTY,
};
#define NR_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void test_nth_once(void **state)
{
	struct fault_test *t = *state;

	for (size_t k = 0; k < NR_KINDS; k++) {
		for (unsigned nth = 1; nth <= 3; nth++) {
			gpamap_sim_fail(t->sim, kinds[k], nth, ENOSPC, false);
			for (unsigned i = 1; i <= 4; i++)
				assert_int_equal(do_call(t, kinds[k]), i == nth ? -ENOSPC : 0);
			assert_state(t);
		}
	}
}

static void test_forever(void **state)
{
	struct fault_test *t = *state;

	for (size_t k = 0; k < NR_KINDS; k++) {
		gpamap_sim_fail(t->sim, kinds[k], 2, EIO, true);
		for (unsigned i = 1; i <= 5; i++)
			assert_int_equal(do_call(t, kinds[k]), i >= 2 ? -EIO : 0);
		gpamap_sim_fail(t->sim, kinds[k], 0, 0, false);
		assert_state(t);
		assert_int_equal(do_call(t, kinds[k]), 0);
	}
}

/* do_call() of one of these may do the other, too. */
static bool pair(enum gpamap_sim_call a, enum gpamap_sim_call b)
{
	return a <= GPAMAP_SIM_DELETE && b <= GPAMAP_SIM_DELETE;
}

static void test_others_unhurt(void **state)
{
	struct fault_test *t = *state;

	for (size_t k = 0; k < NR_KINDS; k++) {
		gpamap_sim_fail(t->sim, kinds[k], 1, EIO, true);
		for (size_t o = 0; o < NR_KINDS; o++) {
			if (o != k && !pair(kinds[k], kinds[o]))
				assert_int_equal(do_call(t, kinds[o]), 0);
		}
		gpamap_sim_fail(t->sim, kinds[k], 0, 0, false);
	}
}

static void test_any(void **state)
{
	struct fault_test *t = *state;
	uint64_t any = gpamap_sim_calls(t->sim, GPAMAP_SIM_ANY);

	/* Refused and idle calls count as ANY, and can be made to fail. */
	gpamap_sim_fail(t->sim, GPAMAP_SIM_ANY, 3, EIO, true);
	assert_int_equal(set_slot(t->sim, 1, 1u << 7, 0, 1, t->memory), -EINVAL);
	assert_int_equal(set_slot(t->sim, 1, 0, t->gpa, 1, t->memory), 0);
	assert_int_equal(set_slot(t->sim, 1, 1u << 7, 0, 1, t->memory), -EIO);
	assert_int_equal(set_slot(t->sim, 1, 0, t->gpa, 1, t->memory), -EIO);
	assert_int_equal(set_slot(t->sim, 5, 0, 5, 1, t->memory), -EIO);
	assert_int_equal(do_call(t, GPAMAP_SIM_GET_DIRTY), -EIO);
	/* The call's own kind goes first. */
	gpamap_sim_fail(t->sim, GPAMAP_SIM_MOVE, 1, ENOSPC, false);
	assert_int_equal(do_call(t, GPAMAP_SIM_MOVE), -ENOSPC);
	assert_int_equal(do_call(t, GPAMAP_SIM_MOVE), -EIO);
	assert_int_equal(gpamap_sim_calls(t->sim, GPAMAP_SIM_ANY), any + 8);
	gpamap_sim_fail(t->sim, GPAMAP_SIM_ANY, 0, EIO, false);
	assert_state(t);
}

static void test_bad_rules(void **state)
{
	struct fault_test *t = *state;

	gpamap_sim_fail(t->sim, (enum gpamap_sim_call)99, 1, EIO, true);
	gpamap_sim_fail(t->sim, GPAMAP_SIM_MOVE, 1, 0, true);
	gpamap_sim_stretch(t->sim, (enum gpamap_sim_step)99, 1000000);
	assert_int_equal(gpamap_sim_calls(t->sim, (enum gpamap_sim_call)99), 0);
	for (size_t k = 0; k < NR_KINDS; k++)
		assert_int_equal(do_call(t, kinds[k]), 0);
}

/* A call that fails takes no dirty bits along. */
static void test_dirty_kept(void **state)
{
	struct fault_test *t = *state;
	struct once once = {.op = ONCE_STORE, .gpa = 200 * page_size, .len = 8};
	struct gpamap_sim_vcpu *v = new_vcpu(t->sim, 0, 0, once_guest, &once);
	uint64_t bits = 42;

	assert_int_equal(run_exit(v), KVM_EXIT_HLT);
	gpamap_sim_fail(t->sim, GPAMAP_SIM_ANY, 1, ENOMEM, true);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 2, &bits), -ENOMEM);
	assert_int_equal(bits, 42);
	assert_int_equal(delete_slot(t->sim, 2), -ENOMEM);
	assert_int_equal(set_slot(t->sim, 2, 0, 200, 1, t->memory), -ENOMEM);
	assert_int_equal(set_slot(t->sim, 2, 0, 300, 1, t->memory), -ENOMEM);
	gpamap_sim_fail(t->sim, GPAMAP_SIM_ANY, 0, 0, false);
	assert_int_equal(dirty_bits(t->sim, 2), 1);
	gpamap_sim_vcpu_free(v);
}

/* ------------------------------------------------------------------------------- stretches --- */

/* At least that long, whatever signals come. */
static void assert_takes(struct fault_test *t, enum gpamap_sim_call kind, uint64_t ms)
{
	uint64_t start = now_ms();

	assert_int_equal(do_call(t, kind), 0);
	assert_true(now_ms() - start >= ms);
}

static void test_stretch_calls(void **state)
{
	struct fault_test *t = *state;

	assert_int_equal(do_call(t, GPAMAP_SIM_DELETE), 0);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_BEFORE_CREATE, 30000);
	assert_takes(t, GPAMAP_SIM_CREATE, 30);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_BEFORE_CREATE, 0);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_WHILE_INVALID, 20000);
	assert_takes(t, GPAMAP_SIM_MOVE, 20);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_AFTER_DELETE, 30000);
	assert_takes(t, GPAMAP_SIM_DELETE, 50);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_BEFORE_FLAGS, 30000);
	assert_takes(t, GPAMAP_SIM_FLAGS, 30);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_IN_GET_DIRTY, 30000);
	assert_takes(t, GPAMAP_SIM_GET_DIRTY, 30);
}

static void test_stretch_leaving(void **state)
{
	struct fault_test *t = *state;
	struct once once = {.done = true};
	struct gpamap_sim_vcpu *v = new_vcpu(t->sim, 0, 0, once_guest, &once);
	uint64_t start = now_ms();

	gpamap_sim_stretch(t->sim, GPAMAP_SIM_LEAVING_RUN, 30000);
	set_immediate_exit(v, 1);
	assert_int_equal(gpamap_sim_vcpu_run(v), -EINTR);
	assert_true(now_ms() - start >= 30);
	gpamap_sim_vcpu_free(v);
}

static void *mover(void *opaque)
{
	struct fault_test *t = opaque;

	return (void *)(intptr_t)do_call(t, GPAMAP_SIM_MOVE);
}

/* A move that fails has had its slot INVALID: an emulated guest meets a hole meanwhile. Other calls that
 * fail have not. */
static void test_failing_move(void **state)
{
	struct fault_test *t = *state;
	struct once once = {.op = ONCE_LOAD, .gpa = t->gpa * page_size, .len = 8};
	struct gpamap_sim_vcpu *v = new_vcpu(t->sim, 0, GPAMAP_SIM_EMULATED, once_guest, &once);
	uint32_t exit = KVM_EXIT_HLT;
	pthread_t thread;
	void *r;

	gpamap_sim_stretch(t->sim, GPAMAP_SIM_WHILE_INVALID, 500000);
	gpamap_sim_fail(t->sim, GPAMAP_SIM_MOVE, 1, ENOMEM, false);
	assert_int_equal(pthread_create(&thread, NULL, mover, t), 0);
	for (uint64_t end = now_ms() + 10000; exit == KVM_EXIT_HLT && now_ms() < end;) {
		once.done = false;
		exit = run_exit(v);
	}
	assert_int_equal(pthread_join(thread, &r), 0);
	assert_int_equal((intptr_t)r, -ENOMEM);
	assert_int_equal(exit, KVM_EXIT_MMIO);
	assert_int_equal(run_exit(v), KVM_EXIT_HLT);
	once.done = false;
	assert_int_equal(run_exit(v), KVM_EXIT_HLT); /* it's back */
	assert_state(t);
	gpamap_sim_vcpu_free(v);
}

/* Of all kinds of calls that fail by the plan, only moves leave a trace. */
static void test_traces(void **state)
{
	struct fault_test *t = *state;

	for (size_t i = 0; i < NR_KINDS; i++) {
		uint64_t want = gpamap_sim_traces(t->sim, false) + (kinds[i] == GPAMAP_SIM_MOVE);

		assert_int_equal(do_call(t, kinds[i]), 0);
		gpamap_sim_fail(t->sim, kinds[i], 1, ENOMEM, false);
		assert_int_equal(do_call(t, kinds[i]), -ENOMEM);
		assert_int_equal(gpamap_sim_traces(t->sim, false), want);
	}
	/* KVM looks at the greatest GPA too late; at its other rules before. */
	assert_int_equal(set_slot(t->sim, 1, 0, UINT64_C(1) << 40, 1, t->memory), -EINVAL);
	assert_int_equal(gpamap_sim_traces(t->sim, false), 2);
	assert_int_equal(set_slot(t->sim, 1, 0, 200, 1, t->memory), -EEXIST);
	assert_int_equal(set_slot(t->sim, 9, 0, UINT64_C(1) << 40, 1, t->memory), -EINVAL);
	assert_int_equal(gpamap_sim_traces(t->sim, false), 2);
	assert_int_equal(gpamap_sim_traces(t->sim, true), 0);
}

/* The step of a guest, in which a move is refused: it runs meanwhile. */
static int move_in_step(struct gpamap_sim_vcpu *v, void *opaque)
{
	struct fault_test *t = opaque;

	assert_int_equal(do_call(t, GPAMAP_SIM_MOVE), -ENOMEM);
	return gpamap_sim_halt(v);
}

static void test_traces_while_running(void **state)
{
	struct fault_test *t = *state;
	struct gpamap_sim_vcpu *v = new_vcpu(t->sim, 0, 0, move_in_step, t);

	gpamap_sim_fail(t->sim, GPAMAP_SIM_MOVE, 1, ENOMEM, true);
	assert_int_equal(do_call(t, GPAMAP_SIM_MOVE), -ENOMEM);
	assert_int_equal(gpamap_sim_traces(t->sim, true), 0);
	assert_int_equal(run_exit(v), KVM_EXIT_HLT);
	assert_int_equal(gpamap_sim_traces(t->sim, true), 1);
	assert_int_equal(gpamap_sim_traces(t->sim, false), 2);
	/* It is out again. */
	assert_int_equal(do_call(t, GPAMAP_SIM_MOVE), -ENOMEM);
	assert_int_equal(gpamap_sim_traces(t->sim, true), 1);
	gpamap_sim_vcpu_free(v);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nth_once),
		TEST(test_forever),
		TEST(test_others_unhurt),
		TEST(test_any),
		TEST(test_bad_rules),
		TEST(test_dirty_kept),
		TEST(test_stretch_calls),
		TEST(test_stretch_leaving),
		TEST(test_failing_move),
		TEST(test_traces),
		TEST(test_traces_while_running),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
