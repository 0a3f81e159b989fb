/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest of the hazard `its`: see its.h, and guest.c for what guest code must not do. Names of registers and
 * commands are those of the GICv3 architecture. */
#include "guest_arch.h"
#include "guest_image.h"
#include "its.h"

#define GUEST __attribute__((section("guest_text")))

/* By their encodings, which every assembler knows. */
#define ICC_PMR_EL1 "S3_0_C4_C6_0"
#define ICC_IAR1_EL1 "S3_0_C12_C12_0"
#define ICC_EOIR1_EL1 "S3_0_C12_C12_1"
#define ICC_IGRPEN1_EL1 "S3_0_C12_C12_7"
#define READ(name)                                                         \
	({                                                                 \
		uint64_t v_;                                               \
		__asm__ volatile("mrs %0, " name : "=r"(v_) : : "memory"); \
		v_;                                                        \
	})
#define WRITE(name, value) \
	__asm__ volatile("msr " name ", %0\n\tisb" : : "r"((uint64_t)(value)) : "memory")

#define GICD_CTLR 0x0u
#define GICD_CTLR_ON 0x12u /* affinity routing, group 1 */
#define GICR_CTLR 0x0u
#define GICR_CTLR_LPIS 1u
#define GICR_PROPBASER 0x70u
#define GICR_PENDBASER 0x78u
#define GITS_CTLR 0x0u
#define GITS_CTLR_ON 1u
#define GITS_CBASER 0x80u
#define GITS_CWRITER 0x88u
#define GITS_CREADR 0x90u
#define GITS_BASER0 0x100u /* devices */
#define GITS_BASER1 0x108u /* collections */

#define VALID (UINT64_C(1) << 63)
#define INDIRECT (UINT64_C(1) << 62)
/* Write-back, inner shareable: of the ITS's bases, and of the redistributor's. */
#define ITS_CACHED (UINT64_C(7) << 59 | UINT64_C(1) << 10)
#define BASER_64K (UINT64_C(2) << 8)
#define REDIST_CACHED (UINT64_C(7) << 7 | UINT64_C(1) << 10)
#define LPI_BITS 14u /* interrupts are below 1 << this */

enum command {
	MOVI = 0x01,
	SYNC = 0x05,
	MAPD = 0x08,
	MAPC = 0x09,
	MAPTI = 0x0a,
	INV = 0x0c,
	INVALL = 0x0d,
	MOVALL = 0x0e,
	DISCARD = 0x0f,
};

/* In the table of configurations: priority and the bit that is always set, and whether it is enabled. */
#define CONFIG_OFF 0xa2u
#define CONFIG_ON 0xa3u

/* IT3: so many looks for an interrupt of its own, and seconds for one that another vCPU must take. */
#define LOOKS 1000u
#define PATIENCE 30u

enum arrival { ARRIVED, LOST, ASTRAY };

static GUEST struct its_ctl *its_of(const struct guest_ctl *c)
{
	return (struct its_ctl *)c->its;
}

/* Not all registers may be written whole. */
static GUEST void store32(uint64_t at, uint32_t value)
{
	__asm__ volatile("str %w0, [%1]" : : "r"(value), "r"(at) : "memory");
}

static GUEST void settle(void)
{
	__asm__ volatile("dsb sy\n\tisb" : : : "memory");
}

/* Where the guest finds what is in a window. pre: the driver. */
static GUEST uint64_t at(const struct guest_ctl *c, uint64_t gpa)
{
	return c->window + (gpa - its_of(c)->window);
}

static GUEST int stopped(const struct guest_ctl *c)
{
	return *(volatile const uint32_t *)&c->stop != 0;
}

