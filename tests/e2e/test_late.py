# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Requests that the store carries out when nobody waits for them any more: they had no reply in time, what they were for
was asked for again, and other files have come under the names since. On a store that ignores the conditions of copies a
COPY would take the bytes of those, or put old ones over them.
"""
import concurrent.futures
import os
import time

import pytest

from harness import CTL, Site, blob, read_file, run, write_file

HELD = 10  # s, of a slow request, which is passed on then
GARBAGE = 35  # s, after which radosgw.py's cluster has deleted what it was to delete
MIB = 1 << 20
SIZES = (0, 100, 200000, 3 * MIB)
MODES = {"close": {}, "writeback": {"writeback": True}, "none": {"enc": "none"}, "names": {"names": "encrypted"}}


def retried(call):
    """Did it fail by time at first?"""
    failed = False
    for _ in range(10):
        try:
            call()
            return failed
        except TimeoutError:
            failed = True
    raise AssertionError("not done")


class Late(Site):
    """Each file has a folder of its own: the kernel changes one name at a time in each."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.expected = {}

    def put(self, name, data):
        os.makedirs(os.path.dirname(self / name), exist_ok=True)
        write_file(self / name, data)
        self.expected[name] = data

    def move(self, old, new):
        os.rename(self / old, self / new)
        for name in [n for n in self.expected if (n + "/").startswith(old + "/")]:
            self.expected[new + name[len(old):]] = self.expected.pop(name)

    def hold(self, calls, method, match, count):
        """All of calls, of whose requests the first count such ones arrive late; when they have."""
        proxy = self.store.proxy
        proxy.reset()
        proxy.fault("slow", method=method, times=count, **({"match": match} if match else {}))
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
            failed = list(pool.map(retried, calls))
        assert time.monotonic() - begun < HELD - 1, "the machine is too slow for this test"
        proxy.fault("off")
        assert proxy.counts()["fault"] == count, proxy.requests()
        if method == "POST":
            assert not any(failed), failed  # what completes an upload is asked for again
        else:
            assert sum(failed) >= min(count, len(calls)) / 2, failed
        return begun + HELD

    def check(self, late):
        run(CTL, "sync", self.path)
        time.sleep(max(0, late + 1.5 - time.monotonic()))
        self.remount()
        for name, data in self.expected.items():
            assert read_file(self / name) == data, name


@pytest.mark.parametrize("mode", ["close", *(pytest.param(m, marks=pytest.mark.long) for m in ("none", "writeback", "names"))])
def test_names_given_anew(rgw_store, mount, mode):
    """
    Each of several files is renamed, as itself, in its folder or as one of two names; then its old name is given to
    another file of the same size.
    """
    site = Late(mount, rgw_store, timeout=3, **MODES[mode])
    names = ["f%d" % n for n in SIZES]
    for n in SIZES:
        site.put("f%d/old" % n, blob(n, 1))
    site.put("d/old/x", blob(100, 1))
    site.remount()
    for name in site.expected:
        os.stat(site / name)
    # As if just made: two names, of which one goes before both are stored.
    site.put("p/old", blob(100, 1))
    run(CTL, "sync", site.path)
    os.link(site / "p/old", site / "p/new")
    calls = [(lambda n=n: site.move(n + "/old", n + "/new")) for n in names + ["d"]]
    calls.append(lambda: os.unlink(site / "p/old"))
    # Names that are encrypted tell nothing; else all that goes to a new name.
    late = site.hold(calls, "PUT", None if mode == "names" else "/new", len(calls))
    site.expected["p/new"] = site.expected.pop("p/old")
    for name, data in list(site.expected.items()):
        site.put(name.replace("new", "old"), blob(len(data), 2))
    site.check(late)


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("mode", ["close", *(pytest.param(m, marks=pytest.mark.long) for m in ("none", "writeback", "names"))])
def test_changed_since(rgw_store, mount, mode, method):
    """Files take the place of others, or get another mode; then they are changed once more, and that counts."""
    site = Late(mount, rgw_store, timeout=3, **MODES[mode])
    for n in SIZES:
        site.put("over%d/new" % n, blob(5000, 1))
        site.put("over%d/tmp" % n, blob(n, 2))
        site.put("mode%d/new" % n, blob(n, 1))
    site.remount()
    for name in site.expected:
        os.stat(site / name)
    calls = [(lambda n=n: site.move("over%d/tmp" % n, "over%d/new" % n)) for n in SIZES]
    calls += [(lambda n=n: os.chmod(site / ("mode%d/new" % n), 0o600)) for n in SIZES]
    # The parts, or what makes objects of them.
    match = {"PUT": None if mode == "names" else "/new", "POST": "uploadId="}[method]
    # Few bytes come to another name by one conditional PUT. Attributes of what is not sealed are one request as well, which does
    # no harm when it comes late.
    uploads = sum(n > MIB for n in SIZES) + (0 if mode == "none" else len(SIZES))
    late = site.hold(calls, method, match, uploads if method == "POST" else len(calls))
    for n in SIZES:
        site.put("over%d/tmp" % n, blob(n + 1, 3))
        site.move("over%d/tmp" % n, "over%d/new" % n)
        site.put("mode%d/new" % n, blob(n + 1, 4))
    site.check(late)
    for n in SIZES:
        assert os.stat(site / ("mode%d/new" % n)).st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("mode", ["close", pytest.param("none", marks=pytest.mark.long)])
