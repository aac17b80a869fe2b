# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""Two names that change places (RENAME_EXCHANGE): what programs see, what is left by kill -9 and by a store that goes away."""
import concurrent.futures
import ctypes
import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from harness import CTL, Site, blob, fails, read_file, run, wait_for, write_file

MIB = 1 << 20
MODES = {"close": {}, "writeback": {"writeback": True}, "names": {"names": "encrypted"}, "none": {"enc": "none"}}
STORES = {"file": "file_store", "versitygw": "versity_store", "radosgw": "rgw_store"}
ALL = [("file", "close"), ("file", "writeback"), ("file", "names"), ("file", "none"), ("versitygw", "close"),
       ("versitygw", "writeback"), ("versitygw", "none"), ("radosgw", "close"), ("radosgw", "writeback")]
LIBC = ctypes.CDLL(None, use_errno=True)


def exchange(a, b):
    if LIBC.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 2):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@pytest.fixture
def site(request, mount):
    server, mode = request.param
    return Site(mount, request.getfixturevalue(STORES[server]), **MODES[mode])


def cases(*pairs, long=()):
    params = [pytest.param(p, id="-".join(p)) for p in pairs]
    params += [pytest.param(p, id="-".join(p), marks=pytest.mark.long) for p in long]
    return pytest.mark.parametrize("site", params, indirect=True)


@cases(*ALL)
def test_exchange(site):
    a, b = blob(3 * MIB + 5, 1), blob(70001, 2)
    os.mkdir(site / "d")
    write_file(site / "a", a)
    write_file(site / "d/b", b)
    os.chmod(site / "a", 0o600)
    os.utime(site / "d/b", ns=(10**18, 10**18 + 1))
    os.symlink("target", site / "l")
    inos = [os.stat(site / n).st_ino for n in ("a", "d/b")]
    with open(site / "a", "r+b", buffering=0) as f, open(site / "d/b", "rb", buffering=0) as g:
        assert f.read(100) == a[:100]
        exchange(site / "a", site / "d/b")
        # Handles stay with their files, and the kernel's pages with them.
        assert os.fstat(f.fileno()).st_size == len(a) and f.read(100) == a[100:200]
        assert g.read(100) == b[:100]
        f.seek(0)
        f.write(b"written since")
        a = b"written since" + a[13:]
        assert read_file(site / "d/b") == a and read_file(site / "a") == b
        os.fsync(f.fileno())
    assert [os.stat(site / n).st_ino for n in ("d/b", "a")] == inos
    assert sorted(os.listdir(site.path)) == ["a", "d", "l"] and os.listdir(site / "d") == ["b"]
    exchange(site / "l", site / "a")
    for _ in range(2):
        assert read_file(site / "d/b") == a and read_file(site / "l") == b and os.readlink(site / "a") == "target"
        assert os.stat(site / "d/b").st_mode & 0o777 == 0o600 and os.stat(site / "l").st_mtime_ns == 10**18 + 1
        assert {os.lstat(site / n).st_nlink for n in ("a", "d/b", "l")} == {1}
        site.remount()
    # What has been exchanged is a file like others.
    exchange(site / "l", site / "a")
    os.rename(site / "a", site / "d/c")
    os.unlink(site / "l")
    write_file(site / "d/b", b"new")
    for _ in range(2):
        assert os.listdir(site.path) == ["d"] and read_file(site / "d/c") == b and read_file(site / "d/b") == b"new"
        site.remount()


@cases(("file", "close"), ("file", "writeback"))
def test_unstored(site):
    """Files that are open, written and not closed yet: each keeps what was written to it."""
    with open(site / "a", "wb") as f, open(site / "b", "wb") as g:
        f.write(b"first")
        f.flush()
        g.write(b"second")
        g.flush()
        exchange(site / "a", site / "b")
        f.write(b" a")
        g.write(b" b")
    for _ in range(2):
        assert read_file(site / "b") == b"first a" and read_file(site / "a") == b"second b"
        site.remount()


