"""What every suite uses: running modelferry, opening cases, counting and reporting."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import bits

THEIRS_TO_OURS = "theirs-to-ours"
OURS_TO_THEIRS = "ours-to-theirs"
ROUND_TRIP = "round-trip"

SEED = 20261123
TESTDATA = Path(__file__).resolve().parents[2] / "testdata"

# Names of options and codes, in one place.
ALLOW_OVERFLOW = ("--allow", "overflow")
EXIT_AMBIGUOUS = 4
EXIT_MALFORMED = 10
EXIT_UNSUPPORTED = 11
EXIT_CANNOT_REPRESENT = 12

TIMEOUT = 300  # seconds for one run of modelferry; a hang is a failure


class Failure(Exception):
    """A check that does not hold."""


def check(condition, text):
    """Fails the case with `text` unless the condition holds."""
    if not condition:
        raise Failure(text)


@dataclass
class Listed:
    """One tensor as `inspect --json` lists it."""

    name: str
    dtype: str
    shape: tuple
    bytes: int


class Case:
    """One named check. It ends as a failure if anything raised, or if nothing was opened."""

    def __init__(self, judge, name, program, direction):
        self.judge, self.name, self.program, self.direction = judge, name, program, direction
        self.files = self.values = 0
        self.details = []
        self.folder = judge.folder / f"{len(judge.reports):04}-{name.replace('/', '-').replace(' ', '-')[:60]}"

    def __enter__(self):
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and not issubclass(kind, Exception) and not is_panic(kind):
            return False
        ok = error is None and self.files > 0
        if error is not None:
            where = traceback.extract_tb(trace)[-1]
            text = str(error) if isinstance(error, Failure) else f"{kind.__name__}: {error} ({where.name}:{where.lineno})"
            self.details.append(text)
        elif not ok:
            self.details.append("opened no file")
        self.judge.report(self, ok)
        if ok:
            shutil.rmtree(self.folder, ignore_errors=True)
        return True

    def path(self, name):
        """A file of this case's own folder."""
        return self.folder / name

    def note(self, text):
        """Adds to the case's detail."""
        self.details.append(text)

    def opened(self, count=1):
        """Counts files that the other program, or modelferry, opened successfully."""
        self.files += count

    def same(self, expected, found, where=""):
        """Names, dtypes, shapes and bit patterns agree, and in number too."""
        wrong = bits.differences(expected, found)
        check(not wrong, (where and where + ": ") + "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" * (len(wrong) > 5)))
        self.values += sum(tensor.count for tensor in found.values())

    def listed(self, path, expected):
        """`inspect` on a file shows exactly these tensors."""
        listed = self.judge.inspect(path)
        self.opened()
        found = {item.name: (item.dtype, item.shape, item.bytes) for item in listed}
        check(len(found) == len(listed), "inspect lists a name twice")
        wanted = {name: (tensor.dtype, tensor.shape, len(tensor.data)) for name, tensor in expected.items()}
        wrong = [f"{name!r}: {wanted.get(name)} listed as {found.get(name)}" for name in sorted(wanted.keys() | found.keys())
                 if wanted.get(name) != found.get(name)]
        check(not wrong, f"inspect: {'; '.join(wrong[:5])}")

    def convert(self, source, target, *options):
        """Converts, which must succeed; returns the target."""
        return self.judge.convert(source, self.path(target), *options)

    def refused(self, source, target, code, *options):
        """Converts, which must end with this exit code, a JSON error and no output."""
        target = self.path(target)
        result = self.judge.run("convert", source, target, "--json", *options)
        check(result.returncode == code, f"exit {result.returncode}, expected {code}: {told(result)}")
        check(not target.exists(), f"{target.name} was written although refused")
        answer = json.loads(result.stdout)
        check(answer.get("ok") is False and answer.get("error", {}).get("code") == code, f"JSON says {answer}")
        self.opened()


def is_panic(kind):
    """Whether this is a Rust panic, which PyO3 raises as a BaseException."""
    return kind.__name__ == "PanicException"


