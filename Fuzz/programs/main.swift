import EngineSupport
import Glibc
import ISA
import Kernel

// ubpf-fuzz [--seed N] [--count N | --seconds N] [--wild | [--session] [--kernel]]: random programs on every engine until two disagree.

/// What was asked for.
struct Arguments {
    var seed: UInt64 = 1
    var count = UInt64.max
    var seconds = 0.0
    /// Programs that a verifier would refuse, on the interpreter and as checked code.
    var isWild = false
    /// Programs with maps, callbacks and tail calls, on the interpreter and both kinds of code.
    var hasSession = false
    /// Programs for the verifier: what it accepts must run as it says.
    var isVerified = false
    /// The only kind of programs for the verifier that is wanted.
    var kind: String?
    /// Prints a program for the verifier and what is said of it.
    var isShown = false
    /// Where to write programs for the verifier, a file each.
    var folder: String?
    /// A file of JSON lines with programs that are to run as the verifier says.
    var corpus: String?
    /// Objects to verify with and without pruning.
    var objects: [String] = []
    var engines: [EngineKind] = [.reference, .vm, .jit, .checkedJIT, .plainJIT]

    init(_ words: [String]) {
        var rest = words[...]
        while let word = rest.popFirst() {
            if word == "--kernel" {
                engines.append(.kernel)
                continue
            }
            if word == "--wild" {
                isWild = true
                continue
            }
            if word == "--verifier" {
                isVerified = true
                continue
            }
            if word == "--show" {
                isShown = true
                continue
            }
            if word == "--objects" {
                objects = Array(rest)
                rest = []
                continue
            }
            if word == "--session" {
                hasSession = true
                continue
            }
            guard let value = rest.popFirst() else { Self.fail("\(word) needs a value") }
            switch word {
            case "--corpus": corpus = value
            case "--kind": kind = value
            case "--write": folder = value
            case "--seed": seed = UInt64(value) ?? 1
            case "--count": count = UInt64(value) ?? 1
            case "--seconds": seconds = Double(value) ?? 1
            default: Self.fail("unknown option \(word)")
            }
        }
        if count == .max, seconds == 0 { seconds = 60 }
    }

    static func fail(_ text: String) -> Never {
        say(
            "ubpf-fuzz: \(text)\nusage: ubpf-fuzz [--seed N] [--count N | --seconds N] [--wild | [--session] [--kernel]]"
        )
        exit(64)
    }
}

/// A line on stderr.
func say(_ text: String) {
    let line = text + "\n"
    _ = line.withCString { write(2, $0, strlen($0)) }
}

func seconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// The seed that is being run, for the handler of crashes and hangs.
nonisolated(unsafe) var currentSeed: UInt64 = 0

/// Names the seed when generated code crashes or hangs.
func nameSeedOnCrash() {
    for number in [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGALRM, SIGTRAP] {
        signal(number) { number in
            var digits: [20 of UInt8] = [20 of UInt8](repeating: 0x20)
            var rest = currentSeed
            for index in stride(from: 18, through: 0, by: -1) where rest > 0 || index == 18 {
                digits[index] = 0x30 + UInt8(rest % 10)
                rest /= 10
            }
            digits[19] = 10
            write(2, "ubpf-fuzz: crash or hang (over 20 s) with seed", 46)
            withUnsafeBytes(of: &digits) { bytes in _ = write(2, bytes.baseAddress, 20) }
            _exit(70)
        }
    }
}

/// What the kernel answers to a program that takes its verifier too many paths (man 7 errno).
let tooManyPaths = E2BIG

/// EX_UNAVAILABLE of sysexits.h: the kernel could not be asked.
let unavailable: Int32 = 69

/// Counts a program that the kernel refused; ends where it refused it for another reason than its size, or answers nobody.
@MainActor func refuse(_ rejection: KernelError) {
    if rejection.errno == tooManyPaths {
        refused += 1
        return
    }
    if rejection.errno == EPERM {
        say(
            "ubpf-fuzz: the kernel does not let us load programs, so nothing was compared: \(rejection); run it as root"
        )
        exit(unavailable)
    }
    print("program \(done + 1), seed \(seed): the kernel refuses it: \(rejection)")
    exit(1)
}

/// Ends where so many programs were refused that the comparison says little.
@MainActor func checkRefusals() {
    if refused * 10 <= done { return }
    print("\(refused) of \(done) programs were refused by the kernel; at most a tenth may be")
    exit(1)
}

/// Ends with what was found, if anything.
@MainActor func report(_ difference: String?) {
    guard let difference else { return }
    print("program \(done + 1), seed \(seed): \(difference)")
    exit(1)
}

