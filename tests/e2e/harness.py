# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""What tests are written with: a keyring, a bucket with an independent client, a folder store, a mount."""
import contextlib
import errno
import hashlib
import os
import random
import re
import signal
import subprocess
import time
import uuid

import boto3
from botocore.config import Config

import decoder
import s3ec_client

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("S3CRYPTFS_BUILD", os.path.join(TOP, "build"))
PROGRAM = os.path.join(BUILD, "s3cryptfs")
CTL = os.path.join(BUILD, "s3cryptfsctl")


def run(*args, check=True, **kw):
    """Runs a program, its output captured as text."""
    kw.setdefault("timeout", 300)
    result = subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
    if check and result.returncode:
        raise AssertionError("%s: exit %d\n%s%s" % (args, result.returncode, result.stdout, result.stderr))
    return result


def wait_for(condition, seconds=30, what="condition"):
    """Waits until condition() is true; its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "%s: not within %g s" % (what, seconds)
        time.sleep(0.02)


@contextlib.contextmanager
def fails(*codes):
    """The body raises an OSError with one of these error numbers."""
    names = [errno.errorcode[c] for c in codes]
    try:
        yield
    except OSError as e:
        assert e.errno in codes, "%s instead of %s" % (errno.errorcode.get(e.errno, e.errno), names)
    else:
        raise AssertionError("no error instead of %s" % names)


def blob(size, seed=0):
    """Bytes that do not repeat, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def read_file(path):
    with open(path, "rb") as f:
        return f.read()


def write_file(path, data, mode="wb"):
    with open(path, mode) as f:
        f.write(data)


