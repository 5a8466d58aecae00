"""``fetch-object [flags] <remote> <object> [<hint>...]``: one object, its raw bytes to stdout.

Content that fits one data frame of the worker is verified before any of it is written; of larger
content a part may have been written when it fails, which the exit status tells.
"""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Final

import msgspec
import trio

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
from multi_fetch.cli.credentials import credentials
from multi_fetch.cli.help import CommandParser, Texts
from multi_fetch.cli.hosts import reach
from multi_fetch.cli.logs import set_up_logging
from multi_fetch.cli.patience import add_patience_flags, patience
from multi_fetch.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    MultiFetchError,
    ObjectRequiredError,
    RequestCancelledError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES
from multi_fetch.oci.descriptor import encode_hook
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import Children, Request, parse_request
from multi_fetch.remotes import open_remote
from multi_fetch.verify import Verifier, hold
from multi_fetch.worker.foreign import describe_target, open_target
from multi_fetch.worker.job import Target
from multi_fetch.worker.judge import check_held, check_pin, check_verifiable, held_limit, judge_of
from multi_fetch.worker.pipes import STDOUT_NAME, open_writer
from multi_fetch.worker.serve import SIGNALS, STDOUT_CLOSED_STATUS
from multi_fetch.worker.tree import branch, is_index
from multi_fetch.worker.window import REMOTE_CODES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from multi_fetch.cli.hosts import Reach
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.remotes import Remote
    from multi_fetch.worker.pipes import Writer

STDOUT: Final = 1

log = logging.getLogger(__name__)

USAGE_LINES = """\
fetch-object [flags] <remote> <object> [<hint>...]
       fetch-object [flags] <remote>:<tag>[@<digest>]
       fetch-object [flags] <remote>@<digest>"""

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

{ENVIRONMENT_HELP}"""

EXAMPLE = """\
example:
  fetch-object redis latest platform:linux/arm64 | jq .layers
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    arguments = make_parser().parse_args(argv)
    set_up_logging(arguments.log_level, arguments.log_format)
    try:
        request = _request(arguments.ref, arguments.object)
        reached = reach(arguments, arguments.ref)
    except InvalidRequestError as error:
        complain("fetch-object", error.message)
        return USAGE
    if problem := closed_stream((STDOUT, STDOUT_NAME)):
        complain("fetch-object", problem)
        return USAGE
    status = FAILURE
    try:
        status = trio.run(_run, arguments, request, reached)
    except* BrokenPipeError:
        status = STDOUT_CLOSED_STATUS
    except* OSError as group:
        complain("fetch-object", stream_failure(group))
    return status


def _request(ref: Reference, words: list[str]) -> Request:
    """The object, from one of the two forms of the command line."""
    if not words:
        if not ref.object:
            raise ObjectRequiredError(
                f"{ref} names no object: write '{ref}:latest', or the object behind a blank"
            )
        return parse_request(ref.object, [])
    if ref.object:
        asked, word = f"{ref.tag}@{ref.digest}".strip("@"), words[0][:80]
        raise InvalidRequestError(
            f"{ref} names an object already: leave out {word!r}, or, if it is a hint, write"
            f" 'fetch-object {ref.locator} {asked} {word}'"
        )
    request = parse_request(words[0], words[1:])
    if request.children is not Children.NONE:
        raise InvalidRequestError(
            "children: asks for many objects, which is what multi-fetch is for"
        )
    return request


async def _run(arguments: argparse.Namespace, request: Request, reached: Reach) -> int:
    """Fetches under the timeout and the signals; logs what failed."""
    ref: Reference = arguments.ref
    timeout_seconds: float | None = arguments.timeout
    ended_by = 0
    error: MultiFetchError | None = None

    async def watch_signals() -> None:
        nonlocal ended_by
        with trio.open_signal_receiver(*SIGNALS) as signals:
            async for number in signals:
                ended_by = number
                scope.cancel()

    with trio.move_on_after(timeout_seconds or float("inf")) as scope:
        async with trio.open_nursery() as watch:
            watch.start_soon(watch_signals)
            error = await _fetch(arguments, request, reached)
            watch.cancel_scope.cancel()
    if ended_by:
        error = RequestCancelledError(f"ended by {signal.Signals(ended_by).name}")
    elif scope.cancelled_caught:
        error = DeadlineExceededError(
            f"not done when the timeout of {timeout_seconds:g} s was over"
        )
    if error is None:
        return SUCCESS
    asked = Target.of(request, ref.locator).ref
    log.error(
        "fetch failed",
        extra={"ref": str(asked), "code": error.code, "error": error.message, **error.detail()},
    )
    if ended_by:
        return 128 + ended_by
    return UNUSABLE if error.code in REMOTE_CODES else FAILURE


