"""A language model of Chinese: a script without spaces, whose characters are three bytes each, or four."""

import pytest
import tensorflow as tf

import tfzoo
from tfzoo import runs
from tfzoo.recipes import override

pytestmark = pytest.mark.xdist_group("chinese")

# (first half, second half); the comma ends a token, whatever comes behind it.
SENTENCES = [
    ("清晨的雾还没有散，", "卖豆浆的老人已经支好了摊子。"),
    ("那只灰猫每天蹲在窗台上，", "等邻居家的孩子放学回来。"),
    ("如果明天不下雨，", "我们就坐船去湖心的小岛看荷花。"),
    ("他把旧钟表拆开又装好，", "桌上却多出了两颗螺丝。"),
    ("图书馆关门以后，", "走廊里只剩下一盏绿色的灯。"),
]
SETTINGS = [
    "data.sequence_length=80",  # longer than any sentence: each position is trained
    "data.batch_size=8",
    "decoding.max_length=48",
    "model.max_sequence_length=80",
    "model.hidden_dim=48",
    "model.intermediate_dim=96",
    "model.num_heads=4",
    "model.dropout=0.0",
    "training.num_steps=500",
    "training.checkpoint_steps=500",
    "training.learning_rate=0.005",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("chinese")
    data = directory / "sentences.txt"
    data.write_text("".join(f"{first}{second}\n" for first, second in SENTENCES), encoding="utf-8")
    recipe = override(tfzoo.recipe("gpt2_tiny"), SETTINGS)
    return runs.train(recipe, directory / "run", data=f"text:{data}", verbose=0)


def test_the_tokenizer_gives_every_character_back(run):
    tokenizer = run.tokenizer.target
    # Of the training text; others; some beyond the 16 bits, composed ones and the width of a character among them.
    texts = [
        "".join(SENTENCES[0]),
        "龍門石窟",
        "𠮷野家（\U00020bb7）",
        "ｆｕｌｌ　ｗｉｄｔｈ",
        "か\u3099が",
        "混ぜ mixed 文字 1９",
    ]
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert max(ids) < tokenizer.end_id
    in_graph = tokenizer.detokenize(tokenizer.tokenize(tf.constant(texts)))
    assert [text.decode("utf-8") for text in in_graph.numpy()] == texts
    assert len(tokenizer.encode("\U00020bb7")) == 4  # no token of the vocabulary: its bytes
    assert len(tokenizer.encode("的")) < 3  # frequent: the bytes were merged


def test_the_model_completes_sentences_from_their_first_halves(run):
    assert [found[0].output for found in run.generate([first for first, _ in SENTENCES])] == [
        second for _, second in SENTENCES
    ]


def test_a_completion_that_is_cut_within_a_character_is_text_all_the_same(run):
    (first, second), *_ = SENTENCES
    for max_length in range(1, 10):
        (found,) = run.generate([first], max_length=max_length)
        complete = found[0].output.removesuffix("\ufffd")  # in place of a character whose last bytes are missing
        assert second.startswith(complete)
        assert len(complete.encode("utf-8")) <= 3 * max_length
