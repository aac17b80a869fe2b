/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/err.h"
#include "base/log.h"
#include "base/util.h"

static void buf_grows(void **state)
{
	struct s3c_buf buf = { 0 };
	char *text;

	(void)state;
	assert_int_equal(s3c_buf_append_str(&buf, "one"), 0);
	assert_int_equal(s3c_buf_append_char(&buf, ' '), 0);
	assert_int_equal(s3c_buf_printf(&buf, "%s %d", "two", 3), 0);
	assert_int_equal(s3c_buf_append(&buf, NULL, 0), 0);
	assert_string_equal(buf.data, "one two 3");
	assert_int_equal(buf.len, 9);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(s3c_buf_printf(&buf, "%04d", i), 0);
	assert_int_equal(buf.len, 4009);
	assert_memory_equal(buf.data + 9 + 4 * 777, "0777", 4);
	assert_int_equal(buf.data[buf.len], 0);

	s3c_buf_reset(&buf);
	assert_int_equal(buf.len, 0);
	assert_string_equal(buf.data, "");
	assert_int_equal(s3c_buf_append(&buf, "a\0b", 3), 0);
	assert_memory_equal(buf.data, "a\0b", 4);

	text = s3c_buf_steal(&buf);
	assert_non_null(text);
	assert_int_equal(text[0], 'a');
	free(text);
	assert_null(buf.data);
	assert_int_equal(buf.len + buf.alloc, 0);
	text = s3c_buf_steal(&buf);
	assert_string_equal(text, "");
	free(text);

	assert_int_equal(s3c_buf_append_str(&buf, "again"), 0);
	s3c_buf_free(&buf);
	s3c_buf_free(&buf);
	assert_int_equal(s3c_buf_append_str(&buf, "secret"), 0);
	s3c_buf_free_secret(&buf);
	assert_null(buf.data);
	s3c_buf_free_secret(&buf);
}

static void buf_has_a_maximum(void **state)
{
	cleanup_buf struct s3c_buf buf, none = { 0 }, all;

	(void)state;
	s3c_buf_init(&buf, 100);
	for (int i = 0; i < 99; i++)
		assert_int_equal(s3c_buf_append_char(&buf, 'x'), 0);
	assert_int_equal(s3c_buf_append(&buf, "yz", 2), -EMSGSIZE);
	assert_int_equal(s3c_buf_printf(&buf, "%d", 12), -EMSGSIZE);
	assert_int_equal(s3c_buf_reserve(&buf, SIZE_MAX), -EMSGSIZE);
	assert_int_equal(s3c_buf_reserve(&buf, SIZE_MAX - 99), -EMSGSIZE);
	assert_int_equal(buf.len, 99);
	assert_int_equal(strlen(buf.data), 99);
	assert_int_equal(s3c_buf_append_char(&buf, 'y'), 0);
	assert_int_equal(s3c_buf_append_char(&buf, 'z'), -EMSGSIZE);
	assert_int_equal(s3c_buf_append(&buf, "", 0), 0);
	assert_true(buf.alloc <= 101);
	s3c_buf_free(&buf);
	assert_int_equal(buf.max, 100);

	assert_int_equal(s3c_buf_reserve(&none, S3C_BUF_DEFAULT_MAX + 1), -EMSGSIZE);
	assert_int_equal(s3c_buf_reserve(&none, S3C_BUF_DEFAULT_MAX), 0);
	s3c_buf_init(&all, SIZE_MAX);
	assert_int_equal(s3c_buf_append_char(&all, 'x'), -EMSGSIZE);
}

