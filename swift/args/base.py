"""Groups that most commands share: run, hub, model, adapter, data, template, generation."""

# ruff: noqa: RUF009 (arg and group make dataclass fields)
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swift.args.field import arg

YES = ("true", "yes", "1", "t", "y")
NO = ("false", "no", "0", "f", "n")


def _read_dry_run(word: str) -> str | None:
    low = word.lower()
    if low in YES:
        return "true"
    if low in NO:
        return None
    if low == "json":
        return "json"
    raise ValueError("expected true, false or json")


@dataclass(frozen=True)
class RuntimeArgs:
    """How the command itself behaves; read by cli/ and args/."""

    seed: int = arg(42, "Seed of every random generator of the run.", low=0, high=2**32 - 1)
    load_args: bool = arg(
        False,
        "Read args.json of the checkpoint given by --resume_from_checkpoint, --adapters or --model, and take from it the base arguments "
        "that were not given here. Data and generation arguments are left out.",
        shown="true for inference, false for training",
    )
    load_data_args: bool = arg(False, "With --load_args, also take the data arguments (data sets, split, columns) from args.json.")
    ignore_args_error: bool = arg(False, "Turn unknown flags into warnings instead of stopping.")
    dry_run: Literal["true", "json"] | None = arg(
        None,
        "Check everything, print the plan (each argument and where it came from, model, data) and stop: nothing is loaded, "
        "downloaded or written. json prints one JSON object.",
        read=_read_dry_run,
        bare="true",
        shown="false",
    )
    custom_register_path: list[str] = arg([], "Python files that register models, chat formats and data sets; run before anything else.")
    external_plugins: list[str] = arg([], "Python files that register anything else; run after --custom_register_path.")


@dataclass(frozen=True)
class HubArgs:
    """Where ids are looked up; read by hub.py."""

    use_hf: bool = arg(False, "Look ids up on Hugging Face instead of ModelScope.", shown="false, or the environment's USE_HF")
    hub_token: str | None = arg(None, "Token for the hub; never written to a file or a log.", secret=True, empty=True)


@dataclass(frozen=True)
class ModelArgs:
    """Which model, and how its weights are held; read by models/."""

    model: str | None = arg(
        None,
        "Model id or local folder. A name that starts with '.', '/' or '~' is always a folder. "
        "May be left out where --adapters or --resume_from_checkpoint says it.",
        hot=True,
    )
    model_type: str | None = arg(None, "Model type.", registry="models", shown="found from the end of --model, then from config.json")
    model_revision: str | None = arg(None, "Revision (branch, tag or commit) on the hub.")
    torch_dtype: Literal["float16", "bfloat16", "float32"] | None = arg(
        None, "Type of the model's weights.", hot=True, shown="as config.json says; float32 on a CPU without fast bfloat16"
    )
    attn_impl: Literal["flash_attn", "sdpa", "eager"] | None = arg(
        None, "Attention implementation.", shown="sdpa; eager where sdpa is not supported"
    )
    device_map: str | dict | None = arg(
        None,
        "Where the weights go: 'auto', 'cpu', a device, a JSON object from module to device, or a JSON file.",
        shown="by device and distributed setting",
    )
    max_memory: dict | None = arg(
        None,
        'Most memory that weights take on each device, with --device_map auto: a JSON object such as \'{"0": "20GB", "cpu": "60GB"}\'.',
    )
    rope_scaling: Literal["linear", "dynamic", "yarn"] | None = arg(
        None, "Stretches the positions so that rows of --max_length fit a model that was made for shorter ones."
    )
    task_type: Literal["causal_lm", "seq_cls"] | None = arg(
        None,
        "What the model does: write text (causal_lm), or classify and score it (seq_cls).",
        waiting=("embedding",),
        shown="causal_lm; seq_cls with --num_labels",
    )
    num_labels: int | None = arg(None, "Number of classes; 1 with a number as label is regression.", low=1)
    trust_remote_code: bool = arg(False, "Run the Python code that lies in the model's folder. Only for models that you trust.")
    local_repo_path: str | None = arg(None, "Folder of the code repository that some models need beside their weights.")
    model_kwargs: dict | None = arg(None, "More parameters of this kind of model: a JSON object, or a JSON file.")


