import ISA
import Testing

@testable import Verifier

/// Every prototype against the kernel: calls as it describes them are accepted, and refused with one thing wrong.
@Suite(.enabled(if: KernelVerifier.isOracle, KernelVerifier.reason))
struct TableCallTests {
    static let types = ProgramType.allCases.filter { ProgramTypes.known.contains(ProgramTypes($0)) }
    let maps: KernelMaps

    init() throws { maps = try KernelMaps() }

    private func calls(_ type: ProgramType) -> [Call] {
        Helper.allCases.filter { mayCall($0, type, isSleepable: false) }.compactMap { Call($0, type, maps) }
    }

    private func isAccepted(_ call: Call, _ license: String = "GPL") throws -> (Bool, Comment) {
        let answer = KernelVerifier.ask(try call.program, call.type, license: license)
        let isAccepted = call.endsAtCall ? answer.log.contains("R9 !read_ok") : answer.status == 0
        return (isAccepted, "\(call.helper.name): \(answer.log)")
    }

    @Test(arguments: types)
    func prototypes(_ type: ProgramType) throws {
        let all = calls(type)
        #expect(all.count >= 40)
        for call in all {
            let (accepted, log) = try isAccepted(call)
            #expect(accepted, log)
            guard accepted else { continue }
            for index in 0..<5 { try argument(index, of: call) }
            let (free, freeLog) = try isAccepted(call, "proprietary")
            if !(try usesGPLOnlyPrologue(call)) { #expect(free == !call.prototype.isGPLOnly, freeLog) }
            try result(of: call)
        }
    }

    private func usesGPLOnlyPrologue(_ call: Call) throws -> Bool {
        try call.program.contains { $0.opcode == .callHelper && $0.imm == Int64(Helper.getCurrentTaskBtf.rawValue) }
    }

    private func argument(_ index: Int, of valid: Call) throws {
        let prototype = valid.prototype
        let register = Register.allCases[index + 1]
        func check(_ statements: [Int: [Statement]], _ expected: Bool, _ what: String) throws {
            var call = valid
            call.endsAtCall = true
            call.arguments = statements
            let (accepted, log) = try isAccepted(call)
            #expect(accepted == expected, "argument \(index + 1), \(what): \(log.rawValue)")
        }
        try check([index + 1: []], index >= prototype.count, "nothing")
        guard index < prototype.count else { return }
        let zero: [Statement] = [.mov64(register, 0)]
        var withSize = [index + 1: zero]
        if index < 4, case .size = prototype.arguments[index + 1] {
            withSize[index + 2] = [.mov64(Register.allCases[index + 2], 0)]
        }
        switch prototype.arguments[index] {
        case .unused, .allocationSize, .ringRecord: break
        case .anything: try check([index + 1: [.mov64(register, .r10)]], true, "pointer")
        case .constant: try check([index + 1: [.mov64(register, 1)]], false, "1")
        case .size(let zeroAllowed):
            try check([index + 1: zero], zeroAllowed, "0")
            try check([index + 1: [.mov64(register, 257)]], false, "more than there is")
            try check([index + 1: [.mov64(register, -1)]], false, "negative")
        case .fixedMemory(_, let isOut, _):
            try check([index + 1: [.mov64(register, .r10), .add64(register, -255)]], !isOut, "not aligned")
            try check([index + 1: zero], false, "0")
        case .map, .mapKey, .mapValue, .mapValueOut, .context, .constantString, .callback,
            .callbackContext, .spinLock, .timer, .dynptr, .iterator, .number, .unsupported:
            try check([index + 1: zero], false, "0")
            try check([index + 1: [.mov64(register, 1)]], false, "1")
        case .memory(_, let isNullable), .updatedMemory(let isNullable), .kernelObject(_, let isNullable):
            try check(withSize, isNullable, "0")
            try check([index + 1: [.mov64(register, 1)]], false, "1")
        case .mapValueOrNull, .contextOrNull:
            try check([index + 1: zero], true, "0")
            try check([index + 1: [.mov64(register, 1)]], false, "1")
        }
    }

    /// The bounds of the result, and whether there is one.
    private func result(of valid: Call) throws {
        func check(_ then: [Statement], _ expected: Bool, _ what: String) throws {
            var call = valid
            call.then = then
            let (accepted, log) = try isAccepted(call)
            #expect(accepted == expected, "\(what): \(log.rawValue)")
        }
        let isVoid = valid.prototype.result == .void
        if valid.helper != .tailCall { try check([.mov64(.r2, .r0)], !isVoid, "read r0") }
        switch valid.prototype.result {
        case .scalar, .range, .atMostSize: break
        case .void, .mapValueOrNull, .mapValue, .ringRecordOrNull, .iteratorElement, .dynptrMemoryOrNull, .kernelObject:
            return
        }
        // A load through a number, where the number is out of bounds.
        var bounds: (Int64, Int64)?
        if case .range(let low, let high) = valid.prototype.result { bounds = (low, high) }
        if case .atMostSize = valid.prototype.result { bounds = (-4095, 16) }
        let (low, high) = bounds ?? (-4095, 4096)
        try check(
            [
                .jumpSignedGreater(.r0, high, to: "bad"), .jumpSignedLess(.r0, low, to: "bad"), .jump(to: "out"),
                .label("bad"), .load8(.r2, .r0), .jump(to: "out"),
            ],
            bounds != nil,
            "bounds"
        )
        guard bounds != nil else { return }
        try check(
            [
                .jumpSignedGreater(.r0, high - 1, to: "bad"), .jumpSignedLess(.r0, low, to: "bad"), .jump(to: "out"),
                .label("bad"), .load8(.r2, .r0), .jump(to: "out"),
            ],
            false,
            "tighter bounds"
        )
    }

    @Test(arguments: types)
    func mapsThatHelpersTake(_ type: ProgramType) throws {
        for valid in calls(type) {
            guard (0..<5).contains(where: { valid.prototype.arguments[$0] == .map }) else { continue }
            for map in maps.descriptors.keys {
                var call = valid
                call.endsAtCall = true
                call.map = map
                let (accepted, log) = try isAccepted(call)
                if needsSocket(call) { continue }
                #expect(accepted == isCompatible(call.helper, map), "\(map.name), \(log.rawValue)")
            }
        }
    }

    /// Values of socket maps are sockets, and lookups give sockets that must be released.
    private func needsSocket(_ call: Call) -> Bool {
        guard call.map == .sockMap || call.map == .sockHash else { return false }
        return call.helper == .mapUpdateElem || call.helper == .mapLookupElem || call.helper == .mapDeleteElem
    }

    private static let packetTypes: [ProgramType] = [.schedCls, .schedAct, .xdp, .lwtXmit, .skSKB, .cgroupSKB]

    @Test(arguments: packetTypes)
    func packets(_ type: ProgramType) throws {
        for valid in calls(type) {
            var call = valid
            call.readsPacket = true
            call.then = [.load8(.r2, .r8)]
            let (survives, log) = try isAccepted(call)
            #expect(survives == !call.prototype.changesPacket, "packet after \(log.rawValue)")
            for index in 0..<call.prototype.count {
                switch call.prototype.arguments[index] {
                case .mapKey, .mapValue, .mapValueOut, .memory, .updatedMemory, .fixedMemory: break
                default: continue
                }
                call.then = []
                call.arguments = [index + 1: [.mov64(Register.allCases[index + 1], .r8)]]
                let (accepted, log) = try isAccepted(call)
                #expect(accepted == call.prototype.takesPacket, "packet in \(index + 1): \(log.rawValue)")
            }
        }
    }

    @Test(arguments: [false, true])
    func mapsThatProgramsUse(isSleepable: Bool) throws {
        for (map, descriptor) in maps.descriptors {
            let program = [
                Instruction(.loadMap, dst: .r1, imm: Int64(descriptor)), Instruction(.mov64Imm), Instruction(.exit),
            ]
            let answer = KernelVerifier.ask(program, .kprobe, isSleepable: isSleepable)
            let facts = MapFacts(name: "m", type: map, keySize: 4, valueSize: 4, maxEntries: 1)
            let verdict = mayUse(facts, .kprobe, isSleepable: isSleepable)
            #expect(verdict == (answer.status == 0), "\(map.name): \(answer.log)")
        }
    }

    /// r7 holds a socket of every kind in turn, and is passed to helpers that ask for one.
    @Test func socketsThatHelpersTake() throws {
        typealias KernelObject = HelperPrototype.KernelObject
        let casts: [(KernelObject, Helper?)] = [
            (.socketCommon, nil), (.socket, .skFullsock), (.tcpSocket, .tcpSock), (.btfSocket, .skcToTcpSock),
            (.requestSocket, .skcToTcpRequestSock),
        ]
        let users: [(KernelObject, Helper)] = [
            (.socketCommon, .getListenerSock), (.anySocket, .skcToUnixSock), (.anySocket, .skcToTcp6Sock),
        ]
        for (given, cast) in casts {
            for (asked, user) in users {
                var text: [Statement] = [.load64(.r7, .r1, 168), .jumpEqual(.r7, 0, to: "out")]
                if let cast {
                    text += [.mov64(.r1, .r7), .call(cast), .jumpEqual(.r0, 0, to: "out"), .mov64(.r7, .r0)]
                }
                text += [.mov64(.r1, .r7), .call(user), .label("out"), .mov64(.r0, 0), .exit]
                let answer = KernelVerifier.ask(try Assembly(text).instructions, .schedCls)
                #expect(asked.takes(given) == (answer.status == 0), "\(given) to \(user.name): \(answer.log)")
                let found = cast.flatMap { HelperPrototype.of($0)?.result }
                if cast != nil { #expect(found == .kernelObject(given, isNullable: true, isReference: false)) }
            }
        }
    }

    @Test func releasesNeedReferences() throws {
        var call = try #require(Call(.skRelease, .schedCls, maps))
        #expect(try isAccepted(call).0)
        call.then = [.mov64(.r1, .r7), .call(.skRelease)]
        #expect(try !isAccepted(call).0)
        #expect(call.prototype.releasesArgument)
    }
}
