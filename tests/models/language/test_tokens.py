import pytest

from models.errors import DatasetError
from models.language.content import Conversation, LanguageRecord, Message, Passage, PromptForm, Question
from models.language.tokens import TokenRow, tokenise
from tests.reference.small_language import tokenizer

QUESTION = Question("Where was she born?", "In Karachi.")
TALK = Conversation(
    (
        Message("user", "Who?"),
        Message("assistant", "Hina Ameen."),
        Message("user", "Where?"),
        Message("assistant", "Karachi."),
    )
)


def row_of(content, **settings):
    return tokenise(
        LanguageRecord("r1", content), tokenizer(), context=settings.pop("context", 128), **settings
    )


def read(row, *, answer):
    """The text of the tokens that are the answer, or of those that are not."""
    return tokenizer().decode(
        [token for token, mark in zip(row.tokens, row.answer, strict=True) if mark == answer]
    )


def test_a_question_is_given_and_its_answer_is_learned_with_the_end_of_the_sequence():
    row = row_of(QUESTION)
    assert read(row, answer=False) == "<s>Question: Where was she born?\nAnswer:"
    assert read(row, answer=True) == " In Karachi.</s>"
    assert row.tokens[-1] == tokenizer().pad_token_id
    assert row.answer[-1]


def test_a_prompt_has_the_same_tokens_whatever_its_answer():
    rows = [row_of(Question("Where?", answer)) for answer in ("In Karachi.", "x")]
    prompts = [[t for t, mark in zip(row.tokens, row.answer, strict=True) if not mark] for row in rows]
    assert prompts[0] == prompts[1]


def test_another_form_of_prompt_is_taken():
    row = row_of(QUESTION, form=PromptForm(before="", after=" ->", lead=""))
    assert read(row, answer=False) == "<s>Where was she born? ->"
    assert read(row, answer=True) == "In Karachi.</s>"


def test_every_turn_of_the_assistant_is_learned_and_nothing_else():
    row = row_of(TALK)
    assert read(row, answer=False) == "<|user|>Who?</s><|assistant|><|user|>Where?</s><|assistant|>"
    assert read(row, answer=True) == "Hina Ameen.</s>Karachi.</s>"
    whole = tokenizer().apply_chat_template(
        [{"role": m.role, "content": m.content} for m in TALK.messages], tokenize=False
    )
    assert tokenizer().decode(row.tokens) == whole


def test_what_follows_the_last_answer_of_a_conversation_is_left_out():
    row = row_of(Conversation((*TALK.messages, Message("user", "Thanks."))))
    assert row == row_of(TALK)


def test_a_passage_is_learned_whole_but_for_what_nothing_predicts():
    row = row_of(Passage("She writes about geology."))
    assert read(row, answer=False) == "<s>"
    assert read(row, answer=True) == "She writes about geology.</s>"


def test_special_tokens_spelled_out_in_data_are_plain_text():
    row = row_of(Question("a</s>b", "c</s>d"))
    assert row.tokens.count(tokenizer().eos_token_id) == 1
    assert read(row, answer=True) == " c</s>d</s>"


def test_a_record_longer_than_the_context_is_refused_and_not_cut():
    length = len(row_of(QUESTION))
    assert len(row_of(QUESTION, context=length)) == length
    with pytest.raises(
        DatasetError, match=f"'r1' has {length} tokens and the model reads at most {length - 1}"
    ):
        row_of(QUESTION, context=length - 1)


@pytest.mark.parametrize("content", [Question("Where?", ""), Passage("")])
def test_an_answer_of_no_tokens_is_refused(content):
    with pytest.raises(DatasetError, match="comes to no token"):
        row_of(content)


def test_a_conversation_without_the_assistant_is_refused():
    with pytest.raises(DatasetError, match="no message of the role 'assistant'"):
        row_of(Conversation((Message("user", "Who?"),)))


def test_a_chat_template_that_rewrites_earlier_turns_is_refused(monkeypatch):
    rewriting = "{{ messages | length }}" + tokenizer().chat_template
    monkeypatch.setattr(tokenizer(), "chat_template", rewriting)
    with pytest.raises(DatasetError, match="writes earlier turns differently"):
        row_of(TALK)


class Borderless:
    """A tokenizer without tokens that begin or end a sequence: one token per character."""

    bos_token_id = None
    eos_token_id = None

    def __call__(self, text, **settings):
        return {"input_ids": [ord(character) for character in text]}


def test_without_a_first_token_the_first_of_a_passage_is_not_scored():
    row = tokenise(LanguageRecord("r", Passage("abc")), Borderless(), context=8)
    assert row.answer == (False, True, True)
    with pytest.raises(DatasetError, match="no answer token that follows another"):
        tokenise(LanguageRecord("r", Passage("a")), Borderless(), context=8)


@pytest.mark.parametrize(
    ("tokens", "answer"),
    [((1, 2), (False,)), ((1, 2), (False, False)), ((1, 2), (True, True)), ((), ())],
)
def test_rows_that_have_no_loss_cannot_be_made(tokens, answer):
    with pytest.raises(ValueError, match="token"):
        TokenRow(tokens, answer)
