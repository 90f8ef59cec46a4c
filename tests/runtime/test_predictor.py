"""What a `Predictor` makes of texts and options, on a backend that computes nothing."""

import dataclasses
import itertools

import numpy as np
import pytest

from tfzoo.decoding import DecodingConfig
from tfzoo.errors import RecipeError, UsageError
from tfzoo.runtime.predictor import BATCH_SIZE, Predictor, cut_at_stop, decode_batch, row_options
from tfzoo.runtime.tasks import encode_prompts, encode_sources
from tfzoo.text import SymbolTokenizer, pair

LETTERS = pair(SymbolTokenizer("abcdefgh", ""))
END, A = 3, 4


class Echo:
    """Answers a text with itself, then with ever shorter pieces of it; a sample with the letter of its seed."""

    def __init__(self):
        self.calls = []

    def generate(self, texts, options):
        self.calls.append((list(texts), options))
        width = int(options["num_beams"].max())
        token_ids = np.zeros((len(texts), width, 10), np.int32)
        scores = np.full((len(texts), width), -1e9, np.float32)
        for row, text in enumerate(texts):
            for rank in range(width):
                ids = LETTERS.source.encode(text)[: max(0, len(text) - rank)]
                if options["temperature"][row] > 0:
                    ids = [A + int(options["seed"][row]) % 8]
                token_ids[row, rank, : len(ids) + 1] = [*ids, END]
                scores[row, rank] = -rank - len(text) / 100
            if options["temperature"][row] > 0:
                scores[row] = -(int(options["seed"][row]) % 3)
        return hypotheses(token_ids, scores)

    def logits(self, inputs):
        raise NotImplementedError

    def read(self, text, new_tokens):
        raise NotImplementedError


def hypotheses(token_ids, scores):
    """The log-probability of a token is minus its id."""
    return decode_batch({"token_ids": token_ids, "log_probs": -token_ids.astype(np.float32), "scores": scores}, LETTERS)


@pytest.fixture
def backend():
    return Echo()


@pytest.fixture
def answer(backend):
    return Predictor(backend, LETTERS, DecodingConfig(max_length=9, seed=5), max_length=10)


def test_one_answer_a_text_in_order(answer):
    assert answer(["abc", "", "hh"]) == ["abc", "", "hh"]


def test_no_text_is_no_answer_and_no_call(answer, backend):
    assert answer([]) == []
    assert list(answer.generate(iter(()))) == []
    assert backend.calls == []


