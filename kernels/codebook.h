/* codebook: what the kernels of codebook.cu and their launcher agree on.
   x [N, D] f32 · centres [K, D] f32 · codes [N] u32 · distance [N] f32 · counts [K] u32 */
#ifndef SIDRA_CODEBOOK_H
#define SIDRA_CODEBOOK_H
#include <stdint.h>

typedef struct CodebookParams {
  uint32_t points; /* N */
  uint32_t width;  /* D */
  uint32_t codes;  /* K */
} CodebookParams;

enum CodebookTiles {
  CODEBOOK_TILE = 64,     /* points, and codewords, that a block holds at a time */
  CODEBOOK_DEPTH = 16,    /* coordinates that it holds of them */
  CODEBOOK_SIDE = 16,     /* a block is SIDE × SIDE threads, 4 × 4 pairs each */
  CODEBOOK_COLUMNS = 128  /* update: coordinates, and points looked at together, of a block */
};
#endif
