# SPDX-License-Identifier: Apache-2.0
# Stands for /dev/log, which Node cannot: prints each datagram that arrives at a unix socket.
#   syslog-socket.py PATH
import socket
import sys

with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
    receiver.bind(sys.argv[1])
    print("ready", flush=True)
    while True:
        print(receiver.recv(65536).decode(), flush=True)
