"""Hugging Face checkpoints: there and back bit for bit, and what is refused, by name.

That transformers itself opens what is written is for tests/consumers, which has it.
"""

import json
import re
import shutil

import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests import tiny_run
from tests.interop.folders import assert_equal, edit_config, edit_tensors, plus, recipe_of, refusal, weights, without
from tests.references import gpt2 as reference
from tests.tolerances import tolerance
from tfzoo.errors import UsageError
from tfzoo.interop import hf, hf_gpt2
from tfzoo.models import GPT2, GPT2Config
from tfzoo.recipes.recipe import from_json
from tfzoo.run_folder import read_examples
from tfzoo.text import BytePairTokenizer, load
from tfzoo.training import checkpoints

pytestmark = pytest.mark.xdist_group("interop")

D, F, P = 6, 10, 9
TENSORS = {"wte.weight": None, "wpe.weight": (P, D), "ln_f.weight": (D,), "ln_f.bias": (D,)} | {
    f"h.{i}.{name}": shape
    for i in (0, 1)
    for name, shape in {
        "ln_1.weight": (D,),
        "ln_1.bias": (D,),
        "attn.c_attn.weight": (D, 3 * D),
        "attn.c_attn.bias": (3 * D,),
        "attn.c_proj.weight": (D, D),
        "attn.c_proj.bias": (D,),
        "ln_2.weight": (D,),
        "ln_2.bias": (D,),
        "mlp.c_fc.weight": (D, F),
        "mlp.c_fc.bias": (F,),
        "mlp.c_proj.weight": (F, D),
        "mlp.c_proj.bias": (D,),
    }.items()
}


@pytest.fixture(scope="module")
def tokenizer():
    return BytePairTokenizer.train(["the cat sat on the mat, the dog sat on the log"] * 3, 270)


@pytest.fixture(scope="module")
def original(tmp_path_factory, tokenizer):
    """A checkpoint written by hand, as transformers names and shapes it."""
    folder = tmp_path_factory.mktemp("hf") / "little"
    tokenizer.save(folder)
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "vocab_size": tokenizer.vocabulary_size,
        "n_embd": D,
        "n_inner": F,
        "n_layer": 2,
        "n_head": 3,
        "n_positions": P,
        "layer_norm_epsilon": 1e-3,
        "resid_pdrop": 0.2,
        "embd_pdrop": 0.2,
        "attn_pdrop": 0.2,
        "reorder_and_upcast_attn": True,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    generator = np.random.default_rng(0)
    shapes = TENSORS | {"wte.weight": (tokenizer.vocabulary_size, D)}
    save_file(
        {f"transformer.{name}": generator.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()},
        folder / "model.safetensors",
    )
    return folder


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copytree(original, tmp_path / "little")


