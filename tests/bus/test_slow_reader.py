"""A reader whose queue is full for longer than any heartbeat lives: libzmq aborted its process when it read on."""

from __future__ import annotations

import subprocess
import sys

import pytest
import zmq

READER = """
import sys, time
from streamd import pictures
with pictures(sys.argv[1], timeout_s=20) as feed:
    feed._messages.parts_within(20)
    time.sleep(12)
    for _ in range(50):
        feed._messages.parts_within(20)
print("alive")
"""


@pytest.mark.long
@pytest.mark.slow
def test_a_reader_that_pauses_reads_on() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 2)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, f"tcp://127.0.0.1:{port}"], stdout=subprocess.PIPE, text=True
        )
        assert reader.stdout is not None
        while reader.poll() is None:
            socket.poll(10)
            socket.send_multipart([b"streamd/a/frames", b"{}", bytes(70_000)])
            while socket.poll(0):
                socket.recv()
        assert (reader.returncode, reader.stdout.read()) == (0, "alive\n")
        reader.stdout.close()
