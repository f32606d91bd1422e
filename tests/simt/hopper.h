// Hopper's primitives: mbarriers, the copy engine, wgmma, registers that change hands. A part of simt.cpp, whose fibers it
// moves, in a file of its own for its length.
#pragma once
namespace simt {
// ---- mbarrier: [0,20) pending arrivals, [20,40) arrivals per phase, 40 phase, [41,64) bytes still expected ---
namespace {
constexpr uint64_t kCount = (1 << 20) - 1;
int64_t mb_tx(uint64_t w) { return int64_t(w) >> 41; }
void mb_update(uint64_t* bar, int64_t arrivals, int64_t tx_delta) {
  uint64_t w = *bar;
  if (w == ~0ull) fail("mbarrier used before it was initialised");
  int64_t pending = int64_t(w & kCount) - arrivals, per = int64_t(w >> 20 & kCount), phase = int64_t(w >> 40 & 1);
  int64_t tx = mb_tx(w) + tx_delta;
  if (pending < 0) fail("mbarrier: more arrivals than its count of %ld", long(per));
  if (pending == 0 && tx == 0) {
    phase ^= 1, pending = per;
    for (auto& f : fibers) if (f.state == kBlocked && f.why == kMbar && f.bar == bar) f.state = kReady;
  }
  *bar = uint64_t(tx) << 41 | uint64_t(phase) << 40 | uint64_t(per) << 20 | uint64_t(pending);
}
}  // namespace
void mbar_init(uint64_t* bar, unsigned n) {
  if (reinterpret_cast<uintptr_t>(bar) % 8 || !n || n > kCount) fail("mbarrier.init");
  saw_write(bar, 8);
  *bar = uint64_t(n) << 20 | n;
}
void mbar_arrive(uint64_t* bar, unsigned tx) {
  saw_read(bar, 8);
  release(bar);
  Quiet q;
  mb_update(bar, 0, tx);
  mb_update(bar, 1, 0);
}
void mbar_wait(uint64_t* bar, unsigned parity) {
  saw_read(bar, 8);
  {
    Quiet q;
    if (*bar == ~0ull) fail("mbarrier used before it was initialised");
    while ((*bar >> 40 & 1) == (parity & 1)) me()->bar = bar, block(kMbar);
  }
  acquire(bar);
}

// ---- TMA ---------------------------------------------------------------------------------------------------
namespace {
constexpr uint64_t kMagic = 0x53494d54544d4150;
struct Packed { uint64_t magic; char* base; uint8_t elem, rank, swizzle, pad; uint16_t box[5]; uint32_t dim[5]; uint64_t stride[4]; };
static_assert(sizeof(Packed) <= 128);
uint32_t swizzled(uint32_t a, unsigned mode) { return a ^ ((a >> 7 & ((1u << mode) - 1)) << 4); }
}  // namespace
bool tensor_map_encode(CUtensorMap* out, unsigned elem, unsigned rank, void* base, const uint64_t* dims, const uint64_t* strides,
                       const uint32_t* box, Swizzle swizzle) {
  if (rank < 1 || rank > 5 || reinterpret_cast<uintptr_t>(base) % 16) return false;
  Packed p{kMagic, static_cast<char*>(base), uint8_t(elem), uint8_t(rank), uint8_t(swizzle), 0, {}, {}, {}};
  for (unsigned i = 0; i < rank; ++i) {
    if (!dims[i] || dims[i] > 1ull << 32 || !box[i] || box[i] > 256) return false;
    if (i && (strides[i - 1] % 16 || strides[i - 1] >= 1ull << 40)) return false;
    p.dim[i] = uint32_t(dims[i]), p.box[i] = uint16_t(box[i]);
    if (i) p.stride[i - 1] = strides[i - 1];
  }
  unsigned inner = box[0] * elem;
  if (inner % 16 || (swizzle && inner > 16u << swizzle)) return false;
  memset(out, 0, sizeof *out);
  memcpy(out, &p, sizeof p);
  return true;
}
namespace {
void run_tma(size_t i) {
  Quiet q;
  TmaOp op = tma_queue[i];
  tma_queue.erase(tma_queue.begin() + long(i));
  Packed p;
  memcpy(&p, &op.map, sizeof p);
  unsigned row = p.box[0] * p.elem, rows = 1;
  for (unsigned d = 1; d < p.rank; ++d) rows *= p.box[d];
  if (kTsan) {  // for the race detector the copy engine is a thread of its own
    void* back = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tma_tsan, 1);
    acquire(op.key);
    saw_write(op.dst, size_t(row) * rows);
    release(op.bar);
    __tsan_switch_to_fiber(back, 1);
  }
  uint32_t dst = shared_address(op.dst);
  for (unsigned r = 0; r < rows; ++r) {
    const char* src = p.base;
    bool inside = true;
    for (unsigned d = 1, rest = r; d < p.rank; rest /= p.box[d], ++d) {
      int64_t at = op.at[d] + int64_t(rest % p.box[d]);
      inside = inside && at >= 0 && at < int64_t(p.dim[d]);
      src += at * int64_t(p.stride[d - 1]);
    }
    for (unsigned e = 0; e < p.box[0]; ++e) {
      int64_t x = op.at[0] + int64_t(e);
      char* to = static_cast<char*>(shared_pointer(swizzled(dst + r * row + e * p.elem, p.swizzle)));
      if (inside && x >= 0 && x < int64_t(p.dim[0])) memcpy(to, src + x * p.elem, p.elem);
      else memset(to, 0, p.elem);
    }
  }
  delete op.key;
  mb_update(op.bar, 0, -int64_t(row) * rows);
}
}  // namespace
void tma_load(void* dst, const CUtensorMap* map, uint64_t* bar, const int32_t* at) {
  Quiet q;
  Packed p;
  memcpy(&p, map, sizeof p);
  if (p.magic != kMagic) fail("TMA: that is no tensor map");
  if (reinterpret_cast<uintptr_t>(map) % 64) fail("TMA: the tensor map is not 64-byte aligned");
  if (shared_address(dst) % 128) fail("TMA: shared destination is not 128-byte aligned");
  TmaOp op{dst, *map, bar, {}, new uint64_t(0)};
  for (unsigned d = 0; d < p.rank; ++d) op.at[d] = at[d];
  release(op.key);
  tma_queue.push_back(op);
  if (eager()) run_tma(tma_queue.size() - 1);
}

