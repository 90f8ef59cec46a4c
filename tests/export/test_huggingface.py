"""The artifact as a Hugging Face model repository: its tokenizer and configuration files."""

import json

import numpy as np
import pytest
import tokenizers

from tfzoo.decoding.config import DecodingConfig
from tfzoo.export.huggingface import config_files
from tfzoo.runtime.tasks import encode_sources

pytestmark = pytest.mark.xdist_group("artifacts")


def test_tokenizer_json_gives_the_ids_that_the_encoder_reads(exported):
    folder = exported.directory if exported.tokenizer.shared else exported.directory / "source"
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in exported.texts:
        inputs = encode_sources([text], exported.tokenizer, 1000, np.array([1]))
        assert [tokenizer.encode(text).ids] == inputs["encoder_token_ids"].tolist()


def test_target_tokenizer_json_spells_the_answers(separate_vocabularies):
    tokenizer = tokenizers.Tokenizer.from_file(str(separate_vocabularies.directory / "target/tokenizer.json"))
    predictions = [best for (best, *_) in separate_vocabularies.predictor.generate(separate_vocabularies.texts)]
    assert any(prediction.output for prediction in predictions)
    for prediction in predictions:
        assert tokenizer.decode(prediction.token_ids).replace("<unk>", "⁇") == prediction.output


def test_the_configuration_says_what_the_graphs_expect(exported):
    config = json.loads((exported.directory / "config.json").read_text(encoding="utf-8"))
    model = exported.model.config
    assert (config["model_type"], config["is_encoder_decoder"]) == ("marian", True)
    # The width of the logits: Hugging Face's search reads no other.
    assert config["vocab_size"] == config["decoder_vocab_size"] == exported.tokenizer.target.vocabulary_size
    assert config["decoder_layers"] == 2
    assert config["d_model"] // config["decoder_attention_heads"] == model.hidden_dim // model.num_heads
    generation = json.loads((exported.directory / "generation_config.json").read_text(encoding="utf-8"))
    for content in (config, generation):
        assert {name: content[name] for name in content if name.endswith("token_id")} == {
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "decoder_start_token_id": 2,
            # Marian's default would force an end at the length limit.
            **({"forced_eos_token_id": None} if content is config else {}),
        }
    assert generation["max_new_tokens"] == exported.manifest["decoding"]["max_length"]
    assert generation["num_beams"] == exported.manifest["decoding"]["num_beams"]
    if generation["num_beams"] > 1:
        assert (generation["length_penalty"], generation["early_stopping"]) == (0.6, True)


def test_the_tokenizers_know_where_the_model_cuts(exported):
    configs = sorted(exported.directory.rglob("tokenizer_config.json"))
    assert len(configs) == (1 if exported.tokenizer.shared else 2)
    for path in configs:
        assert json.loads(path.read_text(encoding="utf-8"))["model_max_length"] == exported.manifest["max_length"]


@pytest.mark.parametrize(
    ("search", "written"),
    [
        ({}, {"do_sample": False}),
        ({"num_beams": 2, "length_penalty": 0.3}, {"do_sample": False, "early_stopping": True, "length_penalty": 0.3}),
        (
            {"temperature": 0.7, "top_p": 0.9},
            {"do_sample": True, "temperature": 0.7, "top_k": 0, "top_p": 0.9},
        ),
    ],
    ids=["greedy", "beam", "sample"],
)
def test_the_generation_configuration_searches_as_the_artifact_does(exported, search, written):
    config = config_files(exported.model.config, DecodingConfig(**search))["generation_config.json"]
    fixed = {"max_new_tokens", "num_beams", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"}
    assert {name: value for name, value in config.items() if name not in fixed} == written
