"""Plants one bug at a time in a kernel and says which check notices it: `make mutants`.

A bug that no check finds is a hole in the tests and fails the run. Three builds, in this order: plain under all schedules, ASan+UBSan, TSan.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BUILD = (HERE / sys.argv[1]).resolve()
FLAGS = "-std=c++20 -w -g -DSIMT_CPU -I. -I../../kernels -Iprim".split()
BUILDS = {
    "plain": (["-O2"], "simt.o"),
    "asan": (["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"], "simt.asan.o"),
    "tsan": (["-O1", "-fsanitize=thread"], "simt.o"),
}
# (test, what is wrong, file, regular expression, replacement)
MUTANTS = [
    ("rmsnorm", "warps leave one row late", "rmsnorm.cu", r"if \(row >= p.rows\) return;  // whole.*", "if (row > p.rows) return;"),
    ("rmsnorm", "no barrier before the fold", "rmsnorm.cu", r"__syncthreads\(\);\n  if \(y == 0", "if (y == 0"),
    ("rmsnorm", "eps inside the mean", "rmsnorm.cu", r"\(warp_sum\(square\) / float\(p.width\) \+ p.eps\)", "((warp_sum(square) + p.eps) / float(p.width))"),
    ("rmsnorm", "fold skips the last tile", "rmsnorm.cu", r"\(p.rows \+ RMSNORM_TILE - 1\) / RMSNORM_TILE", "p.rows / RMSNORM_TILE"),
    ("rmsnorm", "dw overwritten", "rmsnorm.cu", r"float total = dw\[c\]", "float total = 0"),
    ("rmsnorm", "add ignored", "rmsnorm.cu", r"p.add \? dx\[base \+ c\] \+ d : d", "d"),
    ("codebook", "no barrier after the tiles are used", "codebook.cu", r"__syncthreads\(\);  // the next round overwrites the tiles", ""),
    ("codebook", "no barrier after the tiles are loaded", "codebook.cu", r"bad\[1\] : nullptr\);\n      __syncthreads\(\);", "bad[1] : nullptr);"),
    ("codebook", "ties to the higher code", "codebook.cu", r"theirs < which\[r\]", "theirs > which[r]"),
    ("codebook", "codewords past K compete", "codebook.cu", r"code < p.codes && d", "d"),
    ("codebook", "loads rows past the end", "codebook.cu", r"first \+ r < rows && at", "at"),
    ("codebook", "update: members read before all are listed", "codebook.cu", r"// ascending\n    __syncthreads\(\);", ""),
    ("codebook", "update: votes read before all are in", "codebook.cu", r"__popc\(votes\);\n    __syncthreads\(\);", "__popc(votes);"),
    ("codebook", "update: order of members lost", "codebook.cu", r"before \+ __popc\(votes & \(\(1u << lane\) - 1\)\)", "before + __popc(votes >> lane) - 1"),
    ("trie_softmax", "dead beams read", "trie_softmax.cu", r"return score == -INFINITY \|\| node >= nodes;", "return score == -INFINITY && node < nodes;"),
    ("trie_softmax", "no barrier after the histogram", "trie_softmax.cu", r"\}\);\n    __syncthreads\(\);\n    if \(t < WARP\)", "});\n    if (t < WARP)"),
    ("trie_softmax", "stops radix select a digit early", "trie_softmax.cu", r"settled = bucket\[digit\] <= left;", "settled = bucket[digit] <= left + 1;"),
    ("trie_softmax", "sort: direction not by run", "trie_softmax.cu", r"\(i & run\) == 0", "(i & step) == 0"),
    ("trie_softmax", "sort without barrier", "trie_softmax.cu", r"        \}\n      \}\n      __syncthreads\(\);", "        }\n      }"),
    ("trie_softmax", "no padding of the sort", "trie_softmax.cu", r"keys\[i\] = 0;  // below every key", ";"),
    ("trie_softmax", "normalise reads the level for the children", "trie_softmax.cu", r"expf\(x\[gather \? code\[i\] : i\]", "expf(x[i]"),
    ("trie_softmax", "parent of a tie descending", "trie_softmax.cu", r"uint32_t\(~\(parent << 16 \| code\)\)", "uint32_t(parent << 16 | code)"),
    ("trie_softmax", "slots of a block reduction reused at once", "common/warp.cuh", r"fmaxf\(most, slots\[w\]\);\n  __syncthreads\(\);", "fmaxf(most, slots[w]);"),
    ("trie_softmax", "wanted read after it is written", "trie_softmax.cu", r"__syncwarp\(\);  // every lane.*", ""),
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
