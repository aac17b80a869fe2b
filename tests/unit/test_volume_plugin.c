/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The volume plugin without HTTP and without mounts: requests, definitions, who uses what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/util.h"
#include "dir_fixture.h"
#include "plugin/plugin.h"
#include "plugin/request.h"

#define VOLUME "{\"Name\":\"v\"}"
#define MOUNT_A "{\"Name\":\"v\",\"ID\":\"a\"}"
#define MOUNT_B "{\"Name\":\"v\",\"ID\":\"b\"}"
#define CREATE                                                                                     \
	"{\"Name\":\"v\",\"Opts\":{\"source\":\"s3://bucket/p\",\"ro\":\"\",\"memory\":\"128M\"}}"

/* What the mounter pretends: one mountpoint. */
static struct {
	enum s3c_place place;
	int mount_result, unmount_result;
	unsigned mounts, unmounts, lazy;
	bool slow, stopped;
	char config[256];
} fake;

static enum s3c_place fake_look(const char *mountpoint)
{
	(void)mountpoint;
	return fake.place;
}

static bool fake_is_mounted(const char *mountpoint)
{
	(void)mountpoint;
	return fake.place != S3C_PLACE_FREE;
}

static int wait_for_stop(struct s3c_op *op)
{
	struct timespec pause = { .tv_nsec = 1000000 };

	while (!s3c_op_interrupted(op))
		nanosleep(&pause, NULL);
	fake.stopped = true;
	return -EINTR;
}

static int fake_mount(const char *program, const struct s3c_plugin_volume *volume,
		      const char *config, const char *mountpoint, struct s3c_op *op,
		      struct s3c_err *err)
{
	FILE *file = fopen(config, "re");
	struct stat st;
	size_t n;

