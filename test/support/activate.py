# SPDX-License-Identifier: Apache-2.0
"""Binds sockets and starts a command with them, as a service manager does (sd_listen_fds(3)).

usage: activate.py SOCKET... -- COMMAND ARGUMENT...

SOCKET is [NAME=]KIND:WHERE with KIND one of unix, dgram, tcp, idle (a stream socket that does not
listen), file. The sockets stay bound while the command comes and goes. Reads from standard input
`start`, `stop` (SIGTERM) and `kill`; writes one JSON object a line: the ports once bound, then for
each command what it did. The command's output goes to standard error.
"""
import json
import os
import signal
import socket
import sys


def bind(spec):
    name, _, rest = spec.rpartition("=")
    kind, _, where = rest.partition(":")
    if kind == "file":
        return name, os.open(where, os.O_RDONLY), 0
    family = socket.AF_INET if kind == "tcp" else socket.AF_UNIX
    style = socket.SOCK_DGRAM if kind == "dgram" else socket.SOCK_STREAM
    made = socket.socket(family, style)
    made.bind((where, 0) if kind == "tcp" else where)
    port = made.getsockname()[1] if kind == "tcp" else 0
    if kind in ("unix", "tcp"):
        made.listen(64)
    return name, made.detach(), port


def start(bound, command):
    child = os.fork()
    if child != 0:
        return child
    os.dup2(2, 1)
    # A program that makes its standard input non-blocking would make ours so.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Away from the numbers that they are to have, so that none overwrites another.
    high = [os.dup2(fd, 100 + i) for i, (_, fd, _) in enumerate(bound)]
    for i, fd in enumerate(high):
        os.dup2(fd, 3 + i)
        os.close(fd)
    os.closerange(3 + len(high), 100)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(high))
    if any(name for name, _, _ in bound):
        os.environ["LISTEN_FDNAMES"] = ":".join(name or "unknown" for name, _, _ in bound)
    os.execvp(command[0], command)


def say(**what):
    print(json.dumps(what), flush=True)


def main():
    split = sys.argv.index("--")
    bound = [bind(spec) for spec in sys.argv[1:split]]
    say(ports=[port for _, _, port in bound])
    child = 0
    for line in sys.stdin:
        if line == "start\n":
            child = start(bound, sys.argv[split + 1 :])
            say(pid=child)
            continue
        if line == "stop\n":
            os.kill(child, signal.SIGTERM)
        elif line == "kill\n":
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        child = 0
        say(status=os.waitstatus_to_exitcode(status))
    if child != 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


main()
