"""``python -m multi_fetch`` is the worker, ``multi-fetch``."""

from multi_fetch.cli.multi_fetch import main

raise SystemExit(main())
