internal import CLinux

/// Makes sure that descriptors 0 to 2 are taken; first of all.
package func keepStandardDescriptors() { clinux_keep_standard() }
