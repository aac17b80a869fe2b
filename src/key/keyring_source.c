/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "key/keyring_source.h"

#include <errno.h>
#include <pwd.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/process.h"
#include "base/secret.h"
#include "key/keyring_private.h"
#include "key/passphrase.h"

#define KERNEL "kernel:"
#define CREDENTIAL "credential:"
#define COMMAND_S 60.0

/* A keyring's text as it was found. */
struct found {
	char *name;          /* for sentences */
	char *file;          /* where it is kept, symlinks resolved; NULL: no file that is ours */
	struct s3c_buf text; /* plain */
	char *passphrase;    /* secret memory; NULL: it is not protected */
};

static void found_free(struct found *found)
{
	s3c_buf_free_secret(&found->text);
	s3c_secret_free(found->passphrase);
	free(found->name);
	free(found->file);
}
#define cleanup_found __attribute__((cleanup(found_free)))

bool s3c_keyring_is_scheme(const char *value)
{
	return strncmp(value, KERNEL, sizeof(KERNEL) - 1) == 0 ||
	       strncmp(value, CREDENTIAL, sizeof(CREDENTIAL) - 1) == 0 ||
	       strncmp(value, "fd:", 3) == 0;
}

/* The file of a credential, when the service has one of this name; the caller frees. */
static char *credential_path(const char *name)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");

	return dir && *dir == '/' && *name && !strchr(name, '/') ? s3c_asprintf("%s/%s", dir, name)
								 : NULL;
}

/* Fills in what is left open: the credential, when there is one, else the default path. */
static int resolve(const struct s3c_keyring_source *source, struct s3c_err *err, char **ret_keyring)
{
	cleanup_free char *credential = NULL;
	char *keyring;

	if (source->keyring) {
		keyring = strdup(source->keyring);
	} else {
		credential = credential_path(S3C_CREDENTIAL_DEFAULT);
		keyring = credential && access(credential, F_OK) == 0
				  ? strdup(CREDENTIAL S3C_CREDENTIAL_DEFAULT)
				  : s3c_keyring_default_path();
	}
	if (!keyring)
		return s3c_err_set(err, -ENOENT,
				   "there is no home folder to look for a keyring in: give "
				   "keyring=FILE");
	*ret_keyring = keyring;
	return 0;
}

char *s3c_keyring_source_name(const struct s3c_keyring_source *source)
{
	char *keyring = NULL;

	if (source->command)
		return strdup("the output of key_command");
	return resolve(source, NULL, &keyring) < 0 ? strdup("keyring") : keyring;
}

static int read_command(const char *command, struct s3c_err *err, struct s3c_buf *text)
{
	char **argv = NULL, *out = NULL;
	size_t len = 0;
	struct s3c_op op;
	int r = s3c_process_split(command, &argv);

	if (r < 0)
		return s3c_err_set(err, r, "key_command= is not a command: %s", strerror(-r));
	s3c_op_init(&op, s3c_deadline_after(COMMAND_S));
	r = s3c_process_run(argv, text->max, &op, err, &out, &len);
	s3c_op_destroy(&op);
	if (r < 0)
		s3c_err_prefix(err, r, "key_command %s", argv[0]);
	else
		r = s3c_buf_append(text, out, len);
	s3c_process_free_argv(argv);
	s3c_secret_free(out);
	return r;
}

static int read_kernel(const char *description, struct s3c_err *err, struct s3c_buf *text)
{
	long key = syscall(SYS_request_key, "user", description, NULL, 0);
	long len = key < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_READ, key, NULL, 0);
	long got;
	int r;

	if (len < 0) {
		r = -errno;
		return s3c_err_set(err, r,
				   "the kernel has no key of type user with the description '%s' "
				   "that this process can read: %s; add it with: keyctl padd user "
				   "%s @u <KEYRING",
				   description, strerror(-r), description);
	}
	if ((size_t)len > text->max)
		return s3c_err_set(err, -EMSGSIZE, "the kernel's key '%s' is too large",
				   description);
	r = s3c_buf_reserve(text, (size_t)len + 1);
	if (r < 0)
		return r;
	got = syscall(SYS_keyctl, KEYCTL_READ, key, text->data, len);
	if (got < 0)
		return s3c_err_set(err, -errno, "the kernel's key '%s': %m", description);
	/* Its whole length, also where there was no room: then another process has changed it. */
	if (got > len)
		return s3c_err_set(err, -EAGAIN,
				   "the kernel's key '%s' changed while it was read: try again",
				   description);
	text->len = (size_t)got;
	text->data[got] = '\0';
	return 0;
}

