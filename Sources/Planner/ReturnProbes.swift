/// Functions whose return must not be redirected, with the reason.
///
/// A return probe puts a stub's address where the return address was. Most functions cannot tell; these can, or return
/// more than once, when the stub's slot has been given back.
package enum ReturnProbes {
    package enum Obstacle: Equatable, Sendable {
        case returnsTwice
        case readsReturnAddress

        package var why: String {
            switch self {
            case .returnsTwice: "it returns twice, and the second time the return stub may serve another call"
            case .readsReturnAddress: "it looks at its caller's address to decide what to do"
            }
        }
    }

    /// Why `symbol` (with or without a version) takes no return probe; nil where it does.
    package static func obstacle(_ symbol: String) -> Obstacle? {
        let name = symbol.prefix { $0 != "@" }
        if returningTwice.contains(String(name)) { return .returnsTwice }
        if readingReturnAddress.contains(String(name)) { return .readsReturnAddress }
        return nil
    }

    /// What compilers treat as `returns_twice` (gcc special_function_p), and the names that glibc gives it.
    private static let returningTwice: Set<String> = [
        "setjmp", "_setjmp", "__setjmp", "sigsetjmp", "__sigsetjmp", "vfork", "__vfork", "getcontext", "__getcontext",
        "swapcontext", "savectx", "getcontext_light",
    ]

    /// glibc functions that use RETURN_ADDRESS (0) for namespaces and RTLD_NEXT.
    private static let readingReturnAddress: Set<String> = [
        "dlsym", "dlvsym", "dlopen", "dlmopen", "__libc_dlsym", "__libc_dlopen_mode", "__mcount", "_mcount", "mcount",
        "__fentry__", "__cyg_profile_func_enter", "__cyg_profile_func_exit",
        "dl_iterate_phdr", "__dl_iterate_phdr",
    ]
}
