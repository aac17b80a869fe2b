/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/secret.h"
#include "http/credentials_private.h"
#include "http/xml.h"

#define ID_MAX 256
#define SECRET_MAX 1024
#define TOKEN_MAX (32u << 10)

static void wiping_free(void *data)
{
	if (data != NULL)
		s3c_wipe(data, malloc_usable_size(data));
	free(data);
}

static void set_json_memory(void)
{
	json_set_alloc_funcs(malloc, wiping_free);
}

void s3c_credential_wipe_json(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, set_json_memory);
}

bool s3c_credential_is_token(const char *text, size_t max)
{
	size_t len = 0;

	for (; text[len] > ' ' && text[len] < 0x7f; len++)
		if (len == max)
			return false;
	return len > 0 && text[len] == '\0';
}

/* Two or four digits at *text, which moves behind them. */
static int take_number(const char **text, unsigned digits, int min, int max, int *ret_value)
{
	int value = 0;

	for (unsigned i = 0; i < digits; i++) {
		if ((*text)[i] < '0' || (*text)[i] > '9')
			return -EINVAL;
		value = value * 10 + ((*text)[i] - '0');
	}
	if (value < min || value > max)
		return -EINVAL;
	*text += digits;
	*ret_value = value;
	return 0;
}

static int take_char(const char **text, char c)
{
	if (**text != c)
		return -EINVAL;
	(*text)++;
	return 0;
}

static int take_date(const char **text, struct tm *tm)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int year, month, day, limit;

	if (take_number(text, 4, 1970, 9999, &year) < 0 || take_char(text, '-') < 0 ||
	    take_number(text, 2, 1, 12, &month) < 0 || take_char(text, '-') < 0 ||
	    take_number(text, 2, 1, 31, &day) < 0)
		return -EINVAL;
	limit = days[month - 1];
	if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
		limit = 29;
	tm->tm_year = year - 1900;
	tm->tm_mon = month - 1;
	tm->tm_mday = day;
	return day <= limit ? 0 : -EINVAL;
}

static int take_zone(const char **text, int *ret_seconds)
{
	int sign = **text == '-' ? -1 : 1;
	int hours, minutes;

	if (take_char(text, 'Z') == 0) {
		*ret_seconds = 0;
		return 0;
	}
	if ((take_char(text, '+') < 0 && take_char(text, '-') < 0) ||
	    take_number(text, 2, 0, 23, &hours) < 0)
		return -EINVAL;
	(void)take_char(text, ':');
	if (take_number(text, 2, 0, 59, &minutes) < 0)
		return -EINVAL;
	*ret_seconds = sign * (hours * 3600 + minutes * 60);
	return 0;
}

int s3c_credential_parse_time(const char *text, int64_t *ret_seconds)
{
	struct tm tm = { 0 };
	int zone;

	if (take_date(&text, &tm) < 0 || take_char(&text, 'T') < 0 ||
	    take_number(&text, 2, 0, 23, &tm.tm_hour) < 0 || take_char(&text, ':') < 0 ||
	    take_number(&text, 2, 0, 59, &tm.tm_min) < 0 || take_char(&text, ':') < 0 ||
	    take_number(&text, 2, 0, 60, &tm.tm_sec) < 0)
		return -EINVAL;
	if (*text == '.') {
		size_t digits = strspn(text + 1, "0123456789");

		if (digits == 0)
			return -EINVAL;
		text += 1 + digits;
	}
	if (take_zone(&text, &zone) < 0 || *text != '\0')
		return -EINVAL;
	*ret_seconds = (int64_t)timegm(&tm) - zone;
	return 0;
}

/* The texts of one answer; borrowed. */
struct fields {
	const char *id, *secret, *token, *expiration;
};

static int refuse(struct s3c_err *err, const char *what, const char *why)
{
	return s3c_err_set(err, -EBADMSG, "%s %s", what, why);
}

/* Checks what came from outside: these end up in headers of requests. */
static int make(const struct fields *fields, const char *what, struct s3c_err *err,
		struct s3c_credential **ret_credential)
{
	int64_t expires = 0;
	int r;

	if (fields->id == NULL || !s3c_credential_is_token(fields->id, ID_MAX))
		return refuse(err, what, "has no usable AccessKeyId");
	if (fields->secret == NULL || !s3c_credential_is_token(fields->secret, SECRET_MAX))
		return refuse(err, what, "has no usable SecretAccessKey");
	if (fields->token != NULL && !s3c_credential_is_token(fields->token, TOKEN_MAX))
		return refuse(err, what, "has a session token that cannot be one");
	if (fields->expiration != NULL &&
	    s3c_credential_parse_time(fields->expiration, &expires) < 0)
		return refuse(err, what,
			      "has an Expiration that is not a time like "
			      "2026-11-24T12:00:00Z");
	r = s3c_credential_new(fields->id, fields->secret, fields->token, ret_credential);
	if (r == 0)
		(*ret_credential)->expires_s = expires;
	return r;
}

/* A member that is absent or null: NULL; of another type: -EBADMSG. */
static int member(const json_t *root, const char *name, const char **ret_text)
{
	const json_t *value = json_object_get(root, name);

	*ret_text = NULL;
	if (value == NULL || json_is_null(value))
		return 0;
	*ret_text = json_string_value(value);
	return *ret_text != NULL ? 0 : -EBADMSG;
}

