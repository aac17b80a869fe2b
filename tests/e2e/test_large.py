# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""Large files in a folder store, and what they take of memory."""
import errno
import os
import random
import threading

import pytest

import decoder
from harness import MARKER, Site, blob, drop_caches, find_bytes, read_file, run, sha256_file, write_file

MIB, GIB = 1 << 20, 1 << 30
SANITIZED = bool(os.environ.get("S3CRYPTFS_SANITIZED"))


def make_source(path, size):
    block = MARKER + blob(MIB, 1)
    with open(path, "wb") as f:
        for n in range(size // MIB):
            f.write(n.to_bytes(8, "big") + block[8:MIB])
    return sha256_file(path)


def test_dd(file_store, mount, tmp_path):
    """1 GiB in and back by dd."""
    source = str(tmp_path / "source")
    digest = make_source(source, GIB)
    site = Site(mount, file_store)
    run("dd", "if=" + source, "of=" + site / "large", "bs=1M", "conv=fsync")
    assert os.stat(site / "large").st_size == GIB
    assert SANITIZED or site.m.memory_peak() < 512 * MIB
    site.remount()
    drop_caches()
    assert sha256_file(site / "large") == digest
    assert SANITIZED or site.m.memory_peak() < 512 * MIB
    path = file_store.paths()["large"]
    assert os.stat(path).st_size == GIB + 16 * (GIB // decoder.CHUNK) + 128 * 16 + 104
    with open(path, "rb") as f:
        while piece := f.read(64 * MIB):
            assert MARKER[8:] not in piece


def spilled(m):
    """Bytes that the daemon has in unlinked files, and whether a needle is in them."""
    size, found, folder = 0, False, "/proc/%d/fd" % m.process.pid
    for fd in os.listdir(folder):
        path = os.path.join(folder, fd)
        try:
            if os.readlink(path).endswith(" (deleted)"):
                size += os.stat(path).st_blocks * 512
                with open(path, "rb") as f:
                    while piece := f.read(16 * MIB):
                        found = found or MARKER in piece
        except OSError:
            continue
    return size, found


def test_little_memory(file_store, mount, keyring, tmp_path):
    """200 MiB in an order that cannot be streamed, with 64 MiB of buffers: the rest spills, encrypted."""
    size, rng = 200 * MIB, random.Random(1)
    site = Site(mount, file_store, memory="64M")
    order = list(range(size // MIB))
    rng.shuffle(order)
    piece = (MARKER * (MIB // len(MARKER) + 1))[:MIB - 8]
    fd = os.open(site / "f", os.O_RDWR | os.O_CREAT)
    for n in order:
        os.pwrite(fd, n.to_bytes(8, "big") + piece, n * MIB)
    for n in rng.sample(order, 20):
        assert os.pread(fd, 100, n * MIB) == (n.to_bytes(8, "big") + piece)[:100]
    disk, found = spilled(site.m)
    assert disk > 64 * MIB, "nothing was spilled"
    assert not found, "the spill file has plaintext"
    os.fsync(fd)
    os.close(fd)
    assert SANITIZED or site.m.memory_peak() < 320 * MIB, site.m.memory_peak()
    site.remount()
    with open(site / "f", "rb") as f:
        for n in range(size // MIB):
            assert f.read(MIB) == n.to_bytes(8, "big") + piece
    site.umount()
    assert not find_bytes(MARKER, file_store.folder, *[str(p) for p in tmp_path.glob("cache-*")])
    o = file_store.decode(keyring, "f")
    assert o.size == size and next(o.segments())[1][8:100] == piece[:92]


@pytest.mark.parametrize("what", ["limit", "disk"])
def test_spill_is_full(file_store, mount, keyring, tmp_path, what):
    """Random writes into more than memory and spill can hold: an error or success, never lost or old bytes."""
    cache = tmp_path / "cache-small"
    cache.mkdir()
    if what == "disk":
        if os.geteuid() != 0:
            pytest.skip("needs root to mount a small disk")
        run("mount", "-t", "tmpfs", "-o", "size=24M,mode=700", "none", cache)
    try:
        options = {"cache_size": "16M"} if what == "limit" else {}
        m = mount(file_store.source, memory="64M", cache_dir=str(cache), state_dir=str(tmp_path / "state"), **options)
        write_file(m / "old", b"old content")
        order, rng = list(range(160)), random.Random(2)
        rng.shuffle(order)
        written, errors = [], []

        def work():
            fd = os.open(m / "old", os.O_RDWR)
            try:
                for n in order:
                    os.pwrite(fd, bytes([n]) * MIB, n * MIB)
                    written.append(n)
                os.fsync(fd)
            except OSError as e:
                errors.append(e.errno)
            finally:
                try:
                    os.close(fd)
                except OSError as e:
                    errors.append(e.errno)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(100)
        assert not worker.is_alive(), "the writer hangs after %d MiB" % len(written)
        assert set(errors) <= {errno.ENOSPC}, errors
        # Others go on.
        write_file(m / "other", b"other")
        assert read_file(m / "other") == b"other"
        found = file_store.decode(keyring, "old")
        if errors:
            # A close that told no error has stored all that was written.
            assert found.plaintext() == b"old content" or found.size == (max(written) + 1) * MIB
        else:
            for at, piece, size in found.segments():
                assert piece == b"".join(bytes([n]) * MIB for n in range(at // MIB, at // MIB + size // MIB))
        m.umount()
    finally:
        if what == "disk":
            run("umount", "-l", cache, check=False)
