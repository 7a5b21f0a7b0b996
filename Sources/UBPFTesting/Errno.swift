/// An error number of Linux, by its name.
public struct Errno: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The positive number.
    public let rawValue: Int32

    /// The error with a number.
    public init(rawValue: Int32) { self.rawValue = rawValue }

    /// The error with a name, like `ENOMEM`; nil for names that are not in the table.
    public init?(name: String) {
        guard let found = Self.names.first(where: { $0.name == name }) else { return nil }
        rawValue = found.number
    }

    /// Operation not permitted.
    public static let EPERM = Errno(rawValue: 1)
    /// No such entry.
    public static let ENOENT = Errno(rawValue: 2)
    /// Argument list too long: a full hash map, an index beyond an array.
    public static let E2BIG = Errno(rawValue: 7)
    /// Try again.
    public static let EAGAIN = Errno(rawValue: 11)
    /// Out of memory.
    public static let ENOMEM = Errno(rawValue: 12)
    /// Permission denied.
    public static let EACCES = Errno(rawValue: 13)
    /// Bad address.
    public static let EFAULT = Errno(rawValue: 14)
    /// Busy.
    public static let EBUSY = Errno(rawValue: 16)
    /// There is one already.
    public static let EEXIST = Errno(rawValue: 17)
    /// Invalid argument.
    public static let EINVAL = Errno(rawValue: 22)
    /// No space: a full ring.
    public static let ENOSPC = Errno(rawValue: 28)
    /// Not supported.
    public static let EOPNOTSUPP = Errno(rawValue: 95)

    // include/uapi/asm-generic/errno-base.h, errno.h
    private static let names: [(name: String, number: Int32)] = [
        ("EPERM", 1), ("ENOENT", 2), ("ESRCH", 3), ("EINTR", 4), ("EIO", 5), ("ENXIO", 6), ("E2BIG", 7), ("EBADF", 9),
        ("EAGAIN", 11), ("ENOMEM", 12), ("EACCES", 13), ("EFAULT", 14), ("EBUSY", 16), ("EEXIST", 17), ("EINVAL", 22),
        ("ENOSPC", 28), ("ERANGE", 34), ("ENAMETOOLONG", 36), ("ENOSYS", 38), ("EMSGSIZE", 90), ("EPROTO", 71),
        ("EOVERFLOW", 75), ("EOPNOTSUPP", 95), ("ETIMEDOUT", 110),
    ]

    /// Its name, or its number where it is not in the table.
    public var description: String { Self.names.first { $0.number == rawValue }?.name ?? "errno \(rawValue)" }
}
