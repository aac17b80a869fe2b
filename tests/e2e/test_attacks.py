# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
What doc/threat-model.md claims, done to objects on real servers by somebody who may write to the bucket, and by somebody
who sees the wire: what has to be noticed is, and what is said not to be noticed is not.
"""
import base64
import errno
import json
import os
import socket
import threading

import pytest

from harness import MARKER, Site, blob, fails, read_file, wait_for, write_file

SEGMENT, CHUNK = 8 << 20, 65536
STRIDE = CHUNK + 16
SIZE = 3 * CHUNK + 5
MODES = {"cse-key": {}, "cse-kms": {}, "cse-kms-reuse": {"kms_reuse": 10}, "cse-key s3ec-v2": {"format": "s3ec-v2"},
         "cse-key s3ec-v3": {"format": "s3ec-v3"}, "cse-kms s3ec-v3": {"format": "s3ec-v3"}}


def outcome(path):
    """What is read, or the error number."""
    try:
        os.stat(path)
        return read_file(path)
    except OSError as e:
        return e.errno


class Place:
    """A store that encrypts nothing by itself, a mount of it, and who may write to the bucket."""

    def __init__(self, mode, mount, request, state):
        self.kms, options = None, dict(MODES[mode], state_dir=state)
        if mode.startswith("cse-kms"):
            self.kms = request.getfixturevalue("kms")
            self.store = request.getfixturevalue("moto_store")
            options.update(enc="cse-kms", **self.kms.options(self.kms.new_key(), keyring=None))
        else:
            self.store = request.getfixturevalue("rgw_store")
        self.chunked = "format" not in options
        self.site = Site(mount, self.store, **options)

    def __truediv__(self, name):
        return self.site / name

    def get(self, key):
        return self.store.body_of(key), self.store.meta_of(key)

    def put(self, key, body, meta):
        self.store.put(key, body, Metadata=meta)


LONG = ("cse-kms-reuse", "cse-key s3ec-v2", "cse-kms s3ec-v3")


@pytest.fixture(params=[pytest.param(mode, marks=pytest.mark.long if mode in LONG else ()) for mode in sorted(MODES)])
def place(request, mount, tmp_path):
    return Place(request.param, mount, request, str(tmp_path / "state"))


def wrapped_name(meta):
    return "x-amz-3" if "x-amz-3" in meta else "x-amz-key-v2"


def with_packed(meta, change):
    packed = bytearray(base64.b64decode(meta["s3cryptfs"]))
    change(packed)
    return dict(meta, s3cryptfs=base64.b64encode(packed).decode())


def attacks(chunked):
    """{name: function of what stands there, of another object, and of an older version: body and metadata}"""
    def lower_version(packed):
        packed[0] = 0

    def other_layout(packed):
        packed[1] = 2 if packed[1] != 2 else 4

    found = {
        "swapped whole": lambda new, other, old: other,
        "body of another": lambda new, other, old: (other[0], new[1]),
        "metadata of another": lambda new, other, old: (new[0], other[1]),
        "wrapped key of another": lambda new, other, old: (new[0], dict(new[1], **{wrapped_name(new[1]): other[1][wrapped_name(new[1])]})),
        "old body": lambda new, other, old: (old[0], new[1]),
        "old metadata": lambda new, other, old: (new[0], old[1]),
        "old attributes": lambda new, other, old: (new[0], dict(new[1], mode=old[1]["mode"], mtime="1")),
        "cut by a byte": lambda new, other, old: (new[0][:-1], new[1]),
        "cut by a chunk": lambda new, other, old: (new[0][:-(STRIDE if chunked else CHUNK)], new[1]),
        "empty": lambda new, other, old: (b"", new[1]),
        "longer": lambda new, other, old: (new[0] + b"\0", new[1]),
        "spliced": lambda new, other, old: (other[0][:CHUNK] + new[0][CHUNK:], new[1]),
        "a plain object": lambda new, other, old: (b"p" * SIZE, {}),
        "without its seal": lambda new, other, old: (new[0], {k: v for k, v in new[1].items() if k != "s3cryptfs"}),
        "without metadata": lambda new, other, old: (new[0], {}),
        "another version of the format": lambda new, other, old: (new[0], with_packed(new[1], lower_version)),
        "another layout": lambda new, other, old: (new[0], with_packed(new[1], other_layout)),
        "a wrap that is not ours": lambda new, other, old: (new[0], dict(new[1], **{"x-amz-wrap-alg": "AES/GCM", "x-amz-w": "02"})),
        "an algorithm without authentication": lambda new, other, old: (new[0], dict(new[1], **{"x-amz-cek-alg": "AES/CBC/PKCS5Padding"})),
        "a directory": lambda new, other, old: (b"", dict(new[1], mode="16877")),
    }
    if chunked:
        found["chunks exchanged"] = lambda new, other, old: (
            new[0][STRIDE:2 * STRIDE] + new[0][:STRIDE] + new[0][2 * STRIDE:], new[1])
        found["a chunk twice"] = lambda new, other, old: (new[0][:STRIDE] * 2 + new[0][2 * STRIDE:], new[1])
    return found


def test_writer_to_the_bucket(place):
    """Swap, splice, truncation, mixed versions, downgrade: EIO and a line in the log, and never a byte of it."""
    cases = {"%02d" % i: change for i, change in enumerate(attacks(place.chunked).items())}
    for name in list(cases) + ["other", "good"]:
        write_file(place / name, blob(SIZE, name + " old"))
        os.chmod(place / name, 0o604)
    old = {name: place.get(name) for name in cases}
    for name in list(cases) + ["other", "good"]:
        os.chmod(place / name, 0o600)
        write_file(place / name, blob(SIZE, name))
    place.site.umount()
    other = place.get("other")
    for name, (what, change) in cases.items():
        place.put(name, *change(place.get(name), other, old[name]))
    place.site.remount()
    for name, (what, _) in cases.items():
        assert outcome(place / name) == errno.EIO, what
        assert "object %s" % name in place.site.m.text() or name + ": " in place.site.m.text(), what
    for name in ("other", "good"):
        assert read_file(place / name) == blob(SIZE, name)


def test_replay(place, tmp_path):
    """A whole older version is told by who has seen a newer one, and refused with rollback=deny; others take it."""
    write_file(place / "f", b"old")
    old = place.get("f")
    write_file(place / "f", b"new")
    place.site.umount()
    place.put("f", *old)
    place.site.remount()
    assert read_file(place / "f") == b"old"
    wait_for(lambda: "older" in place.site.m.text() or "rollback" in place.site.m.text(), what="a word of it")
    place.site.remount(rollback="deny")
    assert outcome(place / "f") == errno.EIO
    place.site.remount(rollback="deny", state_dir=str(tmp_path / "other-machine"))
    assert read_file(place / "f") == b"old"


def test_hidden_and_brought_back(place):
    """A deleted file that the store shows again is told by who has deleted it, and refused with rollback=deny."""
    write_file(place / "f", b"content")
    old = place.get("f")
    os.unlink(place / "f")
    place.site.umount()
    place.put("f", *old)
    place.site.remount(rollback="deny")
    assert outcome(place / "f") == errno.EIO


@pytest.mark.parametrize("mode", ["cse-key", pytest.param("cse-kms", marks=pytest.mark.long)])
def test_segments(mode, mount, request, tmp_path):
    """Of larger files: segments exchanged, of an older version, and the trailer of one; what is authentic is still read."""
    place = Place(mode, mount, request, str(tmp_path / "state"))
    for name in "abc":
        write_file(place / name, blob(2 * SEGMENT + 99, name + "old"))
    old = {name: place.get(name) for name in "abc"}
    for name in "abc":
        write_file(place / name, blob(2 * SEGMENT + 99, name))
    place.site.umount()
    stored = 128 * STRIDE
    (body, meta), end = place.get("a"), 3 * 16 + 104
    place.put("a", body[stored:2 * stored] + body[:stored] + body[2 * stored:], meta)
    body, meta = place.get("b")
    place.put("b", old["b"][0][:stored] + body[stored:], meta)
    body, meta = place.get("c")
    place.put("c", body[:-end] + old["c"][0][-end:], meta)
    place.site.remount()
    assert outcome(place / "a") == outcome(place / "b") == outcome(place / "c") == errno.EIO
    with open(place / "b", "rb", buffering=0) as f:
        with fails(errno.EIO):
            os.pread(f.fileno(), 1, 0)
        assert os.pread(f.fileno(), 100, SEGMENT) == blob(2 * SEGMENT + 99, "b")[SEGMENT:SEGMENT + 100]


def test_kms_alone_opens_nothing_else(mount, moto_store, kms):
    """Who may use the KMS key and write to the bucket, but has not the volume's key, cannot make an object that is taken."""
    arn = kms.new_key()
    site = Site(mount, moto_store, enc="cse-kms", **kms.options(arn, keyring=None))
    write_file(site / "f", b"content")
    site.umount()
    meta = moto_store.meta_of("f")
    context = {k: v for k, v in json.loads(meta["x-amz-matdesc"]).items() if k != "s3cryptfs-key-id"}
    made = kms.client.encrypt(KeyId=arn, Plaintext=bytes(32), EncryptionContext=context)
    forged = dict(meta, **{"x-amz-key-v2": base64.b64encode(made["CiphertextBlob"]).decode()})
    moto_store.put("f", moto_store.body_of("f"), Metadata=forged)
    site.remount()
    kms.proxy.reset()
    assert outcome(site / "f") == errno.EIO
    assert "Decrypt" not in kms.proxy.counts()


