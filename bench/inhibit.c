/* SPDX-License-Identifier: BSD-3-Clause */
/* Change a page under vCPUs as QEMU does it. */
#include <errno.h>

#include "rival.h"

static void enter(void *opaque, int vcpu)
{
	struct inhibit *h = opaque;

	inhibit_enter(&h->gate, &h->counter[vcpu]);
}

static void leave(void *opaque, int vcpu)
{
	struct inhibit *h = opaque;

	__atomic_store_n(&h->guest.vcpu[vcpu].run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	inhibit_leave(&h->gate, &h->counter[vcpu]);
}

static int make_slots(struct inhibit *h)
{
	const struct layout *l = &h->layout;
	int err;

	if (!l->pages)
		return guest_slot(&h->guest, 0, 0, 0, l->size);
	err = guest_slot(&h->guest, 0, 0, 0, layout_page(l, 0));
	for (unsigned i = 0; !err && i < l->pages; i++)
		err = guest_slot(&h->guest, i + 1, 0, layout_page(l, i), PAGE);
	return err;
}

int inhibit_init(struct inhibit *h, int kvm, const struct layout *l, int vcpus)
{
	static const struct crew_gate gate = {enter, leave};
	int err;

	h->layout = *l;
	guest_init(&h->guest, kvm, layout_size(l), vcpus);
	if (l->zap_slot_only)
		check(guest_zap_slot_only(&h->guest), "KVM_X86_QUIRK_SLOT_ZAP_ALL");
	crew_init(&h->crew, &h->guest, &gate, h);
	inhibit_gate_init(&h->gate);
	for (int i = 0; i < vcpus; i++)
		atomic_init(&h->counter[i].inside, 0);
	err = make_slots(h);
	if (err) {
		inhibit_destroy(h);
		if (err != -ENOMEM)
			check(err, "slot");
		return err;
	}
	guest_reset(&h->guest);
	return 0;
}

void inhibit_destroy(struct inhibit *h)
{
	crew_destroy(&h->crew);
	guest_destroy(&h->guest);
}

static void kick(void *opaque, int i)
{
	struct inhibit *h = opaque;

	crew_kick(&h->crew, i);
}

/* All slots that the page lies in go, and others come: three for one, or one for three; or one for one. */
static void change_slots(struct inhibit *h, unsigned i, enum page_as as)
{
	struct guest *g = &h->guest;
	uint64_t size = h->layout.size, page = layout_page(&h->layout, i);
	uint64_t backing = layout_backing(&h->layout, i, as);
	uint32_t flags = as == PAGE_READONLY ? KVM_MEM_READONLY : 0;

	if (h->layout.pages) {
		check(guest_slot(g, i + 1, 0, 0, 0), "delete");
		check(guest_slot_of(g, i + 1, flags, page, PAGE, backing), "create");
	} else if (as != PAGE_PLAIN) {
		check(guest_slot(g, 0, 0, 0, 0), "delete");
		check(guest_slot(g, 0, 0, 0, page), "create");
		check(guest_slot_of(g, 1, flags, page, PAGE, backing), "create");
		check(guest_slot(g, 2, 0, page + PAGE, size - page - PAGE), "create");
	} else {
		for (uint32_t slot = 0; slot < 3; slot++)
			check(guest_slot(g, slot, 0, 0, 0), "delete");
		check(guest_slot(g, 0, 0, 0, size), "create");
	}
}

struct took inhibit_change(struct inhibit *h, unsigned i, enum page_as as)
{
	struct took took = {0};
	double start;

	crew_mark(&h->crew);
	start = now_us();
	inhibit_shut(&h->gate, h->counter, h->guest.nr_vcpus, kick, h);
	change_slots(h, i, as);
	took.blackout = now_us() - start;
	inhibit_open(&h->gate);
	if (h->crew.state != CREW_OUTSIDE)
		took.back = crew_back(&h->crew) - start;
	return took;
}
