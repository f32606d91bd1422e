/* adamw: what the kernels of adamw.cu and their launcher agree on. Works on a table of tensors, of which
   each block takes a piece: table [tensors, ADAMW_ENTRY] u64, piece [pieces, 2] u32 (a tensor, which piece) */
#ifndef SIDRA_ADAMW_H
#define SIDRA_ADAMW_H
#include <stdint.h>

typedef struct AdamwParams {
  double beta1;        /* decay of the first moment */
  double beta2;        /* decay of the second moment */
  double weight_decay; /* times the rate, of weights that decay */
  double clip;         /* gradients are scaled down to this global norm; 0 leaves them */
  double eps;          /* added to the root of the second moment */
} AdamwParams;

/* What varies from step to step and the host knows. */
typedef struct AdamwPace {
  float rate;       /* learning rate */
  float grad_scale; /* what gradients are multiplied with before everything else */
} AdamwPace;

/* What the step needs of its number, pace and norm, and what is told of it, as adamw_prepare leaves it on the
   device. */
typedef struct AdamwFactors {
  double norm;       /* global norm of the gradients, times grad_scale of AdamwPace */
  double loss;       /* sum of the losses that they are of */
  uint64_t steps;    /* taken so far: t of the last one */
  uint64_t skipped;  /* left out so far */
  float grad_scale;  /* with what clipping asks for */
  float rate;        /* lr / (1 - beta1^t) */
  float root;        /* 1 / sqrt(1 - beta2^t) */
  float keep;        /* 1 - lr * weight_decay */
  uint32_t live;     /* 0: norm or loss is not finite, and the step changes nothing */
  uint32_t unused;
} AdamwFactors;

enum AdamwTiles {
  ADAMW_THREADS = 256, /* of a block */
  ADAMW_PIECE = 8192,  /* elements of one tensor that a block updates */
  ADAMW_ENTRY = 7      /* words of a tensor: addresses of w, g, m, v and of the bf16 copy of w (0: none),
                          its length, 1 where its weights decay */
};
#endif
