/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Multipart uploads of the folder store. An upload is the folder .s3cryptfs-tmp/uploads/ID with
 *   meta         the key, LF, and the record that the object will get (without an ETag)
 *   NNNNN.ETAG   part NNNNN; ETAG is 32 hex digits, the part's token
 * It outlives its process, as it does on S3: whoever knows the ID goes on. It ends with complete
 * or abort; nothing else removes it. Parts are checked at complete: number and ETag must exist,
 * all but the last have S3's least size.
 */
#include "store/file_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define META_MAX 65536
#define PARTS_PAGE 1000

static bool is_token(const char *text)
{
	return strlen(text) == S3C_FILE_TOKEN_LEN &&
	       strspn(text, "0123456789abcdef") == S3C_FILE_TOKEN_LEN;
}

/* Opens the folder of the call's upload and reads what was set at its start. -ENXIO: unknown. */
static int open_upload(struct s3c_file_call *call, int *ret_dir_fd, struct s3c_stat *ret_info)
{
	struct s3c_file_store *fs = call->fs;
	size_t key_len = strlen(call->rq.key);
	cleanup_free char *text = NULL;
	cleanup_close int dir_fd = -1;
	cleanup_close int fd = -1;
	ssize_t n;
	int r;

	if (fs->uploads_fd < 0 || !is_token(call->rq.upload_id))
		return -ENXIO;
	dir_fd = openat(fs->uploads_fd, call->rq.upload_id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return errno == ENOENT ? -ENXIO : s3c_file_errno(errno);
	fd = openat(dir_fd, "meta", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ENXIO : s3c_file_errno(errno);
	text = malloc(META_MAX);
	if (!text)
		return -ENOMEM;
	n = read(fd, text, META_MAX);
	if (n < 0)
		return -EIO;
	if ((size_t)n <= key_len || memcmp(text, call->rq.key, key_len) != 0 ||
	    text[key_len] != '\n')
		return -ENXIO;
	if (ret_info) {
		r = s3c_file_record_decode(text + key_len + 1, (size_t)n - key_len - 1, ret_info);
		if (r < 0)
			return r == -EBADMSG ? -EPROTO : r;
	}
	*ret_dir_fd = steal_fd(&dir_fd);
	return 0;
}

static void remove_upload(struct s3c_file_store *fs, const char *id, int dir_fd)
{
	/* First of all it must not look like an upload any more. */
	(void)unlinkat(dir_fd, "meta", 0);
	s3c_file_empty_dir(dir_fd);
	(void)unlinkat(fs->uploads_fd, id, AT_REMOVEDIR);
}

int s3c_file_upload_create(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	struct s3c_file_store *fs = call->fs;
	const struct s3c_store_request *rq = &call->rq;
	cleanup_buf struct s3c_buf text = { .max = META_MAX };
	cleanup_file_temp struct s3c_file_temp temp = S3C_FILE_TEMP_NONE;
	cleanup_close int dir_fd = -1;
	char id[S3C_FILE_TOKEN_LEN + 1];
	struct s3c_stat info = { 0 };
	int r;

	if (rq->meta)
		info.meta = *rq->meta; /* borrowed */
	if (rq->props)
		info.props = *rq->props; /* borrowed */
	snprintf(info.content_type, sizeof(info.content_type), "%s",
		 rq->content_type ? rq->content_type : "application/octet-stream");
	r = s3c_buf_printf(&text, "%s\n", rq->key);
	if (r == 0)
		r = s3c_file_record_encode(&info, &text);
	if (r == 0)
		r = s3c_file_temp_new(fs, &temp);
	if (r == 0)
		r = s3c_file_write(call, temp.fd, text.data, text.len);
	if (r < 0)
		return r;
	s3c_file_random_name(id);
	if (fsync(temp.fd) < 0)
		return -EIO;
	if (mkdirat(fs->uploads_fd, id, 0777) < 0)
		return s3c_file_errno(errno);
	dir_fd = openat(fs->uploads_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0 || renameat(fs->session_fd, temp.name, dir_fd, "meta") < 0)
		return s3c_file_errno(errno);
	temp.name[0] = '\0';
	if (fsync(dir_fd) < 0 || fsync(fs->uploads_fd) < 0)
		return -EIO;
	reply->upload_id = strdup(id);
	return reply->upload_id ? 0 : -ENOMEM;
}

static int write_part(struct s3c_file_call *call, int fd)
{
	const struct s3c_store_request *rq = &call->rq;
	cleanup_file_object struct s3c_file_object source = S3C_FILE_OBJECT_NONE;
	int r = 0;

	if (rq->op == S3C_STORE_UPLOAD_PART) {
		for (unsigned i = 0; r == 0 && i < rq->body_count; i++)
			r = s3c_file_write(call, fd, rq->body[i].iov_base, rq->body[i].iov_len);
		return r;
	}
	r = s3c_file_object_open(call->fs, rq->source_key, &source);
	if (r < 0)
		return r;
	if (rq->source_if_match && strcmp(rq->source_if_match, source.info.version.etag) != 0)
		return -ESTALE;
	if (rq->offset > source.info.size || rq->length > source.info.size - rq->offset)
		return -ERANGE;
	return s3c_file_copy_range(call, source.fd, rq->offset, rq->length, fd);
}

int s3c_file_upload_part(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	struct s3c_file_store *fs = call->fs;
	cleanup_file_temp struct s3c_file_temp temp = S3C_FILE_TEMP_NONE;
	cleanup_close int dir_fd = -1;
	char token[S3C_FILE_TOKEN_LEN + 1];
	char name[64];
	int r;

	r = open_upload(call, &dir_fd, NULL);
	if (r == 0)
		r = s3c_file_temp_new(fs, &temp);
	if (r == 0)
		r = write_part(call, temp.fd);
	if (r == 0)
		r = s3c_file_call_check(call);
	if (r < 0)
		return r;
	if (fsync(temp.fd) < 0)
		return -EIO;
	s3c_file_random_name(token);
	snprintf(name, sizeof(name), "%05u.%s", call->rq.part_number, token);
	if (renameat(fs->session_fd, temp.name, dir_fd, name) < 0)
		return errno == ENOENT ? -ENXIO : s3c_file_errno(errno);
	temp.name[0] = '\0';
	if (fsync(dir_fd) < 0)
		return -EIO;
	reply->part.number = call->rq.part_number;
	snprintf(reply->part.etag, sizeof(reply->part.etag), "\"%s\"", token);
	return 0;
}

static int append_part(struct s3c_file_call *call, int dir_fd, const struct s3c_store_part *part,
		       bool last, int to, struct s3c_store_reply *reply)
{
	cleanup_close int fd = -1;
	char token[S3C_FILE_TOKEN_LEN + 1];
	char name[64];
	struct stat st;

	if (strlen(part->etag) != S3C_FILE_TOKEN_LEN + 2)
		goto invalid;
	snprintf(token, sizeof(token), "%s", part->etag + 1);
	if (!is_token(token))
		goto invalid;
	snprintf(name, sizeof(name), "%05u.%s", part->number, token);
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		goto invalid;
	if (fd < 0 || fstat(fd, &st) < 0)
		return s3c_file_errno(errno);
	if (!last && st.st_size < S3C_STORE_PART_MIN) {
		snprintf(reply->message, sizeof(reply->message),
			 "complete %s: EntityTooSmall: part %u has %lld bytes", call->rq.key,
			 part->number, (long long)st.st_size);
		return -EINVAL;
	}
	return s3c_file_copy_range(call, fd, 0, (uint64_t)st.st_size, to);
invalid:
	snprintf(reply->message, sizeof(reply->message),
		 "complete %s: InvalidPart: there is no part %u with this ETag", call->rq.key,
		 part->number);
	return -EINVAL;
}

int s3c_file_upload_complete(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	struct s3c_file_store *fs = call->fs;
	const struct s3c_store_request *rq = &call->rq;
	cleanup_file_temp struct s3c_file_temp temp = S3C_FILE_TEMP_NONE;
	struct s3c_stat info = { 0 };
	cleanup_close int dir_fd = -1;
	int r;

	r = open_upload(call, &dir_fd, &info);
	if (r == 0)
		r = s3c_file_temp_new(fs, &temp);
	for (size_t i = 0; r == 0 && i < rq->part_count; i++)
		r = append_part(call, dir_fd, &rq->parts[i], i + 1 == rq->part_count, temp.fd,
				reply);
	if (r == 0)
		r = s3c_file_publish(call, &temp, &info.meta, &info.props, info.content_type,
				     reply);
	if (r == 0)
		remove_upload(fs, rq->upload_id, dir_fd);
	s3c_stat_free(&info);
	return r;
}

/* A part as its file tells of it; the newest of a number counts. */
struct found_part {
	struct s3c_store_part part;
	struct timespec changed; /* when it got its name */
};

static int compare_found(const void *a, const void *b)
{
	const struct found_part *x = a, *y = b;

	if (x->part.number != y->part.number)
		return x->part.number < y->part.number ? -1 : 1;
	if (x->changed.tv_sec != y->changed.tv_sec)
		return x->changed.tv_sec < y->changed.tv_sec ? 1 : -1;
	return (x->changed.tv_nsec < y->changed.tv_nsec) -
	       (x->changed.tv_nsec > y->changed.tv_nsec);
}

/* 1: it is no part. */
static int part_of_name(int dir_fd, const char *name, struct found_part *ret_found)
{
	struct stat st;
	uint64_t number;
	char digits[6];

	if (strlen(name) != 6 + S3C_FILE_TOKEN_LEN || name[5] != '.' || !is_token(name + 6))
		return 1;
	memcpy(digits, name, 5);
	digits[5] = '\0';
	if (s3c_parse_u64(digits, 10000, &number) < 0 || !number)
		return 1;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 1 : s3c_file_errno(errno);
	*ret_found = (struct found_part){ .changed = st.st_ctim };
	ret_found->part.number = (unsigned)number;
	ret_found->part.size = (uint64_t)st.st_size;
	snprintf(ret_found->part.etag, sizeof(ret_found->part.etag), "\"%s\"", name + 6);
	return 0;
}

static int find_parts(int dir_fd, unsigned after, struct found_part **ret_found, size_t *ret_count)
{
	/* A description of its own, since reading moves it. */
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	cleanup_free struct found_part *found = NULL;
	size_t count = 0, alloc = 0;
	struct dirent *entry;
	int r = 0;

	if (!dir) {
		s3c_cleanup_close(&fd);
		return -EIO;
	}
	while (r >= 0 && (entry = readdir(dir))) {
		struct found_part one;

		r = part_of_name(dir_fd, entry->d_name, &one);
		if (r != 0 || one.part.number <= after)
			continue;
		if (count == alloc) {
			struct found_part *more;

			alloc = alloc ? alloc * 2 : 64;
			more = reallocarray(found, alloc, sizeof(*more));
			if (!more) {
				r = -ENOMEM;
				break;
			}
			found = more;
		}
		found[count++] = one;
	}
	closedir(dir);
	if (r < 0)
		return r;
	if (count)
		qsort(found, count, sizeof(*found), compare_found);
	*ret_found = steal_ptr(found);
	*ret_count = count;
	return 0;
}

int s3c_file_upload_parts(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	cleanup_free struct found_part *found = NULL;
	struct s3c_part_list *list = &reply->parts;
	cleanup_close int dir_fd = -1;
	size_t count = 0;
	int r = open_upload(call, &dir_fd, NULL);

	if (r == 0)
		r = find_parts(dir_fd, call->rq.part_number, &found, &count);
	if (r < 0)
		return r;
	list->parts = calloc(PARTS_PAGE, sizeof(*list->parts));
	if (!list->parts)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (i && found[i].part.number == found[i - 1].part.number)
			continue;
		if (list->count == PARTS_PAGE) {
			list->next = list->parts[list->count - 1].number;
			break;
		}
		list->parts[list->count++] = found[i].part;
	}
	return 0;
}

/* The key that an upload is for, and when it was begun. 1: it is none (any more). */
static int read_upload(struct s3c_file_store *fs, const char *id, struct s3c_upload_item *ret_item)
{
	cleanup_free char *path = s3c_asprintf("%s/meta", id);
	cleanup_close int fd = -1;
	char text[S3C_STORE_KEY_MAX + 1];
	struct stat st;
	ssize_t n;

	if (!path)
		return -ENOMEM;
	fd = openat(fs->uploads_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 1 : s3c_file_errno(errno);
	n = read(fd, text, sizeof(text));
	if (n < 0 || fstat(fd, &st) < 0)
		return -EIO;
	for (ssize_t i = 0; i < n; i++)
		if (text[i] == '\n') {
			ret_item->key = strndup(text, (size_t)i);
			ret_item->id = strdup(id);
			ret_item->begun_ns =
				st.st_mtim.tv_sec * S3C_NSEC_PER_SEC + st.st_mtim.tv_nsec;
			return ret_item->key && ret_item->id ? 0 : -ENOMEM;
		}
	return 1;
}

static int add_upload(struct s3c_upload_list *list, struct s3c_upload_item *item)
{
	struct s3c_upload_item *more =
		reallocarray(list->items, list->count + 1, sizeof(*list->items));

	if (!more)
		return -ENOMEM;
	list->items = more;
	list->items[list->count++] = *item;
	*item = (struct s3c_upload_item){ 0 };
	return 0;
}

static int compare_uploads(const void *a, const void *b)
{
	const struct s3c_upload_item *x = a, *y = b;
	int order = strcmp(x->key, y->key);

	return order ? order : strcmp(x->id, y->id);
}

/* All of them at once: they are as many as were broken off here. */
int s3c_file_list_uploads(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	struct s3c_file_store *fs = call->fs;
	const char *prefix = call->rq.prefix ? call->rq.prefix : "";
	int fd = fs->uploads_fd < 0
			 ? -1
			 : openat(fs->uploads_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (!dir) {
		s3c_cleanup_close(&fd);
		return fs->uploads_fd < 0 ? 0 : -EIO;
	}
	while (r == 0 && (entry = readdir(dir))) {
		struct s3c_upload_item item = { 0 };

		if (!is_token(entry->d_name))
			continue;
		r = read_upload(fs, entry->d_name, &item);
		if (r == 0 && strncmp(item.key, prefix, strlen(prefix)) == 0)
			r = add_upload(&reply->uploads, &item);
		else if (r > 0)
			r = 0;
		free(item.key);
		free(item.id);
	}
	closedir(dir);
	if (reply->uploads.count)
		qsort(reply->uploads.items, reply->uploads.count, sizeof(*reply->uploads.items),
		      compare_uploads);
	return r;
}

int s3c_file_upload_abort(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	struct s3c_file_store *fs = call->fs;
	cleanup_close int dir_fd = -1;
	int r = open_upload(call, &dir_fd, NULL);

	(void)reply;
	/* One whose removal was begun by a process that died: only its parts are left. */
	if (r == -ENXIO && fs->uploads_fd >= 0 && is_token(call->rq.upload_id)) {
		dir_fd = openat(fs->uploads_fd, call->rq.upload_id,
				O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir_fd >= 0 && faccessat(dir_fd, "meta", F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
		    errno == ENOENT)
			remove_upload(fs, call->rq.upload_id, dir_fd);
	}
	if (r == 0)
		remove_upload(fs, call->rq.upload_id, dir_fd);
	return r;
}
