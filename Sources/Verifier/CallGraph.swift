import ISA

/// Which function calls which; taking a function's address counts as a call.
struct CallGraph {
    private let layout: Layout
    /// Calls of each function: the instruction and the function called.
    private var calls: [[(instruction: Int, callee: Int)]] = []

    init(_ layout: Layout) {
        self.layout = layout
        for function in layout.functions.indices {
            var list: [(instruction: Int, callee: Int)] = []
            for index in layout.range(function) {
                switch layout.instructions[index].flow {
                case .call(let slots), .reference(let slots):
                    list.append((index, layout.callee(of: index, slots: slots)))
                case .next, .jump, .exit: break
                }
            }
            calls.append(list)
        }
    }

    /// All functions, each behind those that it calls; refuses recursion and chains of more than `maximumFrames`.
    func calleesFirst() throws(VerifierError) -> [Int] {
        var order: [Int] = []
        var state = [State](repeating: .new, count: calls.count)
        // Longest chain of frames that starts in each function.
        var frames = [Int](repeating: 1, count: calls.count)
        // An explicit stack: programs come from anywhere, and ours must not overflow.
        var stack: [(function: Int, next: Int)] = [(0, 0)]
        state[0] = .open
        while let (function, next) = stack.last {
            guard next < calls[function].count else {
                state[function] = .done
                order.append(function)
                stack.removeLast()
                continue
            }
            let (instruction, callee) = calls[function][next]
            switch state[callee] {
            case .open: throw layout.error(.recursion, at: instruction)
            case .new:
                state[callee] = .open
                stack.append((callee, 0))
            case .done:
                frames[function] = max(frames[function], frames[callee] + 1)
                if frames[function] > maximumFrames {
                    throw layout.error(.callsTooDeep(frames: frames[function]), at: instruction)
                }
                stack[stack.count - 1].next += 1
            }
        }
        return order
    }

    private enum State { case new, open, done }
}
