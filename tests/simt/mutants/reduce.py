MUTANTS = [
    ("reads past the end", "reduce.cu", r"n >= VEC && aligned\(x\) && aligned\(y\)", "aligned(x) && aligned(y)"),
    ("squares: the tail of a piece as a vector", "reduce.cu", r"whole && len - at >= VEC", "whole"),
    ("squares: address not looked at", "reduce.cu", r"whole = aligned\(x\)", "whole = true"),
    ("squares: every block its tensor's first piece", "reduce.cu", r"uint64_t\(piece\[2 \* blockIdx.x \+ 1\]\) \* REDUCE_PIECE", "0"),
    ("squares: pieces overlap", "reduce.cu", r"uint32_t\(min\(left, uint64_t\(REDUCE_PIECE\)\)\)", "uint32_t(left)"),
    ("squares in f32", "reduce.cu", r"fma\(x, x, sum\)", "sum + double(float(x) * float(x))"),
    ("no barrier before the warps' sums", "reduce.cu", r"  __syncthreads\(\);\n  double sum = 0.0;", "  double sum = 0.0;"),
    ("fold stops after its threads", "reduce.cu", r"i < pieces; i \+= REDUCE_FOLD", "i < pieces && i < REDUCE_FOLD; i += REDUCE_FOLD"),
    ("a sum of magnitudes", "reduce.cu", r"return sum \+ x;", "return sum + fabs(x);"),
    ("a sum forgets the batches before", "reduce.cu", r"total\[0\] \+= sum", "total[0] = sum"),
    ("squares on top of the last ones", "reduce.cu", r"total\[0\] = sum", "total[0] += sum"),
]
