/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's memory, page by page, as the judge wants it to be at the moment. One memory at two host addresses, so that
 * it can be backed by the one or the other and the guest finds the same:
 *
 *     ram      what the guest knows as its RAM
 *     rom      right behind it: what the guest only reads, see rom.h
 *     gap      nothing
 *     beside   memory that comes and goes, of which the guest does not know
 */
#ifndef JUDGE_PAGES_H
#define JUDGE_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGES_ROM ((size_t)256)
#define PAGES_GAP ((size_t)512)
#define PAGES_BESIDE ((size_t)1024)

/* What a page is: one of these, and PAGE_READONLY or not. */
enum view {
	VIEW_NONE,
	VIEW_MAIN,
	VIEW_SECOND, /* by the other host address */
	VIEW_APART,  /* as VIEW_MAIN, but it may share no slot with what is beside it */
	VIEWS,
};
#define PAGE_READONLY 4u
#define PAGE_VIEW 3u

struct pages {
	uint64_t gpa;		 /* of page 0 */
	uint64_t size;		 /* of a page */
	size_t ram, rom, beside; /* first page behind RAM; behind the ROM; of what is beside */
	size_t count;
	char *main, *second;
	uint8_t *at; /* what each page is */
	bool log;    /* RAM and ROM are logged */
	int tail;    /* the file of all but RAM */
};

/* Pages that are all the same. */
struct piece {
	size_t first, count;
	uint8_t what;
};

/* All of VIEW_MAIN, nothing beside. @fd has the RAM, from 0 on. 0 or -errno. */
int pages_init(struct pages *p, uint64_t gpa, uint64_t ram_size, int fd);
void pages_destroy(struct pages *p);

/* The piece that begins at page *@at, cut at page @end; *@at goes behind it. Pieces of VIEW_NONE are skipped. False: none
 * is left. */
bool pages_next(const struct pages *p, size_t *at, size_t end, struct piece *ret);
/* How many there are in all. */
size_t pages_pieces(const struct pages *p);
/* Make pages this view, as they are otherwise. */
void pages_set_view(struct pages *p, size_t first, size_t count, enum view view);
void pages_set_readonly(struct pages *p, size_t first, size_t count, bool on);

static inline uint64_t pages_gpa(const struct pages *p, size_t page)
{
	return p->gpa + page * p->size;
}

static inline char *pages_hva(const struct pages *p, const struct piece *piece)
{
	return ((piece->what & PAGE_VIEW) == VIEW_SECOND ? p->second : p->main) +
	       piece->first * p->size;
}

#endif