static int read_json(enum s3c_cred_form form, const json_t *root, const char *what,
		     struct s3c_err *err, struct s3c_credential **ret_credential)
{
	const char *token_name = form == S3C_CRED_PROCESS ? "SessionToken" : "Token";
	const json_t *version = json_object_get(root, "Version");
	struct fields fields;
	const char *code;

	if (!json_is_object(root))
		return refuse(err, what, "is not a JSON object");
	if (form == S3C_CRED_PROCESS &&
	    (!json_is_integer(version) || json_integer_value(version) != 1))
		return refuse(err, what, "is not of \"Version\": 1");
	/* An instance without a usable role answers with status 200 all the same. */
	if (form == S3C_CRED_INSTANCE && member(root, "Code", &code) == 0 && code != NULL &&
	    strcmp(code, "Success") != 0)
		return s3c_err_set(err, -EACCES, "%s is an error: %.60s", what,
				   s3c_credential_is_token(code, 60) ? code : "unknown");
	if (member(root, "AccessKeyId", &fields.id) < 0 ||
	    member(root, "SecretAccessKey", &fields.secret) < 0 ||
	    member(root, token_name, &fields.token) < 0 ||
	    member(root, "Expiration", &fields.expiration) < 0)
		return refuse(err, what, "has a member that is not a text");
	if (form == S3C_CRED_INSTANCE && (fields.token == NULL || fields.expiration == NULL))
		return refuse(err, what, "lacks Token or Expiration");
	return make(&fields, what, err, ret_credential);
}

int s3c_credential_parse_json(enum s3c_cred_form form, const char *text, size_t len,
			      const char *what, struct s3c_err *err,
			      struct s3c_credential **ret_credential)
{
	json_t *root;
	int r;

	s3c_credential_wipe_json();
	if (len > S3C_CRED_TEXT_MAX)
		return refuse(err, what, "is too long");
	/* The library's words about an error would show a piece of the text. */
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (root == NULL)
		return refuse(err, what, "is not JSON");
	r = read_json(form, root, what, err, ret_credential);
	json_decref(root);
	return r;
}

/* Element texts live in the parser only while it is there: copies, in secret memory. */
struct xml_fields {
	char prefix[128]; /* path of <Credentials>, with its slash */
	char *id, *secret, *token, *expiration;
};

static int on_close(void *arg, const char *path, const char *text, size_t len)
{
	struct xml_fields *fields = arg;
	const struct {
		const char *name;
		char **to;
	} known[] = {
		{ "AccessKeyId", &fields->id },
		{ "SecretAccessKey", &fields->secret },
		{ "SessionToken", &fields->token },
		{ "Expiration", &fields->expiration },
	};
	size_t prefix = strlen(fields->prefix);

	(void)len;
	if (strncmp(path, fields->prefix, prefix) != 0)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (strcmp(path + prefix, known[i].name) != 0)
			continue;
		if (*known[i].to != NULL)
			return -EBADMSG;
		*known[i].to = s3c_secret_strdup(text);
		return *known[i].to != NULL ? 0 : -ENOMEM;
	}
	return 0;
}

int s3c_credential_parse_sts(const char *action, const char *text, size_t len, const char *what,
			     struct s3c_err *err, struct s3c_credential **ret_credential)
{
	struct xml_fields xml = { 0 };
	const struct s3c_xml_handler handler = { NULL, on_close, &xml };
	struct fields fields;
	int r;

	if (len > S3C_CRED_TEXT_MAX)
		return refuse(err, what, "is too long");
	snprintf(xml.prefix, sizeof(xml.prefix), "%.40sResponse/%.40sResult/Credentials/", action,
		 action);
	r = s3c_xml_parse_secret(text, len, &handler);
	fields = (struct fields){ xml.id, xml.secret, xml.token, xml.expiration };
	if (r == 0 && (xml.token == NULL || xml.expiration == NULL))
		r = refuse(err, what, "lacks SessionToken or Expiration");
	else if (r == 0)
		r = make(&fields, what, err, ret_credential);
	else if (r != -ENOMEM)
		r = refuse(err, what, "is not what the token service answers");
	s3c_secret_free(xml.id);
	s3c_secret_free(xml.secret);
	s3c_secret_free(xml.token);
	s3c_secret_free(xml.expiration);
	return r;
}

static int read_all(const char *filename, char *to, size_t max, size_t *ret_len)
{
	cleanup_close int fd = open(filename, O_RDONLY | O_CLOEXEC);
	size_t len = 0;

	if (fd < 0)
		return -errno;
	while (len <= max) {
		ssize_t n = read(fd, to + len, max + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			*ret_len = len;
			return 0;
		}
		len += (size_t)n;
	}
	return -EMSGSIZE;
}

int s3c_credential_read_token(const char *filename, const char *what, struct s3c_err *err,
			      char **ret_token)
{
	cleanup_secret char *token = s3c_secret_alloc(S3C_CRED_TEXT_MAX + 1);
	size_t len = 0;
	int r;

	if (token == NULL)
		return -ENOMEM;
	r = read_all(filename, token, S3C_CRED_TEXT_MAX, &len);
	if (r < 0)
		return s3c_err_set(err, r, "%s %s cannot be read: %s", what, filename,
				   strerror(-r));
	while (len > 0 && strchr(" \t\r\n", token[len - 1]) != NULL)
		len--;
	token[len] = '\0';
	if (strlen(token) != len || !s3c_credential_is_token(token, TOKEN_MAX))
		return s3c_err_set(err, -EINVAL, "%s %s holds no token: one word of text", what,
				   filename);
	*ret_token = steal_ptr(token);
	return 0;
}
