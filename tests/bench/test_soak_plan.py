"""The story of a seed is one and the same, and is about actors that exist."""

from collections import Counter
from itertools import islice

from bench.soak_plan import WEIGHTS, Plan, roster

LONG = 3000


def test_a_soak_begins_with_forty_actors() -> None:
    assert len(Plan(1).names()) == 40
    assert len(set(Plan(1).names())) == 40


def test_a_seed_gives_one_story_and_another_seed_another() -> None:
    stories = [list(islice(Plan(seed).actions(), 300)) for seed in (7, 7, 8)]
    assert stories[0] == stories[1]
    assert stories[0] != stories[2]


def test_every_kind_of_action_comes() -> None:
    kinds = Counter(action.kind for action in islice(Plan(3).actions(), LONG))
    assert set(kinds) == set(WEIGHTS)
    assert min(kinds.values()) > 10


def test_actions_are_about_actors_of_the_roster_and_most_of_it_stays_up() -> None:
    plan = Plan(5)
    for _ in range(LONG):
        before = set(plan.names()) | set(plan.members)
        down = set(plan.down)
        action = plan.next()
        assert set(action.targets) <= before | set(plan.members)
        assert plan.down | plan.paused <= set(plan.names())
        assert len(plan.down | plan.paused) < len(plan.names()) / 2
        if action.kind in ("kill", "stop", "drain", "restart", "freeze", "grow", "pause"):
            assert not down & set(action.targets)


def test_a_reload_changes_one_entry_of_the_file_or_none() -> None:
    plan = Plan(9)
    before = {name: vars(member).copy() for name, member in plan.members.items()}
    for _ in range(LONG):
        action = plan.next()
        now = {name: vars(member).copy() for name, member in plan.members.items()}
        changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        assert changed == (set(action.targets) if action.kind == "reload" else set())
        before = now


def test_plans_do_not_share_their_rosters() -> None:
    first, second = roster(), roster()
    first["one/one0"].tag = 5
    assert second["one/one0"].tag == 0
