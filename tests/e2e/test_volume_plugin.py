# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""s3cryptfs-volume-plugin: the real plugin on a private socket; a small client, then podman with runc."""
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import threading

import pytest

from harness import BUILD, CTL, PROGRAM, blob, find_bytes, read_file, run, wait_for, write_file

PLUGIN = os.path.join(BUILD, "s3cryptfs-volume-plugin")
pytestmark = pytest.mark.skipif(not os.path.exists(PLUGIN), reason="built with --disable-volume-plugin")


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("plugin", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Plugin:
    """One plugin; the volumes' local folders are below its own."""

    def __init__(self, folder, env=None):
        self.folder, self.env = str(folder), dict(os.environ, **(env or {}))
        self.socket = os.path.join(self.folder, "run", "s3cryptfs.sock")
        self.state = os.path.join(self.folder, "state")
        self.log = os.path.join(self.folder, "log")
        os.makedirs(self.folder, exist_ok=True)
        self.program, self.process = PROGRAM, None
        write_file(self.log, b"")

    def start(self, *args):
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                [PLUGIN, "--socket", self.socket, "--state", self.state, "--program", self.program,
                 "--log-level", "debug", *args], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.env)
        wait_for(self.answers, 30, "start of the plugin")
        return self

    def answers(self):
        assert self.process.poll() is None, self.text()
        with contextlib.suppress(OSError):
            return self.ask("Plugin.Activate") == {"Implements": ["VolumeDriver"]}

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        assert self.process.wait(30) == (0 if how == signal.SIGTERM else -how), self.text()

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def raw(self, path, body=b"", method="POST", timeout=100):
        connection = Connection(self.socket, timeout)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def ask(self, verb, timeout=100, **members):
        status, answer = self.raw("/" + verb, json.dumps(members) if members else b"", timeout=timeout)
        assert (status == 200) == (not answer.get("Err")), (status, answer)
        if status != 200:
            raise RuntimeError(answer["Err"])
        return answer

    def __call__(self, verb, name, **members):
        return self.ask("VolumeDriver." + verb, Name=name, **members)

    def create(self, name, source, keyring, **options):
        options = dict({"source": source, "keyring": keyring.path, "cache_dir": os.path.join(self.folder, "cache-" + name)},
                       **options)
        return self("Create", name, Opts=options)

    def mount(self, name, user="a"):
        return self("Mount", name, ID=user)["Mountpoint"]

    def users(self, name):
        return self("Get", name)["Volume"]["Status"]["users"]

    def mounts(self):
        with open("/proc/self/mounts") as f:
            return [line.split()[1] for line in f if line.split()[1].startswith(self.state + "/")]

    def finish(self):
        if self.process and self.process.poll() is None:
            self.stop()
        for path in self.mounts():
            run("umount", "-l", path, check=False)
        text = self.text()
        print(text[-6000:])
        assert not any(mark in text for mark in ("Sanitizer", "runtime error:")), text


@pytest.fixture
def plugin(tmp_path):
    made = []

    def make(env=None):
        made.append(Plugin(tmp_path / ("plugin%d" % len(made)), env))
        return made[-1]
    yield make
    for one in made:
        one.finish()


def daemon(path):
    """Process of a mount."""
    return json.loads(run(CTL, "status", "--json", path).stdout)["pid"]


def is_running(pid):
    """A process whose first thread is a zombie may have others that end yet, and with them its files."""
    with contextlib.suppress(OSError), open("/proc/%d/stat" % pid) as f:
        return f.read().rpartition(")")[2].split()[0] != "Z" or len(os.listdir("/proc/%d/task" % pid)) > 1
    return False


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_running(pid), 30, "end of the process")