static void parse_u64(void **state)
{
	static const struct {
		const char *text;
		uint64_t max;
		int want;
		uint64_t value;
	} cases[] = {
		{ "0", 0, 0, 0 },
		{ "007", 10, 0, 7 },
		{ "10", 10, 0, 10 },
		{ "11", 10, -ERANGE, 0 },
		{ "18446744073709551615", UINT64_MAX, 0, UINT64_MAX },
		{ "18446744073709551616", UINT64_MAX, -ERANGE, 0 },
		{ "184467440737095516150", UINT64_MAX, -ERANGE, 0 },
		{ "99999999999999999999999", UINT64_MAX, -ERANGE, 0 },
		{ "99999999999999999999999x", UINT64_MAX, -EINVAL, 0 },
		{ "", 10, -EINVAL, 0 },
		{ NULL, 10, -EINVAL, 0 },
		{ " 1", 10, -EINVAL, 0 },
		{ "1 ", 10, -EINVAL, 0 },
		{ "+1", 10, -EINVAL, 0 },
		{ "-1", UINT64_MAX, -EINVAL, 0 },
		{ "0x10", 100, -EINVAL, 0 },
		{ "1K", UINT64_MAX, -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t value = 12345;

		assert_int_equal(s3c_parse_u64(cases[i].text, cases[i].max, &value), cases[i].want);
		assert_true(value == (cases[i].want ? 12345 : cases[i].value));
	}
}

static void parse_size(void **state)
{
	static const struct {
		const char *text;
		uint64_t max;
		int want;
		uint64_t value;
	} cases[] = {
		{ "0", 0, 0, 0 },
		{ "4096", 4096, 0, 4096 },
		{ "1K", 1024, 0, 1024 },
		{ "1k", 1023, -ERANGE, 0 },
		{ "256M", UINT64_MAX, 0, 256ull << 20 },
		{ "10G", UINT64_MAX, 0, 10ull << 30 },
		{ "3t", UINT64_MAX, 0, 3ull << 40 },
		{ "16777215T", UINT64_MAX, 0, 16777215ull << 40 },
		{ "16777216T", UINT64_MAX, -ERANGE, 0 },
		{ "18446744073709551616", UINT64_MAX, -ERANGE, 0 },
		{ "18446744073709551616K", UINT64_MAX, -ERANGE, 0 },
		{ "K", UINT64_MAX, -EINVAL, 0 },
		{ "1KB", UINT64_MAX, -EINVAL, 0 },
		{ "1.5G", UINT64_MAX, -EINVAL, 0 },
		{ "1P", UINT64_MAX, -EINVAL, 0 },
		{ "", UINT64_MAX, -EINVAL, 0 },
		{ NULL, UINT64_MAX, -EINVAL, 0 },
		{ "-1K", UINT64_MAX, -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t value = 12345;

		assert_int_equal(s3c_parse_size(cases[i].text, cases[i].max, &value),
				 cases[i].want);
		assert_true(value == (cases[i].want ? 12345 : cases[i].value));
	}
}

static void ownership(void **state)
{
	cleanup_free char *text = s3c_asprintf("%s-%03d", "part", 7);
	char *other;
	int fd;

	(void)state;
	assert_string_equal(text, "part-007");
	other = steal_ptr(text);
	assert_null(text);
	free(other);
	{
		cleanup_close int mine = open("/dev/null", O_RDONLY | O_CLOEXEC);

		assert_true(mine >= 0);
		fd = mine;
	}
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(DIV_ROUND_UP(10, 5), 2);
	assert_int_equal(DIV_ROUND_UP(11, 5), 3);
}

static void hex(void **state)
{
	static const char *const bad[] = {
		"", "0", "000", "00000", "0g00", "zz00", "00 0", "-100"
	};
	uint8_t data[2] = { 1, 2 };
	char text[5];

	(void)state;
	s3c_hex_encode("\x0f\xa0", 2, text);
	assert_string_equal(text, "0fa0");
	s3c_hex_encode(NULL, 0, text);
	assert_string_equal(text, "");
	assert_int_equal(s3c_hex_decode("DeaF", data, 2), 0);
	assert_memory_equal(data, "\xde\xaf", 2);
	assert_int_equal(s3c_hex_decode("", data, 0), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(s3c_hex_decode(bad[i], data, 2), -EINVAL);
	assert_memory_equal(data, "\xde\xaf", 2);
}

/* RFC 4648 section 10, then all that is not canonical. */
static void base64(void **state)
{
	static const char *const good[][2] = {
		{ "", "" },
		{ "f", "Zg==" },
		{ "fo", "Zm8=" },
		{ "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" },
		{ "foobar", "Zm9vYmFy" },
		{ "\xff\xef\xbe", "/+++" },
	};
	static const char *const bad[] = {
		"Z",    "Zg",   "Zg=",      "Zh==", "Zm9=", "Zm8=\n",   "Z===",    "====", "=Zg=",
		"Zg=a", "Z g=", "Zg==Zg==", "Zm9-", "Zm9_", "Zm9v====", "Zm9vYg=", "Zo==", "Zm+=",
	};
	uint8_t data[8];
	char text[16];
	size_t len;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		size_t n = strlen(good[i][0]);

		s3c_base64_encode(good[i][0], n, text);
		assert_string_equal(text, good[i][1]);
		assert_int_equal(strlen(text), S3C_BASE64_LEN(n));
		assert_int_equal(s3c_base64_decode(text, strlen(text), data, n, &len), 0);
		assert_int_equal(len, n);
		assert_memory_equal(data, good[i][0], n);
		if (n) {
			memset(data, 0x55, sizeof(data));
			assert_int_equal(s3c_base64_decode(text, strlen(text), data, n - 1, &len),
					 -EMSGSIZE);
			assert_int_equal(data[0], 0x55);
		}
	}
	memset(data, 0x55, sizeof(data));
	len = 99;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
			s3c_base64_decode(bad[i], strlen(bad[i]), data, sizeof(data), &len),
			-EINVAL);
	assert_int_equal(s3c_base64_decode("Zg\0=", 4, data, sizeof(data), &len), -EINVAL);
	assert_int_equal(len, 99);
	assert_int_equal(data[0], 0x55);
}

/* RFC 4648 section 10 in lower case without padding, then all that is not canonical. */
static void base32(void **state)
{
	static const char *const good[][2] = {
		{ "", "" },
		{ "f", "co" },
		{ "fo", "cpng" },
		{ "foo", "cpnmu" },
		{ "foob", "cpnmuog" },
		{ "fooba", "cpnmuoj1" },
		{ "foobar", "cpnmuoj1e8" },
	};
	static const char *const bad[] = {
		"c",       "cpn", "cpnmuo",   "cp", "cpnh", "cpnmv",
		"cpnmuoh", "CO",  "co======", "cw", "c ",   "c\xff",
	};
	uint8_t data[8];
	char text[16];
	size_t len;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		size_t n = strlen(good[i][0]);

		s3c_base32_encode(good[i][0], n, text);
		assert_string_equal(text, good[i][1]);
		assert_int_equal(strlen(text), S3C_BASE32_LEN(n));
		assert_int_equal(s3c_base32_decode(text, strlen(text), data, n, &len), 0);
		assert_int_equal(len, n);
		assert_memory_equal(data, good[i][0], n);
		if (n)
			assert_int_equal(s3c_base32_decode(text, strlen(text), data, n - 1, &len),
					 -EMSGSIZE);
	}
	len = 99;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
			s3c_base32_decode(bad[i], strlen(bad[i]), data, sizeof(data), &len),
			-EINVAL);
	assert_int_equal(len, 99);
}

