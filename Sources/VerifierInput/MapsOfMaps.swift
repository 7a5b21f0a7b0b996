internal import ISA
package import Loader
internal import Verifier

extension ObjectSpec {
    /// The given maps, those that the object puts into maps of maps among them, and those that could be put there; in order.
    package func maps(reachedFrom roots: Set<Int>) -> [Int] {
        var reached = roots
        for root in roots {
            guard let inner = maps[root].innerMap else { continue }
            for element in maps[root].initialElements {
                if case .map(let map) = element.value { reached.insert(map) }
            }
            for (index, map) in maps.enumerated() where map.type == inner.type && map.contents == nil {
                if map.keySize == inner.keySize, map.valueSize == inner.valueSize, map.flags == inner.flags {
                    reached.insert(index)
                }
            }
        }
        return reached.sorted()
    }

    /// What the value's special fields are and where, as `MapFacts.record`; and of the template of the maps inside.
    package func records(of map: Int) -> (own: UInt64, inner: UInt64) {
        let facts = MapFacts(maps[map], types: btf.map { TypeFacts($0) })
        return (facts.record, facts.inner.first?.record ?? 0)
    }
}
