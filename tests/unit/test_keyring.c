/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "dir_fixture.h"
#include "object_fixture.h"

#include <sys/stat.h>

#include "key/keyring.h"

static void test_full(void **state)
{
	static const char text[] = "\xef\xbb\xbf# comment\r\n"
				   "\n"
				   "  ; another\n"
				   "[first.key-1_A]\r\n"
				   "secret = " KEY_A "  \r\n"
				   "state=old\n"
				   "desc.team = storage = fast\n"
				   "desc.empty =\n"
				   "desc.\xc3\xa4 = \xe2\x82\xac \"q\"\n"
				   "[second]\n"
				   "\tsecret=" KEY_B "\n"
				   "state = active\n"
				   "[third]\n"
				   "use = sse-c\n"
				   "secret = " KEY_C "\n"
				   "[rsa]\n"
				   "rsa_private_key = /etc/key.pem\n"
				   "[short]\n"
				   "secret = AAECAwQFBgcICQoLDA0ODw==";
	cleanup_keyring struct s3c_keyring *ring = keyring_of(text);
	const struct s3c_master_key *k;
	cleanup_free char *json = NULL, *plain = NULL;

	(void)state;
	assert_int_equal(ring->count, 5);
	k = &ring->keys[0];
	assert_string_equal(k->id, "first.key-1_A");
	assert_int_equal(k->secret_len, 32);
	assert_int_equal(k->secret[31], 31);
	assert_false(k->active);
	assert_int_equal(k->desc_count, 3);
	assert_string_equal(k->desc[0].value, "storage = fast");
	assert_string_equal(k->desc[1].value, "");
	assert_int_equal(s3c_keyring_matdesc(k, &json), 0);
	assert_string_equal(json, "{\"empty\":\"\",\"s3cryptfs-key-id\":\"first.key-1_A\","
				  "\"team\":\"storage = fast\",\"\\u00E4\":\"\\u20AC \\\"q\\\"\"}");
	assert_ptr_equal(s3c_keyring_active(ring), &ring->keys[1]);
	assert_int_equal(s3c_keyring_matdesc(&ring->keys[1], &plain), 0);
	assert_string_equal(plain, "{\"s3cryptfs-key-id\":\"second\"}");
	assert_ptr_equal(s3c_keyring_find(ring, "third"), &ring->keys[2]);
	assert_null(s3c_keyring_find(ring, "fourth"));
	assert_ptr_equal(s3c_keyring_ssec_shared(ring), &ring->keys[2]);
	assert_string_equal(ring->keys[3].rsa_private_key, "/etc/key.pem");
	assert_null(ring->keys[3].secret);
	assert_int_equal(ring->keys[4].secret_len, 16);
}

static void test_ssec_shared_prefers_active(void **state)
{
	cleanup_keyring struct s3c_keyring *ring =
		keyring_of("[x]\nuse=sse-c\nsecret=" KEY_A "\n[y]\nuse=sse-c\nsecret=" KEY_B
			   "\nstate=active\n");
	cleanup_keyring struct s3c_keyring *none = keyring_a();

	(void)state;
	assert_string_equal(s3c_keyring_ssec_shared(ring)->id, "y");
	assert_null(s3c_keyring_ssec_shared(none));
}

#define OK "[a]\nsecret=" KEY_A "\nstate=active\n"

