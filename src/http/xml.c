/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "http/xml.h"

#include <errno.h>
#include <expat.h>
#include <limits.h>
#include <malloc.h>
#include <string.h>

#include "base/buf.h"
#include "base/secret.h"
#include "base/util.h"

#define DEPTH_MAX 32
#define PATH_MAX_BYTES 1024
#define TEXT_MAX_BYTES (1u << 20) /* of one element and the own texts of those around it */

struct parse {
	XML_Parser parser;
	const struct s3c_xml_handler *handler;
	struct s3c_buf path;
	/* The own texts of all open elements, one after the other; a closed one is cut off. */
	struct s3c_buf text;
	size_t path_start[DEPTH_MAX];
	size_t text_start[DEPTH_MAX];
	unsigned depth;
	int result; /* the first error; no callback acts after it */
};

static void fail(struct parse *p, int result)
{
	if (p->result != 0)
		return;
	p->result = result;
	XML_StopParser(p->parser, XML_FALSE);
}

static void cut(struct s3c_buf *buf, size_t len)
{
	buf->len = len;
	if (buf->data != NULL)
		buf->data[len] = '\0';
}

static void XMLCALL on_open(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct parse *p = arg;
	const char *colon = strrchr(name, ':');
	int r;

	(void)attributes;
	if (p->result != 0)
		return;
	if (p->depth == DEPTH_MAX) {
		fail(p, -EMSGSIZE);
		return;
	}
	p->path_start[p->depth] = p->path.len;
	p->text_start[p->depth] = p->text.len;
	p->depth++;
	r = p->path.len > 0 ? s3c_buf_append_char(&p->path, '/') : 0;
	if (r == 0)
		r = s3c_buf_append_str(&p->path, colon != NULL ? colon + 1 : name);
	if (r == 0 && p->handler->open != NULL)
		r = p->handler->open(p->handler->arg, p->path.data);
	if (r < 0)
		fail(p, r);
}

static void XMLCALL on_close(void *arg, const XML_Char *name)
{
	struct parse *p = arg;
	size_t start;
	int r = 0;

	(void)name;
	if (p->result != 0)
		return;
	start = p->text_start[p->depth - 1];
	if (p->handler->close != NULL)
		r = p->handler->close(p->handler->arg, p->path.data,
				      p->text.data != NULL ? p->text.data + start : "",
				      p->text.len - start);
	p->depth--;
	cut(&p->text, start);
	cut(&p->path, p->path_start[p->depth]);
	if (r < 0)
		fail(p, r);
}

static void XMLCALL on_text(void *arg, const XML_Char *text, int len)
{
	struct parse *p = arg;
	int r;

	if (p->result != 0)
		return;
	r = s3c_buf_append(&p->text, text, (size_t)len);
	if (r < 0)
		fail(p, r);
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *system_id,
			       const XML_Char *public_id, int has_internal_subset)
{
	(void)name;
	(void)system_id;
	(void)public_id;
	(void)has_internal_subset;
	fail(arg, -EBADMSG);
}

static void wiping_free(void *data)
{
	if (data != NULL)
		s3c_wipe(data, malloc_usable_size(data));
	free(data);
}

static void *wiping_realloc(void *data, size_t size)
{
	size_t old = data != NULL ? malloc_usable_size(data) : 0;
	void *fresh = malloc(size);

	if (fresh == NULL)
		return NULL;
	if (data != NULL)
		memcpy(fresh, data, S3C_MIN(old, size));
	wiping_free(data);
	return fresh;
}

static int parse(const char *text, size_t len, const XML_Memory_Handling_Suite *memory,
		 const struct s3c_xml_handler *handler)
{
	struct parse p = { .handler = handler };
	enum XML_Status status;

	/* A service that keeps a connection alive sends blanks before the declaration. */
	while (len > 0 && (*text == ' ' || *text == '\t' || *text == '\r' || *text == '\n')) {
		text++;
		len--;
	}
	if (len > INT_MAX)
		return -EMSGSIZE;
	p.parser = XML_ParserCreate_MM(NULL, memory, NULL);
	if (p.parser == NULL)
		return -ENOMEM;
	s3c_buf_init(&p.path, PATH_MAX_BYTES);
	s3c_buf_init(&p.text, TEXT_MAX_BYTES);
	XML_SetUserData(p.parser, &p);
	XML_SetElementHandler(p.parser, on_open, on_close);
	XML_SetCharacterDataHandler(p.parser, on_text);
	XML_SetStartDoctypeDeclHandler(p.parser, on_doctype);
	status = XML_Parse(p.parser, text, (int)len, XML_TRUE);
	if (status != XML_STATUS_OK && p.result == 0)
		p.result = XML_GetErrorCode(p.parser) == XML_ERROR_NO_MEMORY ? -ENOMEM : -EBADMSG;
	XML_ParserFree(p.parser);
	s3c_buf_free(&p.path);
	s3c_buf_free_secret(&p.text);
	return p.result;
}

int s3c_xml_parse(const char *text, size_t len, const struct s3c_xml_handler *handler)
{
	return parse(text, len, NULL, handler);
}

int s3c_xml_parse_secret(const char *text, size_t len, const struct s3c_xml_handler *handler)
{
	static const XML_Memory_Handling_Suite memory = { malloc, wiping_realloc, wiping_free };

	return parse(text, len, &memory, handler);
}
