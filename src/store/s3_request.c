/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The HTTP request of each operation, after the S3 API reference (2006-03-01). The headers of a
 * customer key go with PutObject, CreateMultipartUpload, UploadPart, UploadPartCopy, CopyObject,
 * GetObject and HeadObject, and with CompleteMultipartUpload when the parts have checksums; other
 * operations are refused with them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/crc.h"
#include "base/crypto.h"
#include "base/encode.h"
#include "base/secret.h"
#include "store/s3_private.h"

#define SSEC_HEADER "x-amz-server-side-encryption-customer-"
#define SOURCE_SSEC_HEADER "x-amz-copy-source-server-side-encryption-customer-"
/* Past this, hashing the body twice (TLS does it anyway) costs more than it guards. */
#define UNSIGNED_BYTES (64u << 10)
#define XML_MAX (8u << 20)

static const struct {
	enum s3c_checksum checksum;
	const char *prefix; /* of an upload id; ids of S3 have no colon */
	const char *header;
	const char *algorithm;
	const char *element;
	const char *type; /* CRC64NVME knows only FULL_OBJECT */
} checksums[] = {
	{ S3C_CHECKSUM_CRC32C, "crc32c:", "x-amz-checksum-crc32c", "CRC32C", "ChecksumCRC32C",
	  "COMPOSITE" },
	{ S3C_CHECKSUM_CRC64NVME, "crc64nvme:", "x-amz-checksum-crc64nvme", "CRC64NVME",
	  "ChecksumCRC64NVME", "FULL_OBJECT" },
};

const char *s3c_s3_upload_id(const char *upload_id, enum s3c_checksum *ret_checksum)
{
	for (size_t i = 0; i < ARRAY_LEN(checksums); i++) {
		size_t len = strlen(checksums[i].prefix);

		if (strncmp(upload_id, checksums[i].prefix, len) == 0) {
			*ret_checksum = checksums[i].checksum;
			return upload_id + len;
		}
	}
	*ret_checksum = S3C_CHECKSUM_OFF;
	return upload_id;
}

const char *s3c_s3_checksum_prefix(enum s3c_checksum checksum)
{
	for (size_t i = 0; i < ARRAY_LEN(checksums); i++)
		if (checksums[i].checksum == checksum)
			return checksums[i].prefix;
	return "";
}

const char *s3c_s3_checksum_header(enum s3c_checksum checksum)
{
	for (size_t i = 0; i < ARRAY_LEN(checksums); i++)
		if (checksums[i].checksum == checksum)
			return checksums[i].header;
	return NULL;
}

static int add(struct s3c_s3_built *b, const char *name, const char *value)
{
	return s3c_http_headers_add(&b->http.headers, name, value);
}

static int add_query(struct s3c_s3_built *b, const char *name, const char *value)
{
	return s3c_http_headers_add(&b->http.query, name, value);
}

static int add_query_number(struct s3c_s3_built *b, const char *name, unsigned value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	return add_query(b, name, text);
}

int s3c_s3_key_md5(const struct s3c_ssec *ssec, char ret_md5[static 25])
{
	uint8_t md5[S3C_MD5_LEN];
	int r = s3c_md5(ssec->key, sizeof(ssec->key), md5);

	if (r == 0)
		s3c_base64_encode(md5, sizeof(md5), ret_md5);
	return r;
}

static int add_customer_key(struct s3c_s3_built *b, const char *prefix, const struct s3c_ssec *ssec)
{
	const char *names[3] = { "algorithm", "key", "key-MD5" };
	char key[S3C_BASE64_LEN(32) + 1];
	char md5[25];
	const char *values[3] = { "AES256", key, md5 };
	int r;

	if (!ssec)
		return 0;
	r = s3c_s3_key_md5(ssec, md5);
	s3c_base64_encode(ssec->key, sizeof(ssec->key), key);
	for (int i = 0; r == 0 && i < 3; i++) {
		char name[96];

		snprintf(name, sizeof(name), "%s%s", prefix, names[i]);
		r = add(b, name, values[i]);
	}
	s3c_wipe(key, sizeof(key));
	/* A key goes to the service's own host or nowhere. */
	b->http.no_redirect = true;
	return r;
}

