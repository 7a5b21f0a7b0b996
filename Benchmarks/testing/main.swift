// How long the test library takes: runs of a 100-instruction program, each with a fresh world and fresh maps.
import UBPFTesting

guard CommandLine.arguments.count == 2 else { fatalError("usage: testing-bench hundred.bpf.o") }
let vm = try VM(BPFObject(path: CommandLine.arguments[1]))
let program = try vm.program("hundred")
let runs = 100_000

/// Runs `body` so often; nanoseconds for each time.
func measure(_ name: String, _ body: (UInt64) throws -> Void) rethrows {
    let clock = ContinuousClock()
    let took = try clock.measure { for index in 0..<runs { try body(UInt64(index)) } }
    let parts = took.components
    let nanoseconds = (Double(parts.seconds) * 1e9 + Double(parts.attoseconds) / 1e9) / Double(runs)
    print("\(name): \(Int(nanoseconds)) ns a run, \(Double(Int(nanoseconds * Double(runs) / 1e7)) / 100) s for \(runs)")
}

let first = try program.run(.uprobe(1))
print("\(first.instructions) instructions, \(first.calls.count) helper calls")
try measure("the same world and maps") { try program.run(.uprobe($0)) }
try measure("a fresh world and fresh maps") { index in
    vm.reset(World(pid: UInt32(truncatingIfNeeded: index)))
    try program.run(.uprobe(index))
}
vm.countsCoverage = true
try measure("the same with coverage") { index in
    vm.reset(World(pid: UInt32(truncatingIfNeeded: index)))
    try program.run(.uprobe(index))
}
