/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The journal's key. It is random and made with the first use of the folder; each opening seals
 * under a subkey of its own (with a random salt, in the database before the first record), so that
 * a counter is nonce enough, also when the database was put back to an older state.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/encode.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/util.h"
#include "db/journal_private.h"

#define KEPT_WRAPPED 1
#define KEPT_FILE 2
#define WRAPPED_LEN (S3C_SALT_LEN + S3C_KEY_LEN + S3C_TAG_LEN)
#define AAD_LEN 20

static const char wrap_info[] = "s3cryptfs journal wrap";
static const char check_info[] = "s3cryptfs journal check";
static const char session_info[] = "s3cryptfs journal session";

/* What the database says of its key. */
struct stored {
	int kept; /* 0: there is none */
	uint8_t value[WRAPPED_LEN];
	size_t len;
	uint64_t records, bytes;
};

static void make_aad(uint32_t kind, uint64_t id, uint64_t sub, uint8_t aad[static AAD_LEN])
{
	s3c_put_be32(aad, kind);
	s3c_put_be64(aad + 4, id);
	s3c_put_be64(aad + 12, sub);
}

static void make_nonce(const uint8_t counter[static 8], uint8_t nonce[static S3C_NONCE_LEN])
{
	memset(nonce, 0, S3C_NONCE_LEN - 8);
	memcpy(nonce + S3C_NONCE_LEN - 8, counter, 8);
}

int s3c_seal(struct s3c_journal *journal, uint32_t kind, uint64_t id, uint64_t sub,
	     const void *data, size_t len, uint8_t *ret_value)
{
	uint8_t aad[AAD_LEN], nonce[S3C_NONCE_LEN];
	struct s3c_gcm *gcm = NULL;
	int r = 0;

	s3c_mutex_lock(&journal->spare_lock);
	if (journal->sealer_count)
		gcm = journal->sealers[--journal->sealer_count];
	s3c_mutex_unlock(&journal->spare_lock);
	if (!gcm)
		r = s3c_gcm_new(journal->subkey, &gcm);
	if (r < 0)
		return r;
	s3c_put_be64(ret_value, __atomic_fetch_add(&journal->counter, 1, __ATOMIC_RELAXED));
	make_nonce(ret_value, nonce);
	make_aad(kind, id, sub, aad);
	r = s3c_gcm_seal(gcm, nonce, aad, sizeof(aad), data, len, ret_value + 8,
			 ret_value + 8 + len);
	s3c_mutex_lock(&journal->spare_lock);
	if (journal->sealer_count < S3C_SPARES)
		journal->sealers[journal->sealer_count++] = steal_ptr(gcm);
	s3c_mutex_unlock(&journal->spare_lock);
	s3c_gcm_free(gcm);
	return r;
}

int s3c_unseal(struct s3c_gcm *gcm, uint32_t kind, uint64_t id, uint64_t sub, const uint8_t *value,
	       size_t len, void *ret_data)
{
	uint8_t aad[AAD_LEN], nonce[S3C_NONCE_LEN];

	make_nonce(value, nonce);
	make_aad(kind, id, sub, aad);
	return s3c_gcm_open(gcm, nonce, aad, sizeof(aad), value + 8, len, value + 8 + len,
			    ret_data);
}

static int derive_subkey(const uint8_t *key, const void *salt, uint8_t *ret_subkey)
{
	return s3c_hkdf_sha256(key, S3C_KEY_LEN, salt, S3C_SALT_LEN, session_info,
			       sizeof(session_info) - 1, ret_subkey, S3C_KEY_LEN);
}

int s3c_unseal_context(struct s3c_journal *journal, const void *salt, struct s3c_gcm **ret_gcm)
{
	cleanup_secret uint8_t *subkey = NULL;
	int r;

	if (!journal->key)
		return -ENOKEY;
	subkey = s3c_secret_alloc(S3C_KEY_LEN);
	if (!subkey)
		return -ENOMEM;
	r = derive_subkey(journal->key, salt, subkey);
	return r < 0 ? r : s3c_gcm_new(subkey, ret_gcm);
}