def test_without_the_kms(mount, moto_store, kms, tmp_path):
    """The disks of the machine, cache and journal and all, give nothing to who is refused the KMS key."""
    folders = {"cache_dir": str(tmp_path / "cache"), "state_dir": str(tmp_path / "state")}
    site = Site(mount, moto_store, enc="cse-kms", writeback=True, **folders, **kms.options(kms.new_key(), keyring=None))
    write_file(site / "f", MARKER)
    assert read_file(site / "f") == MARKER
    moto_store.proxy.fault("reset", method="PUT")
    write_file(site / "unsent", MARKER)
    site.m.kill()
    moto_store.proxy.fault("off")
    kms.proxy.fault("denied")
    m = mount(moto_store.source, wait=False, **moto_store.options(**dict(site.options, retries=0)))
    status, text = m.fail()
    assert status == 1 and "no permission" in text
    kms.proxy.fault("off")
    site.remount()
    assert read_file(site / "unsent") == MARKER


def test_ssec_objects_of_others(rgw_store, mount, keyring):
    """sse-c: what was not encrypted, or under another key, is not read; who writes to the bucket can only destroy."""
    site = Site(mount, rgw_store, enc="sse-c", keyring=keyring.path)
    for name in ("plain", "other", "good"):
        write_file(site / name, MARKER)
    site.umount()
    rgw_store.put("plain", b"not encrypted")
    rgw_store.put("other", b"under a key of his own", SSECustomerAlgorithm="AES256", SSECustomerKey=b"k" * 32)
    site.remount()
    for name in ("plain", "other"):
        assert outcome(site / name) in (errno.EIO, errno.EACCES)
    assert read_file(site / "good") == MARKER


