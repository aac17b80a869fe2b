/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Entries: from a reply of the store to a verified snapshot of an object, or a refusal. */
#include "engine/epochs.h"
#include "engine/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/crypto.h"
#include "base/encode.h"
#include "base/metrics.h"

struct s3c_entry *s3c_entry_ref(struct s3c_entry *entry)
{
	__atomic_fetch_add(&entry->refs, 1, __ATOMIC_RELAXED);
	return entry;
}

void s3c_entry_put(struct s3c_entry *entry)
{
	if (!entry || __atomic_sub_fetch(&entry->refs, 1, __ATOMIC_ACQ_REL))
		return;
	s3c_header_clear(&entry->header);
	s3c_extra_put(entry->extra);
	s3c_s3ec_put(entry->s3ec);
	free(entry->path);
	free(entry->tail);
	free(entry);
}

struct s3c_extra *s3c_extra_ref(struct s3c_extra *extra)
{
	if (extra)
		__atomic_fetch_add(&extra->refs, 1, __ATOMIC_RELAXED);
	return extra;
}

void s3c_extra_put(struct s3c_extra *extra)
{
	if (!extra || __atomic_sub_fetch(&extra->refs, 1, __ATOMIC_ACQ_REL))
		return;
	s3c_meta_free(&extra->meta);
	s3c_meta_free(&extra->props);
	free(extra);
}

static bool has_extra(const struct s3c_stat *st, bool is_dir)
{
	for (size_t i = 0; i < st->meta.count; i++)
		if (!s3c_plain_item(st->meta.items[i].name))
			return true;
	return st->props.count > 1 ||
	       (st->props.count && !(is_dir && strcmp(st->content_type, S3C_DIR_TYPE) == 0));
}

static int take_items(struct s3c_extra *extra, const struct s3c_meta *from, struct s3c_meta *to)
{
	for (size_t i = 0; i < from->count; i++) {
		const struct s3c_meta_item *item = &from->items[i];
		int r = 0;

		if (s3c_meta_item_valid(item))
			r = s3c_meta_set(to, item->name, item->value);
		else
			extra->unsendable++;
		if (r < 0)
			return r;
	}
	extra->bytes += s3c_meta_bytes(to) + to->count * (sizeof(*to->items) + 32);
	return 0;
}

/* Of what we wrote: the envelope, and nothing else. */
static int take_envelope(struct s3c_extra *extra, const struct s3c_meta *meta)
{
	int r = 0;

	for (size_t i = 0; i < meta->count && r == 0; i++)
		if (s3c_s3ec_is_item(meta->items[i].name))
			r = s3c_meta_set(&extra->meta, meta->items[i].name, meta->items[i].value);
	extra->bytes += s3c_meta_bytes(&extra->meta) +
			extra->meta.count * (sizeof(*extra->meta.items) + 32);
	return r;
}

int s3c_extra_make(const struct s3c_header *header, bool is_dir, const struct s3c_stat *st,
		   struct s3c_extra **ret_extra)
{
	bool s3ec = header->layout == S3C_LAYOUT_S3EC;
	struct s3c_extra *extra;
	int r;

	*ret_extra = NULL;
	if (s3c_layout_is_sealed(header->layout) ? !s3ec : !has_extra(st, is_dir))
		return 0;
	extra = calloc(1, sizeof(*extra));
	if (!extra)
		return -ENOMEM;
	extra->refs = 1;
	extra->bytes = sizeof(*extra);
	r = s3ec ? take_envelope(extra, &st->meta) : take_items(extra, &st->meta, &extra->meta);
	if (r == 0 && !s3ec)
		r = take_items(extra, &st->props, &extra->props);
	if (r < 0) {
		s3c_extra_put(extra);
		return r;
	}
	*ret_extra = extra;
	return 0;
}

struct s3c_extra *s3c_extra_of_content(const struct s3c_extra *extra)
{
	struct s3c_extra *kept = extra && extra->props.count ? calloc(1, sizeof(*kept)) : NULL;

	if (!kept)
		return NULL;
	kept->refs = 1;
	kept->bytes = sizeof(*kept);
	if (take_items(kept, &extra->props, &kept->props) < 0) {
		s3c_extra_put(kept);
		return NULL;
	}
	return kept;
}

int s3c_extra_apply(const struct s3c_extra *extra, const char *key, bool change,
		    struct s3c_meta *meta)
{
	struct s3c_meta theirs;
	int r;

