# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Damaged objects give EIO and never a wrong byte; stores that fail, hang or lie do
not cost data. Objects are damaged behind the mount's back, faults come from the
proxy.
"""
import base64
import contextlib
import errno
import os
import random
import shutil
import signal
import statistics
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import decoder
from harness import CTL, MARKER, Site, blob, fails, read_file, run, wait_for, write_file

CHUNK, SEGMENT, STRIDE = decoder.CHUNK, decoder.SEGMENT, decoder.STRIDE


def outcome(path):
    """The content, or the error number of stat, open or read."""
    try:
        os.stat(path)
        return read_file(path)
    except OSError as e:
        return e.errno


def attempt(call, *args):
    """Whether it went without an error."""
    try:
        call(*args)
        return True
    except OSError:
        return False


def flip(data, bit):
    out = bytearray(data)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


class Damage:
    """Copies of one file in a folder store, each damaged in its own way, then read through one new mount."""

    def __init__(self, site, data):
        self.site, self.store, self.data, self.count = site, site.store, data, 0
        self.damaged = []

    def copies(self, count, hole=0):
        """Names of new files with the same content; its first bytes as a hole."""
        names = ["f%d-" % (self.count + n) for n in range(count)]
        self.count += count
        for name in names:
            with open(self.site / name, "wb") as f:
                f.seek(hole)
                f.write(self.data[hole:])
        return names

    def check(self):
        self.site.remount()
        for name, what in self.damaged:
            found = outcome(self.site / name)
            assert found == errno.EIO, "%s: %s gives %r" % (name, what, found if isinstance(found, int) else found[:100])
        log = self.site.m.text()
        for name, what in self.damaged:
            assert name in log, "the log does not name %s (%s)" % (name, what)


@pytest.fixture
def site(file_store, mount):
    return Site(mount, file_store)


def test_folder_removed(file_store, mount):
    """Of a store that is a folder: the mount does not look empty, and what was to be written fails."""
    site = Site(mount, file_store, ttl=0)
    os.mkdir(site / "d")
    write_file(site / "d/f", b"data")
    shutil.rmtree(file_store.folder)
    for call in (lambda: os.listdir(site.path), lambda: os.listdir(site / "d"), lambda: read_file(site / "d/f"),
                 lambda: write_file(site / "new", b"data")):
        with fails(errno.EIO):
            call()
    assert "the folder of the store was removed" in site.m.text()
    os.mkdir(file_store.folder)
    site.m.kill()


def test_bits_of_a_small_body(site):
    """Chunks and tags of a file of three chunks."""
    data = MARKER + blob(2 * CHUNK + 100, 1)
    d = Damage(site, data)
    size = decoder.stored_size(len(data))
    rng = random.Random(1)
    bits = [0, 7, 8 * (CHUNK - 1), 8 * CHUNK, 8 * (STRIDE - 1) + 7, 8 * STRIDE, 8 * (2 * STRIDE) - 1, 8 * size - 1, 8 * (size - 16)]
    bits += [rng.randrange(8 * size) for _ in range(50)]
    for name, bit in zip(d.copies(len(bits)), bits):
        d.store.set_body(name, flip(d.store.body_of(name), bit))
        d.damaged.append((name, "bit %d of the body" % bit))
    good = d.copies(1)[0]
    d.check()
    assert read_file(site / good) == data
    # The chunks that are whole may be given out, the damaged one may not.
    for (name, _), bit in zip(d.damaged, bits):
        fd = os.open(site / name, os.O_RDONLY)
        for chunk in range(3):
            if bit // 8 // STRIDE == chunk:
                with fails(errno.EIO):
                    os.pread(fd, 50, chunk * CHUNK + 10)
            else:
                with contextlib.suppress(OSError):
                    assert os.pread(fd, 50, chunk * CHUNK + 10) == data[chunk * CHUNK + 10:][:50]
        os.close(fd)


def test_every_bit_of_a_tiny_body(site):
    d = Damage(site, b"tiny")
    for bit, name in enumerate(d.copies(8 * 20)):
        d.store.set_body(name, flip(d.store.body_of(name), bit))
        d.damaged.append((name, "bit %d" % bit))
    d.check()


def test_sizes_of_bodies(site):
    """Truncated and extended objects, of one segment and of three."""
    for data, cuts in ((blob(3 * CHUNK + 50, 1), (1, 15, 16, 17, 66, STRIDE, 2 * STRIDE)), (b"", ()), (b"x", (1, 16, 17)),
                       (blob(2 * SEGMENT + 50, 2), (1, 16, 104, 104 + 48, 16 * 3 + 104 + 66, decoder.STORED_SEGMENT))):
        d = Damage(site, data)
        d.count = 1000 * len(data)
        ways = [("cut by %d" % n, lambda b, n=n: b[:-n]) for n in cuts] + [("front cut by %d" % n, lambda b, n=n: b[n:]) for n in cuts]
        ways += [("%d more" % n, lambda b, n=n: b + bytes(n)) for n in (1, 16, 17, STRIDE)]
        ways += [("emptied", lambda b: b"")] if data else []
        ways += [("twice", lambda b: b + b)] if data else []
        for name, (what, change) in zip(d.copies(len(ways)), ways):
            d.store.set_body(name, change(d.store.body_of(name)))
            d.damaged.append((name, what))
        d.check()


def test_bits_of_metadata(site):
    """Each item of the metadata: absent, emptied, and its characters changed one by one."""
    d = Damage(site, b"some content")
    name = d.copies(1)[0]
    meta = d.store.meta_of(name)
    changes = []
    for item, value in meta.items():
        changes.append(("no " + item, {k: v for k, v in meta.items() if k != item}))
        changes.append(("empty " + item, {item: ""}))
        step = 1 if len(value) < 40 else 5
        for at in range(0, len(value), step):
            changes.append(("%s at %d" % (item, at), {item: value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1:]}))
        changes.append(("longer " + item, {item: value + "0"}))
    changes += [("added " + item, {item: "1"}) for item in decoder.OTHER_ITEMS]
    packed = base64.b64decode(meta["s3cryptfs"])
    for bit in list(range(0, 64)) + list(range(64, 8 * len(packed), 11)):
        changes.append(("bit %d of the packed value" % bit, bit))
    for name, (what, change) in zip(d.copies(len(changes)), changes):
        mine = d.store.meta_of(name)
        if isinstance(change, int):
            mine["s3cryptfs"] = base64.b64encode(flip(base64.b64decode(mine["s3cryptfs"]), change)).decode()
        elif what.startswith("no "):
            del mine[what[3:]]
        else:
            item = next(iter(change))
            old = mine.get(item, "")
            if " at " in what:
                at = int(what.split(" at ")[1])
                mine[item] = old[:at] + chr(ord(old[at]) ^ 1) + old[at + 1:]
            else:
                mine[item] = old + "0" if what.startswith("longer") else change[item]
        if mine == d.store.meta_of(name):
            continue
        d.store.set_meta(name, mine)
        d.damaged.append((name, what))
    assert len(d.damaged) > 200
    d.check()


def test_metadata_of_directories_and_links(site):
    os.mkdir(site / "good")
    names = []
    for n, change in enumerate(({"mode": str(0o040777)}, {"uid": "0x"}, {"s3cryptfs": None}, {"mtime": "1"})):
        os.mkdir(site / ("d%d" % n))
        os.symlink("target", site / ("l%d" % n))
        for key in ("d%d/" % n, "l%d" % n):
            meta = site.store.meta_of(key)
            meta.update({k: v for k, v in change.items() if v is not None})
            for k, v in change.items():
                if v is None:
                    del meta[k]
            site.store.set_meta(key, meta)
            names.append(key.rstrip("/"))
    site.store.set_body("l0", b"other")
    site.remount()
    for name in names:
        with fails(errno.EIO):
            os.lstat(site / name)
    assert "good" in os.listdir(site.path)
    # A directory with a body.
    site.store.set_body("good/", b"body")
    site.remount()
    with fails(errno.EIO):
        os.lstat(site / "good")


def test_bits_of_a_trailer(site):
    """Table, footer and both MACs, with the chunk before them: every other byte of the end of a sparse file."""
    d = Damage(site, bytes(SEGMENT) + blob(500, 3))
    size = 516 + 32 + 104
    places = list(range(0, 516, 40)) + list(range(516, size))
    for n, (name, at) in enumerate(zip(d.copies(len(places), hole=SEGMENT), places)):
        body = d.store.body_of(name)
        assert len(body) == size
        d.store.set_body(name, flip(body, 8 * at + n % 8))
        d.damaged.append((name, "byte %d" % at))
    d.check()


def test_bits_of_a_large_object(site):
    """Chunks of three segments: what is whole may be read, what is not is refused, the rest of the file too at its place."""
    data = blob(SEGMENT, 3) + bytes(SEGMENT) + blob(CHUNK + 500, 4)
    with open(site / "large", "wb") as f:
        f.write(data[:SEGMENT])
        f.seek(2 * SEGMENT)
        f.write(data[2 * SEGMENT:])
    body = site.store.body_of("large")
    assert len(body) < decoder.STORED_SEGMENT + 2 * STRIDE
    for bit in (3, 8 * (SEGMENT // 2), 8 * decoder.STORED_SEGMENT - 1, 8 * decoder.STORED_SEGMENT + 1):
        site.umount()
        site.store.set_body("large", flip(body, bit))
        at = bit // 8
        plain = at // STRIDE * CHUNK if at < decoder.STORED_SEGMENT else 2 * SEGMENT
        site.remount()
        with open(site / "large", "rb", buffering=0) as f:
            with fails(errno.EIO):
                os.pread(f.fileno(), 10, plain)
            other = 0 if plain else 3 * CHUNK
            assert os.pread(f.fileno(), 1000, other) == data[other:other + 1000]
        with fails(errno.EIO):
            read_file(site / "large")
        assert "large" in site.m.text()
    site.umount()
    site.store.set_body("large", body)
    site.remount()
    assert read_file(site / "large") == data


def test_swapped_and_mixed(site):
    """Objects exchanged whole, by body, by metadata; and two versions of one object mixed."""
    store = site.store
    size = 3 * CHUNK
    for n in range(6):
        write_file(site / ("s%d" % n), blob(size, n))
    os.mkdir(site / "dir")
    write_file(site / "dir/s0", blob(size, 50))
    large = {n: blob(2 * SEGMENT + 100, 60 + n) for n in range(2)}
    write_file(site / "large", large[0])
    write_file(site / "mixed", blob(size, 70))
    write_file(site / "attrs", blob(size, 80))
    old = {key: (store.body_of(key), store.meta_of(key)) for key in store.keys()}
    write_file(site / "large", large[1])
    write_file(site / "mixed", blob(size, 71))
    write_file(site / "s5", blob(size, 72))
    os.chmod(site / "attrs", 0o600)
    site.umount()
    new = {key: (store.body_of(key), store.meta_of(key)) for key in store.keys()}

    def put(key, body, meta):
        store.set_body(key, body)
        store.set_meta(key, meta)

    put("s0", *new["s1"])                          # swapped whole
    put("s1", *new["s0"])
    put("s2", new["s3"][0], new["s2"][1])          # body of another
    put("s3", new["s3"][0], new["s2"][1])          # metadata of another
    put("s4", *new["dir/s0"])                      # from another directory
    put("dir/s0", *new["s0"])                      # the same name elsewhere
    put("mixed", old["mixed"][0], new["mixed"][1])  # old body, new metadata
    put("s5", new["s5"][0], old["s5"][1])          # new body, old metadata
    end = 3 * 16 + 104
    put("large", old["large"][0][:decoder.STORED_SEGMENT] + new["large"][0][decoder.STORED_SEGMENT:], new["large"][1])
    meta = dict(new["attrs"][1], mode=old["attrs"][1]["mode"])  # an attribute of an older version
    put("attrs", new["attrs"][0], meta)
    site.remount()
    for name in ("s0", "s1", "s2", "s3", "s4", "s5", "dir/s0", "mixed", "attrs"):
        assert outcome(site / name) == errno.EIO, name
        assert name in site.m.text(), name
    with open(site / "large", "rb", buffering=0) as f:
        with fails(errno.EIO):
            os.pread(f.fileno(), 100, 0)
        assert os.pread(f.fileno(), 100, SEGMENT) == large[1][SEGMENT:SEGMENT + 100]
    for body, meta in ((old["large"][0], new["large"][1]), (new["large"][0], old["large"][1]),
                       (new["large"][0][:-end] + old["large"][0][-end:], new["large"][1]),
                       (new["large"][0][:-end] + old["large"][0][-end:], old["large"][1]),
                       (new["large"][0][decoder.STORED_SEGMENT:2 * decoder.STORED_SEGMENT] + new["large"][0][:decoder.STORED_SEGMENT] +
                        new["large"][0][2 * decoder.STORED_SEGMENT:], new["large"][1])):
        site.umount()
        put("large", body, meta)
        site.remount()
        assert outcome(site / "large") == errno.EIO


def test_rollback(site):
    """A whole older version: valid for a machine that never saw the newer; noticed by one that did."""
    store, state = site.store, site.store.folder + "-state"
    site.remount(state_dir=state)
    write_file(site / "f", b"old version")
    old = store.body_of("f"), store.meta_of("f")
    write_file(site / "f", b"new version")
    site.umount()
    store.set_body("f", old[0])
    store.set_meta("f", old[1])
    site.m = site.make(store.source, state_dir=state)
    assert read_file(site / "f") == b"old version"
    log = site.m.text().lower()
    assert "older" in log or "rollback" in log, log
    site.umount()
    site.m = site.make(store.source, state_dir=state, rollback="deny")
    assert outcome(site / "f") == errno.EIO
    site.umount()
    site.m = site.make(store.source, rollback="deny")
    assert read_file(site / "f") == b"old version"


def test_damage_on_a_server(rgw_store, mount):
    """The same on S3: body, metadata, size, swap, and an object that lost its envelope."""
    store = rgw_store
    site = Site(mount, store)
    data = blob(CHUNK + 100, 1)
    for n in range(8):
        write_file(site / ("f%d" % n), data)
    large = blob(2 * SEGMENT + 77, 2)
    write_file(site / "large", large)
    write_file(site / "good", data)
    body, meta = {}, {}
    for key in store.keys():
        body[key], meta[key] = store.body_of(key), store.meta_of(key)
    store.put("f0", flip(body["f0"], 99), Metadata=meta["f0"])
    store.put("f1", flip(body["f1"], 8 * len(body["f1"]) - 1), Metadata=meta["f1"])
    store.put("f2", body["f2"][:-1], Metadata=meta["f2"])
    store.put("f3", body["f3"], Metadata=dict(meta["f3"], mode=str(0o104777)))
    store.put("f4", body["f5"], Metadata=meta["f5"])
    store.put("f5", body["f4"], Metadata=meta["f4"])
    store.put("f6", data)
    store.put("f7", body["f7"], Metadata={k: v for k, v in meta["f7"].items() if k != "s3cryptfs"})
    store.put("large", flip(body["large"], 8 * (decoder.STORED_SEGMENT + 5)), Metadata=meta["large"])
    site.remount()
    for n in range(8):
        assert outcome(site / ("f%d" % n)) == errno.EIO, n
        assert "f%d" % n in site.m.text()
    assert read_file(site / "good") == data
    with open(site / "large", "rb", buffering=0) as f:
        assert os.pread(f.fileno(), 100, 0) == large[:100]
        with fails(errno.EIO):
            os.pread(f.fileno(), 100, SEGMENT)
    # A damaged file can be replaced.
    os.unlink(site / "f0")
    write_file(site / "f0", b"new")
    assert read_file(site / "f0") == b"new"


# Faults of the store.

@pytest.fixture(params=["radosgw", "versitygw"])
def store(request):
    return request.getfixturevalue({"radosgw": "rgw_store", "versitygw": "versity_store"}[request.param])


UPLOAD_FAULTS = [("reset", {"method": "PUT", "match": "partNumber", "after": 1}), ("denied", {"method": "PUT", "match": "partNumber"}),
                 ("500", {"method": "POST", "match": "uploadId"}), ("error200", {"method": "POST", "match": "uploadId"}),
                 ("503", {"method": "POST", "match": "uploads"})]


@pytest.mark.parametrize("kind,how", UPLOAD_FAULTS, ids=["part-reset", "part-denied", "complete-500", "complete-200-error", "create-503"])
@pytest.mark.parametrize("way", ["close", "fsync"])
def test_upload_that_fails_for_good(rgw_store, mount, keyring, kind, how, way):
    """The error is reported, the old object stays, what was written is kept and sent once it can be."""
    site = Site(mount, rgw_store, timeout=4, retries=2)
    old, new = blob(3 * SEGMENT, 1), blob(3 * SEGMENT + 5, 2)
    write_file(site / "f", old)
    rgw_store.proxy.fault(kind, **how)
    fd = os.open(site / "f", os.O_WRONLY | os.O_TRUNC)
    try:
        for at in range(0, len(new), 1 << 20):
            os.write(fd, new[at:at + (1 << 20)])
        whole = True
    except OSError:
        whole = False
    if way == "fsync":
        with pytest.raises(OSError):
            os.fsync(fd)
    else:
        with pytest.raises(OSError):
            os.close(fd)
    assert rgw_store.decode(keyring, "f").plaintext() == old
    rgw_store.proxy.fault("off")
    if way == "close":
        fd = os.open(site / "f", os.O_RDWR)
    try:
        if whole:
            # Nothing was lost: it is stored by a commit that begins now (one that began before may still fail).
            assert os.fstat(fd).st_size == len(new)
            wait_for(lambda: attempt(os.fsync, fd), 20, "a commit that succeeds")
            assert rgw_store.decode(keyring, "f").plaintext() == new
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


def test_failed_small_put(store, mount, keyring):
    """Likewise for one PUT; the umount sends what is left."""
    site = Site(mount, store, timeout=3, retries=1)
    write_file(site / "f", b"old")
    store.proxy.fault("500", method="PUT")
    fd = os.open(site / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"new content")
    with fails(errno.EIO, errno.ETIMEDOUT):
        os.fsync(fd)
    with fails(errno.EIO, errno.ETIMEDOUT):
        os.close(fd)
    assert store.decode(keyring, "f").plaintext() == b"old"
    assert read_file(site / "f") == b"new content"
    for call in (lambda: write_file(site / "g", b"x"), lambda: os.mkdir(site / "d"), lambda: os.chmod(site / "g2", 0o600)):
        with fails(errno.EIO, errno.ETIMEDOUT, errno.ENOENT):
            call()
    store.proxy.fault("off")
    site.m.umount()
    assert store.decode(keyring, "f").plaintext() == b"new content"


@pytest.mark.parametrize("mode", ["close", "writeback"])
def test_outage_until_the_end(store, mount, mode):
    """The store comes back while the mount ends: what had failed is stored, and the exit status says so."""
    more = {"writeback": True} if mode == "writeback" else {}
    site = Site(mount, store, timeout=20, retries=1, **more)
    store.proxy.fault("reset", method="PUT")
    for name in ("f", "g"):
        with contextlib.suppress(OSError):
            write_file(site / name, name.encode() * 1000)
    back = threading.Timer(4, store.proxy.fault, ["off"])
    back.start()
    try:
        site.umount()
    finally:
        back.join()
    assert "everything is in the store" in site.m.text()
    assert sorted(store.keys()) == ["f", "g"]
    site.remount()
    assert read_file(site / "g") == b"g" * 1000


def test_denied_is_eacces(rgw_store, mount):
    site = Site(mount, rgw_store)
    write_file(site / "f", b"x")
    site.remount()
    os.listdir(site.path)
    rgw_store.proxy.fault("denied", method="GET")
    with fails(errno.EACCES, errno.EPERM):
        read_file(site / "f")
    rgw_store.proxy.fault("denied", method="PUT")
    with fails(errno.EACCES, errno.EPERM):
        write_file(site / "g", b"x")
    rgw_store.proxy.fault("off")
    site.m.umount()


def test_failure_is_never_absence(rgw_store, mount):
    """Only a confirmed 404 is ENOENT."""
    site = Site(mount, rgw_store, timeout=2, retries=1)
    os.mkdir(site / "d")
    write_file(site / "d/f", b"x")
    for kind in ("503", "500", "reset", "denied", "error200"):
        site.remount()
        rgw_store.proxy.fault(kind)
        for call in (lambda: os.stat(site / "d/f"), lambda: os.listdir(site / "d"), lambda: os.stat(site / "absent")):
            try:
                call()
                raise AssertionError("%s: no error" % kind)
            except OSError as e:
                assert e.errno not in (errno.ENOENT, errno.ENOTDIR), kind
        rgw_store.proxy.fault("off")
        assert read_file(site / "d/f") == b"x"


@pytest.mark.parametrize("kind", ["500", "503", "reset", "expired"])
def test_survived(store, mount, keyring, kind):
    """Each request is repeated, signed anew."""
    site = Site(mount, store)
    large = blob(2 * SEGMENT + 9, 1)

    # Credentials are loaded again once; the same answer after that is believed.
    def with_fault(times=1 if kind == "expired" else 2, **how):
        store.proxy.reset()
        store.proxy.fault(kind, times=times, **how)
        yield
        assert store.proxy.counts().get("fault", 0) >= 1, (kind, how)
        store.proxy.fault("off")

    fault = contextlib.contextmanager(with_fault)
    with fault(method="PUT"):
        write_file(site / "f", MARKER)
    with fault(method="PUT", match="partNumber"):
        write_file(site / "large", large)
    with fault(method="POST"):
        write_file(site / "large", large)
    with fault(method="PUT", match="copy"):
        os.rename(site / "large", site / "moved")
    with fault(method="PUT", match="/g"):
        os.rename(site / "f", site / "g")
    os.rename(site / "moved", site / "large")
    with fault(method="DELETE"):
        os.unlink(site / "g")
    write_file(site / "g", MARKER)
    site.remount()
    with fault(match="list%-type"):
        assert sorted(os.listdir(site.path)) == ["g", "large"]
    with fault(method="GET", match="large"):
        assert read_file(site / "large") == large
    with fault(method="GET", match="/g"):
        assert read_file(site / "g") == MARKER
    assert store.decode(keyring, "large").plaintext() == large


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int (*real)(clockid_t, struct timespec *) = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int r = real(clock, ts);
	if (r == 0 && clock == CLOCK_REALTIME)
		ts->tv_sec += SHIFT;
	return r;
}
time_t time(time_t *t)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	if (t)
		*t = ts.tv_sec;
	return ts.tv_sec;
}
"""


