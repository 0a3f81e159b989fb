/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulated VM's slot ioctls: the table of errnos row by row, and what becomes of dirty bits. */
#include "guest.h"

#define LOG GPAMAP_SIM_LOG_DIRTY
#define RO GPAMAP_SIM_READONLY
#define MEMFD GPAMAP_SIM_GUEST_MEMFD
#define PAGE 4096u
#define HVA 0x10000000u
#define SPACE(n) ((uint32_t)(n) << 16)

/* The slots before each row; in bytes, for pages of 4 KiB. Nothing is ever accessed. */
static const struct gpamap_sim_slot before[] = {
	{.slot = 1, .gpa = 0x10000, .size = 0x4000, .hva = HVA},
	{.slot = 2, .flags = RO, .gpa = 0x20000, .size = 0x4000, .hva = HVA},
	{.slot = 3, .flags = LOG, .gpa = 0x30000, .size = 0x4000, .hva = HVA},
	{.slot = 4, .flags = MEMFD, .gpa = 0x40000, .size = 0x4000, .hva = HVA, .guest_memfd = 7},
	{.slot = SPACE(1) | 1, .gpa = 0x50000, .size = 0x4000, .hva = HVA},
};
#define NR_BEFORE (sizeof(before) / sizeof(before[0]))

struct row {
	const char *what;
	struct gpamap_sim_slot slot;
	int want;
	enum gpamap_sim_call kind; /* as what it is counted; 0: as nothing but a call */
};

/* clang-format off */
#define S(id_, flags_, gpa_, size_, hva_) \
	{.slot = (id_), .flags = (flags_), .gpa = (gpa_), .size = (size_), .hva = (hva_)}
#define M(id_, flags_, gpa_, size_, fd_, offset_) \
	{.slot = (id_), .flags = (flags_), .gpa = (gpa_), .size = (size_), .hva = HVA, \
	 .guest_memfd = (fd_), .guest_memfd_offset = (offset_)}
/* clang-format on */

