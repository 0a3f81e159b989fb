/* SPDX-License-Identifier: BSD-3-Clause */
/* See kvm_boot.h. */
#include "kvm_boot.h"

#include <errno.h>
#include <string.h>

#include "guest_image.h"

int kvm_boot_memory(const struct arena *a)
{
	size_t size = (size_t)(__stop_guest_text - __start_guest_text);
	char *code = a->stable + STABLE_CODE;

	if (size > STABLE_CODE_SIZE)
		return -EFBIG;
	memcpy(code, __start_guest_text, size);
	arch_memory(a);
	__builtin___clear_cache(a->stable, code + STABLE_CODE_SIZE);
	return 0;
}

void kvm_boot_tables(const struct arena *a, unsigned vcpu, enum mode mode)
{
	struct guest_ctl *c = arena_ctl(a, vcpu);
	uint64_t *tables = (uint64_t *)(a->stable + boot_table_gpa(vcpu, 0) - STABLE_GPA);
	uint64_t *t = tables + TABLE_BLOCKS * WORDS;
	unsigned window = vcpu % a->windows;

	for (unsigned i = 0; i < 4; i++)
		tables[TABLE_MIDDLE * WORDS + i] =
			arch_table(boot_table_gpa(vcpu, TABLE_BLOCKS + i));
	for (unsigned i = 0; i < a->stable_size / ARENA_ALIGN; i++)
		t[i] = arch_block(STABLE_GPA + i * ARENA_ALIGN, mode, BOOT_RAM);
	t += WORDS;
	for (unsigned i = 0; i < a->size / ARENA_ALIGN; i++)
		t[i] = arch_block(RAM_GPA + a->offset + i * ARENA_ALIGN, mode, BOOT_RAM);
	t += WORDS;
	t[0] = arch_block(DOORBELL_GPA, mode, BOOT_DOORBELL);
	for (unsigned i = 0; i < SHOW_PAGES; i++)
		t[BLOCK_SHOW + i] = arch_block(arena_show_gpa(i, 0), mode, BOOT_RAM);
	t += WORDS;
	for (unsigned i = 0; c->hazard == HAZARD_PAGETABLE && i < WINDOW_PAGES; i++)
		t[i] = arch_table(arena_window_gpa(a, window) + i * PAGE);
	arch_tables(tables, vcpu);

	c->window = GVA_ARENA + arena_window_gpa(a, window) - RAM_GPA - a->offset;
	c->walk = GVA_WALK;
	c->doorbell = GVA_DOORBELL;
	for (unsigned i = 0; i < SHOW_PAGES; i++)
		c->show[i] = GVA_DOORBELL + (BLOCK_SHOW + i) * ARENA_ALIGN;
}
