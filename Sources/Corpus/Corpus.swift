internal import Glibc
internal import JSON
internal import Loader
internal import VerifierInput

/// Judges each record of `input`, a line each, and writes a line of `output` for each, in order.
package func judgeCorpus(_ options: Options, input: Int32, output: Int32) throws(CorpusError) {
    var library = TypeLibrary(directory: options.btfDirectory)
    let seeds = try options.seeds.map { path throws(CorpusError) in try readSeeds(path) } ?? [:]
    let sandbox = try Sandbox(options)
    warmUp()
    var lines = LineReader()
    var isEnd = false
    while !isEnd {
        isEnd = try !lines.fill(from: input)
        var jobs: [Job] = []
        while let line = lines.next() {
            if let job = job(line, isOverlong: lines.takeOverlong(), seeds, &library) { jobs.append(job) }
        }
        if isEnd, let job = job(lines.rest(), isOverlong: lines.takeOverlong(), seeds, &library) { jobs.append(job) }
        try sandbox.run(jobs) { line throws(CorpusError) in
            if !writeAll(line, to: output) { throw .outputClosed }
        }
    }
}

/// Nil for lines of nothing but space.
private func job(
    _ line: ArraySlice<UInt8>,
    isOverlong: Bool,
    _ seeds: [String: Record],
    _ library: inout TypeLibrary
) -> Job? {
    if isOverlong { return Job(record: .failure(.tooLong(limit: LineReader.limit))) }
    if line.allSatisfy({ $0 == 0x20 || $0 == 0x0d || $0 == 0x09 }) { return nil }
    do throws(RecordError) {
        let record = try readRecord(line, seeds)
        return Job(record: .success(record), types: try library.types(of: record))
    } catch {
        return Job(record: .failure(error))
    }
}

func readRecord(_ line: ArraySlice<UInt8>, _ seeds: [String: Record]) throws(RecordError) -> Record {
    let json: JSONValue
    do { json = try parseJSON(line) } catch { throw .json(error.description) }
    return try Record(json, seeds: seeds)
}

/// The programs of a file by their ids; lines that are no programs are left out, as they are reported when they are read
/// as records.
private func readSeeds(_ path: String) throws(CorpusError) -> [String: Record] {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
        let number = errno
        throw .unreadable(path, number, unsafe String(cString: strerror(number)))
    }
    defer { close(descriptor) }
    var seeds: [String: Record] = [:]
    var lines = LineReader()
    var isEnd = false
    while !isEnd {
        isEnd = try !lines.fill(from: descriptor)
        while let line = lines.next() { add(line, to: &seeds) }
        if isEnd { add(lines.rest(), to: &seeds) }
    }
    return seeds
}

private func add(_ line: ArraySlice<UInt8>, to seeds: inout [String: Record]) {
    if let record = try? readRecord(line, [:]) { seeds[record.id] = record }
}

/// Types from files, each read once.
private struct TypeLibrary {
    let directory: String
    private var known: [String: Result<TypeFacts, RecordError>] = [:]

    init(directory: String) { self.directory = directory }

    /// The types that a record and its maps name.
    mutating func types(of record: Record) throws(RecordError) -> RecordTypes {
        var result: RecordTypes = [:]
        for name in [record.btf] + record.maps.map({ $0?.btf }) {
            guard let name, result[name] == nil else { continue }
            do {
                result[name] = try types(named: name).get()
            } catch {
                throw RecordError(id: record.id, message: error.message)
            }
        }
        return result
    }

    private mutating func types(named name: String) -> Result<TypeFacts, RecordError> {
        if let known = known[name] { return known }
        let result = Result { () throws(RecordError) in try read(name) }
        known[name] = result
        return result
    }

    private func read(_ name: String) throws(RecordError) -> TypeFacts {
        // Names are file names; a record must not reach other files.
        guard !name.isEmpty, !name.hasPrefix("."), !name.contains("/") else { throw .noTypes(name, in: directory) }
        for place in [directory, directory + "/btf", directory + "/btf/btf"] {
            guard let bytes = contents("\(place)/\(name).btf") else { continue }
            do {
                return TypeFacts(try BTF(bytes, name: name))
            } catch {
                throw .types(error.description)
            }
        }
        throw .noTypes(name, in: directory)
    }

    /// The bytes of a file; nil where there is none.
    private func contents(_ path: String) -> [UInt8]? {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = unsafe Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            if count < 0 { return nil }
            if count == 0 { return bytes }
            bytes += chunk[..<count]
        }
    }
}
