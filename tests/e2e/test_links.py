# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""Files with several names: what programs see, what the bucket has, what it costs, and what a crash leaves."""
import contextlib
import ctypes
import errno
import os
import stat
import subprocess
import time

import pytest

import decoder
from harness import CTL, MARKER, Site, blob, fails, read_file, run, wait_for, write_file
from test_budget import Cost

MIB = 1 << 20
LATE = 3.5  # until a new file with two names is stored as one with two names

MODES = {
    "close": {}, "writeback": {"writeback": True}, "names": {"names": "encrypted"}, "none": {"enc": "none"},
    "ssec": {"enc": "sse-c"},
}
STORES = {"file": "file_store", "radosgw": "rgw_store", "versitygw": "versity_store"}


class Links(Site):
    """A mount, and what an independent reader finds in its bucket."""

    def __init__(self, make, store, keyring, mode, **more):
        super().__init__(make, store, **dict(MODES[mode], **more))
        self.keyring, self.mode = keyring, mode
        self.sealed = mode in ("close", "writeback")

    def sync(self):
        run(CTL, "sync", self.path)

    def bodies(self):
        if hasattr(self.store, "paths"):
            return sorted(k for k in self.store.paths() if k.startswith(decoder.BODIES))
        return sorted(k for k in self.store.all_keys() if k.startswith(decoder.BODIES))

    def stored(self, name):
        return self.store.follow(self.keyring, name)

    def count(self, *names):
        """All have this many names and one number."""
        found = {(s.st_ino, s.st_nlink) for s in (os.lstat(self / n) for n in names)}
        assert len(found) == 1, found
        return found.pop()[1]


def cases(*pairs, long=()):
    params = [pytest.param(p, id="-".join(p)) for p in pairs]
    params += [pytest.param(p, id="-".join(p), marks=pytest.mark.long) for p in long]
    return pytest.mark.parametrize("site", params, indirect=True)


ALL = cases(("file", "close"), ("file", "writeback"), ("file", "names"), ("file", "none"), ("radosgw", "close"),
            ("radosgw", "ssec"), ("versitygw", "writeback"), long=(("versitygw", "close"),))
SEALED = cases(("file", "close"), ("file", "writeback"), ("radosgw", "close"), ("versitygw", "writeback"))
BOTH = cases(("versitygw", "close"), ("versitygw", "writeback"))


@pytest.fixture
def site(request, mount, keyring):
    server, mode = request.param
    return Links(mount, request.getfixturevalue(STORES[server]), keyring, mode)


def old_file(site, name, data):
    """A file that is in the store and not new any more."""
    write_file(site / name, data)
    site.remount()


@ALL
def test_link(site):
    old_file(site, "a", MARKER)
    assert site.count("a") == 1
    os.link(site / "a", site / "b")
    assert site.count("a", "b") == 2
    assert read_file(site / "b") == MARKER
    with fails(errno.EEXIST):
        os.link(site / "a", site / "b")
    os.mkdir(site / "d")
    os.link(site / "b", site / "d/c")
    assert site.count("a", "b", "d/c") == 3
    assert {e.inode() for e in os.scandir(site.path) if e.is_file()} == {os.stat(site / "a").st_ino}
    write_file(site / "d/c", b"new " + MARKER)
    assert read_file(site / "a") == read_file(site / "b") == b"new " + MARKER
    os.chmod(site / "b", 0o600)
    os.utime(site / "a", ns=(10**18, 10**18 + 1))
    assert os.stat(site / "d/c").st_mode & 0o777 == 0o600
    assert os.stat(site / "d/c").st_mtime_ns == 10**18 + 1
    os.unlink(site / "a")
    assert site.count("b", "d/c") == 2
    site.remount()
    assert site.count("b", "d/c") == 2
    assert read_file(site / "b") == read_file(site / "d/c") == b"new " + MARKER
    os.truncate(site / "b", 3)
    assert read_file(site / "d/c") == b"new"
    os.unlink(site / "b")
    assert site.count("d/c") == 1
    site.remount()
    assert site.count("d/c") == 1 and read_file(site / "d/c") == b"new"
    os.unlink(site / "d/c")
    assert os.listdir(site.path) == ["d"] and os.listdir(site / "d") == []
    assert len(site.bodies()) == 1  # until it is swept


