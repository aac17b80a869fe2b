# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Mounts of real servers over TLS in every mode, with boto3 as the independent look
into the bucket: is it ciphertext, of the right mode, readable by others; and
with objects that others put there.
"""
import contextlib
import errno
import os
import stat
import threading

import pytest
from botocore.exceptions import ClientError

import decoder
from harness import CTL, MARKER, Site, blob, fails, read_file, run, wait_for, write_file

from test_files import exercise, exercise_tree

CHUNK, SEGMENT = decoder.CHUNK, decoder.SEGMENT
MIB = 1 << 20


class Mode:
    """How an object of a mount is seen from outside."""

    def __init__(self, name, store, keyring):
        self.name, self.store, self.keyring, self.options = name, store, keyring, {"enc": name}
        if name == "sse-c-shared":
            self.shared = keyring.add_shared()
            self.options = {"enc": "sse-c", "ssec_key": "shared"}

    def init(self):
        """Makes the volume where objects lie already."""
        if self.name != "none":
            options = dict(self.store.options(**self.options), keyring=self.keyring.path)
            env = dict(os.environ, **options.pop("env"))
            run(CTL, "init", "-o", ",".join("%s=%s" % pair for pair in options.items()), self.store.source, env=env)

    def headers(self, key):
        """What boto3 needs to read the object."""
        if self.name == "sse-c":
            volume = self.store.volume(self.keyring)
            secret, _ = decoder.ssec_key(self.keyring.secret(), volume.id, key)
        elif self.name == "sse-c-shared":
            secret = self.shared
        else:
            return {}
        return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": secret}

    def plain(self, key):
        """The content, got independently; what the mode promises of the stored object is checked."""
        if self.name == "cse-key":
            found = self.store.decode(self.keyring, key)
            assert MARKER not in self.store.body_of(key)
            return found.plaintext()
        if self.name.startswith("sse-c"):
            for wrong in ({}, {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"w" * 32}):
                if self.store.head(key, **self.headers(key))["ContentLength"] == 0 and not wrong:
                    continue
                with pytest.raises(ClientError):
                    self.store.get(key, **wrong)
        return self.store.body_of(key, **self.headers(key))

    def attributes(self, key):
        if self.name == "cse-key":
            return self.store.decode(self.keyring, key).attrs
        meta = self.store.meta_of(key, **self.headers(key))
        return decoder.parse_attributes(meta)

    def put(self, key, body, **kw):
        self.store.put(key, body, **dict(self.headers(key), **kw))


def modes(*names):
    return pytest.mark.parametrize("mode", names or ["cse-key", "sse-c", "sse-c-shared", "none"], indirect=True)


@pytest.fixture
def mode(request, rgw_store, keyring):
    return Mode(request.param, rgw_store, keyring)


@pytest.fixture
def site(mode, mount):
    return Site(mount, mode.store, **mode.options)


@modes("none", "sse-c-shared")
def test_foreign_metadata(site, mode):
    """What other programs set on an object stays with it when it is renamed or its attributes change."""
    headers = {"ContentType": "text/html; charset=utf-8", "CacheControl": "max-age=60", "ContentDisposition": 'attachment; filename="a b.html"',
               "ContentEncoding": "gzip", "ContentLanguage": "en", "Expires": "Thu, 01 Dec 2033 16:00:00 GMT"}
    theirs = {"author": "somebody", "sha256": "0" * 64}
    big = {"padding%d" % n: "p" * 192 for n in range(10)}
    for key in ("page", "folder/page", "folder/sub/page"):
        mode.put(key, MARKER, Metadata=theirs, **headers)
    mode.put("full", MARKER, Metadata=big)
    before = mode.store.head("page", **mode.headers("page"))

    def check(key, permissions):
        head = mode.store.head(key, **mode.headers(key))
        for name in list(headers) + ["ContentType"]:
            assert head.get(name) == before.get(name), (key, name)
        assert before.get("CacheControl") and before.get("ContentDisposition")
        assert dict(head["Metadata"], **theirs) == head["Metadata"]
        assert stat.S_IMODE(int(head["Metadata"]["mode"])) == permissions
        assert mode.plain(key) == MARKER

    os.chmod(site / "page", 0o640)
    check("page", 0o640)
    os.rename(site / "page", site / "renamed")
    check("renamed", 0o640)
    os.utime(site / "renamed", ns=(10**18, 10**18))
    check("renamed", 0o640)
    mode_of = stat.S_IMODE(os.stat(site / "folder/page").st_mode)
    os.rename(site / "folder", site / "moved")
    check("moved/page", mode_of)
    check("moved/sub/page", mode_of)
    site.remount()
    os.rename(site / "moved/page", site / "again")
    check("again", mode_of)
    # New content keeps what says how it is served; what may describe the former content goes.
    for data in (b"new", blob(SEGMENT + 5000), b"small again"):
        write_file(site / "again", data)
        os.rename(site / "again", site / "renewed")
        os.rename(site / "renewed", site / "again")
        run(CTL, "sync", site.path)
        head = mode.store.head("again", **mode.headers("again"))
        for name in headers:
            assert head.get(name) == before.get(name), (len(data), name, head)
        assert not set(theirs) & set(head["Metadata"])
        assert mode.plain("again") == data
    # There is no room for both.
    with fails(errno.ENOSPC):
        os.chmod(site / "full", 0o600)
    os.rename(site / "full", site / "still full")
    assert mode.store.meta_of("still full", **mode.headers("still full")) == big
    assert read_file(site / "still full") == MARKER


@modes()
def test_create_read_overwrite(site, mode):
    contents = {"small": MARKER, "empty": b"", "chunk": blob(CHUNK, 1), "some": MARKER + blob(300000, 2),
                "a folder/name with \u00fc + % & ?": MARKER, "segment": blob(SEGMENT, 3)}
    os.mkdir(site / "a folder")
    for name, data in contents.items():
        write_file(site / name, data)
        assert mode.plain(name) == data
    assert sorted(mode.store.keys()) == sorted(list(contents) + ["a folder/"])
    site.remount()
    for name, data in contents.items():
        assert read_file(site / name) == data
        with open(site / name, "rb") as f:
            f.seek(len(data) // 2)
            assert f.read(1000) == data[len(data) // 2:][:1000]
    write_file(site / "some", b"shorter " + MARKER)
    assert mode.plain("some") == b"shorter " + MARKER
    write_file(site / "small", b" appended", "ab")
    assert mode.plain("small") == MARKER + b" appended"
    os.truncate(site / "chunk", 5000)
    os.truncate(site / "segment", SEGMENT + 1000)
    assert mode.plain("chunk") == contents["chunk"][:5000]
    assert mode.plain("segment") == contents["segment"] + bytes(1000)
    site.remount()
    assert read_file(site / "some") == b"shorter " + MARKER
    assert read_file(site / "small") == MARKER + b" appended"
    assert read_file(site / "chunk") == contents["chunk"][:5000]
    assert read_file(site / "segment") == contents["segment"] + bytes(1000)


@modes()
def test_large(site, mode):
    """40 MiB: streamed parts, ranges, partial rewrites, truncation, appending."""
    data = bytearray(blob(40 * MIB, 1))
    write_file(site / "large", data)
    assert mode.plain("large") == data
    site.remount()
    fd = os.open(site / "large", os.O_RDONLY)
    for at in (0, 39 * MIB, SEGMENT - 100, 3 * SEGMENT - 1, 17 * MIB + 13):
        assert os.pread(fd, 70000, at) == data[at:at + 70000]
    os.close(fd)
    fd = os.open(site / "large", os.O_RDWR)
    for at, piece in ((10, b"one"), (2 * SEGMENT - 5, blob(100, 2)), (40 * MIB - 3, b"at the end")):
        os.pwrite(fd, piece, at)
        data[at:at + len(piece)] = piece
    os.fsync(fd)
    assert mode.plain("large") == data
    os.close(fd)
    write_file(site / "large", MARKER, "ab")
    data += MARKER
    assert mode.plain("large") == data
    os.truncate(site / "large", 20 * MIB + 5)
    del data[20 * MIB + 5:]
    assert mode.plain("large") == data
    site.remount()
    assert read_file(site / "large") == data
    os.truncate(site / "large", 1000)
    assert mode.plain("large") == data[:1000]
    assert mode.store.uploads() == []


@modes()
def test_attributes(site, mode):
    write_file(site / "f", MARKER)
    write_file(site / "large", blob(SEGMENT + 100))
    os.mkdir(site / "d")
    for n, name in enumerate(("f", "large", "d")):
        os.chmod(site / name, 0o751)
        os.chown(site / name, 11 + n, 22 + n)
        os.utime(site / name, ns=(10**18 + 1, 11 * 10**17 + 5))
    run(CTL, "sync", site.path)  # those of what was just written go together
    for key in ("f", "large"):
        found = mode.attributes(key)
        assert (stat.S_IMODE(found["mode"]), found["mtime"], found["atime"]) == (0o751, 11 * 10**17 + 5, 10**18 + 1)
    assert mode.plain("f") == MARKER  # still of the same mode
    assert mode.plain("large") == blob(SEGMENT + 100)
    if mode.name == "none":
        meta = mode.store.meta_of("f")
        assert (meta["mode"], meta["uid"], meta["gid"], meta["mtime"]) == (str(0o100751), "11", "22", "1100000000.000000005")
    for _ in range(2):
        for n, name in enumerate(("f", "large", "d")):
            st = os.stat(site / name)
            assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns) == (0o751, 11 + n, 22 + n, 11 * 10**17 + 5), name
        site.remount()
    write_file(site / "f", b"changed")
    assert os.stat(site / "f").st_uid == 11
    assert mode.attributes("f")["uid"] == 11 and mode.plain("f") == b"changed"


@modes("cse-key", "sse-c", "none")
def test_attributes_while_writing(site, mode):
    """chmod and utimens by path, in the middle of uploads and between write and close, cost no byte."""
    data = blob(2 * SEGMENT + 100, 1)
    for n in range(4):
        name, stop, changes = "f%d" % n, threading.Event(), []

        def change():
            while not stop.is_set():
                with contextlib.suppress(FileNotFoundError):
                    os.chmod(site / name, 0o600 + len(changes) % 8)
                    os.utime(site / name, (1, 1))
                    changes.append(1)

        changer = threading.Thread(target=change)
        changer.start()
        try:
            with open(site / name, "wb", buffering=0) as f:
                for at in range(0, len(data), 1 << 20):
                    f.write(data[at:at + (1 << 20)])
                    if n % 2 and at == SEGMENT:
                        os.fsync(f.fileno())
                wait_for(lambda: changes, 10, "a change of attributes")
        finally:
            stop.set()
            changer.join()
        os.chmod(site / name, 0o640)
        os.utime(site / name, (5, 6))
        assert mode.plain(name) == data
    site.remount()
    for n in range(4):
        st = os.stat(site / ("f%d" % n))
        assert (st.st_size, st.st_mode & 0o777, st.st_mtime) == (len(data), 0o640, 6)
        assert read_file(site / ("f%d" % n)) == data


@modes()
def test_rename(site, mode):
    """Also where the store cannot copy what it encrypted (radosgw answers 501 for sse-c)."""
    write_file(site / "a", MARKER)
    write_file(site / "b", b"over")
    os.chmod(site / "a", 0o640)
    os.rename(site / "a", site / "b")
    assert mode.store.keys() == ["b"] and mode.plain("b") == MARKER
    large = blob(SEGMENT + 5000, 1)
    os.mkdir(site / "d")
    write_file(site / "d/large", large)
    for n in range(12):
        os.makedirs(site / ("d/s%d" % (n % 3)), exist_ok=True)
        write_file(site / ("d/s%d/%d" % (n % 3, n)), MARKER + b"%d" % n)
    os.rename(site / "d", site / "e")
    small = ["e/s%d/%d" % (n % 3, n) for n in range(12)]
    assert sorted(mode.store.keys()) == sorted(["b", "e/", "e/large", "e/s0/", "e/s1/", "e/s2/"] + small)
    assert mode.plain("e/large") == large and mode.plain("e/s2/5") == MARKER + b"5"
    site.remount()
    assert sorted(os.listdir(site.path)) == ["b", "e"] and stat.S_IMODE(os.stat(site / "b").st_mode) == 0o640
    assert read_file(site / "e/large") == large and read_file(site / "e/s1/4") == MARKER + b"4"
    with fails(errno.ENOENT):
        os.stat(site / "d/large")


@modes()
def test_names(site, mode):
    os.makedirs(site / "x/y/empty")
    write_file(site / "x/f", MARKER)
    os.symlink("../target of link", site / "x/link")
    site.remount()
    assert sorted(os.listdir(site / "x")) == ["f", "link", "y"]
    assert os.readlink(site / "x/link") == "../target of link"
    assert stat.S_ISLNK(os.lstat(site / "x/link").st_mode)
    assert os.listdir(site / "x/y/empty") == []
    assert sorted(mode.store.keys()) == ["x/", "x/f", "x/link", "x/y/", "x/y/empty/"]
    assert stat.S_ISLNK(mode.attributes("x/link")["mode"]) and mode.plain("x/link") == b"../target of link"
    with fails(errno.ENOTEMPTY):
        os.rmdir(site / "x")
    with fails(errno.EEXIST):
        os.mkdir(site / "x/y")
    os.unlink(site / "x/f")
    os.unlink(site / "x/link")
    os.rmdir(site / "x/y/empty")
    os.rmdir(site / "x/y")
    assert mode.store.keys() == ["x/"] and os.listdir(site / "x") == []
    os.rmdir(site / "x")
    assert mode.store.keys() == []


@modes()
def test_prefix_and_fstab_source(mode, mount):
    """bucket:/prefix; what is beside the prefix is neither seen nor touched."""
    mode.store.put("beside", b"not ours")
    mode.store.put("in/sidecar", b"not ours")
    mode.store.source = mode.store.bucket + ":/in/here"
    site = Site(mount, mode.store, **mode.options)
    write_file(site / "f", MARKER)
    assert os.listdir(site.path) == ["f"]
    site.remount()
    assert read_file(site / "f") == MARKER
    assert sorted(k for k in mode.store.all_keys() if "/.s3cryptfs/" not in k) == ["beside", "in/here/f", "in/sidecar"]
    if mode.name == "cse-key":
        assert mode.store.decode(mode.keyring, "in/here/f", "in/here/").plaintext() == MARKER


@modes("cse-key", "sse-c", "none")
def test_random_names(site, mode):
    exercise_tree(site, 5, 200)


@modes("cse-key", "sse-c", "none")
def test_random_operations(site, mode):
    shadow = exercise(site, 6, 100, 2 * SEGMENT + CHUNK)
    site.remount()
    for name, data in shadow.items():
        assert read_file(site / name) == data
        assert mode.plain(name) == data


ODD_KEYS = ["odd//b", "odd/.", "odd/..", "odd/./x", "odd/../y", "/lead", "odd/both", "odd/both/", "odd/twin", "odd/twin/below", "//"]


@modes("none", "sse-c-shared", "cse-key")
def test_odd_keys(mode, mount):
    """Keys that are no valid names neither crash it nor hide valid ones."""
    if mode.name == "cse-key":
        # Objects without a seal are listed and refused.
        site = Site(mount, mode.store, **mode.options)
        os.mkdir(site / "odd")
        write_file(site / "odd/good", MARKER)
        for key in ODD_KEYS:
            mode.store.put(key, b"odd")
        site.remount()
        assert "good" in os.listdir(site / "odd")
        assert read_file(site / "odd/good") == MARKER
        for name in ("odd/both", "odd/twin"):
            with fails(errno.EIO, errno.EISDIR):
                read_file(site / name)
        write_file(site / "odd/new", MARKER)
        assert set(ODD_KEYS) <= set(mode.store.keys())
        return
    for key in ODD_KEYS:
        mode.put(key, key.encode())
    mode.put("odd/good", MARKER)
    mode.init()
    site = Site(mount, mode.store, **mode.options)
    for _ in range(2):
        assert "odd" in os.listdir(site.path)
        names = os.listdir(site / "odd")
        assert "good" in names and "both" in names and "twin" in names
        assert len(names) == len(set(names)) and not {"", ".", ".."} & set(names)
        assert read_file(site / "odd/good") == MARKER
        for name in names:
            path = site / ("odd/" + name)
            st = os.stat(path)
            if stat.S_ISREG(st.st_mode):
                read_file(path)
            else:
                for below in os.listdir(path):
                    os.lstat(os.path.join(path, below))
        site.remount()
    write_file(site / "odd/new", MARKER)
    assert mode.plain("odd/new") == MARKER
    assert set(ODD_KEYS) <= set(mode.store.keys())


@modes("none", "sse-c-shared")
def test_objects_of_others(mode, mount):
    """What boto3 put shows up, with defaults for the attributes; directories need no objects."""
    mode.put("top.txt", MARKER, ContentType="text/plain")
    mode.put("im/pli/cit.bin", blob(2 * SEGMENT, 1))
    mode.put("im/attrs", b"x", Metadata={"mode": str(0o100604), "uid": "77", "gid": "88", "mtime": "1234567890"})
    mode.init()
    site = Site(mount, mode.store, **dict(mode.options, uid=5, gid=6, umask="027"))
    assert sorted(os.listdir(site.path)) == ["im", "top.txt"]
    assert os.listdir(site / "im/pli") == ["cit.bin"]
    assert read_file(site / "top.txt") == MARKER and read_file(site / "im/pli/cit.bin") == blob(2 * SEGMENT, 1)
    st = os.stat(site / "top.txt")
    assert (st.st_mode, st.st_uid, st.st_gid, st.st_size) == (0o100640, 5, 6, len(MARKER))
    assert abs(st.st_mtime - mode.store.head("top.txt", **mode.headers("top.txt"))["LastModified"].timestamp()) < 2
    st = os.stat(site / "im/pli")
    assert (st.st_mode, st.st_uid) == (0o040750, 5)
    st = os.stat(site / "im/attrs")
    assert (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns) == (0o100604, 77, 88, 1234567890 * 10**9)
    write_file(site / "top.txt", b"+", "ab")
    assert mode.plain("top.txt") == MARKER + b"+"
    os.unlink(site / "im/pli/cit.bin")
    assert os.listdir(site / "im/pli") == []
    # Another one changes a file; after the attributes' ttl it is seen.
    site.remount(ttl=0)
    assert read_file(site / "top.txt") == MARKER + b"+"
    mode.put("top.txt", b"changed by another client")
    mode.put("new.txt", b"new")
    assert read_file(site / "top.txt") == b"changed by another client"
    assert read_file(site / "new.txt") == b"new"
    mode.store.client.delete_object(Bucket=mode.store.bucket, Key="new.txt")
    with fails(errno.ENOENT):
        read_file(site / "new.txt")


@modes("cse-key")
def test_plain_object_is_never_served(site, mode):
    """A mount that encrypts does not give out what nobody encrypted; with accept= it does."""
    mode.store.put("planted", b"planted by the store")
    write_file(site / "good", MARKER)
    site.remount()
    assert sorted(os.listdir(site.path)) == ["good", "planted"]
    with fails(errno.EIO):
        read_file(site / "planted")
    assert "planted" in site.m.text()
    site.remount(accept="sealed:plain")
    assert read_file(site / "planted") == b"planted by the store"
    assert read_file(site / "good") == MARKER


@modes("sse-c")
def test_key_of_another(site, mode):
    """sse-c: an object under a key that is not ours is refused, the others are not affected."""
    write_file(site / "good", MARKER)
    mode.store.put("alien", b"x" * 100, SSECustomerAlgorithm="AES256", SSECustomerKey=b"z" * 32)
    site.remount()
    assert "alien" in os.listdir(site.path)
    with fails(errno.EACCES, errno.EIO):
        read_file(site / "alien")
    assert read_file(site / "good") == MARKER
    assert "alien" in site.m.text()


@pytest.fixture(params=["cse-key", "none"])
def gateway(request, versity_store, keyring):
    return Mode(request.param, versity_store, keyring)


def test_versitygw(gateway, mount):
    """The main operations on a store that honours conditions."""
    site = Site(mount, gateway.store, **gateway.options)
    large = bytearray(blob(3 * SEGMENT + 77, 1))
    os.mkdir(site / "d")
    write_file(site / "d/f", MARKER)
    write_file(site / "d/f", b"again " + MARKER)
    write_file(site / "large", large)
    with open(site / "large", "r+b") as f:
        f.seek(SEGMENT + 5)
        f.write(MARKER)
    large[SEGMENT + 5:SEGMENT + 5 + len(MARKER)] = MARKER
    os.chmod(site / "d/f", 0o600)
    os.rename(site / "d/f", site / "d/g")
    os.rename(site / "d", site / "e")
    os.symlink("t", site / "link")
    assert sorted(gateway.store.keys()) == ["e/", "e/g", "large", "link"]
    assert gateway.plain("e/g") == b"again " + MARKER and gateway.plain("large") == large
    site.remount()
    assert read_file(site / "e/g") == b"again " + MARKER and read_file(site / "large") == large
    assert stat.S_IMODE(os.stat(site / "e/g").st_mode) == 0o600 and os.readlink(site / "link") == "t"
    for name in ("e/g", "large", "link"):
        os.unlink(site / name)
    os.rmdir(site / "e")
    assert gateway.store.keys() == []


@pytest.mark.parametrize("size", [100, 2 * SEGMENT + 100])
def test_two_machines_change_one_file(gateway, mount, size):
    """The second to close gets ESTALE; the first one's content stays."""
    a, b = Site(mount, gateway.store, **gateway.options), None
    write_file(a / "f", blob(size, 1))
    b = Site(mount, gateway.store, **gateway.options)
    fa, fb = os.open(a / "f", os.O_RDWR), os.open(b / "f", os.O_RDWR)
    assert os.pread(fb, 50, 0) == blob(size, 1)[:50]
    os.pwrite(fa, b"from A", 0)
    os.pwrite(fb, b"from B", 10)
    os.close(fa)
    with fails(errno.ESTALE):
        os.close(fb)
    expected = bytearray(blob(size, 1))
    expected[:6] = b"from A"
    assert gateway.plain("f") == expected
    assert "f" in b.m.text()
    b.m.umount()  # its status tells that something was not stored
    assert gateway.plain("f") == expected
    assert read_file(a / "f") == expected


