/// What people are told of a rule; one row for each.
package struct RuleText: Sendable {
    /// What is wrong, in a few words.
    package let headline: String
    /// What kind of harm it prevents, in words.
    package let category: String
    /// What the rule is, why it is there, and what usually breaks it.
    package let explanation: String
    package let wrong: String
    package let right: String
    /// How the Linux verifier says it; nil where Linux has no such rule.
    ///
    /// `{R}` stands for the register, `{T}` for its type, `{I}` for the instruction, `…` for what varies.
    package let kernel: String?
    /// What helps in most cases.
    package let suggestion: String

    init(
        _ headline: String,
        _ category: String,
        _ explanation: String,
        wrong: String,
        right: String,
        kernel: String?,
        fix suggestion: String
    ) {
        self.headline = headline
        self.category = category
        self.explanation = explanation
        self.wrong = wrong
        self.right = right
        self.kernel = kernel
        self.suggestion = suggestion
    }
}

extension Rule {
    package var text: RuleText {
        switch self {
        case .empty: .empty
        case .controlFlow: .controlFlow
        case .unreachable: .unreachable
        case .recursion: .recursion
        case .callsTooDeep: .callsTooDeep
        case .stackTooDeep: .stackTooDeep
        case .endlessLoop: .endlessLoop
        case .tooComplex: .tooComplex
        case .uninitialized: .uninitialized
        case .uninitializedStack: .uninitializedStack
        case .framePointer: .framePointer
        case .nullPointer: .nullPointer
        case .notAPointer: .notAPointer
        case .outOfBounds: .outOfBounds
        case .stackBounds: .stackBounds
        case .contextAccess: .contextAccess
        case .packetBounds: .packetBounds
        case .misaligned: .misaligned
        case .readOnly: .readOnly
        case .writeOnly: .writeOnly
        case .corruptedPointer: .corruptedPointer
        case .specialField: .specialField
        case .pointerArithmetic: .pointerArithmetic
        case .pointerComparison: .pointerComparison
        case .division: .division
        case .badOperation: .badOperation
        case .unknownHelper: .unknownHelper
        case .unavailableHelper: .unavailableHelper
        case .argument: .argument
        case .argumentSize: .argumentSize
        case .mapType: .mapType
        case .gplOnly: .gplOnly
        case .context: .context
        case .leak: .leak
        case .unreleased: .unreleased
        case .notOwned: .notOwned
        case .lock: .lock
        case .returnValue: .returnValue
        case .callback: .callback
        case .functionContract: .functionContract
        case .unsupported: .unsupported
        case .unresolvedRelocation: .unresolvedRelocation
        case .programType: .programType
        }
    }
}
