"""The run as a whole, and what may wait in it. Part of `pipeline.config.models`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.config.types import Auto, QueueLength, Section, check_command, check_hours

Command = Annotated[
    str, Field(min_length=1, max_length=4096, examples=["mail -s done me"]), AfterValidator(check_command)
]


class QueueSection(Section):
    """How much may wait between two stages. More evens out bursts and costs memory."""

    decoded_frames: QueueLength = 4
    """Frames waiting to be cut."""
    tile_batches: QueueLength = 2
    """Batches waiting for the network."""
    upscaled_batches: QueueLength = 2
    """Batches waiting to be joined to frames."""
    stitched_frames: QueueLength = 4
    """Frames waiting for the encoder."""


class RunSection(Section):
    """The run as a whole."""

    on_error: Literal["continue", "stop"] = "continue"
    """What happens after a film that failed: go on with the next one, or stop."""
    isolate: bool = True
    """Whether films have processes of their own, so that what a library does to one does nothing to the others. Films
    of some seconds, as photos are, share one while all goes well in it."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """How often a film is begun, no unit, if what failed may pass: memory that ran out, a file that could not be read,
    a GPU or a process that died."""
    hours: (
        Annotated[
            str, Field(min_length=1, max_length=200, examples=["23:00-07:00, 12:00-13:30"]), AfterValidator(check_hours)
        ]
        | None
    ) = None
    """Times of the day at which the run works, such as 23:00-07:00, local time, several with commas. Outside of them it
    waits, and holds no GPU. null: always."""
    disk_reserve_mb: Annotated[int, Field(ge=0, le=16_777_216)] = 2048
    """Free space in MiB (1,048,576 bytes) that stays on the disk of the results: with less, the run waits until there
    is room."""
    on_job_done: Command | None = None
    """A command for the shell that is run after each film, with what became of it as JSON on its stdin. null: none."""
    on_run_done: Command | None = None
    """A command for the shell that is run after the last film, with the run's summary as JSON on its stdin. null:
    none."""
    stall_timeout_s: Annotated[float, Field(gt=0, le=86400)] = 120.0
    """Seconds without any movement after which a run fails instead of hanging."""
    join_deadline_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Seconds that the stages have to end after a failure or a second Ctrl-C."""
    report_every_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    """Seconds between two lines of plain progress; the live display has its own pace."""
    progress: Literal["auto", "live", "plain", "off"] = "auto"
    """How progress is shown on stderr. auto: live on a terminal, otherwise plain lines."""
    frames_on: Literal["auto", "gpu", "cpu"] = "auto"
    """Where frames are between decoder and encoder, if the network runs on an NVIDIA GPU. gpu: in its memory. cpu: in
    the host's. auto: gpu, where all that this needs is installed."""
    memory_mb: Auto | Annotated[int, Field(ge=64, le=16_777_216)] = "auto"
    """Memory for the network and the frames in MiB (1,048,576 bytes), which limits lanes and tiles. auto: what
    is free."""
    lanes: Auto | Annotated[int, Field(ge=1, le=16)] = "auto"
    """Segments of a film that are worked on at once, each with a decoder and an encoder of its own; fewer where
    run.memory_mb does not hold as many. Frames do not depend on it, but with encode.threads 0 the lanes share the
    processor's cores, and an encoder's bits can depend on its threads. auto: 1 if the network runs on the processor,
    more if only the encoder does."""
    tuned: bool = True
    """Whether what tools/tune.py found to be fastest on this machine, for the same network and sizes, is taken for
    what is left to auto: tile.max_px, infer.batch_tiles, infer.slots, run.lanes, and threads that are 0."""
