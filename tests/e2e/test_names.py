# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""names=encrypted: the tree is there, the store does not see its names, and the decoder agrees on every key."""
import contextlib
import errno
import os
import random
import threading
import time

import pytest

import decoder
from harness import CTL, MARKER, Keyring, Site, fails, find_bytes, read_file, run, wait_for, write_file
from test_budget import Cost

HIDDEN = {"names": "encrypted"}
LONG = "long-%s-" % MARKER.decode()
LONGEST = LONG + "x" * (255 - len(LONG))
ODD = [b"\xff\xfe odd \x01", b"%41", b"%", b"a b", b"new\nline", b"\xe2\x82\xac", "na\u00efve".encode(), b"-", b"...",
       b".hidden", b"x.instruction", b"0", b"\xcc\x81", b"*?[]", b"'\"\\", b"n" * 109, b"n" * 110, b"n" * 255]


@pytest.fixture(params=["file", "radosgw"])
def store(request):
    return request.getfixturevalue({"file": "file_store", "radosgw": "rgw_store"}[request.param])


def make_tree(top, files):
    """Files with all kinds of names, deep and with long components; top is bytes."""
    rng, mark = random.Random(9), MARKER
    folders = [top]
    for n in range(12):
        folders.append(os.path.join(top, b"dir-%d-%s" % (n % 3, mark), *[b"d%d" % (n + i) for i in range(n)]))
    folders += [os.path.join(top, ("%s-%d" % (LONG, n)).encode().ljust(130 + n, b"y"), b"inside") for n in range(3)]
    folders.append(os.path.join(top, LONGEST.encode(), LONGEST.encode()))
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        for n in range(files):
            write_file(os.path.join(folder, b"File-%d" % n), rng.randbytes(rng.randrange(3000)))
    for name in ODD:
        write_file(os.path.join(folders[1], name), name)
    for name in (b"Case", b"case", b"CASE", LONGEST.encode()):
        write_file(os.path.join(folders[5], name), name)
        os.makedirs(os.path.join(folders[6], b"d-" + name[:253]))
    os.symlink(b"to-" + mark, os.path.join(folders[2], b"link-" + mark))
    write_file(os.path.join(folders[3], b"large"), rng.randbytes(9 << 20))


def tree_of(top):
    """{path: content, link or None} of all below."""
    found = {}
    for folder, dirs, files in os.walk(os.fsencode(top)):
        for name in dirs + files:
            path = os.path.join(folder, name)
            kind = os.readlink(path) if os.path.islink(path) else None if name in dirs else read_file(path)
            found[os.path.relpath(path, os.fsencode(top))] = kind
    return found


def stored_paths(store, keyring, prefix=""):
    """The paths of all keys as the decoder tells them, each object verified; directories without their slash."""
    objects = store.decode_all(keyring, prefix)
    volume = store.volume(keyring, prefix)
    assert volume.names == "encrypted"

    def item_of(key):
        return objects[key].meta.get("s3cryptfs-name") if key in objects else None

    paths = {}
    for key, found in objects.items():
        path = decoder.decrypt_path(volume, key, item_of)
        assert decoder.encrypt_path(volume, path) == key
        paths[path.rstrip(b"/")] = key
    return paths


def key_of(store, keyring, path, prefix=""):
    return prefix + decoder.encrypt_path(store.volume(keyring, prefix), os.fsencode(path))


def nothing_plain(store):
    """The marker is in no key, no metadata and no body."""
    mark = MARKER.decode()
    if hasattr(store, "folder"):
        assert find_bytes(MARKER, store.folder) == []
        assert not [p for p in store.paths().values() if mark in p]
    else:
        for key in store.all_keys():
            found = store.get(key)
            assert mark not in key and mark not in str(found["Metadata"]) and MARKER not in found["Body"].read()


def test_tree(store, mount, keyring):
    site = Site(mount, store, **HIDDEN)
    many = hasattr(store, "folder")
    make_tree(os.fsencode(site.path), 12 if many else 1)
    before = tree_of(site.path)
    assert len(before) > (300 if many else 120)
    assert tree_of(site.remount().path) == before
    for folder in (site.path, os.path.join(os.fsencode(site.path), next(iter(d for d, c in before.items() if c is None)))):
        names = [e.name for e in os.scandir(os.fsencode(folder))]
        assert names == sorted(names) and len(set(names)) == len(names)
    site.umount()
    paths = stored_paths(store, keyring)
    assert set(before) == set(paths)
    assert max(len(k.encode()) for k in paths.values()) <= 1024
    nothing_plain(store)


