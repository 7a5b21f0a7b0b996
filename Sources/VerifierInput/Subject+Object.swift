internal import ISA
package import Loader
package import Verifier

extension Subject {
    /// A program of an object, already relocated, as it is before its maps are made.
    ///
    /// Read-only data is what the object says now: options are to be set before. `types` are those of the object.
    package init(program: ProgramSpec, of object: ObjectSpec, types: TypeFacts?) {
        let functions = program.functions.enumerated().map { index, function in
            FunctionFacts(
                name: function.name,
                start: function.start,
                contract: index == 0 || function.isHidden ? nil : types?.contract(function.type, of: program.type)
            )
        }
        self.init(
            instructions: program.instructions,
            functions: functions,
            maps: object.maps.map { MapFacts($0, types: types) },
            type: program.type
        )
        attachType = program.attachType
        isSleepable = program.isSleepable
        isGPL = isGPLCompatible(object.license)
    }
}

extension MapFacts {
    /// A map of an object.
    package init(_ map: MapSpec, types: TypeFacts?) {
        self.init(
            name: map.name,
            type: map.type,
            keySize: map.keySize,
            valueSize: map.valueSize,
            maxEntries: map.maxEntries,
            flags: map.isReadOnly ? map.flags | MapFacts.readOnlyFlag : map.flags
        )
        isFrozen = map.isReadOnly
        contents = map.contents
        if let inner = map.innerMap {
            var facts = MapFacts(
                name: "\(map.name).inner",
                type: inner.type,
                keySize: inner.keySize,
                valueSize: inner.valueSize,
                maxEntries: inner.maxEntries,
                flags: inner.flags
            )
            facts.readFields(inner.valueType, types)
            self.inner = [facts]
        }
        let places = map.variables.map { ($0.name, $0.offset) }
        readFields(map.valueType, types, Dictionary(places) { first, _ in first })
    }

    private mutating func readFields(_ valueType: UInt32, _ types: TypeFacts?, _ places: [String: Int] = [:]) {
        guard let types, valueType != 0 else { return }
        spinLock = types.spinLock(inValue: valueType, places: places)
        timer = types.timer(inValue: valueType, places: places)
    }

    /// The special fields and where they are, as one number: maps inside a map of maps agree in it (Linux
    /// `btf_record_equal`).
    package var record: UInt64 {
        UInt64((spinLock ?? -1) + 1) << 32 | UInt64((timer ?? -1) + 1)
    }

    /// Where such a number says that the lock is.
    package static func lock(of record: UInt64) -> Int? { record >> 32 == 0 ? nil : Int(record >> 32) - 1 }
}
