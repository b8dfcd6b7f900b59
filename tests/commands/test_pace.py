"""How far it is: on what is no terminal a line now and then, with the time that is left."""

from ref.commands import pace
from ref.commands.pace import Pace


def test_a_log_is_told_now_and_then_with_the_time_left(capsys, monkeypatch):
    clock = iter([0.0, 10.0, 31.0, 50.0, 200.0, 260.0])
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(clock))
    with Pace("compare d", "tap") as one:
        for done in (10, 20, 30, 100, 150):
            one.reach(done, 150)
    assert capsys.readouterr().err.splitlines() == [
        "compare d: 20 of 150 taps, about 3 min left",
        "compare d: 100 of 150 taps, about 2 min left",
    ]


def test_what_is_quick_says_nothing(capsys):
    with Pace("compare", "dump", 3) as one:
        for _ in range(3):
            one.step()
    assert capsys.readouterr().err == ""
