# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""enc=cse-kms on moto, whose KMS has real encryption contexts; its requests are counted, delayed and broken by a proxy."""
import base64
import errno
import json
import os
import random
import time

import pytest

import s3ec_client
from harness import CTL, MARKER, Site, blob, fails, read_file, run, wait_for, write_file

SEGMENT = 8 << 20


@pytest.fixture
def site(mount, moto_store, kms):
    """make(key, **options) -> a mount of the store with cse-kms."""
    def make(key, **options):
        options.setdefault("keyring", None)
        return Site(mount, moto_store, enc="cse-kms", **kms.options(key, **options))
    return make


def matdesc(store, key):
    return json.loads(store.meta_of(key)["x-amz-matdesc"])


def context_of(store, key):
    """What the KMS wants to be given for the object."""
    return {k: v for k, v in matdesc(store, key).items() if k != "s3cryptfs-key-id"}


def key_id(arn):
    """moto changes the state of a key by its id only."""
    return arn.split("/")[-1]


def total(kms):
    return sum(n for name, n in kms.proxy.counts().items() if name in
               ("GenerateDataKey", "Decrypt", "Encrypt", "ReEncrypt", "DescribeKey"))


def test_contents(site, moto_store, kms):
    """Files of all kinds come back from a new mount; the bucket has ciphertext under the named key and context."""
    key, files = kms.new_key(), {"empty": b"", "small": MARKER, "chunks": blob(200_000), "large": blob(SEGMENT + 70_000)}
    s = site(key, kms_context="team=a;purpose=tests")
    for name, data in files.items():
        write_file(s / name, data)
    s.remount()
    for name, data in files.items():
        assert read_file(s / name) == data
    for name, data in files.items():
        meta, desc = moto_store.meta_of(name), matdesc(moto_store, name)
        assert meta["x-amz-wrap-alg"] == "s3cryptfs/kms" and desc["s3cryptfs-key-id"] == key
        assert (desc["team"], desc["purpose"]) == ("a", "tests")
        assert set(desc) == {"s3cryptfs-key-id", "s3cryptfs:volume", "s3cryptfs:file", "s3cryptfs:alg", "team", "purpose"}
        assert moto_store.decode(kms, name).plaintext() == data
        # The context is bound: with another one the KMS does not open it.
        wrapped = base64.b64decode(meta["x-amz-key-v2"])
        context = context_of(moto_store, name)
        kms.client.decrypt(CiphertextBlob=wrapped, EncryptionContext=context)
        with pytest.raises(kms.client.exceptions.InvalidCiphertextException):
            kms.client.decrypt(CiphertextBlob=wrapped, EncryptionContext=dict(context, team="b"))
    assert MARKER not in moto_store.body_of("small")


def test_requests(site, kms, moto_store):
    """ls -l, chmod, rename and mkdir ask no KMS; a first read asks once; a second one not at all."""
    key = kms.new_key()
    s = site(key)
    for i in range(5):
        write_file(s / ("f%d" % i), b"x" * 1000)
    os.mkdir(s / "d")
    s.remount(ro=True)
    kms.proxy.reset()
    assert len([os.stat(s / n) for n in os.listdir(s.path)]) == 6
    assert total(kms) == 0
    assert read_file(s / "f0") == b"x" * 1000
    assert read_file(s / "f0") == b"x" * 1000
    assert total(kms) == kms.proxy.counts()["Decrypt"] == 1
    s.remount(ro=None)
    wait_for(lambda: kms.proxy.counts().get("GenerateDataKey", 0) >= 8, what="keys ahead")
    kms.proxy.reset()
    os.chmod(s / "f1", 0o600)
    os.rename(s / "f1", s / "d/g")
    os.utime(s / "f2", (1, 2))
    os.mkdir(s / "e")
    s.remount()
    assert read_file(s / "d/g") == b"x" * 1000
    assert set(kms.proxy.counts()) & {"Encrypt", "ReEncrypt"} == set()


def test_ahead(site, kms, moto_store):
    """With 20 ms to the KMS creates do not wait: they take what they take without."""
    key = kms.new_key()
    kms.proxy.latency(20)
    s = site(key)
    time.sleep(0.5)  # eight keys are there
    kms.proxy.latency(3000)
    begin = time.monotonic()
    for i in range(6):
        write_file(s / ("f%d" % i), b"y")
    assert time.monotonic() - begin < 3
    kms.proxy.latency(0)


