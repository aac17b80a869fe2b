# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
The cache of a mount: warm after a remount, within its limit, of no use to others, and never the reason for a
wrong byte; and what a mount leaves on the disk tells neither content nor names nor keys.
"""
import base64
import contextlib
import json
import os
import random
import re
import shutil
import signal
import threading
import time

import pytest

from harness import CTL, Keyring, Site, blob, drop_caches, find_bytes, read_file, run, sha256_file, write_file

MIB = 1 << 20
# What was changed within two seconds is not kept: another change of that second would look the same.
SETTLE = 3


def make_tree(site, large=40 * MIB):
    """100 small files in five folders, and a large one; {path: content}."""
    tree = {"large": blob(large, 1)}
    for n in range(100):
        tree["d%d/f%02d" % (n % 5, n)] = blob(100 + 500 * n, n)
    for n in range(5):
        os.mkdir(site / ("d%d" % n))
    for name, data in tree.items():
        write_file(site / name, data)
    return tree


def read_tree(site, tree):
    for name, data in tree.items():
        assert read_file(site / name) == data, name


def ls(site):
    """{path: (mode, size, mtime)} as ls -lR shows it."""
    found = {}
    for folder, dirs, files in os.walk(site.path):
        for name in dirs + files:
            st = os.lstat(os.path.join(folder, name))
            found[os.path.relpath(os.path.join(folder, name), site.path)] = (st.st_mode, st.st_size, st.st_mtime_ns)
    return found


def test_warm_after_remount(rgw_store, mount, tmp_path):
    """Listings and a few looks; of content nothing is fetched again, of the large file not even its trailer."""
    site = Site(mount, rgw_store, cache_dir=str(tmp_path / "cache"))
    tree = make_tree(site)
    site.remount()
    before = ls(site)

    def look_again():
        time.sleep(SETTLE)
        site.remount()
        drop_caches()
        rgw_store.proxy.reset()
        assert ls(site) == before
        read_tree(site, tree)

    # Where processors are short, a part of what is read is not kept: the next reader's part is.
    for _ in range(5):
        look_again()
        if rgw_store.proxy.counts().get("GET", 0) == 0:
            break
    for _ in range(2):
        look_again()
        counts = rgw_store.proxy.counts()
        assert counts.get("GET", 0) == 0, "%s\n%s" % (counts, rgw_store.proxy.requests()[-3000:])
        # Of six folders: a listing each, and the attributes of those that have some.
        assert counts["LIST"] <= 12 and counts.get("HEAD", 0) <= 8, "%s\n%s" % (counts, rgw_store.proxy.requests()[-3000:])
        assert set(counts) & {"PUT", "COPY", "DELETE", "PART"} == set(), counts


@pytest.mark.long
def test_changed_meanwhile(rgw_store, mount, tmp_path):
    """What another mount changed while this one was down is fetched, and nothing else is."""
    site, other = Site(mount, rgw_store, cache_dir=str(tmp_path / "cache")), None
    tree = make_tree(site, 1 * MIB)
    time.sleep(SETTLE)
    site.remount()
    ls(site)
    read_tree(site, tree)
    site.umount()
    other = Site(mount, rgw_store)
    for name in ("d0/f00", "d3/f48", "large"):
        tree[name] = tree[name][::-1]
        write_file(other / name, tree[name])
    tree["d4/new"] = b"new"
    write_file(other / "d4/new", b"new")
    os.unlink(other / "d1/f01")
    del tree["d1/f01"]
    site.remount()
    drop_caches()
    rgw_store.proxy.reset()
    found = ls(site)
    assert {n for n in found if n not in {"d%d" % k for k in range(5)}} == set(tree)
    read_tree(site, tree)
    counts = rgw_store.proxy.counts()
    # The large one: its end, and the rest.
    assert counts["GET"] + counts.get("HEAD", 0) <= 8 + 2 * 4, "%s\n%s" % (counts, rgw_store.proxy.requests()[-3000:])


# Warm or not is told by the cache itself: the store may as well be a folder.

def cache_stats(site):
    return json.loads(run(CTL, "status", site.path, "--json").stdout)["cache"]


FILES = {"small": blob(5000, 1), "medium": blob(3 * MIB, 2), "odd": blob(MIB + 5, 3)}
CHUNKS = 48 + 17  # a small file may come with the look at its attributes


class Cached:
    """A mount of a folder store with a cache of its own, in which FILES are."""

    def __init__(self, mount, store, folder, **options):
        self.folder = folder
        self.db = os.path.join(folder, "cache.db")
        self.site = Site(mount, store, cache_dir=folder, **options)
        for name, data in FILES.items():
            if name not in os.listdir(self.site.path):
                write_file(self.site / name, data)
        self.read()

    def read(self):
        drop_caches()
        for name, data in FILES.items():
            assert read_file(self.site / name) == data

    def is_warm(self):
        """Mounted anew: all content comes from the cache, or none of it; None: some does."""
        self.site.remount()
        self.read()
        hits = cache_stats(self.site)["hits"]
        return True if hits >= CHUNKS else None if hits else False


@pytest.mark.parametrize("key", ["wrapped", "file", "ephemeral"])
def test_keys(file_store, mount, tmp_path, key):
    """Warm but for ephemeral; the key is where it is said to be and nowhere else."""
    cached = Cached(mount, file_store, str(tmp_path / "cache"), cache_key=key)
    for _ in range(2):
        assert cached.is_warm() is (key != "ephemeral"), cache_stats(cached.site)
    cached.site.umount()
    assert os.path.exists(cached.db) is (key != "ephemeral")
    key_file = tmp_path / "cache" / "cache.key"
    assert key_file.exists() is (key == "file")
    if key != "file":
        return
    assert key_file.stat().st_mode & 0o777 == 0o600 and key_file.stat().st_size == 32
    # Without its key it is of no use, and is begun anew.
    key_file.unlink()
    assert cached.is_warm() is False
    assert "has lost its key" in cached.site.m.text()
    assert cached.is_warm() is True


DAMAGES = ["flipped", "halved", "text"] + [pytest.param(how, marks=pytest.mark.long) for how in ("empty", "wal", "schema", "folder")]


def damage(how, db):
    size = os.path.getsize(db)
    rng = random.Random(how)
    if how == "flipped":
        with open(db, "r+b") as f:
            for _ in range(400):  # anywhere but in the header, which "text" replaces
                at = rng.randrange(100, size)
                f.seek(at)
                byte = f.read(1)
                f.seek(at)
                f.write(bytes([byte[0] ^ 1 << rng.randrange(8)]))
    elif how == "halved":
        os.truncate(db, size // 2)
    elif how == "text":
        write_file(db, b"This is a letter to my aunt, and no database.\n" * 100)
    elif how == "empty":
        os.truncate(db, 0)
    elif how == "wal":
        write_file(db + "-wal", rng.randbytes(200000))
    elif how == "schema":
        import sqlite3
        with contextlib.closing(sqlite3.connect(db)) as connection:
            connection.execute("PRAGMA user_version = 99")
    elif how == "folder":
        os.unlink(db)
        os.mkdir(db)


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged(file_store, mount, tmp_path, how):
    """The mount works, its bytes are right, it says what happened, and is warm again later."""
    cached = Cached(mount, file_store, str(tmp_path / "cache"))
    assert cached.is_warm() is True
    cached.site.umount()
    damage(how, cached.db)
    cached.site.remount()
    assert sorted(os.listdir(cached.site.path)) == sorted(FILES)
    cached.read()
    text = cached.site.m.text()
    if how not in ("empty", "wal"):  # nothing is lost there that anybody could miss
        assert re.search(r"(warn|error): .*cache", text), text
    if how == "text":
        assert b"letter to my aunt" in read_file(cached.db + ".aside")
    if how == "flipped":  # row by row
        for _ in range(3):
            cached.is_warm()
    if how != "folder":
        cached.is_warm()
        assert cached.is_warm() is True, cached.site.m.text()


@pytest.mark.long
def test_damaged_often(file_store, mount, tmp_path):
    """One place at a time, in every part of the file, its header included."""
    cached = Cached(mount, file_store, str(tmp_path / "cache"))
    assert cached.is_warm() is True
    cached.site.umount()
    good, rng = read_file(cached.db), random.Random(5)
    places = [*range(0, 100, 3)] + [rng.randrange(100, 8192) for _ in range(20)] + [rng.randrange(len(good)) for _ in range(60)]
    for at in places:
        for leftover in ("-wal", "-shm", ".aside"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(cached.db + leftover)
        write_file(cached.db, good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1:])
        cached.site.remount()
        cached.read()
        cached.site.umount()


def test_another_key(file_store, mount, tmp_path, keyring):
    """Another volume or another key on the same folder is refused, and takes nothing away."""
    cached = Cached(mount, file_store, str(tmp_path / "cache"))
    cached.site.umount()
    other_ring, other_store = Keyring(str(tmp_path / "other-keyring"), "other-key"), tmp_path / "other-store"
    other_store.mkdir()
    # A volume of its own, with the same keyring and with another one.
    for ring in (keyring, other_ring):
        for name in other_store.iterdir():
            shutil.rmtree(name) if name.is_dir() else name.unlink()
        m = mount("file://" + str(other_store), wait=False, keyring=ring.path, cache_dir=cached.folder,
                  state_dir=str(tmp_path / ("state-" + ring.key_id)))
        status, text = m.fail()
        lines = [line for line in text.splitlines() if line]
        assert status != 0 and len(lines) == 1 and "another key" in lines[0] and cached.folder in lines[0], text
    m = mount(file_store.source, wait=False, keyring=other_ring.path, cache_dir=cached.folder)
    status, text = m.fail()
    assert status != 0 and len(text.splitlines()) == 1, text
    # Of another kind.
    m = mount(file_store.source, wait=False, keyring=keyring.path, cache_dir=cached.folder, cache_key="file")
    assert m.fail()[0] != 0
    assert cached.is_warm() is True


def test_second_daemon(file_store, mount, tmp_path):
    """Refused with one line that names the first one's pid, whichever folder they share."""
    cached = Cached(mount, file_store, str(tmp_path / "cache"), state_dir=str(tmp_path / "state"))
    pid = str(cached.site.m.process.pid)
    for options in ({"cache_dir": cached.folder, "state_dir": str(tmp_path / "state")},
                    {"cache_dir": cached.folder, "state_dir": str(tmp_path / "state2")},
                    {"cache_dir": str(tmp_path / "cache2"), "state_dir": str(tmp_path / "state")}):
        m = mount(file_store.source, wait=False, **options)
        status, text = m.fail()
        assert status != 0 and re.search(r"\b%s\b" % pid, text) and len(text.splitlines()) == 1, text
    cached.read()
    assert cached.is_warm() is True


