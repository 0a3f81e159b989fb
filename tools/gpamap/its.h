/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The hazard `its`: interrupts that get lost. On arm64, KVM has in the kernel an ITS, the part of a GICv3 that turns
 * messages of devices into interrupts (LPIs). Its command queue and its tables are in guest memory, and KVM reads them
 * when the guest writes a register. If their slot is gone at that instant, KVM passes over the command without a word,
 * and an interrupt that the guest has mapped never comes. (The guest's own store into the queue may go nowhere, too.)
 * That way a network card lost its interrupts in some boots of a kernel for crash dumps (kdump).
 *
 * One vCPU, the first, drives the ITS: what it needs stands in pages of the windows, which edits split, protect around,
 * and give other memory. In each step it maps an interrupt, changes how it is configured, moves it to another vCPU, and
 * drops it, and asks the host for a message now and then. All vCPUs take what arrives, and note it.
 *
 *  IT1 The host does all it can for a message before the load that asks for it is done, and tells whether KVM took it.
 *  IT2 KVM has obeyed a command before the store that announces it is done. So a message finds the interrupt as the
 *      commands have made it: mapped to that vCPU, or not at all.
 *  IT3 A vCPU takes an interrupt of its own in its next instructions, for KVM hands it over when the vCPU is entered.
 *      Another vCPU may take its time.
 *
 * Meanwhile the host saves the tables again and again, as for a migration: KVM then writes them. It does that only while
 * no vCPU runs, but that is so when all are held for a change of the map.
 *
 * A message that must arrive and does not is a lost interrupt. One that arrives at another vCPU, or for an interrupt
 * that was dropped, has gone astray: so a command was passed over as well.
 */
#ifndef TORTURE_ITS_H
#define TORTURE_ITS_H

#include "guest.h"

/* The driver's device and collections, its interrupts in turns, and its events. */
#define ITS_DEVICE 7u
#define ITS_HERE 0u  /* collection of the driver */
#define ITS_THERE 1u /* collection of the other vCPU */
#define ITS_EVENT_BITS 5u
#define ITS_EVENTS (1u << ITS_EVENT_BITS)
/* An interrupt that another vCPU has taken may be known to KVM until that vCPU is entered the next time, so
 * the same number does not come again soon. The first byte of pending bits that has CONST_WORD in it is left out. */
#define ITS_LPIS 1024u
#define ITS_LPI_FIRST 8192u
#define ITS_LPI_BASE (ITS_LPI_FIRST + 64u)

/* The register frames, from `gic` on; of redistributors, one after the other, so many bytes. */
#define ITS_GIC_DIST UINT64_C(0)
#define ITS_GIC_ITS UINT64_C(0x20000)
#define ITS_GIC_REDIST UINT64_C(0x200000)
#define ITS_REDIST_SIZE UINT64_C(0x20000)
#define ITS_TRANSLATER UINT64_C(0x10040)
/* Where the frames are in guest-physical memory, and how many blocks they take with 64 vCPUs. */
#define ITS_GIC_GPA UINT64_C(0xe0000000)
#define ITS_GIC_BLOCKS 5u

/* Behind the doorbell: a load of the word of an event asks for its message, and gives 1 if KVM took it, else 0. */
#define ITS_ASK_OFFSET (2u * GUEST_PAGE)
/* The attribute of the device that saves the tables. <asm/kvm.h> has it on arm64 only. */
#define ITS_SAVE_GROUP 4u
#define ITS_SAVE_ATTR 1u

/* In stable memory, of the VM. */
struct its_ctl {
	uint64_t gic; /* where the frames are, as the guest addresses them */
	uint64_t vcpus;
	uint64_t window; /* the driver's, in guest-physical memory, as all that follow */
	uint64_t queue;
	uint64_t devices;
	uint64_t collections;
	uint64_t translations;
	uint64_t config;
	uint64_t pending; /* of the first vCPU; the next one's is a window further */
	/* The rest by guests. */
	uint64_t ready; /* vCPUs */
	uint64_t steps;
	uint64_t head; /* of the queue, in bytes */
	uint64_t asked;
	uint64_t lost;
	uint64_t astray;
	uint64_t got[ITS_LPIS]; /* how often, and in the lowest byte by which vCPU */
};

/* guest_its_NAME.c, if guest_NAME.h has GUEST_ITS: as each vCPU begins, and one step. */
__attribute__((visibility("hidden"))) void guest_its_begin(struct guest_ctl *c);
__attribute__((visibility("hidden"))) void guest_its_step(struct guest_ctl *c);

#endif
