# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Mounts by an ordinary user, with everything in its default place. They run in a mount namespace
with a user of their own and a /dev/fuse that is open to all; the machine stays as it is.
"""
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile

import pytest

from harness import CTL, PROGRAM, FileStore, Keyring, blob, find_bytes, run, wait_for

UID = 54321  # of nobody else: what this user wrote can be told by it
PREPARE = """
set -e
mount --make-rprivate /
mount --bind "$T/passwd" /etc/passwd
mount --bind "$T/fuse.conf" /etc/fuse.conf
mount --bind "$T/fuse" /dev/fuse
echo ready
exec sleep 3600
"""


class User:
    def __init__(self, folder):
        self.folder, self.home = folder, str(folder / "home")
        self.mnt, self.store = self.home + "/mnt", FileStore(self.home + "/store")
        (folder / "passwd").write_text(open("/etc/passwd").read() + "someone:x:%d:%d::%s:/bin/sh\n" % (UID, UID, self.home))
        (folder / "fuse.conf").write_text("#user_allow_other\n")
        try:
            os.mknod(folder / "fuse", 0o666 | stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
        except PermissionError:
            pytest.skip("no device files can be made here")
        os.chmod(folder / "fuse", 0o666)
        for path in (self.home, self.mnt, self.store.folder):
            os.mkdir(path, 0o700)
            os.chown(path, UID, UID)
        # The build may be where only root can go.
        self.program, self.ctl = (shutil.copy(p, folder) for p in (PROGRAM, CTL))
        self.holder = subprocess.Popen(["unshare", "-m", "sh", "-c", PREPARE], env=dict(os.environ, T=str(folder)),
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "ready\n":
            pytest.skip("no mount namespace here: " + self.holder.stderr.read())
        if self.run("sh", "-c", "exec 3<>/dev/fuse", check=False).returncode:
            self.finish()
            pytest.skip("device files do not work in " + str(folder))

    def as_root(self, *args, **kw):
        """Runs a program inside the namespace."""
        return run("nsenter", "-t", self.holder.pid, "-m", "--wd=/", *args, **kw)

    def run(self, *args, env=None, **kw):
        """The same as the user."""
        env = dict({"HOME": self.home, "PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}, **env or {})
        return self.as_root("setpriv", "--reuid=%d" % UID, "--regid=%d" % UID, "--clear-groups",
                            "env", "-i", *("%s=%s" % item for item in env.items()), *args, stdin=subprocess.DEVNULL, **kw)

    def mount(self, *args, **kw):
        return self.run(self.program, self.store.source, self.mnt, *args, **kw)

    def daemons(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink("/proc/%s/exe" % pid) == self.program:
                    found.append(int(pid))
            except OSError:
                pass
        return found

    def umount(self):
        self.run("fusermount3", "-u", self.mnt)
        wait_for(lambda: not self.daemons(), 20, "the end of the daemon")

    def written(self):
        """Files and folders of the user, wherever a user may write."""
        tops = [t for t in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/var/lock", "/var/cache", "/var/lib/s3cryptfs", "/etc") if os.path.isdir(t)]
        return run("find", *tops, "-xdev", "-uid", UID, "-newer", self.folder / "passwd", check=False).stdout.splitlines()

    def finish(self):
        self.as_root("fusermount3", "-u", "-z", self.mnt, check=False)
        self.holder.kill()
        self.holder.wait()
        wait_for(lambda: not self.daemons(), 20, "the end of the daemon")


# One user for all of them, whose files are looked for everywhere: one worker.
pytestmark = pytest.mark.xdist_group("user")


@pytest.fixture
def user():
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    fusermount = shutil.which("fusermount3")
    if not fusermount or not os.stat(fusermount).st_mode & stat.S_ISUID:
        pytest.skip("no fusermount3 with the set-user-id bit, which mounts for users")
    # Not in the folder of the test, which no other user may enter.
    with tempfile.TemporaryDirectory(prefix="s3cryptfs-user-") as folder:
        os.chmod(folder, 0o755)
        user = User(pathlib.Path(folder))
        yield user
        user.finish()


def new_key(user, **kw):
    user.run(user.ctl, "key", "new", "mine", **kw)
    return user.home + "/.config/s3cryptfs/keyring"


def test_defaults(user):
    """Keyring, state and cache below the home folder; nothing elsewhere; no one else can look in."""
    keyring = new_key(user)
    assert stat.S_IMODE(os.stat(keyring).st_mode) == 0o600 and os.stat(keyring).st_uid == UID
    marker = blob(3 << 20)
    for name, data in (("small", marker[:100]), ("large", marker * 5)):
        with open(user.home + "/" + name, "wb") as f:
            f.write(data)
    result = user.mount()
    assert (result.stdout, result.stderr) == ("", "")
    user.run("cp", "-r", user.home + "/small", user.home + "/large", user.mnt)
    user.run("mkdir", user.mnt + "/d")
    user.run("mv", user.mnt + "/small", user.mnt + "/d")
    user.run("cmp", user.home + "/large", user.mnt + "/large")
    assert user.run("stat", "-c", "%u %g", user.mnt + "/d/small").stdout == "%d %d\n" % (UID, UID)

    # Root is someone else.
    for command in (["ls", user.mnt], ["stat", user.mnt + "/d"], ["cat", user.mnt + "/large"]):
        result = user.as_root(*command, check=False, env=dict(os.environ, LC_ALL="C"))
        assert result.returncode != 0 and "Permission denied" in result.stderr, command
    assert "everything is in the store" in user.as_root(user.ctl, "status", user.mnt).stdout
    options = user.as_root("grep", " %s " % user.mnt, "/proc/self/mounts").stdout
    assert "nosuid" in options and "nodev" in options and "user_id=%d" % UID in options and "allow_other" not in options

    user.umount()
    # As by mount(8), which is set-user-id and hands on no environment.
    user.mount(env={"HOME": ""})
    user.run("cmp", user.home + "/large", user.mnt + "/large")
    user.umount()
    written = user.written()
    assert written
    places = [user.home + "/" + p for p in (".config/s3cryptfs", ".cache/s3cryptfs", ".local/state/s3cryptfs", "store", "mnt", "small", "large")]
    parents = [user.home + "/" + p for p in ("", ".config", ".cache", ".local", ".local/state")]
    stray = [w for w in written if w + "/" not in [p.rstrip("/") + "/" for p in parents] and not any((w + "/").startswith(p + "/") for p in places)]
    assert not stray
    for name in (".cache/s3cryptfs", ".local/state/s3cryptfs"):
        for folder, dirs, files in os.walk(user.home + "/" + name):
            assert all(stat.S_IMODE(os.lstat(os.path.join(folder, n)).st_mode) & 0o077 == 0 for n in dirs), folder
    assert any(os.path.basename(w) == "journal.db" for w in written)
    assert not find_bytes(marker[:100], user.store.folder, user.home + "/.cache", user.home + "/.local")
    objects = user.store.decode_all(FileKeyring(keyring))
    assert objects["large"].plaintext() == marker * 5 and objects["d/small"].plaintext() == marker[:100]

    # Once more: what is known is found again.
    assert user.mount().stderr == ""
    user.run("cmp", user.home + "/small", user.mnt + "/d/small")
    user.umount()


class FileKeyring(Keyring):
    """A keyring that is there already."""

    def __init__(self, path):
        self.path = path


def test_xdg_folders(user):
    """The XDG variables move the folders; a relative one is ignored."""
    env = {"XDG_%s_HOME" % name: "%s/x-%s" % (user.home, name) for name in ("CONFIG", "CACHE", "STATE")}
    user.run(user.ctl, "key", "new", "mine", env=env)
    user.mount(env=env)
    user.run("sh", "-c", 'echo data >"$1"', "sh", user.mnt + "/f", env=env)
    user.umount()
    assert os.path.exists(user.home + "/x-CONFIG/s3cryptfs/keyring")
    for name in ("x-CACHE/s3cryptfs", "x-STATE/s3cryptfs"):
        assert len(os.listdir(user.home + "/" + name)) == 1, name
    assert not any(os.path.exists(user.home + "/" + n) for n in (".config", ".cache", ".local"))
    env["XDG_STATE_HOME"] = "x-relative"
    user.mount(env=env)
    assert user.run("cat", user.mnt + "/f", env=env).stdout == "data\n"
    user.umount()
    assert os.path.isdir(user.home + "/.local/state/s3cryptfs")
    assert not any(w.endswith("x-relative") for w in user.written())


def refused(result, *words):
    """One line that says why."""
    assert result.returncode != 0 and not result.stdout
    assert result.stderr.count("\n") == 1 and result.stderr.endswith("\n"), result.stderr
    assert all(word in result.stderr for word in words), result.stderr


def test_refused(user):
    """Mistakes of an ordinary user are one line each, and leave nothing behind."""
    refused(user.mount(check=False), "keyring", user.home + "/.config/s3cryptfs/keyring")
    new_key(user)
    refused(user.mount("-o", "allow_other", check=False), "allow_other", "/etc/fuse.conf", "user_allow_other")
    refused(user.mount("-o", "allow_root", check=False), "user_allow_other")
    for mode in (0o700, 0o755):
        foreign = user.folder / ("foreign%o" % mode)
        foreign.mkdir()
        foreign.chmod(mode)
        result = user.run(user.program, user.store.source, foreign, check=False)
        refused(result, str(foreign), "ermission denied" if mode == 0o700 else "not this user")
    refused(user.run(user.program, user.store.source, user.home + "/absent", check=False), user.home + "/absent")
    refused(user.mount("-o", "cache_dir=/var/cache/of-root", check=False), "/var/cache/of-root")
    refused(user.run(user.program, "file:///root", user.mnt, check=False), "/root")
    os.chmod(user.folder / "fuse", 0o600)
    refused(user.mount(check=False), "/dev/fuse")
    os.chmod(user.folder / "fuse", 0o666)
    refused(user.mount(check=False, env={"PATH": "/nowhere"}), "fusermount3")
    # Neither a daemon, nor a mount, nor folders of a mount that never was.
    assert not user.daemons() and not user.as_root("grep", "-c", user.home, "/proc/self/mounts", check=False).stdout.strip("0\n")
    assert not user.store.paths()
    assert not os.path.exists(user.home + "/.cache") and not os.path.exists(user.home + "/.local")
    assert all((w + "/").startswith(user.home + "/") for w in user.written())
    # What only fusermount3 knows.
    (user.folder / "fuse.conf").write_text("mount_max = 0\n")
    refused(user.mount(check=False), user.mnt, "mount_max")


def test_allow_other(user):
    """Where /etc/fuse.conf lets users, others see what modes let them."""
    new_key(user)
    (user.folder / "fuse.conf").write_text("user_allow_other\n")
    os.chmod(user.home, 0o755)
    user.mount("-o", "allow_other")
    user.run("sh", "-c", 'umask 022; chmod 755 "$1"; echo open >"$1/open"; umask 077; echo closed >"$1/closed"', "sh", user.mnt)
    assert user.as_root("cat", user.mnt + "/open").stdout == "open\n"
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert user.as_root(*other, "cat", user.mnt + "/open").stdout == "open\n"
    assert user.as_root(*other, "cat", user.mnt + "/closed", check=False).returncode != 0
    user.umount()


def test_ends_with_sigterm(user):
    """A signal to the daemon unmounts for the user too."""
    new_key(user)
    user.mount()
    user.run("sh", "-c", 'echo data >"$1"', "sh", user.mnt + "/f")
    (pid,) = user.daemons()
    user.run("kill", pid)
    wait_for(lambda: not user.daemons(), 20, "the end of the daemon")
    assert user.run("ls", user.mnt).stdout == ""
    assert user.as_root("grep", "-c", " %s " % user.mnt, "/proc/self/mounts", check=False).stdout == "0\n"
    assert user.store.decode_all(FileKeyring(user.home + "/.config/s3cryptfs/keyring"))["f"].plaintext() == b"data\n"