static const struct row rows[] = {
	{"create", S(9, 0, 0x90000, PAGE, HVA), 0, GPAMAP_SIM_CREATE},
	{"create, logged and read-only", S(9, LOG | RO, 0x90000, PAGE, HVA), 0, GPAMAP_SIM_CREATE},
	{"create at 0, hva 0", S(9, 0, 0, PAGE, 0), 0, GPAMAP_SIM_CREATE},
	{"create with the greatest id", S(99, 0, 0x90000, PAGE, HVA), 0, GPAMAP_SIM_CREATE},
	{"create between two", S(9, 0, 0x14000, 0xc000, HVA), 0, GPAMAP_SIM_CREATE},
	{"same place, other space", S(SPACE(1) | 9, 0, 0x10000, PAGE, HVA), 0, GPAMAP_SIM_CREATE},
	{"up to the last GPA", S(9, 0, (1ull << 40) - PAGE, PAGE, HVA), 0, GPAMAP_SIM_CREATE},
	{"2^31-1 pages", S(9, 0, 1ull << 32, ((1ull << 31) - 1) * PAGE, HVA), -EINVAL,
	 GPAMAP_SIM_CREATE}, /* it is the GPA, see test_large() */
	{"2^31 pages", S(9, 0, 0x90000, (1ull << 31) * PAGE, HVA), -EINVAL, 0},
	{"up to the end of user memory", S(9, 0, 0x90000, PAGE, (1ull << 47) - 2 * PAGE), 0,
	 GPAMAP_SIM_CREATE},
	{"hva beyond user memory", S(9, 0, 0x90000, 2 * PAGE, (1ull << 48) - PAGE), -EINVAL, 0},
	{"hva in the kernel", S(9, 0, 0x90000, PAGE, 1ull << 63), -EINVAL, 0},
	{"hva wraps", S(9, 0, 0x90000, 2 * PAGE, UINT64_MAX - PAGE + 1), -EINVAL, 0},
	{"unknown flag", S(9, 1u << 3, 0x90000, PAGE, HVA), -EINVAL, 0},
	{"unknown high flag", S(9, 1u << 31, 0x90000, PAGE, HVA), -EINVAL, 0},
	{"size misaligned", S(9, 0, 0x90000, PAGE + 1, HVA), -EINVAL, 0},
	{"size below a page", S(9, 0, 0x90000, 8, HVA), -EINVAL, 0},
	{"gpa misaligned", S(9, 0, 0x90008, PAGE, HVA), -EINVAL, 0},
	{"hva misaligned", S(9, 0, 0x90000, PAGE, HVA + 8), -EINVAL, 0},
	{"gpa wraps", S(9, 0, UINT64_MAX - PAGE + 1, 2 * PAGE, HVA), -EINVAL, 0},
	{"gpa ends at 2^64", S(9, 0, UINT64_MAX - PAGE + 1, PAGE, HVA), -EINVAL, 0},
	{"id beyond the last", S(100, 0, 0x90000, PAGE, HVA), -EINVAL, 0},
	{"no such space", S(SPACE(2) | 9, 0, 0x90000, PAGE, HVA), -EINVAL, 0},
	{"gpa beyond gpa_bits", S(9, 0, 1ull << 40, PAGE, HVA), -EINVAL, GPAMAP_SIM_CREATE},
	{"reaches beyond gpa_bits", S(9, 0, (1ull << 40) - PAGE, 2 * PAGE, HVA), -EINVAL,
	 GPAMAP_SIM_CREATE},
	{"overlaps a head", S(9, 0, 0xf000, 2 * PAGE, HVA), -EEXIST, GPAMAP_SIM_CREATE},
	{"overlaps a tail", S(9, 0, 0x13000, 2 * PAGE, HVA), -EEXIST, GPAMAP_SIM_CREATE},
	{"within another", S(9, 0, 0x11000, PAGE, HVA), -EEXIST, GPAMAP_SIM_CREATE},
	{"around all", S(9, 0, 0, 0x100000, HVA), -EEXIST, GPAMAP_SIM_CREATE},
	{"overlaps, and beyond gpa_bits", S(9, 0, 0x40000, 1ull << 40, HVA), -EEXIST,
	 GPAMAP_SIM_CREATE},

	{"delete", S(1, 0, 0, 0, 0), 0, GPAMAP_SIM_DELETE},
	{"delete, other legal fields", S(1, LOG | RO, 0x123000, 0, 0x456000), 0, GPAMAP_SIM_DELETE},
	{"delete guest_memfd", S(4, 0, 0, 0, 0), 0, GPAMAP_SIM_DELETE},
	{"delete in the other space", S(SPACE(1) | 1, 0, 0, 0, 0), 0, GPAMAP_SIM_DELETE},
	{"delete nothing", S(9, 0, 0, 0, 0), -EINVAL, GPAMAP_SIM_DELETE},
	{"delete nothing in the other space", S(SPACE(1) | 2, 0, 0, 0, 0), -EINVAL,
	 GPAMAP_SIM_DELETE},
	{"delete beyond the last id", S(100, 0, 0, 0, 0), -EINVAL, 0},
	{"delete, unknown flag", S(1, 1u << 5, 0, 0, 0), -EINVAL, 0},
	{"delete, gpa misaligned", S(1, 0, 1, 0, 0), -EINVAL, 0},
	{"delete, hva misaligned", S(1, 0, 0, 0, 1), -EINVAL, 0},
	{"delete, hva in the kernel", S(1, 0, 0, 0, 1ull << 63), -EINVAL, 0},

	{"identical", S(1, 0, 0x10000, 0x4000, HVA), 0, 0},
	{"identical, read-only", S(2, RO, 0x20000, 0x4000, HVA), 0, 0},
	{"log on", S(1, LOG, 0x10000, 0x4000, HVA), 0, GPAMAP_SIM_FLAGS},
	{"log on, read-only", S(2, RO | LOG, 0x20000, 0x4000, HVA), 0, GPAMAP_SIM_FLAGS},
	{"log off", S(3, 0, 0x30000, 0x4000, HVA), 0, GPAMAP_SIM_FLAGS},
	{"move", S(1, 0, 0x90000, 0x4000, HVA), 0, GPAMAP_SIM_MOVE},
	{"move and log on", S(1, LOG, 0x90000, 0x4000, HVA), 0, GPAMAP_SIM_MOVE},
	{"move and log off", S(3, 0, 0x90000, 0x4000, HVA), 0, GPAMAP_SIM_MOVE},
	{"move over itself, up", S(1, 0, 0x11000, 0x4000, HVA), 0, GPAMAP_SIM_MOVE},
	{"move over itself, down", S(1, 0, 0xf000, 0x4000, HVA), 0, GPAMAP_SIM_MOVE},
	{"move past another", S(1, 0, 0x24000, 0x4000, HVA), 0, GPAMAP_SIM_MOVE},
	{"move onto another", S(1, 0, 0x1d000, 0x4000, HVA), -EEXIST, GPAMAP_SIM_MOVE},
	{"move beyond gpa_bits", S(1, 0, 1ull << 40, 0x4000, HVA), -EINVAL, GPAMAP_SIM_MOVE},
	{"other hva", S(1, 0, 0x10000, 0x4000, HVA + PAGE), -EINVAL, 0},
	{"grow", S(1, 0, 0x10000, 0x5000, HVA), -EINVAL, 0},
	{"shrink", S(1, 0, 0x10000, 0x3000, HVA), -EINVAL, 0},
	{"read-only on", S(1, RO, 0x10000, 0x4000, HVA), -EINVAL, 0},
	{"read-only off", S(2, 0, 0x20000, 0x4000, HVA), -EINVAL, 0},
	{"other hva onto another", S(1, 0, 0x20000, 0x4000, HVA + PAGE), -EINVAL, 0},

	{"guest_memfd", M(9, MEMFD, 0x90000, PAGE, 7, 0x4000), 0, GPAMAP_SIM_CREATE},
	{"same pages of another guest_memfd", M(9, MEMFD, 0x90000, PAGE, 8, 0), 0,
	 GPAMAP_SIM_CREATE},
	{"fd without the flag", M(9, 0, 0x90000, PAGE, UINT32_MAX, 1), 0, GPAMAP_SIM_CREATE},
	{"guest_memfd with log", M(9, MEMFD | LOG, 0x90000, PAGE, 8, 0), -EINVAL, 0},
	{"guest_memfd read-only", M(9, MEMFD | RO, 0x90000, PAGE, 8, 0), -EINVAL, 0},
	{"guest_memfd offset misaligned", M(9, MEMFD, 0x90000, PAGE, 8, 8), -EINVAL, 0},
	{"guest_memfd offset wraps", M(9, MEMFD, 0x90000, 2 * PAGE, 8, UINT64_MAX - PAGE + 1),
	 -EINVAL, 0},
	{"bad guest_memfd", M(9, MEMFD, 0x90000, PAGE, UINT32_MAX, 0), -EBADF, GPAMAP_SIM_CREATE},
	{"pages bound twice", M(9, MEMFD, 0x90000, 2 * PAGE, 7, 0x3000), -EINVAL,
	 GPAMAP_SIM_CREATE},
	{"pages bound twice, other space", M(SPACE(1) | 9, MEMFD, 0x90000, PAGE, 7, 0), -EINVAL,
	 GPAMAP_SIM_CREATE},
	{"guest_memfd identical", M(4, MEMFD, 0x40000, 0x4000, 7, 0), -EINVAL, 0},
	{"guest_memfd move", M(4, MEMFD, 0x90000, 0x4000, 7, 0), -EINVAL, 0},
	{"guest_memfd cleared", M(4, 0, 0x40000, 0x4000, 7, 0), -EINVAL, 0},
	{"guest_memfd set in place", M(1, MEMFD, 0x10000, 0x4000, 8, 0), -EINVAL, 0},
};

