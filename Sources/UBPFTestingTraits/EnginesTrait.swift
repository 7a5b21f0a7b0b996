public import Testing
public import UBPFTesting

/// Runs a test once by each of several engines, and compares what its programs did: results, packets, maps.
///
///     @Test(.everyEngine) func dropsQueries() throws {
///         let vm = try VM(BPFObject(path: "filter.bpf.o"))
///         #expect(try vm.run("filter", .packet(query)).result == 1)
///     }
///
/// The test's own expectations hold for each. An engine that is not available here, like the kernel without root, and programs
/// that it does not know are told as warnings; the interpreter runs them instead. A difference is an issue.
public struct EnginesTrait: TestTrait, SuiteTrait, TestScoping {
    let engines: [Engine]

    /// Tests of a suite, each for itself.
    public var isRecursive: Bool { true }

    /// Runs the test once by each engine.
    public func provideScope(
        for test: Test,
        testCase: Test.Case?,
        performing function: @Sendable () async throws -> Void
    ) async throws {
        var first: EngineRun?
        var hasRun = false
        for engine in engines {
            guard engine.isAvailable else {
                Issue.record("not run by the engine '\(engine.rawValue)', which needs root", severity: .warning)
                continue
            }
            let run = EngineRun(engine)
            do {
                try await EngineRun.$current.withValue(run) { try await function() }
            } catch {
                Issue.record("by the engine '\(engine.rawValue)': \(error)")
            }
            for fallback in run.fallbacks {
                Issue.record("by the interpreter, not by '\(engine.rawValue)': \(fallback)", severity: .warning)
            }
            if let first, let difference = run.difference(from: first) { Issue.record("\(difference)") }
            first = first ?? run
            hasRun = hasRun || !run.steps.isEmpty
        }
        if !hasRun { Issue.record("no program ran, by any engine: nothing was compared") }
    }
}

extension Trait where Self == EnginesTrait {
    /// Runs the test by the interpreter, both forms of compiled code and, as root, the kernel, and compares.
    public static var everyEngine: Self { EnginesTrait(engines: Engine.allCases) }

    /// Runs the test by these engines and compares with the first.
    public static func engines(_ engines: Engine...) -> Self { EnginesTrait(engines: engines) }
}
