/// What programs may read of sockets (Linux net/core/filter.c, `bpf_sock_is_valid_access`, `bpf_sock_common_is_valid_access`,
/// `bpf_tcp_sock_is_valid_access`); nothing may be written.
func maySocketRead(_ object: HelperPrototype.KernelObject, offset: Int, size: Int) -> Bool {
    guard offset >= 0, offset % size == 0 else { return false }
    switch object {
    case .socketCommon:
        // type, protocol, mark and priority belong to full sockets.
        return !(8..<24).contains(offset) && isSocketField(offset, size)
    case .socket: return isSocketField(offset, size)
    case .tcpSocket:
        // bytes_received and bytes_acked.
        if (80..<96).contains(offset) { return size == 8 }
        return offset < 112 && size == 4
    // queue_id.
    case .xdpSocket: return offset == 0 && size == 4
    case .task, .requestSocket, .btfSocket, .anySocket, .cgroup, .file, .flowKeys, .other: return false
    }
}

/// `struct bpf_sock`, 80 bytes.
private func isSocketField(_ offset: Int, _ size: Int) -> Bool {
    switch offset {
    // dst_port is 2 bytes in network order, with 2 of padding; all 4 may be read, as they once were its.
    case 48..<50: size <= 2 || (size == 4 && offset == 48)
    case 50..<52: false
    // family, type, protocol; addresses, source port, state, rx_queue_mapping: in part, too.
    case 4..<16, 24..<48, 52..<80: size <= 4
    case 0..<80: size == 4
    default: false
    }
}
