"""Interactions with something to learn: users and items fall into blocks, and users mostly take from their own."""

import torch

from models.recommender.data import RecommenderData


def block_interactions(
    users: int = 60,
    items: int = 40,
    *,
    blocks: int = 4,
    per_user: int = 8,
    held_out: float = 0.3,
    seed: int = 0,
) -> RecommenderData:
    """Return `per_user` interactions of each user, nine tenths of them within the user's own block of items."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.where(
        torch.arange(users)[:, None] % blocks == torch.arange(items)[None, :] % blocks,
        9.0 * (blocks - 1),
        1.0,
    )
    taken = torch.multinomial(weight, per_user, generator=generator)  # (users, per_user)
    user_index = torch.arange(users).repeat_interleave(per_user)
    return RecommenderData(
        users=tuple(f"user-{user:04}" for user in range(users)),
        items=tuple(f"item-{item:04}" for item in range(items)),
        user_index=user_index,
        item_index=taken.flatten(),
        timestamps=None,
        held_out=torch.rand(len(user_index), generator=generator) < held_out,
    )
