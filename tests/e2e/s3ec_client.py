# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Another S3 encryption client, in Python: writes and reads objects of V2 and V3 of the Amazon S3
Encryption Client with AES keys and with keys of a KMS, and nothing of s3cryptfs. It follows the public description of
the formats (content-metadata and key-derivation of the S3EC specification), as doc/format-s3ec.md
does, and shares no code with the program; it refuses what it does not know.
"""
import base64
import hmac
import json
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

V2, V3 = 2, 3
ALG_V2, ALG_V3 = "AES/GCM/NoPadding", "115"
SUITE = bytes((0x00, 0x73))
KEYS_V2 = ("x-amz-key-v2", "x-amz-iv", "x-amz-wrap-alg", "x-amz-cek-alg", "x-amz-tag-len", "x-amz-matdesc")
KEYS_V3 = ("x-amz-3", "x-amz-c", "x-amz-w", "x-amz-d", "x-amz-i", "x-amz-m", "x-amz-t")


class KmsKey:
    """
    In the place of an AES key: a key of a KMS. decrypt(arn, blob, context) -> data key, which fails for a blob of
    another key or context; generate(arn, context) -> (data key, blob). desc is the encryption context.
    """

    def __init__(self, arn, decrypt, generate=None):
        self.arn, self.ask_decrypt, self.ask_generate = arn, decrypt, generate

    def generate(self, context):
        return self.ask_generate(self.arn, context)

    def decrypt(self, wrapped, context):
        key = self.ask_decrypt(self.arn, base64.b64decode(wrapped, validate=True), context)
        if len(key) != 32:
            raise Refused("the KMS unwrapped %d bytes" % len(key))
        return key


class Refused(Exception):
    """Not an object of these formats, or not authentic."""


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text, size):
    data = base64.b64decode(text, validate=True)
    if len(data) != size:
        raise Refused("%d bytes instead of %d" % (len(data), size))
    return data


def derive(key, message_id):
    """(commitment, content key) of V3."""
    def hkdf(label, size):
        return HKDF(hashes.SHA512(), size, salt=message_id, info=SUITE + label).derive(key)
    return hkdf(b"COMMITKEY", 28), hkdf(b"DERIVEKEY", 32)


def wrap(master, key, alg):
    nonce = os.urandom(12)
    return nonce + AESGCM(master).encrypt(nonce, key, alg.encode())


def unwrap(master, wrapped, alg):
    wrapped = unb64(wrapped, 60)
    try:
        return AESGCM(master).decrypt(wrapped[:12], wrapped[12:], alg.encode())
    except InvalidTag:
        raise Refused("the data key does not unwrap") from None


def encrypt(version, master, plain, desc=None):
    """(body, metadata) of a new object; plain is bytes, master an AES key or a KmsKey."""
    kms, alg, desc = isinstance(master, KmsKey), ALG_V2 if version == V2 else ALG_V3, dict(desc or {})
    if kms:
        desc["aws:x-amz-cek-alg"] = alg
        key, wrapped = master.generate(desc)
    else:
        key = os.urandom(32)
        wrapped = wrap(master, key, alg)
    text = json.dumps(desc)
    if version == V2:
        iv, aad, content_key = os.urandom(12), b"", key
        meta = {"x-amz-key-v2": b64(wrapped), "x-amz-iv": b64(iv), "x-amz-wrap-alg": "kms+context" if kms else "AES/GCM",
                "x-amz-cek-alg": ALG_V2, "x-amz-tag-len": "128", "x-amz-matdesc": text}
    else:
        message_id = os.urandom(28)
        commitment, content_key = derive(key, message_id)
        iv, aad = b"\x01" * 12, SUITE
        meta = {"x-amz-c": ALG_V3, "x-amz-3": b64(wrapped), "x-amz-w": "12" if kms else "02",
                "x-amz-d": b64(commitment), "x-amz-i": b64(message_id)}
        if desc:
            meta["x-amz-t" if kms else "x-amz-m"] = text
    cipher = Cipher(algorithms.AES(content_key), modes.GCM(iv)).encryptor()
    cipher.authenticate_additional_data(aad)
    return cipher.update(plain) + cipher.finalize() + cipher.tag, meta


def version_of(meta):
    """Which version an object is, by the keys that it has."""
    keys = [k for k in ("x-amz-key", "x-amz-key-v2", "x-amz-3") if meta.get(k)]
    if keys == ["x-amz-key-v2"]:
        return V2
    if keys == ["x-amz-3"]:
        return V3
    raise Refused("wrapped keys %s" % keys)


def open_envelope(meta, master, desc):
    """(content key, IV, AAD, data key)"""
    kms = isinstance(master, KmsKey)
    if version_of(meta) == V2:
        if any(not meta.get(k) for k in KEYS_V2) or meta["x-amz-wrap-alg"] != ("kms+context" if kms else "AES/GCM") or \
                meta["x-amz-cek-alg"] != ALG_V2 or meta["x-amz-tag-len"] != "128":
            raise Refused("envelope of V2: %s" % meta)
        found, wrapped, alg = json.loads(meta["x-amz-matdesc"]), meta["x-amz-key-v2"], ALG_V2
    else:
        if any(not meta.get(k) for k in KEYS_V3[:5]) or meta["x-amz-c"] != ALG_V3 or \
                meta["x-amz-w"] != ("12" if kms else "02") or meta.get("x-amz-m" if kms else "x-amz-t"):
            raise Refused("envelope of V3: %s" % meta)
        found, wrapped, alg = json.loads(meta.get("x-amz-t" if kms else "x-amz-m", "{}")), meta["x-amz-3"], ALG_V3
    if found != dict(desc or {}, **({"aws:x-amz-cek-alg": alg} if kms else {})):
        raise Refused("material description or encryption context %s" % found)
    key = master.decrypt(wrapped, found) if kms else unwrap(master, wrapped, alg)
    if alg == ALG_V2:
        return key, unb64(meta["x-amz-iv"], 12), b"", key
    message_id = unb64(meta["x-amz-i"], 28)
    commitment, content_key = derive(key, message_id)
    if not any(message_id) or not hmac.compare_digest(commitment, unb64(meta["x-amz-d"], 28)):
        raise Refused("commitment")
    return content_key, b"\x01" * 12, SUITE, key


def decrypt(meta, body, master, desc=None):
    """The plaintext of an object, verified."""
    content_key, iv, aad, _ = open_envelope(meta, master, desc)
    if len(body) < 16:
        raise Refused("no tag")
    cipher = Cipher(algorithms.AES(content_key), modes.GCM(iv, body[-16:])).decryptor()
    cipher.authenticate_additional_data(aad)
    try:
        return cipher.update(body[:-16]) + cipher.finalize()
    except InvalidTag:
        raise Refused("tag") from None
