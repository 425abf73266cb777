"""``doctor``: what this machine and this installation have and lack, what installs it, and what a run would use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engines.errors import EngineError
from pipeline.errors import PipelineError
from pipeline.show.wording import safe_text

logger = logging.getLogger(__name__)

FindingState = Literal["ok", "missing", "optional"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked for."""

    name: str
    """What it is, in a word or two."""
    state: FindingState
    """``ok``: it is here. ``missing``: no run without it. ``optional``: not here, and a run works without it."""
    found: str
    """Version and details, or what its absence means."""
    fix: str = ""
    """Command that installs it; empty if there is nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All findings and what follows from them."""

    findings: tuple[Finding, ...]
    can_run: bool
    """Whether ``run`` works here with a config that names nothing but a film."""
    verdict: str
    """One sentence: what such a run would use, or why it cannot."""
    passed_over: tuple[str, ...] = ()
    """Better engines that such a run would not use, one line each with the reason."""

    def lines(self) -> tuple[str, ...]:
        """The table for people: a line per finding, the command below those that lack something, the verdict last."""
        name_cells = max((len(finding.name) for finding in self.findings), default=0)
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.state:<8}  {finding.name:<{name_cells}}  {finding.found}")
            if finding.fix:
                lines.append(f"{'':<8}  {'':<{name_cells}}  -> {finding.fix}")
        return tuple(
            safe_text(line).rstrip() for line in (*lines, self.verdict, *(f"  {line}" for line in self.passed_over))
        )

    def as_json(self) -> dict[str, Any]:
        """The same as plain values, under the same names."""
        return {
            "findings": [
                {"name": item.name, "state": item.state, "found": item.found, "fix": item.fix} for item in self.findings
            ],
            "can_run": self.can_run,
            "verdict": self.verdict,
            "passed_over": list(self.passed_over),
        }


def diagnose(probes: Sequence[Callable[[], Finding]] | None = None) -> Diagnosis:
    """Look at the machine. Takes about a second; changes nothing, holds nothing.

    Args:
        probes: What to look for; None: everything.
    """
    if probes is None:
        from pipeline.doctor_probes import PROBES

        probes = PROBES
    findings = tuple(probe() for probe in probes)
    missing = [finding for finding in findings if finding.state == "missing"]
    if missing:
        names = ", ".join(finding.name for finding in missing)
        return Diagnosis(findings=findings, can_run=False, verdict=f"a run cannot work here: {names} missing")
    try:
        used, passed_over = describe_default_run()
    except (PipelineError, EngineError) as exc:
        hint = f"; {exc.hint}" if exc.hint else ""
        return Diagnosis(findings=findings, can_run=False, verdict=f"a run cannot work here: {exc}{hint}")
    return Diagnosis(findings=findings, can_run=True, verdict=f"a run here would use {used}", passed_over=passed_over)


def describe_default_run() -> tuple[str, tuple[str, ...]]:
    """Say which decoder, engine and encoder a config that names nothing but an ordinary film gets here, and a line for
    each better engine that it does not get.

    Raises:
        PipelineError: There is no decoder or encoder for it.
        EngineError: There is no engine for it.
    """
    from pipeline.config import DecodeSection, EncodeSection, InferSection
    from pipeline.decode import choose_decoder
    from pipeline.encode import choose_encoder
    from pipeline.engine import choose_engine, find_network, passed_over_lines
    from pipeline.frames import SampleFormat

    decode, infer, encode = DecodeSection(), InferSection(), EncodeSection()
    decoder = choose_decoder(decode.kind)
    engine = choose_engine(infer, model=find_network(infer))
    encoder = choose_encoder(
        encode.kind,
        codec=encode.codec,
        source=SampleFormat(matrix="bt709"),
        bit_depth=encode.bit_depth,
        chroma=encode.chroma,
    )
    used = (
        f"decoder {decoder.kind}, {infer.model} with {engine.backend} in {engine.precision} on {engine.device}, "
        f"encoder {encoder.spec.name}"
    )
    return used, passed_over_lines(engine)
