"""What a run remembers on disk, so that nothing is done twice and nothing is lost.

- `identity`, `key`, `facts`: what a run works on and how; two runs with the same key make the same film.
- `records`, `lines`, `journal`: one durable line for each thing that became fact in a work folder.
- `resume`: which segments of an interrupted run count; `pinning`: what of its plan has to be taken over.
- `finished`: which outputs are finished, for the folder of all results.
"""

from pipeline.journal.finished import (
    FinishedCheck,
    FinishedIndex,
    FinishedRecord,
    check_finished,
    remember_finished,
    wish_digest,
)
from pipeline.journal.identity import FileIdentity, check_unchanged
from pipeline.journal.journal import JOURNAL_NAME, Journal, JournalContent, read_journal
from pipeline.journal.key import Difference, RunKey
from pipeline.journal.pinning import pin_plan
from pipeline.journal.records import (
    AttemptBegun,
    DemandLowered,
    Record,
    ResultVerified,
    SegmentCommitted,
    SegmentDropped,
)
from pipeline.journal.resume import Resume, find_done

__all__ = [
    "AttemptBegun",
    "check_finished",
    "check_unchanged",
    "DemandLowered",
    "Difference",
    "FileIdentity",
    "find_done",
    "FinishedCheck",
    "FinishedIndex",
    "FinishedRecord",
    "Journal",
    "JOURNAL_NAME",
    "JournalContent",
    "pin_plan",
    "read_journal",
    "Record",
    "remember_finished",
    "ResultVerified",
    "Resume",
    "RunKey",
    "SegmentCommitted",
    "SegmentDropped",
    "wish_digest",
]
