/// Why a program cannot be made ready to run.
package struct LinkError: Error, Equatable, Sendable {
    package enum Kind: Equatable, Sendable {
        case empty
        case tooLong(count: Int)
        /// A jump, call or function reference that goes to no instruction; `slot` counts 8-byte slots.
        case badTarget(slot: Int)
        case fallsThrough
        case writesFramePointer
        case unknownMap(index: Int)
        /// `offset` lies outside the map's values, or the map has no directly addressable ones.
        case noSuchValue(map: Int, offset: UInt32)
    }

    package let kind: Kind
    /// Index of the instruction.
    package let index: Int

    package init(_ kind: Kind, at index: Int) {
        self.kind = kind
        self.index = index
    }

    /// One line for people: place, what is wrong, what to do.
    package var description: String {
        switch kind {
        case .empty: "the program has no instructions"
        case .tooLong(let count): "the program has \(count) instructions; the limit is \(Linker.maximumInstructions)"
        case .badTarget(let slot): "instruction \(index): goes to slot \(slot), where no instruction starts"
        case .fallsThrough: "instruction \(index): the program runs past its end; end it with exit or a jump"
        case .writesFramePointer: "instruction \(index): writes r10, which is read only"
        case .unknownMap(let map): "instruction \(index): refers to map \(map), which the session does not have"
        case .noSuchValue(let map, let offset):
            "instruction \(index): map \(map) has no directly addressable value at offset \(offset)"
        }
    }
}
