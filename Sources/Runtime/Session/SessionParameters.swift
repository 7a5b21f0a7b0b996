package import CSession

/// One program on one site.
package struct ProbeParameters: Sendable {
    package var program: Int
    package var cookie: UInt64

    package init(program: Int, cookie: UInt64 = 0) {
        self.program = program
        self.cookie = cookie
    }
}

/// One place to patch, with the probes on it; see `csession_site`.
package struct SiteParameters: Sendable {
    package var address: UInt64
    package var island: UInt64
    package var resume: UInt64
    package var window: UInt32
    package var tactic: csession_tactic
    package var isFunction: Bool
    /// At most 16 bytes that must be found at `address`.
    package var original: [UInt8]
    /// The relocated window.
    package var code: [UInt8]
    package var fixups: [csession_fixup]
    package var entries: [ProbeParameters]
    package var returns: [ProbeParameters]
    /// The dynamic loader's own function, whose hits tell of libraries.
    package var isLoader = false
    /// Address of a static probe's semaphore, or 0.
    package var counter: UInt64 = 0

    package init(
        address: UInt64,
        island: UInt64 = 0,
        resume: UInt64,
        window: UInt32,
        tactic: csession_tactic,
        isFunction: Bool,
        original: [UInt8],
        code: [UInt8],
        fixups: [csession_fixup] = [],
        entries: [ProbeParameters] = [],
        returns: [ProbeParameters] = []
    ) {
        self.address = address
        self.island = island
        self.resume = resume
        self.window = window
        self.tactic = tactic
        self.isFunction = isFunction
        self.original = original
        self.code = code
        self.fixups = fixups
        self.entries = entries
        self.returns = returns
    }
}

/// Where the values of a map with global data lie.
package struct ValueLocation: Equatable, Sendable {
    /// 0: shared segment, 1: image (`csession_storage`).
    package var storage: UInt32
    /// From the start of that segment.
    package var offset: UInt64
}

/// A finished session: the bytes of the image, and what the shared segment starts with.
package struct SessionImage: Sendable {
    /// The whole image.
    package var bytes: [UInt8]
    /// Bytes that the shared segment needs.
    package var sharedSize: Int
    /// Non-zero initial bytes of the shared segment.
    var initial: [(offset: UInt64, bytes: [UInt8])]
    /// `csession_image.session_id`.
    package var identifier: UInt64

    /// Writes the initial state into a shared segment of `sharedSize` zero bytes.
    package func initializeShared(_ shared: UnsafeMutableRawPointer) {
        for part in initial {
            unsafe part.bytes.withUnsafeBytes { from in
                guard let source = from.baseAddress else { return }
                unsafe shared.advanced(by: Int(part.offset)).copyMemory(from: source, byteCount: from.count)
            }
        }
    }
}
