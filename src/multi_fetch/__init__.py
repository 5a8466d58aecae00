"""multi-fetch: git's ``cat-file --batch`` for OCI and Docker registries.

One long-lived process reads ``<object> [<hint>...]`` lines and answers each with verified,
framed content. The worker imports this package too, so importing it costs nothing: what the
package promises to its users lives in the modules named here.

- ``multi_fetch.remotes``: the contracts Resolver and Fetcher, and ``open_remote``
- ``multi_fetch.oci``: reference, digest, descriptor
- ``multi_fetch.protocol``: the wire, both ways, without I/O
- ``multi_fetch.errors``: every error, with its code on the wire
- ``multi_fetch.testing``: a registry over loopback HTTP, for tests
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
