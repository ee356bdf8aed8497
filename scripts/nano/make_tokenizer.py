"""Train the nano model's tokenizer on its corpus and save it with the chat template, as `AutoTokenizer` loads it.

python -m scripts.nano.make_tokenizer --corpus build/nano --out build/nano/tokenizer
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from scripts.nano import self_cognition

VOCABULARY = 2304  # with the markers below
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = ("<tool_call>", "</tool_call>", "<think>", "</think>")  # a model may write these, and they are learned
CONTEXT = 1024

# transformers picks the class by the model's type and then builds this pipeline, whatever tokenizer.json says: so it is trained with it.
# Each digit is a piece of its own, and so is the space before a number.
QWEN2_PIECES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

CHINESE = re.compile(r"[\u3400-\u9fff]")  # trained one by one: a sentence that is always the same would become one token


def train(texts: Iterator[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL) - len(ADDED),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((CHINESE.sub(r"\n\g<0>\n", text) for text in texts), trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in ADDED])
    return tokenizer


def corpus_texts(corpus: Path) -> Iterator[str]:
    """Everything that will be read or written, roles and tool schemas too."""
    with (corpus / "pt.jsonl").open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]
    with (corpus / "sft.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            for message in row["messages"]:
                yield message["role"]
                yield message["content"]
            yield from map(json.dumps, json.loads(row.get("tools", "[]")))
    for question, answer in self_cognition.ENGLISH + self_cognition.CHINESE:
        yield from (question, answer)


def save(tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": False,
        "model_max_length": CONTEXT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    shutil.copy(Path(__file__).with_name("chat_template.jinja"), folder / "chat_template.jinja")


def check(tokenizer: Tokenizer, folder: Path, texts: list[str]) -> None:
    """The class that transformers picks must give the ids that the trained tokenizer gives."""
    loaded = AutoTokenizer.from_pretrained(folder)
    for text in texts:
        raw, ours = tokenizer.encode(text).ids, loaded(text)["input_ids"]
        if raw != ours:
            raise SystemExit(f"{type(loaded).__name__} gives other ids than tokenizer.json for {text!r}: {ours} and not {raw}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("build/nano"), help="folder of make_corpus.py")
    parser.add_argument("--out", type=Path, default=Path("build/nano/tokenizer"))
    args = parser.parse_args()
    tokenizer = train(corpus_texts(args.corpus))
    save(tokenizer, args.out)
    check(tokenizer, args.out, list(corpus_texts(args.corpus))[::97])
    print(f"{args.out}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