def sha256_file(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def drop_caches():
    """What the kernel has of files; quiet where that is not allowed."""
    with contextlib.suppress(OSError), open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


class Keyring:
    """A keyring file made by s3cryptfsctl."""

    def __init__(self, path, key_id="test-key"):
        self.path, self.key_id = path, key_id
        run(CTL, "key", "new", "-o", "keyring=" + path, key_id)

    def secret(self):
        import base64
        import configparser
        ini = configparser.ConfigParser(interpolation=None)
        ini.read(self.path)
        return base64.b64decode(ini[self.key_id]["secret"])

    def add_shared(self, key_id="shared-key"):
        """Adds a key that is sent to the store as it is; its secret."""
        import base64
        secret = os.urandom(32)
        with open(self.path, "a") as f:
            f.write("\n[%s]\nsecret = %s\nuse = sse-c\n" % (key_id, base64.b64encode(secret).decode()))
        return secret


class Decoding:
    """What both kinds of store have for the decoder: objects() -> (key, metadata, body) of each, body_of(key)."""

    @staticmethod
    def _keys(keyring):
        """Secrets by id, and who asks a KMS: keyring is a Keyring or a Kms."""
        if isinstance(keyring, Kms):
            return {}, {}, keyring.decrypt
        ring = decoder.Keyring(keyring.path)
        return ring.secrets, ring.ssec, None

    def volume(self, keyring, prefix=""):
        secrets, ssec, ask = self._keys(keyring)
        return decoder.Volume(self.body_of(prefix + ".s3cryptfs/volume"), dict(secrets, **ssec), ask)

    def decode(self, keyring, key, prefix=""):
        """One object, verified."""
        meta, body = self.meta_of(key), self.body_of(key)
        secrets, _, ask = self._keys(keyring)
        return decoder.Object(self.volume(keyring, prefix), secrets, key[len(prefix):], meta, body, ask)

    def follow(self, keyring, key, prefix=""):
        """Likewise; of one of several names of a file the object that has its content."""
        found = self.decode(keyring, key, prefix)
        return self.decode(keyring, prefix + found.body_key, prefix) if found.layout == decoder.REFERENCE else found

    def decode_all(self, keyring, prefix=""):
        """Verifies each object wholly: {relative key: decoder.Object}. No two may share what has to be unique."""
        volume, (secrets, _, ask), found, salts = self.volume(keyring, prefix), self._keys(keyring), {}, set()
        for key in self.keys(prefix):
            o = decoder.Object(volume, secrets, key[len(prefix):], self.meta_of(key), self.body_of(key), ask)
            for _ in o.segments():
                pass
            found[o.key] = o
            for salt in o.salts:
                assert salt == decoder.HOLE or salt not in salts, "salt used twice"
                salts.add(salt)
        return found


class FileStore(Decoding):
    """A folder store, looked at with ordinary tools: bodies are files, the metadata an xattr of them."""

    XATTR = "user.s3cryptfs"
    MAGIC = b"s3cryptfs-object 1\n"

    def __init__(self, folder):
        self.folder = folder
        self.source = "file://" + folder
        self.known = {}

    def options(self, **more):
        return more

    def paths(self):
        """{key: path} of every object."""
        found = {}
        for folder, dirs, files in os.walk(self.folder):
            if folder == self.folder:
                dirs[:] = [d for d in dirs if d not in (".s3cryptfs-tmp", ".s3cryptfs-meta")]
            for name in files:
                path = os.path.join(folder, name)
                key, joined = "", True
                for part in os.path.relpath(path, self.folder).split("/"):
                    piece = part.startswith("%+")
                    if part[:2] in ("%-", "%+", "%="):
                        part = part[2:]
                    key += ("" if joined else "/") + part
                    joined = piece
                found[key] = path
        return found

    def keys(self, prefix=""):
        return [k for k in self.paths() if k.startswith(prefix) and not k.startswith(prefix + ".s3cryptfs/")]

    def path_of(self, key):
        if not os.path.isfile(self.known.get(key, "")):
            self.known = self.paths()
        return self.known[key]

    def body_of(self, key):
        return read_file(self.path_of(key))

    def record_of(self, key):
        """The xattr as a list of [type, value]."""
        data = os.getxattr(self.path_of(key), self.XATTR)
        assert data.startswith(self.MAGIC)
        data, out = data[len(self.MAGIC):], []
        while data:
            m = re.match(rb"([a-z])([0-9]+):", data)
            end = m.end() + int(m.group(2))
            out.append([m.group(1).decode(), data[m.end():end].decode()])
            data = data[end + 1:]
        return out

    def set_record(self, key, record):
        data = self.MAGIC + b"".join(b"%s%d:%s\n" % (t.encode(), len(v.encode()), v.encode()) for t, v in record)
        os.setxattr(self.path_of(key), self.XATTR, data)

    def meta_of(self, key):
        record = self.record_of(key)
        return {record[i][1]: record[i + 1][1] for i in range(len(record)) if record[i][0] == "n"}

    def set_meta(self, key, meta):
        """Other metadata under the same ETag."""
        record = [f for f in self.record_of(key) if f[0] not in "nv"]
        for name, value in meta.items():
            record += [["n", name], ["v", value]]
        self.set_record(key, record)

    def set_body(self, key, body):
        """Another body in the same file: the record stays."""
        path = self.path_of(key)
        write_file(path, body, "r+b")
        os.truncate(path, len(body))


class Store(Decoding):
    """A new bucket behind a proxy, and boto3 that talks to the server itself, past the proxy."""

    def __init__(self, server, front):
        self.server, self.proxy = server, front
        self.bucket = "b" + uuid.uuid4().hex[:12]
        self.client = boto3.client("s3", endpoint_url=server.endpoint, verify=server.cert, region_name="us-east-1",
                                   aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key,
                                   config=Config(s3={"addressing_style": "path"}))
        self.client.create_bucket(Bucket=self.bucket)
        self.source = "s3://" + self.bucket
        self.env = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}

    def options(self, **more):
        """Mount options for the store through the proxy."""
        return dict({"endpoint": self.proxy.endpoint, "ca_file": self.proxy.cert, "region": "us-east-1", "env": self.env}, **more)

    def keys(self, prefix=""):
        """All keys but those of the filesystem itself."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [o["Key"] for page in pages for o in page.get("Contents", []) if not o["Key"].startswith(".s3cryptfs/")]

    def get(self, key, **kw):
        return self.client.get_object(Bucket=self.bucket, Key=key, **kw)

    def put(self, key, body, **kw):
        return self.client.put_object(Bucket=self.bucket, Key=key, Body=body, **kw)

    def head(self, key, **kw):
        return self.client.head_object(Bucket=self.bucket, Key=key, **kw)

    def body_of(self, key, **kw):
        return self.get(key, **kw)["Body"].read()

    def meta_of(self, key, **kw):
        return self.head(key, **kw)["Metadata"]

    def all_keys(self):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [o["Key"] for page in pages for o in page.get("Contents", [])]

    def uploads(self):
        """Multipart uploads under way: [(key, id)]."""
        return [(u["Key"], u["UploadId"]) for u in self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])]

    def delete_all(self):
        for key, upload in self.uploads():
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
        for key in self.all_keys():
            self.client.delete_object(Bucket=self.bucket, Key=key)


class Kms:
    """Keys of a KMS behind a proxy (which counts requests by operation), and boto3 that talks to the KMS itself."""

    def __init__(self, server, front):
        self.proxy = front
        self.client = boto3.client("kms", endpoint_url=server.endpoint, verify=server.cert, region_name="us-east-1",
                                   aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key)

    def new_key(self, alias=None):
        """A new symmetric key; its ARN. alias: such a name for it, alias/NAME."""
        arn = self.client.create_key()["KeyMetadata"]["Arn"]
        if alias:
            self.client.create_alias(AliasName=alias, TargetKeyId=arn)
        return arn

    def decrypt(self, arn, wrapped, context):
        """For the decoder."""
        got = self.client.decrypt(KeyId=arn, CiphertextBlob=wrapped, EncryptionContext=context)
        assert got["KeyId"] == arn
        return got["Plaintext"]

    def key(self, arn):
        """For the other client."""
        def generate(arn, context):
            made = self.client.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=context)
            return made["Plaintext"], made["CiphertextBlob"]
        return s3ec_client.KmsKey(arn, self.decrypt, generate)

    def options(self, key, **more):
        """Mount options for this key through the proxy; the certificate is that of the proxy before moto's store."""
        return dict({"kms_endpoint": self.proxy.endpoint, "kms_key_id": key}, **more)


