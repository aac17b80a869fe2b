# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Objects that the Amazon S3 Encryption Clients wrote (tests/data/s3ec), put into a bucket by boto3
and read by mounts with accept=s3ec and s3ec-v1: whole, at random offsets, and not at all when a
bit of them was changed.
"""
import base64
import errno
import glob
import hashlib
import json
import os
import random
import stat
import subprocess
import threading
import time

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (Encoding, NoEncryption, PrivateFormat,
                                                          load_der_private_key)

from harness import CTL, Site, blob, fails, read_file, run, write_file

DATA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "s3ec")
MIB = 1 << 20
LEGACY = ("v1", "v2-cbc", "v2-aeswrap", "v2-rsaoaep256", "v2-kmslegacy")


class Vector:
    def __init__(self, name):
        def load(file):
            return json.loads(read_file(os.path.join(DATA, name, file)))
        self.name = name
        self.body = read_file(os.path.join(DATA, name, "body.bin"))
        self.meta = load("metadata.json")["user_metadata"]
        self.key = load("key.json")
        plain = load("plaintext.json")
        self.size, self.sha256 = plain["length"], plain["sha256"]
        path = os.path.join(DATA, name, "instruction.json")
        self.instruction = read_file(path) if os.path.exists(path) else None
        self.legacy = name.startswith(LEGACY)
        self.kms = self.key["wrap"] == "kms"
        text = b"".join(hashlib.sha256(plain["seed"].encode() + i.to_bytes(8, "big")).digest()
                        for i in range(self.size // 32 + 1))
        self.plain = text[:self.size]

    def put(self, store, key=None, body=None, meta=None, instruction=None):
        key = key or self.name
        store.put(key, self.body if body is None else body, Metadata=self.meta if meta is None else meta)
        instruction = self.instruction if instruction is None else instruction
        if instruction is not None:
            store.put(key + ".instruction", instruction, Metadata={"x-amz-crypto-instr-file": ""})

    def add_to(self, path, folder):
        """Its key to the keyring."""
        lines = ["", "[%s]" % self.name]
        if self.key["wrap"] == "aes":
            lines.append("secret = " + base64.b64encode(bytes.fromhex(self.key["master_key_hex"])).decode())
        else:
            der = base64.b64decode(self.key["private_key_der_b64"])
            pem = os.path.join(folder, self.name + ".pem")
            write_file(pem, load_der_private_key(der, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8,
                                                                        NoEncryption()))
            os.chmod(pem, 0o600)
            lines.append("rsa_private_key = " + pem)
        lines += ["desc.%s = %s" % pair for pair in self.key["caller_supplied"].items()]
        write_file(path, "\n".join(lines) + "\n", "a")


ALL = {name: Vector(name) for name in sorted(os.path.basename(p) for p in glob.glob(DATA + "/v*"))}
READ = [v for v in ALL.values() if not v.legacy and not v.kms]
OLD = [v for v in ALL.values() if v.legacy and not v.kms]


@pytest.fixture
def theirs(keyring, tmp_path):
    """The keyring with all master keys of what accept=s3ec reads."""
    for v in READ:
        v.add_to(keyring.path, str(tmp_path))
    return keyring


def check_content(path, v, rounds=8):
    assert os.stat(path).st_size == v.size
    rng = random.Random(v.name)
    with open(path, "rb", buffering=0) as f:
        for _ in range(rounds if v.size else 0):
            at = rng.randrange(v.size)
            n = rng.choice((1, 17, 4096, 70000))
            assert os.pread(f.fileno(), n, at) == v.plain[at:at + n]
    data = read_file(path)
    assert len(data) == v.size and hashlib.sha256(data).hexdigest() == v.sha256


def ctl(store, keyring, command, *paths, check=True, **options):
    options = dict(store.options(keyring=keyring.path), **options)
    env = dict(os.environ, **options.pop("env", {}))
    words = [k if value is True else "%s=%s" % (k, value) for k, value in options.items()]
    return run(CTL, command, "-o", ",".join(words), store.source, *paths, env=env, check=check)


def refused(path):
    """Not a byte of it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        for at in (0, 1, 4096):
            with fails(errno.EIO):
                os.pread(fd, 1, at)
    finally:
        os.close(fd)


