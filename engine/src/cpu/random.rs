//! Philox4x32-10 (Salmon et al., SC 2011): a counter-based generator. A draw is a pure function of
//! (seed, stream, index), so any thread, any batch split and the CUDA kernels get the same numbers.

/// One named stream of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
    stream: u64,
}

impl Stream {
    /// The stream `stream` of the run's seed. Streams of one seed are independent of each other.
    pub fn new(seed: u64, stream: u64) -> Self {
        Stream { key: [seed as u32, (seed >> 32) as u32], stream }
    }

    /// Key, then name of the stream, low words first: what a kernel needs to draw from it.
    pub fn words(&self) -> [u32; 4] {
        [self.key[0], self.key[1], self.stream as u32, (self.stream >> 32) as u32]
    }

    /// The stream with these [`Stream::words`].
    pub fn from_words([a, b, low, high]: [u32; 4]) -> Self {
        Stream { key: [a, b], stream: u64::from(high) << 32 | u64::from(low) }
    }

    /// Four 32-bit draws at counter `index`.
    #[inline]
    pub fn block(&self, index: u64) -> [u32; 4] {
        let mut c =
            [index as u32, (index >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        let mut k = self.key;
        for _ in 0..10 {
            let p0 = u64::from(c[0]) * 0xD251_1F53;
            let p1 = u64::from(c[2]) * 0xCD9E_8D57;
            c = [
                (p1 >> 32) as u32 ^ c[1] ^ k[0],
                p1 as u32,
                (p0 >> 32) as u32 ^ c[3] ^ k[1],
                p0 as u32,
            ];
            k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
        }
        c
    }

    /// Sixteen consecutive blocks: `[d][b]` is draw `d` of block `index + b`. Word by word over the
    /// blocks, so that inside a `simd::Kernel` the compiler makes vectors of it.
    #[inline(always)]
    pub fn blocks16(&self, index: u64) -> [[u32; 16]; 4] {
        let mut c = [[0u32; 16]; 4];
        for b in 0..16 {
            let i = index.wrapping_add(b as u64);
            c[0][b] = i as u32;
            c[1][b] = (i >> 32) as u32;
            c[2][b] = self.stream as u32;
            c[3][b] = (self.stream >> 32) as u32;
        }
        let mut k = self.key;
        for _ in 0..10 {
            for b in 0..16 {
                let p0 = u64::from(c[0][b]) * 0xD251_1F53;
                let p1 = u64::from(c[2][b]) * 0xCD9E_8D57;
                c[0][b] = (p1 >> 32) as u32 ^ c[1][b] ^ k[0];
                c[1][b] = p1 as u32;
                c[2][b] = (p0 >> 32) as u32 ^ c[3][b] ^ k[1];
                c[3][b] = p0 as u32;
            }
            k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
        }
        c
    }

    /// The draw with number `index` (four to a block).
    #[inline]
    pub fn u32_at(&self, index: u64) -> u32 {
        self.block(index >> 2)[(index & 3) as usize]
    }

    /// Uniform in [0, 1) with 24 bits.
    #[inline]
    pub fn uniform_at(&self, index: u64) -> f32 {
        (self.u32_at(index) >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// A sequential reader from counter 0.
    pub fn reader(self) -> Reader {
        Reader { stream: self, next: 0 }
    }
}

/// Draws one after another from a [`Stream`].
#[derive(Debug, Clone)]
pub struct Reader {
    stream: Stream,
    next: u64,
}

impl Reader {
    /// The next 32 bits.
    pub fn u32(&mut self) -> u32 {
        self.next += 1;
        self.stream.u32_at(self.next - 1)
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn f64(&mut self) -> f64 {
        let (hi, lo) = (u64::from(self.u32()), u64::from(self.u32()));
        ((hi << 32 | lo) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [0, 1) with 24 bits.
    pub fn f32(&mut self) -> f32 {
        (self.u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [0, n). Multiply-shift: the bias is below n / 2⁶⁴.
    ///
    /// # Panics
    /// If `n` is zero.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "an index below zero was asked for");
        let (hi, lo) = (u64::from(self.u32()), u64::from(self.u32()));
        ((u128::from(hi << 32 | lo) * n as u128) >> 64) as usize
    }

    /// Standard normal (Box–Muller).
    pub fn normal(&mut self) -> f32 {
        let u = 1.0 - self.f64();
        let v = self.f64();
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    }

    /// Fisher–Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_blocks_are_sixteen_blocks() {
        let stream = Stream::new(7, 9 << 33);
        for first in [0, 3, u64::from(u32::MAX) - 5] {
            let many = stream.blocks16(first);
            for b in 0..16 {
                let one = stream.block(first + b as u64);
                assert_eq!([many[0][b], many[1][b], many[2][b], many[3][b]], one);
            }
        }
    }

    /// Known answers of Random123 (kat_vectors, philox4x32 10 rounds).
    #[test]
    fn random123_vectors() {
        assert_eq!(
            Stream::new(0, 0).block(0),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            Stream::new(u64::MAX, u64::MAX).block(u64::MAX),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }
}
