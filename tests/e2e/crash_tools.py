# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""What the crash tests are made with: the workload, the shim, disks that lose power, campaigns of crashes."""
import fcntl
import os
import random
import shutil
import struct
import subprocess
import time

import crash_model
from harness import BUILD, run, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
SANITIZED = os.environ.get("S3CRYPTFS_SANITIZED") == "1"
WARNINGS = ["-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-g"]


def build_workload(folder):
    """The workload that make check has built; where it has not, it is compiled here."""
    built = os.path.join(BUILD, "tests/e2e/crash_workload")
    source = os.path.join(HERE, "crash_workload.c")
    if os.path.exists(built) and os.path.getmtime(built) >= os.path.getmtime(source):
        return built
    path = os.path.join(folder, "crash_workload")
    run("cc", *WARNINGS, "-D_FILE_OFFSET_BITS=64", "-pthread", source, "-o", path)
    return path


def build_shim(folder):
    path = os.path.join(folder, "crash_shim.so")
    run("cc", *WARNINGS, "-shared", "-fPIC", os.path.join(HERE, "crash_shim.c"), "-o", path, "-ldl")
    return path


def shim_env(shim, **how):
    """Environment of a program under the shim: match="...", at=N, when="before", ... (see crash_shim.c)."""
    env = {"CRASH_SHIM_" + k.upper(): str(v) for k, v in how.items() if v is not None}
    env["LD_PRELOAD"] = shim
    # The sanitizer wants to be the first library; here it need not be.
    env["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    return env


def shim_count(path):
    with open(path, "rb") as f:
        return struct.unpack("=Q", f.read(8))[0]


# Hard links among the operations.
LINKS = os.environ.get("S3CRYPTFS_CRASH_LINKS") != "0"


class Workload:
    """crash_workload in the background. options: those of its command line."""

    def __init__(self, program, root, log, **options):
        self.root, self.log = root, log
        if LINKS:
            options.setdefault("k", 3)
        words = [w for k, v in options.items() for w in ("-" + k, str(v))]
        self.process = subprocess.Popen([program, *words, root, log], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.words = words

    def begun(self, operations=1):
        """Waits until so many operations have been acknowledged."""
        def count():
            with open(self.log) as f:
                return sum(line.startswith("A") for line in f) >= operations
        wait_for(lambda: os.path.exists(self.log) and count() or self.process.poll() is not None, 60, "the workload's start")
        return self

    def end(self, seconds=60):
        """Waits for the end that it comes to by itself."""
        self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, "the workload ended with %d" % self.process.returncode

    def stop(self, seconds=150):
        """Lets it come to an end: everything is closed, nothing in flight."""
        self.process.terminate()
        self.end(seconds)

    def kill(self):
        self.process.kill()
        self.process.communicate()


class Tmpfs:
    """A small disk in memory."""

    def __init__(self, path, size):
        self.path = path
        os.makedirs(path, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "size=" + size, "none", path)

    def fill(self):
        with open(os.path.join(self.path, "ballast"), "wb", buffering=0) as f:
            try:
                while f.write(bytes(4096)):
                    pass
            except OSError:
                pass

    def free(self):
        os.unlink(os.path.join(self.path, "ballast"))

    def stop(self):
        run("umount", "-l", self.path, check=False)


class LoopDisk:
    """An ext4 file system in a file, whose power can be cut: what was not synced is lost."""
    SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN and its flag: the journal is not flushed either

    def __init__(self, folder, mib=1024):
        self.image, self.path, self.mounted = os.path.join(folder, "disk.img"), os.path.join(folder, "disk"), False
        os.makedirs(self.path, exist_ok=True)
        with open(self.image, "wb") as f:
            f.truncate(mib << 20)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", self.image)
        self.mount()

    def mount(self):
        run("mount", "-o", "loop", self.image, self.path)
        self.mounted = True

    def cut(self):
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, self.SHUTDOWN, struct.pack("=I", self.NOLOGFLUSH))
        finally:
            os.close(fd)

    def again(self):
        """After a cut, when nobody has files open on it."""
        def umount():
            self.mounted = run("umount", self.path, check=False).returncode != 0
            return not self.mounted
        wait_for(umount, 20, "umount of the cut disk")
        # Processes with mount tables of their own may hold it a little longer, and it would be found again as it is.
        wait_for(lambda: not run("losetup", "-j", self.image).stdout, 60, "end of the cut disk")
        self.mount()

    def stop(self):
        if self.mounted:
            run("umount", "-l", self.path, check=False)


def unavailable(*what):
    """Why a test that needs root, and programs or loop devices, cannot run here; None when it can."""
    if os.geteuid() != 0:
        return "needs root"
    for name in what:
        if name.startswith("/"):
            if not os.path.exists(name):
                return "there is no " + name
        elif not shutil.which(name):
            return "there is no program " + name
    return None


class Campaign:
    """
    Crash after crash of one mount, each with a workload in a folder of its own: killed, mounted again
    on the same local folders, checked. At the end all of it is looked at once more, from the store alone.
    """

    def __init__(self, make, store, folder, program, sem, seed, local=None, **options):
        self.make, self.store, self.folder, self.program, self.sem = make, store, folder, program, sem
        self.local = local or os.path.join(folder, "local")
        self.options, self.random, self.seed, self.runs, self.kept = options, random.Random(seed), seed, 0, {}
        self.acknowledged = self.in_flight = 0
        self.up()

    def up(self, env=None, fresh=False):
        """Mounts; fresh: with local folders that know nothing."""
        local = os.path.join(self.folder, "fresh") if fresh else self.local
        options = self.store.options(cache_dir=os.path.join(local, "cache"), state_dir=os.path.join(local, "state"), **self.options)
        options["env"] = dict(options.get("env", {}), **(env or {}))
        self.m = self.make(self.store.source, **options)

    def prepare(self):
        """The folder of the next run; before a mount that may be killed at any moment."""
        os.makedirs(self.m / ("r%d" % (self.runs + 1)), exist_ok=True)

    def start(self, **workload):
        self.prepare()
        self.runs += 1
        self.name = "r%d" % self.runs
        root = self.m / self.name
        options = dict({"s": self.random.randrange(1 << 32), "t": 2}, **workload)
        self.workload = Workload(self.program, root, os.path.join(self.folder, self.name + ".log"), **options)
        return self.workload.begun()

    def crash(self, before_mount=None):
        """
        Ends the daemon and the workload, and checks what is there afterwards. before_mount: after a power
        cut, which may have been told as errors before the daemon was ended.
        """
        self.m.kill()
        self.workload.kill()
        if before_mount:
            before_mount()
        self.up()
        self.check(strict=before_mount is None)

    def look(self, name):
        """A power cut right after the start may take the folder of a run with it, as all in it that was not synced."""
        path = self.m / name
        return {} if self.sem.cut and not os.path.exists(path) else crash_model.scan(path)

    def check(self, strict=True):
        log = crash_model.Log(self.workload.log)
        found = self.look(self.name)
        problems = crash_model.check(log, found, self.sem)
        if strict:
            problems += ["failed without a reason: %s" % op for op in log.errors_before_the_end()]
        assert not problems, "run %d of the campaign with seed %d, workload %s, log %s (%s):\n%s" % (
            self.runs, self.seed, " ".join(self.workload.words), self.workload.log, self.sem.name, "\n".join(problems[:30]))
        self.kept[self.name] = crash_model.digests(found)
        self.acknowledged += log.acknowledged()
        self.in_flight += sum(op.state == "flight" for op in log.ops())

    def finish(self):
        """What each run has left is in the store, and stays as it was found."""
        status = self.m.umount()
        assert status == 0, "the daemon ended with %d: %s" % (status, self.m.text())
        self.up(fresh=True)
        for name, kept in self.kept.items():
            now = crash_model.digests(self.look(name))
            changed = ["%s/%s: was %s, is %s" % (name, path, kept.get(path), now.get(path))
                       for path in sorted(set(kept) | set(now)) if kept.get(path) != now.get(path)]
            assert not changed, "changed after the check (campaign with seed %d):\n%s" % (self.seed, "\n".join(changed[:30]))
        # A campaign in which nothing was under way would show nothing.
        assert self.acknowledged >= 10 * self.runs and self.in_flight >= self.runs // 4, (self.acknowledged, self.in_flight, self.runs)


def random_time(rng, most):
    """Early moments as often as late ones."""
    time.sleep(most * rng.random() ** 2)