@pytest.fixture(scope="module")
def run(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    hf.read_checkpoint(original, folder)
    return folder


class TestReading:
    def test_the_run_is_whole(self, run, tokenizer):
        assert sorted(path.name for path in run.iterdir()) == [
            "checkpoints",
            "examples.json",
            "recipe.json",
            "requested_recipe.json",
            "tokenizer",
        ]
        recipe = recipe_of(run)
        assert (recipe.name, recipe.family, recipe.tokenizer.source) == ("little", "gpt2", "byte_pair")
        end = tokenizer.end_id
        assert recipe.model == GPT2Config(
            vocabulary_size=end + 1,
            hidden_dim=D,
            intermediate_dim=F,
            num_layers=2,
            num_heads=3,
            dropout=0.2,
            layer_norm_epsilon=1e-3,
            max_sequence_length=P,
            pad_id=end,
            start_id=end,
            end_id=end,
        )
        assert load(run / "tokenizer").encode("the dog") == tokenizer.encode("the dog")
        assert all(read_examples(run))
        assert checkpoints.best(run).history == [{"step": 0}]

    def test_the_model_computes_what_the_tensors_say(self, run, original):
        config = recipe_of(run).model
        model = GPT2(config)
        checkpoints.load_weights(model, checkpoints.best(run))
        theirs = load_file(original / "model.safetensors")
        query, key, value = np.split(theirs["transformer.h.1.attn.c_attn.weight"], 3, axis=1)
        attention = model.blocks[1].self_attention
        for part, kernel in (
            (attention.query_dense, query),
            (attention.key_dense, key),
            (attention.value_dense, value),
        ):
            assert np.array_equal(part.kernel, kernel)
        inputs = {"token_ids": np.array([[5, 260, 7, 8]], np.int32), "padding_mask": np.ones((1, 4), np.int32)}
        expected = reference.logits(config, weights(run), inputs)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(model(inputs) / scale, expected / scale, rtol=0, atol=tolerance("numpy_parity"))

    @pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
    def test_half_precision_becomes_float32(self, copy, run, tmp_path, dtype):
        edit_tensors(copy, lambda tensors: {name: value.astype(dtype) for name, value in tensors.items()})
        hf.read_checkpoint(copy, tmp_path / "run")
        expected = {name: value.astype(dtype).astype(np.float32) for name, value in weights(run).items()}
        assert_equal(weights(tmp_path / "run"), expected)

    def test_names_without_prefix(self, copy, run, tmp_path):
        edit_tensors(copy, lambda tensors: {name.removeprefix("transformer."): v for name, v in tensors.items()})
        hf.read_checkpoint(copy, tmp_path / "run")
        assert_equal(weights(tmp_path / "run"), weights(run))

    def test_masks_and_a_tied_copy_are_passed_over(self, copy, run, tmp_path):
        extra = {
            "transformer.h.0.attn.bias": np.tril(np.ones((1, 1, P, P), bool)),
            "transformer.h.1.attn.masked_bias": np.array(-1e4, np.float32),
        }
        edit_tensors(
            copy, lambda tensors: tensors | extra | {"lm_head.weight": tensors["transformer.wte.weight"].copy()}
        )
        hf.read_checkpoint(copy, tmp_path / "run")
        assert_equal(weights(tmp_path / "run"), weights(run))

    def test_several_files(self, copy, run, tmp_path):
        shard(copy)
        hf.read_checkpoint(copy, tmp_path / "run")
        assert_equal(weights(tmp_path / "run"), weights(run))

    def test_a_tokenizer_in_one_file(self, copy, tokenizer, tmp_path):
        for name in ("vocab.json", "merges.txt"):
            (copy / name).unlink()
        hf.read_checkpoint(copy, tmp_path / "run")
        assert load(tmp_path / "run/tokenizer").encode("the dog") == tokenizer.encode("the dog")

    def test_what_config_json_leaves_out_is_as_there(self, tokenizer):
        config = hf_gpt2.read_config({"vocab_size": tokenizer.vocabulary_size}, tokenizer)
        assert (config.hidden_dim, config.intermediate_dim, config.num_layers, config.num_heads) == (768, 3072, 12, 12)
        assert (config.max_sequence_length, config.dropout, config.layer_norm_epsilon) == (1024, 0.1, 1e-5)


def shard(folder):
    """Cuts the tensors into two files with an index; returns the index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[:9], names[9:]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    write_index(folder, index)
    return index


def write_index(folder, index):
    text = json.dumps({"metadata": {}, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


class TestWriting:
    def test_back_again_is_bit_equal(self, run, original, tmp_path):
        hf.write_checkpoint(run, tmp_path / "out/back")
        theirs = load_file(tmp_path / "out/back/model.safetensors")
        assert_equal(theirs, load_file(original / "model.safetensors"))
        hf.read_checkpoint(tmp_path / "out/back", tmp_path / "run")
        assert_equal(weights(tmp_path / "run"), weights(run))
        old, new = (
            from_json((folder / "recipe.json").read_text(encoding="utf-8")) for folder in (run, tmp_path / "run")
        )
        assert new.model == old.model

    def test_the_folder_has_what_transformers_reads(self, run, tokenizer, tmp_path):
        hf.write_checkpoint(run, tmp_path / "back")
        assert {path.name for path in (tmp_path / "back").iterdir()} == {
            "config.json",
            "generation_config.json",
            "merges.txt",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
        }
        config = json.loads((tmp_path / "back/config.json").read_bytes())
        assert (config["n_inner"], config["n_positions"], config["attn_pdrop"]) == (F, P, 0.2)
        assert {config[f"{name}_token_id"] for name in ("bos", "eos", "pad")} == {tokenizer.end_id}
        assert json.loads((tmp_path / "back/tokenizer_config.json").read_bytes())["model_max_length"] == P
        assert json.loads((tmp_path / "back/generation_config.json").read_bytes())["do_sample"] is False

    def test_a_folder_that_is_not_empty_is_refused(self, run, copy):
        before = tiny_run.digest(copy)
        with pytest.raises(UsageError, match=r"`checkpoint` .*little exists and is not empty; name another"):
            hf.write_checkpoint(run, copy)
        assert tiny_run.digest(copy) == before

    def test_what_is_no_run_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match=r"is not a run: recipe\.json is missing"):
            hf.write_checkpoint(tmp_path, tmp_path / "back")


class TestRefusals:
    @pytest.fixture
    def refused(self, copy, tmp_path):
        return refusal(copy, tmp_path)

    @pytest.mark.parametrize(
        ("change", "pattern"),
        [
            (
                without("transformer.h.1.mlp.c_fc.bias"),
                r"the tensor 'transformer\.h\.1\.mlp\.c_fc\.bias' is missing\. Give the whole",
            ),
            (without("transformer.wpe.weight"), r"the tensor 'transformer\.wpe\.weight' is missing"),
            (
                plus("transformer.h.2.ln_1.bias", np.zeros(D, np.float32)),
                r"the tensor 'transformer\.h\.2\.ln_1\.bias' has no place in the model",
            ),
            (
                plus("score.weight", np.zeros((2, D), np.float32)),
                r"the tensor 'score\.weight' has no place in the model",
            ),
            (
                plus("transformer.h.0.attn.c_attn.weight", np.zeros((3 * D, D), np.float32)),
                r"the tensor 'transformer\.h\.0\.attn\.c_attn\.weight' has the shape \(18, 6\), and config\.json asks "
                r"for \(6, 18\)",
            ),
            (
                plus("transformer.ln_f.bias", np.zeros(D, np.int8)),
                r"the tensor 'transformer\.ln_f\.bias' is of type I8; tfzoo reads F32, F16, BF16\. Save .* unquantized",
            ),
            (
                lambda tensors: tensors | {"lm_head.weight": tensors["transformer.wte.weight"] + 1},
                r"the tensor 'lm_head\.weight' differs from 'transformer\.wte\.weight', and this model has one table",
            ),
        ],
        ids=["missing", "no_positions", "extra_block", "extra_head", "shape", "type", "untied"],
    )
    def test_tensors(self, copy, refused, change, pattern):
        edit_tensors(copy, change)
        refused(pattern)

    @pytest.mark.parametrize(
        ("changes", "pattern"),
        [
            (
                {"model_type": "gtp2"},
                r"config\.json: model_type is 'gtp2'; tfzoo reads gpt2, bert, marian\. Did you mean 'gpt2'\?",
            ),
            ({"model_type": ...}, r"model_type is None; tfzoo reads gpt2, bert, marian\.$"),
            ({"activation_function": "gelu"}, r"activation_function is 'gelu', and this GPT-2 has 'gelu_new' alone"),
            ({"scale_attn_by_inverse_layer_idx": True}, r"scale_attn_by_inverse_layer_idx is True, and .* has False"),
            ({"scale_attn_weights": False}, r"scale_attn_weights is False, and this GPT-2 has True alone"),
            ({"add_cross_attention": True}, r"add_cross_attention is True, and this GPT-2 has False alone"),
            ({"tie_word_embeddings": False}, r"tie_word_embeddings is False, and this GPT-2 has True alone"),
            ({"attn_pdrop": 0.1}, r"resid_pdrop is 0\.2, embd_pdrop is 0\.2, attn_pdrop is 0\.1, and .* one dropout"),
            (
                {"n_head": 4},
                r"config\.json: `num_heads` must divide `hidden_dim`; received num_heads=4, hidden_dim=6\.",
            ),
            ({"n_layer": "2"}, r"n_layer is '2', and must be like 12"),
            ({"n_inner": "10"}, r"n_inner is '10', and must be a whole number"),
            ({"vocab_size": 50257}, r"vocab_size is 50257, and the tokenizer has 270 ids; they must agree"),
            ({"eos_token_id": 3}, r"eos_token_id is 3, and the tokenizer's <\|endoftext\|> is 269"),
        ],
        ids=lambda value: "" if isinstance(value, str) else "".join(value),
    )
    def test_configurations(self, copy, refused, changes, pattern):
        edit_config(copy, **changes)
        refused(pattern)

    def test_a_default_end_that_is_no_id_is_passed_over(self, copy, tmp_path):
        edit_config(copy, eos_token_id=50256)
        hf.read_checkpoint(copy, tmp_path / "run")

    def test_a_pickle(self, copy, refused):
        (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
        refused(r"holds its tensors in pytorch_model\.bin, a pickle, .* by model\.save_pretrained\(PATH, safe_ser")

    def test_missing_files(self, copy, refused):
        (copy / "model.safetensors").unlink()
        refused(r"holds neither model\.safetensors nor model\.safetensors\.index\.json; copy")
        (copy / "config.json").unlink()
        refused(r"config\.json is missing; copy the checkpoint again")

    def test_no_tokenizer(self, copy, refused):
        for name in ("vocab.json", "merges.txt", "tokenizer.json"):
            (copy / name).unlink()
        refused(r"little holds no tokenizer")

    def test_damaged_files(self, copy, refused):
        tiny = (copy / "model.safetensors").read_bytes()
        (copy / "model.safetensors").write_bytes(tiny[:-3])
        refused(r"model\.safetensors is damaged \(.*\); copy the file again")
        (copy / "config.json").write_text("[", encoding="utf-8")
        refused(r"config\.json is damaged \(.*\); copy the file again")
        (copy / "config.json").write_text("[]", encoding="utf-8")
        refused(r"config\.json is damaged: it is no JSON object")

    def test_an_index_that_does_not_fit(self, copy, refused):
        index = shard(copy)
        first, *_ = index
        write_index(copy, {name: file for name, file in index.items() if name != first})
        refused(rf"holds the tensor '{re.escape(first)}', where model\.safetensors\.index\.json does not list it")
        write_index(copy, index | {"transformer.ghost": index[first]})
        refused(r"the tensor 'transformer\.ghost' is listed by model\.safetensors\.index\.json and missing")
        (copy / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
        refused(r"index\.json is damaged: it has no weight_map")
        write_index(copy, index)
        (copy / index[first]).unlink()
        refused(r"model-00001-of-00002\.safetensors is missing")

    def test_folders(self, original, run, tmp_path):
        before = tiny_run.digest(run)
        with pytest.raises(
            UsageError, match=r"`run_dir` .*run exists and is not empty; name another folder or remove it"
        ):
            hf.read_checkpoint(original, run)
        assert tiny_run.digest(run) == before
        with pytest.raises(UsageError, match=r"`checkpoint` .*none is no folder; name one that holds config\.json"):
            hf.read_checkpoint(tmp_path / "none", tmp_path / "run")

    def test_a_write_that_fails_leaves_nothing(self, original, tmp_path, monkeypatch):
        def fail(*arguments):
            raise OSError("disk full")

        monkeypatch.setattr(checkpoints, "begin", fail)
        with pytest.raises(OSError, match="disk full"):
            hf.read_checkpoint(original, tmp_path / "run")
        assert not list(tmp_path.iterdir())


def test_every_variable_has_a_place():
    config = GPT2Config(
        vocabulary_size=37, hidden_dim=D, intermediate_dim=F, num_layers=2, num_heads=3, pad_id=0, start_id=0, end_id=0
    )
    keras.utils.set_random_seed(1)
    paths = [variable.path.removeprefix("gpt2/") for variable in GPT2(config).weights]
    parts = [part for tensor in hf_gpt2.tensors(config).values() for part in tensor.parts]
    assert sorted(parts) == sorted(paths)
