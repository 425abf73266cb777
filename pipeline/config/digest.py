"""The digest of a config: equal for two configs exactly if every frame they write must be the same."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from engines.models import is_model_file
from pipeline.config import Config
from pipeline.config.types import Section

NOT_IN_DIGEST: Mapping[str, str] = MappingProxyType(
    {
        "input.paths": "an input's identity is its content; whoever compares runs adds that",
        "input.recursive": "which films there are, not what is done with one",
        "input.suffixes": "as input.recursive",
        "input.images": "as input.recursive",
        "input.order": "as input.recursive",
        "input.watch": "as input.recursive",
        "input.settle_s": "as input.recursive",
        "input.overrides": "those that fit a film are in that film's own config, whose digest counts",
        "decode.threads": "decoders give the same frames with any number of threads",
        "infer.slots": "how many calls wait for each other, not what one computes",
        "infer.engine.cache_dir": "where engines are kept, not what they are",
        "infer.engine.cuda_graph": "a graph replays the same kernels in the same order",
        "output.dir": "where the result goes, not what it is",
        "output.keep_folders": "where the result goes, not what it is",
        "output.name": "what the result is called, not what it is",
        "output.overwrite": "whether it may be written, not what is written",
        "output.keep_work": "what is left beside the result",
        "output.verify": "what is compared when it is done",
        "output.comparison_s": "as output.keep_work",
        "queues.decoded_frames": "queues change when work is done, not what is done",
        "queues.tile_batches": "as queues.decoded_frames",
        "queues.upscaled_batches": "as queues.decoded_frames",
        "queues.stitched_frames": "as queues.decoded_frames",
        "run.on_error": "concerns the other films",
        "run.isolate": "in which process it is done",
        "run.max_attempts": "how often it is begun until it is done",
        "run.hours": "when it is done",
        "run.disk_reserve_mb": "when it is done",
        "run.on_job_done": "what happens after it is done",
        "run.on_run_done": "what happens after it is done",
        "run.stall_timeout_s": "concerns runs that fail",
        "run.join_deadline_s": "concerns runs that fail",
        "run.report_every_s": "what is shown",
        "run.progress": "what is shown",
        "run.tuned": "tiles, batches and encoder threads that it decides about are facts of the plan, and pinned",
    }
)
"""Fields that change no byte of a film, each with the reason. All others count, so a new field counts by default."""


def config_digest(config: Config, *, model_files: Sequence[str] | None = None) -> str:
    """SHA-256, lower-case hex, of all fields as canonical JSON, without those in ``NOT_IN_DIGEST``.

    Args:
        config: The config.
        model_files: SHA-256 of each file that the network is read from (``JobPlan.model_files``). A network is what is
            in its files: where they are given, they count, and the path of a model file does not. None: the name or
            path alone counts, whatever is in the file now.

    Raises:
        PydanticSerializationError: A field holds a value that has no JSON form.
    """
    counted = {key: value for key, value in list_fields(config) if key not in NOT_IN_DIGEST}
    if model_files is not None:
        counted["infer.model"] = [None if is_model_file(config.infer.model) else config.infer.model, *model_files]
    text = json.dumps(counted, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def list_fields(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the JSON value of every field of every section, defaults included."""
    yield from flatten(config, config.model_dump(mode="json"), prefix="")


def flatten(section: Section, values: Mapping[str, Any], *, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the fields of one section, nested ones with their path."""
    for name in type(section).model_fields:
        inner = getattr(section, name)
        if isinstance(inner, Section):
            yield from flatten(inner, values[name], prefix=f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", values[name]
