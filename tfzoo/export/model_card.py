"""README.md of an artifact: what it is, how to call it, and how it was proved."""

from __future__ import annotations

import json
from typing import Any

from tfzoo.export.model_card_encoder import ENCODER_KINDS, ENCODER_PIPELINES, encoder_use
from tfzoo.runtime import onnx_names
from tfzoo.runtime.artifact import head_of
from tfzoo.runtime.encoder import ENCODER_TASKS

_PIPELINES = {"seq2seq": "text2text-generation", "causal_lm": "text-generation", **ENCODER_PIPELINES}
_KINDS = {"seq2seq": "sequence-to-sequence model", "causal_lm": "language model", **ENCODER_KINDS}


def model_card(manifest: dict[str, Any]) -> str:
    """Returns the card as Markdown with the metadata block that model hubs read.

    Args:
        manifest: an artifact's manifest, with its proof.
    """
    use = encoder_use if manifest["task"] in ENCODER_TASKS else _use
    sections = [_header(manifest), use(manifest), _metrics(manifest), _proof(manifest)]
    return "\n".join(section for section in sections if section)


def _header(manifest: dict[str, Any]) -> str:
    recipe = manifest["recipe"]
    origin = f", trained by the recipe `{recipe['name']}`" if recipe and "name" in recipe else ""
    return f"""---
library_name: tfzoo
pipeline_tag: {_PIPELINES[manifest["task"]]}
tags: [tfzoo, {", ".join(manifest["formats"])}]
---

# {manifest["name"]}

A {_KINDS[manifest["task"]]} of {manifest["num_parameters"]:,} parameters{origin}.
Exported by tfzoo {manifest["versions"]["tfzoo"]} with TensorFlow {manifest["versions"]["tensorflow"]}.
"""


def _use(manifest: dict[str, Any]) -> str:
    name, texts = manifest["name"], manifest["golden"]["texts"]
    greedy = manifest["golden"]["searches"]["greedy"]
    (text_input,) = head_of(manifest).text_inputs
    gives = {"seq2seq": "gives", "causal_lm": "goes on with"}[manifest["task"]]
    parts = [
        f"""## Use

The text {texts[0]!r} {gives} {greedy["outputs"][0]!r} by greedy search.

```python
import tfzoo

answer = tfzoo.load("{name}")
print(answer([{texts[0]!r}]))
```
"""
    ]
    if "saved_model" in manifest["formats"]:
        parts.append(f"""TF Serving, with this folder mounted as `/models/{name}`:

```sh
serving/docker_run.sh
curl -d '{{"inputs": {{"{text_input}": ["..."]}}}}' http://localhost:8501/v1/models/{name}:predict
```

`serving/` also has Docker Compose, Kubernetes and KServe files, clients in Python (REST, gRPC), Node and curl, the
interface as OpenAPI, and `request.json` with `response.json`, its true answer.

The signature `generate` also takes {", ".join(f"`{option}`" for option in greedy["options"])}, one number for each
row. `tokens` takes ids padded with {manifest["pad_id"]} and gives logits.
""")
    if "onnx" in manifest["formats"]:
        architecture = _architecture(manifest)
        parts.append(f"ONNX Runtime: `{onnx_names.GENERATE}` searches in one call; {_LOOPS[architecture]}")
        parts.append(_HUGGING_FACE[architecture](manifest))
    return "\n".join(parts)


def _architecture(manifest: dict[str, Any]) -> str:
    """What a loop over the graphs carries: keys and values, or recurrent states."""
    if manifest["task"] == "seq2seq":
        first_call = manifest["onnx"][onnx_names.DECODER]["inputs"]
        return "encoder_decoder" if "use_cache_branch" in first_call else "recurrent_encoder_decoder"
    inputs = manifest["onnx"][onnx_names.MODEL]["inputs"]
    return "decoder" if any(name.startswith("past_key_values") for name in inputs) else "recurrent"


