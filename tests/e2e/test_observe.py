# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""What a mount tells of itself: metrics in a strict reader's eyes, the audit log, the level of the log at run time."""
import contextlib
import errno
import http.client
import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import time

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness import CTL, TOP, Site, blob, fails, read_file, run, wait_for, write_file
from servers import base


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.unix_path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.unix_path)


def ask(connection, method="GET", path="/metrics"):
    with contextlib.closing(connection) as c:
        c.request(method, path)
        reply = c.getresponse()
        return reply.status, reply.getheader("Content-Type"), reply.read().decode()


def scrape(path):
    """{(sample, labels as a sorted tuple): value}, {family: type} of a socket, read strictly."""
    status, kind, text = ask(UnixConnection(path))
    assert status == 200 and kind.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    samples, families = {}, {}
    for family in text_string_to_metric_families(text):
        families[family.name] = family.type
        assert family.documentation, family.name
        for s in family.samples:
            key = s.name, tuple(sorted(s.labels.items()))
            assert key not in samples
            samples[key] = s.value
    return samples, families


def total(samples, name, **labels):
    return sum(v for (n, l), v in samples.items() if n == name and set(labels.items()) <= set(l))


def test_metrics(versity_store, mount, tmp_path):
    where = str(tmp_path / "metrics")
    site = Site(mount, versity_store, metrics="unix:" + where, cache_dir=str(tmp_path / "cache"))
    assert stat.S_ISSOCK(os.stat(where).st_mode) and stat.S_IMODE(os.stat(where).st_mode) == 0o600
    before, _ = scrape(where)
    versity_store.proxy.reset()
    data = blob(300000)
    write_file(site / "f", data)
    site.remount()
    assert read_file(site / "f") == data
    with fails(errno.ENOENT):
        os.stat(site / "none")
    samples, families = scrape(where)
    sent = sum(len(c) for c in [data])
    assert total(samples, "s3cryptfs_read_bytes_total") == sent
    assert total(samples, "s3cryptfs_store_received_bytes_total") >= 0
    assert total(samples, "s3cryptfs_operations_total", operation="lookup") > 0
    assert total(samples, "s3cryptfs_operations_total", operation="open", result="ok") == 1
    write_file(site / "g", data)
    later, _ = scrape(where)
    assert total(later, "s3cryptfs_written_bytes_total") == len(data)
    assert total(later, "s3cryptfs_store_requests_total", operation="put", result="ok") - total(
        samples, "s3cryptfs_store_requests_total", operation="put", result="ok") == 1
    assert total(later, "s3cryptfs_store_sent_bytes_total") - total(samples, "s3cryptfs_store_sent_bytes_total") == len(data) + 5 * 16
    assert total(later, "s3cryptfs_http_attempts_total", service="s3", status="2xx") > 0
    for family in ("operation_duration_seconds", "store_request_duration_seconds"):
        assert families["s3cryptfs_" + family] == "histogram"
        count = total(later, "s3cryptfs_%s_count" % family)
        assert count and total(later, "s3cryptfs_%s_bucket" % family, le="+Inf") == count
        assert 0 < total(later, "s3cryptfs_%s_sum" % family) < 600
    assert total(later, "s3cryptfs_mount_info", mode="cse-key", source=versity_store.source, mountpoint=site.path) == 1
    assert total(later, "s3cryptfs_memory_limit_bytes") == 256 << 20
    assert 1 << 20 < total(later, "s3cryptfs_resident_memory_bytes") < 1 << 32
    assert abs(total(later, "s3cryptfs_start_time_seconds") - time.time()) < 300
    assert total(later, "s3cryptfs_unsent_files") == 0 and total(later, "s3cryptfs_read_only") == 0
    # Counters only rise.
    for key, value in samples.items():
        if families.get(key[0][:-len("_total")] if key[0].endswith("_total") else "") == "counter":
            assert later[key] >= value, key
    # No name of a file is anywhere.
    assert "none" not in str([k for k in later if "path" in str(k)])
    status = json.loads(run(CTL, "status", site.path, "--json").stdout)
    assert status["counters"]["written_bytes"] == len(data) and status["log_level"] == "info"
    site.umount()
    assert not os.path.exists(where)


