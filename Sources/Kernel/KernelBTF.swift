import Glibc
import ISA
package import Loader

/// Types of an object in the kernel, for as long as maps and programs are made with them.
///
/// Callbacks, spin locks, timers and storage maps are known to the kernel by them, and tools show a map's values with their
/// names. Requires Linux 4.18; kernels that do not know a kind of type refuse them all.
package struct KernelBTF: ~Copyable {
    package let descriptor: Int32

    /// `statics` are functions that the kernel verifies with their callers only.
    package init(_ types: BTF, statics: Set<UInt32> = []) throws(KernelError) {
        let bytes = types.forKernel(statics: statics)
        let result = unsafe bytes.withUnsafeBytes { bytes in
            var attributes = BPF.Attributes(size: 32)
            unsafe attributes.put(bytes.baseAddress, at: 0)
            attributes.put(UInt32(bytes.count), at: 16)
            return BPF.call(.typesLoad, &attributes)
        }
        guard result >= 0 else { throw KernelError(call: "bpf(BTF_LOAD)", errno: Int32(-result)) }
        descriptor = Int32(result)
    }

    deinit { _ = close(descriptor) }
}

/// The types of a program's functions (`struct bpf_func_info`).
package struct FunctionTypes: Sendable {
    /// Of the `KernelBTF`.
    package var descriptor: Int32
    /// First slot of each function and the id of its type, in order.
    package var records: [(slot: UInt32, type: UInt32)]

    /// Nil where a function has no type: the kernel wants all of them.
    package init?(_ program: ProgramSpec, types descriptor: Int32) {
        self.descriptor = descriptor
        records = []
        var slot = 0
        var starts: [Int: UInt32] = [:]
        for (index, instruction) in program.instructions.enumerated() {
            starts[index] = UInt32(slot)
            slot += instruction.slots
        }
        for function in program.functions {
            guard function.type != 0, let start = starts[function.start] else { return nil }
            records.append((start, function.type))
        }
        records.sort { $0.slot < $1.slot }
        if records.first?.slot != 0 { return nil }
    }

    /// As the kernel reads them.
    var bytes: [UInt8] {
        records.flatMap { record in
            [record.slot, record.type].flatMap { word in
                (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * UInt32($0))) }
            }
        }
    }
}
