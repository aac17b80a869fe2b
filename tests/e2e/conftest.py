# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Fixtures: real servers, real mounts. Each test has a folder, a store (or bucket
prefix) and a mount of its own; the servers live as long as the run.

Environment: S3CRYPTFS_BUILD names the folder with the built programs (default: build/);
S3CRYPTFS_SANITIZED=1 says that they are sanitizer builds, whose memory is not measured.
Tests marked long run with --long only. Tests marked alone measure times of milliseconds: contrib/check runs all others
by several workers (pytest-xdist; each has servers of its own), then these one after the other.
"""
import os
import shutil
import sys
import tempfile
import uuid

import pytest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOP = os.path.dirname(TESTS)
sys.path.insert(0, TESTS)
sys.path.insert(0, os.path.join(TESTS, "e2e"))

os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
for name in list(os.environ):
    if name.startswith("AWS_") and not name.endswith(("CALCULATION", "VALIDATION")):
        del os.environ[name]

import matrix  # noqa: E402
from harness import FileStore, Keyring, Kms, Mount, Store  # noqa: E402
from servers import base, moto as moto_server, proxy, radosgw, versitygw  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also the tests that take minutes")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; needs --long")
    config.addinivalue_line("markers", "alone: measures short times; nothing else may run beside it")
    if not hasattr(config, "workerinput"):
        matrix.begin()


def pytest_terminal_summary(terminalreporter):
    lines = matrix.lines()
    if lines:
        terminalreporter.section("modes, servers and operations")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs --long"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.passed = outcome.get_result().passed


@pytest.fixture(autouse=True)
def tidy(request, tmp_path):
    """Some tests leave gigabytes: those of a test that passed go, before pytest would let them go."""
    yield
    if getattr(request.node, "passed", False) and not any(
            os.path.ismount(os.path.join(tmp_path, name)) for name in os.listdir(tmp_path)):
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session")
def run_folder():
    with tempfile.TemporaryDirectory(prefix="s3cryptfs-e2e-") as folder:
        yield folder


def _server(make):
    try:
        server = make()
    except base.Unavailable as reason:
        pytest.skip(str(reason))
    yield server
    server.stop()


def _proxy(run_folder, name, server, **how):
    return _server(lambda: proxy.Proxy(os.path.join(run_folder, "proxy-" + name), server.upstream, **how))


@pytest.fixture(scope="session")
def rgw(run_folder):
    yield from _server(lambda: radosgw.Radosgw(os.path.join(run_folder, "radosgw")))


@pytest.fixture(scope="session")
def versity(run_folder):
    yield from _server(lambda: versitygw.Versitygw(os.path.join(run_folder, "versitygw"), tls=False))


@pytest.fixture(scope="session")
def moto(run_folder):
    yield from _server(lambda: moto_server.Moto(os.path.join(run_folder, "moto")))


@pytest.fixture(scope="session")
def rgw_proxy(run_folder, rgw):
    yield from _proxy(run_folder, "rgw", rgw)


@pytest.fixture(scope="session")
def versity_proxy(run_folder, versity):
    yield from _proxy(run_folder, "versity", versity)


@pytest.fixture(scope="session")
def moto_proxy(run_folder, moto):
    yield from _proxy(run_folder, "moto", moto)


@pytest.fixture(scope="session")
def kms_proxy(run_folder, moto, moto_proxy):
    """Before the KMS alone. Mounts name one ca_file: this is the certificate of the store's proxy."""
    yield from _proxy(run_folder, "kms", moto, tls=moto_proxy.tls)


@pytest.fixture
def keyring(tmp_path):
    return Keyring(str(tmp_path / "keyring"))


def _quiet(front):
    front.fault("off")
    front.latency(0)


def _store(server, front):
    """A new bucket, reached through the counting proxy over TLS."""
    _quiet(front)
    store = Store(server, front)
    front.reset()
    yield store
    _quiet(front)
    store.delete_all()


@pytest.fixture
def rgw_store(rgw, rgw_proxy):
    yield from _store(rgw, rgw_proxy)


@pytest.fixture
def versity_store(versity, versity_proxy):
    yield from _store(versity, versity_proxy)


@pytest.fixture
def moto_store(moto, moto_proxy):
    """On moto, which answers as AWS does in the SSE modes (but encrypts nothing)."""
    yield from _store(moto, moto_proxy)


@pytest.fixture
def kms(moto, kms_proxy):
    """moto's KMS behind a proxy of its own: kms.new_key() -> ARN, kms.options(key) for a mount, kms.proxy.counts()."""
    _quiet(kms_proxy)
    kms_proxy.reset()
    yield Kms(moto, kms_proxy)
    _quiet(kms_proxy)


@pytest.fixture
def file_store(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    return FileStore(str(folder))


@pytest.fixture
def mount(tmp_path, keyring):
    """mount(source, **options) -> Mount; all are unmounted at the end, and no daemon may have died."""
    mounts = []

    def make(source, wait=True, **options):
        options.setdefault("keyring", keyring.path)
        options.setdefault("cache_dir", str(tmp_path / ("cache-" + uuid.uuid4().hex[:8])))
        m = Mount(source, str(tmp_path / ("mnt-" + uuid.uuid4().hex[:8])), options)
        mounts.append(m)
        if wait:
            m.wait_up()
        return m

    yield make
    problems = [m.finish() for m in mounts]
    for m in mounts:  # shown with a test that failed
        print("--- log of", m.path)
        print(m.text()[-4000:])
    assert not any(problems), "\n".join(p for p in problems if p)
