# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
s3cryptfsctl fsck and du: each kind of damage that can be planted is found and named, what is in order is not
accused, and a repair changes nothing but what it says.
"""
import contextlib
import json
import os
import pty
import shutil
import subprocess
import time

import pytest

from harness import CTL, Keyring, blob, read_file, run, write_file

SEGMENT = 8 << 20
TRAILER_END = 4096  # more than the footer and both of its MACs


class Checked:
    """A store with what lies in it, and the commands that look at it."""

    def __init__(self, make, store, keyring, **options):
        self.make, self.store, self.options = make, store, options
        self.keyring = keyring
        self.state = {}

    def mount(self, **more):
        return self.make(self.store.source, **self.store.options(**dict(self.options, **self.state, **more)))

    def command(self, name, *args, **more):
        options = dict(self.store.options(), keyring=self.keyring.path, **dict(self.options, **dict(self.state, **more)))
        env = dict(os.environ, **options.pop("env", {}))
        words = ",".join("%s=%s" % (k, v) if v is not True else k for k, v in options.items())
        flags = [a for a in args if a.startswith("-")]
        return [CTL, name, *flags, "-o", words, self.store.source, *(a for a in args if not a.startswith("-"))], env

    def run(self, name, *args, expect=0, **more):
        words, env = self.command(name, *args, **more)
        result = run(*words, check=False, env=env)
        assert result.returncode == expect, "exit %d\n%s%s" % (result.returncode, result.stdout, result.stderr)
        return result

    def fsck(self, *args, expect=None, **more):
        """{(kind, path or key): reason} of all findings, and the whole answer."""
        words, env = self.command("fsck", "--json", *args, **more)
        result = run(*words, check=False, env=env)
        assert result.returncode in (0, 1), result.stdout + result.stderr
        told = json.loads(result.stdout)
        assert result.returncode == (1 if told["problems"] else 0)
        assert expect is None or result.returncode == expect, result.stdout
        assert told["problems"] == sum(f["problem"] for f in told["findings"])
        for kind, count in told["counts"].items():
            assert count == sum(f["kind"] == kind for f in told["findings"])
        return {(f["kind"], f.get("path", f["key"])): f["reason"] for f in told["findings"]}, told


def fill(m):
    os.makedirs(m / "d/e")
    for name, data in (("small", b"x" * 100), ("empty", b""), ("d/one", blob(70000, 1)), ("d/e/two", b"2" * 5000),
                       ("d/large", blob(2 * SEGMENT + 12345, 2))):
        write_file(m / name, data)
    with open(m / "holes", "wb") as f:
        f.truncate(3 * SEGMENT)
        f.write(b"begin")
        f.seek(2 * SEGMENT + 5)
        f.write(b"end")
    os.symlink("d/one", m / "link")


@pytest.fixture
def checked(file_store, mount, keyring):
    """A folder store with one of everything, unmounted."""
    c = Checked(mount, file_store, keyring)
    m = c.mount()
    fill(m)
    assert m.umount() == 0
    return c


@pytest.mark.parametrize("options", [{}, {"names": "encrypted"}, {"format": "s3ec-v3"}, {"enc": "none"}], ids=lambda o: "-".join(o) or "default")
def test_good(options, file_store, mount, keyring):
    """Nothing is found where nothing is wrong, in numbers that are right."""
    c = Checked(mount, file_store, keyring, **options)
    m = c.mount()
    fill(m)
    assert m.umount() == 0
    found, told = c.fsck(expect=0)
    assert found == {}, found
    objects = [k for k in c.store.paths() if not k.startswith(".s3cryptfs/") or k == ".s3cryptfs/root"]
    assert told["objects"] == told["good"] == len(objects)
    assert told["bytes"] == 100 + 70000 + 5000 + 2 * SEGMENT + 12345 + 3 * SEGMENT + len("d/one")
    assert told["stored_bytes"] == sum(os.path.getsize(c.store.paths()[k]) for k in objects)
    text = c.run("fsck").stdout
    assert "%d objects" % len(objects) in text and "verified: %d good;" % len(objects) in text
    assert "metadata looked at" in c.run("fsck", "--quick").stdout
    assert c.fsck("d", expect=0)[1]["objects"] == 5  # with both directories
    assert c.fsck("d/e", "small", expect=0)[1]["objects"] == 3


def flip(store, key, at):
    body = bytearray(store.body_of(key))
    body[at] ^= 1
    store.set_body(key, bytes(body))


def damage_body(store):
    flip(store, "small", 3)
    return "small", "1 of 1 chunks are not authentic, the first at byte 0"


def damage_second_chunk(store):
    flip(store, "d/one", 65552 + 7)
    return "d/one", "1 of 2 chunks are not authentic, the first at byte 65536"


def damage_tag(store):
    flip(store, "d/e/two", -1)
    return "d/e/two", "not authentic"


def damage_large(store):
    flip(store, "d/large", 8390656 + 5 * 65552 + 1)
    flip(store, "d/large", 8390656 + 9 * 65552 + 1)
    return "d/large", "2 of 257 chunks are not authentic, the first at byte %d" % (SEGMENT + 5 * 65536)


def damage_hole(store):
    """The bytes after a hole."""
    flip(store, "holes", 8390656 + 1)
    return "holes", "the first at byte %d" % (2 * SEGMENT)


def damage_cut(store):
    store.set_body("d/one", store.body_of("d/one")[:-1])
    return "d/one", ""


def damage_cut_large(store):
    store.set_body("d/large", store.body_of("d/large")[:-16])
    return "d/large", ""


def damage_longer(store):
    store.set_body("small", store.body_of("small") + b"x")
    return "small", ""


def damage_footer(store):
    flip(store, "d/large", -90)
    return "d/large", ""


def damage_table(store):
    """The salt of the first segment."""
    end = len(store.body_of("d/large"))
    plain = 2 * SEGMENT + 12345
    flip(store, "d/large", plain + 16 * 257)
    assert plain + 16 * 257 < end
    return "d/large", ""


def damage_mode(store):
    store.set_meta("d/e/two", dict(store.meta_of("d/e/two"), mode="33279"))
    return "d/e/two", "altered"


def damage_wrap(store):
    meta = store.meta_of("d/one")
    other = store.meta_of("small")
    store.set_meta("d/one", dict(meta, **{"x-amz-key-v2": other["x-amz-key-v2"]}))
    return "d/one", "altered"


def damage_version(store):
    """A packed value of another version."""
    import base64
    meta = store.meta_of("small")
    packed = bytearray(base64.b64decode(meta["s3cryptfs"]))
    packed[0] = 99
    store.set_meta("small", dict(meta, s3cryptfs=base64.b64encode(packed).decode()))
    return "small", "version"


def damage_directory(store):
    store.set_meta("d/e/", dict(store.meta_of("d/e/"), uid="4711"))
    return "d/e", "altered"


def damage_moved(store):
    """Another tool has renamed an object."""
    shutil.copy2(store.path_of("small"), store.folder + "/renamed")
    return "renamed", "moved"


DAMAGES = [v for k, v in sorted(globals().items()) if k.startswith("damage_")]
SEEN_QUICKLY = {"damage_cut", "damage_cut_large", "damage_longer", "damage_footer", "damage_table", "damage_mode", "damage_wrap", "damage_version",
                "damage_directory", "damage_moved"}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__[7:])
def test_damage(damage, checked):
    path, words = damage(checked.store)
    found, told = checked.fsck(expect=1)
    assert list(found) == [("damaged", path)], found
    assert words in found["damaged", path], found
    assert told["good"] == told["objects"] - 1 and told["counts"]["damaged"] == 1
    text = checked.run("fsck", expect=1).stdout
    assert "damaged: %s: " % path in text and "1 damaged" in text
    quick, _ = checked.fsck("--quick")
    assert bool(quick) == (damage.__name__ in SEEN_QUICKLY), quick
    # Elsewhere all is well.
    elsewhere = "d" if not path.startswith("d") else "link"
    assert checked.fsck(elsewhere, expect=0)[0] == {}


@pytest.mark.parametrize("at,words", [(3, "not authentic"), (-1, "not authentic")])
def test_damage_of_whole(at, words, file_store, mount, keyring):
    """Of what is written in the format of other clients."""
    c = Checked(mount, file_store, keyring, format="s3ec-v2")
    m = c.mount()
    write_file(m / "f", blob(300000))
    assert m.umount() == 0
    flip(file_store, "f", at)
    found, _ = c.fsck(expect=1)
    assert words in found["damaged", "f"]
    assert c.fsck("--quick", expect=0)[0] == {}


def test_all_at_once(checked):
    """Findings side by side, and in a terminal with a bar that does not stay in the way."""
    for i, damage in enumerate((damage_body, damage_large, damage_mode)):
        damage(checked.store)
    found, told = checked.fsck(expect=1)
    assert {p for _, p in found} == {"small", "d/large", "d/e/two"} and told["problems"] == 3
    words, env = checked.command("fsck")
    parent, child = pty.openpty()
    process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=child, text=True)
    os.close(child)
    out = process.communicate(timeout=60)[0]
    shown = b""
    with contextlib.suppress(OSError):
        while piece := os.read(parent, 4096):
            shown += piece
    os.close(parent)
    assert process.returncode == 1 and out.count("damaged: ") == 3 and "[" not in out
    assert not shown or shown.rstrip().endswith(b"\x1b[K")  # the bar is gone


def test_keys(file_store, mount, keyring, tmp_path):
    """A key that the keyring lacks is named; the rest is in order."""
    c = Checked(mount, file_store, keyring)
    m = c.mount()
    write_file(m / "old", b"old")
    assert m.umount() == 0
    run(CTL, "key", "rotate", "-o", "keyring=" + keyring.path, "second")
    m = c.mount()
    write_file(m / "new", b"new")
    assert m.umount() == 0
    text = read_file(keyring.path).decode()
    section = text.index("[second]")
    first, second = text.index("[test-key]"), section
    only = text[second:] if first < second else text[second:first]
    poor = str(tmp_path / "poor")
    write_file(poor, only.encode())
    os.chmod(poor, 0o600)
    c.keyring = type("K", (), {"path": poor})
    for flags in ((), ("--quick",)):
        found, told = c.fsck(*flags, expect=1)
        assert list(found) == [("no-key", "old")] and "test-key" in found["no-key", "old"], found
        assert told["good"] == told["objects"] - 1


def test_accept(checked):
    """What accept= does not name is a problem, and none where it does."""
    shutil.copy(__file__, checked.store.folder + "/plain")  # no xattr: no metadata
    found, _ = checked.fsck(expect=1)
    assert list(found) == [("not-accepted", "plain")] and "accept=" in found["not-accepted", "plain"]
    assert checked.fsck(accept="sealed:plain", expect=0)[0] == {}


def test_rollback(checked, tmp_path):
    """An older version, and one that was deleted, where this machine has seen more."""
    checked.state = {"state_dir": str(tmp_path / "state")}
    m = checked.mount()
    write_file(m / "f", b"first")
    write_file(m / "g", b"gone")
    assert m.umount() == 0
    kept = {}
    for key in ("f", "g"):
        kept[key] = str(tmp_path / ("kept-" + key))
        run("cp", "-p", "--preserve=xattr", checked.store.path_of(key), kept[key])
    m = checked.mount()
    write_file(m / "f", b"second")
    os.unlink(m / "g")
    assert m.umount() == 0
    for key, path in kept.items():
        run("cp", "-p", "--preserve=xattr", path, os.path.join(checked.store.folder, key))
    found, _ = checked.fsck(expect=1)
    assert set(found) == {("older", "f"), ("older", "g")}
    assert "newer" in found["older", "f"] and "deleted" in found["older", "g"]
    checked.state = {"state_dir": str(tmp_path / "elsewhere")}
    assert checked.fsck(expect=0)[0] == {}  # who has seen nothing knows nothing


def test_encrypted_names(file_store, mount, keyring):
    """Names that no file of the volume has; findings are told by path."""
    c = Checked(mount, file_store, keyring, names="encrypted")
    m = c.mount()
    os.mkdir(m / "dir")
    write_file(m / "dir/file", b"data")
    write_file(m / ("long" * 50), b"data")
    assert m.umount() == 0
    assert c.fsck(expect=0)[0] == {}
    key = next(k for k in file_store.keys() if "/" in k and not k.endswith("/"))
    flip(file_store, key, 0)
    write_file(file_store.folder + "/stranger", b"x")
    found, _ = c.fsck(expect=1)
    assert set(found) == {("damaged", "dir/file"), ("bad-name", "stranger")}, found


def test_names(rgw_store, mount, keyring):
    """Keys that no path has, files that a directory hides, markers that are gone."""
    c = Checked(mount, rgw_store, keyring, accept="sealed:plain")
    m = c.mount()
    os.makedirs(m / "a/b/c")
    write_file(m / "a/b/c/f", b"f")
    write_file(m / "x", b"file")
    write_file(m / "x-y", b"between")
    assert m.umount() == 0
    rgw_store.put("x/inside", b"plain")
    rgw_store.put("e//f", b"plain")
    rgw_store.client.delete_object(Bucket=rgw_store.bucket, Key="a/b/")
    found, told = c.fsck(expect=1)
    assert set(found) == {("hidden", "x"), ("bad-name", "e//f"), ("no-marker", "a/b"), ("no-marker", "x"), ("no-marker", "e"), ("no-marker", "e//")}, found
    assert c.fsck("a/b/c", expect=0)[0] == {}  # what is above is not asked for
    assert set(c.fsck("a", expect=0)[0]) == {("no-marker", "a/b")}
    before = set(rgw_store.all_keys())
    found, told = c.fsck("--repair", "a", expect=0)
    assert told["repaired"] == 1 and all(f["repaired"] for f in told["findings"])
    assert set(rgw_store.all_keys()) - before == {"a/b/"}
    assert c.fsck("a", expect=0)[0] == {}
    m = c.mount()
    assert os.listdir(m / "a/b") == ["c"] and read_file(m / "a/b/c/f") == b"f"


def test_uploads(rgw_store, mount, keyring):
    """Uploads are listed with their age, and aborted when they are older than what was said."""
    c = Checked(mount, rgw_store, keyring)
    m = c.mount()
    write_file(m / "f", b"f")
    assert m.umount() == 0
    rgw_store.client.create_multipart_upload(Bucket=rgw_store.bucket, Key="big + <file>")
    rgw_store.client.create_multipart_upload(Bucket=rgw_store.bucket, Key="other/big")
    found, told = c.fsck(expect=0)
    assert set(found) == {("upload", "big + <file>"), ("upload", "other/big")}
    assert all(0 <= f["age"] < 300 and not f["problem"] for f in told["findings"])
    assert "seconds old" in c.run("fsck").stdout
    assert set(c.fsck("other", expect=0)[0]) == {("upload", "other/big")}
    for flags in (("--repair",), ("--repair", "--older=1d")):
        assert c.fsck(*flags, expect=0)[1]["repaired"] == 0
    assert len(rgw_store.uploads()) == 2
    time.sleep(2.1)
    assert c.fsck("--repair", "--older=1s", "other", expect=0)[1]["repaired"] == 1
    assert [k for k, _ in rgw_store.uploads()] == ["big + <file>"]
    assert c.fsck("--repair", "--older=1s", expect=0)[1]["repaired"] == 1
    assert rgw_store.uploads() == [] and c.fsck(expect=0)[0] == {}


def test_upload_of_object(rgw_store, mount, keyring):
    """One that may be what the object was made of is left."""
    c = Checked(mount, rgw_store, keyring, enc="none")
    assert c.mount().umount() == 0
    client, at = rgw_store.client, {"Bucket": rgw_store.bucket, "Key": "f"}
    uploads = [client.create_multipart_upload(**at)["UploadId"] for _ in range(3)]
    # The second could be it by its parts, the third not.
    for upload, parts in zip(uploads, (1, 1, 3)):
        for n in range(parts):
            part = client.upload_part(**at, UploadId=upload, PartNumber=n + 1, Body=b"f")["ETag"]
    client.complete_multipart_upload(**at, UploadId=uploads[0],
                                     MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
    time.sleep(2.1)
    assert c.fsck("--repair", "--older=1s", expect=0)[1]["repaired"] == 1
    assert [i for _, i in rgw_store.uploads()] == [uploads[1]]
    assert "may be made of its parts" in c.run("fsck", "--repair", "--older=1s").stdout
    client.put_object(**at, Body=b"other")
    assert c.fsck("--repair", "--older=1s", expect=0)[1]["repaired"] == 1
    assert rgw_store.uploads() == []


def test_leftovers(checked):
    """What a probe left goes when it is old; what is not known stays."""
    folder = checked.store.folder + "/.s3cryptfs/"
    for name in ("probe-0011223344556677-target", "probe-8899aabbccddeeff-copy", "unknown"):
        write_file(folder + name, b"left over")
    long_ago = time.time() - 7200
    os.utime(folder + "probe-0011223344556677-target", (long_ago, long_ago))
    os.utime(folder + "unknown", (long_ago, long_ago))
    found, _ = checked.fsck(expect=0)
    assert {k for k, _ in found} == {"leftover"} and len(found) == 3
    found, told = checked.fsck("--repair", expect=0)
    assert told["repaired"] == 1
    assert sorted(os.listdir(folder)) == ["probe-8899aabbccddeeff-copy", "unknown", "volume"]


def test_beside_a_mount(checked):
    """A live mount of the same store, with fsck reading and repairing beside it."""
    os.unlink(checked.store.path_of("d/e/"))
    m = checked.mount()
    write_file(m / "d/live", b"live")
    assert checked.fsck("--repair", expect=0)[1]["repaired"] == 1
    assert checked.fsck(expect=0)[0] == {}
    assert read_file(m / "d/live") == b"live" and sorted(os.listdir(m / "d")) == ["e", "large", "live", "one"]


def test_store_modes(rgw_store, mount, keyring):
    """sse-c: an object under no key of ours; sse-kms: one that the store has not encrypted."""
    c = Checked(mount, rgw_store, keyring, enc="sse-c")
    m = c.mount()
    write_file(m / "f", blob(200000))
    assert m.umount() == 0
    assert c.fsck(expect=0)[0] == {}
    rgw_store.put("plain", b"not encrypted")
    found, _ = c.fsck(expect=1)
    assert set(found) == {("no-key", "plain")}, found


def test_store_kms(rgw_store, mount, keyring):
    c = Checked(mount, rgw_store, keyring, enc="sse-kms", kms_key_id="key-one")
    m = c.mount()
    write_file(m / "f", b"data")
    assert m.umount() == 0
    rgw_store.put("plain", b"not encrypted")
    found, _ = c.fsck(expect=1)
    assert set(found) == {("not-encrypted-so", "plain")} and "nothing" in found["not-encrypted-so", "plain"]


def test_kms(moto_store, mount, kms, keyring):
    """cse-kms: every data key is opened, and with --quick the KMS is not asked for one."""
    c = Checked(mount, moto_store, keyring, **kms.options(kms.new_key(), enc="cse-kms"))
    m = c.mount()
    for i in range(5):
        write_file(m / ("f%d" % i), b"data")
    assert m.umount() == 0
    kms.proxy.reset()
    assert c.fsck("--quick", expect=0)[0] == {}
    few = kms.proxy.counts().get("Decrypt", 0)
    kms.proxy.reset()
    assert c.fsck(expect=0)[0] == {}
    assert kms.proxy.counts().get("Decrypt", 0) >= few + 5


def test_unreadable(versity_store, mount, keyring):
    """A store that fails on one object: that is told, and is no damage."""
    c = Checked(mount, versity_store, keyring, timeout=5, retries=0)
    m = c.mount()
    write_file(m / "f", b"data")
    write_file(m / "g", b"data")
    assert m.umount() == 0
    versity_store.proxy.fault("reset", match="GET /[^/]+/f$")
    try:
        found, _ = c.fsck()
    finally:
        versity_store.proxy.fault("off")
    assert set(found) == {("unreadable", "f")}, found


def test_usage(checked):
    for args in (["--older=1d"], ["--repair", "--older=x"], ["--repair", "--older=0"], ["--repair", "--older=-1d"], ["--repair", "--older=7"], ["--to=x"]):
        checked.run("fsck", *args, expect=2)
    assert run(CTL, "fsck", check=False).returncode == 2
    wrong = Keyring(checked.keyring.path + "-2")
    checked.keyring = wrong
    assert "keyring" in checked.run("fsck", expect=1).stderr


def test_nothing_there(checked):
    """A path with a mistake in it is no volume that is good."""
    for flags in ((), ("--quick",)):
        assert "typo: nothing is there" in run_on(checked, *flags, "typo")
        assert "typo: nothing is there" in run_on(checked, *flags, "typo", "d")


def run_on(checked, *args):
    return checked.run("fsck", *args, expect=1).stderr


def test_du(checked):
    """Sizes, of holes too, by path."""
    total = 100 + 70000 + 5000 + 2 * SEGMENT + 12345 + 3 * SEGMENT + len("d/one")
    told = json.loads(checked.run("du", "--json").stdout)
    paths = {k: p for k, p in checked.store.paths().items() if k != ".s3cryptfs/volume"}
    stored = sum(os.path.getsize(p) for p in paths.values())
    directories = sum(k.endswith("/") or k == ".s3cryptfs/root" for k in paths)
    assert told == [{"path": "", "bytes": total, "stored_bytes": stored, "files": 7, "directories": directories, "unknown": 0}]
    told = json.loads(checked.run("du", "--json", "d", "/holes", "d/e/").stdout)
    assert [(t["path"], t["bytes"], t["files"]) for t in told] == [
        ("d", 70000 + 5000 + 2 * SEGMENT + 12345, 3), ("holes", 3 * SEGMENT, 1), ("d/e", 5000, 1)]
    assert told[1]["stored_bytes"] < 2.1 * SEGMENT  # one segment of three is a hole
    text = checked.run("du", "d").stdout
    assert "16.1 MiB" in text and text.rstrip().endswith(" d")
    assert "nothing is there" in checked.run("du", "none", expect=1).stderr
    damage_mode(checked.store)
    result = checked.run("du", "--json", expect=1)
    assert json.loads(result.stdout)[0]["unknown"] == 1 and "d/e/two" in result.stderr


def test_look(checked):
    """ls -R, cat of a range, and what stat tells, without a mount."""
    lines = checked.run("ls", "-R").stdout.splitlines()
    assert lines == ["d/", "empty", "holes", "link", "small", "", "d:", "e/", "large", "one", "", "d/e:", "two"]
    text = checked.run("ls", "-lR", "d").stdout
    assert text.count("\n") == 6 and "70000" in text and "d/e:" in text
    large = blob(2 * SEGMENT + 12345, 2)

    def cat(*args):
        words, env = checked.command("cat", *args)
        return subprocess.run(words, env=env, stdout=subprocess.PIPE, check=True).stdout
    for offset, length in ((0, 0), (0, 1), (SEGMENT - 5, 10), (65536, 65536), (2 * SEGMENT + 12340, 100), (1 << 40, 5)):
        assert cat("--offset=%d" % offset, "--length=%d" % length, "d/large") == large[offset:offset + length], (offset, length)
    assert cat("--offset=%d" % (2 * SEGMENT), "d/large") == large[2 * SEGMENT:]
    assert cat("--length=3", "small", "d/e/two") == b"xxx222"
    checked.run("cat", "--offset=-1", "small", expect=2)
    checked.run("ls", "--offset=1", expect=2)
    text = checked.run("stat", "d/one").stdout
    for word in ("accessed", "changed", "modified", "key id           test-key", "generation", "content version"):
        assert word in text, text
