/* SPDX-License-Identifier: BSD-3-Clause */
/* KVM's rules: the limits of a slot, what two slots can't share, what may change in place, words for errnos. */
#include <errno.h>

#include "plan/kvm_rules.h"
#include "world.h"

static const struct gm_kvm_limits limits = {
	.page_size = PAGE,
	.last_gpa = (UINT64_C(1) << 40) - 1,
	.last_hva = (UINT64_C(1) << 47) - 1,
	.max_slot_pages = GM_KVM_MAX_SLOT_PAGES,
	.nr_slots = 8,
	.nr_spaces = 2,
	.readonly_mem = true,
	.guest_memfd = true,
	.log = true,
};

static struct gm_slot slot(uint64_t first, uint64_t n)
{
	return (struct gm_slot){.gpa = pages(first, n), .hva = region_hva(0), .gmem_fd = -1};
}

static struct gm_slot gmem_slot(uint64_t first, uint64_t n, int fd, uint64_t at)
{
	struct gm_slot s = slot(first, n);

	s.flags = GM_SLOT_GUEST_MEMFD;
	s.gmem_fd = fd;
	s.gmem_offset = at * PAGE;
	return s;
}

/* The errno, and that the message says @word. */
static void refused(const struct gm_kvm_limits *l, struct gm_slot s, int err, const char *word)
{
	struct gm_msg msg = {""};

	assert_int_equal(gm_rules_check_slot(l, &s, &msg), err);
	if (!strstr(msg.text, word))
		fail_msg("\"%s\" does not say \"%s\"", msg.text, word);
}

static void allowed(const struct gm_kvm_limits *l, struct gm_slot s)
{
	struct gm_msg msg = {""};

	if (gm_rules_check_slot(l, &s, &msg))
		fail_msg("%s", msg.text);
}

static void test_greatest_gpa(void **state)
{
	struct gm_kvm_limits unknown = limits;
	uint64_t top = (limits.last_gpa + 1) / PAGE, end = UINT64_MAX / PAGE + 1;

	(void)state;
	unknown.last_gpa = GM_NO_LIMIT;
	allowed(&limits, slot(top - 2, 2));
	refused(&limits, slot(top - 2, 3), -ERANGE, "greatest address is 0xffffffffff");
	refused(&limits, slot(top, 1), -ERANGE, "greatest address");
	allowed(&unknown, slot(top, 1));
	allowed(&unknown, slot(end - 2, 1));
	refused(&unknown, slot(end - 2, 2), -ERANGE, "2^64");
	refused(&limits, slot(end - 1, 1), -ERANGE, "2^64");
}

static void test_host_memory(void **state)
{
	struct gm_kvm_limits unknown = limits;
	struct gm_slot s = slot(0, 2);

	(void)state;
	unknown.last_hva = GM_NO_LIMIT;
	s.hva = limits.last_hva + 1 - 2 * PAGE;
	allowed(&limits, s);
	s.hva += PAGE;
	refused(&limits, s, -ERANGE, "beyond user space");
	allowed(&unknown, s);
	s.hva = UINT64_MAX + 1 - PAGE;
	refused(&unknown, s, -EINVAL, "wraps");
	s.hva = 1;
	refused(&limits, s, -EINVAL, "misaligned");
}

static void test_size_and_numbers(void **state)
{
	struct gm_kvm_limits wide = limits;
	struct gm_slot s = slot(0, GM_KVM_MAX_SLOT_PAGES);

	(void)state;
	wide.last_gpa = wide.last_hva = GM_NO_LIMIT;
	allowed(&wide, s);
	refused(&wide, slot(0, GM_KVM_MAX_SLOT_PAGES + 1), -ERANGE, "0x7fffffff pages");
	s = slot(0, 1);
	s.gpa.last--;
	refused(&limits, s, -EINVAL, "whole pages");
	s = slot(0, 1);
	s.gpa.first++;
	refused(&limits, s, -EINVAL, "whole pages");
	s = slot(0, 1);
	s.id = 7;
	s.space = 1;
	allowed(&limits, s);
	s.id = 8;
	refused(&limits, s, -ERANGE, "slot 8");
	s.id = 7;
	s.space = 2;
	refused(&limits, s, -ERANGE, "address space 2");
}

