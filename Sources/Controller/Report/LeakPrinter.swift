import JSON

/// Whose memory a leak report is about, and where memleak keeps it.
enum LeakHalf: CaseIterable {
    case process
    case kernel

    /// The map of outstanding allocations.
    var table: String {
        switch self {
        case .process: "allocs"
        case .kernel: "kernel_allocs"
        }
    }

    var stacks: String {
        switch self {
        case .process: "stack_traces"
        case .kernel: "kernel_stack_traces"
        }
    }
}

/// Writes leak reports.
struct LeakPrinter {
    let sink: OutputSink
    let half: LeakHalf
    let selection: LeakSelection
    let isFinal: Bool

    func show(_ report: LeakReport, calls: LeakReport.Calls?, stack: (Int32) -> [StackLine]) throws(Failure) {
        switch (sink.format, half) {
        case (.text, .process):
            if !isFinal { try sink.line("[\(clockText())]") }
            let verb = isFinal ? "leaked" : "outstanding"
            try sink.line(report.text(top: selection.top, calls: calls, heading: verb, stack: stack))
        case (.text, .kernel):
            try sink.line(
                report.text(top: selection.top, calls: calls, heading: "in the kernel: outstanding", stack: stack)
            )
        case (.json, _):
            let kind = half == .kernel ? "kernel_" : ""
            for record in report.records(top: selection.top, type: kind + "leak", stack: stack) {
                try sink.line(record)
            }
            try sink.line(
                jsonRecord(kind + "total") { data in
                    data.member("bytes", report.bytes)
                    data.member("count", report.count)
                    data.member("places", report.places.count)
                    data.member("final", isFinal)
                }
            )
        }
    }
}
