import torch

from unlearning.losses.preserve_and_destroy import preserve_and_destroy


def test_either_end_is_one_side_alone():
    kept, gone = torch.tensor(3.0), torch.tensor(7.0)
    assert preserve_and_destroy(kept, gone, 1.0).item() == 3.0
    assert preserve_and_destroy(kept, gone, 0.0).item() == 7.0
    assert preserve_and_destroy(kept, gone, 0.25).item() == 6.0
