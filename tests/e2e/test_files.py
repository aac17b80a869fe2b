# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Files in a folder store: what programs expect of a filesystem. After each test the
mount is taken down, everything is decoded by the second decoder, and no
plaintext may be found in the store or in the local folders.
"""
import ctypes
import errno
import fcntl
import hashlib
import itertools
import mmap
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import pytest

import decoder
from harness import CTL, MARKER, PROGRAM, Site, blob, drop_caches, fails, find_bytes, read_file, run, wait_for, write_file

CHUNK, SEGMENT = decoder.CHUNK, decoder.SEGMENT


@pytest.fixture
def site(file_store, mount, keyring, tmp_path):
    site = Site(mount, file_store)
    yield site
    if not site.m.ended:
        site.umount()
    site.objects = file_store.decode_all(keyring)
    local = [str(p) for p in tmp_path.glob("cache-*")]
    assert not find_bytes(MARKER, file_store.folder, *local)


def snapshot(top, times=True):
    """Everything that a backup would compare: {relative path: (type, mode, owner, mtime, content or its hash)}."""
    found = {}
    for folder, dirs, files in os.walk(top):
        for path in [os.path.join(folder, n) for n in dirs + files]:
            st = os.lstat(path)
            content = None
            if stat.S_ISLNK(st.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(st.st_mode):
                content = read_file(path)
                assert st.st_size == len(content), path
                if len(content) > 100:  # a difference is printed
                    content = hashlib.sha256(content).hexdigest()
            found[os.path.relpath(path, top)] = (st.st_mode, st.st_uid, st.st_gid, times and st.st_mtime_ns, content)
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A tree of some hundred files as programs leave them; all of it is marked plaintext."""
    top, rng = tmp_path_factory.mktemp("tree"), random.Random(1)
    for d in range(12):
        folder = top / ("dir-%d" % d) / ("sub %d" % (d % 3))
        folder.mkdir(parents=True)
        for f in range(15):
            size = rng.choice([0, 1, 10, 500, 4096, 20000, CHUNK - 1, CHUNK, CHUNK + 1])
            path = folder / ("file-%d.dat" % f)
            path.write_bytes((MARKER + blob(size, 100 * d + f))[:size])
            path.chmod(rng.choice([0o644, 0o600, 0o755, 0o444]))
            os.utime(path, ns=(10**18 + f, rng.randrange(10**18, 17 * 10**17)))
        os.symlink("../" + "x" * d + "target", folder / "link")
        # rsync sets the time of a link only when it differs by a second.
        os.utime(folder / "link", ns=(10**18, 16 * 10**17 + d), follow_symlinks=False)
        os.chown(folder / "file-1.dat", 1000 + d, 2000 + d) if os.geteuid() == 0 else None
    (top / "big").write_bytes(MARKER + blob(2 * SEGMENT + 12345, 7))
    (top / "empty dir").mkdir(mode=0o750)
    for folder, dirs, files in os.walk(top, topdown=False):
        os.utime(folder, ns=(10**18, 15 * 10**17 + len(files)))
    return str(top)


def test_thread_through_all_layers(site, keyring, file_store):
    """The thinnest: one file written, read, seen as ciphertext, and read again from the store."""
    data = MARKER * 3
    write_file(site / "hello.txt", data)
    assert read_file(site / "hello.txt") == data
    assert file_store.keys() == ["hello.txt"]
    assert file_store.decode(keyring, "hello.txt").plaintext() == data
    assert len(file_store.body_of("hello.txt")) == len(data) + 16
    site.remount()
    assert os.listdir(site.path) == ["hello.txt"]
    assert read_file(site / "hello.txt") == data


def test_cp(site, tree):
    run("cp", "-a", tree, site / "copy")
    expected = snapshot(tree)
    assert snapshot(site / "copy") == expected
    site.remount()
    assert snapshot(site / "copy") == expected
    run("cp", "-r", site / "copy", site / "again")
    run("diff", "-r", "--no-dereference", tree, site / "again")
    run("rm", "-r", site / "copy")
    assert os.listdir(site.path) == ["again"]


def test_rsync(site, tree):
    def sync(*args):
        return run("rsync", "-a", "-i", *args, tree + "/", site / "copy").stdout

    assert "file-1.dat" in sync()
    assert sync("--checksum") == ""
    site.remount()
    assert sync() == ""
    assert sync("--checksum") == ""
    assert snapshot(site / "copy") == snapshot(tree)
    run("rsync", "-a", "--inplace", "--no-whole-file", "--ignore-times", tree + "/big", site / "copy/big")
    assert read_file(site / "copy/big") == read_file(os.path.join(tree, "big"))


def test_tar(site, tree, tmp_path):
    archive = str(tmp_path / "tree.tar")
    run("tar", "--format=posix", "-cf", archive, "-C", tree, ".")
    os.mkdir(site / "out")
    run("tar", "xpf", archive, "-C", site / "out")
    assert run("tar", "df", archive, "-C", site / "out").stdout == ""
    site.remount()
    assert run("tar", "df", archive, "-C", site / "out").stdout == ""
    run("tar", "--format=posix", "-cf", site / "back.tar", "-C", site / "out", ".")
    os.mkdir(tmp_path / "back")
    run("tar", "xpf", site / "back.tar", "-C", tmp_path / "back")
    assert snapshot(tmp_path / "back") == snapshot(tree)


def test_git(site, tmp_path):
    env = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null", GIT_AUTHOR_NAME="t",
               GIT_AUTHOR_EMAIL="t@example.org", GIT_COMMITTER_NAME="t", GIT_COMMITTER_EMAIL="t@example.org")

    def git(folder, *args):
        return run("git", "-C", folder, *args, env=env).stdout

    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main")
    for n in range(5):
        for f in range(10):
            (origin / ("f%d.txt" % f)).write_bytes(MARKER + b" %d %d\n" % (n, f) * 200)
        git(origin, "add", ".")
        git(origin, "commit", "-q", "-m", "c%d" % n)
    repo = site / "repo"
    git("/", "clone", "-q", "file://" + str(origin), repo)
    write_file(os.path.join(repo, "new.txt"), MARKER)
    git(repo, "add", "new.txt")
    git(repo, "commit", "-q", "-m", "in the mount")
    git(repo, "mv", "f1.txt", "moved.txt")
    git(repo, "commit", "-q", "-a", "-m", "moved")
    git(repo, "fsck", "--strict")
    git(repo, "gc", "-q", "--aggressive", "--prune=now")
    git(repo, "checkout", "-q", "HEAD~3")
    git(repo, "checkout", "-q", "main")
    site.remount()
    repo = site / "repo"
    git(repo, "fsck", "--strict")
    assert git(repo, "status", "--porcelain") == ""
    assert git(repo, "log", "--oneline").count("\n") == 7
    assert read_file(os.path.join(repo, "new.txt")) == MARKER


