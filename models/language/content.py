"""Torch-free: what a record of a language data set says, in one of three forms."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A prompt and the answer that was learned."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; the turns of the role `assistant` are what was learned."""

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """Turns, to be written out by the tokenizer's own chat template."""

    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Passage:
    """Plain text, learned whole."""

    text: str


Content = Question | Conversation | Passage


@dataclass(frozen=True)
class LanguageRecord:
    """A record with its stable id and, where known, the subject that it is about."""

    id: str
    content: Content
    subject: str | None = None


@dataclass(frozen=True)
class PromptForm:
    """How a question and its answer become one text, for models without a chat template.

    The space before an answer belongs to the answer, for most tokenizers join it to the word that follows.
    """

    before: str = "Question: "
    after: str = "\nAnswer:"
    lead: str = " "
