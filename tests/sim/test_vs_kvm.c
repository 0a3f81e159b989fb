/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Is the simulated VM true to KVM? Random slot ioctls, legal and not, are given to a real VM and to a
 * simulated one with its limits: both must answer the same, call by call. It runs no guest.
 *
 * Where the two may differ, by design, and what is therefore not asked:
 *  - User memory ends at 2^47 less a page (x86) for the simulated VM; for a kernel with 5-level page tables
 *    it ends later.
 *  - The simulated guest_memfd is endless, and no file of another sort is told from it.
 *  - The flag of a guest_memfd slot is not cleared in place: kernels before 6.19 allow it, and are harmed.
 *  - The metadata of huge slots may not find memory in the kernel.
 */
#include "guest.h"

#include <fcntl.h>
#include <sys/ioctl.h>

/* Linux 6.8; the headers may be older. */
struct region2 {
	uint32_t slot;
	uint32_t flags;
	uint64_t gpa;
	uint64_t size;
	uint64_t hva;
	uint64_t guest_memfd_offset;
	uint32_t guest_memfd;
	uint32_t pad1;
	uint64_t pad2[14];
};
struct create_guest_memfd {
	uint64_t size;
	uint64_t flags;
	uint64_t reserved[6];
};
#define SET_REGION2 _IOW(KVMIO, 0x49, struct region2)
#define CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct create_guest_memfd)
#define CAP_REGION2 231
#define CAP_MEMORY_ATTRIBUTES 233
#define CAP_GUEST_MEMFD 234
#define CAP_GUEST_MEMFD_FLAGS 244

#define CALLS 20000
#define IDS 6	      /* few, so that they are met again */
#define GPA_PAGES 48  /* so are places */
#define FILE_PAGES 64 /* of a guest_memfd */
#define HVA UINT64_C(0x10000000)
#define MEMFD GPAMAP_SIM_GUEST_MEMFD

struct pair {
	int kvm;
	int vm;
	struct gpamap_sim *sim;
	unsigned spaces;
	uint32_t slots;
	unsigned gpa_bits;
	bool region2;
	int file[2]; /* guest_memfds, or -1 */
	/* Slots that there are, by space and id; size 0: none. */
	struct gpamap_sim_slot have[2][IDS];
	unsigned answers[4]; /* see answer_kinds */
};

static uint64_t random_state;

static uint32_t below(uint32_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(random_state >> 33) % n;
}

static bool one_in(uint32_t n)
{
	return below(n) == 0;
}

/* -------------------------------------------------------------------------- the real one --- */

static int kvm_set(struct pair *p, const struct gpamap_sim_slot *s)
{
	struct kvm_userspace_memory_region one = {s->slot, s->flags, s->gpa, s->size, s->hva};
	struct region2 two = {
		.slot = s->slot,
		.flags = s->flags,
		.gpa = s->gpa,
		.size = s->size,
		.hva = s->hva,
		.guest_memfd_offset = s->guest_memfd_offset,
		.guest_memfd = s->guest_memfd,
	};
	int r;

	if (p->region2 && (s->flags & MEMFD || one_in(2)))
		r = ioctl(p->vm, SET_REGION2, &two);
	else
		r = ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &one);
	return r ? -errno : 0;
}

static int kvm_dirty(struct pair *p, uint32_t slot, uint64_t *bits)
{
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bits};

	return ioctl(p->vm, KVM_GET_DIRTY_LOG, &log) ? -errno : 0;
}

/* The greatest GPA that a slot may have, in bits; 0: none of those tried. */
static unsigned probe_gpa_bits(struct pair *p)
{
	struct gpamap_sim_slot s = {.size = page_size, .hva = HVA};

	for (unsigned bits = 57; bits >= 32; bits--) {
		s.gpa = (UINT64_C(1) << bits) - page_size;
		s.size = page_size;
		if (kvm_set(p, &s))
			continue;
		s.size = 0;
		assert_int_equal(kvm_set(p, &s), 0);
		return bits;
	}
	return 0;
}

