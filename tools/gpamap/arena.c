/* SPDX-License-Identifier: BSD-3-Clause */
/* See arena.h. */
#define _GNU_SOURCE
#include "arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest_image.h"
#include "look.h"

/* What each page of a window is for:
 *   w  the guest writes it                  r  the guest reads it, protect works on it
 *   b  as w, reback works on it             B  the guest reads it: another memory when rebacked
 *   m  as w, the alias moves over it        M  the guest reads it: one of them is the alias's sign
 *   .  edits may put anything there */
static const char window_pattern[WINDOW_PAGES + 1] = "wwwwwrwww..wwbbbBrrwwwmmMMMmmm..";
const uint8_t ro_pages[RO_PAGES] = {5, 17, 18};
const uint8_t gap_pages[GAP_PAGES] = {9, 10, 30, 31};

enum page_kind arena_page_kind(unsigned page)
{
	switch (window_pattern[page]) {
	case '.':
		return PAGE_GAP;
	case 'r':
		return PAGE_RO;
	case 'B':
	case 'M':
		return PAGE_SIGN;
	default:
		return PAGE_RW;
	}
}

unsigned arena_page_id(unsigned page)
{
	return page >= MOVE_FIRST && page < MOVE_FIRST + MOVE_PAGES ? MOVE_FIRST : page;
}

static uint64_t align_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) & ~(to - 1);
}

static uint64_t arena_size(unsigned windows)
{
	return align_up(windows * WINDOW_PAGES * PAGE, ARENA_ALIGN);
}

unsigned arena_windows(enum hazard hazard, unsigned vcpus)
{
	/* The locked hazard is about one window that all vCPUs share. */
	if (hazard == HAZARD_LOCKED)
		return 1;
	return hazard == HAZARD_ITS && vcpus < ITS_WINDOWS ? ITS_WINDOWS : vcpus;
}

uint64_t arena_min_memory(unsigned vcpus)
{
	return 2 * arena_size(vcpus);
}

struct guest_ctl *arena_ctl(const struct arena *a, unsigned vcpu)
{
	return (struct guest_ctl *)(a->stable + STABLE_VCPUS + vcpu * STABLE_VCPU_SIZE + VCPU_CTL);
}

struct its_ctl *arena_its(const struct arena *a)
{
	return (struct its_ctl *)(a->stable + STABLE_ITS);
}

static uint64_t window_offset(unsigned window, unsigned page)
{
	return (window * WINDOW_PAGES + page) * PAGE;
}

uint64_t *arena_page(const struct arena *a, unsigned window, unsigned page)
{
	return (uint64_t *)(a->ram + a->offset + window_offset(window, page));
}

uint64_t arena_window_gpa(const struct arena *a, unsigned window)
{
	return RAM_GPA + a->offset + window_offset(window, 0);
}

uint64_t arena_show_gpa(unsigned page, uint32_t generation)
{
	return SHOW_GPA + page * SHOW_DISTANCE + generation % SHOW_PLACES * PAGE;
}

char *arena_show_hva(const struct arena *a, unsigned page, uint32_t generation)
{
	unsigned place = show_numbered(page) ? generation % SHOW_PLACES : 0;

	return a->show + (page * SHOW_PLACES + place) * PAGE;
}

void arena_number(const struct arena *a, uint32_t generation)
{
	for (unsigned i = 0; i < SHOW_PAGES; i++) {
		uint64_t value = show_numbered(i) ? SHOW_NUMBER + generation : SHOW_MOVED;

		__atomic_store_n((uint64_t *)arena_show_hva(a, i, generation), value,
				 __ATOMIC_RELEASE);
	}
}

static int map_anon(uint64_t size, char **ret)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	return 0;
}

/* Map the arena's memfd at @at, all moving pages of a window but its sign from the first one of them. */
static int map_arena(const struct arena *a, char *at)
{
	const int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_FIXED;

	if (mmap(at, a->size, prot, flags, a->memfd, 0) == MAP_FAILED)
		return -errno;
	for (unsigned w = 0; w < a->windows; w++) {
		uint64_t first = window_offset(w, MOVE_FIRST);

		for (unsigned i = 1; i < MOVE_PAGES; i++) {
			if (i != MOVE_SIGN - MOVE_FIRST &&
			    mmap(at + first + i * PAGE, PAGE, prot, flags, a->memfd,
				 (off_t)first) == MAP_FAILED)
				return -errno;
		}
	}
	return 0;
}

/* Other memory for the sign of the rebacked part. */
static int map_signs(const struct arena *a)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

	for (unsigned w = 0; w < a->windows; w++) {
		if (mmap(a->alt + window_offset(w, BACK_SIGN), PAGE, PROT_READ | PROT_WRITE, flags,
			 -1, 0) == MAP_FAILED)
			return -errno;
	}
	return 0;
}

