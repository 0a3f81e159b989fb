/* SPDX-License-Identifier: BSD-3-Clause */
/* Who is held while a commit does what they must not see half done, and how they go on. */
#include <errno.h>
#include <string.h>

#include "api/impl.h"
#include "base/trace.h"

static int timed_out(struct gm_commit *c, const char *what)
{
	atomic_fetch_add(&c->m->counters.timeouts, 1);
	if (c->stuck.is_vcpu)
		return gm_fail(c->msg, -ETIMEDOUT,
			       "vCPU %u (thread %d) did not come out of the gate within %u ms",
			       c->stuck.id, (int)c->stuck.tid, c->timeout_ms);
	return gm_fail(c->msg, -ETIMEDOUT,
		       "%s of thread %d did not come out of the gate within %u ms", what,
		       (int)c->stuck.tid, c->timeout_ms);
}

static int shut(struct gm_commit *c)
{
	uint64_t start = 0;
	unsigned kicked = 0;
	int err = gm_gate_shut(&c->m->gate, c->deadline_ns, &kicked, &start, &c->stuck);

	c->report.kicked += kicked;
	if (err == -ETIMEDOUT)
		return timed_out(c, "an ioctl");
	if (err)
		return gm_fail(c->msg, err, "the gate can't be shut: %s", strerror(-err));
	c->holds_gate = true;
	c->report.gate_shut = true;
	c->blackout_start = start;
	gm_trace1(gate_shut, kicked);
	gm_commit_enter(c, GM_COMMIT_SHUT);
	return 0;
}

static int shut_accessors(struct gm_commit *c)
{
	struct gm_gate *g = &c->m->accessors;
	uint64_t start;
	unsigned kicked;
	int err = c->holds_gate ? gm_gate_shut_now(g, c->deadline_ns, &kicked, &start, &c->stuck)
				: gm_gate_shut(g, c->deadline_ns, &kicked, &start, &c->stuck);

	if (err == -ETIMEDOUT)
		return timed_out(c, "an access to memory");
	if (err)
		return gm_fail(c->msg, err, "accesses can't be held up: %s", strerror(-err));
	c->holds_accessors = true;
	return 0;
}

/* An accessor may be stuck in memory, for good perhaps. So before vCPUs are made to wait for him it is seen whether all
 * come out; and those come in who still wait since the commit before. */
static int try_accessors(struct gm_commit *c)
{
	int err = shut_accessors(c);

	gm_commit_open_accessors(c);
	return err;
}

/* Accessors come after the listeners: what those wait for in quiesce may be an access. */
int gm_commit_hold(struct gm_commit *c)
{
	int err = 0;

	if (c->needs_gate && c->takes_memory)
		err = try_accessors(c);
	if (!err && c->needs_gate)
		err = shut(c);
	if (!err && c->needs_gate)
		err = gm_listen_quiesce(c);
	if (!err && c->takes_memory)
		err = shut_accessors(c);
	if (!err)
		gm_commit_enter(c, GM_COMMIT_HELD);
	return err;
}

void gm_commit_open_accessors(struct gm_commit *c)
{
	if (c->holds_accessors)
		gm_gate_open(&c->m->accessors);
	c->holds_accessors = false;
}

void gm_commit_open(struct gm_commit *c, bool changed)
{
	gm_listen_resume(c, changed);
	/* Taken before the wake: that may cost this thread its processor, to a vCPU that runs again already. */
	c->report.blackout_ns = gm_now_ns() - c->blackout_start;
	c->holds_gate = false;
	gm_gate_open(&c->m->gate);
	gm_trace1(gate_open, c->report.blackout_ns);
}
