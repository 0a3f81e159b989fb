/* SPDX-License-Identifier: BSD-3-Clause */
/* Access through a published view: what it does, and what it refuses. */
#include "views.h"

/* -------------------------------------------------------------------------------- memory --- */

/* Two regions side by side in guest-physical order, the other way round in memory. */
static void memory_at_any_alignment(void **state)
{
	unsigned char expect[64], buf[80];
	struct gpamap_region *a, *b;
	struct env e;

	(void)state;
	setup(&e);
	a = new_ram(&e, 1, 1);
	b = new_ram(&e, 0, 1);
	show(&e, BASE, PAGE, a, GM_SEG_RAM, 0);
	show(&e, BASE + PAGE, PAGE, b, GM_SEG_RAM, 0);
	publish(&e);
	for (unsigned from = 0; from < 24; from++) {
		for (unsigned len = 0; len < 40; len++) {
			uint64_t gpa = BASE + PAGE - 32 + from;

			memset(e.memory, 0x11, NR_PAGES * PAGE);
			memset(expect, 0x11, sizeof(expect));
			for (unsigned i = 0; i < sizeof(buf); i++)
				buf[i] = random_next();
			memcpy(expect + from, buf + 1, len);
			assert_int_equal(wr(&e, gpa, buf + 1, len), 0);
			assert_memory_equal(e.memory + 2 * PAGE - 32, expect, 32);
			assert_memory_equal(e.memory, expect + 32, 32);
			memset(buf, 0x22, sizeof(buf));
			assert_int_equal(rd(&e, gpa, buf + 3, len), 0);
			assert_memory_equal(buf + 3, expect + from, len);
			assert_int_equal(buf[2], 0x22);
			assert_int_equal(buf[3 + len], 0x22);
		}
	}
	gm_region_unref(a);
	gm_region_unref(b);
	teardown(&e);
}

static void refusals(void **state)
{
	unsigned char buf[16] = {1, 2, 3, 4, 5, 6, 7, 8}, zero[16] = {0};
	struct gpamap_region *ram, *rom, *none;
	bool dead = false;
	struct env e;

	(void)state;
	setup(&e);
	ram = new_ram(&e, 0, 1);
	rom = new_ram(&e, 1, 1);
	none = new_ram(&e, 2, 1);
	show(&e, BASE, PAGE, ram, GM_SEG_RAM, 0);
	show(&e, BASE + PAGE, PAGE, rom, GM_SEG_RAM, GM_SEG_READONLY);
	show(&e, BASE + 2 * PAGE, PAGE, none, GM_SEG_NONE, 0);
	publish(&e);
	assert_int_equal(wr(&e, BASE + PAGE, buf, 1), -EROFS);
	assert_int_equal(rd(&e, BASE + PAGE, buf + 8, 1), 0);
	assert_int_equal(wr(&e, BASE + 2 * PAGE, buf, 1), -EACCES);
	assert_int_equal(rd(&e, BASE + 2 * PAGE, buf, 1), -EACCES);
	assert_int_equal(wr(&e, BASE + 3 * PAGE, buf, 1), -ENXIO);
	assert_int_equal(rd(&e, BASE - 1, buf, 8), -ENXIO);
	assert_int_equal(gm_access(&e.guest, 1, BASE, buf, 1, false, NULL, &dead), -ENXIO);
	assert_int_equal(rd(&e, UINT64_MAX, buf, 2), -EOVERFLOW);
	assert_int_equal(rd(&e, 2, buf, SIZE_MAX), -EOVERFLOW);
	assert_int_equal(rd(&e, UINT64_MAX, buf, 1), -ENXIO);
	assert_int_equal(rd(&e, UINT64_MAX, buf, 0), 0);
	/* What comes before the refused byte is done. */
	assert_int_equal(wr(&e, BASE + PAGE - 4, buf, 8), -EROFS);
	assert_memory_equal(e.memory + PAGE - 4, buf, 4);
	assert_memory_equal(e.memory + PAGE, zero, 16);
	gm_region_unref(ram);
	gm_region_unref(rom);
	gm_region_unref(none);
	teardown(&e);
}

static void end_of_the_address_space(void **state)
{
	struct gpamap_region *ram;
	uint64_t value = 0x1122334455667788, back = 0;
	struct env e;

	(void)state;
	setup(&e);
	ram = new_ram(&e, 0, 1);
	show(&e, UINT64_MAX - PAGE + 1, PAGE, ram, GM_SEG_RAM, 0);
	publish(&e);
	assert_int_equal(wr(&e, UINT64_MAX - 7, &value, 8), 0);
	assert_int_equal(rd(&e, UINT64_MAX - 7, &back, 8), 0);
	assert_int_equal(back, value);
	assert_memory_equal(e.memory + PAGE - 8, &value, 8);
	gm_region_unref(ram);
	teardown(&e);
}

/* --------------------------------------------------------------------------------- devices --- */