@ALL
def test_new_file(site):
    """Links of what was made a moment ago."""
    write_file(site / "a", MARKER)
    os.link(site / "a", site / "b")
    assert site.count("a", "b") == 2
    assert sorted(os.listdir(site.path)) == ["a", "b"]
    for call in (lambda: os.mkdir(site / "b"), lambda: os.symlink("x", site / "b"),
                 lambda: os.close(os.open(site / "b", os.O_CREAT | os.O_EXCL))):
        with fails(errno.EEXIST):
            call()
    with fails(errno.ENOTDIR):
        os.rmdir(site / "b")
    write_file(site / "b", b"one", "ab")
    assert read_file(site / "a") == read_file(site / "b") == MARKER + b"one"
    os.unlink(site / "b")
    assert site.count("a") == 1 and os.listdir(site.path) == ["a"]
    os.link(site / "a", site / "c")
    os.unlink(site / "a")
    assert site.count("c") == 1 and os.listdir(site.path) == ["c"]
    write_file(site / "a", b"another")
    assert read_file(site / "c") == MARKER + b"one"
    os.link(site / "c", site / "d")
    os.link(site / "d", site / "e")
    assert site.count("c", "d", "e") == 3
    site.remount()
    assert site.count("c", "d", "e") == 3
    assert read_file(site / "c") == read_file(site / "e") == MARKER + b"one" and read_file(site / "a") == b"another"


@SEALED
def test_stored(site):
    """What the bucket has, by the independent decoder."""
    data = MARKER + blob(9 * MIB, 1)
    write_file(site / "small", MARKER)
    write_file(site / "large", data)
    site.remount()
    for name in ("small", "large"):
        os.link(site / name, site / ("second-" + name))
    os.chmod(site / "second-small", 0o604)
    site.sync()
    found = site.store.decode_all(site.keyring)
    assert sorted(found) == ["large", "second-large", "second-small", "small"]
    assert all(o.layout == decoder.REFERENCE for o in found.values())
    assert found["small"].body_key == found["second-small"].body_key != found["large"].body_key
    assert site.stored("small").plaintext() == MARKER and site.stored("second-large").plaintext() == data
    assert site.stored("small").names == 2 and site.stored("small").attrs["mode"] == 0o100604
    assert len(site.bodies()) == 2
    write_file(site / "second-large", b"X", "r+b")
    os.unlink(site / "small")
    site.sync()
    assert site.stored("large").plaintext() == b"X" + data[1:]
    assert site.stored("second-small").names == 1


@ALL
def test_rename(site):
    for name in "abcx":
        write_file(site / name, name.encode())
    os.mkdir(site / "d")
    site.remount()
    for name in "abc":
        os.link(site / name, site / ("d/" + name))
    os.rename(site / "a", site / "d/a")  # of one file: nothing happens
    assert site.count("a", "d/a") == 2
    os.utime(site.path, ns=(1, 1))
    os.rename(site / "a", site / "e")
    assert os.stat(site.path).st_mtime_ns > 1
    assert site.count("e", "d/a") == 2 and not os.path.exists(site / "a")
    os.rename(site / "b", site / "e")  # over another one with several names
    assert site.count("e", "d/b") == 2 and site.count("d/a") == 1
    os.rename(site / "x", site / "c")  # a file over one of two names
    assert site.count("c") == 1 and site.count("d/c") == 1
    os.rename(site / "d/b", site / "c")  # one of two names over a file
    assert site.count("e", "c") == 2
    os.rename(site / "d", site / "moved")
    os.link(site / "e", site / "moved/f")
    expected = {"c": b"b", "e": b"b", "moved/a": b"a", "moved/c": b"c", "moved/f": b"b"}
    for _ in range(2):
        assert {n: read_file(site / n) for n in expected} == expected
        assert site.count("c", "e", "moved/f") == 3
        assert sorted(os.listdir(site.path)) == ["c", "e", "moved"] and sorted(os.listdir(site / "moved")) == ["a", "c", "f"]
        site.remount()


