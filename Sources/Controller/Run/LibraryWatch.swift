import CLinux
import CSession
import Glibc
import Planner
import Runtime
import Symbols

/// The libraries of one target that come and go while a session runs: plans them when they appear.
///
/// The thread that opens one waits for us, so what is new is found without reading more than the list of mappings.
final class LibraryWatch {
    let target: Target
    private let channel: Channel
    private let messages: Messages
    private let programs: [Int: Int]
    private let arguments: StaticProbeMap?
    /// Requests by the name of their module.
    private let wanted: [(name: String, requests: [AttachRequest])]
    /// What is known of each file that is mapped with code.
    private var known: [Place: State] = [:]
    /// Plans that are on their way, by number.
    private var sent: [UInt32: Sent] = [:]
    private var nextNumber: UInt32 = 1
    private var warned: Set<String> = []
    private(set) var isClosed = false
    private(set) var outcome = Outcome()

    /// One mapping of code of one file.
    private struct Place: Hashable {
        var device: UInt64
        var inode: UInt64
        var path: String
        var start: UInt64

        init(_ mapping: Mapping) {
            device = mapping.device
            inode = mapping.inode
            path = mapping.path
            start = mapping.start
        }
    }

    private enum State: Equatable {
        /// Nobody asked for it, or its probes cannot be set.
        case left
        /// Its plan is on its way, or in place.
        case planned(UInt32)
        /// It runs without its probes.
        case late
    }

    private struct Sent {
        var place: Place
        var name: String
        var plan: TargetPlan
        var maps: ProcessMaps
        var file: Int32
        /// Of the question that it answers.
        var question: UInt64
        /// It ran without its probes already.
        var wasLate: Bool
    }

    /// Watches by `channel`; `requests` are those whose module may come or go.
    init(
        _ target: Target,
        channel: consuming Channel,
        requests: [AttachRequest],
        programs: [Int: Int],
        arguments: StaticProbeMap?,
        messages: Messages
    ) {
        self.arguments = arguments
        self.target = target
        self.channel = channel
        self.programs = programs
        self.messages = messages
        var groups: [(name: String, requests: [AttachRequest])] = []
        for request in requests {
            let name = request.place.module ?? ""
            if let index = groups.firstIndex(where: { $0.name == name }) {
                groups[index].requests.append(request)
            } else {
                groups.append((name, [request]))
            }
        }
        wanted = groups
        outcome.names = Set(groups.map(\.name))
    }

    deinit { for plan in sent.values { _ = Glibc.close(plan.file) } }

    /// What came of the libraries that are waited for.
    struct Outcome {
        var names: Set<String> = []
        /// Those that were seen at least once.
        var found: Set<String> = []
        /// How often a module ran without its probes, by file name.
        var missed: [String: Int] = [:]

        var missing: [String] { names.subtracting(found).sorted() }

        var warnings: [Failure] {
            (missing.isEmpty ? [] : [.neverLoaded(missing)])
                + missed.sorted { $0.key < $1.key }.map { .libraryMissed($0.key, $0.value) }
        }

        mutating func add(_ other: Outcome) {
            names.formUnion(other.names)
            found.formUnion(other.found)
            missed.merge(other.missed) { $0 + $1 }
        }
    }

    var descriptor: Int32 { isClosed || target.hasEnded ? -1 : channel.descriptor }

    /// Ends the conversation: whoever waits in the target goes on.
    func close() {
        isClosed = true
        _ = shutdown(channel.descriptor, Int32(SHUT_RDWR))
    }

    /// What changed.
    struct News {
        var plan: TargetPlan
        var maps: ProcessMaps
        var name: String
        var isFirst: Bool
    }

    /// Takes one message from the target; the plan that is in place now, if it says so.
    func answer(_ session: borrowing Session, _ book: ProbeBook, _ loop: borrowing EventLoop) throws(Failure) -> [News]
    {
        let message: csession_message
        switch try channel.receive() {
        case .closed:
            isClosed = true
            return []
        case .message(let received): message = received
        }
        switch message.kind {
        case CSESSION_MODULES.rawValue where message.error == 0:
            for sent in try look(session, book, isFresh: true, message.value) {
                try? channel.send(CSESSION_MORE, value: message.value, plan: sent.number, descriptors: [sent.file])
            }
            try? channel.send(CSESSION_SEEN, value: message.value)
            return []
        case CSESSION_MODULES.rawValue:
            // Nobody waits any more: what was not in time.
            var news: [News] = []
            for number in sent.filter({ $0.value.question == message.value }).keys.sorted() {
                news += try setLate(number, session, loop)
            }
            return news
        case CSESSION_ATTACHED.rawValue:
            guard let it = sent[message.plan] else { return [] }
            if message.error == UInt32(ETIMEDOUT) { return try setLate(message.plan, session, loop) }
            return settle(message.plan, it, message)
        case CSESSION_FORGOTTEN.rawValue:
            if let place = known.first(where: { $0.value == .planned(message.plan) })?.key { known[place] = nil }
            return []
        default: throw Failure.internalError("libubpf.so said \(message.kind) about its libraries")
        }
    }

