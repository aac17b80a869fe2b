# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""The decoder against the worked example of doc/format.md, and against damage."""
import base64
import os
import random
import re
import subprocess
import sys

import pytest

import decoder
from decoder import Bad
from harness import TOP


def examples():
    """The fenced blocks of the document by name: as text, and as pairs."""
    with open(os.path.join(TOP, "doc", "format.md")) as f:
        text = f.read()
    blocks = dict(re.findall(r"^```example-([a-z-]+)\n(.*?)^```", text, re.M | re.S))
    pairs = {name: dict(line.partition(" =")[::2] for line in block.splitlines()) for name, block in blocks.items()
             if not name.endswith("-body")}
    return blocks, {name: {k: v.strip() for k, v in block.items()} for name, block in pairs.items()}


BLOCKS, EXAMPLES = examples()
SECRETS = {EXAMPLES["keyring"]["key-id"]: bytes.fromhex(EXAMPLES["keyring"]["secret-hex"])}


@pytest.fixture(scope="module")
def volume():
    return decoder.Volume(BLOCKS["volume-body"].encode(), SECRETS)


def example_meta(e):
    return {k[5:]: v for k, v in e.items() if k.startswith("meta.")}


def example_body(e):
    if "body" in e:
        return bytes.fromhex(e["body"])
    return example_large_body(e)


