/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "plugin/volume.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cli/options.h"
#include "cli/source.h"
#include "key/keyring_private.h"

#define FILE_VERSION 1
#define FILE_BYTES_MAX (1u << 20)
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

/* Words in the name of an option that somebody means to hold a secret. */
static const char *const secret_words[] = { "secret",     "passw",      "token",
					    "access_key", "credential", "private" };

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static int check_name(const char *name, struct s3c_err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(secret_words); i++)
		if (strcasestr(name, secret_words[i]))
			return s3c_err_set(
				err, -EINVAL,
				"option '%.64s': a volume keeps no secrets; put them into a file "
				"that only root reads, and name it by keyring=, passphrase_file=, "
				"profile= or config=",
				name);
	/* It begins a line of a file: neither a comment nor another option's value. */
	if (!name[0] || strpbrk(name, "#= \\,"))
		return s3c_err_set(err, -EINVAL, "'%.64s' is no name of an option", name);
	return 0;
}

char *s3c_plugin_volume_option(const char *name, const char *value)
{
	cleanup_buf struct s3c_buf text = { 0 };
	int r = s3c_buf_append_str(&text, name);

	if (r == 0 && value[0])
		r = s3c_buf_append_char(&text, '=');
	for (const char *p = value; r == 0 && *p; p++) {
		if (*p == ',' || *p == '\\')
			r = s3c_buf_append_char(&text, '\\');
		if (r == 0)
			r = s3c_buf_append_char(&text, *p);
	}
	return r < 0 ? NULL : s3c_buf_steal(&text);
}

static int parse_one(struct s3c_options *parsed, const char *name, const char *value,
		     struct s3c_err *err)
{
	cleanup_free char *text =
		strcmp(name, "o") ? s3c_plugin_volume_option(name, value) : strdup(value);
	size_t len = strlen(value);

	if (!text)
		return -ENOMEM;
	if (len && (value[0] == ' ' || value[len - 1] == ' '))
		return s3c_err_set(err, -EINVAL,
				   "option %s: a value neither begins nor ends with a blank", name);
	return s3c_options_parse(parsed, text, err);
}

static bool has_password(const char *url)
{
	const char *host = url ? strstr(url, "://") : NULL;
	const char *at = host ? strchr(host, '@') : NULL;

	return at && at < host + 3 + strcspn(host + 3, "/");
}

/* What a mount may have, and a volume not. Sentences never repeat a value. */
static int check_given(const struct s3c_options *given, struct s3c_err *err)
{
	if (given->key_command)
		return s3c_err_set(err, -EINVAL,
				   "key_command can hold a secret, which a volume does not keep: "
				   "put it into a file that only root reads, and name it by "
				   "config=");
	if (has_password(given->endpoint) || has_password(given->kms_endpoint))
		return s3c_err_set(err, -EINVAL,
				   "an endpoint with a user name or password in it: credentials "
				   "belong into the AWS files or the environment of the plugin");
	if (given->passphrase_file && !strncmp(given->passphrase_file, "fd:", 3))
		return s3c_err_set(err, -EINVAL,
				   "passphrase_file=fd:N: nothing opens it for a volume; name a "
				   "file");
	if (given->log && !strcmp(given->log, "stderr"))
		return s3c_err_set(err, -EINVAL,
				   "log=stderr: a volume's mount has none; use syslog or a file");
	if (given->help)
		return s3c_err_set(err, -EINVAL, "help is no option of a volume");
	return 0;
}

static int check_options(const json_t *options, struct s3c_err *err)
{
	cleanup_options struct s3c_options given = { 0 }, all = { 0 };
	const char *config = text_of(options, "config"), *name;
	json_t *value;
	int r = s3c_options_init(&given, err);

	if (r == 0)
		r = s3c_options_init(&all, err);
	/* A person's own file may say what the volume itself may not keep. */
	if (r == 0 && config && config[0] != '/')
		return s3c_err_set(err, -EINVAL, "config wants the whole path of a file");
	if (r == 0 && config)
		r = parse_one(&all, "config", config, err);
	json_object_foreach((json_t *)options, name, value)
	{
		if (r == 0)
			r = check_name(name, err);
		if (r < 0 || !strcmp(name, "config"))
			continue;
		r = parse_one(&given, name, json_string_value(value), err);
		if (r == 0)
			r = parse_one(&all, name, json_string_value(value), err);
	}
	if (r == 0)
		r = check_given(&given, err);
	return r < 0 ? r : s3c_options_check(&all, err);
}

