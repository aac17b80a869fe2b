# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""s3cryptfsctl rekey and key retire: what is stored comes under another key, beside mounts, and nothing is lost."""
import errno
import os
import re
import signal
import signal
import subprocess
import threading
import time

import pytest
from botocore.exceptions import ClientError

import decoder
from harness import CTL, blob, fails, read_file, run, wait_for, write_file

SEGMENT = 8 << 20


class Source:
    """Commands on the source of a store."""

    def __init__(self, store, keyring, **options):
        options = dict(store.options(), keyring=keyring.path, **options)
        self.env = dict(os.environ, **options.pop("env", {}))
        self.words = ["-o", ",".join("%s=%s" % (k, v) if v is not True else k for k, v in options.items())]
        self.source = store.source

    def command(self, *command):
        return [CTL, *command, *self.words]

    def run(self, command, *args, expect=0, tail=(), **kw):
        result = run(CTL, command, *args, *self.words, self.source, *tail, check=False, env=self.env, **kw)
        assert result.returncode == expect, "%s: exit %d\n%s%s" % (command, result.returncode, result.stdout, result.stderr)
        return result

    def rekey(self, *args, paths=(), **kw):
        return self.run("rekey", *args, tail=paths, **kw)

    def retire(self, key_id, expect=0):
        result = run(CTL, "key", "retire", *self.words, key_id, self.source, check=False, env=self.env)
        assert result.returncode == expect, result.stdout + result.stderr
        return result


def rotate(keyring, key_id):
    run(CTL, "key", "rotate", "-o", "keyring=" + keyring.path, key_id)
    keyring.key_id = key_id


def masters(store, keyring):
    """Which key each file is under, each object wholly verified."""
    return {k: o.master_id for k, o in store.decode_all(keyring).items() if not k.endswith("/")}


def fill(m):
    """A tree with small, empty and large files; {path: content}."""
    os.makedirs(m / "d/e")
    files = {"small": b"x", "empty": b"", "d/one": blob(70000, 1), "d/e/two": b"2" * 100, "dir": b"no folder", "d/large": blob(2 * SEGMENT + 12345, 2)}
    for name, data in files.items():
        write_file(m / name, data)
    os.symlink("d/one", m / "link")
    os.utime(m / "small", ns=(1, 1500000000123456789))
    os.utime(m / "d/large", ns=(1, 1500000000987654321))
    os.chmod(m / "d/e/two", 0o640)
    return files


@pytest.fixture(params=["file", "versity", "rgw"])
def any_store(request):
    return request.getfixturevalue(request.param + "_store")


def test_rewrap(any_store, mount, keyring):
    """Every object comes under the new key and keeps content and attributes; then the old key can go."""
    source = Source(any_store, keyring)
    m = mount(any_store.source, **any_store.options())
    files = fill(m)
    stats = {n: os.lstat(m / n) for n in [*files, "link"]}
    m.umount()
    before = any_store.decode_all(keyring)
    rotate(keyring, "second")
    assert "still need" in source.retire("test-key", expect=1).stderr
    told = source.rekey().stdout
    assert re.search(r"^9 objects: 7 brought under second, 2 have no data key;", told, re.M), told
    assert set(masters(any_store, keyring).values()) == {"second"}
    after = any_store.decode_all(keyring)
    for name, o in before.items():
        assert (after[name].file_id, after[name].content_id, after[name].attrs) == (o.file_id, o.content_id, o.attrs), name
        assert after[name].body == o.body
    told = source.rekey().stdout
    assert "0 brought under second, 7 were already" in told
    assert "none of 9 objects needs" in source.retire("test-key").stdout
    assert "[test-key]" not in read_file(keyring.path).decode()
    assert [s["key_id"] for s in any_store.volume(keyring).members["epochs"][0]["slots"]] == ["second"]
    m = mount(any_store.source, **any_store.options())
    for name, data in files.items():
        assert read_file(m / name) == data
    for name, st in stats.items():
        now = os.lstat(m / name)
        assert (now.st_mode, now.st_size, now.st_mtime_ns) == (st.st_mode, st.st_size, st.st_mtime_ns), name


