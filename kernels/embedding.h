/* embedding: what the kernels of embedding.cu and their launcher agree on.
   table, dtable [V, C] · id [T] u32 · y, dy [T, C] · order: key, place [T] u32 each, sorted by id */
#ifndef SIDRA_EMBEDDING_H
#define SIDRA_EMBEDDING_H
#include <stdint.h>

typedef struct EmbeddingParams {
  uint32_t tokens; /* T */
  uint32_t vocab;  /* V */
  uint32_t width;  /* C */
  uint32_t shift;  /* sort: the pass orders by the 8 bits of the id from here on */
} EmbeddingParams;

enum EmbeddingTiles {
  EMBEDDING_THREADS = 256,  /* of a block of the gather and of the sums: a warp a row, or a piece of one */
  EMBEDDING_COLUMNS = 256,  /* columns of a warp of the sums, 8 a lane */
  EMBEDDING_PIECE = 64,     /* terms of one id that a warp adds; part of the result's bits */
  EMBEDDING_SORT = 1024,    /* ids of a block of the sort, one a thread */
  EMBEDDING_DIGITS = 256    /* values of 8 bits */
};
#endif
