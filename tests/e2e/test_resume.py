# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""Uploads that stopped before their end go on from the parts that the store has."""
import contextlib
import hashlib
import os
import threading

import pytest

from harness import Site, blob, sha256_file, wait_for, write_file

MIB = 1 << 20
SEGMENT = 8 * MIB


@pytest.fixture(params=["radosgw", pytest.param("versitygw", marks=pytest.mark.long)])
def store(request):
    return request.getfixturevalue({"radosgw": "rgw_store", "versitygw": "versity_store"}[request.param])


@pytest.fixture
def folders(tmp_path):
    return {"cache_dir": str(tmp_path / "cache"), "state_dir": str(tmp_path / "state")}


def hold_parts(store, after):
    """So many parts pass, the others get no answer."""
    store.proxy.reset()
    store.proxy.fault("hang", method="PUT", match="partNumber", after=after)


def sent_again(store, site, name, size):
    """Bytes that the next mount sends until the store has the file."""
    store.proxy.fault("off")
    store.proxy.reset()
    site.remount()
    assert os.stat(site / name).st_size == size
    wait_for(lambda: name in store.keys(), 120, "the file in the store")
    assert store.uploads() == []
    return store.proxy.counts().get("put_bytes", 0)


def parts_seen(store, count):
    wait_for(lambda: store.proxy.counts().get("fault", 0) and
             store.proxy.counts().get("put_bytes", 0) >= count * SEGMENT, 120, "parts in the store")


def test_killed_in_a_large_upload(rgw_store, mount, folders):
    """kill -9 after half of 512 MiB: less than 60 % are sent by the next mount, and nothing stays in the bucket."""
    store, size = rgw_store, 512 * MIB
    site = Site(mount, store, writeback=True, memory="256M", journal_size="2G", **folders)
    hold_parts(store, 36)
    digest = hashlib.sha256()
    with open(site / "f", "wb", buffering=0) as f:
        for n in range(size // MIB):
            data = blob(MIB, n)
            digest.update(data)
            f.write(data)
    parts_seen(store, 36)
    site.m.kill()
    assert len(store.uploads()) == 1 and store.keys() == []
    again = sent_again(store, site, "f", size)
    assert 0.3 * size < again < 0.6 * size, "%d MiB were sent again" % (again // MIB)
    site.umount()
    other = mount(store.source, **store.options())
    assert sha256_file(other / "f") == digest.hexdigest()


def test_killed_and_changed(store, mount, keyring, folders):
    """What was changed after it was sent is sent again; the decoder finds what was acknowledged."""
    data = bytearray(blob(7 * SEGMENT + 5, 1))
    site = Site(mount, store, writeback=True, **folders)
    hold_parts(store, 4)
    write_file(site / "f", bytes(data))
    parts_seen(store, 4)
    with open(site / "f", "r+b") as f:
        f.seek(SEGMENT + 77)
        f.write(b"changed")
        f.flush()
        os.fsync(f.fileno())
    data[SEGMENT + 77:SEGMENT + 84] = b"changed"
    site.m.kill()
    assert sent_again(store, site, "f", len(data)) < 5.1 * SEGMENT
    assert store.decode(keyring, "f").plaintext() == bytes(data)


def test_failed_close(store, mount, keyring, folders):
    """commit=close: the error is reported, the bytes are kept, and the next mount sends what is missing."""
    data = blob(7 * SEGMENT + 5, 2)
    site = Site(mount, store, timeout=4, retries=1, **folders)
    store.proxy.reset()
    store.proxy.fault("reset", method="PUT", match="partNumber", after=5)
    with pytest.raises(OSError):
        write_file(site / "f", data)
    with contextlib.suppress(AssertionError):  # the daemon says with its status that something is left
        site.umount()
    assert len(store.uploads()) == 1
    assert sent_again(store, site, "f", len(data)) < 4.1 * SEGMENT
    assert store.decode(keyring, "f").plaintext() == data


def test_killed_before_close(store, mount, folders):
    """commit=close: nobody was promised anything; the next mount takes the parts away."""
    site = Site(mount, store, **folders)
    hold_parts(store, 2)

    def write():
        with contextlib.suppress(OSError):
            write_file(site / "f", blob(6 * SEGMENT, 3))

    writer = threading.Thread(target=write)
    writer.start()
    parts_seen(store, 2)
    site.m.kill()
    writer.join(30)
    assert not writer.is_alive() and len(store.uploads()) == 1
    store.proxy.fault("off")
    site.remount()
    wait_for(lambda: store.uploads() == [], 30, "no upload")
    assert os.listdir(site.path) == []
