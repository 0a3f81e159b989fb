/* SPDX-License-Identifier: BSD-3-Clause */
/* What a simulated guest's accesses do and meet, one at a time: memory, holes, and how exits complete. */
#include "guest.h"

#define RO GPAMAP_SIM_READONLY
#define MEM 16	/* page where there's memory, */
#define ROM 32	/* read-only memory, */
#define HOLE 48 /* and nothing */
#define PAGES 4

struct guest_test {
	struct gpamap_sim *sim;
	uint8_t *memory;
	uint8_t *rom;
	struct gpamap_sim_vcpu *vcpu;
	struct kvm_run *run;
	struct once once;
	unsigned flags;
};

static struct guest_test *setup(unsigned flags)
{
	struct guest_test *t = calloc(1, sizeof(*t));

	t->sim = new_sim(NULL);
	t->memory = new_memory(PAGES);
	t->rom = new_memory(PAGES);
	for (unsigned i = 0; i < PAGES * page_size; i++) {
		t->memory[i] = (uint8_t)(i * 7 + i / 256);
		t->rom[i] = (uint8_t)(i * 5 + 1);
	}
	assert_int_equal(set_slot(t->sim, 0, 0, MEM, PAGES, t->memory), 0);
	assert_int_equal(set_slot(t->sim, 1, RO, ROM, PAGES, t->rom), 0);
	t->vcpu = new_vcpu(t->sim, 0, flags, once_guest, &t->once);
	t->run = gpamap_sim_vcpu_kvm_run(t->vcpu);
	t->flags = flags;
	return t;
}

static int setup_hardware(void **state)
{
	*state = setup(0);
	return 0;
}

static int setup_emulated(void **state)
{
	*state = setup(GPAMAP_SIM_EMULATED);
	return 0;
}

static int teardown(void **state)
{
	struct guest_test *t = *state;

	gpamap_sim_vcpu_free(t->vcpu);
	gpamap_sim_free(t->sim);
	free_memory(t->memory, PAGES);
	free_memory(t->rom, PAGES);
	free(t);
	return 0;
}

/* The guest's next access. */
static void next(struct guest_test *t, enum once_op op, uint64_t gpa, unsigned len)
{
	memset(&t->once, 0, sizeof(t->once));
	t->once.op = op;
	t->once.gpa = gpa;
	t->once.len = len;
	for (unsigned i = 0; op == ONCE_STORE && i < len; i++)
		t->once.buf[i] = (uint8_t)(0xa0 + i);
}

static void assert_mmio(struct guest_test *t, uint64_t gpa, unsigned len, bool is_write)
{
	assert_int_equal(run_exit(t->vcpu), KVM_EXIT_MMIO);
	assert_int_equal(t->run->mmio.phys_addr, gpa);
	assert_int_equal(t->run->mmio.len, len);
	assert_int_equal(t->run->mmio.is_write, is_write);
	assert_false(t->once.done);
}

static void assert_done(struct guest_test *t)
{
	assert_int_equal(run_exit(t->vcpu), KVM_EXIT_HLT);
	assert_true(t->once.done);
}

static uint64_t read64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

/* ---------------------------------------------------------------------------------- memory --- */

static void test_memory(void **state)
{
	struct guest_test *t = *state;
	static const unsigned lens[] = {1, 2, 3, 4, 7, 8, 16, 33, 64, 4096};

	for (unsigned at = 0; at < 9; at++) {
		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			next(t, ONCE_LOAD, MEM * page_size + at, lens[i]);
			assert_done(t);
			assert_memory_equal(t->once.buf, t->memory + at, lens[i]);
			next(t, ONCE_LOAD, ROM * page_size + at, lens[i]);
			assert_done(t);
			assert_memory_equal(t->once.buf, t->rom + at, lens[i]);
			next(t, ONCE_STORE, MEM * page_size + 100 + at, lens[i]);
			t->memory[100 + at + lens[i]] = 0x55;
			t->memory[100 + at - 1] = 0x66;
			assert_done(t);
			assert_memory_equal(t->once.buf, t->memory + 100 + at, lens[i]);
			assert_int_equal(t->memory[100 + at + lens[i]], 0x55);
			assert_int_equal(t->memory[100 + at - 1], 0x66);
		}
	}
}

static void test_cross_page(void **state)
{
	struct guest_test *t = *state;
	uint64_t edge = (MEM + 1) * page_size;

	next(t, ONCE_STORE, edge - 3, 8);
	assert_done(t);
	assert_memory_equal(t->memory + page_size - 3, t->once.buf, 8);
	next(t, ONCE_LOAD, edge - 3, 8);
	assert_done(t);
	assert_memory_equal(t->memory + page_size - 3, t->once.buf, 8);
	next(t, ONCE_LOAD, edge - 2000, 4096);
	assert_done(t);
	assert_memory_equal(t->memory + page_size - 2000, t->once.buf, 4096);
}