def test_metrics_of_trouble(versity_store, mount, tmp_path):
    """What has failed and waits is there, and what was altered is counted."""
    where = str(tmp_path / "metrics")
    site = Site(mount, versity_store, metrics="unix:" + where, timeout=4, retries=0)
    write_file(site / "f", blob(200000))
    site.remount()
    body = bytearray(versity_store.body_of("f"))
    body[100] ^= 1
    meta = versity_store.meta_of("f")
    versity_store.put("f", bytes(body), Metadata=meta)
    with fails(errno.EIO):
        read_file(site / "f")
    samples, _ = scrape(where)
    assert total(samples, "s3cryptfs_integrity_failures_total") >= 1
    assert total(samples, "s3cryptfs_log_messages_total", level="error") >= 1
    assert total(samples, "s3cryptfs_operations_total", operation="read", result="ok") == 0
    versity_store.proxy.fault("reset", method="PUT")
    with fails(errno.EIO, errno.ETIMEDOUT):
        write_file(site / "g", b"waits")
    samples, _ = scrape(where)
    assert total(samples, "s3cryptfs_unsent_files") == 1 and total(samples, "s3cryptfs_unsent_bytes") >= 5
    assert total(samples, "s3cryptfs_http_attempts_total", service="s3", status="none") >= 1
    assert total(samples, "s3cryptfs_store_requests_total", operation="put", result="connection") + total(
        samples, "s3cryptfs_store_requests_total", operation="put", result="timeout") >= 1
    versity_store.proxy.fault("off")


def test_metrics_kms(moto_store, mount, kms, tmp_path):
    where = str(tmp_path / "metrics")
    site = Site(mount, moto_store, metrics="unix:" + where, **kms.options(kms.new_key(), enc="cse-kms"))
    write_file(site / "f", b"data")
    samples, _ = scrape(where)
    assert total(samples, "s3cryptfs_kms_requests_total", operation="GenerateDataKey", result="ok") >= 1
    assert total(samples, "s3cryptfs_kms_request_duration_seconds_count", operation="GenerateDataKey") >= 1
    assert total(samples, "s3cryptfs_http_attempts_total", service="kms", status="2xx") >= 1


def test_metrics_port(file_store, mount, tmp_path):
    """On a loopback port; what is no GET of /metrics is refused; nothing else is listened at or taken away."""
    port = base.free_port()
    m = mount(file_store.source, metrics=str(port))

    def connection():
        return http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    status, kind, text = ask(connection())
    assert status == 200 and list(text_string_to_metric_families(text))
    assert ask(connection(), path="/")[0] == 404 and ask(connection(), path="/metrics/../x")[0] == 404
    assert ask(connection(), method="POST")[0] == 405 and ask(connection(), method="HEAD")[0] == 200
    with socket.create_connection(("127.0.0.1", port), 20) as nonsense:
        nonsense.sendall(b"\x00\xff" * 1000 + b"\r\n\r\n")
    hanging = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(20)]
    for s in hanging:
        s.close()
    wait_for(lambda: ask(connection())[0] == 200, what="an answer")
    other = tmp_path / "other"
    other.mkdir()
    status, text = mount("file://" + str(other), wait=False, metrics="localhost:%d" % port).fail()
    assert status == 1 and "cannot be listened at" in text and "in use" in text
    for place, words in (("0.0.0.0:9000", "this machine only"), ("10.0.0.1:9000", "this machine only"), ("[::]:9000", "this machine only"),
                         ("host:9000", "no address"), ("9000000", "no port"), ("unix:relative", "not absolute"), ("127.0.0.1", "no port")):
        status, text = mount("file://" + str(other), wait=False, metrics=place).fail()
        assert status == 2 and words in text and text.count("\n") == 1, (place, text)
    precious = tmp_path / "precious"
    write_file(precious, b"no socket")
    status, text = mount("file://" + str(other), wait=False, metrics="unix:" + str(precious)).fail()
    assert status == 1 and read_file(precious) == b"no socket"
    assert m.umount() == 0


