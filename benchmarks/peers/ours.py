"""`swift sft` of this repository, with the flags of a setting."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.job import Job, Line, run_command, step_of


def words(job: Job) -> list[str]:
    given = dict(
        model=job.model, template="chatml", dataset=job.rows, split_dataset_ratio=0, enable_cache="true", max_length=job.tokens,
        torch_dtype="bfloat16", max_steps=job.steps, logging_steps=job.every, logging_first_step="true", save_strategy="no",
        warmup_ratio=0, gradient_accumulation_steps=1, report_to="none", output_dir=job.output, add_version="false", check_model="false",
    )  # fmt: skip
    named = {word[2:] for word in job.flags if word.startswith("--")}
    return ["sft", *(word for name, value in given.items() if name not in named for word in (f"--{name}", str(value))), *job.flags]


def read(record: dict[str, Any], at: float) -> Line | None:
    if "loss" not in record:
        return None
    return Line(at, step_of(record), record["loss"], rate=record.get("tokens/s", 0.0))


if __name__ == "__main__":
    told = Job.told()
    run_command("ours", told, "swift", words(told), "logging.jsonl", read)
