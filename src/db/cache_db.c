/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The file of the cache: what is found, what is made of it.
 *
 * Pragmas, and why:
 *	synchronous=OFF	A sync at each checkpoint costs three quarters of the rate of inserts, and
 *		the journal's syncs on the same disk wait for them. What a power cut makes of the
 *		file is dealt with otherwise: cache.lock says whether it was closed (and synced
 *		then) and in which boot it was used; one that was open in another boot is dropped
 *		without a look. kill -9 leaves the kernel's copy whole, and the WAL does the rest.
 *	mmap_size=0	pread is fast enough, and a bad sector or a file that someone cut short is
 *		an error then, not a SIGBUS that ends the mount. (SQLite maps 2 GiB at most.)
 *	secure_delete=OFF	Debian's is on; it would write zeros over ciphertext.
 *	cache_spill=OFF	each page that a transaction changes enters the WAL once: its size is
 *		known before the commit (cache_space.c).
 *	auto_vacuum=NONE	pointer maps cost inserts; for a lowered limit one begins anew.
 */
#include "db/cache_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/secret.h"

#define APPLICATION_ID 0x73336363 /* "s3cc" */
#define SESSIONS_MAX 4096
#define STRING(x) #x
#define NUMBER(x) STRING(x)

/* Step N brings a database of version N to N + 1. A step that was released is never changed. */
static const char *const migrations[] = {
	"CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), key_kind INTEGER NOT NULL,"
	" wrapped BLOB, key_check BLOB NOT NULL);"
	"CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), tick INTEGER NOT NULL,"
	" epoch INTEGER NOT NULL, chunks INTEGER NOT NULL);"
	"INSERT INTO state VALUES (1, 1099511627776, 1, 0);" /* S3C_CACHE_TICK0 */
	"CREATE TABLE session (id INTEGER PRIMARY KEY, salt BLOB NOT NULL);"
	"CREATE TABLE run (id INTEGER PRIMARY KEY, content BLOB NOT NULL, place INTEGER NOT NULL,"
	" have INTEGER NOT NULL, used INTEGER NOT NULL, UNIQUE (content, place));"
	"CREATE INDEX run_used ON run (used);"
	"CREATE TABLE chunk (id INTEGER PRIMARY KEY, value BLOB NOT NULL);"
	"CREATE TABLE record (id INTEGER PRIMARY KEY, used INTEGER NOT NULL, key BLOB UNIQUE,"
	" value BLOB NOT NULL);"
	"CREATE INDEX record_used ON record (used);",
};

static const char *const statements[S3C_CACHE_STATEMENTS] = {
	[S3C_CACHE_BEGIN] = "BEGIN IMMEDIATE",
	[S3C_CACHE_COMMIT] = "COMMIT",
	[S3C_CACHE_ROLLBACK] = "ROLLBACK",
	[S3C_CACHE_SAVE] = "UPDATE state SET tick = ?, epoch = ?, chunks = ?",
	[S3C_CACHE_PAGES] = "PRAGMA page_count",
	[S3C_CACHE_FREE] = "PRAGMA freelist_count",
	[S3C_CACHE_RUN_FIND] = "SELECT id, have FROM run WHERE content = ? AND place = ?",
	[S3C_CACHE_RUN_ADD] = "INSERT INTO run (content, place, have, used) VALUES (?, ?, 0, ?)",
	[S3C_CACHE_RUN_SET] = "UPDATE run SET have = ?, used = ? WHERE id = ?",
	[S3C_CACHE_RUN_TOUCH] = "UPDATE run SET used = ? WHERE id = ?",
	[S3C_CACHE_RUN_FORGET] = "UPDATE run SET used = 0 WHERE id IN (SELECT id FROM run WHERE "
				 "content = ? AND used > 0 LIMIT 16)",
	[S3C_CACHE_RUN_OLDEST] = "SELECT used, id, have FROM run ORDER BY used LIMIT 1",
	[S3C_CACHE_RUN_DELETE] = "DELETE FROM run WHERE id = ?",
	[S3C_CACHE_CHUNK_ADD] = "INSERT OR REPLACE INTO chunk VALUES (?, ?)",
	[S3C_CACHE_CHUNK_DELETE] = "DELETE FROM chunk WHERE id = ?",
	[S3C_CACHE_CHUNK_SWEEP] = "DELETE FROM chunk WHERE id BETWEEN ? AND ?",
	[S3C_CACHE_RECORD_SET] =
		"INSERT INTO record (used, key, value) VALUES (?, ?, ?) ON CONFLICT (key) DO "
		"UPDATE SET used = excluded.used, value = excluded.value",
	[S3C_CACHE_RECORD_DELETE] = "DELETE FROM record WHERE key = ?",
	[S3C_CACHE_RECORD_TOUCH] = "UPDATE record SET used = ? WHERE id = ?",
	[S3C_CACHE_RECORD_OLDEST] = "SELECT used, id FROM record ORDER BY used LIMIT 1",
	[S3C_CACHE_RECORD_EVICT] = "DELETE FROM record WHERE id = ?",
};

