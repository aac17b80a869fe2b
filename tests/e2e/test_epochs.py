# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""rekey --reencrypt: a new epoch, beside mounts that do not know of it, killed and begun again, and its end."""
import errno
import os
import re
import subprocess
import time

import pytest

import decoder
from harness import blob, fails, read_file, wait_for, write_file
from test_rekey import SEGMENT, Source, fill, rotate, under_load

GRACE = 3600
VOLUME = ".s3cryptfs/volume"


def epochs(store, keyring):
    """The epochs of the volume object, the newest first."""
    return [e["epoch"] for e in store.volume(keyring).members["epochs"]]


def of_objects(store, keyring):
    """{key: its epoch}, folders too; each object is wholly verified."""
    return {k: o.epoch for k, o in store.decode_all(keyring).items()}


def age_epoch(store, keyring, seconds):
    """As if the newest epoch had been begun so long ago: its time, and the MAC over it."""
    volume, body = store.volume(keyring), store.body_of(VOLUME)
    text = body[:body.rfind(b"\nhmac-sha256 ") + 1]
    begun = volume.members["epochs"][0]["begun"]
    assert text.count(b'"begun": %d' % begun) == 1
    text = text.replace(b'"begun": %d' % begun, b'"begun": %d' % (begun - seconds))
    put_volume(store, text + b"hmac-sha256 " + decoder.mac(volume.body_key, text).hex().encode() + b"\n")
    assert store.volume(keyring).members["epochs"][0]["begun"] == begun - seconds


def put_volume(store, body):
    if hasattr(store, "set_body"):
        store.set_body(VOLUME, body)
    else:
        store.put(VOLUME, body)


@pytest.fixture(params=["file", "versity"])
def any_store(request):
    return request.getfixturevalue(request.param + "_store")


def test_epoch(any_store, mount, keyring):
    """Begun by the first run, finished by one that begins late enough and finds nothing of an older one; the names and
    what is derived for this machine stay."""
    source = Source(any_store, keyring)
    m = mount(any_store.source, **any_store.options())
    files = fill(m)
    m.umount()
    before = any_store.volume(keyring)
    told = source.rekey("--reencrypt").stdout
    assert "8 brought" not in told and "7 brought under test-key, 2 have no data key" in told, told
    assert "epoch 2 is not finished" in told
    after = any_store.volume(keyring)
    assert epochs(any_store, keyring) == [2, 1]
    assert set(of_objects(any_store, keyring).values()) == {2}
    assert (after.id, after.name_key, after.local_key) == (before.id, before.name_key, before.local_key)
    assert after.key != before.key and after.seal_keys[1] == before.seal_keys[1] and after.serial == before.serial + 1
    told = source.rekey("--reencrypt").stdout
    assert "0 brought under test-key, 7 were already" in told and "not finished" in told
    assert epochs(any_store, keyring) == [2, 1]
    age_epoch(any_store, keyring, GRACE)
    told = source.rekey("--reencrypt", paths=["d"]).stdout
    assert "not finished" in told and epochs(any_store, keyring) == [2, 1], "a part tells nothing of the rest"
    told = source.rekey("--reencrypt").stdout
    assert "0 brought under test-key" in told and "epoch 2 is finished" in told
    assert epochs(any_store, keyring) == [2]
    m = mount(any_store.source, **any_store.options())
    assert {n: read_file(m / n) for n in files} == files
    m.umount()
    # The next one is a new one.
    source.rekey("--reencrypt")
    assert epochs(any_store, keyring) == [3, 2]
    assert set(of_objects(any_store, keyring).values()) == {3}


def test_old_object_keeps_its_epoch(file_store, mount, keyring):
    """Late enough, but one object is of the former epoch: the run brings it over, and the next one finishes."""
    source = Source(file_store, keyring)
    m = mount(file_store.source, **file_store.options())
    write_file(m / "f", b"f")
    os.mkdir(m / "d")
    m.umount()
    source.rekey("--reencrypt", paths=["f"])
    assert of_objects(file_store, keyring) == {"f": 2, "d/": 1}
    age_epoch(file_store, keyring, GRACE)
    assert "not finished" in source.rekey("--reencrypt").stdout
    assert of_objects(file_store, keyring) == {"f": 2, "d/": 2} and epochs(file_store, keyring) == [2, 1]
    assert "epoch 2 is finished" in source.rekey("--reencrypt").stdout


