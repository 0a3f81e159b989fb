/* SPDX-License-Identifier: BSD-3-Clause */
/* What KVM_RUN gives where the host's own page tables don't allow what the guest does. */
#include <errno.h>
#include <sys/mman.h>

#include "fact.h"
#include "kvm.h"

static void protect(struct vcpu *v, int prot)
{
	need(!mprotect(test_word(v->k, 0, 0), v->k->page, prot));
}

/* A round that is refused half-way, and then done. LOOP counts, loads, and stores the count, all in the watched page. */
static void refused_round(struct vcpu *v, struct outcome *o, enum mode mode, int prot)
{
	uint64_t count = vcpu_count(v), stored = *test_word(v->k, 0, 1);
	const char *said;
	int err;

	*test_word(v->k, 0, 0) = 200;
	protect(v, prot);
	err = vcpu_run_limited(v);
	said = exit_name(v->run->exit_reason);
	expect(o, err == EFAULT, "%s: %s, exit_reason: %s", mode_name[mode], errno_name(err), said);
	measured(o, "%s: exit_reason: %s", mode_name[mode], said);
	expect(o, vcpu_saw(v) == (prot & PROT_READ ? 200 : 100), "%s: a load %s", mode_name[mode],
	       prot & PROT_READ ? "does not read it" : "reads it");
	protect(v, PROT_READ | PROT_WRITE);
	expect(o, *test_word(v->k, 0, 1) == stored, "%s: it has stored", mode_name[mode]);
	if (err != EFAULT)
		return;
	expect(o,
	       vcpu_round(v) && vcpu_saw(v) == 200 && vcpu_count(v) == count + 1 &&
		       *test_word(v->k, 0, 1) == count + 1,
	       "%s: it does not go on as if nothing had been", mode_name[mode]);
}

static void expect_refused(struct outcome *o, int prot)
{
	if (guest_missing)
		not_here(o, "%s", guest_missing);
	for (int m = USER; !guest_missing && m <= SUPERVISOR; m++) {
		struct kvm k;
		struct vcpu v;

		kvm_open(&k);
		vcpu_open(&v, &k);
		vcpu_set(&v, (enum mode)m, LOOP, TEST, true);
		expect(o, vcpu_round(&v), "%s: not even one round", mode_name[m]);
		refused_round(&v, o, (enum mode)m, prot);
		vcpu_close(&v);
		kvm_close(&k);
	}
}

static void no_access(struct outcome *o)
{
	expect_refused(o, PROT_NONE);
}

static void no_stores(struct outcome *o)
{
	expect_refused(o, PROT_READ);
}

const struct fact host_facts[] = {
	{"K65",
	 "Host memory made PROT_NONE: KVM_RUN fails with EFAULT, and once it is as before the "
	 "guest goes on as if nothing had been",
	 false, no_access},
	{"K66", "The same with PROT_READ: for stores, while loads read it", false, no_stores},
	{0},
};
