MUTANTS = [
    ("NaN becomes 0", "relu.cu", r"v\[i\] < 0.0f \? 0.0f : v\[i\]", "v[i] > 0.0f ? v[i] : 0.0f"),
    ("the gradient where y is 0", "relu.cu", r"v\[i\] > 0.0f \? d\[i\]", "v[i] >= 0.0f ? d[i]"),
    ("reads past the end", "relu.cu", r"n >= VEC && aligned\(x\)", "aligned(x)"),
    ("address not looked at", "relu.cu", r"aligned\(y\) && aligned\(dy\)", "true"),
    ("the last vector left out", "relu.cu", r"if \(at >= p.len\) return;", "if (at + VEC > p.len) return;"),
]
