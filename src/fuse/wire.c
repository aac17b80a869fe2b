/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What libfuse before 3.17 keeps to itself. Requests and replies pass through here unchanged but
 * for one: the answer to INIT also accepts FUSE_PARALLEL_DIROPS and FUSE_HANDLE_KILLPRIV_V2, where
 * the kernel offers them. The first lets lookups and lists of one directory run side by side. The
 * second spares a question for security.capability before each write; in return it is our part
 * to take set-user-id and set-group-id bits away, and each request says whether it should: see
 * <linux/fuse.h>, FUSE_WRITE_KILL_SUIDGID and its like, which libfuse drops.
 *
 *	init_offer  INIT
 *	0           not seen, offers nothing of it, or answered
 *	else        seen, with the unique init_unique; its answer is to be changed
 */
#include <errno.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/private.h"

#define WANTED (FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2)

/* Of the request that this thread has received last, which it processes before the next. */
static __thread bool drops_privs;

bool s3c_wire_drops_privs(void)
{
	return drops_privs;
}

/* A number at `at` bytes behind the header; 0 when the request ends before. */
static uint32_t body_u32(const void *buf, size_t len, size_t at)
{
	uint32_t value = 0;

	at += sizeof(struct fuse_in_header);
	if (len >= at + sizeof(value))
		memcpy(&value, (const char *)buf + at, sizeof(value));
	return value;
}

static void look(struct s3c_fuse *fuse, const void *buf, size_t len)
{
	struct fuse_in_header header;
	uint32_t mask = 0;
	size_t at = 0;

	drops_privs = false;
	if (len < sizeof(header))
		return;
	memcpy(&header, buf, sizeof(header));
	switch (header.opcode) {
	case FUSE_INIT:
		at = offsetof(struct fuse_init_in, flags);
		fuse->init_unique = header.unique;
		__atomic_store_n(&fuse->init_offer, body_u32(buf, len, at) & WANTED,
				 __ATOMIC_RELEASE);
		return;
	case FUSE_WRITE:
		at = offsetof(struct fuse_write_in, write_flags);
		mask = FUSE_WRITE_KILL_SUIDGID;
		break;
	case FUSE_SETATTR:
		at = offsetof(struct fuse_setattr_in, valid);
		mask = FATTR_KILL_SUIDGID;
		break;
	case FUSE_OPEN:
		at = offsetof(struct fuse_open_in, open_flags);
		mask = FUSE_OPEN_KILL_SUIDGID;
		break;
	case FUSE_CREATE:
		at = offsetof(struct fuse_create_in, open_flags);
		mask = FUSE_OPEN_KILL_SUIDGID;
		break;
	}
	drops_privs = (body_u32(buf, len, at) & mask) != 0;
}

static ssize_t wire_read(int fd, void *buf, size_t len, void *userdata)
{
	ssize_t n = read(fd, buf, len);

	if (n > 0)
		look(userdata, buf, (size_t)n);
	return n;
}

/* Is it the answer that accepts INIT? A header, and what the kernel calls struct fuse_init_out,
 * of which older protocols have the beginning only. */
static bool accepts_init(const struct s3c_fuse *fuse, const struct iovec *iov, int count)
{
	struct fuse_out_header header;

	if (count != 2 || iov[0].iov_len != sizeof(header) ||
	    iov[1].iov_len < offsetof(struct fuse_init_out, flags) + sizeof(uint32_t) ||
	    iov[1].iov_len > sizeof(struct fuse_init_out))
		return false;
	memcpy(&header, iov[0].iov_base, sizeof(header));
	return header.unique == fuse->init_unique && header.error == 0;
}

static ssize_t wire_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct s3c_fuse *fuse = userdata;
	uint32_t offer = __atomic_load_n(&fuse->init_offer, __ATOMIC_ACQUIRE);
	struct fuse_init_out out;
	struct iovec changed[2];

	if (!offer || !accepts_init(fuse, iov, count))
		return writev(fd, iov, count);
	__atomic_store_n(&fuse->init_offer, 0, __ATOMIC_RELEASE);
	memcpy(&out, iov[1].iov_base, iov[1].iov_len);
	out.flags |= offer;
	changed[0] = iov[0];
	changed[1] = (struct iovec){ .iov_base = &out, .iov_len = iov[1].iov_len };
	s3c_debug("accepted of the kernel: %s%s",
		  offer & FUSE_PARALLEL_DIROPS ? "parallel lookups " : "",
		  offer & FUSE_HANDLE_KILLPRIV_V2 ? "set-user-id bits" : "");
	return writev(fd, changed, 2);
}

const struct fuse_custom_io s3c_wire_io = {
	.read = wire_read,
	.writev = wire_writev,
};

int s3c_wire_attach(struct s3c_fuse *fuse)
{
	/* The descriptor stays the one that the mount has set. */
	int fd = fuse_session_fd(fuse->session);

	return fuse_session_custom_io(fuse->session, &s3c_wire_io, fd) == 0 ? 0 : -ENOMEM;
}
