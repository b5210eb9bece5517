#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command on a pseudo terminal of its own and tells what it did to it.

pty.py COLUMNS ROWS STEPS COMMAND...

STEPS is JSON, a list of [SECONDS_MAX, TEXT_TO_WAIT_FOR, WHAT]: WHAT is {"keys": text},
{"size": [columns, rows]} or {"signal": number}, and is done once the text has come. Prints JSON:
the output, the end of the process, and whether the terminal's modes are what they were.
"""
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time


def set_size(fd, columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def main():
    columns, rows = int(sys.argv[1]), int(sys.argv[2])
    steps = json.loads(sys.argv[3])
    leader, follower = os.openpty()
    set_size(follower, columns, rows)
    before = termios.tcgetattr(follower)
    child = subprocess.Popen(
        sys.argv[4:],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    output = b""
    marks = []
    missing = None

    def read_for(seconds, until):
        nonlocal output
        deadline = time.monotonic() + seconds
        start = marks[-1] if marks else 0
        while time.monotonic() < deadline:
            if until is not None and until.encode() in output[start:]:
                return True
            if select.select([leader], [], [], 0.05)[0]:
                output += os.read(leader, 65536)
            elif child.poll() is not None:
                return until is None
        return False

    for seconds, text, what in steps:
        if not read_for(seconds, text):
            missing = text
            break
        marks.append(len(output))
        if "keys" in what:
            os.write(leader, what["keys"].encode())
        if "size" in what:
            set_size(follower, *what["size"])
            os.killpg(child.pid, signal.SIGWINCH)
        if "signal" in what:
            os.kill(child.pid, what["signal"])
    read_for(60, None)
    if child.poll() is None:
        child.kill()
        missing = missing or "its end"
    status = child.wait()
    print(json.dumps({
        "output": output.decode("utf-8", "replace"),
        "missing": missing,
        "status": status,
        "restored": termios.tcgetattr(follower) == before,
    }))


main()
