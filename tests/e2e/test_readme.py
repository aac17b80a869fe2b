# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
The commands of the README, in its order and as they are written there, as somebody who has just installed the program:
in a namespace of mounts and of the network, where /etc, /mnt and the like are its own and the bucket is one of versitygw,
which answers as https://s3.example.org. A new command is run as well; one that cannot be is entered in NOT_HERE.
"""
import os
import re
import signal
import subprocess

import pytest

from harness import CTL, PROGRAM, TOP, run, wait_for
from servers import base, versitygw

# Beginnings of commands, and why they are not run here.
NOT_HERE = {
    "contrib/quickstart": "installs packages, builds and copies gigabytes",
    "contrib/check": "is what runs this",
    "contrib/deps": "installs packages: contrib/check runs it",
    "autoreconf": "contrib/check does",
    "mkdir -p build": "contrib/check does",
    "../configure": "contrib/check does",
    "make ": "contrib/check does",
    "sudo make": "test_package.py installs into a folder",
    "podman ": "needs an image",
}
# Options that the server here does not honour: refused in one line, as a store must be that only pretends. With a KMS
# they are in test_matrix.py.
REFUSED = ("enc=sse-c", "enc=cse-kms", "enc=sse-kms")
PREPARE = """
set -e
mount --make-rprivate /
mount -t tmpfs none "$T/tmp"
mkdir "$T/tmp/etc" "$T/tmp/work" "$T/tmp/root" "$T/tmp/work-root"
mount -t overlay none -o lowerdir=/etc,upperdir="$T/tmp/etc",workdir="$T/tmp/work" /etc
mount -t overlay none -o lowerdir=/root,upperdir="$T/tmp/root",workdir="$T/tmp/work-root" /root
mount -t overlay none -o lowerdir="$T/bin:/usr/sbin" /usr/sbin
mount -t overlay none -o lowerdir="$T/bin:/usr/bin" /usr/bin
for folder in /mnt /srv /run /var/cache /var/lib; do mount -t tmpfs none $folder; done
mkdir -p /run/mount /srv/store /srv/files /root/.aws
ip link set lo up
echo "127.0.0.1 s3.example.org" >>/etc/hosts
cat "$T/tls/cert.pem" >>/etc/ssl/certs/ca-certificates.crt
: >/etc/fstab
rm -rf /etc/s3cryptfs
printf '[default]\\nregion = us-east-1\\nendpoint_url = https://s3.example.org\\n' >/root/.aws/config
printf '[default]\\naws_access_key_id = test\\naws_secret_access_key = testsecret\\n' >/root/.aws/credentials
mkdir "$T/data/bucket"
"$VERSITYGW" --port 127.0.0.1:443 --access test --secret testsecret --cert "$T/tls/cert.pem" --key "$T/tls/key.pem" posix "$T/data" >"$T/log" 2>&1 &
echo ready $!
exec sleep 3600
"""


def commands():
    """Lines of the blocks that are commands, without their comments."""
    found = []
    for line in open(os.path.join(TOP, "README.md")):
        if line.startswith("    ") and line.strip():
            found.append(re.sub(r"\s+# .*", "", line.strip()))
    return found


class Home:
    def __init__(self, folder):
        self.folder = folder
        for name in ("tmp", "bin", "data", "tls", "cwd"):
            (folder / name).mkdir()
        for name in ("s3cryptfs", "mount.fuse.s3cryptfs", "umount.fuse.s3cryptfs"):
            (folder / "bin" / name).symlink_to(PROGRAM)
        (folder / "bin/s3cryptfsctl").symlink_to(CTL)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=s3.example.org", "-addext", "subjectAltName=DNS:s3.example.org,DNS:bucket.s3.example.org",
                        "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", folder / "tls/key.pem", "-out", folder / "tls/cert.pem"],
                       check=True, stderr=subprocess.DEVNULL)
        self.holder = subprocess.Popen(["unshare", "-m", "-n", "sh", "-c", PREPARE], env=dict(os.environ, T=str(folder), VERSITYGW=versitygw.find_program()),
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        ready = self.holder.stdout.readline()
        if not ready.startswith("ready"):
            pytest.skip("no namespaces with an overlay here: " + self.holder.stderr.read())
        self.server = int(ready.split()[1])
        wait_for(lambda: self.run("exec 3<>/dev/tcp/127.0.0.1/443", shell="bash").returncode == 0, 30, "the server")

    def run(self, command, shell="sh"):
        env = {"HOME": "/root", "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}
        return run("nsenter", "-t", self.holder.pid, "-m", "-n", "--wd=%s" % (self.folder / "cwd"), shell, "-c", command,
                   env=env, check=False, stdin=subprocess.DEVNULL, timeout=120)

    def good(self, command):
        result = self.run(command)
        assert result.returncode == 0, "README.md: %s\n%s%s" % (command, result.stdout, result.stderr)
        return result

    def mounted(self, mountpoint="/mnt"):
        return self.run("findmnt -n -t fuse.s3cryptfs " + mountpoint).returncode == 0

    def finish(self):
        for mountpoint in ("/mnt", "/srv/files"):
            if self.mounted(mountpoint):
                self.run("umount " + mountpoint)
        os.kill(self.server, signal.SIGTERM)
        self.holder.kill()
        self.holder.wait()


@pytest.fixture
def home(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    try:
        versitygw.find_program()
    except base.Unavailable as reason:
        pytest.skip(str(reason))
    home = Home(tmp_path)
    yield home
    home.finish()


def prepare(home, command):
    """What the reader has done before: a mount where a command needs one."""
    if re.search(r"^s3cryptfsctl (status|sync|retry|save|discard) ", command) and not home.mounted():
        home.good("s3cryptfs s3://bucket/files /mnt")
    if command.startswith(("s3cryptfs ", "s3cryptfsctl ls", "s3cryptfsctl stat ", "s3cryptfsctl cat")) and home.mounted():
        home.good("umount /mnt")


def test_readme(home):
    ran, left = [], {}
    for command in commands():
        why = next((NOT_HERE[start] for start in NOT_HERE if command.startswith(start)), None)
        if why:
            left[command] = why
            continue
            # The first one stands in the introduction: without a keyring it says how to make one.
        if command.startswith("s3cryptfs ") and not ran:
            refused = home.run(command)
            assert refused.returncode == 1 and "s3cryptfsctl key new" in refused.stderr and refused.stderr.count("\n") == 1
            continue
        prepare(home, command)
        filled = command.replace("[PATH]", "photos/a.jpg").replace(" PATH TO", " photos/a.jpg copy.jpg").replace(" PATH", " photos/a.jpg")
        ran.append(command)
        if any(option in command for option in REFUSED):
            result = home.run(filled)
            assert result.returncode == 1 and result.stderr.count("\n") == 1 and not home.mounted(), "README.md: %s\n%s" % (command, result.stderr)
        elif re.match(r"\S+\s+/\S+\s+fuse\.s3cryptfs\s", command):  # a line of fstab
            if home.mounted():
                home.good("umount /mnt")
            home.good("echo '%s' >>/etc/fstab" % command)
            home.good("mount -a && mount -a")
            assert home.mounted() and home.good("cat /mnt/photos/a.jpg").stdout == "a picture\n"
            home.good("umount /mnt")
        elif command.startswith("s3cryptfsctl discard") or command.startswith("s3cryptfsctl retry"):
            result = home.run(filled)  # there is nothing to give up, or to try again
            assert result.returncode == 1 and result.stderr.count("\n") == 1 and "nothing" in result.stderr, result.stderr
        else:
            said = home.good(filled)
            if command.startswith("s3cryptfs "):
                assert said.stdout == said.stderr == "" and home.mounted(command.split()[2])
            if command == "s3cryptfs s3://bucket/files /mnt":
                home.good("mkdir -p /mnt/photos && echo a picture >/mnt/photos/a.jpg")
            if command.startswith("s3cryptfsctl ls"):
                assert "a.jpg" in said.stdout
    assert home.good("cat a.jpg").stdout == home.good("cat copy.jpg").stdout == "a picture\n"
    print("not run:", left)
    assert len(ran) >= 15
    # Everything that it says not to run stands there: the list does not outlive the README.
    assert set(left.values()) == set(NOT_HERE.values())
    wait_for(lambda: not home.mounted(), 20, "the end of mounts")
