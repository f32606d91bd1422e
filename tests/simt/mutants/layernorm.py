MUTANTS = [
    ("one row too many", "layernorm.cu", r"live = row < p.rows", "live = row <= p.rows"),
    ("padding counts in the variance", "layernorm.cu", r"c \+ i < p.width \? v\[i\] - m : 0.0f", "v[i] - m"),
    ("variance without the mean", "layernorm.cu", r"const float d = c \+ i < p.width \? v\[i\] - m : 0.0f;", "const float d = v[i];"),
    ("no barrier before dx", "layernorm.cu", r"first, rows, p\);\n  __syncthreads\(\);", "first, rows, p);"),
    ("no barrier before the sums", "layernorm.cu", r"if \(groups == 1\) return;\n  __syncthreads\(\);", "if (groups == 1) return;"),
    ("the mean of g left out", "layernorm.cu", r"g\[i\] \* u\[i\] - t.x - z \* t.y", "g[i] * u[i] - z * t.y"),
    ("add ignored", "layernorm.cu", r"p.add \? d\[i\] \+ e : e", "e"),
    ("db of the first tile over dw of the second", "layernorm.cu", r"of_w \+ size_t\(gridDim.x\) \* p.width", "of_w + p.width"),
    ("threads without a row write", "layernorm.cu", r"else if \(group == 0\)", "else"),
    ("vectors where rows are not aligned", "layernorm.cu", r"p.width % VEC == 0 && aligned\(x\) && aligned\(y\)", "aligned(x) && aligned(y)"),
]
