/* SPDX-License-Identifier: BSD-3-Clause */
/* What goes over the seam between the two libraries (api/private.h): maps over a backend of any sort, vCPUs of the right
 * VM only, and why something was refused. */
#include "guest.h"

#include <signal.h>

#include "api/private.h"

#define ID 7

struct seam_test {
	struct gpamap_sim *sim[2];
	struct gpamap_sim_vcpu *vcpu[2];
	struct gpamap *map;
	struct once once;
};

static const struct gpamap_options options = {.kick_signal = SIGUSR1};

static int setup(void **state)
{
	struct seam_test *t = calloc(1, sizeof(*t));
	int err = gpamap_kick_install(SIGUSR1);

	assert_true(!err || err == -EBUSY);
	for (unsigned i = 0; i < 2; i++) {
		t->sim[i] = new_sim(NULL);
		t->vcpu[i] = new_vcpu(t->sim[i], ID, 0, once_guest, &t->once);
	}
	assert_int_equal(gpamap_new_sim(t->sim[0], &options, &t->map), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct seam_test *t = *state;

	gpamap_free(t->map);
	for (unsigned i = 0; i < 2; i++) {
		gpamap_sim_vcpu_free(t->vcpu[i]);
		gpamap_sim_free(t->sim[i]);
	}
	free(t);
	return 0;
}

static void expect_message(struct gpamap *map, const char *what)
{
	char message[128];

	gpamap_last_message(map, message, sizeof(message));
	if (!strstr(message, what))
		fail_msg("\"%s\" does not have \"%s\"", message, what);
}

static void test_vcpu_of_another_vm(void **state)
{
	struct seam_test *t = *state;
	struct gpamap_vcpu *vcpu = NULL;

	assert_int_equal(gpamap_sim_vcpu_attach(t->map, t->vcpu[1], &vcpu), -EINVAL);
	assert_null(vcpu);
	expect_message(t->map, "vCPU 7");
	assert_int_equal(gpamap_sim_vcpu_attach(t->map, t->vcpu[0], &vcpu), 0);
	gpamap_vcpu_detach(vcpu);
}

static void test_vcpu_of_another_sort(void **state)
{
	struct seam_test *t = *state;
	struct gpamap_vcpu *vcpu = NULL;
	struct kvm_run run = {0};

	assert_int_equal(gpamap_vcpu_attach(t->map, 0, &run, 23, &vcpu), -ENOTSUP);
	assert_null(vcpu);
	expect_message(t->map, "vCPU 23");
}

/* ------------------------------------------------------------------------- another backend --- */

static unsigned destroyed;

static void destroy(struct gm_backend *b)
{
	(void)b;
	destroyed++;
}

static int make_other(void *vm, const struct gm_alloc *alloc, struct gm_msg *msg,
		      struct gm_backend **ret)
{
	static const struct gm_backend_ops ops = {.destroy = destroy};
	struct gm_backend *b = vm;

	(void)msg;
	*b = (struct gm_backend){
		.ops = &ops,
		.alloc = alloc,
		.caps = {.limits = {.page_size = 4096, .nr_slots = 16, .nr_spaces = 1}},
	};
	*ret = b;
	return 0;
}

static int make_none(void *vm, const struct gm_alloc *alloc, struct gm_msg *msg,
		     struct gm_backend **ret)
{
	(void)vm;
	(void)alloc;
	(void)ret;
	return gm_fail(msg, -ENODEV, "nothing to make it of");
}

static void test_map_over_another(void **state)
{
	struct seam_test *t = *state;
	struct gpamap_vcpu *vcpu = NULL;
	struct gpamap *map = NULL;
	struct gm_backend b;

	destroyed = 0;
	assert_int_equal(gm_private_map_new(make_other, &b, &options, &map), 0);
	assert_int_equal(gpamap_sim_vcpu_attach(map, t->vcpu[0], &vcpu), -ENOTSUP);
	expect_message(map, "vCPU 7");
	assert_int_equal(destroyed, 0);
	gpamap_free(map);
	assert_int_equal(destroyed, 1);
}

static void test_refused(void **state)
{
	struct gpamap *const untouched = (struct gpamap *)state, *map = untouched;
	char message[64] = "";
	struct gpamap_options opt = {.message = message, .message_size = sizeof(message)};
	struct gm_backend b;

	assert_int_equal(gm_private_map_new(make_none, NULL, &opt, &map), -ENODEV);
	assert_string_equal(message, "nothing to make it of");
	assert_int_equal(gm_private_map_new(make_none, NULL, NULL, &map), -ENODEV);
	/* What the backend can't do ends it. */
	destroyed = 0;
	opt.spaces = 2;
	assert_int_equal(gm_private_map_new(make_other, &b, &opt, &map), -ENOTSUP);
	assert_int_equal(destroyed, 1);
	assert_string_not_equal(message, "nothing to make it of");
	assert_ptr_equal(map, untouched);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_vcpu_of_another_vm),
		TEST(test_vcpu_of_another_sort),
		TEST(test_map_over_another),
		TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