@pytest.mark.parametrize("journal", ["delete", "truncate", "wal"])
def test_sqlite(site, journal):
    path = site / "data.db"
    db = sqlite3.connect(path, timeout=30)
    assert db.execute("PRAGMA journal_mode=" + journal).fetchone()[0] == journal
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT, data BLOB)")
    for batch in range(4):
        with db:
            db.executemany("INSERT INTO t VALUES (?, ?, ?)",
                           ((batch * 300 + n, MARKER.decode(), blob(n, n)) for n in range(300)))
    with db:
        db.execute("UPDATE t SET word = 'other' WHERE id % 7 = 0")
        db.execute("DELETE FROM t WHERE id % 11 = 0")
    other = sqlite3.connect(path, timeout=30)
    count = other.execute("SELECT count(*) FROM t").fetchone()[0]
    assert count == db.execute("SELECT count(*) FROM t").fetchone()[0] == 1200 - 110
    db.execute("BEGIN")
    db.execute("DELETE FROM t")
    db.execute("ROLLBACK")
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    other.close()
    db.execute("VACUUM")
    db.close()
    site.remount()
    db = sqlite3.connect(site / "data.db")
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert db.execute("SELECT count(*) FROM t").fetchone()[0] == count
    assert db.execute("SELECT data FROM t WHERE id = 905").fetchone()[0] == blob(5, 5)
    db.close()


def test_editor_save(site):
    """As vim and others do: write aside, sync, rename over; and: rename away, write new, remove."""
    path = site / "text"
    write_file(path, b"first " + MARKER)
    os.chmod(path, 0o640)
    for n in range(5):
        fd = os.open(site / ".text.swp", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, b"version %d " % n + MARKER)
        os.fchmod(fd, 0o640)
        os.fsync(fd)
        os.close(fd)
        os.rename(site / ".text.swp", path)
        assert read_file(path) == b"version %d " % n + MARKER
    os.rename(path, path + "~")
    write_file(path, b"last " + MARKER)
    os.unlink(path + "~")
    assert os.listdir(site.path) == ["text"]
    site.remount()
    assert os.listdir(site.path) == ["text"]
    assert read_file(site / "text") == b"last " + MARKER


def test_vim(site):
    """The editor itself, where it is installed."""
    import shutil
    vim = shutil.which("vim") or shutil.which("vi")
    if not vim:
        pytest.skip("vim is not installed")
    write_file(site / "text", b"one\n")
    run(vim, "-u", "NONE", "-N", "-i", "NONE", "-es", "-c", "normal Atwo", "-c", "wq", site / "text", stdin=subprocess.DEVNULL)
    assert read_file(site / "text") == b"onetwo\n"
    site.remount()
    assert read_file(site / "text") == b"onetwo\n"


def test_compiler(site):
    os.mkdir(site / "src")
    for n in range(6):
        write_file(site / ("src/f%d.c" % n), b"/* %s */\nint f%d(void) { return %d; }\n" % (MARKER, n, n))
    calls = " + ".join("f%d()" % n for n in range(6))
    declare = "".join("int f%d(void);\n" % n for n in range(6))
    write_file(site / "src/main.c", (declare + "int main(void) { return %s; }\n" % calls).encode())
    write_file(site / "src/Makefile", b"OBJS = main.o f0.o f1.o f2.o f3.o f4.o f5.o\n"
               b"prog: $(OBJS)\n\tar rcs lib.a $(OBJS)\n\tgcc -g -o $@ lib.a\n")
    run("make", "-j2", "-C", site / "src")
    assert subprocess.run([site / "src/prog"]).returncode == 15
    run("make", "-q", "-C", site / "src")
    site.remount()
    run("make", "-q", "-C", site / "src")
    assert subprocess.run([site / "src/prog"]).returncode == 15
    write_file(site / "src/f5.c", b"int f5(void) { return 6; }\n")
    run("make", "-C", site / "src")
    assert subprocess.run([site / "src/prog"]).returncode == 16


SIZES = [0, 1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 2 * SEGMENT + 70000]


def test_sizes(site, keyring, file_store):
    """Every edge of chunk and segment."""
    for n, size in enumerate(SIZES):
        write_file(site / str(n), blob(size, n))
    site.remount()
    for n, size in enumerate(SIZES):
        assert os.stat(site / str(n)).st_size == size
        assert read_file(site / str(n)) == blob(size, n)
        found = file_store.decode(keyring, str(n))
        assert found.layout == (decoder.CHUNKS if size <= SEGMENT else decoder.TRAILER)
        assert found.plaintext() == blob(size, n)


@pytest.mark.parametrize("by", ["path", "fd"])
def test_truncate(site, by):
    """From each size to each other; what is new reads as zeros."""
    def cut(path, size):
        if by == "path":
            os.truncate(path, size)
        else:
            with open(path, "r+b") as f:
                f.truncate(size)

    shadow = {}
    sizes = [0, 100, CHUNK, CHUNK + 5, SEGMENT, SEGMENT + 5, 2 * SEGMENT + 7]
    for n, (old, new) in enumerate((a, b) for a in sizes for b in sizes if a != b and (a > SEGMENT or b > SEGMENT or a < 9 > b)):
        name = "f%d" % n
        data = blob(old, n)
        write_file(site / name, data)
        cut(site / name, new)
        shadow[name] = data[:new] + bytes(max(0, new - old))
        assert os.stat(site / name).st_size == new
        assert read_file(site / name) == shadow[name], (old, new)
    site.remount()
    for name, data in shadow.items():
        assert read_file(site / name) == data, name


def test_truncate_then_extend(site):
    """Bytes that were cut off do not come back."""
    path = site / "f"
    write_file(path, b"x" * (3 * CHUNK))
    with open(path, "r+b") as f:
        f.truncate(CHUNK + 10)
        f.truncate(2 * CHUNK)
        f.seek(2 * CHUNK + 100)
        f.write(b"y")
    expected = b"x" * (CHUNK + 10) + bytes(CHUNK - 10 + 100) + b"y"
    assert read_file(path) == expected
    with open(path, "wb") as f:  # O_TRUNC
        f.write(b"z")
    assert read_file(path) == b"z"
    site.remount()
    assert read_file(site / "f") == b"z"


def test_truncate_running_program(site):
    """The kernel refuses O_TRUNC on a program that runs, but with O_RDONLY only after it has asked for it."""
    program = read_file("/bin/sleep")
    write_file(site / "program", program)
    os.chmod(site / "program", 0o755)
    running = subprocess.Popen([site / "program", "60"])
    try:
        wait_for(lambda: os.readlink("/proc/%d/exe" % running.pid) == str(site / "program"), what="the program")
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            with fails(errno.ETXTBSY):
                os.open(site / "program", flags | os.O_TRUNC)
        assert os.stat(site / "program").st_size == len(program)
        assert read_file(site / "program") == program
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()

    def truncate():
        try:
            os.close(os.open(site / "program", os.O_RDONLY | os.O_TRUNC))
        except OSError as e:
            assert e.errno == errno.ETXTBSY  # its handle is released a little later
            return False
        return True
    wait_for(truncate, what="the end of the program")
    assert os.stat(site / "program").st_size == 0


