"""Fine-tuning: going on with training, on the retained graph alone, and hoping that the rest fades.

Catastrophic forgetting does the work: what is no longer rehearsed is slowly overwritten. Source: the baseline of this
name in Golatkar et al., "Eternal Sunshine of the Spotless Net" (CVPR 2020), arXiv 1911.04933.

Deviations: with `calibration="validation"` (the default) it stops after the first epoch in which forgotten items look
like never-seen ones (`never_seen`); with `"paper"` it runs its epochs. Dropout and weight decay are those of training.

Guarantee: empirical, and a weak one: a warm start on retained data rarely removes the whole trace. Limits: where too
little is held out, or nothing was memorised, the calibrated form declines.
"""

import torch

from models.contracts import ForgetSet, Progress
from models.graph.data import GraphData
from models.graph.network import GraphModel
from models.graph.training import full_batch_epochs
from unlearning.catalog.graph import FinetuneConfig
from unlearning.methods.graph.never_seen import begin_calibration
from unlearning.methods.graph.sides import Sides, as_method_errors, forget_names
from unlearning.methods.graph.student import Scene


def run(
    model: GraphModel,
    data: GraphData,
    forget: ForgetSet,
    config: FinetuneConfig,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> GraphModel:
    """Train on what is retained, starting from `model`.

    Raises:
        MethodError: Something to forget is not in the data, or the weights left the numbers.
        MethodUnsuitableError: Nothing is retained, or calibration has no target here.
    """
    with as_method_errors():
        sides = Sides.of(model, data, forget)
        if not sides.touched:
            return forget_names(model.frozen(), data, forget)
        sides.require_retained(model)
        scene = Scene.of(model, sides.stage)
        rule = begin_calibration(config.calibration, model, sides, scene, forget, generator)
        recipe = model.config.recipe.model_copy(
            update={"epochs": config.epochs, "learning_rate": config.learning_rate}
        )
        tuned = model
        for epoch in full_batch_epochs(model, sides.retained, recipe, generator=generator):
            tuned = epoch.model
            with torch.no_grad():
                enough = rule.checks and rule.is_enough(tuned, scene.embed(tuned))
            figures = {"retained loss": epoch.loss, **rule.figures}
            progress("fine-tuning", epoch.of if enough else epoch.number, epoch.of, figures)
            if enough:
                break
        return forget_names(tuned.frozen(), data, forget)
