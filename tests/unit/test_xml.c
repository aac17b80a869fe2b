/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "http/error.h"
#include "http/xml.h"

struct trace {
	struct s3c_buf text;
	const char *stop_at; /* path whose close gives -ESTALE */
};

static int on_open(void *arg, const char *path)
{
	struct trace *trace = arg;

	return s3c_buf_printf(&trace->text, "<%s>", path);
}

static int on_close(void *arg, const char *path, const char *text, size_t len)
{
	struct trace *trace = arg;

	assert_int_equal(strlen(text), len);
	if (trace->stop_at != NULL && strcmp(path, trace->stop_at) == 0)
		return -ESTALE;
	return s3c_buf_printf(&trace->text, "(%s=%s)", path, text);
}

static const struct {
	const char *text;
	int result;
	const char *trace;
	const char *stop_at;
} cases[] = {
	{ "<a/>", 0, "<a>(a=)", NULL },
	{ " \r\n\t<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n  <a>1</a>", 0, "<a>(a=1)", NULL },
	{ "<L xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><C><K>x&amp;y&lt;&#65;</K></C></L>",
	  0, "<L><L/C><L/C/K>(L/C/K=x&y<A)(L/C=)(L=)", NULL },
	{ "<n:L xmlns:n=\"u\" n:a=\"1\"><n:K>1</n:K></n:L>", 0, "<L><L/K>(L/K=1)(L=)", NULL },
	/* The own text of an element goes around that of its children. */
	{ "<a>1<b>2</b>3<b>4</b>5</a>", 0, "<a><a/b>(a/b=2)<a/b>(a/b=4)(a=135)", NULL },
	{ "<a><![CDATA[<x>]]></a>", 0, "<a>(a=<x>)", NULL },
	{ "<a><b>1</b><c>2</c></a>", -ESTALE, "<a><a/b>", "a/b" },
	{ "", -EBADMSG, NULL, NULL },
	{ "   ", -EBADMSG, NULL, NULL },
	{ "<a>", -EBADMSG, NULL, NULL },
	{ "<a></b>", -EBADMSG, NULL, NULL },
	{ "<a/><b/>", -EBADMSG, NULL, NULL },
	{ "<a>&bomb;</a>", -EBADMSG, NULL, NULL },
	{ "<!DOCTYPE a><a/>", -EBADMSG, NULL, NULL },
	{ "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", -EBADMSG, NULL, NULL },
	{ "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>", -EBADMSG, NULL, NULL },
	{ "plain text", -EBADMSG, NULL, NULL },
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct trace trace = { .stop_at = cases[i].stop_at };
		const struct s3c_xml_handler handler = { on_open, on_close, &trace };
		int r = s3c_xml_parse(cases[i].text, strlen(cases[i].text), &handler);

		if (r != cases[i].result)
			fail_msg("%s: %d", cases[i].text, r);
		if (cases[i].trace != NULL)
			assert_string_equal(trace.text.data, cases[i].trace);
		s3c_buf_free(&trace.text);
	}
}

static void test_bounds(void **state)
{
	const struct s3c_xml_handler handler = { 0 };
	cleanup_buf struct s3c_buf deep = { 0 };
	cleanup_buf struct s3c_buf fine = { 0 };
	cleanup_buf struct s3c_buf name = { 0 };
	cleanup_buf struct s3c_buf text = { 0 };

	(void)state;
	for (int i = 0; i < 32; i++)
		assert_int_equal(s3c_buf_append_str(&fine, "<a>"), 0);
	for (int i = 0; i < 32; i++)
		assert_int_equal(s3c_buf_append_str(&fine, "</a>"), 0);
	assert_int_equal(s3c_xml_parse(fine.data, fine.len, &handler), 0);
	for (int i = 0; i < 33; i++)
		assert_int_equal(s3c_buf_append_str(&deep, "<a>"), 0);
	assert_int_equal(s3c_xml_parse(deep.data, deep.len, &handler), -EMSGSIZE);
	assert_int_equal(s3c_buf_append_char(&name, '<'), 0);
	for (int i = 0; i < 1100; i++)
		assert_int_equal(s3c_buf_append_char(&name, 'n'), 0);
	assert_int_equal(s3c_buf_append_str(&name, "/>"), 0);
	assert_int_equal(s3c_xml_parse(name.data, name.len, &handler), -EMSGSIZE);
	assert_int_equal(s3c_buf_append_str(&text, "<a>"), 0);
	for (int i = 0; i < (1 << 20) + 1; i++)
		assert_int_equal(s3c_buf_append_char(&text, 't'), 0);
	assert_int_equal(s3c_buf_append_str(&text, "</a>"), 0);
	assert_int_equal(s3c_xml_parse(text.data, text.len, &handler), -EMSGSIZE);
}

