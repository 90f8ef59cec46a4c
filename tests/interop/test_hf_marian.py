"""Marian checkpoints: the Transformer computes what the tensors say, there and back bit for bit, refusals by name."""

import json
import shutil

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.interop.folders import assert_equal, edit_config, edit_tensors, read_config, recipe_of, refusal, weights
from tests.references import marian as reference
from tests.text import marian
from tests.tolerances import tolerance
from tfzoo import runs
from tfzoo.data import seq2seq
from tfzoo.decoding import generate
from tfzoo.decoding.config import DecodingConfig
from tfzoo.errors import UsageError
from tfzoo.interop import hf, hf_marian
from tfzoo.models import Transformer, TransformerConfig
from tfzoo.recipes.recipe import override
from tfzoo.text import TokenizerPair
from tfzoo.training import checkpoints

pytestmark = pytest.mark.xdist_group("interop")

D, F, H, P = 12, 20, 3, 40


def names(*, separate):
    """Name of each tensor -> its shape, as transformers has them; None for a vocabulary's size."""
    tables = {"shared": None} if not separate else dict.fromkeys(("encoder.embed_tokens", "decoder.embed_tokens"))
    shapes = {f"{name}.weight": (None, D) for name in tables}
    for stack, attentions in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"])):
        for i in (0, 1):
            layer = f"{stack}.layers.{i}"
            for attention in attentions:
                for part in "q", "k", "v", "out":
                    shapes |= {
                        f"{layer}.{attention}.{part}_proj.weight": (D, D),
                        f"{layer}.{attention}.{part}_proj.bias": (D,),
                    }
                shapes |= {f"{layer}.{attention}_layer_norm.{kind}": (D,) for kind in ("weight", "bias")}
            shapes |= {f"{layer}.final_layer_norm.{kind}": (D,) for kind in ("weight", "bias")}
            shapes |= {f"{layer}.fc1.weight": (F, D), f"{layer}.fc1.bias": (F,)}
            shapes |= {f"{layer}.fc2.weight": (D, F), f"{layer}.fc2.bias": (D,)}
    return {f"model.{name}": shape for name, shape in shapes.items()} | {"final_logits_bias": (1, None)}