/// Writes a program as the kernel takes it.
func write(_ program: [Instruction], to path: String) {
    let bytes = encode(program).flatMap { slot in withUnsafeBytes(of: slot) { Array($0) } }
    guard let file = fopen(path, "w") else { Arguments.fail("\(path) cannot be written") }
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
}

let arguments = Arguments(Array(CommandLine.arguments.dropFirst()))
nameSeedOnCrash()
if !arguments.objects.isEmpty { exit(verifyObjects(arguments.objects) ? 0 : 1) }
if let corpus = arguments.corpus {
    var counts = SoundnessCounts()
    let faults = try checkCorpus(corpus, &counts)
    for fault in faults { print(fault) }
    print("\(counts.description), \(faults.count) faults")
    exit(faults.isEmpty ? 0 : 1)
}
let start = seconds()
var shown = start
var refused: UInt64 = 0
var seed = arguments.seed
var done: UInt64 = 0
var soundness = SoundnessCounts()
let verdicts = arguments.isVerified && arguments.engines.contains(.kernel) ? try KernelVerdicts() : nil
while done < arguments.count, arguments.seconds == 0 || seconds() - start < arguments.seconds {
    currentSeed = seed
    if done & 255 == 0 { alarm(20) }
    // One that is found is made smaller for 20 s.
    if arguments.isVerified { alarm(60) }
    if arguments.isWild {
        report(try compareWild(seed: seed).difference)
        report(try compareUndefined(seed: seed))
        seed += 1
        done += 1
        continue
    }
    if let kind = arguments.kind, VerifiedCase.make(seed: seed, isForKernel: verdicts != nil).kind != kind {
        seed += 1
        continue
    }
    if arguments.isShown { print(showVerdicts(seed: seed, isForKernel: verdicts != nil)) }
    if let folder = arguments.folder {
        write(VerifiedCase.make(seed: seed).instructions, to: "\(folder)/\(seed)")
        seed += 1
        done += 1
        continue
    }
    if let verdicts {
        report(try verdicts.compare(seed: seed))
        seed += 1
        done += 1
        continue
    }
    if arguments.isVerified {
        report(try checkSoundness(seed: seed, minimising: 20, &soundness))
        seed += 1
        done += 1
        continue
    }
    if arguments.hasSession {
        if arguments.engines.contains(.kernel) {
            do {
                report(try SessionComparison.kernelDifference(seed: seed))
            } catch let rejection as KernelError {
                refuse(rejection)
            }
        } else {
            report(try SessionComparison.difference(seed: seed))
        }
        seed += 1
        done += 1
        continue
    }
    let program = RandomProgram.make(seed: seed, isForKernel: arguments.engines.contains(.kernel))
    let contexts = RandomProgram.contexts(seed: seed, count: 3)
    do {
        if let difference = try findDifference(arguments.engines.map(\.type), program, contexts) {
            // Said before, in case a smaller program crashes or hangs.
            say("seed \(seed): \(difference.description)\nmaking it smaller")
            alarm(60)
            report(difference.minimised(seconds: 20).description)
        }
    } catch let rejection as KernelError {
        refuse(rejection)
    } catch {
        print("seed \(seed): \(error)\n\(listing(program))")
        exit(1)
    }
    seed += 1
    done += 1
    if seconds() - shown > 5 {
        shown = seconds()
        say("ubpf-fuzz: \(done) programs, no disagreement, \(Int(shown - start)) s")
    }
}
if arguments.isWild {
    print("\(done) wild programs in \(Int(seconds() - start)) s, 0 disagreements between interpreter and checked code")
    exit(0)
}
if arguments.isVerified {
    let faults = try KnownMistake.all.compactMap { try $0.fault() }
    report(faults.isEmpty ? nil : faults.joined(separator: "\n"))
}
if let verdicts {
    print("\(verdicts.description)\n  \(Int(seconds() - start)) s")
    exit(0)
}
if arguments.isVerified {
    print("\(soundness.description), \(Int(seconds() - start)) s")
    exit(0)
}
checkRefusals()
if arguments.hasSession {
    let names =
        arguments.engines.contains(.kernel) ? "vm, kernel, \(refused) refused by the kernel" : "vm, jit, checked-jit"
    print("\(done) sessions in \(Int(seconds() - start)) s, 0 disagreements between \(names)")
    exit(0)
}
let names = arguments.engines.map(\.rawValue).joined(separator: ", ")
let note = refused > 0 ? ", \(refused) refused by the kernel" : ""
print("\(done) programs in \(Int(seconds() - start)) s, 0 disagreements between \(names)\(note)")
