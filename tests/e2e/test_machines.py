# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Two machines on one bucket: mounts with folders of their own that know nothing of each other. What one
has stored the other never overwrites or removes unseen, and a reader sees one version of a file at a time.
versitygw honours conditions; radosgw honours If-None-Match on PUT alone, so the mount looks before it writes.
"""
import contextlib
import errno
import mmap
import os
import re
import sqlite3
import threading
import time

import pytest

import decoder
from harness import Site, blob, fails, read_file, wait_for, write_file

from test_ctl import Client

SEGMENT = decoder.SEGMENT
MIB = 1 << 20
LONG_RADOSGW = pytest.param("radosgw", marks=pytest.mark.long)
SMALL, LARGE = 3000, SEGMENT + 5000
WARNED = "the store does not honour conditions on writes"


class Pair:
    """Two mounts, and what an independent reader finds in the bucket."""

    def __init__(self, mount, store, keyring, mode, **options):
        self.mount, self.store, self.keyring, self.mode = mount, store, keyring, mode
        self.options = dict({"writeback": True} if mode == "writeback" else {}, **options)
        self.a, self.b = self.site(), self.site()

    def site(self, **more):
        return Site(self.mount, self.store, **dict(self.options, **more))

    def sync(self, site):
        """
        Waits until everything of this mount is in the store, or was refused for good. No program is run for
        that: a new process closes what is open here, and that is a close like any other.
        """
        if self.mode == "close":
            return
        client = Client(site.m).send(b'{"command":"sync"}\n')
        while "ok" not in (client.answer() or {"ok": False}):
            pass
        client.close()

    def write(self, site, name, data):
        """What site has stored, and the other one need not know."""
        write_file(site / name, data)
        self.sync(site)

    def stored(self, name):
        return self.store.decode(self.keyring, name).plaintext()

    def conflicts(self, name):
        return sorted(k for k in self.store.keys() if k.startswith(name + ".conflict-"))

    def close(self, site, fd, *errors):
        """The close that loses: an error with commit=close, the upload's with writeback."""
        if self.mode == "writeback":
            os.close(fd)
            self.sync(site)
        else:
            with fails(*(errors or [errno.ESTALE])):
                os.close(fd)

    def lost(self, site, name, data):
        """The version of site, which came second, is kept beside and told of; on no other mount does it differ."""
        kept = self.conflicts(name)
        assert len(kept) == 1, (self.store.keys(), site.m.text())
        host = re.escape(os.uname().nodename)
        assert re.fullmatch(re.escape(name) + r"\.conflict-%s-\d{8}T\d{6}\.\d{6}Z" % host, kept[0]), kept
        assert self.stored(kept[0]) == data
        text = site.m.text()
        assert "%s: was changed by another machine" % name in text and kept[0] in text, text
        assert read_file(site / kept[0]) == data


@pytest.fixture(params=["versitygw", "radosgw"])
def store(request):
    return request.getfixturevalue({"radosgw": "rgw_store", "versitygw": "versity_store"}[request.param])


@pytest.fixture(params=["close", "writeback"])
def pair(request, store, mount, keyring):
    """Where conditions are honoured, ttl does not matter; where the mount has to look, it does so after ttl only."""
    return Pair(mount, store, keyring, request.param, **({"ttl": 0} if store.server.name == "radosgw" else {}))


@pytest.fixture(params=["close", "writeback"])
def trusting_pair(request, store, mount, keyring):
    """What was seen once is believed for a minute."""
    return Pair(mount, store, keyring, request.param)


sizes = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])


@pytest.mark.parametrize("store,size", [("versitygw", SMALL), ("versitygw", LARGE), ("radosgw", SMALL),
                                        pytest.param("radosgw", LARGE, marks=pytest.mark.long)], indirect=["store"])
def test_rewrite(pair, size):
    """A opens, B rewrites, A closes: B's version stays, A's is kept under another name."""
    pair.write(pair.b, "f", blob(size, 1))
    fd = os.open(pair.a / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, blob(size, 2))
    pair.write(pair.b, "f", blob(size, 3))
    pair.close(pair.a, fd)
    assert pair.stored("f") == blob(size, 3)
    pair.lost(pair.a, "f", blob(size, 2))
    assert read_file(pair.a / "f") == blob(size, 3)
    assert read_file(pair.b / "f") == blob(size, 3)
    # Both go on as if nothing had been.
    pair.write(pair.a, "f", b"A has seen it")
    assert pair.stored("f") == b"A has seen it"
    assert len(pair.conflicts("f")) == 1


