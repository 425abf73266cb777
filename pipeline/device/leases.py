"""The right to use a buffer that a GPU works on: given back with the event after which the next one may use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from engines.gpu import Event, Stream

T = TypeVar("T")


class DeviceLease(Generic[T]):
    """One buffer of a ``DevicePool`` or ``PinnedPool``, until it is released.

    Args:
        array: The buffer, as its pool hands it out.
        free_after: What the buffer's last user gave back with it; None if it is free now.
        give_back: Called once by ``release``.
    """

    __slots__ = ("_array", "_give_back", "free_after")

    def __init__(self, array: T, *, free_after: Event | None, give_back: Callable[[T, Event | None], None]) -> None:
        self._array: T | None = array
        self._give_back = give_back
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

    def release(self, *, after: Any = None) -> None:
        """Give the buffer back; the host need not wait for ``after``. From any thread, exactly once.

        Args:
            after: Event after which the GPU uses the buffer no more; None if it does not use it, or not any more. What
                the buffer had to wait for when it was acquired is kept then.

        Raises:
            RuntimeError: The lease was released before.
        """
        array, self._array = self.array, None
        self._give_back(array, after or self.free_after)
