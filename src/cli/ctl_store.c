/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/ctl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/encode.h"
#include "cli/access.h"
#include "cli/cli.h"
#include "engine/pending.h"
#include "engine/private.h" /* stat tells what only an entry knows */

#define READ_LEN (1u << 20) /* most that one read takes */

/* All steps but the last; look: nothing is made or locked here. */
static int open_store(struct s3c_ctl *ctl, struct s3c_access *access, bool init,
		      struct s3c_err *err)
{
	int r;

	signal(SIGPIPE, SIG_IGN); /* connections; a closed stdout is seen by its error */
	s3c_access_init(access, &ctl->options, &ctl->source, !init);
	r = s3c_access_keys(access, err);
	if (r == 0)
		r = s3c_access_store(access, init, err);
	if (r == 0)
		r = s3c_access_state(access, err);
	if (r == 0)
		r = s3c_access_probe(access, err);
	if (r == 0)
		r = s3c_access_volume(access, init, err);
	return r;
}

int s3c_ctl_open_engine(struct s3c_ctl *ctl, struct s3c_access *access, struct s3c_err *err)
{
	int r = open_store(ctl, access, false, err);

	return r == 0 ? s3c_access_engine(access, err) : r;
}

static int open_engine(struct s3c_ctl *ctl, struct s3c_access *access)
{
	struct s3c_err err = { 0 };
	int r = s3c_ctl_open_engine(ctl, access, &err);

	if (r < 0)
		s3c_ctl_complain(ctl, &err, r);
	return r;
}

static void begin_op(struct s3c_ctl *ctl, struct s3c_op *op)
{
	s3c_op_init(op, s3c_deadline_after((double)ctl->options.timeout_s));
}

char *s3c_ctl_clean_path(const char *text)
{
	size_t len;

	while (*text == '/')
		text++;
	len = strlen(text);
	while (len && text[len - 1] == '/')
		len--;
	return strndup(text, len);
}

char **s3c_ctl_clean_paths(struct s3c_ctl *ctl)
{
	char **paths = calloc((size_t)ctl->arg_count + 1, sizeof(*paths));

	for (int i = 0; paths && i < ctl->arg_count; i++) {
		paths[i] = s3c_ctl_clean_path(ctl->args[i]);
		if (!paths[i]) {
			s3c_ctl_free_paths(paths);
			return NULL;
		}
	}
	return paths;
}

void s3c_ctl_free_paths(char **paths)
{
	for (char **path = paths; path && *path; path++)
		free(*path);
	free(paths);
}

static int complain_path(struct s3c_ctl *ctl, const char *path, int r)
{
	struct s3c_err err = { 0 };

	s3c_err_set(&err, r, "%s: %s", path[0] ? path : "/", strerror(-r));
	s3c_ctl_complain(ctl, &err, r);
	return S3C_EXIT_FAILED;
}

int s3c_ctl_init(struct s3c_ctl *ctl)
{
	cleanup_access struct s3c_access access = { 0 };
	struct s3c_err err = { 0 };
	char id[2 * S3C_VOLUME_ID_LEN + 1];
	int r = 0;

	if (s3c_enc_family(ctl->options.enc) == S3C_FAMILY_PLAIN)
		r = s3c_err_set(&err, -EINVAL, "enc=%s has no volume and needs none",
				ctl->options.enc_name);
	else if (ctl->options.read_only)
		r = s3c_err_set(&err, -EINVAL, "a volume cannot be made read-only: leave out ro");
	if (r == 0)
		r = open_store(ctl, &access, true, &err);
	if (r < 0) {
		s3c_ctl_complain(ctl, &err, r);
		return S3C_EXIT_FAILED;
	}
	s3c_hex_encode(access.volume->id, S3C_VOLUME_ID_LEN, id);
	printf("volume %s in %s%s\n", id,
	       access.volume_prefix && access.volume_prefix[0] ? "prefix " : ctl->source.text,
	       access.volume_prefix ? access.volume_prefix : "");
	return S3C_EXIT_OK;
}

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symbolic link";
	case S_IFREG:
		return "file";
	default:
		return "special file";
	}
}

static void format_time(int64_t ns, char *text, size_t size)
{
	time_t seconds = (time_t)(ns / S3C_NSEC_PER_SEC);
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || !strftime(text, size, "%Y-%m-%d %H:%M:%S UTC", &tm))
		snprintf(text, size, "%lld", (long long)seconds);
}

