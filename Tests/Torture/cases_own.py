"""Cases with targets of our own, which check themselves."""
import os
import random
import re
import signal
import subprocess
import time

import process
from harness import PATIENCE, UBPFRUN, Attachment, Failed, Skipped, Target, clean, look, need, records, toggle, until

THREADS = "16"


def hammer(context, threads=THREADS, environment=None):
    return Target([f"{context.build}/hammer", threads], context.work, environment)


def bare_checksum(context):
    """What an unprobed run prints."""
    target = hammer(context, "2")
    try:
        text, code = target.finish()
        need(code == 0, f"the unprobed run ends with {code}")
        return text
    finally:
        target.discard()


def exact_leak(context, target, number=1000, size=64):
    """Leaks of a known number in the middle of all the noise; how many the report is off."""
    attachment = Attachment(target.pid, context.work, "-j", "--top", "1000").ready()
    target.ask(f"leak {number} {size}", "leaked")
    output = attachment.stop()
    found = [
        (leak["bytes"], leak["count"])
        for leak in records(output, "leak")
        if any(frame.get("sym") == "leak_here" for frame in leak["stack"])
    ]
    total = (sum(b for b, _ in found), sum(c for _, c in found))
    missed = records(output, "stats")[0]["missed"]
    off = abs(total[1] - number)
    need(missed or total == (number * size, number), f"{total} leaked, not {(number * size, number)}; missed {missed}")
    need(off <= missed, f"{off} allocations off, {missed} accounted for")
    return off, missed


