/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Reads the objects under tests/data/s3ec (its README.md says what they are). A file that is
 * missing or odd fails the test.
 */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/encode.h"
#include "base/secret.h"
#include "object/s3ec.h"

#define VECTORS_MAX 64

struct vector {
	char name[64];
	uint8_t *body;
	size_t body_len;
	char *instruction; /* NULL: none */
	size_t instruction_len;
	struct s3c_meta meta;
	json_t *key, *plain;
	uint64_t size;
	uint8_t *plaintext;
	uint8_t data_key[S3C_KEY_LEN];
	/* What a reader is given. */
	struct s3c_master_key master;
	struct s3c_keyring ring;
	char pem[64]; /* a file, of rsa */
};

static inline const char *text_of(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));

	if (!text) {
		fprintf(stderr, "a vector has no %s\n", name);
		abort();
	}
	return text;
}

static inline uint8_t *file_of(const char *name, const char *file, size_t *ret_len)
{
	const char *data = getenv("S3C_TEST_DATA");
	char path[512];
	uint8_t *bytes;
	struct stat st;
	FILE *f;

	snprintf(path, sizeof(path), "%s/data/s3ec/%s/%s", data ? data : "tests", name, file);
	f = fopen(path, "rb");
	if (!f)
		return NULL;
	if (fstat(fileno(f), &st) < 0 || !(bytes = malloc((size_t)st.st_size + 1)) ||
	    fread(bytes, 1, (size_t)st.st_size, f) != (size_t)st.st_size)
		abort();
	fclose(f);
	bytes[st.st_size] = 0;
	*ret_len = (size_t)st.st_size;
	return bytes;
}

static inline json_t *json_of(const char *name, const char *file)
{
	size_t len;
	char *text = (char *)file_of(name, file, &len);
	json_t *json = text ? json_loadb(text, len, 0, NULL) : NULL;

	if (!json) {
		fprintf(stderr, "%s/%s is missing or no JSON\n", name, file);
		abort();
	}
	free(text);
	return json;
}

static inline void make_plaintext(struct vector *v)
{
	const char *seed = text_of(v->plain, "seed");
	size_t seed_len = strlen(seed);
	uint8_t input[128], hash[S3C_SHA256_LEN];

	v->plaintext = malloc(v->size + S3C_SHA256_LEN);
	if (!v->plaintext || seed_len > sizeof(input) - 8)
		abort();
	memcpy(input, seed, seed_len);
	for (uint64_t at = 0; at < v->size; at += sizeof(hash)) {
		s3c_put_be64(input + seed_len, at / sizeof(hash));
		if (s3c_sha256(input, seed_len + 8, hash) < 0)
			abort();
		memcpy(v->plaintext + at, hash, sizeof(hash));
	}
}

static inline void make_rsa(struct vector *v)
{
	const char *der64 = text_of(v->key, "private_key_der_b64");
	uint8_t der[4096];
	const uint8_t *at = der;
	EVP_PKEY *pkey;
	size_t len;
	FILE *f;
	int fd;

	snprintf(v->pem, sizeof(v->pem), "/tmp/s3ec-vector-XXXXXX");
	fd = mkstemp(v->pem);
	f = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (!f || s3c_base64_decode(der64, strlen(der64), der, sizeof(der), &len) < 0)
		abort();
	pkey = d2i_AutoPrivateKey(NULL, &at, (long)len);
	if (!pkey || PEM_write_PKCS8PrivateKey(f, pkey, NULL, NULL, 0, NULL, NULL) != 1)
		abort();
	EVP_PKEY_free(pkey);
	fclose(f);
	v->master.rsa_private_key = v->pem;
}

