# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
What POSIX and Linux promise of files beyond their bytes: special files, extended attributes, holes, names; see
doc/posix.md. The suites that others wrote for it are in test_suites.py.
"""
import ctypes
import errno
import fcntl
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

from harness import CTL, MARKER, Site, blob, fails, find_bytes, read_file, run, wait_for, write_file

CHUNK, SEGMENT = 65536, 8 << 20
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE = 1, 2, 8, 16
LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def site(mount, file_store):
    return Site(mount, file_store)


@pytest.fixture(params=("close", "writeback"))
def any_site(request, mount, file_store):
    return Site(mount, file_store, **{"writeback": True} if request.param == "writeback" else {})


def fallocate(fd, mode, offset, size):
    if LIBC.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def xattrs(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


SPECIAL = {"fifo": (stat.S_IFIFO | 0o640, 0), "socket": (stat.S_IFSOCK | 0o755, 0),
           "char": (stat.S_IFCHR | 0o600, os.makedev(5, 300)), "block": (stat.S_IFBLK | 0o640, os.makedev(4095, 1 << 19))}


def test_special_files(any_site, file_store, keyring):
    site = any_site

    def look(names):
        for name, (mode, device) in names.items():
            st = os.lstat(site / name)
            assert (st.st_mode, st.st_rdev, st.st_size) == (mode, device, 0), name

    for name, (mode, device) in SPECIAL.items():
        os.mknod(site / name, mode, device)
        with fails(errno.EEXIST):
            os.mknod(site / name, mode, device)
    look(SPECIAL)
    os.mkdir(site / "d")
    os.rename(site / "char", site / "d/moved")
    os.chmod(site / "fifo", 0o600)
    os.utime(site / "socket", ns=(10 ** 18 + 1, 10 ** 18 + 2))
    now = dict(SPECIAL, fifo=(stat.S_IFIFO | 0o600, 0), **{"d/moved": SPECIAL["char"]})
    del now["char"]
    look(now)
    site.remount()
    os.rename(site / "d", site / "e")
    now["e/moved"] = now.pop("d/moved")
    look(now)
    site.remount()
    look(now)
    assert os.stat(site / "socket").st_mtime_ns == 10 ** 18 + 2
    site.umount()
    objects = file_store.decode_all(keyring)
    for name, (mode, device) in now.items():
        assert objects[name].layout == 1 and objects[name].attrs["mode"] == mode and not objects[name].body
        assert objects[name].meta.get("rdev") == ("%d:%d" % (os.major(device), os.minor(device)) if device else None)
    site.remount()
    for name in now:
        os.unlink(site / name)
    assert os.listdir(site.path) == ["e"]


def test_special_files_work(site):
    """The kernel makes them work: a fifo between two processes, a socket that is connected to."""
    os.mkfifo(site / "fifo")
    writer = subprocess.Popen(["sh", "-c", "echo through >\"$1\"", "sh", site / "fifo"])
    assert read_file(site / "fifo") == b"through\n"
    assert writer.wait() == 0
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(site / "socket")
        server.listen(1)
        client.connect(site / "socket")
        client.sendall(b"x")
        assert server.accept()[0].recv(1) == b"x"
    assert stat.S_ISSOCK(os.stat(site / "socket").st_mode)


def test_xattrs(any_site, file_store, keyring):
    site = any_site
    path = site / "f"
    write_file(path, b"content")
    os.mkdir(site / "d")
    before = os.stat(path)
    wanted = {"user.a": b"", "user.bytes": bytes(range(256)), "user." + "n" * 200: MARKER}
    for name, value in wanted.items():
        os.setxattr(path, name, value)
    assert xattrs(path) == wanted
    assert os.stat(path).st_ctime_ns > before.st_ctime_ns and os.stat(path).st_mtime_ns == before.st_mtime_ns
    with fails(errno.EEXIST):
        os.setxattr(path, "user.a", b"x", os.XATTR_CREATE)
    with fails(errno.ENODATA):
        os.setxattr(path, "user.b", b"x", os.XATTR_REPLACE)
    with fails(errno.ENODATA):
        os.getxattr(path, "user.b")
    with fails(errno.ENODATA):
        os.removexattr(path, "user.b")
    os.setxattr(path, "user.a", b"replaced", os.XATTR_REPLACE)
    os.setxattr(path, "user.new", b"new", os.XATTR_CREATE)
    os.removexattr(path, "user.bytes")
    os.setxattr(site / "d", "user.dir", b"of a folder")
    wanted.update({"user.a": b"replaced", "user.new": b"new"})
    del wanted["user.bytes"]
    # Attributes, names, content, each changed after.
    os.chmod(path, 0o600)
    os.rename(path, site / "d/g")
    run("cp", "-a", site / "d/g", site / "copy")
    write_file(site / "d/g", b"other content")
    for _ in range(2):
        assert xattrs(site / "d/g") == xattrs(site / "copy") == wanted
        assert xattrs(site / "d") == {"user.dir": b"of a folder"}
        assert read_file(site / "d/g") == b"other content"
        site.remount()
    os.rename(site / "d", site / "e")
    assert xattrs(site / "e/g") == wanted and xattrs(site / "e") == {"user.dir": b"of a folder"}
    site.umount()
    objects = file_store.decode_all(keyring)
    assert objects["e/g"].xattrs == {n.encode(): v for n, v in wanted.items()}
    assert objects["e/"].xattrs == {b"user.dir": b"of a folder"}
    assert not find_bytes(MARKER, file_store.folder, site.m.args[-1].split("cache_dir=")[1].split(",")[0])


def test_xattrs_of_large_and_open(site, file_store, keyring):
    """Set before the first byte, while a stream is under way, after it; of a file without a name."""
    data = blob(3 * SEGMENT + 5, 2)
    with open(site / "big", "wb") as f:
        os.setxattr(f.fileno(), "user.first", b"1")
        f.write(data[:2 * SEGMENT])
        f.flush()
        os.setxattr(f.fileno(), "user.second", b"2")
        f.write(data[2 * SEGMENT:])
    os.setxattr(site / "big", "user.third", b"3")
    with open(site / "gone", "wb") as f:
        os.unlink(site / "gone")
        os.setxattr(f.fileno(), "user.x", b"y")
        assert xattrs(f.fileno()) == {"user.x": b"y"}
    site.remount()
    assert xattrs(site / "big") == {"user.first": b"1", "user.second": b"2", "user.third": b"3"}
    with open(site / "big", "r+b") as f:
        f.write(b"changed")
    site.remount()
    assert xattrs(site / "big") == {"user.first": b"1", "user.second": b"2", "user.third": b"3"}
    assert read_file(site / "big") == b"changed" + data[7:]
    assert len(file_store.decode(keyring, "big").xattrs) == 3


def test_xattrs_bounds(site):
    """Past what metadata have room for: no space, and nothing has changed."""
    write_file(site / "f", b"x")
    os.setxattr(site / "f", "user.kept", b"k")
    with fails(errno.ENOSPC):
        os.setxattr(site / "f", "user.big", b"x" * 2000)
    with fails(errno.ENOSPC):
        os.setxattr(site / "f", "user.big", b"x" * 60000)
    with fails(errno.E2BIG):
        os.setxattr(site / "f", "user.big", b"x" * 65537)
    count = 0
    with fails(errno.ENOSPC):
        while True:
            os.setxattr(site / "f", "user.%03d" % count, b"x" * 10)
            count += 1
    assert count > 30
    assert len(xattrs(site / "f")) == count + 1
    os.rename(site / "f", site / ("n" * 255))
    os.chmod(site / ("n" * 255), 0o600)
    site.remount()
    assert len(xattrs(site / ("n" * 255))) == count + 1


def test_xattrs_long_names(mount, file_store):
    """With encrypted names a long one takes metadata, too: what was accepted still fits after a rename to it."""
    site = Site(mount, file_store, names="encrypted")
    write_file(site / "f", b"x")
    size = 1
    with fails(errno.ENOSPC):
        while True:
            os.setxattr(site / "f", "user.v", b"x" * size)
            size += 1
    assert size > 300
    os.rename(site / "f", site / ("n" * 255))
    site.remount()
    assert xattrs(site / ("n" * 255)) == {"user.v": b"x" * (size - 1)}


def test_xattrs_refused(site):
    write_file(site / "f", b"x")
    for name in ("security.selinux", "trusted.x"):
        with fails(errno.EOPNOTSUPP):
            os.setxattr(site / "f", name, b"x")
        with fails(errno.ENODATA):
            os.getxattr(site / "f", name)
    acl = b"\2\0\0\0" + b"".join(b"%c\0%c\0\xff\xff\xff\xff" % pair for pair in ((1, 6), (4, 4), (32, 4)))
    with fails(errno.EOPNOTSUPP):
        os.setxattr(site / "f", "system.posix_acl_access", acl)
    with fails(errno.EOPNOTSUPP, errno.ENODATA):
        os.getxattr(site / "f", "system.posix_acl_access")
    with fails(errno.EPERM):
        os.setxattr(site / "f", "user.s3cryptfs.state", b"x")
    with fails(errno.EPERM):
        os.removexattr(site / "f", "user.s3cryptfs.state")
    assert os.listxattr(site / "f") == []
    os.symlink("f", site / "link")
    assert os.listxattr(site / "link", follow_symlinks=False) == []


def test_xattrs_survive_kill(mount, file_store):
    """In writeback an acknowledged change is in the journal, as a chmod is."""
    site = Site(mount, file_store, writeback=True, state_dir=file_store.folder + "-state")
    for name in ("stored", "fresh", "removed"):
        write_file(site / name, b"x")
    os.setxattr(site / "removed", "user.a", b"a")
    run(CTL, "sync", site.path)
    write_file(site / "fresh", b"y")
    os.mknod(site / "fifo", stat.S_IFIFO | 0o600)
    os.mkdir(site / "d")
    for name in ("stored", "fresh", "d"):
        os.setxattr(site / name, "user.a", name.encode())
    os.removexattr(site / "removed", "user.a")
    os.rename(site / "fresh", site / "renamed")
    site.m.kill()
    site.remount()
    assert [xattrs(site / n) for n in ("stored", "renamed", "d", "removed")] == [
        {"user.a": b"stored"}, {"user.a": b"fresh"}, {"user.a": b"d"}, {}]
    assert stat.S_ISFIFO(os.stat(site / "fifo").st_mode)
    site.umount()
    site.remount(cache_dir=file_store.folder + "-cache", state_dir=file_store.folder + "-state2")
    assert xattrs(site / "renamed") == {"user.a": b"fresh"} and xattrs(site / "removed") == {}


def test_xattrs_rekey(mount, file_store, keyring):
    site = Site(mount, file_store)
    write_file(site / "f", b"x" * 100)
    write_file(site / "big", blob(SEGMENT + 100))
    for name in ("f", "big"):
        os.setxattr(site / name, "user.a", b"kept")
    site.umount()
    run(CTL, "key", "rotate", "-o", "keyring=" + keyring.path, "second")
    run(CTL, "rekey", "--reencrypt", "-o", "keyring=" + keyring.path, file_store.source)
    site.remount()
    assert xattrs(site / "f") == xattrs(site / "big") == {"user.a": b"kept"}


def test_xattrs_in_the_clear(mount, file_store):
    """Without client-side encryption as s3fs writes it."""
    site = Site(mount, file_store, enc="none")
    write_file(site / "f", b"x")
    os.setxattr(site / "f", "user.a\"\u00e4", b"\0value")
    with fails(errno.EOPNOTSUPP):
        os.setxattr(os.fsencode(site / "f"), b"user.\xff", b"x")
    os.mknod(site / "node", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    site.remount()
    assert xattrs(site / "f") == {"user.a\"\u00e4": b"\0value"}
    assert os.stat(site / "node").st_rdev == os.makedev(1, 3)
    assert file_store.meta_of("f")["xattr"] == "%7B%22user.a%5C%22%C3%A4%22%3A%22AHZhbHVl%22%7D"
    assert file_store.meta_of("node")["rdev"] == "1:3"


@pytest.mark.parametrize("enc", ("cse-key", "sse-c"))
def test_on_a_server(enc, rgw_store, mount):
    site = Site(mount, rgw_store, enc=enc)
    write_file(site / "f", b"x")
    os.setxattr(site / "f", "user.a", b"1")
    os.mkfifo(site / "fifo")
    os.mknod(site / "node", stat.S_IFBLK | 0o600, os.makedev(8, 1))
    site.remount()
    os.rename(site / "f", site / "g")
    os.rename(site / "node", site / "n")
    os.chmod(site / "fifo", 0o600)
    site.remount()
    assert xattrs(site / "g") == {"user.a": b"1"}
    assert os.stat(site / "fifo").st_mode == stat.S_IFIFO | 0o600
    assert os.stat(site / "n").st_rdev == os.makedev(8, 1)


def test_fallocate(any_site):
    """Each mode against a model, over chunks and segments, before and after it was stored."""
    site = any_site
    rng = random.Random(5)
    data = bytearray(blob(2 * SEGMENT + 3 * CHUNK + 77, 1))
    write_file(site / "f", data)
    for _ in range(3):
        with open(site / "f", "r+b", buffering=0) as f:
            for _ in range(12):
                mode = rng.choice((0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE))
                offset = rng.choice((rng.randrange(len(data) + CHUNK), rng.randrange(len(data) // CHUNK) * CHUNK))
                size = rng.choice((1, 100, CHUNK, rng.randrange(1, SEGMENT), SEGMENT + 5))
                fallocate(f.fileno(), mode, offset, size)
                if mode & (PUNCH_HOLE | ZERO_RANGE):
                    end = min(len(data), offset + size)
                    if end > offset:
                        data[offset:end] = bytes(end - offset)
                if not mode & KEEP_SIZE:
                    data += bytes(max(0, offset + size - len(data)))
                assert os.fstat(f.fileno()).st_size == len(data)
                at = rng.randrange(len(data))
                f.seek(at)
                f.write(b"written")
                data[at:at + 7] = b"written"
            f.seek(0)
            assert f.read() == data
        site.remount()
        assert read_file(site / "f") == data
    with open(site / "f", "r+b") as f:
        for mode in (COLLAPSE, PUNCH_HOLE, PUNCH_HOLE | ZERO_RANGE | KEEP_SIZE, 32, 64):
            with fails(errno.EOPNOTSUPP):
                fallocate(f.fileno(), mode, 0, CHUNK)
        with fails(errno.EFBIG):
            fallocate(f.fileno(), 0, (1 << 63) - 2, 1)
    with open(site / "f", "rb") as f, fails(errno.EBADF):
        fallocate(f.fileno(), 0, 0, 1)


def used(path):
    return os.stat(path).st_blocks * 512


def test_holes(site, file_store, keyring):
    """Made by truncation, writes past the end, and punching: nothing is stored of them, and du and SEEK_HOLE see them."""
    size = 10 * SEGMENT
    with open(site / "f", "wb", buffering=0) as f:
        f.truncate(size)
        assert used(site / "f") == 0
        os.pwrite(f.fileno(), b"x" * 100, 4 * SEGMENT + 10)
        assert used(site / "f") == CHUNK
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 4 * SEGMENT
        assert os.lseek(f.fileno(), 4 * SEGMENT + 50, os.SEEK_DATA) == 4 * SEGMENT + 50
        assert os.lseek(f.fileno(), 4 * SEGMENT, os.SEEK_HOLE) == 4 * SEGMENT + CHUNK
    site.remount()
    assert used(site / "f") <= SEGMENT + CHUNK
    with open(site / "f", "r+b", buffering=0) as f:
        fd = f.fileno()
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
        assert os.lseek(fd, 0, os.SEEK_DATA) == 4 * SEGMENT
        assert os.lseek(fd, 4 * SEGMENT, os.SEEK_HOLE) == 5 * SEGMENT
        assert os.lseek(fd, size - 1, os.SEEK_HOLE) == size - 1
        for offset, whence in ((5 * SEGMENT, os.SEEK_DATA), (size, os.SEEK_HOLE), (size + 1, os.SEEK_DATA)):
            with fails(errno.ENXIO):
                os.lseek(fd, offset, whence)
        # Past the end nothing is wrong with being there.
        assert os.lseek(fd, size + 5 * SEGMENT, os.SEEK_SET) == size + 5 * SEGMENT
        assert os.read(fd, 10) == b""
        os.write(fd, b"end")
    assert os.stat(site / "f").st_size == size + 5 * SEGMENT + 3
    data = bytes(4 * SEGMENT + 10) + b"x" * 100
    assert read_file(site / "f") == data + bytes(size + 5 * SEGMENT - len(data)) + b"end"
    run("cp", "--sparse=auto", site / "f", site / "copy")
    assert read_file(site / "copy") == read_file(site / "f")
    assert used(site / "copy") < 4 * SEGMENT
    o = file_store.decode(keyring, "f")
    assert sum(salt != bytes(16) for salt in o.salts) == 2


def test_punched_segments_are_holes(any_site, file_store, keyring):
    site = any_site
    data = bytearray(blob(4 * SEGMENT + 10, 4))
    write_file(site / "f", data)
    site.remount()
    with open(site / "f", "r+b", buffering=0) as f:
        fallocate(f.fileno(), PUNCH_HOLE | KEEP_SIZE, SEGMENT - 5, 2 * SEGMENT + 5)
        os.pwrite(f.fileno(), b"x", 0)
    data[SEGMENT - 5:3 * SEGMENT] = bytes(2 * SEGMENT + 5)
    data[0:1] = b"x"
    assert read_file(site / "f") == data
    site.umount()
    o = file_store.decode(keyring, "f")
    assert o.plaintext() == bytes(data)
    assert [salt == bytes(16) for salt in o.salts] == [False, True, True, False, False]
    site.remount()
    assert read_file(site / "f") == data
    assert used(site / "f") < 2 * SEGMENT + 3 * CHUNK
    with open(site / "f", "r+b", buffering=0) as f:
        assert os.lseek(f.fileno(), 0, os.SEEK_HOLE) == SEGMENT
        os.pwrite(f.fileno(), b"y" * 10, 2 * SEGMENT)
    data[2 * SEGMENT:2 * SEGMENT + 10] = b"y" * 10
    site.remount()
    assert read_file(site / "f") == data


def test_other_opens(site):
    """What is not there fails cleanly, and programs go another way."""
    with fails(errno.EOPNOTSUPP):
        os.open(site.path, os.O_TMPFILE | os.O_RDWR)
    write_file(site / "f", blob(3 * CHUNK + 5))
    fd = os.open(site / "f", os.O_RDWR | os.O_DIRECT)
    assert os.pread(fd, 10, 5) == blob(3 * CHUNK + 5)[5:15]
    os.pwrite(fd, b"direct", CHUNK - 3)
    os.close(fd)
    assert read_file(site / "f")[CHUNK - 3:CHUNK + 3] == b"direct"
    with open(site / "f", "rb") as a, open(site / "g", "wb") as b:
        left = os.fstat(a.fileno()).st_size
        while left:
            left -= os.copy_file_range(a.fileno(), b.fileno(), left)
    assert read_file(site / "g") == read_file(site / "f")


def test_locks_are_local(site):
    write_file(site / "f", b"x")
    script = ("import fcntl,sys\nf = open(sys.argv[1], 'r+b')\n"
              "try:\n getattr(fcntl, sys.argv[2])(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept OSError: sys.exit(3)\n")
    for call in ("flock", "lockf"):
        with open(site / "f", "r+b") as f:
            getattr(fcntl, call)(f, fcntl.LOCK_EX)
            assert run(sys.executable, "-c", script, site / "f", call, check=False).returncode == 3
        assert run(sys.executable, "-c", script, site / "f", call, check=False).returncode == 0


def test_times(site):
    write_file(site / "f", b"x")
    os.utime(site / "f", ns=(1, 1_999_999_999_123_456_789))
    st = os.stat(site / "f")
    assert (st.st_atime_ns, st.st_mtime_ns) == (1, 1_999_999_999_123_456_789)
    run("touch", "-a", "-d", "@-5.5", site / "f")  # UTIME_OMIT
    st = os.stat(site / "f")
    assert (st.st_atime_ns, st.st_mtime_ns) == (-5_500_000_000, 1_999_999_999_123_456_789)
    before = time.time_ns()
    run("touch", "-m", site / "f")  # UTIME_NOW
    assert before <= os.stat(site / "f").st_mtime_ns <= time.time_ns()
    site.remount()
    assert os.stat(site / "f").st_atime_ns == -5_500_000_000


def test_inode_numbers(site):
    """The same for as long as the file is there, names of a directory read alike; another file has another."""
    for n in range(50):
        write_file(site / ("f%d" % n), b"x")
    inodes = {name: os.stat(site / name).st_ino for name in os.listdir(site.path)}
    assert len(set(inodes.values())) == 50
    assert {e.name: e.inode() for e in os.scandir(site.path)} == inodes
    with open(site / "f0", "rb") as f:
        os.rename(site / "f1", site / "f0")
        write_file(site / "f1", b"new")
        numbers = [os.fstat(f.fileno()).st_ino, os.stat(site / "f0").st_ino, os.stat(site / "f1").st_ino]
    assert numbers[:2] == [inodes["f0"], inodes["f1"]] and len(set(numbers)) == 3
    site.remount()
    assert os.stat(site / "f7").st_ino == inodes["f7"]


def test_handle_outlives_the_upload(any_site):
    """A path handle (O_PATH) of a file that was closed before it was in the store, and is afterwards."""
    handles = {}
    for n in range(12):
        write_file(any_site / str(n), b"x" * 100)
        handles[os.open(any_site / str(n), os.O_PATH)] = os.lstat(any_site / str(n)).st_ino
    run(CTL, "sync", any_site.path)
    time.sleep(1.2)  # what the kernel keeps of attributes
    for n, (handle, number) in enumerate(handles.items()):
        assert os.lstat(any_site / str(n)).st_ino == number
        assert os.fstat(handle).st_ino == number
        os.close(handle)


@pytest.mark.parametrize("where", ("file", pytest.param("rgw", marks=pytest.mark.long), "versity"))
def test_names_of_any_bytes(where, request, mount):
    """255 bytes of anything but a slash and zero."""
    store = request.getfixturevalue(where + "_store")
    site = Site(mount, store)
    folder = os.fsencode(site / "d")
    os.mkdir(folder)
    # Versitygw keeps them in files, whose names end at 255 bytes.
    longest = b"\xff" * (84 if where == "versity" else 255)
    names = [bytes([b]) * 3 for b in range(1, 256) if b not in b"/."] + [longest, b"...", b" x ", b"%41", b"a+b&c=d?#;:@\"<>\\'",
             "ä".encode() * 127, b"%" * 255, b"\r\n", b"end "]
    for name in names:
        write_file(folder + b"/" + name, name)
    site.remount()
    folder = os.fsencode(site / "d")
    assert set(os.listdir(folder)) == set(names)
    for name in names:
        assert read_file(folder + b"/" + name) == name
        os.unlink(folder + b"/" + name)
    assert os.listdir(folder) == []


def test_too_long_paths(any_site):
    """S3's keys end at 1,024 bytes: told before anything of a directory was renamed."""
    site = any_site
    os.makedirs(site / ("a/" + "b" * 200 + "/" + "c" * 200))
    write_file(site / ("a/" + "b" * 200 + "/" + "c" * 200 + "/f"), b"deep")
    deep = "/".join("d" * 200 for _ in range(4))
    os.makedirs(site / deep)
    with fails(errno.ENAMETOOLONG):
        os.rename(site / "a", site / (deep + "/a"))
    with fails(errno.ENAMETOOLONG):
        write_file(site / (deep + "/" + "e" * 255), b"x")
    assert os.listdir(site / deep) == []
    assert read_file(site / ("a/" + "b" * 200 + "/" + "c" * 200 + "/f")) == b"deep"
    site.remount()
    assert read_file(site / ("a/" + "b" * 200 + "/" + "c" * 200 + "/f")) == b"deep"


