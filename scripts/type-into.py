#!/usr/bin/env python3
"""type-into.py TRANSCRIPT LINE... -- COMMAND...: runs COMMAND on a terminal of its own and types the lines, one per prompt.

Exits as COMMAND does. What the terminal showed goes to TRANSCRIPT.
"""
import os
import pty
import select
import sys
import time

PROMPTS = (b"$ ", b"# ")
PATIENCE = 20.0


def main(arguments):
    split = arguments.index("--")
    transcript, lines, command = arguments[0], arguments[1:split], arguments[split + 1 :]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)

    shown = b""
    since_typed = b""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # The other side is closed: EIO.
                break
            if not piece:
                break
            shown += piece
            since_typed += piece
        if lines and since_typed.endswith(PROMPTS):
            os.write(terminal, lines.pop(0).encode() + b"\n")
            since_typed = b""
            deadline = time.monotonic() + PATIENCE
    else:
        os.kill(pid, 9)
    with open(transcript, "wb") as file:
        file.write(shown)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if lines:
        sys.stderr.write(f"never typed: {lines}\n{shown.decode(errors='replace')}\n")
        return 1
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
