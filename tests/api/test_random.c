/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random transactions against an oracle that works out each page for itself: what a vCPU finds at every page
 * after each commit, abort, failure and repair is what the oracle says (P2, P3).
 */
#include "model.h"

/* Of each sort. */
#define ROUNDS (SLOW ? 3000 : 20000)
#define MEM_PAGES 64
#define MEMS 4 /* ids 1 to 4 */

static uint8_t *mem[MEMS + 1][2]; /* each at two addresses */

/* --------------------------------------------------------------------------------- the tested --- */

struct test {
	struct vm vm;
	struct random random;
	struct model model;
	struct gpamap_region *region[REGIONS];
	unsigned commits;
	unsigned failed;
	unsigned repaired;
	unsigned pending;
	unsigned no_slots;
	unsigned shown_twice;
	unsigned readonly; /* guest_memfd would be */
	/* Commits by which pages of it came to another place, or from one region to another. */
	unsigned moved;
	unsigned handed_over;
	struct model_file file; /* after the last of them */
};

static uint64_t below(struct test *t, uint64_t n)
{
	return random_below(&t->random, n);
}

static uint8_t *random_memory(struct test *t, uint64_t pages)
{
	return mem[1 + below(t, MEMS)][below(t, 2)] + below(t, MEM_PAGES - pages + 1) * PAGE;
}

static int nothing(void *opaque, uint64_t offset, void *data, unsigned len)
{
	(void)opaque;
	(void)offset;
	memset(data, 0, len);
	return 0;
}

static const struct gpamap_mmio_ops ops = {.read = nothing};

static void let_go(void *opaque)
{
	(void)opaque;
}

static void add_region(struct test *t, int i, enum gpamap_kind kind, uint64_t size,
		       uint64_t max_size, int target)
{
	struct model_region *r = &t->model.region[i];
	struct gpamap_region_desc desc = {
		.kind = kind, .size = size * PAGE, .max_size = max_size * PAGE};

	*r = (struct model_region){.kind = kind,
				   .parent = -1,
				   .enabled = true,
				   .rom = true,
				   .size = size,
				   .max_size = max_size ? max_size : size,
				   .target = target};
	if (kind == GPAMAP_RAM || kind == GPAMAP_ROM_DEVICE)
		desc.hva = r->hva = random_memory(t, r->max_size);
	if (kind == GPAMAP_MMIO || kind == GPAMAP_ROM_DEVICE)
		desc.ops = &ops;
	if (kind == GPAMAP_ALIAS) {
		desc.target = t->region[target];
		r->target_offset = below(t, 8);
		desc.target_offset = r->target_offset * PAGE;
	}
	if (i % 3 == 0)
		desc.flags = GPAMAP_UNMERGEABLE;
	if (i == GMEM_1 || i == GMEM_2) {
		/* The last pages of the one are the first of the other. */
		r->gmem = true;
		r->file_offset = i == GMEM_1 ? 0 : 6;
		desc.flags |= GPAMAP_GUEST_MEMFD;
		desc.guest_memfd = 100;
		desc.guest_memfd_offset = r->file_offset * PAGE;
	}
	if (i % 4)
		desc.release = let_go;
	t->region[i] = vm_region(&t->vm, &desc);
}

static void test_open(struct test *t, const char *name, uint64_t seed, struct gpamap_options *opt)
{
	struct gpamap_sim_options sim = {.spaces = SPACES};

	memset(t, 0, sizeof(*t));
	t->random = random_new(name, seed);
	opt->spaces = SPACES;
	vm_open(&t->vm, &sim, opt);
	for (unsigned i = 0; i < SPACES; i++) {
		t->region[i] = gpamap_root(t->vm.map, i);
		t->model.region[i] = (struct model_region){
			.kind = GPAMAP_CONTAINER, .parent = -1, .enabled = true, .size = HOLE};
	}
	add_region(t, CONTAINER_1, GPAMAP_CONTAINER, 40, 0, -1);
	add_region(t, CONTAINER_2, GPAMAP_CONTAINER, 20, 50, -1);
	add_region(t, RAM_1, GPAMAP_RAM, 16, 0, -1);
	add_region(t, RAM_2, GPAMAP_RAM, 10, 0, -1);
	add_region(t, RAM_3, GPAMAP_RAM, 1, 0, -1);
	add_region(t, RESIZABLE_1, GPAMAP_RAM, 8, 32, -1);
	add_region(t, RESIZABLE_2, GPAMAP_RAM, 20, 24, -1);
	add_region(t, GMEM_1, GPAMAP_RAM, 6, 10, -1);
	add_region(t, GMEM_2, GPAMAP_RAM, 8, 0, -1);
	add_region(t, ROM, GPAMAP_ROM_DEVICE, 6, 0, -1);
	add_region(t, DEVICE, GPAMAP_MMIO, 3, 0, -1);
	add_region(t, ALIAS_1, GPAMAP_ALIAS, 12, 0, RESIZABLE_1);
	add_region(t, ALIAS_2, GPAMAP_ALIAS, 9, 30, CONTAINER_1);
	add_region(t, ALIAS_3, GPAMAP_ALIAS, 5, 0, RAM_2);
	add_region(t, ALIAS_4, GPAMAP_ALIAS, 4, 0, GMEM_1);
}

