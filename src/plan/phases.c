/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which pairs are moves, and the phase of each operation, as plan.h explains it.
 *
 * A move is critical in any case. So it is used where it takes the place of a create that would be critical: since
 * its target overlaps something, or since both its ends are critical anyway. Elsewhere the create, which takes much
 * longer for a large slot, is early, and the delete alone is critical, or none of both; but where there is no id for
 * such a create, there are more moves.
 */
#include "plan/draft.h"

/* ---------------------------------------------------------------------------- judgement --- */

/* Is there anything in @r that could be noticed: memory, a device, a mapping that traps? */
static bool is_assigned(const struct gm_node *view, struct gm_range r)
{
	return gm_tree_first(view, r) != NULL;
}

static bool logs(const struct gm_piece *p)
{
	return p->slot.flags & GM_SLOT_LOG;
}

static void mark_decisive(struct gm_draft *d)
{
	for (size_t c = 0; c < d->come.n; c++) {
		struct gm_piece *p = &d->come.p[c];

		p->decisive = is_assigned(d->old_view, p->slot.gpa);
	}
	for (size_t g = 0; g < d->gone.n; g++) {
		struct gm_piece *p = &d->gone.p[g];

		p->decisive = is_assigned(d->view, p->slot.gpa) || !gm_slot_kept_alive(&p->slot);
	}
}

static bool create_is_critical(const struct gm_draft *d, const struct gm_piece *p)
{
	return d->in->one_instant || p->hit || p->decisive;
}

static bool delete_is_critical(const struct gm_draft *d, const struct gm_piece *p)
{
	return d->in->one_instant || p->hit || p->decisive || logs(p);
}

/* -------------------------------------------------------------------------------- moves --- */

static void part(struct gm_draft *d, struct gm_piece *come)
{
	d->gone.p[come->mate].mate = GM_NO_MATE;
	come->mate = GM_NO_MATE;
}

static bool pays(const struct gm_draft *d, const struct gm_piece *come)
{
	return come->hit ||
	       (create_is_critical(d, come) && delete_is_critical(d, &d->gone.p[come->mate]));
}

/* Does the target of the move to @come overlap the source of another move? Slots that are deleted are gone by
 * then; that one may not be. */
static bool is_blocked(const struct gm_draft *d, const struct gm_piece *come)
{
	for (size_t g = gm_pieces_from(&d->gone, come->slot.gpa.first); g < d->gone.n; g++) {
		const struct gm_piece *gone = &d->gone.p[g];

		if (gone->slot.gpa.first > come->slot.gpa.last)
			break;
		if (gone->mate != GM_NO_MATE && g != come->mate)
			return true;
	}
	return false;
}

static void settle_pairs(struct gm_draft *d)
{
	size_t more = d->more_moves;

	for (size_t c = 0; c < d->come.n; c++) {
		struct gm_piece *come = &d->come.p[c];

		if (come->mate == GM_NO_MATE || pays(d, come))
			continue;
		if (more)
			more--;
		else
			part(d, come);
	}
	for (size_t c = 0; c < d->come.n; c++) {
		struct gm_piece *come = &d->come.p[c];

		if (come->mate != GM_NO_MATE && come->hit && is_blocked(d, come))
			part(d, come);
	}
}

/* ------------------------------------------------------------------------------- phases --- */

static enum gm_phase unless_critical(bool critical, enum gm_phase otherwise)
{
	return critical ? GM_CRITICAL : otherwise;
}

void gm_draft_phase(struct gm_draft *d)
{
	mark_decisive(d);
	settle_pairs(d);
	for (size_t c = 0; c < d->come.n; c++) {
		struct gm_piece *p = &d->come.p[c];

		p->phase = unless_critical(p->mate != GM_NO_MATE || create_is_critical(d, p),
					   GM_EARLY);
	}
	for (size_t g = 0; g < d->gone.n; g++) {
		struct gm_piece *p = &d->gone.p[g];

		p->phase =
			unless_critical(p->mate != GM_NO_MATE || delete_is_critical(d, p), GM_LATE);
	}
	for (size_t k = 0; k < d->nr_kept; k++) {
		struct gm_kept *p = &d->kept[k];
		bool on = p->to.flags & GM_SLOT_LOG;

		p->phase = unless_critical(d->in->one_instant, on ? GM_EARLY : GM_LATE);
	}
}

/* ----------------------------------------------------------------- the decisive operation --- */

/* The critical pieces of @from; one of them goes to *@found. */
static size_t count_critical(struct gm_pieces *from, struct gm_piece **found)
{
	size_t n = 0;

	for (size_t i = 0; i < from->n; i++) {
		if (from->p[i].phase != GM_CRITICAL)
			continue;
		*found = &from->p[i];
		n++;
	}
	return n;
}

/* What overlaps, shares pages, moves (two pieces) or waits for room is never the only one that is critical. So that one is
 * decisive, or goes with its log, or both. */
bool gm_drafts_decide(struct gm_draft *drafts, unsigned n)
{
	struct gm_piece *gone = NULL, *come = NULL, *only;
	size_t critical = 0;

	for (unsigned i = 0; i < n; i++) {
		if (drafts[i].in->one_instant)
			return false;
		critical += count_critical(&drafts[i].gone, &gone);
		critical += count_critical(&drafts[i].come, &come);
	}
	if (critical != 1 || (gone && logs(gone)))
		return false;
	only = gone ? gone : come;
	only->phase = GM_EARLY;
	only->last = true;
	return true;
}