def test_metrics_after_crash(file_store, mount, tmp_path):
    """The socket of a daemon that died is no hindrance; that of one that lives is."""
    where = str(tmp_path / "metrics")
    site = Site(mount, file_store, metrics="unix:" + where)
    other = tmp_path / "other"
    other.mkdir()
    assert mount("file://" + str(other), wait=False, metrics="unix:" + where).fail()[0] == 1
    scrape(where)
    site.m.kill()
    site.remount()
    scrape(where)


def test_dashboard(file_store, mount, tmp_path):
    """Each metric that the dashboard names exists, and its queries are of kinds that fit."""
    where = str(tmp_path / "metrics")
    site = Site(mount, file_store, metrics="unix:" + where)
    write_file(site / "f", b"x")
    _, families = scrape(where)
    with open(os.path.join(TOP, "contrib/grafana/s3cryptfs.json")) as f:
        dashboard = json.load(f)
    expressions = [t["expr"] for p in dashboard["panels"] for t in p.get("targets", [])]
    assert len(expressions) >= 10
    ids = [p["id"] for p in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    used = set()
    for expression in expressions:
        for name in re.findall(r"s3cryptfs_[a-z0-9_]+", expression):
            family = re.sub(r"_(total|bucket|count|sum|info)$", "", name)
            assert family in families, "%s: there is no %s" % (expression, name)
            kind = families[family]
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}.get(kind, (family,))
            assert name.endswith(ends), expression
            used.add(family)
    for family in ("s3cryptfs_operations", "s3cryptfs_unsent_bytes", "s3cryptfs_integrity_failures", "s3cryptfs_cache_hits", "s3cryptfs_kms_requests",
                   "s3cryptfs_journal_bytes", "s3cryptfs_resident_memory_bytes"):
        assert family in used


def lines_of(path):
    with open(path, "rb") as f:
        return [json.loads(line) for line in f]


def operations(path, *names):
    return [e for e in lines_of(path) if e["operation"] in names]


def test_audit(versity_store, mount, tmp_path, keyring):
    audit = str(tmp_path / "audit.log")
    site = Site(mount, versity_store, audit=audit, hardlinks="off")
    assert stat.S_IMODE(os.stat(audit).st_mode) == 0o600
    os.mkdir(site / "d")
    odd = b"d/\xff \"\n\x1b[31m"
    write_file(os.path.join(os.fsencode(site.path), odd), b"odd")
    write_file(site / "d/f", b"data" * 1000)
    site.remount()
    for _ in range(3):
        read_file(site / "d/f")
    with open(site / "d/f", "rb") as f:
        f.read(10)
        f.seek(3000)
        f.read(10)
    os.chmod(site / "d/f", 0o600)
    os.truncate(site / "d/f", 10)
    os.symlink("f", site / "d/l")
    os.rename(site / "d/f", site / "g")
    with fails(errno.EPERM):
        os.link(site / "g", site / "h")
    with fails(errno.ENOTEMPTY):
        os.rmdir(site / "d")
    os.unlink(site / "d/l")
    os.unlink(site / "g")
    site.umount()
    lines = lines_of(audit)
    for e in lines:
        assert {"time", "operation", "result", "uid", "gid", "pid"} <= set(e) and ("path" in e) != ("path_base64" in e)
        assert e["uid"] == os.getuid() and e["gid"] == os.getgid() and e["pid"] > 0
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", e["time"])
    reads = [e for e in lines if e["operation"] == "read"]
    # Once an open at most; what the kernel has in its cache it does not ask for again.
    assert 1 <= len(reads) <= 4 and all(e["path"] == "d/f" and e["key"] == keyring.key_id and e["pid"] == os.getpid() for e in reads), reads
    opens = [e for e in lines if e["operation"] == "open" and e.get("path") == "d/f"]
    assert len(opens) >= 4 and opens[-1]["access"] == "read" and opens[-1]["key"] == keyring.key_id
    made = [e for e in lines if e["operation"] == "create"]
    import base64
    assert base64.b64decode(made[0]["path_base64"]) == odd and made[0]["access"] == "write"
    expected = [("mkdir", "d", "ok"), ("setattr", "d/f", "ok"), ("truncate", "d/f", "ok"), ("symlink", "d/l", "ok"), ("rename", "d/f", "ok"),
                ("link", "h", "EPERM"), ("rmdir", "d", "ENOTEMPTY"), ("unlink", "d/l", "ok"), ("unlink", "g", "ok")]
    told = [(e["operation"], e.get("path"), e["result"]) for e in lines]
    at = 0
    for one in expected:
        assert one in told[at:], (one, told)
        at = told.index(one, at)
    assert next(e for e in lines if e["operation"] == "rename")["to"] == "g"
    raw = read_file(audit)
    assert b"\x1b" not in raw and b"\xff" not in raw


