"""The head of a model is its last block, whatever its name."""

from innerloop.studies.claims import Range
from innerloop.studies.inside import similarity_claims


def test_a_head_of_another_name_is_not_taken_for_a_block_of_the_body() -> None:
    """Its similarity, far below every bound of the body, must not decide the claim about the body."""
    alike = {
        name: {"body": Range(0.95, 0.94, 0.96), "classifier": Range(0.2, 0.19, 0.21)}
        for name in ("CCA", "CCA of 98 %", "CKA")
    }
    outcomes = similarity_claims(alike, "classifier")
    assert [o.holds for o in outcomes] == [True, True, True, True]
    assert all("head 0.200" in o.evidence for o in outcomes[1::2])
    assert all("classifier" not in o.evidence for o in outcomes)
