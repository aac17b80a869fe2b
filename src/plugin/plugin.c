/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "plugin/plugin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "plugin/request.h"

#define MOUNT_LIMIT_S 600.0 /* the program has bounds of its own, which are shorter */
#define SUFFIX ".json"

struct entry {
	LIST_ENTRY(entry) link;
	struct s3c_plugin_volume *volume; /* changed by who holds it, under the lock */
	char *mountpoint;
	bool busy;         /* held by a call; guarded by the lock */
	struct s3c_op *op; /* what the holder waits with; guarded by the lock */
};

struct s3c_plugin {
	struct s3c_plugin_config config;
	char *volumes_dir, *mounts_dir;
	int lock_fd;
	struct s3c_mutex lock; /* guards what follows; not held across a wait or the disk */
	LIST_HEAD(, entry) entries;
	struct s3c_waitq released;
	bool stopping;
};

static void entry_free(struct entry *entry)
{
	if (!entry)
		return;
	s3c_plugin_volume_free(entry->volume);
	free(entry->mountpoint);
	free(entry);
}

/* Takes the volume over, also on failure. */
static int entry_new(struct s3c_plugin *plugin, struct s3c_plugin_volume *volume,
		     struct entry **ret_entry)
{
	struct entry *entry = calloc(1, sizeof(*entry));

	if (!entry) {
		s3c_plugin_volume_free(volume);
		return -ENOMEM;
	}
	entry->volume = volume;
	entry->mountpoint = s3c_asprintf("%s/%s", plugin->mounts_dir, volume->name);
	if (!entry->mountpoint) {
		entry_free(entry);
		return -ENOMEM;
	}
	*ret_entry = entry;
	return 0;
}

static struct entry *find_locked(struct s3c_plugin *plugin, const char *name)
{
	struct entry *entry;

	s3c_mutex_assert_held(&plugin->lock);
	LIST_FOREACH (entry, &plugin->entries, link)
		if (!strcmp(entry->volume->name, name))
			return entry;
	return NULL;
}

static int no_such(const char *name, struct s3c_err *err)
{
	return s3c_err_set(err, -ENODATA, "there is no volume %s: create it first", name);
}

/* Nobody else changes it until it is let go. */
static int hold(struct s3c_plugin *plugin, const char *name, struct s3c_err *err,
		struct entry **ret_entry)
{
	struct entry *entry;
	int r = 0;

	s3c_mutex_lock(&plugin->lock);
	for (;;) {
		entry = find_locked(plugin, name);
		if (plugin->stopping)
			r = s3c_err_set(err, -ECANCELED, "the plugin is being stopped");
		else if (!entry)
			r = no_such(name, err);
		if (r < 0 || !entry->busy)
			break;
		(void)s3c_waitq_wait(&plugin->released, &plugin->lock, NULL);
	}
	if (r == 0)
		entry->busy = true;
	s3c_mutex_unlock(&plugin->lock);
	if (r == 0)
		*ret_entry = entry;
	return r;
}

static void let_go(struct s3c_plugin *plugin, struct entry *entry)
{
	s3c_mutex_lock(&plugin->lock);
	entry->busy = false;
	s3c_waitq_wake_all(&plugin->released);
	s3c_mutex_unlock(&plugin->lock);
}

/* The waiting of the holder, which a stop of the plugin ends. */
static void op_begin(struct s3c_plugin *plugin, struct entry *entry, struct s3c_op *op,
		     double limit_s)
{
	bool stopping;

	s3c_op_init(op, limit_s > 0 ? s3c_deadline_after(limit_s) : INT64_MAX);
	s3c_mutex_lock(&plugin->lock);
	entry->op = op;
	stopping = plugin->stopping;
	s3c_mutex_unlock(&plugin->lock);
	if (stopping)
		s3c_op_interrupt(op);
}

static void op_end(struct s3c_plugin *plugin, struct entry *entry, struct s3c_op *op)
{
	s3c_mutex_lock(&plugin->lock);
	entry->op = NULL;
	s3c_mutex_unlock(&plugin->lock);
	s3c_op_destroy(op);
}

