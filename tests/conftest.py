from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# A shell starts what runs in its background with SIGINT ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The same for nohup and SIGHUP.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long an example takes, and how long it takes to make one up, says more about the machine than
# about the code.
settings.register_profile(
    "multi-fetch", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
# pytest --hypothesis-profile=thorough tests/test_invariants.py
settings.register_profile("thorough", settings.get_profile("multi-fetch"), max_examples=3_000)
settings.load_profile("multi-fetch")
