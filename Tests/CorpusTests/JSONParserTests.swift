import JSON
import Testing

@Suite("Parsing JSON")
struct JSONParserTests {
    private func parse(_ text: String) throws(JSONError) -> JSONValue { try parseJSON(Array(text.utf8)) }

    @Test("Values")
    func values() throws {
        #expect(try parse("null") == .null)
        #expect(try parse(" [true,false] ") == .array([.bool(true), .bool(false)]))
        #expect(try parse("-9223372036854775808") == .integer(.min))
        #expect(try parse("9223372036854775808") == .number(9_223_372_036_854_775_808))
        #expect(try parse("[0,-0,1.5e2]") == .array([.integer(0), .integer(0), .number(150)]))
        let object = try parse(#"{"a":{"b":[{}]},"a":7,"c":null}"#)
        #expect(object["a"]?.number == 7)
        #expect(object["c"] == nil)
        #expect(object["d"] == nil)
    }

    @Test(
        "Strings",
        arguments: [
            (#""""#, ""), (#""aé日🙂""#, "aé日🙂"), (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (#""x\u0041\u00e9y""#, "xA\u{e9}y"), (#""\ud83d\ude42""#, "🙂"), (#""\u0000""#, "\0"),
        ]
    )
    func strings(_ text: String, _ value: String) throws {
        #expect(try parse(text).text.map { Array($0.unicodeScalars) } == Array(value.unicodeScalars))
    }

    @Test(
        "What is no JSON is refused where it goes wrong",
        arguments: [
            ("", 0), (" ", 1), ("nul", 0), ("{", 1), ("[1", 2), ("[1,]", 3), (#"{"a"}"#, 4), (#"{"a":1,}"#, 7),
            ("01", 1),
            ("1.", 2), ("1e", 2), ("-", 1), ("+1", 0), ("1 2", 2), (#"""#, 1), (#""\x""#, 3), (#""\u12g4""#, 5),
            (#""\ud83d""#, 7), (#""\ude42""#, 7), ("\"\n\"", 1), ("{1:2}", 1), (#""\"#, 2),
        ]
    )
    func refused(_ text: String, _ offset: Int) {
        let error = #expect(throws: JSONError.self) { try parse(text) }
        #expect(error?.offset == offset, "\(text): \(error?.description ?? "")")
    }

    @Test("Bytes that are no UTF-8, and values that nest without end")
    func hostile() {
        #expect(throws: JSONError.self) { try parseJSON([0x22, 0xff, 0x22]) }
        #expect(throws: JSONError.self) { try parse(String(repeating: "[", count: 1_000_000)) }
        #expect(throws: Never.self) {
            try parse(String(repeating: "[", count: 100) + String(repeating: "]", count: 100))
        }
    }

    @Test("Damaged texts never stop the parser")
    func damaged() {
        var random = SeededGenerator(state: 7)
        let text = Array(#"{"id":"a\u00e9","maps":[{"type":1,"x":-1.5e3},null],"t":true}"#.utf8)
        var parsed = 0
        for _ in 0..<20_000 {
            var bytes = text
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if (try? parseJSON(bytes)) != nil { parsed += 1 }
        }
        // Some only change a name.
        #expect(parsed > 100 && parsed < 19_000)
    }
}

/// SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
