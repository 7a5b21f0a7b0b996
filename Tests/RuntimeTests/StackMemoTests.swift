import CRuntime
import CUnwind
import CWalkFixtures
import Foundation
import ISA
import Testing

@testable import Runtime

/// A thread's memory for stacks, as the agent gives it, and what became of it.
private final class MemoBench {
    let context = UnsafeMutablePointer<cruntime_context>.allocate(capacity: 1)
    private let rows: UnsafeMutableRawPointer
    private let memory: UnsafeMutableRawPointer
    /// Bounds of a stack that is not the thread's own.
    let bounds = UnsafeMutablePointer<UInt64>.allocate(capacity: 2)
    var hits = 0
    var walks = 0
    var problems: [String] = []

    init() {
        let rowBytes = UnwindRow.cacheCapacity * 16
        rows = .allocate(byteCount: rowBytes, alignment: 64)
        memory = .allocate(byteCount: Int(CRUNTIME_MEMO_BYTES), alignment: 64)
        rows.initializeMemory(as: UInt8.self, repeating: 0, count: rowBytes)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: Int(CRUNTIME_MEMO_BYTES))
        bounds.initialize(repeating: 0, count: 2)
        context.initialize(to: cruntime_context())
        context.pointee.rows = rows
        context.pointee.memo = memory
    }

    deinit {
        context.deallocate()
        rows.deallocate()
        bounds.deallocate()
        memory.deallocate()
    }

    var memo: StackMemo {
        guard let memo = StackMemo(context) else { fatalError("no memo") }
        return memo
    }

    func frames(_ regs: UnsafeMutablePointer<cruntime_regs>, capacity: Int = 127) -> [UInt64] {
        context.pointee.regs = regs
        var frames = [UInt64](repeating: 0, count: 127)
        let before = memo.header.pointee.hits
        frames.removeSubrange(collectFrames(context, into: &frames, capacity: capacity)...)
        if memo.header.pointee.hits != before { hits += 1 } else { walks += 1 }
        return frames
    }

    /// What a walk finds that remembers nothing.
    func walked(_ regs: UnsafeMutablePointer<cruntime_regs>, capacity: Int = 127) -> [UInt64] {
        var plain = cruntime_context()
        plain.regs = regs
        plain.walk_low = context.pointee.walk_low
        plain.walk_high = context.pointee.walk_high
        var frames = [UInt64](repeating: 0, count: 127)
        frames.removeSubrange(walkStack(&plain, into: &frames, capacity: capacity)...)
        return frames
    }

    func compare(_ regs: UnsafeMutablePointer<cruntime_regs>, capacity: Int = 127) {
        if bounds[1] != 0 {
            context.pointee.walk_low = bounds[0]
            context.pointee.walk_high = bounds[1]
        } else {
            walk_stack_bounds(&context.pointee.walk_low, &context.pointee.walk_high)
        }
        let ours = frames(regs, capacity: capacity)
        let expected = walked(regs, capacity: capacity)
        if ours != expected { problems.append("\(ours.map { hex($0) }), a walk finds \(expected.map { hex($0) })") }
    }

    private func hex(_ value: UInt64) -> String { String(value, radix: 16) }

    var pointer: UnsafeMutableRawPointer { Unmanaged.passUnretained(self).toOpaque() }
}

private let compareWithWalk: walk_callback = { regs, user in
    guard let user else { return }
    Unmanaged<MemoBench>.fromOpaque(user).takeUnretainedValue().compare(regs)
}

/// Stacks from a thread's memo against walks that remember nothing.
@Suite(.serialized) struct StackMemoTests {
    @Test func nestedFrames() {
        let bench = MemoBench()
        // Twice the same stacks, then others in between: recursion of varied depth through frames of all shapes.
        for round in 0..<6 {
            for depth in [0, 1, 3, 8, 20, 50, 100] {
                for seed in 0..<30 {
                    walk_nested(
                        Int32(depth),
                        UInt64(seed * 7919 + depth + round / 2),
                        compareWithWalk,
                        bench.pointer
                    )
                }
            }
        }
        #expect(bench.problems.prefix(3) == [])
        #expect(bench.hits > 500)
        #expect(bench.walks > 300)
    }

    @Test func libcThreadsAndSignals() {
        let bench = MemoBench()
        for _ in 0..<20 {
            // Each thread gets the stack of the last one, and this memo, as a thread gets a dead one's.
            for shape in [walk_in_qsort, walk_on_thread, walk_in_signal] { shape(compareWithWalk, bench.pointer) }
        }
        #expect(bench.hits + bench.walks == 60)
        #expect(bench.problems.prefix(3) == [])
        #expect(bench.hits > 19)
    }

