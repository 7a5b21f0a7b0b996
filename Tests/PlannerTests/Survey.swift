import Symbols
import Testing

@testable import Planner

/// Every function of a real binary, as the resolver would hand it to the planner.
struct Survey {
    var functions: [FunctionCode] = []
    var indirect = 0

    /// `bias` makes addresses like those of a loaded library.
    init(path: String, bias: UInt64 = 0x7F12_3456_7000) throws {
        let symbols = try ModuleSymbols(path: path)
        let bias = symbols.isPositionIndependent ? bias : 0
        var text: ModuleText?
        var seen: Set<UInt64> = []
        for symbol in symbols.functions where symbol.size > 0 && seen.insert(symbol.address).inserted {
            if symbol.isIndirect {
                indirect += 1
                continue
            }
            if text?.code(symbol.address &+ bias..<symbol.address &+ bias + 1).isEmpty != false {
                text = ModuleText(symbols: symbols, containing: symbol.address, bias: bias)
            }
            guard let text else { continue }
            let range = symbol.address &+ bias..<symbol.address &+ bias + symbol.size
            functions.append(FunctionCode(name: symbol.name, range: range, text: text))
        }
    }
}

/// A generator with a fixed seed (SplitMix64).
struct Generator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