def test_written_since(rgw_store, mount, mode):
    """Files are written anew, and once more: what comes late finds another version than the one it was to replace."""
    site = Late(mount, rgw_store, timeout=3, **MODES[mode])
    for n in SIZES:
        site.put("f%d/new" % n, blob(n, 1))
    site.remount()
    for name in site.expected:
        os.stat(site / name)
    calls = [(lambda n=n: site.put("f%d/new" % n, blob(n + 1, 2))) for n in SIZES]
    late = site.hold(calls, "PUT", "/new", len(calls))
    for n in SIZES:
        site.put("f%d/new" % n, blob(n + 2, 3))
    site.check(late)


def test_linked_since(rgw_store, mount):
    """Files without envelopes get another mode, and then another name: what comes late is no attributes of a reference."""
    site = Late(mount, rgw_store, timeout=3, enc="none")
    sizes = [n for n in SIZES if n < MIB]
    for n in sizes:
        site.put("f%d/new" % n, blob(n, 1))
    site.remount()
    for name in site.expected:
        os.stat(site / name)
    calls = [(lambda n=n: os.chmod(site / ("f%d/new" % n), 0o600)) for n in sizes]
    late = site.hold(calls, "PUT", "/new", len(calls))
    for n in sizes:
        os.link(site / ("f%d/new" % n), site / ("f%d/second" % n))
        site.expected["f%d/second" % n] = blob(n, 1)
    site.check(late)


@pytest.mark.parametrize("then", ["again", "looked", pytest.param("anew", marks=pytest.mark.long)])
def test_name_of_several(rgw_store, mount, then):
    """
    One of two names of a file is renamed over another file. The request has no reply in time and comes to be; the rename
    is asked for again, by somebody who has looked at the new name in between, or has not. Or the old name is given to
    another file, which keeps it.
    """
    site = Late(mount, rgw_store, timeout=3, ttl=1)
    site.put("d/old", blob(5000, 1))
    site.put("d/new", blob(100, 2))
    os.link(site / "d/old", site / "d/other")
    site.expected["d/other"] = site.expected["d/old"]
    site.remount()
    for name in site.expected:
        os.stat(site / name)
    proxy = rgw_store.proxy
    proxy.reset()
    proxy.fault("slow", method="PUT", times=1, match="/new")
    late = time.monotonic() + HELD
    with pytest.raises(TimeoutError):
        os.rename(site / "d/old", site / "d/new")
    proxy.fault("off")
    assert proxy.counts()["fault"] == 1, proxy.requests()
    time.sleep(max(0, late + 1.5 - time.monotonic()))
    site.expected["d/new"] = site.expected.pop("d/old")
    if then == "anew":
        os.unlink(site / "d/old")
        site.put("d/old", blob(300, 3))
    if then != "again":
        assert os.stat(site / "d/new").st_ino == os.stat(site / "d/other").st_ino
    try:
        if then != "anew":
            os.rename(site / "d/old", site / "d/new")
    except FileNotFoundError:
        assert then == "looked"
    names = sorted(name[2:] for name in site.expected)
    assert sorted(os.listdir(site / "d")) == names
    time.sleep(1.2)  # what the kernel has kept
    assert os.path.lexists(site / "d/old") == (then == "anew")
    if then != "anew":
        assert os.stat(site / "d/new").st_nlink == 2
    site.check(0)
    assert sorted(os.listdir(site / "d")) == names


