/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ioctls by the library: which wait at the gate, which wait for a commit, which are refused. On
 * the simulated VM, which has no ioctls: so -ENOTSUP says that one would have been done.
 */
#include "common.h"
#include "gpamap-listener.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/ioctl.h>

#define DONE -ENOTSUP
/* KVM has none with this number. */
#define UNKNOWN _IOW(KVMIO, 0xdf, int)
#define VCPUS 2

static struct gpamap_sim_vcpu *sim_vcpu[VCPUS];
static struct gpamap_vcpu *vcpu[VCPUS];

static int halt(struct gpamap_sim_vcpu *v, void *opaque)
{
	(void)opaque;
	return gpamap_sim_halt(v);
}

static int setup(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	vm_open(&vm, NULL, NULL);
	for (unsigned i = 0; i < VCPUS; i++) {
		ok(gpamap_sim_vcpu_new(vm.sim, i, 0, halt, NULL, &sim_vcpu[i]));
		ok(gpamap_sim_vcpu_attach(vm.map, sim_vcpu[i], &vcpu[i]));
	}
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, PAGE, mem_a, GPAMAP_RW));
	vm_commit(&vm, txn);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < VCPUS; i++) {
		gpamap_vcpu_detach(vcpu[i]);
		gpamap_sim_vcpu_free(sim_vcpu[i]);
	}
	vm_close(&vm);
	return 0;
}

/* ------------------------------------------------------------------------------------ kinds --- */

static int vm_free(void)
{
	return gpamap_vm_ioctl(vm.map, KVM_CHECK_EXTENSION, NULL);
}

static int vm_gated(void)
{
	struct kvm_irq_level level = {.irq = 1};

	return gpamap_vm_ioctl(vm.map, KVM_IRQ_LINE, &level);
}

static int vm_unknown(void)
{
	return gpamap_vm_ioctl(vm.map, UNKNOWN, NULL);
}

static int vm_serialised(void)
{
	return gpamap_vm_ioctl(vm.map, KVM_CREATE_VCPU, NULL);
}

static int device_free(void)
{
	return gpamap_device_ioctl(vm.map, 0, KVM_HAS_DEVICE_ATTR, NULL);
}

static int device_gated(void)
{
	return gpamap_device_ioctl(vm.map, 0, KVM_SET_DEVICE_ATTR, NULL);
}

static int vcpu_free(void)
{
	return gpamap_vcpu_ioctl(vcpu[1], KVM_GET_REGS, NULL);
}

static int vcpu_gated(void)
{
	return gpamap_vcpu_ioctl(vcpu[1], KVM_SET_SREGS, NULL);
}

static int vcpu_unknown(void)
{
	return gpamap_vcpu_ioctl(vcpu[1], UNKNOWN, NULL);
}

struct kind {
	const char *name;
	int (*call)(void);
	enum { FREE, GATED, SERIALISED } how;
};

static const struct kind kinds[] = {
	{"a free one of the VM", vm_free, FREE},
	{"a free one of a device", device_free, FREE},
	{"a free one of a vCPU", vcpu_free, FREE},
	{"a gated one of the VM", vm_gated, GATED},
	{"an unknown one of the VM", vm_unknown, GATED},
	{"a gated one of a device", device_gated, GATED},
	{"a gated one of a vCPU", vcpu_gated, GATED},
	{"an unknown one of a vCPU", vcpu_unknown, GATED},
	{"a serialised one", vm_serialised, SERIALISED},
};

#define for_each_kind(k) for (const struct kind *k = kinds; k < kinds + ARRAY_SIZE(kinds); k++)

static void expect_message(const char *part)
{
	char message[256];

	gpamap_last_message(vm.map, message, sizeof(message));
	if (!strstr(message, part))
		fail_msg("\"%s\" is not in \"%s\"", part, message);
}

