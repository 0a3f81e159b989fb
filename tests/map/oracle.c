/* SPDX-License-Identifier: BSD-3-Clause */
/* Comparisons of the map with the model, and of the map with its own invariants. */
#include "oracle.h"

struct env env;
struct model now;
struct gpamap_region *ptr[MODEL_REGIONS];
uint64_t rng;

uint64_t rnd(uint64_t n)
{
	uint64_t x;

	rng += UINT64_C(0x9e3779b97f4a7c15);
	x = rng;
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	return x % n;
}

bool chance(unsigned one_in)
{
	return rnd(one_in) == 0;
}

static void compare_byte(const struct gm_node *view, unsigned space, uint64_t gpa)
{
	struct mbyte want = model_at(&now, space, gpa);
	const struct gm_node *n = gm_tree_first(view, (struct gm_range){gpa, gpa});
	struct gm_seg s;

	if (!n && !want.kind)
		return;
	if (!n || !want.kind)
		fail_msg("space %u, 0x%llx: kind %u instead of %d", space, (unsigned long long)gpa,
			 n ? gm_seg_of(n)->kind : 0, want.kind);
	s = gm_seg_advance(gm_seg_of(n), n->range.first, gpa);
	assert_false(want.refused);
	assert_int_equal(s.kind, want.kind);
	if (want.region < 0) {
		assert_true(s.region->internal);
	} else {
		assert_ptr_equal(s.region, ptr[want.region]);
		assert_int_equal(s.offset, want.offset);
	}
	assert_int_equal(s.hva, want.hva);
	assert_int_equal(s.flags & GM_SEG_READONLY, want.readonly ? GM_SEG_READONLY : 0);
	assert_int_equal(s.flags & GM_SEG_LOG, want.log ? GM_SEG_LOG : 0);
	assert_int_equal(s.flags & GM_SEG_GUEST_MEMFD, want.guest_memfd ? GM_SEG_GUEST_MEMFD : 0);
	assert_int_equal(s.gmem_offset, want.gmem_offset);
	assert_int_equal(s.group, want.group < 0 ? 0 : ptr[want.group]->serial);
}

/* Of each page the first byte, the last, and one at the edge of a granule. */
void compare_view(const struct gm_node *view, unsigned space)
{
	uint64_t nr = MODEL_PAGES + (space == 0 ? 16 : 0);

	for (uint64_t i = 0; i < nr; i++) {
		uint64_t page = model_base(space) + pages(i);

		compare_byte(view, space, page);
		compare_byte(view, space, page + PAGE - 1);
		compare_byte(view, space,
			     page + rnd(PAGE / GRANULE) * GRANULE - chance(2) * (i > 0));
	}
}

void check_segments(const struct gm_node *view)
{
	const struct gm_node *last = NULL;

	gm_tree_for_each (n, view, ((struct gm_range){0, UINT64_MAX})) {
		assert_int_equal(n->tag, 0);
		if (last) {
			assert_true(last->range.last < n->range.first);
			if (last->range.last + 1 == n->range.first)
				assert_false(gm_seg_continues(gm_seg_of(last), last->range.first,
							      gm_seg_of(n), n->range.first));
		}
		last = n;
	}
}

void check_places(void)
{
	size_t entries = 0, places = 0;

	for (int i = 0; i < MODEL_REGIONS; i++) {
		if (!now.r[i].used)
			continue;
		places += ptr[i]->now.parent != NULL;
		assert_int_equal(ptr[i]->now.parent != NULL, now.r[i].parent >= 0);
		gm_tree_for_each (n, ptr[i]->children.root, ((struct gm_range){0, UINT64_MAX})) {
			struct gpamap_region *child = ((struct gm_child *)n->data)->region;

			entries++;
			assert_ptr_equal(child->now.parent, ptr[i]);
			assert_int_equal(child->now.offset, n->range.first);
			assert_int_equal(child->now.seq, n->tag);
			assert_int_equal(child->now.size, gm_range_size(n->range));
		}
	}
	assert_int_equal(entries, places);
}

void check_pieces(void)
{
	size_t pieces = 0, listed = 0;

	for (unsigned s = 0; s < SPACES; s++) {
		const struct gm_node *last = NULL;

		gm_tree_for_each (n, env.map.spaces[s].ranges.root,
				  ((struct gm_range){0, UINT64_MAX})) {
			struct gpamap_region *r = gm_seg_of(n)->region;
			const struct gm_node *own = gm_tree_find(r->shown.root, n->range.first, s);

			assert_true(!last || last->range.last < n->range.first);
			last = n;
			assert_int_equal(r->pending, 0);
			if (r->internal)
				continue;
			pieces++;
			assert_non_null(own);
			assert_int_equal(own->range.last, n->range.last);
		}
	}
	for (int i = 0; i < MODEL_REGIONS; i++)
		listed += now.r[i].used ? ptr[i]->shown.count : 0;
	assert_int_equal(pieces, listed);
}

void check_all(void)
{
	for (unsigned s = 0; s < SPACES; s++) {
		struct gm_tree all;

		if (!flatten_all(&env, s, &all)) {
			compare_view(all.root, s);
			check_segments(all.root);
		}
		gm_tree_destroy(&all);
	}
	check_places();
	check_pieces();
}
