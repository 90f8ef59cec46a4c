"""Recipes: exact JSON, overrides by declared type, and one clear error for each mistake."""

import dataclasses
import json

import pytest

from tfzoo.errors import RecipeError
from tfzoo.recipes import from_json, lstm_lm, override, to_json, transformer
from tfzoo.zoo import ZOO


@pytest.mark.parametrize("name", ZOO)
def test_json_round_trip_is_exact(name):
    recipe = ZOO[name].recipe()
    again = from_json(to_json(recipe))
    assert again == recipe
    assert to_json(again) == to_json(recipe)


def test_json_keeps_types():
    recipe = from_json(to_json(transformer.tiny_g2p()))
    assert recipe.data.train == ("sample:cmudict",)
    assert isinstance(recipe.training.clip_norm, float)
    assert recipe.data.batch_size is None


def test_json_takes_a_whole_number_for_a_float_and_leaves_defaults_out():
    plain = json.loads(to_json(transformer.tiny()))
    plain["training"]["clip_norm"] = 2
    del plain["training"]["beta_2"], plain["family"]
    recipe = from_json(json.dumps(plain))
    assert recipe.training == dataclasses.replace(transformer.tiny().training, clip_norm=2.0)
    assert isinstance(recipe.training.clip_norm, float)


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("training", "num_step", 5, "`training` has no field 'num_step'. Did you mean 'num_steps'?"),
        ("training", "num_steps", "5", "`training.num_steps` takes a whole number; received '5'."),
        ("training", "num_steps", 5.0, "`training.num_steps` takes a whole number; received 5.0."),
        ("training", "num_steps", True, "`training.num_steps` takes a whole number; received True."),
        ("training", "num_steps", None, "`training.num_steps` takes a whole number; received None."),
        ("training", "learning_rate", False, "`training.learning_rate` takes a finite number; received False."),
        ("training", "learning_rate", float("nan"), "`training.learning_rate` takes a finite number; received nan."),
        ("model", "normalize_first", 1, "`model.normalize_first` takes true or false; received 1."),
        ("data", "train", "tsv:a", "`data.train` takes a list of texts; received 'tsv:a'."),
        ("data", "train", [1], "`data.train` takes a list of texts; received [1]."),
        ("data", "batch_size", "2", "`data.batch_size` takes a whole number or none; received '2'."),
        (
            "model",
            "positions",
            "learnt",
            "`model.positions` takes one of sinusoidal, sinusoidal_halves, learned; received 'learnt'. Did you mean "
            "'learned'?",
        ),
        (
            "tokenizer",
            "source",
            None,
            "`tokenizer.source` takes one of sentencepiece, byte_pair, word_piece, characters, symbols; received None.",
        ),
    ],
)
def test_json_with_a_wrong_field_is_refused(section, field, value, message):
    plain = json.loads(to_json(transformer.tiny()))
    plain[section][field] = value
    with pytest.raises(RecipeError) as caught:
        from_json(json.dumps(plain))
    assert str(caught.value) == message


def test_json_with_missing_or_unknown_parts_is_refused():
    plain = json.loads(to_json(transformer.tiny()))
    with pytest.raises(RecipeError, match="`recipe` has no field 'modell'. Did you mean 'model'?"):
        from_json(json.dumps(plain | {"modell": {}}))
    with pytest.raises(RecipeError, match="`model` must be a JSON object; received 3"):
        from_json(json.dumps(plain | {"model": 3}))
    with pytest.raises(RecipeError, match="`recipe` must be a JSON object"):
        from_json("[]")
    del plain["training"]["num_steps"]
    with pytest.raises(RecipeError, match="`training` lacks its field 'num_steps'"):
        from_json(json.dumps(plain))
    del plain["training"]
    with pytest.raises(RecipeError, match="`recipe` lacks its field 'training'"):
        from_json(json.dumps(plain))


def test_text_that_is_not_json_is_refused_with_its_place():
    with pytest.raises(RecipeError, match="a recipe is JSON: .* at line 2, column 1"):
        from_json('{"name":\n}')


