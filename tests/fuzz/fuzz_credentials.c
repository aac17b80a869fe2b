/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What programs, services and files say about credentials. The first byte
 * chooses: '0' process, '1' container, '2' instance, '3' token service, '4' a
 * time, '5' a command, '6' a file with profiles; the rest is the text.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/process.h"
#include "base/secret.h"
#include "http/credentials_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_credential(int r, const struct s3c_err *err, struct s3c_credential *credential)
{
	if (r < 0) {
		assert(r == -ENOMEM || err->text[0]);
		return;
	}
	assert(s3c_credential_is_token(credential->access_key_id, 256));
	assert(s3c_credential_is_token(credential->secret_access_key, 1024));
	assert(credential->session_token == NULL ||
	       s3c_credential_is_token(credential->session_token, 32u << 10));
	assert(credential->expires_s > -86400 && credential->expires_s < 253402387200);
	s3c_credential_put(credential);
}

static void fuzz_command(const char *text)
{
	char **argv;

	if (s3c_process_split(text, &argv) < 0)
		return;
	assert(argv[0] != NULL);
	s3c_process_free_argv(argv);
}

static void fuzz_profiles(char *text, size_t len)
{
	struct s3c_profile_file file = { 0 };
	struct s3c_err err = { 0 };
	int r = s3c_profile_parse(text, len, "fuzz", &err, &file);

	assert(r == 0 || r == -ENOMEM || err.text[0]);
	for (size_t i = 0; i < file.count; i++)
		(void)s3c_profile_get(&file, file.items[i].section, file.items[i].name);
	s3c_profile_free(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	struct s3c_credential *credential = NULL;
	struct s3c_err err = { 0 };
	int64_t seconds;
	char *text;
	int r;

	if ((!ready && s3c_secret_init() < 0) || size == 0)
		return 0;
	ready = true;
	text = strndup((const char *)data + 1, size - 1);
	assert(text);
	switch (data[0]) {
	case '0':
	case '1':
	case '2':
		r = s3c_credential_parse_json(data[0] - '0', (const char *)data + 1, size - 1, "it",
					      &err, &credential);
		check_credential(r, &err, credential);
		break;
	case '3':
		r = s3c_credential_parse_sts("AssumeRole", (const char *)data + 1, size - 1, "it",
					     &err, &credential);
		check_credential(r, &err, credential);
		break;
	case '4':
		(void)s3c_credential_parse_time(text, &seconds);
		break;
	case '5':
		fuzz_command(text);
		break;
	case '6':
		fuzz_profiles(text, strlen(text));
		break;
	default:
		break;
	}
	free(text);
	return 0;
}
