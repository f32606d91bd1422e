/* attention_decode: what the kernels of attention_decode.cu and their launcher agree on.
   q, o [B·W, H·D] · prompt_k, prompt_v [S, Hkv·D] · suffix_k, suffix_v [at least steps, B·W, Hkv·D] bf16 ·
   path [B·W, steps] u32 · bounds [B + 2] u32: B + 1 offsets of prompts, then the steps taken so far ·
   partial [parts, B·W·H, D], measure [parts, B·W·H, 2] f32: scratch where parts > 1 */
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
  uint32_t parts;    /* blocks that share the keys of a tile of rows; 1: no merge */
  float scale;       /* factor of the scores, above 0 */
} AttentionDecodeParams;

enum AttentionDecodeTiles {
  ATTENTION_DECODE_ROWS = 128,   /* beams × query heads of a kv head, a block */
  ATTENTION_DECODE_COLUMNS = 64, /* keys that go by at a time, twice */
  ATTENTION_DECODE_WARPS = 4,
  ATTENTION_DECODE_MERGE = 256,  /* threads of a block that merges parts, 4 columns each */
  ATTENTION_DECODE_PARTS = 8,    /* most parts */
  ATTENTION_DECODE_BLOCKS = 128, /* a grid with fewer is split, while a part keeps two tiles of keys */
  ATTENTION_DECODE_BYTES = 2 * (ATTENTION_DECODE_ROWS + 4 * ATTENTION_DECODE_COLUMNS) /* shared, a column of D */
};
#endif
