"""Which stages make a graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from helpers.fakes import CollectSink, CountSource, Forward

from pipeline.graph.stage import check_graph


class ReturnsIterator:
    """A transform by its lookahead, though its run is no generator function."""

    name = "mapped"
    lookahead = 0

    def run(self, items: Iterator[Any]) -> Iterator[Any]:
        return map(str, items)


class NoLookahead:
    """Returns an iterator and declares nothing: nobody can tell it from a sink."""

    name = "mute"

    def run(self, items: Iterator[Any]) -> Iterator[Any]:
        return map(str, items)


def test_one_capacity_serves_all_channels() -> None:
    assert check_graph([CountSource(1), Forward(), ReturnsIterator(), CollectSink()], capacities=3) == (3, 3, 3)


def test_each_channel_can_have_its_own_capacity() -> None:
    assert check_graph([CountSource(1), Forward(), CollectSink()], capacities=[1, 7]) == (1, 7)


@pytest.mark.parametrize("stages", [[], [CountSource(1)]])
def test_a_graph_has_at_least_two_stages(stages: list[Any]) -> None:
    with pytest.raises(ValueError, match=f"got {len(stages)} stage"):
        check_graph(stages, capacities=1)


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="used twice: a"):
        check_graph([CountSource(1, name="a"), Forward(name="b"), CollectSink(name="a")], capacities=1)


def test_every_stage_has_a_name() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        check_graph([CountSource(1, name=""), CollectSink()], capacities=1)


@pytest.mark.parametrize("capacities", [[1], [1, 2, 3], []])
def test_there_is_one_capacity_per_channel(capacities: list[int]) -> None:
    with pytest.raises(ValueError, match=f"3 stages need 2 capacities, got {len(capacities)}"):
        check_graph([CountSource(1), Forward(), CollectSink()], capacities=capacities)


@pytest.mark.parametrize("capacities", [0, -1, [1, 0]])
def test_capacities_are_at_least_one(capacities: int | list[int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        check_graph([CountSource(1), Forward(), CollectSink()], capacities=capacities)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([Forward(), CollectSink()], r"stage 0 \('forward'\) must be a source"),
        ([CollectSink(), Forward()], r"stage 0 \('sink'\) must be a source"),
        ([CountSource(1), CountSource(1, name="other")], r"stage 1 \('other'\) must be a transform or a sink"),
        ([CountSource(1), Forward()], r"the last stage \('forward'\) must be a sink"),
        ([CountSource(1), ReturnsIterator()], r"the last stage \('mapped'\) must be a sink"),
        ([CountSource(1), CollectSink(name="early"), CollectSink()], r"stage 1 \('early'\) must be a transform"),
        ([CountSource(1), NoLookahead(), CollectSink()], r"stage 1 \('mute'\) must be a transform"),
    ],
)
def test_each_stage_is_in_a_place_that_fits(stages: list[Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check_graph(stages, capacities=1)
