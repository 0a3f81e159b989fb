/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device tree of the arm64 machine. The nodes are those that Linux's bindings ask for, Documentation/devicetree,
 * and no more. There is no seed for KASLR on purpose: the kernel then stands at the same place in each boot, and does
 * without page tables of its own for user space, as it may on most processors.
 */
#include "fdt_arm64.h"

#include <libfdt.h>
#include <stdio.h>
#include <string.h>

/* How the bindings of the GIC and of its MSIs speak of interrupts. */
#define SHARED 0
#define PRIVATE 1
#define LEVEL_HIGH 4

#define GIC_HANDLE 1
#define ITS_HANDLE 2

/* The architected timers are the same private interrupts in each KVM: secure, EL1's, virtual, EL2's. */
static const uint32_t timers[] = {13, 14, 11, 10};

/* A tree that is written from the front to the end; after the first failure nothing more is. */
struct writer {
	void *at;
	int err;
};

static void done(struct writer *w, int err)
{
	if (!w->err)
		w->err = err;
}

static void begin(struct writer *w, const char *name)
{
	if (!w->err)
		done(w, fdt_begin_node(w->at, name));
}

/* Names of devices have their address behind them. */
static void begin_at(struct writer *w, const char *name, uint64_t address)
{
	char full[64];

	snprintf(full, sizeof(full), "%s@%llx", name, (unsigned long long)address);
	begin(w, full);
}

static void end(struct writer *w)
{
	if (!w->err)
		done(w, fdt_end_node(w->at));
}

static void bytes(struct writer *w, const char *name, const void *data, size_t size)
{
	if (!w->err)
		done(w, fdt_property(w->at, name, data, (int)size));
}

static void string(struct writer *w, const char *name, const char *text)
{
	bytes(w, name, text, strlen(text) + 1);
}

static void flag(struct writer *w, const char *name)
{
	bytes(w, name, "", 0);
}

static void cells(struct writer *w, const char *name, const uint32_t *cell, size_t n)
{
	fdt32_t big[16];

	for (size_t i = 0; i < n; i++)
		big[i] = cpu_to_fdt32(cell[i]);
	bytes(w, name, big, n * sizeof(big[0]));
}

static void cell(struct writer *w, const char *name, uint32_t value)
{
	cells(w, name, &value, 1);
}

static void number(struct writer *w, const char *name, uint64_t value)
{
	fdt64_t big = cpu_to_fdt64(value);

	bytes(w, name, &big, sizeof(big));
}

static void reg(struct writer *w, const struct pc_fdt_range *range, size_t n)
{
	fdt64_t big[2][2];

	for (size_t i = 0; i < n; i++) {
		big[i][0] = cpu_to_fdt64(range[i].base);
		big[i][1] = cpu_to_fdt64(range[i].size);
	}
	bytes(w, "reg", big, n * sizeof(big[0]));
}

/* -------------------------------------------------------------------------------- the nodes --- */

static void chosen(struct writer *w, const struct pc_fdt *d)
{
	char console[64];

	snprintf(console, sizeof(console), "/serial@%llx", (unsigned long long)d->uart.base);
	begin(w, "chosen");
	string(w, "bootargs", d->append);
	string(w, "stdout-path", console);
	if (d->initrd.size) {
		number(w, "linux,initrd-start", d->initrd.base);
		number(w, "linux,initrd-end", d->initrd.base + d->initrd.size);
	}
	if (d->seed_size)
		bytes(w, "rng-seed", d->seed, d->seed_size);
	end(w);
}

static void memory(struct writer *w, const struct pc_fdt *d)
{
	begin_at(w, "memory", d->ram.base);
	string(w, "device_type", "memory");
	reg(w, &d->ram, 1);
	end(w);
}

/* A processor's number is what its MPIDR has in the four fields of affinity. */
static void processors(struct writer *w, const struct pc_fdt *d)
{
	begin(w, "cpus");
	cell(w, "#address-cells", 2);
	cell(w, "#size-cells", 0);
	for (unsigned i = 0; i < d->vcpus; i++) {
		uint64_t affinity = d->mpidr[i] & 0xff00ffffff;

		begin_at(w, "cpu", affinity);
		string(w, "device_type", "cpu");
		string(w, "compatible", "arm,armv8");
		string(w, "enable-method", "psci");
		number(w, "reg", affinity);
		end(w);
	}
	end(w);
}

static void firmware(struct writer *w)
{
	static const char versions[] = "arm,psci-1.0\0arm,psci-0.2";

	begin(w, "psci");
	bytes(w, "compatible", versions, sizeof(versions));
	string(w, "method", "hvc");
	end(w);
}

static void gic(struct writer *w, const struct pc_fdt *d)
{
	const struct pc_fdt_range parts[] = {d->gicd, d->gicr};

	begin_at(w, "interrupt-controller", d->gicd.base);
	string(w, "compatible", "arm,gic-v3");
	flag(w, "interrupt-controller");
	cell(w, "#interrupt-cells", 3);
	reg(w, parts, 2);
	cell(w, "phandle", GIC_HANDLE);
	cell(w, "#address-cells", 2);
	cell(w, "#size-cells", 2);
	flag(w, "ranges");
	if (d->its.size) {
		begin_at(w, "msi-controller", d->its.base);
		string(w, "compatible", "arm,gic-v3-its");
		flag(w, "msi-controller");
		cell(w, "#msi-cells", 1);
		reg(w, &d->its, 1);
		cell(w, "phandle", ITS_HANDLE);
		end(w);
	}
	end(w);
}

static void timer(struct writer *w)
{
	uint32_t interrupts[4][3];

	for (unsigned i = 0; i < 4; i++) {
		interrupts[i][0] = PRIVATE;
		interrupts[i][1] = timers[i];
		interrupts[i][2] = LEVEL_HIGH;
	}
	begin(w, "timer");
	string(w, "compatible", "arm,armv8-timer");
	cells(w, "interrupts", interrupts[0], 12);
	flag(w, "always-on");
	end(w);
}

static void serial(struct writer *w, const struct pc_fdt *d)
{
	const uint32_t interrupt[] = {SHARED, d->uart_irq, LEVEL_HIGH};

	begin_at(w, "serial", d->uart.base);
	string(w, "compatible", "ns16550a");
	reg(w, &d->uart, 1);
	cells(w, "interrupts", interrupt, 3);
	cell(w, "clock-frequency", d->uart_clock);
	end(w);
}

/* ---------------------------------------------------------------------------------- the tree --- */

size_t pc_fdt_size(const struct pc_fdt *desc)
{
	return 4096 + strlen(desc->append) + desc->seed_size + (size_t)desc->vcpus * 256;
}

int pc_fdt_make(void *at, size_t size, const struct pc_fdt *desc)
{
	struct writer w = {.at = at};

	done(&w, fdt_create(at, (int)size));
	if (!w.err)
		done(&w, fdt_finish_reservemap(at));
	begin(&w, "");
	string(&w, "model", "gpamap-pc");
	string(&w, "compatible", "linux,dummy-virt");
	cell(&w, "#address-cells", 2);
	cell(&w, "#size-cells", 2);
	cell(&w, "interrupt-parent", GIC_HANDLE);
	chosen(&w, desc);
	memory(&w, desc);
	processors(&w, desc);
	firmware(&w);
	gic(&w, desc);
	timer(&w);
	serial(&w, desc);
	end(&w);
	if (!w.err)
		done(&w, fdt_finish(at));
	return w.err;
}