def test_retire_beside_a_mount(file_store, mount, keyring):
    """Not while a mount of this machine writes under the key: nobody could read that."""
    source = Source(file_store, keyring)
    m = mount(file_store.source)
    write_file(m / "one", b"1")
    rotate(keyring, "second")
    source.rekey()
    told = source.retire("test-key", expect=1).stderr
    assert "the mount on %s still writes under the key test-key" % m.path in told and "kill -HUP %d" % m.process.pid in told
    write_file(m / "two", b"2")
    m.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "read again" in m.text(), what="the new keyring")
    assert "still need" in source.retire("test-key", expect=1).stderr
    source.rekey()
    source.retire("test-key")
    write_file(m / "three", b"3")
    m.umount()
    m = mount(file_store.source)
    assert [read_file(m / n) for n in ("one", "two", "three")] == [b"1", b"2", b"3"]


def test_what_is_not_there(file_store, mount, keyring, tmp_path):
    """A path with a mistake in it is no success; a mount may be named by a relative path."""
    source = Source(file_store, keyring)
    m = mount(file_store.source)
    write_file(m / "f", b"1")
    assert "typo: nothing is there" in source.rekey(paths=("typo",), expect=1).stderr
    assert "1 object:" in source.rekey(paths=("f",)).stdout
    done = run(CTL, "rekey", os.path.basename(m.path), check=False, cwd=os.path.dirname(m.path))
    assert done.returncode == 0 and "1 was already" in done.stdout, done.stdout + done.stderr


def test_retire_looks_at_the_whole_volume(versity_store, mount, keyring):
    """A part of it has no object under the key, another has."""
    m = mount(versity_store.source, **versity_store.options())
    os.mkdir(m / "part")
    write_file(m / "f", b"under the old key")
    m.umount()
    rotate(keyring, "second")
    source = Source(versity_store, keyring)
    source.rekey(paths=["part"])
    part = run(CTL, "key", "retire", *source.words, "test-key", versity_store.source + "/part", check=False, env=source.env)
    assert part.returncode == 1 and "only a part of the volume" in part.stderr, part.stderr
    m = mount(versity_store.source, **versity_store.options())
    assert read_file(m / "f") == b"under the old key"


def test_paths_and_target(file_store, mount, keyring):
    """Only what is named, and to the key that is named; nothing that only begins with the name."""
    source = Source(file_store, keyring)
    m = mount(file_store.source, **file_store.options())
    fill(m)
    m.umount()
    rotate(keyring, "second")
    source.rekey(paths=["d/"])
    assert {k for k, v in masters(file_store, keyring).items() if v == "second"} == {"d/one", "d/e/two", "d/large"}
    source.rekey("--to", "test-key", paths=["/d/one", "small"])
    assert {k for k, v in masters(file_store, keyring).items() if v == "second"} == {"d/e/two", "d/large"}
    assert "has no key other" in source.rekey("--to", "other", expect=1).stderr
    assert "active key" in source.retire("second", expect=1).stderr
    assert "has a key other" in source.retire("other", expect=1).stderr
    assert "leave out ro" in run(CTL, "rekey", "-o", source.words[1] + ",ro", source.source, check=False).stderr


def test_skipped(file_store, mount, keyring, tmp_path):
    """What cannot be brought over is named with its reason, the rest is; a key that may be needed stays."""
    source = Source(file_store, keyring)
    m = mount(file_store.source, **file_store.options())
    for name in ("a", "b", "c"):
        write_file(m / name, b"data of " + name.encode())
    m.umount()
    meta = file_store.meta_of("a")
    file_store.set_meta("a", dict(meta, mode="33279"))
    write_file(os.path.join(file_store.folder, "plain"), b"not ours")
    rotate(keyring, "second")
    told = source.rekey(expect=1).stdout
    assert re.search(r"skipped a: its seal does not fit", told), told
    assert "4 objects: 2 brought under second, 1 is not encrypted by s3cryptfs, 1 was skipped" in told
    assert "could not be looked at" in source.retire("test-key", expect=1).stderr
    assert "[test-key]" in read_file(keyring.path).decode()
    # An object whose key is missing.
    file_store.set_meta("a", meta)
    text = read_file(keyring.path).decode()
    write_file(keyring.path, text[text.index("[second]"):].encode())
    told = source.rekey(expect=1).stdout
    assert "skipped a: needs the master key test-key, which the keyring does not have" in told


