/* SPDX-License-Identifier: BSD-3-Clause */
/* The 16550A as a driver sees it, and that no key is lost on the way to it. Without KVM. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "serial_16550.h"

enum { DATA, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };
enum { RECEIVED = 1, EMPTY = 2, DTR = 1, RTS = 2, OUT2 = 8, LOOP = 0x10, DLAB = 0x80, NONE = 1 };

struct line {
	struct pc_serial *serial;
	char sent[64];
	size_t count;
	bool level;
	unsigned rises;
	/* Someone who types more than there is room for. */
	const char *text;
	pthread_t typist;
	bool types;
	_Atomic bool done;
};

static void output(void *opaque, const void *bytes, size_t count)
{
	struct line *l = opaque;

	assert_in_range(l->count + count, 0, sizeof(l->sent));
	memcpy(l->sent + l->count, bytes, count);
	l->count += count;
}

static void interrupt(void *opaque, bool level)
{
	struct line *l = opaque;

	assert_int_not_equal(level, l->level);
	l->level = level;
	l->rises += level;
}

static int setup(void **state)
{
	struct line *l = calloc(1, sizeof(*l));
	struct pc_serial_wiring wiring = {output, l, interrupt, l};

	assert_non_null(l);
	l->serial = pc_serial_new(&wiring);
	assert_non_null(l->serial);
	*state = l;
	return 0;
}

static int teardown(void **state)
{
	struct line *l = *state;

	pc_serial_hang_up(l->serial);
	if (l->types)
		pthread_join(l->typist, NULL);
	pc_serial_free(l->serial);
	free(l);
	return 0;
}

static uint8_t get(struct line *l, unsigned reg)
{
	uint8_t byte;

	assert_int_equal(pc_serial_ops.read(l->serial, reg, &byte, 1), 0);
	return byte;
}

static void set(struct line *l, unsigned reg, uint8_t byte)
{
	assert_int_equal(pc_serial_ops.write(l->serial, reg, &byte, 1), 0);
}

/* As a driver that opens the port. */
static void open_port(struct line *l)
{
	set(l, IIR_FCR, 7);
	set(l, MCR, DTR | RTS | OUT2);
	set(l, IER, RECEIVED);
}

static void test_registers(void **state)
{
	struct line *l = *state;

	set(l, SCR, 0xa5);
	assert_int_equal(get(l, SCR), 0xa5);
	set(l, IER, 0xff);
	assert_int_equal(get(l, IER), 0x0f);
	set(l, IER, 0);
	set(l, LCR, DLAB | 3);
	set(l, DATA, 0x12);
	set(l, IER, 0x34);
	assert_int_equal(get(l, DATA), 0x12);
	assert_int_equal(get(l, IER), 0x34);
	set(l, LCR, 3);
	assert_int_equal(get(l, IER), 0);
	assert_int_equal(l->count, 0);
	/* By this a driver tells a 16550A from its elders. */
	assert_int_equal(get(l, IIR_FCR) & 0xc0, 0);
	set(l, IIR_FCR, 1);
	assert_int_equal(get(l, IIR_FCR) & 0xc0, 0xc0);
	assert_int_equal(get(l, LSR), 0x60);
	/* In a loop each line comes back on another one. */
	set(l, MCR, LOOP | OUT2 | RTS);
	assert_int_equal(get(l, MSR) & 0xf0, 0x90);
	set(l, MCR, LOOP | DTR | 4);
	assert_int_equal(get(l, MSR) & 0xf0, 0x60);
}

static void test_send(void **state)
{
	struct line *l = *state;

	for (const char *at = "hello"; *at; at++) {
		assert_int_equal(get(l, LSR) & 0x60, 0x60);
		set(l, DATA, (uint8_t)*at);
	}
	assert_int_equal(l->count, 5);
	assert_memory_equal(l->sent, "hello", 5);
	assert_int_equal(l->rises, 0);

	/* The interrupt comes when it is enabled, once for each time that there is nothing left, and reading why it came
	 * takes it back. */
	set(l, IER, EMPTY);
	assert_true(l->level);
	assert_int_equal(get(l, IIR_FCR) & 0xf, EMPTY);
	assert_false(l->level);
	assert_int_equal(get(l, IIR_FCR) & 0xf, NONE);
	set(l, DATA, '!');
	assert_true(l->level);
	assert_int_equal(l->rises, 2);

	/* What is sent in a loop is received, and not seen outside. */
	set(l, MCR, LOOP);
	set(l, DATA, 'x');
	assert_int_equal(l->count, 6);
	assert_int_equal(get(l, LSR) & 1, 1);
	assert_int_equal(get(l, DATA), 'x');
}

