from __future__ import annotations

from hypothesis import settings

# How long one example takes says more about the machine than about the code.
settings.register_profile("multi-fetch", deadline=None)
# pytest --hypothesis-profile=thorough tests/test_invariants.py
settings.register_profile("thorough", deadline=None, max_examples=3_000)
settings.load_profile("multi-fetch")
