# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""The contract of a store (tests/contract), on real servers: through TLS, and without the proxy."""
import os
import subprocess

import pytest

from harness import BUILD, Store

PROGRAM = os.path.join(BUILD, "tests", "contract", "contract")


@pytest.mark.parametrize("server,words", [("radosgw", []), ("radosgw", ["--ssec"]), ("versitygw", [])],
                         ids=["radosgw", "radosgw-ssec", "versitygw"])
def test_contract(request, server, words):
    if not os.path.exists(PROGRAM):
        pytest.skip("tests/contract/contract is not built: make check builds it")
    fixture = {"radosgw": "rgw", "versitygw": "versity"}[server]
    s = request.getfixturevalue(fixture)
    store = Store(s, request.getfixturevalue(fixture + "_proxy"))
    env = dict(os.environ, S3C_TEST_SERVER=server, S3C_TEST_ENDPOINT=s.endpoint, S3C_TEST_CA=s.cert, AWS_REGION="us-east-1",
               CMOCKA_MESSAGE_OUTPUT="TAP", **store.env)
    try:
        result = subprocess.run([PROGRAM, *words, "s3:" + store.bucket], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, timeout=300)
        lines = result.stdout.splitlines()
        # cmocka writes a skipped case as "not ok N # SKIP NAME".
        lines = [line for line in lines if "# SKIP" not in line]
        done = [line for line in lines if line.startswith("ok ")]
        assert result.returncode == 0 and not [line for line in lines if line.startswith("not ok")], result.stdout
        assert len(done) >= 20, result.stdout
    finally:
        store.delete_all()