static void test_xadd(void **state)
{
	struct guest_test *t = *state;
	uint64_t before = read64(t->memory + 64);

	next(t, ONCE_XADD, MEM * page_size + 64, 0);
	t->once.add = 1000;
	assert_done(t);
	assert_int_equal(t->once.value, before);
	assert_int_equal(read64(t->memory + 64), before + 1000);
}

static void test_fetch_walk(void **state)
{
	struct guest_test *t = *state;
	static const unsigned pages[] = {MEM, ROM};

	for (unsigned i = 0; i < 2; i++) {
		const uint8_t *from = i ? t->rom : t->memory;

		next(t, ONCE_FETCH, pages[i] * page_size + 3, 15);
		assert_done(t);
		assert_memory_equal(t->once.buf, from + 3, 15);
		next(t, ONCE_WALK, pages[i] * page_size + 8, 0);
		assert_done(t);
		assert_int_equal(t->once.value, read64(from + 8));
	}
}

static void test_bad_access(void **state)
{
	struct guest_test *t = *state;
	static const struct {
		enum once_op op;
		unsigned at;
		unsigned len;
	} bad[] = {
		{ONCE_LOAD, 0, 0},     {ONCE_LOAD, 0, 4097}, {ONCE_STORE, 0, 0},
		{ONCE_STORE, 0, 4097}, {ONCE_XADD, 4, 8},    {ONCE_WALK, 4, 8},
		{ONCE_FETCH, 4090, 8}, {ONCE_FETCH, 0, 0},
	};

	if (page_size != 4096)
		skip();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		next(t, bad[i].op, MEM * page_size + bad[i].at, bad[i].len);
		assert_int_equal(gpamap_sim_vcpu_run(t->vcpu), -EINVAL);
		assert_false(t->once.done);
	}
	next(t, ONCE_LOAD, UINT64_MAX - 3, 8);
	assert_int_equal(gpamap_sim_vcpu_run(t->vcpu), -EINVAL);
	next(t, ONCE_LOAD, UINT64_MAX - 3, 4);
	assert_mmio(t, UINT64_MAX - 3, 4, false);
}

/* ----------------------------------------------------------------------------------- holes --- */

