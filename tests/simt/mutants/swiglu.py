MUTANTS = [
    ("reads past the end", "swiglu.cu", r"n >= VEC && aligned\(y\)", "aligned(y)"),
    ("address not looked at", "swiglu.cu", r"aligned\(gate\) && aligned\(up\) && aligned\(dy\)", "true"),
    ("slope without its second term", "swiglu.cu", r"\(1.0f \+ g\[i\] \* \(1.0f - s\)\)", "1.0f"),
    ("last block left out", "swiglu.cu", r"if \(at >= p.len\) return;\n  const uint32_t n = p.len - at;\n  const bool fast = n >= VEC && aligned\(y", "if (at + VEC > p.len) return;\n  const uint32_t n = p.len - at;\n  const bool fast = n >= VEC && aligned(y"),
    ("tail overwrites the vector before", "common/vector.cuh", r"if \(i < n\) narrow", "narrow"),
]