@pytest.mark.parametrize("hours", [3, -3])
def test_wrong_clock(store, mount, tmp_path, hours):
    """A machine whose clock is off by hours: corrected from the server's answer, and told."""
    (tmp_path / "clock.c").write_text(CLOCK)
    run("gcc", "-shared", "-fPIC", "-DSHIFT=%d" % (3600 * hours), "-o", tmp_path / "clock.so", tmp_path / "clock.c", "-ldl")
    options = store.options()
    if hours < 0:  # before the certificate was made
        options.update(endpoint=store.proxy.http_endpoint, allow_http=True)
    options["env"] = dict(options["env"], LD_PRELOAD=str(tmp_path / "clock.so"),
                          ASAN_OPTIONS="verify_asan_link_order=0")
    m = mount(store.source, **options)
    assert "clock" in m.text()
    write_file(m / "f", MARKER)
    assert read_file(m / "f") == MARKER
    assert store.keys() == ["f"]


@pytest.mark.parametrize("kind", ["cut", "error200"])
def test_bad_replies(rgw_store, mount, kind):
    """Bodies that end early, and errors that say 200: noticed where they can be told, never spliced into data."""
    site = Site(mount, rgw_store, enc="none")
    small, large = blob(30000, 1), blob(2 * SEGMENT + 9, 2)
    write_file(site / "small", small)
    write_file(site / "large", large)
    if kind == "error200":
        rgw_store.proxy.fault(kind, method="POST", match="uploadId", times=2)
        write_file(site / "again", large)
        rgw_store.proxy.fault(kind, method="PUT", match="copy", times=2)
        os.rename(site / "again", site / "moved")
        rgw_store.proxy.fault("off")
        assert rgw_store.body_of("moved") == large
    site.remount()
    rgw_store.proxy.fault(kind, times=1, match="list%-type")
    assert {"small", "large"} <= set(os.listdir(site.path))
    for name, data in (("small", small), ("large", large)):
        rgw_store.proxy.fault(kind, times=1, method="GET", match="/" + name)
        found = outcome(site / name)
        assert found == data or found == errno.EIO, (name, found if isinstance(found, int) else len(found))
        if kind == "cut":
            assert found == data
        rgw_store.proxy.fault("off")
        assert outcome(site / name) == data


