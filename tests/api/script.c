/* SPDX-License-Identifier: BSD-3-Clause */
/* The script; see script.h. */
#include "script.h"

static uint8_t *mem_c_again;

/* An edit that fails changes nothing, so it can be done again. */
#define EDIT(edit)                     \
	do {                           \
		int err_ = (edit);     \
		if (err_ && s->again)  \
			err_ = (edit); \
		if (err_)              \
			return err_;   \
	} while (0)

static int build(struct script *s, struct gpamap_txn *txn)
{
	struct gpamap_region *root = gpamap_root(s->vm.map, 0);

	EDIT(gpamap_add(txn, root, 0, s->ram, 0));
	EDIT(gpamap_add(txn, root, 40 * PAGE, s->logged, 0));
	EDIT(gpamap_set_log(txn, s->logged, true));
	EDIT(gpamap_add(txn, root, 90 * PAGE, s->gmem, 0));
	EDIT(gpamap_add(txn, root, 30 * PAGE, s->small, 0));
	EDIT(gpamap_map_pages(txn, 0, 64 * PAGE, 16 * PAGE, mem_b, GPAMAP_RW));
	EDIT(gpamap_map_region(txn, 1, 0, 8 * PAGE, s->ram, 0, GPAMAP_RO));
	return 0;
}

static int split(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_protect_pages(txn, 0, 68 * PAGE, 2 * PAGE, GPAMAP_RO));
	return 0;
}

static int split_logged(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_add(txn, gpamap_root(s->vm.map, 0), 44 * PAGE, s->window, 1));
	return 0;
}

static int grow(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_resize(txn, s->ram, 24 * PAGE));
	EDIT(gpamap_set_log(txn, s->ram, true));
	return 0;
}

/* Each onto its old place, and the two slots of ram onto each other's. */
static int move(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_move(txn, s->small, 32 * PAGE));
	EDIT(gpamap_move(txn, s->ram, 4 * PAGE));
	return 0;
}

static int reback(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_reback(txn, s->ram, mem_b + 32 * PAGE));
	EDIT(gpamap_reback(txn, s->logged, mem_c_again));
	return 0;
}

static int shrink(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_resize(txn, s->ram, 6 * PAGE));
	EDIT(gpamap_unmap_pages(txn, 1, 2 * PAGE, 2 * PAGE));
	return 0;
}

static int ranges(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_unmap_pages(txn, 0, 66 * PAGE, PAGE));
	EDIT(gpamap_protect_pages(txn, 0, 70 * PAGE, 4 * PAGE, GPAMAP_NONE));
	EDIT(gpamap_map_pages(txn, 0, 72 * PAGE, 8 * PAGE, mem_a + 8 * PAGE, GPAMAP_RW));
	EDIT(gpamap_map_pages(txn, 1, 80 * PAGE, 4 * PAGE, mem_b, GPAMAP_RW));
	EDIT(gpamap_map_region(txn, 1, 84 * PAGE, 2 * PAGE, s->logged, PAGE, GPAMAP_RW));
	return 0;
}

static int logs(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_set_log(txn, s->ram, false));
	EDIT(gpamap_set_log(txn, s->logged, false));
	EDIT(gpamap_map_pages(txn, 0, 85 * PAGE, PAGE, mem_b, GPAMAP_RO));
	EDIT(gpamap_remove(txn, s->gmem));
	return 0;
}

/* Early, critical and late operations in one. */
static int all_phases(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_unmap_pages(txn, 0, 72 * PAGE, 2 * PAGE));
	EDIT(gpamap_unmap_pages(txn, 0, 85 * PAGE, PAGE));
	EDIT(gpamap_unmap_pages(txn, 1, 80 * PAGE, 16 * PAGE));
	EDIT(gpamap_map_pages(txn, 0, 87 * PAGE, PAGE, mem_b, GPAMAP_RO));
	EDIT(gpamap_set_log(txn, s->logged, true));
	EDIT(gpamap_map_pages(txn, 1, 88 * PAGE, PAGE, mem_b, GPAMAP_RO));
	return 0;
}

