"""Parts of a job answered by several processes, on one machine or many, by Ray Data."""

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, Generator, List, NamedTuple, Optional, Sequence

import numpy as np

from sledgehammer_allennlp.bulk.columns import Columns
from sledgehammer_allennlp.bulk.inputs import InputFile
from sledgehammer_allennlp.bulk.output_folder import OutputFolder
from sledgehammer_allennlp.bulk.part_worker import PartWorker, PredictionSettings
from sledgehammer_allennlp.bulk.parts import Part, PartRange, PartResult

_MAX_BLOCKS = 10_000


class RaySettings(NamedTuple):
    """
    # Parameters

    address : `str`
        `"local"`, `"auto"` for the cluster of this machine, or a cluster's address.
    num_workers : `int`
    cpus_per_worker : `int`
    """

    address: str
    num_workers: int
    cpus_per_worker: int


def run_parts(
    ray_settings: RaySettings,
    archive: str,
    inputs: Sequence[InputFile],
    columns: Columns,
    settings: PredictionSettings,
    folder: OutputFolder,
    device: Optional[str],
    parts: Sequence[Part],
) -> Generator[PartResult, None, None]:
    """
    Answers parts, in any order, by a fixed number of actors. Each loads the archive once, which
    they get from here; the inputs, and the folder of the job, must be theirs as well. The
    parts of an actor that dies are done again.

    # Raises

    ValueError
        If a row is bad and bad rows are not skipped, Ray is not installed, there is no such
        cluster, or the archive is a folder.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError as error:
        raise ValueError(
            f"workers need Ray: pip install 'sledgehammer_allennlp[ray]'. {error}"
        ) from error
    if not os.path.isfile(archive):
        raise ValueError(f"'{archive}' is a folder: wanted a model.tar.gz, which workers are sent")
    _connect(ray_settings)
    try:
        context = DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        context.print_on_execution_start = False
        has_gpus = ray.cluster_resources().get("GPU", 0) >= 1
        device = device or ("cuda" if has_gpus else "cpu")
        items = [json.dumps(part) for part in parts]
        # Held as long as a worker may be started again.
        archive_bytes = ray.put(Path(archive).read_bytes())
        answered = ray.data.from_items(
            [{"part": item} for item in items],
            override_num_blocks=min(len(parts), _MAX_BLOCKS),
        ).map_batches(
            _Worker,
            batch_size=None,
            compute=ActorPoolStrategy(size=ray_settings.num_workers),
            num_cpus=ray_settings.cpus_per_worker,
            num_gpus=1 if device.startswith("cuda") else 0,
            fn_constructor_kwargs={
                "archive": archive_bytes,
                "num_threads": ray_settings.cpus_per_worker,
                "arguments": (inputs, columns, settings, folder, device),
            },
        )
        for row in answered.iter_rows():
            result = json.loads(row["result"])
            if "error" in result:
                raise ValueError(result["error"])
            yield PartResult(**result)
    finally:
        ray.shutdown()


def _connect(ray_settings: RaySettings) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: Dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if ray_settings.address == "local":
        # One more than the workers', for Ray Data itself.
        num_cpus = ray_settings.num_workers * ray_settings.cpus_per_worker + 1
        options.update(num_cpus=num_cpus, include_dashboard=False)
    try:
        ray.init(address=ray_settings.address, **options)
    except ConnectionError as error:
        raise ValueError(
            f"there is no Ray cluster at '{ray_settings.address}': wanted the address of one, "
            f"'auto' where one was started, or 'local'. {error}"
        ) from error


class _Worker:
    """
    Answers parts in an actor.

    # Parameters

    archive : `ray.ObjectRef`
        Of the bytes of a model.tar.gz.
    num_threads : `int`
    arguments : `tuple`
        The other arguments of `PartWorker`.
    """

    def __init__(self, archive: Any, num_threads: int, arguments: Any) -> None:
        import ray
        import torch

        torch.set_num_threads(num_threads)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tar.gz"
            path.write_bytes(ray.get(archive))
            self._worker = PartWorker(str(path), *arguments)

    def __call__(self, batch: Dict[str, np.ndarray]) -> Dict[str, List[str]]:
        results = []
        for item in batch["part"]:
            input_index, part_index, range_ = json.loads(item)
            part = Part(input_index, part_index, PartRange(*range_))
            try:
                (result,) = self._worker.run([part])
                results.append(json.dumps(result._asdict()))
            except (ValueError, OSError) as error:
                # As an error it would be tried again.
                results.append(json.dumps({"error": str(error)}))
                break
        return {"result": results}
