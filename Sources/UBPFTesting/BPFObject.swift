import ISA
package import Loader

/// A compiled BPF object, before it runs: what libbpf calls an opened skeleton.
///
/// Set its options first, then make a ``VM`` of it:
///
///     var object = try BPFObject(path: "memleak.bpf.o")
///     try object.set("min_size", to: 16)
///     let vm = try VM(object)
public struct BPFObject: Sendable {
    var spec: ObjectSpec

    /// Reads an object file.
    public init(path: String) throws(TestingError) {
        do { spec = try loadObject(path: path) } catch { throw TestingError(error) }
    }

    /// An object that was read already.
    package init(_ spec: ObjectSpec) { self.spec = spec }

    /// Reads an object that is in memory; `name` stands in messages.
    public init(bytes: [UInt8], name: String) throws(TestingError) {
        do { spec = try loadObject(bytes: bytes, name: name) } catch { throw TestingError(error) }
    }

    /// The object's types; nil where it was compiled without `-g`.
    var types: Types? { spec.btf.map { Types(btf: $0) } }

    /// Sets the initial value of a global variable, by its type; the only way to set a `const volatile` one.
    public mutating func set(_ variable: String, to value: Value) throws(TestingError) {
        let (map, found) = try find(variable)
        if let types, found.type != 0 {
            return try set(try types.encode(value, found.type, variable), map, found)
        }
        guard case .integer(let number) = value, found.size <= 8 else {
            throw .notAnInteger(variable, size: found.size)
        }
        try set(Array(littleEndian(UInt64(truncatingIfNeeded: number)).prefix(found.size)), map, found)
    }

    /// Names of the programs, in the object's order.
    public var programs: [String] { spec.programs.map(\.name) }

    /// Names of the maps, global data included.
    public var maps: [String] { spec.maps.map(\.name) }

    /// Names of the global variables of `.rodata`, `.data` and `.bss`.
    public var variables: [String] { spec.maps.flatMap { map in map.variables.map(\.name) } }

    /// Names of the maps that the object declares, and of the variables that programs may change.
    package var state: (maps: [String], variables: [String]) {
        let declared = spec.maps.filter { $0.contents == nil }.map(\.name)
        let data = spec.maps.filter { $0.contents != nil && !$0.isReadOnly }
        return (declared, data.flatMap { map in map.variables.map(\.name) })
    }

    /// Sets the initial value of a global variable by its bytes.
    public mutating func set(_ variable: String, to bytes: [UInt8]) throws(TestingError) {
        let (map, found) = try find(variable)
        guard bytes.count <= found.size else { throw .tooLong(variable, bytes.count, found.size) }
        try set(bytes, map, found)
    }

    /// Changes the size of a map that the object leaves to its loader; nil parts stay.
    public mutating func resize(map name: String, maxEntries: Int? = nil, valueSize: Int? = nil) throws(TestingError) {
        guard let index = spec.maps.firstIndex(where: { $0.name == name }) else { throw .noMap(name, maps) }
        if let maxEntries { spec.maps[index].maxEntries = maxEntries }
        if let valueSize { spec.maps[index].valueSize = valueSize }
    }

    /// Says what a program is, by a section's name like `xdp`: for those that libbpf leaves to their loader.
    public mutating func set(section: String, of program: String) throws(TestingError) {
        guard let index = spec.programs.firstIndex(where: { $0.name == program }) else {
            throw .noProgram(program, programs)
        }
        let title: SectionName
        do { title = try SectionName.parse(section) } catch { throw .badSection(section) }
        spec.programs[index].type = title.type
        spec.programs[index].attach = title.attach
        spec.programs[index].attachType = title.attachType
        spec.programs[index].isSleepable = title.isSleepable
        spec.programs[index].problems.removeAll { $0.kind == .badSectionName }
    }

    /// Where a variable lies: index of its map, and its place in there.
    func find(_ variable: String) throws(TestingError) -> (map: Int, variable: VariableSpec) {
        for (index, map) in spec.maps.enumerated() {
            if let found = map.variables.first(where: { $0.name == variable }) { return (index, found) }
        }
        throw .noVariable(variable, variables)
    }

    private mutating func set(_ bytes: [UInt8], _ map: Int, _ variable: VariableSpec) throws(TestingError) {
        var contents = spec.maps[map].contents ?? []
        let end = variable.offset + variable.size
        if contents.count < end { contents += [UInt8](repeating: 0, count: end - contents.count) }
        contents.replaceSubrange(variable.offset..<variable.offset + bytes.count, with: bytes)
        spec.maps[map].contents = contents
    }
}
