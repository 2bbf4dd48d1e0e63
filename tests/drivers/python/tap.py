"""A forwarder on the way to the proxy that counts the op codes of what a client sends."""

import socket
import struct
import threading
from collections import Counter

HEADER = struct.Struct("<iiii")
NAMES = {2004: "OP_QUERY", 2012: "OP_COMPRESSED", 2013: "OP_MSG"}
CHUNK_BYTES = 65536


class Tap:
    """Forwards while it is entered; `address` stands for the one behind it."""

    def __init__(self, behind):
        host, port = behind.rsplit(":", 1)
        self.behind = host, int(port)
        self.seen = Counter()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.behind)
            for pump, ends in ((self.count, (client, server)), (self.copy, (server, client))):
                threading.Thread(target=self.until_closed, args=(pump, *ends), daemon=True).start()

    @staticmethod
    def until_closed(pump, source, target):
        try:
            pump(source, target)
        except OSError:
            pass
        for end in (source, target):
            end.close()

    @staticmethod
    def copy(source, target):
        while chunk := source.recv(CHUNK_BYTES):
            target.sendall(chunk)

    def count(self, source, target):
        while header := source.recv(HEADER.size, socket.MSG_WAITALL):
            length, _, _, code = HEADER.unpack(header)
            self.seen[NAMES.get(code, str(code))] += 1
            target.sendall(header)
            left = length - HEADER.size
            while left and (chunk := source.recv(min(left, CHUNK_BYTES))):
                target.sendall(chunk)
                left -= len(chunk)
