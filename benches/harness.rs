//! A case and how it is timed. Other programs disturb wall time but hardly CPU time, so both are
//! taken: the best wall time of many samples, and the least CPU time a call (all threads together).

use engine::cpu::simd::{self, Kernel, Simd};
use engine::ops::Work;
use rustix::time::ClockId;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Runs the operator once.
pub type Call = Box<dyn FnMut() + Send>;

/// Lines about a case that has been timed; it may run the operator again.
pub type Remarks = Box<dyn FnOnce(&mut Call) -> Vec<String> + Send>;

/// One thing to time.
pub struct Case {
    /// `family/shape`, what the command line filters by.
    pub name: String,
    /// What the operator must at least do.
    pub work: Work,
    /// Makes inputs, checks one result, returns the call that is timed.
    pub prepare: Box<dyn FnOnce() -> Result<Call, String> + Send>,
    /// What is to say besides the times.
    pub remarks: Option<Remarks>,
}

impl Case {
    /// A case; see the module list's head for what `prepare` does.
    pub fn new(
        name: impl Into<String>,
        work: Work,
        prepare: impl FnOnce() -> Result<Call, String> + Send + 'static,
    ) -> Self {
        Case { name: name.into(), work, prepare: Box::new(prepare), remarks: None }
    }

    /// The same with lines that are printed below its times.
    pub fn remarks(mut self, f: impl FnOnce(&mut Call) -> Vec<String> + Send + 'static) -> Self {
        self.remarks = Some(Box::new(f));
        self
    }
}

/// Seconds of one call.
#[derive(Clone, Copy)]
pub struct Timing {
    pub best: f64,
    pub median: f64,
    pub cpu: f64,
}

fn clock(id: ClockId) -> Duration {
    let t = rustix::time::clock_gettime(id);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// CPU time of this process, all threads. Of another thread's last milliseconds some may be missing.
pub fn cpu_time() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// Samples of at least 2 ms (several calls where one is shorter) until `seconds` have passed: five at
/// least, two of calls that take seconds.
pub fn measure(seconds: f64, call: &mut Call) -> Timing {
    let first = Instant::now();
    call();
    let one = first.elapsed().as_secs_f64();
    let calls = (0.002 / one.max(1e-7)).ceil().clamp(1.0, 1e5) as usize;
    let least = if one > 2.0 { 2 } else { 5 };
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while wall.len() < least || start.elapsed().as_secs_f64() < seconds {
        let (w, c) = (Instant::now(), cpu_time());
        (0..calls).for_each(|_| call());
        wall.push(w.elapsed().as_secs_f64() / calls as f64);
        cpu.push((cpu_time() - c).as_secs_f64() / calls as f64);
    }
    wall.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    let middle = wall.len() / 2;
    Timing { best: wall[0], median: wall[middle], cpu: cpu[middle] }
}

/// Twelve chains of FMAs that depend on nothing but themselves: enough for two units of latency 4.
struct Chains(usize);

impl Kernel for Chains {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (x, y) = (s.splat(black_box(0.5)), s.splat(black_box(1.0)));
        let mut sum = [s.splat(0.0); 12];
        for _ in 0..self.0 {
            for v in &mut sum {
                *v = s.fma(*v, x, y);
            }
        }
        sum.iter().fold(0.0, |all, &v| all + s.sum(v))
    }
}

/// The f32 FMA peak, FLOP/s: the pool's threads run at once, each by its own CPU clock, so that
/// other programs hardly disturb it; their sum, best of eight rounds of about 5 ms.
pub fn peak() -> f64 {
    const LOOPS: usize = 1_000_000;
    let lanes = match simd::level() {
        simd::Level::Avx512 => 16,
        simd::Level::Neon => 4,
        simd::Level::Avx2 | simd::Level::Portable => 8,
    };
    let flops = (LOOPS * 12 * 2 * lanes) as f64;
    let round = || -> f64 {
        let rates = rayon::broadcast(|_| {
            let start = clock(ClockId::ThreadCPUTime);
            black_box(simd::run(Chains(LOOPS)));
            flops / (clock(ClockId::ThreadCPUTime) - start).as_secs_f64()
        });
        rates.iter().sum()
    };
    (0..8).map(|_| round()).fold(0.0, f64::max)
}

/// What is printed.
pub struct Figures {
    work: Work,
    timing: Timing,
    peak: f64,
    threads: usize,
}

impl Figures {
    pub const HEADER: &str = "case                                 ms     median     cpu ms   GFLOP/s     GB/s  of peak  by cpu time";
    pub const CSV_HEADER: &str =
        "case,threads,simd,best_ms,median_ms,cpu_ms,gflops,gbytes_s,share,share_cpu,peak_gflops";

    pub fn new(work: Work, timing: Timing, peak: f64, threads: usize) -> Self {
        Figures { work, timing, peak, threads }
    }

    fn rate(&self) -> f64 {
        self.work.flops as f64 / self.timing.best
    }

    fn bandwidth(&self) -> f64 {
        self.work.bytes as f64 / self.timing.best / 1e9
    }

    fn share(&self) -> f64 {
        self.rate() / self.peak
    }

    fn share_cpu(&self) -> f64 {
        self.work.flops as f64 / self.timing.cpu / (self.peak / self.threads as f64)
    }

    pub fn row(&self, name: &str) -> String {
        let t = self.timing;
        format!(
            "{name:<30} {:>10.4} {:>10.4} {:>10.4} {:>9.1} {:>8.1} {:>7.1}% {:>11.1}%",
            t.best * 1e3,
            t.median * 1e3,
            t.cpu * 1e3,
            self.rate() / 1e9,
            self.bandwidth(),
            self.share() * 100.0,
            self.share_cpu() * 100.0,
        )
    }

    pub fn csv(&self, name: &str) -> String {
        let t = self.timing;
        format!(
            "{name},{},{:?},{:.4},{:.4},{:.4},{:.1},{:.1},{:.3},{:.3},{:.1}",
            self.threads,
            simd::level(),
            t.best * 1e3,
            t.median * 1e3,
            t.cpu * 1e3,
            self.rate() / 1e9,
            self.bandwidth(),
            self.share(),
            self.share_cpu(),
            self.peak / 1e9,
        )
    }

    pub fn json(&self, name: &str, remarks: &[String]) -> String {
        let t = self.timing;
        serde_json::json!({
            "case": name,
            "threads": self.threads,
            "simd": format!("{:?}", simd::level()),
            "best_ms": t.best * 1e3,
            "median_ms": t.median * 1e3,
            "cpu_ms": t.cpu * 1e3,
            "gflops": self.rate() / 1e9,
            "gbytes_s": self.bandwidth(),
            "share": self.share(),
            "share_cpu": self.share_cpu(),
            "peak_gflops": self.peak / 1e9,
            "remarks": remarks,
        })
        .to_string()
    }
}
