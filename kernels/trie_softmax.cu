// trie_softmax: one step of constrained beam search, log-softmax over what the trie allows and the W
// best continuations of every request.
//
//   s[r, c] = score[r] + ((x[r, base + c] − m[r]) − ln z[r])       for c in children(node[r])
//   m[r] = max x[r, v],  z[r] = Σ exp(x[r, v] − m[r])     over children | level's codes | vocabulary
//
// Shapes     logits [B·R, V] f32 · score, node, peak = m, log_z = ln z [B·R] · row_ptr [N + 1] u32,
//            code [E] u16 · out_parent, out_code, out_node, out_score [B, W] · count [B] · bad [1]
// Tiling     normalise: WARPS warps a row · select: SELECT warps a request, a warp a beam at a time,
//            a lane a child: no thread walks all of V
// Selection  exact. A candidate is one 64-bit key, (score, ~parent, ~code), so keys are distinct and
//            the W-th largest is found by radix select from the top byte down; a pass reads the
//            candidates again (L2) rather than storing them. Stops when a bucket ends on W, which
//            takes four passes on continuous scores. The W survivors are sorted in shared memory.
// Roofline   memory: 4 bytes a normalised logit once; then about 4 passes × 6 bytes a candidate, L2
// Edges      dead beam (score −∞, or a node that the level does not have): no candidate · logit −∞:
//            no candidate · fewer than W: the rest −∞ · NaN or +∞ among the normalised logits: the
//            lowest such row in `bad`, the rest of the output unspecified
// Order      reductions in lane order, histogram counts are integers: runs repeat bit for bit
// Reference  engine/src/ops/trie_softmax/reference.rs
//
// Between two steps, so that nothing comes to the host: `follow` turns what was selected into the next
// step's tokens and the rows that they continue, `path` writes who descends from whom.
//
// loss: cross-entropy over what the trie allows, A(r) = children(node[r]), and its gradient in place.
//
//   loss[r] = Σ_c t[r, c]·(lse[r] − x[r, b + c])     t = (1 − s − Σ w)·[c = label[r]] + s/|A| + w[r, c]
//   x[r, v] ← scale·(exp(x − lse) − t) at v = b + c for c in A(r), else 0
//
// Shapes     x [R, V] f32 · loss [R] · node, label [R] u32 · teacher w as sparse rows: start [R + 1],
//            soft_code, soft_weight
// Tiling     a warp a row, ROWS a block. Statistics gather the children alone; the gradient walks the
//            row 32 logits at a time, since zeros must be written too: the children of a window are
//            the next edges of the node, found by one OR over the lanes, so that every access to x is a
//            whole line
// Roofline   memory: 4·V bytes a row written, 12 a child read (L1 holds a row's second reading)
// Edges      node that the level does not have, or a label that is no code: no label, loss 0 and a row of
//            zeros (padding) · NaN or +∞ among the allowed logits: NaN loss, NaN gradient
// Order      a row is one warp's, in lane order: runs repeat bit for bit, rows do not depend on others
// Reference  engine/src/ops/trie_softmax/loss.rs
#include "trie_softmax.h"
#include "common/warp.cuh"

namespace {
constexpr uint32_t SELECT_THREADS = TRIE_SOFTMAX_SELECT * WARP;
constexpr uint32_t DIGITS = 256;  // values of a byte: a bucket each
static_assert(SELECT_THREADS == DIGITS, "a thread a bucket");

PRIM bool dead(float score, uint32_t node, uint32_t nodes) {
  return score == -INFINITY || node >= nodes;
}

// Greater is better. −0, which would sort below +0, cannot come: x − m and ln z are +0 at the least,
// and so is a sum with their difference.
PRIM uint64_t key_of(float score, uint32_t parent, uint32_t code) {
  const uint32_t bits = __float_as_uint(score);
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t(ordered) << 32 | uint32_t(~(parent << 16 | code));
}
PRIM float score_of(uint64_t key) {
  const uint32_t ordered = uint32_t(key >> 32);
  return __uint_as_float(ordered >> 31 ? ordered & 0x7fffffffu : ~ordered);
}

// The candidates of a request, shared out over the block: visit(key) for each, every one once.
// Calls no collective, so lanes may part.
template <class F>
PRIM void candidates(const TrieSoftmaxParams& p, const float* logits, const float* score,
                     const uint32_t* node, const float* peak, const float* log_z,
                     const uint32_t* row_ptr, const uint16_t* code, F visit) {
  const uint32_t first_row = blockIdx.x * p.rows;
  for (uint32_t r = threadIdx.x / WARP; r < p.rows; r += TRIE_SOFTMAX_SELECT) {
    const uint32_t row = first_row + r;
    if (dead(score[row], node[row], p.nodes)) continue;
    const float* x = logits + size_t(row) * p.vocab + p.token_base;
    const float before = score[row], m = peak[row], z = log_z[row];
    const uint32_t end = row_ptr[node[row] + 1];
    for (uint32_t e = row_ptr[node[row]] + threadIdx.x % WARP; e < end; e += WARP) {
      const float logit = x[code[e]];
      if (logit == -INFINITY) continue;
      const float s = before + ((logit - m) - z);
      if (s > -INFINITY) visit(key_of(s, r, code[e]));
    }
  }
}
}  // namespace

