"""Where results go and what they are called. Part of `pipeline.config.models`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.config.types import ConfigPath, Section, check_name
from pipeline.inputs.pictures import source_stem


class OutputSection(Section):
    """Where the result goes."""

    dir: ConfigPath = Path("out")
    """Folder of the results, made if missing. A relative one starts at the config file's folder, in --set where the
    command is typed."""
    keep_folders: bool = True
    """Whether a film that was found in a folder of input.paths, or by a pattern, has its result in a folder of the same
    name below output.dir."""
    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_name)] = "{stem}"
    """File name without suffix. In braces: {stem} (the input's name; of a sequence of pictures, the name of its folder
    or what stands before the numbers), {suffix} (what follows it: mp4), {folder} (the name of its folder), {height} and
    {width} (of the result, pixels), {model}, {factor}."""
    container: Literal["auto", "mkv", "mp4", "mov"] = "auto"
    """File format. auto: the source's where that is mp4 or mov and can hold all streams, otherwise mkv."""
    unheld_streams: Literal["refuse", "drop"] = "refuse"
    """What becomes of sound, subtitles and attachments that the container cannot hold. refuse: the film is not begun.
    drop: they are left out, each with a warning."""
    overwrite: bool = False
    """Whether an existing file is replaced, once the new one is whole."""
    segment_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    """Length in seconds of the pieces in which the film is encoded; an interrupted run loses at most one."""
    keep_work: bool = False
    """Whether the pieces are kept when the film is done."""
    verify: Literal["full", "sample", "off"] = "sample"
    """Which frames of a finished film are compared with the source before it gets its name. sample: the first, the
    last, those at boundaries of pieces, and some in between. full: all, for which both films are decoded once more.
    off: none. Number of frames, times, streams and tags are compared in any case."""
    comparison_s: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """Time in seconds of a frame that is also written as a picture, before and after side by side. null: none."""

    def format_name(self, *, source: Path, height: int | str, width: int | str, model: str, factor: float | str) -> str:
        """Fill ``name`` in.

        Args:
            source: The input.
            height: Height of the result, pixels.
            width: Width of the result, pixels.
            model: Name of the network; characters that no file name can have become ``_``.
            factor: Enlargement per side; a number is written as short as it can be: ``2``, ``1.5``.
        """
        return self.name.format(
            stem=source_stem(source),
            suffix=source.suffix.removeprefix("."),
            folder=source.parent.name,
            height=height,
            width=width,
            model=model.replace("/", "_").replace("\\", "_"),
            factor=factor if isinstance(factor, str) else f"{factor:.6g}",
        )
