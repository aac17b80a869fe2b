/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* fs/ on an engine in memory: inodes and what happens to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "fs/fs.h"
#include "fake_engine.h"

static const struct s3c_fs_caller root = { .uid = 0 };

static int setup(void **state)
{
	struct s3c_fs *fs;
	int r = s3c_fs_new(fake_begin(), 60, &fs);

	*state = fs;
	return r;
}

static int teardown(void **state)
{
	int r = s3c_fs_free(*state, NULL);

	if (fake.opens)
		r = -1;
	fake_end();
	return r;
}

static uint64_t lookup(struct s3c_fs *fs, uint64_t parent, const char *name)
{
	struct s3c_fs_entry entry;

	assert_int_equal(s3c_fs_lookup(fs, S3C_NOWAIT, parent, name, &entry), 0);
	return entry.nodeid;
}

static uint64_t lookup_wait(struct s3c_fs *fs, const char *name, uint64_t *ret_ino)
{
	struct s3c_fs_entry entry;

	assert_int_equal(s3c_fs_lookup(fs, NULL, S3C_FS_ROOT, name, &entry), 0);
	if (ret_ino)
		*ret_ino = entry.attr.st.st_ino;
	return entry.nodeid;
}

static struct s3c_file *open_file(struct s3c_fs *fs, uint64_t nodeid, int flags)
{
	struct s3c_file *file;
	bool keep;

	assert_int_equal(s3c_fs_open(fs, NULL, nodeid, flags, &root, &file, &keep), 0);
	return file;
}

static uint64_t mkfile(struct s3c_fs *fs, uint64_t parent, const char *name, const char *text)
{
	struct s3c_fs_entry entry;
	struct s3c_file *file;
	bool keep;

	assert_int_equal(
		s3c_fs_create(fs, NULL, parent, name, 0644, O_WRONLY, &root, &entry, &file, &keep),
		0);
	assert_int_equal(s3c_fs_write(file, NULL, 0, text, strlen(text), false), 0);
	assert_int_equal(s3c_fs_flush(file, NULL), 0);
	assert_int_equal(s3c_fs_release(file, NULL), 0);
	return entry.nodeid;
}

static uint64_t mkdir_in(struct s3c_fs *fs, uint64_t parent, const char *name)
{
	struct s3c_fs_entry entry;

	assert_int_equal(s3c_fs_mkdir(fs, NULL, parent, name, 0755, &root, &entry), 0);
	assert_true(S_ISDIR(entry.attr.st.st_mode));
	assert_int_equal(entry.attr.st.st_nlink, 2);
	return entry.nodeid;
}

static struct stat stat_of(struct s3c_fs *fs, uint64_t nodeid)
{
	struct s3c_fs_attr attr;

	assert_int_equal(s3c_fs_getattr(fs, NULL, nodeid, &attr), 0);
	return attr.st;
}

static void assert_content(struct s3c_file *file, const char *text)
{
	struct s3c_pages pages;

	assert_int_equal(s3c_fs_read(file, NULL, 0, 4096, &pages), 0);
	assert_int_equal(pages.len, strlen(text));
	assert_memory_equal(pages.iov[0].iov_base, text, pages.len);
	s3c_pages_release(NULL, &pages);
}

static void counts_lookups(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t a, again;

	fake_foreign_write("a", "text");
	a = lookup(fs, S3C_FS_ROOT, "a");
	assert_int_equal(lookup(fs, S3C_FS_ROOT, "a"), a);
	assert_int_equal(s3c_fs_inode_count(fs), 2);
	s3c_fs_forget(fs, a, 1);
	assert_int_equal(s3c_fs_inode_count(fs), 2);
	s3c_fs_forget(fs, a, 1);
	assert_int_equal(s3c_fs_inode_count(fs), 1);
	/* Unknown numbers, too many counts: no harm. */
	s3c_fs_forget(fs, a, 1);
	s3c_fs_forget(fs, S3C_FS_ROOT, 100);
	again = lookup(fs, S3C_FS_ROOT, "a");
	assert_int_not_equal(again, a);
	s3c_fs_forget(fs, again, 7);
	assert_int_equal(s3c_fs_inode_count(fs), 1);
}

