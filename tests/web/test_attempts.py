"""Wrong passwords are bounded in number and in the memory they take."""

from evalplatform.web import attempts
from evalplatform.web.attempts import Attempts


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_after_the_limit_the_key_waits_until_its_first_failure_is_old() -> None:
    clock = Clock()
    bounded = Attempts(limit=3, seconds=60, clock=clock)
    for _ in range(3):
        assert bounded.wait("a") == 0
        bounded.fail("a")
        clock.now += 10
    assert bounded.wait("a") == 30
    assert bounded.wait("b") == 0
    clock.now += 31
    assert bounded.wait("a") == 0


def test_success_forgets_the_failures() -> None:
    bounded = Attempts(limit=1, seconds=60)
    bounded.fail("a")
    assert bounded.wait("a") > 0
    bounded.forget("a")
    assert bounded.wait("a") == 0


def test_guessed_addresses_do_not_fill_the_memory(monkeypatch) -> None:
    monkeypatch.setattr(attempts, "KEYS_KEPT", 5)
    bounded = Attempts(limit=1, seconds=60)
    for number in range(50):
        bounded.fail(number)
    assert bounded.wait(0) == 0
    assert bounded.wait(49) > 0
    assert len(bounded._failures) == 5
