"""BSON and messages by hand: what no driver would send, and what no driver shows."""

import base64
import hashlib
import hmac
import secrets
import socket
import struct

import bson
from bson.raw_bson import RawBSONDocument

OP_MSG = 2013
MORE_TO_COME = 2

# A reply that takes longer is a hang.
TIMEOUT_SECONDS = 30

FIXED_SIZES = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 127: 0, 255: 0}


def names(document):
    """The names at the top level of a BSON document, in order, duplicates included."""
    found, at = [], 4
    while document[at] != 0:
        kind, end = document[at], document.index(0, at + 1)
        found.append(document[at + 1 : end].decode())
        at = end + 1 + size(kind, document, end + 1)
    return found


def size(kind, document, at):
    if kind in FIXED_SIZES:
        return FIXED_SIZES[kind]
    if kind == 11:
        options = document.index(0, at) + 1
        return document.index(0, options) + 1 - at
    length = struct.unpack_from("<i", document, at)[0]
    if kind in (2, 13, 14):
        return 4 + length
    return {3: length, 4: length, 5: 5 + length, 12: 4 + length + 12, 15: length}[kind]


def pairs(*fields):
    """A document of `(name, value)` in which names may repeat."""
    elements = b"".join(bson.encode({name: value})[4:-1] for name, value in fields)
    return RawBSONDocument(struct.pack("<i", len(elements) + 5) + elements + b"\0")


class Connection:
    """A connection without a driver."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), TIMEOUT_SECONDS)
        self.request_id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, body, sequences=(), flags=0):
        """`body` is a mapping; `sequences` are `(name, documents)`."""
        payload = struct.pack("<i", flags) + b"\0" + bson.encode(body)
        for name, documents in sequences:
            content = name.encode() + b"\0" + b"".join(bson.encode(d) for d in documents)
            payload += b"\1" + struct.pack("<i", len(content) + 4) + content
        self.send_message(payload, OP_MSG)

    def send_message(self, payload, opcode):
        self.request_id += 1
        header = struct.pack("<iiii", len(payload) + 16, self.request_id, 0, opcode)
        self.socket.sendall(header + payload)

    def receive(self):
        """The body of the next reply; `ConnectionError` when the other side has closed."""
        length, _, answers, _ = struct.unpack("<iiii", self.exactly(16))
        payload = self.exactly(length - 16)
        if answers != self.request_id:
            raise ConnectionError(f"an answer to {answers}, not to {self.request_id}")
        return bson.decode(payload[5:])

    def exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise ConnectionError("closed")
            data += piece
        return data

    def run(self, body, sequences=()):
        self.send(body, sequences)
        return self.receive()

    def log_in(self, user, password):
        """SCRAM-SHA-256; returns self."""
        nonce = base64.b64encode(secrets.token_bytes(24)).decode()
        first = f"n={user},r={nonce}"
        start = {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "$db": "admin"}
        reply = self.run(
            {**start, "payload": b"n,," + first.encode(), "options": {"skipEmptyExchange": True}}
        )
        server = reply["payload"].decode()
        given = dict(part.split("=", 1) for part in server.split(","))
        salt, count = base64.b64decode(given["s"]), int(given["i"])
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, count)
        key = hmac.digest(salted, b"Client Key", "sha256")
        bare = f"c=biws,r={given['r']}"
        signed = f"{first},{server},{bare}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        payload = f"{bare},p={proof}".encode()
        go_on = {"saslContinue": 1, "conversationId": reply["conversationId"], "$db": "admin"}
        reply = self.run({**go_on, "payload": payload})
        if reply.get("ok") != 1:
            raise PermissionError(reply)
        return self