static void test_close(struct test *t)
{
	printf("  %u commits, %u failed, %u repaired, %u pending, %u out of slots, gate shut in "
	       "%llu, %llu merges; guest_memfd moved in %u, handed over in %u, shown twice in %u, "
	       "read-only in "
	       "%u\n",
	       t->commits, t->failed, t->repaired, t->pending, t->no_slots,
	       (unsigned long long)vm_stats(&t->vm).gate_shut,
	       (unsigned long long)vm_stats(&t->vm).merges, t->moved, t->handed_over,
	       t->shown_twice, t->readonly);
	for (int i = SPACES; i < REGIONS; i++)
		gpamap_region_put(t->region[i]);
	vm_close(&t->vm);
}

static bool same(struct seen a, struct seen b, unsigned space, uint64_t page, const char *who)
{
	if (a.word == b.word && a.writable == b.writable)
		return true;
	print_error("space %u page %llu: %s %#llx %d, not %#llx %d\n", space,
		    (unsigned long long)page, who, (unsigned long long)a.word, a.writable,
		    (unsigned long long)b.word, b.writable);
	return false;
}

/* The library's view, and what's in the slots. */
static void check(struct test *t)
{
	for (unsigned space = 0; space < SPACES; space++) {
		for (uint64_t page = 0; page < PAGES; page++) {
			struct seen want = model_page(&t->model, space, page);

			assert_true(same(vm_say(&t->vm, space, page * PAGE), want, space, page,
					 "view"));
			if (space == 0)
				assert_true(same(vm_see(&t->vm, page * PAGE), want, space, page,
						 "guest"));
			else
				assert_int_equal(vm_slot_at(&t->vm, space, page * PAGE),
						 want.word != HOLE);
		}
	}
}

/* ------------------------------------------------------------------------------------- edits --- */

/* @err is what the library said, @want what the model says. True: it was done. */
static bool done(struct gpamap_txn *txn, int err, int want)
{
	if (err == -ENOMEM || err == -ELOOP)
		return false; /* a fault; a cycle, which the model doesn't look for */
	if (err != want)
		print_error("%d, not %d: %s\n", err, want, gpamap_message(txn));
	assert_int_equal(err, want);
	return !err;
}

static void edit_place(struct test *t, struct gpamap_txn *txn)
{
	/* guest_memfd more often than its share: much of what is tried with it can't be. */
	int i = below(t, 4) ? SPACES + (int)below(t, REGIONS - SPACES) : GMEM_1 + (int)below(t, 2);
	struct model_region *r = &t->model.region[i];
	uint64_t offset = below(t, 70);
	int priority = (int)below(t, 4) - 1;
	int parent = below(t, 2) ? 0 : (int)below(t, RAM_1);
	int want = r->parent < 0 ? -ENOENT : 0;
	bool changed;

	switch (below(t, 8)) {
	case 0:
		if (!done(txn, gpamap_remove(txn, t->region[i]), want))
			return;
		r->parent = -1;
		return;
	case 1:
		changed = done(txn, gpamap_move(txn, t->region[i], offset * PAGE), want);
		/* To where it is: it gets no newer. */
		changed = changed && r->offset != offset;
		priority = r->priority;
		break;
	case 2:
		changed = done(txn, gpamap_set_priority(txn, t->region[i], priority), want);
		offset = r->offset;
		break;
	default:
		changed = done(txn,
			       gpamap_add(txn, t->region[parent], offset * PAGE, t->region[i],
					  priority),
			       r->parent < 0 ? 0 : -EBUSY);
		if (changed)
			r->parent = parent;
	}
	if (!changed)
		return;
	r->offset = offset;
	r->priority = priority;
	r->seq = ++t->model.seq;
}