LOST = {
    "put": {"method": "PUT"}, "part": {"method": "PUT", "match": "partNumber"}, "create": {"method": "POST", "match": "uploads"},
    "complete": {"method": "POST", "match": "uploadId"}, "copy": {"method": "PUT", "match": "copy"},
    "partcopy": {"method": "PUT", "match": "partNumber.*copy"}, "delete": {"method": "DELETE"},
    "delete-many": {"method": "POST", "match": "delete"},
}


@pytest.mark.parametrize("mode", ["close", "writeback"])
def test_deletions_that_were_none(rgw_store, mount, mode):
    """DeleteObjects answered by 200 with an error: nothing is gone, and what was removed or renamed does not come back."""
    m = mount(rgw_store.source, **rgw_store.options(ttl=1, writeback=mode == "writeback" or None))
    for n in range(30):
        write_file(m / ("f%d" % n), b"%d" % n)
    run(CTL, "sync", m.path)
    rgw_store.proxy.reset()
    rgw_store.proxy.fault("error200", p=100, method="POST")
    for n in range(30):
        os.rename(m / ("f%d" % n), m / ("g%d" % n))
    for n in range(10):
        os.unlink(m / ("g%d" % n))
    wait_for(lambda: rgw_store.proxy.counts().get("fault", 0) >= 1, what="a list that is refused")
    left = sorted("g%d" % n for n in range(10, 30))
    time.sleep(1.5)
    assert sorted(os.listdir(m.path)) == left
    rgw_store.proxy.fault("off")
    run(CTL, "sync", m.path)
    write_file(m / "f3", b"again")
    m.umount()
    assert sorted(rgw_store.keys()) == sorted([*left, "f3"])


