"""Runs of the program with standard output or standard error at a (pseudo-)terminal."""

import os
import pty
import subprocess

from cli_support import BINARY, clean_environment


def run_at_terminal(*arguments, stdout=True, stderr=True):
    """The exit status and what the terminal got; a stream that is not at the terminal is dropped."""
    master, slave = pty.openpty()
    program = subprocess.Popen([BINARY, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=slave if stdout else subprocess.DEVNULL,
                               stderr=slave if stderr else subprocess.DEVNULL, env=clean_environment(TERM="xterm"))
    os.close(slave)
    seen = b""
    while True:
        try:
            more = os.read(master, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        seen += more
    os.close(master)
    return program.wait(), seen.decode(errors="surrogateescape").replace("\r\n", "\n")