static int cap(struct pair *p, int what)
{
	int r = ioctl(p->vm, KVM_CHECK_EXTENSION, what);

	return r < 0 ? 0 : r;
}

static void make_files(struct pair *p)
{
	struct create_guest_memfd req = {.size = FILE_PAGES * page_size};

	/* A VM without private memory may want them so: for the host to see (arm64). */
	if (!cap(p, CAP_MEMORY_ATTRIBUTES))
		req.flags = (uint64_t)cap(p, CAP_GUEST_MEMFD_FLAGS);
	for (unsigned i = 0; i < 2; i++)
		p->file[i] = cap(p, CAP_GUEST_MEMFD) ? ioctl(p->vm, CREATE_GUEST_MEMFD, &req) : -1;
}

/* With what errno a page is refused that is bound already: Linux 7.2 has changed it. 0: it is not refused. */
static int bound_twice(struct pair *p)
{
	struct gpamap_sim_slot s = {
		.flags = MEMFD,
		.size = page_size,
		.hva = HVA,
		.guest_memfd = (uint32_t)p->file[0],
	};
	struct gpamap_sim_slot again = s;
	int err;

	again.slot = 1;
	again.gpa = page_size;
	assert_int_equal(kvm_set(p, &s), 0);
	err = kvm_set(p, &again);
	for (s.size = 0; s.slot < (err ? 1 : 2); s.slot++)
		assert_int_equal(kvm_set(p, &s), 0);
	return err;
}

/* NULL, or why there's no real VM. */
static const char *open_vm(struct pair *p)
{
	const char *path = getenv("GPAMAP_KVM_DEVICE");

	page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	p->vm = -1;
	p->kvm = open(path ? path : "/dev/kvm", O_RDWR | O_CLOEXEC);
	if (p->kvm < 0)
		return "the KVM device can't be opened";
	p->vm = ioctl(p->kvm, KVM_CREATE_VM, 0);
	if (p->vm < 0)
		return "the KVM device makes no VM";
	return NULL;
}

static int setup(void **state)
{
	struct pair *p = *state;
	struct gpamap_sim_options opt = {0};
	int spaces = cap(p, KVM_CAP_MULTI_ADDRESS_SPACE);

	p->region2 = cap(p, CAP_REGION2);
	make_files(p);
	p->spaces = spaces > 1 ? 2 : 1;
	p->slots = (uint32_t)cap(p, KVM_CAP_NR_MEMSLOTS);
	p->gpa_bits = probe_gpa_bits(p);
	assert_true(p->gpa_bits > 0);
	opt.spaces = p->spaces;
	opt.slots = p->slots;
	opt.gpa_bits = p->gpa_bits;
	if (!cap(p, KVM_CAP_READONLY_MEM))
		opt.flags |= GPAMAP_SIM_NO_READONLY;
	if (p->file[0] < 0)
		opt.flags |= GPAMAP_SIM_NO_REGION2;
	else if (bound_twice(p) == -EEXIST)
		opt.flags |= GPAMAP_SIM_GMEM_EEXIST;
	p->sim = new_sim(&opt);
	print_message("%u spaces, %u slots, %u bits of GPA, guest_memfd: %s\n", p->spaces, p->slots,
		      p->gpa_bits,
		      p->file[0] < 0			   ? "no"
		      : opt.flags & GPAMAP_SIM_GMEM_EEXIST ? "yes, EEXIST"
							   : "yes, EINVAL");
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	gpamap_sim_free(p->sim);
	for (unsigned i = 0; i < 2; i++) {
		if (p->file[i] >= 0)
			close(p->file[i]);
	}
	close(p->vm);
	close(p->kvm);
	return 0;
}

/* --------------------------------------------------------------------------------- requests --- */

static uint32_t random_slot(struct pair *p)
{
	uint32_t odd[] = {p->slots, p->slots - 1, 0xffff, p->spaces << 16, UINT32_MAX};

	if (one_in(40))
		return odd[below(5)];
	return below(p->spaces) << 16 | below(IDS);
}