@pytest.mark.parametrize("what", list(LOST))
def test_lost_reply(store, mount, keyring, what):
    """The store did it, the answer did not come: the repetition recognises the own work, conditions or not."""
    site = Site(mount, store)
    large = bytearray(blob(3 * SEGMENT + 9, 1))
    write_file(site / "large", large)
    write_file(site / "f", b"old")
    os.mkdir(site / "d")
    for n in range(5):
        write_file(site / ("d/%d" % n), b"%d" % n)
    store.proxy.reset()
    store.proxy.fault("lost", times=1, **LOST[what])
    if what == "put":
        write_file(site / "new", b"created")  # If-None-Match
        store.proxy.fault("lost", times=1, **LOST[what])
        write_file(site / "f", b"replaced")  # If-Match
        store.proxy.fault("lost", times=1, **LOST[what])
        os.mkdir(site / "made")
    elif what in ("part", "create", "complete"):
        write_file(site / "new", large)
        store.proxy.fault("lost", times=1, **LOST[what])
        write_file(site / "large", large[::-1])
        large = large[::-1]
    elif what == "partcopy":
        with open(site / "large", "r+b") as f:
            f.seek(SEGMENT + 5)
            f.write(MARKER)
        large[SEGMENT + 5:SEGMENT + 5 + len(MARKER)] = MARKER
    elif what == "copy":
        os.rename(site / "f", site / "g")
        store.proxy.fault("lost", times=1, **LOST[what])
        os.chmod(site / "large", 0o600)
        store.proxy.fault("lost", times=1, **LOST[what])
        os.rename(site / "d", site / "e")
    elif what == "delete":
        os.unlink(site / "f")
        store.proxy.fault("lost", times=1, **LOST[what])
        os.rename(site / "large", site / "moved")
        os.rename(site / "moved", site / "large")
    elif what == "delete-many":
        os.rename(site / "d", site / "e")
    assert store.proxy.counts().get("fault", 0) >= 1 or what in ("delete-many", "copy"), store.proxy.requests()
    store.proxy.fault("off")
    site.remount()
    assert read_file(site / "large") == large
    if what == "put":
        assert (read_file(site / "new"), read_file(site / "f")) == (b"created", b"replaced") and os.path.isdir(site / "made")
    elif what in ("part", "create", "complete"):
        assert len(read_file(site / "new")) == len(large)
    elif what in ("copy", "delete-many"):
        assert sorted(os.listdir(site / "e")) == list("01234") and not os.path.exists(site / "d")
    elif what == "delete":
        assert not os.path.exists(site / "f") and not os.path.exists(site / "moved")
    if what == "copy":
        assert read_file(site / "g") == b"old" and not os.path.exists(site / "f")
        assert os.stat(site / "large").st_mode & 0o777 == 0o600
    store.decode_all(keyring)


