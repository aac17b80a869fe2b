/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "key/passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <termios.h>

#include "base/secret.h"
#include "key/keyring_private.h"

#define KEY_INTERRUPT 0x03 /* ^C */
#define KEY_END 0x04       /* ^D */
#define KEY_CLEAR 0x15     /* ^U */

/* The first line of what was read. */
static int take_line(struct s3c_buf *read, const char *name, struct s3c_err *err, char **ret_text)
{
	const char *end = read->len ? memchr(read->data, '\n', read->len) : NULL;
	size_t len = end ? (size_t)(end - read->data) : read->len;
	char *text;

	if (len && read->data[len - 1] == '\r')
		len--;
	if (!len || memchr(read->data, '\0', len))
		return s3c_err_set(err, -EINVAL, "%s has no passphrase in its first line", name);
	if (len > S3C_PASSPHRASE_MAX)
		return s3c_err_set(err, -EMSGSIZE,
				   "the passphrase in %s is too long (over %u "
				   "bytes)",
				   name, S3C_PASSPHRASE_MAX);
	text = s3c_secret_alloc(len + 1);
	if (!text)
		return -ENOMEM;
	memcpy(text, read->data, len);
	*ret_text = text;
	return 0;
}

static int from_fd(const char *place, struct s3c_err *err, char **ret_text)
{
	uint8_t piece[256];
	struct s3c_buf all;
	uint64_t fd;
	int r = s3c_parse_u64(place + 3, INT32_MAX, &fd);

	if (r < 0)
		return s3c_err_set(err, r, "%s is no descriptor: write fd:3", place);
	s3c_buf_init(&all, 2 * S3C_PASSPHRASE_MAX);
	for (;;) {
		ssize_t n = read((int)fd, piece, sizeof(piece));

		if (n < 0 && errno == EINTR)
			continue;
		r = n < 0 ? -errno : s3c_buf_append(&all, piece, (size_t)n);
		if (n <= 0 || r < 0 || memchr(piece, '\n', (size_t)n))
			break;
	}
	s3c_wipe(piece, sizeof(piece));
	if (r == 0)
		r = take_line(&all, place, err, ret_text);
	else
		s3c_err_set(err, r, "cannot read the passphrase from %s: %s", place, strerror(-r));
	s3c_buf_free_secret(&all);
	return r;
}

static int from_file(const char *place, struct s3c_err *err, char **ret_text)
{
	struct s3c_buf all;
	int r;

	s3c_buf_init(&all, 4 * S3C_PASSPHRASE_MAX);
	r = s3c_private_read(place, err, &all);
	if (r == 0)
		r = take_line(&all, place, err, ret_text);
	else
		s3c_err_set(err, r, "cannot read the passphrase from %s: %s", place, strerror(-r));
	s3c_buf_free_secret(&all);
	return r;
}

static void put(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) < 0)
		return; /* a terminal that has gone is found out by the read that follows */
}

/* One line, character by character, so that an interruption leaves the terminal as it was. */
static int read_line(int fd, char line[static S3C_PASSPHRASE_MAX + 1])
{
	size_t len = 0;

	for (;;) {
		unsigned char c;
		ssize_t n = read(fd, &c, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0 || c == KEY_INTERRUPT || (c == KEY_END && !len))
			return -EINTR;
		if (c == '\n' || c == '\r' || c == KEY_END)
			break;
		if (c == 0x7f || c == '\b')
			len -= len > 0;
		else if (c == KEY_CLEAR)
			len = 0;
		else if (len == S3C_PASSPHRASE_MAX)
			return -EMSGSIZE;
		else if (c)
			line[len++] = (char)c;
	}
	line[len] = '\0';
	return len ? 0 : -EINVAL;
}

static int ask(int fd, const char *what, const char *how, char line[static S3C_PASSPHRASE_MAX + 1])
{
	struct termios before, quiet;
	int r;

	if (tcgetattr(fd, &before) < 0)
		return -errno;
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG);
	quiet.c_cc[VMIN] = 1;
	quiet.c_cc[VTIME] = 0;
	if (tcsetattr(fd, TCSAFLUSH, &quiet) < 0)
		return -errno;
	put(fd, how);
	put(fd, what);
	put(fd, ": ");
	r = read_line(fd, line);
	tcsetattr(fd, TCSAFLUSH, &before);
	put(fd, "\n");
	return r;
}

static int from_terminal(const char *what, bool fresh, struct s3c_err *err, char **ret_text)
{
	cleanup_close int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	cleanup_secret char *line = s3c_secret_alloc(S3C_PASSPHRASE_MAX + 1);
	cleanup_secret char *again = s3c_secret_alloc(S3C_PASSPHRASE_MAX + 1);
	int r;

	if (fd < 0)
		return s3c_err_set(err, -ENOTTY,
				   "%s is protected by a passphrase and there is no terminal to "
				   "ask for it: give passphrase_file=FILE",
				   what);
	if (!line || !again)
		return -ENOMEM;
	r = ask(fd, what, fresh ? "New passphrase of " : "Passphrase of ", line);
	if (r == 0 && fresh) {
		r = ask(fd, what, "Once more, the passphrase of ", again);
		if (r == 0 && strcmp(line, again) != 0)
			return s3c_err_set(err, -EINVAL, "the two passphrases differ");
	}
	if (r == -EINTR)
		return s3c_err_set(err, r, "no passphrase was given");
	if (r == -EINVAL)
		return s3c_err_set(err, r, "an empty passphrase protects nothing");
	if (r == -EMSGSIZE)
		return s3c_err_set(err, r, "the passphrase is too long (over %u bytes)",
				   S3C_PASSPHRASE_MAX);
	if (r < 0)
		return s3c_err_set(err, r, "cannot read a passphrase from the terminal: %s",
				   strerror(-r));
	*ret_text = steal_ptr(line);
	return 0;
}

int s3c_passphrase_get(const char *place, const char *what, bool fresh, struct s3c_err *err,
		       char **ret_text)
{
	if (!place)
		return from_terminal(what, fresh, err, ret_text);
	return strncmp(place, "fd:", 3) == 0 ? from_fd(place, err, ret_text)
					     : from_file(place, err, ret_text);
}