// ---- wgmma (bf16, fp32 accumulators, 128-byte swizzle) -------------------------------------------------------
namespace {
const uint16_t* operand_at(uint64_t desc, int mn, int k, bool mn_major) {
  uint32_t start = uint32_t(desc & 0x3fff) << 4, lbo = uint32_t(desc >> 16 & 0x3fff) << 4, sbo = uint32_t(desc >> 32 & 0x3fff) << 4;
  uint32_t off = mn_major ? uint32_t(mn / 64) * lbo + uint32_t(k / 8) * sbo + uint32_t(k % 8) * 128 + uint32_t(mn % 64) * 2
                          : uint32_t(mn / 8) * sbo + uint32_t(mn % 8) * 128 + uint32_t(k) * 2;
  return static_cast<uint16_t*>(shared_pointer(swizzled(start + off, kSwizzle128)));
}
float operand(uint64_t desc, int mn, int k, bool mn_major) { return bf(*operand_at(desc, mn, k, mn_major)); }
bool same(const WgOp& x, const WgOp& y) {
  return x.da == y.da && x.db == y.db && x.n == y.n && x.acc == y.acc && x.ta == y.ta && x.tb == y.tb && !x.a == !y.a;
}
void check_descriptor(uint64_t d) {
  if (d >> 62 != 1 || (d >> 49 & 7)) fail("wgmma: only 128-byte-swizzle descriptors with base offset 0 are emulated");
}
// The 16-byte pieces the tensor core reads of an operand; this is what a too early release of a stage races with.
void saw_operand(uint64_t desc, int mn, bool mn_major) {
  for (int k = 0; k < 16; k += mn_major ? 1 : 8)
    for (int i = 0; i < mn; i += mn_major ? 8 : 1) saw_read(operand_at(desc, i, k, mn_major), 16);
}
void run_wgmma(unsigned base, const WgOp& o, size_t idx) {
  if (!o.a) check_descriptor(o.da);
  check_descriptor(o.db);
  if (kTsan) {
    __tsan_ignore_thread_end();
    if (!o.a) saw_operand(o.da, 64, o.ta);
    saw_operand(o.db, o.n, o.tb);
    __tsan_ignore_thread_begin();
  }
  static float a[64][16], b[16][256], c[64][256];
  for (unsigned t = 0; t < 128; ++t) {
    const WgOp& w = fibers[base + t].wg[idx];
    if (!same(w, o)) fail("wgmma: thread %u of the warpgroup has other operands than thread 0", t);
    const unsigned row = t / 32 * 16 + t % 32 / 4, col = 2 * (t % 4);
    for (unsigned i = 0; o.a && i < 4; ++i)
      a[row + i % 2 * 8][col + i / 2 * 8] = lo(w.a[i]), a[row + i % 2 * 8][col + i / 2 * 8 + 1] = hi(w.a[i]);
    for (int i = 0; i < o.n / 2; ++i) c[row + i / 2 % 2 * 8][col + i / 4 * 8 + i % 2] = o.acc ? w.d[i] : 0.f;
  }
  for (int k = 0; k < 16; ++k) {
    for (int m = 0; !o.a && m < 64; ++m) a[m][k] = operand(o.da, m, k, o.ta);
    for (int n = 0; n < o.n; ++n) b[k][n] = operand(o.db, n, k, o.tb);
  }
  for (int m = 0; m < 64; ++m)
    for (int k = 0; k < 16; ++k)
      for (int n = 0; n < o.n; ++n) c[m][n] += a[m][k] * b[k][n];
  for (unsigned t = 0; t < 128; ++t) {
    const WgOp& w = fibers[base + t].wg[idx];
    const unsigned row = t / 32 * 16 + t % 32 / 4, col = 2 * (t % 4);
    for (int i = 0; i < o.n / 2; ++i) w.d[i] = c[row + i / 2 % 2 * 8][col + i / 4 * 8 + i % 2];
  }
}
}  // namespace
void wgmma_fence() { me()->wg_fenced = true; }
void wgmma_issue(float* d, int n, const uint32_t* a, uint64_t da, uint64_t db, bool acc, bool ta, bool tb) {
  {
    Quiet q;
    if (nthreads - me()->linear / 128 * 128 < 128) fail("wgmma: the warpgroup is not whole");
    if (!me()->wg_fenced) fail("wgmma: no wgmma.fence before the first instruction of a group");
    me()->wg.push_back({d, n, a, da, db, acc, ta, tb, me()->wg_group});
  }
  if (async == kEager) wgmma_commit(), wgmma_wait(0), --me()->wg_group, wgmma_fence();
}
void wgmma_commit() { ++me()->wg_group, me()->wg_fenced = false; }
void wgmma_wait(unsigned keep) {
  Quiet q;
  Fiber* f = me();
  unsigned g = f->linear / 128, base = g * 128;
  if (++wg_arrived[g] < 128) return f->bar = reinterpret_cast<uint64_t*>(uintptr_t(g)), block(kWgmma);
  wg_arrived[g] = 0;
  size_t n = 0;
  for (; n < f->wg.size() && f->wg[n].group + keep < f->wg_group; ++n) run_wgmma(base, fibers[base].wg[n], n);
  for (unsigned t = 0; t < 128; ++t) {
    auto& v = fibers[base + t].wg;
    if (v.size() < n) fail("wgmma: thread %u of the warpgroup issued fewer instructions", t);
    v.erase(v.begin(), v.begin() + long(n));
    if (base + t != f->linear) fibers[base + t].state = kReady;
  }
}