def test_flaky_store(store, mount, keyring):
    """A workload while one request in six fails in some way."""
    site = Site(mount, store)
    shadow, rng = {}, random.Random(3)
    for round_number, kind in enumerate(("503", "reset", "500", "lost")):
        store.proxy.fault(kind, p=16)
        for step in range(12):
            name = "f%d" % rng.randrange(8)
            what = rng.choice(["write", "write", "append", "rename", "unlink", "chmod", "read"])
            if what == "write" or name not in shadow:
                shadow[name] = blob(rng.choice([10, 3000, CHUNK + 5, SEGMENT + 100]), step + 100 * round_number)
                write_file(site / name, shadow[name])
            elif what == "append":
                write_file(site / name, b"more", "ab")
                shadow[name] += b"more"
            elif what == "rename":
                os.rename(site / name, site / (name + "r"))
                shadow[name + "r"] = shadow.pop(name)
            elif what == "unlink":
                os.unlink(site / name)
                del shadow[name]
            elif what == "chmod":
                os.chmod(site / name, rng.choice([0o600, 0o640]))
            else:
                assert read_file(site / name) == shadow[name]
    store.proxy.fault("off")
    site.remount()
    assert sorted(os.listdir(site.path)) == sorted(shadow)
    for name, data in shadow.items():
        assert read_file(site / name) == data
        assert store.decode(keyring, name).plaintext() == data


