import JSON
import Verifier

extension Diagnosis {
    /// Members of a JSON object that says everything.
    func write(to data: inout JSONWriter) {
        data.member("rule", rule.code)
        data.member("headline", headline)
        data.member("category", category)
        data.member("program", program)
        data.member("function", function)
        data.key("primary")
        data.object { primary.write(to: &$0) }
        data.key("secondary")
        data.array { list in
            for place in secondary { list.object { place.write(to: &$0) } }
        }
        data.key("path")
        data.array { list in for entry in causalPath { list.string(entry) } }
        data.member("suggestion", suggestion)
        if let kernel { data.member("kernel_says", kernel) }
    }
}

extension Diagnosis.Place {
    fileprivate func write(to data: inout JSONWriter) {
        data.member("insn", slot)
        data.member("code", code)
        if let source {
            data.member("file", source.file)
            data.member("line", source.line)
            data.member("column", source.column)
            data.member("text", source.text)
        }
        data.member("label", label)
    }
}