extern "C" __global__ void __launch_bounds__(TRIE_SOFTMAX_WARPS * 32)
trie_softmax_normalise_f32(float* __restrict__ peak, float* __restrict__ log_z,
                           uint32_t* __restrict__ bad, const float* __restrict__ logits,
                           const float* __restrict__ score, const uint32_t* __restrict__ node,
                           const uint32_t* __restrict__ row_ptr, const uint16_t* __restrict__ code,
                           const TrieSoftmaxParams p) {
  __shared__ float slots[TRIE_SOFTMAX_WARPS];
  const uint32_t row = blockIdx.x;
  if (dead(score[row], node[row], p.nodes)) return;  // the whole block leaves
  const bool gather = p.normalise == TRIE_SOFTMAX_ALLOWED;
  const bool all = p.normalise == TRIE_SOFTMAX_VOCABULARY;
  const uint32_t begin = gather ? row_ptr[node[row]] : 0;
  const uint32_t end = gather ? row_ptr[node[row] + 1] : all ? p.vocab : p.codes;
  const float* x = logits + size_t(row) * p.vocab + (all ? 0 : p.token_base);

  float m = -INFINITY, wrong = 0.0f;
  for (uint32_t i = begin + threadIdx.x; i < end; i += TRIE_SOFTMAX_WARPS * WARP) {
    const float v = x[gather ? code[i] : i];
    if (!(v < INFINITY)) wrong = 1.0f;  // NaN or +∞; fmaxf would lose a NaN
    m = fmaxf(m, v);
  }
  m = block_max<TRIE_SOFTMAX_WARPS>(m, slots);
  wrong = block_max<TRIE_SOFTMAX_WARPS>(wrong, slots);
  float z = 0.0f;
  if (m > -INFINITY && wrong == 0.0f) {  // the same in every thread
    for (uint32_t i = begin + threadIdx.x; i < end; i += TRIE_SOFTMAX_WARPS * WARP) {
      z += expf(x[gather ? code[i] : i] - m);
    }
  }
  z = block_sum<TRIE_SOFTMAX_WARPS>(z, slots);
  if (threadIdx.x == 0) {
    peak[row] = m;
    log_z[row] = logf(z);
    if (wrong != 0.0f) atomicMin(bad, row);
  }
}
SIMT_EXPORT(trie_softmax_normalise_f32)

