from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The commands set the project's logger up for their process; here it is everybody's."""
    logger = logging.getLogger("multi_fetch")
    before = (logger.handlers, logger.level, logger.propagate, logging.raiseExceptions)
    yield
    logger.handlers, level, logger.propagate, logging.raiseExceptions = before
    logger.setLevel(level)
