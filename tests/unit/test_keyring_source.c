/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Where keyrings come from, their protected form, and changes of their text. */
#include "dir_fixture.h"
#include "object_fixture.h"

#include <linux/keyctl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "key/keyring_private.h"
#include "key/keyring_source.h"

#define RING "[a]\nsecret = " KEY_A "\nstate = active\n"
#define PASSPHRASE "correct horse \xc3\xa4"

static char *read_text(const char *path)
{
	struct s3c_buf text = { 0 };

	assert_int_equal(s3c_private_read(path, NULL, &text), 0);
	return s3c_buf_steal(&text);
}

static void assert_opens(const struct s3c_keyring_source *source, const char *active)
{
	cleanup_keyring struct s3c_keyring *ring = NULL;
	struct s3c_err err = { 0 };

	if (s3c_keyring_open(source, &err, &ring) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(s3c_keyring_active(ring)->id, active);
}

static void assert_refused(const struct s3c_keyring_source *source, int code, const char *words)
{
	struct s3c_keyring *ring = NULL;
	struct s3c_err err = { 0 };

	assert_int_equal(s3c_keyring_open(source, &err, &ring), code);
	if (!strstr(err.text, words))
		fail_msg("'%s' instead of '%s'", err.text, words);
}

/* A person's file, before and after. */
static void test_rotate_text(void **state)
{
	static const char before[] = "\xef\xbb\xbf# mine\r\n"
				     "[old-one] \n"
				     "secret=" KEY_B "\n"
				     "; state = active\n"
				     "\n"
				     "[a]\n"
				     "  state\t=  active  \r\n"
				     "secret = " KEY_A "\n"
				     "desc.state = active\n"
				     "# the end";
	static const char after[] = "\xef\xbb\xbf# mine\r\n"
				    "[old-one] \n"
				    "secret=" KEY_B "\n"
				    "; state = active\n"
				    "\n"
				    "[a]\n"
				    "  state\t=  old  \r\n"
				    "secret = " KEY_A "\n"
				    "desc.state = active\n"
				    "# the end\n"
				    "\n"
				    "[b]\n"
				    "secret = ";
	cleanup_keyring struct s3c_keyring *ring = keyring_of(before), *now = NULL;
	struct s3c_buf text = { 0 };

	(void)state;
	assert_int_equal(s3c_keyring_text_rotate(before, sizeof(before) - 1, ring, "b", &text), 0);
	assert_true(text.len > sizeof(after));
	assert_memory_equal(text.data, after, sizeof(after) - 1);
	assert_int_equal(s3c_keyring_parse(text.data, text.len, "t", NULL, NULL, &now), 0);
	assert_string_equal(s3c_keyring_active(now)->id, "b");
	assert_int_equal(now->count, 3);
	assert_memory_not_equal(now->keys[2].secret, now->keys[1].secret, 32);
	s3c_buf_free_secret(&text);
}

/* A key that is sent to the store is followed by one that is. */
static void test_rotate_shared(void **state)
{
	static const char before[] = "[a]\nsecret = " KEY_A "\nstate = active\nuse = sse-c\n";
	cleanup_keyring struct s3c_keyring *ring = keyring_of(before), *now = NULL;
	struct s3c_buf text = { 0 };

	(void)state;
	assert_int_equal(s3c_keyring_text_rotate(before, sizeof(before) - 1, ring, "b", &text), 0);
	assert_int_equal(s3c_keyring_parse(text.data, text.len, "t", NULL, NULL, &now), 0);
	assert_true(now->keys[1].ssec_shared && now->keys[1].active);
	s3c_buf_free_secret(&text);
}

static void test_remove_text(void **state)
{
	static const char before[] = "# top\n[a]\nsecret = " KEY_A "\nstate = active\n"
				     "[b]\n# of b\nsecret = " KEY_B "\n"
				     "\n# about c\n[c]\nsecret = " KEY_C "\n";
	static const char after[] = "# top\n[a]\nsecret = " KEY_A "\nstate = active\n"
				    "\n# about c\n[c]\nsecret = " KEY_C "\n";
	struct s3c_buf text = { 0 };

	(void)state;
	assert_int_equal(s3c_keyring_text_remove(before, sizeof(before) - 1, "b", &text), 0);
	assert_int_equal(text.len, sizeof(after) - 1);
	assert_memory_equal(text.data, after, text.len);
	s3c_buf_free_secret(&text);
	assert_int_equal(s3c_keyring_text_remove(before, sizeof(before) - 1, "d", &text), -ENOENT);
}

static void test_change_file(void **state)
{
	cleanup_free char *path = write_file(*state, "ring", 0600, "# kept\n" RING);
	cleanup_free char *link = s3c_asprintf("%s/link", (char *)*state);
	const struct s3c_keyring_source source = { .keyring = link };
	cleanup_free char *text = NULL;
	char id[S3C_KEY_ID_MAX + 1];
	struct s3c_err err = { 0 };
	struct stat st;

	assert_int_equal(symlink("ring", link), 0);
	assert_int_equal(s3c_keyring_rotate(&source, "b", &err, id), 0);
	assert_string_equal(id, "b");
	assert_opens(&source, "b");
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(s3c_keyring_rotate(&source, "a", &err, NULL), -EEXIST);
	assert_non_null(strstr(err.text, "has a key a already"));
	err.text[0] = '\0';
	assert_int_equal(s3c_keyring_remove(&source, "b", &err), -EBUSY);
	assert_non_null(strstr(err.text, "the active key"));
	assert_int_equal(s3c_keyring_remove(&source, "none", NULL), -ENOENT);
	assert_int_equal(s3c_keyring_remove(&source, "a", NULL), 0);
	text = read_text(path);
	assert_non_null(strstr(text, "# kept\n"));
	assert_null(strstr(text, "[a]"));
	assert_opens(&source, "b");
	/* A drawn id. */
	assert_int_equal(s3c_keyring_rotate(&source, NULL, NULL, id), 0);
	assert_int_equal(strncmp(id, "key-20", 6), 0);
	assert_opens(&source, id);
}

static void *rotate_once(void *arg)
{
	return s3c_keyring_rotate(arg, NULL, NULL, NULL) < 0 ? arg : NULL;
}

/* None of them takes back what another did: every key is still there. */
static void test_change_together(void **state)
{
	cleanup_free char *path = write_file(*state, "ring", 0600, RING);
	struct s3c_keyring_source source = { .keyring = path };
	struct s3c_keyring *ring = NULL;
	pthread_t threads[8];

	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, rotate_once, &source), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(s3c_keyring_open(&source, NULL, &ring), 0);
	assert_int_equal(ring->count, 1 + ARRAY_LEN(threads));
	s3c_keyring_free(ring);
}

