// convert: a copy between f32 and bf16, rounded to nearest even on the way down.
//
//   y[at + i] = x[i]
//
// Shapes     x [n] f32 → y bf16, or x [n] bf16 → y f32
// Tiling     8 neighbouring elements a thread, 16-byte accesses
// Roofline   memory: 6 bytes an element
// Edges      the last vector and addresses that do not divide by 16 go element by element; NaN stays NaN
// Order      nothing is summed
// Reference  engine/src/ops/convert/mod.rs, on the CPU
#include "convert.h"
#include "common/vector.cuh"

template <class Y, class X>
PRIM void convert(Y* __restrict__ y, const X* __restrict__ x, const ConvertParams& p) {
  const size_t i = (size_t(blockIdx.x) * CONVERT_THREADS + threadIdx.x) * VEC;
  if (i >= p.len) return;
  const size_t left = p.len - i;
  const uint32_t n = uint32_t(min(left, size_t(VEC)));
  const bool fast = n == VEC && aligned(x) && aligned(y + p.at);
  float v[VEC];
  load8(v, x + i, n, fast);
  store8(y + p.at + i, v, n, fast);
}

extern "C" __global__ void __launch_bounds__(CONVERT_THREADS)
convert_f32_bf16(bf16* __restrict__ y, const float* __restrict__ x, const ConvertParams p) {
  convert(y, x, p);
}
SIMT_EXPORT(convert_f32_bf16)

extern "C" __global__ void __launch_bounds__(CONVERT_THREADS)
convert_bf16_f32(float* __restrict__ y, const bf16* __restrict__ x, const ConvertParams p) {
  convert(y, x, p);
}
SIMT_EXPORT(convert_bf16_f32)
