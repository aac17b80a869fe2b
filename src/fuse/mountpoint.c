/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The place of the mount: what can be wrong with it, and what is done to it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/util.h"
#include "fuse/private.h"

#define FUSERMOUNT "fusermount3"
#define FS_TYPE "fuse.s3cryptfs"
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"
#define DEAD_MAX 16u /* mounts of dead processes over each other */

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

extern char **environ;

/* One line of /proc/self/mountinfo, proc(5); points into the line. */
struct mount_line {
	int id;
	char *device; /* major:minor */
	char *where;
	char *options; /* of this mount; those of the filesystem come after the source */
	char *type;
	char *source;
	char *fs_options;
};

/* Blanks, newlines and backslashes are written as \ooo. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *p = text; *p;) {
		if (p[0] == '\\' && p[1] && p[2] && p[3]) {
			*to++ = (char)((p[1] & 7) << 6 | (p[2] & 7) << 3 | (p[3] & 7));
			p += 4;
		} else {
			*to++ = *p++;
		}
	}
	*to = '\0';
}

static bool parse_line(char *line, struct mount_line *ret_line)
{
	char *save, *field, *fields[6] = { NULL };
	struct mount_line parsed;
	char *rest = strstr(line, " - ");

	if (!rest)
		return false;
	*rest = '\0';
	rest += 3;
	rest[strcspn(rest, "\n")] = '\0';
	field = strtok_r(line, " ", &save);
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (!field)
			return false;
		fields[i] = field;
		field = strtok_r(NULL, " ", &save);
	}
	parsed.id = atoi(fields[0]);
	parsed.device = fields[2];
	parsed.where = fields[4];
	parsed.options = fields[5];
	parsed.type = strtok_r(rest, " ", &save);
	parsed.source = strtok_r(NULL, " ", &save);
	parsed.fs_options = strtok_r(NULL, " ", &save);
	if (!parsed.type || !parsed.source || !parsed.fs_options)
		return false;
	unescape(parsed.where);
	unescape(parsed.source);
	*ret_line = parsed;
	return true;
}

struct found_mount {
	int id; /* as fdinfo tells it too */
	char device[32];
	unsigned long flags; /* of mount(2) */
	char *source;
};

/* Words of mount(8) and what they set or clear. */
static const struct {
	const char *word;
	unsigned long set, clear;
} flag_words[] = {
	{ "ro", MS_RDONLY, 0 },         { "nosuid", MS_NOSUID, 0 },
	{ "suid", 0, MS_NOSUID },       { "nodev", MS_NODEV, 0 },
	{ "dev", 0, MS_NODEV },         { "noexec", MS_NOEXEC, 0 },
	{ "exec", 0, MS_NOEXEC },       { "sync", MS_SYNCHRONOUS, 0 },
	{ "async", 0, MS_SYNCHRONOUS }, { "dirsync", MS_DIRSYNC, 0 },
	{ "noatime", MS_NOATIME, 0 },   { "nodiratime", MS_NODIRATIME, 0 },
	{ "relatime", MS_RELATIME, 0 }, { "nosymfollow", MS_NOSYMFOLLOW, 0 },
};

static unsigned long apply_word(unsigned long flags, const char *word)
{
	for (size_t i = 0; i < ARRAY_LEN(flag_words); i++)
		if (!strcmp(flag_words[i].word, word))
			return (flags | flag_words[i].set) & ~flag_words[i].clear;
	return flags;
}

static unsigned long apply_list(unsigned long flags, char *list)
{
	char *save = NULL;

	for (char *word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save))
		flags = apply_word(flags, word);
	return flags;
}

static void found_mount_free(struct found_mount *found)
{
	free(found->source);
}
#define cleanup_found __attribute__((cleanup(found_mount_free)))

/* What is mounted there, topmost; is it ours? To be freed in either case. */
static bool find_mount(const char *mountpoint, struct found_mount *ret_found)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	struct mount_line parsed;
	bool ours = false;
	size_t alloc = 0;

	*ret_found = (struct found_mount){ .id = -1 };
	if (!file)
		return false;
	/* The last line of a place is the topmost mount. */
	while (getline(&line, &alloc, file) > 0) {
		if (!parse_line(line, &parsed) || strcmp(parsed.where, mountpoint) != 0)
			continue;
		ours = !strcmp(parsed.type, FS_TYPE);
		ret_found->id = parsed.id;
		snprintf(ret_found->device, sizeof(ret_found->device), "%s", parsed.device);
		ret_found->flags = apply_list(apply_list(0, parsed.options), parsed.fs_options);
		free(ret_found->source);
		ret_found->source = strdup(parsed.source);
	}
	fclose(file);
	return ours;
}

