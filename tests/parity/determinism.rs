//! The same bits for any number of threads, and for a row whatever rows stand beside it.

mod batch;
mod threads;

use engine::ops::attention_decode::{self, Spec};
use engine::testing::{below, normal, poison};
use engine::{DType, Tensor};

fn bits(x: &Tensor) -> Vec<u32> {
    match x.dtype() {
        DType::U32 => x.u32().unwrap().to_vec(),
        _ => x.f32().unwrap().iter().map(|x| x.to_bits()).collect(),
    }
}

fn values(seed: u64, n: usize) -> Tensor {
    Tensor::from_f32(&[n], normal(seed, n, 1.0))
}

fn poisoned(n: usize) -> Tensor {
    Tensor::from_f32(&[n], poison(n))
}

/// Rows `from..to` of `x`.
fn rows(x: &Tensor, width: usize, from: usize, to: usize) -> Tensor {
    let part = x.f32().unwrap()[from * width..to * width].to_vec();
    Tensor::from_f32(&[part.len()], part)
}

/// A step of a beam search over several requests, of which a stretch can be computed on its own.
struct BeamSearch {
    /// Where the requests' prompts start and end.
    prompt: Vec<u32>,
}

impl BeamSearch {
    const BEAMS: usize = 7;
    const STEPS: usize = 3;
    const C: usize = 96;
    const CKV: usize = 48;

    fn new(lengths: &[u32]) -> Self {
        let mut prompt = vec![0];
        for length in lengths {
            prompt.push(prompt[prompt.len() - 1] + length);
        }
        BeamSearch { prompt }
    }

    /// Output of the requests `from..to`, `[(to − from)·W, C]`.
    fn attend(&self, from: usize, to: usize) -> Tensor {
        let (w, steps, ckv) = (Self::BEAMS, Self::STEPS, Self::CKV);
        let all = (self.prompt.len() - 1) * w;
        let (first, last) = (from * w, to * w);
        let keys = self.prompt[self.prompt.len() - 1] as usize;
        let start = self.prompt[from];
        let prompt: Vec<u32> = self.prompt[from..=to].iter().map(|p| p - start).collect();
        let cache =
            |seed| rows(&values(seed, keys * ckv), ckv, start as usize, self.prompt[to] as usize);
        let suffix = |seed| {
            let slab = |t: u64| rows(&values(seed + t, all * ckv), ckv, first, last);
            let slabs: Vec<f32> =
                (0..steps as u64).flat_map(|t| slab(t).f32().unwrap().to_vec()).collect();
            Tensor::from_f32(&[steps, (last - first) * ckv], slabs)
        };
        // Ancestors of a row lie among the rows of its own request.
        let path: Vec<u32> = below(5, all * steps, w)[first * steps..last * steps]
            .iter()
            .enumerate()
            .map(|(i, &beam)| (i / (w * steps) * w) as u32 + beam)
            .collect();
        let spec = Spec { heads: 4, kv_heads: 2, head_dim: 24, scale: 0.2, beams: w, steps };
        let q = rows(&values(4, all * Self::C), Self::C, first, last);
        let path = Tensor::from_u32(&[path.len()], path);
        let mut o = poisoned(q.len());
        attention_decode::forward(
            &spec,
            &prompt.into(),
            &q,
            &cache(1),
            &cache(2),
            &suffix(10),
            &suffix(20),
            &path,
            &mut o,
        )
        .unwrap();
        o
    }
}