static void test_receive(void **state)
{
	struct line *l = *state;

	open_port(l);
	assert_false(l->level);
	pc_serial_type(l->serial, "ab", 2);
	assert_true(l->level);
	/* What has come is told before what has gone. */
	set(l, IER, RECEIVED | EMPTY);
	assert_int_equal(get(l, IIR_FCR) & 0xf, 4);
	assert_int_equal(get(l, DATA), 'a');
	assert_true(l->level);
	assert_int_equal(get(l, DATA), 'b');
	assert_int_equal(get(l, LSR) & 1, 0);
	assert_int_equal(get(l, IIR_FCR) & 0xf, EMPTY);
	assert_false(l->level);
	assert_int_equal(get(l, DATA), 0);
	/* Not more than the FIFO has. */
	pc_serial_type(l->serial, "0123456789abcdef", 16);
	set(l, IIR_FCR, 3);
	assert_int_equal(get(l, LSR) & 1, 0);
	assert_false(l->level);
}

static void *type(void *arg)
{
	struct line *l = arg;

	pc_serial_type(l->serial, l->text, strlen(l->text));
	l->done = true;
	return NULL;
}

static void begin_to_type(struct line *l, const char *text)
{
	l->text = text;
	assert_int_equal(pthread_create(&l->typist, NULL, type, l), 0);
	l->types = true;
}

/* Typed ahead: the guest looks for its port and opens it, and has all of it afterwards. */
static void test_typed_ahead(void **state)
{
	static const char text[] = "a line of more than sixteen keys\n";
	struct line *l = *state;
	size_t count = 0;

	begin_to_type(l, text);
	for (unsigned i = 0; i < 50; i++) {
		set(l, IER, 0xf);
		usleep(1000);
		assert_int_equal(get(l, LSR) & 1, 0);
		set(l, IER, 0);
		set(l, MCR, i & 1 ? LOOP | OUT2 : DTR | RTS);
		set(l, IIR_FCR, 7);
	}
	open_port(l);
	while (count < strlen(text)) {
		if (get(l, LSR) & 1)
			assert_int_equal(get(l, DATA), text[count++]);
		else
			assert_true(!l->done || get(l, LSR) & 1);
	}
	assert_int_equal(get(l, LSR) & 1, 0);
}

/* As Linux does it: the interrupt is enabled before the FIFO. */
static void test_typed_before_the_fifo(void **state)
{
	static const char text[] = "echo\n";
	struct line *l = *state;

	begin_to_type(l, text);
	set(l, IIR_FCR, 7);
	set(l, IIR_FCR, 0);
	set(l, MCR, DTR | RTS | OUT2);
	set(l, IER, RECEIVED);
	while (!(get(l, LSR) & 1))
		usleep(1000);
	set(l, IIR_FCR, 1);
	set(l, IIR_FCR, 0x81);
	for (size_t i = 0; i < strlen(text); i++) {
		while (!(get(l, LSR) & 1))
			usleep(1000);
		assert_int_equal(get(l, DATA), text[i]);
	}
	assert_int_equal(get(l, LSR) & 1, 0);
}

static void test_hang_up(void **state)
{
	struct line *l = *state;

	begin_to_type(l, "nobody listens");
	usleep(20000);
	assert_false(l->done);
	pc_serial_hang_up(l->serial);
	pthread_join(l->typist, NULL);
	l->types = false;
	assert_true(l->done);
	assert_int_equal(get(l, LSR) & 1, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_send, setup, teardown),
		cmocka_unit_test_setup_teardown(test_receive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_typed_ahead, setup, teardown),
		cmocka_unit_test_setup_teardown(test_typed_before_the_fifo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hang_up, setup, teardown),
	};

	return cmocka_run_group_tests_name("pc/serial", tests, NULL, NULL);
}
