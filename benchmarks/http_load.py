"""A small HTTP/1.1 load client: keep-alive connections, prepared bytes, no parsing beyond the status line.

A client library would cost more than the server under test on two cores and blur every ratio.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit


def request_bytes(method: str, url: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return one request as it goes over the wire."""
    parts = urlsplit(url)
    lines = [
        f"{method} {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def requests_per_second(url: str, requests: Iterable[bytes], *, connections: int, expect: int) -> float:
    """Send every request over `connections` keep-alive connections and return the rate.

    Raises:
        RuntimeError: An answer's status was not `expect`.
    """
    pending = list(requests)
    seconds = asyncio.run(_drive(url, pending, connections, expect))
    return len(pending) / seconds


async def _drive(url: str, pending: list[bytes], connections: int, expect: int) -> float:
    parts = urlsplit(url)
    queue = iter(pending)

    async def worker() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for request in queue:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            body = await reader.readexactly(length)
            status = int(head[9:12])
            if status != expect:
                raise RuntimeError(f"{status} instead of {expect}: {body[:300]!r}")
        writer.close()
        await writer.wait_closed()

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    return time.perf_counter() - start


def download_bytes_per_second(url: str, headers: dict[str, str], *, sample: Callable[[], None]) -> float:
    """Read one whole response, calling `sample` every 64 MiB; return bytes per second of the body.

    Raises:
        RuntimeError: The status was not 200, or the body was shorter than announced.
    """
    parts = urlsplit(url)
    buffer = bytearray(1 << 20)
    with socket.create_connection((parts.hostname or "", parts.port or 80)) as connection:
        start = time.perf_counter()
        connection.sendall(request_bytes("GET", url, {**headers, "Connection": "close"}))
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        head, _, rest = head.partition(b"\r\n\r\n")
        if int(head[9:12]) != 200:
            raise RuntimeError(head.decode(errors="replace"))
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        received, next_sample = len(rest), 0
        while received < length:
            count = connection.recv_into(buffer)
            if not count:
                raise RuntimeError(f"the connection closed after {received} of {length} bytes")
            received += count
            if received >= next_sample:
                sample()
                next_sample += 64 << 20
        return length / (time.perf_counter() - start)
