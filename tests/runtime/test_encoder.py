"""What an `Encoder` makes of texts and of logits, on a backend whose logits a test chooses."""

import math

import numpy as np
import pytest

from tfzoo.decoding.config import AnswerConfig
from tfzoo.errors import UsageError
from tfzoo.runtime import encoder as encoders
from tfzoo.runtime.encoder import Encoder, sigmoid, softmax
from tfzoo.runtime.head import Head, checked_text
from tfzoo.runtime.loaded import Loaded, predictor_of
from tfzoo.text import SymbolTokenizer, WordPieceTokenizer, pair

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##x", "d"]
WORDS = pair(WordPieceTokenizer(PIECES))
LOG2, LOG3 = math.log(2), math.log(3)


class Table:
    """Gives the logits of a function of the inputs, and keeps the inputs."""

    def __init__(self, logits):
        self._logits = logits
        self.calls = []

    def logits(self, inputs):
        self.calls.append(inputs)
        return np.asarray(self._logits(inputs), np.float32)


def encoder(logits, task="text_classification", decoding=None, **head):
    return Encoder(Table(logits), WORDS, Head(task=task, max_length=6, **head), decoding)


def rows(*logits):
    """The same logits for each text, cut to their number."""
    return lambda inputs: np.array(logits, np.float32)[: len(inputs["token_ids"])]


class TestClassification:
    def test_the_labels_come_best_first(self):
        predictor = encoder(rows([0, LOG3, 0], [LOG2, 0, LOG2]), labels=("x", "y", "z"))
        assert predictor(["a", "b"]) == ["y", "x"]
        first, second = predictor.answer(["a", "b"])
        assert first["labels"] == ["y", "x", "z"]  # of equals the first
        assert first["scores"] == pytest.approx([0.6, 0.2, 0.2])
        assert (first["output"], first["score"]) == ("y", pytest.approx(0.6))
        assert second["labels"] == ["x", "z", "y"]
        assert second["scores"] == pytest.approx([0.4, 0.4, 0.2])

    def test_scores_that_are_rounded_to_1_do_not_lose_the_order(self):
        predictor = encoder(rows([40, 60, 50]), labels=("x", "y", "z"), problem="multi_label")
        (answer,) = predictor.answer(["a"])
        assert answer["labels"] == ["y", "z", "x"]
        assert answer["scores"] == [1.0, 1.0, 1.0]

    def test_several_labels_count_from_a_half_on(self):
        predictor = encoder(rows([0, -9, 2], [-1, -2, -3]), labels=("x", "y", "z"), problem="multi_label")
        assert predictor(["a", "b"]) == [["z", "x"], []]
        assert [answer["score"] for answer in predictor.answer(["a", "b"])] == pytest.approx(
            [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))]
        )

    def test_a_regression_gives_the_number(self):
        predictor = encoder(rows([2.5], [-1e4]), problem="regression")
        assert predictor(["a", "b"]) == [2.5, -1e4]
        assert predictor.served(["a", "b"]) == {"scores": [[2.5], [-1e4]]}

    def test_pairs_reach_the_model_as_segments(self):
        predictor = encoder(rows([0], [0], [0]), problem="regression", num_texts=2)
        predictor([("a", "b c"), ["a b c d", "d"], "a\tb"])
        (inputs,) = predictor.backend.calls
        assert inputs["token_ids"].tolist() == [[2, 5, 3, 6, 7, 3], [2, 5, 6, 3, 9, 3], [2, 5, 3, 6, 3, 0]]
        assert inputs["segment_ids"].tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]


