"""Every ceiling of multi-fetch, each with its reason and its precedent."""

from typing import Final

# --- the wire -------------------------------------------------------------------------------

# A request line, without its LF. Linux gives a pipe 64 KiB; no object with hints comes near.
MAX_LINE_BYTES: Final = 64 * 1024

# The content of one data frame. Measured: below 512 KiB the cost of each chunk shows, above it
# memory grows by jobs x chunk and nothing is won.
MAX_DATA_BYTES: Final = 512 * 1024

# What a frame may have around that content, and all of any other: a begin's descriptor, an error.
MAX_FRAME_OVERHEAD_BYTES: Final = 64 * 1024
MAX_FRAME_BYTES: Final = MAX_DATA_BYTES + MAX_FRAME_OVERHEAD_BYTES

# A frame as a JSON line: base64 takes four bytes for three, which makes 699,052 of content.
MAX_JSON_LINE_BYTES: Final = 700_000

# Messages are cut to this: a registry's error text ends up in them.
MAX_MESSAGE_CHARACTERS: Final = 2_000

# Requests without a terminal frame. HTTP/2 servers commonly allow 100 to 250 streams; a parent
# that writes lines is cheaper to serve than a stream.
DEFAULT_WINDOW: Final = 1_024
MAX_WINDOW: Final = 1_000_000

# Requests that are fetched at the same time. containerd has 3, crane 4, skopeo 6: all for layers;
# small objects want more. 256 at 40 ms away are 6,400 a second; but a connection costs some 30 KiB
# under TLS, and many times that where the registry wills it. curl stopped at 300 for years.
DEFAULT_JOBS: Final = 16
MAX_JOBS: Final = 256

# Media types of one request, which go into its Accept header. There are five for manifests.
MAX_MEDIA_TYPES: Final = 16

# Open requests whose sizes are summed up at each look at progress: more would take milliseconds.
MAX_SIZED_JOBS: Final = 4_096

# Objects in flight that are told of one by one, of up to 1,024. A screen has 24 lines.
MAX_TOLD_RUNNING: Final = 10

# Connections for one large blob. containerd takes 1 by default, aria2 at most 16 to one server.
DEFAULT_RANGES: Final = 1
MAX_RANGES: Final = 16

# --- names ----------------------------------------------------------------------------------

# distribution-spec, "Pulling manifests": a tag is at most 128 characters.
MAX_TAG_CHARACTERS: Final = 128

# Docker's distribution/reference: a repository's whole name is at most 255 characters.
MAX_NAME_CHARACTERS: Final = 255

# RFC 1035, section 2.3.4: a name is at most 253 characters as text; then a colon and a port.
MAX_HOST_CHARACTERS: Final = 253 + 6

# image-spec gives a digest no limit; sha512 has 135 characters.
MAX_DIGEST_CHARACTERS: Final = 512

# An object's whole name, in a frame: the scheme and path of a layout, a tag and a digest.
MAX_REFERENCE_CHARACTERS: Final = 16 + 4_096 + MAX_TAG_CHARACTERS + 1 + MAX_DIGEST_CHARACTERS

# RFC 6838, section 4.2: type and subtype have at most 127 characters each.
MAX_MEDIA_TYPE_CHARACTERS: Final = 255

# --- what a registry may send ---------------------------------------------------------------

# distribution-spec, "Pushing manifests": registries should take at least 4 MiB; containerd and
# distribution stop there.
MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024

# An error's body, for its code and message. oras-go reads 8 KiB.
MAX_ERROR_BODY_BYTES: Final = 8 * 1024

# A token, which goes into a header, and its answer, which may have it twice. Tokens of cloud
# registries reach some 10 KiB; nginx takes heads of 32 KiB.
MAX_TOKEN_CHARACTERS: Final = 48 * 1024
MAX_TOKEN_BODY_BYTES: Final = 128 * 1024

# Scopes that one token is asked for: one is usual, a mount has two.
MAX_TOKEN_SCOPES: Final = 16

# net/http and curl follow 10 and 50; containerd and crane keep net/http's 10.
MAX_REDIRECTS: Final = 10

# A page of a listing, which is held as a whole, and the names on it. oras-go reads 4 MiB.
MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
MAX_PAGE_NAMES: Final = 65_536

# Tags that a page is asked for: ECR and Artifactory refuse more, crane asks for as many.
TAGS_OF_PAGE: Final = 1_000

