# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""What is shipped for containers: units of the volume plugin, examples for Kubernetes, the recipe of an image."""
import glob
import os
import re
import shutil
import subprocess
import tarfile

import pytest

from harness import BUILD, PROGRAM, TOP, find_bytes, run, wait_for

KUBERNETES = sorted(glob.glob(os.path.join(TOP, "contrib/kubernetes/*.yaml")))
RECIPE = os.path.join(TOP, "contrib/container/Containerfile")
PLUGIN = os.path.join(BUILD, "s3cryptfs-volume-plugin")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
@pytest.mark.skipif(not os.path.exists(PLUGIN), reason="built with --disable-volume-plugin")
def test_units(tmp_path):
    """As systemd reads them; the mounts have to outlive the service."""
    shutil.copy(os.path.join(TOP, "contrib/systemd/s3cryptfs-volume-plugin.socket"), tmp_path)
    with open(os.path.join(TOP, "contrib/systemd/s3cryptfs-volume-plugin.service.in")) as f:
        text = f.read()
    assert re.search("^KillMode=process$", text, re.M)
    assert not re.search("^(Private|Protect|ReadOnly|ReadWrite|Inaccessible|MountFlags|RootDirectory)", text, re.M)
    text = text.replace("@sbindir@/s3cryptfs-volume-plugin", PLUGIN).replace("@bindir@/s3cryptfs", PROGRAM)
    assert not re.search("@[a-z]+@", text)

    def verify(unit):
        (tmp_path / "s3cryptfs-volume-plugin.service").write_text(unit)
        result = run("systemd-analyze", "verify", "--man=no", tmp_path / "s3cryptfs-volume-plugin.service",
                     tmp_path / "s3cryptfs-volume-plugin.socket", check=False,
                     env=dict(os.environ, SYSTEMD_UNIT_PATH="%s:" % tmp_path))
        return [line for line in result.stderr.splitlines() if "s3cryptfs" in line]
    assert verify(text) == []
    assert verify(text.replace("KillMode=process", "KillMode=processes"))
    # What it starts with is what the program takes.
    command = re.search("^ExecStart=(.*)", text, re.M).group(1).split()
    assert run(*command, "--version").stdout.startswith("s3cryptfs-volume-plugin ")


def documents(path):
    yaml = pytest.importorskip("yaml")
    with open(path) as f:
        return [d for d in yaml.safe_load_all(f) if d]


def pods(document):
    """Specifications of pods in a document."""
    if document["kind"] == "Pod":
        yield document["spec"]
    elif document["kind"] == "DaemonSet":
        labels = document["spec"]["template"]["metadata"]["labels"]
        assert document["spec"]["selector"]["matchLabels"].items() <= labels.items()
        yield document["spec"]["template"]["spec"]


# Fields of the API that the examples use: a misspelt one would be dropped or refused by a cluster, which is not here.
FIELDS = {
    "pod": {"terminationGracePeriodSeconds", "priorityClassName", "initContainers", "containers", "volumes"},
    "container": {"name", "image", "command", "args", "envFrom", "securityContext", "lifecycle", "startupProbe", "livenessProbe",
                  "resources", "volumeMounts", "restartPolicy"},
    "probe": {"exec", "periodSeconds", "timeoutSeconds", "failureThreshold"},
    "mount": {"name", "mountPath", "mountPropagation", "subPath", "readOnly"},
}