    /// Sets the probes of what is there already, while the target runs.
    func start(_ session: borrowing Session, _ book: ProbeBook, _ loop: borrowing EventLoop) throws(Failure) -> [News] {
        // A program that has just been started asks by itself.
        guard target.kind == .attached else { return [] }
        var news: [News] = []
        for attempt in 1...3 {
            var refusal: Failure?
            for item in try look(session, book, isFresh: false, 0) {
                guard let it = sent[item.number] else { continue }
                let answer = try Conversation(target, name: target.name).more(
                    session,
                    number: item.number,
                    file: item.file,
                    windows: it.plan.windows,
                    loop
                )
                if answer.error != 0, exists(it.place) { refusal = Conversation.refusal(answer, it.plan) }
                news += settle(item.number, it, answer)
            }
            guard let refusal else { break }
            // A program that opens and closes it all the time will ask; anything else is a place that cannot be patched.
            var isAsked: UInt8 = 0
            _ = unsafe clinux_poll([channel.descriptor], &isAsked, 1, 0)
            if isAsked != 0 { break }
            if attempt == 3 { throw refusal }
        }
        return news
    }

    /// What came of a plan that was sent; it may be sent again where it failed.
    private func settle(_ number: UInt32, _ it: Sent, _ message: csession_message) -> [News] {
        let question = it.question
        sent[number] = nil
        _ = Glibc.close(it.file)
        if message.error != 0 {
            // It may be opened again at the same place, which only its own plan would tell.
            known[it.place] = .late
            if question != 0, exists(it.place) { warn(Conversation.refusal(message, it.plan)) }
            return []
        }
        known[it.place] = .planned(number)
        return [News(plan: it.plan, maps: it.maps, name: it.name, isFirst: outcome.found.insert(it.name).inserted)]
    }

    /// A plan whose module may be running already: set as in any running process, where that has somebody to do it.
    private func setLate(
        _ number: UInt32,
        _ session: borrowing Session,
        _ loop: borrowing EventLoop
    ) throws(Failure) -> [News] {
        guard let it = sent[number] else { return [] }
        let module = fileName(of: it.place.path)
        if !it.wasLate { outcome.missed[module, default: 0] += 1 }
        outcome.found.insert(it.name)
        guard target.kind == .attached else {
            sent[number] = nil
            _ = Glibc.close(it.file)
            known[it.place] = .late
            return []
        }
        let answer = try Conversation(target, name: target.name).more(
            session,
            number: number,
            file: it.file,
            windows: it.plan.windows,
            loop
        )
        return settle(number, it, answer)
    }

    /// Whether a module has not gone meanwhile.
    private func exists(_ place: Place) -> Bool {
        (try? ProcessMaps.readMappings(pid: target.pid, with: "r-xp"))?.contains { Place($0) == place } ?? false
    }

    // MARK: Planning

    /// Plans what has come since the last look; plans that are to be sent.
    private func look(
        _ session: borrowing Session,
        _ book: ProbeBook,
        isFresh: Bool,
        _ question: UInt64
    ) throws(Failure) -> [(number: UInt32, file: Int32)] {
        let mappings: [Mapping]
        // A process that has just ended has none.
        do { mappings = try ProcessMaps.readMappings(pid: target.pid, with: "r-xp") } catch { return [] }
        let places = mappings.filter { $0.path.hasPrefix("/") && $0.inode != 0 }.map { Place($0) }
        let present = Set(places)
        known = known.filter { present.contains($0.key) }
        var made: [(number: UInt32, file: Int32)] = []
        for place in places where known[place] == nil || known[place] == .late {
            let wasLate = known[place] == .late
            known[place] = .left
            let number = nextNumber
            guard let it = try plan(place, book, number, isFresh: isFresh) else { continue }
            known[place] = wasLate ? .late : .planned(number)
            nextNumber += 1
            let descriptor = try session.plan(it.plan.builder)
            let file = dup(descriptor.number)
            guard file >= 0 else { throw Failure.socketFailed("dup", errno: errno) }
            sent[number] = Sent(
                place: place,
                name: it.name,
                plan: it.plan,
                maps: it.maps,
                file: file,
                question: question,
                wasLate: wasLate
            )
            made.append((number, file))
        }
        return made
    }

    /// The plan for what is wanted of one file; nil where that is nothing.
    private func plan(
        _ place: Place,
        _ book: ProbeBook,
        _ number: UInt32,
        isFresh: Bool
    ) throws(Failure) -> (name: String, plan: TargetPlan, maps: ProcessMaps)? {
        let maps: ProcessMaps
        do {
            maps = try ProcessMaps.read(pid: target.pid) { mapping in
                mapping.inode == place.inode && mapping.device == place.device && mapping.path == place.path
            }
        } catch { return nil }
        guard let module = maps.module(containing: place.start) else { return nil }
        let resolver = ProbeResolver(maps: maps)
        resolver.only = module
        let groups = wanted.filter { !resolver.modules(named: $0.name).isEmpty }
        guard let name = groups.first?.name else { return nil }
        // The agent compares its bytes; those of another session's probes are none of ours.
        resolver.leavesChecksToAgent = true
        do throws(Failure) {
            let relocates: Bool
            do { relocates = try resolver.symbols(of: module).hasTextRelocations } catch { throw Failure(error) }
            if relocates && isFresh { throw .textRelocations(module.name) }
            var plan = try TargetPlan(
                groups.flatMap(\.requests),
                resolver,
                programs: programs,
                arguments: arguments,
                skipped: { messages.detail("left out: \($0)") }
            )
            plan.builder.module = (number, module.bias)
            book.place(&plan)
            return (name, plan, maps)
        } catch {
            if !isFresh { throw error }
            outcome.found.insert(name)
            warn(error)
            return nil
        }
    }

    /// Once for each text: a library may be opened again and again.
    private func warn(_ failure: Failure) {
        if warned.insert(failure.text()).inserted { messages.warning(failure) }
    }
}
