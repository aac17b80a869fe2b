/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * usage: null_fuse MOUNTPOINT MIB
 *
 * What FUSE alone gives: one file, "zeros", whose bytes come from memory, with the settings of
 * s3cryptfs towards the kernel (size of reads, read-ahead, number of workers, no splicing). In the
 * foreground until it is unmounted.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "fuse/private.h"

#define FILE_INO 2
#define TTL_S 3600.0
#define BACKGROUND 512
#define CONGESTION 384

static uint8_t zeros[S3C_FUSE_IO_MAX];
static uint64_t file_size;

static int stat_of(fuse_ino_t ino, struct stat *ret_st)
{
	*ret_st = (struct stat){ .st_ino = ino, .st_nlink = 1, .st_mode = S_IFREG | 0444 };
	if (ino == FILE_INO)
		ret_st->st_size = (off_t)file_size;
	else
		ret_st->st_mode = S_IFDIR | 0555;
	return ino == FILE_INO || ino == FUSE_ROOT_ID ? 0 : ENOENT;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->want |= (FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS) & conn->capable;
	conn->want &=
		~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
			    FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_AUTO_INVAL_DATA);
	conn->max_read = S3C_FUSE_IO_MAX;
	conn->max_write = S3C_FUSE_IO_MAX;
	conn->max_readahead = S3C_FUSE_IO_MAX;
	conn->max_background = BACKGROUND;
	conn->congestion_threshold = CONGESTION;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .ino = FILE_INO,
					  .attr_timeout = TTL_S,
					  .entry_timeout = TTL_S };

	if (parent != FUSE_ROOT_ID || strcmp(name, "zeros") != 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	stat_of(FILE_INO, &entry.attr);
	fuse_reply_entry(req, &entry);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	int error = stat_of(ino, &st);

	(void)fi;
	if (error)
		fuse_reply_err(req, error);
	else
		fuse_reply_attr(req, &st, TTL_S);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->noflush = 1;
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	uint64_t left = (uint64_t)offset < file_size ? file_size - (uint64_t)offset : 0;

	(void)ino;
	(void)fi;
	size = S3C_MIN(size, sizeof(zeros));
	fuse_reply_buf(req, (const char *)zeros, (size_t)S3C_MIN(left, size));
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.open = op_open,
	.read = op_read,
};

static void *work(void *arg)
{
	struct fuse_session *session = arg;
	struct fuse_buf buf = { 0 };
	int r;

	while (!fuse_session_exited(session)) {
		r = fuse_session_receive_buf(session, &buf);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r <= 0)
			break;
		fuse_session_process_buf(session, &buf);
	}
	free(buf.mem);
	return NULL;
}

static int serve(struct fuse_session *session, const char *mountpoint)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned count = (unsigned)S3C_MIN(S3C_MAX(cpus, 2), S3C_FUSE_WORKERS_MAX);
	pthread_t workers[S3C_FUSE_WORKERS_MAX];
	struct stat st;

	for (unsigned i = 0; i < count; i++)
		if (pthread_create(&workers[i], NULL, work, session))
			return 1;
	/* Any answer: the kernel has set its own read-ahead by then. */
	if (stat(mountpoint, &st) == 0)
		s3c_mountpoint_raise_readahead(mountpoint);
	puts("ready");
	fflush(stdout);
	for (unsigned i = 0; i < count; i++)
		pthread_join(workers[i], NULL);
	return 0;
}

int main(int argc, char **argv)
{
	char max_read[32];
	char *fuse_argv[] = { argv[0], "-o", "fsname=null_fuse,ro,default_permissions", "-o",
			      max_read };
	struct fuse_args args = FUSE_ARGS_INIT(ARRAY_LEN(fuse_argv), fuse_argv);
	struct fuse_session *session;
	uint64_t mib;
	int r = 1;

	if (argc != 3 || s3c_parse_u64(argv[2], 1u << 20, &mib) < 0) {
		fprintf(stderr, "usage: null_fuse MOUNTPOINT MIB\n");
		return 2;
	}
	file_size = mib << 20;
	snprintf(max_read, sizeof(max_read), "max_read=%u", S3C_FUSE_IO_MAX);
	session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (!session)
		return 1;
	if (fuse_session_mount(session, argv[1]) == 0) {
		r = serve(session, argv[1]);
		fuse_session_unmount(session);
	}
	fuse_session_destroy(session);
	return r;
}
