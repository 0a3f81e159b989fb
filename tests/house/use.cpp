/* SPDX-License-Identifier: BSD-3-Clause */
/* The headers in C++17, and a program that links: a map over a simulated VM, read and written. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <gpamap-listener.h>
#include <gpamap-sim.h>
#include <gpamap.h>

static const std::size_t page = 4096;

static int write_and_read(gpamap *map, void *memory)
{
	gpamap_txn *txn = nullptr;
	gpamap_segment segment{};
	char buf[6] = {};

	if (gpamap_begin(map, &txn) < 0)
		return 1;
	if (gpamap_map_pages(txn, 0, 4 * page, page, memory, GPAMAP_RW) < 0 ||
	    gpamap_commit(txn, nullptr, nullptr) < 0) {
		gpamap_abort(txn);
		return 2;
	}
	if (gpamap_write(map, 0, 4 * page + 8, "hello", 6) < 0 ||
	    gpamap_read(map, 0, 4 * page + 8, buf, 6) < 0 || std::strcmp(buf, "hello") != 0)
		return 3;
	if (gpamap_lookup(map, 0, 0, &segment) < 0 || segment.gpa != 4 * page ||
	    segment.hva != memory)
		return 4;
	return 0;
}

int main()
{
	gpamap_sim *sim = nullptr;
	gpamap *map = nullptr;
	void *memory = std::aligned_alloc(page, page);
	int r;

	if (!memory || gpamap_sim_new(nullptr, &sim) < 0 || gpamap_new_sim(sim, nullptr, &map) < 0)
		return 99;
	r = write_and_read(map, memory);
	gpamap_free(map);
	gpamap_sim_free(sim);
	std::free(memory);
	std::printf("C++: %s\n", r ? "failed" : "fine");
	return r;
}