def test_open_trunc_keeps_old_until_commit(site, file_store, keyring):
    """O_TRUNC alone sends nothing: the store holds the old version until the new one is complete."""
    write_file(site / "f", b"old " + MARKER)
    fd = os.open(site / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"ne")
    assert file_store.decode(keyring, "f").plaintext() == b"old " + MARKER
    assert read_file(site / "f") == b"ne"
    os.close(fd)
    assert file_store.decode(keyring, "f").plaintext() == b"ne"


def test_mmap(site):
    path, size = site / "mapped", SEGMENT + 3 * CHUNK
    data = bytearray(blob(size, 3))
    write_file(path, data)
    site.remount()
    path = site / "mapped"
    with open(path, "r+b") as f:
        with mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            assert view[SEGMENT - 5:SEGMENT + 5] == data[SEGMENT - 5:SEGMENT + 5]
            assert bytes(view) == data
        view = mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED)
        for at in (0, CHUNK - 3, SEGMENT - 4, size - 10):
            view[at:at + 8] = data[at:at + 8] = b"changed!"
        view.flush()
        os.fsync(f.fileno())
        view[5000:5004] = data[5000:5004] = b"late"
    view[6000:6004] = data[6000:6004] = b"last"  # after close of the descriptor
    view.close()
    assert read_file(path) == data
    site.remount()
    assert read_file(site / "mapped") == data


def test_append_log(site):
    lines = []
    for n in range(40):
        with open(site / "log", "a") as f:
            lines.append("line %d %s\n" % (n, MARKER.decode()))
            f.write(lines[-1])
        if n == 20:
            site.remount()
    assert read_file(site / "log") == "".join(lines).encode()
    big = blob(SEGMENT - 100, 1)
    write_file(site / "big", big)
    for n in range(3):
        write_file(site / "big", b"tail" * 50, "ab")
    site.remount()
    assert read_file(site / "big") == big + b"tail" * 150


APPENDER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for n in range(200):
    os.write(fd, b"%s %04d\\n" % (sys.argv[2].encode() * 20, n))
