"""Plants one bug at a time in a kernel and says which check notices it: `make mutants`.

A bug that no check finds is a hole in the tests and fails the run. Three builds, in this order: plain under all schedules, ASan+UBSan, TSan.
"""
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BUILD = (HERE / sys.argv[1]).resolve()
FAMILIES = sys.argv[2:]  # none: all
FLAGS = "-std=c++20 -w -g -DSIMT_CPU -I. -I../../kernels -Iprim".split()
BUILDS = {
    "plain": (["-O2"], "simt.o"),
    "asan": (["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"], "simt.asan.o"),
    "tsan": (["-O1", "-fsanitize=thread"], "simt.o"),
}
# mutants/<family>.py lists, for test_<family>: (what is wrong, file in kernels/, regular expression, replacement)
MUTANTS = [
    (path.stem, *mutant)
    for path in sorted((HERE / "mutants").glob("*.py"))
    for mutant in runpy.run_path(str(path))["MUTANTS"]
    if not FAMILIES or path.stem in FAMILIES
]


def notice(test, file, pattern, to):
    """The first build whose test fails on the mutant, and what it said."""
    for name, (flags, runtime) in BUILDS.items():
        work = BUILD / "mutant"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(HERE.parent.parent / "kernels", work / "kernels")
        shutil.copytree(HERE, work / "tests/simt", ignore=shutil.ignore_patterns("build"))
        source = work / "kernels" / file
        text, planted = re.subn(pattern, to, source.read_text())
        if not planted:
            sys.exit(f"{file}: nothing matches {pattern}")
        source.write_text(text)
        subprocess.run(
            ["g++", *FLAGS, *flags, f"test_{test}.cpp", str(BUILD / runtime), "-o", str(work / "t")],
            cwd=work / "tests/simt", check=True)
        env = {**os.environ, **({} if name == "plain" else {"SIMT_ORDER": "7"})}
        try:
            run = subprocess.run([str(work / "t")], capture_output=True, text=True, timeout=300, env=env)
        except subprocess.TimeoutExpired:
            return f"{name}: hangs"
        if run.returncode:
            said = re.search(r".*(FAILED|SIMT:|ERROR: Addr|WARNING: Thr|runtime error).*", run.stdout + run.stderr)
            return f"{name}: {said[0].strip() if said else f'exit {run.returncode}'}"
    return None


missed = []
for test, what, file, pattern, to in MUTANTS:
    found = notice(test, file, pattern, to)
    print(f"{test}, {what}: {found or 'NOT FOUND'}", flush=True)
    if not found:
        missed.append(what)
print(f"{len(MUTANTS) - len(missed)} of {len(MUTANTS)} found")
sys.exit(bool(missed))