def test_beside_mounts(versity_store, mount, keyring):
    """Two mounts that were there before: one reads what is of the new epoch, and writes in it from then on; the other
    has looked at nothing yet."""
    source = Source(versity_store, keyring)
    options = versity_store.options(ttl=1)
    m, other = mount(versity_store.source, **options), mount(versity_store.source, **options)
    big = blob(2 * SEGMENT + 5, 3)
    for name in ("a", "b", "moved"):
        write_file(m / name, name.encode())
    write_file(m / "big", big)
    os.mkdir(m / "d")
    write_file(other / "unseen", b"unseen")
    source.rekey("--reencrypt")
    write_file(other / "former", b"written by who knows of no other epoch")
    time.sleep(1.2)
    assert read_file(m / "a") == b"a" and read_file(m / "big") == big
    assert os.stat(m / "d").st_mode
    write_file(m / "new", b"new")
    os.rename(m / "moved", m / "d/moved")
    os.chmod(m / "b", 0o600)
    with open(m / "big", "r+b") as f:
        f.seek(SEGMENT)
        f.write(b"changed")
    found = of_objects(versity_store, keyring)
    assert found.pop("former") == 1
    assert set(found.values()) == {2}, found
    assert read_file(other / "new") == b"new"
    # Of the former epoch, and changed by who knows the new one: that keeps its data key and its epoch.
    os.chmod(m / "former", 0o640)
    os.rename(m / "former", m / "d/former")
    assert of_objects(versity_store, keyring)["d/former"] == 1
    source.rekey("--reencrypt")
    assert set(of_objects(versity_store, keyring).values()) == {2}
    assert read_file(m / "d/former") == b"written by who knows of no other epoch"
    for each in (m, other):
        each.umount()


def test_dropped_epoch_comes_back(versity_store, mount, keyring):
    """The volume object loses an epoch under a mount that copies an object of it: it is put back before the copy
    counts."""
    source = Source(versity_store, keyring)
    m = mount(versity_store.source, **versity_store.options(ttl=1))
    for name in ("old", "f", "same"):
        write_file(m / name, b"of the first epoch")
    source.rekey("--reencrypt", paths=["f"])
    time.sleep(1.2)
    assert read_file(m / "f") == b"of the first epoch"
    # As a run that missed the others would have: nobody else knows the key of the first epoch then.
    volume = versity_store.volume(keyring)
    members = dict(volume.members, epochs=volume.members["epochs"][:1], serial=volume.serial + 1)
    text = decoder.json.dumps(members).encode() + b"\n"
    put_volume(versity_store, text + b"hmac-sha256 " + decoder.mac(volume.body_key, text).hex().encode() + b"\n")
    assert epochs(versity_store, keyring) == [2]
    os.rename(m / "old", m / "renamed")
    assert epochs(versity_store, keyring) == [2, 1] and "in the volume object again" in m.text()
    assert of_objects(versity_store, keyring) == {"renamed": 1, "f": 2, "same": 1}
    assert versity_store.decode(keyring, "renamed").plaintext() == b"of the first epoch"


def test_unknown_epoch(versity_store, mount, keyring):
    """An object whose epoch no volume object ever had is refused, by name, and only it."""
    m = mount(versity_store.source, **versity_store.options())
    write_file(m / "f", b"f")
    write_file(m / "g", b"g")
    m.umount()
    meta, body = versity_store.meta_of("f"), versity_store.body_of("f")
    packed = bytearray(decoder.base64.b64decode(meta["s3cryptfs"]))
    packed[4:8] = (7).to_bytes(4, "big")
    meta["s3cryptfs"] = decoder.base64.b64encode(packed).decode()
    versity_store.put("f", body, Metadata=meta)
    m = mount(versity_store.source, **versity_store.options())
    with fails(errno.EIO):
        read_file(m / "f")
    assert read_file(m / "g") == b"g"
    assert "sealed in epoch 7, which this volume does not have" in m.text()


def test_killed(versity_store, mount, keyring):
    """kill -9 in the middle: all is readable in between, and the second run does what is left, in the same epoch."""
    names = ["f%03d" % i for i in range(120)]
    m = mount(versity_store.source, **versity_store.options(writeback=True))
    for name in names:
        write_file(m / name, b"content of " + name.encode())
    write_file(m / "zbig", blob(2 * SEGMENT + 9, 4))
    m.umount()
    source = Source(versity_store, keyring)
    proxy = versity_store.proxy
    proxy.latency(100)
    proxy.reset()
    process = subprocess.Popen(source.command("rekey", "--reencrypt") + [source.source], env=source.env, stdout=subprocess.DEVNULL)
    # Two rounds of what runs side by side: the first of them is done by then.
    wait_for(lambda: process.poll() is not None or proxy.counts().get("PUT", 0) > 64, what="writes")
    process.kill()
    process.wait()
    proxy.latency(0)
    time.sleep(0.5)
    found = of_objects(versity_store, keyring)
    done = sum(e == 2 for e in found.values())
    assert 1 < done < len(found) and epochs(versity_store, keyring) == [2, 1], done
    m = mount(versity_store.source, **versity_store.options())
    assert all(read_file(m / name) == b"content of " + name.encode() for name in names)
    m.umount()
    proxy.reset()
    told = source.rekey("--reencrypt").stdout
    left = len(found) - done
    assert "%d objects: %d brought under test-key, %d were already" % (len(found), left, done) in told, told
    counts = proxy.counts()
    # The probe is from the first run; one of the objects is large, and written in parts.
    assert left - 1 <= counts["PUT"] <= left + 2 + 3, (counts, left)
    assert counts.get("GET", 0) <= left + 8, (counts, left)
    assert set(of_objects(versity_store, keyring).values()) == {2}
    assert epochs(versity_store, keyring) == [2, 1]


