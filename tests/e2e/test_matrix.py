# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Each mode on each server: every operation, and after it a look into the bucket at
what it left there. No operation may leave an object of another mode. What a
server cannot do is refused at the mount. The table is printed at the end.
"""
import base64
import hashlib
import os

import pytest
from botocore.exceptions import ClientError

import decoder
import matrix
from harness import CTL, MARKER, blob, read_file, run, write_file
from test_s3 import Mode

SEGMENT = decoder.SEGMENT
MIB = 1 << 20
LARGE = 24 * MIB

SERVERS = {"file": "file_store", "radosgw": "rgw_store", "versitygw": "versity_store", "moto": "moto_store"}
# moto takes any key, and says none in replies of dsse-kms: the mount goes without.
KEYS = {("sse-kms", "radosgw"): "key-one", ("sse-kms", "moto"): "arn:aws:kms:us-east-1:111122223333:key/0a1b",
        ("dsse-kms", "radosgw"): "key-one"}
MODES = ("cse-key", "cse-kms", "sse-c", "sse-c-shared", "sse-kms", "dsse-kms", "sse-s3", "none")

# Why a server does not have a mode, in the words of the mount.
NO_SSEC = "the store does not encrypt with customer keys"
NO_ECHO = "the store does not encrypt as enc= asks"
REFUSED = {
    ("sse-c", "file"): NO_SSEC, ("sse-c-shared", "file"): NO_SSEC,
    ("sse-kms", "file"): "is a folder", ("dsse-kms", "file"): "is a folder", ("sse-s3", "file"): "is a folder",
    ("dsse-kms", "radosgw"): "does not know the encryption", ("sse-s3", "radosgw"): NO_ECHO,
    ("sse-c", "versitygw"): NO_SSEC, ("sse-c-shared", "versitygw"): NO_SSEC,
    ("sse-kms", "versitygw"): NO_ECHO, ("dsse-kms", "versitygw"): NO_ECHO, ("sse-s3", "versitygw"): NO_ECHO,
    ("sse-c", "moto"): NO_SSEC, ("sse-c-shared", "moto"): NO_SSEC,
}
HEADERS = {"sse-kms": "aws:kms", "dsse-kms": "aws:kms:dsse", "sse-s3": "AES256"}


class Cells(Mode):
    """A row: the mode on the server, its mount, and what the files are to hold."""

    def __init__(self, name, server, store, keyring, mount):
        super().__init__(name, store, keyring)  # keyring: of cse-kms the KMS
        self.server, self.mount, self.files, self.cells, self.bucket = server, mount, {}, {}, ""
        self.key = KEYS.get((name, server))
        if self.key:
            self.options["kms_key_id"] = self.key
        if name == "cse-kms":
            # A mount names one ca_file, that of the store.
            self.options.update(kms_key_id=keyring.new_key(), kms_endpoint=keyring.proxy.http_endpoint, allow_http=True, keyring=None,
                                env={"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testsecret"})

    def plain(self, key):
        return self.store.decode(self.keyring, key).plaintext() if self.name == "cse-kms" else super().plain(key)

    def attributes(self, key):
        return self.store.decode(self.keyring, key).attrs if self.name == "cse-kms" else super().attributes(key)

    def make(self, **how):
        return self.mount(self.store.source, **how, **self.store.options(**self.options))

    def look(self, key):
        """What the bucket says of an object, in a few words; fails when that is not the mode."""
        if self.name.startswith("cse-"):
            self.store.decode(self.keyring, key)
            assert MARKER not in self.store.body_of(key)
            if self.name == "cse-kms" and not key.endswith("/"):
                assert self.options["kms_key_id"] in self.store.meta_of(key)["x-amz-matdesc"]
            return "ciphertext"
        if self.name == "none":
            return "plain"
        head = self.store.head(key, **self.headers(key))
        if self.name.startswith("sse-c"):
            with pytest.raises(ClientError):
                self.store.head(key)
            secret = self.headers(key)["SSECustomerKey"]
            assert head["SSECustomerAlgorithm"] == "AES256"
            assert head["SSECustomerKeyMD5"] == base64.b64encode(hashlib.md5(secret).digest()).decode()
            return "SSE-C AES256, our key"
        assert head.get("ServerSideEncryption") == HEADERS[self.name], head
        assert head.get("SSEKMSKeyId") == self.key
        return HEADERS[self.name] + (" " + self.key.split("/")[-1] if self.key else "")

    def check(self, *changed):
        """After each operation: the bucket has these files and no others, all in the mode; changed ones are read."""
        run(CTL, "sync", self.m.path)
        keys = self.store.keys()
        assert sorted(k for k in keys if not k.endswith("/")) == sorted(self.files)
        words = {self.look(key) for key in keys}
        assert len(words) <= 1
        for key in changed:
            assert self.plain(key) == self.files[key], key
        self.bucket = words.pop() if words else self.bucket  # or nothing is left

    def path(self, name):
        return self.m / name


def create(row):
    write_file(row.path("f"), MARKER + blob(300000, 1))
    row.files["f"] = MARKER + blob(300000, 1)
    os.mkdir(row.path("d"))
    os.mkdir(row.path("d/sub"))
    for name in ("d/one", "d/sub/two"):
        write_file(row.path(name), MARKER)
        row.files[name] = MARKER
    return ["f", "d/one", "d/sub/two"]


def large_multipart(row):
    write_file(row.path("large"), blob(LARGE, 2))
    row.files["large"] = bytearray(blob(LARGE, 2))
    return ["large"]


def read(row):
    assert row.m.umount() == 0
    row.m = row.make()
    for name in ("f", "d/one", "large"):
        assert read_file(row.path(name)) == row.files[name], name
    return []


def ranges(row):
    assert row.m.umount() == 0
    row.m = row.make()
    fd = os.open(row.path("large"), os.O_RDONLY)
    for at in (LARGE - 1000, 0, SEGMENT - 500, 17 * MIB + 13):
        assert os.pread(fd, 1000, at) == row.files["large"][at:at + 1000]
    os.close(fd)
    return []


def overwrite(row):
    write_file(row.path("f"), b"other " + MARKER)
    row.files["f"] = b"other " + MARKER
    return ["f"]


def partial_rewrite(row):
    with open(row.path("large"), "r+b") as f:
        f.seek(SEGMENT + 5000)
        f.write(MARKER)
    row.files["large"][SEGMENT + 5000:SEGMENT + 5000 + len(MARKER)] = MARKER
    return ["large"]


def append(row):
    for name in ("f", "large"):
        write_file(row.path(name), b" appended", "ab")
        row.files[name] = row.files[name] + b" appended"
    return ["f", "large"]


def truncate(row):
    os.truncate(row.path("large"), 10 * MIB + 5)
    os.truncate(row.path("f"), 9)
    row.files["large"], row.files["f"] = row.files["large"][:10 * MIB + 5], row.files["f"][:9]
    return ["large", "f"]


def chmod(row):
    for name in ("f", "large", "d"):
        os.chmod(row.path(name), 0o751)
    run(CTL, "sync", row.m.path)
    for key in ("f", "large", "d/"):
        assert row.attributes(key)["mode"] & 0o7777 == 0o751
    return ["f", "large"]


def rename(row):
    for name, to in (("f", "g"), ("large", "moved")):
        os.rename(row.path(name), row.path(to))
        row.files[to] = row.files.pop(name)
    return ["g", "moved"]


def rename_directory(row):
    os.rename(row.path("d"), row.path("e"))
    for name in ("one", "sub/two"):
        row.files["e/" + name] = row.files.pop("d/" + name)
    return ["e/one", "e/sub/two"]


def unlink(row):
    for name in list(row.files):
        os.unlink(row.path(name))
        del row.files[name]
    return []


OPERATIONS = {"create": create, "multipart": large_multipart, "read": read, "range": ranges, "overwrite": overwrite,
              "partial": partial_rewrite, "append": append, "truncate": truncate, "chmod": chmod, "rename": rename,
              "rename dir": rename_directory, "unlink": unlink}
ROWS = [(mode, server) for mode in MODES for server in SERVERS]


@pytest.fixture
def row(request, mount):
    mode, server = request.param
    order = ROWS.index(request.param)
    try:
        store = request.getfixturevalue(SERVERS[server])
        keys = request.getfixturevalue("kms" if mode == "cse-kms" else "keyring")
    except pytest.skip.Exception as reason:
        matrix.write_row(mode, server, order, skipped=str(reason))
        raise
    made = Cells(mode, server, store, keys, mount)
    yield made
    if made.cells:
        matrix.write_row(mode, server, order, cells=made.cells, bucket=made.bucket)


@pytest.mark.parametrize("row", [r for r in ROWS if r not in REFUSED], ids="-".join, indirect=True)
def test_operations(row):
    row.m = row.make()
    for name, operation in OPERATIONS.items():
        row.cells[name] = "FAILED"
        row.check(*operation(row))
        row.cells[name] = "ok"


@pytest.mark.parametrize("row", list(REFUSED), ids="-".join, indirect=True)
def test_refused(row):
    words = REFUSED[row.name, row.server]
    status, text = row.make(wait=False).fail()
    assert status == 1 and words in text
    assert row.store.keys() == []
    matrix.write_row(row.name, row.server, ROWS.index((row.name, row.server)), refused=words)