def test_killed(versity_store, mount, keyring):
    """kill -9 in the middle, several times; the next one goes on, and at each moment every object is whole."""
    source = Source(versity_store, keyring)
    m = mount(versity_store.source, **versity_store.options())
    names = ["f%03d" % i for i in range(150)]
    for name in names:
        write_file(m / name, name.encode())
    m.umount()
    rotate(keyring, "second")
    versity_store.proxy.latency(20)
    counts = []
    for _ in range(3):
        process = subprocess.Popen(source.command("rekey") + [source.source], env=source.env, stdout=subprocess.DEVNULL)
        target = (counts[-1] if counts else 0) + 20
        wait_for(lambda: process.poll() is not None or versity_store.proxy.counts().get("COPY", 0) >= target, what="copies")
        process.send_signal(signal.SIGKILL)
        process.wait()
        counts.append(versity_store.proxy.counts().get("COPY", 0))
    versity_store.proxy.latency(0)
    found = masters(versity_store, keyring)
    assert sorted(found) == names and set(found.values()) <= {"test-key", "second"}
    told = source.rekey().stdout
    assert "150 objects:" in told
    assert set(masters(versity_store, keyring).values()) == {"second"}
    assert {k: o.plaintext() for k, o in versity_store.decode_all(keyring).items()} == {n: n.encode() for n in names}


class Load(threading.Thread):
    """Repeats one piece of work until it is told to stop; what went wrong."""

    def __init__(self, work):
        super().__init__()
        self.work, self.stopping, self.error, self.rounds = work, False, None, 0
        self.start()

    def run(self):
        try:
            while not self.stopping:
                self.work(self.rounds)
                self.rounds += 1
        except BaseException as e:
            self.error = e

    def stop(self):
        self.stopping = True
        self.join()
        if self.error:
            raise self.error
        return self.rounds


def under_load(m, names, big, work):
    """work() while a writer and two readers use the mount: not one read may fail or be wrong."""
    handle = os.open(m / "big", os.O_RDONLY)
    written = {}

    def write(i):
        name = names[i % len(names)]
        written[name] = b"%s written %d" % (name.encode(), i)
        write_file(m / (name + ".own"), written[name])

    def read(i):
        name = names[i * 7 % len(names)]
        assert read_file(m / name) == b"content of " + name.encode()

    def read_big(i):
        at = i * 104729 * 13 % (len(big) - 5000)
        assert os.pread(handle, 5000, at) == big[at:at + 5000]
        if i % 50 == 49:
            assert read_file(m / "big") == big

    loads = [Load(write), Load(read), Load(read_big)]
    try:
        time.sleep(0.3)
        work()
        time.sleep(0.3)
    finally:
        rounds = []
        for load in loads:
            load.stopping = True
        for load in loads:
            rounds.append(load.stop())
        os.close(handle)
    assert all(n > 3 for n in rounds), rounds
    return written


def test_under_load(versity_store, mount, keyring, tmp_path):
    """Rotation beside a live mount that writes and reads, tiny files and a large one, with cold caches."""
    names = ["f%02d" % i for i in range(40)]
    big = blob(3 * SEGMENT + 777, 5)
    m = mount(versity_store.source, **versity_store.options())
    for name in names:
        write_file(m / name, b"content of " + name.encode())
    write_file(m / "big", big)
    m.umount()
    rotate(keyring, "second")
    source = Source(versity_store, keyring)
    m = mount(versity_store.source, **versity_store.options(ttl=1, cache_size="16M"))
    told = []
    written = under_load(m, names, big, lambda: told.append(source.rekey().stdout))
    assert "were skipped" not in told[0] and "was skipped" not in told[0], told
    m.umount()
    source.rekey()
    found = versity_store.decode_all(keyring)
    assert {o.master_id for o in found.values()} == {"second"}
    assert found["big"].plaintext() == big
    for name, data in written.items():
        assert found[name + ".own"].plaintext() == data
    source.retire("test-key")


