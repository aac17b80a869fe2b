/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What a reply says about itself: error, region, time. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "http/engine.h"

#define SKEW_S 840 /* S3 takes 15 minutes; a little less counts as its cause */

static void copy_text(char *to, size_t size, const char *from)
{
	if (from != NULL)
		snprintf(to, size, "%s", from);
}

/* Reads what the reply says about its error; a 200 that holds one becomes what it stands for. */
static void read_error(struct s3c_http_call *call, struct s3c_http_error *ret_error)
{
	struct s3c_http_reply *reply = &call->reply;
	const char *body = reply->body.data != NULL ? reply->body.data : "";
	const char *type = s3c_http_headers_get(&reply->headers, "x-amzn-errortype");
	const char *id = s3c_http_headers_get(&reply->headers, "x-amz-request-id");
	bool hidden = false;

	*ret_error = (struct s3c_http_error){ 0 };
	copy_text(reply->request_id, sizeof(reply->request_id),
		  id != NULL ? id : s3c_http_headers_get(&reply->headers, "x-amzn-requestid"));
	if (reply->status < 300) {
		hidden = call->request.xml_200_error && call->request.sink == NULL &&
			 s3c_http_error_is_error(body, reply->body.len);
		if (!hidden)
			return;
	}
	s3c_http_error_parse(body, reply->body.len, ret_error);
	if (ret_error->code[0] == '\0' && type != NULL) {
		copy_text(ret_error->code, sizeof(ret_error->code), type);
		ret_error->code[strcspn(ret_error->code, ":")] = '\0';
	}
	if (hidden)
		reply->status = s3c_retry_implied_status(ret_error->code);
	memcpy(reply->error_code, ret_error->code, sizeof(reply->error_code));
	memcpy(reply->error_message, ret_error->message, sizeof(reply->error_message));
	if (reply->request_id[0] == '\0')
		memcpy(reply->request_id, ret_error->request_id, sizeof(reply->request_id));
}

int s3c_http_outcome_offset(const struct s3c_http_reply *reply, const struct s3c_http_error *error,
			    int64_t *ret_offset)
{
	const char *date = s3c_http_headers_get(&reply->headers, "date");
	int64_t server;
	int r = -EINVAL;

	if (error->server_time[0] != '\0')
		r = s3c_http_parse_time(error->server_time, &server);
	if (r < 0 && date != NULL)
		r = s3c_http_parse_time(date, &server);
	if (r < 0)
		return r;
	*ret_offset = server - s3c_clock_realtime_ns() / S3C_NSEC_PER_SEC;
	return 0;
}

const char *s3c_http_outcome_region(const struct s3c_http_call *call,
				    const struct s3c_http_target *target,
				    const struct s3c_http_error *error)
{
	const char *region = s3c_http_headers_get(&call->reply.headers, "x-amz-bucket-region");

	if (region == NULL || *region == '\0')
		region = error->region;
	return *region != '\0' && strcmp(region, target->region) != 0 ? region : NULL;
}

void s3c_http_outcome_read(struct s3c_http_call *call, const struct s3c_http_target *target,
			   int result, struct s3c_retry_outcome *ret_outcome,
			   struct s3c_http_error *ret_error)
{
	struct s3c_http_reply *reply = &call->reply;
	int64_t offset;

	*ret_error = (struct s3c_http_error){ 0 };
	*ret_outcome = (struct s3c_retry_outcome){ .result = result, .code = "" };
	if (result != 0)
		return;
	read_error(call, ret_error);
	ret_outcome->status = reply->status;
	ret_outcome->code = reply->error_code;
	ret_outcome->other_region = s3c_http_outcome_region(call, target, ret_error) != NULL;
	ret_outcome->location = ret_error->endpoint[0] != '\0' ||
				s3c_http_headers_get(&reply->headers, "location") != NULL;
	ret_outcome->skewed = s3c_http_outcome_offset(reply, ret_error, &offset) == 0 &&
			      llabs(offset - target->clock_offset) > SKEW_S;
}
