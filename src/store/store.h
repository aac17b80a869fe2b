/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The contract of an object store.
 *
 * A store maps keys to objects: a body, user metadata, and properties. Every
 * implementation (S3, a local folder, the fault wrapper) keeps this contract and
 * runs the same suite. Operations are asynchronous: submit, then one callback
 * on a thread of the store, which must not block; s3c_store_X is the blocking
 * form. Instances embed struct s3c_store as their first member.
 *
 * Errors (errno): -ENOENT only for a confirmed absence of the key (or upload:
 * -ENXIO); -ESTALE a precondition failed; -EEXIST If-None-Match failed;
 * -EAGAIN throttled or unavailable to the end of all repeats; -ETIMEDOUT the
 * deadline; -ECONNREFUSED, -EHOSTUNREACH, -ECONNRESET transport; -EACCES denied;
 * -EINTR/-ECANCELED cancelled; -EOPNOTSUPP the store cannot do this;
 * -EKEYREJECTED wrong or missing customer key; of the store's KMS key: -EKEYREVOKED
 * disabled, -EKEYEXPIRED about to be deleted or otherwise not in use, -ENOKEY not found;
 * -EBADE a write was done, and its reply does not confirm the encryption that was asked
 * for; -EINVAL a completion whose parts are not as it says; -EPROTO nonsense; -EIO the rest.
 * A message with the request id is in the reply for the log.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/thread.h"

#define S3C_STORE_KEY_MAX 1024 /* bytes, S3's limit */
#define S3C_STORE_ETAG_MAX 96
#define S3C_STORE_META_MAX 2048       /* bytes of all names and values, S3's limit */
#define S3C_STORE_PART_MIN (5u << 20) /* of every part but the last, S3's limit */

/* User metadata: lower-case names without the x-amz-meta- prefix; ASCII values. */
struct s3c_meta_item {
	char *name;
	char *value;
};
struct s3c_meta {
	struct s3c_meta_item *items;
	size_t count;
};
/* Sets or replaces. */
int s3c_meta_set(struct s3c_meta *meta, const char *name, const char *value);
const char *s3c_meta_get(const struct s3c_meta *meta, const char *name);
void s3c_meta_remove(struct s3c_meta *meta, const char *name);
int s3c_meta_copy(const struct s3c_meta *from, struct s3c_meta *ret_meta);
void s3c_meta_free(struct s3c_meta *meta);
/* Can it be sent? Names of [a-z0-9-], values of printable ASCII without blanks at their ends. */
bool s3c_meta_item_valid(const struct s3c_meta_item *item);
/* Bytes as S3C_STORE_META_MAX counts them. */
size_t s3c_meta_bytes(const struct s3c_meta *meta);

/* Standard headers that are kept with an object, in lower case; NULL ends the list. */
extern const char *const s3c_prop_names[];

/* A customer key for SSE-C: secret memory, owned by the caller of an operation. */
struct s3c_ssec {
	uint8_t key[32];
};

/* Encryption by the store itself, asked for with every object that is written. */
enum s3c_sse { S3C_SSE_NONE, S3C_SSE_S3, S3C_SSE_KMS, S3C_SSE_DSSE };
/* Its value of x-amz-server-side-encryption: "AES256", "aws:kms", "aws:kms:dsse"; none: "". */
const char *s3c_sse_word(enum s3c_sse sse);
struct s3c_stat;
/* Is an object, as a HEAD told, encrypted by the store as asked for? key_id: of a KMS, as in struct
   s3c_store_s3_config; an alias, or NULL, is any. S3C_SSE_NONE: S3's own key, its default, is too.
 */
bool s3c_sse_is(enum s3c_sse sse, const char *key_id, const struct s3c_stat *st);

/* What identifies one version of an object; see "version token" in doc/. */
struct s3c_version {
	char etag[S3C_STORE_ETAG_MAX]; /* with quotes as sent; "" unknown */
	int64_t modified_ns;           /* Last-Modified; 0 unknown */
	char version_id[128];          /* "" none */
};

struct s3c_stat {
	uint64_t size; /* of the stored body */
	struct s3c_version version;
	struct s3c_meta meta;
	/* GET, HEAD: those of s3c_prop_names that the object has, but for a content type that says
	   nothing (application/octet-stream). */
	struct s3c_meta props;
	char content_type[64];
	char sse[16];      /* x-amz-server-side-encryption of the reply, "" none */
	char sse_key[128]; /* its KMS key, cut when it is longer; "" none */
	bool ssec;         /* the reply confirmed customer-key encryption with our key's MD5 */
};
void s3c_stat_free(struct s3c_stat *st);

/* A condition on the present object. At most one of the two. */
struct s3c_condition {
	const char *if_match; /* ETag; NULL: none */
	bool if_none_match;   /* must not exist */
};

