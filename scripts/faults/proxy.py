"""A TCP proxy on loopback that cuts, drops and delays on command: the network between a job and a server.

It runs in a thread of its own, so that a campaign can command it while a run is under way. A REST catalog
joins here: one more `Proxy` with the catalog's address as its target, the job's `catalog.uri` at its port.
"""

import asyncio
import contextlib
import socket
import struct
import threading

CHUNK = 1 << 14


class Proxy:
    """Listens at `port` from the start, so that a server can be told of it; `lead_to` says where it goes."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = None
        self.delay_s = 0.0
        self.refusing = False
        self.losing = None
        self.lost = 0
        self.writers = set()
        self.loop = asyncio.new_event_loop()
        self.flowing = asyncio.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def lead_to(self, address):
        host, _, port = address.rpartition(":")
        self.target = (host, int(port))
        self.heal()

    # --- commands

    def drop(self):
        """Nothing gets through any more, and nobody is told."""
        self.loop.call_soon_threadsafe(self.flowing.clear)

    def delay(self, seconds):
        """Each chunk of 16 KiB waits so long."""
        self.delay_s = seconds

    def lose(self, request=b"", answer=b""):
        """Resets in place of the next chunk of an answer with `answer`, after a request with `request`."""
        self.losing = (request, answer)

    def cut(self, refuse=False):
        """Resets all connections; new ones too if `refuse`."""
        self.refusing = refuse
        self.loop.call_soon_threadsafe(self.reset_all)

    def heal(self):
        self.refusing, self.delay_s = False, 0.0
        self.loop.call_soon_threadsafe(self.flowing.set)

    # --- the loop's thread

    def serve(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(asyncio.start_server(self.accept, sock=self.listener))
        self.loop.run_forever()

    def reset_all(self):
        for writer in list(self.writers):
            reset(writer)

    async def accept(self, reader, writer):
        if self.refusing:
            reset(writer)
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self.target)
        except OSError:
            reset(writer)
            return
        pair = {writer, up_writer}
        self.writers |= pair
        await asyncio.gather(self.pump(reader, up_writer), self.pump(up_reader, writer, answers=True))
        self.writers -= pair

    def is_lost(self, chunk, answers):
        if self.losing is None:
            return False
        request, answer = self.losing
        if not answers:
            if request and request in chunk:
                self.losing = (b"", answer)
            return False
        lost = not request and answer in chunk
        if lost:
            self.losing = None
            self.lost += 1
        return lost

    async def pump(self, reader, writer, answers=False):
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self.is_lost(chunk, answers):
                    reset(writer)
                    return
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self.flowing.wait()
                writer.write(chunk)
                await writer.drain()
        writer.close()


def reset(writer):
    """An RST instead of a FIN: what a firewall or a dying host does."""
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
