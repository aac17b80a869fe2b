/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "key/keyring_private.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/encode.h"
#include "base/secret.h"

#define SECRET_FILE_MAX 1024u
#define SECRET_MAX 32u
#define PEM_MAX 16384u
#define KEYS_MAX 1024u
#define DESC_MAX 16u
#define DESC_NAME_MAX 64u
#define DESC_VALUE_MAX 256u

/* Where the parser is. */
struct parser {
	const char *name; /* of the file, for sentences */
	const char *dir;  /* base of relative paths, or NULL */
	unsigned line;
	struct s3c_keyring *keyring;
	struct s3c_master_key *key; /* the section; NULL before the first */
	bool has_state, has_use;    /* of the section */
	struct s3c_err *err;
};

bool s3c_key_id_valid(const char *id)
{
	size_t len =
		strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return len && len <= S3C_KEY_ID_MAX && !id[len];
}

static void key_clear(struct s3c_master_key *key)
{
	s3c_secret_free(key->secret);
	free(key->rsa_private_key);
	for (size_t i = 0; i < key->desc_count; i++) {
		free(key->desc[i].name);
		free(key->desc[i].value);
	}
	free(key->desc);
}

struct s3c_keyring *s3c_keyring_empty(void)
{
	return calloc(1, sizeof(struct s3c_keyring));
}

void s3c_keyring_free(struct s3c_keyring *keyring)
{
	if (!keyring)
		return;
	for (size_t i = 0; i < keyring->count; i++)
		key_clear(&keyring->keys[i]);
	free(keyring->keys);
	free(keyring);
}

