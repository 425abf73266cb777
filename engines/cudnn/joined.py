"""Pairs of steps that run as one kernel of ours, once it was compared with the plain one; otherwise they stay two.

A joined kernel that is right is taken without timing the two steps that it replaces: it moves less memory and was 1.7
to 4.5 times as fast as they are at every shape that was measured on an H200 (NOTES.md, "Convolutions that walk down
strips").
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import numpy as np

from engines.cudnn.checking import FOLDED_SHARE, PlanarTarget, StepChecker
from engines.cudnn.choices import NOT_JOINED, OWN_ENGINE, Choice, ChoiceStore
from engines.cudnn.choosing import time_runs
from engines.cudnn.constants import StepConstants
from engines.cudnn.ends import EndKernels
from engines.cudnn.fused import constants_of
from engines.cudnn.hopper_steps import OwnConvolutions, OwnStep
from engines.cudnn.joins import Join, join_signature
from engines.cudnn.steps import ConvStep, EnlargeStep, FinishStep, Plan, Slice
from engines.gpu import Device, Stream

logger = logging.getLogger(__name__)

_NAME: Final = "own, joined"


class JoinedSteps:
    """The joined kernels of one plan.

    Args:
        hopper: Makes them; stays the caller's, and their weights with it.
        ends: Runs the enlargement that a joined kernel is compared with.
        plan: Whose steps they run.
        joins: Pairs that may run as one.
        device: Where.
        stream: Where kernels are compared.
        address: Gives the device address of a slice.
        io_dtype: Type of the planar pictures.
    """

    def __init__(
        self,
        hopper: OwnConvolutions,
        *,
        ends: EndKernels,
        plan: Plan,
        joins: tuple[Join, ...],
        device: Device,
        stream: Stream,
        address: Callable[[Slice], int],
        io_dtype: str,
    ) -> None:
        self.choices: dict[int, Choice] = {}
        """By the index of the convolution."""
        self._hopper = hopper
        self._ends = ends
        self._plan = plan
        self._joins = joins
        self._device = device
        self._stream = stream
        self._address = address
        self._io_dtype = io_dtype
        self._kernels: dict[int, OwnStep] = {}
        self._silent: set[int] = set()

    def __contains__(self, index: int) -> bool:
        """Whether a step runs joined with another."""
        return index in self._silent or index in self._kernels

    def launch(self, index: int, *, stream: Stream, image: int = 0, picture: int = 0) -> None:
        """Enqueue both steps in place of the later one; nothing in place of the earlier one.

        Raises:
            InferenceFailed: The GPU failed.
        """
        if index in self._kernels:
            self._kernels[index].launch(stream, image=image, picture=picture)

    def load(self, store: ChoiceStore, *, fill: Callable[[], object], constants: StepConstants) -> None:
        """Make every pair ready; what was not compared before is compared now.

        Args:
            store: What was found out before; what is found out now is added and saved.
            fill: Puts numbers into all slices; called before every comparison.
            constants: Brings what the plain kernel needs.

        Raises:
            InferenceFailed: The GPU failed.
            OutOfDeviceMemory: Weights, or pictures to compare, do not fit.
        """
        with ExitStack() as closing:
            checker: StepChecker | None = None
            for join in self._joins:
                signature = join_signature(self._plan, join, is_half=self._io_dtype == "float16")
                choice = store.find(signature)
                kernel = None if choice is not None and choice.engine == NOT_JOINED else self._prepare(join)
                if kernel is None:
                    continue
                if choice is None:
                    fill()  # each time: what a wrong kernel left would make the next look wrong
                    if checker is None:
                        checker = StepChecker(self._device, stream=self._stream)
                        closing.callback(checker.close)
                    choice = self._judge(join, kernel, checker=checker, constants=constants)
                    store.add(signature, choice)
                if choice.engine == OWN_ENGINE:
                    self._kernels[join.last] = kernel
                    self._silent.add(join.first)
                    self.choices[join.conv] = choice
            if checker is not None:
                store.save()

    def _prepare(self, join: Join) -> OwnStep | None:
        conv, other = self._pair(join)
        if isinstance(other, EnlargeStep):
            return self._hopper.prepare_enlarging(self._plan, other, conv, address=self._address)
        is_half = self._io_dtype == "float16"
        return self._hopper.prepare_finishing(self._plan, conv, other, is_half=is_half, address=self._address)

    def _judge(self, join: Join, kernel: OwnStep, *, checker: StepChecker, constants: StepConstants) -> Choice:
        """Compare a kernel with the plain one; a choice that says whether it is right, and how long it takes."""
        conv, other = self._pair(join)
        places, give_back = constants.lend(constants_of(conv))
        try:
            if isinstance(other, EnlargeStep):
                source, target = self._address(other.source), self._address(other.target)
                self._ends.enlarge(self._plan, other, source=source, target=target, stream=self._stream)
                verdict = checker.check(
                    self._plan,
                    conv,
                    run=lambda: kernel.launch(self._stream),
                    address=self._address,
                    constants=places,
                    share=FOLDED_SHARE,
                )
                milliseconds = self._time(lambda: kernel.launch(self._stream))
            else:
                with self._pictures(other) as planar:

                    def run() -> None:
                        kernel.launch(self._stream, image=planar.image, picture=planar.picture)

                    verdict = checker.check(
                        self._plan, conv, run=run, address=self._address, constants=places, planar=planar
                    )
                    milliseconds = self._time(run)
        finally:
            self._stream.synchronize()
            give_back()
        if verdict.wrong:
            logger.warning(
                "%s and %s stay two steps: joined, %d numbers are off, the worst by %.3g times what is allowed",
                conv.name,
                other.name,
                verdict.wrong,
                verdict.worst,
            )
        return Choice(engine=NOT_JOINED if verdict.wrong else OWN_ENGINE, milliseconds=milliseconds, name=_NAME)

    @contextmanager
    def _pictures(self, finish: FinishStep) -> Iterator[PlanarTarget]:
        """A planar input of noise, and room for the planar result."""
        plan, dtype = self._plan, np.dtype(self._io_dtype)
        noise = np.random.default_rng(0).random((plan.batch, plan.channels, plan.height, plan.width), np.float32)
        with ExitStack() as closing:
            image = self._device.allocate(noise.size * dtype.itemsize)
            closing.callback(image.close)
            picture = self._device.allocate(int(np.prod(plan.output_shape)) * dtype.itemsize)
            closing.callback(picture.close)
            closing.callback(self._stream.synchronize)
            self._stream.upload(noise.astype(dtype), image.pointer)
            yield PlanarTarget(
                image=image.pointer if finish.has_base else 0,
                picture=picture.pointer,
                factor=finish.factor,
                colours=finish.colours,
                is_half=dtype == np.float16,
            )

    def _time(self, run: Callable[[], object]) -> float:
        return time_runs(run, device=self._device, stream=self._stream)

    def _pair(self, join: Join) -> tuple[ConvStep, EnlargeStep | FinishStep]:
        conv, other = self._plan.steps[join.conv], self._plan.steps[join.other]
        assert isinstance(conv, ConvStep)
        assert isinstance(other, EnlargeStep | FinishStep)
        return conv, other
