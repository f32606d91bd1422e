"""Plants one bug at a time in a kernel and says which check notices it: `make mutants`.

A bug that no check finds is a hole in the tests and fails the run. Three builds, in this order: plain under all schedules, ASan+UBSan, TSan.
Bugs are tried in parallel, a core each; what is printed is in the order of the lists.
"""
import concurrent.futures
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
BUILD = (HERE / sys.argv[1]).resolve()
FAMILIES = sys.argv[2:]  # none: all
SAMPLE = int(os.environ.get("SAMPLE") or 0)  # so many of them, spread over the lists; 0: all
FLAGS = "-std=c++20 -w -Wno-psabi -g1 -DSIMT_CPU -I. -I../../kernels -Iprim".split()
BUILDS = {
    "plain": (["-O1"], "simt.o"),
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
if 0 < SAMPLE < len(MUTANTS):
    MUTANTS = [MUTANTS[i * len(MUTANTS) // SAMPLE] for i in range(SAMPLE)]


def planted(number, file, pattern, to):
    """A copy of kernels and tests with the bug in it."""
    work = BUILD / f"mutant{number}"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(HERE.parent.parent / "kernels", work / "kernels")
    shutil.copytree(HERE, work / "tests/simt", ignore=shutil.ignore_patterns("build", "*.o"))
    source = work / "kernels" / file
    text, count = re.subn(pattern, to, source.read_text())
    if not count:
        raise LookupError(f"{file}: nothing matches {pattern}")
    source.write_text(text)
    return work


def notice(number, test, what, file, pattern, to):
    """The first build whose test fails on the mutant, and what it said."""
    work = planted(number, file, pattern, to)
    try:
        for name, (flags, runtime) in BUILDS.items():
            program = str(work / "t")
            command = ["g++", *FLAGS, *flags, f"test_{test}.cpp", str(BUILD / runtime), "-o", program]
            subprocess.run(command, cwd=work / "tests/simt", check=True)
            env = {**os.environ, **({} if name == "plain" else {"SIMT_ORDER": "7"})}
            try:
                run = subprocess.run([program], capture_output=True, text=True, timeout=300, env=env)
            except subprocess.TimeoutExpired:
                return f"{name}: hangs"
            if run.returncode:
                said = re.search(r".*(FAILED|SIMT:|ERROR: Addr|WARNING: Thr|runtime error).*", run.stdout + run.stderr)
                return f"{name}: {said[0].strip() if said else f'exit {run.returncode}'}"
        return None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main():
    missed, began = [], time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(notice, number, *mutant) for number, mutant in enumerate(MUTANTS)]
        for (test, what, *_), job in zip(MUTANTS, jobs):
            found = job.result()
            print(f"{test}, {what}: {found or 'NOT FOUND'}", flush=True)
            if not found:
                missed.append(what)
    found = len(MUTANTS) - len(missed)
    print(f"{found} of {len(MUTANTS)} found ({100 * found / max(len(MUTANTS), 1):.0f} %), {time.monotonic() - began:.0f} s")
    sys.exit(bool(missed))


main()
