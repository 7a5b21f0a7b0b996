import CLinux
import Foundation
import Testing

@testable import Inject

/// What cannot be attached to is refused before it is touched, with the cause and what helps.
@Suite(.serialized) struct RefusalTests {
    private func refusal(_ pid: Int32) -> InjectError? {
        do throws(InjectError) {
            _ = try Injector.inspect(pid: pid)
            return nil
        } catch {
            return error
        }
    }

    /// Every text: `error[CODE]`, why, help.
    private func expect(_ pid: Int32, _ code: String, why: String, help: String) {
        guard let error = refusal(pid) else {
            Issue.record("pid \(pid) was not refused")
            return
        }
        #expect(error.code == code)
        #expect(error.why.contains(why), "\(error)")
        #expect(error.help.contains(help), "\(error)")
        #expect(error.description.hasPrefix("error[\(code)]: cannot attach to pid \(pid)"))
    }

    @Test func noProcess() {
        for pid in [Int32(0), -5, 1 << 22] {
            let error = refusal(pid)
            #expect(error?.code == "U106")
            #expect(error?.message == "no process \(pid)")
        }
    }

    @Test func ownProcess() { expect(getpid(), "U001", why: "ubpfrun itself", help: "another process") }

    @Test func kernelThread() throws {
        guard TargetStatus.read(pid: 2)?.name == "kthreadd" else {
            print("SKIPPED: pid 2 is no kernel thread here (a PID namespace)")
            return
        }
        expect(2, "U108", why: "'kthreadd' is a kernel thread", help: "--backend kernel")
    }

    @Test func zombie() throws {
        let target = try Target(["/bin/true"])
        #expect(eventually { TargetStatus.read(pid: target.pid)?.state == "Z" })
        expect(target.pid, "U106", why: "zombie", help: "reap")
    }

    @Test func stopped() throws {
        let target = try Target([Fixtures.program("allocate"), "0", "0"]).ready()
        kill(target.pid, SIGSTOP)
        #expect(eventually { TargetStatus.read(pid: target.pid)?.state == "T" })
        expect(target.pid, "U107", why: "stopped (state T)", help: "kill -CONT \(target.pid)")
        kill(target.pid, SIGCONT)
        #expect(eventually { refusal(target.pid) == nil })
        #expect(target.end(SIGTERM) == 0)
    }

    @Test func traced() throws {
        let target = try Target([Fixtures.program("allocate"), "0", "0"]).ready()
        #expect(clinux_seize(target.pid, 0) == 0)
        expect(target.pid, "U107", why: "already traced by pid \(getpid())", help: "debugger")
        #expect(clinux_interrupt(target.pid) == 0)
        var signal: Int32 = 0
        #expect(
            clinux_wait_stop(target.pid, clinux_now() + 2_000_000_000, &signal) == Int32(clinux_stop_event.rawValue)
        )
        #expect(clinux_detach(target.pid, 0) == 0)
    }

    @Test(arguments: [
        (["-static"], "U102", "no PT_INTERP"), (["-static-pie", "-fPIE"], "U102", "static-pie"),
        (["-m32", "-nostdlib", "-static"], "U103", "only 64-bit"),
        (["-nostdlib", "-static", "-DGO"], "U102", "Go program without libc"),
        (["-Wl,--dynamic-linker=/tmp/ld-musl-x86_64.so.1"], "U104", "interpreter is /tmp/ld-musl-x86_64.so.1"),
        (["-Wl,--dynamic-linker=/tmp/loader.so"], "U104", "interpreter is /tmp/loader.so"),
    ])
    func otherPrograms(_ flags: [String], code: String, why: String) throws {
        let source = "\(Fixtures.directory)/plain.c"
        let text = """
            #ifdef GO
            __attribute__((section(".go.buildinfo"), used)) static const char info[32] = "Go buildinf:";
            #endif
            #if defined(GO) || !defined(__x86_64__)
            void _start(void) { for (;;) ; }
            #else
            #include <unistd.h>
            int main(void) { for (;;) pause(); }
            #endif
            """
        try Data(text.utf8).write(to: URL(fileURLWithPath: source))
        // A name of its own for each, and a loader under the name that is looked for.
        let name = "plain-\(flags.joined().hashValue.magnitude)"
        let program = try Fixtures.compile(name, flags + [source])
        for loader in ["/tmp/ld-musl-x86_64.so.1", "/tmp/loader.so"] {
            symlink("/lib64/ld-linux-x86-64.so.2", loader)
        }
        let target = try Target([program])
        #expect(eventually { executablePath(target.pid) == program || refusal(target.pid)?.code == code })
        #expect(eventually { refusal(target.pid)?.code == code })
        expect(target.pid, code, why: why, help: "--backend kernel")
        #expect(target.isAlive)
    }

    @Test func strictSeccomp() throws {
        let target = try Target([Fixtures.program("hold"), "strict"]).ready()
        #expect(eventually { TargetStatus.read(pid: target.pid)?.seccomp == 1 })
        expect(target.pid, "U130", why: "strict seccomp", help: "--backend kernel")
        #expect(target.isAlive)
    }

    /// The parent sleeps in the kernel until its child execs; the child lives in its parent's memory.
    @Test func vfork() throws {
        let target = try Target([Fixtures.program("hold"), "vfork"]).ready()
        var child: Int32?
        #expect(
            eventually {
                child = target.lines("task/\(target.pid)/children").first.flatMap { line in
                    line.split(separator: " ").first.flatMap { Int32($0) }
                }
                return child != nil
            }
        )
        expect(try #require(child), "U107", why: "vfork child", help: "exec")
        #expect(eventually { TargetStatus.read(pid: target.pid)?.state == "D" })
        let library = try Fixtures.library.get()
        do throws(InjectError) {
            _ = try Injector(Injector.inspect(pid: target.pid)).inject(libraryPath: library)
            Issue.record("it was not refused")
        } catch {
            #expect(error.code == "U107")
            #expect(error.why.contains("states D"), "\(error)")
        }
        #expect(target.end() == 0)
    }

    @Test(.enabled(if: geteuid() != 0, "SKIPPED: root may attach to all")) func otherUser() {
        expect(1, "U101", why: "it runs as uid 0, you are uid \(geteuid())", help: "sudo")
    }

    @Test(.enabled(if: geteuid() != 0, "SKIPPED: root may attach to all")) func notDumpable() throws {
        let target = try Target([Fixtures.program("hold"), "undumpable"]).ready()
        expect(target.pid, "U101", why: "not dumpable", help: "root")
    }

    /// Texts of causes that this machine cannot produce.
    @Test func texts() {
        #expect(InjectError.yama(7, scope: 1).why.contains("ptrace_scope=1 lets a process attach to its own children"))
        #expect(InjectError.yama(7, scope: 3).why.contains("forbids it to everyone"))
        #expect(InjectError.yama(7, scope: 2).code == "U101")
        #expect(InjectError.setuid(7, path: "/bin/su").code == "U105")
        #expect(InjectError.noThreads(7).why.contains("older than 2.34"))
        #expect(InjectError.unseenLibrary(7, "/x").why.contains("neither /x nor a /proc"))
        #expect(InjectError.ended(7).code == "U132")
        #expect(InjectError.filtered(7, reason: "its filter").code == "U130")
        #expect(InjectError.libraryMissing(7, "/x", reason: "gone").code == "U123")
    }
}
