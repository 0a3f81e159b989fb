/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a change of one page makes the guest fault in again. KVM counts that itself, so that no emulation of the
 * processor, and nothing else on the machine, distorts it. One vCPU writes to pages spread over the guest, the one that
 * changes among them; that one gets other memory, and its own again.
 *
 * Beside the rivals of the blackouts: inhibit with the quirk of GPAMAP_ZAP_SLOT_ONLY disabled; and as the least there
 * can be, other memory moved over the page without any slot operation, which can't change how a page may be accessed,
 * or where it shows.
 */
#define _GNU_SOURCE /* mremap */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "rival.h"
#include "stats.h"

/* A page that changed is one fault; a few more may be of other pages that the commit touched. */
#define SLOT_ONLY_LIMIT 4.0
/* All is dropped, whoever asks; what the guest has in use is the same, but for a page or two. */
#define ZAP_ALL_LIMIT 1.05
/* A vCPU that has not gone over all its memory by then is lost; a busy machine is not that slow. */
#define LOST_US 120e6

enum rival { OURS, OURS_SLOT_ONLY, HAND, INHIBIT, INHIBIT_SLOT_ONLY, REMAP, NR_RIVALS };

static const struct {
	const char *name;
	bool zap_slot_only;
} rivals[NR_RIVALS] = {
	[OURS] = {"gpamap", false},
	[OURS_SLOT_ONLY] = {"gpamap, zap slot only", true},
	[HAND] = {"by hand", false},
	[INHIBIT] = {"inhibit", false},
	[INHIBIT_SLOT_ONLY] = {"inhibit, zap slot only", true},
	[REMAP] = {"remap", false},
};

enum counter { FIXED, TAKEN, NR_COUNTERS };

/* KVM's names: pages that were mapped in a fault, and faults. */
static const char *const counters[NR_COUNTERS] = {"pf_fixed", "pf_taken"};

/* A guest, and the rival that changes it. */
struct subject {
	enum rival rival;
	union {
		struct ours ours;
		struct hand hand;
		struct inhibit inhibit;
	};
	struct guest *guest;
	struct crew *crew;
	uint64_t page;
	const struct tape *tape; /* of HAND: what OURS has done */
	size_t next;
	int stats;
	uint64_t counter_at[NR_COUNTERS];
};

struct counts {
	struct series in_use; /* what the guest has faulted in, once */
	struct series first[NR_COUNTERS];
	struct series after[NR_COUNTERS];
};

struct refault {
	struct bench *b;
	struct layout layout;
	uint64_t pages; /* that the vCPU writes to */
	int changes;
	struct tape tape;
	struct counts counts[NR_RIVALS];
};

/* 0; or -ENOMEM: the host has not enough memory for the slots. */
static int init_rival(struct refault *t, struct subject *s)
{
	struct layout l = t->layout;
	int kvm = t->b->kvm;

	l.zap_slot_only = rivals[s->rival].zap_slot_only;
	switch (s->rival) {
	case OURS:
	case OURS_SLOT_ONLY:
		s->guest = &s->ours.guest;
		s->crew = &s->ours.crew;
		ours_init(&s->ours, kvm, &l, 1);
		return 0;
	case HAND:
		s->guest = &s->hand.guest;
		s->crew = &s->hand.crew;
		s->tape = &t->tape;
		hand_init(&s->hand, kvm, &l, 1);
		hand_replay(&s->hand, s->tape, s->next++, false);
		return 0;
	default:
		s->guest = &s->inhibit.guest;
		s->crew = &s->inhibit.crew;
		return inhibit_init(&s->inhibit, kvm, &l, 1);
	}
}

/* NULL: the host has not enough memory for the slots. */
static struct subject *subject_new(struct refault *t, enum rival rival)
{
	struct sweep sweep = layout_sweep(&t->layout, t->pages);
	struct subject *s = aligned_alloc(_Alignof(struct subject), sizeof(*s));

