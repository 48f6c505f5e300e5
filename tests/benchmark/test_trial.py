"""When cameras hold: by the results that came, and by their ages."""

from __future__ import annotations

from streamd.benchmark.trial import Asked, Result, judge

SECONDS, RATE = 10.0, 20.0
ASKED = Asked(RATE, SECONDS)


def results(cameras: int, *, left_out: int = 0, growing_ms: float = 0.0) -> list[Result]:
    """Of each camera 200 in ten seconds; the last camera lacks some, and ages may grow by so much a result."""
    found = []
    for turn in range(int(SECONDS * RATE)):
        for number in range(cameras):
            if number == cameras - 1 and turn < left_out:
                continue
            age_ms = 20 + turn * growing_ms
            found.append(Result(f"camera{number}", int(turn / RATE * 1e6), {"total": age_ms}))
    return found


def test_all_that_was_asked_for() -> None:
    trial = judge(results(3), 3, ASKED, SECONDS, 1.5, 200.0)
    assert trial.held
    assert (trial.results, trial.expected, trial.cpu, trial.memory_mib) == (600, 600.0, 1.5, 200.0)
    assert trial.age_p50_ms == trial.age_p99_ms == 20


def test_a_result_that_the_window_cuts_off_is_no_failure() -> None:
    assert judge(results(2, left_out=4), 2, ASKED, SECONDS, 1, 1).held


def test_a_clip_that_is_opened_again_may_miss_a_picture_each_time() -> None:
    short = Asked(RATE, SECONDS, clip_s=1.0)
    assert judge(results(2, left_out=14), 2, short, SECONDS, 1, 1).held
    assert not judge(results(2, left_out=14), 2, ASKED, SECONDS, 1, 1).held
    assert not judge(results(2, left_out=17), 2, short, SECONDS, 1, 1).held


def test_one_camera_that_is_served_too_little() -> None:
    trial = judge(results(3, left_out=40), 3, ASKED, SECONDS, 1, 1)
    assert not trial.held
    assert trial.why == "camera2 gave 16.0 results a second instead of 20"


def test_a_camera_that_gives_nothing() -> None:
    trial = judge(results(1), 2, ASKED, SECONDS, 1, 1)
    assert not trial.held
    assert "camera1 gave 0.0" in str(trial.why)


def test_nothing_at_all() -> None:
    trial = judge([], 1, ASKED, SECONDS, 1, 1)
    assert not trial.held
    assert trial.results == 0


def test_ages_that_grow() -> None:
    trial = judge(results(2, growing_ms=2.0), 2, ASKED, SECONDS, 1, 1)
    assert not trial.held
    assert trial.why == "results came later and later"


def test_ages_that_waver_are_no_failure() -> None:
    assert judge(results(2, growing_ms=0.1), 2, ASKED, SECONDS, 1, 1).held