async def _fetch(
    arguments: argparse.Namespace, request: Request, reached: Reach
) -> MultiFetchError | None:
    """Fetches the object; returns why it failed.

    Raises:
        BaseExceptionGroup: of OSErrors: stdout is closed, or takes no more.
    """
    ref: Reference = arguments.ref
    held, borne = credentials(arguments.authfile), patience(arguments)
    failure: MultiFetchError | None = None
    with open_writer(STDOUT) as writer:
        async with trio.open_nursery() as watch:
            watch.start_soon(_watch_stdout, writer)
            try:
                async with open_remote(ref, patience=borne, **held, **reached) as remote:
                    await _copy(remote, ref.locator, request, writer)
            except MultiFetchError as error:
                failure = error
            watch.cancel_scope.cancel()
    return failure


async def _watch_stdout(writer: Writer) -> None:
    """Ends everything once nobody reads: the registry may have nothing more to say for long."""
    await writer.wait_closed()
    raise BrokenPipeError


async def _copy(remote: Remote, locator: str, request: Request, writer: Writer) -> None:
    check_verifiable(request)
    target = Target.of(request, locator)
    pinned: Request | None = request
    for _ in range(MAX_INDEX_DEPTH + 1):
        step = _copy_content if request.is_content_wanted else _describe
        further = await step(remote, target, request, writer, pinned)
        if further is None:
            return
        target, pinned = further, None
    raise UnsupportedError(
        f"{request.object} is an index of indexes, more than {MAX_INDEX_DEPTH} deep"
    )


async def _describe(
    remote: Remote, target: Target, request: Request, writer: Writer, pinned: Request | None
) -> Target | None:
    if target.embedded is not None:
        await _write_descriptor(target.described, writer)
        return None
    _, found = await describe_target(remote, target)
    descriptor = target.described or found
    if pinned is not None:
        check_pin(pinned, descriptor)
    if request.platform is not None and is_index(descriptor):
        # By its digest: a tag may have moved since it was resolved.
        ref = Reference(target.ref.locator, f"@{descriptor.digest}")
        async with remote.open(
            ref, media_types=(descriptor.media_type,), size=descriptor.size
        ) as opened:
            verifier = Verifier(opened.descriptor.digest, opened.descriptor.size)
            content, is_whole = await hold(opened.chunks, verifier, limit=MAX_MANIFEST_BYTES)
        check_held(descriptor, is_whole=is_whole)
        return branch(target, descriptor, content, request.platform)
    await _write_descriptor(descriptor, writer)
    return None


async def _write_descriptor(descriptor: Descriptor | None, writer: Writer) -> None:
    document = msgspec.json.encode(descriptor, enc_hook=encode_hook)
    await writer.write([document, b"\n"])


async def _copy_content(
    remote: Remote, target: Target, request: Request, writer: Writer, pinned: Request | None
) -> Target | None:
    if target.embedded is not None:
        await writer.write([target.embedded])
        return None
    async with open_target(remote, target, request.byte_range) as opened:
        if pinned is not None:
            check_pin(pinned, opened.descriptor)
        judge = judge_of(request, opened.descriptor)
        held, is_whole = await hold(opened.chunks, judge, limit=held_limit(opened.descriptor))
        if request.byte_range is None:
            check_held(opened.descriptor, is_whole=is_whole)
        if is_whole and request.platform is not None and is_index(opened.descriptor):
            return branch(target, opened.descriptor, held, request.platform)
        await writer.write([held])
        if not is_whole:
            async for chunk in opened.chunks:
                judge.update(chunk)
                await writer.write([chunk])
            judge.finish()
    return None


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
        "object", nargs="*", help="a tag, a digest, @<digest> or <tag>@<digest>, then hints"
    )
    add_patience_flags(parser)
    add_common_flags(parser)
    return parser
