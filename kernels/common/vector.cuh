// Eight neighbouring elements at a time, as f32: how the memory-bound families read and write. Whole
// vectors at aligned addresses go in accesses of 16 bytes (one for bf16, two for f32), all others
// element by element, in the same lane and to the same result.
// Elsewhere: hardware verbs (prim.cuh), reductions over a warp (warp.cuh).
#pragma once
#include "warp.cuh"

constexpr uint32_t VEC = 8;

PRIM float widen(float x) { return x; }
PRIM float widen(bf16 x) { return __bfloat162float(x); }
PRIM void narrow(float& y, float x) { y = x; }
PRIM void narrow(bf16& y, float x) { y = __float2bfloat16_rn(x); }

// Whether 16-byte accesses may start at `p`.
PRIM bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

PRIM void load_vector(float (&v)[VEC], const float* p) {
  const uint4 a = load_16(p), b = load_16(p + 4);
  const uint32_t u[VEC] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
  for (uint32_t i = 0; i < VEC; ++i) v[i] = __uint_as_float(u[i]);
}
PRIM void load_vector(float (&v)[VEC], const bf16* p) {
  const uint4 a = load_16(p);
  const uint32_t u[VEC / 2] = {a.x, a.y, a.z, a.w};
#pragma unroll
  for (uint32_t i = 0; i < VEC / 2; ++i) {
    v[2 * i] = __uint_as_float(u[i] << 16);
    v[2 * i + 1] = __uint_as_float(u[i] & 0xffff0000u);
  }
}
PRIM void store_vector(float* p, const float (&v)[VEC]) {
  uint32_t u[VEC];
#pragma unroll
  for (uint32_t i = 0; i < VEC; ++i) u[i] = __float_as_uint(v[i]);
  store_16(p, make_uint4(u[0], u[1], u[2], u[3]));
  store_16(p + 4, make_uint4(u[4], u[5], u[6], u[7]));
}
PRIM void store_vector(bf16* p, const float (&v)[VEC]) {
  store_16(p, make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]),
                         pack_bf16(v[6], v[7])));
}

// v ← p[0 .. 8), zeros from `n` on. `fast`: all eight are there and `p` is aligned.
template <class T> PRIM void load8(float (&v)[VEC], const T* p, uint32_t n, bool fast) {
  if (fast) {
    load_vector(v, p);
  } else {
#pragma unroll
    for (uint32_t i = 0; i < VEC; ++i) v[i] = i < n ? widen(p[i]) : 0.0f;
  }
}

// p[0 .. min(n, 8)) ← v.
template <class T> PRIM void store8(T* p, const float (&v)[VEC], uint32_t n, bool fast) {
  if (fast) {
    store_vector(p, v);
  } else {
#pragma unroll
    for (uint32_t i = 0; i < VEC; ++i) {
      if (i < n) narrow(p[i], v[i]);
    }
  }
}

// Sum over `lanes` neighbouring lanes, a power of two up to 32; every lane of them gets it. The whole
// warp must arrive.
PRIM float group_sum(float v, uint32_t lanes) {
  for (uint32_t step = lanes / 2; step > 0; step /= 2) v += __shfl_xor_sync(ALL_LANES, v, int(step));
  return v;
}
