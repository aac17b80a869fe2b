/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Who writes to journal.db. The connection `batch` belongs to whoever has set `busy`: the writer
 * thread, or for one transaction a thread that commits (s3c_tx_commit) while nothing else is under
 * way, which saves two changes of threads. Others (pins, the key) are guests: they wait until it is
 * not busy, and as long as there are guests nobody becomes busy.
 *
 *	queue: given, in order    batch: taken, one SQLite transaction    settled: done was called
 *
 * The writer takes what has queued while it wrote: group commit. The commit syncs the WAL when one
 * of the batch asks for it. What was committed before without a sync is in the same WAL, before it,
 * or in the database, which a checkpoint has synced before it let the WAL begin anew; so a sync
 * makes all of it durable. Where such a commit would write nothing, `touch` is written.
 *
 * When a batch fails, it is rolled back, and its transactions are tried alone, in order: only those
 * that do not fit are refused, and later ones may succeed. A transaction that only deletes is not
 * refused: it gets the reserve (space.c). Puts are accepted only as long as the database can grow
 * by all that is in the WAL, so that this is enough. Where it is not (another program was faster),
 * the delete waits in the queue and is tried again; until it is through, nothing overtakes it, and
 * all that somebody waits for (puts, syncs, deletes by s3c_tx_commit) is refused at once.
 *
 * When a sync fails, the kernel may count pages as clean that are not on the disk, and a later
 * sync that succeeds would prove nothing: the connection is `suspect`, and writes nothing until a
 * checkpoint has put all of the WAL into the database and emptied it. A transaction that ended with
 * -EIO may still be found after a crash.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "db/journal_private.h"

#define BATCH_TX_MAX 256
#define BATCH_BYTES_MAX (4u << 20)
#define SHRINK_AFTER_NS (2 * S3C_NSEC_PER_SEC) /* what was freed is likely to be used again */
#define STUCK_NS (500 * S3C_NSEC_PER_MSEC)     /* a delete that does not fit is tried again */

struct batch {
	struct s3c_tx_list txs;
	unsigned count;
	uint64_t bytes;
	bool sync, notes;
	int notes_result;
	uint64_t commits, syncs;
};

int s3c_writer_synchronous(struct s3c_journal *journal, bool full)
{
	int rc;

	if (journal->sync_full == full)
		return SQLITE_OK;
	rc = sqlite3_exec(journal->batch,
			  full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", NULL,
			  NULL, NULL);
	if (rc == SQLITE_OK)
		journal->sync_full = full;
	return rc;
}

static int begin(struct s3c_journal *journal, bool sync)
{
	int rc = s3c_writer_synchronous(journal, sync);

	if (rc == SQLITE_OK)
		rc = s3c_db_cached(journal->batch, &journal->stmt.begin, "BEGIN IMMEDIATE");
	return rc == SQLITE_OK ? s3c_db_run(journal->stmt.begin) : rc;
}

static int touch(struct s3c_journal *journal)
{
	int rc = s3c_db_cached(journal->batch, &journal->stmt.touch,
			       "UPDATE touch SET count = count + 1");

	return rc == SQLITE_OK ? s3c_db_run(journal->stmt.touch) : rc;
}

static int commit(struct s3c_journal *journal)
{
	int rc = s3c_db_cached(journal->batch, &journal->stmt.commit, "COMMIT");

	return rc == SQLITE_OK ? s3c_db_run(journal->stmt.commit) : rc;
}

/* Rolls back, and says what was wrong. */
static int give_up(struct s3c_journal *journal, int rc)
{
	int r = s3c_db_error(journal->batch, rc);

	if (rc == SQLITE_IOERR_FSYNC)
		journal->suspect = true;
	/* A full disk is told where it is decided what follows from it. */
	if (r != -ENOSPC)
		s3c_error("journal: cannot be written: %s (%d)", sqlite3_errmsg(journal->batch),
			  rc);
	if (!sqlite3_get_autocommit(journal->batch))
		sqlite3_exec(journal->batch, "ROLLBACK", NULL, NULL, NULL);
	return r == -ENOSPC ? -ENOSPC : -EIO;
}

