"""``python -m multi_fetch`` is the worker, ``multi-fetch``."""

from multi_fetch.cli.start import multi_fetch

raise SystemExit(multi_fetch())