static void parents_live_for_children(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t d = mkdir_in(fs, S3C_FS_ROOT, "d");
	uint64_t e = mkdir_in(fs, d, "e");
	uint64_t f = mkfile(fs, e, "f", "x");

	s3c_fs_forget(fs, d, 1);
	s3c_fs_forget(fs, e, 1);
	assert_int_equal(s3c_fs_inode_count(fs), 4);
	assert_int_equal(stat_of(fs, f).st_size, 1);
	s3c_fs_forget(fs, f, 1);
	assert_int_equal(s3c_fs_inode_count(fs), 1);
}

static void keeps_st_ino(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t a = mkfile(fs, S3C_FS_ROOT, "a", "1");
	uint64_t ino = stat_of(fs, a).st_ino, b;

	/* After forgetting it is the same. */
	s3c_fs_forget(fs, a, 1);
	a = lookup(fs, S3C_FS_ROOT, "a");
	assert_int_equal(stat_of(fs, a).st_ino, ino);
	/* It goes with a rename; who gets the old name has another. */
	assert_int_equal(s3c_fs_rename(fs, NULL, S3C_FS_ROOT, "a", S3C_FS_ROOT, "b", false), 0);
	assert_int_equal(lookup(fs, S3C_FS_ROOT, "b"), a);
	assert_int_equal(stat_of(fs, a).st_ino, ino);
	b = mkfile(fs, S3C_FS_ROOT, "a", "2");
	assert_int_not_equal(stat_of(fs, b).st_ino, ino);
}

static void renames_directories(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t d = mkdir_in(fs, S3C_FS_ROOT, "d");
	uint64_t e = mkdir_in(fs, d, "e");
	uint64_t f = mkfile(fs, e, "f", "deep");
	struct s3c_file *file = open_file(fs, f, O_RDWR);

	assert_int_equal(s3c_fs_rename(fs, NULL, d, "e", S3C_FS_ROOT, "x", true), 0);
	assert_int_equal(lookup(fs, S3C_FS_ROOT, "x"), e);
	assert_int_equal(lookup(fs, e, "f"), f);
	assert_int_equal(lookup(fs, d, "e"), 0);
	assert_int_equal(s3c_fs_write(file, NULL, 4, "er", 2, false), 0);
	assert_int_equal(s3c_fs_release(file, NULL), 0);
	assert_int_equal(fake_find("x/f")->len, 6);
	/* The directory that was left can go, the one that has a child cannot. */
	assert_int_equal(s3c_fs_rmdir(fs, NULL, S3C_FS_ROOT, "d"), 0);
	assert_int_equal(s3c_fs_rmdir(fs, NULL, S3C_FS_ROOT, "x"), -ENOTEMPTY);
	/* One that is gone can still be asked by who stands in it. */
	assert_int_equal(stat_of(fs, d).st_nlink, 0);
}

static void replaces_the_target(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t a = mkfile(fs, S3C_FS_ROOT, "a", "new");
	uint64_t b = mkfile(fs, S3C_FS_ROOT, "b", "old");
	struct s3c_file *file = open_file(fs, b, O_RDWR);

	assert_int_equal(s3c_fs_rename(fs, NULL, S3C_FS_ROOT, "a", S3C_FS_ROOT, "b", true),
			 -EEXIST);
	assert_int_equal(s3c_fs_rename(fs, NULL, S3C_FS_ROOT, "a", S3C_FS_ROOT, "b", false), 0);
	assert_int_equal(lookup(fs, S3C_FS_ROOT, "b"), a);
	assert_int_equal(lookup(fs, S3C_FS_ROOT, "a"), 0);
	assert_content(file, "old");
	assert_int_equal(stat_of(fs, b).st_nlink, 0);
	assert_int_equal(stat_of(fs, a).st_nlink, 1);
	assert_int_equal(s3c_fs_release(file, NULL), 0);
	s3c_fs_forget(fs, b, 1);
	assert_int_equal(s3c_fs_inode_count(fs), 2);
}

