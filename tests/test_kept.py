"""What a process keeps stays within its bound, and what was used last stays longest."""

from hypothesis import given
from hypothesis import strategies as st

from apps.kept import Kept


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 30))))
def test_what_is_kept_never_passes_the_bound_and_is_never_anothers(steps):
    kept: Kept[tuple[int, int]] = Kept(100)
    for is_put, key, size in steps:
        if is_put:
            kept.put(key, (key, size), size)
        found = kept.get(key)
        assert found is None or found[0] == key
        assert kept.byte_count <= 100


def test_what_was_unused_longest_goes_first():
    kept: Kept[str] = Kept(40)
    for key in "abcd":
        kept.put(key, key, 10)
    assert kept.get("a") == "a"
    kept.put("e", "e", 10)
    assert [kept.get(key) for key in "abcde"] == ["a", None, "c", "d", "e"]
    kept.put("large", "large", 11)
    assert kept.get("large") is None
    kept.forget()
    assert kept.get("a") is None
    assert kept.get_or_make("a", lambda: ("again", 10)) == "again"