def write(folder, *, separate=False, **changes):
    """A checkpoint written by hand, as transformers names and shapes it."""
    folder.mkdir()
    tokenizer = marian.tokenizers(separate=separate)
    (folder / "source.spm").write_bytes(tokenizer.source.model)
    (folder / "target.spm").write_bytes(tokenizer.target.model)
    (folder / "vocab.json").write_text(json.dumps(tokenizer.source.vocabulary), encoding="utf-8")
    if separate:
        (folder / "target_vocab.json").write_text(json.dumps(tokenizer.target.vocabulary), encoding="utf-8")
    pad = tokenizer.target.pad_id
    config = {
        "model_type": "marian",
        "architectures": ["MarianMTModel"],
        "activation_function": "swish",
        "activation_dropout": 0.0,
        "attention_dropout": 0.0,
        "dropout": 0.1,
        "d_model": D,
        **{f"{stack}_{name}": n for stack in ("encoder", "decoder") for name, n in SIZES.items()},
        "vocab_size": tokenizer.source.vocabulary_size,
        "decoder_vocab_size": tokenizer.target.vocabulary_size,
        "share_encoder_decoder_embeddings": not separate,
        "max_position_embeddings": P,
        "scale_embedding": True,
        "static_position_embeddings": True,
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
        "bad_words_ids": [[pad]],
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
        "eos_token_id": 0,
        "bos_token_id": 0,
        "forced_eos_token_id": 0,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    generator = np.random.default_rng(0)
    tensors = {}
    for name, shape in names(separate=separate).items():
        side = tokenizer.source if "encoder.embed" in name else tokenizer.target
        values = generator.normal(0, 0.4, [side.vocabulary_size if n is None else n for n in shape])
        tensors[name] = values.astype(np.float32)
        if "embed" in name or "shared" in name:
            tensors[name][pad] = 0  # as a converter fills it up
    save_file(tensors, folder / "model.safetensors")
    return folder


SIZES = {"layers": 2, "attention_heads": H, "ffn_dim": F}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write(tmp_path_factory.mktemp("hf") / "opus-en-de")


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copytree(original, tmp_path / "opus-en-de")


@pytest.fixture(scope="module")
def run(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    hf.read_checkpoint(original, folder)
    return folder


class TestReading:
    def test_the_run_is_whole(self, run):
        recipe = recipe_of(run)
        assert (recipe.name, recipe.family, recipe.tokenizer.target) == ("opus-en-de", "transformer", None)
        pad = 93
        assert recipe.model == TransformerConfig(
            vocabulary_size=pad + 1,
            hidden_dim=D,
            intermediate_dim=F,
            num_layers=2,
            num_heads=H,
            dropout=0.1,
            activation="swish",
            layer_norm_epsilon=1e-5,
            positions="sinusoidal_halves",
            logits_bias=True,
            max_sequence_length=P,
            pad_id=pad,
            start_id=pad,
            end_id=0,
        )
        assert TokenizerPair.load(run / "tokenizer").assets() == marian.tokenizers().assets()

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"separate": True},
            {"activation_function": "relu", "scale_embedding": False},
            {"share_encoder_decoder_embeddings": ..., "decoder_vocab_size": None},
        ],
        ids=str,
    )
    def test_the_model_equals_numpy(self, options, tmp_path):
        folder = write(tmp_path / "opus", separate=options.pop("separate", False))
        edit_config(folder, **options)
        hf.read_checkpoint(folder, tmp_path / "run")
        model = Transformer(recipe_of(tmp_path / "run").model)
        checkpoints.load_weights(model, checkpoints.best(tmp_path / "run"))
        pad = model.config.pad_id
        sources, targets = [[5, 30, 7, 41, 0], [9, 0]], [[pad, 6, 80, 44], [pad, 61, 60, 9]]
        found = model(
            {
                "encoder_token_ids": np.array([sources[0], [*sources[1], pad, pad, pad]], np.int32),
                "decoder_token_ids": np.array(targets, np.int32),
            }
        )
        tensors, config = load_file(folder / "model.safetensors"), read_config(folder)
        expected = np.stack([reference.logits(config, tensors, *pair) for pair in zip(sources, targets, strict=True)])
        scale = np.abs(expected).max()
        assert scale > 1
        np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance("numpy_parity"))

    def test_copies_and_positions_are_passed_over(self, copy, run, tmp_path):
        def more(tensors):
            table = tensors["model.shared.weight"]
            copies = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
            positions = {f"model.{one}.embed_positions.weight": np.zeros((P, D)) for one in ("encoder", "decoder")}
            return tensors | {name: table.copy() for name in copies} | positions

        edit_tensors(copy, more)
        hf.read_checkpoint(copy, tmp_path / "run")
        assert_equal(weights(tmp_path / "run"), weights(run))

    def test_padding_is_never_generated(self, run):
        found = runs.load(run)
        pad = found.model.config.pad_id
        bias = next(one for one in found.model.weights if one.path.endswith("logits_bias"))
        bias.assign(np.where(np.arange(pad + 1) == pad, 1e3, bias.numpy()))  # by far the likeliest
        inputs = {"encoder_token_ids": np.array([[5, 30, 0]], np.int32)}
        for options in ({}, {"num_beams": 3}, {"temperature": 1.0, "seed": 3}):
            one = generate(found.model, inputs, DecodingConfig(max_length=6, **options))
            ids = one["token_ids"].numpy()[0].tolist()
            assert pad not in ids[: ids.index(0) + 1 if 0 in ids else None]
            assert one["scores"].numpy()[0] > -100  # what the padding would have had is not taken off
        streamed = "".join(found.stream("A dog", num_beams=1, max_length=6))
        assert streamed == found.generate(["A dog"], num_beams=1, max_length=6).__next__()[0].output

    def test_it_trains_further(self, run, tmp_path):
        folder = shutil.copytree(run, tmp_path / "run")
        data = tmp_path / "pairs.tsv"
        data.write_text("A dog runs\tEin Hund\nthe station\tder Bahnhof\n" * 4, encoding="utf-8")
        recipe = override(
            recipe_of(run),
            ["training.num_steps=2", "training.warmup_steps=1", "training.checkpoint_steps=2", "data.batch_size=4"],
        )
        trained = runs.train(recipe, folder, data=f"tsv:{data}", verbose=0)
        assert trained.checkpoint.step == 2
        before, after = weights(run), weights(folder)
        assert not np.array_equal(before["logits_bias"], after["logits_bias"])
        assert np.isfinite(trained.metrics["loss"])

    def test_batches_have_its_special_ids(self, run, tmp_path):
        data = tmp_path / "pairs.tsv"
        data.write_text("A\tEin Hund\nA dog\tH\n", encoding="utf-8")
        pair = TokenizerPair.load(run / "tokenizer")
        (batch,) = seq2seq(f"tsv:{data}", pair, batch_size=2, shuffle=False)
        inputs, labels, sample_weight = (keras.tree.map_structure(np.asarray, one) for one in batch)
        pad = pair.target.pad_id
        rows = [pair.source.encode(text) + [0] for text in ("A", "A dog")]
        width = max(map(len, rows))
        assert inputs["encoder_token_ids"].tolist() == [row + [pad] * (width - len(row)) for row in rows]
        targets = [pair.target.encode(text) for text in ("Ein Hund", "H")]
        width = max(map(len, targets)) + 1
        assert inputs["decoder_token_ids"].tolist() == [[pad, *row] + [pad] * (width - 1 - len(row)) for row in targets]
        assert labels.tolist() == [[*row, 0] + [pad] * (width - 1 - len(row)) for row in targets]
        assert sample_weight.sum(axis=1).tolist() == [len(row) + 1 for row in targets]


