import Embedding
import Loader

/// One input: whatever the bytes, both readers of objects answer.
func fuzzLoader(_ bytes: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    let input = Array(UnsafeBufferPointer(start: bytes, count: size))
    _ = try? loadObject(bytes: input, name: "fuzz.bpf.o")
    _ = try? readProgram(input, name: nil)
    return 0
}

@_silgen_name("LLVMFuzzerRunDriver")
func runFuzzer(
    _ argc: UnsafeMutablePointer<Int32>,
    _ argv: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ one: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// The package manager names `main` so.
@_cdecl("fuzz_loader_main")
func start(_ argc: Int32, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> Int32 {
    var (argc, argv) = (argc, argv)
    return runFuzzer(&argc, &argv) { fuzzLoader($0, $1) }
}
