"""Who is computed when: answers wait, take a place in the running batch, and leave it, each by itself.

A turn drops those that were cancelled, gives free places and cache rows to those that wait, reads a bounded piece of their prompts, and
computes one token for every answer whose prompt is read. On a GPU a turn's tokens are looked at while the next turn is computed. Requests
that the running batch cannot take (beams, models and adapters of other kinds) have a batch of their own, which takes turns with it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from swift import logs
from swift.engines.engine import Load, QueueFull
from swift.engines.pt.adapters import AdapterRequest, AdapterShelf
from swift.engines.pt.beams import beam_search
from swift.engines.pt.cache import KvCache, Room, Stretch, common_prefix, rows_that_fit
from swift.engines.pt.choose import Chooser, Told
from swift.engines.pt.decode import decode, input_device
from swift.engines.pt.forward import Chosen, choose_forward
from swift.engines.pt.request import Request
from swift.engines.pt.step import Piece, Row, Steps
from swift.engines.pt.ticket import Ticket
from swift.errors import SwiftError

CPU_PLACES = 32  # more rows gain little on a CPU
GPU_PLACES = 256
AHEAD = 256  # rows that an answer is given beyond its prompt at first; it grows where it needs more
KEPT = 4  # times as many ended answers as places keep their rows for prompts that begin alike
# Prompt tokens of one turn, while nobody's answer is running and while somebody's is: that one waits for them
PIECES = {"cpu": (512, 256), "cuda": (8192, 2048)}
SIBLING = 32  # tokens that must be saved for a prompt to wait until the same beginning has been read for another


class Closed(SwiftError):
    """The engine was closed while requests waited or ran."""


@dataclass(eq=False)
class Seat:
    """An answer in the running batch."""

    ticket: Ticket
    request: Request
    place: int
    stretch: Stretch
    text: np.ndarray  # the prompt, and of an answer that was pushed out what it had: to be read before it goes on
    kind: int  # row of the table of adapters' columns
    read: int = 0  # tokens whose keys and values are in the cache, or on their way
    asked: int = 0  # tokens of the answer that are computed, or on their way
    over: bool = False


@dataclass
class _Pending:
    """Tokens that were asked of the device."""

    seats: list[Seat]
    tokens: Tensor  # on the host once `ready`
    told: Told | None
    ready: torch.cuda.Event | None = None

    @classmethod
    def of(cls, seats: list[Seat], tokens: Tensor, told: Told | None) -> _Pending:
        if not tokens.is_cuda:
            return cls(seats, tokens, told)
        host = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True).copy_(tokens, non_blocking=True)
        ready = torch.cuda.Event()
        ready.record()
        return cls(seats, host, told, ready)

    def read(self) -> list[int]:
        if self.ready is not None:
            self.ready.synchronize()
        return self.tokens.tolist()


@dataclass(eq=False)
class _Aside:
    """A batch of its own: requests of one adapter, and its loop."""

    adapter: AdapterRequest | None
    tickets: dict[Request, Ticket]
    steps: Iterator[list[Request]] = field(default_factory=lambda: iter(()))


class Scheduler:
    """One thread computes while there is something to compute; `add` starts it. Everything but `add`, `load` and `close` runs in it."""

    def __init__(
        self,
        shelf: AdapterShelf,
        tokenizer: PreTrainedTokenizerBase,
        word: Callable[[int], str],
        *,
        max_length: int,
        capture: bool = True,
    ):
        self.shelf, self.tokenizer, self.word, self.max_length, self.capture = shelf, tokenizer, word, max_length, capture
        self.places: int | None = None  # None: as fits; 0: as many as ask
        self._lock = threading.Lock()
        self._new: deque[Ticket] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._waiting: deque[tuple[Ticket, Request]] = deque()
        self._aside_waiting: deque[tuple[Ticket, Request]] = deque()
        self._seats: list[Seat] = []
        self._aside: _Aside | None = None
        self._pending: deque[_Pending] = deque()
        self._news: dict[Request, Ticket] = {}  # of this turn
        self._chosen: Chosen | None = None
        self._tried = False
        self._known_written = -1
        self._steps: Steps | None = None
        self._state = ExitStack()  # what `Forward.running` did to the model
        self._on = False

    # from any thread

    def add(self, tickets: Sequence[Ticket], most_waiting: int | None = None) -> None:
        with self._lock:
            if self._closed:
                raise Closed("the engine has been closed")
            if most_waiting is not None and self.load().waiting >= most_waiting:
                raise QueueFull(f"{most_waiting} answers are waiting, which is as many as may: ask again later")
            self._new.extend(tickets)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="swift pt engine", daemon=True)
                self._thread.start()

    def load(self) -> Load:
        aside = len(self._aside.tickets) if self._aside is not None else 0
        waiting = sum(len(ticket.requests) for ticket in tuple(self._new)) + len(self._waiting) + len(self._aside_waiting)
        return Load(len(self._seats) + aside, waiting)

    def close(self) -> None:
        """What runs or waits fails with Closed; the cache and captured steps are let go."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._steps = None

    # the thread

    def _run(self) -> None:
        device = input_device(self.model)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with torch.inference_mode():
            while True:
                try:
                    if not self._turn(device):
                        return
                except Exception as error:  # memory, a broken kernel: those who are in it hear of it, the thread goes on
                    logs.warning(f"the running batch failed: {error!r}")
                    self._fail_running(error)

    @property
    def model(self) -> PreTrainedModel:
        model = self.shelf.model
        return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]

    def _turn(self, device: torch.device) -> bool:
        """False where nothing is left, and the thread has ended."""
        self._collect()
        self._drop_cancelled()
        if not self._busy():
            self._pending.clear()
            self._leave_state()
            self._deliver()
            with self._lock:
                if self._new and not self._closed:
                    return True
                self._thread = None
                return False
        if self._waiting or self._seats:
            self._enter_state(device)
            self._admit()
            moved = self._read_prompts(device) | self._next_tokens()
            while self._pending and (len(self._pending) > self._lag(device) or not moved):
                self._settle()
        if self._aside_waiting or self._aside:
            self._turn_aside(device)
        if not self._busy():  # whoever hears that the last answer has ended finds the model as it was
            self._leave_state()
        self._deliver()
        return True

    def _busy(self) -> bool:
        return bool(self._waiting or self._seats or self._aside_waiting or self._aside)

    def _lag(self, device: torch.device) -> int:
        """Turns that the device may be ahead of the host."""
        return 2 if device.type == "cuda" else 0

    def _collect(self) -> None:
        with self._lock:
            if self._closed:
                gone = dict.fromkeys(self._new)
                gone |= {ticket: None for ticket, _ in (*self._waiting, *self._aside_waiting)} | {seat.ticket: None for seat in self._seats}
                gone |= dict.fromkeys(self._aside.tickets.values()) if self._aside is not None else {}
                self._new.clear()
            else:
                gone, fresh = {}, list(self._new)
                self._new.clear()
        for ticket in gone:
            self._fail(ticket, Closed("the engine has been closed"))
        if gone:
            return
        for ticket in fresh:
            try:
                lane = self._waiting if self._takes(ticket) else self._aside_waiting
            except Exception as error:  # an adapter that cannot be loaded
                self._fail(ticket, error)
                continue
            lane.extend((ticket, request) for request in ticket.requests)

    def _takes(self, ticket: Ticket) -> bool:
        """Whether the running batch can answer it."""
        if ticket.cancelled:
            return True
        if not self._tried:
            always = self.shelf.fits_bank(None)
            self._chosen = choose_forward(self.model, self.shelf.bank() if always else None) if always else None
            self._tried = True
            if not always:
                logs.info("the adapter is no plain LoRA: answers are computed in padded batches, which is slower")
        if ticket.adapter is not None:
            self._settle_all()
            if ticket.adapter not in self.shelf.known:
                self._leave_state()
                self.shelf.load(ticket.adapter)
                self._adapters_changed()
        return self._chosen is not None and ticket.requests[0].asked.num_beams == 1 and self.shelf.fits_bank(ticket.adapter)

    def _adapters_changed(self) -> None:
        if self._chosen is not None and self.shelf.fits_bank(None):
            self._chosen.forward.use(self.shelf.bank())
            if self._steps is not None:
                self._make_steps(self._steps.cache, self._steps.latest)

    def _make_steps(self, cache: KvCache, latest: Tensor) -> None:
        assert self._chosen is not None
        bank = self.shelf.bank()
        columns = None
        self._kinds: dict[AdapterRequest | None, int] = {None: 0}
        if bank is not None and bank.names:
            fitting = [one for one in self.shelf.known if self.shelf.fits_bank(one)]
            self._kinds |= {one: number for number, one in enumerate(fitting, 1)}
            rows = [bank.row(self.shelf.names(one)) for one in self._kinds]
            columns = torch.tensor(rows, dtype=self.model.dtype, device=latest.device)
        capture = self.capture and latest.is_cuda
        self._steps = Steps(self._chosen.forward, cache, latest, columns, always=bool(self.shelf.always), capture=capture)

    # the state of model and cache

    def _enter_state(self, device: torch.device) -> None:
        if self._on:
            return
        assert self._chosen is not None
        places = self.places or (1024 if self.places == 0 else GPU_PLACES if device.type == "cuda" else CPU_PLACES)
        if self._steps is None or len(self._steps.latest) != places + 1:
            self._steps = None  # its memory first
            rows = rows_that_fit(self._chosen.bytes_per_row, places * self.max_length, device)
            self._room, self._chooser = Room(rows, KEPT * places), Chooser(places, device)
            self._free = list(range(places))[::-1]
            self._make_steps(KvCache(rows), torch.zeros(places + 1, dtype=torch.long, device=device))
        written = self._written()
        if written != self._known_written:  # somebody trained meanwhile
            self._room.forget()
            self._adapters_changed()
            self._known_written = written
        self._state.enter_context(self._chosen.forward.running())
        self._on = True

    def _written(self) -> int:
        """A number that changes when weights are written: torch counts that for each tensor."""
        return sum(weight._version for weight in self.shelf.model.parameters())

    def _leave_state(self) -> None:
        self._state.close()
        self._on = False

    # in

    def _admit(self) -> None:
        assert self._steps is not None
        skipped: list[tuple[Ticket, Request]] = []
        while self._waiting and self._free:
            ticket, request = self._waiting.popleft()
            text = np.array(request.prompt + request.token_ids, dtype=np.int64)
            if self._sibling_reads(text, ticket.adapter):
                skipped.append((ticket, request))
                continue
            rows = self._steps.cache.rows
            if len(text) + 1 > rows:
                self._fail(
                    ticket, SwiftError(f"the prompt has {len(text)} tokens, and there is memory for {rows} tokens of keys and values")
                )
                continue
            ahead = min(request.limit - len(request.token_ids), AHEAD)
            size = min(len(text) + ahead, rows)
            start = self._room.take(size)
            if start is None:
                skipped.append((ticket, request))
                break
            seat = Seat(
                ticket, request, self._free.pop(), Stretch(start, size, text[:0], ticket.adapter), text, self._kinds[ticket.adapter]
            )
            donor, common = self._room.prefix(text, ticket.adapter, (one.stretch for one in self._seats))
            if donor is not None:
                self._steps.cache.copy(donor.start, start, common)
                seat.read, seat.stretch.tokens = common, text[:common]
            seat.asked = len(request.token_ids)
            self._seats.append(seat)
        self._waiting.extendleft(reversed(skipped))

    def _sibling_reads(self, text: np.ndarray, adapter: AdapterRequest | None) -> bool:
        """Whether the same beginning is just being read for another, so that waiting for it saves more than it costs."""
        for seat in self._seats:
            if seat.read < len(seat.text) and seat.ticket.adapter == adapter:
                common = common_prefix(text[:-1], seat.text)
                if common - seat.read >= SIBLING:
                    return True
        return False

    def _read_prompts(self, device: torch.device) -> bool:
        assert self._steps is not None
        reading = [seat for seat in self._seats if seat.read < len(seat.text)]
        if not reading:
            return False
        alone, beside = PIECES["cuda" if device.type == "cuda" else "cpu"]
        budget = alone if len(reading) == len(self._seats) else beside
        seats, pieces = [], []
        for seat in reading:
            if budget <= 0:
                break
            tokens = seat.text[seat.read : seat.read + budget].tolist()
            seats.append(seat)
            pieces.append(Piece(tokens, seat.read, seat.stretch.start, seat.kind))
            budget -= len(tokens)
        logits = self._steps.read(pieces)
        for seat, piece in zip(seats, pieces, strict=True):
            seat.read += len(piece.tokens)
            seat.stretch.tokens = seat.text[: seat.read]
        done = [number for number, seat in enumerate(seats) if seat.read == len(seat.text)]
        if done:
            for number in done:
                self._chooser.join(seats[number].place, seats[number].request, logits.shape[-1])
            its = logits if len(done) == len(seats) else logits[torch.tensor(done, device=logits.device)]
            self._choose(its, [seats[number] for number in done])
        return True

    def _next_tokens(self) -> bool:
        assert self._steps is not None
        ready = [seat for seat in self._seats if seat.read >= len(seat.text) and seat.asked < seat.request.limit]
        seats = [seat for seat in ready if not seat.over and self._has_room(seat)]
        seats = [seat for seat in seats if not seat.over]  # making room may have pushed one out
        if not seats:
            return False
        rows = [Row(seat.place, seat.read, seat.stretch.start, seat.kind) for seat in seats]
        logits = self._steps.next(rows)
        for seat in seats:
            seat.read += 1
        self._choose(logits, seats)
        return True

    def _choose(self, logits: Tensor, seats: list[Seat]) -> None:
        assert self._steps is not None
        requests = [seat.request for seat in seats]
        tokens = self._chooser.tokens(logits, requests, [seat.place for seat in seats])
        at = torch.tensor([seat.place for seat in seats])
        self._steps.latest.index_copy_(0, at.to(tokens.device, non_blocking=True), tokens)
        for seat in seats:
            seat.asked += 1
        self._pending.append(_Pending.of(seats, tokens, Told.of(logits, tokens, requests)))

    def _has_room(self, seat: Seat) -> bool:
        """One more row, if it must be by moving to a larger stretch, by pushing out who came last, or by ending the answer."""
        stretch = seat.stretch
        if seat.read < stretch.size:
            return True
        assert self._steps is not None
        more = min(max(AHEAD, stretch.size), seat.request.limit - seat.asked + 1)
        while True:
            if self._room.extend(stretch, more):
                return True
            start = self._room.take(stretch.size + more)
            if start is not None:
                self._steps.cache.copy(stretch.start, start, seat.read)
                old = Stretch(stretch.start, stretch.size, stretch.tokens, None)
                stretch.start, stretch.size = start, stretch.size + more
                self._room.give(old)
                return True
            if more > 1:
                more = 1
                continue
            self._settle_all()
            if seat.over:
                return False
            others = [one for one in self._seats if one is not seat]
            if not others:
                logs.warn_once("an answer was ended: there is no memory for more of its keys and values")
                seat.request.finish_reason = "length"
                self._end(seat)
                return False
            self._push_out(others[-1])

    def _push_out(self, seat: Seat) -> None:
        """Back to those that wait, first among them; what it has is read again then, from what is left of its rows."""
        self._leave_place(seat)
        self._waiting.appendleft((seat.ticket, seat.request))

    # out

    def _settle_all(self) -> None:
        while self._pending:
            self._settle()

    def _settle(self) -> None:
        pending = self._pending.popleft()
        tokens = pending.read()
        requests = [seat.request for seat in pending.seats]
        if pending.told is not None:
            pending.told.write(requests, tokens, self.word)
        for seat, token in zip(pending.seats, tokens, strict=True):
            if seat.over:
                continue
            try:
                seat.request.take(token)
            except Exception as error:  # a tokenizer that cannot read what the model wrote
                self._fail(seat.ticket, error)
                continue
            if seat.request.finish_reason is not None:
                self._end(seat)
            elif seat.ticket.each:
                self._tell(seat.ticket, seat.request)

    def _end(self, seat: Seat) -> None:
        self._leave_place(seat)
        self._tell(seat.ticket, seat.request)

    def _leave_place(self, seat: Seat) -> None:
        seat.over = True
        self._seats.remove(seat)
        self._free.append(seat.place)
        known = np.array(seat.request.prompt + seat.request.token_ids[:-1], dtype=np.int64)
        seat.stretch.tokens = known[: seat.read]
        self._room.leave(seat.stretch)

    def _tell(self, ticket: Ticket, request: Request) -> None:
        if request.finish_reason is not None:
            ticket.left -= 1
        self._news[request] = ticket

    def _deliver(self) -> None:
        """At a turn's end, each request once: of several tokens that came together its listener hears together."""
        news, self._news = self._news, {}
        for request, ticket in news.items():
            if ticket.cancelled:
                continue
            try:
                ticket.moved(request)
            except Exception as error:  # whoever listens must not stop the others
                logs.warning(f"a listener failed: {error!r}")
                ticket.cancelled = True

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        """The ticket and all that is left of it."""
        for seat in [seat for seat in self._seats if seat.ticket is ticket]:
            self._leave_place(seat)
        for lane in (self._waiting, self._aside_waiting):
            kept = [(one, request) for one, request in lane if one is not ticket]
            lane.clear()
            lane.extend(kept)
        if self._aside is not None and ticket in self._aside.tickets.values():
            self._aside.tickets = {request: one for request, one in self._aside.tickets.items() if one is not ticket}
        if not ticket.cancelled:
            ticket.cancelled = True
            try:
                ticket.failed(error)
            except Exception as problem:
                logs.warning(f"a listener failed: {problem!r}")

    def _fail_running(self, error: Exception) -> None:
        self._pending.clear()
        for ticket in {seat.ticket: None for seat in self._seats} or {ticket: None for ticket, _ in self._waiting}:
            self._fail(ticket, error)

    def _drop_cancelled(self) -> None:
        for seat in [seat for seat in self._seats if seat.ticket.cancelled]:
            self._leave_place(seat)
        for lane in (self._waiting, self._aside_waiting):
            if any(ticket.cancelled for ticket, _ in lane):
                kept = [(ticket, request) for ticket, request in lane if not ticket.cancelled]
                lane.clear()
                lane.extend(kept)
        if self._aside is not None:
            for request, ticket in self._aside.tickets.items():
                if ticket.cancelled and request.finish_reason is None:
                    request.finish_reason = "stop"  # its row leaves the padded batch
            if all(ticket.cancelled for ticket in self._aside.tickets.values()):
                self._aside = None

    # aside

    def _turn_aside(self, device: torch.device) -> None:
        """One step of a padded batch, or one sample's beams."""
        self._settle_all()
        self._leave_state()
        if self._aside is None:
            self._aside = self._next_aside(device)
        aside = self._aside
        try:
            with self.shelf.using(aside.adapter):
                stepped = next(aside.steps, None)
        except Exception as error:
            self._aside = None
            for ticket in dict.fromkeys(aside.tickets.values()):
                self._fail(ticket, error)
            return
        if stepped is None:
            self._aside = None
            return
        for request in stepped:
            ticket = aside.tickets.get(request)
            if ticket is not None and (ticket.each or request.finish_reason is not None):
                self._tell(ticket, request)

    def _next_aside(self, device: torch.device) -> _Aside:
        first, request = self._aside_waiting[0]
        beams = request.asked.num_beams > 1
        most = len(first.requests) if beams else self._rows_aside(device)
        group: list[tuple[Ticket, Request]] = []
        others: list[tuple[Ticket, Request]] = []
        for ticket, one in self._aside_waiting:
            alike = ticket is first if beams else ticket.adapter == first.adapter and one.asked.num_beams == 1
            (group if alike and len(group) < most else others).append((ticket, one))
        self._aside_waiting = deque(others)
        requests = [one for _, one in group]
        steps = self._beams(requests) if beams else decode(self.model, requests, self.word)
        return _Aside(first.adapter, {one: ticket for ticket, one in group}, steps)

    def _beams(self, requests: list[Request]) -> Iterator[list[Request]]:
        beam_search(self.model, self.tokenizer, requests)
        yield requests

    def _rows_aside(self, device: torch.device) -> int:
        if self.places is not None:
            return self.places or len(self._aside_waiting)
        if device.type != "cuda":
            return CPU_PLACES
        length = max(len(request.prompt) + min(request.limit, 8192) for _, request in self._aside_waiting)
        free = int(torch.cuda.mem_get_info(device)[0] * 0.6)
        return max(1, min(GPU_PLACES, free // (length * _cache_bytes(self.model))))


def _cache_bytes(model: PreTrainedModel) -> int:
    """Keys and values of one token in all layers, as the configuration has them."""
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