def test_df(site):
    fields = run("df", "-P", site.path).stdout.splitlines()[1].split()
    assert int(fields[1]) >= 1 << 30 and fields[-1] == site.path


WAITING = {
    "read": "open(at + '/f', 'rb').read()", "stat": "os.stat(at + '/f')", "write": "open(at + '/new', 'wb').write(b'x' * 100)",
    "list": "os.listdir(at + '/full')", "mkdir": "os.mkdir(at + '/new')", "rmdir": "os.rmdir(at + '/empty')",
    "symlink": "os.symlink('x', at + '/new')", "mknod": "os.mkfifo(at + '/new')", "unlink": "os.unlink(at + '/f')",
    "rename": "os.rename(at + '/f', at + '/new')", "rename_folder": "os.rename(at + '/full', at + '/new')",
    "link": "os.link(at + '/f', at + '/new')", "chmod": "os.chmod(at + '/f', 0o600)",
    "truncate": "os.truncate(at + '/f', 5)",
    "setxattr": "os.setxattr(at + '/f', 'user.a', b'x')", "fsync": "f = os.open(at + '/f', os.O_WRONLY); os.pwrite(f, b'x', 0); os.fsync(f)",
}


def test_interrupt(rgw_store, mount):
    """
    Ctrl-C on a program that waits for a store which does not answer works at once, whatever it waits for, and no wait
    outlives timeout=. What was begun is done, or not, and the filesystem has it one way.
    """
    site = Site(mount, rgw_store, timeout=8, retries=2, ttl=60)
    for what in WAITING:
        for number in "12":
            for name in ("empty", "full"):
                os.makedirs(site / ("%s%s/%s" % (what, number, name)))
            write_file(site / ("%s%s/f" % (what, number)), blob(CHUNK * 3))
            write_file(site / ("%s%s/full/x" % (what, number)), b"x")
    site.remount()
    head = "import os, signal, sys\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\nat = sys.argv[1]\nsys.stdin.read(1)\n"

    def begin(what, number):
        return subprocess.Popen([sys.executable, "-c", head + WAITING[what], site / (what + number)], stdin=subprocess.PIPE)

    programs = {number: {what: begin(what, number) for what in WAITING} for number in "12"}
    # What is known is not asked for: what changes something waits in the change itself. One look at a name is waited for by
    # the kernel alone.
    for folder in sorted(os.listdir(site.path)):
        if folder[:-1] in ("stat", "read", "list", "write"):
            os.stat(site / folder)
            continue
        for name in os.listdir(site / folder):
            os.stat(site / (folder + "/" + name))
        os.listdir(site / (folder + "/empty"))
        os.listdir(site / (folder + "/full"))
        assert not os.path.exists(site / (folder + "/new"))
    rgw_store.proxy.fault("hang")
    try:
        for number in "12":
            for program in programs[number].values():
                program.stdin.close()
        time.sleep(3)
        over = {what for what, program in programs["1"].items() if program.poll() is not None}
        assert not over, "they do not wait"
        begin_ns = time.monotonic()
        for program in programs["1"].values():
            program.send_signal(signal.SIGINT)
        for what, program in programs["1"].items():
            assert program.wait(10) == -signal.SIGINT, what
        assert time.monotonic() - begin_ns < 2
        # The others end by themselves, with an error.
        for what, program in programs["2"].items():
            assert program.wait(60) == 1, what
    finally:
        rgw_store.proxy.fault("off")
        for program in (p for ps in programs.values() for p in ps.values()):
            program.kill()
            program.wait()
    for what in WAITING:
        for number in "12":
            folder = what + number
            wait_for(lambda: set(os.listdir(site / folder)) & {"f", "new"}, 60, folder)
            names = set(os.listdir(site / folder))
            assert names <= {"empty", "full", "f", "new"}, (folder, names)
            for name in names & {"f", "new"}:
                if what not in ("write", "fsync", "mkdir", "symlink", "mknod", "truncate", "rename_folder") or name == "f" != "fsync" == what:
                    assert len(read_file(site / (folder + "/" + name))) == CHUNK * 3, folder


