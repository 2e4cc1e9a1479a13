"""The four known circuits, as short descriptions: who reads what from whom, where, and who says the answer.

For: one description from which both the weights (`compiler`) and the truth (`truth`) are made, so that they agree.
Ends: at names. A role is what a row is for: the picture's patch of the place that is asked for, the word that names the
place, [CLS], the decoder's start token. A variable is a set of features, one for each colour: written by one step, read
by later ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

#: The places that can be asked for, each with the number of its patch, of 3 x 3.
PLACES = {"left": 3, "right": 5, "top": 1, "bottom": 7}
#: What can be there.
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
#: The answer where nothing is.
NOTHING = "none"
#: Rows and columns of patches, and the side of one in pixels.
SIDE, PIXELS = 3, 8
#: Layers of each block, and heads of each layer.
LAYERS = {"image_encoder": 2, "question_encoder": 4, "answer_decoder": 4}
HEADS = 4

Role: TypeAlias = Literal["patch", "place", "[CLS]", "[DEC]"]
CircuitName: TypeAlias = Literal["chain", "redundant", "both", "mlp"]
PATCH: Final = "patch"
PLACE: Final = "place"
CLS: Final = "[CLS]"
START: Final = "[DEC]"
#: The block in which the row of each role is.
BLOCK_OF: dict[Role, str] = {
    PATCH: "image_encoder",
    PLACE: "question_encoder",
    CLS: "question_encoder",
    START: "answer_decoder",
}
#: What the patches show, which no step has to write.
SHOWN = "shown"
#: Which place is asked for; of the words alone, whatever the picture shows.
ASKED = "asked"
#: The same, told to another row.
TOLD = "told"


@dataclass(frozen=True)
class Move:
    """An attention head whose reader attends to the source alone, and copies one of its variables.

    Attributes:
        layer, head: where, in the reader's block; self-attention if the source is in that block too.
        source: the role it attends to.
        reader: the role that attends.
        reads: the variable that it copies.
        writes: the variable that it copies it to.
    """

    layer: int
    head: int
    source: Role
    reader: Role
    reads: str
    writes: str

    @property
    def block(self) -> str:
        """The reader's block."""
        return BLOCK_OF[self.reader]

    @property
    def kind(self) -> str:
        """The attention that it is a head of."""
        return "self_attention" if BLOCK_OF[self.source] == self.block else "cross_attention"

    @property
    def role(self) -> Role:
        """Whose row it writes to."""
        return self.reader


@dataclass(frozen=True)
class Detect:
    """An MLP that sees, for each colour, whether a variable of its row has it: fully, or not at all.

    Attributes:
        layer: where, in the row's block.
        role: the row.
        reads: the variables that it looks at, each by itself.
        writes: the variable to which each of them adds its vote.
    """

    layer: int
    role: Role
    reads: tuple[str, ...]
    writes: str

    @property
    def block(self) -> str:
        """The row's block."""
        return BLOCK_OF[self.role]


@dataclass(frozen=True)
class Circuit:
    """A circuit.

    Attributes:
        steps: heads and MLPs, in the order in which they act.
        says: the variable of the start token that is read out as the answer.
        votes: how many votes a colour needs, where votes are counted; 0 where they are not.
    """

    steps: tuple[Move | Detect, ...]
    says: str
    votes: int = 0

    @property
    def writers(self) -> dict[str, list[Move | Detect]]:
        """The steps that carry what the picture shows, by the variable that they write."""
        found: dict[str, list[Move | Detect]] = {}
        for step in self.steps:
            if step.reads != ASKED:
                found.setdefault(step.writes, []).append(step)
        return found


def _carriers(votes: int) -> Circuit:
    """Two rows carry the colour from the picture to the start token, whose MLP counts their votes."""
    return Circuit(
        (
            Move(0, 0, PLACE, CLS, ASKED, TOLD),
            Move(1, 2, PATCH, PLACE, SHOWN, "fetched"),
            Move(1, 3, PATCH, CLS, SHOWN, "also fetched"),
            Move(1, 0, PLACE, START, "fetched", "heard"),
            Move(1, 1, CLS, START, "also fetched", "also heard"),
            Detect(2, START, ("heard", "also heard"), "counted"),
        ),
        "counted",
        votes,
    )


CIRCUITS: dict[CircuitName, Circuit] = {
    # One carrier after the other.
    "chain": Circuit(
        (
            Move(1, 2, PATCH, PLACE, SHOWN, "fetched"),
            Move(2, 1, PLACE, CLS, "fetched", "gathered"),
            Move(1, 0, CLS, START, "gathered", "heard"),
        ),
        "heard",
    ),
    # Two carriers, of which either is enough.
    "redundant": _carriers(votes=1),
    # Two carriers, both of which are needed.
    "both": _carriers(votes=2),
    # What is fetched is not what is read: an MLP in between makes the one into the other.
    "mlp": Circuit(
        (
            Move(1, 2, PATCH, PLACE, SHOWN, "fetched"),
            Detect(2, PLACE, ("fetched",), "named"),
            Move(3, 1, PLACE, CLS, "named", "gathered"),
            Move(1, 0, CLS, START, "gathered", "heard"),
        ),
        "heard",
    ),
}