/* What a store was seen to honour; filled by s3c_store_probe and remembered by the caller. */
struct s3c_store_caps {
	bool put_if_none_match;
	bool put_if_match;
	bool if_match_bare; /* PUT: the ETag has to be sent without its quotes */
	bool complete_if_none_match;
	bool complete_if_match;
	bool copy_source_if_match;
	bool part_copy_source_if_match;
	bool delete_if_match;
	bool copy_if_none_match; /* COPY: conditions on the target */
	bool copy_if_match;
	bool copy;      /* CopyObject of what this mount writes (with its encryption) works */
	bool part_copy; /* UploadPartCopy likewise */
	bool part_copy_any_key; /* also of a source whose key has a '%'; else -EOPNOTSUPP then */
	bool crc32c;            /* x-amz-checksum-crc32c is checked or at least echoed */
	bool crc64nvme;
};

/* An ETag without its quotes. */
void s3c_etag_bare(const char *etag, char ret_bare[static S3C_STORE_ETAG_MAX]);

enum s3c_store_opcode {
	S3C_STORE_GET,
	S3C_STORE_HEAD,
	S3C_STORE_PUT,
	S3C_STORE_LIST,
	S3C_STORE_COPY,
	S3C_STORE_DELETE,
	S3C_STORE_DELETE_MANY,
	S3C_STORE_LIST_UPLOADS,
	S3C_STORE_UPLOAD_CREATE,
	S3C_STORE_UPLOAD_PART,
	S3C_STORE_UPLOAD_PART_COPY,
	S3C_STORE_UPLOAD_COMPLETE,
	S3C_STORE_UPLOAD_PARTS,
	S3C_STORE_UPLOAD_ABORT,
};

/* Where the body of a GET goes, as it arrives. */
struct s3c_store_sink {
	/* First at every attempt: the position is 0 again. st is valid during the call. total: size
	   of the whole object. offset: where the range begins (for a suffix range: found out). */
	int (*begin)(void *arg, const struct s3c_stat *st, uint64_t offset, uint64_t length,
		     uint64_t total);
	int (*data)(void *arg, const void *data, size_t len);
	void *arg;
};

struct s3c_store_part {
	unsigned number; /* 1..10000 */
	char etag[S3C_STORE_ETAG_MAX];
	char checksum[24]; /* base64, "" none; filled by the store, handed back at complete */
	uint64_t size;     /* UPLOAD_PARTS: bytes */
};

/* Parts that an upload has, each number once: the last that was sent under it. */
struct s3c_part_list {
	struct s3c_store_part *parts; /* ascending; the checksum where the store tells it */
	size_t count;
	unsigned next; /* the part_number to ask with for more; 0: complete */
};
void s3c_part_list_free(struct s3c_part_list *list);

struct s3c_list_entry {
	char *key; /* full key; a common prefix ends in '/' */
	bool is_prefix;
	uint64_t size;
	char etag[S3C_STORE_ETAG_MAX];
	int64_t modified_ns;
};
struct s3c_list {
	struct s3c_list_entry *entries; /* in the store's order: bytes of the key */
	size_t count;
	char *next_token; /* NULL: complete */
};
void s3c_list_free(struct s3c_list *list);

/* Multipart uploads that were begun and neither completed nor aborted. */
struct s3c_upload_item {
	char *key;
	char *id;         /* for the requests of an upload */
	int64_t begun_ns; /* realtime; 0 unknown */
};
struct s3c_upload_list {
	struct s3c_upload_item *items;
	size_t count;
	char *next_token; /* NULL: complete */
};
void s3c_upload_list_free(struct s3c_upload_list *list);

enum s3c_checksum {
	S3C_CHECKSUM_AUTO,
	S3C_CHECKSUM_CRC32C,
	S3C_CHECKSUM_CRC64NVME,
	S3C_CHECKSUM_OFF
};

/*
 * One operation. Strings, metadata, keys and lists are borrowed until the callback has returned;
 * the fields that an operation does not name are ignored.
 */
struct s3c_store_request {
	enum s3c_store_opcode op;
	int64_t deadline_ns; /* monotonic; 0: none */
	bool content;        /* takes a content slot (bodies of files) instead of a metadata slot */
	const char *key;     /* all but LIST, LIST_UPLOADS and DELETE_MANY */
	const struct s3c_ssec *ssec; /* key of the object (target); NULL: none */
	/* HEAD, GET: no other key is tried where several may be (engine/ssec_store.h). */
	bool exact_key;
	/* HEAD: without a key the object may be under one, which the refusal does not tell. */
	bool maybe_ssec;

