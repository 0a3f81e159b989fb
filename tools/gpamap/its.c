/* SPDX-License-Identifier: BSD-3-Clause */
/* The host's side of the hazard `its`: what stands where in the windows, and the messages. See its.h. */
#include "its.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#include "run.h"

/*
 * By window and page. KVM takes the queue, the tables of devices and collections and the pending bits only at multiples
 * of 64 KiB, so in the first page of a window or in the 17th, which is the one that is other memory when its window is
 * rebacked. Of none of them it reads more than the first page.
 */
#define QUEUE_WINDOW 0u
#define DEVICES_WINDOW 1u /* of these the first level */
#define DEVICES2_WINDOW 2u
#define COLLECTIONS_WINDOW 3u
#define CONFIG_PAGE BACK_FIRST /* in the driver's window, two pages; they are rebacked */
#define TRANSLATIONS_PAGE (BACK_FIRST + 2u)
#define PENDING_PAGE BACK_SIGN /* in the window of each vCPU */

#define LEVEL_VALID (UINT64_C(1) << 63)

static uint64_t page_gpa(const struct arena *a, unsigned window, unsigned page)
{
	return arena_window_gpa(a, window) + page * PAGE;
}

void its_init(struct run *r)
{
	const struct arena *a = &r->arena;

	*arena_its(a) = (struct its_ctl){
		.vcpus = r->vcpus,
		.window = page_gpa(a, 0, 0),
		.queue = page_gpa(a, QUEUE_WINDOW, 0),
		.devices = page_gpa(a, DEVICES_WINDOW, 0),
		.collections = page_gpa(a, COLLECTIONS_WINDOW, 0),
		.translations = page_gpa(a, 0, TRANSLATIONS_PAGE),
		.config = page_gpa(a, 0, CONFIG_PAGE),
		.pending = page_gpa(a, 0, PENDING_PAGE),
	};
	*arena_page(a, DEVICES_WINDOW, 0) = LEVEL_VALID | page_gpa(a, DEVICES2_WINDOW, 0);
	for (unsigned i = 0; i < r->vcpus; i++) {
		arena_ctl(a, i)->its = STABLE_GPA + STABLE_ITS;
		arena_ctl(a, i)->vcpu = i;
	}
}

static uint64_t send(struct run *r, unsigned vcpu, unsigned event)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)(ITS_GIC_GPA + ITS_GIC_ITS + ITS_TRANSLATER),
		.data = event,
		.flags = KVM_MSI_VALID_DEVID,
		.devid = ITS_DEVICE,
	};

	return r->strategy->ioctl(r, vcpu, PORT_VM, KVM_SIGNAL_MSI, &msi) > 0 ? ITS_DONE
									      : ITS_REFUSED;
}

static uint64_t save(struct run *r, unsigned vcpu)
{
	struct kvm_device_attr attr = {.group = ITS_SAVE_GROUP, .attr = ITS_SAVE_ATTR};
	int ret = r->strategy->ioctl(r, vcpu, r->its, KVM_SET_DEVICE_ATTR, &attr);

	if (ret == -EBUSY)
		return ITS_BUSY;
	return ret ? ITS_REFUSED : ITS_DONE;
}

bool its_serve(struct run *r, unsigned vcpu, struct kvm_run *k)
{
	uint64_t what = (k->mmio.phys_addr - DOORBELL_GPA - ITS_ASK_OFFSET) / 8, answer;

	if (r->hazard != HAZARD_ITS || what > ITS_ASK_SAVE || k->mmio.is_write)
		return false;
	answer = what == ITS_ASK_SAVE ? save(r, vcpu) : send(r, vcpu, (unsigned)what);
	memcpy(k->mmio.data, &answer, sizeof(k->mmio.data));
	return true;
}

void its_judge(const struct run *r, struct tally *t)
{
	const struct its_ctl *its = arena_its(&r->arena);

	t->messages += its->asked;
	t->lost_interrupts += its->lost;
	t->stray_interrupts += its->astray;
	t->saves += its->saves;
	t->lost_saves += its->unsaved;
}