@cases(("file", "close"), ("file", "writeback"), ("file", "names"), ("radosgw", "close"), ("radosgw", "ssec"), ("versitygw", "writeback"))
def test_number_stays(site):
    """Of what this mount stores in the background it knows that it is its own."""
    for n in range(24):
        os.mkdir(site / str(n))
        names = [site / ("%d/%s" % (n, name)) for name in "fgh"]
        write_file(names[0], b"x" * n)
        number = os.lstat(names[0]).st_ino
        os.link(names[0], names[1])
        assert {os.lstat(name).st_ino for name in names[:2]} == {number}
        os.rename(names[0], names[2])
        # The new name first: the kernel asks for what it has just moved.
        assert [os.lstat(name).st_ino for name in (names[2], names[1])] == [number] * 2, n


@ALL
def test_rename_new(site):
    """The same of files that have just got their second name."""
    os.mkdir(site / "d")
    for name in ("a", "b", "c"):
        write_file(site / name, name.encode())
        os.link(site / name, site / ("d/" + name))
    os.rename(site / "a", site / "d/a")
    assert site.count("a", "d/a") == 2
    os.rename(site / "d/b", site / "e")
    assert site.count("b", "e") == 2
    os.rename(site / "d", site / "moved")
    assert site.count("c", "moved/c") == 2
    os.rename(site / "b", site / "c")
    assert site.count("b" if os.path.exists(site / "b") else "c", "e") == 2
    for _ in range(2):
        assert read_file(site / "moved/c") == b"c" and read_file(site / "c") == read_file(site / "e") == b"b"
        assert read_file(site / "moved/a") == read_file(site / "a") == b"a"
        assert site.count("moved/c") == 1 and site.count("a", "moved/a") == 2
        site.remount()


@ALL
def test_open(site):
    """Handles go on, whatever names come and go."""
    old_file(site, "old", MARKER)
    write_file(site / "new", MARKER)
    for name in ("old", "new"):
        fd = os.open(site / name, os.O_RDWR)
        os.write(fd, b"1")
        os.link(site / name, site / "second")
        os.pwrite(fd, b"2", 1)
        assert os.fstat(fd).st_nlink == 2
        assert read_file(site / "second")[:3] == b"12" + MARKER[2:3]
        other = os.open(site / "second", os.O_RDWR)
        os.pwrite(other, b"3", 2)
        assert os.pread(fd, 4, 0) == b"123" + MARKER[3:4]
        os.unlink(site / name)
        assert os.fstat(fd).st_nlink == os.fstat(other).st_nlink == 1
        os.pwrite(fd, b"4", 3)
        time.sleep(LATE if name == "new" else 0)
        assert read_file(site / "second")[:4] == b"1234"
        os.unlink(site / "second")
        assert os.fstat(fd).st_nlink == 0
        os.pwrite(fd, b"5", 4)
        assert os.pread(other, 5, 0) == b"12345"
        os.close(fd)
        os.close(other)
    assert os.listdir(site.path) == []


@ALL
def test_both_ways_later(site):
    """Handles that are open while a new file is stored under both names."""
    fd = os.open(site / "a", os.O_RDWR | os.O_CREAT)
    os.write(fd, MARKER)
    os.link(site / "a", site / "b")
    wait_for(lambda: site.bodies(), what="both names in the store")
    time.sleep(0.5)
    os.pwrite(fd, b"late", 0)
    os.fsync(fd)
    assert read_file(site / "b") == b"late" + MARKER[4:]
    os.close(fd)
    assert site.count("a", "b") == 2
    site.remount()
    assert read_file(site / "a") == read_file(site / "b") == b"late" + MARKER[4:]


