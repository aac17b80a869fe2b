#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
A second decoder of stored objects, written from doc/format.md alone, so that the
document and the program check each other. It verifies everything that can be
verified and raises Bad with a reason for whatever is not as the document says.
Section numbers are those of the document.

    decoder.py KEYRING VOLUME RELATIVE-KEY METADATA.json BODY >plaintext

VOLUME is the file with the body of the volume object, METADATA.json an object of
the user metadata, BODY the file with the object's body. The attributes go to
standard error.
"""
import base64
import configparser
import hashlib
import hmac
import json
import os
import re
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

import s3ec_client

CHUNK = 65536
STRIDE = CHUNK + 16
SEGMENT = 128 * CHUNK
STORED_SEGMENT = 128 * STRIDE
FOOTER = 104
SIZE_MAX = 1 << 44
CEK_ALG = "s3cryptfs/AES256-GCM-64K/v1"
WRAP_ALG = "s3cryptfs/HKDF-AES-GCM"
KMS_ALG, KMS_REUSE_ALG = "s3cryptfs/kms", "s3cryptfs/kms-reuse"
VOLUME_ALG = "s3cryptfs/volume-key/v1"
NAME_ALG = "s3cryptfs/name-key/v1"
LOCAL_ALG = "s3cryptfs/local-key/v1"
FORMER_ALG = "s3cryptfs/former-volume-key/v1"
ENVELOPE = ("x-amz-key-v2", "x-amz-matdesc", "x-amz-wrap-alg", "x-amz-cek-alg")
ATTRIBUTES = ("mode", "uid", "gid", "mtime", "atime", "ctime")
OTHER_ITEMS = ("xattr", "rdev", "s3cryptfs-name")
S3EC_ITEMS = ("x-amz-iv", "x-amz-tag-len", "x-amz-unencrypted-content-length", "x-amz-key", "x-amz-3", "x-amz-c",
              "x-amz-w", "x-amz-d", "x-amz-i", "x-amz-t", "x-amz-m")
NONE, CHUNKS, TRAILER, S3EC, REFERENCE = 1, 2, 3, 4, 5
BODIES = ".s3cryptfs/links/"
HOLE = bytes(16)


class Bad(Exception):
    """The object is not what the document says that it has to be."""


def need(condition, reason):
    if not condition:
        raise Bad(reason)


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def same(a, b):
    return hmac.compare_digest(a, b)


def hkdf(key, salt, info, length=32):
    """RFC 5869."""
    prk, out, block = mac(salt or bytes(32), key), b"", b""
    while len(out) < length:
        block = mac(prk, block + info + bytes([len(out) // 32 + 1]))
        out += block
    return out[:length]


def field(value):
    if value is None:
        return b"\xff\xff\xff\xff"
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return struct.pack(">I", len(value)) + value


def unbase64(text, what):
    """Strict: with padding, no other characters, no bits that mean nothing."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Bad("%s is not base64" % what) from None
    need(base64.b64encode(data).decode() == text, "%s is not canonical base64" % what)
    return data


def unhex(text, size, what):
    need(isinstance(text, str) and re.fullmatch("[0-9a-f]{%d}" % (2 * size), text), "%s is not %d bytes of hex" % (what, size))
    return bytes.fromhex(text)


def unwrap(master, wrapped, content_alg, file_id, what):
    """Section 5."""
    need(len(wrapped) == 80, "%s: wrapped key of %d bytes" % (what, len(wrapped)))
    try:
        return AESGCM(hkdf(master, wrapped[:32], b"s3cryptfs wrap")).decrypt(
            bytes(12), wrapped[32:], content_alg.encode() + b"\0" + file_id)
    except InvalidTag:
        raise Bad("%s: the key does not unwrap" % what) from None


