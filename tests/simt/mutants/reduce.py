MUTANTS = [
    ("reads past the end", "reduce.cu", r"n >= VEC && aligned\(x\) && aligned\(y\)", "aligned(x) && aligned(y)"),
    ("squares: the tail of a piece as a vector", "reduce.cu", r"whole && len - at >= VEC", "whole"),
    ("squares: address not looked at", "reduce.cu", r"whole = aligned\(x\)", "whole = true"),
    ("squares: every block its tensor's first piece", "reduce.cu", r"uint64_t\(piece\[2 \* blockIdx.x \+ 1\]\) \* REDUCE_PIECE", "0"),
    ("squares: pieces overlap", "reduce.cu", r"uint32_t\(min\(left, uint64_t\(REDUCE_PIECE\)\)\)", "uint32_t(left)"),
    ("squares in f32", "reduce.cu", r"fma\(double\(v\[i\]\), double\(v\[i\]\), sum\)", "sum + double(v[i] * v[i])"),
    ("no barrier before the warps' sums", "reduce.cu", r"  __syncthreads\(\);\n  double sum = 0.0;", "  double sum = 0.0;"),
    ("fold stops after its threads", "reduce.cu", r"i < p.len; i \+= REDUCE_FOLD", "i < p.len && i < REDUCE_FOLD; i += REDUCE_FOLD"),
]
