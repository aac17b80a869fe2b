/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * LIST of the folder store: keys in the order of their bytes, a page at a time.
 *
 * Folders are walked in order. Among the names of one folder, a folder counts as its name and '/'
 * (so "a-b" comes before "a/c"); long components, which are chains of folders, are put together
 * first. What lies before the position is passed over a whole folder at a time. The position is
 * the last key given ("k" and the key as a token), or the last common prefix ("p" and it), which
 * covers all keys below it.
 */
#include "store/file_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct child {
	char *name; /* decoded */
	char *path; /* below the folder that is listed */
	bool is_dir;
};
struct children {
	struct child *items;
	size_t count;
	size_t alloc;
};
struct lister {
	struct s3c_file_call *call;
	struct s3c_file_store *fs;
	const char *prefix;
	char *after;      /* NULL: at the beginning */
	bool after_below; /* after is a common prefix: nothing below it either */
	size_t max;
	struct s3c_list *list;
	size_t alloc;
};

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static void children_free(struct children *children)
{
	for (size_t i = 0; i < children->count; i++) {
		free(children->items[i].name);
		free(children->items[i].path);
	}
	free(children->items);
}
#define cleanup_children __attribute__((cleanup(children_free)))

static int compare_children(const void *pa, const void *pb)
{
	const struct child *a = pa;
	const struct child *b = pb;
	size_t i = 0;
	unsigned ca, cb;

	while (a->name[i] && a->name[i] == b->name[i])
		i++;
	/* At the end of a folder's name stands its '/', after which the order does not matter. */
	ca = a->name[i] ? (unsigned char)a->name[i] : a->is_dir ? '/' : 0;
	cb = b->name[i] ? (unsigned char)b->name[i] : b->is_dir ? '/' : 0;
	return (ca > cb) - (ca < cb);
}

static int add_child(struct children *children, const char *name_start, const char *name,
		     const char *path_start, const char *path, bool is_dir)
{
	struct child child = { .is_dir = is_dir };

	if (children->count == children->alloc) {
		size_t alloc = children->alloc ? children->alloc * 2 : 32;
		struct child *items = reallocarray(children->items, alloc, sizeof(*items));

		if (!items)
			return -ENOMEM;
		children->items = items;
		children->alloc = alloc;
	}
	child.name = s3c_asprintf("%s%s", name_start, name);
	child.path = s3c_asprintf("%s%s", path_start, path);
	if (!child.name || !child.path) {
		free(child.name);
		free(child.path);
		return -ENOMEM;
	}
	children->items[children->count++] = child;
	return 0;
}

static DIR *open_dir(struct s3c_file_store *fs, const char *path)
{
	int fd = openat(fs->dir_fd, path[0] ? path : ".",
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir;

	if (fd < 0)
		return NULL;
	dir = fdopendir(fd);
	if (!dir)
		close(fd);
	return dir;
}

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}
#define cleanup_dir __attribute__((cleanup(close_dir)))

/* The next name that is a file or a folder. 1, 0 at the end, or -errno. */
static int next_entry(DIR *dir, const char **ret_name, bool *ret_is_dir)
{
	for (;;) {
		struct dirent *entry;
		struct stat st;

		errno = 0;
		entry = readdir(dir);
		if (!entry)
			return errno ? s3c_file_errno(errno) : 0;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		*ret_name = entry->d_name;
		*ret_is_dir = entry->d_type == DT_DIR;
		if (entry->d_type == DT_DIR || entry->d_type == DT_REG)
			return 1;
		if (entry->d_type != DT_UNKNOWN ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		*ret_is_dir = S_ISDIR(st.st_mode);
		if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode))
			return 1;
	}
}

/*
 * Reads the folder at base + below; names get start put before them, paths get below.
 */
static int read_children(struct lister *l, const char *base, const char *below, const char *start,
			 enum s3c_file_place place, struct children *children)
{
	cleanup_free char *path = s3c_asprintf("%s%s", base, below);
	cleanup_dir DIR *dir = NULL;
	const char *entry;
	bool is_dir;
	int r;