static GUEST void begin_its(struct its_ctl *its)
{
	uint64_t base = its->gic + ITS_GIC_ITS;

	store32(its->gic + ITS_GIC_DIST + GICD_CTLR, GICD_CTLR_ON);
	guest_store(base + GITS_BASER0, VALID | INDIRECT | ITS_CACHED | BASER_64K | its->devices);
	guest_store(base + GITS_BASER1, VALID | ITS_CACHED | BASER_64K | its->collections);
	guest_store(base + GITS_CBASER, VALID | ITS_CACHED | its->queue);
	guest_store(base + GITS_CWRITER, 0);
	store32(base + GITS_CTLR, GITS_CTLR_ON);
}

GUEST void guest_its_begin(struct guest_ctl *c)
{
	struct its_ctl *its = its_of(c);
	uint64_t redist = its->gic + ITS_GIC_REDIST + c->vcpu * ITS_REDIST_SIZE;
	uint64_t pending = its->pending + c->vcpu * WINDOW_PAGES * GUEST_PAGE;

	WRITE(ICC_PMR_EL1, 0xff);
	WRITE(ICC_IGRPEN1_EL1, 1);
	/* One that died and begins anew finds the rest done. */
	if (c->its_begun)
		return;
	guest_store(redist + GICR_PROPBASER, its->config | REDIST_CACHED | (LPI_BITS - 1));
	guest_store(redist + GICR_PENDBASER, pending | REDIST_CACHED);
	store32(redist + GICR_CTLR, GICR_CTLR_LPIS);
	if (!c->vcpu)
		begin_its(its);
	settle();
	c->its_begun = 1;
	guest_fetch_add(&its->ready);
}

/* Take an interrupt, if there is one. */
static GUEST void take(const struct guest_ctl *c)
{
	struct its_ctl *its = its_of(c);
	uint64_t id = READ(ICC_IAR1_EL1), *got;

	settle();
	if (id < ITS_LPI_BASE || id >= ITS_LPI_BASE + ITS_LPIS)
		return;
	got = &its->got[id - ITS_LPI_BASE];
	__atomic_store_n(got, ((*got >> 8) + 1) << 8 | c->vcpu, __ATOMIC_RELEASE);
	WRITE(ICC_EOIR1_EL1, id);
}

/* One command into the queue. @device and what follows are the words of it, as the architecture has them. */
static GUEST void put(const struct guest_ctl *c, enum command command, uint64_t word1,
		      uint64_t word2, uint64_t word3)
{
	struct its_ctl *its = its_of(c);
	uint64_t to = at(c, its->queue) + its->head;

	guest_store(to, command | (uint64_t)ITS_DEVICE << 32);
	guest_store(to + 8, word1);
	guest_store(to + 16, word2);
	guest_store(to + 24, word3);
	its->head = (its->head + 32) % GUEST_PAGE;
}

static GUEST uint64_t collection(uint64_t id, uint64_t vcpu)
{
	return id | vcpu << 16;
}

/* Announce the commands, with one that waits for them. IT2. */
static GUEST void announce(const struct guest_ctl *c, uint64_t vcpu)
{
	const struct its_ctl *its = its_of(c);
	uint64_t base = its->gic + ITS_GIC_ITS;

	put(c, SYNC, 0, collection(0, vcpu), 0);
	settle();
	guest_store(base + GITS_CWRITER, its->head);
	while (guest_load(base + GITS_CREADR) != its->head && !stopped(c))
		;
}

static GUEST void configure(const struct guest_ctl *c, uint64_t lpi, uint8_t value)
{
	uint64_t to = at(c, its_of(c)->config) + lpi - ITS_LPI_FIRST;

	__asm__ volatile("strb %w0, [%1]" : : "r"(value), "r"(to) : "memory");
}

/* Ask for a message. IT1. */
static GUEST uint64_t message(const struct guest_ctl *c, uint64_t event)
{
	its_of(c)->asked++;
	return guest_load(c->doorbell + ITS_ASK_OFFSET + event * 8);
}