def test_life(plugin, file_store, keyring):
    """From its making to its end: mounted for the first, unmounted after the last, and the store has it."""
    p = plugin().start()
    assert p.ask("VolumeDriver.Capabilities") == {"Capabilities": {"Scope": "local"}}
    assert p.ask("VolumeDriver.List")["Volumes"] == []
    p.create("data", file_store.source, keyring)
    assert p("Get", "data")["Volume"]["Mountpoint"] == "" == p("Path", "data")["Mountpoint"]
    path = p.mount("data", "first")
    assert os.path.ismount(path) and p("Path", "data")["Mountpoint"] == path == p.mount("data", "second")
    assert stat.S_IMODE(os.stat(p.socket).st_mode) == 0o600
    write_file(path + "/f", blob(100000))
    pid = daemon(path)
    with pytest.raises(RuntimeError, match="in use by 2"):
        p("Remove", "data")
    p("Unmount", "data", ID="first")
    assert read_file(path + "/f") == blob(100000)
    listed, = p.ask("VolumeDriver.List")["Volumes"]
    assert (listed["Name"], listed["Mountpoint"], listed["Status"]["users"]) == ("data", path, 1)
    p("Unmount", "data", ID="second")
    assert p.mounts() == [] and not is_running(pid)
    assert {k: o.plaintext() for k, o in file_store.decode_all(keyring).items()} == {"f": blob(100000)}
    p("Remove", "data")
    with pytest.raises(RuntimeError, match="no volume data"):
        p("Get", "data")
    assert os.listdir(p.state + "/volumes") == [] == os.listdir(p.state + "/mounts")


def test_other_users(plugin, file_store, keyring):
    """A container's programs run as anybody."""
    p = plugin().start()
    p.create("data", file_store.source, keyring, umask="0")
    path = p.mount("data")
    os.chmod(path, 0o777)
    write_file(path + "/f", b"for all")
    os.chmod(path + "/f", 0o644)
    for folder in (p.folder, p.state, p.state + "/mounts"):
        os.chmod(folder, 0o755)
    fd = os.open(path, os.O_PATH)  # as a container has it: past the folders above
    assert subprocess.run(["cat", "/proc/self/fd/%d/f" % fd], user=65534, pass_fds=[fd], stdout=subprocess.PIPE,
                          check=True).stdout == b"for all"
    os.close(fd)
    p("Unmount", "data", ID="a")


def test_refusals(plugin, file_store, keyring, tmp_path):
    """Whatever is wrong is one line; secrets are neither kept nor repeated."""
    p = plugin().start()
    for path, body, method, status in (
            ("/VolumeDriver.List", b"", "GET", 405), ("/VolumeDriver.Nothing", b"{}", "POST", 404),
            ("/VolumeDriver.Get", b"{", "POST", 400), ("/VolumeDriver.Get", b'{"Name":"../x"}', "POST", 400),
            ("/VolumeDriver.Get", b'{"Name":"x"}', "POST", 500),
            ("/VolumeDriver.Get", b'{"Name":"x","y":"' + b"y" * 70000 + b'"}', "POST", 413)):
        got, answer = p.raw(path, body, method)
        assert got == status and answer["Err"] and "\n" not in answer["Err"], (path, got, answer)
    for options, words in (({"keyrign": "/k"}, "did you mean 'keyring'"), ({"AWS_SECRET_ACCESS_KEY": "hunter2"}, "no secrets"),
                           ({"key_command": "echo hunter2"}, "config="), ({"endpoint": "https://u:hunter2@h"}, "password"),
                           ({"source": "/srv"}, "file:///srv")):
        with pytest.raises(RuntimeError, match=words) as error:
            p.create("bad", **dict({"source": file_store.source, "keyring": keyring}, **options))
        assert "hunter2" not in str(error.value)
    assert find_bytes(b"hunter2", p.folder) == [] and p.ask("VolumeDriver.List")["Volumes"] == []
    # What only the mount finds out: its own line, and nobody uses it.
    p.create("late", file_store.source, keyring)
    p("Create", "late2", Opts={"source": file_store.source, "keyring": str(tmp_path / "none"), "cache_dir": str(tmp_path / "c")})
    with pytest.raises(RuntimeError, match="late2 cannot be mounted: .*none") as error:
        p.mount("late2")
    assert "\n" not in str(error.value) and p.users("late2") == 0 and p.mounts() == []
    p("Remove", "late2")
    for folder, _, names in os.walk(p.state):
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600, name


def test_own_config(plugin, file_store, keyring, tmp_path):
    """A file of the person's, a list, and single options: what is given alone wins over the file."""
    config = tmp_path / "a,b.conf"
    config.write_text("key_command=cat %s\nttl=7\nro\n" % keyring.path)
    p = plugin().start()
    p("Create", "data", Opts={"source": file_store.source, "config": str(config), "o": "rw,umask=077", "parallel": "3",
                              "cache_dir": str(tmp_path / "with, comma")})
    path = p.mount("data")
    write_file(path + "/f", b"writable")
    assert os.path.isdir(tmp_path / "with, comma")
    p("Unmount", "data", ID="a")