def test_refused(file_store, mount):
    site = Site(mount, file_store)
    write_file(site / "a", b"a")
    write_file(site / "b", b"b")
    os.mkdir(site / "d")
    os.mkfifo(site / "p")
    for other in "d", "p":
        with fails(errno.EINVAL):
            exchange(site / "a", site / other)
        with fails(errno.EINVAL):
            exchange(site / other, site / "a")
    with fails(errno.ENOENT):
        exchange(site / "a", site / "absent")
    site.remount(hardlinks="off")
    with fails(errno.EINVAL):
        exchange(site / "a", site / "b")
    site.remount(ro=True)
    with fails(errno.EROFS):
        exchange(site / "a", site / "b")
    assert read_file(site / "a") == b"a" and read_file(site / "b") == b"b"


@pytest.fixture
def machines(mount, versity_store):
    """Two mounts, and files a, b, c that are references."""
    one = Site(mount, versity_store)
    for name in "abcd":
        write_file(one / name, name.encode() * 100)
    for pair in ("ab", "ab", "cd", "cd"):
        exchange(*(one / name for name in pair))
    one.remount()
    return one, Site(mount, versity_store)


def found(site):
    site.remount()
    return {name: read_file(site / name)[:1].decode() for name in os.listdir(site.path)}


def test_late(machines):
    """A request that had seen what was undone since does nothing any more: conditions tell references apart."""
    store = machines[0].store
    seen = {name: store.head(name)["ETag"] for name in "abcd"}
    assert len(set(seen.values())) == 4
    store.proxy.fault("denied", method="PUT", after=2)
    with fails(errno.EACCES):
        exchange(machines[0] / "a", machines[0] / "b")
    store.proxy.fault("off")
    run(CTL, "sync", machines[0].path)
    now = {name: store.head(name)["ETag"] for name in "abcd"}
    assert now["a"] != seen["a"] and now["b"] != seen["b"] and now["c"] == seen["c"]
    assert found(machines[0]) == {name: name for name in "abcd"}


def test_overwritten_elsewhere(machines):
    """What another machine has put there is exchanged, not what was there before."""
    one, two = machines
    assert read_file(one / "a")[:1] == b"a"
    os.rename(two / "c", two / "a")
    run(CTL, "sync", two.path)
    exchange(one / "a", one / "b")
    two.umount()
    assert found(one) == {"a": "b", "b": "c", "d": "d"}


@pytest.mark.parametrize("what", ["unlink", "rename"])
def test_exchanged_elsewhere(machines, what):
    """Who still knows a name as that of the other file does not remove the one that it is of now."""
    one, two = machines
    assert read_file(two / "a")[:1] == b"a"
    exchange(one / "a", one / "b")
    if what == "rename":
        os.rename(two / "a", two / "e")
    else:
        with fails(errno.EBUSY):
            os.unlink(two / "a")
    two.umount()
    assert found(one) == ({"e": "b", "b": "a", "c": "c", "d": "d"} if what == "rename" else {"a": "b", "b": "a", "c": "c", "d": "d"})


@cases(("versitygw", "close"), ("versitygw", "writeback"))
def test_half(site):
    """It has failed half way, and the store refuses what would undo it: here each name is that of its file all the same."""
    site.remount(ttl=1)
    for name in "ab":
        write_file(site / name, name.encode() * 100)
    exchange(site / "a", site / "b")
    exchange(site / "a", site / "b")
    run(CTL, "sync", site.path)
    site.store.proxy.fault("denied", method="PUT", after=2)
    with fails(errno.EACCES):
        exchange(site / "a", site / "b")
    time.sleep(1.5)
    assert [read_file(site / name)[:1] for name in "ab"] == [b"a", b"b"]
    site.store.proxy.fault("off")
    write_file(site / "a", b"new")
    os.unlink(site / "b")
    for _ in range(2):
        assert os.listdir(site.path) == ["a"] and read_file(site / "a") == b"new"
        site.remount()


def busy(site, over, what):
    """what(), until it is over(): how often."""
    count = 0
    while not over():
        what(site)
        count += 1
    return count


