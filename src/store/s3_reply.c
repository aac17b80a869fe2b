/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/encode.h"
#include "http/xml.h"
#include "store/s3_private.h"

#define META_HEADER "x-amz-meta-"
#define PROPS_MAX 6144u
#define LIST_MAX 2000 /* entries of one page: 1,000 were asked for */

static bool digits(const char **p, unsigned count, int *ret_value)
{
	int value = 0;

	for (unsigned i = 0; i < count; i++, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		value = value * 10 + (**p - '0');
	}
	*ret_value = value;
	return true;
}

static bool literal(const char **p, const char *text)
{
	size_t len = strlen(text);

	if (strncmp(*p, text, len) != 0)
		return false;
	*p += len;
	return true;
}

/* "2026-11-23T20:39:00.123Z"; the fraction may have up to nine digits. */
static bool parse_iso(const char *p, struct tm *tm, int64_t *ret_fraction)
{
	int64_t scale = S3C_NSEC_PER_SEC;

	if (!digits(&p, 4, &tm->tm_year) || !literal(&p, "-") || !digits(&p, 2, &tm->tm_mon) ||
	    !literal(&p, "-") || !digits(&p, 2, &tm->tm_mday) || !literal(&p, "T") ||
	    !digits(&p, 2, &tm->tm_hour) || !literal(&p, ":") || !digits(&p, 2, &tm->tm_min) ||
	    !literal(&p, ":") || !digits(&p, 2, &tm->tm_sec))
		return false;
	tm->tm_mon--;
	*ret_fraction = 0;
	if (literal(&p, "."))
		for (; *p >= '0' && *p <= '9'; p++) {
			scale /= 10;
			*ret_fraction += (*p - '0') * scale;
		}
	return literal(&p, "Z") && !*p;
}

/* "Mon, 23 Nov 2026 20:39:00 GMT" (RFC 9110, IMF-fixdate); not strptime, which has a locale. */
static bool parse_http(const char *p, struct tm *tm)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	p = strchr(p, ',');
	if (!p)
		return false;
	p++;
	if (!literal(&p, " ") || !digits(&p, 2, &tm->tm_mday) || !literal(&p, " "))
		return false;
	for (tm->tm_mon = 0; tm->tm_mon < 12; tm->tm_mon++)
		if (strncmp(p, months + 3 * tm->tm_mon, 3) == 0)
			break;
	if (tm->tm_mon == 12)
		return false;
	p += 3;
	return literal(&p, " ") && digits(&p, 4, &tm->tm_year) && literal(&p, " ") &&
	       digits(&p, 2, &tm->tm_hour) && literal(&p, ":") && digits(&p, 2, &tm->tm_min) &&
	       literal(&p, ":") && digits(&p, 2, &tm->tm_sec) && literal(&p, " GMT");
}

int s3c_s3_parse_time(const char *text, int64_t *ret_ns)
{
	struct tm tm = { 0 };
	int64_t fraction = 0;
	int64_t seconds;

	if (!parse_iso(text, &tm, &fraction)) {
		tm = (struct tm){ 0 };
		fraction = 0;
		if (!parse_http(text, &tm))
			return -EPROTO;
	}
	/* Bounded, so that nanoseconds fit: 1970 to 2199. */
	if (tm.tm_year < 1970 || tm.tm_year > 2199 || tm.tm_mon < 0 || tm.tm_mon > 11 ||
	    tm.tm_mday < 1 || tm.tm_mday > 31)
		return -EPROTO;
	tm.tm_year -= 1900;
	seconds = timegm(&tm);
	*ret_ns = seconds * S3C_NSEC_PER_SEC + fraction;
	return 0;
}

