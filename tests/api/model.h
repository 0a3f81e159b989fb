/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The oracle of the random tests: it knows what was asked for, page by page and region by region, and works out
 * what stands at a page by looking at everything. Shares nothing with the library.
 */
#ifndef GM_TESTS_API_MODEL_H
#define GM_TESTS_API_MODEL_H

#include "common.h"

#define PAGES WORLD_PAGES
#define SPACES 2

/* The first two are the roots. */
enum {
	CONTAINER_1 = 2,
	CONTAINER_2,
	RAM_1,
	RAM_2,
	RAM_3,
	RESIZABLE_1,
	RESIZABLE_2,
	GMEM_1,
	GMEM_2,
	ROM,
	DEVICE,
	ALIAS_1,
	ALIAS_2,
	ALIAS_3,
	ALIAS_4,
	REGIONS
};

#define FILE_PAGES 32 /* of the guest_memfd, at most */

/* In pages. */
struct model_region {
	enum gpamap_kind kind;
	int parent; /* -1: none */
	uint64_t offset;
	uint64_t seq;
	int priority;
	bool enabled;
	bool readonly;
	bool rom;
	uint64_t size;
	uint64_t max_size;
	int target;
	uint64_t target_offset;
	uint8_t *hva;
	bool gmem;
	uint64_t file_offset;
};

/* A page of a plain mapping. */
struct model_plain {
	enum gpamap_prot prot; /* 0: none */
	int region;	       /* -1: the caller's memory, at hva */
	uint64_t offset;
	uint8_t *hva;
};

struct model {
	struct model_region region[REGIONS];
	struct model_plain plain[SPACES][PAGES];
	uint64_t seq;
};

/* What a guest finds at @page of @space. */
struct seen model_page(const struct model *m, unsigned space, uint64_t page);

/* Where the pages of the guest_memfd show. */
struct model_file {
	bool twice;    /* one of them: there can't be such a map, -EBUSY */
	bool readonly; /* one of them can't be written to: -EPERM */
	unsigned shown;
	struct {
		int region; /* -1: it doesn't show */
		unsigned space;
		uint64_t at;
	} page[FILE_PAGES];
};

void model_file(const struct model *m, struct model_file *ret);
/* Count a change, if it brought a page to another place, or from one region to another. */
void model_file_moved(const struct model_file *was, const struct model_file *is, unsigned *moved,
		      unsigned *handed_over);

#endif