/* Wait for what was not there when the word was @before. */
static GUEST enum arrival wait(const struct guest_ctl *c, const uint64_t *word, uint64_t before,
			       uint64_t vcpu)
{
	uint64_t limit = READ("cntvct_el0") + PATIENCE * READ("cntfrq_el0");

	for (uint64_t i = 0; vcpu || i < LOOKS; i++) {
		uint64_t now;

		take(c);
		now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
		if (now != before)
			return (now & 0xff) == vcpu ? ARRIVED : ASTRAY;
		/* Another vCPU may be told first, and take nothing any more. */
		if (stopped(c))
			return ARRIVED;
		if (READ("cntvct_el0") > limit)
			break;
	}
	return LOST;
}

/* Note what became of a message. 0: it did not arrive where it had to. */
static GUEST int judge(const struct guest_ctl *c, enum arrival arrival)
{
	struct its_ctl *its = its_of(c);

	its->lost += arrival == LOST;
	its->astray += arrival == ASTRAY;
	return arrival == ARRIVED;
}

/* The message comes while the interrupt is not enabled, and so arrives when it is. */
static GUEST int map(const struct guest_ctl *c, uint64_t n, uint64_t lpi, uint64_t peer)
{
	struct its_ctl *its = its_of(c);
	const uint64_t *word = &its->got[lpi - ITS_LPI_BASE];
	uint64_t event = n % ITS_EVENTS, before = *word;

	configure(c, lpi, CONFIG_OFF);
	put(c, MAPC, 0, VALID | collection(ITS_HERE, 0), 0);
	put(c, MAPC, 0, VALID | collection(ITS_THERE, peer), 0);
	put(c, MAPD, ITS_EVENT_BITS - 1, VALID | its->translations, 0);
	put(c, MAPTI, event | lpi << 32, ITS_HERE, 0);
	announce(c, 0);
	if (!message(c, event))
		return judge(c, LOST);
	configure(c, lpi, CONFIG_ON);
	if (n / 2 % 2)
		put(c, INV, event, 0, 0);
	else
		put(c, INVALL, 0, ITS_HERE, 0);
	announce(c, 0);
	return judge(c, wait(c, word, before, 0));
}

/* By the interrupt's collection, or with all that is the driver's. */
static GUEST int move(const struct guest_ctl *c, uint64_t n, uint64_t lpi, uint64_t peer)
{
	const uint64_t *word = &its_of(c)->got[lpi - ITS_LPI_BASE];
	uint64_t event = n % ITS_EVENTS, before = *word;

	if (n % 2) {
		put(c, MOVI, event, ITS_THERE, 0);
	} else {
		put(c, MAPC, 0, VALID | collection(ITS_HERE, peer), 0);
		put(c, SYNC, 0, collection(0, peer), 0);
		put(c, MOVALL, 0, collection(0, 0), collection(0, peer));
	}
	announce(c, peer);
	if (!message(c, event))
		return judge(c, LOST);
	return judge(c, wait(c, word, before, peer));
}

/* Nothing arrives any more. */
static GUEST void drop(const struct guest_ctl *c, uint64_t n, uint64_t peer)
{
	uint64_t event = n % ITS_EVENTS;

	put(c, DISCARD, event, 0, 0);
	announce(c, peer);
	if (message(c, event))
		judge(c, ASTRAY);
}

static GUEST void unmap(const struct guest_ctl *c)
{
	put(c, MAPD, 0, 0, 0);
	put(c, MAPC, 0, ITS_HERE, 0);
	put(c, MAPC, 0, ITS_THERE, 0);
	announce(c, 0);
}

GUEST void guest_its_step(struct guest_ctl *c)
{
	struct its_ctl *its = its_of(c);
	uint64_t n, lpi, peer;

	take(c);
	if (c->vcpu || __atomic_load_n(&its->ready, __ATOMIC_ACQUIRE) < its->vcpus)
		return;
	n = its->steps++;
	lpi = ITS_LPI_BASE + n % ITS_LPIS;
	/* Each vCPU by each of the ways, which n chooses by its last two bits. */
	peer = its->vcpus > 1 ? 1 + n / 4 % (its->vcpus - 1) : 0;
	if (map(c, n, lpi, peer) && move(c, n, lpi, peer))
		drop(c, n, peer);
	unmap(c);
}
