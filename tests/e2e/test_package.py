# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""make install and uninstall; the Debian package: builds, lintian has nothing to say, installs and goes again."""
import os
import re
import shutil
import stat

import pytest

from harness import BUILD, TOP, run


def files_of(root):
    """Paths of files and links below root."""
    found = []
    for folder, dirs, files in os.walk(root):
        found += [os.path.relpath(os.path.join(folder, n), root) for n in files + [d for d in dirs if os.path.islink(os.path.join(folder, d))]]
    return sorted(found)


EXPECTED = (
    "bin/s3cryptfs", "bin/s3cryptfsctl", "share/man/man1/s3cryptfsctl.1", "share/man/man8/s3cryptfs.8",
    "share/man/man8/s3cryptfs@.service.8", "share/man/man8/mount.s3cryptfs.8", "share/man/man8/mount.fuse.s3cryptfs.8",
    "share/man/man8/umount.s3cryptfs.8", "share/man/man8/umount.fuse.s3cryptfs.8",
    "share/bash-completion/completions/s3cryptfs", "share/bash-completion/completions/s3cryptfsctl",
    "share/doc/s3cryptfs/examples/files.conf", "share/doc/s3cryptfs/examples/files.env", "share/doc/s3cryptfs/examples/logrotate",
    "share/doc/s3cryptfs/examples/srv-files.mount", "share/doc/s3cryptfs/examples/srv-files.automount")


def test_make_install(tmp_path):
    """What is installed, where; nothing of it is left by uninstall."""
    where = ["DESTDIR=%s" % tmp_path, "prefix=/opt/x", "mounthelperdir=/sbin", "systemdunitdir=/units"]
    run("make", "-s", "-C", BUILD, "install", *where)
    found = files_of(tmp_path)
    assert {"opt/x/" + name for name in EXPECTED} <= set(found)
    for name in ("mount.s3cryptfs", "mount.fuse.s3cryptfs", "umount.s3cryptfs", "umount.fuse.s3cryptfs"):
        assert os.readlink(tmp_path / "sbin" / name) == "/opt/x/bin/s3cryptfs"
    assert "units/s3cryptfs@.service" in found
    run("make", "-s", "-C", BUILD, "uninstall", *where)
    assert files_of(tmp_path) == []


def test_examples(tmp_path):
    """The example of a configuration is one that the program takes; logrotate takes its own."""
    options = os.path.join(TOP, "contrib/examples/files.conf")
    text = open(options).read()
    # Every option that stands there, those behind a '#' too.
    names = re.findall(r"^#?([a-z_]+)(?:=.*)?$", text, re.M)
    assert len(names) > 8
    (tmp_path / "files.conf").write_text(re.sub(r"^#([a-z_]+(=.*)?)$", r"\1", text, flags=re.M))
    os.chmod(tmp_path / "files.conf", 0o600)
    helper = tmp_path / "mount.s3cryptfs"
    helper.symlink_to(os.path.join(BUILD, "s3cryptfs"))
    assert run(helper, "bucket:/files", tmp_path, "-f", "-o", "config=%s" % (tmp_path / "files.conf")).stderr == ""
    (tmp_path / "files.conf").write_text("keyrign=/x\n")
    assert run(helper, "bucket:/files", tmp_path, "-f", "-o", "config=%s" % (tmp_path / "files.conf"), check=False).returncode == 1
    if not shutil.which("logrotate"):
        pytest.skip("no logrotate")
    (tmp_path / "logrotate").write_text(open(os.path.join(TOP, "contrib/examples/logrotate")).read().replace("/var/log/s3cryptfs", str(tmp_path)))
    (tmp_path / "files.log").write_text("a line\n")
    os.chmod(tmp_path, 0o700)
    run("logrotate", "-d", "-s", tmp_path / "state", tmp_path / "logrotate")


@pytest.fixture
def tools():
    for tool in ("dpkg-buildpackage", "dh", "lintian", "git"):
        if not shutil.which(tool):
            pytest.skip("no " + tool)
    if os.geteuid() != 0:
        pytest.skip("dpkg --root needs root")


@pytest.mark.long
def test_debian_package(tools, tmp_path):
    source, root = tmp_path / "s3cryptfs", tmp_path / "root"
    source.mkdir()
    names = run("git", "-C", TOP, "ls-files", "-z", check=False)
    if names.returncode:
        pytest.skip("not a checkout of git")
    for name in filter(None, names.stdout.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(os.path.join(TOP, name), source / name, follow_symlinks=False)
    run("dpkg-buildpackage", "-b", "-us", "-uc", cwd=source, timeout=1800)
    (package,) = tmp_path.glob("s3cryptfs_*.deb")
    (changes,) = tmp_path.glob("*.changes")
    said = run("lintian", "--allow-root", "--fail-on", "error,warning", changes, timeout=600)
    assert not re.search("^[EW]:", said.stdout, re.M), said.stdout
    # The packages that building needs are those that contrib/deps installs.
    wanted = set(re.search(r'^build="([^"]*)"', open(os.path.join(TOP, "contrib/deps")).read(), re.M).group(1).split())
    needs = set(re.findall(r"^ ?([a-z0-9.+-]+-dev)\b", (source / "debian/control").read_text(), re.M))
    assert needs and needs <= wanted

    # Into a root of its own: nothing of this system is touched. What it depends on is not there.
    for folder in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "usr/sbin", "usr/lib"):
        (root / folder).mkdir(parents=True)
    for name in ("sbin", "lib"):
        (root / name).symlink_to("usr/" + name)
    for name in ("status", "available"):
        (root / "var/lib/dpkg" / name).write_text("")
    dpkg = ["dpkg", "--root=%s" % root, "--force-depends", "--force-not-root", "--log=/dev/null"]
    run(*dpkg, "--install", package)
    found = set(files_of(root))
    assert {"usr/bin/s3cryptfs", "usr/bin/s3cryptfsctl", "usr/sbin/mount.fuse.s3cryptfs", "usr/sbin/umount.fuse.s3cryptfs",
            "usr/lib/systemd/system/s3cryptfs@.service", "etc/logrotate.d/s3cryptfs",
            "usr/share/bash-completion/completions/s3cryptfsctl", "usr/share/doc/s3cryptfs/examples/files.conf"} <= found
    assert run(root / "usr/bin/s3cryptfs", "--version").stdout.startswith("s3cryptfs ")
    assert "ExecStart=/usr/bin/s3cryptfs " in (root / "usr/lib/systemd/system/s3cryptfs@.service").read_text()
    assert stat.S_ISDIR(os.stat(root / "etc/s3cryptfs").st_mode)
    for page in ("s3cryptfs.8", "umount.fuse.s3cryptfs.8", "s3cryptfs@.service.8"):
        assert os.path.exists(root / "usr/share/man/man8" / (page + ".gz"))
    # A keyring of the user's outlives the package, as does a file of options that was changed.
    (root / "etc/s3cryptfs/keyring").write_text("mine\n")
    run(*dpkg, "--remove", "s3cryptfs")
    left = [f for f in files_of(root) if not f.startswith("var/lib/dpkg")]
    assert left == ["etc/logrotate.d/s3cryptfs", "etc/s3cryptfs/keyring"]
    run(*dpkg, "--purge", "s3cryptfs")
    left = [f for f in files_of(root) if not f.startswith("var/lib/dpkg")]
    assert left == ["etc/s3cryptfs/keyring"]