static int read_credential(const char *name, struct s3c_err *err, struct s3c_buf *text)
{
	cleanup_free char *path = credential_path(name);
	int r;

	if (!path)
		return s3c_err_set(err, -ENOENT,
				   "there is no credential '%s': CREDENTIALS_DIRECTORY is not set; "
				   "systemd sets it for units with LoadCredential=",
				   name);
	r = s3c_credential_read(path, err, text);
	return r < 0 ? s3c_err_set(err, r, "the credential %s: %s", path, strerror(-r)) : 0;
}

static int read_file(const char *path, struct s3c_err *err, struct found *found)
{
	int r = s3c_private_read(path, err, &found->text);

	if (r == -ENOENT)
		return s3c_err_set(
			err, r,
			"there is no keyring %s; put yours there, or, for a store that has "
			"nothing of it yet, make one with: s3cryptfsctl key new -o "
			"keyring=%s",
			path, path);
	if (r < 0)
		return s3c_err_set(err, r, "the keyring %s: %s", path, strerror(-r));
	found->file = realpath(path, NULL);
	return found->file ? 0 : -ENOMEM;
}

static int read_source(const struct s3c_keyring_source *source, const char *keyring,
		       struct s3c_err *err, struct found *found)
{
	if (source->command)
		return read_command(source->command, err, &found->text);
	if (strncmp(keyring, KERNEL, sizeof(KERNEL) - 1) == 0)
		return read_kernel(keyring + sizeof(KERNEL) - 1, err, &found->text);
	if (strncmp(keyring, CREDENTIAL, sizeof(CREDENTIAL) - 1) == 0)
		return read_credential(keyring + sizeof(CREDENTIAL) - 1, err, &found->text);
	return read_file(keyring, err, found);
}

static int unprotect(const struct s3c_keyring_source *source, struct s3c_err *err,
		     struct found *found)
{
	struct s3c_buf text;
	int r;

	s3c_buf_init(&text, S3C_KEYRING_MAX);
	r = s3c_passphrase_get(source->passphrase, found->name, false, err, &found->passphrase);
	if (r == 0)
		r = s3c_buf_reserve(&text, S3C_MIN(found->text.len, (size_t)S3C_KEYRING_MAX));
	if (r == 0)
		r = s3c_keyring_unprotect(found->text.data, found->text.len, found->passphrase,
					  found->name, err, &text);
	s3c_buf_free_secret(&found->text);
	found->text = text;
	return r;
}

static int find(const struct s3c_keyring_source *source, struct s3c_err *err, struct found *found)
{
	cleanup_free char *keyring = NULL;
	int r = source->command ? 0 : resolve(source, err, &keyring);

	if (r < 0)
		return r;
	found->name = source->command ? strdup("the output of key_command") : strdup(keyring);
	if (!found->name)
		return -ENOMEM;
	s3c_buf_init(&found->text, S3C_PROTECTED_MAX);
	r = read_source(source, keyring, err, found);
	if (r == 0 && found->text.len &&
	    s3c_keyring_is_protected(found->text.data, found->text.len))
		r = unprotect(source, err, found);
	return r;
}

static int parse(const struct found *found, struct s3c_err *err, struct s3c_keyring **ret_keyring)
{
	cleanup_free char *dir = found->file ? strdup(found->file) : NULL;

	if (found->file && !dir)
		return -ENOMEM;
	return s3c_keyring_parse(found->text.data ? found->text.data : "", found->text.len,
				 found->name, dir ? dirname(dir) : NULL, err, ret_keyring);
}

int s3c_keyring_open(const struct s3c_keyring_source *source, struct s3c_err *err,
		     struct s3c_keyring **ret_keyring)
{
	cleanup_found struct found found = { 0 };
	int r = find(source, err, &found);

	return r < 0 ? r : parse(&found, err, ret_keyring);
}

int s3c_keyring_load(const char *path, struct s3c_err *err, struct s3c_keyring **ret_keyring)
{
	const struct s3c_keyring_source source = { .keyring = path };

	return s3c_keyring_open(&source, err, ret_keyring);
}

char *s3c_keyring_default_path(void)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	struct passwd *user;

	if (geteuid() == 0)
		return strdup("/etc/s3cryptfs/keyring");
	/* The XDG specification: a relative path there is to be ignored. */
	if (config && *config == '/')
		return s3c_asprintf("%s/s3cryptfs/keyring", config);
	/* mount(8), which is set-user-id, hands on no environment. */
	if (!home || *home != '/') {
		user = getpwuid(geteuid());
		home = user ? user->pw_dir : NULL;
	}
	return home ? s3c_asprintf("%s/.config/s3cryptfs/keyring", home) : NULL;
}