static void test_protected(void **state)
{
	cleanup_free char *pass = write_file(*state, "pass", 0600, PASSPHRASE "\nmore\n");
	cleanup_free char *wrong = write_file(*state, "wrong", 0600, "Correct horse\n");
	cleanup_free char *open_to_all = write_file(*state, "open", 0644, PASSPHRASE);
	cleanup_free char *path = s3c_asprintf("%s/ring", (char *)*state);
	struct s3c_keyring_source source = { .keyring = path, .passphrase = pass };
	cleanup_free char *before = NULL, *after = NULL;
	struct s3c_err err = { 0 };

	if (s3c_keyring_new(&source, "a", true, &err, NULL) < 0)
		fail_msg("%s", err.text);
	before = read_text(path);
	assert_int_equal(strncmp(before,
				 "s3cryptfs protected keyring 1\nscrypt N=131072 r=8 p=1 "
				 "salt=",
				 55),
			 0);
	assert_null(strstr(before, "secret"));
	assert_opens(&source, "a");
	/* It stays protected. */
	assert_int_equal(s3c_keyring_rotate(&source, "b", &err, NULL), 0);
	after = read_text(path);
	assert_true(s3c_keyring_is_protected(after, strlen(after)));
	assert_null(strstr(after, "secret"));
	assert_opens(&source, "b");
	source.passphrase = wrong;
	assert_refused(&source, -EKEYREJECTED, "passphrase of");
	source.passphrase = open_to_all;
	assert_refused(&source, -EPERM, "others may access");
}

