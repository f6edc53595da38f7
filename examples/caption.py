"""Make the embedding of a caption as NVIDIA's inference does: what PiD's networks take as `caption`.

    pip install torch 'transformers>=4.56'
    python examples/caption.py "a cat on a windowsill" -o cat.npy
    python examples/caption.py "" -o null.npy                      the null caption: an empty prompt
    python examples/caption.py --negative -o negative.npy          what NVIDIA's teachers are guided away from
    python examples/caption.py "a cat" "a dog" -o captions         captions/0000.npy, captions/0001.npy

Each file is float32 (300, 2304). Source: nv-tlabs/PiD, `pid/_src/models/pixeldit_model.py`, `_encode_text_raw`.
docs/captions.md says what happens to the prompt. The encoder is Gemma-2-2B-it, 5 GB, under Google's terms of use.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

ENCODER = "Efficient-Large-Model/gemma-2-2b-it"  # NVIDIA's choice: the weights of google/gemma-2-2b-it
TOKENS = 300

# The prefix of all prompts, also of the empty one ("CHI": Complex Human Instruction, of Xie et al., arXiv 2410.10629).
# It is data: the networks were trained on these characters.
PREFIX = """\
Given a user prompt, generate an "Enhanced prompt" that provides detailed visual descriptions suitable for image \
generation. Evaluate the level of detail in the user prompt:
- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and spatial relationships \
to create vivid and concrete scenes.
- If the prompt is already detailed, refine and enhance the existing details slightly without overcomplicating.
Here are examples of how to transform or refine prompts:
- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, sleeping peacefully \
on a warm sunny windowsill, surrounded by pots of blooming red flowers.
- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring glowing street lamps, a \
diverse crowd of people in colorful clothing, and a double-decker bus passing by towering glass skyscrapers.
Please generate only the enhanced description for the prompt below and avoid including any additional commentary or \
evaluations:
User Prompt: """

# The default `negative_prompt` of NVIDIA's model, which none of its PiD configurations changes.
NEGATIVE = (
    "low quality, worst quality, over-saturated, three legs, six fingers, cartoon, anime, cgi, low res, blurry, "
    "deformed, distortion, duplicated limbs, plastic skin, jpeg artifacts, watermark"
)


def kept(hidden, tokens=TOKENS):
    """Return the tokens that NVIDIA keeps of the encoder's output (length, width): the first, and the last tokens-1."""
    return np.concatenate([hidden[:1], hidden[len(hidden) - (tokens - 1) :]])


def embedding(prompt, tokenizer, encoder, tokens=TOKENS):
    """Return the embedding of a prompt, float32 (tokens, width).

    Prefix and prompt are padded on the right, or cut, to the prefix's tokens and tokens - 2 more. The encoder does not
    look at the padding, but gives a state for each of its places, and those are kept.
    """
    length = len(tokenizer.encode(PREFIX)) + tokens - 2
    ids = tokenizer(PREFIX + prompt, max_length=length, padding="max_length", truncation=True, return_tensors="pt")
    hidden = encoder(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"])[0]
    return kept(hidden[0].float().cpu().numpy(), tokens)


def load(name):
    """Return the tokenizer and the encoder: Gemma's layers and last norm in bfloat16, without what predicts words."""
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise SystemExit(f"caption.py: {error.name} is missing: pip install torch 'transformers>=4.56'") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="right")
        encoder = AutoModel.from_pretrained(name, dtype=torch.bfloat16)
    except Exception as error:  # transformers raises errors of many kinds
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise SystemExit(f"caption.py: no encoder {name!r} can be had: {why}") from error
    torch.set_grad_enabled(False)
    return tokenizer, encoder.eval()


def obstacle(files):
    """Return why files of one folder cannot be written, or None; the encoder need not be loaded to know it."""
    for file in files:
        if os.path.lexists(file):
            return f"{file} exists: move it, or pass another name"
    there = next(folder for folder in files[0].absolute().parents if os.path.lexists(folder))
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return f"cannot write {files[0]}: {there}: {error.strerror}"


def main(argv=None, load=load):
    """Write the embeddings that a command line asks for."""
    parser = argparse.ArgumentParser(prog="caption.py", description=__doc__.partition(":")[0] + ".")
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help='a caption; "" is the null caption')
    parser.add_argument("--negative", action="store_true", help="the negative prompt of NVIDIA's teachers")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help=".npy, or a folder for several")
    parser.add_argument("--encoder", default=ENCODER, metavar="NAME", help="on Hugging Face, or a folder")
    arguments = parser.parse_args(argv)
    prompts = [*arguments.prompts, *([NEGATIVE] if arguments.negative else [])]
    if not prompts:
        parser.error('no prompt: pass one or more, "" for the null caption, or --negative')
    files = [arguments.output]
    if len(prompts) > 1:
        files = [arguments.output / f"{i:04}.npy" for i in range(len(prompts))]
    elif arguments.output.suffix != ".npy":
        parser.error(f"one embedding goes to a file: {arguments.output} does not end in .npy")
    if (wrong := obstacle(files)) is not None:
        parser.error(wrong)
    tokenizer, encoder = load(arguments.encoder)
    for prompt, file in zip(prompts, files, strict=True):
        made = embedding(prompt, tokenizer, encoder)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, made)
        except OSError as error:
            raise SystemExit(f"caption.py: cannot write {file}: {error.strerror or error}") from error
        print(f"{file}: {prompt or '(null caption)'}")


if __name__ == "__main__":
    main()