/* id NULL: "key-YYYYMMDD-XXXX". */
static int choose_id(const char *id, struct s3c_err *err, char ret_id[static S3C_KEY_ID_MAX + 1])
{
	time_t now = time(NULL);
	uint8_t tail[2];
	char digits[5];
	struct tm tm;

	if (id && !s3c_key_id_valid(id))
		return s3c_err_set(err, -EINVAL,
				   "a key id has 1 to %d characters of A-Z a-z 0-9 . _ -",
				   S3C_KEY_ID_MAX);
	if (id) {
		memcpy(ret_id, id, strlen(id) + 1);
		return 0;
	}
	if (!gmtime_r(&now, &tm))
		return -EOVERFLOW;
	s3c_random(tail, sizeof(tail));
	s3c_hex_encode(tail, sizeof(tail), digits);
	snprintf(ret_id, S3C_KEY_ID_MAX + 1, "key-%04d%02d%02d-%s", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, digits);
	return 0;
}

/* Only a file is written to. The caller frees. */
static int file_of(const struct s3c_keyring_source *source, struct s3c_err *err, char **ret_path)
{
	cleanup_free char *path = NULL;
	int r;

	if (source->command)
		return s3c_err_set(err, -EINVAL,
				   "keys are changed in a keyring file: give keyring=FILE and no "
				   "key_command=");
	r = resolve(source, err, &path);
	if (r < 0)
		return r;
	if (s3c_keyring_is_scheme(path))
		return s3c_err_set(err, -EINVAL,
				   "%s is read-only here: change the keyring file that it was made "
				   "from, with keyring=FILE",
				   path);
	*ret_path = steal_ptr(path);
	return 0;
}

/* In the form that it is kept in: protected, when there is a passphrase. */
static int store_form(const struct s3c_buf *text, const char *passphrase, struct s3c_buf *ret_form)
{
	if (passphrase)
		return s3c_keyring_protect(text->data, text->len, passphrase, ret_form);
	return s3c_buf_append(ret_form, text->data, text->len);
}

static int create(const char *path, const char *id, const char *passphrase, struct s3c_err *err)
{
	struct s3c_buf text, form;
	int r;

	s3c_buf_init(&text, 0);
	s3c_buf_init(&form, S3C_PROTECTED_MAX);
	r = s3c_buf_reserve(&text, 2 * S3C_SECRET_LINE_MAX);
	if (r == 0)
		r = s3c_buf_append_str(&text,
				       "# Keys of s3cryptfs. Without this file the data cannot be "
				       "read: keep a copy in a safe place.\n");
	if (r == 0)
		r = s3c_keyring_text_section(id, false, &text);
	if (r == 0)
		r = s3c_buf_reserve(&form, text.len);
	if (r == 0)
		r = store_form(&text, passphrase, &form);
	if (r == 0)
		r = s3c_private_write_new(path, form.data, form.len);
	if (r == -EEXIST)
		s3c_err_set(err, r, "%s exists already", path);
	else if (r < 0)
		s3c_err_set(err, r, "cannot make the keyring %s: %s", path, strerror(-r));
	s3c_buf_free_secret(&text);
	s3c_buf_free_secret(&form);
	return r;
}

int s3c_keyring_new(const struct s3c_keyring_source *source, const char *id, bool protect,
		    struct s3c_err *err, char *ret_id)
{
	cleanup_free char *path = NULL;
	cleanup_secret char *passphrase = NULL;
	char chosen[S3C_KEY_ID_MAX + 1];
	int r = choose_id(id, err, chosen);

	if (r == 0)
		r = file_of(source, err, &path);
	if (r < 0)
		return r;
	if (access(path, F_OK) == 0) /* only for the sentence; the rename decides */
		return s3c_err_set(err, -EEXIST,
				   "%s exists already; to make another one, name it: "
				   "s3cryptfsctl key new -o keyring=FILE; for another key in this "
				   "one: s3cryptfsctl key rotate",
				   path);
	if (protect)
		r = s3c_passphrase_get(source->passphrase, path, true, err, &passphrase);
	if (r == 0)
		r = create(path, chosen, passphrase, err);
	if (r == 0 && ret_id)
		memcpy(ret_id, chosen, sizeof(chosen));
	return r;
}

int s3c_keyring_create(const char *path, const char *id, struct s3c_err *err)
{
	const struct s3c_keyring_source source = { .keyring = path };

	return s3c_keyring_new(&source, id, false, err, NULL);
}

