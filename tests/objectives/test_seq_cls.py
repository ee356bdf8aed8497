"""Classification and regression: what transformers computes on padded rows is what we compute on rows laid end to end."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    Cohere2Config,
    Cohere2ForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from swift.args.base import HubArgs, ModelArgs, TemplateArgs
from swift.args.parse import parse
from swift.data.encoded import encode_rows
from swift.data.labels import find_problem, label_text, read_target
from swift.data.packing import PackedRows
from swift.data.sample import Message, Origin, Sample
from swift.data.tally import Tally
from swift.models.classifier import Scorer, fit_to, lay_out, untrained
from swift.models.load import load_model, load_processor
from swift.models.match import find_model
from swift.objectives.policy import Policy
from swift.objectives.seq_cls import SequenceClassification
from swift.template.build import build_template
from swift.template.encoded import Encoded, RowSkipped
from swift.train.account import Account
from swift.train.meter import Meter
from swift.tuners.adapters import add_lora, load_adapter
from tests import tiny
from tests.train import runs

PAD = 0
SHAPE = dict(vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
DECODERS = {
    "llama": (LlamaConfig, dict(num_key_value_heads=2)),
    "qwen2": (Qwen2Config, dict(num_key_value_heads=2)),
    "gemma2": (Gemma2Config, dict(num_key_value_heads=2, head_dim=8, sliding_window=6)),
}
KINDS = {
    "single_label_classification": 3,
    "multi_label_classification": 3,
    "regression": 1,
}


def items(kind: str, *lengths: int, seed: int = 0, labels: int | None = None) -> list[list[dict]]:
    """Rows of random tokens, none of them the padding token, with targets of a kind."""
    random = np.random.default_rng(seed)
    made = []
    for length in lengths:
        target = {
            "single_label_classification": lambda: [random.integers(3)],
            "multi_label_classification": lambda: random.integers(0, 2, 3),
            "regression": lambda: random.normal(size=labels or 1),
        }[kind]()
        ids = random.integers(1, 300, length)
        made.append(
            [{"input_ids": ids, "labels": np.full(length, -100), "weights": np.zeros(length, np.float32), "target": np.float32(target)}]
        )
    return made


def padded(rows: list[list[dict]], *, left: bool = False) -> dict[str, torch.Tensor]:
    examples = [example for row in rows for example in row]
    longest = max(len(example["input_ids"]) for example in examples)
    ids, mask = torch.full((len(examples), longest), PAD), torch.zeros(len(examples), longest, dtype=torch.long)
    for number, example in enumerate(examples):
        size = len(example["input_ids"])
        place = slice(longest - size, None) if left else slice(size)
        ids[number, place], mask[number, place] = torch.from_numpy(example["input_ids"]), 1
    return {"input_ids": ids, "attention_mask": mask}


def theirs_and_ours(model, kind: str, rows: list[list[dict]]):
    """(loss, scores, gradients) of transformers' padded forward, and of ours."""
    objective = SequenceClassification(model.config.num_labels, kind)  # type: ignore[arg-type]
    batch = objective.collate(rows)
    targets = batch["targets"][:, 0].long() if kind == "single_label_classification" else batch["targets"]
    model.config.problem_type = kind
    out = model(**padded(rows), labels=targets)
    out.loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    lay_out(model)
    scorer = Scorer(model)
    loss = objective.loss(Policy(model), batch, metrics=True).sums["rows"] / objective.counts(batch)["rows"]
    loss.backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return (out.loss, out.logits, grads), (loss, scorer(batch), ours), scorer


