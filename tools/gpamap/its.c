/* SPDX-License-Identifier: BSD-3-Clause */
/* The host's side of the hazard `its`: what stands where in the windows, and the messages. See its.h. */
#include "its.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <time.h>

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

/* Between two savings of the tables. */
#define SAVE_PAUSE_NS 50000

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

bool its_serve(struct run *r, unsigned vcpu, struct kvm_run *k)
{
	uint64_t event = (k->mmio.phys_addr - DOORBELL_GPA - ITS_ASK_OFFSET) / 8, answer;
	struct kvm_msi msi = {
		.address_lo = (uint32_t)(ITS_GIC_GPA + ITS_GIC_ITS + ITS_TRANSLATER),
		.data = (uint32_t)event,
		.flags = KVM_MSI_VALID_DEVID,
		.devid = ITS_DEVICE,
	};

	if (r->hazard != HAZARD_ITS || event >= ITS_EVENTS || k->mmio.is_write)
		return false;
	answer = r->strategy->ioctl(r, vcpu, PORT_VM, KVM_SIGNAL_MSI, &msi) > 0;
	memcpy(k->mmio.data, &answer, sizeof(k->mmio.data));
	return true;
}

static void save(struct run *r)
{
	struct kvm_device_attr attr = {.group = ITS_SAVE_GROUP, .attr = ITS_SAVE_ATTR};
	int ret = r->strategy->ioctl(r, 0, r->its.device, KVM_SET_DEVICE_ATTR, &attr);

	/* A vCPU runs. */
	if (ret == -EBUSY)
		return;
	r->its.saves++;
	r->its.lost += ret != 0;
}

static void *saver_main(void *arg)
{
	const struct timespec pause = {.tv_nsec = SAVE_PAUSE_NS};
	struct run *r = arg;
	uint64_t *ready = &arena_its(&r->arena)->ready;

	while (!atomic_load(&r->its.stop)) {
		/* Before, there are no tables. */
		if (__atomic_load_n(ready, __ATOMIC_ACQUIRE) == r->vcpus)
			save(r);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

int its_start(struct run *r)
{
	struct saver *s = &r->its;
	int ret;

	if (r->hazard != HAZARD_ITS)
		return 0;
	ret = -pthread_create(&s->thread, NULL, saver_main, r);
	s->started = !ret;
	return ret;
}

void its_stop(struct run *r)
{
	if (!r->its.started)
		return;
	atomic_store(&r->its.stop, true);
	pthread_join(r->its.thread, NULL);
}

void its_judge(const struct run *r, struct tally *t)
{
	const struct its_ctl *its = arena_its(&r->arena);

	t->messages += its->asked;
	t->lost_interrupts += its->lost;
	t->stray_interrupts += its->astray;
	t->saves += r->its.saves;
	t->lost_saves += r->its.lost;
}
