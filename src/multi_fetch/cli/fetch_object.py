"""``fetch-object [flags] <remote> <object> [<hint>...]``: one object, its raw bytes to stdout.

The command line, the signals and the exit status are here; what is fetched, and how, is in
copy_object.py; where it goes, in output.py.
"""

from __future__ import annotations

import argparse
import logging
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from multi_fetch.ceiling import Ceiling
from multi_fetch.cli.arguments import (
    ENVIRONMENT_HELP,
    FAILURE,
    SUCCESS,
    UNUSABLE,
    USAGE,
    add_common_flags,
    closed_stream,
    complain,
    reference,
    stream_failure,
)
from multi_fetch.cli.ceiling import add_max_size_flag
from multi_fetch.cli.copy_object import Copy
from multi_fetch.cli.credentials import credentials
from multi_fetch.cli.help import CommandParser, Shown, Texts
from multi_fetch.cli.hosts import reach
from multi_fetch.cli.logs import set_up_logging
from multi_fetch.cli.output import DASH, STDOUT, open_output
from multi_fetch.cli.patience import add_patience_flags, patience
from multi_fetch.cli.progress import add_progress_flag, observer
from multi_fetch.cli.store import STORE_HELP, add_store_flags, store_settings, with_store
from multi_fetch.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    MultiFetchError,
    ObjectRequiredError,
    RequestCancelledError,
)
from multi_fetch.protocol.request import Children, Request, parse_request
from multi_fetch.remotes import Remote, open_remote
from multi_fetch.worker.job import REMOTE_CODES, Target
from multi_fetch.worker.misspelt import Misspelt
from multi_fetch.worker.pipes import STDOUT_NAME
from multi_fetch.worker.progress import Observer
from multi_fetch.worker.serve import STDOUT_CLOSED_STATUS, heard_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multi_fetch.cli.logs import StderrLog
    from multi_fetch.oci.reference import Reference
    from multi_fetch.worker.pipes import Writer

log = logging.getLogger(__name__)

USAGE_LINES = """\
fetch-object [flags] <remote> <object> [<hint>...]
       fetch-object [flags] <remote>:<tag>[@<digest>] | <remote>@<digest>"""

ABOUT = """\
Fetch one object from a registry: its verified raw bytes go to stdout.

  <remote>              redis, ghcr.io/org/app, localhost:5000/app,
                        oci:<folder>, oci-archive:<file>
  <object>              a tag, a digest, @<digest> or <tag>@<digest>
  <hint>                platform:linux/arm64, content:none, range:0-99...
"""

DESCRIPTION = """\
Fetch one object from a registry: its verified raw bytes go to stdout.

hints:
  mediatype:<type>      what it is
  size:<bytes>          how large it is
  digest:<digest>       what it must be
  platform:<os>/<architecture>[/<variant>]
                        of an index, the manifest for that platform
  range:<first>-[<last>]  a part of it, unverified
  content:none          the descriptor as JSON, no content
"""

EPILOG = f"""\
exit status:
  0 the object is whole and verified, 1 it failed and what was written is a part
  of it at most, 2 usage, 3 the remote could not be used,
  128+n ended by signal n

{ENVIRONMENT_HELP}{STORE_HELP}"""

EXAMPLE = """\
example:
  fetch-object redis latest platform:linux/arm64 | jq .layers
"""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        request: the object.
        locator: its repository.
        opening: the remote.
        output: a path, or a dash for stdout.
        timeout_seconds: for everything; None for no limit.
        observer: who watches.
        ceiling: for the content.
    """

    request: Request
    locator: str
    opening: AbstractAsyncContextManager[Remote]
    output: str
    timeout_seconds: float | None
    observer: Observer | None
    ceiling: Ceiling


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    arguments = make_parser().parse_args(argv)
    written = set_up_logging(arguments.log_level, arguments.log_format)
    try:
        run = _run_of(arguments, written)
    except InvalidRequestError as error:
        complain("fetch-object", error.message)
        return USAGE
    if run.output == DASH and (problem := closed_stream((STDOUT, STDOUT_NAME))):
        complain("fetch-object", problem)
        return USAGE
    status = FAILURE
    try:
        status = trio.run(_run, run)
    except* BrokenPipeError:
        status = STDOUT_CLOSED_STATUS
    except* OSError as group:
        complain("fetch-object", stream_failure(group, run.output))
    return status


def _run_of(arguments: argparse.Namespace, written: StderrLog) -> Run:
    """What the command line says.

    Raises:
        InvalidRequestError: it says nothing that can be done.
    """
    ref: Reference = arguments.ref
    request = _request(ref, arguments.object, _hints(arguments))
    Misspelt().look_at(request)
    reached, store = reach(arguments, ref), store_settings(arguments, ref)
    held, borne = credentials(arguments.authfile), patience(arguments)
    if Path(arguments.output).is_dir():
        raise InvalidRequestError(
            f"--output {arguments.output} is a folder: name a file in it, or '-' for stdout"
        )
    return Run(
        request=request,
        locator=ref.locator,
        opening=with_store(open_remote(ref, patience=borne, **held, **reached), store),
        output=arguments.output,
        timeout_seconds=arguments.timeout,
        observer=observer(arguments.progress, str(ref), written),
        ceiling=borne.ceiling,
    )


def _hints(arguments: argparse.Namespace) -> list[str]:
    """Hints that were given as flags."""
    hints = ["content:none"] if arguments.descriptor else []
    if arguments.platform is not None:
        hints.append(f"platform:{arguments.platform}")
    if arguments.range is not None:
        hints.append(f"range:{arguments.range}")
    return hints


def _word(text: str) -> str:
    """An object or a hint; with a blank in it argparse takes another tool's flag for one."""
    if text.startswith("-"):
        raise argparse.ArgumentTypeError("no object or hint begins with a dash")
    return text


