MUTANTS = [
    ("NaN is taken for a norm", "adamw.cu", r"norm < HUGE_VAL", "!(norm == HUGE_VAL)"),
    ("a step that is not live changes weights", "adamw.cu", r"if \(!f.live\) return;", ""),
    ("no clipping", "adamw.cu", r"p.clip > 0.0 && norm > p.clip", "false"),
    ("the clip ignores the scale", "adamw.cu", r"sqrt\(total\[0\]\) \* fabs\(double\(p.grad_scale\)\)", "sqrt(total[0])"),
    ("bias correction one step late", "adamw.cu", r"const uint64_t t = state\[0\] \+ 1;\n    state\[0\] = t;", "const uint64_t t = state[0] + 2;\n    state[0] = t - 1;"),
    ("every tensor decays", "adamw.cu", r"entry\[6\] \? f.keep : 1.0f", "f.keep"),
    ("epsilon inside the root", "adamw.cu", r"fmaf\(sqrtf\(v\[i\]\), f.root, p.eps\)", "sqrtf(v[i] * f.root * f.root + p.eps)"),
    ("a piece runs into the next", "adamw.cu", r"min\(entry\[5\] - first, uint64_t\(ADAMW_PIECE\)\)", "entry[5] - first"),
    ("the copy is of the old weights", "adamw.cu", r"if \(copy\) store8\(copy \+ at, ws", "if (copy) store8(copy + at, gs"),
    ("the second piece writes the first copy", "adamw.cu", r"\(entry\[4\]\) \+ first", "(entry[4])"),
    ("address not looked at", "adamw.cu", r"whole = aligned\(w\).*?;", "whole = true;"),
]
