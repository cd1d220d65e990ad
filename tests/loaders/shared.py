"""Shared by the scripts of loaders: environments of packages, calque's commands, token ids, losses, a line a result."""
import csv
import json
import math
import os
import pathlib
import subprocess
import sys

WINDOWS, LENGTH = 4, 256
COLUMNS = ["loader", "artifact", "measure", "difference", "allowed", "loader_value", "calque_value", "fault"]


# ---- Environments


def environment(folder, steps):
    """Python of a virtual environment in `folder`, made once by `pip install` with each of the lists of words `steps`.

    A step may also be a function that gets the environment's Python and returns such a list. RuntimeError with pip's last
    line if a package cannot be had."""
    python, ready = folder / "bin/python", folder / "ready"
    wanted = json.dumps([step if isinstance(step, list) else step.__name__ for step in steps])
    if ready.exists() and ready.read_text() == wanted:
        return python
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--timeout", "15", "--retries", "1"]
    for command in [[sys.executable, "-m", "venv", "--clear", str(folder)],
                    *([*pip, *step] if isinstance(step, list) else step for step in steps)]:
        if callable(command):
            command = [*pip, *command(python)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError((done.stdout.strip().splitlines() or [f"{command[0]} fails"])[-1])
    ready.write_text(wanted)
    return python


def versions_of(names):
    """'name version, ...' of packages of the environment that runs."""
    import importlib.metadata
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def run_inside(usage, name, steps, check):
    """Calls check(program, repository, scratch, results) with the words of the command line in an environment with the packages
    of `steps`, and writes the results to SCRATCH/name.csv.

    Returns the exit code: 1 if a result is not as it should be, 77 if the packages cannot be had."""
    if len(sys.argv) != 4:
        print(usage)
        return 2
    program, repository, scratch = (pathlib.Path(word).resolve() for word in sys.argv[1:4])
    scratch.mkdir(parents=True, exist_ok=True)
    if os.environ.get("CALQUE_LOADER") != name:
        try:
            python = environment(scratch / f"{name}-environment", steps)
        except RuntimeError as error:
            print(f"skipped: no environment with {name}: {error}")
            return 77
        return subprocess.run([str(python), *sys.argv], env={**os.environ, "CALQUE_LOADER": name}).returncode
    results = Results()
    check(program, repository, scratch, results)
    return results.end(scratch / f"{name}.csv")


# ---- Results


class Results:
    """Lines of COLUMNS, printed as they come. `loader` is the program and its version."""

    def __init__(self):
        self.loader = ""
        self.rows = []

    def losses(self, artifact, there, here, allowed, fault=""):
        """Mean negative logarithms of the probabilities of the same tokens, by the loader and by calque."""
        self.add(artifact, "loss", abs(there - here), allowed, there, here, fault)

    def logits(self, artifact, difference, allowed):
        """The largest difference of a logit from transformers' in float32."""
        self.add(artifact, "logits", difference, allowed)

    def failed(self, artifact, fault):
        self.add(artifact, "loss", math.nan, 0.0, fault=fault)

    def add(self, artifact, measure, difference, allowed, there=math.nan, here=math.nan, fault=""):
        if not fault and not difference <= allowed:
            fault = "beyond what is allowed"
        values = ["" if math.isnan(value) else f"{value:.6f}" for value in (there, here)]
        self.rows.append([self.loader, artifact, measure, f"{difference:.2g}", f"{allowed:.2g}", *values, fault])
        both = f"{values[0]}, calque {values[1]}" if values[0] else ""
        print(f"{artifact:45} {measure} {both} differ by {difference:.2g}, at most {allowed:.2g}{'   FAILED: ' + fault if fault else ''}",
              flush=True)

    def end(self, path):
        with open(path, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *self.rows])
        failures = [row[1] for row in self.rows if row[-1]]
        print(f"{self.loader}: {len(self.rows)} artifacts, {'failed: ' + ', '.join(failures) if failures else 'all as they should be'}")
        return 1 if failures else 0


# ---- calque


def calque(program, *words):
    done = subprocess.run([program, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"calque {' '.join(map(str, words))} ends with {done.returncode}:\n{done.stdout}")
    return done.stdout


def run_job(program, scratch, text):
    job = scratch / "job.yaml"
    job.write_text(text)
    calque(program, "run", job, "--resume", "never", "--progress", "none")


def evaluation(scratch, ids):
    """Settings of a job that evaluates every row of ids, and a function from its run to losses by the models' labels."""
    write_ids(scratch / "ids.safetensors", ids)

    def measured():
        models = json.loads((scratch / "run/metrics.json").read_text())["evaluations"][0]["models"]
        return {model["label"]: math.log(model["perplexity_huggingface"]["value"]) for model in models}

    return (f"run_dir: {scratch}/run\nevaluate: {{texts: [{{name: book, tokens: {scratch}/ids.safetensors}}], "
            f"seqlen: {ids.shape[1]}, windows: {ids.shape[0]}}}\n"), measured


# ---- Models and tokens


def demo_model(repository):
    return repository / "tests/models/demo"


def demo_ids(program, repository):
    """[WINDOWS, LENGTH] token ids of a book that the demo model was not trained on."""
    import numpy as np
    text = repository / "calibration_data/heldout_pride_and_prejudice.txt"
    ids = json.loads(calque(program, "tokenize", "--tokenizer", demo_model(repository), "--text", text, "--json"))
    return np.array(ids[:WINDOWS * LENGTH], np.int32).reshape(WINDOWS, LENGTH)


def families(repository):
    """Folders of the small random models, one a family."""
    return [folder for folder in sorted((repository / "tests/fixtures/families").iterdir()) if (folder / "config.json").exists()]


def family_ids(folder):
    return tensors_of(folder / "reference.safetensors")["input_ids"]


def tensors_of(path):
    import numpy as np
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    kinds = {"I32": np.int32, "F32": np.float32}
    return {name: np.frombuffer(data[8 + size:][slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in json.loads(data[8:8 + size]).items() if name != "__metadata__"}


def write_ids(path, ids):
    header = json.dumps({"input_ids": {"dtype": "I32", "shape": list(ids.shape), "data_offsets": [0, ids.nbytes]}}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + ids.tobytes())


def losses(logits, ids):
    """Mean negative logarithm of every next token's probability."""
    import numpy as np
    wide = logits[:, :-1].astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    logs = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return float(-np.take_along_axis(logs, ids[:, 1:, None].astype(np.int64), 2).mean())