def test_renames(store, mount, keyring):
    """Files and whole trees; all below gets other keys; long names of every kind of object."""
    site = Site(mount, store, **HIDDEN)
    os.makedirs(site / os.path.join("a/b", LONGEST, "c"))
    want = {}
    for n in range(8):
        for folder in ("a", "a/b", "a/b/" + LONGEST, "a/b/%s/c" % LONGEST):
            for name in ("f%d" % n, LONG.ljust(200 + n, "z")):
                write_file(site / os.path.join(folder, name), b"%d %s" % (n, folder.encode()))
                want[os.path.join(folder, name)] = b"%d %s" % (n, folder.encode())

    def moved(old, new):
        os.rename(site / old, site / new)
        for path in [p for p in want if p == old or p.startswith(old + "/")]:
            want[new + path[len(old):]] = want.pop(path)

    def check():
        found = {os.fsdecode(p): c for p, c in tree_of(site.path).items() if c is not None}
        assert found == want

    moved("a/f0", "a/g0")
    moved("a/f1", "a/" + "w" * 255)
    moved("a/" + "w" * 255, "a/b/back")
    check()
    moved("a/b", "moved")
    check()
    moved("moved/" + LONGEST, "moved/short")
    moved("moved", "v" * 255)
    check()
    moved("v" * 255 + "/short", "u" * 200)
    moved("u" * 200 + "/c", "a/c")
    check()
    os.chmod(site / ("v" * 255), 0o700)
    site.remount()
    check()
    assert os.stat(site / ("v" * 255)).st_mode & 0o777 == 0o700
    site.umount()
    paths = stored_paths(store, keyring)
    assert {os.fsdecode(p) for p in paths} == set(want) | {"a", "a/c", "v" * 255, "u" * 200}


def test_two_mounts(store, mount, keyring):
    one, two = Site(mount, store, ttl=0, **HIDDEN), Site(mount, store, ttl=0, **HIDDEN)
    os.makedirs(one / os.path.join("d", LONGEST))
    write_file(one / os.path.join("d", LONGEST, "f"), b"from one")
    assert read_file(two / os.path.join("d", LONGEST, "f")) == b"from one"
    write_file(two / os.path.join("d", LONGEST, LONGEST), b"from two")
    assert sorted(os.listdir(one / os.path.join("d", LONGEST))) == sorted(["f", LONGEST])
    assert read_file(one / os.path.join("d", LONGEST, LONGEST)) == b"from two"
    os.rename(two / "d", two / "e")
    assert os.listdir(one.path) == ["e"]
    assert read_file(one / os.path.join("e", LONGEST, LONGEST)) == b"from two"
    key = key_of(store, keyring, "e/%s/%s" % (LONGEST, LONGEST))
    assert key in store.keys() and len(key.rpartition("/")[2]) == 53


def test_refusals(file_store, mount, keyring, tmp_path):
    """The choice of names never changes; a wrong key lists nothing; other modes have no key for names."""
    Site(mount, file_store, **HIDDEN).umount()
    assert b'"names": "encrypted"' in file_store.body_of(".s3cryptfs/volume")

    def refused(source, *words, **options):
        status, text = mount(source, wait=False, **options).fail()
        assert status in (1, 2) and all(word in text for word in words), text

    refused(file_store.source, "names=encrypted", "never changes", "mount it with names=encrypted")
    refused(file_store.source, "key", keyring=Keyring(str(tmp_path / "other")).path, **HIDDEN)
    for enc in ("none", "sse-c"):
        refused(file_store.source, "names=encrypted needs enc=cse-key", enc=enc, **HIDDEN)
    refused(file_store.source, "leave out accept=", accept="sealed:plain", **HIDDEN)
    plain = tmp_path / "plain"
    plain.mkdir()
    mount("file://%s" % plain).umount()
    refused("file://%s" % plain, "names=plain", "mount it with names=plain", **HIDDEN)
    result = run(CTL, "ls", "-o", "keyring=" + keyring.path, file_store.source, check=False)
    assert result.returncode == 1 and "names=encrypted" in result.stderr


