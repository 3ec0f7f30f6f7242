import dataclasses
import json
import sys

import pytest
import torch

from benchmarks import npo_step
from benchmarks.npo_step import ANSWER_DECILES, LIMIT, PROMPT_DECILES, QUICK, Bench


@pytest.fixture(scope="module")
def figures():
    return npo_step.measure(QUICK)


def test_both_steps_descend_the_same_loss(figures):
    assert figures["max_loss_difference"] < 1e-5
    assert figures["max_loss_difference_float64"] < 1e-10


def test_each_speed_up_is_a_ratio_to_the_engine_in_the_same_run(figures):
    assert figures["speedup_batch_max"] == figures["batch_max_s"] / figures["engine_s"]
    assert figures["speedup_limit"] == figures["limit_s"] / figures["engine_s"]
    assert figures["speedup_vocab_32k"] == figures["batch_max_vocab_32k_s"] / figures["engine_vocab_32k_s"]
    assert figures["answer_tokens"] < figures["tokens"] < 2 * QUICK.forgotten * figures["longest"]


def gradients(bench, step):
    """The gradients that a step gives to its optimiser."""
    caught = {}

    def catch(optimizer, args, kwargs):
        caught.update((n, p.grad.clone()) for n, p in bench.model.named_parameters())

    hook = bench.optimizer.register_step_pre_hook(catch)
    step()
    hook.remove()
    return caught


def test_both_steps_have_the_same_gradients_and_the_optimiser_moves_nothing():
    bench = Bench.prepare(QUICK, QUICK.vocabulary, torch.float64)
    before = {name: weight.clone() for name, weight in bench.model.state_dict().items()}
    naive = gradients(bench, bench.naive(bench.original, LIMIT))
    engine = gradients(bench, bench.engine(bench.keep_reference()))
    assert max(gradient.abs().max() for gradient in naive.values()) > 1e-3
    for name, gradient in naive.items():
        torch.testing.assert_close(engine[name], gradient, rtol=1e-9, atol=1e-12)
    assert all(torch.equal(weight, before[name]) for name, weight in bench.model.state_dict().items())


def test_groups_of_one_side_alone_are_added_up_rightly():
    bench = Bench.prepare(QUICK, QUICK.vocabulary, torch.float64)
    single = dataclasses.replace(bench, sizes=dataclasses.replace(QUICK, group=1))
    kept = bench.keep_reference()
    assert single.engine(kept)() == pytest.approx(bench.engine(kept)(), rel=1e-12)


@pytest.mark.parametrize("deciles", [PROMPT_DECILES, ANSWER_DECILES])
def test_lengths_have_the_deciles_they_are_drawn_from(deciles):
    lengths = npo_step.draw_lengths(deciles, 20_000, torch.Generator().manual_seed(0))
    assert deciles[0] <= min(lengths) <= max(lengths) <= deciles[-1]
    assert sorted(lengths)[10_000] == pytest.approx(deciles[5], abs=1)


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(figures, form, monkeypatch, capsys):
    monkeypatch.setattr(npo_step, "measure", lambda sizes: dict(figures) if sizes is QUICK else None)
    monkeypatch.setattr(sys, "argv", ["npo_step", "--quick", *(["--json"] if form == "json" else [])])
    npo_step.main()
    printed = capsys.readouterr().out
    if form == "json":
        answer = json.loads(printed)
        assert answer["speedup_limit"] == figures["speedup_limit"]
        assert answer["environment"]["cores"] >= 1
    else:
        assert "speedup_batch_max" in printed