def test_journal_survives(versity_store, mount, keyring, tmp_path):
    """What a mount had acknowledged and not sent is opened after the epoch of its time has gone."""
    options = versity_store.options(writeback=True, cache_dir=str(tmp_path / "cache"))
    m = mount(versity_store.source, **options)
    write_file(m / "old", b"old")
    m.umount()
    m = mount(versity_store.source, **options)
    assert os.listdir(m.path) == ["old"]  # what is not listed needs no question
    versity_store.proxy.fault("reset")
    write_file(m / "unsent", b"acknowledged by the journal")
    m.kill()
    versity_store.proxy.fault("off")
    source = Source(versity_store, keyring)
    source.rekey("--reencrypt")
    age_epoch(versity_store, keyring, GRACE)
    assert "is finished" in source.rekey("--reencrypt").stdout
    assert epochs(versity_store, keyring) == [2]
    assert "unsent" not in versity_store.keys()
    m = mount(versity_store.source, **options)
    assert read_file(m / "unsent") == b"acknowledged by the journal" and read_file(m / "old") == b"old"
    m.umount()
    assert versity_store.decode(keyring, "unsent").plaintext() == b"acknowledged by the journal"


def test_slots(file_store, mount, keyring):
    """The new volume key opens for the keys that opened the former one, and for a key that is not at hand nothing is
    begun; key retire takes out a slot that no keyring has."""
    source = Source(file_store, keyring)
    m = mount(file_store.source, **file_store.options())
    write_file(m / "f", b"f")
    m.umount()
    rotate(keyring, "second")
    source.rekey()
    text = read_file(keyring.path).decode()
    first, second = text[:text.index("[second]")], text[text.index("[second]"):]
    write_file(keyring.path, second.encode())
    told = source.rekey("--reencrypt", expect=1).stderr
    assert "the key test-key as well" in told and epochs(file_store, keyring) == [1], told
    assert "none of 1 objects needs the key test-key" in source.retire("test-key").stdout
    assert "has a key never" in source.retire("never", expect=1).stderr
    source.rekey("--reencrypt")
    assert [s["key_id"] for s in file_store.volume(keyring).members["epochs"][0]["slots"]] == ["second"]
    write_file(keyring.path, (second + first.replace("state = active", "state = old")).encode())
    m = mount(file_store.source, **file_store.options())
    assert read_file(m / "f") == b"f"


def test_encrypted_names(file_store, mount, keyring):
    """Names are not touched, long ones and folders included."""
    options = file_store.options(names="encrypted")
    m = mount(file_store.source, **options)
    long = "l" * 200
    os.makedirs(m / (long + "/d"))
    write_file(m / (long + "/d/f"), b"f")
    write_file(m / ("n" * 240), b"n")
    m.umount()
    keys = sorted(file_store.keys())
    source = Source(file_store, keyring, names="encrypted")
    source.rekey("--reencrypt")
    assert sorted(file_store.keys()) == keys and set(of_objects(file_store, keyring).values()) == {2}
    age_epoch(file_store, keyring, GRACE)
    assert "is finished" in source.rekey("--reencrypt").stdout
    m = mount(file_store.source, **options)
    assert read_file(m / (long + "/d/f")) == b"f" and read_file(m / ("n" * 240)) == b"n"


def test_under_load(versity_store, mount, keyring):
    """Reads and writes of a mount while a run is killed, goes on and finishes: none fails, and all can be read after."""
    names = ["f%02d" % i for i in range(30)]
    big = blob(3 * SEGMENT + 777, 6)
    m = mount(versity_store.source, **versity_store.options())
    for name in names:
        write_file(m / name, b"content of " + name.encode())
    write_file(m / "big", big)
    m.umount()
    source = Source(versity_store, keyring)
    m = mount(versity_store.source, **versity_store.options(ttl=1, cache_size="16M"))

    def work():
        process = subprocess.Popen(source.command("rekey", "--reencrypt") + [source.source], env=source.env, stdout=subprocess.DEVNULL)
        time.sleep(0.2)
        process.kill()
        process.wait()
        for _ in range(2):
            told.append(source.rekey("--reencrypt").stdout)

    told = []
    written = under_load(m, names, big, work)
    m.umount()
    source.rekey("--reencrypt")
    found = versity_store.decode_all(keyring)
    assert {o.epoch for o in found.values()} == {2}
    assert not any("conflict" in name for name in found), told
    assert found["big"].plaintext() == big
    for name, data in written.items():
        assert found[name + ".own"].plaintext() == data
    assert re.search("not finished", told[-1])