	if (!s)
		err(1, "subject");
	memset(s, 0, sizeof(*s));
	s->rival = rival;
	if (init_rival(t, s)) {
		free(s);
		return NULL;
	}
	s->page = layout_page(&t->layout, 0);
	guest_sweep(s->guest, sweep.at, sweep.step, sweep.n);
	/* What the host has not, costs a fault of its own. */
	for (uint64_t i = 0; i < sweep.n; i++)
		s->guest->memory[sweep.at + i * sweep.step] = 1;
	s->guest->memory[s->guest->size] = 1;
	guest_reset(s->guest);
	s->stats = ioctl(s->guest->vcpu[0].fd, KVM_GET_STATS_FD, 0);
	if (s->stats < 0)
		err(1, "KVM_GET_STATS_FD");
	for (int i = 0; i < NR_COUNTERS; i++)
		check(stats_find(s->stats, counters[i], &s->counter_at[i]), counters[i]);
	return s;
}

static void subject_free(struct subject *s)
{
	close(s->stats);
	if (s->rival == OURS || s->rival == OURS_SLOT_ONLY)
		ours_destroy(&s->ours);
	else if (s->rival == HAND)
		hand_destroy(&s->hand);
	else
		inhibit_destroy(&s->inhibit);
	free(s);
}

/* The content goes with the memory, as a VMM that re-backs a page would have it. */
static void remap(struct subject *s)
{
	char *other = reserve_memory(PAGE);

	memcpy(other, s->guest->memory + s->page, PAGE);
	if (mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, s->guest->memory + s->page) ==
	    MAP_FAILED)
		err(1, "mremap");
}

static void change(struct subject *s, enum page_as as)
{
	switch (s->rival) {
	case OURS:
	case OURS_SLOT_ONLY:
		ours_change(&s->ours, 0, as);
		break;
	case HAND:
		hand_replay(&s->hand, s->tape, s->next++, true);
		break;
	case REMAP:
		remap(s);
		break;
	default:
		inhibit_change(&s->inhibit, 0, as);
	}
}

static void read_counters(const struct subject *s, uint64_t *value)
{
	for (int i = 0; i < NR_COUNTERS; i++)
		check(stats_read(s->stats, s->counter_at[i], &value[i]), counters[i]);
}

/* Until the vCPU has written to each page. */
static void sweep_all(const struct refault *t, const struct subject *s)
{
	uint64_t end = guest_count(s->guest, 0) + 2 * t->pages;
	double lost = now_us() + LOST_US;

	while (guest_count(s->guest, 0) < end) {
		if (now_us() > lost)
			errx(1, "%s: the vCPU does not get on", rivals[s->rival].name);
		sleep_us(500);
	}
}

static uint64_t first_word(const struct subject *s, uint64_t offset)
{
	return *(const volatile uint64_t *)(s->guest->memory + offset);
}

/* One change, and what the guest has faulted in again after it. */
static void measure(const struct refault *t, struct subject *s, enum page_as as, struct series *to)
{
	uint64_t before[NR_COUNTERS], after[NR_COUNTERS], word;
	uint64_t shows = s->rival == REMAP ? s->page : layout_backing(&t->layout, 0, as);

	read_counters(s, before);
	change(s, as);
	word = first_word(s, shows);
	sweep_all(t, s);
	read_counters(s, after);
	if (first_word(s, shows) == word)
		errx(1, "%s: the page has changed, and the guest does not write to it",
		     rivals[s->rival].name);
	for (int i = 0; i < NR_COUNTERS; i++)
		series_add(&to[i], (double)(after[i] - before[i]));
}

/* False: the host has not enough memory for the slots. */
static bool run_rival(struct refault *t, enum rival rival)
{
	struct subject *s = subject_new(t, rival);
	struct counts *c = &t->counts[rival];
	uint64_t value[NR_COUNTERS];

	if (!s)
		return false;
	crew_start(s->crew, CREW_RUNNING);
	sweep_all(t, s);
	read_counters(s, value);
	series_add(&c->in_use, (double)value[FIXED]);
	for (int i = 0; i <= t->changes; i++)
		measure(t, s, i % 2 ? PAGE_PLAIN : PAGE_ELSEWHERE, i ? c->after : c->first);
	crew_stop(s->crew);
	if (rival == OURS) {
		t->tape = s->ours.tape;
		s->ours.tape = (struct tape){0};
	}
	subject_free(s);
	return true;
}

static void row(struct refault *t, enum rival rival, const char *what, const char *unit,
		struct series *s)
{
	char text[96];

	snprintf(text, sizeof(text), "%s, %s", rivals[rival].name, what);
	result_row(t->b, "refault", text, t->layout.size, unit, s);
}

