/// A probe that a program has built in (<sys/sdt.h>): a nop, and a note that says where it is and what it passes.
package struct StaticProbe: Equatable, Sendable {
    package var provider: String
    package var name: String
    /// Virtual address of the nop in the file.
    package var address: UInt64
    /// Virtual address of the 16-bit counter of tracers without which the program goes round the nop; 0 where it has none.
    package var semaphore: UInt64
    /// As the assembler wrote them: `8@%rdi -4@$1`.
    package var arguments: String
}

extension ModuleSymbols {
    /// The USDT probes of the file, in its order (sourceware.org, "UserSpaceProbeImplementation").
    package var staticProbes: [StaticProbe] {
        guard let section = file.section(named: ".note.stapsdt") else { return [] }
        // A tool that moved the file's addresses (prelink) moved this section too, but did not rewrite the notes.
        let base = file.section(named: ".stapsdt.base")?.address
        var probes: [StaticProbe] = []
        var offset = section.offset
        let end = section.offset &+ section.size
        while offset < end, let nameSize = file.image.load(offset, as: UInt32.self),
            let size = file.image.load(offset + 4, as: UInt32.self),
            let type = file.image.load(offset + 8, as: UInt32.self)
        {
            let description = offset + 12 + (UInt64(nameSize) + 3) & ~3
            let next = description + (UInt64(size) + 3) & ~3
            guard next <= end else { break }
            // NT_STAPSDT
            if type == 3, let probe = probe(description, UInt64(size), base) { probes.append(probe) }
            offset = next
        }
        return probes
    }

    private func probe(_ start: UInt64, _ size: UInt64, _ base: UInt64?) -> StaticProbe? {
        let end = start + size
        guard size > 24, let address = file.image.load(start, as: UInt64.self),
            let noted = file.image.load(start + 8, as: UInt64.self),
            let semaphore = file.image.load(start + 16, as: UInt64.self),
            let provider = file.image.string(start + 24, limit: end),
            let name = file.image.string(start + 25 + UInt64(provider.utf8.count), limit: end),
            let arguments = file.image.string(
                start + 26 + UInt64(provider.utf8.count + name.utf8.count),
                limit: end
            )
        else { return nil }
        let moved = base.map { $0 &- noted } ?? 0
        return StaticProbe(
            provider: provider,
            name: name,
            address: address &+ moved,
            semaphore: semaphore == 0 ? 0 : semaphore &+ moved,
            arguments: arguments
        )
    }

    /// The probes of that name, one for each place it was compiled to.
    package func staticProbes(provider: String, name: String) -> [StaticProbe] {
        staticProbes.filter { $0.provider == provider && $0.name == name }
    }

}
