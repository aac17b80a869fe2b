# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Mounts of radosgw whose credentials come from elsewhere and do not last: a fake
container endpoint, a program; what a rotation, a refusal and a dead endpoint do.
"""
import contextlib
import datetime
import http.server
import json
import os
import threading
import time
import uuid

import pytest

from harness import MARKER, Site, blob, read_file, wait_for, write_file

TOKEN = "Bearer of-the-pod"


def document(keys, seconds):
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return {"AccessKeyId": keys[0], "SecretAccessKey": keys[1], "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ")}


class Endpoint:
    """What the agent of a container platform does. keys, seconds and status are what it gives."""

    def __init__(self, keys, seconds):
        self.keys, self.seconds, self.status, self.asked = keys, seconds, 200, []
        self.hang = threading.Event()
        self.hang.set()
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                endpoint.asked.append(self.path)
                endpoint.hang.wait(30)
                good = self.headers.get("Authorization") == TOKEN
                body = json.dumps(document(endpoint.keys, endpoint.seconds)).encode()
                self.send_response(endpoint.status if good else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def env(self, tmp_path):
        token = tmp_path / "agent-token"
        token.write_text(TOKEN.split()[1] + "\n")
        return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:%d/v1/credentials" % self.server.server_port,
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": TOKEN, "AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none"}

    def close(self):
        self.hang.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def new_keys(rgw):
    """new_keys() -> (access key, secret) of the buckets' owner; remove(keys) ends them at once."""
    made = []

    def make():
        keys = ("K" + uuid.uuid4().hex[:15], "hush" + uuid.uuid4().hex)
        rgw._run("radosgw-admin", "key", "create", "--uid=t", "--key-type=s3", "--access-key=" + keys[0], "--secret-key=" + keys[1])
        made.append(keys)
        return keys

    def remove(keys):
        rgw._run("radosgw-admin", "key", "rm", "--uid=t", "--key-type=s3", "--access-key=" + keys[0])
        made.remove(keys)

    make.remove = remove
    yield make
    for keys in list(made):
        remove(keys)


@pytest.fixture
def endpoint(new_keys):
    made = Endpoint(new_keys(), 3600)
    yield made
    made.close()


@pytest.fixture
def store(rgw_store, endpoint, tmp_path):
    """Mounts of it have no keys but those of the endpoint."""
    rgw_store.env = endpoint.env(tmp_path)
    return rgw_store


def hidden(site, *keys):
    text = site.m.text()
    assert not any(secret in text for _, secret in keys) and TOKEN not in text


def test_rotation(store, mount, endpoint, new_keys):
    """Ahead of their end the keys are replaced while files are written; the old ones are gone then."""
    endpoint.seconds = 8
    first = endpoint.keys
    site = Site(mount, store)
    stop, problems, written = threading.Event(), [], []

    def work():
        n = 0
        while not stop.is_set():
            try:
                write_file(site / ("f%d" % n), MARKER + b"%d" % n)
                written.append(n)
            except OSError as e:
                problems.append(e)
            n += 1
            time.sleep(0.05)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(2):
            old, endpoint.keys = endpoint.keys, new_keys()
            asked = len(endpoint.asked)
            wait_for(lambda: len(endpoint.asked) > asked, 20, "another fetch")
            time.sleep(1)  # what was signed with the old ones has arrived
            new_keys.remove(old)
            done = len(written)
            wait_for(lambda: len(written) > done + 5, 20, "files written with the new keys")
    finally:
        stop.set()
        worker.join()
    assert not problems
    # One every few seconds, however many requests there were.
    assert len(endpoint.asked) < 20
    assert read_file(site / "f0") == MARKER + b"0"
    hidden(site, first, endpoint.keys)
    site.umount()
    assert len(store.keys()) == len(written)


