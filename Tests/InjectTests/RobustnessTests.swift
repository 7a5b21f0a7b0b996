import CLinux
import Foundation
import Symbols
import Testing

@testable import Inject

/// What goes wrong midway leaves the target as it was.
@Suite(.serialized) struct RobustnessTests {
    private func failure(_ target: Target, _ library: String) -> InjectError? {
        do throws(InjectError) {
            let injected = try Injector(Injector.inspect(pid: target.pid)).inject(libraryPath: library)
            close(injected.socket)
            return nil
        } catch {
            return error
        }
    }

    @Test func aLibraryThatDoesNotLoad() throws {
        let target = try Target([Fixtures.program("allocate"), "0", "0"]).ready()
        for library in [try Fixtures.unloadable.get(), try Fixtures.unservable.get()] {
            _ = failure(target, library)  // malloc's heap for a second thread
            let before = target.snapshot()
            let error = try #require(failure(target, library))
            #expect(error.code == "U131")
            #expect(error.why.contains("absent") || error.why.contains("ubpf_serve"), "\(error)")
            #expect(error.help == "the target runs on as before")
            #expect(eventually { target.snapshot() == before })
        }
        #expect(failure(target, "/nonexistent.so")?.code == "U123")
        #expect(target.end(SIGTERM) == 0)
    }

    /// Limits that stop it: no address space, no descriptors.
    @Test(arguments: [("--as=", "mmap failed"), ("--nofile=3", "no sockets")]) func limits(
        _ flag: String,
        _ step: String
    ) throws {
        let target = try Target([Fixtures.program("allocate"), "0", "0"]).ready()
        let size = target.lines("status").first { $0.hasPrefix("VmSize") }?.split(separator: " ").compactMap { Int($0) }
            .first
        let limit = Process()
        limit.executableURL = URL(fileURLWithPath: "/usr/bin/prlimit")
        let value = flag == "--as=" ? "\(flag)\((try #require(size) + 300) << 10):" : "\(flag):"
        limit.arguments = ["--pid", "\(target.pid)", value]
        try limit.run()
        limit.waitUntilExit()
        #expect(limit.terminationStatus == 0)
        let before = target.snapshot()
        let error = try #require(failure(target, try Fixtures.library.get()))
        #expect(error.code == "U131")
        #expect(error.message.contains(step), "\(error)")
        #expect(eventually { target.snapshot() == before })
        #expect(target.end(SIGTERM) == 0)
    }

    /// A target that is killed, or calls exec, at any moment: an error or a success, and soon.
    @Test func targetsThatEnd() throws {
        let library = try Fixtures.library.get()
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<(isTorture ? 200 : 2) {
            let target = try Target([Fixtures.program("allocate"), "4", "1"]).ready()
            let delay = UInt32.random(in: 0..<60_000, using: &generator)
            let pid = target.pid
            let killer = Thread {
                usleep(delay)
                kill(pid, SIGKILL)
            }
            killer.start()
            let started = clinux_now()
            for _ in 0..<(isTorture ? 50 : 10) {
                guard let error = failure(target, library) else { continue }
                #expect([.noProcess, .targetEnded, .failed, .busy, .notPermitted].contains(error.kind), "\(error)")
                break
            }
            #expect(clinux_now() - started < 20_000_000_000)
            #expect(target.end(SIGKILL) == SIGKILL)
        }
        let target = try Target([Fixtures.program("hold"), "exec", "3"]).ready()
        var successes = 0
        var attempts = 0
        while target.isAlive, !target.text.contains("done"), attempts < (isTorture ? 1000 : 2) {
            attempts += 1
            if failure(target, library) == nil { successes += 1 }
        }
        // It says "ready" each time: somebody has to read that.
        while target.isAlive, !target.text.contains("done") { usleep(10_000) }
        #expect(target.end() == 0)
        print("a target that execs all the time: \(successes) injections")
    }