/* Remembers its calls; reads answer the offset of each byte. */
struct device {
	struct {
		uint64_t offset;
		unsigned len;
		unsigned char data[8];
	} call[64];
	unsigned nr_calls;
	unsigned fail_at; /* number of the call that fails, from 1 */
};

static int device_call(struct device *d, uint64_t offset, unsigned len)
{
	assert_true(d->nr_calls < 64);
	d->call[d->nr_calls].offset = offset;
	d->call[d->nr_calls].len = len;
	return ++d->nr_calls == d->fail_at ? -EIO : 0;
}

static int device_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
	int err = device_call(opaque, offset, len);

	for (unsigned i = 0; i < len && !err; i++)
		((unsigned char *)data)[i] = offset + i;
	return err;
}

static int device_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	struct device *d = opaque;

	memcpy(d->call[d->nr_calls].data, data, len);
	return device_call(d, offset, len);
}

static const struct gpamap_mmio_ops device_ops = {device_read, device_write};

/* Every alignment and length, on a device that stands at an odd address: each piece is aligned for the
 * guest, none could be larger, and nothing comes twice or not at all. */
static void device_pieces(void **state)
{
	static struct device d;
	struct gpamap_region *r;
	struct env e;

	(void)state;
	setup(&e);
	r = new_region(&e,
		       (struct gpamap_region_desc){
			       .kind = GPAMAP_MMIO, .size = 100, .ops = &device_ops, .opaque = &d});
	show(&e, BASE + 3, 100, r, GM_SEG_MMIO, 0);
	publish(&e);
	for (unsigned i = 0; i < 16 * 30 * 2; i++) {
		unsigned from = 3 + i % 16, len = 1 + i / 16 % 30, done = 0;
		bool is_write = i / (16 * 30);
		unsigned char buf[32];

		memset(&d, 0, sizeof(d));
		for (unsigned j = 0; j < 32; j++)
			buf[j] = 100 + j;
		assert_int_equal(is_write ? wr(&e, BASE + from, buf, len)
					  : rd(&e, BASE + from, buf, len),
				 0);
		for (unsigned j = 0; j < d.nr_calls; j++) {
			unsigned n = d.call[j].len, at = from + done;

			assert_true(n == 1 || n == 2 || n == 4 || n == 8);
			assert_int_equal(at % n, 0);
			assert_true(n == 8 || at % (2 * n) || done + 2 * n > len);
			assert_int_equal(d.call[j].offset, at - 3);
			if (is_write)
				assert_memory_equal(d.call[j].data, buf + done, n);
			done += n;
		}
		assert_int_equal(done, len);
		for (unsigned j = 0; j < 32; j++)
			assert_int_equal(buf[j], !is_write && j < len ? from - 3 + j : 100 + j);
	}
	gm_region_unref(r);
	teardown(&e);
}

static void device_errors(void **state)
{
	static const struct gpamap_mmio_ops read_only = {.read = device_read};
	static const struct gpamap_mmio_ops write_only = {.write = device_write};
	const struct gpamap_mmio_ops *ops[] = {&device_ops, &read_only, &write_only, NULL};
	unsigned char buf[24] = {0};
	struct gpamap_region *r;
	struct device d;
	struct env e;

	(void)state;
	for (int i = 0; i < 4; i++) {
		bool can_read = ops[i] && ops[i]->read, can_write = ops[i] && ops[i]->write;

		setup(&e);
		memset(&d, 0, sizeof(d));
		d.fail_at = 2;
		r = new_region(&e, (struct gpamap_region_desc){.kind = GPAMAP_MMIO,
							       .size = PAGE,
							       .ops = ops[i],
							       .opaque = &d});
		show(&e, BASE, PAGE, r, GM_SEG_MMIO, 0);
		publish(&e);
		memset(buf, 99, sizeof(buf));
		assert_int_equal(rd(&e, BASE, buf, 24), can_read ? -EIO : -ENXIO);
		assert_int_equal(d.nr_calls, can_read ? 2 : 0);
		assert_int_equal(buf[7], can_read ? 7 : 99);
		assert_int_equal(buf[8], 99);
		d.nr_calls = 0;
		assert_int_equal(wr(&e, BASE, buf, 24), can_write ? -EIO : -ENXIO);
		assert_int_equal(d.nr_calls, can_write ? 2 : 0);
		gm_region_unref(r);
		teardown(&e);
	}
}

