import Foundation
import JIT
import Testing

private typealias Function = @convention(c) (UInt64, UInt64) -> UInt64

@Suite struct ExecutionTests {
    /// a * 2 - b by a loop that calls a function, with a constant read from behind the code.
    @Test func codeRuns() throws {
        var assembler = Assembler(try CodeBuffer.map(capacity: 4096))
        let (loop, helper, word) = (assembler.makeLabel(), assembler.makeLabel(), assembler.makeLabel())
        assembler.push(.rbx)
        assembler.mov(.rbx, 0)
        assembler.mov(.rcx, 2)
        assembler.bind(loop)
        assembler.call(helper)
        assembler.alu(.sub, .rcx, 1)
        assembler.jump(.notEqual, loop)
        assembler.alu(.sub, .rbx, .rsi)
        assembler.load(.rax, .label(word))
        assembler.alu(.add, .rax, .rbx)
        assembler.pop(.rbx)
        assembler.ret()
        assembler.bind(helper)
        assembler.alu(.add, .rbx, .rdi)
        assembler.ret()
        assembler.bind(word)
        assembler.data(1 << 40)
        let code = try assembler.finalize()
        let function = unsafeBitCast(UInt(code.address), to: Function.self)
        #expect(function(100, 30) == 170 + 1 << 40)
        #expect(function(0, 1) == (1 << 40) &- 1)
        withExtendedLifetime(code.count) {}
    }

    /// The pages are writable before, executable after, and never both.
    @Test func pagesAreNeverWritableAndExecutable() throws {
        var buffer = try CodeBuffer.map(capacity: 10_000)
        buffer.append(0xc3)
        let address = buffer.address
        let before = try protection(address)
        #expect(before == "rw-p")
        let code = try buffer.finalize()
        #expect(code.address == address)
        let after = try protection(address)
        #expect(after == "r-xp")
        drop(code)
        let unmapped = try protection(address)
        #expect(unmapped != "r-xp")
    }

    private func drop(_ code: consuming ExecutableMemory) {}

    /// The permissions of the mapping that holds an address; nil where there is none.
    private func protection(_ address: UInt64) throws -> String? {
        // Files in /proc have no size, so this one is read to its end.
        let maps = try FileHandle(forReadingFrom: URL(filePath: "/proc/self/maps")).readToEnd() ?? Data()
        for line in String(decoding: maps, as: UTF8.self).split(separator: "\n") {
            let fields = line.split(separator: " ")
            let range = fields[0].split(separator: "-").compactMap { UInt64($0, radix: 16) }
            if range[0] <= address, address < range[1] { return String(fields[1]) }
        }
        return nil
    }
}
