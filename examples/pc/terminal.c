/* SPDX-License-Identifier: BSD-3-Clause */
/* Standard input as the guest's keyboard. */
#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

enum { CTRL_A = 1 };

/* There is one terminal. */
static struct {
	pthread_t thread;
	int stop; /* an eventfd */
	bool is_raw;
	struct termios before;
} terminal;

static const int deadly[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};

static void restore(void)
{
	if (terminal.is_raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal.before);
	terminal.is_raw = false;
}

/* tcsetattr() may be called here. The handler is gone by now, so the second one of these signals ends the program. */
static void restore_and_die(int signo)
{
	restore();
	raise(signo);
}

static void make_raw(void)
{
	struct sigaction action = {.sa_handler = restore_and_die, .sa_flags = (int)SA_RESETHAND};
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &terminal.before) < 0)
		return; /* a file or a pipe */
	raw = terminal.before;
	cfmakeraw(&raw);
	raw.c_oflag |= OPOST; /* messages of ours have no carriage returns */
	for (unsigned i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		sigaction(deadly[i], &action, NULL);
	terminal.is_raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

/* Pass keys on, but for Ctrl-A and the one after it. False: it was Ctrl-A x. */
static bool pass(struct pc *pc, const char *keys, size_t count, bool *escaped)
{
	for (size_t i = 0; i < count; i++) {
		if (terminal.is_raw && !*escaped && keys[i] == CTRL_A) {
			*escaped = true;
			continue;
		}
		if (*escaped && (keys[i] == 'x' || keys[i] == 'X'))
			return false;
		*escaped = false;
		pc_type(pc, &keys[i], 1);
	}
	return true;
}

static void *listen(void *arg)
{
	struct pollfd fds[2] = {{.fd = terminal.stop, .events = POLLIN},
				{.fd = STDIN_FILENO, .events = POLLIN}};
	struct pc *pc = arg;
	bool escaped = false;
	char keys[256];

	while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
		ssize_t n;

		if (fds[0].revents)
			return NULL;
		if (!fds[1].revents)
			continue;
		n = read(STDIN_FILENO, keys, sizeof(keys));
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return NULL;
		if (!pass(pc, keys, (size_t)n, &escaped)) {
			pc_quit(pc);
			return NULL;
		}
	}
	return NULL;
}

int pc_terminal_start(struct pc *pc)
{
	int err;

	terminal.stop = eventfd(0, EFD_CLOEXEC);
	if (terminal.stop < 0)
		return pc_fail(&pc->error, -errno, "eventfd: %s", strerror(errno));
	make_raw();
	err = pthread_create(&terminal.thread, NULL, listen, pc);
	if (err == 0)
		return 0;
	restore();
	close(terminal.stop);
	return pc_fail(&pc->error, -err, "no thread for the terminal: %s", strerror(err));
}

void pc_terminal_stop(void)
{
	const uint64_t one = 1;

	while (write(terminal.stop, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(terminal.thread, NULL);
	close(terminal.stop);
	restore();
}
