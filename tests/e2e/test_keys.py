# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""Keyrings: where they come from, their protected form, and what s3cryptfsctl key does to them."""
import base64
import ctypes
import hashlib
import os
import pty
import re
import shutil
import stat

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from harness import CTL, Keyring, PROGRAM, read_file, run, wait_for, write_file

PASSPHRASE = "correct horse battery staple"


def ctl(*args, expect=0, **kw):
    result = run(CTL, *args, check=False, **kw)
    assert result.returncode == expect, "%s: exit %d\n%s%s" % (args, result.returncode, result.stdout, result.stderr)
    return result


def unprotect(data, passphrase):
    """The text of a protected keyring, by doc/format.md section 2."""
    head, params, body, rest = data.split(b"\n")
    assert head == b"s3cryptfs protected keyring 1" and rest == b""
    n, r, p, salt = re.fullmatch(rb"scrypt N=([0-9]+) r=([0-9]+) p=([0-9]+) salt=(\S+)", params).groups()
    key = hashlib.scrypt(passphrase.encode(), salt=base64.b64decode(salt, validate=True), n=int(n), r=int(r), p=int(p),
                         maxmem=1 << 30, dklen=32)
    return AESGCM(key).decrypt(bytes(12), base64.b64decode(body, validate=True), head + b"\n" + params + b"\n").decode()