	if (extra->unsendable)
		s3c_warn("object %s: %u metadata items of another program are not ASCII and cannot "
			 "be sent again: they are dropped",
			 key, extra->unsendable);
	for (size_t i = 0; i < extra->meta.count; i++) {
		const struct s3c_meta_item *item = &extra->meta.items[i];

		r = s3c_plain_item(item->name) ? 0 : s3c_meta_set(meta, item->name, item->value);
		if (r < 0)
			return r;
	}
	if (s3c_meta_bytes(meta) <= S3C_STORE_META_MAX)
		return 0;
	if (change) {
		s3c_error("object %s: its attributes were not changed: the metadata of another "
			  "program leave no room for them",
			  key);
		return -ENOSPC;
	}
	r = s3c_meta_copy(&extra->meta, &theirs);
	if (r < 0)
		return r;
	s3c_warn("object %s: it has no attributes of its own: the metadata of another program "
		 "leave no room for them",
		 key);
	s3c_meta_free(meta);
	*meta = theirs;
	return 1;
}

static struct s3c_entry *entry_new(const char *path, bool is_dir)
{
	struct s3c_entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->refs = 1;
	entry->is_dir = is_dir;
	entry->fetched_ns = s3c_clock_monotonic_ns();
	entry->path = strdup(path);
	if (!entry->path) {
		free(entry);
		return NULL;
	}
	return entry;
}

struct s3c_entry *s3c_entry_without_tail(const struct s3c_entry *entry)
{
	struct s3c_entry *copy = entry_new(entry->path, entry->is_dir);
	char *path;

	if (!copy)
		return NULL;
	path = copy->path;
	*copy = *entry;
	copy->refs = 1;
	copy->path = path;
	s3c_kms_wrap_ref(copy->header.kms);
	s3c_xattrs_ref(copy->header.attrs.xattrs);
	s3c_extra_ref(copy->extra);
	s3c_s3ec_ref(copy->s3ec);
	copy->tail = NULL;
	copy->tail_len = 0;
	return copy;
}

static int tail_set(struct s3c_entry *entry, const void *tail, size_t len)
{
	if (!tail || !len)
		return 0;
	entry->tail = malloc(len);
	if (!entry->tail)
		return -ENOMEM;
	memcpy(entry->tail, tail, len);
	entry->tail_len = len;
	return 0;
}

void s3c_entry_info(struct s3c_engine *engine, const struct s3c_entry *entry,
		    struct s3c_info *ret_info)
{
	const struct s3c_header *header = &entry->header;
	struct s3c_info info = {
		.mode = header->attrs.mode,
		.uid = header->attrs.uid,
		.gid = header->attrs.gid,
		.rdev = header->attrs.rdev,
		.size = entry->is_dir ? 0 : header->size,
		.stored = entry->stored_size,
		.taken = entry->stored_size,
		.mtime_ns = header->attrs.mtime_ns,
		.atime_ns = header->attrs.atime_ns,
		.ctime_ns = header->attrs.ctime_ns,
		.nlink = header->attrs.nlink ? header->attrs.nlink : 1,
		.valid_ns = entry->fetched_ns +
			    (int64_t)(engine->config.ttl_s * (double)S3C_NSEC_PER_SEC),
	};

	info.linked = s3c_body_id(entry->path, info.body);
	if (info.linked)
		info.nlink = header->attrs.nlink;
	if (header->layout != S3C_LAYOUT_PLAIN) {
		memcpy(info.content_token, header->content_id, sizeof(info.content_token));
	} else if (!entry->is_dir) {
		/* Not Last-Modified: a change of metadata alters it, and a PUT's reply lacks it. */
		bool etag = entry->version.etag[0];

		s3c_put_be64(info.content_token, s3c_hash_etag(entry->version.etag));
		s3c_put_be64(info.content_token + 8,
			     etag ? entry->stored_size
				  : entry->stored_size ^ (uint64_t)entry->version.modified_ns);
	}
	*ret_info = info;
}

int s3c_entry_refuse(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
		     int code, const char *why)
{
	struct s3c_names *names = engine->names;
	uint64_t hash = s3c_hash_text(st->version.etag, s3c_hash_text(key, st->size));
	bool first;

	s3c_mutex_lock(&engine->lock);
	first = s3c_ring_first(names->refused, ARRAY_LEN(names->refused), &names->refused_next,
			       hash);
	s3c_mutex_unlock(&engine->lock);
	if (first) {
		cleanup_free char *path = s3c_key_shown(engine, key);

		s3c_count(S3C_COUNT_REFUSED, 0, 0, 1);
		s3c_error("object %s%s refused: %s", key, path ? path : "", why);
	}
	return code;
}