def _encoder_decoder(manifest: dict[str, Any]) -> str:
    name = manifest["name"]
    if "tokenizer.json" in manifest["tokenizers"]:
        tokenizers = f"""source = target = AutoTokenizer.from_pretrained("{name}")"""
        browser = f"""transformers.js: `pipeline("translation", "{name}", {{dtype: "fp32"}})`; give `max_new_tokens` in
the call, for its own default exceeds short models."""
    else:
        tokenizers = f"""source = AutoTokenizer.from_pretrained("{name}", subfolder="source")
target = AutoTokenizer.from_pretrained("{name}", subfolder="target")"""
        browser = f"""transformers.js: `AutoTokenizer.from_pretrained("{name}/source")`, `.../target` and
`AutoModelForSeq2SeqLM.from_pretrained("{name}", {{dtype: "fp32"}})`; a pipeline has room for one tokenizer only."""
    return f"""Hugging Face's tools open the folder as a model repository:

```python
from optimum.onnxruntime import ORTModelForSeq2SeqLM
from transformers import AutoTokenizer

model = ORTModelForSeq2SeqLM.from_pretrained("{name}")
{tokenizers}
inputs = source(["..."], padding=True, truncation=True, return_tensors="pt")
print(target.batch_decode(model.generate(**inputs), skip_special_tokens=True))
```

{browser}
Their length penalty is another formula: greedy search, and beam search with `length_penalty=0, early_stopping=True` in
Python, give the tokens of this model. transformers.js has no beam search; give it one text a call, for in a batch it
goes on behind the end of the shorter answers. `tokenizer_vectors.json` holds texts
with their ids for a tokenizer of your own, and says where Hugging Face's are known to differ.
"""


def _decoder(manifest: dict[str, Any]) -> str:
    name = manifest["name"]
    return f"""{_own_loop(manifest)}
Hugging Face's tools open the folder as a model repository:

```python
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer

model = ORTModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
inputs = tokenizer(["{_prompt(manifest)}"], padding=True, add_special_tokens=False, return_tensors="pt")
print(tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True))
```

transformers.js: `pipeline("text-generation", "{name}", {{dtype: "fp32"}})`; give `max_new_tokens` in the call, for its
own default exceeds short models. Both repeat the prompt before the answer, want at least one token (an empty prompt is
the end token here), and refuse none that leaves no room. Greedy search, and beam search with
`length_penalty=0, early_stopping=True` in Python, give the tokens of this model; samples are drawn from other random
numbers. `tokenizer_vectors.json` holds texts with their ids for a tokenizer of your own, and says where Hugging Face's
are known to differ.
"""


def _prompt(manifest: dict[str, Any]) -> str:
    """A prompt as a literal in code, with what the model learnt to see behind it."""
    return "..." + json.dumps(manifest["prompt_suffix"], ensure_ascii=False)[1:-1]


def _own_loop(manifest: dict[str, Any]) -> str:
    """The loop as Python: keys and values have an open length, which begins at 0; a recurrent state has none."""
    name = manifest["name"]
    return f"""```python
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("{name}/tokenizer.json")
model = onnxruntime.InferenceSession("{name}/{onnx_names.MODEL}")
past = {{}}
for value in model.get_inputs()[2:]:
    sizes = [size if isinstance(size, int) else 0 for size in value.shape[1:]]
    past[value.name] = np.zeros([1, *sizes], np.float32)
token_ids = tokenizer.encode("{_prompt(manifest)}", add_special_tokens=False).ids
num_read, answer = 0, []
while len(answer) < {manifest["decoding"]["max_length"]} and {manifest["end_id"]} not in answer:
    num_read += len(token_ids)
    feed = {{"input_ids": np.array([token_ids]), "attention_mask": np.ones([1, num_read], np.int64)}}
    outputs = model.run(None, feed | past)
    found = dict(zip([value.name for value in model.get_outputs()], outputs))
    past = {{key: found["present." + key.split(".", 1)[1]] for key in past}}
    token_ids = [int(found["logits"][0, -1].argmax())]
    answer += token_ids
print(tokenizer.decode(answer))
```
"""


def _recurrent(manifest: dict[str, Any]) -> str:
    return f"""{_own_loop(manifest)}
Hugging Face's model classes have no such architecture; its tokenizer opens there, by `tokenizer.json`.
`tokenizer_vectors.json` holds texts with their ids for a tokenizer of your own, and says where it is known to differ.
"""


