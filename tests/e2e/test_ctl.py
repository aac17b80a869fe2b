# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
s3cryptfsctl on mounts and journals: what it tells is so, what it does is done, and neither a store
that is away nor a client that misbehaves keeps the daemon from its work.
"""
import contextlib
import errno
import json
import os
import socket
import stat
import subprocess
import tempfile
import threading
import time

import pytest

from harness import CTL, Site, blob, fails, read_file, run, wait_for, write_file

CONTROL = "user.s3cryptfs.control"
# A store that is away is known to be soon.
QUICK = {"timeout": 4, "retries": 0}


def ctl(*args, expect=0, **kw):
    result = run(CTL, *args, check=False, **kw)
    assert result.returncode == expect, "%s: exit %d\n%s%s" % (args, result.returncode, result.stdout, result.stderr)
    return result


def status(mount, expect=None):
    result = run(CTL, "status", mount.path, "--json", check=False)
    assert result.returncode in ((0, 1) if expect is None else (expect,)), result.stdout + result.stderr
    return json.loads(result.stdout)


def source_args(store, mount_options, keyring):
    """Options of s3cryptfsctl for the source of a mount, and the environment."""
    options = dict(store.options(), keyring=keyring.path, **mount_options)
    env = dict(os.environ, **options.pop("env", {}))
    words = ["%s=%s" % (k, v) if v is not True else k for k, v in options.items()]
    return ["-o", ",".join(words), store.source], env


def write_fails(path, data):
    """A write that the store does not take: the error comes at the latest with close."""
    with fails(errno.EIO, errno.ETIMEDOUT):
        write_file(path, data)


@pytest.fixture
def away(versity_store, mount, tmp_path):
    """A mount with a file, and then a store that takes nothing more."""
    site = Site(mount, versity_store, cache_dir=str(tmp_path / "cache"), **QUICK)
    write_file(site / "old", b"first version")
    versity_store.proxy.fault("reset", method="PUT")
    yield site
    versity_store.proxy.fault("off")


def test_idle(file_store, mount):
    """A mount that has nothing to do says so."""
    site = Site(mount, file_store)
    write_file(site / "f", b"data")
    told = status(site.m, 0)
    assert told["source"] == file_store.source
    assert told["mountpoint"] == site.path
    assert told["pid"] == site.m.process.pid
    assert (told["mode"], told["commit"], told["read_only"]) == ("cse-key", "close", False)
    assert told["pending"] == {"files": 0, "names": 0, "bytes": 0, "failed": 0, "parked": 0}
    assert told["unsent"] == [] and told["unlisted"] == 0
    assert told["journal"]["bytes"] == 0 and told["journal"]["limit"] == 10 << 30
    assert told["memory"]["limit"] == 256 << 20
    text = ctl("status", site.path).stdout
    assert "everything is in the store" in text and file_store.source in text and str(told["pid"]) in text
    assert "everything is in the store" in ctl("sync", site.path).stdout
    assert "nothing has failed" in ctl("retry", site.path).stdout
    assert "f: nothing has failed" in ctl("retry", site.path, "f", expect=1).stderr
    assert "the store does not have" in ctl("discard", site.path, "f", expect=1).stderr
    assert read_file(site / "f") == b"data"


def test_socket(file_store, mount):
    """0600, named on the root alone, gone with the mount."""
    site = Site(mount, file_store)
    write_file(site / "f", b"")
    path = os.getxattr(site.path, CONTROL).decode()
    assert stat.S_ISSOCK(os.stat(path).st_mode) and stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with fails(errno.ENODATA):
        os.getxattr(site / "f", CONTROL)
    assert os.listxattr(site.path) == []
    site.umount()
    assert not os.path.exists(path)


def test_long_path(file_store, mount, tmp_path):
    """A path that no address of a socket has room for."""
    folder = str(tmp_path / ("long-" * 20) / ("longer-" * 20))
    os.makedirs(folder)
    site = Site(mount, file_store, state_dir=folder)
    assert len(os.getxattr(site.path, CONTROL)) > 200
    assert status(site.m, 0)["state_dir"] == folder


def test_no_mount(file_store, mount, tmp_path):
    """One line for what is no mount, for a dead one, for a path elsewhere."""
    for command in (["status"], ["sync"], ["retry"]):
        assert "no mountpoint of s3cryptfs" in ctl(*command, tmp_path, expect=1).stderr
    assert "No such file" in ctl("status", tmp_path / "none", expect=1).stderr
    site = Site(mount, file_store)
    write_file(site / "f", b"x")
    assert "is not below" in ctl("retry", site.path, "/etc/passwd", expect=1).stderr
    assert "'..'" in ctl("discard", site.path, "a/../b", expect=1).stderr
    assert "mount itself" in ctl("discard", site.path, site.path + "/", expect=1).stderr
    for usage in (["status"], ["sync"], ["discard", site.path], ["save", site.path, "f"], ["status", site.path, "-l"]):
        ctl(*usage, expect=2)
    site.m.process.kill()
    site.m.process.wait()
    text = ctl("status", site.path, expect=1).stderr
    assert "has died" in text and "recover" in text and text.count("\n") == 1
    site.m.kill()
    site.remount()  # over the socket that was left
    assert status(site.m, 0)["pid"] == site.m.process.pid


class Client:
    """A client that need not behave."""

    def __init__(self, mount):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        path = os.getxattr(mount.path, CONTROL).decode()
        folder = os.open(os.path.dirname(path), os.O_PATH)
        self.socket.connect("/proc/self/fd/%d/control" % folder)
        os.close(folder)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)
        return self

    def answer(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def close(self):
        self.file.close()
        self.socket.close()


def test_clients(file_store, mount):
    """Nonsense is refused; clients that hang, vanish or are too many cost nobody else anything."""
    site = Site(mount, file_store)
    c = Client(site.m)
    told = c.send(b'{"command":"version"}\n').answer()
    assert told["ok"] and told["version"] == run(CTL, "--version").stdout.split()[1]
    assert not c.send(b'{"command":"explode"}\n').answer()["ok"]
    assert not c.send(b'{}\n').answer()["ok"]
    assert not c.send(b'{"command":"discard"}\n').answer()["ok"]
    assert not c.send(b'{"command":"retry","path":7}\n').answer()["ok"]
    assert not c.send(b'{"command":"retry","path_base64":"!"}\n').answer()["ok"]
    # Several at once, in pieces.
    c.send(b'{"command":"version"}\n{"comm').send(b'and":"status"}\n')
    assert c.answer()["version"] and c.answer()["pid"] == site.m.process.pid
    c.close()
    for nonsense in (b"hello\n", b"[]\n", b'{"command":\n', b'"command"\n', b"\xff\x00\n", b'{"a":1,"a":2}\n'):
        c = Client(site.m).send(nonsense)
        assert c.answer()["ok"] is False and c.answer() is None
        c.close()
    c = Client(site.m)
    with contextlib.suppress(OSError):  # it need not read all of it
        c.send(b'{"command":"' + b"x" * (1 << 20))
    with contextlib.suppress(OSError):
        assert (c.answer() or {"ok": False})["ok"] is False
    c.close()

    hanging = [Client(site.m).send(b'{"command"') for _ in range(10)]
    begun = time.monotonic()
    assert status(site.m, 0)["pid"] == site.m.process.pid
    write_file(site / "f", b"works")
    assert read_file(site / "f") == b"works"
    assert time.monotonic() - begun < 5
    hanging += [Client(site.m) for _ in range(10)]
    assert "too many" in wait_for(lambda: hanging[-1].answer(), what="a refusal")["error"]
    for client in hanging:
        client.close()
    wait_for(lambda: run(CTL, "status", site.path, check=False).returncode == 0, what="room for another client")
    # One that asks much and reads nothing, as the mount ends.
    c = Client(site.m)
    c.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            c.socket.send(b'{"command":"status"}\n' * 100)
    begun = time.monotonic()
    site.umount()
    assert time.monotonic() - begun < 10
    c.close()


NOBODY = 65534
ASK = """
import os, socket, sys
mount, path = sys.argv[1:]
try:
    print("named", os.getxattr(mount, "user.s3cryptfs.control"))
