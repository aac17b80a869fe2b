# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
format=s3ec-v2 and s3ec-v3: what is written is read by an independent client of these formats
(s3ec_client.py) and, sealed, by the mount; every change writes the object anew under another key.
"""
import errno
import json
import os
import random
import stat
import threading

import pytest

import decoder
import s3ec_client
from harness import CTL, MARKER, Site, blob, fails, find_bytes, read_file, run, wait_for, write_file

MIB = 1 << 20
SEGMENT = 8 * MIB
VERSIONS = {"s3ec-v2": 2, "s3ec-v3": 3}
FORMATS = sorted(VERSIONS)
SIZES = [0, 1, 15, 16, 17, 65535, 65536, 65537, 5 * MIB + 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 20 * MIB + 3]


def theirs(store, keyring, key, version, desc=None):
    """What another client makes of it, by the keyring's active key."""
    meta = store.meta_of(key)
    assert s3ec_client.version_of(meta) == version
    known = s3ec_client.KEYS_V2 if version == 2 else s3ec_client.KEYS_V3
    assert {k for k in meta if k.startswith("x-amz")} <= set(known)
    return s3ec_client.decrypt(meta, store.body_of(key), keyring.secret(), desc)


def add_desc(keyring, **pairs):
    with open(keyring.path, "a") as f:
        f.write("".join("desc.%s = %s\n" % pair for pair in pairs.items()))


@pytest.mark.parametrize("format", FORMATS)
def test_sizes(format, rgw_store, mount, keyring):
    site = Site(mount, rgw_store, keyring=keyring.path, format=format)
    data = {"f%d" % n: blob(n, n) for n in SIZES}
    for name, content in data.items():
        write_file(site / name, content)
    for name, content in data.items():
        assert read_file(site / name) == content  # from memory
        assert os.stat(site / name).st_size == len(content)
    site.remount(format=None)  # for reading it is of no account
    for name, content in data.items():
        assert os.stat(site / name).st_size == len(content)
        rng = random.Random(name)
        with open(site / name, "rb", buffering=0) as f:
            for at in sorted(rng.randrange(len(content)) for _ in range(3) if content):
                assert os.pread(f.fileno(), 70000, at) == content[at:at + 70000]
        assert read_file(site / name) == content
    site.umount()
    keys = set()
    for name, content in data.items():
        assert theirs(rgw_store, keyring, name, VERSIONS[format]) == content
        found = rgw_store.decode(keyring, name)
        assert found.layout == decoder.S3EC and found.plaintext() == content and found.master_id == keyring.key_id
        keys.add(found.data_key)
    assert len(keys) == len(data)
    assert rgw_store.uploads() == []


@pytest.mark.parametrize("format", FORMATS)
def test_changes(format, rgw_store, mount, keyring, tmp_path):
    """Each writes the whole under a new key; attributes and names keep body and envelope."""
    add_desc(keyring, team="storage", note="späti")
    desc = {"team": "storage", "note": "späti"}
    site = Site(mount, rgw_store, keyring=keyring.path, format=format)
    content = bytearray(blob(20 * MIB, 3))
    write_file(site / "f", content)
    write_file(site / "small", MARKER * 100)
    version, seen = VERSIONS[format], {}

    def check(name="f", fresh=True):
        assert theirs(rgw_store, keyring, name, version, desc) == content
        meta = rgw_store.meta_of(name)
        kept = {k: v for k, v in meta.items() if k.startswith("x-amz")}
        one = rgw_store.decode(keyring, name)
        assert one.plaintext() == content
        assert (one.data_key not in seen) == fresh
        assert fresh or seen[one.data_key] == (kept, one.content_id)
        seen[one.data_key] = (kept, one.content_id)

    check()
    with open(site / "f", "r+b") as f:
        f.seek(9 * MIB + 5)
        f.write(b"changed")
    content[9 * MIB + 5:9 * MIB + 12] = b"changed"
    check()
    with open(site / "f", "ab") as f:
        f.write(b"tail")
    content += b"tail"
    check()
    os.truncate(site / "f", 12 * MIB + 1)
    del content[12 * MIB + 1:]
    check()
    os.truncate(site / "f", 14 * MIB)  # a hole is written as zeros
    content += bytes(2 * MIB - 1)
    check()
    os.chmod(site / "f", 0o640)
    os.utime(site / "f", ns=(1, 1_700_000_000_123_456_789))
    check(fresh=False)
    os.rename(site / "f", site / "g")
    check("g", fresh=False)
    os.mkdir(site / "d")
    os.rename(site / "g", site / "d/g")
    os.rename(site / "d", site / "e")
    check("e/g", fresh=False)
    st = os.stat(site / "e/g")
    site.remount()
    now = os.stat(site / "e/g")
    assert (now.st_mode, now.st_mtime_ns, now.st_size) == (st.st_mode, st.st_mtime_ns, len(content))
    assert stat.S_IMODE(now.st_mode) == 0o640 and now.st_mtime_ns == 1_700_000_000_123_456_789
    assert read_file(site / "e/g") == content
    os.chmod(site / "e/g", 0o600)  # of an entry that came from the store
    os.rename(site / "e/g", site / "h")
    check("h", fresh=False)
    with open(site / "h", "r+b") as f:
        f.seek(1)
        f.write(b"x")
    content[1:2] = b"x"
    check("h")
    os.truncate(site / "h", 0)
    content.clear()
    check("h")
    os.symlink("small", site / "link")
    assert os.readlink(site / "link") == "small" and read_file(site / "link") == MARKER * 100
    site.umount()
    assert MARKER not in rgw_store.body_of("small")
    assert rgw_store.uploads() == []
    assert not find_bytes(MARKER, str(tmp_path))


