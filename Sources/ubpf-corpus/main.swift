internal import Corpus
internal import Glibc

do {
    try judgeCorpus(Options(Array(CommandLine.arguments.dropFirst())), input: STDIN_FILENO, output: STDOUT_FILENO)
} catch {
    _ = writeAll("ubpf-corpus: \(error.message)\n".utf8, to: STDERR_FILENO)
    exit(error.status)
}