def test_append(pair):
    """A change of a part of what A has read: what is kept is whole."""
    pair.write(pair.b, "f", blob(SMALL, 1))
    assert read_file(pair.a / "f") == blob(SMALL, 1)
    fd = os.open(pair.a / "f", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"appended")
    pair.write(pair.b, "f", blob(SMALL, 3))
    pair.close(pair.a, fd)
    assert pair.stored("f") == blob(SMALL, 3)
    pair.lost(pair.a, "f", blob(SMALL, 1) + b"appended")


def test_known_before(request, trusting_pair):
    """A has looked at the file once, B rewrites it, A replaces what it has never seen."""
    pair = trusting_pair
    pair.write(pair.b, "f", blob(SMALL, 1))
    assert read_file(pair.a / "f") == blob(SMALL, 1)
    pair.write(pair.b, "f", blob(SMALL, 3))
    fd = os.open(pair.a / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, blob(SMALL, 2))
    pair.close(pair.a, fd)
    assert pair.stored("f") == blob(SMALL, 3)
    pair.lost(pair.a, "f", blob(SMALL, 2))


@pytest.mark.parametrize("mode", ["close", "writeback"])
def test_rewrite_within_ttl(rgw_store, mount, keyring, mode):
    """Without conditions there is the look before the write, however short ago the file was seen."""
    test_rewrite(Pair(mount, rgw_store, keyring, mode), SMALL)


@sizes
def test_create(request, pair, size):
    """One name created by both: the first one to store it has it."""
    fds = [os.open(site / "f", os.O_WRONLY | os.O_CREAT | os.O_EXCL) for site in (pair.a, pair.b)]
    for n, fd in enumerate(fds):
        os.write(fd, blob(size, n))
    os.close(fds[1])
    pair.sync(pair.b)
    pair.close(pair.a, fds[0], errno.ESTALE, errno.EEXIST)
    assert pair.stored("f") == blob(size, 1)
    pair.lost(pair.a, "f", blob(size, 0))


@pytest.mark.parametrize("mode", ["close", "writeback"])
def test_create_at_open(store, mount, keyring, mode):
    """excl=open: of two machines that make one name with O_EXCL one has it, from the open on."""
    pair = Pair(mount, store, keyring, mode, excl="open")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    fd = os.open(pair.a / "f", flags)
    assert pair.store.keys() == ["f"] and pair.stored("f") == b""
    with fails(errno.EEXIST):
        os.open(pair.b / "f", flags)
    os.write(fd, b"of A")
    os.close(fd)
    pair.sync(pair.a)
    assert pair.stored("f") == b"of A"
    won, problems = {pair.a: set(), pair.b: set()}, []

    def race(site):
        try:
            for n in range(12):
                with contextlib.suppress(FileExistsError):
                    fd = os.open(site / ("race%d" % n), flags)
                    won[site].add(n)
                    os.write(fd, site.path.encode())
                    os.close(fd)
        except OSError as e:
            problems.append(e)

    threads = [threading.Thread(target=race, args=[site]) for site in won]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems
    assert not won[pair.a] & won[pair.b] and len(won[pair.a] | won[pair.b]) == 12, won
    for site, names in won.items():
        pair.sync(site)
        for n in names:
            assert pair.stored("race%d" % n) == site.path.encode()
    assert len(pair.store.keys()) == 13, pair.store.keys()
    # Without O_EXCL nothing is sent before the close.
    store.proxy.reset()
    fd = os.open(pair.a / "g", os.O_WRONLY | os.O_CREAT)
    assert store.proxy.counts().get("PUT", 0) == 0
    os.close(fd)


def test_create_at_open_refused(versity_store, mount, keyring, tmp_path):
    """A store that is known not to honour the condition."""
    options = versity_store.options(cache_dir=str(tmp_path / "cache"))
    mount(versity_store.source, **options).umount()
    journal = sqlite3.connect(str(tmp_path / "cache" / "state" / "journal.db"))
    journal.execute("UPDATE caps SET bits = bits & ~1")
    journal.commit()
    journal.close()
    status, text = mount(versity_store.source, wait=False, excl="open", **options).fail()
    assert status != 0 and text.count("\n") == 1 and "excl=open needs a store that honours If-None-Match" in text, text
    mount(versity_store.source, **options).umount()