os.close(fd)
"""


def test_append_of_two_processes(site):
    """O_APPEND of two writers at once: no line is lost or torn."""
    write_file(site / "log", b"")
    writers = [subprocess.Popen([sys.executable, "-c", APPENDER, site / "log", who]) for who in "ab"]
    assert [w.wait(60) for w in writers] == [0, 0]
    site.remount()
    lines = read_file(site / "log").decode().splitlines()
    assert sorted(lines) == sorted("%s %04d" % (who * 20, n) for who in "ab" for n in range(200))
    for who in "ab":
        assert [line for line in lines if line[0] == who] == ["%s %04d" % (who * 20, n) for n in range(200)]


def test_unlink_while_open(site, file_store):
    data = blob(SEGMENT + CHUNK, 1)
    for name, create_only in (("stored", False), ("new", True)):
        path = site / name
        if create_only:
            fd = os.open(path, os.O_RDWR | os.O_CREAT)
            os.write(fd, data)
        else:
            write_file(path, data)
            site.remount()
            path = site / name
            fd = os.open(path, os.O_RDWR)
        os.unlink(path)
        with fails(errno.ENOENT):
            os.stat(path)
        assert name not in os.listdir(site.path)
        assert os.fstat(fd).st_size == len(data)
        assert os.pread(fd, 100, SEGMENT - 50) == data[SEGMENT - 50:SEGMENT + 50]
        os.pwrite(fd, b"still writable", 10)
        assert os.pread(fd, 20, 8) == data[8:10] + b"still writable" + data[24:28]
        os.ftruncate(fd, 50)
        os.fsync(fd)
        assert os.fstat(fd).st_size == 50
        write_file(path, b"a new file of that name")
        assert os.pread(fd, 14, 10) == b"still writable"
        os.close(fd)
        assert read_file(path) == b"a new file of that name"
        os.unlink(path)
    site.umount()
    assert file_store.keys() == []
    assert [k for k in file_store.paths() if k != ".s3cryptfs/volume"] == []


def test_rename_over_open(site):
    old, new = blob(3 * CHUNK, 1), blob(2 * CHUNK, 2)
    write_file(site / "target", old)
    site.remount()
    fd = os.open(site / "target", os.O_RDONLY)
    write_file(site / "source", new)
    os.rename(site / "source", site / "target")
    assert os.pread(fd, len(old) + 1, 0) == old
    assert read_file(site / "target") == new
    os.close(fd)
    fd = os.open(site / "target", os.O_RDWR)
    os.rename(site / "target", site / "moved")
    os.pwrite(fd, b"after the rename", 0)
    os.close(fd)
    assert os.listdir(site.path) == ["moved"]
    site.remount()
    assert read_file(site / "moved") == b"after the rename" + new[16:]


def test_rename(site):
    for name in ("a", "b", "d/1", "d/s/2", "d/s/t/3", "full/x"):
        os.makedirs(os.path.dirname(site / name), exist_ok=True)
        write_file(site / name, name.encode())
    os.mkdir(site / "d/empty", 0o711)
    os.mkdir(site / "vacant")
    os.rename(site / "a", site / "d/a")
    os.rename(site / "d", site / "e")
    os.rename(site / "e", site / "vacant")  # over an empty directory
    with fails(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(site / "vacant", site / "full")
    with fails(errno.EINVAL):
        os.rename(site / "vacant", site / "vacant/s/below")
    with fails(errno.ENOTDIR):
        os.rename(site / "vacant", site / "b")
    with fails(errno.EISDIR):
        os.rename(site / "b", site / "vacant")
    with fails(errno.ENOENT):
        os.rename(site / "absent", site / "z")
    os.rename(site / "b", site / "b")
    expected = {"b": b"b", "full/x": b"full/x", "vacant/a": b"a", "vacant/1": b"d/1", "vacant/s/2": b"d/s/2", "vacant/s/t/3": b"d/s/t/3"}
    for _ in range(2):
        found = snapshot(site.path)
        assert {k: v[4] for k, v in found.items() if v[4] is not None} == expected
        assert found["vacant/empty"][0] == stat.S_IFDIR | 0o711
        site.remount()


def renameat2(old, new, flags):
    if ctypes.CDLL(None, use_errno=True).renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def test_rename_noreplace(site):
    write_file(site / "a", b"a")
    write_file(site / "b", b"b")
    with fails(errno.EEXIST):
        renameat2(site / "a", site / "b", 1)
    assert read_file(site / "b") == b"b"
    renameat2(site / "a", site / "c", 1)
    assert sorted(os.listdir(site.path)) == ["b", "c"]
    with fails(errno.EINVAL):
        renameat2(site / "b", site / "c", 4)  # RENAME_WHITEOUT
    assert read_file(site / "b") == b"b"


def test_symlinks(site):
    targets = ["x", "../up/and/away", "/absolute", "t" * 1000, "\u00fcml\u00e4ut", "a b%+c"]
    for n, target in enumerate(targets):
        os.symlink(target, site / ("l%d" % n))
    write_file(site / "x", b"followed")
    for _ in range(2):
        for n, target in enumerate(targets):
            path = site / ("l%d" % n)
            assert os.readlink(path) == target
            st = os.lstat(path)
            assert stat.S_ISLNK(st.st_mode) and st.st_size == len(target.encode())
        assert read_file(site / "l0") == b"followed"
        site.remount()
    with fails(errno.EEXIST):
        os.symlink("y", site / "l0")
    os.chown(site / "l0", 5, 6, follow_symlinks=False)
    os.utime(site / "l0", ns=(1, 2 * 10**9 + 3), follow_symlinks=False)
    os.rename(site / "l0", site / "moved")
    site.remount()
    st = os.lstat(site / "moved")
    assert (st.st_uid, st.st_gid, st.st_mtime_ns) == (5, 6, 2 * 10**9 + 3)
    os.unlink(site / "moved")


def test_attributes(site, file_store, keyring):
    write_file(site / "f", b"data")
    os.mkdir(site / "d")
    write_file(site / "large", blob(SEGMENT + 5))
    times = {"f": -1500000000, "d": 1234567890123456789, "large": 4 * 10**18 + 1}
    for n, (name, ns) in enumerate(times.items()):
        os.chmod(site / name, 0o4711 + n if name != "d" else 0o1777)
        os.chown(site / name, 1001 + n, 2002 + n)
        os.chmod(site / name, 0o4711 + n if name != "d" else 0o1777)
        os.utime(site / name, ns=(10**18 + n, ns))
    for _ in range(2):
        for n, (name, ns) in enumerate(times.items()):
            st = os.stat(site / name)
            assert stat.S_IMODE(st.st_mode) == (0o4711 + n if name != "d" else 0o1777)
            assert (st.st_uid, st.st_gid, st.st_mtime_ns, st.st_atime_ns) == (1001 + n, 2002 + n, ns, 10**18 + n), name
        site.remount()
    meta = file_store.meta_of("f")
    assert (meta["mode"], meta["uid"], meta["gid"], meta["mtime"]) == (str(0o104711), "1001", "2002", "-1.500000000")
    assert file_store.decode(keyring, "large").attrs["mtime"] == times["large"]
    before = os.stat(site / "f")
    write_file(site / "f", b"more", "ab")
    after = os.stat(site / "f")
    assert after.st_mtime_ns > before.st_mtime_ns and after.st_size == 8
    assert after.st_uid == 1001
    with fails(errno.ENOENT):
        os.chmod(site / "absent", 0o600)


def test_times_do_not_change_by_themselves(site):
    """What stat says after close is what it says later and after a remount."""
    seen = {}
    for n, size in enumerate((0, 10, SEGMENT + 1, 3 * SEGMENT)):
        write_file(site / str(n), blob(size, n))
        st = os.stat(site / str(n))
        seen[str(n)] = (st.st_mtime_ns, st.st_ctime_ns, st.st_mode)
    os.mkdir(site / "d")
    st = os.stat(site / "d")
    seen["d"] = (st.st_mtime_ns, st.st_ctime_ns, st.st_mode)
    site.remount()
    for name, expected in seen.items():
        st = os.stat(site / name)
        assert (st.st_mtime_ns, st.st_ctime_ns, st.st_mode) == expected, name


def test_directories(site, file_store):
    os.makedirs(site / "a/b/c")
    with fails(errno.EEXIST):
        os.mkdir(site / "a")
    with fails(errno.ENOENT):
        os.mkdir(site / "x/y")
    with fails(errno.ENOTEMPTY):
        os.rmdir(site / "a")
    write_file(site / "f", b"")
    with fails(errno.ENOTDIR):
        os.rmdir(site / "f")
    with fails(errno.EISDIR, errno.EPERM):
        os.unlink(site / "a")
    with fails(errno.ENOTDIR):
        os.mkdir(site / "f/x")
    with fails(errno.EISDIR):
        os.open(site / "a", os.O_WRONLY)
    assert sorted(file_store.keys()) == ["a/", "a/b/", "a/b/c/", "f"]
    before = os.stat(site / "a").st_mtime_ns
    write_file(site / "a/new", b"")
    assert os.stat(site / "a").st_mtime_ns > before
    many = sorted("entry-%04d" % n for n in range(1500))
    os.mkdir(site / "many")
    for name in many:
        os.mkdir(site / ("many/" + name)) if name.endswith("7") else write_file(site / ("many/" + name), b"")
    assert sorted(os.listdir(site / "many")) == many
    site.remount()
    assert sorted(os.listdir(site / "many")) == many
    assert sorted(os.listdir(site / "a")) == ["b", "new"]
    # Removing while reading finds everything.
    with os.scandir(site / "many") as entries:
        for entry in entries:
            os.rmdir(entry.path) if entry.is_dir() else os.unlink(entry.path)
    os.rmdir(site / "many")
    os.rmdir(site / "a/b/c")
    os.rmdir(site / "a/b")
    assert os.listdir(site / "a") == ["new"]


def test_close_stores_empty_file(mount, tmp_path):
    """An empty file is stored by its close, though the process writes to another file of that number elsewhere."""
    sources = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sources.append(mount("file://%s" % (tmp_path / name)))
    other, here = sources
    with open(other / "f", "wb"):
        write_file(here / "f", b"")
        assert os.stat(here / "f").st_ino == os.stat(other / "f").st_ino, "the numbers do not clash: the test shows nothing"
        assert (tmp_path / "two" / "f").exists()


def test_implicit_directory_stays(site, file_store):
    """A directory does not vanish with its last file."""
    os.makedirs(site / "made/below")
    write_file(site / "made/below/f", b"x")
    os.unlink(file_store.paths()["made/below/"])
    site.remount()
    assert os.listdir(site / "made/below") == ["f"]
    os.unlink(site / "made/below/f")
    assert os.listdir(site / "made") == ["below"]
    site.remount()
    assert os.listdir(site / "made") == ["below"]
    os.rmdir(site / "made/below")
    assert os.listdir(site / "made") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_permissions(file_store, mount, tmp_path):
    """The kernel checks modes for a user who is not the one who mounts."""
    for folder in [tmp_path] + list(tmp_path.parents)[:-2]:
        folder.chmod(folder.stat().st_mode | 0o055)
    site = Site(mount, file_store, allow_other=True)
    os.chmod(site.path, 0o755)
    for name, mode in (("open", 0o644), ("secret", 0o600), ("mine", 0o600)):
        write_file(site / name, name.encode())
        os.chmod(site / name, mode)
    os.mkdir(site / "closed", 0o700)
    write_file(site / "closed/f", b"f")
    os.chown(site / "mine", 65534, 65534)
    os.mkdir(site / "his")
    os.chown(site / "his", 65534, 65534)

    def nobody(*args):
        return run(*args, user="nobody", group="nogroup", extra_groups=[], check=False, env={"PATH": os.environ["PATH"], "LC_ALL": "C"})

    assert nobody("cat", site / "open").stdout == "open"
    assert nobody("cat", site / "mine").stdout == "mine"
    for args in (["cat", site / "secret"], ["sh", "-c", 'echo x >>"$1"', "sh", site / "open"], ["ls", site / "closed"],
                 ["cat", site / "closed/f"], ["touch", site / "new"], ["rm", "-f", site / "open"], ["chmod", "777", site / "secret"],
                 ["mv", site / "open", site / "his/x"]):
        result = nobody(*args)
        assert result.returncode != 0 and ("denied" in result.stderr or "not permitted" in result.stderr), (args, result.stderr)
    assert nobody("touch", site / "his/made").returncode == 0
    assert os.stat(site / "his/made").st_uid == 65534
    assert nobody("chmod", "640", site / "his/made").returncode == 0
    assert nobody("chown", "root", site / "his/made").returncode != 0
    assert read_file(site / "open") == b"open"


NAMES = ["space name", " leading", "trailing ", "unicode \u00fc\u4e2d\u6587 \U0001f600", "percent%41%", "%-x", "%+y", "%=z", "plus+plus",
         "semi;colon", "new\nline", "tab\tx", "quote\"'", "back\\slash", "star*?[x]", "#hash", "q?a=b&c", "...", "-dash", "~", "\x01\x1f",
         "a:b", "<xml>&amp;", ".hidden", "e\u0301", "\u00e9", ".s3cryptfs-tmp", ".s3cryptfs-meta", "x.s3cryptfs"]


def test_odd_names(site, file_store):
    for name in NAMES:
        write_file(site / name, MARKER + name.encode())
        os.mkdir(site / ("d " + name))
        write_file(site / ("d " + name + "/" + name), name.encode())
    for _ in range(2):
        assert sorted(os.listdir(site.path)) == sorted(NAMES + ["d " + n for n in NAMES])
        for name in NAMES:
            assert read_file(site / name) == MARKER + name.encode()
            assert os.listdir(site / ("d " + name)) == [name]
            assert read_file(site / ("d " + name + "/" + name)) == name.encode()
        site.remount()
    for name in NAMES:
        os.rename(site / name, site / ("r" + name))
        os.unlink(site / ("d " + name + "/" + name))
        os.rmdir(site / ("d " + name))
    assert sorted(os.listdir(site.path)) == sorted("r" + n for n in NAMES)
    # Control characters are not for XML: such names are stored escaped.
    stored = {"\x01\x1f": "%~r%01%1F"}
    assert sorted(file_store.keys()) == sorted(stored.get(n, "r" + n) for n in NAMES)


def test_bytes_that_are_no_unicode(site, file_store):
    """S3 has no keys for them: they are stored escaped, and so is what looks like that; each name has one key."""
    folder = os.fsencode(site.path) + b"/"
    names = {b"bad-\xff\xfe": "%~bad-%FF%FE", b"%~bad-%FF%FE": "%~%25~bad-%25FF%25FE", b"%41": "%41",
             "\u00e4\ud7ff".encode(): "\u00e4\ud7ff", b"\xed\xa0\x80%": "%~%ED%A0%80%25",
             b"\x01\t\xef\xbf\xbf": "%~%01\t%EF%BF%BF"}
    for name in names:
        write_file(folder + name, name)
    for _ in range(2):
        assert sorted(os.listdir(folder)) == sorted(names)
        for name in names:
            assert read_file(folder + name) == name
        site.remount()
        folder = os.fsencode(site.path) + b"/"
    assert set(names.values()) <= set(file_store.keys())
    os.mkdir(folder + b"d\xff")
    os.rename(folder + b"bad-\xff\xfe", folder + b"d\xff/\x80")
    os.rename(folder + b"d\xff", folder + b"e\xff")
    site.remount()
    folder = os.fsencode(site.path) + b"/"
    assert read_file(folder + b"e\xff/\x80") == b"bad-\xff\xfe"
    assert "%~e%FF/%~%80" in file_store.keys()


def test_reserved_name(site):
    """The filesystem's own objects cannot be reached."""
    assert ".s3cryptfs" not in os.listdir(site.path)
    for call in (lambda: os.stat(site / ".s3cryptfs"), lambda: os.stat(site / ".s3cryptfs/volume"),
                 lambda: write_file(site / ".s3cryptfs", b"x"), lambda: os.mkdir(site / ".s3cryptfs"),
                 lambda: write_file(site / ".s3cryptfs/volume", b"x")):
        with pytest.raises(OSError):
            call()
    write_file(site / "f", b"x")
    with pytest.raises(OSError):
        os.rename(site / "f", site / ".s3cryptfs")
    assert read_file(site / "f") == b"x"


