"""This project's dvc.yaml, params.yaml and conf/ under real DVC, with stages that write their outputs at once.

`python` on the path is STUB. What it writes follows from a stage's command and from all that the stage depends on. What
`check` does to the files of others, it does here, too.
"""

import sys
from pathlib import Path

from tests.conftest import PROJECT
from tests.sandbox import Sandbox

STUB = f"""#!{sys.executable}
import hashlib, json, pathlib, sys, yaml
name = sys.argv[2].removeprefix("pipeline.")
params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
scheme = "".join(word.partition("=")[2] for word in sys.argv[3:])
text = pathlib.Path("dvc.yaml").read_text()
for key, choice in {{"item.scheme": scheme, "deploy": params["deploy"]}}.items():
    text = text.replace("${{" + key + "}}", choice)
stages = yaml.safe_load(text)["stages"]
stage = stages[name]
if name == "check":
    sys.path.insert(0, {str(PROJECT)!r})
    from pipeline.check import remove_evaluations_of_others
    remove_evaluations_of_others(params["quantization"])
log = pathlib.Path(sys.argv[0]).with_name("ran.txt")
print(" ".join([name, params["backbone"], scheme]), file=log.open("a"))
digest = hashlib.sha256(" ".join(sys.argv[1:]).encode())
tracked = [param for param in stage.get("params", []) if isinstance(param, str)]
files = [file for param in stage.get("params", []) if isinstance(param, dict) for file in param]
digest.update(json.dumps([params[key] for key in tracked]).encode())
for dep in map(pathlib.Path, [*files, *stage["deps"]] if name != "check" else []):  # its output is always the same
    for file in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
        digest.update(file.read_bytes() if file.is_file() else b"")
outs = [out if isinstance(out, str) else next(iter(out)) for key in ("outs", "metrics") for out in stage.get(key, [])]
for out in map(pathlib.Path, outs):
    made = {{"accuracy": int(digest.hexdigest()[:3], 16) / 4096, "scheme": scheme, "name": params["backbone"]}}
    of_folder = [out / "rote Möhre/1.parquet", out / "2.parquet"]
    if name == "code":
        of_folder, made = [out / f"{{stage}}.json" for stage in stages], {{}}
    if name == "measure":
        of_folder = [out / f"{{listed}}.json" for listed in params["quantization"]]
    for file in [out] if out.suffix else of_folder:
        file.parent.mkdir(parents=True, exist_ok=True)
        of_keys = file.suffix in (".json", ".yaml")  # JSON is YAML
        file.write_text(json.dumps(made) if of_keys else f"{{file}} {{digest.hexdigest()}}")
"""
SCHEME = "float32"
FILES = ("conf", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml", "requirements.lock", "requirements-dev.lock")
DATA = (
    *("data/videos/cup/1.mp4", "data/videos/rote Möhre/2.mp4", "data/photos/README.md"),
    *("data/calibration/1.png", "data/strangers/1.jpg", "data/labels.csv"),
)


def make(folder: Path) -> Sandbox:
    """Write and commit everything that belongs to Git; no stage has run."""
    sandbox = Sandbox(folder)
    sandbox.copy(*FILES)
    for name in (*DATA, "pipeline/code.py"):
        sandbox.write(name, name)
    sandbox.set(quantization=[SCHEME], deploy=SCHEME)
    python = sandbox.programs / "python"
    python.parent.mkdir(exist_ok=True)
    python.write_text(STUB)
    python.chmod(0o755)
    sandbox.begin()
    return sandbox


def ran(sandbox: Sandbox) -> list[str]:
    """Return stage, backbone and scheme of all that ran since the last call, in sandboxes beside this one, too."""
    log = sandbox.programs / "ran.txt"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines
