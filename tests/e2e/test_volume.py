# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""The volume object: one that was replaced, moved, lost, damaged or turned back is noticed; a backup brings it back."""
import json
import os
import stat

import pytest

from harness import CTL, FileStore, read_file, run, write_file

KEY = ".s3cryptfs/volume"


def path_of(store):
    return store.paths()[KEY]


def put(store, body):
    """Another body under the key, as a store that is not honest has it."""
    path = os.path.join(store.folder, KEY)
    if os.path.exists(path):
        store.set_body(KEY, body)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_file(path, body)


def ctl(*args, expect=0):
    result = run(CTL, *args, check=False)
    assert result.returncode == expect, "%s: exit %d\n%s%s" % (args, result.returncode, result.stdout, result.stderr)
    return result.stdout + result.stderr


@pytest.fixture
def known(file_store, mount, keyring, tmp_path):
    """A volume with a file, that this machine has mounted: (options of mounts, words of commands, id)."""
    options = {"state_dir": str(tmp_path / "state")}
    m = mount(file_store.source, **options)
    write_file(m / "f", b"data")
    m.umount()
    words = ["-o", "keyring=%s,state_dir=%s" % (keyring.path, options["state_dir"])]
    return options, words, json.loads(file_store.body_of(KEY).split(b"hmac-sha256")[0])["id"]


def refused(mount, store, *words, **options):
    status, text = mount(store.source, wait=False, **options).fail()
    assert status == 1
    for word in words:
        assert word in text, text


def test_lost(file_store, mount, known, tmp_path):
    """Gone: the mount says so and makes no new one; the backup brings it back, a second import has nothing to do."""
    options, words, _ = known
    backup = str(tmp_path / "backup")
    assert "opens with the keyring only" in ctl("volume", "export", *words, file_store.source, backup)
    assert read_file(backup) == file_store.body_of(KEY)
    assert stat.S_IMODE(os.stat(backup).st_mode) == 0o600
    assert "File exists" in ctl("volume", "export", *words, file_store.source, backup, expect=1)
    assert "is in order" in ctl("volume", "import", *words, file_store.source, backup, expect=1)
    os.unlink(path_of(file_store))
    refused(mount, file_store, "is gone", "volume import", **options)
    # A machine that has never seen it is not fooled into a new one either.
    refused(mount, file_store, "holds files of a volume", "volume import")
    ctl("volume", "import", *words, file_store.source, backup)
    m = mount(file_store.source, **options)
    assert read_file(m / "f") == b"data"


def test_damaged(file_store, mount, known, keyring, tmp_path):
    """Altered in any way: refused, whatever was altered; the backup replaces it."""
    options, words, _ = known
    backup = str(tmp_path / "backup")
    ctl("volume", "export", *words, file_store.source, backup)
    good = read_file(backup)
    for bad in (good.replace(b'"serial": 1', b'"serial": 9'), good[:-20], b"", good.replace(b'"plain"', b'"encrypted"'),
                good.replace(b'"cse"', b'"sse-c"')):
        assert bad != good
        put(file_store, bad)
        refused(mount, file_store, "s3cryptfs:", **options)
    assert "is gone" not in ctl("volume", "import", *words, file_store.source, backup)
    m = mount(file_store.source, **options)
    assert read_file(m / "f") == b"data"
    m.umount()
    write_file(tmp_path / "bad", good[:-20])
    os.unlink(path_of(file_store))
    assert "damaged" in ctl("volume", "import", *words, file_store.source, tmp_path / "bad", expect=1)
    assert "No such file" in ctl("volume", "import", *words, file_store.source, tmp_path / "none", expect=1)
    assert KEY not in file_store.paths()


