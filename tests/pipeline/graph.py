"""What a stage script imports and which parameters it reads, from its syntax tree."""

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "tract_core")


def working_tree() -> list[str]:
    """Files of the working tree that git knows or could, without what runs have left (dvc.lock, metrics)."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file() and not name.startswith(("metrics/", "dvc.lock"))]


def module_file(name: str) -> Path | None:
    """The file of a dotted module name of ours, or None."""
    base = ROOT / name.replace(".", "/")
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return file
    return None


def direct_imports(file: Path) -> set[Path]:
    """Files of ours that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in PACKAGES:
                # Importing a.b.c runs a/__init__.py and a/b/__init__.py as well.
                parts = name.split(".")
                prefixes = [".".join(parts[: i + 1]) for i in range(len(parts))]
                found |= {path for path in map(module_file, prefixes) if path}
    return found


def all_imports(script: Path) -> set[str]:
    """Every file of ours that running a script executes, itself included, relative to the root."""
    seen, waiting = set(), [script]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += direct_imports(file)
    files = seen | {ROOT / "pipeline" / "__init__.py"}
    # Package markers that hold a docstring only determine nothing.
    return {path.relative_to(ROOT).as_posix() for path in files if not is_marker(path)}


def is_marker(file: Path) -> bool:
    """Whether it is the `__init__.py` of a package and holds a docstring only, or what scripts do before they start."""
    if file == ROOT / "pipeline" / "__init__.py":  # no output depends on it
        return True
    return file.name == "__init__.py" and all(isinstance(node, ast.Expr) for node in ast.parse(file.read_text()).body)


def _chains(tree: ast.AST) -> set[str]:
    """Longest dotted reads of a variable called `params`: params.loss.lam -> 'loss.lam'."""
    inner, found = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            parts, value = [node.attr], node.value
            while isinstance(value, ast.Attribute):
                inner.add(id(value))
                parts.append(value.attr)
                value = value.value
            if isinstance(value, ast.Name) and value.id == "params" and id(node) not in inner:
                found.add(".".join(reversed(parts)))
    return found


def _imported_as(tree: ast.Module, name: str) -> Path:
    """The file of the module that a script knows by this name."""
    node = next(n for n in tree.body if isinstance(n, ast.ImportFrom) and name in [alias.name for alias in n.names])
    file = module_file(f"{node.module}.{name}")
    assert file is not None
    return file


def parameters_read(script: Path) -> set[str]:
    """Dotted parameters that a script reads, those of the helpers that it hands them to included."""
    tree = ast.parse(script.read_text())
    found = _chains(tree)
    for node in ast.walk(tree):
        # helper_module.helper(params, ...)
        if isinstance(node, ast.Call) and any(isinstance(a, ast.Name) and a.id == "params" for a in node.args):
            function = node.func
            assert isinstance(function, ast.Attribute), ast.dump(node)
            assert isinstance(function.value, ast.Name)
            helper = ast.parse(_imported_as(tree, function.value.id).read_text())
            body = next(n for n in helper.body if isinstance(n, ast.FunctionDef) and n.name == function.attr)
            found |= _chains(body)
    return {name.replace(".lam", ".lambda") for name in found}


if __name__ == "__main__":
    import sys

    for stage in sys.argv[1:]:
        script = ROOT / "pipeline" / f"{stage}.py"
        print(stage, sorted(all_imports(script)), sorted(parameters_read(script)), sep="\n  ")
