"""Pure tensor functions that two or more methods share, or may come to share: no model, no data, no randomness."""
