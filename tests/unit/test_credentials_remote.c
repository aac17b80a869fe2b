/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Sources that ask somebody else: each right, and each wrong in every way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "credentials_fixture.h"

static const char good_json[] =
	"{\"AccessKeyId\": \"ID\", \"SecretAccessKey\": \"HUSH/+=\", \"Token\": \"TOKEN\", "
	"\"Expiration\": \"2036-01-02T03:04:05Z\", \"RoleArn\": \"r\"}";
#define GOOD_EXPIRES 2082855845

static void check(const char *profile, const char *source, const char *id)
{
	struct s3c_err err = { 0 };
	struct s3c_credentials *credentials = NULL;
	struct s3c_credential *credential;
	int r = s3c_credentials_new(profile, &err, &credentials);

	if (r < 0)
		fail_msg("%s", s3c_err_text(&err, r));
	credential = s3c_credentials_get(credentials);
	assert_string_equal(credential->access_key_id, id);
	assert_string_equal(credential->secret_access_key, "HUSH/+=");
	assert_string_equal(credential->session_token, "TOKEN");
	assert_string_equal(credential->source, source);
	assert_int_equal(credential->expires_s, GOOD_EXPIRES);
	assert_true(credential->remote);
	s3c_credential_put(credential);
	s3c_credentials_free(credentials);
}

static void check_refused(const char *profile, int result, const char *words)
{
	struct s3c_err err = { 0 };
	struct s3c_credentials *credentials = NULL;
	int r = s3c_credentials_new(profile, &err, &credentials);

	if (r != result || strstr(err.text, words) == NULL)
		fail_msg("%d \"%s\", not %d \"%s\"", r, err.text, result, words);
	assert_null(credentials);
	assert_null(strstr(err.text, "HUSH"));
}

/* What a service can do wrong. step says which, and how many good answers come before. */
struct wrong {
	const char *status;
	const char *body; /* NULL: the good one; "huge": far too long */
	int result;
	const char *words;
	unsigned requests;
};

static const struct wrong json_wrongs[] = {
	{ "200 OK", "{\"AccessKeyId\": \"ID\", \"SecretAcc", -EBADMSG, "is not JSON", 1 },
	{ "200 OK", "", -EBADMSG, "is not JSON", 1 },
	{ "200 OK", "[\"HUSH\"]", -EBADMSG, "is not a JSON object", 1 },
	{ "200 OK", "<html>HUSH</html>", -EBADMSG, "is not JSON", 1 },
	{ "200 OK",
	  "{\"SecretAccessKey\": \"HUSH\", \"Token\": \"T\", \"Expiration\": "
	  "\"2036-01-02T03:04:05Z\"}",
	  -EBADMSG, "AccessKeyId", 1 },
	{ "200 OK",
	  "{\"AccessKeyId\": \"ID\", \"Token\": \"T\", \"Expiration\": "
	  "\"2036-01-02T03:04:05Z\"}",
	  -EBADMSG, "SecretAccessKey", 1 },
	{ "200 OK", "{\"AccessKeyId\": \"ID\", \"SecretAccessKey\": 7}", -EBADMSG, "not a text",
	  1 },
	{ "200 OK",
	  "{\"AccessKeyId\": \"I\\nD\", \"SecretAccessKey\": \"HUSH\", \"Token\": "
	  "\"T\", \"Expiration\": \"2036-01-02T03:04:05Z\"}",
	  -EBADMSG, "AccessKeyId", 1 },
	{ "200 OK",
	  "{\"AccessKeyId\": \"ID\", \"SecretAccessKey\": \"HUSH\", \"Token\": "
	  "\"T\", \"Expiration\": \"tomorrow\"}",
	  -EBADMSG, "Expiration", 1 },
	{ "200 OK", "huge", -EMSGSIZE, "too long", 1 },
	{ "403 Forbidden", "{\"message\": \"not you\"}", -EACCES, "status 403: not you", 1 },
	{ "302 Found\r\nLocation: http://127.0.0.1:1/", "", -EACCES, "status 302", 1 },
};

static const struct wrong *wrong;

static void send_wrong(struct test_request *request)
{
	static char huge[200000];

	if (wrong->body != NULL && strcmp(wrong->body, "huge") == 0) {
		memset(huge, ' ', sizeof(huge) - 1);
		test_reply(request, wrong->status, huge);
	} else {
		test_reply(request, wrong->status, wrong->body != NULL ? wrong->body : good_json);
	}
}