static void fill(struct gpamap_sim *sim)
{
	for (size_t i = 0; i < NR_BEFORE; i++)
		assert_int_equal(gpamap_sim_set_slot(sim, &before[i]), 0);
}

/* All slots are as in before[]: a call that repeats one is then no change, and nothing else is there. */
static void assert_as_before(struct gpamap_sim *sim)
{
	uint64_t bits;

	for (size_t i = 0; i < NR_BEFORE; i++) {
		if (!(before[i].flags & MEMFD))
			assert_int_equal(gpamap_sim_set_slot(sim, &before[i]), 0);
	}
	for (uint32_t id = 0; id < 100; id++) {
		if (id < 1 || id > 4)
			assert_int_equal(delete_slot(sim, id), -EINVAL);
		if (id != 1)
			assert_int_equal(delete_slot(sim, SPACE(1) | id), -EINVAL);
		assert_int_equal(gpamap_sim_get_dirty_log(sim, id, &bits), id == 3 ? 0 : -ENOENT);
	}
	assert_int_equal(gpamap_sim_calls(sim, GPAMAP_SIM_FLAGS), 0);
	/* The guest_memfd slot is there, and deletes. */
	assert_int_equal(delete_slot(sim, 4), 0);
}

/* What the call asked for is there: by repeating it. */
static void assert_done(struct gpamap_sim *sim, const struct row *row)
{
	uint64_t changes =
		gpamap_sim_calls(sim, GPAMAP_SIM_MOVE) + gpamap_sim_calls(sim, GPAMAP_SIM_FLAGS);

	if (row->kind == GPAMAP_SIM_DELETE) {
		assert_int_equal(delete_slot(sim, row->slot.slot), -EINVAL);
		return;
	}
	assert_int_equal(gpamap_sim_set_slot(sim, &row->slot),
			 row->slot.flags & MEMFD ? -EINVAL : 0);
	assert_int_equal(gpamap_sim_calls(sim, GPAMAP_SIM_MOVE) +
				 gpamap_sim_calls(sim, GPAMAP_SIM_FLAGS),
			 changes);
	assert_int_equal(delete_slot(sim, row->slot.slot), 0);
}

