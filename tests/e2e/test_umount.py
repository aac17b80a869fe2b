# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""umount.fuse.s3cryptfs, as umount(8) calls it: it returns when the store has everything."""
import os
import subprocess
import time

import pytest

from harness import CTL, PROGRAM, Site, blob, read_file, run, write_file


@pytest.fixture
def umount(tmp_path):
    helper = tmp_path / "umount.fuse.s3cryptfs"
    helper.symlink_to(PROGRAM)
    return lambda path, *flags: run(helper, path, *flags, "-t", "fuse.s3cryptfs", check=False, stdin=subprocess.DEVNULL)


def ended(site):
    """The daemon has ended, and was not waited for by the test."""
    status = site.m.process.poll()
    site.m.ended = status is not None
    return status


def test_waits(rgw_store, mount, keyring, umount):
    """What only the journal has is sent first."""
    site = Site(mount, rgw_store, writeback=True)
    for n in range(20):
        write_file(site / ("f%d" % n), blob(100000, n))
    assert rgw_store.keys() == []
    rgw_store.proxy.latency(200)
    result = umount(site.path)
    assert (result.returncode, result.stderr.count("wait in")) == (0, 0), result.stderr
    assert ended(site) == 0
    assert not os.path.ismount(site.path)
    assert {k: o.plaintext() for k, o in rgw_store.decode_all(keyring).items()} == {
        "f%d" % n: blob(100000, n) for n in range(20)}


def test_tells_what_is_left(rgw_store, mount, umount, tmp_path):
    """With the store away it gives up when the daemon does; what is left is told, and sent by the next mount."""
    site = Site(mount, rgw_store, writeback=True, timeout=3, retries=1, cache_dir=str(tmp_path / "cache"))
    write_file(site / "f", b"kept")
    rgw_store.proxy.fault("reset")
    result = umount(site.path)
    assert result.returncode == 0 and result.stderr.count("\n") == 1 and "s3cryptfsctl recover" in result.stderr, result.stderr
    assert ended(site) is not None
    rgw_store.proxy.fault("off")
    site.m.ended = True
    site.remount()
    assert read_file(site / "f") == b"kept"


def test_does_not_wait(rgw_store, mount, umount):
    """Lazy, busy, dead, and what is no mount."""
    site = Site(mount, rgw_store, writeback=True)
    with open(site / "f", "wb") as f:
        f.write(b"open")
        busy = umount(site.path)
        assert busy.returncode == 32 and "in use" in busy.stderr and os.path.ismount(site.path)
        begun = time.monotonic()
        lazy = umount(site.path, "-l")
        assert lazy.returncode == 0 and time.monotonic() - begun < 20
        assert not os.path.ismount(site.path) and ended(site) is None
    assert site.m.process.wait(60) == 0
    site.m.ended = True
    assert rgw_store.keys() == ["f"]
    nothing = umount(site.path)
    assert nothing.returncode == 32 and nothing.stderr.count("\n") == 1
    site.remount()
    site.m.process.kill()
    site.m.process.wait()
    dead = umount(site.path)
    assert dead.returncode == 0 and not os.path.ismount(site.path), dead.stderr
    site.m.ended = True
    assert umount("").returncode != 0
    assert run(CTL, "status", site.path, check=False).returncode == 1