/* Its form is longer than the text may be. */
static void test_protected_large(void **state)
{
	cleanup_free char *pass = write_file(*state, "pass", 0600, PASSPHRASE);
	cleanup_free char *path = s3c_asprintf("%s/ring", (char *)*state);
	struct s3c_keyring_source source = { .keyring = path, .passphrase = pass };
	struct s3c_buf text = { 0 }, form = { 0 };

	assert_int_equal(s3c_buf_append_str(&text, RING), 0);
	while (text.len < S3C_KEYRING_MAX)
		assert_int_equal(s3c_buf_append_char(&text, '\n'), 0);
	assert_int_equal(s3c_keyring_protect(text.data, text.len, PASSPHRASE, &form), 0);
	assert_int_equal(s3c_private_write_new(path, form.data, form.len), 0);
	assert_opens(&source, "a");
	s3c_buf_free(&text);
	s3c_buf_free(&form);
}

/* The same text by the same passphrase never gives the same bytes; any change is noticed. */
static void test_protected_form(void **state)
{
	struct s3c_buf one = { 0 }, two = { 0 }, text = { 0 };
	static const char *const damage[][2] = {
		{ "keyring 1", "keyring 2" },
		{ "N=131072", "N=131071" },
		{ "N=131072", "N=8192" },
		{ "N=131072", "N=2097152" },
		{ "r=8", "r=0" },
		{ "r=8", "r=33" },
		{ "p=1", "p=17" },
		{ "p=1 ", "p=1" },
		{ "salt=", "salt=A" },
		{ "scrypt", "argon2" },
		{ "r=8", "r=99999999999999999999999999" },
	};

	(void)state;
	assert_int_equal(s3c_keyring_protect(RING, strlen(RING), PASSPHRASE, &one), 0);
	assert_int_equal(s3c_keyring_protect(RING, strlen(RING), PASSPHRASE, &two), 0);
	assert_int_equal(one.len, two.len);
	assert_memory_not_equal(one.data, two.data, one.len);
	assert_int_equal(s3c_keyring_unprotect(one.data, one.len, PASSPHRASE, "t", NULL, &text), 0);
	assert_int_equal(text.len, strlen(RING));
	assert_memory_equal(text.data, RING, text.len);
	for (size_t i = 0; i < ARRAY_LEN(damage); i++) {
		cleanup_free char *copy = strndup(one.data, one.len);
		char *at = strstr(copy, damage[i][0]);
		cleanup_free char *bad = NULL;
		struct s3c_err err = { 0 };

		*at = '\0';
		bad = s3c_asprintf("%s%s%s", copy, damage[i][1], at + strlen(damage[i][0]));
		assert_int_equal(
			s3c_keyring_unprotect(bad, strlen(bad), PASSPHRASE, "t", &err, &text),
			-EBADMSG);
		assert_non_null(strstr(err.text, "damaged"));
	}
	one.data[one.len - 8] = one.data[one.len - 8] == 'A' ? 'B' : 'A';
	assert_int_equal(s3c_keyring_unprotect(one.data, one.len, PASSPHRASE, "t", NULL, &text),
			 -EKEYREJECTED);
	assert_int_equal(s3c_keyring_unprotect(two.data, 60, PASSPHRASE, "t", NULL, &text),
			 -EBADMSG);
	s3c_buf_free(&one);
	s3c_buf_free(&two);
	s3c_buf_free_secret(&text);
}

static void test_descriptor(void **state)
{
	cleanup_free char *path = s3c_asprintf("%s/ring", (char *)*state);
	int fds[2][2];
	char place[2][16];
	struct s3c_keyring_source source = { .keyring = path };

	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe(fds[i]), 0);
		assert_int_equal(write(fds[i][1], "secret words\n", 13), 13);
		snprintf(place[i], sizeof(place[i]), "fd:%d", fds[i][0]);
	}
	source.passphrase = place[0];
	assert_int_equal(s3c_keyring_new(&source, "a", true, NULL, NULL), 0);
	source.passphrase = place[1];
	assert_opens(&source, "a");
	for (int i = 0; i < 2; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	assert_refused(&source, -EBADF, "cannot read the passphrase from fd:");
	source.passphrase = "fd:x";
	assert_refused(&source, -EINVAL, "is no descriptor");
}

