"""How long anything is waited for or kept, in seconds, each with its reason and its precedent."""

from typing import Final

# --- connections and bodies -----------------------------------------------------------------

CONNECT_TIMEOUT_SECONDS: Final = 30.0  # net/http's dialer
READ_TIMEOUT_SECONDS: Final = 30.0  # for LEAST_PROGRESS_BYTES; containerd's ResponseHeaderTimeout

# A place among the connections is a queue, and waiting there uses up no patience.
POOL_TIMEOUT_SECONDS: Final = None

# An idle connection is kept this long. Go's servers keep theirs for ever, nginx for 75 s; what a
# server closes earlier is noticed, or tried again.
KEEPALIVE_SECONDS: Final = 60.0

# An answer that is waited for together with others; then it gets a task of its own, with deadlines.
DIRECT_WAIT_SECONDS: Final = 1.0

# An error's body is words: who drips them is not listened to for longer.
ERROR_BODY_SECONDS: Final = 5.0

# What is shared, and a connection that failed, gets so long to close in order.
CLOSE_SECONDS: Final = 1.0

# --- again ----------------------------------------------------------------------------------

# The longest wait before a request is sent again, also where Retry-After asks for more: then it
# fails at once, and says until when. containers/image has 60 s.
DEFAULT_RETRY_WAIT_SECONDS: Final = 60.0

# The first wait is at most this long, and each bound is twice the one before. crane begins at 1 s.
FIRST_RETRY_WAIT_SECONDS: Final = 1.0

# A host's trouble is warned of once in so long, however many requests meet it.
RETRY_WARNING_SECONDS: Final = 60.0

# --- credentials and tokens -----------------------------------------------------------------

# A token's answer, from its head to its end: every request of the repository waits for it, so who
# drips it is not listened to for longer.
TOKEN_BODY_SECONDS: Final = 30.0

# Docker's token spec: without expires_in a token lives for 60 s.
DEFAULT_TOKEN_LIFETIME_SECONDS: Final = 60.0

# A credential helper may ask a cloud for a new token. Docker waits for ever, kubelet for 60 s.
HELPER_TIMEOUT_SECONDS: Final = 60.0

# A credentials file may be a pipe (--authfile <(...)) whose writer asks for the secret first.
CREDENTIALS_FILE_SECONDS: Final = 60.0

# How long a credential helper gets between SIGTERM and SIGKILL, and how long its stdout is read
# behind its end, where it has left that open to a daemon.
HELPER_GRACE_SECONDS: Final = 1.0

# Refused credentials, and those that could not be read, are looked for again after this long: a
# batch of thousands with a wrong password starts no thousand helpers.
CREDENTIALS_RETRY_SECONDS: Final = 30.0

# --- mirrors --------------------------------------------------------------------------------

# A mirror is there or is not: who waits for a dead one's connection waits in vain. containerd has
# 30 s, and Bottlerocket's users waited for each mirror as long.
MIRROR_CONNECT_TIMEOUT_SECONDS: Final = 3.0

# The same for one that takes connections and says nothing: a cache may have to fetch first.
MIRROR_STALL_SECONDS: Final = 10.0

# A mirror in trouble is left alone for so long; then one request tries it.
MIRROR_REST_SECONDS: Final = 30.0

# --- the local store ------------------------------------------------------------------------

# Whoever waits for another process that fetches the same, and sees little come, fetches by
# itself. Shorter than a stall of the registry: to fetch twice does no harm.
STORE_STALL_SECONDS: Final = 5.0

# The same for the lock of index.json, which is held for some milliseconds.
STORE_LOCK_SECONDS: Final = 5.0

# Who waited for that in vain waits so long from then on, until it has had the lock again: or each
# name of a run would take as long, where its holder was stopped.
STORE_LOCK_AGAIN_SECONDS: Final = 0.25

# The clock that stamps files goes in steps of 1 to 10 ms on Linux: a step is waited for, so that
# what is done behind it has another time. FAT's of 2 s are not: there a file is hashed again.
CLOCK_STEP_SECONDS: Final = 0.05

# New names are written at most this often, all at once, and at the end of a run.
STORE_FLUSH_SECONDS: Final = 1.0

# --- the worker's streams and its parent ----------------------------------------------------

# How long a first line is awaited before the remote is made ready. Many parents have one at once.
WARM_UP_AFTER_SECONDS: Final = 0.02

# How often it is looked whether the parent still reads, while there is nothing to write.
STDOUT_WATCH_SECONDS: Final = 0.5

# How long a full stderr is waited for in all, and everything with it; then lines are lost.
STDERR_SECONDS: Final = 1.0

# After a signal, a parent that does not read gets this long to take the last frames.
SHUTDOWN_GRACE_SECONDS: Final = 5.0

# When a worker has exited, a program that it started may still hold its pipes, and be waited for.
EXIT_GRACE_SECONDS: Final = 1.0

# A client's worker, from SIGTERM to SIGKILL: twice what it takes itself for its last frames.
CLOSE_GRACE_SECONDS: Final = 2 * SHUTDOWN_GRACE_SECONDS
