"""Whose certificates are trusted."""

from __future__ import annotations

import ssl


def new_context() -> ssl.SSLContext:
    """A context for clients that trusts the roots of this machine; TLS 1.2 at least."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_roots(context)
    return context


def load_roots(context: ssl.SSLContext) -> None:
    """The system's roots, as curl and Go use them; certifi's where the system has none."""
    context.load_default_certs()
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        import certifi

        context.load_verify_locations(certifi.where())