class TestWriting:
    @pytest.mark.parametrize("separate", [False, True])
    def test_back_again_is_bit_equal(self, separate, tmp_path):
        original = write(tmp_path / "opus", separate=separate)
        hf.read_checkpoint(original, tmp_path / "run")
        hf.write_checkpoint(tmp_path / "run", tmp_path / "back")
        assert_equal(load_file(tmp_path / "back/model.safetensors"), load_file(original / "model.safetensors"))
        files = ["source.spm", "target.spm"]
        assert [(tmp_path / "back" / name).read_bytes() for name in files] == [
            (original / name).read_bytes() for name in files
        ]
        for name in ("vocab.json", *["target_vocab.json"] * separate):
            assert json.loads((tmp_path / "back" / name).read_bytes()) == json.loads((original / name).read_bytes())
        assert (tmp_path / "back/target_vocab.json").exists() == separate
        config, was = read_config(tmp_path / "back"), read_config(original)
        kept = was.keys() - {"activation_dropout", "attention_dropout", "bos_token_id", "forced_eos_token_id"}
        assert {name: config[name] for name in kept} == {name: was[name] for name in kept}
        tokenizer_config = json.loads((tmp_path / "back/tokenizer_config.json").read_bytes())
        assert tokenizer_config["tokenizer_class"] == "MarianTokenizer"
        assert tokenizer_config["separate_vocabs"] is separate
        assert tokenizer_config["model_max_length"] == P
        hf.read_checkpoint(tmp_path / "back", tmp_path / "again")
        assert_equal(weights(tmp_path / "again"), weights(tmp_path / "run"))
        assert recipe_of(tmp_path / "again").model == recipe_of(tmp_path / "run").model

    def test_what_marian_is_not_is_refused(self, run, tmp_path):
        folder = shutil.copytree(run, tmp_path / "run")
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        recipe["model"]["positions"] = "sinusoidal"
        (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
        with pytest.raises(UsageError, match="positions='sinusoidal', and Marian has 'sinusoidal_halves' alone"):
            hf.write_checkpoint(folder, tmp_path / "back")
        shutil.copytree(run, folder, dirs_exist_ok=True)
        shutil.rmtree(folder / "tokenizer")
        marian.tokenizers().source.save(folder / "tokenizer")
        with pytest.raises(UsageError, match=r"its tokenizer is none of Marian's: source\.spm and target\.spm are not"):
            hf.write_checkpoint(folder, tmp_path / "back")
        assert not (tmp_path / "back").exists()


def test_the_export_answers_as_the_run(run, tmp_path):
    runs.export_run(run, tmp_path / "opus")
    texts, drawn = ["A dog runs over", ">>zh_TW<< the field", ""], {"num_beams": 1, "temperature": 3.0, "max_length": 9}
    expected = [found[0].output for found in runs.load(run).generate(texts, **drawn)]
    assert len({*expected}) > 1
    for runtime in ("onnx", "saved_model"):
        assert [found[0].output for found in runs.load(tmp_path / "opus", runtime).generate(texts, **drawn)] == expected
    generation = json.loads((tmp_path / "opus/generation_config.json").read_bytes())
    assert generation["bad_words_ids"] == [[93]]
    assert generation["decoder_start_token_id"] == generation["pad_token_id"] == 93
    config = read_config(tmp_path / "opus")
    assert (config["activation_function"], config["scale_embedding"]) == ("swish", True)


class TestRefusals:
    @pytest.fixture
    def refused(self, copy, tmp_path):
        return refusal(copy, tmp_path)

    @pytest.mark.parametrize(
        ("changes", "pattern"),
        [
            ({"static_position_embeddings": False}, r"static_position_embeddings is False, and this Trans.* has True"),
            ({"normalize_before": True}, r"normalize_before is True, and this Transformer has False alone"),
            ({"normalize_embedding": True}, r"normalize_embedding is True, and this Transformer has False alone"),
            ({"add_final_layer_norm": True}, r"add_final_layer_norm is True, and this Transformer has False alone"),
            ({"tie_word_embeddings": False}, r"tie_word_embeddings is False, and this Transformer has True alone"),
            ({"is_encoder_decoder": False}, r"is_encoder_decoder is False"),
            ({"activation_function": "gelu_new"}, r"activation_function is 'gelu_new', and this Transformer has relu"),
            ({"decoder_layers": 1}, r"encoder_layers is 2, decoder_layers is 1, and this Transformer has one for both"),
            ({"decoder_ffn_dim": ...}, r"encoder_ffn_dim is 20, decoder_ffn_dim is 'its default'"),
            ({"d_model": "12"}, r"d_model is '12', and must be like 1024"),
            ({"scale_embedding": "yes"}, r"scale_embedding is 'yes', and must be true or false"),
            ({"vocab_size": 58101}, r"vocab_size is 58101, and the source's tokenizer has 94 ids; they must agree"),
            ({"decoder_vocab_size": 90}, r"decoder_vocab_size is 90, and the target's tokenizer has 94 ids"),
            ({"pad_token_id": 0}, r"pad_token_id is 0, and the tokenizer says 93"),
            ({"decoder_start_token_id": 0}, r"decoder_start_token_id is 0, and the tokenizer says 93"),
            ({"eos_token_id": 2}, r"eos_token_id is 2, and the tokenizer says 0"),
            ({"encoder_attention_heads": 5, "decoder_attention_heads": 5}, r"`num_heads` must divide `hidden_dim`"),
        ],
        ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
    )
    def test_configurations(self, copy, refused, changes, pattern):
        edit_config(copy, **changes)
        refused(pattern)

    @pytest.mark.parametrize(
        ("change", "pattern"),
        [
            (
                lambda tensors: tensors | {"lm_head.weight": tensors["model.shared.weight"] + 1},
                r"'lm_head\.weight' diff",
            ),
            (
                lambda tensors: tensors | {"model.encoder.embed_tokens.weight": tensors["model.shared.weight"] * 2},
                r"the tensor 'model\.encoder\.embed_tokens\.weight' differs from 'model\.shared\.weight'",
            ),
            (
                lambda tensors: {k: v for k, v in tensors.items() if k != "final_logits_bias"},
                r"the tensor 'final_logits_bias' is missing",
            ),
            (
                lambda tensors: tensors | {"model.decoder.layers.2.fc1.bias": np.zeros(F, np.float32)},
                r"'model\.decoder\.layers\.2\.fc1\.bias' has no place in the model",
            ),
            (
                lambda tensors: tensors | {"model.encoder.layers.0.fc1.weight": np.zeros((D, F), np.float32)},
                r"has the shape \(12, 20\), and config\.json asks for \(20, 12\)",
            ),
        ],
        ids=["untied_output", "untied_source", "no_bias", "extra_block", "shape"],
    )
    def test_tensors(self, copy, refused, change, pattern):
        edit_tensors(copy, change)
        refused(pattern)

    def test_tokenizers(self, copy, refused):
        vocabulary = json.loads((copy / "vocab.json").read_bytes())
        other = dict(vocabulary) | {"▁": vocabulary["A"], "A": vocabulary["▁"]}
        (copy / "target_vocab.json").write_text(json.dumps(other), encoding="utf-8")
        refused(r"share_encoder_decoder_embeddings is True, and target_vocab\.json differs from vocab\.json")
        other = dict(vocabulary) | {"<pad>": 0, "</s>": vocabulary["<pad>"]}
        (copy / "target_vocab.json").write_text(json.dumps(other), encoding="utf-8")
        edit_config(copy, share_encoder_decoder_embeddings=False)
        refused(r"padding and end have the ids 93 and 0 in vocab\.json, 0 and 93 in target_vocab\.json")
        (copy / "target.spm").unlink()
        refused(r"its tokenizer is none of Marian's: source\.spm and target\.spm are not there")
        (copy / "source.spm").write_bytes(b"junk")
        refused(r"source\.spm and .*vocab\.json: `model` is not a SentencePiece model")


@pytest.mark.parametrize("source_vocabulary_size", [None, 41])
def test_every_variable_has_a_place(source_vocabulary_size):
    config = TransformerConfig(
        vocabulary_size=37,
        source_vocabulary_size=source_vocabulary_size,
        hidden_dim=D,
        intermediate_dim=F,
        num_layers=2,
        num_heads=H,
        logits_bias=True,
    )
    paths = [variable.path.removeprefix("transformer/") for variable in Transformer(config).weights]
    parts = [part for tensor in hf_marian.tensors(config).values() for part in tensor.parts]
    assert sorted(parts) == sorted(paths)