	if (!path)
		return -ENOMEM;
	dir = open_dir(l->fs, path);
	if (!dir)
		return errno == ENOENT || errno == ENOTDIR ? 0 : s3c_file_errno(errno);
	while ((r = next_entry(dir, &entry, &is_dir)) > 0) {
		const char *name;

		switch (s3c_file_name_decode(entry, is_dir, place, &name)) {
		case S3C_FILE_NAME_FOREIGN:
			break;
		case S3C_FILE_NAME_WHOLE:
			r = add_child(children, start, name, below, entry, is_dir);
			break;
		case S3C_FILE_NAME_PIECE: {
			cleanup_free char *piece_path = s3c_asprintf("%s%s/", below, entry);
			cleanup_free char *piece_start = s3c_asprintf("%s%s", start, name);

			if (!piece_path || !piece_start || strlen(piece_path) > S3C_FILE_PATH_MAX)
				return -ENOMEM;
			r = read_children(l, base, piece_path, piece_start, S3C_FILE_IN_PIECE,
					  children);
			break;
		}
		}
		if (r < 0)
			return r;
	}
	return r;
}

/* Is there any object below? Folders that a crash left empty are none. 1, 0 or -errno. */
static int has_object(struct lister *l, const char *path, enum s3c_file_place place)
{
	cleanup_dir DIR *dir = open_dir(l->fs, path);
	const char *entry;
	const char *name;
	bool is_dir;
	int r;

	if (!dir)
		return errno == ENOENT || errno == ENOTDIR ? 0 : s3c_file_errno(errno);
	while ((r = next_entry(dir, &entry, &is_dir)) > 0) {
		cleanup_free char *below = NULL;
		enum s3c_file_name_kind kind = s3c_file_name_decode(entry, is_dir, place, &name);

		if (kind == S3C_FILE_NAME_FOREIGN)
			continue;
		if (!is_dir)
			return 1;
		below = s3c_asprintf("%s/%s", path, entry);
		if (!below)
			return -ENOMEM;
		r = has_object(l, below,
			       kind == S3C_FILE_NAME_PIECE ? S3C_FILE_IN_PIECE
							   : S3C_FILE_IN_FOLDER);
		if (r != 0)
			return r;
	}
	return r;
}

/* 1: the page is full, and there is more. */
static int add_entry(struct lister *l, const char *key, size_t key_len, bool is_prefix,
		     const struct s3c_stat *info)
{
	struct s3c_list *list = l->list;
	struct s3c_list_entry *entry;
	char *copy;

	if (list->count == l->max) {
		list->next_token = s3c_asprintf("%c%s", l->after_below ? 'p' : 'k', l->after);
		return list->next_token ? 1 : -ENOMEM;
	}
	if (list->count == l->alloc) {
		size_t alloc = l->alloc ? l->alloc * 2 : 32;

		entry = reallocarray(list->entries, alloc, sizeof(*entry));
		if (!entry)
			return -ENOMEM;
		list->entries = entry;
		l->alloc = alloc;
	}
	copy = strndup(key, key_len);
	if (!copy)
		return -ENOMEM;
	free(l->after);
	l->after = strdup(copy);
	l->after_below = is_prefix;
	entry = &list->entries[list->count++];
	*entry = (struct s3c_list_entry){ .key = copy, .is_prefix = is_prefix };
	if (info) {
		entry->size = info->size;
		entry->modified_ns = info->version.modified_ns;
		memcpy(entry->etag, info->version.etag, sizeof(entry->etag));
	}
	return l->after ? 0 : -ENOMEM;
}

static int add_object(struct lister *l, const char *key)
{
	cleanup_file_object struct s3c_file_object object = S3C_FILE_OBJECT_NONE;
	int r;

	if (!starts_with(key, l->prefix))
		return 0;
	if (l->after &&
	    (strcmp(key, l->after) <= 0 || (l->after_below && starts_with(key, l->after))))
		return 0;
	if (l->call->rq.delimiter) {
		const char *slash = strchr(key + strlen(l->prefix), '/');

		if (slash)
			return add_entry(l, key, (size_t)(slash + 1 - key), true, NULL);
	}
	r = s3c_file_object_open(l->fs, key, &object);
	if (r < 0) /* deleted meanwhile */
		return r == -ENOENT ? 0 : r;
	return add_entry(l, key, strlen(key), false, &object.info);
}

