# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
format=s3ec-v2 and s3ec-v3 with enc=cse-kms, on moto: an independent client with a KMS key reads what is written, and
what it writes is read; keys change by ReEncrypt; what the seal names is what is asked.
"""
import errno
import json
import os
import time

import pytest

import decoder
import s3ec_client
from harness import CTL, MARKER, Site, blob, fails, read_file, run, wait_for, write_file

SEGMENT = 8 << 20
VERSIONS = {"s3ec-v2": 2, "s3ec-v3": 3}
FORMATS = sorted(VERSIONS)
CONTEXT = {"team": "a", "purpose": "tests"}
WORDS = ";".join("%s=%s" % pair for pair in CONTEXT.items())


@pytest.fixture
def site(mount, moto_store, kms):
    """make(key, **options) -> a mount of the store with cse-kms."""
    def make(key, **options):
        options.setdefault("keyring", None)
        return Site(mount, moto_store, enc="cse-kms", **kms.options(key, **options))
    return make


def theirs(store, kms, arn, key, version, context=None):
    """What another client makes of it, which has nothing but the KMS key and the context."""
    meta = store.meta_of(key)
    assert s3ec_client.version_of(meta) == version
    return s3ec_client.decrypt(meta, store.body_of(key), kms.key(arn), context)


def context_of(meta):
    return json.loads(meta.get("x-amz-t") or meta["x-amz-matdesc"])


def ctl(store, command, *args, check=True, enc="cse-kms", **options):
    options = dict(store.options(enc=enc, **options))
    env = dict(os.environ, **options.pop("env"))
    words = ",".join("%s=%s" % (k, v) for k, v in options.items() if v is not None)
    return run(CTL, command, "-o", words, store.source, *args, env=env, check=check)


@pytest.mark.parametrize("format", FORMATS)
def test_written(format, site, kms, moto_store):
    """Contents of all sizes; changes write anew under another key, attributes and names keep body and envelope."""
    arn, version = kms.new_key(), VERSIONS[format]
    data = {"f%d" % n: blob(n, n) for n in (0, 1, 65536, 200_001, SEGMENT, 2 * SEGMENT + 3)}
    data["small"] = MARKER * 100
    s = site(arn, format=format, kms_context=WORDS)
    for name, content in data.items():
        write_file(s / name, content)
    os.symlink("small", s / "link")
    s.remount(format=None, kms_context="other=pairs")  # the seal vouches for the context: the mount's is for what it writes
    for name, content in data.items():
        assert os.stat(s / name).st_size == len(content)
        assert read_file(s / name) == content
    assert os.readlink(s / "link") == "small"
    keys = set()
    for name, content in data.items():
        meta = moto_store.meta_of(name)
        assert theirs(moto_store, kms, arn, name, version, CONTEXT) == content
        assert context_of(meta) == dict(CONTEXT, **{"aws:x-amz-cek-alg": s3ec_client.ALG_V2 if version == 2 else s3ec_client.ALG_V3})
        found = moto_store.decode(kms, name)
        assert (found.layout, found.master_id, found.plaintext()) == (decoder.S3EC, arn, content)
        keys.add(found.data_key)
    assert len(keys) == len(data) and MARKER not in moto_store.body_of("small")
    s.remount(format=format, kms_context=None)
    content = bytearray(data["f200001"])
    before = moto_store.body_of("f200001")
    os.chmod(s / "f200001", 0o600)
    os.rename(s / "f200001", s / "g")
    assert moto_store.body_of("g") == before and theirs(moto_store, kms, arn, "g", version, CONTEXT) == content
    with open(s / "g", "r+b") as f:
        f.seek(100_000)
        f.write(b"changed")
    content[100_000:100_007] = b"changed"
    assert theirs(moto_store, kms, arn, "g", version) == content  # the context is that of the mount by now
    assert moto_store.decode(kms, "g").data_key not in keys
    s.remount()
    assert read_file(s / "g") == content
    assert moto_store.uploads() == []


@pytest.mark.parametrize("format", FORMATS)
def test_read_beside(format, site, kms, moto_store):
    """Objects of the other client in the same volume; ours after a change is one that it reads."""
    arn, version = kms.new_key(), VERSIONS[format]
    s = site(arn, format=format, kms_context=WORDS)
    s.umount()
    body, meta = s3ec_client.encrypt(version, kms.key(arn), b"theirs", CONTEXT)
    moto_store.put("f", body, Metadata=meta)
    s.remount()
    with fails(errno.EIO):
        read_file(s / "f")
    s.remount(accept="sealed:s3ec")
    assert read_file(s / "f") == b"theirs"
    with open(s / "f", "ab") as f:
        f.write(b" and ours")
    assert theirs(moto_store, kms, arn, "f", version, CONTEXT) == b"theirs and ours"
    s.remount(accept=None)
    assert read_file(s / "f") == b"theirs and ours"


def test_requests(site, kms, moto_store):
    """A create takes a key that was fetched ahead; attributes ask no KMS; a read asks once, and not again while the key is kept."""
    arn = kms.new_key()
    kms.proxy.latency(20)
    s = site(arn, format="s3ec-v3", log_level="debug")
    wait_for(lambda: kms.proxy.counts().get("GenerateDataKey", 0) >= 8, what="keys ahead")
    time.sleep(0.1)
    for i in range(12):
        write_file(s / ("f%d" % i), b"y")
    assert s.m.text().count("waits for a data key") <= 2
    kms.proxy.latency(0)
    s.remount(ro=True)
    kms.proxy.reset()
    assert len([os.stat(s / n) for n in os.listdir(s.path)]) == 12
    assert "Decrypt" not in kms.proxy.counts()
    assert read_file(s / "f0") == read_file(s / "f0") == b"y"
    assert kms.proxy.counts()["Decrypt"] == 1


def test_keys_of_the_user_alone(site, kms, moto_store):
    """What is wrapped under a key that the user did not name is refused before the KMS is asked."""
    first, second = kms.new_key(), kms.new_key()
    s = site(first, format="s3ec-v3")
    write_file(s / "old", b"old")
    s.umount()
    s = site(second, format="s3ec-v3", kms_read_keys=first)  # the volume gets a slot for the second
    assert read_file(s / "old") == b"old"
    s.umount()
    s = site(second, format="s3ec-v3")
    kms.proxy.reset()
    with fails(errno.EACCES):
        read_file(s / "old")
    assert "kms_read_keys" in s.m.text() and first in s.m.text() and "Decrypt" not in kms.proxy.counts()


@pytest.mark.parametrize("format", FORMATS)
def test_tampered(format, site, kms, moto_store):
    """Whatever is altered of the envelope or moved from another object breaks the seal, and the KMS is not asked."""
    arn, other = kms.new_key(), kms.new_key()
    s = site(arn, format=format)
    for name in ("a", "b", "c"):
        write_file(s / name, name.encode() * 1000)
    s.umount()
    meta, body = moto_store.meta_of("a"), moto_store.body_of("a")
    b_meta, b_body = moto_store.meta_of("b"), moto_store.body_of("b")
    v3 = format == "s3ec-v3"
    context = "x-amz-t" if v3 else "x-amz-matdesc"
    wrapped = "x-amz-3" if v3 else "x-amz-key-v2"
    new_body, new_meta = s3ec_client.encrypt(VERSIONS[format], kms.key(arn), b"a" * 1000)
    cases = {
        "context": (dict(meta, **{context: json.dumps(dict(context_of(meta), team="b"))}), body),
        "no context": ({k: v for k, v in meta.items() if k != context}, body),
        "key of another object": (dict(meta, **{wrapped: b_meta[wrapped]}), body),
        "all of another object": (b_meta, b_body),
        "body of another object": (dict(b_meta, s3cryptfs=meta["s3cryptfs"]), b_body),
        "content of a person with the KMS key": (dict(new_meta, s3cryptfs=meta["s3cryptfs"]), new_body),
        "claimed to be wrapped by a master key": (dict(meta, **({"x-amz-w": "02"} if v3 else {"x-amz-wrap-alg": "AES/GCM"})), body),
        "cut": (meta, body[:-1]),
    }
    for case, (altered, content) in cases.items():
        moto_store.put("a", content, Metadata=altered)
        s.remount()
        kms.proxy.reset()
        with fails(errno.EIO):
            read_file(s / "a")
        assert "Decrypt" not in kms.proxy.counts(), case
    # A change of the body shows when it is read, before a byte of it is returned.
    moto_store.put("a", body[:500] + bytes([body[500] ^ 1]) + body[501:], Metadata=meta)
    s.remount()
    with open(s / "a", "rb", buffering=0) as f, fails(errno.EIO):
        os.pread(f.fileno(), 1, 0)
    # Without the seal it is an object of another client.
    moto_store.put("a", body, Metadata={k: v for k, v in meta.items() if k != "s3cryptfs"})
    s.remount()
    with fails(errno.EIO):
        read_file(s / "a")
    assert read_file(s / "c") == b"c" * 1000
    assert other


def test_rekey(site, mount, keyring, kms, moto_store, tmp_path):
    """Between KMS keys inside the KMS; from a master key and back; bodies stay, other clients follow."""
    first, second = kms.new_key(), kms.new_key()
    data = {"v2": blob(3000, 1), "v3": blob(SEGMENT + 5, 2)}
    s = site(first, format="s3ec-v2", kms_context="team=a")
    write_file(s / "v2", data["v2"])
    s.remount(format="s3ec-v3")
    write_file(s / "v3", data["v3"])
    s.umount()
    bodies = {name: moto_store.body_of(name) for name in data}
    ids = {name: moto_store.decode(kms, name).content_id for name in data}
    s = site(second, kms_read_keys=first)  # the volume gets a slot for the second
    s.umount()
    kms.proxy.reset()
    moto_store.proxy.reset()
    options = kms.options(second, kms_read_keys=first, kms_context="team=b")
    said = ctl(moto_store, "rekey", cache_dir=str(tmp_path / "rekey"), **options)
    assert "2 objects: 2 brought under " + second in said.stdout
    counts = kms.proxy.counts()
    assert counts["ReEncrypt"] == 2 and counts.get("Decrypt", 0) <= 2  # the volume's, and a look at the copy in parts

    def check(master, context):
        for name, version in (("v2", 2), ("v3", 3)):
            meta = moto_store.meta_of(name)
            assert moto_store.body_of(name) == bodies[name] and s3ec_client.version_of(meta) == version
            assert s3ec_client.decrypt(meta, bodies[name], master, context) == data[name]

    check(kms.key(second), {"team": "b"})
    assert all(moto_store.decode(kms, name).content_id == ids[name] for name in data)
    again = ctl(moto_store, "rekey", cache_dir=str(tmp_path / "again"), **options)
    assert "0 brought under" in again.stdout
    s = site(second)
    assert {name: read_file(s / name) for name in data} == data
    s.umount()
    # To a master key, with the KMS to open them, and back.
    m = Site(mount, moto_store, enc="cse-kms", **kms.options(second, keyring=keyring.path))  # a slot for it
    m.umount()
    ctl(moto_store, "rekey", enc="cse-key", cache_dir=str(tmp_path / "key"), keyring=keyring.path, kms_read_keys=second,
        kms_endpoint=kms.proxy.endpoint)
    check(keyring.secret(), None)
    m = Site(mount, moto_store, enc="cse-key", keyring=keyring.path)
    assert {name: read_file(m / name) for name in data} == data
    m.umount()
    ctl(moto_store, "rekey", cache_dir=str(tmp_path / "back"), keyring=keyring.path, **kms.options(first))
    check(kms.key(first), None)
    m = Site(mount, moto_store, enc="cse-kms", **kms.options(first, keyring=None))
    assert {name: read_file(m / name) for name in data} == data
    text = ctl(moto_store, "stat", "v3", **kms.options(first)).stdout
    assert first in text and "cse-kms" in text and "kms+context" in text


def test_killed(site, kms, moto_store, tmp_path):
    """What waits in the journal, base and all, is sent by the next mount."""
    arn = kms.new_key()
    s = site(arn, format="s3ec-v3", writeback=True, state_dir=str(tmp_path / "state"))
    write_file(s / "f", b"before" * 1000)
    run(CTL, "sync", s.path)
    moto_store.proxy.latency(3000)
    with open(s / "f", "r+b") as f:
        f.write(b"after!")
        os.fsync(f.fileno())
    os.chmod(s / "f", 0o600)
    s.m.kill()
    moto_store.proxy.latency(0)
    s.remount()
    assert read_file(s / "f") == b"after!" + b"before" * 999
    s.umount()
    assert theirs(moto_store, kms, arn, "f", 3) == b"after!" + b"before" * 999


def test_refused(mount, moto_store, kms):
    arn = kms.new_key()
    m = mount(moto_store.source, wait=False, **moto_store.options(
        enc="cse-kms", format="s3ec-v2", **kms.options(arn, keyring=None, kms_reuse=10)))
    status, text = m.fail()
    assert status != 0 and "kms_reuse does not go with format=s3ec-v2" in text
