# SPDX-License-Identifier: BSD-3-Clause
"""Serial ports of a bed: pipes into which QEMU writes, and the output of commands that comes through them."""

import os
import selectors
import time

# The kernel's log, results, standard output and standard error of the commands.
NAMES = ("log", "result", "out", "err")


class Stream:
    """An output port: the bytes of one command after the other, with a mark behind each."""

    def __init__(self, mark, sink):
        self.mark = mark
        self.sink = sink
        self.rest = b""
        self.ended = 0

    def feed(self, data):
        self.rest += data
        while True:
            at = self.rest.find(self.mark)
            if at < 0:
                break
            self.sink(self.rest[:at])
            self.rest = self.rest[at + len(self.mark):]
            self.ended += 1
        # The beginning of a mark may stand at the end.
        at = self.rest.rfind(b"\0", max(0, len(self.rest) - len(self.mark)))
        whole = len(self.rest) if at < 0 else at
        self.sink(self.rest[:whole])
        self.rest = self.rest[whole:]


class Ports:
    """Pipes into which QEMU writes, one for each serial port."""

    def __init__(self):
        self.pipes = {name: os.pipe() for name in NAMES}
        self.selector = selectors.DefaultSelector()
        for name, (reader, _) in self.pipes.items():
            self.selector.register(reader, selectors.EVENT_READ, name)

    def writers(self):
        return {name: writer for name, (_, writer) in self.pipes.items()}

    def started(self):
        for _, writer in self.pipes.values():
            os.close(writer)

    def read(self, until):
        """[(port, bytes)]; an empty list when the time is over; None when all ports are at their end."""
        if not self.selector.get_map():
            return None
        found = []
        for key, _ in self.selector.select(max(0, until - time.monotonic())):
            data = os.read(key.fd, 1 << 16)
            if data:
                found.append((key.data, data))
            else:
                self.selector.unregister(key.fd)
                found.append((key.data, b""))
        return found

    def close(self):
        self.selector.close()
        for reader, _ in self.pipes.values():
            os.close(reader)