class TestWords:
    def test_each_word_has_the_class_of_its_first_piece(self):
        predictor = encoder(lambda inputs: np.eye(10)[inputs["token_ids"]] * LOG2, "token_classification",
                            labels=tuple("0123456789"))  # fmt: skip
        assert predictor(["bx  ax", ""]) == [[("bx", "6"), ("ax", "5")], []]
        answer, empty = predictor.answer(["bx ax", " "])
        assert (answer["output"], answer["words"]) == ("6 5", ["bx", "ax"])
        assert answer["scores"] == pytest.approx([2 / 11, 2 / 11])
        assert (empty["output"], empty["score"], empty["labels"]) == ("", 1.0, [])

    def test_words_that_no_position_holds_are_left_out(self):
        predictor = encoder(lambda inputs: np.zeros((*inputs["token_ids"].shape, 2)), "token_classification",
                            labels=("O", "X"))  # fmt: skip
        # Six positions: [CLS] a ##x b c [SEP]; a control character has no piece.
        assert predictor(["ax \x01 b c d"]) == [[("ax", "O"), ("b", "O"), ("c", "O")]]
        served = predictor.served(["ax b", "", "a b c d d"])
        assert served["words"] == [["ax", "b", "", ""], [""] * 4, ["a", "b", "c", "d"]]
        assert served["labels"] == [["O", "O", "", ""], [""] * 4, ["O"] * 4]
        assert served["scores"] == [[0.5, 0.5, 0, 0], [0] * 4, [0.5] * 4]


class TestMasks:
    @pytest.fixture
    def predictor(self):
        """The likeliest token of a mask at position p is that of id 4 + p."""

        def logits(inputs):
            length = inputs["token_ids"].shape[1]
            made = np.zeros((*inputs["token_ids"].shape, 10))
            made[:, np.arange(length), 4 + np.arange(length)] = LOG3
            return made

        return encoder(logits, "fill_mask")

    def test_each_gets_its_likeliest_token(self, predictor):
        assert predictor(["[MASK]  a[MASK], ", "no [mask]", ""]) == ["a  ac, ", "no [mask]", ""]
        answer, without, _ = predictor.answer(["[MASK] a [MASK]", "a", ""])
        assert [row[0] for row in answer["tokens"]] == ["a", "c"]
        assert [len(row) for row in (*answer["tokens"], *answer["scores"])] == [5] * 4
        assert answer["scores"][0] == pytest.approx([3 / 12, *[1 / 12] * 4])
        assert answer["score"] == pytest.approx(3 / 12)
        assert (without["tokens"], without["score"]) == ([], 1.0)

    def test_the_mark_of_a_piece_within_a_word_does_not_stay(self, predictor):
        answer = next(predictor.answer(["a b c[MASK]"]))
        assert answer["tokens"][0][0] == "##x"
        assert answer["output"] == "a b cx"

    def test_those_behind_the_last_position_stay(self, predictor):
        assert predictor(["[MASK] a b c [MASK] [MASK]"]) == ["a a b c [MASK] [MASK]"]
        assert predictor(["a b c d [MASK]"]) == ["a b c d [MASK]"]

    def test_rows_of_unequal_masks_are_padded_where_they_are_served(self, predictor):
        served = predictor.served(["[MASK]", "a", "[MASK] [MASK]"])
        assert [[row[0] for row in masks] for masks in served["tokens"]] == [["a", ""], ["", ""], ["a", "b"]]
        assert [len(row) for masks in served["scores"] for row in masks] == [5] * 6
        assert served["scores"][1] == [[0.0] * 5] * 2

    def test_large_vocabularies_are_read_a_few_texts_at_a_time(self, predictor, monkeypatch):
        texts = ["[MASK]", "b [MASK]", "[MASK] [MASK]"]
        expected = predictor(texts)
        predictor.backend.calls.clear()
        monkeypatch.setattr(encoders, "_FORWARD_SIZE", 2 * 10 * 4)  # two rows of four tokens
        assert predictor(texts) == expected
        assert [len(inputs["token_ids"]) for inputs in predictor.backend.calls] == [2, 1]


def test_vectors_come_as_one_array():
    predictor = encoder(lambda inputs: inputs["token_ids"][:, :2], "text_embedding")
    found = predictor(["a", "b"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[2, 5], [2, 6]])
    assert list(predictor.answer(["a"])) == [{"output": [2.0, 5.0]}]


