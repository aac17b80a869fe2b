# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Crashes: the daemon killed, the power of its disk cut, the store away, disks full. What was acknowledged is
there afterwards; crash_model.py says what that means.

Environment: S3CRYPTFS_CRASH_RUNS: runs of each campaign, instead of what the test says;
S3CRYPTFS_CRASH_SEED: repeats the workloads of a campaign (the moments of the kills stay random);
S3CRYPTFS_CRASH_LINKS=0: no hard links among the operations.
"""
import errno
import functools
import os
import random
import signal
import sqlite3
import subprocess
import time

import pytest

import crash_model
from beside import Database, Git, LargeCopies, SmallFiles, outage
from crash_tools import (SANITIZED, Campaign, LoopDisk, Tmpfs, Workload, build_shim, build_workload, random_time, shim_count,
                         shim_env, unavailable)
from harness import PROGRAM, Site, read_file, run, wait_for

NEEDS_LOOP = unavailable("mkfs.ext4", "losetup", "/dev/loop-control")
NEEDS_ROOT = unavailable()
needs_loop = pytest.mark.skipif(NEEDS_LOOP is not None, reason=NEEDS_LOOP or "")
needs_root = pytest.mark.skipif(NEEDS_ROOT is not None, reason=NEEDS_ROOT or "")


@functools.lru_cache(1)
def no_writeback():
    """Why the mount refuses the option writeback; None when it does not."""
    said = run(PROGRAM, "file:///nonexistent", "/nonexistent", "-f", "-o", "writeback", check=False).stderr
    return said.strip() if "writeback" in said else None


def needs_writeback():
    if no_writeback():
        pytest.skip(no_writeback())


@pytest.fixture(params=["close", "writeback"])
def mode(request):
    """(mount options, what holds after a kill, what holds after a power cut)"""
    if request.param == "close":
        return {}, crash_model.CLOSE, crash_model.CLOSE  # what is acknowledged is in the store, which has its power
    needs_writeback()
    return {"writeback": True}, crash_model.WRITEBACK_KILL, crash_model.WRITEBACK_CUT


@pytest.fixture(scope="session")
def workload(run_folder):
    return build_workload(run_folder)


@pytest.fixture(scope="session")
def shim(run_folder):
    return build_shim(run_folder)


@pytest.fixture
def runs(request):
    """runs(normal, long): how many."""
    given = os.environ.get("S3CRYPTFS_CRASH_RUNS")
    return lambda normal, long: int(given) if given else long if request.config.getoption("--long") else normal


@pytest.fixture
def seed():
    value = int(os.environ.get("S3CRYPTFS_CRASH_SEED", random.SystemRandom().randrange(1 << 32)))
    print("S3CRYPTFS_CRASH_SEED=%d" % value)
    return value


@pytest.fixture
def disk(tmp_path):
    disk = LoopDisk(str(tmp_path))
    yield disk
    disk.stop()


def finished(program, folder, **options):
    """A workload that ran to its end in a local folder: its log and the folder."""
    root = folder / "tree"
    root.mkdir()
    Workload(program, str(root), str(folder / "log"), **dict({"k": 3}, **options)).end()
    return crash_model.Log(str(folder / "log")), root


def stored_files(log, found):
    """Paths of files with content that is known to the last byte."""
    model = crash_model.Checker(log, found, crash_model.CLOSE)
    return [path for thread, ops in log.threads.items() for path, choices in model.replay(ops).entries.items()
            if choices[0].kind == "f" and found[path].size and choices[0].allowed(crash_model.CLOSE) == {choices[0].good}]


ALL = crash_model.LIVE, crash_model.CLOSE, crash_model.WRITEBACK_KILL, crash_model.WRITEBACK_CUT


def test_the_checker_can_fail(workload, tmp_path):
    """On a local folder: what is right passes, each damage is found and named."""
    log, root = finished(workload, tmp_path, s=7, t=3, n=600, l=4)
    found = crash_model.scan(str(root))
    for sem in ALL:
        assert crash_model.check(log, found, sem) == []
    files = stored_files(log, found)
    folders = [p for p, f in found.items() if f.kind == "d" and not any(q.startswith(p + "/") for q in found)]
    assert len(files) > 20 and folders
    rng = random.Random(7)

    def damaged(what, path, **change):
        other = dict(found)
        other[path] = crash_model.dataclasses.replace(found[path], **change) if change else None
        if not change:
            del other[path]
        for sem in ALL:
            assert any(path in p for p in crash_model.check(log, other, sem)), "%s of %s is not noticed (%s)" % (what, path, sem.name)

    for path in rng.sample(files, 6):
        data = found[path].data
        at = rng.randrange(len(data))
        damaged("absence", path)
        damaged("a flipped byte", path, data=data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
        damaged("a lost end", path, data=data[:-1], size=len(data) - 1)
        damaged("a longer end", path, data=data + b"\0", size=len(data) + 1)
        damaged("a wrong size", path, size=len(data) + 1)
        damaged("a wrong mode", path, mode=found[path].mode ^ 0o001)
        damaged("an error", path, kind="EIO")
        damaged("emptiness", path, data=b"", size=0)
    damaged("absence", folders[0])
    damaged("another mode", folders[0], mode=0)
    for sem in ALL:
        other = dict(found, **{"t0/n0.conflict-host-1": found[files[0]]})
        assert any("conflict" in p for p in crash_model.check(log, other, sem))


def test_the_checker_knows_versions(workload, tmp_path):
    """Older and later contents, mixtures, and what is in flight, by a log written by hand."""
    def look(sem, lines, found):
        path = tmp_path / "log"
        path.write_text("S 1 1\n" + "".join(line + "\n" for line in lines))
        return not crash_model.check(crash_model.Log(str(path)), found, sem)

    one, two = crash_model.written(1, 0, 3, 0, 8000), crash_model.written(1, 0, 6, 0, 8000)
    old = ["I 0 1 mkdir t0 755", "A 0 1 0 0", "I 0 2 create t0/n1 1 644", "A 0 2 3 0", "I 0 3 write 1 0 8000", "A 0 3 8000 0",
           "I 0 4 close 1", "A 0 4 0 0"]
    write = ["I 0 5 open t0/n1 1 0", "A 0 5 3 0", "I 0 6 write 1 0 8000", "A 0 6 8000 0"]
    folder = crash_model.Found("d", 0o755)

    def tree(*files):
        return dict({"t0": folder}, **{name: crash_model.Found("f", 0o644, 0, len(data), data) for name, data in files})

    kill, cut, close = crash_model.WRITEBACK_KILL, crash_model.WRITEBACK_CUT, crash_model.CLOSE
    # Contents: nothing before the commit, either while it is under way, a mixture never.
    for sem, lines, data, good in (
            (close, old, one, True), (close, old + write, one, True), (close, old + write, two, False),
            (close, old + write + ["I 0 7 close 1"], one, True), (close, old + write + ["I 0 7 close 1"], two, True),
            (close, old + write + ["I 0 7 close 1", "A 0 7 0 0"], one, False), (kill, old + write, one, True),
            (kill, old + write, two, True), (cut, old + write, two, True), (close, old + write + ["I 0 7 close 1"], b"", False),
            (kill, old + write, one[:4096] + two[4096:], False), (kill, old[:-2], b"", True), (kill, old[:-2], one, True),
            (close, old[:-2], one, False), (close, old[:-1], one, True), (kill, old + write, b"", False)):
        assert look(sem, lines, tree(("t0/n1", data))) == good, (sem.name, lines[-2:], data[:8], good)
    # A file that was never committed: a name in the journal, or none.
    assert look(close, old[:4], tree()) and not look(kill, old[:4], tree())
    assert look(cut, old[:4], tree()) and not look(cut, old[:4] + ["I 0 5 fsyncdir t0", "A 0 5 0 0"], tree())
    # A rename under way: one name; in parts where it is a copy and a delete; never none.
    for folder_too in (False, True):
        start = old if not folder_too else [line.replace("t0/n1", "t0/n0/n1").replace("t0 755", "t0 755") for line in old]
        if folder_too:
            start = start[:2] + ["I 0 2 mkdir t0/n0 755", "A 0 2 0 0"] + start[2:]
        moved = start + ["I 0 9 rename t0/n%d t0/n5" % (not folder_too)]
        before, after = ("t0/n0/n1", "t0/n5/n1") if folder_too else ("t0/n1", "t0/n5")
        extra = [{"t0/n0": folder}, {"t0/n5": folder}] if folder_too else [{}, {}]
        both = dict(tree((before, one), (after, one)), **extra[0], **extra[1])
        none = dict(tree(), **extra[1])
        for sem in (kill, cut, close):
            assert look(sem, moved, dict(tree((before, one)), **extra[0]))
            assert look(sem, moved, dict(tree((after, one)), **extra[1]))
            assert look(sem, moved, both) == (sem is close)
            assert not look(sem, moved, none)
            done = moved + ["A 0 9 0 0"]
            # Without a sync behind it, a power cut takes it back.
            assert look(sem, done, dict(tree((before, one)), **extra[0])) == (sem is cut)
            assert look(sem, done, dict(tree((after, one)), **extra[1]))
    # Times that were set.
    timed = old + ["I 0 9 utimens t0/n1 5 7", "A 0 9 0 0"]
    right = dict(tree(), **{"t0/n1": crash_model.Found("f", 0o644, 5 * 10**9 + 7, 8000, one)})
    assert look(kill, timed, right) and look(close, timed, right)
    assert not look(kill, timed, tree(("t0/n1", one))) and look(kill, timed[:-1], tree(("t0/n1", one)))


def test_the_checker_on_a_mount(file_store, mount, workload, tmp_path):
    """An acknowledged file dropped in the store, and a byte changed through the mount, are noticed."""
    site = Site(mount, file_store)
    os.mkdir(site / "r")
    Workload(workload, site / "r", str(tmp_path / "log"), s=3, t=2, n=150, l=2).end()
    site.remount()
    log, found = crash_model.Log(str(tmp_path / "log")), crash_model.scan(site / "r")
    assert crash_model.check(log, found, crash_model.CLOSE) == []
    drop, change = random.Random(3).sample(stored_files(log, found), 2)
    path = site / ("r/" + change)
    st = os.stat(path)
    with open(path, "r+b") as f:
        f.seek(found[change].size // 2)
        byte = f.read(1)
        f.seek(found[change].size // 2)
        f.write(bytes([byte[0] ^ 0x10]))
    os.utime(path, ns=(st.st_mtime_ns, st.st_mtime_ns))
    site.umount()
    os.unlink(file_store.paths()["r/" + drop])
    site.remount()
    problems = crash_model.check(log, crash_model.scan(site / "r"), crash_model.CLOSE)
    assert len(problems) == 2
    assert any(drop + ": missing" in p for p in problems) and any(p.startswith(change + ": content") for p in problems)


def test_kill(file_store, mount, workload, mode, runs, seed, tmp_path):
    """kill -9 at random moments."""
    options, sem, _ = mode
    c = Campaign(mount, file_store, str(tmp_path), workload, sem, seed, **options)
    for n in range(runs(8, 200)):
        c.start(l=c.random.choice((1, 4, 40)), t=c.random.choice((1, 2, 4)))
        random_time(c.random, 3 if SANITIZED else 1.5)
        c.crash()
    c.finish()


def test_kill_in_a_request(rgw_store, mount, workload, mode, runs, seed, tmp_path):
    """Against a server, at the Nth request: it was not passed on, or was and its answer is lost."""
    options, sem, _ = mode
    c = Campaign(mount, rgw_store, str(tmp_path), workload, sem, seed, **options)
    for n in range(runs(3, 60)):
        kind = c.random.choice(("hang", "lost"))
        method = c.random.choice((None, "PUT", "POST", "DELETE"))
        rgw_store.proxy.reset()
        rgw_store.proxy.fault(kind, after=c.random.randrange(2 if method in ("POST", "DELETE") else 40), times=1,
                              **({"method": method} if method else {}))
        c.start(l=c.random.choice((1, 20)), w=4)
        end = time.monotonic() + (10 if method != "POST" else 20)
        while not rgw_store.proxy.counts().get("fault") and time.monotonic() < end:
            time.sleep(0.01)
        c.m.kill()
        rgw_store.proxy.fault("off")
        c.crash()
    c.finish()


def steps(c, shim, mode_runs, **how):
    """Kills the daemon at its Nth change of files, for random N: how many were killed, and among how many changes."""
    counter = os.path.join(c.folder, "count")
    # How many there are in the time that a run takes.
    c.m.umount()
    c.up(env=shim_env(shim, count=counter, **how))
    before = shim_count(counter)
    c.start()
    time.sleep(3 if SANITIZED else 1.5)
    c.crash()
    span = max(shim_count(counter) - before, 1)
    killed = 0
    for n in range(mode_runs):
        when = c.random.choice(("before", "half", "after"))
        os.unlink(counter)
        c.prepare()
        c.m.umount()
        at = before + 1 + int(span * c.random.random())
        c.up(env=shim_env(shim, count=counter, at=at, when=when, **how))
        c.start()
        end = time.monotonic() + (5 if SANITIZED else 3)
        while c.m.process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        killed += c.m.process.poll() is not None
        c.crash()
    return killed, span


def test_kill_at_steps_of_the_store(file_store, mount, workload, shim, mode, runs, seed, tmp_path):
    """At a random write, sync, rename or unlink in the folder that is the store: before it, in it, after it."""
    options, sem, _ = mode
    c = Campaign(mount, file_store, str(tmp_path), workload, sem, seed, **options)
    count = runs(4, 100)
    killed, _ = steps(c, shim, count, match=file_store.folder)
    assert killed > count / 2
    c.finish()


def test_kill_at_steps_of_the_journal(file_store, mount, workload, shim, mode, runs, seed, tmp_path):
    """At a random write or sync of the journal and its log: before it, in it, after it."""
    options, sem, _ = mode
    c = Campaign(mount, file_store, str(tmp_path), workload, sem, seed, **options)
    count = runs(5, 200)
    killed, span = steps(c, shim, count, match="/journal.db")
    if options:
        assert span > 50 and killed > count / 2, (span, killed)
    c.finish()


def cut_power(c, disk):
    """
    Nothing runs on when the power goes. The daemon is stopped first because a sync that is under way while
    EXT4_IOC_SHUTDOWN works may succeed and have written nothing, which no power cut does.
    """
    c.m.stop()
    disk.cut()
    c.crash(before_mount=disk.again)


@needs_loop
def test_power_cut(file_store, mount, workload, mode, runs, seed, tmp_path, disk):
    """state_dir and cache_dir lose what was not synced."""
    options, _, sem = mode
    c = Campaign(mount, file_store, str(tmp_path), workload, sem, seed, local=disk.path, **options)
    for n in range(runs(3, 50)):
        c.start(l=c.random.choice((1, 10)))
        random_time(c.random, 3 if SANITIZED else 1.5)
        cut_power(c, disk)
    c.finish()


@needs_loop
def test_power_cuts_want_syncs(file_store, mount, workload, shim, seed, tmp_path, disk):
    """With the syncs of state_dir taken away a power cut loses something, and that is noticed."""
    needs_writeback()
    c = Campaign(mount, file_store, str(tmp_path), workload, crash_model.WRITEBACK_CUT, seed, local=disk.path, writeback=True,
                 # What is in the store already cannot be lost.
                 parallel=1)
    for n in range(10):
        c.m.umount()
        c.up(env=shim_env(shim, nosync=disk.path))
        c.start(l=1)
        time.sleep(1)
        disk.cut()
        c.m.kill()
        c.workload.kill()
        disk.again()
        try:
            c.up()
            c.check()
        except AssertionError as e:
            print(str(e)[:2000])
            return
    raise AssertionError("ten power cuts without a sync were not noticed")


JOURNAL = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/journal.db", isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, filler BLOB)")
out = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for n in range(int(sys.argv[3])):
    db.execute("INSERT INTO t (filler) VALUES (zeroblob(3000))")
    os.write(out, b"%d\\n" % n)
sys.stdin.read()
"""


