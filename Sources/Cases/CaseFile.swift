package import UBPFTesting

/// A file of cases for one object.
package struct CaseFile: Sendable {
    package let path: String
    /// The object or source, as the file has it: relative to the file.
    package internal(set) var object = ""
    package internal(set) var objectLine = 0
    package internal(set) var cases: [Case] = []
}

/// One case: what is done and expected, in order; the file's common lines come first.
package struct Case: Sendable {
    package let name: String
    package let line: Int
    package internal(set) var settings: Settings
    package internal(set) var steps: [Step]
}

/// How an object is loaded; cases with the same settings share a VM, one after the other.
package struct Settings: Hashable, Sendable {
    /// Initial values of variables, `.rodata` too.
    package var variables: [String: Value] = [:]
    package var entries: [String: Int] = [:]
    package var valueSizes: [String: Int] = [:]
    /// What programs are, where their own sections do not say it.
    package var sections: [String: String] = [:]
    package var cpus = 1
    /// `own`, `kernel`, or an object with other types.
    package var types = "own"
    /// Runs what the verifier refuses, too.
    package var verifies = true
}

/// One line of a case.
package struct Step: Sendable {
    package let line: Int
    /// As it is written, for messages.
    package let text: String
    package let action: Action
}

/// What a line does or expects.
package enum Action: Sendable {
    // The world.
    case number(Field, UInt64)
    case comm(String)
    case advance(UInt64)
    case stack([UInt64], isKernel: Bool)
    /// Ids, from the root on.
    case controlGroups([UInt64])
    case memory(UInt64, MemoryValue)
    case mapSet(String, key: Value, Value?)
    case variableSet(String, Value)
    case fail(String, map: String?, call: Int?, Errno)
    case mock(String, [Int64], Written?)
    // Running.
    case run(String, Context)
    case race(Race)
    // Expectations.
    case returns(Value)
    case traps(String?, line: Int?)
    case mapIs(String, key: Value, Value?, negated: Bool)
    case mapCount(String, Int)
    case variableIs(String, Value)
    case event(String, type: String?, Value?)
    case printk(String?)
    case calls(String, Int)
    case packet(Value)
    case contextIs(Value)
    case storedStack(String, Int64, [UInt64])
    case verifies(String)
    case rejects(String, String?, line: Int?)

    /// Two programs at the same time: the second as a whole at each point of the first.
    package struct Race: Sendable {
        package let first: String
        package let firstContext: Context
        package let second: String
        package let secondContext: Context
        /// The second one's thread; the first one's if not given.
        package let thread: UInt32?
        /// The rest of the case has to hold for one order at least, not for all.
        package let isSometimes: Bool
    }

    /// What a mock puts behind a pointer that it was given.
    package struct Written: Sendable {
        /// From 1, as in r1 to r5.
        package let argument: Int
        package let value: MemoryValue
    }

    package enum Field: String, CaseIterable, Sendable {
        case pid, tid, uid, gid, cpu, random, clock, cookie
        case clockStep = "clock-step"
    }

    package enum MemoryValue: Sendable {
        case bytes([UInt8])
        case text(String)
        case words([UInt64])
        case typed(String, Value)
    }
}