static void unlinks_open_files(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t a = mkfile(fs, S3C_FS_ROOT, "a", "still here"), b;
	struct s3c_file *file = open_file(fs, a, O_RDWR);
	struct s3c_fs_change change = { .set_size = true, .size = 5 };
	struct s3c_fs_attr attr;

	assert_int_equal(s3c_fs_unlink(fs, NULL, S3C_FS_ROOT, "a"), 0);
	assert_int_equal(lookup(fs, S3C_FS_ROOT, "a"), 0);
	assert_content(file, "still here");
	assert_int_equal(s3c_fs_setattr(fs, NULL, a, file, &change, &attr), 0);
	assert_int_equal(attr.st.st_size, 5);
	assert_int_equal(attr.st.st_nlink, 0);
	/* The name can be used again, for another inode. */
	b = mkfile(fs, S3C_FS_ROOT, "a", "other");
	assert_int_not_equal(a, b);
	assert_int_not_equal(stat_of(fs, b).st_ino, attr.st.st_ino);
	assert_int_equal(s3c_fs_write(file, NULL, 0, "STILL", 5, false), 0);
	s3c_fs_forget(fs, a, 1);
	assert_content(file, "STILL");
	assert_int_equal(s3c_fs_release(file, NULL), 0);
	assert_int_equal(s3c_fs_inode_count(fs), 2);
	assert_memory_equal(fake_find("a")->data, "other", 5);
	/* Without a handle there is nothing left to be asked. */
	assert_int_equal(s3c_fs_unlink(fs, NULL, S3C_FS_ROOT, "a"), 0);
	assert_int_equal(s3c_fs_getattr(fs, NULL, b, &attr), -ESTALE);
}

static void foreign_version_at_lookup(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t a, b, ino, ino2;
	struct s3c_fs_attr attr;
	struct s3c_file *file;
	bool keep;

	fake_foreign_write("a", "one");
	a = lookup_wait(fs, "a", &ino);
	assert_int_equal(lookup_wait(fs, "a", NULL), a);
	fake_foreign_write("a", "three");
	b = lookup_wait(fs, "a", &ino2);
	assert_int_not_equal(a, b);
	assert_int_equal(ino, ino2);
	/* The old number cannot be used, but forgotten. */
	assert_int_equal(s3c_fs_open(fs, NULL, a, O_RDONLY, &root, &file, &keep), -ESTALE);
	assert_int_equal(s3c_fs_getattr(fs, NULL, a, &attr), -ESTALE);
	s3c_fs_forget(fs, a, 2);
	file = open_file(fs, b, O_RDONLY);
	assert_content(file, "three");
	assert_int_equal(s3c_fs_release(file, NULL), 0);
	assert_int_equal(s3c_fs_inode_count(fs), 2);
}

static void foreign_version_at_open(void **state)
{
	struct s3c_fs *fs = *state;
	struct s3c_fs_entry entry;
	struct s3c_file *file;
	uint64_t a, b;
	bool keep;

	fake_foreign_write("a", "one");
	a = lookup_wait(fs, "a", NULL);
	fake_foreign_write("a", "two");
	assert_int_equal(s3c_fs_open(fs, NULL, a, O_RDONLY, &root, &file, &keep), -ESTALE);
	/* Then the store is asked, whatever is cached: that waits. */
	assert_int_equal(s3c_fs_lookup(fs, S3C_NOWAIT, S3C_FS_ROOT, "a", &entry), -EINPROGRESS);
	b = lookup_wait(fs, "a", NULL);
	assert_int_not_equal(a, b);
	assert_int_equal(fake.revalidations, 2);
	assert_int_equal(s3c_fs_open(fs, NULL, b, O_RDONLY, &root, &file, &keep), 0);
	assert_true(keep);
	assert_int_equal(s3c_fs_release(file, NULL), 0);
}