def on_terminal(args, answers):
    """Runs a program with a terminal; answers to its questions. (exit status, all that was shown)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(args[0], [str(a) for a in args])
    shown = b""

    def read():
        try:
            return os.read(fd, 4096)
        except OSError:
            return b""  # the other side is closed

    for question, answer in answers:
        while question not in shown:
            piece = read()
            assert piece, shown
            shown += piece
        os.write(fd, answer)
        before, shown = shown, b""
        assert answer.strip() not in before
    while piece := read():
        shown += piece
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def test_rotate(tmp_path):
    """The new key is active, the file stays what a person made of it."""
    path = str(tmp_path / "ring")
    Keyring(path, "first")
    os.chmod(path, 0o600)
    write_file(path, b"\n# by hand\n", "ab")
    before = read_file(path).decode()
    told = ctl("key", "rotate", "-o", "keyring=" + path, "second").stdout
    assert "second is the active key" in told
    after = read_file(path).decode()
    assert after.startswith(before.replace("state = active", "state = old")) and "# by hand" in after
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and os.listdir(tmp_path) == ["ring"]
    rows = [line.split("\t")[:2] for line in ctl("key", "list", "-o", "keyring=" + path).stdout.splitlines()]
    assert rows == [["first", "old"], ["second", "active"]]
    assert "has a key first already" in ctl("key", "rotate", "-o", "keyring=" + path, "first", expect=1).stderr
    assert read_file(path).decode() == after


def test_rotated_files(file_store, mount, keyring, tmp_path):
    """What was written before a rotation is read after it; new files are under the new key; without the old one
    exactly the old files cannot be read, and the log names the key."""
    m = mount(file_store.source, **file_store.options())
    write_file(m / "old", b"before")
    m.umount()
    ctl("key", "rotate", "-o", "keyring=" + keyring.path, "new-key")
    m = mount(file_store.source, **file_store.options())
    assert read_file(m / "old") == b"before"
    write_file(m / "new", b"after")
    m.umount()
    found = file_store.decode_all(keyring)
    assert {k: o.master_id for k, o in found.items()} == {"old": "test-key", "new": "new-key"}
    assert {s["key_id"] for s in file_store.volume(keyring).members["epochs"][0]["slots"]} == {"test-key", "new-key"}
    text = read_file(keyring.path).decode()
    write_file(keyring.path, text[text.index("[new-key]"):].encode())
    m = mount(file_store.source, **file_store.options())
    assert read_file(m / "new") == b"after"
    with pytest.raises(PermissionError):
        read_file(m / "old")
    assert os.stat(m / "old").st_size == 6
    assert "needs the master key test-key" in m.text()


def test_protected(file_store, mount, tmp_path):
    """Created, read, rotated and mounted by a passphrase; never shown, and the file opens by the document alone."""
    path, secret = str(tmp_path / "ring"), str(tmp_path / "passphrase")
    write_file(secret, (PASSPHRASE + "\n").encode())
    os.chmod(secret, 0o600)
    options = "keyring=%s,passphrase_file=%s" % (path, secret)
    unprotected = run(CTL, "key", "new", "-o", options, "first", check=False)
    assert unprotected.returncode == 2 and "--passphrase is not" in unprotected.stderr
    ctl("key", "new", "--passphrase", "-o", options, "first")
    text = unprotect(read_file(path), PASSPHRASE)
    assert "[first]" in text and "state = active" in text
    ctl("key", "rotate", "-o", options, "second")
    assert "[second]" in unprotect(read_file(path), PASSPHRASE)
    m = mount(file_store.source, **file_store.options(keyring=path, passphrase_file=secret))
    write_file(m / "f", b"data")
    assert read_file(m / "f") == b"data"
    m.umount()
    assert "no terminal" in ctl("key", "list", "-o", "keyring=" + path, expect=1, start_new_session=True).stderr
    write_file(secret, b"wrong\n")
    assert "passphrase of" in ctl("key", "list", "-o", options, expect=1).stderr
    os.chmod(secret, 0o640)
    assert "others may access" in ctl("key", "list", "-o", options, expect=1).stderr
    read, write = os.pipe()
    os.write(write, PASSPHRASE.encode())
    os.close(write)
    assert "second\tactive" in ctl("key", "list", "-o", "keyring=%s,passphrase_file=fd:%d" % (path, read), pass_fds=[read]).stdout
    os.close(read)


def test_terminal(file_store, tmp_path):
    """Asked for twice when it is new, once by a mount that goes to the background, and never echoed."""
    path = str(tmp_path / "ring")
    status, shown = on_terminal([CTL, "key", "new", "--passphrase", "-o", "keyring=" + path, "one"],
                                [(b"New passphrase of", b"first words\n"), (b"Once more", b"other words\n")])
    assert status == 1 and b"differ" in shown and not os.path.exists(path)
    status, shown = on_terminal([CTL, "key", "new", "--passphrase", "-o", "keyring=" + path, "one"],
                                [(b"New passphrase of", b"wrong\x15my woxx\x7f\x7frds\n"), (b"Once more", b"my words\n")])
    assert status == 0 and b"words" not in shown
    assert "[one]" in unprotect(read_file(path), "my words")
    status, shown = on_terminal([CTL, "key", "list", "-o", "keyring=" + path], [(b"Passphrase of", b"\x03")])
    assert status == 1 and b"no passphrase was given" in shown
    target = str(tmp_path / "mnt")
    os.makedirs(target)
    options = "keyring=%s,cache_dir=%s,log=%s" % (path, tmp_path / "cache", tmp_path / "log")
    status, shown = on_terminal([PROGRAM, file_store.source, target, "-o", options], [(b"Passphrase of", b"my words\n")])
    assert status == 0, shown
    assert os.path.ismount(target)
    write_file(os.path.join(target, "f"), b"data")
    run("fusermount3", "-u", target)
    wait_for(lambda: "unmounted" in open(tmp_path / "log").read(), what="the daemon's last line")


def test_command_and_credential(file_store, mount, keyring, tmp_path):
    """The same keyring, printed by a program and as a credential of systemd."""
    m = mount(file_store.source, **file_store.options(keyring=None, key_command="cat '%s'" % keyring.path))
    write_file(m / "f", b"data")
    m.umount()
    folder = tmp_path / "credentials"
    folder.mkdir()
    shutil.copy(keyring.path, folder / "s3cryptfs.keyring")
    os.chmod(folder / "s3cryptfs.keyring", 0o440)
    m = mount(file_store.source, **file_store.options(keyring=None, env={"CREDENTIALS_DIRECTORY": str(folder)}))
    assert read_file(m / "f") == b"data"
    m.umount()
    refused = ctl("ls", "-o", "key_command=false", file_store.source, expect=1)
    assert "key_command false" in refused.stderr


def test_kernel(file_store, mount, keyring):
    """A key in the kernel's keyring of the user, as keyctl padd puts it there."""
    libc, text, add_key, keyctl, unlink, user = ctypes.CDLL(None, use_errno=True), read_file(keyring.path), 248, 250, 9, -4
    key = libc.syscall(add_key, b"user", b"s3cryptfs:test", text, len(text), user)
    if key < 0:
        pytest.skip("the kernel gives no keyrings here: " + os.strerror(ctypes.get_errno()))
    try:
        m = mount(file_store.source, **file_store.options(keyring="kernel:s3cryptfs:test"))
        write_file(m / "f", b"data")
        assert read_file(m / "f") == b"data"
        m.umount()
    finally:
        libc.syscall(keyctl, unlink, key, user)