def test_refused_at_once(store, mount, endpoint):
    """ExpiredToken long before the end: one fetch, the request is repeated, nobody notices."""
    site = Site(mount, store)
    assert len(endpoint.asked) == 1
    store.proxy.reset()
    store.proxy.fault("expired", method="PUT", times=1)
    write_file(site / "f", MARKER)
    assert store.proxy.counts().get("fault", 0) == 1
    store.proxy.fault("off")
    assert len(endpoint.asked) == 2
    assert read_file(site / "f") == MARKER
    write_file(site / "g", blob(300000, 1))
    assert len(endpoint.asked) == 2
    site.umount()


def test_endpoint_away(store, mount, endpoint):
    """While the endpoint fails the keys that are there serve; it is told once, and mended without a word of ours."""
    endpoint.seconds = 10
    site = Site(mount, store)
    endpoint.status = 500
    wait_for(lambda: len(endpoint.asked) >= 3, 20, "attempts to renew")
    for n in range(20):
        write_file(site / ("f%d" % n), MARKER)
        time.sleep(0.1)
    wait_for(lambda: "cannot be renewed, those that are there serve until" in site.m.text(), 20, "the warning")
    endpoint.status, endpoint.seconds = 200, 3600
    wait_for(lambda: "are renewed and serve until" in site.m.text(), 40, "new credentials")
    write_file(site / "g", MARKER)
    assert site.m.text().count("cannot be renewed, those") == 1
    assert "status 500" in site.m.text()
    hidden(site, endpoint.keys)
    site.umount()


def test_endpoint_hangs(store, mount, endpoint):
    """Requests go on while a fetch hangs, and so does the end of the mount."""
    endpoint.seconds = 8
    site = Site(mount, store)
    endpoint.hang.clear()
    wait_for(lambda: len(endpoint.asked) >= 2, 20, "a fetch that hangs")
    start = time.monotonic()
    write_file(site / "f", MARKER)
    site.umount()
    assert time.monotonic() - start < 5
    assert store.keys() == ["f"]


def test_mount_without(store, mount, endpoint):
    """One line that says what was looked at, or what is wrong with it."""
    env = dict(store.env, AWS_CONTAINER_AUTHORIZATION_TOKEN="wrong")
    status, text = mount(store.source, wait=False, **dict(store.options(), env=env)).fail()
    assert status == 1 and "the container's credentials endpoint" in text and "status 401" in text
    env = {"AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}
    status, text = mount(store.source, wait=False, **dict(store.options(), env=env)).fail()
    assert status == 1 and "no credentials found" in text and "(IMDS) does not answer" in text
    assert len(text.strip().splitlines()) == 1


def test_process(rgw_store, mount, new_keys, tmp_path):
    """A program of the profile, run again when the store says so; it gets no secret of ours."""
    keys = new_keys()
    program, runs, config = tmp_path / "give keys", tmp_path / "runs", tmp_path / "config"
    program.write_text("#!/bin/sh\necho \"$*\" >>%s\ncat %s\n" % (runs, tmp_path / "answer"))
    program.chmod(0o700)
    (tmp_path / "answer").write_text(json.dumps(dict(document(keys, 3600), Version=1)))
    config.write_text("[profile ours]\ncredential_process = \"%s\" --for 'the mount'\n" % program)
    rgw_store.env = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": "/none"}
    site = Site(mount, rgw_store, profile="ours")
    write_file(site / "f", MARKER)
    assert runs.read_text() == "--for the mount\n"
    rgw_store.proxy.fault("expired", method="PUT", times=1)
    write_file(site / "g", MARKER)
    rgw_store.proxy.fault("off")
    assert runs.read_text() == "--for the mount\n" * 2
    hidden(site, keys)
    site.umount()
    program.write_text("#!/bin/sh\necho please log in >&2\nexit 3\n")
    status, text = mount(rgw_store.source, wait=False, **rgw_store.options(profile="ours")).fail()
    assert status == 1 and "failed with status 3: please log in" in text
    assert os.path.exists(program)