static void foreign_version_at_getattr(void **state)
{
	struct s3c_fs *fs = *state;
	struct s3c_fs_attr attr;
	uint64_t a;

	fake_foreign_write("a", "one");
	a = lookup_wait(fs, "a", NULL);
	assert_int_equal(s3c_fs_getattr(fs, NULL, a, &attr), 0);
	fake_foreign_write("a", "longer");
	assert_int_equal(s3c_fs_getattr(fs, NULL, a, &attr), -ESTALE);
	assert_int_not_equal(lookup_wait(fs, "a", NULL), a);
}

/* Our own changes are not taken for those of others. */
static void own_versions(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t a = mkfile(fs, S3C_FS_ROOT, "a", "one");
	struct s3c_fs_change change = { .set_size = true, .size = 2 };
	struct s3c_fs_entry entry;
	struct s3c_fs_attr attr;
	struct s3c_file *file;
	bool keep;

	assert_int_equal(lookup(fs, S3C_FS_ROOT, "a"), a);
	assert_int_equal(s3c_fs_open(fs, NULL, a, O_RDWR, &root, &file, &keep), 0);
	assert_true(keep);
	assert_int_equal(s3c_fs_write(file, NULL, 0, "two!", 4, false), 0);
	assert_int_equal(s3c_fs_lookup(fs, S3C_NOWAIT, S3C_FS_ROOT, "a", &entry), 0);
	assert_int_equal(entry.nodeid, a);
	assert_int_equal(entry.attr.st.st_size, 4);
	/* Dirty: the attributes are asked for again, the name stays. */
	assert_true(entry.attr.timeout_s < 1e-9);
	assert_true(entry.entry_timeout_s > 1);
	assert_int_equal(s3c_fs_release(file, NULL), 0);
	assert_int_equal(s3c_fs_setattr(fs, S3C_NOWAIT, a, NULL, &change, &attr), -EINPROGRESS);
	assert_int_equal(s3c_fs_setattr(fs, NULL, a, NULL, &change, &attr), 0);
	assert_int_equal(attr.st.st_size, 2);
	assert_int_equal(fake_find("a")->len, 2);
	assert_int_equal(lookup(fs, S3C_FS_ROOT, "a"), a);
	assert_int_equal(s3c_fs_open(fs, NULL, a, O_RDONLY, &root, &file, &keep), 0);
	assert_true(keep);
	assert_int_equal(s3c_fs_release(file, NULL), 0);
}

/* A commit that fails at the last close: what the store holds later is unknown. */
static void failed_release(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t a = mkfile(fs, S3C_FS_ROOT, "a", "one");
	struct s3c_file *file = open_file(fs, a, O_RDWR);
	bool keep;

	assert_int_equal(s3c_fs_write(file, NULL, 0, "two", 3, false), 0);
	fake.commit_error = -EIO;
	assert_int_equal(s3c_fs_flush(file, NULL), -EIO);
	assert_int_equal(s3c_fs_release(file, S3C_NOWAIT), -EINPROGRESS);
	assert_int_equal(s3c_fs_release(file, NULL), -EIO);
	fake.commit_error = 0;
	fake_foreign_write("a", "six");
	assert_int_equal(lookup(fs, S3C_FS_ROOT, "a"), a);
	assert_int_equal(s3c_fs_open(fs, NULL, a, O_RDONLY, &root, &file, &keep), 0);
	assert_false(keep);
	assert_int_equal(s3c_fs_release(file, NULL), 0);
}

