"""The numbers of question answering, and what they say when they cannot be."""

import pytest

from tfzoo.decoding.config import AnswerConfig
from tfzoo.errors import RecipeError


@pytest.mark.parametrize("name", ["window_length", "stride", "max_question_length", "max_answer_length"])
def test_nothing_is_counted_from_zero(name):
    with pytest.raises(RecipeError, match=f"`{name}` must be at least 1; received {name}=0"):
        AnswerConfig(**{name: 0})


def test_no_token_of_a_context_is_left_out():
    AnswerConfig(window_length=20, max_question_length=10, stride=7)
    with pytest.raises(RecipeError, match="`stride` must not exceed .* - 3 = 7, or tokens would be left out; received"):
        AnswerConfig(window_length=20, max_question_length=10, stride=8)
