/* SPDX-License-Identifier: BSD-3-Clause */
/* For install.sh: a program as a user of the simulated VM has it, by the installed headers alone. A guest stores to the
 * memory of a map, and the map reads what it has stored. */
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <gpamap.h>
#include <gpamap-sim.h>

#define PAGE 0x10000
#define GPA (4 * PAGE)

static int step(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	const char *word = opaque;
	int r = gpamap_sim_store(vcpu, GPA + 8, word, 8);

	return r ? r : gpamap_sim_halt(vcpu);
}

static int map_page(struct gpamap *map, void *memory)
{
	struct gpamap_txn *txn;
	int r = gpamap_begin(map, &txn);

	if (r)
		return r;
	r = gpamap_map_pages(txn, 0, GPA, PAGE, memory, GPAMAP_RW);
	if (!r)
		r = gpamap_commit(txn, NULL, NULL);
	if (r)
		gpamap_abort(txn);
	return r;
}

static int store_and_read(struct gpamap *map, struct gpamap_sim *sim)
{
	char word[8] = "written", got[8] = "";
	struct gpamap_sim_vcpu *guest = NULL;
	struct gpamap_vcpu *vcpu = NULL;
	int r = gpamap_sim_vcpu_new(sim, 0, 0, step, word, &guest);

	if (!r)
		r = gpamap_sim_vcpu_attach(map, guest, &vcpu);
	if (!r)
		r = gpamap_vcpu_run(vcpu);
	if (!r && gpamap_sim_vcpu_kvm_run(guest)->exit_reason != KVM_EXIT_HLT)
		r = 1;
	if (!r)
		r = gpamap_read(map, 0, GPA + 8, got, sizeof(got));
	if (!r)
		puts(got);
	if (vcpu)
		gpamap_vcpu_detach(vcpu);
	gpamap_sim_vcpu_free(guest);
	return r;
}

int main(void)
{
	struct gpamap_options opt = {.kick_signal = SIGUSR1};
	struct gpamap_sim *sim = NULL;
	struct gpamap *map = NULL;
	void *memory = aligned_alloc(PAGE, PAGE);
	int r = gpamap_kick_install(SIGUSR1);

	if (!r)
		r = gpamap_sim_new(NULL, &sim);
	if (!r)
		r = gpamap_new_sim(sim, &opt, &map);
	if (!r)
		r = memory ? map_page(map, memory) : 1;
	if (!r)
		r = store_and_read(map, sim);
	gpamap_free(map);
	gpamap_sim_free(sim);
	free(memory);
	return r ? 1 : 0;
}