static int take_off(struct s3c_plugin *plugin, struct entry *entry, bool lazy, struct s3c_err *err)
{
	struct s3c_err said = { 0 };
	struct s3c_op op;
	int r;

	op_begin(plugin, entry, &op, lazy ? MOUNT_LIMIT_S : plugin->config.wait_s);
	r = plugin->config.mounter->unmount(plugin->config.program, entry->mountpoint, lazy, &op,
					    &said);
	op_end(plugin, entry, &op);
	if ((r == -ETIMEDOUT || r == -EINTR) && !lazy)
		return s3c_err_set(err, r,
				   "volume %s still sends what the store does not have: it goes on "
				   "by itself, and the next mount of it waits for the end",
				   entry->volume->name);
	return r < 0 ? s3c_err_set(err, r, "volume %s cannot be unmounted: %s", entry->volume->name,
				   s3c_err_text(&said, r))
		     : 0;
}

/* What died is taken away; what is there is used; else it is mounted. Held. */
static int bring_up(struct s3c_plugin *plugin, struct entry *entry, struct s3c_err *err)
{
	cleanup_free char *config = NULL;
	struct s3c_err said = { 0 };
	enum s3c_place place = plugin->config.mounter->look(entry->mountpoint);
	struct s3c_op op;
	int r = 0;

	while (r == 0 && place == S3C_PLACE_DEAD) {
		s3c_warn("the process of volume %s has died: it is mounted again",
			 entry->volume->name);
		r = take_off(plugin, entry, true, err);
		place = plugin->config.mounter->look(entry->mountpoint);
	}
	if (r < 0 || place == S3C_PLACE_ALIVE)
		return r;
	r = s3c_plugin_volume_write_config(plugin->volumes_dir, entry->volume, err, &config);
	if (r < 0)
		return r;
	op_begin(plugin, entry, &op, MOUNT_LIMIT_S);
	r = plugin->config.mounter->mount(plugin->config.program, entry->volume, config,
					  entry->mountpoint, &op, &said);
	op_end(plugin, entry, &op);
	return r < 0 ? s3c_err_set(err, r, "volume %s cannot be mounted: %s", entry->volume->name,
				   s3c_err_text(&said, r))
		     : 0;
}

static int bring_down(struct s3c_plugin *plugin, struct entry *entry, struct s3c_err *err)
{
	enum s3c_place place = plugin->config.mounter->look(entry->mountpoint);

	if (place == S3C_PLACE_FREE)
		return 0;
	return take_off(plugin, entry, place == S3C_PLACE_DEAD, err);
}

/* In memory and on the disk, or in neither. Held. */
static int change_user(struct s3c_plugin *plugin, struct entry *entry, const char *id, bool add,
		       struct s3c_err *err)
{
	int r = 0;

	if (s3c_plugin_volume_has_user(entry->volume, id) == add)
		return 0;
	s3c_mutex_lock(&plugin->lock);
	if (add)
		r = s3c_plugin_volume_add_user(entry->volume, id);
	else
		s3c_plugin_volume_drop_user(entry->volume, id);
	s3c_mutex_unlock(&plugin->lock);
	if (r == 0)
		r = s3c_plugin_volume_save(plugin->volumes_dir, entry->volume, err);
	if (r == 0)
		return 0;
	s3c_mutex_lock(&plugin->lock);
	if (add)
		s3c_plugin_volume_drop_user(entry->volume, id);
	else
		(void)s3c_plugin_volume_add_user(entry->volume, id);
	s3c_mutex_unlock(&plugin->lock);
	return r;
}

static int answer_activate(struct s3c_plugin *plugin, const struct s3c_plugin_request *request,
			   const struct s3c_plugin_client *client, struct s3c_err *err,
			   json_t **ret_answer)
{
	(void)plugin, (void)request, (void)client, (void)err;
	*ret_answer = json_pack("{s:[s]}", "Implements", "VolumeDriver");
	return 0;
}

