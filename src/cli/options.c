/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "base/encode.h"
#include "cli/exporter.h"
#include "cli/options_table.h"
#include "db/cache.h"
#include "key/context.h"
#include "key/kms_wrap.h"

#define CONFIG_MAX (64u << 10) /* bytes of a config file */
#define OPTION_MAX 4096u       /* bytes of one option */
#define RETRIES_DEFAULT 8u
#define RETRIES_UNSET UINT_MAX /* and, with writeback, no bound */

/* Set while a config file is read, so that it cannot name another. */
#define FROM_CONFIG 1u

static void *field(struct s3c_options *options, const struct s3c_option *option)
{
	return (char *)options + option->offset;
}

static int set_text(char **where, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*where);
	*where = copy;
	return 0;
}

/* The daemon changes its working directory: paths are made absolute while they can be. */
static int set_path(char **where, const char *value)
{
	cleanup_free char *cwd = NULL;
	char *path;

	if (value[0] == '/')
		return set_text(where, value);
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return -errno;
	path = s3c_asprintf("%s/%s", strcmp(cwd, "/") ? cwd : "", value);
	if (!path)
		return -ENOMEM;
	free(*where);
	*where = path;
	return 0;
}

static int set_number(struct s3c_options *options, const struct s3c_option *option,
		      const char *value, struct s3c_err *err)
{
	uint64_t number;
	int r;

	if (option->kind == S3C_OPTION_SIZE)
		r = s3c_parse_size(value, option->max, &number);
	else
		r = s3c_parse_u64(value, option->max, &number);
	if (r == 0 && number < option->min)
		r = -ERANGE;
	if (r == -ERANGE)
		return s3c_err_set(err, r, "option %s=%s is out of range: %llu to %llu",
				   option->name, value, (unsigned long long)option->min,
				   (unsigned long long)option->max);
	if (r < 0)
		return s3c_err_set(err, r, "option %s wants a number%s, not '%s'", option->name,
				   option->kind == S3C_OPTION_SIZE ? " of bytes such as 512M or 10G"
								   : "",
				   value);
	if (option->kind == S3C_OPTION_UNSIGNED)
		*(unsigned *)field(options, option) = (unsigned)number;
	else
		*(uint64_t *)field(options, option) = number;
	return 0;
}

/* "cse-key, sse-c or none": the words that this version takes. */
static void join_choices(const struct s3c_choice *choices, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (const struct s3c_choice *c = choices; c->word; c++) {
		int n;

		if (c->later)
			continue;
		n = snprintf(text + used, size - used, "%s%s", used ? ", " : "", c->word);
		if (n < 0 || (size_t)n >= size - used)
			return;
		used += (size_t)n;
	}
}

static int find_choice(const struct s3c_option *option, const char *value,
		       const struct s3c_choice **ret_choice, struct s3c_err *err)
{
	char words[256];

	join_choices(option->choices, words, sizeof(words));
	for (const struct s3c_choice *c = option->choices; c->word; c++) {
		if (strcmp(c->word, value))
			continue;
		if (c->later)
			return s3c_err_set(err, -EOPNOTSUPP,
					   "%s=%s is not in this version yet; it takes %s",
					   option->name, value, words);
		*ret_choice = c;
		return 0;
	}
	return s3c_err_set(err, -EINVAL, "option %s does not know '%s'; it takes %s", option->name,
			   value, words);
}

static int set_choice(struct s3c_options *options, const struct s3c_option *option,
		      const char *value, struct s3c_err *err)
{
	const struct s3c_choice *choice;
	int r = find_choice(option, value, &choice, err);

	if (r < 0)
		return r;
	if (option->kind == S3C_OPTION_BOOL_CHOICE)
		*(bool *)field(options, option) = choice->value != 0;
	else if (option->kind == S3C_OPTION_CHOICE)
		*(int *)field(options, option) = choice->value;
	if (!strcmp(option->name, "enc"))
		options->enc_name = choice->word;
	return 0;
}

/* Words joined by ':', each a bit. */
static int set_set(struct s3c_options *options, const struct s3c_option *option, const char *value,
		   struct s3c_err *err)
{
	cleanup_free char *copy = strdup(value);
	unsigned bits = 0;
	char *rest = copy;

