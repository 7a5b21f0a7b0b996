import CRuntime
import Foundation
import Testing

/// The copy loop that stands in the vDSO, made for functions that look like the kernel's. (What the kernel does with its faults,
/// `PreloadTests.ReadTests` tries in programs.)
@Suite(.serialized) struct GuardTests {
    private static let prologue: [UInt8] = [0x55, 0x48, 0x89, 0xe5, 0x53]
    private static let enclu: [UInt8] = [0x0f, 0x01, 0xd7]
    private static let epilogue: [UInt8] = [0x5b, 0xc9, 0xc3]

    /// A function of `size` bytes with ENCLU at `load` and the epilogue at `out`.
    private static func function(
        size: Int = 157,
        load: Int = 58,
        out: Int = 81,
        prologue: [UInt8] = prologue,
        second: Int? = nil
    ) -> cruntime_guard {
        var guarded = cruntime_guard()
        guarded.size = UInt32(size)
        withUnsafeMutableBytes(of: &guarded.original) { bytes in
            bytes.initializeMemory(as: UInt8.self, repeating: 0xcc)
            func put(_ code: [UInt8], _ place: Int) { bytes[place..<place + code.count].copyBytes(from: code) }
            put(prologue, 0)
            put(enclu, load)
            put(epilogue, out)
            if let second { put(enclu, second) }
        }
        return guarded
    }

    struct Case: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var make: @Sendable () -> cruntime_guard
    }

    static let refused = [
        Case(testDescription: "another prologue") { function(prologue: [0x53, 0x48, 0x89, 0xe5, 0x55]) },
        Case(testDescription: "nothing behind endbr64") { function(prologue: [0xf3, 0x0f, 0x1e, 0xfa, 0x55]) },
        Case(testDescription: "no room before the load") { function(load: 6, out: 81) },
        Case(testDescription: "too far from the start") { function(size: 250, load: 128, out: 160) },
        Case(testDescription: "no room for the loop") { function(load: 58, out: 77) },
        Case(testDescription: "no room behind the epilogue") { function(size: 91) },
        Case(testDescription: "two of them") { function(second: 120) },
        Case(testDescription: "none") {
            var guarded = function()
            guarded.size = 50
            return guarded
        },
    ]

    @Test(arguments: refused) func otherFunctionsAreLeftAlone(_ it: Case) {
        var guarded = it.make()
        #expect(cruntime_make_guard(&guarded) == 0)
    }

    @Test(arguments: [[], [0xf3, 0x0f, 0x1e, 0xfa]] as [[UInt8]]) func unwindersFindTheFrame(_ before: [UInt8]) {
        let start = before + Self.prologue
        var guarded = Self.function(prologue: start)
        #expect(cruntime_make_guard(&guarded) == 1)
        withUnsafeBytes(of: &guarded.code) {
            #expect(Array($0[0..<start.count]) == start)
            // jmp to the load
            #expect($0[start.count] == 0xeb && start.count + 2 + Int($0[start.count + 1]) == 58)
            #expect(Array($0[81..<84]) == Self.epilogue)
            // mov (%rsi), %rax, the only load, is where ENCLU was.
            #expect(Array($0[58..<61]) == [0x48, 0x8b, 0x06])
        }
    }

    /// Every size at every distance from a page's end, and nothing is touched beyond the range's own pages.
    @Test func everySizeNearPageEnds() throws {
        var guarded = Self.function()
        try #require(cruntime_make_guard(&guarded) == 1)
        let page = 4096
        let none = MAP_PRIVATE | MAP_ANONYMOUS
        let memory = try #require(mmap(nil, 5 * page, PROT_READ | PROT_WRITE | PROT_EXEC, none, -1, 0))
        defer { munmap(memory, 5 * page) }
        withUnsafeBytes(of: &guarded.code) {
            memory.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(memory), byteCount: 157)
        }
        // Two readable pages between two that are not.
        let source = memory + 2 * page
        for index in 0..<2 * page {
            source.storeBytes(of: UInt8(truncatingIfNeeded: index * 7 + 1), toByteOffset: index, as: UInt8.self)
        }
        mprotect(memory + page, page, PROT_NONE)
        mprotect(memory + 4 * page, page, PROT_NONE)
        // For these reads only: those of other tests may fault.
        let words = unsafeBitCast(memory, to: cruntime_words.self)
        for size in 0...40 {
            let starts = Array(0..<16) + Array(page - 48..<page + 16) + Array(2 * page - size - 16...2 * page - size)
            for start in starts {
                var bytes = [UInt8](repeating: 0x55, count: 48)
                let result = cruntime_fetch_with(words, &bytes, UInt64(UInt(bitPattern: source + start)), UInt64(size))
                let expected = (0..<48).map { $0 < size ? UInt8(truncatingIfNeeded: (start + $0) * 7 + 1) : 0x55 }
                #expect(result == 0 && bytes == expected, "\(size) at \(start)")
            }
        }
    }

    @Test func withoutItTheKernelCopies() {
        var bytes = [UInt8](repeating: 0x55, count: 24)
        #expect(cruntime_fetch(&bytes, 8, 24) == -14)
        #expect(bytes.allSatisfy { $0 == 0 })
    }
}
