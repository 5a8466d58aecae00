"""``multi-fetch [flags] <remote>``: the worker's command line."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import trio

from multi_fetch.cli import lines
from multi_fetch.cli.arguments import (
    ENVIRONMENT_HELP,
    FAILURE,
    USAGE,
    add_common_flags,
    closed_stream,
    complain,
    reference,
    stream_failure,
)
from multi_fetch.cli.ceiling import add_max_size_flag, ceiling
from multi_fetch.cli.credentials import credentials
from multi_fetch.cli.help import CommandParser, Shown, Texts, software
from multi_fetch.cli.hosts import reach
from multi_fetch.cli.into import add_into_flag, into_settings, with_into
from multi_fetch.cli.logs import set_up_logging
from multi_fetch.cli.numbers import whole_number
from multi_fetch.cli.patience import add_patience_flags, patience
from multi_fetch.cli.progress import add_progress_flag, observer
from multi_fetch.cli.store import (
    PATHS,
    STORE_HELP,
    add_answers_flag,
    add_store_flags,
    store_settings,
    with_files,
    with_store,
)
from multi_fetch.errors import InvalidRequestError
from multi_fetch.limits import (
    DEFAULT_JOBS,
    DEFAULT_WINDOW,
    MAX_JOBS,
    MAX_LOOK_UP_THREADS,
    MAX_WINDOW,
)
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.frames import PROTOCOL_VERSION
from multi_fetch.protocol.names import ANYWHERE
from multi_fetch.protocol.wire import WIRES
from multi_fetch.remotes import open_remote
from multi_fetch.worker.pipes import STDIN_NAME, STDOUT_NAME, open_reader, open_writer
from multi_fetch.worker.serve import Settings, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from multi_fetch.remotes import Remote
    from multi_fetch.worker.pipes import Reader

STDOUT = 1

USAGE_LINES = """\
multi-fetch [flags] <remote>
       multi-fetch doctor <remote> | multi-fetch completion <shell>"""

ABOUT = """\
Fetch many objects from one repository of a registry. Each line of stdin asks
for one, '<object> [<hint>...]'; verified frames go to stdout (protocol.md).

  <remote>              redis, localhost:5000/app, oci:<folder>; or - where
                        each line names its own, as in ghcr.io/org/app:v1
  <object>              a tag, a digest, @<digest> or <tag>@<digest>
  <hint>                children:all, platform:linux/arm64, content:none...
"""

DESCRIPTION = """\
Fetch many objects from one repository of a registry. Each line of stdin asks
for one, as '<object> [<hint>...]':

  <object>              a tag, a digest, @<digest> or <tag>@<digest>
  <hint>
    mediatype:<type>      what it is
    size:<bytes>          how large it is
    digest:<digest>       what it must be
    platform:<os>/<architecture>[/<variant>]
                          of an index, the manifest for that platform
    range:<first>-[<last>]  a part of it, unverified
    children:all          what is below it too (or manifests, or blobs)
    content:none          the descriptor alone
    deadline:<duration>   how long this request may take

The answers are verified and go to stdout as length-prefixed MessagePack frames
(protocol.md). '!cancel <id>' as a line cancels what an earlier line asked for;
ids are line numbers. '!tags' lists the tags that there are, and
'!referrers <digest> [artifacttype:<type>]' what refers to a digest.

With - as the remote each object is a whole reference, as in redis:7 or
ghcr.io/org/app@<digest>, and '!tags' has a repository behind it.
"""

EPILOG = f"""\
exit status:
  0 all requests succeeded, 1 some failed, 2 usage, 3 the remote could not be
  used, 128+n ended by signal n

{ENVIRONMENT_HELP}{STORE_HELP}"""

EXAMPLE = """\
example:
  printf 'latest\\n' | multi-fetch redis | multi-fetch-unpack --into redis