class Keyring:
    """Section 2. secrets: by key id."""

    def __init__(self, path):
        ini = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"), strict=True)
        ini.optionxform = str
        with open(path) as f:
            ini.read_file(f)
        need(os.stat(path).st_mode & 0o077 == 0, "others may read the keyring")
        self.secrets, self.ssec, self.active, self.desc = {}, {}, None, {}
        for key_id in ini.sections():
            need(re.fullmatch("[A-Za-z0-9._-]{1,64}", key_id), "key id %r" % key_id)
            section = ini[key_id]
            text = section.get("secret")
            if text is None and "secret_file" in section:
                with open(os.path.join(os.path.dirname(path), section["secret_file"])) as f:
                    text = f.read().strip()
            if text is None:
                continue
            secret = unbase64(text, "secret of " + key_id)
            if section.get("use") == "sse-c":
                self.ssec[key_id] = secret
                continue
            self.secrets[key_id] = secret
            self.desc[key_id] = {n[5:]: v for n, v in section.items() if n.startswith("desc.")}
            if section.get("state", "old") == "active":
                need(self.active is None, "two active keys")
                self.active = key_id

    def description(self, key_id):
        """The material description as a writer makes it."""
        pairs = dict(self.desc.get(key_id, {}), **{"s3cryptfs-key-id": key_id})
        return json.dumps(pairs, sort_keys=True, separators=(",", ":"))


def _once(pairs):
    need(len({k for k, _ in pairs}) == len(pairs), "a JSON member appears twice")
    return dict(pairs)


class Volume:
    """Section 3, and 12 for sse-c: an opened volume object."""

    def __init__(self, body, secrets, kms=None):
        need(len(body) <= 256 * 1024, "volume object too large")
        last = body.rfind(b"\nhmac-sha256 ")
        text = body if last < 0 else body[:last + 1]
        try:
            v = json.loads(text.decode("ascii"), object_pairs_hook=_once)
        except ValueError as e:
            raise Bad("the volume object is not JSON: %s" % e) from None
        need(v.get("format") == "s3cryptfs volume" and v.get("version") == 1, "format or version of the volume")
        self.family, self.members = v.get("family"), v
        self.id = unhex(v.get("id"), 16, "volume id")
        self.serial = v.get("serial")
        need(type(self.serial) is int and 1 <= self.serial < 1 << 63, "serial of the volume")
        if self.family == "sse-c":
            self._open_ssec(v, last, secrets)
        else:
            need(self.family == "cse", "family of the volume")
            self._open_cse(v, body, last, secrets, kms)

    def _open_cse(self, v, body, last, secrets, kms):
        epoch, older = v["epochs"][0], v["epochs"][1:]
        need(type(v.get("epoch")) is int and 1 <= v["epoch"] < 1 << 32 and epoch["epoch"] == v["epoch"], "epoch of the volume")
        slot = next((s for s in epoch["slots"] if s.get("type") == "master-key" and s["key_id"] in secrets), None)
        if slot is None and kms:
            slot = next((s for s in epoch["slots"] if s.get("type") == "kms"), None)
        need(slot, "no slot for a key of the keyring")
        wrapped = unbase64(slot["wrapped"], "slot")
        if slot["type"] == "kms":
            context = dict(slot.get("context", {}), **{"s3cryptfs:volume": self.id.hex(), "s3cryptfs:alg": VOLUME_ALG})
            self.key = kms(slot["key_id"], wrapped, context)
        else:
            self.key = unwrap(secrets[slot["key_id"]], wrapped, VOLUME_ALG, self.id, "volume key")
        tail = self.id + struct.pack(">I", epoch["epoch"])
        need(same(hkdf(self.key, b"", b"s3cryptfs check" + tail), unhex(epoch["check"], 32, "key check")), "key check")
        need(last >= 0 and re.fullmatch(b"hmac-sha256 [0-9a-f]{64}\n", body[last + 1:]), "no MAC line at the end")
        self.body_key = hkdf(self.key, b"", b"s3cryptfs volume body" + tail)
        need(same(mac(self.body_key, body[:last + 1]), bytes.fromhex(body[last + 13:-1].decode())), "MAC of the volume object")
        self.names = v.get("names")
        need(self.names in ("plain", "encrypted"), "names of the volume")
        self.epoch = epoch["epoch"]
        self.seal_keys = {self.epoch: hkdf(self.key, b"", b"s3cryptfs seal" + tail)}
        self.volume_keys = {self.epoch: self.key}
        self._open_older(older)
        if "local_key" in v:
            self.local_key = unwrap(self.key, unbase64(v["local_key"], "local key"), LOCAL_ALG, self.id, "local key")
        else:
            need(self.epoch == 1, "no local key")
            self.local_key = mac(self.id, self.key)
        self.name_key = unwrap(self.key, unbase64(v["name_key"], "name key"), NAME_ALG, self.id, "name key")
        self.names_key = hkdf(self.name_key, b"", b"s3cryptfs names", 64)

    def _open_older(self, older):
        """The volume keys of older epochs, newest first, which the newest wraps."""
        last = self.epoch
        for item in older:
            number = item["epoch"]
            need(type(number) is int and 1 <= number < last, "order of the epochs")
            need("slots" not in item, "slots of an older epoch")
            last = number
            key = unwrap(self.key, unbase64(item["wrapped"], "older epoch"), FORMER_ALG, self.id, "volume key")
            tail = self.id + struct.pack(">I", number)
            need(same(hkdf(key, b"", b"s3cryptfs check" + tail), unhex(item["check"], 32, "key check")), "key check of an older epoch")
            self.volume_keys[number] = key
            self.seal_keys[number] = hkdf(key, b"", b"s3cryptfs seal" + tail)

    def _open_ssec(self, v, last, secrets):
        need(last < 0, "an sse-c volume has no MAC line")
        self.ssec_key = v.get("ssec_key")
        need(self.ssec_key in ("per-object", "shared"), "ssec_key of the volume")
        found = 0
        for check in v["checks"]:
            if check["key_id"] in secrets:
                need(same(ssec_check(secrets[check["key_id"]], self.id), unhex(check["check"], 32, "check")),
                     "key %s is not this volume's" % check["key_id"])
                found += 1
        need(found, "no check for a key of the keyring")


