# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""cp of large files: the store copies them, and both are files of their own from then on."""
import json
import os
import subprocess
import time

import pytest

from harness import CTL, Site, blob, read_file, run, wait_for, write_file
from test_budget import Cost

MIB = 1 << 20
SIZE = 20 * MIB + 4321
MODES = {"close": {}, "writeback": {"writeback": True}, "names": {"names": "encrypted"}, "none": {"enc": "none"}}
CASES = [("file", "close"), ("file", "none"), ("radosgw", "close"), ("radosgw", "names"), ("radosgw", "none"),
         ("versitygw", "writeback")]
LONG = [("radosgw", "writeback"), ("versitygw", "close")]


@pytest.fixture(params=[*(pytest.param(c, id="-".join(c)) for c in CASES),
                        *(pytest.param(c, id="-".join(c), marks=pytest.mark.long) for c in LONG)])
def site(request, mount):
    server, mode = request.param
    store = request.getfixturevalue({"file": "file_store", "radosgw": "rgw_store", "versitygw": "versity_store"}[server])
    return Site(mount, store, **MODES[mode])


def stored(site):
    run(CTL, "sync", site.path)


class Beside:
    """A program that may fail, and is waited for."""

    def __init__(self, *args):
        self.process = subprocess.Popen([str(a) for a in args], stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.wait(60)


def test_cp(site):
    """A request or three, whatever the size; no byte of it goes either way."""
    content = blob(SIZE, 1)
    write_file(site / "a", content)
    os.chmod(site / "a", 0o640)
    stored(site)
    site.remount()
    counted = hasattr(site.store, "proxy")
    if counted:
        os.stat(site / "a")
        assert not os.path.exists(site / "b")
        with Cost(site.store) as cost:
            run("cp", site / "a", site / "b")
        # Without a condition on copies it is made of parts of up to 512 MiB.
        assert cost["COPY"] or cost["PARTCOPY"] == cost["CREATE"] == cost["COMPLETE"] == 1, cost
        assert cost["COPY"] <= 1 and not cost["PUT"] and not cost["PART"], cost
        assert cost["get_bytes"] < 100000, cost
    else:
        run("cp", site / "a", site / "b")
    run("cp", "-p", site / "a", site / "kept")
    for name in ("b", "kept"):
        assert read_file(site / name) == content
    assert os.stat(site / "kept").st_mtime_ns == os.stat(site / "a").st_mtime_ns
    assert os.stat(site / "kept").st_mode == os.stat(site / "a").st_mode
    assert len({os.stat(site / n).st_ino for n in ("a", "b", "kept")}) == 3
    theirs = bytearray(content)
    with open(site / "b", "r+b") as f:
        f.seek(9 * MIB)
        f.write(b"only in the copy")
        theirs[9 * MIB:9 * MIB + 16] = b"only in the copy"
    os.truncate(site / "a", 5 * MIB)
    site.remount()
    assert read_file(site / "a") == content[:5 * MIB]
    assert read_file(site / "b") == theirs
    assert read_file(site / "kept") == content
    run("cp", site / "kept", site / "b")  # over what is there
    os.unlink(site / "kept")
    site.remount()
    assert read_file(site / "b") == content
    site.umount()


def test_decoded(rgw_store, mount, keyring):
    """An independent reader opens the copy in its place, and the original; a copy by hand would not be opened."""
    site = Site(mount, rgw_store)
    content = blob(SIZE, 2)
    write_file(site / "a", content)
    os.mkdir(site / "d")
    run("cp", site / "a", site / "d/b")
    site.umount()
    for name in ("a", "d/b"):
        assert rgw_store.decode(keyring, name).plaintext() == content
    run(CTL, "fsck", "-o", ",".join("%s=%s" % o for o in dict(rgw_store.options(), keyring=keyring.path).items() if o[0] != "env"),
        rgw_store.source, env=dict(os.environ, **rgw_store.options()["env"]))


def test_copy_of_what_another_machine_changed(rgw_store, mount):
    """The version that was opened is gone: cp is told, or has the new one; never a mix."""
    one, two = Site(mount, rgw_store, ttl=60), Site(mount, rgw_store)
    old, new = blob(SIZE, 3), blob(SIZE, 4)
    write_file(one / "a", old)
    os.stat(one / "a")
    write_file(two / "a", new)
    result = run("cp", one / "a", one / "b", check=False)
    if result.returncode == 0:
        assert read_file(one / "b") in (old, new)
    else:
        assert "Stale file handle" in result.stderr, result.stderr
        run("cp", one / "a", one / "b")
        assert read_file(one / "b") == new
    one.umount()
    two.umount()


def test_more_than_one_answer_tells(file_store, mount):
    """FUSE answers with 32 bits: the rest is asked for, and is there."""
    site, size = Site(mount, file_store), (5 << 30) + 9
    with open(site / "a", "wb") as f:
        f.truncate(size)
        for at in (0, (4 << 30) - 5, size - 3):
            f.seek(at)
            f.write(b"xyz")
    with open(site / "a", "rb") as a, open(site / "b", "wb") as b:
        answers = []
        while not answers or answers[-1]:
            answers.append(os.copy_file_range(a.fileno(), b.fileno(), size))
        assert answers == [(1 << 32) - (64 << 10), size - (1 << 32) + (64 << 10), 0]
    site.remount()
    assert os.stat(site / "b").st_size == size
    with open(site / "b", "rb") as f:
        for at in (0, (4 << 30) - 5, size - 3):
            assert os.pread(f.fileno(), 3, at) == b"xyz"
        assert os.pread(f.fileno(), 100, 1 << 30) == bytes(100)
    site.umount()


@pytest.mark.parametrize("mode", ["close", "writeback"])
def test_killed(rgw_store, mount, mode):
    """The copy is whole, or not there; a new file that nobody was told to be stored may be empty."""
    site = Site(mount, rgw_store, **MODES[mode])
    content = blob(SIZE, 5)
    write_file(site / "a", content)
    stored(site)
    for delay in (0.1, 0.4, 0.9):
        rgw_store.proxy.latency(300)
        with Beside("cp", site / "a", site / "b"):
            time.sleep(delay)
            site.m.kill()
        rgw_store.proxy.latency(0)
        site.remount()
        assert read_file(site / "a") == content
        assert not os.path.exists(site / "b") or read_file(site / "b") in (b"", content)
        assert sorted(set(os.listdir(site.path)) - {"b"}) == ["a"]
        if os.path.exists(site / "b"):
            os.unlink(site / "b")
        stored(site)
    site.umount()


def test_audited(file_store, mount, tmp_path):
    """The bytes of the source were given out, though nobody read them here."""
    audit = str(tmp_path / "audit.log")
    site = Site(mount, file_store, audit=audit)
    write_file(site / "a", blob(SIZE))
    run("cp", site / "a", site / "b")

    def lines():
        return [e for e in map(json.loads, read_file(audit).decode().splitlines()) if e["operation"] == "copy_file_range"]

    wait_for(lines, what="a line")
    assert [(e["path"], e["to"], e["result"]) for e in lines()] == [("a", "b", "ok")], lines()
    site.umount()
