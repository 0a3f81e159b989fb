/* SPDX-License-Identifier: BSD-3-Clause */
/* Allocation through the caller's functions. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static void *default_alloc(void *opaque, size_t size)
{
	(void)opaque;
	return malloc(size);
}

static void default_free(void *opaque, void *ptr)
{
	(void)opaque;
	free(ptr);
}

const struct gm_alloc gm_alloc_default = {
	.alloc = default_alloc,
	.free = default_free,
};

void *gm_calloc(const struct gm_alloc *a, size_t n, size_t size)
{
	size_t bytes;
	void *ptr;

	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	/* An allocator may answer NULL to 0 bytes; here NULL always means that it failed. */
	if (bytes == 0)
		bytes = 1;
	ptr = a->alloc(a->opaque, bytes);
	if (ptr)
		memset(ptr, 0, bytes);
	return ptr;
}

void *gm_calloc_aligned(const struct gm_alloc *a, size_t size, size_t align, void **raw)
{
	uintptr_t at = (uintptr_t)a->alloc(a->opaque, size + align - 1);
	void *ptr;

	if (!at)
		return NULL;
	*raw = (void *)at;
	ptr = (void *)((at + align - 1) & ~(uintptr_t)(align - 1));
	/* What lies around it is not touched: it may be much, and costs no page then. */
	memset(ptr, 0, size);
	return ptr;
}

void gm_free(const struct gm_alloc *a, void *ptr)
{
	if (ptr)
		a->free(a->opaque, ptr);
}

int gm_array_reserve(const struct gm_alloc *a, void **array, size_t *room, size_t need, size_t size)
{
	size_t grown = *room > SIZE_MAX / 2 ? SIZE_MAX : *room * 2;
	void *old, *bigger;

	if (need <= *room)
		return 0;
	/* Doubling keeps appending cheap; where memory for that is short, take what is needed. */
	if (grown < 8)
		grown = 8;
	if (grown < need)
		grown = need;
	bigger = gm_calloc(a, grown, size);
	if (!bigger && grown > need) {
		grown = need;
		bigger = gm_calloc(a, grown, size);
	}
	if (!bigger)
		return -ENOMEM;
	/* The caller's pointer has another type than void *: only memcpy may reach it. */
	memcpy(&old, array, sizeof(old));
	if (old)
		memcpy(bigger, old, *room * size);
	gm_free(a, old);
	memcpy(array, &bigger, sizeof(bigger));
	*room = grown;
	return 0;
}