bool s3c_key_is_dir(const char *key)
{
	return key[strlen(key) - 1] == '/' || strcmp(key, S3C_RESERVED_NAME "/root") == 0;
}

static void header_attrs(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
			 struct s3c_header *ret_header)
{
	const struct s3c_engine_config *config = &engine->config;
	bool is_dir = s3c_key_is_dir(key);
	int64_t born = st->version.modified_ns ? st->version.modified_ns : engine->names->born_ns;
	struct s3c_header header = {
		.layout = S3C_LAYOUT_PLAIN,
		.size = st->size,
		.attrs = {
			.mode = is_dir ? config->default_dir_mode : config->default_file_mode,
			.uid = config->default_uid,
			.gid = config->default_gid,
			.mtime_ns = born,
		},
	};
	mode_t type;

	s3c_attrs_decode(&st->meta, &header.attrs);
	if (!s3c_meta_get(&st->meta, "atime"))
		header.attrs.atime_ns = header.attrs.mtime_ns;
	if (!s3c_meta_get(&st->meta, "ctime"))
		header.attrs.ctime_ns = born;
	type = header.attrs.mode & S_IFMT;
	if (is_dir)
		type = S_IFDIR;
	else if (!type || S_ISDIR(type))
		type = S_IFREG;
	header.attrs.mode = type | (header.attrs.mode & 07777);
	s3c_plain_op_id(&st->meta, header.op_id);
	if (!is_dir)
		s3c_plain_link(st, &header);
	*ret_header = header;
}

static int header_plain(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
			struct s3c_header *ret_header)
{
	struct s3c_xattrs *xattrs;
	int r = s3c_xattrs_decode_plain(&st->meta, &xattrs);

	if (r < 0)
		return r;
	header_attrs(engine, key, st, ret_header);
	ret_header->attrs.xattrs = xattrs;
	return 0;
}

/* Its content is authenticated, its attributes are not: no more than a file of the user's. */
static void header_foreign(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
			   const struct s3c_s3ec *s3ec, struct s3c_header *ret_header)
{
	header_attrs(engine, key, st, ret_header);
	ret_header->layout = S3C_LAYOUT_FOREIGN;
	ret_header->size = s3ec->size;
	ret_header->attrs.mode = S_IFREG | (ret_header->attrs.mode & 0777);
	memcpy(ret_header->content_id, s3ec->id, sizeof(ret_header->content_id));
}

/* What has no seal of ours. ret_s3ec stays NULL for a plain object. */
static int header_unsealed(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
			   const struct s3c_instruction *instruction, struct s3c_header *ret_header,
			   struct s3c_s3ec **ret_s3ec)
{
	const struct s3c_engine_config *config = &engine->config;
	bool marker = s3c_key_is_dir(key) && !st->size && !engine->volume;
	int r = s3c_foreign_find(engine, key, st, instruction, ret_s3ec);

	if (r == 0) {
		header_foreign(engine, key, st, *ret_s3ec, ret_header);
		return 0;
	}
	if (r != -ENODATA)
		return r;
	/* Folders that consoles make, in a bucket of others. */
	if (!s3c_sealed_mode(engine) || (config->accept & S3C_ACCEPT_PLAIN) ||
	    (marker && (config->accept & S3C_ACCEPT_FOREIGN))) {
		r = header_plain(engine, key, st, ret_header);
		/* An unsealed name must not lead to what is sealed. */
		if (r == 0 && ret_header->layout == S3C_LAYOUT_PLAIN_REFERENCE &&
		    s3c_sealed_mode(engine)) {
			s3c_header_clear(ret_header);
			return s3c_entry_refuse(engine, key, st, -EIO,
						"it is one of several names of a file that is not "
						"sealed: only a mount of that mode reads it");
		}
		return r;
	}
	return s3c_entry_refuse(engine, key, st, -EIO,
				engine->volume ? "it is not sealed by this volume; a mount with "
						 "accept=plain reads objects without encryption"
					       : "there is no volume to open it with");
}

