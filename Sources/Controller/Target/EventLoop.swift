import CLinux
import Glibc

/// Waits for what happens to a run: signals, timers, the targets' ends, messages.
package struct EventLoop: ~Copyable {
    /// What happened; several can be true after one wait.
    package struct Events: Equatable, Sendable {
        /// SIGINT and SIGTERM since the last wait.
        package var stops = 0
        /// SIGUSR1: print now.
        package var printNow = false
        /// Intervals that have passed.
        package var ticks: UInt64 = 0
        package var durationOver = false
        package var pollRings = false
        /// Which of the descriptors that were given have something to say.
        package var ready: [Bool] = []
    }

    // Descriptors, -1 for none.
    private var signals: Int32 = -1
    private var interval: Int32 = -1
    private var duration: Int32 = -1
    private var rings: Int32 = -1

    private init() {}

    deinit {
        for descriptor in [signals, interval, duration, rings] where descriptor >= 0 { _ = close(descriptor) }
    }

    /// Takes over SIGINT, SIGTERM, SIGCHLD and SIGUSR1 of the process; a child started later gets the old mask back.
    package static func make(interval: Double?, duration: Double?, hasRings: Bool) throws(Failure) -> EventLoop {
        var loop = EventLoop()
        loop.signals = try open(clinux_signals(), "signalfd")
        if let interval { loop.interval = try open(clinux_timer(nanoseconds(interval)), "timerfd") }
        if let duration { loop.duration = try open(clinux_timer_once(nanoseconds(duration)), "timerfd") }
        // A ring has no descriptor to wait for: a futex in the target would cost every record a system call.
        if hasRings { loop.rings = try open(clinux_timer(20_000_000), "timerfd") }
        return loop
    }

    private static func open(_ result: Int32, _ what: String) throws(Failure) -> Int32 {
        guard result >= 0 else { throw Failure.socketFailed(what, errno: -result) }
        return result
    }

    /// Waits for the next events; `others` are pidfds and sockets, -1 for none.
    package borrowing func wait(_ others: [Int32], timeoutMilliseconds: Int32 = -1) throws(Failure) -> Events {
        let own = [signals, interval, duration, rings]
        let descriptors = own + others
        var ready = [UInt8](repeating: 0, count: descriptors.count)
        let result = unsafe clinux_poll(descriptors, &ready, UInt32(descriptors.count), timeoutMilliseconds)
        guard result >= 0 else { throw Failure.socketFailed("poll", errno: -result) }
        var events = Events()
        while true {
            let signal = clinux_next_signal(signals)
            if signal < 0 { break }
            switch signal {
            case SIGINT, SIGTERM: events.stops += 1
            case SIGUSR1: events.printNow = true
            default: continue
            }
        }
        if ready[1] != 0 { events.ticks = clinux_timer_fired(interval) }
        events.durationOver = ready[2] != 0
        if ready[3] != 0 { events.pollRings = clinux_timer_fired(rings) > 0 }
        events.ready = ready[own.count...].map { $0 != 0 }
        return events
    }

    private static func nanoseconds(_ seconds: Double) -> UInt64 { UInt64(max(0.001, min(seconds, 1e9)) * 1e9) }
}
