"""Items at work: handed on once they are judged, but not when others may have the shard."""

import asyncio
from types import SimpleNamespace
from typing import Any

from apps.evaluations.engine.items import Active, ItemWork
from apps.evaluations.engine.outcome_buffer import OutcomeBuffer
from apps.evaluations.engine.store import Outcome
from apps.ids import new_id

OUTCOME = Outcome(0, 0, None, None, None, [], [])


class Scene:
    """One shard of two items at work, under leases that may be cut off."""

    def __init__(self) -> None:
        self.is_cut_off = False
        self.buffer = OutcomeBuffer()
        self.work = ItemWork(
            self.buffer,
            is_cut_off=lambda: self.is_cut_off,
            is_called_off=lambda: False,
            suspect=self._suspect,
            all_done=lambda: None,
            wake=lambda: None,
        )
        claim: Any = SimpleNamespace(
            shard=SimpleNamespace(pk=new_id()),
            context=SimpleNamespace(meter=SimpleNamespace(is_free=True)),
        )
        held: Any = SimpleNamespace(is_lost=False)
        self.active = Active(claim, held, left=2)
        self.work.active[claim.shard.pk] = self.active

    async def _suspect(self, *_: object) -> None:
        raise AssertionError("nothing is suspected here")


def test_what_ends_is_handed_on_and_the_shard_goes_with_its_last_item():
    scene = Scene()
    scene.work.keep(scene.active, OUTCOME)
    assert (len(scene.buffer.take()), scene.active.left, len(scene.work.active)) == (1, 1, 1)
    scene.work.keep(scene.active, OUTCOME)
    assert (len(scene.buffer.take()), scene.active.left, len(scene.work.active)) == (1, 0, 0)


def test_what_ends_after_the_leases_were_cut_off_is_not_handed_on():
    """It may have ended by the cut: an error that was none, stored by who held the shard."""
    scene = Scene()
    scene.is_cut_off = True
    scene.work.keep(scene.active, OUTCOME)
    assert not scene.buffer
    assert scene.active.left == 2


def test_what_ends_of_a_lost_shard_is_not_handed_on():
    scene = Scene()
    scene.work.drop(scene.active)
    scene.work.keep(scene.active, OUTCOME)
    assert not scene.buffer


def test_a_model_is_not_asked_after_a_cut_nor_for_what_begins_while_draining():
    scene = Scene()
    assert not scene.work.must_not_call()
    scene.work.is_draining = True
    assert scene.work.must_not_call()
    scene.work.is_draining = False
    scene.is_cut_off = True
    assert scene.work.must_not_call()


def test_who_grades_waits_for_the_writer_when_the_buffer_is_full(monkeypatch):
    monkeypatch.setattr("apps.evaluations.engine.outcome_buffer.BUFFER_CAPACITY", 2)

    async def play() -> None:
        scene = Scene()
        held = scene.active.held
        scene.buffer.add(held, OUTCOME)
        going_on = asyncio.create_task(scene.buffer.wait_for_room())
        await asyncio.sleep(0)
        assert going_on.done()
        scene.buffer.add(held, OUTCOME)
        waiting = asyncio.create_task(scene.buffer.wait_for_room())
        await asyncio.sleep(0)
        assert not waiting.done()
        scene.buffer.take()
        scene.buffer.reopen()
        await waiting

    asyncio.run(play())
