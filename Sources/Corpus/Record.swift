internal import ISA
internal import JSON

/// One record of a corpus: a program, a mutant of one, or a generated program.
struct Record: Sendable {
    var id: String
    /// The instructions as the kernel gets them, but that map references are indices into `maps`.
    var code: [UInt8]
    var type: ProgramType
    var attachType: UInt32 = 0
    /// `BPF_F_…` of `BPF_PROG_LOAD`.
    var flags: UInt32 = 0
    var license = "GPL"
    /// Nil where the record does not describe a map.
    var maps: [RecordMap?] = []
    /// Name of the program's types.
    var btf: String?
    /// Functions with their BTF types; empty where they are not known.
    var functions: [(slot: Int, type: UInt32)] = []
    /// The packet of the first run.
    var input = [UInt8](repeating: 0, count: 64)

    /// Reads any of the three kinds; a mutant is its seed but for its code.
    ///
    /// - Parameter seeds: the programs that mutants name.
    init(_ json: JSONValue, seeds: [String: Record]) throws(RecordError) {
        guard json.isObject else { throw .notAnObject }
        let id = json["id"]?.text
        do throws(RecordError) {
            if let seed = json["seed"] {
                let name = seed.text ?? ""
                guard let program = seeds[name] else { throw .unknownSeed(name) }
                self = program
                code = try hexadecimal(json, "insns")
                input = (0..<64).map { UInt8(truncatingIfNeeded: $0 * 37 + 11) }
            } else if json["map0_data"] != nil {
                self = try Record(generated: json)
            } else {
                self = try Record(program: json)
            }
            guard let id else { throw .missing("id") }
            self.id = id
        } catch {
            throw RecordError(id: id, message: error.message)
        }
    }

    private init(program json: JSONValue) throws(RecordError) {
        id = ""
        code = try hexadecimal(json, "insns")
        type = try programType(json)
        attachType = try number(json, "expected_attach_type") ?? 0
        flags = try number(json, "prog_flags") ?? 0
        license = json["license"]?.text ?? "GPL"
        for map in json["maps"]?.elements ?? [] {
            maps.append(map == .null ? nil : try RecordMap(map))
        }
        if let run = json["runs"]?.elements?.first, run["data"] != nil { input = try hexadecimal(run, "data") }
        btf = json["btf"]?.text
        if json["func_info"] != nil {
            let bytes = try hexadecimal(json, "func_info")
            functions = try functionInfo(bytes, recordSize: number(json, "func_info_rec_size") ?? 8)
        }
    }

    /// Generated programs share one form, which their records leave out.
    private init(generated json: JSONValue) throws(RecordError) {
        id = ""
        code = try hexadecimal(json, "insns")
        type = try programType(json)
        var map = RecordMap(type: MapType.array.rawValue, keySize: 4, valueSize: 64, maxEntries: 1)
        map.data = try hexadecimal(json, "map0_data")
        maps = [map]
    }
}

/// A map of a record.
struct RecordMap: Sendable {
    var name = ""
    var type: UInt32
    var keySize: Int
    var valueSize: Int
    var maxEntries: Int
    var flags: UInt32 = 0
    var isFrozen = false
    /// What the first value holds.
    var data: [UInt8]?
    var inner: [RecordMap] = []
    /// Name of the types, and which one the value has.
    var btf: String?
    var valueType: UInt32 = 0

    init(type: UInt32, keySize: Int, valueSize: Int, maxEntries: Int) {
        self.type = type
        self.keySize = keySize
        self.valueSize = valueSize
        self.maxEntries = maxEntries
    }

    init(_ json: JSONValue, isInner: Bool = false) throws(RecordError) {
        self.init(
            type: try required(json, "type"),
            keySize: Int(try required(json, "key_size")),
            valueSize: Int(try required(json, "value_size")),
            maxEntries: Int(try required(json, "max_entries"))
        )
        name = json["name"]?.text ?? ""
        flags = try number(json, "flags") ?? 0
        isFrozen = json["frozen"]?.flag ?? false
        if json["data"] != nil { data = try hexadecimal(json, "data") }
        if let inner = json["inner"], !isInner { self.inner = [try RecordMap(inner, isInner: true)] }
        btf = json["btf"]?.text
        valueType = try number(json, "btf_value_type_id") ?? 0
    }
}

// MARK: Members

private func number(_ json: JSONValue, _ key: String) throws(RecordError) -> UInt32? {
    guard let value = json[key] else { return nil }
    guard let number = value.number else { throw .missing(key) }
    guard let result = UInt32(exactly: number) else { throw .outOfRange(key, number) }
    return result
}

private func required(_ json: JSONValue, _ key: String) throws(RecordError) -> UInt32 {
    guard let value = try number(json, key) else { throw .missing(key) }
    return value
}

private func programType(_ json: JSONValue) throws(RecordError) -> ProgramType {
    let number = try required(json, "prog_type")
    guard let type = ProgramType(rawValue: number) else { throw .unknownProgramType(number) }
    return type
}

private func hexadecimal(_ json: JSONValue, _ key: String) throws(RecordError) -> [UInt8] {
    guard let text = json[key]?.text else { throw .missing(key) }
    guard let bytes = bytes(hexadecimal: text) else { throw .notHexadecimal(key) }
    return bytes
}

private func bytes(hexadecimal text: String) -> [UInt8]? {
    let digits = Array(text.utf8)
    if digits.count % 2 != 0 { return nil }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(digits.count / 2)
    for index in stride(from: 0, to: digits.count, by: 2) {
        guard let high = digit(digits[index]), let low = digit(digits[index + 1]) else { return nil }
        bytes.append(high << 4 | low)
    }
    return bytes
}

private func digit(_ character: UInt8) -> UInt8? {
    switch character {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
    default: nil
    }
}

/// `struct bpf_func_info`: a slot and a type each, more in later kernels.
private func functionInfo(
    _ bytes: [UInt8],
    recordSize: UInt32
) throws(RecordError) -> [(slot: Int, type: UInt32)] {
    let size = Int(recordSize)
    guard size >= 8, size <= 4096 else { throw .functionInfo("records of \(size) bytes") }
    guard bytes.count % size == 0 else { throw .functionInfo("\(bytes.count) bytes of records of \(size)") }
    return stride(from: 0, to: bytes.count, by: size).map { at in
        (Int(word(bytes, at)), word(bytes, at + 4))
    }
}

private func word(_ bytes: [UInt8], _ at: Int) -> UInt32 {
    (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1) }
}