def ssec_check(master, volume_id):
    return mac(hkdf(master, b"", b"s3cryptfs ssec check"), volume_id)


def ssec_key(master, volume_id, object_key):
    """Section 12: the customer key of an object, and its MD5 as S3 wants it."""
    key = hkdf(master, volume_id, b"s3cryptfs ssec" + object_key.encode())
    return key, base64.b64encode(hashlib.md5(key).digest()).decode()


def base32hex(data):
    return base64.b32hexencode(data).decode().rstrip("=").lower()


def unbase32hex(text, what):
    try:
        data = base64.b32hexdecode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        raise Bad("%s is not base32hex" % what) from None
    need(base32hex(data) == text, "%s is not canonical base32hex" % what)
    return data


def key_bytes(text):
    return text.encode("utf-8", "surrogateescape")


def encrypt_name(volume, parent, name):
    """Section 13: the stored name of a name (bytes), and the item s3cryptfs-name or None. parent: its stored path."""
    ciphertext = AESSIV(volume.names_key).encrypt(name, [b"/" + key_bytes(parent)])
    short = base32hex(ciphertext)
    if len(short) <= 200:
        return short, None
    return "%" + base32hex(hashlib.sha256(ciphertext).digest()), base64.b64encode(ciphertext).decode()


def decrypt_name(volume, parent, stored, item=None):
    """The name (bytes) that a stored name in the directory of that stored path stands for."""
    if stored.startswith("%"):
        need(item is not None, "a long name without the item s3cryptfs-name")
        ciphertext = unbase64(item, "s3cryptfs-name")
        need(len(base32hex(ciphertext)) > 200, "a long name that fits")
        need(stored == "%" + base32hex(hashlib.sha256(ciphertext).digest()), "another long name")
    else:
        need(len(stored) <= 200, "a name that does not fit")
        ciphertext = unbase32hex(stored, "stored name")
    need(16 < len(ciphertext) <= 16 + 255, "length of a stored name")
    try:
        name = AESSIV(volume.names_key).decrypt(ciphertext, [b"/" + key_bytes(parent)])
    except InvalidTag:
        raise Bad("no name of this directory") from None
    need(b"/" not in name and b"\0" not in name and name not in (b".", b".."), "an impossible name")
    return name


