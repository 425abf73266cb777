"""The kernels of a plan's convolutions with their weights: restored from earlier choices, or chosen now."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from engines.cudnn.checking import NARROW_SHARE, SHARE, StepChecker
from engines.cudnn.choices import Choice, ChoiceStore
from engines.cudnn.choosing import Chosen, FusedKernel, Trial, choose_kernel, refusals, restore_kernel
from engines.cudnn.constants import StepConstants
from engines.cudnn.ends import EndKernels
from engines.cudnn.fused import FusedSignature, constants_of, signature_of, stored_operands
from engines.cudnn.hopper_steps import HOPPER, OwnConvolutions, OwnStep
from engines.cudnn.joined import JoinedSteps
from engines.cudnn.joins import Join
from engines.cudnn.steps import ConvStep, Plan, Slice
from engines.errors import InferenceFailed, run_error
from engines.gpu import Device, DeviceBuffer, Stream

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Convolution:
    """A step with a kernel of cuDNN's."""

    kernel: FusedKernel
    operands: dict[int, int]


class StepKernels:
    """A kernel for every convolution of a plan.

    Args:
        cudnn: The module.
        handle: Of ``cudnn.create_handle``, set to ``stream``.
        plan: Whose steps they run.
        device: Where.
        stream: Where kernels are timed.
        store: Choices made before; new ones are added and saved.
        address: Gives the device address of a slice.
        uses_own: Whether our own Hopper convolutions are tried for the steps that they can run.
        most_plans: Plans of cuDNN's that are tried for a kind of step.
        fill: Puts numbers into all slices; called before kernels are compared and timed.
        ends: Runs enlargements that kernels are compared with.
        joins: Pairs of steps that may run as one kernel of ours.
        io_dtype: Type of the planar pictures.

    Raises:
        InferenceFailed: Nothing runs one of the steps rightly.
        OutOfDeviceMemory: Weights or scratch memory do not fit.
    """

    def __init__(
        self,
        cudnn: Any,
        *,
        handle: Any,
        plan: Plan,
        device: Device,
        stream: Stream,
        store: ChoiceStore,
        address: Callable[[Slice], int],
        uses_own: bool,
        most_plans: int,
        fill: Callable[[], object],
        ends: EndKernels,
        joins: tuple[Join, ...],
        io_dtype: str,
    ) -> None:
        self.chosen: dict[int, Chosen] = {}
        """By the index of the step: what runs it, and what else was tried where that was found out now."""
        self.choosing_s = 0.0
        """How long kernels took to be made and chosen."""
        self._cudnn = cudnn
        self._handle = handle
        self._plan = plan
        self._device = device
        self._stream = stream
        self._address = address
        self._most_plans = most_plans
        self._fill = fill
        self._joined: JoinedSteps | None = None
        self._steps = {index: step for index, step in enumerate(plan.steps) if isinstance(step, ConvStep)}
        self._scratch: DeviceBuffer | None = None
        self._own_steps: dict[int, OwnStep] = {}
        self._convolutions: dict[int, _Convolution] = {}
        self._closing = ExitStack()
        self._constants = StepConstants(device, stream=stream)
        self._closing.callback(self._constants.close)
        try:
            self._hopper: OwnConvolutions | None = None
            if uses_own and device.compute_capability == HOPPER:
                self._hopper = OwnConvolutions(device, stream=stream)
                self._closing.callback(self._hopper.close)
                self._joined = JoinedSteps(
                    self._hopper,
                    ends=ends,
                    plan=plan,
                    joins=joins,
                    device=device,
                    stream=stream,
                    address=address,
                    io_dtype=io_dtype,
                )
            started = time.perf_counter()
            self._load(store)
            self.choosing_s = time.perf_counter() - started
        except BaseException:
            self.close()
            raise

    @property
    def scratch_bytes(self) -> int:
        """Scratch memory that all steps share."""
        return self._scratch.bytes if self._scratch else 0

    def runs(self, index: int) -> bool:
        """Whether a step is run by `launch`: every convolution, and whatever is joined with one."""
        return index in self._steps or (self._joined is not None and index in self._joined)

    def launch(self, index: int, *, stream: Stream, image: int = 0, picture: int = 0) -> None:
        """Enqueue a step; cuDNN's handle must be set to that stream.

        Args:
            index: Of the step.
            stream: Where.
            image: Address of the planar input, for the last step.
            picture: Address of the planar result, for the last step.

        Raises:
            InferenceFailed: The GPU or cuDNN failed.
        """
        if self._joined is not None and index in self._joined:
            self._joined.launch(index, stream=stream, image=image, picture=picture)
            return
        if index in self._own_steps:
            self._own_steps[index].launch(stream)
            return
        one = self._convolutions[index]
        scratch = self._workspace(one.kernel.workspace_bytes)
        try:
            one.kernel.graph.execute_plan_at_index(one.operands, scratch, one.kernel.index, self._handle)
        except refusals(self._cudnn) as exc:
            name = self._steps[index].name
            raise run_error(f"cuDNN failed to run {name}: {exc}", on_gpu=True) from exc

    def close(self) -> None:
        """Give everything back; nothing may be running. Can be called twice."""
        self.chosen = {}
        self._convolutions = {}
        self._own_steps = {}
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None
        self._closing.close()

    def _load(self, store: ChoiceStore) -> None:
        """Find a kernel for every kind of step and bring all weights to the GPU."""
        if self._joined is not None:
            self._joined.load(store, fill=self._fill, constants=self._constants)
            self.chosen |= {index: Chosen(choice=one, fused=None) for index, one in self._joined.choices.items()}
        steps = {index: step for index, step in self._steps.items() if index not in self.chosen}
        kinds: dict[FusedSignature, list[int]] = {}
        for index, step in steps.items():
            kinds.setdefault(signature_of(self._plan, step), []).append(index)
        chosen = {
            signature: self._restore(signature, store.find(signature), indices[0])
            for signature, indices in kinds.items()
        }
        missing = [signature for signature, one in chosen.items() if one is None]
        if missing:
            logger.info("choosing among kernels for %d kinds of convolution on %s", len(missing), self._device.name)
            with ExitStack() as closing:
                checker = StepChecker(self._device, stream=self._stream)
                closing.callback(checker.close)
                for signature in missing:
                    self._fill()  # each time: what a kernel stored in one type may be read as another
                    chosen[signature] = self._choose(signature, kinds[signature][0], checker)
                    store.add(signature, chosen[signature].choice)  # type: ignore[union-attr]
            store.save()
        for signature, indices in kinds.items():
            one = chosen[signature]
            assert one is not None
            self.chosen |= dict.fromkeys(indices, one)
        fused = [index for index, one in self.chosen.items() if one.fused is not None]
        constants = self._constants.keep([constants_of(steps[index]) for index in fused])
        for index, addresses in zip(fused, constants, strict=True):
            kernel = self.chosen[index].fused
            assert kernel is not None
            self._convolutions[index] = _Convolution(kernel=kernel, operands=self._operands(steps[index], addresses))
            self._workspace(kernel.workspace_bytes)
        for index in sorted(steps.keys() - self._convolutions.keys() - self._own_steps.keys()):
            own = self._own(index)
            assert own is not None
            self._own_steps[index] = own

    def _restore(self, signature: FusedSignature, choice: Choice | None, index: int) -> Chosen | None:
        """The kernel that was chosen before, for a step of that kind; None if there is none, or not any more."""
        if choice is None:
            return None
        if choice.is_own:
            own = self._own(index)
            if own is None:
                return None
            self._own_steps[index] = own
            return Chosen(choice=choice, fused=None)
        try:
            fused = restore_kernel(self._cudnn, signature, choice=choice, handle=self._handle)
        except InferenceFailed as exc:
            logger.warning("a kernel is chosen again: %s", exc)
            return None
        return Chosen(choice=choice, fused=fused)

    def _choose(self, signature: FusedSignature, index: int, checker: StepChecker) -> Chosen:
        step = self._steps[index]
        constants, give_back = self._constants.lend(constants_of(step))
        own = self._own(index)

        share = SHARE if step.descale is None else NARROW_SHARE

        def objection(run: Callable[[], object]) -> str:
            verdict = checker.check(self._plan, step, run=run, address=self._address, constants=constants, share=share)
            if not verdict.wrong:
                return ""
            return (
                f"{verdict.wrong} numbers of a sample are off, the worst by {verdict.worst:.3g} times what is allowed"
            )

        trial = Trial(
            cudnn=self._cudnn,
            handle=self._handle,
            device=self._device,
            stream=self._stream,
            operands=self._operands(step, constants),
            workspace=self._workspace,
            objection=objection,
        )
        try:
            chosen = choose_kernel(trial, signature, name=step.name, own=own, most_plans=self._most_plans)
        finally:
            self._stream.synchronize()
            give_back()
        if chosen.fused is None and own is not None:
            self._own_steps[index] = own
        logger.debug("%s: %s of %s", step.name, chosen.choice, chosen.tried)
        return chosen

    def _own(self, index: int) -> OwnStep | None:
        """A step with a kernel of ours, its weights on the GPU until this network is closed; None if there is none."""
        step = self._steps[index]
        if self._hopper is None:
            return None
        return self._hopper.prepare(self._plan, step, address=self._address)

    def _operands(self, step: ConvStep, constants: dict[int, int]) -> dict[int, int]:
        return constants | {number: self._address(part) for number, part in stored_operands(step).items()}

    def _workspace(self, count: int) -> int:
        """Scratch memory that all steps share: it grows to the largest need."""
        if self._scratch is None or self._scratch.bytes < count:
            if count == 0:
                return 0
            self._stream.synchronize()
            if self._scratch is not None:
                self._scratch.close()
                self._scratch = None
            self._scratch = self._device.allocate(count)
        return self._scratch.pointer
