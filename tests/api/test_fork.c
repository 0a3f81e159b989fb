/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A child makes a map of its own, in the thread that forked or in another one. Whatever the parent's thread knew of
 * itself, the child's enters and leaves by its own id: nobody is left inside, and commits that shut the gate succeed.
 */
#include "common.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct vm childs;
static _Alignas(65536) uint8_t page[65536];

static int halt(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	(void)opaque;
	return gpamap_sim_halt(vcpu);
}

static int make(struct vm *vm)
{
	const struct gpamap_options opt = {.kick_signal = SIGUSR1, .timeout_ms = 1000};

	return gpamap_sim_new(NULL, &vm->sim) || gpamap_new_sim(vm->sim, &opt, &vm->map);
}

static void *make_childs(void *arg)
{
	(void)arg;
	return make(&childs) ? &childs : NULL;
}

static bool make_in_another_thread(void)
{
	pthread_t thread;
	void *failed;

	return !pthread_create(&thread, NULL, make_childs, NULL) &&
	       !pthread_join(thread, &failed) && !failed;
}

/* A commit for which the gate has to shut. */
static int commit_in_child(void)
{
	const struct gpamap_commit_options instant = {.flags = GPAMAP_COMMIT_ONE_INSTANT};
	struct gpamap_commit_report report;
	struct gpamap_txn *txn;
	int err = gpamap_begin(childs.map, &txn);

	if (!err)
		err = gpamap_map_pages(txn, 0, 0, sizeof(page), page, GPAMAP_RW);
	if (!err)
		err = gpamap_commit(txn, &instant, &report);
	return err ? err : report.gate_shut ? 0 : -1;
}

static void *commit_in_vain(void *arg)
{
	const struct gpamap_commit_options soon = {.flags = GPAMAP_COMMIT_ONE_INSTANT,
						   .timeout_ms = 20};
	struct gpamap_stuck_info *stuck = arg;
	struct gpamap_txn *txn;

	if (gpamap_begin(childs.map, &txn))
		return NULL;
	if (gpamap_map_pages(txn, 0, 0, sizeof(page), page, GPAMAP_RW) ||
	    gpamap_commit(txn, &soon, NULL) != -ETIMEDOUT || gpamap_stuck(txn, stuck))
		stuck->tid = -1;
	gpamap_abort(txn);
	return NULL;
}

/* Who is inside goes by the id that it has in the child. */
static bool is_named(void)
{
	struct gpamap_stuck_info stuck = {.is_vcpu = true};
	pthread_t thread;

	return !pthread_create(&thread, NULL, commit_in_vain, &stuck) &&
	       !pthread_join(thread, NULL) && !stuck.is_vcpu && stuck.tid == thread_id();
}

/* 0, or the number of the step that went wrong. */
static int child(bool another_thread)
{
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;

	if (another_thread ? !make_in_another_thread() : make(&childs))
		return 1;
	if (gpamap_sim_vcpu_new(childs.sim, 0, 0, halt, NULL, &sim_vcpu) ||
	    gpamap_sim_vcpu_attach(childs.map, sim_vcpu, &vcpu))
		return 2;
	if (gpamap_enter(childs.map) || !is_named() || gpamap_vcpu_enter(vcpu))
		return 3;
	gpamap_leave(childs.map);
	gpamap_vcpu_leave(vcpu);
	if (gpamap_vcpu_run(vcpu))
		return 4;
	if (commit_in_child())
		return 5;
	gpamap_vcpu_detach(vcpu);
	gpamap_free(childs.map);
	gpamap_sim_vcpu_free(sim_vcpu);
	gpamap_sim_free(childs.sim);
	return 0;
}

static void check_child(bool another_thread)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(child(another_thread));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void child_makes_its_own(void **state)
{
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
	struct vm vm = {0};

	(void)state;
	gpamap_kick_install(SIGUSR1);
	ok(make(&vm));
	ok(gpamap_sim_vcpu_new(vm.sim, 0, 0, halt, NULL, &sim_vcpu));
	ok(gpamap_sim_vcpu_attach(vm.map, sim_vcpu, &vcpu));
	for (int another = 0; another < 2; another++) {
		check_child(another);
		ok(gpamap_vcpu_run(vcpu));
		check_child(another);
		ok(gpamap_enter(vm.map));
		check_child(another);
		ok(gpamap_vcpu_enter(vcpu));
		check_child(another);
		gpamap_leave(vm.map);
		gpamap_vcpu_leave(vcpu);
		/* The parent has noticed nothing. */
		gpamap_abort(vm_begin(&vm));
	}
	gpamap_vcpu_detach(vcpu);
	gpamap_free(vm.map);
	gpamap_sim_vcpu_free(sim_vcpu);
	gpamap_sim_free(vm.sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(child_makes_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