def test_requests(versity_store, mount, keyring):
    """A HEAD and a copy for each object, many at a time."""
    m = mount(versity_store.source, **versity_store.options())
    os.mkdir(m / "d")
    for i in range(200):
        write_file(m / ("d/f%d" % i), b"x")
    m.umount()
    rotate(keyring, "second")
    source = Source(versity_store, keyring)
    versity_store.proxy.reset()
    versity_store.proxy.latency(50)
    start = time.monotonic()
    told = source.rekey(paths=["d"]).stdout
    spent = time.monotonic() - start
    versity_store.proxy.latency(0)
    assert "201 objects: 200 brought under second" in told
    counts = versity_store.proxy.counts()
    print(spent, counts)
    assert counts["COPY"] <= 200 + 20
    # One at a time would be 20 s.
    assert spent < 15


class Ssec:
    """Looks at an SSE-C bucket with the keys of its keyring, as any client could."""

    def __init__(self, store, keyring):
        self.store, self.keyring = store, keyring

    def secrets(self):
        return decoder.Keyring(self.keyring.path).secrets

    def under(self, key):
        """The ids of the keys that open an object, by their derived customer keys."""
        volume, found = self.store.volume(self.keyring), []
        for key_id, secret in self.secrets().items():
            customer, _ = decoder.ssec_key(secret, volume.id, key)
            try:
                self.store.head(key, SSECustomerAlgorithm="AES256", SSECustomerKey=customer)
            except ClientError:
                continue
            found.append(key_id)
        assert len(found) == 1, (key, found)
        return found[0]

    def all(self):
        return {key: self.under(key) for key in self.store.keys() if not key.endswith("/")}


def test_ssec(rgw_store, mount, keyring):
    """SSE-C objects under an old key are read, changed, renamed and brought under the new one; without the old key
    they alone are refused, and the log names it."""
    options = {"enc": "sse-c"}
    source, look = Source(rgw_store, keyring, **options), Ssec(rgw_store, keyring)
    m = mount(rgw_store.source, **rgw_store.options(**options))
    files = fill(m)
    m.umount()
    assert set(look.all().values()) == {"test-key"}
    rotate(keyring, "second")
    m = mount(rgw_store.source, **rgw_store.options(ttl=1, **options))
    assert {n: read_file(m / n) for n in files} == files
    write_file(m / "new", b"new")
    write_file(m / "small", b"overwritten")
    os.chmod(m / "d/one", 0o600)
    os.rename(m / "d/e/two", m / "d/e/three")
    with open(m / "d/large", "r+b") as f:
        f.seek(SEGMENT + 5)
        f.write(b"changed")
    files["d/e/three"] = files.pop("d/e/two")
    files["small"], files["new"] = b"overwritten", b"new"
    files["d/large"] = files["d/large"][:SEGMENT + 5] + b"changed" + files["d/large"][SEGMENT + 12:]
    assert {n: read_file(m / n) for n in files} == files
    m.umount()
    found = look.all()
    assert {k for k, v in found.items() if v == "second"} == {"new", "small", "d/one", "d/e/three", "d/large"}
    assert "still need" in source.retire("test-key", expect=1).stderr
    assert "brought under second" in source.rekey().stdout
    assert set(look.all().values()) == {"second"}
    source.retire("test-key")
    m = mount(rgw_store.source, **rgw_store.options(**options))
    assert {n: read_file(m / n) for n in files} == files
    assert os.stat(m / "d/one").st_mode & 0o777 == 0o600
    m.umount()


def test_ssec_key_missing(rgw_store, mount, keyring):
    """Two keys are known to the volume, the keyring has one: the other's files are refused by name."""
    options = {"enc": "sse-c"}
    m = mount(rgw_store.source, **rgw_store.options(**options))
    write_file(m / "old", b"old")
    m.umount()
    rotate(keyring, "second")
    m = mount(rgw_store.source, **rgw_store.options(**options))
    write_file(m / "new", b"new")
    m.umount()
    text = read_file(keyring.path).decode()
    write_file(keyring.path, text[text.index("[second]"):].encode())
    m = mount(rgw_store.source, **rgw_store.options(**options))
    assert read_file(m / "new") == b"new"
    with fails(errno.EACCES):
        read_file(m / "old")
    assert "keys that the keyring does not have: test-key" in m.text()