def test_restart(plugin, file_store, keyring):
    """The mount outlives its plugin, also one that is killed; users are remembered."""
    p = plugin().start()
    p.create("data", file_store.source, keyring)
    path = p.mount("data", "a")
    pid = daemon(path)
    with open(path + "/f", "wb", buffering=0) as f:
        for how in (signal.SIGTERM, signal.SIGKILL):
            f.write(b"before")
            p.stop(how)
            assert os.path.exists(p.socket) == (how == signal.SIGKILL)
            f.write(b"between")
            p.start()
            assert p.mount("data", "a") == path and p.users("data") == 1
    assert daemon(path) == pid
    p.mount("data", "b")
    p("Unmount", "data", ID="a")
    assert read_file(path + "/f") == b"beforebetween" * 2
    p.stop(signal.SIGKILL)
    p.start()
    p("Unmount", "data", ID="b")
    assert p.mounts() == []


def test_dead_mount(plugin, file_store, keyring):
    """A mount whose process has died is mounted again: for the next user, and by a plugin that starts."""
    p = plugin().start()
    p.create("data", file_store.source, keyring)
    path = p.mount("data", "a")
    write_file(path + "/f", b"kept")
    kill(daemon(path))
    assert p.mount("data", "b") == path and read_file(path + "/f") == b"kept"
    kill(daemon(path))
    p.stop(signal.SIGKILL)
    p.start()
    wait_for(lambda: run("cat", path + "/f", check=False).stdout == "kept", 30, "the new mount")
    assert p.users("data") == 2 and len(p.mounts()) == 1
    # Without users nothing is mounted, whatever a crash has left.
    p("Unmount", "data", ID="a")
    p("Unmount", "data", ID="b")
    p.mount("data", "c")
    p.stop(signal.SIGKILL)
    definition = p.state + "/volumes/data.json"
    record = json.loads(read_file(definition))
    write_file(definition, json.dumps(dict(record, users=[])).encode())
    p.start()
    wait_for(lambda: not p.mounts(), 30, "unmount of what nobody uses")


def test_waits_for_uploads(plugin, rgw_store, keyring):
    """Unmount returns when the store has what only the journal had."""
    p = plugin(rgw_store.env).start()
    options = {k: v for k, v in rgw_store.options().items() if k != "env"}
    p.create("data", rgw_store.source, keyring, writeback="", **options)
    path = p.mount("data")
    pid = daemon(path)
    rgw_store.proxy.latency(200)
    for n in range(20):
        write_file(path + "/f%d" % n, blob(100000, n))
    assert len(rgw_store.keys()) < 20
    p("Unmount", "data", ID="a")
    assert not is_running(pid)
    assert {k: o.plaintext() for k, o in rgw_store.decode_all(keyring).items()} == {
        "f%d" % n: blob(100000, n) for n in range(20)}


def slow_program(p, seconds):
    """The program, with a pause before it mounts; it is called by two names."""
    p.program = os.path.join(p.folder, "slow")
    write_file(p.program, b"#!/bin/bash\n[[ $2 == *:* ]] || :\nsleep %d\nexec %s \"$@\"\n" % (seconds, PROGRAM.encode()))
    os.chmod(p.program, 0o755)


def test_client_gone(plugin, file_store, keyring):
    """Who has given up does not use it; who comes again does."""
    p = plugin()
    slow_program(p, 2)
    p.start()
    p.create("data", file_store.source, keyring)
    with pytest.raises(OSError):
        p.ask("VolumeDriver.Mount", timeout=0.5, Name="data", ID="a")
    wait_for(lambda: "has not waited" in p.text(), 30, "end of the mount")
    assert p.users("data") == 0
    p.stop()  # a call that waits ends at once
    p.program = PROGRAM
    p.start()
    wait_for(lambda: not p.mounts(), 30, "unmount of what nobody uses")
    p.mount("data", "a")
    p("Unmount", "data", ID="a")


@pytest.mark.long
def test_slow_mount(plugin, file_store, keyring):
    """Longer than an idle connection may be."""
    p = plugin()
    slow_program(p, 65)
    p.start()
    p.create("data", file_store.source, keyring)
    assert os.path.ismount(p.mount("data"))


