/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/harden.h"

#include <malloc.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/private.h"

#define ARENAS 4

static void raise_limit(int which)
{
	struct rlimit limit;

	if (getrlimit(which, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(which, &limit);
	}
}

/*
 * glibc has eight arenas for each processor, and each keeps free pages between what lives: tens of
 * threads that mostly wait need no more than these.
 */
static void few_arenas(void)
{
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, ARENAS);
#endif
}

void s3c_harden(void)
{
	few_arenas();
	/* Whatever name it was called by: the rotation of logs looks for it. */
	prctl(PR_SET_NAME, "s3cryptfs");
	raise_limit(RLIMIT_NOFILE);  /* connections, the spill file, open folders */
	raise_limit(RLIMIT_MEMLOCK); /* keys */
	/*
	 * Root mounts and unmounts by itself. Others need fusermount3 and its set-user-id bit, at
	 * the end as well: for them nothing can be given up.
	 */
	if (geteuid() == 0)
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void warn_folder(const char *what, const char *path,
			void (*warn)(void *arg, const char *text), void *arg)
{
	cleanup_free char *text = NULL;
	struct stat st;

	if (!path || stat(path, &st) < 0 || !(st.st_mode & 077))
		return;
	text = s3c_asprintf("%s %s is open to other users, who see sizes and times of what lies "
			    "there: chmod 700 %s",
			    what, path, path);
	if (text)
		warn(arg, text);
}

void s3c_warn_weak(const struct s3c_access *access, void (*warn)(void *arg, const char *text),
		   void *arg)
{
	const struct s3c_options *o = access->options;

	if (o->enc == S3C_ENC_NONE)
		warn(arg, "enc=none: nothing is encrypted by this mount");
	if (!access->engine->store->tls)
		warn(arg, s3c_enc_family(o->enc) != S3C_FAMILY_CSE
				  ? "allow_http: whoever is on the way to the store sees the "
				    "content of files and can change it"
			  : o->names_encrypted
				  ? "allow_http: whoever is on the way to the store sees sizes and "
				    "attributes of files"
				  : "allow_http: whoever is on the way to the store sees names, "
				    "sizes and attributes of files");
	warn_folder("cache_dir", access->cache_dir, warn, arg);
	warn_folder("state_dir", access->state_dir, warn, arg);
}
