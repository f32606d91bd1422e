# The emulation itself: what it is there to notice.
MUTANTS = [
    ("registers of a product read before it is over", "conformance/hopper_sm90.cu", r"  wgmma_commit\(\);\n  wgmma_wait<0>\(\);\n  hold", "  wgmma_commit();\n  hold"),
    ("an operand in registers overwritten in flight", "conformance/hopper_sm90.cu", r"  wgmma_commit\(\);\n  wgmma_wait<0>\(\);", "  wgmma_commit();\n  left[5] = 0;\n  wgmma_wait<0>();"),
    ("no fence before the first product", "conformance/hopper_sm90.cu", r"  wgmma_fence\(\);\n#pragma", "#pragma"),
    ("the next box of a wide operand at the wrong place", "conformance/hopper_sm90.cu", r"32\), TILE_BYTES, 1024\)", "32), TILE_BYTES / 2, 1024)"),
    ("a turn given twice", "conformance/hopper_sm90.cu", r"named_arrive\(1, 64\);  // the slot is empty", "named_arrive(1, 64), named_arrive(1, 64);"),
    ("a turn that nobody takes", "conformance/hopper_sm90.cu", r"  if \(threadIdx.x < 32\) named_sync\(1, 64\);\n", ""),
    ("the emptier does not wait", "conformance/hopper_sm90.cu", r"      named_sync\(2, 64\);\n", "      named_arrive(2, 64);\n"),
    ("a bulk copy's source left to its fate", "conformance/hopper_sm90.cu", r"    bulk_wait_read<0>\(\);\n", ""),
    ("more registers than a thread can have", "conformance/hopper_sm90.cu", r"setmaxnreg_inc<232>", "setmaxnreg_inc<264>"),
    ("a warp that keeps its registers", "conformance/hopper_sm90.cu", r"if \(threadIdx.x < 128\) setmaxnreg_dec<40>\(\);\n  else", "if (threadIdx.x < 32) setmaxnreg_dec<40>();\n  else if (threadIdx.x >= 128)"),
]