/* Memory over logged memory: what was written there is read and kept. */
static int cover(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_set_enabled(txn, s->window, false));
	EDIT(gpamap_map_pages(txn, 0, 41 * PAGE, PAGE, mem_b, GPAMAP_RW));
	EDIT(gpamap_move(txn, s->logged, 39 * PAGE));
	return 0;
}

/* With GPAMAP_COMMIT_ONE_INSTANT. */
static int clear(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_remove(txn, s->ram));
	EDIT(gpamap_unmap_pages(txn, 0, 60 * PAGE, 20 * PAGE));
	EDIT(gpamap_unmap_pages(txn, 1, 0, 60 * PAGE));
	EDIT(gpamap_map_region(txn, 1, PAGE, 4 * PAGE, s->ram, PAGE, GPAMAP_RW));
	EDIT(gpamap_add(txn, gpamap_root(s->vm.map, 0), 64 * PAGE, s->gmem, 0));
	return 0;
}

/* guest_memfd onto its old place, and some of it in the other space. */
static int gmem_moves(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_move(txn, s->gmem, 66 * PAGE));
	EDIT(gpamap_map_region(txn, 1, 40 * PAGE, 3 * PAGE, s->gmem_2, 0, GPAMAP_RW));
	return 0;
}

/* Two pages of the file go from one region and space to another; others come back elsewhere. */
static int gmem_grows(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_unmap_pages(txn, 1, 40 * PAGE, 2 * PAGE));
	EDIT(gpamap_resize(txn, s->gmem, 6 * PAGE));
	EDIT(gpamap_map_region(txn, 0, 85 * PAGE, PAGE, s->gmem_2, 3 * PAGE, GPAMAP_RW));
	return 0;
}

/* One region takes the other's place and pages. */
static int gmem_handed_over(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_remove(txn, s->gmem));
	EDIT(gpamap_unmap_pages(txn, 0, 85 * PAGE, PAGE));
	EDIT(gpamap_unmap_pages(txn, 1, 42 * PAGE, PAGE));
	EDIT(gpamap_add(txn, gpamap_root(s->vm.map, 0), 68 * PAGE, s->gmem_2, 0));
	EDIT(gpamap_set_priority(txn, s->gmem_2, 1));
	EDIT(gpamap_map_region(txn, 1, 44 * PAGE, 2 * PAGE, s->gmem, PAGE, GPAMAP_RW));
	return 0;
}

static int devices(struct script *s, struct gpamap_txn *txn)
{
	struct gpamap_region *root = gpamap_root(s->vm.map, 0);

	EDIT(gpamap_add(txn, root, 10 * PAGE, s->rom, 0));
	EDIT(gpamap_add(txn, root, 14 * PAGE, s->device, 0));
	EDIT(gpamap_map_pages(txn, 0, 15 * PAGE, PAGE, mem_b, GPAMAP_RW));
	return 0;
}

/* Memory comes and goes above what traps. */
static int devices_change(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_set_rom_mode(txn, s->rom, false));
	EDIT(gpamap_map_pages(txn, 0, 14 * PAGE, PAGE, mem_b + 8 * PAGE, GPAMAP_RW));
	EDIT(gpamap_unmap_pages(txn, 0, 15 * PAGE, PAGE));
	return 0;
}

const struct step steps[STEPS] = {
	{build, 0},	 {split, 0},	      {split_logged, 0},
	{grow, 0},	 {move, 0},	      {reback, 0},
	{shrink, 0},	 {ranges, 0},	      {logs, 0},
	{all_phases, 0}, {cover, 0},	      {clear, GPAMAP_COMMIT_ONE_INSTANT},
	{gmem_moves, 0}, {gmem_grows, 0},     {gmem_handed_over, 0},
	{devices, 0},	 {devices_change, 0},
};

struct world worlds[STEPS + 1];

/* ---------------------------------------------------------------------------------- script --- */

static const struct gpamap_mmio_ops no_ops;

static int halt_step(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	(void)opaque;
	return gpamap_sim_halt(vcpu);
}