	/* GET: [offset, offset+length), length at least 1; UINT64_MAX: to the end; or the last
	   suffix bytes.
	   A range past the end gives -ERANGE. An empty object answers begin with length 0 whatever
	   the range (implementations turn 416 into a HEAD when needed). HEAD and GET: if_match. */
	uint64_t offset, length, suffix; /* suffix != 0 wins */
	struct s3c_condition condition;  /* GET, HEAD, PUT, DELETE, COPY (target), COMPLETE */
	struct s3c_store_sink sink;      /* GET */

	/* PUT, UPLOAD_PART: body in memory, unchanged until the callback. */
	const struct iovec *body;
	unsigned body_count;
	bool unchecked; /* UPLOAD_PART: no byte of a file: how it is encrypted does not matter */
	enum s3c_checksum checksum; /* PUT: AUTO (0) as the store is set up; else for this one */
	/* PUT, UPLOAD_CREATE, COPY (replaces the metadata; a copy never keeps the source's). */
	const struct s3c_meta *meta;
	const char *content_type;     /* NULL: application/octet-stream */
	const struct s3c_meta *props; /* of s3c_prop_names; a content type in it goes before. NULL:
					 none */

	/* COPY, UPLOAD_PART_COPY: whole source object or, for parts, [offset, offset+length). */
	const char *source_key;
	const struct s3c_ssec *source_ssec;
	const char *source_if_match; /* ETag; NULL: none */

	/* LIST; of these, LIST_UPLOADS takes prefix and token */
	const char *prefix;
	bool delimiter;          /* stop at '/' after the prefix */
	const char *start_after; /* NULL: from the start */
	const char *token;
	unsigned max_keys; /* 0: 1000 */

	/* DELETE_MANY: at most 1000; a key that is absent counts as deleted. */
	const char *const *keys;
	size_t key_count;

	/* uploads. copies: parts will be copied from other objects, so that no checksum is kept
	   over the whole: not every store tells one for a copied part. */
	bool copies;
	const char *upload_id;
	unsigned part_number;               /* PARTS: those after it; 0: from the first */
	const struct s3c_store_part *parts; /* COMPLETE: ascending */
	size_t part_count;
};

/* Filled as far as the operation and its result give it; valid during the callback. */
struct s3c_store_reply {
	int result;
	struct s3c_stat stat;       /* GET, HEAD; PUT, COPY, COMPLETE: version (and sse, ssec) */
	struct s3c_list list;       /* LIST */
	char *upload_id;            /* UPLOAD_CREATE */
	struct s3c_store_part part; /* UPLOAD_PART, UPLOAD_PART_COPY */
	struct s3c_part_list parts; /* UPLOAD_PARTS: at most 1000 */
	struct s3c_upload_list uploads; /* LIST_UPLOADS */
	bool checksum_confirmed;        /* PUT: a checksum was sent and the reply repeated it */
	/* GET, HEAD: which of several customer keys it was, where one of them was looked for
	   (engine/ssec_store.h) */
	unsigned ssec_index;
	/* With a failure: an earlier attempt was sent, and what became of it is not known. */
	bool repeated;
	/* An attempt was given up without a reply, and may be carried out yet. */
	bool late;
	size_t failed_index; /* DELETE_MANY: first key that failed when result is not 0 */
	char message[512];   /* for the log: code, words, request id; "" on success */
};
/* Frees what a callback (or the blocking form's caller) did not take with steal_ptr. */
void s3c_store_reply_free(struct s3c_store_reply *reply);

typedef void (*s3c_store_done_fn)(void *arg, struct s3c_store_reply *reply);

struct s3c_store;
struct s3c_store_call; /* cancellation handle, reference-counted */
struct s3c_store_ops {
	const char *name; /* "s3", "file", "fault" */
	int (*submit)(struct s3c_store *store, const struct s3c_store_request *request,
		      s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call);
	void (*cancel)(struct s3c_store *store, struct s3c_store_call *call);
	void (*call_put)(struct s3c_store *store, struct s3c_store_call *call);
	void (*free)(struct s3c_store *store);
	void (*refresh)(struct s3c_store *store); /* NULL: there is nothing to read again */
};
struct s3c_store {
	const struct s3c_store_ops *ops;
	struct s3c_store_caps caps; /* conservative until probed; constant while requests run */
	bool tls;         /* the way to the store is encrypted (true for a local folder) */
	enum s3c_sse sse; /* what it is asked to encrypt with; constant */
	/* A write was not confirmed to be encrypted (-EBADE), see s3c_store_perform. */
	atomic_bool distrusted;
	const char
		*identity; /* endpoint|bucket: names the store in local state; owned by the store */
};

/*
 * For implementations that ask outside: counts a request that has ended (base/metrics.h), begun at
 * that monotonic time; received: bytes of its body that came.
 */
void s3c_store_count(const struct s3c_store_request *request, int result, int64_t begun_ns,
		     uint64_t received);

