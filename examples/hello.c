/* SPDX-License-Identifier: BSD-3-Clause */
/* hello - split a VM's memory under the running guest, which must not notice.
 * cc hello.c $(pkg-config --cflags --libs gpamap) -pthread */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <gpamap.h>

#include "guest.h" /* the VM, its vCPU, its memory, the guest's code: yours */

/* All of gpamap answers with 0 or a negative errno. */
static void must(int r, const char *what)
{
	if (r < 0)
		errx(1, "%s: %s", what, strerror(-r));
}

static bool stopping;

/* The run loop. As with KVM_RUN, -EINTR says that there may have been a signal; no other exit is expected here. */
static void *run(void *vcpu)
{
	int r;

	do {
		r = gpamap_vcpu_run(vcpu);
	} while (r == -EINTR && !__atomic_load_n(&stopping, __ATOMIC_SEQ_CST));
	return (void *)(intptr_t)r;
}

/* Another protection for what the guest reads. KVM can do it only by deleting the slot under the
 * guest and making others in its place. */
static void protect(struct gpamap *map, enum gpamap_prot prot, volatile unsigned *counter)
{
	struct gpamap_commit_report done;
	struct gpamap_txn *txn;
	unsigned before = *counter;

	must(gpamap_begin(map, &txn), "begin");
	must(gpamap_protect_pages(txn, 0, WATCHED, PIECE, prot), "protect");
	must(gpamap_commit(txn, NULL, &done), "commit");
	while (*counter == before)
		usleep(1000); /* it lives */
	printf("%s: %u slot operations in %.0f us with the guest held\n",
	       prot == GPAMAP_RO ? "read-only" : "read-write", done.critical,
	       done.blackout_ns / 1e3);
}

int main(void)
{
	struct gpamap_options options = {.kick_signal = SIGUSR1};
	struct guest guest = guest_new();
	struct gpamap *map;
	struct gpamap_txn *txn;
	struct gpamap_vcpu *vcpu;
	pthread_t thread;

	/* A map for the VM, the memory in it from address 0 on, and the vCPU under the gate. */
	must(gpamap_kick_install(SIGUSR1), "kick signal");
	must(gpamap_new_kvm(guest.vm, &options, &map), "map");
	must(gpamap_begin(map, &txn), "begin");
	must(gpamap_map_pages(txn, 0, 0, 2 * PIECE, guest.memory, GPAMAP_RW), "map pages");
	must(gpamap_commit(txn, NULL, NULL), "commit");
	must(gpamap_vcpu_attach(map, guest.vcpu, guest.run, 0, &vcpu), "attach");

	if (pthread_create(&thread, NULL, run, vcpu) != 0)
		errx(1, "no thread");
	protect(map, GPAMAP_RO, guest.counter);
	protect(map, GPAMAP_RW, guest.counter);

	/* Stop the guest, as with plain KVM, and take all apart. */
	__atomic_store_n(&stopping, true, __ATOMIC_SEQ_CST);
	__atomic_store_n(&guest.run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	printf("the guest counted to %u and noticed nothing\n", *guest.counter);
	gpamap_vcpu_detach(vcpu);
	gpamap_free(map);
	return 0;
}