def test_vectors(rgw_store, mount, theirs):
    for v in ALL.values():
        v.put(rgw_store, "d/" + v.name)
    m = mount(rgw_store.source, ro=True, accept="s3ec", **rgw_store.options())
    assert sorted(os.listdir(m / "d")) == sorted(ALL)  # instruction files are not shown
    for v in READ:
        check_content(m / ("d/" + v.name), v)
        assert stat.S_IMODE(os.stat(m / ("d/" + v.name)).st_mode) == 0o644
    for v in ALL.values():
        if v in READ or (v.kms and not v.legacy):
            continue
        with fails(errno.EIO):
            os.stat(m / ("d/" + v.name))
        assert "d/%s refused: V" % v.name in m.text() and "accept=s3ec-v1" in m.text()
    # Known formats under a KMS key: the reason is the key, and only for them.
    for v in ALL.values():
        if v.kms and not v.legacy and v.size:
            with fails(errno.EACCES):
                read_file(m / ("d/" + v.name))
    assert "a KMS key wraps its data key" in m.text()
    with fails(errno.EROFS):
        write_file(m / "d/new", b"x")


def test_lookup_without_listing(rgw_store, mount, theirs):
    """What an instruction file costs, where nothing is known of the folder."""
    v = ALL["v3-aes256-instr-65535"]
    v.put(rgw_store, "a/b")
    ALL["v2-aes256-instr-1"].put(rgw_store, "a/c")
    m = mount(rgw_store.source, ro=True, accept="s3ec", **rgw_store.options())
    check_content(m / "a/b", v)
    check_content(m / "a/c", ALL["v2-aes256-instr-1"])
    rgw_store.put("a/orphan", blob(100))
    with fails(errno.EIO):
        os.stat(m / "a/orphan")


def test_ctl(rgw_store, theirs):
    v = ALL["v3-aes256-65536"]
    v.put(rgw_store, "x")
    text = ctl(rgw_store, theirs, "stat", "x", accept="s3ec").stdout
    assert "V3 of the Amazon S3 Encryption Client" in text and "65536" in text and "AES/GCM" in text
    options = dict(rgw_store.options(keyring=theirs.path), accept="s3ec")
    env = dict(os.environ, **options.pop("env"))
    out = subprocess.run([CTL, "cat", "-o", ",".join("%s=%s" % p for p in options.items()), rgw_store.source, "x"],
                         env=env, stdout=subprocess.PIPE, check=True).stdout
    assert out == v.plain
    assert "x" in ctl(rgw_store, theirs, "ls", accept="s3ec").stdout


@pytest.mark.parametrize("v", OLD, ids=lambda v: v.name)
def test_legacy(v, rgw_store, mount, keyring, tmp_path):
    v.add_to(keyring.path, str(tmp_path))
    v.put(rgw_store)
    bare = {k: x for k, x in v.meta.items() if k != "x-amz-unencrypted-content-length"}
    v.put(rgw_store, "bare", meta=bare)
    m = mount(rgw_store.source, ro=True, accept="s3ec-v1", **rgw_store.options())
    check_content(m / v.name, v)
    check_content(m / "bare", v)


def test_legacy_needs_ro(rgw_store, mount, keyring, tmp_path):
    v = ALL["v1-cbc-aes256-65535"]
    v.add_to(keyring.path, str(tmp_path))
    v.put(rgw_store)
    status, text = mount(rgw_store.source, wait=False, accept="s3ec-v1", **rgw_store.options()).fail()
    assert status != 0 and "only with ro" in text
    found = ctl(rgw_store, keyring, "stat", v.name, accept="s3ec-v1").stdout
    assert "V1 of the Amazon S3 Encryption Client" in found and "65535" in found


def test_not_asked_for(rgw_store, mount, theirs):
    for name in ("v2-aes256-65536", "v3-aes256-1", "v3-aes256-instr-65535", "v1-cbc-aes256-65535"):
        ALL[name].put(rgw_store)
    ALL["v2-aes256-instr-1"].put(rgw_store)
    for options in ({"enc": "none", "ro": True}, {"ro": True, "accept": "plain"}):
        m = mount(rgw_store.source, **rgw_store.options(**options))
        for name, option in (("v2-aes256-65536", "accept=s3ec reads it"), ("v3-aes256-1", "accept=s3ec reads it"),
                             ("v3-aes256-instr-65535", "accept=s3ec reads it"),
                             ("v1-cbc-aes256-65535", "accept=s3ec-v1")):
            with fails(errno.EIO):
                read_file(m / name)
            line = next(x for x in m.text().splitlines() if name + " refused" in x)
            assert "Amazon S3 Encryption Client" in line and option in line, line
        m.umount()