extern "C" __global__ void __launch_bounds__(SELECT_THREADS)
trie_softmax_select_f32(uint32_t* __restrict__ out_parent, uint32_t* __restrict__ out_code,
                        uint32_t* __restrict__ out_node, float* __restrict__ out_score,
                        uint32_t* __restrict__ count, const float* __restrict__ logits,
                        const float* __restrict__ score, const uint32_t* __restrict__ node,
                        const float* __restrict__ peak, const float* __restrict__ log_z,
                        const uint32_t* __restrict__ row_ptr, const uint16_t* __restrict__ code,
                        const TrieSoftmaxParams p) {
  __shared__ uint32_t bucket[DIGITS];
  __shared__ uint64_t keys[TRIE_SOFTMAX_WIDTH];
  __shared__ uint64_t prefix;  // the digits of the W-th largest key that are known
  __shared__ uint32_t wanted;  // candidates still to be taken from those with that prefix
  __shared__ uint32_t taken, settled;
  const uint32_t t = threadIdx.x;
  if (t == 0) prefix = 0, wanted = p.width, taken = 0, settled = 0;

  // Radix select: after the pass at `shift`, candidates whose key >> shift is above `prefix` are all
  // taken, and `wanted` more from those where it equals `prefix`.
  uint32_t shift = 64;
  for (bool more = true; more;) {
    shift -= 8;
    bucket[t] = 0;
    __syncthreads();
    const uint64_t known = prefix;
    candidates(p, logits, score, node, peak, log_z, row_ptr, code, [&](uint64_t key) {
      // The digits above this one: none on the first pass, where a shift by 64 would be undefined.
      const uint64_t above = shift == 56 ? 0 : key >> (shift + 8);
      if (above == known) atomicAdd(&bucket[key >> shift & (DIGITS - 1)], 1u);
    });
    __syncthreads();
    if (t < WARP) {
      // From the best digit down to the one in which the W-th largest lies: lane i holds the eight
      // digits below 256 − 8·i, and a prefix sum over the lanes tells in whose the count is reached.
      constexpr uint32_t EACH = DIGITS / WARP;
      const uint32_t top = DIGITS - 1 - t * EACH;
      uint32_t own = 0;
      for (uint32_t i = 0; i < EACH; ++i) own += bucket[top - i];
      uint32_t through = own;
      for (uint32_t step = 1; step < WARP; step *= 2) {
        const uint32_t below = __shfl_up_sync(ALL_LANES, through, step);
        if (t >= step) through += below;
      }
      const uint32_t need = wanted;
      __syncwarp();  // every lane has read it before one writes it
      if (through - own < need && (through >= need || t == WARP - 1)) {  // one lane alone
        uint32_t left = need - (through - own), digit = top;
        while (digit > top - (EACH - 1) && bucket[digit] < left) left -= bucket[digit--];
        prefix = known << 8 | digit;
        wanted = left;
        settled = bucket[digit] <= left;  // the whole bucket is taken: nothing left to decide
      }
    }
    __syncthreads();
    more = settled == 0 && shift > 0;
  }

  const uint64_t least = prefix;
  candidates(p, logits, score, node, peak, log_z, row_ptr, code, [&](uint64_t key) {
    if (key >> shift >= least) keys[atomicAdd(&taken, 1u)] = key;  // at most W, see above
  });
  __syncthreads();
  const uint32_t found = taken;
  uint32_t n = 1;
  while (n < found) n *= 2;
  for (uint32_t i = found + t; i < n; i += SELECT_THREADS) keys[i] = 0;  // below every key
  __syncthreads();

  // Bitonic sort, greatest first: arrival order is forgotten here.
  for (uint32_t run = 2; run <= n; run *= 2) {
    for (uint32_t step = run / 2; step > 0; step /= 2) {
      for (uint32_t i = t; i < n; i += SELECT_THREADS) {
        const uint32_t j = i ^ step;
        if (j > i) {
          const uint64_t a = keys[i], b = keys[j];
          if ((a < b) == ((i & run) == 0)) keys[i] = b, keys[j] = a;
        }
      }
      __syncthreads();
    }
  }

  const size_t base = size_t(blockIdx.x) * p.width;
  for (uint32_t i = t; i < p.width; i += SELECT_THREADS) {
    uint32_t parent = 0, by = 0, to = 0;
    float s = -INFINITY;
    if (i < found) {
      const uint32_t place = ~uint32_t(keys[i]);
      parent = place >> 16, by = place & 0xffffu, s = score_of(keys[i]);
      const uint32_t from = node[blockIdx.x * p.rows + parent];
      uint32_t low = row_ptr[from], high = row_ptr[from + 1];  // codes ascend within a node
      while (low + 1 < high) {
        const uint32_t middle = (low + high) / 2;
        if (code[middle] <= by) low = middle;
        else high = middle;
      }
      to = low;
    }
    out_parent[base + i] = parent;
    out_code[base + i] = by;
    out_node[base + i] = to;
    out_score[base + i] = s;
  }
  if (t == 0) count[blockIdx.x] = found;
}
SIMT_EXPORT(trie_softmax_select_f32)