void s3c_ctl_print_name_to(FILE *out, const char *name)
{
	for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
		if (*p < 0x20 || *p == 0x7f || *p == '\\')
			fprintf(out, "\\%03o", *p);
		else
			fputc(*p, out);
	}
}

void s3c_ctl_print_name(const char *name)
{
	s3c_ctl_print_name_to(stdout, name);
}

static void print_row(const char *name, const struct s3c_info *info)
{
	static const char bits[] = "rwxrwxrwx";
	char mode[11], when[64];

	mode[0] = S_ISDIR(info->mode)    ? 'd'
		  : S_ISLNK(info->mode)  ? 'l'
		  : S_ISREG(info->mode)  ? '-'
		  : S_ISFIFO(info->mode) ? 'p'
		  : S_ISSOCK(info->mode) ? 's'
		  : S_ISCHR(info->mode)  ? 'c'
		  : S_ISBLK(info->mode)  ? 'b'
					 : '?';
	for (unsigned i = 0; i < 9; i++)
		mode[i + 1] = (char)(info->mode & (0400u >> i) ? bits[i] : '-');
	mode[10] = '\0';
	format_time(info->mtime_ns, when, sizeof(when));
	printf("%s %5u %5u %12llu %s ", mode, info->uid, info->gid, (unsigned long long)info->size,
	       when);
	s3c_ctl_print_name(name);
	putchar('\n');
}

static int list_rows(struct s3c_ctl *ctl, struct s3c_engine *engine, const char *path,
		     const struct s3c_listing *listing)
{
	int status = S3C_EXIT_OK;

	for (size_t i = 0; i < listing->count; i++) {
		const struct s3c_listing_item *item = &listing->items[i];
		cleanup_free char *below = NULL;
		struct s3c_info info;
		struct s3c_op op;
		int r;

		if (!ctl->long_list) {
			s3c_ctl_print_name(item->name);
			puts(S_ISDIR(item->type) ? "/" : "");
			continue;
		}
		below = path[0] ? s3c_asprintf("%s/%s", path, item->name) : strdup(item->name);
		if (!below)
			return complain_path(ctl, path, -ENOMEM);
		begin_op(ctl, &op);
		r = s3c_engine_lookup(engine, &op, below, &info);
		s3c_op_destroy(&op);
		if (r < 0)
			status = complain_path(ctl, below, r);
		else
			print_row(item->name, &info);
	}
	return status;
}

static int list_path(struct s3c_ctl *ctl, struct s3c_engine *engine, const char *path);

/* Each below its name, as ls -R does. */
static int list_below(struct s3c_ctl *ctl, struct s3c_engine *engine, const char *path,
		      const struct s3c_listing *listing)
{
	int status = S3C_EXIT_OK;

	for (size_t i = 0; i < listing->count; i++) {
		const struct s3c_listing_item *item = &listing->items[i];
		cleanup_free char *below = NULL;

		if (!S_ISDIR(item->type))
			continue;
		below = path[0] ? s3c_asprintf("%s/%s", path, item->name) : strdup(item->name);
		if (!below)
			return complain_path(ctl, path, -ENOMEM);
		putchar('\n');
		s3c_ctl_print_name(below);
		puts(":");
		if (list_path(ctl, engine, below) != S3C_EXIT_OK)
			status = S3C_EXIT_FAILED;
	}
	return status;
}

static int list_path(struct s3c_ctl *ctl, struct s3c_engine *engine, const char *path)
{
	struct s3c_listing *listing = NULL;
	struct s3c_info info = { .mode = S_IFDIR };
	struct s3c_op op;
	int r = 0, status;

	begin_op(ctl, &op);
	if (path[0])
		r = s3c_engine_lookup(engine, &op, path, &info);
	if (r == 0 && S_ISDIR(info.mode))
		r = s3c_engine_list(engine, &op, path, &listing);
	s3c_op_destroy(&op);
	if (r < 0)
		return complain_path(ctl, path, r);
	if (!listing) {
		if (ctl->long_list) {
			print_row(path, &info);
		} else {
			s3c_ctl_print_name(path);
			putchar('\n');
		}
		return S3C_EXIT_OK;
	}
	status = list_rows(ctl, engine, path, listing);
	if (ctl->recursive && list_below(ctl, engine, path, listing) != S3C_EXIT_OK)
		status = S3C_EXIT_FAILED;
	s3c_listing_put(listing);
	return status;
}

