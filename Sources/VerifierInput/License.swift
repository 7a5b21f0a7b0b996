/// Whether a program of this licence may call helpers that ask for the GPL (Linux include/linux/license.h,
/// `license_is_gpl_compatible`).
package func isGPLCompatible(_ license: String) -> Bool {
    switch license {
    case "GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL": true
    default: false
    }
}