def test_ssec_under_load(rgw_store, mount, keyring):
    """The customer key of every object changes under a live mount, and no read fails."""
    options = {"enc": "sse-c"}
    names = ["f%02d" % i for i in range(20)]
    big = blob(2 * SEGMENT + 777, 5)
    m = mount(rgw_store.source, **rgw_store.options(**options))
    for name in names:
        write_file(m / name, b"content of " + name.encode())
    write_file(m / "big", big)
    m.umount()
    rotate(keyring, "second")
    source = Source(rgw_store, keyring, **options)
    m = mount(rgw_store.source, **rgw_store.options(ttl=1, cache_size="16M", **options))
    under_load(m, names, big, source.rekey)
    m.umount()
    source.rekey()
    assert set(Ssec(rgw_store, keyring).all().values()) == {"second"}


def data_keys(store, keyring):
    return {k: o.data_key for k, o in store.decode_all(keyring).items() if not k.endswith("/")}


def test_reencrypt(any_store, mount, keyring):
    """Every file gets a new data key; content, attributes and content version stay."""
    m = mount(any_store.source, **any_store.options())
    files = fill(m)
    with open(m / "sparse", "wb") as f:
        f.truncate(2 * SEGMENT + 5)
        f.seek(2 * SEGMENT)
        f.write(b"12345")
    files["sparse"] = bytes(2 * SEGMENT) + b"12345"
    stats = {n: os.lstat(m / n) for n in [*files, "link"]}
    m.umount()
    before = any_store.decode_all(keyring)
    told = Source(any_store, keyring).rekey("--reencrypt").stdout
    assert "8 brought under test-key, 2 have no data key" in told
    after = any_store.decode_all(keyring)
    for name, o in after.items():
        if not name.endswith("/"):
            was = before[name]
            assert o.data_key != was.data_key and o.file_id != was.file_id and o.content_id == was.content_id, name
            assert not set(o.salts) & set(was.salts) - {bytes(16)}
            assert o.plaintext() == was.plaintext()
    m = mount(any_store.source, **any_store.options())
    assert {n: read_file(m / n) for n in files} == files
    for name, st in stats.items():
        now = os.lstat(m / name)
        assert (now.st_mode, now.st_size, now.st_mtime_ns) == (st.st_mode, st.st_size, st.st_mtime_ns), name


def test_reencrypt_under_load(versity_store, mount, keyring):
    """Readers of a live mount, open handles of a large file included, see no change of the data keys."""
    names = ["f%02d" % i for i in range(20)]
    big = blob(3 * SEGMENT + 777, 6)
    m = mount(versity_store.source, **versity_store.options())
    for name in names:
        write_file(m / name, b"content of " + name.encode())
    write_file(m / "big", big)
    m.umount()
    before = data_keys(versity_store, keyring)
    source = Source(versity_store, keyring)
    m = mount(versity_store.source, **versity_store.options(ttl=1, cache_size="16M"))
    told = []
    written = under_load(m, names, big, lambda: told.extend(source.rekey("--reencrypt").stdout for _ in range(2)))
    m.umount()
    after = versity_store.decode_all(keyring)
    assert all(after[n].data_key != before[n] for n in [*names, "big"])
    assert after["big"].plaintext() == big
    assert not any("conflict" in name for name in after), told
    for name, data in written.items():
        assert after[name + ".own"].plaintext() == data


