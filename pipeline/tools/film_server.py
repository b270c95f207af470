"""The server behind `viewfinder film`: a page for phones, and a door for the takes that they film.

Whoever knows the address may film: it holds a secret that is made anew at each start. All else is refused, and so is
what another page makes a browser send: a request that changes something must bear a header that no foreign page can
set, and name an address of this server as host and origin.
"""

import asyncio
import errno
import secrets
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from aiohttp import web

from pipeline.errors import InputError
from pipeline.tools import film_store
from pipeline.tools.film_store import SUFFIXES, Incoming

HEADER = "X-Viewfinder"
MAX_BYTES = 500_000_000  # of a take; five seconds of a phone are a fiftieth of it

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def new_secret() -> str:
    """Return what nobody can guess, for an address."""
    return secrets.token_urlsafe(16)


def server(
    page: Callable[[], str],
    secret: str,
    hosts: Collection[str],
    *,
    max_bytes: int = MAX_BYTES,
    told: Callable[[str], None] = lambda _text: None,
) -> web.Application:
    """Return the server.

    Args:
        page: Makes the page.
        secret: The first part of every address.
        hosts: What `Host` may say, such as `192.168.0.7:8443`.
        max_bytes: Of a take.
        told: Is told of each take that is kept or refused, in words.
    """

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await _guarded(request, handler, hosts)

    app = web.Application(middlewares=[guard], client_max_size=max_bytes)
    app.router.add_get(f"/{secret}/", partial(_page, page))
    app.router.add_get(f"/{secret}/takes", _takes)
    app.router.add_post(f"/{secret}/takes", partial(_film, max_bytes, told))
    return app


async def _guarded(request: web.Request, handler: Handler, hosts: Collection[str]) -> web.StreamResponse:
    """Refuse what does not come from the server's own page; tell errors as text, and nothing more."""
    origin = request.headers.get("Origin")
    is_foreign = origin is not None and origin.partition("://")[2] not in hosts
    if request.headers.get("Host") not in hosts or is_foreign:
        response: web.StreamResponse = web.Response(status=403, text="another page or address")
    elif request.method not in ("GET", "HEAD") and request.headers.get(HEADER) != "film":
        response = web.Response(status=403, text="not the page's own request")
    else:
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=error.reason)
    response.headers.update(_HEADERS)
    return response


async def _page(page: Callable[[], str], _request: web.Request) -> web.Response:
    text = await asyncio.to_thread(page)
    return web.Response(text=text, content_type="text/html", charset="utf-8")


async def _takes(_request: web.Request) -> web.Response:
    return web.json_response(_state())


def _state() -> dict[str, object]:
    return {"labels": film_store.labels(), "advice": film_store.advice()}


async def _film(max_bytes: int, told: Callable[[str], None], request: web.Request) -> web.Response:
    """Receive a take. The body is the file as the browser recorded it; `label` in the query says what it shows."""
    suffix = SUFFIXES.get(request.content_type)
    if suffix is None:
        return web.Response(status=415, text=f"{request.content_type} is none of {', '.join(SUFFIXES)}")
    if (request.content_length or 0) > max_bytes:
        return web.Response(status=413, text=f"a take has at most {max_bytes / 1e6:.0f} MB")
    incoming: Incoming | None = None
    try:
        label = film_store.label_of(request.query.get("label", ""))
        incoming = Incoming(suffix)
        num_bytes = 0
        async for chunk in request.content.iter_chunked(1 << 16):
            num_bytes += len(chunk)
            if num_bytes > max_bytes:
                return web.Response(status=413, text=f"a take has at most {max_bytes / 1e6:.0f} MB")
            incoming.write(chunk)
        path = await asyncio.to_thread(incoming.keep, label)
    except InputError as error:
        told(f"refused: {error.found}")
        return web.Response(status=422, text=f"{error.found}\n{error.remedy}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        told("refused: the disk is full")
        return web.Response(status=507, text="the computer's disk is full\nmake room there, and try again")
    finally:
        if incoming is not None:
            incoming.discard()
    told(f"{path}")
    return web.json_response({"file": path.name, "label": label, **_state()}, status=201)
