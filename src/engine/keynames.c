/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Encrypted names: paths become keys and keys become paths (object/names.h). The way to a key needs
 * nothing but the path. The way back of a long name needs what its object's metadata says; as a
 * stored name stands for one name for ever, what was learned once is kept, up to a bound.
 *
 * Its lock is a leaf; nothing waits for the store with it held.
 */
#include "engine/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KNOWN_MAX 65536u

/* A long name, by its key relative to the volume without the slash of a directory. */
struct known {
	UT_hash_handle hh;
	TAILQ_ENTRY(known) link;
	char name[S3C_NAME_LEN_MAX + 1];
	char key[];
};

struct s3c_keynames {
	struct s3c_mutex lock;
	struct known *by_key;
	TAILQ_HEAD(, known) all; /* oldest first */
	unsigned count;
};

int s3c_keynames_new(struct s3c_keynames **ret_keynames)
{
	struct s3c_keynames *keynames = calloc(1, sizeof(*keynames));

	if (!keynames)
		return -ENOMEM;
	s3c_mutex_init(&keynames->lock);
	TAILQ_INIT(&keynames->all);
	*ret_keynames = keynames;
	return 0;
}

static void known_drop(struct s3c_keynames *keynames, struct known *known)
{
	HASH_DEL(keynames->by_key, known);
	TAILQ_REMOVE(&keynames->all, known, link);
	keynames->count--;
	free(known);
}

void s3c_keynames_free(struct s3c_keynames *keynames)
{
	if (!keynames)
		return;
	while (!TAILQ_EMPTY(&keynames->all))
		known_drop(keynames, TAILQ_FIRST(&keynames->all));
	s3c_mutex_destroy(&keynames->lock);
	free(keynames);
}

static bool recall(struct s3c_keynames *keynames, const char *key, size_t len,
		   char ret_name[static S3C_NAME_LEN_MAX + 1])
{
	struct known *known;

	s3c_mutex_lock(&keynames->lock);
	HASH_FIND(hh, keynames->by_key, key, len, known);
	if (known)
		strcpy(ret_name, known->name);
	s3c_mutex_unlock(&keynames->lock);
	return known;
}

/* Without memory it is asked for again. */
static void remember(struct s3c_keynames *keynames, const char *key, size_t len, const char *name)
{
	struct known *known = malloc(sizeof(*known) + len + 1), *found;

	if (!known)
		return;
	strcpy(known->name, name);
	memcpy(known->key, key, len);
	known->key[len] = '\0';
	s3c_mutex_lock(&keynames->lock);
	HASH_FIND(hh, keynames->by_key, key, len, found);
	if (!found)
		HASH_ADD_KEYPTR(hh, keynames->by_key, known->key, len, known);
	if (found || !known->hh.tbl) {
		free(known);
	} else {
		TAILQ_INSERT_TAIL(&keynames->all, known, link);
		if (++keynames->count > KNOWN_MAX)
			known_drop(keynames, TAILQ_FIRST(&keynames->all));
	}
	s3c_mutex_unlock(&keynames->lock);
}

/* Where the last component of a key begins, whose last slash does not count. */
static size_t last_component(const char *key, size_t *ret_len)
{
	size_t end = strlen(key), at;

	end -= end && key[end - 1] == '/';
	at = end;
	while (at && key[at - 1] != '/')
		at--;
	*ret_len = end - at;
	return at;
}

bool s3c_key_is_long(const char *key)
{
	size_t len;

	return s3c_name_is_long(key + last_component(key, &len));
}

int s3c_stored_append(struct s3c_engine *engine, const char *path,
		      char key[static S3C_STORE_KEY_MAX + 1])
{
	size_t at = strlen(key);

	for (const char *p = path; *p;) {
		size_t len = strcspn(p, "/"), stored_len;
		const char *rel = s3c_rel_key(engine, key);
		struct s3c_stored_name stored;
		int r = s3c_name_encrypt(engine->volume->names_key, rel, p, len, &stored);

		if (r < 0)
			return r;
		stored_len = strlen(stored.text);
		if (at + stored_len + 1 > S3C_STORE_KEY_MAX + 1)
			return -ENAMETOOLONG;
		memcpy(key + at, stored.text, stored_len + 1);
		at += stored_len;
		if (stored.item[0]) {
			char name[S3C_NAME_LEN_MAX + 1];

			memcpy(name, p, len);
			name[len] = '\0';
			remember(engine->keynames, rel, strlen(rel), name);
		}
		p += len;
		if (!*p)
			break;
		p++;
		if (at + 1 > S3C_STORE_KEY_MAX)
			return -ENAMETOOLONG;
		key[at++] = '/';
		key[at] = '\0';
	}
	return 0;
}

int s3c_key_name_item(struct s3c_engine *engine, const char *path, const char *key,
		      struct s3c_meta *meta)
{
	const char *rel = s3c_rel_key(engine, key), *name;
	cleanup_free char *parent = NULL;
	struct s3c_stored_name stored;
	size_t len, at = last_component(rel, &len);
	int r;