static int add_condition(struct s3c_s3_built *b, const struct s3c_condition *condition, bool bare)
{
	char etag[S3C_STORE_ETAG_MAX];

	if (condition->if_none_match)
		return add(b, "If-None-Match", "*");
	if (!condition->if_match || !bare)
		return condition->if_match ? add(b, "If-Match", condition->if_match) : 0;
	s3c_etag_bare(condition->if_match, etag);
	return add(b, "If-Match", etag);
}

static int add_object_headers(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	const struct s3c_store_request *rq = &call->rq;
	const char *type = rq->props ? s3c_meta_get(rq->props, "content-type") : NULL;
	int r;

	if (!type)
		type = rq->content_type ? rq->content_type : "application/octet-stream";
	r = add(b, "Content-Type", type);
	for (size_t i = 0; r == 0 && rq->props && i < rq->props->count; i++)
		if (strcmp(rq->props->items[i].name, "content-type") != 0)
			r = add(b, rq->props->items[i].name, rq->props->items[i].value);
	for (size_t i = 0; r == 0 && rq->meta && i < rq->meta->count; i++) {
		cleanup_free char *name = s3c_asprintf("x-amz-meta-%s", rq->meta->items[i].name);

		r = name ? add(b, name, rq->meta->items[i].value) : -ENOMEM;
	}
	if (r == 0 && call->store->storage_class)
		r = add(b, "x-amz-storage-class", call->store->storage_class);
	if (r < 0)
		return r;
	/* One excludes the other. */
	return rq->ssec ? add_customer_key(b, SSEC_HEADER, rq->ssec)
			: s3c_s3_sse_add(&call->store->sse, &b->http.headers);
}

static int add_range(struct s3c_s3_built *b, const struct s3c_store_request *rq)
{
	char text[64];

	if (rq->suffix)
		snprintf(text, sizeof(text), "bytes=-%" PRIu64, rq->suffix);
	else if (rq->length == UINT64_MAX && rq->offset == 0)
		return 0;
	else if (rq->length == UINT64_MAX || rq->length > UINT64_MAX - rq->offset)
		snprintf(text, sizeof(text), "bytes=%" PRIu64 "-", rq->offset);
	else
		snprintf(text, sizeof(text), "bytes=%" PRIu64 "-%" PRIu64, rq->offset,
			 rq->offset + rq->length - 1);
	return add(b, "Range", text);
}

static enum s3c_checksum wanted_checksum(const struct s3c_s3_store *s3, enum s3c_checksum asked)
{
	if (s3->checksum == S3C_CHECKSUM_OFF)
		return S3C_CHECKSUM_OFF;
	if (asked != S3C_CHECKSUM_AUTO)
		return asked;
	if (s3->checksum != S3C_CHECKSUM_AUTO)
		return s3->checksum;
	return s3->base.caps.crc32c ? S3C_CHECKSUM_CRC32C : S3C_CHECKSUM_OFF;
}

static int add_checksum(struct s3c_s3_call *call, struct s3c_s3_built *b,
			enum s3c_checksum checksum)
{
	const struct s3c_store_request *rq = &call->rq;
	const char *header = s3c_s3_checksum_header(checksum);
	uint8_t bytes[8];
	uint32_t crc32 = 0;
	uint64_t crc64 = 0;

	call->sent_checksum = checksum;
	if (!header)
		return 0;
	for (unsigned i = 0; i < rq->body_count; i++) {
		const struct iovec *piece = &rq->body[i];

		if (checksum == S3C_CHECKSUM_CRC32C)
			crc32 = s3c_crc32c(crc32, piece->iov_base, piece->iov_len);
		else
			crc64 = s3c_crc64nvme(crc64, piece->iov_base, piece->iov_len);
	}
	if (checksum == S3C_CHECKSUM_CRC32C)
		s3c_put_be32(bytes, crc32);
	else
		s3c_put_be64(bytes, crc64);
	s3c_base64_encode(bytes, checksum == S3C_CHECKSUM_CRC32C ? 4 : 8, call->checksum);
	return add(b, header, call->checksum);
}

static void set_body(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	size_t len = 0;

	b->http.body = call->rq.body;
	b->http.body_count = call->rq.body_count;
	for (unsigned i = 0; i < call->rq.body_count; i++)
		len += call->rq.body[i].iov_len;
	b->http.unsigned_payload = call->store->base.tls && len > UNSIGNED_BYTES;
}

static void set_xml_body(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	call->xml_body = (struct iovec){ call->xml.data, call->xml.len };
	b->http.body = &call->xml_body;
	b->http.body_count = 1;
}

static int append_xml(struct s3c_buf *out, const char *text)
{
	int r = 0;

	for (; r == 0 && *text; text++) {
		switch (*text) {
		case '&':
			r = s3c_buf_append_str(out, "&amp;");
			break;
		case '<':
			r = s3c_buf_append_str(out, "&lt;");
			break;
		case '>':
			r = s3c_buf_append_str(out, "&gt;");
			break;
		case '"':
			r = s3c_buf_append_str(out, "&quot;");
			break;
		case '\t':
		case '\n':
		case '\r':
			/* As they are, a parser would make blanks of them. */
			r = s3c_buf_printf(out, "&#%d;", *text);
			break;
		default:
			r = s3c_buf_append_char(out, *text);
			break;
		}
	}
	return r;
}

bool s3c_s3_key_fits_xml(const char *key)
{
	const unsigned char *p = (const unsigned char *)key;
	size_t len;

	for (; *p; p += len) {
		len = s3c_xml_char(p);
		if (!len)
			return false;
	}
	return true;
}

static int build_copy_source(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	const struct s3c_store_request *rq = &call->rq;
	cleanup_buf struct s3c_buf source = { 0 };
	int r = s3c_buf_printf(&source, "/%s/", call->store->bucket);

	if (r == 0)
		r = s3c_uri_encode(&source, rq->source_key, strlen(rq->source_key), true);
	if (r == 0)
		r = add(b, "x-amz-copy-source", source.data);
	if (r == 0 && rq->source_if_match)
		r = add(b, "x-amz-copy-source-if-match", rq->source_if_match);
	if (r == 0)
		r = add_customer_key(b, SOURCE_SSEC_HEADER, rq->source_ssec);
	b->http.xml_200_error = true;
	return r;
}

static int build_read(struct s3c_s3_call *call, struct s3c_s3_built *b, const char *method)
{
	const struct s3c_store_request *rq = &call->rq;
	int r = 0;

	b->http.method = method;
	if (call->step != S3C_S3_AFTER && rq->condition.if_match)
		r = add(b, "If-Match", rq->condition.if_match);
	return r == 0 ? add_customer_key(b, SSEC_HEADER, rq->ssec) : r;
}

static int build_get(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	int r = add_range(b, &call->rq);

	return r == 0 ? build_read(call, b, "GET") : r;
}

static int build_head(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	return build_read(call, b, "HEAD");
}

static int build_why(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	int r = add(b, "Range", "bytes=0-0");

	return r == 0 ? build_read(call, b, "GET") : r;
}

static int build_put(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	int r = add_object_headers(call, b);

	b->http.method = "PUT";
	set_body(call, b);
	if (r == 0)
		r = add_condition(b, &call->rq.condition, call->store->base.caps.if_match_bare);
	if (r == 0)
		r = add_checksum(call, b, wanted_checksum(call->store, call->rq.checksum));
	return r;
}

