"""Missions as words: what MiniGrid and BabyAI say in English, as numbers.

Every word that a mission of minigrid 3.2 can contain has a number; punctuation is dropped, for
word order tells as much.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from suite.spaces import Text

_VOCABULARY = """
a after and at avoid ball behind blue box door end fetch find from front get go goal green grey
hallway in key lava left matching maze must near next object of on open opening pick purple put
reach red right room rooms square the then to traverse unlock up use yellow you your
"""

WORDS = tuple(_VOCABULARY.split())
"""The vocabulary, sorted; the first word is number 1, and 0 pads."""

_NUMBERS = {word: number for number, word in enumerate(WORDS, start=1)}

_NAVIGATIONS = np.zeros(len(WORDS) + 1, np.int64)
for _verb, _count in {"go": 1, "open": 1, "pick": 1, "put": 2}.items():
    _NAVIGATIONS[_NUMBERS[_verb]] = _count


def words(length: int) -> Text:
    """Make the space of missions of up to ``length`` words."""
    return Text(length, len(WORDS) + 1)


@lru_cache(maxsize=100_000)
def tokens(mission: str, length: int) -> np.ndarray:
    """Number the words of a mission, padded with zeros: ``[length]``, read-only.

    Raises:
        ValueError: a word is not in the vocabulary, or there are more than ``length`` words.
    """
    found = re.findall(r"[^\s,]+", mission)
    unknown = [word for word in found if word not in _NUMBERS]
    if unknown:
        raise ValueError(f"mission {mission!r} has a word that is not in the vocabulary: {unknown}")
    if len(found) > length:
        raise ValueError(f"mission {mission!r} has {len(found)} words, more than {length}")
    numbers = np.zeros(length, words(length).dtype)
    numbers[: len(found)] = [_NUMBERS[word] for word in found]
    numbers.flags.writeable = False
    return numbers


def navigations(missions: np.ndarray) -> np.ndarray:
    """Count the places that a BabyAI mission makes the agent go to.

    Tokens ``[..., length]`` to counts ``[...]``; two for putting a thing next to another.
    """
    counts: np.ndarray = _NAVIGATIONS[missions].sum(axis=-1)
    return counts