void s3c_keys_free(struct s3c_journal *journal)
{
	while (journal->sealer_count)
		s3c_gcm_free(journal->sealers[--journal->sealer_count]);
	s3c_secret_free(journal->key);
	s3c_secret_free(journal->subkey);
}

static int wrap_context(const uint8_t *wrap_key, const uint8_t *salt, struct s3c_gcm **ret_gcm)
{
	cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);
	int r;

	if (!key)
		return -ENOMEM;
	r = s3c_hkdf_sha256(wrap_key, S3C_KEY_LEN, salt, S3C_SALT_LEN, wrap_info,
			    sizeof(wrap_info) - 1, key, S3C_KEY_LEN);
	return r < 0 ? r : s3c_gcm_new(key, ret_gcm);
}

/* The nonce is zero: each salt, hence each wrapping key, is used once. */
static int wrap(const uint8_t *wrap_key, const uint8_t *key, struct stored *ret_stored)
{
	static const uint8_t nonce[S3C_NONCE_LEN];
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	uint8_t *value = ret_stored->value;
	int r;

	s3c_random(value, S3C_SALT_LEN);
	r = wrap_context(wrap_key, value, &gcm);
	if (r < 0)
		return r;
	ret_stored->kept = KEPT_WRAPPED;
	ret_stored->len = WRAPPED_LEN;
	return s3c_gcm_seal(gcm, nonce, wrap_info, sizeof(wrap_info) - 1, key, S3C_KEY_LEN,
			    value + S3C_SALT_LEN, value + S3C_SALT_LEN + S3C_KEY_LEN);
}

/* -EKEYREJECTED: it is not what it was wrapped with. */
static int unwrap(const uint8_t *wrap_key, const struct stored *stored, uint8_t *ret_key)
{
	static const uint8_t nonce[S3C_NONCE_LEN];
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	int r;

	if (stored->kept != KEPT_WRAPPED || stored->len != WRAPPED_LEN)
		return -EKEYREJECTED;
	r = wrap_context(wrap_key, stored->value, &gcm);
	if (r < 0)
		return r;
	r = s3c_gcm_open(gcm, nonce, wrap_info, sizeof(wrap_info) - 1, stored->value + S3C_SALT_LEN,
			 S3C_KEY_LEN, stored->value + S3C_SALT_LEN + S3C_KEY_LEN, ret_key);
	return r == -EBADMSG ? -EKEYREJECTED : r;
}

static int make_check(const uint8_t *key, struct stored *ret_stored)
{
	ret_stored->kept = KEPT_FILE;
	ret_stored->len = S3C_SHA256_LEN;
	return s3c_hkdf_sha256(key, S3C_KEY_LEN, NULL, 0, check_info, sizeof(check_info) - 1,
			       ret_stored->value, S3C_SHA256_LEN);
}

/* -EKEYREJECTED: none, or not the one that belongs to the database, if that has one. */
static int load_file(const char *path, const struct stored *stored, struct s3c_err *err,
		     uint8_t *ret_key)
{
	cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN + 1);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stored check = { 0 };
	struct stat st;
	int r;

	if (!key)
		return -ENOMEM;
	if (fd < 0 && errno == ENOENT)
		return -EKEYREJECTED;
	if (fd < 0 || fstat(fd, &st) < 0)
		return s3c_err_set(err, -errno, "key file %s cannot be read: %s", path,
				   strerror(errno));
	if (S_ISREG(st.st_mode) && st.st_mode & 077)
		return s3c_err_set(err, -EPERM,
				   "key file %s can be read by others: make it 0600 (and consider "
				   "what was in the journal as known to them)",
				   path);
	if (!S_ISREG(st.st_mode) || read(fd, key, S3C_KEY_LEN + 1) != S3C_KEY_LEN)
		return -EKEYREJECTED;
	r = make_check(key, &check);
	if (r < 0)
		return r;
	if (stored->records && (stored->kept != KEPT_FILE || stored->len != check.len ||
				!s3c_equal_ct(stored->value, check.value, check.len)))
		return -EKEYREJECTED;
	memcpy(ret_key, key, S3C_KEY_LEN);
	return 0;
}

