#!/usr/bin/env python3
"""Plants mistakes in the source of the compiler and of the verifier, one at a time, and checks that the random programs find each of
them.

usage: scripts/check-mutations.py [NAME...]     all of them without names; 5 to 60 s each

Works on a copy below build/mutations. Each mutation names a text that its file holds exactly once, so that one that no longer applies is
an error and not a success; what has to change in two places has a second one.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "mutations"
JIT = "Sources/JIT/Lowering/"
SCALAR, WALK, TRANSFER = "Sources/Verifier/Scalar/", "Sources/Verifier/Walk/", "Sources/Verifier/Transfer/"

# Kinds of random programs, and how many of them may pass a mistake by.
PLAIN, WILD, SESSION, VERIFIER = ([], 3000), (["--wild"], 3000), (["--session"], 3000), (["--verifier"], 20000)
# What only the kernel knows; for root.
KERNEL = (["--verifier", "--kernel"], 5000)

# name: (file, text, what it becomes, the kind of programs that has to find it[, (file, text, what it becomes)])
MUTATIONS = {
    # Mistakes that the compiler has had.
    "zero-upper-kept-for-add": (
        JIT + "Lowering+Arithmetic.swift", " && operation != .sub && operation != .add)", " && operation != .sub)", PLAIN),
    "entry-keeps-host-registers": (
        JIT + "Lowering+Frames.swift",
        "for register in [GPR.rax, .rcx, .r8, .rbx, .r13, .r14, .r15] { asm.alu(.xor, register, register, .w32) }", "", WILD),
    "entry-keeps-r3": (
        JIT + "Lowering+Frames.swift", "if isChecked { asm.alu(.xor, .rdx, .rdx, .w32) }", "", WILD),
    # Values that wait.
    "waiting-value-lost-at-block": (
        JIT + "Lowering.swift", "flush(layout.live[index])\n        zeroUpper = 0",
        "drop(notIn: layout.live[index])\n        zeroUpper = 0", PLAIN),
    "waiting-value-not-flushed-at-jump": (
        JIT + "Lowering+Jumps.swift", "drop(notIn: live | others)\n        settleAll(live)", "drop(notIn: live | others)", PLAIN),
    "waiting-value-not-flushed-at-local-call": (
        JIT + "Lowering+Calls.swift",
        "flush(layout.live[index])\n        guard let callee", "drop(notIn: layout.live[index])\n        guard let callee", PLAIN),
    "waiting-value-not-settled-for-others": (
        JIT + "Lowering+Values.swift", "if !value.refers(onlyTo: own) { settleOthers(than: register, referringTo: own) }", "", PLAIN),
    "copy-keeps-old-source": (
        JIT + "Lowering+Values.swift", "settle(register)\n        settleOthers(than: register, referringTo: machine(register))",
        "settle(register)", PLAIN),
    # Upper halves.
    "zero-upper-kept-at-block": (
        JIT + "Lowering.swift", "flush(layout.live[index])\n        zeroUpper = 0", "flush(layout.live[index])", PLAIN),
    "zero-upper-of-right-shift": (
        JIT + "Lowering+Values.swift", "count >= 32 || isZeroUpper(source)", "count >= 31 || isZeroUpper(source)", PLAIN),
    "zero-upper-of-signed-load": (
        JIT + "Lowering+Memory.swift", "zeroUpper: !isSigned && size != .b64)\n    }\n\n    mutating func store(",
        "zeroUpper: size != .b64)\n    }\n\n    mutating func store(", PLAIN),
    # Liveness.
    "liveness-forgets-branch": (
        JIT + "ProgramLayout.swift", "unsafe live[index + 1] | live[Int(code[index].target)]", "live[index + 1]", PLAIN),
    "liveness-forgets-r0-of-cmpxchg": (
        JIT + "Effects.swift", "(reads, writes) = (dst | src | 1, 1)", "(reads, writes) = (dst | src, 1)", PLAIN),
    "liveness-forgets-r5-of-calls": (
        JIT + "Effects.swift", "let arguments: UInt16 = 0b11_1110", "let arguments: UInt16 = 0b01_1110", PLAIN),
    # Registers and frames.
    "r8-not-saved": (
        JIT + "ProgramLayout.swift", "writes & 0b11_1100_0000", "writes & 0b10_1100_0000", PLAIN),
    "r8-and-r9-swapped-after-loop": (
        JIT + "Lowering+Callbacks.swift", "asm.pop(.r15)\n        asm.pop(.r14)", "asm.pop(.r14)\n        asm.pop(.r15)", SESSION),
    "frame-of-callee-too-small": (
        JIT + "Lowering+Calls.swift", "if ownsFrame { asm.alu(.sub, .rbp, 512) }\n        asm.call(callee.label)\n"
        "        if ownsFrame { asm.alu(.sub, .rbp, -512) }",
        "if ownsFrame { asm.alu(.sub, .rbp, 32) }\n        asm.call(callee.label)\n        if ownsFrame { asm.alu(.sub, .rbp, -32) }",
        PLAIN),
    # Ranges.
    "short-jump-inverted": (
        JIT + "Lowering+Jumps.swift", "if isNear(target) { asm.jumpShort(condition, label) } else { asm.jump(condition, label) }",
        "if isNear(target) { asm.jumpShort(condition.inverted, label) } else { asm.jump(condition, label) }", PLAIN),
    "short-jump-too-far": (
        "Sources/JIT/X86/Assembler.swift", "guard distance >= -reach, distance < reach else {",
        "guard distance >= -reach, distance <= reach else {", PLAIN, (JIT + "Lowering+Jumps.swift", "< 110", "< 300")),
    "array-bound-off-by-one": (
        JIT + "Lowering+Calls.swift", "asm.jumpShort(.aboveEqual, missing)", "asm.jumpShort(.above, missing)", SESSION),
    "memory-bound-off-by-one": (
        JIT + "SharedCode.swift", "asm.alu(.cmp, .rax, size.bytes)", "asm.alu(.cmp, .rax, size.bytes - 1)", WILD),
    # Calls, and what stops them.
    "callx-may-nest-deeper": (
        JIT + "Lowering+Calls.swift", "checkDepth()\n        findFunction()", "findFunction()", WILD),
    "loop-may-nest-deeper": (
        JIT + "Lowering+Callbacks.swift", "checkDepth()\n        asm.bind(again)", "asm.bind(again)", SESSION),
    "for-each-may-nest-deeper": (
        JIT + "Lowering+Callbacks.swift",
        "asm.jump(.belowEqual, trap(.callDepth, .number(8)))\n        }\n        asm.alu(.xor, .r13, .r13, .w32)",
        "}\n        asm.alu(.xor, .r13, .r13, .w32)", SESSION),
    "for-each-forgets-the-frame-of-its-key": (
        JIT + "Lowering+Callbacks.swift", "asm.lea(.r10, .base(.rbp, -1024))", "asm.lea(.r10, .base(.rbp, -512))", SESSION),
    "lookup-goes-the-wrong-way": (
        JIT + "SharedCode.swift", "asm.jump(.above, upper)", "asm.jump(.below, upper)", WILD),
    "anything-is-a-function": (
        "Sources/UBPFVM/Callbacks.swift", "if entry < Int(activation.count), unsafe activation.program[entry].startsFunction",
        "if entry < Int(activation.count)", WILD),
    # What the budget is charged.
    "loops-are-free": (
        JIT + "ProgramLayout+Charges.swift", "var isCharged = loops", "var isCharged = [Bool](repeating: false, count: code.count)",
        WILD),
    "functions-are-free": (
        JIT + "ProgramLayout+Charges.swift", "for function in functions { isCharged[function.start] = true }", "", WILD),
    "longest-way-is-charged": (
        JIT + "ProgramLayout+Charges.swift", "length + min(", "length + max(", WILD),
    "rotation-of-other-counts": (
        JIT + "Lowering+Shifts.swift", "width == otherWidth,\n            count + rest == (width == .w64 ? 64 : 32)",
        "width == otherWidth", PLAIN),
    # The verifier: operators.
    "verifier-jsgt-off-by-one": (
        SCALAR + "Scalar+Branch.swift", "case .signedGreater: return order(&a.flipped, &b.flipped, less: !taken, orEqual: !taken)",
        "case .signedGreater: return order(&a.flipped, &b.flipped, less: !taken, orEqual: false)", VERIFIER),
    "verifier-less-off-by-one": (
        SCALAR + "Scalar+Branch.swift", "case .greater: return order(&a.unsigned, &b.unsigned, less: !taken, orEqual: !taken)",
        "case .greater: return order(&a.unsigned, &b.unsigned, less: !taken, orEqual: false)", VERIFIER),
    "verifier-narrow-result-keeps-upper-half": (
        SCALAR + "Scalar+Arithmetic.swift", "let low = a.low.combined(op, b.low)\n",
        "if op == .add { return apply(op, .w64, a, b) }\n        let low = a.low.combined(op, b.low)\n", VERIFIER),
    "verifier-mask-forgets-zero": (
        SCALAR + "Scalar+Branch.swift", "mask &= ~other.value\n            return value & other.value == 0",
        "mask &= ~other.max\n            return value & other.value == 0", VERIFIER),
    # Registers and stack.
    "verifier-narrow-spill-keeps-upper-half": (
        TRANSFER + "Walk+Stack.swift", "stored.scalar = stored.scalar.zeroExtended(from: size)\n", "", VERIFIER),
    "verifier-cut-spill-keeps-link": (
        TRANSFER + "Walk+Stack.swift", "if stored.scalar != value.scalar { (stored.id, stored.delta, stored.wraps) = (0, 0, false) }\n", "", VERIFIER),
    "verifier-overwritten-spill-stays": (
        TRANSFER + "Walk+Stack.swift", "slot[byte] = slot.spilled.isNull ? .zero : .misc\n        }\n        stored.scalar",
        "slot[byte] = .zero\n        }\n        stored.scalar", VERIFIER),
    "verifier-copy-keeps-wrong-distance": (
        TRANSFER + "Walk+Arithmetic.swift", "op == .add ? destination.delta &+ addend : destination.delta &- addend",
        "destination.delta &+ addend", VERIFIER),
    "verifier-copy-of-half-keeps-link": (
        TRANSFER + "Walk+Arithmetic.swift", "if !fits { (source.id, source.delta, source.wraps) = (0, 0, false) }\n", "", VERIFIER),
    # Links of low halves.
    "verifier-half-passes-for-whole": (
        TRANSFER + "Walk+Arithmetic.swift", "result.wraps = width == .w32", "result.wraps = false", VERIFIER),
    "verifier-half-is-moved-in-64-bits": (
        TRANSFER + "Walk+Arithmetic.swift", "destination.id != 0, width == .w32 || !destination.wraps, op", "destination.id != 0, op",
        VERIFIER),
    "verifier-half-tells-of-upper-half": (
        TRANSFER + "Walk+Branch.swift", "if isHalf, value.scalar.umax > UInt64(UInt32.max) { return }\n", "", VERIFIER),
    "verifier-half-is-learnt-in-64-bits": (
        TRANSFER + "Walk+Branch.swift", "isHalf ? .w32 : .w64", ".w64", VERIFIER),
    "verifier-half-is-its-whole": (
        TRANSFER + "Walk+Branch.swift", "if value.delta == delta, value.wraps == old.wraps {", "if value.delta == delta {", VERIFIER),
    "verifier-null-on-the-wrong-branch": (
        TRANSFER + "Walk+Branch.swift", "setNull(left, isNull: (comparison == .equal) == taken)",
        "setNull(left, isNull: (comparison == .equal) != taken)", VERIFIER),
    "verifier-range-off-by-one": (
        TRANSFER + "Walk+Memory.swift", "beyond || end > Int64(limit)", "beyond || end > Int64(limit) + 1", VERIFIER),
    "verifier-stack-off-by-one": (
        TRANSFER + "Walk+Stack.swift", "last <= -Int64(size) else", "last <= 1 - Int64(size) else", VERIFIER),
    "verifier-callback-sees-one-round-less": (
        TRANSFER + "Walk+Call.swift", "arguments[0] = .scalar(.range(0...limit - 1))",
        "arguments[0] = .scalar(.range(0...max(limit, 2) - 2))", VERIFIER),
    # Paths that are taken for covered.
    "verifier-address-is-not-relevant": (
        WALK + "Needs.swift", "case .load(let size, _):\n            result.relevant |= src", "case .load(let size, _):", VERIFIER),
    "verifier-store-frees-two-slots": (
        WALK + "Needs.swift", "result.slots &= ~written }", "result.slots &= ~(written | written >> 1) }", VERIFIER),
    "verifier-fetched-number-is-not-relevant": (
        WALK + "Needs.swift", "if after.relevant & kills != 0 { result.read(touched) }\n", "", VERIFIER),
    "verifier-key-is-not-relevant": (
        WALK + "Needs.swift", "if helper == .mapLookupElem, isDecided[index] { result.read(keySlots(index)) }\n", "", VERIFIER),
    "verifier-reads-do-not-go-on": (
        WALK + "Walk.swift", "for frame in 0...state.depth { markRead(frame, old.reads[frame]) }\n", "", VERIFIER),
    "verifier-links-are-not-compared": (
        WALK + "Matcher.swift", "return match(old.id, new.id != 0 ? new.id : makeTemporaryID())", "return true", VERIFIER),
    "verifier-rounds-of-other-calls": (
        WALK + "Rounds.swift", "if kept.calls >> UInt8(depth) & 1 != 0, frames[depth].rounds > old.frames[depth].rounds",
        "if rounds > old.rounds", VERIFIER),
    "verifier-ends-on-what-comes-round": (
        WALK + "Walk.swift", "parent?.note(Return(target: old, kept: kept))", "", VERIFIER),
    # Mistakes that the verifier has had, see Documentation/Verifier.md.
    "verifier-callback-forgets-its-arguments": (
        WALK + "Matcher.swift", "if !new.frames[depth + 1].isCallback { need.live &= 0b11_1100_0000 }", "need.live &= 0b11_1100_0000",
        VERIFIER),
    "verifier-callback-does-not-read-the-frame": (
        WALK + "Needs.swift", "if isCallingBack(instruction) { result.read(.max) }", "", VERIFIER),
    "verifier-rounds-decide-nothing": (
        WALK + "Walk.swift", "decidesAll: layout.instructions.contains(where: hasRounds)", "decidesAll: false", VERIFIER),
    "verifier-recursion-through-callbacks": (
        "Sources/Verifier/CallGraph.swift", "if layout.instructions[index].opcode == .loadFunction, Self.isForTimer(layout, index) { continue }",
        "if layout.instructions[index].opcode == .loadFunction { _ = Self.isForTimer(layout, index); continue }", VERIFIER,
        ("Sources/Verifier/Verify.swift", "graph.add(walk.callbacks, isCopyingKeys: subject.platform == .userspace)",
         "graph.add([], isCopyingKeys: subject.platform == .userspace)")),
    "verifier-tail-call-comes-back": (
        TRANSFER + "Walk+Special.swift", "if let next = try leave() { try fork(state, at: next) }", "_ = try leave()", VERIFIER),
    "verifier-tail-call-is-the-functions-own": (
        TRANSFER + "Walk+Special.swift", "write(.r0, .unknown)\n                forgetPackets()", "write(.r0, .constant(0))", VERIFIER),
    "verifier-store-of-function-frees-its-caller": (
        WALK + "Needs.swift", "if callee.reachesCallers { result.read(.max) }", "if callee.slots == .max { result.read(.max) }", VERIFIER,
        (WALK + "Matcher.swift", "returnPoint(state.frames[depth + 1])].reachesCallers", "returnPoint(state.frames[depth + 1])].slots == .max")),
    "verifier-zero-bytes-are-not-compared": (
        WALK + "Matcher.swift", "if isRelevant, !narrow.isNull, before.hasZero(notIn: now) { return false }\n", "", VERIFIER),
    "verifier-given-callback-is-no-call": (
        TRANSFER + "Walk+Call.swift",
        "callbacks.insert(CallGraph.Callback(caller: caller.function, callee: callee, helper: helper, instruction: pc))", "", VERIFIER),
    "verifier-key-has-no-frame": (
        "Sources/Verifier/CallGraph.swift", "isCopyingKeys && callback.helper == .forEachMapElem ? 1 : 0", "0", VERIFIER),
    "verifier-moved-pointer-is-not-relevant": (
        WALK + "Needs.swift", "if isMoving[index] || isStrict,", "if isStrict,", VERIFIER),
    # Mistakes in what else programs do.
    "verifier-ends-join-any-round": (
        WALK + "Rounds.swift", "guard state.isRoundAfter(next.target.state, next.kept) else { return nil }", "", VERIFIER),
    "verifier-global-function-leaves-memory": (
        TRANSFER + "Walk+Call.swift", "isUpdate: true,", "isUpdate: false,", VERIFIER),
    "verifier-packet-range-too-long": (
        TRANSFER + "Walk+Branch.swift", "value.range = max(value.range, UInt16(reach))", "value.range = max(value.range, UInt16(reach) + 1)",
        VERIFIER),
    "verifier-packet-stays": (
        TRANSFER + "Walk+Helper.swift", "case .packet, .packetMeta, .packetEnd: value = .unknown", "case .packet, .packetMeta, .packetEnd: break",
        KERNEL),
    "verifier-record-may-be-forgotten": (
        TRANSFER + "Walk+Call.swift", "guard state.references.isEmpty else {\n            throw fail(.unreleased, \"the program ends",
        "guard state.references.count < 9 else {\n            throw fail(.unreleased, \"the program ends", VERIFIER),
    "verifier-constant-of-another-place": (
        TRANSFER + "Walk+Memory.swift", "let first = Int(start + offset)", "let first = Int(start)", VERIFIER),
}


def sync():
    """Makes the copy what the tree is, whatever an earlier run left; files that are the same stay, so that builds are short."""
    COPY.mkdir(parents=True, exist_ok=True)
    # Package.resolved is not in the repository, so a fresh clone has none.
    for name in ["Package.swift", "Package.resolved", "include", "Sources", "Tests", "Fuzz", "Benchmarks"]:
        top = ROOT / name
        files = [path for path in (top.rglob("*") if top.is_dir() else [top]) if path.is_file()]
        wanted = {path.relative_to(ROOT) for path in files}
        there = COPY / name
        for path in [there] if there.is_file() else there.rglob("*"):
            if path.is_file() and path.relative_to(COPY) not in wanted:
                path.unlink()
        for path in wanted:
            if (COPY / path).is_file() and (COPY / path).read_bytes() == (ROOT / path).read_bytes():
                continue
            (COPY / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, COPY / path)


def build():
    command = ["swift", "build", "-c", "release", "--static-swift-stdlib", "--product", "ubpf-fuzz"]
    done = subprocess.run(command, cwd=COPY, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"check-mutations: the copy does not build:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def run(kind):
    """Exit status and output of the fuzzer."""
    options, count = kind
    command = [str(COPY / ".build/release/ubpf-fuzz"), *options, "--seed", "1", "--count", str(count), "--seconds", "900"]
    try:
        done = subprocess.run(command, cwd=COPY, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        sys.exit(f"check-mutations: {' '.join(command)} takes more than 900 s")
    return done.returncode, done.stdout + done.stderr


def check_baseline(kinds):
    """Without mistakes every kind of programs passes: else they would find anything."""
    build()
    for kind in kinds:
        status, output = run(kind)
        if status:
            sys.exit(f"check-mutations: {' '.join(kind[0]) or 'plain'} programs fail without any mistake ({status}):\n{output[-3000:]}")


def plant(name, edits):
    """Writes the mistake into the copy."""
    for path, old, new in edits:
        source = (COPY / path).read_text()
        if source.count(old) != 1:
            sys.exit(f"check-mutations: {name} no longer applies: its text is in {path} {source.count(old)} times")
        (COPY / path).write_text(source.replace(old, new))


def is_found(name, kind):
    """Whether the programs find the mistake that is planted: a disagreement (1), a crash or hang of its code (70 or a signal)."""
    started = time.monotonic()
    build()
    status, output = run(kind)
    seconds = time.monotonic() - started
    if status == 0:
        print(f"  FAIL  {name}: not found in {kind[1]} programs ({seconds:.0f} s)", flush=True)
        return False
    if status not in (1, 70) and status > 0:
        sys.exit(f"check-mutations: {name}: ubpf-fuzz ends with {status}, which is no find:\n{output[-3000:]}")
    what = next((line for line in output.splitlines() if line.startswith(("program ", "ubpf-fuzz: crash"))), "it crashes")
    print(f"  ok    {name}: {what[:110]} ({seconds:.0f} s)", flush=True)
    return True


def main():
    names = sys.argv[1:] or list(MUTATIONS)
    unknown = [name for name in names if name not in MUTATIONS]
    if unknown:
        sys.exit(f"check-mutations: no such mutation: {', '.join(unknown)}; there are {', '.join(MUTATIONS)}")
    if os.geteuid() != 0:
        skipped = [name for name in names if MUTATIONS[name][3] is KERNEL]
        for name in skipped:
            print(f"  SKIP  {name}: only the kernel's verdict shows it, and only root may ask")
        names = [name for name in names if name not in skipped]
    sync()
    kinds = []
    for name in names:
        if MUTATIONS[name][3] not in kinds:
            kinds.append(MUTATIONS[name][3])
    check_baseline(kinds)
    missed = []
    for name in names:
        path, old, new, kind, *more = MUTATIONS[name]
        edits = [(path, old, new), *more]
        try:
            plant(name, edits)
            if not is_found(name, kind):
                missed.append(name)
        finally:
            for path, _, _ in edits:
                shutil.copy(ROOT / path, COPY / path)
    if missed:
        sys.exit(f"check-mutations: {len(missed)} of {len(names)} mistakes were not found: {', '.join(missed)}")
    print(f"check-mutations: all {len(names)} mistakes were found")


if __name__ == "__main__":
    main()