def test_formats_mix(rgw_store, mount, keyring):
    """One volume has objects of all formats; what is changed takes the mount's."""
    site = Site(mount, rgw_store, keyring=keyring.path)
    data = blob(9 * MIB, 1)
    for format in (None, "s3ec-v3", "s3ec-v2"):
        site.remount(format=format)
        for name in ("small", "large"):
            write_file(site / ("%s-%s" % (name, format)), data if name == "large" else b"x")
    for format, layouts in (("s3ec-v3", {4}), (None, {2, 3})):
        site.remount(format=format)
        for name in os.listdir(site.path):
            with open(site / name, "r+b") as f:
                f.write(b"y")
        for name in os.listdir(site.path):
            assert read_file(site / name) == (b"y" + data[1:] if name.startswith("large") else b"y")
        assert {o.layout for o in rgw_store.decode_all(keyring).values()} == layouts
    site.umount()


def flip(data, at, bit=0):
    data = bytearray(data)
    data[at] ^= 1 << bit
    return bytes(data)


def other_text(value):
    """Of the same length, and valid base64 where it was that."""
    at = max(0, len(value) - 4)
    return value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1:]


def tamperings(meta):
    """(name, function of metadata and body): each is done to an object of its own."""
    yield from (("bit-%d" % at, lambda m, b, at=at: (m, flip(b, at, at % 8))) for at in (0, 100_000, -16, -1))
    yield "cut", lambda m, b: (m, b[:-1])
    yield "cut-chunk", lambda m, b: (m, b[:-65536])
    yield "tag-only", lambda m, b: (m, b[-16:])
    yield "longer", lambda m, b: (m, b + b"\0")
    yield "empty", lambda m, b: (m, b"")
    for name in meta:
        yield "change-" + name, lambda m, b, name=name: (dict(m, **{name: other_text(m[name])}), b)
        if name != "s3cryptfs":
            yield "remove-" + name, lambda m, b, name=name: ({k: v for k, v in m.items() if k != name}, b)
    for name in ("x-amz-key", "x-amz-3", "x-amz-key-v2", "x-amz-unencrypted-content-length", "x-amz-t", "x-amz-m",
                 "x-amz-matdesc", "xattr"):
        if name not in meta:
            yield "add-" + name, lambda m, b, name=name: (dict(m, **{name: "200000"}), b)


@pytest.mark.parametrize("format", FORMATS)
def test_tampered(format, file_store, mount, keyring):
    """Whatever is altered, nothing of it is given out: envelope, attributes, size at the lookup, content before a byte."""
    add_desc(keyring, team="storage")
    site = Site(mount, file_store, keyring=keyring.path, format=format)
    content = blob(200_000, 1)
    write_file(site / "good", content)
    write_file(site / "swapped", blob(200_000, 2))
    cases = dict(tamperings(file_store.meta_of("good")))
    for case in cases:
        write_file(site / case, content)
    site.umount()
    for case, change in cases.items():
        meta, body = change(file_store.meta_of(case), file_store.body_of(case))
        file_store.set_meta(case, meta)
        file_store.set_body(case, body)
    file_store.set_body("swapped", file_store.body_of("good"))
    site.remount()
    for case in cases:
        if case.startswith("bit-"):
            assert os.stat(site / case).st_size == len(content)
            with open(site / case, "rb", buffering=0) as f:
                for at in (0, 100_000, len(content) - 1):
                    with fails(errno.EIO):
                        os.pread(f.fileno(), 1, at)
        else:
            with fails(errno.EIO):
                os.stat(site / case)
        assert "object %s" % case in site.m.text() or case + ": " in site.m.text(), case
    with fails(errno.EIO):
        read_file(site / "swapped")
    assert read_file(site / "good") == content
    # Metadata of another object of the volume, whole.
    site.umount()
    file_store.set_meta("swapped", file_store.meta_of("good"))
    site.remount()
    with fails(errno.EIO):
        os.stat(site / "swapped")
    site.umount()


