/* attention_sm90: what the kernels of attention_sm90.cu and their launcher agree on beside attention.h, whose
   parameters, tiles and tensors they share · D of 64, 128 */
#ifndef SIDRA_ATTENTION_SM90_H
#define SIDRA_ATTENTION_SM90_H
#include "attention.h"

enum AttentionSm90Tiles {
  ATTENTION_SM90_COLUMNS = 128, /* keys that go by at a time; part of the result's bits */
  ATTENTION_SM90_STAGES = 2,    /* of them on chip, keys and values each */
  ATTENTION_SM90_THREADS = 384, /* a warpgroup that fetches and two that multiply, ATTENTION_ROWS / 2 queries each */
  ATTENTION_SM90_BOX = 64,      /* columns of a box of the copy engine, and its rows of queries */
  ATTENTION_SM90_STEP = 8192,   /* backward: columns at a time times D, so 128 and 64 of them */
  /* Bytes of shared memory for each of the D columns, backward's beside them at D 64 and less at 128, and for the barriers. */
  ATTENTION_SM90_FORWARD_BYTES = 2 * (ATTENTION_ROWS + 2 * ATTENTION_SM90_STAGES * ATTENTION_SM90_COLUMNS),
  ATTENTION_SM90_BACKWARD_BYTES = 2 * 2 * ATTENTION_ROWS,
  ATTENTION_SM90_RING_BYTES = 2 * 2 * ATTENTION_SM90_STAGES * ATTENTION_SM90_STEP + ATTENTION_SM90_STAGES * 3 * 4 * 128,
  ATTENTION_SM90_BARRIER_BYTES = 128,
  /* Backward that reduces dq, beside all of that: two tiles of ds for each of the D columns of a step, sums of dq, and what lies
     idle in front of them. Its sums have that many rows behind the last token. */
  ATTENTION_SM90_DS_BYTES = 2 * 2 * ATTENTION_ROWS,
  ATTENTION_SM90_SUMS_BYTES = 2 * 4 * 64 * 64 + 1024,
  ATTENTION_SM90_SPARE = 128
};
#endif
