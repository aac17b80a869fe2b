# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
Requests that the store carries out when nobody waits for them any more: they had no reply in time, were asked for
again, and meanwhile a new file has taken the name of what they were to copy. On a store that ignores
x-amz-copy-source-if-match a COPY would take the bytes of that one.
"""
import concurrent.futures
import os
import time

import pytest

from harness import CTL, Site, blob, read_file, run, write_file

HELD = 10  # s, of a slow request, which is passed on then
SIZES = (0, 100, 200000, 3 << 20)


def retried(call):
    """Did it fail by time at first?"""
    failed = False
    for _ in range(10):
        try:
            call()
            return failed
        except TimeoutError:
            failed = True
    raise AssertionError("not done")


@pytest.mark.parametrize("mode", ["close", "writeback", "none", "names"])
def test_names_given_anew(rgw_store, mount, mode):
    """
    Each of several files is renamed, as itself, in its folder or as one of two names, by a request that comes late; then
    its old name is given to another file of the same size. All keep what they had.
    """
    options = {"close": {}, "writeback": {"writeback": True}, "none": {"enc": "none"}, "names": {"names": "encrypted"}}
    site = Site(mount, rgw_store, timeout=3, **options[mode])
    proxy = rgw_store.proxy
    # Each in a folder of its own: the kernel has one change of names at a time in each.
    first = {"f%d/old" % n: blob(n, 1) for n in SIZES} | {"d/old/x": blob(100, 3), "p/old": blob(100, 5)}
    second = {name: blob(len(data), 2) for name, data in first.items()}
    for name, data in first.items():
        os.makedirs(os.path.dirname(site / name))
        write_file(site / name, data)
    site.remount()
    for name in first:
        os.stat(site / name)
    # As if just made: two names, of which one goes before both are stored.
    write_file(site / "p/old", first["p/old"])
    run(CTL, "sync", site.path)
    os.link(site / "p/old", site / "p/new")
    calls = [(lambda n=n: os.rename(site / (n + "/old"), site / (n + "/new"))) for n in ["f%d" % n for n in SIZES] + ["d"]]
    calls.append(lambda: os.unlink(site / "p/old"))
    # Names that are encrypted tell nothing; else all that goes to a new name.
    proxy.fault("slow", method="PUT", times=len(calls), **({} if mode == "names" else {"match": "/new"}))
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        failed = list(pool.map(retried, calls))
    assert time.monotonic() - begun < HELD - 1, "the machine is too slow for this test"
    proxy.fault("off")
    assert sum(failed) >= len(calls) - 2, failed
    for name, data in second.items():
        os.makedirs(os.path.dirname(site / name), exist_ok=True)
        write_file(site / name, data)
    run(CTL, "sync", site.path)
    time.sleep(begun + HELD + 2 - time.monotonic())
    site.remount()
    for name, data in first.items():
        assert read_file(site / name.replace("old", "new")) == data, name
    for name, data in second.items():
        assert read_file(site / name) == data, name