/* One SQLite transaction of those without a result: of `one`, or of all of the batch. */
static int attempt(struct s3c_journal *journal, struct batch *batch, struct s3c_tx *one, bool notes,
		   bool sync)
{
	int64_t changes = sqlite3_total_changes64(journal->batch);
	struct s3c_tx *tx = one ? one : STAILQ_FIRST(&batch->txs);
	int rc = begin(journal, sync);

	if (rc == SQLITE_OK && notes)
		rc = s3c_notes_apply(journal);
	while (rc == SQLITE_OK && tx) {
		if (tx->result == 0)
			rc = s3c_tx_apply(journal, tx);
		tx = one ? NULL : STAILQ_NEXT(tx, link);
	}
	if (rc == SQLITE_OK && sync && journal->unsynced &&
	    sqlite3_total_changes64(journal->batch) == changes)
		rc = touch(journal);
	if (rc == SQLITE_OK)
		rc = commit(journal);
	if (rc != SQLITE_OK)
		return give_up(journal, rc);
	if (sqlite3_total_changes64(journal->batch) != changes) {
		journal->unsynced = !sync;
		batch->commits++;
		batch->syncs += sync;
	}
	return 0;
}

/* After a sync that failed: everything out of the WAL, or nothing can be promised. */
static bool mend(struct s3c_journal *journal)
{
	int rc = sqlite3_wal_checkpoint_v2(journal->batch, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
					   NULL);

	if (rc != SQLITE_OK && s3c_db_error(journal->batch, rc) == -ENOSPC &&
	    s3c_space_release(journal))
		rc = sqlite3_wal_checkpoint_v2(journal->batch, NULL, SQLITE_CHECKPOINT_TRUNCATE,
					       NULL, NULL);
	if (rc != SQLITE_OK)
		return false;
	s3c_warn("journal: can be written again");
	journal->wal_frames = journal->wal_done = journal->wal_tried = 0;
	journal->suspect = false;
	journal->unsynced = false;
	return true;
}

static bool may_wait_for_space(const struct s3c_tx *tx)
{
	return tx->vital || s3c_tx_only_deletes(tx);
}

static void settle_locked(struct s3c_journal *journal, struct s3c_tx_list *txs)
{
	struct s3c_tx *tx;

	s3c_mutex_assert_held(&journal->lock);
	STAILQ_FOREACH (tx, txs, link) {
		if (tx->counted) {
			journal->queued_records -= tx->puts;
			journal->queued_bytes -= tx->bytes;
		}
		if (tx->result == 0) {
			journal->records += (uint64_t)tx->more_records;
			journal->bytes += (uint64_t)tx->more_bytes;
		}
		if (tx->result == 0 && tx->more_bytes < 0) {
			journal->freed = true;
			journal->shrink_ns = s3c_clock_monotonic_ns() + SHRINK_AFTER_NS;
		}
		journal->last_error = tx->result;
	}
	s3c_waitq_wake_all(&journal->room);
}

static void end_wait(struct s3c_tx_wait *wait, int result)
{
	s3c_mutex_lock(&wait->lock);
	wait->result = result;
	wait->over = true;
	s3c_waitq_wake_all(&wait->q);
	s3c_mutex_unlock(&wait->lock);
}

static void call_done(struct s3c_tx_list *txs)
{
	struct s3c_tx *tx;

	while ((tx = STAILQ_FIRST(txs))) {
		STAILQ_REMOVE_HEAD(txs, link);
		if (tx->wait)
			end_wait(tx->wait, tx->result);
		if (tx->done)
			tx->done(tx->arg, tx->result);
		s3c_tx_free(tx);
	}
}