static uint32_t random_flags(struct pair *p)
{
	uint32_t flags = 0;

	if (one_in(3))
		flags |= GPAMAP_SIM_LOG_DIRTY;
	if (one_in(6))
		flags |= GPAMAP_SIM_READONLY;
	if (p->file[0] >= 0 && one_in(4))
		flags |= MEMFD;
	if (one_in(40))
		flags |= 1u << (3 + below(29));
	return flags;
}

static uint64_t random_gpa(struct pair *p)
{
	uint64_t top = UINT64_C(1) << p->gpa_bits;
	uint64_t odd[] = {
		top, top - page_size, top - 2 * page_size, -page_size, -2 * page_size, 0, top / 2,
	};

	if (one_in(15))
		return odd[below(sizeof(odd) / sizeof(odd[0]))];
	return below(GPA_PAGES) * page_size + (one_in(40) ? 1u << below(12) : 0);
}

static uint64_t random_size(void)
{
	uint64_t odd[] = {
		UINT64_C(1) << 43, UINT64_C(1) << 63, -page_size, 1, page_size / 2, page_size + 8,
	};

	if (one_in(20))
		return odd[below(6)];
	return one_in(6) ? 0 : (1 + below(8)) * page_size;
}

static uint64_t random_hva(void)
{
	uint64_t odd[] = {
		0, -page_size, UINT64_C(1) << 63, UINT64_C(0xffff800000000000), HVA + 1, HVA + 512,
	};

	if (one_in(20))
		return odd[below(6)];
	return HVA + below(3) * 16 * page_size;
}

static void random_file(struct pair *p, struct gpamap_sim_slot *s)
{
	uint64_t odd[] = {1, page_size / 2, -page_size};

	s->guest_memfd = one_in(5) ? UINT32_MAX : (uint32_t)p->file[below(2)];
	s->guest_memfd_offset = one_in(20) ? odd[below(3)] : below(FILE_PAGES - 8) * page_size;
}

static struct gpamap_sim_slot *had(struct pair *p, uint32_t slot)
{
	if (slot >> 16 >= p->spaces || (slot & 0xffff) >= IDS)
		return NULL;
	return &p->have[slot >> 16][slot & 0xffff];
}

/* A slot that there is, with up to two fields changed; or a new one. */
static void random_request(struct pair *p, struct gpamap_sim_slot *s)
{
	uint32_t slot = random_slot(p);
	struct gpamap_sim_slot *h = had(p, slot);
	unsigned changes = below(3);

	memset(s, 0, sizeof(*s));
	if (h && h->size && !one_in(4)) {
		*s = *h;
		while (changes--) {
			switch (below(6)) {
			case 0:
				s->flags ^= GPAMAP_SIM_LOG_DIRTY;
				break;
			case 1:
				s->flags ^= 1u << below(2);
				break;
			case 2:
				s->gpa = random_gpa(p);
				break;
			case 3:
				s->size = random_size();
				break;
			case 4:
				s->hva = random_hva();
				break;
			default:
				s->gpa += page_size;
			}
		}
	} else {
		s->flags = random_flags(p);
		s->gpa = random_gpa(p);
		s->size = random_size();
		s->hva = random_hva();
		random_file(p, s);
	}
	s->slot = slot;
	/* See above: what would harm some kernels. */
	if (h && h->size && h->flags & MEMFD && s->size)
		s->flags |= MEMFD;
}

/* ------------------------------------------------------------------------------------ tests --- */

static const int answer_kinds[] = {0, EINVAL, EEXIST, EBADF};

static void note(struct pair *p, const struct gpamap_sim_slot *s, int answer)
{
	struct gpamap_sim_slot *h = had(p, s->slot);

	for (unsigned i = 0; i < 4; i++)
		p->answers[i] += answer == -answer_kinds[i];
	if (!answer && h)
		*h = *s;
}

/* Beyond the greatest GPA the simulated VM answers as x86 does. Elsewhere KVM looks later, and says EFAULT. */
static bool same_refusal(struct pair *p, const struct gpamap_sim_slot *s, int want, int got)
{
#if defined(__x86_64__)
	(void)p;
	(void)s;
	(void)want;
	(void)got;
	return false;
#else
	return got == -EINVAL && (want == -EFAULT || want == -EEXIST) &&
	       s->gpa + s->size > UINT64_C(1) << p->gpa_bits;
#endif
}

