/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/options_table.h"

#include "cli/options.h"
#include "db/cache.h"

#define AT(member) .offset = offsetof(struct s3c_options, member)
#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)

static const struct s3c_choice enc_choices[] = {
	{ "cse-key", S3C_ENC_CSE_KEY, false },   { "cse-kms", S3C_ENC_CSE_KMS, false },
	{ "sse-c", S3C_ENC_SSE_C, false },       { "sse-kms", S3C_ENC_SSE_KMS, false },
	{ "dsse-kms", S3C_ENC_DSSE_KMS, false }, { "sse-s3", S3C_ENC_SSE_S3, false },
	{ "none", S3C_ENC_NONE, false },         { 0 },
};
static const struct s3c_choice accept_choices[] = {
	{ "sealed", S3C_ACCEPT_SEALED, false },
	{ "plain", S3C_ACCEPT_PLAIN, false },
	{ "s3ec", S3C_ACCEPT_S3EC, false },
	{ "s3ec-v1", S3C_ACCEPT_S3EC_V1, false },
	{ 0 },
};
static const struct s3c_choice format_choices[] = {
	{ "chunked", S3C_FORMAT_CHUNKED, false },
	{ "s3ec-v2", S3C_FORMAT_S3EC_V2, false },
	{ "s3ec-v3", S3C_FORMAT_S3EC_V3, false },
	{ 0 },
};
static const struct s3c_choice names_choices[] = {
	{ "plain", 0, false },
	{ "encrypted", 1, false },
	{ 0 },
};
static const struct s3c_choice rollback_choices[] = {
	{ "log", 0, false },
	{ "deny", 1, false },
	{ 0 },
};
static const struct s3c_choice ssec_key_choices[] = {
	{ "per-object", 0, false },
	{ "shared", 1, false },
	{ 0 },
};
static const struct s3c_choice bucket_key_choices[] = {
	{ "off", 0, false },
	{ "on", 1, false },
	{ 0 },
};
static const struct s3c_choice addressing_choices[] = {
	{ "auto", S3C_ADDRESSING_AUTO, false },
	{ "path", S3C_ADDRESSING_PATH, false },
	{ "virtual", S3C_ADDRESSING_VIRTUAL, false },
	{ 0 },
};
static const struct s3c_choice checksum_choices[] = {
	{ "auto", S3C_CHECKSUM_AUTO, false },
	{ "crc32c", S3C_CHECKSUM_CRC32C, false },
	{ "crc64nvme", S3C_CHECKSUM_CRC64NVME, false },
	{ "off", S3C_CHECKSUM_OFF, false },
	{ 0 },
};
static const struct s3c_choice consistency_choices[] = {
	{ "ttl", 0, false },
	{ "open", 1, false },
	{ 0 },
};
static const struct s3c_choice commit_choices[] = {
	{ "close", 0, false },
	{ "fsync", 1, false },
	{ 0 },
};
static const struct s3c_choice cache_key_choices[] = {
	{ "wrapped", S3C_CACHE_KEY_WRAPPED, false },
	{ "file", S3C_CACHE_KEY_FILE, false },
	{ "ephemeral", S3C_CACHE_KEY_EPHEMERAL, false },
	{ 0 },
};
static const struct s3c_choice excl_choices[] = {
	{ "close", 0, false },
	{ "open", 1, false },
	{ 0 },
};
static const struct s3c_choice hardlinks_choices[] = {
	{ "off", 0, false },
	{ "on", 1, false },
	{ 0 },
};
static const struct s3c_choice log_level_choices[] = {
	{ "error", S3C_LOG_ERROR, false },
	{ "warn", S3C_LOG_WARN, false },
	{ "info", S3C_LOG_INFO, false },
	{ "debug", S3C_LOG_DEBUG, false },
	{ 0 },
};

