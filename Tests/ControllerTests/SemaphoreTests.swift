import Foundation
import Testing

/// Static probes that a program goes round while their semaphores say that nobody looks.
@Suite(.enabled(if: Files.shared != nil, "dist/ has not been built: make build"))
struct SemaphoreTests {
    @Test func semaphoresCountWhoLooks() throws {
        let files = try #require(Files.shared)
        let shop = try Worker(files, ["asked"], program: "shop")
        defer { shop.end() }
        let look = ["\(files.directory)/k-staticlooked.bpf.c", "-j", "-p", "\(shop.pid)"]
        #expect(shop.say("?") == "0\n")
        let first = try Session(files, look)
        #expect(shop.say("?") == "1\n")
        let second = try Session(files, look)
        #expect(shop.say("?") == "2\n")
        // It hit three times while the first looked, twice for the second.
        #expect(shop.say("?") == "2\n")
        let records = first.interrupt()
        #expect(records.contains(#""calls":3"#), "\(records)")
        #expect(shop.say("?") == "1\n")
        second.kill()
        var seen = "1\n"
        for _ in 0..<200 where seen != "0\n" {
            usleep(10_000)
            seen = shop.say("?")
        }
        #expect(seen == "0\n")
        // Attached and detached many times: nothing adds up.
        for _ in 0..<5 {
            let again = try Session(files, look)
            #expect(shop.say("?") == "1\n")
            _ = again.interrupt()
            #expect(shop.say("?") == "0\n")
        }
        #expect(shop.end() == 5)
    }

    /// From its first moment on, where ubpfrun starts the program; and the exit code is the program's own.
    @Test func programsThatAreStarted() throws {
        let files = try #require(Files.shared)
        let result = try files.run([
            "\(files.directory)/k-staticcounted.bpf.c", "-j", "-q", "--", "\(files.directory)/shop",
        ])
        #expect(result.status == 5, "\(result.errors)")
        #expect(result.output.contains(#""calls":1"#), "\(result.output)")
    }
}