class TestTexts:
    @pytest.fixture
    def predictor(self):
        return encoder(lambda inputs: inputs["token_ids"][:, 1:2], problem="regression")

    def test_they_are_read_no_faster_than_they_are_answered(self, predictor):
        read = []
        answers = predictor.answer((read.append(text) or text for text in "abcd"), batch_size=3)
        assert read == []
        assert next(answers)["output"] == 5
        assert read == ["a", "b", "c"]
        assert [answer["output"] for answer in answers] == [6, 7, 9]

    def test_no_text_is_no_call(self, predictor):
        assert predictor([]) == []
        assert predictor.backend.calls == []

    def test_a_string_is_no_list_of_strings(self, predictor):
        with pytest.raises(UsageError, match="`texts` must be a list of strings; received one string"):
            predictor("a")
        with pytest.raises(UsageError, match="`batch_size` must be at least 1; received batch_size=0"):
            predictor.answer(["a"], batch_size=0)

    @pytest.mark.parametrize("text", [None, 3, b"a", ["a"], ("a", "b")])
    def test_what_is_no_string_is_named(self, predictor, text):
        with pytest.raises(UsageError, match="`texts` must hold strings; received "):
            predictor(["a", text])

    @pytest.mark.parametrize("text", [None, 3, "a", ("a",), ("a", "b", "c"), ("a", None)])
    def test_what_is_no_pair_is_named(self, text):
        with pytest.raises(UsageError, match="`texts` must hold pairs of strings, .* a tab between the two; received "):
            checked_text(text, 2)

    def test_a_pair_is_split_at_its_first_tab(self):
        assert checked_text("who?\tone\ttwo", 2) == ("who?", "one\ttwo")
        assert checked_text("\t", 2) == ("", "")


class TestOptions:
    def test_a_task_without_any_refuses_them(self):
        predictor = encoder(rows([0]), problem="regression")
        texts = iter(["a"])
        with pytest.raises(UsageError) as error:
            predictor.answer(texts, num_beams=2)
        assert str(error.value) == "a model for 'text_classification' takes no options; received num_beams=2."
        assert next(texts) == "a"

    def test_a_question_takes_those_of_its_answer(self):
        predictor = encoder(lambda inputs: np.zeros((len(inputs["token_ids"]), 2, inputs["token_ids"].shape[1])),
                            "question_answering", AnswerConfig(window_length=6, stride=1, max_question_length=1),
                            num_texts=2)  # fmt: skip
        assert predictor([("a", "b c")]) == ["b"]
        assert predictor([("a", "b c")], no_answer_threshold=-1.0) == [""]
        (answer,) = predictor.answer([("a", "b c")])
        assert answer.keys() == {"output", "score", "start", "end"}
        with pytest.raises(UsageError, match="'question_answering' has no option 'strid'. Did you mean 'stride'?"):
            predictor([("a", "b")], strid=1)


def test_a_tokenizer_of_another_kind_is_refused():
    with pytest.raises(UsageError, match="`tokenizer` of a model for 'fill_mask' must be a WordPieceTokenizer"):
        Encoder(Table(rows([0])), pair(SymbolTokenizer("abc", "")), Head(task="fill_mask", max_length=6))


def test_what_is_loaded_has_one_face():
    head = Head(task="text_classification", max_length=6, problem="regression")
    loaded = Loaded(predictor_of(Table(rows([1.5])), WORDS, head, None))
    assert (loaded.task, loaded.max_length, loaded.decoding, loaded.tokenizer) == (head.task, 6, None, WORDS)
    assert loaded(["a"]) == [1.5]
    assert list(loaded.answer(["a"])) == [{"output": 1.5, "score": 1.5}]


def test_probabilities():
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4], [0, LOG3]])), [[0.5, 0.5], [0.25, 0.75]])
    assert softmax(np.zeros((0, 3))).shape == (0, 3)
    np.testing.assert_allclose(sigmoid(np.array([-1e4, 0, LOG3, 1e4])), [0, 0.5, 0.75, 1], atol=1e-12)