// ---- setmaxnreg: what it may be told; the hardware waits until there are as many -----------------------------
namespace {
void check_registers() {
  unsigned total = 0;
  for (size_t w = 0; w < warp_registers.size(); ++w) {
    if (warp_registers[w] != warp_registers[w / 4 * 4]) fail("setmaxnreg: warp %zu has other registers than its warpgroup", w);
    total += 32 * warp_registers[w];
  }
  if (total > 65536) fail("setmaxnreg: %u registers in all; the processor has 65536", total);
}
}  // namespace
void setmaxnreg(unsigned n) {
  if (n % 8 || n < 24 || n > 256) fail("setmaxnreg %u: multiples of 8 from 24 to 256", n);
  warp_collective("setmaxnreg", ~0u, &n, [](void* args[32], unsigned m) {
    if (m != ~0u) fail("setmaxnreg: only lanes %08x take part", m);
    warp_registers[me()->warp] = *static_cast<unsigned*>(args[0]);
  });
}

// ---- bulk copies from shared to global memory: read at issue (eager) or not before the wait (late) -------------
namespace {
void run_bulk(const BulkOp& o) {
  saw_read(o.from, o.bytes);
  for (unsigned i = 0; i < o.bytes / 4; ++i) o.to[i] += o.from[i];
}
}  // namespace
void bulk_reduce_add(float* to, const float* from, unsigned bytes) {
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) | bytes) % 16) fail("bulk copy of %u bytes %p -> %p is misaligned", bytes, static_cast<const void*>(from), static_cast<void*>(to));
  shared_address(from);
  Fiber* f = me();
  const BulkOp o{to, from, bytes, f->bulk_group};
  if (eager()) return run_bulk(o);
  Quiet q;
  f->bulk.push_back(o);
}
void bulk_commit() { ++me()->bulk_group; }
void bulk_wait_read(unsigned keep) {
  Fiber* f = me();
  size_t n = 0;
  while (n < f->bulk.size() && f->bulk[n].group + keep < f->bulk_group) run_bulk(f->bulk[n++]);
  Quiet q;
  f->bulk.erase(f->bulk.begin(), f->bulk.begin() + long(n));
}
}  // namespace simt
