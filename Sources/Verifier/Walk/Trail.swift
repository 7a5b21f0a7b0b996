/// How the walk came to where it is: the decisions of every path, as a tree.
struct Trail {
    private var steps: [Step] = []
    /// The last decision of the present path; -1 at the start.
    var tip: Int32 = -1

    private struct Step {
        var parent: Int32
        var from: Int32
        var to: Int32
    }

    mutating func begin() {
        steps = []
        tip = -1
    }

    /// The path does not go on with the next instruction, or could have gone elsewhere.
    mutating func go(from: Int, to: Int) {
        steps.append(Step(parent: tip, from: Int32(from), to: Int32(to)))
        tip = Int32(steps.count - 1)
    }

    /// The instructions of the present path; only the last ones where it is long.
    func path(from start: Int, to end: Int, _ layout: Layout) -> [Int] {
        var jumps: [Step] = []
        var step = tip
        while step >= 0, jumps.count < 4096 {
            jumps.append(steps[Int(step)])
            step = steps[Int(step)].parent
        }
        var path: [Int] = []
        var next = step < 0 ? start : Int(jumps.removeLast().to)
        for jump in jumps.reversed() {
            if next <= jump.from { path += Array(next...Int(jump.from)) }
            next = Int(jump.to)
        }
        if next <= end { path += Array(next...end) }
        return path
    }
}
