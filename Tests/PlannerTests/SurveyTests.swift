import Glibc
import Symbols
import Testing

@testable import Planner

private let libraries = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/bin/bash",
    "/usr/bin/python3",
]

@Suite struct SurveyTests {
    /// Every function of real programs either has a plan whose copy means the same, or a refusal with a reason.
    @Test(arguments: libraries)
    func everyFunctionIsPlannedOrRefused(path: String) throws {
        try #require(access(path, R_OK) == 0, "\(path) is not installed")
        let survey = try Survey(path: path)
        #expect(survey.functions.count > 500)
        var tactics: [Tactic: Int] = [:]
        var refusals: [PlanRefusal.Kind: Int] = [:]
        var loops = 0
        var generator = Generator(state: 1)
        let oracle = try Disassembler()
        var planner = try SitePlanner(allowsTraps: true)
        for function in survey.functions {
            do throws(PlanRefusal) {
                let plan = try planner.plan(function)
                tactics[plan.tactic, default: 0] += 1
                if plan.isLoopTarget { loops += 1 }
                let problem = checkCopy(plan, of: function, with: oracle, using: &generator)
                if let problem { Issue.record("\(function.name): \(problem)") }
            } catch {
                refusals[error.kind, default: 0] += 1
                #expect(!error.why.isEmpty)
            }
        }
        let planned = tactics.values.reduce(0, +)
        let all = survey.functions.count
        print("survey \(path): \(all) functions, \(survey.indirect) IFUNC, planned \(planned)", terminator: "")
        print(" (\(planned * 1000 / all) per mille), tactics \(tactics)", terminator: "")
        print(", loops \(loops), refused \(refusals)")
        // What is left are first instructions that cannot be moved: system calls, traps.
        #expect(planned * 1000 >= all * 999)
        // int3 is for the few where nothing else fits.
        #expect((tactics[.trap] ?? 0) * 50 < all)
    }

    /// The tactic follows from the first instruction's length, as decoded by the same capstone.
    @Test func tacticFollowsFirstInstruction() throws {
        let survey = try Survey(path: libraries[0])
        let oracle = try Disassembler()
        var planner = try SitePlanner()
        for function in survey.functions.prefix(2000) {
            guard let plan = try? planner.plan(function) else { continue }
            let decoded = oracle.decode(function.text.code(function.range), at: plan.address, limit: 1)
            let first = try #require(decoded.first)
            switch plan.tactic {
            case .jump:
                #expect(first.size >= 5 && plan.window == UInt32(first.size))
            case .window:
                #expect(first.size < 5 && plan.window >= 5)
            case .trap: Issue.record("\(function.name) has an int3, which was not allowed")
            case .island:
                #expect(first.size >= 2 && first.size < 5 && plan.window == UInt32(first.size))
                let distance = Int64(plan.island) - Int64(plan.address) - 2
                #expect(distance >= -128 && distance <= 127)
            }
        }
    }

    /// Plans in the middle of functions: at every instruction boundary of many functions.
    @Test func everyInstructionOfManyFunctions() throws {
        let survey = try Survey(path: libraries[0])
        let oracle = try Disassembler()
        var generator = Generator(state: 2)
        var counts: [String: Int] = [:]
        for function in survey.functions.shuffled(using: &generator).prefix(150) {
            for instruction in oracle.decode(function.text.code(function.range), at: function.range.lowerBound) {
                var planner = try SitePlanner(allowsTraps: true)
                do throws(PlanRefusal) {
                    let plan = try planner.plan(function, offset: instruction.address - function.range.lowerBound)
                    counts["\(plan.tactic)", default: 0] += 1
                    let problem = checkCopy(plan, of: function, with: oracle, using: &generator)
                    if let problem { Issue.record("\(function.name)+\(instruction.address): \(problem)") }
                } catch {
                    counts[error.kind.rawValue, default: 0] += 1
                }
            }
        }
        print("mid-function sites: \(counts)")
        #expect((counts["jump"] ?? 0) > 500 && (counts["window"] ?? 0) > 500)
    }
}