def flip(data, at, bit=0):
    data = bytearray(data)
    data[at] ^= 1 << bit
    return bytes(data)


def flip64(text, at):
    return base64.b64encode(flip(base64.b64decode(text), at)).decode()


def tampered(v):
    """(name, body, metadata, instruction)"""
    yield "first", flip(v.body, 0), None, None
    yield "tag", flip(v.body, len(v.body) - 1, 7), None, None
    yield "middle", flip(v.body, len(v.body) // 2, 3), None, None
    yield "cut", v.body[:-1], None, None
    yield "short", v.body[:-32], None, None
    yield "only-tag", v.body[-16:], None, None
    yield "longer", v.body + b"\0", None, None
    for name in ("x-amz-iv", "x-amz-key-v2", "x-amz-3", "x-amz-d", "x-amz-i"):
        if name in v.meta:
            yield name, None, dict(v.meta, **{name: flip64(v.meta[name], 5)}), None
    if "x-amz-cek-alg" in v.meta:
        yield "downgrade", None, dict(v.meta, **{"x-amz-cek-alg": "AES/CBC/PKCS5Padding"}), None
    if v.instruction:
        file = json.loads(v.instruction)
        for name in ("x-amz-3", "x-amz-key-v2"):
            if name in file:
                yield "file", None, None, json.dumps(dict(file, **{name: flip64(file[name], 5)})).encode()
        yield "file-c", None, None, json.dumps(dict(file, **{"x-amz-c": "115", "x-amz-d": "AAAA"})).encode()


@pytest.mark.parametrize("name", ["v2-aes256-65536", "v2-rsa2048-65535", "v3-rsa2048-65536", "v3-aes256-instr-65535",
                                  "v3-aes256-multipart-5242881"])
def test_tampered(name, rgw_store, mount, theirs):
    v = ALL[name]
    v.put(rgw_store, "good")
    cases = list(tampered(v))
    for case, body, meta, instruction in cases:
        v.put(rgw_store, case, body, meta, instruction)
    # The good one last: they share its envelope, and what they left in the cache must not pass for it.
    m = mount(rgw_store.source, ro=True, accept="s3ec", **rgw_store.options())
    for case, _, _, _ in cases:
        try:
            refused(m / case)
        except OSError as e:
            assert e.errno == errno.EIO, case
        assert case in m.text(), case
    check_content(m / "good", v, rounds=2)


def test_empty_is_verified(rgw_store, mount, theirs):
    """An empty file is never read: a body cut to its tag must not look like one."""
    v = ALL["v2-aes256-0"]
    v.put(rgw_store, "good")
    v.put(rgw_store, "bad", flip(v.body, 3))
    ALL["v2-aes256-65536"].put(rgw_store, "cut", ALL["v2-aes256-65536"].body[-16:])
    m = mount(rgw_store.source, ro=True, accept="s3ec", **rgw_store.options())
    for names in (["good", "bad", "cut"], os.listdir(m.path)):
        for name in names:
            if name == "good":
                assert read_file(m / name) == b""
            else:
                with fails(errno.EIO):
                    os.stat(m / name)


def wrap_v2(secret, plain):
    """An object as the client writes it, V2 with AES/GCM; the body is made in pieces."""
    key, iv, nonce = os.urandom(32), os.urandom(12), os.urandom(12)
    wrapped = nonce + AESGCM(secret).encrypt(nonce, key, b"AES/GCM/NoPadding")
    cipher = Cipher(algorithms.AES(key), modes.GCM(iv)).encryptor()
    body = cipher.update(plain) + cipher.finalize()
    meta = {"x-amz-key-v2": base64.b64encode(wrapped).decode(), "x-amz-iv": base64.b64encode(iv).decode(),
            "x-amz-wrap-alg": "AES/GCM", "x-amz-cek-alg": "AES/GCM/NoPadding", "x-amz-tag-len": "128",
            "x-amz-matdesc": "{}"}
    return body + cipher.tag, meta


def test_large(rgw_store, mount, keyring):
    """Verified in one pass with bounded memory, once; later reads ask for what they need."""
    size = 200 * MIB + 12345
    plain = blob(MIB, 5) * 201
    plain = plain[:size]
    body, meta = wrap_v2(keyring.secret(), plain)
    rgw_store.put("big", body, Metadata=meta)
    rgw_store.put("bad", flip(body, len(body) - 1), Metadata=meta)
    del body
    m = mount(rgw_store.source, ro=True, accept="s3ec", memory="64M", **rgw_store.options())
    assert os.stat(m / "big").st_size == size
    refused(m / "bad")
    front = rgw_store.proxy
    with open(m / "big", "rb", buffering=0) as f:
        for at in (150 * MIB + 7, size - 3, 0):
            assert os.pread(f.fileno(), 5000, at) == plain[at:at + 5000]
        front.reset()
        for at in (77 * MIB, 99 * MIB + 1, 3 * MIB):
            assert os.pread(f.fileno(), 5000, at) == plain[at:at + 5000]
        # From the cache where its writer kept up; else at most a GET for each read and its read-ahead.
        assert front.counts().get("GET", 0) <= 6, front.counts()
    digest = hashlib.sha256()
    with open(m / "big", "rb") as f:
        while piece := f.read(MIB):
            digest.update(piece)
    assert digest.hexdigest() == hashlib.sha256(plain).hexdigest()
    if os.environ.get("S3CRYPTFS_SANITIZED") != "1":
        assert m.memory_peak() < 180 * MIB


def test_readers_share_the_pass(rgw_store, mount, keyring):
    """Many at once, from the first moment: one pass for all; who gives up does not end it."""
    size = 24 * MIB + 5
    plain = (blob(MIB, 6) * 25)[:size]
    body, meta = wrap_v2(keyring.secret(), plain)
    rgw_store.put("f", body, Metadata=meta)
    m = mount(rgw_store.source, ro=True, accept="s3ec", **rgw_store.options())
    os.stat(m / "f")
    front = rgw_store.proxy
    front.latency(300)
    front.reset()
    impatient = subprocess.Popen(["head", "-c", "1", m / "f"], stdout=subprocess.DEVNULL)
    wrong = []

    def reader(seed):
        rng = random.Random(seed)
        with open(m / "f", "rb", buffering=0) as f:
            for _ in range(6):
                at = rng.randrange(size)
                if os.pread(f.fileno(), 3000, at) != plain[at:at + 3000]:
                    wrong.append(at)

    readers = [threading.Thread(target=reader, args=(i,)) for i in range(8)]
    for t in readers:
        t.start()
    impatient.kill()
    impatient.wait()
    for t in readers:
        t.join()
    assert not wrong
    whole = [line for line in front.requests().splitlines() if "8388608" in line or "bytes=0-8388607" in line]
    assert whole, front.requests()
    assert sum("bytes=0-8388607" in line for line in whole) == 1


def test_killed_in_the_middle(rgw_store, mount, keyring):
    """A reader, whose work is the next one's; and the daemon."""
    plain = (blob(MIB, 7) * 48)[:48 * MIB]
    body, meta = wrap_v2(keyring.secret(), plain)
    for name in ("f", "g"):
        rgw_store.put(name, body, Metadata=meta)
    m = mount(rgw_store.source, ro=True, accept="s3ec", **rgw_store.options())
    front = rgw_store.proxy
    for name in ("f", "g"):
        os.stat(m / name)
        front.latency(300)
        reader = subprocess.Popen(["head", "-c", "1", m / name], stdout=subprocess.DEVNULL)
        time.sleep(0.8)
        if name == "f":
            reader.kill()
            reader.wait()
            front.latency(0)
            assert read_file(m / name) == plain
    m.process.terminate()
    assert m.process.wait(30) == 0
    m.ended = True
    reader.wait()


def test_other_bytes_after_verification(file_store, mount, keyring):
    """A store that gives other bytes under the same ETag later: they are compared with what was verified."""
    size = 48 * MIB
    plain = blob(MIB, 9) * 48
    body, meta = wrap_v2(keyring.secret(), plain)
    other = bytearray(body)
    for at in range(500, size, 65536):
        other[at] ^= 1
    m = mount(file_store.source, enc="none")
    write_file(m / "f", body)
    m.umount()
    file_store.set_meta("f", meta)
    # The cache holds a third of it.
    m = mount(file_store.source, ro=True, accept="s3ec", cache_size="16M", memory="64M")
    failed = 0
    with open(m / "f", "rb", buffering=0) as f:
        assert os.pread(f.fileno(), 10, 0) == plain[:10]
        file_store.set_body("f", bytes(other))
        for at in range(0, size, 65536):
            try:
                assert os.pread(f.fileno(), 1000, at) == plain[at:at + 1000]
            except OSError as e:
                assert e.errno == errno.EIO
                failed += 1
    assert failed > 100
    m.umount()
    m = mount(file_store.source, ro=True, accept="s3ec")
    refused(m / "f")


@pytest.mark.parametrize("writeback", [False, True], ids=["through", "writeback"])
def test_writable(writeback, rgw_store, mount, theirs, tmp_path):
    """Beside a volume: read, replaced, changed, renamed; what stays theirs stays readable for them."""
    options = {"accept": "sealed:s3ec", "state_dir": str(tmp_path / "state"), "writeback": writeback or None}
    site = Site(mount, rgw_store, keyring=theirs.path, **options)
    write_file(site / "ours", b"ours")
    v = ALL["v3-aes256-multipart-5242881"]
    small = ALL["v2-rsa2048-65535"]
    for name in ("read", "whole", "part", "from", "mode", "gone", "append"):
        v.put(rgw_store, name)
    small.put(rgw_store, "dir/a")
    ALL["v3-aes256-instr-65535"].put(rgw_store, "instr")
    site.remount()
    check_content(site / "read", v)
    with fails(errno.EIO):  # its instruction file would be left behind
        os.stat(site / "instr")
    assert "instruction file: only a read-only mount reads it" in site.m.text()
    write_file(site / "whole", b"new")
    with open(site / "part", "r+b") as f:
        f.seek(70000)
        f.write(b"changed")
    with open(site / "append", "ab") as f:
        f.write(b"more")
    os.rename(site / "from", site / "to")
    os.rename(site / "dir", site / "folder")
    os.chmod(site / "mode", 0o600)
    os.unlink(site / "gone")
    expected = bytearray(v.plain)
    expected[70000:70007] = b"changed"
    for again in range(2):
        assert read_file(site / "part") == bytes(expected)
        assert read_file(site / "append") == v.plain + b"more"
        assert read_file(site / "whole") == b"new"
        check_content(site / "to", v, rounds=2)
        check_content(site / "mode", v, rounds=2)
        check_content(site / "folder/a", small, rounds=2)
        assert stat.S_IMODE(os.stat(site / "mode").st_mode) == 0o600
        if not again:
            site.remount()
    site.umount()
    assert "gone" not in rgw_store.keys()
    for name in ("to", "mode", "folder/a"):
        was = small if name == "folder/a" else v
        meta = rgw_store.meta_of(name)
        assert {k: x for k, x in meta.items() if k in was.meta} == was.meta
        assert rgw_store.body_of(name) == was.body
    for name in ("part", "append", "whole", "ours"):
        assert rgw_store.decode(theirs, name).plaintext()


def test_crash_with_a_changed_foreign_file(rgw_store, mount, theirs, tmp_path):
    """A change that was acknowledged by the journal is made on the bytes that were verified."""
    v = ALL["v3-aes256-multipart-5242881"]
    state = {"state_dir": str(tmp_path / "state"), "writeback": True, "accept": "sealed:s3ec"}
    m = mount(rgw_store.source, **rgw_store.options(**state))
    m.umount()
    v.put(rgw_store, "part")
    m = mount(rgw_store.source, **rgw_store.options(**state))
    rgw_store.proxy.latency(1500)
    with open(m / "part", "r+b") as f:
        f.seek(70000)
        f.write(b"changed")
        os.fsync(f.fileno())
    m.kill()
    rgw_store.proxy.latency(0)
    m = mount(rgw_store.source, **rgw_store.options(**state))
    expected = bytearray(v.plain)
    expected[70000:70007] = b"changed"
    assert read_file(m / "part") == bytes(expected)
    m.umount()
    assert rgw_store.decode(theirs, "part").plaintext() == bytes(expected)


def test_options(rgw_store, mount):
    status, text = mount(rgw_store.source, wait=False, **rgw_store.options(enc="none", accept="plain:s3ec")).fail()
    assert status != 0 and "enc=cse-key with a keyring, or enc=cse-kms" in text
