"""One warning for each cause."""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING

from multi_fetch.errors import RegistryError, UnavailableError
from multi_fetch.store.troubles import Troubles

if TYPE_CHECKING:
    import pytest


def of_system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_each_cause_is_told_once_whatever_it_is_wrapped_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    troubles = Troubles("the store x")
    wrapped = UnavailableError("cannot be read")
    wrapped.__cause__ = of_system(errno.EIO)
    for error in (of_system(errno.EIO), wrapped, of_system(errno.ENOSPC), of_system(errno.ENOSPC)):
        troubles.tell(error)
    troubles.tell(RegistryError("damaged"))
    troubles.tell(RegistryError("damaged, too"))
    told = [vars(each)["error"] for each in caplog.records if each.levelno == logging.WARNING]
    assert len(told) == 3
    assert all(each.startswith("the store x: ") for each in told)
