# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""s3cryptfsctl rekey --migrate to and from customer keys (SSE-C): the volume changes its mode, and then its objects do."""
import errno
import os
import re
import signal
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

from harness import blob, fails, read_file, write_file
from test_rekey import SEGMENT, Source, Ssec, fill, rotate, under_load

MIGRATING = {"accept": "sealed:plain"}


def shared(keyring, how):
    """Options of the mode before; with a shared key the keyring gets one."""
    if how == "shared":
        keyring.add_shared("sent")
        return {"enc": "sse-c", "ssec_key": "shared"}
    return {"enc": "sse-c"}


def without_key(store, key):
    """Does the store give it out without a customer key?"""
    try:
        store.get(key)
    except ClientError:
        return False
    return True


@pytest.fixture(params=["per-object", "shared"])
def before(request, keyring):
    return shared(keyring, request.param)


def test_to_cse(rgw_store, mount, keyring, before):
    """
    The volume first, with one file; the others are read meanwhile, replaced, removed and renamed over, but not taken as
    they are to another name. Then all of them. What was of sse-c is refused in the end, and attributes are what they were.
    """
    m = mount(rgw_store.source, **rgw_store.options(**before))
    files = fill(m)
    stats = {n: os.lstat(m / n) for n in [*files, "link", "d/e"]}
    assert "was made with enc=sse-c" in mount(rgw_store.source, wait=False, **rgw_store.options()).fail()[1]
    m.umount()
    source = Source(rgw_store, keyring)
    told = source.rekey("--migrate", paths=["small"]).stdout
    assert "is one of enc=cse-key from now on" in told and "1 encrypted that was not" in told, told
    found = {k: without_key(rgw_store, k) for k in rgw_store.keys() if not k.endswith("/")}
    assert [k for k, plain in found.items() if plain] == ["small"]
    assert "was made with enc=cse-key" in mount(rgw_store.source, wait=False, **rgw_store.options(**before)).fail()[1]
    m = mount(rgw_store.source, **rgw_store.options(ttl=1, **MIGRATING))
    assert {n: read_file(m / n) for n in files} == files
    assert os.readlink(m / "link") == "d/one"
    with fails(errno.EACCES):
        os.chmod(m / "d/one", 0o600)
    with fails(errno.EACCES):
        os.rename(m / "d/one", m / "d/other")
    assert "rekey --migrate" in m.text()
    write_file(m / "d/e/two", b"replaced")
    write_file(m / "new", b"new")
    os.rename(m / "new", m / "empty")
    os.unlink(m / "dir")
    files.update({"d/e/two": b"replaced", "empty": b"new"})
    del files["dir"]
    assert {n: read_file(m / n) for n in files} == files
    told = source.rekey("--migrate").stdout
    assert "skipped" not in told and "from now on" not in told, told
    assert {n: read_file(m / n) for n in files} == files
    m.umount()
    again = source.rekey("--migrate").stdout
    assert "0 brought" in again and "encrypted that" not in again, again
    decoded = rgw_store.decode_all(keyring)
    assert {k: o.plaintext() for k, o in decoded.items() if k in files} == files
    m = mount(rgw_store.source, **rgw_store.options())
    assert {n: read_file(m / n) for n in files} == files
    for name in ("small", "d/one", "d/large", "link", "d/e"):
        now, was = os.lstat(m / name), stats[name]
        assert (now.st_mode, now.st_size) == (was.st_mode, was.st_size), name
        assert name == "d/e" or now.st_mtime_ns == was.st_mtime_ns, name
    os.chmod(m / "d/one", 0o600)
    os.rename(m / "d/one", m / "d/other")
    assert read_file(m / "d/other") == files["d/one"]


def test_mount_of_before(rgw_store, mount, keyring):
    """A mount of sse-c that goes on: it is refused what is migrated, and what it writes comes with the next run."""
    old = mount(rgw_store.source, **rgw_store.options(enc="sse-c", ttl=1))
    write_file(old / "a", b"a")
    write_file(old / "b", b"b")
    source = Source(rgw_store, keyring)
    source.rekey("--migrate", paths=["a"])
    time.sleep(1.2)
    with fails(errno.EACCES):
        read_file(old / "a")
    assert read_file(old / "b") == b"b"
    write_file(old / "c", b"c")
    write_file(old / "b", b"b again")
    old.umount()
    source.rekey("--migrate")
    assert "encrypted that" not in source.rekey("--migrate").stdout
    assert {k: o.plaintext() for k, o in rgw_store.decode_all(keyring).items()} == {"a": b"a", "b": b"b again", "c": b"c"}