@needs_loop
@pytest.mark.parametrize("synced", [True, False])
def test_a_power_cut_loses_what_is_not_synced(disk, shim, tmp_path, synced):
    """The tools themselves: acknowledged rows of a database survive the cut, and do not without its syncs."""
    env = dict(os.environ, **shim_env(shim, nosync=None if synced else disk.path))
    args = ["/usr/bin/python3", "-c", JOURNAL, disk.path, str(tmp_path / "acks"), "50"]
    p = subprocess.Popen(args, stdin=subprocess.PIPE, env=env)
    wait_for(lambda: (tmp_path / "acks").exists() and len(read_file(tmp_path / "acks").split()) == 50, 30, "50 rows")
    disk.cut()
    p.kill()
    p.communicate()
    disk.again()
    try:
        with sqlite3.connect(disk.path + "/journal.db") as db:
            rows = db.execute("SELECT count(*) FROM t").fetchone()[0]
        db.close()
    except sqlite3.DatabaseError:
        rows = 0
    assert rows == 50 if synced else rows < 50


@pytest.mark.parametrize("when", ["before", "half", "after"])
def test_the_shim_kills_at_the_call(shim, tmp_path, when):
    """Which calls count, and what is done of the one that kills."""
    env = dict(os.environ, **shim_env(shim, match="/journal.db", calls="write", at=5, when=when, count=tmp_path / "count"))
    args = ["/usr/bin/python3", "-c", "import os,sys\nfor n in range(9):\n fd=os.open(sys.argv[1],os.O_RDWR|os.O_CREAT)\n"
            " os.pwrite(fd,b'x'*100,100*n)\n os.fsync(fd)\n os.write(1,b'.')\n"]
    p = subprocess.run(args + [str(tmp_path / "journal.db")], env=env, stdout=subprocess.PIPE, timeout=30)
    assert p.returncode == -signal.SIGKILL and p.stdout == b"...." and shim_count(tmp_path / "count") == 5
    assert os.path.getsize(tmp_path / "journal.db") == {"before": 400, "half": 450, "after": 500}[when]


