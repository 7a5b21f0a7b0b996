import ISA

extension HelperPrototype {
    /// Helpers of kprobes, tracepoints and perf events (Linux kernel/trace/bpf_trace.c).
    static let tracingHelpers: [Row] = [
        Row(.probeRead, .scalar, .output, .sizeOrZero, .anything, traits: .gplOnly),
        Row(.perfEventOutput, .scalar, .context, .map, .anything, .input, .sizeOrZero, traits: .gplOnly),
        Row(.getStackid, .scalar, .context, .map, .anything, traits: .gplOnly),
        Row(.probeReadStr, .atMostSize(argument: 2), .output, .sizeOrZero, .anything, traits: .gplOnly),
        Row(.perfProgReadValue, .scalar, .context, .output, .size, traits: .gplOnly),
        Row(.getStack, .atMostSize(argument: 3), .context, .output, .sizeOrZero, .anything, traits: .gplOnly),
        Row(.readBranchRecords, .scalar, .context, .updatedOrNull, .sizeOrZero, .anything, traits: .gplOnly),
        Row(.probeWriteUser, .scalar, .anything, .input, .size, traits: .gplOnly),
        Row(.overrideReturn, .scalar, .context, .anything, traits: .gplOnly),
        Row(.getFuncIp, .scalar, .context, traits: .gplOnly),
        Row(.getAttachCookie, .scalar, .context),
    ]
}
