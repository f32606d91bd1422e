// What the attention kernels share: bf16 tiles in shared memory whose rows never collide in a bank, the
// operands of mma.m16n8k16 read from them, and the online softmax (Milakov and Gimelshein 2018, as in
// FlashAttention-2, Dao 2023). Elsewhere: hardware verbs (prim.cuh), sums over a warp (warp.cuh).
//
// A thread's share of a 16 × 8 block of an mma result: element e stands in row lane / 4 + 8·(e / 2),
// column 2·(lane % 4) + e % 2. So a row lies in four neighbouring lanes, and two blocks side by side are,
// rounded to bf16, the left operand of the next product: weights never leave the registers.
#pragma once
#include "warp.cuh"

constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

PRIM uint32_t lane_id() { return threadIdx.x % WARP; }

// Where 16-byte chunk `chunk` of row `row` lies in a tile of D columns, in elements. Of eight rows one
// below the other, a chunk falls into eight different groups of banks: rows of 128 bytes and more are
// permuted by the row, shorter ones by the 128-byte line that they share.
template <int D> PRIM uint32_t place(uint32_t row, uint32_t chunk) {
  constexpr uint32_t CHUNKS = D / 8, TURNS = CHUNKS < 8 ? CHUNKS : 8;
  return (row * CHUNKS + (chunk ^ (row * TURNS / 8 % TURNS))) * 8;
}

// Starts the copy of ROWS rows into a tile. A thread keeps to one column of chunks and goes down in steps
// of whole permutations, so that only its first place is worked out; `copy(to, row, chunk)` does the rest.
template <int D, int ROWS, int THREADS, class Copy> PRIM void each_chunk(bf16* tile, Copy copy) {
  constexpr uint32_t CHUNKS = D / 8, STEP = THREADS / CHUNKS;
  static_assert(STEP % 8 == 0 && ROWS % STEP == 0, "places of a column repeat every 8 rows");
  const uint32_t row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
  bf16* const to = tile + place<D>(row, chunk);
#pragma unroll
  for (uint32_t i = 0; i < ROWS / STEP; ++i) copy(to + i * STEP * D, row + i * STEP, chunk);
}

// Rows that stand `stride` elements apart: row r from x + r·stride for r < count, zeros behind it.
template <int D, int ROWS, int THREADS>
PRIM void load_rows(bf16* tile, const bf16* x, size_t stride, uint32_t count) {
  each_chunk<D, ROWS, THREADS>(tile, [&](bf16* to, uint32_t row, uint32_t chunk) {
    // Of a row behind the last no byte is read, wherever its address points.
    cp_async_16(to, x + row * stride + chunk * 8, row < count ? 16 : 0);
  });
}

// Rows from anywhere: row r from `source(r)`, zeros where that is null. `any` is an address that exists.
template <int D, int ROWS, int THREADS, class Source>
PRIM void gather_rows(bf16* tile, const void* any, Source source) {
  each_chunk<D, ROWS, THREADS>(tile, [&](bf16* to, uint32_t row, uint32_t chunk) {
    const bf16* from = source(row);
    cp_async_16(to, from ? from + chunk * 8 : any, from ? 16 : 0);
  });
}

// Rows `row` to `row` + 15, columns 16·k to 16·k + 15 of a tile as a left operand.
template <int D> PRIM void left(uint32_t (&a)[4], const bf16* tile, uint32_t row, uint32_t k) {
  ldmatrix_x4(a, tile + place<D>(row + lane_id() % 16, 2 * k + lane_id() / 16));
}