/* What failed at its last close is tried again at the end, wherever it was moved. */
static void stores_the_rest(void **state)
{
	struct s3c_fs *fs;
	struct s3c_file *file;
	uint64_t a;

	(void)state;
	assert_int_equal(s3c_fs_new(fake_begin(), 60, &fs), 0);
	fake.close_keeps = true;
	a = mkfile(fs, S3C_FS_ROOT, "a", "one");
	file = open_file(fs, a, O_RDWR);
	assert_int_equal(s3c_fs_write(file, NULL, 0, "two", 3, false), 0);
	fake.commit_error = -EIO;
	assert_int_equal(s3c_fs_release(file, NULL), -EIO);
	s3c_fs_forget(fs, a, 1);
	assert_int_equal(s3c_fs_rename(fs, NULL, S3C_FS_ROOT, "a", S3C_FS_ROOT, "b", false), 0);
	fake.commit_error = 0;
	assert_int_equal(s3c_fs_free(fs, NULL), 0);
	assert_memory_equal(fake_find("b")->data, "two", 3);
	fake_end();

	/* And the error is told when it fails again. */
	assert_int_equal(s3c_fs_new(fake_begin(), 60, &fs), 0);
	fake.close_keeps = true;
	a = mkfile(fs, S3C_FS_ROOT, "a", "one");
	file = open_file(fs, a, O_RDWR);
	assert_int_equal(s3c_fs_write(file, NULL, 0, "two", 3, false), 0);
	fake.commit_error = -EDQUOT;
	assert_int_equal(s3c_fs_free(fs, NULL), -EDQUOT);
	fake_end();
}

static void truncates_only_the_view(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t a = mkfile(fs, S3C_FS_ROOT, "a", "one");
	struct s3c_file *file = open_file(fs, a, O_WRONLY | O_TRUNC);

	assert_int_equal(stat_of(fs, a).st_size, 0);
	assert_int_equal(fake_find("a")->len, 3);
	assert_true(s3c_fs_file_untouched(file));
	assert_int_equal(s3c_fs_write(file, NULL, 0, "2", 1, false), 0);
	assert_false(s3c_fs_file_untouched(file));
	assert_int_equal(s3c_fs_flush(file, NULL), 0);
	assert_int_equal(fake_find("a")->len, 1);
	assert_int_equal(s3c_fs_release(file, NULL), 0);
}

static unsigned stale_count;

static void on_stale(void *arg, uint64_t nodeid)
{
	assert_int_equal(nodeid, *(uint64_t *)arg);
	stale_count++;
}

/* Who may not keep set-user-id bits changes a file: by which way, and what its mode is then. */
static void drops_privs(void **state)
{
	static const struct s3c_fs_caller user = { .uid = 1, .drop_privs = true };
	static const struct {
		mode_t before, after;
	} modes[] = {
		{ 06755, 0755 },  { 04644, 0644 },  { 02710, 0710 },
		{ 02744, 02744 }, /* no execution by the group */
		{ 06666, 02666 }, { 01777, 01777 }, { 0644, 0644 },
	};
	enum { WRITE, OPEN, CREATE, TRUNCATE, TRUNCATE_OPEN, CHOWN, CHOWN_OPEN, WAYS };
	struct s3c_fs *fs = *state;
	uint64_t a;

	s3c_fs_on_stale(fs, on_stale, &a);
	a = mkfile(fs, S3C_FS_ROOT, "a", "one");
	for (int by_user = 0; by_user < 2; by_user++)
		for (size_t i = 0; i < WAYS * ARRAY_LEN(modes); i++) {
			const struct s3c_fs_caller *who = by_user ? &user : &root;
			mode_t before = S_IFREG | modes[i / WAYS].before;
			mode_t after = by_user ? S_IFREG | modes[i / WAYS].after : before;
			struct s3c_fs_change change = { .drop_privs = by_user, .size = 1 };
			struct s3c_fs_attr attr = { .st.st_mode = after };
			struct s3c_fs_entry entry;
			struct s3c_file *file;
			bool told = false, keep;

			fake_find("a")->attrs.mode = before;
			file = open_file(fs, a, O_RDWR);
			change.set_size = i % WAYS < CHOWN;
			change.which = change.set_size ? 0 : S3C_SET_UID;
			stale_count = 0;
			switch (i % WAYS) {
			case WRITE:
				if (by_user)
					assert_int_equal(s3c_fs_drop_privs(file, NULL), 0);
				told = true;
				break;
			case OPEN:
				s3c_fs_release(file, NULL);
				assert_int_equal(s3c_fs_open(fs, NULL, a, O_WRONLY | O_TRUNC, who,
							     &file, &keep),
						 0);
				told = true;
				break;
			case CREATE:
				s3c_fs_release(file, NULL);
				assert_int_equal(s3c_fs_create(fs, NULL, S3C_FS_ROOT, "a", 0600,
							       O_WRONLY | O_TRUNC, who, &entry,
							       &file, &keep),
						 0);
				s3c_fs_forget(fs, a, 1);
				attr = entry.attr;
				told = true;
				break;
			default:
				if (i % WAYS == TRUNCATE || i % WAYS == CHOWN)
					s3c_fs_release(steal_ptr(file), NULL);
				assert_int_equal(s3c_fs_setattr(fs, NULL, a, file, &change, &attr),
						 0);
				/* Of a change of the size in any case: harmless. */
				told = change.set_size;
			}
			assert_int_equal(attr.st.st_mode, after);
			assert_int_equal(stat_of(fs, a).st_mode, after);
			assert_int_equal(stale_count, told && before != after);
			if (file)
				s3c_fs_release(file, NULL);
		}
}