class Mount:
    """
    One daemon in the foreground. options are mount options; env= adds to the environment,
    fuse="ro" and the like are flags by name with the value True; debug=True is -d.
    """

    def __init__(self, source, path, options):
        self.source, self.path = source, path
        options = dict(options)
        env = dict(os.environ, **options.pop("env", {}))
        how = "-d" if options.pop("debug", False) else "-f"
        self.log = path + ".log"
        os.makedirs(path, exist_ok=True)
        words = [k if v is True else "%s=%s" % (k, str(v).replace(",", "\\,")) for k, v in options.items() if v is not None]
        self.args = [PROGRAM, source, path, how, "-o", ",".join(words)]
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
        self.ended = False

    def __truediv__(self, name):
        return os.path.join(self.path, name)

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def wait_up(self, seconds=60):
        end = time.monotonic() + seconds
        while not os.path.ismount(self.path):
            if self.process.poll() is not None:
                raise AssertionError("mount failed (%d): %s" % (self.process.returncode, self.text()))
            if time.monotonic() > end:
                raise AssertionError("not mounted after %d s: %s" % (seconds, self.text()))
            time.sleep(0.02)
        return self

    def fail(self, seconds=60):
        """The mount is expected to be refused: its exit status and what it said."""
        status = self.process.wait(seconds)
        self.ended = True
        assert not os.path.ismount(self.path)
        return status, self.text()

    def umount(self, seconds=120):
        """Unmounts and waits for the daemon; its exit status."""
        run("fusermount3", "-u", self.path)
        status = self.process.wait(seconds)
        self.ended = True
        return status

    def kill(self):
        """As a crash does, and removes the dead mountpoint."""
        self.process.kill()
        self.process.wait()
        run("fusermount3", "-u", "-z", self.path, check=False)
        self.ended = True

    def stop(self):
        """Stops every thread; a call that one of them has made of the kernel is over, or has not been answered, then."""
        self.process.send_signal(signal.SIGSTOP)

        def stopped():
            states = []
            for task in os.listdir("/proc/%d/task" % self.process.pid):
                with open("/proc/%d/task/%s/stat" % (self.process.pid, task)) as f:
                    states.append(f.read().rpartition(")")[2].split()[0])
            return set(states) == {"T"}
        wait_for(stopped, 30, "stop of the daemon")

    def memory_peak(self):
        """Peak resident bytes of the daemon."""
        with open("/proc/%d/status" % self.process.pid) as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))

    def close_files(self):
        """Descriptors that a test which failed has left open here would keep the daemon alive."""
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink("/proc/self/fd/" + name).startswith(self.path + "/"):
                    os.close(int(name))

    def finish(self):
        """Ends what still runs; a text when the daemon died or a sanitizer spoke."""
        problem = ""
        if not self.ended:
            self.close_files()
            if self.process.poll() is not None:
                problem = "the daemon died: exit %d" % self.process.returncode
            run("fusermount3", "-u", "-z", self.path, check=False)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                problem = "the daemon does not end"
                self.process.kill()
                self.process.wait()
        text = self.text()
        for mark in ("AddressSanitizer", "LeakSanitizer", "runtime error:", "ThreadSanitizer"):
            if mark in text:
                problem += " " + mark
        return problem and problem + "\n" + text


MARKER = b"plaintext-marker-7f3a91c05e"


def find_bytes(needle, *folders):
    """Paths below folders of files that hold these bytes, in their content or their xattrs."""
    found = []
    for top in folders:
        for folder, _, files in os.walk(top):
            for path in (os.path.join(folder, name) for name in files):
                with contextlib.suppress(OSError):
                    values = [os.getxattr(path, n) for n in os.listxattr(path)]
                    if needle in read_file(path) or any(needle in v for v in values):
                        found.append(path)
    return found


class Site:
    """A mount that can be taken down and up again, each time with nothing cached."""

    def __init__(self, make, store, **options):
        self.make, self.store, self.options = make, store, options
        self.m = make(store.source, **store.options(**options))

    def __truediv__(self, name):
        return self.m / name

    @property
    def path(self):
        return self.m.path

    def umount(self):
        status = self.m.umount()
        assert status == 0, "the daemon ended with %d: %s" % (status, self.m.text())

    def remount(self, **more):
        if not self.m.ended:
            self.umount()
        self.m = self.make(self.store.source, **self.store.options(**dict(self.options, **more)))
        return self
