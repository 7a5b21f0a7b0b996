import CLinux
package import Inject
import Symbols

extension Target {
    /// Looks at processes that are to be attached to; refuses before any of them is touched.
    package static func inspect(_ pids: [Int32]) throws(Failure) -> [InjectionPlan] {
        var plans: [InjectionPlan] = []
        for pid in pids {
            do { plans.append(try Injector.inspect(pid: pid)) } catch { throw Failure(error) }
        }
        return plans
    }

    /// Loads the library into a running process.
    package static func attach(_ plan: InjectionPlan, library: String) throws(Failure) -> Target {
        let injected: Injected
        do { injected = try Injector(plan).inject(libraryPath: library) } catch { throw Failure(error) }
        let channel = Channel(Descriptor(adopting: injected.socket))
        let pidfd = try Descriptor(clinux_pidfd(injected.pid), "pidfd_open")
        let target = Target(.attached, pid: injected.pid, pidfd: pidfd, channel: channel)
        target.injection = injected
        return target
    }
}

extension Failure {
    /// What the injecting side says, with its own code.
    package init(_ error: InjectError) {
        self.init(
            ErrorCode(rawValue: error.code) ?? .internalError,
            error.message,
            why: error.why.isEmpty ? nil : error.why,
            help: error.help.isEmpty ? nil : error.help,
            codeText: error.code
        )
    }
}
