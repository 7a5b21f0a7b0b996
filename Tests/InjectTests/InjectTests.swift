import CLinux
import Foundation
import Symbols
import Testing

@testable import Inject

/// Injections into real processes, which must not notice.
@Suite(.serialized) struct InjectTests {
    let library: String

    init() throws { library = try Fixtures.library.get() }

    /// Mappings but those that malloc itself makes for a new thread: a heap of 64 MB, all of it reserved.
    private func withoutHeaps(_ maps: [String]) -> [String] {
        maps.filter { line in
            let fields = line.split(separator: " ", omittingEmptySubsequences: true)
            guard fields.count == 5 || line.hasSuffix("[heap]") else { return true }
            if line.hasSuffix("[heap]") { return false }
            let range = fields[0].split(separator: "-").compactMap { UInt64($0, radix: 16) }
            return range.count != 2 || (range[0] % (64 << 20) != 0 && range[1] % (64 << 20) != 0)
        }
    }

    @Test func nothingIsLeftButTheLibrary() throws {
        let target = try Target([Fixtures.program("allocate"), "3", "0"]).ready()
        let quiet = try Target([Fixtures.program("allocate"), "0", "0"]).ready()
        let before = quiet.snapshot()
        let first = try quiet.inject(library)
        #expect(first.text == "pid \(quiet.pid) tls 42 usr1 1 trap 0")
        #expect(!first.injected.wasResident)
        // The thread that gave the memory back ends a moment after it.
        #expect(eventually { quiet.snapshot().threads == before.threads })
        let after = quiet.snapshot()
        #expect(after.files == before.files)
        #expect(after.threads == before.threads)
        #expect(after.signals == before.signals)
        #expect(withoutHeaps(after.maps).filter { !$0.contains("libserve.so") } == withoutHeaps(before.maps))
        #expect(after.maps.filter { $0.contains("libserve.so") }.count == 5)
        for _ in 0..<20 {
            let again = try quiet.inject(library)
            #expect(again.injected.wasResident)
            #expect(again.text == first.text)
        }
        // Not one byte more: the second thread takes over the cache and the heap that the first one used.
        #expect(eventually { quiet.snapshot() == after })
        let busy = target.snapshot()
        for _ in 0..<10 { try target.inject(library) }
        #expect(target.snapshot().files == busy.files)
        #expect(eventually { target.snapshot().threads == busy.threads })
        #expect(target.end(SIGTERM) == 0)
        #expect(quiet.end(SIGTERM) == 0)
        #expect(quiet.text == "ready\nwrong 0\n")
    }

    @Test func whileTheLibraryServes() throws {
        let target = try Target([Fixtures.program("allocate"), "0", "0"]).ready()
        let before = target.snapshot()
        let injected = try Injector(Injector.inspect(pid: target.pid)).inject(libraryPath: library)
        let socket = injected.socket
        defer { close(socket) }
        #expect(clinux_peer_pid(socket) == target.pid)
        // One thread, one descriptor of a high number.
        #expect(eventually { threadNumbers(target.pid).count == 2 })
        let files = Set(target.snapshot().files).subtracting(before.files).compactMap { Int($0) }
        #expect(files.count == 1 && files.allSatisfy { $0 >= 100 })
        let second = try target.inject(library)
        #expect(second.injected.wasResident)
        #expect(eventually { threadNumbers(target.pid).count == 2 })
    }

    @Test func sixteenThreadsThatAllocate() throws {
        let target = try Target([Fixtures.program("allocate"), "16", "1"]).ready()
        let before = target.snapshot()
        let count = isTorture ? 1000 : 20
        var stopped: [UInt64] = []
        for _ in 0..<count { stopped.append(try target.inject(library).injected.stoppedNanoseconds) }
        #expect(eventually { target.snapshot().threads == before.threads })
        #expect(target.snapshot().files == before.files)
        #expect(target.end(SIGTERM) == 0)
        #expect(target.text == "ready\nwrong 0\n")
        print(
            "\(count) injections, 17 busy threads: stopped \(median(stopped) / 1000) us, at most \((stopped.max() ?? 0) / 1000) us"
        )
    }

    @Test(arguments: [
        "nanosleep", "poll", "select", "futex", "epoll_wait", "epoll_pwait", "sigtimedwait", "semtimedop", "recv",
        "read",
    ]) func asleepIn(_ call: String) throws {
        let target = try Target([Fixtures.program("sleep"), call, isTorture ? "10" : "2"]).ready()
        var count = 0
        while target.isAlive, !target.text.contains("interrupted") {
            do { try target.inject(library) } catch let error as InjectError {
                // It may have begun to end: its threads can no longer be stopped then, and it is gone in a moment.
                guard [.noProcess, .targetEnded, .failed, .busy].contains(error.kind), eventually({ !target.isAlive })
                else { throw error }
            } catch { guard eventually({ !target.isAlive }) else { throw error } }
            count += 1
        }
        #expect(count > 1)
        #expect(target.end() == 0)
        #expect(target.text == "ready\ninterrupted 0 early 0\n", "\(count) injections")
    }

