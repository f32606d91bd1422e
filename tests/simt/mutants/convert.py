MUTANTS = [
    ("the target's place not looked at", "convert.cu", r"aligned\(y \+ p.at\)", "aligned(y)"),
    ("the source not looked at", "convert.cu", r"aligned\(x\) && ", ""),
    ("reads past the end", "convert.cu", r"n == VEC && ", ""),
    ("written from the start", "convert.cu", r"store8\(y \+ p.at \+ i", "store8(y + i"),
    ("halves of a word swapped", "common/vector.cuh", r"v\[2 \* i\] = __uint_as_float\(u\[i\] << 16\);\n    v\[2 \* i \+ 1\]", "v[2 * i + 1] = __uint_as_float(u[i] << 16);\n    v[2 * i]"),
]
