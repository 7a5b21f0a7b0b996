package import Loader

/// What an object's own loader would do for it: targets, variables and map sizes that the object does not carry.
///
/// A recipe is matched by the names of programs and maps, so it fits objects compiled elsewhere.
package struct Recipe: Sendable {
    package var name: String
    /// Programs that an object must have for the recipe to fit.
    package var programs: [String]
    /// Maps that it must have.
    package var maps: [String]
    /// Functions and their programs, `<function>_enter` and `<function>_exit`.
    package var functions: [Function]
    /// Variables to set where the object has them and the user did not.
    package var variables: [(name: String, value: String)]
    /// Those to set besides where the kernel runs all programs.
    package var kernelVariables: [(name: String, value: String)]
    package var mapSizes: [MapSize]
    /// The variable that asks for the object's kernel programs; without it they serve another purpose and are left out silently.
    package var kernelSwitch: String?
    package var report: ReportKind

    package struct Function: Sendable {
        package var symbol: String
        /// Not every C library or allocator has it.
        package var isOptional: Bool
    }

    /// Sizes for a map that leaves them open (zero, or `replaces`).
    package struct MapSize: Sendable {
        package var map: String
        package var valueSize: Int
        package var maxEntries: Int
        /// A placeholder size in the object that the recipe may raise.
        package var replaces: Int
    }

    /// How the maps are shown at intervals and at the end.
    package enum ReportKind: Sendable { case leaks, maps }

    package static let all: [Recipe] = [memleak]

    /// The recipe that fits an object, if one does.
    package static func matching(_ object: ObjectSpec) -> Recipe? {
        all.first { $0.fits(object) }
    }

    package func fits(_ object: ObjectSpec) -> Bool {
        programs.allSatisfy { name in object.programs.contains { $0.name == name } }
            && maps.allSatisfy { name in object.maps.contains { $0.name == name } }
    }

    /// Whether the programs for the kernel are wanted, once the variables are set.
    package func runsKernelPrograms(of object: ObjectSpec) -> Bool {
        guard let kernelSwitch else { return true }
        let variable = ObjectVariables(object).options.first { $0.name == kernelSwitch }
        return variable.flatMap { ProgramArguments.defaultText($0, in: object) } == "true"
    }

    /// The function that a program of the object is for.
    package func function(of program: String) -> Function? {
        functions.first { program == "\($0.symbol)_enter" || program == "\($0.symbol)_exit" }
    }

    /// Sizes maps and sets variables; `chosen` are variables that the user has set.
    package func apply(to object: inout ObjectSpec, chosen: Set<String>, inKernel: Bool = false) throws(Failure) {
        for size in mapSizes {
            guard let index = object.maps.firstIndex(where: { $0.name == size.map }) else { continue }
            if object.maps[index].valueSize == 0 { object.maps[index].valueSize = size.valueSize }
            if object.maps[index].maxEntries <= size.replaces { object.maps[index].maxEntries = size.maxEntries }
        }
        for variable in variables + (inKernel ? kernelVariables : []) where !chosen.contains(variable.name) {
            guard ObjectVariables(object).names.contains(variable.name) else { continue }
            try ObjectVariables.set(variable.name, to: variable.value, in: &object)
        }
    }
}

extension Recipe {
    /// memleak of bcc's libbpf-tools and ours: outstanding allocations by stack.
    ///
    /// Symbols and sizes as its loader sets them (bcc `libbpf-tools/memleak.c`, `attach_uprobes` and `main`).
    package static let memleak = Recipe(
        name: "memleak",
        programs: ["malloc_enter", "free_enter"],
        maps: ["allocs", "stack_traces"],
        functions: [
            ("malloc", false), ("calloc", false), ("realloc", false), ("mmap", false), ("mremap", false),
            ("posix_memalign", false), ("memalign", false), ("free", false), ("munmap", false),
            ("aligned_alloc", true), ("valloc", true), ("pvalloc", true), ("reallocarray", true),
        ].map { Function(symbol: $0.0, isOptional: $0.1) },
        // BPF_F_USER_STACK; the object's default asks for kernel stacks.
        variables: [("stack_flags", "256"), ("page_size", "4096")],
        kernelVariables: [("exact_time", "true")],
        mapSizes: [
            MapSize(map: "stack_traces", valueSize: 127 * 8, maxEntries: 10240, replaces: 0),
            MapSize(map: "combined_allocs", valueSize: 8, maxEntries: 10240, replaces: 1),
        ],
        kernelSwitch: "trace_kernel",
        report: .leaks
    )
}