def test_foreign_keys(rgw_store, mount, keyring):
    """Keys that are no names of the volume are hidden, told of once, and in nobody's way."""
    site = Site(mount, rgw_store, ttl=0, **HIDDEN)
    os.mkdir(site / "dir")
    write_file(site / "dir/file", b"ours")
    inside = key_of(rgw_store, keyring, "dir/")
    moved = key_of(rgw_store, keyring, "dir/file").rpartition("/")[2]
    foreign = ["photo.jpg", "dir/file", "0123456789abcdef", moved, inside + "x.txt", "%" + "0" * 52, "%", ".s3cryptfs/other"]
    for key in foreign:
        rgw_store.put(key, b"foreign")
    for _ in range(3):
        assert os.listdir(site.path) == ["dir"] and os.listdir(site / "dir") == ["file"]
    for name in foreign[:4]:
        with fails(errno.ENOENT):
            os.stat(site / name) if name != "dir/file" else os.stat(site / "dir/other")
    write_file(site / "photo.jpg", b"ours too")
    assert read_file(site / "dir/file") == b"ours" and read_file(site / "photo.jpg") == b"ours too"
    text = site.m.text()
    assert text.count("are hidden in the directory /:") == 1, text
    assert text.count("are hidden in the directory /dir:") == 1, text
    # What cannot be renamed is named, and nothing has changed.
    with fails(errno.EIO):
        os.rename(site / "dir", site / "new")
    assert inside + "x.txt" in site.m.text()
    assert sorted(os.listdir(site.path)) == ["dir", "photo.jpg"]
    rgw_store.client.delete_object(Bucket=rgw_store.bucket, Key=inside + "x.txt")
    os.rename(site / "dir", site / "new")
    assert read_file(site / "new/file") == b"ours"
    site.umount()
    assert all(rgw_store.body_of(key) == b"foreign" for key in foreign if key != inside + "x.txt")


def test_key_too_long(file_store, mount, keyring):
    """Where the key would pass 1,024 bytes: ENAMETOOLONG, and nothing has changed."""
    site = Site(mount, file_store, **HIDDEN)
    deep = site.path
    for n in range(60):
        try:
            os.mkdir(os.path.join(deep, "d%d" % n))
        except OSError as e:
            assert e.errno == errno.ENAMETOOLONG
            break
        deep = os.path.join(deep, "d%d" % n)
    assert 1024 - 40 <= max(len(k) for k in file_store.keys()) <= 1024
    os.makedirs(site / "other/place")
    write_file(site / "other/place/f", b"stays")
    before = sorted(file_store.keys())
    with fails(errno.ENAMETOOLONG):
        os.rename(site / "other", os.path.join(os.path.dirname(deep), "o"))
    with fails(errno.ENAMETOOLONG):
        write_file(os.path.join(deep, "f" * 100), b"")
    assert sorted(file_store.keys()) == before
    assert read_file(site / "other/place/f") == b"stays"
    # Names of 255 bytes: the path is longer than any key.
    path = site / "p"
    os.mkdir(path)
    for n in range(12):
        path = os.path.join(path, "%02d" % n + "q" * 253)
        os.mkdir(path)
    write_file(os.path.join(path, "end"), b"deep")
    assert read_file(os.path.join(path, "end")) == b"deep"
    site.remount()
    found = tree_of(site / "p")
    assert [c for c in found.values() if c is not None] == [b"deep"]


def test_requests(rgw_store, mount, keyring):
    """A listing of short names costs what it costs with plain ones; a long name one HEAD, once."""
    costs = {}
    for names in ("plain", "encrypted"):
        rgw_store.delete_all()
        site = Site(mount, rgw_store, names=names)
        for folder, length in (("short", 0), ("long", 120)):
            os.mkdir(site / folder)
            for n in range(40):
                write_file(site / ("%s/%03d" % (folder, n) + "n" * length), b"")
        os.mkdir(site / ("long/" + "d" * 200))
        for folder, count in (("short", 40), ("long", 41), ("long", 41)):
            if folder not in costs.get(names, {}):
                site.remount(ttl=0)
                os.listdir(site.path)
            with Cost(rgw_store) as c:
                assert len(os.listdir(site / folder)) == count
            costs.setdefault(names, {}).setdefault(folder, []).append(c.requests)
        site.umount()
    plain, hidden = costs["plain"], costs["encrypted"]
    assert hidden["short"] == plain["short"], costs
    assert hidden["long"][1] == plain["long"][1], costs
    assert hidden["long"][0] == dict(plain["long"][0], HEAD=plain["long"][0].get("HEAD", 0) + 41), costs