def test_gone_and_machine_new(file_store, mount, keyring, tmp_path, known):
    """A machine that has never seen the volume knows by the objects that there was one: init makes no other."""
    options, words, _ = known
    backup = str(tmp_path / "backup")
    ctl("volume", "export", *words, file_store.source, backup)
    os.unlink(path_of(file_store))
    new = {"state_dir": str(tmp_path / "other")}
    refused(mount, file_store, "is gone", "volume import", **new)
    words = ["-o", "keyring=%s,state_dir=%s" % (keyring.path, new["state_dir"])]
    assert "volume import" in ctl("init", *words, file_store.source, expect=1)
    assert KEY not in file_store.paths()
    ctl("volume", "import", *words, file_store.source, backup)
    assert read_file(mount(file_store.source, **new) / "f") == b"data"


def test_older(file_store, mount, known, keyring, tmp_path):
    """An older version of it is noticed by who has seen the newer; a backup that is older counts all the same, since a
    person says so, and its serial number rises over the last."""
    options, words, _ = known
    old = str(tmp_path / "old")
    ctl("volume", "export", *words, file_store.source, old)
    ctl("key", "rotate", *words, "second")
    m = mount(file_store.source, **options)
    write_file(m / "new", b"new")
    m.umount()
    assert file_store.volume(keyring).serial == 2
    put(file_store, read_file(old))
    refused(mount, file_store, "is older (serial 1)", **options)
    os.unlink(path_of(file_store))
    ctl("volume", "import", *words, file_store.source, old)
    m = mount(file_store.source, **options)
    assert read_file(m / "f") == b"data" and read_file(m / "new") == b"new"
    m.umount()
    volume = file_store.volume(keyring)
    assert volume.serial > 2 and {s["key_id"] for s in volume.members["epochs"][0]["slots"]} == {"test-key", "second"}


def test_replaced(file_store, mount, known, keyring, tmp_path):
    """Another volume of the same keyring in its place: by the pin, and on a new machine by volume_id=."""
    options, words, volume_id = known
    os.makedirs(tmp_path / "other")
    other = FileStore(str(tmp_path / "other"))
    m = mount(other.source)
    write_file(m / "f", b"other")
    m.umount()
    good, theirs = file_store.body_of(KEY), str(tmp_path / "theirs")
    ctl("volume", "export", "-o", "keyring=" + keyring.path, other.source, theirs)
    put(file_store, read_file(theirs))
    refused(mount, file_store, "someone replaced it", **options)
    refused(mount, file_store, "volume_id= asks for " + volume_id, volume_id=volume_id)
    # Without either, its files do not open: their seals are of another volume.
    m = mount(file_store.source)
    with pytest.raises(OSError):
        read_file(m / "f")
    m.umount()
    os.unlink(path_of(file_store))
    assert "not the volume that this machine knows" in ctl("volume", "import", *words, file_store.source, theirs, expect=1)
    write_file(tmp_path / "good", good)
    ctl("volume", "import", *words, file_store.source, tmp_path / "good")
    m = mount(file_store.source, **options)
    assert read_file(m / "f") == b"data"


def test_ssec(rgw_store, mount, keyring, tmp_path):
    """The volume of SSE-C, whose id all customer keys depend on, comes back as well."""
    options = dict(rgw_store.options(enc="sse-c"), state_dir=str(tmp_path / "state"))
    m = mount(rgw_store.source, **options)
    write_file(m / "f", b"data")
    m.umount()
    env = dict(os.environ, **options.pop("env"))
    words = ["-o", ",".join("%s=%s" % pair for pair in dict(options, keyring=keyring.path).items())]
    run(CTL, "volume", "export", *words, rgw_store.source, tmp_path / "backup", env=env)
    rgw_store.client.delete_object(Bucket=rgw_store.bucket, Key=KEY)
    status, text = mount(rgw_store.source, wait=False, **options, env=rgw_store.env).fail()
    assert status == 1 and "is gone" in text
    run(CTL, "volume", "import", *words, rgw_store.source, tmp_path / "backup", env=env)
    m = mount(rgw_store.source, **options, env=rgw_store.env)
    assert read_file(m / "f") == b"data"