def test_migrate_under_load(versity_store, mount, keyring):
    """A bucket without encryption is encrypted beside a live mount that reads both; killed once and begun again."""
    names = ["f%02d" % i for i in range(40)]
    big = blob(2 * SEGMENT + 777, 7)
    m = mount(versity_store.source, **versity_store.options(enc="none", keyring=None))
    os.mkdir(m / "d", 0o750)
    for name in names:
        write_file(m / name, b"content of " + name.encode())
    write_file(m / "big", big)
    os.chmod(m / "big", 0o604)
    m.umount()
    versity_store.put("d/by-another", b"plain", Metadata={"color": "blue"})
    source = Source(versity_store, keyring)
    source.run("init")
    m = mount(versity_store.source, **versity_store.options(ttl=1, cache_size="16M", accept="sealed:plain"))

    def work():
        process = subprocess.Popen(source.command("rekey", "--migrate") + [source.source], env=source.env, stdout=subprocess.DEVNULL)
        wait_for(lambda: process.poll() is not None or versity_store.proxy.counts().get("PUT", 0) > 15, what="writes")
        process.kill()
        process.wait()
        told.append(source.rekey("--migrate").stdout)

    versity_store.proxy.reset()
    told = []
    written = under_load(m, names, big, work)
    assert "skipped" not in told[0], told
    m.umount()
    found = versity_store.decode_all(keyring)
    assert {n for n in found if not n.endswith(".own")} == {*names, "big", "d/", "d/by-another"}
    for name in names:
        assert found[name].plaintext() == b"content of " + name.encode()
    for name, data in written.items():
        assert found[name + ".own"].plaintext() == data
    assert found["big"].plaintext() == big and found["big"].attrs["mode"] & 0o777 == 0o604
    assert found["d/"].attrs["mode"] & 0o777 == 0o750
    m = mount(versity_store.source, **versity_store.options())
    assert read_file(m / "big") == big and read_file(m / "d/by-another") == b"plain"
    assert os.stat(m / "big").st_mode & 0o777 == 0o604


@pytest.mark.parametrize("before", ["cse-key", "none"])
def test_open_handle(versity_store, mount, keyring, before):
    """A file is open and has been read in part; its data key changes, or it gets one; the rest is read through the
    same handle, and a small file that is known already as well."""
    big, small = blob(3 * SEGMENT + 99, 8), b"small content"
    m = mount(versity_store.source, **versity_store.options(enc=before, accept=None, keyring=keyring.path if before != "none" else None))
    write_file(m / "big", big)
    write_file(m / "small", small)
    m.umount()
    source = Source(versity_store, keyring)
    if before == "none":
        source.run("init")
    m = mount(versity_store.source, **versity_store.options(accept="sealed:plain", ttl=3600))
    with open(m / "big", "rb", buffering=0) as f, open(m / "small", "rb", buffering=0) as g:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert os.pread(f.fileno(), 100, 0) == big[:100]
        os.stat(m / "small")
        told = source.rekey("--reencrypt", "--migrate").stdout
        assert "2 brought" in told or "2 encrypted that were not" in told, told
        for at in range(len(big) - 5000, 0, -(1 << 20) - 7):
            assert os.pread(f.fileno(), 5000, at) == big[at:at + 5000]
        assert os.pread(g.fileno(), 100, 0) == small
        assert os.pread(f.fileno(), len(big), 0)[:1 << 20] == big[:1 << 20]
    with open(m / "big", "r+b") as f:
        f.seek(SEGMENT + 3)
        f.write(b"changed after it")
    m.umount()
    found = versity_store.decode_all(keyring)
    assert found["big"].plaintext() == big[:SEGMENT + 3] + b"changed after it" + big[SEGMENT + 19:]
    assert found["small"].plaintext() == small


@pytest.mark.long
def test_rate(versity_store, mount, keyring):
    """10,000 objects at 20 ms of latency: at least 300 a second."""
    m = mount(versity_store.source, **versity_store.options(writeback=True))
    for i in range(100):
        os.mkdir(m / ("d%02d" % i))
        for k in range(100):
            write_file(m / ("d%02d/f%02d" % (i, k)), b"x")
    m.umount(seconds=600)
    rotate(keyring, "second")
    source = Source(versity_store, keyring)
    versity_store.proxy.latency(20)
    told = source.rekey(timeout=600).stdout
    versity_store.proxy.latency(0)
    seconds = float(re.search(r"; ([0-9.]+) s$", told, re.M).group(1))
    print(told)
    assert "10100 objects: 10000 brought under second" in told
    if not os.environ.get("S3CRYPTFS_SANITIZED"):
        assert 10000 / seconds >= 300, told


