"""Weights that are held in 4 or 8 bits: what one flag says about the others, and what does not go with them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from swift.args import convert, saved
from swift.args.base import QuantArgs
from swift.args.paths import adapter_path
from swift.args.spec import specs
from swift.errors import ModelError

if TYPE_CHECKING:
    from swift.args.resolve import Resolved

EXTRA = "quant"  # pip install 'swift-finetune[quant]'


def settle(state: Resolved) -> None:
    """What one flag says about the others, once args.json is read: bits alone mean bnb, and 'None' for one of them means none at all."""
    values, typed = state.values, state.explicit
    if state.made.TRAINS and not values["load_args"]:
        _as_trained(state)
    if any(name in typed and values[name] is None for name in ("quant_method", "quant_bits")):
        for name in ("quant_method", "quant_bits"):
            if name not in typed:
                state.set(name, None, "derived: weights are not to be quantized")
        return
    taken = values["quant_bits"] is not None and "quant_bits" not in typed and "quant_method" not in typed
    if taken and values["quant_method"] is None:
        state.set("quant_bits", None, f"derived: {saved.FILE} names no --quant_method, so that weights were whole")
    elif taken and values.get("merge_lora"):
        bits = values["quant_bits"]
        answers = f", which answer then. --quant_bits {bits} quantizes the merged ones for answering"
        state.notes.append(
            f"the adapter was trained on weights in {bits} bits; it is merged into the model's whole weights"
            f"{'' if state.made.NAME == 'merge-lora' else answers}"
        )
        state.set("quant_method", None, "derived: --merge_lora is true")
        state.set("quant_bits", None, "derived: --merge_lora is true")
    elif taken:
        state.notes.append(
            f"weights are held in {values['quant_bits']} bits, as the adapter was trained; --quant_bits None leaves them whole"
        )
    elif values["quant_bits"] is not None and values["quant_method"] is None:
        state.set("quant_method", "bnb", "derived: --quant_bits is given")
        state.notes.append(f"--quant_bits {values['quant_bits']} without --quant_method means bnb")


def _as_trained(state: Resolved) -> None:
    """An adapter that is trained on (--adapters, --resume_from_checkpoint) was made for weights as they were then held."""
    folder = saved.checkpoint_folder(map(adapter_path, state.values["adapters"]), None)
    if folder is None or "quant_bits" in state.explicit or "quant_method" in state.explicit:
        return
    try:
        stored = saved.read(folder)
    except ModelError:
        return  # what cannot be read says nothing
    if stored.get("quant_bits") is None or stored.get("quant_method") is None:
        return
    for name in QuantArgs.__dataclass_fields__:
        if stored.get(name) is None or name in state.explicit:
            continue
        try:
            state.set(name, convert.from_value(specs(state.made)[name], stored[name]), f"{saved.FILE} of {folder}")
        except convert.NotBuilt as choice:
            state.problems.append(f"{folder / saved.FILE}: {name} {choice} is part of SWIFT but not built yet")
        except ValueError as wrong:
            state.problems.append(f"{folder / saved.FILE}: {name}: {wrong}")


def packages(state: Resolved) -> None:
    """The library must be there before anything slow is loaded."""
    if state.values["quant_method"] == "bnb" and importlib.util.find_spec("bitsandbytes") is None:
        state.absent(f"--quant_method bnb needs bitsandbytes. Install it with: pip install 'swift-finetune[{EXTRA}]'")


def contradictions(state: Resolved) -> Iterator[str]:
    values = state.values
    if state.made.NAME == "merge-lora" and (values["quant_method"] is not None or values["quant_bits"] is not None):
        yield "--quant_bits: swift merge-lora writes whole weights, because what was learned would be lost in rounding; leave it out"
        return
    if values["quant_method"] is None:
        if "quant_method" in state.explicit and values["quant_bits"] is not None:
            yield f"--quant_bits {values['quant_bits']} and --quant_method None exclude each other"
        return
    if values["quant_bits"] is None:
        typed = "quant_bits" in state.explicit
        yield f"--quant_method {values['quant_method']} {'and --quant_bits None exclude each other' if typed else 'needs --quant_bits 4 or 8'}"
        return
    if not state.made.TRAINS:
        return
    if values["train_type"] == "full":
        yield "--train_type full and --quant_bits exclude each other: quantized weights cannot be trained; train an adapter on them (lora)"
        return
    if values["init_weights"].startswith("pissa"):
        yield f"--init_weights {values['init_weights']} and --quant_bits exclude each other: it takes a part out of the weights, which are rounded"
    if len(values["adapters"]) > 1:
        yield (
            "--adapters: several of them cannot be trained on with --quant_bits, because all but the last are merged into the weights, which are "
            "rounded. Merge them first: swift infer --adapters … --merge_lora true"
        )


def without_effect(state: Resolved) -> Iterator[str]:
    """Flags of 4-bit weights where there are none."""
    if state.values["quant_bits"] == 4:
        return
    idle = [name for name in QuantArgs.__dataclass_fields__ if name.startswith("bnb_4bit") and name in state.explicit]
    if idle:
        yield f"no effect without --quant_bits 4: {', '.join(f'--{name}' for name in idle)}"