def test_below_the_volume(rgw_store, mount, keyring):
    """A source below the volume is a path in it, and the store is told no word of it."""
    prefix, sub = "vol/", "private-" + MARKER.decode()
    site = Site(mount, rgw_store, **HIDDEN)
    site.umount()
    rgw_store.delete_all()
    top = mount(rgw_store.source + "/vol", **rgw_store.options(**HIDDEN))
    os.makedirs(top / (sub + "/in"))
    write_file(top / (sub + "/in/f"), b"by the whole")
    top.umount()
    rgw_store.proxy.reset()
    below = mount("%s/vol/%s/in" % (rgw_store.source, sub), **rgw_store.options(**HIDDEN))
    assert os.listdir(below.path) == ["f"] and read_file(below / "f") == b"by the whole"
    write_file(below / "g", b"by the part")
    os.chmod(below.path, 0o750)
    below.umount()
    assert MARKER.decode() not in rgw_store.proxy.requests()
    assert [k for k in rgw_store.all_keys() if k.endswith("volume")] == ["vol/.s3cryptfs/volume"]
    assert key_of(rgw_store, keyring, sub + "/in/g", prefix) in rgw_store.all_keys()
    top = mount(rgw_store.source + "/vol", **rgw_store.options(**HIDDEN))
    assert read_file(top / (sub + "/in/g")) == b"by the part"
    assert os.stat(top / (sub + "/in")).st_mode & 0o777 == 0o750
    nothing_plain(rgw_store)


def test_long_name_for_a_bare_prefix(rgw_store, mount, keyring):
    """A directory without an object gets one with its long name, which could not be told else."""
    site = Site(mount, rgw_store, ttl=0, **HIDDEN)
    os.mkdir(site / "bare")
    write_file(site / "bare/f", b"content")
    rgw_store.client.delete_object(Bucket=rgw_store.bucket, Key=key_of(rgw_store, keyring, "bare/"))
    assert os.listdir(site.path) == ["bare"]
    os.rename(site / "bare", site / LONGEST)
    assert os.listdir(site.path) == [LONGEST]
    site.remount()
    assert os.listdir(site.path) == [LONGEST] and read_file(site / os.path.join(LONGEST, "f")) == b"content"
    site.umount()
    assert set(stored_paths(rgw_store, keyring)) == {LONGEST.encode(), LONGEST.encode() + b"/f"}


def test_ctl(file_store, mount, keyring, tmp_path):
    def ctl(*args, **kw):
        words = "keyring=%s,names=encrypted,state_dir=%s,cache_dir=%s" % (keyring.path, tmp_path / "st", tmp_path / "ca")
        return run(CTL, args[0], "-o", words, file_store.source, *args[1:], **kw)

    ctl("init")
    site = Site(mount, file_store, **HIDDEN)
    os.makedirs(site / os.path.join("d", LONGEST))
    write_file(site / os.path.join("d", LONGEST, "file"), b"content")
    site.umount()
    assert ctl("ls").stdout == "d/\n" and ctl("ls", "d").stdout == LONGEST + "/\n"
    assert ctl("cat", "d/%s/file" % LONGEST).stdout == "content"
    for path in ("d/", "d/%s/" % LONGEST, "d/%s/file" % LONGEST):
        lines = ctl("stat", path).stdout.splitlines()
        assert "key              " + key_of(file_store, keyring, path) in lines, lines
    assert ctl("ls", "other", check=False).returncode == 1


def test_rekey(file_store, mount, keyring, tmp_path):
    """What is wrapped anew keeps its name, long ones too."""
    site = Site(mount, file_store, **HIDDEN)
    os.mkdir(site / LONGEST)
    for name in ("short", LONGEST):
        write_file(site / os.path.join(LONGEST, name), name.encode())
    site.umount()
    run(CTL, "key", "rotate", "-o", "keyring=" + keyring.path)
    words = "keyring=%s,names=encrypted,cache_dir=%s" % (keyring.path, tmp_path / "rekey")
    run(CTL, "rekey", "-o", words, file_store.source)
    paths, top = stored_paths(file_store, keyring), LONGEST.encode()
    assert set(paths) == {top, top + b"/short", top + b"/" + top}
    active = decoder.Keyring(keyring.path).active
    for path in (b"/short", b"/" + top):
        assert file_store.decode(keyring, paths[top + path]).master_id == active != keyring.key_id
    site.remount()
    assert sorted(os.listdir(site / LONGEST)) == sorted(["short", LONGEST])
    assert read_file(site / os.path.join(LONGEST, LONGEST)) == LONGEST.encode()


