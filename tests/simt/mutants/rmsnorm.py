MUTANTS = [
    ("one row too many", "rmsnorm.cu", r"live = row < p.rows", "live = row <= p.rows"),
    ("no barrier before dx", "rmsnorm.cu", r"first, rows, p\);\n  __syncthreads\(\);", "first, rows, p);"),
    ("no barrier before the fold", "common/fold.cuh", r"__syncthreads\(\);", ""),
    ("eps inside the mean", "rmsnorm.cu", r"\(group_sum\(square, p.lanes\) / float\(p.width\) \+ p.eps\)", "((group_sum(square, p.lanes) + p.eps) / float(p.width))"),
    ("fold skips the last tile", "rmsnorm.cu", r"\(p.rows \+ p.tile - 1\) / p.tile", "p.rows / p.tile"),
    ("dw overwritten", "common/fold.cuh", r"float total = y\[c\]", "float total = 0"),
    ("add ignored", "rmsnorm.cu", r"p.add \? d\[i\] \+ e : e", "e"),
    ("vectors where rows are not aligned", "rmsnorm.cu", r"p.width % VEC == 0 && aligned\(x\) && aligned\(y\)", "aligned(x) && aligned(y)"),
    ("address not looked at", "rmsnorm.cu", r"p.width % VEC == 0 && aligned\(x\) && aligned\(y\)", "p.width % VEC == 0 && aligned(y)"),
    ("threads without a row write", "rmsnorm.cu", r"else if \(group == 0\)", "else"),
    ("a row group skipped in dw", "rmsnorm.cu", r"k < groups; \+\+k", "k + 1 < groups; ++k"),
    ("bf16 halves swapped", "common/vector.cuh", r"pack_bf16\(v\[2\], v\[3\]\)", "pack_bf16(v[3], v[2])"),
]
