/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What passes between libfuse and the kernel, with a socket pair in the kernel's place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "fuse/private.h"

#define BOTH (FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2)
#define UNIQUE 42

struct pair {
	int kernel, ours;
	struct s3c_fuse fuse;
};

static int setup(void **state)
{
	static struct pair pair;
	int fds[2];

	memset(&pair, 0, sizeof(pair));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	pair.kernel = fds[0];
	pair.ours = fds[1];
	*state = &pair;
	return 0;
}

static int teardown(void **state)
{
	struct pair *pair = *state;

	close(pair->kernel);
	close(pair->ours);
	return 0;
}

/* Sends a request of len bytes behind the header, and has it received unchanged. */
static void receive(struct pair *pair, uint32_t opcode, const void *body, size_t len)
{
	struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + len),
		.opcode = opcode,
		.unique = UNIQUE,
	};
	char sent[256], got[256];

	memcpy(sent, &header, sizeof(header));
	memcpy(sent + sizeof(header), body, len);
	assert_int_equal(send(pair->kernel, sent, header.len, 0), header.len);
	assert_int_equal(s3c_wire_io.read(pair->ours, got, sizeof(got), &pair->fuse), header.len);
	assert_memory_equal(got, sent, header.len);
}

/* What the kernel gets of an answer whose body is len bytes of an init_out. */
static struct fuse_init_out answer(struct pair *pair, uint64_t unique, int error, size_t len)
{
	struct fuse_out_header header = { .unique = unique, .error = error };
	struct fuse_init_out out = { .major = 7, .minor = 31, .flags = FUSE_ASYNC_READ }, got;
	struct iovec iov[] = { { &header, sizeof(header) }, { &out, len } };
	char text[256];

	header.len = (uint32_t)(sizeof(header) + len);
	assert_int_equal(s3c_wire_io.writev(pair->ours, iov, 2, &pair->fuse), header.len);
	assert_int_equal(recv(pair->kernel, text, sizeof(text), 0), header.len);
	assert_memory_equal(text, &header, sizeof(header));
	memset(&got, 0, sizeof(got));
	memcpy(&got, text + sizeof(header), len);
	/* The caller's memory is its own, and nothing but the flags is ours. */
	assert_int_equal(out.flags, FUSE_ASYNC_READ);
	out.flags = got.flags;
	assert_memory_equal(&got, &out, len);
	return got;
}

static void accepts_what_is_offered(void **state)
{
	static const struct {
		uint32_t offered, accepted;
	} cases[] = {
		{ ~0u, BOTH },
		{ FUSE_PARALLEL_DIROPS | FUSE_BIG_WRITES, FUSE_PARALLEL_DIROPS },
		{ FUSE_HANDLE_KILLPRIV_V2, FUSE_HANDLE_KILLPRIV_V2 },
		{ FUSE_ASYNC_READ, 0 },
		{ 0, 0 },
	};
	static const size_t lens[] = { sizeof(struct fuse_init_out), FUSE_COMPAT_22_INIT_OUT_SIZE };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (size_t k = 0; k < ARRAY_LEN(lens); k++) {
			const struct fuse_init_in in = {
				.major = 7,
				.minor = 31,
				.flags = cases[i].offered,
			};

			receive(*state, FUSE_INIT, &in, sizeof(in));
			assert_int_equal(answer(*state, UNIQUE, 0, lens[k]).flags,
					 FUSE_ASYNC_READ | cases[i].accepted);
			/* Once. */
			assert_int_equal(answer(*state, UNIQUE, 0, lens[k]).flags, FUSE_ASYNC_READ);
		}
}

