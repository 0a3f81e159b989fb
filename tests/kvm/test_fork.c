/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A fork while vCPUs run and commits are under way: the parent's guests and commits go on as if nothing had been, and
 * the child may end, or make a VM and a map of its own.
 */
#include "vm.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define FLIPPED PAGE_TEST
#define FORKS 12
#define FREES 3
#define CHILD_ROUNDS 20

static struct vm vm, childs_vm;
static struct vcpu *quiet, *ringing;

static int setup(void **state)
{
	(void)state;
	vm_open(&vm, 0);
	quiet = vcpu_new(&vm, 0);
	vcpu_set(quiet, USER, LOOP, FLIPPED, false);
	ringing = vcpu_new(&vm, 1);
	vcpu_set(ringing, SUPERVISOR, LOOP, FLIPPED, true);
	vcpu_start(quiet);
	vcpu_start(ringing);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vm_close(&vm);
	return 0;
}

/* The parent's side of it all: nobody has noticed. */
static void check_parent(void)
{
	step("the parent's guests and commits after a fork");
	vcpu_await(quiet, 3);
	vcpu_await(ringing, 3);
	stream_await(&vm, 3);
	assert_int_equal(vm_stats(&vm).failed, 0);
}

static pid_t start_child(void (*body)(void))
{
	pid_t child;

	step("a fork");
	child = fork();
	assert_true(child >= 0);
	if (child)
		return child;
	/* It has no watchdog: should it hang, it goes with its parent, which has one. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	body();
	_exit(0);
}

static void end_child(pid_t child)
{
	int status;

	step("waiting for the child");
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status))
		fail_msg("the child was ended by signal %d", WTERMSIG(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* While commits are under way. */
static void fork_in_stream(void (*body)(void))
{
	pid_t child = start_child(body);

	check_parent();
	end_child(child);
	check_parent();
}

/* With nobody in a function of the library but for the vCPUs: a lock that is taken while a process forks stays so in
 * the child for good. */
static void fork_between_commits(void (*body)(void))
{
	pid_t child;

	stream_stop(&vm);
	child = start_child(body);
	stream_start(&vm, FLIPPED);
	check_parent();
	end_child(child);
	check_parent();
}

static void check_last_words(void)
{
	stream_stop(&vm);
	step("after the last commit");
	vcpu_await(quiet, 2);
	vcpu_await(ringing, 2);
	assert_int_equal(vcpu_saw(quiet), vm_word(&vm, FLIPPED));
	assert_int_equal(vcpu_saw(ringing), vm_word(&vm, FLIPPED));
	vcpu_stop(quiet);
	vcpu_stop(ringing);
	assert_in_range(vcpu_count(ringing) - ringing->rings, 0, 1);
}

/* Whatever locks of the library were held when the child was forked. */
static void begin_on_the_parents_map(void)
{
	struct gpamap_txn *txn;

	if (gpamap_begin(vm.map, &txn) != -EPERM)
		_exit(1);
}

static void child_ends(void **state)
{
	(void)state;
	stream_start(&vm, FLIPPED);
	for (int i = 0; i < FORKS; i++)
		fork_in_stream(begin_on_the_parents_map);
	check_last_words();
}

/* Run by the child's one thread: the guest rings between commits, and sees each of them. A check that fails makes
 * the child go on with the tests, and end with another status. */
static void use_own_vm(void)
{
	struct vcpu *v = vcpu_new(&childs_vm, 0);

	vcpu_set(v, USER, LOOP, FLIPPED, true);
	for (int i = 0; i < CHILD_ROUNDS; i++) {
		struct gpamap_commit_report report;

		ok(gpamap_enter(childs_vm.map));
		ok(gpamap_vcpu_enter(v->gate));
		gpamap_leave(childs_vm.map);
		gpamap_vcpu_leave(v->gate);
		ok(vm_flip_page(&childs_vm, FLIPPED, &report));
		if (!report.gate_shut || !vcpu_step(v) ||
		    vcpu_saw(v) != vm_word(&childs_vm, FLIPPED))
			_exit(1);
	}
	vm_close(&childs_vm);
}

static void make_own_vm(void)
{
	vm_open(&childs_vm, 0);
	use_own_vm();
}

/* The map is made by another thread than the one that has forked, and knows its id from before. ThreadSanitizer ends a
 * child that starts a thread. */
#ifdef __SANITIZE_THREAD__
static void make_own_vm_in_a_thread(void)
{
	make_own_vm();
}
#else
static void *open_own_vm(void *arg)
{
	vm_open(&childs_vm, 0);
	return arg;
}

static void make_own_vm_in_a_thread(void)
{
	pthread_t thread;

	ok(pthread_create(&thread, NULL, open_own_vm, NULL));
	ok(pthread_join(thread, NULL));
	use_own_vm();
}
#endif

static void child_makes_its_own(void **state)
{
	(void)state;
	stream_start(&vm, FLIPPED);
	ok(gpamap_enter(vm.map));
	gpamap_leave(vm.map);
	for (int i = 0; i < FORKS; i++)
		fork_between_commits(i % 2 ? make_own_vm_in_a_thread : make_own_vm);
	check_last_words();
}

/* Not allowed, but may come to pass on the child's way out. KVM refuses what it asks for. */
static void free_parents_map(void)
{
	gpamap_free(vm.map);
}

static void child_frees_the_parents(void **state)
{
	(void)state;
	stream_start(&vm, FLIPPED);
	for (int i = 0; i < FREES; i++)
		fork_between_commits(free_parents_map);
	check_last_words();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(child_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(child_makes_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(child_frees_the_parents, setup, teardown),
	};

	if (!vm_available())
		return 77;
	watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
