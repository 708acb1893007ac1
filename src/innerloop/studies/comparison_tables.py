"""Tables 2 and 4: MAML, ANIL, and NIL on ANIL's body."""

from innerloop.studies.bench import Bench, difference
from innerloop.studies.paper import TABLE2, TABLE4_NIL, at_shot, column
from innerloop.studies.result import Claim, Drawing, Result, Row, at_least, bars_of


def table2(bench: Bench) -> Result:
    """MAML against ANIL."""
    rows = [_row(bench, "MAML", "maml", "maml"), _row(bench, "ANIL", "anil", "anil")]
    gap = _gap(bench, "ANIL − MAML", ("anil", "anil"), ("maml", "maml"))
    claim = Claim(
        "ANIL does as well as MAML",
        "mean over seeds of (ANIL − MAML) ≥ −2 points",
        at_least([gap.mean], -0.02),
        f"{100 * gap.mean:+.2f} points",
    )
    return _result(bench, rows, [gap], [claim])


def table4(bench: Bench) -> Result:
    """NIL, which has no inner loop at test, beside both."""
    rows = [
        _row(bench, "MAML", "maml", "maml"),
        _row(bench, "ANIL", "anil", "anil"),
        _row(bench, "NIL (ANIL's body)", "anil", "nil"),
    ]
    gap = _gap(bench, "NIL − ANIL", ("anil", "nil"), ("anil", "anil"))
    claim = Claim(
        "Without any inner loop the features alone do as well",
        "mean over seeds of (NIL − ANIL) ≥ −2 points",
        at_least([gap.mean], -0.02),
        f"{100 * gap.mean:+.2f} points",
    )
    return _result(bench, rows, [gap], [claim])


def _row(bench: Bench, label: str, body: str, test: str) -> Row:
    values = bench.per_seed(lambda s: bench.score(bench.trained(body, s), test))
    printed = TABLE4_NIL if test == "nil" else TABLE2[test]
    return Row(label, "accuracy", values, at_shot(printed[column(bench.data)], bench.shot))


def _gap(bench: Bench, label: str, a: tuple[str, str], b: tuple[str, str]) -> Row:
    def one(s: int):
        first, second = (bench.score(bench.trained(body, s), test) for body, test in (a, b))
        return difference(first, second)

    return Row(label, "points", bench.per_seed(one))


def _result(bench: Bench, rows: list[Row], gaps: list[Row], claims: list[Claim]) -> Result:
    drawing = Drawing(
        "bars",
        "",
        "accuracy (%)",
        (bars_of("ours", [r.label for r in rows], rows, by=100.0),),
        "ci95 over test episodes",
    )
    return Result((*rows, *gaps), tuple(claims), drawing, column(bench.data))