static int answer_capabilities(struct s3c_plugin *plugin, const struct s3c_plugin_request *request,
			       const struct s3c_plugin_client *client, struct s3c_err *err,
			       json_t **ret_answer)
{
	(void)plugin, (void)request, (void)client, (void)err;
	*ret_answer = json_pack("{s:{s:s}}", "Capabilities", "Scope", "local");
	return 0;
}

/* A volume as Get and List tell it. */
static json_t *describe_locked(struct s3c_plugin *plugin, const struct entry *entry)
{
	bool mounted = plugin->config.mounter->is_mounted(entry->mountpoint);
	const struct s3c_plugin_volume *volume = entry->volume;
	time_t created = (time_t)volume->created_s;
	struct tm tm = { 0 };
	char when[32];

	if (!gmtime_r(&created, &tm) || !strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm))
		return NULL;
	return json_pack("{s:s, s:s, s:s, s:{s:s, s:b, s:I}}", "Name", volume->name, "Mountpoint",
			 mounted ? entry->mountpoint : "", "CreatedAt", when, "Status", "source",
			 volume->source, "mounted", mounted, "users",
			 (json_int_t)s3c_plugin_volume_users(volume));
}

static int answer_list(struct s3c_plugin *plugin, const struct s3c_plugin_request *request,
		       const struct s3c_plugin_client *client, struct s3c_err *err,
		       json_t **ret_answer)
{
	json_t *volumes = json_array();
	struct entry *entry;
	int r = volumes ? 0 : -ENOMEM;

	(void)request, (void)client, (void)err;
	s3c_mutex_lock(&plugin->lock);
	LIST_FOREACH (entry, &plugin->entries, link)
		if (r == 0 && json_array_append_new(volumes, describe_locked(plugin, entry)) < 0)
			r = -ENOMEM;
	s3c_mutex_unlock(&plugin->lock);
	if (r < 0) {
		json_decref(volumes);
		return r;
	}
	*ret_answer = json_pack("{s:o, s:s}", "Volumes", volumes, "Err", "");
	return 0;
}

static int answer_get(struct s3c_plugin *plugin, const struct s3c_plugin_request *request,
		      const struct s3c_plugin_client *client, struct s3c_err *err,
		      json_t **ret_answer)
{
	json_t *volume = NULL;
	struct entry *entry;

	(void)client;
	s3c_mutex_lock(&plugin->lock);
	entry = find_locked(plugin, request->name);
	if (entry)
		volume = describe_locked(plugin, entry);
	s3c_mutex_unlock(&plugin->lock);
	if (!entry)
		return no_such(request->name, err);
	if (request->verb == S3C_PLUGIN_PATH && volume)
		*ret_answer = json_pack("{s:O, s:s}", "Mountpoint",
					json_object_get(volume, "Mountpoint"), "Err", "");
	else if (volume)
		*ret_answer = json_pack("{s:O, s:s}", "Volume", volume, "Err", "");
	json_decref(volume);
	return 0;
}

static int answer_create(struct s3c_plugin *plugin, const struct s3c_plugin_request *request,
			 const struct s3c_plugin_client *client, struct s3c_err *err,
			 json_t **ret_answer)
{
	struct s3c_plugin_volume *volume = NULL;
	struct entry *entry = NULL, *there;
	bool same = false;
	int r = s3c_plugin_volume_new(request->name, request->options, err, &volume);

	(void)client, (void)ret_answer;
	if (r == 0)
		r = entry_new(plugin, volume, &entry);
	if (r < 0)
		return r;
	entry->busy = true; /* until it is on the disk */
	s3c_mutex_lock(&plugin->lock);
	there = find_locked(plugin, request->name);
	if (there)
		same = s3c_plugin_volume_is_same(there->volume, entry->volume);
	else
		LIST_INSERT_HEAD(&plugin->entries, entry, link);
	s3c_mutex_unlock(&plugin->lock);
	if (there) {
		entry_free(entry);
		return same ? 0
			    : s3c_err_set(err, -EEXIST,
					  "volume %s exists with another source or other options: "
					  "remove it first, or take another name",
					  request->name);
	}
	if (s3c_plugin_volume_exists(plugin->volumes_dir, request->name))
		r = s3c_err_set(err, -EEXIST,
				"volume %s has a file in %s that could not be read: correct it, or "
				"take it away, and start the plugin again",
				request->name, plugin->volumes_dir);
	if (r == 0)
		r = s3c_plugin_volume_save(plugin->volumes_dir, entry->volume, err);
	if (r == 0) {
		let_go(plugin, entry);
		s3c_info("volume %s is made, of %s", request->name, entry->volume->source);
		return 0;
	}
	s3c_mutex_lock(&plugin->lock);
	LIST_REMOVE(entry, link);
	s3c_waitq_wake_all(&plugin->released);
	s3c_mutex_unlock(&plugin->lock);
	entry_free(entry);
	return r;
}