def test_stripped_seal(file_store, mount, keyring):
    """Without its seal it is an object of another client: not for accept=sealed."""
    site = Site(mount, file_store, keyring=keyring.path, format="s3ec-v3")
    write_file(site / "f", b"content")
    site.umount()
    meta = file_store.meta_of("f")
    del meta["s3cryptfs"]
    file_store.set_meta("f", meta)
    site.remount()
    with fails(errno.EIO):
        read_file(site / "f")
    assert "accept=s3ec reads it" in site.m.text()
    site.remount(accept="sealed:s3ec")
    assert read_file(site / "f") == b"content"
    site.umount()


def test_rotated(file_store, mount, keyring):
    """The key that the seal names opens it, whatever desc pairs say by now; without it: EACCES."""
    site = Site(mount, file_store, keyring=keyring.path, format="s3ec-v2")
    write_file(site / "f", b"old key")
    site.umount()
    text = read_file(keyring.path).decode()
    write_file(keyring.path, (text.replace("state = active", "state = old\ndesc.a = b") +
                              "\n[new]\nsecret = %s\nstate = active\n" % s3ec_client.b64(os.urandom(32))).encode())
    site.remount()
    assert read_file(site / "f") == b"old key"
    with open(site / "f", "ab") as f:
        f.write(b"!")
    assert file_store.decode(keyring, "f").master_id == "new"
    assert read_file(site / "f") == b"old key!"
    site.umount()


@pytest.mark.parametrize("format", FORMATS)
def test_rekey(format, rgw_store, mount, keyring):
    """The data key under another key, for other clients as well; the body stays as it is."""
    add_desc(keyring, place="old")
    site = Site(mount, rgw_store, keyring=keyring.path, format=format)
    data = {"small": b"content", "large": blob(9 * MIB, 1)}
    for name, content in data.items():
        write_file(site / name, content)
    site.umount()
    bodies = {name: rgw_store.body_of(name) for name in data}
    options = dict(rgw_store.options(keyring=keyring.path))
    env = dict(os.environ, **options.pop("env"))
    words = ",".join("%s=%s" % pair for pair in options.items())
    run(CTL, "key", "rotate", "-o", "keyring=" + keyring.path, "new-key")
    text = run(CTL, "rekey", "-o", words, rgw_store.source, env=env)
    print(text.stdout, text.stderr)
    secret = decoder.Keyring(keyring.path).secrets["new-key"]
    for name, content in data.items():
        assert rgw_store.body_of(name) == bodies[name]
        assert s3ec_client.decrypt(rgw_store.meta_of(name), bodies[name], secret) == content
        assert rgw_store.decode(keyring, name).master_id == "new-key"
    site.remount()
    for name, content in data.items():
        assert read_file(site / name) == content
    site.umount()


@pytest.mark.parametrize("kind", ["500", "reset", "lost"])
def test_parts_again(kind, rgw_store, mount, keyring):
    """A part that is sent again has the same bytes: what is there in the end is one message."""
    site = Site(mount, rgw_store, keyring=keyring.path, format="s3ec-v3")
    content = blob(3 * SEGMENT + 100, 4)
    rgw_store.proxy.fault(kind, method="PUT", match="partNumber", times=3)
    write_file(site / "f", content)
    rgw_store.proxy.fault("off")
    assert theirs(rgw_store, keyring, "f", 3) == content
    site.remount()
    assert read_file(site / "f") == content
    site.umount()
    assert rgw_store.uploads() == []


