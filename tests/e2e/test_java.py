# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
The Amazon S3 Encryption Client for Java, on moto, in both directions: it reads what a mount writes
with format=s3ec-v2 and s3ec-v3, and a mount with accept=s3ec reads what it writes; under AES, RSA and KMS keys.

It runs where java, javac and mvn are. The client is had by Maven once, into a cache folder; that
takes about a minute, and so is done with --long only.
"""
import base64
import errno
import hashlib
import os
import random
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from harness import CTL, Site, blob, fails, read_file, run, write_file

pytest.importorskip("servers.moto", reason="the server that it needs, moto, is not among the tests' servers")

HERE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "java")
MIB = 1 << 20
SIZES = [0, 1, 64 << 10, 5 * MIB + 1]
LARGE = 20 * MIB + 3


def build(folder):
    """Client, what it needs, and our program in folder; complete or not there."""
    made = folder + ".new-%d" % os.getpid()
    shutil.rmtree(made, ignore_errors=True)
    os.makedirs(os.path.join(made, "lib"))
    got = run("mvn", "-B", "-q", "-f", os.path.join(HERE, "pom.xml"), "dependency:copy-dependencies",
              "-DoutputDirectory=" + os.path.join(made, "lib"), check=False, timeout=900)
    if got.returncode and "resolve" in got.stdout + got.stderr:
        pytest.skip("Maven cannot get the Amazon S3 Encryption Client: " + (got.stdout + got.stderr)[-300:])
    assert got.returncode == 0, got.stdout + got.stderr
    run("javac", "-d", os.path.join(made, "classes"), "-cp", os.path.join(made, "lib", "*"),
        os.path.join(HERE, "S3ecTool.java"))
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(made, folder)


@pytest.fixture(scope="session")
def tool_folder(request):
    for program in ("java", "javac", "mvn"):
        if not shutil.which(program):
            pytest.skip("%s is not installed (Debian: default-jdk-headless maven)" % program)
    digest = hashlib.sha256(b"".join(read_file(os.path.join(HERE, name)) for name in ("pom.xml", "S3ecTool.java")))
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(cache, "s3cryptfs-tests", "s3ec-java-" + digest.hexdigest()[:16])
    if not os.path.isdir(folder):
        if not request.config.getoption("--long"):
            pytest.skip("the Amazon S3 Encryption Client for Java is not there yet: once with --long")
        build(folder)
    return folder


class Java:
    def __init__(self, folder, server, log):
        words = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx1g", "-cp",
                 "%s/classes:%s/lib/*" % (folder, folder), "S3ecTool", server.endpoint, server.access_key, server.secret_key]
        with open(log, "wb") as out:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True)
        self.log = log

    def ask(self, *words):
        """What it answers: None when all is well."""
        self.process.stdin.write("\t".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().rstrip("\n")
        assert answer, read_file(self.log).decode(errors="replace")
        return None if answer == "ok" else answer

    def do(self, *words):
        answer = self.ask(*words)
        assert answer is None, "%s: %s" % (words[:4], answer)

    def stop(self):
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def java(tool_folder, moto, tmp_path_factory):
    tool = Java(tool_folder, moto, str(tmp_path_factory.mktemp("java") / "log"))
    yield tool
    tool.stop()


def b64(data):
    return base64.b64encode(data).decode()


class RsaKey:
    """One that is in the keyring as well."""

    def __init__(self, keyring, folder, key_id="their-rsa"):
        key = rsa.generate_private_key(65537, 2048)
        self.pkcs8 = b64(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        pem = os.path.join(folder, key_id + ".pem")
        write_file(pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        os.chmod(pem, 0o600)
        with open(keyring.path, "a") as f:
            f.write("\n[%s]\nrsa_private_key = %s\ndesc.kind = rsa\n" % (key_id, pem))


def check_reads(path, content):
    """Whole, and from the middle."""
    rng = random.Random(path)
    assert os.stat(path).st_size == len(content)
    with open(path, "rb", buffering=0) as f:
        for at in (rng.randrange(len(content)) for _ in range(3) if content):
            assert os.pread(f.fileno(), 4097, at) == content[at:at + 4097]
    assert read_file(path) == content


@pytest.mark.parametrize("version", [2, 3])
def test_java_writes(version, java, moto_store, mount, keyring, tmp_path):
    key = RsaKey(keyring, str(tmp_path))
    java.do("client", "aes", version, "aes", b64(keyring.secret()))
    java.do("client", "parts", version, "aes", b64(keyring.secret()), "multipart")
    java.do("client", "rsa", version, "rsa", key.pkcs8, "desc", "kind", "rsa")
    java.do("client", "file", version, "aes", b64(keyring.secret()), "instruction")
    files, source = {}, str(tmp_path / "source")
    for client, size in [(c, n) for c in ("aes", "rsa") for n in SIZES] + [("parts", LARGE), ("file", 70001)]:
        name = "%s-%d" % (client, size)
        files[name] = blob(size, name)
        write_file(source, files[name])
        java.do("put", client, moto_store.bucket, name, source)
    assert "-" in moto_store.head("parts-%d" % LARGE)["ETag"]
    assert "file-70001.instruction" in moto_store.keys()
    for name in files:
        meta = moto_store.meta_of(name)
        assert bool(meta.get("x-amz-key-v2")) == (version == 2 and not name.startswith("file"))
        assert bool(meta.get("x-amz-c")) == (version == 3)
    m = mount(moto_store.source, ro=True, accept="s3ec", **moto_store.options())
    assert sorted(os.listdir(m.path)) == sorted(files)
    for name, content in files.items():
        check_reads(m / name, content)


@pytest.mark.parametrize("version", [2, 3])
def test_java_reads(version, java, moto_store, mount, keyring, tmp_path):
    with open(keyring.path, "a") as f:
        f.write("desc.team = storage\ndesc.place = here\n")
    java.do("client", "good", version, "aes", b64(keyring.secret()), "desc", "place", "here", "desc", "team", "storage")
    java.do("client", "other", version, "aes", b64(os.urandom(32)), "desc", "place", "here", "desc", "team", "storage")
    site = Site(mount, moto_store, keyring=keyring.path, format="s3ec-v%d" % version)
    files = {"f%d" % n: bytearray(blob(n, n)) for n in SIZES + [LARGE]}
    for name, content in files.items():
        write_file(site / name, content)
    # What was changed, renamed and given attributes is as good as what was written at once.
    with open(site / ("f%d" % LARGE), "r+b") as f:
        f.seek(9 * MIB)
        f.write(b"changed")
    files["f%d" % LARGE][9 * MIB:9 * MIB + 7] = b"changed"
    os.rename(site / "f1", site / "renamed")
    files["renamed"] = files.pop("f1")
    os.chmod(site / "renamed", 0o600)
    target = str(tmp_path / "target")
    for name, content in files.items():
        if os.path.exists(target):
            os.unlink(target)
        java.do("get", "good", moto_store.bucket, name, target)
        assert read_file(target) == content, name
    assert "-" in moto_store.head("f%d" % LARGE)["ETag"]  # in parts
    os.unlink(target)
    assert "error" in java.ask("get", "other", moto_store.bucket, "renamed", target)
    # Its own version of a file of ours has no seal.
    write_file(target, b"theirs")
    java.do("put", "good", moto_store.bucket, "f0", target)
    site.remount()
    with fails(errno.EIO):
        read_file(site / "f0")
    site.remount(accept="sealed:s3ec")
    assert read_file(site / "f0") == b"theirs"
    with open(site / "f0", "ab") as f:
        f.write(b" and ours")
    os.unlink(target)
    java.do("get", "good", moto_store.bucket, "f0", target)
    assert read_file(target) == b"theirs and ours"
    site.umount()


CONTEXT = {"team": "storage", "place": "here"}
WORDS = [w for pair in CONTEXT.items() for w in ("desc", *pair)]
PAIRS = ";".join("%s=%s" % pair for pair in CONTEXT.items())


@pytest.mark.parametrize("version", [2, 3])
def test_java_writes_kms(version, java, moto_store, mount, kms, tmp_path):
    """Objects of a KMS keyring, with an encryption context; of another context or key they are refused."""
    arn, other = kms.new_key(), kms.new_key()
    java.do("client", "kms", version, "kms", arn, *WORDS)
    java.do("client", "parts", version, "kms", arn, "multipart", *WORDS)
    java.do("client", "other-key", version, "kms", other, *WORDS)
    java.do("client", "other-context", version, "kms", arn, "desc", "team", "sales")
    files, source = {}, str(tmp_path / "source")
    for client, size in [("kms", n) for n in SIZES] + [("parts", LARGE), ("other-key", 5), ("other-context", 5)]:
        name = "%s-%d" % (client, size)
        files[name] = blob(size, name)
        write_file(source, files[name])
        java.do("put", client, moto_store.bucket, name, source)
        meta = moto_store.meta_of(name)
        assert meta["x-amz-wrap-alg" if version == 2 else "x-amz-w"] == ("kms+context" if version == 2 else "12")
    options = moto_store.options(enc="cse-kms", accept="s3ec", ro=True, **kms.options(arn, keyring=None, kms_context=PAIRS))
    m = mount(moto_store.source, **options)
    assert sorted(os.listdir(m.path)) == sorted(files)
    for name in ("other-key-5", "other-context-5"):
        files.pop(name)
        with fails(errno.EACCES, errno.EIO):
            read_file(m / name)
    for name, content in files.items():
        check_reads(m / name, content)


@pytest.mark.parametrize("version", [2, 3])
def test_java_reads_kms(version, java, moto_store, mount, kms, tmp_path):
    """What a mount with enc=cse-kms writes, also after a change, a rename and a rekey to another KMS key."""
    arn, second = kms.new_key(), kms.new_key()
    java.do("client", "good", version, "kms", arn, *WORDS)
    java.do("client", "second", version, "kms", second, *WORDS)
    java.do("client", "bad-context", version, "kms", arn, "desc", "team", "sales")
    options = dict(enc="cse-kms", format="s3ec-v%d" % version, **kms.options(arn, keyring=None, kms_context=PAIRS))
    site = Site(mount, moto_store, **options)
    files = {"f%d" % n: bytearray(blob(n, n)) for n in SIZES + [LARGE]}
    for name, content in files.items():
        write_file(site / name, content)
    with open(site / ("f%d" % LARGE), "r+b") as f:
        f.seek(9 * MIB)
        f.write(b"changed")
    files["f%d" % LARGE][9 * MIB:9 * MIB + 7] = b"changed"
    os.rename(site / "f1", site / "renamed")
    files["renamed"] = files.pop("f1")
    os.chmod(site / "renamed", 0o600)
    target = str(tmp_path / "target")

    def check(client):
        for name, content in files.items():
            if os.path.exists(target):
                os.unlink(target)
            java.do("get", client, moto_store.bucket, name, target)
            assert read_file(target) == content, name
        os.unlink(target)

    check("good")
    for client in ("second", "bad-context"):
        assert "error" in java.ask("get", client, moto_store.bucket, "renamed", target)
    site.umount()
    rekey = dict(options, kms_key_id=second, kms_read_keys=arn, **moto_store.options())
    env = dict(os.environ, **rekey.pop("env"))
    words = ",".join("%s=%s" % pair for pair in rekey.items() if pair[1] is not None)
    run(CTL, "rekey", "-o", words, moto_store.source, env=env)
    check("second")
    # And there and back: its version of a file, continued by us.
    write_file(target, b"theirs")
    java.do("put", "second", moto_store.bucket, "renamed", target)
    site.remount(accept="sealed:s3ec", kms_key_id=second)
    with open(site / "renamed", "ab") as f:
        f.write(b" and ours")
    files["renamed"] = b"theirs and ours"
    check("second")


def test_java_refuses_the_other_format(java, moto_store, mount, keyring, tmp_path):
    """What no client of this kind knows it does not take for something else."""
    java.do("client", "aes", 2, "aes", b64(keyring.secret()))
    site = Site(mount, moto_store, keyring=keyring.path)
    write_file(site / "f", b"chunks")
    site.umount()
    assert "error" in java.ask("get", "aes", moto_store.bucket, "f", str(tmp_path / "target"))