def encrypt_path(volume, path):
    """The relative key of a path (bytes; a directory's ends in a slash)."""
    key = ""
    for name in path.rstrip(b"/").split(b"/"):
        key += encrypt_name(volume, key, name)[0] + "/"
    return key if path.endswith(b"/") else key[:-1]


def decrypt_path(volume, relative_key, item_of=lambda key: None):
    """
    The path (bytes) of a relative key. item_of gives the item s3cryptfs-name of an object by its
    relative key: of a directory's for components in the middle.
    """
    path, parent = [], ""
    parts = relative_key.rstrip("/").split("/")
    for i, part in enumerate(parts):
        whole = i + 1 == len(parts) and not relative_key.endswith("/")
        item = item_of(parent + part + ("" if whole else "/")) if part.startswith("%") else None
        path.append(decrypt_name(volume, parent, part, item))
        parent += part + "/"
    return b"/".join(path) + (b"/" if relative_key.endswith("/") else b"")


def parse_time(text):
    """Section 10; nanoseconds since 1970."""
    m = re.fullmatch(r"(-?)([0-9]{1,12})(?:\.([0-9]{9}))?", text)
    need(m and m.group(3) != "000000000", "time %r" % text)
    ns = int(m.group(2)) * 10**9 + int(m.group(3) or 0)
    return -ns if m.group(1) else ns


def parse_attributes(meta):
    attrs = {}
    for name in ATTRIBUTES:
        need(name in meta, "attribute %s is missing" % name)
        if name.endswith("time"):
            attrs[name] = parse_time(meta[name])
        else:
            need(re.fullmatch("0|[1-9][0-9]{0,9}", meta[name]), "attribute %s: %r" % (name, meta[name]))
            attrs[name] = int(meta[name])
    return attrs


def plain_size(stored):
    """Section 8: plaintext size of chunks that are so long as stored; None when none fits."""
    full, rest = divmod(stored, STRIDE)
    if 1 <= rest <= 16:
        return None
    return full * CHUNK + (rest - 16 if rest else 0)


