/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest that judges: the first process of a Linux that boots while its memory map changes. Five processes at once
 * sum up known data, write and read files, touch much memory, fork and execute, and read memory that is only for
 * reading. What the sums have to be the host has worked out. The last line says whether all was right:
 *
 *     JUDGE ok sums=N files=N pages=N execs=N reads=N
 *     JUDGE wrong N
 *
 * Then the machine is switched off. From the kernel's command line: judge.rounds=N, how often each of the five does its
 * work; judge.rom=ADDRESS,SIZE, where the memory is that is only for reading.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "rom.h"

#define PAGE 4096u
#define DATA "/data"
#define DATA_SIZE (256u << 10)
#define PIECES 64u /* of the data, each with its sum */
#define FILES 16u
#define FILE_WORDS (8u << 10)
#define TOUCHED ((size_t)64 << 20)
#define EXECS 8u

struct answers {
	uint32_t crc[PIECES];
	char sha256[65];
};

/* What was done, by all processes. */
struct tally {
	unsigned sums, files, pages, execs, reads, wrong;
};

static struct tally *tally;
static struct answers answers;
static uint64_t rom_address, rom_size;

static void count(unsigned *what, unsigned n)
{
	__atomic_add_fetch(what, n, __ATOMIC_RELAXED);
}

__attribute__((format(printf, 1, 2))) static void wrong(const char *format, ...)
{
	char text[200];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	dprintf(1, "JUDGE error: %s\n", text);
	count(&tally->wrong, 1);
}

/* ------------------------------------------------------------------------- sums of known data --- */

static uint32_t crc32(const uint8_t *p, size_t n)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < n; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
	}
	return ~crc;
}

/* Is the sum of that piece of the data right? */
static bool sum_is_right(unsigned piece)
{
	static uint8_t buf[DATA_SIZE / PIECES];
	int fd = open(DATA, O_RDONLY);
	bool right =
		fd >= 0 &&
		pread(fd, buf, sizeof(buf), (off_t)(piece * sizeof(buf))) == (ssize_t)sizeof(buf) &&
		crc32(buf, sizeof(buf)) == answers.crc[piece];

	close(fd);
	return right;
}

static void work_sums(unsigned round)
{
	(void)round;
	for (unsigned i = 0; i < PIECES; i++) {
		if (!sum_is_right(i))
			wrong("sum of piece %u", i);
		count(&tally->sums, 1);
	}
}

/* ------------------------------------------------------------------------------ files in tmpfs --- */

static bool move_words(const char *name, uint64_t seed, bool check)
{
	static uint64_t words[FILE_WORDS];
	int fd = open(name, check ? O_RDONLY : O_WRONLY | O_CREAT | O_EXCL, 0600);
	bool right;

	for (unsigned i = 0; !check && i < FILE_WORDS; i++)
		words[i] = rom_word(seed + i);
	right = fd >= 0 && (check ? read(fd, words, sizeof(words))
				  : write(fd, words, sizeof(words))) == (ssize_t)sizeof(words);
	for (unsigned i = 0; right && check && i < FILE_WORDS; i++)
		right = words[i] == rom_word(seed + i);
	close(fd);
	return right;
}

static void work_files(unsigned round)
{
	char name[FILES][32], moved[40];

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name[i], sizeof(name[i]), "/tmp/%u.%u", round, i);
		if (!move_words(name[i], round * FILES + i, false))
			wrong("%s can't be written", name[i]);
	}
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(moved, sizeof(moved), "%.31s.moved", name[i]);
		if (rename(name[i], moved) || !move_words(moved, round * FILES + i, true) ||
		    unlink(moved))
			wrong("%s is not what was written", name[i]);
		count(&tally->files, 1);
	}
}

/* --------------------------------------------------------------------------------- much memory --- */