/* A mount of ours whose process has died serves nobody, and is in the way. */
static void clear_dead(const char *mountpoint)
{
	struct statfs fs;

	for (unsigned i = 0; i < DEAD_MAX; i++) {
		cleanup_found struct found_mount there = { 0 };

		/* Not stat: the kernel may have the attributes of the root for a while yet. */
		if (statfs(mountpoint, &fs) == 0 || (errno != ENOTCONN && errno != ECONNABORTED))
			return;
		if (errno == ECONNABORTED) /* it has just died */
			continue;
		if (!find_mount(mountpoint, &there) || s3c_mountpoint_detach(mountpoint) < 0)
			return;
		s3c_warn("%s: the mount of %s there, whose process had died, was taken away",
			 mountpoint, there.source ? there.source : "?");
	}
}

static int check_place(const char *mountpoint, struct s3c_err *err)
{
	struct stat st;

	clear_dead(mountpoint);
	if (stat(mountpoint, &st) < 0) {
		int e = errno;

		if (e == ENOTCONN)
			return s3c_err_set(
				err, -e,
				"%s is the mountpoint of a file system whose process has "
				"died, and which is not this program's or this user's; take it "
				"away first: umount -l %s",
				mountpoint, mountpoint);
		return s3c_err_set(err, -e, "mountpoint %s: %s", mountpoint, strerror(e));
	}
	if (!S_ISDIR(st.st_mode))
		return s3c_err_set(err, -ENOTDIR, "mountpoint %s is not a directory", mountpoint);
	return 0;
}

static int check_empty(const char *mountpoint, struct s3c_err *err)
{
	struct dirent *entry;
	bool empty = true;
	DIR *dir;

	dir = opendir(mountpoint);
	if (!dir) {
		int e = errno;

		return s3c_err_set(err, -e, "mountpoint %s: %s", mountpoint, strerror(e));
	}
	while (empty && (entry = readdir(dir)))
		empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
	closedir(dir);
	if (!empty)
		return s3c_err_set(err, -ENOTEMPTY,
				   "mountpoint %s is not empty; -o nonempty mounts there all the "
				   "same and hides what it holds",
				   mountpoint);
	return 0;
}

static bool in_path(const char *name)
{
	const char *env = getenv("PATH");
	cleanup_free char *path = strdup(env ? env : DEFAULT_PATH);
	char *save = NULL;

	if (!path)
		return true;
	for (char *dir = strtok_r(path, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		cleanup_free char *file = s3c_asprintf("%s/%s", dir, name);

		if (!file || access(file, X_OK) == 0)
			return true;
	}
	return false;
}

static bool user_allow_other(void)
{
	FILE *file = fopen("/etc/fuse.conf", "re");
	bool allowed = false;
	char line[256];

	if (!file)
		return false;
	while (!allowed && fgets(line, sizeof(line), file)) {
		line[strcspn(line, " \t\r\n#")] = '\0';
		allowed = !strcmp(line, "user_allow_other");
	}
	fclose(file);
	return allowed;
}

/* As fusermount3 will, but before anything has been made. */
static int check_owner(const char *mountpoint, struct s3c_err *err)
{
	struct stat st;

	if (access(mountpoint, W_OK) == 0 &&
	    (stat(mountpoint, &st) < 0 || !(st.st_mode & S_ISVTX) || st.st_uid == geteuid()))
		return 0;
	return s3c_err_set(err, -EACCES,
			   "mountpoint %s is not this user's: users other than root mount on a "
			   "folder of their own",
			   mountpoint);
}

static int check_fuse(const char *mountpoint, bool allow_other, struct s3c_err *err)
{
	bool root = geteuid() == 0;

	if (access("/dev/fuse", F_OK) < 0)
		return s3c_err_set(err, -ENODEV,
				   "/dev/fuse does not exist; load the module with \"modprobe "
				   "fuse\", or give the container --device /dev/fuse");
	if (root)
		return 0;
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		return s3c_err_set(
			err, -EACCES,
			"/dev/fuse is closed to this user; as root: chmod 666 /dev/fuse, or "
			"mount as root with allow_other");
	if (!in_path(FUSERMOUNT))
		return s3c_err_set(err, -ENOENT,
				   FUSERMOUNT " was not found, which mounts for users other than "
					      "root; install the package fuse3");
	if (allow_other && !user_allow_other())
		return s3c_err_set(err, -EPERM,
				   "allow_other and allow_root are for root, or for all when "
				   "/etc/fuse.conf has a line user_allow_other");
	return check_owner(mountpoint, err);
}

int s3c_mountpoint_check(const char *mountpoint, const char *source, bool nonempty,
			 bool allow_other, struct s3c_err *err)
{
	cleanup_found struct found_mount there = { 0 };
	int r;

	r = check_place(mountpoint, err);
	if (r < 0)
		return r;
	if (find_mount(mountpoint, &there))
		return s3c_err_set(err, -EBUSY, "%s is mounted on %s already",
				   there.source ? there.source : source, mountpoint);
	r = nonempty ? 0 : check_empty(mountpoint, err);
	return r < 0 ? r : check_fuse(mountpoint, allow_other, err);
}

bool s3c_mountpoint_is_ours(const char *mountpoint)
{
	cleanup_found struct found_mount there = { 0 };

	return find_mount(mountpoint, &there);
}

void s3c_mountpoint_each(void (*fn)(void *arg, const char *mountpoint), void *arg)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	struct mount_line parsed;
	size_t alloc = 0;

	while (file && getline(&line, &alloc, file) > 0)
		if (parse_line(line, &parsed) && !strcmp(parsed.type, FS_TYPE))
			fn(arg, parsed.where);
	if (file)
		fclose(file);
}

