/* SPDX-License-Identifier: BSD-3-Clause */
/* The device tree of the arm64 machine, read back: what a kernel finds in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <libfdt.h>

#include "fdt_arm64.h"

#define GIC "/interrupt-controller@8000000"

/* As KVM makes them: 16 processors at the lowest level, and a bit that is always set. */
static uint64_t mpidr[512];

static struct pc_fdt example(unsigned vcpus)
{
	for (unsigned i = 0; i < 512; i++)
		mpidr[i] = UINT64_C(0x80000000) | (i & 15) | (uint64_t)(i / 16) << 8;
	return (struct pc_fdt){
		.ram = {0x40000000, UINT64_C(5) << 30},
		.initrd = {0x44200000, 12345},
		.append = "console=ttyS0 quiet",
		.mpidr = mpidr,
		.vcpus = vcpus,
		.gicd = {0x08000000, 0x10000},
		.gicr = {0x0a000000, (uint64_t)vcpus * 0x20000},
		.its = {0x08080000, 0x20000},
		.uart = {0x09000000, 8},
		.uart_irq = 1,
		.uart_clock = 1843200,
		.seed = "seed",
		.seed_size = 4,
	};
}

/* With no byte more than pc_fdt_size() says; to be freed. */
static void *make(const struct pc_fdt *desc)
{
	size_t size = pc_fdt_size(desc);
	void *at = malloc(size);

	assert_non_null(at);
	memset(at, 0xa5, size);
	assert_int_equal(pc_fdt_make(at, size, desc), 0);
	assert_int_equal(fdt_check_full(at, size), 0);
	return at;
}

static int node(const void *at, const char *path)
{
	int n = fdt_path_offset(at, path);

	if (n < 0)
		fail_msg("%s: %s", path, fdt_strerror(n));
	return n;
}

static const void *property(const void *at, const char *path, const char *name, int size)
{
	int found = -1;
	const void *p = fdt_getprop(at, node(at, path), name, &found);

	if (!p || found != size)
		fail_msg("%s has %d bytes of %s, not %d", path, found, name, size);
	return p;
}

static void is_string(const void *at, const char *path, const char *name, const char *text)
{
	assert_string_equal(property(at, path, name, (int)strlen(text) + 1), text);
}

static void is_cells(const void *at, const char *path, const char *name, const uint32_t *cells,
		     unsigned n)
{
	const fdt32_t *p = property(at, path, name, (int)(n * sizeof(*p)));

	for (unsigned i = 0; i < n; i++)
		assert_int_equal(fdt32_to_cpu(p[i]), cells[i]);
}

static void is_cell(const void *at, const char *path, const char *name, uint32_t value)
{
	is_cells(at, path, name, &value, 1);
}

/* Address and size, or only one number. */
static void is_numbers(const void *at, const char *path, const char *name, const uint64_t *number,
		       unsigned n)
{
	const fdt64_t *p = property(at, path, name, (int)(n * sizeof(*p)));

	for (unsigned i = 0; i < n; i++)
		assert_int_equal(fdt64_ld(&p[i]), number[i]);
}

static void test_root(void **state)
{
	struct pc_fdt desc = example(2);
	void *at = make(&desc);

	(void)state;
	is_cell(at, "/", "#address-cells", 2);
	is_cell(at, "/", "#size-cells", 2);
	/* Interrupts go to the GIC, whatever is said of it elsewhere. */
	is_cell(at, "/", "interrupt-parent", fdt_get_phandle(at, node(at, GIC)));
	is_numbers(at, "/memory@40000000", "reg", (uint64_t[]){0x40000000, UINT64_C(5) << 30}, 2);
	is_string(at, "/memory@40000000", "device_type", "memory");
	is_string(at, "/psci", "method", "hvc");
	assert_int_equal(fdt_node_check_compatible(at, node(at, "/psci"), "arm,psci-0.2"), 0);
	free(at);
}

static void test_chosen(void **state)
{
	struct pc_fdt desc = example(1);
	void *at = make(&desc);
	const char *console;

	(void)state;
	is_string(at, "/chosen", "bootargs", "console=ttyS0 quiet");
	is_numbers(at, "/chosen", "linux,initrd-start", (uint64_t[]){0x44200000}, 1);
	is_numbers(at, "/chosen", "linux,initrd-end", (uint64_t[]){0x44200000 + 12345}, 1);
	assert_memory_equal(property(at, "/chosen", "rng-seed", 4), "seed", 4);
	/* It has to lead to the serial port. */
	console = fdt_getprop(at, node(at, "/chosen"), "stdout-path", NULL);
	assert_non_null(console);
	assert_int_equal(fdt_node_check_compatible(at, node(at, console), "ns16550a"), 0);
	free(at);
}