const char *s3c_header_misfit(const struct s3c_header *header, bool is_dir)
{
	mode_t type = header->attrs.mode & S_IFMT;

	if (is_dir)
		return S_ISDIR(type) && header->layout == S3C_LAYOUT_NONE
			       ? NULL
			       : "it stands for a directory and is sealed as something else";
	if (!type)
		return "it is sealed without a file type";
	if (header->layout == S3C_LAYOUT_REFERENCE)
		return S_ISDIR(type) ? "it is sealed as another name of a directory" : NULL;
	if (S_ISDIR(type))
		return "it is sealed as a directory and stands where a file does";
	if ((S_ISREG(type) || S_ISLNK(type)) && header->layout == S3C_LAYOUT_NONE)
		return "it is sealed as a file without content";
	if (s3c_mode_is_special(type) && header->layout != S3C_LAYOUT_NONE)
		return "it is sealed as a special file and has content";
	return NULL;
}

/* What the seal covers is what we wrote: another envelope was made by another version. */
static int envelope_read(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
			 struct s3c_s3ec **ret_s3ec)
{
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	char why[256] = "";
	int r = s3c_s3ec_parse(&st->meta, NULL, 0, st->size, &s3ec, why, sizeof(why));

	if (r == -ENOMEM)
		return r;
	if (r == 0 && s3ec->legacy)
		snprintf(why, sizeof(why), "its content is encrypted as this program never does");
	if (r < 0 || s3ec->legacy)
		return s3c_entry_refuse(engine, key, st, -EIO, why[0] ? why : "it has no envelope");
	*ret_s3ec = steal_ptr(s3ec);
	return 0;
}

static int header_read(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
		       const struct s3c_instruction *instruction, bool may_wait,
		       struct s3c_header *ret_header, struct s3c_s3ec **ret_s3ec)
{
	char why[256] = "";
	const char *odd;
	int r;

	if (!s3c_sealed_mode(engine) || !engine->volume)
		return header_unsealed(engine, key, st, instruction, ret_header, ret_s3ec);
	r = s3c_header_decode_live(engine, &st->meta, key, st->size, may_wait, ret_header, why,
				   sizeof(why));
	/* To be asked again, at once or later: nothing is known of the object. */
	if (r == -EREMOTEIO || (r == -ENOKEY && !may_wait))
		return r;
	if (r == -ENODATA)
		return header_unsealed(engine, key, st, instruction, ret_header, ret_s3ec);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return s3c_entry_refuse(engine, key, st, r == -EACCES ? r : -EIO,
					why[0] ? why : strerror(-r));
	odd = s3c_header_misfit(ret_header, s3c_key_is_dir(key));
	if (odd)
		return s3c_entry_refuse(engine, key, st, -EIO, odd);
	return ret_header->layout == S3C_LAYOUT_S3EC ? envelope_read(engine, key, st, ret_s3ec) : 0;
}

int s3c_header_of(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
		  struct s3c_header *ret_header)
{
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;

	return header_read(engine, key, st, NULL, true, ret_header, &s3ec);
}

/* The same content, and encrypted once: renewing keeps the one and not the other. */
static bool same_bytes(const struct s3c_header *a, const struct s3c_header *b)
{
	return memcmp(a->content_id, b->content_id, S3C_CONTENT_ID_LEN) == 0 &&
	       memcmp(a->file_id, b->file_id, S3C_FILE_ID_LEN) == 0;
}

/* Size and mtime of a large object stand at its end. */
static int trailer_take(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
			const void *tail, size_t tail_len, const struct s3c_entry *prior,
			struct s3c_entry *entry)
{
	struct s3c_header *header = &entry->header;
	struct s3c_footer footer;
	char why[256] = "";
	int r;

	if (tail && tail_len) {
		r = s3c_footer_decode(tail, tail_len, st->size, header, engine->volume, &footer,
				      why, sizeof(why));
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			return s3c_entry_refuse(engine, key, st, -EIO, why[0] ? why : strerror(-r));
		header->size = footer.size;
		if (!header->attrs_final)
			header->attrs.mtime_ns = footer.mtime_ns;
		return tail_set(entry, tail, tail_len);
	}
	/* The same content, as the seal says, has the same footer. */
	if (!prior || prior->header.layout != S3C_LAYOUT_TRAILER ||
	    prior->stored_size != st->size || (prior->header.attrs_final && !header->attrs_final) ||
	    !same_bytes(&prior->header, header))
		return -ENODATA;
	header->size = prior->header.size;
	if (!header->attrs_final)
		header->attrs.mtime_ns = prior->header.attrs.mtime_ns;
	return tail_set(entry, prior->tail, prior->tail_len);
}

