// rope: rotary position embedding in place, halves of a head rotated against each other.
//
//   φ = position[t]·frequency[i]    y[i] = x[i]·cos φ − x[i + D/2]·sin φ
//                                   y[i + D/2] = x[i + D/2]·cos φ + x[i]·sin φ       backward: −φ
//
// Shapes     x [T, H·D] f32 or bf16 · position [T] u32 · frequency [D / 2] f64, among the parameters
// Tiling     a block TOKENS tokens: first their D/2 angles each into shared memory, once for all heads,
//            then 8 pairs of a head a thread at a time, 16-byte accesses to both halves
// Roofline   memory: 4 bytes an element (bf16), 8 (f32). Angles cost six f64 operations a pair and token
// Edges      D/2 up to PAIRS; where it does not divide by 8, element by element
// Order      nothing is summed
// Angles     φ is one f64 product, the same as on the CPU; its remainder to a multiple of π/2 is taken in
//            f64, so sine and cosine are those of φ to f32 rounding at position 0 and at 4 billion
// Reference  engine/src/ops/rope/reference.rs
#include "rope.h"
#include "common/vector.cuh"

// cos φ, sin φ, each within one f32 step at 1. Taylor series on |r| ≤ π/4: the first terms left out are
// below 2⁻²⁹ (r¹¹/11!) and 2⁻³³ (r¹²/12!).
PRIM float2 rope_cos_sin(double angle) {
  const double quarter = rint(angle * 0.63661977236758134);  // 2/π
  // π/2 as the sum of two doubles: over 2.7·10⁹ quarters the first alone would be 1.7·10⁻⁷ off.
  const double rest = fma(-quarter, 6.123233995736766e-17, fma(-quarter, 1.5707963267948966, angle));
  const float r = float(rest), low = float(rest - double(r)), z = r * r;
  float sin = r + r * z * (-1.0f / 6 + z * (1.0f / 120 + z * (-1.0f / 5040 + z * (1.0f / 362880))));
  float cos = 1.0f + z * (-0.5f + z * (1.0f / 24 + z * (-1.0f / 720 + z * (1.0f / 40320 + z * (-1.0f / 3628800)))));
  const float s = sin;
  sin = fmaf(cos, low, sin);
  cos = fmaf(-s, low, cos);
  const uint32_t turn = uint32_t(int64_t(quarter)) & 3;
  const float c = turn % 2 ? sin : cos, t = turn % 2 ? cos : sin;
  return make_float2(turn == 1 || turn == 2 ? -c : c, turn >= 2 ? -t : t);
}

template <class T>
PRIM void rope_rotate(T* __restrict__ x, const uint32_t* __restrict__ position, float* cosine,
                      float* sine, const RopeParams& p) {
  const uint32_t first = blockIdx.x * ROPE_TOKENS, tokens = min(p.tokens - first, uint32_t(ROPE_TOKENS));
  for (uint32_t i = threadIdx.x; i < tokens * p.pairs; i += ROPE_THREADS) {
    const uint32_t t = i / p.pairs, pair = i % p.pairs;
    const float2 at = rope_cos_sin(double(position[first + t]) * p.frequency[pair]);
    cosine[t * ROPE_PAIRS + pair] = at.x;
    sine[t * ROPE_PAIRS + pair] = p.sign * at.y;
  }
  __syncthreads();
  const bool fast = p.pairs % VEC == 0 && aligned(x);
  const uint32_t chunks = (p.pairs + VEC - 1) / VEC, row = p.heads * chunks;
#pragma unroll 2
  for (uint32_t i = threadIdx.x; i < tokens * row; i += ROPE_THREADS) {
    const uint32_t t = i / row, head = i % row / chunks, pair = i % chunks * VEC;
    T* low = x + (size_t(first + t) * p.heads + head) * 2 * p.pairs + pair;
    const uint32_t n = p.pairs - pair;
    float a[VEC], b[VEC];
    load8(a, low, n, fast);
    load8(b, low + p.pairs, n, fast);
#pragma unroll
    for (uint32_t k = 0; k < VEC; ++k) {
      if (k >= n) continue;
      const float c = cosine[t * ROPE_PAIRS + pair + k], s = sine[t * ROPE_PAIRS + pair + k], u = a[k];
      a[k] = u * c - b[k] * s;
      b[k] = b[k] * c + u * s;
    }
    store8(low, a, n, fast);
    store8(low + p.pairs, b, n, fast);
  }
}

extern "C" __global__ void __launch_bounds__(ROPE_THREADS)
rope_f32(float* __restrict__ x, const uint32_t* __restrict__ position, const RopeParams p) {
  __shared__ float cosine[ROPE_TOKENS * ROPE_PAIRS], sine[ROPE_TOKENS * ROPE_PAIRS];
  rope_rotate(x, position, cosine, sine, p);
}
SIMT_EXPORT(rope_f32)

extern "C" __global__ void __launch_bounds__(ROPE_THREADS)
rope_bf16(bf16* __restrict__ x, const uint32_t* __restrict__ position, const RopeParams p) {
  __shared__ float cosine[ROPE_TOKENS * ROPE_PAIRS], sine[ROPE_TOKENS * ROPE_PAIRS];
  rope_rotate(x, position, cosine, sine, p);
}
SIMT_EXPORT(rope_bf16)
