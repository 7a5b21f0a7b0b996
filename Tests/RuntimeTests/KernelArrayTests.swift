import CSession
import ISA
import Testing

@testable import Runtime

/// Arrays whose values are memory of the kernel's: it is put over the session's, so what says where is looked at closely.
@Suite struct KernelArrayTests {
    private typealias Change = @Sendable (inout csession_map) -> Void

    private static let changes: [(String, Change)] = [
        ("as it was made", { _ in }),
        ("no array", { $0.type = 1 }),
        ("per-CPU", { $0.type = 6 }),
        ("in the image", { $0.storage = 1 }),
        ("larger than its values", { $0.values_size += 4096 }),
        ("much larger", { $0.values_size = 1 << 40 }),
        ("all of memory", { $0.values_size = .max }),
        ("smaller", { $0.values_size -= 8 }),
        ("no whole pages", { $0.values_offset += 8 }),
        ("over the header", { $0.values_offset = 0 }),
        ("behind the end", { $0.values_offset = 1 << 40 }),
        ("more elements", { $0.max_entries += 1000 }),
    ]

    @Test func placesAreChecked() throws {
        for (what, change) in Self.changes {
            var builder = SessionBuilder(cpuCount: 2, probeCapacity: 16, perfRingSize: 1 << 16, seed: 42)
            var array = MapParameters(name: "a", type: .array, keySize: 4, valueSize: 8, maxEntries: 1000)
            array.kernel = 7
            _ = try builder.addMap(array)
            let built = builder.finish(ownerPid: 1, ownerTid: 1)
            let image = UnsafeMutableRawPointer.allocate(byteCount: built.bytes.count, alignment: 64)
            let shared = UnsafeMutableRawPointer.allocate(byteCount: built.sharedSize, alignment: 4096)
            defer {
                image.deallocate()
                shared.deallocate()
            }
            image.copyMemory(from: built.bytes, byteCount: built.bytes.count)
            built.initializeShared(shared)
            let view = SessionView(
                image: UnsafePointer(image.assumingMemoryBound(to: UInt8.self)),
                shared: shared.assumingMemoryBound(to: UInt8.self)
            )
            let place = Int(image.load(as: csession_image.self).maps_offset)
            #expect((image + place).load(as: csession_map.self).kernel == 8)
            change(&(image + place).assumingMemoryBound(to: csession_map.self).pointee)
            let isWhole = what == "as it was made"
            do {
                try view.validate(imageSize: built.bytes.count, sharedSize: built.sharedSize)
                #expect(isWhole, "\(what)")
            } catch {
                #expect(!isWhole, "\(what): \(error)")
            }
        }
    }
}