static void do_row(const struct row *row)
{
	struct gpamap_sim_options opt = {.spaces = 2, .slots = 100, .gpa_bits = 40};
	struct gpamap_sim *sim = new_sim(&opt);
	uint64_t any, kind;
	int r;

	fill(sim);
	any = gpamap_sim_calls(sim, GPAMAP_SIM_ANY);
	kind = gpamap_sim_calls(sim, row->kind);
	r = gpamap_sim_set_slot(sim, &row->slot);
	if (r != row->want)
		fail_msg("%s: %d, not %d", row->what, r, row->want);
	assert_int_equal(gpamap_sim_calls(sim, GPAMAP_SIM_ANY), any + 1);
	if (gpamap_sim_calls(sim, row->kind) != kind + 1)
		fail_msg("%s: not counted as of kind %d", row->what, row->kind);
	if (r)
		assert_as_before(sim);
	else
		assert_done(sim, row);
	gpamap_sim_free(sim);
}

static void test_rows(void **state)
{
	(void)state;
	if (sysconf(_SC_PAGESIZE) != PAGE)
		skip();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		do_row(&rows[i]);
}

/* The greatest slot there can be, on a VM with room for it. */
static void test_large(void **state)
{
	struct gpamap_sim *sim = new_sim(NULL);
	uint64_t most = (UINT64_C(1) << 31) - 1;

	(void)state;
	assert_int_equal(set_slot(sim, 0, 0, 1, most, NULL), 0);
	assert_int_equal(set_slot(sim, 1, 0, most, 1, NULL), -EEXIST);
	assert_int_equal(set_slot(sim, 1, 0, most + 1, most + 1, NULL), -EINVAL);
	assert_int_equal(set_slot(sim, 1, 0, most + 1, most, NULL), 0);
	gpamap_sim_free(sim);
}

static void test_options(void **state)
{
	struct gpamap_sim_options no_readonly = {.flags = GPAMAP_SIM_NO_READONLY};
	struct gpamap_sim_options no_region2 = {.flags = GPAMAP_SIM_NO_REGION2};
	static const struct gpamap_sim_options bad[] = {
		{.flags = 1u << 4},
		{.spaces = 17},
		{.slots = 65537},
		{.gpa_bits = 65},
		{.gpa_bits = 15},
		{.hidden_gpa = 1, .hidden_size = 1u << 16},
		{.hidden_size = (1u << 16) + 1},
		{.hidden_gpa = UINT64_MAX << 16, .hidden_size = 1u << 17},
	};
	struct gpamap_sim *sim;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		sim = NULL;
		assert_int_equal(gpamap_sim_new(&bad[i], &sim), -EINVAL);
		assert_null(sim);
	}
	sim = new_sim(&no_readonly);
	assert_int_equal(set_slot(sim, 0, RO, 0, 1, NULL), -EINVAL);
	assert_int_equal(set_slot(sim, 0, MEMFD, 0, 1, NULL), 0);
	gpamap_sim_free(sim);
	sim = new_sim(&no_region2);
	assert_int_equal(set_slot(sim, 0, MEMFD, 0, 1, NULL), -EINVAL);
	assert_int_equal(set_slot(sim, 0, LOG | RO, 0, 1, NULL), 0);
	assert_int_equal(set_slot(sim, 32763, 0, 1, 1, NULL), 0);
	assert_int_equal(set_slot(sim, 32764, 0, 2, 1, NULL), -EINVAL);
	assert_int_equal(set_slot(sim, SPACE(1), 0, 2, 1, NULL), -EINVAL);
	gpamap_sim_free(sim);
	gpamap_sim_free(NULL);
}

