"""Pictures of a run: one curve per logged number, drawn from the trainer's own history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WIDTH, HEIGHT, DPI = 8, 5, 100  # inches, inches, dots per inch
FAINT, STRONG = "#FFE2D9", "#FF7043"


def save_plots(history: list[dict[str, Any]], folder: Path, *, smoothing: float = 0.9) -> list[Path]:
    """`train_loss.png`, `eval_loss.png`, `train_learning_rate.png` … in `folder`. Returns the files written."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for tag, points in sorted(series(history).items()):
        steps, values = zip(*points, strict=True)
        figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), dpi=DPI)
        axes.set_title(tag)
        axes.set_xlabel("step")
        if len(values) == 1:
            axes.scatter(steps, values, color=STRONG)
        elif tag == "train/loss":
            axes.plot(steps, values, color=FAINT)
            axes.plot(steps, smoothed(values, smoothing), color=STRONG)
        else:
            axes.plot(steps, values, color=STRONG)
        path = folder / f"{tag.replace('/', '_').replace('(', '_').replace(')', '')}.png"
        figure.savefig(path)
        plt.close(figure)
        written.append(path)
    return written


def series(history: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """tag -> [(step, value)]; `eval_loss` becomes `eval/loss`, everything else `train/…`, as TensorBoard names them."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in history:
        if "train_runtime" in record:
            continue  # the summary of the run: its train_loss is a mean over all steps
        for name, value in record.items():
            if name == "step" or not isinstance(value, (int, float)):
                continue
            tag = f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name.removeprefix('train_')}"
            found.setdefault(tag, []).append((record["step"], float(value)))
    return found


def smoothed(values: tuple[float, ...], weight: float) -> list[float]:
    """Exponential moving average, corrected for its start at 0 (https://arxiv.org/abs/1412.6980 section 3)."""
    average, out = 0.0, []
    for number, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        out.append(average / (1 - weight**number))
    return out
