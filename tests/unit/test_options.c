/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/encode.h"
#include "cli/options.h"
#include "cli/options_table.h"
#include "db/cache.h"

#define A10 "aaaaaaaaaa"
#define A100 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10

/* The store may be away longer than eight repeats last: with writeback nobody is to notice. */
static void test_retries(void **state)
{
	static const struct {
		const char *given;
		unsigned retries;
	} cases[] = { { "ro", 8 },
		      { "writeback", UINT_MAX },
		      { "writeback,retries=3", 3 },
		      { "retries=0", 0 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_options o;
		struct s3c_err err = { 0 };

		assert_int_equal(s3c_options_init(&o, &err), 0);
		assert_int_equal(s3c_options_parse(&o, cases[i].given, &err), 0);
		assert_int_equal(s3c_options_check(&o, &err), 0);
		assert_int_equal(o.retries, cases[i].retries);
		s3c_options_free(&o);
	}
}

static void test_defaults(void **state)
{
	cleanup_options struct s3c_options o = { 0 };
	struct s3c_err err = { 0 };

	(void)state;
	assert_int_equal(s3c_options_init(&o, &err), 0);
	assert_int_equal(s3c_options_check(&o, &err), 0);
	assert_int_equal(o.enc, S3C_ENC_CSE_KEY);
	assert_string_equal(o.enc_name, "cse-key");
	assert_int_equal(o.accept, S3C_ACCEPT_SEALED);
	assert_int_equal(o.cache_size, UINT64_C(10) << 30);
	assert_int_equal(o.journal_size, UINT64_C(10) << 30);
	assert_int_equal(o.cache_key, S3C_CACHE_KEY_WRAPPED);
	assert_int_equal(o.memory, 256 << 20);
	assert_int_equal(o.ttl_s, 60);
	assert_int_equal(o.timeout_s, 120);
	assert_int_equal(o.parallel, 32);
	assert_int_equal(o.retries, 8);
	assert_int_equal(o.log_level, S3C_LOG_INFO);
	assert_false(o.read_only);
	assert_false(o.consistency_open);
	assert_false(o.writeback);
	assert_false(o.commit_fsync);
	assert_false(o.rollback_deny);
	assert_null(o.keyring);
	assert_int_equal(o.fuse_count, 0);
}

static void test_values(void **state)
{
	cleanup_options struct s3c_options o = { 0 };
	struct s3c_err err = { 0 };
	char hex[33];

	(void)state;
	assert_int_equal(s3c_options_init(&o, &err), 0);
	assert_int_equal(
		s3c_options_parse(
			&o,
			"rw,enc=sse-c,ssec_key=shared,endpoint=https://h:1,region=eu-1,"
			"cache_size=20G,memory=1G,ttl=5,consistency=open,rollback=deny,"
			"volume_id=000102030405060708090a0b0c0d0e0f,uid=7,gid=8,umask=077,"
			"allow_other,nosuid,max_read=65536,ro,log=syslog,addressing=path,"
			"checksum=crc32c,log_level=debug,nonempty,storage_class=GLACIER_IR,"
			"journal_size=2G,commit=fsync,excl=open,umount_timeout=90,"
			"nosymfollow",
			&err),
		0);
	assert_int_equal(s3c_options_check(&o, &err), 0);
	assert_int_equal(o.enc, S3C_ENC_SSE_C);
	assert_true(o.ssec_shared);
	assert_int_equal(o.accept, 0); /* what is under a customer key */
	assert_string_equal(o.endpoint, "https://h:1");
	assert_string_equal(o.region, "eu-1");
	assert_int_equal(o.cache_size, UINT64_C(20) << 30);
	assert_int_equal(o.journal_size, UINT64_C(2) << 30);
	assert_int_equal(o.cache_key, S3C_CACHE_KEY_FILE); /* what the mode has */
	assert_true(o.commit_fsync && o.excl_open && o.nosymfollow && !o.remount);
	assert_int_equal(o.umount_timeout_s, 90);
	assert_int_equal(o.ttl_s, 5);
	assert_true(o.consistency_open && o.rollback_deny && o.read_only &&
		    s3c_options_has_fuse(&o, "nonempty"));
	assert_true(o.has_volume_id && o.has_uid && o.has_gid && o.has_umask);
	s3c_hex_encode(o.volume_id, 16, hex);
	assert_string_equal(hex, "000102030405060708090a0b0c0d0e0f");
	assert_int_equal(o.uid, 7);
	assert_int_equal(o.gid, 8);
	assert_int_equal(o.umask, 077);
	assert_string_equal(o.log, "syslog");
	assert_int_equal(o.addressing, S3C_ADDRESSING_PATH);
	assert_int_equal(o.checksum, S3C_CHECKSUM_CRC32C);
	assert_int_equal(o.log_level, S3C_LOG_DEBUG);
	assert_string_equal(o.storage_class, "GLACIER_IR");
	assert_int_equal(o.fuse_count, 4);
	assert_string_equal(o.fuse[0], "allow_other");
	assert_string_equal(o.fuse[1], "nosuid");
	assert_string_equal(o.fuse[2], "max_read=65536");
	assert_null(o.fuse[4]);
}

/* What mount(8), fstab and systemd add means nothing to us and is no error. */
static void test_generic(void **state)
{
	cleanup_options struct s3c_options o = { 0 };
	struct s3c_err err = { 0 };

	(void)state;
	assert_int_equal(s3c_options_init(&o, &err), 0);
	assert_int_equal(s3c_options_parse(
				 &o,
				 "defaults,_netdev,nofail,noauto,auto,user,users,user=jo,"
				 "x-systemd.automount,x-systemd.idle-timeout=60,X-mount.mkdir=0700,"
				 "comment=mine,relatime,default_permissions,noatime,,nodev,noexec,"
				 "remount,user_id=0,group_id=0,rootmode=40000,noiversion,nomand",
				 &err),
			 0);
	assert_int_equal(o.fuse_count, 3);
	assert_true(o.remount);
}

static void test_escapes_and_order(void **state)
{
	cleanup_options struct s3c_options o = { 0 };
	struct s3c_err err = { 0 };

	(void)state;
	assert_int_equal(s3c_options_init(&o, &err), 0);
	assert_int_equal(
		s3c_options_parse(&o, "keyring=/a\\,b\\\\c\\d,region=x,region=y,ro,rw", &err), 0);
	assert_string_equal(o.keyring, "/a,b\\c\\d");
	assert_string_equal(o.region, "y");
	assert_false(o.read_only);
	assert_int_equal(s3c_options_parse(&o, "region=z,ca_file=rel.pem", &err), 0);
	assert_string_equal(o.region, "z");
	assert_int_equal(o.ca_file[0], '/');
	assert_string_equal(strrchr(o.ca_file, '/'), "/rel.pem");
}

static void test_refusals(void **state)
{
	static const struct {
		const char *list;
		const char *words; /* of the sentence */
	} cases[] = {
		{ "chache_size=1G", "did you mean 'cache_size'" },
		{ "keyrign=/x", "did you mean 'keyring'" },
		{ "bogus", "unknown option 'bogus' (-o help" },
		{ "allow_others", "did you mean 'allow_other'" },
		{ "enc=aes", "cse-key, cse-kms, sse-c, sse-kms, dsse-kms, sse-s3, none" },
		{ "enc", "needs a value" },
		{ "enc=", "needs a value" },
		{ "allow_http=1", "takes no value" },
		{ "ro=1", "takes no value" },
		{ "writeback=1", "takes no value" },
		{ "commit=never", "it takes close, fsync" },
		{ "excl=never", "it takes close, open" },
		{ "hardlinks=maybe", "it takes off, on" },
		{ "format=s3ec-v1", "does not know" },
		{ "accept=sealed:s3ec-v2", "does not know" },
		{ "accept=sealed:", "does not know ''" },
		{ "accept=everything", "does not know" },
		{ "kms_cache=86401", "out of range" },
		{ "bucket_key=yes", "it takes off, on" },
		{ "cache_key=plain", "it takes wrapped, file, ephemeral" },
		{ "journal_size=1M", "out of range" },
		{ "memory=1", "out of range" },
		{ "memory=lots", "wants a number" },
		{ "parallel=0", "out of range" },
		{ "parallel=-1", "wants a number" },
		{ "timeout=0", "out of range" },
		{ "cache_size=99999999T", "out of range" },
		{ "volume_id=abc", "32 hexadecimal" },
		{ "uid=root", "wants a number" },
		{ "umask=999", "octal" },
		{ "log_level=loud", "does not know" },
		{ "audit_rate=1000001", "1000000" },
		{ "config=/nonexistent/s3cryptfs", "cannot be read" },
		{ "config=/dev", "not a regular file" },
		{ "x", "unknown option 'x'" },
		{ "=", "unknown option ''" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_options struct s3c_options o = { 0 };
		struct s3c_err err = { 0 };

		assert_int_equal(s3c_options_init(&o, &err), 0);
		if (s3c_options_parse(&o, cases[i].list, &err) >= 0)
			fail_msg("%s was accepted", cases[i].list);
		if (!strstr(err.text, cases[i].words))
			fail_msg("%s: '%s' lacks '%s'", cases[i].list, err.text, cases[i].words);
		assert_null(strchr(err.text, '\n'));
	}
}

static void test_combinations(void **state)
{
	static const struct {
		const char *list;
		const char *words; /* NULL: good */
	} cases[] = {
		{ "endpoint=http://h", "allow_http" },
		{ "endpoint=HTTP://h", "allow_http" },
		{ "endpoint=http://h,allow_http", NULL },
		{ "endpoint=http://h,allow_http,enc=none", NULL },
		{ "endpoint=http://h,allow_http,enc=sse-c", "https://" },
		{ "endpoint=http://127.0.0.1,enc=sse-c", "https://" },
		{ "endpoint=https://h,enc=sse-c", NULL },
		{ "endpoint=h:9000", "no URL" },
		{ "endpoint=ftp://h", "no URL" },
		{ "ssec_key=shared", "enc=sse-c" },
		{ "enc=none,accept=sealed", "cse-key" },
		{ "enc=cse-key,accept=sealed:plain", NULL },
		{ "enc=cse-key,accept=sealed:s3ec:s3ec-v1", NULL },
		{ "enc=none,accept=plain:s3ec", "with a keyring, or enc=cse-kms" },
		{ "format=s3ec-v2", NULL },
		{ "enc=cse-key,format=s3ec-v3", NULL },
		{ "enc=none,format=s3ec-v3", "need enc=cse-key or cse-kms" },
		{ "enc=sse-c,format=s3ec-v2", "need enc=cse-key" },
		{ "enc=cse-kms,kms_key_id=x,format=s3ec-v2", NULL },
		{ "enc=cse-kms,kms_key_id=x,format=s3ec-v3", NULL },
		{ "enc=cse-kms,kms_key_id=x,kms_reuse=2,format=s3ec-v3", "kms_reuse does not go" },
		{ "enc=cse-kms,kms_key_id=x,kms_context=a=" A100 A100 A100 A100, NULL },
		{ "enc=cse-kms,kms_key_id=x,kms_context=a=" A100 A100 A100 A100 A100,
		  "room for 480" },
		{ "enc=sse-kms,kms_context=a=" A100 A100 A100 A100 A100, NULL },
		{ "enc=sse-c,accept=s3ec-v1", "keys of client-side encryption" },
		{ "enc=sse-s3", NULL },
		{ "enc=sse-s3,accept=sealed", "cse-key" },
		{ "enc=sse-s3,accept=plain", NULL },
		{ "enc=sse-s3,kms_key_id=x", "sse-kms" },
		{ "enc=sse-s3,bucket_key=on", "sse-kms" },
		{ "enc=dsse-kms,bucket_key=on", "sse-kms" },
		{ "enc=dsse-kms,bucket_key=off,kms_key_id=alias/x,kms_context=a=b", NULL },
		{ "enc=sse-kms,bucket_key=on,kms_key_id=x,kms_context=a=b;c=d", NULL },
		{ "enc=sse-kms", NULL },
		{ "enc=sse-kms,kms_context=aws:x=y", "aws:" },
		{ "enc=sse-kms,cache_key=wrapped", "cse-key" },
		{ "kms_key_id=x", NULL },
		{ "enc=sse-c,kms_context=a=b", "sse-kms" },
		{ "names=encrypted", NULL },
		{ "enc=none,names=encrypted", "no key for names" },
		{ "names=encrypted,accept=sealed:plain", "plain names" },
		{ "writeback", NULL },
		{ "writeback,commit=close", NULL },
		{ "writeback,ro", NULL },
		{ "commit=fsync", NULL },
		{ "writeback,commit=fsync", "contradict" },
		{ "commit=fsync,writeback", "contradict" },
		{ "cache_key=wrapped", NULL },
		{ "cache_key=ephemeral", NULL },
		{ "enc=none,cache_key=file", NULL },
		{ "enc=none,cache_key=wrapped", "cse-key" },
		{ "enc=sse-c,cache_key=wrapped", "cse-key" },
		{ "enc=cse-kms", "kms_key_id" },
		{ "enc=cse-kms,kms_key_id=alias/x,kms_context=a=b;c=d,kms_reuse=9", NULL },
		{ "enc=cse-kms,kms_key_id=x,kms_endpoint=ftp://x", "no URL" },
		{ "enc=cse-kms,kms_key_id=x,kms_context=a", "NAME=VALUE" },
		{ "enc=cse-kms,kms_key_id=x,kms_context=aws:a=b", "aws:" },
		{ "enc=cse-kms,kms_key_id=x,kms_reuse=4,kms_cache=0", "kms_cache=" },
		{ "kms_reuse=4", "kms_reuse belongs to enc=cse-kms" },
		{ "kms_read_keys=x", NULL },
		{ "enc=none,kms_read_keys=x", "belong to enc=cse-kms" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_options struct s3c_options o = { 0 };
		struct s3c_err err = { 0 };
		int r;

		assert_int_equal(s3c_options_init(&o, &err), 0);
		assert_int_equal(s3c_options_parse(&o, cases[i].list, &err), 0);
		r = s3c_options_check(&o, &err);
		if ((r == 0) != (cases[i].words == NULL))
			fail_msg("%s: %d %s", cases[i].list, r, err.text);
		if (cases[i].words && !strstr(err.text, cases[i].words))
			fail_msg("%s: '%s' lacks '%s'", cases[i].list, err.text, cases[i].words);
	}
}

static void test_sloppy(void **state)
{
	cleanup_options struct s3c_options o = { 0 };
	struct s3c_err err = { 0 };

	(void)state;
	assert_int_equal(s3c_options_init(&o, &err), 0);
	o.sloppy = true;
	s3c_log_set_level(S3C_LOG_ERROR);
	assert_int_equal(s3c_options_parse(&o, "frobnicate,ttl=1", &err), 0);
	assert_int_equal(o.ttl_s, 1);
}

static void write_file(const char *path, const void *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	close(fd);
}

static void test_config(void **state)
{
	static const char good[] = "# a comment\n\n  region = no\n";
	static const char text[] =
		"# a comment\n\n\tregion=a,b\\\r\nttl=7  \nallow_other\nmemory=1G";
	static const char nested[] = "config=/etc/passwd\n";
	static const char unknown[] = "ttl=1\nmemroy=1G\n";
	char path[] = "/tmp/s3cryptfs-options-XXXXXX", list[128];
	cleanup_options struct s3c_options o = { 0 };
	struct s3c_err err = { 0 };

	(void)state;
	close(mkstemp(path));
	assert_int_equal(s3c_options_init(&o, &err), 0);

	write_file(path, text, sizeof(text) - 1);
	snprintf(list, sizeof(list), "ttl=9,config=%s", path);
	assert_int_equal(s3c_options_parse(&o, list, &err), 0);
	assert_string_equal(o.region, "a,b\\"); /* commas and backslashes mean themselves */
	assert_int_equal(o.ttl_s, 9);           /* the command line wins, whatever the order */
	assert_int_equal(o.memory, 1 << 30);
	assert_int_equal(o.fuse_count, 1);

	write_file(path, good, sizeof(good) - 1); /* names have no blanks */
	assert_true(s3c_options_parse(&o, list, &err) < 0);
	err.text[0] = '\0';
	write_file(path, nested, sizeof(nested) - 1);
	assert_true(s3c_options_parse(&o, list, &err) < 0);
	assert_non_null(strstr(err.text, "cannot name another"));
	err.text[0] = '\0';
	write_file(path, unknown, sizeof(unknown) - 1);
	assert_true(s3c_options_parse(&o, list, &err) < 0);
	assert_non_null(strstr(err.text, "line 2"));
	assert_non_null(strstr(err.text, "did you mean 'memory'"));
	err.text[0] = '\0';
	write_file(path, "ttl=1\0\n", 7);
	assert_true(s3c_options_parse(&o, list, &err) < 0);
	assert_non_null(strstr(err.text, "NUL"));
	unlink(path);
}

static void test_edit_distance(void **state)
{
	static const struct {
		const char *a, *b;
		unsigned distance;
	} cases[] = {
		{ "", "", 0 },       { "", "abc", 3 },        { "abc", "", 3 },
		{ "abc", "abc", 0 }, { "abc", "acb", 1 },     { "kitten", "sitting", 3 },
		{ "ttl", "tll", 1 }, { "cache", "cahce", 1 }, { "region", "regoin", 1 },
		{ "abc", "xyz", 3 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(s3c_edit_distance(cases[i].a, cases[i].b), cases[i].distance);
}

/* Each name once, help for each, presets that parse; none contains what the list's form uses. */
static void test_table(void **state)
{
	(void)state;
	for (const struct s3c_option *o = s3c_option_table; o->name; o++) {
		assert_non_null(o->help);
		assert_null(strpbrk(o->name, ",=\\ "));
		assert_null(strchr(o->help, '\n'));
		for (const struct s3c_option *p = o + 1; p->name; p++)
			assert_string_not_equal(o->name, p->name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_retries),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_generic),
		cmocka_unit_test(test_escapes_and_order),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_combinations),
		cmocka_unit_test(test_sloppy),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_edit_distance),
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
