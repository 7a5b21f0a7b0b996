#!/usr/bin/env python3
"""CO-RE against libbpf: what both make of each relocation of objects, with the types of several kernels.

    core.py LIBBPF UBPFRUN KERNEL=TYPES... -- OBJECT...

LIBBPF is core.c, compiled; TYPES is a file as /sys/kernel/btf/vmlinux. Prints a line a kernel; fails where an answer differs.
"""
import json
import re
import subprocess
import sys

LINE = re.compile(r"libbpf: prog '([^']*)': relo #\d+: (patched|substituting) insn #(\d+) (.*)")


def libbpf(program, path, types):
    """{(function, slot): value, None for poison}"""
    log = subprocess.run([program, path, types], capture_output=True, text=True, check=True).stdout
    found = {}
    for function, what, slot, rest in LINE.findall(log):
        if what == "substituting":
            found[function, int(slot)] = None
        elif "mem_sz" not in rest:
            found[function, int(slot)] = int(rest.split()[-1])
    return found, log


def ours(program, path, types):
    text = subprocess.run([program, "inspect", "--core", "-j", "--btf", types, path], capture_output=True, text=True)
    if text.returncode:
        raise SystemExit(f"core.py: {path} with {types}: {text.stderr}")
    return {
        (entry["function"], entry["insn"]): int(entry["value"]) if "value" in entry else None
        for entry in json.loads(text.stdout)["core_relocations"]
    }


def same(ours, theirs, width=1 << 32):
    if ours is None or theirs is None:
        return ours is theirs
    # libbpf prints the immediates of 32 bits with their sign.
    return ours == theirs or ours % width == theirs % width and abs(theirs) < width


def main():
    libbpf_program, ubpfrun, *rest = sys.argv[1:]
    kernels, objects = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    failed = False
    for kernel, types in (word.split("=", 1) for word in kernels):
        equal = total = poisoned = 0
        unread = []
        for path in objects:
            mine = ours(ubpfrun, path, types)
            if not mine:
                continue
            theirs, log = libbpf(libbpf_program, path, types)
            if not theirs:
                unread.append(path.rsplit("/", 1)[-1] + ": " + (log.strip().splitlines() or ["no log"])[-1])
                continue
            # Of a poisoned instruction of two slots libbpf names both.
            for function, slot in theirs.keys() - mine.keys():
                if theirs[function, slot] is None and theirs.get((function, slot - 1), 0) is None:
                    del theirs[function, slot]
            total += len(mine)
            for place in sorted(mine.keys() | theirs.keys()):
                if place in mine and place in theirs and same(mine[place], theirs[place]):
                    equal += 1
                    poisoned += mine[place] is None
                else:
                    failed = True
                    print(f"  {path}: {place[0]}, insn {place[1]}: {mine.get(place, 'nothing')}, libbpf {theirs.get(place, 'nothing')}")
        print(f"  CO-RE on {kernel}: {equal} of {total} relocations as by libbpf, {poisoned} of them poisoned")
        for line in unread:
            print(f"  not compared, libbpf does not relocate it: {line}")
        failed = failed or total == 0
    sys.exit(failed)


main()
