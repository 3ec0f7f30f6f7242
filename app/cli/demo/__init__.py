"""`expunge demo`: the main job on real data, and proof that it was done."""
