import Loader
import Verifier
import VerifierInput

/// Verifies each program of objects with pruning and without, and prints a line for each; false where the verdicts differ.
func verifyObjects(_ paths: [String]) -> Bool {
    var isSame = true
    for path in paths {
        let object: ObjectSpec
        do { object = try loadObject(path: path) } catch {
            say("\(error)")
            return false
        }
        let types = object.btf.map { TypeFacts($0) }
        for program in object.programs {
            var subject = Subject(program: program, of: object, types: types)
            let pruned = verdict(subject)
            subject.prunes = false
            let whole = verdict(subject)
            if pruned != whole, whole != "tooComplex" { isSame = false }
            print("\(path) \(program.name) \(pruned) \(whole)")
        }
    }
    return isSame
}

private func verdict(_ subject: Subject) -> String {
    do {
        _ = try verify(subject)
        return "accept"
    } catch {
        return "\(error.rule)"
    }
}
