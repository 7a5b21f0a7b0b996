import EngineSupport
import ISA
import Verifier

/// One input: whatever the program, the verifier answers, soon; what it accepts runs inside the states that it saw.
func fuzzVerifier(_ bytes: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    let input = Array(UnsafeBufferPointer(start: bytes, count: size))
    guard let program = try? decode(input) else { return 0 }
    if let fault = VerifiedSession.fault(ofUntrusted: program) { fatalError(fault) }
    return 0
}

@_silgen_name("LLVMFuzzerRunDriver")
func runFuzzer(
    _ argc: UnsafeMutablePointer<Int32>,
    _ argv: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ one: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// The package manager names `main` so.
@_cdecl("fuzz_verifier_main")
func start(_ argc: Int32, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> Int32 {
    var (argc, argv) = (argc, argv)
    return runFuzzer(&argc, &argv) { fuzzVerifier($0, $1) }
}
