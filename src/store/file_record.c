/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The record of an object: what S3 keeps in headers.
 *
 *   record = "s3cryptfs-object 1" LF *field
 *   field  = ("e" | "t" | "n" | "v" | "h" | "w") decimal-length ":" bytes LF
 *   e: ETag, t: content type, n: name of a metadatum, v: its value, right after it, h: name of a
 *   standard header, w: its value, right after it. A content type among them goes before t.
 * Unknown letters are passed over.
 *
 * It stands in the xattr user.s3cryptfs of the body's file, so that one rename publishes both.
 * Where the file system has no user xattrs, or this one does not fit, it stands in a sidecar,
 * .s3cryptfs-meta/HH/SHA256(key)-MTIME: the body's modification time in its name says to which
 * version it belongs, so that here, too, the rename of the body decides; the sidecar is written
 * and synced before, and removed after its body. A file with neither (put there by hand) is an
 * object without metadata, whose ETag is made of its inode, time and size.
 */
#include "store/file_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/crypto.h"
#include "base/encode.h"

#define RECORD_MAGIC "s3cryptfs-object 1\n"
#define RECORD_MAX 65536

static int put_field(struct s3c_buf *out, char type, const char *text)
{
	return s3c_buf_printf(out, "%c%zu:%s\n", type, strlen(text), text);
}

int s3c_file_record_encode(const struct s3c_stat *info, struct s3c_buf *out)
{
	int r = s3c_buf_append_str(out, RECORD_MAGIC);

	if (r == 0)
		r = put_field(out, 'e', info->version.etag);
	if (r == 0)
		r = put_field(out, 't', info->content_type);
	for (size_t i = 0; r == 0 && i < info->props.count; i++) {
		r = put_field(out, 'h', info->props.items[i].name);
		if (r == 0)
			r = put_field(out, 'w', info->props.items[i].value);
	}
	for (size_t i = 0; r == 0 && i < info->meta.count; i++) {
		r = put_field(out, 'n', info->meta.items[i].name);
		if (r == 0)
			r = put_field(out, 'v', info->meta.items[i].value);
	}
	return r;
}

/* Cuts the next field; the text of it is NUL-terminated in ret_text. */
static int next_field(const char **p, const char *end, char *ret_type, char **ret_text)
{
	size_t len = 0;

	if (end - *p < 4)
		return -EBADMSG;
	*ret_type = *(*p)++;
	if (**p < '0' || **p > '9')
		return -EBADMSG;
	for (; *p < end && **p >= '0' && **p <= '9'; (*p)++) {
		len = len * 10 + (size_t)(**p - '0');
		if (len > RECORD_MAX)
			return -EBADMSG;
	}
	if (end - *p < 2 || **p != ':' || len > (size_t)(end - *p) - 2)
		return -EBADMSG;
	(*p)++;
	if ((*p)[len] != '\n' || memchr(*p, '\0', len))
		return -EBADMSG;
	*ret_text = strndup(*p, len);
	*p += len + 1;
	return *ret_text ? 0 : -ENOMEM;
}

static int take_text(const char *text, char *ret_field, size_t size)
{
	if (strlen(text) >= size)
		return -EBADMSG;
	strcpy(ret_field, text);
	return 0;
}

