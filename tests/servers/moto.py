# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
moto: S3 and KMS in one process. KMS really encrypts, with encryption contexts. S3 echoes the headers of sse-s3 and sse-kms and
encrypts nothing, ignores those of sse-c, and checks no signatures.
"""
import os
import re

from . import base

DEPS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "contrib", "deps")


def find_program():
    with open(DEPS) as f:
        version = re.search(r"^moto=(.+)$", f.read(), re.M).group(1)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.path.join(cache, "s3cryptfs-tests", "moto-" + version)
    if not os.path.exists(os.path.join(home, "complete")):
        raise base.Unavailable("moto is not installed in %s (contrib/deps test installs it with pip)" % home)
    return os.path.join(home, "bin", "moto_server")


class Moto:
    name = "moto"
    access_key, secret_key = "test", "testsecret"

    def __init__(self, folder):
        program = find_program()
        os.makedirs(folder)
        self.port = base.free_port()
        env = dict(os.environ, MOTO_S3_DEFAULT_KEY_BUFFER_SIZE=str(64 << 20))  # objects below stay out of /tmp
        self.process = base.start([program, "-H", "127.0.0.1", "-p", str(self.port)], os.path.join(folder, "log"), env=env)
        base.wait_port(self.port, process=self.process)
        self.endpoint = "http://localhost:%d" % self.port
        self.upstream = "127.0.0.1:%d" % self.port
        self.cert = None

    def stop(self):
        base.stop(self.process)