    /// A handler that runs still ends the call.
    @Test func theHandlersInterruption() throws {
        let target = try Target([Fixtures.program("sleep"), "alarm", isTorture ? "10" : "3"]).ready()
        while target.isAlive, !target.text.contains("interrupted") { _ = try? target.inject(library) }
        #expect(target.end() == 0)
        #expect(target.text.contains("interrupted 0 early 0"))
    }

    @Test(arguments: [("dlopen", 0), ("malloc", 0), ("signals", 2), ("ignore", 1)])
    func mainThreadIn(_ kind: String, trap: Int) throws {
        let target = try Target([Fixtures.program("hold"), kind, "3"]).ready()
        var count = 0
        while target.isAlive, !target.text.contains("trap") {
            do { try target.inject(library) } catch { guard !target.isAlive else { throw error } }
            count += 1
        }
        #expect(count > 0)
        #expect(target.end() == 0)
        #expect(target.text.hasSuffix("trap \(trap)\n"), "\(target.text)")
    }

    @Test func mainThreadWithTheStdioLock() throws {
        let target = try Target([Fixtures.program("hold"), "stdio", "2"]).ready()
        while target.isAlive {
            do { try target.inject(library) } catch { guard !target.isAlive else { throw error } }
        }
        #expect(target.end() == 0)
        let lines = target.text.split(separator: "\n").dropFirst()
        #expect(lines.count > 100)
        #expect(lines.enumerated().allSatisfy { $1.utf8.count == 4001 && $1.utf8.first == UInt8(48 + $0 % 5) })
    }

    @Test func objectsPerThread() throws {
        let target = try Target([Fixtures.program("threadlocal"), "3"]).ready()
        var count = 0
        while target.isAlive, !target.text.contains("wrong") {
            do { try target.inject(library) } catch { guard !target.isAlive else { throw error } }
            count += 1
        }
        #expect(count > 0)
        #expect(target.end() == 0)
        #expect(target.text == "ready\nwrong 0 left 0\n")
    }

    @Test(
        .enabled(
            if: access("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", R_OK) == 0,
            "SKIPPED: libjemalloc2 is not installed"
        )
    )
    func anotherAllocator() throws {
        let target = try Target(
            [Fixtures.program("allocate"), "4", "1"],
            environment: ["LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"]
        ).ready()
        for _ in 0..<(isTorture ? 300 : 10) { try target.inject(library) }
        #expect(target.end(SIGTERM) == 0)
        #expect(target.text == "ready\nwrong 0\n")
    }

    /// The first thread of the process has ended; the others are the process.
    @Test func withoutItsFirstThread() throws {
        let target = try Target([Fixtures.program("hold"), "leave"]).ready()
        #expect(eventually { TargetStatus.read(pid: target.pid)?.state == "Z" })
        let said = try target.inject(library).text
        #expect(said == "pid \(target.pid) tls 42 usr1 1 trap 0")
        #expect(target.end() == 0)
        #expect(target.text.hasSuffix("alone\n"))
    }

    /// In a mount namespace where the library's path leads to nothing, it comes through a memory file.
    @Test(.enabled(if: geteuid() == 0, "SKIPPED: only root makes mount namespaces"))
    func inAnotherRoot() throws {
        let hidden = NSTemporaryDirectory() + "inject-hidden-\(getpid())"
        mkdir(hidden, 0o755)
        let library = "\(hidden)/libserve.so"
        try FileManager.default.copyItem(atPath: self.library, toPath: library)
        defer { try? FileManager.default.removeItem(atPath: hidden) }
        let target = try Target([
            "/usr/bin/unshare", "-m", "/bin/sh", "-c",
            "mount -t tmpfs none \(hidden) && exec \(Fixtures.program("allocate")) 2 0",
        ]).ready()
        let before = target.snapshot()
        for round in 0..<5 {
            let result = try target.inject(library)
            #expect(result.injected.wasResident == (round > 0))
            #expect(result.text.hasSuffix("tls 42 usr1 1 trap 0"))
        }
        #expect(target.snapshot().files == before.files)
        #expect(target.snapshot().maps.contains { $0.contains("memfd:libserve.so") })
        #expect(target.end(SIGTERM) == 0)
    }
}
