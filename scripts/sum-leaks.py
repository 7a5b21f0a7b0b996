#!/usr/bin/env python3
"""sum-leaks.py FILE FUNCTION: bytes and count of the NDJSON `leak` records whose stack holds FUNCTION ("*": all).

Prints "BYTES COUNT [BYTES COUNT of the others]". Fails unless the file is well-formed, lost nothing and is not cut to a top list.
Others may only come from the thread library: a thread's stack and its table of thread-local storage outlive pthread_join.
"""
import json
import sys

THREAD_LIBRARY = {"pthread_create", "allocate_stack", "allocate_dtv", "_dl_allocate_tls", "__pthread_create_2_1"}


def main(path, function):
    records = [json.loads(line) for line in open(path, encoding="utf-8")]
    assert records and records[0]["type"] == "meta", "the first record is not `meta`"
    errors = [record["data"] for record in records if record["type"] == "error"]
    assert not errors, errors

    matched = [0, 0]
    others = [0, 0]
    for record in (record["data"] for record in records if record["type"] == "leak"):
        names = {frame.get("sym", "").split("@")[0] for frame in record["stack"]}
        is_match = function == "*" or function in names
        assert is_match or names & THREAD_LIBRARY, f"an allocation of nobody's: {record}"
        total = matched if is_match else others
        total[0] += record["bytes"]
        total[1] += record["count"]
    print(*matched, f"{others[0]} bytes in {others[1]}" if others[1] else "")


if __name__ == "__main__":
    main(*sys.argv[1:])
