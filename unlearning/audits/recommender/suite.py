"""The recommender family's audit: what decides and what informs is in `unlearning.audits.suite`.

EASE and GF-CF have a numerical certificate (`certificate`). Approximate methods are judged by the scores of forgotten pairs
whose ends are still known and, where the models have embeddings, by users put together from what the items know
(`evidence`), which is all that can be asked of users who were forgotten whole.
"""

from collections.abc import Iterable, Iterator

from models.recommender.ease import EaseRecommender
from models.recommender.gfcf import GfcfRecommender
from unlearning.audits.comparisons import informing_checks
from unlearning.audits.evidence import LEAST_FORGOTTEN, Records
from unlearning.audits.recommender.certificate import COVERS, certificate_checks
from unlearning.audits.recommender.comparisons import comparisons
from unlearning.audits.recommender.evidence import RecommenderEvidence, View
from unlearning.audits.recommender.rankings import Rankings
from unlearning.audits.recommender.sets import Ground
from unlearning.audits.recommender.utility import forgotten_recall, other_rankings, utility
from unlearning.audits.report import Audit, Check
from unlearning.audits.suite import Parts, run_audit
from unlearning.audits.suites import Case
from unlearning.audits.utility import utility_checks


def audit(case: Case) -> Audit:
    """Measure one candidate against the original and the remaining interactions, and judge it."""
    ground = Ground(case.data, case.forget)
    pairs = RecommenderEvidence(case, ground)
    rankings = Rankings(pairs)

    def utilities(*, gating: bool, against_retrained: bool) -> Iterable[Check]:
        yield from utility_checks(
            utility(rankings), case.policy.utility_margin, gating=gating, against_retrained=against_retrained
        )
        yield from other_rankings(rankings)

    views = [*_views(case, ground, pairs)]
    parts = Parts(
        utility=utilities,
        forgotten=lambda: forgotten_recall(rankings),
        informing=lambda: informing_checks(views[0], comparisons(rankings)),
        certificate=lambda: certificate_checks(case, ground),
        covers=[COVERS] if isinstance(case.candidate, EaseRecommender | GfcfRecommender) else [],
    )
    return run_audit(views, parts)


def _views(case: Case, ground: Ground, pairs: RecommenderEvidence) -> Iterator[RecommenderEvidence]:
    """Yield the views in which something can be asked; the first one, if in neither."""
    folded_in = hasattr(case.parent, "propagate")
    if not folded_in or len(pairs.sets[Records.FORGOTTEN]) >= LEAST_FORGOTTEN:
        yield pairs
    if folded_in:
        yield RecommenderEvidence(case, ground, View.FOLDED_IN)