static void test_what_a_vm_has(void **state)
{
	struct gm_kvm_limits poor = limits;
	struct gm_slot s = slot(0, 1), g = gmem_slot(0, 2, 5, 0);

	(void)state;
	poor.readonly_mem = poor.guest_memfd = poor.log = false;
	s.flags = GM_SLOT_READONLY | GM_SLOT_LOG;
	allowed(&limits, s);
	s.flags = GM_SLOT_READONLY;
	refused(&poor, s, -ENOTSUP, "read-only");
	s.flags = GM_SLOT_LOG;
	refused(&poor, s, -ENOTSUP, "dirty ring");
	s.flags = 1u << 3;
	refused(&limits, s, -EINVAL, "unknown flag");
	allowed(&limits, g);
	refused(&poor, g, -ENOTSUP, "guest_memfd");
	g.flags |= GM_SLOT_LOG;
	refused(&limits, g, -EINVAL, "nor a dirty log");
	g.flags = GM_SLOT_GUEST_MEMFD | GM_SLOT_READONLY;
	refused(&limits, g, -EINVAL, "read-only");
	g = gmem_slot(0, 2, 5, UINT64_MAX / PAGE);
	refused(&limits, g, -EINVAL, "wraps");
	g.gmem_offset = 8;
	refused(&limits, g, -EINVAL, "misaligned");
}

static bool clash(struct gm_slot a, struct gm_slot b)
{
	assert_int_equal(gm_rules_clash(&a, &b), gm_rules_clash(&b, &a));
	return gm_rules_clash(&a, &b);
}

static void test_clash(void **state)
{
	uint64_t end = UINT64_MAX / PAGE + 1;
	struct gm_slot other = slot(4, 4);

	(void)state;
	assert_true(clash(slot(4, 4), slot(7, 1)));
	assert_true(clash(slot(4, 4), slot(0, 5)));
	assert_false(clash(slot(4, 4), slot(8, 4)));
	assert_false(clash(slot(4, 4), slot(0, 4)));
	other.space = 1;
	assert_false(clash(slot(4, 4), other));
	/* The same pages of a file, wherever they are shown. */
	assert_true(clash(gmem_slot(0, 4, 5, 8), gmem_slot(100, 1, 5, 11)));
	assert_false(clash(gmem_slot(0, 4, 5, 8), gmem_slot(100, 1, 5, 12)));
	assert_false(clash(gmem_slot(0, 4, 5, 8), gmem_slot(100, 8, 5, 0)));
	assert_true(clash(gmem_slot(0, 4, 5, 8), gmem_slot(100, 9, 5, 0)));
	assert_false(clash(gmem_slot(0, 4, 5, 8), gmem_slot(100, 4, 6, 8)));
	assert_true(clash(gmem_slot(0, 4, 5, end - 4), gmem_slot(100, 1, 5, end - 1)));
	other = gmem_slot(0, 4, 5, 8);
	other.space = 1;
	assert_true(clash(gmem_slot(0, 4, 5, 8), other));
	/* Without the flag the fields mean nothing. */
	other.flags = 0;
	assert_false(clash(gmem_slot(0, 4, 5, 8), other));
}