def link_handle(fd, path):
    """linkat(2) with AT_EMPTY_PATH."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.linkat(fd, b"", -100, os.fsencode(path), 0x1000) < 0:
        raise OSError(ctypes.get_errno(), "linkat")


@SEALED
def test_refused(site, mount):
    os.mkdir(site / "d")
    with fails(errno.EPERM):
        os.link(site / "d", site / "e")
    write_file(site / "a", MARKER)
    os.link(site / "a", site / "b")
    with fails(errno.ENOENT):
        os.link(site / "missing", site / "c")
    fd = os.open(site / "a", os.O_RDONLY)
    os.unlink(site / "a")
    os.unlink(site / "b")
    with fails(errno.ENOENT):
        link_handle(fd, site / "c")
    os.close(fd)
    write_file(site / "a", MARKER)
    site.remount(hardlinks="off")
    with fails(errno.EPERM):
        os.link(site / "a", site / "b")


@cases(("file", "close"), ("file", "writeback"))
def test_link_of_a_newer_version(site):
    """A name that the kernel knows still, of a file that a look at its other name has found changed."""
    old_file(site, "a", MARKER)
    os.link(site / "a", site / "b")
    site.remount(consistency="open")
    other = Site(site.make, site.store, **site.options)
    assert site.count("a", "b") == 2
    write_file(other / "b", b"theirs")
    run(CTL, "sync", other.path)
    assert read_file(site / "b") == b"theirs"
    os.link(site / "a", site / "c")
    assert site.count("a", "b", "c") == 3 and read_file(site / "c") == b"theirs"


@ALL
def test_symlink(site):
    os.symlink("target", site / "s")
    site.remount()
    os.link(site / "s", site / "t", follow_symlinks=False)
    assert os.readlink(site / "t") == os.readlink(site / "s") == "target"
    assert site.count("s", "t") == 2
    os.unlink(site / "s")
    site.remount()
    assert os.readlink(site / "t") == "target" and site.count("t") == 1


@cases(("file", "close"), ("file", "writeback"))
def test_count_of_new(site):
    """The kernel counts as well, by what each answer says: with a count of 0 it refuses to link."""
    site.remount(consistency="open")
    write_file(site / "a", MARKER)
    os.link(site / "a", site / "b")
    os.utime(site / "a", ns=(1, 2))
    assert site.count("a", "b") == 2
    os.chmod(site / "b", 0o600)
    os.unlink(site / "a")
    os.link(site / "b", site / "a")
    assert site.count("a", "b") == 2


@cases(("file", "close"), ("file", "writeback"), ("versitygw", "writeback"))
def test_count_of_reused(site):
    """A name that has gone, a new file there, and another one over that: the name was counted once."""
    for name in ("a", "z", "y"):
        write_file(site / name, name.encode())
    site.remount()
    for name in "bcd":
        os.link(site / "a", site / name)
    for name, over in ("b", "z"), ("c", "y"):
        os.unlink(site / name)
        write_file(site / name, b"new")
        os.rename(site / over, site / name)
    for _ in range(2):
        assert site.count("a", "d") == 2
        assert {n: read_file(site / n) for n in "abcd"} == {"a": b"a", "b": b"z", "c": b"y", "d": b"a"}
        site.remount()
    os.link(site / "a", site / "e")
    assert site.count("a", "d", "e") == 3


@cases(("file", "close"), ("file", "writeback"), ("file", "names"))
def test_attributes(site):
    """Extended attributes are the file's, and special files can have several names too."""
    old_file(site, "a", MARKER)
    os.setxattr(site / "a", "user.one", b"1")
    os.link(site / "a", site / "b")
    os.setxattr(site / "b", "user.two", b"2")
    write_file(site / "n", MARKER)
    os.link(site / "n", site / "m")
    os.setxattr(site / "m", "user.new", b"3")
    os.mkfifo(site / "fifo")
    site.remount()
    os.link(site / "fifo", site / "pipe")
    for _ in range(2):
        for name in "ab":
            assert os.getxattr(site / name, "user.one") == b"1" and os.getxattr(site / name, "user.two") == b"2"
        assert os.getxattr(site / "n", "user.new") == os.getxattr(site / "m", "user.new") == b"3"
        assert site.count("fifo", "pipe") == 2 and stat.S_ISFIFO(os.stat(site / "pipe").st_mode)
        site.remount()
    os.chmod(site / "pipe", 0o600)
    assert os.stat(site / "fifo").st_mode & 0o777 == 0o600
    os.unlink(site / "fifo")
    assert site.count("pipe") == 1


