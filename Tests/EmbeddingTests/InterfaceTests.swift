import CRuntime
import CUBPF
import Testing

@testable import Embedding

/// What the header and the code must agree on; behaviour is tested from C (Tests/C/embedding.c).
@Suite struct InterfaceTests {
    @Test func numbersAreTheHeaders() {
        #expect(UInt32(UBPF_MAX_HELPERS) == UInt32(CRUNTIME_USER_HELPERS))
        #expect(ubpf_version() == UBPF_VERSION)
    }

    @Test func aVMFitsItsPage() {
        #expect(Machine.stateOffset + MemoryLayout<VirtualMachine>.size <= 4096)
        #expect(Machine.stateOffset % MemoryLayout<VirtualMachine>.alignment == 0)
    }

    @Test func textsOfLongNamesFit() throws {
        let machine = try #require(Machine.create())
        defer { machine.destroy() }
        let name = [UInt8](repeating: UInt8(ascii: "\n"), count: 4000)
        machine.setText(.takesAddress(name[...], name[...], 1))
        let text = String(cString: machine.text)
        #expect(text.utf8.count > 100 && text.utf8.count < 256)
        #expect(!text.contains("\n"))
        machine.clearText()
        #expect(String(cString: machine.text).isEmpty)
    }
}