static void test_fetch_walk_hole(void **state)
{
	struct guest_test *t = *state;

	next(t, ONCE_FETCH, HOLE * page_size, 8);
	assert_int_equal(run_exit(t->vcpu), KVM_EXIT_INTERNAL_ERROR);
	assert_int_equal(t->run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	assert_int_equal(run_exit(t->vcpu), KVM_EXIT_INTERNAL_ERROR);
	assert_false(t->once.done);
	/* Nothing sticks: with memory there it goes on. */
	assert_int_equal(set_slot(t->sim, 2, 0, HOLE, 1, t->memory), 0);
	assert_done(t);
	assert_int_equal(delete_slot(t->sim, 2), 0);
	next(t, ONCE_WALK, HOLE * page_size, 8);
	assert_int_equal(run_exit(t->vcpu), KVM_EXIT_SHUTDOWN);
	assert_false(t->once.done);
}

static void test_load_hole(void **state)
{
	struct guest_test *t = *state;

	for (unsigned len = 1; len <= 8; len++) {
		next(t, ONCE_LOAD, HOLE * page_size + 5, len);
		assert_mmio(t, HOLE * page_size + 5, len, false);
		memcpy(t->run->mmio.data, "answered", 8);
		assert_done(t);
		assert_memory_equal(t->once.buf, "answered", len);
		assert_int_equal(t->once.buf[len], 0);
	}
	/* An answer is used once. */
	next(t, ONCE_LOAD, HOLE * page_size + 5, 8);
	assert_mmio(t, HOLE * page_size + 5, 8, false);
}

static void test_load_hole_filled(void **state)
{
	struct guest_test *t = *state;

	next(t, ONCE_LOAD, HOLE * page_size, 8);
	assert_mmio(t, HOLE * page_size, 8, false);
	memcpy(t->run->mmio.data, "answered", 8);
	assert_int_equal(set_slot(t->sim, 2, 0, HOLE, 1, t->memory), 0);
	assert_done(t);
	assert_memory_equal(t->once.buf, "answered", 8);
	next(t, ONCE_LOAD, HOLE * page_size, 8);
	assert_done(t);
	assert_memory_equal(t->once.buf, t->memory, 8);
}

static void store_exits(struct guest_test *t, uint64_t gpa)
{
	next(t, ONCE_STORE, gpa, 8);
	assert_mmio(t, gpa, 8, true);
	assert_memory_equal(t->run->mmio.data, t->once.buf, 8);
	assert_done(t);
}

static void test_store_hole(void **state)
{
	struct guest_test *t = *state;
	uint64_t was = read64(t->memory);

	store_exits(t, HOLE * page_size);
	/* One that the caller did not do is lost, even where there's memory by now. */
	next(t, ONCE_STORE, HOLE * page_size, 8);
	assert_mmio(t, HOLE * page_size, 8, true);
	assert_int_equal(set_slot(t->sim, 2, 0, HOLE, 1, t->memory), 0);
	assert_done(t);
	assert_int_equal(read64(t->memory), was);
	next(t, ONCE_STORE, HOLE * page_size, 8);
	assert_done(t);
	assert_memory_equal(t->memory, t->once.buf, 8);
}

static void test_store_readonly(void **state)
{
	struct guest_test *t = *state;
	uint64_t was = read64(t->rom + 16);

	store_exits(t, ROM * page_size + 16);
	assert_int_equal(read64(t->rom + 16), was);
}

static void test_long_hole(void **state)
{
	struct guest_test *t = *state;
	uint64_t gpa = HOLE * page_size;

	next(t, ONCE_LOAD, gpa, 20);
	assert_mmio(t, gpa, 8, false);
	memcpy(t->run->mmio.data, "abcdefgh", 8);
	assert_mmio(t, gpa + 8, 8, false);
	memcpy(t->run->mmio.data, "ijklmnop", 8);
	assert_mmio(t, gpa + 16, 4, false);
	memcpy(t->run->mmio.data, "qrst", 4);
	assert_done(t);
	assert_memory_equal(t->once.buf, "abcdefghijklmnopqrst", 20);

	next(t, ONCE_STORE, gpa, 20);
	for (unsigned i = 0; i < 3; i++) {
		assert_mmio(t, gpa + 8 * i, i < 2 ? 8 : 4, true);
		assert_memory_equal(t->run->mmio.data, t->once.buf + 8 * i, i < 2 ? 8 : 4);
	}
	assert_done(t);
}

/* ------------------------------------------------------------------------ across the edge --- */

static void test_cross_into_hole(void **state)
{
	struct guest_test *t = *state;
	uint64_t edge = (MEM + PAGES) * page_size;
	uint8_t *end = t->memory + PAGES * page_size;
	uint8_t was[3];

	memcpy(was, end - 3, 3);
	next(t, ONCE_LOAD, edge - 3, 8);
	assert_mmio(t, edge, 5, false);
	memcpy(t->run->mmio.data, "hello", 5);
	memset(end - 3, 0, 3); /* read before the exit, and not again */
	assert_done(t);
	assert_memory_equal(t->once.buf, was, 3);
	assert_memory_equal(t->once.buf + 3, "hello", 5);

	next(t, ONCE_STORE, edge - 3, 8);
	assert_mmio(t, edge, 5, true);
	assert_memory_equal(t->run->mmio.data, t->once.buf + 3, 5);
	assert_memory_equal(end - 3, t->once.buf, 3);
	memset(end - 3, 0x77, 3); /* stored before the exit, and not again */
	assert_done(t);
	assert_int_equal(end[-3], 0x77);
	assert_int_equal(end[-1], 0x77);
}

static void test_cross_out_of_hole(void **state)
{
	struct guest_test *t = *state;
	uint64_t edge = MEM * page_size;

	next(t, ONCE_LOAD, edge - 2, 8);
	assert_mmio(t, edge - 2, 2, false);
	memcpy(t->run->mmio.data, "hi", 2);
	assert_done(t);
	assert_memory_equal(t->once.buf, "hi", 2);
	assert_memory_equal(t->once.buf + 2, t->memory, 6);

	next(t, ONCE_STORE, edge - 2, 8);
	assert_mmio(t, edge - 2, 2, true);
	assert_memory_equal(t->run->mmio.data, t->once.buf, 2);
	assert_memory_equal(t->memory, t->once.buf + 2, 6);
	assert_done(t);
}

static void test_cross_two_holes(void **state)
{
	struct guest_test *t = *state;
	uint64_t edge = (HOLE + 1) * page_size;

	next(t, ONCE_LOAD, edge - 10, 12);
	assert_mmio(t, edge - 10, 8, false);
	memcpy(t->run->mmio.data, "abcdefgh", 8);
	assert_mmio(t, edge - 2, 2, false);
	memcpy(t->run->mmio.data, "ij", 2);
	assert_mmio(t, edge, 2, false);
	memcpy(t->run->mmio.data, "kl", 2);
	assert_done(t);
	assert_memory_equal(t->once.buf, "abcdefghijkl", 12);
}

/* ------------------------------------------------------------------------------------ xadd --- */

static void xadd_read_exit(struct guest_test *t, uint64_t answer)
{
	next(t, ONCE_XADD, HOLE * page_size, 8);
	t->once.add = 5;
	assert_mmio(t, HOLE * page_size, 8, false);
	memcpy(t->run->mmio.data, &answer, 8);
}

static void test_xadd_hole(void **state)
{
	struct guest_test *t = *state;

	xadd_read_exit(t, 100);
	assert_mmio(t, HOLE * page_size, 8, true);
	assert_int_equal(read64(t->run->mmio.data), 105);
	assert_done(t);
	assert_int_equal(t->once.value, 100);
}

static void test_xadd_readonly(void **state)
{
	struct guest_test *t = *state;
	uint64_t was = read64(t->rom);

	next(t, ONCE_XADD, ROM * page_size, 8);
	t->once.add = 5;
	assert_mmio(t, ROM * page_size, 8, true);
	assert_int_equal(read64(t->run->mmio.data), was + 5);
	assert_done(t);
	assert_int_equal(t->once.value, was);
	assert_int_equal(read64(t->rom), was);
}

/* The hole is filled between the read and the write: done in memory if that holds what was read, else the
 * instruction begins anew. */
static void test_xadd_filled(void **state)
{
	struct guest_test *t = *state;
	uint64_t was = read64(t->memory);

	xadd_read_exit(t, was);
	assert_int_equal(set_slot(t->sim, 2, GPAMAP_SIM_LOG_DIRTY, HOLE, 1, t->memory), 0);
	assert_done(t);
	assert_int_equal(t->once.value, was);
	assert_int_equal(read64(t->memory), was + 5);
	assert_int_equal(dirty_bits(t->sim, 2), 1);
	assert_int_equal(delete_slot(t->sim, 2), 0);

	xadd_read_exit(t, was - 1);
	assert_int_equal(set_slot(t->sim, 2, GPAMAP_SIM_LOG_DIRTY, HOLE, 1, t->memory), 0);
	assert_done(t);
	assert_int_equal(t->once.value, was + 5);
	assert_int_equal(read64(t->memory), was + 10);
	assert_int_equal(dirty_bits(t->sim, 2), 1);
}

/* ------------------------------------------------------------------------------------- run --- */

static void test_immediate_exit(void **state)
{
	struct guest_test *t = *state;

	next(t, ONCE_LOAD, MEM * page_size, 8);
	set_immediate_exit(t->vcpu, 2);
	/* As with KVM, the reason of the exit before stays. */
	t->run->exit_reason = KVM_EXIT_HLT;
	assert_int_equal(gpamap_sim_vcpu_run(t->vcpu), -EINTR);
	assert_int_equal(t->run->exit_reason, KVM_EXIT_HLT);
	assert_false(t->once.done);
	assert_int_equal(gpamap_sim_vcpu_run(t->vcpu), -EINTR);
	assert_int_equal(t->run->immediate_exit, 2);
	set_immediate_exit(t->vcpu, 0);
	assert_done(t);
}

/* What an exit left is completed though immediate_exit is set; and if it exits again, that comes first. */
static void test_immediate_exit_completes(void **state)
{
	struct guest_test *t = *state;

	next(t, ONCE_LOAD, HOLE * page_size, 16);
	assert_mmio(t, HOLE * page_size, 8, false);
	memcpy(t->run->mmio.data, "abcdefgh", 8);
	set_immediate_exit(t->vcpu, 1);
	assert_mmio(t, HOLE * page_size + 8, 8, false);
	memcpy(t->run->mmio.data, "ijklmnop", 8);
	assert_int_equal(gpamap_sim_vcpu_run(t->vcpu), -EINTR);
	assert_true(t->once.done);
	assert_memory_equal(t->once.buf, "abcdefghijklmnop", 16);

	set_immediate_exit(t->vcpu, 0);
	xadd_read_exit(t, 7);
	assert_int_equal(set_slot(t->sim, 2, 0, HOLE, 1, t->memory), 0);
	*(uint64_t *)t->memory = 7;
	set_immediate_exit(t->vcpu, 1);
	assert_int_equal(gpamap_sim_vcpu_run(t->vcpu), -EINTR);
	assert_true(t->once.done);
	assert_int_equal(*(uint64_t *)t->memory, 12);
}

/* An answer that the guest does not ask for any more is not kept for later. */
static void test_answer_dropped(void **state)
{
	struct guest_test *t = *state;

	next(t, ONCE_LOAD, HOLE * page_size, 8);
	assert_mmio(t, HOLE * page_size, 8, false);
	memcpy(t->run->mmio.data, "answered", 8);
	next(t, ONCE_LOAD, MEM * page_size, 8);
	assert_done(t);
	assert_memory_equal(t->once.buf, t->memory, 8);
	next(t, ONCE_LOAD, HOLE * page_size, 8);
	assert_mmio(t, HOLE * page_size, 8, false);
}

/* Loads, but breaks off at its second step. */
static int breaking_guest(struct gpamap_sim_vcpu *v, void *opaque)
{
	unsigned *steps = opaque;
	uint64_t word;

	if ((*steps)++ == 1)
		return KVM_EXIT_IO;
	return gpamap_sim_load(v, HOLE * page_size, &word, 8);
}

static void test_answer_dropped_by_exit(void **state)
{
	struct guest_test *t = *state;
	unsigned steps = 0;
	struct gpamap_sim_vcpu *v = new_vcpu(t->sim, 1, t->flags, breaking_guest, &steps);

	assert_int_equal(run_exit(v), KVM_EXIT_MMIO);
	assert_int_equal(run_exit(v), KVM_EXIT_IO);
	assert_int_equal(run_exit(v), KVM_EXIT_MMIO);
	assert_int_equal(steps, 3);
	gpamap_sim_vcpu_free(v);
}

static int own_exit_guest(struct gpamap_sim_vcpu *v, void *opaque)
{
	int *value = opaque;

	(void)v;
	return *value;
}

static void test_own_exit(void **state)
{
	struct guest_test *t = *state;
	int value = KVM_EXIT_IO;
	struct gpamap_sim_vcpu *v = new_vcpu(t->sim, 1, t->flags, own_exit_guest, &value);

	assert_int_equal(gpamap_sim_vcpu_id(v), 1);
	assert_int_equal(run_exit(v), KVM_EXIT_IO);
	value = -EIO;
	assert_int_equal(gpamap_sim_vcpu_run(v), -EIO);
	gpamap_sim_vcpu_free(v);
}

static void test_vcpu_new(void **state)
{
	struct guest_test *t = *state;
	struct gpamap_sim_vcpu *v = NULL;

	assert_int_equal(gpamap_sim_vcpu_new(t->sim, 1, 2, once_guest, NULL, &v), -EINVAL);
	assert_int_equal(gpamap_sim_vcpu_new(t->sim, 1, 0, NULL, NULL, &v), -EINVAL);
	assert_int_equal(gpamap_sim_vcpu_new(t->sim, 0, 0, once_guest, NULL, &v), -EEXIST);
	assert_null(v);
	v = new_vcpu(t->sim, 1, 0, once_guest, NULL);
	gpamap_sim_vcpu_free(v);
	v = new_vcpu(t->sim, 1, 0, once_guest, NULL);
	assert_int_equal((uintptr_t)gpamap_sim_vcpu_kvm_run(v) % page_size, 0);
	gpamap_sim_vcpu_free(v);
	gpamap_sim_vcpu_free(NULL);
}

/* Each on both sorts of machine: where nothing changes meanwhile they do the same. */
/* clang-format off */
#define BOTH(f) \
	{#f ", hardware", f, setup_hardware, teardown, NULL}, \
	{#f ", emulated", f, setup_emulated, teardown, NULL}
/* clang-format on */

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_memory),
		BOTH(test_cross_page),
		BOTH(test_xadd),
		BOTH(test_fetch_walk),
		BOTH(test_bad_access),
		BOTH(test_fetch_walk_hole),
		BOTH(test_load_hole),
		BOTH(test_load_hole_filled),
		BOTH(test_store_hole),
		BOTH(test_store_readonly),
		BOTH(test_long_hole),
		BOTH(test_cross_into_hole),
		BOTH(test_cross_out_of_hole),
		BOTH(test_cross_two_holes),
		BOTH(test_xadd_hole),
		BOTH(test_xadd_readonly),
		BOTH(test_xadd_filled),
		BOTH(test_immediate_exit),
		BOTH(test_immediate_exit_completes),
		BOTH(test_answer_dropped),
		BOTH(test_answer_dropped_by_exit),
		BOTH(test_own_exit),
		BOTH(test_vcpu_new),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