    @Test func stacksOfContexts() {
        let bench = MemoBench()
        for _ in 0..<10 { walk_in_context(40, bench.bounds, bench.bounds + 1, compareWithWalk, bench.pointer) }
        #expect(bench.hits + bench.walks == 400)
        #expect(bench.problems.prefix(3) == [])
        #expect(bench.hits > 300)
    }

    /// A stack of frames with frame pointers and without unwind tables, in memory of the test's own.
    private final class MadeStack {
        let words = UnsafeMutablePointer<UInt64>.allocate(capacity: 1024)
        var regs = cruntime_regs()
        let bench = MemoBench()
        init(depth: Int) {
            words.initialize(repeating: 0, count: 1024)
            regs.rip = 0x10_0000
            regs.rsp = address(0)
            regs.rbp = address(4)
            for frame in 0..<depth {
                words[4 + frame * 4] = frame + 1 < depth ? address(8 + frame * 4) : 0
                words[5 + frame * 4] = 0x10_0000 + UInt64(frame)
            }
            bench.bounds[0] = address(0)
            bench.bounds[1] = address(1024)
        }
        deinit { words.deallocate() }
        func address(_ index: Int) -> UInt64 { UInt64(UInt(bitPattern: words + index)) }
        func compare() { bench.compare(&regs) }
    }

    @Test func everyWordThatMattersIsLookedAt() {
        let stack = MadeStack(depth: 30)
        stack.compare()
        stack.compare()
        #expect(stack.bench.hits == 1)
        for index in 0..<130 {
            let old = stack.words[index]
            stack.words[index] = index % 4 == 0 ? old &+ 32 : old ^ 0x40
            stack.compare()
            stack.words[index] = old
            stack.compare()
        }
        stack.regs.rbp += 32
        stack.compare()
        stack.regs.rbp -= 32
        stack.bench.bounds[1] -= 1024 * 8 - 8 * 40
        stack.compare()
        #expect(stack.bench.problems.prefix(3) == [])
        // Words that do not matter leave the memo as useful as it was.
        #expect(stack.bench.hits > 130 + 60)
    }

    @Test func returnStubs() {
        let stubs = UnsafeMutablePointer<UInt64>.allocate(capacity: 1024)
        defer {
            cruntime_register_stubs(cruntime_stubs(low: 0, high: 0, slots: 0))
            stubs.deallocate()
        }
        stubs.initialize(repeating: 0, count: 1024)
        let low: UInt64 = 0x7fff_0000_0000
        cruntime_register_stubs(
            cruntime_stubs(low: low, high: low + 4096, slots: UInt64(UInt(bitPattern: stubs)))
        )
        let stack = MadeStack(depth: 10)
        stack.words[5 + 3 * 4] = low + 16 * 7 + 6
        stubs[14] = 0x30_0001
        stack.compare()
        stack.compare()
        #expect(stack.bench.hits == 1)
        // The slot is used for another call: the words of the stack are the same, and it is another stack.
        stubs[14] = 0x30_0002
        #expect(stack.bench.frames(&stack.regs)[4] == 0x30_0002)
        stack.compare()
        #expect(stack.bench.problems == [])
        // A tail call between two probed functions: the first frame is a stub.
        stack.regs.rip = low + 16 * 9 + 6
        for address: UInt64 in [0x30_0003, 0x30_0003, 0x30_0004] {
            stubs[18] = address
            stack.compare()
            #expect(stack.bench.frames(&stack.regs)[0] == address)
        }
        #expect(stack.bench.problems == [])
    }

    @Test func abandonedWalksAndFullRings() {
        let stack = MadeStack(depth: 120)
        let memo = stack.bench.memo
        var random = TestRandom(state: 12345)
        for round in 0..<30_000 {
            let saved = stack.words[5 + 119 * 4]
            stack.words[5 + 119 * 4] = 0x40_0000 + random.next(30)
            if random.next(5) == 0 {
                // As if a signal handler had left in the middle: the ring's memory is written, no entry made.
                stack.bench.context.pointee.regs = withUnsafeMutablePointer(to: &stack.regs) { $0 }
                var frames = [UInt64](repeating: 0, count: 127)
                let position = memo.reserve()
                _ = memo.walk(stack.bench.context, at: position, into: &frames, capacity: 127)
            }
            if round % 10_000 == 1 { memo.header.pointee.head = UInt32.max - 3 * UInt32(CRUNTIME_MEMO_RING) + 7 }
            if round % 10_000 == 2 {
                memo.header.pointee.epoch = StackKey.lastEpoch - 1
                memo.forgetAll()
            }
            stack.compare()
            stack.words[5 + 119 * 4] = saved
        }
        #expect(stack.bench.problems.prefix(3) == [])
        #expect(stack.bench.hits > 100)
        #expect(stack.bench.walks > 1000)
    }