/* Keeps a second change away: the lock is on the file that has the name at that time. */
static int lock_file(const char *path, struct stat *ret_st, int *ret_fd)
{
	for (;;) {
		cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		struct stat now;

		if (fd < 0 || flock(fd, LOCK_EX) < 0 || fstat(fd, ret_st) < 0 ||
		    stat(path, &now) < 0)
			return -errno;
		if (now.st_dev != ret_st->st_dev || now.st_ino != ret_st->st_ino)
			continue;
		*ret_fd = fd;
		fd = -1;
		return 0;
	}
}

/* What is to become of the text. */
struct change {
	const char *add;    /* id of a new active key */
	const char *remove; /* or of one that goes */
};

static int make_change(const struct change *change, const struct found *found,
		       const struct s3c_keyring *keyring, struct s3c_err *err,
		       struct s3c_buf *ret_text)
{
	const struct s3c_master_key *key =
		s3c_keyring_find(keyring, change->add ? change->add : change->remove);

	if (change->add && key)
		return s3c_err_set(err, -EEXIST, "%s has a key %s already; choose another id",
				   found->name, key->id);
	if (change->add)
		return s3c_keyring_text_rotate(found->text.data, found->text.len, keyring,
					       change->add, ret_text);
	if (!key)
		return s3c_err_set(err, -ENOENT, "%s has no key %s", found->name, change->remove);
	if (key->active)
		return s3c_err_set(err, -EBUSY,
				   "%s is the active key of %s: make another one first, with: "
				   "s3cryptfsctl key rotate",
				   key->id, found->name);
	return s3c_keyring_text_remove(found->text.data, found->text.len, change->remove, ret_text);
}

/* Nothing is written that could not be read again. */
static int check_changed(const struct change *change, struct found *changed, struct s3c_err *err)
{
	cleanup_keyring struct s3c_keyring *keyring = NULL;
	int r = parse(changed, err, &keyring);

	if (r == 0 && change->add && strcmp(s3c_keyring_active(keyring)->id, change->add) != 0)
		r = -EBADMSG;
	if (r == 0 && change->remove && s3c_keyring_find(keyring, change->remove))
		r = -EBADMSG;
	return r;
}

static int change_locked(const struct change *change, const struct stat *st, struct found *found,
			 struct s3c_err *err)
{
	cleanup_keyring struct s3c_keyring *keyring = NULL;
	struct s3c_buf text, form;
	int r = parse(found, err, &keyring);

	s3c_buf_init(&text, S3C_KEYRING_MAX);
	s3c_buf_init(&form, S3C_PROTECTED_MAX);
	if (r == 0)
		r = make_change(change, found, keyring, err, &text);
	if (r == 0) {
		struct s3c_buf before = found->text;

		found->text = text;
		text = before;
		r = check_changed(change, found, err);
	}
	if (r == 0)
		r = s3c_buf_reserve(&form, found->text.len);
	if (r == 0)
		r = store_form(&found->text, found->passphrase, &form);
	if (r == 0)
		r = s3c_private_replace(found->file, st, form.data, form.len);
	if (r < 0)
		s3c_err_set(err, r, "the keyring %s was not changed: %s", found->name,
			    strerror(-r));
	s3c_buf_free_secret(&text);
	s3c_buf_free_secret(&form);
	return r;
}

static int change_file(const struct s3c_keyring_source *source, const struct change *change,
		       struct s3c_err *err)
{
	cleanup_found struct found found = { 0 };
	cleanup_free char *path = NULL;
	cleanup_close int fd = -1;
	struct stat st;
	bool locked;
	int r = file_of(source, err, &path);

	if (r < 0)
		return r;
	r = lock_file(path, &st, &fd);
	if (r < 0 && r != -ENOENT)
		return s3c_err_set(err, r, "the keyring %s: %s", path, strerror(-r));
	locked = r == 0;
	r = find(source, err, &found);
	if (r == 0 && !locked)
		r = s3c_err_set(err, -EAGAIN, "the keyring %s was made meanwhile: try again", path);
	return r < 0 ? r : change_locked(change, &st, &found, err);
}

int s3c_keyring_rotate(const struct s3c_keyring_source *source, const char *id, struct s3c_err *err,
		       char *ret_id)
{
	char chosen[S3C_KEY_ID_MAX + 1];
	const struct change change = { .add = chosen };
	int r = choose_id(id, err, chosen);

	if (r == 0)
		r = change_file(source, &change, err);
	if (r == 0 && ret_id)
		memcpy(ret_id, chosen, sizeof(chosen));
	return r;
}

int s3c_keyring_remove(const struct s3c_keyring_source *source, const char *id, struct s3c_err *err)
{
	const struct change change = { .remove = id };

	return change_file(source, &change, err);
}