/* Nobody waits for it: it may stay in the queue until there is room. */
static bool has_patience(const struct s3c_tx *tx)
{
	return s3c_tx_only_deletes(tx) && !STAILQ_EMPTY(&tx->ops) && !tx->vital && !tx->wait;
}

/* Out of the queue: what is not to wait for space. all: the deletes as well. */
static void refuse_locked(struct s3c_journal *journal, bool all, struct s3c_tx_list *refused)
{
	struct s3c_tx_list kept = STAILQ_HEAD_INITIALIZER(kept);
	struct s3c_tx *tx;

	s3c_mutex_assert_held(&journal->lock);
	while ((tx = STAILQ_FIRST(&journal->queue))) {
		STAILQ_REMOVE_HEAD(&journal->queue, link);
		if (!all && tx->result == 0 && has_patience(tx)) {
			STAILQ_INSERT_TAIL(&kept, tx, link);
			continue;
		}
		if (tx->result == 0)
			tx->result = -ENOSPC;
		STAILQ_INSERT_TAIL(refused, tx, link);
	}
	STAILQ_CONCAT(&journal->queue, &kept);
	settle_locked(journal, refused);
}

/* From tx on, back to where they came from. */
static void give_back_locked(struct s3c_journal *journal, struct batch *batch, struct s3c_tx *tx)
{
	struct s3c_tx_list done = STAILQ_HEAD_INITIALIZER(done);
	struct s3c_tx *first;

	s3c_mutex_assert_held(&journal->lock);
	while ((first = STAILQ_FIRST(&batch->txs)) != tx) {
		STAILQ_REMOVE_HEAD(&batch->txs, link);
		STAILQ_INSERT_TAIL(&done, first, link);
	}
	STAILQ_CONCAT(&batch->txs, &journal->queue);
	STAILQ_CONCAT(&journal->queue, &batch->txs);
	STAILQ_CONCAT(&batch->txs, &done);
}

/*
 * tx does not fit, not even with the reserve. Whoever waits for something behind it is answered at
 * once, and whoever comes until it is tried again; at the end of the journal all are.
 */
static void wait_for_space(struct s3c_journal *journal, struct batch *batch, struct s3c_tx *tx)
{
	int64_t until = s3c_clock_monotonic_ns() + STUCK_NS;

	s3c_mutex_lock(&journal->lock);
	give_back_locked(journal, batch, tx);
	journal->stuck = true;
	s3c_waitq_wake_all(&journal->done);
	for (;;) {
		struct s3c_tx_list refused = STAILQ_HEAD_INITIALIZER(refused);
		struct s3c_op op;

		refuse_locked(journal, journal->stop, &refused);
		if (!STAILQ_EMPTY(&refused)) {
			s3c_mutex_unlock(&journal->lock);
			call_done(&refused);
			s3c_mutex_lock(&journal->lock);
			continue;
		}
		if (journal->stop || s3c_clock_monotonic_ns() >= until)
			break;
		s3c_op_init(&op, until);
		s3c_waitq_wait(&journal->work, &journal->lock, &op);
		s3c_op_destroy(&op);
	}
	while (journal->guests)
		s3c_waitq_wait(&journal->work, &journal->lock, NULL);
	journal->stuck = false;
	s3c_mutex_unlock(&journal->lock);
}

static int attempt_alone(struct s3c_journal *journal, struct batch *batch, struct s3c_tx *tx)
{
	bool sync = tx->mode == S3C_TX_SYNC;
	int r = attempt(journal, batch, tx, false, sync);

	if (r != -ENOSPC || !may_wait_for_space(tx))
		return r;
	s3c_space_release(journal);
	s3c_space_checkpoint(journal);
	return journal->suspect ? -EIO : attempt(journal, batch, tx, false, sync);
}

static void fail_all(struct batch *batch, int result)
{
	struct s3c_tx *tx;

	STAILQ_FOREACH (tx, &batch->txs, link) {
		if (tx->result == 0)
			tx->result = result;
	}
	batch->notes_result = result;
}

