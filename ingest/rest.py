"""Polygon's REST side: one GET after the other, within bounds.  The key is in a header, never in a URL or a log."""

import asyncio
from types import TracebackType
from typing import Final, Self

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from shared.backoff import Backoff

MOST_REQUESTS: Final = 200  # in one session, tries included; beyond it what is missing stays missing
_TRIES: Final = 4  # of one request that meets 429, 5xx or silence; then its channel is given up
_ANSWER_WITHIN_S: Final = 8.0  # a slower answer counts as silence
_MOST_ANSWER_BYTES: Final = 16 * 1024 * 1024  # 5,000 quotes are ~1.5 MB; a larger answer is given up
_RETRY_S: Final = 0.25
_RETRY_CAP_S: Final = 4.0
_READ_BYTES: Final = 64 * 1024


class RestError(Exception):
    """REST does not give what was asked for; str() is for clients and operators."""


class NotEntitled(RestError):
    """The key or its plan does not include this; asking again would be in vain."""


class Page(msgspec.Struct, frozen=True):
    """One answer: `results` is a JSON array as sent; `next_url` is empty on the last page."""

    results: msgspec.Raw = msgspec.Raw(b"[]")
    next_url: str | None = None


_decode_page = msgspec.json.Decoder(Page).decode


class _Again(Exception):
    """Worth another try; `after_s` is how long the server asks to be left alone."""

    def __init__(self, why: str, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.after_s = after_s


class Rest:
    """A session with one host; bounded by MOST_REQUESTS, and in time by who calls."""

    def __init__(self, url: str, key: str) -> None:
        self._url = URL(url)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._session: ClientSession | None = None
        self._requests = 0

    async def __aenter__(self) -> Self:
        self._session = ClientSession(headers=self._headers, timeout=ClientTimeout(total=_ANSWER_WITHIN_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    def resolve(self, link: str) -> str:
        """Path and query of a page's `next_url`; raises RestError if it leads to another host, which has no business
        with the key."""
        try:
            url = URL(link, encoded=True)
            is_ours = url.origin() == self._url.origin()
        except ValueError:
            is_ours = False
        if not is_ours:
            raise RestError("next_url leads to another host")
        return url.raw_path_qs

    async def get(self, request: str) -> Page:
        """What is at this path and query, tried again while that may help; raises RestError or NotEntitled."""
        backoff = Backoff(_RETRY_S, _RETRY_CAP_S)
        for tries_left in reversed(range(_TRIES)):
            try:
                return await self._get_once(request)
            except _Again as exc:
                if not tries_left:
                    raise RestError(str(exc)) from None
                await asyncio.sleep(backoff.next_s(exc.after_s))
        raise AssertionError("the last try returns or raises")

    async def _get_once(self, request: str) -> Page:
        assert self._session is not None
        if self._requests >= MOST_REQUESTS:
            raise RestError(f"more than {MOST_REQUESTS} requests would be needed")
        self._requests += 1
        url = URL(f"{self._url.origin()}{request}", encoded=True)
        try:
            # No redirects: the key is for this host alone.
            async with self._session.get(url, allow_redirects=False) as response:
                _check(response)
                return _decode_page(await _read(response))
        except TimeoutError:
            raise _Again(f"no answer within {_ANSWER_WITHIN_S:g} s") from None
        except (ClientError, OSError) as exc:
            raise _Again(f"no connection ({type(exc).__name__})") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise RestError("an answer that is not understood") from None


def _check(response: ClientResponse) -> None:
    status = response.status
    if status == 429 or status >= 500:
        raise _Again(f"HTTP {status}", _parse_delay_s(response.headers.get("Retry-After", "")))
    if status in (401, 403):
        raise NotEntitled(f"the key or its plan does not include it, HTTP {status}")
    if status != 200:
        raise RestError(f"HTTP {status}")


def _parse_delay_s(text: str) -> float:
    """Seconds; 0 for a date, which is not worth the code."""
    return min(float(text), _RETRY_CAP_S) if text.isdecimal() and text.isascii() else 0.0


async def _read(response: ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_READ_BYTES):
        body += chunk
        if len(body) > _MOST_ANSWER_BYTES:
            raise RestError(f"an answer above {_MOST_ANSWER_BYTES} bytes")
    return bytes(body)