static int build_list(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	const struct s3c_store_request *rq = &call->rq;
	int r = add_query(b, "list-type", "2");

	b->http.method = "GET";
	b->http.xml_200_error = true;
	/* Keys may hold what XML cannot. */
	if (r == 0)
		r = add_query(b, "encoding-type", "url");
	if (r == 0 && rq->prefix && rq->prefix[0])
		r = add_query(b, "prefix", rq->prefix);
	if (r == 0 && rq->delimiter)
		r = add_query(b, "delimiter", "/");
	if (r == 0 && rq->max_keys)
		r = add_query_number(b, "max-keys", rq->max_keys);
	if (r == 0 && rq->token)
		r = add_query(b, "continuation-token", rq->token);
	else if (r == 0 && rq->start_after)
		r = add_query(b, "start-after", rq->start_after);
	return r;
}

static int build_copy(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	int r = add_object_headers(call, b);

	b->http.method = "PUT";
	if (r == 0)
		r = add(b, "x-amz-metadata-directive", "REPLACE");
	if (r == 0)
		r = add_condition(b, &call->rq.condition, false);
	return r == 0 ? build_copy_source(call, b) : r;
}

static int build_delete_one(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	(void)call;
	b->http.method = "DELETE";
	return 0;
}

static int build_delete(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	b->http.method = "DELETE";
	return call->rq.condition.if_match ? add(b, "If-Match", call->rq.condition.if_match) : 0;
}

static int build_delete_many(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	const struct s3c_store_request *rq = &call->rq;
	char text[S3C_BASE64_LEN(S3C_MD5_LEN) + 1];
	uint8_t md5[S3C_MD5_LEN];
	int r;

	b->http.method = "POST";
	b->http.xml_200_error = true;
	s3c_buf_init(&call->xml, XML_MAX);
	r = s3c_buf_append_str(&call->xml, "<Delete "
					   "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
					   "<Quiet>true</Quiet>");
	for (size_t i = 0; r == 0 && i < rq->key_count; i++) {
		if (!s3c_s3_key_fits_xml(rq->keys[i]))
			continue; /* deleted before, one by one */
		r = s3c_buf_append_str(&call->xml, "<Object><Key>");
		if (r == 0)
			r = append_xml(&call->xml, rq->keys[i]);
		if (r == 0)
			r = s3c_buf_append_str(&call->xml, "</Key></Object>");
	}
	if (r == 0)
		r = s3c_buf_append_str(&call->xml, "</Delete>");
	if (r == 0)
		r = s3c_md5(call->xml.data, call->xml.len, md5);
	if (r < 0)
		return r;
	set_xml_body(call, b);
	s3c_base64_encode(md5, sizeof(md5), text);
	r = add(b, "Content-MD5", text);
	if (r == 0)
		r = add(b, "Content-Type", "application/xml");
	return r == 0 ? add_query(b, "delete", "") : r;
}

/* Not encoded: Ceph 16 encodes the keys without saying so, and not the marker. A key that XML
   cannot hold makes the reply nonsense. */
static int build_list_uploads(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	const struct s3c_store_request *rq = &call->rq;
	/* The marker of an upload, a line break, that of its key. */
	const char *end = rq->token ? strchr(rq->token, '\n') : NULL;
	cleanup_free char *id = end ? strndup(rq->token, (size_t)(end - rq->token)) : NULL;
	int r = add_query(b, "uploads", "");

	b->http.method = "GET";
	b->http.xml_200_error = true;
	if (rq->token && !id)
		return end ? -ENOMEM : -EINVAL;
	if (r == 0 && rq->prefix && rq->prefix[0])
		r = add_query(b, "prefix", rq->prefix);
	if (r == 0 && id)
		r = add_query(b, "key-marker", end + 1);
	if (r == 0 && id && id[0])
		r = add_query(b, "upload-id-marker", id);
	return r;
}

