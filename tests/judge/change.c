/* SPDX-License-Identifier: BSD-3-Clause */
/* See change.h. */
#include "change.h"

/* More pieces than that become one again, so that they fit into CHANGE_LIMIT's slots. */
#define MANY_PIECES 12u

const char *const change_names[CHANGE_KINDS] = {
	"reback", "split", "merge", "readonly", "beside", "log", "fetch", "limit",
};

/* How often each is chosen. */
static const uint8_t chosen[] = {
	CHANGE_REBACK,	 CHANGE_REBACK, CHANGE_REBACK, CHANGE_REBACK, CHANGE_SPLIT, CHANGE_SPLIT,
	CHANGE_READONLY, CHANGE_BESIDE, CHANGE_LOG,    CHANGE_FETCH,  CHANGE_LIMIT,
};

uint64_t change_random(uint64_t *random, uint64_t below)
{
	*random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (*random >> 33) % below;
}

/* Windows of 4 KiB, 2 MiB and 128 MiB, each at a multiple of its size. */
static void choose_window(const struct pages *p, uint64_t *random, struct change *c)
{
	static const uint64_t size[] = {4 << 10, 2 << 20, 128 << 20};
	size_t count = size[change_random(random, 3)] / p->size;

	/* A page may be larger, and all RAM smaller. */
	count = count ? count : 1;
	c->count = count < p->ram ? count : p->ram;
	c->first = change_random(random, p->ram / c->count) * c->count;
}

static void toggle_view(struct pages *p, const struct change *c, enum view view)
{
	bool back = (p->at[c->first] & PAGE_VIEW) == view;

	pages_set_view(p, c->first, c->count, back ? VIEW_MAIN : view);
}

static void toggle_readonly(struct pages *p, uint64_t *random, struct change *c)
{
	c->first = p->ram + change_random(random, PAGES_ROM);
	c->count = 1 + change_random(random, p->rom - c->first);
	pages_set_readonly(p, c->first, c->count, !(p->at[c->first] & PAGE_READONLY));
}

static void resize_beside(struct pages *p, uint64_t *random, struct change *c)
{
	size_t now = 1 + change_random(random, PAGES_BESIDE);

	c->first = p->beside;
	c->count = PAGES_BESIDE;
	pages_set_view(p, c->first, c->count, VIEW_NONE);
	pages_set_view(p, c->first, now, VIEW_MAIN);
}

struct change change_next(struct pages *p, uint64_t *random)
{
	struct change c = {.kind = chosen[change_random(random, sizeof(chosen))]};

	if (pages_pieces(p) > MANY_PIECES)
		c.kind = CHANGE_MERGE;
	if (c.kind == CHANGE_FETCH && !p->log)
		c.kind = CHANGE_LOG;
	switch (c.kind) {
	case CHANGE_REBACK:
		choose_window(p, random, &c);
		toggle_view(p, &c, VIEW_SECOND);
		break;
	case CHANGE_SPLIT:
		choose_window(p, random, &c);
		toggle_view(p, &c, VIEW_APART);
		break;
	case CHANGE_MERGE:
		c.count = p->rom;
		pages_set_view(p, 0, p->rom, VIEW_MAIN);
		pages_set_readonly(p, 0, p->rom, false);
		break;
	case CHANGE_READONLY:
		toggle_readonly(p, random, &c);
		break;
	case CHANGE_BESIDE:
		resize_beside(p, random, &c);
		break;
	case CHANGE_LOG:
		p->log = !p->log;
		break;
	default:
		break;
	}
	return c;
}
