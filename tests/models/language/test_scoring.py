import pytest
import torch

from models.errors import CheckpointError
from models.language.batches import by_budget, by_length, packed, padded
from models.language.scoring import record_losses, reference_losses, token_losses
from tests.reference.small_language import VOCABULARY, gpt2, llama, random_rows, written_out_loss
from unlearning.losses.npo import npo_loss

ROWS = random_rows()
EVERY = list(range(len(ROWS)))
DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
MODELS = {"llama": llama, "gpt2": gpt2}


def gradients_of(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()))


def assert_equal_gradients(first, second, tolerance):
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("layout", [padded, packed])
def test_losses_are_those_written_out_one_record_at_a_time(name, dtype, tolerance, layout):
    model = MODELS[name](dtype)
    losses = record_losses(model, layout(ROWS, EVERY))
    assert losses.dtype == dtype
    expected = [written_out_loss(model, row) for row in ROWS]
    assert losses.tolist() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_a_batch_of_eight_has_the_loss_and_gradient_of_eight_single_ones(dtype, tolerance):
    model = llama(dtype)
    reference = torch.linspace(1, 100, len(ROWS), dtype=dtype)

    def objective(batch):
        return npo_loss(record_losses(model, batch), reference[batch.rows], 0.1)

    together = objective(padded(ROWS, EVERY))
    alone = [objective(padded(ROWS, [index])) / len(ROWS) for index in EVERY]
    assert sum(alone).item() == pytest.approx(together.item(), rel=tolerance)
    accumulated = [gradients_of(model, loss) for loss in alone]
    summed = [torch.stack(parts).sum(0) for parts in zip(*accumulated, strict=True)]
    assert_equal_gradients(gradients_of(model, together), summed, 10 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_packed_and_padded_batches_have_equal_losses_and_gradients(dtype, tolerance):
    model = llama(dtype)
    first, second = (record_losses(model, layout(ROWS, EVERY)) for layout in (packed, padded))
    torch.testing.assert_close(first, second, rtol=tolerance, atol=0)
    pair = [gradients_of(model, losses.mean()) for losses in (first, second)]
    assert_equal_gradients(*pair, 10 * tolerance)


# Eager attention computes its softmax in float32, whatever the model is.
@pytest.mark.parametrize(("attention", "tolerance"), [("eager", 1e-6), ("sdpa", 1e-10)])
def test_packed_records_are_kept_apart_by_either_kind_of_attention(attention, tolerance):
    model = llama(attn_implementation=attention)
    alone = [record_losses(model, packed(ROWS, [index])).item() for index in EVERY]
    assert record_losses(model, packed(ROWS, EVERY)).tolist() == pytest.approx(alone, rel=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("groups", [by_length(ROWS, 3), by_budget(ROWS, 60)])
def test_the_cached_reference_is_the_live_one(dtype, tolerance, groups):
    model, moved = llama(dtype), llama(dtype)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1.02)
    cached = reference_losses(model, [padded(ROWS, group) for group in groups], len(ROWS))
    assert not cached.requires_grad
    for group in groups:
        batch = packed(ROWS, group)
        live = record_losses(model, batch)
        torch.testing.assert_close(cached[batch.rows], live.detach(), rtol=tolerance, atol=0)
        answers = record_losses(moved, batch)
        assert npo_loss(answers, cached[batch.rows], 0.1).item() == pytest.approx(
            npo_loss(answers, live, 0.1).item(), rel=tolerance
        )


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_neither_losses_nor_gradients(chunk):
    model, batch = llama(), padded(ROWS, EVERY)
    whole, parts = record_losses(model, batch), record_losses(model, batch, chunk)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
    assert_equal_gradients(gradients_of(model, parts.sum()), gradients_of(model, whole.sum()), 1e-10)


def test_the_head_sees_answer_positions_only_and_no_more_than_a_chunk_of_them():
    model, batch = llama(), padded(ROWS, EVERY)
    seen = []
    hook = model.get_output_embeddings().register_forward_hook(
        lambda _, inputs, output: seen.append((len(inputs[0]), tuple(output.shape)))
    )
    with torch.no_grad():
        record_losses(model, batch, chunk=10)
    hook.remove()
    answers = sum(row.answer_count for row in ROWS)
    assert answers < batch.tokens.numel() / 2
    assert sum(count for count, _ in seen) == answers
    assert all(shape[1] == VOCABULARY and shape[0] <= 10 for _, shape in seen)


def test_padding_has_no_influence_whatever_token_it_is():
    model, batch = llama(), padded(ROWS, EVERY)
    before = record_losses(model, batch)
    lengths = torch.tensor([len(row) for row in ROWS])
    is_padding = torch.arange(batch.tokens.shape[1]) >= lengths[:, None]
    assert is_padding.any()
    for token in (1, VOCABULARY - 1):
        batch.tokens[is_padding] = token
        torch.testing.assert_close(record_losses(model, batch), before, rtol=1e-12, atol=0)


def test_the_end_of_a_sequence_is_scored_though_it_is_the_padding_token():
    model = llama()
    row = next(row for row in ROWS if row.tokens[-1] == model.config.pad_token_id)
    losses = token_losses(model, padded([row, *ROWS], [0]))
    assert len(losses) == row.answer_count
    assert losses[-1].item() > 0


def test_prompt_tokens_have_no_loss_of_their_own_and_answers_do():
    """The loss moves with the state one place before each answer token, and with no other of the head's inputs."""
    model, batch = llama(), padded(ROWS, EVERY)
    caught = []

    def keep(module, inputs, output):
        output.last_hidden_state.retain_grad()
        caught.append(output.last_hidden_state)

    hook = model.get_decoder().register_forward_hook(keep)
    record_losses(model, batch).sum().backward()
    hook.remove()
    touched = caught[0].grad.flatten(0, 1).abs().sum(dim=1) > 0
    assert touched.nonzero()[:, 0].tolist() == sorted(batch.sources.tolist())


def test_half_precision_is_widened_before_the_loss_is_summed():
    losses = token_losses(llama(torch.bfloat16), padded(ROWS, EVERY))
    assert losses.dtype == torch.float32


def test_a_reference_is_refused_in_training_mode_or_where_rows_are_missing_or_repeated():
    model = llama()
    with pytest.raises(ValueError, match="evaluation mode"):
        reference_losses(llama().train(), [padded(ROWS, EVERY)], len(ROWS))
    for groups in ([EVERY[1:]], [EVERY, [0]], []):
        with pytest.raises(ValueError, match="each of 8 rows once"):
            reference_losses(model, [padded(ROWS, group) for group in groups], len(ROWS))
    assert reference_losses(model, [], 0).shape == (0,)


def test_a_damaged_model_has_no_reference():
    model = llama()
    with torch.no_grad():
        next(model.parameters())[5] = torch.nan
    with pytest.raises(CheckpointError, match="not a finite number"):
        reference_losses(model, [padded(ROWS, EVERY)], len(ROWS))


def test_measuring_changes_no_weight():
    model, same = llama(), llama()
    reference_losses(model, [packed(ROWS, EVERY)], len(ROWS), chunk=5)
    assert all(map(torch.equal, model.parameters(), same.parameters()))
