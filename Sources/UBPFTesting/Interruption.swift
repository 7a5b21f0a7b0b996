import CRuntime
import Loader
import UBPFVM

/// Something that happens in the middle of a run, before one of its instructions: what another thread does at that moment.
@safe
final class Interruption: RunWatcher {
    private let point: UInt64
    private let body: () throws -> Void
    private let counters: CoverageCounters?
    private var executed: UInt64 = 0
    /// Index of the instruction before which it happened; nil: the run ended earlier.
    private(set) var instruction: Int?
    private(set) var error: (any Error)?

    init(at point: UInt64, counters: CoverageCounters?, _ body: @escaping () throws -> Void) {
        self.point = point
        self.counters = counters
        self.body = body
    }

    /// An observer for the run; this object must outlive it.
    func observer() -> cruntime_observer {
        unsafe cruntime_observer(
            step: { user, context, instruction, _ in
                guard let user = unsafe user else { return 1 }
                let interruption = unsafe Unmanaged<Interruption>.fromOpaque(user).takeUnretainedValue()
                return interruption.step(Int(unsafe context.pointee.program), Int(instruction)) ? 1 : 0
            },
            user: Unmanaged.passUnretained(self).toOpaque(),
            budget: 0
        )
    }

    private func step(_ program: Int, _ instruction: Int) -> Bool {
        if executed == point {
            self.instruction = instruction
            let last = counters?.pause()
            do { try body() } catch { self.error = error }
            if let last { counters?.resume(last) }
        }
        executed += 1
        counters?.step(program, instruction)
        return error == nil
    }
}

extension VM {
    /// Runs a program, and `body` in its middle: before instruction number `point` that it executes, from 0.
    ///
    /// `body` may run other programs of this VM, as another thread would; identity and CPU of the ``World`` are put back after
    /// it. With all points one after the other, each order of two programs is tried in which one of them is not cut in pieces:
    ///
    ///     for point in 0... {
    ///         vm.reset()
    ///         let run = try vm.run("count", .uprobe(), interruptedAt: point) { try vm.run("count") }
    ///         #expect(try vm.value(of: "hits") == 2)
    ///         if run.interrupted == nil { break }
    ///     }
    ///
    /// - Returns: the outcome, and before which instruction of the program the body ran; nil where the run ended before.
    @discardableResult
    public func run(
        _ program: String,
        _ context: Context = .uprobe(),
        interruptedAt point: UInt64,
        by body: @escaping () throws -> Void
    ) throws -> (outcome: Program.Outcome, interrupted: Int?) {
        guard engine == .interpreter else { throw TestingError.compile("only interpreted runs can be interrupted") }
        let interruption = Interruption(at: point, counters: counters) { [unowned self] in
            let before = world
            defer { restoreThread(before) }
            try body()
        }
        do {
            let outcome = try execute(try self.program(program), context, interruption)
            return (outcome, interruption.instruction)
        } catch {
            throw interruption.error ?? error
        }
    }

    /// Source line of an instruction, where the object has line information.
    public func line(of instruction: Int, in program: String) -> Int? {
        guard let index = try? self.program(program).index else { return nil }
        return session.relocated[index].lines.last { $0.instruction <= instruction }?.line
    }

    private func restoreThread(_ before: World) {
        (world.pid, world.tid, world.uid, world.gid) = (before.pid, before.tid, before.uid, before.gid)
        (world.comm, world.cpu, world.cookie) = (before.comm, before.cpu, before.cookie)
        (world.stack, world.kernelStack) = (before.stack, before.kernelStack)
    }
}
