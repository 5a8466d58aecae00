"""How a worker is started, and what is left of it when it has ended."""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypedDict

import msgspec

from multi_fetch.durations import CLOSE_GRACE_SECONDS
from multi_fetch.errors import (
    CutStreamError,
    DeadlineExceededError,
    UnknownVersionError,
    WorkerDiedError,
)
from multi_fetch.limits import CLIENT_MEMORY_BYTES, STDERR_LINE_CHARACTERS, STDERR_LINES
from multi_fetch.protocol.frames import PROTOCOL_VERSION

if TYPE_CHECKING:
    from multi_fetch.errors import MultiFetchError
    from multi_fetch.protocol.frames import Error

COMMAND: Final = (sys.executable, "-m", "multi_fetch")

DURATIONS: Final = frozenset({"timeout", "retry_max_wait", "stall_timeout"})


class Flags(TypedDict, total=False):
    """The worker's flags, as keyword arguments; None leaves one out. See its ``--help-all``.

    A duration is a number of seconds, or text such as ``1m30s``.

    Attributes:
        jobs: requests that are worked on at the same time.
        window: requests that are open at the worker; more are queued in the client.
        no_warm: whether nothing is asked of the registry before the first request.
        ordered: whether answers come in the order of the requests.
        max_size: the most content that an object may have, in bytes, or text such as ``10GB``.
        authfile: the only file to look for credentials in.
        hosts_dir: the folder with hosts.toml files, or with Docker's certificates.
        ca_file: certificates to trust beside the system's.
        cert_file: a certificate to show to the registry.
        key_file: its key.
        insecure: whether anybody's certificate is taken for the registry's.
        plain_http: whether http is spoken with the registry.
        allow_private: a host, or several, that may be in a private network though others name it.
        store: the folder of a local store; its other flags are store_only, verify_store, offline.
        ranges: connections over which a large blob comes.
        answers: "paths" for answers whose ``path`` is a file in the store.
        timeout: for the whole run.
        retries: how often the worker sends a request again after trouble that may pass.
        retry_max_wait: the longest wait before that.
        stall_timeout: a connection without a byte for so long counts as broken.
        log_level: of what goes to stderr, whose last lines a WorkerDiedError has.
    """

    jobs: int | None
    window: int | None
    no_warm: bool
    ordered: bool
    max_size: int | str | None
    authfile: str | None
    hosts_dir: str | None
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    insecure: bool
    plain_http: bool
    allow_private: str | Sequence[str] | None
    store: str | None
    store_only: bool
    verify_store: bool
    offline: bool
    ranges: int | None
    answers: str | None
    timeout: float | str | None
    retries: int | None
    retry_max_wait: float | str | None
    stall_timeout: float | str | None
    log_level: str | None


class Options(Flags, total=False):
    """What a worker can be started with, besides its remote.

    Attributes:
        command: the worker's program and its first arguments.
        env: the worker's environment; by default this process's own. Credentials go here alone:
            arguments are seen by everybody on the machine.
        memory_bytes: of content that waits for its reader, over all answers. What comes beyond
            goes to a temporary file.
        spool_folder: for that file; by default tempfile's choice ($TMPDIR, then /tmp).
        grace_seconds: at the end, from SIGTERM to SIGKILL.
        idle_timeout: in seconds: a worker that owes an answer, or its hello, and writes nothing
            for so long, not even a log line, is killed. By default it is waited for. A worker may
            be silent for as long as it waits for a registry by its other timeouts, asks for
            credentials or hashes a file of a store: minutes are a good value.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    memory_bytes: int
    spool_folder: str
    grace_seconds: float
    idle_timeout: float | None


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to start a worker, as often as one likes; see ``Options``."""

    argv: list[str]
    env: Mapping[str, str] | None = None
    memory_bytes: int = CLIENT_MEMORY_BYTES
    spool_folder: str | None = None
    grace_seconds: float = CLOSE_GRACE_SECONDS
    idle_seconds: float | None = None

    def __repr__(self) -> str:  # the environment has secrets
        return f"Launch({self.argv})"

    def __rich_repr__(self) -> Any:  # after None rich takes the repr
        return None