static void work_pages(unsigned round)
{
	char *p = mmap(NULL, TOUCHED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t zero = 0;

	if (p == MAP_FAILED) {
		wrong("no memory");
		return;
	}
	for (size_t at = 0; at < TOUCHED; at += PAGE) {
		zero |= *(uint64_t *)(p + at);
		*(uint64_t *)(p + at) = rom_word(at + round);
		*(uint64_t *)(p + at + PAGE - 8) = ~rom_word(at + round);
	}
	if (zero)
		wrong("new memory is not empty");
	for (size_t at = 0; at < TOUCHED; at += PAGE) {
		if (*(uint64_t *)(p + at) != rom_word(at + round) ||
		    *(uint64_t *)(p + at + PAGE - 8) != ~rom_word(at + round))
			wrong("page %zu is not what was written", at / PAGE);
	}
	count(&tally->pages, TOUCHED / PAGE);
	munmap(p, TOUCHED);
}

/* --------------------------------------------------------------------------- processes, programs --- */

static bool ended_well(pid_t pid)
{
	int status;

	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

static void shell_sum(void)
{
	FILE *f = popen("/bin/busybox gzip -c " DATA " | /bin/busybox gunzip -c | "
			"/bin/busybox sha256sum",
			"r");
	char line[100] = "";

	if (!f || !fgets(line, sizeof(line), f) || pclose(f) ||
	    strncmp(line, answers.sha256, strlen(answers.sha256)) != 0)
		wrong("busybox sums up to %s", line);
	count(&tally->execs, 3);
}

static void work_execs(unsigned round)
{
	pid_t pid[EXECS];
	char piece[EXECS][16];

	for (unsigned i = 0; i < EXECS; i++) {
		snprintf(piece[i], sizeof(piece[i]), "%u", (round * EXECS + i) % PIECES);
		pid[i] = fork();
		if (pid[i] == 0) {
			execl("/init", "init", "sum", piece[i], (char *)NULL);
			_exit(127);
		}
	}
	for (unsigned i = 0; i < EXECS; i++) {
		if (!ended_well(pid[i]))
			wrong("a program for the sum of piece %s", piece[i]);
		count(&tally->execs, 1);
	}
	shell_sum();
}

/* --------------------------------------------------------------------- memory that is only read --- */

static void work_reads(unsigned round)
{
	int fd = open("/dev/mem", O_RDONLY | O_SYNC);
	volatile const uint64_t *p;

	(void)round;
	p = mmap(NULL, rom_size, PROT_READ, MAP_SHARED, fd, (off_t)rom_address);
	close(fd);
	if (p == MAP_FAILED) {
		wrong("/dev/mem does not show what is at %#llx", (unsigned long long)rom_address);
		return;
	}
	for (uint64_t i = 0; i < rom_size / 8; i++) {
		uint64_t word = p[i];

		if (word != rom_word(i))
			wrong("word %llu of what is only read is %#llx", (unsigned long long)i,
			      (unsigned long long)word);
	}
	count(&tally->reads, (unsigned)(rom_size / 8));
	munmap((void *)(uintptr_t)p, rom_size);
}

/* ------------------------------------------------------------------------------------- all of it --- */

static const struct work {
	const char *name;
	void (*round)(unsigned round);
} works[] = {
	{"sums", work_sums},   {"files", work_files}, {"pages", work_pages},
	{"execs", work_execs}, {"reads", work_reads},
};
#define WORKS (sizeof(works) / sizeof(works[0]))

static void read_answers(void)
{
	FILE *f = fopen("/answers", "r");
	bool right = f && fscanf(f, "%64s", answers.sha256) == 1;

	for (unsigned i = 0; i < PIECES; i++)
		right = right && fscanf(f, "%u", &answers.crc[i]) == 1;
	if (!right)
		wrong("the answers can't be read");
	if (f)
		fclose(f);
}

static unsigned read_command_line(void)
{
	unsigned long long address = 0, size = 0;
	char line[2048] = "", *at;
	FILE *f = fopen("/proc/cmdline", "r");
	unsigned rounds = 1;

	if (!f || !fgets(line, sizeof(line), f))
		wrong("no command line");
	if (f)
		fclose(f);
	at = strstr(line, "judge.rounds=");
	if (at)
		rounds = (unsigned)strtoul(at + strlen("judge.rounds="), NULL, 0);
	at = strstr(line, "judge.rom=");
	if (!at ||
	    sscanf(at, "judge.rom=%lli,%lli", (long long *)&address, (long long *)&size) != 2)
		wrong("no judge.rom=ADDRESS,SIZE");
	rom_address = address;
	rom_size = size;
	return rounds;
}

static pid_t begin(const struct work *work, unsigned rounds)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	for (unsigned i = 0; i < rounds; i++) {
		work->round(i);
		dprintf(1, "JUDGE %s %u\n", work->name, i + 1);
	}
	_exit(0);
}

static void judge(void)
{
	unsigned rounds = read_command_line();
	pid_t pid[WORKS];

	dprintf(1, "JUDGE begins, %ld processors\n", sysconf(_SC_NPROCESSORS_ONLN));
	for (unsigned i = 0; i < WORKS; i++)
		pid[i] = begin(&works[i], rounds);
	for (unsigned i = 0; i < WORKS; i++) {
		if (!ended_well(pid[i]))
			wrong("%s did not end well", works[i].name);
	}
	if (tally->wrong)
		dprintf(1, "JUDGE wrong %u\n", tally->wrong);
	else
		dprintf(1, "JUDGE ok sums=%u files=%u pages=%u execs=%u reads=%u\n", tally->sums,
			tally->files, tally->pages, tally->execs, tally->reads);
	/* Before the power goes. */
	tcdrain(1);
}

int main(int argc, char **argv)
{
	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (tally == MAP_FAILED)
		return 1;
	read_answers();
	if (argc == 3)
		return !sum_is_right((unsigned)atoi(argv[2]) % PIECES);
	if (mount("proc", "/proc", "proc", 0, NULL) || mount("dev", "/dev", "devtmpfs", 0, NULL) ||
	    mount("tmp", "/tmp", "tmpfs", 0, NULL))
		wrong("mount");
	judge();
	reboot(RB_POWER_OFF);
	return 1;
}
