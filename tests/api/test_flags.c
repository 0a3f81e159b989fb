/* SPDX-License-Identifier: BSD-3-Clause */
/* Flags of a map that ask for something of the backend: one that can't, one that fails, one that does. Sees the inside. */
#include "common.h"

#include "api/impl.h"
#include "backend/backend.h"

static unsigned asked;
static int answer;

static int zap_slot_only(struct gm_backend *b)
{
	(void)b;
	asked++;
	return answer;
}

static void destroy(struct gm_backend *b)
{
	(void)b;
}

/* All that is asked of the backend of an empty map. */
static const struct gm_backend_ops ops = {.zap_slot_only = zap_slot_only, .destroy = destroy};

/* A map over a backend that can or can't, and then answers with @err. */
static int new_map(struct vm *vm, bool can, int err, unsigned flags, struct gm_msg *msg,
		   struct gpamap **ret)
{
	struct gpamap_options opt = {0};
	struct gm_alloc alloc;
	struct gm_backend b = {
		.ops = &ops,
		.caps = {.limits = {.page_size = PAGE, .nr_slots = 16, .nr_spaces = 1},
			 .zap_slot_only = can},
	};
	int result;

	vm_alloc_options(vm, &opt);
	opt.flags = flags;
	alloc = (struct gm_alloc){opt.alloc, opt.free, opt.alloc_opaque};
	asked = 0;
	answer = err;
	result = gm_map_new(&b, &alloc, &opt, msg, ret);
	if (!result)
		gpamap_free(*ret);
	return result;
}

static void zap_slot_only_is_asked_for(void **state)
{
	struct gpamap *map = NULL;
	struct gm_msg msg = {""};
	struct vm vm;
	long before;

	(void)state;
	vm_open(&vm, NULL, NULL);
	before = atomic_load(&vm.alloc.live);
	ok(new_map(&vm, false, 0, 0, &msg, &map));
	assert_int_equal(asked, 0);
	ok(new_map(&vm, true, 0, GPAMAP_ZAP_SLOT_ONLY, &msg, &map));
	assert_int_equal(asked, 1);

	map = NULL;
	assert_int_equal(new_map(&vm, false, 0, GPAMAP_ZAP_SLOT_ONLY, &msg, &map), -ENOTSUP);
	assert_int_equal(asked, 0);
	assert_true(msg.text[0] != '\0');
	assert_int_equal(new_map(&vm, true, -EPERM, GPAMAP_ZAP_SLOT_ONLY, &msg, &map), -EPERM);
	assert_int_equal(asked, 1);
	assert_null(map);
	assert_int_equal(atomic_load(&vm.alloc.live), before);
	vm_close(&vm);
}

/* What else is wrong is found before anything is asked of the backend, which could not take it back. */
static void other_refusals_come_first(void **state)
{
	struct gpamap *map = NULL;
	struct gm_msg msg = {""};
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	assert_int_equal(new_map(&vm, true, 0, GPAMAP_ZAP_SLOT_ONLY | 1u << 31, &msg, &map),
			 -EINVAL);
	assert_int_equal(asked, 0);
	for (unsigned long n = 1;; n++) {
		int err;

		counting_fail(&vm.alloc, n, false);
		err = new_map(&vm, true, 0, GPAMAP_ZAP_SLOT_ONLY, &msg, &map);
		counting_fail(&vm.alloc, 0, false);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		assert_int_equal(asked, 0);
	}
	assert_int_equal(asked, 1);
	vm_close(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zap_slot_only_is_asked_for),
		cmocka_unit_test(other_refusals_come_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
