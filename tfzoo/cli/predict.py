"""Answers each line of a text with a line: a file's, those of standard input, or those typed.

    echo tensor | tfzoo predict --run_dir=runs/g2p
    tfzoo predict --artifact=exports/en-de --runtime=onnx --input=sentences.txt --num_beams=4 --json
    echo 'Once upon a time' | tfzoo predict --run_dir=runs/gpt2 --temperature=0.8 --stop=. --stream
    tfzoo predict --artifact=exports/en-de --input='texts/*.txt.gz' --output_dir=answers

A model of two texts takes text_a<TAB>text_b on a line.
The last command answers file by file, with progress; run again, it goes on where it was interrupted. With --beam_runner
the same files are answered by an Apache Beam pipeline, on as many machines as the runner has.
The decoding flags that are left out come from the recipe.
"""

from __future__ import annotations

import contextlib
import itertools
import sys

from absl import flags

from tfzoo.cli.flags import (
    decoding_overrides,
    define_beam,
    define_decoding,
    define_runtime,
    define_source,
    imports_tensorflow,
    pipeline_options,
    require,
    source,
)
from tfzoo.cli.quiet import import_tensorflow
from tfzoo.errors import UsageError


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    define_source(flag_values)
    define_runtime(flag_values)
    flags.DEFINE_multi_string(
        "input",
        [],
        "a UTF-8 text file; standard input when left out; with --output_dir any number of files and globs",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "output_dir", None, "a folder that gets a file of answers for each input", flag_values=flag_values
    )
    define_beam(flag_values)
    flags.DEFINE_bool("json", False, "print one JSON object a line, with the score", flag_values=flag_values)
    flags.DEFINE_bool(
        "token_log_probs", False, "with --json: the log-probability of each token, in nats", flag_values=flag_values
    )
    flags.DEFINE_bool(
        "attention", False, "with --json, of a run: what each answer looked at in the source", flag_values=flag_values
    )
    flags.DEFINE_bool("stream", False, "print an answer while it is generated", flag_values=flag_values)
    define_decoding(flag_values)


def run(flag_values: flags.FlagValues) -> None:
    """Prints the answers as they come, or writes them file by file."""
    path = source(flag_values)
    if flag_values.output_dir is None:
        _print_answers(path, flag_values)
    else:
        _write_answers(path, flag_values)


def _print_answers(path: str, flag_values: flags.FlagValues) -> None:
    if len(flag_values.input) > 1 or flag_values.beam_runner or flag_values.beam_option:
        raise UsageError("several files, and Beam, need a place for their answers: give --output_dir.")
    if flag_values.stream and flag_values.json:
        raise UsageError("--stream prints pieces of text, which --json cannot hold; leave one of the two out.")
    for name in ("token_log_probs", "attention"):
        if flag_values[name].value and not flag_values.json:
            raise UsageError(f"--{name} needs --json.")
    if flag_values.token_log_probs and flag_values.attention:
        raise UsageError("--token_log_probs and --attention describe an answer each; leave one of the two out.")
    name = flag_values.input[0] if flag_values.input else "standard input"
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(name, "rb")) if flag_values.input else sys.stdin.buffer
        if imports_tensorflow(flag_values):
            import_tensorflow()
        from tfzoo import runs
        from tfzoo.offline import as_line, decode_lines

        options = decoding_overrides(flag_values)
        texts = decode_lines(file, name)
        if flag_values.stream:
            predictor = runs.load(path, flag_values.runtime)
            pieces = (itertools.chain(predictor.stream(text, **options), "\n") for text in texts)
            for piece in itertools.chain.from_iterable(pieces):
                print(piece, end="", flush=True)
            return
        if flag_values.token_log_probs:
            options["token_log_probs"] = True
        if file.isatty():
            options["batch_size"] = 1
        if flag_values.attention:
            from tfzoo.attention import attention

            answers = attention(runs.load(path, flag_values.runtime), texts, **options)
        else:
            answers = runs.predict(path, texts, runtime=flag_values.runtime, **options)
        if file.isatty():
            print("one text a line; Ctrl-D ends", file=sys.stderr)
        for answer in answers:
            print(as_line(answer, flag_values.json), flush=True)


def _write_answers(path: str, flag_values: flags.FlagValues) -> None:
    require(flag_values, "input")
    if flag_values.stream or flag_values.token_log_probs or flag_values.attention:
        raise UsageError("--stream, --token_log_probs and --attention go to the terminal; leave --output_dir out.")
    if imports_tensorflow(flag_values):
        import_tensorflow()
    arguments = {
        "runtime": flag_values.runtime,
        "as_json": flag_values.json,
        **decoding_overrides(flag_values),
    }
    if flag_values.beam_runner is None:
        from tfzoo.offline import predict_files

        predict_files(path, flag_values.input, flag_values.output_dir, **arguments)
    else:
        try:
            from tfzoo.beam import run_pipeline
        except ModuleNotFoundError as error:
            raise UsageError("--beam_runner needs Apache Beam: pip install 'tfzoo[beam]'") from error
        run_pipeline(
            path,
            flag_values.input,
            flag_values.output_dir,
            pipeline_options=pipeline_options(flag_values),
            **arguments,
        )
    print(f"answered: {flag_values.output_dir}")