int s3c_plugin_volume_new(const char *name, const json_t *options, struct s3c_err *err,
			  struct s3c_plugin_volume **ret_volume)
{
	cleanup_source struct s3c_source source = { 0 };
	const char *text = text_of(options, "source");
	struct s3c_plugin_volume *volume;
	int r;

	if (!text)
		return s3c_err_set(err, -EINVAL,
				   "a volume needs a source: -o source=s3://BUCKET[/PREFIX] or "
				   "-o source=file:///DIR");
	r = s3c_source_parse(text, err, &source);
	if (r < 0)
		return r;
	volume = calloc(1, sizeof(*volume));
	if (!volume)
		return -ENOMEM;
	volume->name = strdup(name);
	volume->source = strdup(text);
	volume->options = json_deep_copy(options);
	volume->users = json_array();
	volume->created_s = s3c_clock_realtime_ns() / S3C_NSEC_PER_SEC;
	r = volume->name && volume->source && volume->options && volume->users ? 0 : -ENOMEM;
	if (r == 0) {
		json_object_del(volume->options, "source");
		r = check_options(volume->options, err);
	}
	if (r < 0) {
		s3c_plugin_volume_free(volume);
		return r;
	}
	*ret_volume = volume;
	return 0;
}

void s3c_plugin_volume_free(struct s3c_plugin_volume *volume)
{
	if (!volume)
		return;
	free(volume->name);
	free(volume->source);
	json_decref(volume->options);
	json_decref(volume->users);
	free(volume);
}

bool s3c_plugin_volume_is_same(const struct s3c_plugin_volume *a, const struct s3c_plugin_volume *b)
{
	return !strcmp(a->source, b->source) && json_equal(a->options, b->options);
}

size_t s3c_plugin_volume_users(const struct s3c_plugin_volume *volume)
{
	return json_array_size(volume->users);
}

/* Its place, or the number of users. */
static size_t find_user(const struct s3c_plugin_volume *volume, const char *id)
{
	size_t i = 0;

	while (i < json_array_size(volume->users) &&
	       strcmp(json_string_value(json_array_get(volume->users, i)), id) != 0)
		i++;
	return i;
}

bool s3c_plugin_volume_has_user(const struct s3c_plugin_volume *volume, const char *id)
{
	return find_user(volume, id) < json_array_size(volume->users);
}

int s3c_plugin_volume_add_user(struct s3c_plugin_volume *volume, const char *id)
{
	if (s3c_plugin_volume_has_user(volume, id))
		return 0;
	return json_array_append_new(volume->users, json_string(id)) < 0 ? -ENOMEM : 0;
}

void s3c_plugin_volume_drop_user(struct s3c_plugin_volume *volume, const char *id)
{
	(void)json_array_remove(volume->users, find_user(volume, id));
}