void script_commit(struct script *s, size_t step)
{
	struct gpamap_commit_options opt = {.flags = steps[step].flags};
	struct gpamap_txn *txn = vm_begin(&s->vm);

	ok_txn(txn, steps[step].edits(s, txn));
	ok_txn(txn, gpamap_commit(txn, &opt, NULL));
}

void script_open(struct script *s, size_t done)
{
	struct gpamap_options opt = {.spaces = 2};
	struct gpamap_sim_options sim = {.spaces = 2};
	struct gpamap_region_desc desc = {.kind = GPAMAP_RAM, .name = "gmem"};

	memset(s, 0, sizeof(*s));
	vm_open(&s->vm, &sim, &opt);
	s->b = mem_b;
	s->ram = vm_ram(&s->vm, mem_a, 16, 32);
	s->logged = vm_ram(&s->vm, mem_c, 16, 0);
	s->small = vm_ram(&s->vm, mem_c + 32 * PAGE, 4, 0);
	desc.flags = GPAMAP_GUEST_MEMFD;
	desc.size = 4 * PAGE;
	desc.max_size = 8 * PAGE;
	desc.hva = mem_b + 16 * PAGE;
	desc.guest_memfd = 100;
	s->gmem = vm_region(&s->vm, &desc);
	desc.max_size = 0;
	desc.hva = mem_b + 20 * PAGE;
	desc.guest_memfd_offset = 4 * PAGE;
	s->gmem_2 = vm_region(&s->vm, &desc);
	desc = (struct gpamap_region_desc){.kind = GPAMAP_ROM_DEVICE,
					   .name = "rom",
					   .size = 2 * PAGE,
					   .hva = mem_b + 40 * PAGE,
					   .ops = &no_ops};
	s->rom = vm_region(&s->vm, &desc);
	desc.kind = GPAMAP_MMIO;
	desc.hva = NULL;
	s->device = vm_region(&s->vm, &desc);
	desc = (struct gpamap_region_desc){.kind = GPAMAP_ALIAS,
					   .flags = GPAMAP_READONLY,
					   .name = "window",
					   .size = 4 * PAGE,
					   .target = s->logged,
					   .target_offset = 4 * PAGE};
	s->window = vm_region(&s->vm, &desc);
	ok(gpamap_sim_vcpu_new(s->vm.sim, 1, 0, halt_step, NULL, &s->sim_vcpu));
	ok(gpamap_sim_vcpu_attach(s->vm.map, s->sim_vcpu, &s->vcpu));
	for (size_t i = 0; i < done; i++)
		script_commit(s, i);
}

void script_close(struct script *s)
{
	gpamap_vcpu_detach(s->vcpu);
	gpamap_sim_vcpu_free(s->sim_vcpu);
	gpamap_region_put(s->ram);
	gpamap_region_put(s->logged);
	gpamap_region_put(s->window);
	gpamap_region_put(s->gmem);
	gpamap_region_put(s->gmem_2);
	gpamap_region_put(s->rom);
	gpamap_region_put(s->device);
	gpamap_region_put(s->small);
	vm_close(&s->vm);
}

void script_check_runs(struct script *s, bool broken)
{
	int want = broken ? -ENOTRECOVERABLE : 0;

	assert_int_equal(gpamap_vcpu_run(s->vcpu), want);
	assert_int_equal(gpamap_vcpu_enter(s->vcpu), want);
	if (!broken)
		gpamap_vcpu_leave(s->vcpu);
	assert_int_equal(gpamap_enter(s->vm.map), want);
	if (!broken)
		gpamap_leave(s->vm.map);
}

void script_empty_commit(struct script *s)
{
	struct gpamap_txn *txn = vm_begin(&s->vm);

	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
}

int script_record(void **state)
{
	(void)state;
	mems_new(64);
	mem_c_again = mem_again(C, 64);
	for (size_t i = 0; i <= STEPS; i++) {
		struct script s;

		script_open(&s, i);
		world_take(&s.vm, &worlds[i]);
		vm_check_slots(&s.vm, WORLD_PAGES);
		script_close(&s);
	}
	return 0;
}