static void test_in_place(void **state)
{
	struct gm_slot a = slot(4, 4), b = a;

	(void)state;
	assert_null(gm_rules_why_not_in_place(&a, &b));
	assert_int_equal(gm_rules_tell(&a, &b), 0);
	b.flags = GM_SLOT_LOG;
	assert_null(gm_rules_why_not_in_place(&a, &b));
	assert_int_equal(gm_rules_tell(&a, &b), GM_OP_FLAGS);
	b.gpa = pages(6, 4);
	assert_null(gm_rules_why_not_in_place(&a, &b));
	assert_int_equal(gm_rules_tell(&a, &b), GM_OP_MOVE);
	b.gpa = pages(4, 5);
	assert_non_null(gm_rules_why_not_in_place(&a, &b));
	b = a;
	b.hva += PAGE;
	assert_non_null(gm_rules_why_not_in_place(&a, &b));
	b = a;
	b.flags = GM_SLOT_READONLY;
	assert_non_null(gm_rules_why_not_in_place(&a, &b));
	b = a;
	b.id = 1;
	assert_non_null(gm_rules_why_not_in_place(&a, &b));
	a = b = gmem_slot(4, 4, 5, 0);
	b.gpa = pages(8, 4);
	assert_non_null(gm_rules_why_not_in_place(&a, &b));
	b.flags = 0;
	assert_non_null(gm_rules_why_not_in_place(&a, &b));
	assert_non_null(gm_rules_why_not_in_place(&b, &a));
}

static void test_table(void **state)
{
	(void)state;
	assert_null(gm_rule_of((enum gm_op_kind)0));
	assert_null(gm_rule_of((enum gm_op_kind)(GM_OP_FLAGS + 1)));
	for (enum gm_op_kind k = GM_OP_CREATE; k <= GM_OP_FLAGS; k++) {
		const struct gm_rule *r = gm_rule_of(k);

		assert_non_null(r->name);
		assert_true(*r->kernel && *r->facts);
		/* Only what makes a slot INVALID can leave a trace of that. */
		assert_true(r->invalid || !r->leaves_trace);
		/* To a slot with a guest_memfd nothing is done in place. */
		assert_true(!r->guest_memfd || k == GM_OP_CREATE || k == GM_OP_DELETE);
	}
	assert_true(gm_rule_of(GM_OP_MOVE)->leaves_trace);
	assert_false(gm_rule_of(GM_OP_CREATE)->leaves_trace);
	assert_false(gm_rule_of(GM_OP_DELETE)->leaves_trace);
	assert_false(gm_rule_of(GM_OP_FLAGS)->leaves_trace);
}

static void explains(enum gm_op_kind kind, int err, const char *word)
{
	const char *text = gm_rules_explain(kind, err);

	if (!strstr(text, word))
		fail_msg("kind %d, errno %d: \"%s\" does not say \"%s\"", kind, err, text, word);
	/* Together with what it is added to, it has to fit into a message. */
	assert_true(strlen(text) < sizeof(((struct gm_msg *)NULL)->text) - 90);
}

static void test_words(void **state)
{
	(void)state;
	explains(GM_OP_CREATE, -EEXIST, "TSS");
	explains(GM_OP_MOVE, -EEXIST, "not this map's");
	explains(GM_OP_CREATE, -EINVAL, "gpamap_reserve_slots");
	explains(GM_OP_MOVE, -EINVAL, "KVMGT");
	explains(GM_OP_DELETE, -EINVAL, "somebody else");
	explains(GM_OP_FLAGS, -EINVAL, "somebody else");
	explains(GM_OP_CREATE, -EFAULT, "beyond");
	explains(GM_OP_DELETE, -ENOMEM, "cgroup");
	assert_string_equal(gm_rules_explain(GM_OP_CREATE, -EXDEV), "");
	assert_string_equal(gm_rules_explain(GM_OP_CREATE, 0), "");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greatest_gpa),
		cmocka_unit_test(test_host_memory),
		cmocka_unit_test(test_size_and_numbers),
		cmocka_unit_test(test_what_a_vm_has),
		cmocka_unit_test(test_clash),
		cmocka_unit_test(test_in_place),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests_name("plan/kvm_rules", tests, NULL, NULL);
}