/* "": it cannot be told, and is the same each time. */
static void boot_id(char text[static 64])
{
	FILE *file = fopen(BOOT_ID, "re");

	if (!file || !fgets(text, 64, file))
		text[0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (file)
		fclose(file);
}

static bool strings_only(const json_t *container)
{
	const char *key;
	json_t *value;
	size_t i;

	if (json_is_object(container)) {
		json_object_foreach((json_t *)container, key,
				    value) if (!json_is_string(value)) return false;
	} else {
		json_array_foreach(container, i, value) if (!json_is_string(value)) return false;
	}
	return true;
}

static struct s3c_plugin_volume *unpack(const char *name, const json_t *object)
{
	json_t *options = json_object_get(object, "options");
	json_t *users = json_object_get(object, "users");
	const char *source = text_of(object, "source"), *boot = text_of(object, "boot");
	struct s3c_plugin_volume *volume;
	char now[64];

	if (json_integer_value(json_object_get(object, "version")) != FILE_VERSION || !source ||
	    !boot || !json_is_object(options) || !json_is_array(users) || !strings_only(options) ||
	    !strings_only(users))
		return NULL;
	volume = calloc(1, sizeof(*volume));
	if (!volume)
		return NULL;
	boot_id(now);
	volume->name = strdup(name);
	volume->source = strdup(source);
	volume->options = json_incref(options);
	volume->users = strcmp(boot, now) ? json_array() : json_incref(users);
	volume->created_s = json_integer_value(json_object_get(object, "created"));
	if (volume->name && volume->source && volume->users)
		return volume;
	s3c_plugin_volume_free(volume);
	return NULL;
}

int s3c_plugin_volume_load(const char *dir, const char *name, struct s3c_err *err,
			   struct s3c_plugin_volume **ret_volume)
{
	cleanup_free char *path = s3c_asprintf("%s/%s.json", dir, name);
	struct s3c_plugin_volume *volume;
	json_error_t error;
	struct stat st;
	json_t *object;

	if (!path)
		return -ENOMEM;
	if (stat(path, &st) < 0)
		return s3c_err_set(err, -errno, "%s: %s", path, strerror(errno));
	object = st.st_size <= (off_t)FILE_BYTES_MAX
			 ? json_load_file(path, JSON_REJECT_DUPLICATES, &error)
			 : NULL;
	volume = unpack(name, object);
	json_decref(object);
	if (!volume)
		return s3c_err_set(err, -EBADMSG,
				   "%s is damaged, or of a newer version: correct it, or take it "
				   "away and create the volume again",
				   path);
	*ret_volume = volume;
	return 0;
}

static int write_file(const char *dir, const char *name, const char *suffix, const void *data,
		      size_t len, struct s3c_err *err)
{
	const struct stat as = { .st_mode = 0600, .st_uid = geteuid(), .st_gid = getegid() };
	cleanup_free char *path = s3c_asprintf("%s/%s%s", dir, name, suffix);
	int r;

	if (!path)
		return -ENOMEM;
	r = s3c_private_replace(path, &as, data, len);
	return r < 0 ? s3c_err_set(err, r, "%s cannot be written: %s", path, strerror(-r)) : 0;
}

int s3c_plugin_volume_save(const char *dir, const struct s3c_plugin_volume *volume,
			   struct s3c_err *err)
{
	cleanup_free char *text = NULL;
	char boot[64];
	json_t *object;

	boot_id(boot);
	object = json_pack("{s:i, s:s, s:O, s:I, s:s, s:O}", "version", FILE_VERSION, "source",
			   volume->source, "options", volume->options, "created",
			   (json_int_t)volume->created_s, "boot", boot, "users", volume->users);
	text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
	json_decref(object);
	if (!text)
		return -ENOMEM;
	return write_file(dir, volume->name, ".json", text, strlen(text), err);
}

bool s3c_plugin_volume_exists(const char *dir, const char *name)
{
	cleanup_free char *path = s3c_asprintf("%s/%s.json", dir, name);

	return !path || access(path, F_OK) == 0 || errno != ENOENT;
}

int s3c_plugin_volume_erase(const char *dir, const char *name, struct s3c_err *err)
{
	cleanup_free char *path = s3c_asprintf("%s/%s.json", dir, name);
	cleanup_free char *config = s3c_asprintf("%s/%s.conf", dir, name);

	if (!path || !config)
		return -ENOMEM;
	if (unlink(path) < 0 && errno != ENOENT)
		return s3c_err_set(err, -errno, "%s cannot be removed: %s", path, strerror(errno));
	(void)unlink(config);
	return 0;
}

int s3c_plugin_volume_write_config(const char *dir, const struct s3c_plugin_volume *volume,
				   struct s3c_err *err, char **ret_path)
{
	cleanup_buf struct s3c_buf text = { 0 };
	cleanup_free char *path = s3c_asprintf("%s/%s.conf", dir, volume->name);
	const char *name;
	json_t *value;
	int r = path ? 0 : -ENOMEM;

	json_object_foreach(volume->options, name, value)
	{
		const char *word = json_string_value(value);

		if (!strcmp(name, "config") || !strcmp(name, "o"))
			continue;
		if (r == 0)
			r = s3c_buf_printf(&text, "%s%s%s\n", name, word[0] ? "=" : "", word);
	}
	if (r == 0)
		r = write_file(dir, volume->name, ".conf", text.len ? text.data : "", text.len,
			       err);
	if (r == 0)
		*ret_path = steal_ptr(path);
	return r;
}