SIGNALS = """
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.03, 0.03)
at, buffer, count = sys.argv[1].encode(), ctypes.create_string_buffer(1 << 16), 0

def call(name, *args):
    global count
    count += 1
    result = getattr(libc, name)(*args)
    assert result >= 0, "%s: %s" % (name, os.strerror(ctypes.get_errno()))
    return result

end = time.monotonic() + 6
while time.monotonic() < end:
    n = b"%d" % count
    f = call("open", at + b"/" + n, os.O_CREAT | os.O_RDWR, 0o600)
    call("write", f, buffer, 1 << 16)
    call("close", f)
    call("rename", at + b"/" + n, at + b"/to" + n)
    call("mkdir", at + b"/d" + n, 0o700)
    call("symlink", b"x", at + b"/d" + n + b"/l")
    call("link", at + b"/to" + n, at + b"/d" + n + b"/f")
    call("chmod", at + b"/to" + n, 0o640)
    call("truncate", at + b"/to" + n, 100)
    f = call("open", at + b"/d" + n + b"/f", os.O_RDONLY)
    call("read", f, buffer, 100)
    call("close", f)
    for name in b"/l", b"/f":
        call("unlink", at + b"/d" + n + name)
    call("rmdir", at + b"/d" + n)
# An interpreter that ends takes its handlers back before the timer: the signal ended it in one run of some.
signal.setitimer(signal.ITIMER_REAL, 0)
print(count)
"""


def test_signals_that_end_nothing(rgw_store, mount):
    """A timer, say: on no disk does a program see EINTR for that."""
    site = Site(mount, rgw_store)
    os.mkdir(site / "d")
    rgw_store.proxy.latency(100)
    out = run(sys.executable, "-c", SIGNALS, site / "d").stdout
    rgw_store.proxy.latency(0)
    assert int(out) >= 15, out
    site.umount()
