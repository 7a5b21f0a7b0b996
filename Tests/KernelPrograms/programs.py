#!/usr/bin/env python3
"""The programs of bpf/ in a kernel, each under a fixed workload: runs them here, or judges what a virtual machine has recorded.

    programs.py run DIRECTORY                 runs every program here; results to DIRECTORY
    programs.py list                          the same commands as lines for a guest's shell
    programs.py check NAME=DIRECTORY...       judges results; a table, one column for each NAME (with --brief, one line)
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class Result:
    """What one run left: records, the workload's pid, messages, exit status."""

    def __init__(self, directory, name):
        read = lambda suffix: (directory / f"{name}.{suffix}").read_text(errors="replace")
        self.errors = read("err")
        self.status = int(read("rc").strip() or -1)
        self.records = [json.loads(line) for line in read("json").splitlines() if line.strip()]
        first = read("out").split("\n")[0]
        self.pid = int(first) if first.isdigit() else -1

    def data(self, kind):
        return [record["data"] for record in self.records if record.get("type") == kind]

    def events(self, **wanted):
        found = [record["fields"] for record in self.data("record") if "fields" in record]
        return [fields for fields in found if all(fields.get(key) == value for key, value in wanted.items())]

    def lines(self, prefix=""):
        return [record["text"] for record in self.data("printk") if record["text"].startswith(prefix)]

    def map(self, name):
        return [entry for data in self.data("map") if data["name"] == name for entry in data["entries"]]

    def variable(self, name):
        return next((data["value"] for data in self.data("variable") if data["name"] == name), {})

    @property
    def attached(self):
        return next((data["kernel"] for data in self.data("attached_probes") if "kernel" in data), [])

    @property
    def count(self):
        kinds = ("record", "printk", "hist", "variable")
        entries = sum(len(data["entries"]) for data in self.data("map"))
        return sum(1 for record in self.records if record.get("type") in kinds) + entries


class Problem(Exception):
    pass


def require(holds, what):
    if not holds:
        raise Problem(what)


def equal(found, wanted, what):
    require(found == wanted, f"{what}: {found!r} instead of {wanted!r}")


# --- what each program must show ------------------------------------------------------------------------------------------------------


def hello(result):
    require(len([line for line in result.lines("hello from PID ")]) >= 3, "three programs were executed")


def minimal(result):
    equal(len(result.lines(f"PID {result.pid} writes 10 bytes to ")), 3, "writes")


def unlinks(result):
    equal(result.lines(f"PID {result.pid} removes "), [f"PID {result.pid} removes w_x"] * 3, "names")
    equal(result.lines(f"PID {result.pid}: result"), [f"PID {result.pid}: result 0"] * 3, "results")


def opensnoop(result):
    own = result.events(pid=result.pid)
    good = [event for event in own if event["filename"] == "w_x"]
    bad = [event for event in own if event["filename"] == "w_missing"]
    equal([event["ret"] >= 0 for event in good], [True] * 3, "opens")
    equal([event["ret"] for event in bad], [-2] * 3, "opens of nothing")


def sigsnoop(result):
    own = [(event["signal"], event["ret"]) for event in result.events(pid=result.pid, target=result.pid)]
    equal(own, [(0, 0)] * 3 + [(10, 0)], "signals to itself")
    failed = result.events(pid=result.pid, ret=-3)
    equal([event["signal"] for event in failed], [10], "signals to nobody")


def execsnoop(result):
    own = [event for event in result.events(ppid=result.pid)]
    equal([event["filename"] for event in own if event["filename"]], ["/proc/self/exe"] * len([e for e in own if e["filename"]]), "names")
    equal(len(own), 3, "programs")
    equal({event["comm"] for event in own}, {"work"}, "who")


def exitsnoop(result):
    children = result.events(ppid=result.pid)
    equal(sorted((event["exit_code"], event["signal"]) for event in children), [(0, 15)] * 3 + [(7, 0)] * 3, "ends")
    require(all(50e6 <= event["duration_ns"] < 30e9 for event in children), "each lived for 50 ms")
    equal(len(result.events(pid=result.pid, exit_code=0)), 1, "end of the parent")


