MUTANTS = [
    ("warps leave one row late", "rmsnorm.cu", r"if \(row >= p.rows\) return;  // whole.*", "if (row > p.rows) return;"),
    ("no barrier before the fold", "rmsnorm.cu", r"__syncthreads\(\);\n  if \(y == 0", "if (y == 0"),
    ("eps inside the mean", "rmsnorm.cu", r"\(warp_sum\(square\) / float\(p.width\) \+ p.eps\)", "((warp_sum(square) + p.eps) / float(p.width))"),
    ("fold skips the last tile", "rmsnorm.cu", r"\(p.rows \+ RMSNORM_TILE - 1\) / RMSNORM_TILE", "p.rows / RMSNORM_TILE"),
    ("dw overwritten", "rmsnorm.cu", r"float total = dw\[c\]", "float total = 0"),
    ("add ignored", "rmsnorm.cu", r"p.add \? dx\[base \+ c\] \+ d : d", "d"),
]
