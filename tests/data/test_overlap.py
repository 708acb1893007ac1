"""Which classes a model has seen, against the shipped class lists."""

import pytest

from innerloop.core.episodes import SPLITS
from innerloop.data.caltech101 import CALTECH101, THINGS
from innerloop.data.cifar import CIFAR_FS, FC100
from innerloop.data.glyphs import ALPHABETS, GLYPHS, SCRIPTS
from innerloop.data.mini_imagenet import MINI_IMAGENET
from innerloop.data.omniglot import OMNIGLOT, character_names
from innerloop.data.overlap import seen_classes
from innerloop.data.splits import split_lines
from innerloop.errors import InnerloopError
from naming import names

VINYALS = {s: character_names(lines) for s, lines in split_lines("omniglot_vinyals").items()}
LAKE = split_lines("omniglot_lake")
CIFAR = split_lines("cifar_fs")


def test_the_tables_name_classes_that_exist() -> None:
    """Catches a name that is misspelt, whose class would then never be left out."""
    assert set(ALPHABETS) == {s.lower().replace(" ", "-") for s in SCRIPTS}
    alphabets = {a for lines in LAKE.values() for a in lines}
    assert {a for names in ALPHABETS.values() for a in names} <= alphabets
    assert set(THINGS) <= {c for lines in split_lines("caltech101").values() for c in lines}
    assert {c for names in THINGS.values() for c in names} <= {c for lines in CIFAR.values() for c in lines}


def test_rotations_are_the_same_character() -> None:
    trained = ["Greek/character01/rot090", "Latin/character02/rot000"]
    names = ["Greek/character01", "Greek/character02", "Latin/character02"]
    assert seen_classes(OMNIGLOT, trained, OMNIGLOT, names) == ("Greek/character01", "Latin/character02")


def test_what_vinyals_leaves_of_lakes_evaluation_alphabets() -> None:
    """236 of the 659 evaluation characters are training or validation classes; what is left is vinyals' own test."""
    evaluation = [n for names in VINYALS.values() for n in names if n.split("/")[0] in LAKE["test"]]
    assert len(evaluation) == 659
    trained = [f"{n}/rot{k:03}" for s in ("train", "val") for n in VINYALS[s] for k in (0, 90, 180, 270)]
    known = seen_classes(OMNIGLOT, trained, OMNIGLOT, evaluation)
    assert len(known) == 236
    assert set(evaluation) - set(known) == set(VINYALS["test"])


def test_a_script_counts_as_seen_when_any_of_its_letters_is() -> None:
    """Hebrew by its alphabet, Lisu as turned Latin; Lao and Ogham are in no alphabet of omniglot."""
    names = ("hebrew/RESH", "lisu/TA", "lao/KO", "ogham/MUIN")
    assert seen_classes(OMNIGLOT, ["Hebrew/character07/rot000"], GLYPHS, names) == ("hebrew/RESH",)
    assert seen_classes(OMNIGLOT, ["Latin/character01"], GLYPHS, names) == ("lisu/TA",)
    back = seen_classes(
        GLYPHS, ["cyrillic/SMALL BE"], OMNIGLOT, ["Old_Church_Slavonic_(Cyrillic)/character01", "Keble/c"]
    )
    assert back == ("Old_Church_Slavonic_(Cyrillic)/character01",)


def test_things_by_their_other_names() -> None:
    names = ("Faces", "Motorbikes", "anchor", "crocodile_head", "dolphin", "lobster")
    assert seen_classes(CIFAR_FS, ["boy", "motorcycle", "dolphin"], CALTECH101, names) == (
        "Faces",
        "Motorbikes",
        "dolphin",
    )
    assert seen_classes(FC100, ["crocodile"], CALTECH101, names) == ("crocodile_head",)
    assert seen_classes(CIFAR_FS, CIFAR["train"], FC100, CIFAR["train"] + CIFAR["test"]) == tuple(CIFAR["train"])


def test_pairs_without_a_list_are_refused() -> None:
    """Catches names of two languages (WordNet ids and words) that are compared and found different."""
    assert set(SPLITS) == set(CIFAR)
    for source, target in ((MINI_IMAGENET, CALTECH101), (OMNIGLOT, CALTECH101)):
        with pytest.raises(InnerloopError, match=names(source.name, target.name)):
            seen_classes(source, ["a"], target, ["b"])