static void ask_both(struct pair *p, const struct gpamap_sim_slot *s, unsigned call)
{
	int want = kvm_set(p, s), got = gpamap_sim_set_slot(p->sim, s);
	const struct gpamap_sim_slot *h = had(p, s->slot);

	if (got == want || same_refusal(p, s, want, got)) {
		note(p, s, got);
		return;
	}
	print_error("had: flags %x gpa %lx size %lx hva %lx\n", h ? h->flags : 0,
		    h ? (unsigned long)h->gpa : 0, h ? (unsigned long)h->size : 0,
		    h ? (unsigned long)h->hva : 0);
	fail_msg("call %u: slot %x flags %x gpa %lx size %lx hva %lx fd %d offset %lx: KVM %d, sim "
		 "%d",
		 call, s->slot, s->flags, (unsigned long)s->gpa, (unsigned long)s->size,
		 (unsigned long)s->hva, (int)s->guest_memfd, (unsigned long)s->guest_memfd_offset,
		 want, got);
}

static void ask_dirty(struct pair *p, unsigned call)
{
	uint32_t slot = random_slot(p);
	uint64_t kvm_bits[4] = {0}, sim_bits[4] = {0};
	int want = kvm_dirty(p, slot, kvm_bits),
	    got = gpamap_sim_get_dirty_log(p->sim, slot, sim_bits);

	if (got != want)
		fail_msg("call %u: dirty log of %x: KVM %d, sim %d", call, slot, want, got);
	assert_memory_equal(kvm_bits, sim_bits, sizeof(kvm_bits));
}

static void test_random(void **state)
{
	struct pair *p = *state;
	static const enum gpamap_sim_call kinds[] = {GPAMAP_SIM_CREATE, GPAMAP_SIM_DELETE,
						     GPAMAP_SIM_MOVE, GPAMAP_SIM_FLAGS};
	struct gpamap_sim_slot s;

	for (unsigned call = 0; call < CALLS; call++) {
		if (one_in(8))
			ask_dirty(p, call);
		random_request(p, &s);
		ask_both(p, &s, call);
	}
	/* It is worth something only if each has been met often enough. */
	for (unsigned i = 0; i < 4; i++) {
		print_message("errno %d: %u times\n", answer_kinds[i], p->answers[i]);
		if (answer_kinds[i] != EBADF || p->file[0] >= 0)
			assert_true(p->answers[i] >= 10);
	}
	for (unsigned i = 0; i < 4; i++) {
		print_message("call of kind %d: %u times\n", kinds[i],
			      (unsigned)gpamap_sim_calls(p->sim, kinds[i]));
		assert_true(gpamap_sim_calls(p->sim, kinds[i]) >= 50);
	}
}

/* In the end both have the same slots: what deletes from one deletes from the other. */
static void test_same_in_the_end(void **state)
{
	struct pair *p = *state;

	for (uint32_t space = 0; space < p->spaces; space++) {
		for (uint32_t id = 0; id < IDS; id++) {
			struct gpamap_sim_slot s = {.slot = space << 16 | id};
			int want = p->have[space][id].size ? 0 : -EINVAL;

			assert_int_equal(kvm_set(p, &s), want);
			assert_int_equal(gpamap_sim_set_slot(p->sim, &s), want);
		}
	}
}

int main(void)
{
	static struct pair pair;
	const char *seed = getenv("GPAMAP_TEST_SEED");
	const char *why = open_vm(&pair);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_random, &pair),
		cmocka_unit_test_prestate(test_same_in_the_end, &pair),
	};
	void *state = &pair;
	int r;

	if (why) {
		printf("SKIP: %s\n", why);
		return 77;
	}
	random_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
	printf("seed %llu\n", (unsigned long long)random_state);
	setup(&state);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	teardown(&state);
	return r;
}