def test_limit(file_store, mount, tmp_path):
    """cache.db with its WAL stays within cache_size, however much is read."""
    limit, folder = 64 * MIB, tmp_path / "cache"
    site = Site(mount, file_store, cache_dir=str(folder), cache_size="64M")
    source = tmp_path / "source"
    with open(source, "wb") as f:
        for n in range(200):
            f.write(blob(MIB, n))
    shutil.copyfile(source, site / "f")
    done, sizes = threading.Event(), []

    def sample():
        while not done.is_set():
            with contextlib.suppress(OSError):
                sizes.append(sum(os.path.getsize(folder / name) for name in os.listdir(folder) if name.startswith("cache.db")))
            time.sleep(0.002)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        for _ in range(2):
            site.remount()
            drop_caches()
            assert sha256_file(site / "f") == sha256_file(source)
    finally:
        done.set()
        thread.join()
    assert len(sizes) > 50 and max(sizes) <= limit, max(sizes)
    assert max(sizes) > limit // 2, max(sizes)  # and it is made use of
    # A lower limit later.
    site.remount(cache_size="16M")
    assert sum(os.path.getsize(folder / name) for name in os.listdir(folder) if name.startswith("cache.db")) <= 16 * MIB
    assert sha256_file(site / "f") == sha256_file(source)


