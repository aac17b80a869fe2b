# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Server-side modes: who is refused, what a reply without the encryption does to a
mount, and what the errors of a store's key service look like to programs. That
each operation keeps the mode is in test_matrix.py.
"""
import errno
import os

import pytest

from harness import CTL, MARKER, Site, fails, read_file, run, write_file

KMS = {"enc": "sse-kms", "kms_key_id": "key-one"}


def refused(mount, store, *words, **options):
    """The mount is refused with a sentence that has the words, and leaves nothing in the bucket."""
    status, text = mount(store.source, wait=False, **store.options(**options)).fail()
    assert status == 1
    for word in words:
        assert word in text, text
    assert store.keys() == []
    if hasattr(store, "all_keys"):
        assert store.all_keys() == [] and store.uploads() == []


def test_folder_refused(mount, file_store):
    for mode in ("sse-s3", "sse-kms", "dsse-kms"):
        refused(mount, file_store, "enc=%s asks an S3 service" % mode, "is a folder", enc=mode)


def test_ignored(mount, versity_store):
    """A store that takes the headers and says nothing."""
    for mode in ("sse-s3", "sse-kms", "dsse-kms"):
        refused(mount, versity_store, "does not encrypt as enc= asks", "nothing instead of", enc=mode)
    refused(mount, versity_store, "ignores the key", enc="sse-c")


def test_not_there(mount, rgw_store):
    refused(mount, rgw_store, "nothing instead of AES256", enc="sse-s3")
    refused(mount, rgw_store, "does not know the encryption", enc="dsse-kms", kms_key_id="key-one")
    refused(mount, rgw_store, "give kms_key_id=", enc="sse-kms")
    refused(mount, rgw_store, "does not find the KMS key", enc="sse-kms", kms_key_id="none")
    refused(mount, rgw_store, "no bucket key", **dict(KMS, bucket_key="on"))


def test_volumes(mount, rgw_store, keyring):
    """Where a volume is, a mode without one is refused."""
    site = Site(mount, rgw_store, enc="cse-key")
    write_file(site / "f", MARKER)
    site.umount()
    for options in (KMS, {"enc": "none"}):
        status, text = mount(rgw_store.source, wait=False, **rgw_store.options(**options)).fail()
        assert status == 1 and "belongs to an encrypted volume" in text
    options = rgw_store.options(**KMS)
    env = dict(os.environ, **options.pop("env"))
    status = run(CTL, "init", "-o", ",".join("%s=%s" % pair for pair in options.items()), rgw_store.source, env=env, check=False)
    assert status.returncode == 1 and "enc=sse-kms has no volume" in status.stderr


def test_keys(mount, rgw_store):
    """Another key is for what is written from then on; all of it is read, by mode none as well."""
    site = Site(mount, rgw_store, **KMS)
    write_file(site / "one", MARKER)
    site.remount(kms_key_id="key-two", kms_context="team=storage;path=a b")
    write_file(site / "two", MARKER)
    assert rgw_store.head("one")["SSEKMSKeyId"] == "key-one"
    assert rgw_store.head("two")["SSEKMSKeyId"] == "key-two"
    site.remount(enc="none", kms_key_id=None)
    assert read_file(site / "one") == read_file(site / "two") == MARKER
    write_file(site / "none", MARKER)
    assert "ServerSideEncryption" not in rgw_store.head("none")
    site.remount(enc="sse-kms", kms_key_id="key-one")
    os.chmod(site / "none", 0o600)
    os.chmod(site / "two", 0o600)
    for key in ("none", "two"):
        assert rgw_store.head(key)["SSEKMSKeyId"] == "key-one"


@pytest.mark.parametrize("options", [KMS, {"enc": "sse-c"}], ids=["sse-kms", "sse-c"])
@pytest.mark.parametrize("how", ["put", "upload", "chmod", "mkdir"])
def test_unconfirmed(mount, rgw_store, options, how):
    """The reply to a write does not confirm the encryption: EIO, and the mount writes no more."""
    site = Site(mount, rgw_store, commit="close", **options)
    write_file(site / "f", b"before")
    write_file(site / "other", MARKER)
    site.remount()
    data = MARKER * (1 << 19 if how == "upload" else 1)
    rgw_store.proxy.fault("silent", method="POST" if how == "upload" else "PUT", match=rgw_store.bucket, times=1)
    # The upload of a long file begins while it is written.
    with fails(errno.EIO, *([errno.EROFS] if how == "upload" else [])):
        if how == "chmod":
            os.chmod(site / "f", 0o600)
        elif how == "mkdir":
            os.mkdir(site / "d")
        else:
            write_file(site / "f", data)
    assert site.m.text().count("read-only from now on") == 1
    assert "does not confirm" in site.m.text()
    for change in (lambda: write_file(site / "g", b""), lambda: write_file(site / "other", b"x", "r+b"), lambda: os.mkdir(site / "e"),
                   lambda: os.unlink(site / "other"), lambda: os.rename(site / "other", site / "moved"),
                   lambda: os.chmod(site / "other", 0o600), lambda: os.truncate(site / "other", 3)):
        with fails(errno.EROFS):
            change()
    assert read_file(site / "other") == MARKER
    assert sorted(k for k in rgw_store.keys() if k != "d/") == ["f", "other"]
    # What could not be stored is in the journal, for a mount of a store that is good again.
    status = site.m.umount()
    site.remount()
    if how == "put":
        assert status != 0
        assert read_file(site / "f") == data
    assert read_file(site / "other") == MARKER
    write_file(site / "g", MARKER)


def test_key_errors(mount, rgw_store):
    """What a store says of its KMS key has an error number and a sentence of its own."""
    site = Site(mount, rgw_store, **KMS)
    write_file(site / "f", MARKER)
    os.mkdir(site / "d")
    site.remount()
    cases = [("KMS.DisabledException", 400, errno.EKEYREVOKED), ("KMS.KMSInvalidStateException", 400, errno.EKEYEXPIRED),
             ("KMS.NotFoundException", 400, errno.ENOKEY), ("AccessDenied", 403, errno.EACCES)]
    for code, status, number in cases:
        for method, act in (("GET", lambda: read_file(site / "f")), ("PUT", lambda: os.mkdir(site / "new"))):
            rgw_store.proxy.fault("error", method=method, match=rgw_store.bucket + "/", status=status, code=code,
                                  message="not authorized to perform: kms:Decrypt")
            with fails(number):
                act()
            rgw_store.proxy.fault("off")
    assert "kms:Decrypt" in site.m.text()
    # Throttling is waited out.
    rgw_store.proxy.fault("error", match=rgw_store.bucket + "/", times=2, status=400, code="KMS.ThrottlingException")
    assert read_file(site / "f") == MARKER
    write_file(site / "g", MARKER)
    assert rgw_store.head("g")["SSEKMSKeyId"] == "key-one"


def test_key_errors_at_mount(mount, rgw_store):
    cases = [("KMS.DisabledException", "is disabled"), ("KMS.KMSInvalidStateException", "cancel-key-deletion"),
             ("KMS.NotFoundException", "key of the bucket's region")]
    for code, words in cases:
        rgw_store.proxy.fault("error", method="PUT", status=400, code=code, message="arn:x")
        refused(mount, rgw_store, words, **KMS)
    rgw_store.proxy.fault("error", method="PUT", status=403, code="AccessDenied",
                          message="User: u is not authorized to perform: kms:GenerateDataKey on resource: arn:x")
    refused(mount, rgw_store, "kms:GenerateDataKey and kms:Decrypt", **KMS)


def test_ssec_blocked(mount, rgw_store):
    """A bucket that takes objects, but none with customer keys, as new ones of AWS do."""
    rgw_store.proxy.fault("error", method="PUT", status=403, code="AccessDenied", message="Access Denied", times=1)
    refused(mount, rgw_store, "BlockedEncryptionTypes", "new buckets of AWS", enc="sse-c")
    # One that takes none has another reason.
    rgw_store.proxy.fault("error", method="PUT", status=403, code="AccessDenied", message="Access Denied")
    refused(mount, rgw_store, "denies access: the credentials need", enc="sse-c")