def test_mountpoint(versity_store, mount, keyring):
    """By its mountpoint: with the source and the options of the mount, and those that are given besides."""
    m = mount(versity_store.source, **versity_store.options())
    os.mkdir(m / "d")
    write_file(m / "d/f", b"f")
    write_file(m / "g", b"g")
    rotate(keyring, "second")
    result = run(CTL, "rekey", m.path, "d", env=dict(os.environ, **versity_store.env))
    assert "2 objects: 1 brought under second" in result.stdout, result.stdout
    result = run(CTL, "rekey", "-o", "timeout=50", "--to", "test-key", m.path, "d", env=dict(os.environ, **versity_store.env))
    assert "2 objects: 1 brought under test-key" in result.stdout, result.stdout
    result = run(CTL, "rekey", m.path, env=dict(os.environ, **versity_store.env))
    assert set(masters(versity_store, keyring).values()) == {"second"}
    assert read_file(m / "g") == b"g"
    m.umount()
    assert run(CTL, "rekey", m.path, check=False).returncode != 0


@pytest.mark.parametrize("to", ["sse-s3", "sse-kms", "dsse-kms", "none"])
def test_migrate_sse(moto_store, mount, to):
    """From each mode of the store to each: contents, attributes and times stay; a second run finds nothing to do."""
    kms = {"kms_key_id": "arn:aws:kms:us-east-1:111122223333:key/0a1b"}
    modes = {"none": {}, "sse-s3": {}, "sse-kms": kms, "dsse-kms": {}}
    expected = {"none": None, "sse-s3": "AES256", "sse-kms": "aws:kms", "dsse-kms": "aws:kms:dsse"}
    for mode, more in modes.items():
        m = mount(moto_store.source, **moto_store.options(enc=mode, keyring=None, **more))
        os.mkdir(m / (mode + "-d"), 0o750)
        write_file(m / (mode + "-d/f"), mode.encode() * 1000)
        write_file(m / (mode + "-empty"), b"")
        os.chmod(m / (mode + "-d/f"), 0o604)
        os.utime(m / (mode + "-d/f"), ns=(1, 1500000000123456789))
        m.umount()
    moto_store.put("by-another", b"plain", Metadata={"color": "blue"}, ContentType="text/x-odd")
    modified = moto_store.head("by-another")["LastModified"].timestamp()
    options = dict(moto_store.options(enc=to, **modes[to]))
    env = dict(os.environ, **options.pop("env"))
    words = ["-o", ",".join("%s=%s" % item for item in options.items())]
    live = mount(moto_store.source, **moto_store.options(enc=to, keyring=None, ttl=1, **modes[to]))
    refused = run(CTL, "rekey", *words, moto_store.source, check=False, env=env)
    assert refused.returncode == 1 and "there are no keys of ours" in refused.stderr
    told = run(CTL, "rekey", "--migrate", *words, moto_store.source, env=env).stdout
    assert re.search(r"^13 objects: [0-9]+ brought to enc=%s" % to, told, re.M) and "skipped" not in told, told
    again = run(CTL, "rekey", "--migrate", *words, moto_store.source, env=env).stdout
    assert "13 objects: 0 brought to enc=%s, 13 were already" % to in again, again
    for key in moto_store.keys():
        head = moto_store.head(key)
        if to != "none":
            assert head.get("ServerSideEncryption") == expected[to], (key, head)
        else:
            assert head.get("ServerSideEncryption") in (None, "AES256"), (key, head)
    assert moto_store.head("by-another")["Metadata"]["color"] == "blue"
    assert moto_store.head("by-another")["ContentType"] == "text/x-odd"
    for mode in modes:
        assert read_file(live / (mode + "-d/f")) == mode.encode() * 1000
        assert read_file(live / (mode + "-empty")) == b""
        st = os.stat(live / (mode + "-d/f"))
        assert (st.st_mode & 0o777, st.st_mtime_ns) == (0o604, 1500000000123456789)
        assert os.stat(live / (mode + "-d")).st_mode & 0o777 == 0o750
    assert int(os.stat(live / "by-another").st_mtime) == int(modified)


def test_migrations_refused(versity_store, file_store, mount, keyring):
    """What is not done is said in one line, and nothing is changed."""
    source = Source(versity_store, keyring, enc="sse-c")
    assert "no data keys of ours" in source.rekey("--reencrypt", expect=1).stderr
    m = mount(file_store.source, **file_store.options())
    write_file(m / "f", b"f")
    m.umount()
    assert "belongs to an encrypted volume" in Source(file_store, keyring, enc="none").rekey("--migrate", expect=1).stderr
