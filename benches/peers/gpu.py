#!/usr/bin/env python3
"""The work of `sidra bench --device cuda` by PyTorch on the same GPU: torch.matmul (cuBLASLt), SDPA (cuDNN, then flash), fused AdamW,
torch.compile of norms and SwiGLU, F.cross_entropy (compiled, in chunks where logits would not fit), cdist and argmin.

    gpu.py [FILTER…]     measures the cases whose names hold one of the filters
    gpu.py --serve       reads a case's name a line and answers with its line: benches/peers/compare keeps one process warm
    gpu.py --list

A line of JSON a case: case, peer, version, p10_us, p50_us, p90_us. Operands are N(0, 1) bf16 where ours are, in as many sets as come to
256 MiB; a sample is one replay of a CUDA graph of as many calls as last about 100 µs (calls one by one where a graph cannot be captured).
"""

import argparse
import json
import math
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit("gpu.py: no torch in this Python; give one that has it")

GB = 1 << 30


def normal(*shape, scale=1.0, dtype=torch.bfloat16):
    return (torch.randn(*shape, device="cuda", dtype=torch.float32) * scale).to(dtype)


class Case:
    """make() → operands of one set; call(*operands) does the work once. `moved`: bytes of a set."""

    def __init__(self, name, peer, moved, make, call, graph=True):
        self.name, self.peer, self.moved, self.make, self.call, self.graph = name, peer, moved, make, call, graph


def gemm(name, m, k, n):
    moved = 2 * (m * k + n * k + m * n)
    yield Case(f"linear/{name}", "torch.matmul", moved, lambda: (normal(m, k), normal(n, k)), lambda x, w: x @ w.t())
    if name.startswith("k1t_1.5b"):
        yield Case(f"linear/{name}_dx", "torch.matmul", moved, lambda: (normal(m, n), normal(n, k)), lambda dy, w: dy @ w)
        yield Case(f"linear/{name}_dw", "torch.matmul", moved, lambda: (normal(m, n), normal(m, k)), lambda dy, x: dy.t() @ x)


def sdpa(name, b, s, h, kv, d):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    moved = 2 * b * s * d * (2 * h + 2 * kv)
    make = lambda grad: [normal(b, n, s, d).requires_grad_(grad) for n in (h, kv, kv)]
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        def forward(q, k, v, *_, backend=backend):
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=h != kv)

        def saved(forward=forward):
            q, k, v = make(True)
            o = forward(q, k, v)
            return q, k, v, o, torch.randn_like(o)

        peer = f"SDPA {backend.name.split('_')[0].lower()}"
        yield Case(f"attention/k3_{name}", peer, moved, lambda: make(False), forward)
        back = lambda q, k, v, o, d_o: torch.autograd.grad(o, (q, k, v), d_o, retain_graph=True)
        yield Case(f"attention/k4_{name}", peer, 2 * moved, saved, back, graph=False)