enum s3c_cache_fault s3c_cache_db_fault(sqlite3 *db, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR:      /* no such table: our statements have no other */
	case SQLITE_CONSTRAINT: /* an index that disagrees with its table */
	case SQLITE_MISMATCH:
	case SQLITE_TOOBIG:
		return S3C_CACHE_DAMAGE;
	case SQLITE_IOERR:
		if (rc == SQLITE_IOERR_NOMEM)
			return S3C_CACHE_PASSING;
		if (rc == SQLITE_IOERR_READ || rc == SQLITE_IOERR_SHORT_READ ||
		    rc == SQLITE_IOERR_CORRUPTFS || rc == SQLITE_IOERR_DATA)
			return db && sqlite3_system_errno(db) == ENOSPC ? S3C_CACHE_SPACE
									: S3C_CACHE_DAMAGE;
		return S3C_CACHE_SPACE;
	case SQLITE_FULL:
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
		return S3C_CACHE_SPACE;
	default:
		return S3C_CACHE_PASSING;
	}
}

static int fault_errno(sqlite3 *db, int rc)
{
	switch (s3c_cache_db_fault(db, rc)) {
	case S3C_CACHE_DAMAGE:
		return -EUCLEAN;
	case S3C_CACHE_SPACE:
		if (db && sqlite3_system_errno(db) > 0)
			return -sqlite3_system_errno(db);
		return (rc & 0xff) == SQLITE_FULL ? -ENOSPC : -EIO;
	default:
		return (rc & 0xff) == SQLITE_NOMEM ? -ENOMEM : -EBUSY;
	}
}

sqlite3_stmt *s3c_cache_stmt(struct s3c_cache *cache, enum s3c_cache_sql which)
{
	return cache->stmt[which];
}

