"""How much faster is one step of NPO with a retain term than the step that people run?

The naive step is the published scripts': a forward pass of the model on the forgotten records, one of a second, resident
model as the reference, one of the model on the retained records, all padded (to the batch's longest record, or to the
limit that the data set needs) and with the logits of every position. The engine's: reference losses computed
beforehand, forgotten and retained records together in groups of like length, logits at answer positions only. Both
descend the same loss, NPO (β 0.1) + mean loss per retained token, on the same records, and take an AdamW step whose rate is 0, so
that every repetition does the same work.

Records are random tokens whose numbers are drawn from the lengths of TOFU's retain90 under a byte-level BPE of 4,096 tokens
fitted to it (deciles below). The model is a Llama built from configuration: width 256, 4 layers.

    python -m benchmarks.npo_step [--json] [--quick]
"""

import argparse
import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.harness import PeakMemory, environment, interleaved_medians, print_table
from models.language.batches import by_length, padded
from models.language.scoring import record_losses, reference_losses
from models.language.tokens import TokenRow
from unlearning.losses.npo import npo_loss

SEED = 0
BETA = 0.1
LIMIT = 192
"""The multiple of 64 that holds the longest of TOFU's records, 162 tokens."""
PROMPT_DECILES = (18, 22, 23, 24, 25, 26, 27, 29, 31, 34, 77)
ANSWER_DECILES = (6, 19, 25, 30, 34, 38, 42, 46, 51, 59, 139)
IGNORED = -100
"""The label that the naive step gives to what is not an answer."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    width: int
    layers: int
    vocabulary: int
    large_vocabulary: int
    forgotten: int
    """Records of each side in the batch."""
    group: int
    """Records that the engine lays out side by side."""
    repeats: int


FULL = Sizes(width=256, layers=4, vocabulary=4096, large_vocabulary=32_000, forgotten=16, group=8, repeats=3)
QUICK = Sizes(width=32, layers=2, vocabulary=512, large_vocabulary=2048, forgotten=4, group=4, repeats=1)


def draw_lengths(deciles: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """Draw lengths whose distribution has these deciles, straight lines between them."""
    places = torch.rand(count, generator=generator) * (len(deciles) - 1)
    below = places.long()
    knots = torch.tensor(deciles, dtype=torch.float32)
    return torch.lerp(knots[below], knots[below + 1], places - below).round().int().tolist()


def draw_rows(count: int, vocabulary: int) -> list[TokenRow]:
    """Draw records of random tokens with the lengths of real ones."""
    generator = torch.Generator().manual_seed(SEED)
    prompts, answers = (
        draw_lengths(deciles, count, generator) for deciles in (PROMPT_DECILES, ANSWER_DECILES)
    )
    return [
        TokenRow(
            tuple(torch.randint(vocabulary, (prompt + answer,), generator=generator).tolist()),
            (False,) * prompt + (True,) * answer,
        )
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def build(sizes: Sizes, vocabulary: int, dtype: torch.dtype) -> LlamaForCausalLM:
    """Build a model with random weights."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=sizes.width,
        intermediate_size=2 * sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.width // 32,
        num_key_value_heads=sizes.width // 32,
        max_position_embeddings=LIMIT,
    )
    model: LlamaForCausalLM = LlamaForCausalLM(config)
    module: nn.Module = model  # whose types are known
    module.to(dtype).eval()
    return model


@dataclass(frozen=True)
class Labelled:
    """One side's records as the naive step has them, each of shape (n, t)."""

    tokens: Tensor
    mask: Tensor
    labels: Tensor

    @classmethod
    def of(cls, rows: Sequence[TokenRow], width: int) -> "Labelled":
        """Pad records to a width."""
        tokens, mask, labels = (
            torch.full((len(rows), width), fill, dtype=torch.int64) for fill in (0, 0, IGNORED)
        )
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = torch.tensor(row.tokens)
            mask[index, : len(row)] = 1
            answer = torch.tensor(row.answer)
            labels[index, : len(row)] = torch.where(answer, tokens[index, : len(row)], IGNORED)
        return cls(tokens, mask, labels)

    def losses(self, model: LlamaForCausalLM) -> Tensor:
        """Compute each record's summed loss from the logits of every position, shape (n,)."""
        logits = model(input_ids=self.tokens, attention_mask=self.mask, use_cache=False).logits
        shifted = logits[:, :-1].transpose(1, 2)  # (n, t, v) -> (n, v, t - 1)
        each = functional.cross_entropy(shifted, self.labels[:, 1:], ignore_index=IGNORED, reduction="none")
        return each.sum(dim=1)

    @property
    def answer_count(self) -> int:
        """The number of answer tokens of all records."""
        return int((self.labels != IGNORED).sum())


