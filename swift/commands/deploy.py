"""swift deploy: a server that speaks OpenAI's protocol, over the engine that the model needs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swift import dist, logs
from swift.args import saved
from swift.args.paths import adapter_path, model_suffix
from swift.commands.infer import ready_engine, with_downloaded_adapter
from swift.engines.classify import ClassifierEngine
from swift.engines.engine import ServingEngine
from swift.engines.pt.adapters import AdapterRequest
from swift.engines.pt.engine import PtEngine
from swift.errors import need
from swift.hub import download
from swift.serve.desk import Desk
from swift.serve.ports import bind, is_loopback

if TYPE_CHECKING:
    from swift.args.commands import DeployCommand
    from swift.serve.door import Door


def deploy(args: DeployCommand) -> None:
    """Serve until a signal."""
    for package in ("fastapi", "uvicorn"):
        need(package, why="swift deploy")
    from swift.serve.server import serve

    asked = args.deploy
    with bind(asked.host, asked.port) as listener:  # what is wrong with the address is said before the model is loaded
        args = with_downloaded_adapter(args)  # type: ignore[assignment]
        dist.seed_everything(args.runtime.seed)
        named, always = split_adapters(args)
        engine = ready_engine(args, always)
        queue = engine if isinstance(engine, PtEngine) else Desk(engine)
        door = open_door(args, engine, queue, named)
        host, port = listener.getsockname()[:2]
        if asked.api_key is None and not is_loopback(host):
            logs.warning(f"ANYBODY WHO REACHES PORT {port} OF THIS MACHINE CAN USE THIS SERVER: give --api_key, or --host 127.0.0.1")
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        logs.info(f"the server listens at {'https' if asked.ssl_certfile else 'http'}://{shown}:{port}/v1")
        try:
            serve(door, listener, keyfile=asked.ssl_keyfile, certfile=asked.ssl_certfile)
        finally:
            queue.close()


def split_adapters(args: DeployCommand) -> tuple[list[AdapterRequest], list[str]]:
    """(those with a name, which clients ask for; those without, which are always on)."""
    words = args.adapter.adapters
    named = {word.partition("=")[0]: adapter_path(word) for word in words if adapter_path(word) != word}
    found = [AdapterRequest(name, str(download(path, "model", args.hub))) for name, path in named.items()]
    return found, [word for word in words if adapter_path(word) == word]


def open_door(args: DeployCommand, engine: PtEngine | ClassifierEngine, queue: ServingEngine, named: Sequence[AdapterRequest]) -> Door:
    """All that serves, over a loaded engine; `queue` is what takes its requests one by one."""
    from swift.serve.app import PATHS, Serving, make_app
    from swift.serve.counts import Counts
    from swift.serve.door import Door
    from swift.serve.names import Names
    from swift.serve.records import Records

    asked, path = args.deploy, result_path(args)
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = Counts(asked.log_interval, queue.load_now)
    names = Names(asked.served_model_name or model_suffix(args.model.model or "model"), named, asked.owned_by)
    logs.info(f"answers go to {path}")
    logs.info(f"model_list: {names.all()}")
    serving = Serving(
        engine=queue,
        template=engine.template,
        names=names,
        defaults=args.generation,
        counts=counts,
        records=Records(path, verbose=asked.verbose),
        writes=not isinstance(engine, ClassifierEngine),
        vocabulary=engine.model.config.get_text_config().vocab_size,
        max_length=engine.max_length,
        max_logprobs=asked.max_logprobs,
    )
    return Door(make_app(serving), counts, api_key=asked.api_key, paths=PATHS)


def result_path(args: DeployCommand) -> Path:
    """--result_path, else by time in the checkpoint's folder, or in ./result where there is no checkpoint."""
    if args.infer.result_path is not None:
        return Path(args.infer.result_path).expanduser().absolute()
    checkpoint = saved.checkpoint_folder(map(adapter_path, args.adapter.adapters), args.model.model)
    folder: Any = checkpoint or Path("result") / model_suffix(args.model.model or "model")
    return (folder / "deploy_result" / f"{datetime.now():%Y%m%d-%H%M%S}.jsonl").absolute()
