/* SPDX-License-Identifier: BSD-3-Clause */
/* Every sort of change, each with addresses of its own; see order.h. */
#include "order.h"

#define B(i) backing_of(a, (i))

static void add(struct order *o, struct gpamap_txn *txn, unsigned a, unsigned page,
		struct gpamap_region *r, int priority)
{
	ok_txn(txn, gpamap_add(txn, gpamap_root(o->vm.map, 0), area_gpa(a, page), r, priority));
}

static void map_three(struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn,
	       gpamap_map_pages(txn, 0, area_gpa(a, 0), 3 * PAGE, backing_at(B(0)), GPAMAP_RW));
}

/* Pages 0 and 2 stay, and lie in a slot with page 1. */
static void add_neighbours(struct order *o, unsigned a)
{
	place_add(o, a, 0, memory(B(0)), memory(B(0)));
	place_add(o, a, 2, memory(B(2)), memory(B(2)));
}

static void reback_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	o->region[a] = area_ram(o, a, 0, 2, 0, false);
	add(o, txn, a, 0, o->region[a], 0);
	place_add(o, a, 0, memory(B(0)), memory(B(4)));
	place_add(o, a, 1, memory(B(1)), memory(B(5)));
}

static void reback(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn, gpamap_reback(txn, o->region[a], backing_at(B(4))));
}

static void protect_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	map_three(txn, a);
	add_neighbours(o, a);
	place_add(o, a, 1, memory(B(1)), read_only(B(1)));
}

static void protect(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	(void)o;
	ok_txn(txn, gpamap_protect_pages(txn, 0, area_gpa(a, 1), PAGE, GPAMAP_RO));
}

static void to_none_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn, gpamap_map_pages(txn, 0, area_gpa(a, 1), PAGE, backing_at(B(1)), GPAMAP_RW));
	place_add(o, a, 1, memory(B(1)), traps());
}

static void to_none(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	(void)o;
	ok_txn(txn, gpamap_protect_pages(txn, 0, area_gpa(a, 1), PAGE, GPAMAP_NONE));
}

static void from_none_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	map_three(txn, a);
	ok_txn(txn, gpamap_protect_pages(txn, 0, area_gpa(a, 1), PAGE, GPAMAP_NONE));
	add_neighbours(o, a);
	place_add(o, a, 1, traps(), memory(B(1)));
}

static void from_none(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	(void)o;
	ok_txn(txn, gpamap_protect_pages(txn, 0, area_gpa(a, 1), PAGE, GPAMAP_RW));
}

static void device_and_ram(struct order *o, struct gpamap_txn *txn, unsigned a, bool kept)
{
	o->region[a] = area_ram(o, a, 0, 1, 0, kept);
	o->other[a] = area_device(o, a, 1, false, 0);
	add(o, txn, a, 0, o->other[a], 0);
}

static void over_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	device_and_ram(o, txn, a, false);
	place_add(o, a, 0, device(B(1)), memory(B(0)));
}

static void over(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	add(o, txn, a, 0, o->region[a], 1);
}

/* It could be left over, if no device came to light. */
static void from_over_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	device_and_ram(o, txn, a, true);
	add(o, txn, a, 0, o->region[a], 1);
	place_add(o, a, 0, memory(B(0)), device(B(1)));
}

static void remove_region(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn, gpamap_remove(txn, o->region[a]));
	/* Its last handle: so it is released by the commit, or when nothing is pending any more. */
	gpamap_region_put(o->region[a]);
	o->region[a] = NULL;
}

static void rom_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	o->region[a] = area_device(o, a, 1, true, 0);
	add(o, txn, a, 0, o->region[a], 0);
}

static void to_trap_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	rom_build(o, txn, a);
	place_add(o, a, 0, rom(B(0), B(1)), device(B(1)));
}

static void to_trap(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn, gpamap_set_rom_mode(txn, o->region[a], false));
}

static void to_rom_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	rom_build(o, txn, a);
	to_trap(o, txn, a);
	place_add(o, a, 0, device(B(1)), rom(B(0), B(1)));
}

static void to_rom(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn, gpamap_set_rom_mode(txn, o->region[a], true));
}

static void kept_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	o->region[a] = area_ram(o, a, 0, 2, 0, true);
	add(o, txn, a, 0, o->region[a], 0);
	place_add(o, a, 0, memory(B(0)), nothing());
	place_add(o, a, 1, memory(B(1)), nothing());
}

static void bare_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	o->region[a] = area_ram(o, a, 0, 2, 0, false);
	add(o, txn, a, 0, o->region[a], 0);
	place_add(o, a, 0, memory(B(0)), nothing());
	place_add(o, a, 1, memory(B(1)), nothing());
}

static void unmap_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	map_three(txn, a);
	add_neighbours(o, a);
	place_add(o, a, 1, memory(B(1)), nothing());
}

static void unmap(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	(void)o;
	ok_txn(txn, gpamap_unmap_pages(txn, 0, area_gpa(a, 1), PAGE));
}