static bool answer_wrong(struct test_request *request, void *arg)
{
	(void)arg;
	note_request(request);
	send_wrong(request);
	return true;
}

static bool answer_good(struct test_request *request, void *arg)
{
	(void)arg;
	note_request(request);
	test_reply(request, "200 OK", good_json);
	return true;
}

/* 500, then a reset, then good. */
static bool answer_third(struct test_request *request, void *arg)
{
	unsigned n = note_request(request);

	(void)arg;
	if (n == 2)
		return test_reset(request);
	test_reply(request, n == 1 ? "500 Oh" : "200 OK", n == 1 ? "" : good_json);
	return true;
}

static void test_container(void **state)
{
	(void)state;
	start_server(answer_good, 0);
	set_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI",
		     "http://127.0.0.1:%u/v2/cre%%20d?id=a%%26b&x", fixture.server.port);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic abc", 1);
	check(NULL, "container", "ID");
	assert_non_null(strstr(fixture.heads[1], "GET /v2/cre%20d?id=a%26b&x= HTTP/1.1\r\n"));
	assert_non_null(strstr(fixture.heads[1], "Authorization: Basic abc\r\n"));
	assert_non_null(strstr(fixture.heads[1], "Accept: application/json\r\n"));
	assert_null(strstr(fixture.heads[1], "x-amz-"));
	/* The file wins, and is read each time. */
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token_path, 1);
	check_refused(NULL, -ENOENT, "token file");
	write_text(token_path, "one\n");
	check(NULL, "container", "ID");
	assert_non_null(strstr(fixture.heads[2], "Authorization: one\r\n"));
	write_text(token_path, "two");
	check(NULL, "container", "ID");
	assert_non_null(strstr(fixture.heads[3], "Authorization: two\r\n"));
	write_text(token_path, "two\r\nX-Evil: HUSH");
	check_refused(NULL, -EINVAL, "holds no token");
	unsetenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\r\nb", 1);
	check_refused(NULL, -EINVAL, "no header may have");
	assert_int_equal(requests_so_far(), 3);
	/* The path alone is for another host, and wins. */
	setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "v2", 1);
	check_refused(NULL, -EINVAL, "begins with /");
	stop_server();
}

static void test_container_hosts(void **state)
{
	static const struct {
		const char *uri;
		int result;
		const char *words;
	} cases[] = {
		{ "http://example.org/c", -EPERM, "names example.org" },
		{ "http://10.0.0.1/c", -EPERM, "https only" },
		{ "http://127.0.0.1.example.org/c", -EPERM, "https only" },
		{ "http://169.254.169.254/c", -EPERM, "https only" },
		{ "http://[fd00:ec2::24]/c", -EPERM, "https only" },
		{ "http://[fd00:ec2::254]/c", -EPERM, "https only" },
		{ "ftp://127.0.0.1/c", -EINVAL, "not the URL of a server" },
		{ "/c", -EINVAL, "not the URL of a server" },
		{ "http://localhost:1/c?a=%00b", -EINVAL, "" },
		/* Let through: nobody listens there. */
		{ "http://127.9.9.9:1/c", -ECONNREFUSED, "does not answer" },
		{ "http://[::1]:1/c", 0, "does not answer" },
		{ "https://127.0.0.1:1/c", -ECONNREFUSED, "does not answer" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct s3c_credentials *credentials = NULL;
		struct s3c_err err = { 0 };
		int r;

		setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", cases[i].uri, 1);
		r = s3c_credentials_new(NULL, &err, &credentials);
		/* Where there is no IPv6 the errors differ. */
		if (r >= 0 || (cases[i].result != 0 && r != cases[i].result) ||
		    strstr(err.text, cases[i].words) == NULL)
			fail_msg("%s: %d \"%s\"", cases[i].uri, r, err.text);
	}
}

static void test_container_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(json_wrongs); i++) {
		wrong = &json_wrongs[i];
		start_server(answer_wrong, 0);
		set_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost:%u/c",
			     fixture.server.port);
		check_refused(NULL, wrong->result, wrong->words);
		assert_int_equal(requests_so_far(), wrong->requests);
		stop_server();
	}
	start_server(answer_third, 0);
	set_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:%u/c",
		     fixture.server.port);
	check(NULL, "container", "ID");
	assert_int_equal(requests_so_far(), 3);
	/* Keys that a profile names come before. */
	write_config("[default]\naws_access_key_id = A\naws_secret_access_key = B\n");
	stop_server();
	{
		struct s3c_credentials *credentials;

		assert_int_equal(s3c_credentials_new(NULL, NULL, &credentials), 0);
		s3c_credentials_free(credentials);
	}
}

