"""Roles of the words of a question: question word, attribute, noun, verb, other, by a closed table.

For: ``align="words"``: averages by role, as Palit et al. 2023 (arXiv 2308.14179) have them, over questions of different
words and lengths. Users wrap `word_roles` in a function of their own where they know better.
Ends: at names. There is no model of parts of speech and no context beyond two neighbouring words: a word has the same
role wherever it stands ("painted" is an attribute in "in what color is it painted?" too).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

QUESTION, ATTRIBUTE, NOUN, VERB, OTHER, SPECIAL, START, ANSWER, PATCH = ROLES = (
    *("question word", "attribute", "noun", "verb", "other", "special token"),
    *("start token", "answer", "image patch"),
)

#: The token that the answer decoder starts with; behind it is the answer.
_START = "[DEC]"

_QUESTION = """
what which who whom whose where when why how many much
"""
# Colours, sizes, materials (COCO-QA, CLEVR, VQA, GQA), numbers, MIT-States' adjectives, expressions of faces.
_ATTRIBUTE = """
red orange yellow green blue cyan teal purple violet pink magenta brown black white gray grey beige gold golden silver
tan dark bright pale colorful colored striped plain
big large huge small little tiny tall short long wide narrow thick thin deep high low heavy light lightweight
round square rectangular circular triangular oval flat curved straight sharp blunt pointed
metal metallic rubber wooden wood plastic glass leather brick concrete stone shiny matte transparent
one two three four five six seven eight nine ten zero
ancient barren bent broken browned brushed burnt caramelized chipped clean clear cloudy cluttered coiled cooked cored
cracked creased crinkled crumpled crushed damp deflated dented diced dirty draped dry dull empty engraved eroded
fallen filled foggy folded frayed fresh frozen full grimy inflated loose mashed melted modern moldy molten mossy muddy
murky new old open closed painted peeled pierced pressed pureed raw ripe ripped rough ruffled runny rusty scratched
shattered sliced smooth spilled splintered squished steaming sunny thawed tight toppled torn unpainted unripe upright
verdant viscous warped weathered wet whipped wilted windblown worn wrinkled young
happy sad angry surprised afraid fearful disgusted neutral scared excited bored tired
hot cold warm cool healthy beautiful cute pretty nice good bad real fake safe dangerous busy crowded visible male female
wild tame hairy furry fluffy bare sandy grassy snowy rainy ripe delicious electric
"""
# Base forms; `_inflected` adds the others.
_VERBS = """
ask bark bathe bend bite bloom blow board brush build burn buy call carry catch celebrate chase chew clap climb comb
come cook cover crawl cross cry cut cycle dance dig display dive do drag draw dribble drink drive drop eat enjoy enter
exit fall feed feel fight fill find fish fix flip float fly follow get give go grab graze greet grow hang happen hit
hold hug hunt hurdle jog jump keep kick kiss kneel knit know laugh lay lean leap leave lick lie lift listen live load
locate look make march meet move need open paddle paint park perform pet pick plant play point pose pour prepare press
provide pull push put race raise reach read relax rest ride rise roll row run sail saw say see seem sell serve share
shave shear shout show sign sing sip sit skate ski sleep slide smell smile smoke snow speak spin splash stand stare
start steer step stir stop stretch strum surf surround sweep swim swing take talk taste tell throw tie touch tow travel
try turn type use visit wait walk want wash watch wear weigh work wrap write yell
"""
_OTHER_FORMS = """
am is are was were be been being isn aren wasn weren does did done doing has have had having can could will would
shall should may might must ate bit blew bought broke brought built came caught drank drew driven drove eaten fed felt
fell flew flown fought found gave given gone got grew grown held hidden hid hung kept knew known laid lay led lying lies
made met rode ridden rose ran sang sat saw seen sold said shown shorn slept slid spoke spoken spun stood stuck swam
swung taken took taught thought threw thrown told tied tying went wore written wrote appear appears contain contains
"""
_OTHER = """
a an the this that these those some any each every all both either neither no not none same other another such only
and or but nor if than then as so too very more most less least fewer greater equal else also just
of in on at to from by with without for about above across after against along among around away back behind below
beneath beside besides between beyond down during front inside into left near next off onto out outside over past right
through toward towards under underneath until up upon
there here it its he him his she her hers they them their theirs you your i me my we us our one's someone anyone
something anything everything nothing s t
"""
# Nouns that would be taken for verbs: by their ending, or by being a verb's form as well.
_NOUNS = """
building buildings ceiling ceilings clothing morning evening king ring rings wing wings string spring thing things
wedding railing railings awning painting paintings pudding frosting icing dressing earring earrings sibling siblings
seasoning topping toppings lightning crossing meaning drawing drawings parking
board boards cup fish light lights park picture pictures plant plants shape shapes sign signs ski skis
skate skates row rows saw type types use drink drinks load work pet pets race race horse smoke snow wood glass
position number color colour
"""
#: An attribute before another ("the light blue circle"), but not behind a noun ("is the traffic light green?").
_LIGHT = "light"


def _inflected(verb: str) -> Iterator[str]:
    """The regular forms of a verb: sit, sits, sitting; ride, rides, riding, rided (which nobody writes)."""
    stem = re.sub("(?<=[^e])e$", "", verb)
    ies = f"{verb[:-1]}i" if re.search("[^aeiou]y$", verb) else stem
    yield from (verb, f"{verb}s", f"{ies}es", f"{ies}ed", f"{stem}ing", f"{stem}{stem[-1]}ing", f"{stem}{stem[-1]}ed")


def _table() -> dict[str, str]:
    """Word -> role; where a word is in several lists, a later one of these holds."""
    lists = (
        (VERB, " ".join(form for verb in _VERBS.split() for form in _inflected(verb))),
        *((VERB, _OTHER_FORMS), (ATTRIBUTE, _ATTRIBUTE), (NOUN, _NOUNS), (OTHER, _OTHER), (QUESTION, _QUESTION)),
    )
    return {word: role for role, words in lists for word in words.split()}


_ROLE = _table()


def word_roles(tokens: Sequence[str]) -> tuple[str, ...]:
    """The role of each token of a question, or of an answer in the answer decoder; see ``align="words"``.

    Decided by lists of the words that questions of COCO-QA, CLEVR, VQA, GQA, SVO-Probes, MIT-States and the built-in
    model are made of. A word in none of them is a noun, as most words outside such lists are, or a verb if it ends in
    "-ing": that is a guess (of the built-in model's questions it is made for eight nouns alone, and is right).
    Auxiliaries (is, does, can) are verbs, "how many" is two question words, number words are attributes; articles,
    prepositions, pronouns and punctuation are "other": 36 % of the tokens of the built-in model's questions, nearly all
    of them "the", "?", "in" and "of". There is no look at the sentence: "painted" is an attribute and "run" a verb
    wherever they stand. Where you know better, give `align` a function of
    your own that calls this one::

        def roles(tokens):
            return ["sport" if token in SPORTS else role for token, role in zip(tokens, word_roles(tokens))]

    Args:
        tokens: word pieces; "##s" continues a word, whose role all its pieces have. Behind the decoder's start token is
            the answer. The image encoder's positions ("3,4") are image patches.

    Returns:
        for each one of "question word", "attribute", "noun", "verb", "other", "special token", "start token", "answer",
        "image patch".
    """
    if tokens and tokens[0] == _START:
        return (START, *[ANSWER] * (len(tokens) - 1))
    words: list[str] = []
    of: list[int] = []  # the word that each token belongs to
    for token in tokens:
        if token.startswith("##") and words:
            words[-1] += token[2:]
        else:
            words.append(token.lower())
        of.append(len(words) - 1)
    around = zip(["", *words], words, [*words[1:], ""], strict=False)
    roles = [_role(word, before, after) for before, word, after in around]
    return tuple(roles[word] for word in of)


def is_listed(word: str) -> bool:
    """Whether the role of a word is in the table, and no guess."""
    return word.lower() in _ROLE or not word.isalpha()


def _role(word: str, before: str, after: str) -> str:
    if re.fullmatch(r"\[[a-z]+\]", word):
        return SPECIAL
    if re.fullmatch(r"\d+,\d+", word):
        return PATCH
    if word == _LIGHT and _ROLE.get(after) == ATTRIBUTE and _ROLE.get(before, NOUN) != NOUN:
        return ATTRIBUTE
    if word in _ROLE:
        return _ROLE[word]
    if not any(character.isalnum() for character in word):
        return OTHER
    if word.isdigit():
        return ATTRIBUTE
    return VERB if word.endswith("ing") else NOUN
