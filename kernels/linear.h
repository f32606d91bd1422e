/* linear: what the kernels of linear.cu and their launcher agree on.
   out, from [M, N] bf16 or f32 · a, b bf16, [M, K] or [K, M], [N, K] or [K, N] · bias [N] f32 ·
   partial [S, M, N] f32, for a gated product [S, M, 2·N] */
#ifndef SIDRA_LINEAR_H
#define SIDRA_LINEAR_H
#include <stdint.h>

typedef struct LinearParams {
  uint32_t m;      /* M: rows of the result */
  uint32_t n;      /* N: columns of the result */
  uint32_t k;      /* K: inner length */
  uint32_t a_stride; /* elements from one row of a to the next; what lies between is finite */
  uint32_t b_stride;
  uint32_t chunk;  /* elements of k a split takes: K, or a multiple of LINEAR_DEPTH */
  uint32_t splits; /* S */
  uint32_t flags;  /* LinearFlags */
} LinearParams;

enum LinearFlags {
  LINEAR_OUT_F32 = 1,  /* out is f32, else bf16 */
  LINEAR_ADD = 2,      /* out = from + product; from may be out */
  LINEAR_FROM_F32 = 4, /* from is f32, else bf16 */
  LINEAR_BIAS = 8,     /* out = product + bias[n] */
  LINEAR_GATED = 16    /* of the fold: silu of one half of a row times the other */
};

enum LinearTiles {
  LINEAR_THREADS = 128, /* of every kernel here */
  LINEAR_LARGE = 128,   /* rows and columns of a large tile */
  LINEAR_SMALL = 64,    /* of a small one */
  LINEAR_SKINNY = 16,   /* rows of the tile for a handful of rows */
  LINEAR_DEPTH = 64,    /* a split begins at a multiple of this */
  LINEAR_LARGE_BYTES = 65536,  /* dynamic shared memory: 4 stages of (128 + 128) x 32 bf16 */
  LINEAR_TALL_BYTES = 49152,   /* 4 stages of (128 + 64) x 32 */
  LINEAR_SMALL_BYTES = 49152,  /* 3 stages of (64 + 64) x 64 */
  LINEAR_SKINNY_BYTES = 40960, /* 4 stages of (16 + 64) x 64 */
  LINEAR_GROUP_ROWS = 128      /* least rows whose share of db one block sums; part of the result's bits */
};
#endif