BITS = ("4", "8")


def _read_bits(word: str) -> int | None:
    if word == "None":
        return None
    if word in BITS:
        return int(word)
    raise ValueError("expected 4 or 8")


@dataclass(frozen=True)
class QuantArgs:
    """How the weights of linear layers are held once they are read; read by models/quantized.py."""

    quant_method: Literal["bnb"] | None = arg(
        None,
        "Library that quantizes the weights of linear layers while the model is read, so that an adapter is trained on small weights (QLoRA).",
        hot=True,
        waiting=("hqq", "eetq"),
        shown="bnb with --quant_bits, otherwise none",
    )
    quant_bits: int | None = arg(None, "Bits of a quantized weight.", hot=True, choices=BITS, read=_read_bits, shown="not quantized")
    bnb_4bit_compute_dtype: Literal["float16", "bfloat16", "float32"] | None = arg(
        None, "Type in which 4-bit weights are multiplied.", shown="that of --torch_dtype"
    )
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = arg(
        "nf4", "The 16 values of a 4-bit weight: those of a normal distribution (nf4), or floating-point numbers (fp4)."
    )
    bnb_4bit_use_double_quant: bool = arg(True, "Quantize the scales of 4-bit weights too: 0.4 bits less for each weight.")
    bnb_4bit_quant_storage: Literal["uint8", "float16", "bfloat16", "float32"] | None = arg(
        None, "Type of the tensor that 4-bit weights are packed into; none of its bits change.", shown="uint8"
    )


@dataclass(frozen=True)
class AdapterArgs:
    """The adapter: given ones, and the kind that is trained; read by tuners/."""

    adapters: list[str] = arg([], "Adapter ids or folders.", hot=True)
    train_type: Literal["lora", "full"] = arg(
        "lora",
        "What is trained: an adapter (lora) or the model's own weights (full).",
        hot=True,
        aliases=("tuner_type",),
        registry="tuners",
        waiting=("longlora", "adalora", "llamapro", "adapter", "vera", "boft", "fourierft", "reft", "bone", "ia3", "dummy"),
    )
    tuner_backend: Literal["peft"] = arg("peft", "Library that makes the adapter.", hot=True, waiting=("unsloth",))


@dataclass(frozen=True)
class DataArgs:
    """Which rows; read by data/."""

    dataset: list[str] = arg(
        [],
        "Data sets, each 'id or path:subset/subset#count'; subset and count may be left out. Files: jsonl, json, csv, parquet, txt; "
        "folders. A count above the number of rows repeats them.",
        hot=True,
    )
    val_dataset: list[str] = arg([], "Validation data sets, written as for --dataset.", hot=True)
    split_dataset_ratio: float = arg(
        0.01, "Share of --dataset that is held out for validation; 0 where --val_dataset or --streaming is given.", hot=True, low=0, high=1
    )
    data_seed: int = arg(42, "Seed for sampling, splitting and shuffling rows.", low=0, high=2**32 - 1)
    dataset_num_proc: int = arg(1, "Processes that prepare rows.", hot=True, low=1)
    streaming: bool = arg(
        False,
        "Read and encode rows while training instead of before, in their order. Without --max_steps they are read once more to count them.",
        hot=True,
    )
    shuffle_buffer_size: int = arg(0, "Rows held to shuffle a stream; 0 leaves a stream in its order.", low=0)
    download_mode: Literal["reuse_dataset_if_exists", "force_redownload"] = arg(
        "reuse_dataset_if_exists", "Whether a data set that was downloaded before is downloaded again."
    )
    columns: dict | None = arg(
        None,
        'Renames columns: a JSON object from your name to ours, for example \'{"text1": "query", "text2": "response"}\', or a JSON file.',
    )
    enable_cache: bool = arg(
        False, "Keep encoded rows on disk and use them again where rows, tokenizer, template and options are the same."
    )
    custom_dataset_info: list[str] = arg([], "JSON files (or one JSON list) that register data sets: id or path, columns, subsets.")
    strict: bool = arg(False, "Stop at the first faulty row instead of skipping and counting it.")
    remove_unused_columns: bool = arg(True, "Drop columns that are not used; false keeps them with the row.")
    model_name: list[str] | None = arg(
        None, "The model's name for {{NAME}} in swift/self-cognition: one for all, or the Chinese and the English one.", hot=True
    )
    model_author: list[str] | None = arg(
        None, "The author's name for {{AUTHOR}} in swift/self-cognition: one for all, or the Chinese and the English one.", hot=True
    )


