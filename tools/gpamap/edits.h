/* SPDX-License-Identifier: BSD-3-Clause */
/* What is done to the map: changes, and the random choice of the next ones. */
#ifndef TORTURE_EDITS_H
#define TORTURE_EDITS_H

#include "arena.h"

enum edit {
	EDIT_SPLIT,
	EDIT_MERGE,
	EDIT_RESIZE,
	EDIT_PROTECT,
	EDIT_MOVE,
	EDIT_REBACK,
	EDIT_DIRTYLOG,
	EDIT_HOTPLUG,
	EDIT_MIXED, /* all of the above, in turns */
	/* Not one of them: its commits have a flag that others don't need, and its guests take exits that
	 * elsewhere are violations. */
	EDIT_INSTANT,
	EDIT_COUNT,
};

enum change_kind {
	CHANGE_GAP,	 /* @index of gap_pages to the state @value */
	CHANGE_READONLY, /* @index of ro_pages: @value */
	CHANGE_SHIFT,	 /* the alias to @value pages behind its first place */
	CHANGE_BACK,	 /* the rebacked part to the other host address: @value */
	CHANGE_TAIL,	 /* main memory ends @value pages behind the arena */
	CHANGE_LOG,	 /* dirty logging: @value */
	CHANGE_HOT,	 /* hot memory @index: @value */
	CHANGE_SHOW,	 /* the generation @value on show */
};

/* One change; a commit may have several. */
struct change {
	enum change_kind kind;
	unsigned window;
	unsigned index;
	unsigned value;
};
#define MAX_CHANGES 16u

struct editor {
	enum edit edit;
	const struct arena *arena;
	uint64_t random;
	unsigned turn;
};

void editor_init(struct editor *e, enum edit edit, const struct arena *a, uint64_t seed);
/* The changes of the next commit, 1 to MAX_CHANGES. They are not noted in the arena. */
unsigned editor_next(struct editor *e, struct change *changes);
/* How many slots the map takes that has most of them, of all that the edit can make. */
unsigned edit_most_slots(enum edit edit, unsigned windows, uint64_t memory);
/* A number below @below. */
unsigned editor_random(struct editor *e, unsigned below);

/* Note a change in the arena's state. */
void change_apply(struct map_state *s, const struct change *c);

#endif
