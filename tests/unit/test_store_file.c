/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/secret.h"
#include "store/file_private.h"

#define N50 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
#define N200 N50 N50 N50 N50

static char dir[64];

static int set_up(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/s3c-test-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	cleanup_free char *command = s3c_asprintf("rm -rf '%s'", dir);

	(void)state;
	return command ? system(command) : -1;
}

static struct s3c_store *open_store(void)
{
	struct s3c_store *store = NULL;
	struct s3c_err err = { 0 };

	if (s3c_store_file_new(dir, S3C_FILE_CREATE, &err, &store) < 0)
		fail_msg("%s", err.text);
	return store;
}

static char *path_of(const char *name)
{
	char *path = s3c_asprintf("%s/%s", dir, name);

	assert_non_null(path);
	return path;
}

static bool exists(const char *name)
{
	cleanup_free char *path = path_of(name);
	struct stat st;

	return lstat(path, &st) == 0;
}

static int put(struct s3c_store *store, const char *key, const void *data, size_t len)
{
	struct iovec body = { (void *)(uintptr_t)data, len };
	struct s3c_store_request rq = {
		.op = S3C_STORE_PUT,
		.key = key,
		.body = &body,
		.body_count = 1,
	};
	struct s3c_store_reply reply;
	int r = s3c_store_perform(store, &rq, NULL, &reply);

	s3c_store_reply_free(&reply);
	return r;
}

static void expect_text(struct s3c_store *store, const char *key, const char *text)
{
	cleanup_buf struct s3c_buf body = { 0 };
	char message[256] = "";

	if (s3c_store_get_all(store, key, NULL, 1 << 20, NULL, &body, NULL, message,
			      sizeof(message)) < 0)
		fail_msg("%s", message);
	assert_string_equal(body.len ? body.data : "", text);
}

static void test_paths(void **state)
{
	static const struct {
		const char *key, *path, *other;
	} cases[] = {
		{ "a", "a", "%=a" },
		{ "a/b", "a/b", "a/%=b" },
		{ "a/", "a/%-", "a/%=" },
		{ "/", "%-/%-", "%-/%=" },
		{ "//a", "%-/%-/a", "%-/%-/%=a" },
		{ ".", "%-.", "%=." },
		{ "../..", "%-../%-..", "%-../%=.." },
		{ "...", "...", "%=..." },
		{ "%", "%", "%=%" },
		{ "%41", "%41", "%=%41" },
		{ "%-", "%-%-", "%=%-" },
		{ "%=a/%+b", "%-%=a/%-%+b", "%-%=a/%=%+b" },
		{ ".s3cryptfs-tmp", "%-.s3cryptfs-tmp", "%=.s3cryptfs-tmp" },
		{ ".s3cryptfs-meta/x", "%-.s3cryptfs-meta/x", "%-.s3cryptfs-meta/%=x" },
		{ "x/.s3cryptfs-tmp", "x/.s3cryptfs-tmp", "x/%=.s3cryptfs-tmp" },
		{ ".s3cryptfs/volume", ".s3cryptfs/volume", ".s3cryptfs/%=volume" },
		{ N200 N50 "no", N200 N50 "no", "%=" N200 N50 "no" },
		{ N200 N50 "noo", "%+" N200 "/%-" N50 "noo", "%+" N200 "/%=" N50 "noo" },
		{ N200 N200 N50 "no/" N200, "%+" N200 "/%-" N200 N50 "no/" N200,
		  "%+" N200 "/%-" N200 N50 "no/%=" N200 },
		{ N200 N200 N50 "noo", "%+" N200 "/%+" N200 "/%-" N50 "noo",
		  "%+" N200 "/%+" N200 "/%=" N50 "noo" },
	};
	char path[S3C_FILE_PATH_MAX];
	char other[S3C_FILE_PATH_MAX];
	char slashes[S3C_STORE_KEY_MAX + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(s3c_file_path(cases[i].key, path), 0);
		assert_string_equal(path, cases[i].path);
		assert_int_equal(s3c_file_path_clash(path, other), 0);
		assert_string_equal(other, cases[i].other);
	}
	/* The longest that a key can become. */
	memset(slashes, '/', sizeof(slashes));
	slashes[S3C_STORE_KEY_MAX] = '\0';
	assert_int_equal(s3c_file_path(slashes, path), 0);
	assert_true(strlen(path) < S3C_FILE_PATH_MAX - 256);
}