except OSError as e:
    print(os.strerror(e.errno))
s = socket.socket(socket.AF_UNIX)
s.connect(path)
try:
    s.sendall(b'{"command":"status"}\\n')
except BrokenPipeError:
    pass
print(s.makefile().readline())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_other_user(file_store, mount):
    """Another user is neither told where to ask nor answered, whatever the mode of the socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        site = Site(mount, file_store, state_dir=folder + "/state", allow_other=True)
        path = os.getxattr(site.path, CONTROL).decode()
        os.mkdir(folder + "/there")
        run("mount", "--bind", site.path, folder + "/there")  # past folders that are closed to others
        try:
            os.chmod(folder + "/state", 0o711)
            args = ["/usr/bin/python3", "-c", ASK, folder + "/there", path]
            refused = run(*args, check=False, user=NOBODY, group=NOBODY, extra_groups=[])
            assert refused.returncode == 1 and "PermissionError" in refused.stderr
            os.chmod(path, 0o666)
            text = run(*args, user=NOBODY, group=NOBODY, extra_groups=[]).stdout
            assert "No data available" in text and "only root" in text and "pid" not in text
            assert "named" in run(*args).stdout and '"pid"' in run(*args).stdout
        finally:
            run("umount", folder + "/there")
        site.umount()


def test_save(file_store, mount, tmp_path):
    """A copy with its mode and time, never over anything."""
    site = Site(mount, file_store)
    data = blob((3 << 20) + 17)
    os.mkdir(site / "d")
    write_file(site / "d/f", data)
    os.chmod(site / "d/f", 0o640)
    os.utime(site / "d/f", (1, 1234567890))
    to = str(tmp_path / "copy")
    assert "3.0 MiB saved" in ctl("save", site.path, "d/f", to).stdout
    assert read_file(to) == data
    assert stat.S_IMODE(os.stat(to).st_mode) == 0o640 and os.stat(to).st_mtime == 1234567890
    write_file(to, b"mine")
    assert "File exists" in ctl("save", site.path, "d/f", to, expect=1).stderr
    assert read_file(to) == b"mine"
    assert "no file" in ctl("save", site.path, "d", str(tmp_path / "dir"), expect=1).stderr
    assert "No such file" in ctl("save", site.path, "d/none", str(tmp_path / "none"), expect=1).stderr
    assert "mount itself" in ctl("save", site.path, "d/f", site / "d/g", expect=1).stderr
    assert not os.path.exists(tmp_path / "dir") and not os.path.exists(tmp_path / "none")
    assert not os.path.exists(site / "d/g")
    ctl("save", site.path, site / "d/f", str(tmp_path / "absolute"))
    assert read_file(tmp_path / "absolute") == data


def test_store_away(away, versity_store, tmp_path):
    """What the store did not take is told, reads as written, can be saved, and goes when it can."""
    data = blob(200000)
    versity_store.proxy.fault("reset")
    write_fails(away / "old", data)
    told = wait_for(lambda: [u for u in status(away.m)["unsent"] if u["state"] == "failed"], what="a failure")[0]
    assert told["path"] == "old" and told["what"] == "file" and told["bytes"] >= len(data)
    assert told["failures"] >= 1 and told["errno"] != "?" and told["error"]
    whole = status(away.m, 1)
    assert whole["pending"]["files"] == 1 and whole["pending"]["failed"] == 1
    assert whole["journal"]["bytes"] >= len(data)
    text = ctl("status", away.path, expect=1).stdout
    assert "1 file" in text and "old" in text and told["error"] in text
    assert read_file(away / "old") == data
    ctl("save", away.path, "old", tmp_path / "saved")
    assert read_file(tmp_path / "saved") == data
    assert "not everything is in the store" in ctl("sync", away.path, expect=1, timeout=60).stderr

    versity_store.proxy.fault("off")
    ctl("retry", away.path)
    ctl("sync", away.path)
    wait_for(lambda: status(away.m)["pending"]["files"] == 0, what="the upload")
    assert status(away.m, 0)["journal"]["records"] == 0
    away.remount()
    assert read_file(away / "old") == data


def test_retry_path(away, versity_store):
    """One path, as the mount calls it or absolute; names that are no text."""
    name = b"\xff\xfeodd"
    odd = os.path.join(os.fsencode(away.path), name)
    write_fails(odd, b"odd content")
    told = wait_for(lambda: [u for u in status(away.m)["unsent"] if u["state"] == "failed"], what="a failure")[0]
    assert "path" not in told and told["path_base64"] == "//5vZGQ="
    versity_store.proxy.fault("off")
    run_bytes = subprocess.run([CTL, "retry", away.path, odd], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert run_bytes.returncode in (0, 1)  # 1: it has gone by itself meanwhile
    ctl("sync", away.path)
    assert status(away.m, 0)["pending"]["files"] == 0
    away.remount()
    assert read_file(os.path.join(os.fsencode(away.path), name)) == b"odd content"


def test_discard(away, versity_store):
    """The store's version counts again, and what it does not have is gone; nothing that is open."""
    write_fails(away / "old", b"second version")
    write_fails(away / "new", b"never stored")
    assert "path is missing" not in ctl("discard", away.path, "other", expect=1).stderr
    with open(away / "old", "rb"):
        assert "open" in ctl("discard", away.path, "old", expect=1).stderr
    assert read_file(away / "old") == b"second version"
    wait_for(lambda: run(CTL, "discard", away.path, "old", check=False).returncode == 0, what="discard")
    wait_for(lambda: run(CTL, "discard", away.path, away / "new", check=False).returncode == 0, what="discard")
    versity_store.proxy.fault("off")
    assert status(away.m, 0)["pending"]["files"] == 0
    assert read_file(away / "old") == b"first version"
    assert os.listdir(away.path) == ["old"]
    assert "discarded" in away.m.text()
    away.remount()
    assert read_file(away / "old") == b"first version"
    assert os.listdir(away.path) == ["old"]


