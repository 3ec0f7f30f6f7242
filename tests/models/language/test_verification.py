import pytest
import torch

from models.errors import CheckpointError
from models.language.batches import packed, padded
from models.language.verification import verify_head, verify_packing
from tests.reference.small_language import capping_model, gpt2, llama, positionless_model, random_rows

ROWS = random_rows()


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_usual_models_pass_in_every_precision(make, dtype):
    model = make(dtype)
    verify_head(model, ROWS)
    verify_packing(model, ROWS)


def test_a_model_that_caps_its_logits_is_refused():
    with pytest.raises(CheckpointError, match="caps or scales"):
        verify_head(capping_model(), ROWS)


def test_a_model_that_takes_no_positions_is_refused():
    with pytest.raises(CheckpointError, match="takes no positions"):
        verify_head(positionless_model(), ROWS)


def test_a_model_that_looks_across_packed_records_is_refused(monkeypatch):
    model = llama()
    decoder = model.get_decoder()
    forward = decoder.forward

    def without_positions(position_ids=None, **inputs):
        return forward(**inputs)

    monkeypatch.setattr(decoder, "forward", without_positions)
    verify_head(model, ROWS)
    with pytest.raises(CheckpointError, match="does not keep packed records apart"):
        verify_packing(model, ROWS)


def test_a_loss_that_is_not_a_number_is_a_difference():
    model = llama()
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(CheckpointError):
        verify_head(model, ROWS)


def test_the_shortest_rows_are_asked():
    seen = []
    model = llama()
    hook = model.get_decoder().register_forward_hook(
        lambda _, args, kwargs, output: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    verify_packing(model, ROWS)
    hook.remove()
    three = sorted(map(len, ROWS))[:3]
    assert seen[0] == (1, sum(three))
    assert packed(ROWS, range(8)).tokens.numel() < padded(ROWS, range(8)).tokens.numel()