@dataclass(frozen=True)
class Bench:
    """A model with its optimiser and one batch: the first `forgotten` rows are to be forgotten, the others retained."""

    sizes: Sizes
    model: LlamaForCausalLM
    original: LlamaForCausalLM
    rows: Sequence[TokenRow]
    optimizer: torch.optim.Optimizer

    @classmethod
    def prepare(cls, sizes: Sizes, vocabulary: int, dtype: torch.dtype) -> "Bench":
        """Build a model and one that has moved away from it, so that NPO's weights are not all 1."""
        original = build(sizes, vocabulary, dtype)
        model = copy.deepcopy(original)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.05)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
        return cls(sizes, model, original, draw_rows(2 * sizes.forgotten, vocabulary), optimizer)

    def naive(self, reference: LlamaForCausalLM, width: int | None) -> Callable[[], float]:
        """Return the naive step; without a width each side is padded to its longest record."""
        count = self.sizes.forgotten
        sides = self.rows[:count], self.rows[count:]
        forgotten, retained = (Labelled.of(side, width or max(map(len, side))) for side in sides)

        def step() -> float:
            answers = forgotten.losses(self.model)
            with torch.no_grad():
                before = forgotten.losses(reference)
            loss = npo_loss(answers, before, BETA)
            loss = loss + retained.losses(self.model).sum() / retained.answer_count
            torch.autograd.backward(loss)
            self.move()
            return loss.item()

        return step

    def engine(self, reference: Tensor) -> Callable[[], float]:
        """Return the engine's step: one forward and backward pass a group, whose gradients add up."""
        count = self.sizes.forgotten
        batches = [padded(self.rows, group) for group in by_length(self.rows, self.sizes.group)]
        retained_tokens = sum(row.answer_count for row in self.rows[count:])

        def step() -> float:
            total = 0.0
            for batch in batches:
                losses = record_losses(self.model, batch)
                is_forgotten = batch.rows < count
                loss = losses[~is_forgotten].sum() / retained_tokens
                if is_forgotten.any():
                    before = reference[batch.rows[is_forgotten]]
                    share = len(before) / count
                    loss = loss + share * npo_loss(losses[is_forgotten], before, BETA)
                torch.autograd.backward(loss)
                total += loss.item()
            self.move()
            return total

        return step

    def move(self) -> None:
        """Take the optimiser's step and forget the gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def keep_reference(self) -> Tensor:
        """Compute the original's losses, once."""
        batches = [padded(self.rows, group) for group in by_length(self.rows, self.sizes.group)]
        return reference_losses(self.original, batches, len(self.rows))


def measure_speed(sizes: Sizes, vocabulary: int) -> dict[str, float]:
    """Time the three steps in turn, in float32."""
    bench = Bench.prepare(sizes, vocabulary, torch.float32)
    return interleaved_medians(
        {
            "engine": bench.engine(bench.keep_reference()),
            "batch_max": bench.naive(bench.original, None),
            "limit": bench.naive(bench.original, LIMIT),
        },
        sizes.repeats,
    )


def measure_memory(sizes: Sizes, vocabulary: int) -> dict[str, float | None]:
    """Measure how far each step goes above the loaded model and its optimiser, the naive one's second model included."""
    bench = Bench.prepare(sizes, vocabulary, torch.float32)
    kept = bench.keep_reference()
    bench.engine(kept)()  # the optimiser's state is there from now on
    peak = PeakMemory()
    bench.engine(kept)()
    engine = peak.grown_mb()
    peak = PeakMemory()
    bench.naive(copy.deepcopy(bench.original), None)()
    naive = peak.grown_mb()
    ratio = engine / naive if engine is not None and naive else None
    return {"memory_ratio": ratio, "engine_mb": engine, "naive_mb": naive}


def loss_difference(sizes: Sizes, dtype: torch.dtype) -> float:
    """Return the largest relative difference of the engine's loss to the naive step's, padded in either way."""
    bench = Bench.prepare(sizes, sizes.vocabulary, dtype)
    engine = bench.engine(bench.keep_reference())()
    naive = [bench.naive(bench.original, width)() for width in (None, LIMIT)]
    return max(abs(engine - loss) / abs(loss) for loss in naive)


def measure(sizes: Sizes) -> dict[str, Any]:
    """Measure speed at both vocabularies, memory, and agreement in both precisions."""
    seconds = measure_speed(sizes, sizes.vocabulary)
    large = measure_speed(sizes, sizes.large_vocabulary)
    rows = draw_rows(2 * sizes.forgotten, sizes.vocabulary)
    return {
        "speedup_batch_max": seconds["batch_max"] / seconds["engine"],
        "speedup_limit": seconds["limit"] / seconds["engine"],
        "speedup_vocab_32k": large["batch_max"] / large["engine"],
        "speedup_vocab_32k_limit": large["limit"] / large["engine"],
        **measure_memory(sizes, sizes.vocabulary),
        "max_loss_difference": loss_difference(sizes, torch.float32),
        "max_loss_difference_float64": loss_difference(sizes, torch.float64),
        **{f"{name}_s": value for name, value in seconds.items()},
        **{f"{name}_vocab_32k_s": value for name, value in large.items()},
        "tokens": sum(map(len, rows)),
        "answer_tokens": sum(row.answer_count for row in rows),
        "longest": max(map(len, rows)),
        "limit": LIMIT,
        "vocabularies": [sizes.vocabulary, sizes.large_vocabulary],
        "seed": SEED,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that it runs")
    arguments = parser.parse_args()
    figures = measure(QUICK if arguments.quick else FULL)
    if arguments.json:
        print(json.dumps({**figures, "environment": environment()}))
        return
    print_table(figures, "One step of NPO: the engine against the naive way")


if __name__ == "__main__":
    main()