static int build_upload_create(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	enum s3c_checksum checksum = call->rq.copies
					     ? S3C_CHECKSUM_OFF
					     : wanted_checksum(call->store, S3C_CHECKSUM_AUTO);
	int r = add_object_headers(call, b);

	b->http.method = "POST";
	b->http.xml_200_error = true;
	call->sent_checksum = checksum;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(checksums); i++) {
		if (checksums[i].checksum != checksum)
			continue;
		r = add(b, "x-amz-checksum-algorithm", checksums[i].algorithm);
		if (r == 0)
			r = add(b, "x-amz-checksum-type", checksums[i].type);
	}
	return r == 0 ? add_query(b, "uploads", "") : r;
}

static int add_part_query(struct s3c_s3_call *call, struct s3c_s3_built *b,
			  enum s3c_checksum *ret_checksum)
{
	int r = add_query_number(b, "partNumber", call->rq.part_number);

	return r == 0 ? add_query(b, "uploadId", s3c_s3_upload_id(call->rq.upload_id, ret_checksum))
		      : r;
}

static int build_upload_part(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	enum s3c_checksum checksum;
	int r = add_part_query(call, b, &checksum);

	b->http.method = "PUT";
	set_body(call, b);
	if (r == 0)
		r = add_customer_key(b, SSEC_HEADER, call->rq.ssec);
	return r == 0 ? add_checksum(call, b, checksum) : r;
}

static int build_part_copy(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	const struct s3c_store_request *rq = &call->rq;
	char range[64];
	int r = add_part_query(call, b, &call->sent_checksum);

	b->http.method = "PUT";
	snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, rq->offset,
		 rq->offset + rq->length - 1);
	if (r == 0)
		r = add(b, "x-amz-copy-source-range", range);
	if (r == 0)
		r = add_customer_key(b, SSEC_HEADER, rq->ssec);
	return r == 0 ? build_copy_source(call, b) : r;
}

static int append_part(struct s3c_buf *out, const struct s3c_store_part *part,
		       enum s3c_checksum checksum)
{
	int r = s3c_buf_printf(out, "<Part><PartNumber>%u</PartNumber><ETag>", part->number);

	if (r == 0)
		r = append_xml(out, part->etag);
	if (r == 0)
		r = s3c_buf_append_str(out, "</ETag>");
	for (size_t i = 0; r == 0 && part->checksum[0] && i < ARRAY_LEN(checksums); i++)
		if (checksums[i].checksum == checksum)
			r = s3c_buf_printf(out, "<%s>%s</%s>", checksums[i].element, part->checksum,
					   checksums[i].element);
	return r == 0 ? s3c_buf_append_str(out, "</Part>") : r;
}

