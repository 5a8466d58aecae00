"""``multi-fetch-store list|verify|prune <folder>``: what is in a store, is it sound, what may go.

All of it may be done beside workers that use the store.

Signals end it at once, and are listened to by nobody: names go before what they stand for, each
file is the old one or the new one at any instant, and locks go with the process. So there is
nothing that an end in order could do better; the next run goes on with what is there.
"""

from __future__ import annotations

import argparse
import logging
import re
import time
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.advice import about_file
from multi_fetch.cli.arguments import FAILURE, SUCCESS, USAGE, closed_stream, complain
from multi_fetch.cli.help import CommandParser, Shown, Texts
from multi_fetch.cli.logs import set_up_logging
from multi_fetch.cli.numbers import size
from multi_fetch.cli.unpack_sinks import STDOUT, write_all
from multi_fetch.cli.visible import visible, visible_json
from multi_fetch.errors import InvalidRequestError, MultiFetchError, UnsupportedError
from multi_fetch.oci.digest import Digest
from multi_fetch.protocol.duration import parse_duration
from multi_fetch.store.catalogue import Catalogue
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.names import Names
from multi_fetch.store.prune import Wanted, prune
from multi_fetch.store.survey import is_sound, kept_in, roots_in
from multi_fetch.worker.pipes import STDOUT_NAME
from multi_fetch.worker.serve import STDOUT_CLOSED_STATUS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

ACTIONS: Final = ("list", "verify", "prune")

ABOUT: Final = """\
Look after a store, as --store makes them: an OCI image layout.

  list                  what is there: digest, size, when last used, tags
  verify                hash all of it, and name what is damaged
  prune                 remove what was not used for long; says what

  <folder>              the store; workers may use it meanwhile
"""

DESCRIPTION: Final = (
    ABOUT
    + """
Without a flag, prune removes what no tag reaches and nobody used in the last
two hours, and unfinished files of which nobody wrote for a day. When content
was last used is known to about an hour.
"""
)

EPILOG: Final = """\
exit status:
  0 done, and all is sound; 1 something is damaged, or could not be done,
  2 wrong usage, 128+n ended by signal n: the store stays sound
"""

EXAMPLE: Final = """\
example:
  multi-fetch-store prune --older-than 30d --max-size 10GB ~/.cache/multi-fetch
"""

TEXTS: Final = Texts(
    usage="multi-fetch-store [flags] list|verify|prune <folder>",
    about=ABOUT,
    description=DESCRIPTION,
    epilog=EPILOG,
    example=EXAMPLE,
)

