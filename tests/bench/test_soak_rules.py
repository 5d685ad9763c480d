"""The rules of the soak find what they are there to find, and nothing else."""

import itertools
from typing import Any

from bench.soak_rules import Process, Snapshot, Watch, flatness, overlapping

SUPERVISOR = 10


def actor(state: str = "running", desired: str = "up", generation: int = 1) -> dict[str, Any]:
    return {"state": state, "desired": desired, "generation": generation}


def alive(pid: int, name: str, generation: int, state: str = "S", parent: int = SUPERVISOR) -> Process:
    return Process(pid, parent, pid, state, pid * 100, name, generation)


def event(seq: int, kind: str, name: str = "g/a", generation: int = 1, mono: float = 0.0) -> dict[str, Any]:
    return {"seq": seq, "type": kind, "actor": name, "generation": generation, "mono": mono}


def seen(at: float = 0.0, **parts: Any) -> Snapshot:
    usual: dict[str, Any] = {
        "at": at, "supervisor": SUPERVISOR, "processes": (), "actors": {"g/a": actor()}, "events": (),
        "fds": 13,
    }  # fmt: skip
    return Snapshot(**usual | parts)


def watch(**parts: Any) -> Watch:
    return Watch(**{"fds_base": 10, "known": {"g/a"}} | parts)


def test_a_tree_in_order_breaks_nothing() -> None:
    rules = watch()
    events = [event(1, "spawn"), event(2, "ready"), event(3, "spawn", generation=2)]
    assert rules.check(seen(processes=(alive(1, "g/a", 1),), events=events[:2])) == []
    assert rules.check(seen(1.0, actors={"g/a": actor(generation=2)}, events=events[2:])) == []


def test_two_generations_alive_at_once_are_suspected_and_a_zombie_is_not() -> None:
    elder, younger, other = alive(1, "g/a", 1), alive(2, "g/a", 2), alive(3, "g/b", 7)
    assert overlapping([younger, other, elder]) == [(elder, younger)]
    assert overlapping([elder._replace(state="Z"), younger, other]) == []
    assert overlapping([elder, elder._replace(pid=4), other]) == []  # a grandchild of the same generation


def test_a_stopped_actor_that_runs_or_waits_to_run_is_found() -> None:
    rules = watch(down={"g/a"})
    down = {"g/a": actor("stopped", "down")}
    assert rules.check(seen(actors=down)) == []
    (found,) = rules.check(seen(actors=down, processes=(alive(7, "g/a", 3),)))
    assert found == "g/a is stopped, and pid 7 of its generation 3 runs"
    assert len(rules.check(seen(actors={"g/a": actor("backoff", "down")}))) == 1
    assert len(rules.check(seen(actors={"g/a": actor("stopped", "up")}))) == 1


def test_a_zombie_may_be_there_for_a_second_and_no_longer() -> None:
    rules = watch()
    body = (alive(7, "", 0, state="Z"),)
    assert rules.check(seen(0.0, processes=body)) == []
    assert rules.check(seen(0.9, processes=body)) == []
    assert len(rules.check(seen(1.1, processes=body))) == 1


def test_a_zombie_of_somebody_else_and_one_that_was_reaped_are_no_faults() -> None:
    rules = watch()
    strange = (alive(7, "", 0, state="Z", parent=1),)
    mine = (alive(8, "", 0, state="Z"),)
    assert rules.check(seen(0.0, processes=strange + mine)) == []
    assert rules.check(seen(1.0, processes=strange)) == []
    assert rules.check(seen(2.0, processes=strange + mine)) == []  # the pid's next zombie


def test_time_in_which_the_supervisor_was_stopped_is_forgiven() -> None:
    rules = watch()
    body = (alive(7, "", 0, state="Z"),)
    rules.check(seen(0.0, processes=body))
    rules.forgive(3.0)
    assert rules.check(seen(3.5, processes=body)) == []


def test_descriptors_beyond_those_of_the_live_actors_are_a_leak() -> None:
    assert watch().check(seen(fds=10 + 3 + 24)) == []
    assert len(watch().check(seen(fds=10 + 3 + 25))) == 1
    assert len(watch().check(seen(fds=10 + 25, actors={"g/a": actor("stopped")}))) == 1


def test_a_hole_in_the_numbers_of_events_is_found() -> None:
    assert watch(last_seq=4).check(seen(events=[event(5, "state"), event(6, "state")])) == []
    assert watch(last_seq=4).check(seen(events=[event(6, "state")])) == ["event 6 follows event 4"]


def test_a_generation_that_goes_back_is_found_in_events_and_status() -> None:
    rules = watch()
    rules.check(seen(actors={"g/a": actor(generation=3)}, events=[event(1, "spawn", generation=3)]))
    assert len(rules.check(seen(actors={"g/a": actor(generation=2)}))) == 1
    again = seen(actors={"g/a": actor(generation=3)}, events=[event(2, "spawn", generation=3)])
    assert rules.check(again) == ["g/a: generation 3 was spawned after 3"]


def test_an_actor_that_was_removed_may_begin_anew() -> None:
    rules = watch(down={"g/a"})
    rules.check(seen(actors={"g/a": actor("stopped", "down", 3)}, events=[event(1, "spawn", generation=3)]))
    rules.forget("g/a")
    assert rules.check(seen(actors={})) == []
    rules.known.add("g/a")
    assert rules.check(seen(events=[event(2, "spawn", generation=1)])) == []


def test_a_hang_verdict_needs_somebody_who_stopped_the_actor() -> None:
    rules = watch(frozen={"g/a": 20.0})
    assert rules.check(seen(events=[event(1, "hang", mono=19.0)])) == []
    assert len(rules.check(seen(events=[event(2, "hang", mono=21.0)]))) == 1
    assert len(watch().check(seen(events=[event(1, "hang", mono=1.0)]))) == 1


def test_status_and_file_name_the_same_actors() -> None:
    assert watch().check(seen(actors={})) == ["g/a is in the file and not in the status"]
    assert len(watch().check(seen(actors={"g/a": actor(), "g/b": actor()}))) == 1


def test_memory_is_flat_when_the_second_half_grows_by_no_more_than_noise() -> None:
    early = [(second, 20.0 + second / 10) for second in range(100)]  # filling up
    wave = itertools.cycle((0.0, 0.1))
    flat = flatness(early + [(second, 30.0 + next(wave)) for second in range(100, 300)])
    assert flat is not None
    assert flat.flat
    leak = flatness(early + [(second, 30.0 + (second - 100) / 50 + next(wave)) for second in range(100, 300)])
    assert leak is not None
    assert not leak.flat
    assert 70 < leak.slope_mb_per_h < 74
    assert flatness([(0.0, 1.0), (1.0, 1.0)]) is None
