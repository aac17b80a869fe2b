# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""Programs at work on a mount while something happens to it, and what has to be there afterwards."""
import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
import traceback

from harness import read_file, sha256_file, write_file


class Beside:
    """
    A program at work on the mount: step() again and again on a thread of its own, errors noted. What failed is
    tried again, as a user would: not something else instead, which would leave one more half-sent file each time.
    """
    pause = 0.0

    def __init__(self, path):
        self.path, self.acknowledged, self.errors, self.slowest, self.at_work = path, [], [], 0.0, False
        self.count, self.wrong = 0, None
        self.prepare()
        self.start()

    def prepare(self):
        os.mkdir(self.path)

    def start(self):
        self.stopped = False
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        while not self.stopped and not self.wrong:
            self.try_step()
            time.sleep(self.pause)

    def try_step(self):
        """The next step: is it done?"""
        begin, self.at_work = time.monotonic(), True
        try:
            self.acknowledged.append(self.step(self.count))
            self.count += 1
            return True
        except (OSError, sqlite3.Error, subprocess.CalledProcessError) as e:
            self.errors.append(e)
            time.sleep(0.1)
        except Exception as e:
            self.wrong = e
        finally:
            self.slowest, self.at_work = max(self.slowest, time.monotonic() - begin), False
        return False

    def stop(self):
        self.stopped = True
        self.thread.join(150)
        if self.thread.is_alive():
            last = "".join(traceback.format_exception(self.errors[-1])) if self.errors else ""
            raise AssertionError("%s %s hangs at step %d; its last error:\n%s" % (type(self).__name__, self.path, self.count, last))
        if self.wrong:
            raise self.wrong


class LargeCopies(Beside):
    """Two files, written again and again, and slowly: the store lives in memory, and frees what was replaced later."""
    mib = 64

    def prepare(self):
        super().prepare()
        self.known = {}  # name: the digest of what was acknowledged last, while nothing else was begun

    def step(self, n):
        data, digest, name = random.Random(n).randbytes(1 << 20), hashlib.sha256(), str(n % 2)
        self.known.pop(name, None)
        with open("%s/%s" % (self.path, name), "wb", buffering=0) as f:
            for _ in range(self.mib):
                f.write(data)
                digest.update(data)
        self.known[name] = digest.hexdigest()
        return n

    def check(self, path):
        assert len(self.known) >= min(len(self.acknowledged), 1)  # all but the one that failed last
        for name, digest in self.known.items():
            assert sha256_file("%s/%s" % (path, name)) == digest, name


class SmallFiles(Beside):
    def step(self, n):
        write_file("%s/%d" % (self.path, n), b"%08d" % n * 512)
        return n

    def check(self, path):
        for n in self.acknowledged:
            assert read_file("%s/%d" % (path, n)) == b"%08d" % n * 512, n


class Database(Beside):
    rows = 1 << 30  # the most; then they are written again

    def prepare(self):
        super().prepare()
        self.begun = {}  # row: what was to be written to it and failed, since it was acknowledged: done or not
        with sqlite3.connect(self.path + "/db") as db:
            db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
        db.close()

    def step(self, n):
        self.begun.setdefault(n % self.rows, []).append(n)
        db = sqlite3.connect(self.path + "/db", timeout=60)
        try:
            with db:
                db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (n % self.rows, "row %d" % n * 20))
        finally:
            db.close()
        del self.begun[n % self.rows]
        return n

    def check(self, path):
        db = sqlite3.connect(path + "/db")
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        rows = dict(db.execute("SELECT n, text FROM t"))
        db.close()
        last = {n % self.rows: n for n in self.acknowledged}
        lost = [(n, rows.get(row, "")[:8]) for row, n in last.items()
                if rows.get(row) not in ["row %d" % m * 20 for m in [n, *self.begun.get(row, [])]]]
        assert not lost, "acknowledged rows are lost: %s of %d" % (lost, len(last))


class Git(Beside):
    ENV = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null", GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b",
               GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b")

    def git(self, *args, path=None):
        result = subprocess.run(["git", "-c", "gc.auto=0", "-c", "safe.directory=*", "-C", path or self.path, *args],
                                env=self.ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
        if result.returncode:
            print("git %s: %s" % (args[0], result.stderr.decode(errors="replace")[-1000:]))
        result.check_returncode()
        return result.stdout.decode().strip()

    def prepare(self):
        super().prepare()
        self.git("init", "-q")

    def step(self, n):
        # What a git that failed may have left, as its message tells to.
        for name in ("index.lock", "HEAD.lock", "refs/heads/master.lock", "refs/heads/main.lock"):
            if os.path.exists(os.path.join(self.path, ".git", name)):
                os.unlink(os.path.join(self.path, ".git", name))
        write_file(os.path.join(self.path, "f%d" % (n % 10)), b"%d\n" % n * 100)
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", str(n))
        return self.git("rev-parse", "HEAD")

    def check(self, path):
        known = set(self.git("rev-list", "HEAD", path=path).split())
        lost = [c for c in self.acknowledged if c not in known]
        assert not lost, "acknowledged commits are lost"
        self.git("fsck", "--full", path=path)


def outage(proxy, seconds):
    """Half of it nothing is answered, half of it connections are closed."""
    os.killpg(proxy.process.pid, signal.SIGSTOP)
    time.sleep(seconds / 2)
    os.killpg(proxy.process.pid, signal.SIGCONT)
    proxy.fault("reset")
    time.sleep(seconds / 2)
    proxy.fault("off")
