"""METEOR: align two texts word by word, in stages, and penalise broken order."""

from collections.abc import Callable, Sequence

from apps.grading.graders.porter import stem

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5

# By name, the key by which words match; a word matched in one stage is not free in the next.
STAGES: dict[str, Callable[[str], str]] = {"exact": str, "stem": stem}


def meteor(words: Sequence[str], reference: Sequence[str]) -> float:
    """Return the weighted harmonic mean of precision and recall, less a penalty for broken order.

    words, reference: lower-cased. Of m matched words in c unbroken stretches the penalty takes
    GAMMA * (c / m) ** BETA, so identical texts score 1 - 0.5 / m ** 3 and never 1. 0 when no word
    matches. There is no synonym stage: it needs WordNet.
    Source: Lavie and Agarwal 2007; equals nltk's single_meteor_score with an empty WordNet.
    """
    partners = align(words, reference)
    if not partners:
        return 0.0
    precision, recall = len(partners) / len(words), len(partners) / len(reference)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    return mean * (1 - GAMMA * (_stretches(partners) / len(partners)) ** BETA)


def align(words: Sequence[str], reference: Sequence[str]) -> dict[int, int]:
    """Map the positions of words to the positions of the reference words they match.

    Both texts are read from the end, as nltk does: a word takes the last free one that matches.
    """
    partners: dict[int, int] = {}
    free = list(enumerate(words))
    free_reference = list(enumerate(reference))
    for key in STAGES.values():
        waiting: dict[str, list[int]] = {}
        for position, word in free_reference:
            waiting.setdefault(key(word), []).append(position)
        for position, word in reversed(free):
            if candidates := waiting.get(key(word)):
                partners[position] = candidates.pop()
        taken = set(partners.values())
        free = [pair for pair in free if pair[0] not in partners]
        free_reference = [pair for pair in free_reference if pair[0] not in taken]
    return partners


def _stretches(partners: dict[int, int]) -> int:
    """Count the runs in which both positions advance by one."""
    return sum(partners.get(position - 1) != partner - 1 for position, partner in partners.items())
