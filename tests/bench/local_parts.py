# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
The parts of the benchmark about what s3cryptfs keeps on the local disk: reads of
a warm cache after a remount, the writeback journal, the databases themselves.
Each is compared with what the disk or FUSE alone does in the same minute.
"""
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time

MIB = 1 << 20
ROUNDS = 3          # of what is compared; medians count
WARMING_ROUNDS = 8  # the cache drops inserts when its writer is behind
WARMING_STEP, WARMING_PAUSE = 8 * MIB, 0.2
RANDOM_READS, THREADS = 800, 16
SMALL = 4096
HELD_MS = 2000      # a store that answers too late to take part
SHOWN = ("GET", "HEAD", "LIST", "PUT", "PART", "COPY", "PARTCOPY", "CREATE", "COMPLETE", "DELETE", "DELETEMANY")


def output(*args):
    return subprocess.run([str(a) for a in args], check=True, stdout=subprocess.PIPE, text=True).stdout


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def shown(counts):
    return " ".join("%s %d" % (k, counts[k]) for k in SHOWN if counts.get(k)) or "none"


def requests(counts):
    return sum(counts.get(k, 0) for k in SHOWN)


def verdict(good):
    return "good" if good else "MISSED"


class Local:
    def __init__(self, bench, latency, kind, unmount):
        """kind: the class that mounts s3cryptfs; latency: of the proxy, in ms."""
        self.bench, self.latency, self.kind, self.unmount = bench, latency, kind, unmount
        bench.proxy.latency(latency)
        self.folder = tempfile.mkdtemp(prefix="s3cryptfs-bench-", dir=bench.args.disk)
        self.lines = []

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def say(self, text):
        self.lines.append(text)
        print("  " + text, flush=True)

    def program(self, name):
        return os.path.join(self.bench.build, name)

    def loop(self, *args):
        return float(output(self.program("tests/bench/file_bench"), *args))

    def mount(self, name, options=""):
        """Mounts with the cache and the journal in the folder NAME on the disk; they stay when it is stopped."""
        mount = self.kind(self.bench)
        mount.folder = os.path.join(self.folder, name)
        mount.mnt, mount.options = mount.folder + "/mnt", options
        os.makedirs(mount.mnt, exist_ok=True)
        drop_caches()
        mount.up()
        return mount

    def stop(self, mount):
        mount.down()
        for process in mount.processes:
            process.wait(120)
        mount.processes = []

    def status(self, mnt):
        return json.loads(subprocess.run([self.program("s3cryptfsctl"), "status", mnt, "--json"],
                                         stdout=subprocess.PIPE, text=True).stdout)

    # Reads after a remount.

    def null(self, fn):
        """fn(path of a file of zeros) on the filesystem that does nothing, just mounted."""
        mnt = os.path.join(self.folder, "null")
        os.makedirs(mnt, exist_ok=True)
        drop_caches()
        process = subprocess.Popen([self.program("tests/bench/null_fuse"), mnt, str(self.bench.args.size)],
                                   stdout=subprocess.PIPE, text=True)
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("null_fuse does not mount")
            return fn(mnt + "/zeros")
        finally:
            self.unmount(mnt)
            process.wait(60)

    def disk(self, path):
        drop_caches()
        return self.loop("read", path)

    def kept(self, fn):
        """fn(the large file) after a remount, and the requests that it needed."""
        mount = self.mount("warm")
        try:
            self.bench.proxy.reset()
            result = fn(mount.mnt + "/big")
            return result, self.bench.proxy.counts(), self.status(mount.mnt)
        finally:
            self.stop(mount)

    def slowly(self, path):
        """Reads as from a store that is farther away: this one takes the processors that inserts wait for."""
        dropped = 0
        with open(path, "rb", buffering=0) as f:
            while f.read(WARMING_STEP):
                now = self.status(os.path.dirname(path))["cache"]["dropped"]
                if now > dropped:
                    time.sleep(WARMING_PAUSE)
                dropped = now

    def fill(self):
        """Writes the file and reads it until nothing of its content is asked for; the reads that took. None: too many."""
        mount = self.mount("warm")
        shutil.copyfile(self.bench.data, mount.mnt + "/big")
        self.stop(mount)
        for n in range(WARMING_ROUNDS + 1):
            _, counts, status = self.kept(self.slowly)
            cache = status["cache"] or {}
            self.say("read %d: %s; inserts dropped: %d" % (n + 1, shown(counts), cache.get("dropped", 0)))
            if counts.get("get_bytes", 0) < 65536:
                return n
        return None

    def warm(self):
        size = self.bench.args.size
        rounds = self.fill()
        self.say("reads until the cache had all: %s" % ("more than %d" % WARMING_ROUNDS if rounds is None else rounds))
        raw = os.path.join(self.folder, "raw")
        shutil.copyfile(self.bench.data, raw)
        seconds = {k: [] for k in ("ours", "null", "disk", "ours random", "null random", "disk random")}
        counts, counts_random = {}, {}

        def scattered(path):
            return self.loop("random", path, RANDOM_READS, THREADS)

        for _ in range(ROUNDS):
            ours, counts, _ = self.kept(lambda path: self.loop("read", path))
            seconds["ours"].append(ours)
            seconds["null"].append(self.null(lambda path: self.loop("read", path)))
            seconds["disk"].append(self.disk(raw))
            ours, counts_random, _ = self.kept(scattered)
            seconds["ours random"].append(ours)
            seconds["null random"].append(self.null(scattered))
            drop_caches()
            seconds["disk random"].append(scattered(raw))
        os.unlink(raw)
        rate = {k: (RANDOM_READS / 16 if "random" in k else size) / statistics.median(v) for k, v in seconds.items()}
        wanted = min(0.6 * rate["null"], 0.8 * rate["disk"])
        self.say("sequential read, warm:   %8.1f MiB/s   null FUSE %8.1f (ratio %.2f)   disk %8.1f (ratio %.2f)   "
                 "wanted %.1f: %s" % (rate["ours"], rate["null"], rate["ours"] / rate["null"], rate["disk"],
                                      rate["ours"] / rate["disk"], wanted, verdict(rate["ours"] >= wanted)))
        self.say("  requests: %s" % shown(counts))
        self.say("random 64 KiB, %d at once: %6.1f MiB/s   null FUSE %8.1f (ratio %.2f)   disk %8.1f (ratio %.2f)" %
                 (THREADS, rate["ours random"], rate["null random"], rate["ours random"] / rate["null random"],
                  rate["disk random"], rate["ours random"] / rate["disk random"]))
        self.say("  requests: %s" % shown(counts_random))

    # The journal.

    def sync(self, mount):
        output(self.program("s3cryptfsctl"), "sync", mount.mnt)

    def sqlite(self):
        """SQLite's own durable commits a second on this disk: with its default, a rollback journal, and with a WAL."""
        lines = output(self.program("tests/bench/journal_bench"), self.folder, 1, 0).splitlines()
        return [float(line.split(":")[1].split("/s")[0]) for line in lines]

    def create(self, mount, folder, work, threads, held):
        """New small files; files a second, requests for each, seconds that the store needed after the last."""
        count = self.bench.args.durable_files
        os.mkdir(folder)
        if work == "apart":  # the loop makes them; it finds them made
            for i in range(threads):
                os.mkdir("%s/t%d" % (folder, i))
        self.sync(mount)
        self.bench.proxy.reset()
        if held:
            self.bench.proxy.latency(HELD_MS)
        rate = count / self.loop(work, folder, count, threads)
        self.bench.proxy.latency(self.latency)
        begin = time.monotonic()
        self.sync(mount)
        wait = time.monotonic() - begin
        return rate, requests(self.bench.proxy.counts()) / count, wait

    def small_files(self):
        """
        The store and the proxy run on the same processors: the journal alone is measured while
        their answers are held back, the whole once more with the uploads beside it.
        """
        cases = [(work, threads, held) for held in (True, False) for work, threads in
                 (("create", 1), ("apart", THREADS), ("create", THREADS))]
        found, sqlite = {case: [] for case in cases}, []
        mount = self.mount("writeback", ",writeback")
        for n in range(ROUNDS):
            for m, case in enumerate(cases):
                base, wal = self.sqlite()  # this disk's rate changes within minutes
                rate, per_file, wait = self.create(mount, "%s/n%d-%d" % (mount.mnt, n, m), *case)
                sqlite.append((base, wal))
                found[case].append((rate, rate / base, rate / wal, per_file, wait))
        self.stop(mount)
        for kind, rates in zip(("a rollback journal, its default", "a WAL"), zip(*sqlite)):
            self.say("SQLite's durable commits with %s: %.0f/s (%.0f to %.0f)" %
                     (kind, statistics.median(rates), min(rates), max(rates)))
        for work, threads, held in cases:
            rate, ratio, to_wal, per_file, wait = (statistics.median(x) for x in zip(*found[work, threads, held]))
            wanted = 4 if work == "apart" else 0.7 if threads == 1 else None
            self.say("4 KiB files in writeback, %-31s %-16s %6.0f files/s   ratio to SQLite %.2f, with a WAL %.2f%s" %
                     ("1 thread," if threads == 1 else "%d threads, %s," %
                      (threads, "a folder for each" if work == "apart" else "one folder"),
                      "uploads held:" if held else "uploads beside:", rate, ratio, to_wal,
                      "   wanted %.1f: %s" % (wanted, verdict(ratio >= wanted)) if wanted else ""))
            self.say("  requests for each file: %.3f; in the store %.1f s after the last" % (per_file, wait))

    def copies(self):
        """Requests for each of 1,000 small files that are unpacked or copied."""
        source, count = os.path.join(self.folder, "source"), 1000
        for i in range(count):
            os.makedirs("%s/tree/d%d" % (source, i // 100), exist_ok=True)
            path = "%s/tree/d%d/f%d" % (source, i // 100, i)
            with open(path, "wb") as f:
                f.write(b"%08d" % i * (SMALL // 8))
            os.utime(path, (1600000000 + i, 1600000000 + i))
        output("tar", "-C", source, "-cf", self.folder + "/tree.tar", "tree")
        for mode, options, wanted in (("writeback", ",writeback", 1.1), ("commit=close", "", 2.1)):
            for tool in ("tar -x", "rsync -a"):
                if not shutil.which(tool.split()[0]):
                    self.say("%s is not installed" % tool)
                    continue
                mount = self.mount("copies-" + mode.split("=")[-1], options)
                target = mount.mnt + "/" + tool.split()[0] + "-" + mode.split("=")[-1]
                os.mkdir(target)
                self.sync(mount)
                self.bench.proxy.reset()
                begin = time.monotonic()
                if tool == "tar -x":
                    output("tar", "-C", target, "-xf", self.folder + "/tree.tar")
                else:
                    output("rsync", "-a", source + "/tree", target)
                seconds = time.monotonic() - begin
                self.sync(mount)
                self.stop(mount)  # what it does at its end counts
                counts = self.bench.proxy.counts()
                self.say("%-8s of %d files, %-12s %7.0f files/s   requests for each: %.3f   wanted %.1f: %s   (%s)" %
                         (tool, count, mode + ":", count / seconds, requests(counts) / count, wanted,
                          verdict(requests(counts) / count <= wanted), shown(counts)))

    def writeback(self):
        self.small_files()
        self.copies()

    def databases(self):
        for line in output(self.program("tests/bench/cache_bench"), self.folder, "512", "only").splitlines():
            self.say(line)
        result = subprocess.run([self.program("tests/bench/journal_bench"), self.folder],
                                stdout=subprocess.PIPE, text=True)
        for line in result.stdout.splitlines():
            self.say(line)
