/* SPDX-License-Identifier: BSD-3-Clause */
/* See dirty.h. */
#include "dirty.h"

#include <string.h>

static uint64_t look(const struct boot *b, size_t page, unsigned word)
{
	size_t words = b->pages.size / 8;
	const uint64_t *p = (const uint64_t *)(b->pages.main + page * b->pages.size);

	return __atomic_load_n(&p[word * (words / DIRTY_WORDS)], __ATOMIC_ACQUIRE);
}

void dirty_begin(struct dirty *d, struct boot *b, uint64_t *random)
{
	memset(b->dirty, 0, (b->pages.count / 64 + 1) * sizeof(*b->dirty));
	for (unsigned i = 0; i < DIRTY_SAMPLES; i++) {
		d->page[i] = change_random(random, b->pages.ram);
		for (unsigned w = 0; w < DIRTY_WORDS; w++)
			d->word[i][w] = look(b, d->page[i], w);
	}
}

int dirty_fetch(struct dirty *d, struct boot *b, uint64_t *random)
{
	bool changed[DIRTY_SAMPLES] = {false};
	int err;

	for (unsigned i = 0; i < DIRTY_SAMPLES; i++) {
		for (unsigned w = 0; w < DIRTY_WORDS; w++)
			changed[i] |= look(b, d->page[i], w) != d->word[i][w];
	}
	err = b->strategy->fetch(b);
	if (err)
		return err;
	for (unsigned i = 0; i < DIRTY_SAMPLES; i++) {
		bool fetched = b->dirty[d->page[i] / 64] >> d->page[i] % 64 & 1;

		d->known += changed[i];
		d->lost += changed[i] && !fetched;
	}
	for (size_t i = 0; i <= b->pages.count / 64; i++)
		d->seen += (uint64_t)__builtin_popcountll(b->dirty[i]);
	dirty_begin(d, b, random);
	return 0;
}