#define fail(p, ...) fail_at((p), __VA_ARGS__)
static int fail_at(struct parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int fail_at(struct parser *p, const char *fmt, ...)
{
	char text[S3C_ERR_MAX / 2];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (p->key)
		return s3c_err_set(p->err, -EINVAL, "%s:%u: [%s]: %s", p->name, p->line, p->key->id,
				   text);
	return s3c_err_set(p->err, -EINVAL, "%s:%u: %s", p->name, p->line, text);
}

/* A section is complete: at its end, and once more at the end of the file. */
static int section_end(struct parser *p)
{
	const struct s3c_master_key *key = p->key;
	cleanup_free char *matdesc = NULL;
	int r;

	if (!key)
		return 0;
	if (!key->secret && !key->rsa_private_key)
		return fail(p, "the key has no secret; add 'secret = ' and the base64 of 32 random "
			       "bytes, or " S3C_HOW_TO_MAKE_KEYS);
	if (key->active && key->secret_len != S3C_KEY_LEN)
		return fail(p, "the active key needs a secret of 32 bytes; " S3C_HOW_TO_MAKE_KEYS);
	if (key->ssec_shared && key->secret_len != S3C_KEY_LEN)
		return fail(p, "a key with 'use = sse-c' needs a secret of 32 bytes");
	r = s3c_keyring_matdesc(key, &matdesc);
	if (r == -EMSGSIZE)
		return fail(p,
			    "the desc pairs are too long (over %d bytes with the key id); they "
			    "are stored with every object",
			    S3C_MATDESC_MAX);
	return r;
}

static int section_begin(struct parser *p, char *line)
{
	struct s3c_keyring *keyring = p->keyring;
	struct s3c_master_key *keys;
	size_t len = strlen(line);

	p->key = NULL;
	if (line[len - 1] != ']')
		return fail(p, "a section has the form [KEY-ID], alone on its line");
	line[len - 1] = '\0';
	line++;
	/* Not quoted when it is no valid id: it might be a secret in a wrong place. */
	if (!s3c_key_id_valid(line))
		return fail(p, "a key id has 1 to %d characters of A-Z a-z 0-9 . _ -",
			    S3C_KEY_ID_MAX);
	if (s3c_keyring_find(keyring, line))
		return fail(p, "the key id %s is there twice; ids are unique", line);
	if (keyring->count >= KEYS_MAX)
		return fail(p, "too many keys (over %u)", KEYS_MAX);
	keys = reallocarray(keyring->keys, keyring->count + 1, sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	keyring->keys = keys;
	p->key = &keys[keyring->count++];
	*p->key = (struct s3c_master_key){ 0 };
	memcpy(p->key->id, line, strlen(line) + 1);
	p->has_state = p->has_use = false;
	return 0;
}

/* Text of a secret, blanks around it allowed. */
static int set_secret(struct parser *p, const char *text, size_t len, const char *where)
{
	uint8_t secret[SECRET_MAX];
	size_t secret_len = 0;
	int r;

	if (p->key->secret)
		return fail(p, "the key has two secrets; keep one of 'secret' and 'secret_file'");
	while (len && isspace((unsigned char)text[len - 1]))
		len--;
	for (; len && isspace((unsigned char)*text); len--)
		text++;
	r = s3c_base64_decode(text, len, secret, sizeof(secret), &secret_len);
	if (r < 0 || (secret_len != 16 && secret_len != 24 && secret_len != 32)) {
		s3c_wipe(secret, sizeof(secret));
		return fail(p, "%s is not the base64 of 16, 24 or 32 bytes; " S3C_HOW_TO_MAKE_KEYS,
			    where);
	}
	p->key->secret = s3c_secret_alloc(secret_len);
	if (p->key->secret) {
		memcpy(p->key->secret, secret, secret_len);
		p->key->secret_len = secret_len;
	}
	s3c_wipe(secret, sizeof(secret));
	return p->key->secret ? 0 : -ENOMEM;
}

static int resolve_path(struct parser *p, const char *path, char **ret_path)
{
	char *full;

	if (*path == '/')
		full = strdup(path);
	else if (*path && p->dir)
		full = s3c_asprintf("%s/%s", p->dir, path);
	else
		return fail(p, "a file is needed here, with its path from the root");
	if (!full)
		return -ENOMEM;
	*ret_path = full;
	return 0;
}

static int set_secret_file(struct parser *p, const char *value)
{
	cleanup_free char *path = NULL;
	struct s3c_buf text;
	int r;

	r = resolve_path(p, value, &path);
	if (r < 0)
		return r;
	s3c_buf_init(&text, SECRET_FILE_MAX);
	r = s3c_private_read(path, p->err, &text);
	if (r < 0)
		r = fail(p, "%s: %s", path, strerror(-r)); /* a sentence that is set stays */
	else
		r = set_secret(p, text.data ? text.data : "", text.len, path);
	s3c_buf_free_secret(&text);
	return r;
}

int s3c_keyring_rsa_pem(const struct s3c_master_key *key, struct s3c_err *err, char **ret_pem,
			size_t *ret_len)
{
	struct s3c_buf text;
	char *pem = NULL;
	int r;

	s3c_buf_init(&text, PEM_MAX);
	r = s3c_private_read(key->rsa_private_key, err, &text);
	if (r < 0)
		s3c_err_set(err, r, "%s: %s", key->rsa_private_key, strerror(-r));
	else if (!text.len)
		r = s3c_err_set(err, -EINVAL, "%s is empty", key->rsa_private_key);
	else
		pem = s3c_secret_alloc(text.len);
	if (pem) {
		memcpy(pem, text.data, text.len);
		*ret_len = text.len;
		*ret_pem = pem;
	} else if (r == 0) {
		r = -ENOMEM;
	}
	s3c_buf_free_secret(&text);
	return r;
}

/* Stores may fold blanks in headers, and the description is sealed byte by byte. */
static bool desc_value_safe(const char *value)
{
	json_t *json = json_string(value); /* NULL: not UTF-8 */

	json_decref(json);
	if (!json)
		return false;
	if (strlen(value) > DESC_VALUE_MAX || strstr(value, "  "))
		return false;
	for (const char *c = value; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return false;
	return true;
}

static int add_desc(struct parser *p, const char *name, const char *value)
{
	struct s3c_master_key *key = p->key;
	struct s3c_key_desc *desc;

	if (!*name || strlen(name) > DESC_NAME_MAX || strpbrk(name, " \t") ||
	    !desc_value_safe(name))
		return fail(p, "the name after 'desc.' has 1 to %u characters, no blanks",
			    DESC_NAME_MAX);
	if (strncmp(name, "s3cryptfs", 9) == 0 || strncmp(name, "aws:", 4) == 0)
		return fail(p, "desc names that begin with 's3cryptfs' or 'aws:' are reserved; "
			       "choose another name");
	if (!desc_value_safe(value))
		return fail(p,
			    "the value of desc.%s is not UTF-8 text of at most %u bytes without "
			    "control "
			    "characters and without two blanks in a row",
			    name, DESC_VALUE_MAX);
	for (size_t i = 0; i < key->desc_count; i++)
		if (strcmp(key->desc[i].name, name) == 0)
			return fail(p, "desc.%s is there twice", name);
	if (key->desc_count >= DESC_MAX)
		return fail(p, "too many desc pairs (over %u)", DESC_MAX);
	desc = reallocarray(key->desc, key->desc_count + 1, sizeof(*desc));
	if (!desc)
		return -ENOMEM;
	key->desc = desc;
	desc += key->desc_count;
	desc->name = strdup(name);
	desc->value = strdup(value);
	key->desc_count++; /* half-built is freed like whole */
	return desc->name && desc->value ? 0 : -ENOMEM;
}

static int set_state(struct parser *p, const char *value)
{
	bool active = strcmp(value, "active") == 0;

	if (p->has_state)
		return fail(p, "'state' is there twice");
	if (!active && strcmp(value, "old") != 0)
		return fail(p, "'state' is 'active' or 'old'");
	p->has_state = true;
	if (active) {
		const struct s3c_master_key *other = s3c_keyring_active(p->keyring);

		if (other)
			return fail(p,
				    "the key %s is active already; exactly one is: set 'state = "
				    "old' for the other",
				    other->id);
	}
	p->key->active = active;
	return 0;
}

static int set_use(struct parser *p, const char *value)
{
	if (p->has_use)
		return fail(p, "'use' is there twice");
	if (strcmp(value, "sse-c") != 0)
		return fail(p, "'use' can only be 'sse-c'; without it a key encrypts here");
	p->has_use = true;
	p->key->ssec_shared = true;
	return 0;
}

static int set_rsa(struct parser *p, const char *value)
{
	if (p->key->rsa_private_key)
		return fail(p, "'rsa_private_key' is there twice");
	return resolve_path(p, value, &p->key->rsa_private_key);
}

static int property(struct parser *p, const char *name, const char *value)
{
	size_t plain;

	if (!p->key)
		return fail(p, "this line is before the first section; a key begins with [KEY-ID]");
	if (strcmp(name, "secret") == 0)
		return set_secret(p, value, strlen(value), "the secret");
	if (strcmp(name, "secret_file") == 0)
		return set_secret_file(p, value);
	if (strcmp(name, "state") == 0)
		return set_state(p, value);
	if (strcmp(name, "use") == 0)
		return set_use(p, value);
	if (strcmp(name, "rsa_private_key") == 0)
		return set_rsa(p, value);
	if (strncmp(name, "desc.", 5) == 0)
		return add_desc(p, name + 5, value);

	/* Base64 may end in '=' and look like a name: only what cannot be a secret is quoted. */
	plain = strspn(name, "abcdefghijklmnopqrstuvwxyz_.");
	return fail(p,
		    "unknown name%s%s%s; known are secret, secret_file, state, use, "
		    "rsa_private_key and desc.NAME",
		    !name[plain] && plain < 20 ? " '" : "", !name[plain] && plain < 20 ? name : "",
		    !name[plain] && plain < 20 ? "'" : "");
}

/* Cuts blanks off both ends, in place. */
static char *strip(char *text)
{
	size_t len = strlen(text);

	while (len && isspace((unsigned char)text[len - 1]))
		text[--len] = '\0';
	while (isspace((unsigned char)*text))
		text++;
	return text;
}

static int parse_line(struct parser *p, char *line)
{
	char *equals;
	int r;

	line = strip(line);
	if (!*line || *line == '#' || *line == ';')
		return 0;
	if (*line == '[') {
		r = section_end(p);
		return r < 0 ? r : section_begin(p, line);
	}
	equals = strchr(line, '=');
	if (!equals)
		return fail(p, "a line is [KEY-ID], NAME = VALUE, or a comment that begins with #");
	*equals = '\0';
	return property(p, strip(line), strip(equals + 1));
}

static int parse_lines(struct parser *p, const char *text, size_t len)
{
	static const char bom[] = "\xef\xbb\xbf";
	const char *end = text + len;
	cleanup_free char *line = NULL;
	int r = 0;

	if (memchr(text, '\0', len))
		return s3c_err_set(p->err, -EINVAL, "%s is not a text file; " S3C_HOW_TO_MAKE_KEYS,
				   p->name);
	if (len >= 3 && memcmp(text, bom, 3) == 0)
		text += 3;
	line = malloc(len + 1);
	if (!line)
		return -ENOMEM;
	while (text < end && r == 0) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t line_len = (size_t)((newline ? newline : end) - text);

		p->line++;
		memcpy(line, text, line_len);
		line[line_len] = '\0';
		r = parse_line(p, line);
		text += line_len + (newline != NULL);
	}
	s3c_wipe(line, len + 1);
	return r < 0 ? r : section_end(p);
}

int s3c_keyring_parse(const char *text, size_t len, const char *name, const char *dir,
		      struct s3c_err *err, struct s3c_keyring **ret_keyring)
{
	cleanup_keyring struct s3c_keyring *keyring = calloc(1, sizeof(*keyring));
	struct parser p = { .name = name, .dir = dir, .keyring = keyring, .err = err };
	int r;

	if (!keyring)
		return -ENOMEM;
	if (len > S3C_KEYRING_MAX)
		return s3c_err_set(err, -EMSGSIZE, "%s is too large (over %u bytes)", name,
				   S3C_KEYRING_MAX);
	r = parse_lines(&p, text, len);
	if (r < 0)
		return r;
	if (!keyring->count)
		return s3c_err_set(err, -EINVAL, "%s has no keys; " S3C_HOW_TO_MAKE_KEYS, name);
	if (!s3c_keyring_active(keyring))
		return s3c_err_set(err, -EINVAL,
				   "%s has no active key; add 'state = active' to one, or "
				   "remove the file and " S3C_HOW_TO_MAKE_KEYS,
				   name);
	*ret_keyring = steal_ptr(keyring);
	return 0;
}

const struct s3c_master_key *s3c_keyring_active(const struct s3c_keyring *keyring)
{
	for (size_t i = 0; i < keyring->count; i++)
		if (keyring->keys[i].active)
			return &keyring->keys[i];
	return NULL;
}

const struct s3c_master_key *s3c_keyring_find(const struct s3c_keyring *keyring, const char *id)
{
	for (size_t i = 0; i < keyring->count; i++)
		if (strcmp(keyring->keys[i].id, id) == 0)
			return &keyring->keys[i];
	return NULL;
}

const struct s3c_master_key *s3c_keyring_ssec_shared(const struct s3c_keyring *keyring)
{
	const struct s3c_master_key *active = s3c_keyring_active(keyring);

	if (active && active->ssec_shared)
		return active;
	for (size_t i = 0; i < keyring->count; i++)
		if (keyring->keys[i].ssec_shared)
			return &keyring->keys[i];
	return NULL;
}

static int desc_json(const struct s3c_master_key *key, bool with_id, char **ret_json)
{
	json_t *map = json_object();
	char *json = NULL;
	int r = -ENOMEM;

	if (!map ||
	    (with_id && json_object_set_new(map, S3C_MATDESC_KEY_ID, json_string(key->id)) < 0))
		goto out;
	for (size_t i = 0; i < key->desc_count; i++) {
		/* json_string refuses what is not UTF-8. */
		if (json_object_set_new(map, key->desc[i].name, json_string(key->desc[i].value)) <
		    0)
			goto out;
	}
	json = json_dumps(map, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
	if (json && strlen(json) > S3C_MATDESC_MAX) {
		r = -EMSGSIZE;
	} else if (json) {
		*ret_json = steal_ptr(json);
		r = 0;
	}
out:
	free(json);
	json_decref(map);
	return r;
}

int s3c_keyring_matdesc(const struct s3c_master_key *key, char **ret_json)
{
	return desc_json(key, true, ret_json);
}

int s3c_keyring_desc(const struct s3c_master_key *key, char **ret_json)
{
	return desc_json(key, false, ret_json);
}
