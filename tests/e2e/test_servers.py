# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""The servers themselves: what other tests take for granted of moto and of the proxy before its KMS."""
import time

import boto3
import botocore.exceptions
import pytest

from harness import blob, read_file, write_file


def through_proxy(kms):
    return boto3.client("kms", endpoint_url=kms.proxy.endpoint, verify=kms.proxy.cert, region_name="us-east-1",
                        aws_access_key_id="test", aws_secret_access_key="testsecret",
                        config=boto3.session.Config(retries={"total_max_attempts": 1}))


def test_moto_kms_is_counted_delayed_and_broken(kms):
    client, key = through_proxy(kms), kms.new_key("alias/files")
    made = client.generate_data_key(KeyId="alias/files", KeySpec="AES_256", EncryptionContext={"a": "b"})
    assert made["KeyId"] == key
    opened = client.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"a": "b"})
    assert opened["Plaintext"] == made["Plaintext"]
    with pytest.raises(client.exceptions.InvalidCiphertextException):
        client.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"a": "c"})
    counts = kms.proxy.counts()
    assert (counts["GenerateDataKey"], counts["Decrypt"]) == (1, 2)

    kms.proxy.latency(50)
    begin = time.monotonic()
    client.describe_key(KeyId=key)
    assert time.monotonic() - begin >= 0.05
    kms.proxy.latency(0)

    for fault, code in (("503", "ThrottlingException"), ("denied", "AccessDeniedException"),
                        ("DependencyTimeoutException", "DependencyTimeoutException")):
        kms.proxy.fault(fault, match="Decrypt")
        client.describe_key(KeyId=key)
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            client.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"a": "b"})
        assert refused.value.response["Error"]["Code"] == code


def test_moto_store(mount, moto_store, keyring):
    m, data = mount(moto_store.source, **moto_store.options()), blob(100000)
    write_file(m / "f", data)
    assert read_file(m / "f") == data
    assert moto_store.decode(keyring, "f").plaintext() == data
