// conformance/ampere: one hardware primitive a kernel, on data whose every element says where it came
// from. tests/cuda/conformance.rs compares with plain arithmetic: over the emulated driver that vouches
// for the emulation, on a GPU (REQUIRE_GPU=1) for the inline PTX that it stands for.
//
// Shapes     one block; `in` and `out` are 32-bit words, as many as bindings::conformance says
// Edges      none: these are no operators
// Elsewhere  mbarrier, TMA, wgmma, setmaxnreg (hopper_sm90.cu)
#include "common/warp.cuh"

// Row r of four 8 × 8 matrices of 16-bit elements is in[4r .. 4r + 4]; lane l points at row l.
// out[8·l + 0 .. 4] as they are, out[8·l + 4 .. 8] transposed.
extern "C" __global__ void __launch_bounds__(32)
conformance_ldmatrix(uint32_t* __restrict__ out, const uint32_t* __restrict__ in) {
  __shared__ __align__(16) uint32_t rows[32][4];
  const uint32_t lane = threadIdx.x;
  for (uint32_t i = 0; i < 4; ++i) rows[lane][i] = in[4 * lane + i];
  __syncwarp();
  uint32_t plain[4], turned[4];
  ldmatrix_x4(plain, rows[lane]);
  ldmatrix_x4_trans(turned, rows[lane]);
  for (uint32_t i = 0; i < 4; ++i) out[8 * lane + i] = plain[i], out[8 * lane + 4 + i] = turned[i];
}
SIMT_EXPORT(conformance_ldmatrix)

// Global memory 16 bytes an access: lane l moves the 16 bytes in[4·l ..] to out[4·(31 − l) ..].
extern "C" __global__ void __launch_bounds__(32)
conformance_access_16(uint32_t* __restrict__ out, const uint32_t* __restrict__ in) {
  store_16(out + 4 * (31 - threadIdx.x), load_16(in + 4 * threadIdx.x));
}
SIMT_EXPORT(conformance_access_16)

// D = C + A·B: A [16, 16] and B [8, 16] (n outermost, k contiguous) bf16, C and D [16, 8] f32, in this
// order in `in`. Fragments are read as PTX lays them out, without ldmatrix.
extern "C" __global__ void __launch_bounds__(32)
conformance_mma(uint32_t* __restrict__ out, const uint32_t* __restrict__ in) {
  const uint32_t group = threadIdx.x / 4, pair = threadIdx.x % 4;
  const uint32_t *a = in, *b = in + 16 * 8, *c = in + 16 * 8 + 8 * 8;
  const uint32_t fragment[4] = {a[group * 8 + pair], a[(group + 8) * 8 + pair], a[group * 8 + pair + 4],
                                a[(group + 8) * 8 + pair + 4]};
  float d[4];
  for (uint32_t i = 0; i < 4; ++i) {
    d[i] = __uint_as_float(c[(group + i / 2 * 8) * 8 + 2 * pair + i % 2]);
  }
  mma_bf16(d, fragment, b[group * 8 + pair], b[group * 8 + pair + 4]);
  for (uint32_t i = 0; i < 4; ++i) {
    out[(group + i / 2 * 8) * 8 + 2 * pair + i % 2] = __float_as_uint(d[i]);
  }
}
SIMT_EXPORT(conformance_mma)

// Two groups of 16-byte copies, in[4·l ..] and in[128 + 4·l ..]; lane l copies l % 17 bytes and fills the
// rest with zeros. The first half of `out` is written when only the second group may be in flight.
extern "C" __global__ void __launch_bounds__(32)
conformance_cp_async(uint32_t* __restrict__ out, const uint32_t* __restrict__ in) {
  __shared__ __align__(16) uint32_t rows[2][32][4];
  const uint32_t lane = threadIdx.x;
  for (uint32_t half = 0; half < 2; ++half) {
    for (uint32_t i = 0; i < 4; ++i) rows[half][lane][i] = 0xdeadbeef;
    cp_async_16(rows[half][lane], in + 128 * half + 4 * lane, lane % 17);
    cp_async_commit();
  }
  cp_async_wait<1>();
  for (uint32_t i = 0; i < 4; ++i) out[4 * lane + i] = rows[0][lane][i];
  cp_async_wait<0>();
  for (uint32_t i = 0; i < 4; ++i) out[128 + 4 * lane + i] = rows[1][lane][i];
}
SIMT_EXPORT(conformance_cp_async)

// out[l] = the bf16 pair of the floats in[2·l], in[2·l + 1] (to nearest, ties to even);
// out[32 + l] = the lane's sum, out[64 + l] its maximum, over the warp, of the floats in[2·l].
extern "C" __global__ void __launch_bounds__(32)
conformance_warp(uint32_t* __restrict__ out, const uint32_t* __restrict__ in) {
  const uint32_t lane = threadIdx.x;
  const float a = __uint_as_float(in[2 * lane]), b = __uint_as_float(in[2 * lane + 1]);
  out[lane] = pack_bf16(a, b);
  out[32 + lane] = __float_as_uint(warp_sum(a));
  out[64 + lane] = __float_as_uint(warp_max(a));
}
SIMT_EXPORT(conformance_warp)

// out[l] = 2ˣ of the float in[l].
extern "C" __global__ void __launch_bounds__(32)
conformance_exp2(uint32_t* __restrict__ out, const uint32_t* __restrict__ in) {
  out[threadIdx.x] = __float_as_uint(exp2_approx(__uint_as_float(in[threadIdx.x])));
}
SIMT_EXPORT(conformance_exp2)

// out[l] = in[l], by a copy of 4 bytes; a zero for every third lane, which copies none of them.
extern "C" __global__ void __launch_bounds__(32)
conformance_cp_async_4(uint32_t* __restrict__ out, const uint32_t* __restrict__ in) {
  __shared__ uint32_t words[32];
  const uint32_t lane = threadIdx.x;
  words[lane] = 0xdeadbeef;
  cp_async_4(words + lane, in + lane, lane % 3 == 0 ? 0 : 4);
  cp_async_commit();
  cp_async_wait<0>();
  out[lane] = words[lane];
}
SIMT_EXPORT(conformance_cp_async_4)