@cases(("file", "close"), ("file", "writeback"), ("radosgw", "ssec"), ("versitygw", "close"))
def test_programs(site, tmp_path):
    src = tmp_path / "src"
    os.makedirs(src / "d")
    for n in range(5):
        write_file(src / ("f%d" % n), blob(1000 + n, n))
        os.link(src / ("f%d" % n), src / ("d/g%d" % n))
    os.link(src / "f0", src / "h0")

    def check(top):
        for n in range(5):
            names = ["f%d" % n, "d/g%d" % n] + (["h0"] if n == 0 else [])
            stats = {(s.st_ino, s.st_nlink) for s in (os.stat(os.path.join(top, x)) for x in names)}
            assert len(stats) == 1 and stats.pop()[1] == len(names), (top, names)
            for x in names:
                assert read_file(os.path.join(top, x)) == blob(1000 + n, n)

    run("cp", "-a", src, site / "cp")
    check(site / "cp")
    run("rsync", "-aH", str(src) + "/", site / "rsync")
    check(site / "rsync")
    run("tar", "-cf", tmp_path / "t.tar", "-C", src, ".")
    os.mkdir(site / "tar")
    run("tar", "-xf", tmp_path / "t.tar", "-C", site / "tar")
    check(site / "tar")
    run("cp", "-al", site / "tar", site / "cpl")
    assert os.stat(site / "cpl/f1").st_nlink == 4
    run("ln", "-f", site / "cpl/f1", site / "cpl/f2")
    assert read_file(site / "cpl/f2") == blob(1001, 1)
    site.remount()
    # And from here to elsewhere.
    for name in ("cp", "rsync"):
        check(site / name)
        run("rsync", "-aH", str(site / name) + "/", tmp_path / ("back-" + name))
        check(tmp_path / ("back-" + name))
    run("rsync", "-aH", "--delete", str(src) + "/", site / "rsync")
    run("rm", "-r", site / "cpl")
    check(site / "tar")


def git(*args, cwd):
    env = dict(os.environ, GIT_CONFIG_NOSYSTEM="1", GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a",
               GIT_COMMITTER_EMAIL="a@b", HOME=str(cwd))
    return run("git", *args, cwd=cwd, env=env)


@cases(("file", "close"), ("versitygw", "writeback"))
def test_git(site):
    git("init", "-q", ".", cwd=site.path)
    for n in range(4):
        write_file(site / ("f%d" % n), blob(2000, n))
        git("add", "-A", cwd=site.path)
        git("commit", "-q", "-m", "c%d" % n, cwd=site.path)
    git("fsck", "--strict", cwd=site.path)
    site.remount()
    git("fsck", "--strict", cwd=site.path)
    assert git("log", "--oneline", cwd=site.path).stdout.count("\n") == 4
    git("gc", "-q", cwd=site.path)
    site.remount()
    git("fsck", "--strict", cwd=site.path)
    assert not site.bodies()  # no object of git's ever had two names for long


def write_object(site, n):
    """As git writes an object: link to the final name, remove the first."""
    write_file(site / ("tmp_obj_%d" % n), MARKER + b"%d" % n)
    os.link(site / ("tmp_obj_%d" % n), site / ("o%d" % n))
    os.unlink(site / ("tmp_obj_%d" % n))


def write_renamed(site, n):
    write_file(site / ("tmp_ren_%d" % n), MARKER + b"%d" % n)
    os.rename(site / ("tmp_ren_%d" % n), site / ("r%d" % n))


@BOTH
def test_cost_of_git(site):
    os.listdir(site.path)
    write_renamed(site, 99)  # what comes within two seconds of a rename is one of a series
    site.sync()
    with Cost(site.store) as linked:
        for n in range(20):
            write_object(site, n)
        site.sync()
    with Cost(site.store) as renamed:
        for n in range(20):
            write_renamed(site, n)
        site.sync()
    if site.mode == "writeback":
        linked.within({"PUT": 20})
    assert linked.requests == renamed.requests, (linked, renamed)
    for _ in range(2):
        assert all(read_file(site / ("o%d" % n)) == MARKER + b"%d" % n for n in range(20))
        site.remount()
    assert not site.bodies()


