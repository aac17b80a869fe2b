# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""The mount as a service: what a service manager is told, reloads, the units, what the process gives up."""
import contextlib
import errno
import os
import random
import re
import shutil
import signal
import socket
import subprocess

import pytest

from harness import BUILD, CTL, PROGRAM, TOP, drop_caches, fails, read_file, run, wait_for, write_file


class Manager:
    """The socket that a service manager listens on."""

    def __init__(self, path):
        self.address = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + path[1:] if path[0] == "@" else path)
        self.socket.settimeout(0.05)
        self.lines = []

    def poll(self):
        with contextlib.suppress(TimeoutError):
            while True:
                self.lines += self.socket.recv(4096).decode().split("\n")
        return self.lines

    def await_line(self, start, seconds=30):
        wait_for(lambda: any(line.startswith(start) for line in self.poll()), seconds, start)

    def forget(self):
        self.poll()
        self.lines = []


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    manager = Manager(str(tmp_path / "notify") if request.param == "path" else "@s3cryptfs-test-%d" % os.getpid())
    yield manager
    manager.socket.close()


def test_notifies(file_store, mount, manager):
    """READY when it is up, RELOADING and READY, STATUS of what waits, WATCHDOG in time, STOPPING once, at the end."""
    m = mount(file_store.source, wait=False, env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "600000"})
    manager.await_line("READY=1")
    assert os.path.ismount(m.path)
    manager.await_line("STATUS=%s on %s: everything is in the store" % (file_store.source, m.path))
    manager.forget()
    wait_for(lambda: manager.poll().count("WATCHDOG=1") >= 3, 10, "the watchdog's answers")
    manager.forget()
    m.process.send_signal(signal.SIGHUP)
    manager.await_line("RELOADING=1")
    manager.await_line("READY=1")
    assert any(re.fullmatch("MONOTONIC_USEC=[0-9]{6,}", line) for line in manager.lines)
    manager.forget()
    with open(m / "f", "wb") as f:
        f.write(b"data")
        f.flush()
        manager.await_line("STATUS=%s on %s: 1 file, " % (file_store.source, m.path))
    m.process.terminate()
    assert m.process.wait(60) == 0
    m.ended = True
    assert manager.poll().count("STOPPING=1") == 1 and "READY=1" not in manager.lines
    # Programs that it runs do not speak for it.
    assert b"NOTIFY_SOCKET" not in (m.text().encode())


