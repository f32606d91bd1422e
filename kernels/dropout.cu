// dropout: inverted dropout in place, from the counter-based stream that the CPU draws from.
//
//   x[i] ← 0 where uniform(offset + i) < p, else x[i] / (1 − p)
//
// Shapes     x [n] f32 or bf16
// Tiling     8 neighbouring elements a thread: two blocks of four draws, three where the offset does not
//            divide by 4; 16-byte accesses
// Roofline   memory: 4 bytes an element (bf16), 8 (f32); a block of draws is about 60 integer
//            instructions, 15 to 23 an element, which is less on sm_90 and about as much on sm_80
// Edges      a dropped element is 0 even where it was infinite or NaN; the last vector and addresses that
//            do not divide by 16 go element by element
// Order      an element's draw depends on its number alone: tiles and alignment do not show
// Reference  engine/src/ops/dropout/reference.rs
#include "dropout.h"
#include "common/philox.cuh"
#include "common/vector.cuh"

template <class T>
PRIM void dropout(T* __restrict__ x, const uint32_t (&key)[2], const uint32_t (&name)[2],
                  const DropoutParams& p) {
  const uint32_t at = (blockIdx.x * DROPOUT_THREADS + threadIdx.x) * VEC;
  if (at >= p.len) return;
  const uint32_t n = p.len - at;
  const bool fast = n >= VEC && aligned(x);
  const uint64_t first = (p.offset + at) / 4;
  const uint32_t skip = uint32_t(p.offset) % 4;  // `at` divides by 8
  const uint4 a = philox(key, name, first), b = philox(key, name, first + 1);
  uint4 c = make_uint4(0, 0, 0, 0);
  if (skip > 0) c = philox(key, name, first + 2);
  const uint32_t draws[12] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w, c.x, c.y, c.z, c.w};
  float v[VEC];
  load8(v, x + at, n, fast);
#pragma unroll
  for (uint32_t i = 0; i < VEC; ++i) {
    uint32_t draw = draws[i];  // draws[i + skip], without an index that would cost local memory
#pragma unroll
    for (uint32_t s = 1; s < 4; ++s) draw = skip == s ? draws[i + s] : draw;
    v[i] = draw >> 8 < p.below ? 0.0f : v[i] * p.scale;
  }
  store8(x + at, v, n, fast);
}

extern "C" __global__ void __launch_bounds__(DROPOUT_THREADS)
dropout_f32(float* __restrict__ x, const DropoutParams p) { dropout(x, p.key, p.name, p); }
SIMT_EXPORT(dropout_f32)

extern "C" __global__ void __launch_bounds__(DROPOUT_THREADS)
dropout_bf16(bf16* __restrict__ x, const DropoutParams p) { dropout(x, p.key, p.name, p); }
SIMT_EXPORT(dropout_bf16)

// The same with the stream from device memory [4]: key, then name. A captured graph draws new masks at
// every launch when the words there are changed.
template <class T>
PRIM void dropout_from(T* __restrict__ x, const uint32_t* __restrict__ stream, const DropoutParams& p) {
  const uint32_t key[2] = {stream[0], stream[1]}, name[2] = {stream[2], stream[3]};
  dropout(x, key, name, p);
}

extern "C" __global__ void __launch_bounds__(DROPOUT_THREADS)
dropout_from_f32(float* __restrict__ x, const uint32_t* __restrict__ stream, const DropoutParams p) {
  dropout_from(x, stream, p);
}
SIMT_EXPORT(dropout_from_f32)

extern "C" __global__ void __launch_bounds__(DROPOUT_THREADS)
dropout_from_bf16(bf16* __restrict__ x, const uint32_t* __restrict__ stream, const DropoutParams p) {
  dropout_from(x, stream, p);
}
SIMT_EXPORT(dropout_from_bf16)
