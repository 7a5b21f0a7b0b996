import ISA
package import Loader
import VerifierInput

/// Which programs go where, in names: resolved to addresses once the target is known.
package struct AttachPlan: Sendable {
    package var requests: [AttachRequest]
    /// Programs for the kernel, indices into the object's.
    package var kernelPrograms: [Int]
    /// Requests of uprobe programs that run in the kernel.
    package var kernelRequests: [AttachRequest] = []

    /// Reads section names, `--attach` options and the recipe; an option wins over the recipe, the recipe over the section.
    package init(_ object: ObjectSpec, attach options: [String], recipe: Recipe?) throws(Failure) {
        requests = []
        kernelPrograms = []
        var chosen: [String: [Place]] = [:]
        let names = object.programs.map(\.name)
        let runsKernelPrograms = recipe?.runsKernelPrograms(of: object) ?? true
        for option in options {
            let (program, place) = try Self.parse(option)
            guard names.contains(program) else { throw Failure.unknownProgram(program, known: names) }
            chosen[program, default: []].append(place)
        }
        for (index, program) in object.programs.enumerated() {
            switch program.attach {
            case .uprobe(let path, let symbol, let offset, let isReturn, _):
                let places: [(Place, isOptional: Bool)]
                if let options = chosen[program.name] {
                    places = options.map { ($0, false) }
                } else if let function = recipe?.function(of: program.name) {
                    // In whatever module the target has it: another allocator takes malloc's place.
                    places = [(Place(module: nil, symbol: function.symbol, offset: 0), function.isOptional)]
                } else if let symbol {
                    places = [(Place(module: path, symbol: symbol, offset: offset), false)]
                } else {
                    throw Failure.noTarget(program.name, section: program.section)
                }
                for (place, isOptional) in places {
                    var request = AttachRequest(
                        program: index,
                        name: program.name,
                        place: place,
                        isReturn: isReturn,
                        cookie: 0,
                        isOptional: isOptional
                    )
                    request.overrides = object.programs(reachedFrom: [index]).contains {
                        object.programs[$0].calls(.overrideReturn)
                    }
                    requests.append(request)
                }
            case .usdt(let path, let provider, let probe):
                var places = chosen[program.name] ?? []
                if places.isEmpty, let provider, let probe {
                    places = [Place(module: path, symbol: "\(provider):\(probe)", offset: 0)]
                }
                if places.isEmpty, program.isAutoloaded {
                    throw Failure.noTarget(program.name, section: program.section)
                }
                for var place in places {
                    guard let module = place.module, !module.isEmpty, place.symbol.split(separator: ":").count == 2
                    else {
                        throw .badOption(
                            "--attach",
                            value: "\(program.name)=\(place.symbol)",
                            expects: "PROGRAM=BINARY:PROVIDER:PROBE"
                        )
                    }
                    place.isStatic = true
                    requests.append(
                        AttachRequest(
                            program: index,
                            name: program.name,
                            place: place,
                            isReturn: false,
                            cookie: 0,
                            isOptional: false
                        )
                    )
                }
            case .kernel:
                if runsKernelPrograms, program.isAutoloaded { kernelPrograms.append(index) }
            case .none(let hook):
                if hook == "perf_event", program.isAutoloaded { kernelPrograms.append(index) }
                // Not attached by itself: a tail call's target, or a program that only tests run.
                continue
            }
        }
        if requests.isEmpty && kernelPrograms.isEmpty { throw Failure.nothingToAttach(object.name) }
    }

    /// Has the kernel run uprobe programs: all, or those for which `isMoved` holds.
    package mutating func moveToKernel(where isMoved: (Int) -> Bool = { _ in true }) {
        kernelRequests += requests.filter { isMoved($0.program) }
        requests.removeAll { isMoved($0.program) }
    }

    /// Splits `PROG=[BIN:]SYM[+OFF]`.
    package static func parse(_ option: String) throws(Failure) -> (program: String, place: Place) {
        func refused() -> Failure { .badOption("--attach", value: option, expects: "PROGRAM=[BINARY:]SYMBOL[+OFFSET]") }
        guard let equals = option.firstIndex(of: "="), equals != option.startIndex else { throw refused() }
        guard let place = Place(String(option[option.index(after: equals)...])) else { throw refused() }
        return (String(option[..<equals]), place)
    }
}

extension ProgramSpec {
    fileprivate func calls(_ helper: Helper) -> Bool { instructions.contains { Helper(calledBy: $0) == helper } }
}

/// A function in a module, as a person names it.
package struct Place: Equatable, Sendable {
    /// A path, a file name or the start of one (`libc`); nil for the first module that has the symbol.
    package var module: String?
    package var symbol: String
    package var offset: UInt64
    /// `symbol` is `PROVIDER:NAME` of a static probe (USDT).
    package var isStatic = false

    /// Provider and name of a static probe.
    package var staticProbe: (provider: String, name: String)? {
        let parts = symbol.split(separator: ":")
        return isStatic && parts.count == 2 ? (String(parts[0]), String(parts[1])) : nil
    }

    package init(module: String?, symbol: String, offset: UInt64) {
        self.module = module
        self.symbol = symbol
        self.offset = offset
    }

    /// Reads `[BIN:]SYM[+OFF]`; a `::` belongs to the symbol.
    package init?(_ text: String) {
        var rest = text[...]
        module = nil
        if let colon = Self.separator(rest) {
            module = String(rest[..<colon])
            rest = rest[rest.index(after: colon)...]
        }
        offset = 0
        if let plus = rest.lastIndex(of: "+"), let value = parseUnsigned(String(rest[rest.index(after: plus)...])) {
            offset = value
            rest = rest[..<plus]
        }
        symbol = String(rest)
        if symbol.isEmpty || module?.isEmpty == true { return nil }
    }

    private static func separator(_ text: Substring) -> Substring.Index? {
        var index = text.startIndex
        while let colon = text[index...].firstIndex(of: ":") {
            let next = text.index(after: colon)
            if next == text.endIndex || text[next] != ":" { return colon }
            index = text.index(after: next)
        }
        return nil
    }
}

/// One program on one function.
package struct AttachRequest: Equatable, Sendable {
    /// Index into `ObjectSpec.programs`.
    package var program: Int
    package var name: String
    package var place: Place
    package var isReturn: Bool
    package var cookie: UInt64
    /// Left out without an error where the target has no such function.
    package var isOptional: Bool
    /// The program may return in the function's place.
    package var overrides = false
}
