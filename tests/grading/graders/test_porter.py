"""The stemmer against nltk's."""

import re
from inspect import getsource

from hypothesis import example, given
from hypothesis import strategies as st
from nltk.stem import porter as nltk_porter

from apps.grading.graders import porter

NLTK = nltk_porter.PorterStemmer()

SUFFIXES = sorted(
    {suffix for table in (porter.DERIVED, porter.QUALIFIED, porter.PLAIN) for suffix, _ in table}
    | {"", "s", "es", "ies", "sses", "ed", "eed", "ied", "ing", "y", "e", "ll", "ion", "alli"}
    | {"logi", "logy", "at", "bl", "iz", "tt", "ss", "*d"}
)
# Letters in which the rules are dense, and enough suffixes that one rule feeds the next.
BUILT = st.builds(
    lambda letters, suffixes: letters + "".join(suffixes),
    st.text(alphabet="aeiouybltsxwz", max_size=6),
    st.lists(st.sampled_from(SUFFIXES), max_size=3),
)


@given(st.lists(BUILT | st.text(max_size=8).map(str.lower), min_size=5, max_size=20))
@example(["internationalli", "geologi", "flogi", "ab*ding", "yyyying"])
def test_a_stem_is_the_one_nltk_finds(words):
    for word in words:
        assert porter.stem(word) == NLTK.stem(word)


def test_the_words_of_nltks_own_explanations_have_its_stems():
    words = set(re.findall(r"[a-z]+", getsource(nltk_porter).lower()))
    assert len(words) > 500
    assert {word: porter.stem(word) for word in words} == {word: NLTK.stem(word) for word in words}


def test_every_irregular_form_is_nltks():
    assert NLTK.pool == porter.IRREGULAR


def test_a_word_too_long_to_be_cached_is_stemmed_all_the_same():
    word = "a" + "b" * porter.LONGEST_CACHED + "ational"
    assert porter.stem(word) == NLTK.stem(word)


def test_long_words_do_not_fill_the_cache():
    before = porter._cached.cache_info().currsize
    porter.stem("x" * 1000 + "ing")
    assert porter._cached.cache_info().currsize == before