/* What one guest_memfd region has of the file goes to the other, at the same place or another. */
static void edit_owner(struct test *t, struct gpamap_txn *txn)
{
	int from = GMEM_1 + (int)below(t, 2), to = from == GMEM_1 ? GMEM_2 : GMEM_1;
	struct model_region *f = &t->model.region[from], *r = &t->model.region[to];
	uint64_t offset = below(t, 2) ? f->offset : below(t, 60);

	if (f->parent < 0 || r->parent >= 0 || !done(txn, gpamap_remove(txn, t->region[from]), 0))
		return;
	f->parent = -1;
	if (!done(txn, gpamap_add(txn, t->region[0], offset * PAGE, t->region[to], 3), 0))
		return;
	r->parent = 0;
	r->offset = offset;
	r->priority = 3;
	r->seq = ++t->model.seq;
}

static void edit_size(struct test *t, struct gpamap_txn *txn)
{
	static const int resizable[] = {CONTAINER_2, RESIZABLE_1, RESIZABLE_2, GMEM_1, ALIAS_2};
	int i = resizable[below(t, ARRAY_SIZE(resizable))];
	struct model_region *r = &t->model.region[i];
	uint64_t size = 1 + below(t, r->max_size);

	if (done(txn, gpamap_resize(txn, t->region[i], size * PAGE), 0))
		r->size = size;
}

static void edit_state(struct test *t, struct gpamap_txn *txn)
{
	int i = (int)below(t, REGIONS);
	struct model_region *r = &t->model.region[i];
	bool is_ram = (r->kind == GPAMAP_RAM || r->kind == GPAMAP_ROM_DEVICE) && !r->gmem;
	bool on = below(t, 4) != 0;
	uint64_t offset = below(t, 20);
	uint8_t *hva;

	switch (below(t, 6)) {
	case 0:
		on = on || i < SPACES;
		if (done(txn, gpamap_set_enabled(txn, t->region[i], on), 0))
			r->enabled = on;
		return;
	case 1:
		on = !on && i >= SPACES;
		if (done(txn, gpamap_set_readonly(txn, t->region[i], on), r->gmem ? -EPERM : 0))
			r->readonly = on;
		return;
	case 2:
		if (done(txn, gpamap_set_rom_mode(txn, t->region[ROM], on), 0))
			t->model.region[ROM].rom = on;
		return;
	case 3:
		hva = random_memory(t, is_ram ? r->max_size : 1);
		if (done(txn, gpamap_reback(txn, t->region[i], hva), is_ram ? 0 : -ENOTSUP))
			r->hva = hva;
		return;
	case 4:
		done(txn, gpamap_set_log(txn, t->region[i], on),
		     r->kind == GPAMAP_RAM && !r->gmem ? 0 : -ENOTSUP);
		return;
	default:
		if (done(txn, gpamap_set_target_offset(txn, t->region[i], offset * PAGE),
			 r->kind == GPAMAP_ALIAS ? 0 : -ENOTSUP))
			r->target_offset = offset;
	}
}

static void map_pages(struct test *t, struct gpamap_txn *txn, unsigned space, uint64_t first,
		      uint64_t n, enum gpamap_prot prot)
{
	int i = RAM_1 + (int)below(t, GMEM_2 - RAM_1 + 1);
	const struct model_region *r = &t->model.region[i];
	struct model_plain p = {.prot = prot, .region = -1};
	uint64_t offset = below(t, 8);
	int err, want = 0;

	if (below(t, 2)) {
		p.hva = random_memory(t, n);
		err = gpamap_map_pages(txn, space, first * PAGE, n * PAGE, p.hva, prot);
	} else {
		p.region = i;
		p.offset = offset;
		want = r->gmem && prot == GPAMAP_RO ? -EPERM : 0;
		want = offset + n > r->size ? -ERANGE : want;
		err = gpamap_map_region(txn, space, first * PAGE, n * PAGE, t->region[i],
					offset * PAGE, prot);
	}
	if (!done(txn, err, want))
		return;
	for (uint64_t k = 0; k < n; k++, p.offset++)
		t->model.plain[space][first + k] = p;
}