/* Slots of KVM's own are in the way of others, in all spaces; those that end or begin beside them are not. */
static void test_hidden(void **state)
{
	struct gpamap_sim_options opt = {
		.spaces = 2, .hidden_gpa = 16 * 65536, .hidden_size = 4 * 65536};
	struct gpamap_sim *sim = new_sim(&opt);
	uint64_t first = opt.hidden_gpa / page_size, end = first + opt.hidden_size / page_size;

	(void)state;
	for (uint32_t id = 0; id <= SPACE(1); id += SPACE(1)) {
		assert_int_equal(set_slot(sim, id, 0, first - 1, 2, NULL), -EEXIST);
		assert_int_equal(set_slot(sim, id, 0, end - 1, 2, NULL), -EEXIST);
		assert_int_equal(set_slot(sim, id, 0, first + 1, 1, NULL), -EEXIST);
		assert_int_equal(set_slot(sim, id, 0, 0, end + 1, NULL), -EEXIST);
		assert_int_equal(set_slot(sim, id, MEMFD, first, 1, NULL), -EEXIST);
		assert_int_equal(set_slot(sim, id, 0, 0, first, NULL), 0);
		assert_int_equal(set_slot(sim, id + 1, 0, end, 1, NULL), 0);
		/* A move is refused before it leaves a trace. */
		assert_int_equal(set_slot(sim, id + 1, 0, end - 1, 1, NULL), -EEXIST);
		assert_int_equal(set_slot(sim, id + 1, 0, end + 1, 1, NULL), 0);
	}
	assert_int_equal(gpamap_sim_traces(sim, false), 0);
	assert_int_equal(gpamap_sim_calls(sim, GPAMAP_SIM_CREATE), 2 * 7);
	assert_int_equal(gpamap_sim_calls(sim, GPAMAP_SIM_MOVE), 2 * 2);
	gpamap_sim_free(sim);
}

/* Pages of a guest_memfd that are bound already, with the errno of Linux 7.2. What else is wrong is as before. */
static void test_guest_memfd_eexist(void **state)
{
	struct gpamap_sim_options opt = {.spaces = 2, .flags = GPAMAP_SIM_GMEM_EEXIST};
	struct gpamap_sim *sim = new_sim(&opt);
	struct gpamap_sim_slot slot = {
		.slot = 1, .flags = MEMFD, .size = 4 * page_size, .guest_memfd = 7};

	(void)state;
	assert_int_equal(gpamap_sim_set_slot(sim, &slot), 0);
	assert_int_equal(gpamap_sim_set_slot(sim, &slot), -EINVAL);
	slot.slot = SPACE(1);
	slot.guest_memfd_offset = 3 * page_size;
	assert_int_equal(gpamap_sim_set_slot(sim, &slot), -EEXIST);
	slot.guest_memfd_offset = 4 * page_size;
	assert_int_equal(gpamap_sim_set_slot(sim, &slot), 0);
	gpamap_sim_free(sim);
}

/* ------------------------------------------------------------------------------ dirty bits --- */

struct dirty_test {
	struct gpamap_sim *sim;
	uint8_t *memory;
	struct gpamap_sim_vcpu *vcpu;
	struct once once;
};

static int dirty_open(void **state, unsigned flags)
{
	struct gpamap_sim_options opt = {.flags = flags};
	struct dirty_test *t = calloc(1, sizeof(*t));

	t->sim = new_sim(&opt);
	t->memory = new_memory(128);
	t->vcpu = new_vcpu(t->sim, 0, 0, once_guest, &t->once);
	*state = t;
	return 0;
}

static int dirty_setup(void **state)
{
	return dirty_open(state, 0);
}

static int ring_setup(void **state)
{
	return dirty_open(state, GPAMAP_SIM_DIRTY_RING);
}