@BOTH
def test_cost(site):
    old_file(site, "a", MARKER)
    os.listdir(site.path)
    read_file(site / "a")
    with Cost(site.store) as c:
        os.link(site / "a", site / "b")
    c.within({"COPY": 1, "PUT": 2})
    with Cost(site.store) as c:
        os.link(site / "a", site / "c")
        site.sync()
    c.within({"PUT": 1, "COPY": 1})
    with Cost(site.store) as c:
        os.unlink(site / "c")
        site.sync()
    c.within({"COPY": 1}, DELETE=1, DELETEMANY=1, LIST=1)
    site.remount()
    os.listdir(site.path)
    with Cost(site.store) as c:
        assert read_file(site / "a") == MARKER
    c.within({"GET": 2})
    with Cost(site.store) as c:
        assert read_file(site / "b") == MARKER
    c.within({"GET": 1})
    with Cost(site.store) as c:
        write_file(site / "b", MARKER + b"2")
        site.sync()
    c.within({"PUT": 1})


@cases(("file", "close"), ("file", "writeback"), ("versitygw", "close"), ("versitygw", "writeback"))
@pytest.mark.parametrize("wait", [0, LATE])
def test_kill(site, wait, tmp_path):
    """kill -9 after each acknowledged step, before and after the store has both names."""
    site.remount(cache_dir=str(tmp_path / "local"))
    site.options["cache_dir"] = str(tmp_path / "local")
    write_file(site / "a", MARKER)
    os.link(site / "a", site / "b")
    write_file(site / "t", b"object")
    os.link(site / "t", site / "u")
    os.unlink(site / "t")
    write_file(site / "v", b"kept")
    os.link(site / "v", site / "w")
    os.unlink(site / "w")
    time.sleep(wait)
    site.m.kill()
    site.m = site.make(site.store.source, **site.store.options(**site.options))
    for _ in range(2):
        assert sorted(os.listdir(site.path)) == ["a", "b", "u", "v"]
        assert read_file(site / "a") == read_file(site / "b") == MARKER
        assert site.count("a", "b") == 2
        assert read_file(site / "u") == b"object" and read_file(site / "v") == b"kept"
        assert site.count("u") == site.count("v") == 1
        site.sync()
        site.remount()
    assert len(site.bodies()) == 1


@cases(("versitygw", "close"), ("versitygw", "writeback"), ("radosgw", "close"))
def test_two_machines(site):
    old_file(site, "a", MARKER)
    other = Site(site.make, site.store, **dict(site.options, ttl=1))
    assert read_file(other / "a") == MARKER
    os.link(site / "a", site / "b")
    time.sleep(1.5)
    assert os.stat(other / "b").st_nlink == 2 and read_file(other / "b") == MARKER
    assert os.stat(other / "a").st_ino == os.stat(other / "b").st_ino
    write_file(other / "a", b"theirs")
    run(CTL, "sync", other.path)
    site.remount()
    assert read_file(site / "b") == b"theirs"
    # Both at once: the second to store keeps its version beside.
    fd = os.open(site / "a", os.O_WRONLY)
    os.write(fd, b"ours..")
    write_file(other / "b", b"theirs again")
    run(CTL, "sync", other.path)
    with contextlib.suppress(OSError):
        os.close(fd)
    with contextlib.suppress(subprocess.SubprocessError, AssertionError):
        site.sync()
    kept = [n for n in site.store.keys() if ".conflict-" in n]
    if site.store.server.name == "versitygw":
        assert len(kept) == 1 and site.stored(kept[0]).plaintext() == b"ours.."
        assert site.stored("a").plaintext() == b"theirs again"


@cases(("file", "close"))
def test_body_gone(site):
    old_file(site, "a", MARKER)
    os.link(site / "a", site / "b")
    site.umount()
    os.unlink(site.store.path_of(site.bodies()[0]))
    site.remount()
    with fails(errno.EIO):
        read_file(site / "a")
    assert "which is not there" in site.m.text()
    assert sorted(os.listdir(site.path)) == ["a", "b"]


@cases(("file", "close"))
def test_swapped(site):
    """A reference is sealed: it cannot be put under another name, nor lead to another body."""
    for name in "ab":
        write_file(site / name, name.encode())
    site.remount()
    for name in "ab":
        os.link(site / name, site / (name + "2"))
    site.umount()
    a, b = (site.store.meta_of(n) for n in "ab")
    site.store.set_meta("a", b)
    site.store.set_meta("b", a)
    site.remount()
    for name in "ab":
        with fails(errno.EIO):
            os.stat(site / name)
        assert read_file(site / (name + "2")) == name.encode()


