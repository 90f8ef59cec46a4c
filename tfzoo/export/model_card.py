"""README.md of an artifact: what it is, how to call it, and how it was proved."""

from __future__ import annotations

from typing import Any


def model_card(manifest: dict[str, Any]) -> str:
    """Returns the card as Markdown with the metadata block that model hubs read.

    Args:
        manifest: an artifact's manifest, with its proof.
    """
    sections = [_header(manifest), _use(manifest), _metrics(manifest), _proof(manifest)]
    return "\n".join(section for section in sections if section)


def _header(manifest: dict[str, Any]) -> str:
    recipe = manifest["recipe"]
    origin = f", trained by the recipe `{recipe['name']}`" if recipe and "name" in recipe else ""
    return f"""---
library_name: tfzoo
pipeline_tag: text2text-generation
tags: [tfzoo, {", ".join(manifest["formats"])}]
---

# {manifest["name"]}

A sequence-to-sequence model of {manifest["num_parameters"]:,} parameters{origin}.
Exported by tfzoo {manifest["versions"]["tfzoo"]} with TensorFlow {manifest["versions"]["tensorflow"]}.
"""


def _use(manifest: dict[str, Any]) -> str:
    name, texts = manifest["name"], manifest["golden"]["texts"]
    greedy = manifest["golden"]["searches"]["greedy"]
    parts = [
        f"""## Use

The text {texts[0]!r} gives {greedy["outputs"][0]!r} by greedy search.

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
curl -d '{{"inputs": {{"source": ["..."]}}}}' http://localhost:8501/v1/models/{name}:predict
```

`serving/` also has Docker Compose, Kubernetes and KServe files, clients in Python (REST, gRPC), Node and curl, the
interface as OpenAPI, and `request.json` with `response.json`, its true answer.

The signature `generate` also takes {", ".join(f"`{option}`" for option in greedy["options"])}, one number for each
row. `tokens` takes ids padded with 0 and gives logits.
""")
    if "onnx" in manifest["formats"]:
        parts.append("""ONNX Runtime: `onnx/generate.onnx` searches in one call; `onnx/encoder_model.onnx` and
`onnx/decoder_model_merged.onnx` are for a loop of your own. manifest.json lists inputs and outputs. The loop: the first
call of the decoder has the start token, `use_cache_branch` [false] and each `past_key_values.*` of length 0; a later
one has the token before, [true] and what came out as `present.*`.
""")
        parts.append(_hugging_face(name, "tokenizer.json" in manifest["tokenizers"]))
    return "\n".join(parts)


def _hugging_face(name: str, shared: bool) -> str:
    if shared:
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
(in proportion for logits above 1), and the same tokens by {", ".join(manifest["golden"]["searches"])} search for
{len(manifest["golden"]["texts"])} texts. `tfzoo verify {manifest["name"]}` repeats it without the model.

| format | probe | largest difference of a logit |
|---|---|---|
{chr(10).join(rows)}
"""