	if (!copy)
		return -ENOMEM;
	for (char *word; (word = strsep(&rest, ":"));) {
		const struct s3c_choice *choice;
		int r = find_choice(option, word, &choice, err);

		if (r < 0)
			return r;
		bits |= (unsigned)choice->value;
	}
	*(unsigned *)field(options, option) = bits;
	return 0;
}

static int set_identity(struct s3c_options *options, const struct s3c_option *option,
			const char *value, struct s3c_err *err)
{
	uint64_t number;

	if (option->kind == S3C_OPTION_UMASK) {
		char *end;
		unsigned long bits = strtoul(value, &end, 8);

		if (value[0] < '0' || value[0] > '7' || *end || bits > 0777)
			return s3c_err_set(err, -EINVAL,
					   "option umask wants octal digits, not '%s'", value);
		options->umask = (mode_t)bits;
		options->has_umask = true;
		return 0;
	}
	if (s3c_parse_u64(value, UINT32_MAX - 1, &number) < 0)
		return s3c_err_set(err, -EINVAL, "option %s wants a number, not '%s'", option->name,
				   value);
	if (option->kind == S3C_OPTION_UID) {
		options->uid = (uid_t)number;
		options->has_uid = true;
	} else {
		options->gid = (gid_t)number;
		options->has_gid = true;
	}
	return 0;
}

static int add_fuse(struct s3c_options *options, const char *name, const char *value,
		    struct s3c_err *err)
{
	char *text;

	if (options->fuse_count == S3C_FUSE_OPTIONS_MAX)
		return s3c_err_set(err, -E2BIG, "too many options");
	text = value ? s3c_asprintf("%s=%s", name, value) : strdup(name);
	if (!text)
		return -ENOMEM;
	options->fuse[options->fuse_count++] = text;
	return 0;
}

static int read_config(struct s3c_options *options, const char *path, struct s3c_err *err);

static int set_value(struct s3c_options *options, const struct s3c_option *option,
		     const char *value, unsigned from, struct s3c_err *err)
{
	switch (option->kind) {
	case S3C_OPTION_TEXT:
		return set_text(field(options, option), value);
	case S3C_OPTION_PATH:
		return set_path(field(options, option), value);
	case S3C_OPTION_PLACE:
		return s3c_keyring_is_scheme(value) ? set_text(field(options, option), value)
						    : set_path(field(options, option), value);
	case S3C_OPTION_LOG:
		if (!strcmp(value, "syslog") || !strcmp(value, "stderr"))
			return set_text(field(options, option), value);
		return set_path(field(options, option), value);
	case S3C_OPTION_SIZE:
	case S3C_OPTION_NUMBER:
	case S3C_OPTION_UNSIGNED:
		return set_number(options, option, value, err);
	case S3C_OPTION_CHOICE:
	case S3C_OPTION_BOOL_CHOICE:
		return set_choice(options, option, value, err);
	case S3C_OPTION_SET:
		return set_set(options, option, value, err);
	case S3C_OPTION_VOLUME_ID:
		if (s3c_hex_decode(value, options->volume_id, sizeof(options->volume_id)) < 0)
			return s3c_err_set(err, -EINVAL,
					   "option volume_id wants 32 hexadecimal digits, not '%s'",
					   value);
		options->has_volume_id = true;
		return 0;
	case S3C_OPTION_UID:
	case S3C_OPTION_GID:
	case S3C_OPTION_UMASK:
		return set_identity(options, option, value, err);
	case S3C_OPTION_FUSE_VALUE:
		return add_fuse(options, option->name, value, err);
	case S3C_OPTION_CONFIG: {
		cleanup_free char *path = NULL;
		int r;

		if (from & FROM_CONFIG)
			return s3c_err_set(err, -EINVAL, "a config file cannot name another: '%s'",
					   value);
		r = set_path(&path, value);
		return r < 0 ? r : read_config(options, path, err);
	}
	default:
		return -EINVAL;
	}
}