/* Refuses the puts for which there is no room. */
static void sift(struct s3c_journal *journal, struct batch *batch)
{
	const bool was_full = journal->full;
	uint64_t puts = 0, bytes = 0;
	struct s3c_tx *tx;

	STAILQ_FOREACH (tx, &batch->txs, link) {
		if (tx->result || may_wait_for_space(tx))
			continue;
		if (journal->full || !s3c_space_fits(journal, puts + tx->puts, bytes + tx->bytes)) {
			tx->result = -ENOSPC;
		} else {
			puts += tx->puts;
			bytes += tx->bytes;
		}
	}
	/* The reserve went meanwhile, and those before had counted on it. */
	if (journal->full && !was_full)
		sift(journal, batch);
}

static void run(struct s3c_journal *journal, struct batch *batch)
{
	struct s3c_tx *tx;
	int r;

	if (journal->suspect && !mend(journal)) {
		fail_all(batch, -EIO);
		return;
	}
	sift(journal, batch);
	r = attempt(journal, batch, NULL, batch->notes, batch->sync);
	if (r == 0)
		return;
	if (journal->suspect) {
		fail_all(batch, r);
		return;
	}
	batch->notes_result = r;
	STAILQ_FOREACH (tx, &batch->txs, link) {
		if (tx->result)
			continue;
		if (journal->suspect)
			tx->result = -EIO;
		else if (journal->full && !may_wait_for_space(tx))
			tx->result = -ENOSPC;
		else
			tx->result = attempt_alone(journal, batch, tx);
		if (tx->result == -ENOSPC && s3c_tx_only_deletes(tx)) {
			tx->result = 0;
			wait_for_space(journal, batch, tx);
			return;
		}
	}
}

static void take_locked(struct s3c_journal *journal, struct batch *batch)
{
	struct s3c_notes *notes = &journal->notes;
	struct s3c_tx *tx;

	s3c_mutex_assert_held(&journal->lock);
	*batch = (struct batch){ 0 };
	STAILQ_INIT(&batch->txs);
	while ((tx = STAILQ_FIRST(&journal->queue)) && batch->count < BATCH_TX_MAX &&
	       (!batch->count || batch->bytes + tx->bytes <= BATCH_BYTES_MAX)) {
		STAILQ_REMOVE_HEAD(&journal->queue, link);
		STAILQ_INSERT_TAIL(&batch->txs, tx, link);
		batch->count++;
		batch->bytes += tx->bytes;
		batch->sync |= tx->mode == S3C_TX_SYNC && tx->result == 0;
	}
	if (notes->flushing || journal->stop || s3c_clock_monotonic_ns() >= notes->due_ns)
		batch->notes = s3c_notes_take_locked(journal, !batch->count || notes->flushing);
}

static void count_locked(struct s3c_journal *journal, const struct batch *batch)
{
	journal->commits += batch->commits;
	journal->syncs += batch->syncs;
}

/* Is there something to be done now? If not: when. */
static bool is_due_locked(struct s3c_journal *journal, int64_t *ret_until)
{
	const struct s3c_notes *notes = &journal->notes;
	int64_t until = INT64_MAX;

	if (!STAILQ_EMPTY(&journal->queue) || journal->tidy)
		return true;
	if (notes->pending && (journal->stop || notes->flushing))
		return true;
	if (notes->pending)
		until = notes->due_ns;
	if (journal->full)
		until = S3C_MIN(until, journal->probe_ns);
	if (journal->freed)
		until = S3C_MIN(until, journal->shrink_ns);
	*ret_until = until;
	return until != INT64_MAX && s3c_clock_monotonic_ns() >= until;
}

