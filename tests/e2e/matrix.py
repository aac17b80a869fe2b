# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""
The table of modes, servers and operations that test_matrix.py fills: a file for each row, since several processes make
them, and the whole at the end of the run, on the terminal and in BUILD/matrix/matrix.txt.
"""
import glob
import json
import os
import uuid

from harness import BUILD

FOLDER = os.path.join(BUILD, "matrix")
RUN = "S3CRYPTFS_TEST_RUN"


def begin():
    """In the first process: the others inherit the name of the run, which tells its rows from older ones."""
    os.environ[RUN] = uuid.uuid4().hex


def write_row(mode, server, order, **row):
    """row: cells={operation: word} and bucket=what a look into it says; or refused=why; or skipped=why."""
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "%s-%s.json" % (mode, server)), "w") as f:
        json.dump(dict(row, mode=mode, server=server, order=order, run=os.environ[RUN]), f)


def _rows():
    for path in glob.glob(os.path.join(FOLDER, "*.json")):
        with open(path) as f:
            row = json.load(f)
        if row["run"] == os.environ[RUN]:
            yield row


def lines():
    """The table of this run; none when it made no row."""
    rows = sorted(_rows(), key=lambda row: row["order"])
    operations = next((list(row["cells"]) for row in rows if "cells" in row), [])
    titles = ["mode", "server"] + operations + ["in the bucket"]
    table = []
    for row in rows:
        if "cells" in row:
            rest = [row["cells"].get(o, "-") for o in operations] + [row["bucket"]]
        else:
            rest = [next("%s: %s" % (what, row[what]) for what in ("refused", "skipped") if what in row)]
        table.append([row["mode"], row["server"]] + rest)
    if not table:
        return []
    widths = [max(len(r[i]) for r in table + [titles] if len(r) == len(titles) or i < 2) for i in range(len(titles))]
    text = ["  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in [titles] + table]
    with open(os.path.join(FOLDER, "matrix.txt"), "w") as f:
        f.write("\n".join(text) + "\n")
    return text
