#!/usr/bin/env python3
"""Hunts for faults: makes small models and jobs at random, valid and damaged, and runs calque on them.

hunt.py CALQUE --jobs 40            jobs of the seeds 1 to 40
hunt.py CALQUE --seed 17            the job of one seed, and what calque said
hunt.py CALQUE --replay FILE        a failure that was kept

A job breaks a promise if
  - a command ends by a signal, by an internal error, with a report of a sanitizer, or takes too long;
  - its exit code and its message disagree: 0 with an error, another without a message that names something;
  - `validate`, `plan` and `run` disagree, and the reason is not one that only the values show;
  - a job is refused and leaves an export, or a job with a fault that must be seen is accepted;
  - an artifact is not accepted by `verify`, `inspect` and `eval`, or holds a value that is no number;
  - files do not have the size that `plan` says, or `verify` accepts a damaged one;
  - a second run, with other threads, or one that is killed or told to end and resumed, writes other bytes;
  - a sweep over an accepted job loses a point, runs one twice after a signal, or gives equal points other results.
A failure is made smaller: its choices are removed one by one while it stays. It is printed and kept with its files."""
import argparse
import collections
import csv
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import artifacts
from choices import Choices, shrink
from jobs import FAULTS, Case

# Refusals that need the values of the weights, or the text: `run` may end with them although `validate` accepts.
ONLY_IN_VALUES = {
    "E164": "a weight is no number",
    "E201": "too little text",
    "E232": "nothing to predict in a text",
    "E401": "a module that cannot be rounded",
    "E211": "a tokenizer that nothing reads but a run",
    "E212": "a text that is damaged, or lacks the key",
}
# Faults of places that `run` writes to, which it may name before those of the job.
PLACES = ("run folder is a file", "export's folder is a file", "two exports, one path")
SANITIZERS = re.compile(r"Sanitizer|runtime error:")
# Columns of a sweep's results that depend on the artifact alone.
SAME_IN_A_SWEEP = re.compile(r"error|artifact_bytes|tensor_bytes|bits_per_weight|text|ppl|kl_|top1")
TIMEOUT_SECONDS = 120


class Broken(Exception):
    """A promise that was broken. `kind` is the same for the same fault of the program."""

    def __init__(self, kind, detail):
        super().__init__(f"{kind}\n{detail}")
        self.kind = kind


class Result:
    def __init__(self, arguments, code, out, err):
        self.arguments, self.code, self.out, self.err = arguments, code, out, err
        found = re.search(r"error\[(E\d\d\d)\]", err)
        self.error = found.group(1) if found else ""

    def __str__(self):
        command = " ".join(str(a) for a in self.arguments)
        return f"$ calque {command}\nexit code {self.code}\n{self.err[-1500:]}"

    def message(self):
        """The message without the parts that may differ between commands."""
        return "\n".join(line for line in self.err.splitlines() if not line.startswith("(calque explain"))