int s3c_ctl_ls(struct s3c_ctl *ctl)
{
	cleanup_access struct s3c_access access = { 0 };
	int status = S3C_EXIT_OK;

	if (open_engine(ctl, &access) < 0)
		return S3C_EXIT_FAILED;
	if (ctl->arg_count == 0)
		return list_path(ctl, access.engine, "");
	for (int i = 0; i < ctl->arg_count; i++) {
		cleanup_free char *path = s3c_ctl_clean_path(ctl->args[i]);

		if (!path)
			return S3C_EXIT_FAILED;
		if (ctl->arg_count > 1) {
			printf("%s", i ? "\n" : "");
			s3c_ctl_print_name(ctl->args[i]);
			puts(":");
		}
		if (list_path(ctl, access.engine, path) != S3C_EXIT_OK)
			status = S3C_EXIT_FAILED;
	}
	return status;
}

static void print_hex(const char *title, const uint8_t *bytes, size_t len)
{
	char hex[2 * 64 + 1];

	s3c_hex_encode(bytes, S3C_MIN(len, (size_t)64), hex);
	printf("%-16s %s\n", title, hex);
}

/* Of an object without client-side encryption: what the store says that it encrypts with. */
static void print_store_mode(const struct s3c_ctl *ctl, struct s3c_engine *engine, const char *path,
			     bool is_dir)
{
	struct s3c_store_reply reply = { 0 };
	cleanup_free char *key = NULL;
	int r = s3c_key_of(engine, path, is_dir, &key);

	if (r == 0)
		r = s3c_key_head(engine, key, &reply);
	printf("%-16s ", "encryption");
	if (ctl->options.enc == S3C_ENC_SSE_C) {
		char id[256];

		puts("sse-c");
		if (s3c_engine_key_id(engine, path, id, sizeof(id)) == 0)
			printf("%-16s %s\n", "key id", id);
	} else if (r < 0)
		puts("not known");
	else if (!reply.stat.sse[0])
		puts("none");
	else
		printf("by the store, %s%s%s\n", reply.stat.sse,
		       reply.stat.sse_key[0] ? ", key " : "", reply.stat.sse_key);
	s3c_store_reply_free(&reply);
}

static void print_entry(const struct s3c_ctl *ctl, struct s3c_engine *engine, const char *path,
			const char *key, const struct s3c_entry *entry, const struct s3c_info *info)
{
	const struct s3c_header *header = &entry->header;
	char when[64], what[256];

	printf("%-16s ", "path");
	s3c_ctl_print_name(path[0] ? path : "/");
	printf("\n%-16s ", "key");
	s3c_ctl_print_name(key);
	printf("\n%-16s %s, %04o, owner %u, group %u\n", "type", type_name(info->mode),
	       (unsigned)info->mode & 07777, info->uid, info->gid);
	format_time(info->mtime_ns, when, sizeof(when));
	printf("%-16s %s\n", "modified", when);
	format_time(info->atime_ns, when, sizeof(when));
	printf("%-16s %s\n", "accessed", when);
	format_time(info->ctime_ns, when, sizeof(when));
	printf("%-16s %s\n", "changed", when);
	printf("%-16s %llu\n", "size", (unsigned long long)info->size);
	printf("%-16s %llu\n", "stored size", (unsigned long long)entry->stored_size);
	if (entry->implicit) {
		printf("%-16s a prefix without an object\n", "stored as");
		return;
	}
	if (header->layout == S3C_LAYOUT_PLAIN)
		print_store_mode(ctl, engine, path, entry->is_dir);
	else
		printf("%-16s %s\n", "encryption",
		       header->layout == S3C_LAYOUT_FOREIGN ? "of another client"
		       : header->kms                        ? "cse-kms"
							    : "cse-key");
	if (entry->s3ec) {
		s3c_s3ec_describe(entry->s3ec, what, sizeof(what));
		printf("%-16s %s\n", "format", what);
	}
	if (header->layout == S3C_LAYOUT_CHUNKS || header->layout == S3C_LAYOUT_TRAILER) {
		printf("%-16s %s\n", "format", S3C_CEK_ALG);
		printf("%-16s %s\n", "layout",
		       header->layout == S3C_LAYOUT_CHUNKS ? "chunks" : "segments and trailer");
		printf("%-16s %s%s\n", "key id", s3c_header_key_name(header),
		       header->kms && header->kms->reuse ? " (shared key)" : "");
		print_hex("file id", header->file_id, sizeof(header->file_id));
		print_hex("content version", header->content_id, sizeof(header->content_id));
	}
	if (header->layout == S3C_LAYOUT_S3EC)
		printf("%-16s %s\n", "key id", s3c_header_key_name(header));
	if (s3c_layout_is_sealed(header->layout))
		printf("%-16s %llu\n", "generation", (unsigned long long)header->generation);
	printf("%-16s %s\n", "etag", entry->version.etag);
	if (entry->version.version_id[0])
		printf("%-16s %s\n", "version id", entry->version.version_id);
}

