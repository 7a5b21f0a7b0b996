import ISA
import UBPFVM

/// One input: whatever the bytes, the decoder answers; what it accepts it writes back, and linking answers too.
func fuzzDecoder(_ bytes: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    let input = Array(UnsafeBufferPointer(start: bytes, count: size))
    guard let instructions = try? decode(input) else { return 0 }
    let slots = RawInstruction.slots(input)
    precondition(encode(instructions) == slots, "what was decoded is encoded otherwise")
    _ = Disassembler().listing(instructions)
    _ = try? link(instructions, mapCount: 3) { map, offset in
        offset < 64 ? SegmentOffset(storage: 0, offset: UInt64(map * 64) + UInt64(offset)) : nil
    }
    return 0
}

@_silgen_name("LLVMFuzzerRunDriver")
func runFuzzer(
    _ argc: UnsafeMutablePointer<Int32>,
    _ argv: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ one: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// The package manager names `main` so.
@_cdecl("fuzz_decoder_main")
func start(_ argc: Int32, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> Int32 {
    var (argc, argv) = (argc, argv)
    return runFuzzer(&argc, &argv) { fuzzDecoder($0, $1) }
}