# Pages of one listing. Quay has 50 tags on one: half a million tags.
MAX_LISTING_PAGES: Final = 10_000

# Objects that one manifest may name. Docker stops at 127 layers; the largest indexes have hundreds.
MAX_CHILDREN: Final = 4_096

# Fields in a manifest that is looked into, as far as its colons and commas tell: a field of 7 bytes
# takes 170 in memory. An entry of Docker's own indexes has some 30.
MAX_MANIFEST_COLONS: Final = 65_536

# Annotations, URLs and features of platforms of all that a manifest names: kept until their turn.
MAX_MANIFEST_ANNOTATIONS: Final = 16_384

# Objects below one request with children:, all together; what those below all open requests may
# take in memory; and what each does, beside the text of the manifest that names it.
MAX_TREE: Final = 65_536
MAX_FOUND_MEMORY: Final = 68 * 1024 * 1024
FOUND_MEMORY: Final = 940
# An annotation, a URL or a platform of one.
EXTRA_MEMORY: Final = 160

# Content within a manifest, kept until its turn comes: each, and below one request. image-spec
# embeds the empty config, of 2 bytes; a signature has some 2 KiB.
MAX_EMBEDDED_BYTES: Final = 16 * 1024
MAX_TREE_EMBEDDED_BYTES: Final = 1024 * 1024

# An index in an index in an index: containerd follows without limit; nobody nests more.
MAX_INDEX_DEPTH: Final = 4

# Content whose size nobody has told, which a server may send for ever. The largest layers that
# registries document: Azure's takes 200 GiB, Amazon's 50 GiB, GitHub's and Docker Hub 10 GiB.
MAX_UNTOLD_BYTES: Final = 200 * 1024**3

# --- what a layout in a folder may hold -----------------------------------------------------

# An oci-layout file: it has 30 bytes, and some whitespace at most.
MAX_MARKER_BYTES: Final = 4 * 1024

# An index.json, and what it names. A mirror of a list has an entry of some 300 bytes for each tag.
MAX_LAYOUT_INDEX_BYTES: Final = 32 * 1024 * 1024
MAX_LAYOUT_ENTRIES: Final = 65_536
# What is written of one: a name and a platform, which a registry may make as long as it likes.
MAX_LAYOUT_ENTRY_BYTES: Final = 4 * 1024

# What an index.json may take in memory while it is read, and what each field or element of a list
# there does.
MAX_LAYOUT_INDEX_MEMORY: Final = 112 * 1024 * 1024
LAYOUT_FIELD_MEMORY: Final = 160

# What is kept of an index.json once it was read, and each entry beside its name, with a digest and
# type of usual length: as many as may be there with short names. A store's takes it from
# MAX_FOUND_MEMORY: both came to 162 MiB.
MAX_LAYOUT_KEPT_MEMORY: Final = 30 * 1024 * 1024
LAYOUT_ENTRY_MEMORY: Final = 400
LAYOUT_TEXT_MEMORY: Final = 340

# What a look into the indexes below may take: as much of it is kept as there is room for.
MAX_WALKED_MEMORY: Final = 2 * MAX_LAYOUT_KEPT_MEMORY

# Files of an archive that its index keeps, some 300 bytes each. A large image has a few hundred.
MAX_ARCHIVE_FILES: Final = 131_072

# What that index takes in memory, of all archives of a run, and each file beside its name there.
MAX_ARCHIVE_MEMORY: Final = 40 * 1024 * 1024
ARCHIVE_FILE_MEMORY: Final = 180

# A long name or an extended header in an archive. GNU tar and bsdtar write the path and times.
MAX_TAR_EXTENSION_BYTES: Final = 64 * 1024

# A folder's or archive's path. Linux takes 4,096 bytes.
MAX_PATH_CHARACTERS: Final = 4_096

# Files that are read at the same time, each in a thread: also those of a file system that hangs.
MAX_READ_THREADS: Final = 16

# --- the local store ------------------------------------------------------------------------

# Names that a store's index.json keeps, some 350 bytes each; it is written anew with each batch.
MAX_STORE_NAMES: Final = 8_192

# What a look at a store keeps of it in memory: more goes to a temporary file. 150,000 blobs fit.
CATALOGUE_CACHE_BYTES: Final = 16 * 1024 * 1024

# Names of one content that are told, all together; the others are counted.
MAX_TOLD_NAME_BYTES: Final = 256 * 1024