def test_long_names(site):
    for name in ("n" * 255, "\u00fc" * 127 + "x"):
        write_file(site / name, b"long")
        os.mkdir(site / (name[:-1]))
        assert read_file(site / name) == b"long"
    for name in ("n" * 256, "\u00fc" * 128):
        for call in (lambda: os.stat(site / name), lambda: write_file(site / name, b""), lambda: os.mkdir(site / name),
                     lambda: os.symlink("x", site / name), lambda: os.rename(site / ("n" * 255), site / name)):
            with fails(errno.ENAMETOOLONG):
                call()
    site.remount()
    assert len(os.listdir(site.path)) == 4
    assert read_file(site / ("n" * 255)) == b"long"


def test_key_past_the_limit(site):
    """A path whose key would pass 1,024 bytes."""
    folder = "/".join(["p" * 200] * 5)  # 1004 bytes
    os.makedirs(site / folder)
    write_file(site / (folder + "/" + "f" * 19), b"1024")
    with fails(errno.ENAMETOOLONG):
        write_file(site / (folder + "/" + "f" * 20), b"1025")
    with fails(errno.ENAMETOOLONG):
        os.mkdir(site / (folder + "/" + "d" * 19))  # with its slash
    os.mkdir(site / (folder + "/" + "d" * 18))
    write_file(site / "f", b"x")
    with fails(errno.ENAMETOOLONG):
        os.rename(site / "f", site / (folder + "/" + "f" * 30))
    assert read_file(site / "f") == b"x"
    site.remount()
    assert sorted(os.listdir(site / folder)) == ["d" * 18, "f" * 19]


