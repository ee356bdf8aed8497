"""Every row of a data set answered, batch by batch: what is done is in the file at once; a row that cannot be asked is there with why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from swift import dist, logs
from swift.data.columns import to_row
from swift.data.mix import Samples, draw, load_samples
from swift.data.sample import Sample
from swift.engines.classify import ClassifierEngine
from swift.engines.engine import Completion, Sampling, logprobs_json
from swift.engines.pt.engine import PtEngine, Refused
from swift.engines.stats import InferStats
from swift.engines.text_metrics import Pairs, metrics
from swift.errors import DataError
from swift.template.encoded import RowSkipped

if TYPE_CHECKING:
    from swift.args.base import DataArgs, HubArgs
    from swift.data.columns import Task

AT_ONCE = 256  # rows between two writes where the batch size is the engine's business
Record = dict[str, Any]
Split = Callable[[Sample], tuple[Sample, str | None]]  # a sample to (what is asked, what it wants as an answer)


@dataclass
class Rows:
    """This rank's rows: `first` is the number of the first among all; `total` is None for a stream."""

    samples: Iterable[Sample]
    first: int = 0
    total: int | None = None

    @classmethod
    def load(cls, data: DataArgs, hub: HubArgs, count: int | None, *, task: Task = "infer") -> Rows:
        """--val_dataset, or the held-out part of --dataset; of these --val_dataset_sample; of these this rank's stretch."""
        loaded = load_samples(data, hub, task=task, answering=True)
        for line in loaded.tally.lines():
            logs.info(line)
        rows = loaded.val
        if rows is None:
            raise DataError(
                "no row is held out to be answered: the data set is too small for its --split_dataset_ratio "
                f"{data.split_dataset_ratio:g}. Give it with --val_dataset to answer all of its rows"
            )
        if not isinstance(rows, Samples):
            if not dist.is_distributed():
                return cls(rows if count is None else islice(rows, count), total=count)
            rows = Samples(islice(rows, count))  # ranks take stretches, so the end must be known
        elif count is not None:
            rows = draw(rows, count, np.random.RandomState(data.data_seed))
        first, last = (len(rows) * rank // dist.world_size() for rank in (dist.rank(), dist.rank() + 1))
        return cls(rows[first:last], first, last - first)


def answer_rows(
    engine: PtEngine | ClassifierEngine, sampling: Sampling, rows: Rows, *, stream: bool, results: Path, metric: str | None, seed: int
) -> list[Record]:
    """Answer `rows`, write and show what came of them. Each row draws with a seed of its own, so ranks and batches do not matter."""
    stats, records = InferStats(), []
    split = engine.split_label if isinstance(engine, ClassifierEngine) else split_answer
    own_file = results.with_name(f"{results.stem}.rank{dist.rank()}.part") if dist.is_distributed() else results
    say = print if stream else None
    answered = streamed(engine, sampling, rows, stats, seed, split, say) if say else batched(engine, sampling, rows, stats, seed, split)
    with own_file.open("a", encoding="utf-8") as file:
        for batch in answered:
            for record in batch:
                file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
            file.flush()
            records += batch
    if dist.is_distributed():
        records = join_ranks(records, results, own_file)
    all_stats = dist.gather(stats.compute())
    if dist.is_main():
        show(records, all_stats, metric, metrics | ({"acc": engine.acc} if isinstance(engine, ClassifierEngine) else {}))
    return records


def batched(
    engine: PtEngine | ClassifierEngine, sampling: Sampling, rows: Rows, stats: InferStats, seed: int, split: Split
) -> Iterator[list[Record]]:
    size = 4 * engine.max_batch_size if engine.max_batch_size else AT_ONCE  # some room to put prompts of like length together
    number = rows.first
    bar = tqdm(total=rows.total, desc="answers", disable=not dist.is_main(), dynamic_ncols=True)
    source = iter(rows.samples)
    with bar:
        while batch := list(islice(source, size)):
            asked = [replace(sampling, seed=seed + number + place) for place in range(len(batch))]
            records = []
            for sample, answer in zip(batch, engine.attempt(batch, asked, on_end=bar.update), strict=True):
                if isinstance(answer, list):
                    stats.add(str(number), answer[0].prompt_tokens, len(answer[0].token_ids))
                else:
                    bar.update()
                records.append(record(*split(sample), answer[0] if isinstance(answer, list) else answer))
                number += 1
            yield records


def streamed(
    engine: PtEngine | ClassifierEngine,
    sampling: Sampling,
    rows: Rows,
    stats: InferStats,
    seed: int,
    split: Split,
    say: Callable[..., None],
) -> Iterator[list[Record]]:
    """Row after row, each shown with its answer as it grows."""
    for number, sample in enumerate(rows.samples, rows.first):
        asked, labels = split(sample)
        say(f"[QUERY] {asked.messages[-1].content if asked.messages else ''}")
        if labels:
            say(f"[LABELS] {labels}")
        say("[RESPONSE] ", end="", flush=True)
        text, logprobs = "", []
        try:
            for _, chunk in engine.stream([sample], replace(sampling, seed=seed + number)):
                say(chunk.text, end="", flush=True)
                text += chunk.text
                logprobs += chunk.logprobs or []
                if chunk.finish_reason is not None:
                    stats.add(str(number), chunk.prompt_tokens, chunk.completion_tokens)
            result: Record = {"response": text, "labels": labels}
            if sampling.logprobs:
                result["logprobs"] = logprobs_json(logprobs)
        except (RowSkipped, DataError) as refusal:
            result = {"response": None, "labels": labels, "error": said_why(sample, refusal)}
        say("\n" + "-" * 50)
        yield [result | {key: value for key, value in to_row(asked).items() if key not in result}]


def record(asked: Sample, labels: str | None, answer: Completion | Refused) -> Record:
    """The line of the result file: the answer, what the row wanted, then the row's own columns without that answer."""
    if isinstance(answer, Completion):
        result: Record = {"response": answer.text, "labels": labels, "logprobs": logprobs_json(answer.logprobs)}
    else:
        result = {"response": None, "labels": labels, "logprobs": None, "error": said_why(asked, answer)}
    return result | {key: value for key, value in to_row(asked).items() if key not in result}


def said_why(sample: Sample, refusal: Refused) -> str:
    logs.warning(f"{sample.origin or 'a row'} was not answered: {refusal}")
    return str(refusal)


def split_answer(sample: Sample) -> tuple[Sample, str | None]:
    """The sample without the answer it ends with, and that answer."""
    messages = list(sample.messages)
    answer: list[str] = []
    while messages and messages[-1].role == "assistant":
        answer.insert(0, messages.pop().content)
    return replace(sample, messages=messages), "".join(answer) if answer else None


def join_ranks(records: list[Record], results: Path, own_file: Path) -> list[Record]:
    """All ranks' records in rank order, which is the rows' order, in one file; a rank's own file held them until now."""
    everything = [record for part in dist.gather(records) for record in part]
    if dist.is_main():
        with results.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in everything)
    dist.barrier()
    own_file.unlink()
    return everything


def show(records: list[Record], stats: list[dict[str, Any]], metric: str | None, measures: Mapping[str, Callable[[Pairs], Any]]) -> None:
    refused = sum("error" in record for record in records)
    if refused:
        logs.warning(f"{refused:,} of {len(records):,} rows were not answered; their records say why under 'error'")
    if metric is not None:
        pairs = [
            (record["response"], record["labels"]) for record in records if record["labels"] is not None and record["response"] is not None
        ]
        if not pairs:
            logs.warning(f"--metric {metric}: no row has both an answer and a label")
        print(measures[metric](pairs))
    for rank, counted in enumerate(stats):
        rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in counted.items()}
        print(f"[rank{rank if dist.is_distributed() else -1}] {rounded}")