static int set_flag(struct s3c_options *options, const struct s3c_option *option,
		    struct s3c_err *err)
{
	switch (option->kind) {
	case S3C_OPTION_FLAG:
		*(bool *)field(options, option) = true;
		return 0;
	case S3C_OPTION_READ_WRITE:
		options->read_only = false;
		return 0;
	case S3C_OPTION_FUSE_FLAG:
		return add_fuse(options, option->name, NULL, err);
	default:
		return -EINVAL;
	}
}

/* Whether name is option's; those that end in '*' stand for all that begin so. */
static bool matches(const struct s3c_option *option, const char *name)
{
	size_t len = strlen(option->name);

	if (len > 1 && option->name[len - 1] == '*')
		return !strncmp(option->name, name, len - 1);
	return !strcmp(option->name, name);
}

static const struct s3c_option *find_option(const char *name)
{
	for (const struct s3c_option *o = s3c_option_table; o->name; o++)
		if (matches(o, name))
			return o;
	return NULL;
}

/* NULL: none is near. */
static const char *nearest_name(const char *name)
{
	const char *best = NULL;
	unsigned least = ~0u;

	for (const struct s3c_option *o = s3c_option_table; o->name; o++) {
		unsigned distance = s3c_edit_distance(name, o->name);

		if (distance < least && o->name[strlen(o->name) - 1] != '*') {
			least = distance;
			best = o->name;
		}
	}
	return s3c_edit_is_near(name, least) ? best : NULL;
}

static int unknown_option(const char *name, struct s3c_err *err)
{
	const char *near = nearest_name(name);

	return near ? s3c_err_set(err, -EINVAL,
				  "unknown option '%s': did you mean '%s'? (-o help lists all)",
				  name, near)
		    : s3c_err_set(err, -EINVAL, "unknown option '%s' (-o help lists all)", name);
}

static int set_option(struct s3c_options *options, char *text, unsigned from, struct s3c_err *err)
{
	char *value = strchr(text, '=');
	const struct s3c_option *option;

	if (value)
		*value++ = '\0';
	option = find_option(text);
	if (!option && options->sloppy) {
		s3c_warn("option '%s' is not known and left out", text);
		return 0;
	}
	if (!option)
		return unknown_option(text, err);
	if (option->later)
		return s3c_err_set(err, -EOPNOTSUPP,
				   "option %s is not in this version yet: %s; leave it out", text,
				   option->later);
	if (option->kind == S3C_OPTION_IGNORED)
		return 0;
	if (s3c_option_is_flag(option)) {
		if (value)
			return s3c_err_set(err, -EINVAL, "option %s takes no value", text);
		return set_flag(options, option, err);
	}
	if (!value || !value[0])
		return s3c_err_set(err, -EINVAL, "option %s needs a value: %s=%s", text, text,
				   option->metavar);
	return set_value(options, option, value, from, err);
}