static void test_names(void **state)
{
	static const struct {
		const char *name;
		bool is_dir;
		enum s3c_file_place place;
		enum s3c_file_name_kind kind;
		const char *decoded;
	} cases[] = {
		{ "a", false, S3C_FILE_AT_TOP, S3C_FILE_NAME_WHOLE, "a" },
		{ "%-", true, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_WHOLE, "" },
		{ "%-..", false, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_WHOLE, ".." },
		{ "%-%-", false, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_WHOLE, "%-" },
		{ "%=a", false, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_WHOLE, "a" },
		{ "%+" N200, true, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_PIECE, N200 },
		{ "%+" N200, true, S3C_FILE_IN_PIECE, S3C_FILE_NAME_PIECE, N200 },
		{ "%-" N50 "noo", false, S3C_FILE_IN_PIECE, S3C_FILE_NAME_WHOLE, N50 "noo" },
		{ "%-.s3cryptfs-tmp", true, S3C_FILE_AT_TOP, S3C_FILE_NAME_WHOLE, S3C_FILE_TMP },
		{ ".s3cryptfs-tmp", true, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_WHOLE, S3C_FILE_TMP },
		/* Names that no key gives. */
		{ "%-a", false, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_FOREIGN, NULL },
		{ "%=a", true, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_FOREIGN, NULL },
		{ "%+a", true, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_FOREIGN, NULL },
		{ "%+" N200, false, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_FOREIGN, NULL },
		{ "%-" N50, false, S3C_FILE_IN_PIECE, S3C_FILE_NAME_FOREIGN, NULL },
		{ "a", false, S3C_FILE_IN_PIECE, S3C_FILE_NAME_FOREIGN, NULL },
		{ N200 N50 "noo", false, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_FOREIGN, NULL },
		{ ".s3cryptfs-tmp", true, S3C_FILE_AT_TOP, S3C_FILE_NAME_FOREIGN, NULL },
		{ "%-.s3cryptfs-tmp", true, S3C_FILE_IN_FOLDER, S3C_FILE_NAME_FOREIGN, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *decoded = NULL;

		assert_int_equal(s3c_file_name_decode(cases[i].name, cases[i].is_dir,
						      cases[i].place, &decoded),
				 cases[i].kind);
		if (cases[i].decoded)
			assert_string_equal(decoded, cases[i].decoded);
	}
}

static void test_records(void **state)
{
	static const char *const bad[] = {
		"",
		"s3cryptfs-object 2\n",
		"s3cryptfs-object 1\ne3:ab\n",
		"s3cryptfs-object 1\ne3:abcd\n",
		"s3cryptfs-object 1\ne99999999999999999999:abc\n",
		"s3cryptfs-object 1\nv1:x\n",
		"s3cryptfs-object 1\ne:\n",
		"s3cryptfs-object 1\ne3",
		"s3cryptfs-object 1\ne3:",
		"s3cryptfs-object 1\ne-1:\n\n",
	};
	struct s3c_stat info = { .version.etag = "\"x\"", .content_type = "text/plain" };
	cleanup_buf struct s3c_buf text = { 0 };
	struct s3c_stat read = { 0 };

	(void)state;
	assert_int_equal(s3c_meta_set(&info.meta, "a", "line\nbreak 3:x"), 0);
	assert_int_equal(s3c_meta_set(&info.meta, "empty", ""), 0);
	assert_int_equal(s3c_file_record_encode(&info, &text), 0);
	assert_int_equal(s3c_file_record_decode(text.data, text.len, &read), 0);
	assert_string_equal(read.version.etag, "\"x\"");
	assert_string_equal(read.content_type, "text/plain");
	assert_int_equal(read.meta.count, 2);
	assert_string_equal(s3c_meta_get(&read.meta, "a"), "line\nbreak 3:x");
	assert_string_equal(s3c_meta_get(&read.meta, "empty"), "");
	s3c_stat_free(&read);
	s3c_stat_free(&info);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(s3c_file_record_decode(bad[i], strlen(bad[i]), &read), -EBADMSG);
	/* What comes later may have letters that we do not know. */
	assert_int_equal(s3c_file_record_decode("s3cryptfs-object 1\nz1:x\n", 24, &read), 0);
	s3c_stat_free(&read);
}

static void write_file(const char *name, const char *text)
{
	cleanup_free char *path = path_of(name);
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void make_dir(const char *name)
{
	cleanup_free char *path = path_of(name);

	assert_int_equal(mkdir(path, 0755), 0);
}

static void test_layout(void **state)
{
	struct s3c_store *store = open_store();
	struct s3c_store_request rq = { .op = S3C_STORE_DELETE, .key = "a/b" };
	struct s3c_store_reply reply;

	(void)state;
	assert_int_equal(put(store, "a", "file", 4), 0);
	assert_true(exists("a"));
	assert_int_equal(put(store, "a/b", "below", 5), 0);
	assert_true(exists("%=a"));
	assert_true(exists("a/b"));
	expect_text(store, "a", "file");
	assert_int_equal(put(store, "a", "again", 5), 0);
	assert_int_equal(s3c_store_perform(store, &rq, NULL, &reply), 0);
	s3c_store_reply_free(&reply);
	assert_false(exists("a"));
	expect_text(store, "a", "again");
	assert_int_equal(put(store, "a", "third", 5), 0);
	assert_false(exists("a"));
	expect_text(store, "a", "third");
	rq.key = "a";
	assert_int_equal(s3c_store_perform(store, &rq, NULL, &reply), 0);
	s3c_store_reply_free(&reply);
	assert_false(exists("%=a"));
	s3c_store_free(store);
}

static void test_made_by_hand(void **state)
{
	struct s3c_store *store = open_store();
	struct s3c_store_request rq = { .op = S3C_STORE_HEAD, .key = "f/hand" };
	struct s3c_store_reply first, second;

	(void)state;
	make_dir("f");
	write_file("f/hand", "made by hand");
	expect_text(store, "f/hand", "made by hand");
	assert_int_equal(s3c_store_perform(store, &rq, NULL, &first), 0);
	assert_int_equal(first.stat.meta.count, 0);
	write_file("f/hand", "changed");
	assert_int_equal(s3c_store_perform(store, &rq, NULL, &second), 0);
	assert_string_not_equal(first.stat.version.etag, second.stat.version.etag);
	s3c_store_reply_free(&first);
	s3c_store_reply_free(&second);
	s3c_store_free(store);
}

static void test_sidecar(void **state)
{
	struct s3c_store *store = open_store();
	struct s3c_file_store *fs = container_of(store, struct s3c_file_store, base);
	struct s3c_file_call call = { .fs = fs, .rq.key = "big" };
	struct s3c_file_temp temp = S3C_FILE_TEMP_NONE;
	struct s3c_store_reply reply = { 0 };
	struct s3c_meta meta = { 0 };
	struct s3c_stat st = { 0 };
	cleanup_buf struct s3c_buf body = { 0 };
	char filler[3700];

	(void)state;
	memset(filler, 'f', sizeof(filler));
	assert_int_equal(s3c_meta_set(&meta, "name", "in a sidecar"), 0);
	memset(filler, 'v', 2000);
	filler[2000] = '\0';
	assert_int_equal(s3c_meta_set(&meta, "much", filler), 0);
	assert_int_equal(s3c_file_temp_new(fs, &temp), 0);
	assert_int_equal(s3c_file_write(&call, temp.fd, "body", 4), 0);
	/* Takes the room that the record would need, on file systems with little. */
	(void)fsetxattr(temp.fd, "user.filler", filler, sizeof(filler), 0);
	assert_int_equal(s3c_file_publish(&call, &temp, &meta, NULL, "text/x", &reply), 0);
	s3c_file_temp_free(&temp);
	if (!exists(S3C_FILE_META)) {
		s3c_meta_free(&meta);
		s3c_store_free(store);
		skip(); /* it fits here */
	}
	assert_int_equal(s3c_store_get_all(store, "big", NULL, 100, NULL, &body, &st, NULL, 0), 0);
	assert_string_equal(body.data, "body");
	assert_string_equal(st.version.etag, reply.stat.version.etag);
	assert_string_equal(s3c_meta_get(&st.meta, "name"), "in a sidecar");
	s3c_stat_free(&st);
	assert_int_equal(put(store, "big", "new", 3), 0);
	expect_text(store, "big", "new");
	s3c_meta_free(&meta);
	s3c_store_free(store);
	{
		/* The sidecar went with its version. */
		cleanup_free char *command =
			s3c_asprintf("test -z \"$(find %s/%s -type f)\"", dir, S3C_FILE_META);

		assert_int_equal(system(command), 0);
	}
}

static void test_leftovers(void **state)
{
	struct s3c_store *alive = open_store();
	struct s3c_file_store *fs = container_of(alive, struct s3c_file_store, base);
	cleanup_free char *session = s3c_asprintf(S3C_FILE_TMP "/%s", fs->session);
	cleanup_free char *old = path_of(S3C_FILE_TMP "/session-old");
	struct timespec times[2] = { { .tv_sec = time(NULL) - 25 * 3600 } };
	struct s3c_store *store;

	(void)state;
	times[1] = times[0];
	make_dir(S3C_FILE_TMP "/session-dead");
	write_file(S3C_FILE_TMP "/session-dead/lock", "");
	write_file(S3C_FILE_TMP "/session-dead/t0", "left");
	make_dir(S3C_FILE_TMP "/session-new");
	write_file(S3C_FILE_TMP "/session-new/t0", "just being made");
	make_dir(S3C_FILE_TMP "/session-old");
	write_file(S3C_FILE_TMP "/session-old/t0", "left");
	assert_int_equal(utimensat(AT_FDCWD, old, times, 0), 0);
	store = open_store();
	assert_false(exists(S3C_FILE_TMP "/session-dead"));
	assert_true(exists(S3C_FILE_TMP "/session-new"));
	assert_false(exists(S3C_FILE_TMP "/session-old"));
	assert_true(exists(session));
	s3c_store_free(store);
	s3c_store_free(alive);
	assert_false(exists(session));
}

/* Runs in a child: opens, tells, waits for leave, writes. */
static void write_in_child(int to_parent, int from_parent)
{
	struct s3c_store *store = open_store();
	char *data = malloc(100000);
	char c = 'o';

	memset(data, 'n', 100000);
	if (write(to_parent, &c, 1) != 1 || read(from_parent, &c, 1) != 1)
		_exit(1);
	put(store, "killed", data, 100000);
	_exit(2);
}

/* The child has written and described its temporary file, and waits for the names lock. */
static bool temp_is_ready(void)
{
	cleanup_free char *command = s3c_asprintf(
		"for f in %s/%s/session-*/t*; do [ \"$(stat -c %%s $f 2>&1)\" = 100000 ] "
		"&& exit 0; done; exit 1",
		dir, S3C_FILE_TMP);

	return system(command) == 0;
}

static void test_killed(void **state)
{
	struct s3c_store *store = open_store();
	cleanup_free char *lock_path = path_of(S3C_FILE_TMP "/lock");
	cleanup_close int lock = open(lock_path, O_RDWR);
	int up[2], down[2], status;
	unsigned tries = 0;
	char c = 'g';
	pid_t pid;

	(void)state;
	assert_int_equal(put(store, "killed", "old", 3), 0);
	s3c_store_free(store);
	assert_int_equal(pipe(up), 0);
	assert_int_equal(pipe(down), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		write_in_child(up[1], down[0]);
	assert_int_equal(read(up[0], &c, 1), 1);
	assert_int_equal(flock(lock, LOCK_EX), 0);
	assert_int_equal(write(down[1], &c, 1), 1);
	while (!temp_is_ready() && tries++ < 500)
		usleep(10000);
	usleep(50000); /* for the record and the sync */
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_true(temp_is_ready());
	assert_int_equal(flock(lock, LOCK_UN), 0);
	store = open_store();
	assert_false(temp_is_ready());
	expect_text(store, "killed", "old");
	s3c_store_free(store);
	for (int i = 0; i < 2; i++) {
		close(up[i]);
		close(down[i]);
	}
}

#define RACERS 4
#define RACES 30

/* Exit status: how many of the races were won. */
static void race_in_child(int start)
{
	struct s3c_store *store = open_store();
	unsigned won = 0;
	char c;

	if (read(start, &c, 1) < 0)
		_exit(255);
	for (unsigned i = 0; i < RACES; i++) {
		char key[32];
		struct s3c_store_request rq = {
			.op = S3C_STORE_PUT,
			.key = key,
			.condition.if_none_match = true,
		};
		struct s3c_store_reply reply;
		int r;

		snprintf(key, sizeof(key), "race/%u", i);
		r = s3c_store_perform(store, &rq, NULL, &reply);
		s3c_store_reply_free(&reply);
		if (r < 0 && r != -EEXIST)
			_exit(255);
		won += r == 0;
	}
	s3c_store_free(store);
	_exit((int)won);
}

static void test_processes(void **state)
{
	pid_t pids[RACERS];
	int start[2];
	unsigned won = 0;

	(void)state;
	assert_int_equal(pipe(start), 0);
	for (unsigned i = 0; i < RACERS; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0) {
			close(start[1]);
			race_in_child(start[0]);
		}
	}
	/* Closed here and in the children: all of them read its end at once. */
	close(start[0]);
	close(start[1]);
	for (unsigned i = 0; i < RACERS; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 255);
		won += (unsigned)WEXITSTATUS(status);
	}
	assert_int_equal(won, RACES);
}

static void test_read_only(void **state)
{
	struct s3c_store *store = NULL;
	struct s3c_err err = { 0 };
	cleanup_free char *missing = path_of("missing");

	(void)state;
	assert_int_equal(s3c_store_file_new(missing, S3C_FILE_WRITE, &err, &store), -ENOENT);
	assert_non_null(strstr(err.text, "does not exist"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_records),
		cmocka_unit_test_setup_teardown(test_layout, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_made_by_hand, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sidecar, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_leftovers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_killed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_processes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_read_only, set_up, tear_down),
	};

	if (s3c_secret_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