/* step 1..: what goes wrong. */
static bool answer_instance(struct test_request *request, void *arg)
{
	const struct fixture *f = arg;

	note_request(request);
	if (strncmp(request->head, "PUT /latest/api/token ", 22) == 0) {
		if (strcmp(test_header(request, "x-aws-ec2-metadata-token-ttl-seconds"), "21600"))
			test_reply(request, "400 Bad", "");
		else if (f->step == 1)
			test_reply(request, "403 Forbidden", "");
		else if (f->step == 2)
			test_reply(request, "400 Bad", "");
		else if (f->step == 3)
			test_reply(request, "200 OK", "two words");
		else if (f->step == 4)
			return test_hang(request);
		else
			test_reply(request, "200 OK", "SESSION==");
		return true;
	}
	if (strcmp(test_header(request, "x-aws-ec2-metadata-token"), "SESSION==") != 0) {
		test_reply(request, "401 Unauthorized", "");
	} else if (strstr(request->head, "/security-credentials/ ") != NULL) {
		if (f->step == 5)
			test_reply(request, "404 Not Found", "");
		else if (f->step == 6)
			test_reply(request, "200 OK", "../../user-data\n");
		else
			test_reply(request, "200 OK", "the-role\nanother");
	} else if (strstr(request->head,
			  "GET /latest/meta-data/iam/security-credentials/the-role ") == NULL) {
		test_reply(request, "404 Not Found", "");
	} else if (f->step == 7) {
		test_reply(request, "200 OK",
			   "{\"Code\": \"AssumeRoleUnauthorizedAccess\", \"Message\": \"no\"}");
	} else if (f->step == 8) {
		test_reply(request, "200 OK",
			   "{\"AccessKeyId\": \"ID\", \"SecretAccessKey\": \"HUSH\"}");
	} else {
		send_wrong(request);
	}
	return true;
}

static void test_instance(void **state)
{
	static const struct wrong good = { "200 OK", NULL, 0, "", 3 };
	static const struct {
		int result;
		const char *words;
		unsigned requests;
	} cases[] = {
		{ -EACCES, "(IMDS) answers with status 403; set", 1 },
		{ -EACCES, "gives no token: it answers with status 400", 1 },
		{ -EACCES, "a token that cannot be one", 1 },
		{ -EACCES, "(IMDS) does not answer", 1 },
		{ -EACCES, "no role of this instance", 2 },
		{ -EBADMSG, "a role that cannot be one", 2 },
		{ -EACCES, "an error: AssumeRoleUnauthorizedAccess", 3 },
		{ -EBADMSG, "lacks Token or Expiration", 3 },
	};

	(void)state;
	unsetenv("AWS_EC2_METADATA_DISABLED");
	for (unsigned step = 0; step <= ARRAY_LEN(cases); step++) {
		wrong = &good;
		start_server(answer_instance, step);
		set_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:%u",
			     fixture.server.port);
		if (step == 0) {
			check(NULL, "instance", "ID");
			assert_int_equal(requests_so_far(), 3);
			/* A profile that exists and names nothing: the machine's. */
			write_config("[profile p]\nregion = eu-west-1\n");
			check("p", "instance", "ID");
			/* One that does not: never somebody else's. */
			check_refused("q", -EACCES, "there is no profile q");
			setenv("AWS_PROFILE", "q", 1);
			check_refused(NULL, -EACCES, "there is no profile q");
			unsetenv("AWS_PROFILE");
			setenv("AWS_EC2_METADATA_DISABLED", "TRUE", 1);
			check_refused(NULL, -EACCES, "no credentials found");
			unsetenv("AWS_EC2_METADATA_DISABLED");
			assert_int_equal(requests_so_far(), 6);
		} else {
			check_refused(NULL, cases[step - 1].result, cases[step - 1].words);
			assert_int_equal(requests_so_far(), cases[step - 1].requests);
		}
		stop_server();
	}
	for (size_t i = 0; i < ARRAY_LEN(json_wrongs); i++) {
		wrong = &json_wrongs[i];
		start_server(answer_instance, 0);
		set_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:%u/",
			     fixture.server.port);
		check_refused(NULL, wrong->result, wrong->words);
		stop_server();
	}
	/* Nobody there. */
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1", 1);
	check_refused(NULL, -EACCES, "does not answer");
}