/* Nothing but the answer to INIT is touched, whatever it looks like. */
static void leaves_the_rest(void **state)
{
	const struct fuse_init_in in = { .major = 7, .minor = 31, .flags = BOTH };
	struct pair *pair = *state;
	const size_t len = sizeof(struct fuse_init_out);

	receive(pair, FUSE_LOOKUP, &in, sizeof(in));
	assert_int_equal(answer(pair, UNIQUE, 0, len).flags, FUSE_ASYNC_READ);
	receive(pair, FUSE_INIT, &in, sizeof(in));
	assert_int_equal(answer(pair, UNIQUE + 2, 0, len).flags, FUSE_ASYNC_READ);
	assert_int_equal(answer(pair, 0, 0, len).flags, FUSE_ASYNC_READ);
	assert_int_equal(answer(pair, UNIQUE, -EPROTO, len).flags, FUSE_ASYNC_READ);
	/* A protocol without flags. */
	answer(pair, UNIQUE, 0, FUSE_COMPAT_INIT_OUT_SIZE);
	assert_int_equal(answer(pair, UNIQUE, 0, len).flags, FUSE_ASYNC_READ | BOTH);
}

/* An INIT that is too short to offer anything, and one that comes again with less. */
static void offers_that_change(void **state)
{
	struct fuse_init_in in = { .major = 8, .flags = BOTH };
	const size_t len = sizeof(struct fuse_init_out);

	receive(*state, FUSE_INIT, &in, offsetof(struct fuse_init_in, flags) + 3);
	assert_int_equal(answer(*state, UNIQUE, 0, len).flags, FUSE_ASYNC_READ);
	receive(*state, FUSE_INIT, &in, sizeof(in));
	in.flags = FUSE_PARALLEL_DIROPS;
	receive(*state, FUSE_INIT, &in, sizeof(in));
	assert_int_equal(answer(*state, UNIQUE, 0, len).flags,
			 FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS);
}

static void tells_who_keeps_bits(void **state)
{
	const struct fuse_write_in write_kill = { .write_flags = FUSE_WRITE_KILL_SUIDGID };
	const struct fuse_write_in write_keep = {
		.fh = ~0u,
		.write_flags = ~(uint32_t)FUSE_WRITE_KILL_SUIDGID,
	};
	const struct fuse_setattr_in setattr_kill = { .valid = FATTR_SIZE | FATTR_KILL_SUIDGID };
	const struct fuse_setattr_in setattr_keep = { .valid = ~(uint32_t)FATTR_KILL_SUIDGID };
	const struct fuse_open_in open_kill = { .open_flags = FUSE_OPEN_KILL_SUIDGID };
	const struct fuse_open_in open_keep = { .flags = ~0u };
	const struct fuse_create_in create_kill = { .open_flags = FUSE_OPEN_KILL_SUIDGID };
	const struct fuse_create_in create_keep = { .flags = ~0u, .mode = ~0u, .umask = ~0u };
	static const char all_ones[] = "\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
				       "\377\377\377\377\377\377\377\377\377\377\377\377\377\377";
	const struct {
		uint32_t opcode;
		const void *body;
		size_t len;
		bool drops;
	} cases[] = {
		{ FUSE_WRITE, &write_kill, sizeof(write_kill), true },
		{ FUSE_WRITE, &write_keep, sizeof(write_keep), false },
		{ FUSE_WRITE, &write_kill, offsetof(struct fuse_write_in, write_flags), false },
		{ FUSE_SETATTR, &setattr_kill, sizeof(setattr_kill), true },
		{ FUSE_SETATTR, &setattr_keep, sizeof(setattr_keep), false },
		{ FUSE_OPEN, &open_kill, sizeof(open_kill), true },
		{ FUSE_OPEN, &open_keep, sizeof(open_keep), false },
		{ FUSE_CREATE, &create_kill, sizeof(create_kill), true },
		{ FUSE_READ, all_ones, sizeof(all_ones), false },
		{ FUSE_CREATE, &create_keep, sizeof(create_keep), false },
		{ FUSE_OPEN, &open_kill, sizeof(open_kill), true },
		{ FUSE_DESTROY, "", 0, false },
	};
	struct pair *pair = *state;
	char byte;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		receive(pair, cases[i].opcode, cases[i].body, cases[i].len);
		assert_int_equal(s3c_wire_drops_privs(), cases[i].drops);
	}
	/* An error is passed on as it is. */
	assert_int_equal(s3c_wire_io.read(-1, &byte, 1, &pair->fuse), -1);
	assert_int_equal(errno, EBADF);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(accepts_what_is_offered),
		TEST(leaves_the_rest),
		TEST(offers_that_change),
		TEST(tells_who_keeps_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
