/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commits from the exit handlers of two vCPUs at once; and vCPUs that go and come while others commit. Every commit
 * shuts the gate, so each has to bring the other vCPU out, or wait for its commit (P6).
 */
#include "vm.h"

#include <stdlib.h>
#include <sys/ioctl.h>

#define FLIPPED PAGE_TEST
#define COMMITS 100
#define ROUNDS 12

static struct vm vm;

static int teardown(void **state)
{
	(void)state;
	vm_close(&vm);
	return 0;
}

/* ------------------------------------------------------------------------------ exit handlers --- */

/* A vCPU whose device changes the map at each access, and the page that it changes. */
struct device {
	unsigned page;
	unsigned watched; /* by its guest */
	atomic_ulong commits;
	atomic_int err;
	atomic_bool not_shut;
	atomic_bool old_word; /* the guest has seen the map from before a commit */
	uint64_t expect;      /* what the guest must have read by its next exit; 0: anything */
};

/* The guest reads before it rings, and so after the last commit. If that was of its own page, it must have met the
 * new map (P2). */
static void flip_in_handler(struct vcpu *v)
{
	struct device *d = v->opaque;
	struct gpamap_commit_report report;
	int err;

	if (d->expect && vcpu_saw(v) != d->expect)
		atomic_store(&d->old_word, true);
	err = vm_flip_page(&vm, d->page, &report);
	if (err) {
		atomic_store(&d->err, err);
		return;
	}
	d->expect = d->watched == d->page ? vm_word(&vm, d->page) : 0;
	if (!report.gate_shut)
		atomic_store(&d->not_shut, true);
	atomic_fetch_add(&d->commits, 1);
}

static struct vcpu *start_device(unsigned id, struct device *d, enum mode mode)
{
	struct vcpu *v = vcpu_new(&vm, id);

	v->on_ring = flip_in_handler;
	v->opaque = d;
	vcpu_set(v, mode, LOOP, d->watched, true);
	vcpu_start(v);
	return v;
}

static void check_device(const struct device *d)
{
	assert_int_equal(atomic_load(&d->err), 0);
	assert_false(atomic_load(&d->not_shut));
	assert_false(atomic_load(&d->old_word));
}

/* Each guest reads the page that its own device changes, or that of the other: then it reads while the page
 * changes, and must not find a hole (P1). */
static void commit_from_handlers(unsigned flags, enum mode mode, bool crossed)
{
	struct device devices[2] = {
		{.page = FLIPPED, .watched = crossed ? FLIPPED + 8 : FLIPPED},
		{.page = FLIPPED + 8, .watched = crossed ? FLIPPED : FLIPPED + 8},
	};
	struct vcpu *v[2];
	struct gpamap_stats s;
	unsigned long commits;

	vm_open(&vm, flags);
	for (unsigned i = 0; i < 2; i++)
		v[i] = start_device(i, &devices[i], mode);
	step("commits from two exit handlers");
	for (unsigned i = 0; i < 2; i++) {
		wait_until(atomic_load(&devices[i].commits) >= COMMITS ||
			   atomic_load(&devices[i].err) || atomic_load(&v[i]->bad_exit) ||
			   atomic_load(&v[i]->err));
		check_device(&devices[i]);
	}
	for (unsigned i = 0; i < 2; i++) {
		vcpu_stop(v[i]);
		check_device(&devices[i]);
		/* It goes around once for each ring, and may be before the next one. */
		assert_in_range(vcpu_count(v[i]) - v[i]->rings, 0, 1);
	}
	s = vm_stats(&vm);
	commits = devices[0].commits + devices[1].commits;
	assert_int_equal(s.commits, commits + 1);
	assert_int_equal(s.gate_shut, commits);
	assert_int_equal(s.failed, 0);
}

static void own_pages(void **state)
{
	(void)state;
	commit_from_handlers(0, USER, false);
}

static void own_pages_with_fences(void **state)
{
	(void)state;
	commit_from_handlers(GPAMAP_NO_MEMBARRIER, USER, false);
}

static void each_others_pages(void **state)
{
	(void)state;
	commit_from_handlers(0, SUPERVISOR, true);
}

/* ------------------------------------------------------------------------------ come and go --- */

static unsigned rounds(void)
{
	int most = ioctl(vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	/* One stays, and KVM gives an id only once. */
	return most > 0 && most - 1 < ROUNDS ? (unsigned)most - 1 : ROUNDS;
}

/* Made, run, brought to its end and closed, with commits before, between and after. */
static void come_and_go(unsigned id)
{
	struct vcpu *v;

	step("making and attaching a vCPU");
	ok(gpamap_enter(vm.map));
	v = vcpu_new_raw(&vm, id);
	gpamap_leave(vm.map);
	ok(gpamap_vcpu_attach(vm.map, v->fd, v->run, id, &v->gate));
	vcpu_set(v, USER, LOOP, FLIPPED, false);
	vcpu_start(v);
	step("running a vCPU that has come");
	vcpu_await(v, 3);
	stream_await(&vm, 3);
	step("stopping and detaching a vCPU");
	vcpu_stop(v);
	vcpu_free(v);
	step("commits after a vCPU has gone");
	stream_await(&vm, 1);
}

static void vcpus_come_and_go(void **state)
{
	struct vcpu *stays;
	unsigned n;

	(void)state;
	vm_open(&vm, 0);
	n = rounds();
	stays = vcpu_new(&vm, 0);
	vcpu_set(stays, SUPERVISOR, LOOP, FLIPPED, false);
	vcpu_start(stays);
	stream_start(&vm, FLIPPED);
	for (unsigned id = 1; id <= n; id++) {
		come_and_go(id);
		vcpu_await(stays, 1);
	}
	stream_stop(&vm);
	step("after the last commit");
	vcpu_await(stays, 3);
	assert_int_equal(vcpu_saw(stays), vm_word(&vm, FLIPPED));
	vcpu_stop(stays);
	assert_int_equal(vm_stats(&vm).failed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(own_pages, teardown),
		cmocka_unit_test_teardown(own_pages_with_fences, teardown),
		cmocka_unit_test_teardown(each_others_pages, teardown),
		cmocka_unit_test_teardown(vcpus_come_and_go, teardown),
	};

	if (!vm_available())
		return 77;
	watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