# What is left on the disk.

CONTENT = [b"content-marker-5b1f0c77", b"attached-marker-99e1d2a4", b"spilled-marker-3377acfe"]
NAMES = [b"name-marker-1d08e6", b"folder-marker-c3a9f5", b"renamed-marker-77b0aa", b"link-marker-0a55ee"]


def key_forms(secret):
    """A secret as it would be seen in a file."""
    forms = [secret, base64.b64encode(secret).rstrip(b"="), base64.urlsafe_b64encode(secret).rstrip(b"="),
             secret.hex().encode(), secret.hex().upper().encode()]
    return forms + [secret[:16], secret[16:]]


def leave_traces(site):
    """Markers in everything that a mount may keep: names, content small and large, open, changed and deleted files."""
    os.mkdir(site / NAMES[1].decode())
    write_file(site / NAMES[0].decode(), CONTENT[0] * 300)
    write_file(site / NAMES[1].decode() + "/" + NAMES[0].decode(), CONTENT[0] * 300000)
    os.rename(site / NAMES[0].decode(), site / NAMES[2].decode())
    os.symlink(NAMES[3].decode(), site / "link")
    os.chmod(site / NAMES[2].decode(), 0o600)
    write_file(site / "gone", CONTENT[1] * 1000)
    os.unlink(site / "gone")
    assert read_file(site / NAMES[2].decode()) == CONTENT[0] * 300