static void uri(void **state)
{
	static const struct {
		const char *plain;
		bool keep_slash;
		const char *coded;
	} cases[] = {
		{ "", false, "" },
		{ "AZaz09-._~", false, "AZaz09-._~" },
		{ "a b+c", false, "a%20b%2Bc" },
		{ "a/b", false, "a%2Fb" },
		{ "a/b", true, "a/b" },
		{ "\xc3\xa9\xff%", true, "%C3%A9%FF%25" },
		{ "!*'();:@&=+$,?#[]\x7f\x01", true,
		  "%21%2A%27%28%29%3B%3A%40%26%3D%2B%24%2C%3F%23%5B%5D%7F%01" },
	};
	static const char *const bad[] = { "%", "%4", "a%4", "%g0", "%0g", "%%41" };
	cleanup_buf struct s3c_buf buf = { 0 }, small;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		s3c_buf_reset(&buf);
		assert_int_equal(s3c_buf_append_char(&buf, '>'), 0);
		assert_int_equal(s3c_uri_encode(&buf, cases[i].plain, strlen(cases[i].plain),
						cases[i].keep_slash),
				 0);
		assert_string_equal(buf.data + 1, cases[i].coded);
		assert_int_equal(buf.len, strlen(buf.data));
		s3c_buf_reset(&buf);
		assert_int_equal(s3c_uri_decode(&buf, cases[i].coded, strlen(cases[i].coded)), 0);
		assert_string_equal(buf.data, cases[i].plain);
		assert_int_equal(buf.len, strlen(cases[i].plain));
	}
	s3c_buf_reset(&buf);
	assert_int_equal(s3c_uri_decode(&buf, "a+b%2f%00!", 10), 0);
	assert_memory_equal(buf.data, "a+b/\0!", 7);
	assert_int_equal(buf.len, 6);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(s3c_uri_decode(&buf, bad[i], strlen(bad[i])), -EINVAL);
	/* What follows the given length is not looked at. */
	assert_int_equal(s3c_uri_decode(&buf, "%41", 2), -EINVAL);
	assert_int_equal(buf.len, 6);

	s3c_buf_init(&small, 5);
	assert_int_equal(s3c_uri_encode(&small, "  ", 2, false), -EMSGSIZE);
	assert_int_equal(small.len, 0);
	assert_int_equal(s3c_uri_encode(&small, " ab", 3, false), 0);
	assert_int_equal(s3c_uri_decode(&small, "%20", 3), -EMSGSIZE);
	assert_string_equal(small.data, "%20ab");
}

