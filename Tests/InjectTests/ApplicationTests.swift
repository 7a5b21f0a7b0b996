import Foundation
import Testing

@testable import Inject

/// Programs that people run, injected into while they work; their results must be those they always have.
@Suite(.serialized) struct ApplicationTests {
    struct Application: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var command: [String]
        /// What it prints at its end.
        var result: String
    }

    static let applications = [
        Application(
            testDescription: "python3",
            command: [
                "/usr/bin/python3", "-c",
                """
                import json, threading, time
                print("ready", flush=True)
                def work():
                    end = time.time() + 3
                    while time.time() < end: assert json.loads(json.dumps(list(range(500)))) == list(range(500))
                threads = [threading.Thread(target=work) for _ in range(3)]
                [t.start() for t in threads]; [t.join() for t in threads]
                print("done")
                """,
            ],
            result: "done\n"
        ),
        Application(
            testDescription: "node",
            command: [
                "/usr/bin/node", "-e",
                """
                console.log("ready"); const end = Date.now() + 3000; let n = 0;
                function go() { for (let i = 0; i < 1000; i++) if (JSON.parse(JSON.stringify({a: [i]})).a[0] !== i) process.exit(3);
                  if (Date.now() < end) setImmediate(go); else console.log("done"); } go();
                """,
            ],
            result: "done\n"
        ),
        Application(
            testDescription: "java",
            command: ["/usr/bin/java", "-Xmx128m", "\(Fixtures.directory)/Work.java"],
            result: "done\n"
        ),
    ]

    init() throws {
        let source = """
            public class Work { static volatile int wrong; public static void main(String[] a) throws Exception {
              System.out.println("ready"); long end = System.currentTimeMillis() + 4000; Thread[] t = new Thread[3];
              for (int k = 0; k < 3; k++) { t[k] = new Thread(() -> { while (System.currentTimeMillis() < end) {
                int[] x = new int[10000]; for (int i = 0; i < x.length; i++) x[i] = i; String s = null;
                try { s.length(); wrong++; } catch (NullPointerException e) { } if (x[9999] != 9999) wrong++; } }); t[k].start(); }
              for (Thread x : t) x.join(); System.out.println(wrong == 0 ? "done" : "wrong"); } }
            """
        try Data(source.utf8).write(to: URL(fileURLWithPath: "\(Fixtures.directory)/Work.java"))
    }

    @Test(arguments: applications) func goesOn(_ application: Application) throws {
        guard access(application.command[0], X_OK) == 0 else {
            print("SKIPPED: \(application.command[0]) is not installed")
            return
        }
        let library = try Fixtures.library.get()
        let target = try Target(application.command).ready()
        var count = 0
        while target.isAlive, !target.text.hasSuffix(application.result), count < (isTorture ? 1000 : 15) {
            do { try target.inject(library) } catch {
                guard !target.isAlive || target.text.hasSuffix(application.result) else { throw error }
                break
            }
            count += 1
        }
        #expect(target.end() == 0)
        #expect(target.text.hasSuffix(application.result), "\(target.text)")
        #expect(count > 0)
        print("\(application.testDescription): \(count) injections")
    }

    @Test(arguments: [false, true]) func redis(jemalloc: Bool) throws {
        guard access("/usr/bin/redis-server", X_OK) == 0 else {
            print("SKIPPED: redis-server is not installed")
            return
        }
        let library = try Fixtures.library.get()
        let port = 17000 + Int(getpid()) % 2000 + (jemalloc ? 1 : 0)
        let target = try Target(
            ["/usr/bin/redis-server", "--port", "\(port)", "--save", "", "--dir", "/tmp", "--loglevel", "notice"],
            environment: jemalloc ? ["LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"] : []
        ).ready("eady to accept")
        let before = target.snapshot()
        let load = try Target([
            "/usr/bin/redis-benchmark", "-p", "\(port)", "-q", "-n", "100000", "-t", "set,get,lpush",
        ])
        for _ in 0..<(isTorture ? 800 : 10) { try target.inject(library) }
        #expect(load.end() == 0)
        #expect(!load.text.contains("rror"), "\(load.text)")
        #expect(eventually { target.snapshot().files == before.files })
        // jemalloc starts threads of its own when an arena comes into use.
        let others = target.snapshot().threads.filter { thread in
            let name = try? String(contentsOfFile: "/proc/\(target.pid)/task/\(thread)/comm", encoding: .utf8)
            return name != "jemalloc_bg_thd\n" || before.threads.contains(thread)
        }
        #expect(others == before.threads)
        #expect(target.end(SIGTERM) == 0)
    }
}
