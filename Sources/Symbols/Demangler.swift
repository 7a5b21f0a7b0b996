internal import Glibc

/// The demangler of the Swift runtime (swift/include/swift/Demangling/Demangle.h); its result is malloc'ed.
@_silgen_name("swift_demangle")
private func runtimeDemangle(
    _ name: UnsafePointer<CChar>,
    _ length: Int,
    _ buffer: UnsafeMutablePointer<CChar>?,
    _ bufferSize: UnsafeMutablePointer<Int>?,
    _ flags: UInt32
) -> UnsafeMutablePointer<CChar>?

/// `abi::__cxa_demangle` of the C++ runtime (Itanium C++ ABI, 3.4).
private typealias CxaDemangle =
    @convention(c) (
        UnsafePointer<CChar>, UnsafeMutablePointer<CChar>?, UnsafeMutablePointer<Int>?, UnsafeMutablePointer<Int32>?
    ) -> UnsafeMutablePointer<CChar>?

// The Swift runtime is itself C++, so libstdc++ is in the process; a lookup spares this package a link flag.
private let cxaDemangle: CxaDemangle? = {
    let symbol = unsafe dlsym(nil, "__cxa_demangle")
    let library = unsafe symbol == nil ? dlopen("libstdc++.so.6", RTLD_NOW) : nil
    guard let found = unsafe symbol ?? library.flatMap({ unsafe dlsym($0, "__cxa_demangle") }) else { return nil }
    return unsafe unsafeBitCast(found, to: CxaDemangle.self)
}()

/// The readable form of a mangled C++ or Swift name; other names come back as they are.
package func demangle(_ name: String) -> String {
    if name.hasPrefix("_Z") || name.hasPrefix("___Z") {
        var status: Int32 = 0
        guard let text = unsafe cxaDemangle?(name, nil, nil, &status) else { return name }
        defer { unsafe free(text) }
        return unsafe String(cString: text)
    }
    if name.hasPrefix("$s") || name.hasPrefix("$S") || name.hasPrefix("_T0") || name.hasPrefix("$e") {
        guard let text = unsafe runtimeDemangle(name, name.utf8.count, nil, nil, 0) else { return name }
        defer { unsafe free(text) }
        return unsafe String(cString: text)
    }
    return name
}
