# SPDX-License-Identifier: Apache-2.0
"""Runs a program that, like its children, may not use io_uring: python3 no-io-uring.py COMMAND..."""
import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
IO_URING_SETUP = 425  # on every architecture
LOAD_WORD = 0x20
JUMP_IF_EQUAL = 0x15
RETURN = 0x06
REFUSE = 0x00050000 | errno.EPERM
ALLOW = 0x7FFF0000


def instruction(code, value, if_true=0, if_false=0):
    return struct.pack("HBBI", code, if_true, if_false, value)


filter_code = (
    instruction(LOAD_WORD, 0)  # the number of the call
    + instruction(JUMP_IF_EQUAL, IO_URING_SETUP, 0, 1)
    + instruction(RETURN, REFUSE)
    + instruction(RETURN, ALLOW)
)
code = ctypes.create_string_buffer(filter_code)
program = struct.pack("HP", len(filter_code) // 8, ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
for arguments in (
    (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
    (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0),
):
    if libc.prctl(*arguments) != 0:
        sys.exit(f"prctl {arguments[0]}: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[1], sys.argv[1:])