@pytest.mark.parametrize("enc", ["sse-s3", "sse-kms", "none"])
def test_server_side_is_not_authenticated(enc, moto_store, mount, kms):
    """The modes in which the store encrypts, or nobody: objects exchanged by who may write are what is read."""
    options = {"kms_key_id": kms.new_key()} if enc == "sse-kms" else {}
    site = Site(mount, moto_store, enc=enc, keyring=None, **options)
    write_file(site / "a", b"a")
    write_file(site / "b", b"b")
    site.umount()
    a = moto_store.body_of("a"), moto_store.meta_of("a")
    moto_store.put("b", a[0], Metadata=a[1])
    site.remount()
    assert read_file(site / "b") == b"a"


class Wire:
    """A relay that keeps what passes, both ways."""

    def __init__(self, port):
        self.target, self.seen, self.open = port, bytearray(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self.target))
            self.open += [here, there]
            for pair in ((here, there), (there, here)):
                threading.Thread(target=self.pass_on, args=pair, daemon=True).start()

    def pass_on(self, a, b):
        try:
            while data := a.recv(65536):
                self.seen += data
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        for s in [self.listener] + self.open:
            s.close()


@pytest.mark.parametrize("enc", ["cse-key", "sse-s3"])
def test_who_reads_the_wire(enc, moto_store, mount, keyring):
    """Over plain HTTP: of cse-key names and sizes pass, and no content or key; of modes of the store all of it."""
    wire = Wire(moto_store.proxy.port)
    options = {"keyring": keyring.path} if enc == "cse-key" else {"keyring": None}
    site = Site(mount, moto_store, enc=enc, allow_http=True, **options)
    site.umount()
    site.remount(endpoint="http://127.0.0.1:%d" % wire.port, addressing="path", ca_file=None)
    write_file(site / "name-that-is-seen", MARKER * 10)
    site.remount(endpoint="http://127.0.0.1:%d" % wire.port, addressing="path", ca_file=None)
    assert read_file(site / "name-that-is-seen") == MARKER * 10
    site.umount()
    wire.close()
    assert b"name-that-is-seen" in wire.seen
    assert (MARKER in wire.seen) == (enc == "sse-s3")
    secret = keyring.secret()
    assert secret not in wire.seen and base64.b64encode(secret) not in wire.seen
