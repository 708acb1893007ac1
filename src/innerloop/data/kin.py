"""Which classes of one data set a model knows already from another: those must not be tested as unseen.

Decided by names, by hand where the names differ, and rather too widely than too narrowly: of letters, a whole script
counts as met when any of its letters was trained on.
"""

from collections.abc import Sequence

from innerloop.errors import InnerloopError

_GEORGIAN = ("Asomtavruli_(Georgian)", "Mkhedruli_(Georgian)")
_CANADIAN = (
    "Blackfoot_(Canadian_Aboriginal_Syllabics)",
    "Inuktitut_(Canadian_Aboriginal_Syllabics)",
    "Ojibwe_(Canadian_Aboriginal_Syllabics)",
)

ALPHABETS = {
    "latin": ("Latin",),
    "greek": ("Greek",),
    "coptic": (),
    "cyrillic": ("Cyrillic", "Old_Church_Slavonic_(Cyrillic)"),
    "canadian-syllabics": _CANADIAN,
    "lisu": ("Latin",),  # Latin capitals, many of them turned, and rotations are classes of omniglot
    "old-italic": (),
    "ogham": (),
    "georgian": _GEORGIAN,
    "lao": (),
    "armenian": ("Armenian",),
    "hebrew": ("Hebrew",),
    "nko": ("N_Ko",),
    "tifinagh": ("Tifinagh",),
    "arabic": ("Malay_(Jawi_-_Arabic)",),
}
"""script of glyphs -> alphabets of omniglot with the same letters. Of Coptic and Old Italic, glyphs has only letters
that do not look like Greek or Latin ones."""

THINGS = {
    "Faces": ("baby", "boy", "girl", "man", "woman"),
    "Faces_easy": ("baby", "boy", "girl", "man", "woman"),
    "Leopards": ("leopard",),
    "Motorbikes": ("motorcycle",),
    "brontosaurus": ("dinosaur",),
    "cellphone": ("telephone",),
    "crocodile_head": ("crocodile",),
    "hawksbill": ("turtle",),
    "stegosaurus": ("dinosaur",),
    "windsor_chair": ("chair",),
}
"""class of caltech101 -> classes of CIFAR-100 that are the same thing, of its kind, or contain it; else the same name.
Near kin, such as crayfish and lobster or watch and clock, are other things."""

LETTERS, OBJECTS, CIFAR = ("omniglot", "glyphs"), ("cifar_fs", "fc100", "caltech101"), ("cifar_fs", "fc100")


def met(source: str, trained_on: Sequence[str], target: str, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the classes `names` of data set `target` that a model knows which was trained on those of `source`.

    Rotations of an omniglot character are that character. Raises ValueError for a pair of data sets of which it is not
    known which classes they share.
    """
    if not any(source in group and target in group for group in (LETTERS, OBJECTS)):
        raise InnerloopError(
            f"it is not known which classes {source} and {target} share, so a test on {target} could count classes as "
            f"unseen that are not; there is a list for {' and '.join(LETTERS)}, and for {', '.join(OBJECTS)}"
        )
    coarse = source != target and source in LETTERS
    known = {s for name in trained_on for s in subjects(source, name, scripts=coarse)}
    return tuple(n for n in names if not known.isdisjoint(subjects(target, n, scripts=coarse)))


def subjects(data: str, name: str, *, scripts: bool = False) -> frozenset[str]:
    """What a class shows, in words that data sets share: a character (or, with `scripts`, its alphabets), a thing.

    With `scripts`, a glyphs script stands for omniglot's alphabets and for itself.
    """
    if data == "glyphs" and scripts:
        script = name.split("/")[0]
        return frozenset((script, *ALPHABETS[script]))
    if data == "omniglot":
        alphabet, character, *_ = name.split("/")
        return frozenset((alphabet,) if scripts else (f"{alphabet}/{character}",))
    if data == "caltech101":
        return frozenset(THINGS.get(name, (name.lower(),)))
    return frozenset((name,))