def plan_launch(remote: str, options: Options) -> Launch:
    """Makes a command line of a remote and options.

    Raises:
        TypeError: an option is not known; it might be a secret, so it does not get into a command
            line.
        ValueError: idle_timeout is not above 0.
    """
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"{min(unknown)!r} is no option of a worker; there are {_names()}")
    idle_seconds = options.get("idle_timeout")
    if idle_seconds is not None and not idle_seconds > 0:
        raise ValueError(f"idle_timeout is in seconds and above 0, or None: {idle_seconds}")
    words = list(options.get("command", COMMAND))
    for name in Flags.__annotations__:
        value = options.get(name)
        if value is None or value is False:
            continue
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [word for each in value for word in (flag, str(each))]
        else:
            words += [flag, _text(name, value)]
    return Launch(
        argv=[*words, "--", remote],
        env=options.get("env"),
        memory_bytes=options.get("memory_bytes", CLIENT_MEMORY_BYTES),
        spool_folder=options.get("spool_folder"),
        grace_seconds=options.get("grace_seconds", CLOSE_GRACE_SECONDS),
        idle_seconds=idle_seconds,
    )


def _names() -> str:
    return ", ".join(Options.__annotations__)


def _text(name: str, value: object) -> str:
    # Go's durations want a unit, and no exponent.
    if name in DURATIONS and isinstance(value, int | float):
        return f"{value:f}s"
    return str(value)


class StderrTail:
    """The last lines of a stream, within a bound: bytes in, lines out."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=STDERR_LINES)
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes, cut anywhere."""
        *lines, rest = (self._rest + data).split(b"\n")
        # A character has at most four bytes.
        self._rest = rest[: 4 * STDERR_LINE_CHARACTERS]
        self._lines.extend(map(_printable, lines))

    def lines(self) -> tuple[str, ...]:
        """The last lines, the one that is not ended yet included."""
        rest = (_printable(self._rest),) if self._rest else ()
        return tuple(line for line in (*self._lines, *rest) if line)[-STDERR_LINES:]


def _printable(line: bytes) -> str:
    text = line.decode("utf-8", "replace")[:STDERR_LINE_CHARACTERS].rstrip()
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def end_error(
    broken: MultiFetchError | None,
    exit_status: int | None,
    worker_error: Error | None,
    stderr: StderrTail,
) -> MultiFetchError:
    """Why a worker that was not closed gives no more answers; a new error at each call.

    Args:
        broken: what was wrong with its frames, or that there were none for too long.
        exit_status: as subprocess has it.
        worker_error: what it said of itself.
        stderr: what it said to people.
    """
    if isinstance(broken, UnknownVersionError):
        return UnknownVersionError(broken.version, known=PROTOCOL_VERSION)
    if isinstance(broken, DeadlineExceededError):
        reason = f"{broken.message}, so {_reason(exit_status)}"
    # A stream that is cut is a worker that ended; how it ended says more.
    elif broken is not None and not isinstance(broken, CutStreamError):
        reason, exit_status = f"it broke the protocol: {broken.message}", None
    else:
        reason = _reason(exit_status)
    if worker_error is not None:
        reason += f", after it said {worker_error.code}: {worker_error.message}"
    error = WorkerDiedError(reason, exit_status=exit_status, stderr_lines=stderr.lines())
    error.__cause__ = broken
    return error


def _reason(exit_status: int | None) -> str:
    if exit_status is None:
        return "its end was not seen"
    if exit_status >= 0:
        return f"it ended with exit status {exit_status}"
    try:
        return f"it was ended by {signal.Signals(-exit_status).name}"
    except ValueError:
        return f"it was ended by signal {-exit_status}"
