"""What `viewfinder film` does: lets a phone film takes into data/videos, and try the model."""

import asyncio
import datetime
import hashlib
import ipaddress
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import segno
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.errors import ConfigurationError
from pipeline.files import layout
from pipeline.tools import film_store
from pipeline.tools.film_server import new_secret, server
from pipeline.tools.try_page import deployed, page

_LOCAL = "127.0.0.1"
_ANYWHERE = "192.0.2.1"  # an address for documentation (RFC 5737): asking for the way there sends nothing
_UNTOLD_PORTS = (80, 443)  # that browsers leave out of `Host`
_VALID_FOR = datetime.timedelta(days=2)


@dataclass(frozen=True)
class Certificate:
    """A certificate that was made just now, for one address.

    Attributes:
        context: For the server.
        fingerprint: SHA-256 of the certificate, as browsers show it.
    """

    context: ssl.SSLContext
    fingerprint: str


def film(*, lan: bool, address: str | None, port: int, opened: Callable[[str], None] | None) -> None:
    """Serve the page until Ctrl-C.

    Args:
        lan: Whether other machines may come; then by https.
        address: Of this machine, as the phone reaches it; None for the one that leads outside.
        port: To listen at.
        opened: Is called with the page's address, to show it.

    Raises:
        ConfigurationError: If there is no such address, or the port is taken.
    """
    host = (address or lan_address()) if lan else _LOCAL
    certificate = certificate_for(host) if lan else None
    asyncio.run(_serve(host, port, certificate, opened))


async def _serve(host: str, port: int, certificate: Certificate | None, opened: Callable[[str], None] | None) -> None:
    kept = list[str]()

    def tell(text: str) -> None:
        kept.extend([] if text.startswith("refused") else [text])
        sys.stderr.write(f"film: {text}\n")

    film_store.clear()
    secret = new_secret()
    names = (host, "localhost")
    hosts = {f"{name}:{port}" for name in names} | (set(names) if port in _UNTOLD_PORTS else set())
    runner = web.AppRunner(server(page_of_now, secret, hosts, told=tell), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=certificate.context if certificate else None)
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(
                found=f"nobody can listen at {host}:{port} ({error.strerror or error})",
                expected="an address of this machine and a free port",
                remedy="choose others with --address and --port",
            ) from error
        url = f"{'https' if certificate else 'http'}://{host}:{port}/{secret}/"
        _print_address(url, certificate)
        if opened:
            opened(url)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
    finally:
        await runner.cleanup()
        film_store.clear()
    takes = "1 take was" if len(kept) == 1 else f"{len(kept)} takes were"
    sys.stderr.write(f"\nfilm: {takes} filmed{'; now: dvc repro' if kept else ''}\n")


def page_of_now() -> str:
    """Return the page with the model that is deployed now."""
    path = layout.DEPLOYED / "manifest.json"
    return _page(path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=1)
def _page(_version: int) -> str:
    models, manifest = deployed()
    return page(models, manifest, films=True)


def lan_address() -> str:
    """Return this machine's address in the network that leads outside.

    Raises:
        ConfigurationError: If it is in none.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_ANYWHERE, 9))
            return str(probe.getsockname()[0])
        except OSError as error:
            raise ConfigurationError(
                found=f"this machine is in no network ({error.strerror})",
                expected="the network that the phone is in",
                remedy="connect, or name an address of this machine with --address",
            ) from error


def certificate_for(host: str) -> Certificate:
    """Make a certificate for an address, valid for two days; its key is never kept.

    Raises:
        ConfigurationError: If it is no IP address.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise ConfigurationError(
            found=f"--address {host}", expected="an IP address of this machine", remedy="correct it, or leave it out"
        ) from error
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Viewfinder")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with tempfile.NamedTemporaryFile() as file:  # which its owner alone may read
        file.write(private + made.public_bytes(serialization.Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)
    digest = hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest().upper()
    return Certificate(context, ":".join(digest[i : i + 2] for i in range(0, len(digest), 2)))


def _print_address(url: str, certificate: Certificate | None) -> None:
    if certificate:
        segno.make(url, error="l").terminal(out=sys.stdout, compact=True, border=2)
        sys.stdout.write(
            "\nOpen this on a phone in the same network. Its browser warns, as nobody vouches for a certificate\n"
            f"that was made just now. It is the right one if its SHA-256 is\n{certificate.fingerprint}\n"
        )
    sys.stdout.write(f"\n{url}\n\nWho knows this address may film into {Path.cwd() / layout.VIDEOS}; Ctrl-C ends it.\n")
    sys.stdout.flush()
