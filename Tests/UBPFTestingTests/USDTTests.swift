import Foundation
import Testing
import UBPFTesting
import UBPFTestingTraits

/// Static probes' arguments, as libbpf's `usdt.bpf.h` reads them.
@Suite(
    .enabled(if: FileManager.default.fileExists(atPath: "/usr/include/bpf/usdt.bpf.h"), "libbpf-dev is not installed")
)
struct USDTTests {
    private static let bytes = Result {
        try Fixture.compile(
            "Tests/UBPFTestingTests/Fixtures/usdt.bpf.c",
            ["-I", Fixture.root.appending(path: "bpf/include").path, "-I", "/usr/include/x86_64-linux-gnu"]
        )
    }

    @Test(.engines(.interpreter, .checkedJIT, .jit)) func argumentsAreFound() throws {
        let object = try BPFObject(bytes: Self.bytes.get(), name: "usdt.bpf.o")
        try object.expectVerifies("on_probe")
        let vm = try VM(object)
        #expect(try vm.run("on_probe", .usdt(7, 0xffff_ffff, 0x7fff_0000_1000)).result == 0)
        let seen = try vm.variable("seen")
        // The second is an int.
        #expect(seen["values"] == [7, -1, 0x7fff_0000_1000])
        #expect(seen["count"] == 3)
        // -ENOENT
        #expect(seen["missing"] == -2)
        try vm.run("on_probe", .usdt())
        #expect(try vm.variable("seen")["count"] == 0)
        #expect(try vm.variable("seen")["values"] == [0, 0, 0])
        // Another place of the program, by its cookie.
        vm.world.cookie = 5
        try vm.run("on_probe", .usdt(1, 2, 3, 4))
        #expect(try vm.variable("seen").matches(["values": [1, 2, 3], "count": 4, "missing": 0]))
    }
}
