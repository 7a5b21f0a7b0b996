import Testing

@testable import VerifierInput