static int answer_remove(struct s3c_plugin *plugin, const struct s3c_plugin_request *request,
			 const struct s3c_plugin_client *client, struct s3c_err *err,
			 json_t **ret_answer)
{
	struct entry *entry;
	int r = hold(plugin, request->name, err, &entry);

	(void)client, (void)ret_answer;
	if (r < 0)
		return r;
	if (s3c_plugin_volume_users(entry->volume))
		r = s3c_err_set(err, -EBUSY,
				"volume %s is in use by %zu: stop and remove those containers "
				"first",
				request->name, s3c_plugin_volume_users(entry->volume));
	if (r == 0)
		r = bring_down(plugin, entry, err);
	if (r == 0)
		r = s3c_plugin_volume_erase(plugin->volumes_dir, request->name, err);
	if (r < 0) {
		let_go(plugin, entry);
		return r;
	}
	(void)rmdir(entry->mountpoint);
	s3c_mutex_lock(&plugin->lock);
	LIST_REMOVE(entry, link);
	s3c_waitq_wake_all(&plugin->released);
	s3c_mutex_unlock(&plugin->lock);
	entry_free(entry);
	s3c_info("volume %s is removed; what it holds stays in the store", request->name);
	return 0;
}

static int answer_mount(struct s3c_plugin *plugin, const struct s3c_plugin_request *request,
			const struct s3c_plugin_client *client, struct s3c_err *err,
			json_t **ret_answer)
{
	struct entry *entry;
	int r = hold(plugin, request->name, err, &entry);

	if (r < 0)
		return r;
	r = bring_up(plugin, entry, err);
	if (r == 0 && client && client->gone(client->arg))
		r = s3c_err_set(err, -EPIPE,
				"who asked for volume %s has not waited for it: give the client a "
				"longer timeout",
				request->name);
	if (r == 0)
		r = change_user(plugin, entry, request->id, true, err);
	if (r == 0)
		*ret_answer = json_pack("{s:s, s:s}", "Mountpoint", entry->mountpoint, "Err", "");
	else if (!s3c_plugin_volume_users(entry->volume))
		(void)bring_down(plugin, entry, NULL);
	let_go(plugin, entry);
	return r;
}

static int answer_unmount(struct s3c_plugin *plugin, const struct s3c_plugin_request *request,
			  const struct s3c_plugin_client *client, struct s3c_err *err,
			  json_t **ret_answer)
{
	struct entry *entry;
	int r = hold(plugin, request->name, err, &entry);

	(void)client, (void)ret_answer;
	if (r < 0)
		return r;
	/* One that is not known was unmounted by a call whose answer was lost. */
	r = change_user(plugin, entry, request->id, false, err);
	if (r == 0 && !s3c_plugin_volume_users(entry->volume))
		r = bring_down(plugin, entry, err);
	let_go(plugin, entry);
	return r;
}

