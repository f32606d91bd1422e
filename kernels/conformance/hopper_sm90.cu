// conformance/hopper: as ampere.cu, for what Hopper adds: mbarrier, named barriers that some only arrive at, TMA loads with
// the 128-byte swizzle, bulk sums into global memory, wgmma with both layouts of A and B and with A in registers,
// setmaxnreg. Compiled for sm_90a alone.
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

// The same words by named barriers: who fills waits for one and arrives at the other, who empties the other way.
extern "C" __global__ void __launch_bounds__(64)
conformance_named_barrier(uint32_t* __restrict__ out, const uint32_t* __restrict__ in) {
  DYNAMIC_SHARED(uint32_t, slot);
  const uint32_t lane = threadIdx.x % 32;
  if (threadIdx.x >= 32) named_arrive(1, 64);  // the slot is empty
  for (uint32_t round = 0; round < 4; ++round) {
    if (threadIdx.x < 32) {
      named_sync(1, 64);
      slot[lane] = in[32 * round + lane];
      named_arrive(2, 64);
    } else {
      named_sync(2, 64);
      out[32 * round + lane] = slot[lane];
      named_arrive(1, 64);
    }
  }
  if (threadIdx.x < 32) named_sync(1, 64);
}
SIMT_EXPORT(conformance_named_barrier)

// out += in, twice, by the copy engine: f32 [128].
extern "C" __global__ void __launch_bounds__(128)
conformance_bulk_reduce(uint32_t* __restrict__ out, const uint32_t* __restrict__ in) {
  DYNAMIC_SHARED(uint32_t, words);
  words[threadIdx.x] = in[threadIdx.x];
  fence_proxy_async();
  __syncthreads();
  if (threadIdx.x == 0) {
    for (uint32_t i = 0; i < 2; ++i) {
      bulk_reduce_add_f32(reinterpret_cast<float*>(out), reinterpret_cast<const float*>(words), 512);
      bulk_commit();
    }
    bulk_wait_read<0>();
  }
}
SIMT_EXPORT(conformance_bulk_reduce)

namespace {
// D [64, N] f32 = A·B over k = 64, four instructions. A [64 m, 64 k], or with TRANS_A [64 k, 64 m], in registers with
// FROM_REGISTERS; B [N n, 64 k], or with TRANS_B [64 k, N n].
template <int N, int TRANS_A, int TRANS_B, bool FROM_REGISTERS>
PRIM void product(uint32_t* out, const CUtensorMap* a, const CUtensorMap* b) {
  DYNAMIC_SHARED(unsigned char, smem);
  unsigned char* other = smem + TILE_BYTES;
  uint64_t* bar = reinterpret_cast<uint64_t*>(smem + 3 * TILE_BYTES);
  if (threadIdx.x == 0) {
    mbar_init(bar, 1);
    mbar_init_fence();
    mbar_arrive_expect_tx(bar, (1 + N / T) * TILE_BYTES);
    tma_load_2d(smem, a, bar, 0, 0);
    for (int i = 0; i < N / int(T); ++i) {
      tma_load_2d(other + i * TILE_BYTES, b, bar, TRANS_B ? i * int(T) : 0, TRANS_B ? 0 : i * int(T));
    }
  }
  __syncthreads();
  mbar_wait(bar, 0);
  const uint32_t row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
  // Element (r, c) and the one beside it, where the swizzle put them.
  const auto pair = [&](uint32_t r, uint32_t c) {
    return *reinterpret_cast<const uint32_t*>(smem + r * 128 + (c / 8 ^ r % 8) * 16 + c % 8 * 2);
  };
  uint32_t left[16];
#pragma unroll
  for (uint32_t i = 0; i < 16; ++i) left[i] = FROM_REGISTERS ? pair(row + i % 2 * 8, i / 4 * 16 + i / 2 % 2 * 8 + column) : 0;
  float d[N / 2];
  hold(d);
  hold(left);
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    const uint64_t right = wgmma_desc(other + step * (TRANS_B ? 2048 : 32), TILE_BYTES, 1024);
    if constexpr (FROM_REGISTERS) wgmma_rs<N, TRANS_B>(d, left + 4 * step, right, step > 0);
    else wgmma_ss<N, TRANS_A, TRANS_B>(d, wgmma_desc(smem + step * (TRANS_A ? 2048 : 32), 16, 1024), right, step > 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
  hold(d);
#pragma unroll
  for (uint32_t i = 0; i < N / 2; ++i) {
    out[(row + i / 2 % 2 * 8) * N + column + i / 4 * 8 + i % 2] = __float_as_uint(d[i]);
  }
}
}  // namespace

#define WGMMA(NAME, ...)                                                                                     \
  extern "C" __global__ void __launch_bounds__(128) NAME(uint32_t* out, const __grid_constant__ CUtensorMap a, \
                                                         const __grid_constant__ CUtensorMap b) {              \
    product<__VA_ARGS__>(out, &a, &b);                                                                         \
  }
WGMMA(conformance_wgmma_nt, 64, 0, 0, false)
WGMMA(conformance_wgmma_nn, 64, 0, 1, false)
WGMMA(conformance_wgmma_tn, 64, 1, 1, false)
WGMMA(conformance_wgmma_rn, 64, 0, 1, true)
WGMMA(conformance_wgmma_nt_128, 128, 0, 0, false)
WGMMA(conformance_wgmma_nn_128, 128, 0, 1, false)
WGMMA(conformance_wgmma_rn_128, 128, 0, 1, true)
SIMT_EXPORT(conformance_wgmma_nt)
SIMT_EXPORT(conformance_wgmma_nn)
SIMT_EXPORT(conformance_wgmma_tn)
SIMT_EXPORT(conformance_wgmma_rn)
SIMT_EXPORT(conformance_wgmma_nt_128)
SIMT_EXPORT(conformance_wgmma_nn_128)
SIMT_EXPORT(conformance_wgmma_rn_128)

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