	(void)program, (void)volume, (void)mountpoint;
	assert_non_null(file);
	assert_int_equal(fstat(fileno(file), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	n = fread(fake.config, 1, sizeof(fake.config) - 1, file);
	fake.config[n] = '\0';
	fclose(file);
	__atomic_add_fetch(&fake.mounts, 1, __ATOMIC_SEQ_CST);
	if (fake.slow)
		return wait_for_stop(op);
	if (fake.mount_result < 0)
		return s3c_err_set(err, fake.mount_result,
				   "no \xff"
				   "way");
	fake.place = S3C_PLACE_ALIVE;
	return 0;
}

static int fake_unmount(const char *program, const char *mountpoint, bool lazy, struct s3c_op *op,
			struct s3c_err *err)
{
	(void)program, (void)mountpoint, (void)op;
	fake.unmounts++;
	fake.lazy += lazy;
	if (fake.unmount_result < 0)
		return s3c_err_set(err, fake.unmount_result, "it is in use");
	fake.place = S3C_PLACE_FREE;
	return 0;
}

static const struct s3c_mounter fake_mounter = {
	.look = fake_look,
	.is_mounted = fake_is_mounted,
	.mount = fake_mount,
	.unmount = fake_unmount,
};

static struct s3c_plugin *open_plugin(const char *dir)
{
	const struct s3c_plugin_config config = { .state_dir = dir,
						  .program = "none",
						  .mounter = &fake_mounter };
	struct s3c_plugin *plugin = NULL;

	assert_int_equal(s3c_plugin_open(&config, NULL, &plugin), 0);
	return plugin;
}

static int ask_as(struct s3c_plugin *plugin, const struct s3c_plugin_client *client,
		  const char *verb, const char *body, json_t **ret_answer)
{
	cleanup_free char *path = s3c_asprintf("/VolumeDriver.%s", verb);
	json_t *answer = NULL;
	const char *text;
	int r = s3c_plugin_answer(plugin, path, body, strlen(body), client, &answer);

	assert_non_null(answer);
	text = json_string_value(json_object_get(answer, "Err"));
	/* One line for a person, exactly when it failed. */
	if (r < 0)
		assert_true(text && text[0] && !strchr(text, '\n'));
	else
		assert_true(!text || !text[0]);
	if (ret_answer)
		*ret_answer = answer;
	else
		json_decref(answer);
	return r;
}

static int ask(struct s3c_plugin *plugin, const char *verb, const char *body)
{
	return ask_as(plugin, NULL, verb, body, NULL);
}

static size_t users(struct s3c_plugin *plugin)
{
	json_t *answer, *status;
	size_t n;

	assert_int_equal(ask_as(plugin, NULL, "Get", VOLUME, &answer), 0);
	status = json_object_get(json_object_get(answer, "Volume"), "Status");
	n = (size_t)json_integer_value(json_object_get(status, "users"));
	json_decref(answer);
	return n;
}

static void test_requests(void **state)
{
	static const struct {
		const char *path, *body;
		int result;
	} cases[] = {
		{ "/Plugin.Activate", "", 0 },
		{ "/Plugin.Activate", "null", 0 },
		{ "/VolumeDriver.List", "{}", 0 },
		{ "/VolumeDriver.List", "[]", -EINVAL },
		{ "/VolumeDriver.List", "{", -EINVAL },
		{ "/VolumeDriver.Nothing", "{}", -ENOENT },
		{ "/", "{}", -ENOENT },
		{ "/VolumeDriver.Get", "", -EINVAL },
		{ "/VolumeDriver.Get", "null", -EINVAL },
		{ "/VolumeDriver.Get", "{}", -EINVAL },
		{ "/VolumeDriver.Get", "{\"Name\":1}", -EINVAL },
		{ "/VolumeDriver.Get", "{\"Name\":\"\"}", -EINVAL },
		{ "/VolumeDriver.Get", "{\"Name\":\"..\"}", -EINVAL },
		{ "/VolumeDriver.Get", "{\"Name\":\".hidden\"}", -EINVAL },
		{ "/VolumeDriver.Get", "{\"Name\":\"a/b\"}", -EINVAL },
		{ "/VolumeDriver.Get", "{\"Name\":\"a\\u0000b\"}", -EINVAL },
		{ "/VolumeDriver.Get", "{\"Name\":\"a\",\"Name\":\"b\"}", -EINVAL },
		{ "/VolumeDriver.Get", "{\"Name\":\"A-1_b.c\",\"More\":[]}", 0 },
		{ "/VolumeDriver.Mount", "{\"Name\":\"v\"}", -EINVAL },
		{ "/VolumeDriver.Mount", "{\"Name\":\"v\",\"ID\":\"\"}", -EINVAL },
		{ "/VolumeDriver.Mount", "{\"Name\":\"v\",\"ID\":\"a\\nb\"}", -EINVAL },
		{ "/VolumeDriver.Mount", MOUNT_A, 0 },
		{ "/VolumeDriver.Create", VOLUME, 0 },
		{ "/VolumeDriver.Create", "{\"Name\":\"v\",\"Opts\":null}", 0 },
		{ "/VolumeDriver.Create", "{\"Name\":\"v\",\"Opts\":[]}", -EINVAL },
		{ "/VolumeDriver.Create", "{\"Name\":\"v\",\"Opts\":{\"a\":1}}", -EINVAL },
		{ "/VolumeDriver.Create", "{\"Name\":\"v\",\"Opts\":{\"a\":\"b\\nc\"}}", -EINVAL },
		{ "/VolumeDriver.Create", "{\"Name\":\"v\",\"Opts\":{\"a\\nc\":\"b\"}}", -EINVAL },
	};
	cleanup_free char *large = calloc(1, S3C_PLUGIN_BODY_MAX + 2);
	char name[S3C_PLUGIN_NAME_MAX + 2] = { 0 };
	struct s3c_plugin_request request;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int r = s3c_plugin_request_parse(cases[i].path, cases[i].body,
						 strlen(cases[i].body), NULL, &request);

		if (r != cases[i].result)
			fail_msg("%s %s: %d", cases[i].path, cases[i].body, r);
		if (r == 0)
			s3c_plugin_request_free(&request);
	}
	assert_non_null(large);
	memset(large, ' ', S3C_PLUGIN_BODY_MAX + 1);
	assert_int_equal(s3c_plugin_request_parse("/VolumeDriver.List", large,
						  S3C_PLUGIN_BODY_MAX + 1, NULL, &request),
			 -EMSGSIZE);
	memset(name, 'a', S3C_PLUGIN_NAME_MAX);
	assert_true(s3c_plugin_name_is_good(name));
	name[S3C_PLUGIN_NAME_MAX] = 'a';
	assert_false(s3c_plugin_name_is_good(name));
}

static void test_options(void **state)
{
	static const struct {
		const char *options, *says; /* NULL: it is fine */
	} cases[] = {
		{ "{\"source\":\"s3://bucket\"}", NULL },
		{ "{\"source\":\"file:///srv/x\",\"o\":\"ro,umask=022\",\"uid\":\"5\"}", NULL },
		{ "{\"source\":\"s3://"
		  "bucket\",\"kms_context\":\"a=b,c;d=\\\\\",\"kms_key_id\":\"k\"}",
		  NULL },
		{ "{}", "source=" },
		{ "{\"source\":\"/srv\"}", "file:///srv" },
		{ "{\"source\":\"s3://bucket\",\"keyrign\":\"/k\"}", "'keyring'" },
		{ "{\"source\":\"s3://bucket\",\"ro\":\"true\"}", "no value" },
		{ "{\"source\":\"s3://bucket\",\"memory\":\"1\"}", "memory" },
		{ "{\"source\":\"s3://bucket\",\"enc\":\"sse-s3\",\"names\":\"encrypted\"}",
		  "names=encrypted" },
		{ "{\"source\":\"s3://bucket\",\"o\":\"writeback,commit=fsync\"}", "contradict" },
		{ "{\"source\":\"s3://bucket\",\"config\":\"relative\"}", "whole path" },
		{ "{\"source\":\"s3://bucket\",\"config\":\"/nonexistent/x\"}", "cannot be read" },
		{ "{\"source\":\"s3://bucket\",\"keyring\":\"/k \"}", "blank" },
		{ "{\"source\":\"s3://bucket\",\"#\":\"\"}", "no name" },
		{ "{\"source\":\"s3://bucket\",\"a=b\":\"\"}", "no name" },
		{ "{\"source\":\"s3://bucket\",\"AWS_SECRET_ACCESS_KEY\":\"hunter2\"}",
		  "no secrets" },
		{ "{\"source\":\"s3://bucket\",\"password\":\"hunter2\"}", "no secrets" },
		{ "{\"source\":\"s3://bucket\",\"key_command\":\"echo hunter2\"}", "config=" },
		{ "{\"source\":\"s3://bucket\",\"o\":\"key_command=echo hunter2\"}", "config=" },
		{ "{\"source\":\"s3://bucket\",\"endpoint\":\"https://me:hunter2@host\"}",
		  "password" },
		{ "{\"source\":\"s3://bucket\",\"passphrase_file\":\"fd:3\"}", "fd:N" },
		{ "{\"source\":\"s3://bucket\",\"log\":\"stderr\"}", "syslog" },
		{ "{\"source\":\"s3://bucket\",\"help\":\"\"}", "help" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *options = json_loads(cases[i].options, 0, NULL);
		struct s3c_plugin_volume *volume = NULL;
		struct s3c_err err = { 0 };
		int r = s3c_plugin_volume_new("v", options, &err, &volume);

		assert_non_null(options);
		if (!cases[i].says != (r == 0) ||
		    (cases[i].says &&
		     (!strstr(err.text, cases[i].says) || strstr(err.text, "hunter2"))))
			fail_msg("%s: %d, %s", cases[i].options, r, err.text);
		s3c_plugin_volume_free(volume);
		json_decref(options);
	}
}

static void test_users(void **state)
{
	const char *dir = *state;
	struct s3c_plugin *plugin = open_plugin(dir);

	memset(&fake, 0, sizeof(fake));
	assert_int_equal(ask(plugin, "Mount", MOUNT_A), -ENODATA);
	assert_int_equal(ask(plugin, "Create", CREATE), 0);
	assert_int_equal(ask(plugin, "Create", CREATE), 0); /* asked twice */
	assert_int_equal(
		ask(plugin, "Create", "{\"Name\":\"v\",\"Opts\":{\"source\":\"s3://other\"}}"),
		-EEXIST);
	assert_int_equal(fake.mounts, 0);
	assert_int_equal(ask(plugin, "Mount", MOUNT_A), 0);
	assert_string_equal(fake.config, "ro\nmemory=128M\n");
	assert_int_equal(ask(plugin, "Mount", MOUNT_A), 0); /* its answer was lost */
	assert_int_equal(ask(plugin, "Mount", MOUNT_B), 0);
	assert_int_equal(fake.mounts, 1);
	assert_int_equal(users(plugin), 2);
	assert_int_equal(ask(plugin, "Remove", VOLUME), -EBUSY);
	assert_int_equal(ask(plugin, "Unmount", MOUNT_A), 0);
	assert_int_equal(ask(plugin, "Unmount", MOUNT_A), 0);
	assert_int_equal(fake.unmounts, 0);
	assert_int_equal(users(plugin), 1);
	assert_int_equal(ask(plugin, "Unmount", MOUNT_B), 0);
	assert_int_equal(fake.unmounts, 1);
	assert_int_equal(ask(plugin, "Remove", VOLUME), 0);
	assert_int_equal(ask(plugin, "Get", VOLUME), -ENODATA);
	assert_int_equal(ask(plugin, "Remove", VOLUME), -ENODATA);
	s3c_plugin_close(plugin);
}

static bool always_gone(void *arg)
{
	(void)arg;
	return true;
}

static void test_failures(void **state)
{
	const struct s3c_plugin_client gone = { .gone = always_gone };
	struct s3c_plugin *plugin = open_plugin(*state);

	memset(&fake, 0, sizeof(fake));
	assert_int_equal(ask(plugin, "Create", CREATE), 0);
	fake.mount_result = -EIO;
	assert_int_equal(ask(plugin, "Mount", MOUNT_A), -EIO);
	assert_int_equal(users(plugin), 0);
	fake.mount_result = 0;
	/* Nobody would unmount it. */
	assert_int_equal(ask_as(plugin, &gone, "Mount", MOUNT_A, NULL), -EPIPE);
	assert_int_equal(users(plugin), 0);
	assert_int_equal(fake.place, S3C_PLACE_FREE);
	assert_int_equal(ask(plugin, "Mount", MOUNT_A), 0);
	assert_int_equal(ask_as(plugin, &gone, "Mount", MOUNT_B, NULL), -EPIPE);
	assert_int_equal(users(plugin), 1);
	assert_int_equal(fake.place, S3C_PLACE_ALIVE); /* another uses it */
	/* The process died: the next one to mount has it again. */
	fake.place = S3C_PLACE_DEAD;
	assert_int_equal(ask(plugin, "Mount", MOUNT_B), 0);
	assert_int_equal(fake.lazy, 1);
	assert_int_equal(fake.place, S3C_PLACE_ALIVE);
	assert_int_equal(ask(plugin, "Unmount", MOUNT_A), 0);
	/* What is busy says so and is asked for again by Remove. */
	fake.unmount_result = -EIO;
	assert_int_equal(ask(plugin, "Unmount", MOUNT_B), -EIO);
	assert_int_equal(ask(plugin, "Remove", VOLUME), -EIO);
	assert_int_equal(users(plugin), 0);
	fake.unmount_result = 0;
	assert_int_equal(ask(plugin, "Remove", VOLUME), 0);
	assert_int_equal(fake.place, S3C_PLACE_FREE);
	s3c_plugin_close(plugin);
}

static void put_file(const char *dir, const char *name, const char *text)
{
	cleanup_free char *path = s3c_asprintf("%s/volumes/%s", dir, name);
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void test_restart(void **state)
{
	const char *dir = *state;
	cleanup_free char *path = s3c_asprintf("%s/volumes/v.json", dir);
	const struct s3c_plugin_config config = { .state_dir = dir, .mounter = &fake_mounter };
	struct s3c_plugin *plugin = open_plugin(dir), *other;
	struct stat st;

	memset(&fake, 0, sizeof(fake));
	assert_int_equal(s3c_plugin_open(&config, NULL, &other), -EBUSY);
	assert_int_equal(ask(plugin, "Create", CREATE), 0);
	assert_int_equal(ask(plugin, "Mount", MOUNT_A), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	s3c_plugin_close(plugin);

	/* The mount lives on. */
	plugin = open_plugin(dir);
	s3c_plugin_reconcile(plugin);
	assert_int_equal(users(plugin), 1);
	assert_int_equal(fake.mounts + fake.unmounts, 1);
	s3c_plugin_close(plugin);

	/* It died meanwhile. */
	fake.place = S3C_PLACE_DEAD;
	plugin = open_plugin(dir);
	s3c_plugin_reconcile(plugin);
	assert_int_equal(fake.place, S3C_PLACE_ALIVE);
	assert_int_equal(fake.mounts, 2);
	assert_int_equal(ask(plugin, "Unmount", MOUNT_A), 0);
	assert_int_equal(fake.place, S3C_PLACE_FREE);
	s3c_plugin_close(plugin);

	/* Mounted, and killed before the user was written down. */
	fake.place = S3C_PLACE_ALIVE;
	plugin = open_plugin(dir);
	s3c_plugin_reconcile(plugin);
	assert_int_equal(fake.place, S3C_PLACE_FREE);
	s3c_plugin_close(plugin);

	/* Of another boot, damaged, and no volume at all. */
	put_file(dir, "v.json",
		 "{\"version\":1,\"source\":\"s3://bucket/p\",\"options\":{},\"created\":0,"
		 "\"boot\":\"other\",\"users\":[\"a\"]}");
	put_file(dir, "bad.json", "{\"version\":1,\"source\":");
	put_file(dir, "v.json.new-abcdef", "");
	plugin = open_plugin(dir);
	assert_int_equal(users(plugin), 0);
	assert_int_equal(ask(plugin, "Get", "{\"Name\":\"bad\"}"), -ENODATA);
	assert_int_equal(
		ask(plugin, "Create", "{\"Name\":\"bad\",\"Opts\":{\"source\":\"s3://bucket\"}}"),
		-EEXIST);
	s3c_plugin_close(plugin);
}

static void *mount_b(void *arg)
{
	return (void *)(intptr_t)ask(arg, "Mount", MOUNT_B);
}

static void test_threads(void **state)
{
	struct s3c_plugin *plugin = open_plugin(*state);
	struct timespec pause = { .tv_nsec = 1000000 };
	pthread_t threads[8];
	json_t *answer;
	void *result;

	memset(&fake, 0, sizeof(fake));
	assert_int_equal(ask(plugin, "Create", CREATE), 0);
	/* All at once: one mounts. */
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mount_b, plugin), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_ptr_equal(result, NULL);
	}
	assert_int_equal(fake.mounts, 1);
	assert_int_equal(users(plugin), 1);
	assert_int_equal(ask(plugin, "Unmount", MOUNT_B), 0);

	/* While one is being mounted others are told of, and a stop ends the waiting. */
	fake.slow = true;
	fake.mounts = 0;
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mount_b, plugin), 0);
	while (!__atomic_load_n(&fake.mounts, __ATOMIC_SEQ_CST))
		nanosleep(&pause, NULL);
	assert_int_equal(ask_as(plugin, NULL, "List", "", &answer), 0);
	assert_int_equal(json_array_size(json_object_get(answer, "Volumes")), 1);
	json_decref(answer);
	s3c_plugin_stop(plugin);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_true((intptr_t)result == -EINTR || (intptr_t)result == -ECANCELED);
	}
	assert_true(fake.stopped);
	assert_int_equal(fake.mounts, 1);
	s3c_plugin_close(plugin);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_options),
		cmocka_unit_test_setup_teardown(test_users, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_failures, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_restart, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_threads, make_dir, remove_dir),
	};

	return cmocka_run_group_tests_name("volume_plugin", tests, NULL, NULL);
}
