# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""What is agreed on with the kernel beyond what libfuse offers: see src/fuse/wire.c."""
import contextlib
import os
import random
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import PROGRAM, Site, blob, read_file, run, write_file

NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []}


def test_parallel_lookups(rgw_store, mount):
    """
    Names of one directory that the store has to be asked for are asked for side by side: none is answered before
    requests for sixteen of them are at the store at once.
    """
    count, want = 32, 16
    site = Site(mount, rgw_store)
    # Without an order in which they could be fetched ahead.
    order = random.Random(1).sample(range(1000), count)
    os.mkdir(site / "d")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: write_file(site / ("d/%d" % n), b"x" * n), order))
    site.remount()
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda _: os.stat(site / "d"), range(count)))
        rgw_store.proxy.reset()
        rgw_store.proxy.fault("gather", match="/d/%d", want=want)
        assert list(pool.map(lambda n: os.stat(site / ("d/%d" % n)).st_size, order)) == order
    rgw_store.proxy.fault("off")
    counts = rgw_store.proxy.counts()
    assert counts["gathered"] >= want, counts
    assert counts["GET"] + counts.get("HEAD", 0) == count, counts  # each name once: no more are here than are looked up


def test_parallel_changes(file_store, mount, keyring):
    """Lookups, lists, creations and removals of one directory at once: nothing is lost or made up."""
    site = Site(mount, file_store)
    os.mkdir(site / "d")
    write_file(site / "d/always", b"a")

    def work(who):
        for n in range(40):
            path = site / ("d/%d-%d" % (who, n % 8))
            write_file(path, b"%d" % n)
            assert read_file(path) == b"%d" % n
            assert os.path.basename(path) in os.listdir(site / "d")
            with contextlib.suppress(FileNotFoundError):  # of the neighbour: there or not
                assert os.stat(site / ("d/%d-%d" % ((who + 1) % 6, n % 8))).st_size in (0, 1, 2)
            if n % 3:
                os.unlink(path)
                assert not os.path.exists(path)
            assert "always" in [e.name for e in os.scandir(site / "d") if e.stat(follow_symlinks=False)]

    # Entries that go while scandir stats them are the business of that loop.
    def tolerant(who):
        for _ in range(20):
            with contextlib.suppress(FileNotFoundError):
                return work(who)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(tolerant, range(6)))
    seen = sorted(os.listdir(site / "d"))
    site.umount()
    assert sorted(os.path.basename(k) for k in file_store.decode_all(keyring) if k != "d/") == seen


def test_no_question_before_each_write(file_store, mount):
    """The kernel asks for security.capability once, not before each write."""
    m = mount(file_store.source, debug=True)
    fd = os.open(m / "f", os.O_WRONLY | os.O_CREAT)
    for _ in range(100):
        os.write(fd, bytes(128))
    os.close(fd)
    text = m.text()
    assert text.count("opcode: WRITE ") == 100
    assert text.count("opcode: GETXATTR ") <= 2


@pytest.fixture
def shared(file_store, mount, tmp_path):
    """A mount that everyone may use."""
    for folder in [tmp_path] + list(tmp_path.parents)[:-2]:
        folder.chmod(folder.stat().st_mode | 0o055)
    site = Site(mount, file_store, allow_other=True, suid=True)
    os.chmod(site.path, 0o777)
    return site


def python(text, *args, **kw):
    return run(sys.executable, "-c", text, *args, check=False, env={"LC_ALL": "C"}, **kw)