static void report_rival(struct refault *t, enum rival rival)
{
	struct counts *c = &t->counts[rival];

	row(t, rival, "in use", "pages", &c->in_use);
	row(t, rival, "first change", "pages", &c->first[FIXED]);
	row(t, rival, "change", "pages", &c->after[FIXED]);
	row(t, rival, "change: faults", "faults", &c->after[TAKEN]);
}

/* The most there were: a count has no noise that would excuse one. The series are sorted by now. */
static double most(const struct series *s)
{
	return s->v[s->n - 1];
}

static void ratio(struct refault *t, const char *what, double value, double limit)
{
	char text[96];

	snprintf(text, sizeof(text), "%s, %s", what, size_text(t->layout.size));
	result_ratio(t->b, "refault", text, value, limit);
}

static void report(struct refault *t)
{
	const struct counts *c = t->counts;
	double inhibit, hand;

	for (int i = 0; i < NR_RIVALS; i++) {
		if (c[i].in_use.n)
			report_rival(t, i);
	}
	inhibit = most(&c[INHIBIT].after[FIXED]);
	hand = most(&c[HAND].after[FIXED]);
	ratio(t, "gpamap / inhibit, most pages", most(&c[OURS].after[FIXED]) / inhibit,
	      ZAP_ALL_LIMIT);
	ratio(t, "gpamap / by hand, most pages", most(&c[OURS].after[FIXED]) / hand, ZAP_ALL_LIMIT);
	if (c[OURS_SLOT_ONLY].in_use.n)
		ratio(t, "gpamap, zap slot only / pages changed, most pages",
		      most(&c[OURS_SLOT_ONLY].after[FIXED]), SLOT_ONLY_LIMIT);
}

static void refault_free(struct refault *t)
{
	tape_free(&t->tape);
	for (int i = 0; i < NR_RIVALS; i++) {
		struct counts *c = &t->counts[i];

		series_free(&c->in_use);
		for (int k = 0; k < NR_COUNTERS; k++) {
			series_free(&c->first[k]);
			series_free(&c->after[k]);
		}
	}
}

static void run_size(struct bench *b, uint64_t size, bool slot_only)
{
	struct refault t = {
		.b = b,
		.layout.size = size,
		.pages = b->quick ? 1024 : 4096,
		.changes = b->quick ? 2 : 4,
	};
	char text[96];

	/* inhibit first: it says if there's too little memory. HAND comes after OURS. */
	if (!run_rival(&t, INHIBIT)) {
		snprintf(text, sizeof(text), "too little memory for the slots of %s",
			 size_text(size));
		result_note(b, "refault", text);
		return;
	}
	for (int i = 0; i < NR_RIVALS; i++) {
		if (i != INHIBIT && (slot_only || !rivals[i].zap_slot_only))
			run_rival(&t, i);
	}
	report(&t);
	refault_free(&t);
}

/* What KVM lacks of what is measured here, or NULL. And can it zap a slot only? */
static const char *missing(struct bench *b, bool *slot_only)
{
	const char *what = NULL;
	struct guest guest;
	int stats;

	if (b->kvm < 0)
		return "no KVM here: not measured";
	guest_init(&guest, b->kvm, 2 * MIB, 1);
	*slot_only = !guest_zap_slot_only(&guest);
	stats = ioctl(guest.vcpu[0].fd, KVM_GET_STATS_FD, 0);
	if (stats < 0)
		what = "this KVM has no KVM_GET_STATS_FD: not measured";
	for (int i = 0; !what && i < NR_COUNTERS; i++) {
		uint64_t at;

		if (stats_find(stats, counters[i], &at))
			what = "this KVM does not count pf_fixed and pf_taken: not measured";
	}
	if (stats >= 0)
		close(stats);
	guest_destroy(&guest);
	return what;
}

void bench_refault(struct bench *b)
{
	static const uint64_t sizes[] = {64 * MIB, 2 * GIB, 64 * GIB};
	bool slot_only;
	const char *why = missing(b, &slot_only);

	if (why) {
		result_note(b, "refault", why);
		b->skipped = true;
		return;
	}
	if (!slot_only)
		result_note(b, "refault",
			    "KVM can't zap a slot only here, so that was not measured");
	/* A page is a page: what the host has in one piece, KVM maps in one piece. */
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		err(1, "PR_SET_THP_DISABLE");
	pin_begin();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		run_size(b, sizes[i], slot_only);
	pin_end();
	prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
}