static void removed_elsewhere(void **state)
{
	struct s3c_fs *fs = *state;
	struct s3c_fs_entry entry;
	uint64_t d = mkdir_in(fs, S3C_FS_ROOT, "d");
	uint64_t f = mkfile(fs, d, "f", "x");
	struct s3c_fs_attr attr;

	assert_int_equal(s3c_engine_unlink(NULL, NULL, "d/f"), 0);
	assert_int_equal(s3c_engine_rmdir(NULL, NULL, "d"), 0);
	assert_int_equal(s3c_fs_lookup(fs, S3C_NOWAIT, S3C_FS_ROOT, "d", &entry), 0);
	assert_int_equal(entry.nodeid, 0);
	assert_true(entry.entry_timeout_s > 0 && entry.entry_timeout_s <= 1);
	assert_int_equal(s3c_fs_getattr(fs, NULL, f, &attr), -ESTALE);
	/* A new directory of that name is another one. */
	assert_int_not_equal(mkdir_in(fs, S3C_FS_ROOT, "d"), d);
}

static void refuses_names(void **state)
{
	static const struct {
		const char *name;
		int lookup, create;
	} cases[] = {
		{ ".s3cryptfs", -ENOENT, -EACCES },
		{ ".s3cryptfs2", 0, 0 },
	};
	struct s3c_fs *fs = *state;
	struct s3c_fs_entry entry;
	char longest[257];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *name = cases[i].name;

		assert_int_equal(s3c_fs_lookup(fs, NULL, S3C_FS_ROOT, name, &entry),
				 cases[i].lookup);
		assert_int_equal(s3c_fs_mkdir(fs, NULL, S3C_FS_ROOT, name, 0755, &root, &entry),
				 cases[i].create);
	}
	/* Only in the root. */
	mkdir_in(fs, mkdir_in(fs, S3C_FS_ROOT, "d"), ".s3cryptfs");
	memset(longest, 'n', 256);
	longest[256] = '\0';
	assert_int_equal(s3c_fs_lookup(fs, NULL, S3C_FS_ROOT, longest, &entry), -ENAMETOOLONG);
	longest[255] = '\0';
	assert_int_equal(s3c_fs_lookup(fs, NULL, S3C_FS_ROOT, longest, &entry), 0);
	/* Directories have a call of their own. */
	assert_int_equal(
		s3c_fs_mknod(fs, NULL, S3C_FS_ROOT, "dir", S_IFDIR | 0755, 0, &root, &entry),
		-EINVAL);
}

static void refuses_long_paths(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t dir = S3C_FS_ROOT;
	struct s3c_fs_entry entry;
	char name[256];

	memset(name, 'n', 255);
	name[255] = '\0';
	/* 15 * 256 and 254 are 4,094 bytes; a path has 4,095 at most. */
	for (int i = 0; i < 15; i++)
		dir = mkdir_in(fs, dir, name);
	name[254] = '\0';
	dir = mkdir_in(fs, dir, name);
	assert_int_equal(s3c_fs_lookup(fs, NULL, dir, "x", &entry), -ENAMETOOLONG);
}

