/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "http/profile.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/secret.h"

#define FILE_MAX_BYTES (1u << 20)

static int read_file(const char *filename, struct s3c_buf *out)
{
	cleanup_close int fd = open(filename, O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n;

		r = s3c_buf_reserve(out, 4096);
		if (r < 0)
			return r;
		n = read(fd, out->data + out->len, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		out->len += (size_t)n;
	}
	out->data[out->len] = '\0';
	return 0;
}

static char *trim(char *text)
{
	size_t len;

	while (isspace((unsigned char)*text))
		text++;
	len = strlen(text);
	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	text[len] = '\0';
	return text;
}

/* "profile  "x y"" becomes "profile x y": one blank between words, quotes dropped. */
static void normalise_section(char *name)
{
	char *to = name;

	for (const char *from = name; *from != '\0'; from++) {
		if (*from == '"' || *from == '\'')
			continue;
		if (isspace((unsigned char)*from)) {
			if (to > name && to[-1] != ' ')
				*to++ = ' ';
			continue;
		}
		*to++ = *from;
	}
	*to = '\0';
}

int s3c_profile_add(struct s3c_profile_file *file, const char *section, const char *name,
		    const char *value)
{
	struct s3c_profile_item item = { 0 };

	if (file->count == file->alloc) {
		size_t alloc = file->alloc == 0 ? 16 : file->alloc * 2;
		struct s3c_profile_item *items;

		items = reallocarray(file->items, alloc, sizeof(*items));
		if (items == NULL)
			return -ENOMEM;
		file->items = items;
		file->alloc = alloc;
	}
	item.section = strdup(section);
	item.name = strdup(name);
	item.value = strdup(value);
	if (item.section == NULL || item.name == NULL || item.value == NULL) {
		free(item.section);
		free(item.name);
		free(item.value);
		return -ENOMEM;
	}
	file->items[file->count++] = item;
	return 0;
}

/* The line's text is changed. section and parent live in the file's text too. */
static int parse_line(char *line, char **section, char **parent, struct s3c_profile_file *file)
{
	bool indented = *line == ' ' || *line == '\t';
	char *text = trim(line);
	char *end, *name, *value;
	cleanup_free char *nested = NULL;

	if (*text == '\0' || *text == '#' || *text == ';')
		return 0;
	if (*text == '[' && !indented) {
		end = strrchr(text, ']');
		if (end == NULL)
			return -EINVAL;
		*end = '\0';
		*section = trim(text + 1);
		normalise_section(*section);
		*parent = NULL;
		return 0;
	}
	end = strchr(text, '=');
	if (*section == NULL)
		return -EINVAL;
	if (end == NULL)
		/* The continued text of a value that means nothing here. */
		return indented ? 0 : -EINVAL;
	*end = '\0';
	name = trim(text);
	value = trim(end + 1);
	if (*name == '\0')
		return -EINVAL;
	if (!indented || *parent == NULL) {
		*parent = name;
		return s3c_profile_add(file, *section, name, value);
	}
	nested = s3c_asprintf("%s.%s", *parent, name);
	if (nested == NULL)
		return -ENOMEM;
	return s3c_profile_add(file, *section, nested, value);
}

static int parse(char *text, const char *filename, struct s3c_err *err,
		 struct s3c_profile_file *file)
{
	char *section = NULL, *parent = NULL;
	unsigned number = 1;

	if (strncmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3;
	for (char *line = text; line != NULL; number++) {
		char *next = strchr(line, '\n');
		int r;

		if (next != NULL)
			*next++ = '\0';
		r = parse_line(line, &section, &parent, file);
		if (r == -EINVAL)
			return s3c_err_set(err, r,
					   "%s, line %u: neither a [section] nor name = value",
					   filename, number);
		if (r < 0)
			return r;
		line = next;
	}
	return 0;
}

int s3c_profile_parse(char *text, size_t len, const char *filename, struct s3c_err *err,
		      struct s3c_profile_file *ret_file)
{
	struct s3c_profile_file file = { 0 };
	int r;

	if (strlen(text) != len)
		r = s3c_err_set(err, -EINVAL, "%s is not a text file", filename);
	else
		r = parse(text, filename, err, &file);
	if (r < 0) {
		s3c_profile_free(&file);
		return r;
	}
	*ret_file = file;
	return 0;
}

int s3c_profile_read(const char *filename, struct s3c_err *err, struct s3c_profile_file *ret_file)
{
	struct s3c_buf text;
	int r;

	s3c_buf_init(&text, FILE_MAX_BYTES);
	r = read_file(filename, &text);
	if (r == -ENOENT || r == -ENOTDIR) {
		*ret_file = (struct s3c_profile_file){ 0 };
		r = 0;
	} else if (r < 0) {
		s3c_err_set(err, r, "cannot read %s: %s", filename, strerror(-r));
	} else {
		r = s3c_profile_parse(text.data, text.len, filename, err, ret_file);
	}
	s3c_buf_free_secret(&text);
	return r;
}

void s3c_profile_free(struct s3c_profile_file *file)
{
	for (size_t i = 0; i < file->count; i++) {
		s3c_wipe(file->items[i].value, strlen(file->items[i].value));
		free(file->items[i].section);
		free(file->items[i].name);
		free(file->items[i].value);
	}
	free(file->items);
	*file = (struct s3c_profile_file){ 0 };
}

const char *s3c_profile_get(const struct s3c_profile_file *file, const char *section,
			    const char *name)
{
	const char *value = NULL;

	for (size_t i = 0; i < file->count; i++)
		if (strcmp(file->items[i].section, section) == 0 &&
		    strcasecmp(file->items[i].name, name) == 0)
			value = file->items[i].value;
	return value != NULL && *value != '\0' ? value : NULL;
}
