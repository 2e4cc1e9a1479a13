"""The demo's own WordPiece vocabulary: a few hundred pieces, including every single letter.

For: splitting any English question into known pieces, rare words letter by letter, as in BERT's own vocabulary.
Ends: at pieces; `network.py` makes the tokenizer.
"""

from __future__ import annotations

import string

SPECIAL: tuple[str, ...] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")

# "triangle" is missing on purpose: it becomes "tri", "##angle", an answer of two pieces. Plurals end in "##s".
_WORDS = """
red orange yellow green blue light purple pink black circle square star heart ring tri
one two three four top bottom left right center
what which where who how when why whose many much color shape object thing number position part kind
is are was were be been do does did has have can could will would should there here that this these those it its
the a an of in on at to from with by for and or not no yes you see i we they he she
picture image photo scene used painted located placed shown seen
above below under over next near beside between behind front side middle corner edge up down upper lower
white brown gray dark bright big small large little tall round long short same different other another
five six seven eight nine ten zero none any all some every each both only first last most more less than
man woman person people child boy girl dog cat bird horse car bus train truck plane boat bike tree house street table
chair bed food plate cup bottle water sky grass snow beach room kitchen ball hat shirt hand head eye face
look looks like wear wearing hold holding sit sitting stand standing play playing ride riding eat eating make made
get go going come take use name type place time day
"""

_ENDINGS = """
##s ##es ##ed ##ing ##er ##est ##ly ##y ##angle ##tangle ##on ##al ##en ##ion ##ish ##ness ##ful ##or ##ar ##th
##st ##nd ##in ##an ##at ##it ##le ##ll ##re ##ic ##ul ##ou ##um ##ur ##ck ##ch ##sh ##ge ##te ##de ##ne ##se ##ment
"""

_STARTS = "re un in con de ex pre pro com dis be st tr th sh ch ph wh qu sp br gr cl pl fl"


def pieces() -> list[str]:
    """The vocabulary in the order of its ids: special tokens, words, beginnings, endings, characters."""
    letters = string.ascii_lowercase + string.digits
    listed = [
        *SPECIAL,
        *_WORDS.split(),
        *_STARTS.split(),
        *_ENDINGS.split(),
        *letters,
        *("##" + letter for letter in letters),
        *string.punctuation,
    ]
    return list(dict.fromkeys(listed))
