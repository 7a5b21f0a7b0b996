internal import ISA
package import Loader

// Tail calls hand the context on, so all programs around a program array must be of one type: each was verified for the context
// of its own (Linux kernel/bpf/core.c, `bpf_prog_map_compatible`).

extension ObjectSpec {
    /// The given programs, and those that they reach by what the object puts into program arrays; in order.
    package func programs(reachedFrom roots: [Int]) -> [Int] {
        var reached: [Int] = []
        var work = roots
        while let next = work.popLast() {
            guard !reached.contains(next) else { continue }
            reached.append(next)
            for map in programArrays(usedBy: next) { work += members(map) }
        }
        return reached.sorted()
    }

    /// A program array that a program uses or lies in, where another one is of another type.
    package func mixedArray(around program: Int) -> (array: String, other: ProgramSpec)? {
        for map in maps.indices where maps[map].type == .programArray {
            let members = members(map)
            let around = programs.indices.filter { members.contains($0) || programArrays(usedBy: $0).contains(map) }
            guard around.contains(program) else { continue }
            if let other = around.first(where: { programs[$0].type != programs[program].type }) {
                return (maps[map].name, programs[other])
            }
        }
        return nil
    }

    private func programArrays(usedBy program: Int) -> Set<Int> {
        Set(
            programs[program].instructions.lazy.filter { $0.opcode == .loadMap }.map { Int($0.imm) }
                .filter { maps.indices.contains($0) && maps[$0].type == .programArray }
        )
    }

    private func members(_ map: Int) -> [Int] {
        maps[map].initialElements.compactMap { element in
            guard case .program(let name) = element.value else { return nil }
            return programs.firstIndex { $0.name == name }
        }
    }
}
