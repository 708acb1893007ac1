"""Tables 2 and 4: MAML, ANIL, and NIL on ANIL's body."""

from innerloop.studies.lab import Lab, difference
from innerloop.studies.paper import TABLE2, TABLE4_NIL, at_shot, column
from innerloop.studies.result import Claim, Drawing, Result, Row, at_least, bars_of


def table2(lab: Lab) -> Result:
    """MAML against ANIL."""
    rows = [_row(lab, "MAML", "maml", "maml"), _row(lab, "ANIL", "anil", "anil")]
    gap = _gap(lab, "ANIL − MAML", ("anil", "anil"), ("maml", "maml"))
    claim = Claim(
        "ANIL does as well as MAML",
        "mean over seeds of (ANIL − MAML) ≥ −2 points",
        at_least([gap.mean], -0.02),
        f"{100 * gap.mean:+.2f} points",
    )
    return _result(lab, rows, [gap], [claim])


def table4(lab: Lab) -> Result:
    """NIL, which has no inner loop at test, beside both."""
    rows = [
        _row(lab, "MAML", "maml", "maml"),
        _row(lab, "ANIL", "anil", "anil"),
        _row(lab, "NIL (ANIL's body)", "anil", "nil"),
    ]
    gap = _gap(lab, "NIL − ANIL", ("anil", "nil"), ("anil", "anil"))
    claim = Claim(
        "Without any inner loop the features alone do as well",
        "mean over seeds of (NIL − ANIL) ≥ −2 points",
        at_least([gap.mean], -0.02),
        f"{100 * gap.mean:+.2f} points",
    )
    return _result(lab, rows, [gap], [claim])


def _row(lab: Lab, label: str, body: str, test: str) -> Row:
    values = lab.per_seed(lambda s: lab.score(lab.trained(body, s), test))
    printed = TABLE4_NIL if test == "nil" else TABLE2[test]
    return Row(label, "accuracy", values, at_shot(printed[column(lab.data)], lab.shot))


def _gap(lab: Lab, label: str, a: tuple[str, str], b: tuple[str, str]) -> Row:
    def one(s: int):
        first, second = (lab.score(lab.trained(body, s), test) for body, test in (a, b))
        return difference(first, second)

    return Row(label, "points", lab.per_seed(one))


def _result(lab: Lab, rows: list[Row], gaps: list[Row], claims: list[Claim]) -> Result:
    drawing = Drawing(
        "bars",
        "",
        "accuracy (%)",
        (bars_of("ours", [r.label for r in rows], rows, by=100.0),),
        "ci95 over test episodes",
    )
    return Result((*rows, *gaps), tuple(claims), drawing, column(lab.data))