static int decode_fields(const char *p, const char *end, struct s3c_stat *info)
{
	cleanup_free char *name = NULL;

	while (p < end) {
		cleanup_free char *text = NULL;
		char type;
		int r = next_field(&p, end, &type, &text);

		if (r < 0)
			return r;
		if (type == 'e') {
			r = take_text(text, info->version.etag, sizeof(info->version.etag));
		} else if (type == 't') {
			r = take_text(text, info->content_type, sizeof(info->content_type));
		} else if (type == 'n' || type == 'h') {
			free(name);
			name = steal_ptr(text);
		} else if (type == 'v') {
			r = name ? s3c_meta_set(&info->meta, name, text) : -EBADMSG;
		} else if (type == 'w') {
			r = name ? s3c_meta_set(&info->props, name, text) : -EBADMSG;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* The content type stands in two places of what callers get. */
static int match_types(struct s3c_stat *info)
{
	const char *type = s3c_meta_get(&info->props, "content-type");

	if (type)
		snprintf(info->content_type, sizeof(info->content_type), "%s", type);
	else if (info->content_type[0] &&
		 strcmp(info->content_type, "application/octet-stream") != 0)
		return s3c_meta_set(&info->props, "content-type", info->content_type);
	return 0;
}

int s3c_file_record_decode(const char *text, size_t len, struct s3c_stat *ret_info)
{
	struct s3c_stat info = { 0 };
	size_t magic = strlen(RECORD_MAGIC);
	int r;

	if (len < magic || memcmp(text, RECORD_MAGIC, magic) != 0)
		return -EBADMSG;
	r = decode_fields(text + magic, text + len, &info);
	if (r == 0)
		r = match_types(&info);
	if (r < 0) {
		s3c_stat_free(&info);
		return r;
	}
	*ret_info = info;
	return 0;
}

static int sidecar_name(const char *key, const struct timespec *mtime, char *ret_name, size_t size)
{
	uint8_t digest[S3C_SHA256_LEN];
	char hex[2 * S3C_SHA256_LEN + 1];
	int r = s3c_sha256(key, strlen(key), digest);

	if (r < 0)
		return r;
	s3c_hex_encode(digest, sizeof(digest), hex);
	snprintf(ret_name, size, "%.2s/%s-%" PRIx64, hex, hex,
		 (uint64_t)mtime->tv_sec * (uint64_t)S3C_NSEC_PER_SEC + (uint64_t)mtime->tv_nsec);
	return 0;
}

/* The folder of sidecars, made when create is set; -ENOENT: there is none. */
static int sidecar_dir(struct s3c_file_store *fs, bool create)
{
	int fd = atomic_load(&fs->meta_fd);
	int none = -1;

	if (fd >= 0)
		return fd;
	if (create && mkdirat(fs->dir_fd, S3C_FILE_META, 0777) < 0 && errno != EEXIST)
		return s3c_file_errno(errno);
	fd = openat(fs->dir_fd, S3C_FILE_META, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : s3c_file_errno(errno);
	if (create && fsync(fs->dir_fd) < 0) {
		close(fd);
		return -EIO;
	}
	if (!atomic_compare_exchange_strong(&fs->meta_fd, &none, fd)) {
		close(fd);
		fd = none;
	}
	return fd;
}

static int sidecar_write(struct s3c_file_store *fs, const char *key, int body_fd,
			 const struct s3c_buf *record)
{
	cleanup_close int fd = -1;
	struct stat st;
	char name[128];
	int dir = sidecar_dir(fs, true);
	int r;

	if (dir < 0)
		return dir;
	for (unsigned tries = 0; fd < 0 && tries < 100; tries++) {
		struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };

		if (fstat(body_fd, &st) < 0)
			return -EIO;
		r = sidecar_name(key, &st.st_mtim, name, sizeof(name));
		if (r < 0)
			return r;
		name[2] = '\0';
		if (mkdirat(dir, name, 0777) == 0)
			r = fsync(dir) < 0 ? -EIO : 0;
		else if (errno != EEXIST)
			r = s3c_file_errno(errno);
		if (r < 0)
			return r;
		name[2] = '/';
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0)
			break;
		if (errno != EEXIST)
			return s3c_file_errno(errno);
		/* Coarse file times: another version has this one. */
		times[1] = st.st_mtim;
		times[1].tv_sec++;
		if (futimens(body_fd, times) < 0)
			return s3c_file_errno(errno);
	}
	if (fd < 0)
		return -EIO;
	if (write(fd, record->data, record->len) != (ssize_t)record->len)
		return errno == ENOSPC ? -ENOSPC : -EIO;
	if (fsync(fd) < 0)
		return -EIO;
	name[2] = '\0';
	return s3c_file_sync_dir(dir, name);
}

int s3c_file_record_write(struct s3c_file_store *fs, const char *key, int fd,
			  const struct s3c_stat *info)
{
	cleanup_buf struct s3c_buf record = { .max = RECORD_MAX };
	int r = s3c_file_record_encode(info, &record);

	if (r < 0)
		return r;
	if (fsetxattr(fd, S3C_FILE_XATTR, record.data, record.len, 0) == 0)
		return 0;
	switch (errno) {
	case ENOTSUP:
	case ENOSYS:
	case EPERM:
	case E2BIG:
	case ENOSPC: /* also "does not fit beside the inode" */
	case ERANGE:
		return sidecar_write(fs, key, fd, &record);
	default:
		return s3c_file_errno(errno);
	}
}

static int sidecar_read(struct s3c_file_store *fs, const char *key, const struct stat *st,
			char *ret_text, size_t *ret_len)
{
	cleanup_close int fd = -1;
	char name[128];
	ssize_t n;
	int dir = sidecar_dir(fs, false);
	int r;

	if (dir < 0)
		return dir;
	r = sidecar_name(key, &st->st_mtim, name, sizeof(name));
	if (r < 0)
		return r;
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : s3c_file_errno(errno);
	n = read(fd, ret_text, RECORD_MAX);
	if (n < 0)
		return -EIO;
	*ret_len = (size_t)n;
	return 0;
}

/* Has the name got another file since it was opened? */
static bool was_replaced(struct s3c_file_store *fs, const struct s3c_file_object *object)
{
	struct stat now;

	return fstatat(fs->dir_fd, object->path, &now, AT_SYMLINK_NOFOLLOW) < 0 ||
	       now.st_ino != object->st.st_ino || now.st_dev != object->st.st_dev;
}

static void made_by_hand(const struct stat *st, struct s3c_stat *info)
{
	snprintf(info->version.etag, sizeof(info->version.etag),
		 "\"%" PRIx64 "-%" PRIx64 ".%09ld-%" PRIx64 "\"", (uint64_t)st->st_ino,
		 (uint64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (uint64_t)st->st_size);
	snprintf(info->content_type, sizeof(info->content_type), "application/octet-stream");
}

int s3c_file_record_read(struct s3c_file_store *fs, const char *key, struct s3c_file_object *object)
{
	cleanup_free char *text = malloc(RECORD_MAX);
	struct s3c_stat info = { 0 };
	size_t len = 0;
	ssize_t n;
	int r = 0;

	if (!text)
		return -ENOMEM;
	object->sidecar = false;
	n = fgetxattr(object->fd, S3C_FILE_XATTR, text, RECORD_MAX);
	if (n >= 0) {
		len = (size_t)n;
	} else if (errno == ENODATA || errno == ENOTSUP || errno == ENOSYS) {
		r = sidecar_read(fs, key, &object->st, text, &len);
		object->sidecar = r == 0;
	} else {
		r = s3c_file_errno(errno);
	}
	if (r == 0) {
		r = s3c_file_record_decode(text, len, &info);
	} else if (r == -ENOENT) {
		if (was_replaced(fs, object))
			return -EAGAIN;
		made_by_hand(&object->st, &info);
		r = 0;
	}
	if (r < 0)
		return r == -EBADMSG ? -EPROTO : r;
	info.size = (uint64_t)object->st.st_size;
	info.version.modified_ns =
		object->st.st_mtim.tv_sec * S3C_NSEC_PER_SEC + object->st.st_mtim.tv_nsec;
	object->info = info;
	return 0;
}

void s3c_file_record_drop(struct s3c_file_store *fs, const char *key,
			  const struct s3c_file_object *object)
{
	char name[128];
	int dir;

	if (object->fd < 0 || !object->sidecar)
		return;
	dir = sidecar_dir(fs, false);
	/* What stays behind is a few bytes that nothing names. */
	if (dir >= 0 && sidecar_name(key, &object->st.st_mtim, name, sizeof(name)) == 0)
		(void)unlinkat(dir, name, 0);
}