def test_two_machines_create_one_file(gateway, mount):
    a, b = (Site(mount, gateway.store, **gateway.options) for _ in range(2))
    fa = os.open(a / "f", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    fb = os.open(b / "f", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fa, b"A" * 50)
    os.write(fb, b"B" * 60)
    os.close(fa)
    with fails(errno.ESTALE, errno.EEXIST):
        os.close(fb)
    assert gateway.plain("f") == b"A" * 50
    os.mkdir(a / "d")
    with fails(errno.EEXIST):
        os.mkdir(b / "d")
    b.m.umount()
    assert gateway.plain("f") == b"A" * 50


def test_close_to_open(gateway, mount):
    """consistency=open: what another machine closed is what the next open reads, whatever ttl says."""
    a = Site(mount, gateway.store, **gateway.options)
    b = Site(mount, gateway.store, **dict(gateway.options, consistency="open", ttl=3600))
    write_file(a / "f", b"one")
    assert read_file(b / "f") == b"one"
    for n in range(5):
        write_file(a / "f", b"version %d" % n * (n + 1))
        assert read_file(b / "f") == b"version %d" % n * (n + 1)


def test_other_machine_replaces_while_open(gateway, mount):
    """A reader gets one version or ESTALE, never a mixture."""
    a = Site(mount, gateway.store, **gateway.options)
    old, new = b"o" * (3 * SEGMENT), b"n" * (3 * SEGMENT)
    write_file(a / "f", old)
    b = Site(mount, gateway.store, **gateway.options)
    fd = os.open(b / "f", os.O_RDONLY)
    assert os.pread(fd, 1000, 0) == old[:1000]
    write_file(a / "f", new)
    try:
        assert os.pread(fd, 1000, 2 * SEGMENT) == old[:1000]
    except OSError as e:
        assert e.errno == errno.ESTALE
    os.close(fd)
    # A change of attributes is no new version of the content.
    b.remount()
    fd = os.open(b / "f", os.O_RDONLY)
    assert os.pread(fd, 1000, 0) == new[:1000]
    os.chmod(a / "f", 0o600)
    if gateway.name == "cse-key":
        assert os.pread(fd, 1000, 2 * SEGMENT) == new[:1000]
    os.close(fd)


@pytest.mark.parametrize("checksum", ["crc32c", "crc64nvme", "auto"])
def test_checksums(versity_store, mount, keyring, checksum):
    """They are sent with objects and parts, and the server, which checks them, is content."""
    site = Site(mount, versity_store, checksum=checksum)
    versity_store.proxy.reset()
    write_file(site / "small", MARKER)
    write_file(site / "large", blob(2 * SEGMENT + 5))
    counts = versity_store.proxy.counts()
    if checksum != "auto":
        assert counts.get("checksum_" + checksum, 0) >= counts["PUT"] + counts["PART"], counts
    if checksum == "crc32c":
        told = versity_store.head("small", ChecksumMode="ENABLED")
        assert told.get("ChecksumCRC32C"), told
    site.remount()
    assert read_file(site / "small") == MARKER and read_file(site / "large") == blob(2 * SEGMENT + 5)


@modes("cse-key")
def test_every_object_decodes(site, mode, keyring):
    """A tree of files, each verified by the second decoder with its attributes."""
    os.makedirs(site / "t/u")
    for n in range(40):
        write_file(site / ("t/u/%d" % n), blob(n * 3001, n))
    os.chmod(site / "t/u/3", 0o4755)
    os.rename(site / "t/u/4", site / "t/moved")
    run(CTL, "sync", site.path)
    objects = mode.store.decode_all(keyring)
    assert len(objects) == 42
    assert objects["t/"].attrs["mode"] & 0o170000 == stat.S_IFDIR
    assert objects["t/u/3"].attrs["mode"] == 0o104755
    assert objects["t/moved"].plaintext() == blob(4 * 3001, 4)
    # Nothing is shared between objects that has to be their own.
    for what in ("file_id", "content_id", "operation_id"):
        assert len({getattr(o, what) for o in objects.values()}) == 42
