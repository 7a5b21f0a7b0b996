import Glibc
import Testing

@testable import Kernel

@Suite struct KernelOptionsTests {
    @Test func linesAreRead() {
        let text = """
            #
            # Automatically generated file; DO NOT EDIT.
            CONFIG_A=y
            CONFIG_B=m
            # CONFIG_C is not set
            CONFIG_D=250
            CONFIG_E=0x200000
            CONFIG_F="a=b c"
            CONFIG_G=-1
            CONFIG_H=
            CONFIG_I=""
            CONFIG_J
            """
        #expect(
            KernelOptions.parse(text) == [
                "CONFIG_A": .number(1), "CONFIG_B": .number(2), "CONFIG_D": .number(250),
                "CONFIG_E": .number(0x200000), "CONFIG_F": .text("a=b c"), "CONFIG_G": .number(.max),
                "CONFIG_I": .text(""),
            ]
        )
    }

    @Test func missingFilesAreNil() { #expect(KernelOptions.read("/nonexistent") == nil) }

    @Test(.enabled(if: access("/proc/config.gz", R_OK) == 0, "this kernel has no /proc/config.gz"))
    func theKernelsOwn() throws {
        let options = try KernelOptions.parse(#require(KernelOptions.read("/proc/config.gz")))
        #expect(options["CONFIG_64BIT"] == .number(1))
        #expect(options["CONFIG_BPF_SYSCALL"] == .number(1))
        #expect(options.count > 300)
        #expect(options == KernelOptions.shared || access("/boot/config-\(KernelOptions.release)", R_OK) == 0)
    }
}
