/* SPDX-License-Identifier: BSD-3-Clause */
/* Transactions: begin, edit, abort. Edits are the map layer's; here they get their lock and their message. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "api/impl.h"

/* --------------------------------------------------------------------------- handles --- */

static const char ended[] = "this transaction has ended";
static const char busy[] = "another thread is committing this transaction";

/* Of any handle of a map that lives, open or not; nothing else can be read through it. */
static struct gpamap *map_of(const struct gpamap_txn *handle)
{
	return (struct gpamap *)((uintptr_t)handle & ~(GM_MAP_ALIGN - 1));
}

/* The @n-th, from 0 on. Never the map's own address. */
static struct gpamap_txn *make_handle(struct gpamap *m, uint64_t n)
{
	return (struct gpamap_txn *)((uintptr_t)m + 1 + n % (GM_MAP_ALIGN - 1));
}

/* May the calling thread use what is behind @handle? pre: edit is held. */
static int check_handle(struct gpamap *m, const struct gpamap_txn *handle)
{
	if (handle != m->open)
		return -EINVAL;
	/* In one of a commit, an edit would come too late, and the message is the commit's. */
	if (gm_in_callback(m))
		return -EDEADLK;
	return m->txn_busy ? -EBUSY : 0;
}

/* *@txn is a handle, and becomes the record behind it. Then edit is held; not on failure. */
static int lock_txn(struct gpamap_txn **txn)
{
	struct gpamap *m = map_of(*txn);
	int err;

	if (!m)
		return -EINVAL;
	pthread_mutex_lock(&m->edit);
	err = check_handle(m, *txn);
	if (err)
		pthread_mutex_unlock(&m->edit);
	else
		*txn = &m->txn;
	return err;
}

int gm_txn_use(struct gpamap_txn **txn)
{
	int err = lock_txn(txn);

	if (err)
		return err;
	(*txn)->map->txn_busy = true;
	pthread_mutex_unlock(&(*txn)->map->edit);
	return 0;
}

void gm_txn_unuse(struct gpamap_txn *txn)
{
	pthread_mutex_lock(&txn->map->edit);
	txn->map->txn_busy = false;
	pthread_mutex_unlock(&txn->map->edit);
}

/* pre: edit is held. */
static void end_locked(struct gpamap *m)
{
	m->open = NULL;
	m->txn_busy = false;
	pthread_mutex_unlock(&m->edit);
	gm_turn_pass(&m->txn_turn);
}

void gm_txn_end(struct gpamap_txn *txn)
{
	pthread_mutex_lock(&txn->map->edit);
	end_locked(txn->map);
}

/* --------------------------------------------------------------- begin, abort, messages --- */

int gpamap_begin(struct gpamap *m, struct gpamap_txn **ret)
{
	struct gm_msg msg = {""};

	/* A commit would set immediate_exit in the kvm_run that the parent's vCPU shares, and who has the edit lock may be
	 * a thread that was not forked. */
	if (getpid() != m->pid) {
		gm_fail(&msg, 0, "the map is of process %d, of which this one is a fork",
			(int)m->pid);
		return gm_map_fail(m, -EPERM, &msg);
	}
	/* Another thread's commit may wait for this one to leave the gate, with its transaction open. */
	if (gm_may_wait(m, "begin", &msg))
		return gm_map_fail(m, -EDEADLK, &msg);
	if (gm_turn_mine(&m->txn_turn)) {
		gm_fail(&msg, 0, "this thread has a transaction open already");
		return gm_map_fail(m, -EDEADLK, &msg);
	}
	gm_turn_take(&m->txn_turn);
	pthread_mutex_lock(&m->edit);
	m->txn.msg.text[0] = '\0';
	m->txn.is_stuck = false;
	m->open = *ret = make_handle(m, m->nr_begun++);
	pthread_mutex_unlock(&m->edit);
	return 0;
}

void gpamap_abort(struct gpamap_txn *txn)
{
	struct gpamap *m;

	/* It has ended, or is being committed. */
	if (lock_txn(&txn))
		return;
	m = txn->map;
	gm_edits_abort(&m->map);
	end_locked(m);
	gm_reap(m);
}

const char *gpamap_message(const struct gpamap_txn *handle)
{
	struct gpamap_txn *txn = (struct gpamap_txn *)handle;

	switch (lock_txn(&txn)) {
	case 0:
		pthread_mutex_unlock(&txn->map->edit);
		return txn->msg.text;
	case -EINVAL:
		return ended;
	case -EDEADLK:
		/* This thread's own commit, which waits for the callback. */
		return map_of(handle)->txn.msg.text;
	default:
		return busy;
	}
}

int gpamap_stuck(const struct gpamap_txn *handle, struct gpamap_stuck_info *ret)
{
	struct gpamap_txn *txn = (struct gpamap_txn *)handle;
	int err = lock_txn(&txn);

	if (err)
		return err;
	if (txn->is_stuck) {
		ret->is_vcpu = txn->stuck.is_vcpu;
		ret->vcpu_id = txn->stuck.id;
		ret->tid = txn->stuck.tid;
		memcpy(ret->listener, txn->stuck_listener, sizeof(ret->listener));
	}
	err = txn->is_stuck ? 0 : -ENOENT;
	pthread_mutex_unlock(&txn->map->edit);
	return err;
}

/* ----------------------------------------------------------------------------- edits --- */

static int edit_begin(struct gpamap_txn **txn)
{
	int err = lock_txn(txn);

	if (!err)
		(*txn)->msg.text[0] = '\0';
	return err;
}

static int edit_end(struct gpamap_txn *txn, int err)
{
	if (err)
		gm_explain(&txn->msg, err);
	pthread_mutex_unlock(&txn->map->edit);
	return err;
}

/* Do @edit, if this thread may edit now. @txn is a handle, and for @edit the record behind it. */
#define EDIT(txn, edit) (edit_begin(&(txn)) ?: edit_end((txn), (edit)))

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