@pytest.mark.parametrize("many", [3, 100])
def test_reuse(site, kms, moto_store, many):
    """One key of the KMS serves so many objects, and each is opened by it."""
    key = kms.new_key()
    s = site(key, kms_reuse=many)
    for i in range(7):
        write_file(s / ("f%d" % i), b"%d" % i)
    blobs = {base64.b64decode(moto_store.meta_of("f%d" % i)["x-amz-key-v2"])[80:] for i in range(7)}
    assert len(blobs) == -(-7 // many)
    for i in range(7):
        assert moto_store.meta_of("f%d" % i)["x-amz-wrap-alg"] == "s3cryptfs/kms-reuse"
        assert "s3cryptfs:file" not in matdesc(moto_store, "f%d" % i)
        assert moto_store.decode(kms, "f%d" % i).plaintext() == b"%d" % i
    s.remount(ro=True)
    kms.proxy.reset()
    for i in range(7):
        assert read_file(s / ("f%d" % i)) == b"%d" % i
    assert kms.proxy.counts()["Decrypt"] == len(blobs)


def test_other_key_in_object(site, kms, moto_store, mount):
    """An object under a KMS key that the user did not name is refused; kms_read_keys names it."""
    first, second = kms.new_key(), kms.new_key()
    s = site(first)
    write_file(s / "old", b"old")
    s.umount()
    s = site(second, kms_read_keys=first)  # the volume gets a slot for the second
    write_file(s / "new", b"new")
    assert read_file(s / "old") == b"old"
    assert matdesc(moto_store, "new")["s3cryptfs-key-id"] == second
    s.umount()
    s = site(second)
    assert read_file(s / "new") == b"new"
    kms.proxy.reset()
    with fails(errno.EACCES):
        read_file(s / "old")
    assert "kms_read_keys" in s.m.text() and first in s.m.text()
    assert "Decrypt" not in kms.proxy.counts()


def test_partial_rewrite_takes_the_active_key(site, kms, moto_store):
    first, second = kms.new_key(), kms.new_key()
    data = bytearray(blob(2 * SEGMENT))
    s = site(first)
    write_file(s / "f", data)
    assert matdesc(moto_store, "f")["s3cryptfs-key-id"] == first
    s.umount()
    s = site(second, kms_read_keys=first)
    with open(s / "f", "r+b") as f:
        f.seek(SEGMENT + 5)
        f.write(b"changed")
    data[SEGMENT + 5:SEGMENT + 12] = b"changed"
    assert matdesc(moto_store, "f")["s3cryptfs-key-id"] == second
    assert moto_store.decode(kms, "f").plaintext() == bytes(data)
    s.umount()
    assert read_file(site(second) / "f") == bytes(data)


@pytest.mark.parametrize("spoil,words", [
    (lambda kms, key: kms.client.disable_key(KeyId=key_id(key)), "is disabled"),
    (lambda kms, key: kms.client.schedule_key_deletion(KeyId=key_id(key)), "pending deletion"),
    (lambda kms, key: kms.proxy.fault("denied"), "no permission"),
    (lambda kms, key: kms.proxy.fault("NotFoundException"), "there is no KMS key"),
    (lambda kms, key: kms.proxy.fault("503"), "throttles"),
])
def test_refused_mounts(mount, moto_store, kms, spoil, words):
    """Each error of the KMS is one sentence at mount time."""
    key = kms.new_key()
    spoil(kms, key)
    m = mount(moto_store.source, wait=False, **moto_store.options(enc="cse-kms", retries=1, **kms.options(key, keyring=None)))
    status, text = m.fail()
    assert status == 1 and words in text, text
    assert moto_store.all_keys() == []


def test_disabled_meanwhile(site, kms, moto_store):
    """A key that is disabled under a mount: what is cached stays readable, other objects say why."""
    key = kms.new_key()
    s = site(key)
    for name in ("a", "b"):
        write_file(s / name, name.encode())
    s.remount(retries=1)
    assert read_file(s / "a") == b"a"
    kms.proxy.fault("DisabledException", match="Decrypt")  # moto itself goes on decrypting under a disabled key
    assert read_file(s / "a") == b"a"
    with fails(errno.EKEYREVOKED):
        read_file(s / "b")
    assert "is disabled" in s.m.text()
    kms.proxy.fault("off")
    assert read_file(s / "b") == b"b"


def test_kms_away(site, kms, moto_store):
    """Without the KMS writes stay in the journal and are sent when it is back."""
    key = kms.new_key()
    s = site(key, writeback=True, kms_cache=1, retries=1, timeout=20)
    write_file(s / "before", b"1")
    run(CTL, "sync", s.path)
    time.sleep(1.2)  # what was fetched ahead is too old by now
    kms.proxy.fault("500")
    write_file(s / "while", b"2")
    assert read_file(s / "while") == b"2"
    wait_for(lambda: "cannot get a data key" in s.m.text(), what="the log's word")
    assert "while" not in moto_store.keys()
    kms.proxy.fault("off")
    run(CTL, "retry", s.path)
    run(CTL, "sync", s.path)
    assert moto_store.decode(kms, "while").plaintext() == b"2"


def test_cache_ends(site, kms, moto_store):
    """kms_cache=: after that time an opened key is asked for again; with 0 each time."""
    key = kms.new_key()
    s = site(key, kms_reuse=10)  # one wrapped key for all
    for name in "abcd":
        write_file(s / name, b"x")
    s.remount(ro=True, kms_cache=2)
    kms.proxy.reset()
    assert read_file(s / "a") == read_file(s / "b") == b"x"
    assert kms.proxy.counts()["Decrypt"] == 1
    time.sleep(2.2)
    assert read_file(s / "c") == b"x"
    assert kms.proxy.counts()["Decrypt"] == 2
    s.remount(ro=True, kms_reuse=None, kms_cache=0)
    kms.proxy.reset()
    assert read_file(s / "a") == read_file(s / "b") == b"x"
    assert kms.proxy.counts()["Decrypt"] == 2


def test_tampering(site, kms, moto_store):
    """Another ARN or context in the metadata breaks the seal; the KMS is not asked."""
    key = kms.new_key()
    s = site(key)
    write_file(s / "a", b"a")
    s.umount()
    meta = moto_store.meta_of("a")
    desc = json.loads(meta["x-amz-matdesc"])
    for name, value in (("s3cryptfs-key-id", kms.new_key()), ("s3cryptfs:file", "00" * 16), ("extra", "1")):
        moto_store.put("a", moto_store.body_of("a"), Metadata=dict(meta, **{"x-amz-matdesc": json.dumps(dict(desc, **{name: value}))}))
        s.remount(ro=True)
        kms.proxy.reset()
        with fails(errno.EIO):
            read_file(s / "a")
        assert "Decrypt" not in kms.proxy.counts()
        assert "its seal does not fit" in s.m.text()


def test_stat(site, kms, moto_store):
    key = kms.new_key("alias/files-%s" % os.getpid())
    s = site("alias/files-%s" % os.getpid())
    write_file(s / "a", b"a")
    s.umount()
    options = dict(moto_store.options(enc="cse-kms", **kms.options(key)))
    env = dict(os.environ, **options.pop("env"))
    words = ",".join("%s=%s" % kv for kv in options.items())
    assert key in run(CTL, "stat", "-o", words, moto_store.source, "a", env=env).stdout
    assert run(CTL, "cat", "-o", words, moto_store.source, "a", env=env).stdout == "a"


def test_both_kinds_of_keys(mount, keyring, kms, moto_store):
    """A volume under a KMS key and a master key opens with either; each reads what it has the key for."""
    key = kms.new_key()
    s = Site(mount, moto_store, enc="cse-kms", **kms.options(key, keyring=keyring.path))
    write_file(s / "a", b"by kms")
    s.umount()
    s = Site(mount, moto_store, enc="cse-key", keyring=keyring.path)
    write_file(s / "b", b"by key")
    with fails(errno.EACCES):
        read_file(s / "a")
    assert "kms_key_id= or kms_read_keys=" in s.m.text()
    s.umount()
    s = Site(mount, moto_store, enc="cse-key", keyring=keyring.path, kms_read_keys=key, kms_endpoint=kms.proxy.endpoint)
    assert (read_file(s / "a"), read_file(s / "b")) == (b"by kms", b"by key")


def test_plain_http(mount, moto_store, kms, moto):
    """Data keys go over plain HTTP to loopback addresses only, and only when asked for."""
    key = kms.new_key()
    for endpoint, options, words in (
            (moto.endpoint, {}, "plain HTTP"),
            ("http://kms.example.com", {"allow_http": True}, "plain HTTP")):
        m = mount(moto_store.source, wait=False, **moto_store.options(
            enc="cse-kms", keyring=None, kms_key_id=key, kms_endpoint=endpoint, **options))
        assert words in m.fail()[1]
    m = mount(moto_store.source, **moto_store.options(enc="cse-kms", keyring=None, kms_key_id=key, allow_http=True,
                                                      kms_endpoint=moto.endpoint))
    write_file(m / "a", b"a")


@pytest.mark.parametrize("version", [2, 3])
def test_s3ec(mount, moto_store, kms, version):
    """Objects of the Amazon S3 Encryption Client under a KMS key that is named, and with the user's context, are read."""
    key, other, data = kms.new_key(), kms.new_key(), blob(150_000, seed=version)
    for name, by, context in (("mine", key, {"team": "a"}), ("context", key, {"team": "b"}), ("other", other, {"team": "a"})):
        body, meta = s3ec_client.encrypt(version, kms.key(by), data, context)
        moto_store.put(name, body, Metadata=meta)
    m = mount(moto_store.source, **moto_store.options(enc="cse-kms", accept="s3ec", ro=True, **kms.options(
        key, keyring=None, kms_context="team=a")))
    assert read_file(m / "mine") == data
    kms.proxy.reset()
    with fails(errno.EACCES):
        read_file(m / "context")
    assert "kms_context=" in m.text() and "Decrypt" not in kms.proxy.counts()
    with fails(errno.EACCES, errno.EIO):
        read_file(m / "other")
    assert "cannot open other" in m.text()
    m = mount(moto_store.source, **moto_store.options(enc="cse-kms", accept="s3ec", ro=True, **kms.options(
        key, keyring=None, kms_context="team=a", kms_read_keys=other)))
    assert read_file(m / "other") == data


def test_create_costs_no_round_trip(site, kms, moto_store):
    """Forty creates one after the other, 20 ms from the KMS: they find data keys that were fetched ahead."""
    kms.proxy.latency(20)
    s = site(kms.new_key(), log_level="debug")
    wait_for(lambda: kms.proxy.counts().get("GenerateDataKey", 0) >= 8, what="keys ahead")
    time.sleep(0.1)
    for i in range(40):
        write_file(s / ("f%d" % i), b"y")
    assert s.m.text().count("waits for a data key") <= 2
    assert kms.proxy.counts()["GenerateDataKey"] >= 40


def ctl(store, command, *args, check=True, **options):
    options = dict(store.options(enc="cse-kms", **options))
    env = dict(os.environ, **options.pop("env"))
    words = ",".join("%s=%s" % (k, v) for k, v in options.items() if v is not None)
    return run(CTL, command, "-o", words, store.source, *args, env=env, check=check)


def test_rekey(site, kms, moto_store, tmp_path):
    """rekey brings objects under the active key inside the KMS; nothing is unwrapped, no content is read."""
    first, second = kms.new_key(), kms.new_key()
    files = {"f%d" % i: blob(3000, seed=i) for i in range(6)}
    files["large"] = blob(SEGMENT + 5, seed=9)
    s = site(first, kms_context="team=a")
    for name, data in files.items():
        write_file(s / name, data)
    s.umount()
    s = site(second, kms_read_keys=first, kms_context="team=b")  # the volume gets a slot for the second
    kms.proxy.reset()
    moto_store.proxy.reset()
    said = ctl(moto_store, "rekey", cache_dir=str(tmp_path / "rekey"), **kms.options(second, kms_read_keys=first, kms_context="team=b"))
    assert "7 objects: 7 brought under " + second in said.stdout
    counts = kms.proxy.counts()
    assert counts["ReEncrypt"] == 7 and counts.get("Decrypt", 0) <= 1  # the volume's
    assert moto_store.proxy.counts().get("get_bytes", 0) < 100_000
    for name in files:
        assert matdesc(moto_store, name)["s3cryptfs-key-id"] == second and matdesc(moto_store, name)["team"] == "b"
    s.umount()
    s = site(second)
    for name, data in files.items():
        assert read_file(s / name) == data
    again = ctl(moto_store, "rekey", cache_dir=str(tmp_path / "again"), **kms.options(second, kms_context="team=b"))
    assert "0 brought under" in again.stdout
    s.umount()


def slots(store, kms):
    return [slot["key_id"] for slot in store.volume(kms).members["epochs"][0]["slots"]]


def test_retire_and_reencrypt(site, kms, moto_store, tmp_path):
    """The slot of a former KMS key goes when no object needs it, and only then is a new epoch begun."""
    first, second = kms.new_key(), kms.new_key()
    s = site(first)
    write_file(s / "f", b"content")
    s.umount()
    site(second, kms_read_keys=first).umount()
    assert slots(moto_store, kms) == [first, second]
    both = kms.options(second, kms_read_keys=first)
    words = ["-o", ",".join("%s=%s" % item for item in dict(moto_store.options(), cache_dir=str(tmp_path / "c"), enc="cse-kms", **both).items() if item[0] != "env")]

    def retire():
        return run(CTL, "key", "retire", *words, first, moto_store.source, check=False, env=dict(os.environ, **moto_store.env))

    assert "1 object in %s still needs the key" % moto_store.source in retire().stderr
    refused = ctl(moto_store, "rekey", "--reencrypt", cache_dir=str(tmp_path / "c"), check=False, **both)
    assert refused.returncode == 1 and "the key " + first in refused.stderr, refused.stderr
    ctl(moto_store, "rekey", cache_dir=str(tmp_path / "c"), **both)
    done = retire()
    assert done.returncode == 0 and "none of 1 objects needs" in done.stdout, done.stderr
    assert slots(moto_store, kms) == [second]
    ctl(moto_store, "rekey", "--reencrypt", cache_dir=str(tmp_path / "c"), **kms.options(second))
    assert slots(moto_store, kms) == [second] and moto_store.decode(kms, "f").epoch == 2
    assert read_file(site(second) / "f") == b"content"


def test_rekey_from_master_key(mount, keyring, kms, moto_store, tmp_path):
    """From cse-key to cse-kms without rewriting a byte."""
    key, data = kms.new_key(), blob(SEGMENT + 77)
    s = Site(mount, moto_store, enc="cse-key", keyring=keyring.path)
    write_file(s / "a", data)
    s.umount()
    s = Site(mount, moto_store, enc="cse-kms", **kms.options(key, keyring=keyring.path))
    assert read_file(s / "a") == data
    ctl(moto_store, "rekey", cache_dir=str(tmp_path / "rekey"), keyring=keyring.path, **kms.options(key))
    s.umount()
    assert read_file(Site(mount, moto_store, enc="cse-kms", **kms.options(key, keyring=None)) / "a") == data
    assert moto_store.decode(kms, "a").plaintext() == data


def test_small_contents_let_go(site, kms, moto_store):
    """
    What a lookup brought of small files is dropped for others; what is known of their keys is not. The sanitizer build
    sees a reference that is missing; without it, a wrap of freed memory would be sealed by the chmod.
    """
    key, files = kms.new_key(), {"f%02d" % i: blob(65536, seed=i) for i in range(100)}
    s = site(key, kms_context="team=a")
    for name, data in files.items():
        write_file(s / name, data)
    s.remount(memory="64M")  # a sixteenth of it is for contents that came with lookups
    moto_store.proxy.reset()
    order = random.Random(1).sample(sorted(files), len(files))  # no order in which HEADs could be sent ahead
    for name in order:
        assert os.stat(s / name).st_size == 65536
    assert moto_store.proxy.counts()["get_bytes"] > (64 << 20) // 16  # lookups brought more than is kept
    dropped = order[:20]
    for name in dropped:
        os.chmod(s / name, 0o600)
        os.rename(s / name, s / ("moved-" + name))
    for name in dropped:
        assert read_file(s / ("moved-" + name)) == files[name]
    s.umount()
    for name in dropped:
        found = moto_store.decode(kms, "moved-" + name)
        assert found.plaintext() == files[name] and found.attrs["mode"] & 0o777 == 0o600