@pytest.mark.parametrize("mode", [pytest.param("close", marks=pytest.mark.long), "writeback"])
def test_nothing_is_told(versity_store, mount, tmp_path, keyring, mode):
    """
    Killed in the middle with the store away, mounted again: no content, no name and no key in the local folders,
    no content and no key in the log at its most talkative. Names are in the log: it says what it is about.
    """
    folders = {"cache_dir": str(tmp_path / "cache"), "state_dir": str(tmp_path / "state")}
    site = Site(mount, versity_store, debug=True, memory="64M", timeout=2, retries=0, **folders,
                **({"writeback": True} if mode == "writeback" else {}))
    leave_traces(site)
    read = [read_file(os.path.join(folder, name)) for folder, _, files in os.walk(site.path) for name in files
            if not os.path.islink(os.path.join(folder, name))]
    assert any(CONTENT[0] in data for data in read)
    logs, found, needles = [], [], CONTENT + NAMES + key_forms(keyring.secret())

    def look():
        """The raw bytes of everything that is there now, and of what the daemon has open without a name."""
        copy = tmp_path / ("raw-%d" % len(logs))
        for name, folder in folders.items():
            shutil.copytree(folder, copy / name, ignore=lambda folder, names: [n for n in names if not is_plain(folder, n)])
        if site.m.process.poll() is None:
            for fd in os.listdir("/proc/%d/fd" % site.m.process.pid):
                path = "/proc/%d/fd/%s" % (site.m.process.pid, fd)
                with contextlib.suppress(OSError):
                    if "(deleted)" in os.readlink(path) and str(tmp_path) in os.readlink(path):
                        write_file(str(copy / ("deleted-" + fd)), read_file(path))
        for folder, _, files in os.walk(copy):
            for name in files:
                data = read_file(os.path.join(folder, name))
                found.extend((needle, os.path.relpath(os.path.join(folder, name), copy)) for needle in needles if needle in data)
        shutil.rmtree(copy)
        logs.append(site.m.text().encode("utf-8", "surrogateescape"))

    def is_plain(folder, name):
        path = os.path.join(folder, name)
        return (os.path.isfile(path) or os.path.isdir(path)) and not name.endswith(".key")

    look()
    versity_store.proxy.fault("reset")
    for n in range(3):
        with contextlib.suppress(OSError):
            write_file(site / ("unsent-%s-%d" % (NAMES[0].decode(), n)), CONTENT[1] * 5000)
    with contextlib.suppress(OSError):  # more than there is memory for
        with open(site / (NAMES[2].decode() + "-open"), "wb") as f:
            for n in range(100 if mode == "writeback" else 20):
                f.write(CONTENT[2] * (MIB // len(CONTENT[2])))
                if n % 25 == 10:
                    look()
    look()
    site.m.process.send_signal(signal.SIGKILL)
    site.m.process.wait()
    look()
    site.m.kill()
    versity_store.proxy.fault("off")
    site.remount()
    os.listdir(site.path)
    run(CTL, "status", site.path, check=False)
    run(CTL, "sync", site.path, check=False, timeout=120)
    look()
    site.umount()
    look()
    for text in logs:
        for needle in CONTENT + key_forms(keyring.secret()):
            assert needle not in text, needle
    assert not found


def test_the_look_can_find(tmp_path, keyring):
    """A marker or a key that is there is found."""
    write_file(str(tmp_path / "planted"), b"\0" * 5000 + base64.b64encode(keyring.secret()) + CONTENT[0])
    assert find_bytes(CONTENT[0], str(tmp_path)) == [str(tmp_path / "planted")]
    assert any(find_bytes(form, str(tmp_path)) for form in key_forms(keyring.secret()))
