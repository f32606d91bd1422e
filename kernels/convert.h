/* convert: what the kernels of convert.cu and their launcher agree on. x [n], y from element `at` on */
#ifndef SIDRA_CONVERT_H
#define SIDRA_CONVERT_H
#include <stdint.h>

typedef struct ConvertParams {
  uint64_t at;  /* the element of y that takes x[0] */
  uint64_t len; /* n: may pass 2^32 */
} ConvertParams;

enum ConvertTiles {
  CONVERT_THREADS = 256 /* of a block, 8 elements each */
};
#endif