def example_large_body(e):
    """Made of the plaintext rule in the document with the keys that it tells."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    out = []
    size = int(e["size"])
    plain = (bytes(range(251)) * (size // 251 + 1))[:size]
    for index in (0, 2):
        gcm = AESGCM(bytes.fromhex(e["segment-key-%d" % index]))
        segment = plain[index * decoder.SEGMENT:(index + 1) * decoder.SEGMENT]
        for chunk in range(0, len(segment), decoder.CHUNK):
            nonce = (chunk // decoder.CHUNK).to_bytes(12, "big")
            out.append(gcm.encrypt(nonce, segment[chunk:chunk + decoder.CHUNK], None))
    return b"".join(out) + bytes.fromhex(e["trailer"])


def test_volume(volume):
    e = EXAMPLES["volume"]
    assert volume.id.hex() == e["id"]
    assert volume.key.hex() == e["volume-key"]
    assert volume.name_key.hex() == e["name-key"]
    assert volume.seal_keys[1].hex() == e["seal-key"]
    assert volume.body_key.hex() == e["body-key"]
    assert volume.serial == 1


def test_volume_damaged():
    body = BLOCKS["volume-body"].encode()
    for at in range(0, len(body), 7):
        with pytest.raises((Bad, KeyError, TypeError)):
            decoder.Volume(body[:at] + bytes([body[at] ^ 1]) + body[at + 1:], SECRETS)
    with pytest.raises(Bad):
        decoder.Volume(body, {"example-key": bytes(32)})
    with pytest.raises(Bad):
        decoder.Volume(body, {"another": bytes(32)})


@pytest.mark.parametrize("name", ["file", "empty", "directory", "large"])
def test_example(volume, name):
    e = EXAMPLES[name]
    body = example_body(e)
    import hashlib
    assert hashlib.sha256(body).hexdigest() == e["body-sha256"]
    assert len(body) == int(e["stored-size"])
    found = decoder.Object(volume, SECRETS, e["relative-key"], example_meta(e), body)
    assert found.file_id.hex() == e["file-id"]
    assert found.content_id.hex() == e["content-id"]
    assert found.operation_id.hex() == e["operation-id"]
    assert found.generation == int(e["generation"])
    assert found.seal_input.hex() == e["seal-input"]
    if "data-key" in e:
        assert found.data_key.hex() == e["data-key"]
        assert found.commitment.hex() == e["commitment"]
        assert found.meta["x-amz-matdesc"] == '{"s3cryptfs-key-id":"example-key","team":"storage"}'
    plain = found.plaintext()
    if "plaintext" in e:
        assert plain.hex() == e["plaintext"]
    if "plaintext-sha256" in e:
        assert hashlib.sha256(plain).hexdigest() == e["plaintext-sha256"]
        assert found.size == int(e["size"]) and found.attrs["mtime"] == int(e["footer-mtime-ns"])
        assert plain[decoder.SEGMENT:2 * decoder.SEGMENT] == bytes(decoder.SEGMENT)


def test_attributes(volume):
    e = EXAMPLES["empty"]
    found = decoder.Object(volume, SECRETS, e["relative-key"], example_meta(e), b"")
    assert found.attrs == {"mode": 0o100644, "uid": 1000, "gid": 1000, "mtime": -1500000000, "atime": 0, "ctime": 0}
    assert found.plaintext() == b""


def test_every_bit_counts(volume):
    """No bit of body or metadata can be changed without being noticed."""
    e = EXAMPLES["file"]
    meta, body = example_meta(e), example_body(e)

    def refused(key, some_meta, some_body):
        with pytest.raises(Bad):
            decoder.decode(volume, SECRETS, key, some_meta, some_body)

    for bit in range(8 * len(body)):
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        refused("hello.txt", meta, bytes(damaged))
    packed = base64.b64decode(meta["s3cryptfs"])
    for bit in range(8 * len(packed)):
        damaged = bytearray(packed)
        damaged[bit // 8] ^= 1 << bit % 8
        refused("hello.txt", dict(meta, s3cryptfs=base64.b64encode(damaged).decode()), body)
    for name, value in meta.items():
        refused("hello.txt", {k: v for k, v in meta.items() if k != name}, body)
        for at in range(len(value)):
            refused("hello.txt", dict(meta, **{name: value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1:]}), body)
    for more in decoder.OTHER_ITEMS:
        refused("hello.txt", dict(meta, **{more: ""}), body)
    refused("hello.tyt", meta, body)
    refused("hello.txt", meta, body + b"x")
    refused("hello.txt", meta, body[:-1])
    refused("hello.txt", meta, b"")


def test_large_damaged(volume):
    e = EXAMPLES["large"]
    meta, body = example_meta(e), example_body(e)
    rng = random.Random(5)
    places = [len(body) - 1 - i for i in range(0, 48 + 104, 5)] + [rng.randrange(len(body)) for _ in range(8)]
    for at in places:
        damaged = bytearray(body)
        damaged[at] ^= 1 << rng.randrange(8)
        with pytest.raises(Bad):
            decoder.decode(volume, SECRETS, e["relative-key"], meta, bytes(damaged))
    for cut in (1, 16, decoder.STRIDE):
        with pytest.raises(Bad):
            decoder.decode(volume, SECRETS, e["relative-key"], meta, body[cut:])
        with pytest.raises(Bad):
            decoder.decode(volume, SECRETS, e["relative-key"], meta, body[:-cut])


@pytest.fixture
def hidden():
    """The volume of the example, had it encrypted names."""
    v = decoder.Volume(BLOCKS["volume-body"].encode(), SECRETS)
    v.names = "encrypted"
    return v


def test_names(hidden):
    e, count = EXAMPLES["names"], 0
    assert hidden.names_key.hex() == e["names-key"]
    for n in range(1, 10):
        parent, name = e["parent-%d" % n], bytes.fromhex(e["name-%d" % n])
        stored, item = e["stored-%d" % n], e.get("item-%d" % n)
        assert decoder.encrypt_name(hidden, parent, name) == (stored, item)
        assert decoder.decrypt_name(hidden, parent, stored, item) == name
        for bad in (stored.upper(), stored[:-1], stored + "0", "0" + stored, stored[:-1] + "z"):
            with pytest.raises(Bad):
                decoder.decrypt_name(hidden, parent, bad, item)
        with pytest.raises(Bad):
            decoder.decrypt_name(hidden, parent + "0/", stored, item)
        count += 1
    assert "stored-%d" % (count + 1) not in e
    long = e["stored-8"] + "/"
    assert decoder.encrypt_path(hidden, b"x" * 110 + b"/y") == long + e["stored-9"]
    assert decoder.decrypt_path(hidden, long + e["stored-9"], {long: e["item-8"]}.get) == b"x" * 110 + b"/y"


def test_long_name(hidden):
    e = EXAMPLES["long-name"]
    meta = example_meta(e)
    found = decoder.Object(hidden, SECRETS, e["relative-key"], meta, b"")
    assert found.name == b"x" * 110 and found.seal_input.hex() == e["seal-input"]
    with pytest.raises(Bad):
        decoder.Object(hidden, SECRETS, e["relative-key"], {k: v for k, v in meta.items() if k != "s3cryptfs-name"}, b"")


def test_ssec():
    e, volume_id = EXAMPLES["ssec"], bytes.fromhex(EXAMPLES["volume"]["id"])
    master = SECRETS["example-key"]
    key, md5 = decoder.ssec_key(master, volume_id, e["object-key"])
    assert (key.hex(), md5) == (e["customer-key"], e["customer-key-md5"])
    assert decoder.ssec_check(master, volume_id).hex() == e["check"]
    volume = decoder.Volume(BLOCKS["ssec-volume-body"].encode(), SECRETS)
    assert (volume.family, volume.ssec_key) == ("sse-c", "per-object")
    with pytest.raises(Bad):
        decoder.Volume(BLOCKS["ssec-volume-body"].encode(), {"example-key": bytes(32)})


def test_program(tmp_path):
    """The decoder as a program, with the keyring as a file."""
    e = EXAMPLES["file"]
    keyring = tmp_path / "keyring"
    keyring.write_text("# test\n[example-key]\nsecret = %s\nstate = active\ndesc.team = storage\n" % EXAMPLES["keyring"]["secret"])
    keyring.chmod(0o600)
    assert decoder.Keyring(str(keyring)).description("example-key") == e["meta.x-amz-matdesc"]
    (tmp_path / "volume").write_text(BLOCKS["volume-body"])
    import json
    (tmp_path / "meta").write_text(json.dumps(example_meta(e)))
    (tmp_path / "body").write_bytes(example_body(e))

    def run(key):
        return subprocess.run([sys.executable, decoder.__file__, str(keyring), str(tmp_path / "volume"), key,
                               str(tmp_path / "meta"), str(tmp_path / "body")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    good = run("hello.txt")
    assert (good.returncode, good.stdout) == (0, b"hello")
    assert b"mode = 33188" in good.stderr
    bad = run("other.txt")
    assert (bad.returncode, bad.stdout) == (1, b"") and b"seal" in bad.stderr