static void reply_sts(struct test_request *request, const char *action, const char *id)
{
	char body[1024];

	snprintf(body, sizeof(body),
		 "<%sResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><%sResult>"
		 "<AssumedRoleUser><Arn>a</Arn></AssumedRoleUser><Credentials>"
		 "<AccessKeyId>%s</AccessKeyId><SecretAccessKey>HUSH/+=</SecretAccessKey>"
		 "<SessionToken>TOKEN</SessionToken><Expiration>2036-01-02T03:04:05Z</Expiration>"
		 "</Credentials></%sResult></%sResponse>",
		 action, action, id, action, action);
	test_reply(request, "200 OK\r\nContent-Type: text/xml", body);
}

/* Each answer's key id tells whose signature asked for it. */
static bool answer_sts(struct test_request *request, void *arg)
{
	const char *credential = strstr(test_header(request, "authorization"), "Credential=");
	char id[32] = "ROLE";

	(void)arg;
	note_request(request);
	if (strstr(request->body, "Action=AssumeRole&") == request->body) {
		if (credential == NULL || strstr(credential, "/sts/aws4_request") == NULL) {
			test_reply(request, "403 Forbidden", "");
			return true;
		}
		snprintf(id, sizeof(id), "OF-%.*s", (int)strcspn(credential + 11, "/"),
			 credential + 11);
		reply_sts(request, "AssumeRole", id);
	} else if (credential == NULL) {
		reply_sts(request, "AssumeRoleWithWebIdentity", id);
	} else {
		test_reply(request, "400 Bad", "");
	}
	return true;
}

#define BASE_KEYS "aws_access_key_id = BASE\naws_secret_access_key = HUSH\n"

static void test_role(void **state)
{
	(void)state;
	start_server(answer_sts, 0);
	set_variable("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:%u", fixture.server.port);
	write_config("[profile base]\n" BASE_KEYS
		     "[profile p]\nrole_arn = arn:aws:iam::1:role/r+x\nsource_profile = base\n"
		     "external_id = e/1\nrole_session_name = me@here\nduration_seconds = 900\n"
		     "region = eu-west-1\n"
		     "[profile chain]\nrole_arn = second\nsource_profile = p\n"
		     "[profile self]\nrole_arn = r\nsource_profile = self\n" BASE_KEYS
		     "[profile env]\nrole_arn = r\ncredential_source = Environment\n");
	check("p", "assumed role", "OF-BASE");
	assert_string_equal(fixture.bodies[1],
			    "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%"
			    "3Arole%2Fr%2Bx&RoleSessionName=me%40here&DurationSeconds=900&"
			    "ExternalId=e%2F1");
	assert_non_null(strstr(fixture.heads[1], "POST / HTTP/1.1\r\n"));
	assert_non_null(strstr(fixture.heads[1], "/eu-west-1/sts/aws4_request"));
	assert_non_null(strstr(fixture.heads[1], "Content-Type: application/x-www-form-urlencoded; "
						 "charset=utf-8\r\n"));
	check("chain", "assumed role", "OF-OF-BASE");
	assert_non_null(strstr(fixture.heads[3], "x-amz-security-token: TOKEN\r\n"));
	assert_non_null(strstr(fixture.bodies[3], "RoleSessionName=s3cryptfs-"));
	check("self", "assumed role", "OF-BASE");
	setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "HUSH", 1);
	check("env", "assumed role", "OF-ENV");
	unsetenv("AWS_ACCESS_KEY_ID");
	check_refused("env", -EACCES, "has no credentials");
	/* From the machine. */
	set_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/c");
	write_config("[profile p]\nrole_arn = r\ncredential_source = EcsContainer\n");
	check_refused("p", -ECONNREFUSED, "container's credentials endpoint");
	write_config("[profile p]\nrole_arn = r\ncredential_source = Ec2InstanceMetadata\n");
	check_refused("p", -EACCES, "Ec2InstanceMetadata, which has no credentials");
	stop_server();
}

