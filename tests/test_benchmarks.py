"""The image benchmark's own arithmetic: nothing here measures time."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from benchmarks.image import corruption, encodes, inputs, report, rounds
from benchmarks.image.jobs import ENGINES, JOBS, LIMIT, MAGICK_ALONE, OURS, POOLED, SHARP, Job
from benchmarks.image.report import Corruption, Measured, Others

if TYPE_CHECKING:
    from pathlib import Path


def _job(name: str) -> Job:
    return next(job for job in JOBS if job.name == name)


def _measured(name: str, **medians: float) -> Measured:
    return Measured(_job(name), runs={engine: [cpu_s] * 3 for engine, cpu_s in medians.items()})


def _verdicts(measured: list[Measured], others: Others | None = None) -> list[bool | None]:
    return [demand.holds for demand in report.demands(measured, others or Others())]


def test_one_disturbed_run_does_not_change_a_median() -> None:
    """One run that something else got in the way of does not count."""
    assert rounds.middle([1.0, 1.1, 9.0]) == 1.1
    assert rounds.middle([]) is None


def test_every_round_begins_with_the_next_engine() -> None:
    """No engine always follows the same one."""
    assert [rounds.turn(["a", "b", "c"], number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    assert sorted(rounds.turn(["a", "b", "c"], 2)) == ["a", "b", "c"]
    assert rounds.turn([], 1) == []


def test_a_slow_engine_stops_early_but_not_before_three_rounds() -> None:
    """Slow peers must not make a run endless, and two runs have no median."""
    assert not rounds.is_enough([60.0, 60.0])
    assert rounds.is_enough([2.0, 2.0, 2.0])
    assert not rounds.is_enough([0.1] * 20)


@pytest.mark.parametrize(("ours", "holds"), [(1.15, True), (1.16, False)])
def test_a_ratio_to_the_limit_is_compared_with_its_bound(ours: float, holds: bool) -> None:  # noqa: FBT001 - a case
    """The bound itself is still accepted."""
    assert _verdicts(
        [_measured("shrink-jpeg", limit=1.0, ours=ours, pooled=1.0, sharp=2.0, **{MAGICK_ALONE: 9.0})]
    ) == [
        holds,
        True,
        True,
        True,
    ]


def test_the_block_pool_has_a_bound_of_its_own() -> None:
    """What is demanded with the pool is not demanded without it."""
    measured = _measured("turn-jpeg", **{LIMIT: 1.0, OURS: 1.4, POOLED: 1.4, SHARP: 2.0, MAGICK_ALONE: 9.0})
    assert _verdicts([measured]) == [True, False, True, True]


def test_a_demand_that_was_not_measured_is_neither_met_nor_missed() -> None:
    """A machine without sharp proves nothing about sharp."""
    assert _verdicts([_measured("pass-jpeg", limit=1.0, ours=1.0)]) == [True, None, None]


def test_shares_are_compared_with_their_bounds() -> None:
    """Full encodes, threads and corruptions count as measured."""
    accepted = Corruption(harmful=280, sound=16, accepted={"ours, passing": 28, "libvips": 200}, false_alarms={})
    others = Others(full_encodes=[1] * 94 + [2] * 6, thread_gains={"a": 1.6}, corruption=accepted)
    assert _verdicts([], others) == [False, True, True]


def test_a_missing_peer_is_named_in_the_table() -> None:
    """A reader sees that a peer was not available, instead of a gap."""
    measured = _measured("pass-png", limit=0.1, ours=0.05)
    measured.missing[SHARP] = "not installed"
    (row,) = report.times_table([measured]).splitlines()[2:]
    assert row.split(" | ")[1:3] == ["100", "50 (0.50)"]
    assert row.split(" | ")[list(ENGINES).index(SHARP) + 1] == "not installed"


def test_only_the_text_between_the_markers_is_replaced(tmp_path: Path) -> None:
    """The text around the tables is written by people."""
    page = tmp_path / "README.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_between_markers(page, "new")
    report.write_between_markers(page, "newer")
    assert page.read_text() == f"before\n{report.BEGIN}\n\nnewer\n\n{report.END}\nafter\n"


def test_pictures_can_be_drawn_if_there_are_no_photos() -> None:
    """The benchmark runs on any machine, and on the same pictures every time."""
    drawn = inputs.compose(64, 48, (), seed=3)
    assert drawn.size == (64, 48)
    assert drawn.tobytes() == inputs.compose(64, 48, (), seed=3).tobytes()


def test_only_visible_corruption_counts_as_harmful() -> None:
    """A lost half does; a changed comment does not, nor does a file that no decoder opens."""
    buffer = BytesIO()
    inputs.compose(640, 480, ()).save(buffer, "JPEG", comment=b"abc")
    sound = buffer.getvalue()
    seen = corruption.seen(sound)
    assert corruption.is_harmful(sound[: len(sound) // 2] + b"\xff\xd9", seen)
    assert not corruption.is_harmful(sound.replace(b"abc", b"abd"), seen)
    assert not corruption.is_harmful(b"\xff\xd8\xff", seen)


def test_trial_encodes_of_a_part_do_not_count_as_full_encodes() -> None:
    """Only encodes of the whole picture are counted, and saving works as before afterwards."""
    save = Image.Image.save
    buffer = BytesIO()
    inputs.compose(2_400, 1_800, ()).save(buffer, "BMP")
    assert encodes.count_full_encodes(buffer.getvalue()) == 1
    assert Image.Image.save is save


def test_an_engine_responds_line_by_line_and_survives_a_damaged_picture(tmp_path: Path) -> None:
    """A picture that an engine cannot read is a result, not the end of the run."""
    sound, broken = tmp_path / "sound.jpg", tmp_path / "broken.jpg"
    inputs.compose(320, 240, ()).save(sound, "JPEG")
    broken.write_bytes(b"not an image")
    job = _job("pass-jpeg").as_json()
    with rounds.Worker(OURS, tmp_path) as worker:
        assert not worker.ask("prepare", job=job, source=broken, told=None)
        assert "error" in worker.ask("run")
        assert not worker.ask("prepare", job=job, source=sound, told=None)
        answer = worker.ask("run")
    assert answer["cpu_s"] > 0
    assert answer["made"]["told"] == {"width": 320, "height": 240, "media_type": "image/jpeg"}
    assert answer["peak_bytes"] > 10_000_000
