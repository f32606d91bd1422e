// attention: causal, over packed segments of different lengths, grouped heads (FlashAttention-2, Dao 2023).
//
//   o[i] = Σ_j p[i, j]·v[j]    p[i, j] = exp(s·q[i]·k[j] − lse[i])    lse[i] = ln Σ_j exp(s·q[i]·k[j])
//
// over the keys j of i's segment up to i's own: queries stand at the end of their segment's keys.
//
// Shapes     q, o [T, H·D] · k, v [S, Hkv·D] bf16 · lse [T, H] f32 · tiles: a list in device memory
// Tiling     forward: ROWS queries of a head a block, 32 a warp, so that an operand of keys or values read
//            from shared memory serves two mma; COLUMNS keys and values go by at a time, the next ones
//            on their way (cp.async). D ≤ 64: queries in registers; D 128: keys weighed 32 at a time,
//            else a warp's 128 f32 of o beside 64 of scores would spill
// Roofline   tensor cores: 4·D flop a visible pair and head; ldmatrix feeds mma.sync at 0.6–0.75 of its rate
// Edges      tiles that a warp's rows cannot see are skipped, masks only on the diagonal · rows of no
//            segment (keys 0): o 0, lse −∞ · list entries without rows are skipped: the grid follows
//            from the list's capacity, so that a captured launch serves other lengths
// Order      tiles start where segments do and keys go by from the first: runs repeat bit for bit and a
//            row's bits do not depend on its neighbours. The list is longest first, for the grid's tail
// Reference  engine/src/ops/attention/reference.rs
#include "attention.h"
#include "common/attend.cuh"

namespace {
template <int D>
PRIM void forward(bf16* __restrict__ o, float* __restrict__ lse, const bf16* __restrict__ q,
                  const bf16* __restrict__ k, const bf16* __restrict__ v,
                  const AttentionQueryTile* __restrict__ tiles, const AttentionParams& p) {
  constexpr uint32_t ROWS = ATTENTION_ROWS, COLUMNS = ATTENTION_COLUMNS, BLOCKS = ROWS / ATTENTION_WARPS / 16;
  constexpr uint32_t THREADS = ATTENTION_WARPS * WARP, SLICE = D > 64 ? 32 : COLUMNS;
  const AttentionQueryTile t = tiles[blockIdx.x / p.heads];
  if (t.queries == 0) return;
  DYNAMIC_SHARED(bf16, shared);
  bf16 *const sq = shared, *const sk = sq + ROWS * D, *const sv = sk + 2 * COLUMNS * D;
  const uint32_t head = blockIdx.x % p.heads, kv_head = head / (p.heads / p.kv_heads);
  const size_t width = size_t(p.heads) * D, kv_width = size_t(p.kv_heads) * D;
  const size_t at_query = t.query * width + head * D, at_key = t.key * kv_width + kv_head * D;

  const uint32_t steps = (t.keys + COLUMNS - 1) / COLUMNS;
  const auto load = [&](uint32_t step) {
    const uint32_t first = step * COLUMNS, to = step % 2 * COLUMNS * D;
    const auto of = [&](const bf16* x) {
      return [=](uint32_t r) { return first + r < t.keys ? x + at_key + (first + r) * kv_width : nullptr; };
    };
    load_rows<D, COLUMNS, THREADS>(sk + to, k, of(k));
    load_rows<D, COLUMNS, THREADS>(sv + to, v, of(v));
  };
  if (steps > 0) {
    load_rows<D, ROWS, THREADS>(sq, q, [&](uint32_t r) { return r < t.queries ? q + at_query + r * width : nullptr; });
    load(0);
  }
  cp_async_commit();

  const uint32_t warp_row = threadIdx.x / WARP * 16 * BLOCKS, lane = lane_id();
  const bool busy = warp_row < t.queries;
  // The last key that the warp's first row sees, and its last row.
  const uint32_t first_sees = t.keys - t.queries + warp_row;
  const uint32_t last_sees = t.keys - t.queries + min(warp_row + 16 * BLOCKS, t.queries) - 1;
  Attend<D, BLOCKS, SLICE> state;
  state.clear();
  for (uint32_t i = 0; i < steps; ++i) {
    if (i + 1 < steps) load(i + 1);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    if (i == 0) state.keep(sq, warp_row);
#pragma unroll 1
    for (uint32_t s = 0; s < COLUMNS; s += SLICE) {
      const uint32_t first = i * COLUMNS + s, at = (i % 2 * COLUMNS + s) * D;
      if (!busy || first > last_sees) break;
      state.take(sq, warp_row, sk + at, sv + at, p.scale * LOG2_E, first + SLICE - 1 <= first_sees,
                 [&](int b, int h, uint32_t j) { return first + j <= first_sees + 16 * b + 8 * h + lane / 4; });
    }
    __syncthreads();  // the next round's copies overwrite this round's tiles
  }
  if (!busy) return;

  float inverse[BLOCKS][2];
#pragma unroll
  for (uint32_t b = 0; b < BLOCKS; ++b) {
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
      const float sum = row_sum(state.sum[b][h]);
      inverse[b][h] = sum > 0.0f ? 1.0f / sum : 0.0f;
      const uint32_t r = warp_row + 16 * b + 8 * h + lane / 4;
      if (lane % 4 == 0 && r < t.queries) {
        lse[size_t(t.query + r) * p.heads + head] = state.most[b][h] * p.scale + logf(sum);
      }
    }
  }
  stage<D, BLOCKS>(sq, warp_row, state.o, [&](int b, int h) { return inverse[b][h]; });
  store_rows<D, BLOCKS>(sq, warp_row, [&](uint32_t r) { return r < t.queries ? o + at_query + r * width : nullptr; });
}
}  // namespace

#define ATTENTION_FORWARD(D)                                                                            \
  extern "C" __global__ void __launch_bounds__(ATTENTION_WARPS* WARP, 2) attention_forward_bf16_d##D(    \
      bf16* o, float* lse, const bf16* q, const bf16* k, const bf16* v, const AttentionQueryTile* tiles, \
      const AttentionParams p) {                                                                         \
    forward<D>(o, lse, q, k, v, tiles, p);                                                               \
  }
ATTENTION_FORWARD(16)
ATTENTION_FORWARD(32)
ATTENTION_FORWARD(64)
ATTENTION_FORWARD(128)
SIMT_EXPORT(attention_forward_bf16_d16)
SIMT_EXPORT(attention_forward_bf16_d32)
SIMT_EXPORT(attention_forward_bf16_d64)
SIMT_EXPORT(attention_forward_bf16_d128)
