# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""Ceph's radosgw: one monitor, one memory-backed OSD, one gateway. Really does SSE-C and SSE-KMS (two keys)."""
import base64
import os
import shutil
import subprocess
import uuid

from . import base

CONF = """[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon}
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
mon allow pool size one = true
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
run dir = {d}/run
admin socket = {d}/run/$name.asok
log file = {d}/log/$name.log
ms bind ipv6 = false
keyring = {d}/keyring
mon max pg per osd = 1000
[mon]
mon data = {d}/mon
mon cluster log file = {d}/log/cluster.log
[osd]
osd data = {d}/osd
osd objectstore = memstore
memstore device bytes = {bytes}
osd class dir = /usr/lib/x86_64-linux-gnu/rados-classes
osd scrub load threshold = 0
[client.rgw]
rgw data = {d}/rgw
rgw frontends = beast endpoint=127.0.0.1:{http} ssl_endpoint=127.0.0.1:{https} ssl_certificate={d}/tls/both.pem tcp_nodelay=1
rgw crypt require ssl = true
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {kms}
rgw trust forwarded https = true
rgw dns name = localhost
rgw enable usage log = false
rgw thread pool size = 64
# Else deleted bodies stay for two hours, and the memory-backed OSD fills up over a run: then all requests hang.
rgw gc obj min wait = 20
rgw gc processor period = 10
rgw gc processor max time = 10
"""


class Radosgw:
    name = "radosgw"
    access_key, secret_key = "test", "testsecret"
    kms_keys = ("key-one", "key-two")

    def __init__(self, folder, memory=8 << 30):
        for program in ("radosgw", "ceph-mon", "ceph-osd", "radosgw-admin"):
            if not shutil.which(program):
                raise base.Unavailable("%s is not installed (Debian: radosgw ceph-mon ceph-osd ceph-common)" % program)
        # Three daemons find each other on ports that were free a moment ago: now and then one was taken since.
        for attempt in range(3):
            try:
                self._cluster(os.path.join(folder, str(attempt)), memory)
                return
            except (RuntimeError, subprocess.SubprocessError) as e:
                failure = e
        raise RuntimeError("%s; the logs end with\n%s" % (failure, self._last_words()))

    def _cluster(self, folder, memory):
        self.folder, self.processes = folder, []
        for sub in ("mon", "osd", "rgw", "run", "log", "tls"):
            os.makedirs(os.path.join(folder, sub))
        self.cert, _ = base.make_certificate(os.path.join(folder, "tls"))
        self.mon_port, self.http_port, self.https_port = (base.free_port() for _ in range(3))
        fsid = str(uuid.uuid4())
        conf = os.path.join(folder, "ceph.conf")
        with open(conf, "w") as f:
            f.write(CONF.format(fsid=fsid, d=folder, mon=self.mon_port, http=self.http_port, https=self.https_port,
                                bytes=memory, kms=" ".join(
                                    "%s=%s" % (name, base64.b64encode(os.urandom(32)).decode()) for name in self.kms_keys)))
        open(os.path.join(folder, "keyring"), "w").close()
        self.env = dict(os.environ, CEPH_CONF=conf)
        self._start(fsid)
        self.endpoint = "https://localhost:%d" % self.https_port
        self.upstream = "127.0.0.1:%d" % self.http_port

    def _run(self, *args, timeout=60):
        return subprocess.run(args, check=True, env=self.env, cwd=self.folder, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    def _daemon(self, name, *args):
        process = base.start(args, os.path.join(self.folder, "log", name + ".out"), env=self.env, cwd=self.folder)
        self.processes.append(process)
        return process

    def _start(self, fsid):
        try:
            self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", "[v1:127.0.0.1:%d]" % self.mon_port, "monmap")
            self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", "monmap")
            base.wait_port(self.mon_port, process=self._daemon("mon", "ceph-mon", "-f", "-i", "a"))
            self._run("ceph", "-s")
            osd = str(uuid.uuid4())
            self._run("ceph", "osd", "new", osd)
            self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
            self._start_osd()
            rgw = self._daemon("rgw", "radosgw", "-f", "-n", "client.rgw")
            base.wait_port(self.https_port, process=rgw, meanwhile=self._osd_again)
            self._run("radosgw-admin", "user", "create", "--uid=t", "--display-name=t",
                      "--access-key=" + self.access_key, "--secret-key=" + self.secret_key)
        except Exception:
            self.stop()
            raise

    def _start_osd(self):
        self.osd = self._daemon("osd", "ceph-osd", "-f", "-i", "0")

    def _osd_again(self):
        """An OSD whose first command is faster than the monitor's map ends with "wrong fsid", one start in four."""
        if self.osd.poll() is not None:
            self.processes.remove(self.osd)
            self._start_osd()

    def _last_words(self):
        """The end of each log, for a failure on a machine that nobody can look at."""
        words = []
        for name in sorted(os.listdir(os.path.join(self.folder, "log"))):
            with open(os.path.join(self.folder, "log", name), errors="replace") as log:
                words += ["%s: %s" % (name, line.rstrip()) for line in log.readlines()[-5:]]
        return "\n".join(words)

    def stop(self):
        for process in reversed(self.processes):
            base.stop(process)
