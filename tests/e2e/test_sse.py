# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Server-side modes: who is refused, what a reply without the encryption does to a
mount, and what the errors of a store's key service look like to programs. That
each operation keeps the mode is in test_matrix.py.
"""
import base64
import errno
import os
import re
import shutil
import subprocess

import pytest

from harness import CTL, MARKER, Site, blob, fails, read_file, run, wait_for, write_file

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


def test_replies_like_aws(mount, moto_store):
    """moto answers as AWS does, but for the bucket key of an upload: such a store is refused, and no upload is left."""
    refused(mount, moto_store, "no bucket key", enc="sse-kms", bucket_key="on")
    site = Site(mount, moto_store, enc="sse-kms")  # under the account's own key
    write_file(site / "f", MARKER)
    head = moto_store.head("f")
    assert head["ServerSideEncryption"] == "aws:kms" and "SSEKMSKeyId" not in head and not head.get("BucketKeyEnabled")
    site.remount(kms_key_id="alias/files", kms_context="team=storage")
    os.chmod(site / "f", 0o600)
    assert moto_store.head("f")["SSEKMSKeyId"] == "alias/files"


def test_really_encrypted(mount, rgw_store, rgw):
    """What radosgw has on its disks."""
    site = Site(mount, rgw_store, **KMS)
    write_file(site / "kms", MARKER * 100)
    site.remount(enc="none", kms_key_id=None)
    write_file(site / "plain", MARKER * 100)
    found = {}
    for name in rgw._run("rados", "-p", "default.rgw.buckets.data", "ls").splitlines():
        for key in ("kms", "plain"):
            if name.endswith("_" + key):
                path = os.path.join(rgw.folder, "raw")
                rgw._run("rados", "-p", "default.rgw.buckets.data", "get", name, path)
                found.setdefault(key, []).append(read_file(path))
    assert any(MARKER in body for body in found["plain"])
    assert found["kms"] and not any(MARKER in body for body in found["kms"])
    options = rgw_store.options()
    env = dict(os.environ, **options.pop("env"))
    for key, words in (("kms", "by the store, aws:kms, key key-one"), ("plain", "none")):
        said = run(CTL, "stat", "-o", ",".join("%s=%s" % pair for pair in dict(options, enc="none").items()), rgw_store.source, key,
                   env=env).stdout
        assert re.search(r"^encryption +%s$" % words, said, re.M), said


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
    assert "read-only, " in run(CTL, "status", site.path, check=False).stdout  # 1: not everything is in the store
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
    assert rgw_store.uploads() == []


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


def by_others(store, **kw):
    """Objects of boto3: in one piece, and in parts."""
    store.put("small", MARKER, **kw)
    created = store.client.create_multipart_upload(Bucket=store.bucket, Key="large", **kw)
    key = {k: v for k, v in kw.items() if k.startswith("SSECustomer")}
    parts = []
    for n, body in enumerate((blob(5 << 20, 1), blob(1 << 20, 2))):
        part = store.client.upload_part(Bucket=store.bucket, Key="large", UploadId=created["UploadId"], PartNumber=n + 1, Body=body,
                                        **key)
        parts.append({"PartNumber": n + 1, "ETag": part["ETag"]})
    store.client.complete_multipart_upload(Bucket=store.bucket, Key="large", UploadId=created["UploadId"],
                                           MultipartUpload={"Parts": parts})
    return {"small": MARKER, "large": blob(5 << 20, 1) + blob(1 << 20, 2)}


def init(store, keyring, options):
    """Makes the volume (of sse-c) where objects lie already."""
    options = dict(store.options(**options), keyring=keyring.path)
    env = dict(os.environ, **options.pop("env"))
    run(CTL, "init", "-o", ",".join("%s=%s" % pair for pair in options.items()), store.source, env=env)


@pytest.mark.parametrize("mode", ["sse-kms", "sse-c"])
def test_objects_of_boto3(mount, rgw_store, keyring, mode):
    if mode == "sse-kms":
        options, kw = KMS, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key-two"}
    else:
        options = {"enc": "sse-c", "ssec_key": "shared"}
        kw = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": keyring.add_shared()}
        init(rgw_store, keyring, options)
    contents = by_others(rgw_store, **kw)
    site = Site(mount, rgw_store, **options)
    for name, data in contents.items():
        assert read_file(site / name) == data
        with open(site / name, "r+b") as f:
            f.write(b"changed")
        assert read_file(site / name) == b"changed" + data[7:]
        if mode == "sse-kms":
            assert rgw_store.head(name)["SSEKMSKeyId"] == "key-one"


@pytest.mark.parametrize("mode", ["sse-kms", "sse-c", "none"])
def test_objects_of_s3fs(mount, rgw_store, rgw, keyring, tmp_path, mode):
    """Files of s3fs in its modes read normally, with their attributes; and s3fs reads ours."""
    if not shutil.which("s3fs"):
        pytest.skip("s3fs is not installed (Debian: s3fs)")
    passwd, key, point = (str(tmp_path / name) for name in ("passwd-s3fs", "ssec-key", "s3fs"))
    write_file(passwd, ("%s:%s\n" % (rgw.access_key, rgw.secret_key)).encode())
    options, theirs = {"enc": "none"}, None
    if mode == "sse-kms":
        options, theirs = KMS, "use_sse=kmsid:key-two"
    elif mode == "sse-c":
        options, theirs = {"enc": "sse-c", "ssec_key": "shared"}, "use_sse=custom:" + key
        write_file(key, base64.b64encode(keyring.add_shared()) + b"\n")
        os.chmod(key, 0o600)
        init(rgw_store, keyring, options)
    os.chmod(passwd, 0o600)
    os.mkdir(point)
    # nomultipart: uploads in parts of s3fs 1.90 are sent without any encryption.
    words = ["url=" + rgw_store.proxy.endpoint, "passwd_file=" + passwd, "use_path_request_style", "endpoint=us-east-1", "retries=2",
             "nomultipart"]
    log = str(tmp_path / "s3fs.log")
    with open(log, "wb") as out:
        process = subprocess.Popen(["s3fs", rgw_store.bucket, point, "-f", "-o", ",".join(words + ([theirs] if theirs else []))],
                                   stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                   env=dict(os.environ, CURL_CA_BUNDLE=rgw_store.proxy.cert))
    try:
        wait_for(lambda: os.path.ismount(point) or process.poll() is not None, 60, "mount of s3fs")
        assert process.poll() is None, read_file(log)[-2000:]
        contents = {"small": MARKER, "d/large": blob(12 << 20, 1), "empty": b""}
        os.mkdir(os.path.join(point, "d"))
        for name, data in contents.items():  # radosgw cannot copy what it encrypted: no chmod afterwards
            with open(os.path.join(point, name), "wb", opener=lambda path, flags: os.open(path, flags, 0o640)) as f:
                f.write(data)
        site = Site(mount, rgw_store, **options)
        assert sorted(os.listdir(site.path)) == ["d", "empty", "small"]
        for name, data in contents.items():
            assert read_file(site / name) == data
            st = os.stat(site / name)
            assert (st.st_mode & 0o7777, st.st_size) == (0o640, len(data))
        write_file(site / "ours", MARKER)
        site.umount()
        if mode == "sse-kms":
            assert {rgw_store.head(k)["SSEKMSKeyId"] for k in ("small", "d/large")} == {"key-two"}
        assert read_file(os.path.join(point, "ours")) == MARKER
    finally:
        run("fusermount3", "-u", "-z", point, check=False)
        process.wait(60)