def check_pod(spec, tmp_path):
    """The mounting container of a pod, if it has one."""
    assert spec.keys() <= FIELDS["pod"], spec.keys()
    volumes = {v["name"]: v for v in spec["volumes"]}
    found = None
    for container in spec.get("initContainers", []) + spec["containers"]:
        assert container.keys() <= FIELDS["container"], container.keys()
        mounts = {m["name"]: m for m in container["volumeMounts"]}
        for mount in mounts.values():
            assert mount.keys() <= FIELDS["mount"] and mount["name"] in volumes, mount
            assert mount.get("mountPropagation") in (None, "Bidirectional", "HostToContainer")
        if container["name"] != "s3cryptfs":
            assert [m["mountPropagation"] for m in mounts.values()] == ["HostToContainer"]
            continue
        found = container
        assert container["securityContext"]["privileged"] is True
        assert mounts["mounts"]["mountPropagation"] == "Bidirectional"
        source, mountpoint, *flags = container["args"]
        # Below what is shared, not that itself; the journal outlives the pod; the keyring is for its owner alone.
        assert os.path.dirname(mountpoint) == mounts["mounts"]["mountPath"]
        assert mounts["state"]["mountPath"] == "/var/lib/s3cryptfs" and "emptyDir" not in volumes["state"]
        assert volumes["keyring"]["secret"]["defaultMode"] == 0o400
        assert source.startswith("s3://") and flags[:2] == ["-f", "-o"] and "allow_other" in flags[2].split(",")
        for name in ("startupProbe", "livenessProbe"):
            probe = container[name]
            assert probe.keys() <= FIELDS["probe"] and probe["timeoutSeconds"] >= 5
            assert probe["exec"]["command"] == ["s3cryptfsctl", "loglevel", mountpoint]
        assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 600
        assert container["lifecycle"]["preStop"]["exec"]["command"] == ["s3cryptfsctl", "sync", mountpoint]
        assert spec["terminationGracePeriodSeconds"] >= 300  # timeout= of the mount is 120
        assert container["command"][:2] == ["/bin/sh", "-c"] and 'exec s3cryptfs "$@"' in container["command"][2]
    return found


@pytest.mark.parametrize("path", KUBERNETES, ids=os.path.basename)
def test_kubernetes(path, tmp_path):
    """Syntax and fields; the options are those that the program takes."""
    mounting = [c for d in documents(path) for s in pods(d) if (c := check_pod(s, tmp_path))]
    assert len(mounting) == 1
    config = [d["data"]["files.conf"] for f in KUBERNETES for d in documents(f) if d["kind"] == "ConfigMap"]
    assert len(config) == 1
    (tmp_path / "files.conf").write_text(config[0])
    helper = tmp_path / "mount.s3cryptfs"
    helper.symlink_to(PROGRAM)
    source, _, _, _, options = mounting[0]["args"]
    options = options.replace("/etc/s3cryptfs/files.conf", str(tmp_path / "files.conf"))
    run(helper, source, tmp_path, "-f", "-o", options)
    assert run(helper, source, tmp_path, "-f", "-o", options + ",keyrign=/x", check=False).returncode
    # Its start: a folder that is there already, or not, and the arguments as they are.
    start = mounting[0]["command"][2].replace("/mnt/s3/files", str(tmp_path / "new/files")).replace("s3cryptfs ", "echo ")
    for _ in range(2):
        assert run("/bin/sh", "-c", start, "s3cryptfs", "a b", "-f").stdout == "a b -f\n"
    assert os.path.isdir(tmp_path / "new/files")


def test_recipe():
    """What is copied exists; packages that run it are those that its libraries come from."""
    text = re.sub(r"\\\n", " ", open(RECIPE).read())
    for line in re.findall("^COPY (?!--from)(.*)", text, re.M):
        for name in line.split()[:-1]:
            assert os.path.exists(os.path.join(TOP, name)), name
    if not shutil.which("dpkg"):
        pytest.skip("no dpkg")
    installed = set(re.search(r"--no-install-recommends(.*?)&&", text).group(1).split())
    program = PLUGIN if os.path.exists(PLUGIN) else PROGRAM
    with open(program, "rb") as f:
        if b"libasan" in f.read():
            pytest.skip("a sanitizer's build needs others")
    needed = {re.match(r"\s*NEEDED\s+(\S+)", line).group(1) for line in run("objdump", "-p", program).stdout.splitlines()
              if "NEEDED" in line}
    for name in needed - {"libc.so.6", "libm.so.6", "libpthread.so.0"}:
        owners = {line.split(":")[0] for line in run("dpkg", "-S", name).stdout.splitlines()}
        assert owners & installed, name


