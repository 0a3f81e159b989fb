/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Allocation through the caller's functions. Every allocation of the library goes through here, so a
 * test can let the nth one fail.
 */
#ifndef GM_BASE_ALLOC_H
#define GM_BASE_ALLOC_H

#include <stddef.h>

struct gm_alloc {
	void *(*alloc)(void *opaque, size_t size);
	void (*free)(void *opaque, void *ptr);
	void *opaque;
};

/* malloc() and free(). */
extern const struct gm_alloc gm_alloc_default;

/* Zeroed memory for @n objects of @size bytes; NULL if there is none or the product overflows. */
void *gm_calloc(const struct gm_alloc *a, size_t n, size_t size);
/* The same for one object at a multiple of @align, a power of two; *@raw is what gm_free() takes. */
void *gm_calloc_aligned(const struct gm_alloc *a, size_t size, size_t align, void **raw);
/* NULL is fine. */
void gm_free(const struct gm_alloc *a, void *ptr);
/* Let the array at *@array, with room for *@room objects of @size bytes, have room for @need; keeps the
 * content. -ENOMEM: unchanged. */
int gm_array_reserve(const struct gm_alloc *a, void **array, size_t *room, size_t need,
		     size_t size);

#endif