WAYS = {
    "write": "import os, sys; f = os.open(sys.argv[1], os.O_WRONLY); os.write(f, b'x'); os.close(f)",
    "append": "import sys; open(sys.argv[1], 'ab').write(b'x')",
    "direct": "import mmap, os, sys; m = mmap.mmap(-1, 4096); f = os.open(sys.argv[1], os.O_WRONLY | os.O_DIRECT); os.write(f, m)",
    "truncate": "import os, sys; os.truncate(sys.argv[1], 1)",
    "ftruncate": "import os, sys; os.ftruncate(os.open(sys.argv[1], os.O_WRONLY), 1)",
    "open": "import os, sys; os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)",
    "creat": "import os, sys; os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC | os.O_CREAT)",
    "chown": "import os, sys; os.chown(sys.argv[1], -1, os.getgid())",
}
# before, after by one who may not keep the bits
MODES = [(0o6777, 0o777), (0o4766, 0o766), (0o2777, 0o777), (0o2767, 0o2767), (0o1777, 0o1777), (0o666, 0o666)]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("way", WAYS)
def test_set_user_id(shared, way):
    """A change by a user without CAP_FSETID takes the bits away, one by root keeps them (chown excepted)."""
    for n, (before, after) in enumerate(MODES):
        for who in (NOBODY, {}):
            path = shared / ("%s-%d-%s" % (way, n, "user" if who else "root"))
            write_file(path, blob(10000))
            os.chown(path, 65534, 65534)
            os.chmod(path, before)
            # The kernel knows the mode and may keep it.
            assert stat.S_IMODE(os.stat(path).st_mode) == before
            result = python(WAYS[way], path, **who)
            assert result.returncode == 0, result.stderr
            expected = after if who or way == "chown" else before
            assert stat.S_IMODE(os.stat(path).st_mode) == expected, (oct(before), who)
    modes = {name: os.stat(shared / name).st_mode for name in os.listdir(shared.path)}
    shared.remount()
    assert {name: os.stat(shared / name).st_mode for name in os.listdir(shared.path)} == modes


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_set_user_id_is_gone_at_once(shared, tmp_path):
    """Who writes to a set-user-id program and runs it does so as himself, whatever the kernel remembers."""
    path = shared / "program"
    script = tmp_path / "id.c"
    script.write_text('#include <stdio.h>\n#include <unistd.h>\nint main(void) { return printf("%d\\n", (int)geteuid()) < 0; }\n')
    run("gcc", "-o", tmp_path / "id", script)
    write_file(path, read_file(tmp_path / "id"))
    os.chmod(path, 0o4777)
    assert run(path, **NOBODY).stdout == "0\n"
    # Bytes behind the end of the program; no stat in between.
    text = "import os, sys; f = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND); os.write(f, b'x'); os.close(f); os.execv(sys.argv[1], ['id'])"
    assert python(text, path, **NOBODY).stdout == "65534\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_set_user_id_while_open(shared):
    """Of a file that is open and has something to commit, the bits are gone with that commit."""
    path = shared / "f"
    with open(path, "wb") as f:
        f.write(b"one")
        f.flush()
        os.fchmod(f.fileno(), 0o4777)
        assert python(WAYS["append"], path, **NOBODY).returncode == 0
        assert stat.S_IMODE(os.fstat(f.fileno()).st_mode) == 0o777
    shared.remount()
    assert stat.S_IMODE(os.stat(shared / "f").st_mode) == 0o777
    assert read_file(shared / "f") == b"onex"


def test_mount_right_after_umount(file_store, keyring, tmp_path):
    """umount returns before the daemon has ended: the next mount of the source waits for it, and finds all of it."""
    mnt, cache = tmp_path / "mnt", tmp_path / "cache"
    mnt.mkdir()
    command = [PROGRAM, file_store.source, mnt, "-o", "keyring=%s,cache_dir=%s,log=%s" % (keyring.path, cache, tmp_path / "log")]
    run(*command, stdin=subprocess.DEVNULL)
    try:
        # Out of the tree, but a program still writes: so this daemon is there for a while longer.
        fd = os.open(str(mnt / "f"), os.O_WRONLY | os.O_CREAT)
        run("fusermount3", "-u", "-z", mnt)
        assert not os.path.ismount(mnt)
        with ThreadPoolExecutor(1) as pool:
            begin = time.monotonic()
            next_one = pool.submit(run, *command, stdin=subprocess.DEVNULL)
            time.sleep(1)
            assert not next_one.done()
            os.write(fd, b"late")
            os.close(fd)
            next_one.result()
            assert time.monotonic() - begin < 20
        assert read_file(str(mnt / "f")) == b"late"
        # And with nothing in the way, over and over.
        for n in range(10):
            run("fusermount3", "-u", mnt)
            run(*command, stdin=subprocess.DEVNULL)
            assert read_file(str(mnt / "f")) == (b"late" if n == 0 else b"%d" % n)
            write_file(str(mnt / "f"), b"%d" % (n + 1))
    finally:
        run("fusermount3", "-u", "-z", mnt, check=False)
