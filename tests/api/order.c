/* SPDX-License-Identifier: BSD-3-Clause */
/* Commits with faults, and the check against the legal order; see order.h. */
#define _GNU_SOURCE
#include "order.h"

#include <sys/mman.h>

#define POISON UINT64_C(0xdeadbeefdeadbeef)
#define STRETCH_US 150
#define SOON_MS 10 /* a deadline that is to pass */

/* ---------------------------------------------------------------------------------- backings --- */

static uint8_t *pool;

int order_memory(void **state)
{
	(void)state;
	pool = mmap(NULL, MOST_AREAS * AREA_BACKINGS * PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return pool == MAP_FAILED;
}

uint8_t *backing_at(int backing)
{
	return pool + (uint64_t)backing * PAGE;
}

int backing_of(unsigned area, unsigned i)
{
	return (int)(area * AREA_BACKINGS + i);
}

static uint64_t tag_of(int backing)
{
	return mem_tag(1, (uint64_t)backing);
}

static _Atomic(uint64_t) *word_at(int backing, size_t offset)
{
	return (_Atomic(uint64_t) *)(void *)(backing_at(backing) + offset);
}

static void reset_backings(void)
{
	for (int b = 0; b < MOST_AREAS * AREA_BACKINGS; b++) {
		memset(backing_at(b), 0, own_word(MOST_PLACES, 0));
		atomic_store(word_at(b, 0), tag_of(b));
	}
}

static void poison(int backing)
{
	atomic_store(word_at(backing, 0), POISON);
}

/* Memory that one of the maps shows, and the other does not, may be freed by the caller now. */
static void poison_what_went(struct order *o, int from)
{
	for (unsigned i = 0; i < o->nr_places; i++) {
		uint64_t load = o->place[i].side[from].load;
		bool stays = load == HOLE;

		for (unsigned j = 0; j < o->nr_places; j++)
			stays |= o->place[j].side[!from].load == load;
		if (!stays && !o->kept[(uint32_t)load])
			poison((int)(uint32_t)load);
	}
}

/* ------------------------------------------------------------------------------ the commit --- */

struct holder {
	struct order *o;
	pthread_t thread;
	atomic_bool inside;
	atomic_bool go;
};

static void *hold_gate(void *opaque)
{
	struct holder *h = opaque;
	int err = gpamap_enter(h->o->vm.map);

	atomic_store(&h->inside, true);
	while (!atomic_load(&h->go))
		watcher_rest();
	if (!err)
		gpamap_leave(h->o->vm.map);
	return NULL;
}

static int veto(void *opaque, const struct gpamap_change *change)
{
	const struct order_fault *f = opaque;

	(void)change;
	return f->kind == VETO ? -EACCES : 0;
}

static int no_quiesce(void *opaque, uint64_t deadline_ns)
{
	const struct order_fault *f = opaque;

	(void)deadline_ns;
	return f->kind == NO_QUIESCE ? -EIO : 0;
}

static void stretch(struct order *o, unsigned usec)
{
	gpamap_sim_stretch(o->vm.sim, GPAMAP_SIM_WHILE_INVALID, usec);
	gpamap_sim_stretch(o->vm.sim, GPAMAP_SIM_AFTER_DELETE, usec);
	gpamap_sim_stretch(o->vm.sim, GPAMAP_SIM_BEFORE_CREATE, usec);
	gpamap_sim_stretch(o->vm.sim, GPAMAP_SIM_BEFORE_FLAGS, usec);
}

static void commit_once(struct order *o, struct gpamap_txn *txn, const struct order_fault *f,
			unsigned flags)
{
	struct gpamap_commit_options opt = {.flags = flags};
	uint64_t before = gpamap_sim_calls(o->vm.sim, f->call);
	struct holder h = {.o = o};

	if (f->kind == HELD || f->kind == LEAVES_SLOWLY)
		opt.timeout_ms = SOON_MS;
	if (f->kind == HELD) {
		ok(pthread_create(&h.thread, NULL, hold_gate, &h));
		while (!atomic_load(&h.inside))
			watcher_rest();
	}
	if (f->kind == LEAVES_SLOWLY)
		gpamap_sim_stretch(o->vm.sim, GPAMAP_SIM_LEAVING_RUN, 4 * SOON_MS * 1000);
	stretch(o, STRETCH_US);
	if (f->kind == CALL)
		gpamap_sim_fail(o->vm.sim, f->call, f->nth, ENOMEM, f->forever);
	atomic_store(&o->phase, DURING);
	o->err = gpamap_commit(txn, &opt, &o->report);
	o->broken = vm_stats(&o->vm).broken;
	if (f->kind == CALL) {
		o->hit = gpamap_sim_calls(o->vm.sim, f->call) >= before + f->nth;
		gpamap_sim_fail(o->vm.sim, f->call, 0, 0, false);
	}
	stretch(o, 0);
	gpamap_sim_stretch(o->vm.sim, GPAMAP_SIM_LEAVING_RUN, 0);
	atomic_store(&h.go, true);
	if (f->kind == HELD)
		ok(pthread_join(h.thread, NULL));
}

void order_commit(struct order *o, struct gpamap_txn *txn, const struct order_fault *f,
		  unsigned flags)
{
	struct order_fault fault = *f;
	const struct gpamap_listener_desc desc = {
		.name = "refuses", .opaque = &fault, .prepare = veto, .quiesce = no_quiesce};
	struct gpamap_listener *listener = NULL;

	fault.kind = NO_FAULT;
	if (f->kind == VETO || f->kind == NO_QUIESCE)
		ok(gpamap_listener_add(o->vm.map, &desc, &listener));
	fault.kind = f->kind;
	o->one_instant = flags & GPAMAP_COMMIT_ONE_INSTANT;
	commit_once(o, txn, f, flags);
	gpamap_listener_remove(listener);
	assert_int_equal(o->broken, o->err == -ENOTRECOVERABLE);
	if (o->err)
		gpamap_abort(txn);
	if (o->broken) {
		txn = vm_begin(&o->vm);
		ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	}
	o->pending = vm_stats(&o->vm).pending;
	if (!o->err)
		assert_int_equal(o->pending, o->report.pending);
	atomic_store(&o->phase, RETURNED);
	poison_what_went(o, o->err ? NEW : OLD);
	if (o->pending) {
		watchers_wait(o);
		ok(gpamap_clear_pending(o->vm.map));
	}
	atomic_store(&o->phase, CLEARED);
}

/* --------------------------------------------------------------------------------- the check --- */

static uint64_t in_backing(int backing, unsigned place, unsigned watcher)
{
	return backing == NOBODY ? 0 : atomic_load(word_at(backing, own_word(place, watcher)));
}

#define must(what)                                                                            \
	do {                                                                                  \
		if (!(what)) {                                                                \
			print_error("place %u (%#llx), watcher %u, commit gave %d: not %s\n", \
				    place, (unsigned long long)p->gpa, w->id, o->err, #what); \
			fail();                                                               \
		}                                                                             \
	} while (0)

/* Stores that were accepted: those up to some one in the old backing, the others in the new. */
static void check_stores(const struct order *o, const struct watcher *w, unsigned place)
{
	const struct place *p = &o->place[place];
	const struct met *m = &w->met[place];
	int old = p->side[OLD].store, new = p->side[NEW].store;
	uint64_t in_old = in_backing(old, place, w->id), in_new = in_backing(new, place, w->id);

	if (o->err) {
		must(old == NOBODY || in_old == m->stored);
		if (new != old && (o->one_instant || p->side[OLD].assigned))
			must(in_new == 0);
	} else if (old == new || new == NOBODY) {
		must(in_old == m->stored);
	} else if (old == NOBODY) {
		must(in_new == m->stored);
	} else {
		must(in_old >= m->stored_before && in_old <= m->stored_by_return);
		must(in_new == (in_old == m->stored ? 0 : m->stored));
	}
}

static void check_failed(const struct order *o, const struct watcher *w, unsigned place)
{
	const struct place *p = &o->place[place];
	const struct met *m = &w->met[place];

	must(m->neither == 0);
	if (p->side[OLD].assigned || o->one_instant)
		must(m->n[NEW] == 0 && !m->moved);
	must(m->since[o->pending != 0][NEW] == 0);
	must(!p->side[OLD].loads || m->load_exits == 0);
	must(!p->side[OLD].stores || m->store_exits == 0);
}

static void check_happened(const struct order *o, const struct watcher *w, unsigned place)
{
	const struct place *p = &o->place[place];
	const struct side *s = p->side;
	const struct met *m = &w->met[place];

	must(m->neither == 0);
	must(m->new_before == 0);
	must(m->since[o->pending && !s[NEW].assigned][OLD] == 0);
	must(m->back == 0);
	/* What comes early or goes late does so for each at another instant. */
	if (o->report.gate_shut && (o->one_instant || (s[OLD].assigned && s[NEW].assigned)))
		must(m->back_of_others == 0);
	must(!(s[OLD].loads && s[NEW].loads) || m->load_exits == 0);
	must(!(s[OLD].stores && s[NEW].stores) || m->store_exits == 0);
}

static void check(struct order *o)
{
	for (unsigned i = 0; i < WATCHERS; i++) {
		const struct watcher *w = &o->watcher[i];

		assert_int_equal(w->failed, 0);
		for (unsigned place = 0; place < o->nr_places; place++) {
			if (o->err)
				check_failed(o, w, place);
			else
				check_happened(o, w, place);
			check_stores(o, w, place);
		}
	}
	assert_int_equal(o->out_of_turn, 0);
	assert_int_equal(gpamap_sim_traces(o->vm.sim, true), 0);
	assert_int_equal(vm_stats(&o->vm).pending, 0);
}

/* --------------------------------------------------------------------------------- a round --- */

void order_open(struct order *o, uint32_t which, unsigned gpa_bits)
{
	const struct gpamap_sim_options sim = {.gpa_bits = gpa_bits};
	struct gpamap_txn *txn;

	memset(o, 0, sizeof(*o));
	reset_backings();
	vm_open(&o->vm, &sim, NULL);
	txn = vm_begin(&o->vm);
	for (unsigned i = 0; i < AREAS; i++) {
		if (which & 1u << i)
			areas[i].build(o, txn, i);
	}
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	watchers_begin(o);
	watchers_wait(o);
}

void order_close(struct order *o)
{
	watchers_wait(o);
	watchers_end(o);
	check(o);
	vm_check_settled(&o->vm);
	for (unsigned i = 0; i < MOST_REGIONS; i++) {
		gpamap_region_put(o->other[i]);
		gpamap_region_put(o->region[i]);
	}
	vm_close(&o->vm);
}

void order_run(struct order *o, uint32_t which, const struct order_fault *f, unsigned flags)
{
	struct gpamap_txn *txn;

	order_open(o, which, 0);
	txn = vm_begin(&o->vm);
	for (unsigned i = 0; i < AREAS; i++) {
		if (which & 1u << i)
			areas[i].change(o, txn, i);
	}
	order_commit(o, txn, f, flags);
	order_close(o);
}

/* ------------------------------------------------------------------------------ for areas --- */

uint64_t area_gpa(unsigned area, unsigned page)
{
	return ((uint64_t)area * AREA_PAGES + page) * PAGE;
}

struct side nothing(void)
{
	return (struct side){.load = HOLE, .store = NOBODY};
}

struct side traps(void)
{
	return (struct side){.load = HOLE, .store = NOBODY, .assigned = true};
}

struct side memory(int backing)
{
	return (struct side){tag_of(backing), backing, true, true, true};
}

struct side read_only(int backing)
{
	return (struct side){tag_of(backing), NOBODY, true, false, true};
}

struct side device(int backing)
{
	return (struct side){tag_of(backing), backing, false, false, true};
}

struct side rom(int memory, int device)
{
	return (struct side){tag_of(memory), device, true, false, true};
}

void place_add(struct order *o, unsigned area, unsigned page, struct side old, struct side new)
{
	struct place *p = &o->place[o->nr_places++];

	assert_true(o->nr_places <= MOST_PLACES);
	p->gpa = area_gpa(area, page);
	p->side[OLD] = old;
	p->side[NEW] = new;
	p->has_own = true;
	for (int i = 0; i < 2; i++) {
		const struct side *s = &p->side[i];

		if (s->store != NOBODY && tag_of(s->store) != s->load)
			p->has_own = false;
	}
}

/* The backings of a region, as its opaque. */
static void *opaque_of(int first, unsigned n)
{
	return (void *)(uintptr_t)((unsigned)first << 8 | n);
}

static void give_back(void *opaque)
{
	unsigned v = (unsigned)(uintptr_t)opaque;

	for (unsigned i = 0; i < (v & 0xff); i++)
		poison((int)((v >> 8) + i));
}

struct gpamap_region *area_ram(struct order *o, unsigned area, unsigned first, unsigned pages,
			       unsigned flags, bool kept)
{
	int b = backing_of(area, first);
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM,
		.flags = flags,
		.name = areas[area].name,
		.size = pages * PAGE,
		.hva = backing_at(b),
		.opaque = opaque_of(b, pages),
		.release = kept ? give_back : NULL,
	};

	if (flags & GPAMAP_GUEST_MEMFD) {
		desc.guest_memfd = 100;
		desc.guest_memfd_offset = (uint64_t)b * PAGE;
	}
	for (unsigned i = 0; i < pages; i++)
		o->kept[(unsigned)b + i] = kept;
	return vm_region(&o->vm, &desc);
}

/* A device has one page of registers, and remembers what is stored there. */
static struct order *of_devices;

static int device_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
	int b = (int)((unsigned)(uintptr_t)opaque >> 8);
	uint64_t word = atomic_load(word_at(b, offset));

	memcpy(data, &word, len);
	return 0;
}

static int device_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	int b = (int)((unsigned)(uintptr_t)opaque >> 8);
	uint64_t word = 0, old = atomic_load(word_at(b, offset));

	memcpy(&word, data, len);
	if (old && word != old + 1)
		__atomic_fetch_add(&of_devices->out_of_turn, 1, __ATOMIC_RELAXED);
	atomic_store(word_at(b, offset), word);
	return 0;
}

static const struct gpamap_mmio_ops device_ops = {.read = device_read, .write = device_write};

struct gpamap_region *area_device(struct order *o, unsigned area, unsigned registers,
				  bool has_memory, unsigned memory)
{
	int b = backing_of(area, registers);
	struct gpamap_region_desc desc = {
		.kind = has_memory ? GPAMAP_ROM_DEVICE : GPAMAP_MMIO,
		.name = areas[area].name,
		.size = PAGE,
		.hva = has_memory ? backing_at(backing_of(area, memory)) : NULL,
		.ops = &device_ops,
		.opaque = opaque_of(b, 1),
	};

	of_devices = o;
	o->kept[b] = true;
	return vm_region(&o->vm, &desc);
}
