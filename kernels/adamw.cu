// adamw: one step of AdamW over all of a model's tensors in one launch, with clipping by global norm.
//
//   g' = grad_scale·g      m ← β₁·m + (1 − β₁)·g'      v ← β₂·v + (1 − β₂)·g'²
//   w ← (1 − lr·decay)·w − lr·m̂ / (√v̂ + ε),      m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)      copy ← bf16(w)
//
// Shapes     w, g, m, v f32 of any length, copy bf16 or absent, by a table of addresses · total [1] f64: Σ g² as
//            reduce leaves it · loss [1] f64: the sum of the losses · pace, factors: a struct each
// Tiling     prepare: one thread. step: a block a PIECE of a tensor, 8 neighbouring elements a thread at a time
// Roofline   memory: 28 bytes a weight, 30 with a copy
// Edges      a norm or a loss that is not finite: t stays, `skipped` grows, no weight and no moment changes; the last
//            vector and addresses that do not divide by 16 go element by element
// Order      nothing is summed: an element's bits depend on its own values, t, lr and the norm
// Reference  engine/src/ops/adamw/reference.rs
#include "adamw.h"
#include "common/vector.cuh"

// baseᵗ by squaring: at most 64 steps.
PRIM double adamw_power(double base, uint64_t t) {
  double power = 1.0;
  for (; t > 0; t /= 2, base *= base) {
    if (t % 2) power *= base;
  }
  return power;
}

// Reads norm, loss and pace on the device, so that no launch waits for the host and a captured graph may be
// launched again and again.
extern "C" __global__ void __launch_bounds__(1)
adamw_prepare(AdamwFactors* __restrict__ factors, const double* __restrict__ total,
              const double* __restrict__ loss, const AdamwPace* __restrict__ pace, const AdamwParams p) {
  const double scale = double(pace[0].grad_scale), lr = double(pace[0].rate);
  const double norm = sqrt(total[0]) * fabs(scale);
  AdamwFactors f = {};
  f.norm = norm;
  f.loss = loss[0];
  f.steps = factors[0].steps;
  f.skipped = factors[0].skipped;
  f.live = norm < HUGE_VAL && fabs(f.loss) < HUGE_VAL;  // false for NaN too
  if (f.live) {
    const uint64_t t = ++f.steps;
    f.grad_scale = float(p.clip > 0.0 && norm > p.clip ? scale * (p.clip / norm) : scale);
    f.rate = float(lr / (1.0 - adamw_power(p.beta1, t)));
    f.root = float(1.0 / sqrt(1.0 - adamw_power(p.beta2, t)));
    f.keep = float(1.0 - lr * p.weight_decay);
  } else {
    ++f.skipped;
  }
  factors[0] = f;
}
SIMT_EXPORT(adamw_prepare)

// 8 weights and their moments.
PRIM void adamw_update(float (&w)[VEC], const float (&g)[VEC], float (&m)[VEC], float (&v)[VEC],
                       const AdamwFactors& f, float keep, const AdamwParams& p) {
  const float beta1 = float(p.beta1), rest1 = float(1.0 - p.beta1);
  const float beta2 = float(p.beta2), rest2 = float(1.0 - p.beta2), eps = float(p.eps);
#pragma unroll
  for (uint32_t i = 0; i < VEC; ++i) {
    const float d = g[i] * f.grad_scale;
    m[i] = fmaf(m[i], beta1, d * rest1);
    v[i] = fmaf(v[i], beta2, d * d * rest2);
    w[i] = w[i] * keep - m[i] * f.rate / fmaf(sqrtf(v[i]), f.root, eps);
  }
}

extern "C" __global__ void __launch_bounds__(ADAMW_THREADS)
adamw_step(const uint64_t* __restrict__ table, const uint32_t* __restrict__ piece,
           const AdamwFactors* __restrict__ factors, const AdamwParams p) {
  const AdamwFactors f = factors[0];
  if (!f.live) return;
  const uint64_t* entry = table + size_t(piece[2 * blockIdx.x]) * ADAMW_ENTRY;
  const uint64_t first = uint64_t(piece[2 * blockIdx.x + 1]) * ADAMW_PIECE;
  float* w = reinterpret_cast<float*>(entry[0]) + first;
  const float* g = reinterpret_cast<const float*>(entry[1]) + first;
  float* m = reinterpret_cast<float*>(entry[2]) + first;
  float* v = reinterpret_cast<float*>(entry[3]) + first;
  bf16* copy = entry[4] ? reinterpret_cast<bf16*>(entry[4]) + first : nullptr;
  const uint32_t len = uint32_t(min(entry[5] - first, uint64_t(ADAMW_PIECE)));
  const float keep = entry[6] ? f.keep : 1.0f;
  const bool whole = aligned(w) && aligned(g) && aligned(m) && aligned(v) && aligned(copy);
  for (uint32_t at = threadIdx.x * VEC; at < len; at += ADAMW_THREADS * VEC) {
    const uint32_t n = len - at;
    const bool fast = whole && n >= VEC;
    float ws[VEC], gs[VEC], ms[VEC], vs[VEC];
    load8(ws, w + at, n, fast);
    load8(gs, g + at, n, fast);
    load8(ms, m + at, n, fast);
    load8(vs, v + at, n, fast);
    adamw_update(ws, gs, ms, vs, f, keep, p);
    store8(w + at, ws, n, fast);
    store8(m + at, ms, n, fast);
    store8(v + at, vs, n, fast);
    if (copy) store8(copy + at, ws, n, fast);
  }
}
SIMT_EXPORT(adamw_step)
