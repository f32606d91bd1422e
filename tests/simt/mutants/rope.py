MUTANTS = [
    ("no barrier behind the angles", "rope.cu", r"  __syncthreads\(\);\n  const bool fast", "  const bool fast"),
    ("the angle in f32", "rope.cu", r"double\(position\[first \+ t\]\) \* p.frequency\[pair\]", "double(float(position[first + t]) * float(p.frequency[pair]))"),
    ("a quarter turn in f32", "rope.cu", r"1.5707963267948966", "1.57079637"),
    ("signs of the third quarter", "rope.cu", r"turn >= 2 \? -t : t", "turn == 2 ? -t : t"),
    ("the last block takes four tokens", "rope.cu", r"min\(p.tokens - first, uint32_t\(ROPE_TOKENS\)\)", "uint32_t(ROPE_TOKENS)"),
    ("address not looked at", "rope.cu", r"p.pairs % VEC == 0 && aligned\(x\)", "p.pairs % VEC == 0"),
    ("the rotated half is used for the other", "rope.cu", r"b\[k\] \* c \+ u \* s", "b[k] * c + a[k] * s"),
]