/* Content that came with the reply, or came before and is still the same. */
static int content_take(const struct s3c_stat *st, const void *tail, size_t tail_len,
			const struct s3c_entry *prior, struct s3c_entry *entry)
{
	bool plain = entry->header.layout == S3C_LAYOUT_PLAIN;

	if (tail && tail_len)
		return tail_len == st->size ? tail_set(entry, tail, tail_len) : 0;
	if (!prior || !prior->tail || prior->stored_size != st->size ||
	    prior->header.layout != entry->header.layout)
		return 0;
	if (plain ? !s3c_etag_equal(prior->version.etag, st->version.etag)
		  : !same_bytes(&prior->header, &entry->header))
		return 0;
	return tail_set(entry, prior->tail, prior->tail_len);
}

/* Compares with the highest generation that this machine has seen of the object. */
static int check_rollback(struct s3c_engine *engine, const char *key, const struct s3c_stat *st,
			  const struct s3c_header *header, unsigned flags)
{
	struct s3c_journal *journal = engine->config.journal;
	const char *rel = s3c_rel_key(engine, key);
	bool plain = !s3c_layout_is_sealed(header->layout), deleted, first;
	uint64_t seen;

	if (!journal || s3c_journal_generation_get(journal, rel, &seen, &deleted) < 0 ||
	    (plain ? deleted
		   : header->generation > seen || (header->generation == seen && !deleted))) {
		s3c_note_generation(engine, key, header, false);
		return 0;
	}
	if (flags & S3C_BUILD_QUIET_ROLLBACK)
		return -EREMCHG;
	if (engine->config.rollback_deny)
		return s3c_entry_refuse(
			engine, key, st, -EIO,
			plain     ? "it was sealed before and is not any more (rollback=deny)"
			: deleted ? "it was deleted and has come back (rollback=deny)"
				  : "it is older than what was seen before (rollback=deny)");
	s3c_mutex_lock(&engine->lock);
	first = s3c_ring_first(engine->names->refused, ARRAY_LEN(engine->names->refused),
			       &engine->names->refused_next,
			       s3c_hash_text(key, header->generation));
	s3c_mutex_unlock(&engine->lock);
	if (first)
		s3c_warn("object %s: the store serves a version that %s", key,
			 plain     ? "is not sealed, as it was before"
			 : deleted ? "was deleted before"
				   : "is older than one seen before");
	return 0;
}

int s3c_entry_build_with(struct s3c_engine *engine, const char *path, bool is_dir,
			 const struct s3c_stat *st, const void *tail, size_t tail_len,
			 const struct s3c_entry *prior, unsigned flags,
			 const struct s3c_instruction *instruction, struct s3c_entry **ret_entry)
{
	cleanup_entry struct s3c_entry *entry = entry_new(path, is_dir);
	cleanup_free char *key = NULL;
	int r;

	if (!entry)
		return -ENOMEM;
	r = s3c_key_of(engine, path, is_dir, &key);
	if (r == 0)
		r = header_read(engine, key, st, instruction, !(flags & S3C_BUILD_NOWAIT),
				&entry->header, &entry->s3ec);
	if (r < 0)
		return r;
	entry->version = st->version;
	entry->stored_size = st->size;
	if (entry->header.layout == S3C_LAYOUT_FOREIGN)
		r = s3c_foreign_take(engine, key, st, tail, tail_len, prior, entry);
	if (r == 0 && entry->header.layout == S3C_LAYOUT_TRAILER)
		r = trailer_take(engine, key, st, tail, tail_len, prior, entry);
	else if (r == 0)
		r = content_take(st, tail, tail_len, prior, entry);
	if (r == 0)
		r = check_rollback(engine, key, st, &entry->header, flags);
	if (r == 0)
		r = s3c_extra_make(&entry->header, is_dir, st, &entry->extra);
	if (r < 0)
		return r;
	*ret_entry = steal_ptr(entry);
	return 0;
}

int s3c_entry_build(struct s3c_engine *engine, const char *path, bool is_dir,
		    const struct s3c_stat *st, const void *tail, size_t tail_len,
		    const struct s3c_entry *prior, unsigned flags, struct s3c_entry **ret_entry)
{
	return s3c_entry_build_with(engine, path, is_dir, st, tail, tail_len, prior, flags, NULL,
				    ret_entry);
}