def test_umount_away(away, versity_store):
    """A store that is away does not keep the daemon; what is left waits for the next mount."""
    versity_store.proxy.fault("reset")
    write_fails(away / "old", b"second version")
    begun = time.monotonic()
    assert away.m.umount() == 1
    assert time.monotonic() - begun < 60
    assert "wait in the journal for the next mount or s3cryptfsctl recover" in away.m.text()
    versity_store.proxy.fault("off")
    away.remount(ro=True)
    assert "read-only" in away.m.text() and "wait in the journal" in away.m.text()
    assert read_file(away / "old") == b"first version"
    away.umount()
    away.remount(ro=None)
    assert "taken up" in away.m.text()
    ctl("sync", away.path)
    assert read_file(away / "old") == b"second version"
    away.remount()
    assert read_file(away / "old") == b"second version"


def test_recover(away, versity_store, keyring, tmp_path):
    """After kill -9 the journal goes to the store without a mount."""
    data = blob(300000)
    args, env = source_args(versity_store, dict(QUICK, cache_dir=str(tmp_path / "cache")), keyring)
    write_fails(away / "old", data)
    write_fails(away / "new\n", b"new one")
    text = ctl("recover", *args, expect=1, env=env).stderr
    assert "process %d" % away.m.process.pid in text and away.path in text
    away.m.kill()

    text = ctl("recover", *args, expect=1, env=env, timeout=120)
    versity_store.proxy.fault("off")
    versity_store.proxy.reset()
    text = ctl("recover", *args, "--dry-run", env=env).stdout
    assert "file      old\n" in text and "file      new\\012\n" in text
    counts = versity_store.proxy.counts()
    assert not any(counts.get(kind) for kind in ("PUT", "CREATE", "COPY", "DELETE", "DELETEMANY")), counts
    assert versity_store.keys() == ["old"]

    text = ctl("recover", *args, env=env).stdout
    assert "2 files" in text and "everything is in the store" in text
    assert sorted(versity_store.keys()) == ["new\n", "old"]
    assert "nothing waits" in ctl("recover", *args, env=env).stdout
    away.remount()
    assert read_file(away / "old") == data and read_file(away / "new\n") == b"new one"


