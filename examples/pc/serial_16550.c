/* SPDX-License-Identifier: BSD-3-Clause */
/* A 16550A serial port. What the guest sends is out at once, so its transmitter is always empty. */
#include "serial_16550.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Registers. The first two are the divisor's while DLAB is set in LCR. */
enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

enum {
	IER_RECEIVED = 0x01,
	IER_EMPTY = 0x02,
	IER_BITS = 0x0f,
	IIR_NONE = 0x01,
	IIR_EMPTY = 0x02,
	IIR_RECEIVED = 0x04,
	IIR_FIFO = 0xc0,
	FCR_FIFO = 0x01,
	FCR_CLEAR = 0x02,
	LCR_DLAB = 0x80,
	MCR_OUT2 = 0x08,
	MCR_LOOP = 0x10,
	MCR_BITS = 0x1f,
	LSR_DATA = 0x01,
	LSR_EMPTY = 0x60,
	MSR_PRESENT = 0xb0, /* CTS, DSR, DCD: somebody is there */
	FIFO = 16,
};

struct pc_serial {
	struct pc_serial_wiring wiring;
	pthread_mutex_t lock;
	pthread_cond_t room;
	uint8_t divisor[2], ier, lcr, mcr, scr;
	bool fifo_on, empty_due, level, hung_up;
	uint8_t fifo[FIFO];
	unsigned first, count;
};

static void to_standard_output(void *opaque, const void *bytes, size_t count)
{
	const char *at = bytes;

	(void)opaque;
	while (count) {
		ssize_t n = write(STDOUT_FILENO, at, count);

		/* vCPUs' threads get kicks, and those interrupt this, too. */
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		at += n;
		count -= (size_t)n;
	}
}

/* ------------------------------------------------------------------ its state; the lock is held --- */

static uint8_t interrupt_id(const struct pc_serial *s)
{
	if (s->count && (s->ier & IER_RECEIVED))
		return IIR_RECEIVED;
	if (s->empty_due && (s->ier & IER_EMPTY))
		return IIR_EMPTY;
	return IIR_NONE;
}

static void update(struct pc_serial *s)
{
	bool level = interrupt_id(s) != IIR_NONE;

	if (level != s->level)
		s->wiring.interrupt(s->wiring.interrupt_opaque, level);
	s->level = level;
}

static unsigned fifo_size(const struct pc_serial *s)
{
	return s->fifo_on ? FIFO : 1;
}

static void put(struct pc_serial *s, uint8_t byte)
{
	if (s->count == fifo_size(s))
		return; /* overrun */
	s->fifo[(s->first + s->count++) % FIFO] = byte;
}

static uint8_t take(struct pc_serial *s)
{
	uint8_t byte = 0;

	if (s->count) {
		byte = s->fifo[s->first];
		s->first = (s->first + 1) % FIFO;
		s->count--;
		pthread_cond_signal(&s->room);
	}
	return byte;
}

static void clear(struct pc_serial *s)
{
	s->count = 0;
	pthread_cond_signal(&s->room);
}

static void send(struct pc_serial *s, uint8_t byte)
{
	s->empty_due = true;
	if (s->mcr & MCR_LOOP)
		put(s, byte);
	else
		s->wiring.output(s->wiring.output_opaque, &byte, 1);
}

/* In a loop, the lines that it drives are those that it sees. */
static uint8_t modem_status(const struct pc_serial *s)
{
	uint8_t m = s->mcr;

	if (!(m & MCR_LOOP))
		return MSR_PRESENT;
	return (uint8_t)((m & 2) << 3 | (m & 1) << 5 | (m & 4) << 4 | (m & 8) << 4);
}

static uint8_t read_register(struct pc_serial *s, unsigned reg)
{
	bool dlab = s->lcr & LCR_DLAB;
	uint8_t id;

	switch (reg) {
	case RBR_THR:
		return dlab ? s->divisor[0] : take(s);
	case IER:
		return dlab ? s->divisor[1] : s->ier;
	case IIR_FCR:
		id = interrupt_id(s);
		if (id == IIR_EMPTY)
			s->empty_due = false;
		return (uint8_t)(id | (s->fifo_on ? IIR_FIFO : 0));
	case LCR:
		return s->lcr;
	case MCR:
		return s->mcr;
	case LSR:
		return (uint8_t)(LSR_EMPTY | (s->count ? LSR_DATA : 0));
	case MSR:
		return modem_status(s);
	}
	return s->scr;
}

static void write_register(struct pc_serial *s, unsigned reg, uint8_t byte)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case RBR_THR:
		if (dlab)
			s->divisor[0] = byte;
		else
			send(s, byte);
		break;
	case IER:
		if (dlab) {
			s->divisor[1] = byte;
			break;
		}
		/* Who enables this interrupt is told at once that nothing is left to be sent. */
		if (byte & ~s->ier & IER_EMPTY)
			s->empty_due = true;
		s->ier = byte & IER_BITS;
		break;
	case IIR_FCR:
		/* What the holding register has when the FIFO is turned on becomes its first byte: Linux enables the
		 * interrupt, so that something may be typed, before the FIFO. */
		if ((byte & FCR_CLEAR) || (s->fifo_on && !(byte & FCR_FIFO)))
			clear(s);
		s->fifo_on = byte & FCR_FIFO;
		break;
	case LCR:
		s->lcr = byte;
		break;
	case MCR:
		s->mcr = byte & MCR_BITS;
		break;
	case SCR:
		s->scr = byte;
		break;
	}
}

/* ------------------------------------------------------------------------------- its two sides --- */

static int guest_reads(void *opaque, uint64_t offset, void *data, unsigned len)
{
	struct pc_serial *s = opaque;
	uint8_t *bytes = data;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < len; i++)
		bytes[i] = read_register(s, (unsigned)offset + i);
	update(s);
	pthread_cond_signal(&s->room);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int guest_writes(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	struct pc_serial *s = opaque;
	const uint8_t *bytes = data;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < len; i++)
		write_register(s, (unsigned)offset + i, bytes[i]);
	update(s);
	pthread_cond_signal(&s->room);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

const struct gpamap_mmio_ops pc_serial_ops = {guest_reads, guest_writes};

/* A guest that looks for its serial port, or opens it, throws away what it finds there. So nothing is given to it before
 * it has its interrupts connected (OUT2) and waits for one: what has been typed ahead is not lost. */
static bool listens(const struct pc_serial *s)
{
	return (s->ier & IER_RECEIVED) && (s->mcr & MCR_OUT2) && !(s->mcr & MCR_LOOP) &&
	       s->count < fifo_size(s);
}

void pc_serial_type(struct pc_serial *s, const void *bytes, size_t count)
{
	const uint8_t *at = bytes;

	pthread_mutex_lock(&s->lock);
	while (count && !s->hung_up) {
		if (!listens(s)) {
			pthread_cond_wait(&s->room, &s->lock);
			continue;
		}
		put(s, *at++);
		update(s);
		count--;
	}
	pthread_mutex_unlock(&s->lock);
}

void pc_serial_hang_up(struct pc_serial *s)
{
	pthread_mutex_lock(&s->lock);
	s->hung_up = true;
	pthread_cond_broadcast(&s->room);
	pthread_mutex_unlock(&s->lock);
}

struct pc_serial *pc_serial_new(const struct pc_serial_wiring *wiring)
{
	struct pc_serial *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->wiring = *wiring;
	if (!s->wiring.output)
		s->wiring.output = to_standard_output;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->room, NULL);
	return s;
}

void pc_serial_free(struct pc_serial *s)
{
	if (!s)
		return;
	pthread_cond_destroy(&s->room);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