/* Waits until there is something to be done; false: the end. */
static bool wait_for_work_locked(struct s3c_journal *journal)
{
	s3c_mutex_assert_held(&journal->lock);
	for (;;) {
		int64_t until = INT64_MAX;
		struct s3c_op op;

		if (is_due_locked(journal, &until)) {
			if (!journal->busy && !journal->guests)
				return true;
			/* Nobody commits beside the queue before that was done; its end wakes. */
			journal->tidy = true;
			until = INT64_MAX;
		} else if (journal->stop && !journal->busy && !journal->guests) {
			return false;
		}
		if (until == INT64_MAX) {
			s3c_waitq_wait(&journal->work, &journal->lock, NULL);
			continue;
		}
		s3c_op_init(&op, until);
		s3c_waitq_wait(&journal->work, &journal->lock, &op);
		s3c_op_destroy(&op);
	}
}

static void *writer_main(void *arg)
{
	struct s3c_journal *journal = arg;
	bool failed_last = false;

	s3c_mutex_lock(&journal->lock);
	while (!failed_last && wait_for_work_locked(journal)) {
		struct batch batch;
		bool idle;

		take_locked(journal, &batch);
		journal->busy = true;
		journal->tidy = false;
		s3c_mutex_unlock(&journal->lock);
		if (batch.count || batch.notes)
			run(journal, &batch);
		s3c_mutex_lock(&journal->lock);
		count_locked(journal, &batch);
		settle_locked(journal, &batch.txs);
		if (batch.notes) {
			s3c_notes_settle_locked(journal, batch.notes_result);
			failed_last = journal->stop && batch.notes_result < 0 &&
				      STAILQ_EMPTY(&journal->queue);
		}
		idle = STAILQ_EMPTY(&journal->queue);
		s3c_mutex_unlock(&journal->lock);
		call_done(&batch.txs);
		s3c_space_tidy(journal, idle);
		s3c_mutex_lock(&journal->lock);
		journal->busy = false;
		s3c_waitq_wake_all(&journal->done);
	}
	s3c_mutex_unlock(&journal->lock);
	return NULL;
}

void s3c_writer_enter(struct s3c_journal *journal)
{
	s3c_mutex_lock(&journal->lock);
	journal->guests++;
	while (journal->busy && !journal->stuck)
		s3c_waitq_wait(&journal->done, &journal->lock, NULL);
	s3c_mutex_unlock(&journal->lock);
}

void s3c_writer_leave(struct s3c_journal *journal)
{
	s3c_mutex_lock(&journal->lock);
	journal->guests--;
	s3c_waitq_wake_all(&journal->work);
	s3c_mutex_unlock(&journal->lock);
}

static bool has_room_locked(const struct s3c_journal *journal, uint64_t bytes)
{
	uint64_t used = journal->bytes + journal->queued_bytes;

	return used <= journal->limit && bytes <= journal->limit - used;
}

static void enqueue_locked(struct s3c_journal *journal, struct s3c_tx *tx)
{
	s3c_mutex_assert_held(&journal->lock);
	if (!may_wait_for_space(tx) && !has_room_locked(journal, tx->bytes)) {
		tx->result = -ENOSPC;
	} else {
		tx->counted = true;
		journal->queued_records += tx->puts;
		journal->queued_bytes += tx->bytes;
	}
	STAILQ_INSERT_TAIL(&journal->queue, tx, link);
}

void s3c_writer_submit(struct s3c_journal *journal, struct s3c_tx *tx)
{
	s3c_mutex_lock(&journal->lock);
	enqueue_locked(journal, tx);
	if (!journal->busy || journal->stuck)
		s3c_waitq_wake_one(&journal->work);
	s3c_mutex_unlock(&journal->lock);
}

/*
 * One is in the queue, nobody has the connection. No done of others is called here. False: it is
 * the writer's affair.
 */
