/* SPDX-License-Identifier: BSD-3-Clause */
/* The judge's changes, by the library, on the simulated VM: none fails, each makes the map what it is to be, all kinds come
 * and pieces have to be merged. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <gpamap-sim.h>

#include "strategy.h"

#define RAM ((uint64_t)160 << 20)
#define RAM_GPA ((uint64_t)0x40000000)
#define CHANGES 400u

/* The map has each piece as the pages say, and nothing beside them. */
static void compare(const struct boot *b)
{
	const struct pages *p = &b->pages;
	struct gpamap_segment s;
	uint64_t end = p->gpa;
	struct piece piece;

	for (size_t at = 0; pages_next(p, &at, p->count, &piece);) {
		uint64_t gpa = pages_gpa(p, piece.first), last = gpa + piece.count * p->size;

		for (; gpa < last; gpa = s.gpa + s.size) {
			bool readonly = piece.what & PAGE_READONLY;

			assert_int_equal(gpamap_lookup(b->pc->map, 0, gpa, &s), 0);
			assert_true(s.gpa <= gpa);
			assert_ptr_equal((char *)s.hva + (gpa - s.gpa),
					 pages_hva(p, &piece) + (gpa - pages_gpa(p, piece.first)));
			assert_int_equal(s.prot, readonly ? GPAMAP_RO : GPAMAP_RW);
			assert_int_equal(s.log, p->log && piece.first < p->rom);
		}
		end = last;
	}
	assert_int_equal(gpamap_lookup(b->pc->map, 0, end, &s), -ENOENT);
}

static void boot_with(uint64_t seed, uint64_t changes[CHANGE_KINDS], uint64_t *merges)
{
	uint64_t random = seed;
	struct gpamap_sim *sim;
	struct pc pc = {.vm = -1};
	struct boot b = {.pc = &pc, .slots = 32764};
	int fd = memfd_create("ram", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, RAM), 0);
	assert_int_equal(gpamap_sim_new(NULL, &sim), 0);
	assert_int_equal(gpamap_new_sim(sim, NULL, &pc.map), 0);
	assert_int_equal(pages_init(&b.pages, RAM_GPA, RAM, fd), 0);
	b.dirty = calloc(b.pages.count / 64 + 1, sizeof(*b.dirty));
	assert_int_equal(ours_start(&b), 0);
	/* It can't be of no size, so it is of a page from the first. */
	pages_set_view(&b.pages, b.pages.beside, 1, VIEW_MAIN);
	compare(&b);
	for (unsigned i = 0; i < CHANGES; i++) {
		struct change c = change_next(&b.pages, &random);
		int err = c.kind == CHANGE_FETCH ? ours_fetch(&b) : ours_apply(&b, &c);

		if (err)
			fail_msg("seed %llu, change %u, %s: %s", (unsigned long long)seed, i,
				 change_names[c.kind], b.message);
		compare(&b);
		changes[c.kind]++;
	}
	ours_stop(&b);
	*merges += b.merges;
	gpamap_free(pc.map);
	gpamap_sim_free(sim);
	pages_destroy(&b.pages);
	free(b.dirty);
	close(fd);
}

static void changes_are_made(void **state)
{
	uint64_t changes[CHANGE_KINDS] = {0}, merges = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++)
		boot_with(seed, changes, &merges);
	for (unsigned i = 0; i < CHANGE_KINDS; i++) {
		print_message("%s %llu\n", change_names[i], (unsigned long long)changes[i]);
		assert_true(changes[i] > 20);
	}
	print_message("merges %llu\n", (unsigned long long)merges);
	assert_true(merges > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(changes_are_made)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