static void edit_pages(struct test *t, struct gpamap_txn *txn)
{
	unsigned space = (unsigned)below(t, SPACES);
	uint64_t first = below(t, PAGES), n = 1 + below(t, PAGES - first < 12 ? PAGES - first : 12);
	enum gpamap_prot prot = (enum gpamap_prot)(1 + below(t, 3));
	struct model_plain *p = &t->model.plain[space][first];
	int want = 0;

	switch (below(t, 4)) {
	case 0:
		map_pages(t, txn, space, first, n, prot);
		return;
	case 1:
		n = below(t, 16) ? n : PAGES - first;
		if (!done(txn, gpamap_unmap_pages(txn, space, first * PAGE, n * PAGE), 0))
			return;
		memset(p, 0, n * sizeof(*p));
		return;
	default:
		n = 1 + below(t, n < 4 ? n : 4);
		/* The first that stands against it. */
		for (uint64_t k = n; k-- > 0;) {
			if (!p[k].prot)
				want = -ENOENT;
			else if (p[k].region >= 0 && t->model.region[p[k].region].gmem &&
				 prot == GPAMAP_RO)
				want = -EPERM;
		}
		if (!done(txn, gpamap_protect_pages(txn, space, first * PAGE, n * PAGE, prot),
			  want))
			return;
		for (uint64_t k = 0; k < n; k++)
			p[k].prot = prot;
	}
}

static void edit(struct test *t, struct gpamap_txn *txn)
{
	switch (below(t, 9)) {
	case 0:
	case 1:
	case 2:
		edit_place(t, txn);
		return;
	case 3:
		edit_owner(t, txn);
		return;
	case 4:
		edit_size(t, txn);
		return;
	case 5:
	case 6:
		edit_state(t, txn);
		return;
	default:
		edit_pages(t, txn);
	}
}

/* ------------------------------------------------------------------------------ transactions --- */

static void arm(struct test *t)
{
	if (below(t, 4) == 0)
		counting_fail(&t->vm.alloc, 1 + (unsigned)below(t, 60), below(t, 2));
	else
		gpamap_sim_fail(t->vm.sim, (enum gpamap_sim_call)below(t, 6),
				1 + (unsigned)below(t, 5), EIO, below(t, 2));
}

static void disarm(struct test *t)
{
	counting_fail(&t->vm.alloc, 0, false);
	for (int call = GPAMAP_SIM_ANY; call <= GPAMAP_SIM_GET_DIRTY; call++)
		gpamap_sim_fail(t->vm.sim, (enum gpamap_sim_call)call, 0, 0, false);
}

static void preview(struct test *t, struct gpamap_txn *txn, unsigned flags, size_t *ops_before)
{
	struct gpamap_plan *plan;

	*ops_before = SIZE_MAX;
	if (below(t, 4) || gpamap_preview(txn, flags, &plan))
		return;
	*ops_before = gpamap_plan_count(plan);
	gpamap_plan_free(plan);
}

/* The commit has failed: the old map stands, or will again; or a retry gets through. */
static void recover(struct test *t, struct gpamap_txn *txn, const struct model *before, int err,
		    bool can_be)
{
	if (err == -ENOTRECOVERABLE)
		t->repaired++;
	if (err == -ENOSPC)
		t->no_slots++;
	else if (can_be)
		t->failed++;
	assert_int_equal(vm_stats(&t->vm).broken, err == -ENOTRECOVERABLE);
	if (can_be && err != -ENOSPC && below(t, 2)) {
		err = gpamap_commit(txn, NULL, NULL);
		if (err != -ENOSPC)
			ok_txn(txn, err);
		if (!err)
			return;
	}
	t->model = *before;
	gpamap_abort(txn);
	if (!vm_stats(&t->vm).broken)
		return;
	txn = vm_begin(&t->vm);
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
}

