"""Every ceiling of multi-fetch, each with its reason and its precedent."""

from typing import Final

# --- the wire -------------------------------------------------------------------------------

# A request line, without its LF. Linux gives a pipe 64 KiB; no object with hints comes near.
MAX_LINE_BYTES: Final = 64 * 1024

# The content of one data frame. Measured: below 512 KiB the cost of each chunk shows, above it
# memory grows by jobs x chunk and nothing is won.
MAX_DATA_BYTES: Final = 512 * 1024

# What a frame may have around that content, and all that any other frame may have: a begin's
# descriptor with annotations, an error's message and detail.
MAX_FRAME_OVERHEAD_BYTES: Final = 64 * 1024
MAX_FRAME_BYTES: Final = MAX_DATA_BYTES + MAX_FRAME_OVERHEAD_BYTES

# Messages are cut to this: a registry's error text ends up in them.
MAX_MESSAGE_CHARACTERS: Final = 2_000

# Requests without a terminal frame. HTTP/2 servers commonly allow 100 to 250 streams; a parent
# that writes lines is cheaper to serve than a stream.
DEFAULT_WINDOW: Final = 1_024
MAX_WINDOW: Final = 1_000_000

# Requests that are fetched at the same time. containerd has 3, crane 4, skopeo 6: all for layers;
# small objects want more.
DEFAULT_JOBS: Final = 16
MAX_JOBS: Final = 1_024

# --- names ----------------------------------------------------------------------------------

# distribution-spec, "Pulling manifests": a tag is at most 128 characters.
MAX_TAG_CHARACTERS: Final = 128

# Docker's distribution/reference: a repository's whole name is at most 255 characters.
MAX_NAME_CHARACTERS: Final = 255

# RFC 1035, section 2.3.4: a name is at most 253 characters as text; then a colon and a port.
MAX_HOST_CHARACTERS: Final = 253 + 6

# image-spec gives a digest no limit; sha512 has 135 characters.
MAX_DIGEST_CHARACTERS: Final = 512

# RFC 6838, section 4.2: type and subtype have at most 127 characters each.
MAX_MEDIA_TYPE_CHARACTERS: Final = 255

# --- what a registry may send ---------------------------------------------------------------

# distribution-spec, "Pushing manifests": registries should take at least 4 MiB; containerd and
# distribution stop there.
MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024

# An error's body, for its code and message. oras-go reads 8 KiB.
MAX_ERROR_BODY_BYTES: Final = 8 * 1024

# A token's answer. Tokens of cloud registries reach some 10 KiB.
MAX_TOKEN_BODY_BYTES: Final = 1024 * 1024

# net/http and curl follow 10 and 50; containerd and crane keep net/http's 10.
MAX_REDIRECTS: Final = 10

# Objects that one manifest may name. Docker stops at 127 layers; the largest indexes have hundreds.
MAX_CHILDREN: Final = 4_096

# Objects below one request with children:, all together.
MAX_TREE: Final = 65_536

# An index in an index in an index: containerd and crane follow without limit; nobody nests more.
MAX_INDEX_DEPTH: Final = 4

# --- patience -------------------------------------------------------------------------------

CONNECT_TIMEOUT_SECONDS: Final = 30.0  # net/http's dialer
READ_TIMEOUT_SECONDS: Final = 30.0  # between two bytes; containerd's ResponseHeaderTimeout
# A place among the connections is a queue, and waiting there uses up no patience.
POOL_TIMEOUT_SECONDS: Final = None

# An idle connection is kept this long. Go's servers keep theirs for ever, nginx for 75 s; what a
# server closes earlier is noticed, or tried again.
KEEPALIVE_SECONDS: Final = 60.0

# Connections that may turn out to be closed while idle, before a request gives up. net/http tries
# for as long as it meets used ones; each failure takes one of them away.
MAX_STALE_CONNECTIONS: Final = 16

# Docker's token spec: without expires_in a token lives for 60 s.
DEFAULT_TOKEN_LIFETIME_SECONDS: Final = 60.0

# A token is renewed when this share of its life is over, so that it does not expire on the way.
TOKEN_RENEWAL_SHARE: Final = 0.8

# After a signal, a parent that does not read gets this long to take the last frames.
SHUTDOWN_GRACE_SECONDS: Final = 5.0

# --- memory ---------------------------------------------------------------------------------

# Frames of small objects that wait to be written, before jobs wait too.
MAX_PENDING_BYTES: Final = 1024 * 1024

# The pipe to the parent, where the system lets us choose: Linux's default limit for a user.
PIPE_BYTES: Final = 1024 * 1024

# How often it is looked whether the parent still reads, while there is nothing to write.
STDOUT_WATCH_SECONDS: Final = 0.5

# What is received from a socket at once. Measured on loopback: a larger buffer wins nothing.
RECEIVE_BYTES: Final = 256 * 1024

# A response's head. nginx and Apache send at most 8 KiB by default; curl takes 300 KiB in all.
MAX_HEAD_BYTES: Final = 64 * 1024
