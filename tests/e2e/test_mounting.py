# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
What mount(8), umount(8) and fstab(5) do with the helpers installed: in a mount namespace with an fstab and a
/run of its own, where the helpers lie in /sbin. The machine stays as it is.
"""
import errno
import json
import os
import pathlib
import pty
import shutil
import signal
import stat
import subprocess
import tempfile
import time

import pytest

from harness import CTL, PROGRAM, Site, blob, fails, read_file, run, wait_for, write_file

UID = 54322  # of nobody else
HELPERS = ("mount.s3cryptfs", "mount.fuse.s3cryptfs", "umount.s3cryptfs", "umount.fuse.s3cryptfs")
PREPARE = """
set -e
mount --make-rprivate /
mount -t overlay none -o lowerdir="$T/helpers:/usr/sbin" /usr/sbin
mount --bind "$T/fstab" /etc/fstab
mount --bind "$T/passwd" /etc/passwd
mount --bind "$T/fuse" /dev/fuse
mount -t tmpfs none /run
mkdir /run/mount
echo ready
exec sleep 3600
"""
# Everything that mount(8), systemd.mount(5) and people write into the fourth column.
GENERIC = ("defaults,rw,_netdev,nofail,auto,nouser,x-systemd.automount,x-systemd.requires=network-online.target,x-systemd.idle-timeout=60,"
           "x-systemd.mount-timeout=30,X-comment=whatever,comment=some words,noatime,nodiratime,relatime,strictatime,lazytime,norelatime,"
           "nolazytime,nostrictatime,atime,diratime,exec,dev,suid,async,dirsync,silent,loud,noowner,nogroup,iversion,noiversion,nomand,"
           "symfollow,allow_other,default_permissions,nosuid,nodev,noexec,noatime").replace("some words", "some\\040words")


class Namespace:
    def __init__(self, folder):
        self.folder = folder
        os.chmod(folder, 0o755)
        self.fstab = folder / "fstab"
        (folder / "helpers").mkdir()
        self.program = shutil.copy(PROGRAM, folder)
        for name in HELPERS:
            (folder / "helpers" / name).symlink_to(self.program)
        self.fstab.write_text("")
        (folder / "passwd").write_text(open("/etc/passwd").read() + "someone:x:%d:%d::%s:/bin/sh\n" % (UID, UID, folder))
        if not os.path.exists("/etc/fstab"):
            pytest.skip("no /etc/fstab to put another one over")
        try:
            os.mknod(folder / "fuse", 0o666 | stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
        except OSError as e:
            pytest.skip("no /dev/fuse here: %s" % e)
        os.chmod(folder / "fuse", 0o666)
        self.holder = subprocess.Popen(["unshare", "-m", "sh", "-c", PREPARE], env=dict(os.environ, T=str(folder)),
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "ready\n":
            pytest.skip("no mount namespace with an overlay here: " + self.holder.stderr.read())

    def command(self, *args):
        return ["nsenter", "-t", str(self.holder.pid), "-m", "--wd=/", *(str(a) for a in args)]

    def run(self, *args, check=True, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        return run(*self.command(*args), check=check, env=dict(os.environ, LC_ALL="C"), **kw)

    def as_user(self, *args, **kw):
        return self.run("setpriv", "--reuid=%d" % UID, "--regid=%d" % UID, "--clear-groups",
                        "env", "-i", "HOME=%s" % self.folder, "PATH=/usr/bin:/bin", "LC_ALL=C", *args, **kw)

    def path(self, mountpoint):
        """To be used from here: the mount is in the namespace."""
        return "/proc/%d/root%s" % (self.holder.pid, mountpoint)

    def mounts(self, mountpoint):
        """The lines of the mountpoint in the table of mounts, as lists of fields."""
        lines = self.run("cat", "/proc/self/mounts").stdout.splitlines()
        return [f for f in map(str.split, lines) if f[1] == str(mountpoint)]

    def daemons(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink("/proc/%s/exe" % pid) == self.program:
                    found.append(int(pid))
            except OSError:
                pass
        return found

    def kill_daemon(self):
        (pid,) = self.daemons()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not self.daemons(), 20, "the end of the daemon")

    def finish(self):
        for pid in self.daemons():
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not self.daemons(), 30, "the end of the daemon")
        self.holder.kill()
        self.holder.wait()


@pytest.fixture
def ns():
    if os.geteuid() != 0:
        pytest.skip("needs root")
    # Not in the folder of the test, which no other user may enter.
    with tempfile.TemporaryDirectory(prefix="s3cryptfs-mounting-") as folder:
        ns = Namespace(pathlib.Path(folder))
        yield ns
        ns.finish()


@pytest.fixture
def line(ns, file_store, keyring):
    """line(name, type, options) appends to fstab and makes the mountpoint, which it returns."""
    tmp_path = ns.folder

    def add(name, options, kind="fuse.s3cryptfs", store=None):
        mnt = tmp_path / name
        mnt.mkdir()
        own = "keyring=%s,cache_dir=%s,log=%s" % (keyring.path, tmp_path / ("cache-" + name), tmp_path / "log")
        with open(ns.fstab, "a") as f:
            f.write("%s %s %s %s,%s 0 0\n" % (store or file_store.source, mnt, kind, options, own))
        return str(mnt)
    return add


def one_line(result, *words):
    assert result.returncode != 0 and result.stderr.count("\n") == 1, result.stderr
    assert all(word in result.stderr for word in words), result.stderr


def test_fstab(ns, line, file_store, keyring):
    """mount -a with every option there is, twice; mount MOUNTPOINT; umount waits; both types."""
    (ns.folder / "other").mkdir()
    everything = line("every", GENERIC)
    plain = line("plain", "noauto,users,nofail", kind="s3cryptfs", store="file://%s/other" % ns.folder)
    for _ in range(2):
        ns.run("mount", "-a")
    (found,) = ns.mounts(everything)
    assert found[0] == file_store.source and found[2] == "fuse.s3cryptfs"
    flags = found[3].split(",")
    assert {"rw", "nosuid", "nodev", "noexec", "noatime", "dirsync", "allow_other"} <= set(flags)
    assert not ns.mounts(plain)

    again = ns.run("mount", everything, check=False)
    assert again.returncode == 32
    one_line(again, everything, "already")
    assert len(ns.mounts(everything)) == 1
    ns.run("sh", "-c", 'echo data >"$1/f"', "sh", everything)

    ns.run("mount", plain)
    (found,) = ns.mounts(plain)
    assert found[2] == "fuse.s3cryptfs" and {"nosuid", "nodev", "noexec"} <= set(found[3].split(","))  # by users
    for mnt in (plain, everything):
        assert ns.run("umount", mnt).stderr == "" and not ns.mounts(mnt)
    assert not ns.daemons()
    assert file_store.decode(keyring, "f").plaintext() == b"data\n"
    assert everything not in ns.run("cat", "/run/mount/utab").stdout
    # With nothing to wait for it is there again at once.
    ns.run("mount", everything)
    assert ns.run("cat", everything + "/f").stdout == "data\n"


def test_fails_with_one_line(ns, line):
    """mount(8) hands on what the helper says, once, and a status that fits."""
    bad = ns.run("mount", line("bad", "noauto,no_such_option"), check=False)
    one_line(bad, "no_such_option", "-o help lists all")
    assert bad.returncode == 1
    missing = ns.run("mount", line("missing", "noauto", store="file://%s/absent" % ns.folder), check=False)
    one_line(missing, "/absent")
    assert missing.returncode == 32 and not ns.daemons()
    assert ns.run("mount", "-a").stderr == ""
    link = ns.run("mount", "-o", "nosymfollow", line("links", "noauto"))
    assert link.stderr == ""
    (found,) = ns.mounts(ns.folder / "links")
    assert "nosymfollow" in found[3].split(",")
    os.symlink("target", ns.path(found[1]) + "/link")
    assert "Too many levels" in ns.run("cat", found[1] + "/link", check=False).stderr


def test_umount_waits_for_every_mount(ns, line, file_store, keyring):
    """umount(8) calls the helper also for a mount without any option that it would keep itself."""
    mnt = line("mnt", "noauto")
    for n, command in enumerate((["mount", mnt], ["mount", "-o", "_netdev,x-what=ever", mnt],
                                 [ns.program, file_store.source, mnt, "-o", "writeback,keyring=%s,cache_dir=%s/direct" % (keyring.path, ns.folder)])):
        ns.run(*command)
        (entry,) = [e for e in ns.run("cat", "/run/mount/utab").stdout.splitlines() if mnt in e]
        assert "uhelper=fuse.s3cryptfs" in entry and ("_netdev" in entry) == (n == 1) and "keyring" not in entry
        write_file(ns.path(mnt) + "/f%d" % n, b"data")
        ns.run("umount", mnt)
        assert not ns.daemons() and "f%d" % n in file_store.keys()
        assert mnt not in ns.run("cat", "/run/mount/utab").stdout
    # Those who end otherwise leave no line, or one that the next mount replaces.
    ns.run("mount", mnt)
    ns.kill_daemon()
    ns.run("mount", mnt)
    assert ns.run("cat", "/run/mount/utab").stdout.count(mnt) == 1
    os.kill(ns.daemons()[0], signal.SIGTERM)
    wait_for(lambda: not ns.daemons(), 20, "the end of the daemon")
    assert mnt not in ns.run("cat", "/run/mount/utab").stdout


def status(ns, mnt):
    return json.loads(ns.run(CTL, "status", "--json", mnt, check=False).stdout)


def test_remount(ns, line, file_store, keyring):
    """remount,ro: refused while somebody writes, the store has everything after it; rw takes it back."""
    mnt = line("mnt", "writeback,nosuid")
    ns.run("mount", "-a")
    inside = ns.path(mnt)
    with open(inside + "/f", "wb") as f:
        f.write(b"one")
        f.flush()
        busy = ns.run("mount", "-o", "remount,ro", mnt, check=False)
        one_line(busy, "open for writing")
        assert busy.returncode == 32
        f.write(b"two")  # nothing has changed
    assert not status(ns, mnt)["read_only"]
    ns.run("mount", "-o", "remount,ro", mnt)
    (found,) = ns.mounts(mnt)
    assert {"ro", "nosuid"} <= set(found[3].split(","))
    state = status(ns, mnt)
    assert state["read_only"] and state["pending"] == dict(state["pending"], files=0, names=0, bytes=0)
    assert file_store.decode(keyring, "f").plaintext() == b"onetwo"
    with fails(errno.EROFS):
        write_file(inside + "/g", b"x")
    with fails(errno.EROFS):
        os.unlink(inside + "/f")
    # The kernel alone would let writers in again: the daemon does not.
    ns.run("mount", "-i", "-o", "remount,rw", mnt)
    with fails(errno.EROFS):
        write_file(inside + "/g", b"x")
    ns.run("mount", "-o", "remount,rw,noexec", mnt)
    write_file(inside + "/g", b"again")
    (found,) = ns.mounts(mnt)
    assert {"rw", "nosuid", "noexec"} <= set(found[3].split(",")) and not status(ns, mnt)["read_only"]
    # mount(8) tells of what it has noted itself, without a line in fstab.
    fstab = ns.fstab.read_text()
    ns.fstab.write_text("")
    for how in ("ro", "rw"):
        ns.run("mount", "-o", "remount," + how, mnt)
        assert how in ns.mounts(mnt)[0][3].split(",")
    ns.fstab.write_text(fstab)
    ns.run("umount", mnt)
    assert file_store.decode(keyring, "g").plaintext() == b"again"
    # What began read-only has no journal to write by.
    ns.run("mount", "-o", "ro", mnt)
    one_line(ns.run("mount", "-o", "remount,rw", mnt, check=False), "mounted read-only", "without ro")
    assert "ro" in ns.mounts(mnt)[0][3].split(",")
    ns.run("umount", mnt)
    one_line(ns.run("mount", "-o", "remount,rw", mnt, check=False), mnt)


def test_dead_daemon(ns, line, keyring):
    """The next mount takes away what a daemon that crashed has left in the tree, and has what it acknowledged."""
    mnt = line("mnt", "writeback")
    ns.run("mount", mnt)
    write_file(ns.path(mnt) + "/f", b"kept")
    ns.run("stat", mnt)  # which the kernel answers for a while now
    ns.kill_daemon()
    wait_for(lambda: "not connected" in ns.run("ls", mnt, check=False).stderr, 10, "the end of the connection")
    result = ns.run("mount", mnt)
    assert result.stderr == "" and len(ns.mounts(mnt)) == 1
    assert read_file(ns.path(mnt) + "/f") == b"kept"
    assert "had died" in (ns.folder / "log").read_text()
    # As umount(8) does, for one whose process is dead.
    ns.kill_daemon()
    assert ns.run("umount", mnt).returncode == 0 and not ns.mounts(mnt)


def test_hanging_daemon(ns, line):
    """A process that does not answer is not waited for (umount(8) itself asks it first, but with -l and -f)."""
    mnt = line("mnt", "defaults")
    for command in (["umount.fuse.s3cryptfs"], ["umount", "-l"], ["umount", "-f"]):
        ns.run("mount", mnt)
        (pid,) = ns.daemons()
        os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        result = ns.run(*command, mnt, timeout=60)
        assert time.monotonic() - begun < 40 and not ns.mounts(mnt)
        assert result.stderr.count("hangs") == (len(command) == 1) and result.stderr.count("\n") < 2, result.stderr
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: not ns.daemons(), 20, "the end of the daemon")


def test_user_in_fstab(ns):
    """A line with user or users: who is not root mounts and unmounts it, and is the one who may look into it."""
    tmp_path = ns.folder
    for name in ("home-store", "home-state"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, UID, UID)
    keys = tmp_path / "user-keyring"
    run(CTL, "key", "new", "-o", "keyring=%s" % keys)
    os.chown(keys, UID, UID)
    mnt = tmp_path / "user-mnt"
    mnt.mkdir()
    os.chown(mnt, UID, UID)
    ns.fstab.write_text("file://%s/home-store %s fuse.s3cryptfs noauto,user,keyring=%s,cache_dir=%s/home-state,exec 0 0\n" %
                        (tmp_path, mnt, keys, tmp_path))
    ns.as_user("mount", mnt)
    (found,) = ns.mounts(mnt)
    flags = set(found[3].split(","))
    assert {"nosuid", "nodev", "user_id=%d" % UID} <= flags
    ns.as_user("sh", "-c", 'echo mine >"$1/f"', "sh", mnt)
    assert ns.as_user("stat", "-c", "%u", "%s/f" % mnt).stdout == "%d\n" % UID
    one_line(ns.as_user("mount", mnt, check=False), "already")
    assert ns.as_user("mount", "-o", "remount,ro", mnt, check=False).returncode != 0
    ns.as_user("umount", mnt)
    assert not ns.mounts(mnt) and not ns.daemons()
    # A crash: the user's next mount clears it too.
    ns.as_user("mount", mnt)
    ns.kill_daemon()
    ns.as_user("mount", mnt)
    assert ns.as_user("cat", "%s/f" % mnt).stdout == "mine\n"
    ns.as_user("umount", mnt)


@pytest.fixture
def umount(tmp_path):
    helper = tmp_path / "umount.fuse.s3cryptfs"
    helper.symlink_to(PROGRAM)
    return lambda path, **kw: run(helper, path, check=False, stdin=subprocess.DEVNULL, **kw)


def test_unmount_goes_on_while_it_gets_ahead(rgw_store, mount, umount, keyring):
    """timeout bounds a standstill, not the whole: 24 files, 4 at once, need longer here than the two seconds of it."""
    site = Site(mount, rgw_store, writeback=True, timeout=2, parallel=4)
    for n in range(24):
        write_file(site / ("f%d" % n), blob(1000, n))
    rgw_store.proxy.latency(500)
    begun = time.monotonic()
    result = umount(site.path)
    took = time.monotonic() - begun
    site.m.ended = site.m.process.poll() is not None
    assert (result.returncode, result.stderr.count("wait in")) == (0, 0), result.stderr
    assert site.m.process.returncode == 0 and took > 2.5, took
    assert len(rgw_store.decode_all(keyring)) == 24


def test_unmount_has_a_limit(rgw_store, mount, umount, tmp_path):
    """umount_timeout is the limit of it all; what is left is told."""
    site = Site(mount, rgw_store, writeback=True, timeout=60, umount_timeout=1, retries=1, cache_dir=str(tmp_path / "cache"))
    write_file(site / "f", b"kept")
    rgw_store.proxy.fault("reset")
    begun = time.monotonic()
    result = umount(site.path)
    assert time.monotonic() - begun < 15 and "s3cryptfsctl recover" in result.stderr, result.stderr
    site.m.ended = site.m.process.poll() is not None
    rgw_store.proxy.fault("off")
    site.m.ended = True
    site.remount()
    assert read_file(site / "f") == b"kept"


def test_unmount_shows_a_bar(rgw_store, mount, tmp_path):
    """On a terminal there is a bar, and at the end it is gone."""
    helper = tmp_path / "umount.fuse.s3cryptfs"
    helper.symlink_to(PROGRAM)
    site = Site(mount, rgw_store, writeback=True, parallel=2)
    rgw_store.proxy.latency(300)
    for n in range(10):
        write_file(site / ("f%d" % n), blob(1000, n))
    ours, theirs = pty.openpty()
    process = subprocess.Popen([helper, site.path], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait(60) == 0 and b"[" in said and b"left" in said and said.rstrip().endswith(b"\x1b[K"), said
    site.m.ended = site.m.process.poll() is not None
    assert site.m.ended