/* Standard error goes to a file in memory. -1: it does not. */
static int capture_begin(int *ret_saved)
{
	int file = memfd_create("stderr", MFD_CLOEXEC);
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	if (file < 0 || saved < 0 || dup2(file, STDERR_FILENO) < 0) {
		if (file >= 0)
			close(file);
		if (saved >= 0)
			close(saved);
		return -1;
	}
	*ret_saved = saved;
	return file;
}

/* Lines of fusermount3 to said, those of other threads where they belong. */
static void capture_end(int fd, int saved, bool failed, char *said)
{
	FILE *file = fdopen(fd, "r");
	cleanup_free char *line = NULL;
	size_t alloc = 0, used;

	dup2(saved, STDERR_FILENO);
	close(saved);
	if (!file) {
		close(fd);
		return;
	}
	rewind(file);
	while (getline(&line, &alloc, file) > 0) {
		used = strlen(said);
		line[strcspn(line, "\n")] = '\0';
		if (failed && !strncmp(line, FUSERMOUNT ": ", strlen(FUSERMOUNT ": ")))
			snprintf(said + used, S3C_ERR_MAX - used, "%s%s", used ? "; " : "",
				 line + strlen(FUSERMOUNT ": "));
		else
			fprintf(stderr, "%s\n", line);
	}
	fclose(file);
}

int s3c_mountpoint_mount(struct fuse_session *session, const char *mountpoint, char *said)
{
	int saved, fd = capture_begin(&saved);
	int r = fuse_session_mount(session, mountpoint);

	if (fd >= 0)
		capture_end(fd, saved, r != 0, said);
	return r == 0 ? 0 : -EPERM;
}

int s3c_mountpoint_id(const char *mountpoint)
{
	cleanup_found struct found_mount there = { 0 };

	return find_mount(mountpoint, &there) ? there.id : -1;
}

void s3c_mountpoint_raise_readahead(const char *mountpoint)
{
	cleanup_found struct found_mount there = { 0 };
	char path[96];
	int fd;

	if (geteuid() != 0 || !find_mount(mountpoint, &there))
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%s/read_ahead_kb", there.device);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	/* Where it cannot be written, reading is a little slower. */
	if (dprintf(fd, "%u\n", S3C_FUSE_IO_MAX >> 10) < 0)
		errno = 0;
	close(fd);
}

int s3c_mountpoint_detach(const char *mountpoint)
{
	const char *argv[] = { FUSERMOUNT, "-u", "-z", "-q", "--", mountpoint, NULL };
	int status, r;
	pid_t pid;

	if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	r = posix_spawnp(&pid, FUSERMOUNT, NULL, NULL, (char *const *)argv, environ);
	if (r)
		return -r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

int s3c_mountpoint_remount(const char *mountpoint, bool read_only, bool nosymfollow,
			   const char *const *words, struct s3c_err *err)
{
	cleanup_found struct found_mount there = { 0 };
	unsigned long flags;
	int e;

	if (!find_mount(mountpoint, &there))
		return s3c_err_set(err, -EINVAL, "nothing of s3cryptfs is mounted on %s",
				   mountpoint);
	flags = there.flags & ~(unsigned long)MS_RDONLY;
	for (; words && *words; words++)
		flags = apply_word(flags, *words);
	flags |= (read_only ? MS_RDONLY : 0) | (nosymfollow ? MS_NOSYMFOLLOW : 0);
	if (mount("none", mountpoint, NULL, flags | MS_REMOUNT, NULL) == 0)
		return 0;
	e = errno;
	return s3c_err_set(err, -e, "%s cannot be remounted: %s", mountpoint,
			   e == EBUSY   ? "files are open for writing there (fuser -vm tells which)"
			   : e == EPERM ? "only root can"
					: strerror(e));
}

int s3c_mountpoint_no_symlinks(const char *mountpoint)
{
	cleanup_found struct found_mount there = { 0 };

	if (!find_mount(mountpoint, &there))
		return -EINVAL;
	return mount("none", mountpoint, NULL, there.flags | MS_NOSYMFOLLOW | MS_REMOUNT | MS_BIND,
		     NULL) == 0
		       ? 0
		       : -errno;
}