def test_killed_during_upload(store, mount, keyring):
    """kill -9 while parts are under way: the old object is whole, and the next mount works."""
    site = Site(mount, store)
    old = blob(2 * SEGMENT + 5, 1)
    write_file(site / "f", old)
    write_file(site / "small", b"small")
    store.proxy.reset()
    store.proxy.fault("hang", method="PUT", match="partNumber", after=2)

    def write():
        with contextlib.suppress(OSError):
            write_file(site / "f", blob(6 * SEGMENT, 2))

    writer = threading.Thread(target=write)
    writer.start()
    wait_for(lambda: store.proxy.counts().get("fault", 0), 30, "a part on its way")
    site.m.kill()
    writer.join(30)
    assert not writer.is_alive()
    store.proxy.fault("off")
    assert store.decode(keyring, "f").plaintext() == old
    site.remount()
    assert read_file(site / "f") == old and read_file(site / "small") == b"small"
    write_file(site / "f", b"and on it goes")
    assert store.decode(keyring, "f").plaintext() == b"and on it goes"


def test_killed_with_a_dirty_file(store, mount, keyring):
    """Nothing was acknowledged: the old content is there, and the same local folders serve again."""
    cache = mount(store.source, **store.options())
    write_file(cache / "f", b"old")
    fd = os.open(cache / "f", os.O_RDWR)
    os.pwrite(fd, b"lost, never acknowledged", 0)
    options = dict(word.split("=", 1) for word in cache.args[-1].split(",") if "=" in word)
    cache.kill()
    with pytest.raises(OSError):
        os.close(fd)
    again = mount(store.source, **store.options(cache_dir=options["cache_dir"]))
    assert read_file(again / "f") == b"old"
    write_file(again / "f", b"new")
    assert store.decode(keyring, "f").plaintext() == b"new"