def test_outage(rgw_store, mount, workload, mode, request, seed, tmp_path):
    """
    The store away in the middle of large copies and small files, git, sqlite and the workload at work.
    commit=close: errors are told, and nothing that was acknowledged is lost. writeback: no errors, and
    nobody waits for its end.
    """
    options, _, _ = mode
    long = request.config.getoption("--long")
    seconds = 60 if long else 5
    # In commit=close errors are wanted: few repeats.
    site = Site(mount, rgw_store, **(options or {"timeout": 20 if long else 10, "retries": 2}))
    LargeCopies.mib, LargeCopies.pause, SmallFiles.pause = (1024, 20, 0.01) if long else (48, 0, 0)
    os.mkdir(site / "w")
    beside = [kind(site / kind.__name__) for kind in (LargeCopies, SmallFiles, Database, Git)]
    w = Workload(workload, site / "w", str(tmp_path / "log"), s=seed, t=2, l=20).begun()
    try:
        wait_for(lambda: all(b.acknowledged for b in beside), 120, "everybody at work")
        wait_for(lambda: beside[0].at_work, 60, "a large copy")
        before = [b.slowest for b in beside]
        outage(rgw_store.proxy, seconds)
        counts = [len(b.acknowledged) for b in beside]
        wait_for(lambda: all(len(b.acknowledged) > n for b, n in zip(beside, counts)), 120, "everybody at work again")
    finally:
        rgw_store.proxy.fault("off")
        try:
            w.stop()
        finally:
            w.kill()
            for b in beside:
                b.stop()
    log = crash_model.Log(w.log)

    def check(sem):
        for b in beside:
            b.check(site / type(b).__name__)
        found = crash_model.check(log, crash_model.scan(site / "w"), sem)
        assert not found, "workload with seed %d, log %s (%s):\n%s" % (seed, w.log, sem.name, "\n".join(found[:30]))

    check(crash_model.LIVE)
    errors = [e for b in beside for e in b.errors] + log.errors()
    if options:
        assert not errors, errors[:5]
        slow = [(type(b).__name__, usual, b.slowest) for b, usual in zip(beside, before) if b.slowest > 10 + 4 * usual]
        assert not slow, slow
    else:
        assert errors
        assert {op.error for op in log.errors()} <= {errno.EIO, errno.ETIMEDOUT, errno.EAGAIN}, log.errors()[:5]
    # At the end of the mount everything goes to the store. Where errors were told, the exit status may tell of another.
    status = site.m.umount()
    assert status == 0 or not options, site.m.text()
    site.remount()
    check(crash_model.LIVE if status == 0 else crash_model.CLOSE)