def told(result):
    """What a run said, shortened."""
    text = result.stderr.decode(errors="replace").strip() or result.stdout.decode(errors="replace").strip()
    return " ".join(text.split())[:600]


class Judge:
    """One suite's run."""

    def __init__(self, suite, binary, work, full):
        self.suite, self.binary, self.full = suite, Path(binary).resolve(), full
        self.folder = Path(work).resolve() / suite
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.reports = []
        self.versions = {}  # of programs that are no packages of this Python
        self.started = time.monotonic()

    def run(self, *arguments, env=None):
        """Runs modelferry and returns what it said. `env` is added to the environment."""
        return subprocess.run([self.binary, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                              cwd=self.folder, timeout=TIMEOUT, check=False, env={**os.environ, **(env or {})})

    def convert(self, source, target, *options, env=None):
        """Converts, which must succeed; returns the target."""
        target.parent.mkdir(parents=True, exist_ok=True)
        result = self.run("convert", source, target, *options, env=env)
        check(result.returncode == 0, f"convert {source.name} {target.name} {' '.join(map(str, options))}: "
                                      f"exit {result.returncode}: {told(result)}")
        return target

    def convert_into(self, source, target, *options):
        """Converts into a Hugging Face directory, which must succeed; returns what the JSON report says."""
        target.parent.mkdir(parents=True, exist_ok=True)
        result = self.run("convert", source, f"{target}/", "--json", *options)
        check(result.returncode == 0, f"convert {source.name} {target.name}/ {' '.join(map(str, options))}: "
                                      f"exit {result.returncode}: {told(result)}")
        return json.loads(result.stdout)

    def inspect(self, path):
        """The tensors that `inspect --json` lists."""
        result = self.run("inspect", path, "--json")
        check(result.returncode == 0, f"inspect {path.name}: exit {result.returncode}: {told(result)}")
        answer = json.loads(result.stdout)
        check(answer.get("format"), f"inspect {path.name}: no format in the JSON")
        return [Listed(t["name"], t["dtype"], tuple(t["shape"]), t["bytes"]) for t in answer["tensors"]]

    def writes(self, form):
        """The types that the writer of this format declares."""
        result = self.run("formats", "--json")
        check(result.returncode == 0, f"formats: exit {result.returncode}: {told(result)}")
        return {dtype for writer in json.loads(result.stdout)["writers"] if writer["format"] == form
                for dtype in writer["dtypes"]}

    def not_judged(self, text):
        """Prints what no program could be asked about, and why."""
        print(json.dumps({"not_judged": text}, ensure_ascii=False), flush=True)

    def case(self, name, program, direction):
        """A case to be used in a `with` statement."""
        return Case(self, name, program, direction)

    def report(self, case, ok):
        """Prints a case's line."""
        line = {"suite": self.suite, "case": case.name, "program": case.program,
                "version": self.versions.get(case.program) or version(case.program),
                "direction": case.direction, "ok": ok, "files_opened": case.files, "values_compared": case.values,
                "detail": "; ".join(case.details)}
        self.reports.append(line)
        print(json.dumps(line, ensure_ascii=False), flush=True)

    def finish(self):
        """Prints the summary; returns the exit code."""
        failed = sum(not line["ok"] for line in self.reports)
        values = sum(line["values_compared"] for line in self.reports)
        summary = {"suite": self.suite, "ran": len(self.reports), "failed": failed,
                   "files_opened": sum(line["files_opened"] for line in self.reports), "values_compared": values,
                   "seconds": round(time.monotonic() - self.started, 1),
                   "programs": {line["program"]: line["version"] for line in self.reports}}
        print(json.dumps({"summary": summary}), flush=True)
        return 1 if failed or not self.reports or not values else 0


def version(program):
    """The installed version of a program, which is a package unless it is Python itself."""
    return sys.version.split()[0] if program == "python" else importlib.metadata.version(program)