def assert_the_same(theirs, ours) -> None:
    for a, b in zip(theirs[:2], ours[:2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert theirs[2].keys() == ours[2].keys()
    for name in theirs[2]:
        torch.testing.assert_close(theirs[2][name], ours[2][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("family", "kind"), itertools.product(DECODERS, KINDS))
def test_loss_scores_and_gradients_are_those_of_transformers_on_padded_rows(family: str, kind: str) -> None:
    config, own = DECODERS[family]
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config(**SHAPE, **own, num_labels=KINDS[kind], pad_token_id=PAD))
    theirs, ours, scorer = theirs_and_ours(model, kind, items(kind, 5, 9, 1, 17))
    assert scorer.laid_out, "nothing is to be padded for a decoder"
    assert_the_same(theirs, ours)


def test_a_regression_of_several_numbers_is_transformers_too() -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(LlamaConfig(**SHAPE, num_labels=2, pad_token_id=PAD))
    theirs, ours, _ = theirs_and_ours(model, "regression", items("regression", 4, 7, labels=2))
    assert_the_same(theirs, ours)


@pytest.mark.parametrize("model", ["bert", "modernbert", "gpt2"])
def test_models_that_pool_otherwise_get_padded_rows(model: str) -> None:
    torch.manual_seed(0)
    common = dict(num_labels=3, pad_token_id=PAD)
    made = {
        "bert": lambda: BertForSequenceClassification(BertConfig(**SHAPE, **common, max_position_embeddings=64)),
        "modernbert": lambda: ModernBertForSequenceClassification(
            ModernBertConfig(**SHAPE, **common, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2, attn_implementation="sdpa")
        ),
        "gpt2": lambda: GPT2ForSequenceClassification(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, **common)),
    }[model]()
    theirs, ours, _ = theirs_and_ours(made.eval(), "single_label_classification", items("single_label_classification", 5, 9, 2))
    assert_the_same(theirs, ours)


def test_the_scored_token_is_the_last_that_is_no_padding_as_in_transformers() -> None:
    """A row may end with the padding token itself, where it is the end-of-text token too."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(
        Qwen2Config(**SHAPE, num_key_value_heads=2, num_labels=3, pad_token_id=PAD)
    ).eval()
    rows = items("single_label_classification", 6, 8, 3)
    rows[0][0]["input_ids"][-2:] = PAD
    rows[2][0]["input_ids"][:] = PAD  # transformers takes the first token then
    expected = [model(input_ids=torch.from_numpy(row[0]["input_ids"])[None]).logits for row in rows]
    lay_out(model)
    got = Scorer(model)(SequenceClassification(3, "single_label_classification").collate(rows))
    torch.testing.assert_close(got, torch.cat(expected), rtol=1e-5, atol=1e-6)


def test_a_model_that_transformers_has_no_classifier_of_gets_a_score_layer_and_reloads(tmp_path) -> None:
    torch.manual_seed(0)
    config = Cohere2Config(**SHAPE, num_key_value_heads=2, head_dim=8, max_position_embeddings=128, pad_token_id=PAD)
    base = Cohere2ForCausalLM(config).eval()
    base.save_pretrained(tmp_path / "base")
    args = ModelArgs(str(tmp_path / "base"), torch_dtype="float32", num_labels=4)
    model = load_model(find_model(args, HubArgs()), args, training=True).eval()
    score = model.score  # type: ignore[union-attr]
    assert type(model).__name__ == "Cohere2ForSequenceClassification" and score.bias is None and score.weight.shape == (4, 32)
    assert 0.5 * config.initializer_range < score.weight.std() < 2 * config.initializer_range
    rows = items("single_label_classification", 5, 9)
    scores = Scorer(model)(SequenceClassification(4, "single_label_classification").collate(rows))
    for row, got in zip(rows, scores, strict=True):
        hidden = base.model(input_ids=torch.from_numpy(row[0]["input_ids"])[None]).last_hidden_state
        torch.testing.assert_close(got, score(hidden[0, -1]), rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path / "saved")
    again = ModelArgs(str(tmp_path / "saved"), torch_dtype="float32")
    reloaded = load_model(find_model(again, HubArgs()), again, training=False).eval()
    ids = torch.from_numpy(rows[1][0]["input_ids"])[None]
    torch.testing.assert_close(reloaded(input_ids=ids).logits, model(input_ids=ids).logits)


# Labels


@pytest.mark.parametrize(
    ("label", "kind", "labels", "expected"),
    [
        (2, "single_label_classification", 3, [2.0]),
        (True, "single_label_classification", 2, [1.0]),
        (1.0, "single_label_classification", 3, [1.0]),
        ([0, 1, 1], "multi_label_classification", 3, [0.0, 1.0, 1.0]),
        ([True, False], "multi_label_classification", 2, [1.0, 0.0]),
        ([0, 2], "multi_label_classification", 3, [1.0, 0.0, 1.0]),
        ([2, 0, 1], "multi_label_classification", 3, [1.0, 1.0, 1.0]),
        ([], "multi_label_classification", 3, [0.0, 0.0, 0.0]),
        (0.25, "regression", 1, [0.25]),
        (3, "regression", 1, [3.0]),
        ([0.5, -1], "regression", 2, [0.5, -1.0]),
    ],
)
def test_a_label_becomes_what_is_learned(label, kind, labels, expected) -> None:
    assert read_target(label, labels, kind) == expected


@pytest.mark.parametrize(
    ("label", "kind", "labels", "reason"),
    [
        (None, "single_label_classification", 3, "no label"),
        (3, "single_label_classification", 3, "label out of range"),
        (-1, "single_label_classification", 3, "label out of range"),
        (0.5, "single_label_classification", 3, "label of the wrong kind"),
        ([1], "single_label_classification", 3, "label of the wrong kind"),
        (1, "multi_label_classification", 3, "label of the wrong kind"),
        ([0, 3], "multi_label_classification", 3, "label out of range"),
        ([0.5, 1], "multi_label_classification", 3, "label of the wrong kind"),
        (float("nan"), "regression", 1, "label out of range"),
        ([1, 2], "regression", 1, "label of the wrong kind"),
    ],
)
def test_a_missing_or_wrong_label_is_said(label, kind, labels, reason) -> None:
    with pytest.raises(RowSkipped) as skipped:
        read_target(label, labels, kind)
    assert skipped.value.reason == reason


def test_the_rows_say_what_kind_of_problem_they_are() -> None:
    def samples(*labels):
        return [Sample([Message("user", "x")], label=label) for label in labels]

    assert find_problem(samples(0, 1, [2]), 3) == "single_label_classification"
    assert find_problem(samples([0, 1], None, [2], 1), 3) == "multi_label_classification"
    assert find_problem(samples(0, 1), 1) == "regression"
    assert find_problem([], 3) == "single_label_classification"


def test_a_target_reads_as_an_answer_is_written() -> None:
    assert label_text([2.0], "single_label_classification") == "2"
    assert label_text([1.0, 0.0, 1.0], "multi_label_classification") == "[0, 2]"
    assert label_text([0.5], "regression") == "0.5"


# Rows and steps


class Letters:
    """A template that writes a letter as a token."""

    def encode_text(self, sample: Sample) -> list[int]:
        return [ord(letter) for letter in sample.messages[0].content]


def sample(text: str, label, line: int = 1) -> Sample:
    return Sample([Message("user", text)], label=label, origin=Origin("rows.jsonl", line))


def test_rows_keep_their_targets_through_encoding_packing_and_processes() -> None:
    objective = SequenceClassification(3, "multi_label_classification")
    samples = [sample("ab" * (1 + n % 5), [n % 3], n) for n in range(700)]
    samples[5] = sample("x", [7], 5)
    samples[6] = sample("", [1], 6)

    def encode(one: Sample) -> Encoded:
        return objective.encode(one, Letters())  # type: ignore[arg-type]

    encoded = []
    for num_proc in (1, 2):
        tally = Tally()
        rows = encode_rows(samples, encode, num_proc=num_proc, strict=False, tally=tally)
        (stage,) = tally.stages
        assert len(rows) == 698 and set(stage.skips) == {"label out of range", "empty text"}
        assert "rows.jsonl row 5" in "\n".join(stage.lines())
        encoded.append([rows[n][0] for n in range(len(rows))])
    for one, other in zip(*encoded, strict=True):
        assert one["target"].tolist() == other["target"].tolist() and one["input_ids"].tolist() == other["input_ids"].tolist()
    assert [row["target"].tolist() for row in encoded[0][:3]] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    packs = PackedRows(rows, 64)
    batch = objective.collate([packs[n] for n in range(len(packs))])
    assert batch["targets"].shape == (698, 3) and len(batch["segment_lengths"]) == 698
    assert sorted(map(tuple, batch["targets"].tolist())) == sorted(tuple(row["target"].tolist()) for row in encoded[0])


def test_an_empty_share_of_a_step_adds_nothing_and_still_has_gradients() -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(LlamaConfig(**SHAPE, num_labels=3, pad_token_id=PAD))
    lay_out(model)
    objective = SequenceClassification(3, "single_label_classification")
    batch = objective.collate([[]])
    loss = objective.loss(Policy(model), batch, metrics=True)
    assert objective.counts(batch)["rows"] == 0 and loss.sums["rows"] == 0
    assert {name: (float(value), float(count)) for name, (value, count) in loss.metrics.items()} == {"acc": (0, 0)}, "ranks agree on names"
    loss.sums["rows"].backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_metrics_count_right_rows_and_measure_errors() -> None:
    from swift.objectives.seq_cls import measure

    scores = torch.tensor([[2.0, 1.0], [0.0, 3.0], [-1.0, -2.0]])
    meter = Meter(Account(torch.device("cpu")))
    meter.add(measure(scores, torch.tensor([[0.0], [0.0], [0.0]]), "single_label_classification"))
    assert meter.ratios(lambda x: x) == {"acc": pytest.approx(2 / 3)}
    meter = Meter(Account(torch.device("cpu")))
    meter.add(measure(scores, torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]), "multi_label_classification"))
    assert meter.ratios(lambda x: x) == {"acc": pytest.approx(2 / 3), "label_acc": pytest.approx(5 / 6)}
    meter = Meter(Account(torch.device("cpu")))
    meter.add(measure(torch.tensor([[1.0], [4.0]]), torch.tensor([[0.0], [1.0]]), "regression"))
    assert meter.ratios(lambda x: x) == {"mse": pytest.approx(5.0), "mae": pytest.approx(2.0)}


def test_accumulation_and_packing_change_no_loss(tmp_path) -> None:
    def losses(name: str, rows: list, **changes) -> tuple[list[float], torch.Tensor]:
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(LlamaConfig(**SHAPE, num_labels=3, pad_token_id=PAD))
        lay_out(model)
        made = runs.trainer(
            model,
            rows,
            tmp_path / name,
            objective=SequenceClassification(3, "single_label_classification"),  # type: ignore[arg-type]
            eval_rows=items("single_label_classification", 7, 3, 5, seed=9),
            max_steps=3,
            **changes,
        )
        made.train()
        metrics = made.evaluate()
        return [*runs.logged(made, "loss"), metrics["eval_loss"], metrics["eval_acc"]], model.score.weight.detach()  # type: ignore[union-attr]

    rows = items("single_label_classification", *[3 + n % 9 for n in range(12)])
    whole, weight = losses("whole", rows, per_device_train_batch_size=4)
    split, weight_split = losses("split", rows, per_device_train_batch_size=1, gradient_accumulation_steps=4)
    packed, weight_packed = losses("packed", [list(itertools.chain(*rows[n : n + 4])) for n in (0, 4, 8)], per_device_train_batch_size=1)
    assert split == pytest.approx(whole, rel=1e-4) and packed == pytest.approx(whole, rel=1e-4)
    torch.testing.assert_close(weight, weight_split, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(weight, weight_packed, rtol=1e-3, atol=1e-5)


def test_the_padding_token_is_written_for_others_where_the_model_has_a_place_for_it(tmp_path) -> None:
    folder = tiny.save(tmp_path / "model")
    args = ModelArgs(str(folder), num_labels=2)
    info = find_model(args, HubArgs())
    model, tokenizer = load_model(info, args, training=True), load_processor(info)
    fit_to(model, tokenizer, "single_label_classification")
    assert model.config.pad_token_id == tokenizer.pad_token_id and model.config.problem_type == "single_label_classification"
    model.config.vocab_size, model.config.pad_token_id = 1, None
    tokenizer.pad_token = "<|im_end|>"
    fit_to(model, tokenizer, None)
    assert model.config.pad_token_id is None


# Encoders from a folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder as bert-base has it: a language model without a classifier's layers, no chat template, [CLS] and [SEP] from the tokenizer."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *["the", "cat", "dog", "is", "very", "good", "bad"]]
    raw = Tokenizer(WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = Whitespace()
    raw.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made = PreTrainedTokenizerFast(tokenizer_object=raw, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]")
    folder = tmp_path_factory.mktemp("model") / "tiny-bert"
    made.save_pretrained(folder)
    BertForMaskedLM(BertConfig(**SHAPE | {"vocab_size": len(words)}, max_position_embeddings=16)).save_pretrained(folder)
    return folder


def load_bert(bert, **template):
    args = ModelArgs(str(bert), num_labels=2)
    info = find_model(args, HubArgs())
    tokenizer = load_processor(info)
    return load_model(info, args, training=True), tokenizer, build_template(info, tokenizer, TemplateArgs(**template))


@pytest.mark.parametrize("use_chat_template", [True, False])
def test_bert_reads_what_its_tokenizer_writes_and_a_cut_text_keeps_its_frame(bert, use_chat_template) -> None:
    _, tokenizer, template = load_bert(bert, use_chat_template=use_chat_template)
    for text in ("the cat is good", "bad dog"):
        assert template.encode_text(sample(text, 0)) == tokenizer(text).input_ids
    long = "very " * 20 + "good"
    with pytest.raises(RowSkipped, match="longer than max_length 16: 23 tokens"):
        template.encode_text(sample(long, 0))
    for side, last in (("right", "very"), ("left", "good")):
        _, _, template = load_bert(bert, use_chat_template=use_chat_template, truncation_strategy=side)
        tokens = tokenizer.convert_ids_to_tokens(template.encode_text(sample(long, 0)))
        assert len(tokens) == 16 and tokens[0] == "[CLS]" and tokens[-2:] == [last, "[SEP]"]


def test_lora_trains_and_brings_every_layer_that_the_checkpoint_lacked(bert, tmp_path) -> None:
    model, _, _ = load_bert(bert)
    command = parse("sft", ["--model", str(bert), "--dataset", "swift/nano-classification", "--num_labels", "2"])
    adapted = add_lora(model, command.lora, command.target).eval()  # type: ignore[attr-defined]
    opened = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad and "lora_" not in name}
    assert {name.partition(".modules_to_save")[0].removeprefix("base_model.model.") for name in opened} == {
        "bert.pooler.dense",
        "classifier",
    }
    adapted.save_pretrained(tmp_path)
    torch.manual_seed(1)
    other, _, _ = load_bert(bert)  # its new layers are random anew
    ids = torch.tensor([[2, 5, 6, 3]])
    assert not torch.allclose(other(ids).logits, adapted(ids).logits)
    assert untrained(other, other) == ["bert.pooler.dense", "classifier"]
    again = load_adapter(other, tmp_path).eval()
    assert untrained(other, again) == []
    torch.testing.assert_close(again(ids).logits, adapted(ids).logits)
