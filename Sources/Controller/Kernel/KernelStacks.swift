import Glibc
import Kernel
import Loader
import Symbols

/// Names the addresses of stacks that programs in the kernel took: of the kernel, and of processes, which may have ended since.
final class KernelStacks {
    private let maps: [KernelMapHolder]
    private var processes: [Int32: Process] = [:]
    /// What is known of files, whatever processes have them at whatever addresses.
    private var files: [File: Symbolizer] = [:]

    private struct File: Hashable {
        var path: String
        var inode: UInt64
    }

    /// What a process had mapped when it was last seen.
    private struct Process {
        var maps: ProcessMaps
        /// Times it was looked at; the next look comes later each time.
        var looks: UInt64
        var nextLook: UInt64
    }

    /// More are not remembered.
    private static let processLimit = 4096

    /// `maps` are those of the type STACK_TRACE.
    init(_ maps: [KernelMapHolder]) { self.maps = maps }

    /// Remembers what a process has mapped, before it ends.
    func look(at pid: Int32) {
        let now = monotonicNanoseconds()
        let known = processes[pid]
        guard pid > 0, now >= known?.nextLook ?? 0, known != nil || processes.count < Self.processLimit else { return }
        let looks = (known?.looks ?? 0) + 1
        let next = now + 100_000_000 << min(looks, 6)
        guard let found = try? ProcessMaps.read(pid: pid), !found.modules.isEmpty else {
            processes[pid]?.nextLook = next
            return
        }
        processes[pid] = Process(maps: found, looks: looks, nextLook: next)
    }

    /// The lines of a stack, innermost first; none where there is no such stack.
    func lines(_ kind: MemberTag.StackKind, _ source: TaggedView.StackSource, of pid: Int32?) -> [StackLine] {
        let addresses: [UInt64]
        switch source {
        case .addresses(let given): addresses = given.prefix { $0 != 0 }.map { $0 }
        case .number(let id):
            // EFAULT: the CPU was not there, or the program has no such stack; EINVAL: a thread of the kernel.
            if id == -EFAULT || id == -EINVAL { return [] }
            if id < 0 { return StackLine.missing(id) }
            guard let found = maps.lazy.compactMap({ $0.stack(UInt32(id)) }).first else {
                return [.note("(no stack: it is not in the stack map)")]
            }
            addresses = found
        }
        switch kind {
        case .kernel:
            return addresses.enumerated().map { .frame(number: $0, Self.kernelFrame($1, isReturnAddress: $0 > 0)) }
        case .user:
            if let pid { look(at: pid) }
            let maps = pid.flatMap { processes[$0]?.maps }
            return StackLine.lines(addresses) { frames($0, isReturnAddress: $1, maps) }
        }
    }

    private func frames(_ address: UInt64, isReturnAddress: Bool, _ maps: ProcessMaps?) -> [Frame] {
        guard let module = maps?.module(containing: address) else { return [Frame(address: address)] }
        let file = File(path: module.isVDSO ? module.path : module.openPath, inode: module.inode)
        let symbolizer: Symbolizer
        if let known = files[file] {
            symbolizer = known
        } else {
            symbolizer = Symbolizer(modules: [SymbolizerModule(path: file.path, start: 0, end: .max, bias: 0)])
            files[file] = symbolizer
        }
        return symbolizer.symbolize(address &- module.bias, isReturnAddress: isReturnAddress).map { found in
            var frame = found
            frame.address = address
            return frame
        }
    }

    /// A call may be a function's last instruction: the address behind it is another's.
    private static func kernelFrame(_ address: UInt64, isReturnAddress: Bool) -> Frame {
        let back: UInt64 = isReturnAddress ? 1 : 0
        let symbol = KernelSymbols.shared.symbol(at: address &- back)
        return Frame(
            address: address,
            function: symbol?.name,
            offset: symbol.map { $0.offset + back } ?? 0,
            module: symbol == nil ? nil : symbol?.module ?? "kernel"
        )
    }
}
