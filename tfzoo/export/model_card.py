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
curl -d '{{"inputs": {{"source": ["..."]}}}}' http://localhost:8501/v1/models/{name}:predict
```

The signature `generate` also takes {", ".join(f"`{option}`" for option in greedy["options"])}, one number for each
row. `tokens` takes ids padded with 0 and gives logits.
""")
    if "onnx" in manifest["formats"]:
        parts.append("""ONNX Runtime: `onnx/generate.onnx` searches in one call; `onnx/encoder_model.onnx` and
`onnx/decoder_model_merged.onnx` are for a loop of your own. manifest.json lists inputs and outputs.
""")
    return "\n".join(parts)


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
