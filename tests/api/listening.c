/* SPDX-License-Identifier: BSD-3-Clause */
/* Listeners for tests; see listening.h. */
#include "listening.h"

struct ear ears[EARS];
char heard[512];

static void hear(struct ear *e, const char *what)
{
	size_t at = strlen(heard);

	snprintf(heard + at, sizeof(heard) - at, "%s%s%c", at ? " " : "", what, e->id);
	if (e->also)
		e->also(e, what[0]);
}

/* What a guest finds in a piece of a change, as vm_say() tells it of the map. */
static struct seen first_of(const struct gpamap_segment *s)
{
	struct seen seen = {HOLE, false};

	if (s->kind && s->prot != GPAMAP_NONE) {
		memcpy(&seen.word, s->hva, sizeof(seen.word));
		seen.writable = s->prot == GPAMAP_RW;
	}
	return seen;
}

/* Is the map at the place of the change the old, or the new one? */
static void check_view(struct ear *e, const struct seen *want)
{
	struct seen now;

	if (!e->checks)
		return;
	now = vm_say(e->vm, 0, e->gpa);
	assert_int_equal(now.word, want->word);
	assert_int_equal(now.writable, want->writable);
}

static int prepare(void *opaque, const struct gpamap_change *change)
{
	struct ear *e = opaque;
	const struct gpamap_changed *range = gpamap_change_range(change, 0);

	e->checks = range && range->space == 0;
	if (e->checks) {
		e->gpa = range->gpa;
		e->before = first_of(&range->before);
		e->after = first_of(&range->after);
		check_view(e, e->l ? &e->before : &e->after);
	}
	hear(e, "p");
	return e->refuses;
}

static int quiesce(void *opaque, uint64_t deadline_ns)
{
	struct ear *e = opaque;

	(void)deadline_ns;
	e->quiesced++;
	hear(e, "q");
	return !e->nth || e->nth == e->quiesced ? e->fails : 0;
}

static void resume(void *opaque, bool changed)
{
	struct ear *e = opaque;

	check_view(e, changed ? &e->after : &e->before);
	hear(e, changed ? "+" : "-");
}

static void applied(void *opaque, const struct gpamap_change *change)
{
	struct ear *e = opaque;

	(void)change;
	check_view(e, &e->after);
	hear(e, "a");
}

static void cancelled(void *opaque)
{
	struct ear *e = opaque;

	check_view(e, &e->before);
	hear(e, "c");
}

void ear_add(struct vm *vm, struct ear *e, char id, int priority)
{
	char name[] = {'e', 'a', 'r', ' ', id, '\0'};
	struct gpamap_listener_desc desc = {
		.name = name,
		.priority = priority,
		.opaque = e,
		.prepare = prepare,
		.quiesce = quiesce,
		.resume = resume,
		.applied = applied,
		.cancelled = cancelled,
	};

	*e = (struct ear){.vm = vm, .id = id};
	ok(gpamap_listener_add(vm->map, &desc, &e->l));
	assert_non_null(e->l);
}

void ears_open(struct vm *vm)
{
	ear_add(vm, &ears[2], 'c', 7);
	ear_add(vm, &ears[0], 'a', -7);
	ear_add(vm, &ears[1], 'b', 7 - 7);
	heard[0] = '\0';
}

void ears_close(void)
{
	for (unsigned i = 0; i < EARS; i++) {
		gpamap_listener_remove(ears[i].l);
		ears[i].l = NULL;
	}
	expect_heard("");
}

void ears_reset(void)
{
	for (unsigned i = 0; i < EARS; i++) {
		struct ear *e = &ears[i];

		e->refuses = e->fails = 0;
		e->nth = e->quiesced = 0;
		e->also = NULL;
	}
}

/* -------------------------------------------------------------------------------- set-up --- */

static struct gpamap_region *goes; /* what begin_split() removes */

int ears_memory(void **state)
{
	(void)state;
	mems_new(32);
	return 0;
}

int ears_setup(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	vm_open(&vm, NULL, NULL);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 16 * PAGE, mem_a, GPAMAP_RW));
	goes = vm_ram(&vm, mem_b, 1, 0);
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 40 * PAGE, goes, 0));
	vm_commit(&vm, txn);
	ears_open(&vm);
	return 0;
}

int ears_teardown(void **state)
{
	(void)state;
	ears_close();
	gpamap_region_put(goes);
	vm_close(&vm);
	return 0;
}

struct gpamap_txn *begin_split(void)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	ok_txn(txn, gpamap_protect_pages(txn, 0, 8 * PAGE, PAGE, GPAMAP_RO));
	ok_txn(txn, gpamap_map_pages(txn, 0, 30 * PAGE, PAGE, mem_b, GPAMAP_RW));
	ok_txn(txn, gpamap_remove(txn, goes));
	return txn;
}

void check_split(void)
{
	vm_check_pages(&vm, 8, 1, A, 8, false);
	vm_check_pages(&vm, 30, 1, B, 0, true);
	vm_check_hole(&vm, 40, 1);
}
