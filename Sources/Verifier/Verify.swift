/// Refuses a program that could harm the process it runs in, whatever its input is.
package func verify(_ subject: Subject) throws(VerifierError) -> Statistics {
    try check(subject.instructions, functions: subject.functions.map(\.start))
    return Statistics()
}