static void test_without_initrd_seed_its(void **state)
{
	struct pc_fdt desc = example(1);
	void *at;

	(void)state;
	desc.initrd.size = desc.its.size = 0;
	desc.seed_size = 0;
	at = make(&desc);
	assert_null(fdt_getprop(at, node(at, "/chosen"), "linux,initrd-start", NULL));
	assert_null(fdt_getprop(at, node(at, "/chosen"), "linux,initrd-end", NULL));
	assert_null(fdt_getprop(at, node(at, "/chosen"), "rng-seed", NULL));
	assert_int_equal(fdt_node_offset_by_compatible(at, -1, "arm,gic-v3-its"),
			 -FDT_ERR_NOTFOUND);
	free(at);
}

static void test_processors(void **state)
{
	static const unsigned counts[] = {1, 2, 17, 512};

	(void)state;
	for (unsigned c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		struct pc_fdt desc = example(counts[c]);
		void *at = make(&desc);
		unsigned found = 0;
		int n;

		fdt_for_each_subnode(n, at, node(at, "/cpus"))
		{
			const fdt64_t *reg = fdt_getprop(at, n, "reg", NULL);
			const char *method = fdt_getprop(at, n, "enable-method", NULL);

			assert_non_null(reg);
			assert_non_null(method);
			/* The affinity only: Linux ignores processors with other bits. */
			assert_int_equal(fdt64_ld(reg), mpidr[found] & 0xff00ffffff);
			assert_string_equal(method, "psci");
			assert_string_equal(fdt_getprop(at, n, "device_type", NULL), "cpu");
			found++;
		}
		assert_int_equal(found, counts[c]);
		is_cell(at, "/cpus", "#address-cells", 2);
		is_cell(at, "/cpus", "#size-cells", 0);
		free(at);
	}
}

static void test_interrupts(void **state)
{
	struct pc_fdt desc = example(3);
	void *at = make(&desc);
	static const uint32_t timers[] = {1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4};

	(void)state;
	assert_int_equal(fdt_node_check_compatible(at, node(at, GIC), "arm,gic-v3"), 0);
	assert_non_null(fdt_getprop(at, node(at, GIC), "interrupt-controller", NULL));
	is_cell(at, GIC, "#interrupt-cells", 3);
	is_numbers(at, GIC, "reg", (uint64_t[]){0x08000000, 0x10000, 0x0a000000, 0x60000}, 4);
	assert_int_equal(fdt_node_check_compatible(at, node(at, GIC "/msi-controller@8080000"),
						   "arm,gic-v3-its"),
			 0);
	is_numbers(at, GIC "/msi-controller@8080000", "reg", (uint64_t[]){0x08080000, 0x20000}, 2);
	is_cell(at, GIC "/msi-controller@8080000", "#msi-cells", 1);
	assert_int_not_equal(fdt_get_phandle(at, node(at, GIC "/msi-controller@8080000")),
			     fdt_get_phandle(at, node(at, GIC)));
	is_cells(at, "/timer", "interrupts", timers, 12);
	is_cells(at, "/serial@9000000", "interrupts", (uint32_t[]){0, 1, 4}, 3);
	is_cell(at, "/serial@9000000", "clock-frequency", 1843200);
	is_numbers(at, "/serial@9000000", "reg", (uint64_t[]){0x09000000, 8}, 2);
	free(at);
}

/* Too little room is told, and nothing is written beyond it. */
static void test_no_room(void **state)
{
	struct pc_fdt desc = example(4);
	void *whole = make(&desc);
	size_t need = fdt_totalsize(whole);

	(void)state;
	for (size_t size = 0; size < need; size += 97) {
		uint8_t *at = malloc(size + 16);

		assert_non_null(at);
		memset(at, 0xa5, size + 16);
		assert_true(pc_fdt_make(at, size, &desc) < 0);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(at[size + i], 0xa5);
		free(at);
	}
	free(whole);
}

/* The longest command line that Linux takes. */
static void test_long_append(void **state)
{
	struct pc_fdt desc = example(1);
	char text[2048];
	void *at;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	desc.append = text;
	at = make(&desc);
	is_string(at, "/chosen", "bootargs", text);
	free(at);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root),	    cmocka_unit_test(test_chosen),
		cmocka_unit_test(test_processors),  cmocka_unit_test(test_without_initrd_seed_its),
		cmocka_unit_test(test_interrupts),  cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_long_append),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