# --- patience -------------------------------------------------------------------------------

# What so much waiting must bring, or a body has stalled: some 34 bytes a second, which all jobs get
# even over a modem. curl's --speed-limit and git's http.lowSpeedLimit are such bounds, to be set.
LEAST_PROGRESS_BYTES: Final = 1024

# Times that a request is sent again while the trouble may pass. containers/image has 5.
DEFAULT_RETRIES: Final = 5
MAX_RETRIES: Final = 1_000

# Hosts that are held back at a time as they answered 429; and that are known for ranges, or none.
MAX_PACED_HOSTS: Final = 64
MAX_SPLIT_HOSTS: Final = 64

# Names that are looked up at the same time, each in a thread, where there are so many jobs.
MAX_LOOK_UP_THREADS: Final = 256

# With the remote "-": repositories, and hosts with their connections, that are kept while nobody
# asks them. Of a repository that is a token above all.
MAX_IDLE_REPOSITORIES: Final = 64
MAX_IDLE_HOSTS: Final = 16

# The same: registries of which it is known whether they answer.
MAX_KNOWN_PARTIES: Final = 1_024

# Connections that may turn out to be closed while idle, before a request gives up. net/http tries
# for as long as it meets used ones; each failure takes one of them away.
MAX_STALE_CONNECTIONS: Final = 16

# A token is renewed when this share of its life is over, so that it does not expire on the way.
TOKEN_RENEWAL_SHARE: Final = 0.8

# --- credentials ----------------------------------------------------------------------------

# A config.json with its credentials. Real ones have some KiB; curl stops at 128 KiB for a .netrc.
MAX_CREDENTIALS_FILE_BYTES: Final = 1024 * 1024

# What a credential helper may write: one token. Tokens of cloud registries reach some 10 KiB.
MAX_HELPER_OUTPUT_BYTES: Final = 1024 * 1024

# --- hosts ----------------------------------------------------------------------------------

# A hosts.toml: real ones have some hundred bytes. A host of 20 bytes there takes some 5 KiB.
MAX_HOSTS_FILE_BYTES: Final = 64 * 1024
# Dots in a line of it: a key of n parts takes n * n steps to read, and one of 32,000 took 13 s.
MAX_HOSTS_LINE_DOTS: Final = 512

# A file of certificates, or with a key. All of a system's roots have 220 KiB; 2 MiB take 22 MiB in
# each context, and a second to read.
MAX_CERTIFICATES_BYTES: Final = 2 * 1024 * 1024
# Those of all hosts at a time, which have one to three contexts each.
MAX_ALL_CERTIFICATES_BYTES: Final = 2 * MAX_CERTIFICATES_BYTES

# Foreign URLs of one object that are tried; a manifest may name thousands. Real ones name one.
MAX_FOREIGN_URLS: Final = 4
# Their hosts of which is remembered how they do, as many as have a pace.
MAX_FOREIGN_HOSTS: Final = 64

# Failures in a row, each perhaps of one object alone, until a mirror is left alone like a dead one.
# Envoy's outlier detection has 5 as well.
MAX_MIRROR_FAILURES: Final = 5

# Objects that a mirror is not asked for again, as it had wrong bytes for them.
MAX_DISTRUSTED: Final = 4_096

# --- memory ---------------------------------------------------------------------------------

# What jobs hold of small objects, manifests and pages, together; half of it is in parts their own.
MAX_HELD_BYTES: Final = 24 * 1024 * 1024

# What a tag's name takes in memory beside its text, and what a descriptor does.
NAME_MEMORY: Final = 64
DESCRIBED_MEMORY: Final = 1_200

# Frames of small objects that wait to be written, before jobs wait too.
MAX_PENDING_BYTES: Final = 1024 * 1024

# The pipe to the parent, where the system lets us choose: Linux's default limit for a user.
PIPE_BYTES: Final = 1024 * 1024

# What is received at once; and buffers for large bodies: a tenth less CPU than with 256 KiB.
RECEIVE_BYTES: Final = 128 * 1024
LARGE_BUFFERS: Final = 12

# TLS's records and HTTP's chunks may have a byte each, and whoever reads on and on lets nobody else
# run. What comes in less than this at a time is received between the others' turns; a direct lane
# reads so often at once, and so many chunks are joined. Servers begin with records of 1 KiB.
CRUMB_BYTES: Final = 128
MAX_READS: Final = 256

