import CSession
import EngineSupport
import ISA
import Runtime
import Testing
import UBPFVM

/// What the table of helpers says is what engines do.
@Suite(EngineTrait(SessionEngine.allCases)) struct HelperTableTests {
    /// A call without sensible arguments ends in some way, but never as if the helper did not exist.
    @Test func everyHelper() throws {
        for helper in Helper.allCases {
            let isThere: Bool
            let isAllowed: Bool
            switch helper.support {
            case .implemented: (isThere, isAllowed) = (true, true)
            // This session's user allowed nothing.
            case .optional: (isThere, isAllowed) = (true, false)
            case .refused: (isThere, isAllowed) = (false, false)
            }
            #expect(isHelperImplemented(helper.rawValue) == isThere, "\(helper.name)")
            let fixture = try SessionFixture()
            fixture.task.pid = 8
            let zeros: [Statement] = [.mov64(.r1, 0), .mov64(.r2, 0), .mov64(.r3, 0), .mov64(.r4, 0), .mov64(.r5, 0)]
            try fixture.add(zeros + [.call(helper), .mov64(.r0, 0), .exit])
            var kind = TrapKind.none
            do throws(Trap) { _ = try fixture.run() } catch { kind = error.kind }
            #expect((kind != .unknownHelper) == isAllowed, "\(helper.name): \(kind)")
        }
    }
}