@cases(("versitygw", "writeback"), long=(("versitygw", "close"), ("file", "close")))
def test_others_at_work(site):
    """What opens, looks at, changes and writes the two files meanwhile has one of them, wholly."""
    files = {}
    for n, name in enumerate("ab"):
        files[name] = blob(200000 + n, n)
        write_file(site / name, files[name])
    inos = {os.stat(site / n).st_ino: data for n, data in files.items()}
    if hasattr(site.store, "proxy"):
        site.store.proxy.latency(3)

    def reads(s):
        for name in "ab":
            with open(s / name, "rb") as f:
                # The number is that of what was opened.
                assert f.read() == inos[os.fstat(f.fileno()).st_ino], name

    def looks(s):
        for name in "ab":
            st = os.stat(s / name)
            assert st.st_size == len(inos[st.st_ino]), name

    def changes(s):
        for name in "ab":
            fd = os.open(s / name, os.O_RDWR)
            ino = os.fstat(fd).st_ino
            os.fchmod(fd, 0o600 + len(inos[ino]) % 2 * 0o40)
            os.pwrite(fd, inos[ino][5000:6000], 5000)
            os.close(fd)
        changed.set()

    stop, changed, exchanges, end = threading.Event(), threading.Event(), 0, time.monotonic() + 5
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(busy, site, stop.is_set, what) for what in (reads, reads, looks, changes)]
        try:
            # However slow the machine is.
            while (time.monotonic() < end or exchanges < 5 or not changed.is_set()) and not any(job.done() for job in jobs):
                exchange(site / "a", site / "b")
                exchanges += 1
        finally:
            stop.set()
        counts = [job.result() for job in jobs]
    assert min(counts) >= 1, counts
    for _ in range(2):
        assert sorted(os.listdir(site.path)) == ["a", "b"]
        for n, name in enumerate("ab" if exchanges % 2 == 0 else "ba"):
            assert read_file(site / name) == files["ab"[n]], exchanges
            assert os.stat(site / name).st_mode & 0o777 == 0o600 + n * 0o40
        site.remount()


LOOP = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
a, b = (os.fsencode(p) for p in sys.argv[1:3])
while libc.renameat2(-100, a, -100, b, 2) == 0:
    os.write(1, b".")
"""


@cases(("versitygw", "close"), ("versitygw", "writeback"), ("file", "close"), ("file", "writeback"))
def test_killed(site, tmp_path):
    """kill -9 at any moment: what was answered is, and of what was not, all or nothing."""
    local = {"cache_dir": str(tmp_path / "cache"), "state_dir": str(tmp_path / "state")}
    files = [blob(100000 + n, n) for n in range(2)]
    site.remount(**local)
    for name, data in zip("ab", files):
        write_file(site / name, data)
    site.remount(**local)
    done = 0
    for n in range(12):
        if hasattr(site.store, "proxy"):
            site.store.proxy.latency(20)
        loop = subprocess.Popen([sys.executable, "-c", LOOP, site / "a", site / "b"], stdout=subprocess.PIPE)
        assert loop.stdout.read(1) == b"."
        time.sleep(0.037 * n)
        site.m.kill()
        told = 1 + len(loop.communicate()[0])
        if hasattr(site.store, "proxy"):
            site.store.proxy.latency(0)
        site.remount(**local)
        found = [read_file(site / name) for name in "ab"]
        assert sorted(map(len, found)) == [100000, 100001], n
        assert found in (files, files[::-1]), n
        # What the kernel was told last may not have reached the program.
        swapped = found != files
        assert swapped in ((done + told) % 2, (done + told + 1) % 2)
        assert sorted(os.listdir(site.path)) == ["a", "b"], n
        done = int(swapped)
    site.remount()
    assert [read_file(site / name) for name in "ab"] == files[::-1 if done else 1]


@cases(("versitygw", "close"))
def test_store_away(site):
    """It fails in the middle: an error, and the names are what they were as soon as the store is there again."""
    site.remount(timeout=3)
    files = {"a": b"content of a", "b": b"and that of b"}
    for name, data in files.items():
        write_file(site / name, data)
    exchange(site / "a", site / "b")
    exchange(site / "a", site / "b")
    proxy = site.store.proxy
    for step in range(3):
        # The third name passes, or the first as well.
        proxy.fault("hang", method="PUT", after=step)
        with fails(errno.EIO, errno.ETIMEDOUT):
            exchange(site / "a", site / "b")
        proxy.fault("off")
        run(CTL, "sync", site.path)
        wait_for(lambda: {n: read_file(site / n) for n in files} == files, 20, "the old names, step %d" % step)
        assert sorted(os.listdir(site.path)) == ["a", "b"]
        exchange(site / "a", site / "b")
        assert read_file(site / "a") == files["b"]
        exchange(site / "a", site / "b")
    site.remount()
    assert {n: read_file(site / n) for n in os.listdir(site.path)} == files
