# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
What may be found after a crash: the log of crash_workload.c, replayed, against a tree.

An operation is one of
    ok       its return was recorded, without an error: acknowledged
    failed   it returned an error
    flight   no return was recorded, or the filesystem went away under it
and the last two are "maybe": done wholly or not at all. Threads have trees of their own, so each
is judged by itself. The last operation of a thread only can be in flight; what has failed is left
alone by the workload from then on.

Names (create, mkdir, rmdir, unlink, rename, link) and attributes (chmod, utimens): what is acknowledged is
there; a maybe gives the state before it or the state after it. With two exceptions:
  * Semantics.journal is False (commit=close: what the store does not have yet exists in memory alone):
    a file that was created and never committed may be missing; when it had been renamed over another
    file, that one may be there instead. Attributes of a file with uncommitted changes go with its commit.
  * Semantics.rename_atomic is False: a maybe rename may leave both names, of a folder for each
    object below it by itself; nothing may be under neither name.

Names that link has made are names of one file: they have one number and one content.

Contents: each write, truncate and O_TRUNC makes a version, a committed version is the one at an
acknowledged close or fsync of the file, or a truncate by path. After a crash the file is, byte for byte,
one of these:
  * the last committed version;
  * versions = "commits": the version at the beginning of a commit that was begun later and is a
    maybe, where a rename of the file, or of a folder above it, counts as one (it brings open files
    into the store);
  * versions = "writes": any later version, also without a commit. Versions differ by whole write calls:
    a mixture of two, or half of a write, is never right. The same after a commit that failed and
    whose content is kept and sent again later, whenever that is.
  * of a file that link has given a second name any later version as well: it is stored under both
    when it is time, which brings an open file into the store;
  * versions = "last" (a live mount, no crash): the present one, and with or without a maybe.
The bytes that a write asked for and that its return did not acknowledge (an error, or a smaller count) are
not judged, nor is the size between that.

A mode is the one of the last durable chmod (or the creation), or of a later one. The mtime is
compared when utimens was the last change of the file: exactly, once the file is stored. Of folders
mtimes are not compared.

Power cuts (cut=True, for a local journal): what a thread did is durable up to a sync point: the
acknowledged fsync of anything, or close of a changed file that has a name, of any thread, that began after
the operation's acknowledgement. The tree is that after the first k operations, for one k between
the sync point and the end: order holds, nothing is skipped. Without cut k is the end.

