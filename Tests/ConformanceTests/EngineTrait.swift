import EngineSupport
import Testing

/// Runs every test of a suite once on each of some engines.
struct EngineTrait: TestTrait, SuiteTrait, TestScoping {
    let engines: [SessionEngine]
    let isRecursive = true

    init(_ engines: [SessionEngine]) { self.engines = engines }

    func provideScope(
        for test: Test,
        testCase: Test.Case?,
        performing function: @Sendable () async throws -> Void
    ) async throws {
        // Only tests themselves run code; a suite's own scope is around all of them.
        guard testCase != nil else { return try await function() }
        for engine in engines {
            do {
                try await SessionEngine.$current.withValue(engine) { try await function() }
            } catch {
                Issue.record(error, "on \(engine.rawValue)")
            }
        }
    }
}
