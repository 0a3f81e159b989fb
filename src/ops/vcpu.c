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

static uint8_t immediate_exit(struct gpamap_vcpu *vcpu)
{
	return atomic_load(vcpu->pass.immediate_exit);
}

/*
 * KVM_RUN has ended with EINTR. Is that a matter of the gate alone, so that it is to be run again? Not if the
 * caller set immediate_exit. Not if the thread is still inside by an outer hold, either: the inhibitor
 * waits for that, and only the caller can give it back.
 *
 * @kicked is what the leave said. The value of immediate_exit alone counts, too: KVM_RUN may have seen it
 * before the mark was made; the mark then is taken back by a later leave.
 */
static bool only_a_kick(struct gpamap_vcpu *vcpu, uint8_t seen, bool kicked)
{
	if (!kicked && seen != GM_KICKED)
		return false;
	return immediate_exit(vcpu) != 1 && !gm_pass_busy(&vcpu->pass) &&
	       !gm_gate_inside_but(vcpu->pass.gate, &vcpu->pass);
}

int gpamap_vcpu_run(struct gpamap_vcpu *vcpu)
{
	for (;;) {
		uint8_t seen;
		bool kicked;
		int err = gm_pass_enter(&vcpu->pass);

		if (err)
			return err;
		err = vcpu->engine.run(&vcpu->engine);
		seen = immediate_exit(vcpu);
		kicked = gm_pass_leave(&vcpu->pass);
		if (err != -EINTR || !only_a_kick(vcpu, seen, kicked))
			return err;
	}
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
