"""Which films there are, and what holds for some of them only. Part of `pipeline.config.models`."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, WithJsonSchema

from pipeline.config.types import OptionName, Rate, RuleBroken, Section, anchor_input, check_suffix

FILM_SUFFIXES = (
    ".mkv", ".webm", ".mp4", ".m4v", ".mov", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts", ".mts", ".vob",
    ".wmv", ".flv", ".f4v", ".ogv", ".3gp", ".3g2", ".mxf", ".dv", ".y4m",
)  # fmt: skip
"""Suffixes that films usually have: of FFmpeg's demuxers (their ``extensions``) those that hold video, and the
customary ones of formats that it tells by content alone (MPEG program and transport streams, ASF, Ogg, MXF)."""

InputPath = Annotated[Path, Field(strict=False), BeforeValidator(anchor_input)]
"""A path, or ``@`` and the path of a list; relative ones start at the config file's folder."""
Setting = Annotated[JsonValue, WithJsonSchema({})]
"""Whatever the key that is set takes."""
Suffix = Annotated[str, Field(min_length=1, max_length=20), AfterValidator(check_suffix)]


class OverrideSection(Section):
    """What holds for some films only."""

    match: Annotated[str, Field(max_length=4096)] = ""
    """A pattern of the ends of paths, as in a shell: "*.avi" fits names, "Season 1/*" also the folder, "old/**" all
    that is below a folder. Required."""
    set: Mapping[OptionName, Setting] = Field(default_factory=dict)
    """Keys as in --set, and their values. input and run hold for the run as a whole and cannot be set here."""


class InputSection(Section):
    """The films."""

    paths: tuple[InputPath, ...] = ()
    """Films, folders, patterns such as "films/**/*.mkv", and lists such as "@films.txt" (one path a line, # begins a
    comment; relative ones start at the list's folder). Required, unless decode.kind is synthetic. Relative paths start
    at the config file's folder, in --set where the command is typed; ~ is the home folder. What is hidden and what an
    earlier run made is found in no folder and by no pattern."""
    recursive: bool = True
    """Whether the folders in a folder are looked through too."""
    suffixes: Annotated[tuple[Suffix, ...], Field(examples=[[".mkv"]])] = FILM_SUFFIXES
    """Suffixes of films, in any case. A file that is named, or fits a pattern with a suffix of its own, needs none."""
    images: Literal["auto", "sequence", "single"] = "auto"
    """What pictures (PNG, JPEG, TIFF, WebP, BMP) in a folder or found by a pattern are. sequence: the frames of one
    film, in the order of their names; one for each name that differs in its number alone. single: each a picture by
    itself, which becomes a PNG of the same name. auto: a sequence where eight or more of one size are numbered without
    a gap and name no camera, otherwise single; beside films, and with watch, they are passed over. A picture that is
    named is single, a pattern such as "frames/%05d.png" always a sequence."""
    image_rate: Rate = Fraction(24)
    """Frames per second of a sequence of pictures: a number, or a ratio in quotes such as "24000/1001"."""
    order: Literal["given", "name", "size", "longest", "shortest"] = "given"
    """Which film is first. given: in the order of input.paths, in folders by name. name: by folder and name, 2 before
    10. size: the smallest file. longest, shortest: by playing time, which takes a moment per film to find out."""
    watch: bool = False
    """Whether the run stays and takes films that come later, until it is stopped."""
    settle_s: Annotated[float, Field(ge=1, le=86400)] = 10.0
    """With watch: seconds for which a file must not have changed before it is taken; nor is one that a program on this
    machine has open to write."""
    overrides: Annotated[
        tuple[OverrideSection, ...], Field(examples=[[{"match": "*.avi", "set": {"encode.quality": 20}}]])
    ] = ()
    """Other settings for some films, each with match (a pattern of the ends of paths, such as "Season 1/*") and set
    (keys and values, as in --set). All that fit a film hold, later ones win."""

    def rules(self) -> Iterator[RuleBroken]:
        """Each path once, some suffix, and no override for nothing."""
        if not self.suffixes:
            yield RuleBroken(keys=("input.suffixes",), text="must name at least one suffix")
        if self.watch and self.images == "sequence":
            yield RuleBroken(
                keys=("input.images", "input.watch"),
                text="must not be sequence with input.watch: nobody knows when a sequence is whole",
            )
        for index, path in enumerate(self.paths):
            if path in self.paths[:index]:
                yield RuleBroken(keys=(f"input.paths[{index}]",), text=f"must name each file once (got {path} again)")
        for index, override in enumerate(self.overrides):
            for name in ("match", "set"):
                if not getattr(override, name):
                    yield RuleBroken(keys=(f"input.overrides[{index}].{name}",), text="must be given")