def test_audit_rotation(file_store, mount, tmp_path):
    audit = str(tmp_path / "audit.log")
    m = mount(file_store.source, audit=audit)
    os.mkdir(m / "before")
    wait_for(lambda: operations(audit, "mkdir"), what="a line")
    os.rename(audit, audit + ".1")
    m.process.send_signal(signal.SIGHUP)
    wait_for(lambda: os.path.exists(audit), what="the new file")
    os.mkdir(m / "after")
    wait_for(lambda: operations(audit, "mkdir"), what="a line")
    assert [e["path"] for e in operations(audit + ".1", "mkdir")] == ["before"]
    assert [e["path"] for e in operations(audit, "mkdir")] == ["after"]
    assert m.umount() == 0


def test_audit_rate(file_store, mount, tmp_path):
    """What comes too fast is dropped, counted and said; a flood costs the filesystem nothing."""
    audit = str(tmp_path / "audit.log")
    where = str(tmp_path / "metrics")
    m = mount(file_store.source, audit=audit, audit_rate=10, metrics="unix:" + where)
    os.mkdir(m / "d")
    write_file(m / "d/f", b"")
    for _ in range(300):
        with fails(errno.ENOTEMPTY):
            os.rmdir(m / "d")
    wait_for(lambda: operations(audit, "dropped"), what="the count")
    m.umount()
    told = lines_of(audit)
    dropped = sum(e.get("count", 0) for e in told)
    others = [e for e in told if e["operation"] != "dropped"]
    assert len(others) >= 100 and dropped > 50
    assert len([e for e in others if e["operation"] in ("mkdir", "create", "rmdir")]) + dropped == 302