static inline void make_keyring(struct vector *v)
{
	json_t *desc = json_object_get(v->key, "caller_supplied"), *value;
	const char *name, *wrap = text_of(v->key, "wrap");

	v->ring = (struct s3c_keyring){ .keys = &v->master, .count = 1 };
	snprintf(v->master.id, sizeof(v->master.id), "theirs");
	v->master.active = true;
	v->master.desc = calloc(json_object_size(desc) + 1, sizeof(*v->master.desc));
	json_object_foreach(desc, name, value)
	{
		struct s3c_key_desc *d = &v->master.desc[v->master.desc_count++];

		d->name = (char *)name;
		d->value = (char *)json_string_value(value);
	}
	if (strcmp(wrap, "rsa") == 0)
		make_rsa(v);
	if (strcmp(wrap, "aes") != 0)
		return;
	v->master.secret_len = strlen(text_of(v->key, "master_key_hex")) / 2;
	v->master.secret = malloc(v->master.secret_len);
	if (s3c_hex_decode(text_of(v->key, "master_key_hex"), v->master.secret,
			   v->master.secret_len) < 0)
		abort();
}

static inline void vector_load(struct vector *v, const char *name)
{
	json_t *metadata = json_of(name, "metadata.json"), *value;
	const char *item;

	*v = (struct vector){ 0 };
	snprintf(v->name, sizeof(v->name), "%s", name);
	v->key = json_of(name, "key.json");
	v->plain = json_of(name, "plaintext.json");
	v->body = file_of(name, "body.bin", &v->body_len);
	v->instruction = (char *)file_of(name, "instruction.json", &v->instruction_len);
	json_object_foreach(json_object_get(metadata, "user_metadata"), item,
			    value) if (s3c_meta_set(&v->meta, item, json_string_value(value)) < 0)
		abort();
	json_decref(metadata);
	v->size = (uint64_t)json_integer_value(json_object_get(v->plain, "length"));
	if (!v->body ||
	    s3c_hex_decode(text_of(v->key, "data_key_hex"), v->data_key, S3C_KEY_LEN) < 0)
		abort();
	make_plaintext(v);
	make_keyring(v);
}

static inline void vector_free(struct vector *v)
{
	if (v->pem[0])
		unlink(v->pem);
	free(v->body);
	free(v->instruction);
	free(v->plaintext);
	free(v->master.secret);
	free(v->master.desc);
	s3c_meta_free(&v->meta);
	json_decref(v->key);
	json_decref(v->plain);
}

/* Names of all, sorted. */
static inline unsigned vector_names(char ret_names[VECTORS_MAX][64])
{
	const char *data = getenv("S3C_TEST_DATA");
	struct dirent **entries;
	unsigned count = 0;
	char path[512];
	int n;

	snprintf(path, sizeof(path), "%s/data/s3ec", data ? data : "tests");
	n = scandir(path, &entries, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (entries[i]->d_name[0] == 'v' && count < VECTORS_MAX)
			snprintf(ret_names[count++], 64, "%.63s", entries[i]->d_name);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return count;
}

/* A KMS that knows one answer: the vector's. */
static inline int kms_decrypt(void *arg, const struct s3c_wrapped_key *wrapped, uint8_t *ret_key,
			      char *why, size_t why_size)
{
	const struct vector *v = arg;
	const json_t *context = json_object_get(v->key, "kms_encryption_context");
	uint8_t blob[S3C_UNWRAP_MAX];
	const char *blob64 = text_of(v->key, "encrypted_data_key_b64");
	size_t len;

	(void)why;
	(void)why_size;
	if (s3c_base64_decode(blob64, strlen(blob64), blob, sizeof(blob), &len) < 0)
		abort();
	if (len != wrapped->wrapped_len || memcmp(blob, wrapped->wrapped, len) != 0 ||
	    json_object_size(context) != wrapped->desc_count)
		return -EBADMSG;
	for (size_t i = 0; i < wrapped->desc_count; i++) {
		const char *value =
			json_string_value(json_object_get(context, wrapped->desc[i].name));

		if (!value || strcmp(value, wrapped->desc[i].value) != 0)
			return -EBADMSG;
	}
	memcpy(ret_key, v->data_key, S3C_KEY_LEN);
	return 0;
}
