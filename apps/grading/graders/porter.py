"""Porter's English stemmer with nltk's extensions, for the stem stage of METEOR."""

from functools import lru_cache

CACHED_WORDS = 1 << 16
LONGEST_CACHED = 64

IRREGULAR = {
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "news": "news",
    "innings": "inning",
    "inning": "inning",
    "outings": "outing",
    "outing": "outing",
    "cannings": "canning",
    "canning": "canning",
    "howe": "howe",
    "proceed": "proceed",
    "exceed": "exceed",
    "succeed": "succeed",
    "sky": "sky",
}

# The first suffix of a table that a word ends in decides, even if the rest is then too short.
Table = tuple[tuple[str, str], ...]

DERIVED: Table = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
)
QUALIFIED: Table = (
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
)
PLAIN: Table = tuple(
    (suffix, "")
    for suffix in (
        *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent"),
        *("ou", "ism", "ate", "iti", "ous", "ive", "ize"),
    )
)


def stem(word: str) -> str:
    """Return the stem of a lower-cased word; cached, except for words too long to come back.

    Source: Porter 1980; equals nltk's PorterStemmer in its default mode.
    """
    return _cached(word) if len(word) <= LONGEST_CACHED else _stem(word)


def _stem(word: str) -> str:
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = _without_inflection(_without_plural(word))
    word = _with_final_i(word)
    word = _without_derivation(word)
    word = _replaced(word, QUALIFIED, longer_than=0)
    word = _without_suffix(word)
    return _without_final_e_or_l(word)


_cached = lru_cache(CACHED_WORDS)(_stem)


def _without_plural(word: str) -> str:
    """Do step 1a: plurals."""
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _without_inflection(word: str) -> str:
    """Do step 1b: -ed and -ing."""
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        if word.endswith(suffix):
            base = word.removesuffix(suffix)
            return _repaired(base) if "v" in _shape(base) else word
    return word


def _repaired(base: str) -> str:
    """Put right the end of a verb that has lost -ed or -ing."""
    if base.endswith(("at", "bl", "iz")):
        return base + "e"
    if base[-2:-1] == base[-1] and _shape(base)[-1] == "c":
        return base if base[-1] in "lsz" else base[:-1]
    # nltk writes the rule above as the suffix "*d" and so takes that as a suffix too.
    if base.endswith("*d"):
        return base[:-2] + "d"
    return base + "e" if _measure(base) == 1 and _ends_short(base) else base


def _with_final_i(word: str) -> str:
    """Do step 1c: final y; as nltk, only after a consonant that does not begin the word."""
    if word.endswith("y") and len(word) > 2 and _shape(word[:-1])[-1] == "c":
        return word[:-1] + "i"
    return word


def _without_derivation(word: str) -> str:
    """Do step 2: derivations; as nltk, take -alli first and then look again."""
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        word = word[:-2]
    # The l counts as part of the stem, so that geo-logi is long enough.
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replaced(word, DERIVED, longer_than=0)


def _without_suffix(word: str) -> str:
    """Do step 4: plain suffixes; -ion counts only after s or t, and then alone."""
    if word.endswith("ion"):
        base = word[:-3]
        return base if base.endswith(("s", "t")) and _measure(base) > 1 else word
    return _replaced(word, PLAIN, longer_than=1)


def _without_final_e_or_l(word: str) -> str:
    """Do step 5: final e, and the second of two final l."""
    if word.endswith("e"):
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _ends_short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _replaced(word: str, table: Table, longer_than: int) -> str:
    for suffix, replacement in table:
        if word.endswith(suffix):
            base = word.removesuffix(suffix)
            return base + replacement if _measure(base) > longer_than else word
    return word


def _shape(word: str) -> str:
    """Spell the word with c for consonants and v for vowels; y after a consonant is a vowel."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    """Return Porter's m: the number of places where a consonant follows a vowel."""
    return _shape(word).count("vc")


def _ends_short(word: str) -> bool:
    """Test for a last consonant, vowel, consonant but w, x, y; as nltk, also for all of vc."""
    shape = _shape(word)
    return shape == "vc" or (shape.endswith("cvc") and word[-1] not in "wxy")
