import Runtime

/// The probes of a session, in the order of their statistics.
final class ProbeBook {
    private(set) var probes: [TargetPlan.AttachedProbe] = []
    /// Where the probes of each kind of plan start to count: the same program executed twice, and a library that is opened
    /// again, count in the same places.
    private var blocks: [(start: Int, names: [String])] = []

    /// Says where a plan counts; its probes are the session's from here on.
    func place(_ plan: inout TargetPlan) {
        let names = plan.names
        if let known = blocks.first(where: { $0.names == names }) {
            plan.builder.firstStatistic = known.start
            return
        }
        plan.builder.firstStatistic = probes.count
        blocks.append((probes.count, names))
        probes += plan.probes
    }
}
