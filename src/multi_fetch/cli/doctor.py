"""``multi-fetch doctor <remote>``: says step by step what works and what does not, and what to do.

It asks as the worker would, with the same hosts, proxies, certificates and credentials, and tells
which they are. Nothing is fetched but a manifest or two and a byte.
"""

from __future__ import annotations

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
from multi_fetch.cli.checkup import Checkup, Finding, Verdict
from multi_fetch.cli.checkup_layout import check_layout
from multi_fetch.cli.checkup_registry import Asking, check_host
from multi_fetch.cli.credentials import credentials
from multi_fetch.cli.help import CommandParser, Shown, Texts
from multi_fetch.cli.hosts import folders_of, reach
from multi_fetch.cli.logs import set_up_logging
from multi_fetch.cli.unpack_sinks import STDOUT, write_all
from multi_fetch.errors import DeadlineExceededError, InvalidRequestError
from multi_fetch.registry.credentials import Credential
from multi_fetch.worker.pipes import STDOUT_NAME
from multi_fetch.worker.serve import STDOUT_CLOSED_STATUS, heard_signals

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from multi_fetch.cli.hosts import Reach
    from multi_fetch.oci.reference import Reference
    from multi_fetch.registry.hosts import Host

ABOUT: Final = """\
Say step by step what works and what does not on the way to a remote, and what
to do about it. One line a step: ok, warn or fail.

  <remote>              as for multi-fetch; with :<tag> or @<digest> behind it,
                        that object is looked at
"""

STEPS: Final = """
steps:
  name         what the remote is read as
  hosts        which hosts.toml or certificates, and so which hosts
  proxy, addresses, connection, tls
               of each host, or of the proxy before it
  api          whether it is a registry, and what it wants to know
  credentials, token
               where they come from, whose they are, what they are good for
  tags, object, range, ratelimit, referrers
               what can be asked for
  layout, content
               of a folder or archive instead
"""

EPILOG: Final = f"""\
exit status:
  0 all is well, or works; 1 something does not, 2 wrong usage or settings,
  3 the remote cannot be used, 128+n ended by signal n

{ENVIRONMENT_HELP}"""

TEXTS: Final = Texts(
    usage="multi-fetch doctor [flags] <remote>",
    about=ABOUT,
    description=ABOUT + STEPS,
    epilog=EPILOG,
    example="example:\n  multi-fetch doctor ghcr.io/org/app:latest\n",
)


class Diagnosis(msgspec.Struct, frozen=True):
    """What --json prints."""

    remote: str
    exit_status: int
    findings: list[Finding]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    arguments = make_parser().parse_args(argv)
    set_up_logging(arguments.log_level, arguments.log_format)
    if problem := closed_stream((STDOUT, STDOUT_NAME)):
        complain("multi-fetch doctor", problem)
        return USAGE
    findings: list[Finding] = []

    def report(finding: Finding) -> None:
        before = findings[-1].host if findings else ""
        findings.append(finding)
        if not arguments.json:
            head = f"{finding.host}\n" if finding.host not in {"", before} else ""
            write_all(STDOUT, f"{head}{finding.lines()}".encode())

    status = FAILURE
    try:
        status = _examine(arguments, report, findings)
        if arguments.json:
            diagnosis = Diagnosis(str(arguments.remote), status, findings)
            write_all(STDOUT, msgspec.json.encode(diagnosis) + b"\n")
    except* BrokenPipeError:
        status = STDOUT_CLOSED_STATUS
    except* OSError as group:
        complain("multi-fetch doctor", stream_failure(group))
        status = FAILURE
    return status


def _examine(
    arguments: argparse.Namespace, report: Callable[[Finding], None], findings: list[Finding]
) -> int:
    """Takes all steps; returns the exit status."""
    ref: Reference = arguments.remote
    checkup = Checkup(report)
    checkup.ok("name", str(ref))
    reached: Reach | None = None
    if not ref.scheme:
        try:
            reached = _reach(checkup, arguments, ref)
        except InvalidRequestError as error:
            checkup.fail("hosts", error.message, "mend the setting that is named here", error.code)
            return USAGE
    is_usable, ended_by = trio.run(_run_until_signal, arguments, ref, reached, report)
    if ended_by:
        return 128 + ended_by
    if not is_usable:
        return UNUSABLE
    has_failed = any(finding.verdict is Verdict.FAIL for finding in findings)
    return FAILURE if has_failed else SUCCESS


def _reach(checkup: Checkup, arguments: argparse.Namespace, ref: Reference) -> Reach:
    """Which hosts there are, and why."""
    from multi_fetch.registry.hosts_file import find_folder

    folders = folders_of(arguments)
    folder = find_folder(folders, ref.hostname) if folders else None
    reached = reach(arguments, ref)
    places = ", then ".join(_told(host) for host in reached["hosts"])
    why = f"by {folder}" if folder is not None else "no hosts.toml or certificates for it"
    checkup.ok("hosts", f"{places}; {why}")
    return reached


def _told(host: Host) -> str:
    able = [name for name in ("pull", "resolve") if getattr(host, f"may_{name}")]
    kind = f" (mirror, {' and '.join(able) or 'for nothing'})" if host.namespace else ""
    return f"{host.url}{host.root}{kind}"


async def _run_until_signal(
    arguments: argparse.Namespace,
    ref: Reference,
    reached: Reach | None,
    report: Callable[[Finding], None],
) -> tuple[bool, int]:
    """Takes the steps, as ``_run``; tells by which signal they were ended too, or 0.

    A credential helper is not left behind.
    """
    is_usable, ended_by = False, 0

    async def watch_signals() -> None:
        nonlocal ended_by
        with trio.open_signal_receiver(*heard_signals()) as signals:
            async for number in signals:
                ended_by = number
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_signals)
        is_usable = await _run(arguments, ref, reached, report)
        nursery.cancel_scope.cancel()
    return is_usable, ended_by


async def _run(
    arguments: argparse.Namespace,
    ref: Reference,
    reached: Reach | None,
    report: Callable[[Finding], None],
) -> bool:
    """Takes the steps that ask somebody, under the timeout; tells whether the remote is usable."""
    seconds: float | None = arguments.timeout
    is_usable = False
    with trio.move_on_after(seconds or float("inf")) as scope:
        if reached is None:
            return await check_layout(Checkup(report), ref)
        held = credentials(arguments.authfile)
        has_login = bool(held["username"] or held["password"])
        own = Credential(username=held["username"], password=held["password"])
        asking = Asking(ref, own if has_login else None, held["keychain"], reached["proxies"])
        # Who may only pull comes behind who says what a tag stands for.
        for host in sorted(reached["hosts"], key=lambda each: not each.may_resolve):
            is_usable |= await check_host(Checkup(report, host.url), host, asking)
    if scope.cancelled_caught:
        error = DeadlineExceededError(
            f"not done when the timeout of {seconds:g} s was over: raise it"
        )
        Checkup(report).fail_by("timeout", error)
    return is_usable


def make_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser("multi-fetch doctor", TEXTS)
    parser.add_argument(
        "remote", type=reference, help="the repository or layout, with or without an object"
    )
    parser.add_argument(
        "--json", action="store_true", help=Shown("print one JSON object, at the end")
    )
    add_common_flags(parser)
    # The findings say what a warning would.
    parser.set_defaults(log_level="error")
    return parser