static bool commit_here_locked(struct s3c_journal *journal, int *ret_result)
{
	struct batch batch = { 0 };
	bool was_freed = journal->freed, settled = true;
	struct s3c_tx *tx;

	STAILQ_INIT(&batch.txs);
	STAILQ_CONCAT(&batch.txs, &journal->queue);
	tx = STAILQ_FIRST(&batch.txs);
	journal->busy = true;
	s3c_mutex_unlock(&journal->lock);
	tx->result = attempt(journal, &batch, tx, false, tx->mode == S3C_TX_SYNC);
	s3c_mutex_lock(&journal->lock);
	count_locked(journal, &batch);
	journal->busy = false;
	if (tx->result == -ENOSPC && may_wait_for_space(tx)) {
		tx->result = 0;
		STAILQ_INSERT_HEAD(&journal->queue, tx, link); /* before what came since */
		settled = false;
	} else {
		settle_locked(journal, &batch.txs);
		*ret_result = tx->result;
		s3c_tx_free(tx);
	}
	s3c_waitq_wake_all(&journal->done);
	if (s3c_space_untidy(journal))
		journal->tidy = true;
	if (journal->tidy || journal->freed != was_freed || !STAILQ_EMPTY(&journal->queue))
		s3c_waitq_wake_one(&journal->work);
	return settled;
}

int s3c_writer_commit(struct s3c_journal *journal, struct s3c_tx *tx)
{
	struct s3c_tx_wait wait = { .over = false };
	bool alone;
	int result;

	s3c_mutex_init(&wait.lock);
	s3c_waitq_init(&wait.q);
	/* It is over before this returns. */
	/* cppcheck-suppress autoVariables */
	tx->wait = &wait;
	s3c_mutex_lock(&journal->lock);
	alone = STAILQ_EMPTY(&journal->queue) && !journal->busy && !journal->guests &&
		!journal->tidy && !journal->full && !journal->suspect &&
		(may_wait_for_space(tx) || s3c_space_ample(journal, tx->puts, tx->bytes));
	enqueue_locked(journal, tx);
	if (alone && tx->result == 0) {
		alone = commit_here_locked(journal, &result);
	} else {
		alone = false;
		if (!journal->busy || journal->stuck)
			s3c_waitq_wake_one(&journal->work);
	}
	s3c_mutex_unlock(&journal->lock);
	if (!alone) {
		s3c_mutex_lock(&wait.lock);
		while (!wait.over)
			s3c_waitq_wait(&wait.q, &wait.lock, NULL);
		s3c_mutex_unlock(&wait.lock);
		result = wait.result;
	}
	s3c_mutex_destroy(&wait.lock);
	return result;
}

static int wal_grew(void *arg, sqlite3 *db, const char *name, int frames)
{
	struct s3c_journal *journal = arg;

	(void)db;
	(void)name;
	/* It began anew; or it may have, when all of it was done. */
	if (frames < journal->wal_done || journal->wal_done == journal->wal_frames)
		journal->wal_done = journal->wal_tried = 0;
	journal->wal_frames = frames;
	return SQLITE_OK;
}

int s3c_writer_start(struct s3c_journal *journal, struct s3c_err *err)
{
	int r = s3c_db_connect(journal->path, S3C_DB_WRITER, err, &journal->batch);

	if (r < 0)
		return r;
	sqlite3_wal_hook(journal->batch, wal_grew, journal);
	r = s3c_thread_start(&journal->writer, "s3c-journal", writer_main, journal);
	if (r < 0)
		return r;
	journal->writer_started = true;
	return 0;
}

void s3c_writer_stop(struct s3c_journal *journal)
{
	sqlite3_stmt **stmts = (sqlite3_stmt **)&journal->stmt;

	if (journal->writer_started) {
		s3c_mutex_lock(&journal->lock);
		journal->stop = true;
		s3c_waitq_wake_all(&journal->work);
		s3c_mutex_unlock(&journal->lock);
		pthread_join(journal->writer, NULL);
	}
	for (size_t i = 0; i < sizeof(journal->stmt) / sizeof(*stmts); i++)
		sqlite3_finalize(stmts[i]);
	sqlite3_close(journal->batch);
}
