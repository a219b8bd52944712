"""Which stages `dvc repro` would run now, and which it would take from the cache or the remote."""

from collections.abc import Mapping
from typing import Any, Literal

from tract_core.base.errors import UserError

State = Literal["valid", "cached", "remote", "runs"]
"""Nothing to do; restored from the local cache; to be had with `dvc pull`; has to run."""


def stage_states() -> dict[str, State]:
    """Stage (with its matrix suffix) -> state, in the order in which DVC would take them.

    A stage behind one that runs counts as one that runs; it does not if the outputs come out equal. So does one
    that reads a folder in which an output is restored from an earlier run (`score` and all behind it: seconds).

    Raises:
        UserError: DVC is at work here, or the remote cannot be asked.
    """
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            lost = _lost(repo)  # takes DVC's lock itself
            with repo.lock:
                states = _states(repo, lost)
    except LockError:
        raise UserError("`dvc` is at work in this folder; ask again when it has ended") from None
    return {stage.addressing: state for stage, state in states.items() if stage.cmd}


def _states(repo: Any, lost: set[str] | None) -> dict[Any, State]:
    import networkx

    states: dict[Any, State] = {}
    restored: dict[str, Any] = {}
    graph = repo.index.graph  # its edges point to what a stage needs
    for stage in networkx.dfs_postorder_nodes(graph):
        needed = list(networkx.descendants(graph, stage))
        behind = any(states[other] == "runs" for other in needed)
        states[stage] = "runs" if behind else _state(stage, needed, restored, lost)
    return states


def _state(stage: Any, needed: list[Any], restored: dict[str, Any], lost: set[str] | None) -> State:
    """`restored` has the hashes of outputs that come from other runs than the last, and gets those of this stage."""
    touched = any(_inside(out, dep.def_path) for dep in stage.deps for out in restored)
    if touched or stage.changed(allow_missing=True, upstream=needed):
        kept = _in_run_cache(stage, restored)
        restored.update({out.def_path: out.hash_info for out in kept})
        return "cached" if kept else "runs"
    if not any(out.status() for out in stage.outs):
        return "valid"
    if stage.outs_cached():
        return "cached"
    held = lost is not None and not any(_inside(file, out.def_path) for out in stage.outs for file in lost)
    return "remote" if held else "runs"


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _in_run_cache(stage: Any, restored: Mapping[str, Any]) -> list[Any]:
    """The outputs that an earlier run with the same inputs left in the cache, or none."""
    for dep in stage.deps:  # in memory: the hashes that the inputs will have
        if dep.def_path in restored:
            dep.hash_info = restored[dep.def_path]
        elif not dep.exists or any(_inside(out, dep.def_path) for out in restored):
            return []
        else:
            dep.save()
    kept = stage.repo.stage_cache._load(stage)
    earlier = stage.repo.stage_cache._create_stage(kept, wdir=stage.wdir) if kept else None
    return list(earlier.outs) if earlier and earlier.outs_cached() else []


def _lost(repo: Any) -> set[str] | None:
    """Files of outputs that neither the cache nor the default remote holds; None where there is no remote."""
    from dvc.exceptions import DvcException

    if not repo.config["core"].get("remote"):
        return None
    try:
        found = repo.status(cloud=True)
    except (DvcException, OSError) as error:
        raise UserError(f"the remote cannot be asked what it holds: {error}; see `dvc remote list`") from None
    return {path.rstrip("/") for path, state in found.items() if state == "missing"}
