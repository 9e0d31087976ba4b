"""The order in which runs begin."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
from hypothesis import given

from isocost.trainer.workers.queue import RunQueue


def test_first_come_first_served() -> None:
    queue = RunQueue()
    for name in ("a", "b", "c"):
        queue.put(name, [f"stage-{name}"])
    assert [queue.take() for _ in range(4)] == ["a", "b", "c", None]


def test_whoever_needs_what_is_being_made_waits_and_is_overtaken() -> None:
    queue = RunQueue()
    queue.put("first", ["weak", "human-1"])
    queue.put("same-weak", ["weak", "human-2"])
    queue.put("other", ["other-weak"])
    assert [queue.take() for _ in range(3)] == ["first", "other", None]
    assert queue.made(["weak"])
    assert not queue.made(["weak"]), "nothing new"
    assert queue.take() == "same-weak", "while the first one goes on with its second stage"


def test_a_later_stage_is_waited_for_as_well() -> None:
    queue = RunQueue()
    queue.put("first", ["weak", "human"])
    queue.put("evaluated-on-more", ["weak", "human"])
    assert queue.take() == "first"
    queue.made(["weak"])
    assert queue.take() is None
    queue.made(["human"])
    assert queue.take() == "evaluated-on-more"


def test_what_is_there_already_holds_nobody_up() -> None:
    queue = RunQueue()
    queue.put("first", ["weak", "human-1"], made=["weak"])
    queue.put("second", ["weak", "human-2"])
    assert [queue.take(), queue.take()] == ["first", "second"]


def test_where_the_maker_ends_without_it_the_next_one_makes_it() -> None:
    queue = RunQueue()
    for name in ("fails", "next", "last"):
        queue.put(name, ["weak", name])
    assert [queue.take(), queue.take()] == ["fails", None]
    queue.end("fails")
    assert [queue.take(), queue.take()] == ["next", None]


def test_a_run_that_goes_back_is_the_first_and_may_be_taken_out() -> None:
    queue = RunQueue()
    queue.put("lost", ["a"])
    queue.put("waits", ["b"])
    queue.put("removed", ["c"])
    assert queue.take() == "lost"
    queue.end("lost")
    queue.put("lost", ["a"], is_first=True)
    assert queue.remove("removed")
    assert not queue.remove("removed")
    assert len(queue) == 2
    assert [queue.take(), queue.take(), queue.take()] == ["lost", "waits", None]


@given(st.data(), st.integers(1, 4))
def test_all_runs_get_through_and_nothing_is_made_twice(data: st.DataObject, n_workers: int) -> None:
    stages = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True)
    runs = data.draw(st.dictionaries(st.integers(0, 30).map("run-{}".format), stages, max_size=12))
    queue = RunQueue()
    for name, products in runs.items():
        queue.put(name, products)
    made: list[str] = []
    begun: dict[str, list[str]] = {}
    while len(queue) or begun:
        while len(begun) < n_workers and (run_id := queue.take()):
            begun[run_id] = [product for product in runs[run_id] if product not in made]
            others = [set(begun[other]) for other in begun if other != run_id]
            assert set(begun[run_id]).isdisjoint(set().union(*others))
        assert begun, "somebody must go on"
        chosen = data.draw(st.sampled_from(sorted(begun)))
        if begun[chosen]:
            product = begun[chosen].pop(0)
            made.append(product)
            queue.made([product])
        else:
            del begun[chosen]
            queue.end(chosen)
    assert Counter(made) == Counter(dict.fromkeys({product for products in runs.values() for product in products}, 1))
