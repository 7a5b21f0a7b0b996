"""Cases with programs of Debian under load: attached to and left again, they say and do what they would have without us."""
import os
import re
import socket
import subprocess
import time

import process
from harness import Attachment, Failed, Skipped, Target, look, need, records, toggle, tool, until

# Too long for every `make test`.
FULL_ONLY = {"real-git", "real-sqlite3", "real-bash", "real-java", "real-node", "real-nginx", "real-gdb", "asan"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
        return True
    except OSError:
        return False


def compare(context, before, moving=()):
    after, found = process.settled(before, moving)
    context.say(f"before: {before.line()}")
    context.say(f"after:  {after.line()}")
    need(not found, f"{found}")
    return after


# ---- Programs that compute something and end: output and status are those of an unprobed run. ----

PYTHON = """
import hashlib, json, sys, threading
total = [0] * 4
def work(index):
    for turn in range(int(sys.argv[1])):
        text = json.dumps({str(i): [i] * (i % 7) for i in range(300)}, sort_keys=True)
        data = json.loads(text)
        total[index] = (total[index] + int(hashlib.sha256(json.dumps(data).encode()).hexdigest()[:8], 16)) % 2**32
threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(total)
sys.exit(4)
"""

SQL = """CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) INSERT INTO t SELECT i, printf('row %d', i * 7) FROM n;
CREATE INDEX tb ON t(b);
SELECT count(*), sum(length(b)), sum(a) FROM t WHERE b LIKE '%7%';
SELECT nothing FROM nowhere;
"""

JAVA = """
import java.util.*;
import java.util.concurrent.*;
public class Work {
    static long work(int seed) {
        Map<Integer, String> map = new HashMap<>();
        long sum = 0;
        for (int turn = 0; turn < Integer.parseInt(System.getProperty("turns")); turn++) {
            for (int i = 0; i < 2000; i++) map.put(i * seed, "value " + (i + turn));
            for (String s : map.values()) sum = sum * 31 + s.hashCode();
            try { Object nothing = turn % 2 == 0 ? null : "x"; sum += nothing.hashCode(); }
            catch (NullPointerException e) { sum += 7; }
        }
        return sum;
    }
    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> all = new ArrayList<>();
        for (int i = 1; i <= 8; i++) { int seed = i; all.add(pool.submit(() -> work(seed))); }
        for (Future<Long> one : all) System.out.println(one.get());
        pool.shutdown();
        System.exit(9);
    }
}
"""

NODE = """
const crypto = require('crypto');
const turns = Number(process.argv[2]);
let turn = 0, sum = 0;
function step() {
  const text = JSON.stringify(Array.from({length: 2000}, (_, i) => ({i, s: 'x'.repeat(i % 50), turn})));
  sum = (sum * 31 + JSON.parse(text).reduce((a, b) => a + b.s.length, 0)) % 1000003;
  const buffer = Buffer.alloc(100000, turn % 256);
  crypto.pbkdf2('a', buffer.subarray(0, 16), 20, 16, 'sha1', (error, key) => {
    sum = (sum * 31 + key[0]) % 1000003;
    if (++turn < turns) setImmediate(step); else { console.log(sum); process.exitCode = 6; }
  });
}
step();
"""

BASH = """
sum=0
for ((i = 0; i < TURNS; i++)); do a[i % 1000]="x$i"; sum=$(((sum * 31 + ${#a[i % 1000]} + i) % 1000003)); done
echo "$sum ${#a[@]}"; (exit 3); echo $?; echo $(printf 'a\\nb\\n' | wc -l); exit 7
"""

GDB = """set pagination off
set confirm off
python
total = 0
for i in range({turns}):
    total = (total * 31 + int(gdb.parse_and_eval(str(i) + '*2+1'))) % 1000003
print(total)
end
info functions plugin_work
quit 5
"""


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def run_to_end(context, command, environment, feed=None, arguments=None, moving=()):
    """Starts a program, attaches again and again while it runs; (output, status, seconds, attachments, differences)."""
    with open(f"{context.work}/out", "w+b") as out, open(f"{context.work}/err", "w+b") as err:
        started = time.monotonic()
        source = open(feed, "rb") if feed else subprocess.DEVNULL
        child = subprocess.Popen(command, stdin=source, stdout=out, stderr=err, env={**os.environ, **environment}, cwd=context.work)
        attachments = 0
        hits = 0
        before = None
        found = []
        if arguments is not None:
            time.sleep(0.3)
            while child.poll() is None:
                if before is None:
                    before = look(child.pid)
                attachment = Attachment(child.pid, context.work, "-j", "-d", "0.3", *arguments)
                try:
                    hits += records(attachment.wait(), "stats")[0]["calls"]
                    attachments += 1
                except (Failed, IndexError) as failure:
                    if "ended with -" in str(failure):
                        child.kill()
                        raise
                    # It may have ended meanwhile, which is no failure.
                    try:
                        child.wait(10)
                    except subprocess.TimeoutExpired:
                        child.kill()
                        raise Failed(f"attachment {attachments + 1}: {failure}") from None
                    break
                if attachments == 2 and child.poll() is None:
                    try:
                        after, found = process.settled(before, moving)
                        context.say(f"before: {before.line()}")
                        context.say(f"after:  {after.line()}")
                    except (FileNotFoundError, ProcessLookupError, OSError):
                        pass
                    found = [] if process.has_ended(child.pid) else found
        try:
            code = child.wait(300)
        except subprocess.TimeoutExpired:
            child.kill()
            raise Failed("it hangs") from None
        seconds = time.monotonic() - started
        out.seek(0)
        err.seek(0)
        return out.read(), err.read(), code, seconds, attachments, hits, found


def computes(name, prepare, moving=()):
    def case(context, book):
        command, environment, feed = prepare(context)
        bare = run_to_end(context, command, environment, feed)
        ours = run_to_end(context, command, environment, feed, arguments=(), moving=moving)
        need(ours[4] > 0, f"{name} ended before the first attachment")
        need(not ours[6], f"{ours[6]}")
        for index, what in enumerate(("output", "errors", "status")):
            need(bare[index] == ours[index], f"{name}: other {what}: {ours[index]!r:.300}, bare {bare[index]!r:.300}")
        note = f"same output and status {bare[2]}; {bare[3]:.1f} s bare, {ours[3]:.1f} s attached all the time; {ours[5]:,} hits"
        book.add(name, ours[4], ours[4], 0, note)

    return case


def python(context):
    return [tool("python3"), "-c", PYTHON, str(context.size(2400, 600))], {"PYTHONMALLOC": "malloc"}, None


def sqlite(context):
    feed = write(f"{context.work}/script.sql", SQL.format(count=context.size(600000, 200000)))
    return [tool("sqlite3"), "-batch", ":memory:"], {}, feed


def git(context):
    top = subprocess.run(["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True, cwd=os.path.dirname(__file__), check=False)
    if top.returncode != 0:
        raise Skipped("not in a repository")
    turns = context.size(4, 1)
    command = f"git -C '{top.stdout.strip()}' -c core.pager=cat log -p --stat --no-color -n {turns * 40} | sha1sum"
    return [tool("git"), "-C", top.stdout.strip(), "-c", f"alias.twice=!{command}; exit 3", "log", "-p", "--stat", f"-n{turns * 60}"], {}, None


def bash(context):
    return [tool("bash"), "-c", BASH], {"TURNS": str(context.size(100000, 30000))}, None


def java(context):
    tool("java")
    if not os.path.exists(f"{context.work}/Work.class"):
        write(f"{context.work}/Work.java", JAVA)
        subprocess.run([tool("javac"), "Work.java"], cwd=context.work, check=True)
    return [tool("java"), "-Xmx256m", f"-Dturns={context.size(6000, 300)}", "-cp", context.work, "Work"], {}, None


def node(context):
    return [tool("node"), write(f"{context.work}/work.js", NODE), str(context.size(600, 100))], {}, None


def gdb(context):
    script = write(f"{context.work}/script.gdb", GDB.format(turns=context.size(60000, 20000)))
    return [tool("gdb"), "-nx", "-batch", "-x", script, f"{context.build}/storms"], {}, None


# ---- Servers under load ----


def redis(name, environment, table=None):
    def case(context, book):
        server, benchmark, client = tool("redis-server"), tool("redis-benchmark"), tool("redis-cli")
        port = str(free_port())
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", context.work]
        child = subprocess.Popen(command, env={**os.environ, **environment}, **quiet)
        load = None
        try:
            until(lambda: answers(int(port)), what="redis-server")
            requests = str(context.size(60000, 6000))
            load_command = [benchmark, "-p", port, "-n", requests, "-c", "20", "-r", "10000", "-t", "set,get,lpush,hset", "-q"]

            def throughput(run):
                text = run.stdout if isinstance(run, subprocess.CompletedProcess) else run
                rates = [float(m) for m in re.findall(r": ([0-9.]+) requests per second", text)]
                need(len(rates) == 4, f"redis-benchmark says {text[-300:]!r}")
                return round(sum(rates) / 4)

            bare = throughput(subprocess.run(load_command, capture_output=True, text=True, check=True, timeout=300))
            before = look(child.pid)
            load = subprocess.Popen(load_command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            cycles = 0
            hits = 0
            while load.poll() is None:
                attachment = Attachment(child.pid, context.work, "-j", "-d", "1" if not context.is_quick else "0.3")
                hits += records(attachment.wait(), "stats")[0]["calls"]
                cycles += 1
                need(child.poll() is None, f"redis-server died: {child.returncode}")
            probed = throughput(load.communicate()[0])
            # Connections of the benchmark go with it.
            time.sleep(0.3)
            after = compare(context, before, moving=("descriptors",))
            sockets = [d for d in after.descriptors.items() if d not in before.descriptors.items()]
            need(all(not re.search("ubpf|memfd", path) for _, path in sockets), f"descriptors: {sockets}")
            again = throughput(subprocess.run(load_command, capture_output=True, text=True, check=True, timeout=300))
            subprocess.run([client, "-p", port, "shutdown", "nosave"], check=False, **quiet)
            code = child.wait(20)
            need(code == 0, f"redis-server ends with {code}")
            note = f"{bare:,} requests/s bare, {probed:,} attached all the time, {again:,} afterwards; {hits:,} hits"
            book.add(name, cycles, cycles, 0, note)
        finally:
            for one in (load, child):
                if one and one.poll() is None:
                    one.kill()
                    one.wait()

    return case


def nginx(context, book):
    server, curl = tool("nginx"), tool("curl")
    port = free_port()
    top = f"{context.work}/nginx"
    os.makedirs(f"{top}/html", exist_ok=True)
    os.chmod(context.work, 0o755)
    page = os.urandom(150000).hex()
    write(f"{top}/html/page", page)
    user = "user nobody nogroup;" if os.geteuid() == 0 else ""
    temporary = " ".join(f"{kind}_temp_path {top}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    write(
        f"{top}/nginx.conf",
        f"daemon off; {user} worker_processes 2; pid {top}/pid; error_log {top}/error.log; events {{ worker_connections 64; }} "
        f"http {{ access_log off; {temporary} gzip on; gzip_types *; server {{ listen 127.0.0.1:{port}; root {top}/html; }} }}",
    )
    child = subprocess.Popen([server, "-e", f"{top}/error.log", "-p", top, "-c", f"{top}/nginx.conf"], stdin=subprocess.DEVNULL)
    try:
        until(lambda: answers(port), what="nginx")
        url = f"http://127.0.0.1:{port}/page"
        workers = [int(p) for p in open(f"/proc/{child.pid}/task/{child.pid}/children", encoding="ascii").read().split()]
        need(len(workers) == 2, f"workers: {workers}")
        before = [look(pid) for pid in [child.pid, *workers]]
        load = subprocess.Popen(
            ["sh", "-c", f"for i in $(seq {context.size(200, 30)}); do {curl} -fsS --compressed {url} | sha1sum; done | sort | uniq -c"],
            stdout=subprocess.PIPE,
            text=True,
        )
        cycles = hits = 0
        while load.poll() is None:
            attachment = Attachment([child.pid, *workers], context.work, "-j", "-d", "0.5")
            hits += records(attachment.wait(), "stats")[0]["calls"]
            cycles += 1
        answersum = load.communicate()[0].split("\n")
        need(len(answersum) == 2 and answersum[0].split()[0] == str(context.size(200, 30)), f"pages differ: {answersum}")
        for one in before:
            compare(context, one)
        child.send_signal(3)
        code = child.wait(20)
        need(code == 0, f"nginx ends with {code}")
        log = open(f"{top}/error.log", encoding="utf-8").read()
        need(not re.search("signal|alert|emerg", log), f"nginx says {log[-400:]}")
        book.add("nginx, master and 2 workers in one session", cycles, cycles, 0, f"{context.size(200, 30)} pages equal; {hits:,} hits")
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait(20)


def asan(context, book):
    """A program with AddressSanitizer: attached without harm, or refused without a touch."""
    target = Target([f"{context.build}/hammer-asan", "4"], context.work)
    try:
        before = look(target.pid)
        count = context.size(20, 2)
        calls, missed = toggle(target, context.work, count, duration=0.2)
        compare(context, before)
        text, code = target.finish()
        need(code == 0 and text.endswith("bad 0"), f"it ends with {code}, {text!r}: {target.complaints()}")
        book.add("a program with AddressSanitizer", count, count, 0, f"{calls:,} hits, {missed:,} missed")
    finally:
        target.discard()


def cases():
    return [
        ("real-python3", computes("python3, 4 threads, JSON", python, ("files", "threads"))),
        ("real-sqlite3", computes("sqlite3", sqlite, ("files", "descriptors"))),
        ("real-git", computes("git log -p", git, ("files", "descriptors"))),
        ("real-bash", computes("bash", bash, ("descriptors",))),
        ("real-java", computes("java, 4 threads, null pointer checks", java, ("files", "threads"))),
        ("real-node", computes("node, worker threads", node, ("threads",))),
        ("real-gdb", computes("gdb itself", gdb, ("files", "descriptors"))),
        ("real-redis", redis("redis-server (jemalloc), redis-benchmark", {})),
        ("real-nginx", nginx),
        ("asan", asan),
    ]
