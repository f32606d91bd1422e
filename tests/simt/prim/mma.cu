// O = softmax(scale * Q K^T) V, one head per blockIdx.y, 64 query rows per block, 16 rows per warp.
// cp.async double-buffered K and V tiles, ldmatrix, mma.m16n8k16 in bf16 with fp32 accumulators, online softmax.
#include "params.h"
#include "common/prim.cuh"

namespace {
constexpr int D = ATTN_HEAD_DIM, BM = ATTN_BLOCK_M, BN = ATTN_BLOCK_N;
constexpr int LD = D + 8;  // 144-byte rows: eight consecutive rows fall in eight different 16-byte bank groups

// 64 rows of 64 bf16, rows at or past `rows` become zeros.
PRIM void load_tile(bf16 (&dst)[BM][LD], const uint16_t* src, int row0, int rows) {
  for (int c = threadIdx.x; c < BM * D / 8; c += ATTN_THREADS) {
    int r = c / (D / 8), x = c % (D / 8) * 8;
    bool in = row0 + r < rows;
    cp_async_16(&dst[r][x], src + size_t(in ? row0 + r : 0) * D + x, in ? 16 : 0);
  }
}
}  // namespace

extern "C" __global__ void __launch_bounds__(ATTN_THREADS) attn_mma(const AttnParams p) {
  __shared__ __align__(128) bf16 sq[BM][LD];
  __shared__ __align__(128) bf16 sk[2][BN][LD];
  __shared__ __align__(128) bf16 sv[2][BN][LD];

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int s = int(p.seq_len), row0 = blockIdx.x * BM;
  const size_t head = size_t(blockIdx.y) * s * D;
  const uint16_t *q = p.q + head, *k = p.k + head, *v = p.v + head;

  const int key_end = p.causal ? min(s, row0 + BM) : s;
  const int tiles = (key_end + BN - 1) / BN;
  load_tile(sq, q, row0, s);
  load_tile(sk[0], k, 0, s);
  load_tile(sv[0], v, 0, s);
  cp_async_commit();

  uint32_t qf[4][4];
  float o[8][4] = {};
  float row_max[2] = {-INFINITY, -INFINITY}, row_sum[2] = {0.f, 0.f};

  for (int t = 0; t < tiles; ++t) {
    if (t + 1 < tiles) {
      load_tile(sk[(t + 1) & 1], k, (t + 1) * BN, s);
      load_tile(sv[(t + 1) & 1], v, (t + 1) * BN, s);
    }
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    if (t == 0)
#pragma unroll
      for (int kk = 0; kk < 4; ++kk) ldmatrix_x4(qf[kk], &sq[warp * 16 + lane % 16][kk * 16 + lane / 16 * 8]);

    // scores: 16 rows x 64 keys per warp
    float c[8][4] = {};
#pragma unroll
    for (int kk = 0; kk < 4; ++kk)
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        uint32_t b[4];
        ldmatrix_x4(b, &sk[t & 1][j * 8 + lane / 16 * 8 + lane % 8][kk * 16 + lane / 8 % 2 * 8]);
        mma_bf16(c[j], qf[kk], b[0], b[1]);
        mma_bf16(c[j + 1], qf[kk], b[2], b[3]);
      }

    // online softmax: this thread holds rows lane/4 and lane/4 + 8; a row is spread over four lanes
    float m_new[2] = {row_max[0], row_max[1]};
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int key = t * BN + j * 8 + lane % 4 * 2 + e % 2, row = row0 + warp * 16 + lane / 4 + e / 2 * 8;
        bool keep = key < s && (!p.causal || key <= row);
        c[j][e] = keep ? c[j][e] * p.scale_log2 : -INFINITY;
        m_new[e / 2] = fmaxf(m_new[e / 2], c[j][e]);
      }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      m_new[h] = fmaxf(m_new[h], __shfl_xor_sync(0xffffffffu, m_new[h], 1));
      m_new[h] = fmaxf(m_new[h], __shfl_xor_sync(0xffffffffu, m_new[h], 2));
      float shift = m_new[h] == -INFINITY ? 0.f : m_new[h];
      float fix = exp2f(row_max[h] - shift);
      row_max[h] = m_new[h];
      row_sum[h] *= fix;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        o[j][2 * h] *= fix;
        o[j][2 * h + 1] *= fix;
        c[j][2 * h] = exp2f(c[j][2 * h] - shift);
        c[j][2 * h + 1] = exp2f(c[j][2 * h + 1] - shift);
        row_sum[h] += c[j][2 * h] + c[j][2 * h + 1];
      }
    }

    // O += P V: the score accumulators are, repacked, the A operand of the second product
#pragma unroll
    for (int kk = 0; kk < 4; ++kk) {
      uint32_t pf[4] = {pack_bf16(c[2 * kk][0], c[2 * kk][1]), pack_bf16(c[2 * kk][2], c[2 * kk][3]),
                        pack_bf16(c[2 * kk + 1][0], c[2 * kk + 1][1]), pack_bf16(c[2 * kk + 1][2], c[2 * kk + 1][3])};
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        uint32_t b[4];
        ldmatrix_x4_trans(b, &sv[t & 1][kk * 16 + lane % 16][j * 8 + lane / 16 * 8]);
        mma_bf16(o[j], pf, b[0], b[1]);
        mma_bf16(o[j + 1], pf, b[2], b[3]);
      }
    }
    __syncthreads();  // the next round overwrites this round's buffers
  }

#pragma unroll
  for (int h = 0; h < 2; ++h) {
    row_sum[h] += __shfl_xor_sync(0xffffffffu, row_sum[h], 1);
    row_sum[h] += __shfl_xor_sync(0xffffffffu, row_sum[h], 2);
    int row = row0 + warp * 16 + lane / 4 + h * 8;
    if (row < s)
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        uint32_t u = pack_bf16(o[j][2 * h] / row_sum[h], o[j][2 * h + 1] / row_sum[h]);
        *reinterpret_cast<uint32_t*>(p.o + head + size_t(row) * D + j * 8 + lane % 4 * 2) = u;
      }
  }
}
SIMT_EXPORT(attn_mma)