def test_audit_full_disk(file_store, mount, tmp_path):
    """A disk that is full: operations go on, one line in the log, and a count when there is room again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk))
    except AssertionError as reason:
        pytest.skip("needs a tmpfs of its own: %s" % reason)
    try:
        audit = str(disk / "audit.log")
        where = str(tmp_path / "metrics")
        m = mount(file_store.source, audit=audit, audit_rate=0, metrics="unix:" + where)
        for i in range(900):
            os.mkdir(m / ("d%03d" % i))
        wait_for(lambda: "cannot be written" in m.text(), what="a line in the log")
        assert m.text().count("cannot be written") == 1
        assert len(os.listdir(m.path)) == 900
        lost = wait_for(lambda: total(scrape(where)[0], "s3cryptfs_audit_dropped_total"), what="the counter")
        assert lost > 100
        whole = read_file(audit)
        kept = whole[:whole.rindex(b"\n") + 1]
        os.truncate(audit, len(whole) // 2)
        os.mkdir(m / "again")
        wait_for(lambda: b'"again"' in read_file(audit), what="a line after there was room")
        assert m.umount() == 0
        assert "is written again" in m.text()
        good, bad = [], 0
        for line in read_file(audit).splitlines():
            try:
                good.append(json.loads(line))
            except ValueError:
                bad += 1
        assert bad <= 2  # where the disk was full, and where this test has cut
        assert sum(e.get("count", 0) for e in good if e["operation"] == "dropped") >= lost
        assert kept
    finally:
        run("umount", "-l", str(disk), check=False)


def test_audit_refused(file_store, mount, tmp_path):
    status, text = mount(file_store.source, wait=False, audit=str(tmp_path / "none" / "audit")).fail()
    assert status == 1 and "audit log" in text and "No such file" in text


def test_log_level(file_store, mount, tmp_path):
    """From quiet to loud and back, at run time."""
    site = Site(mount, file_store, log_level="warn")

    def ctl(*args, expect=0):
        result = run(CTL, "loglevel", site.path, *args, check=False)
        assert result.returncode == expect, result.stdout + result.stderr
        return (result.stdout + result.stderr).strip()
    assert ctl() == "warn"
    write_file(site / "quiet", b"x")
    assert " debug: " not in site.m.text()
    assert ctl("debug") == "debug, before: warn"
    write_file(site / "loud", b"x")
    os.stat(site / "loud")
    ctl("debug")
    assert " debug: " in site.m.text()
    ctl("error")
    length = len(site.m.text())
    write_file(site / "quiet again", b"x")
    assert len(site.m.text()) == length
    assert "no such level" in ctl("loudest", expect=1)
    assert ctl() == "error"
    ctl("a", "b", expect=2)


def watch(site, seconds, terminal, *args, **env):
    """What status --watch prints in so many seconds, and its exit status after SIGINT."""
    parent, child = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen([CTL, "status", site.path, "--watch", *args], stdout=child, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                               env=dict(os.environ, TERM="xterm", **env))
    os.close(child)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(parent, 65536):
            shown += piece
    os.close(parent)
    return shown.decode(), process.wait(20)


def test_watch(file_store, mount):
    """A live table on a terminal, colours only there and where they are wanted, lines elsewhere."""
    site = Site(mount, file_store)
    write_file(site / "f", b"data")
    shown, status = watch(site, 2.5, True)
    assert status == 0 and shown.count("not in the store") >= 2 and "\x1b[1m" in shown and "\x1b[32mnothing" in shown
    assert shown.rstrip().endswith("\x1b[?25h") and shown.count("\x1b[2J") == 1 and file_store.source in shown
    shown, status = watch(site, 1.5, True, NO_COLOR="1")
    assert status == 0 and "not in the store" in shown and "\x1b[H" in shown and not re.search("\x1b\\[[0-9]*m", shown)
    shown, status = watch(site, 2.5, False)
    lines = shown.splitlines()
    assert status == 0 and len(lines) in (2, 3, 4) and "\x1b" not in shown and all(line.startswith("unsent 0 files") for line in lines)
    shown, status = watch(site, 1.5, False, "--json")
    assert status == 0 and all(json.loads(line)["pid"] == site.m.process.pid for line in shown.splitlines())
    process = subprocess.Popen([CTL, "status", site.path, "--watch"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    site.umount()
    assert process.wait(20) == 1 and process.stderr.read().count("\n") == 1


def test_journal_levels(file_store, tmp_path, keyring):
    """Where standard error is the journal's stream, lines have levels and no stamp of their own; elsewhere they do not."""
    log = tmp_path / "stream"
    for right in (True, False):
        with open(log, "wb") as out:
            st = os.fstat(out.fileno())
            stream = "%d:%d" % (st.st_dev, st.st_ino if right else st.st_ino + 1)
            mountpoint = tmp_path / ("mnt-%d" % right)
            mountpoint.mkdir()
            process = subprocess.Popen([os.path.join(os.path.dirname(CTL), "s3cryptfs"), file_store.source, mountpoint, "-f", "-o",
                                        "keyring=%s,cache_dir=%s" % (keyring.path, tmp_path / "cache")], stderr=out,
                                       env=dict(os.environ, JOURNAL_STREAM=stream))
            wait_for(lambda: os.path.ismount(mountpoint), what="the mount")
            run("fusermount3", "-u", mountpoint)
            assert process.wait(60) == 0
        lines = read_file(log).decode().splitlines()
        assert len(lines) >= 2 and all(bool(re.match("<6>info: ", line)) == right for line in lines), lines
