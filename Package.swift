// swift-tools-version: 6.2
// The agent (libubpf.so) and the controller (ubpfrun) share modules. The agent's modules also build as Embedded Swift:
// `UBPF_EMBEDDED=1 swift build --scratch-path .build-embedded --product ubpf` makes the library that ships.
import PackageDescription

let embedded = Context.environment["UBPF_EMBEDDED"] == "1"

let common: [SwiftSetting] = [
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

/// Settings of modules that run inside a target process.
let inTarget: [SwiftSetting] =
    common
    + (embedded
        ? [.enableExperimentalFeature("Embedded"), .unsafeFlags(["-wmo", "-Xfrontend", "-function-sections"])] : [])

/// For modules of the library that run before and after programs, not while they run.
let small: [SwiftSetting] = [.unsafeFlags(["-Osize"], .when(configuration: .release))]

/// Aligned like a cache line, so that where the interpreter's dispatch lies in one does not depend on code elsewhere: where it straddles
/// two, everything takes half as long again.
let interpreter: [SwiftSetting] = [
    .unsafeFlags(["-Xllvm", "-x86-experimental-pref-innermost-loop-alignment=6"], .when(configuration: .release))
]

let cSettings: [CSetting] = [
    .unsafeFlags(["-Wall", "-Wextra", "-Werror", "-std=gnu17", "-fno-stack-protector", "-fPIC"])
]

let agentTargets: [Target] = [
    // Layouts shared by both sides of a session; structs only.
    .target(name: "CSession"),
    // Freestanding primitives: raw syscalls, clock, CPU number, fault-safe copy.
    .target(name: "CRuntime", dependencies: ["CSession"], cSettings: cSettings),
    .target(name: "ISA", swiftSettings: inTarget),
    .target(name: "Runtime", dependencies: ["ISA", "CSession", "CRuntime"], swiftSettings: inTarget),
    .target(
        name: "UBPFVM",
        dependencies: ["ISA", "Runtime", "CSession", "CRuntime"],
        swiftSettings: inTarget + interpreter
    ),
    .target(
        name: "JIT",
        dependencies: ["ISA", "Runtime", "UBPFVM", "CSession", "CRuntime"],
        swiftSettings: inTarget
    ),
    .target(
        name: "CPatch",
        dependencies: ["CSession", "CRuntime"],
        cSettings: cSettings + [.unsafeFlags(["-mgeneral-regs-only"])]
            + (embedded ? [.define("UBPF_OWN_MEMORY_FUNCTIONS")] : [])
    ),
    .target(
        name: "Agent",
        dependencies: ["ISA", "Runtime", "UBPFVM", "JIT", "CSession", "CRuntime", "CPatch"],
        swiftSettings: inTarget
    ),
    // include/ubpf.h, which Embedding implements.
    .systemLibrary(name: "CUBPF", path: "include"),
    .target(
        name: "Embedding",
        dependencies: ["ISA", "Runtime", "UBPFVM", "JIT", "CSession", "CRuntime", "CUBPF"],
        swiftSettings: inTarget + small
    ),
    .target(
        name: "Preload",
        dependencies: ["Agent", "Embedding"],
        exclude: ["libubpf.map"],
        swiftSettings: inTarget,
        linkerSettings: [
            .unsafeFlags(
                (embedded ? [] : ["-static-stdlib"])
                    + [
                        "-Xlinker", "--version-script=\(Context.packageDirectory)/Sources/Preload/libubpf.map",
                        "-Xlinker", "--gc-sections", "-Xlinker", "-z", "-Xlinker", "defs", "-Xlinker", "-z", "-Xlinker",
                        "now",
                        "-Xlinker", "-z", "-Xlinker", "relro", "-Xlinker", "-soname=libubpf.so",
                    ]
            )
        ]
    ),
]

let controllerTargets: [Target] = [
    .target(name: "CLinux", dependencies: ["CRuntime"], cSettings: cSettings),
    .systemLibrary(name: "CELF", pkgConfig: "libdw", providers: [.apt(["libelf-dev", "libdw-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CCapstone", pkgConfig: "capstone", providers: [.apt(["libcapstone-dev"])]),
    .systemLibrary(name: "CUnwind", pkgConfig: "libunwind", providers: [.apt(["libunwind-dev"])]),
    .target(name: "Verifier", dependencies: ["ISA"], swiftSettings: common),
    .target(name: "Loader", dependencies: ["ISA", "CELF"], swiftSettings: common),
    // Objects as the verifier sees them.
    .target(name: "VerifierInput", dependencies: ["ISA", "Loader", "Verifier"], swiftSettings: common),
    .target(name: "JSON", swiftSettings: common),
    .target(name: "Kernel", dependencies: ["ISA", "CLinux", "CZlib", "Loader"], swiftSettings: common),
    .target(name: "Symbols", dependencies: ["CELF"], swiftSettings: common),
    .target(name: "Planner", dependencies: ["Symbols", "CCapstone"], swiftSettings: common),
    .target(name: "Inject", dependencies: ["CLinux", "Symbols"], swiftSettings: common),
    .target(name: "Conformance", dependencies: ["ISA", "UBPFVM", "JIT", "Embedding"], swiftSettings: common),
    .executableTarget(name: "ubpf-conformance", dependencies: ["Conformance"], swiftSettings: common),
    // The verifier and the engines on records of a corpus.
    .target(
        name: "Corpus",
        dependencies: [
            "ISA", "Loader", "Verifier", "VerifierInput", "JSON", "Runtime", "UBPFVM", "JIT", "CSession", "CRuntime",
        ],
        swiftSettings: common
    ),
    .executableTarget(name: "ubpf-corpus", dependencies: ["Corpus"], swiftSettings: common),
    // Helpers of tests: C functions that know their number.
    .target(name: "CWorld", cSettings: cSettings),
    .target(
        name: "UBPFTesting",
        dependencies: [
            "ISA", "Loader", "Verifier", "VerifierInput", "Runtime", "UBPFVM", "JIT", "CSession", "CRuntime", "CLinux",
            "CWorld", "Kernel",
        ],
        swiftSettings: common
    ),
    // For Swift Testing, which nothing but tests links.
    .target(name: "UBPFTestingTraits", dependencies: ["UBPFTesting"], swiftSettings: common),
    .target(
        name: "Controller",
        dependencies: [
            "ISA", "Loader", "Verifier", "VerifierInput", "JSON", "Runtime", "UBPFVM", "Kernel", "Symbols", "Planner",
            "Inject",
            "CSession", "CLinux",
        ],
        swiftSettings: common
    ),
    // Case files: `ubpfrun test`.
    .target(name: "Cases", dependencies: ["Controller", "UBPFTesting"], swiftSettings: common),
    .executableTarget(
        name: "ubpfrun",
        dependencies: [
            "Controller", "Cases", "UBPFTesting", "ISA",
            .product(name: "ArgumentParser", package: "swift-argument-parser"),
        ],
        swiftSettings: common
    ),
]

/// A test target for `module`, with the helpers every test may use.
func tests(_ module: String, _ more: [Target.Dependency] = [], exclude: [String] = []) -> Target {
    .testTarget(
        name: "\(module)Tests",
        dependencies: [.byName(name: module)] + more,
        exclude: exclude,
        swiftSettings: [.treatAllWarnings(as: .error)]
    )
}

let testing: [SwiftSetting] = [
    .treatAllWarnings(as: .error), .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

let testTargets: [Target] = [
    tests("ISA"),
    .target(
        name: "CWalkFixtures",
        dependencies: ["CRuntime"],
        path: "Tests/CWalkFixtures",
        cSettings: [.unsafeFlags(["-O2", "-fomit-frame-pointer", "-fasynchronous-unwind-tables"])]
    ),
    .target(name: "CForkFixtures", path: "Tests/CForkFixtures"),
    tests("Runtime", ["ISA", "CSession", "CRuntime", "CUnwind", "CWalkFixtures", "CForkFixtures"]),
    tests("UBPFVM", ["ISA", "Runtime", "CSession", "CRuntime"]),
    tests("JIT", ["ISA", "Runtime", "UBPFVM", "CSession", "CRuntime", "CCapstone"]),
    tests("Verifier", ["ISA", "Kernel"]),
    tests("Loader", ["ISA"], exclude: ["Fixtures"]),
    tests("Kernel", ["ISA", "Loader"]),
    tests("Symbols"),
    tests("Planner", ["Symbols", "CCapstone"]),
    tests("Inject", ["CLinux", "Symbols", "inject-driver"], exclude: ["Fixtures"]),
    // Injects as often as it is told, in a process of its own: as another user, or to be killed.
    .executableTarget(
        name: "inject-driver",
        dependencies: ["Inject", "CLinux"],
        path: "Tests/InjectDriver",
        swiftSettings: testing
    ),
    tests(
        "Agent",
        ["Runtime", "UBPFVM", "ISA", "CSession", "CRuntime", "CPatch", "CUnwind", "live-torture", "CForkFixtures"]
    ),
    // Functions that threads run while their code changes; a process of its own, as it may die.
    .executableTarget(
        name: "live-torture",
        dependencies: ["CSession", "CRuntime", "CPatch"],
        path: "Tests/LiveTorture",
        cSettings: cSettings
    ),
    tests("Embedding", ["ISA", "UBPFVM", "CUBPF", "CRuntime"], exclude: ["Fixtures"]),
    .testTarget(
        name: "ConformancePluginTests",
        dependencies: ["Conformance", "ISA", "ubpf-conformance"],
        swiftSettings: [.treatAllWarnings(as: .error)]
    ),
    tests("Corpus", ["JSON", "ubpf-corpus"]),
    tests("VerifierInput", ["ISA", "Loader", "Verifier"]),
    tests("UBPFTesting", ["UBPFTestingTraits"], exclude: ["Fixtures"]),
    tests("Cases", ["Controller", "UBPFTesting"]),
    tests("Controller", ["ISA", "JSON", "Loader", "Verifier", "Inject"]),
    // The engines, a reference and random programs; for tests and for the fuzzer.
    .target(
        name: "EngineSupport",
        dependencies: ["ISA", "UBPFVM", "JIT", "Runtime", "Kernel", "Verifier", "CRuntime"],
        path: "Tests/EngineSupport",
        swiftSettings: testing
    ),
    .executableTarget(
        name: "ubpf-fuzz",
        dependencies: ["EngineSupport", "ISA", "Kernel", "Loader", "Verifier", "VerifierInput"],
        path: "Fuzz/programs",
        swiftSettings: testing
    ),
    .executableTarget(
        name: "stack-bench",
        dependencies: ["ISA", "Runtime", "CSession", "CRuntime", "CUnwind", "CWalkFixtures"],
        path: "Benchmarks/stack",
        swiftSettings: testing
    ),
    .executableTarget(
        name: "testing-bench",
        dependencies: ["UBPFTesting"],
        path: "Benchmarks/testing",
        exclude: ["hundred.bpf.c"],
        swiftSettings: testing
    ),
    .executableTarget(
        name: "helper-bench",
        dependencies: ["ISA", "Runtime", "UBPFVM", "JIT", "CSession", "CRuntime"],
        path: "Benchmarks/helpers",
        swiftSettings: testing
    ),
    .executableTarget(
        name: "map-bench",
        dependencies: ["ISA", "Runtime", "UBPFVM", "JIT", "Kernel", "CSession", "CRuntime"],
        path: "Benchmarks/maps",
        swiftSettings: testing
    ),
    // Every engine against every case, the kernel included where the tests run as root.
    .testTarget(
        name: "ConformanceTests",
        dependencies: ["EngineSupport", "ISA", "UBPFVM", "JIT", "Runtime", "Kernel", "CSession", "CRuntime", "CLinux"],
        swiftSettings: testing
    ),
    // Real processes under dist/lib/libubpf.so and dist/bin/ubpfrun; nothing of the agent is linked.
    .testTarget(
        name: "PreloadTests",
        dependencies: ["ISA", "Runtime", "UBPFVM", "Planner", "Symbols", "CSession", "CLinux"],
        exclude: ["Fixtures"],
        swiftSettings: [.treatAllWarnings(as: .error)]
    ),
]

/// libFuzzer harnesses: `UBPF_FUZZER=1 swift build --scratch-path .build-fuzzer`, all code instrumented.
let isFuzzer = Context.environment["UBPF_FUZZER"] == "1"

func fuzzer(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: "fuzz-\(name)",
        dependencies: dependencies,
        path: "Fuzz/\(name)",
        swiftSettings: [.unsafeFlags(["-parse-as-library"])],
        linkerSettings: [.unsafeFlags(["-sanitize=fuzzer"])]
    )
}

let fuzzers: [Target] =
    isFuzzer
    ? [
        fuzzer("decoder", ["ISA", "UBPFVM"]), fuzzer("loader", ["Loader", "Embedding"]),
        fuzzer("verifier", ["EngineSupport", "ISA", "Verifier"]),
    ] : []

let package = Package(
    name: "ubpfrun",
    products: [.library(name: "ubpf", type: .dynamic, targets: ["Preload"])]
        + (embedded
            ? []
            : [
                .executable(name: "ubpfrun", targets: ["ubpfrun"]),
                .executable(name: "ubpf-conformance", targets: ["ubpf-conformance"]),
                .executable(name: "ubpf-corpus", targets: ["ubpf-corpus"]),
                .library(name: "UBPFTesting", targets: ["UBPFTesting"]),
                .library(name: "UBPFTestingTraits", targets: ["UBPFTestingTraits"]),
            ]),
    dependencies: embedded ? [] : [.package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0")],
    targets: agentTargets + (embedded ? [] : controllerTargets + testTargets + fuzzers),
    swiftLanguageModes: [.v6]
)
