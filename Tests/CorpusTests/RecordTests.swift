import Testing

@testable import Corpus

@Suite("Records that are none")
struct BadRecordTests {
    @Test(
        "Whatever a line holds, it gets an answer that says what is wrong",
        arguments: [
            ("{", "no JSON: a key should be here at byte 1"),
            ("[1]", "the record is no JSON object"),
            ("{}", "the record has no usable 'insns'"),
            (#"{"id":"a","insns":"95"}"#, "the record has no usable 'prog_type'"),
            (#"{"id":"a","insns":"9","prog_type":1}"#, "'insns' is not bytes in hexadecimal"),
            (#"{"id":"a","insns":"","prog_type":-1}"#, "'prog_type' is -1, which is out of its range"),
            (#"{"id":"a","insns":"","prog_type":99}"#, "there is no program type 99"),
            (#"{"insns":"","prog_type":1}"#, "the record has no usable 'id'"),
            (#"{"id":"a~0","seed":"a","insns":""}"#, "the record is a mutant of 'a', which no record of --seeds is"),
            (#"{"id":"a","insns":"","prog_type":1,"maps":[{"type":1}]}"#, "the record has no usable 'key_size'"),
            (
                #"{"id":"a","insns":"","prog_type":1,"func_info":"00","func_info_rec_size":8}"#,
                "'func_info' is damaged: 1 bytes of records of 8"
            ),
        ]
    )
    func refused(_ line: String, _ message: String) {
        let error = #expect(throws: RecordError.self) { try readRecord(Array(line.utf8)[...], [:]) }
        #expect(error?.message == message)
    }
}