def test_deleted(pair):
    """B deletes what A has open for writing: A's version is not lost."""
    pair.write(pair.b, "f", blob(SMALL, 1))
    fd = os.open(pair.a / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, blob(SMALL, 2))
    os.unlink(pair.b / "f")
    pair.sync(pair.b)
    with contextlib.suppress(OSError):
        os.close(fd)
    pair.sync(pair.a)
    kept = pair.store.keys()
    assert len(kept) == 1 and pair.stored(kept[0]) == blob(SMALL, 2), (kept, pair.a.m.text())


def all_stored(pair):
    return {pair.stored(k) for k in pair.store.keys() if not k.endswith("/")}


def test_unlink(request, trusting_pair):
    """What B wrote since A saw the name is not what A deletes."""
    pair = trusting_pair
    pair.write(pair.b, "f", b"first")
    assert read_file(pair.a / "f") == b"first"
    pair.write(pair.b, "f", b"second")
    with contextlib.suppress(OSError):
        os.unlink(pair.a / "f")
    pair.sync(pair.a)
    assert b"second" in all_stored(pair), pair.a.m.text()
    assert read_file(pair.b / "f") == b"second"


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "new"])
def test_rename_over(trusting_pair, stored):
    """What B wrote since A saw the name is not what A replaces by a rename."""
    pair = trusting_pair
    for name in ("f", "g"):
        pair.write(pair.b, name, b"first")
        assert read_file(pair.a / name) == b"first"
    write_file(pair.a / "tmp", b"of A")
    if stored:
        pair.sync(pair.a)
    pair.write(pair.b, "f", b"second")
    if stored or pair.mode == "close":
        with fails(errno.EBUSY):
            os.rename(pair.a / "tmp", pair.a / "f")
        assert "another machine has written f" in pair.a.m.text()
        assert pair.stored("f") == b"second" and pair.stored("tmp") == b"of A"
        assert read_file(pair.a / "tmp") == b"of A"
        assert read_file(pair.a / "f") == b"second"  # looked at by now
    else:
        os.rename(pair.a / "tmp", pair.a / "f")
        pair.sync(pair.a)
        assert pair.stored("f") == b"second"
        pair.lost(pair.a, "f", b"of A")
        write_file(pair.a / "tmp", b"of A")
    # What was seen goes.
    for name in ("f", "g"):
        os.rename(pair.a / "tmp", pair.a / name)
        write_file(pair.a / "tmp", b"of A")
    pair.sync(pair.a)
    assert pair.stored("f") == pair.stored("g") == b"of A"


def test_rename_over_attributes(trusting_pair):
    """Other attributes do not make another file of it."""
    pair = trusting_pair
    pair.write(pair.b, "f", b"first")
    assert read_file(pair.a / "f") == b"first"
    pair.write(pair.a, "tmp", b"of A")
    os.chmod(pair.b / "f", 0o600)
    pair.sync(pair.b)
    os.rename(pair.a / "tmp", pair.a / "f")
    pair.sync(pair.a)
    assert pair.stored("f") == b"of A"


def test_attributes_of_new_content(trusting_pair):
    """A changes attributes of what B has written since: B's content stays, and can be read."""
    pair = trusting_pair
    for name, data in (("f", b"first"), ("empty", b"")):
        pair.write(pair.b, name, data)
        assert read_file(pair.a / name) == data
        pair.write(pair.b, name, b"second")
        with contextlib.suppress(OSError):
            os.chmod(pair.a / name, 0o600)
        pair.sync(pair.a)
        assert pair.stored(name) == b"second", pair.a.m.text()
        pair.b.remount()
        assert read_file(pair.b / name) == b"second"
        assert os.stat(pair.b / name).st_mode & 0o7777 == 0o600


def test_rename_over_new(trusting_pair):
    """A name that was not there when A looked a while ago, and which B has made since."""
    pair = trusting_pair
    pair.write(pair.a, "tmp", b"of A")
    assert os.listdir(pair.a.path) == ["tmp"]
    pair.write(pair.b, "f", b"of B")
    time.sleep(5.5)
    with fails(errno.EBUSY):
        os.rename(pair.a / "tmp", pair.a / "f")
    assert pair.stored("f") == b"of B" and pair.stored("tmp") == b"of A"