static void test_command(void **state)
{
	cleanup_free char *path = write_file(*state, "ring", 0600, RING);
	cleanup_free char *cat = s3c_asprintf("cat '%s'", path);
	struct s3c_keyring_source source = { .command = cat, .keyring = "/nonexistent" };

	assert_opens(&source, "a");
	assert_int_equal(s3c_keyring_rotate(&source, "b", NULL, NULL), -EINVAL);
	source.command = "sh -c 'echo no such key >&2; exit 3'";
	assert_refused(&source, -EIO, "no such key");
	source.command = "printf '[a]\\nsecret_file = x\\n'";
	assert_refused(&source, -EINVAL, "path from the root");
	source.command = "'open";
	assert_refused(&source, -EINVAL, "not a command");
}

static void test_credential(void **state)
{
	cleanup_free char *path = write_file(*state, S3C_CREDENTIAL_DEFAULT, 0440, RING);
	cleanup_free char *other = write_file(*state, "other", 0444, RING);
	struct s3c_keyring_source source = { .keyring = "credential:" S3C_CREDENTIAL_DEFAULT };

	unsetenv("CREDENTIALS_DIRECTORY");
	assert_refused(&source, -ENOENT, "CREDENTIALS_DIRECTORY");
	setenv("CREDENTIALS_DIRECTORY", *state, 1);
	assert_opens(&source, "a");
	assert_int_equal(s3c_keyring_rotate(&source, "b", NULL, NULL), -EINVAL);
	source.keyring = NULL; /* found by itself */
	assert_opens(&source, "a");
	source.keyring = "credential:other";
	assert_refused(&source, -EPERM, "others may access");
	source.keyring = "credential:../other";
	assert_refused(&source, -ENOENT, "no credential");
	unsetenv("CREDENTIALS_DIRECTORY");
}

static void test_kernel(void **state)
{
	long key = syscall(SYS_add_key, "user", "s3cryptfs:unit-test", RING, strlen(RING),
			   KEY_SPEC_PROCESS_KEYRING);
	struct s3c_keyring_source source = { .keyring = "kernel:s3cryptfs:unit-test" };

	(void)state;
	if (key < 0) {
		print_message("the kernel gives no keyrings here: %s\n", strerror(errno));
		skip();
	}
	assert_opens(&source, "a");
	source.keyring = "kernel:s3cryptfs:no-such-key";
	assert_refused(&source, -ENOKEY, "keyctl padd");
}

struct changing {
	long key;
	const char *large;
	atomic_bool stop;
};

static void *change_key(void *arg)
{
	struct changing *c = arg;

	for (unsigned i = 0; !atomic_load(&c->stop); i++) {
		const char *text = i % 2 ? RING : c->large;

		syscall(SYS_keyctl, KEYCTL_UPDATE, c->key, text, strlen(text));
	}
	return NULL;
}

static void test_kernel_changes(void **state)
{
	struct s3c_keyring_source source = { .keyring = "kernel:s3cryptfs:unit-test" };
	struct changing c = { 0 };
	char large[1024];
	pthread_t thread;

	(void)state;
	memset(large, '\n', sizeof(large));
	memcpy(large, RING, strlen(RING));
	large[sizeof(large) - 1] = '\0';
	c.large = large;
	c.key = syscall(SYS_add_key, "user", "s3cryptfs:unit-test", RING, strlen(RING),
			KEY_SPEC_PROCESS_KEYRING);
	if (c.key < 0)
		skip();
	assert_int_equal(pthread_create(&thread, NULL, change_key, &c), 0);
	for (unsigned i = 0; i < 5000; i++) {
		cleanup_keyring struct s3c_keyring *ring = NULL;
		int r = s3c_keyring_open(&source, NULL, &ring);

		assert_true(r == 0 || r == -EAGAIN);
	}
	atomic_store(&c.stop, true);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rotate_text),
		cmocka_unit_test(test_rotate_shared),
		cmocka_unit_test(test_remove_text),
		cmocka_unit_test_setup_teardown(test_change_file, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_change_together, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_protected, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_protected_large, make_dir, remove_dir),
		cmocka_unit_test(test_protected_form),
		cmocka_unit_test_setup_teardown(test_descriptor, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_command, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_credential, make_dir, remove_dir),
		cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_kernel_changes),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