def _request(ref: Reference, words: list[str], hints: list[str]) -> Request:
    """The object, from one of the two forms of the command line, and the hints behind it."""
    if not words:
        if not ref.object:
            raise ObjectRequiredError(
                f"{ref} names no object: write '{ref}:latest', or the object behind a blank"
            )
        return parse_request(ref.object, hints)
    if ref.object:
        asked, word = f"{ref.tag}@{ref.digest}".strip("@"), words[0][:80]
        raise InvalidRequestError(
            f"{ref} names an object already: leave out {word!r}, or, if it is a hint, write"
            f" 'fetch-object {ref.locator} {asked} {word}'"
        )
    request = parse_request(words[0], words[1:] + hints)
    if request.children is not Children.NONE:
        raise InvalidRequestError(
            "children: asks for many objects, which is what multi-fetch is for"
        )
    return request


async def _run(run: Run) -> int:
    """Fetches under the timeout and the signals; logs what failed."""
    timeout_seconds = run.timeout_seconds
    ended_by = 0
    error: MultiFetchError | None = None

    async def watch_signals() -> None:
        nonlocal ended_by
        with trio.open_signal_receiver(*heard_signals()) as signals:
            async for number in signals:
                ended_by = number
                scope.cancel()

    with trio.move_on_after(timeout_seconds or float("inf")) as scope:
        async with trio.open_nursery() as watch:
            watch.start_soon(watch_signals)
            error = await _fetch(run)
            watch.cancel_scope.cancel()
    if ended_by:
        error = RequestCancelledError(f"ended by {signal.Signals(ended_by).name}")
    elif scope.cancelled_caught:
        error = DeadlineExceededError(
            f"not done when the timeout of {timeout_seconds:g} s was over: raise it"
        )
    if error is None:
        return SUCCESS
    asked = Target.of(run.request, run.locator).ref
    log.error(
        "fetch failed",
        extra={"ref": str(asked), "code": error.code, "error": error.message, **error.detail()},
    )
    if ended_by:
        return 128 + ended_by
    return UNUSABLE if error.code in REMOTE_CODES else FAILURE


async def _fetch(run: Run) -> MultiFetchError | None:
    """Fetches the object; returns why it failed.

    Raises:
        BaseExceptionGroup: of OSErrors: stdout is closed, or what is written to takes no more.
    """
    failure: MultiFetchError | None = None
    async with trio.open_nursery() as watch:
        try:
            async with open_output(run.output) as writer, run.opening as remote:
                copy = Copy(run.request, run.locator, writer, run.ceiling)
                watch.start_soon(_watch_stdout, writer)
                if run.observer is not None:
                    watch.start_soon(run.observer.watch, copy.look)
                await copy.run(remote)
        except MultiFetchError as error:
            failure = error
        watch.cancel_scope.cancel()
    return failure


async def _watch_stdout(writer: Writer) -> None:
    """Ends everything once nobody reads: the registry may have nothing more to say for long."""
    await writer.wait_closed()
    raise BrokenPipeError


def make_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser("fetch-object", Texts(USAGE_LINES, ABOUT, DESCRIPTION, EPILOG, EXAMPLE))
    parser.add_argument(
        "ref",
        type=reference,
        metavar="remote",
        help="the repository, or the whole reference: docker.io/library/redis:latest; or a layout,"
        " oci:<folder> or oci-archive:<file>, also with :<tag> or @<digest> behind it",
    )
    parser.add_argument(
        "object",
        nargs="*",
        type=_word,
        help="a tag, a digest, @<digest> or <tag>@<digest>, then hints",
    )
    _add_object_flags(parser)
    add_progress_flag(parser)
    add_store_flags(parser)
    add_patience_flags(parser)
    add_common_flags(parser)
    return parser


def _add_object_flags(parser: CommandParser) -> None:
    """--output, --descriptor, --platform, --range and --max-size."""
    flags = parser.add_argument_group("the object")
    flags.add_argument(
        "-o",
        "--output",
        default=DASH,
        metavar="PATH",
        help=Shown(
            "write to this file, which gets its name once all is there and verified"
            " (default: stdout)",
            brief="write a file, once all is verified",
        ),
    )
    flags.add_argument(
        "--descriptor",
        action="store_true",
        help=Shown("write the descriptor as JSON, and no content"),
    )
    flags.add_argument(
        "--platform",
        metavar="OS/ARCH",
        help=Shown(
            "of an index, the manifest for this platform: <os>/<architecture>[/<variant>]",
            brief="of an index, that platform's manifest",
        ),
    )
    flags.add_argument(
        "--range",
        metavar="FIRST-[LAST]",
        help="these bytes of the content, which cannot be verified",
    )
    add_max_size_flag(flags)