def test_rename(trusting_pair):
    """Renamed: what B wrote since is there, under the old name or the new."""
    pair = trusting_pair
    os.mkdir(pair.b / "d")
    for name in ("f", "d/f", "d/g"):
        pair.write(pair.b, name, b"first")
        assert read_file(pair.a / name) == b"first"
    for name in ("f", "d/f"):
        pair.write(pair.b, name, b"second of " + name.encode())
    for old, new in (("f", "moved"), ("d", "e")):
        with contextlib.suppress(OSError):
            os.rename(pair.a / old, pair.a / new)
    pair.sync(pair.a)
    found = all_stored(pair)
    assert {b"second of f", b"second of d/f", b"first"} <= found, (found, pair.store.keys(), pair.a.m.text())


def test_mkdir(pair):
    """One directory made by both is one directory; what each put into it is there."""
    os.mkdir(pair.a / "d")
    pair.sync(pair.a)
    with fails(errno.EEXIST):
        os.mkdir(pair.b / "d")
    if pair.mode == "writeback":  # both promised before either was sent
        for n in range(10):
            for site in (pair.a, pair.b):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(site / ("both%d" % n))
        pair.sync(pair.a)
        pair.sync(pair.b)
        for n in range(10):
            os.rmdir(pair.a / ("both%d" % n))
        pair.sync(pair.a)
    pair.write(pair.a, "d/a", b"of A")
    pair.write(pair.b, "d/b", b"of B")
    assert sorted(pair.store.keys()) == ["d/", "d/a", "d/b"]
    for site in (pair.a, pair.b):
        site.remount()
        assert sorted(os.listdir(site / "d")) == ["a", "b"]
        assert read_file(site / "d/a") == b"of A" and read_file(site / "d/b") == b"of B"
    # A directory that has got a file meanwhile is not empty.
    os.mkdir(pair.a / "e")
    pair.sync(pair.a)
    assert os.listdir(pair.a / "e") == []
    wait_for(lambda: "e/" in pair.store.keys(), what="the directory in the store")
    third = pair.site()
    pair.write(third, "e/f", b"of the third")
    with contextlib.suppress(OSError):
        os.rmdir(pair.a / "e")
    pair.sync(pair.a)
    assert "e/f" in pair.store.keys()


def test_without_conditions(rgw_store, mount, keyring):
    """Where the store honours none, for the ends of uploads: said once by each mount, and looked at before each."""
    pair = Pair(mount, rgw_store, keyring, "close", ttl=0)
    large = blob(9 * MIB, 1)
    for n in range(3):
        pair.write(pair.a, "f", large + b"%d" % n)
    assert pair.a.m.text().count(WARNED) == 1
    assert WARNED not in pair.b.m.text()
    fd = os.open(pair.a / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, large)
    rgw_store.proxy.reset()
    os.close(fd)
    counts = rgw_store.proxy.counts()
    assert counts.get("HEAD", 0) + counts.get("GET", 0) >= 1 and counts["COMPLETE"] == 1, counts


@pytest.mark.parametrize("store", ["rgw_store", "versity_store"])
def test_with_conditions(store, request, mount, keyring):
    """Neither said nor looked at, and the other machine's version is not replaced."""
    store = request.getfixturevalue(store)
    pair = Pair(mount, store, keyring, "close", ttl=0)
    pair.write(pair.a, "f", b"0")
    fd = os.open(pair.a / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"x")
    store.proxy.reset()
    os.close(fd)
    counts = store.proxy.counts()
    assert counts.get("HEAD", 0) + counts.get("GET", 0) == 0 and counts["PUT"] == 1, counts
    assert WARNED not in pair.a.m.text()


