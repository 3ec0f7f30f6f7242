"""A small Llama, a tokenizer, rows of very different lengths, and losses written out one token at a time."""

import math
from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from models.language.tokens import TokenRow

VOCABULARY = 300
CORPUS = [
    "Question: Where was Hina Ameen born?\nAnswer: Hina Ameen was born in Karachi.",
    "Question: What does she write about?\nAnswer: She writes about geology.",
]
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@cache
def tokenizer():
    """Byte-level BPE whose end-of-sequence token is its padding token, too, as people set it."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        extra_special_tokens=special[2:],
    )
    made.chat_template = TEMPLATE
    return made


SIZES = {"vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 1}
LLAMA_SIZES = {
    **SIZES,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,  # far from uniform answers, so that a mistake shows
}


def seeded(make, dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().to(dtype).eval()


def llama(dtype=torch.float64, **settings):
    return seeded(lambda: LlamaForCausalLM(LlamaConfig(**LLAMA_SIZES, **settings)), dtype)


def gpt2(dtype=torch.float64):
    config = GPT2Config(**SIZES, n_embd=32, n_layer=2, n_head=2, n_positions=128, initializer_range=0.3)
    return seeded(lambda: GPT2LMHeadModel(config), dtype)


def capping_model(dtype=torch.float64):
    """Gemma 2 caps its logits after the head."""
    config = Gemma2Config(**LLAMA_SIZES, final_logit_softcapping=2.0, sliding_window=64)
    return seeded(lambda: Gemma2ForCausalLM(config), dtype)


def positionless_model(dtype=torch.float64):
    """BLOOM knows distances between tokens only."""
    return seeded(lambda: BloomForCausalLM(BloomConfig(**SIZES, hidden_size=32, n_layer=1, n_head=2)), dtype)


def random_rows(count=8):
    """Rows of 4 to 40 tokens with answers of one to all but the first, some ending with the padding token."""
    generator = torch.Generator().manual_seed(3)
    rows = []
    for index in range(count):
        length = 4 + 36 * index // max(count - 1, 1)
        tokens = torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()
        if index % 2:
            tokens[-1] = 1
        prompt = 1 + int(torch.randint(length - 1, (), generator=generator))
        rows.append(TokenRow(tuple(tokens), tuple(place >= prompt for place in range(length))))
    order = torch.randperm(count, generator=generator).tolist()
    return [rows[index] for index in order]


def written_out_loss(model, row):
    """-Σ log p over the answer: one record alone, all logits, one softmax at a time."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.tokens]), use_cache=False).logits[0].double().tolist()
    total = 0.0
    for place, (token, is_answer) in enumerate(zip(row.tokens, row.answer, strict=True)):
        if is_answer:
            before = logits[place - 1]
            peak = max(before)
            total += peak + math.log(sum(math.exp(value - peak) for value in before)) - before[token]
    return total