// The same block as right operands of x·tileᵀ: r[0..1] for the first eight rows, r[2..3] for the others.
template <int D> PRIM void right(uint32_t (&r)[4], const bf16* tile, uint32_t row, uint32_t k) {
  const uint32_t lane = lane_id();
  ldmatrix_x4(r, tile + place<D>(row + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
}

// The same block as right operands of x·tile: r[0..1] for the first eight columns, r[2..3] for the others.
template <int D> PRIM void across(uint32_t (&r)[4], const bf16* tile, uint32_t row, uint32_t k) {
  ldmatrix_x4_trans(r, tile + place<D>(row + lane_id() % 16, 2 * k + lane_id() / 16));
}

// Two blocks of a result side by side, from `x[0]` on, as a left operand in bf16.
PRIM void as_left(uint32_t (&a)[4], const float (*x)[4]) {
  a[0] = pack_bf16(x[0][0], x[0][1]), a[1] = pack_bf16(x[0][2], x[0][3]);
  a[2] = pack_bf16(x[1][0], x[1][1]), a[3] = pack_bf16(x[1][2], x[1][3]);
}

// The keys that go by a tile of queries, COLUMNS at a time: `keys` of them; or, where the tile's rows are answers to
// a prompt, those of the prompt that all rows share and then those from `own` on, where the first row's answer begins.
template <uint32_t COLUMNS> struct Rounds {
  uint32_t shared, own, keys, prompt, count;

  PRIM Rounds(uint32_t shared_, uint32_t own_, uint32_t keys_) : shared(shared_), own(own_), keys(keys_) {
    prompt = (shared + COLUMNS - 1) / COLUMNS, count = prompt + (keys - own + COLUMNS - 1) / COLUMNS;
  }
  PRIM bool in_prompt(uint32_t i) const { return i < prompt; }
  // The first key of round i, and the one before which its keys end.
  PRIM uint32_t first(uint32_t i) const { return i < prompt ? i * COLUMNS : own + (i - prompt) * COLUMNS; }
  PRIM uint32_t end(uint32_t i) const { return i < prompt ? shared : keys; }
};

// Over the four lanes that share a row.
PRIM float row_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 1));
  return fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 2));
}
PRIM float row_sum(float v) {
  v += __shfl_xor_sync(ALL_LANES, v, 1);
  return v + __shfl_xor_sync(ALL_LANES, v, 2);
}

// s[b] ← rows 16·b… of the left tile times the COLUMNS rows of `right_tile` from `column` on, transposed.
template <int D, int BLOCKS, int COLUMNS>
PRIM void scores(float (&s)[BLOCKS][COLUMNS / 8][4], const bf16* left_tile, uint32_t row,
                 const bf16* right_tile, uint32_t column) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    uint32_t a[BLOCKS][4];
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) left<D>(a[b], left_tile, row + 16 * b, k);
#pragma unroll
    for (int n = 0; n < COLUMNS / 16; ++n) {
      uint32_t r[4];
      right<D>(r, right_tile, column + 16 * n, k);
#pragma unroll
      for (int b = 0; b < BLOCKS; ++b) {
        mma_bf16(s[b][2 * n], a[b], r[0], r[1]);
        mma_bf16(s[b][2 * n + 1], a[b], r[2], r[3]);
      }
    }
  }
}

// y[b] += w[b], rounded to bf16, times the COLUMNS rows of `tile` from `row` on.
template <int D, int BLOCKS, int COLUMNS>
PRIM void add_weighted(float (&y)[BLOCKS][D / 8][4], const float (&w)[BLOCKS][COLUMNS / 8][4],
                       const bf16* tile, uint32_t row) {
#pragma unroll
  for (int k = 0; k < COLUMNS / 16; ++k) {
    uint32_t a[BLOCKS][4];
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) as_left(a[b], &w[b][2 * k]);
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      uint32_t r[4];
      across<D>(r, tile, row + 16 * k, n);
#pragma unroll
      for (int b = 0; b < BLOCKS; ++b) {
        mma_bf16(y[b][2 * n], a[b], r[0], r[1]);
        mma_bf16(y[b][2 * n + 1], a[b], r[2], r[3]);
      }
    }
  }
}

// A warp's rows of a result, 16·BLOCKS of D columns from `row` of a tile that no other warp reads any
// more, times `factor(b, h)` and rounded to bf16: afterwards lane chunks of 16 bytes are in the tile.
template <int D, int BLOCKS, class Factor>
PRIM void stage(bf16* tile, uint32_t row, const float (&y)[BLOCKS][D / 8][4], Factor factor) {
  const uint32_t lane = lane_id();
  __syncwarp();  // the warp's last reads of these rows are over
#pragma unroll
  for (int b = 0; b < BLOCKS; ++b) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float f = factor(b, h);
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
        const uint32_t pair = pack_bf16(y[b][j][2 * h] * f, y[b][j][2 * h + 1] * f);
        bf16* to = tile + place<D>(row + 16 * b + 8 * h + lane / 4, j) + lane % 4 * 2;
        *reinterpret_cast<uint32_t*>(to) = pair;
      }
    }
  }
  __syncwarp();
}

// Staged rows to global memory, row r to `target(r)` where that is not null, 16 bytes a lane.
template <int D, int BLOCKS, class Target>
PRIM void store_rows(const bf16* tile, uint32_t row, Target target) {
#pragma unroll
  for (uint32_t i = lane_id(); i < BLOCKS * 16 * D / 8; i += WARP) {
    const uint32_t r = i / (D / 8), chunk = i % (D / 8);
    bf16* to = target(row + r);
    if (to) {
      *reinterpret_cast<uint4*>(to + chunk * 8) =
          *reinterpret_cast<const uint4*>(tile + place<D>(row + r, chunk));
    }
  }
}