@needs_root
@pytest.mark.parametrize("full,size", [("state_dir", "24m"), *(pytest.param(*p, marks=pytest.mark.long) for p in (
    ("cache_dir", "24m"), ("state_dir", "40m")))])
def test_disk_full(file_store, mount, workload, mode, full, size, request, seed, tmp_path):
    """
    A disk that is small, then full, then free again, under large random writes: what was not refused
    is there, nothing hangs, the end of the mount on a full disk neither. The log of the workload is
    the shadow file.
    """
    options, _, _ = mode
    if not options and size == "24m" and not request.config.getoption("--long"):
        pytest.skip("needs --long")  # slow, and writeback has more to lose
    small = Tmpfs(str(tmp_path / "small"), size)
    request.addfinalizer(small.stop)
    folders = {"cache_dir": str(tmp_path / "cache"), "state_dir": str(tmp_path / "state")}
    folders[full] = small.path + "/folder"
    site = Site(mount, file_store, memory="64M", cache_size="16M", **folders, **options)
    count = 3000 if request.config.getoption("--long") else 250
    logs = []

    def work(name, allowed):
        log = str(tmp_path / (name + ".log"))
        Workload(workload, site / name, log, s=seed + len(logs), t=2, n=count, l=40, w=12, b=150).end(300)
        logs.append((name, crash_model.Log(log)))
        wrong = [op for op in logs[-1][1].errors() if op.error not in allowed]
        assert not wrong, "seed %d: %s" % (seed, wrong[:5])
        check(crash_model.LIVE)

    def check(sem):
        for name, log in logs:
            problems = crash_model.check(log, crash_model.scan(site / name), sem)
            assert not problems, "seed %d, %s:\n%s" % (seed, name, "\n".join(problems[:30]))

    refused = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
    for name in ("small", "full", "free"):
        os.mkdir(site / name)
    work("small", refused)
    small.fill()
    work("full", refused)
    small.free()
    work("free", refused)
    small.fill()
    site.umount()
    small.free()
    site.remount()
    check(crash_model.LIVE)