static bool may_hold(const struct lister *l, const char *key)
{
	size_t len = S3C_MIN(strlen(key), strlen(l->prefix));

	if (strncmp(key, l->prefix, len) != 0)
		return false;
	if (!l->after)
		return true;
	if (l->after_below && starts_with(key, l->after))
		return false;
	return starts_with(l->after, key) || strcmp(key, l->after) > 0;
}

static int walk(struct lister *l, const char *path, const char *key, enum s3c_file_place place);

static int walk_folder(struct lister *l, const char *path, const char *key)
{
	bool inside = l->after && starts_with(l->after, key);
	int r;

	if (!may_hold(l, key))
		return 0;
	/* Below the delimiter one object is as good as any. */
	if (l->call->rq.delimiter && !inside && strlen(key) > strlen(l->prefix)) {
		r = has_object(l, path, S3C_FILE_IN_FOLDER);
		return r > 0 ? add_entry(l, key, strlen(key), true, NULL) : r;
	}
	return walk(l, path, key, S3C_FILE_IN_FOLDER);
}

/* path: "" or the folder's; key: "" or its key with a '/' at the end. 1: the page is full. */
static int walk(struct lister *l, const char *path, const char *key, enum s3c_file_place place)
{
	cleanup_children struct children children = { 0 };
	cleanup_free char *base = s3c_asprintf("%s%s", path, path[0] ? "/" : "");
	int r = s3c_file_call_check(l->call);

	if (!base)
		return -ENOMEM;
	/* A rename while a folder is read could make a name come twice or not at all. */
	if (r == 0)
		r = s3c_file_lock(l->fs, l->call);
	if (r < 0)
		return r;
	r = read_children(l, base, "", "", place, &children);
	s3c_file_unlock(l->fs);
	if (r < 0)
		return r;
	if (children.count)
		qsort(children.items, children.count, sizeof(*children.items), compare_children);
	for (size_t i = 0; r == 0 && i < children.count; i++) {
		const struct child *child = &children.items[i];
		cleanup_free char *child_key =
			s3c_asprintf("%s%s%s", key, child->name, child->is_dir ? "/" : "");
		cleanup_free char *child_path = s3c_asprintf("%s%s", base, child->path);

		if (!child_key || !child_path)
			return -ENOMEM;
		if (strlen(child_key) > S3C_STORE_KEY_MAX)
			continue; /* no key: put there by hand */
		r = child->is_dir ? walk_folder(l, child_path, child_key)
				  : add_object(l, child_key);
	}
	return r;
}

static int set_position(struct lister *l)
{
	const struct s3c_store_request *rq = &l->call->rq;
	const char *after = rq->start_after;

	if (rq->token) {
		if (rq->token[0] != 'k' && rq->token[0] != 'p')
			return -EINVAL;
		l->after_below = rq->token[0] == 'p';
		after = rq->token + 1;
	}
	if (!after || !after[0])
		return 0;
	l->after = strdup(after);
	return l->after ? 0 : -ENOMEM;
}

int s3c_file_list(struct s3c_file_call *call, struct s3c_store_reply *reply)
{
	const char *prefix = call->rq.prefix ? call->rq.prefix : "";
	const char *slash = strrchr(prefix, '/');
	struct lister l = {
		.call = call,
		.fs = call->fs,
		.prefix = prefix,
		.max = call->rq.max_keys ? call->rq.max_keys : 1000,
		.list = &reply->list,
	};
	cleanup_free char *folder = NULL;
	cleanup_free char *key = NULL;
	char path[S3C_FILE_PATH_MAX];
	int r = set_position(&l);

	if (r == 0 && slash) {
		folder = strndup(prefix, (size_t)(slash - prefix));
		key = strndup(prefix, (size_t)(slash + 1 - prefix));
		r = folder && key ? s3c_file_path(folder, path) : -ENOMEM;
		if (r == 0)
			r = walk(&l, path, key, S3C_FILE_IN_FOLDER);
		else if (r == -ENAMETOOLONG)
			r = 0;
	} else if (r == 0) {
		r = walk(&l, "", "", S3C_FILE_AT_TOP);
	}
	free(l.after);
	return r < 0 ? r : 0;
}