// The state of a warp's 16·BLOCKS rows while keys go by, COLUMNS at a time: o is not yet divided by sum,
// and sum is a lane's own share; most is the largest score so far, before the scale.
template <int D, int BLOCKS, int COLUMNS> struct Attend {
  // Queries stay in registers while they are few enough; else they are read again for every tile.
  static constexpr bool KEPT = D <= 64;
  float o[BLOCKS][D / 8][4], most[BLOCKS][2], sum[BLOCKS][2];
  uint32_t q[BLOCKS][KEPT ? D / 16 : 1][4];

  PRIM void clear() {
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) {
      most[b][0] = most[b][1] = -INFINITY, sum[b][0] = sum[b][1] = 0.0f;
#pragma unroll
      for (int j = 0; j < D / 8; ++j) o[b][j][0] = o[b][j][1] = o[b][j][2] = o[b][j][3] = 0.0f;
    }
  }

  // Once the queries have arrived: rows `row`… of their tile are this warp's.
  PRIM void keep(const bf16* queries, uint32_t row) {
    if constexpr (KEPT) {
#pragma unroll
      for (int b = 0; b < BLOCKS; ++b) {
#pragma unroll
        for (int k = 0; k < D / 16; ++k) left<D>(q[b][k], queries, row + 16 * b, k);
      }
    }
  }

  // Takes COLUMNS keys and values in. `c` is scale·log₂e, above 0. Unless `whole`, `seen(b, h, j)` says
  // whether row 16·b + 8·h + lane / 4 of the warp sees key j of the tile.
  template <class Seen>
  PRIM void take(const bf16* queries, uint32_t row, const bf16* keys, const bf16* values, float c,
                 bool whole, Seen seen) {
    const uint32_t lane = lane_id();
    float s[BLOCKS][COLUMNS / 8][4] = {};
    if constexpr (KEPT) {
#pragma unroll
      for (int k = 0; k < D / 16; ++k) {
#pragma unroll
        for (int n = 0; n < COLUMNS / 16; ++n) {
          uint32_t r[4];
          right<D>(r, keys, 16 * n, k);
#pragma unroll
          for (int b = 0; b < BLOCKS; ++b) {
            mma_bf16(s[b][2 * n], q[b][k], r[0], r[1]);
            mma_bf16(s[b][2 * n + 1], q[b][k], r[2], r[3]);
          }
        }
      }
    } else {
      scores<D, BLOCKS, COLUMNS>(s, queries, row, keys, 0);
    }
    if (!whole) {
#pragma unroll
      for (int b = 0; b < BLOCKS; ++b) {
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            if (!seen(b, e / 2, 8 * j + lane % 4 * 2 + e % 2)) s[b][j][e] = -INFINITY;
          }
        }
      }
    }
    weigh(s, c);
    add_weighted<D, BLOCKS, COLUMNS>(o, s, values, 0);
  }

  // Turns scores into weights against each row's largest score so far, and what was gathered before into
  // the same measure.
  PRIM void weigh(float (&s)[BLOCKS][COLUMNS / 8][4], float c) {
    float fix[BLOCKS][2];
    bool moved = false;
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float m = most[b][h];
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; ++j) m = fmaxf(m, fmaxf(s[b][j][2 * h], s[b][j][2 * h + 1]));
        m = row_max(m);
        // A row that has seen no key yet: −∞ − −∞ would be NaN.
        const float shift = m == -INFINITY ? 0.0f : m * c;
        fix[b][h] = exp2_approx(fmaf(most[b][h], c, -shift));
        moved = moved || m != most[b][h];
        most[b][h] = m;
        float total = 0.0f;
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; ++j) {
          s[b][j][2 * h] = exp2_approx(fmaf(s[b][j][2 * h], c, -shift));
          s[b][j][2 * h + 1] = exp2_approx(fmaf(s[b][j][2 * h + 1], c, -shift));
          total += s[b][j][2 * h] + s[b][j][2 * h + 1];
        }
        sum[b][h] = fmaf(sum[b][h], fix[b][h], total);
      }
    }
    // After the first few tiles a maximum seldom moves, and all factors are 1.
    if (!__any_sync(ALL_LANES, moved)) return;
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) {
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) o[b][j][e] *= fix[b][e / 2];
      }
    }
  }
};