def links(site, *args, ok=True):
    result = run(CTL, "links", *args, "-o", ",".join("%s=%s" % o for o in dict(
        keyring=site.keyring.path, cache_dir=site.options["cache_dir"] + "-ctl", **MODES[site.mode]).items()),
        site.store.source, check=False)
    assert (result.returncode == 0) == ok, result
    return result.stdout


@cases(("file", "close"), ("file", "names"), ("file", "none"))
def test_sweep(site, tmp_path):
    site.options["cache_dir"] = str(tmp_path / "local")
    for name in ("a", "b", "c"):
        write_file(site / name, name.encode())
    write_file(site / "five", b"link\n")  # only looks like a reference
    site.remount()
    for name in ("a", "b", "c"):
        os.link(site / name, site / (name + "2"))
    os.link(site / "a", site / "a3")
    for name in ("b", "b2", "a3"):
        os.unlink(site / name)
    site.umount()
    lost = site.store.path_of("c2") if site.mode != "names" else None
    if lost:
        os.unlink(lost)
    assert len(site.bodies()) == 3
    assert "0 without a name removed, 1 wait" in links(site)
    assert len(site.bodies()) == 3
    time.sleep(1.1)
    out = links(site, "--grace", "1", "--dry-run")
    assert "would be: %d counts put right, 1 without a name removed" % (lost is not None) in out
    assert len(site.bodies()) == 3
    out = links(site, "--grace", "1")
    assert "%d counts put right, 1 without a name removed" % (lost is not None) in out
    assert len(site.bodies()) == 2
    assert "0 counts put right, 0 without a name removed" in links(site, "--grace", "1")
    site.remount()
    for name in ("a", "a2", "c"):
        assert read_file(site / name) == name[:1].encode()
    assert read_file(site / "five") == b"link\n"
    assert site.count("a", "a2") == 2 and site.count("c") == (1 if lost else 2)
    site.umount()
    # A body that its last name has lost to other means: counted first, removed a grace later.
    os.unlink(site.store.path_of("c")) if lost else None
    if lost:
        time.sleep(1.1)
        assert "1 counts put right, 0 without a name removed, 1 wait" in links(site, "--grace", "1")
        assert "0 counts put right, 0 without a name removed, 1 wait" in links(site, "--grace", "60")
        time.sleep(1.1)
        assert "0 counts put right, 1 without a name removed, 0 wait" in links(site, "--grace", "1")
        os.unlink(site.store.path_of(site.bodies()[0]))
        out = links(site, ok=False)
        assert "is a name of a file whose body is not there" in out and "2 names without a file" in out


@cases(("file", "close"), ("file", "names"))
def test_fsck_and_rekey(site, tmp_path):
    """Bodies and references are objects like others for what works on the whole volume."""
    site.options["cache_dir"] = str(tmp_path / "local")
    long_name = "x" * 150
    for name in ("a", "b", long_name):
        write_file(site / name, name.encode())
    site.remount()
    os.link(site / "a", site / "a2")
    os.link(site / long_name, site / (long_name + "2"))
    os.setxattr(site / "a", "user.one", b"1")
    site.umount()
    options = ",".join("%s=%s" % o for o in dict(
        keyring=site.keyring.path, cache_dir=str(tmp_path / "ctl"), **MODES[site.mode]).items())
    run(CTL, "fsck", "-o", options, site.store.source)
    run(CTL, "key", "rotate", "-o", "keyring=" + site.keyring.path, "second")
    for command in ([], ["--reencrypt"], ["--reencrypt"]):
        run(CTL, "rekey", *command, "-o", options, site.store.source)
        run(CTL, "fsck", "-o", options, site.store.source)
    run(CTL, "key", "retire", "-o", options, "test-key", site.store.source)
    site.remount()
    for name in ("a", "b", long_name):
        assert read_file(site / name) == name.encode()
    assert read_file(site / "a2") == b"a" and read_file(site / (long_name + "2")) == long_name.encode()
    assert site.count("a", "a2") == 2 and os.getxattr(site / "a2", "user.one") == b"1"
