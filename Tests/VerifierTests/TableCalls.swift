import Glibc
import ISA
import Testing

@testable import Kernel
@testable import Verifier

/// Maps of every type that needs no type information, and a frozen one that holds a string.
final class KernelMaps: Sendable {
    let descriptors: [MapType: Int32]
    let string: Int32

    init() throws {
        var made: [MapType: Int32] = [:]
        for type in MapType.allCases {
            let inner = made[.array] ?? 0
            guard let (key, value, entries, flags) = Self.shape(of: type) else { continue }
            made[type] = try Self.make(type, key, value, entries, flags, inner)
        }
        descriptors = made
        string = try Self.make(.array, 4, 16, 1, 1 << 7, 0)
        var attributes = BPF.Attributes(size: 32)
        attributes.put(UInt32(string), at: 0)
        try #require(BPF.call(.mapFreeze, &attributes) == 0)
    }

    deinit { for descriptor in [string] + descriptors.values { _ = close(descriptor) } }

    /// Key and value size, entries and flags; nil: it needs BTF, or is none that a program may name.
    private static func shape(of type: MapType) -> (Int, Int, Int, UInt32)? {
        switch type {
        case .hash, .array, .perCPUHash, .perCPUArray, .lruHash, .lruPerCPUHash: (4, 64, 4, 0)
        case .programArray, .perfEventArray, .cgroupArray, .arrayOfMaps, .hashOfMaps, .devMap, .sockMap, .xskMap,
            .sockHash, .devMapHash:
            (4, 4, 4, 0)
        case .cpuMap: (4, 4, 1, 0)
        case .stackTrace: (4, 64, 4, 0)
        case .lpmTrie: (8, 64, 4, 1)
        case .cgroupStorage, .perCPUCgroupStorage: (8, 64, 0, 0)
        case .reusePortSockArray: (4, 8, 4, 0)
        case .queue, .stack, .bloomFilter: (0, 64, 4, 0)
        case .ringBuffer, .userRingBuffer: (0, 0, 4096, 0)
        case .arena: (0, 0, 1, 1 << 10)
        case .unspecified, .socketStorage, .structOps, .inodeStorage, .taskStorage, .cgroupLocalStorage: nil
        }
    }

    private static func make(
        _ type: MapType,
        _ key: Int,
        _ value: Int,
        _ entries: Int,
        _ flags: UInt32,
        _ inner: Int32
    ) throws -> Int32 {
        var attributes = BPF.Attributes(size: 72)
        for (index, word) in [type.rawValue, UInt32(key), UInt32(value), UInt32(entries), flags].enumerated() {
            attributes.put(word, at: 4 * index)
        }
        if type == .arrayOfMaps || type == .hashOfMaps { attributes.put(UInt32(inner), at: 20) }
        // Programs name arenas that have an address.
        if type == .arena { attributes.put(UInt64(1) << 44, at: 64) }
        let result = BPF.call(.mapCreate, &attributes)
        try #require(result >= 0, "no map of type \(type.name): \(result)")
        return Int32(result)
    }
}

/// One call of a helper with arguments that its prototype asks for, or with one of them spoilt.
struct Call {
    let helper: Helper
    let type: ProgramType
    let prototype: HelperPrototype
    let maps: KernelMaps
    var map: MapType
    /// Replaces the code that sets an argument (1 to 5).
    var arguments: [Int: [Statement]] = [:]
    /// What follows the call, before what its result asks for.
    var then: [Statement] = []
    /// r8 points to 64 bytes of packet.
    var readsPacket = false
    /// The program is refused after the call, for a use of r9, which is faster than to accept it.
    var endsAtCall = false

    /// nil: its arguments take type information, callbacks or objects that no short program has.
    init?(_ helper: Helper, _ type: ProgramType, _ maps: KernelMaps) {
        guard let prototype = HelperPrototype.of(helper, for: type) else { return nil }
        self.helper = helper
        self.type = type
        self.prototype = prototype
        self.maps = maps
        let types = MapType.allCases.filter { maps.descriptors[$0] != nil && isCompatible(helper, $0) }
        map = types.contains(.array) ? .array : types.first ?? .unspecified
        var index = 0
        while index < prototype.count {
            if prototype.arguments[index] == .map, types.isEmpty { return nil }
            if value(prototype.arguments[index]) == nil { return nil }
            index += 1
        }
        if prototype.result == .kernelObject(.socketCommon, isNullable: true, isReference: true),
            helper != .skcLookupTcp
        {
            return nil
        }
    }