@pytest.mark.parametrize("mode", ["close", "writeback"])
def test_directory_in_between(rgw_store, mount, keyring, mode):
    """A directory with files of both kinds is not renamed in halves: all of it can be read, and after the migration moved."""
    m = mount(rgw_store.source, **rgw_store.options(enc="sse-c"))
    os.mkdir(m / "d")
    files = {"d/f%d" % n: b"%d" % n for n in range(10)}
    for name, data in files.items():
        write_file(m / name, data)
    m.umount()
    source = Source(rgw_store, keyring)
    source.rekey("--migrate", paths=["d/f%d" % n for n in range(5)])
    m = mount(rgw_store.source, **rgw_store.options(ttl=1, writeback=mode == "writeback" or None, **MIGRATING))
    with fails(errno.EACCES):
        os.rename(m / "d", m / "e")
    for name, data in files.items():
        found = [n for n in (name, "e" + name[1:]) if os.path.exists(m / n)]
        assert found and all(read_file(m / n) == data for n in found), name
        assert not without_key(rgw_store, "e" + name[1:]) or name in list(files)[:5], name
    m.umount()
    source.rekey("--migrate")
    m = mount(rgw_store.source, **rgw_store.options())
    left = sorted(n for folder in ("d", "e") if os.path.isdir(m / folder) for n in os.listdir(m / folder))
    assert sorted(set(left)) == sorted(n[2:] for n in files)


def test_to_cse_under_load(rgw_store, mount, keyring):
    """Readers of a live mount see no change while its files are migrated."""
    names = ["f%02d" % i for i in range(20)]
    big = blob(2 * SEGMENT + 777, 5)
    m = mount(rgw_store.source, **rgw_store.options(enc="sse-c"))
    for name in names:
        write_file(m / name, b"content of " + name.encode())
    write_file(m / "big", big)
    m.umount()
    source = Source(rgw_store, keyring)
    source.rekey("--migrate", paths=["f00"])
    m = mount(rgw_store.source, **rgw_store.options(ttl=1, cache_size="16M", **MIGRATING))
    under_load(m, names, big, lambda: source.rekey("--migrate"))
    m.umount()
    source.rekey("--migrate")
    assert set(rgw_store.decode_all(keyring)) >= set(names) | {"big"}


def test_to_cse_kms(rgw_store, kms, mount, keyring, tmp_path):
    """Likewise under a KMS key, with the keyring for what is under customer keys."""
    both = tmp_path / "certificates"
    both.write_bytes(read_file(rgw_store.proxy.cert) + read_file(kms.proxy.cert))
    m = mount(rgw_store.source, **rgw_store.options(enc="sse-c"))
    files = fill(m)
    m.umount()
    options = dict(kms.options(kms.new_key()), enc="cse-kms", ca_file=str(both))
    source = Source(rgw_store, keyring, **options)
    told = source.rekey("--migrate").stdout
    assert "enc=cse-kms from now on" in told and "skipped" not in told, told
    assert "encrypted that" not in source.rekey("--migrate").stdout
    m = mount(rgw_store.source, **rgw_store.options(keyring=None, **options))
    assert {n: read_file(m / n) for n in files} == files
    m.umount()
    assert {k: o.plaintext() for k, o in rgw_store.decode_all(kms).items() if k in files} == files