def test_conflict(rgw_store, mount, keyring):
    """What another machine has replaced is kept beside it, under a name of its own."""
    one, two = Site(mount, rgw_store, ttl=0, **HIDDEN), Site(mount, rgw_store, ttl=0, **HIDDEN)
    write_file(one / "f", b"first")
    fd = os.open(one / "f", os.O_RDWR)
    os.pwrite(fd, b"mine!", 0)
    write_file(two / "f", b"theirs")
    with fails(errno.ESTALE):
        os.close(fd)
    names = wait_for(lambda: len(os.listdir(two.path)) == 2 and sorted(os.listdir(two.path)), what="the conflict")
    assert names[0] == "f" and names[1].startswith("f.conflict-")
    assert read_file(two / "f") == b"theirs" and read_file(two / names[1]) == b"mine!"


def rename_killed(store, mount, keyring, seed, tmp_path, **options):
    """kill -9 while a directory is being renamed; the next mount ends it, and nothing is lost."""
    rng = random.Random(seed)
    local = {"cache_dir": str(tmp_path / ("cache-%d" % seed))}
    site = Site(mount, store, **local, **HIDDEN, **options)
    os.makedirs(site / os.path.join("old", LONGEST, ("m" * 150)))
    want = {}
    for n in range(40):
        path = (["f%d", LONG + "%d" + "k" * 90, LONGEST + "/g%d", LONGEST + "/" + "m" * 150 + "/h%d"][n % 4]) % n
        write_file(site / ("old/" + path), b"%d" % n)
        want[path] = b"%d" % n
    if "writeback" in options:
        run(CTL, "sync", site.path)
    if not hasattr(store, "folder"):
        store.proxy.latency(15)

    def move():
        with contextlib.suppress(OSError):
            os.rename(site / "old", site / "new")

    thread = threading.Thread(target=move)
    thread.start()
    time.sleep(rng.uniform(0, 0.25))
    site.m.kill()
    thread.join()
    if not hasattr(store, "folder"):
        store.proxy.latency(0)
    site.remount()
    names = os.listdir(site.path)
    assert names in (["old"], ["new"]), names
    found = {os.fsdecode(p): c for p, c in tree_of(site / names[0]).items() if c is not None}
    assert found == want
    site.umount()
    paths = stored_paths(store, keyring)
    assert len(paths) == 40 + 3 and all(p.split(b"/")[0] == names[0].encode() for p in paths)
    return names[0]


@pytest.mark.parametrize("how", ["close", "writeback"])
def test_rename_killed(store, mount, keyring, tmp_path, how):
    options = {"writeback": True} if how == "writeback" else {}
    rename_killed(store, mount, keyring, 1, tmp_path, **options)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 22))
def test_rename_killed_often(store, mount, keyring, tmp_path, seed):
    rename_killed(store, mount, keyring, seed, tmp_path, **({"writeback": True} if seed % 2 else {}))


def test_writeback(rgw_store, mount, keyring, tmp_path):
    """Names that are ahead of the store, of a daemon that died, arrive encrypted."""
    local = {"cache_dir": str(tmp_path / "cache"), "writeback": True}
    site = Site(mount, rgw_store, **local, **HIDDEN)
    rgw_store.proxy.fault("reset", method="PUT")
    os.makedirs(site / os.path.join(LONGEST, "d"))
    write_file(site / os.path.join(LONGEST, "d/f"), b"acknowledged")
    write_file(site / os.path.join(LONGEST, "gone"), b"")
    os.rename(site / os.path.join(LONGEST, "d/f"), site / os.path.join(LONGEST, ("d/" + "e" * 120)))
    os.unlink(site / os.path.join(LONGEST, "gone"))
    site.m.kill()
    rgw_store.proxy.fault("off")
    site.remount()
    assert os.listdir(site / LONGEST) == ["d"]
    assert read_file(site / os.path.join(LONGEST, ("d/" + "e" * 120))) == b"acknowledged"
    site.umount()
    top = LONGEST.encode()
    assert set(stored_paths(rgw_store, keyring)) == {top, top + b"/d", top + b"/d/" + b"e" * 120}
    nothing_plain(rgw_store)