# What all jobs' buffers have together: beyond 128 jobs they are smaller. nginx and Apache send
# heads of at most 8 KiB by default.
RECEIVE_MEMORY: Final = 16 * 1024 * 1024

# What the general lane receives at once: a quarter less CPU than with httpcore's 64 KiB. What the
# few that have a body may receive beyond the share that each of many jobs has: all together.
MAX_GENERAL_PIECE_BYTES: Final = 256 * 1024
GENERAL_EXTRA_MEMORY: Final = 1024 * 1024

# Pieces of blobs over several connections, ahead of who reads them: all together, of two blobs.
SPLIT_BYTES: Final = 16 * 1024 * 1024
MAX_SPLIT_BLOBS: Final = 2

# One piece: shorter costs too many round trips, longer only memory. And a blob that is worth it.
MIN_PIECE_BYTES: Final = 1024 * 1024
MAX_PIECE_BYTES: Final = 4 * 1024 * 1024
LEAST_SPLIT_BYTES: Final = 8 * 1024 * 1024

# A blob that is received as a whole beside others, in the time of one turn: 64 of them fit between
# two looks at the clock, and it still fits the receive buffer with its head.
MAX_DIRECT_BYTES: Final = 64 * 1024

# What comes in a handshake, over all jobs and over one connection: of small certificates OpenSSL
# keeps eleven times what they have, while the connection is open. Real chains have 3 to 10 KiB.
HANDSHAKE_MEMORY: Final = 3 * 1024 * 1024
MAX_HANDSHAKE_BYTES: Final = 64 * 1024

# Idle connections up to which each job may have two, to a registry and to its store; beyond them
# there is one for each job.
TWOFOLD_IDLE_CONNECTIONS: Final = 64

# What TLS itself has to say and the other side does not take: an alert has some 30 bytes.
MAX_TLS_UNSENT_BYTES: Final = 64 * 1024

# A response's head. nginx and Apache send at most 8 KiB by default; curl takes 300 KiB in all.
MAX_HEAD_BYTES: Final = 64 * 1024

# --- what a worker may make its reader keep -------------------------------------------------

# Ids that have begun and not ended: many for each job. A hash and a begin take some 2 KiB.
MAX_BEGUN_IDS: Final = 64 * MAX_JOBS

# Begin frames of these, packed. One has some 400 bytes; beyond half of this they are kept bare.
# With the largest trees, and a hash of blake3, which has 2 KiB, for each, it comes to 145 MiB.
MAX_KEPT_BEGIN_BYTES: Final = 24 * 1024 * 1024

# Ids whose end has announced what has not come: the largest trees, four at once, at 150 bytes.
MAX_UNTOLD_PARENTS: Final = 4 * MAX_TREE

# Ids that had their last frame, in pages of 4,096 and some 650 bytes: 67 million lines back.
MAX_CLOSED_PAGES: Final = 16_384

# --- the client -----------------------------------------------------------------------------

# Content in memory that its reader has not taken yet, over all answers of a client; what comes
# beyond it waits in a temporary file. git's delta base cache has 96 MiB; a client is a guest.
CLIENT_MEMORY_BYTES: Final = 32 * 1024 * 1024

# The part of it that one answer may have: two data frames, so that a reader that keeps up never
# meets the file, and one that does not come leaves the memory to the others.
CLIENT_ANSWER_BYTES: Final = 2 * MAX_DATA_BYTES

# The temporary file is given out in blocks of this: eight for a data frame.
PARKING_BLOCK_BYTES: Final = 64 * 1024

# Pieces of one answer that wait as they came, each with 200 bytes beside its own; a worker may send
# a byte a frame. Beyond this, small ones are put together, up to a block.
CLIENT_FEW_PIECES: Final = 16

# Name, object and media type of what was found: they have some 250. And what is beyond in a tree.
CLIENT_CHILD_CHARACTERS: Final = 320
CLIENT_TREE_CHARACTERS: Final = 8 * 1024 * 1024

# How much of a worker's stderr goes into an error. A Python traceback has about 20 lines.
STDERR_LINES: Final = 20
STDERR_LINE_CHARACTERS: Final = 500

# Answers that fetch_many has asked for beyond those that its caller took: four for each of the
# worker's jobs, so that a slow caller finds no disk filled, and a fast one no job idle.
FETCH_MANY_AHEAD: Final = 4 * DEFAULT_JOBS