/*
 * The callback comes exactly once unless an error is returned. ret_call may be NULL. Refused at
 * once, before anything is sent: -EINVAL (missing or contradicting fields, metadata that is not
 * printable ASCII), -ENAMETOOLONG (key), -E2BIG (more metadata than S3C_STORE_META_MAX).
 */
int s3c_store_submit(struct s3c_store *store, const struct s3c_store_request *request,
		     s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call);
void s3c_store_cancel(struct s3c_store *store, struct s3c_store_call *call);
void s3c_store_call_put(struct s3c_store *store, struct s3c_store_call *call);
/* Reads credentials again and logs what came of it; may wait for those who give them. Any thread.
 */
void s3c_store_refresh(struct s3c_store *store);
/* Cancels what is under way, waits for the callbacks, frees. NULL is legal. */
void s3c_store_free(struct s3c_store *store);

/*
 * Blocking form. An interruption of op cancels the request: -EINTR. op may be NULL. The caller
 * frees ret_reply in every case. Returns its result.
 *
 * The first -EBADE makes the store distrusted, with one line in the log: it may have replaced an
 * object by one that is not encrypted as asked for, and would do so with the next. From then on
 * whatever changes objects is -EROFS here; reading goes on.
 */
int s3c_store_perform(struct s3c_store *store, const struct s3c_store_request *request,
		      struct s3c_op *op, struct s3c_store_reply *ret_reply);
/* Where a GET that fits into body goes; body stays the caller's and is emptied at each attempt. */
struct s3c_store_sink s3c_store_buf_sink(struct s3c_buf *body);
/* GET into memory of at most max bytes (-EMSGSIZE past it), with the object's stat. */
int s3c_store_get_all(struct s3c_store *store, const char *key, const struct s3c_ssec *ssec,
		      size_t max, struct s3c_op *op, struct s3c_buf *ret_body,
		      struct s3c_stat *ret_stat, char *ret_message, size_t message_size);

/* A folder. S3C_FILE_CREATE makes it when it is missing; S3C_FILE_READ never writes to it. */
enum s3c_file_access { S3C_FILE_READ, S3C_FILE_WRITE, S3C_FILE_CREATE };
int s3c_store_file_new(const char *dir, enum s3c_file_access access, struct s3c_err *err,
		       struct s3c_store **ret_store);

enum s3c_addressing { S3C_ADDRESSING_AUTO, S3C_ADDRESSING_PATH, S3C_ADDRESSING_VIRTUAL };
struct s3c_store_s3_config {
	const char *bucket;
	const char *endpoint; /* NULL: the vendor's */
	const char *region;   /* NULL: from the environment, the profile, or replies */
	const char *profile;
	const char *ca_file;
	enum s3c_addressing addressing;
	enum s3c_checksum checksum; /* AUTO: crc32c where the probe saw it honoured */
	bool allow_http;
	bool requester_pays;
	const char *storage_class;
	enum s3c_sse sse;
	const char *sse_key_id;  /* KMS modes: id, ARN or alias; NULL: the account's key for S3 */
	const char *sse_context; /* KMS modes: the encryption context, a JSON object; NULL: none */
	bool sse_bucket_key;     /* S3C_SSE_KMS */
	unsigned parallel;       /* content transfers at once */
	unsigned retries;        /* repeats of one request; UINT_MAX: its deadline decides */
};
int s3c_store_s3_new(const struct s3c_store_s3_config *config, struct s3c_err *err,
		     struct s3c_store **ret_store);

/*
 * Wraps a store (owned from then on) and injects faults, for tests: see store/fault.h.
 */

/*
 * Finds out what the store honours by writing, copying and deleting objects under
 * PREFIX.s3cryptfs/probe-RANDOM..., encrypted with ssec when given; removes them again; stores the
 * result in store->caps. Each condition is tried with a right and a wrong ETag. With ssec it also
 * reads its object back without a key and with a wrong one and wants to be refused; with store->sse
 * the replies of reading, of a copy and of an upload have to name it, too: -EOPNOTSUPP or -EBADE
 * with a sentence when the store does not really encrypt. Other errors: the first request's, as a
 * sentence (credentials, bucket, region, network, certificate, keys) with its remedy.
 */
int s3c_store_probe(struct s3c_store *store, const char *prefix, const struct s3c_ssec *ssec,
		    int64_t deadline_ns, struct s3c_err *err);
/* For a read-only mount: one LIST with max_keys 1, the same sentences. caps stay conservative. */
int s3c_store_probe_read(struct s3c_store *store, const char *prefix, int64_t deadline_ns,
			 struct s3c_err *err);
/* A sentence for a failed request of the mount (cause and remedy), from result and message. */
int s3c_store_explain(struct s3c_store *store, int result, const char *message,
		      struct s3c_err *err);
