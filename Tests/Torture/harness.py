"""Targets, attachments, and the book of results."""
import collections
import json
import os
import random
import select
import shutil
import signal
import subprocess
import time

import process

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UBPFRUN = os.environ.get("UBPFRUN", f"{ROOT}/dist/bin/ubpfrun")
PATIENCE = 60


class Failed(Exception):
    """A check that did not hold."""


class Skipped(Exception):
    """A case that cannot be run here."""


def need(condition, text):
    if not condition:
        raise Failed(text)


def until(condition, seconds=30, what="it"):
    deadline = time.monotonic() + seconds
    while not condition():
        need(time.monotonic() < deadline, f"{what} is not ready within {seconds} s")
        time.sleep(0.05)


def tool(name):
    # Version managers put shell scripts in the way; Debian's own come first.
    path = shutil.which(name, path="/usr/bin:/usr/sbin:/bin:" + os.environ.get("PATH", ""))
    if not path:
        raise Skipped(f"{name} is not installed")
    return path


class Target:
    """A process under test: lines to its standard input, lines from its output, its end."""

    def __init__(self, arguments, work, environment=None, until="up"):
        self.errors = open(f"{work}/target.err", "w+b")
        self.started = time.monotonic()
        self.child = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, **(environment or {})},
            cwd=work,
        )
        self.pid = self.child.pid
        self.pending = b""
        if until:
            answer = self.read_line()
            need(answer == until, f"the target began with {answer!r}: {self.complaints()}")

    def complaints(self):
        self.errors.seek(0)
        return self.errors.read()[-600:].decode(errors="replace")

    def read_line(self, seconds=PATIENCE):
        deadline = time.monotonic() + seconds
        while b"\n" not in self.pending:
            ready, _, _ = select.select([self.child.stdout], [], [], max(0, deadline - time.monotonic()))
            need(ready, "the target hangs: it says nothing")
            data = os.read(self.child.stdout.fileno(), 65536)
            if not data:
                raise Failed(f"the target ended: {self.child.wait(5)}: {self.complaints()}")
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode()

    def ask(self, command, expected=None):
        need(self.alive(), f"the target is dead: {self.child.poll()}: {self.complaints()}")
        self.child.stdin.write(command.encode() + b"\n")
        self.child.stdin.flush()
        answer = self.read_line()
        need(expected is None or answer == expected, f"{command}: the target says {answer!r}, not {expected!r}")
        return answer

    def alive(self):
        return self.child.poll() is None

    def check_alive(self, when):
        need(self.alive(), f"the target died {when}: status {self.child.returncode}: {self.complaints()}")

    def finish(self, seconds=PATIENCE):
        """Its last lines and exit status, once its input is closed."""
        self.check_alive("before its end")
        self.child.stdin.close()
        try:
            rest = self.child.stdout.read().decode()
            code = self.child.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"the target does not end within {seconds} s") from error
        return (self.pending.decode() + rest).strip(), code

    def discard(self):
        if self.alive():
            self.child.kill()
        self.child.wait()
        self.errors.close()


class Attachment:
    """One run of ubpfrun on running processes."""

    def __init__(self, pids, work, *arguments, program=("memleak",), quiet=True):
        pids = [pids] if isinstance(pids, int) else pids
        self.work = work
        reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        self.report = open(f"{work}/report.{random.getrandbits(48):x}", "w+b")
        self.errors = open(f"{work}/messages.{random.getrandbits(48):x}", "w+b")
        command = [UBPFRUN, *program, *(["-q"] if quiet else []), "--ready-fd", str(writer)]
        for pid in pids:
            command += ["-p", str(pid)]
        self.child = subprocess.Popen(
            command + list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=self.report,
            stderr=self.errors,
            pass_fds=(writer,),
        )
        os.close(writer)
        self.reader = reader

    def ready(self, seconds=PATIENCE):
        ready, _, _ = select.select([self.reader], [], [], seconds)
        need(ready, f"no attachment within {seconds} s")
        line = os.read(self.reader, 100)
        if line != b"ready\n":
            raise Failed(f"no attachment: status {self.child.wait(PATIENCE)}: {self.messages()} {self.output()[-300:]}")
        return self

    def messages(self):
        self.errors.seek(0)
        return self.errors.read()[-1500:].decode(errors="replace")

    def output(self):
        self.report.seek(0)
        return self.report.read().decode(errors="replace")

    def wait(self, seconds=PATIENCE):
        try:
            code = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            self.close()
            raise Failed(f"ubpfrun does not end within {seconds} s") from None
        messages, output = self.messages(), self.output()
        self.close()
        need(code == 0, f"ubpfrun ended with {code}: {messages}")
        return output

    def stop(self, number=signal.SIGINT):
        self.child.send_signal(number)
        return self.wait()

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.close()

    def close(self):
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1
            for file in (self.report, self.errors):
                file.close()
                os.unlink(file.name)


def records(output, kind):
    lines = (json.loads(line) for line in output.splitlines())
    return [line["data"] for line in lines if line["type"] == kind]


def toggle(target, work, count, *arguments, program=("memleak",), duration=0.02):
    """Attaches and detaches `count` times, and again where nothing was hit; the sum of calls and of missed ones."""
    calls = missed = 0
    # A busy machine may not let the target run in so short a time.
    for number in range(count + 5):
        if number >= count:
            if calls > 0:
                break
            duration = 1.0
        attachment = Attachment(target.pid, work, "-j", "-d", str(duration), *arguments, program=program)
        try:
            statistics = records(attachment.wait(), "stats")
        except Failed as error:
            target.check_alive(f"in attachment {number + 1}")
            raise Failed(f"attachment {number + 1}: {error}") from error
        target.check_alive(f"after attachment {number + 1}")
        calls += statistics[0]["calls"]
        missed += statistics[0]["missed"]
    need(calls > 0, f"no probe was hit in {count} attachments and 5 of a second")
    return calls, missed


Row = collections.namedtuple("Row", "name tried survived off note")


class Book:
    """Results: one row for each case."""

    def __init__(self):
        self.rows = []
        self.failures = []
        self.skips = []

    def add(self, name, tried, survived, off=0, note=""):
        self.rows.append(Row(name, tried, survived, off, note))

    def table(self):
        lines = ["| what | tried | survived | counts off | |", "|---|---|---|---|---|"]
        for row in self.rows:
            lines.append(f"| {row.name} | {row.tried:,} | {row.survived:,} | {row.off} | {row.note} |")
        return "\n".join(lines)


def clean(pid):
    return subprocess.run([UBPFRUN, "clean", "-p", str(pid)], capture_output=True, text=True, timeout=PATIENCE, check=False)


def look(pid):
    return process.Look(pid)