static int map_memory(struct arena *a, unsigned vcpus)
{
	int ret;

	a->stable_size = align_up(STABLE_VCPUS + vcpus * STABLE_VCPU_SIZE, ARENA_ALIGN);
	a->memfd = memfd_create("arena", MFD_CLOEXEC);
	if (a->memfd < 0 || ftruncate(a->memfd, (off_t)a->size))
		return -errno;
	if ((ret = map_anon(a->memory + TAIL_PAGES * PAGE, &a->ram)) ||
	    (ret = map_anon(a->size, &a->alt)) || (ret = map_anon(a->size, &a->spare)) ||
	    (ret = map_anon(HOT_COUNT * HOT_SIZE, &a->hot)) ||
	    (ret = map_anon(a->stable_size, &a->stable)) ||
	    (ret = map_anon(SHOW_PAGES * SHOW_PLACES * PAGE, &a->show)) ||
	    (ret = map_arena(a, a->ram + a->offset)) || (ret = map_arena(a, a->alt)))
		return ret;
	return map_signs(a);
}

/* Guest code for the fetch hazard: once within the page, and once across its end. In a page beside
 * others with the same content the second part is found at the begin. */
static void fill_code(uint64_t *page)
{
	uint8_t *p = (uint8_t *)page;

	memcpy(p + CODE_WORD * 8, guest_blob, guest_blob_size);
	memcpy(p + PAGE - GUEST_BLOB_BEFORE, guest_blob, GUEST_BLOB_BEFORE);
	memcpy(p, guest_blob + GUEST_BLOB_BEFORE, guest_blob_size - GUEST_BLOB_BEFORE);
	__builtin___clear_cache((char *)p, (char *)p + PAGE);
}

/* Page tables: the targets again and again. */
static void fill_tables(uint64_t *page)
{
	for (unsigned i = 0; i < WORDS; i++)
		page[i] = guest_target_entry(STABLE_GPA + STABLE_TARGETS + i % TARGET_PAGES * PAGE);
}

/* @value is its CONST_WORD. */
static void fill_page(const struct arena *a, unsigned window, uint64_t *p, enum hazard hazard,
		      uint64_t value)
{
	if (hazard == HAZARD_FETCH)
		fill_code(p);
	else if (hazard == HAZARD_PAGETABLE)
		fill_tables(p);
	else if (hazard != HAZARD_LOCKED && hazard != HAZARD_ITS)
		for (unsigned i = 0; i < WORDS; i++)
			p[i] = arena_ctl(a, window)->tag;
	p[CONST_WORD] = value;
}

static void fill_window(const struct arena *a, unsigned window, enum hazard hazard)
{
	char *alt = a->alt + window_offset(window, BACK_SIGN);

	for (unsigned i = 0; i < WINDOW_PAGES; i++)
		fill_page(a, window, arena_page(a, window, i), hazard,
			  i == MOVE_SIGN ? OTHER_VALUE : CONST_VALUE);
	fill_page(a, window, (uint64_t *)alt, hazard, OTHER_VALUE);
	for (unsigned i = 0; i < GAP_PAGES; i++) {
		char *spare = a->spare + window_offset(window, gap_pages[i]);

		fill_page(a, window, (uint64_t *)spare, hazard, OTHER_VALUE);
	}
}

/* pre: memory is mapped. The part of a control block that does not depend on the port. */
static void fill_ctl(struct arena *a, unsigned vcpu, unsigned vcpus, enum hazard hazard)
{
	struct guest_ctl *c = arena_ctl(a, vcpu);

	c->shows = a->state.generation != 0;
	c->own_word = OWN_WORD + vcpu;
	c->told = (struct told){.page = ASK_NONE, .generation = a->state.generation};
	c->peer = ((vcpu + 1) % vcpus - (uint64_t)vcpu) * STABLE_VCPU_SIZE;
	c->hazard = hazard;
	c->tag = UINT64_C(0x5a00000000000000) + ((uint64_t)vcpu << 48);
	c->kind[WINDOW_PAGES] = PAGE_GAP;
	for (unsigned i = 0; i < WINDOW_PAGES; i++) {
		c->kind[i] = (uint8_t)arena_page_kind(i);
		c->id[i] = (uint8_t)arena_page_id(i);
		if (hazard == HAZARD_LOCKED)
			continue;
		c->count[i] = c->tag;
		c->head[i] = c->tag;
		c->tail[i] = c->tag;
	}
}

int arena_init(struct arena *a, unsigned windows, unsigned vcpus, uint64_t memory,
	       enum hazard hazard, bool shows)
{
	int ret;