@pytest.mark.long
def test_killed_meanwhile(rgw_store, mount, tmp_path):
    """
    Completions that the store carries out when the daemon that asked for them has died, and the next one ends what that
    left: each file is the old one or the new one. (On Ceph an abort beside a completion deletes the object's parts.)
    """
    site = Late(mount, rgw_store, timeout=60, cache_dir=str(tmp_path / "cache"))
    size, wrote = 9 * MIB, {}
    rounds = {n: ["r%d/d%d/f" % (n, i) for i in range(5)] for n in range(6)}
    for names in rounds.values():
        for name in names:
            site.put(name, blob(size, 1))
    for n, names in rounds.items():
        site.remount()
        rgw_store.proxy.fault("slow", method="POST", times=len(names), match="uploadId=")
        with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
            writes = {name: pool.submit(write_file, site / name, blob(size, 2)) for name in names}
            while not all(parts_of(rgw_store, name) == 2 for name in names):
                time.sleep(0.02)
            # The last one has been sent by now, or is about to be.
            time.sleep(HELD - 0.3 + 0.1 * n)
            site.m.kill()
            wrote.update({name: w.exception() is None for name, w in writes.items()})
        rgw_store.proxy.fault("off")
        site.remount()
        time.sleep(3)
    time.sleep(GARBAGE)
    site.remount()
    new = [name for name in wrote if read_file(site / name) == blob(size, 2)]
    print("%d of %d are new, %d were acknowledged" % (len(new), len(wrote), sum(wrote.values())))
    for name in set(wrote) - set(new):
        assert not wrote[name] and read_file(site / name) == blob(size, 1), name


def parts_of(store, key):
    """Of the upload that is under way; None: there is none."""
    for upload in store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=key).get("Uploads", []):
        return len(store.client.list_parts(Bucket=store.bucket, Key=key, UploadId=upload["UploadId"]).get("Parts", []))
    return None


@pytest.mark.long
def test_given_up_meanwhile(rgw_store, mount):
    """
    Completions that the store carries out at the moment in which they are given up. Ceph, asked to abort such an
    upload, hands the parts of the object that it makes to its garbage collector, and HEAD goes on to find the object.
    """
    site = Late(mount, rgw_store, timeout=HELD, retries=0)
    names = ["d%d/f" % n for n in range(24)]
    for n, name in enumerate(names):
        site.put(name, blob(SIZES[n % len(SIZES)], n))
    site.remount()
    for name in names:
        os.stat(site / name)
    proxy = rgw_store.proxy
    proxy.reset()
    proxy.fault("slow", method="POST", times=len(names), match="uploadId=")
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        failed = sum(pool.map(lambda name: retried(lambda: os.chmod(site / name, 0o600)), names))
    proxy.fault("off")
    assert proxy.counts()["fault"] == len(names), proxy.requests()
    print("%d of %d failed at first" % (failed, len(names)))
    site.check(time.monotonic() + GARBAGE)
    for name in names:
        assert os.stat(site / name).st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("how", ["unlink", *(pytest.param(h, marks=pytest.mark.long) for h in ("rename", "rmdir"))])
def test_deleted_late(rgw_store, mount, how):
    """A name goes, which has no reply at first; it is given to another file, and then the first request is carried out."""
    site = Late(mount, rgw_store, timeout=6)
    site.put("d/old", blob(100, 1))
    os.mkdir(site / "e")
    site.remount()
    os.stat(site / "d/old"), os.stat(site / "e")
    proxy = rgw_store.proxy
    proxy.reset()
    proxy.fault("slow", method="DELETE", times=1)
    begun = time.monotonic()
    if how == "unlink":
        retried(lambda: os.unlink(site / "d/old"))
    elif how == "rename":
        site.move("d/old", "d/new")
    else:
        retried(lambda: os.rmdir(site / "e"))
    assert time.monotonic() - begun < HELD - 1, "the machine is too slow for this test"
    assert proxy.counts()["fault"] == 1, proxy.requests()
    if how == "rmdir":
        os.mkdir(site / "e")
    else:
        site.put("d/old", blob(100, 2))
    site.check(begun + HELD)
    assert os.path.isdir(site / "e")


@pytest.mark.parametrize("mode", ["close", pytest.param("writeback", marks=pytest.mark.long)])
def test_comes_back(rgw_store, mount, mode):
    """What was sent of a new file had no reply; the file is removed, and then that request is carried out."""
    site = Late(mount, rgw_store, timeout=6, retries=0, **MODES[mode])
    os.mkdir(site / "d")
    run(CTL, "sync", site.path)
    proxy = rgw_store.proxy
    proxy.reset()
    proxy.fault("slow", method="PUT", match="d/f", times=1)
    begun = time.monotonic()
    try:
        write_file(site / "d/f", b"journal of a transaction")
        assert mode == "writeback"
    except TimeoutError:
        pass
    while time.monotonic() < begun + 7:  # it was given up
        time.sleep(0.1)
    assert proxy.counts()["fault"] == 1, proxy.requests()
    os.unlink(site / "d/f")
    site.check(begun + HELD)
    assert os.listdir(site / "d") == []