static int dirty_teardown(void **state)
{
	struct dirty_test *t = *state;

	gpamap_sim_vcpu_free(t->vcpu);
	gpamap_sim_free(t->sim);
	free_memory(t->memory, 128);
	free(t);
	return 0;
}

static void guest_store(struct dirty_test *t, uint64_t gpa, unsigned len)
{
	memset(&t->once, 0, sizeof(t->once));
	t->once.op = ONCE_STORE;
	t->once.gpa = gpa;
	t->once.len = len;
	assert_int_equal(run_exit(t->vcpu), KVM_EXIT_HLT);
}

static void test_dirty_stores(void **state)
{
	struct dirty_test *t = *state;
	uint64_t bits[3] = {UINT64_MAX, UINT64_MAX, 42};

	assert_int_equal(set_slot(t->sim, 5, LOG, 16, 70, t->memory), 0);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 5, bits), 0);
	assert_int_equal(bits[0] | bits[1], 0);
	guest_store(t, 16 * page_size, 8);
	guest_store(t, 19 * page_size + 5, 1);
	guest_store(t, 85 * page_size, 8);
	guest_store(t, 23 * page_size - 4, 8); /* both pages */
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 5, bits), 0);
	assert_int_equal(bits[0], 1 | 1 << 3 | 1 << 6 | 1 << 7);
	assert_int_equal(bits[1], 1 << 5);
	assert_int_equal(bits[2], 42); /* 70 bits are two words */
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 5, bits), 0);
	assert_int_equal(bits[0] | bits[1], 0);
}

static void test_dirty_only_stores(void **state)
{
	struct dirty_test *t = *state;
	static const enum once_op ops[] = {ONCE_LOAD, ONCE_FETCH, ONCE_WALK};

	assert_int_equal(set_slot(t->sim, 5, LOG, 0, 8, t->memory), 0);
	for (size_t i = 0; i < 3; i++) {
		memset(&t->once, 0, sizeof(t->once));
		t->once.op = ops[i];
		t->once.len = 8;
		assert_int_equal(run_exit(t->vcpu), KVM_EXIT_HLT);
	}
	assert_int_equal(dirty_bits(t->sim, 5), 0);
	memset(&t->once, 0, sizeof(t->once));
	t->once.op = ONCE_XADD;
	t->once.gpa = 2 * page_size;
	assert_int_equal(run_exit(t->vcpu), KVM_EXIT_HLT);
	assert_int_equal(dirty_bits(t->sim, 5), 1 << 2);
}

static void test_dirty_lives(void **state)
{
	struct dirty_test *t = *state;

	assert_int_equal(set_slot(t->sim, 5, LOG, 0, 8, t->memory), 0);
	guest_store(t, page_size, 8);
	/* Log on -> log on, and moves, also over itself, keep the bits; they are the slot's pages. */
	assert_int_equal(set_slot(t->sim, 5, LOG, 0, 8, t->memory), 0);
	assert_int_equal(set_slot(t->sim, 5, LOG, 3, 8, t->memory), 0);
	assert_int_equal(set_slot(t->sim, 5, LOG, 100, 8, t->memory), 0);
	guest_store(t, 103 * page_size, 8);
	assert_int_equal(dirty_bits(t->sim, 5), 1 << 1 | 1 << 3);
	/* A move that fails keeps them, too. */
	guest_store(t, 102 * page_size, 8);
	assert_int_equal(set_slot(t->sim, 5, LOG, UINT64_C(1) << 40, 8, t->memory), -EINVAL);
	assert_int_equal(dirty_bits(t->sim, 5), 1 << 2);
}