def test_part_fails_for_good(rgw_store, mount, keyring):
    """The upload is aborted; the file stays here, and its next commit has another key."""
    site = Site(mount, rgw_store, keyring=keyring.path, format="s3ec-v2", retries=0)
    content = blob(3 * SEGMENT + 100, 4)
    rgw_store.proxy.reset()
    rgw_store.proxy.fault("denied", method="PUT", match="partNumber=2")
    with fails(errno.EACCES, errno.EIO):
        write_file(site / "f", content)
    assert rgw_store.keys() == []
    # Once more with the end of the handle, which close(2) does not wait for: nobody joins that attempt.
    wait_for(lambda: "not stored after its last close" in site.m.text(), what="the end of the second attempt")
    wait_for(lambda: (c := rgw_store.proxy.counts()).get("ABORT") == c["CREATE"], what="the end of each upload")
    rgw_store.proxy.fault("off")
    fd = os.open(site / "f", os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    assert theirs(rgw_store, keyring, "f", 2) == content
    assert read_file(site / "f") == content
    site.umount()
    assert rgw_store.uploads() == []


def test_limits(file_store, mount, keyring):
    site = Site(mount, file_store, keyring=keyring.path, format="s3ec-v3")
    most = (1 << 36) - 32
    with open(site / "f", "wb") as f:
        with fails(errno.EFBIG):
            os.truncate(site / "f", most + 1)
        with fails(errno.EFBIG):
            os.pwrite(f.fileno(), b"xx", most - 1)
    assert read_file(site / "f") == b""
    site.umount()
    status, text = mount(file_store.source, wait=False, format="s3ec-v2", enc="none").fail()
    assert status != 0 and "need enc=cse-key" in text


def test_large(rgw_store, mount, keyring):
    """200 MiB with memory=64M: what waits for the close is spilled, and sent in order."""
    site = Site(mount, rgw_store, keyring=keyring.path, format="s3ec-v3", memory="64M")
    piece = blob(MIB, 5)
    rgw_store.proxy.reset()
    with open(site / "f", "wb") as f:
        for _ in range(200):
            f.write(piece)
        f.write(b"end")
    assert rgw_store.proxy.counts().get("PART", 0) == 26, rgw_store.proxy.counts()
    peak = site.m.memory_peak()
    assert os.stat(site / "f").st_size == 200 * MIB + 3
    assert theirs(rgw_store, keyring, "f", 3) == piece * 200 + b"end"
    site.remount()
    with open(site / "f", "rb", buffering=0) as f:
        assert os.pread(f.fileno(), 10, 200 * MIB - 5) == piece[-5:] + b"end"
        assert os.pread(f.fileno(), 5000, 77 * MIB + 1) == piece[1:5001]
    if os.environ.get("S3CRYPTFS_SANITIZED") != "1":
        assert max(peak, site.m.memory_peak()) < 180 * MIB
    site.umount()


def test_writers_meanwhile(rgw_store, mount, keyring):
    """Writes while parts are under way: each object that was ever there is one whole message."""
    site = Site(mount, rgw_store, keyring=keyring.path, format="s3ec-v2")
    content = bytearray(blob(24 * MIB, 6))
    write_file(site / "f", content)
    stop = threading.Event()

    def write():
        rng = random.Random(1)
        with open(site / "f", "r+b", buffering=0) as f:
            while not stop.is_set():
                at = rng.randrange(len(content) - 100)
                data = rng.randbytes(100)
                os.pwrite(f.fileno(), data, at)
                content[at:at + 100] = data

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            fd = os.open(site / "f", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            assert len(theirs(rgw_store, keyring, "f", 2)) == len(content)
    finally:
        stop.set()
        writer.join()
    assert read_file(site / "f") == content
    site.umount()
    assert theirs(rgw_store, keyring, "f", 2) == content


def test_killed_in_an_upload(rgw_store, mount, keyring, tmp_path):
    """With writeback it is sent by the next mount, anew and under another key; the upload is aborted."""
    options = rgw_store.options(format="s3ec-v3", writeback=True, state_dir=str(tmp_path / "state"))
    m = mount(rgw_store.source, **options)
    content = blob(5 * SEGMENT, 7)
    with open(m / "f", "wb") as f:
        f.write(content)
        os.fsync(f.fileno())
        rgw_store.proxy.latency(700)
    rgw_store.proxy.reset()
    wait_for(lambda: rgw_store.proxy.counts().get("PART"), what="a part of an upload")
    m.kill()
    rgw_store.proxy.latency(0)
    m = mount(rgw_store.source, **options)
    assert read_file(m / "f") == content
    assert m.umount() == 0
    assert theirs(rgw_store, keyring, "f", 3) == content
    assert rgw_store.uploads() == []


def test_ctl(file_store, mount, keyring, tmp_path):
    site = Site(mount, file_store, keyring=keyring.path, format="s3ec-v3")
    write_file(site / "f", b"content")
    site.umount()
    options = "keyring=%s,cache_dir=%s" % (keyring.path, tmp_path / "cache")
    text = run(CTL, "stat", "-o", options, file_store.source, "f").stdout
    assert "V3 of the Amazon S3 Encryption Client" in text and keyring.key_id in text and "cse-key" in text
    assert run(CTL, "cat", "-o", options, file_store.source, "f").stdout == "content"


def test_one_request(rgw_store, mount, keyring):
    """Small files cost what they cost in the other format."""
    site = Site(mount, rgw_store, keyring=keyring.path, format="s3ec-v3")
    write_file(site / "warm", b"x")
    rgw_store.proxy.reset()
    write_file(site / "f", b"content")
    counts = rgw_store.proxy.counts()
    assert counts.get("PUT") == 1 and not counts.get("HEAD") and counts.get("GET", 0) <= 1, counts
    assert json.loads(rgw_store.meta_of("f").get("x-amz-m", "{}")) == {}
    site.remount()
    rgw_store.proxy.reset()
    assert read_file(site / "f") == b"content"
    assert rgw_store.proxy.counts().get("GET") <= 2, rgw_store.proxy.counts()
    site.umount()
