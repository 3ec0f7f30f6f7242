"""Causal language models: records to tokens, tokens to batches, and every answer's likelihood in one pass.

Plain functions on any model and tokenizer of the Hugging Face layout; nothing here imports `transformers`.
"""
