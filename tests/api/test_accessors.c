/* SPDX-License-Identifier: BSD-3-Clause */
/* When a commit has returned, no accessor goes by the old map any more: who unmaps may free at once. (P2, P4, P5) */
#include "common.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGES UINT64_C(1024) /* of the memory that is accessed: 64 times what is copied in one go */
#define SIZE (PAGES * PAGE)

static uint8_t *mem[2];
static struct gpamap_region *ram;

/* Not vm_commit(): that looks at all pages, which others write to meanwhile. */
static void commit(struct gpamap_txn *txn)
{
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
}

static int setup(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	vm_open(&vm, NULL, NULL);
	ram = vm_ram(&vm, mem[0], PAGES, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, ram, 0));
	commit(txn);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	gpamap_region_put(ram);
	vm_close(&vm);
	return 0;
}

/* One access of all the memory, or one after the other until told to end. */
struct accessor {
	pthread_t thread;
	bool is_write;
	bool forever;
	_Atomic(bool) end;
	_Atomic(unsigned) times;
	uint8_t *buf;
	int err;
};

static void *access_all(void *arg)
{
	struct accessor *a = arg;

	do {
		if (a->is_write && a->forever)
			memset(a->buf, (int)atomic_load(&a->times), SIZE);
		a->err = a->is_write ? gpamap_write(vm.map, 0, 0, a->buf, SIZE)
				     : gpamap_read(vm.map, 0, 0, a->buf, SIZE);
		atomic_fetch_add(&a->times, 1);
	} while (a->forever && !atomic_load(&a->end));
	return NULL;
}

static void accessor_begin(struct accessor *a, bool is_write, bool forever)
{
	memset(a, 0, sizeof(*a));
	a->is_write = is_write;
	a->forever = forever;
	a->buf = malloc(SIZE);
	assert_non_null(a->buf);
	memset(a->buf, 0x5a, SIZE);
	assert_int_equal(pthread_create(&a->thread, NULL, access_all, a), 0);
}

static int accessor_end(struct accessor *a)
{
	atomic_store(&a->end, true);
	pthread_join(a->thread, NULL);
	free(a->buf);
	return a->err;
}

static uint8_t look(const uint8_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static size_t pages_with(const uint8_t *from, uint8_t value)
{
	size_t n = 0;

	for (size_t i = 0; i < PAGES; i++)
		n += look(from + i * PAGE + PAGE - 1) == value;
	return n;
}

static void set_readonly(bool on)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	ok_txn(txn, gpamap_set_readonly(txn, ram, on));
	commit(txn);
}

static void no_write_after_read_only(void **state)
{
	struct accessor a;
	unsigned cut = 0, rounds;

	(void)state;
	for (rounds = 0; rounds < 40 || (!cut && rounds < 4000); rounds++) {
		size_t was;

		memset(mem[0], 0, SIZE);
		accessor_begin(&a, true, false);
		while (look(mem[0] + PAGE - 1) != 0x5a)
			;
		set_readonly(true);
		was = pages_with(mem[0], 0x5a);
		if (accessor_end(&a)) {
			assert_int_equal(a.err, -EROFS);
			cut++;
		}
		assert_int_equal(pages_with(mem[0], 0x5a), was);
		set_readonly(false);
	}
	printf("%u of %u writes met the commit\n", cut, rounds);
	assert_true(cut > 0);
}

/* To have no access at all stands for munmap(): who goes there dies. */
static void unmapped_memory_may_go(void **state)
{
	struct accessor a[2];

	(void)state;
	accessor_begin(&a[0], true, true);
	accessor_begin(&a[1], false, true);
	for (int round = 0; round < 300; round++) {
		struct gpamap_txn *txn = vm_begin(&vm);
		uint8_t *at = mem[1] + round % 4 * PAGE * PAGES / 4;

		ok_txn(txn, gpamap_map_pages(txn, 0, SIZE / 2, SIZE / 4, at, GPAMAP_RW));
		commit(txn);
		if (round % 3 == 0)
			sleep_ms(1);
		txn = vm_begin(&vm);
		ok_txn(txn, gpamap_unmap_pages(txn, 0, SIZE / 2, SIZE / 4));
		commit(txn);
		assert_int_equal(mprotect(at, SIZE / 4, PROT_NONE), 0);
		assert_int_equal(mprotect(at, SIZE / 4, PROT_READ | PROT_WRITE), 0);
	}
	ok(accessor_end(&a[0]));
	ok(accessor_end(&a[1]));
	assert_true(atomic_load(&a[0].times) > 0 && atomic_load(&a[1].times) > 0);
}