static void all_reach_the_backend(void **state)
{
	(void)state;
	for_each_kind(k) assert_int_equal(k->call(), DONE);
	/* And nobody has been left inside. */
	gpamap_abort(vm_begin(&vm));
}

static void run_is_run(void **state)
{
	struct kvm_run *run = gpamap_sim_vcpu_kvm_run(sim_vcpu[0]);

	(void)state;
	run->exit_reason = 0;
	ok(gpamap_vcpu_ioctl(vcpu[0], KVM_RUN, NULL));
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(gpamap_vcpu_ioctl(vcpu[0], KVM_RUN, run), -EINVAL);
	/* The caller's own request comes through. */
	run->immediate_exit = 1;
	assert_int_equal(gpamap_vcpu_ioctl(vcpu[0], KVM_RUN, NULL), -EINTR);
	run->immediate_exit = 0;
}

/* ---------------------------------------------------------------------------------- refused --- */

static void slots_are_the_librarys(void **state)
{
	struct kvm_userspace_memory_region region = {.slot = 7};
	struct kvm_clear_dirty_log clear = {.slot = 7};
	struct kvm_dirty_log log = {.slot = 7};
	uint32_t region2[40] = {7};
	const struct {
		unsigned long request;
		void *arg;
		const char *name;
	} refused[] = {
		{KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION of slot 7 "},
		{_IOW(KVMIO, 0x49, char[160]), region2, "KVM_SET_USER_MEMORY_REGION2 of slot 7 "},
		{KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG of slot 7 "},
		{KVM_CLEAR_DIRTY_LOG, &clear, "KVM_CLEAR_DIRTY_LOG of slot 7 "},
	};

	(void)state;
	ok(gpamap_reserve_slots(vm.map, 0, 8, 1));
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
		assert_int_equal(gpamap_vm_ioctl(vm.map, refused[i].request, refused[i].arg),
				 -EPERM);
		expect_message(refused[i].name);
	}
	ok(gpamap_reserve_slots(vm.map, 0, 7, 1));
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
		assert_int_equal(gpamap_vm_ioctl(vm.map, refused[i].request, refused[i].arg), DONE);
		/* What the kernel doesn't look at tells nothing. */
		assert_int_equal(gpamap_vm_ioctl(vm.map, refused[i].request, NULL), DONE);
	}
	/* An address space that the map has not is the caller's. */
	region.slot = 1u << 16 | 9;
	assert_int_equal(gpamap_vm_ioctl(vm.map, KVM_SET_USER_MEMORY_REGION, &region), DONE);
	/* Not past the end. */
	region.slot = 0xffff;
	assert_int_equal(gpamap_vm_ioctl(vm.map, KVM_SET_USER_MEMORY_REGION, &region), -EPERM);
	/* The kernel takes 32 bits of the number. */
	if (sizeof(long) > 4)
		assert_int_equal(gpamap_vm_ioctl(vm.map, KVM_GET_DIRTY_LOG | ~0ul << 31 << 1,
						 &region),
				 -EPERM);
}

static void kick_stays_open(void **state)
{
	struct {
		uint32_t len;
		uint8_t set[8];
	} mask = {.len = 8};
	sigset_t set;

	(void)state;
	sigfillset(&set);
	sigdelset(&set, KICK);
	memcpy(mask.set, &set, sizeof(mask.set));
	assert_int_equal(gpamap_vcpu_ioctl(vcpu[0], KVM_SET_SIGNAL_MASK, &mask), DONE);
	assert_int_equal(gpamap_vcpu_ioctl(vcpu[0], KVM_SET_SIGNAL_MASK, NULL), DONE);
	sigemptyset(&set);
	sigaddset(&set, KICK);
	memcpy(mask.set, &set, sizeof(mask.set));
	assert_int_equal(gpamap_vcpu_ioctl(vcpu[0], KVM_SET_SIGNAL_MASK, &mask), -EPERM);
	expect_message("kick signal");
}

/* ------------------------------------------------------------------------------ from inside --- */