"""

# What Docker's reading puts before a name without a slash.
FAMILIAR = "docker.io/library/"

# To whoever writes 'multi-fetch redis latest'.
STRAY = (
    "what is asked for is a line of stdin: echo 'latest' | multi-fetch <remote>; or take"
    " 'fetch-object <remote> <object>'"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    arguments = make_parser().parse_args(argv)
    ref: Reference = arguments.remote
    if problem := _remote_problem(ref) or _stream_problem(
        arguments.from_file,
        may_be_terminal=arguments.force
        or arguments.format == "jsonl"
        or arguments.into is not None,
    ):
        complain("multi-fetch", problem)
        return USAGE
    log = set_up_logging(arguments.log_level, arguments.log_format)
    try:
        remote = _open(arguments, ref)
    except InvalidRequestError as error:
        complain("multi-fetch", error.message)
        return USAGE
    settings = Settings(
        software=software(),
        jobs=arguments.jobs,
        window=arguments.window,
        is_ordered=arguments.ordered,
        timeout_seconds=arguments.timeout,
        wire=WIRES[arguments.format](),
        is_warmed_up=arguments.warm,
        is_content_in_files=arguments.answers == PATHS,
        is_gathered=arguments.into is not None,
        observer=observer(arguments.progress, ref.locator, log),
        ceiling=ceiling(arguments),
    )
    return _run_lines(arguments.from_file, remote, ref.locator, settings)


def _open(arguments: argparse.Namespace, ref: Reference) -> AbstractAsyncContextManager[Remote]:
    """The remote, of one repository or of all; behind a store, where there is one.

    Raises:
        InvalidRequestError: flags, files or the environment do not say how.
    """
    held, borne = credentials(arguments.authfile), patience(arguments)
    if ref.locator == ANYWHERE:
        from multi_fetch.cli.everywhere import open_everywhere

        remote = open_everywhere(arguments, borne, held)
    else:
        reached = reach(arguments, ref)
        remote = open_remote(ref, jobs=arguments.jobs, patience=borne, **held, **reached)
    into = into_settings(arguments, ref)
    store = store_settings(arguments, ref, into)
    if ref.scheme or store or into:
        from multi_fetch.cli.heap import share_one_heap

        share_one_heap()  # files are read by many threads
    if arguments.answers == PATHS:
        store = with_files(store)
    return with_into(with_store(remote, store), into)


def _run_lines(
    from_file: str,
    remote: AbstractAsyncContextManager[Remote],
    locator: str,
    settings: Settings,
) -> int:
    """Answers the lines; returns the exit status."""
    name = lines.name_of(from_file)
    with ExitStack() as stack:
        try:
            fd = stack.enter_context(lines.opened(from_file))
        except OSError as error:
            complain("multi-fetch", f"cannot read {name}: {error.strerror}")
            return USAGE
        status = FAILURE
        lines.invite(fd)
        try:
            status = trio.run(_run, partial(open_reader, fd, name), remote, locator, settings)
        except* OSError as group:
            complain("multi-fetch", stream_failure(group, source=name))
        return status


async def _run(
    source: Callable[[], AbstractContextManager[Reader]],
    opening: AbstractAsyncContextManager[Remote],
    locator: str,
    settings: Settings,
) -> int:
    # A look-up is a thread's, also after its job has given up: a name whose servers are dead holds
    # one for as long as the system asks them, and no other name is to wait for that.
    threads = trio.to_thread.current_default_thread_limiter()
    threads.total_tokens = max(threads.total_tokens, min(2 * settings.jobs, MAX_LOOK_UP_THREADS))
    with source() as reader, open_writer(STDOUT) as writer:
        async with opening as remote:
            return await serve(remote, locator, reader, writer, settings)


def _remote(text: str) -> Reference:
    return Reference(ANYWHERE) if text == ANYWHERE else reference(text)


def _remote_problem(ref: Reference) -> str:
    if not ref.object:
        return ""
    asked = f"{ref.tag}@{ref.digest}".strip("@")
    host = ref.locator.removeprefix(FAMILIAR)
    if host != ref.locator and asked.isdecimal() and ("." in host or host == "localhost"):
        return f"{host}:{asked} is a registry: name a repository in it, as in {host}:{asked}/app"
    return (
        f"{ref} names an object, but the remote is a whole repository:"
        f" write 'multi-fetch {ref.locator}' and {asked!r} as a line of stdin"
    )


def _stream_problem(from_file: str, *, may_be_terminal: bool) -> str:
    read = [(lines.STDIN, STDIN_NAME)] if from_file == lines.STDIN_FILE else []
    if problem := closed_stream(*read, (STDOUT, STDOUT_NAME)):
        return problem
    if os.isatty(STDOUT) and not may_be_terminal:
        return (
            "stdout is a terminal, and the answers are binary: send them to a program or a file,"
            " or add --force"
        )
    return ""


def make_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        "multi-fetch", Texts(USAGE_LINES, ABOUT, DESCRIPTION, EPILOG, EXAMPLE, STRAY)
    )
    parser.add_argument(
        "remote",
        type=_remote,
        help="the repository, as in docker.io/library/redis, redis or localhost:5000/app; or a"
        " layout, oci:<folder> or oci-archive:<file>; or - where each line names its own",
    )
    _add_run_flags(parser)
    _add_wire_flags(parser)
    add_progress_flag(parser)
    add_store_flags(parser)
    add_into_flag(parser)
    add_patience_flags(parser)
    add_common_flags(parser)
    return parser


def _add_run_flags(parser: CommandParser) -> None:
    """--jobs, --window, --warm, --ordered and --max-size."""
    flags = parser.add_argument_group("requests")
    lines.add_from_file_flag(flags)
    flags.add_argument(
        "--jobs",
        type=whole_number(1, MAX_JOBS),
        default=DEFAULT_JOBS,
        metavar="N",
        help=Shown(f"requests at the same time (default: %(default)s, at most {MAX_JOBS})"),
    )
    flags.add_argument(
        "--window",
        type=whole_number(1, MAX_WINDOW),
        default=DEFAULT_WINDOW,
        metavar="N",
        help="requests that may be open at the same time (default: %(default)s)",
    )
    flags.add_argument(
        "--warm",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="while the first request is awaited, connect and get a token: one GET of /v2/ for the"
        " registry (default: --warm)",
    )
    flags.add_argument("--ordered", action="store_true", help="answer in the order of the requests")
    add_max_size_flag(flags)


def _add_wire_flags(parser: CommandParser) -> None:
    """--format, --protocol-version and --force."""
    flags = parser.add_argument_group("answers")
    flags.add_argument(
        "--format",
        choices=WIRES,
        default="msgpack",
        metavar="FORMAT",
        help=Shown(
            "msgpack: frames; jsonl: a JSON object a line (default: %(default)s)",
            brief="msgpack, or jsonl: a JSON object a line (%(default)s)",
        ),
    )
    flags.add_argument(
        "--protocol-version",
        type=int,
        choices=(PROTOCOL_VERSION,),
        default=PROTOCOL_VERSION,
        metavar="N",
        help="the version that the caller can read (default: the newest, %(default)s)",
    )
    flags.add_argument(
        "--force", action="store_true", help="write frames to a terminal all the same"
    )
    add_answers_flag(flags)
