/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/util.h"

#define WRITE_UNIT 4096u /* a page of the file */
#define SHRINK_MIN 256u  /* slots; a smaller file is not worth it */

struct s3c_spill {
	char *dir;
	uint8_t *key;
	uint32_t limit; /* slots */

	/* Guarded by engine->lock. */
	uint64_t counter;
	uint32_t used, high; /* slots below high were used once */
	/* Of slots below high; the nonce of a free one is the next free slot. */
	struct s3c_spill_seal *seals;
	uint32_t alloc;
	uint32_t free_head; /* UINT32_MAX: none */
	bool shrinking;

	pthread_mutex_t file_lock;
	int fd; /* guarded by file_lock while it is made; -1: not yet */
};

void s3c_spill_limit(struct s3c_spill *spill, uint64_t limit)
{
	spill->limit = (uint32_t)S3C_MIN(limit / S3C_CHUNK_SIZE, (uint64_t)UINT32_MAX - 1);
}

int s3c_spill_new(const char *dir, uint64_t limit, struct s3c_spill **ret_spill)
{
	struct s3c_spill *spill = calloc(1, sizeof(*spill));

	if (!spill)
		return -ENOMEM;
	spill->fd = -1;
	spill->free_head = UINT32_MAX;
	s3c_spill_limit(spill, limit);
	pthread_mutex_init(&spill->file_lock, NULL);
	spill->dir = strdup(dir);
	spill->key = s3c_secret_alloc(S3C_KEY_LEN);
	if (!spill->dir || !spill->key) {
		s3c_spill_free(spill);
		return -ENOMEM;
	}
	s3c_random(spill->key, S3C_KEY_LEN);
	*ret_spill = spill;
	return 0;
}

void s3c_spill_free(struct s3c_spill *spill)
{
	if (!spill)
		return;
	if (spill->fd >= 0)
		close(spill->fd);
	pthread_mutex_destroy(&spill->file_lock);
	s3c_secret_free(spill->key);
	free(spill->seals);
	free(spill->dir);
	free(spill);
}

int s3c_spill_take(struct s3c_spill *spill, uint32_t *ret_slot, uint64_t *ret_nonce)
{
	uint32_t slot = spill->free_head;

	if (spill->shrinking)
		return -EAGAIN;
	if (slot != UINT32_MAX) {
		spill->free_head = (uint32_t)spill->seals[slot].nonce;
	} else {
		if (spill->high >= spill->limit)
			return -ENOSPC;
		if (spill->high == spill->alloc) {
			uint32_t alloc = S3C_MIN(S3C_MAX(spill->alloc * 2, 1024u), spill->limit);
			struct s3c_spill_seal *seals =
				reallocarray(spill->seals, alloc, sizeof(*seals));

			if (!seals)
				return -ENOMEM;
			spill->seals = seals;
			spill->alloc = alloc;
		}
		slot = spill->high++;
	}
	spill->used++;
	spill->seals[slot].nonce = *ret_nonce = ++spill->counter;
	*ret_slot = slot;
	return 0;
}

void s3c_spill_give(struct s3c_spill *spill, uint32_t slot)
{
	spill->seals[slot].nonce = spill->free_head;
	spill->free_head = slot;
	spill->used--;
}

struct s3c_spill_seal s3c_spill_seal(const struct s3c_spill *spill, uint32_t slot)
{
	return spill->seals[slot];
}

void s3c_spill_set_tag(struct s3c_spill *spill, uint32_t slot, uint32_t len,
		       const uint8_t tag[static S3C_TAG_LEN])
{
	spill->seals[slot].len = len;
	memcpy(spill->seals[slot].tag, tag, S3C_TAG_LEN);
}

uint32_t s3c_spill_len(uint32_t used)
{
	return S3C_MIN(DIV_ROUND_UP(used, WRITE_UNIT) * WRITE_UNIT, S3C_CHUNK_SIZE);
}

uint64_t s3c_spill_used(const struct s3c_spill *spill)
{
	return (uint64_t)spill->used * S3C_CHUNK_SIZE;
}