static void add_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	(void)txn;
	o->region[a] = area_ram(o, a, 0, 1, 0, true);
	place_add(o, a, 0, nothing(), memory(B(0)));
}

static void add_it(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	add(o, txn, a, 0, o->region[a], 0);
}

static void mover_build(struct order *o, struct gpamap_txn *txn, unsigned a, unsigned flags)
{
	o->region[a] = area_ram(o, a, 0, 2, flags, true);
	add(o, txn, a, 0, o->region[a], 0);
}

static void move_away_build(struct order *o, struct gpamap_txn *txn, unsigned a, unsigned flags)
{
	mover_build(o, txn, a, flags);
	for (unsigned i = 0; i < 2; i++) {
		place_add(o, a, i, memory(B(i)), nothing());
		place_add(o, a, 4 + i, nothing(), memory(B(i)));
	}
}

static void move_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	move_away_build(o, txn, a, 0);
}

static void move_away(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn, gpamap_move(txn, o->region[a], area_gpa(a, 4)));
}

static void move_gmem_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	move_away_build(o, txn, a, GPAMAP_GUEST_MEMFD);
}

static void onto_itself_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	mover_build(o, txn, a, 0);
	place_add(o, a, 0, memory(B(0)), nothing());
	place_add(o, a, 1, memory(B(1)), memory(B(0)));
	place_add(o, a, 2, nothing(), memory(B(1)));
}

static void onto_itself(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn, gpamap_move(txn, o->region[a], area_gpa(a, 1)));
}

/* The same pages of the file, from one region to another. */
static void hand_over_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	move_away_build(o, txn, a, GPAMAP_GUEST_MEMFD);
	o->other[a] = area_ram(o, a, 0, 2, GPAMAP_GUEST_MEMFD, true);
}

static void hand_over(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn, gpamap_remove(txn, o->region[a]));
	add(o, txn, a, 4, o->other[a], 0);
}

/* What is there stays; the slot's flags change. */
static void log_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	mover_build(o, txn, a, 0);
	place_add(o, a, 0, memory(B(0)), memory(B(0)));
}

static void log_on(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn, gpamap_set_log(txn, o->region[a], true));
}

static void logged_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	log_build(o, txn, a);
	log_on(o, txn, a);
}

static void log_off(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn, gpamap_set_log(txn, o->region[a], false));
}

static void remove_logged_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	kept_build(o, txn, a);
	log_on(o, txn, a);
}

/* Three BARs behind a bridge. */
static void bars_build(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	const struct gpamap_region_desc bridge = {
		.kind = GPAMAP_CONTAINER, .name = "bridge", .size = 8 * PAGE};

	o->region[a] = vm_region(&o->vm, &bridge);
	for (unsigned i = 0; i < 3; i++) {
		struct gpamap_region *bar = area_ram(o, a, i, 1, 0, true);

		ok_txn(txn, gpamap_add(txn, o->region[a], 2 * i * PAGE, bar, 0));
		gpamap_region_put(bar);
		place_add(o, a, 2 * i, memory(B(i)), nothing());
		place_add(o, a, 8 + 2 * i, nothing(), memory(B(i)));
	}
	add(o, txn, a, 0, o->region[a], 0);
}

static void move_bridge(struct order *o, struct gpamap_txn *txn, unsigned a)
{
	ok_txn(txn, gpamap_move(txn, o->region[a], area_gpa(a, 8)));
}

const struct area areas[AREAS] = {
	[REBACK] = {"reback", reback_build, reback},
	[PROTECT] = {"protect", protect_build, protect},
	[TO_NONE] = {"to none", to_none_build, to_none},
	[FROM_NONE] = {"from none", from_none_build, from_none},
	[RAM_OVER_MMIO] = {"ram over mmio", over_build, over},
	[RAM_FROM_MMIO] = {"ram from over mmio", from_over_build, remove_region},
	[ROM_TO_TRAP] = {"rom to trap", to_trap_build, to_trap},
	[TRAP_TO_ROM] = {"trap to rom", to_rom_build, to_rom},
	[REMOVE] = {"remove", kept_build, remove_region},
	[REMOVE_BARE] = {"remove without release", bare_build, remove_region},
	[UNMAP] = {"unmap", unmap_build, unmap},
	[ADD] = {"add", add_build, add_it},
	[MOVE] = {"move", move_build, move_away},
	[MOVE_ONTO_ITSELF] = {"move onto itself", onto_itself_build, onto_itself},
	[MOVE_GMEM] = {"move of guest_memfd", move_gmem_build, move_away},
	[HAND_OVER_GMEM] = {"guest_memfd handed over", hand_over_build, hand_over},
	[LOG_ON] = {"log on", log_build, log_on},
	[LOG_OFF] = {"log off", logged_build, log_off},
	[REMOVE_LOGGED] = {"remove what logs", remove_logged_build, remove_region},
	[BARS] = {"bars behind a bridge", bars_build, move_bridge},
};