extern "C" __global__ void __launch_bounds__(TRIE_SOFTMAX_ROWS * 32)
trie_softmax_loss_f32(float* __restrict__ logits, float* __restrict__ loss,
                      const uint32_t* __restrict__ node, const uint32_t* __restrict__ label,
                      const uint32_t* __restrict__ start, const uint32_t* __restrict__ soft_code,
                      const float* __restrict__ soft_weight, const uint32_t* __restrict__ row_ptr,
                      const uint16_t* __restrict__ code, const TrieSoftmaxLossParams p) {
  const uint32_t row = blockIdx.x * TRIE_SOFTMAX_ROWS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= p.rows) return;  // whole warps leave together, so the shuffles below stay full
  float* const whole = logits + size_t(row) * p.vocab;
  float* const x = whole + p.token_base;
  const uint32_t at = node[row], own = label[row];
  if (at >= p.nodes || own >= p.codes) {
    for (uint32_t v = lane; v < p.vocab; v += WARP) whole[v] = 0.0f;
    if (lane == 0) loss[row] = 0.0f;
    return;
  }
  const uint32_t begin = row_ptr[at], end = row_ptr[at + 1];
  float m = -INFINITY;
  for (uint32_t e = begin + lane; e < end; e += WARP) m = fmaxf(m, x[code[e]]);
  m = warp_max(m);
  float z = 0.0f, below = 0.0f;  // Σ exp(x − m), which a NaN reaches too; Σ (m − x)
  for (uint32_t e = begin + lane; e < end; e += WARP) {
    const float off = x[code[e]] - m;
    z += expf(off);
    below -= off;
  }
  z = warp_sum(z);
  below = warp_sum(below);
  const float n = float(end - begin), uniform = p.smoothing / n, log_z = logf(z), to_label = m - x[own];

  // The teacher: w·(x[label] − x[c]) beside the label's own loss. An entry for the label moves nothing.
  const uint32_t first = p.entries ? min(start[row], p.entries) : 0;
  const uint32_t last = p.entries ? min(start[row + 1], p.entries) : 0;
  float moved = 0.0f, moved_loss = 0.0f;
  for (uint32_t i = first + lane; i < last; i += WARP) {
    const uint32_t c = soft_code[i];
    if (c == own || c >= p.codes) continue;
    moved += soft_weight[i];
    moved_loss = fmaf(soft_weight[i], x[own] - x[c], moved_loss);
  }
  moved = warp_sum(moved);
  moved_loss = warp_sum(moved_loss);
  if (lane == 0) {
    loss[row] = moved_loss + (1.0f - p.smoothing) * (to_label + log_z) + uniform * fmaf(n, log_z, below);
  }

  const float by = p.scale / z, off = p.scale * uniform;
  const float pull = p.scale * (1.0f - p.smoothing - moved);
  __syncwarp();  // all of x has been read for the statistics
  for (uint32_t v = lane; v < p.token_base; v += WARP) whole[v] = 0.0f;
  for (uint32_t v = p.token_base + p.codes + lane; v < p.vocab; v += WARP) whole[v] = 0.0f;
  uint32_t next = begin;  // the first child at or above the window
  for (uint32_t v0 = 0; v0 < p.codes; v0 += WARP) {
    const uint32_t c = next + lane < end ? code[next + lane] : 0xffffffffu;
    uint32_t members = c - v0 < WARP ? 1u << (c - v0) : 0;  // codes ascend: none lies below the window
#pragma unroll
    for (int step = 16; step > 0; step /= 2) members |= __shfl_xor_sync(ALL_LANES, members, step);
    next += __popc(members);
    const uint32_t v = v0 + lane;
    if (v < p.codes) {
      float g = 0.0f;
      if (members >> lane & 1) {
        g = fmaf(expf(x[v] - m), by, -off);
        if (v == own) g -= pull;
      }
      x[v] = g;
    }
  }
  __syncwarp();  // an entry's lane is not the one that wrote its logit
  for (uint32_t i = first + lane; i < last; i += WARP) {
    const uint32_t c = soft_code[i];  // distinct within a row
    if (c != own && c < p.codes) x[c] = fmaf(-p.scale, soft_weight[i], x[c]);
  }
}
SIMT_EXPORT(trie_softmax_loss_f32)

// token[i] = base + code[i], row[i] = the row that place i of the selection continues.
extern "C" __global__ void __launch_bounds__(TRIE_SOFTMAX_THREADS)
trie_softmax_follow_u32(uint32_t* __restrict__ token, uint32_t* __restrict__ row,
                        const uint32_t* __restrict__ parent, const uint32_t* __restrict__ code,
                        const TrieSoftmaxFollowParams p) {
  const uint32_t i = blockIdx.x * TRIE_SOFTMAX_THREADS + threadIdx.x;
  if (i >= p.places) return;
  token[i] = p.token_base + code[i];
  row[i] = i / p.width * p.rows + parent[i];
}
SIMT_EXPORT(trie_softmax_follow_u32)

// after[r] = before[row[r]], r; position[r] = length of r's prompt + steps.
extern "C" __global__ void __launch_bounds__(TRIE_SOFTMAX_THREADS)
trie_softmax_path_u32(uint32_t* __restrict__ after, uint32_t* __restrict__ position,
                      const uint32_t* __restrict__ before, const uint32_t* __restrict__ row,
                      const uint32_t* __restrict__ length, const TrieSoftmaxPathParams p) {
  const uint32_t r = blockIdx.x * TRIE_SOFTMAX_THREADS + threadIdx.x;
  if (r >= p.rows) return;
  uint32_t* const to = after + size_t(r) * (p.steps + 1);
  if (p.steps > 0) {
    const uint32_t* const from = before + size_t(min(row[r], p.parents - 1)) * p.steps;
    for (uint32_t t = 0; t < p.steps; ++t) to[t] = from[t];
  }
  to[p.steps] = r;
  position[r] = length[r / p.beams] + p.steps;
}
SIMT_EXPORT(trie_softmax_path_u32)