/* On the disk, with its name, before anything is sealed with it. */
static int save_file(const char *dir, const char *path, const uint8_t *key)
{
	cleanup_free char *made = s3c_asprintf("%s.new", path);
	cleanup_close int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int fd = -1;

	if (!made)
		return -ENOMEM;
	unlink(made);
	fd = open(made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || dir_fd < 0)
		return -errno;
	errno = EIO;
	if (write(fd, key, S3C_KEY_LEN) != S3C_KEY_LEN || fsync(fd) < 0 || rename(made, path) < 0 ||
	    fsync(dir_fd) < 0)
		return -errno;
	return 0;
}

static int look(sqlite3 *db, struct stored *ret_stored)
{
	sqlite3_stmt *stmt;
	int rc, r;

	memset(ret_stored, 0, sizeof(*ret_stored));
	r = s3c_db_statement(db, "SELECT count(*), sum(len) FROM record", &stmt);
	if (r < 0)
		return r;
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		ret_stored->records = (uint64_t)sqlite3_column_int64(stmt, 0);
		ret_stored->bytes = (uint64_t)sqlite3_column_int64(stmt, 1);
	}
	sqlite3_finalize(stmt);
	if (rc != SQLITE_ROW)
		return s3c_db_errno(rc);
	r = s3c_db_statement(db, "SELECT kept, value FROM journal_key", &stmt);
	if (r < 0)
		return r;
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW && sqlite3_column_bytes(stmt, 1) <= WRAPPED_LEN) {
		ret_stored->kept = sqlite3_column_int(stmt, 0);
		ret_stored->len = (size_t)sqlite3_column_bytes(stmt, 1);
		if (ret_stored->len)
			memcpy(ret_stored->value, sqlite3_column_blob(stmt, 1), ret_stored->len);
	}
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : s3c_db_errno(rc);
}