def stored_size(plain):
    return plain + 16 * ((plain + CHUNK - 1) // CHUNK)


class Object:
    """
    A verified object (section 11). attrs: numbers by name, times in nanoseconds. size: of the
    plaintext. segments() gives the plaintext, decrypting as it goes; plaintext() all of it.
    """

    def __init__(self, volume, secrets, relative_key, meta, body, kms=None):
        self.volume, self.key, self.meta, self.body = volume, relative_key, meta, body
        need("s3cryptfs" in meta, "no item s3cryptfs")
        total = sum(len(n) + len(v) for n, v in meta.items())
        need(total < 2048, "metadata of %d bytes" % total)
        packed = self.packed = unbase64(meta["s3cryptfs"], "item s3cryptfs")
        self._take_packed(packed)
        self._check_seal(packed)
        self.is_body = re.fullmatch(re.escape(BODIES) + "[0-9a-f]{32}", relative_key) is not None
        self.names = self.flags >> 4 if self.is_body else 0
        need((self.flags & 0xf if self.is_body else self.flags) & ~1 == 0, "unknown flags %#x" % self.flags)
        self._check_name()
        if self.layout in (NONE, REFERENCE):
            for name in ENVELOPE:
                need(name not in meta, "%s of an object without content" % name)
        elif self.layout != S3EC:
            need(meta.get("x-amz-cek-alg") == CEK_ALG, "content algorithm")
            need(meta.get("x-amz-wrap-alg") in (WRAP_ALG, KMS_ALG, KMS_REUSE_ALG), "wrap algorithm")
        self.attrs = parse_attributes(meta)
        self._check_type()
        self.xattrs = self._open_xattrs(meta.get("xattr"))
        self.salts = []
        if self.layout == TRAILER:
            self._take_footer()
        if self.layout == S3EC:
            self._take_s3ec(secrets, kms)
        elif self.layout not in (NONE, REFERENCE):
            self._take_data_key(secrets, kms)
        if self.layout == CHUNKS and self.size:
            need(self.salt != HOLE, "an all-zero salt in layout chunks")
            self.salts = [self.salt]
        if self.layout == TRAILER:
            self._take_table()

    def _open_xattrs(self, item):
        """Section 10: {name: value}, both bytes."""
        found, names = {}, []
        if item is None:
            return found
        data = unbase64(item, "item xattr")
        try:
            text = AESGCM(hkdf(self.volume.volume_keys[self.epoch], b"", b"s3cryptfs xattr" + data[:32])).decrypt(bytes(12), data[32:], self.file_id)
        except InvalidTag:
            raise Bad("item xattr")
        need(text, "an empty item xattr")
        while text:
            name, text = text[1:1 + text[0]], text[1 + text[0]:]
            size = struct.unpack(">H", text[:2])[0]
            need(name and b"\0" not in name and len(text) >= 2 + size, "text of xattr")
            found[name], text = text[2:2 + size], text[2 + size:]
            names.append(name)
        need(names == sorted(set(names)), "order of xattr")
        return found

    def _take_packed(self, packed):
        need(len(packed) >= 96 and packed[0] == 1, "version of the packed value")
        self.layout = packed[1]
        need(self.layout in (NONE, CHUNKS, TRAILER, S3EC, REFERENCE), "layout %d" % self.layout)
        if self.layout == S3EC:
            need(len(packed) > 129 and len(packed) == 129 + packed[96], "length of the packed value")
        else:
            need(len(packed) == {NONE: 96, CHUNKS: 144, TRAILER: 128, REFERENCE: 96}[self.layout], "length of the packed value")
        self.flags, self.epoch = struct.unpack(">HI", packed[2:8])
        self.file_id, self.content_id, self.operation_id = packed[8:24], packed[24:40], packed[40:56]
        self.generation = struct.unpack(">Q", packed[56:64])[0]
        at = 64
        self.salt = self.commitment = None
        if self.layout == CHUNKS:
            self.salt, at = packed[64:80], 80
        if self.layout not in (NONE, REFERENCE):
            self.commitment = packed[at:at + 32]
        if self.layout == S3EC:
            self.master_id = packed[97:-32].decode()
        need(self.epoch in self.volume.seal_keys, "epoch %d" % self.epoch)
        self.seal_key = self.volume.seal_keys[self.epoch]

    def _check_seal(self, packed):
        """Section 7."""
        self.size = 0
        size = None
        if self.layout == CHUNKS:
            self.size = plain_size(len(self.body))
            need(self.size is not None and self.size <= SEGMENT, "stored size %d" % len(self.body))
            size = struct.pack(">Q", self.size)
        elif self.layout == S3EC:
            self.size = len(self.body) - 16
            need(0 <= self.size <= (1 << 36) - 32, "stored size %d" % len(self.body))
            size = struct.pack(">Q", self.size)
        elif self.layout == NONE:
            need(len(self.body) == 0, "a body without content")
        elif self.layout == REFERENCE:
            need(bytes(self.body[:5]) == b"link\n" and len(self.body) == 15, "body of a reference")
            need(self.file_id == self.content_id, "ids of a reference")
        seal_input = field("s3cryptfs seal v1") + field(self.key) + field(size) + field(packed[:-32])
        for name in ENVELOPE + ATTRIBUTES + OTHER_ITEMS + (S3EC_ITEMS if self.layout == S3EC else ()):
            seal_input += field(self.meta.get(name))
        self.seal_input = seal_input
        need(same(mac(self.seal_key, seal_input), packed[-32:]), "seal")

    def _check_name(self):
        """Sections 4 and 13: who has the item s3cryptfs-name. self.name: bytes, where names are encrypted."""
        stored, item = self.key.rstrip("/"), self.meta.get("s3cryptfs-name")
        parent, _, stored = stored.rpartition("/")
        long = self.volume.names == "encrypted" and stored.startswith("%")
        need((item is not None) == long, "item s3cryptfs-name")
        if self.volume.names == "encrypted" and self.key != ".s3cryptfs/root" and self.key:
            self.name = decrypt_name(self.volume, parent + "/" if parent else "", stored, item)

    @property
    def body_key(self):
        """Section 18: of a reference, the relative key of the object that has the content."""
        need(self.layout == REFERENCE, "no reference")
        return BODIES + self.file_id.hex()

    def _check_type(self):
        """Section 4: what has content."""
        kind = self.attrs["mode"] & 0o170000
        if self.layout == NONE:
            need(kind != 0o100000 and kind != 0o120000, "a file or symlink without content")
            need((kind == 0o040000) == self.key.endswith("/") or self.key == "", "a directory's key ends with a slash")
        else:
            need(kind in (0o100000, 0o120000) or self.layout == REFERENCE and kind not in (0, 0o040000),
                 "content of type %o" % kind)
            need(not self.key.endswith("/"), "a directory with content")

    def _take_data_key(self, secrets, kms):
        try:
            desc = json.loads(self.meta["x-amz-matdesc"], object_pairs_hook=_once)
        except ValueError:
            raise Bad("material description") from None
        need(len(self.meta["x-amz-matdesc"]) <= 768, "material description too long")
        key_id = self.master_id = desc.get("s3cryptfs-key-id")
        wrapped = unbase64(self.meta["x-amz-key-v2"], "x-amz-key-v2")
        if self.meta["x-amz-wrap-alg"] == WRAP_ALG:
            need(key_id in secrets, "no master key %r" % key_id)
            self.data_key = unwrap(secrets[key_id], wrapped, CEK_ALG, self.file_id, "data key")
        else:
            self.data_key = self._ask_kms(desc, key_id, wrapped, kms)
        need(same(hkdf(self.data_key, b"", b"s3cryptfs commit" + self.file_id), self.commitment), "commitment")

    def _take_s3ec(self, secrets, kms):
        """Section 17: the envelope of another client, whose plaintext is one message."""
        if self.meta.get("x-amz-wrap-alg") == "kms+context" or self.meta.get("x-amz-w") == "12":
            need(kms, "no KMS for %r" % self.master_id)
            master = s3ec_client.KmsKey(self.master_id, kms)
            desc = json.loads(self.meta.get("x-amz-matdesc") or self.meta["x-amz-t"])
            desc.pop("aws:x-amz-cek-alg")
        else:
            need(self.master_id in secrets, "no master key %r" % self.master_id)
            master = secrets[self.master_id]
            desc = json.loads(self.meta.get("x-amz-matdesc") or self.meta.get("x-amz-m") or "{}")
        try:
            *self.content, self.data_key = s3ec_client.open_envelope(self.meta, master, desc)
            self.whole = s3ec_client.decrypt(self.meta, self.body, master, desc)
        except s3ec_client.Refused as e:
            raise Bad(str(e)) from None
        need(same(hkdf(self.data_key, b"", b"s3cryptfs commit" + self.file_id), self.commitment), "commitment")

    def _ask_kms(self, desc, arn, wrapped, kms):
        """Section 8, under a KMS key."""
        need(kms, "no KMS for %r" % arn)
        reuse = self.meta["x-amz-wrap-alg"] == KMS_REUSE_ALG
        own = {"s3cryptfs:volume": self.volume.id.hex(), "s3cryptfs:alg": CEK_ALG}
        if not reuse:
            own["s3cryptfs:file"] = self.file_id.hex()
        context = {k: v for k, v in desc.items() if k != "s3cryptfs-key-id"}
        need({k: v for k, v in context.items() if k.startswith("s3cryptfs:")} == own, "encryption context")
        if not reuse:
            return kms(arn, wrapped, context)
        return unwrap(kms(arn, wrapped[80:], context), wrapped[:80], CEK_ALG, self.file_id, "data key")

    def _take_footer(self):
        """Section 9, what needs no data key."""
        need(len(self.body) >= 2 * 16 + FOOTER, "too short for a trailer")
        end = bytes(self.body[len(self.body) - FOOTER:])
        self.footer, self.table_mac, seal = end[:40], end[40:72], end[72:]
        need(same(mac(self.seal_key, field("s3cryptfs footer v1") + field(self.file_id) + field(self.footer)), seal),
             "footer seal")
        self.size, mtime = struct.unpack(">Qq", self.footer[:16])
        self.segment_count = struct.unpack(">Q", self.footer[32:])[0]
        need(self.footer[16:32] == self.content_id, "content version of the trailer")
        need(self.size <= SIZE_MAX and self.segment_count >= 2 and
             self.segment_count == (self.size + SEGMENT - 1) // SEGMENT, "size or segments of the trailer")
        self.footer_mtime = mtime
        if not self.flags & 1:
            self.attrs["mtime"] = mtime

    def _take_table(self):
        start = len(self.body) - FOOTER - 16 * self.segment_count
        need(start >= 0, "too short for the table")
        table = bytes(self.body[start:len(self.body) - FOOTER])
        trailer_key = hkdf(self.data_key, b"", b"s3cryptfs trailer" + self.file_id)
        need(same(mac(trailer_key, table + self.footer), self.table_mac), "table MAC")
        self.salts = [table[i:i + 16] for i in range(0, len(table), 16)]
        whole = sum(stored_size(self.segment_size(i)) for i, s in enumerate(self.salts) if s != HOLE)
        need(whole == start, "stored size is not that of the segments")

    def segment_size(self, index):
        return min(SEGMENT, self.size - index * SEGMENT)

    def segment_key(self, index):
        return hkdf(self.data_key, self.salts[index], b"s3cryptfs segment" + self.file_id + struct.pack(">Q", index))

    def segments(self):
        """Plaintext segment by segment as (offset, bytes or None for a hole, length)."""
        at = 0
        if self.layout == S3EC and self.size:
            yield 0, self.whole, self.size
        for index, salt in enumerate(self.salts):
            size = self.segment_size(index)
            if salt == HOLE:
                yield index * SEGMENT, None, size
                continue
            gcm, out = AESGCM(self.segment_key(index)), []
            for chunk in range((size + CHUNK - 1) // CHUNK):
                length = min(CHUNK, size - chunk * CHUNK) + 16
                try:
                    out.append(gcm.decrypt(struct.pack(">IQ", 0, chunk), bytes(self.body[at:at + length]), None))
                except InvalidTag:
                    raise Bad("tag of chunk %d of segment %d" % (chunk, index)) from None
                at += length
            yield index * SEGMENT, b"".join(out), size

    def plaintext(self):
        return b"".join(bytes(size) if data is None else data for _, data, size in self.segments())


def decode(volume, secrets, relative_key, meta, body):
    """Plaintext and attributes of an object; all of it is verified."""
    found = Object(volume, secrets, relative_key, meta, body)
    return found.plaintext(), found.attrs


def main(args):
    if len(args) != 5:
        sys.stderr.write(__doc__)
        return 2
    keyring, volume_path, key, meta_path, body_path = args
    secrets = Keyring(keyring).secrets
    with open(volume_path, "rb") as f:
        volume = Volume(f.read(), secrets)
    with open(meta_path) as f:
        meta = json.load(f)
    with open(body_path, "rb") as f:
        body = f.read()
    try:
        found = Object(volume, secrets, key, meta, body)
        for _, data, size in found.segments():
            sys.stdout.buffer.write(bytes(size) if data is None else data)
    except Bad as e:
        sys.stderr.write("%s: %s\n" % (key, e))
        return 1
    sys.stderr.write("".join("%s = %s\n" % pair for pair in sorted(found.attrs.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
