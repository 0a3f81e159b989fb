/* SPDX-License-Identifier: BSD-3-Clause */
/* See pages.h. */
#define _GNU_SOURCE
#include "pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rom.h"

/* So that a large page of the guest can be one of the host. */
#define ALIGN ((size_t)2 << 20)

/* Both files, one behind the other, at an address of its own. NULL: errno says why. */
static char *map_all(const struct pages *p, int ram_fd)
{
	size_t ram = p->ram * p->size, rest = (p->count - p->ram) * p->size;
	char *at = mmap(NULL, ram + rest + ALIGN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	at += -(uintptr_t)at & (ALIGN - 1);
	if (mmap(at, ram, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, ram_fd, 0) ==
		    MAP_FAILED ||
	    mmap(at + ram, rest, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, p->tail, 0) ==
		    MAP_FAILED)
		return NULL;
	return at;
}

int pages_init(struct pages *p, uint64_t gpa, uint64_t ram_size, int fd)
{
	*p = (struct pages){.gpa = gpa, .size = (uint64_t)sysconf(_SC_PAGESIZE)};
	p->ram = ram_size / p->size;
	p->rom = p->ram + PAGES_ROM;
	p->beside = p->rom + PAGES_GAP;
	p->count = p->beside + PAGES_BESIDE;
	p->at = calloc(p->count, 1);
	p->tail = memfd_create("judge-tail", MFD_CLOEXEC);
	if (!p->at || p->tail < 0 || ftruncate(p->tail, (off_t)((p->count - p->ram) * p->size)) < 0)
		return -ENOMEM;
	p->main = map_all(p, fd);
	p->second = p->main ? map_all(p, fd) : NULL;
	if (!p->second)
		return -errno;
	for (uint64_t i = 0; i < PAGES_ROM * p->size / 8; i++)
		((uint64_t *)(p->main + p->ram * p->size))[i] = rom_word(i);
	pages_set_view(p, 0, p->rom, VIEW_MAIN);
	return 0;
}

void pages_destroy(struct pages *p)
{
	size_t size = p->count * p->size;

	if (p->main)
		munmap(p->main, size);
	if (p->second)
		munmap(p->second, size);
	if (p->tail >= 0)
		close(p->tail);
	free(p->at);
}

bool pages_next(const struct pages *p, size_t *at, size_t end, struct piece *ret)
{
	size_t first = *at, next;

	while (first < end && p->at[first] == VIEW_NONE)
		first++;
	for (next = first; next < end && p->at[next] == p->at[first];)
		next++;
	*at = next;
	if (first == end)
		return false;
	*ret = (struct piece){.first = first, .count = next - first, .what = p->at[first]};
	return true;
}

size_t pages_pieces(const struct pages *p)
{
	struct piece piece;
	size_t n = 0;

	for (size_t at = 0; pages_next(p, &at, p->count, &piece);)
		n++;
	return n;
}

void pages_set_view(struct pages *p, size_t first, size_t count, enum view view)
{
	for (size_t i = first; i < first + count; i++)
		p->at[i] = (uint8_t)((p->at[i] & PAGE_READONLY) | view);
}

void pages_set_readonly(struct pages *p, size_t first, size_t count, bool on)
{
	for (size_t i = first; i < first + count; i++)
		p->at[i] = (uint8_t)((p->at[i] & PAGE_VIEW) | (on ? PAGE_READONLY : 0));
}