static int build_complete(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	const struct s3c_store_request *rq = &call->rq;
	enum s3c_checksum checksum;
	const char *id = s3c_s3_upload_id(rq->upload_id, &checksum);
	int r;

	b->http.method = "POST";
	b->http.xml_200_error = true;
	s3c_buf_init(&call->xml, XML_MAX);
	r = s3c_buf_append_str(&call->xml, "<CompleteMultipartUpload "
					   "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (size_t i = 0; r == 0 && i < rq->part_count; i++)
		r = append_part(&call->xml, &rq->parts[i], checksum);
	if (r == 0)
		r = s3c_buf_append_str(&call->xml, "</CompleteMultipartUpload>");
	if (r == 0)
		r = add(b, "Content-Type", "application/xml");
	if (r == 0)
		r = add_condition(b, &rq->condition, false);
	if (r == 0 && checksum != S3C_CHECKSUM_OFF)
		r = add_customer_key(b, SSEC_HEADER, rq->ssec);
	set_xml_body(call, b);
	return r == 0 ? add_query(b, "uploadId", id) : r;
}

static int add_abort(struct s3c_s3_built *b, const char *upload_id)
{
	enum s3c_checksum checksum;

	b->http.method = "DELETE";
	return add_query(b, "uploadId", s3c_s3_upload_id(upload_id, &checksum));
}

static int build_abort(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	return add_abort(b, call->rq.upload_id);
}

static int build_drop(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	return add_abort(b, call->reply.upload_id);
}

static int build_parts(struct s3c_s3_call *call, struct s3c_s3_built *b)
{
	bool all = call->rq.op == S3C_STORE_UPLOAD_PARTS; /* else: is there such an upload? */
	enum s3c_checksum checksum;
	int r = add_query(b, "max-parts", all ? "1000" : "1");

	b->http.method = "GET";
	b->http.xml_200_error = all;
	if (r == 0 && all && call->rq.part_number)
		r = add_query_number(b, "part-number-marker", call->rq.part_number);
	if (r == 0)
		r = add_query(b, "uploadId", s3c_s3_upload_id(call->rq.upload_id, &checksum));
	/* As for the completion: only with checksums. */
	return r == 0 && checksum != S3C_CHECKSUM_OFF
		       ? add_customer_key(b, SSEC_HEADER, call->rq.ssec)
		       : r;
}

static int (*const builders[])(struct s3c_s3_call *call, struct s3c_s3_built *b) = {
	[S3C_STORE_GET] = build_get,
	[S3C_STORE_HEAD] = build_head,
	[S3C_STORE_PUT] = build_put,
	[S3C_STORE_LIST] = build_list,
	[S3C_STORE_COPY] = build_copy,
	[S3C_STORE_DELETE] = build_delete,
	[S3C_STORE_DELETE_MANY] = build_delete_many,
	[S3C_STORE_LIST_UPLOADS] = build_list_uploads,
	[S3C_STORE_UPLOAD_CREATE] = build_upload_create,
	[S3C_STORE_UPLOAD_PART] = build_upload_part,
	[S3C_STORE_UPLOAD_PART_COPY] = build_part_copy,
	[S3C_STORE_UPLOAD_COMPLETE] = build_complete,
	[S3C_STORE_UPLOAD_PARTS] = build_parts,
	[S3C_STORE_UPLOAD_ABORT] = build_abort,
};

static int (*const step_builders[])(struct s3c_s3_call *call, struct s3c_s3_built *b) = {
	[S3C_S3_SIZE] = build_head,
	[S3C_S3_WHY] = build_why,
	[S3C_S3_AFTER] = build_head,
	[S3C_S3_PARTS] = build_parts,
	[S3C_S3_DELETE_ONE] = build_delete_one,
	[S3C_S3_DROP] = build_drop,
};

int s3c_s3_build(struct s3c_s3_call *call, struct s3c_s3_built *ret_built)
{
	struct s3c_s3_built b = {
		.http = {
			.bucket = call->store->bucket,
			.virtual_host = call->store->virtual_host,
			.class = call->rq.content ? S3C_HTTP_CONTENT : S3C_HTTP_META,
			.deadline_ns = call->rq.deadline_ns,
		},
	};
	const char *key = call->rq.key;
	int r;

	if (call->step == S3C_S3_DELETE_ONE)
		key = call->rq.keys[call->delete_index];
	else if (call->rq.op == S3C_STORE_LIST || call->rq.op == S3C_STORE_LIST_UPLOADS ||
		 call->rq.op == S3C_STORE_DELETE_MANY)
		key = "";
	b.path = s3c_asprintf("/%s", key);
	b.http.path = b.path;
	s3c_buf_free(&call->xml);
	if (!b.path)
		r = -ENOMEM;
	else if (call->step == S3C_S3_MAIN)
		r = builders[call->rq.op](call, &b);
	else
		r = step_builders[call->step](call, &b);
	if (r == 0 && call->store->requester_pays)
		r = add(&b, "x-amz-request-payer", "requester");
	if (r < 0) {
		s3c_s3_built_free(&b);
		return r;
	}
	*ret_built = b;
	return 0;
}

void s3c_s3_built_free(struct s3c_s3_built *built)
{
	s3c_http_headers_free(&built->http.query);
	s3c_http_headers_free(&built->http.headers);
	free(built->path);
}
