# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""What the servers share: ports, certificates, processes that end with the test run."""
import os
import random
import signal
import socket
import subprocess
import time


class Unavailable(Exception):
    """The server's program is not installed; the reason is for the skip message."""


def free_port():
    """A port below the range that the kernel gives to outgoing connections, which could take it first."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def make_certificate(folder):
    """A self-signed certificate for localhost: cert.pem, key.pem and both in one file."""
    os.makedirs(folder, exist_ok=True)
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,DNS:*.localhost,IP:127.0.0.1",
         "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", key, "-out", cert],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(os.path.join(folder, "both.pem"), "w") as both:
        for name in (cert, key):
            with open(name) as f:
                both.write(f.read())
    return cert, key


def wait_port(port, seconds=60, process=None, meanwhile=lambda: None):
    """Until something listens there. `meanwhile` is called at each look."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        meanwhile()
        if process is not None and process.poll() is not None:
            raise RuntimeError("server ended with %s: %s" % (process.returncode, process.args))
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("nothing listens on port %d after %d s" % (port, seconds))


def start(args, log, env=None, cwd=None):
    """Starts a process in the background that gets SIGTERM when this one dies."""
    with open(log, "ab") as out:
        return subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=cwd,
                                start_new_session=True, preexec_fn=_die_with_parent)


def _die_with_parent():
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def stop(process, seconds=10):
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
