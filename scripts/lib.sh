# Shared by the scripts here: results that are counted, tools that are found. Sourced, not run.

# Results go to stdout and, when a caller counts them, to $UBPF_RESULTS.
note_result() { [ -z "${UBPF_RESULTS:-}" ] || printf '%s\t%s\n' "$1" "$2" >>"$UBPF_RESULTS"; }
pass() { printf '  ok    %s\n' "$1"; note_result pass "$1"; }
skip() { printf '  SKIP  %s: %s\n' "$1" "$2"; note_result skip "$1: $2"; }
fail() { printf '  FAIL  %s\n' "$1" >&2; note_result fail "$1"; exit 1; }
say() { printf '== %s\n' "$*"; }

# The directory of the Swift toolchain's own programs (a clang with the BPF target is one of them).
toolchain_bin() { dirname "$(readlink -f "$(command -v swift)")"; }

# A clang that has the BPF target: the Swift toolchain's, else Debian's.
bpf_clang() {
    local candidate
    for candidate in "$(toolchain_bin)/clang" clang clang-21 clang-19 clang-16 clang-14; do
        if command -v "$candidate" >/dev/null && "$candidate" -print-targets 2>/dev/null | grep -q '^ *bpf '; then
            command -v "$candidate"
            return
        fi
    done
    echo "no clang with the BPF target: apt-get install clang-16" >&2
    return 1
}

llvm_objdump() { "$(toolchain_bin)/llvm-objdump" "$@"; }

# quietly NAME CMD...: runs CMD; its output is shown only if it fails.
quietly() {
    local name=$1 log status=0
    shift
    log=$(mktemp)
    "$@" >"$log" 2>&1 || status=$?
    if [ $status -ne 0 ]; then
        cat "$log" >&2
        echo "$name failed ($status): $*" >&2
    fi
    rm -f "$log"
    return $status
}

# as_nobody CMD...: runs CMD as the user nobody with a home of its own; root only.
as_nobody() {
    local home status=0
    home=$(mktemp -d)
    chown nobody "$home"
    setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME="$home" TMPDIR="$home" LOGNAME=nobody USER=nobody "$@" || status=$?
    rm -rf "$home"
    return $status
}
