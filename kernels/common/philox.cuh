// Philox4x32-10 (Salmon et al., SC 2011): four 32-bit draws from a counter and a key. The same numbers
// as engine/src/cpu/random.rs gives, whose Stream is (key, name) and whose index is the counter's low half.
#pragma once
#include "prim.cuh"

PRIM uint4 philox(const uint32_t (&key)[2], const uint32_t (&name)[2], uint64_t index) {
  uint32_t c0 = uint32_t(index), c1 = uint32_t(index >> 32), c2 = name[0], c3 = name[1];
  uint32_t k0 = key[0], k1 = key[1];
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t(c0) * 0xD2511F53u, p1 = uint64_t(c2) * 0xCD9E8D57u;
    c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
    c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c1 = uint32_t(p1);
    c3 = uint32_t(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return make_uint4(c0, c1, c2, c3);
}
