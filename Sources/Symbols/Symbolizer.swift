internal import CELF
internal import Glibc

/// A module as a session remembers it; enough to name addresses after the process has gone.
package struct SymbolizerModule: Equatable, Sendable {
    package var path: String
    package var start: UInt64
    package var end: UInt64
    package var bias: UInt64

    package init(path: String, start: UInt64, end: UInt64, bias: UInt64) {
        self.path = path
        self.start = start
        self.end = end
        self.bias = bias
    }
}

/// One function at an address; inlined ones come before the function that holds them.
package struct Frame: Equatable, Sendable {
    package var address: UInt64
    /// Demangled; nil when no table knows the address.
    package var function: String?
    /// Distance from the function's start; of inlined functions that of the function that holds them.
    package var offset: UInt64
    package var file: String?
    package var line: Int?
    package var column: Int?
    /// The module's path, or nil outside every module.
    package var module: String?
    /// Distance of the address from the module's load bias, as `addr2line` wants it.
    package var moduleOffset: UInt64
    package var isInlined: Bool

    package init(
        address: UInt64,
        function: String? = nil,
        offset: UInt64 = 0,
        file: String? = nil,
        line: Int? = nil,
        column: Int? = nil,
        module: String? = nil,
        moduleOffset: UInt64 = 0,
        isInlined: Bool = false
    ) {
        self.address = address
        self.function = function
        self.offset = offset
        self.file = file
        self.line = line
        self.column = column
        self.module = module
        self.moduleOffset = moduleOffset
        self.isInlined = isInlined
    }

    /// `function+0x1f`, else `module+0x1234`, else `0x7f…`.
    package var name: String {
        if let function { return isInlined || offset == 0 ? function : "\(function)+0x\(String(offset, radix: 16))" }
        if let module {
            return
                "\(module.split(separator: "/").last.map(String.init) ?? module)+0x\(String(moduleOffset, radix: 16))"
        }
        return "0x\(String(address, radix: 16))"
    }
}

