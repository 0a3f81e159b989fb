/* SPDX-License-Identifier: BSD-3-Clause */
/* What a kernel finds when it begins on arm64: itself, an initrd, and a device tree that says where the rest is. */
#include <errno.h>
#include <libfdt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "arch.h"
#include "arm64.h"
#include "fdt_arm64.h"
#include "image_arm64.h"
#include "load_file.h"
#include "serial_16550.h"

#define UART_CLOCK 1843200

/* Reads what the kernel is, and whether this processor can run it. */
static int look_at_kernel(struct pc *pc, const struct pc_file *kernel, struct pc_image *image)
{
	uint8_t header[PC_IMAGE_HEADER];
	size_t size = kernel->size < sizeof(header) ? kernel->size : sizeof(header);
	uint64_t mmfr0;
	int r = pc_file_read(kernel, 0, header, size, &pc->error);

	r = r < 0 ? r : pc_image_check(header, size, kernel->path, image, &pc->error);
	if (r < 0)
		return r;
	r = pc_cpu_get(&pc->vcpus[0], ARM64_MMFR0, &mmfr0);
	if (r < 0)
		return pc_fail(&pc->error, r, "ID_AA64MMFR0_EL1 can't be read: %s", strerror(-r));
	return pc_image_check_pages(image, mmfr0, kernel->path, &pc->error);
}

static int write_tree(struct pc *pc, const struct pc_fdt *fdt, uint64_t gpa)
{
	void *at = pc_ram_at(&pc->ram, gpa, PC_FDT_ROOM);
	size_t size = pc_fdt_size(fdt);
	int r;

	if (size > PC_FDT_ROOM)
		return pc_fail(&pc->error, -E2BIG,
			       "the device tree has %zu bytes; Linux takes %llu", size,
			       (unsigned long long)PC_FDT_ROOM);
	r = pc_fdt_make(at, size, fdt);
	if (r < 0)
		return pc_fail(&pc->error, -EIO, "no device tree: %s", fdt_strerror(r));
	return 0;
}

static int describe(struct pc *pc, uint64_t gpa, uint64_t initrd, uint64_t initrd_size)
{
	struct pc_arm64 *arm = pc->arch;
	unsigned count = pc->options.cpus;
	uint8_t seed[64];
	struct pc_fdt fdt = {
		.ram = {ARM64_RAM, pc->ram.size},
		.initrd = {initrd, initrd_size},
		.append = pc->options.append ? pc->options.append : "",
		.vcpus = count,
		.gicd = {ARM64_GICD, ARM64_GICD_SIZE},
		.gicr = {ARM64_GICR, (uint64_t)count * ARM64_GICR_SIZE},
		.its = {ARM64_ITS, arm->its < 0 ? 0 : ARM64_ITS_SIZE},
		.uart = {ARM64_UART, PC_SERIAL_SIZE},
		.uart_irq = ARM64_UART_IRQ,
		.uart_clock = UART_CLOCK,
		.seed = seed,
	};
	uint64_t *mpidr = calloc(count, sizeof(*mpidr));
	int r = 0;

	if (!mpidr)
		return pc_fail(&pc->error, -ENOMEM, "no memory");
	fdt.mpidr = mpidr;
	if (getrandom(seed, sizeof(seed), 0) == sizeof(seed))
		fdt.seed_size = sizeof(seed);
	for (unsigned i = 0; i < count && r == 0; i++)
		r = pc_cpu_get(&pc->vcpus[i], ARM64_MPIDR, &mpidr[i]);
	if (r < 0)
		pc_fail(&pc->error, r, "MPIDR_EL1 can't be read: %s", strerror(-r));
	else
		r = write_tree(pc, &fdt, gpa);
	free(mpidr);
	return r;
}

/* The first vCPU: at the kernel's first byte, with the tree's address in x0. All else KVM's reset has left as it has to
 * be: at EL1, interrupts masked, MMU off. */
static int point(struct pc *pc, uint64_t kernel, uint64_t fdt)
{
	int r = pc_cpu_set(&pc->vcpus[0], ARM64_CORE(pc), kernel);

	r = r < 0 ? r : pc_cpu_set(&pc->vcpus[0], ARM64_CORE(regs[0]), fdt);
	return r < 0 ? pc_fail(&pc->error, r, "vCPU 0 can't be set: %s", strerror(-r)) : 0;
}

static int load(struct pc *pc, const struct pc_file *kernel, const struct pc_file *initrd)
{
	struct pc_image_places at;
	struct pc_image image;
	int r = look_at_kernel(pc, kernel, &image);

	r = r < 0 ? r
		  : pc_image_place(&image, initrd->size, ARM64_RAM, pc->ram.size, &at, &pc->error);
	/* A file may be longer than what it wants in memory, if it is signed. */
	if (r == 0)
		r = pc_file_load(kernel, 0, kernel->size < image.size ? kernel->size : image.size,
				 &pc->ram, at.kernel, &pc->error);
	if (r == 0 && initrd->size)
		r = pc_file_load(initrd, 0, initrd->size, &pc->ram, at.initrd, &pc->error);
	r = r < 0 ? r : describe(pc, at.fdt, at.initrd, initrd->size);
	return r < 0 ? r : point(pc, at.kernel, at.fdt);
}

int arch_load(struct pc *pc)
{
	struct pc_file kernel, initrd = {.fd = -1};
	size_t length = pc->options.append ? strlen(pc->options.append) : 0;
	int r;

	if (length > PC_COMMAND_LINE)
		return pc_fail(&pc->error, -E2BIG,
			       "the command line has %zu bytes; Linux takes %d on arm64", length,
			       PC_COMMAND_LINE);
	r = pc_file_open(&kernel, "kernel", pc->options.kernel, &pc->error);
	if (r < 0)
		return r;
	if (pc->options.initrd)
		r = pc_file_open(&initrd, "initrd", pc->options.initrd, &pc->error);
	r = r < 0 ? r : load(pc, &kernel, &initrd);
	pc_file_close(&initrd);
	pc_file_close(&kernel);
	return r;
}