int s3c_entry_make(struct s3c_engine *engine, const char *path, bool is_dir,
		   const struct s3c_stat *st, const void *tail, size_t tail_len,
		   struct s3c_entry **ret_entry)
{
	return s3c_entry_build(engine, path, is_dir, st, tail, tail_len, NULL, 0, ret_entry);
}

int s3c_entry_implicit(struct s3c_engine *engine, const char *path, struct s3c_entry **ret_entry)
{
	const struct s3c_engine_config *config = &engine->config;
	struct s3c_entry *entry = entry_new(path, true);

	if (!entry)
		return -ENOMEM;
	entry->implicit = true;
	entry->header.layout = s3c_sealed_mode(engine) ? S3C_LAYOUT_NONE : S3C_LAYOUT_PLAIN;
	entry->header.attrs.mode = S_IFDIR | (config->default_dir_mode & 07777);
	entry->header.attrs.uid = config->default_uid;
	entry->header.attrs.gid = config->default_gid;
	entry->header.attrs.mtime_ns = engine->names->born_ns;
	entry->header.attrs.atime_ns = engine->names->born_ns;
	entry->header.attrs.ctime_ns = engine->names->born_ns;
	*ret_entry = entry;
	return 0;
}

int s3c_entry_local(struct s3c_engine *engine, const char *path, bool is_dir,
		    const struct s3c_header *header, const struct s3c_version *version,
		    uint64_t stored_size, const struct s3c_entry *tail_of,
		    struct s3c_entry **ret_entry)
{
	cleanup_entry struct s3c_entry *entry = entry_new(path, is_dir);
	int r;

	(void)engine;
	if (!entry)
		return -ENOMEM;
	s3c_header_set(&entry->header, header);
	entry->version = *version;
	entry->stored_size = stored_size;
	r = tail_of ? tail_set(entry, tail_of->tail, tail_of->tail_len) : 0;
	if (r < 0)
		return r;
	entry->extra = tail_of ? s3c_extra_ref(tail_of->extra) : NULL;
	entry->s3ec = tail_of ? s3c_s3ec_ref(tail_of->s3ec) : NULL;
	*ret_entry = steal_ptr(entry);
	return 0;
}

bool s3c_entry_same_content(const struct s3c_entry *a, const struct s3c_entry *b)
{
	if (s3c_entry_renewed(a, b))
		return true;
	if (a->header.layout != b->header.layout || a->stored_size != b->stored_size)
		return false;
	return a->header.layout == S3C_LAYOUT_PLAIN ||
	       memcmp(a->header.content_id, b->header.content_id, S3C_CONTENT_ID_LEN) == 0;
}

void s3c_op_id_of(const struct s3c_header *header, const struct s3c_meta *meta,
		  uint8_t ret_op[static S3C_OP_ID_LEN])
{
	const char *op = s3c_meta_get(meta, S3C_OP_META);

	memcpy(ret_op, header->op_id, S3C_OP_ID_LEN);
	if (header->layout == S3C_LAYOUT_PLAIN &&
	    (!op || s3c_hex_decode(op, ret_op, S3C_OP_ID_LEN) < 0))
		memset(ret_op, 0, S3C_OP_ID_LEN);
}

int s3c_op_id_set(const struct s3c_header *header, struct s3c_meta *meta)
{
	char op[2 * S3C_OP_ID_LEN + 1];

	if (header->layout != S3C_LAYOUT_PLAIN)
		return 0;
	s3c_hex_encode(header->op_id, S3C_OP_ID_LEN, op);
	return s3c_meta_set(meta, S3C_OP_META, op);
}

uint64_t s3c_next_generation(struct s3c_engine *engine, const char *key, uint64_t seen)
{
	struct s3c_journal *journal = engine->config.journal;
	uint64_t journaled = 0;
	bool deleted;

	if (journal &&
	    s3c_journal_generation_get(journal, s3c_rel_key(engine, key), &journaled, &deleted) < 0)
		journaled = 0;
	return s3c_generation_next(S3C_MAX(seen, journaled));
}

void s3c_note_generation(struct s3c_engine *engine, const char *key,
			 const struct s3c_header *header, bool deleted)
{
	struct s3c_journal *journal = engine->config.journal;

	if (journal && s3c_layout_is_sealed(header->layout) && header->generation)
		s3c_journal_generation_note(journal, s3c_rel_key(engine, key), header->generation,
					    deleted);
}
