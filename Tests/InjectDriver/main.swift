// inject-driver PID LIBRARY [COUNT [MILLISECONDS]]: injects, prints what the library says, waits, closes; COUNT times. The last line has
// the median and the longest time that the target's thread was stopped, and the same of whole attachments, in microseconds.
import CLinux
import Glibc
import Inject

/// Past the library's buffer: what was said stays when this process is killed.
func say(_ text: String) { _ = Array((text + "\n").utf8).withUnsafeBytes { unsafe write(1, $0.baseAddress, $0.count) } }
let arguments = CommandLine.arguments
guard arguments.count >= 3, let pid = Int32(arguments[1]) else { exit(64) }
let count = arguments.count > 3 ? Int(arguments[3]) ?? 1 : 1
let pause = arguments.count > 4 ? UInt32(arguments[4]) ?? 0 : 0
var stopped: [UInt64] = []
var total: [UInt64] = []

@MainActor func inject() throws(InjectError) {
    let started = clinux_now()
    let plan = try Injector.inspect(pid: pid)
    let injected = try Injector(plan).inject(libraryPath: arguments[2])
    total.append((clinux_now() - started) / 1000)
    stopped.append(injected.stoppedNanoseconds / 1000)
    var bytes = [UInt8](repeating: 0, count: 256)
    let got = unsafe clinux_receive(injected.socket, &bytes, UInt64(bytes.count), nil, nil)
    say("says \(String(decoding: bytes.prefix(Int(max(got, 0))), as: UTF8.self)) resident \(injected.wasResident)")
    if pause > 0 { usleep(pause * 1000) }
    close(injected.socket)
    if !injected.waitUntilGone(milliseconds: 5000) {
        say("memory left: \(String(injected.memory.lowerBound, radix: 16))")
        exit(2)
    }
}

do throws(InjectError) {
    for _ in 0..<count { try inject() }
} catch {
    say(error.description)
    exit(1)
}
stopped.sort()
total.sort()
say("stopped \(stopped[count / 2]) \(stopped[count - 1]) total \(total[count / 2]) \(total[count - 1])")
