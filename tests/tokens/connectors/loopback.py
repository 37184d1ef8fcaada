"""A tiny HTTP server on loopback that answers each path with fixed bytes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Loopback:
    base: str = ""
    port: int = 0
    paths: list[str] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def loopback(answers: Mapping[str, bytes], *, drip_s: float = 0) -> AsyncIterator[Loopback]:
    """Serve raw answers (status line and all) by path, the last 30 bytes `drip_s` apart."""
    seen = Loopback()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            seen.paths.append(path)
            answer = answers[path.partition("?")[0]]
            writer.write(answer[:-30])
            for byte in answer[-30:]:
                await asyncio.sleep(drip_s)
                writer.write(bytes([byte]))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.port = server.sockets[0].getsockname()[1]
    seen.base = f"http://127.0.0.1:{seen.port}"
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answer(
    body: bytes = b"ok", *, status: str = "200 OK", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return one raw HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