@pytest.mark.parametrize(
    ("assignment", "section", "field", "value"),
    [
        ("training.num_steps=123", "training", "num_steps", 123),
        ("training.learning_rate=1e-4", "training", "learning_rate", 1e-4),
        ("training.clip_norm=2", "training", "clip_norm", 2.0),
        ("training.schedule=cosine", "training", "schedule", "cosine"),
        ("model.normalize_first=True", "model", "normalize_first", True),
        ("model.normalize_first=false", "model", "normalize_first", False),
        ("data.batch_size=7", "data", "batch_size", 7),
        ("data.batch_size=none", "data", "batch_size", None),
        ("data.train=tsv:a=b.tsv, tsv:c.tsv@0.3", "data", "train", ("tsv:a=b.tsv", "tsv:c.tsv@0.3")),
        ("data.train=", "data", "train", ()),
        ("tokenizer.target=none", "tokenizer", "target", None),
        ("evaluation.metrics=bleu", "evaluation", "metrics", ("bleu",)),
        (" decoding.max_length = 9 ", "decoding", "max_length", 9),
    ],
)
def test_override_parses_by_the_declared_type(assignment, section, field, value):
    recipe = transformer.tiny()
    changed = override(recipe, assignment)
    received = getattr(getattr(changed, section), field)
    assert received == value
    assert type(received) is type(value)
    expected_section = dataclasses.replace(getattr(recipe, section), **{field: value})
    assert changed == dataclasses.replace(recipe, **{section: expected_section})
    assert recipe == transformer.tiny()


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.num_steps", "an override reads section.field=value; received 'training.num_steps'."),
        ("num_steps=3", "an override reads section.field=value; received 'num_steps=3'."),
        (
            "trainin.num_steps=3",
            "a recipe's sections are tokenizer, data, model, training, decoding, evaluation; "
            "received 'trainin.num_steps=3'. Did you mean 'training'?",
        ),
        ("training.num_setps=3", "`training` has no field 'num_setps'. Did you mean 'num_steps'?"),
        ("training.num_steps=many", "`training.num_steps` takes a whole number; received 'many'."),
        ("training.num_steps=1.5", "`training.num_steps` takes a whole number; received '1.5'."),
        ("training.num_steps=none", "`training.num_steps` takes a whole number; received 'none'."),
        ("training.num_steps=", "`training.num_steps` takes a whole number; received ''."),
        ("training.learning_rate=inf", "`training.learning_rate` takes a finite number; received inf."),
        ("training.learning_rate=high", "`training.learning_rate` takes a finite number; received 'high'."),
        ("model.normalize_first=1", "`model.normalize_first` takes true or false; received '1'."),
        ("data.batch_size=big", "`data.batch_size` takes a whole number or none; received 'big'."),
        (
            "tokenizer.target=character",
            "`tokenizer.target` takes one of sentencepiece, byte_pair, word_piece, characters, symbols or none; "
            "received 'character'. Did you mean 'characters'?",
        ),
        ("training.num_steps=0", "`num_steps` must be at least 1; received num_steps=0."),
        (
            "model.num_heads=5",
            "`num_heads` must divide `hidden_dim`; received num_heads=5, hidden_dim=24.",
        ),
        (
            "decoding.max_length=65",
            "`decoding.max_length` must not exceed `model.max_sequence_length`; received "
            "decoding.max_length=65, model.max_sequence_length=64.",
        ),
    ],
)
def test_override_refuses_with_one_clear_line(assignment, message):
    with pytest.raises(RecipeError) as caught:
        override(transformer.tiny(), assignment)
    assert str(caught.value) == message


def test_overrides_that_depend_on_each_other_are_checked_together():
    both = ["tokenizer.target=symbols", "model.source_vocabulary_size=40"]
    changed = override(transformer.tiny(), both)
    assert (changed.tokenizer.target, changed.model.source_vocabulary_size) == ("symbols", 40)
    for one in both:
        with pytest.raises(RecipeError, match="go together"):
            override(transformer.tiny(), one)


def test_the_last_of_two_overrides_wins():
    assert override(transformer.tiny(), ["training.seed=1", "training.seed=2"]).training.seed == 2


def test_a_decoder_that_reads_all_tokens_at_once_is_taught_by_the_truth_alone():
    with pytest.raises(RecipeError) as error:
        override(transformer.tiny(), "training.teacher_forcing_ratio=0.5")
    assert str(error.value) == (
        "`training.teacher_forcing_ratio` below 1 needs a model of the family 'gru_seq2seq'; received "
        "family='transformer', training.teacher_forcing_ratio=0.5."
    )


def test_a_recurrent_model_is_not_recomputed():
    with pytest.raises(
        RecipeError, match=r"which a model of the family 'lstm_lm' has not; received training\.recompute"
    ):
        override(lstm_lm.tiny(), "training.recompute=true")


def test_an_unknown_family_is_refused():
    with pytest.raises(RecipeError, match=r"received family='transfomer'\. Did you mean 'transformer'\?"):
        dataclasses.replace(transformer.tiny(), family="transfomer")
