/* SPDX-License-Identifier: BSD-3-Clause */
/* A vCPU under the gate: its life, the run wrapper, and the kick signal. */
#include "ops/vcpu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

/*
 * The handler does nothing: what counts is that a signal with one ends KVM_RUN. With the default action
 * the signal ends the process; ignored, it doesn't end KVM_RUN. SA_RESTART does not restart KVM_RUN, but a
 * program that has it expects to see no EINTR from other calls, and would.
 */
static int check_kick_signal(int signo, struct gm_msg *msg)
{
	struct sigaction act;
	sigset_t blocked;

	if (!signo)
		return gm_fail(msg, -EINVAL, "the map was made without a kick signal");
	if (sigaction(signo, NULL, &act))
		return gm_fail(msg, -EINVAL, "%d is no signal that can be caught", signo);
	if (act.sa_handler == SIG_DFL || act.sa_handler == SIG_IGN)
		return gm_fail(msg, -EINVAL,
			       "kick signal %d has no handler: see gpamap_kick_install()", signo);
	if (act.sa_flags & SA_RESTART)
		return gm_fail(msg, -EINVAL,
			       "the handler of kick signal %d is installed with SA_RESTART", signo);
	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	if (sigismember(&blocked, signo) == 1)
		return gm_fail(
			msg, -EINVAL,
			"kick signal %d is blocked in this thread: it must not be in one that "
			"runs a vCPU",
			signo);
	return 0;
}

int gm_vcpu_new(struct gpamap *map, struct gm_gate *gate, const struct gm_engine *engine,
		unsigned id, const struct gm_alloc *alloc, struct gm_msg *msg,
		struct gpamap_vcpu **ret)
{
	struct gpamap_vcpu *vcpu;
	void *raw;
	int err = check_kick_signal(gate->kick_signal, msg);

	if (err)
		return err;
	vcpu = gm_calloc_aligned(alloc, sizeof(*vcpu), GM_CACHE_LINE, &raw);
	if (!vcpu)
		return gm_fail(msg, -ENOMEM, "no memory for vCPU %u", id);
	vcpu->raw = raw;
	vcpu->engine = *engine;
	vcpu->map = map;
	vcpu->alloc = alloc;
	gm_pass_init(&vcpu->pass, gate, id, gm_engine_immediate_exit(&vcpu->engine));
	*ret = vcpu;
	return 0;
}

void gm_vcpu_free(struct gpamap_vcpu *vcpu)
{
	if (!vcpu)
		return;
	gm_pass_destroy(&vcpu->pass);
	gm_free(vcpu->alloc, vcpu->raw);
}

int gpamap_vcpu_enter(struct gpamap_vcpu *vcpu)
{
	return gm_pass_enter(&vcpu->pass);
}

void gpamap_vcpu_leave(struct gpamap_vcpu *vcpu)
{
	gm_pass_leave(&vcpu->pass);
}

/*
 * KVM_RUN has ended with EINTR: for a kick, for a signal of the application's, for its immediate_exit, or for
 * several of these at once. A handler of the application's that only sets a flag leaves no trace that we could see,
 * so whatever ends KVM_RUN is told; once too often does no harm. Where a signal can come while the thread sleeps
 * at the gate, the gate sees to it that KVM_RUN is ended (G7).
 *
 * Who is inside by another vCPU as well, and is kicked, would get no further by trying again.
 */
static int interrupted(struct gpamap_vcpu *vcpu)
{
	gm_engine_interrupted(&vcpu->engine);
	return gm_gate_inside_but(vcpu->pass.gate, &vcpu->pass) ? -EDEADLK : -EINTR;
}

int gpamap_vcpu_run(struct gpamap_vcpu *vcpu)
{
	int err;

	if (gm_gate_inside_plainly(vcpu->pass.gate, &vcpu->pass))
		return -EDEADLK;
	err = gm_pass_enter(&vcpu->pass);
	if (err)
		return err;
	err = vcpu->engine.run(&vcpu->engine);
	gm_pass_leave(&vcpu->pass);
	return err == -EINTR ? interrupted(vcpu) : err;
}

static void kick_handler(int signo)
{
	(void)signo;
}

int gpamap_kick_install(int signo)
{
	struct sigaction act = {.sa_handler = kick_handler};
	struct sigaction old;

	if (sigaction(signo, NULL, &old))
		return -EINVAL;
	if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN)
		return -EBUSY;
	sigemptyset(&act.sa_mask);
	return sigaction(signo, &act, NULL) ? -EINVAL : 0;
}