DAYS = re.compile(r"([0-9]{1,6})d", re.ASCII)
DAY_SECONDS: Final = 24 * 3600.0


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is said of one thing, as JSON. Scripts rely on the names.

    Attributes:
        digest: of content.
        size: of it, in bytes.
        used: when it was last used, in seconds since 1970.
        tags: that stand for it.
        more_tags: how many more there are, of which nothing is said.
        name: that is no longer in index.json.
        file: that is unfinished.
        verdict: ``sound``, ``damaged``, ``missing``, ``removed``, ``unknown`` where it cannot be
            hashed, ``left`` where it cannot be removed, or ``unread`` where it cannot be read, or
            names too much to look into, so that what it may name stays.
    """

    verdict: str = ""
    digest: Digest | None = None
    size: int | None = None
    used: int | None = None
    tags: tuple[str, ...] = ()
    more_tags: int = 0
    name: str = ""
    file: str = ""

    def words(self) -> str:
        """The same for people."""
        used = "" if self.used is None else time.strftime("%FT%TZ", time.gmtime(self.used))
        size = "" if self.size is None else f"{self.size:>12}"
        more = f"and {self.more_tags} more" if self.more_tags else ""
        parts = (self.verdict, self.digest, size, used, *self.tags, more, self.name, self.file)
        return "  ".join(str(part) for part in parts if part)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    set_up_logging("warning", "text")
    if problem := closed_stream((STDOUT, STDOUT_NAME)) or _misplaced(arguments):
        complain(parser.prog, problem)
        return USAGE
    folder = StoreFolder(arguments.folder)
    try:
        folder.check(may_be_new=False)
    except InvalidRequestError as error:
        complain(parser.prog, error.message)
        return USAGE
    try:
        return _do(folder, arguments)
    except BrokenPipeError:
        return STDOUT_CLOSED_STATUS
    except (MultiFetchError, OSError) as error:
        problem = f"{folder.name}: {error}"
        if isinstance(error, OSError) and error.filename == STDOUT_NAME:
            problem = f"cannot write to stdout: {error.strerror}{about_file(error)}"
        complain(parser.prog, problem)
        return FAILURE


def _do(folder: StoreFolder, arguments: argparse.Namespace) -> int:
    told = {"list": _listed, "verify": _verified, "prune": _pruned}[arguments.action]
    status = SUCCESS
    for line in told(folder, arguments):
        # Names are whatever somebody wrote into index.json, or called a file.
        words = visible(line.words()).encode("utf-8", "backslashreplace")
        write_all(STDOUT, (visible_json(line) if arguments.json else words) + b"\n")
        if line.verdict in {"damaged", "missing", "unread", "left"}:
            status = FAILURE
    return status


def _listed(folder: StoreFolder, arguments: argparse.Namespace) -> Iterator[Line]:
    with Catalogue(roots_in(folder), kept_in(folder)) as catalogue:
        for each in catalogue.listed():
            kept = each.kept
            yield Line(
                digest=kept.digest,
                size=kept.size,
                used=int(kept.used),
                tags=each.names,
                more_tags=each.more,
            )


def _verified(folder: StoreFolder, arguments: argparse.Namespace) -> Iterator[Line]:
    """A line for all that is not sound, or with --json for all."""
    with Catalogue(roots_in(folder), kept_in(folder)) as catalogue:
        for each in catalogue.listed():
            kept = each.kept
            try:
                verdict = "sound" if is_sound(folder, kept.digest) else "damaged"
            except UnsupportedError:
                verdict = "unknown"
            except (MultiFetchError, OSError) as error:
                log.warning("this cannot be read", extra={"error": str(error)})
                verdict = "unread"
            if verdict == "damaged" and arguments.remove:
                folder.try_remove(kept.digest)
            elif verdict == "damaged":
                folder.forget(kept.digest)
            if verdict != "sound" or arguments.json:
                yield Line(verdict=verdict, digest=kept.digest, size=kept.size)
        for entry in catalogue.missing():
            yield Line(verdict="missing", digest=entry.digest, name=entry.name)


def _pruned(folder: StoreFolder, arguments: argparse.Namespace) -> Iterator[Line]:
    wanted = Wanted(
        unused_seconds=arguments.older_than,
        most_bytes=arguments.max_size,
        may_names_go=arguments.tagged,
    )
    if not arguments.dry_run:
        folder.prepare()  # for a layout that others made
    with prune(folder, Names(folder), wanted, is_dry=arguments.dry_run) as done:
        for kept in done.dropped():
            yield Line(digest=kept.digest, size=kept.size, used=int(kept.used), verdict="removed")
        for entry in done.struck():
            yield Line(digest=entry.digest, name=entry.name, verdict="removed")
        for rest in done.rests():
            yield Line(file=rest, verdict="removed")
        for digest in done.refused():
            yield Line(digest=digest, verdict="left")
        if done.unread is not None:
            yield Line(digest=done.unread, verdict="unread")


def _misplaced(arguments: argparse.Namespace) -> str:
    """What to complain of, if a flag is for another action."""
    belong = {"remove": "verify", "older_than": "prune", "max_size": "prune", "tagged": "prune"}
    for name, action in {**belong, "dry_run": "prune"}.items():
        if getattr(arguments, name) not in {None, False} and arguments.action != action:
            flag = name.replace("_", "-")
            return f"--{flag} is for '{action}': leave it out, or write '{action}'"
    if arguments.tagged and arguments.older_than is None and arguments.max_size is None:
        return "--tagged alone would take all tags: add --older-than <age> or --max-size <size>"
    return ""


def make_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser("multi-fetch-store", TEXTS)
    parser.add_argument("action", choices=ACTIONS, help="list, verify or prune")
    parser.add_argument("folder", metavar="DIR", help="the store")
    parser.add_argument("--json", action="store_true", help=Shown("a JSON object a line"))
    checking = parser.add_argument_group("verify")
    checking.add_argument("--remove", action="store_true", help=Shown("remove what is damaged"))
    flags = parser.add_argument_group("prune")
    flags.add_argument(
        "--older-than",
        type=age,
        metavar="AGE",
        help=Shown("what was not used for so long, as in 30d or 12h"),
    )
    flags.add_argument(
        "--max-size",
        type=size,
        metavar="SIZE",
        help=Shown(
            "least recently used first, until no more is left than this, as in 10GB or 512MiB",
            brief="until no more than this is left, as in 10GB",
        ),
    )
    flags.add_argument(
        "--tagged",
        action="store_true",
        help=Shown(
            "tags too, with all that no other tag reaches: without it nothing goes that a tag"
            " reaches",
            brief="tags too, with what they alone reach",
        ),
    )
    flags.add_argument(
        "--dry-run", action="store_true", help=Shown("only say what would be removed")
    )
    return parser


def age(text: str) -> float:
    """A type of flag: days, ``30d``, or a duration; in seconds."""
    if match := DAYS.fullmatch(text):
        return int(match[1]) * DAY_SECONDS
    try:
        return parse_duration(text)
    except InvalidRequestError as error:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no age: as in 30d, 12h") from error
