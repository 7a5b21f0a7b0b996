import CLinux
import Testing

@testable import Inject

/// What filters say of system calls, computed by hand; `AttachTests.filteredProcesses` asks the kernel.
struct SeccompFilterTests {
    private func filter(_ instructions: [(UInt16, UInt8, UInt8, UInt32)]) -> SeccompFilter {
        SeccompFilter(
            instructions.map { clinux_filter_instruction(code: $0.0, jt: $0.1, jf: $0.2, k: $0.3) }
        )
    }

    private let allow: (UInt16, UInt8, UInt8, UInt32) = (0x06, 0, 0, 0x7fff_0000)
    private let refuse: (UInt16, UInt8, UInt8, UInt32) = (0x06, 0, 0, 0x0005_0001)

    /// `if (call == 10 && arguments[2] & 4) return EPERM;`, as service managers forbid executable memory.
    @Test func argumentsAreLookedAt() {
        let noExec = filter([
            (0x20, 0, 0, 0), (0x15, 0, 3, 10), (0x20, 0, 0, 32), (0x45, 0, 1, 4), refuse, allow,
        ])
        let obstacle = SeccompFilter.obstacle([noExec], SeccompFilter.Call.needed)
        #expect(obstacle == "mprotect to executable")
        #expect(SeccompFilter.obstacle([], SeccompFilter.Call.needed) == nil)
        let logs = filter([(0x06, 0, 0, 0x7ffc_0000)])
        #expect(SeccompFilter.obstacle([logs], SeccompFilter.Call.needed) == nil)
        // The strictest of several decides.
        #expect(SeccompFilter.obstacle([logs, noExec], SeccompFilter.Call.needed) == obstacle)
    }

    @Test func architectureAndWideArguments() {
        let call = SeccompFilter.Call(number: 7, name: "call", arguments: [0x1234_5678_9abc_def0, 5])
        let equals = { (offset: UInt32, value: UInt32) in
            self.filter([(0x20, 0, 0, offset), (0x15, 0, 1, value), self.allow, self.refuse]).allows(call)
        }
        #expect(equals(0, 7) && equals(4, 0xc000_003e) && equals(16, 0x9abc_def0) && equals(20, 0x1234_5678))
        #expect(equals(24, 5) && equals(28, 0) && equals(32, 0) && !equals(0, 8))
    }

    /// Each with A = 12 and the operand 5 from X, compared with the result.
    @Test(
        arguments: [
            (0x0c, 17), (0x1c, 7), (0x2c, 60), (0x3c, 2), (0x4c, 13), (0x5c, 4), (0x6c, 384), (0x7c, 0), (0xac, 9),
            (0x84, -12),
        ] as [(UInt16, Int32)]
    )
    func arithmetic(_ code: UInt16, _ result: Int32) {
        let program = filter([
            (0x00, 0, 0, 5), (0x07, 0, 0, 0), (0x00, 0, 0, 12), (code, 0, 0, 0), (0x02, 0, 0, 3), (0x00, 0, 0, 0),
            (0x60, 0, 0, 3), (0x15, 0, 1, UInt32(bitPattern: result)), allow, refuse,
        ])
        #expect(program.allows(SeccompFilter.Call(number: 0, name: "")))
    }

    @Test func nonsenseForbids() {
        let call = SeccompFilter.Call(number: 0, name: "")
        #expect(!filter([]).allows(call))
        #expect(!filter([(0xff, 0, 0, 0), allow]).allows(call))
        #expect(!filter([(0x34, 0, 0, 0), allow]).allows(call), "a division by zero")
        #expect(!filter([(0x05, 0, 0, 9), allow]).allows(call), "a jump out of the program")
    }
}
