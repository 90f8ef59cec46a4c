"""The zoo's first real pretrained weights: what all-MiniLM-L6-v2 says of real texts, against NumPy."""

import numpy as np
import pytest

from tests.references import bert as reference
from tests.tolerances import tolerance
from tfzoo.data.samples import read_sample
from tfzoo.interop import hf
from tfzoo.models import Bert
from tfzoo.recipes.recipe import from_json
from tfzoo.training import checkpoints
from tfzoo.zoo import ZOO

pytestmark = pytest.mark.xdist_group("minilm")

NUM_TEXTS = 100
PARAPHRASES = (
    ("A man is eating food.", "A man is having a meal."),
    ("How do I reset my password?", "I forgot my password and need a new one."),
    ("The stock market fell sharply today.", "Share prices dropped a lot today."),
)
UNRELATED = (
    ("A man is eating food.", "The committee will publish the budget in spring."),
    ("How do I reset my password?", "Penguins live in large colonies on the ice."),
    ("The stock market fell sharply today.", "She planted roses behind the old church."),
)


@pytest.fixture(scope="module")
def run(minilm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("minilm") / "run"
    hf.read_checkpoint("sample:minilm", folder)
    return folder


@pytest.fixture(scope="module")
def loaded(run):
    """Model, tokenizer and weights."""
    config = from_json((run / "recipe.json").read_text(encoding="utf-8")).model
    model = Bert(config)
    checkpoints.load_weights(model, checkpoints.best(run))
    _, tokenizer, weights = hf.read_encoder("sample:minilm")
    return model, tokenizer, weights


def inputs_of(texts, tokenizer):
    """[CLS] text [SEP], padded to the longest; made by hand."""
    rows = [[tokenizer.start_id, *tokenizer.encode(text), tokenizer.end_id] for text in texts]
    longest = max(map(len, rows))
    padded = [row + [tokenizer.pad_id] * (longest - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return {
        "token_ids": np.array(padded, np.int32),
        "padding_mask": np.array(mask, np.int32),
        "segment_ids": np.zeros((len(rows), longest), np.int32),
    }


def sentences():
    """A hundred beginnings of what Python's documentation says of its own words and modules, of 1 to 20 words."""
    documents = [text.split() for (text,) in read_sample("python_docs")]
    step = len(documents) // NUM_TEXTS
    return [" ".join(words[: 1 + i % 20]) for i, words in enumerate(documents[: step * NUM_TEXTS : step])]


def test_a_hundred_texts_equal_numpy(loaded):
    model, tokenizer, weights = loaded
    texts = sentences()
    assert len(set(texts)) >= 0.9 * NUM_TEXTS
    inputs = inputs_of(texts, tokenizer)
    expected = reference.logits(model.config, weights, inputs)
    assert expected.shape == (NUM_TEXTS, 384)
    np.testing.assert_allclose(model(inputs), expected, rtol=0, atol=tolerance("pretrained"))
    ids = inputs["token_ids"][7, : inputs["padding_mask"][7].sum()]
    exact = {path: value.astype(np.float64) for path, value in weights.items()}
    hidden = reference.hidden_states(model.config, exact, ids, np.zeros_like(ids))
    np.testing.assert_allclose(model.encode(inputs)[7, : len(ids)], hidden, rtol=0, atol=tolerance("pretrained"))


def test_paraphrases_are_near_and_others_far(loaded):
    model, tokenizer, _ = loaded
    cosines = {}
    for name, pairs in (("paraphrases", PARAPHRASES), ("unrelated", UNRELATED)):
        first, second = (model(inputs_of(texts, tokenizer)).numpy() for texts in zip(*pairs, strict=True))
        cosines[name] = (first * second).sum(axis=1)
    assert cosines["paraphrases"].min() > 0.6, cosines
    assert cosines["unrelated"].max() < 0.2, cosines


def test_the_zoo_has_the_same_sizes(loaded):
    model, _, weights = loaded
    recipe = ZOO["minilm_l6"].recipe("text_embedding")
    assert recipe.model == model.config
    assert recipe.training.initial_checkpoint == "sample:minilm"
    head = 384 * 2 + 2  # of two labels, which the checkpoint has not
    assert sum(value.size for value in weights.values()) + head == ZOO["minilm_l6"].parameters


def test_its_pooler_starts_a_classifier(loaded):
    _, _, weights = loaded
    assert weights["pooler/kernel"].shape == (384, 384)
    assert not [path for path in weights if path.startswith(("text_classification", "masked_lm", "next_sentence"))]
