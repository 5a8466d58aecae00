"""For users' own tests: a registry on a loopback port, over an OCI image layout, with faults.

- ``layout``: reads a layout; ``builder``: makes one
- ``registry``: ``serve_layout``, an async context manager for trio
- ``faults``: what may go wrong on the way, declared for the requests that it meets
- ``process``: ``running_registry``, the same registry in a process of its own, without trio
- ``python -m multi_fetch.testing <layout>``: the same from a shell

Needs h11, which httpx brings: ``pip install 'multi-fetch[testing]'`` says so explicitly. Nothing
here is meant for a network: the registry listens on 127.0.0.1 alone.
"""