static void test_refused(void **state)
{
	static const struct {
		const char *text, *words; /* the sentence has these words */
	} cases[] = {
		{ "", "s3cryptfsctl key new" },
		{ "# nothing\n", "has no keys" },
		{ "[a]\nsecret=" KEY_A "\n", "no active key" },
		{ "[a]\nstate=active\n", "test:2: [a]: the key has no secret" },
		{ OK "[b]\nstate=old", "test:5: [b]: the key has no secret" },
		{ "[a]\nrsa_private_key=/k\nstate=active\n", "32 bytes" },
		{ "[a]\nsecret=AAECAwQFBgcICQoLDA0ODw==\nstate=active\n", "32 bytes" },
		{ OK "[b]\nuse=sse-c\nsecret=AAECAwQFBgcICQoLDA0ODw==\n", "32 bytes" },
		{ OK "[b]\nsecret=" KEY_B "\nstate=active\n", "test:6: [b]: the key a is active" },
		{ OK "[a]\nsecret=" KEY_B "\n", "there twice" },
		{ OK "secret=" KEY_B "\n", "two secrets" },
		{ OK "state=old\n", "'state' is there twice" },
		{ "[a]\nsecret=" KEY_A "\nstate=on\n", "'active' or 'old'" },
		{ OK "use=ssec\n", "'use' can only" },
		{ OK "use=sse-c\nuse=sse-c\n", "'use' is there twice" },
		{ OK "rsa_private_key=/a\nrsa_private_key=/b\n", "there twice" },
		{ OK "rsa_private_key=\n", "a file is needed" },
		{ OK "rsa_private_key=relative\n", "a file is needed" },
		{ "secret=" KEY_A "\n" OK, "test:1: this line is before" },
		{ OK "nonsense\n", "test:4: [a]: a line is" },
		{ OK "secrets=x\n", "unknown name 'secrets'" },
		{ "[a]\nsecret=AAEC\n", "not the base64" },
		{ "[a]\nsecret=" KEY_A "AAAA\n", "not the base64" },
		{ "[a]\nsecret=\n", "not the base64" },
		{ "[a]\nsecret=" KEY_A " ; mine\n", "not the base64" },
		{ "[]\n", "a key id has" },
		{ "[a b]\n", "a key id has" },
		{ "[a\n", "alone on its line" },
		{ "[a] x\n", "alone on its line" },
		{ "[\n", "alone on its line" },
		{ "[0123456789012345678901234567890123456789012345678901234567890123456]\n",
		  "1 to 64" },
		{ OK "desc.=x\n", "after 'desc.'" },
		{ OK "desc.a b=x\n", "after 'desc.'" },
		{ OK "desc.s3cryptfs-key-id=x\n", "reserved" },
		{ OK "desc.aws:x=x\n", "reserved" },
		{ OK "desc.n=1\ndesc.n=2\n", "there twice" },
		{ OK "desc.n=a  b\n", "two blanks" },
		{ OK "desc.n=a\tb\n", "control characters" },
		{ OK "desc.n=\xff\n", "UTF-8" },
		{ OK "desc.\xff=a\n", "after 'desc.'" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_keyring *ring = NULL;
		struct s3c_err err = { 0 };
		int r;

		r = s3c_keyring_parse(cases[i].text, strlen(cases[i].text), "test", NULL, &err,
				      &ring);
		if (r != -EINVAL || !strstr(err.text, cases[i].words))
			fail_msg("case %zu: %d, %s", i, r, err.text);
		assert_null(ring);
	}
}

/* A secret in the wrong place is never repeated in a sentence. */
static void test_no_secret_in_sentences(void **state)
{
	static const char *const texts[] = {
		KEY_B "\n",
		OK KEY_B "\n",
		OK KEY_B "=\n",
		"[" KEY_B "]\n",
		"[a]\nsecret=" KEY_B "A\n",
		"[a]\nstate=" KEY_B "\n",
		"[a]\nuse=" KEY_B "\n",
		OK "desc.=" KEY_B "\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct s3c_keyring *ring = NULL;
		struct s3c_err err = { 0 };

		assert_int_not_equal(
			s3c_keyring_parse(texts[i], strlen(texts[i]), "test", NULL, &err, &ring),
			0);
		assert_true(err.text[0]);
		assert_null(strstr(err.text, "ICEi"));
	}
}

static void test_limits(void **state)
{
	struct s3c_keyring *ring = NULL;
	struct s3c_err err = { 0 };
	cleanup_buf struct s3c_buf text = { 0 };

	(void)state;
	s3c_buf_append_str(&text, OK);
	for (int i = 0; i < 4; i++)
		s3c_buf_printf(&text, "desc.n%d = %0200d\n", i, 1);
	assert_int_equal(s3c_keyring_parse(text.data, text.len, "test", NULL, &err, &ring),
			 -EINVAL);
	assert_non_null(strstr(err.text, "desc pairs are too long"));

	s3c_buf_reset(&text);
	err.text[0] = '\0';
	s3c_buf_append_str(&text, OK);
	s3c_buf_append(&text, "\0", 1);
	assert_int_equal(s3c_keyring_parse(text.data, text.len, "test", NULL, &err, &ring),
			 -EINVAL);
	assert_non_null(strstr(err.text, "not a text file"));

	s3c_buf_reset(&text);
	while (text.len <= 256 << 10)
		s3c_buf_append_str(&text, "# much\n");
	assert_int_equal(s3c_keyring_parse(text.data, text.len, "test", NULL, NULL, &ring),
			 -EMSGSIZE);
	/* Every beginning of a good keyring: refused or good, nothing else. */
	s3c_buf_reset(&text);
	s3c_buf_append_str(&text, OK "desc.n = v\n[b]\nsecret = " KEY_B);
	for (size_t cut = 0; cut < text.len; cut++)
		if (s3c_keyring_parse(text.data, cut, "test", NULL, NULL, &ring) == 0)
			s3c_keyring_free(ring);
	assert_null(s3c_keyring_find(&(struct s3c_keyring){ 0 }, "a"));
}

static void test_file(void **state)
{
	static const mode_t good[] = { 0600, 0400, 0700 }, bad[] = { 0640, 0604, 0610, 0660, 0644 };
	const char *dir = *state;
	cleanup_free char *path = write_file(dir, "ring", 0600, OK);
	cleanup_free char *words = s3c_asprintf("chmod 600 %s", path);
	cleanup_free char *missing = s3c_asprintf("%s/none", dir);
	cleanup_free char *fifo = s3c_asprintf("%s/fifo", dir);
	struct s3c_keyring *ring;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		chmod(path, good[i]);
		assert_int_equal(s3c_keyring_load(path, NULL, &ring), 0);
		s3c_keyring_free(ring);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct s3c_err err = { 0 };

		chmod(path, bad[i]);
		assert_int_equal(s3c_keyring_load(path, &err, &ring), -EPERM);
		assert_non_null(strstr(err.text, words));
	}
	struct s3c_err err = { 0 };

	assert_int_equal(s3c_keyring_load(missing, &err, &ring), -ENOENT);
	assert_non_null(strstr(err.text, "s3cryptfsctl key new"));
	err.text[0] = '\0';
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(s3c_keyring_load(fifo, &err, &ring), -EINVAL);
	assert_non_null(strstr(err.text, "regular file"));
	err.text[0] = '\0';
	assert_int_equal(s3c_keyring_load(dir, &err, &ring), -EINVAL);
}

