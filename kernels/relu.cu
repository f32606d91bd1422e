// relu: max(x, 0) in place, and its gradient in place of dy.
//
//   x ← max(x, 0)          dy ← dy where y > 0, else 0
//
// Shapes     x, y, dy [n], all f32 or all bf16
// Tiling     8 neighbouring elements a thread, 16-byte accesses
// Roofline   memory: bf16 4 bytes an element forward, 6 backward; f32 8 and 12
// Edges      NaN stays NaN; the last vector and addresses that do not divide by 16 go element by element
// Order      nothing is summed; results are exact
// Reference  engine/src/ops/relu/reference.rs
#include "relu.h"
#include "common/vector.cuh"

template <class T> PRIM void relu_forward(T* __restrict__ x, const ReluParams& p) {
  const uint32_t at = (blockIdx.x * RELU_THREADS + threadIdx.x) * VEC;
  if (at >= p.len) return;
  const uint32_t n = p.len - at;
  const bool fast = n >= VEC && aligned(x);
  float v[VEC];
  load8(v, x + at, n, fast);
#pragma unroll
  for (uint32_t i = 0; i < VEC; ++i) v[i] = v[i] < 0.0f ? 0.0f : v[i];
  store8(x + at, v, n, fast);
}

template <class T>
PRIM void relu_backward(T* __restrict__ dy, const T* __restrict__ y, const ReluParams& p) {
  const uint32_t at = (blockIdx.x * RELU_THREADS + threadIdx.x) * VEC;
  if (at >= p.len) return;
  const uint32_t n = p.len - at;
  const bool fast = n >= VEC && aligned(y) && aligned(dy);
  float v[VEC], d[VEC];
  load8(v, y + at, n, fast);
  load8(d, dy + at, n, fast);
#pragma unroll
  for (uint32_t i = 0; i < VEC; ++i) d[i] = v[i] > 0.0f ? d[i] : 0.0f;
  store8(dy + at, d, n, fast);
}

extern "C" __global__ void __launch_bounds__(RELU_THREADS)
relu_forward_f32(float* __restrict__ x, const ReluParams p) { relu_forward(x, p); }
SIMT_EXPORT(relu_forward_f32)

extern "C" __global__ void __launch_bounds__(RELU_THREADS)
relu_forward_bf16(bf16* __restrict__ x, const ReluParams p) { relu_forward(x, p); }
SIMT_EXPORT(relu_forward_bf16)

extern "C" __global__ void __launch_bounds__(RELU_THREADS)
relu_backward_f32(float* __restrict__ dy, const float* __restrict__ y, const ReluParams p) {
  relu_backward(dy, y, p);
}
SIMT_EXPORT(relu_backward_f32)

extern "C" __global__ void __launch_bounds__(RELU_THREADS)
relu_backward_bf16(bf16* __restrict__ dy, const bf16* __restrict__ y, const ReluParams p) {
  relu_backward(dy, y, p);
}
SIMT_EXPORT(relu_backward_bf16)
