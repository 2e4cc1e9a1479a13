"""Damage to what files hold: any value in a tree of JSON becomes another, or goes, or is there twice; arrays too."""

import copy
import json

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

VALUES = (
    *(None, True, False, 0, 1, -1, 2, 7, 2**31, 2**53 + 1, -(2**63), 10**30, 10**400, 0.5, -2.5, 1e300),
    *(float("nan"), float("inf"), -float("inf"), "", " ", "x", "question_encoder", "mlp", "self_attention", "all"),
    *("\ud800", "a\nb", "\0", "../../x", "=1+1", "[CLS]", [], {}, [[]], [None], [1, 2], ["a"], [[True]], {"a": 1}),
    *({"type": "eval"}, {"type": ["GaussianNoise"]}, {"type": "ImageSwap"}, [[0.5, "x"]], "9" * 5000),
)


def mutated(tree, chance):
    """A tree in which a few values are others."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return tree
        owner, key = chance.choice(places)
        _change(owner, key, places, chance)
    return tree


def _places(tree):
    """Every value's owner, and its key there."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], (dict, list)):
            yield from _places(tree[key])


def _change(owner, key, places, chance):
    how = chance.random()
    if how < 0.5:
        owner[key] = copy.deepcopy(chance.choice(VALUES))
    elif how < 0.65:
        del owner[key]
    elif how < 0.8:  # what is elsewhere in the tree
        other, there = chance.choice(places)
        if there in other if isinstance(other, dict) else there < len(other):
            owner[key] = copy.deepcopy(other[there])
    elif isinstance(owner, list):
        owner.insert(key, copy.deepcopy(owner[key]))
    elif isinstance(owner[key], (int, float)) and not isinstance(owner[key], bool):
        by, more = chance.choice((-1, 2, 0.5, 1000, 3)), chance.choice((0, 1, -1))
        owner[key] = owner[key] * (by if abs(owner[key]) < 1e300 else -1) + more  # half of more is no float
    else:
        owner[f"{key} too"] = owner[key]


def mutated_arrays(arrays, chance):
    """Arrays of which one is of another shape, type or content, or gone."""
    arrays = dict(arrays)
    name = chance.choice(sorted(arrays))
    array = arrays[name]
    how = chance.randrange(7)
    if how == 0:
        del arrays[name]
    elif how == 1:
        arrays[name] = array[:-1].copy()
    elif how == 2:
        arrays[name] = array[..., None].copy()
    elif how == 3:
        arrays[name] = array.astype(chance.choice(("float32", "int64", "uint8", "bool")))
    elif how == 4:
        arrays[name] = array.reshape(-1).copy()
    elif how == 5 and array.size:
        changed = array.copy()
        changed.reshape(-1)[chance.randrange(array.size)] = chance.choice(
            {"u1": (0, 1, 255), "i8": (-1, 0, 2**62)}.get(array.dtype.str[1:], SCORES)
        )
        arrays[name] = changed
    else:
        arrays[name] = np.concatenate([array, array])
    return arrays


SCORES = (float("nan"), float("inf"), -float("inf"), 1e308, -1.0, 0.0)


class File:
    """A saved result, to be written damaged."""

    def __init__(self, path):
        with safe_open(path, framework="numpy") as file:
            ((self.format, told),) = file.metadata().items()
            self.arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.told = json.loads(told)

    def write(self, path, chance=None):
        """Write it with some of it changed, or whole."""
        told, arrays = self.told, self.arrays
        if chance is None:
            pass
        elif chance.random() < 0.2:
            arrays = mutated_arrays(arrays, chance)
        else:
            told = mutated(told, chance)
        save_file(arrays, path, metadata={self.format: json.dumps(told)})
        return path