    /// Sets r1 to the argument; r6 is the context, r7 an object, and the stack from -256 is zero.
    private func value(_ argument: HelperPrototype.Argument) -> [Statement]? {
        switch argument {
        case .unused, .anything, .constant: [.mov64(.r1, 0)]
        case .map: [.loadMap(.r1, maps.descriptors[map] ?? -1)]
        case .mapKey, .mapValue, .mapValueOut, .mapValueOrNull, .memory, .updatedMemory, .fixedMemory:
            [.mov64(.r1, .r10), .add64(.r1, -256)]
        case .size, .allocationSize: [.mov64(.r1, 16)]
        case .context, .contextOrNull: [.mov64(.r1, .r6)]
        case .constantString: [.loadMapValue(.r1, UInt32(maps.string), 0)]
        case .kernelObject(let object, _): canMake(object) ? [.mov64(.r1, .r7)] : nil
        case .ringRecord: [.mov64(.r1, .r7)]
        case .callback, .callbackContext, .spinLock, .timer, .dynptr, .iterator, .number, .unsupported: nil
        }
    }

    private func canMake(_ object: HelperPrototype.KernelObject) -> Bool {
        switch object {
        case .task: true
        case .socketCommon: ProgramTypes.socketBuffer.contains(ProgramTypes(type))
        case .anySocket: ProgramTypes.socketBuffer.union(.xdp).contains(ProgramTypes(type))
        case .socket, .tcpSocket, .requestSocket, .btfSocket, .cgroup, .file, .xdpSocket, .flowKeys, .other: false
        }
    }

    /// The argument register's statements, retargeted from r1.
    private func setting(_ index: Int) -> [Statement] {
        if let other = arguments[index + 1] { return other }
        guard index < prototype.count, let statements = value(prototype.arguments[index]) else { return [] }
        let register = Register.allCases[index + 1]
        return statements.map { statement in
            guard case .instruction(var instruction) = statement else { return statement }
            instruction.dst = register
            return .instruction(instruction)
        }
    }

    var program: [Instruction] {
        get throws {
            var text: [Statement] = [.mov64(.r6, .r1)]
            for offset in stride(from: Int32(-256), to: 0, by: 8) { text.append(.store64(.r10, offset, 0)) }
            if readsPacket {
                let isXDP = type == .xdp
                text += [
                    .load32(.r8, .r6, isXDP ? 0 : 76), .load32(.r9, .r6, isXDP ? 4 : 80), .mov64(.r2, .r8),
                    .add64(.r2, 64), .jumpGreater(.r2, .r9, to: "out"),
                ]
            }
            text += object
            // r1 to r5 hold nothing after a call.
            text.append(.call(.getSmpProcessorId))
            for index in 0..<5 { text += setting(index) }
            text.append(.call(helper))
            if endsAtCall { text.append(.mov64(.r0, .r9)) }
            text += then + release
            text += [.label("out"), .mov64(.r0, 0), .exit]
            return try Assembly(text).instructions
        }
    }

    private var lookup: [Statement] {
        [
            .mov64(.r1, .r6), .mov64(.r2, .r10), .add64(.r2, -256), .mov64(.r3, 12), .mov64(.r4, 0), .mov64(.r5, 0),
            .call(.skcLookupTcp), .jumpEqual(.r0, 0, to: "out"), .mov64(.r7, .r0),
        ]
    }

    private var usesReference: Bool {
        prototype.arguments[0] == .kernelObject(.anySocket, isNullable: false) && (type == .xdp || helper == .skRelease)
    }

    /// Makes what r7 holds.
    private var object: [Statement] {
        if helper == .ringbufSubmit || helper == .ringbufDiscard {
            return [
                .loadMap(.r1, maps.descriptors[.ringBuffer] ?? -1), .mov64(.r2, 16), .mov64(.r3, 0),
                .call(.ringbufReserve), .jumpEqual(.r0, 0, to: "out"), .mov64(.r7, .r0),
            ]
        }
        for index in 0..<5 {
            guard case .kernelObject(let object, _) = prototype.arguments[index] else { continue }
            if object == .task { return [.call(.getCurrentTaskBtf), .mov64(.r7, .r0)] }
            if usesReference { return lookup }
            return [.load64(.r7, .r6, 168), .jumpEqual(.r7, 0, to: "out")]
        }
        return []
    }

    /// Gives back what r0 or r7 holds.
    private var release: [Statement] {
        switch prototype.result {
        case .kernelObject(_, _, isReference: true):
            return [.jumpEqual(.r0, 0, to: "out"), .mov64(.r1, .r0), .call(.skRelease)]
        case .ringRecordOrNull:
            return [.jumpEqual(.r0, 0, to: "out"), .mov64(.r1, .r0), .mov64(.r2, 0), .call(.ringbufDiscard)]
        default: return usesReference && helper != .skRelease ? [.mov64(.r1, .r7), .call(.skRelease)] : []
        }
    }
}
