"""Fine-tuning: forget the edges, and go on training on the interactions that remain.

The forgotten edges leave the graph, whom nothing is left of loses embedding and name, and training goes on from the
embeddings of the others: a warm start. The usual baseline, as in UnlearnRec (arXiv 2505.22649, section 4.1) and
RecEraser (arXiv 2201.06820). Deviation: with `calibration="validation"` (the default) it stops after the first epoch
in which forgotten pairs are ranked no higher than never-seen ones (`never_seen`); with `"paper"` it runs its epochs.

Guarantee: empirical, and a weak one: a warm start on retained data rarely removes the whole trace. Where its epochs
end before that, the result is returned all the same, for the audit to judge.
"""

import torch

from models.contracts import ForgetSet, Progress
from models.recommender.data import RecommenderData
from models.recommender.neural import NeuralRecommender, objective
from models.recommender.training import descend
from unlearning.catalog.recommender_networks import FinetuneConfig
from unlearning.methods.recommender.never_seen import NeverSeen
from unlearning.methods.recommender.removal import Removal, as_method_errors


def run(
    model: NeuralRecommender,
    data: RecommenderData,
    forget: ForgetSet,
    config: FinetuneConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> NeuralRecommender:
    """Train on what remains, starting from `model`.

    Raises:
        MethodError: An interaction is not in the data, or the embeddings left the numbers.
        MethodUnsuitableError: Nothing remains, or no calibration interactions look like the forgotten ones.
    """
    removal = Removal.of(model, data, forget)
    if not removal.learned:
        return model
    # Where no forgotten pair keeps both its ends, there is nothing to compare, and nothing left to move.
    if not removal.forgotten.shape[1]:
        return removal.model
    calibrated = config.calibration == "validation"
    never_seen = NeverSeen(removal, generator) if calibrated else None
    recipe = removal.model.config.recipe
    settings = recipe.model_copy(update={"learning_rate": config.learning_rate or recipe.learning_rate})
    with as_method_errors():
        loss = objective(recipe, removal.graph)
        for epoch in descend(loss, removal.graph, removal.model.factors, settings, generator=generator):
            figures = {"retained loss": epoch.loss}
            enough = False
            if never_seen is not None:
                with torch.no_grad():
                    final = loss.embed(epoch.factors.users, epoch.factors.items)
                figures["forgotten above negatives"] = float(
                    never_seen.ranks_of_forgotten(*final).shares.mean()
                )
                figures["never seen above negatives"] = never_seen.share_of_never_seen(*final)
                enough = figures["forgotten above negatives"] <= figures["never seen above negatives"]
            done = enough or epoch.number == config.epochs
            progress("fine-tuning", config.epochs if done else epoch.number, config.epochs, figures)
            if done:
                return removal.model.with_factors(epoch.factors)
    raise AssertionError("the descent ends only when it is told to")
