/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the credentials share. Private to src/http/.
 *
 *   credentials.c            one set; environment and files; opening
 *   credentials_chain.c      the order, and who is asked for a source profile
 *   credentials_refresh.c    the present set, single flight, the thread that is ahead
 *   credentials_reply.c      what programs and services answer
 *   credentials_fetch.c      one bounded request over HTTP
 *   credentials_sts.c        roles and web identities
 *   credentials_container.c  ECS, EKS
 *   credentials_imds.c       EC2
 *   credentials_process.c    a program
 */
#pragma once

#include "base/thread.h"
#include "http/credentials.h"
#include "http/http.h"
#include "http/profile.h"

/* Of any answer, and of token files. With the NUL it fills a piece of the secret arena. */
#define S3C_CRED_TEXT_MAX ((64u << 10) - 1)

struct s3c_credentials {
	/* Constant. */
	char *profile;        /* as named by the caller; NULL: by the environment */
	char *region;         /* of environment or profile; NULL: none */
	char *default_region; /* the caller's */
	char *ca_file;
	struct s3c_profile_file endpoints; /* by service ("s3"), "" for all services */
	bool fixed;                        /* one set for ever: nothing is ever loaded */

	pthread_t thread;
	struct {
		struct s3c_mutex lock;
		struct s3c_credential *current;
		struct s3c_waitq changed; /* a load has ended, or stopping */
		bool has_thread;
		bool stopping;
		bool loading;
		uint64_t loads;         /* that have ended */
		struct s3c_op op;       /* of the load under way; valid while loading */
		unsigned failures;      /* in a row */
		bool told_ended;        /* of these failures: that the set has ended was logged */
		int result;             /* of the last load */
		struct s3c_err err;     /* its sentence */
		int64_t quiet_until_ns; /* monotonic: replace gives result until then */
		int64_t due_s;          /* by the issuer's clock: the next load ahead; INT64_MAX */
	} synced;
};

/* What one load looks at: read anew each time. */
struct s3c_cred_sources {
	struct s3c_credentials *owner;
	struct s3c_op *op; /* bounds the load; NULL: nothing does */
	const char
		*renewed; /* the source of the set that is to be replaced; NULL: the first load */
	const char *profile;   /* the one that is looked at */
	char *config_section;  /* of it: "default" or "profile NAME" */
	bool explicit_profile; /* named by the caller: the environment's keys do not count */
	bool use_env;          /* the environment's web identity counts */
	const struct s3c_cred_sources *parent; /* whose source profile this is */
	/* Borrowed from the parent where there is one. */
	char *credentials_path;
	char *config_path;
	struct s3c_profile_file credentials;
	struct s3c_profile_file config;
	char note[256]; /* why the last links of the chain had nothing, for the final sentence */
};

/*
 * One link of the chain. -ENODATA: nothing here, ask the next; any other error ends the search
 * with the sentence in err.
 */
typedef int (*s3c_cred_load_fn)(struct s3c_cred_sources *sources, struct s3c_err *err,
				struct s3c_credential **ret_credential);
int s3c_cred_load_environment(struct s3c_cred_sources *sources, struct s3c_err *err,
			      struct s3c_credential **ret_credential);
int s3c_cred_load_role(struct s3c_cred_sources *sources, struct s3c_err *err,
		       struct s3c_credential **ret_credential);
int s3c_cred_load_web_identity(struct s3c_cred_sources *sources, struct s3c_err *err,
			       struct s3c_credential **ret_credential);
int s3c_cred_load_credentials_file(struct s3c_cred_sources *sources, struct s3c_err *err,
				   struct s3c_credential **ret_credential);
int s3c_cred_load_process(struct s3c_cred_sources *sources, struct s3c_err *err,
			  struct s3c_credential **ret_credential);
int s3c_cred_load_config_file(struct s3c_cred_sources *sources, struct s3c_err *err,
			      struct s3c_credential **ret_credential);
int s3c_cred_load_container(struct s3c_cred_sources *sources, struct s3c_err *err,
			    struct s3c_credential **ret_credential);
int s3c_cred_load_instance(struct s3c_cred_sources *sources, struct s3c_err *err,
			   struct s3c_credential **ret_credential);
/* The whole chain. */
int s3c_cred_load(struct s3c_cred_sources *sources, struct s3c_err *err,
		  struct s3c_credential **ret_credential);
/* What a role of sources is assumed with: source_profile or credential_source. */
int s3c_cred_load_base(struct s3c_cred_sources *sources, struct s3c_err *err,
		       struct s3c_credential **ret_credential);

/* The environment's value; NULL: unset or empty. */
const char *s3c_cred_env(const char *name);
/* The profile's value; the credentials file wins over the config file. NULL: none. */
const char *s3c_cred_value(const struct s3c_cred_sources *sources, const char *name);
/* Whether files have the profile that is looked at. */
bool s3c_cred_has_profile(const struct s3c_cred_sources *sources);
/* Zero-initialised; profile NULL: the environment's. What is there is freed by _close also after
 * a failure. */
