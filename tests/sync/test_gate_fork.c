/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a thread knows of itself (gm_thread) is not the child's after a fork: neither its id, nor the records and passes
 * that it has. The child is checked at the gates of its parent, of its own, and of another thread of its own.
 */
#include "gate_actors.h"

#include <stdio.h>
#include <sys/wait.h>

struct fix {
	struct gm_gate gate, childs;
	struct gm_pass pass, other;
};

static struct fix f;
static bool by_another_thread;

#define CHECK(cond)                                                             \
	do {                                                                    \
		if (!(cond)) {                                                  \
			printf("line %d, in the child: %s\n", __LINE__, #cond); \
			fflush(stdout);                                         \
			_exit(1);                                               \
		}                                                               \
	} while (0)

static void *make_childs_gate(void *arg)
{
	(void)arg;
	CHECK(!gm_gate_init(&f.childs, 0, false));
	return NULL;
}

static bool is_empty(struct gm_gate *g)
{
	for (int i = 0; i < GM_HOLDERS; i++) {
		if (g->holders[i].owner)
			return false;
	}
	return true;
}

static void shut_childs_gate(void)
{
	struct gm_stuck stuck;
	unsigned kicked;
	uint64_t start;

	CHECK(!gm_gate_shut(&f.childs, in_ms(200), &kicked, &start, &stuck));
	gm_gate_open(&f.childs);
}

static void child(void)
{
	pthread_t thread;

	CHECK(gm_thread_id() == (pid_t)syscall(SYS_gettid));
	CHECK(!gm_gate_inside(&f.gate));
	/* It has none of its parent's holds to give back. */
	gm_gate_leave(&f.gate);
	if (by_another_thread) {
		CHECK(!pthread_create(&thread, NULL, make_childs_gate, NULL));
		pthread_join(thread, NULL);
	} else {
		make_childs_gate(NULL);
	}
	gm_pass_init(&f.pass, &f.childs, 1, NULL);
	gm_pass_init(&f.other, &f.childs, 2, NULL);
	CHECK(!gm_gate_enter(&f.childs));
	CHECK(!gm_pass_enter(&f.pass));
	CHECK(f.pass.owner == (pid_t)syscall(SYS_gettid));
	gm_pass_leave(&f.pass);
	CHECK(!gm_pass_enter(&f.other));
	gm_gate_leave(&f.childs);
	CHECK(is_empty(&f.childs));
	/* By another pass than the one that the parent's thread had, at the same place. */
	CHECK(gm_gate_inside_but(&f.childs, &f.pass));
	gm_pass_leave(&f.other);
	CHECK(!gm_gate_inside(&f.childs));
	shut_childs_gate();
	_exit(0);
}

static void check_child(void)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		child();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* The parent's thread has looked at its id, and no more; has a pass, too; is inside by both. */
static void in_each_state(void **state)
{
	(void)state;
	assert_int_equal(gm_gate_init(&f.gate, 0, false), 0);
	gm_pass_init(&f.pass, &f.gate, 0, NULL);
	assert_int_equal(gm_gate_enter(&f.gate), 0);
	gm_gate_leave(&f.gate);
	check_child();
	assert_int_equal(gm_pass_enter(&f.pass), 0);
	gm_pass_leave(&f.pass);
	check_child();
	assert_int_equal(gm_pass_enter(&f.pass), 0);
	assert_int_equal(gm_gate_enter(&f.gate), 0);
	check_child();
	/* The parent has noticed nothing. */
	gm_pass_leave(&f.pass);
	assert_true(gm_gate_inside(&f.gate));
	gm_gate_leave(&f.gate);
	assert_false(gm_gate_inside(&f.gate));
	assert_true(is_empty(&f.gate));
	gm_pass_destroy(&f.pass);
	gm_gate_destroy(&f.gate);
}

static void gate_of_another_thread(void **state)
{
	by_another_thread = true;
	in_each_state(state);
	by_another_thread = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_each_state),
		cmocka_unit_test(gate_of_another_thread),
	};

	return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
