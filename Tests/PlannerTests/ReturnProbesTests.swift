import Testing

@testable import Planner

@Suite struct ReturnProbesTests {
    @Test(arguments: ["setjmp", "vfork", "__sigsetjmp@@GLIBC_2.2.5", "getcontext"])
    func returnsTwice(_ symbol: String) {
        #expect(ReturnProbes.obstacle(symbol) == .returnsTwice)
    }

    @Test(arguments: ["dlsym", "dlopen@GLIBC_2.34", "dlmopen"])
    func readsItsCaller(_ symbol: String) {
        #expect(ReturnProbes.obstacle(symbol) == .readsReturnAddress)
    }

    @Test(arguments: ["malloc", "readline", "longjmp", "fork", ""])
    func others(_ symbol: String) {
        #expect(ReturnProbes.obstacle(symbol) == nil)
    }
}
