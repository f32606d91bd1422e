/* attention_decode: what the kernels of attention_decode.cu and their launcher agree on.
   q, o [B·W, H·D] · prompt_k, prompt_v [S, Hkv·D] · suffix_k, suffix_v [at least steps, B·W, Hkv·D] bf16 ·
   path [B·W, steps] u32 · bounds [B + 2] u32: B + 1 offsets of prompts, then the steps taken so far ·
   partial [parts, B·W·H, D], measure [parts, B·W·H, 2] f32: scratch where parts > 1 · ticket u32: one for each
   block of part 0 where parts > 1, zero before a launch and after it */
#ifndef SIDRA_ATTENTION_DECODE_H
#define SIDRA_ATTENTION_DECODE_H
#include <stdint.h>

typedef struct AttentionDecodeParams {
  uint32_t requests; /* B */
  uint32_t beams;    /* W: rows of a request */
  uint32_t heads;    /* H */
  uint32_t kv_heads; /* Hkv, divides H */
  uint32_t head_dim; /* D: 16, 32, 64 or 128 */
  uint32_t keys;     /* S: rows of prompt_k and prompt_v */
  uint32_t steps;    /* numbers a row of path; bounds may say fewer */
  uint32_t parts;    /* blocks that share the keys of a tile of rows; the last of them merges */
  float scale;       /* factor of the scores, above 0 */
} AttentionDecodeParams;

enum AttentionDecodeTiles {
  ATTENTION_DECODE_WARPS = 4,
  ATTENTION_DECODE_COLUMNS = 64, /* keys that go by at a time */
  /* A block of many: ROWS rows of beams × query heads of a kv head, 32 a warp, every warp meets all keys. */
  ATTENTION_DECODE_ROWS = 128,
  ATTENTION_DECODE_BYTES = 2 * (128 + 2 * 2 * 64), /* shared, a column of D: queries, 2 stages of keys and values */
  /* A block of few, D 64 and 128: its warps share the rows and part the keys. */
  ATTENTION_DECODE_FEW_ROWS = 32,
  ATTENTION_DECODE_FEW_BYTES = 2 * (32 + 3 * 2 * 64), /* 3 stages */
  ATTENTION_DECODE_PARTS = 8 /* most parts */
};
#endif