def test_many_at_once(plugin, tmp_path, keyring):
    """Volumes side by side, users of each in any order: mounted while there is one, and only then."""
    p, problems = plugin().start(), []
    for n in range(3):
        os.mkdir(tmp_path / ("s%d" % n))
        p.create("v%d" % n, "file://%s" % (tmp_path / ("s%d" % n)), keyring)

    def use(number):
        try:
            for turn in range(4):
                name = "v%d" % ((number + turn) % 3)
                path = p.mount(name, "user%d" % number)
                write_file("%s/%d-%d" % (path, number, turn), b"x" * number)
                assert p("Get", name)["Volume"]["Mountpoint"] == path
                p("Unmount", name, ID="user%d" % number)
        except Exception as e:  # noqa: BLE001 # shown below
            problems.append(repr(e))
    threads = [threading.Thread(target=use, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert problems == [] and p.mounts() == []
    for name in ("v0", "v1", "v2"):
        path = p.mount(name)
        assert {(int(f.split("-")[0]), os.path.getsize(path + "/" + f)) for f in os.listdir(path)} == {(n, n) for n in range(6)}
        p("Unmount", name, ID="a")


def test_start(plugin, tmp_path):
    """What it cannot do it says in a line; a socket that systemd has opened is taken."""
    p = plugin().start()
    other = plugin()
    for args, words in ((("--socket", p.socket, "--state", other.state), "another program listens"),
                        (("--socket", other.socket, "--state", p.state), "another volume plugin runs"),
                        (("--socket", "relative"), "whole path"), (("extra",), "no arguments"), (("--wait", "x"), "seconds")):
        result = run(PLUGIN, *args, check=False)
        assert result.returncode in (1, 2) and words in result.stderr and result.stderr.count("\n") == 1, result.stderr
    with socket.socket(socket.AF_UNIX) as listener:
        path = str(tmp_path / "systemd.sock")
        listener.bind(path)
        listener.listen()
        number = listener.fileno()
        child = subprocess.Popen(["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh", PLUGIN, "--state", other.state],
                                 close_fds=False, preexec_fn=lambda: os.dup2(number, 3))
        p.socket, own = path, p.socket
        assert p.ask("Plugin.Activate") == {"Implements": ["VolumeDriver"]}
        child.terminate()
        assert child.wait(30) == 0 and os.path.exists(path)
        p.socket = own


class Containers:
    """An engine for containers with a store of its own and runc: engine(*args) -> result, and its volume driver."""
    driver, env = "s3cryptfs", None

    def __init__(self, folder):
        if not os.path.exists("/bin/busybox"):
            pytest.skip("busybox-static is not installed")
        self.folder, self.image, root = folder, "localhost/busybox", os.path.join(folder, "rootfs")
        for name in ("bin", "data", "tmp"):
            os.makedirs(os.path.join(root, name))
        shutil.copy("/bin/busybox", root + "/bin/busybox")
        for name in ("sh", "cat", "sleep"):
            os.symlink("busybox", root + "/bin/" + name)
        run("tar", "-C", root, "-cf", folder + "/image.tar", ".")
        self.base, self.limits, self.plugin = [], ["--network=host"], Plugin(os.path.join(folder, "plugin"))

    def __call__(self, *args, check=True):
        return run(*self.base, *args, check=check, env=self.env)

    def running(self, volume, command):
        """The words that run a command with the volume at /data."""
        return ["run", "--rm", *self.limits, "-v", volume + ":/data", self.image, "/bin/sh", "-c", command]

    def container(self, volume, command, check=True):
        return self(*self.running(volume, command), check=check)

    def probe(self):
        # podman: a container of --rootfs never lets go of its volumes in Debian's version
        probe = self("import", self.folder + "/image.tar", self.image, check=False)
        if probe.returncode == 0:
            probe = self("run", "--rm", *self.limits, self.image, "/bin/sh", "-c", "echo runs", check=False)
        if probe.stdout.strip() != "runs":
            pytest.skip("%s cannot run a container here: %s" % (self.base[0], probe.stderr.strip()[-300:]))
        return self


@contextlib.contextmanager
def podman(folder):
    if not shutil.which("podman") or not shutil.which("runc"):
        pytest.skip("podman and runc are not installed")
    engine = Containers(folder)
    config = os.path.join(folder, "containers.conf")
    with open(config, "w") as f:
        f.write('[engine.volume_plugins]\ns3cryptfs = "%s"\n' % engine.plugin.socket)
    engine.env = dict(os.environ, CONTAINERS_CONF=config)
    engine.base = ["podman", "--root", folder + "/store", "--runroot", folder + "/run", "--tmpdir", folder + "/tmp",
                   "--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager=cgroupfs", "--events-backend=file"]
    engine.limits += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    yield engine.probe()
    engine("volume", "rm", "-f", "-a", check=False)


@contextlib.contextmanager
def docker(folder):
    """A dockerd of the test's own, which looks for the sockets of plugins in one folder of the machine."""
    if not shutil.which("docker") or not shutil.which("dockerd"):
        pytest.skip("docker and dockerd are not installed")
    engine = Containers(folder)
    engine.driver = "s3cryptfs-test-%d" % os.getpid()
    engine.plugin.socket = "/run/docker/plugins/%s.sock" % engine.driver
    engine.base = ["docker", "-H", "unix://%s/docker.sock" % folder]
    os.makedirs("/run/docker/plugins", exist_ok=True)
    with open(folder + "/log", "wb") as log, subprocess.Popen(
            ["dockerd", "-H", "unix://%s/docker.sock" % folder, "--data-root", folder + "/store", "--exec-root", folder + "/run",
             "--pidfile", folder + "/pid", "--storage-driver", "vfs", "--iptables=false", "--ip6tables=false", "--bridge=none"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log) as daemon:
        try:
            with contextlib.suppress(AssertionError):
                wait_for(lambda: daemon.poll() is not None or engine("version", check=False).returncode == 0, 60)
            yield engine.probe()
        finally:
            daemon.terminate()
            daemon.wait(60)
            run("umount", folder + "/run/netns/default", check=False)


@pytest.mark.xdist_group("podman")
@pytest.mark.parametrize("program", [podman, docker], ids=["podman", "docker"])
def test_containers(program, tmp_path_factory, file_store, keyring):
    """One container writes, another reads; both at once; the plugin ends, and is killed, in between."""
    with program(str(tmp_path_factory.mktemp("c"))) as engine:
        try:
            use_volume(engine, engine.plugin.start(), file_store, keyring)
        finally:
            engine.plugin.finish()


def use_volume(engine, p, store, keyring):
    refused = engine("volume", "create", "--driver", engine.driver, "-o", "source=" + store.source, "-o", "keyrign=/k", "bad",
                     check=False)
    assert refused.returncode and "did you mean 'keyring'" in refused.stderr, refused.stderr
    engine("volume", "create", "--driver", engine.driver, "-o", "source=" + store.source, "-o", "keyring=" + keyring.path,
           "-o", "cache_dir=%s/cache" % p.folder, "data")
    assert engine("volume", "ls", "-q").stdout.split() == ["data"]
    engine.container("data", "echo first >/data/f; cat /data/f")
    wait_for(lambda: not p.mounts(), 30, "unmount")  # the clean-up after a container runs beside
    assert engine.container("data", "cat /data/f").stdout == "first\n"
    p.stop()
    p.start()
    with subprocess.Popen(engine.base + engine.running("data", "echo up >/data/up; until [ -e /data/go ]; do sleep 0.1; done; "
                                                               "cat /data/g; echo last >/data/h"),
                          stdout=subprocess.PIPE, text=True, env=engine.env) as other:
        wait_for(lambda: "up" in engine.container("data", "cat /data/up", check=False).stdout, 60, "the first container")
        assert len(p.mounts()) == 1
        p.stop(signal.SIGKILL)
        p.start()
        assert engine.container("data", "cat /data/f; echo both >/data/g; echo >/data/go").stdout == "first\n"
        assert other.communicate(timeout=60)[0] == "both\n" and other.returncode == 0
    wait_for(lambda: not p.mounts(), 30, "unmount after the last")
    assert engine.container("data", "cat /data/h").stdout == "last\n"
    engine("volume", "rm", "data")
    assert p.ask("VolumeDriver.List")["Volumes"] == []
    assert store.decode_all(keyring)["h"].plaintext() == b"last\n"
    assert find_bytes(b"first\n", store.folder) == []