def attach_detach(context, book):
    count = context.size(1000, 16)
    expected = bare_checksum(context)
    target = hammer(context)
    try:
        before = look(target.pid)
        middle_count = min(50, count // 2)
        calls, missed = toggle(target, context.work, middle_count)
        middle, found = process.settled(before)
        need(not found, f"after {middle_count}: {found}")
        more_calls, more_missed = toggle(target, context.work, count - middle_count)
        late, found = process.settled(before)
        need(not found, f"after {count}: {found}")
        found = process.grown(middle, late, maps=4, kilobytes=4096)
        need(not found, f"{found}")
        context.say(f"before: {before.line()}")
        context.say(f"after {middle_count}: {middle.line()}")
        context.say(f"after {count}: {late.line()}")
        off, lost = exact_leak(context, target)
        _, found = process.settled(before)
        need(not found, f"after the exact phase: {found}")
        text, code = target.finish()
        need((text, code) == (expected, 0), f"it ends with {code} and {text!r}, unprobed {expected!r}")
        note = f"{calls + more_calls:,} hits, {missed + more_missed:,} missed; exact phase: {off} off, {lost} missed"
        book.add("attach and detach, 16 threads in malloc and free", count, count, off, note)
    finally:
        target.discard()


def controller_killed(context, book):
    count = context.size(200, 8)
    expected = bare_checksum(context)
    target = hammer(context, "4")
    chance = random.Random(5)
    by_itself = by_clean = 0
    slowest = 0.0
    try:
        before = look(target.pid)
        begun = time.monotonic()
        toggle(target, context.work, 1, duration=0.1)
        span = time.monotonic() - begun
        for number in range(count):
            attachment = Attachment(target.pid, context.work, "-d", "0.1")
            moment = chance.random() * span * 1.2
            time.sleep(moment)
            attachment.kill()
            target.check_alive(f"after kill {number + 1}, {moment * 1000:.0f} ms after the start")
            killed = time.monotonic()
            after, found = process.settled(before, seconds=1.0 if number % 4 else 0.0)
            if found:
                result = clean(target.pid)
                need(result.returncode == 0, f"kill {number + 1} at {moment * 1000:.0f} ms: clean says {result.stderr}; {found}")
                after, found = process.settled(before)
                by_clean += 1
            else:
                by_itself += 1
                slowest = max(slowest, time.monotonic() - killed)
            need(not found, f"kill {number + 1} at {moment * 1000:.0f} ms: {found}")
        rounds = int(target.ask("rounds"))
        time.sleep(0.5)
        need(int(target.ask("rounds")) > rounds, "the target does not go on")
        context.say(f"before: {before.line()}")
        context.say(f"after {count} kills: {after.line()}")
        off, _ = exact_leak(context, target)
        text, code = target.finish()
        need((text, code) == (expected, 0), f"it ends with {code} and {text!r}, unprobed {expected!r}")
        note = f"{by_itself} clean by themselves within {slowest:.2f} s, {by_clean} after `ubpfrun clean`"
        book.add("SIGKILL of the controller", count, count, off, note)
    finally:
        target.discard()


STORMS = [
    ("fork", ()),
    ("vfork", ()),
    ("spawn", ()),
    ("system", ()),
    ("threads", ()),
    ("plugin", ("plugin.so", "plugin_work")),
    ("fibers", ("storms", "fiber_step")),
    ("recursion", ("storms", "descend")),
    ("handlers", ()),
    ("timer", ()),
    ("blocked", ()),
    ("all-blocked", ()),
]


def latency(module, function):
    return ("--attach", f"function_enter={module}:{function}", "--attach", f"function_exit={module}:{function}")


def storm(name, probes):
    def case(context, book):
        count = context.size(40, 2)
        target = Target([f"{context.build}/storms", name, f"{context.build}/plugin.so"], context.work)
        # Threads and libraries of these come and go.
        moving = ("threads", "files", "descriptors", name) if name in ("threads", "plugin", "fork", "vfork", "spawn", "system") else ()
        try:
            before = look(target.pid)
            calls, missed = toggle(target, context.work, count, duration=0.2)
            note = f"{calls:,} hits, {missed:,} missed"
            if probes and name != "plugin":
                more, lost = toggle(target, context.work, count, *latency(*probes), program=("funclatency",), duration=0.2)
                note += f"; {probes[1]}: {more:,} hits, {lost:,} missed"
            _, found = process.settled(before, moving)
            need(not found, f"{found}")
            text, code = target.finish()
            need((text, code) == (f"{name}: good, rounds some", 0), f"it ends with {code}, {text!r}: {target.complaints()}")
            book.add(f"storm: {name}", count * (2 if probes and name != "plugin" else 1), count * (2 if probes and name != "plugin" else 1), 0, note)
        finally:
            target.discard()

    return case


def late_libraries(context, book):
    """Sixteen threads open and close a library whose function is probed as it appears: every call counts, started or attached to."""
    rounds = context.size(400, 30)
    plugin = f"{context.build}/plugin.so"
    command = [f"{context.build}/storms", "plugins", plugin]
    where = latency("plugin.so", "plugin_work")
    done = subprocess.run(
        [UBPFRUN, "-j", "funclatency", *where, "--", *command, str(rounds)],
        cwd=context.work, capture_output=True, text=True, timeout=PATIENCE * 10, check=False,
    )
    need(done.returncode == 0, f"it ends with {done.returncode}: {done.stderr[-600:]}")
    calls = int(re.search(r"^calls (\d+)$", done.stderr, re.M).group(1))
    late = re.search(r"was used without probes .(\d+)", done.stderr)
    hits = [probe["hits"] for probe in records(done.stdout, "stats")[0]["probes"]]
    need(late or hits == [calls, calls], f"{calls} calls, counted {hits}: {done.stderr[-600:]}")
    target = Target(command, context.work)
    try:
        before = look(target.pid)
        count = context.size(40, 3)
        more, missed = toggle(target, context.work, count, *where, program=("funclatency",), duration=0.3)
        _, found = process.settled(before, ("threads", "files", "descriptors"))
        need(not found, f"{found}")
        text, code = target.finish()
        need((text, code) == ("plugins: good, rounds some", 0), f"it ends with {code}, {text!r}: {target.complaints()}")
        note = f"{calls:,} calls of a started program, counted {hits[0]:,}; then {more:,} hits, {missed:,} missed"
        book.add("libraries opened by 16 threads", count + 1, count + 1, int(hits != [calls, calls]), note)
    finally:
        target.discard()


def exceptions(context, book):
    count = context.size(40, 2)
    target = Target([f"{context.build}/throws"], context.work)
    try:
        before = look(target.pid)
        hits = 0
        for function in ("middle", "thrower"):
            calls, _ = toggle(target, context.work, count, *latency("throws", function), program=("funclatency",), duration=0.1)
            hits += calls
        calls, _ = toggle(target, context.work, count, duration=0.1)
        _, found = process.settled(before)
        need(not found, f"{found}")
        text, code = target.finish()
        need((text, code) == ("throws: good", 0), f"it ends with {code}, {text!r}")
        book.add("C++ exceptions through probed frames", count * 3, count * 3, 0, f"{hits + calls:,} hits")
    finally:
        target.discard()


def thread_inside(context, book):
    """Threads blocked inside a return-probed function while its probe goes, and comes again."""
    count = context.size(30, 2)
    target = Target([f"{context.build}/inside"], context.work)
    probes = latency("inside", "wait_inside") + latency("inside", "outer")[:0]
    try:
        before = look(target.pid)
        for number in range(count):
            attachment = Attachment(target.pid, context.work, *probes, program=("funclatency",)).ready()
            target.ask("enter", "inside")
            if number % 3 == 2:
                attachment.kill()
                need(clean(target.pid).returncode == 0, "clean fails while threads are inside")
            else:
                attachment.stop()
            _, found = process.settled(before, moving=("threads",))
            need(not found, f"with threads inside: {found}")
            if number % 2:
                again = Attachment(target.pid, context.work, *probes, program=("funclatency",)).ready()
                target.ask("go", "returned")
                again.stop()
            else:
                target.ask("go", "returned")
            target.check_alive(f"in cycle {number + 1}")
        _, found = process.settled(before)
        need(not found, f"{found}")
        need(target.finish() == ("end", 0), "it does not end as it should")
        book.add("4 threads inside a probed function at detach, every other time re-attached", count, count)
    finally:
        target.discard()


def two_sessions(context, book):
    """Two of us on one process and function, ended in any order."""
    count = context.size(60, 4)
    expected = bare_checksum(context)
    target = hammer(context, "4")
    chance = random.Random(7)
    try:
        before = look(target.pid)
        for number in range(count):
            first = Attachment(target.pid, context.work, "-j")
            if number % 2:
                first.ready()
            second = Attachment(target.pid, context.work, "-j", program=("malloccount",) if number % 3 else ("memleak",))
            second.ready()
            if number % 2 == 0:
                first.ready()
            both = [first, second]
            chance.shuffle(both)
            how = number % 4
            for index, attachment in enumerate(both):
                # A round that began before may have passed what is probed.
                rounds = int(target.ask("rounds"))
                waited = time.monotonic()
                while int(target.ask("rounds")) < rounds + 8:
                    need(time.monotonic() < waited + 20, "the target does not go on")
                    time.sleep(0.01)
                if how == 3 and index == 0:
                    attachment.kill()
                else:
                    calls = records(attachment.stop(), "stats")[0]["calls"]
                    need(calls > 0, "a session saw nothing")
            target.check_alive(f"in round {number + 1}")
            after, found = process.settled(before, seconds=2.0)
            if how == 3 and found:
                need(clean(target.pid).returncode == 0, "clean fails")
                after, found = process.settled(before)
            need(not found, f"round {number + 1}: {found}")
        off, _ = exact_leak(context, target)
        text, code = target.finish()
        need((text, code) == (expected, 0), f"it ends with {code} and {text!r}")
        book.add("two sessions on one function, ended in any order", count, count, off, after.line())
    finally:
        target.discard()


def another_hooker(context, book):
    count = context.size(100, 4)
    expected = bare_checksum(context)
    target = hammer(context, "4", {"LD_PRELOAD": f"{context.build}/interposer.so"})
    try:
        before = look(target.pid)
        calls, missed = toggle(target, context.work, count)
        _, found = process.settled(before)
        need(not found, f"{found}")
        text, code = target.finish()
        need((text, code) == (expected, 0), f"it ends with {code} and {text!r}")
        book.add("with another malloc by LD_PRELOAD", count, count, 0, f"{calls:,} hits, {missed:,} missed")
    finally:
        target.discard()


def foreign_patch(context, book):
    """A breakpoint of somebody else's on malloc: refused, and left as it was; taken away: attached."""
    target = hammer(context, "1")
    try:
        # On a function that nobody calls: only its presence matters.
        maps = [m for m in process.mappings(target.pid) if m.path.endswith("/libc.so.6") and "x" in m.perms]
        offset = symbol_offset(maps[0].path, "pvalloc")
        address = maps[0].start + offset - maps[0].offset
        with open(f"/proc/{target.pid}/mem", "r+b", 0) as memory:
            memory.seek(address)
            original = memory.read(1)
            memory.seek(address)
            memory.write(b"\xcc")
            before = look(target.pid)
            attachment = Attachment(target.pid, context.work, "-d", "0.1", *latency("libc.so.6", "pvalloc"), program=("funclatency",))
            code = attachment.child.wait()
            messages = attachment.messages()
            attachment.close()
            need(code != 0 and "U202" in messages, f"attached over a breakpoint: {code} {messages}")
            _, found = process.settled(before)
            need(not found, f"the refusal left {found}")
            memory.seek(address)
            memory.write(original)
        before = look(target.pid)
        toggle(target, context.work, 2)
        _, found = process.settled(before)
        need(not found, f"{found}")
        _, code = target.finish()
        need(code == 0, f"it ends with {code}")
        book.add("somebody's breakpoint on a function: refused, untouched", 1, 1)
    finally:
        target.discard()


def kernel_uprobe(context, book):
    """The kernel's own probe on a function, in every process: refused while it is there; after us, it runs, and leaves without harm."""
    if os.geteuid() != 0:
        raise Skipped("only root may place one")
    expected = bare_checksum(context)
    where = latency(f"{context.build}/hammer", "play")

    def ours():
        return Attachment(target.pid, context.work, "-j", *where, program=("funclatency",)).ready()

    def kernel():
        command = [UBPFRUN, "funclatency", "--backend", "kernel", *where]
        child = subprocess.Popen(command, cwd=context.work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        children.append(child)
        line = child.stderr.readline()
        need("Ctrl-C" in line, f"the kernel's half says {line!r}")
        return child

    children = []

    def end(child):
        child.send_signal(signal.SIGINT)
        messages = child.communicate(timeout=PATIENCE)[1]
        need(child.returncode == 0, f"the kernel's half ends with {child.returncode}: {messages}")

    # Only a change of one byte stands the kernel's; where the heap happens to lie, the place for it may be taken.
    for attempt in range(20):
        target = hammer(context, "4")
        before = look(target.pid)
        attachment = ours()
        changed = sum(map(len, look(target.pid).text.values()))
        attachment.stop()
        if changed == 1:
            break
        target.discard()
    need(changed == 1, f"no target of 20 is patched by one byte, the last by {changed}")
    try:
        before = look(target.pid)
        theirs = kernel()
        until(lambda: look(target.pid).text != before.text, what="the kernel's breakpoint")
        attachment = Attachment(target.pid, context.work, "-d", "0.1", *where, program=("funclatency",))
        code = attachment.child.wait()
        messages = attachment.messages()
        attachment.close()
        # Our library is there from before, and says so itself.
        need(code != 0 and "U124" in messages and "another tool patched it" in messages, f"on its breakpoint: {code} {messages}")
        fresh = hammer(context, "2")
        try:
            attachment = Attachment(fresh.pid, context.work, "-d", "0.1", *where, program=("funclatency",))
            code = attachment.child.wait()
            messages = attachment.messages()
            attachment.close()
            need(code != 0 and "a kernel uprobe is on it" in messages, f"on its breakpoint: {code} {messages}")
            fresh.check_alive("after a refusal")
        finally:
            fresh.discard()
        end(theirs)
        _, found = process.settled(before)
        need(not found, f"{found}")
        count = context.size(20, 2)
        for number in range(count):
            attachment = ours()
            theirs = kernel()
            time.sleep(0.1)
            if number % 2:
                end(theirs)
            attachment.stop()
            if number % 2 == 0:
                end(theirs)
            target.check_alive(f"in round {number + 1}")
        toggle(target, context.work, 1, *where, program=("funclatency",))
        _, found = process.settled(before)
        need(not found, f"{found}")
        text, code = target.finish()
        need((text, code) == (expected, 0), f"it ends with {code} and {text!r}")
        book.add("the kernel's uprobe before, between and after ours", count + 1, count + 1)
    finally:
        for child in children:
            child.kill()
            child.wait()
        target.discard()


def symbol_offset(path, name):
    """Offset in the file of a dynamic symbol's code."""
    import subprocess

    symbols = subprocess.run(["readelf", "-W", "--dyn-syms", path], capture_output=True, text=True, check=True).stdout
    value = next(int(w[1], 16) for w in map(str.split, symbols.splitlines()) if len(w) > 7 and w[7].split("@")[0] == name)
    headers = subprocess.run(["readelf", "-W", "-l", path], capture_output=True, text=True, check=True).stdout
    for words in map(str.split, headers.splitlines()):
        if words[:1] == ["LOAD"] and int(words[2], 16) <= value < int(words[2], 16) + int(words[5], 16):
            return value - int(words[2], 16) + int(words[1], 16)
    raise Failed(f"{name} is in no segment of {path}")


def cases():
    found = [
        ("attach-detach", attach_detach),
        ("controller-killed", controller_killed),
        ("exceptions", exceptions),
        ("thread-inside", thread_inside),
        ("two-sessions", two_sessions),
        ("late-libraries", late_libraries),
        ("another-hooker", another_hooker),
        ("foreign-patch", foreign_patch),
        ("kernel-uprobe", kernel_uprobe),
    ]
    return found + [(f"storm-{name}", storm(name, probes)) for name, probes in STORMS]


def planted(context, book):
    """Every check has to fail when there is something to find: faults are planted one after the other."""
    faults = 0
    expected = bare_checksum(context)
    for fault in ("descriptor", "thread", "handler", "ignored", "writable-code", "memory"):
        target = hammer(context, "2")
        try:
            before = look(target.pid)
            target.ask(f"plant {fault}", "planted")
            after, found = process.settled(before, seconds=0.1)
            found += process.grown(before, after, maps=4, kilobytes=4096)
            need(found, f"the planted {fault} was not noticed")
            faults += 1
        finally:
            target.discard()
    target = hammer(context, "2")
    try:
        before = look(target.pid)
        code = next(m for m in process.mappings(target.pid) if m.path.endswith("/libc.so.6") and "x" in m.perms)
        with open(f"/proc/{target.pid}/mem", "r+b", 0) as memory:
            memory.seek(code.end - 1)
            memory.write(b"\xcc")
        need(process.settled(before, seconds=0.1)[1], "a changed byte of text was not noticed")
        target.ask("plant checksum", "planted")
        time.sleep(0.3)
        text, status = target.finish()
        need((text, status) != (expected, 0), "a wrong block was not noticed")
        faults += 2
    finally:
        target.discard()
    target = hammer(context, "2")
    try:
        attachment = Attachment(target.pid, context.work, "-j", "--top", "1000").ready()
        target.ask("leak 999 64", "leaked")
        leaks = records(attachment.stop(), "leak")
        count = sum(l["count"] for l in leaks if any(f.get("sym") == "leak_here" for f in l["stack"]))
        need(count == 999, f"999 leaks are reported as {count}")
        os.kill(target.pid, 11)
        time.sleep(0.3)
        try:
            toggle(target, context.work, 1)
            raise AssertionError("a dead target was not noticed")
        except Failed as error:
            need("died" in str(error), str(error))
        faults += 2
    finally:
        target.discard()
    book.add("planted faults, all found", faults, faults)
