import JIT
import Testing

@Suite struct AssemblerTests {
    private func assembler(_ capacity: Int = 4096) throws -> Assembler {
        Assembler(try CodeBuffer.map(capacity: capacity))
    }

    /// What the assembler writes is what capstone reads, for every form with random operands.
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func randomFormsReadBack(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var assembler = try assembler(1 << 16)
        var expected: [String] = []
        for _ in 0..<1000 { expected.append(appendRandom(&assembler, &random)) }
        let read = capstone(assembler.buffer.bytes)
        #expect(read.count == expected.count)
        for (want, have) in zip(expected, read) { try #require(normalized(have.text) == want) }
    }

    @Test func labelsReadBack() throws {
        var assembler = try assembler()
        let start = assembler.makeLabel()
        let end = assembler.makeLabel()
        let word = assembler.makeLabel()
        assembler.bind(start)
        assembler.jump(end)
        for condition in Condition.allCases { assembler.jump(condition, start) }
        assembler.jumpShort(end)
        assembler.call(start)
        assembler.jump(.label(word))
        assembler.call(.label(word))
        assembler.load(.r9, .label(word))
        assembler.store(.label(word), .rax)
        assembler.lea(.rdi, .label(word))
        assembler.bind(end)
        assembler.ret()
        assembler.bind(word)
        assembler.data(0x1122_3344_5566_7788)
        try assembler.resolve()
        let code = assembler.buffer.bytes
        let read = capstone(Array(code.dropLast(8)), at: 0)
        let endOffset = code.count - 9
        let jumps = [
            "jo", "jno", "jb", "jae", "je", "jne", "jbe", "ja", "js", "jns", "jp", "jnp", "jl", "jge", "jle", "jg",
        ]
        var expected = ["jmp 0x\(String(endOffset, radix: 16))"] + jumps.map { "\($0) 0" }
        expected += ["jmp 0x\(String(endOffset, radix: 16))", "call 0"]
        #expect(read.prefix(expected.count).map(\.text) == expected)
        // Everything that refers to the word by rip reaches it.
        var offset = 0
        var reached = 0
        for instruction in read {
            offset += instruction.length
            guard let at = instruction.text.firstRange(of: "[rip + ") else { continue }
            let number = instruction.text[at.upperBound...].prefix { $0 != "]" }
            let distance = number.hasPrefix("0x") ? Int(number.dropFirst(2), radix: 16) : Int(number)
            #expect(offset + (distance ?? 0) == endOffset + 1, "\(instruction.text)")
            reached += 1
        }
        #expect(reached == 5)
    }

    @Test(arguments: 1...30)
    func nopsHaveTheirLength(_ count: Int) throws {
        var assembler = try assembler()
        assembler.nop(count)
        let read = capstone(assembler.buffer.bytes)
        #expect(read.map(\.length).reduce(0, +) == count)
        #expect(read.allSatisfy { $0.text.hasPrefix("nop") })
    }

    @Test func mistakesAreReported() throws {
        var unbound = try assembler()
        let label = unbound.makeLabel()
        unbound.jump(label)
        #expect(throws: CodeError.unboundLabel(index: 0)) { try unbound.resolve() }

        var far = try assembler()
        let end = far.makeLabel()
        far.jumpShort(end)
        far.nop(128)
        far.bind(end)
        #expect(throws: CodeError.tooFar(offset: 1, bytes: 1)) { try far.resolve() }

        var full = try CodeBuffer.map(capacity: 1)
        for _ in 0...full.capacity { full.append(0x90) }
        let capacity = full.capacity
        do {
            _ = try full.finalize()
            Issue.record("no error")
        } catch {
            #expect(error == .full(capacity: capacity))
        }

        var distant = try assembler()
        #expect(throws: CodeError.self) { try distant.jump(absolute: distant.buffer.address ^ 1 << 46) }
    }
}
