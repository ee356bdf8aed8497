"""What answers are worth beside a data set's own: exact match, and rouge with bleu. Pure functions of (answer, label) pairs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from swift.errors import need

Pairs = Sequence[tuple[str, str]]  # (answer, label)


def acc(pairs: Pairs) -> dict[str, float]:
    """The share of answers that equal their label."""
    return {"acc": sum(answer == label for answer, label in pairs) / len(pairs)} if pairs else {}


def rouge(pairs: Pairs) -> dict[str, float]:
    """rouge-1, rouge-2, rouge-l (F, over jieba's words) and bleu-4 (over characters, smoothed), each ×100; empty texts do not count."""
    jieba = need("jieba", why="--metric rouge")
    rouge_chinese = need("rouge_chinese", why="--metric rouge")
    bleu = need("nltk.translate.bleu_score", why="--metric rouge")
    jieba.setLogLevel(logging.WARNING)
    scores: dict[str, list[float]] = {"rouge-1": [], "rouge-2": [], "rouge-l": [], "bleu-4": []}
    for answer, label in pairs:
        said, wanted = (" ".join(jieba.cut(text)) for text in (answer, label))
        if not said.strip() or not wanted.strip():
            continue
        found = rouge_chinese.Rouge().get_scores(said, wanted)[0]
        for name in ("rouge-1", "rouge-2", "rouge-l"):
            scores[name].append(found[name]["f"])
        smooth = bleu.SmoothingFunction().method3
        scores["bleu-4"].append(bleu.sentence_bleu([list(label)], list(answer), smoothing_function=smooth))
    return {name: round(sum(values) / len(values) * 100, 6) for name, values in scores.items() if values}


metrics = {"acc": acc, "rouge": rouge}
