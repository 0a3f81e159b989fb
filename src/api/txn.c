/* SPDX-License-Identifier: BSD-3-Clause */
/* Transactions: begin, edit, abort. Edits are the map layer's; here they get their lock and their message. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "api/impl.h"

/* pre: edit is held. Waiting for a condition is a point at which a thread can be cancelled, and would be with
 * the lock held. */
static void wait_for_txn(struct gpamap *m)
{
	uint64_t ticket = m->txn_tickets++;
	int cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	while (m->txn_open || m->txn_turn != ticket)
		pthread_cond_wait(&m->txn_ended, &m->edit);
	m->txn_turn++;
	pthread_setcancelstate(cancel, NULL);
}

int gpamap_begin(struct gpamap *m, struct gpamap_txn **ret)
{
	struct gm_msg msg = {""};

	/* No message: who has the lock of messages may be a thread that was not forked. A commit would set
	 * immediate_exit in the kvm_run that the parent's vCPU shares. */
	if (getpid() != m->pid)
		return -EPERM;
	/* Another thread's commit may wait for this one to leave the gate, with its transaction open. */
	if (gm_may_wait(m, "begin", &msg))
		return gm_map_fail(m, -EDEADLK, &msg);
	pthread_mutex_lock(&m->edit);
	if (m->txn_open && pthread_equal(m->txn_owner, pthread_self())) {
		pthread_mutex_unlock(&m->edit);
		gm_fail(&msg, 0, "this thread has a transaction open already");
		return gm_map_fail(m, -EDEADLK, &msg);
	}
	wait_for_txn(m);
	m->txn_open = true;
	m->txn_owner = pthread_self();
	m->txn.msg.text[0] = '\0';
	m->txn.is_stuck = false;
	pthread_mutex_unlock(&m->edit);
	*ret = &m->txn;
	return 0;
}

void gpamap_abort(struct gpamap_txn *txn)
{
	struct gpamap *m;

	if (!txn)
		return;
	m = txn->map;
	if (gm_in_callback(m))
		return; /* it is being committed */
	pthread_mutex_lock(&m->edit);
	gm_edits_abort(&m->map);
	m->txn_open = false;
	pthread_cond_broadcast(&m->txn_ended);
	pthread_mutex_unlock(&m->edit);
	gm_reap(m);
}

const char *gpamap_message(const struct gpamap_txn *txn)
{
	return txn->msg.text;
}

int gpamap_stuck(const struct gpamap_txn *txn, struct gpamap_stuck_info *ret)
{
	if (!txn->is_stuck)
		return -ENOENT;
	ret->is_vcpu = txn->stuck.is_vcpu;
	ret->vcpu_id = txn->stuck.id;
	ret->tid = txn->stuck.tid;
	memcpy(ret->listener, txn->stuck_listener, sizeof(ret->listener));
	return 0;
}

/* An edit in a callback would come too late for the commit on its way, whose message it must leave alone. */
static int edit_begin(struct gpamap_txn *txn)
{
	if (gm_in_callback(txn->map))
		return -EDEADLK;
	txn->msg.text[0] = '\0';
	pthread_mutex_lock(&txn->map->edit);
	return 0;
}

static int edit_end(struct gpamap_txn *txn, int err)
{
	pthread_mutex_unlock(&txn->map->edit);
	return err ? gm_explain(&txn->msg, err) : 0;
}

/* Do @edit, if this thread may edit @txn now. */
#define EDIT(txn, edit) (edit_begin(txn) ?: edit_end((txn), (edit)))

int gpamap_add(struct gpamap_txn *txn, struct gpamap_region *parent, uint64_t offset,
	       struct gpamap_region *child, int priority)
{
	return EDIT(txn, gm_edit_add(&txn->map->map, parent, offset, child, priority, &txn->msg));
}

int gpamap_remove(struct gpamap_txn *txn, struct gpamap_region *child)
{
	return EDIT(txn, gm_edit_remove(&txn->map->map, child, &txn->msg));
}

int gpamap_move(struct gpamap_txn *txn, struct gpamap_region *child, uint64_t offset)
{
	return EDIT(txn, gm_edit_move(&txn->map->map, child, offset, &txn->msg));
}

int gpamap_set_priority(struct gpamap_txn *txn, struct gpamap_region *child, int priority)
{
	return EDIT(txn, gm_edit_priority(&txn->map->map, child, priority, &txn->msg));
}

int gpamap_set_enabled(struct gpamap_txn *txn, struct gpamap_region *region, bool enabled)
{
	return EDIT(txn, gm_edit_enabled(&txn->map->map, region, enabled, &txn->msg));
}

int gpamap_set_readonly(struct gpamap_txn *txn, struct gpamap_region *region, bool readonly)
{
	return EDIT(txn, gm_edit_readonly(&txn->map->map, region, readonly, &txn->msg));
}

int gpamap_resize(struct gpamap_txn *txn, struct gpamap_region *region, uint64_t size)
{
	return EDIT(txn, gm_edit_resize(&txn->map->map, region, size, &txn->msg));
}

int gpamap_reback(struct gpamap_txn *txn, struct gpamap_region *region, void *hva)
{
	return EDIT(txn, gm_edit_reback(&txn->map->map, region, hva, &txn->msg));
}

int gpamap_set_target_offset(struct gpamap_txn *txn, struct gpamap_region *alias, uint64_t offset)
{
	return EDIT(txn, gm_edit_target_offset(&txn->map->map, alias, offset, &txn->msg));
}

int gpamap_set_rom_mode(struct gpamap_txn *txn, struct gpamap_region *region, bool rom)
{
	return EDIT(txn, gm_edit_rom_mode(&txn->map->map, region, rom, &txn->msg));
}

int gpamap_set_log(struct gpamap_txn *txn, struct gpamap_region *region, bool on)
{
	return EDIT(txn, gm_edit_log(&txn->map->map, region, on, &txn->msg));
}

int gpamap_map_pages(struct gpamap_txn *txn, unsigned space, uint64_t gpa, uint64_t size, void *hva,
		     enum gpamap_prot prot)
{
	return EDIT(txn, gm_ranges_map(&txn->map->map, space, gpa, size, hva, prot, &txn->msg));
}

int gpamap_map_region(struct gpamap_txn *txn, unsigned space, uint64_t gpa, uint64_t size,
		      struct gpamap_region *ram, uint64_t offset, enum gpamap_prot prot)
{
	return EDIT(txn, gm_ranges_map_region(&txn->map->map, space, gpa, size, ram, offset, prot,
					      &txn->msg));
}

int gpamap_unmap_pages(struct gpamap_txn *txn, unsigned space, uint64_t gpa, uint64_t size)
{
	return EDIT(txn, gm_ranges_unmap(&txn->map->map, space, gpa, size, &txn->msg));
}

int gpamap_protect_pages(struct gpamap_txn *txn, unsigned space, uint64_t gpa, uint64_t size,
			 enum gpamap_prot prot)
{
	return EDIT(txn, gm_ranges_protect(&txn->map->map, space, gpa, size, prot, &txn->msg));
}
