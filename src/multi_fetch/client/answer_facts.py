"""What both kinds of answers tell without waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multi_fetch.client.exchange import Exchange
    from multi_fetch.errors import MultiFetchError
    from multi_fetch.oci.digest import Digest


class AnswerFacts:
    """A view of one exchange; two views of the same are equal."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnswerFacts) and self._exchange is other._exchange

    def __hash__(self) -> int:
        return hash(self._exchange)

    def __repr__(self) -> str:
        state = "done" if self.is_done else "open"
        if self.error is not None:
            state = self.error.code
        return f"<{type(self).__name__} {self.id} {self.object!r} {state}>"

    @property
    def object(self) -> str:
        """The object as it was asked for; that of a child is its digest."""
        return self._exchange.object

    @property
    def hints(self) -> tuple[str, ...]:
        """The hints as they were asked for."""
        return self._exchange.hints

    @property
    def id(self) -> int:
        """The request's id at the worker: 0 before its line is written, below 0 for a child."""
        return self._exchange.id

    @property
    def parent(self) -> int | None:
        """The id of the answer in whose content this one was found; None if it was asked for."""
        return self._exchange.parent_id

    @property
    def is_done(self) -> bool:
        """Whether the request has succeeded or failed."""
        return self._exchange.is_done

    @property
    def error(self) -> MultiFetchError | None:
        """Why the request has failed; None while it is open, and once it has succeeded."""
        return self._exchange.failure

    @property
    def digest(self) -> Digest | None:
        """The digest that all of the content was verified to have; None until then.

        It stays None where nothing can be verified: without content, and for a range.
        """
        return None if self._exchange.end is None else self._exchange.end.digest