@dataclass(frozen=True)
class TemplateArgs:
    """How a conversation becomes tokens; read by template/."""

    template: str | None = arg(None, "Chat format.", hot=True, registry="chat_formats", shown="the model type's own")
    system: str | None = arg(
        None, "System prompt: the text, or a .txt file that holds it.", hot=True, shown="the chat format's own", empty=True
    )
    max_length: int | None = arg(None, "Most tokens of one row; in inference, of the prompt.", hot=True, low=1, shown="the model's longest")
    truncation_strategy: Literal["delete", "left", "right"] = arg(
        "delete", "What happens to a row longer than --max_length: it is left out, or cut at the left or right."
    )
    tools_prompt: Literal["react_en", "react_zh", "react_grpo", "glm4", "toolbench", "qwen", "custom"] | None = arg(
        None,
        "How the list of tools is written into the system text.",
        registry="tools_prompts",
        shown="the model family's own; react_en where it has none",
    )
    norm_bbox: Literal["norm1000", "none"] | None = arg(
        None, "How the coordinates of boxes are written: in thousandths of the image (norm1000), or as they are (none).", shown="by model"
    )
    loss_scale: Literal["default", "last_round", "all", "react", "agentflan", "alpha_umi", "qwen"] = arg(
        "default",
        "Which tokens are learned, and how much: every answer (default), the last answer (last_round), all tokens, the weights of an agent "
        "format, or a JSON file with weights of your own.",
        registry="loss_scales",
        shown="default; all for swift pt",
    )
    sequence_parallel_size: int = arg(1, "Processes that share one row.", low=1)
    use_chat_template: bool = arg(
        True, "Write rows in the chat format; false joins the texts as they are.", shown="true; false for swift pt"
    )
    template_backend: Literal["swift", "jinja"] = arg(
        "swift",
        "Who writes conversations: a chat format of SWIFT where it writes the same as the checkpoint's chat template (swift), or always that "
        "chat template itself (jinja).",
    )
    template_check: Literal["off", "warn", "error"] = arg(
        "warn", "What happens where the chat format in use writes something else than the checkpoint's own chat template."
    )
    padding_side: Literal["left", "right"] = arg("right", "Padding side in training; no effect where rows are laid end to end.")


@dataclass(frozen=True)
class GenerationArgs:
    """How an answer is drawn; read by engines/."""

    max_new_tokens: int | None = arg(None, "Most tokens of an answer.", hot=True, low=1, shown="until the model's longest")
    temperature: float | None = arg(
        None, "Sampling temperature; 0 takes the likeliest token.", low=0, shown="as generation_config.json says"
    )
    top_k: int | None = arg(None, "Sample among the k likeliest tokens; -1 or 0 for all.", low=-1, shown="as generation_config.json says")
    top_p: float | None = arg(
        None,
        "Sample among the likeliest tokens that together reach this probability.",
        above=0,
        high=1,
        shown="as generation_config.json says",
    )
    repetition_penalty: float | None = arg(
        None, "Above 1: tokens already seen become less likely.", above=0, shown="as generation_config.json says"
    )
    num_beams: int = arg(1, "Beams of beam search; 1 for none.", low=1)
    stream: bool = arg(False, "Show the answer while it is written.", hot=True)
    stop_words: list[str] = arg([], "Texts that end an answer beside the end token; they stay in the answer.")
    logprobs: bool = arg(False, "Also give the log-probability of each token.")
    top_logprobs: int | None = arg(None, "Also give this many likeliest alternatives of each token.", low=0)