    /// A map's ids from the memo beside ids without one, while stacks are deleted and replaced.
    @Test(arguments: [0, UInt64(1 << 10), UInt64(1 << 9), UInt64(3)])
    func idsAreThoseOfAFullWalk(flags: UInt64) throws {
        func fixture() throws -> MapFixture {
            // Few buckets, so that stacks meet in them.
            try MapFixture([
                MapParameters(name: "stacks", type: .stackTrace, keySize: 4, valueSize: 40 * 8, maxEntries: 32)
            ])
        }
        let (remembering, plain) = (try fixture(), try fixture())
        let stack = MadeStack(depth: 30)
        let bench = stack.bench
        var random = TestRandom(state: 99)
        var used = (hits: 0, failures: 0)
        try plain.context { other in
            prepareContext(bench.context, remembering.view)
            for context in [bench.context, other] {
                context.pointee.regs = withUnsafeMutablePointer(to: &stack.regs) { $0 }
                context.pointee.walk_low = bench.bounds[0]
                context.pointee.walk_high = bench.bounds[1]
            }
            for _ in 0..<20_000 {
                let index = 5 + 4 * Int(random.next(30))
                let saved = stack.words[index]
                stack.words[index] = 0x50_0000 + random.next(3)
                if random.next(8) == 0 {
                    let id = UInt32(random.next(32))
                    #expect(remembering.map().stackDelete(id) == plain.map().stackDelete(id))
                }
                let handle = MapHandle.make(0)
                let before = bench.memo.header.pointee.hits
                let id = callHelper(bench.context, 27, 0, handle, flags | 1 << 8, 0, 0)
                if bench.memo.header.pointee.hits != before { used.hits += 1 }
                let expected = callHelper(other, 27, 0, handle, flags | 1 << 8, 0, 0)
                if Int64(bitPattern: expected) < 0 { used.failures += 1 }
                try #require(id == expected)
                if Int64(bitPattern: id) >= 0 {
                    var (ours, theirs) = ([UInt64](repeating: 1, count: 40), [UInt64](repeating: 2, count: 40))
                    #expect(remembering.map().stackCopy(UInt32(id), into: &ours) == 0)
                    #expect(plain.map().stackCopy(UInt32(expected), into: &theirs) == 0)
                    try #require(ours == theirs)
                }
                stack.words[index] = saved
            }
        }
        #expect(used.hits > 1000)
        // Without BPF_F_REUSE_STACKID there are collisions.
        #expect((used.failures > 0) == (flags & 1 << 10 == 0))
    }

    /// Two libraries of one layout: the same call in a frame of 32 and of 48 bytes.
    @Test func anotherLibraryAtTheSameAddress() throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("ubpf-memo-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        var paths: [String] = []
        for size in [24, 40] {
            let source = directory.appendingPathComponent("lib\(size).s")
            try """
            .globl outer
            .type outer, @function
            outer: .cfi_startproc
            sub $\(size), %rsp
            .cfi_def_cfa_offset \(size + 8)
            call *%rdi
            add $\(size), %rsp
            .cfi_def_cfa_offset 8
            ret
            .cfi_endproc
            .size outer, .-outer
            .section .note.GNU-stack,"",@progbits

            """.write(to: source, atomically: true, encoding: .utf8)
            let path = directory.appendingPathComponent("lib\(size).so").path
            let compiler = Process()
            compiler.executableURL = URL(fileURLWithPath: "/usr/bin/cc")
            compiler.arguments = ["-shared", "-nostdlib", "-o", path, source.path]
            try compiler.run()
            compiler.waitUntilExit()
            #expect(compiler.terminationStatus == 0)
            paths.append(path)
        }
        let bench = MemoBench()
        var replaced = 0
        var last: UInt = 0
        for round in 0..<200 {
            let library = try #require(dlopen(paths[round % 2], RTLD_NOW))
            let outer = try #require(dlsym(library, "outer"))
            if UInt(bitPattern: outer) == last { replaced += 1 }
            last = UInt(bitPattern: outer)
            for _ in 0..<2 { walk_through(outer, compareWithWalk, bench.pointer) }
            dlclose(library)
        }
        #expect(bench.problems.prefix(3) == [])
        // Other tests run beside this one and may take the address now and then.
        #expect(replaced > 50)
        #expect(bench.hits > 100)
    }
}