@pytest.mark.long
def test_image(tmp_path, keyring):
    """
    Built of a local root file system (debootstrap), without a registry. A container of it mounts, others and the host see
    that, also when it was killed and started again; SIGTERM unmounts with everything in the store.
    """
    for tool in ("podman", "runc", "debootstrap"):
        if not shutil.which(tool):
            pytest.skip("no " + tool)
    if os.geteuid() != 0:
        pytest.skip("needs root")
    base = os.environ.get("S3CRYPTFS_BASE_ROOT")  # one that was made before
    if not base:
        base = str(tmp_path / "root")
        made = run("debootstrap", "--variant=minbase", "bookworm", base, check=False, timeout=900)
        if made.returncode:
            pytest.skip("debootstrap: " + made.stdout[-300:])
    options = ["podman", "--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run"), "--tmpdir", str(tmp_path / "tmp"),
               "--runtime", "runc", "--cgroup-manager=cgroupfs", "--events-backend=file"]
    limits = ["--network=host", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]
    shared, store = tmp_path / "shared", tmp_path / "files"

    def podman(*args, check=True, timeout=1800):
        return run(*options, *args, check=check, timeout=timeout)
    for folder in (shared, store, tmp_path / "state"):
        folder.mkdir()
    run("mount", "--bind", shared, shared)
    run("mount", "--make-rshared", shared)
    try:
        with tarfile.open(tmp_path / "root.tar", "w") as tar:
            tar.add(base, ".")
        podman("import", tmp_path / "root.tar", "localhost/debian:12")
        podman("build", "--isolation", "chroot", *limits, "--build-arg", "BASE=localhost/debian:12", "-t", "s3cryptfs",
               "-f", RECIPE, TOP)
        assert "s3cryptfs " in podman("run", "--rm", *limits, "s3cryptfs", "--version").stdout
        start = ["run", "-d", "--name", "files", *limits, "--device", "/dev/fuse", "--cap-add", "SYS_ADMIN", "--stop-timeout", "120",
                 "-v", "%s:/mnt:rshared" % shared, "-v", "%s:/var/lib/s3cryptfs" % (tmp_path / "state"), "-v", "%s:/store" % store,
                 "-v", "%s:/keyring:ro" % keyring.path, "--entrypoint", "/bin/sh", "s3cryptfs", "-c",
                 'mkdir -p /mnt/files || :; exec s3cryptfs "$@"', "s3cryptfs",
                 "file:///store", "/mnt/files", "-f", "-o", "allow_other,keyring=/keyring,writeback"]
        podman(*start)
        wait_for(lambda: os.path.ismount(shared / "files"), 60, "the mount")
        (shared / "files" / "f").write_text("marker of the host\n")
        other = ["run", "--rm", *limits, "-v", "%s:/data:rslave" % shared, "--entrypoint", "/bin/sh", "s3cryptfs", "-c"]
        assert podman(*other, "cat /data/files/f; echo there >/data/files/g").stdout == "marker of the host\n"
        podman("exec", "files", "s3cryptfsctl", "status", "/mnt/files")
        podman("exec", "files", "s3cryptfsctl", "sync", "/mnt/files")
        podman("kill", "-s", "KILL", "files")
        podman("wait", "files", check=False)
        podman("rm", "-f", "files")
        podman(*start)
        wait_for(lambda: subprocess.run(["cat", shared / "files" / "g"], capture_output=True, text=True).stdout == "there\n",
                 60, "the mount once more")
        (shared / "files" / "h").write_text("last\n")
        podman("stop", "files")
        assert podman("inspect", "--format", "{{.State.ExitCode}}", "files").stdout.strip() == "0"
        assert not os.path.ismount(shared / "files")
        assert find_bytes(b"marker of the host", str(store)) == [] and find_bytes(b"s3cryptfs-object", str(store)) is not None
    finally:
        said = podman("logs", "files", check=False)
        print(said.stdout, said.stderr)
        podman("rm", "-f", "-a", check=False)
        podman("rmi", "-f", "-a", check=False)
        run("umount", "-R", "-l", shared, check=False)