bool s3c_spill_shrink_begin(struct s3c_spill *spill)
{
	if (spill->used || spill->high < SHRINK_MIN || spill->shrinking)
		return false;
	spill->shrinking = true;
	return true;
}

void s3c_spill_shrink_end(struct s3c_spill *spill)
{
	spill->high = 0;
	spill->free_head = UINT32_MAX;
	spill->shrinking = false;
}

static int open_file(const char *dir)
{
	cleanup_free char *name = NULL;
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	/* Not every file system has O_TMPFILE (NFS, overlays of old kernels). */
	name = s3c_asprintf("%s/.spill-XXXXXX", dir);
	if (!name)
		return -ENOMEM;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(name);
	return fd;
}

static int spill_fd(struct s3c_spill *spill)
{
	int fd;

	pthread_mutex_lock(&spill->file_lock);
	fd = spill->fd;
	if (fd < 0) {
		fd = open_file(spill->dir);
		if (fd >= 0)
			spill->fd = fd;
		else
			s3c_error("%s: cannot make a file for data that does not fit into memory: "
				  "%s",
				  spill->dir, strerror(-fd));
	}
	pthread_mutex_unlock(&spill->file_lock);
	return fd;
}

void s3c_spill_shrink(struct s3c_spill *spill)
{
	if (ftruncate(spill_fd(spill), 0) < 0)
		s3c_debug("spill file: ftruncate: %m");
}

static void put_nonce(uint64_t counter, uint8_t nonce[static S3C_NONCE_LEN])
{
	memset(nonce, 0, S3C_NONCE_LEN);
	s3c_put_be64(nonce + 4, counter);
}

int s3c_spill_write(struct s3c_spill *spill, uint32_t slot, uint64_t nonce, const void *data,
		    uint32_t len, uint8_t ret_tag[static S3C_TAG_LEN])
{
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	cleanup_free uint8_t *out = malloc(S3C_MAX(len, 1u));
	uint8_t nonce_bytes[S3C_NONCE_LEN], aad[4];
	off_t at = (off_t)slot * S3C_CHUNK_SIZE;
	size_t done = 0;
	int fd = spill_fd(spill);
	int r;

	if (fd < 0)
		return fd;
	if (!out)
		return -ENOMEM;
	put_nonce(nonce, nonce_bytes);
	s3c_put_be32(aad, slot);
	r = s3c_gcm_new(spill->key, &gcm);
	if (r < 0)
		return r;
	r = s3c_gcm_seal(gcm, nonce_bytes, aad, sizeof(aad), data, len, out, ret_tag);
	if (r < 0)
		return r;
	while (done < len) {
		ssize_t n = pwrite(fd, out + done, len - done, at + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ENOSPC || errno == EDQUOT ? -ENOSPC : -errno;
		done += (size_t)n;
	}
	return 0;
}

int s3c_spill_read(struct s3c_spill *spill, uint32_t slot, const struct s3c_spill_seal *seal,
		   void *data)
{
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	uint8_t nonce_bytes[S3C_NONCE_LEN], aad[4], *out = data;
	off_t at = (off_t)slot * S3C_CHUNK_SIZE;
	size_t done = 0;
	int fd = spill_fd(spill);
	int r;

	if (fd < 0)
		return fd;
	while (done < seal->len) {
		ssize_t n = pread(fd, out + done, seal->len - done, at + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			s3c_error("spill file in %s: %s", spill->dir,
				  n ? strerror(errno) : "shorter than it was");
			return -EIO;
		}
		done += (size_t)n;
	}
	put_nonce(seal->nonce, nonce_bytes);
	s3c_put_be32(aad, slot);
	r = s3c_gcm_new(spill->key, &gcm);
	if (r < 0)
		return r;
	r = s3c_gcm_open(gcm, nonce_bytes, aad, sizeof(aad), out, seal->len, seal->tag, out);
	if (r < 0) {
		s3c_error("spill file in %s: was altered", spill->dir);
		return -EIO;
	}
	memset(out + seal->len, 0, S3C_CHUNK_SIZE - seal->len);
	return 0;
}
