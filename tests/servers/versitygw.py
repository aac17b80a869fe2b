# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""versitygw over a folder: honours conditions and checksums, ignores SSE-C."""
import os
import shutil

from . import base


def find_program():
    for place in (os.environ.get("VERSITYGW"), shutil.which("versitygw"), os.path.expanduser("~/go/bin/versitygw"),
                  "/usr/local/bin/versitygw"):
        if place and os.access(place, os.X_OK):
            return place
    raise base.Unavailable("versitygw is not installed (contrib/deps test installs it where Go is)")


class Versitygw:
    name = "versitygw"
    access_key, secret_key = "test", "testsecret"

    def __init__(self, folder, tls=True):
        program = find_program()
        os.makedirs(os.path.join(folder, "data"))
        self.cert, key = base.make_certificate(os.path.join(folder, "tls"))
        self.port = base.free_port()
        args = [program, "--port", "127.0.0.1:%d" % self.port, "--access", self.access_key, "--secret", self.secret_key]
        if tls:
            args += ["--cert", self.cert, "--key", key]
        self.process = base.start(args + ["posix", os.path.join(folder, "data")], os.path.join(folder, "log"))
        base.wait_port(self.port, process=self.process)
        self.endpoint = "%s://localhost:%d" % ("https" if tls else "http", self.port)
        self.upstream = "127.0.0.1:%d" % self.port

    def stop(self):
        base.stop(self.process)
