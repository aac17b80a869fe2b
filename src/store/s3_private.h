/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the S3 store share.
 *
 *   s3.c          instances; calls from submission to callback, with their steps
 *   s3_request.c  the HTTP request of an operation
 *   s3_sse.c      server-side encryption: asked for, and confirmed
 *   s3_reply.c    headers and XML of a reply into the contract's structs
 *   s3_error.c    errors into the contract's errnos and words
 */
#pragma once

#include "http/credentials.h"
#include "http/http.h"
#include "store/store.h"

#define S3C_S3_SSEC_ALGORITHM "x-amz-server-side-encryption-customer-algorithm"
#define S3C_S3_SSEC_MD5 "x-amz-server-side-encryption-customer-key-MD5"

struct s3c_s3_sse {
	enum s3c_sse mode;
	char *key_id;  /* as given; NULL: the account's own */
	char *context; /* base64 of the JSON; NULL: none */
	bool bucket_key;
	char *seen_key; /* that of the first reply, for an alias; belongs to the engine's thread */
};

struct s3c_s3_store {
	struct s3c_store base;
	struct s3c_http_engine *engine;
	struct s3c_credentials *credentials;
	struct s3c_http_service *service;
	char *bucket;
	char *identity;
	char *storage_class;
	struct s3c_s3_sse sse;
	bool virtual_host;
	bool requester_pays;
	enum s3c_checksum checksum;
	atomic_bool closing;
};

/*
 * What a call is doing; it goes from one to the next on the engine's thread.
 *   MAIN        the operation's own request
 *   SIZE        HEAD, after 416 on a GET: is the object empty?
 *   WHY         GET of one byte, after 400 or 403 on a HEAD: only a GET says the reason
 *   AFTER       HEAD, after a completion whose reply has no ETag (Ceph 16): which version is it?
 *   PARTS       list of parts, after 500 on a completion: Ceph 16 answers so for an upload that
 *               is not there
 *   DELETE_ONE  one key of DELETE_MANY that XML cannot hold; they go before MAIN
 *   DROP        abort of an upload whose start did not confirm the encryption
 */
enum s3c_s3_step {
	S3C_S3_MAIN,
	S3C_S3_SIZE,
	S3C_S3_WHY,
	S3C_S3_AFTER,
	S3C_S3_PARTS,
	S3C_S3_DELETE_ONE,
	S3C_S3_DROP
};

struct s3c_s3_call {
	struct s3c_s3_store *store;
	struct s3c_store_request rq; /* strings borrowed from the caller */
	int64_t begun_ns;            /* monotonic */
	s3c_store_done_fn done;
	void *arg;
	atomic_uint refs;

	struct s3c_mutex lock;
	struct s3c_http_call *http; /* guarded by lock: the request of this step */
	unsigned generation;        /* guarded by lock: of the request */
	bool cancelled;             /* guarded by lock */

	/* The rest belongs to the submitting thread, then to the engine's. */
	enum s3c_s3_step step;
	unsigned repeats;    /* of a conflict, or of a GET that met a new object */
	size_t delete_index; /* DELETE_ONE */
	struct s3c_buf xml;  /* body of DELETE_MANY and COMPLETE */
	struct iovec xml_body;
	enum s3c_checksum sent_checksum;
	char checksum[16]; /* base64 of what was sent */

	/* GET: filled by the sink. */
	bool begun;
	int sink_result;   /* what the caller's sink ended it with */
	uint64_t expected; /* bytes for the caller's sink */
	uint64_t received;
	uint64_t skip;   /* bytes before the range, when the store ignored it */
	char fault[320]; /* what was wrong with the reply, for the message */
	int main_result; /* PARTS, DROP: what the operation itself ended with */

	struct s3c_store_reply reply;
};

/* Requests. The caller frees query and headers of *ret_http. */
struct s3c_s3_built {
	struct s3c_http_request http;
	char *path;
};
int s3c_s3_build(struct s3c_s3_call *call, struct s3c_s3_built *ret_built);
void s3c_s3_built_free(struct s3c_s3_built *built);
/* May the key stand in an XML 1.0 document? */
bool s3c_s3_key_fits_xml(const char *key);
/* Base64 of the MD5 of a customer key. */
int s3c_s3_key_md5(const struct s3c_ssec *ssec, char ret_md5[static 25]);
/* The upload id without our prefix, which says what checksums its parts have. */
const char *s3c_s3_upload_id(const char *upload_id, enum s3c_checksum *ret_checksum);
const char *s3c_s3_checksum_prefix(enum s3c_checksum checksum);
const char *s3c_s3_checksum_header(enum s3c_checksum checksum);

/* Server-side encryption. What init leaves when it fails is freed by free. */
int s3c_s3_sse_init(struct s3c_s3_sse *sse, const struct s3c_store_s3_config *config);
void s3c_s3_sse_free(struct s3c_s3_sse *sse);
int s3c_s3_sse_add(const struct s3c_s3_sse *sse, struct s3c_http_headers *headers);
/* Of the reply to a write. When it does not: what it says instead, in ret_why. Engine's thread. */
bool s3c_s3_sse_confirms(struct s3c_s3_sse *sse, enum s3c_store_opcode op,
			 const struct s3c_http_headers *headers, char *ret_why, size_t size);

/* Replies. */
int s3c_s3_parse_time(const char *text, int64_t *ret_ns);
/* From the headers; size is Content-Length. -EPROTO: nonsense. */
int s3c_s3_read_stat(const struct s3c_ssec *ssec, const struct s3c_http_headers *headers,
		     struct s3c_stat *ret_stat);
/* "bytes 2-3/10"; -EPROTO. */
int s3c_s3_parse_range(const char *text, uint64_t *ret_first, uint64_t *ret_last,
		       uint64_t *ret_total);
int s3c_s3_read_list(struct s3c_s3_call *call, const struct s3c_http_reply *http);
int s3c_s3_read_uploads(struct s3c_s3_call *call, const struct s3c_http_reply *http);
int s3c_s3_read_parts(struct s3c_s3_call *call, const struct s3c_http_reply *http);
int s3c_s3_read_deleted(struct s3c_s3_call *call, const struct s3c_http_reply *http);
int s3c_s3_read_upload_id(struct s3c_s3_call *call, const struct s3c_http_reply *http);
/* ETag, time and checksum of the result of COPY, UPLOAD_PART_COPY and COMPLETE. */
int s3c_s3_read_result(struct s3c_s3_call *call, const struct s3c_http_reply *http);

/* Errors. The contract's errno for a reply that is no success. */
int s3c_s3_error(const struct s3c_s3_call *call, const struct s3c_http_reply *http);
int s3c_s3_code_error(const char *code);
const char *s3c_s3_op_name(enum s3c_store_opcode op);
/* Keeps the words of a reply for the message of a later step. */
void s3c_s3_fault(struct s3c_s3_call *call, const struct s3c_http_reply *http, int result);
/* "PUT key: 503 SlowDown: words (request id X)" */
void s3c_s3_describe(const struct s3c_s3_call *call, const struct s3c_http_reply *http, int result,
		     char *ret_text, size_t size);
