import Foundation
import Testing

@testable import Inject

@Suite struct TargetStatusTests {
    @Test func thisProcess() throws {
        let status = try #require(TargetStatus.read(pid: getpid()))
        #expect(status.effectiveUser == geteuid())
        #expect(status.threads >= 1)
        #expect(status.tracer == 0)
        #expect("RS".contains(status.state))
    }

    @Test func nobody() {
        #expect(TargetStatus.read(pid: 1 << 22) == nil)
    }

    @Test func aZombie() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", "sleep 0 & exec sleep 2"]
        try process.run()
        defer {
            process.terminate()
            process.waitUntilExit()
        }
        var zombie: TargetStatus?
        for _ in 0..<200 where zombie == nil {
            usleep(10_000)
            let children =
                (try? String(
                    contentsOfFile: "/proc/\(process.processIdentifier)/task/\(process.processIdentifier)/children",
                    encoding: .utf8
                )) ?? ""
            zombie = children.split(separator: " ").compactMap { Int32($0) }.compactMap { TargetStatus.read(pid: $0) }
                .first { $0.state == "Z" }
        }
        #expect(try #require(zombie).obstacle(user: 0, yamaScope: 0)?.why.contains("zombie") == true)
    }

    private func status(tracer: Int = 0, user: Int = 1000) throws -> TargetStatus {
        let text =
            "Name:\tnginx\nState:\tS (sleeping)\nUid:\t0\t\(user)\t0\t0\nThreads:\t4\nTracerPid:\t\(tracer)\nSigBlk:\t0000000000000010\n"
        return try #require(TargetStatus(pid: 812, text: text))
    }

    @Test func oneTrueCause() throws {
        #expect(try status().obstacle(user: 1000, yamaScope: 0) == nil)
        #expect(try status(user: 33).obstacle(user: 1000, yamaScope: 0)?.why == "it runs as uid 33, you are uid 1000")
        #expect(try status(user: 33).obstacle(user: 0, yamaScope: 0) == nil)
        #expect(try status(tracer: 90).obstacle(user: 0, yamaScope: 0)?.why == "it is already traced by pid 90")
        #expect(try status().obstacle(user: 1000, yamaScope: 1)?.why.contains("ptrace_scope=1") == true)
        #expect(try status().obstacle(user: 0, yamaScope: 3)?.why.contains("ptrace_scope=3") == true)
        #expect(try status().blockedSignals == 0x10)
        #expect(TargetStatus(pid: 1, text: "nonsense") == nil)
    }
}
