/* trie_softmax: what the kernels of trie_softmax.cu and their launcher agree on.
   logits [B·R, V] f32 · score [B·R] f32, −∞ = dead beam · node [B·R] u32 · row_ptr [N + 1] u32 and
   code [E] u16: the level's children as CSR, edge e leads to node e of the next level ·
   peak, log_z [B·R] f32 · out_* [B, W] · count [B]
   loss: logits [R, V] f32 · loss [R] f32 · node, label [R] u32 · start [R + 1] u32 · soft_code u32 and
   soft_weight f32 [entries]
   follow: parent, code [B, W] · token, row [B·W] u32
   path: row, position [R] · length [R / beams] · before [·, steps] · after [R, steps + 1], u32 */
#ifndef SIDRA_TRIE_SOFTMAX_H
#define SIDRA_TRIE_SOFTMAX_H
#include <stdint.h>

typedef struct TrieSoftmaxParams {
  uint32_t requests;   /* B */
  uint32_t rows;       /* R, beams in, at most 65,536 */
  uint32_t width;      /* W, beams out, at most TRIE_SOFTMAX_WIDTH */
  uint32_t vocab;      /* V */
  uint32_t token_base; /* token of code 0 */
  uint32_t codes;      /* K: codewords of the level */
  uint32_t nodes;      /* N: nodes of the level */
  uint32_t normalise;  /* TRIE_SOFTMAX_ALLOWED … */
} TrieSoftmaxParams;

typedef struct TrieSoftmaxLossParams {
  uint32_t rows;       /* R */
  uint32_t vocab;      /* V */
  uint32_t token_base; /* token of code 0 */
  uint32_t codes;      /* K: codewords of the level */
  uint32_t nodes;      /* N: nodes of the level */
  uint32_t entries;    /* of all rows' teachers together; 0 without one */
  float smoothing;     /* s: weight of the uniform distribution over the allowed codes */
  float scale;         /* what the gradient is multiplied with */
} TrieSoftmaxLossParams;

typedef struct TrieSoftmaxFollowParams {
  uint32_t places;     /* B·W */
  uint32_t width;      /* W */
  uint32_t rows;       /* beams in, per request */
  uint32_t token_base; /* token of code 0 */
} TrieSoftmaxFollowParams;

typedef struct TrieSoftmaxPathParams {
  uint32_t rows;   /* R */
  uint32_t beams;  /* rows of a request */
  uint32_t steps;  /* of the path before */
  uint32_t parents; /* rows of the path before */
} TrieSoftmaxPathParams;

enum TrieSoftmaxConstants {
  TRIE_SOFTMAX_ALLOWED = 0,    /* over the node's children */
  TRIE_SOFTMAX_LEVEL = 1,      /* over the level's codewords */
  TRIE_SOFTMAX_VOCABULARY = 2, /* over all V logits */
  TRIE_SOFTMAX_WARPS = 4,      /* warps that share a row's log Σ exp */
  TRIE_SOFTMAX_SELECT = 8,     /* warps that share a request's selection */
  TRIE_SOFTMAX_WIDTH = 1024,   /* most beams out: their keys are sorted in shared memory */
  TRIE_SOFTMAX_ROWS = 4,       /* rows of the loss a block, a warp each */
  TRIE_SOFTMAX_THREADS = 256   /* follow, path: a thread a place */
};
#endif
