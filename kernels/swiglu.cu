// swiglu: the gated unit of the feed-forward block, element by element.
//
//   σ = 1 / (1 + e^−gate)                y     = gate·σ·up
//   dgate = dy·up·σ·(1 + gate·(1 − σ))   dup   = dy·gate·σ
//
// Shapes     gate, up, y, dy, dgate, dup [n], all f32 or all bf16; f32 inside, rounded once
// Tiling     8 neighbouring elements a thread, 16-byte accesses
// Roofline   memory: bf16 6 bytes an element forward, 10 backward; f32 12 and 20
// Edges      the last vector and addresses that do not divide by 16 go element by element
// Order      nothing is summed
// Reference  engine/src/ops/swiglu/reference.rs
#include "swiglu.h"
#include "common/vector.cuh"

PRIM float swiglu_sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <class T>
PRIM void swiglu_forward(T* __restrict__ y, const T* __restrict__ gate, const T* __restrict__ up,
                         const SwigluParams& p) {
  const uint32_t at = (blockIdx.x * SWIGLU_THREADS + threadIdx.x) * VEC;  // below 2³¹ + 8·THREADS
  if (at >= p.len) return;
  const uint32_t n = p.len - at;
  const bool fast = n >= VEC && aligned(y) && aligned(gate) && aligned(up);
  float g[VEC], u[VEC];
  load8(g, gate + at, n, fast);
  load8(u, up + at, n, fast);
#pragma unroll
  for (uint32_t i = 0; i < VEC; ++i) u[i] = g[i] * swiglu_sigmoid(g[i]) * u[i];
  store8(y + at, u, n, fast);
}

template <class T>
PRIM void swiglu_backward(T* __restrict__ dgate, T* __restrict__ dup, const T* __restrict__ gate,
                          const T* __restrict__ up, const T* __restrict__ dy, const SwigluParams& p) {
  const uint32_t at = (blockIdx.x * SWIGLU_THREADS + threadIdx.x) * VEC;
  if (at >= p.len) return;
  const uint32_t n = p.len - at;
  const bool fast = n >= VEC && aligned(dgate) && aligned(dup) && aligned(gate) && aligned(up) && aligned(dy);
  float g[VEC], u[VEC], d[VEC];
  load8(g, gate + at, n, fast);
  load8(u, up + at, n, fast);
  load8(d, dy + at, n, fast);
#pragma unroll
  for (uint32_t i = 0; i < VEC; ++i) {
    const float s = swiglu_sigmoid(g[i]), by_up = d[i] * u[i];
    u[i] = d[i] * g[i] * s;
    d[i] = by_up * s * (1.0f + g[i] * (1.0f - s));
  }
  store8(dgate + at, d, n, fast);
  store8(dup + at, u, n, fast);
}

extern "C" __global__ void __launch_bounds__(SWIGLU_THREADS)
swiglu_forward_f32(float* __restrict__ y, const float* __restrict__ gate, const float* __restrict__ up,
                   const SwigluParams p) {
  swiglu_forward(y, gate, up, p);
}
SIMT_EXPORT(swiglu_forward_f32)

extern "C" __global__ void __launch_bounds__(SWIGLU_THREADS)
swiglu_forward_bf16(bf16* __restrict__ y, const bf16* __restrict__ gate, const bf16* __restrict__ up,
                    const SwigluParams p) {
  swiglu_forward(y, gate, up, p);
}
SIMT_EXPORT(swiglu_forward_bf16)

extern "C" __global__ void __launch_bounds__(SWIGLU_THREADS)
swiglu_backward_f32(float* __restrict__ dgate, float* __restrict__ dup, const float* __restrict__ gate,
                    const float* __restrict__ up, const float* __restrict__ dy, const SwigluParams p) {
  swiglu_backward(dgate, dup, gate, up, dy, p);
}
SIMT_EXPORT(swiglu_backward_f32)

extern "C" __global__ void __launch_bounds__(SWIGLU_THREADS)
swiglu_backward_bf16(bf16* __restrict__ dgate, bf16* __restrict__ dup, const bf16* __restrict__ gate,
                     const bf16* __restrict__ up, const bf16* __restrict__ dy, const SwigluParams p) {
  swiglu_backward(dgate, dup, gate, up, dy, p);
}
SIMT_EXPORT(swiglu_backward_bf16)