const char *const s3c_option_group_titles[] = {
	[S3C_GROUP_ENCRYPTION] = "Encryption:",
	[S3C_GROUP_STORE] = "Store:",
	[S3C_GROUP_LOCAL] = "Local state:",
	[S3C_GROUP_BEHAVIOUR] = "Behaviour:",
	[S3C_GROUP_GENERIC] = "Generic mount options:",
};

#define IGNORED(option_name, text)                                                                 \
	{                                                                                          \
		.name = (option_name), .group = S3C_GROUP_GENERIC, .kind = S3C_OPTION_IGNORED,     \
		.help = (text),                                                                    \
	}
#define FUSE_FLAG(option_name, text)                                                               \
	{                                                                                          \
		.name = (option_name), .group = S3C_GROUP_GENERIC, .kind = S3C_OPTION_FUSE_FLAG,   \
		.help = (text),                                                                    \
	}
const struct s3c_option s3c_option_table[] = {
	{ "enc", S3C_GROUP_ENCRYPTION, S3C_OPTION_CHOICE, AT(enc), .metavar = "MODE",
	  .help = "who encrypts: cse-key (this program, under a key of the keyring), cse-kms (this "
		  "program, under a KMS key), sse-c (the store, with our key), sse-kms, dsse-kms "
		  "(the store, once or twice, under a KMS key), sse-s3 (the store, under a key of "
		  "its own), none",
	  .preset = "cse-key", .choices = enc_choices },
	{ "accept", S3C_GROUP_ENCRYPTION, S3C_OPTION_SET, AT(accept), .metavar = "LIST",
	  .help = "which objects are read, joined by ':': sealed, plain, s3ec (of the Amazon S3 "
		  "Encryption Client), s3ec-v1 (its legacy formats; with ro)",
	  .shown = "sealed for cse-key and cse-kms; for sse-c what is under a customer key; else "
		   "plain",
	  .choices = accept_choices },
	{ "format", S3C_GROUP_ENCRYPTION, S3C_OPTION_CHOICE, AT(format),
	  .metavar = "chunked|s3ec-v2|s3ec-v3",
	  .help = "format of what is written: chunked, or what the Amazon S3 Encryption Client "
		  "reads",
	  .preset = "chunked", .choices = format_choices },
	{ "names", S3C_GROUP_ENCRYPTION, S3C_OPTION_BOOL_CHOICE, AT(names_encrypted),
	  .metavar = "plain|encrypted",
	  .help = "names of files in the store, chosen when the volume is made: as they are, or "
		  "encrypted",
	  .preset = "plain", .choices = names_choices },
	{ "rollback", S3C_GROUP_ENCRYPTION, S3C_OPTION_BOOL_CHOICE, AT(rollback_deny),
	  .metavar = "log|deny", .help = "what to do with an older version than was seen before",
	  .preset = "log", .choices = rollback_choices },
	{ "volume_id", S3C_GROUP_ENCRYPTION, S3C_OPTION_VOLUME_ID, .metavar = "HEX",
	  .help = "mount only the volume with this id", .shown = "the one seen first" },
	{ "keyring", S3C_GROUP_ENCRYPTION, S3C_OPTION_PLACE, AT(keyring), .metavar = "FILE",
	  .help = "the keyring: a file that only its owner may read, kernel:DESCRIPTION (a key of "
		  "the kernel's keyrings), or credential:NAME (systemd's)",
	  .shown = "credential:s3cryptfs.keyring when there is one; else /etc/s3cryptfs/keyring, "
		   "for users ~/.config/s3cryptfs/keyring" },
	{ "key_command", S3C_GROUP_ENCRYPTION, S3C_OPTION_TEXT, AT(key_command),
	  .metavar = "COMMAND", .help = "a program that prints the keyring; no shell is used" },
	{ "passphrase_file", S3C_GROUP_ENCRYPTION, S3C_OPTION_PLACE, AT(passphrase_file),
	  .metavar = "FILE",
	  .help = "a file that only its owner may read, or fd:N, whose first line is the "
		  "passphrase of a protected keyring",
	  .shown = "asked for on the terminal" },
	{ "ssec_key", S3C_GROUP_ENCRYPTION, S3C_OPTION_BOOL_CHOICE, AT(ssec_shared),
	  .metavar = "per-object|shared",
	  .help = "sse-c: a key derived for each object, or the key marked use = sse-c as it is",
	  .preset = "per-object", .choices = ssec_key_choices },
	{ "kms_key_id", S3C_GROUP_ENCRYPTION, S3C_OPTION_TEXT, AT(kms_key_id), .metavar = "ID",
	  .help = "KMS key that encrypts: its id, ARN or alias",
	  .shown = "for sse-kms and dsse-kms the account's aws/s3" },
	{ "kms_endpoint", S3C_GROUP_ENCRYPTION, S3C_OPTION_TEXT, AT(kms_endpoint), .metavar = "URL",
	  .help = "URL of the KMS",
	  .shown = "AWS_ENDPOINT_URL_KMS, AWS_ENDPOINT_URL, the profile, or AWS" },
	{ "kms_context", S3C_GROUP_ENCRYPTION, S3C_OPTION_TEXT, AT(kms_context), .metavar = "PAIRS",
	  .help = "encryption context for the KMS key: NAME=VALUE;NAME=VALUE" },
	{ "kms_reuse", S3C_GROUP_ENCRYPTION, S3C_OPTION_UNSIGNED, AT(kms_reuse), .metavar = "N",
	  .help = "cse-kms: objects that share a key of the KMS; 0: each has its own",
	  .preset = "0", .max = 1000000 },
	{ "kms_read_keys", S3C_GROUP_ENCRYPTION, S3C_OPTION_TEXT, AT(kms_read_keys),
	  .metavar = "KEYS", .help = "further KMS keys that may decrypt, joined by ';'" },
	{ "kms_cache", S3C_GROUP_ENCRYPTION, S3C_OPTION_UNSIGNED, AT(kms_cache),
	  .metavar = "SECONDS", .help = "how long unwrapped keys are kept in memory",
	  .preset = "300", .max = 86400 },
	{ "bucket_key", S3C_GROUP_ENCRYPTION, S3C_OPTION_BOOL_CHOICE, AT(bucket_key),
	  .metavar = "on|off", .help = "sse-kms: have S3 use the KMS key once for many objects",
	  .preset = "off", .choices = bucket_key_choices },

	{ "endpoint", S3C_GROUP_STORE, S3C_OPTION_TEXT, AT(endpoint), .metavar = "URL",
	  .help = "URL of the S3 service", .shown = "AWS_ENDPOINT_URL_S3, the profile, or AWS" },
	{ "region", S3C_GROUP_STORE, S3C_OPTION_TEXT, AT(region), .metavar = "NAME",
	  .help = "region of the bucket", .shown = "AWS_REGION, the profile, or asked for" },
	{ "addressing", S3C_GROUP_STORE, S3C_OPTION_CHOICE, AT(addressing),
	  .metavar = "auto|path|virtual", .help = "bucket in the path or in the host name",
	  .preset = "auto", .choices = addressing_choices },
	{ "ca_file", S3C_GROUP_STORE, S3C_OPTION_PATH, AT(ca_file), .metavar = "FILE",
	  .help = "certificates (PEM) to trust for the endpoint", .shown = "the system's" },
	{ "allow_http", S3C_GROUP_STORE, S3C_OPTION_FLAG, AT(allow_http),
	  .help = "allow a plain HTTP endpoint (never for sse-c)" },
	{ "profile", S3C_GROUP_STORE, S3C_OPTION_TEXT, AT(profile), .metavar = "NAME",
	  .help = "profile of the AWS configuration files", .shown = "AWS_PROFILE, or default" },
	{ "requester_pays", S3C_GROUP_STORE, S3C_OPTION_FLAG, AT(requester_pays),
	  .help = "agree to pay for the requests" },
	{ "storage_class", S3C_GROUP_STORE, S3C_OPTION_TEXT, AT(storage_class), .metavar = "CLASS",
	  .help = "storage class of what is written", .shown = "the bucket's" },
	{ "checksum", S3C_GROUP_STORE, S3C_OPTION_CHOICE, AT(checksum),
	  .metavar = "auto|crc32c|crc64nvme|off", .help = "checksum sent with bodies",
	  .preset = "auto", .choices = checksum_choices },

	{ "cache_dir", S3C_GROUP_LOCAL, S3C_OPTION_PATH, AT(cache_dir), .metavar = "DIR",
	  .help = "folder of the cache and the spill file",
	  .shown = "/var/cache/s3cryptfs/ID; for users $XDG_CACHE_HOME/s3cryptfs/ID" },
	{ "cache_size", S3C_GROUP_LOCAL, S3C_OPTION_SIZE, AT(cache_size), .metavar = "BYTES",
	  .help = "most that cache and spill file take", .preset = "10G", .min = 16 * MIB,
	  .max = UINT64_C(1) << 50 },
	{ "cache_key", S3C_GROUP_LOCAL, S3C_OPTION_CHOICE, AT(cache_key),
	  .metavar = "wrapped|file|ephemeral",
	  .help = "key of the cache: wrapped by the volume's key, in a file beside it, or in "
		  "memory "
		  "only",
	  .shown = "wrapped for cse-key and cse-kms, else file", .choices = cache_key_choices },
	{ "state_dir", S3C_GROUP_LOCAL, S3C_OPTION_PATH, AT(state_dir), .metavar = "DIR",
	  .help = "folder of the journal, the lock and the control socket",
	  .shown = "CACHE_DIR/state when cache_dir is given; else /var/lib/s3cryptfs/ID; for "
		   "users $XDG_STATE_HOME/s3cryptfs/ID" },
	{ "journal_size", S3C_GROUP_LOCAL, S3C_OPTION_SIZE, AT(journal_size), .metavar = "BYTES",
	  .help = "most that waits in the journal; then writers wait", .preset = "10G",
	  .min = 16 * MIB, .max = UINT64_C(1) << 50 },
	{ "memory", S3C_GROUP_LOCAL, S3C_OPTION_SIZE, AT(memory), .metavar = "BYTES",
	  .help = "buffers in memory, all together", .preset = "256M", .min = 64 * MIB,
	  .max = 1024 * GIB },

	{ "ttl", S3C_GROUP_BEHAVIOUR, S3C_OPTION_NUMBER, AT(ttl_s), .metavar = "SECONDS",
	  .help = "how long what is known of the store stays valid", .preset = "60",
	  .max = 10 * 365 * 86400 },
	{ "consistency", S3C_GROUP_BEHAVIOUR, S3C_OPTION_BOOL_CHOICE, AT(consistency_open),
	  .metavar = "ttl|open", .help = "open: ask the store at each open as well",
	  .preset = "ttl", .choices = consistency_choices },
	{ "commit", S3C_GROUP_BEHAVIOUR, S3C_OPTION_BOOL_CHOICE, AT(commit_fsync),
	  .metavar = "close|fsync",
	  .help = "what waits until the store has confirmed: close and fsync, or fsync alone",
	  .preset = "close", .choices = commit_choices },
	{ "writeback", S3C_GROUP_BEHAVIOUR, S3C_OPTION_FLAG, AT(writeback),
	  .help = "close, fsync and changes of names return when the local journal has them; the "
		  "store follows" },
	{ "excl", S3C_GROUP_BEHAVIOUR, S3C_OPTION_BOOL_CHOICE, AT(excl_open),
	  .metavar = "close|open",
	  .help = "when two machines that create one name with O_EXCL are told apart: at close, "
		  "or at open by an empty object",
	  .preset = "close", .choices = excl_choices },
	{ "hardlinks", S3C_GROUP_BEHAVIOUR, S3C_OPTION_BOOL_CHOICE, AT(hardlinks),
	  .metavar = "on|off",
	  .help = "files may get several names; off: link(2) answers EPERM. Those there are can be "
		  "used in any case",
	  .preset = "on", .choices = hardlinks_choices },
	{ "parallel", S3C_GROUP_BEHAVIOUR, S3C_OPTION_UNSIGNED, AT(parallel), .metavar = "N",
	  .help = "transfers of content at once", .preset = "32", .min = 1, .max = 1024 },
	{ "timeout", S3C_GROUP_BEHAVIOUR, S3C_OPTION_NUMBER, AT(timeout_s), .metavar = "SECONDS",
	  .help = "bound of a whole operation, retries included", .preset = "120", .min = 1,
	  .max = 86400 },
	{ "umount_timeout", S3C_GROUP_BEHAVIOUR, S3C_OPTION_NUMBER, AT(umount_timeout_s),
	  .metavar = "SECONDS",
	  .help = "most that an unmount waits for the store; 0: as long as something gets ahead, "
		  "and timeout after that",
	  .preset = "0", .max = 30 * 86400 },
	{ "retries", S3C_GROUP_BEHAVIOUR, S3C_OPTION_UNSIGNED, AT(retries), .metavar = "N",
	  .help = "repeats of one request",
	  .shown = "8; with writeback as many as timeout= has room for", .max = 100 },
	{ "log", S3C_GROUP_BEHAVIOUR, S3C_OPTION_LOG, AT(log), .metavar = "FILE|syslog|stderr",
	  .help = "where the log goes", .shown = "stderr with -f, else syslog" },
	{ "log_level", S3C_GROUP_BEHAVIOUR, S3C_OPTION_CHOICE, AT(log_level),
	  .metavar = "error|warn|info|debug", .help = "how much is logged", .preset = "info",
	  .choices = log_level_choices },
	{ "audit", S3C_GROUP_BEHAVIOUR, S3C_OPTION_PATH, AT(audit), .metavar = "FILE",
	  .help = "who did what, a JSON object a line" },
	{ "audit_rate", S3C_GROUP_BEHAVIOUR, S3C_OPTION_UNSIGNED, AT(audit_rate), .metavar = "N",
	  .help = "most lines a second in it; 0: no limit", .preset = "1000", .max = 1000000 },
	{ "metrics", S3C_GROUP_BEHAVIOUR, S3C_OPTION_TEXT, AT(metrics),
	  .metavar = "unix:PATH|[HOST:]PORT",
	  .help = "where /metrics is served in the format of OpenMetrics: a socket, or a port of a "
		  "loopback address" },
	{ "config", S3C_GROUP_BEHAVIOUR, S3C_OPTION_CONFIG, .metavar = "FILE",
	  .help = "further options, one a line" },
	{ "help", S3C_GROUP_BEHAVIOUR, S3C_OPTION_FLAG, AT(help), .help = "print this list" },

	{ "ro", S3C_GROUP_GENERIC, S3C_OPTION_FLAG, AT(read_only), .help = "read only" },
	{ "rw", S3C_GROUP_GENERIC, S3C_OPTION_READ_WRITE, .help = "read and write, the default" },
	{ "uid", S3C_GROUP_GENERIC, S3C_OPTION_UID, .metavar = "NUMBER",
	  .help = "owner of objects that name none", .shown = "who mounts" },
	{ "gid", S3C_GROUP_GENERIC, S3C_OPTION_GID, .metavar = "NUMBER",
	  .help = "group of objects that name none", .shown = "who mounts" },
	{ "umask", S3C_GROUP_GENERIC, S3C_OPTION_UMASK, .metavar = "OCTAL",
	  .help = "permission bits that objects without a mode do not have", .shown = "022" },
	FUSE_FLAG("nonempty", "mount over a folder that is not empty"),
	FUSE_FLAG("allow_other", "let other users in"),
	FUSE_FLAG("allow_root", "let root in"),
	IGNORED("default_permissions", "the kernel checks permissions; always on"),
	{ "max_read", S3C_GROUP_GENERIC, S3C_OPTION_FUSE_VALUE, .metavar = "BYTES",
	  .help = "largest read request of the kernel" },
	FUSE_FLAG("suid", "honour set-user-id bits"),
	FUSE_FLAG("nosuid", "do not"),
	FUSE_FLAG("dev", "honour device files"),
	FUSE_FLAG("nodev", "do not"),
	FUSE_FLAG("exec", "allow programs to be run"),
	FUSE_FLAG("noexec", "do not"),
	FUSE_FLAG("sync", "synchronous, as the kernel understands it"),
	FUSE_FLAG("async", "the default"),
	FUSE_FLAG("dirsync", "synchronous changes of directories"),
	{ "nosymfollow", S3C_GROUP_GENERIC, S3C_OPTION_FLAG, AT(nosymfollow),
	  .help = "do not follow symbolic links there; for root" },
	IGNORED("symfollow", "the default"),
	FUSE_FLAG("noatime", "reading does not change access times (it never does)"),
	FUSE_FLAG("nodiratime", "likewise for directories"),
	IGNORED("atime", "accepted; reading does not change access times"),
	IGNORED("diratime", "likewise"),
	IGNORED("relatime", "likewise"),
	IGNORED("norelatime", "likewise"),
	IGNORED("strictatime", "likewise"),
	IGNORED("nostrictatime", "likewise"),
	IGNORED("lazytime", "likewise"),
	IGNORED("nolazytime", "likewise"),
	IGNORED("iversion", "accepted"),
	IGNORED("noiversion", "likewise"),
	IGNORED("mand", "accepted; there are no mandatory locks"),
	IGNORED("nomand", "likewise"),
	{ "context", S3C_GROUP_GENERIC, S3C_OPTION_FUSE_VALUE, .metavar = "LABEL",
	  .help = "SELinux: label of all files" },
	{ "fscontext", S3C_GROUP_GENERIC, S3C_OPTION_FUSE_VALUE, .metavar = "LABEL",
	  .help = "SELinux: label of the filesystem" },
	{ "defcontext", S3C_GROUP_GENERIC, S3C_OPTION_FUSE_VALUE, .metavar = "LABEL",
	  .help = "SELinux: label of files without one" },
	{ "rootcontext", S3C_GROUP_GENERIC, S3C_OPTION_FUSE_VALUE, .metavar = "LABEL",
	  .help = "SELinux: label of the root" },
	IGNORED("auto", "for mount -a"),
	IGNORED("noauto", "not for mount -a"),
	IGNORED("_netdev", "needs the network, for mount and systemd"),
	IGNORED("nofail", "a failure does not stop the boot"),
	IGNORED("defaults", "nothing"),
	IGNORED("user", "users may mount it; for mount(8)"),
	IGNORED("users", "likewise"),
	IGNORED("nouser", "likewise"),
	IGNORED("nousers", "likewise"),
	IGNORED("owner", "likewise"),
	IGNORED("noowner", "likewise"),
	IGNORED("group", "likewise"),
	IGNORED("nogroup", "likewise"),
	IGNORED("comment", "a comment"),
	IGNORED("silent", "accepted"),
	IGNORED("loud", "accepted"),
	IGNORED("x-*", "comments and systemd's options"),
	IGNORED("X-*", "comments of users"),
	{ "remount", S3C_GROUP_GENERIC, S3C_OPTION_FLAG, AT(remount),
	  .help = "make a mount that is there ro or rw, or set nosuid, nodev, noexec and the "
		  "like" },
	IGNORED("rootmode", "what the kernel tells of a mount, for remount"),
	IGNORED("user_id", "likewise"),
	IGNORED("group_id", "likewise"),
	IGNORED("uhelper", "what mount(8) has noted about the mount, for remount"),
	{ 0 },
};
