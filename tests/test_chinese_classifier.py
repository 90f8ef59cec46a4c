"""A classifier of Chinese sentences: trained from a TSV file, with a vocabulary whose pieces are characters."""

import itertools

import numpy as np
import onnxruntime
import onnxruntime_extensions
import pytest

import tfzoo
from tests.tolerances import tolerance
from tfzoo import runs
from tfzoo.cli.main import main
from tfzoo.recipes import override
from tfzoo.text.special_tokens import BERT_TOKENS

pytestmark = pytest.mark.xdist_group("chinese_classifier")

WHO = ("小王", "我妈妈", "邻居", "王老师", "隔壁的孩子", "这位司机", "她的朋友", "李医生")
WHEN = ("早上", "周末", "下雨时")
WHAT = ("喝茶", "跑步", "看电影", "吃鱼", "坐地铁", "唱歌", "下棋", "去湖边散步")
# "Never" decides; its two characters also stand apart, in "since childhood" and "now and then".
NEVER, OTHERS = "从不", ("从小", "不时", "总是")
LABELS = ("否定", "肯定")  # no, yes
ACCURACY = 0.95  # at least, on sentences that training has not seen; guessing gives 0.5
SETTINGS = [
    "data.sequence_length=24",
    "data.batch_size=32",
    "model.max_sequence_length=24",
    "model.hidden_dim=32",
    "model.intermediate_dim=64",
    "model.num_heads=2",
    "model.dropout=0.0",
    "training.num_steps=80",
    "training.checkpoint_steps=80",
    "training.warmup_steps=10",
    "training.learning_rate=0.003",
]


def _sentences():
    """(sentence, label) of each combination, those of training first: a quarter of who does what is held out."""
    parts = ([], [])
    for number, (who, what, when) in enumerate(itertools.product(range(len(WHO)), range(len(WHAT)), WHEN)):
        for adverb, label in zip((NEVER, OTHERS[number % len(OTHERS)]), LABELS, strict=True):
            parts[(who + what) % 4 == 0].append((f"{WHO[who]}{when}{adverb}{WHAT[what]}。", label))
    return parts


TRAINED, HELD_OUT = _sentences()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """TSV files, for training and held out."""
    directory = tmp_path_factory.mktemp("sentences")
    paths = (directory / "train.tsv", directory / "held_out.tsv")
    for path, rows in zip(paths, (TRAINED, HELD_OUT), strict=True):
        path.write_text("".join(f"{text}\t{label}\n" for text, label in rows), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    train, held_out = files
    recipe = override(tfzoo.recipe("bert_tiny", task="text_classification"), SETTINGS)
    directory = tmp_path_factory.mktemp("runs") / "never"
    return runs.train(recipe, directory, data=f"tsv:{train}", validation_data=f"tsv:{held_out}", verbose=0)


@pytest.fixture(scope="module")
def artifact(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("exports") / "never"
    runs.export_run(run.directory, path, formats=("saved_model", "onnx", "onnx_text"))
    return path


def test_a_piece_is_a_character(run):
    tokenizer = run.tokenizer.source
    pieces = (run.directory / "tokenizer" / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    characters = {character for text, _ in TRAINED for character in text}
    assert sorted(pieces) == sorted([*BERT_TOKENS, *characters])  # no piece goes on a word
    for text, _ in HELD_OUT:
        assert [pieces[one] for one in tokenizer.encode(text)] == list(text)


def test_sentences_that_it_has_not_seen_are_told_apart(run, files):
    assert run.recipe.model.labels == LABELS
    assert len(HELD_OUT) == 96
    scores = runs.evaluate(run.directory, f"tsv:{files[1]}")
    assert scores["num_examples"] == len(HELD_OUT)
    assert scores["accuracy"] >= ACCURACY
    assert scores["per_class"].keys() == set(LABELS)


@pytest.mark.parametrize("runtime", ["onnx", "saved_model"])
def test_each_format_gives_the_labels_of_the_run(run, artifact, runtime):
    texts = [text for text, _ in HELD_OUT] + ["她从不唱歌，我不时唱歌。", "谁也没见过的龍", ""]
    expected, found = [*run.answer(texts)], [*tfzoo.load(artifact, runtime=runtime).answer(texts)]
    assert [one["labels"] for one in found] == [one["labels"] for one in expected]
    assert {one["output"] for one in found} == set(LABELS)
    scores = [[one["scores"] for one in answers] for answers in (found, expected)]
    np.testing.assert_allclose(*scores, rtol=0, atol=tolerance("onnx_logits"))


def test_a_string_goes_into_onnx_runtime(run, artifact):
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    model = onnxruntime.InferenceSession(artifact / "onnx/model_text.onnx", options)
    texts = [text for text, _ in HELD_OUT[::7]]
    found = [model.run(["scores"], {"text": np.array([text], object)})[0][0] for text in texts]
    expected = [
        [dict(zip(one["labels"], one["scores"], strict=True))[label] for label in LABELS] for one in run.answer(texts)
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance("onnx_logits"))
    assert {LABELS[row.argmax()] for row in found} == set(LABELS)


def test_the_string_graph_is_proved_again(artifact, capsys):
    capsys.readouterr()
    assert main(["verify", f"--artifact={artifact}"]) == 0
    printed = capsys.readouterr().out
    manifest = tfzoo.load(artifact).manifest
    proof = manifest["proof"]["onnx_text"]
    assert manifest["formats"] == ["saved_model", "onnx"]
    assert proof["golden_texts"] == len(manifest["golden"]["texts"]) == 6
    assert f"onnx_text gives the answers of onnx: 6 texts and {proof['vectors']} vectors" in printed
    assert "`onnx/model_text.onnx` takes one string" in (artifact / "README.md").read_text(encoding="utf-8")
