"""Run Bochs where nobody looks at its screen, until standard input ends, as it does with the process that wrote it.

    python3 bochs_screen.py bochs-bin -q -f machine -rc commands

Bochs wants a terminal for its debugger, opens another one for the screen, and waits where that is full.
"""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import tty

SCREEN = re.compile(rb'connected to screen "(/dev/[\w/]+)"')


def watch(words: list[str], owner: int) -> int:
    """Read and forget what is shown, and end the machine with its owner.

    Args:
        words: The program and its arguments.
        owner: A descriptor that ends when it does.

    Returns:
        The exit status.
    """
    control, terminal = pty.openpty()
    emulator = subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, start_new_session=True)
    os.close(terminal)
    assert emulator.stderr is not None
    said = emulator.stderr.fileno()
    terminals, shown, text = [control], {control, said}, b""
    try:
        while emulator.poll() is None:
            for place in select.select([owner, *shown], [], [], 1.0)[0]:
                try:
                    new = os.read(place, 1 << 16)
                except OSError:  # the other end of a terminal is closed
                    new = b""
                if not new and place == owner:
                    emulator.kill()
                if not new:
                    shown.discard(place)
                if place == said:
                    sys.stderr.buffer.write(new)
                    *lines, text = (text + new).split(b"\n")
                    for found in filter(None, map(SCREEN.search, lines)):
                        screen = os.open(found[1], os.O_RDONLY | os.O_NOCTTY)
                        tty.setraw(screen)
                        shown.add(screen)
                        terminals.append(screen)
        sys.stderr.buffer.write(os.read(said, 1 << 16) if said in shown else b"")
        return emulator.returncode
    finally:
        emulator.kill()
        emulator.wait()
        for place in terminals:
            os.close(place)
        emulator.stderr.close()


def main(words: list[str]) -> int:
    """Watch until standard input ends; Ctrl-C is for the process that writes it, and SIGTERM ends the machine too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    return watch(words, sys.stdin.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