	memset(a, 0, sizeof(*a));
	a->memfd = -1;
	a->windows = windows;
	a->memory = memory;
	a->size = arena_size(windows);
	a->offset = memory - a->size;
	a->hot_gpa = align_up(RAM_GPA + memory + TAIL_PAGES * PAGE, UINT64_C(1) << 30);
	a->state.win = calloc(windows, sizeof(*a->state.win));
	if (!a->state.win)
		return -ENOMEM;
	ret = map_memory(a, vcpus);
	if (ret) {
		arena_destroy(a);
		return ret;
	}
	a->state.generation = shows;
	arena_number(a, a->state.generation);
	for (unsigned i = 0; i < vcpus; i++)
		fill_ctl(a, i, vcpus, hazard);
	for (unsigned i = 0; i < TARGET_PAGES; i++)
		*(uint64_t *)(a->stable + STABLE_TARGETS + i * PAGE) = TARGET_VALUE + i;
	for (unsigned w = 0; w < windows; w++)
		fill_window(a, w, hazard);
	return 0;
}

static void unmap(char *p, uint64_t size)
{
	if (p)
		munmap(p, size);
}

void arena_destroy(struct arena *a)
{
	unmap(a->ram, a->memory + TAIL_PAGES * PAGE);
	unmap(a->alt, a->size);
	unmap(a->spare, a->size);
	unmap(a->hot, HOT_COUNT * HOT_SIZE);
	unmap(a->stable, a->stable_size);
	unmap(a->show, SHOW_PAGES * SHOW_PLACES * PAGE);
	if (a->memfd >= 0)
		close(a->memfd);
	free(a->state.win);
	memset(a, 0, sizeof(*a));
	a->memfd = -1;
}

size_t arena_max_segs(const struct arena *a)
{
	return a->size / PAGE + HOT_COUNT + SHOW_PAGES + 3;
}

static unsigned index_of(const uint8_t *pages, unsigned count, unsigned page)
{
	unsigned i = 0;

	while (i < count - 1 && pages[i] != page)
		i++;
	return i;
}

/* Change @s, plain memory of the page, to what stands there. False: nothing does. */
static bool paint_page(const struct arena *a, unsigned window, unsigned page, struct seg *s)
{
	const struct window_state *st = &a->state.win[window];

	switch (window_pattern[page]) {
	case 'r':
		s->readonly = st->readonly[index_of(ro_pages, RO_PAGES, page)];
		return true;
	case 'b':
	case 'B':
		if (st->alt)
			s->hva = a->alt + window_offset(window, page);
		return true;
	case 'm':
	case 'M':
		if (page >= MOVE_FIRST + st->shift && page < MOVE_FIRST + st->shift + ALIAS_PAGES)
			s->hva -= st->shift * PAGE;
		return true;
	case '.':
		switch (st->gap[index_of(gap_pages, GAP_PAGES, page)]) {
		case GAP_HOLE:
			return false;
		case GAP_READONLY:
			s->readonly = true;
			return true;
		case GAP_OTHER:
			s->hva = a->spare + window_offset(window, page);
			return true;
		}
	}
	return true;
}

bool arena_at(const struct arena *a, unsigned window, unsigned page, struct seg *ret)
{
	uint64_t at = a->offset + window_offset(window, page);

	*ret = (struct seg){RAM_GPA + at, PAGE, a->ram + at, false, a->state.log};
	return paint_page(a, window, page, ret);
}

static size_t append(struct seg *segs, size_t n, const struct seg *s)
{
	struct seg *last = n ? &segs[n - 1] : NULL;

	if (!s->size)
		return n;
	if (last && last->gpa + last->size == s->gpa && last->hva + last->size == s->hva &&
	    last->readonly == s->readonly && last->log == s->log) {
		last->size += s->size;
		return n;
	}
	segs[n] = *s;
	return n + 1;
}

size_t arena_flat(const struct arena *a, struct seg *segs)
{
	uint64_t used = (uint64_t)a->windows * WINDOW_PAGES * PAGE, rest = a->offset + used;
	uint32_t generation = a->state.generation;
	struct seg s;
	size_t n = 0;

	for (unsigned i = 0; generation && i < SHOW_PAGES; i++) {
		s = (struct seg){.gpa = arena_show_gpa(i, generation),
				 .size = PAGE,
				 .hva = arena_show_hva(a, i, generation)};
		n = append(segs, n, &s);
	}
	s = (struct seg){.gpa = RAM_GPA, .size = a->offset, .hva = a->ram, .log = a->state.log};
	n = append(segs, n, &s);
	for (unsigned i = 0; i < a->windows * WINDOW_PAGES; i++) {
		if (arena_at(a, i / WINDOW_PAGES, i % WINDOW_PAGES, &s))
			n = append(segs, n, &s);
	}
	s = (struct seg){.gpa = RAM_GPA + rest,
			 .size = a->memory - rest + a->state.tail * PAGE,
			 .hva = a->ram + rest,
			 .log = a->state.log};
	n = append(segs, n, &s);
	for (unsigned i = 0; i < HOT_COUNT; i++) {
		s = (struct seg){.gpa = a->hot_gpa + 2 * i * HOT_SIZE,
				 .size = a->state.hot[i] ? HOT_SIZE : 0,
				 .hva = a->hot + i * HOT_SIZE};
		n = append(segs, n, &s);
	}
	return n;
}
