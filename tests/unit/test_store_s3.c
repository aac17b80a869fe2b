/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The pure parts of the S3 store: requests as they are built, replies as they are read. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"
#include "store/s3_private.h"

static struct s3c_s3_store store = {
	.bucket = (char *)(uintptr_t) "bucket",
	.base.tls = true,
};
static struct s3c_ssec ssec = { { 1, 2, 3 } };
static struct s3c_ssec source_ssec = { { 4, 5, 6 } };

static const char *const keys[] = { "plain", "a<b>&\"'\n", "bad\x01" };
static const struct s3c_store_part parts[] = {
	{ .number = 1, .etag = "\"e1\"", .checksum = "AAAAAA==" },
	{ .number = 3, .etag = "\"e3\"", .checksum = "BBBBBB==" },
};

static void fill_call(struct s3c_s3_call *call, enum s3c_store_opcode op)
{
	static struct iovec body = { (void *)(uintptr_t) "123456789", 9 };

	*call = (struct s3c_s3_call){
		.store = &store,
		.rq = {
			.op = op,
			.key = "dir/key +%41",
			.ssec = &ssec,
			.source_ssec = &source_ssec,
			.source_key = "src/a b+%41\xc3\xa9",
			.offset = 10,
			.length = 5,
			.body = &body,
			.body_count = 1,
			.upload_id = "id",
			.part_number = 7,
			.parts = parts,
			.part_count = 2,
			.keys = keys,
			.key_count = 3,
			.prefix = "dir/",
			.delimiter = true,
			.start_after = "dir/x",
			.max_keys = 5,
		},
	};
	s3c_mutex_init(&call->lock);
}

static const char *header(const struct s3c_s3_built *built, const char *name)
{
	return s3c_http_headers_get(&built->http.headers, name);
}

static const char *query(const struct s3c_s3_built *built, const char *name)
{
	return s3c_http_headers_get(&built->http.query, name);
}