/* Refused is what the model says, and nothing else. Returns whether there can be such a map. */
static bool as_the_model_says(struct test *t, const struct model_file *file, int err, bool faults)
{
	if (!file->twice && !file->readonly) {
		assert_true(!err || err == -ENOSPC || faults);
		assert_true(err != -EBUSY && err != -EPERM);
		return true;
	}
	assert_true((err == -EBUSY && file->twice) || (err == -EPERM && file->readonly) ||
		    err == -ENOSPC || (err == -ENOMEM && faults));
	t->shown_twice += err == -EBUSY;
	t->readonly += err == -EPERM;
	return false;
}

static void transaction(struct test *t, bool faults)
{
	struct gpamap_txn *txn = vm_begin(&t->vm);
	struct gpamap_commit_options opt = {0};
	struct gpamap_commit_report report;
	struct model before = t->model;
	struct model_file file;
	size_t ops_before;
	bool can_be;
	int err;

	if (below(t, 8) == 0)
		opt.flags = GPAMAP_COMMIT_ONE_INSTANT;
	faults = faults && below(t, 2);
	if (faults)
		arm(t);
	for (uint64_t k = below(t, 7); k > 0; k--)
		edit(t, txn);
	preview(t, txn, opt.flags, &ops_before);
	if (below(t, 10) == 0) {
		gpamap_abort(txn);
		disarm(t);
		t->model = before;
		return;
	}
	err = gpamap_commit(txn, &opt, &report);
	disarm(t);
	model_file(&t->model, &file);
	can_be = as_the_model_says(t, &file, err, faults);
	if (err) {
		recover(t, txn, &before, err, can_be);
		return;
	}
	t->commits++;
	model_file_moved(&t->file, &file, &t->moved, &t->handed_over);
	t->file = file;
	if (ops_before != SIZE_MAX)
		assert_int_equal(report.early + report.critical + report.late, ops_before);
}

/* What is pending may stay so over some transactions. The VM is as the model says when nothing is. */
static bool cleared(struct test *t)
{
	if (!vm_stats(&t->vm).pending)
		return true;
	t->pending++;
	if (below(t, 3))
		return false;
	ok(gpamap_clear_pending(t->vm.map));
	assert_int_equal(vm_stats(&t->vm).pending, 0);
	return true;
}

static void rounds(struct test *t, bool faults)
{
	for (int i = 0; i < ROUNDS; i++) {
		transaction(t, faults);
		if (!cleared(t))
			continue;
		check(t);
		if (i % 64 == 0)
			vm_check_settled(&t->vm);
	}
	assert_true(t->commits > ROUNDS / 4);
	assert_true(t->moved > ROUNDS / 200 && t->handed_over > ROUNDS / 2000);
	assert_true(t->shown_twice > 0);
}

static struct test test;

static void plain_sailing(void **state)
{
	struct gpamap_options opt = {0};

	(void)state;
	test_open(&test, "random", 31, &opt);
	rounds(&test, false);
	assert_int_equal(test.failed + test.no_slots, 0);
	test_close(&test);
}

static void with_faults(void **state)
{
	struct gpamap_options opt = {0};

	(void)state;
	test_open(&test, "random, faults", 32, &opt);
	rounds(&test, true);
	assert_true(test.failed > ROUNDS / 50 && test.repaired > ROUNDS / 500);
	assert_true(test.pending > ROUNDS / 2000);
	test_close(&test);
}

static void short_of_slots(void **state)
{
	struct gpamap_options opt = {.max_slots = 14};

	(void)state;
	test_open(&test, "random, few slots", 33, &opt);
	rounds(&test, false);
	assert_true(test.no_slots > 0 && vm_stats(&test.vm).merges > 0);
	test_close(&test);
}

static void short_of_slots_with_faults(void **state)
{
	struct gpamap_options opt = {.max_slots = 18};

	(void)state;
	test_open(&test, "random, few slots, faults", 34, &opt);
	rounds(&test, true);
	test_close(&test);
}

static void small_slots(void **state)
{
	struct gpamap_options opt = {.max_slot_size = 4 * PAGE};

	(void)state;
	test_open(&test, "random, small slots", 35, &opt);
	rounds(&test, true);
	test_close(&test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_sailing),  cmocka_unit_test(with_faults),
		cmocka_unit_test(short_of_slots), cmocka_unit_test(short_of_slots_with_faults),
		cmocka_unit_test(small_slots),
	};

	for (uint32_t i = 1; i <= MEMS; i++) {
		mem[i][0] = mem_new(i, MEM_PAGES);
		mem[i][1] = mem_again(i, MEM_PAGES);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
