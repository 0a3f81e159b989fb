/* SPDX-License-Identifier: BSD-3-Clause */
/* Edits of what a region is: enabled, read-only, its memory, its window, its mode, its log. They go the way
 * that place.c describes. */
#include <errno.h>

#include "map/check.h"
#include "map/edit.h"
#include "map/label.h"
#include "map/map.h"
#include "map/mark.h"

/* Mark all of @r, and keep its state. After it, the change can be made. */
static int prepare(struct gpamap_region *r, struct gm_msg *msg)
{
	int err = gm_mark_all(r);

	if (err)
		return gm_fail(msg, err, "no memory to change '" GM_NAME "'", gm_label(r));
	gm_touch(r);
	return 0;
}

/* Plain mappings of a region don't depend on it: they were asked for, address by address. */
int gm_edit_enabled(struct gm_map *m, struct gpamap_region *r, bool enabled, struct gm_msg *msg)
{
	int err = gm_check_map(m, r, msg);

	if (err || r->now.enabled == enabled)
		return err;
	r->now.enabled = true;
	err = gm_mark(r, gm_all_of(UINT64_MAX));
	r->now.enabled = !enabled;
	if (err)
		return gm_fail(msg, err, "no memory to change '" GM_NAME "'", gm_label(r));
	gm_touch(r);
	r->now.enabled = enabled;
	return 0;
}

int gm_edit_readonly(struct gm_map *m, struct gpamap_region *r, bool readonly, struct gm_msg *msg)
{
	int err = gm_check_map(m, r, msg);

	if (err)
		return err;
	if (r->guest_memfd)
		return gm_fail(msg, -EPERM, "'" GM_NAME "': guest_memfd can't be read-only",
			       gm_label(r));
	if (r->now.readonly == readonly)
		return 0;
	err = prepare(r, msg);
	if (!err)
		r->now.readonly = readonly;
	return err;
}

int gm_edit_reback(struct gm_map *m, struct gpamap_region *r, void *hva, struct gm_msg *msg)
{
	uint64_t to = (uint64_t)(uintptr_t)hva;
	int err = gm_check_map(m, r, msg);

	if (err)
		return err;
	if ((r->kind != GPAMAP_RAM && r->kind != GPAMAP_ROM_DEVICE) || r->guest_memfd)
		return gm_fail(msg, -ENOTSUP,
			       "'" GM_NAME "' is of kind %s%s: only RAM and ROM devices without "
			       "guest_memfd have memory to replace",
			       gm_label(r), gm_kind_name(r->kind),
			       r->guest_memfd ? " with guest_memfd" : "");
	err = gm_check_hva(m, gm_label(r), to, r->max_size, msg);
	if (err || r->now.hva == to)
		return err;
	err = prepare(r, msg);
	if (!err)
		r->now.hva = to;
	return err;
}

int gm_edit_target_offset(struct gm_map *m, struct gpamap_region *alias, uint64_t offset,
			  struct gm_msg *msg)
{
	int err = gm_check_map(m, alias, msg);

	if (err)
		return err;
	if (alias->kind != GPAMAP_ALIAS)
		return gm_fail(msg, -ENOTSUP, "'" GM_NAME "' is no alias, but of kind %s",
			       gm_label(alias), gm_kind_name(alias->kind));
	err = gm_check_window(m, gm_label(alias), offset, alias->now.size, msg);
	if (err || alias->now.target_offset == offset)
		return err;
	err = prepare(alias, msg);
	if (!err)
		alias->now.target_offset = offset;
	return err;
}

int gm_edit_rom_mode(struct gm_map *m, struct gpamap_region *r, bool rom, struct gm_msg *msg)
{
	int err = gm_check_map(m, r, msg);

	if (err)
		return err;
	if (r->kind != GPAMAP_ROM_DEVICE)
		return gm_fail(msg, -ENOTSUP, "'" GM_NAME "' is no ROM device, but of kind %s",
			       gm_label(r), gm_kind_name(r->kind));
	if (r->now.rom_mode == rom)
		return 0;
	err = prepare(r, msg);
	if (!err)
		r->now.rom_mode = rom;
	return err;
}

/* Let @r have dirty bits. They stay even if the transaction is aborted: a later one may want them. */
static int make_bits(struct gpamap_region *r, struct gm_msg *msg)
{
	uint64_t pages = r->max_size / r->map->page_size;

	if (r->dirty)
		return 0;
	r->dirty = gm_calloc(r->map->alloc, pages / 64 + (pages % 64 != 0), sizeof(*r->dirty));
	if (!r->dirty)
		return gm_fail(msg, -ENOMEM, "no memory for the dirty bits of '" GM_NAME "'",
			       gm_label(r));
	return 0;
}

int gm_edit_log(struct gm_map *m, struct gpamap_region *r, bool on, struct gm_msg *msg)
{
	int err = gm_check_map(m, r, msg);

	if (err)
		return err;
	if (r->kind != GPAMAP_RAM || r->guest_memfd)
		return gm_fail(
			msg, -ENOTSUP,
			"'" GM_NAME
			"' is of kind %s%s: only RAM without guest_memfd can log what is written",
			gm_label(r), gm_kind_name(r->kind),
			r->guest_memfd ? " with guest_memfd" : "");
	if (r->now.log == on)
		return 0;
	if (on)
		err = make_bits(r, msg);
	if (!err)
		err = prepare(r, msg);
	if (!err)
		r->now.log = on;
	return err;
}
