MUTANTS = [
    ("dead beams read", "trie_softmax.cu", r"return score == -INFINITY \|\| node >= nodes;", "return score == -INFINITY && node < nodes;"),
    ("no barrier after the histogram", "trie_softmax.cu", r"\}\);\n    __syncthreads\(\);\n    if \(t < WARP\)", "});\n    if (t < WARP)"),
    ("stops radix select a digit early", "trie_softmax.cu", r"settled = bucket\[digit\] <= left;", "settled = bucket[digit] <= left + 1;"),
    ("sort: direction not by run", "trie_softmax.cu", r"\(i & run\) == 0", "(i & step) == 0"),
    ("sort without barrier", "trie_softmax.cu", r"        \}\n      \}\n      __syncthreads\(\);", "        }\n      }"),
    ("no padding of the sort", "trie_softmax.cu", r"keys\[i\] = 0;  // below every key", ";"),
    ("normalise reads the level for the children", "trie_softmax.cu", r"expf\(x\[gather \? code\[i\] : i\]", "expf(x[i]"),
    ("parent of a tie descending", "trie_softmax.cu", r"uint32_t\(~\(parent << 16 \| code\)\)", "uint32_t(parent << 16 | code)"),
    ("slots of a block reduction reused at once", "common/warp.cuh", r"fmaxf\(most, slots\[w\]\);\n  __syncthreads\(\);", "fmaxf(most, slots[w]);"),
    ("wanted read after it is written", "trie_softmax.cu", r"__syncwarp\(\);  // every lane.*", ""),
]