def _recurrent_encoder_decoder(manifest: dict[str, Any]) -> str:
    """The loop as Python, with the inputs that this decoder has."""
    name = manifest["name"]
    if "tokenizer.json" in manifest["tokenizers"]:
        tokenizers = f"""source = target = Tokenizer.from_file("{name}/tokenizer.json")"""
    else:
        tokenizers = f"""source = Tokenizer.from_file("{name}/source/tokenizer.json")
target = Tokenizer.from_file("{name}/target/tokenizer.json")"""
    mask = "encoder_attention_mask"
    masked = f', "{mask}": mask' if mask in manifest["onnx"][onnx_names.DECODER]["inputs"] else ""
    return f"""```python
import json

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

with open("{name}/config.json") as file:
    config = json.load(file)
{tokenizers}
encoder = onnxruntime.InferenceSession("{name}/{onnx_names.ENCODER}")
decoder = onnxruntime.InferenceSession("{name}/{onnx_names.DECODER}")


def run(graph, feed):
    return dict(zip([value.name for value in graph.get_outputs()], graph.run(None, feed)))


token_ids = source.encode("...").ids  # at most {manifest["max_length"]}, the end token included
mask = np.ones([1, len(token_ids)], np.int64)
found = run(encoder, {{"input_ids": np.array([token_ids]), "attention_mask": mask}})
names = [value.name for value in decoder.get_inputs() if value.name.startswith("past_")]
past = {{name: found["present." + name.split(".", 1)[1]] for name in names}}
answer = [config["decoder_start_token_id"]]
while len(answer) <= {manifest["decoding"]["max_length"]} and answer[-1] != config["eos_token_id"]:
    found = run(decoder, {{"input_ids": np.array([answer[-1:]]){masked}, **past}})
    past = {{name: found.get("present." + name.split(".", 1)[1], value) for name, value in past.items()}}
    answer.append(int(found["logits"][0, -1].argmax()))
print(target.decode(answer))
```

Hugging Face's model classes have no such architecture; its tokenizers open there, by each `tokenizer.json`.
`tokenizer_vectors.json` holds texts with their ids for a tokenizer of your own, and says where they are known to
differ.
"""


_HUGGING_FACE = {
    "encoder_decoder": _encoder_decoder,
    "recurrent_encoder_decoder": _recurrent_encoder_decoder,
    "decoder": _decoder,
    "recurrent": _recurrent,
}
_LOOPS = {
    "encoder_decoder": f"""`{onnx_names.ENCODER}` and
`{onnx_names.DECODER}` are for a loop of your own. manifest.json lists inputs and outputs. The loop: the first
call of the decoder has the start token, `use_cache_branch` [false] and each `past_key_values.*` of length 0; a later
one has the token before, [true] and what came out as `present.*`.
""",
    "recurrent_encoder_decoder": f"""`{onnx_names.ENCODER}` and
`{onnx_names.DECODER}` are for a loop of your own. manifest.json lists inputs and outputs. The loop: the first
call of the decoder has the start token, the encoder's mask, and what came out of the encoder as `present.*` in the
`past_*` of the same name; a later one has the token before, and in place of those that came out of the decoder as
`present.*` these. Sources of unequal length are padded behind.
""",
    "decoder": f"""`{onnx_names.MODEL}` is for a loop of your own.
manifest.json lists inputs and outputs. The loop: the first call has the prompt, an `attention_mask` of ones and each
`past_key_values.*` of length 0; a later one has the token before, a mask that is longer by one, and what came out as
`present.*`. Rows of unequal length are padded in front, with zeros in the mask.
""",
    "recurrent": f"""`{onnx_names.MODEL}` is for a loop of your own.
manifest.json lists inputs and outputs. The loop: the first call has the prompt, an `attention_mask` of ones and zeros
in each `past_states.*`; a later one has the token before, a mask that is longer by one, and what came out as
`present.*`. Rows of unequal length are padded behind, with zeros in the
mask, and go on from the logits of their own last token; padding in front would be read as the prompt.
""",
}


def _metrics(manifest: dict[str, Any]) -> str:
    metrics = {name: value for name, value in manifest["metrics"].items() if isinstance(value, (int, float))}
    if not metrics:
        return ""
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in metrics.items())
    return f"## Metrics\n\n| metric | value |\n|---|---|\n{rows}\n"


def _proof(manifest: dict[str, Any]) -> str:
    proof = manifest["proof"]
    rows = []
    for name in manifest["formats"]:
        for probe in proof[name]["probes"]:
            shapes = ", ".join(f"{key} {tuple(shape)}" for key, shape in probe["shapes"].items())
            rows.append(f"| {name} | {shapes} | {probe['max_logit_difference']:.1e} |")
    return f"""## Proof

Before this folder existed, every format was compared with the Keras model: logits within {proof["logits_tolerance"]:g}
(in proportion for logits above 1), and {_same_answers(manifest)} for
{len(manifest["golden"]["texts"])} texts. `tfzoo verify {manifest["name"]}` repeats it without the model.

| format | probe | largest difference of a logit |
|---|---|---|
{chr(10).join(rows)}
"""


def _same_answers(manifest: dict[str, Any]) -> str:
    if "searches" in manifest["golden"]:
        return f"the same tokens by {', '.join(manifest['golden']['searches'])} search"
    return f"the same answers, scores within {manifest['proof']['score_tolerance']:g},"
