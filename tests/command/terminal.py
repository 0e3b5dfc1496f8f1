"""terminal.py COMMAND...: runs it on a terminal of its own, types "hello", then Ctrl-C, then "end"; prints what came.

The command is expected to say "ready", to repeat what it reads, and to say "got INT" for an interrupt.
"""
import os
import pty
import select
import sys
import time

LIMIT = 120


def main():
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(sys.argv[1], sys.argv[1:])
    seen = b""
    steps = [(b"ready", b"hello\n"), (b"read hello", b"\x03"), (b"got INT", b"end\n")]
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        if steps and steps[0][0] in seen:
            os.write(terminal, steps.pop(0)[1])
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            if not data:
                break
            seen += data
    else:
        os.kill(pid, 9)
    status = os.waitpid(pid, 0)[1]
    sys.stdout.buffer.write(seen)
    print(f"status {os.waitstatus_to_exitcode(status)}")


main()
