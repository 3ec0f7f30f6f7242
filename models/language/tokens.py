"""Records to token rows: which tokens the model reads, and which of them are the answer that it learned.

A row is made of pieces that are tokenised one by one, so that the tokens of a prompt are the same whether its answer
follows or not, and the border between them never falls into a token. Nothing is cut: a record that does not fit is refused.
The end-of-sequence token belongs to the answer, for a model learns to stop, too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from models.errors import DatasetError
from models.language.content import Conversation, LanguageRecord, Passage, PromptForm, Question

ASSISTANT = "assistant"
USUAL_FORM = PromptForm()


@dataclass(frozen=True)
class TokenRow:
    """One record's tokens. The mask says which *tokens* are the answer, not which positions predict them.

    Raises:
        ValueError: The two differ in length, nothing is the answer, or the answer has nothing before it.

    >>> TokenRow((5, 6, 7), (False, False, True)).answer_count
    1
    """

    tokens: tuple[int, ...]
    answer: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Refuse rows that have no loss."""
        if len(self.tokens) != len(self.answer):
            raise ValueError("a row has as many marks as tokens")
        if not any(self.answer):
            raise ValueError("a row without answer tokens has no loss")
        if self.answer[0]:
            raise ValueError("the first token is predicted by nothing and cannot be an answer")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def answer_count(self) -> int:
        """How many tokens the loss is summed over."""
        return sum(self.answer)


@dataclass(frozen=True)
class Piece:
    """A part of a row's text."""

    text: str
    is_answer: bool = False
    is_markup: bool = False
    """Whether special tokens written out in the text, as a chat template does, are meant as such."""


def tokenise(
    record: LanguageRecord, tokenizer: Any, *, context: int, form: PromptForm = USUAL_FORM
) -> TokenRow:
    """Turn a record into tokens.

    Special tokens that a question or passage happens to spell out are read as plain text: data must not be able to end a
    sequence. In a conversation that is up to the chat template, which mixes its own markup with the messages.

    Args:
        record: What to tokenise.
        tokenizer: Of the Hugging Face layout.
        context: The most tokens that the model can read.
        form: How a question becomes text.

    Raises:
        DatasetError: The record is longer than the context, an answer comes to no token, or the chat template
            rewrites earlier turns when later ones follow.
    """
    pieces = pieces_of(record, tokenizer, form)
    tokens, answer = join(record, tokenizer, pieces)
    if not isinstance(record.content, Conversation):
        tokens, answer = with_borders(tokenizer, tokens, answer)
    # Whatever comes first is predicted by nothing: a passage's first token where no token begins a sequence.
    answer[:1] = [False]
    if len(tokens) > context:
        raise DatasetError(
            f"Record {record.id!r} has {len(tokens)} tokens and the model reads at most {context}: shorten it, split it, or "
            "leave it out; nothing is cut."
        )
    if not any(answer):
        raise DatasetError(f"Record {record.id!r} has no answer token that follows another token.")
    return TokenRow(tuple(tokens), tuple(answer))


def pieces_of(record: LanguageRecord, tokenizer: Any, form: PromptForm) -> list[Piece]:
    """Split a record's text into what is given and what is the answer."""
    content = record.content
    if isinstance(content, Question):
        prompt = form.before + content.prompt + form.after
        answer = form.lead + content.answer if content.answer else ""
        return [Piece(prompt), Piece(answer, is_answer=True)]
    if isinstance(content, Passage):
        return [Piece(content.text, is_answer=True)]
    return conversation_pieces(record, content, tokenizer)


def conversation_pieces(record: LanguageRecord, content: Conversation, tokenizer: Any) -> list[Piece]:
    """Write a conversation out turn by turn; an assistant's turn is an answer to its last character.

    Raises:
        DatasetError: What stands before a turn is not how the text up to and with it begins.
    """
    messages = [{"role": message.role, "content": message.content} for message in content.messages]
    pieces: list[Piece] = []
    written = ""
    for count, message in enumerate(messages, start=1):
        if message["role"] != ASSISTANT:
            continue
        before = written_out(tokenizer, messages[: count - 1], asks=True)
        through = written_out(tokenizer, messages[:count], asks=False)
        if not (before.startswith(written) and through.startswith(before)):
            raise DatasetError(
                f"Record {record.id!r} cannot be split into prompts and answers: the tokenizer's chat template writes earlier "
                "turns differently once others follow. Give it as prompt and answer."
            )
        pieces.append(Piece(before[len(written) :], is_markup=True))
        pieces.append(Piece(through[len(before) :], is_answer=True, is_markup=True))
        written = through
    if not pieces:
        raise DatasetError(f"Record {record.id!r} has no message of the role {ASSISTANT!r}.")
    return pieces


def written_out(tokenizer: Any, messages: Sequence[dict[str, str]], *, asks: bool) -> str:
    """Write messages by the tokenizer's template, with the beginning of an answer where one is asked for."""
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=asks))


def join(record: LanguageRecord, tokenizer: Any, pieces: Iterable[Piece]) -> tuple[list[int], list[bool]]:
    """Tokenise pieces one after the other.

    Raises:
        DatasetError: An answer comes to no token.
    """
    tokens: list[int] = []
    answer: list[bool] = []
    for piece in pieces:
        coded = tokenizer(piece.text, add_special_tokens=False, split_special_tokens=not piece.is_markup)
        found = list(coded["input_ids"])
        if piece.is_answer and not found:
            raise DatasetError(f"Record {record.id!r} has an answer that comes to no token.")
        tokens += found
        answer += [piece.is_answer] * len(found)
    return tokens, answer


def with_borders(tokenizer: Any, tokens: list[int], answer: list[bool]) -> tuple[list[int], list[bool]]:
    """Add the tokens that begin and end a sequence, where the tokenizer has them; the end is part of the answer."""
    if tokenizer.bos_token_id is not None:
        tokens, answer = [tokenizer.bos_token_id, *tokens], [False, *answer]
    if tokenizer.eos_token_id is not None:
        tokens, answer = [*tokens, tokenizer.eos_token_id], [*answer, True]
    return tokens, answer
