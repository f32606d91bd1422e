MUTANTS = [
    ("no barrier after the tiles are used", "codebook.cu", r"__syncthreads\(\);  // the next round overwrites the tiles", ""),
    ("no barrier after the tiles are loaded", "codebook.cu", r"bad\[1\] : nullptr\);\n      __syncthreads\(\);", "bad[1] : nullptr);"),
    ("ties to the higher code", "codebook.cu", r"theirs < which\[r\]", "theirs > which[r]"),
    ("codewords past K compete", "codebook.cu", r"code < p.codes && d", "d"),
    ("loads rows past the end", "codebook.cu", r"first \+ r < rows && at", "at"),
    ("update: members read before all are listed", "codebook.cu", r"// ascending\n    __syncthreads\(\);", ""),
    ("update: votes read before all are in", "codebook.cu", r"__popc\(votes\);\n    __syncthreads\(\);", "__popc(votes);"),
    ("update: order of members lost", "codebook.cu", r"before \+ __popc\(votes & \(\(1u << lane\) - 1\)\)", "before + __popc(votes >> lane) - 1"),
]