def test_no_watchdog_for_others(file_store, mount, tmp_path):
    """WATCHDOG_PID of another process; a socket that is none; an unmount is an end too."""
    manager = Manager(str(tmp_path / "notify"))
    m = mount(file_store.source, env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
    manager.await_line("STATUS=")
    m.umount()
    assert "WATCHDOG=1" not in manager.poll() and "STOPPING=1" in manager.lines
    m = mount(file_store.source, env={"NOTIFY_SOCKET": "vsock:2:1"})
    assert "NOTIFY_SOCKET" in m.text()
    m.umount()


def test_failure_is_told(file_store, mount, tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    m = mount(file_store.source + "/absent", wait=False, env={"NOTIFY_SOCKET": manager.address})
    m.fail()
    manager.await_line("STATUS=")
    assert any("/absent" in line for line in manager.lines) and "ERRNO=2" in manager.lines
    assert "READY=1" not in manager.lines


def test_stuck_engine_is_not_answered_for(file_store, mount, tmp_path):
    """A daemon that stands still sends no WATCHDOG=1."""
    manager = Manager(str(tmp_path / "notify"))
    m = mount(file_store.source, env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"})
    manager.await_line("WATCHDOG=1")
    m.stop()
    manager.forget()
    with pytest.raises(AssertionError):
        wait_for(lambda: "WATCHDOG=1" in manager.poll(), 1)
    m.process.send_signal(signal.SIGCONT)
    manager.await_line("WATCHDOG=1")
    m.umount()


def reload(m, *words):
    """SIGHUP; the new part of the log."""
    before = len(m.text())
    m.process.send_signal(signal.SIGHUP)
    wait_for(lambda: all(w in m.text()[before:] for w in words), 30, "words %s in the log" % (words,))
    return m.text()[before:]


def test_reload_keyring(file_store, mount, keyring, tmp_path):
    """A rotated key is written under from then on; what does not fit changes nothing."""
    m = mount(file_store.source)
    write_file(m / "one", b"1")
    assert "nothing has changed" in reload(m, "keyring:")
    run(CTL, "key", "rotate", "-o", "keyring=%s" % keyring.path, "second")
    log = reload(m, "second is new and active")
    assert "test-key is old now" in log and "error" not in log, log
    write_file(m / "two", b"2")
    objects = file_store.decode_all(keyring)
    assert {k: o.plaintext() for k, o in objects.items()} == {"one": b"1", "two": b"2"}

    def stat_of(name):
        return run(CTL, "stat", "-o", "keyring=%s" % keyring.path, file_store.source, name).stdout
    assert "second" in stat_of("two") and "test-key" in stat_of("one")
    # The volume has a slot for it: with the new key alone it opens.
    assert read_file(m / "one") == b"1"

    good = open(keyring.path).read()
    for bad, words in (("", "keyring"), (good.replace("second", "third").replace("test-key", "fourth"), None),
                       (re.sub(r"(\[second\][^[]*secret = ).*", r"\1%s" % ("A" * 43 + "="), good), "another secret")):
        write_file(keyring.path, bad.encode())
        if words:
            reload(m, "the keys that are in use stay", words)
    os.chmod(keyring.path, 0o644)
    write_file(keyring.path, good.encode())
    reload(m, "the keys that are in use stay")
    os.chmod(keyring.path, 0o600)
    write_file(m / "three", b"3")
    assert "second" in stat_of("three")
    assert m.umount() == 0
    # A mount with the new keyring reads all of it.
    m = mount(file_store.source)
    assert [read_file(m / n) for n in ("one", "two", "three")] == [b"1", b"2", b"3"]


def test_reload_beside_writers(file_store, mount, keyring):
    """Reloads while files are written and read: every object has one of the keys and opens."""
    m = mount(file_store.source)
    for n in range(6):
        run(CTL, "key", "rotate", "-o", "keyring=%s" % keyring.path, "key%d" % n)
        m.process.send_signal(signal.SIGHUP)
        for k in range(10):
            write_file(m / ("f%d-%d" % (n, k)), b"x" * 1000)
            assert read_file(m / ("f%d-%d" % (n, k))) == b"x" * 1000
    reload(m, "keyring:")
    assert m.umount() == 0
    assert len(file_store.decode_all(keyring)) == 60


def test_reload_credentials(rgw_store, mount, tmp_path):
    """Credentials in a file: others are used after a reload, before the present ones are refused."""
    file = tmp_path / "credentials"

    def put(key, secret):
        write_file(file, ("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n" % (key, secret)).encode())
    put(rgw_store.server.access_key, rgw_store.server.secret_key)
    m = mount(rgw_store.source, **rgw_store.options(env={"AWS_SHARED_CREDENTIALS_FILE": str(file)}, retries=1))
    assert "nothing has changed" in reload(m, "credentials of the store:")
    put("nobody", "nothing")
    reload(m, "credentials of the store: others are used now")
    with fails(errno.EACCES, errno.EIO, errno.EPERM):
        write_file(m / "f", b"x")
    put(rgw_store.server.access_key, rgw_store.server.secret_key)
    reload(m, "credentials of the store: others are used now")
    write_file(m / "g", b"x")
    file.unlink()
    reload(m, "the present ones stay")
    write_file(m / "h", b"x")


def test_gives_up_rights(file_store, mount):
    """No core dumps, no new rights for root."""
    m = mount(file_store.source)
    status = open("/proc/%d/status" % m.process.pid).read()
    limits = open("/proc/%d/limits" % m.process.pid).read()
    assert re.search("^Max core file size +0 +0 ", limits, re.M)
    assert ("NoNewPrivs:\t1" in status) == (os.geteuid() == 0)
    assert "Name:\ts3cryptfs\n" in status
    nofile = re.search("^Max open files +([0-9]+) +([0-9]+) ", limits, re.M)
    assert nofile.group(1) == nofile.group(2)


def test_warns_of_weak_settings(file_store, mount, tmp_path):
    m = mount(file_store.source)
    assert " warn" not in m.text()
    m.umount()
    cache = tmp_path / "open"
    cache.mkdir()
    cache.chmod(0o755)
    m = mount(file_store.source, cache_dir=str(cache))
    assert " cache_dir %s is open to other users" % cache in m.text() and "chmod 700" in m.text()
    m.umount()
    config = tmp_path / "config"
    config.write_text("ttl=5\n")
    config.chmod(0o622)
    status, text = mount(file_store.source, wait=False, config=str(config)).fail()
    assert status != 0 and "can be written by others" in text


UNIT = os.path.join(BUILD, "contrib/systemd/s3cryptfs@.service")
LINKS_UNIT = os.path.join(BUILD, "contrib/systemd/s3cryptfs-links@.service")


def test_units(tmp_path):
    """systemd takes the units as they are installed."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze")
    for name in ("srv-files.mount", "srv-files.automount", "s3cryptfs-links@.timer"):
        shutil.copy(os.path.join(TOP, "contrib/systemd", name), tmp_path)
    with open(LINKS_UNIT) as f:
        (tmp_path / "s3cryptfs-links@.service").write_text(
            re.sub(r"^ExecStart=\S+/s3cryptfsctl ", "ExecStart=%s " % CTL, f.read(), flags=re.M))
    with open(UNIT) as f:
        text = f.read()
    assert "@bindir" not in text
    # The program is not installed where this build would put it; pages of the manual neither.
    text = re.sub(r"^ExecStart=\S+/s3cryptfs ", "ExecStart=%s " % PROGRAM, text, flags=re.M)
    (tmp_path / "s3cryptfs@.service").write_text(text)
    result = run("systemd-analyze", "verify", "--man=no", *(tmp_path / n for n in (
                     "s3cryptfs@.service", "srv-files.mount", "srv-files.automount", "s3cryptfs-links@.service", "s3cryptfs-links@.timer")),
                 check=False, env=dict(os.environ, SYSTEMD_UNIT_PATH="%s:" % tmp_path))
    ours = [line for line in result.stderr.splitlines() if "s3cryptfs" in line or "srv-files" in line]
    assert result.returncode == 0 and not ours, result.stderr
    # It does say what is wrong.
    (tmp_path / "s3cryptfs@.service").write_text(text.replace("Type=notify", "Type=notified"))
    result = run("systemd-analyze", "verify", "--man=no", tmp_path / "s3cryptfs@.service", check=False)
    assert "notified" in result.stderr


def test_links_unit(file_store, mount, keyring, tmp_path):
    """Its command, with the options of a mount, counts names beside that mount."""
    m = mount(file_store.source)
    write_file(m / "a", b"data")
    os.link(m / "a", m / "b")
    command = re.search("^ExecStart=(.*)", open(LINKS_UNIT).read(), re.M).group(1).split()
    options = "keyring=%s,cache_dir=%s,ttl=5,writeback" % (keyring.path, tmp_path / "cache")
    values = {"${SOURCE}": file_store.source, "${OPTIONS}": options}
    m.umount()
    told = run(CTL, *(values.get(w, w) for w in command[1:])).stdout
    assert "1 files with 2 names" in told, told
    m = mount(file_store.source)
    assert read_file(m / "b") == b"data" and os.stat(m / "b").st_nlink == 2


def expand(names):
    """System calls of a SystemCallFilter=."""
    calls = set()
    for name in names:
        if name.startswith("@"):
            lines = run("systemd-analyze", "syscall-filter", name).stdout.split("\n")
            calls |= expand(word for line in lines[1:] for word in line.split("#")[0].split())
        else:
            calls.add(name)
    return calls


# The filter ends the process instead of answering EPERM: nothing is to need what it refuses.
FILTERED = """
import os, sys, seccomp
calls = seccomp.SyscallFilter(seccomp.KILL_PROCESS)
for name in sys.argv[1].split(","):
    try:
        calls.add_rule(seccomp.ALLOW, name)
    except (OSError, RuntimeError, ValueError):  # of another architecture
        pass
calls.load()
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("systemd-analyze"), reason="needs root, and systemd-analyze")
@pytest.mark.parametrize("kind", ["file", "s3"])
def test_rights_of_the_unit_are_enough(kind, request, keyring, tmp_path):
    """With the capabilities, limits and system calls of the unit, as the unit starts it: mounts, serves, reloads, ends."""
    store = request.getfixturevalue({"file": "file_store", "s3": "versity_store"}[kind])
    text = open(UNIT).read()
    calls = expand(re.search("^SystemCallFilter=(.*)", text, re.M).group(1).split())
    assert {"mount", "read"} < calls and "ptrace" not in calls
    caps = re.search("^CapabilityBoundingSet=(.*)", text, re.M).group(1).split()
    bound = ",".join(["-all"] + ["+" + c[4:].lower() for c in caps])
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    manager = Manager(str(tmp_path / "notify"))
    command = re.search("^ExecStart=(.*)", text, re.M).group(1).split()
    options = store.options(keyring=keyring.path, cache_dir=tmp_path / "cache", cache_size="1G", writeback=True)
    # The leak checker of a sanitized build would need ptrace.
    env = dict(os.environ, NOTIFY_SOCKET=manager.address, ASAN_OPTIONS="detect_leaks=0", **options.pop("env", {}))
    words = [k if v is True else "%s=%s" % (k, v) for k, v in options.items()]
    values = {"${SOURCE}": store.source, "${MOUNTPOINT}": str(mnt), "${OPTIONS}": ",".join(words)}
    log = open(tmp_path / "log", "w+")
    process = subprocess.Popen(["setpriv", "--bounding-set", bound, "--inh-caps", "-all", "--no-new-privs", "prlimit", "--core=0", "--memlock=8388608",
                                "/usr/bin/python3", "-c", FILTERED, ",".join(sorted(calls)), PROGRAM, *(values.get(w, w) for w in command[1:])],
                               env=env, stdout=log, stderr=log)
    try:
        manager.await_line("READY=1")
        write_file(mnt / "f", b"data")
        os.chown(mnt / "f", 1, 1)
        large = random.Random(1).randbytes(20 << 20)
        write_file(mnt / "large", large)
        os.rename(mnt / "large", mnt / "moved")
        run(CTL, "sync", mnt)
        drop_caches()
        assert read_file(mnt / "moved") == large
        process.send_signal(signal.SIGHUP)
        manager.await_line("RELOADING=1")
        process.terminate()
        assert process.wait(30) == 0 and not os.path.ismount(mnt)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
            run("fusermount3", "-u", "-z", mnt, check=False)
        log.seek(0)
        print(log.read())
    assert store.decode(keyring, "f").plaintext() == b"data"


COMPLETE = """
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
PATH=%s:$PATH
. %s/contrib/completion/s3cryptfs
compopt() { :; }
COMP_LINE=$1 COMP_POINT=${#1}
_s3cryptfs "${1%%%% *}"
printf '%%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("line,expected", [
    ("s3cryptfs s3://b /mnt -o wri", ["writeback"]),
    ("s3cryptfs s3://b /mnt -o ro,cache_s", ["ro,cache_size="]),
    ("s3cryptfs s3://b /mnt -o commit=", ["close", "fsync"]),
    ("s3cryptfs s3://b /mnt -o ro,enc=sse-", ["sse-c", "sse-kms", "sse-s3"]),
    ("s3cryptfs -", ["-f", "-d", "-o", "--help", "--version"]),
    ("s3cryptfs s3:", ["//"]),
    ("s3cryptfsctl sta", ["stat", "status"]),
    ("s3cryptfsctl key r", ["rotate", "retire"]),
    ("s3cryptfsctl recover s3://b --", ["--dry-run"]),
    ("s3cryptfsctl ls -o keyr", ["keyring="]),
])
def test_completion(line, expected):
    """What bash offers is what --help lists."""
    result = run("bash", "-c", COMPLETE % (BUILD, TOP), "bash", line)
    assert sorted(result.stdout.split()) == sorted(expected), result.stderr