def test_uploads_of_others_are_left_alone(store, mount):
    """Another machine's multipart uploads, of other keys and of one that is written here."""
    client, bucket = store.client, store.bucket
    site = Site(mount, store)
    os.mkdir(site / "d")
    uploads = {}
    for key in ("f", "d/g", "theirs"):
        upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        part = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"p" * 100)
        uploads[key] = upload, part["ETag"]
    write_file(site / "f", blob(2 * SEGMENT))
    write_file(site / "d/g", blob(2 * SEGMENT))
    os.unlink(site / "f")
    os.rename(site / "d", site / "e")
    site.m.kill()
    site.remount()
    write_file(site / "other", blob(SEGMENT + 1))
    site.umount()
    assert sorted(store.uploads()) == sorted((k, u) for k, (u, _) in uploads.items())
    upload, etag = uploads["theirs"]
    client.complete_multipart_upload(Bucket=bucket, Key="theirs", UploadId=upload,
                                     MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    assert store.body_of("theirs") == b"p" * 100


def test_own_failed_uploads_are_aborted(rgw_store, mount):
    """What this mount began and gave up does not stay in the bucket."""
    site = Site(mount, rgw_store, timeout=4, retries=1)
    rgw_store.proxy.fault("denied", method="PUT", match="partNumber")
    with pytest.raises(OSError):
        write_file(site / "f", blob(3 * SEGMENT))
    rgw_store.proxy.fault("off")
    os.unlink(site / "f") if os.path.exists(site / "f") else None
    site.m.umount()
    assert rgw_store.uploads() == []


@pytest.mark.alone
@pytest.mark.parametrize("count,known", [(32, False), (200, True)])
def test_stalled_reads(rgw_store, mount, count, known):
    """
    Reads that the store does not answer: others go on, Ctrl-C works, the deadline ends them.
    known: by their attributes; else the lookups hang as well, all of them in one directory.
    """
    limit = 5
    site = Site(mount, rgw_store, timeout=limit)
    os.mkdir(site / "stall")
    os.mkdir(site / "other")
    names = ["stall/%d" % n for n in range(count + 1)]
    contents = [b"%d" % n * 40 + bytes(80000 if known else 0) for n in range(count + 1)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: write_file(site / names[n], contents[n]), range(count + 1)))
        list(pool.map(lambda n: write_file(site / ("other/%d" % n), b"x"), range(15)))
    site.remount()
    if known:
        assert len([e for e in os.scandir(site / "stall") if e.stat()]) == count + 1
    os.stat(site / "stall")
    os.listdir(site.path)
    rgw_store.proxy.reset()
    rgw_store.proxy.fault("hang", match="/stall/%d+")
    results = {}

    def read(n):
        begin = time.monotonic()
        results[n] = outcome(site / names[n]), time.monotonic() - begin

    readers = [threading.Thread(target=read, args=(n,)) for n in range(count)]
    for r in readers:
        r.start()
    wait_for(lambda: rgw_store.proxy.counts().get("fault", 0) >= 8, 20, "stalled requests")
    waiting = subprocess.Popen(["cat", site / names[count]], stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    # Elsewhere: names that need the store, names that are known, and contents.
    times = []
    for n in range(15):
        begin = time.monotonic()
        assert os.stat(site / ("other/%d" % n)).st_size == 1
        times.append(time.monotonic() - begin)
    assert statistics.median(times) < 0.05 and max(times) < 1, times
    begin = time.monotonic()
    os.stat(site.path)
    os.listdir(site / "other")
    assert time.monotonic() - begin < 1
    assert not results, results

    time.sleep(0.2)  # so that cat is in its read; were it not, the signal would end it all the same
    begin = time.monotonic()
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(10) == -signal.SIGINT
    assert time.monotonic() - begin < 1
    for r in readers:
        r.join(limit + 15)
    assert len(results) == count
    assert {found for found, _ in results.values()} <= {errno.ETIMEDOUT, errno.EIO}, results
    assert max(seconds for _, seconds in results.values()) < limit + 10, results
    rgw_store.proxy.fault("off")
    assert read_file(site / names[3]) == contents[3]
    assert site.m.process.poll() is None


@pytest.mark.alone
def test_stalled_content_reads(rgw_store, mount):
    """The same with files that are open already and known by attributes: 32 content transfers hang."""
    site = Site(mount, rgw_store, timeout=5)
    os.mkdir(site / "stall")
    for n in range(33):
        write_file(site / ("stall/%d" % n), blob(3 * CHUNK, n))
    write_file(site / "elsewhere", b"x")
    site.remount()
    os.listdir(site / "stall")
    fds = [os.open(site / ("stall/%d" % n), os.O_RDONLY) for n in range(33)]
    os.listdir(site.path)
    rgw_store.proxy.reset()
    rgw_store.proxy.fault("hang", method="GET", match="/stall/")
    errors = {}

    def read(n):
        try:
            errors[n] = os.pread(fds[n], 100, 10)
        except OSError as e:
            errors[n] = e.errno

    readers = [threading.Thread(target=read, args=(n,)) for n in range(33)]
    for r in readers:
        r.start()
    wait_for(lambda: rgw_store.proxy.counts().get("fault", 0) >= 16, 20, "stalled requests")
    times = []
    for n in range(9):
        begin = time.monotonic()
        os.stat(site / "elsewhere")
        os.path.exists(site / ("not there %d" % n))
        times.append(time.monotonic() - begin)
    assert min(times) < 0.05 and statistics.median(times) < 0.05, times
    for r in readers:
        r.join(25)
    assert len(errors) == 33
    bad = {k: v for k, v in errors.items() if v not in (errno.ETIMEDOUT, errno.EIO)}
    assert all(v == blob(3 * CHUNK, k)[10:110] for k, v in bad.items()), bad
    rgw_store.proxy.fault("off")
    for fd in fds:
        os.close(fd)
    # What was asked for before may still end with an error.
    wait_for(lambda: outcome(site / "stall/0") == blob(3 * CHUNK, 0), 5, "reading again")


def test_umount_with_a_dead_store(rgw_store, mount):
    """The daemon ends within its deadline, and tells that something was not stored."""
    site = Site(mount, rgw_store, timeout=3, retries=1)
    write_file(site / "f", b"old")
    rgw_store.proxy.fault("reset", method="PUT")
    with pytest.raises(OSError):
        write_file(site / "f", b"new")
    begin = time.monotonic()
    assert site.m.umount(60) != 0
    assert time.monotonic() - begin < 20
    assert "f" in site.m.text()