@pytest.mark.parametrize("count", [BATCH_SIZE - 1, BATCH_SIZE, BATCH_SIZE + 1, 2 * BATCH_SIZE + 3])
def test_many_texts_keep_their_order_over_batches(answer, backend, count):
    texts = ["".join(letters) for letters in itertools.islice(itertools.product("abcdefgh", repeat=3), count)]
    assert answer(texts) == texts
    assert [len(batch) for batch, _ in backend.calls] == [
        *[BATCH_SIZE] * (count // BATCH_SIZE),
        *([count % BATCH_SIZE] if count % BATCH_SIZE else []),
    ]


def test_texts_are_read_no_faster_than_they_are_answered(answer):
    read = []
    predictions = answer.generate((read.append(text) or text for text in "abcdefgh"), batch_size=3)
    assert read == []
    assert next(predictions)[0].output == "a"
    assert read == ["a", "b", "c"]
    assert [best.output for (best,) in predictions] == [*"bcdefgh"]


@pytest.mark.parametrize("texts", ["abc", ""])
def test_a_string_is_no_list_of_strings(answer, texts):
    for call in (answer, answer.generate):
        with pytest.raises(UsageError, match="`texts` must be a list of strings; received one string. Put it into a"):
            call(texts)


@pytest.mark.parametrize("text", [None, 3, b"abc", ["abc"]])
def test_what_is_no_string_is_named(answer, text):
    with pytest.raises(UsageError, match=r"`texts` must hold strings; received (None|3|b'abc'|\['abc'\])\."):
        answer(["abc", text])


def test_an_unknown_option_offers_the_nearest(answer):
    for call in (answer, answer.generate):
        with pytest.raises(
            UsageError, match="no decoding option 'num_beam'. Did you mean 'num_beams'\\? There are max_"
        ):
            call(["abc"], num_beam=4)


def test_options_out_of_range_are_refused_before_a_text_is_read(answer):
    texts = iter(["abc"])
    with pytest.raises(
        UsageError, match="`max_length` must not exceed the model's 10 positions; received max_length=11"
    ):
        answer.generate(texts, max_length=11)
    with pytest.raises(RecipeError, match="`top_p` must be in"):
        answer.generate(texts, top_p=0.0)
    with pytest.raises(RecipeError, match="`num_return_sequences` must not exceed `num_beams` when searching"):
        answer.generate(texts, num_beams=2, num_return_sequences=3)
    with pytest.raises(UsageError, match="`batch_size` must be at least 1; received batch_size=0"):
        answer.generate(texts, batch_size=0)
    assert next(texts) == "abc"


def test_options_reach_every_row_in_their_types(answer, backend):
    answer(["a", "b"], num_beams=3, length_penalty=1, max_length=7)
    ((_, options),) = backend.calls
    assert {name: (values.dtype.name, values.tolist()) for name, values in options.items()} == {
        "max_length": ("int32", [7, 7]),
        "min_length": ("int32", [0, 0]),
        "num_beams": ("int32", [3, 3]),
        "length_penalty": ("float32", [1.0, 1.0]),
        "repetition_penalty": ("float32", [1.0, 1.0]),
        "temperature": ("float32", [0.0, 0.0]),
        "top_k": ("int32", [0, 0]),
        "top_p": ("float32", [1.0, 1.0]),
        "seed": ("int32", [5, 5]),
    }


def test_beams_come_best_first_and_with_their_ids_up_to_the_end(answer):
    found = list(answer.generate(["abc", "h"], num_beams=4, num_return_sequences=2))
    assert [[prediction.output for prediction in row] for row in found] == [["abc", "ab"], ["h", ""]]
    assert [prediction.token_ids for prediction in found[0]] == [[A, A + 1, A + 2, END], [A, A + 1, END]]
    assert [prediction.score for prediction in found[1]] == pytest.approx([-0.01, -1.01])


def test_samples_have_seeds_of_their_own_and_come_best_first(answer, backend):
    """Sample r of every text is drawn with seed + r, whatever its place in the batch."""
    options = {"temperature": 1.0, "num_return_sequences": 3}
    found = list(answer.generate(["a", "b"], **options))
    ((texts, rows),) = backend.calls
    assert texts == ["a", "a", "a", "b", "b", "b"]
    assert rows["seed"].tolist() == [5, 6, 7] * 2
    # Seeds 5, 6, 7 write f, g, h with scores -2, 0, -1.
    assert [[prediction.output for prediction in row] for row in found] == [["g", "h", "f"]] * 2
    assert answer(["a"], **options) == ["g"]
    assert list(answer.generate(["b"], **options)) == found[1:]


def test_a_sequence_that_never_ends_keeps_all_its_ids(answer, backend):
    backend.generate = lambda texts, options: hypotheses(np.full((1, 1, 3), A, np.int32), np.zeros((1, 1), np.float32))
    ((prediction,),) = answer.generate(["abc"])
    assert prediction == ("aaa", 0.0, [A, A, A], [-A, -A, -A])


def test_an_output_is_cut_before_the_first_stop_string(answer):
    ((prediction,),) = answer.generate(["abcab"], stop=("xy", "ca", "b"))
    assert prediction.output == "a"
    assert prediction.token_ids == [A, A + 1, A + 2, A, A + 1, END]  # what was generated
    assert answer(["abcab"], stop=("h",)) == ["abcab"]
    assert cut_at_stop("a.b!", ["!", "."]) == "a"


def test_sources_are_padded_and_cut_before_their_end():
    (ids,) = encode_sources(["ab", "", "abcdef"], LETTERS, 4, np.array([9, 9, 9])).values()
    assert ids.dtype == np.int32
    assert ids.tolist() == [[A, A + 1, END, 0], [END, 0, 0, 0], [A, A + 1, A + 2, END]]
    (ids,) = encode_sources(["abc"], LETTERS, 1, np.array([9])).values()
    assert ids.tolist() == [[END]]


def test_prompts_keep_their_end_and_leave_room_for_the_answer():
    inputs = encode_prompts(["ab", "", "abcdef"], LETTERS, 6, np.array([1, 1, 4]))
    assert inputs["token_ids"].tolist() == [[A, A + 1, 0], [END, 0, 0], [A + 3, A + 4, A + 5]]
    assert inputs["padding_mask"].tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    assert {value.dtype for value in inputs.values()} == {np.dtype(np.int32)}
    one = encode_prompts(["abc"], LETTERS, 6, np.array([99]))  # whatever is asked for, one token is left to go on from
    assert one["token_ids"].tolist() == [[A + 2]]
    suffixed = dataclasses.replace(LETTERS, prompt_suffix="h")
    assert encode_prompts(["a", ""], suffixed, 6, np.array([1, 1]))["token_ids"].tolist() == [[A, A + 7], [A + 7, 0]]


class TestPrompts:
    @pytest.fixture
    def language_model(self, backend):
        tokenizer = dataclasses.replace(LETTERS, prompt_suffix="h")
        return Predictor(backend, tokenizer, DecodingConfig(max_length=4), max_length=8, task="causal_lm")

    def test_one_that_leaves_no_room_is_refused(self, language_model, backend):
        assert language_model(["abcd"]) == ["abcd"]  # 4 and "h" before 4 more, of which the last is never read
        with pytest.raises(UsageError) as error:
            language_model(["a", "abcde"])
        assert str(error.value) == (
            "a prompt of 6 tokens leaves no room for max_length=4 more within the model's 8 positions: 'abcde'. "
            "Shorten it to 5 tokens, lower `max_length`, or set `truncate_prompt` to drop its beginning."
        )
        assert len(backend.calls) == 1
        assert language_model(["abcde"], max_length=3) == ["abcde"]

    def test_or_is_cut_by_the_backend_when_asked(self, language_model, backend):
        assert language_model(["abcdeabc"], truncate_prompt=True) == ["abcdeabc"]
        assert backend.calls[0][0] == ["abcdeabc"]


def test_row_options_are_one_for_each_row():
    assert {values.shape for values in row_options(DecodingConfig(), 3).values()} == {(3,)}