int s3c_s3_parse_range(const char *text, uint64_t *ret_first, uint64_t *ret_last,
		       uint64_t *ret_total)
{
	uint64_t first, last, total;
	int end = 0;

	if (sscanf(text, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64 "%n", &first, &last, &total,
		   &end) != 3 ||
	    text[end] || strchr(text + 6, '+') || first > last || last >= total)
		return -EPROTO;
	*ret_first = first;
	*ret_last = last;
	*ret_total = total;
	return 0;
}

static int take(const char *text, char *ret_field, size_t size)
{
	if (!text)
		text = "";
	if (strlen(text) >= size)
		return -EPROTO;
	strcpy(ret_field, text);
	return 0;
}

/* Some servers leave the quotes away in XML; a condition wants what the headers say. */
static int take_etag(const char *text, char *ret_etag)
{
	const char *quote = !text[0] || text[0] == '"' || text[0] == 'W' ? "" : "\"";

	if (strlen(text) + 2 >= S3C_STORE_ETAG_MAX)
		return -EPROTO;
	snprintf(ret_etag, S3C_STORE_ETAG_MAX, "%s%s%s", quote, text, quote);
	return 0;
}

static int read_meta(const struct s3c_http_headers *headers, struct s3c_meta *meta)
{
	size_t prefix = strlen(META_HEADER);

	for (size_t i = 0; i < headers->count; i++) {
		cleanup_free char *name = NULL;
		int r;

		if (strncasecmp(headers->items[i].name, META_HEADER, prefix) != 0)
			continue;
		name = strdup(headers->items[i].name + prefix);
		if (!name)
			return -ENOMEM;
		for (char *p = name; *p; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p - 'A' + 'a');
		r = s3c_meta_set(meta, name, headers->items[i].value);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Some servers keep how a body was sent as if it were a property of the object. */
static const char *without_chunked(const char *encoding)
{
	size_t len = strlen("aws-chunked");

	if (strncasecmp(encoding, "aws-chunked", len) != 0)
		return encoding;
	encoding += len;
	return encoding + strspn(encoding, ", ");
}

static int read_props(const struct s3c_http_headers *headers, struct s3c_meta *props)
{
	size_t bytes = 0;

	for (const char *const *name = s3c_prop_names; *name; name++) {
		const char *value = s3c_http_headers_get(headers, *name);
		int r;

		if (value && strcmp(*name, "content-encoding") == 0)
			value = without_chunked(value);
		if (!value || !*value || strcmp(value, "application/octet-stream") == 0)
			continue;
		/* S3 takes no more headers than 8 KB: what is longer cannot be sent again. */
		bytes += strlen(value);
		if (bytes > PROPS_MAX)
			break;
		r = s3c_meta_set(props, *name, value);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool confirms_key(const struct s3c_ssec *ssec, const struct s3c_http_headers *headers)
{
	const char *algorithm = s3c_http_headers_get(headers, S3C_S3_SSEC_ALGORITHM);
	const char *md5 = s3c_http_headers_get(headers, S3C_S3_SSEC_MD5);
	char ours[25];

	if (!ssec || !algorithm || !md5 || s3c_s3_key_md5(ssec, ours) < 0)
		return false;
	return strcmp(algorithm, "AES256") == 0 && strcmp(md5, ours) == 0;
}

int s3c_s3_read_stat(const struct s3c_ssec *ssec, const struct s3c_http_headers *headers,
		     struct s3c_stat *ret_stat)
{
	const char *length = s3c_http_headers_get(headers, "Content-Length");
	const char *modified = s3c_http_headers_get(headers, "Last-Modified");
	const char *type = s3c_http_headers_get(headers, "Content-Type");
	const char *key;
	struct s3c_stat st = { 0 };
	int r = 0;

	if (length)
		r = s3c_parse_u64(length, INT64_MAX, &st.size) < 0 ? -EPROTO : 0;
	if (r == 0 && modified)
		r = s3c_s3_parse_time(modified, &st.version.modified_ns);
	if (r == 0)
		r = take(s3c_http_headers_get(headers, "ETag"), st.version.etag,
			 sizeof(st.version.etag));
	if (r == 0)
		r = take(s3c_http_headers_get(headers, "x-amz-version-id"), st.version.version_id,
			 sizeof(st.version.version_id));
	if (r == 0)
		r = take(s3c_http_headers_get(headers, "x-amz-server-side-encryption"), st.sse,
			 sizeof(st.sse));
	key = s3c_http_headers_get(headers, "x-amz-server-side-encryption-aws-kms-key-id");
	snprintf(st.sse_key, sizeof(st.sse_key), "%s", key ? key : "");
	/* Other tools may set any; nothing depends on the end of a long one. */
	snprintf(st.content_type, sizeof(st.content_type), "%s", type ? type : "");
	if (r == 0)
		r = read_meta(headers, &st.meta);
	if (r == 0)
		r = read_props(headers, &st.props);
	st.ssec = confirms_key(ssec, headers);
	if (r < 0) {
		s3c_stat_free(&st);
		return r;
	}
	*ret_stat = st;
	return 0;
}

struct list_state {
	struct s3c_s3_call *call;
	struct s3c_list *list;
	size_t alloc;
	bool url_encoded; /* may come after the entries: they are decoded at the end */
	bool truncated;
	bool found; /* the document is a list: anything else would read as an empty folder */
};

static int list_open(void *arg, const char *path)
{
	struct list_state *state = arg;
	struct s3c_list *list = state->list;
	bool is_prefix = strcmp(path, "ListBucketResult/CommonPrefixes") == 0;

	if (strcmp(path, "ListBucketResult") == 0)
		state->found = true;
	if (!is_prefix && strcmp(path, "ListBucketResult/Contents") != 0)
		return 0;
	if (list->count >= LIST_MAX)
		return -EPROTO;
	if (list->count == state->alloc) {
		size_t alloc = state->alloc ? state->alloc * 2 : 64;
		struct s3c_list_entry *entries =
			reallocarray(list->entries, alloc, sizeof(*entries));

		if (!entries)
			return -ENOMEM;
		list->entries = entries;
		state->alloc = alloc;
	}
	list->entries[list->count++] = (struct s3c_list_entry){ .is_prefix = is_prefix };
	return 0;
}

static int set_key(struct s3c_list_entry *entry, const char *text, size_t len)
{
	if (entry->key || strlen(text) != len)
		return -EPROTO;
	entry->key = strdup(text);
	return entry->key ? 0 : -ENOMEM;
}

static int list_close(void *arg, const char *path, const char *text, size_t len)
{
	struct list_state *state = arg;
	struct s3c_list *list = state->list;
	struct s3c_list_entry *entry = list->count ? &list->entries[list->count - 1] : NULL;
	const char *name = path + strlen("ListBucketResult/");

	if (strncmp(path, "ListBucketResult/", strlen("ListBucketResult/")) != 0)
		return 0;
	if (strcmp(name, "EncodingType") == 0)
		state->url_encoded = strcmp(text, "url") == 0;
	else if (strcmp(name, "IsTruncated") == 0)
		state->truncated = strcmp(text, "true") == 0;
	if (strcmp(name, "NextContinuationToken") == 0 && len) {
		free(list->next_token);
		list->next_token = strdup(text);
		return list->next_token ? 0 : -ENOMEM;
	}
	if (!entry)
		return 0;
	if (strcmp(name, "Contents/Key") == 0 || strcmp(name, "CommonPrefixes/Prefix") == 0)
		return set_key(entry, text, len);
	if (strcmp(name, "Contents/Size") == 0)
		return s3c_parse_u64(text, INT64_MAX, &entry->size) < 0 ? -EPROTO : 0;
	if (strcmp(name, "Contents/ETag") == 0)
		return take_etag(text, entry->etag);
	if (strcmp(name, "Contents/LastModified") == 0)
		return s3c_s3_parse_time(text, &entry->modified_ns);
	return 0;
}

/* S3 writes a blank as '+', and '+' as %2B. */
static int decode_key(char **text)
{
	cleanup_buf struct s3c_buf key = { .max = 16 * S3C_STORE_KEY_MAX };
	char *copy;

	for (char *p = *text; *p; p++)
		if (*p == '+')
			*p = ' ';
	if (s3c_uri_decode(&key, *text, strlen(*text)) < 0)
		return -EPROTO;
	if (!key.len || strlen(key.data) != key.len)
		return -EPROTO;
	copy = s3c_buf_steal(&key);
	if (!copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

static int compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct s3c_list_entry *)a)->key,
		      ((const struct s3c_list_entry *)b)->key);
}

static int check_entries(struct list_state *state)
{
	const char *prefix = state->call->rq.prefix ? state->call->rq.prefix : "";
	struct s3c_list *list = state->list;

	if (!state->found)
		return -EPROTO;
	for (size_t i = 0; i < list->count; i++) {
		struct s3c_list_entry *entry = &list->entries[i];
		int r = entry->key ? 0 : -EPROTO;

		if (r == 0 && state->url_encoded)
			r = decode_key(&entry->key);
		if (r < 0)
			return r;
		if (strncmp(entry->key, prefix, strlen(prefix)) != 0)
			return -EPROTO;
	}
	/* Objects and prefixes come apart. */
	if (list->count)
		qsort(list->entries, list->count, sizeof(*list->entries), compare_entries);
	if (state->truncated)
		return list->next_token ? 0 : -EPROTO;
	free(list->next_token);
	list->next_token = NULL;
	return 0;
}

/* Parses a reply's body; what is not well-formed is nonsense. */
static int parse(const struct s3c_http_reply *http, const struct s3c_xml_handler *handler)
{
	int r = s3c_xml_parse(http->body.data ? http->body.data : "", http->body.len, handler);

	return r == -EBADMSG || r == -EMSGSIZE ? -EPROTO : r;
}

int s3c_s3_read_list(struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	struct list_state state = { .call = call, .list = &call->reply.list };
	const struct s3c_xml_handler handler = { list_open, list_close, &state };
	int r = parse(http, &handler);

	if (r == 0)
		r = check_entries(&state);
	if (r < 0)
		s3c_list_free(&call->reply.list);
	return r;
}

struct uploads_state {
	struct s3c_s3_call *call;
	struct s3c_upload_list *list;
	size_t alloc;
	char *next_key, *next_id;
	bool url_encoded, truncated, found;
};

static int uploads_open(void *arg, const char *path)
{
	struct uploads_state *state = arg;
	struct s3c_upload_list *list = state->list;

	if (strcmp(path, "ListMultipartUploadsResult") == 0)
		state->found = true;
	if (strcmp(path, "ListMultipartUploadsResult/Upload") != 0)
		return 0;
	if (list->count >= LIST_MAX)
		return -EPROTO;
	if (list->count == state->alloc) {
		size_t alloc = state->alloc ? state->alloc * 2 : 64;
		struct s3c_upload_item *items = reallocarray(list->items, alloc, sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		state->alloc = alloc;
	}
	list->items[list->count++] = (struct s3c_upload_item){ 0 };
	return 0;
}

static int set_text(char **field, const char *text, size_t len)
{
	if (*field || strlen(text) != len)
		return -EPROTO;
	*field = strdup(text);
	return *field ? 0 : -ENOMEM;
}

static int uploads_close(void *arg, const char *path, const char *text, size_t len)
{
	struct uploads_state *state = arg;
	struct s3c_upload_list *list = state->list;
	struct s3c_upload_item *item = list->count ? &list->items[list->count - 1] : NULL;
	const char *name = path + strlen("ListMultipartUploadsResult/");

	if (strncmp(path, "ListMultipartUploadsResult/", strlen("ListMultipartUploadsResult/")) !=
	    0)
		return 0;
	if (strcmp(name, "EncodingType") == 0)
		state->url_encoded = strcmp(text, "url") == 0;
	else if (strcmp(name, "IsTruncated") == 0)
		state->truncated = strcmp(text, "true") == 0;
	if (strcmp(name, "NextKeyMarker") == 0 && len)
		return set_text(&state->next_key, text, len);
	if (strcmp(name, "NextUploadIdMarker") == 0 && len)
		return set_text(&state->next_id, text, len);
	if (!item)
		return 0;
	if (strcmp(name, "Upload/Key") == 0)
		return set_text(&item->key, text, len);
	if (strcmp(name, "Upload/UploadId") == 0)
		return set_text(&item->id, text, len);
	if (strcmp(name, "Upload/Initiated") == 0)
		return s3c_s3_parse_time(text, &item->begun_ns);
	return 0;
}

/* Some servers list those of other prefixes too: they are left out. */
static int check_uploads(struct uploads_state *state)
{
	const char *prefix = state->call->rq.prefix ? state->call->rq.prefix : "";
	struct s3c_upload_list *list = state->list;
	size_t kept = 0;
	int r = state->found ? 0 : -EPROTO;

	for (size_t i = 0; r == 0 && i < list->count; i++) {
		struct s3c_upload_item *item = &list->items[i];

		if (!item->key || !item->id || !item->id[0])
			r = -EPROTO;
		if (r == 0 && state->url_encoded)
			r = decode_key(&item->key);
	}
	if (r == 0 && state->next_key && state->url_encoded)
		r = decode_key(&state->next_key);
	if (r < 0 || (state->truncated && !state->next_key))
		return r < 0 ? r : -EPROTO;
	for (size_t i = 0; i < list->count; i++) {
		struct s3c_upload_item item = list->items[i];

		if (strncmp(item.key, prefix, strlen(prefix)) == 0) {
			list->items[kept++] = item;
		} else {
			free(item.key);
			free(item.id);
		}
	}
	list->count = kept;
	if (state->truncated)
		list->next_token = s3c_asprintf("%s\n%s", state->next_id ? state->next_id : "",
						state->next_key);
	return !state->truncated || list->next_token ? 0 : -ENOMEM;
}

int s3c_s3_read_uploads(struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	struct uploads_state state = { .call = call, .list = &call->reply.uploads };
	const struct s3c_xml_handler handler = { uploads_open, uploads_close, &state };
	int r = parse(http, &handler);

	if (r == 0)
		r = check_uploads(&state);
	if (r == 0 && state.truncated && call->rq.token &&
	    strcmp(call->rq.token, call->reply.uploads.next_token) == 0)
		r = -EPROTO; /* it would be asked for ever */
	free(state.next_key);
	free(state.next_id);
	if (r < 0)
		s3c_upload_list_free(&call->reply.uploads);
	return r;
}

struct parts_state {
	struct s3c_s3_call *call;
	struct s3c_part_list *list;
	size_t alloc;
	unsigned next;
	bool truncated, found;
};

static int parts_open(void *arg, const char *path)
{
	struct parts_state *state = arg;
	struct s3c_part_list *list = state->list;

	if (strcmp(path, "ListPartsResult") == 0)
		state->found = true;
	if (strcmp(path, "ListPartsResult/Part") != 0)
		return 0;
	if (list->count >= LIST_MAX)
		return -EPROTO;
	if (list->count == state->alloc) {
		size_t alloc = state->alloc ? state->alloc * 2 : 64;
		struct s3c_store_part *parts = reallocarray(list->parts, alloc, sizeof(*parts));

		if (!parts)
			return -ENOMEM;
		list->parts = parts;
		state->alloc = alloc;
	}
	list->parts[list->count++] = (struct s3c_store_part){ 0 };
	return 0;
}

static int take_number(const char *text, unsigned *ret_number)
{
	uint64_t number;

	if (s3c_parse_u64(text, 10000, &number) < 0)
		return -EPROTO;
	*ret_number = (unsigned)number;
	return 0;
}

static int parts_close(void *arg, const char *path, const char *text, size_t len)
{
	struct parts_state *state = arg;
	struct s3c_part_list *list = state->list;
	struct s3c_store_part *part = list->count ? &list->parts[list->count - 1] : NULL;
	const char *name = path + strlen("ListPartsResult/");

	if (strncmp(path, "ListPartsResult/", strlen("ListPartsResult/")) != 0)
		return 0;
	if (strcmp(name, "IsTruncated") == 0)
		state->truncated = strcmp(text, "true") == 0;
	if (strcmp(name, "NextPartNumberMarker") == 0 && len)
		return take_number(text, &state->next);
	if (!part)
		return 0;
	if (strcmp(name, "Part/PartNumber") == 0)
		return take_number(text, &part->number);
	if (strcmp(name, "Part/Size") == 0)
		return s3c_parse_u64(text, INT64_MAX, &part->size) < 0 ? -EPROTO : 0;
	if (strcmp(name, "Part/ETag") == 0)
		return take_etag(text, part->etag);
	if (strcmp(name, "Part/ChecksumCRC32C") == 0 || strcmp(name, "Part/ChecksumCRC64NVME") == 0)
		return take(text, part->checksum, sizeof(part->checksum));
	return 0;
}

static int check_parts(const struct parts_state *state)
{
	const struct s3c_part_list *list = state->list;
	unsigned last = state->call->rq.part_number;

	if (!state->found)
		return -EPROTO;
	for (size_t i = 0; i < list->count; i++) {
		if (list->parts[i].number <= last)
			return -EPROTO;
		last = list->parts[i].number;
	}
	/* One that does not get ahead would be asked for ever. */
	return state->truncated && (!list->count || state->next < last) ? -EPROTO : 0;
}

int s3c_s3_read_parts(struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	struct parts_state state = { .call = call, .list = &call->reply.parts };
	const struct s3c_xml_handler handler = { parts_open, parts_close, &state };
	int r = parse(http, &handler);

	if (r == 0)
		r = check_parts(&state);
	if (r < 0)
		s3c_part_list_free(&call->reply.parts);
	else if (state.truncated)
		call->reply.parts.next = state.next;
	return r;
}

struct deleted_state {
	struct s3c_s3_call *call;
	char *key;
	char code[64];
	char message[160];
	size_t first; /* index of the first that failed; SIZE_MAX: none */
	int result;
	bool found;
};

static size_t index_of(const struct s3c_s3_call *call, const char *key)
{
	for (size_t i = 0; i < call->rq.key_count; i++)
		if (strcmp(call->rq.keys[i], key) == 0)
			return i;
	return 0; /* it says something failed, and not what: begin again from the first */
}

static int deleted_open(void *arg, const char *path)
{
	struct deleted_state *state = arg;

	state->found |= strcmp(path, "DeleteResult") == 0;
	if (strcmp(path, "DeleteResult/Error") == 0) {
		free(state->key);
		state->key = NULL;
		state->code[0] = state->message[0] = '\0';
	}
	return 0;
}

static int deleted_close(void *arg, const char *path, const char *text, size_t len)
{
	struct deleted_state *state = arg;
	size_t index;

	(void)len;
	if (strcmp(path, "DeleteResult/Error/Key") == 0) {
		free(state->key);
		state->key = strdup(text);
		return state->key ? 0 : -ENOMEM;
	}
	if (strcmp(path, "DeleteResult/Error/Code") == 0)
		snprintf(state->code, sizeof(state->code), "%s", text);
	if (strcmp(path, "DeleteResult/Error/Message") == 0)
		snprintf(state->message, sizeof(state->message), "%s", text);
	if (strcmp(path, "DeleteResult/Error") != 0 || strcmp(state->code, "NoSuchKey") == 0)
		return 0;
	index = index_of(state->call, state->key ? state->key : "");
	if (index < state->first) {
		state->first = index;
		state->result = s3c_s3_code_error(state->code);
		snprintf(state->call->fault, sizeof(state->call->fault), "%s: %.80s", state->code,
			 state->message);
	}
	return 0;
}

int s3c_s3_read_deleted(struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	struct deleted_state state = { .call = call, .first = SIZE_MAX };
	const struct s3c_xml_handler handler = { deleted_open, deleted_close, &state };
	int r = parse(http, &handler);

	free(state.key);
	/* Whatever else came with 200, an error or nothing, does not say that anything is gone. */
	if (r == 0 && !state.found)
		r = -EPROTO;
	if (r == 0 && state.first != SIZE_MAX) {
		call->reply.failed_index = state.first;
		r = state.result ? state.result : -EIO;
	}
	return r;
}

struct result_state {
	struct s3c_s3_call *call;
	char *upload_id;
	char etag[S3C_STORE_ETAG_MAX];
	char checksum[24];
	int64_t modified_ns;
};

static int result_close(void *arg, const char *path, const char *text, size_t len)
{
	struct result_state *state = arg;
	const char *slash = strchr(path, '/');
	const char *name = slash ? slash + 1 : "";

	(void)len;
	if (strcmp(name, "ETag") == 0)
		return take_etag(text, state->etag);
	if (strcmp(name, "LastModified") == 0)
		return s3c_s3_parse_time(text, &state->modified_ns);
	if (strcmp(name, "ChecksumCRC32C") == 0 || strcmp(name, "ChecksumCRC64NVME") == 0)
		return take(text, state->checksum, sizeof(state->checksum));
	if (strcmp(path, "InitiateMultipartUploadResult/UploadId") == 0) {
		free(state->upload_id);
		state->upload_id = strdup(text);
		return state->upload_id ? 0 : -ENOMEM;
	}
	return 0;
}

int s3c_s3_read_upload_id(struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	struct result_state state = { .call = call };
	const struct s3c_xml_handler handler = { NULL, result_close, &state };
	int r = parse(http, &handler);

	if (r == 0 && (!state.upload_id || !state.upload_id[0]))
		r = -EPROTO;
	if (r == 0) {
		/* A server that does not know checksums of uploads must not be sent any. */
		enum s3c_checksum used =
			s3c_http_headers_get(&http->headers, "x-amz-checksum-algorithm")
				? call->sent_checksum
				: S3C_CHECKSUM_OFF;

		call->reply.upload_id =
			s3c_asprintf("%s%s", s3c_s3_checksum_prefix(used), state.upload_id);
		r = call->reply.upload_id ? 0 : -ENOMEM;
	}
	free(state.upload_id);
	return r;
}

int s3c_s3_read_result(struct s3c_s3_call *call, const struct s3c_http_reply *http)
{
	struct result_state state = { .call = call };
	const struct s3c_xml_handler handler = { NULL, result_close, &state };
	struct s3c_version *version = &call->reply.stat.version;
	int r = parse(http, &handler);

	/* A reply to another question may have one. */
	free(state.upload_id);
	if (r == 0 && !state.etag[0] && call->rq.op != S3C_STORE_UPLOAD_COMPLETE)
		r = -EPROTO;
	if (r < 0)
		return r;
	memcpy(version->etag, state.etag, sizeof(version->etag));
	version->modified_ns = state.modified_ns;
	if (call->rq.op == S3C_STORE_UPLOAD_PART_COPY) {
		memcpy(call->reply.part.etag, state.etag, sizeof(state.etag));
		if (call->sent_checksum != S3C_CHECKSUM_OFF)
			memcpy(call->reply.part.checksum, state.checksum, sizeof(state.checksum));
	}
	return 0;
}
