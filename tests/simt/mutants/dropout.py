MUTANTS = [
    ("nine rounds", "common/philox.cuh", r"round < 10", "round < 9"),
    ("the counter's high word left out", "common/philox.cuh", r"c1 = uint32_t\(index >> 32\)", "c1 = 0"),
    ("the offset's place in its block left out", "dropout.cu", r"skip = uint32_t\(p.offset\) % 4", "skip = 0"),
    ("the third block not drawn", "dropout.cu", r"if \(skip > 0\) c =", "if (skip > 3) c ="),
    ("kept where the draw equals p", "dropout.cu", r"draw >> 8 < p.below", "(draw >> 8) + (1u << 12) < p.below"),
    ("infinity times zero", "dropout.cu", r"\? 0.0f : v\[i\] \* p.scale", "? v[i] * 0.0f : v[i] * p.scale"),
    ("the seed of the parameters instead of the device's", "dropout.cu", r"dropout\(x, key, name, p\);\n\}\n\nextern", "dropout(x, p.key, name, p);\n}\n\nextern"),
    ("reads past the end", "dropout.cu", r"n >= VEC && aligned", "aligned"),
]