static void test_dirty_dies(void **state)
{
	struct dirty_test *t = *state;
	uint64_t bits = 42;

	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 5, &bits), -ENOENT);
	assert_int_equal(set_slot(t->sim, 5, 0, 0, 8, t->memory), 0);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 5, &bits), -ENOENT);
	guest_store(t, 0, 8);
	assert_int_equal(set_slot(t->sim, 5, LOG, 0, 8, t->memory), 0);
	assert_int_equal(dirty_bits(t->sim, 5), 0);
	/* Off and on. */
	guest_store(t, 0, 8);
	assert_int_equal(set_slot(t->sim, 5, 0, 0, 8, t->memory), 0);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 5, &bits), -ENOENT);
	assert_int_equal(set_slot(t->sim, 5, LOG, 0, 8, t->memory), 0);
	assert_int_equal(dirty_bits(t->sim, 5), 0);
	/* Off by a move, and on by another. */
	guest_store(t, 0, 8);
	assert_int_equal(set_slot(t->sim, 5, 0, 1, 8, t->memory), 0);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 5, &bits), -ENOENT);
	assert_int_equal(set_slot(t->sim, 5, LOG, 0, 8, t->memory), 0);
	assert_int_equal(dirty_bits(t->sim, 5), 0);
	/* Delete and create. */
	guest_store(t, 0, 8);
	assert_int_equal(delete_slot(t->sim, 5), 0);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 5, &bits), -ENOENT);
	assert_int_equal(set_slot(t->sim, 5, LOG, 0, 8, t->memory), 0);
	assert_int_equal(dirty_bits(t->sim, 5), 0);
	assert_int_equal(bits, 42);
}

static void test_dirty_refused(void **state)
{
	struct dirty_test *t = *state;
	uint64_t bits = 42;

	assert_int_equal(set_slot(t->sim, 5, LOG, 0, 8, t->memory), 0);
	guest_store(t, 0, 8);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 32764, &bits), -EINVAL);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, SPACE(1) | 5, &bits), -EINVAL);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 5, NULL), -EFAULT);
	assert_int_equal(bits, 42);
	assert_int_equal(dirty_bits(t->sim, 5), 1);
}

/* With a dirty ring slots log as ever, and no log can be read. */
static void test_dirty_ring(void **state)
{
	struct dirty_test *t = *state;
	uint64_t bits = 42;

	assert_int_equal(set_slot(t->sim, 5, LOG, 0, 8, t->memory), 0);
	assert_int_equal(set_slot(t->sim, 6, 0, 8, 8, t->memory), 0);
	guest_store(t, 0, 8);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 5, &bits), -ENXIO);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 6, &bits), -ENXIO);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 7, &bits), -ENXIO);
	assert_int_equal(set_slot(t->sim, 6, LOG, 8, 8, t->memory), 0);
	assert_int_equal(set_slot(t->sim, 5, LOG, 100, 8, t->memory), 0);
	guest_store(t, 100 * page_size, 8);
	assert_int_equal(set_slot(t->sim, 5, 0, 100, 8, t->memory), 0);
	assert_int_equal(gpamap_sim_get_dirty_log(t->sim, 5, &bits), -ENXIO);
	assert_int_equal(bits, 42);
	assert_int_equal(gpamap_sim_calls(t->sim, GPAMAP_SIM_GET_DIRTY), 4);
	assert_int_equal(delete_slot(t->sim, 5), 0);
}

/* Many slots in a random order: the table stays sorted, and finds each. */
static void test_many(void **state)
{
	struct dirty_test *t = *state;
	enum { N = 2000 };
	uint32_t place[N];
	unsigned seed = 12345;

	for (uint32_t i = 0; i < N; i++)
		place[i] = i;
	for (uint32_t i = N - 1; i; i--) {
		uint32_t k = (uint32_t)rand_r(&seed) % (i + 1), swap = place[i];

		place[i] = place[k];
		place[k] = swap;
	}
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(set_slot(t->sim, i, LOG, 2 * place[i], 1, t->memory), 0);
	for (uint32_t i = 0; i < N; i++) {
		assert_int_equal(set_slot(t->sim, N, 0, 2 * place[i], 1, t->memory), -EEXIST);
		guest_store(t, 2 * place[i] * page_size, 8);
		assert_int_equal(dirty_bits(t->sim, i), 1);
		assert_int_equal(delete_slot(t->sim, i), 0);
		assert_int_equal(delete_slot(t->sim, i), -EINVAL);
	}
}

#define DIRTY(f) cmocka_unit_test_setup_teardown(f, dirty_setup, dirty_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_hidden),
		cmocka_unit_test(test_guest_memfd_eexist),
		DIRTY(test_dirty_stores),
		DIRTY(test_dirty_only_stores),
		DIRTY(test_dirty_lives),
		DIRTY(test_dirty_dies),
		DIRTY(test_dirty_refused),
		DIRTY(test_many),
		cmocka_unit_test_setup_teardown(test_dirty_ring, ring_setup, dirty_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
