"""Fetch a file over HTTPS from a public address, within bounds of size and time."""

import asyncio
import os
from typing import BinaryIO

import aiohttp
from yarl import URL

from apps.clients.addresses import AddressRefused, UrlRefused, check_url
from apps.clients.streamed_calls import open_connector

REDIRECTS = 5
READ_BYTES = 64 * 1024


class DownloadFailed(OSError):
    """The file was not fetched; the message tells why, without naming an address."""

    def __str__(self) -> str:
        return str(self.args[0])


def download(
    url: str, into: BinaryIO, *, most_bytes: int, seconds: float, allow_private: bool = False
) -> None:
    """Write what an https:// URL gives into a file, its bytes as they come.

    Every address on the way, redirects too, is checked as it is connected to. allow_private: also
    http:// and addresses that are not public. Raises DownloadFailed.
    """
    try:
        asyncio.run(_download(url, into, most_bytes, seconds, allow_private))
    except DownloadFailed:
        raise
    except TimeoutError:
        raise DownloadFailed(f"it was not fetched within {seconds:g} seconds") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise DownloadFailed(_reason(error)) from None


async def _download(
    url: str, into: BinaryIO, most_bytes: int, seconds: float, allow_private: bool
) -> None:
    async with aiohttp.ClientSession(
        connector=open_connector(allow_private=allow_private),
        timeout=aiohttp.ClientTimeout(total=seconds),
        # Unpacking has bounds of its own, where the file is read.
        auto_decompress=False,
        headers={"accept-encoding": "identity", "user-agent": "evalplatform"},
    ) as session:
        for _ in range(REDIRECTS + 1):
            place = _checked(url, allow_private)
            async with session.get(place, allow_redirects=False) as response:
                if response.status in {301, 302, 303, 307, 308} and "location" in response.headers:
                    url = str(place.join(URL(response.headers["location"])))
                    continue
                if response.status != 200:
                    raise DownloadFailed(f"the server answered {response.status}")
                if (response.content_length or 0) > most_bytes:
                    raise DownloadFailed(_too_large(most_bytes))
                size = 0
                async for chunk in response.content.iter_chunked(READ_BYTES):
                    size += len(chunk)
                    if size > most_bytes:
                        raise DownloadFailed(_too_large(most_bytes))
                    into.write(chunk)
                return
        raise DownloadFailed(f"it was redirected more than {REDIRECTS} times")


def _checked(url: str, allow_private: bool) -> URL:
    try:
        place = check_url(url)
    except UrlRefused as error:
        raise DownloadFailed(str(error)) from None
    if place.scheme != "https" and not allow_private:
        raise DownloadFailed("it leads to a URL that is not https://")
    return place


def _too_large(most_bytes: int) -> str:
    return f"it is larger than the limit of {most_bytes:,} bytes"


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its certificate cannot be trusted, or TLS failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, AddressRefused):
            return "the address is not public, which it has to be here"
        reason = os.strerror(error.errno).lower() if error.errno else "no connection"
        return f"it could not be reached: {reason}"
    return "the connection broke, or the answer is not HTTP"
