# SPDX-License-Identifier: Apache-2.0
# Stands for the service manager, which Node cannot: prints each datagram that arrives at a unix
# socket as a JSON string.
#   notify-socket.py ADDRESS
import json
import socket
import sys

address = sys.argv[1]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
    receiver.bind("\0" + address[1:] if address.startswith("@") else address)
    print(json.dumps("bound"), flush=True)
    while True:
        print(json.dumps(receiver.recv(65536).decode()), flush=True)
