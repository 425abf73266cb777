"""The right to use a buffer that a GPU works on: given back with the event after which the next one may use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from engines.gpu import Event, Stream

T = TypeVar("T")


class DeviceLease(Generic[T]):
    """One buffer of a ``DevicePool`` or ``PinnedPool``, until it and every share of it are released.

    Args:
        array: The buffer, as its pool hands it out.
        free_after: What the buffer's last user gave back with it; None if it is free now.
        give_back: Called once, by the last ``release``.
    """

    __slots__ = ("_array", "_give_back", "_holds", "free_after")

    def __init__(self, array: T, *, free_after: Event | None, give_back: Callable[[T, Event | None], None]) -> None:
        self._array: T | None = array
        self._give_back = give_back
        # Whoever pops the first entry is the last to let go. Popping is atomic, so no lock is needed.
        self._holds = [True]
        self.free_after = free_after
        """The event that the first use of the buffer must come after."""

    @property
    def array(self) -> T:
        """The buffer; content undefined at first.

        Raises:
            RuntimeError: The lease was released.
        """
        if self._array is None:
            raise RuntimeError("this lease was released: another stage may own its buffer by now")
        return self._array

    def order(self, stream: Stream) -> None:
        """Let what is put into ``stream`` from now on begin only when the last user has done with the buffer."""
        if self.free_after is not None:
            stream.wait_for(self.free_after)

    def wait(self) -> None:
        """Block until the last user has done with the buffer: for buffers that the host itself writes."""
        if self.free_after is not None:
            self.free_after.wait()

    def share(self) -> LeaseShare:
        """Hold the buffer beyond ``release``, for a reader that says itself when it is done.

        Raises:
            RuntimeError: The lease was released.
        """
        array = self.array
        self._holds.append(False)
        return LeaseShare(lambda: self._let_go(array))

    def release(self, *, after: Any = None) -> None:
        """Give the buffer back; the host need not wait for ``after``. From any thread, exactly once.

        Args:
            after: Event after which the GPU uses the buffer no more; None if it does not use it, or not any more. What
                the buffer had to wait for when it was acquired is kept then. What shares are for is not meant: it is
                over when they are released.

        Raises:
            RuntimeError: The lease was released before.
        """
        array, self._array = self.array, None
        self.free_after = after or self.free_after
        self._let_go(array)

    def _let_go(self, array: T) -> None:
        if self._holds.pop():
            self._give_back(array, self.free_after)


class LeaseShare:
    """A hold on a buffer beside its lease. Made by ``DeviceLease.share``."""

    __slots__ = ("_let_go",)

    def __init__(self, let_go: Callable[[], None]) -> None:
        self._let_go: Callable[[], None] | None = let_go

    def release(self) -> None:
        """Let go: nothing reads the buffer for this share any more. From any thread, exactly once.

        Raises:
            RuntimeError: It was released before.
        """
        let_go, self._let_go = self._let_go, None
        if let_go is None:
            raise RuntimeError("this share was released before")
        let_go()