static const struct {
	const char *body;
	struct s3c_http_error error;
} errors[] = {
	{ "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>The key</Message>"
	  "<Key>k</Key><RequestId>R1</RequestId></Error>",
	  { .code = "NoSuchKey", .message = "The key", .request_id = "R1" } },
	{ "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>",
	  { .code = "AuthorizationHeaderMalformed", .region = "eu-west-1" } },
	{ "<Error><Code>PermanentRedirect</Code><Endpoint>b.s3.amazonaws.com</Endpoint></Error>",
	  { .code = "PermanentRedirect", .endpoint = "b.s3.amazonaws.com" } },
	{ "<Error><Code>RequestTimeTooSkewed</Code><ServerTime>2013-05-24T00:00:00Z</ServerTime>"
	  "</Error>",
	  { .code = "RequestTimeTooSkewed", .server_time = "2013-05-24T00:00:00Z" } },
	{ "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender"
	  "</Type><Code>ExpiredTokenException</Code><Message>m</Message></Error><RequestId>r"
	  "</RequestId></ErrorResponse>",
	  { .code = "ExpiredTokenException", .message = "m", .request_id = "r" } },
	{ "{\"__type\":\"com.amazonaws.kms#NotFoundException\",\"message\":\"no key\"}",
	  { .code = "NotFoundException", .message = "no key" } },
	{ "{\"__type\":\"DisabledException\",\"Message\":\"off\"}",
	  { .code = "DisabledException", .message = "off" } },
	{ "{\"__type\":7}", { .code = "" } },
	{ "[1]", { .code = "" } },
	{ "<html><body>502</body></html>", { .code = "" } },
	{ "Bad Gateway", { .code = "" } },
	{ "", { .code = "" } },
	/* cut short: what was there counts */
	{ "<Error><Code>SlowDown</Code><Mess", { .code = "SlowDown" } },
};

static void test_errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		struct s3c_http_error e;

		s3c_http_error_parse(errors[i].body, strlen(errors[i].body), &e);
		assert_string_equal(e.code, errors[i].error.code);
		assert_string_equal(e.message, errors[i].error.message);
		assert_string_equal(e.request_id, errors[i].error.request_id);
		assert_string_equal(e.region, errors[i].error.region);
		assert_string_equal(e.endpoint, errors[i].error.endpoint);
		assert_string_equal(e.server_time, errors[i].error.server_time);
	}
}

static void test_is_error(void **state)
{
	static const struct {
		const char *body;
		bool is_error;
	} bodies[] = {
		{ "<Error/>", true },
		{ "\n\n  <?xml version=\"1.0\"?>   <Error><Code>x</Code></Error>", true },
		{ "<?xml version=\"1.0\"?>\n\n<Error><Code>Intern", true },
		{ "<CopyObjectResult><Error/></CopyObjectResult>", false },
		{ "<Errors/>", false },
		{ "", false },
		{ "  \n", false },
		{ "Error", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
		assert_int_equal(s3c_http_error_is_error(bodies[i].body, strlen(bodies[i].body)),
				 bodies[i].is_error);
}

static void test_times(void **state)
{
	static const struct {
		const char *text;
		int result;
		int64_t seconds;
	} times[] = {
		{ "Fri, 24 May 2013 00:00:00 GMT", 0, 1369353600 },
		{ "2013-05-24T00:00:00Z", 0, 1369353600 },
		{ "2013-05-24T00:00:01.500Z", 0, 1369353601 },
		{ "20130524T000000Z", 0, 1369353600 },
		{ "2013-05-24T00:00:00+01:00", -EINVAL, 0 },
		{ "soon", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		int64_t seconds = 0;

		assert_int_equal(s3c_http_parse_time(times[i].text, &seconds), times[i].result);
		assert_int_equal(seconds, times[i].seconds);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),  cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_errors), cmocka_unit_test(test_is_error),
		cmocka_unit_test(test_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