static void rom_device(void **state)
{
	uint32_t value = 0x12345678, back = 0;
	struct gpamap_region *r;
	struct device d = {0};
	struct env e;

	(void)state;
	setup(&e);
	r = new_region(&e, (struct gpamap_region_desc){.kind = GPAMAP_ROM_DEVICE,
						       .size = PAGE,
						       .hva = e.memory,
						       .ops = &device_ops,
						       .opaque = &d});
	memcpy(e.memory + 12, &value, 4);
	show(&e, BASE, PAGE, r, GM_SEG_ROMD, 0);
	publish(&e);
	assert_int_equal(rd(&e, BASE + 12, &back, 4), 0);
	assert_int_equal(back, value);
	assert_int_equal(d.nr_calls, 0);
	back = 0x11;
	assert_int_equal(wr(&e, BASE + 12, &back, 4), 0);
	assert_int_equal(d.nr_calls, 1);
	assert_int_equal(d.call[0].offset, 12);
	assert_memory_equal(d.call[0].data, &back, 4);
	assert_memory_equal(e.memory + 12, &value, 4);
	/* In trap mode reads go to the device, too. */
	show(&e, BASE, PAGE, r, GM_SEG_MMIO, 0);
	publish(&e);
	assert_int_equal(rd(&e, BASE + 12, &back, 4), 0);
	assert_int_equal(back, 0x0f0e0d0c);
	gm_region_unref(r);
	teardown(&e);
}

/* -------------------------------------------------------------------------------- look-up --- */

static int look(struct env *e, uint64_t gpa, struct gpamap_segment *ret)
{
	return gm_lookup(&e->views, 0, gpa, ret);
}

static void check_piece(struct env *e, uint64_t at, struct gpamap_segment expect)
{
	struct gpamap_segment s;

	assert_int_equal(look(e, at, &s), 0);
	assert_int_equal(s.gpa, expect.gpa);
	assert_int_equal(s.size, expect.size);
	assert_int_equal(s.kind, expect.kind);
	assert_int_equal(s.prot, expect.prot);
	assert_int_equal(s.log, expect.log);
	assert_ptr_equal(s.hva, expect.hva);
	assert_int_equal(s.offset, expect.offset);
}

static void lookup(void **state)
{
	struct gpamap_segment s = {.gpa = 42};
	struct gpamap_region *ram, *romd;
	struct env e;

	(void)state;
	setup(&e);
	assert_int_equal(look(&e, 0, &s), -ENOENT);
	assert_int_equal(gm_lookup(&e.views, 1, 0, &s), -ENXIO);
	ram = new_ram(&e, 1, 3);
	romd = new_region(
		&e, (struct gpamap_region_desc){
			    .kind = GPAMAP_ROM_DEVICE, .size = PAGE, .hva = e.memory, .ops = NULL});
	show(&e, BASE, 3 * PAGE, ram, GM_SEG_RAM, GM_SEG_LOG);
	show(&e, BASE, PAGE, NULL, 0, 0);
	show(&e, BASE + 4 * PAGE, PAGE, ram, GM_SEG_RAM, GM_SEG_READONLY);
	show(&e, BASE + 5 * PAGE, PAGE, ram, GM_SEG_NONE, 0);
	show(&e, BASE + 6 * PAGE, PAGE, romd, GM_SEG_ROMD, 0);
	show(&e, BASE + 7 * PAGE, PAGE, romd, GM_SEG_MMIO, 0);
	publish(&e);
#define PIECE(...) ((struct gpamap_segment){__VA_ARGS__})
	for (uint64_t at = BASE - 1; at <= BASE + 3 * PAGE - 1; at += PAGE)
		check_piece(&e, at,
			    PIECE(BASE + PAGE, 2 * PAGE, GPAMAP_RAM, GPAMAP_RW, true,
				  e.memory + 2 * PAGE, PAGE));
	check_piece(&e, BASE + 3 * PAGE,
		    PIECE(BASE + 4 * PAGE, PAGE, GPAMAP_RAM, GPAMAP_RO, false, e.memory + PAGE, 0));
	check_piece(&e, BASE + 5 * PAGE,
		    PIECE(BASE + 5 * PAGE, PAGE, GPAMAP_RAM, GPAMAP_NONE, false, e.memory + PAGE,
			  0));
	check_piece(&e, BASE + 6 * PAGE + 1,
		    PIECE(BASE + 6 * PAGE, PAGE, GPAMAP_ROM_DEVICE, GPAMAP_RO, false, e.memory, 0));
	check_piece(&e, BASE + 8 * PAGE - 1,
		    PIECE(BASE + 7 * PAGE, PAGE, GPAMAP_ROM_DEVICE, GPAMAP_NONE, false, NULL, 0));
	assert_int_equal(look(&e, BASE + 8 * PAGE, &s), -ENOENT);
	assert_int_equal(s.gpa, 42);
	show(&e, 0, UINT64_MAX, ram, GM_SEG_MMIO, 0);
	publish(&e);
	check_piece(&e, UINT64_MAX,
		    PIECE(0, GPAMAP_SIZE_MAX, GPAMAP_RAM, GPAMAP_NONE, false, NULL, 0));
#undef PIECE
	gm_region_unref(ram);
	gm_region_unref(romd);
	teardown(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_at_any_alignment),
		cmocka_unit_test(refusals),
		cmocka_unit_test(end_of_the_address_space),
		cmocka_unit_test(device_pieces),
		cmocka_unit_test(device_errors),
		cmocka_unit_test(rom_device),
		cmocka_unit_test(lookup),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
