#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Measures s3cryptfs beside its neighbours: the same work, on the same store, in
the same run, every request delayed and counted by one proxy.

The store is radosgw in memory behind nginx over TLS. A write counts until the
store holds the last byte, a read begins with cold caches (mounted anew, kernel
caches dropped). The ceiling is plain curl that moves the same bytes in pieces
of 8 MiB, 8 at once. What is written lies in memory (/dev/shm) before, where there
is room. Times are noisy: look at the ratios, and at the processor seconds of the
programs (without the store, the proxy, and dd); requests and bytes are exact.

Then what s3cryptfs keeps on the local disk, with the longest of the delays:
reads after a remount beside a FUSE filesystem that does nothing and the disk,
small files in writeback beside SQLite's own durable commits, and the databases
alone.
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
for name in list(os.environ):
    if name.startswith("AWS_"):
        del os.environ[name]
os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")

import boto3  # noqa: E402
from botocore.config import Config  # noqa: E402
from servers import base, proxy, radosgw  # noqa: E402

import local_parts  # noqa: E402

MIB = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")
CEILING = "curl (ceiling)"
PARTS = ("neighbours", "warm", "writeback", "databases")


def sh(args, **kw):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw).stdout


def processor_seconds(pid):
    """Of a process so far, its threads included; 0 when it has ended."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / TICKS


def unmount(path):
    subprocess.run(["fusermount3", "-u", path], check=False, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while os.path.ismount(path) and time.monotonic() < end:
        time.sleep(0.1)
        subprocess.run(["fusermount3", "-u", path], check=False, stderr=subprocess.DEVNULL)


class Neighbour:
    """A program that mounts the bucket. Each start is cold: its caches are in a new folder."""

    needs = ()

    def __init__(self, bench):
        self.bench, self.processes, self.folder = bench, [], None
        for program in self.needs:
            if not shutil.which(program):
                raise base.Unavailable("%s is not installed" % program)

    def start(self):
        self.folder = tempfile.mkdtemp(dir=self.bench.folder)
        self.mnt = os.path.join(self.folder, "mnt")
        os.mkdir(self.mnt)
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        self.up()

    def spawn(self, args, path, env=None):
        process = base.start(args, os.path.join(self.folder, "log"), env=dict(os.environ, **(env or {})))
        self.processes.append(process)
        end = time.monotonic() + 60
        while not os.path.ismount(path):
            if process.poll() is not None or time.monotonic() > end:
                with open(os.path.join(self.folder, "log"), errors="replace") as f:
                    raise RuntimeError("%s does not mount: %s" % (self.name, f.read()[-2000:]))
            time.sleep(0.05)

    def stop(self):
        self.down()
        for process in self.processes:
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                base.stop(process)
        self.processes = []
        shutil.rmtree(self.folder, ignore_errors=True)

    def down(self):
        unmount(self.mnt)

    def processor_seconds(self):
        return sum(processor_seconds(p.pid) for p in self.processes)


class S3cryptfs(Neighbour):
    name = "s3cryptfs"
    options = ""

    def up(self):
        b = self.bench
        keyring = os.path.join(b.folder, "keyring")
        if not os.path.exists(keyring):
            sh([os.path.join(b.build, "s3cryptfsctl"), "key", "new", "-o", "keyring=" + keyring, "bench"])
        self.spawn([os.path.join(b.build, "s3cryptfs"), "s3://%s/ours" % b.bucket, self.mnt, "-f", "-o",
                    "keyring=%s,endpoint=%s,ca_file=%s,region=us-east-1,cache_dir=%s,state_dir=%s%s" %
                    (keyring, b.proxy.endpoint, b.proxy.cert, self.folder + "/cache", self.folder + "/state",
                     self.options)],
                   self.mnt, {"AWS_ACCESS_KEY_ID": b.server.access_key, "AWS_SECRET_ACCESS_KEY": b.server.secret_key})

    def memory_peak(self):
        with open("/proc/%d/status" % self.processes[0].pid) as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


class S3fs(Neighbour):
    name, needs = "s3fs", ("s3fs",)
    prefix = "s3fs"

    def mount_s3fs(self, path):
        b = self.bench
        passwd = os.path.join(self.folder, "passwd")
        with open(os.open(passwd, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write("%s:%s\n" % (b.server.access_key, b.server.secret_key))
        self.spawn(["s3fs", "%s:/%s" % (b.bucket, self.prefix), path, "-f", "-o",
                    "url=%s,use_path_request_style,passwd_file=%s,endpoint=us-east-1" % (b.proxy.endpoint, passwd)],
                   path, {"CURL_CA_BUNDLE": b.proxy.cert})

    def up(self):
        self.bench.client.put_object(Bucket=self.bench.bucket, Key=self.prefix + "/", Body=b"")
        self.mount_s3fs(self.mnt)


class GocryptfsOverS3fs(S3fs):
    name, needs, prefix = "gocryptfs/s3fs", ("s3fs", "gocryptfs"), "gocryptfs"

    def up(self):
        self.bench.client.put_object(Bucket=self.bench.bucket, Key=self.prefix + "/", Body=b"")
        self.lower = os.path.join(self.folder, "lower")
        os.mkdir(self.lower)
        self.mount_s3fs(self.lower)
        password = os.path.join(self.folder, "password")
        with open(password, "w") as f:
            f.write("bench\n")
        if not os.path.exists(self.lower + "/gocryptfs.conf"):
            sh(["gocryptfs", "-init", "-q", "-scryptn", "10", "-passfile", password, self.lower])
        self.spawn(["gocryptfs", "-fg", "-q", "-passfile", password, self.lower, self.mnt], self.mnt)

    def down(self):
        unmount(self.mnt)
        unmount(self.lower)


class RcloneCrypt(Neighbour):
    name, needs = "rclone crypt", ("rclone",)

    def up(self):
        b = self.bench
        secret = sh(["rclone", "obscure", "bench"]).strip()
        conf = os.path.join(self.folder, "rclone.conf")
        with open(conf, "w") as f:
            f.write("[s3]\ntype = s3\nprovider = Ceph\naccess_key_id = %s\nsecret_access_key = %s\nendpoint = %s\n"
                    "force_path_style = true\n[c]\ntype = crypt\nremote = s3:%s/rclone\npassword = %s\n"
                    % (b.server.access_key, b.server.secret_key, b.proxy.endpoint, b.bucket, secret))
        self.spawn(["rclone", "mount", "c:", self.mnt, "--config", conf, "--ca-cert", b.proxy.cert,
                    "--vfs-cache-mode", "full", "--vfs-write-back", "0s", "--cache-dir", self.folder + "/cache"], self.mnt)


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.build = args, folder, args.build
        self.server = radosgw.Radosgw(os.path.join(folder, "radosgw"))
        self.proxy = proxy.Proxy(os.path.join(folder, "proxy"), self.server.upstream)
        self.bucket = "bench"
        self.client = boto3.client("s3", endpoint_url=self.server.endpoint, verify=self.server.cert,
                                   region_name="us-east-1", aws_access_key_id=self.server.access_key,
                                   aws_secret_access_key=self.server.secret_key,
                                   config=Config(s3={"addressing_style": "path"}))
        self.front = boto3.client("s3", endpoint_url=self.proxy.endpoint, verify=self.proxy.cert,
                                  region_name="us-east-1", aws_access_key_id=self.server.access_key,
                                  aws_secret_access_key=self.server.secret_key,
                                  config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"))
        self.client.create_bucket(Bucket=self.bucket)
        # Kernel caches are dropped before each program: what it has to read should not come from the disk.
        free = os.statvfs("/dev/shm")
        self.source = folder
        if free.f_bavail * free.f_frsize > 3 * args.size * MIB:
            self.source = tempfile.mkdtemp(prefix="s3cryptfs-bench-", dir="/dev/shm")
        self.data = os.path.join(self.source, "data")
        with open(self.data, "wb") as f:
            block = os.urandom(16 * MIB)
            for i in range(args.size // 16):
                f.write(i.to_bytes(8, "big") + block[8:])
        self.rows, self.peaks = [], {}

    def stop(self):
        self.proxy.stop()
        self.server.stop()
        shutil.rmtree(self.source, ignore_errors=True)

    def stored(self):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return sum(o["Size"] for page in pages for o in page.get("Contents", []))

    def settle(self, before, expected):
        """Until the store holds expected bytes more than before."""
        end = time.monotonic() + 300
        while self.stored() - before < expected:
            if time.monotonic() > end:
                raise RuntimeError("the store never held all bytes")
            time.sleep(0.02)

    def measure(self, latency, who, work, fn, used):
        """used: tells processor seconds so far."""
        self.proxy.reset()
        before = used()
        begin = time.monotonic()
        try:
            amount, unit = fn()
        except Exception as e:  # a neighbour that cannot do it stands in the table as such
            self.rows.append((latency, work, who, None, "failed: %s" % str(e)[:60], {}, 0))
            print("  %-16s %-18s failed: %s" % (who, work, e), flush=True)
            return
        seconds = time.monotonic() - begin
        cpu = used() - before
        counts = self.proxy.counts()
        self.rows.append((latency, work, who, amount / seconds, unit, counts, cpu))
        print("  %-16s %-18s %10.1f %-8s %6.2f s of processors" % (who, work, amount / seconds, unit, cpu), flush=True)

    def note_peak(self, neighbour):
        if hasattr(neighbour, "memory_peak"):
            self.peaks[neighbour.name] = max(self.peaks.get(neighbour.name, 0), neighbour.memory_peak())

    def warm_up(self):
        """The store's memory is touched once, so that the first program does not pay for it."""
        with open(self.data, "rb") as f:
            for i in range(0, self.args.size, 16):
                self.client.put_object(Bucket=self.bucket, Key="warm%d" % i, Body=f.read(16 * MIB))
        for i in range(0, self.args.size, 16):
            self.client.delete_object(Bucket=self.bucket, Key="warm%d" % i)

    def ceiling(self, latency):
        key, size = "ceiling", self.args.size
        pieces = list(range(size // 8))
        conf = os.path.join(self.folder, "curl")

        def curl(lines):
            with open(conf, "w") as f:
                f.write("\nnext\n".join(lines))
            sh(["curl", "--silent", "--fail", "--parallel", "--parallel-immediate", "--parallel-max", "8", "--config", conf])

        parts = [os.path.join(self.source, "piece%d" % i) for i in range(len(pieces))]
        with open(self.data, "rb") as f:
            for name in parts:
                with open(name, "wb") as out:
                    out.write(f.read(8 * MIB))
        common = 'cacert = "%s"\nhttp1.1\nsilent\nfail\nheader = "Expect:"\n' % self.proxy.cert

        def write():
            upload = self.front.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
            args = dict(Bucket=self.bucket, Key=key, UploadId=upload)
            urls = [self.front.generate_presigned_url("upload_part", dict(args, PartNumber=i + 1)) for i in pieces]
            curl([common + 'upload-file = "%s"\noutput = "/dev/null"\nurl = "%s"' % (parts[i], u) for i, u in enumerate(urls)])
            done = [{"PartNumber": p["PartNumber"], "ETag": p["ETag"]}
                    for p in self.front.list_parts(**args)["Parts"]]
            self.front.complete_multipart_upload(MultipartUpload={"Parts": done}, **args)
            return size, "MiB/s"

        def read():
            url = self.front.generate_presigned_url("get_object", dict(Bucket=self.bucket, Key=key))
            curl([common + 'range = "%d-%d"\noutput = "/dev/null"\nurl = "%s"' % (i * 8 * MIB, (i + 1) * 8 * MIB - 1, url)
                  for i in pieces])
            return size, "MiB/s"

        def used():
            times = os.times()
            return times.children_user + times.children_system

        self.measure(latency, CEILING, "sequential write", write, used)
        self.measure(latency, CEILING, "sequential read", read, used)
        for name in parts:
            os.unlink(name)
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def run(self, latency, neighbour):
        size, files, who = self.args.size, self.args.files, neighbour.name
        self.proxy.latency(latency)
        neighbour.start()
        before = self.stored()

        def write():
            sh(["dd", "if=" + self.data, "of=%s/big" % neighbour.mnt, "bs=1M", "conv=fsync", "status=none"])
            self.settle(before, size * MIB)
            return size, "MiB/s"

        self.measure(latency, who, "sequential write", write, neighbour.processor_seconds)
        before = self.stored()

        def create():
            os.mkdir(neighbour.mnt + "/small")
            for i in range(files):
                with open("%s/small/f%d" % (neighbour.mnt, i), "wb") as f:
                    f.write(b"%08d" % i * 512)
            self.settle(before, files * 4096)
            return files, "files/s"

        self.measure(latency, who, "create 4 KiB files", create, neighbour.processor_seconds)
        self.note_peak(neighbour)
        neighbour.stop()
        neighbour.start()

        def read():
            sh(["dd", "if=%s/big" % neighbour.mnt, "of=/dev/null", "bs=1M", "status=none"])
            return size, "MiB/s"

        self.measure(latency, who, "sequential read", read, neighbour.processor_seconds)
        self.note_peak(neighbour)
        sh(["cmp", self.data, neighbour.mnt + "/big"])
        neighbour.stop()
        neighbour.start()

        def scattered():
            rng = random.Random(1)
            with open(neighbour.mnt + "/big", "rb", buffering=0) as f:
                for _ in range(100):
                    f.seek(rng.randrange(size * 256) * 4096)
                    assert len(f.read(4096)) == 4096
            return 100, "reads/s"

        self.measure(latency, who, "random 4 KiB reads", scattered, neighbour.processor_seconds)
        neighbour.stop()
        neighbour.start()
        before = self.stored()

        def copy():
            sh(["cp", neighbour.mnt + "/big", neighbour.mnt + "/copy"])
            self.settle(before, size * MIB)
            return size, "MiB/s"

        self.measure(latency, who, "cp within, cold", copy, neighbour.processor_seconds)
        neighbour.stop()
        neighbour.start()

        def listing():
            out = sh(["find", neighbour.mnt + "/small", "-printf", "%s %T@ %m\n"])
            assert out.count("\n") == files + 1, out
            return files, "files/s"

        def read_small():
            for i in range(files):
                with open("%s/small/f%d" % (neighbour.mnt, i), "rb") as f:
                    assert f.read() == b"%08d" % i * 512
            return files, "files/s"

        self.measure(latency, who, "find -printf, cold", listing, neighbour.processor_seconds)
        neighbour.stop()
        neighbour.start()
        self.measure(latency, who, "read 4 KiB files", read_small, neighbour.processor_seconds)
        neighbour.stop()
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for o in page.get("Contents", []):
                self.client.delete_object(Bucket=self.bucket, Key=o["Key"])

    def neighbours(self):
        for latency in (int(x) for x in self.args.latency.split(",")):
            print("delay %d ms" % latency, flush=True)
            self.proxy.latency(latency)
            self.ceiling(latency)
            for kind in (S3cryptfs, S3fs, RcloneCrypt, GocryptfsOverS3fs):
                if self.args.programs and kind.name not in self.args.programs.split(","):
                    continue
                try:
                    neighbour = kind(self)
                except base.Unavailable as reason:
                    print("  %s: %s" % (kind.name, reason))
                    continue
                try:
                    self.run(latency, neighbour)
                except RuntimeError as e:
                    print("  %s: %s" % (kind.name, e))
                    neighbour.stop()
        print(self.table())
        return self.table()

    def local(self, part):
        """What is kept on the local disk; its lines."""
        latency = max(int(x) for x in self.args.latency.split(","))
        print("%s, delay %d ms" % (part, latency), flush=True)
        parts = local_parts.Local(self, latency, S3cryptfs, unmount)
        try:
            getattr(parts, part)()
        finally:
            parts.close()
        return "%s, delay %d ms\n" % (part, latency) + "\n".join("  " + line for line in parts.lines)

    def table(self):
        kinds = ("GET", "HEAD", "LIST", "PUT", "PART", "COPY", "PARTCOPY", "CREATE", "COMPLETE", "DELETE", "DELETEMANY")
        lines = ["%5s  %-18s  %-15s  %8s  %-7s  %6s  %6s  %8s  %8s  %s" %
                 ("delay", "work", "program", "rate", "", "ratio", "cpu s", "sent MB", "got MB", "requests")]
        for latency, work, who, rate, unit, counts, cpu in self.rows:
            ours = next((r[3] for r in self.rows if r[0] == latency and r[1] == work and r[2] == "s3cryptfs"), None)
            if rate is None:
                lines.append("%3d ms  %-18s  %-15s  %s" % (latency, work, who, unit))
                continue
            lines.append("%3d ms  %-18s  %-15s  %8.1f  %-7s  %6s  %6.2f  %8.1f  %8.1f  %s" % (
                latency, work, who, rate, unit, "%.2f" % (ours / rate) if ours else "", cpu,
                counts.get("bytes_in", 0) / 1e6, counts.get("bytes_out", 0) / 1e6,
                " ".join("%s %d" % (k, counts[k]) for k in kinds if counts.get(k))))
        lines.append("(ratio: s3cryptfs divided by the program of that line)")
        return "\n".join(lines + self.verdicts())

    def verdicts(self):
        """What was wanted of the longest delay and of memory."""
        lines, latency = [], max(row[0] for row in self.rows)
        for work in ("sequential write", "sequential read"):
            rates = {row[2]: row[3] for row in self.rows if row[0] == latency and row[1] == work and row[3]}
            ours, ceiling = rates.pop("s3cryptfs", None), rates.pop(CEILING, None)
            if ours and ceiling:
                lines.append("%s at %d ms: %.2f of the ceiling, wanted 0.70: %s" %
                             (work, latency, ours / ceiling, local_parts.verdict(ours >= 0.7 * ceiling)))
            if ours and rates:
                best = max(rates, key=rates.get)
                lines.append("%s at %d ms: %.2f of the best neighbour (%s), wanted 1.00: %s" %
                             (work, latency, ours / rates[best], best, local_parts.verdict(ours >= rates[best])))
        for who, peak in self.peaks.items():
            lines.append("memory of %s at its peak: %d MiB, wanted less than 512: %s" %
                         (who, peak // MIB, local_parts.verdict(peak < 512 * MIB)))
        return lines


def main():
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.environ.get("S3CRYPTFS_BUILD", os.path.join(top, "build")), help="folder of the programs")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large file, a multiple of 16 (1024)")
    parser.add_argument("--files", type=int, default=100, help="small files (100)")
    parser.add_argument("--latency", default="0,20", help="delays in ms (0,20)")
    parser.add_argument("--only", help="comma-separated parts: " + " ".join(PARTS) + " (all)")
    parser.add_argument("--programs", help="comma-separated names of programs for the table of neighbours (all)")
    parser.add_argument("--durable-files", type=int, default=2000, help="small files in writeback (2000)")
    parser.add_argument("--disk", default="/var/tmp", help="folder on the disk that is measured (/var/tmp)")
    parser.add_argument("--output", help="write the results to this file too")
    args = parser.parse_args()
    args.only = args.only.split(",") if args.only else PARTS
    if set(args.only) - set(PARTS):
        parser.error("--only takes " + " ".join(PARTS))
    with tempfile.TemporaryDirectory(prefix="s3cryptfs-bench-") as folder:
        bench = Bench(args, folder)
        texts = []
        try:
            bench.warm_up()
            for part in PARTS:
                if part in args.only:
                    texts.append(bench.neighbours() if part == "neighbours" else bench.local(part))
        finally:
            bench.stop()
            if args.output:
                with open(args.output, "w") as f:
                    f.write("\n\n".join(texts) + "\n")


if __name__ == "__main__":
    main()
