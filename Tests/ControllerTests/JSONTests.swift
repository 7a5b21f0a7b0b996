import JSON
import Testing

@testable import Controller

@Suite("JSON text")
struct JSONTests {
    @Test(
        "Strings are escaped as RFC 8259 asks",
        arguments: [
            ("", "\"\""), ("plain", "\"plain\""), ("\"\\", #""\"\\""#), ("\n\r\t\u{08}\u{0c}", #""\n\r\t\b\f""#),
            ("\u{00}\u{1f}\u{7f}", #""\u0000\u001f\u007f""#), ("a\u{2028}b", #""a\u2028b""#), ("é日🙂", "\"é日🙂\""),
            ("e\u{301}", "\"e\u{301}\""), ("\u{9b}", #""\u009b""#),
        ]
    )
    func strings(_ value: String, _ expected: String) {
        var writer = JSONWriter()
        writer.string(value)
        #expect(writer.text.unicodeScalars.elementsEqual(expected.unicodeScalars))
    }

    @Test("Commas stand between members and elements only, at any depth")
    func nesting() {
        var writer = JSONWriter()
        writer.object { object in
            object.member("a", 1)
            object.key("b")
            object.array { list in
                list.object { _ in }
                list.array { _ in }
                list.null()
                list.bool(false)
                list.number(UInt64.max)
            }
            object.member("c", address: 0x7fff_ffff_ffff_f000)
            object.member("d", true)
        }
        #expect(
            writer.text
                == #"{"a":1,"b":[{},[],null,false,18446744073709551615],"c":"0x7ffffffffffff000","d":true}"#
        )
    }
}