def test_killed(rgw_store, mount, keyring):
    """Killed at any time it is begun again, and all of it is there in between."""
    files = {"f%02d" % i: blob(3000 + i, i) for i in range(40)}
    files["large"] = blob(SEGMENT + 99, 1)
    m = mount(rgw_store.source, **rgw_store.options(enc="sse-c"))
    for name, data in files.items():
        write_file(m / name, data)
    m.umount()
    source = Source(rgw_store, keyring)
    rgw_store.proxy.latency(20)
    for i in range(12):
        p = subprocess.Popen([*source.command("rekey", "--migrate"), source.source], env=source.env, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
        time.sleep(0.05 + 0.06 * i)
        p.send_signal(signal.SIGKILL)
        p.communicate()
        if i in (4, 8):
            cse = b'"cse"' in rgw_store.get(".s3cryptfs/volume")["Body"].read()
            m = mount(rgw_store.source, **rgw_store.options(**(MIGRATING if cse else {"enc": "sse-c"})))
            assert {n: read_file(m / n) for n in files} == files
            m.umount()
    rgw_store.proxy.latency(0)
    source.rekey("--migrate")
    assert "skipped" not in source.rekey("--migrate").stdout
    assert {k: o.plaintext() for k, o in rgw_store.decode_all(keyring).items()} == files
    assert [k for k in rgw_store.all_keys() if k.startswith(".s3cryptfs/volume")] == [".s3cryptfs/volume", ".s3cryptfs/volume.sse-c"]


def test_keys(rgw_store, mount, keyring):
    """Every key that objects are under has to be there to begin with, and retire counts what still needs it."""
    m = mount(rgw_store.source, **rgw_store.options(enc="sse-c"))
    write_file(m / "old", b"old")
    m.umount()
    rotate(keyring, "second")
    m = mount(rgw_store.source, **rgw_store.options(enc="sse-c"))
    write_file(m / "new", b"new")
    m.umount()
    text = read_file(keyring.path)
    write_file(keyring.path, text[text.index(b"[second]"):])
    source = Source(rgw_store, keyring)
    assert "does not have (test-key)" in source.rekey("--migrate", expect=1).stderr
    write_file(keyring.path, text)
    source.rekey("--migrate", paths=["new"])
    assert "may need the key test-key" in source.retire("test-key", expect=1).stderr
    assert "still needs the key test-key" in Source(rgw_store, keyring, **MIGRATING).retire("test-key", expect=1).stderr
    source.rekey("--migrate")
    source.rekey()
    source.retire("test-key")
    m = mount(rgw_store.source, **rgw_store.options())
    assert (read_file(m / "old"), read_file(m / "new")) == (b"old", b"new")


@pytest.mark.parametrize("how", ["per-object", "shared"])
def test_to_ssec(rgw_store, mount, keyring, how):
    """From no encryption to customer keys: each object by a copy onto itself, beside a mount that reads both."""
    after = shared(keyring, how)
    m = mount(rgw_store.source, **rgw_store.options(enc="none", keyring=None))
    files = fill(m)
    stats = {n: os.lstat(m / n) for n in [*files, "link", "d/e"]}
    m.umount()
    source = Source(rgw_store, keyring, **after)
    source.run("init")
    m = mount(rgw_store.source, **rgw_store.options(**after))
    with fails(errno.EACCES):
        read_file(m / "small")
    m.umount()
    m = mount(rgw_store.source, **rgw_store.options(ttl=1, accept="plain", **after))
    assert {n: read_file(m / n) for n in files} == files
    os.rename(m / "d/e/two", m / "d/e/three")
    files["d/e/three"] = files.pop("d/e/two")
    assert not without_key(rgw_store, "d/e/three") and without_key(rgw_store, "d/one")
    told = source.rekey("--migrate").stdout
    assert re.search("[0-9]+ encrypted that were not", told) and "skipped" not in told, told
    time.sleep(1.1)  # ttl: none was under a key when it was looked at last
    assert {n: read_file(m / n) for n in files} == files
    m.umount()
    assert "encrypted that" not in source.rekey("--migrate").stdout
    assert not [k for k in rgw_store.keys() if without_key(rgw_store, k)]
    m = mount(rgw_store.source, **rgw_store.options(**after))
    assert {n: read_file(m / n) for n in files} == files
    for name in ("small", "d/one", "d/large", "link", "d/e"):
        now, was = os.lstat(m / name), stats[name]
        assert (now.st_mode, now.st_size) == (was.st_mode, was.st_size), name
        assert name == "d/e" or now.st_mtime_ns == was.st_mtime_ns, name


def test_refused(rgw_store, mount, keyring):
    """To less encryption: one line, and nothing is changed."""
    m = mount(rgw_store.source, **rgw_store.options(enc="sse-c"))
    write_file(m / "f", b"f")
    m.umount()
    assert "belongs to an encrypted volume" in Source(rgw_store, keyring, enc="none").rekey("--migrate", expect=1).stderr
    assert not without_key(rgw_store, "f")
    below = Source(rgw_store, keyring)
    below.source += "/d/"
    assert "is only a part of the volume" in below.rekey("--migrate", expect=1).stderr
    Source(rgw_store, keyring).rekey("--migrate")
    before = rgw_store.body_of("f")
    for enc in ("none", "sse-c"):
        told = Source(rgw_store, keyring, enc=enc).rekey("--migrate", expect=1).stderr
        assert "encrypted volume" in told or "was made with enc=cse-key" in told, told
    assert rgw_store.body_of("f") == before
