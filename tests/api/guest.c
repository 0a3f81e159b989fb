/* SPDX-License-Identifier: BSD-3-Clause */
/* Guests; see guest.h. */
#include "guest.h"

uint8_t *ram_hva[3], *plain_hva[2], *mover_hva;

int guest_memory(void **state)
{
	(void)state;
	ram_hva[0] = mem_new(RAM, 48);
	ram_hva[1] = mem_again(RAM, 48);
	ram_hva[2] = mem_again(RAM, 48);
	plain_hva[0] = mem_new(PLAIN, 32);
	plain_hva[1] = mem_again(PLAIN, 32);
	mover_hva = mem_new(MOVER, 16);
	return 0;
}

uint8_t *guest_plain_at(uint64_t page)
{
	return plain_hva[0] + (page - PLAIN_RO_AT) * PAGE;
}

void guest_clear_memory(void)
{
	for (uint64_t page = 0; page < 32; page++) {
		memset(ram_hva[0] + page * PAGE + 8, 0, 1024);
		memset(guest_plain_at(PLAIN_RO_AT + page) + 8, 0, 1024);
	}
}

enum { STORE, LOAD, TAG, FETCH, WALK, ADD, ACROSS, KINDS };

bool guest_may_write(uint64_t page)
{
	return page < WINDOW_AT || (page >= WINDOW_AT + 8 && page < 32) ||
	       (page >= PLAIN_RW_AT && page < PLAIN_RW_AT + 16);
}

static bool is_mover(uint64_t page)
{
	return page >= MOVER_AT;
}

void guest_choose(struct guest *g)
{
	static const struct {
		uint64_t first;
		uint64_t n;
	} areas[] = {{RAM_AT, 32}, {PLAIN_RO_AT, 32}, {MOVER_AT + 4, 12}};
	unsigned a = (unsigned)random_below(&g->random, ARRAY_SIZE(areas));

	g->page = areas[a].first + random_below(&g->random, areas[a].n);
	do {
		g->kind = (unsigned)random_below(&g->random, KINDS);
	} while (((g->kind == STORE || g->kind == LOAD || g->kind == ADD) &&
		  !guest_may_write(g->page)) ||
		 (g->kind == ACROSS && (is_mover(g->page) || g->page % 16 == 15)));
	g->chosen = true;
}

/* Is it the tag of what may be seen there? */
bool guest_right_tag(uint64_t page, uint64_t tag)
{
	if (page < 32)
		return tag == mem_tag(RAM, page);
	if (!is_mover(page))
		return tag == mem_tag(PLAIN, page - PLAIN_RO_AT);
	return tag >> 32 == MOVER && page - (uint32_t)tag - MOVER_AT <= 4;
}

static int access_page(struct gpamap_sim_vcpu *vcpu, struct guest *g)
{
	uint64_t gpa = g->page * PAGE, own = gpa + 64 + 8 * g->id, word, two[2];
	int r = 0;

	switch (g->kind) {
	case STORE:
		word = g->stored[g->page] + 1;
		r = gpamap_sim_store(vcpu, own, &word, 8);
		if (!r)
			g->stored[g->page] = word;
		return r;
	case LOAD:
		r = gpamap_sim_load(vcpu, own, &word, 8);
		g->wrong += !r && word != g->stored[g->page];
		return r;
	case ADD:
		r = gpamap_sim_xadd(vcpu, gpa + 32, 1, &word);
		g->added[g->page] += !r;
		return r;
	case ACROSS:
		r = gpamap_sim_load(vcpu, gpa + PAGE - 8, two, 16);
		g->wrong += !r && !guest_right_tag(g->page + 1, two[1]);
		return r;
	case TAG:
		r = gpamap_sim_load(vcpu, gpa, &word, 8);
		break;
	case FETCH:
		r = gpamap_sim_fetch(vcpu, gpa, &word, 8);
		break;
	case WALK:
		r = gpamap_sim_walk(vcpu, gpa, &word);
		break;
	}
	g->wrong += !r && !guest_right_tag(g->page, word);
	return r;
}

int guest_step(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	struct guest *g = opaque;
	int r;

	if (g->steps == STEPS_PER_RUN) {
		r = gpamap_sim_halt(vcpu);
		if (!r)
			g->steps = 0;
		return r;
	}
	if (!g->chosen)
		guest_choose(g);
	r = access_page(vcpu, g);
	if (r)
		return r;
	g->chosen = false;
	g->steps++;
	g->ops++;
	return 0;
}
