"""HTTP by hand over any trio stream: what is sent is exactly what the test says."""

from dataclasses import dataclass, field

import httptools
import trio


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


class RawClient:
    """Sends bytes and reads answers; `read` ends with the first whole answer or with the stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._rest = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def get(self, path: str = "/", *lines: str) -> Answer:
        head = "".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", "Host: test", *lines))
        await self.send(head.encode() + b"\r\n")
        return await self.read()

    async def post(self, path: str, body: bytes, *lines: str) -> Answer:
        head = "".join(f"{line}\r\n" for line in (f"POST {path} HTTP/1.1", "Host: test", *lines))
        await self.send(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return await self.read()

    async def read(self) -> Answer:
        """The next final answer; incomplete where the stream ended first."""
        answer = Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete:
            data, self._rest = self._rest or await self.stream.receive_some(65536), b""
            if not data:
                break
            for i in range(len(data)):  # by the byte, to know where this answer ends
                parser.feed_data(data[i : i + 1])
                if answer.complete:
                    self._rest = data[i + 1 :]
                    break
        answer.status = parser.get_status_code()
        if answer.complete and answer.status == 100:
            return await self.read()
        return answer

    async def read_all(self) -> bytes:
        """Everything until the server closes."""
        data, self._rest = self._rest, b""
        while more := await self.stream.receive_some(65536):
            data += more
        return data