/* After the members of each operation's request in Amazon's model. */
static void test_customer_key_headers(void **state)
{
	static const struct {
		enum s3c_store_opcode op;
		const char *upload_id;
		bool target, source;
	} cases[] = {
		{ S3C_STORE_GET, "id", true, false },
		{ S3C_STORE_HEAD, "id", true, false },
		{ S3C_STORE_PUT, "id", true, false },
		{ S3C_STORE_LIST, "id", false, false },
		{ S3C_STORE_COPY, "id", true, true },
		{ S3C_STORE_DELETE, "id", false, false },
		{ S3C_STORE_DELETE_MANY, "id", false, false },
		{ S3C_STORE_LIST_UPLOADS, "id", false, false },
		{ S3C_STORE_UPLOAD_CREATE, "id", true, false },
		{ S3C_STORE_UPLOAD_PART, "id", true, false },
		{ S3C_STORE_UPLOAD_PART_COPY, "id", true, true },
		{ S3C_STORE_UPLOAD_COMPLETE, "id", false, false },
		{ S3C_STORE_UPLOAD_COMPLETE, "crc32c:id", true, false },
		{ S3C_STORE_UPLOAD_PARTS, "id", false, false },
		{ S3C_STORE_UPLOAD_PARTS, "crc32c:id", true, false },
		{ S3C_STORE_UPLOAD_ABORT, "crc32c:id", false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_s3_call call;
		struct s3c_s3_built built;
		size_t with_key = 0;

		fill_call(&call, cases[i].op);
		call.rq.upload_id = cases[i].upload_id;
		assert_int_equal(s3c_s3_build(&call, &built), 0);
		for (size_t j = 0; j < built.http.headers.count; j++)
			if (strstr(built.http.headers.items[j].name, "-customer-"))
				with_key++;
		assert_int_equal(with_key, 3 * (cases[i].target + cases[i].source));
		assert_int_equal(built.http.no_redirect, cases[i].target);
		if (cases[i].target) {
			assert_string_equal(header(&built, S3C_S3_SSEC_ALGORITHM), "AES256");
			assert_string_equal(
				header(&built, "x-amz-server-side-encryption-customer-key"),
				"AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
			assert_string_equal(header(&built, S3C_S3_SSEC_MD5),
					    "ltCV3+xA9zOFoXDct/s5gQ==");
		}
		if (cases[i].source)
			assert_string_equal(header(&built,
						   "x-amz-copy-source-server-side-encryption-"
						   "customer-key"),
					    "BAUGAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
		s3c_s3_built_free(&built);
		s3c_buf_free(&call.xml);
		s3c_mutex_destroy(&call.lock);
	}
}

static void test_requests(void **state)
{
	struct s3c_s3_call call;
	struct s3c_s3_built b;

	(void)state;
	fill_call(&call, S3C_STORE_GET);
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_string_equal(b.http.method, "GET");
	assert_string_equal(b.http.path, "/dir/key +%41");
	assert_string_equal(header(&b, "Range"), "bytes=10-14");
	s3c_s3_built_free(&b);
	call.rq.suffix = 69632;
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_string_equal(header(&b, "Range"), "bytes=-69632");
	s3c_s3_built_free(&b);
	call.rq.suffix = 0;
	call.rq.length = UINT64_MAX;
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_string_equal(header(&b, "Range"), "bytes=10-");
	s3c_s3_built_free(&b);
	call.rq.offset = 0;
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_null(header(&b, "Range"));
	s3c_s3_built_free(&b);

	fill_call(&call, S3C_STORE_PUT);
	call.rq.checksum = S3C_CHECKSUM_CRC32C;
	call.rq.condition.if_none_match = true;
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_string_equal(header(&b, "x-amz-checksum-crc32c"), "4waSgw==");
	assert_string_equal(header(&b, "If-None-Match"), "*");
	assert_string_equal(header(&b, "Content-Type"), "application/octet-stream");
	assert_false(b.http.unsigned_payload);
	s3c_s3_built_free(&b);
	call.rq.checksum = S3C_CHECKSUM_CRC64NVME;
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_string_equal(header(&b, "x-amz-checksum-crc64nvme"), "rosUhgp5mIg=");
	s3c_s3_built_free(&b);

	fill_call(&call, S3C_STORE_COPY);
	call.rq.source_if_match = "\"e\"";
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_string_equal(header(&b, "x-amz-copy-source"), "/bucket/src/a%20b%2B%2541%C3%A9");
	assert_string_equal(header(&b, "x-amz-metadata-directive"), "REPLACE");
	assert_string_equal(header(&b, "x-amz-copy-source-if-match"), "\"e\"");
	assert_true(b.http.xml_200_error);
	s3c_s3_built_free(&b);

	fill_call(&call, S3C_STORE_UPLOAD_PART_COPY);
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_string_equal(header(&b, "x-amz-copy-source-range"), "bytes=10-14");
	assert_string_equal(query(&b, "partNumber"), "7");
	assert_string_equal(query(&b, "uploadId"), "id");
	s3c_s3_built_free(&b);

	fill_call(&call, S3C_STORE_LIST);
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_string_equal(b.http.path, "/");
	assert_string_equal(query(&b, "list-type"), "2");
	assert_string_equal(query(&b, "encoding-type"), "url");
	assert_string_equal(query(&b, "prefix"), "dir/");
	assert_string_equal(query(&b, "delimiter"), "/");
	assert_string_equal(query(&b, "max-keys"), "5");
	assert_string_equal(query(&b, "start-after"), "dir/x");
	s3c_s3_built_free(&b);
}

static void test_xml_bodies(void **state)
{
	struct s3c_s3_call call;
	struct s3c_s3_built b;

	(void)state;
	fill_call(&call, S3C_STORE_DELETE_MANY);
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_string_equal(call.xml.data,
			    "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
			    "<Quiet>true</Quiet><Object><Key>plain</Key></Object>"
			    "<Object><Key>a&lt;b&gt;&amp;&quot;'&#10;</Key></Object></Delete>");
	assert_true(b.http.xml_200_error);
	assert_non_null(header(&b, "Content-MD5"));
	assert_int_equal(strlen(header(&b, "Content-MD5")), 24);
	s3c_s3_built_free(&b);
	s3c_buf_free(&call.xml);

	fill_call(&call, S3C_STORE_UPLOAD_COMPLETE);
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_null(strstr(call.xml.data, "Checksum"));
	s3c_s3_built_free(&b);
	call.rq.upload_id = "crc32c:id";
	assert_int_equal(s3c_s3_build(&call, &b), 0);
	assert_string_equal(query(&b, "uploadId"), "id");
	assert_non_null(strstr(call.xml.data,
			       "<Part><PartNumber>3</PartNumber><ETag>&quot;e3&quot;</ETag>"
			       "<ChecksumCRC32C>BBBBBB==</ChecksumCRC32C></Part></Complete"));
	s3c_s3_built_free(&b);
	s3c_buf_free(&call.xml);
}

static void test_xml_keys(void **state)
{
	static const struct {
		const char *key;
		bool fits;
	} cases[] = {
		{ "plain \t\n\r", true },  { "\xc3\xa9\xf0\x9f\x98\x80", true },
		{ "\x01", false },         { "\x1f", false },
		{ "\xff", false },         { "\xc3", false },
		{ "\xc0\x80", false },     { "\xed\xa0\x80", false }, /* a surrogate */
		{ "\xef\xbf\xbe", false }, { "\xf4\x90\x80\x80", false },
		{ "\xef\xbf\xbd", true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(s3c_s3_key_fits_xml(cases[i].key), cases[i].fits);
}

static void test_times(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} cases[] = {
		{ "Mon, 23 Nov 2026 20:39:00 GMT", 1795466340000000000 },
		{ "2026-11-23T20:39:00Z", 1795466340000000000 },
		{ "2026-11-23T20:39:00.123Z", 1795466340123000000 },
		{ "2026-11-23T20:39:00.123456789Z", 1795466340123456789 },
		{ "Thu, 01 Jan 1970 00:00:00 GMT", 0 },
		{ "", -1 },
		{ "2026-11-23", -1 },
		{ "2026-11-23T20:39:00+01:00", -1 },
		{ "Mon, 23 Foo 2026 20:39:00 GMT", -1 },
		{ "Mon, 23 Nov 9999 20:39:00 GMT", -1 },
		{ "2026-13-23T20:39:00Z", -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t ns = -1;

		assert_int_equal(s3c_s3_parse_time(cases[i].text, &ns),
				 cases[i].ns < 0 ? -EPROTO : 0);
		assert_int_equal(ns, cases[i].ns);
	}
}

static void test_content_ranges(void **state)
{
	static const char *const bad[] = { "",
					   "bytes 1-0/5",
					   "bytes 0-5/5",
					   "bytes */5",
					   "bytes 0-1/*",
					   "bytes -1-1/5",
					   "bytes 0-1/5x",
					   "bytes +0-1/5",
					   "items 0-1/5" };
	uint64_t first, last, total;

	(void)state;
	assert_int_equal(s3c_s3_parse_range("bytes 2-3/10", &first, &last, &total), 0);
	assert_int_equal(first, 2);
	assert_int_equal(last, 3);
	assert_int_equal(total, 10);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(s3c_s3_parse_range(bad[i], &first, &last, &total), -EPROTO);
}

static int read_list(const char *xml, struct s3c_s3_call *call)
{
	struct s3c_http_reply http = { .status = 200 };
	int r;

	fill_call(call, S3C_STORE_LIST);
	assert_int_equal(s3c_buf_append_str(&http.body, xml), 0);
	r = s3c_s3_read_list(call, &http);
	s3c_buf_free(&http.body);
	return r;
}

static void test_lists(void **state)
{
	struct s3c_s3_call call;
	const struct s3c_list *list = &call.reply.list;

	(void)state;
	assert_int_equal(
		read_list("<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><Prefix>dir/"
			  "</Prefix><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b"
			  "</NextContinuationToken><Contents><Key>dir/x+y%2B%25</Key><LastModified>"
			  "2026-11-23T20:39:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>"
			  "5</Size></Contents><CommonPrefixes><Prefix>dir/a%01/</Prefix>"
			  "</CommonPrefixes><EncodingType>url</EncodingType></ListBucketResult>",
			  &call),
		0);
	assert_int_equal(list->count, 2);
	assert_string_equal(list->entries[0].key, "dir/a\x01/");
	assert_true(list->entries[0].is_prefix);
	assert_string_equal(list->entries[1].key, "dir/x y+%");
	assert_string_equal(list->entries[1].etag, "\"e\"");
	assert_int_equal(list->entries[1].size, 5);
	assert_int_equal(list->entries[1].modified_ns, 1795466340000000000);
	assert_string_equal(list->next_token, "a&b");
	s3c_list_free(&call.reply.list);
	/* A server that does not know encoding-type. */
	assert_int_equal(read_list("<ListBucketResult><Contents><Key>dir/x+%41</Key><ETag>e</ETag>"
				   "</Contents><IsTruncated>false</IsTruncated>"
				   "</ListBucketResult>",
				   &call),
			 0);
	assert_string_equal(list->entries[0].key, "dir/x+%41");
	assert_string_equal(list->entries[0].etag, "\"e\"");
	assert_null(list->next_token);
	s3c_list_free(&call.reply.list);
}

static void test_bad_lists(void **state)
{
	static const char *const bad[] = {
		"",
		"<ListBucketResult>",
		"<ListBucketResult><Contents></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>other</Key></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>dir/a</Key><Size>-1</Size></Contents>"
		"</ListBucketResult>",
		"<ListBucketResult><Contents><Key>dir/a</Key><Key>dir/b</Key></Contents>"
		"</ListBucketResult>",
		"<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>dir/%00</Key>"
		"</Contents></ListBucketResult>",
		"<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>dir/%4</Key>"
		"</Contents></ListBucketResult>",
		"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
	};
	struct s3c_s3_call call;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(read_list(bad[i], &call), -EPROTO);
		assert_int_equal(call.reply.list.count, 0);
	}
}

static void test_deleted(void **state)
{
	static const char *const others[] = {
		"",
		"<Error><Code>InternalError</Code></Error>",
		"<html/>",
		"<DeleteResult>",
		"<Odd><DeleteResult/></Odd>",
	};
	struct s3c_http_reply http = { .status = 200 };
	struct s3c_s3_call call;

	(void)state;
	fill_call(&call, S3C_STORE_DELETE_MANY);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		s3c_buf_reset(&http.body);
		assert_int_equal(s3c_buf_append_str(&http.body, others[i]), 0);
		assert_int_equal(s3c_s3_read_deleted(&call, &http), -EPROTO);
	}
	s3c_buf_reset(&http.body);
	assert_int_equal(s3c_buf_append_str(&http.body, "<DeleteResult/>"), 0);
	assert_int_equal(s3c_s3_read_deleted(&call, &http), 0);
	s3c_buf_reset(&http.body);
	assert_int_equal(
		s3c_buf_append_str(&http.body,
				   "<DeleteResult><Error><Key>bad\xc3\xa9</Key><Code>NoSuchKey"
				   "</Code></Error><Error><Key>a&lt;b&gt;&amp;&quot;'&#10;</Key>"
				   "<Code>AccessDenied</Code><Message>no</Message></Error>"
				   "</DeleteResult>"),
		0);
	assert_int_equal(s3c_s3_read_deleted(&call, &http), -EACCES);
	assert_int_equal(call.reply.failed_index, 1);
	assert_non_null(strstr(call.fault, "AccessDenied"));
	s3c_buf_free(&http.body);
}

#define PART(number, size)                                                                         \
	"<Part><PartNumber>" #number "</PartNumber><Size>" #size "</Size><ETag>e" #number          \
	"</ETag><ChecksumCRC32C>AAAAAA==</ChecksumCRC32C></Part>"

static void test_parts(void **state)
{
	static const struct {
		unsigned after;
		const char *xml;
		int result;
		size_t count;
		unsigned next;
	} cases[] = {
		{ 0, "<ListPartsResult><Key>k</Key></ListPartsResult>", 0, 0, 0 },
		{ 0, "<ListPartsResult>" PART(1, 5) PART(7, 9) "</ListPartsResult>", 0, 2, 0 },
		/* The marker of a list that is complete says nothing. */
		{ 0,
		  "<ListPartsResult><NextPartNumberMarker>7</NextPartNumberMarker><IsTruncated>"
		  "false</IsTruncated>" PART(1, 5) PART(7, 9) "</ListPartsResult>",
		  0, 2, 0 },
		{ 3,
		  "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>7"
		  "</NextPartNumberMarker>" PART(4, 5) PART(7, 9) "</ListPartsResult>",
		  0, 2, 7 },
		{ 0, "", -EPROTO, 0, 0 },
		{ 0, "<html></html>", -EPROTO, 0, 0 },
		{ 0, "<ListPartsResult>" PART(7, 5) PART(1, 9) "</ListPartsResult>", -EPROTO, 0,
		  0 },
		{ 0, "<ListPartsResult>" PART(0, 5) "</ListPartsResult>", -EPROTO, 0, 0 },
		{ 0, "<ListPartsResult>" PART(10001, 5) "</ListPartsResult>", -EPROTO, 0, 0 },
		{ 0, "<ListPartsResult>" PART(1, -5) "</ListPartsResult>", -EPROTO, 0, 0 },
		{ 1, "<ListPartsResult>" PART(1, 5) "</ListPartsResult>", -EPROTO, 0, 0 },
		/* These would be asked for ever. */
		{ 0, "<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>", -EPROTO,
		  0, 0 },
		{ 0,
		  "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>2"
		  "</NextPartNumberMarker>" PART(3, 5) "</ListPartsResult>",
		  -EPROTO, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_http_reply http = { .status = 200 };
		struct s3c_s3_call call;
		const struct s3c_part_list *list = &call.reply.parts;

		fill_call(&call, S3C_STORE_UPLOAD_PARTS);
		call.rq.part_number = cases[i].after;
		assert_int_equal(s3c_buf_append_str(&http.body, cases[i].xml), 0);
		assert_int_equal(s3c_s3_read_parts(&call, &http), cases[i].result);
		assert_int_equal(list->count, cases[i].count);
		assert_int_equal(list->next, cases[i].next);
		if (list->count) {
			assert_int_equal(list->parts[1].number, 7);
			assert_int_equal(list->parts[1].size, 9);
			assert_string_equal(list->parts[1].etag, "\"e7\"");
			assert_string_equal(list->parts[1].checksum, "AAAAAA==");
		}
		s3c_part_list_free(&call.reply.parts);
		s3c_buf_free(&http.body);
		s3c_mutex_destroy(&call.lock);
	}
}

#define BEGUN(key, id)                                                                             \
	"<Upload><Key>" key "</Key><UploadId>" id                                                  \
	"</UploadId><Initiated>2026-11-23T20:39:00.500Z</Initiated></Upload>"
#define UPLOADS(inner) "<ListMultipartUploadsResult>" inner "</ListMultipartUploadsResult>"
#define MORE(key, id)                                                                              \
	"<IsTruncated>true</IsTruncated><NextKeyMarker>" key                                       \
	"</NextKeyMarker><NextUploadIdMarker>" id "</NextUploadIdMarker>"

static void test_uploads_reply(void **state)
{
	static const struct {
		const char *token, *xml;
		int result;
		size_t count;
		const char *key, *next;
	} cases[] = {
		{ NULL, UPLOADS(""), 0, 0, NULL, NULL },
		{ NULL, UPLOADS(BEGUN("p/a", "x") BEGUN("p/b", "y")), 0, 2, "p/a", NULL },
		{ NULL, UPLOADS("<EncodingType>url</EncodingType>" BEGUN("p/a+%2B%26", "x")), 0, 1,
		  "p/a +&", NULL },
		{ NULL, UPLOADS(BEGUN("p/a+%2B", "x")), 0, 1, "p/a+%2B", NULL },
		/* Of another prefix. */
		{ NULL, UPLOADS(BEGUN("q/a", "x") BEGUN("p/b", "y")), 0, 1, "p/b", NULL },
		{ NULL, UPLOADS(BEGUN("p/a", "x") MORE("p/a", "x")), 0, 1, "p/a", "x\np/a" },
		{ "x\np/a", UPLOADS(BEGUN("p/a", "y") MORE("p/a", "y")), 0, 1, "p/a", "y\np/a" },
		/* These would be asked for ever. */
		{ "x\np/a", UPLOADS(MORE("p/a", "x")), -EPROTO, 0, NULL, NULL },
		{ NULL, UPLOADS("<IsTruncated>true</IsTruncated>"), -EPROTO, 0, NULL, NULL },
		{ NULL, "<ListBucketResult></ListBucketResult>", -EPROTO, 0, NULL, NULL },
		{ NULL, UPLOADS("<Upload><Key>p/a</Key></Upload>"), -EPROTO, 0, NULL, NULL },
		{ NULL, UPLOADS(BEGUN("p/a", "")), -EPROTO, 0, NULL, NULL },
		{ NULL, UPLOADS("<Upload><Key>p/a</Key><Key>p/b</Key></Upload>"), -EPROTO, 0, NULL,
		  NULL },
		{ NULL, "<ListMultipartUploadsResult>", -EPROTO, 0, NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_http_reply http = { .status = 200 };
		struct s3c_s3_call call;
		const struct s3c_upload_list *list = &call.reply.uploads;

		fill_call(&call, S3C_STORE_LIST_UPLOADS);
		call.rq.prefix = "p/";
		call.rq.token = cases[i].token;
		assert_int_equal(s3c_buf_append_str(&http.body, cases[i].xml), 0);
		assert_int_equal(s3c_s3_read_uploads(&call, &http), cases[i].result);
		assert_int_equal(list->count, cases[i].count);
		if (cases[i].key) {
			assert_string_equal(list->items[0].key, cases[i].key);
			assert_int_equal(list->items[0].begun_ns, INT64_C(1795466340500000000));
		}
		if (cases[i].next)
			assert_string_equal(list->next_token, cases[i].next);
		else
			assert_null(list->next_token);
		s3c_upload_list_free(&call.reply.uploads);
		s3c_buf_free(&http.body);
		s3c_mutex_destroy(&call.lock);
	}
}

static void test_errors(void **state)
{
	static const struct {
		enum s3c_store_opcode op;
		int result, status;
		const char *code, *message;
		int want;
		bool if_none_match, if_match;
	} cases[] = {
		{ S3C_STORE_GET, 0, 404, "NoSuchKey", "", -ENOENT, false, false },
		{ S3C_STORE_GET, 0, 404, "NoSuchBucket", "", -ENODEV, false, false },
		{ S3C_STORE_GET, 0, 404, "", "", -EPROTO, false, false },
		{ S3C_STORE_HEAD, 0, 404, "", "", -ENOENT, false, false },
		{ S3C_STORE_LIST, 0, 404, "NoSuchBucket", "", -ENODEV, false, false },
		{ S3C_STORE_UPLOAD_PART, 0, 404, "NoSuchUpload", "", -ENXIO, false, false },
		{ S3C_STORE_UPLOAD_COMPLETE, 0, 404, "NoSuchUpload", "", -ENXIO, false, false },
		{ S3C_STORE_UPLOAD_COMPLETE, 0, 404, "NoSuchKey", "", -ENXIO, false, false },
		{ S3C_STORE_UPLOAD_COMPLETE, 0, 404, "NoSuchKey", "", -ESTALE, false, true },
		{ S3C_STORE_UPLOAD_COMPLETE, 0, 400, "InvalidPart", "", -EINVAL, false, false },
		{ S3C_STORE_UPLOAD_COMPLETE, 0, 400, "RequestTimeout", "", -EAGAIN, false, false },
		{ S3C_STORE_UPLOAD_PARTS, 0, 404, "NoSuchUpload", "", -ENXIO, false, false },
		{ S3C_STORE_UPLOAD_PARTS, 0, 404, "NoSuchKey", "", -ENXIO, false, false },
		{ S3C_STORE_UPLOAD_PARTS, 0, 403, "AccessDenied", "", -EACCES, false, false },
		{ S3C_STORE_UPLOAD_COMPLETE, 0, 409, "ConditionalRequestConflict", "", -ESTALE,
		  false, true },
		{ S3C_STORE_PUT, 0, 409, "ConditionalRequestConflict", "", -EAGAIN, false, true },
		{ S3C_STORE_PUT, 0, 412, "PreconditionFailed", "", -ESTALE, false, true },
		{ S3C_STORE_PUT, 0, 412, "PreconditionFailed", "", -EEXIST, true, false },
		{ S3C_STORE_PUT, 0, 404, "NoSuchKey", "", -ESTALE, false, true },
		{ S3C_STORE_COPY, 0, 404, "NoSuchKey", "", -ENOENT, false, false },
		{ S3C_STORE_COPY, 0, 501, "NotImplemented", "", -EOPNOTSUPP, false, false },
		{ S3C_STORE_PUT, 0, 403, "AccessDenied", "", -EACCES, false, false },
		{ S3C_STORE_GET, 0, 403, "AccessDenied", "Access Denied", -EACCES, false, false },
		{ S3C_STORE_GET, 0, 400, "InvalidRequest",
		  "The object was stored using a form of Server Side Encryption. The correct "
		  "parameters must be provided to retrieve the object.",
		  -EKEYREJECTED, false, false },
		{ S3C_STORE_GET, 0, 403, "AccessDenied",
		  "Requests specifying Server Side Encryption with Customer provided keys must "
		  "provide the correct secret key.",
		  -EKEYREJECTED, false, false },
		{ S3C_STORE_GET, 0, 400, "InvalidRequest",
		  "The encryption parameters are not applicable to this object.", -EKEYREJECTED,
		  false, false },
		{ S3C_STORE_PUT, 0, 400, "InvalidRequest",
		  "The multipart upload initiate requested encryption", -EIO, false, false },
		{ S3C_STORE_GET, 0, 503, "SlowDown", "", -EAGAIN, false, false },
		{ S3C_STORE_GET, 0, 500, "", "", -EAGAIN, false, false },
		{ S3C_STORE_GET, 0, 301, "PermanentRedirect", "", -EIO, false, false },
		{ S3C_STORE_GET, -EKEYREJECTED, 0, "", "", -EPROTO, false, false },
		{ S3C_STORE_GET, -ECONNREFUSED, 0, "", "", -ECONNREFUSED, false, false },
		{ S3C_STORE_GET, -ETIMEDOUT, 503, "", "", -ETIMEDOUT, false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_http_reply http = {
			.result = cases[i].result,
			.status = cases[i].status,
			.request_id = "RID",
		};
		struct s3c_s3_call call;
		char text[512];
		int r;

		fill_call(&call, cases[i].op);
		strcpy(http.error_code, cases[i].code);
		strcpy(http.error_message, cases[i].message);
		call.rq.condition.if_none_match = cases[i].if_none_match;
		call.rq.condition.if_match = cases[i].if_match ? "\"x\"" : NULL;
		r = s3c_s3_error(&call, &http);
		if (r != cases[i].want)
			fail_msg("case %zu: %d, not %d", i, r, cases[i].want);
		s3c_s3_describe(&call, &http, r, text, sizeof(text));
		assert_non_null(strstr(text, cases[i].op == S3C_STORE_LIST ? "dir/" : "dir/key"));
		if (!cases[i].result)
			assert_non_null(strstr(text, "(request id RID)"));
	}
}

static void test_stat(void **state)
{
	struct s3c_http_headers headers = { 0 };
	struct s3c_stat st;

	(void)state;
	s3c_http_headers_add(&headers, "content-length", "42");
	s3c_http_headers_add(&headers, "ETAG", "\"abc-2\"");
	s3c_http_headers_add(&headers, "Last-Modified", "Mon, 23 Nov 2026 20:39:00 GMT");
	s3c_http_headers_add(&headers, "X-Amz-Meta-MODE", "33188");
	s3c_http_headers_add(&headers, "x-amz-server-side-encryption-customer-algorithm", "AES256");
	s3c_http_headers_add(&headers, "x-amz-server-side-encryption-customer-key-md5",
			     "ltCV3+xA9zOFoXDct/s5gQ==");
	assert_int_equal(s3c_s3_read_stat(&ssec, &headers, &st), 0);
	assert_int_equal(st.size, 42);
	assert_string_equal(st.version.etag, "\"abc-2\"");
	assert_string_equal(s3c_meta_get(&st.meta, "mode"), "33188");
	assert_true(st.ssec);
	s3c_stat_free(&st);
	/* Another key's MD5 confirms nothing. */
	assert_int_equal(s3c_s3_read_stat(&source_ssec, &headers, &st), 0);
	assert_false(st.ssec);
	s3c_stat_free(&st);
	s3c_http_headers_free(&headers);
	s3c_http_headers_add(&headers, "Content-Length", "-1");
	assert_int_equal(s3c_s3_read_stat(NULL, &headers, &st), -EPROTO);
	s3c_http_headers_free(&headers);
}

static void test_explain(void **state)
{
	static const struct {
		int result;
		const char *message, *want;
	} cases[] = {
		{ -ECONNREFUSED, "", "nothing answers" },
		{ -EHOSTUNREACH, "", "cannot be reached" },
		{ -EPROTO, "PUT x: the server's certificate is not trusted: y", "ca_file=" },
		{ -EACCES, "PUT x: 403 SignatureDoesNotMatch: y", "secret access key" },
		{ -EACCES, "PUT x: 403 InvalidAccessKeyId: y", "access key id" },
		{ -EACCES, "PUT x: 403 AccessDenied (request id z)", "denies access" },
		{ -EACCES, "PUT x: 403 RequestTimeTooSkewed: y", "clock" },
		{ -ENODEV, "PUT x: 404 NoSuchBucket: y", "bucket does not exist" },
		{ -EIO, "PUT x: 301 PermanentRedirect: y", "region=" },
		{ -EIO, "PUT x: 400 AuthorizationHeaderMalformed: y", "region=" },
		{ -EBADE, "PUT x: the store does not confirm the customer key (SSE-C)",
		  "enc=cse-key" },
	};
	struct s3c_store base = { .identity = "https://host:1|bucket" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_err err = { 0 };

		assert_int_equal(s3c_store_explain(&base, cases[i].result, cases[i].message, &err),
				 cases[i].result);
		if (!strstr(err.text, cases[i].want))
			fail_msg("'%s' lacks '%s'", err.text, cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_customer_key_headers),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_xml_bodies),
		cmocka_unit_test(test_xml_keys),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_content_ranges),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_bad_lists),
		cmocka_unit_test(test_deleted),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_uploads_reply),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_stat),
		cmocka_unit_test(test_explain),
	};

	if (s3c_secret_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
