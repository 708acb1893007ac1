"""Which classes of one data set a model has seen already in another: those must not be tested as unseen.

Decided by names, by hand where the names differ, and rather too widely than too narrowly: of letters, a whole script
counts as seen when any of its letters was trained on. What a class shows says each data set (`Dataset.concepts`).
"""

from collections.abc import Sequence

from innerloop.data.dataset import Dataset
from innerloop.errors import InnerloopError


def seen_classes(source: Dataset, trained_on: Sequence[str], target: Dataset, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the classes `names` of `target` that a model has seen which was trained on those of `source`.

    Raises InnerloopError for two data sets of which it is not known which classes they share.
    """
    across = source.name != target.name
    if across and (not source.domain or source.domain != target.domain):
        raise InnerloopError(
            f"it is not known which classes {source.name} and {target.name} share, so a test on {target.name} could "
            f"count classes as unseen that are not. Their domains are {source.domain or 'not given'} and "
            f"{target.domain or 'not given'}; data sets of one domain call their concepts by the same words"
        )
    known = {concept for name in trained_on for concept in source.concepts(name, across)}
    return tuple(n for n in names if not known.isdisjoint(target.concepts(n, across)))