static void test_role_refused(void **state)
{
	static const struct {
		const char *config;
		int result;
		const char *words;
	} cases[] = {
		{ "role_arn = r\n", -EINVAL, "neither" },
		{ "role_arn = r\nsource_profile = b\ncredential_source = Environment\n", -EINVAL,
		  "both" },
		{ "role_arn = r\nsource_profile = none\n", -EINVAL, "is in neither" },
		{ "role_arn = r\nsource_profile = p\n", -EINVAL, "leads back to p" },
		{ "role_arn = r\nsource_profile = b\n[profile b]\nrole_arn = r\n"
		  "source_profile = c\n[profile c]\nrole_arn = r\nsource_profile = p\n",
		  -EINVAL, "leads back to p" },
		{ "role_arn = r\nsource_profile = b\n[profile b]\nregion = x\n", -EACCES,
		  "has no credentials" },
		{ "role_arn = r\ncredential_source = Moon\n", -EINVAL, "not Moon" },
		{ "role_arn = r\nsource_profile = b\nduration_seconds = 899\n[profile "
		  "b]\n" BASE_KEYS,
		  -EINVAL, "duration_seconds" },
		{ "role_arn = r\nsource_profile = b\nduration_seconds = 43201\n[profile "
		  "b]\n" BASE_KEYS,
		  -EINVAL, "duration_seconds" },
		{ "role_arn = r\nsource_profile = b\nmfa_serial = m\n[profile b]\n" BASE_KEYS,
		  -EOPNOTSUPP, "mfa_serial" },
		{ "role_arn = r\nsource_profile = b\n[profile b]\nsso_session = s\n", -EOPNOTSUPP,
		  "export-credentials" },
		{ "role_arn = r\nsource_profile = b\nendpoint_url = http://sts.example.org\n"
		  "[profile b]\n" BASE_KEYS,
		  -EPERM, "not encrypted" },
		{ "role_arn = r\nsource_profile = b\nendpoint_url = http://127.0.0.1.example.org\n"
		  "[profile b]\n" BASE_KEYS,
		  -EPERM, "not encrypted" },
		{ "role_arn = r\nsource_profile = b\nendpoint_url = http://127.evil.example\n"
		  "[profile b]\n" BASE_KEYS,
		  -EPERM, "not encrypted" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		write_config("[profile p]\n%s", cases[i].config);
		check_refused("p", cases[i].result, cases[i].words);
	}
}

static bool answer_sts_wrong(struct test_request *request, void *arg)
{
	const struct fixture *f = arg;

	note_request(request);
	switch (f->step) {
	case 0:
		reply_sts(request, "AssumeRoleWithSAML", "ID");
		return true;
	case 1:
		test_reply(request, "200 OK",
			   "<AssumeRoleResponse><AssumeRoleResult><Credentials>");
		return true;
	case 2:
		test_reply(request, "200 OK", "{}");
		return true;
	case 3:
		test_reply(
			request, "403 Forbidden",
			"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
			"<Message>User BASE is\nnot authorized</Message></Error></ErrorResponse>");
		return true;
	case 4: /* repeated, in vain */
		test_reply(request, "400 Bad",
			   "<ErrorResponse><Error><Code>IDPCommunicationError</Code></Error>"
			   "</ErrorResponse>");
		return true;
	case 5:
		test_reply(
			request, "400 Bad",
			"<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>");
		return true;
	default:
		test_reply(request, "200 OK",
			   "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>A"
			   "</AccessKeyId><AccessKeyId>B</AccessKeyId></Credentials>"
			   "</AssumeRoleResult></AssumeRoleResponse>");
		return true;
	}
}

static void test_role_wrong(void **state)
{
	static const struct {
		int result;
		const char *words;
		unsigned requests;
	} cases[] = {
		{ -EBADMSG, "lacks SessionToken", 1 },
		{ -EBADMSG, "is not what the token service answers", 1 },
		{ -EBADMSG, "is not what the token service answers", 1 },
		{ -EACCES, "status 403 AccessDenied: User BASE is not authorized", 1 },
		{ -EACCES, "IDPCommunicationError", 3 },
		{ -EACCES, "status 400 ExpiredToken", 1 },
		{ -EBADMSG, "is not what the token service answers", 1 },
	};

	(void)state;
	write_config("[profile p]\nrole_arn = r\nsource_profile = b\n[profile b]\n" BASE_KEYS);
	for (unsigned step = 0; step < ARRAY_LEN(cases); step++) {
		start_server(answer_sts_wrong, step);
		set_variable("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:%u", fixture.server.port);
		check_refused("p", cases[step].result, cases[step].words);
		assert_int_equal(requests_so_far(), cases[step].requests);
		stop_server();
	}
}

static void test_web_identity(void **state)
{
	(void)state;
	start_server(answer_sts, 0);
	set_variable("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:%u", fixture.server.port);
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token_path, 1);
	check_refused(NULL, -EINVAL, "no role");
	setenv("AWS_ROLE_ARN", "arn", 1);
	check_refused(NULL, -ENOENT, "token file");
	write_text(token_path, "HUSH.jwt-1\n");
	setenv("AWS_ROLE_SESSION_NAME", "pod", 1);
	check(NULL, "web identity", "ROLE");
	assert_string_equal(fixture.bodies[1],
			    "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn&"
			    "RoleSessionName=pod&WebIdentityToken=HUSH.jwt-1");
	assert_null(strstr(fixture.heads[1], "Authorization"));
	write_text(token_path, "HUSH two");
	check_refused(NULL, -EINVAL, "holds no token");
	/* By a profile, where the environment does not count; and as a source. */
	write_text(token_path, "HUSH.jwt-2");
	write_config("[profile p]\nrole_arn = mine\nweb_identity_token_file = %s\n"
		     "[profile q]\nrole_arn = r\nsource_profile = p\n",
		     token_path);
	check("p", "web identity", "ROLE");
	assert_non_null(strstr(fixture.bodies[2], "RoleArn=mine&RoleSessionName=s3cryptfs-"));
	assert_non_null(strstr(fixture.bodies[2], "WebIdentityToken=HUSH.jwt-2"));
	check("q", "assumed role", "OF-ROLE");
	stop_server();
	start_server(answer_sts_wrong, 5);
	set_variable("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:%u", fixture.server.port);
	check_refused("p", -EACCES, "ExpiredToken");
	stop_server();
}