static void old_memory_is_left_alone(void **state)
{
	struct accessor a;

	(void)state;
	accessor_begin(&a, true, true);
	for (int round = 0; round < 100; round++) {
		struct gpamap_txn *txn = vm_begin(&vm);
		uint8_t *old = mem[round % 2], expect[16] = {0};

		ok_txn(txn, gpamap_reback(txn, ram, mem[!(round % 2)]));
		commit(txn);
		memset(old, 0, SIZE);
		if (round % 3 == 0)
			sleep_ms(1);
		for (size_t i = 0; i < PAGES; i++)
			assert_memory_equal(old + i * PAGE, expect, sizeof(expect));
	}
	ok(accessor_end(&a));
}

/* P4: what differs from how it was when the commit had returned is reported. */
static void log_misses_nothing(void **state)
{
	static uint64_t bits[PAGES / 64];
	static uint8_t was[PAGES];
	struct accessor a;
	size_t written = 0;

	(void)state;
	accessor_begin(&a, true, true);
	for (unsigned round = 0; round < 60 || (!written && round < 6000); round++) {
		struct gpamap_txn *txn = vm_begin(&vm);

		ok_txn(txn, gpamap_set_log(txn, ram, true));
		commit(txn);
		for (size_t i = 0; i < PAGES; i++)
			was[i] = look(mem[0] + i * PAGE);
		if (round % 3 == 0)
			sleep_ms(1);
		set_readonly(true);
		ok(gpamap_dirty_fetch(vm.map, ram, 0, SIZE, bits));
		for (size_t i = 0; i < PAGES; i++) {
			if (look(mem[0] + i * PAGE) == was[i])
				continue;
			written++;
			assert_true(bits[i / 64] >> i % 64 & 1);
		}
		txn = vm_begin(&vm);
		ok_txn(txn, gpamap_set_log(txn, ram, false));
		ok_txn(txn, gpamap_set_readonly(txn, ram, false));
		commit(txn);
	}
	accessor_end(&a);
	printf("%zu pages were written while they were logged\n", written);
	assert_true(written > 0);
}

/* --------------------------------------------------------------------------- who is stuck --- */

static _Atomic(pid_t) faulted;
static atomic_bool go;

static void on_fault(int signo)
{
	(void)signo;
	atomic_store(&faulted, (pid_t)syscall(SYS_gettid));
	while (!atomic_load(&go))
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	mprotect(mem[0] + PAGE, PAGE, PROT_READ | PROT_WRITE);
}

/* Memory that blocks an accessor holds up a commit that changes it until the deadline, and the commit says whom. */
static void blocked_accessor_is_named(void **state)
{
	struct gpamap_commit_options soon = {.timeout_ms = 30};
	struct sigaction act = {.sa_handler = on_fault}, old;
	struct gpamap_stuck_info stuck;
	struct world before;
	struct gpamap_txn *txn;
	struct accessor a;

	(void)state;
	memset(mem[0], 0, SIZE);
	world_take(&vm, &before);
	assert_int_equal(sigaction(SIGSEGV, &act, &old), 0);
	assert_int_equal(mprotect(mem[0] + PAGE, PAGE, PROT_NONE), 0);
	accessor_begin(&a, false, false);
	while (!atomic_load(&faulted))
		sleep_ms(1);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_set_readonly(txn, ram, true));
	for (int i = 0; i < 2; i++) {
		refused(txn, gpamap_commit(txn, &soon, NULL), -ETIMEDOUT);
		ok(gpamap_stuck(txn, &stuck));
		assert_false(stuck.is_vcpu);
		assert_int_equal(stuck.tid, atomic_load(&faulted));
		assert_non_null(strstr(gpamap_message(txn), "access"));
	}
	atomic_store(&go, true);
	ok(accessor_end(&a));
	world_check(&vm, &before);
	commit(txn);
	assert_int_equal(gpamap_write(vm.map, 0, 0, "x", 1), -EROFS);
	assert_int_equal(sigaction(SIGSEGV, &old, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_write_after_read_only, setup, teardown),
		cmocka_unit_test_setup_teardown(unmapped_memory_may_go, setup, teardown),
		cmocka_unit_test_setup_teardown(old_memory_is_left_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(log_misses_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(blocked_accessor_is_named, setup, teardown),
	};

	mem[0] = mem_new(1, PAGES);
	mem[1] = mem_new(2, PAGES);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