def runqlat(result):
    total = sum(bucket["count"] for data in result.data("hist") for bucket in data["buckets"])
    require(total >= 50, f"50 sleeps, {total} waits for a CPU")
    equal({data["name"] for data in result.data("hist")}, {"hists"}, "maps")


def hardirqs(result):
    hists = result.data("hist")
    require(hists, "a handler ran")
    for data in hists:
        require(data["key"]["name"], "handlers have names")
        equal(sum(bucket["count"] for bucket in data["buckets"]), data["count"], data["key"]["name"])
        require(data["total_ns"] > 0, "it took time")


def bootstrap(result):
    executed = result.events(what="EXEC", ppid=result.pid)
    equal([event["filename"] for event in executed], ["/proc/self/exe"] * 3, "programs")
    ended = result.events(what="EXIT", ppid=result.pid)
    equal([(event["pid"], event["exit_code"], event["signal"]) for event in ended], [(event["pid"], 0, 0) for event in executed], "ends")
    require(all(0 < event["duration_ns"] < 30e9 for event in ended), "durations")


def profile(result):
    own = [entry for entry in result.map("samples") if entry["key"]["pid"] == result.pid]
    total = sum(entry["value"] for entry in own)
    require(total >= 50, f"1.4 s at 99 Hz: {total} samples")

    def spent(kind, name):
        return sum(entry["value"] for entry in own if any(frame.get("sym") == name for frame in entry["key"][kind]))

    require(spent("user", "spin_in_program") > total // 5, "time in spin_in_program")
    reads = [entry for entry in own if entry["key"]["kernel"] and any(f.get("sym") == "spin_in_kernel" for f in entry["key"]["user"])]
    names = {frame.get("sym", "") for entry in reads for frame in entry["key"]["kernel"]}
    require({"vfs_read", "ksys_read"} & names, f"the kernel's side of spin_in_kernel: {sorted(names)}")


CLIENT = ["CLOSE>SYN_SENT", "SYN_SENT>ESTABLISHED", "ESTABLISHED>FIN_WAIT1", "FIN_WAIT1>FIN_WAIT2", "FIN_WAIT2>CLOSE"]


def tcpstates(result):
    for index, (source, port) in enumerate([("127.0.0.1", 7000), ("127.0.0.1", 7001), ("127.0.0.1", 7002), ("::1", 7003)]):
        own = [event for event in result.events(dport=port) if event["target"] == source]
        equal([f"{event['old_state']}>{event['new_state']}" for event in own], CLIENT, f"client of {port}")
        equal({event["source"] for event in own[1:]}, {source}, "address")
        equal(own[0]["pid"], result.pid, "who connects")
        server = [f"{event['old_state']}>{event['new_state']}" for event in result.events(sport=port)]
        for step in ["CLOSE>LISTEN", "LISTEN>CLOSE", "ESTABLISHED>CLOSE_WAIT", "CLOSE_WAIT>LAST_ACK", "LAST_ACK>CLOSE"]:
            equal(server.count(step), 1, f"server of {port}, {step}")


def tcpconnlat(result):
    own = result.events(pid=result.pid)
    equal([(event["target"], event["dport"]) for event in own], [("127.0.0.1", 7000), ("127.0.0.1", 7001), ("127.0.0.1", 7002), ("::1", 7003)], "connections")
    require(all(0 <= event["latency_us"] < 1e6 and event["comm"] == "work" for event in own), "latencies")


def tcprtt(result):
    hists = {data["key"]["address"]: data for data in result.data("hist")}
    require({"127.0.0.1", "::1"} <= set(hists), f"addresses: {sorted(hists)}")
    for data in hists.values():
        equal(sum(bucket["count"] for bucket in data["buckets"]), data["count"], "segments")
    # Five messages there and back and the end, at either side, less what is acknowledged together.
    require(hists["127.0.0.1"]["count"] >= 30, f"segments: {hists['127.0.0.1']['count']}")
    require(hists["::1"]["count"] >= 10, f"segments: {hists['::1']['count']}")


def functions(result):
    hits = result.variable("hits")
    kinds = ["kprobe", "kretprobe", "multi", "multi_return", "syscall", "syscall_return", "fentry", "fexit", "fmod_ret"]
    equal({kind: hits[kind] for kind in kinds}, {kind: 3 for kind in kinds}, "hits")
    equal(hits["result"], result.pid, "the result of getpgid")


def places(result):
    hits = result.variable("hits")
    wanted = {"entries": 6, "returns": 3, "steps": 3, "first": -3, "second": 1234, "count": 2}
    equal(hits, wanted, "hits")


def javagc(result):
    collections = result.events(what="COLLECTION")
    require(len(collections) >= 5, f"five collections were asked for: {len(collections)}")
    require(all(0 < event["duration_ns"] < 10e9 for event in collections + result.events(what="POOL")), "durations")


# --- the table ------------------------------------------------------------------------------------------------------------------------


class Program:
    def __init__(self, name, work, check, options=(), needs="", source=None, only_here=False, tool=None):
        self.name, self.work, self.check, self.tool = name, work, check, tool
        self.options, self.needs, self.source, self.only_here = list(options), needs, source, only_here

    def command(self, ubpfrun, objects, work, interrupts, directory):
        """The whole command line; workloads run in `directory`."""
        subject = f"{objects}/{self.name}.bpf.o" if self.source else self.name
        program = [work, *self.work.split()]
        if self.work == "interrupts":
            program.append(interrupts)
        if self.work == "java":
            program = ["java", "-XX:+UseSerialGC", f"{HERE}/Collect.java"]
        options = [option.replace("WORK", work) for option in self.options]
        return [ubpfrun, subject, "-j", "-v", "-o", f"{directory}/{self.name}.json", *options, "--", *program]


PROGRAMS = [
    Program("hello", "executes", hello),
    Program("minimal", "writes", minimal),
    Program("kprobe-link", "files", unlinks, needs="kprobes"),
    Program("fentry-link", "files", unlinks, needs="trampolines"),
    Program("opensnoop", "files", opensnoop),
    Program("sigsnoop", "signals", sigsnoop),
    Program("execsnoop", "executes", execsnoop),
    Program("exitsnoop", "exits", exitsnoop),
    Program("bootstrap", "executes", bootstrap),
    Program("runqlat", "sleeps", runqlat),
    Program("hardirqs", "interrupts", hardirqs),
    Program("profile", "spins", profile, options=["--target-comm", "work", "--top", "1000"]),
    Program("tcpstates", "connections", tcpstates, tool="ipv6"),
    Program("tcpconnlat", "connections", tcpconnlat, tool="ipv6"),
    Program("tcprtt", "connections", tcprtt, options=["--per-peer"], tool="ipv6"),
    Program("javagc", "java", javagc, only_here=True, tool="javac"),
    Program("functions", "functions", functions, needs="kprobes trampolines", source="functions.bpf.c"),
    Program("places", "functions", places, source="places.bpf.c", options=[
        "--backend", "kernel", "--attach", "on_entry=WORK:work_*", "--attach", "on_return=WORK:work_two",
        "--attach", "on_step=WORK:work:step",
    ]),
]


# --- running and judging --------------------------------------------------------------------------------------------------------------


def facts():
    names = os.listdir("/sys/bus/event_source/devices")
    return ["kprobes"] if "kprobe" in names else []


def has_tool(tool):
    """Whether this machine has what a workload needs; scripts/test says so, too."""
    match tool:
        case "javac":
            return shutil.which("javac") is not None
        case "ipv6":
            try:
                return "00000000000000000000000000000001" in pathlib.Path("/proc/net/if_inet6").read_text()
            except OSError:
                return False
    return True


def run(directory):
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.resolve()
    work = directory / "work"
    subprocess.run(["cc", "-O1", "-g", "-fno-omit-frame-pointer", "-static", "-Wall", "-Wextra", "-Werror", HERE / "work.c", "-o", work], check=True)
    for program in PROGRAMS:
        if program.source:
            subprocess.run([ROOT / "scripts/compile-bpf", HERE / program.source, directory / f"{program.name}.bpf.o"], check=True)
    (directory / "facts").write_text(" ".join(facts()))
    for program in PROGRAMS:
        if not has_tool(program.tool):
            continue
        command = program.command(str(ROOT / "dist/bin/ubpfrun"), str(directory), str(work), str(directory / "interrupts"), str(directory))
        errors = directory / f"{program.name}.err"
        # A program waits 200 ms for the probes of a library that it opens, and goes on without them (U507): a busy machine is slower.
        for _ in range(5):
            (directory / f"{program.name}.json").write_text("")
            with open(directory / f"{program.name}.out", "w") as out, open(errors, "w") as err:
                status = subprocess.run(["timeout", "120", *command], cwd=directory, stdout=out, stderr=err).returncode
            if "U507" not in errors.read_text():
                break
        (directory / f"{program.name}.rc").write_text(str(status))


def listed():
    """`NAME COMMAND…` lines for the guest, whose files are below /t and whose results below /out."""
    for program in PROGRAMS:
        if program.only_here:
            continue
        command = program.command("/t/bin/ubpfrun", "/t", "/t/work", "/dev/ttyS0", "/out")
        print(program.name, " ".join(f"'{part}'" for part in command))


REFUSALS = {"kprobes": "U401", "trampolines": "U405"}


def judge(program, directory, is_here):
    """A cell of the table, and whether it is as it should be."""
    if program.only_here and not is_here:
        return "not run", True
    if is_here and not has_tool(program.tool):
        return f"skipped: no {program.tool}", True
    have = (directory / "facts").read_text().split()
    try:
        result = Result(directory, program.name)
    except (OSError, ValueError) as error:
        return f"FAILED: no result: {error}", False
    missing = [need for need in program.needs.split() if need not in have]
    # Whether a kernel has trampolines cannot be known without trying.
    refused = [need for need in missing if REFUSALS[need] in result.errors]
    if refused:
        if "exists here and may do" not in result.errors:
            return "FAILED: refused without a word of what to do instead", False
        return "refused: " + ", ".join(REFUSALS[need] for need in refused), True
    if result.status != 0:
        return f"FAILED: exit status {result.status}: {result.errors.strip()}", False
    try:
        program.check(result)
    except (Problem, KeyError, IndexError, TypeError) as problem:
        return f"FAILED: {type(problem).__name__}: {problem}; {result.errors.strip()}", False
    names = len(result.attached)
    return f"{names or 'in process'}{' attached' if names else ''}, {result.count} shown, ok", True


def check(columns, brief=False):
    failures = []
    rows = []
    for program in PROGRAMS:
        cells = []
        for name, directory in columns:
            text, good = judge(program, directory, name == "here")
            if not good:
                failures.append(f"{program.name} on {name}: {text}")
                text = "FAILED"
            cells.append(text)
        rows.append((program.name, cells))
    if brief and not failures:
        print("; ".join(f"{name}: {', '.join(cells)}" for name, cells in rows))
        return 0
    print("| program | " + " | ".join(name for name, _ in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, cells in rows:
        print(f"| {name} | " + " | ".join(cells) + " |")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def main(arguments):
    match arguments:
        case ["run", directory]:
            run(pathlib.Path(directory))
            return 0
        case ["list"]:
            listed()
            return 0
        case ["check", *columns] if columns:
            brief = columns[0] == "--brief"
            pairs = [column.split("=", 1) for column in columns[brief:]]
            return check([(name, pathlib.Path(directory)) for name, directory in pairs], brief)
    print(__doc__, file=sys.stderr)
    return 64


sys.exit(main(sys.argv[1:]))
