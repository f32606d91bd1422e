// C[m,n] = A[m,k] B, bf16 in, fp32 out. Warpgroup 0 is the producer (one thread issues TMA loads into a ring of
// stages), warpgroup 1 multiplies with wgmma. gemm_nt: B is [n,k]; gemm_nn: B is [k,n].
#include "params.h"
#include "common/prim.cuh"

namespace {
constexpr int T = GEMM_TILE, STAGES = GEMM_STAGES;
constexpr uint32_t kTileBytes = T * T * 2;

template <int NN> PRIM void gemm(const CUtensorMap* ta, const CUtensorMap* tb, const GemmParams& p) {
  DYNAMIC_SHARED(unsigned char, smem);
  uint64_t* full = reinterpret_cast<uint64_t*>(smem + STAGES * 2 * kTileBytes);
  uint64_t* empty = full + STAGES;
  const int m0 = blockIdx.y * T, n0 = blockIdx.x * T, steps = (int(p.k) + T - 1) / T;

  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; ++i) {
      mbar_init(&full[i], 1);
      mbar_init(&empty[i], 128);
    }
    mbar_init_fence();
  }
  __syncthreads();

  if (threadIdx.x < 128) {
    setmaxnreg_dec<40>();
    if (threadIdx.x == 0)
      for (int i = 0; i < steps; ++i) {
        int st = i % STAGES;
        mbar_wait(&empty[st], (i / STAGES & 1) ^ 1);  // passes at once in the first round
        unsigned char *a = smem + st * 2 * kTileBytes, *b = a + kTileBytes;
        mbar_arrive_expect_tx(&full[st], 2 * kTileBytes);
        tma_load_2d(a, ta, &full[st], i * T, m0);
        if (NN) tma_load_2d(b, tb, &full[st], n0, i * T);
        else tma_load_2d(b, tb, &full[st], i * T, n0);
      }
  } else {
    setmaxnreg_inc<232>();
    float d[32];
    for (int i = 0; i < steps; ++i) {
      int st = i % STAGES;
      mbar_wait(&full[st], i / STAGES & 1);
      const unsigned char *a = smem + st * 2 * kTileBytes, *b = a + kTileBytes;
      wgmma_fence();
#pragma unroll
      for (int kk = 0; kk < T / 16; ++kk)
        wgmma_ss<T, 0, NN>(d, wgmma_desc(a + kk * 32, 16, 1024), wgmma_desc(b + kk * (NN ? 2048 : 32), 16, 1024), i || kk);
      wgmma_commit();
      wgmma_wait<0>();
      mbar_arrive(&empty[st]);
    }
    const int t = threadIdx.x - 128, row = m0 + t / 32 * 16 + t % 32 / 4, col = n0 + t % 4 * 2;
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int r = row + e / 2 * 8, c = col + j * 8 + e % 2;
        if (r < int(p.m) && c < int(p.n)) p.c[size_t(r) * p.n + c] = d[4 * j + e];
      }
  }
}
}  // namespace

extern "C" __global__ void __launch_bounds__(GEMM_THREADS, 1)
    gemm_nt(const __grid_constant__ CUtensorMap ta, const __grid_constant__ CUtensorMap tb, const GemmParams p) {
  gemm<0>(&ta, &tb, p);
}
extern "C" __global__ void __launch_bounds__(GEMM_THREADS, 1)
    gemm_nn(const __grid_constant__ CUtensorMap ta, const __grid_constant__ CUtensorMap tb, const GemmParams p) {
  gemm<1>(&ta, &tb, p);
}
SIMT_EXPORT(gemm_nt)
SIMT_EXPORT(gemm_nn)