	if (!s3c_names_encrypted(engine) || !s3c_key_is_long(rel))
		return 0;
	name = s3c_path_name(*path ? path : engine->mount_path);
	parent = strndup(rel, at);
	if (!parent)
		return -ENOMEM;
	r = s3c_name_encrypt(engine->volume->names_key, parent, name, strlen(name), &stored);
	if (r < 0)
		return r;
	/* Under another name it could not be listed. */
	if (strncmp(stored.text, rel + at, len) != 0)
		return -EINVAL;
	return s3c_meta_set(meta, S3C_NAME_ITEM, stored.item);
}

int s3c_key_name(struct s3c_engine *engine, const char *dir, const char *stored, size_t len,
		 char ret_name[static S3C_NAME_LEN_MAX + 1])
{
	bool root = strcmp(dir, engine->config.prefix) == 0;
	const char *rel = s3c_rel_key(engine, dir);
	char name[S3C_NAME_LEN_MAX + 1];
	int r = 0;

	if (!s3c_names_encrypted(engine)) {
		r = s3c_name_unescape(stored, len, name);
	} else {
		r = s3c_name_decrypt(engine->volume->names_key, rel, stored, len, NULL, name);
		if (r == -ENODATA) {
			cleanup_free char *key = s3c_asprintf("%s%.*s", rel, (int)len, stored);

			r = !key                                               ? -ENOMEM
			    : recall(engine->keynames, key, strlen(key), name) ? 0
									       : -ENODATA;
		}
	}
	if (r == 0 && !s3c_name_valid(name, strlen(name), root))
		r = -EBADMSG;
	if (r == 0)
		strcpy(ret_name, name);
	return r;
}

int s3c_key_last_name(struct s3c_engine *engine, const char *key, const struct s3c_meta *meta,
		      char ret_name[static S3C_NAME_LEN_MAX + 1])
{
	const char *rel = s3c_rel_key(engine, key), *item = s3c_meta_get(meta, S3C_NAME_ITEM);
	size_t len, at = last_component(rel, &len);
	cleanup_free char *parent = strndup(rel, at);

	/* Bodies have no names that are encrypted. */
	if (s3c_path_is_body(rel)) {
		strcpy(ret_name, rel + at);
		return 0;
	}
	return parent ? s3c_name_decrypt(engine->volume->names_key, parent, rel + at, len, item,
					 ret_name)
		      : -ENOMEM;
}

/* HEADs of objects with long names, side by side. */
struct asking {
	struct s3c_engine *engine;
	char **keys;
	size_t count, alloc;

	struct s3c_mutex lock;
	struct s3c_waitq woken;
	size_t left;
	int result; /* the first error */
};
struct ask {
	struct asking *asking;
	const char *key;
};

static void learn(struct s3c_engine *engine, const char *key, const struct s3c_meta *meta)
{
	const char *rel = s3c_rel_key(engine, key);
	size_t len, at = last_component(rel, &len);
	char name[S3C_NAME_LEN_MAX + 1];

	if (s3c_key_last_name(engine, key, meta, name) == 0)
		remember(engine->keynames, rel, at + len, name);
}

static void ask_done(void *arg, struct s3c_store_reply *reply)
{
	struct ask *ask = arg;
	struct asking *asking = ask->asking;
	int r = reply->result;

	if (r == 0)
		learn(asking->engine, ask->key, &reply->stat.meta);
	else if (r != -ENOENT && r != -ECANCELED)
		r = s3c_engine_fail(asking->engine, "look up", ask->key, r, reply->message);
	s3c_mutex_lock(&asking->lock);
	if (r < 0 && r != -ENOENT && asking->result == 0)
		asking->result = r;
	asking->left--;
	s3c_waitq_wake_all(&asking->woken);
	s3c_mutex_unlock(&asking->lock);
}