def test_recover_away(away, versity_store, keyring, tmp_path):
    """The store fails again: what is left is named, and kept."""
    args, env = source_args(versity_store, dict(QUICK, cache_dir=str(tmp_path / "cache")), keyring)
    write_fails(away / "old", b"second version")
    away.m.kill()
    versity_store.proxy.fault("reset", method="PUT")
    result = ctl("recover", *args, expect=1, env=env, timeout=120)
    assert "old: not in the store" in result.stdout and "left in the journal: 1 file" in result.stdout
    versity_store.proxy.fault("off")
    assert "everything is in the store" in ctl("recover", *args, env=env).stdout
    away.remount()
    assert read_file(away / "old") == b"second version"


def test_recover_nothing(file_store, keyring, tmp_path):
    """No journal: nothing is made."""
    args, env = source_args(file_store, {"cache_dir": str(tmp_path / "cache")}, keyring)
    assert "no journal" in ctl("recover", *args, env=env).stdout
    assert not os.path.exists(tmp_path / "cache") and file_store.keys() == []
    assert "leave out ro" in ctl("recover", "-o", "ro", *args, expect=2, env=env).stderr


def test_sync_waits(versity_store, mount):
    """writeback: sync ends when the store has it, and an interrupted one leaves the mount alone."""
    site = Site(mount, versity_store, writeback=True)
    versity_store.proxy.latency(1500)
    for n in range(5):
        write_file(site / ("f%d" % n), blob(1000, n))
    assert status(site.m, 0)["commit"] == "writeback"
    waiting = subprocess.Popen([CTL, "sync", site.path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.3)
    waiting.kill()
    waiting.communicate()
    done = []
    others = [threading.Thread(target=lambda: done.append(ctl("sync", site.path))) for _ in range(3)]
    for t in others:
        t.start()
    for t in others:
        t.join()
    assert len(done) == 3
    versity_store.proxy.latency(0)
    assert sorted(versity_store.keys()) == ["f%d" % n for n in range(5)]
    assert status(site.m, 0)["pending"] == {"files": 0, "names": 0, "bytes": 0, "failed": 0, "parked": 0}


def test_status_while_away(versity_store, mount):
    """The store is not asked for anything: the mount is."""
    site = Site(mount, versity_store, writeback=True, ttl=0, timeout=20)
    write_file(site / "f", b"data")
    ctl("sync", site.path)
    versity_store.proxy.fault("reset")
    time.sleep(1.5)  # what the kernel knows of the mount's root ends
    begun = time.monotonic()
    assert status(site.m, 0)["source"] == versity_store.source
    assert time.monotonic() - begun < 2
    versity_store.proxy.fault("off")


@pytest.mark.parametrize("mib", [1, 12, 40])
def test_sent_soon(versity_store, mount, mib):
    """writeback: what was closed begins to be sent after 1.5 s, whatever its size."""
    site = Site(mount, versity_store, writeback=True)
    write_file(site / "f", blob(mib << 20))
    begun = time.monotonic()
    wait_for(lambda: versity_store.keys() == ["f"], 60, "the file")
    assert time.monotonic() - begun < 10


def test_recover_writeback(versity_store, mount, keyring, tmp_path):
    """Names and contents that only the journal has, after kill -9."""
    site = Site(mount, versity_store, writeback=True, cache_dir=str(tmp_path / "cache"), **QUICK)
    args, env = source_args(versity_store, dict(QUICK, cache_dir=str(tmp_path / "cache")), keyring)
    write_file(site / "gone", b"to be removed")
    ctl("sync", site.path)
    assert os.listdir(site.path) == ["gone"]  # what is not listed needs no question
    versity_store.proxy.fault("reset")
    os.mkdir(site / "d")
    write_file(site / "d/f", b"content")
    os.rename(site / "d/f", site / "d/g")
    os.unlink(site / "gone")
    site.m.kill()
    versity_store.proxy.fault("off")
    text = ctl("recover", *args, "--dry-run", env=env).stdout
    assert "directory d\n" in text and "file      d/g\n" in text and "removal   gone\n" in text
    assert "everything is in the store" in ctl("recover", *args, env=env).stdout
    assert sorted(versity_store.keys()) == ["d/", "d/g"]
    site.remount()
    assert read_file(site / "d/g") == b"content" and os.listdir(site.path) == ["d"]


def test_recover_rename(versity_store, mount, keyring, tmp_path):
    """Of a directory, under way when the daemon is killed: told, and finished."""
    site = Site(mount, versity_store, cache_dir=str(tmp_path / "cache"))
    args, env = source_args(versity_store, {"cache_dir": str(tmp_path / "cache")}, keyring)
    os.mkdir(site / "old")
    for n in range(4):
        write_file(site / ("old/f%d" % n), b"%d" % n)
    versity_store.proxy.reset()
    versity_store.proxy.latency(500)
    moving = threading.Thread(target=lambda: pytest.raises(OSError, os.rename, site / "old", site / "new"))
    moving.start()
    wait_for(lambda: versity_store.proxy.counts().get("COPY"), what="a copy")
    site.m.kill()
    moving.join()
    versity_store.proxy.latency(0)
    assert "rename    old\n" in ctl("recover", *args, "--dry-run", env=env).stdout
    assert "everything is in the store" in ctl("recover", *args, env=env).stdout
    site.remount()
    assert os.listdir(site.path) == ["new"] and sorted(os.listdir(site / "new")) == ["f%d" % n for n in range(4)]
