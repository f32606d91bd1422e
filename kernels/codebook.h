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

/* update: what its kernels share besides */
typedef struct CodebookUpdateParams {
  uint32_t points; /* N */
  uint32_t width;  /* D */
  uint32_t codes;  /* K */
  uint32_t chunk;  /* points that one warp counts and places, a multiple of 32 */
  uint32_t chunks; /* ceil(N / chunk) */
} CodebookUpdateParams;

enum CodebookTiles {
  CODEBOOK_TILE = 64,     /* points, and codewords, that a block holds at a time */
  CODEBOOK_DEPTH = 16,    /* coordinates that it holds of them */
  CODEBOOK_SIDE = 16,     /* a block is SIDE × SIDE threads, 4 × 4 pairs each */
  CODEBOOK_COLUMNS = 128, /* update: coordinates, and members read together, of a block */
  CODEBOOK_WARPS = 4,     /* update: chunks a block */
  CODEBOOK_CHUNK = 1024,  /* update: points a chunk, where the table of counts allows it */
  CODEBOOK_PIECE = 4096   /* update: points of one codeword that one block sums */
};
#endif
