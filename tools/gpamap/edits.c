/* SPDX-License-Identifier: BSD-3-Clause */
/* See edits.h. */
#include "edits.h"

void editor_init(struct editor *e, enum edit edit, const struct arena *a, uint64_t seed)
{
	*e = (struct editor){.edit = edit, .arena = a, .random = seed};
}

/* Sequence and mixer of splitmix64. */
unsigned editor_random(struct editor *e, unsigned below)
{
	uint64_t z = e->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	z ^= z >> 31;
	return (unsigned)(z >> 32) % below;
}

static unsigned any_window(struct editor *e)
{
	return editor_random(e, e->arena->windows);
}

/* Something else on a gap page, or on the two pages of a gap: what is whole is split, and what is split
 * becomes whole again. */
static unsigned edit_split(struct editor *e, struct change *out)
{
	unsigned window = any_window(e), gap = editor_random(e, GAP_PAGES / 2) * 2;
	const uint8_t *now = &e->arena->state.win[window].gap[gap];
	bool whole = now[0] == GAP_PLAIN && now[1] == GAP_PLAIN;
	unsigned value = whole ? 1 + editor_random(e, GAP_STATES - 1) : GAP_PLAIN;
	unsigned which = whole ? 1 + editor_random(e, 3) : 3, n = 0;

	for (unsigned i = 0; i < 2; i++) {
		if (which & (1u << i))
			out[n++] = (struct change){CHANGE_GAP, window, gap + i, value};
	}
	return n;
}

static unsigned edit_protect(struct editor *e, struct change *out)
{
	unsigned window = any_window(e), index = editor_random(e, RO_PAGES);
	bool now = e->arena->state.win[window].readonly[index];

	out[0] = (struct change){CHANGE_READONLY, window, index, !now};
	return 1;
}

/* In turns: many pieces in many places, and everything whole again. */
static unsigned edit_merge(struct editor *e, struct change *out)
{
	unsigned n = 0;

	if (e->turn++ % 2 == 0) {
		while (n + 3 < MAX_CHANGES)
			n += editor_random(e, 2) ? edit_split(e, &out[n])
						 : edit_protect(e, &out[n]);
		return n;
	}
	for (unsigned w = 0; w < e->arena->windows; w++) {
		const struct window_state *s = &e->arena->state.win[w];

		for (unsigned i = 0; i < GAP_PAGES && n < MAX_CHANGES; i++)
			if (s->gap[i] != GAP_PLAIN)
				out[n++] = (struct change){CHANGE_GAP, w, i, GAP_PLAIN};
		for (unsigned i = 0; i < RO_PAGES && n < MAX_CHANGES; i++)
			if (s->readonly[i])
				out[n++] = (struct change){CHANGE_READONLY, w, i, false};
	}
	return n ? n : edit_split(e, out);
}

static unsigned edit_resize(struct editor *e, struct change *out)
{
	unsigned now = e->arena->state.tail, value = editor_random(e, TAIL_PAGES);

	out[0] = (struct change){CHANGE_TAIL, 0, 0, value == now ? TAIL_PAGES : value};
	return 1;
}

static unsigned edit_move(struct editor *e, struct change *out)
{
	unsigned window = any_window(e), now = e->arena->state.win[window].shift;

	out[0] = (struct change){CHANGE_SHIFT, window, 0,
				 (now + 1 + editor_random(e, MOVE_SHIFTS - 1)) % MOVE_SHIFTS};
	return 1;
}

static unsigned edit_reback(struct editor *e, struct change *out)
{
	unsigned window = any_window(e);

	out[0] = (struct change){CHANGE_BACK, window, 0, !e->arena->state.win[window].alt};
	return 1;
}

static unsigned edit_hotplug(struct editor *e, struct change *out)
{
	unsigned index = editor_random(e, HOT_COUNT);

	out[0] = (struct change){CHANGE_HOT, 0, index, !e->arena->state.hot[index]};
	return 1;
}

/* Log on, a number of splits, log off. */
static unsigned edit_dirtylog(struct editor *e, struct change *out)
{
	bool now = e->arena->state.log;

	if (now && editor_random(e, 12))
		return edit_split(e, out);
	out[0] = (struct change){CHANGE_LOG, 0, 0, !now};
	return 1;
}

static unsigned edit_instant(struct editor *e, struct change *out)
{
	out[0] = (struct change){CHANGE_SHOW, 0, 0, e->arena->state.generation + 1};
	return 1;
}

static unsigned (*const makers[])(struct editor *e, struct change *out) = {
	[EDIT_SPLIT] = edit_split,	 [EDIT_MERGE] = edit_merge,
	[EDIT_RESIZE] = edit_resize,	 [EDIT_PROTECT] = edit_protect,
	[EDIT_MOVE] = edit_move,	 [EDIT_REBACK] = edit_reback,
	[EDIT_DIRTYLOG] = edit_dirtylog, [EDIT_HOTPLUG] = edit_hotplug,
	[EDIT_INSTANT] = edit_instant,
};

unsigned editor_next(struct editor *e, struct change *changes)
{
	unsigned edit = e->edit;

	if (edit == EDIT_MIXED)
		edit = editor_random(e, EDIT_MIXED);
	return makers[edit](e, changes);
}

void change_apply(struct map_state *s, const struct change *c)
{
	struct window_state *w = &s->win[c->window];

	switch (c->kind) {
	case CHANGE_GAP:
		w->gap[c->index] = (uint8_t)c->value;
		break;
	case CHANGE_READONLY:
		w->readonly[c->index] = c->value;
		break;
	case CHANGE_SHIFT:
		w->shift = (uint8_t)c->value;
		break;
	case CHANGE_BACK:
		w->alt = c->value;
		break;
	case CHANGE_TAIL:
		s->tail = c->value;
		break;
	case CHANGE_LOG:
		s->log = c->value;
		break;
	case CHANGE_HOT:
		s->hot[c->index] = c->value;
		break;
	case CHANGE_SHOW:
		s->generation = c->value;
		break;
	}
}

/* Where a window can be cut, by what: see window_pattern. */
static unsigned most_cuts(enum edit edit)
{
	/* One on each side of a page or a range, but for those between two that always look the same. */
	const unsigned back = 2, gaps = 6, readonly = 4, alias = 2;

	switch (edit) {
	case EDIT_SPLIT:
	case EDIT_DIRTYLOG:
		return back + gaps;
	case EDIT_MERGE:
		return back + gaps + readonly;
	case EDIT_PROTECT:
		return back + readonly;
	case EDIT_MOVE:
		return back + alias;
	case EDIT_MIXED:
		return back + gaps + readonly + alias;
	default:
		return back;
	}
}

unsigned edit_most_slots(enum edit edit, unsigned windows, uint64_t memory)
{
	bool mixed = edit == EDIT_MIXED;
	uint64_t tail = mixed || edit == EDIT_RESIZE ? TAIL_PAGES * PAGE : 0;
	/* Slots are cut at multiples of this. */
	unsigned n = 1 + (unsigned)((memory + tail - 1) >> 30);

	n += mixed || edit == EDIT_HOTPLUG ? HOT_COUNT : 0;
	n += edit == EDIT_INSTANT ? SHOW_PAGES : 0;
	return n + windows * most_cuts(edit);
}
