"""Numbers printed in Raghu, Raghu, Bengio & Vinyals 2020 (arXiv 1909.09157), in per cent; ± is their seed_std.

Table 1 has the camera-ready's values as far as they are known to us (the rows between the first and the last of 1-shot
second-hand, those of 5-shot not); table 2's are the same in both versions that we know; tables 3 to 5 and the speed-ups
are the submission's. An empty string stands for what is not known.
"""

OMNIGLOT = "Omniglot 20-way"
MINI = "mini-ImageNet 5-way"

TABLE1 = {  # frozen convolutions -> (1-shot, 5-shot); camera-ready, errors of the middle rows not known
    0: ("46.9 ± 0.2", "63.1 ± 0.4"),
    1: ("46.5", ""),
    2: ("46.4", ""),
    3: ("46.3", ""),
    4: ("46.3 ± 0.4", "61.0 ± 0.6"),
}

TABLE2 = {
    "maml": {OMNIGLOT: ("93.7 ± 0.7", "96.4 ± 0.1"), MINI: ("46.9 ± 0.2", "63.1 ± 0.4")},
    "anil": {OMNIGLOT: ("96.2 ± 0.5", "98.0 ± 0.3"), MINI: ("46.7 ± 0.4", "61.5 ± 0.5")},
}

TABLE3 = {  # pair -> (CCA, CKA), averaged over the body, different seeds
    "MAML – MAML": ("0.51", "0.83"),
    "ANIL – ANIL": ("0.51", "0.86"),
    "MAML – ANIL": ("0.50", "0.83"),
}

TABLE4_NIL = {OMNIGLOT: ("96.7 ± 0.3", "98.0 ± 0.04"), MINI: ("48.0 ± 0.7", "62.2 ± 0.5")}

TABLE5 = {  # regime -> (1-shot, 5-shot), NIL head
    "maml": ("48.4 ± 0.3", "61.5 ± 0.8"),
    "anil": ("48.0 ± 0.7", "62.2 ± 0.5"),
    "multiclass": ("39.7 ± 0.3", "54.4 ± 0.5"),
    "multitask": ("26.5 ± 1.1", "34.2 ± 3.5"),
    "random": ("32.9 ± 0.6", "43.2 ± 0.5"),
    "nil": ("38.3 ± 0.6", "43.0 ± 0.2"),
}

COST = {"train": "1.7×", "inference": "4.1×"}


def column(data: str) -> str:
    """Which of the paper's data sets stands beside ours."""
    return OMNIGLOT if data == "omniglot" else MINI


def at_shot(pair: tuple[str, str], shot: int) -> str:
    """The 1-shot or the 5-shot value; nothing for other shots."""
    return pair[0] if shot == 1 else pair[1] if shot == 5 else ""