static int (*const answers[S3C_PLUGIN_VERBS])(struct s3c_plugin *plugin,
					      const struct s3c_plugin_request *request,
					      const struct s3c_plugin_client *client,
					      struct s3c_err *err, json_t **ret_answer) = {
	[S3C_PLUGIN_ACTIVATE] = answer_activate, [S3C_PLUGIN_CAPABILITIES] = answer_capabilities,
	[S3C_PLUGIN_LIST] = answer_list,         [S3C_PLUGIN_GET] = answer_get,
	[S3C_PLUGIN_PATH] = answer_get,          [S3C_PLUGIN_CREATE] = answer_create,
	[S3C_PLUGIN_REMOVE] = answer_remove,     [S3C_PLUGIN_MOUNT] = answer_mount,
	[S3C_PLUGIN_UNMOUNT] = answer_unmount,
};

/* What a program said may be no UTF-8, which JSON has to be. */
static json_t *error_answer(const char *text)
{
	cleanup_free char *copy = strdup(text);
	json_t *string = json_string(text);

	if (!string && copy) {
		for (char *p = copy; *p; p++)
			if ((unsigned char)*p >= 0x80)
				*p = '?';
		string = json_string(copy);
	}
	return string ? json_pack("{s:o}", "Err", string) : NULL;
}

int s3c_plugin_answer(struct s3c_plugin *plugin, const char *path, const char *body, size_t len,
		      const struct s3c_plugin_client *client, json_t **ret_answer)
{
	cleanup_plugin_request struct s3c_plugin_request request = { 0 };
	struct s3c_err err = { 0 };
	json_t *answer = NULL;
	int r = s3c_plugin_request_parse(path, body, len, &err, &request);

	if (r == 0) {
		s3c_debug("%s %s %s", request.verb_name, request.name ? request.name : "",
			  request.id ? request.id : "");
		r = answers[request.verb](plugin, &request, client, &err, &answer);
		/* Docker asks for what there may not be: that is no event. */
		if (r < 0)
			s3c_log(request.verb == S3C_PLUGIN_GET ? S3C_LOG_DEBUG : S3C_LOG_WARN,
				"%s: %s", request.verb_name, s3c_err_text(&err, r));
	} else {
		s3c_warn("a request was refused: %s", s3c_err_text(&err, r));
	}
	if (r == 0 && !answer)
		answer = json_pack("{s:s}", "Err", "");
	else if (r < 0)
		answer = error_answer(s3c_err_text(&err, r));
	if (!answer)
		return -ENOMEM;
	*ret_answer = answer;
	return r;
}

static int make_dir(const char *path, struct s3c_err *err)
{
	cleanup_free char *part = strdup(path);

	if (!part)
		return -ENOMEM;
	for (char *p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		(void)mkdir(part, 0755); /* what is wrong shows at the last one */
		*p = '/';
	}
	if (mkdir(part, 0700) < 0 && errno != EEXIST)
		return s3c_err_set(err, -errno, "%s cannot be made: %s", path, strerror(errno));
	return 0;
}

