"""What decoders and networks that stand in for others, or around them, have in common."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from engines import Runner
from pipeline.decode.base import Decoder


class WrappedDecoder:
    """Around a film's decoder, and closed with it. See ``pipeline.decode.base.Decoder``.

    Args:
        inner: The film's decoder.
    """

    def __init__(self, inner: Decoder) -> None:
        self.info = inner.info
        self._inner = inner

    @property
    def damage(self) -> str | None:
        """Of the film's decoder."""
        return self._inner.damage

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the film's decoder."""
        return self._inner.notes

    def close(self) -> None:
        """Close the film's decoder."""
        self._inner.close()

    def __enter__(self) -> Self:
        """Return the decoder itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the film's decoder."""
        self.close()


class WrappedRunner:
    """Around a network that stays its opener's. See ``engines.runner.Runner``.

    Args:
        inner: The network.
    """

    def __init__(self, inner: Runner) -> None:
        self.spec = inner.spec
        self._inner = inner

    def close(self) -> None:
        """Nothing: the network is its opener's."""

    def __enter__(self) -> Self:
        """Return the runner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""
