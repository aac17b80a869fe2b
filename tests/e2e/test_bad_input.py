# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
What cannot work fails in the foreground: a status that is not 0, one line that
tells cause and remedy, and nothing left behind: no mount, no object, no folder.
"""
import os
import re
import subprocess

import pytest

from harness import CTL, MARKER, PROGRAM, Keyring, find_bytes, read_file, run, wait_for, write_file
from servers import base


class Attempt:
    """Mounts that are expected to be refused."""

    def __init__(self, folder, keyring):
        self.folder, self.keyring = folder, keyring
        self.mnt, self.cache = str(folder / "mnt"), str(folder / "cache")
        os.makedirs(self.mnt, exist_ok=True)

    def run(self, source, foreground=True, env=None, mnt=None, **options):
        options.setdefault("keyring", self.keyring.path)
        options.setdefault("cache_dir", self.cache)
        words = [k if v is True else "%s=%s" % (k, str(v).replace(",", "\\,")) for k, v in options.items() if v is not None]
        env = dict(os.environ, **(env or {}))
        env.setdefault("HOME", str(self.folder))
        args = [PROGRAM, source, mnt or self.mnt] + (["-f"] if foreground else []) + ["-o", ",".join(words)]
        return subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=env, timeout=90)

    def refused(self, source, *words, status=None, **options):
        """Each of words is a regular expression that the line has to match."""
        before = os.path.exists(self.cache)
        result = self.run(source, **options)
        line = result.stderr
        assert not os.path.ismount(self.mnt), line
        assert result.returncode != 0 and (status is None or result.returncode == status), (result.returncode, line)
        assert result.stdout == "" and line.count("\n") == 1 and line.endswith("\n"), line
        assert line.startswith("s3cryptfs: "), line
        for word in words:
            assert re.search(word, line, re.I), "%r is not in: %s" % (word, line)
        assert os.path.exists(self.cache) == before, "cache_dir was left or removed"
        assert "testsecret" not in line
        return line


@pytest.fixture
def attempt(tmp_path, keyring):
    return Attempt(tmp_path, keyring)


def state_of(folder):
    """Every file below a folder with its content and times."""
    return {os.path.join(d, n): (read_file(os.path.join(d, n)), os.stat(os.path.join(d, n)).st_mtime_ns)
            for d, _, names in os.walk(folder) for n in names if os.path.isfile(os.path.join(d, n))}


both_forms = pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "background"])


@pytest.fixture
def untouched(file_store):
    """The folder store is as it was afterwards."""
    before = state_of(file_store.folder)
    yield file_store
    after = state_of(file_store.folder)
    assert after == before
    assert set(os.listdir(file_store.folder)) <= {".s3cryptfs-tmp", ".s3cryptfs-meta"} or before


@both_forms
def test_no_keyring(attempt, untouched, tmp_path, foreground):
    attempt.refused(untouched.source, "keyring", "s3cryptfsctl key new", str(tmp_path / "none"), foreground=foreground,
                    keyring=str(tmp_path / "none"))


def test_no_keyring_at_the_default_place(attempt, untouched):
    if os.path.exists("/etc/s3cryptfs/keyring"):
        pytest.skip("this machine has /etc/s3cryptfs/keyring")
    attempt.refused(untouched.source, "keyring", "s3cryptfsctl key new", keyring=None)


@both_forms
def test_keyring_of_others(attempt, untouched, keyring, foreground):
    os.chmod(keyring.path, 0o640)
    attempt.refused(untouched.source, "chmod|0600", re.escape(keyring.path), foreground=foreground)


@pytest.mark.parametrize("text,words", [
    ("", ["key"]), ("nonsense\n", ["line"]), ("[a]\nsecret = !!!\nstate = active\n", ["secret|base64"]),
    ("[a]\nsecret = AAAA\nstate = active\n", ["bytes|length"]),
    ("[a]\nsecret = %s\n", ["active"]),
    ("[a]\nsecret = %s\nstate = active\n[b]\nsecret = %s\nstate = active\n", ["active"]),
    ("[a]\nsecret = %s\nstate = active\ncolour = blue\n", ["colour"]),
])
def test_damaged_keyring(attempt, untouched, tmp_path, text, words):
    path = tmp_path / "damaged"
    path.write_text(text.replace("%s", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
    path.chmod(0o600)
    line = attempt.refused(untouched.source, *words, keyring=str(path))
    assert "AAECAwQ" not in line


@both_forms
def test_wrong_key(attempt, file_store, mount, tmp_path, foreground):
    m = mount(file_store.source)
    write_file(m / "f", MARKER)
    m.umount()
    before = state_of(file_store.folder)
    for key_id in ("test-key", "other-key"):
        other = Keyring(str(tmp_path / ("wrong-" + key_id)), key_id)
        attempt.refused(file_store.source, "key", "keyring", foreground=foreground, keyring=other.path)
    assert state_of(file_store.folder) == before


def test_wrong_key_of_ssec(attempt, rgw_store, mount, tmp_path):
    m = mount(rgw_store.source, **rgw_store.options(enc="sse-c"))
    write_file(m / "f", MARKER)
    m.umount()
    before = sorted(rgw_store.all_keys())
    other = Keyring(str(tmp_path / "wrong"))
    attempt.refused(rgw_store.source, "key", **rgw_store.options(enc="sse-c", keyring=other.path))
    assert sorted(rgw_store.all_keys()) == before


@both_forms
def test_unreachable_endpoint(attempt, foreground):
    port = base.free_port()
    attempt.refused("s3://some-bucket", "localhost:%d" % port, "endpoint|reach|connect", foreground=foreground,
                    endpoint="https://localhost:%d" % port, region="us-east-1", timeout=5,
                    env={"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})


def test_unknown_host(attempt):
    attempt.refused("s3://some-bucket", "no-such-host.invalid", endpoint="https://no-such-host.invalid", region="us-east-1",
                    timeout=5, env={"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})


def bucket_refused(attempt, store, *words, source=None, **options):
    """On a server: the bucket must stay as it was."""
    before = store.all_keys()
    line = attempt.refused(source or store.source, *words, **store.options(**options))
    assert store.all_keys() == before
    assert store.uploads() == []
    return line


def test_wrong_region(attempt, versity_store, mount):
    """A server that tells the right one is believed, and it is said; otherwise the mount is refused."""
    before = versity_store.all_keys()
    m = mount(versity_store.source, wait=False, **versity_store.options(region="eu-north-7"))
    wait_for(lambda: m.process.poll() is not None or os.path.ismount(m.path), 60, "an answer")
    assert re.search("region.*eu-north-7", m.text()), m.text()
    if m.process.poll() is None:
        write_file(m / "f", MARKER)
        assert "us-east-1" in m.text() and versity_store.keys() == ["f"]
    else:
        m.ended = True
        assert m.process.returncode != 0 and versity_store.all_keys() == before


@both_forms
def test_wrong_secret(attempt, rgw_store, foreground):
    bucket_refused(attempt, rgw_store, "AWS_SECRET_ACCESS_KEY|credential|secret", foreground=foreground,
                   env={"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "wrong"})


def test_unknown_access_key(attempt, rgw_store):
    bucket_refused(attempt, rgw_store, "AWS_ACCESS_KEY_ID|credential|access key",
                   env={"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "wrong"})


def test_no_credentials(attempt, rgw_store):
    bucket_refused(attempt, rgw_store, "credentials", "AWS_ACCESS_KEY_ID|profile",
                   env={"AWS_EC2_METADATA_DISABLED": "true", "HOME": attempt.mnt})


@both_forms
def test_missing_bucket(attempt, rgw_store, foreground):
    bucket_refused(attempt, rgw_store, "bucket", "no-such-bucket-77", source="s3://no-such-bucket-77", foreground=foreground)


@both_forms
def test_untrusted_certificate(attempt, rgw_store, foreground):
    bucket_refused(attempt, rgw_store, "certificate", "ca_file", foreground=foreground, ca_file=None)


def test_plain_http(attempt, rgw_store):
    plain = rgw_store.proxy.http_endpoint
    bucket_refused(attempt, rgw_store, "allow_http", endpoint=plain)
    for more in ({}, {"allow_http": True}):
        bucket_refused(attempt, rgw_store, "sse-c", "https", endpoint=plain, enc="sse-c", **more)


def test_ssec_that_is_not_done(attempt, versity_store):
    """A store that takes the headers and does not encrypt is noticed."""
    line = bucket_refused(attempt, versity_store, "sse-c|SSE-C", enc="sse-c")
    assert "encrypt" in line or "ignore" in line or "not" in line
    assert not find_bytes(MARKER, str(attempt.folder))


@both_forms
def test_unknown_option(attempt, untouched, foreground):
    attempt.refused(untouched.source, "cach_size", "cache_size", status=2, foreground=foreground, cach_size="1G")


@pytest.mark.parametrize("options,words", [
    ({"enc": "rot13"}, ["enc", "rot13", "cse-key"]),
    ({"enc": "sse-kms"}, ["sse-kms"]),
    ({"memory": "lots"}, ["memory"]),
    ({"memory": "1M"}, ["memory"]),
    ({"ttl": "-5"}, ["ttl"]),
    ({"timeout": ""}, ["timeout"]),
    ({"volume_id": "xyz"}, ["volume_id"]),
    ({"ro": "yes"}, ["ro"]),
    ({"log": "/no/such/folder/log"}, ["log"]),
    ({"config": "/no/such/file"}, ["config", "/no/such/file"]),
    ({"writeback": True, "commit": "fsync"}, ["writeback", "commit=fsync"]),
    ({"names": "encrypted", "accept": "plain"}, ["names"]),
    ({"names": "encrypted", "enc": "none"}, ["names", "enc=none"]),
])
def test_bad_options(attempt, untouched, options, words):
    attempt.refused(untouched.source, *words, **options)


@pytest.mark.parametrize("source", ["", "s3://", "ftp://x/y", "file://relative", "s3:///prefix", "file:///no/such/store/folder"])
def test_bad_sources(attempt, source):
    result = attempt.run(source)
    assert result.returncode != 0 and result.stderr.count("\n") == 1, result.stderr
    assert not os.path.exists("/no/such") and not os.path.exists(attempt.cache)


@both_forms
def test_mountpoint_missing(attempt, untouched, tmp_path, foreground):
    attempt.refused(untouched.source, re.escape(str(tmp_path / "nowhere")), "mkdir|exist|no such", mnt=str(tmp_path / "nowhere"),
                    foreground=foreground)
    assert not os.path.exists(tmp_path / "nowhere")


@both_forms
def test_mountpoint_not_empty(attempt, untouched, foreground):
    write_file(os.path.join(attempt.mnt, "file"), b"x")
    attempt.refused(untouched.source, "empty", foreground=foreground)
    assert read_file(os.path.join(attempt.mnt, "file")) == b"x"


def test_mountpoint_is_a_file(attempt, untouched, tmp_path):
    write_file(tmp_path / "plain", b"x")
    attempt.refused(untouched.source, "director|folder", mnt=str(tmp_path / "plain"))


def test_mountpoint_in_use(attempt, file_store, mount):
    m = mount(file_store.source)
    line = attempt.refused(file_store.source, re.escape(m.path), mnt=m.path)
    assert "empty" in line or "mounted" in line
    assert os.path.ismount(m.path)
    write_file(m / "f", b"still works")


@both_forms
def test_another_volume_than_the_pinned_one(attempt, file_store, mount, tmp_path, foreground):
    """The state folder knows the volume of this store; someone put another one there."""
    state = tmp_path / "state"
    m = mount(file_store.source, state_dir=str(state))
    write_file(m / "f", MARKER)
    m.umount()
    for path in file_store.paths().values():
        os.unlink(path)
    run(CTL, "init", "-o", "keyring=%s,state_dir=%s" % (attempt.keyring.path, tmp_path / "elsewhere"), file_store.source)
    before = state_of(file_store.folder)
    attempt.refused(file_store.source, "volume", "knows|pinned|replaced", "state_dir|volume_id", state_dir=str(state),
                    foreground=foreground)
    assert state_of(file_store.folder) == before and state.exists()


def test_volume_id(attempt, file_store, tmp_path, keyring):
    run(CTL, "init", "-o", "keyring=%s,cache_dir=%s" % (keyring.path, tmp_path / "of-init"), file_store.source)
    before = state_of(file_store.folder)
    attempt.refused(file_store.source, "volume", "volume_id|" + file_store.volume(keyring).id.hex(), volume_id="0" * 32)
    assert state_of(file_store.folder) == before


def test_older_volume_object(attempt, file_store, mount, tmp_path, keyring):
    """A volume object that was put back to an older serial, or that was changed."""
    run(CTL, "init", "-o", "keyring=%s,cache_dir=%s" % (keyring.path, tmp_path / "of-init"), file_store.source)
    path = file_store.paths()[".s3cryptfs/volume"]
    body = read_file(path)
    for damaged in (body.replace(b'"serial": 1', b'"serial": 2').replace(b'"serial":1', b'"serial":2'), body[:-10], b"", body[:100],
                    body.replace(b"hmac-sha256", b"hmac-sha257"), b"{}\n" + body):
        assert damaged != body
        file_store.set_body(".s3cryptfs/volume", damaged)
        attempt.refused(file_store.source, "volume")
    file_store.set_body(".s3cryptfs/volume", body)
    m = mount(file_store.source)
    write_file(m / "f", b"x")


def test_other_family(attempt, file_store, rgw_store, mount, tmp_path, keyring):
    run(CTL, "init", "-o", "keyring=%s,cache_dir=%s" % (keyring.path, tmp_path / "of-init"), file_store.source)
    attempt.refused(file_store.source, "enc=cse-key|cse|client-side", enc="none")
    m = mount(rgw_store.source, **rgw_store.options())
    write_file(m / "f", b"x")
    m.umount()
    for enc in ("none", "sse-c"):
        bucket_refused(attempt, rgw_store, "cse|volume", enc=enc)


def test_prefix_with_objects_of_others(attempt, rgw_store):
    """No volume is made where objects lie already, unless init says so."""
    rgw_store.put("theirs", b"x")
    bucket_refused(attempt, rgw_store, "init", "volume")


def test_read_only_without_volume(attempt, untouched):
    attempt.refused(untouched.source, "volume", "init|read", ro=True)


def test_read_denied(attempt, rgw_store):
    """A bucket that may not be listed or read."""
    rgw_store.proxy.fault("denied")
    bucket_refused(attempt, rgw_store, "denied|permission|allowed")


def test_write_denied(attempt, rgw_store):
    """Writing is tried before the mount is reported as good."""
    rgw_store.proxy.fault("denied", method="PUT")
    bucket_refused(attempt, rgw_store, "denied|permission|allowed|write")


def test_usage(tmp_path):
    for args in ([], ["s3://x"], ["s3://x", str(tmp_path), "more"], ["--nonsense"], ["s3://x", str(tmp_path), "-o"]):
        result = run(PROGRAM, *args, check=False)
        assert result.returncode == 2 and "usage" in result.stderr, (args, result.stderr)