Everything beyond that is a finding: a missing or an unexpected name, an unreadable or wrong content.
"""
import dataclasses
import errno
import functools
import hashlib
import os
import stat
import struct

TABLE_LEN = 1048583
M64 = (1 << 64) - 1
GONE = {errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.ENXIO}


@dataclasses.dataclass(frozen=True)
class Semantics:
    name: str
    journal: bool
    rename_atomic: bool
    versions: str
    cut: bool = False


CLOSE = Semantics("commit=close", journal=False, rename_atomic=False, versions="commits")
WRITEBACK_KILL = Semantics("writeback, kill", journal=True, rename_atomic=True, versions="writes")
WRITEBACK_CUT = dataclasses.replace(WRITEBACK_KILL, name="writeback, power cut", cut=True)
LIVE = Semantics("live", journal=True, rename_atomic=False, versions="last")


def mix(state):
    """splitmix64: (new state, value)."""
    state = (state + 0x9E3779B97F4A7C15) & M64
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return state, z ^ (z >> 31)


@functools.lru_cache(1)
def table():
    """Twice the table of the workload, so that each piece of it is one slice."""
    state, words = 1, []
    for _ in range(TABLE_LEN // 8 + 1):
        state, value = mix(state)
        words.append(value)
    once = struct.pack("<%dQ" % len(words), *words)[:TABLE_LEN]
    return once + once


def written(seed, thread, seq, offset, length):
    """The bytes of one write."""
    shift = mix((seed * 0x100000001B3 + (thread << 40) + seq) & M64)[1] % TABLE_LEN
    at = (shift + offset) % TABLE_LEN
    return table()[at:at + length]


@dataclasses.dataclass
class Op:
    thread: int
    seq: int
    kind: str
    args: list
    begun: int  # number of the line in the log
    ended: int = -1
    result: int = 0
    error: int = 0

    @property
    def state(self):
        if self.ended < 0 or self.error in GONE:
            return "flight"
        return "failed" if self.error else "ok"

    def __str__(self):
        end = {"ok": "ok", "flight": "in flight"}.get(self.state) or errno.errorcode.get(self.error, str(self.error))
        return "t%d #%d %s %s: %s" % (self.thread, self.seq, self.kind, " ".join(self.args), end)


class Log:
    """A log of the workload: seed, and the operations of each thread in order."""

    def __init__(self, path):
        self.seed, self.threads, self.path = 0, {}, path
        with open(path) as f:
            for number, line in enumerate(f):
                if not line.endswith("\n"):
                    break
                words = line.split()
                if words[0] == "S":
                    self.seed = int(words[1])
                elif words[0] == "I":
                    op = Op(int(words[1]), int(words[2]), words[3], words[4:], number)
                    self.threads.setdefault(op.thread, []).append(op)
                elif words[0] == "A":
                    op = self.threads[int(words[1])][-1]
                    assert op.seq == int(words[2])
                    op.ended, op.result, op.error = number, int(words[3]), int(words[4])

    def ops(self):
        return [op for ops in self.threads.values() for op in ops]

    def acknowledged(self):
        return sum(op.state == "ok" for op in self.ops())

    def errors(self):
        """Operations that failed while the filesystem was there."""
        return [op for op in self.ops() if op.state == "failed"]

    def errors_before_the_end(self):
        """Those after which something still went well: with the daemon gone, the kernel may say EIO as well."""
        out = []
        for ops in self.threads.values():
            last = max((n for n, op in enumerate(ops) if op.state == "ok"), default=-1)
            out += [op for op in ops[:last] if op.state == "failed"]
        return out

    def about(self, path, count=12):
        """The last operations that name a path, or the files that had it, for a person to read."""
        serials = {(op.thread, op.args[1]) for op in self.ops() if op.kind in ("create", "open") and op.args[0] == path}
        found = [op for op in self.ops() if any(a == path or path.startswith(a + "/") for a in op.args)
                 or (op.kind not in ("create", "open") and (op.thread, op.args[0]) in serials)]
        return [str(op) for op in found[-count:]]


@dataclasses.dataclass
class Found:
    kind: str  # f, d, or the text of an error
    mode: int = 0
    mtime: int = 0
    size: int = 0
    data: bytes = b""
    ino: int = 0

    def digest(self):
        return self.kind, self.mode, self.mtime if self.kind == "f" else 0, self.size, hashlib.sha256(self.data).hexdigest()


def scan(root):
    """{relative path: Found} of everything below root, read wholly."""
    found = {}

    def folder(path, relative):
        with os.scandir(path) as entries:
            names = sorted(e.name for e in entries)
        for name in names:
            at, key = os.path.join(path, name), relative + name
            try:
                st = os.lstat(at)
                if stat.S_ISDIR(st.st_mode):
                    found[key] = Found("d", stat.S_IMODE(st.st_mode), st.st_mtime_ns)
                    folder(at, key + "/")
                elif stat.S_ISREG(st.st_mode):
                    with open(at, "rb") as f:
                        data = f.read()
                    found[key] = Found("f", stat.S_IMODE(st.st_mode), st.st_mtime_ns, st.st_size, data, st.st_ino)
                else:
                    found[key] = Found("neither file nor folder")
            except OSError as e:
                found[key] = Found(errno.errorcode.get(e.errno, str(e.errno)))

    folder(root, "")
    return found


def digests(found):
    """What is left of a scan to compare with a later one."""
    return {path: f.digest() for path, f in found.items()}


class Node:
    """A file or folder of the model."""

    def __init__(self, kind, ident, path, mode, created):
        self.kind, self.ident, self.paths, self.created = kind, ident, {path}, created
        self.changes = []  # versions: i is after the first i changes
        self.good = 0  # the present version, as far as operations are acknowledged
        self.low = 0  # the last one committed
        self.points = set()  # versions that a maybe commit may have brought in
        self.linked = False  # it has or had a second name
        self.loose = False  # a commit has failed: what is there is sent whenever
        self.modes, self.mode_low = [mode], 0
        self.times, self.time_low = [None], 0  # None: any

    def change(self, op, *what):
        self.changes.append((op.thread, op.seq) + what)
        self.times.append(None)
        if op.state == "ok":
            self.good = len(self.changes)

    def dirty(self):
        return not self.created or self.low != len(self.changes) or self.loose

    def attempt(self):
        self.points |= {self.good, len(self.changes)}

    def commit(self):
        self.created, self.loose, self.low = True, False, self.good
        self.points = {len(self.changes)}
        self.mode_low, self.time_low = len(self.modes) - 1, len(self.times) - 1

    def allowed(self, sem):
        if sem.versions == "last":
            return set(range(self.good, len(self.changes) + 1))
        if sem.versions == "writes" or self.loose or self.linked:
            return set(range(self.low, len(self.changes) + 1))
        return {v for v in self.points if v >= self.low} | ({self.low} if self.created else set())


class Model:
    """
    The tree of one thread. entries: path -> what may be there, the present thing first, None for
    nothing. clauses: for a maybe, the list of the ways it may have gone, each {path: what may be there}.
    """

    def __init__(self, sem):
        self.sem, self.entries, self.clauses, self.open = sem, {}, [], {}

    def at(self, path):
        return self.entries.get(path, [None])

    def put(self, path, choices):
        if choices == [None]:
            self.entries.pop(path, None)
        else:
            self.entries[path] = choices

    def change(self, op, after):
        """after: {path: what is there once op is done}. What was there before is an end of its own when op is maybe."""
        if op.state == "ok":
            for path, choices in after.items():
                self.put(path, choices)
            return
        self.clauses.append([{path: self.at(path) for path in after}, after])
        for path in after:
            self.entries.pop(path, None)

    def present(self, path):
        """What a path that the workload uses names."""
        node = self.at(path)[0]
        assert node, "the log uses %s, which the model does not have" % path
        return node

    def apply(self, op):
        getattr(self, "do_" + op.kind)(op, *op.args)

    def do_mkdir(self, op, path, mode):
        self.change(op, {path: [Node("d", None, path, int(mode, 8), True)]})

    def do_rmdir(self, op, path):
        self.change(op, {path: [None]})

    def do_create(self, op, path, serial, mode):
        node = Node("f", (op.thread, int(serial)), path, int(mode, 8), self.sem.journal)
        self.open[serial] = node
        self.change(op, {path: [node] + ([] if self.sem.journal else self.at(path))})

    def do_open(self, op, path, serial, cut):
        node = self.present(path)
        if op.state == "ok":
            self.open[serial] = node
        if cut == "1":
            node.change(op, "truncate", 0)

    def do_write(self, op, serial, offset, length):
        node, offset, length, count = self.open[serial], int(offset), int(length), op.result if op.state == "ok" else 0
        if op.state != "failed":
            node.change(op, "write", offset, count or length, False)
        if op.state == "failed" or 0 < count < length:
            node.change(dataclasses.replace(op, error=errno.EIO), "write", offset + count, length - count, True)

    def do_ftruncate(self, op, serial, size):
        self.open[serial].change(op, "truncate", int(size))

    def do_truncate(self, op, path, size):
        node = self.present(path)
        node.change(op, "truncate", int(size))
        self.commit(op, node)

    def commit(self, op, node):
        if not node.paths:
            return  # without a name it has no place in the store; what it was there may still show
        if op.state == "ok":
            node.commit()
            for path in node.paths & self.entries.keys():  # and not in a clause
                self.entries[path] = [node]
            return
        node.attempt()
        node.loose |= op.state == "failed"

    def do_fsync(self, op, serial):
        self.commit(op, self.open[serial])

    def do_close(self, op, serial):
        self.commit(op, self.open[serial])

    def do_fsyncdir(self, op, path):
        pass

    def do_unlink(self, op, path):
        node = self.present(path)
        self.change(op, {path: [None]})
        if op.state == "ok":
            node.paths.discard(path)

    def do_link(self, op, old, new):
        node = self.present(old)
        node.linked = True
        self.change(op, {new: [node] + ([] if node.created else self.at(new))})
        if op.state == "ok":
            node.paths.add(new)

    def do_rename(self, op, old, new):
        if self.present(old).kind == "d":
            self.rename_folder(op, old, new)
            return
        node, target = self.present(old), self.at(new)[0]
        if node.dirty():
            node.attempt()
        # A file that the store never had leaves what it had covered, and covers what was at the new name.
        left = [None] + [n for n in self.at(old)[1:] if n]
        after = {old: left, new: [node] + ([] if node.created else self.at(new))}
        both = {old: self.at(old), new: after[new]}
        self.change(op, after)
        if op.state == "ok":
            if target and target is not node:
                target.paths.discard(new)
            node.paths.discard(old)
            node.paths.add(new)
        elif not self.sem.rename_atomic:
            self.clauses[-1].append(both)

    def rename_folder(self, op, old, new):
        moves = {path: new + path[len(old):] for path in self.entries if path == old or path.startswith(old + "/")}
        before = {path: self.at(path) for path in moves}
        for choices in before.values():
            if choices[0] and choices[0].kind == "f" and choices[0].dirty():
                choices[0].attempt()
        if op.state == "ok":
            for path in moves:
                del self.entries[path]
            for path, to in moves.items():
                self.entries[to] = before[path]
                if before[path][0]:
                    before[path][0].paths.discard(path)
                    before[path][0].paths.add(to)
            return
        if self.sem.rename_atomic:
            self.change(op, dict({path: [None] for path in moves}, **{to: before[path] for path, to in moves.items()}))
            return
        for path, to in moves.items():
            ways = [(before[path], [None]), (before[path], before[path]), ([None], before[path])]
            self.clauses.append([{path: a, to: b} for a, b in ways])
            del self.entries[path]
            if before[path][0] and before[path][0].kind == "d":
                before[path][0].modes.append(None)  # without its marker a folder has any mode

    def do_chmod(self, op, path, mode):
        node = self.present(path)
        node.modes.append(int(mode, 8))
        if op.state == "failed":
            node.modes.append(None)  # done or not, and no later commit tells which
        if op.state == "ok" and node.created and (self.sem.journal or node.kind == "d" or not node.dirty()):
            node.mode_low = len(node.modes) - 1

    def do_utimens(self, op, path, sec, nsec):
        node = self.present(path)
        node.times.append(int(sec) * 10**9 + int(nsec))
        if op.state == "failed":
            node.times.append(None)
        if op.state == "ok" and node.created and not node.dirty():
            node.time_low = len(node.times) - 1


class Checker:
    """Judges what was found by one log."""

    def __init__(self, log, found, sem):
        self.log, self.found, self.sem = log, found, sem
        self.changes = {}  # of all files, whatever the prefix looked at
        self.same = {}  # (file, path): versions of the file that path holds

    def problems(self):
        known = {"t%d" % thread for thread in self.log.threads}
        out = ["%s: not of the workload" % path for path in self.found if path.split("/")[0] not in known]
        for thread, ops in sorted(self.log.threads.items()):
            out += self.thread(thread, ops)
        return out

    def thread(self, thread, ops):
        found = {path: f for path, f in self.found.items() if path.split("/")[0] == "t%d" % thread}
        full = self.replay(ops)
        for node in self.nodes:
            self.changes[node.ident] = node.changes
        best = self.compare(full, found)
        if not best or not self.sem.cut:
            return best
        last = len(ops)
        for k in range(len(ops) - 1, self.sync_point(ops) - 1, -1):
            problems = self.compare(self.replay(ops[:k]), found)
            if not problems:
                return []
            if len(problems) < len(best):
                best, last = problems, k
        return ["nearest to the state after %d of %d operations (durable: %d):" % (last, len(ops), self.sync_point(ops))] + best

    def replay(self, ops):
        model = Model(self.sem)
        for op in ops:
            model.apply(op)
        self.nodes = [n for n in self.all_nodes(model) if n.kind == "f"]
        return model

    @staticmethod
    def all_nodes(model):
        seen = {}
        for choices in list(model.entries.values()) + [c for clause in model.clauses for way in clause for c in way.values()]:
            seen.update((id(n), n) for n in choices if n)
        return seen.values()

    @functools.cached_property
    def syncs(self):
        """Acknowledged syncs: {(thread, seq): line of the log at which it began}."""
        begun = {}
        for ops in self.log.threads.values():
            dirty, model = set(), Model(self.sem)
            for op in ops:
                # What has no name any more is nothing to be kept, nor is its close.
                named = op.kind != "close" or bool(model.open[op.args[0]].paths)
                model.apply(op)
                if op.kind in ("write", "ftruncate", "create"):
                    dirty.add(op.args[1 if op.kind == "create" else 0])
                elif op.kind == "open" and op.args[2] == "1":
                    dirty.add(op.args[1])
                elif op.state == "ok" and op.kind in ("fsync", "fsyncdir"):
                    begun[op.thread, op.seq] = op.begun
                elif op.state == "ok" and op.kind == "close" and op.args[0] in dirty and named:
                    begun[op.thread, op.seq] = op.begun
                if op.kind in ("close", "fsync") and op.state == "ok":
                    dirty.discard(op.args[0])
        return begun

    def sync_point(self, ops):
        """How many operations of a thread are durable after a power cut."""
        last = max(self.syncs.values(), default=-1)
        point = sum(0 <= op.ended < last for op in ops)
        # A sync of this thread's own stands for itself as well: for its content.
        return max([point] + [i + 1 for i, op in enumerate(ops) if (op.thread, op.seq) in self.syncs])

    def compare(self, model, found):
        out, known = [], set()
        for clause in model.clauses:
            known.update(path for way in clause for path in way)
            ways = [self.way(way, found) for way in clause]
            if all(ways):
                out.append("neither way of a maybe: " + " / ".join("; ".join(w) for w in ways))
        for path, choices in sorted(model.entries.items()):
            out += self.way({path: choices}, found)
            out += self.one_file(path, choices, model, found)
        out += ["%s: unexpected" % path for path in sorted(found) if path not in known and path not in model.entries]
        return out

    @staticmethod
    def one_file(path, choices, model, found):
        """Of the names of a file that are certain: is path one of the same file as the first?"""
        node = choices[0]
        if len(choices) > 1 or not node or node.kind != "f":
            return []
        first = found.get(min(p for p in node.paths | {path} if model.entries.get(p) == [node]))
        if not first or path not in found or (first.ino, first.data) == (found[path].ino, found[path].data):
            return []
        return ["%s: another file than its other names" % path]

    def way(self, way, found):
        """What speaks against one way."""
        out = []
        for path, choices in way.items():
            there = found.get(path)
            if there is None:
                if None not in choices:
                    out.append("%s: missing" % path)
                continue
            reasons = [self.differs(path, there, node) if node else "there" for node in choices]
            if all(reasons):
                out.append("%s: %s" % (path, ", or ".join(reasons)))
        return out

    def differs(self, path, there, node):
        if there.kind != node.kind:
            return "is %s, not %s" % (there.kind, node.kind)
        modes = node.modes[node.mode_low:]
        if there.mode not in modes and None not in modes:
            return "mode %o, not %s" % (there.mode, " or ".join("%o" % m for m in modes))
        if node.kind == "d":
            return ""
        allowed = node.allowed(self.sem)
        same = self.versions(path, there, node)
        if not allowed & same:
            return "content of %d bytes is %s, allowed %s" % (
                there.size, "version %s" % sorted(same) if same else self.nearest(there, node, allowed), sorted(allowed)[-8:])
        times = node.times[node.time_low:]
        # Judged where the content is the present one: an older one has an older time.
        if there.mtime not in times and None not in times:
            return "mtime %d, not %s" % (there.mtime, times)
        return ""

    def build(self, node, upto):
        """The content of each version up to one, in order: one bytearray that changes."""
        data = bytearray()
        yield 0, data
        for n, (thread, seq, kind, *args) in enumerate(self.changes.get(node.ident, node.changes)[:upto], 1):
            if kind == "truncate":
                size = args[0]
                if size < len(data):
                    del data[size:]
                else:
                    data.extend(bytes(size - len(data)))
            else:
                offset, length, _ = args
                if offset > len(data):
                    data.extend(bytes(offset - len(data)))
                data[offset:offset + length] = written(self.log.seed, thread, seq, offset, length)
            yield n, data

    def versions(self, path, there, node):
        """Which versions of a file the found content is."""
        key = node.ident, path
        if key not in self.same:
            changes = self.changes.get(node.ident, node.changes)
            same = set()
            if there.size == len(there.data):
                for n, data in self.build(node, len(changes)):
                    failed = n < len(changes) and changes[n][2] == "write" and changes[n][-1]
                    if data == there.data or failed and self.in_part(data, there.data, changes[n]):
                        same.add(n)
            self.same[key] = same
        return self.same[key]

    def in_part(self, before, found, change):
        """Is it the content before a write that failed, with anything where it would have written?"""
        _, _, _, offset, length, _ = change
        end = offset + length
        return (len(before) <= len(found) <= max(len(before), end) and found[end:] == before[end:]
                and found[:offset] == (before[:offset] + bytes(max(0, offset - len(before))))[:len(found)])

    def nearest(self, there, node, allowed):
        if there.size != len(there.data):
            return "read as %d bytes" % len(there.data)
        texts, data = [], b""
        for n, data in self.build(node, max(allowed, default=0)):
            if n in allowed and len(data) == there.size:
                wrong = [i for i in range(len(data)) if data[i] != there.data[i]]
                zeros = sum(there.data[i] == 0 for i in wrong)
                texts.append("not version %d: %d bytes from %d to %d, %d of them zero" % (n, len(wrong), wrong[0], wrong[-1], zeros))
        text = "; ".join(texts) or "no version, the last of %d bytes" % len(data)
        return text


def check(log, found, sem):
    """What is wrong with what was found: a list of sentences, empty when all is right."""
    problems = Checker(log, found, sem).problems()
    return [p + "".join("\n    " + line for line in log.about(p.split(":")[0])) for p in problems]