def beams(name, requests, w, prompt, steps, h, kv, d):
    """The prompt's keys are shared: every beam of a request is a query of one SDPA without a mask; the few keys of its own are a
    second, small one, merged by log-sum-exp. Timed is the first alone, so it flatters the peer."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    make = lambda: (normal(requests, h, w, d), normal(requests, kv, prompt, d), normal(requests, kv, prompt, d))

    def call(q, k, v):
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]):
            return F.scaled_dot_product_attention(q, k, v, enable_gqa=h != kv)

    moved = 2 * d * requests * (2 * w * h + 2 * prompt * kv)
    yield Case(f"attention_decode/k5_{name}", "SDPA over the prompt alone", moved, make, call)


def losses(name, rows, width, vocab):
    def loss(x, w, labels):
        return F.cross_entropy((x @ w.t()).float(), labels, reduction="sum")

    fast = torch.compile(loss)
    # Logits in f32 and their gradient, at most 4 GiB a chunk.
    chunk = max(1, min(rows, 4 * GB // (8 * vocab)))

    def call(x, w, labels):
        x.grad = w.grad = None
        for at in range(0, rows, chunk):
            fast(x[at : at + chunk], w, labels[at : at + chunk]).backward()

    def make():
        x, w = normal(rows, width).requires_grad_(), normal(vocab, width, scale=width**-0.5).requires_grad_()
        return x, w, torch.randint(vocab, (rows,), device="cuda")

    yield Case(f"cross_entropy/{name}", "torch.compile, chunks", 2 * (rows + 2 * vocab) * width, make, call, graph=False)


def pointwise(tokens, width, hidden, heads):
    norm = torch.compile(lambda x, w: F.rms_norm(x, (width,), w, 1e-6).to(torch.bfloat16))
    make = lambda: (normal(tokens, width, dtype=torch.float32), normal(width, dtype=torch.float32))
    yield Case(f"rmsnorm/k9_t{tokens}_d{width}_fwd", "torch.compile", 6 * tokens * width, make, norm)

    def saved():
        x, w = (t.requires_grad_() for t in make())
        y = norm(x, w)
        return x, w, y, torch.randn_like(y)

    back = lambda x, w, y, dy: torch.autograd.grad(y, (x, w), dy, retain_graph=True)
    yield Case(f"rmsnorm/k9_t{tokens}_d{width}_bwd", "torch.compile", 14 * tokens * width, saved, back, graph=False)

    gate = torch.compile(lambda g, u: F.silu(g) * u)
    pair = lambda grad: [normal(tokens * hidden).requires_grad_(grad) for _ in range(2)]
    yield Case(f"swiglu/k9_t{tokens}_f{hidden}_fwd", "torch.compile", 6 * tokens * hidden, lambda: pair(False), gate)

    def gated():
        g, u = pair(True)
        y = gate(g, u)
        return g, u, y, torch.randn_like(y)

    yield Case(f"swiglu/k9_t{tokens}_f{hidden}_bwd", "torch.compile", 10 * tokens * hidden, gated, back, graph=False)

    def rotate(x, cos, sin):
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(torch.bfloat16)

    def angles():
        at = torch.arange(tokens, device="cuda") % 512
        inverse = 1e6 ** (-torch.arange(0, 128, 2, device="cuda") / 128)
        phase = (at[:, None] * inverse[None, :])[:, None, :]
        return normal(tokens, heads, 128), phase.cos(), phase.sin()

    yield Case(f"rope/k9_t{tokens}_h{heads}", "torch.compile", 4 * tokens * heads * 128, angles, torch.compile(rotate))


def adamw(name, n):
    def make():
        w = torch.randn(n, device="cuda").requires_grad_()
        w.grad = torch.randn(n, device="cuda")
        return (torch.optim.AdamW([w], lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True),)

    yield Case(f"adamw/{name}", "AdamW(fused=True)", 28 * n, make, lambda optimiser: optimiser.step(), graph=False)


def codebook(name, n, d, k):
    make = lambda: (normal(n, d, dtype=torch.float32), normal(k, d, dtype=torch.float32))
    yield Case(f"codebook/assign_{name}", "cdist, argmin", 4 * (n + k) * d, make, lambda x, c: torch.cdist(x, c).argmin(1))

    def update(x, c, codes):
        sums = torch.zeros_like(c, dtype=torch.float64).index_add_(0, codes, x.double())
        return sums / torch.bincount(codes, minlength=k).clamp(min=1)[:, None]

    skewed = lambda: (*make(), torch.where(torch.arange(n) % 2 == 0, 0, torch.arange(n) * 7 % k).cuda())
    name = name.replace("k10", "k12")
    yield Case(f"codebook/update_{name}", "index_add_ in f64", 4 * n * d, skewed, update, graph=False)


def select(name, b, w, c):
    """The top of logits that are all allowed: what a mask costs comes on top."""
    def call(x, scores):
        p = torch.log_softmax(x, -1) + scores[..., None]
        return p.flatten(1).topk(w)

    make = lambda: (normal(b, w, c, dtype=torch.float32), normal(b, w, dtype=torch.float32))
    yield Case(f"trie_softmax/{name}", "log_softmax, topk, no mask", 4 * b * w * c, make, torch.compile(call))


def cases():
    for shape in (("k1_sq4096", 4096, 4096, 4096), ("k1_sq8192", 8192, 8192, 8192), ("k1t_1.5b_gateup", 16384, 1536, 17920),
                  ("k1t_0.5b_gateup", 16384, 896, 9728), ("k1t_3b_gateup", 16384, 2048, 22016), ("k2_1.5b_gateup_m50", 50, 1536, 17920),
                  ("k2_1.5b_gateup_m256", 256, 1536, 17920), ("k2_1.5b_down_m256", 256, 8960, 1536), ("k2_0.5b_gateup_m256", 256, 896, 9728),
                  ("k2_3b_gateup_m256", 256, 2048, 22016), ("gr_small_gateup_m2048", 2048, 256, 1536)):
        yield from gemm(*shape)
    for shape in (("0.5b_b32s512", 32, 512, 14, 2, 64), ("1.5b_b32s512", 32, 512, 12, 2, 128), ("3b_b32s512", 32, 512, 16, 2, 128),
                  ("h48_b4s1024", 4, 1024, 48, 48, 128), ("h48_b4s4096", 4, 4096, 48, 48, 128)):
        yield from sdpa(*shape)
    for shape in (("1.5b_b1w256s512", 1, 256, 512, 2, 12, 2, 128), ("1.5b_b32w256s512", 32, 256, 512, 2, 12, 2, 128),
                  ("qwen3_1.7b_b4w256s1000", 4, 256, 1000, 2, 16, 8, 128), ("h4_b8w256s4096", 8, 256, 4096, 2, 4, 4, 128)):
        yield from beams(*shape)
    for shape in (("k6t_t8192_d1536_v151936", 8192, 1536, 151936), ("sid_t8192_d1536_v1024", 8192, 1536, 1024),
                  ("gr_small_t2048_d256_v769", 2048, 256, 769)):
        yield from losses(*shape)
    yield from pointwise(16384, 1536, 8960, 12)
    yield from adamw("k8_64m", 64_000_000)
    yield from adamw("k8_494m", 494_000_000)
    yield from codebook("k10_n250000_d768", 250_000, 768, 256)
    yield from codebook("n65536_d384", 65_536, 384, 256)
    for shape in (("k7_1x50x256", 1, 50, 256), ("k7_1x256x256", 1, 256, 256), ("k7_1x256x8192", 1, 256, 8192),
                  ("k7_32x256x256", 32, 256, 256), ("k7_32x256x8192", 32, 256, 8192)):
        yield from select(*shape)


def measure(case, seconds):
    sets = [case.make() for _ in range(max(1, min(64, -(-(256 << 20) // max(case.moved, 1)))))]
    for operands in sets:
        case.call(*operands)
    torch.cuda.synchronize()
    mark = lambda: torch.cuda.Event(enable_timing=True)
    a, b = mark(), mark()
    a.record()
    for operands in (sets * 2)[:2]:
        case.call(*operands)
    b.record()
    b.synchronize()
    calls = max(1, min(1000, math.ceil(0.1 / max(a.elapsed_time(b) / 2, 1e-4))))

    def eager():
        for i in range(calls):
            case.call(*sets[i % len(sets)])

    run, how = eager, "eager"
    if case.graph:
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                eager()
            run, how = graph.replay, "graph"
        except RuntimeError:
            torch.cuda.synchronize()
    times, spent = [], 0.0
    while len(times) < 5 or (spent < seconds * 1e3 and len(times) < 2000):
        marks = [mark() for _ in range(9)]
        marks[0].record()
        for m in marks[1:]:
            run()
            m.record()
        marks[-1].synchronize()
        times += [x.elapsed_time(y) / calls for x, y in zip(marks, marks[1:])]
        spent += marks[0].elapsed_time(marks[-1])
    times.sort()
    at = lambda share: times[round((len(times) - 1) * share)] * 1e3
    return {"case": case.name, "peer": f"{case.peer}, {how}", "version": torch.__version__, "p10_us": at(0.1), "p50_us": at(0.5),
            "p90_us": at(0.9), "samples": len(times), "sets": len(sets)}


def answer(name, known, seconds):
    """The best peer of the case, or why there is none."""
    results, why = [], "no peer for this case"
    for case in known.get(name, []):
        try:
            results.append(measure(case, seconds))
        except Exception as e:  # a backend that does not take the shape, or no memory for it
            why = f"{case.peer}: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
        torch.cuda.empty_cache()
    return min(results, key=lambda r: r["p50_us"]) if results else {"case": name, "error": why}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("filters", nargs="*")
    p.add_argument("--seconds", type=float, default=0.5)
    p.add_argument("--serve", action="store_true")
    p.add_argument("--list", action="store_true")
    args = p.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu.py: torch sees no GPU")
    torch.manual_seed(1)
    known = {}
    for case in cases():
        known.setdefault(case.name, []).append(case)
    if args.serve:
        for line in sys.stdin:
            print(json.dumps(answer(line.strip(), known, args.seconds)), flush=True)
        return
    for name in known:
        if args.list:
            print(name)
        elif not args.filters or any(f in name for f in args.filters):
            print(json.dumps(answer(name, known, args.seconds)), flush=True)


if __name__ == "__main__":
    main()