def test_empty(site, file_store):
    write_file(site / "empty", b"")
    os.mkdir(site / "dir")
    fd = os.open(site / "mknod", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.close(fd)
    run("touch", site / "touched")
    os.mknod(site / "node", stat.S_IFREG | 0o600)
    site.remount()
    assert sorted(os.listdir(site.path)) == ["dir", "empty", "mknod", "node", "touched"]
    for name in ("empty", "mknod", "node", "touched"):
        assert read_file(site / name) == b"" and os.stat(site / name).st_size == 0
        assert file_store.body_of(name) == b""
    assert os.listdir(site / "dir") == []
    write_file(site / "empty", b"now", "ab")
    site.remount()
    assert read_file(site / "empty") == b"now"


def test_refused_kinds(site):
    """What cannot be answers with the right error."""
    write_file(site / "f", b"x")
    os.mkdir(site / "d")
    with fails(errno.EPERM):
        os.link(site / "d", site / "hard")
    with fails(errno.EEXIST):
        os.mknod(site / "f", stat.S_IFREG | 0o600)
    with fails(errno.EEXIST):
        os.open(site / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    with fails(errno.ENOENT):
        os.open(site / "g", os.O_RDONLY)
    assert sorted(os.listdir(site.path)) == ["d", "f"]


def test_statfs(site):
    st = os.statvfs(site.path)
    assert st.f_namemax == 255 and st.f_bsize >= 512
    assert st.f_bavail * st.f_frsize > 1 << 40 and st.f_ffree > 1000000
    assert "fuse.s3cryptfs" in run("findmnt", "-n", "-o", "FSTYPE,SOURCE", site.path).stdout
    assert site.store.source in run("findmnt", "-n", "-o", "SOURCE", site.path).stdout


def test_introspection(site, keyring):
    write_file(site / "f", b"x" * 100)
    names = os.listxattr(site / "f")
    for name in names:
        assert name.startswith("user.s3cryptfs.")
        os.getxattr(site / "f", name)
    with fails(errno.ENODATA, errno.EOPNOTSUPP):
        os.getxattr(site / "f", "user.other")


def test_sparse(site, file_store):
    """Holes cost nothing in the store."""
    size = 40 * SEGMENT
    with open(site / "sparse", "wb") as f:
        f.truncate(size)
        f.seek(20 * SEGMENT + 5)
        f.write(MARKER)
    assert len(file_store.body_of("sparse")) < 2 * decoder.STORED_SEGMENT
    site.remount()
    with open(site / "sparse", "rb") as f:
        assert os.fstat(f.fileno()).st_size == size
        assert os.stat(site / "sparse").st_blocks * 512 < 2 * SEGMENT
        f.seek(20 * SEGMENT)
        assert f.read(5 + len(MARKER) + 1) == bytes(5) + MARKER + bytes(1)
        f.seek(size - 10)
        assert f.read(100) == bytes(10)
        assert os.pread(f.fileno(), 1 << 20, 3 * SEGMENT - 77) == bytes(1 << 20)
    os.truncate(site / "sparse", 5)
    assert read_file(site / "sparse") == bytes(5)


def test_partial_rewrite_keeps_the_rest(site, file_store, keyring):
    """Segments that did not change keep their salts: they were copied, not encrypted again; the short last one goes
    with the trailer."""
    data = bytearray(blob(5 * SEGMENT + 1000, 1))
    write_file(site / "f", data)
    before = file_store.decode(keyring, "f")
    site.remount()
    with open(site / "f", "r+b") as f:
        f.seek(2 * SEGMENT + 777)
        f.write(MARKER)
    data[2 * SEGMENT + 777:2 * SEGMENT + 777 + len(MARKER)] = MARKER
    after = file_store.decode(keyring, "f")
    assert after.plaintext() == data and after.content_id != before.content_id
    assert after.generation > before.generation and after.operation_id != before.operation_id
    assert [i for i in range(5) if before.salts[i] != after.salts[i]] == [2]


def test_two_names_two_handles(site):
    """Handles of one file see each other's writes before close."""
    path = site / "f"
    a = os.open(path, os.O_RDWR | os.O_CREAT)
    b = os.open(path, os.O_RDWR)
    os.pwrite(a, b"from a", 0)
    assert os.pread(b, 10, 0) == b"from a"
    os.pwrite(b, b"B", 5)
    assert os.pread(a, 10, 0) == b"from B"
    assert os.stat(path).st_size == 6
    os.ftruncate(a, 2)
    assert os.pread(b, 10, 0) == b"fr"
    os.close(a)
    os.pwrite(b, b"more", 2)
    os.close(b)
    site.remount()
    assert read_file(site / "f") == b"frmore"


def test_locks(site):
    """flock and fcntl locks are the kernel's own."""
    write_file(site / "f", b"x")
    with open(site / "f", "r+b") as a, open(site / "f", "r+b") as b:
        fcntl.flock(a, fcntl.LOCK_EX)
        with fails(errno.EWOULDBLOCK):
            fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(a, fcntl.LOCK_UN)
        fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_many_threads(site):
    """Writers of different files and readers of one at once."""
    shared, errors = blob(3 * SEGMENT, 9), []
    write_file(site / "shared", shared)
    drop_caches()

    def work(n):
        try:
            rng = random.Random(n)
            for i in range(6):
                data = blob(rng.randrange(3 * CHUNK), 50 * n + i)
                write_file(site / ("t%d" % n), data)
                assert read_file(site / ("t%d" % n)) == data
                with open(site / "shared", "rb") as f:
                    at = rng.randrange(len(shared))
                    f.seek(at)
                    assert f.read(200000) == shared[at:at + 200000]
                os.rename(site / ("t%d" % n), site / ("r%d" % n))
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors


def random_position(rng, size):
    """Most often near an edge of a chunk or segment."""
    if rng.random() < 0.3:
        return rng.randrange(size + 1)
    edge = rng.choice([CHUNK, SEGMENT, 1 << 20, 4096])
    return max(0, min(size, rng.randrange(size // edge + 1) * edge + rng.randrange(-20, 21)))


def exercise(site, seed, steps, top):
    """Random operations against a shadow; returns what must be there in the end."""
    rng = random.Random(seed)
    shadow = {name: bytearray() for name in ("a", "b", "c")}
    handles = {}
    for name in shadow:
        write_file(site / name, b"")

    def handle(name):
        if name not in handles:
            handles[name] = os.open(site / name, os.O_RDWR)
        return handles[name]

    for step in range(steps):
        name = rng.choice(sorted(shadow))
        data = shadow[name]
        what = rng.choices(["write", "read", "truncate", "fsync", "close", "rename", "stat", "append"],
                           [30, 30, 8, 6, 8, 3, 3, 4])[0]
        context = (seed, step, what, name)
        if what == "write":
            at = random_position(rng, min(top, len(data) + SEGMENT // 2))
            piece = rng.randbytes(min(top - at, rng.choice([1, 50, 4096, CHUNK, CHUNK + 1, 200000, 1 << 20])) or 1)
            assert os.pwrite(handle(name), piece, at) == len(piece), context
            if len(data) < at:
                data.extend(bytes(at - len(data)))
            data[at:at + len(piece)] = piece
        elif what == "read":
            at, size = random_position(rng, len(data)), rng.choice([1, 100, 4096, CHUNK, 300000, 1 << 20])
            assert os.pread(handle(name), size, at) == data[at:at + size], context
        elif what == "truncate":
            size = random_position(rng, min(top, len(data) + SEGMENT)) if rng.random() < 0.9 else 0
            os.ftruncate(handle(name), size) if rng.random() < 0.6 else os.truncate(site / name, size)
            del data[size:]
            data.extend(bytes(size - len(data)))
        elif what == "fsync":
            os.fsync(handle(name))
        elif what == "close":
            if name in handles:
                os.close(handles.pop(name))
        elif what == "rename":
            other = rng.choice(sorted(shadow))
            if other != name:
                if other in handles:
                    os.close(handles.pop(other))
                os.rename(site / name, site / other)
                shadow[other] = data
                if name in handles:
                    handles[other] = handles.pop(name)
                shadow[name] = bytearray()
                write_file(site / name, b"")
        elif what == "append":
            piece = rng.randbytes(rng.choice([10, 5000, CHUNK]))
            if len(data) + len(piece) <= top:
                write_file(site / name, piece, "ab")
                data.extend(piece)
        assert os.stat(site / name).st_size == len(shadow[name]), context
    for fd in handles.values():
        os.close(fd)
    return shadow


@pytest.mark.parametrize("seed,top", [(1, 3 * CHUNK), (2, SEGMENT + 3 * CHUNK), (3, 3 * SEGMENT)])
def test_random_operations(site, file_store, keyring, seed, top):
    shadow = exercise(site, seed, 250, top)
    for name, data in shadow.items():
        assert read_file(site / name) == data, name
    site.remount()
    for name, data in shadow.items():
        assert read_file(site / name) == data, name
        assert file_store.decode(keyring, name).plaintext() == data, name


@pytest.mark.parametrize("options", [{}, {"writeback": True}], ids=["close", "writeback"])
def test_names_in_a_moving_directory(file_store, mount, options):
    """Names that are made and removed in a directory while it gets another name: all arrive where it is."""
    site = Site(mount, file_store, **options)
    os.mkdir(site / "d0")
    folder = os.open(site / "d0", os.O_RDONLY | os.O_DIRECTORY)
    end, made, errors = time.monotonic() + 2.5, {}, []

    def work(number):
        for n in itertools.count():
            name = "%d-%d" % (number, n)
            try:
                with open(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=folder), "w") as f:
                    f.write(name)
                os.mkdir(name + "d", dir_fd=folder)
                os.chmod(name, 0o640, dir_fd=folder)
                assert name in os.listdir("/proc/self/fd/%d" % folder)
                if n % 2:
                    os.unlink(name, dir_fd=folder)
                else:
                    os.rename(name, name + "r", src_dir_fd=folder, dst_dir_fd=folder)
                    made[name + "r"] = name
                os.rmdir(name + "d", dir_fd=folder)
            except (OSError, AssertionError) as e:
                errors.append((name, e))
            if time.monotonic() > end:
                return

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for w in workers:
        w.start()
    names = ["d0", "d1"]
    while time.monotonic() < end:
        os.rename(site / names[0], site / names[1])
        names.reverse()
    for w in workers:
        w.join()
    os.close(folder)
    assert not errors and made
    for again in (False, True):
        if again:
            site.remount()
        assert os.listdir(site.path) == names[:1]
        assert {n: read_file(site / (names[0] + "/" + n)).decode() for n in os.listdir(site / names[0])} == made


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 110))
def test_random_operations_long(site, seed):
    shadow = exercise(site, seed, 1000, 3 * SEGMENT)
    site.remount()
    for name, data in shadow.items():
        assert read_file(site / name) == data, name


def exercise_tree(site, seed, steps):
    """Random changes of names against the same changes in a local folder; remounted now and then."""
    rng, local = random.Random(seed), site.path + "-local"
    os.mkdir(local)
    names = ["a", "b", "c", "dd"]

    def both(call):
        """The call on both trees has one outcome."""
        outcomes = []
        for top in (local, site.path):
            try:
                call(top)
                outcomes.append(None)
            except OSError as e:
                outcomes.append({errno.EEXIST: errno.ENOTEMPTY}.get(e.errno, e.errno))
        return outcomes

    for step in range(steps):
        path = "/".join(rng.choice(names) for _ in range(rng.randrange(1, 4)))
        other = "/".join(rng.choice(names) for _ in range(rng.randrange(1, 4)))
        what = rng.choice(["write", "write", "mkdir", "mkdir", "rename", "rename", "rename", "unlink", "rmdir", "symlink", "chmod", "list"])
        data = b"%d" % step
        call = {
            "write": lambda top: write_file(top + "/" + path, data),
            "mkdir": lambda top: os.mkdir(top + "/" + path),
            "rename": lambda top: os.rename(top + "/" + path, top + "/" + other),
            "unlink": lambda top: os.unlink(top + "/" + path),
            "rmdir": lambda top: os.rmdir(top + "/" + path),
            "symlink": lambda top: os.symlink("t%d" % step, top + "/" + path),
            "chmod": lambda top: os.chmod(top + "/" + path, 0o700 + step % 8, follow_symlinks=True),
            "list": lambda top: os.listdir(top + "/" + path),
        }[what]
        outcomes = both(call)
        assert outcomes[0] == outcomes[1], (seed, step, what, path, other, outcomes)
        if step % 40 == 39:
            assert snapshot(site.path, times=False) == snapshot(local, times=False), (seed, step)
        if step % 150 == 149:
            site.remount()
            assert snapshot(site.path, times=False) == snapshot(local, times=False), (seed, step)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_names(site, seed):
    exercise_tree(site, seed, 300)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20, 40))
def test_random_names_long(site, seed):
    exercise_tree(site, seed, 900)


def test_parallel_writers_of_one_file(site, file_store, keyring):
    """Stripes of one file from several threads and handles, with fsyncs between them."""
    size, stripe, errors = 3 * SEGMENT + 1000, 100000, []
    expected = b"".join(bytes([n % 251]) * min(stripe, size - n * stripe) for n in range((size + stripe - 1) // stripe))
    write_file(site / "f", b"")

    def work(who, count):
        try:
            mine = [n for n in range(who, (size + stripe - 1) // stripe, count)]
            random.Random(who).shuffle(mine)
            with open(site / "f", "r+b", buffering=0) as f:
                for i, n in enumerate(mine):
                    piece = expected[n * stripe:(n + 1) * stripe]
                    assert os.pwrite(f.fileno(), piece, n * stripe) == len(piece)
                    assert os.pread(f.fileno(), len(piece), n * stripe) == piece
                    if i % 17 == who:
                        os.fsync(f.fileno())
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(who, 6)) for who in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors
    assert read_file(site / "f") == expected
    assert file_store.decode(keyring, "f").plaintext() == expected
    site.remount()
    assert read_file(site / "f") == expected


def test_background(file_store, keyring, tmp_path):
    """As mount(8) calls the helper: the program returns when the mount is up."""
    helper, mnt, cache = tmp_path / "mount.fuse.s3cryptfs", tmp_path / "mnt", tmp_path / "cache-bg"
    helper.symlink_to(PROGRAM)
    mnt.mkdir()
    result = run(helper, file_store.source, mnt, "-o", "rw,_netdev,nofail,noatime,nosuid,keyring=%s,cache_dir=%s,log=%s" %
                 (keyring.path, cache, tmp_path / "log"), stdin=subprocess.DEVNULL, timeout=60)
    try:
        assert (result.stdout, result.stderr) == ("", "")
        assert os.path.ismount(mnt)
        write_file(str(mnt / "f"), MARKER)
        # A second daemon on the same folders is refused.
        (tmp_path / "second").mkdir()
        second = run(PROGRAM, file_store.source, tmp_path / "second", "-o", "keyring=%s,cache_dir=%s" % (keyring.path, cache),
                     check=False, timeout=60)
        assert second.returncode != 0 and second.stderr.count("\n") == 1, second.stderr
    finally:
        run("fusermount3", "-u", mnt, check=False)
    assert file_store.decode(keyring, "f").plaintext() == MARKER
    # The folders are free again as soon as the daemon has ended.
    wait_for(lambda: run(PROGRAM, file_store.source, mnt, "-o", "keyring=%s,cache_dir=%s" % (keyring.path, cache),
                         check=False, timeout=60).returncode == 0, 20, "mounting again")
    assert read_file(str(mnt / "f")) == MARKER
    run("fusermount3", "-u", mnt)


MOUNT8 = """
set -e
mount --make-rprivate /
mount -t overlay none -o lowerdir="$T/helpers:/usr/sbin" /usr/sbin
mount -t fuse.s3cryptfs "$SOURCE" "$T/mnt" -o "$OPTIONS"
echo data >"$T/mnt/file"
umount "$T/mnt"
echo "$SOURCE $T/mnt fuse.s3cryptfs _netdev,nofail,x-systemd.automount,$OPTIONS 0 0" >"$T/fstab"
n=0
until mount -a -T "$T/fstab"; do n=$((n + 1)); test $n -lt 50; sleep 0.1; done
mount -a -T "$T/fstab"
test "$(grep -c " $T/mnt " /proc/self/mounts)" = 1
cat "$T/mnt/file"
umount "$T/mnt"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_mount8(file_store, keyring, tmp_path):
    """mount -t fuse.s3cryptfs, and mount -a twice, in a namespace where the helper is installed."""
    for name in ("helpers", "mnt"):
        (tmp_path / name).mkdir()
    (tmp_path / "helpers/mount.fuse.s3cryptfs").symlink_to(PROGRAM)
    if subprocess.run(["unshare", "-m", "sh", "-c", "mount --make-rprivate / && mount -t overlay none -o lowerdir=%s/helpers:/usr/sbin "
                       "/usr/sbin" % tmp_path], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no mount namespace with an overlay here")
    env = dict(os.environ, T=str(tmp_path), SOURCE=file_store.source,
               OPTIONS="keyring=%s,cache_dir=%s,log=%s" % (keyring.path, tmp_path / "cache-m8", tmp_path / "log"))
    result = run("unshare", "-m", "sh", "-c", MOUNT8, env=env, stdin=subprocess.DEVNULL, timeout=60, check=False)
    log = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
    assert result.returncode == 0 and result.stdout.endswith("data\n"), result.stderr + log
    wait_for(lambda: file_store.decode(keyring, "file").plaintext() == b"data\n", 10, "the file in the store")


def test_terminate(file_store, mount, keyring):
    """SIGTERM commits what is open, unmounts and ends with 0."""
    m = mount(file_store.source)
    fd = os.open(m / "f", os.O_RDWR | os.O_CREAT)
    os.write(fd, MARKER)
    m.process.terminate()
    assert m.process.wait(60) == 0, m.text()
    m.ended = True
    assert not os.path.ismount(m.path)
    with pytest.raises(OSError):
        os.fsync(fd)
    with pytest.raises(OSError):
        os.close(fd)
    assert file_store.decode(keyring, "f").plaintext() == MARKER


def test_read_only(file_store, mount):
    site = Site(mount, file_store)
    write_file(site / "f", b"x")
    site.remount(ro=True)
    assert read_file(site / "f") == b"x"
    with fails(errno.EROFS):
        write_file(site / "g", b"x")
    with fails(errno.EROFS):
        os.unlink(site / "f")
    before = sorted(file_store.paths())
    site.umount()
    assert sorted(file_store.paths()) == before


def test_ctl(file_store, mount, keyring, tmp_path):
    """key new, init, stat and cat."""
    fresh = tmp_path / "fresh"
    run(CTL, "key", "new", "-o", "keyring=%s" % fresh, "first")
    assert stat.S_IMODE(os.stat(fresh).st_mode) == 0o600
    assert decoder.Keyring(str(fresh)).active == "first"
    again = run(CTL, "key", "new", "-o", "keyring=%s" % fresh, "second", check=False)
    assert again.returncode == 1 and again.stderr.count("\n") == 1
    assert list(decoder.Keyring(str(fresh)).secrets) == ["first"]

    option = "keyring=%s,cache_dir=%s" % (keyring.path, tmp_path / "of-ctl")
    run(CTL, "init", "-o", option, file_store.source)
    assert list(file_store.paths()) == [".s3cryptfs/volume"]
    assert file_store.volume(keyring).serial == 1
    site = Site(mount, file_store)
    os.mkdir(site / "d")
    data = MARKER + blob(SEGMENT + 1000)
    write_file(site / "d/f", data)
    site.umount()
    out = subprocess.run([CTL, "cat", "-o", option, file_store.source, "d/f"], stdout=subprocess.PIPE, check=True).stdout
    assert out == data
    told = run(CTL, "stat", "-o", option, file_store.source, "d/f").stdout
    assert keyring.key_id in told and str(len(data)) in told
    assert run(CTL, "cat", "-o", option, file_store.source, "absent", check=False).returncode == 1
    assert run(CTL, "nonsense", check=False).returncode == 2
    assert run(PROGRAM, "--version").stdout.startswith("s3cryptfs ")
    assert "keyring=" in run(PROGRAM, "--help").stdout