int s3c_cache_run(struct s3c_cache *cache, enum s3c_cache_sql which)
{
	int rc = sqlite3_step(cache->stmt[which]);

	sqlite3_reset(cache->stmt[which]);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int connect_db(const char *path, sqlite3 **ret_db)
{
	sqlite3 *db = NULL;
	int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

	if (rc == SQLITE_OK) {
		sqlite3_extended_result_codes(db, 1);
		/* flock keeps other daemons out; what a person's sqlite3 holds is waited for. */
		rc = sqlite3_busy_timeout(db, 1000);
	}
	if (rc != SQLITE_OK) {
		sqlite3_close(db);
		return rc;
	}
	*ret_db = db;
	return SQLITE_OK;
}

static int number(sqlite3 *db, const char *sql, int64_t *ret_number)
{
	sqlite3_stmt *stmt;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret_number = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW ? SQLITE_OK : rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
}

int s3c_cache_db_prepare_reader(struct s3c_cache *cache, struct s3c_cache_reader **ret_reader)
{
	struct s3c_cache_reader *reader = calloc(1, sizeof(*reader));
	const struct {
		sqlite3_stmt **stmt;
		const char *sql;
	} all[] = {
		{ reader ? &reader->begin : NULL, "BEGIN" },
		{ reader ? &reader->end : NULL, "COMMIT" },
		{ reader ? &reader->run : NULL,
		  "SELECT id, have, used FROM run WHERE content = ? AND place = ?" },
		{ reader ? &reader->chunks : NULL,
		  "SELECT id, value FROM chunk WHERE id BETWEEN ? AND ?" },
		{ reader ? &reader->record : NULL,
		  "SELECT id, used, value FROM record WHERE key = ?" },
		{ reader ? &reader->salt : NULL, "SELECT salt FROM session WHERE id = ?" },
	};
	char pragmas[256];
	int rc;

	if (!reader)
		return SQLITE_NOMEM;
	rc = connect_db(cache->path, &reader->db);
	snprintf(pragmas, sizeof(pragmas),
		 "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; "
		 "PRAGMA mmap_size = %lld; PRAGMA cache_size = -1024",
		 (long long)cache->tuning.mmap_size);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(reader->db, pragmas, NULL, NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(all) && rc == SQLITE_OK; i++)
		rc = sqlite3_prepare_v3(reader->db, all[i].sql, -1, SQLITE_PREPARE_PERSISTENT,
					all[i].stmt, NULL);
	if (rc != SQLITE_OK) {
		s3c_cache_reader_free(reader);
		return rc;
	}
	*ret_reader = reader;
	return SQLITE_OK;
}

void s3c_cache_reader_free(struct s3c_cache_reader *reader)
{
	if (!reader)
		return;
	sqlite3_finalize(reader->begin);
	sqlite3_finalize(reader->end);
	sqlite3_finalize(reader->run);
	sqlite3_finalize(reader->chunks);
	sqlite3_finalize(reader->record);
	sqlite3_finalize(reader->salt);
	for (size_t i = 0; i < ARRAY_LEN(reader->context); i++)
		s3c_gcm_free(reader->context[i].gcm);
	sqlite3_close(reader->db);
	free(reader);
}

/* The three files of a database: each removed, or renamed behind `aside`. */
static void move_files(struct s3c_cache *cache, const char *aside)
{
	static const char *const ends[] = { "", "-wal", "-shm", "-journal" };

	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		cleanup_free char *from = s3c_asprintf("%s%s", cache->path, ends[i]);
		cleanup_free char *to =
			aside ? s3c_asprintf("%s%s%s", cache->path, aside, ends[i]) : NULL;

		if (from && to)
			rename(from, to);
		else if (from && !aside)
			unlink(from);
	}
}

/* The id of this boot; empty: unknown, equal to none. */
static void boot_id(char ret_text[static 64])
{
	cleanup_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret_text, 63);

	ret_text[n > 0 ? n : 0] = '\0';
	ret_text[strcspn(ret_text, "\n")] = '\0';
}

/*
 * cache.lock: process; boot and "open" or "closed" of the database, which stay as they were until
 * something is written to it.
 */
static int write_marker(int fd, const char *boot, const char *word)
{
	char text[192];
	int len = snprintf(text, sizeof(text), "%ld\n%s\n%s\n", (long)getpid(), boot, word);

	if (pwrite(fd, text, (size_t)len, 0) != len || ftruncate(fd, len) < 0 || fsync(fd) < 0)
		return errno ? -errno : -EIO;
	return 0;
}

static int mark(struct s3c_cache *cache, const char *word)
{
	char boot[64];

	boot_id(boot);
	return write_marker(cache->lock_fd, boot, word);
}