static int read_config(struct s3c_options *options, const char *path, struct s3c_err *err)
{
	cleanup_buf struct s3c_buf text = { .max = CONFIG_MAX };
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	unsigned line_number = 0;
	char *rest, *line;
	struct stat st;

	if (fd < 0)
		return s3c_err_set(err, -errno, "config file %s cannot be read: %s", path,
				   strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return s3c_err_set(err, -EINVAL, "config file %s is not a regular file", path);
	/* It may name programs to run. */
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return s3c_err_set(err, -EPERM,
				   "config file %s can be written by others: chmod go-w %s", path,
				   path);
	for (;;) {
		char part[4096];
		ssize_t n = read(fd, part, sizeof(part));

		if (n == 0)
			break;
		if (n < 0)
			return s3c_err_set(err, -errno, "config file %s cannot be read: %s", path,
					   strerror(errno));
		if (s3c_buf_append(&text, part, (size_t)n) < 0)
			return s3c_err_set(err, -EMSGSIZE, "config file %s is larger than %u bytes",
					   path, CONFIG_MAX);
	}
	if (text.len && strlen(text.data) != text.len)
		return s3c_err_set(err, -EINVAL, "config file %s holds a NUL byte", path);
	rest = text.data;
	while ((line = strsep(&rest, "\n"))) {
		size_t len;
		int r;

		line_number++;
		line += strspn(line, " \t\r");
		len = strlen(line);
		while (len && strchr(" \t\r", line[len - 1]))
			line[--len] = '\0';
		if (!line[0] || line[0] == '#')
			continue;
		r = set_option(options, line, FROM_CONFIG, err);
		if (r < 0)
			return s3c_err_prefix(err, r, "config file %s, line %u", path, line_number);
	}
	return 0;
}

/* Cuts the next option off a list and takes its escapes away; false at the end. */
static bool next_option(const char **list, char *text, size_t size, bool *ret_too_long)
{
	const char *p = *list;
	size_t len = 0;

	*ret_too_long = false;
	if (!*p)
		return false;
	for (; *p && *p != ','; p++) {
		if (p[0] == '\\' && (p[1] == ',' || p[1] == '\\'))
			p++;
		if (len + 1 < size)
			text[len++] = *p;
		else
			*ret_too_long = true;
	}
	text[len] = '\0';
	*list = *p ? p + 1 : p;
	return true;
}

/* One pass over the list: only config= or everything else. */
static int parse_pass(struct s3c_options *options, const char *list, bool config,
		      struct s3c_err *err)
{
	char text[OPTION_MAX];
	bool too_long;

	while (next_option(&list, text, sizeof(text), &too_long)) {
		int r;

		if (too_long)
			return s3c_err_set(err, -EINVAL,
					   "option '%.20s...' is longer than %u bytes", text,
					   OPTION_MAX - 1);
		if (!text[0] || !strncmp(text, "config=", 7) != config)
			continue;
		r = set_option(options, text, 0, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int s3c_options_parse(struct s3c_options *options, const char *list, struct s3c_err *err)
{
	int r = parse_pass(options, list, true, err);

	return r < 0 ? r : parse_pass(options, list, false, err);
}

int s3c_options_init(struct s3c_options *options, struct s3c_err *err)
{
	memset(options, 0, sizeof(*options));
	options->cache_key = -1;
	options->retries = RETRIES_UNSET;
	for (const struct s3c_option *o = s3c_option_table; o->name; o++) {
		int r;

		if (!o->preset || o->later)
			continue;
		r = set_value(options, o, o->preset, 0, err);
		if (r < 0)
			return r;
	}
	return 0;
}

void s3c_options_free(struct s3c_options *options)
{
	for (const struct s3c_option *o = s3c_option_table; o->name; o++) {
		if (o->later || (o->kind != S3C_OPTION_TEXT && o->kind != S3C_OPTION_PATH &&
				 o->kind != S3C_OPTION_PLACE && o->kind != S3C_OPTION_LOG))
			continue;
		free(*(char **)field(options, o));
		*(char **)field(options, o) = NULL;
	}
	free(options->kms_context_json);
	options->kms_context_json = NULL;
	while (options->fuse_count) {
		free(options->fuse[--options->fuse_count]);
		options->fuse[options->fuse_count] = NULL;
	}
}

/* Objects of our own store it each in their metadata; S3's SSE has room for more. */
static int check_context(struct s3c_options *options, bool cse, struct s3c_err *err)
{
	size_t len;
	int r;

	free(options->kms_context_json);
	options->kms_context_json = NULL;
	if (!options->kms_context)
		return 0;
	r = s3c_kms_context_parse(options->kms_context, err, &options->kms_context_json);
	if (r < 0)
		return r;
	len = strlen(options->kms_context_json);
	if (cse && len > S3C_KMS_PAIRS_MAX)
		return s3c_err_set(err, -E2BIG,
				   "kms_context has %zu bytes as JSON, and the metadata of an "
				   "object have room for %u: give fewer or shorter pairs",
				   len, S3C_KMS_PAIRS_MAX);
	return 0;
}

static int check_kms(struct s3c_options *options, struct s3c_err *err)
{
	bool cse = s3c_enc_family(options->enc) == S3C_FAMILY_CSE;
	bool sse = options->enc == S3C_ENC_SSE_KMS || options->enc == S3C_ENC_DSSE_KMS;

	if (!cse && !sse && (options->kms_key_id || options->kms_context))
		return s3c_err_set(err, -EINVAL,
				   "%s belongs to enc=cse-kms, cse-key (to read), sse-kms and "
				   "dsse-kms",
				   options->kms_key_id ? "kms_key_id" : "kms_context");
	if (options->kms_key_id && !options->kms_key_id[0])
		return s3c_err_set(err, -EINVAL,
				   "kms_key_id is empty: name a key, or leave it out where the "
				   "account's own will do");
	if (options->bucket_key && options->enc != S3C_ENC_SSE_KMS)
		return s3c_err_set(err, -EINVAL, "bucket_key=on belongs to enc=sse-kms");
	if (options->enc == S3C_ENC_CSE_KMS && !options->kms_key_id)
		return s3c_err_set(err, -EINVAL,
				   "enc=cse-kms needs kms_key_id=: the id, ARN or alias of the KMS "
				   "key");
	if (!cse && (options->kms_endpoint || options->kms_read_keys))
		return s3c_err_set(err, -EINVAL,
				   "kms_endpoint and kms_read_keys belong to enc=cse-kms and "
				   "cse-key: in other modes this program asks no KMS");
	if (options->kms_reuse && options->enc != S3C_ENC_CSE_KMS)
		return s3c_err_set(err, -EINVAL, "kms_reuse belongs to enc=cse-kms");
	if (options->kms_reuse && !options->kms_cache)
		return s3c_err_set(err, -EINVAL,
				   "kms_reuse keeps a key in memory: it needs kms_cache= of a "
				   "second at least");
	if (options->kms_endpoint && strncasecmp(options->kms_endpoint, "http://", 7) &&
	    strncasecmp(options->kms_endpoint, "https://", 8))
		return s3c_err_set(err, -EINVAL,
				   "kms_endpoint '%s' is no URL: write https://HOST[:PORT]",
				   options->kms_endpoint);
	return check_context(options, cse, err);
}

int s3c_options_check(struct s3c_options *options, struct s3c_err *err)
{
	bool http = options->endpoint && !strncasecmp(options->endpoint, "http://", 7);
	bool cse = s3c_enc_family(options->enc) == S3C_FAMILY_CSE;
	int r;

	if (options->endpoint && !http && strncasecmp(options->endpoint, "https://", 8))
		return s3c_err_set(err, -EINVAL,
				   "endpoint '%s' is no URL: write https://HOST[:PORT]",
				   options->endpoint);
	if (http && options->enc == S3C_ENC_SSE_C)
		return s3c_err_set(err, -EINVAL,
				   "enc=sse-c sends the key to the store and never does so over "
				   "plain HTTP: use an https:// endpoint instead of %s",
				   options->endpoint);
	if (http && !options->allow_http)
		return s3c_err_set(err, -EINVAL,
				   "endpoint %s is plain HTTP: use https://, or add allow_http if "
				   "the network is trusted",
				   options->endpoint);
	r = options->metrics ? s3c_exporter_check(options->metrics, err) : 0;
	if (r < 0)
		return r;
	if (options->ssec_shared && options->enc != S3C_ENC_SSE_C)
		return s3c_err_set(err, -EINVAL, "ssec_key=shared belongs to enc=sse-c");
	r = check_kms(options, err);
	if (r < 0)
		return r;
	if (options->format != S3C_FORMAT_CHUNKED && !cse)
		return s3c_err_set(err, -EINVAL,
				   "format=s3ec-v2 and s3ec-v3 are formats of client-side "
				   "encryption: they need enc=cse-key or cse-kms, not enc=%s",
				   options->enc_name);
	if (options->format != S3C_FORMAT_CHUNKED && options->kms_reuse)
		return s3c_err_set(err, -EINVAL,
				   "kms_reuse does not go with format=s3ec-v2 and s3ec-v3: other "
				   "clients have a key of the KMS for each object");
	/* sse modes and none write plain objects (for the client): that is what they read. With
	   sse-c only those under a customer key, until plain ones are named. */
	if (!options->accept && options->enc != S3C_ENC_SSE_C)
		options->accept = cse ? S3C_ACCEPT_SEALED : S3C_ACCEPT_PLAIN;
	if (!cse && (options->accept & S3C_ACCEPT_SEALED))
		return s3c_err_set(err, -EINVAL,
				   "accept=sealed needs enc=cse-key or cse-kms: enc=%s reads plain "
				   "objects only",
				   options->enc_name);
	if (!cse && (options->accept & S3C_ACCEPT_FOREIGN))
		return s3c_err_set(err, -EINVAL,
				   "accept=s3ec and s3ec-v1 need the keys of client-side "
				   "encryption: use enc=cse-key with a keyring, or enc=cse-kms "
				   "with kms_key_id= (and ro where there is no volume) instead of "
				   "enc=%s",
				   options->enc_name);
	if (options->names_encrypted && !cse)
		return s3c_err_set(err, -EINVAL,
				   "names=encrypted needs enc=cse-key or cse-kms: enc=%s has no "
				   "key for names",
				   options->enc_name);
	if (options->names_encrypted && options->accept != S3C_ACCEPT_SEALED)
		return s3c_err_set(err, -EINVAL,
				   "objects of other programs have plain names, which a mount with "
				   "names=encrypted does not show: leave out accept=, or read them "
				   "by a mount of their own");
	if (options->writeback && options->commit_fsync)
		return s3c_err_set(
			err, -EINVAL,
			"writeback and commit=fsync contradict each other: with writeback "
			"fsync waits for the local journal, with commit=fsync for the store");
	/* Writeback is to hide that the store is away: then timeout= alone bounds the repeats. */
	if (options->retries == RETRIES_UNSET && !options->writeback)
		options->retries = RETRIES_DEFAULT;
	if (options->cache_key < 0)
		options->cache_key = cse ? S3C_CACHE_KEY_WRAPPED : S3C_CACHE_KEY_FILE;
	if (options->cache_key == S3C_CACHE_KEY_WRAPPED && !cse)
		return s3c_err_set(err, -EINVAL,
				   "cache_key=wrapped needs the key of a volume, which only "
				   "enc=cse-key and cse-kms have: use file or ephemeral");
	return 0;
}

bool s3c_options_has_fuse(const struct s3c_options *options, const char *flag)
{
	for (unsigned i = 0; i < options->fuse_count; i++)
		if (!strcmp(options->fuse[i], flag))
			return true;
	return false;
}

unsigned s3c_edit_distance(const char *a, const char *b)
{
	enum { MAX = 64 };
	unsigned rows[3][MAX + 1];
	size_t la = strnlen(a, MAX), lb = strnlen(b, MAX);
	unsigned *before = rows[0], *above = rows[1], *row = rows[2];

	for (size_t j = 0; j <= lb; j++)
		above[j] = (unsigned)j;
	memcpy(before, above, sizeof(rows[0]));
	for (size_t i = 1; i <= la; i++) {
		unsigned *spare = before;

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned cost = a[i - 1] != b[j - 1];
			unsigned least = S3C_MIN(above[j], row[j - 1]) + 1;

			least = S3C_MIN(least, above[j - 1] + cost);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				least = S3C_MIN(least, before[j - 2] + 1);
			row[j] = least;
		}
		before = above;
		above = row;
		row = spare;
	}
	return above[lb];
}

void s3c_options_print(FILE *out)
{
	enum s3c_option_group group = S3C_GROUP_NONE;

	for (const struct s3c_option *o = s3c_option_table; o->name; o++) {
		char left[64];

		if (o->group != group) {
			group = o->group;
			fprintf(out, "%s%s\n", o == s3c_option_table ? "" : "\n",
				s3c_option_group_titles[group]);
		}
		snprintf(left, sizeof(left), "%s%s%s", o->name, o->metavar ? "=" : "",
			 o->metavar ? o->metavar : "");
		fprintf(out, "  %-38s %s", left, o->help);
		if (o->later)
			fputs(" [not in this version]", out);
		else if (o->shown || o->preset)
			fprintf(out, " (%s)", o->shown ? o->shown : o->preset);
		fputc('\n', out);
	}
}
