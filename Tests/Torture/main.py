#!/usr/bin/env python3
"""torture [--quick] [--only REGEX] [--list] [--table FILE]: attaching and detaching harms nobody."""
import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import cases_own
import cases_real
from harness import ROOT, Book, Failed, Skipped

SOURCES = f"{ROOT}/Tests/Torture"
WARNINGS = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]


class Context:
    def __init__(self, work, build, is_quick, factor):
        self.work = work
        self.build = build
        self.is_quick = is_quick
        self.factor = factor

    def size(self, full, quick):
        return quick if self.is_quick else max(quick, round(full * self.factor))

    @staticmethod
    def say(text):
        print(f"        {text}", flush=True)


def compile_targets(build):
    os.makedirs(build, exist_ok=True)
    wanted = {
        "hammer": ["cc", *WARNINGS, f"{SOURCES}/hammer.c"],
        "hammer-asan": ["cc", *WARNINGS, "-fsanitize=address", f"{SOURCES}/hammer.c"],
        "storms": ["cc", *WARNINGS, f"{SOURCES}/storms.c"],
        "inside": ["cc", *WARNINGS, f"{SOURCES}/inside.c"],
        "throws": ["c++", *WARNINGS, f"{SOURCES}/throws.cc"],
        "plugin.so": ["cc", *WARNINGS, "-shared", "-fPIC", f"{SOURCES}/plugin.c"],
        "interposer.so": ["cc", *WARNINGS, "-fno-builtin", "-shared", "-fPIC", f"{SOURCES}/interposer.c"],
    }
    for name, command in wanted.items():
        product = f"{build}/{name}"
        if not os.path.exists(product) or os.path.getmtime(product) < os.path.getmtime(command[-1]):
            subprocess.run([*command, "-o", product], check=True)


def note(kind, text):
    """For the script that counts the results of all checks."""
    if path := os.environ.get("UBPF_RESULTS"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{kind}\t{text}\n")


def run(name, case, context, book):
    started = time.monotonic()
    try:
        case(context, book)
        row = book.rows[-1]
        seconds = time.monotonic() - started
        print(f"  ok    torture: {name}: {row.survived:,} of {row.tried:,}, {row.off} off, {seconds:.0f} s; {row.note}", flush=True)
        note("pass", f"torture: {name}")
    except Skipped as reason:
        book.skips.append(name)
        print(f"  SKIP  torture: {name}: {reason}", flush=True)
        note("skip", f"torture: {name}: {reason}")
    except (Failed, OSError, subprocess.SubprocessError, LookupError, ValueError) as failure:
        failure = failure if isinstance(failure, Failed) else f"{type(failure).__name__}: {failure}"
        book.failures.append(name)
        print(f"  FAIL  torture: {name}: {failure}", flush=True)
        note("fail", f"torture: {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, as in make test")
    parser.add_argument("--factor", type=float, default=1.0, help="full numbers times this")
    parser.add_argument("--only", default="", help="cases whose names match")
    parser.add_argument("--list", action="store_true", help="the cases' names")
    parser.add_argument("--table", help="write the table to this file too")
    options = parser.parse_args()
    cases = [("planted", cases_own.planted), *cases_own.cases(), *cases_real.cases()]
    if options.list:
        print("\n".join(name for name, _ in cases))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    book = Book()
    with tempfile.TemporaryDirectory() as work:
        # Under the temporary directory, as nobody may not write to the tree.
        build = f"{work}/build"
        compile_targets(build)
        context = Context(work, build, options.quick, options.factor)
        for name, case in cases:
            if re.search(options.only, name) and not (options.quick and name in cases_real.FULL_ONLY):
                run(name, case, context, book)
    if not options.quick:
        print(book.table())
    if options.table:
        with open(options.table, "w", encoding="utf-8") as file:
            file.write(book.table() + "\n")
    return 1 if book.failures else 0


if __name__ == "__main__":
    sys.exit(main())
