import ISA

/// Which function calls which; taking the address of a callback counts as a call.
struct CallGraph {
    private let layout: Layout
    /// Calls of each function: the instruction and the function called.
    private var calls: [[Call]] = []

    private struct Call {
        var instruction: Int
        var callee: Int
        /// Frames between the caller's and the callee's.
        var extra = 0
    }

    /// A helper calls a function of the program.
    struct Callback: Hashable {
        var caller: Int
        var callee: Int
        var helper: Helper
        var instruction: Int
    }

    init(_ layout: Layout) {
        self.layout = layout
        for function in layout.functions.indices {
            var called: [Call] = []
            for index in layout.range(function) where layout.targets[index] >= 0 && !layout.isJump[index] {
                if layout.instructions[index].opcode == .loadFunction, Self.isForTimer(layout, index) { continue }
                called.append(Call(instruction: index, callee: layout.callee(of: index)))
            }
            calls.append(called)
        }
    }

    /// Adds what the walk found.
    ///
    /// - Parameter isCopyingKeys: what a helper passes to its callback may lie in a frame of its own.
    mutating func add(_ callbacks: Set<Callback>, isCopyingKeys: Bool) {
        for callback in callbacks.sorted(by: { $0.instruction < $1.instruction }) {
            let extra = isCopyingKeys && Self.hasOwnFrame(callback.helper) ? 1 : 0
            calls[callback.caller].append(
                Call(instruction: callback.instruction, callee: callback.callee, extra: extra)
            )
        }
    }

    /// Arrays' keys and dynptrs of records lie nowhere else.
    private static func hasOwnFrame(_ helper: Helper) -> Bool {
        switch helper {
        case .forEachMapElem, .userRingbufDrain: true
        default: false
        }
    }

    /// The next helper called gives the function to a timer, which calls it when nobody else runs.
    private static func isForTimer(_ layout: Layout, _ index: Int) -> Bool {
        for next in index..<layout.range(Int(layout.owner[index])).upperBound {
            switch layout.instructions[next].opcode {
            case .callHelper: return layout.instructions[next].imm == Int64(Helper.timerSetCallback.rawValue)
            case .callLocal: return false
            default: continue
            }
        }
        return false
    }

    /// All functions, each behind those that it calls; refuses recursion.
    func calleesFirst() throws(VerifierError) -> [Int] {
        var order: [Int] = []
        var state = [Progress](repeating: .new, count: calls.count)
        // An explicit stack: programs come from anywhere, and ours must not overflow.
        var stack: [(function: Int, next: Int)] = []
        for root in calls.indices where state[root] == .new {
            stack.append((root, 0))
            state[root] = .open
            while let (function, next) = stack.last {
                guard next < calls[function].count else {
                    state[function] = .done
                    order.append(function)
                    stack.removeLast()
                    continue
                }
                let call = calls[function][next]
                switch state[call.callee] {
                case .open: throw layout.error(.recursion, at: call.instruction, "a function calls itself")
                case .new:
                    state[call.callee] = .open
                    stack.append((call.callee, 0))
                case .done: stack[stack.count - 1].next += 1
                }
            }
        }
        return order
    }

    private enum Progress { case new, open, done }

    /// Bytes of the deepest chain of frames, each rounded up to 16; refuses more than `frameSize` and more than 8 frames.
    ///
    /// Linux: kernel/bpf/verifier.c, `check_max_stack_depth_subprog`.
    func stackDepth(_ sizes: [Int]) throws(VerifierError) -> Int {
        var depths = sizes.map { (max($0, 1) + 15) / 16 * 16 }
        var frames = [Int](repeating: 1, count: calls.count)
        for function in try calleesFirst() {
            let own = depths[function]
            for call in calls[function] {
                depths[function] = max(depths[function], own + depths[call.callee])
                frames[function] = max(frames[function], frames[call.callee] + 1 + call.extra)
                if frames[function] > maximumFrames {
                    let what = "the call makes \(frames[function]) nested frames; at most \(maximumFrames) are allowed"
                    throw layout.error(.callsTooDeep, at: call.instruction, what)
                }
                if depths[function] > frameSize {
                    let what =
                        "the frames of nested calls take \(depths[function]) bytes of stack; the limit is \(frameSize)"
                    throw layout.error(.stackTooDeep, at: call.instruction, what)
                }
            }
        }
        return sizes.allSatisfy { $0 == 0 } ? 0 : depths[0]
    }
}