static int run_blob(sqlite3 *db, const char *sql, int kept, const void *blob, size_t len)
{
	sqlite3_stmt *stmt;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

	if (rc != SQLITE_OK)
		return rc;
	sqlite3_bind_blob(stmt, 1, blob, (int)len, SQLITE_STATIC);
	if (kept)
		sqlite3_bind_int(stmt, 2, kept);
	rc = sqlite3_step(stmt);
	sqlite3_finalize(stmt);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* The session, and the key where it is new, in one transaction. */
static int save(struct s3c_journal *journal, const struct stored *key, const uint8_t *salt)
{
	sqlite3 *db = journal->durable;
	int rc = sqlite3_exec(db,
			      "BEGIN IMMEDIATE; DELETE FROM session WHERE number NOT IN "
			      "(SELECT session FROM record)",
			      NULL, NULL, NULL);

	if (rc == SQLITE_OK && key)
		rc = run_blob(db,
			      "INSERT OR REPLACE INTO journal_key (one, value, kept) "
			      "VALUES (1, ?, ?)",
			      key->kept, key->value, key->len);
	if (rc == SQLITE_OK)
		rc = run_blob(db, "INSERT INTO session (salt) VALUES (?)", 0, salt, S3C_SALT_LEN);
	if (rc == SQLITE_OK) {
		journal->session = sqlite3_last_insert_rowid(db);
		rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	}
	if (rc == SQLITE_OK)
		return 0;
	rc = s3c_db_error(db, rc);
	if (!sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

static int reject(struct s3c_journal *journal, enum s3c_journal_key how,
		  const struct stored *stored, const char *file, struct s3c_err *err)
{
	unsigned long long records = stored->records;

	if (how == S3C_JOURNAL_KEY_FILE && stored->kept == KEPT_FILE)
		return s3c_err_set(err, -EKEYREJECTED,
				   "journal %s holds %llu records of changes that are not in the "
				   "store yet, and key file %s is missing or not theirs: put that "
				   "file back (nothing was changed)",
				   journal->path, records, file);
	return s3c_err_set(err, -EKEYREJECTED,
			   "journal %s holds %llu records of changes that are not in the store "
			   "yet, made under another key: mount with the keyring and mode that they "
			   "were made with (nothing was changed)",
			   journal->path, records);
}

/* The key that is there, or a new one where nothing depends on that; ret_new says so. */
static int find_key(struct s3c_journal *journal, enum s3c_journal_key how, const uint8_t *wrap_key,
		    const struct stored *stored, const char *file, struct s3c_err *err,
		    uint8_t *ret_key, struct stored *ret_new)
{
	int r = how == S3C_JOURNAL_KEY_WRAPPED ? unwrap(wrap_key, stored, ret_key)
					       : load_file(file, stored, err, ret_key);

	if (r < 0 && r != -EKEYREJECTED)
		return r;
	if (r == 0 && how == S3C_JOURNAL_KEY_FILE && stored->records == 0)
		return make_check(ret_key, ret_new);
	if (r == 0)
		return 0;
	if (stored->records)
		return reject(journal, how, stored, file, err);
	if (journal->readonly)
		return -ENOKEY;
	s3c_random(ret_key, S3C_KEY_LEN);
	if (how == S3C_JOURNAL_KEY_WRAPPED)
		return wrap(wrap_key, ret_key, ret_new);
	r = save_file(journal->dir, file, ret_key);
	if (r < 0)
		return s3c_err_set(err, r, "key file %s cannot be written: %s", file, strerror(-r));
	return make_check(ret_key, ret_new);
}

/* With the writer kept out. */
static int unlock(struct s3c_journal *journal, enum s3c_journal_key how, const uint8_t *wrap_key,
		  struct s3c_err *err)
{
	cleanup_free char *file = s3c_asprintf("%s/journal.key", journal->dir);
	cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);
	cleanup_secret uint8_t *subkey = s3c_secret_alloc(S3C_KEY_LEN);
	struct stored stored, made = { 0 };
	uint8_t salt[S3C_SALT_LEN];
	int r;

	if (!file || !key || !subkey)
		return -ENOMEM;
	r = look(journal->durable, &stored);
	if (r < 0)
		return s3c_err_set(err, r, "journal %s cannot be read: %s", journal->path,
				   strerror(-r));
	journal->records = stored.records;
	journal->bytes = stored.bytes;
	r = find_key(journal, how, wrap_key, &stored, file, err, key, &made);
	if (r == -ENOKEY) /* to look at nothing needs none */
		return 0;
	if (r < 0)
		return r;
	if (!journal->readonly) {
		s3c_random(salt, sizeof(salt));
		r = derive_subkey(key, salt, subkey);
		if (r == 0)
			r = save(journal, made.kept ? &made : NULL, salt);
		if (r < 0)
			return s3c_err_set(err, r, "journal %s cannot be written: %s",
					   journal->path, strerror(-r));
		if (how == S3C_JOURNAL_KEY_WRAPPED && made.kept && stored.kept == KEPT_FILE)
			unlink(file); /* of the key that was replaced */
		journal->subkey = steal_ptr(subkey);
	}
	journal->key = steal_ptr(key);
	return 0;
}

int s3c_journal_unlock(struct s3c_journal *journal, enum s3c_journal_key key,
		       const uint8_t *wrap_key, uint64_t size, struct s3c_err *err)
{
	int r = 0;

	if (journal->unlocked || (key == S3C_JOURNAL_KEY_WRAPPED && !wrap_key))
		return -EINVAL;
	if (!journal->readonly)
		s3c_writer_enter(journal);
	s3c_mutex_lock(&journal->db_lock);
	if (!journal->nothing)
		r = unlock(journal, key, wrap_key, err);
	if (r == 0) {
		journal->limit = size;
		journal->unlocked = true;
	}
	s3c_mutex_unlock(&journal->db_lock);
	if (r == 0 && !journal->readonly)
		s3c_space_reserve(journal);
	if (!journal->readonly)
		s3c_writer_leave(journal);
	return r;
}
