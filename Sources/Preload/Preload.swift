import Agent

/// The library's version, for people who look with `nm -D` or gdb.
@c(ubpf_version)
public func version() -> UInt32 { 1 }