static int ask_all(struct asking *asking, struct s3c_op *op)
{
	struct s3c_store *store = asking->engine->store;
	cleanup_free struct ask *asks = calloc(asking->count, sizeof(*asks));
	cleanup_free struct s3c_store_call **calls =
		calloc(asking->count, sizeof(struct s3c_store_call *));
	int r = 0;

	if (!asks || !calls)
		return -ENOMEM;
	s3c_mutex_init(&asking->lock);
	s3c_waitq_init(&asking->woken);
	for (size_t i = 0; r == 0 && i < asking->count; i++) {
		struct s3c_store_request rq = {
			.op = S3C_STORE_HEAD,
			.key = asking->keys[i],
			.deadline_ns = s3c_engine_deadline(asking->engine),
		};

		asks[i] = (struct ask){ asking, asking->keys[i] };
		s3c_mutex_lock(&asking->lock);
		asking->left++;
		s3c_mutex_unlock(&asking->lock);
		r = s3c_store_submit(store, &rq, ask_done, &asks[i], &calls[i]);
		if (r < 0) {
			s3c_mutex_lock(&asking->lock);
			asking->left--;
			s3c_mutex_unlock(&asking->lock);
		}
	}
	s3c_mutex_lock(&asking->lock);
	while (r == 0 && asking->left)
		r = s3c_waitq_wait(&asking->woken, &asking->lock, op);
	s3c_mutex_unlock(&asking->lock);
	for (size_t i = 0; i < asking->count && calls[i]; i++) {
		if (r < 0)
			s3c_store_cancel(store, calls[i]);
		s3c_store_call_put(store, calls[i]);
	}
	s3c_mutex_lock(&asking->lock);
	while (asking->left)
		s3c_waitq_wait(&asking->woken, &asking->lock, NULL);
	r = r < 0 ? r : asking->result;
	s3c_mutex_unlock(&asking->lock);
	s3c_mutex_destroy(&asking->lock);
	return r;
}

static int asking_add(struct asking *asking, const char *key, size_t len)
{
	if (asking->count == asking->alloc) {
		size_t alloc = asking->alloc ? 2 * asking->alloc : 16;
		char **keys = reallocarray(asking->keys, alloc, sizeof(*keys));

		if (!keys)
			return -ENOMEM;
		asking->keys = keys;
		asking->alloc = alloc;
	}
	asking->keys[asking->count] = strndup(key, len);
	return asking->keys[asking->count] ? (asking->count++, 0) : -ENOMEM;
}

/* The components of key after dir whose names are not known. */
static int add_unknown(struct asking *asking, const char *dir, const char *key)
{
	size_t at = strlen(dir);

	while (key[at]) {
		size_t len = strcspn(key + at, "/");
		cleanup_free char *parent = strndup(key, at);
		char name[S3C_NAME_LEN_MAX + 1];
		int r;

		if (!parent)
			return -ENOMEM;
		r = s3c_key_name(asking->engine, parent, key + at, len, name);
		at += len + (key[at + len] == '/');
		/* A directory is asked for by its marker. */
		if (r == -ENODATA)
			r = asking_add(asking, key, at);
		if (r < 0 && r != -EBADMSG)
			return r;
	}
	return 0;
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void drop_doubles(struct asking *asking)
{
	size_t kept = 0;

	qsort(asking->keys, asking->count, sizeof(*asking->keys), compare_keys);
	for (size_t i = 0; i < asking->count; i++) {
		if (kept && strcmp(asking->keys[kept - 1], asking->keys[i]) == 0)
			free(asking->keys[i]);
		else
			asking->keys[kept++] = asking->keys[i];
	}
	asking->count = kept;
}

int s3c_key_names_ask(struct s3c_engine *engine, struct s3c_op *op, const char *dir,
		      const struct s3c_list *list)
{
	struct asking asking = { .engine = engine };
	size_t dir_len = strlen(dir);
	int r = 0;

	if (!s3c_names_encrypted(engine))
		return 0;
	for (size_t i = 0; r == 0 && i < list->count; i++)
		if (strncmp(list->entries[i].key, dir, dir_len) == 0)
			r = add_unknown(&asking, dir, list->entries[i].key);
	if (r == 0 && asking.count) {
		drop_doubles(&asking);
		r = ask_all(&asking, op);
	}
	for (size_t i = 0; i < asking.count; i++)
		free(asking.keys[i]);
	free(asking.keys);
	return r;
}

int s3c_key_path(struct s3c_engine *engine, const char *dir, const char *key, char **ret_path)
{
	cleanup_buf struct s3c_buf path = { .max = S3C_PATH_MAX - 1 };
	size_t at = strlen(dir);

	while (key[at]) {
		size_t len = strcspn(key + at, "/");
		cleanup_free char *parent = strndup(key, at);
		char name[S3C_NAME_LEN_MAX + 1];
		int r = parent ? s3c_key_name(engine, parent, key + at, len, name) : -ENOMEM;

		if (r == 0 && path.len)
			r = s3c_buf_append_char(&path, '/');
		if (r == 0)
			r = s3c_buf_append_str(&path, name);
		if (r < 0)
			return r == -EMSGSIZE ? -ENAMETOOLONG : r;
		at += len + (key[at + len] == '/');
	}
	*ret_path = s3c_buf_steal(&path);
	return *ret_path ? 0 : -ENOMEM;
}

char *s3c_key_shown(struct s3c_engine *engine, const char *key)
{
	const char *prefix = engine->config.prefix;
	cleanup_free char *path = NULL;

	if (!key || !s3c_names_encrypted(engine) || strncmp(key, prefix, strlen(prefix)) != 0 ||
	    s3c_key_path(engine, prefix, key, &path) < 0)
		return NULL;
	return s3c_asprintf(" (/%s)", path);
}