static void all_from_inside(void)
{
	for_each_kind(k)
	{
		assert_int_equal(k->call(), k->how == SERIALISED ? -EDEADLK : DONE);
		if (k->how == SERIALISED)
			expect_message("KVM_CREATE_VCPU from inside the gate");
	}
}

static void from_inside(void **state)
{
	(void)state;
	ok(gpamap_enter(vm.map));
	all_from_inside();
	gpamap_leave(vm.map);
	/* By another vCPU's pass, and by its own. */
	for (unsigned i = 0; i < VCPUS; i++) {
		ok(gpamap_vcpu_enter(vcpu[i]));
		all_from_inside();
		gpamap_vcpu_leave(vcpu[i]);
	}
	for_each_kind(k) assert_int_equal(k->call(), DONE);
}

static void from_callbacks(const char *where, bool shut)
{
	for_each_kind(k)
	{
		bool refused = k->how == SERIALISED || (k->how == GATED && shut);
		int got = k->call();

		if (got != (refused ? -EDEADLK : DONE))
			fail_msg("%s in %s: %d", k->name, where, got);
	}
}

static int on_prepare(void *opaque, const struct gpamap_change *change)
{
	(void)opaque;
	(void)change;
	from_callbacks("prepare", false);
	return 0;
}

static int on_quiesce(void *opaque, uint64_t deadline_ns)
{
	(void)opaque;
	(void)deadline_ns;
	from_callbacks("quiesce", true);
	return 0;
}

static void on_resume(void *opaque, bool changed)
{
	(void)opaque;
	(void)changed;
	from_callbacks("resume", true);
}

static void on_applied(void *opaque, const struct gpamap_change *change)
{
	(void)change;
	from_callbacks("applied", false);
	++*(unsigned *)opaque;
}

/* Returns its errno. */
static int reback(void *hva)
{
	struct gpamap_txn *txn = vm_begin(&vm);
	int err;

	ok_txn(txn, gpamap_map_pages(txn, 0, 0, PAGE, hva, GPAMAP_RW));
	err = gpamap_commit(txn, &(struct gpamap_commit_options){.timeout_ms = 30000}, NULL);
	if (err)
		gpamap_abort(txn);
	return err;
}

static void from_a_listener(void **state)
{
	unsigned applied = 0;
	struct gpamap_listener_desc desc = {
		.name = "caller",
		.opaque = &applied,
		.prepare = on_prepare,
		.quiesce = on_quiesce,
		.resume = on_resume,
		.applied = on_applied,
	};
	struct gpamap_listener *listener;

	(void)state;
	ok(gpamap_listener_add(vm.map, &desc, &listener));
	ok(reback(mem_b));
	assert_int_equal(applied, 2);
	gpamap_listener_remove(listener);
}

static void broken_map(void **state)
{
	(void)state;
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 1, ENOMEM, true);
	assert_int_equal(reback(mem_b), -ENOTRECOVERABLE);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 0, 0, false);
	for_each_kind(k) assert_int_equal(k->call(), k->how == GATED ? -ENOTRECOVERABLE : DONE);
	assert_int_equal(gpamap_vcpu_ioctl(vcpu[0], KVM_RUN, NULL), -ENOTRECOVERABLE);
	ok(reback(mem_b));
	for_each_kind(k) assert_int_equal(k->call(), DONE);
}

/* ----------------------------------------------------------------------------- the gate shut --- */

/* Is inside until told to leave, so that a commit shuts the gate and waits for it. */
struct holder {
	pthread_t thread;
	sem_t inside;
	sem_t leave;
	atomic_bool leaving;
};

static void wait_sem(sem_t *sem)
{
	while (sem_wait(sem) && errno == EINTR)
		;
}

static void *hold(void *opaque)
{
	struct holder *h = opaque;
	int err = gpamap_vcpu_enter(vcpu[0]);

	sem_post(&h->inside);
	wait_sem(&h->leave);
	atomic_store(&h->leaving, true);
	gpamap_vcpu_leave(vcpu[0]);
	return err ? h : NULL;
}