/// Names addresses by libdw: functions, source lines, inlined calls; separate debug files included.
///
/// Works on files, not on the process, so it also works after the process has exited. Not for several threads at once.
@safe
package final class Symbolizer {
    private let callbacks: UnsafeMutablePointer<Dwfl_Callbacks>
    private let modules: [SymbolizerModule]
    private var opened: [Place: OpenModule] = [:]
    private var units: [Int: [CompileUnit]] = [:]
    private var cache: [UInt64: [Frame]] = [:]

    /// Addresses of one compile unit's code, and where its DIE is.
    private struct CompileUnit {
        var range: Range<UInt64>
        var offset: UInt64
    }

    /// One file at one place; what a process maps of it may be in several pieces.
    private struct Place: Hashable {
        var path: String
        var bias: UInt64
    }

    /// A file that is open in a libdw session of its own.
    ///
    /// In a common session a module that overlaps another, as one does that was loaded where another had been, ends both.
    @safe
    private struct OpenModule {
        let dwfl: OpaquePointer?
        let handle: OpaquePointer?

        init(_ place: Place, _ callbacks: UnsafeMutablePointer<Dwfl_Callbacks>) {
            unsafe dwfl = place.path.hasPrefix("/") ? dwfl_begin(callbacks) : nil
            // add_p_vaddr: the base given is the load bias, for executables at fixed addresses, too.
            unsafe handle = dwfl == nil ? nil : dwfl_report_elf(dwfl, place.path, place.path, -1, place.bias, true)
            if unsafe dwfl != nil { unsafe dwfl_report_end(dwfl, nil, nil) }
        }

        func close() {
            if unsafe dwfl != nil { unsafe dwfl_end(dwfl) }
        }
    }

    package init(modules: [SymbolizerModule]) {
        self.modules = modules.sorted { $0.start < $1.start }
        unsafe callbacks = .allocate(capacity: 1)
        unsafe callbacks.initialize(to: Dwfl_Callbacks())
        unsafe callbacks.pointee.find_debuginfo = dwfl_standard_find_debuginfo
        unsafe callbacks.pointee.find_elf = dwfl_build_id_find_elf
    }

    package convenience init(maps: ProcessMaps) {
        self.init(
            modules: maps.modules.map {
                SymbolizerModule(path: $0.isVDSO ? $0.path : $0.openPath, start: $0.start, end: $0.end, bias: $0.bias)
            }
        )
    }

    deinit {
        for module in opened.values { module.close() }
        unsafe callbacks.deallocate()
    }

    /// libdw's handle of a module, which is opened for its first address.
    private func handle(_ index: Int) -> OpaquePointer? {
        let place = Place(path: modules[index].path, bias: modules[index].bias)
        let module = unsafe opened[place] ?? OpenModule(place, callbacks)
        opened[place] = module
        return unsafe module.handle
    }

    /// The functions at an address, innermost first; at least one frame.
    ///
    /// A return address is looked up one byte before: the call may be the last instruction of a function or a line.
    package func symbolize(_ address: UInt64, isReturnAddress: Bool) -> [Frame] {
        let lookup = isReturnAddress && address > 0 ? address - 1 : address
        let frames: [Frame]
        if let known = cache[lookup] {
            frames = known
        } else {
            frames = find(lookup)
            cache[lookup] = frames
        }
        guard isReturnAddress else { return frames }
        return frames.map { frame in
            var moved = frame
            moved.address = address
            moved.moduleOffset = frame.moduleOffset &+ (address - lookup)
            if !frame.isInlined, frame.function != nil { moved.offset = frame.offset + (address - lookup) }
            return moved
        }
    }

    private func find(_ address: UInt64) -> [Frame] {
        var base = Frame(address: address)
        guard let index = modules.lastIndex(where: { $0.start <= address && address < $0.end }) else { return [base] }
        base.module = modules[index].path
        base.moduleOffset = address &- modules[index].bias
        guard let handle = unsafe handle(index) else { return [base] }
        var start: UInt64 = 0
        var symbol = GElf_Sym()
        if let name = unsafe dwfl_module_addrinfo(handle, address, &start, &symbol, nil, nil, nil) {
            base.function = demangle(Self.withoutVersion(unsafe String(cString: name)))
            base.offset = start
        }
        var bias: UInt64 = 0
        guard unsafe dwfl_module_getdwarf(handle, &bias) != nil,
            let unit = unit(of: index, holding: address &- bias)
        else { return [base] }
        return debugFrames(base, index: index, unit: unit, address: address &- bias)
    }

    /// Symbol tables spell versions out (`malloc@@GLIBC_2.2.5`).
    private static func withoutVersion(_ name: String) -> String {
        guard let at = name.firstIndex(of: "@"), at != name.startIndex else { return name }
        return String(name[..<at])
    }

    /// The compile unit of an address; from all units' ranges, as clang and swiftc write no `.debug_aranges`.
    private func unit(of index: Int, holding address: UInt64) -> CompileUnit? {
        let known = units[index] ?? readUnits(of: index)
        units[index] = known
        var low = 0
        var high = known.count
        while low < high {
            let middle = (low + high) / 2
            if known[middle].range.lowerBound <= address { low = middle + 1 } else { high = middle }
        }
        guard low > 0, known[low - 1].range.contains(address) else { return nil }
        return known[low - 1]
    }

    private func readUnits(of index: Int) -> [CompileUnit] {
        var found: [CompileUnit] = []
        var bias: UInt64 = 0
        var die: UnsafeMutablePointer<Dwarf_Die>?
        let handle = unsafe handle(index)
        while let next = unsafe dwfl_module_nextcu(handle, die, &bias) {
            unsafe die = next
            var base: UInt64 = 0
            var low: UInt64 = 0
            var high: UInt64 = 0
            var position = 0
            while true {
                position = unsafe dwarf_ranges(next, position, &base, &low, &high)
                guard position > 0 else { break }
                if low < high { found.append(CompileUnit(range: low..<high, offset: unsafe dwarf_dieoffset(next))) }
            }
        }
        return found.sorted { $0.range.lowerBound < $1.range.lowerBound }
    }

    /// Frames from DWARF scopes; `base` holds what the symbol table knows and is the answer where DWARF has none.
    private func debugFrames(_ base: Frame, index: Int, unit: CompileUnit, address: UInt64) -> [Frame] {
        var bias: UInt64 = 0
        let dwarf = unsafe dwfl_module_getdwarf(handle(index), &bias)
        var unitDie = unsafe Dwarf_Die()
        guard unsafe dwarf_offdie(dwarf, unit.offset, &unitDie) != nil else { return [base] }
        var frame = base
        if let line = unsafe dwarf_getsrc_die(&unitDie, address) {
            var number: Int32 = 0
            if unsafe dwarf_lineno(line, &number) == 0, number > 0 { frame.line = Int(number) }
            var column: Int32 = 0
            if unsafe dwarf_linecol(line, &column) == 0, column > 0 { frame.column = Int(column) }
            if let path = unsafe dwarf_linesrc(line, nil, nil) {
                frame.file = unsafe Self.absolute(String(cString: path), &unitDie)
            }
        }
        guard let scopes = unsafe physicalScopes(dwarf, &unitDie, address) else { return [frame] }
        defer { unsafe free(scopes.baseAddress) }
        return unsafe Self.frames(in: scopes, innermost: frame, unit: &unitDie)
    }

    /// The chain of DIEs around an address, as code is nested: inlined call, block, …, function, unit.
    private func physicalScopes(
        _ dwarf: OpaquePointer?,
        _ unit: inout Dwarf_Die,
        _ address: UInt64
    ) -> UnsafeMutableBufferPointer<Dwarf_Die>? {
        // dwarf_getscopes goes on with the scopes of an inlined function's definition; dwarf_getscopes_die follows the
        // nesting in the file, which is that of the calls.
        var logical: UnsafeMutablePointer<Dwarf_Die>?
        let count = unsafe dwarf_getscopes(&unit, address, &logical)
        guard count > 0, let first = unsafe logical else { return nil }
        defer { unsafe free(first) }
        var inner = unsafe Dwarf_Die()
        guard unsafe dwarf_offdie(dwarf, dwarf_dieoffset(first), &inner) != nil else { return nil }
        var physical: UnsafeMutablePointer<Dwarf_Die>?
        let depth = unsafe dwarf_getscopes_die(&inner, &physical)
        guard depth > 0, let start = unsafe physical else { return nil }
        return unsafe UnsafeMutableBufferPointer(start: start, count: Int(depth))
    }

    private static func frames(
        in scopes: UnsafeMutableBufferPointer<Dwarf_Die>,
        innermost: Frame,
        unit: inout Dwarf_Die
    ) -> [Frame] {
        var found: [Frame] = []
        var current = innermost
        for index in 0..<scopes.count {
            let tag = unsafe dwarf_tag(&scopes[index])
            if tag == DW_TAG_inlined_subroutine {
                var inlined = current
                inlined.function = unsafe functionName(&scopes[index]) ?? "??"
                inlined.offset = innermost.offset
                inlined.isInlined = true
                found.append(inlined)
                current.line = unsafe number(&scopes[index], DW_AT_call_line)
                current.column = unsafe number(&scopes[index], DW_AT_call_column)
                current.file = unsafe callFile(&scopes[index], &unit)
            } else if tag == DW_TAG_subprogram || tag == DW_TAG_entry_point {
                // The symbol table's name would be an alias as often as not.
                current.function = unsafe functionName(&scopes[index]) ?? current.function
                found.append(current)
                return found
            }
        }
        found.append(current)
        return found
    }

    private static func functionName(_ die: UnsafeMutablePointer<Dwarf_Die>) -> String? {
        for attribute in [DW_AT_linkage_name, DW_AT_MIPS_linkage_name] {
            var value = unsafe Dwarf_Attribute()
            if unsafe dwarf_attr_integrate(die, UInt32(attribute), &value) != nil,
                let text = unsafe dwarf_formstring(&value)
            {
                return unsafe demangle(String(cString: text))
            }
        }
        return unsafe dwarf_diename(die).map { unsafe String(cString: $0) }
    }

    private static func number(_ die: UnsafeMutablePointer<Dwarf_Die>, _ attribute: Int) -> Int? {
        var value = unsafe Dwarf_Attribute()
        var result: UInt64 = 0
        guard unsafe dwarf_attr(die, UInt32(attribute), &value) != nil, unsafe dwarf_formudata(&value, &result) == 0
        else {
            return nil
        }
        return Int(result)
    }

    private static func callFile(_ die: UnsafeMutablePointer<Dwarf_Die>, _ unit: inout Dwarf_Die) -> String? {
        var files: OpaquePointer?
        var count = 0
        guard let index = unsafe number(die, DW_AT_call_file), unsafe dwarf_getsrcfiles(&unit, &files, &count) == 0,
            let path = unsafe dwarf_filesrc(files, index, nil, nil)
        else { return nil }
        return unsafe absolute(String(cString: path), &unit)
    }

    private static func absolute(_ path: String, _ unit: inout Dwarf_Die) -> String {
        guard !path.hasPrefix("/") else { return path }
        var value = unsafe Dwarf_Attribute()
        guard unsafe dwarf_attr(&unit, UInt32(DW_AT_comp_dir), &value) != nil,
            let text = unsafe dwarf_formstring(&value)
        else {
            return path
        }
        return unsafe String(cString: text) + "/" + path
    }
}
