/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Changes of a keyring's text that a person may have written: lines are found as the parser finds
 * them, and all others stay as they are, byte by byte.
 */
#include "key/keyring_private.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/encode.h"
#include "base/secret.h"

/* One line of the text, its end included. */
struct line {
	const char *start;
	size_t len;
	const char *text; /* without blanks around it */
	size_t text_len;
};

static bool next_line(const char **at, const char *end, struct line *ret_line)
{
	static const char bom[] = "\xef\xbb\xbf";
	const char *newline;
	struct line line = { .start = *at };

	if (*at >= end)
		return false;
	newline = memchr(*at, '\n', (size_t)(end - *at));
	line.len = (size_t)((newline ? newline + 1 : end) - *at);
	line.text = line.start;
	line.text_len = line.len;
	if (line.len >= 3 && memcmp(line.text, bom, 3) == 0) {
		line.text += 3;
		line.text_len -= 3;
	}
	while (line.text_len && isspace((unsigned char)*line.text)) {
		line.text++;
		line.text_len--;
	}
	while (line.text_len && isspace((unsigned char)line.text[line.text_len - 1]))
		line.text_len--;
	*at += line.len;
	*ret_line = line;
	return true;
}

static bool is_section(const struct line *line)
{
	return line->text_len && *line->text == '[';
}

static bool is_section_of(const struct line *line, const char *id)
{
	size_t len = strlen(id);

	return line->text_len == len + 2 && *line->text == '[' &&
	       memcmp(line->text + 1, id, len) == 0 && line->text[len + 1] == ']';
}

static bool is_comment(const struct line *line)
{
	return !line->text_len || *line->text == '#' || *line->text == ';';
}

/* Is it "state = active"? ret_word: where the word is. */
static bool is_active_line(const struct line *line, const char **ret_word)
{
	static const char name[] = "state", word[] = "active";
	const char *equals = line->text_len ? memchr(line->text, '=', line->text_len) : NULL;
	const char *end = line->text + line->text_len, *value;
	size_t name_len;

	if (!equals)
		return false;
	name_len = (size_t)(equals - line->text);
	while (name_len && isspace((unsigned char)line->text[name_len - 1]))
		name_len--;
	for (value = equals + 1; value < end && isspace((unsigned char)*value);)
		value++;
	if (name_len != sizeof(name) - 1 || memcmp(line->text, name, name_len) != 0 ||
	    (size_t)(end - value) != sizeof(word) - 1 || memcmp(value, word, sizeof(word) - 1) != 0)
		return false;
	*ret_word = value;
	return true;
}

int s3c_keyring_text_section(const char *id, bool ssec_shared, struct s3c_buf *text)
{
	char base64[S3C_BASE64_LEN(S3C_KEY_LEN) + 1];
	uint8_t secret[S3C_KEY_LEN];
	int r;

	s3c_random(secret, sizeof(secret));
	s3c_base64_encode(secret, sizeof(secret), base64);
	/* One allocation holds all of it: growing would leave a copy of the secret behind. */
	r = s3c_buf_reserve(text, S3C_SECRET_LINE_MAX);
	if (r == 0)
		r = s3c_buf_printf(text, "[%s]\nsecret = %s\nstate = active\n%s", id, base64,
				   ssec_shared ? "use = sse-c\n" : "");
	s3c_wipe(base64, sizeof(base64));
	s3c_wipe(secret, sizeof(secret));
	return r;
}

int s3c_keyring_text_rotate(const char *text, size_t len, const struct s3c_keyring *keyring,
			    const char *id, struct s3c_buf *ret_text)
{
	const struct s3c_master_key *active = s3c_keyring_active(keyring);
	const char *at = text, *end = text + len, *word;
	bool within = false, done = false;
	struct line line;
	int r = s3c_buf_reserve(ret_text, len + S3C_SECRET_LINE_MAX);

	while (r == 0 && next_line(&at, end, &line)) {
		if (is_section(&line))
			within = is_section_of(&line, active->id);
		if (!within || done || !is_active_line(&line, &word)) {
			r = s3c_buf_append(ret_text, line.start, line.len);
			continue;
		}
		done = true;
		r = s3c_buf_append(ret_text, line.start, (size_t)(word - line.start));
		if (r == 0)
			r = s3c_buf_append_str(ret_text, "old");
		word += strlen("active");
		if (r == 0)
			r = s3c_buf_append(ret_text, word, (size_t)(line.start + line.len - word));
	}
	if (r == 0 && !done)
		r = -EBADMSG;
	if (r == 0 && ret_text->data[ret_text->len - 1] != '\n')
		r = s3c_buf_append_char(ret_text, '\n');
	if (r == 0)
		r = s3c_buf_append_char(ret_text, '\n');
	return r < 0 ? r : s3c_keyring_text_section(id, active->ssec_shared, ret_text);
}

int s3c_keyring_text_remove(const char *text, size_t len, const char *id, struct s3c_buf *ret_text)
{
	const char *at = text, *end = text + len, *last = NULL, *from = NULL;
	bool within = false;
	struct line line;
	int r;

	/* From its first line to the last that says something: comments after it may be about
	   what follows. */
	while (next_line(&at, end, &line)) {
		if (is_section(&line))
			within = is_section_of(&line, id);
		if (!within || is_comment(&line))
			continue;
		if (!from)
			from = line.start;
		last = line.start + line.len;
	}
	if (!from)
		return -ENOENT;
	r = s3c_buf_reserve(ret_text, len);
	if (r == 0)
		r = s3c_buf_append(ret_text, text, (size_t)(from - text));
	return r < 0 ? r : s3c_buf_append(ret_text, last, (size_t)(end - last));
}