static void test_owner(void **state)
{
	cleanup_free char *path = write_file(*state, "ring", 0600, OK);
	struct s3c_keyring *ring;
	struct s3c_err err = { 0 };

	if (geteuid() != 0)
		skip(); /* only root can give files away */
	assert_int_equal(chown(path, 12345, 0), 0);
	assert_int_equal(s3c_keyring_load(path, &err, &ring), -EPERM);
	assert_non_null(strstr(err.text, "chown 0"));
}

static void test_secret_file(void **state)
{
	const char *dir = *state;
	cleanup_free char *ring_path =
		write_file(dir, "ring", 0600, "[a]\nsecret_file = part\nstate = active\n");
	cleanup_free char *part = write_file(dir, "part", 0600, KEY_A "\n\n");
	struct s3c_keyring *ring;
	struct s3c_err err = { 0 };

	assert_int_equal(s3c_keyring_load(ring_path, &err, &ring), 0);
	assert_int_equal(ring->keys[0].secret_len, 32);
	assert_int_equal(ring->keys[0].secret[5], 5);
	s3c_keyring_free(ring);
	chmod(part, 0644);
	assert_int_not_equal(s3c_keyring_load(ring_path, &err, &ring), 0);
	assert_non_null(strstr(err.text, "chmod 600"));
	err.text[0] = '\0';
	free(write_file(dir, "part", 0600, "something else"));
	chmod(part, 0600);
	assert_int_equal(s3c_keyring_load(ring_path, &err, &ring), -EINVAL);
	assert_non_null(strstr(err.text, "part is not the base64"));
	assert_null(strstr(err.text, "something"));
	err.text[0] = '\0';
	unlink(part);
	assert_int_equal(s3c_keyring_load(ring_path, &err, &ring), -EINVAL);
	assert_non_null(strstr(err.text, "ring:2: [a]"));
}

static void test_create(void **state)
{
	const char *dir = *state;
	cleanup_free char *path = s3c_asprintf("%s/new/deep/ring", dir);
	cleanup_free char *second = s3c_asprintf("%s/new/ring", dir);
	struct s3c_keyring *ring, *again;
	struct s3c_err err = { 0 };
	struct stat st;

	umask(0);
	assert_int_equal(s3c_keyring_create(path, NULL, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(s3c_keyring_load(path, &err, &ring), 0);
	assert_int_equal(ring->count, 1);
	assert_int_equal(ring->keys[0].secret_len, 32);
	assert_true(ring->keys[0].active);
	assert_int_equal(strncmp(ring->keys[0].id, "key-20", 6), 0);
	assert_int_equal(strlen(ring->keys[0].id), strlen("key-YYYYMMDD-XXXX"));
	assert_int_equal(s3c_keyring_create(path, "other", &err), -EEXIST);
	assert_non_null(strstr(err.text, "exists already"));

	assert_int_equal(s3c_keyring_create(second, "my.key", NULL), 0);
	assert_int_equal(s3c_keyring_load(second, NULL, &again), 0);
	assert_string_equal(again->keys[0].id, "my.key");
	assert_memory_not_equal(again->keys[0].secret, ring->keys[0].secret, 32);
	s3c_keyring_free(again);
	s3c_keyring_free(ring);
	assert_int_equal(s3c_keyring_create(second, "my/key", NULL), -EINVAL);
}

static void test_default_path(void **state)
{
	cleanup_free char *path = s3c_keyring_default_path();

	(void)state;
	if (geteuid() == 0) {
		assert_string_equal(path, "/etc/s3cryptfs/keyring");
		return;
	}
	free(path);
	setenv("XDG_CONFIG_HOME", "/x/config", 1);
	path = s3c_keyring_default_path();
	assert_string_equal(path, "/x/config/s3cryptfs/keyring");
	free(path);
	setenv("XDG_CONFIG_HOME", "relative", 1);
	setenv("HOME", "/home/me", 1);
	path = s3c_keyring_default_path();
	assert_string_equal(path, "/home/me/.config/s3cryptfs/keyring");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_ssec_shared_prefers_active),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_no_secret_in_sentences),
		cmocka_unit_test(test_limits),
		cmocka_unit_test_setup_teardown(test_file, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_owner, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_secret_file, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_create, make_dir, remove_dir),
		cmocka_unit_test(test_default_path),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