int s3c_cred_sources_open(struct s3c_cred_sources *sources, const char *profile,
			  struct s3c_err *err);
void s3c_cred_sources_close(struct s3c_cred_sources *sources);
#define cleanup_cred_sources __attribute__((cleanup(s3c_cred_sources_close)))
/* For the source profile of parent: the same files, another profile; closed by _close as well. */
int s3c_cred_sources_open_inner(struct s3c_cred_sources *sources,
				const struct s3c_cred_sources *parent, const char *profile);

int s3c_credential_new(const char *id, const char *secret, const char *token,
		       struct s3c_credential **ret_credential);
/* Credentials that are this set for ever; they take a reference. NULL: no memory. */
struct s3c_credentials *s3c_credentials_new_fixed(struct s3c_credential *credential);

/* credentials_refresh.c */
void s3c_credentials_init_synced(struct s3c_credentials *credentials);
/* Joins the thread; releases the set. */
void s3c_credentials_destroy_synced(struct s3c_credentials *credentials);
/* How long to wait before the next load: left_s before the end, after so many failures in a row. */
int64_t s3c_credentials_wait_s(int64_t left_s, unsigned failures);

/*
 * credentials_reply.c: what a program or a service prints. Grammars:
 *
 *   process    {"Version": 1, "AccessKeyId": s, "SecretAccessKey": s, ["SessionToken": s,]
 *               ["Expiration": time]}
 *   container  {"AccessKeyId": s, "SecretAccessKey": s, ["Token": s,] ["Expiration": time]}
 *   instance   the same with all four, and "Code": "Success" where there is one
 *   sts        ActionResponse/ActionResult/Credentials/{AccessKeyId, SecretAccessKey,
 *               SessionToken, Expiration}
 *   time       YYYY-MM-DDThh:mm:ss[.fraction](Z|+hh:mm|-hh:mm|+hhmm|-hhmm)
 *
 * -EBADMSG with a sentence that begins with what and shows nothing of the text.
 */
enum s3c_cred_form { S3C_CRED_PROCESS, S3C_CRED_CONTAINER, S3C_CRED_INSTANCE };
int s3c_credential_parse_json(enum s3c_cred_form form, const char *text, size_t len,
			      const char *what, struct s3c_err *err,
			      struct s3c_credential **ret_credential);
/* action: "AssumeRole". */
int s3c_credential_parse_sts(const char *action, const char *text, size_t len, const char *what,
			     struct s3c_err *err, struct s3c_credential **ret_credential);
int s3c_credential_parse_time(const char *text, int64_t *ret_seconds);
/* What is freed by the JSON library is wiped from now on. */
void s3c_credential_wipe_json(void);
/* A token's or a password's text: printable ASCII without blanks, 1 to max bytes. */
bool s3c_credential_is_token(const char *text, size_t max);
/* Such a text from a file, in secret memory; blanks and line breaks at its end are cut off. */
int s3c_credential_read_token(const char *filename, const char *what, struct s3c_err *err,
			      char **ret_token);

/* credentials_fetch.c */
struct s3c_cred_request {
	const char *service;           /* "sts", "http" */
	const char *endpoint;          /* URL; NULL: the vendor's for the region */
	const char *region;            /* NULL: us-east-1 */
	struct s3c_credential *signer; /* NULL: not signed */
	const char *method;
	const char *path;
	struct s3c_http_headers query;
	struct s3c_http_headers headers;
	const char *body; /* NULL: none */
	size_t body_len;
	unsigned attempts;
	int64_t timeout_ns; /* of one attempt */
};
struct s3c_cred_reply {
	int status; /* 0: none arrived */
	char *text; /* of a 2xx, in secret memory, NUL-terminated */
	size_t len;
	int64_t clock_offset; /* by the Date header; 0 when there is none */
	char error_code[64];
	char words[320]; /* what went wrong, for a sentence; "" when the status is 2xx */
};
/*
 * Repeats faults (no connection, 5xx, throttling) a second apart. 0: a final status is there; else
 * -errno of the transport, -EMSGSIZE for too long an answer, -EINTR, -EINVAL with the sentence in
 * err for what cannot be sent. Never follows a redirect, never uses a proxy.
 */
int s3c_cred_fetch(struct s3c_cred_sources *sources, const struct s3c_cred_request *request,
		   struct s3c_err *err, struct s3c_cred_reply *ret_reply);
/* The same for a request whose answer has to be a 2xx: anything else sets the sentence
 * "WHAT at PLACE ...", -EACCES for a 4xx, -EAGAIN for a 5xx. */
int s3c_cred_fetch_good(struct s3c_cred_sources *sources, const struct s3c_cred_request *request,
			const char *what, struct s3c_err *err, struct s3c_cred_reply *ret_reply);
void s3c_cred_reply_free(struct s3c_cred_reply *reply);
#define cleanup_cred_reply __attribute__((cleanup(s3c_cred_reply_free)))
