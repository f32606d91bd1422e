// conformance/hopper: as ampere.cu, for what Hopper adds: mbarrier, TMA loads with the 128-byte swizzle,
// wgmma with both layouts of B, setmaxnreg. Compiled for sm_90a alone.
#include "common/warp.cuh"

namespace {
constexpr uint32_t T = 64, TILE_BYTES = T * T * 2;
}

// Two warps hand words to each other four times through one slot a lane: warp 0 fills, warp 1 empties.
// in, out [4][32]; a wait on the wrong parity reads a word of another round.
extern "C" __global__ void __launch_bounds__(64)
conformance_mbarrier(uint32_t* __restrict__ out, const uint32_t* __restrict__ in) {
  DYNAMIC_SHARED(uint64_t, bars);
  uint64_t *full = bars, *empty = bars + 1;
  uint32_t* slot = reinterpret_cast<uint32_t*>(bars + 2);
  if (threadIdx.x == 0) {
    mbar_init(full, 32);
    mbar_init(empty, 32);
    mbar_init_fence();
  }
  __syncthreads();
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t round = 0; round < 4; ++round) {
    if (threadIdx.x < 32) {
      mbar_wait(empty, (round & 1) ^ 1);  // passes at once in the first round
      slot[lane] = in[32 * round + lane];
      mbar_arrive(full);
    } else {
      mbar_wait(full, round & 1);
      out[32 * round + lane] = slot[lane];
      mbar_arrive(empty);
    }
  }
}
SIMT_EXPORT(conformance_mbarrier)

// The 64 × 64 box of 16-bit elements at column x and row y (either may lie outside), as it lies in
// shared memory: out [2048] words.
extern "C" __global__ void __launch_bounds__(128)
conformance_tma(uint32_t* __restrict__ out, const __grid_constant__ CUtensorMap map, const int32_t x, const int32_t y) {
  DYNAMIC_SHARED(unsigned char, smem);
  uint64_t* bar = reinterpret_cast<uint64_t*>(smem + TILE_BYTES);
  if (threadIdx.x == 0) {
    mbar_init(bar, 1);
    mbar_init_fence();
    mbar_arrive_expect_tx(bar, TILE_BYTES);
    tma_load_2d(smem, &map, bar, x, y);
  }
  __syncthreads();
  mbar_wait(bar, 0);
  for (uint32_t i = threadIdx.x; i < TILE_BYTES / 4; i += 128) out[i] = reinterpret_cast<uint32_t*>(smem)[i];
}
SIMT_EXPORT(conformance_tma)

namespace {
// D [64, 64] f32 = A·B over k = 64, four instructions. A [64 m, 64 k]; B [64 n, 64 k], or [64 k, 64 n].
template <int TRANS_B> PRIM void product(uint32_t* out, const CUtensorMap* a, const CUtensorMap* b) {
  DYNAMIC_SHARED(unsigned char, smem);
  unsigned char* other = smem + TILE_BYTES;
  uint64_t* bar = reinterpret_cast<uint64_t*>(smem + 2 * TILE_BYTES);
  if (threadIdx.x == 0) {
    mbar_init(bar, 1);
    mbar_init_fence();
    mbar_arrive_expect_tx(bar, 2 * TILE_BYTES);
    tma_load_2d(smem, a, bar, 0, 0);
    tma_load_2d(other, b, bar, 0, 0);
  }
  __syncthreads();
  mbar_wait(bar, 0);
  float d[32];
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    wgmma_m64n64k16<TRANS_B>(d, wgmma_desc(smem + step * 32, 16, 1024),
                             wgmma_desc(other + step * (TRANS_B ? 2048 : 32), 16, 1024), step > 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
  const uint32_t row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
  for (uint32_t i = 0; i < 32; ++i) {
    out[(row + i / 2 % 2 * 8) * T + column + i / 4 * 8 + i % 2] = __float_as_uint(d[i]);
  }
}
}  // namespace

extern "C" __global__ void __launch_bounds__(128)
conformance_wgmma_nt(uint32_t* __restrict__ out, const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b) {
  product<0>(out, &a, &b);
}
SIMT_EXPORT(conformance_wgmma_nt)

extern "C" __global__ void __launch_bounds__(128)
conformance_wgmma_nn(uint32_t* __restrict__ out, const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b) {
  product<1>(out, &a, &b);
}
SIMT_EXPORT(conformance_wgmma_nn)

// Two warpgroups trade registers, then sum 64 products each in registers: out[t] = Σ_i in[t]·(in[i] + i),
// in 32-bit arithmetic that wraps. in, out [256].
extern "C" __global__ void __launch_bounds__(256, 1)
conformance_setmaxnreg(uint32_t* __restrict__ out, const uint32_t* __restrict__ in) {
  if (threadIdx.x < 128) setmaxnreg_dec<40>();
  else setmaxnreg_inc<232>();
  const uint32_t mine = in[threadIdx.x];
  uint32_t sum = 0;
  for (uint32_t i = 0; i < 64; ++i) sum += mine * (in[i] + i);
  out[threadIdx.x] = sum;
}
SIMT_EXPORT(conformance_setmaxnreg)
