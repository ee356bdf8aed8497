"""A finite stream without --max_steps trains as the same rows in memory do: batches, steps, epochs, and after a stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.data import IterableDataset

from swift.data.packing import PackedStream
from swift.errors import DataError
from swift.train.order import CountedStream, PaddedOrder, WholeStream
from tests import tiny
from tests.train.runs import logged, prepared, rows, trainer


class Stream(IterableDataset):
    def __init__(self, items: list) -> None:
        self.items = items

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield from self.items


def counted(stream) -> CountedStream:  # type: ignore[no-untyped-def]
    return CountedStream(stream, sum(1 for _ in stream))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("number", "whole"), [(10, 4), (8, 4), (3, 4), (1, 1), (7, 3)])
def test_places_are_those_of_rows_in_memory(number: int, whole: int, drop_last: bool) -> None:
    items = [[{"n": n}] for n in range(number)]
    stream = WholeStream(CountedStream(Stream(items), number), whole, drop_last=drop_last)
    order = PaddedOrder(number, whole, seed=None, drop_last=drop_last)
    assert list(stream) == [[] if place is None else items[place] for place in order] and len(stream) == len(order)


def test_a_stream_that_became_shorter_is_said() -> None:
    with pytest.raises(DataError, match="5 items when it was counted"):
        list(WholeStream(CountedStream(Stream([[]] * 3), 5), 2))


@pytest.mark.parametrize(
    "more", [dict(num_train_epochs=2), dict(num_train_epochs=1.5, dataloader_num_workers=1), dict(dataloader_drop_last=True)]
)
def test_steps_are_those_of_rows_in_memory(more: dict, tmp_path: Path) -> None:
    """11 rows, 2 at a time, 2 batches a step: 3 steps an epoch, the last one of them short."""
    model, items = tiny.model(), rows(11)
    settings = dict(per_device_train_batch_size=2, gradient_accumulation_steps=2, **more)
    eager, stream = (
        trainer(prepared(model), source, tmp_path / name, **settings)  # type: ignore[arg-type]
        for name, source in (("eager", items), ("stream", counted(Stream(items))))
    )
    for made in (eager, stream):
        made.train()
    assert logged(eager, "loss") == logged(stream, "loss") and len(logged(eager, "loss")) == eager.state.max_steps
    assert logged(eager, "learning_rate") == logged(stream, "learning_rate")
    assert logged(eager, "epoch") == logged(stream, "epoch")


@pytest.mark.parametrize("packed", [False, True])
def test_a_run_that_stopped_goes_on_with_the_next_batch(packed: bool, tmp_path: Path) -> None:
    model, items = tiny.model(), rows(14)

    def source() -> CountedStream:
        return counted(PackedStream(Stream(items), 48, buffer=6) if packed else Stream(items))

    settings = dict(per_device_train_batch_size=2, num_train_epochs=2, save_strategy="steps", save_steps=1)
    whole = trainer(prepared(model), source(), tmp_path / "whole", **settings)  # type: ignore[arg-type]
    whole.train()
    for step in (1, whole.state.max_steps // 2 + 1):  # in the first epoch and in the second
        checkpoint = tmp_path / "whole" / f"checkpoint-{step}"
        rest = trainer(prepared(type(model).from_pretrained(checkpoint)), source(), tmp_path / f"rest{step}", **settings)  # type: ignore[arg-type]
        rest.train(resume_from_checkpoint=str(checkpoint))
        assert logged(rest, "loss") == logged(whole, "loss")
