"""How large an ε an attack has shown, and the largest that any attack with so many models can show."""

import math

from unlearning.errors import MetricError


def epsilon_cap(models: int) -> float:
    """ln(N - 1): with N models, the strongest evidence is to be right on all but one.

    A measured ε near the cap says that the audit ended there, not that the leak does.

    Args:
        models: N ≥ 2.

    Raises:
        MetricError: Fewer than two models.

    >>> round(epsilon_cap(17), 4)  # ln 16
    2.7726
    """
    if models < 2:  # noqa: PLR2004 - one model alone is compared with nothing
        raise MetricError(f"{models} models cannot show any ε: at least 2 are needed.")
    return math.log(models - 1)


def shown_epsilon(tpr_low: float, fpr_high: float, models: int, *, delta: float = 0.0) -> float:
    """min(ln((TPR - δ) / FPR), ln(N - 1)), at least 0: what (ε, δ)-differential privacy would have to exceed.

    Kairouz, Oh and Viswanath (2015), theorem 2.1: under (ε, δ) no attack has TPR > e^ε FPR + δ. With the lower end of one
    95 % interval and the upper end of the other, the bound holds in at least 95 % of audits: each end errs 2.5 %.

    Args:
        tpr_low: Lower end of the interval of the true-positive rate.
        fpr_high: Upper end of the interval of the false-positive rate, above 0.
        models: N, for the cap; see `epsilon_cap`.
        delta: δ.

    Raises:
        MetricError: A rate is not between 0 and 1, or fewer than two models.

    >>> round(shown_epsilon(0.2, 0.05, 64), 4), round(shown_epsilon(0.9, 0.001, 17), 4)  # ln 4, and ln 16: capped
    (1.3863, 2.7726)
    """
    if not (0 <= tpr_low <= 1 and 0 < fpr_high <= 1 and 0 <= delta < 1):
        raise MetricError(f"Rates of {tpr_low} and {fpr_high} with δ = {delta} bound no ε.")
    cap = epsilon_cap(models)
    if tpr_low <= delta:
        return 0.0
    return min(cap, max(0.0, math.log((tpr_low - delta) / fpr_high)))
