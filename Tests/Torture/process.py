"""What can be seen of a process from outside, and what differs between two looks at it."""
import collections
import os
import re
import time

LIBRARY = "libubpf"
# libc installs handlers for its own two signals (32, 33) with the first thread that it creates.
LIBC_SIGNALS = 0b11 << 31
MAP_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ \d+ *(.*)")

Mapping = collections.namedtuple("Mapping", "start end perms offset path")


def read_text(path):
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def mappings(pid):
    found = []
    for line in read_text(f"/proc/{pid}/maps").splitlines():
        start, end, perms, offset, path = MAP_LINE.fullmatch(line).groups()
        found.append(Mapping(int(start, 16), int(end, 16), perms, int(offset, 16), path))
    return found


def status(pid):
    return dict(line.split(":\t", 1) for line in read_text(f"/proc/{pid}/status").splitlines() if ":\t" in line)


def threads(pid):
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")))


def thread_names(pid):
    """Names and how often; jemalloc's own background threads left out: it starts them as more threads allocate."""
    names = collections.Counter()
    for name in os.listdir(f"/proc/{pid}/task"):
        try:
            names[read_text(f"/proc/{pid}/task/{name}/comm").strip()] += 1
        except (FileNotFoundError, ProcessLookupError):
            pass
    del names["jemalloc_bg_thd"]
    return names


def descriptors(pid):
    """Numbers and what they lead to; anonymous things without their inode numbers."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = re.sub(r"\[\d+\]", "", os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            pass
    return found


def bytes_of(memory, pid, mapping, count):
    """The bytes of one mapping; None of one that is gone: a program that closes and opens a library all the time
    has it away in one moment and back at the same place in the next, so a read that fails is tried again."""
    for _ in range(100):
        try:
            memory.seek(mapping.start)
            actual = memory.read(count)
            if len(actual) == count:
                return actual
        except OSError:
            pass
        if not any((m.start, m.path) == (mapping.start, mapping.path) for m in mappings(pid)):
            return None
        time.sleep(0.001)
    raise OSError(f"{mapping.path} of process {pid} can not be read at {mapping.start:#x}, and is mapped there")


def changed_text(pid):
    """Bytes of executable mappings of files that differ from the file: {path: [(offset, memory, file)]}, our library left out."""
    changes = {}
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for mapping in mappings(pid):
            if "x" not in mapping.perms or not mapping.path.startswith("/") or LIBRARY in mapping.path:
                continue
            path = f"/proc/{pid}/root{mapping.path}"
            if mapping.path.endswith(" (deleted)") or not os.path.isfile(path):
                continue
            with open(path, "rb") as file:
                file.seek(mapping.offset)
                original = file.read(mapping.end - mapping.start)
            actual = bytes_of(memory, pid, mapping, len(original))
            if actual is None:
                continue
            if actual != original:
                pairs = enumerate(zip(actual, original))
                changes[mapping.path] = [(mapping.offset + at, a, b) for at, (a, b) in pairs if a != b]
    return changes


def has_ended(pid):
    try:
        return read_text(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Look:
    """One look at a process."""

    def __init__(self, pid):
        maps = mappings(pid)
        facts = status(pid)
        self.pid = pid
        self.maps = len(maps)
        self.files = collections.Counter(
            (m.path, m.perms, m.end - m.start) for m in maps if m.path.startswith("/") and LIBRARY not in m.path
        )
        self.library = sum(1 for m in maps if LIBRARY in m.path)
        self.code_pages = sum((m.end - m.start) // 4096 for m in maps if "x" in m.perms and not m.path)
        self.writable_code = [m for m in maps if "w" in m.perms and "x" in m.perms]
        self.threads = threads(pid)
        self.names = thread_names(pid)
        self.descriptors = descriptors(pid)
        self.caught = int(facts["SigCgt"], 16)
        self.ignored = int(facts["SigIgn"], 16)
        self.resident = int(facts.get("VmRSS", "0 kB").split()[0])
        self.tracer = int(facts["TracerPid"])
        self.text = changed_text(pid)

    def line(self):
        changed = sum(map(len, self.text.values()))
        return (
            f"maps {self.maps}, threads {len(self.threads)}, descriptors {len(self.descriptors)}, "
            f"handlers {self.caught:016x}, changed text bytes {changed}, resident {self.resident} kB"
        )


def differences(before, after, moving=()):
    """What `after` has that `before` had not; `moving` names what the program itself changes all the time."""
    found = []
    if after.text != before.text:
        new = {path: changes[:4] for path, changes in after.text.items() if changes != before.text.get(path)}
        found.append(f"text: {new or 'changed back'}")
    if "threads" not in moving and after.names != before.names:
        found.append(f"threads: {dict(before.names)} before, {dict(after.names)} after")
    if "descriptors" not in moving and after.descriptors != before.descriptors:
        found.append(f"descriptors: {sorted(before.descriptors.items() ^ after.descriptors.items())}")
    if (after.caught ^ before.caught) & ~LIBC_SIGNALS:
        found.append(f"handlers: {before.caught:x} before, {after.caught:x} after")
    # system(3) ignores SIGINT and SIGQUIT while its child runs.
    system = 0b110 if "system" in moving else 0
    if (after.ignored ^ before.ignored) & ~LIBC_SIGNALS & ~system:
        found.append(f"ignored signals: {before.ignored:x} before, {after.ignored:x} after")
    if "files" not in moving and after.files != before.files:
        found.append(f"mapped files: {sorted(((before.files - after.files) + (after.files - before.files)).items())[:6]}")
    if len(after.writable_code) > len(before.writable_code):
        found.append(f"writable and executable: {after.writable_code}")
    if after.tracer:
        found.append(f"still traced by {after.tracer}")
    return found


def settled(before, moving=(), seconds=3.0):
    """Differences once nothing more changes: the last thread of ours ends a moment after the controller."""
    deadline = time.monotonic() + seconds
    while True:
        after = Look(before.pid)
        found = differences(before, after, moving)
        if not found or time.monotonic() > deadline:
            return after, found
        time.sleep(0.02)


def grown(middle, late, maps, kilobytes, code_pages=0):
    """What grew between two looks beyond what is allowed: residue must not grow with the number of attachments."""
    found = []
    if late.maps > middle.maps + maps:
        found.append(f"maps grow: {middle.maps}, then {late.maps}")
    if late.resident > middle.resident + kilobytes:
        found.append(f"memory grows: {middle.resident} kB, then {late.resident} kB")
    if late.code_pages > middle.code_pages + code_pages:
        found.append(f"code pages grow: {middle.code_pages}, then {late.code_pages}")
    return found