    /// SIGKILL for the injector at any moment.
    @Test func injectorsThatAreKilled() throws {
        let library = try Fixtures.library.get()
        let target = try Target([Fixtures.program("allocate"), "2", "1"]).ready()
        let before = target.snapshot()
        for _ in 0..<(isTorture ? 200 : 12) {
            let driver = try Target([Fixtures.driver, "\(target.pid)", library, "100000"])
            usleep(UInt32.random(in: 20_000..<300_000))
            let status = driver.end(SIGKILL)
            // The one before may still be finishing what it began, under its shield.
            #expect(status == SIGKILL || driver.text.contains("U107"), "\(driver.text)")
            #expect(target.isAlive)
        }
        #expect(eventually(seconds: 20) { target.snapshot().threads == before.threads })
        #expect(eventually { target.snapshot().files == before.files })
        // What the last one began may only now come to its end.
        #expect(
            eventually(seconds: 20) {
                !threadNumbers(target.pid).contains { (TargetStatus.read(pid: $0)?.tracer ?? 0) != 0 }
            }
        )
        #expect(target.snapshot().signals == before.signals)
        // The injector's block would be the only executable memory without a file.
        #expect(
            eventually(seconds: 20) {
                !target.lines("maps").contains { $0.contains("r-xp") && $0.split(separator: " ").count == 5 }
            }
        )
        #expect(target.end(SIGTERM) == 0)
        #expect(target.text == "ready\nwrong 0\n")
    }

    @Test func threadsThatBlockTraps() throws {
        let target = try Target([Fixtures.program("hold"), "blocked", "20"]).ready()
        #expect(eventually { ThreadAudit.threads(of: target.pid).count == 1 })
        let blocking = ThreadAudit.threads(of: target.pid)
        #expect(!blocking.contains(target.pid))
        do {
            let held = try StoppedThreads(pid: target.pid, threads: blocking + [1 << 22])
            let threads = held.threads
            #expect(threads == blocking)
            #expect(TargetStatus.read(pid: blocking[0])?.state == "t")
            #expect(TargetStatus.read(pid: target.pid)?.state == "R")
            let place = held.instructionPointer(of: blocking[0])
            usleep(50_000)
            let later = held.instructionPointer(of: blocking[0])
            #expect(later == place)
        }
        #expect(eventually { TargetStatus.read(pid: blocking[0])?.state == "R" })
        #expect(TargetStatus.read(pid: blocking[0])?.tracer == 0)
    }

    /// A handler that runs ends the call of a thread that was stopped in it, with a seccomp filter and without a stop alike.
    @Test func aSignalForAFilteredThread() throws {
        let target = try Target([Fixtures.program("hold"), "filtered"]).ready()
        #expect(eventually { TargetThread.all(of: target.pid).first?.call == 7 })
        do {
            let held = try StoppedThreads(pid: target.pid, threads: [target.pid])
            let threads = held.threads
            #expect(threads == [target.pid])
        }
        // A stop alone does not end it.
        usleep(50_000)
        #expect(eventually { TargetThread.all(of: target.pid).first?.call == 7 })
        do {
            let held = try StoppedThreads(pid: target.pid, threads: [target.pid])
            kill(target.pid, SIGUSR1)
            let threads = held.threads
            #expect(threads == [target.pid])
        }
        #expect(eventually { target.text.hasSuffix("handled 1\n") })
        #expect(target.end() == 0)
    }

    /// Where a handler will return to counts as where its thread stands.
    @Test func aHandlerThatInterruptedAFunction() throws {
        let target = try Target([Fixtures.program("hold"), "interrupted"]).ready()
        let text = target.text.split(separator: " ").last?.dropFirst(2).dropLast() ?? ""
        let function = try #require(UInt64(text, radix: 16))
        #expect(eventually { TargetThread.all(of: target.pid).first?.call == 230 })
        /// Whether the only thread stands, or will stand, in these bytes.
        func isInside(_ size: UInt64) throws -> Bool {
            let held = try StoppedThreads(pid: target.pid, threads: [target.pid])
            return held.isInside([function..<function + size])
        }
        #expect(try isInside(5))
        // It will come back to the third byte.
        #expect(try !isInside(2))
        kill(target.pid, SIGUSR1)
        #expect(eventually { (try? isInside(5)) == false })
        #expect(target.end(SIGKILL) == SIGKILL)
    }

    @Test func aThreadThatIsMoved() throws {
        let target = try Target([Fixtures.program("hold"), "spin", "20"]).ready()
        let text = target.text.split(separator: " ").last?.dropFirst(2).dropLast() ?? ""
        let function = try #require(UInt64(text, radix: 16))
        #expect(eventually { threadNumbers(target.pid).count == 2 })
        let spinning = threadNumbers(target.pid).filter { $0 != target.pid }
        do {
            var held = try StoppedThreads(pid: target.pid, threads: spinning)
            let moved = held.move(spinning[0], to: function)
            #expect(moved)
        }
        #expect(target.end() == 7 << 8)
        #expect(target.text.hasSuffix("moved\n"))
    }
}