static void lists(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t d = mkdir_in(fs, S3C_FS_ROOT, "d"), offset = 0;
	struct s3c_fs_dirent entry;
	struct s3c_dir *dir;
	unsigned count = 0;

	mkfile(fs, d, "a", "x");
	s3c_fs_forget(fs, mkfile(fs, d, "b", "x"), 1);
	assert_int_equal(s3c_fs_opendir(fs, d, &dir), 0);
	assert_int_equal(s3c_fs_readdir_begin(dir, S3C_NOWAIT, 0), 0);
	for (; s3c_fs_readdir_entry(dir, offset, &entry); offset = entry.next, count++) {
		if (entry.dot)
			continue;
		assert_int_equal(entry.ino, stat_of(fs, lookup(fs, d, entry.name)).st_ino);
	}
	s3c_fs_readdir_end(dir);
	assert_int_equal(count, 4);
	/* A snapshot, until it is rewound. */
	mkfile(fs, d, "c", "x");
	assert_int_equal(s3c_fs_readdir_begin(dir, S3C_NOWAIT, offset), 0);
	assert_false(s3c_fs_readdir_entry(dir, offset, &entry));
	s3c_fs_readdir_end(dir);
	assert_int_equal(s3c_fs_readdir_begin(dir, S3C_NOWAIT, 0), 0);
	assert_true(s3c_fs_readdir_entry(dir, offset, &entry));
	s3c_fs_readdir_end(dir);
	s3c_fs_releasedir(dir);
	assert_int_equal(s3c_fs_opendir(fs, lookup(fs, d, "a"), &dir), -ENOTDIR);
}

static void touches_parents(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t d = mkdir_in(fs, S3C_FS_ROOT, "d");
	struct s3c_fs_change change = { .which = S3C_SET_MTIME, .attrs.mtime_ns = 5000000000 };
	struct s3c_fs_attr attr;

	assert_int_equal(s3c_fs_setattr(fs, NULL, d, NULL, &change, &attr), 0);
	assert_int_equal(attr.st.st_mtim.tv_sec, 5);
	mkfile(fs, d, "f", "");
	assert_true(stat_of(fs, d).st_mtim.tv_sec > 5);
	/* As after unpacking an archive. */
	assert_int_equal(s3c_fs_setattr(fs, NULL, d, NULL, &change, &attr), 0);
	assert_int_equal(stat_of(fs, d).st_mtim.tv_sec, 5);
	/* Before 1970, the part of a second counts up. */
	change.attrs.mtime_ns = -1;
	assert_int_equal(s3c_fs_setattr(fs, NULL, d, NULL, &change, &attr), 0);
	assert_int_equal(attr.st.st_mtim.tv_sec, -1);
	assert_int_equal(attr.st.st_mtim.tv_nsec, 999999999);
}

/* A connection may end with handles that no one releases. */
static void leaves_handles(void **state)
{
	struct s3c_fs *fs = *state;
	uint64_t a = mkfile(fs, S3C_FS_ROOT, "a", "one");
	struct s3c_file *file = open_file(fs, a, O_RDWR);
	struct s3c_dir *dir;

	assert_int_equal(s3c_fs_write(file, NULL, 3, "!", 1, false), 0);
	assert_int_equal(s3c_fs_opendir(fs, S3C_FS_ROOT, &dir), 0);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(counts_lookups),
		TEST(parents_live_for_children),
		TEST(keeps_st_ino),
		TEST(renames_directories),
		TEST(replaces_the_target),
		TEST(unlinks_open_files),
		TEST(foreign_version_at_lookup),
		TEST(foreign_version_at_open),
		TEST(foreign_version_at_getattr),
		TEST(own_versions),
		TEST(failed_release),
		cmocka_unit_test(stores_the_rest),
		TEST(truncates_only_the_view),
		TEST(drops_privs),
		TEST(removed_elsewhere),
		TEST(refuses_names),
		TEST(refuses_long_paths),
		TEST(lists),
		TEST(touches_parents),
		TEST(leaves_handles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