class Hunter:
    def __init__(self, program):
        self.program = str(program)
        self.commands = 0
        self.counts = collections.Counter()
        self.uncoded = collections.Counter()  # messages that carry no code

    def check_end(self, result):
        code, err = result.code, result.err
        command = result.arguments[0]
        if SANITIZERS.search(err):
            raise Broken(f"{command}: a sanitizer reports", str(result))
        if code < 0:
            raise Broken(f"{command}: signal {-code}", str(result))
        if code == 1 or code > 7 or "internal" in err:
            raise Broken(f"{command}: internal error", str(result))
        if code == 0 and re.search(r"^error|error\[E", err, re.M):
            raise Broken(f"{command}: exit code 0 with an error", str(result))
        if code != 0:
            self.check_message(result)

    def check_message(self, result):
        lines = [line for line in result.err.splitlines() if "error" in line]
        if not lines:
            raise Broken(f"{result.arguments[0]}: exit code {result.code} without a message", str(result))
        said = re.sub(r"error(\[E\d+\])?: ", "", lines[0])
        if len(said) < 15 or not re.search(r"['/`_.:\d]", said):
            raise Broken(f"{result.arguments[0]}: a message that names nothing: {said}", str(result))
        if not result.error:
            self.uncoded[re.sub(r"'[^']*'|/\S*/", "*", said)[:110]] += 1
        said = re.sub(r"'[^']*'", "''", said)  # a quotation reads as the file does
        for part in (r"\.\.( |$)", r"  +\S", r"\b(\w+) \1\b", r"\bNULL\b|std::|nlohmann|terminate called"):
            if re.search(part, said) and "..." not in said:
                raise Broken(f"{result.arguments[0]}: a message that reads badly ({part})", str(result))

    def run(self, folder, *arguments):
        self.commands += 1
        try:
            done = subprocess.run([self.program, *map(str, arguments)], cwd=folder, capture_output=True,
                                  timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as late:
            raise Broken(f"{arguments[0]}: takes too long", f"$ calque {arguments}") from late
        result = Result(arguments, done.returncode, done.stdout.decode(errors="replace"),
                        done.stderr.decode(errors="replace"))
        self.check_end(result)
        return result

    # ---- One job

    def hunt(self, choices, folder):
        case = Case(choices, folder)
        before = {path for path in folder.rglob("*")}
        validated = self.run(folder, "validate", "job.yaml")
        planned = self.run(folder, "plan", "job.yaml", "--json")
        if (planned.code, planned.message()) != (validated.code, validated.message()):
            raise Broken(f"validate and plan disagree: {validated.error} {planned.error}", f"{validated}\n{planned}")
        ran = self.run(folder, "run", "job.yaml", "--progress", "none")
        needed = FAULTS[case.fault][0] if case.fault != "none" else "maybe"
        if needed == "validate" and validated.code == 0:
            raise Broken(f"validate accepts: {case.fault}", str(validated))
        if needed != "maybe" and ran.code == 0:
            raise Broken(f"run accepts: {case.fault}", str(ran))
        if validated.code != 0:
            self.check_refused(case, validated, ran, before)
            self.counts[f"refused {validated.error}"] += 1
            return
        if ran.code != 0:
            if ran.error not in ONLY_IN_VALUES and needed != "run":
                raise Broken(f"run refuses what validate accepts: {ran.error} with fault {case.fault}", str(ran))
            self.check_nothing_written(ran, case)
            self.counts[f"ended {ran.error}"] += 1
            return
        self.counts["finished"] += 1
        self.check_written(case, json.loads(planned.out))
        self.check_again(choices, case)
        if choices.rarely("kill", 0.3):
            self.check_resumed(choices, case)
        if choices.rarely("sweep", 0.15):
            self.check_sweep(choices, case)
        self.check_evaluation(choices, case)
        if choices.rarely("chain", 0.3):
            self.check_chain(case)
        if case.text and choices.rarely("imatrix", 0.3):
            self.check_imatrix(choices, case)
        if choices.rarely("dequantize", 0.2):
            self.check_dequantized(case)
        if choices.rarely("damage", 0.4):
            self.check_damaged(choices, case)

    def check_refused(self, case, validated, ran, before):
        if (ran.code, ran.error) != (validated.code, validated.error) and case.fault not in PLACES:
            raise Broken(f"validate and run disagree: {validated.error} {ran.error}", f"{validated}\n{ran}")
        left = [p for p in case.folder.rglob("*") if p not in before and not p.is_dir() and "runs" not in p.parts]
        if left:
            raise Broken("a refused job leaves files", f"{ran}\n{left}")

    def check_nothing_written(self, ran, case):
        for path in case.exports:
            complete = [f for f in artifacts.weight_files(path)] if path.exists() and case.fault != "export is there already" else []
            if complete and len(case.exports) == 1 and "evaluate" not in case.yaml:
                raise Broken("a run that failed leaves its export", f"{ran}\n{complete}")

    def check_written(self, case, plan):
        for path, planned in zip(case.exports, plan["exports"]):
            for file in planned["files"]:
                where = path / file["name"] if path.is_dir() else path.parent / file["name"]
                size = where.stat().st_size if where.exists() else None
                if size != file["bytes"]:
                    raise Broken(f"size differs from the plan: {where.suffix}",
                                 f"{where.relative_to(case.folder)}: {size} bytes, the plan says {file['bytes']}")
            bad = artifacts.non_finite_in(path)
            if bad:
                raise Broken("a value that is no number is written", bad)
            first = artifacts.weight_files(path)[0]
            for command in ("verify", "inspect"):
                result = self.run(case.folder, command, path if path.is_dir() else first)
                if result.code != 0:
                    raise Broken(f"{command} refuses what run wrote: {result.error}", f"{result}\n{result.out[-1500:]}")
        metrics = case.folder / "runs/a/metrics.json"
        self.check_numbers(metrics.read_text(), "metrics.json")

    def check_numbers(self, text, where):
        try:
            return artifacts.numbers_of_json(text)
        except ValueError as error:
            raise Broken(f"{where}: not finite or not JSON", f"{error}\n{text[:2000]}") from error

    def check_same(self, case, expected, folder, what):
        for path in case.exports:
            found = artifacts.contents(folder / path.relative_to(case.folder / "out"))
            if found.keys() != expected[path].keys():
                raise Broken(f"{what}: other files", f"{sorted(found)}\n{sorted(expected[path])}")
            for name, data in found.items():
                if data != expected[path][name]:
                    raise Broken(f"{what}: other bytes in {pathlib.Path(name).suffix}", f"{path.name} {name}")

    def second_job(self, case, out, extra=""):
        """The same job with its outputs in another folder."""
        text = case.yaml.replace("path: out/", f"path: {out}/").replace("run_dir: runs/a", f"run_dir: runs/{out}")
        text = text.replace("saved-imatrix", f"{out}-imatrix").replace("runtime: {threads: 1", "runtime: {threads: 2" + extra)
        (case.folder / f"{out}.yaml").write_text(text)
        return f"{out}.yaml"

    def check_again(self, choices, case):
        result = self.run(case.folder, "run", self.second_job(case, "again"), "--progress", "none")
        if result.code != 0:
            raise Broken("a second run is refused", str(result))
        expected = {path: artifacts.contents(path) for path in case.exports}
        self.check_same(case, expected, case.folder / "again", "a second run with two threads")

    def stop(self, choices, label, case, arguments, reached):
        """Runs a command and ends it by SIGKILL or SIGTERM once `reached()` is true, or lets it finish before."""
        how = choices.pick(f"{label}_signal", [signal.SIGKILL, signal.SIGTERM])
        process = subprocess.Popen([self.program, *map(str, arguments), "--progress", "none"], cwd=case.folder,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None:
            try:
                if reached():
                    process.send_signal(how)
                    break
            except OSError:
                pass  # not begun
            time.sleep(0.0005)
        err = process.communicate()[1].decode(errors="replace")
        self.commands += 1
        result = Result(arguments, process.returncode, "", err)
        if result.code == 0:
            return result
        self.counts["told to end" if how == signal.SIGTERM else "killed"] += 1
        if how == signal.SIGTERM:
            # Early in main(), the signal still has its default effect.
            if result.code not in (143, -signal.SIGTERM) or SANITIZERS.search(err):
                raise Broken(f"{arguments[0]}: SIGTERM ends it with {result.code}", str(result))
            if result.code == 143 and "interrupted; " not in err:
                raise Broken(f"{arguments[0]}: told to end, and silent", str(result))
        return result

    def check_resumed(self, choices, case):
        extra = "" if "checkpoint:" in case.yaml else ", checkpoint: block"
        job = self.second_job(case, "killed", extra)
        wanted = choices.pick("kill_after", [1, 2, 3, 5])
        journal = case.folder / "runs/killed/state/journal"
        ended = self.stop(choices, "kill", case, ["run", job], lambda: journal.read_bytes().count(b"\n") >= wanted)
        if ended.code != 0:
            begun = journal.exists() and (case.folder / "runs/killed/job.resolved.yaml").exists()
            how = ["resume", "runs/killed"] if begun else ["run", job]
            result = self.run(case.folder, *how, "--progress", "none")
            if result.code != 0 and result.error == "E209":
                return  # killed while the last export got its name: the run was done
            if result.code != 0:
                raise Broken(f"a killed run cannot go on: {result.error}", str(result))
        expected = {path: artifacts.contents(path) for path in case.exports}
        self.check_same(case, expected, case.folder / "killed", "a run killed and resumed")

    def check_sweep(self, choices, case):
        """Two points that differ in threads only; the sweep is stopped once the first has begun, and goes on."""
        (case.folder / "swept.yaml").write_text(re.sub(r"run_dir: .*\n", "", case.yaml))
        # A place for each point's export: a sweep takes one.
        export = re.sub(r"path: out/\S+?([,}])", r"path: measured\1", re.search(r"  - (\{.*\})\n", case.yaml).group(1))
        (case.folder / "sweep.yaml").write_text(f"version: 1\nbase: swept.yaml\nset: {{export: [{export}]}}\n"
                                                "grid: {runtime.threads: [1, 2]}\noutput: sweep\n")
        listed = self.run(case.folder, "sweep", "sweep.yaml", "--list")
        if listed.code != 0:
            raise Broken(f"a sweep over an accepted job is refused: {listed.error}", str(listed))
        if choices.rarely("stop_sweep", 0.6):
            self.stop(choices, "sweep", case, ["sweep", "sweep.yaml"],
                      lambda: any((case.folder / "sweep").rglob("journal")))
        result = self.run(case.folder, "sweep", "sweep.yaml", "--progress", "none")
        if result.code != 0:
            raise Broken(f"a sweep over an accepted job ends with {result.code}: {result.error}", f"{result}\n{result.out[-1500:]}")
        with open(case.folder / "sweep/results.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        if len(rows) != 2:
            raise Broken(f"a sweep of two points has {len(rows)} rows", str(rows))
        for column in rows[0]:
            if SAME_IN_A_SWEEP.search(column) and rows[0][column] != rows[1][column]:
                raise Broken(f"equal points of a sweep differ in {column}", f"{rows[0][column]} {rows[1][column]}")
        self.counts["swept"] += 1

    def check_evaluation(self, choices, case):
        if not choices.rarely("eval", 0.5):
            return
        paths = [path if path.is_dir() else artifacts.weight_files(path)[0] for path in case.exports]
        result = self.run(case.folder, "eval", *paths, "--reference", "model", "--tokens", "tokens.safetensors", "--seqlen",
                          choices.pick("eval_seqlen", [16, 2, 32]), "--windows", 2, "--threads", 2, "--json",
                          "--progress", "none")
        if result.code != 0:
            raise Broken(f"eval refuses what run wrote: {result.error}", str(result))
        self.check_numbers(result.out, "eval --json")

    def check_chain(self, case):
        """A GGUF file of floats is a model, too."""
        plain = [p for p in case.exports if p.suffix == ".gguf" and re.search(
            re.escape(f"path: out/{p.name}") + r", type: (F16|BF16|F32)", case.yaml)]
        if not plain:
            return
        source = artifacts.weight_files(plain[0])[0]
        (case.folder / "chain.yaml").write_text(
            f"version: 1\nmodel: {{path: {source}}}\nquantization: {{method: rtn}}\n"
            "export: [{format: gguf, path: chain.gguf, type: Q8_0, on_shape_fallback: allow}]\nrun_dir: runs/chain\n")
        validated = self.run(case.folder, "validate", "chain.yaml")
        ran = self.run(case.folder, "run", "chain.yaml", "--progress", "none")
        if validated.code != ran.code:
            raise Broken(f"validate and run disagree about a GGUF model: {validated.error} {ran.error}", f"{validated}\n{ran}")
        if ran.code == 0 and artifacts.non_finite_in(case.folder / "chain.gguf"):
            raise Broken("a value that is no number is written from a GGUF model", str(ran))
        self.counts["GGUF as a model"] += 1

    def check_imatrix(self, choices, case):
        result = self.run(case.folder, "imatrix", "model", case.text, "-o", "imatrix.gguf", "--chunk-size", 16,
                          "--chunks", 2, "--progress", "none")
        if result.code != 0:
            return
        kind = choices.pick("imatrix_type", ["Q4_0", "Q4_K", "Q2_K", "IQ4_NL", "Q3_K_M"])
        (case.folder / "weighted.yaml").write_text(
            "version: 1\nmodel: {path: model}\nquantization: {method: rtn, imatrix: imatrix.gguf}\n"
            f"export: [{{format: gguf, path: weighted.gguf, type: {kind}, on_shape_fallback: allow}}]\nrun_dir: runs/weighted\n")
        validated = self.run(case.folder, "validate", "weighted.yaml")
        ran = self.run(case.folder, "run", "weighted.yaml", "--progress", "none")
        if validated.code != ran.code:
            raise Broken(f"validate and run disagree with an imatrix: {validated.error} {ran.error}", f"{validated}\n{ran}")
        if ran.code == 0 and artifacts.non_finite_in(case.folder / "weighted.gguf"):
            raise Broken("a value that is no number is written with an imatrix", str(ran))
        self.counts["with an imatrix"] += 1

    def check_dequantized(self, case):
        path = case.exports[0]
        source = path if path.is_dir() else artifacts.weight_files(path)[0]
        result = self.run(case.folder, "dequantize", source, "--out", "plain", "--dtype", "float32")
        if result.code == 0 and artifacts.non_finite_in(case.folder / "plain"):
            raise Broken("a value that is no number is written by dequantize", str(result))
        self.counts["dequantized"] += 1


    def check_damaged(self, choices, case):
        """Damages a file of an artifact. `verify` must see what a checksum or a length shows; nothing may crash."""
        path = case.exports[0]
        files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else artifacts.weight_files(path)
        file = choices.pick("damaged_file", files)
        how = choices.pick("damage_kind", ["cut", "flip", "header", "remove"])
        data = bytearray(file.read_bytes())
        if how == "cut":
            data = data[:len(data) * choices.pick("damage_cut", [9, 5, 1, 0]) // 10]
        elif how == "flip":
            data[len(data) * choices.pick("damage_at", [9, 5, 1, 0]) // 10] ^= choices.pick("damage_bits", [1, 128, 255])
        elif how == "header":
            at = min(choices.pick("damage_byte", [20, 0, 4, 8, 12, 16, 30, 50, 100, 150, 200, 300]), len(data) - 1)
            data[at] ^= choices.pick("damage_bits", [1, 128, 255])
        if how == "remove":
            file.unlink()
        else:
            file.write_bytes(bytes(data))
        # The sums do not count themselves; README.md is for people to change.
        summed = path.is_dir() and (path / "SHA256SUMS").exists() and file.name not in ("SHA256SUMS", "README.md")
        artifact = path if path.is_dir() else file
        verified = self.run(case.folder, "verify", artifact)
        if verified.code == 0 and (summed or (how in ("cut", "remove") and file.suffix in (".gguf", ".safetensors"))):
            raise Broken(f"verify accepts a damaged {file.suffix}: {how}", f"{file.name}\n{verified}\n{verified.out}")
        self.run(case.folder, "inspect", artifact)
        self.run(case.folder, "eval", artifact, "--reference", "model", "--tokens", "tokens.safetensors", "--seqlen", 8,
                 "--windows", 1, "--progress", "none")
        self.run(case.folder, "dequantize", artifact, "--out", "damaged-plain", "--overwrite")
        self.counts["damaged"] += 1


# ---- Many jobs

def attempt(hunter, choices, keep=None):
    """Runs one case in a new folder. Returns the promise that it broke, or None; `keep` gets the folder then."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hunt-"))
    try:
        hunter.hunt(choices, folder / "case")
        return None
    except Broken as broken:
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
            shutil.copytree(folder / "case", keep, symlinks=True)
            (keep / "choices.json").write_text(json.dumps(choices.record, indent=1))
            (keep / "failure.txt").write_text(str(broken))
        return broken
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_smaller(hunter, record, kind, tries):
    def still_fails(candidate):
        choices = Choices(recorded=candidate)
        broken = attempt(hunter, choices)
        return choices.record if broken is not None and broken.kind == kind else None

    return shrink(record, still_fails, tries)


def report(hunter, seed, choices, broken, keep, tries):
    name = re.sub(r"\W+", "-", broken.kind)[:60].strip("-")
    folder = keep / name
    print(f"seed {seed}: {broken.kind}", flush=True)
    smallest = make_smaller(hunter, choices.record, broken.kind, tries) if tries else choices.record
    again = Choices(recorded=smallest)
    final = attempt(hunter, again, folder) or broken
    print(f"{final}\nchoices: {json.dumps(again.unusual(), default=str)}")
    if (folder / "job.yaml").exists():
        print((folder / "job.yaml").read_text())
    print(f"kept in {folder}; hunt.py --replay {folder / 'choices.json'}\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calque", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=40, help="number of jobs")
    parser.add_argument("--first", type=int, default=1, help="seed of the first job")
    parser.add_argument("--seed", type=int, help="only the job of this seed")
    parser.add_argument("--replay", type=pathlib.Path, help="choices.json of a failure that was kept")
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path("hunt-failures"), help="folder for failures")
    parser.add_argument("--shrink", type=int, default=60, help="jobs that may be run to make a failure smaller")
    parser.add_argument("--seconds", type=float, default=0, help="begin no job after this time; 0: no limit")
    parser.add_argument("--uncoded", type=int, default=0, help="print so many of the messages without a code")
    a = parser.parse_args()
    hunter = Hunter(a.calque.resolve())
    if a.replay:
        broken = attempt(hunter, Choices(recorded=json.loads(a.replay.read_text())))
        print(broken or "no promise is broken")
        return 1 if broken else 0
    seeds = [a.seed] if a.seed is not None else range(a.first, a.first + a.jobs)
    begin, seen, done = time.monotonic(), collections.defaultdict(list), 0
    for seed in seeds:
        if a.seconds and time.monotonic() - begin > a.seconds:
            break
        choices = Choices(seed)
        broken = attempt(hunter, choices)
        done += 1
        if broken is not None:
            if broken.kind not in seen:
                report(hunter, seed, choices, broken, a.keep, a.shrink)
            seen[broken.kind].append(seed)
    counts = ", ".join(f"{n} {what}" for what, n in sorted(hunter.counts.items(), key=lambda item: -item[1]))
    print(f"{done} jobs, seeds {seeds[0]} to {seeds[0] + done - 1}, {hunter.commands} runs of calque, "
          f"{time.monotonic() - begin:.0f} s: {counts}")
    for said, times in hunter.uncoded.most_common(a.uncoded):
        print(f"without a code, {times} times: {said}")
    for kind, where in seen.items():
        print(f"BROKEN {len(where)} times: {kind}; seeds {where[:10]}")
    return 1 if seen else 0


if __name__ == "__main__":
    sys.exit(main())