static void *commit(void *opaque)
{
	return reback(opaque) ? &vm : NULL;
}

/* Does an ioctl when it's told to. */
struct caller {
	const struct kind *kind;
	struct holder *holder;
	bool bound; /* by the thread of the vCPU */
	pthread_t thread;
	sem_t ready;
	sem_t go;
	atomic_int tid;
	atomic_bool called;
	atomic_bool done;
	atomic_bool too_early; /* the holder was still inside */
	atomic_int result;
};

static void *call(void *opaque)
{
	struct caller *c = opaque;

	if (c->bound && !gpamap_vcpu_enter(vcpu[1]))
		gpamap_vcpu_leave(vcpu[1]);
	atomic_store(&c->tid, thread_id());
	sem_post(&c->ready);
	wait_sem(&c->go);
	atomic_store(&c->called, true);
	atomic_store(&c->result, c->kind->call());
	atomic_store(&c->too_early, !atomic_load(&c->holder->leaving));
	atomic_store(&c->done, true);
	return NULL;
}

static bool is_asleep(int tid)
{
	char path[64], line[512] = "";
	const char *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	p = strrchr(line, ')');
	return p && p[1] == ' ' && p[2] == 'S';
}

/* The gate is shut. */
static void check_caller(struct caller *c)
{
	sem_post(&c->go);
	while (!atomic_load(&c->called))
		sleep_ms(1);
	while (!atomic_load(&c->done) && (c->kind->how == FREE || !is_asleep(atomic_load(&c->tid))))
		sleep_ms(1);
	if (atomic_load(&c->done) != (c->kind->how == FREE))
		fail_msg("%s did not wait", c->kind->name);
}

static void begin_caller(struct caller *c)
{
	sem_init(&c->ready, 0, 0);
	sem_init(&c->go, 0, 0);
	ok(pthread_create(&c->thread, NULL, call, c));
	wait_sem(&c->ready);
}

/* While a commit has shut the gate, and waits for somebody to come out. */
static void while_shut(const struct kind *k, bool bound, void *hva)
{
	struct holder h = {0};
	struct caller c = {.kind = k, .holder = &h, .bound = bound};
	uint64_t kicks = vm_stats(&vm).kicks;
	pthread_t committer;
	void *failed;

	begin_caller(&c);
	sem_init(&h.inside, 0, 0);
	sem_init(&h.leave, 0, 0);
	ok(pthread_create(&h.thread, NULL, hold, &h));
	wait_sem(&h.inside);
	ok(pthread_create(&committer, NULL, commit, hva));
	/* The holder is kicked when the gate is shut. */
	while (vm_stats(&vm).kicks == kicks)
		sleep_ms(1);
	check_caller(&c);
	sem_post(&h.leave);
	ok(pthread_join(h.thread, &failed));
	assert_null(failed);
	ok(pthread_join(committer, &failed));
	assert_null(failed);
	ok(pthread_join(c.thread, NULL));
	assert_int_equal(atomic_load(&c.result), DONE);
	assert_int_equal(atomic_load(&c.too_early), k->how == FREE);
}

static void gate_shut(void **state)
{
	(void)state;
	for_each_kind(k)
	{
		while_shut(k, false, mem_b);
		while_shut(k, true, mem_a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_reach_the_backend, setup, teardown),
		cmocka_unit_test_setup_teardown(run_is_run, setup, teardown),
		cmocka_unit_test_setup_teardown(slots_are_the_librarys, setup, teardown),
		cmocka_unit_test_setup_teardown(kick_stays_open, setup, teardown),
		cmocka_unit_test_setup_teardown(from_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(from_a_listener, setup, teardown),
		cmocka_unit_test_setup_teardown(broken_map, setup, teardown),
		cmocka_unit_test_setup_teardown(gate_shut, setup, teardown),
	};

	mems_new(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
