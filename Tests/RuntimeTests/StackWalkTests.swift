import CRuntime
import CUnwind
import CWalkFixtures
import Testing

@testable import Runtime

/// Our walk against libunwind's, frame for frame, at the same moment on the same stack.
@Suite struct StackWalkTests {
    /// What one comparison found.
    final class Comparison {
        var runs = 0
        var problems: [String] = []
        var depths: [Int] = []
        let rows: UnsafeMutableRawPointer?

        init(rows: UnsafeMutableRawPointer? = nil) { self.rows = rows }

        func compare(_ regs: UnsafeMutablePointer<cruntime_regs>) {
            runs += 1
            var context = cruntime_context()
            context.regs = regs
            context.rows = rows
            walk_stack_bounds(&context.walk_low, &context.walk_high)
            var ours = [UInt64](repeating: 0, count: 512)
            let count = walkStack(&context, into: &ours, capacity: ours.count)
            ours.removeSubrange(count...)
            var theirs = [UnsafeMutableRawPointer?](repeating: nil, count: 512)
            let theirCount = Int(unw_backtrace(&theirs, Int32(theirs.count)))
            let expected = theirs.prefix(theirCount).map { UInt64(UInt(bitPattern: $0)) }
            depths.append(count)
            // libunwind also sees the callback's own frames, and the leaf at a later instruction; from the leaf's caller
            // on both must be the same.
            guard ours.count > 1, let start = expected.firstIndex(of: ours[1]) else {
                problems.append("no common frame: \(ours.map { hex($0) }) and \(expected.map { hex($0) })")
                return
            }
            let tail = Array(expected[start...])
            if Array(ours[1...]) != tail {
                problems.append("ours \(ours[1...].map { hex($0) }), libunwind \(tail.map { hex($0) })")
            }
        }

        private func hex(_ value: UInt64) -> String { String(value, radix: 16) }
    }

    let callback: walk_callback = { regs, user in
        guard let user else { return }
        Unmanaged<Comparison>.fromOpaque(user).takeUnretainedValue().compare(regs)
    }

    @Test(arguments: [0, 1, 5, 30, 100], [true, false])
    func nestedFrames(depth: Int, cached: Bool) {
        let cache = UnsafeMutableRawPointer.allocate(byteCount: UnwindRow.cacheCapacity * 16, alignment: 16)
        defer { cache.deallocate() }
        cache.initializeMemory(as: UInt8.self, repeating: 0, count: UnwindRow.cacheCapacity * 16)
        let comparison = Comparison(rows: cached ? cache : nil)
        for seed in 0..<40 {
            walk_nested(
                Int32(depth),
                UInt64(seed * 7919 + depth),
                callback,
                Unmanaged.passUnretained(comparison).toOpaque()
            )
        }
        #expect(comparison.runs == 40)
        #expect(comparison.problems.prefix(3) == [])
        #expect(comparison.depths.allSatisfy { $0 > depth })
    }

    @Test func throughLibcAndOnThreads() {
        for shape in [walk_in_qsort, walk_on_thread] {
            let comparison = Comparison()
            shape(callback, Unmanaged.passUnretained(comparison).toOpaque())
            #expect(comparison.runs == 1)
            #expect(comparison.problems == [])
        }
    }

    @Test func throughASignalFrame() {
        let comparison = Comparison()
        walk_in_signal(callback, Unmanaged.passUnretained(comparison).toOpaque())
        #expect(comparison.runs == 1)
        #expect(comparison.problems == [])
        #expect(comparison.depths.allSatisfy { $0 > 8 })
    }

    @Test func rowsAreSixteenBytes() {
        #expect(MemoryLayout<UnwindRow>.stride == 16)
    }

    @Test func capacityIsKept() {
        final class Box { var counts: [Int] = [] }
        let box = Box()
        walk_nested(
            20,
            1,
            { regs, user in
                guard let user else { return }
                var context = cruntime_context()
                context.regs = regs
                walk_stack_bounds(&context.walk_low, &context.walk_high)
                var frames: [UInt64] = [0, 0, 0, 0xdead]
                let count = walkStack(&context, into: &frames, capacity: 3)
                Unmanaged<Box>.fromOpaque(user).takeUnretainedValue().counts = [count, Int(frames[3])]
            },
            Unmanaged.passUnretained(box).toOpaque()
        )
        #expect(box.counts == [3, 0xdead])
    }

    @Test func nothingOutsideTheBoundsIsRead() {
        // With empty bounds only the first frame may be given, whatever the registers say.
        var regs = cruntime_regs()
        regs.rip = 0x1234
        regs.rsp = 0x8
        regs.rbp = 0xffff_ffff_ffff_fff8
        withUnsafeMutablePointer(to: &regs) { pointer in
            var context = cruntime_context()
            context.regs = pointer
            var frames: [UInt64] = [0, 0]
            #expect(walkStack(&context, into: &frames, capacity: 2) == 1)
            #expect(frames == [0x1234, 0])
        }
    }
}