static int take_lock(struct s3c_cache *cache, struct s3c_err *err)
{
	cleanup_free char *path = s3c_asprintf("%s/cache.lock", cache->dir);
	char text[160], boot[64], *rest = text, *pid, *then, *word;
	cleanup_close int fd = -1;
	ssize_t n;
	int r;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	n = pread(fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	pid = strsep(&rest, "\n");
	then = rest ? strsep(&rest, "\n") : "";
	word = rest ? strsep(&rest, "\n") : "";
	if (r == -EWOULDBLOCK)
		return s3c_err_set(err, -EBUSY,
				   "cache folder %s is in use by process %s: unmount that first, "
				   "or give this mount a cache_dir of its own",
				   cache->dir, pid);
	if (r < 0)
		return r;
	boot_id(boot);
	cache->suspect = strcmp(word, "closed") && (!boot[0] || strcmp(then, boot));
	r = write_marker(fd, then, word);
	if (r < 0)
		return r;
	cache->lock_fd = fd;
	fd = -1;
	return 0;
}

enum found { FOUND_NOTHING, FOUND_OURS, FOUND_DAMAGED, FOUND_FOREIGN };

/* By the header of a SQLite file (sqlite.org/fileformat2.html), without changing anything. */
static int look(struct s3c_cache *cache, enum found *ret_found)
{
	cleanup_free char *wal = s3c_asprintf("%s-wal", cache->path);
	cleanup_close int fd = -1;
	uint8_t head[100];
	struct stat st, wal_st;
	uint64_t page;
	ssize_t n;

	if (!wal)
		return -ENOMEM;
	fd = open(cache->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT) {
		*ret_found = FOUND_NOTHING;
		return 0;
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	n = pread(fd, head, sizeof(head), 0);
	if (n < 0)
		return -errno;
	if (n == 0)
		*ret_found = FOUND_NOTHING;
	else if (n < (ssize_t)sizeof(head) || memcmp(head, "SQLite format 3", 16) ||
		 s3c_get_be32(head + 68) != APPLICATION_ID)
		*ret_found = FOUND_FOREIGN;
	else
		*ret_found = FOUND_OURS;
	page = n >= 18 ? s3c_get_be16(head + 16) : 0;
	page = page == 1 ? 65536 : page;
	/* With a WAL the file may be shorter than it says: a checkpoint was cut off. */
	if (*ret_found == FOUND_OURS && (stat(wal, &wal_st) < 0 || wal_st.st_size == 0) &&
	    (uint64_t)st.st_size < page * s3c_get_be32(head + 28))
		*ret_found = FOUND_DAMAGED;
	return 0;
}

static int create_file(struct s3c_cache *cache)
{
	cleanup_close int fd = -1;

	move_files(cache, NULL);
	/* Made before SQLite does, with the mode that its companions copy. */
	fd = open(cache->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : 0;
}

static int migrate(sqlite3 *db)
{
	int64_t version = 0;
	int rc = number(db, "PRAGMA user_version", &version);

	if (rc == SQLITE_OK && (version < 0 || version > (int64_t)ARRAY_LEN(migrations)))
		return SQLITE_MISMATCH;
	while (rc == SQLITE_OK && version < (int64_t)ARRAY_LEN(migrations)) {
		char stamp[128];

		snprintf(stamp, sizeof(stamp),
			 "PRAGMA application_id = %d; PRAGMA user_version = %lld; COMMIT",
			 APPLICATION_ID, (long long)version + 1);
		rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(db, migrations[version], NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(db, stamp, NULL, NULL, NULL);
		version++;
	}
	return rc;
}

/* The connection of the writer; SQLITE_MISMATCH: of a newer version. */
static int connect_writer(struct s3c_cache *cache)
{
	int64_t page_size = 0;
	char pragmas[512];
	int rc = connect_db(cache->path, &cache->db);

	if (rc != SQLITE_OK)
		return rc;
	snprintf(pragmas, sizeof(pragmas),
		 "PRAGMA page_size = %u; PRAGMA auto_vacuum = NONE; PRAGMA trusted_schema = OFF; "
		 "PRAGMA temp_store = MEMORY; PRAGMA secure_delete = OFF; PRAGMA mmap_size = 0; "
		 "PRAGMA cache_spill = OFF; PRAGMA synchronous = %s; PRAGMA journal_mode = WAL; "
		 "PRAGMA wal_autocheckpoint = 0",
		 cache->tuning.page_size ? cache->tuning.page_size
					 : s3c_cache_space_page_size(cache->size),
		 cache->tuning.sync ? "NORMAL" : "OFF");
	rc = sqlite3_exec(cache->db, pragmas, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = migrate(cache->db);
	if (rc == SQLITE_OK)
		rc = number(cache->db, "PRAGMA page_size", &page_size);
	if (rc == SQLITE_OK)
		rc = sqlite3_wal_checkpoint_v2(cache->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
					       NULL);
	if (rc != SQLITE_OK)
		return rc;
	s3c_cache_space_plan(cache, (uint64_t)page_size);
	snprintf(pragmas, sizeof(pragmas),
		 "PRAGMA max_page_count = %llu; PRAGMA cache_size = -%llu",
		 (unsigned long long)cache->max_pages, (unsigned long long)cache->cache_max >> 10);
	return sqlite3_exec(cache->db, pragmas, NULL, NULL, NULL);
}

/* The 32 bytes of cache.key; -ENOENT: none that can be used. */
static int read_key_file(const char *path, uint8_t ret_key[static S3C_KEY_LEN])
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size != S3C_KEY_LEN || (st.st_mode & 077)) {
		s3c_warn("cache key %s is damaged or open to others: another one is made", path);
		return -ENOENT;
	}
	return pread(fd, ret_key, S3C_KEY_LEN, 0) == S3C_KEY_LEN ? 0 : -EIO;
}

static int write_key_file(const char *path, const uint8_t key[static S3C_KEY_LEN])
{
	cleanup_free char *temporary = s3c_asprintf("%s.new", path);
	cleanup_close int fd = -1;

	if (!temporary)
		return -ENOMEM;
	unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, key, S3C_KEY_LEN) != S3C_KEY_LEN || fsync(fd) < 0 ||
	    rename(temporary, path) < 0) {
		int r = errno ? -errno : -ENOSPC;

		unlink(temporary);
		return r;
	}
	return 0;
}

static int foreign_key(struct s3c_cache *cache, struct s3c_err *err)
{
	return s3c_err_set(err, -EKEYREJECTED,
			   "cache %s was made with another key: give another cache_dir, or remove "
			   "the file when nothing else uses it",
			   cache->path);
}

/*
 * The cache key that the database was made with. -ENOKEY: it is gone for good, the database is of
 * no use; -EKEYREJECTED.
 */
static int stored_key(struct s3c_cache *cache, struct s3c_err *err,
		      uint8_t ret_key[static S3C_KEY_LEN])
{
	cleanup_free char *key_path = s3c_asprintf("%s/cache.key", cache->dir);
	uint8_t check[S3C_SHA256_LEN];
	sqlite3_stmt *stmt = NULL;
	int r = -EUCLEAN, rc;

	if (!key_path)
		return -ENOMEM;
	rc = sqlite3_prepare_v2(cache->db, "SELECT key_kind, wrapped, key_check FROM meta", -1,
				&stmt, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc != SQLITE_ROW) {
		if (rc != SQLITE_DONE)
			r = fault_errno(cache->db, rc);
	} else if (sqlite3_column_int(stmt, 0) == S3C_CACHE_KEY_EPHEMERAL) {
		r = -ENOKEY;
	} else if (cache->key) { /* of this opening, and it has begun a database: that was ours */
		memcpy(ret_key, cache->key, S3C_KEY_LEN);
		r = 0;
	} else if (sqlite3_column_int(stmt, 0) != (int)cache->kind) {
		r = foreign_key(cache, err);
	} else if (cache->kind == S3C_CACHE_KEY_FILE) {
		r = read_key_file(key_path, ret_key);
		r = r == -ENOENT ? -ENOKEY : r;
	} else if (sqlite3_column_bytes(stmt, 1) == S3C_CACHE_WRAPPED_LEN) {
		memcpy(cache->wrapped, sqlite3_column_blob(stmt, 1), S3C_CACHE_WRAPPED_LEN);
		r = s3c_cache_key_unwrap(cache->wrap_key, cache->wrapped, ret_key);
		if (r == -EBADMSG)
			r = foreign_key(cache, err);
	}
	if (r == 0)
		r = s3c_cache_key_check(ret_key, check);
	if (r == 0 && (sqlite3_column_bytes(stmt, 2) != sizeof(check) ||
		       !s3c_equal_ct(sqlite3_column_blob(stmt, 2), check, sizeof(check))))
		r = cache->kind == S3C_CACHE_KEY_FILE ? -ENOKEY : foreign_key(cache, err);
	sqlite3_finalize(stmt);
	return r;
}

/* A key for a new database: the one in use, the file's, or a random one. */
static int new_key(struct s3c_cache *cache, uint8_t ret_key[static S3C_KEY_LEN])
{
	cleanup_free char *key_path = s3c_asprintf("%s/cache.key", cache->dir);
	uint8_t check[S3C_SHA256_LEN];
	sqlite3_stmt *stmt = NULL;
	int r = -ENOENT, rc;

	if (!key_path)
		return -ENOMEM;
	if (cache->key) {
		memcpy(ret_key, cache->key, S3C_KEY_LEN);
		r = 0;
	} else {
		if (cache->kind == S3C_CACHE_KEY_FILE)
			r = read_key_file(key_path, ret_key);
		if (r == -ENOENT) {
			s3c_random(ret_key, S3C_KEY_LEN);
			r = cache->kind == S3C_CACHE_KEY_FILE ? write_key_file(key_path, ret_key)
							      : 0;
		}
		if (r == 0 && cache->kind == S3C_CACHE_KEY_WRAPPED)
			r = s3c_cache_key_wrap(cache->wrap_key, ret_key, cache->wrapped);
	}
	if (r == 0)
		r = s3c_cache_key_check(ret_key, check);
	if (r < 0)
		return r;
	rc = sqlite3_prepare_v2(cache->db, "INSERT INTO meta VALUES (1, ?, ?, ?)", -1, &stmt, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_int(stmt, 1, (int)cache->kind);
		if (cache->kind == S3C_CACHE_KEY_WRAPPED)
			sqlite3_bind_blob(stmt, 2, cache->wrapped, S3C_CACHE_WRAPPED_LEN,
					  SQLITE_STATIC);
		sqlite3_bind_blob(stmt, 3, check, sizeof(check), SQLITE_STATIC);
		rc = sqlite3_step(stmt);
	}
	sqlite3_finalize(stmt);
	return rc == SQLITE_DONE ? 0 : fault_errno(cache->db, rc);
}

static int begin_session(struct s3c_cache *cache)
{
	int64_t session = cache->session;
	sqlite3_stmt *stmt = NULL;
	int rc = SQLITE_OK;

	/* One number for the whole opening: what is queued carries it already. */
	if (!session)
		rc = number(cache->db, "SELECT coalesce(max(id), 0) + 1 FROM session", &session);
	if (rc == SQLITE_OK && (session <= 0 || session > UINT32_MAX))
		rc = SQLITE_CORRUPT;
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(cache->db,
				  "DELETE FROM session WHERE id NOT IN (SELECT id FROM session "
				  "ORDER BY id DESC LIMIT " NUMBER(SESSIONS_MAX) ")",
				  NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(cache->db, "INSERT OR REPLACE INTO session VALUES (?, ?)",
					-1, &stmt, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_int64(stmt, 1, session);
		sqlite3_bind_blob(stmt, 2, cache->salt, S3C_CACHE_SALT_LEN, SQLITE_STATIC);
		rc = sqlite3_step(stmt);
	}
	sqlite3_finalize(stmt);
	if (rc == SQLITE_DONE)
		cache->session = (uint32_t)session;
	return rc == SQLITE_DONE ? 0 : fault_errno(cache->db, rc);
}

/* Numbers that go on where they were; and a look at both ends of each table. */
static int load_state(struct s3c_cache *cache)
{
	static const char *const looks[] = {
		"SELECT count(*) FROM (SELECT have FROM run ORDER BY used LIMIT 8)",
		"SELECT count(*) FROM (SELECT have FROM run ORDER BY used DESC LIMIT 8)",
		"SELECT count(*) FROM (SELECT id FROM chunk ORDER BY id LIMIT 8)",
		"SELECT count(*) FROM (SELECT id FROM chunk ORDER BY id DESC LIMIT 8)",
		"SELECT count(*) FROM (SELECT key FROM record ORDER BY used LIMIT 8)",
	};
	uint64_t ahead = __atomic_load_n(&cache->epoch, __ATOMIC_RELAXED);
	int64_t tick = 0, epoch = 0, chunks = 0, none;
	int rc = number(cache->db, "SELECT tick FROM state", &tick);

	if (rc == SQLITE_OK)
		rc = number(cache->db, "SELECT epoch FROM state", &epoch);
	if (rc == SQLITE_OK)
		rc = number(cache->db, "SELECT chunks FROM state", &chunks);
	for (size_t i = 0; i < ARRAY_LEN(looks) && rc == SQLITE_OK; i++)
		rc = number(cache->db, looks[i], &none);
	for (size_t i = 0; i < S3C_CACHE_STATEMENTS && rc == SQLITE_OK; i++)
		rc = sqlite3_prepare_v3(cache->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
					&cache->stmt[i], NULL);
	if (rc != SQLITE_OK)
		return fault_errno(cache->db, rc);
	if (tick < S3C_CACHE_TICK0)
		return -EUCLEAN;
	cache->tick = tick;
	cache->saved_epoch = (uint64_t)epoch;
	/* What was put while the database was away is not in it. */
	__atomic_store_n(&cache->epoch, (uint64_t)epoch + (ahead ? ahead + 1 : 0),
			 __ATOMIC_RELAXED);
	cache->chunks = (uint64_t)S3C_MAX(chunks, 0);
	__atomic_store_n(&cache->chunks_shown, cache->chunks, __ATOMIC_RELAXED);
	return 0;
}

static void disconnect(struct s3c_cache *cache)
{
	for (size_t i = 0; i < S3C_CACHE_STATEMENTS; i++)
		sqlite3_finalize(steal_ptr(cache->stmt[i]));
	sqlite3_close(steal_ptr(cache->db));
	/* Only now: closing any descriptor of a file gives up SQLite's locks on it. */
	if (cache->sync_fd >= 0)
		close(cache->sync_fd);
	cache->sync_fd = -1;
}

/* Opens what is there (fresh: an empty file). -EUCLEAN, -ENOKEY, -EPROTO, -EFBIG: not to be used.
 */
static int open_found(struct s3c_cache *cache, bool fresh, struct s3c_err *err)
{
	cleanup_secret uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);
	int64_t pages = 0;
	int r, rc;

	if (!key)
		return -ENOMEM;
	cache->sync_fd = open(cache->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (cache->sync_fd < 0)
		return -errno;
	rc = connect_writer(cache);
	if (rc == SQLITE_MISMATCH)
		return -EPROTO;
	if (rc != SQLITE_OK)
		return fault_errno(cache->db, rc);
	r = fresh ? new_key(cache, key) : stored_key(cache, err, key);
	if (r < 0)
		return r;
	if (!fresh && cache->suspect)
		return -EUCLEAN;
	rc = number(cache->db, "PRAGMA page_count", &pages);
	if (rc != SQLITE_OK)
		return fault_errno(cache->db, rc);
	if ((uint64_t)pages > cache->max_pages)
		return -EFBIG;
	r = mark(cache, "open");
	if (r == 0 && !cache->key)
		r = s3c_cache_key_set(cache, key);
	if (r == 0)
		r = load_state(cache);
	if (r == 0)
		r = begin_session(cache);
	if (r == 0)
		cache->suspect = false;
	return r;
}

static const char *unusable(struct s3c_cache *cache, int r)
{
	switch (r) {
	case -EUCLEAN:
		return cache->suspect ? "was in use when the machine stopped" : "is damaged";
	case -ENOKEY:
		return "has lost its key";
	case -EPROTO:
		return "was made by a newer version";
	case -EFBIG:
		return "is larger than the limit is now";
	default:
		return NULL;
	}
}

int s3c_cache_db_open(struct s3c_cache *cache, struct s3c_err *err)
{
	enum found found;
	int r;

	if (mkdir(cache->dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	r = cache->lock_fd < 0 ? take_lock(cache, err) : 0;
	if (r == 0)
		r = look(cache, &found);
	if (r < 0)
		return r;
	if (found == FOUND_FOREIGN) {
		s3c_warn("cache %s is no cache of ours: it is now %s.aside, and a new one begins",
			 cache->path, cache->path);
		move_files(cache, ".aside");
	} else if (found == FOUND_DAMAGED) {
		s3c_warn("cache %s is damaged (cut short): a new one begins", cache->path);
	}
	if (found == FOUND_OURS && cache->kind != S3C_CACHE_KEY_EPHEMERAL) {
		r = open_found(cache, false, err);
		if (r == 0)
			return 0;
		disconnect(cache);
		if (!unusable(cache, r))
			return r;
		s3c_warn("cache %s %s: a new one begins", cache->path, unusable(cache, r));
	}
	r = create_file(cache);
	if (r == 0)
		r = open_found(cache, true, err);
	if (r < 0) {
		disconnect(cache);
		move_files(cache, NULL);
	}
	return r;
}

void s3c_cache_db_close(struct s3c_cache *cache, bool keep)
{
	cleanup_close int dir = open(cache->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (!cache->db)
		return;
	fd = cache->sync_fd;
	cache->sync_fd = -1;
	if (!keep)
		move_files(cache, NULL); /* first: the WAL is not worth a checkpoint */
	disconnect(cache);
	/* The removal of the WAL too: an old one would put old pages into the file. */
	if (keep && fsync(fd) == 0 && dir >= 0 && fsync(dir) == 0)
		mark(cache, "closed");
	close(fd);
}