static int take_lock(struct s3c_plugin *plugin, struct s3c_err *err)
{
	cleanup_free char *path = s3c_asprintf("%s/lock", plugin->config.state_dir);

	if (!path)
		return -ENOMEM;
	plugin->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (plugin->lock_fd < 0)
		return s3c_err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (flock(plugin->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return s3c_err_set(err, -EBUSY,
				   "another volume plugin runs on %s: end it, or give this one its "
				   "own --state",
				   plugin->config.state_dir);
	return 0;
}

static int load_volumes(struct s3c_plugin *plugin, struct s3c_err *err)
{
	DIR *dir = opendir(plugin->volumes_dir);
	struct dirent *file;
	int r = 0;

	if (!dir)
		return s3c_err_set(err, -errno, "%s cannot be read: %s", plugin->volumes_dir,
				   strerror(errno));
	while (r == 0 && (file = readdir(dir))) {
		size_t len = strlen(file->d_name);
		struct s3c_plugin_volume *volume;
		struct s3c_err said = { 0 };
		struct entry *entry;

		if (len <= strlen(SUFFIX) || strcmp(file->d_name + len - strlen(SUFFIX), SUFFIX))
			continue;
		file->d_name[len - strlen(SUFFIX)] = '\0';
		if (!s3c_plugin_name_is_good(file->d_name))
			continue;
		r = s3c_plugin_volume_load(plugin->volumes_dir, file->d_name, &said, &volume);
		if (r == 0)
			r = entry_new(plugin, volume, &entry);
		if (r == 0)
			LIST_INSERT_HEAD(&plugin->entries, entry, link);
		else if (r != -ENOMEM) { /* the others are served */
			s3c_error("%s", s3c_err_text(&said, r));
			r = 0;
		}
	}
	closedir(dir);
	return r;
}

int s3c_plugin_open(const struct s3c_plugin_config *config, struct s3c_err *err,
		    struct s3c_plugin **ret_plugin)
{
	struct s3c_plugin *plugin = calloc(1, sizeof(*plugin));
	int r;

	if (!plugin)
		return -ENOMEM;
	plugin->config = *config;
	plugin->lock_fd = -1;
	LIST_INIT(&plugin->entries);
	s3c_mutex_init(&plugin->lock);
	s3c_waitq_init(&plugin->released);
	plugin->volumes_dir = s3c_asprintf("%s/volumes", config->state_dir);
	plugin->mounts_dir = s3c_asprintf("%s/mounts", config->state_dir);
	r = plugin->volumes_dir && plugin->mounts_dir ? 0 : -ENOMEM;
	if (r == 0)
		r = make_dir(config->state_dir, err);
	if (r == 0)
		r = take_lock(plugin, err);
	if (r == 0)
		r = make_dir(plugin->volumes_dir, err);
	if (r == 0)
		r = make_dir(plugin->mounts_dir, err);
	if (r == 0)
		r = load_volumes(plugin, err);
	if (r < 0) {
		s3c_plugin_close(plugin);
		return r;
	}
	*ret_plugin = plugin;
	return 0;
}

/* The names of all volumes: NULL-terminated, each owned; NULL: no memory. */
static char **all_names(struct s3c_plugin *plugin)
{
	struct entry *entry;
	size_t n = 0;
	char **names;

	s3c_mutex_lock(&plugin->lock);
	LIST_FOREACH (entry, &plugin->entries, link)
		n++;
	names = calloc(n + 1, sizeof(*names));
	n = 0;
	if (names)
		LIST_FOREACH (entry, &plugin->entries, link) {
			names[n] = strdup(entry->volume->name);
			n += names[n] != NULL;
		}
	s3c_mutex_unlock(&plugin->lock);
	return names;
}

void s3c_plugin_reconcile(struct s3c_plugin *plugin)
{
	char **names = all_names(plugin);

	for (char **name = names; name && *name; name++) {
		struct s3c_err err = { 0 };
		struct entry *entry;
		int r = hold(plugin, *name, NULL, &entry);

		if (r == 0) {
			r = s3c_plugin_volume_users(entry->volume)
				    ? bring_up(plugin, entry, &err)
				    : bring_down(plugin, entry, &err);
			if (r < 0)
				s3c_error("%s", s3c_err_text(&err, r));
			let_go(plugin, entry);
		}
		free(*name);
	}
	free(names);
}

void s3c_plugin_stop(struct s3c_plugin *plugin)
{
	struct entry *entry;

	s3c_mutex_lock(&plugin->lock);
	plugin->stopping = true;
	LIST_FOREACH (entry, &plugin->entries, link)
		if (entry->op)
			s3c_op_interrupt(entry->op);
	s3c_waitq_wake_all(&plugin->released);
	s3c_mutex_unlock(&plugin->lock);
}

void s3c_plugin_close(struct s3c_plugin *plugin)
{
	struct entry *entry;

	if (!plugin)
		return;
	while ((entry = LIST_FIRST(&plugin->entries))) {
		LIST_REMOVE(entry, link);
		entry_free(entry);
	}
	if (plugin->lock_fd >= 0)
		close(plugin->lock_fd);
	s3c_mutex_destroy(&plugin->lock);
	free(plugin->volumes_dir);
	free(plugin->mounts_dir);
	free(plugin);
}
