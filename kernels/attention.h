/* attention: what the kernels of attention.cu and their launcher agree on.
   from [T] u32 · q, o, dq, d_o [T, H·D] · k, v, dk, dv [S, Hkv·D] bf16 · lse, delta [T, H] f32 · D of 16, 32, 64, 128 */
#ifndef SIDRA_ATTENTION_H
#define SIDRA_ATTENTION_H
#include <stdint.h>

typedef struct AttentionParams {
  uint32_t heads;    /* H */
  uint32_t kv_heads; /* Hkv, divides H */
  float scale;       /* factor of the scores, above 0 */
} AttentionParams;

/* Rows of one segment's queries, and the keys that they see. An entry without queries is skipped; rows
   of no segment have no keys and get zeros. Rows of answers to a prompt see the prompt's keys and, from where
   their own answer begins, their own; a tile holds rows of a prompt or of answers, never both. */
typedef struct AttentionQueryTile {
  uint32_t query;   /* first row of q */
  uint32_t queries; /* rows: at most ATTENTION_ROWS */
  uint32_t key;     /* the segment's first row of k */
  uint32_t keys;    /* up to the last of these queries' own; the one before it sees one less, and so on */
  uint32_t shared;  /* answers: of these keys the prompt's; else 0 */
  uint32_t own;     /* answers: of these keys the first of the first query's answer; else 0 */
} AttentionQueryTile;

/* Rows of one segment's keys, and the queries that see them: backward's other direction. */
typedef struct AttentionKeyTile {
  uint32_t key;     /* first row of k */
  uint32_t keys;    /* rows: at most ATTENTION_ROWS; 0: an entry to skip */
  uint32_t query;   /* first query that sees the first of them */
  uint32_t queries; /* from there to the last that sees any: the segment's, or the last answer's, end */
  uint32_t ahead;   /* keys of the tile that this query sees beside the first */
  uint32_t branch;  /* 1: keys of answers, which other answers' queries do not see */
} AttentionKeyTile;

enum AttentionTiles {
  ATTENTION_ROWS = 128,   /* rows a block: queries, in dk and dv keys; part of the result's bits */
  ATTENTION_COLUMNS = 64, /* keys (queries) that go by at a time, twice: one computed, one on its way */
  ATTENTION_WARPS = 4,    /* of a block; in backward of D 128 twice as many */
  ATTENTION_DELTA = 256,  /* threads of a block that sums o·d_o */
  /* Bytes of shared memory for each of the D columns, and backward's for lse and delta beside them. */
  ATTENTION_FORWARD_BYTES = 2 * (ATTENTION_ROWS + 4 * ATTENTION_COLUMNS),
  ATTENTION_BACKWARD_BYTES = 2 * (2 * ATTENTION_ROWS + 4 * ATTENTION_COLUMNS),
  ATTENTION_STATS_BYTES = 4 * 4 * ATTENTION_COLUMNS,
  ATTENTION_BRANCHES_BYTES = 2 * 4 * ATTENTION_COLUMNS /* the same for where answers begin */
};
#endif
