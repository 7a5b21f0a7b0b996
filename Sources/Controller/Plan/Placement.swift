import ISA
package import Loader
import VerifierInput

/// Where the programs of an object run that has programs for processes and for the kernel, and where its maps are.
///
/// A program on a function runs in the process, unless it shares a map with programs in the kernel that only the kernel can have.
package struct Placement: Equatable, Sendable {
    /// Where a map is.
    package enum Home: String, Equatable, Sendable {
        case process
        case kernel
        /// In the kernel's memory, which is mapped into the process: one map for all programs.
        case mapped
        /// In both: nobody writes to it, or each half has elements of its own.
        case copies
        /// One in the kernel and one in the process, whose records are shown as one stream.
        case streams
    }

    /// Programs on functions and static probes that run in the kernel, and the map that is why.
    package private(set) var moved: [Int: Int] = [:]
    /// By map; nil where no program uses it.
    package private(set) var homes: [Home?]

    /// - Parameters:
    ///   - user: programs on functions and static probes, indices into the object's.
    ///   - kernel: programs for the kernel, and those that may run instead of them.
    package init(_ object: ObjectSpec, user: [Int], kernel: [Int]) {
        var inKernel = object.mapsUsed(by: kernel)
        var left = user
        while let next = left.first(where: { Self.onlyInKernel(object, $0, inKernel) != nil }) {
            moved[next] = Self.onlyInKernel(object, next, inKernel)
            left.removeAll { $0 == next }
            inKernel.formUnion(object.mapsUsed(by: [next]))
        }
        let inProcess = object.mapsUsed(by: left)
        homes = object.maps.indices.map { map in
            switch (inProcess.contains(map), inKernel.contains(map)) {
            case (false, false): nil
            case (true, false): .process
            case (false, true): .kernel
            case (true, true): Self.shared(map, of: object)
            }
        }
    }

    /// A map of `kernel` that a program uses and that cannot be in the process.
    private static func onlyInKernel(_ object: ObjectSpec, _ program: Int, _ kernel: Set<Int>) -> Int? {
        object.mapsUsed(by: [program]).intersection(kernel).filter { shared($0, of: object) == .kernel }.min()
    }

    /// Where a map is that programs of both halves use; `.kernel`: nowhere else than there.
    package static func shared(_ index: Int, of object: ObjectSpec) -> Home {
        let map = object.maps[index]
        if map.isReadOnly || StaticProbeArguments.maps.contains(map.name) { return .copies }
        switch map.type {
        case .ringBuffer, .perfEventArray: return .streams
        case .array: return canBeMapped(index, of: object) ? .mapped : .kernel
        default: return .kernel
        }
    }

    /// `BPF_F_MMAPABLE`, which arrays get that are to be mapped.
    static let mappable: UInt32 = 0x400

    /// Descriptors that a session has room for.
    private static let limit = 16

    /// The kernel does not map arrays with special fields (`bpf_map_mmap`); those of a map of maps may not differ from its template, pinned
    /// ones not from their definition.
    private static func canBeMapped(_ index: Int, of object: ObjectSpec) -> Bool {
        let map = object.maps[index]
        let isInside = object.maps.contains { outer in
            outer.innerMap != nil && outer.initialElements.contains { $0.value == .map(index) }
        }
        let arrays = object.maps.count { $0.type == .array && !$0.isReadOnly }
        if map.isPinned { return false }
        return map.flags & ~mappable == 0 && object.records(of: index).own == 0 && !isInside && arrays <= limit
    }
}

extension ObjectSpec {
    /// Maps that programs, and those that they call through program arrays, can reach.
    func mapsUsed(by programs: [Int]) -> Set<Int> {
        var used: Set<Int> = []
        for instruction in self.programs(reachedFrom: programs).flatMap({ self.programs[$0].instructions }) {
            switch instruction.opcode {
            case .loadMap, .loadMapValue: used.insert(Int(instruction.imm & 0xffff_ffff))
            default: break
            }
        }
        return Set(maps(reachedFrom: used.filter { maps.indices.contains($0) }))
    }

    /// Programs that are tagged as running instead of others.
    func substitutes(for program: Int) -> [Int] {
        guard let btf else { return [] }
        let names = ObjectTags(btf).names(tagged: "instead-of:\(programs[program].name)", .function, in: btf)
        return programs.indices.filter { names.contains(programs[$0].name) }
    }
}
