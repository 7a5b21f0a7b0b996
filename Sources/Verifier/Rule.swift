/// The rules that programs have to follow: one code and one explanation for each.
package enum Rule: Int, CaseIterable, Sendable {
    case empty = 1, controlFlow, unreachable, recursion, callsTooDeep, stackTooDeep, endlessLoop, tooComplex
    case uninitialized, uninitializedStack, framePointer
    case nullPointer, notAPointer, outOfBounds, stackBounds, contextAccess, packetBounds, misaligned, readOnly,
        writeOnly
    case corruptedPointer, specialField
    case pointerArithmetic, pointerComparison, division, badOperation
    case unknownHelper, unavailableHelper, argument, argumentSize, mapType, gplOnly, context
    case leak, unreleased, notOwned, lock
    case returnValue, callback, functionContract
    case unsupported, unresolvedRelocation, programType

    /// What kind of harm the rule prevents.
    package enum Category: String, Sendable {
        case cfg, loop, resource, uninit, memory, arith, type, policy, ref, encoding, unsupported
    }
}

extension Rule {
    /// For instance `V012`.
    package var code: String {
        let number = String(rawValue)
        return "V" + String(repeating: "0", count: 3 - number.count) + number
    }

    /// A program that breaks it cannot run at all, whoever watches: there is nothing that checks it as it runs.
    package var isStructural: Bool {
        switch category {
        case .cfg, .encoding, .unsupported: true
        case .loop, .resource, .uninit, .memory, .arith, .type, .policy, .ref:
            self == .unknownHelper || self == .unavailableHelper
        }
    }

    package var category: Category {
        switch self {
        case .empty, .controlFlow, .unreachable, .recursion: .cfg
        case .endlessLoop: .loop
        case .callsTooDeep, .stackTooDeep, .tooComplex: .resource
        case .uninitialized, .uninitializedStack: .uninit
        case .nullPointer, .notAPointer, .outOfBounds, .stackBounds, .contextAccess, .packetBounds, .misaligned,
            .readOnly,
            .writeOnly, .corruptedPointer, .specialField:
            .memory
        case .framePointer, .division, .badOperation: .encoding
        case .pointerArithmetic, .pointerComparison: .arith
        case .argument, .argumentSize, .mapType, .context, .callback, .functionContract: .type
        case .unknownHelper, .unavailableHelper, .gplOnly, .leak, .returnValue: .policy
        case .unreleased, .notOwned, .lock: .ref
        case .unsupported, .unresolvedRelocation, .programType: .unsupported
        }
    }
}
