# SPDX-License-Identifier: Apache-2.0
"""Runs a program that, like its children, may use these system calls alone, and gets EPERM for all
others, as under SystemCallFilter= with SystemCallErrorNumber=EPERM:

    python3 only-syscalls.py NAME,NAME... COMMAND...

Names that this architecture does not have are left out, as systemd does.
"""
import ctypes
import errno
import os
import platform
import re
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
LOAD_WORD = 0x20
JUMP_IF_EQUAL = 0x15
RETURN = 0x06
REFUSE = 0x00050000 | errno.EPERM
ALLOW = 0x7FFF0000
HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}


def instruction(code, value, if_true=0, if_false=0):
    return struct.pack("HBBI", code, if_true, if_false, value)


with open(HEADERS[platform.machine()]) as header:
    numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read()))
filter_code = instruction(LOAD_WORD, 0)  # the number of the call
for name in sys.argv[1].split(","):
    if name in numbers:
        filter_code += instruction(JUMP_IF_EQUAL, int(numbers[name]), 0, 1)
        filter_code += instruction(RETURN, ALLOW)
filter_code += instruction(RETURN, REFUSE)
code = ctypes.create_string_buffer(filter_code)
program = struct.pack("HP", len(filter_code) // 8, ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
for arguments in (
    (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
    (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0),
):
    if libc.prctl(*arguments) != 0:
        sys.exit(f"prctl {arguments[0]}: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[2], sys.argv[2:])