/// Compares a relocated window with the original by disassembling both; nil when they mean the same.
func checkCopy(
    _ plan: PatchPlan,
    of function: FunctionCode,
    with oracle: borrowing Disassembler,
    using generator: inout Generator
) -> String? {
    let distance = Int64.random(in: -0x7000_0000...0x7000_0000, using: &generator)
    let base = UInt64(bitPattern: Int64(bitPattern: plan.address) &+ distance) & ~15
    let copy = plan.code(at: base)
    let moved = oracle.decode(copy, at: base)
    guard moved.last?.end == base + UInt64(copy.count) else { return "the copy does not decode" }
    let window = function.text.code(plan.address..<plan.address + UInt64(plan.window))
    var index = 0
    for original in oracle.decode(window, at: plan.address) {
        // The rest of the window is padding.
        if index == moved.count { return nil }
        let bytes = function.text.code(original.address..<original.end)
        switch original.kind {
        case .plain, .nop, .ret, .indirectJump:
            guard moved[index].kind == original.kind, moved[index].relative?.target == original.relative?.target else {
                return "another instruction at copy+\(moved[index].address - base)"
            }
            if original.relative == nil, oracle.text(bytes, at: 0) != text(moved[index], copy, base, oracle) {
                return "text"
            }
            index += 1
        case .jump, .branch:
            guard moved[index].kind == original.kind else { return "a branch goes elsewhere" }
            index += 1
        case .countBranch(let opcode, let target):
            guard index + 2 < moved.count,
                moved[index].kind == .countBranch(opcode: opcode, target: moved[index + 2].address),
                moved[index + 1].kind == .jump(target: moved[index + 2].end),
                moved[index + 2].kind == .jump(target: target)
            else { return "an expanded loop goes elsewhere" }
            index += 3
        case .call(let target):
            guard let pushed = pushedValue(copy, Int(moved[index].address - base)), pushed.value == original.end else {
                return "a call pushes another return address"
            }
            index += pushed.instructions
            guard moved[index].kind == .jump(target: target) else { return "a call goes elsewhere" }
            index += 1
        case .indirectCall:
            guard let pushed = pushedValue(copy, Int(moved[index].address - base)), pushed.value == original.end else {
                return "a call pushes another return address"
            }
            index += pushed.instructions
            guard moved[index].kind == .indirectJump, moved[index].relative?.target == original.relative?.target else {
                return "an indirect call goes elsewhere"
            }
            index += 1
        case .trap where original.size == 1: return nil
        case .trap, .systemCall, .privileged, .transaction, .unsupported: return "should have been refused"
        }
    }
    return index == moved.count ? nil : "the copy has more instructions"
}

private func text(_ moved: DecodedInstruction, _ copy: [UInt8], _ base: UInt64, _ oracle: borrowing Disassembler)
    -> String?
{
    let start = Int(moved.address - base)
    return oracle.text(copy[start..<start + moved.size], at: 0)
}

/// What `push imm32; mov dword [rsp+4], imm32` leaves on the stack.
private func pushedValue(_ copy: [UInt8], _ start: Int) -> (value: UInt64, instructions: Int)? {
    func word(_ at: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(copy[at + $1]) << UInt32(8 * $1) } }
    guard start + 5 <= copy.count, copy[start] == 0x68 else { return nil }
    let low = word(start + 1)
    let pushed = UInt64(bitPattern: Int64(Int32(bitPattern: low)))
    guard start + 13 <= copy.count, Array(copy[start + 5..<start + 9]) == [0xC7, 0x44, 0x24, 0x04] else {
        return (pushed, 1)
    }
    return (UInt64(word(start + 9)) << 32 | UInt64(low), 2)
}

extension SurveyTests {
    /// What another session has patched is planned the same again, and nothing else touches it.
    @Test func knownSitesArePlannedAgain() throws {
        let survey = try Survey(path: libraries[0])
        let oracle = try Disassembler()
        var first = try SitePlanner(allowsTraps: true)
        var tactics: Set<UInt32> = []
        var second = try SitePlanner(allowsTraps: true)
        var plans: [PatchPlan] = []
        for function in survey.functions {
            guard let plan = try? first.plan(function) else { continue }
            plans.append(plan)
            second.assume(
                KnownSite(address: plan.address, tactic: plan.tactic, window: plan.window, island: plan.island)
            )
        }
        for (function, plan) in zip(survey.functions, plans) {
            let again = try second.plan(function)
            #expect(again == plan)
            tactics.insert(again.tactic.rawValue)
            let text = function.text.code(function.range)
            guard let size = oracle.decode(text, at: plan.address, limit: 1).first?.size, size < min(plan.window, 5)
            else { continue }
            let inside = try? second.plan(function, offset: UInt64(size))
            #expect(inside == nil, "\(function.name)+\(size) lies under another session's jump")
        }
        #expect(tactics == [0, 1, 2, 3])
    }
}
