import Foundation
import Testing

@testable import Symbols

@Suite struct SymbolizerTests {
    private static let source = """
        #include <stdlib.h>
        static inline __attribute__((always_inline)) int innermost(int x) {
            return x * 3 + rand();
        }
        static inline __attribute__((always_inline)) int middle(int x) {
            return innermost(x) + 1;
        }
        namespace shapes { struct Circle { __attribute__((noinline)) int area(int r) const { return middle(r) + r; } }; }
        __attribute__((noinline)) int outer(int x) { return middle(x) * 2; }
        int main(int argc, char **argv) { (void)argv; return outer(argc) + shapes::Circle().area(argc); }
        """

    /// Every byte of a program's functions, against addr2line: file and line of each frame, and the callers' names.
    ///
    /// The innermost name is left out: binutils 2.40 gives the outermost function's where an inlined range starts.
    @Test func agreesWithAddr2line() throws {
        let directory = try TemporaryDirectory()
        let program = try directory.compile(Self.source, cxx: true, ["-O2", "-g"])
        let symbols = try ModuleSymbols(path: program)
        let bias: UInt64 = 0x10000
        let module = SymbolizerModule(path: program, start: bias, end: bias + 0x100_0000, bias: bias)
        let symbolizer = Symbolizer(modules: [module])
        var addresses: [UInt64] = []
        for function in symbols.functions
        where ["main", "_Z5outeri"].contains(function.name) || function.name.contains("area") {
            addresses += (0..<function.size).map { function.address + $0 }
        }
        #expect(addresses.count > 50)
        let listing = try run(
            "addr2line",
            ["-f", "-C", "-i", "-a", "-e", program] + addresses.map { "0x" + String($0, radix: 16) }
        )
        var expected: [[(String, String)]] = []
        var lines = listing.output.split(separator: "\n").map(String.init)[...]
        while let line = lines.popFirst() {
            if line.hasPrefix("0x") {
                expected.append([])
            } else if let place = lines.popFirst() {
                expected[expected.count - 1].append((line, place))
            }
        }
        #expect(expected.count == addresses.count)
        var differences: [String] = []
        for (address, frames) in zip(addresses, expected) {
            let ours = symbolizer.symbolize(address + bias, isReturnAddress: false)
            let theirs = frames.enumerated().map { index, frame in
                let (name, place) = frame
                return index == 0
                    ? "\(place.split(separator: "/").last?.split(separator: " ").first ?? "")"
                    : "\(name.prefix { $0 != "(" }) \(place.split(separator: "/").last?.split(separator: " ").first ?? "")"
            }
            let mine = ours.enumerated().map { index, frame in
                let name = (frame.function ?? "??").prefix { $0 != "(" }
                let file = frame.file?.split(separator: "/").last ?? "??"
                let place = "\(file):\(frame.line ?? 0)"
                return index == 0 ? place : "\(name) \(place)"
            }
            if mine != theirs { differences.append("\(String(address, radix: 16)): \(mine) and \(theirs)") }
        }
        #expect(differences.prefix(3) == [])
    }

    @Test func cxxNamesAreDemangled() throws {
        let directory = try TemporaryDirectory()
        let program = try directory.compile(Self.source, cxx: true, ["-O1"])
        let symbols = try ModuleSymbols(path: program)
        let function = try #require(symbols.functions.first { $0.name.contains("area") })
        let symbolizer = Symbolizer(modules: [SymbolizerModule(path: program, start: 0, end: 1 << 30, bias: 0)])
        let frame = try #require(symbolizer.symbolize(function.address, isReturnAddress: false).first)
        #expect(frame.function?.hasPrefix("shapes::Circle::area") == true)
        #expect(frame.offset == 0)
    }

    /// A program that is mapped in two pieces, as node does with its text, and a library where another had been.
    @Test func piecesAndOverlaps() throws {
        let directory = try TemporaryDirectory()
        let first = try directory.compile(Self.source, cxx: true, ["-O1"])
        let library = "/usr/lib/x86_64-linux-gnu/libm.so.6"
        let outer = try #require(ModuleSymbols(path: first).functions.first { $0.name == "_Z5outeri" })
        let sine = try #require(ModuleSymbols(path: library).functions.first { $0.name == "sincosf" })
        let bias: UInt64 = 0x7000_0000
        let middle = bias + outer.address
        let symbolizer = Symbolizer(modules: [
            SymbolizerModule(path: first, start: bias, end: middle, bias: bias),
            SymbolizerModule(path: first, start: middle, end: bias + 0x4000, bias: bias),
            SymbolizerModule(path: library, start: bias + 0x4000, end: bias + 0x100_0000, bias: bias),
        ])
        for _ in 0..<2 {
            let name = { (address: UInt64) in symbolizer.symbolize(address, isReturnAddress: false).first?.function }
            #expect(name(middle) == "outer(int)")
            #expect(name(bias + sine.address)?.contains("sincosf") == true)
        }
    }

    @Test func unknownAddressesAreHexadecimal() {
        let frames = Symbolizer(modules: []).symbolize(0xdead_beef, isReturnAddress: false)
        #expect(frames.count == 1)
        #expect(frames.first?.function == nil)
        #expect(frames.first?.name == "0xdeadbeef")
    }
}
