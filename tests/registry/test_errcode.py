"""A refusal becomes the right error, with the registry's words and without its tricks."""

import json
import subprocess
import sys
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch import errors
from multi_fetch.advice import NEEDS_TLS
from multi_fetch.registry.concealment import secrets_of, telling
from multi_fetch.registry.errcode import (
    OF_A_FOREIGN_URL,
    OF_A_REDIRECT,
    OF_THE_HOST,
    error_of,
    parse_retry_after,
    printable,
    retry_after_of,
    without_advice,
)

WHAT = "GET https://registry.example/v2/a/manifests/v1"


def refusal(status: int, body: bytes = b"", **headers: str) -> errors.MultiFetchError:
    return error_of(status, headers, body, what=WHAT, now=0.0)


@pytest.mark.parametrize(
    ("status", "leaf"),
    [
        (400, errors.RegistryError),
        (401, errors.UnauthorizedError),
        (403, errors.DeniedError),
        (404, errors.NotFoundError),
        (405, errors.RegistryError),
        (408, errors.UnavailableError),
        (416, errors.RegistryError),
        (418, errors.RegistryError),
        (429, errors.RateLimitedError),
        (500, errors.UnavailableError),
        (501, errors.RegistryError),
        (502, errors.UnavailableError),
        (503, errors.UnavailableError),
        (505, errors.RegistryError),
        (599, errors.UnavailableError),
        (204, errors.RegistryError),
        (304, errors.RegistryError),
        (999, errors.RegistryError),
    ],
)
def test_a_status_has_its_leaf(status: int, leaf: type[errors.MultiFetchError]) -> None:
    error = refusal(status)
    assert type(error) is leaf
    assert error.status == status
    assert WHAT in error.message
    assert str(status) in error.message


def test_the_registrys_own_code_and_message_are_told() -> None:
    entries = [
        {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {"Tag": "v1"}},
        {"code": "SECOND", "message": "not told"},
    ]
    error = refusal(404, json.dumps({"errors": entries}).encode())
    assert error.registry_code == "MANIFEST_UNKNOWN"
    assert error.message == (
        f"{WHAT}: 404 Not Found: MANIFEST_UNKNOWN: manifest unknown; check the name, and log in if"
        " it is a private one"
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        (b"<html><h1>502</h1>\n<p>Bad gateway</p></html>", ": 502 Bad gateway"),
        (b'{"details": "incorrect"}', ': {"details": "incorrect"}'),
        (b'{"errors": []}', ': {"errors": []}'),
        (b'{"errors": null}', ': {"errors": null}'),
        (b'{"errors": [{"code": 5}]}', ': {"errors": [{"code": 5}]}'),
        (b'{"errors": [{"code": null, "message": "m"}]}', ": m"),
        (b"\xff\xfe broken", ": \ufffd\ufffd broken"),
        (b'{"errors": [{"code": "CUT', ': {"errors": [{"code": "CUT'),
    ],
)
def test_any_other_body_is_told_as_text(body: bytes, text: str) -> None:
    error = refusal(502, body)
    assert error.message == f"{WHAT}: 502 Bad Gateway{text}; try again later"
    assert error.registry_code is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            (
                b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>'
                b"Request has expired</Message><X-Amz-Expires>900</X-Amz-Expires>"
                b"<RequestId>77</RequestId><HostId>h=</HostId></Error>"
            ),
            "AccessDenied: Request has expired",
        ),
        (
            (
                b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>SignatureDoesNotMatch</Code>"
                b"<Message>Access denied.</Message><StringToSign>s3cret</StringToSign></Error>"
            ),
            "SignatureDoesNotMatch: Access denied.",
        ),
        (
            (
                b'\xef\xbb\xbf<?xml version="1.0"?><Error><Code>AuthenticationFailed</Code>'
                b"<Message>Server failed.\nRequestId:1</Message><AuthenticationErrorDetail>s3cret"
                b"</AuthenticationErrorDetail></Error>"
            ),
            "AuthenticationFailed: Server failed. RequestId:1",
        ),
        (b'<Error xmlns="x">\n <Code>NoSuchKey</Code>\n</Error>', "NoSuchKey"),
        (b"<Error><Code></Code><Message>m</Message></Error>", "m"),
        (b"<Error><Code>Cut</Code><Mess", "Cut"),
        (b"<Error><Message>first</Message></Error>", "first"),
        (b"<Error>" * 900, ""),
    ],
)
def test_a_stores_own_code_and_message_are_told_and_nothing_of_what_was_signed(
    body: bytes, text: str
) -> None:
    error = refusal(503, body)
    said = f": {text}" if text else ""
    assert error.message == f"{WHAT}: 503 Service Unavailable{said}; try again later"
    assert error.registry_code is None