static void check_process(const char *script, int result, const char *words)
{
	write_text(token_path, script);
	write_config("[profile p]\ncredential_process = /bin/sh '%s' \"an argument\"\n",
		     token_path);
	if (result == 0)
		check("p", "process", "ID");
	else
		check_refused("p", result, words);
}

#define PROCESS_KEYS "\"AccessKeyId\": \"ID\", \"SecretAccessKey\": \"HUSH/+=\""

static void test_process(void **state)
{
	(void)state;
	check_process("test \"$1\" = 'an argument' || exit 9\n"
		      "test \"$(ls /proc/self/fd | wc -l)\" -le 4 || exit 8\n"
		      "cat <<E\n{\"Version\": 1, " PROCESS_KEYS
		      ", \"SessionToken\": \"TOKEN\", \"Expiration\": "
		      "\"2036-01-02T04:04:05+01:00\"}\nE\n",
		      0, "");
	check_process("echo HUSH; echo 'log in first' >&2; echo HUSH >&2; exit 3", -EAGAIN,
		      "profile p: /bin/sh failed with status 3: log in first");
	check_process("kill -9 $$", -EAGAIN, "ended by signal 9");
	check_process("echo '{\"Version\": 2, " PROCESS_KEYS "}'", -EBADMSG, "\"Version\": 1");
	check_process("echo '{" PROCESS_KEYS "}'", -EBADMSG, "\"Version\": 1");
	check_process("echo '{\"Version\": 1, " PROCESS_KEYS "'", -EBADMSG, "is not JSON");
	check_process("echo 'HUSH rubbish'", -EBADMSG, "is not JSON");
	check_process("exit 0", -EBADMSG, "is not JSON");
	check_process("while :; do echo ' HUSH                                       '; done",
		      -EMSGSIZE, "printed more than");
	write_config("[profile p]\ncredential_process = /none/such --x\n");
	check_refused("p", -ENOENT, "/none/such cannot be run");
	write_config("[profile p]\ncredential_process = x 'y\n");
	check_refused("p", -EINVAL, "is a quote left open");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_container, clear_environment),
		cmocka_unit_test_setup(test_container_hosts, clear_environment),
		cmocka_unit_test_setup(test_container_wrong, clear_environment),
		cmocka_unit_test_setup(test_instance, clear_environment),
		cmocka_unit_test_setup(test_role, clear_environment),
		cmocka_unit_test_setup(test_role_refused, clear_environment),
		cmocka_unit_test_setup(test_role_wrong, clear_environment),
		cmocka_unit_test_setup(test_web_identity, clear_environment),
		cmocka_unit_test_setup(test_process, clear_environment),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