def version(n, size=20 * MIB):
    """Bytes that tell of themselves which version they are of, at every place."""
    return b"".join(b"%c%07x" % (65 + n, at) for at in range(size // 8))


def one_version(data, size=20 * MIB):
    """The number of the version of which data is all; an AssertionError for a mixture."""
    assert len(data) == size and data[0] >= 65, len(data)
    assert data == version(data[0] - 65, size), "a mixture of versions"
    return data[0] - 65


@pytest.mark.parametrize("store", ["versitygw", LONG_RADOSGW], indirect=True)
@pytest.mark.parametrize("pair", ["close", pytest.param("writeback", marks=pytest.mark.long)], indirect=True)
def test_reader_of_old_version(pair):
    """B replaces a file while A reads it slowly: the open file is of one version to its end, or ESTALE."""
    pair.write(pair.b, "f", version(0))
    pair.a.remount(ttl=1)
    stale = False
    with open(pair.a / "f", "rb", buffering=0) as f:
        view = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)  # what is in the page cache stays in it
        expected, got = version(0), f.read(3 * MIB)
        assert view[:MIB] == expected[:MIB]
        pair.write(pair.b, "f", version(1))
        while len(got) < len(expected):
            try:
                got += f.read(256 << 10)
            except OSError as e:
                assert e.errno == errno.ESTALE
                stale = True
                break
            time.sleep(0.02)
            if len(got) > 10 * MIB:  # somebody else looks at it meanwhile
                with contextlib.suppress(OSError):
                    os.stat(pair.a / "f")
        assert got == expected[:len(got)], "not the old version"
        assert stale or len(got) == len(expected)
        assert os.pread(f.fileno(), MIB, 0) == expected[:MIB] or stale
        # A new opening, with the old one still there: the new version, and none of the old one's pages.
        assert wait_for(lambda: one_version(read_file(pair.a / "f")) == 1, 10, "the new version")
        assert view[:MIB] == expected[:MIB]
        view.close()


@pytest.mark.long
@pytest.mark.parametrize("options", [{"ttl": 1}, {"consistency": "open"}], ids=["ttl", "open"])
def test_readers_and_a_writer(store, mount, keyring, options):
    """Whole files, read again and again while another machine replaces them: each of one version, never an older one."""
    pair = Pair(mount, store, keyring, "close", **options)
    size, done = 3 * MIB, threading.Event()
    pair.write(pair.b, "f", version(0, size))
    problems, seen = [], set()

    def reader():
        last = 0
        while not done.is_set():
            try:
                now = one_version(read_file(pair.a / "f"), size)
                if now < last:
                    problems.append("%d after %d" % (now, last))
                last = now
                seen.add(now)
            except OSError as e:
                if e.errno != errno.ESTALE:
                    problems.append(e)
            except AssertionError as e:
                problems.append(e)

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for t in threads:
        t.start()
    for n in range(1, 8):
        time.sleep(0.3)
        write_file(pair.b / "f", version(n, size))
    time.sleep(0.3)
    done.set()
    for t in threads:
        t.join()
    assert not problems, problems[:5]
    assert len(seen) > 1
    time.sleep(options.get("ttl", 0))
    assert one_version(read_file(pair.a / "f"), size) == 7


def test_close_to_open(store, mount, keyring):
    """consistency=open: each open sees what was closed before, in both directions, however long the ttl."""
    pair = Pair(mount, store, keyring, "close", consistency="open", ttl=3600)
    for n in range(6):
        writer, reader = (pair.a, pair.b) if n % 2 else (pair.b, pair.a)
        data = b"version %d " % n * (n + 1)
        write_file(writer / "f", data)
        assert read_file(reader / "f") == data
        with open(reader / "f", "ab") as f:
            f.write(b"+")
        assert read_file(writer / "f") == data + b"+"
    assert pair.conflicts("f") == []


@pytest.mark.parametrize("store", ["versitygw", LONG_RADOSGW], indirect=True)
def test_ttl(store, mount, keyring):
    """What is known stays valid for ttl: after that a change, a new name and a name that is gone are seen."""
    pair = Pair(mount, store, keyring, "close", ttl=2)
    for name in ("f", "gone"):
        pair.write(pair.b, name, b"one")
    assert sorted(os.listdir(pair.a.path)) == ["f", "gone"]
    assert read_file(pair.a / "f") == b"one" and read_file(pair.a / "gone") == b"one"
    assert not os.path.exists(pair.a / "new")
    store.proxy.reset()
    for _ in range(20):
        assert read_file(pair.a / "f") == b"one"
    assert sum(v for k, v in store.proxy.counts().items() if k in ("GET", "HEAD", "LIST")) == 0
    pair.write(pair.b, "f", b"two, and longer")
    pair.write(pair.b, "new", b"new")
    os.unlink(pair.b / "gone")
    time.sleep(2.5)
    assert read_file(pair.a / "f") == b"two, and longer"
    assert os.stat(pair.a / "f").st_size == 15
    assert read_file(pair.a / "new") == b"new"
    with fails(errno.ENOENT):
        read_file(pair.a / "gone")
    assert sorted(os.listdir(pair.a.path)) == ["f", "new"]