def test_control_characters_and_floods_stay_out_of_messages() -> None:
    entry = {"code": "C\x1b[31m" + "X" * 900, "message": "a\r\nb\x07\x9b" + "m" * 9_000}
    error = refusal(400, json.dumps({"errors": [entry]}).encode())
    assert error.message.isprintable()
    assert len(error.message) < 1_000
    assert error.registry_code is not None
    assert len(error.registry_code) < 100


def test_401_and_403_say_what_to_do() -> None:
    assert "give a user name" in refusal(401).message
    assert "credentials" in refusal(403).message


def test_a_proxy_that_wants_a_login_is_not_the_operators_mistake() -> None:
    assert refusal(407).message.endswith("or of the proxy in a hosts.toml")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("advice", [OF_A_REDIRECT, OF_A_FOREIGN_URL])
def test_who_has_nothing_to_do_with_a_login_is_no_reason_to_log_in(
    status: int, advice: Mapping[int, str]
) -> None:
    error = error_of(status, {}, b"", what=WHAT, now=0.0, advice=advice)
    assert "no login goes" in error.message
    assert "docker login" not in error.message
    assert "log in" not in error.message


@pytest.mark.parametrize("advice", [OF_THE_HOST, OF_A_REDIRECT, OF_A_FOREIGN_URL])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 429, 500])
def test_an_advice_can_be_taken_from_the_message(status: int, advice: Mapping[int, str]) -> None:
    error = error_of(status, {}, b"no", what=WHAT, now=0.0, advice=advice)
    without = without_advice(error.message)
    assert without.endswith(": no")
    assert without_advice(without) == without


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("9" * 10, None),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:02:00 -0000", 60.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_from_now_or_nothing(text: str, seconds: float | None) -> None:
    assert parse_retry_after(text, now=60.0) == seconds


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Thu, 01 Jan 1970 05:00:00 GMT", 30.0),
        ("Thu, 01 Jan 1970 06:00:00 GMT", 0.0),
        ("", 18_000.0),
        ("today", 18_000.0),
    ],
)
def test_a_date_is_read_by_the_clock_of_who_wrote_it(date: str, seconds: float) -> None:
    headers = {"retry-after": "Thu, 01 Jan 1970 05:00:30 GMT", "date": date}
    assert retry_after_of(headers, now=30.0) == seconds
    assert error_of(429, headers, b"", what=WHAT, now=30.0).retry_after == seconds
    assert retry_after_of({"retry-after": "7", "date": date}, now=30.0) == 7.0


def test_a_date_is_none_where_no_file_descriptor_is_left_to_read_it_with() -> None:
    """What reads it is imported when the first one comes, and that may be late."""
    code = """if True:
        import os, resource
        from multi_fetch.registry.errcode import parse_retry_after
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        date, taken = "Thu, 01 Jan 1970 00:02:00 GMT", []
        try:
            while True:
                taken.append(os.open("/dev/null", 0))
        except OSError:
            print(parse_retry_after(date, now=60.0))
        os.close(taken.pop())
        os.close(taken.pop())
        print(parse_retry_after(date, now=60.0))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["None", "60.0"], done.stderr


def test_retry_after_is_an_attribute_of_the_error() -> None:
    error = error_of(429, {"retry-after": "7"}, b"", what=WHAT, now=0.0)
    assert error.retry_after == 7.0
    assert error.retryable


@given(st.binary(max_size=200), st.text(max_size=40))
def test_any_body_and_any_retry_after_make_an_error(body: bytes, retry_after: str) -> None:
    error = error_of(500, {"retry-after": retry_after}, body, what=WHAT, now=0.0)
    assert isinstance(error, errors.UnavailableError)
    assert "\n" not in error.message


def test_printable_cuts_and_cleans() -> None:
    assert printable(" a\x00\x01b ", 10) == "a b"
    assert printable("a\x9b\u202eb\u2028", 10) == "a b"
    assert printable("abcdef", 3) == "abc..."


@pytest.mark.parametrize(
    "said",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<html><center>The plain HTTP request was sent to HTTPS port</center></html>",
    ],
)
def test_a_port_that_has_tls_is_not_the_operators_mistake(said: bytes) -> None:
    assert refusal(400, said).message.endswith(NEEDS_TLS)
    assert refusal(400, b"no such thing").message.endswith("tell the registry's operator")


@pytest.mark.parametrize("body", [b"<p>no: s3<cr>et</p>", b"<p>no: s3&lt;cr&gt;et</p>"])
def test_what_must_not_be_repeated_is_not_told_in_html(body: bytes) -> None:
    secrets = secrets_of({"X-Key": "s3<cr>et"}, "")
    error = error_of(
        400, {}, body, what="GET x", now=0, conceal=lambda text: telling(text, secrets)
    )
    assert "s3" not in error.message
    assert "***" in error.message
