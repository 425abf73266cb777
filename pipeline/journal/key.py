"""What a run is: two runs with the same key make the same film, frame by frame and stream by stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.models import is_model_file
from pipeline.config.digest import NOT_IN_DIGEST, config_digest, list_fields
from pipeline.journal.facts import EFFECTS, SETTING_EFFECTS, Effect, plan_facts
from pipeline.journal.identity import FileIdentity

if TYPE_CHECKING:
    from pipeline.plan import JobPlan

ABSENT = "(nothing)"
"""What a difference shows where one side knows no such name: another version of the program wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is another one now."""

    name: str
    """``source.size_bytes``, ``encode.preset``, ``plan.infer.backend`` ..."""
    before: Any
    """JSON-native."""
    now: Any
    effect: Effect
    """What it means for going on."""

    def __str__(self) -> str:
        return f"{self.name}: {_show(self.before)} before, {_show(self.now)} now"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKey:
    """The film, the settings and what was decided about them."""

    source: FileIdentity | None
    """None for a computed film: its config says all."""
    config_digest: str
    """See ``pipeline.config.digest``, with the content of the model's files."""
    settings: Mapping[str, Any]
    """Every field that is in the digest, dotted names, so that a difference can be named."""
    plan: Mapping[str, Any]
    """See ``pipeline.journal.facts``."""

    @classmethod
    def of(cls, plan: JobPlan) -> RunKey:
        """The key of a planned run. Reads both ends of the film.

        Raises:
            MediaError: The film can no longer be read.
        """
        config = plan.wished
        settings = {name: value for name, value in list_fields(config) if name not in NOT_IN_DIGEST}
        if is_model_file(config.infer.model):
            settings["infer.model"] = None  # its place; its content is in the plan's facts
        is_computed = plan.decoder.kind == "synthetic"
        return cls(
            source=None if is_computed else FileIdentity.of(plan.info.path),
            config_digest=config_digest(config, model_files=[file.sha256 for file in plan.model_files]),
            settings=_as_read(settings),
            plan=_as_read(plan_facts(plan)),
        )

    def differences(self, now: RunKey) -> tuple[Difference, ...]:
        """Compare the key of an earlier attempt with that of this one.

        Args:
            now: This attempt's.

        Returns:
            Those that refuse first, otherwise by name. None of them refuses: the film can be gone on with.
        """
        found = [
            *self._source_differences(now),
            *_compare(self.settings, now.settings, prefix="", effects=SETTING_EFFECTS),
            *_compare(self.plan, now.plan, prefix="plan.", effects=EFFECTS),
        ]
        settings_are_equal = self.settings == now.settings
        files_are_equal = self.plan.get("model.files") == now.plan.get("model.files")
        if self.config_digest != now.config_digest and settings_are_equal and files_are_equal:
            found.append(  # what is in the digest is not what is in the settings: another version wrote it
                Difference(name="config_digest", before=self.config_digest, now=now.config_digest, effect="refuse")
            )
        return tuple(sorted(found, key=lambda one: (one.effect != "refuse", one.name)))

    def as_json(self) -> dict[str, Any]:
        """As JSON-native values."""
        return {
            "source": None if self.source is None else self.source.as_json(),
            "config_digest": self.config_digest,
            "settings": dict(self.settings),
            "plan": dict(self.plan),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunKey:
        """The opposite of ``as_json``.

        Raises:
            KeyError, TypeError, ValueError: They are something else.
        """
        source = values["source"]
        return cls(
            source=None if source is None else FileIdentity.from_json(source),
            config_digest=str(values["config_digest"]),
            settings=dict(values["settings"]),
            plan=dict(values["plan"]),
        )

    def _source_differences(self, now: RunKey) -> Iterator[Difference]:
        before_values = {} if self.source is None else self.source.as_json()
        now_values = {} if now.source is None else now.source.as_json()
        yield from _compare(before_values, now_values, prefix="source.", effects={})


def _compare(
    before: Mapping[str, Any], now: Mapping[str, Any], *, prefix: str, effects: Mapping[str, tuple[Effect, str]]
) -> Iterator[Difference]:
    for name in sorted({*before, *now}):
        old, new = before.get(name, ABSENT), now.get(name, ABSENT)
        if old != new:
            effect = effects[name][0] if name in effects else "refuse"
            yield Difference(name=f"{prefix}{name}", before=old, now=new, effect=effect)


def _as_read(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they come back from a file, so that both sides of a comparison are of the same types."""
    read: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    return read


def _show(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