int s3c_ctl_stat(struct s3c_ctl *ctl)
{
	cleanup_access struct s3c_access access = { 0 };
	int status = S3C_EXIT_OK;

	if (open_engine(ctl, &access) < 0)
		return S3C_EXIT_FAILED;
	for (int i = 0; i < ctl->arg_count; i++) {
		cleanup_free char *path = s3c_ctl_clean_path(ctl->args[i]);
		cleanup_free char *key = NULL;
		struct s3c_entry *entry = NULL;
		struct s3c_info info;
		struct s3c_op op;
		int r;

		if (!path)
			return S3C_EXIT_FAILED;
		begin_op(ctl, &op);
		r = s3c_names_lookup(access.engine, &op, path, false, &entry);
		s3c_op_destroy(&op);
		if (r == 0)
			r = s3c_key_of(access.engine, path, entry->is_dir, &key);
		if (r < 0) {
			s3c_entry_put(entry);
			status = complain_path(ctl, path, r);
			continue;
		}
		s3c_entry_info(access.engine, entry, &info);
		if (i)
			putchar('\n');
		print_entry(ctl, access.engine, path, key, entry, &info);
		s3c_entry_put(entry);
	}
	return status;
}

/* From the offset on, the bytes that were asked for. */
static int cat_object(struct s3c_ctl *ctl, struct s3c_engine *engine, struct s3c_object *object)
{
	struct s3c_readahead ahead = { 0 };
	uint64_t offset = ctl->offset, left = ctl->length;

	while (left) {
		struct s3c_pages pages = { 0 };
		struct s3c_op op;
		size_t len;
		int r;

		begin_op(ctl, &op);
		r = s3c_object_read(object, &op, offset, S3C_MIN(left, (uint64_t)READ_LEN), &ahead,
				    &pages);
		s3c_op_destroy(&op);
		if (r < 0)
			return r;
		for (unsigned i = 0; r == 0 && i < pages.count; i++)
			if (fwrite(pages.iov[i].iov_base, 1, pages.iov[i].iov_len, stdout) !=
			    pages.iov[i].iov_len)
				r = -errno;
		len = pages.len;
		s3c_pages_release(engine, &pages);
		if (r < 0 || len == 0)
			return r;
		offset += len;
		left -= len;
	}
	return 0;
}

int s3c_ctl_cat(struct s3c_ctl *ctl)
{
	cleanup_access struct s3c_access access = { 0 };
	int status = S3C_EXIT_OK;

	if (open_engine(ctl, &access) < 0)
		return S3C_EXIT_FAILED;
	for (int i = 0; i < ctl->arg_count; i++) {
		cleanup_free char *path = s3c_ctl_clean_path(ctl->args[i]);
		struct s3c_object *object = NULL;
		struct s3c_info info;
		struct s3c_op op;
		int r;

		if (!path)
			return S3C_EXIT_FAILED;
		begin_op(ctl, &op);
		r = s3c_engine_lookup(access.engine, &op, path, &info);
		if (r == 0 && S_ISDIR(info.mode))
			r = -EISDIR;
		if (r == 0)
			r = s3c_object_open(access.engine, &op, path, &object);
		s3c_op_destroy(&op);
		if (r == 0) {
			r = cat_object(ctl, access.engine, object);
			s3c_object_close(object);
		}
		if (r < 0)
			status = complain_path(ctl, path, r);
	}
	return status;
}