static void big_endian(void **state)
{
	uint8_t p[8];

	(void)state;
	s3c_put_be64(p, 0x0123456789abcdefu);
	assert_memory_equal(p, "\x01\x23\x45\x67\x89\xab\xcd\xef", 8);
	assert_true(s3c_get_be64(p) == 0x0123456789abcdefu);
	assert_int_equal(s3c_get_be32(p + 4), 0x89abcdef);
	assert_int_equal(s3c_get_be16(p + 6), 0xcdef);
}

static void err(void **state)
{
	struct s3c_err e = { "" };
	char long_text[2 * S3C_ERR_MAX];

	(void)state;
	assert_string_equal(s3c_err_text(&e, -ENOENT), strerror(ENOENT));
	assert_string_equal(s3c_err_text(NULL, -EACCES), strerror(EACCES));
	assert_int_equal(s3c_err_set(&e, -EINVAL, "no %s in %d", "key", 5), -EINVAL);
	assert_string_equal(e.text, "no key in 5");
	/* The first stays. */
	assert_int_equal(s3c_err_set(&e, -EIO, "something else"), -EIO);
	assert_string_equal(s3c_err_text(&e, -EIO), "no key in 5");
	assert_int_equal(s3c_err_prefix(&e, -EIO, "mount %s", "x"), -EIO);
	assert_string_equal(e.text, "mount x: no key in 5");
	/* Its own text as an argument. */
	assert_int_equal(s3c_err_prefix(&e, -EIO, "<%s>", e.text), -EIO);
	assert_string_equal(e.text, "<mount x: no key in 5>: mount x: no key in 5");

	e.text[0] = '\0';
	s3c_err_prefix(&e, -ENOSPC, "journal");
	snprintf(long_text, sizeof(long_text), "journal: %s", strerror(ENOSPC));
	assert_string_equal(e.text, long_text);

	assert_int_equal(s3c_err_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(s3c_err_prefix(NULL, -EIO, "x"), -EIO);

	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	e.text[0] = '\0';
	s3c_err_set(&e, -EIO, "%s", long_text);
	assert_int_equal(strlen(e.text), S3C_ERR_MAX - 1);
	s3c_err_prefix(&e, -EIO, "what");
	assert_int_equal(strlen(e.text), S3C_ERR_MAX - 1);
	assert_memory_equal(e.text, "what: xxx", 9);
	s3c_err_prefix(&e, -EIO, "%s", long_text);
	assert_int_equal(strlen(e.text), S3C_ERR_MAX - 1);
}

static void clocks(void **state)
{
	int64_t a = s3c_clock_monotonic_ns(), b = s3c_clock_monotonic_ns(), d;

	(void)state;
	assert_true(a > 0 && b >= a);
	assert_true(s3c_clock_realtime_ns() / S3C_NSEC_PER_SEC - time(NULL) <= 1);
	assert_true(s3c_deadline_after(0) == INT64_MAX);
	assert_true(s3c_deadline_after(1e300) == INT64_MAX);
	d = s3c_deadline_after(1.5) - s3c_clock_monotonic_ns();
	assert_true(d > S3C_NSEC_PER_SEC && d <= 1500 * S3C_NSEC_PER_MSEC);
	assert_true(s3c_deadline_after(-1) <= s3c_clock_monotonic_ns());
}

static char log_path[] = "/tmp/s3cryptfs-test-log-XXXXXX";

static int log_setup(void **state)
{
	int fd = mkstemp(log_path);

	(void)state;
	if (fd < 0)
		return -1;
	close(fd);
	return unlink(log_path);
}

static int log_teardown(void **state)
{
	(void)state;
	s3c_log_close();
	s3c_log_set_level(S3C_LOG_INFO);
	unlink(log_path);
	return 0;
}

/* The file's content, which the caller frees; the file is empty afterwards. */
static char *take_log(void)
{
	cleanup_close int fd = open(log_path, O_RDWR | O_CLOEXEC);
	struct s3c_buf buf = { 0 };
	char part[4096];
	ssize_t n;

	assert_true(fd >= 0);
	while ((n = read(fd, part, sizeof(part))) > 0)
		assert_int_equal(s3c_buf_append(&buf, part, (size_t)n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	return s3c_buf_steal(&buf);
}

/* One line without its newline and its stamp "2026-01-02T03:04:05.678Z ". */
static void assert_logged(const char *want)
{
	cleanup_free char *text = take_log();
	size_t len = strlen(text);
	static const char form[] = "0000-00-00T00:00:00.000Z ";

	assert_true(len > strlen(form));
	for (size_t i = 0; i < strlen(form); i++) {
		if (form[i] == '0')
			assert_in_range(text[i], '0', '9');
		else
			assert_int_equal(text[i], form[i]);
	}
	assert_ptr_equal(strchr(text, '\n'), text + len - 1);
	text[len - 1] = '\0';
	assert_string_equal(text + strlen(form), want);
}

static void log_levels(void **state)
{
	enum s3c_log_level level = S3C_LOG_WARN;
	cleanup_free char *nothing = NULL;
	struct stat st;

	(void)state;
	assert_int_equal(s3c_log_open(log_path), 0);
	assert_int_equal(stat(log_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	errno = ENOENT;
	s3c_error("cannot read %s: %m", "x");
	assert_int_equal(errno, ENOENT);
	assert_logged("s3cryptfs error: cannot read x: No such file or directory");
	s3c_warn("w");
	assert_logged("s3cryptfs warn: w");
	s3c_info("i");
	assert_logged("s3cryptfs info: i");
	s3c_debug("d");
	s3c_log_set_level(S3C_LOG_ERROR);
	s3c_warn("w");
	nothing = take_log();
	assert_string_equal(nothing, "");
	s3c_log_set_level(S3C_LOG_DEBUG);
	s3c_debug("%d", 5);
	assert_logged("s3cryptfs debug: 5");
	assert_true(s3c_log_enabled(S3C_LOG_DEBUG));
	s3c_log_set_level(S3C_LOG_WARN);
	assert_false(s3c_log_enabled(S3C_LOG_INFO));
	assert_true(s3c_log_enabled(S3C_LOG_WARN));

	assert_int_equal(s3c_log_level_parse("debug", &level), 0);
	assert_int_equal(level, S3C_LOG_DEBUG);
	assert_int_equal(s3c_log_level_parse("error", &level), 0);
	assert_int_equal(level, S3C_LOG_ERROR);
	assert_int_equal(s3c_log_level_parse("Error", &level), -EINVAL);
	assert_int_equal(s3c_log_level_parse("", &level), -EINVAL);
	assert_int_equal(s3c_log_level_parse("debugx", &level), -EINVAL);
	assert_int_equal(level, S3C_LOG_ERROR);
	assert_int_equal(s3c_log_open("/nonexistent/folder/log"), -ENOENT);
}

static void log_escapes(void **state)
{
	static const char *const cases[][2] = {
		{ "a\nb\tc\x1b[31m\x7f", "a\\x0ab\\x09c\\x1b[31m\\x7f" },
		{ "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x99\x82",
		  "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x99\x82" },
		{ "\xc2\x9b"
		  "31m",
		  "\\xc2\\x9b31m" },                                     /* C1: CSI */
		{ "\x9b\xff\xc3", "\\x9b\\xff\\xc3" },                   /* no UTF-8, cut off */
		{ "\xc0\xaf\xe0\x80\xaf", "\\xc0\\xaf\\xe0\\x80\\xaf" }, /* longer than needed */
		{ "\xed\xa0\x80", "\\xed\\xa0\\x80" },                   /* surrogate */
		{ "\xf4\x90\x80\x80\xf5", "\\xf4\\x90\\x80\\x80\\xf5" }, /* over U+10FFFF */
		{ "\xe2\x80\xa8", "\\xe2\\x80\\xa8" },                   /* line separator */
		{ "\xe2\x82", "\\xe2\\x82" },
		{ "100%", "100%" },
	};

	(void)state;
	assert_int_equal(s3c_log_open(log_path), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char want[200];

		s3c_error("name \"%s\"", cases[i][0]);
		snprintf(want, sizeof(want), "s3cryptfs error: name \"%s\"", cases[i][1]);
		assert_logged(want);
	}
}

static void log_cuts(void **state)
{
	char big[9000];

	(void)state;
	assert_int_equal(s3c_log_open(log_path), 0);
	/* With every phase of the unit against the limit: plain, an escape, three bytes. */
	for (size_t unit = 1; unit <= 3; unit++) {
		for (size_t shift = 0; shift < 4; shift++) {
			static const char *const units[] = { "x", "\n", "\xe2\x82\xac" };
			static const char *const shown[] = { "x", "\\x0a", "\xe2\x82\xac" };
			const char *u = units[unit - 1], *s = shown[unit - 1];
			cleanup_free char *text = NULL;
			size_t len, n = 0;

			for (size_t i = 0; i < shift; i++)
				big[n++] = 'a';
			while (n + strlen(u) < sizeof(big)) {
				memcpy(big + n, u, strlen(u));
				n += strlen(u);
			}
			big[n] = '\0';
			s3c_error("%s", big);
			text = take_log();
			len = strlen(text);
			assert_in_range(len, 4096 - 4, 4096);
			assert_string_equal(text + len - 4, "...\n");
			assert_memory_equal(text + len - 4 - strlen(s), s, strlen(s));
		}
	}
	/* The longest that fits is left alone. */
	memset(big, 'x', sizeof(big));
	big[4000] = '\0';
	s3c_error("%s", big);
	memmove(big + strlen("s3cryptfs error: "), big, 4001);
	memcpy(big, "s3cryptfs error: ", strlen("s3cryptfs error: "));
	assert_logged(big);
}

static void log_rotates(void **state)
{
	char moved[sizeof(log_path) + 8];
	struct stat st;

	(void)state;
	assert_int_equal(s3c_log_open(log_path), 0);
	snprintf(moved, sizeof(moved), "%s.1", log_path);
	s3c_error("before");
	assert_int_equal(rename(log_path, moved), 0);
	s3c_log_reopen();
	s3c_error("after");
	assert_logged("s3cryptfs error: after");
	assert_int_equal(stat(moved, &st), 0);
	assert_int_equal(st.st_size, strlen("2026-01-02T03:04:05.678Z s3cryptfs error: before\n"));
	unlink(moved);
	/* Other targets have nothing to open again. */
	s3c_log_close();
	s3c_log_reopen();
}

enum { LOG_THREADS = 4, LOG_LINES = 500 };

static void *log_many(void *arg)
{
	for (int i = 0; i < LOG_LINES; i++) {
		s3c_info("thread %c %s", *(const char *)arg, "0123456789abcdef0123456789abcdef");
		if (i % 100 == 50)
			s3c_log_reopen();
	}
	return NULL;
}

static void log_threads(void **state)
{
	static const char names[LOG_THREADS] = "abcd";
	pthread_t threads[LOG_THREADS];
	cleanup_free char *text = NULL;
	int lines = 0;
	char *rest, *line;

	(void)state;
	assert_int_equal(s3c_log_open(log_path), 0);
	for (int i = 0; i < LOG_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, log_many, (void *)&names[i]), 0);
	for (int i = 0; i < LOG_THREADS; i++)
		pthread_join(threads[i], NULL);
	text = take_log();
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		assert_int_equal(strlen(line),
				 strlen("2026-01-02T03:04:05.678Z s3cryptfs info: thread a "
					"0123456789abcdef0123456789abcdef"));
		lines++;
	}
	assert_int_equal(lines, LOG_THREADS * LOG_LINES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buf_grows),
		cmocka_unit_test(buf_has_a_maximum),
		cmocka_unit_test(parse_u64),
		cmocka_unit_test(parse_size),
		cmocka_unit_test(ownership),
		cmocka_unit_test(hex),
		cmocka_unit_test(base64),
		cmocka_unit_test(base32),
		cmocka_unit_test(uri),
		cmocka_unit_test(big_endian),
		cmocka_unit_test(err),
		cmocka_unit_test(clocks),
		cmocka_unit_test_teardown(log_levels, log_teardown),
		cmocka_unit_test_teardown(log_escapes, log_teardown),
		cmocka_unit_test_teardown(log_cuts, log_teardown),
		cmocka_unit_test_teardown(log_rotates, log_teardown),
		cmocka_unit_test_teardown(log_threads, log_teardown),
	};

	return cmocka_run_group_tests(tests, log_setup, NULL);
}
